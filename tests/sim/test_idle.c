/* SPDX-License-Identifier: Apache-2.0 */
/* Two links agree to close what nobody uses, and do not where anybody does. */
#include "sim/traffic.h"
#include "support/t.h"

#include "dist/link_impl.h"
#include "quic/conn_impl.h"

#define MIN_IDLE (300 * BP_SEC)

#define A "58 7703 614068 0000005a 00000000 00000001"
#define X "58 7705 6240682e78 0000004d 00000003 01020304"
#define R "5a 0003 7703 614068 00000001 0001a1c1 60380001 03e66da7"

static void give(struct sim_node *n, const char *hex)
{
    uint8_t p[512];
    struct bp_slice s = {.base = p, .len = t_hex(hex, p, sizeof(p))};

    assert_int_equal(bp_link_send(n->link, &s, 1), 0);
}

static void take_all(struct sim_node *n)
{
    struct bp_frame f;

    while (bp_frame_queue_pop(bp_link_frames(n->link), &f)) {
        if (f.bin != NULL) {
            n->bins--;
            free(f.bin);
        }
    }
    bp_frame_queue_reset(bp_link_frames(n->link));
}

static void run(struct sim *s, bp_time for_)
{
    sim_flush(s);
    sim_run(s, s->now + for_);
    take_all(&s->a);
    take_all(&s->b);
}

static void up(struct sim *s, uint64_t seed)
{
    sim_init(s, seed);
    s->net.delay = 20 * BP_MS;
    s->keepalive = 10 * BP_SEC;
    sim_connect_up(s);
    run(s, BP_SEC);
}

static enum bp_link_use may(struct sim *s, struct sim_node *n)
{
    return bp_link_idle(n->link, MIN_IDLE, false, s->now);
}

static enum bp_link_use ask(struct sim *s, struct sim_node *n)
{
    return bp_link_idle_ask(n->link, MIN_IDLE, false, s->now);
}

static enum bp_link_use answer(struct sim *s, struct sim_node *n)
{
    assert_true(n->idle_asked > 0);
    return bp_link_idle_answer(n->link, true, MIN_IDLE, s->now);
}

static struct bp_link_stats stats(const struct sim_node *n)
{
    struct bp_link_stats st;

    bp_link_stats(n->link, &st);
    return st;
}

/* --- conditions ---------------------------------------------------------------- */

static void idle_is_old_and_silent_and_without_links(void **state)
{
    struct sim s;

    (void)state;
    up(&s, 1);
    assert_int_equal(may(&s, &s.a), BP_LINK_USED);
    run(&s, MIN_IDLE / 2);
    sim_send_message(&s.a, 1, 1, 100);
    run(&s, MIN_IDLE / 2);
    assert_int_equal(may(&s, &s.a), BP_LINK_USED);
    assert_int_equal(may(&s, &s.b), BP_LINK_USED); /* received counts as well as sent */
    run(&s, MIN_IDLE / 2 + BP_SEC);
    assert_int_equal(may(&s, &s.a), BP_LINK_IDLE);
    assert_int_equal(may(&s, &s.b), BP_LINK_IDLE);
    give(&s.a, "83 44 00 68 04 61 13" A X R); /* a monitor, never ended */
    run(&s, 2 * MIN_IDLE);
    assert_int_equal(may(&s, &s.a), BP_LINK_LIVE);
    assert_int_equal(may(&s, &s.b), BP_LINK_LIVE);
    give(&s.b, "83 44 00 68 05 61 15" X A R "77 01 78");
    run(&s, MIN_IDLE + BP_SEC);
    assert_int_equal(may(&s, &s.a), BP_LINK_IDLE);
    assert_int_equal(may(&s, &s.b), BP_LINK_IDLE);
    /* Ticks and membership's own messages are no use. */
    for (unsigned i = 0; i < 10; i++) {
        bp_link_tick(s.a.link);
        give(&s.b, "83 44 00 68 04 61 06" X "7700 7711 62617272656c5f7032705f627269646765");
        run(&s, 30 * BP_SEC);
    }
    assert_int_equal(may(&s, &s.a), BP_LINK_IDLE);
    assert_int_equal(may(&s, &s.b), BP_LINK_IDLE);
    assert_int_equal(stats(&s.a).membership_messages, 10);
    sim_free(&s);
}

