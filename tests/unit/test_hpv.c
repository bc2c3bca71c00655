/* SPDX-License-Identifier: Apache-2.0 */
/* One HyParView node, event by event: joining, walks, shuffles, ages, leaving. */
#include "unit/hpv_side.h"

/* --- making one ----------------------------------------------------------------- */

static void hpv_new_refuses_bad_values(void **state)
{
    struct bp_hpv_config good;
    struct bp_hpv_config c;
    struct t_heap heap;
    (void)state;

    bp_hpv_config_default(&good);
    good.self = SELF;
#define BAD(change)                                                                                \
    do {                                                                                           \
        c = good;                                                                                  \
        c.change;                                                                                  \
        assert_int_equal(bp_hpv_new(&h, &c, bp_mem_libc(), 0), BP_E_INVALID);                      \
        assert_null(h);                                                                            \
    } while (0)
    BAD(self = 0);
    BAD(active_size = 0);
    BAD(active_size = BP_HPV_ACTIVE_MAX + 1);
    BAD(passive_size = 0);
    BAD(passive_size = BP_HPV_PASSIVE_MAX + 1);
    BAD(arwl = 0);
    BAD(arwl = BP_HPV_TTL_MAX + 1);
    BAD(prwl = good.arwl + 1);
    BAD(shuffle_length = 0);
    BAD(shuffle_length = BP_HPV_SHUFFLE_MAX + 1);
    BAD(max_fail_count = 0);
    BAD(shuffle_period = 0);
    BAD(pending_timeout = BP_TIME_NEVER);
    BAD(swap_period = 1);
    BAD(n_contacts = BP_HPV_CONTACTS + 1);
#undef BAD
    t_heap_init(&heap, 0);
    assert_int_equal(bp_hpv_new(&h, &good, &heap.mem, 0), BP_E_NOMEM);
    t_heap_init(&heap, -1);
    assert_int_equal(bp_hpv_new(&h, &good, &heap.mem, 0), 0);
    bp_hpv_del(h);
    h = NULL;
    bp_hpv_del(NULL);
    assert_int_equal(heap.live, 0);
}

static void hpv_step_refuses_what_is_malformed(void **state)
{
    struct bp_hpv_msg msg = {.kind = BP_HPV_N_KINDS};
    (void)state;

    open_node(5);
    assert_int_equal(recv_msg(2, &msg), BP_E_INVALID);
    assert_int_equal(recv_msg(2, NULL), BP_E_INVALID);
    msg.kind = BP_HPV_SHUFFLE;
    assert_int_equal(recv_msg(2, &msg), BP_E_INVALID); /* of nobody */
    msg.peer = 3;
    msg.n_peers = BP_HPV_SHUFFLE_MAX + 1;
    assert_int_equal(recv_msg(2, &msg), BP_E_INVALID);
    msg.n_peers = 0;
    assert_int_equal(recv_msg(SELF, &msg), BP_E_INVALID);
    assert_int_equal(recv_msg(0, &msg), BP_E_INVALID);
    assert_int_equal(event(BP_HPV_DO_JOIN, SELF), BP_E_INVALID);
    assert_int_equal(event((enum bp_hpv_event_kind)99, 2), BP_E_INVALID);
    assert_int_equal(bp_hpv_stats(h)->dropped_invalid, 8);
    assert_int_equal(out.n, 0);
    assert_int_equal(h->passive.n, 0);
}

/* --- joining ----------------------------------------------------------------------- */

static void hpv_join_connects_then_joins(void **state)
{
    (void)state;

    open_node(5);
    assert_int_equal(event(BP_HPV_DO_JOIN, 2), 0);
    assert_int_equal(out.n, 1);
    assert_non_null(effect(BP_HPV_CONNECT, 2));
    assert_false(bp_hpv_is_active(h, 2));
    assert_int_equal(event(BP_HPV_CONNECTED, 2), 0);
    assert_non_null(sent(BP_HPV_JOIN, 2));
    assert_non_null(effect(BP_HPV_PEER_UP, 2));
    assert_non_null(effect(BP_HPV_JOINED, 0));
    assert_true(bp_hpv_is_active(h, 2));
    assert_int_equal(event(BP_HPV_CONNECTED, 2), 0);
    assert_int_equal(out.n, 0);
}

