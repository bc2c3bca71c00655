/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One HyParView node and its links, event by event: for each relation that it can have to a peer (a
 * stranger, passive, lost, asked, linked) what each message and failure does.
 */
#include "unit/hpv_side.h"

/* --- one-sided links --------------------------------------------------------------------- */

static void hpv_traffic_of_a_link_that_is_none_is_denied(void **state)
{
    struct bp_hpv_msg shuffle = {
        .kind = BP_HPV_SHUFFLE, .peer = 60, .ttl = 6, .n_peers = 1, .peers = {{.peer = 61}}};
    (void)state;

    open_node(5);
    link_to(2, 6);
    recv_walk(50, BP_HPV_FORWARD_JOIN, 51, 6);
    assert_non_null(sent(BP_HPV_DISCONNECT, 50));
    assert_int_equal(n_sent(BP_HPV_FORWARD_JOIN), 1); /* the newcomer is not to blame */
    assert_int_equal(recv_msg(50, &shuffle), 0);
    assert_non_null(sent(BP_HPV_DISCONNECT, 50));
    assert_int_equal(out.n, 1);
    assert_int_equal(bp_hpv_stats(h)->one_sided, 2);
    /* Asked: its agreement may be under way. */
    ask(50, BP_HPV_WANT_SWAP);
    assert_int_equal(recv_msg(50, &shuffle), 0);
    assert_null(sent(BP_HPV_DISCONNECT, 50));
    assert_int_equal(n_sent(BP_HPV_SHUFFLE), 1);
}

static void hpv_late_agreement_is_denied(void **state)
{
    (void)state;

    open_node(5);
    recv_flag(2, BP_HPV_NEIGHBOR_REPLY, true);
    assert_non_null(sent(BP_HPV_DISCONNECT, 2));
    assert_false(bp_hpv_is_active(h, 2));
    recv_flag(2, BP_HPV_NEIGHBOR_REPLY, false);
    assert_int_equal(out.n, 0);
    assert_int_equal(bp_hpv_stats(h)->dropped_unexpected, 1);
    link_to(3, 3);
    recv_flag(3, BP_HPV_NEIGHBOR_REPLY, false);
    assert_true(bp_hpv_is_active(h, 3));
}

static void hpv_no_answer_in_time_is_told_to_the_other_end(void **state)
{
    (void)state;

    open_node(5);
    link_to(2, 6);
    ask(50, BP_HPV_WANT_SWAP);
    now += 30 * BP_SEC;
    assert_int_equal(event(BP_HPV_TICK, 0), 0);
    assert_non_null(sent(BP_HPV_DISCONNECT, 50));
    assert_non_null(effect(BP_HPV_RELEASE, 50));
    assert_int_equal(h->n_attempts, 0);
}

/* --- neighbours ------------------------------------------------------------------------------ */

static void hpv_neighbor_low_needs_room_high_makes_it(void **state)
{
    (void)state;

    open_node(3);
    recv_flag(2, BP_HPV_NEIGHBOR, false);
    assert_true(the_sent(BP_HPV_NEIGHBOR_REPLY, 2)->flag);
    link_to(3, 4);
    recv_flag(5, BP_HPV_NEIGHBOR, false);
    assert_false(the_sent(BP_HPV_NEIGHBOR_REPLY, 5)->flag);
    assert_true(is_passive(5));
    recv_flag(5, BP_HPV_NEIGHBOR, true);
    assert_true(the_sent(BP_HPV_NEIGHBOR_REPLY, 5)->flag);
    assert_int_equal(h->active.n, 3);
    assert_false(is_passive(5));
    recv_flag(5, BP_HPV_NEIGHBOR, false); /* linked already */
    assert_true(the_sent(BP_HPV_NEIGHBOR_REPLY, 5)->flag);
    assert_int_equal(out.n, 1);
}

static void hpv_neighbor_high_flood_is_limited(void **state)
{
    unsigned yes = 0;
    (void)state;

    open_node(3);
    for (bp_peer p = 100; p < 1100; p++) {
        recv_flag(p, BP_HPV_NEIGHBOR, true);
        yes += the_sent(BP_HPV_NEIGHBOR_REPLY, p)->flag;
    }
    assert_in_range(yes, 10, BP_HPV_BURST / 4 + 5);
}

static void hpv_failure_is_repaired_from_the_passive_view(void **state)
{
    (void)state;

    open_node(2);
    link_to(2, 3);
    h->out = &out;
    bp_hpv_passive_add(h, 10, now, NULL, 0);
    assert_int_equal(event(BP_HPV_CHANNEL_DOWN, 3), 0);
    assert_int_equal(the_effect(BP_HPV_PEER_DOWN, 3)->reason, BP_HPV_NODEDOWN);
    assert_true(is_lost(3));
    assert_non_null(effect(BP_HPV_CONNECT, 10));
    assert_int_equal(event(BP_HPV_CONNECTED, 10), 0);
    assert_false(the_sent(BP_HPV_NEIGHBOR, 10)->flag); /* there is another link */
    recv_flag(10, BP_HPV_NEIGHBOR_REPLY, true);
    assert_true(bp_hpv_is_active(h, 10));
    assert_non_null(effect(BP_HPV_PEER_UP, 10));
    assert_false(is_passive(10));
}