static void idle_nothing_may_be_on_its_way(void **state)
{
    struct sim s;

    (void)state;
    up(&s, 2);
    run(&s, MIN_IDLE + BP_SEC);
    give(&s.a, "83 44 00 68 04 61 06" A "7700 7711 62617272656c5f7032705f627269646765");
    assert_int_equal(may(&s, &s.a), BP_LINK_UNSENT);
    sim_flush(&s);
    assert_int_equal(may(&s, &s.a), BP_LINK_UNSENT); /* not acknowledged */
    run(&s, BP_SEC);
    assert_int_equal(may(&s, &s.a), BP_LINK_IDLE);
    sim_free(&s);
}

/* --- agreement ------------------------------------------------------------------ */

static void idle_both_agree_and_one_closes(void **state)
{
    struct sim s;

    (void)state;
    up(&s, 3);
    run(&s, MIN_IDLE + BP_SEC);
    assert_int_equal(ask(&s, &s.a), BP_LINK_IDLE);
    run(&s, BP_SEC);
    assert_int_equal(s.b.idle_asked, 1);
    assert_false(bp_link_idle_due(s.a.link));
    assert_int_equal(answer(&s, &s.b), BP_LINK_IDLE);
    run(&s, 30 * BP_MS);
    assert_true(bp_link_idle_due(s.a.link));
    assert_true(bp_link_idle_close(s.a.link));
    assert_int_equal(bp_link_error(s.a.link), BP_E_IDLE);
    {
        static uint8_t buf[2 * 65536 + 1024];
        struct bp_tx_run runs[BP_TX_RUNS + 1];
        unsigned n = 0;
        assert_true(bp_link_finish(s.a.link, buf, sizeof(buf), runs, &n, s.now) > 0);
        sim_transmit(&s, &s.a, buf + runs[n - 1].off, runs[n - 1].len);
    }
    run(&s, BP_SEC);
    assert_int_equal(bp_link_error(s.b.link), BP_E_IDLE);
    assert_int_equal(stats(&s.b).idle_window_us, 50000); /* 20 + 10 + 20 ms */
    assert_int_equal(stats(&s.b).idle_lost, 0);
    sim_free(&s);
}

/* Whose VM has something to say is not closed, whenever that is. */
static void idle_a_message_calls_it_off(void **state)
{
    enum { ASKER_BEFORE_ANSWER, ANSWERER_BEFORE_ANSWER, ASKER_AFTER, ANSWERER_AFTER, N };

    (void)state;
    for (int when = 0; when < N; when++) {
        struct sim s;
        up(&s, 10 + (uint64_t)when);
        run(&s, MIN_IDLE + BP_SEC);
        assert_int_equal(ask(&s, &s.a), BP_LINK_IDLE);
        if (when == ASKER_BEFORE_ANSWER) {
            sim_send_message(&s.a, 1, 1, 10);
        }
        run(&s, BP_SEC);
        if (when == ANSWERER_BEFORE_ANSWER) {
            sim_send_message(&s.b, 1, 1, 10);
            assert_int_equal(answer(&s, &s.b), BP_LINK_USED);
        } else {
            assert_int_equal(answer(&s, &s.b),
                             when == ASKER_BEFORE_ANSWER ? BP_LINK_USED : BP_LINK_IDLE);
        }
        if (when == ANSWERER_AFTER) {
            /* In time to be there when the asker looks again. */
            sim_send_message(&s.b, 1, 1, 10);
        }
        run(&s, 30 * BP_MS);
        if (when == ASKER_AFTER) {
            assert_true(bp_link_idle_due(s.a.link));
            sim_send_message(&s.a, 1, 1, 10);
        }
        assert_false(bp_link_idle_close(s.a.link));
        run(&s, BP_SEC);
        assert_int_equal(stats(&s.a).idle_called_off, when >= ASKER_AFTER);
        assert_int_equal(stats(&s.a).idle_refused, when < ASKER_AFTER);
        assert_false(s.a.failed || s.b.failed);
        /* And the next time it works. */
        run(&s, MIN_IDLE + BP_SEC);
        assert_int_equal(ask(&s, &s.a), BP_LINK_IDLE);
        run(&s, BP_SEC);
        assert_int_equal(answer(&s, &s.b), BP_LINK_IDLE);
        run(&s, BP_SEC);
        assert_true(bp_link_idle_close(s.a.link));
        sim_free(&s);
    }
}