static void hpv_join_that_fails_is_told(void **state)
{
    (void)state;

    open_node(5);
    assert_int_equal(event(BP_HPV_DO_JOIN, 2), 0);
    assert_int_equal(event(BP_HPV_CONNECT_FAILED, 2), 0);
    assert_int_equal(the_effect(BP_HPV_PEER_DOWN, 2)->reason, BP_HPV_CONNECT_FAILED_REASON);
    assert_int_equal(h->n_attempts, 0);
    assert_false(bp_hpv_refers(h, 2));
}

static void hpv_contacts_are_asked_until_there_is_a_link(void **state)
{
    struct bp_hpv_config c;
    unsigned asked = 0;
    (void)state;

    bp_hpv_config_default(&c);
    c.self = SELF;
    c.n_contacts = 3;
    c.contacts[0] = 7;
    c.contacts[1] = SELF;
    c.contacts[2] = 8;
    now = BP_SEC;
    assert_int_equal(bp_hpv_new(&h, &c, bp_mem_libc(), now), 0);
    assert_true(bp_hpv_deadline(h) <= 2 * BP_SEC);
    while (asked != 3) {
        tick_at_deadline();
        if (effect(BP_HPV_CONNECT, 7) != NULL) {
            asked |= 1;
            assert_int_equal(event(BP_HPV_CONNECT_FAILED, 7), 0);
        }
        if (effect(BP_HPV_CONNECT, 8) != NULL) {
            asked |= 2;
            assert_int_equal(event(BP_HPV_CONNECT_FAILED, 8), 0);
        }
        assert_null(effect(BP_HPV_CONNECT, SELF));
        assert_true(now < 60 * BP_SEC);
    }
    link_to(2, 2);
    for (int i = 0; i < 20; i++) {
        tick_at_deadline();
        assert_null(effect(BP_HPV_CONNECT, 7));
        assert_null(effect(BP_HPV_CONNECT, 8));
    }
}

static void hpv_join_of_newcomer_walks_on_all_links(void **state)
{
    (void)state;

    open_node(5);
    link_to(2, 6);
    recv_kind(7, BP_HPV_JOIN);
    assert_true(bp_hpv_is_active(h, 7));
    assert_int_equal(h->active.n, 5);
    assert_int_equal(n_sent(BP_HPV_DISCONNECT), 1); /* one made room */
    assert_int_equal(the_effect(BP_HPV_PEER_DOWN, 0)->reason, BP_HPV_DROPPED);
    assert_true(is_passive(the_effect(BP_HPV_PEER_DOWN, 0)->peer));
    assert_int_equal(n_sent(BP_HPV_FORWARD_JOIN), 4);
    assert_int_equal(the_sent(BP_HPV_FORWARD_JOIN, 0)->ttl, 6);
    assert_int_equal(the_sent(BP_HPV_FORWARD_JOIN, 0)->peer, 7);
    assert_null(sent(BP_HPV_FORWARD_JOIN, 7));
}

static void hpv_join_flood_is_limited(void **state)
{
    unsigned forwards = 0;
    (void)state;

    open_node(5);
    link_to(2, 6);
    for (bp_peer p = 100; p < 1100; p++) {
        recv_kind(p, BP_HPV_JOIN);
        forwards += n_sent(BP_HPV_FORWARD_JOIN);
    }
    assert_in_range(forwards, 1, BP_HPV_BURST + 10);
    assert_true(bp_hpv_stats(h)->dropped_rate > 800);
    assert_non_null(sent(BP_HPV_DISCONNECT, 1099)); /* the last one knows */
    now += 2 * BP_SEC;
    recv_kind(2000, BP_HPV_JOIN);
    assert_true(bp_hpv_is_active(h, 2000));
}

/* --- walks ---------------------------------------------------------------------------- */