static void hpv_last_link_gone_asks_high_once(void **state)
{
    unsigned high = 0;
    (void)state;

    open_node(3);
    link_to(2, 2);
    h->out = &out;
    for (bp_peer p = 10; p < 13; p++) {
        bp_hpv_passive_add(h, p, now, NULL, 0);
    }
    assert_int_equal(event(BP_HPV_CHANNEL_DOWN, 2), 0);
    for (bp_peer p = 10; p < 13; p++) {
        assert_int_equal(event(BP_HPV_CONNECTED, p), 0);
        high += the_sent(BP_HPV_NEIGHBOR, p)->flag;
    }
    assert_int_equal(high, 1);
}

static void hpv_refusal_asks_another_but_not_for_ever(void **state)
{
    unsigned asked = 0;
    (void)state;

    open_node(2);
    link_to(2, 2);
    h->out = &out;
    for (bp_peer p = 10; p < 40; p++) {
        bp_hpv_passive_add(h, p, now, NULL, 0);
    }
    assert_int_equal(event(BP_HPV_TICK, 0), 0);
    while (effect(BP_HPV_CONNECT, 0) != NULL) {
        bp_peer p = the_effect(BP_HPV_CONNECT, 0)->peer;
        asked++;
        assert_int_equal(event(BP_HPV_CONNECTED, p), 0);
        recv_flag(p, BP_HPV_NEIGHBOR_REPLY, false);
        assert_true(is_passive(p)); /* it lives */
        assert_non_null(effect(BP_HPV_RELEASE, p));
    }
    assert_int_equal(asked, 8);
    assert_true(bp_hpv_deadline(h) > now);
    now += 11 * BP_SEC; /* the next shuffle period */
    assert_int_equal(event(BP_HPV_TICK, 0), 0);
    assert_non_null(effect(BP_HPV_CONNECT, 0));
}

static void hpv_agreement_too_many_is_given_back(void **state)
{
    (void)state;

    open_node(2);
    link_to(2, 2);
    ask(10, BP_HPV_WANT_FILL);
    link_to(3, 3);
    recv_flag(10, BP_HPV_NEIGHBOR_REPLY, true);
    assert_non_null(sent(BP_HPV_DISCONNECT, 10));
    assert_ptr_equal(the_effect(BP_HPV_RELEASE, 10), &out.effects[1]);
    assert_true(bp_hpv_is_active(h, 2) && bp_hpv_is_active(h, 3));
    assert_false(bp_hpv_is_active(h, 10));
}

static void hpv_both_ask_at_once_one_link(void **state)
{
    (void)state;

    open_node(2);
    ask(10, BP_HPV_WANT_FILL);
    recv_flag(10, BP_HPV_NEIGHBOR, false);
    assert_true(the_sent(BP_HPV_NEIGHBOR_REPLY, 10)->flag);
    assert_int_equal(h->n_attempts, 0);
    recv_flag(10, BP_HPV_NEIGHBOR_REPLY, true);
    assert_int_equal(out.n, 0);
    assert_true(bp_hpv_is_active(h, 10));
}

static void hpv_peer_that_fails_is_lost_after_max_fail_count(void **state)
{
    unsigned asked = 0;
    (void)state;

    open_node(2);
    link_to(2, 2);
    h->out = &out;
    bp_hpv_passive_add(h, 10, now, NULL, 0);
    while (is_passive(10)) {
        tick_at_deadline();
        if (effect(BP_HPV_CONNECT, 10) != NULL) {
            asked++;
            assert_int_equal(event(BP_HPV_CONNECT_FAILED, 10), 0);
        }
        assert_true(now < 1200 * BP_SEC);
    }
    assert_int_equal(asked, 5);
    assert_true(is_lost(10));
    assert_true(now > 1030 * BP_SEC); /* 2 + 4 + 8 + 16 s of backoff */
}

static void hpv_lost_peer_is_asked_again_with_backoff(void **state)
{
    bp_time before = 0;
    bp_time gap = 0;
    unsigned asked = 0;
    (void)state;

    open_node(2);
    link_to(2, 3);
    assert_int_equal(event(BP_HPV_CHANNEL_DOWN, 3), 0);
    link_to(4, 4);
    while (asked < 12) {
        tick_at_deadline();
        if (effect(BP_HPV_CONNECT, 3) != NULL) {
            asked++;
            gap = now - before;
            before = now;
            assert_int_equal(event(BP_HPV_CONNECT_FAILED, 3), 0);
        }
    }
    assert_in_range(gap / BP_SEC, 300, 450);
    while (effect(BP_HPV_CONNECT, 3) == NULL) {
        tick_at_deadline();
    }
    assert_int_equal(event(BP_HPV_CONNECTED, 3), 0);
    assert_true(the_sent(BP_HPV_NEIGHBOR, 3)->flag);
    recv_flag(3, BP_HPV_NEIGHBOR_REPLY, true);
    assert_true(bp_hpv_is_active(h, 3));
    assert_false(is_lost(3));
    assert_int_equal(bp_hpv_stats(h)->found_again, 1);
}