static void idle_the_host_may_say_no(void **state)
{
    struct sim s;

    (void)state;
    up(&s, 20);
    run(&s, MIN_IDLE + BP_SEC);
    assert_int_equal(bp_link_idle_answer(s.b.link, true, MIN_IDLE, s.now), BP_LINK_NOT_UP);
    assert_int_equal(ask(&s, &s.a), BP_LINK_IDLE);
    run(&s, BP_SEC);
    assert_int_equal(bp_link_idle_answer(s.b.link, false, MIN_IDLE, s.now), BP_LINK_USED);
    run(&s, BP_SEC);
    assert_false(bp_link_idle_due(s.a.link));
    assert_int_equal(stats(&s.a).idle_refused, 1);
    /* A host that never answers: nothing happens. */
    assert_int_equal(ask(&s, &s.a), BP_LINK_IDLE);
    run(&s, 3 * MIN_IDLE);
    assert_false(bp_link_idle_due(s.a.link));
    sim_free(&s);
}

static void idle_both_ask_at_once(void **state)
{
    struct sim s;

    (void)state;
    up(&s, 21);
    run(&s, MIN_IDLE + BP_SEC);
    assert_int_equal(ask(&s, &s.a), BP_LINK_IDLE);
    assert_int_equal(ask(&s, &s.b), BP_LINK_IDLE);
    run(&s, BP_SEC);
    assert_int_equal(s.a.idle_asked, 0);
    assert_int_equal(s.b.idle_asked, 1);
    assert_int_equal(answer(&s, &s.b), BP_LINK_IDLE);
    run(&s, BP_SEC);
    assert_false(bp_link_idle_due(s.b.link));
    assert_true(bp_link_idle_close(s.a.link));
    sim_free(&s);
}

static void idle_temporary_is_one_that_no_process_used(void **state)
{
    struct sim s;

    (void)state;
    up(&s, 22);
    give(&s.a, "83 44 00 68 04 61 06" A "7700 7711 62617272656c5f7032705f627269646765");
    run(&s, BP_SEC);
    assert_int_equal(bp_link_idle_ask(s.a.link, MIN_IDLE, true, s.now), BP_LINK_IDLE);
    run(&s, BP_SEC);
    assert_int_equal(answer(&s, &s.b), BP_LINK_IDLE);
    run(&s, BP_SEC);
    assert_true(bp_link_idle_close(s.a.link));
    sim_free(&s);
    up(&s, 23);
    sim_send_message(&s.b, 1, 1, 10);
    run(&s, MIN_IDLE + BP_SEC);
    assert_int_equal(bp_link_idle_ask(s.a.link, MIN_IDLE, true, s.now), BP_LINK_USED);
    sim_free(&s);
}

/* --- a peer that does not behave ------------------------------------------------ */

static void put_words(struct sim *s, struct sim_node *n, const char *hex)
{
    uint8_t p[64];
    size_t len = t_hex(hex, p, sizeof(p));

    assert_int_equal(bp_conn_put_copy(n->link->conn, (unsigned)n->link->control_slot, p, len), 0);
    run(s, BP_SEC);
}