static void hpv_walk_goes_on_and_fills_passive_at_prwl(void **state)
{
    (void)state;

    open_node(5);
    link_to(2, 4);
    recv_walk(2, BP_HPV_FORWARD_JOIN, 50, 6);
    assert_int_equal(n_sent(BP_HPV_FORWARD_JOIN), 1);
    assert_int_equal(the_sent(BP_HPV_FORWARD_JOIN, 0)->ttl, 5);
    assert_null(sent(BP_HPV_FORWARD_JOIN, 2));
    assert_false(bp_hpv_refers(h, 50));
    link_to(5, 6); /* full: what is passive is not asked at once */
    recv_walk(2, BP_HPV_FORWARD_JOIN, 50, 3);
    assert_true(is_passive(50));
    recv_walk(2, BP_HPV_FORWARD_JOIN, 51, 255); /* of an attacker: no more than ours */
    assert_int_equal(the_sent(BP_HPV_FORWARD_JOIN, 0)->ttl, 5);
    recv_walk(2, BP_HPV_FORWARD_JOIN, SELF, 6);
    assert_int_equal(out.n, 0);
    recv_walk(2, BP_HPV_FORWARD_JOIN, 3, 6); /* not to the newcomer */
    assert_null(sent(BP_HPV_FORWARD_JOIN, 3));
}

static void hpv_walk_ends_in_a_link_that_both_want(void **state)
{
    (void)state;

    open_node(5);
    link_to(2, 6);
    recv_walk(2, BP_HPV_FORWARD_JOIN, 50, 0);
    assert_int_equal(out.n, 1);
    assert_non_null(effect(BP_HPV_CONNECT, 50));
    assert_int_equal(event(BP_HPV_CONNECTED, 50), 0);
    assert_false(the_sent(BP_HPV_NEIGHBOR, 50)->flag); /* low: it may have all its links */
    assert_false(bp_hpv_is_active(h, 50));
    recv_flag(50, BP_HPV_NEIGHBOR_REPLY, true);
    assert_true(bp_hpv_is_active(h, 50));
    assert_int_equal(h->active.n, 5);
    assert_int_equal(n_sent(BP_HPV_DISCONNECT), 1);
}

static void hpv_walk_with_one_link_ends(void **state)
{
    (void)state;

    open_node(5);
    link_to(2, 2);
    recv_walk(2, BP_HPV_FORWARD_JOIN, 50, 6);
    assert_non_null(effect(BP_HPV_CONNECT, 50));
    recv_walk(2, BP_HPV_FORWARD_JOIN, 50, 6); /* another walk of the same */
    assert_int_equal(out.n, 0);
}

static void hpv_walks_have_a_cap(void **state)
{
    (void)state;

    open_node(5);
    link_to(2, 6);
    for (bp_peer p = 100; p < 130; p++) {
        recv_walk(2, BP_HPV_FORWARD_JOIN, p, 0);
    }
    assert_int_equal(h->n_attempts, BP_HPV_EXTRA_ATTEMPTS);
    assert_int_equal(bp_hpv_stats(h)->dropped_attempts_full, 22);
    assert_true(is_passive(129));
}

/* --- shuffles ----------------------------------------------------------------------------------
 */

static void hpv_shuffle_has_the_papers_sample(void **state)
{
    const struct bp_hpv_msg *s;
    (void)state;

    open_node(5);
    link_to(2, 6);
    h->out = &out;
    for (bp_peer p = 10; p < 30; p++) {
        bp_hpv_passive_add(h, p, now - 5 * BP_SEC, NULL, 0);
    }
    now = h->shuffle_at;
    assert_int_equal(event(BP_HPV_TICK, 0), 0);
    s = the_sent(BP_HPV_SHUFFLE, 0);
    assert_int_equal(s->peer, SELF);
    assert_int_equal(s->ttl, 6);
    assert_int_equal(s->n_peers, 8);
    assert_int_equal(s->peers[0].peer, SELF);
    for (int i = 1; i < 4; i++) {
        assert_in_range(s->peers[i].peer, 2, 6);
        assert_int_equal(s->peers[i].age_ms, 0);
    }
    for (int i = 4; i < 8; i++) {
        assert_in_range(s->peers[i].peer, 10, 29);
        assert_true(s->peers[i].age_ms >= 5000);
    }
}