static void hpv_lost_peer_that_speaks_is_found(void **state)
{
    (void)state;

    open_node(1);
    link_to(2, 2);
    assert_int_equal(event(BP_HPV_CHANNEL_DOWN, 2), 0);
    link_to(3, 3);
    recv_flag(2, BP_HPV_NEIGHBOR, false);
    assert_false(is_lost(2));
    assert_true(is_passive(2));
}

static void hpv_many_failures_scan_the_passive_view(void **state)
{
    unsigned scanned = 0;
    (void)state;

    open_node(4);
    link_to(2, 5);
    h->out = &out;
    for (bp_peer p = 10; p < 20; p++) {
        bp_hpv_passive_add(h, p, now, NULL, 0);
    }
    assert_int_equal(event(BP_HPV_CHANNEL_DOWN, 2), 0);
    link_to(30, 30); /* full again: one failure is no reason */
    assert_int_equal(bp_hpv_stats(h)->scanned, 0);
    assert_int_equal(event(BP_HPV_CHANNEL_DOWN, 3), 0);
    link_to(31, 31);
    while (h->n_attempts != 0) {
        struct bp_hpv_attempt a = h->attempts[0];
        scanned += a.want == BP_HPV_WANT_SCAN;
        if (a.want == BP_HPV_WANT_SCAN && scanned == 3) {
            assert_int_equal(event(BP_HPV_CONNECTED, a.peer), 0);
            assert_false(the_sent(BP_HPV_NEIGHBOR, a.peer)->flag);
            recv_flag(a.peer, BP_HPV_NEIGHBOR_REPLY, true);
            assert_true(bp_hpv_is_active(h, a.peer));
            assert_int_equal(h->active.n, 4);
        } else {
            assert_int_equal(event(BP_HPV_CONNECT_FAILED, a.peer), 0);
        }
    }
    assert_in_range(scanned, 6, 10);
    assert_int_equal(bp_hpv_stats(h)->scanned, scanned);
    assert_int_equal(h->scan, 0);
}

static void hpv_channel_of_a_passive_peer_may_go(void **state)
{
    (void)state;

    open_node(1);
    link_to(2, 3); /* 2 made room for 3 */
    assert_true(is_passive(2));
    assert_int_equal(event(BP_HPV_CHANNEL_DOWN, 2), 0);
    assert_int_equal(out.n, 0);
    assert_int_equal(bp_hpv_view_find(&h->passive, 2)->fails, 0);
    assert_int_equal(event(BP_HPV_CHANNEL_DOWN, 77), 0);
    assert_int_equal(out.n, 0);
}

static void hpv_disconnect_is_graceful_and_not_asked_at_once(void **state)
{
    (void)state;

    open_node(5);
    link_to(2, 3);
    recv_kind(2, BP_HPV_DISCONNECT);
    assert_int_equal(the_effect(BP_HPV_PEER_DOWN, 2)->reason, BP_HPV_GRACEFUL);
    assert_true(is_passive(2));
    assert_null(effect(BP_HPV_CONNECT, 2));
    recv_kind(2, BP_HPV_DISCONNECT);
    assert_int_equal(out.n, 0);
    recv_kind(66, BP_HPV_DISCONNECT);
    assert_int_equal(out.n, 0);
    assert_false(bp_hpv_refers(h, 66));
    now += 2 * BP_SEC;
    assert_int_equal(event(BP_HPV_TICK, 0), 0);
    assert_non_null(effect(BP_HPV_CONNECT, 2));
}

#define T(f) cmocka_unit_test_teardown(f, close_node)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(hpv_traffic_of_a_link_that_is_none_is_denied),
        T(hpv_late_agreement_is_denied),
        T(hpv_no_answer_in_time_is_told_to_the_other_end),
        T(hpv_neighbor_low_needs_room_high_makes_it),
        T(hpv_neighbor_high_flood_is_limited),
        T(hpv_failure_is_repaired_from_the_passive_view),
        T(hpv_last_link_gone_asks_high_once),
        T(hpv_refusal_asks_another_but_not_for_ever),
        T(hpv_agreement_too_many_is_given_back),
        T(hpv_both_ask_at_once_one_link),
        T(hpv_peer_that_fails_is_lost_after_max_fail_count),
        T(hpv_lost_peer_is_asked_again_with_backoff),
        T(hpv_lost_peer_that_speaks_is_found),
        T(hpv_many_failures_scan_the_passive_view),
        T(hpv_channel_of_a_passive_peer_may_go),
        T(hpv_disconnect_is_graceful_and_not_asked_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