static void idle_odd_words_are_harmless(void **state)
{
    struct sim s;

    (void)state;
    up(&s, 30);
    put_words(&s, &s.a, "69 03 0001"); /* YES to nothing */
    put_words(&s, &s.a, "69 04 0001");
    put_words(&s, &s.a, "69 09 0001"); /* unknown */
    put_words(&s, &s.a, "00 00 00 00 69");
    put_words(&s, &s.a, "03 00 00 00 00 00 00"); /* in pieces */
    assert_false(bp_link_idle_due(s.b.link));
    assert_false(s.b.failed);
    put_words(&s, &s.a, "6a 01 0001");
    assert_true(s.b.failed);
    assert_int_equal(bp_link_error(s.b.link), BP_E_HS_MALFORMED);
    sim_free(&s);
}

static void idle_questions_reach_the_host_seldom(void **state)
{
    struct sim s;

    (void)state;
    up(&s, 31);
    for (unsigned i = 0; i < 1000 && !s.b.failed; i++) {
        uint8_t word[4] = {0x69, 1, (uint8_t)(i >> 8), (uint8_t)i};
        assert_int_equal(
            bp_conn_put_copy(s.a.link->conn, (unsigned)s.a.link->control_slot, word, 4), 0);
        if (i % 100 == 99) {
            run(&s, 10 * BP_MS);
        }
    }
    run(&s, BP_SEC);
    assert_in_range(s.b.idle_asked, 1, 8);
    sim_free(&s);
}

/* Seven connection ids instead of our eight: another implementation, for the other end. */
static void disguise(struct sim_node *n)
{
    ngtcp2_transport_params *p =
        (ngtcp2_transport_params *)(uintptr_t)ngtcp2_conn_get_local_transport_params(
            n->link->conn->q);

    p->active_connection_id_limit = 7;
}

static void idle_others_are_neither_asked_nor_heard(void **state)
{
    struct sim s;
    uint64_t queued;

    (void)state;
    sim_init(&s, 40);
    s.net.delay = 20 * BP_MS;
    s.keepalive = 10 * BP_SEC;
    s.on_link = disguise;
    sim_connect_up(&s);
    run(&s, MIN_IDLE + BP_SEC);
    assert_false(bp_conn_peer_is_ours(s.a.link->conn) || bp_conn_peer_is_ours(s.b.link->conn));
    queued = bp_conn_queued(s.a.link->conn, (unsigned)s.a.link->control_slot);
    assert_int_equal(ask(&s, &s.a), BP_LINK_NOT_OURS);
    assert_int_equal(bp_link_idle_ask(s.a.link, 0, true, s.now), BP_LINK_NOT_OURS);
    assert_int_equal(bp_conn_queued(s.a.link->conn, (unsigned)s.a.link->control_slot), queued);
    bp_link_tick(s.b.link);
    run(&s, BP_SEC);
    assert_false(s.a.failed || s.b.failed);
    put_words(&s, &s.a, "69");
    assert_true(s.b.failed);
    assert_int_equal(bp_link_error(s.b.link), BP_E_HS_MALFORMED);
    sim_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idle_is_old_and_silent_and_without_links),
        cmocka_unit_test(idle_nothing_may_be_on_its_way),
        cmocka_unit_test(idle_both_agree_and_one_closes),
        cmocka_unit_test(idle_a_message_calls_it_off),
        cmocka_unit_test(idle_the_host_may_say_no),
        cmocka_unit_test(idle_both_ask_at_once),
        cmocka_unit_test(idle_temporary_is_one_that_no_process_used),
        cmocka_unit_test(idle_odd_words_are_harmless),
        cmocka_unit_test(idle_questions_reach_the_host_seldom),
        cmocka_unit_test(idle_others_are_neither_asked_nor_heard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