static struct bp_hpv_msg shuffle_of(bp_peer origin, unsigned ttl)
{
    return (struct bp_hpv_msg){.kind = BP_HPV_SHUFFLE,
                               .peer = origin,
                               .ttl = (uint8_t)ttl,
                               .n_peers = 4,
                               .peers = {{origin, 0}, {71, 0}, {SELF, 0}, {72, 400 * 1000}}};
}

static void hpv_shuffle_walks_then_is_answered_to_its_originator(void **state)
{
    struct bp_hpv_msg msg = shuffle_of(70, 6);
    (void)state;

    open_node(5);
    link_to(2, 6);
    h->out = &out;
    bp_hpv_passive_add(h, 10, now, NULL, 0);
    assert_int_equal(recv_msg(2, &msg), 0);
    assert_int_equal(out.n, 1);
    assert_int_equal(the_sent(BP_HPV_SHUFFLE, 0)->ttl, 5);
    assert_int_equal(the_sent(BP_HPV_SHUFFLE, 0)->peer, 70); /* upstream puts itself here */
    assert_int_equal(the_sent(BP_HPV_SHUFFLE, 0)->n_peers, 4);
    assert_false(is_passive(71));
    msg.ttl = 1;
    assert_int_equal(recv_msg(2, &msg), 0);
    assert_true(is_passive(70) && is_passive(71));
    assert_false(is_passive(72)); /* too old */
    assert_false(is_passive(SELF));
    assert_int_equal(out.n, 1);
    assert_non_null(effect(BP_HPV_CONNECT, 70)); /* a temporary channel */
    assert_int_equal(event(BP_HPV_CONNECTED, 70), 0);
    assert_int_equal(the_sent(BP_HPV_SHUFFLE_REPLY, 70)->n_peers, 1);
    assert_int_equal(the_sent(BP_HPV_SHUFFLE_REPLY, 70)->peers[0].peer, 10);
    assert_int_equal(out.effects[1].kind, BP_HPV_RELEASE); /* right after */
    msg = shuffle_of(3, 1);
    assert_int_equal(recv_msg(2, &msg), 0); /* there is a channel */
    assert_non_null(sent(BP_HPV_SHUFFLE_REPLY, 3));
    assert_null(effect(BP_HPV_CONNECT, 3));
    msg = shuffle_of(SELF, 1);
    assert_int_equal(recv_msg(2, &msg), 0);
    assert_int_equal(out.n, 0);
}

static void hpv_temporary_channels_two_at_a_time(void **state)
{
    (void)state;

    open_node(5);
    link_to(2, 6);
    h->out = &out;
    bp_hpv_passive_add(h, 10, now, NULL, 0);
    for (bp_peer p = 70; p < 75; p++) {
        struct bp_hpv_msg msg = shuffle_of(p, 0);
        assert_int_equal(recv_msg(2, &msg), 0);
        assert_int_equal(effect(BP_HPV_CONNECT, 0) != NULL, p < 72);
    }
    assert_int_equal(bp_hpv_stats(h)->dropped_replies_full, 3);
    assert_true(bp_hpv_refers(h, 70));
    assert_int_equal(event(BP_HPV_CONNECT_FAILED, 70), 0);
    now += 30 * BP_SEC;
    assert_int_equal(event(BP_HPV_TICK, 0), 0);
    assert_non_null(effect(BP_HPV_RELEASE, 71));
    assert_int_equal(h->replies[0].peer + h->replies[1].peer, 0);
}

/* It asked us and we ask it; its refusal does not take the channel away from the reply. */
static void hpv_channel_stays_for_a_reply_that_waits(void **state)
{
    struct bp_hpv_msg msg = shuffle_of(70, 0);
    (void)state;

    open_node(5);
    link_to(2, 6);
    h->out = &out;
    bp_hpv_passive_add(h, 10, now, NULL, 0);
    ask(70, BP_HPV_WANT_WALK);
    assert_int_equal(recv_msg(2, &msg), 0);
    assert_non_null(effect(BP_HPV_CONNECT, 70));
    recv_flag(70, BP_HPV_NEIGHBOR_REPLY, false);
    assert_null(effect(BP_HPV_RELEASE, 70));
    assert_int_equal(event(BP_HPV_CONNECTED, 70), 0);
    assert_non_null(sent(BP_HPV_SHUFFLE_REPLY, 70));
    assert_non_null(effect(BP_HPV_RELEASE, 70));
}

static void hpv_replies_only_to_own_shuffles(void **state)
{
    struct bp_hpv_msg reply = {
        .kind = BP_HPV_SHUFFLE_REPLY, .n_peers = 1, .peers = {{80, BP_HPV_AGE_UNKNOWN}}};
    (void)state;

    open_node(5);
    link_to(2, 6);
    assert_int_equal(recv_msg(90, &reply), 0);
    assert_false(is_passive(80));
    assert_int_equal(bp_hpv_stats(h)->dropped_unexpected, 1);
    now = h->shuffle_at;
    assert_int_equal(event(BP_HPV_TICK, 0), 0);
    for (int i = 0; i < 20; i++) { /* upstream answers at each step, no more often */
        reply.peers[0].peer = (bp_peer)(80 + i);
        assert_int_equal(recv_msg(90, &reply), 0);
    }
    assert_true(is_passive(86));
    assert_false(is_passive(87));
    assert_int_equal(bp_hpv_view_find(&h->passive, 80)->seen, now - 150 * BP_SEC);
}

static void hpv_shuffle_speeds_up_with_churn(void **state)
{
    (void)state;

    open_node(5);
    link_to(2, 2);
    assert_true(h->shuffle_at <= now + 11 * BP_SEC);
    for (bp_peer p = 10; p < 30; p++) {
        link_to(p, p);
    }
    assert_true(h->shuffle_at <= now + 2200 * BP_MS);
    now += 120 * BP_SEC;
    assert_int_equal(event(BP_HPV_TICK, 0), 0);
    assert_true(h->shuffle_at >= now + 9 * BP_SEC);
}

/* --- age
 * ------------------------------------------------------------------------------------------ */

static void hpv_passive_peer_expires_after_being_asked(void **state)
{
    (void)state;

    open_node(1);
    link_to(2, 2);
    h->out = &out;
    bp_hpv_passive_add(h, 10, now, NULL, 0);
    bp_hpv_passive_add(h, 11, now, NULL, 0);
    now += 250 * BP_SEC;
    bp_hpv_passive_add(h, 12, now, NULL, 0);
    h->swap_at = now + 1000 * BP_SEC;
    now += 51 * BP_SEC;
    h->cleanup_at = now;
    assert_int_equal(event(BP_HPV_TICK, 0), 0);
    assert_int_equal(h->n_attempts, 1); /* one of the old ones is asked, the other one goes */
    assert_int_equal(is_passive(10) + is_passive(11), 1);
    assert_true(is_passive(12));
    assert_int_equal(bp_hpv_stats(h)->passive_expired, 1);
}

static void hpv_last_known_peers_do_not_expire(void **state)
{
    (void)state;

    open_node(1);
    link_to(2, 2);
    h->out = &out;
    bp_hpv_passive_add(h, 10, now, NULL, 0);
    bp_hpv_passive_add(h, 11, now, NULL, 0);
    now += 301 * BP_SEC;
    h->cleanup_at = now;
    assert_int_equal(event(BP_HPV_TICK, 0), 0);
    assert_true(is_passive(10) && is_passive(11));
    assert_int_equal(h->n_attempts, 1);
    assert_int_equal(h->attempts[0].want, BP_HPV_WANT_SWAP);
}

static void hpv_time_does_not_go_back(void **state)
{
    (void)state;

    open_node(2);
    link_to(2, 2);
    now = 5;
    recv_kind(2, BP_HPV_DISCONNECT);
    assert_true(bp_hpv_view_find(&h->passive, 2)->seen == 1000 * BP_SEC);
}

/* --- leaving
 * ---------------------------------------------------------------------------------------- */

static void hpv_leave_tells_all_and_answers_no(void **state)
{
    (void)state;

    open_node(3);
    link_to(2, 5);
    ask(10, BP_HPV_WANT_SWAP);
    assert_int_equal(event(BP_HPV_DO_LEAVE, 0), 0);
    assert_int_equal(n_sent(BP_HPV_DISCONNECT), 3);
    assert_non_null(effect(BP_HPV_LEFT, 0));
    assert_non_null(effect(BP_HPV_RELEASE, 10));
    assert_int_equal(the_effect(BP_HPV_PEER_DOWN, 0)->reason, BP_HPV_GRACEFUL);
    assert_int_equal(h->active.n + h->passive.n + h->lost.n + h->n_attempts, 0);
    recv_flag(2, BP_HPV_NEIGHBOR, true);
    assert_false(the_sent(BP_HPV_NEIGHBOR_REPLY, 2)->flag);
    recv_kind(20, BP_HPV_JOIN);
    assert_non_null(sent(BP_HPV_DISCONNECT, 20));
    recv_flag(10, BP_HPV_NEIGHBOR_REPLY, true);
    assert_non_null(sent(BP_HPV_DISCONNECT, 10));
    recv_walk(2, BP_HPV_FORWARD_JOIN, 30, 0);
    recv_walk(2, BP_HPV_SHUFFLE, 30, 0);
    assert_int_equal(h->active.n + h->passive.n + h->lost.n + h->n_attempts, 0);
    assert_int_equal(event(BP_HPV_DO_LEAVE, 0), 0);
    assert_null(effect(BP_HPV_LEFT, 0));
    assert_int_equal(event(BP_HPV_DO_JOIN, 2), 0);
    assert_int_equal(event(BP_HPV_CONNECTED, 2), 0);
    assert_non_null(effect(BP_HPV_JOINED, 0));
}

static void hpv_peer_that_has_left_is_forgotten(void **state)
{
    (void)state;

    open_node(1);
    h->out = &out;
    bp_hpv_passive_add(h, 10, now, NULL, 0);
    assert_int_equal(event(BP_HPV_TICK, 0), 0);
    assert_int_equal(event(BP_HPV_CONNECTED, 10), 0);
    assert_true(the_sent(BP_HPV_NEIGHBOR, 10)->flag);
    recv_flag(10, BP_HPV_NEIGHBOR_REPLY, false); /* even high: it has left */
    assert_false(bp_hpv_refers(h, 10));
}

/* The most effects that any step has. */
static void hpv_leave_of_the_largest_node_fits(void **state)
{
    (void)state;

    open_node(BP_HPV_ACTIVE_MAX);
    link_to(2, 1 + BP_HPV_ACTIVE_MAX);
    for (bp_peer p = 100; p < 100 + BP_HPV_EXTRA_ATTEMPTS; p++) {
        ask(p, BP_HPV_WANT_WALK);
    }
    assert_int_equal(event(BP_HPV_DO_LEAVE, 0), 0);
    assert_int_equal(out.n, 2 * BP_HPV_ACTIVE_MAX + BP_HPV_EXTRA_ATTEMPTS + 1);
}

#define T(f) cmocka_unit_test_teardown(f, close_node)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(hpv_new_refuses_bad_values),
        T(hpv_step_refuses_what_is_malformed),
        T(hpv_join_connects_then_joins),
        T(hpv_join_that_fails_is_told),
        T(hpv_contacts_are_asked_until_there_is_a_link),
        T(hpv_join_of_newcomer_walks_on_all_links),
        T(hpv_join_flood_is_limited),
        T(hpv_walk_goes_on_and_fills_passive_at_prwl),
        T(hpv_walk_ends_in_a_link_that_both_want),
        T(hpv_walk_with_one_link_ends),
        T(hpv_walks_have_a_cap),
        T(hpv_shuffle_has_the_papers_sample),
        T(hpv_shuffle_walks_then_is_answered_to_its_originator),
        T(hpv_temporary_channels_two_at_a_time),
        T(hpv_channel_stays_for_a_reply_that_waits),
        T(hpv_replies_only_to_own_shuffles),
        T(hpv_shuffle_speeds_up_with_churn),
        T(hpv_passive_peer_expires_after_being_asked),
        T(hpv_last_known_peers_do_not_expire),
        T(hpv_time_does_not_go_back),
        T(hpv_leave_tells_all_and_answers_no),
        T(hpv_peer_that_has_left_is_forgotten),
        T(hpv_leave_of_the_largest_node_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
