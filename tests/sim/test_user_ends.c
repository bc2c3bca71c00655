/* SPDX-License-Identifier: Apache-2.0 */
/* How user streams between two links end, or begin and wait: nothing is left when they are over. */
#include "sim/user_side.h"

/* --- ends -------------------------------------------------------------------- */

static void user_reset_reaches_the_other_side_with_its_code(void **state)
{
    struct side w;
    struct seen *e;
    struct bp_user_stream *s;
    (void)state;

    for (unsigned by_b = 0; by_b < 2; by_b++) {
        for (unsigned bytes = 0; bytes < 2; bytes++) {
            start(&w, 50);
            s = open_stream(&w.a, 128, &e);
            assert_int_equal(put(&w.a, s, 1), 0);
            run(&w, 100 * BP_MS);
            if (bytes != 0) {
                assert_int_equal(put(&w.a, s, 30000000), 0);
                run(&w, 20 * BP_MS);
            }
            if (by_b != 0) {
                bp_link_user_reset(w.s.b.link, bp_link_user_find(w.s.b.link, 68), 4711);
            } else {
                bp_link_user_reset(w.s.a.link, s, 4711);
            }
            run_idle(&w, 10 * BP_SEC);
            assert_true(by_b != 0 ? e->cut : of(&w.b, 68)->cut);
            assert_int_equal(by_b != 0 ? e->code : of(&w.b, 68)->code, 4711);
            end(&w);
        }
    }
}

/*
 * Upstream resets the half that it writes and says no more (WIRE 2, 6.1): that ends the stream
 * here, and nothing is left of it on either side. It does the same again for each datagram that
 * comes.
 */
static void user_reset_of_one_half_ends_the_stream(void **state)
{
    struct side w;
    struct seen *e;
    struct bp_user_stream *s;
    (void)state;

    for (unsigned bytes = 0; bytes < 2; bytes++) {
        start(&w, 57);
        s = open_stream(&w.a, 128, &e);
        assert_int_equal(put(&w.a, s, bytes != 0 ? 20000000 : 10), 0);
        run(&w, 40 * BP_MS);
        assert_int_equal(
            ngtcp2_conn_shutdown_stream_write(bp_link_conn(w.s.b.link)->q, 0, 68, 0x100), 0);
        run_idle(&w, 10 * BP_SEC);
        assert_true(e->cut);
        assert_int_equal(e->code, 0x100);
        assert_true(of(&w.b, 68)->cut);
        end(&w);
    }
    /* a stream of theirs that they give up, without asking us to stop */
    start(&w, 58);
    s = open_stream(&w.b, 128, &e);
    assert_int_equal(put(&w.b, s, 1000), 0);
    run(&w, 100 * BP_MS);
    assert_int_equal(ngtcp2_conn_shutdown_stream_write(bp_link_conn(w.s.b.link)->q, 0, 65, 7), 0);
    run_idle(&w, 10 * BP_SEC);
    assert_true(of(&w.a, 65)->cut);
    assert_int_equal(of(&w.a, 65)->code, 7);
    end(&w);
}

/* The writer has finished and is gone: all of it arrives, also when the reader writes meanwhile. */
static void user_orphan_delivers_what_it_had_finished(void **state)
{
    struct side w;
    struct seen *e;
    struct bp_user_stream *s;
    (void)state;

    for (unsigned answers = 0; answers < 2; answers++) {
        start(&w, 55);
        w.s.net.loss = 50;
        s = open_stream(&w.a, 128, &e);
        assert_int_equal(put(&w.a, s, 1), 0);
        run(&w, BP_SEC);
        assert_int_equal(put(&w.a, s, 3000000), 0);
        assert_int_equal(bp_link_user_fin(w.s.a.link, s), 0);
        bp_link_user_orphan(w.s.a.link, s);
        run(&w, 30 * BP_MS);
        if (answers != 0) {
            s = bp_link_user_find(w.s.b.link, 68);
            assert_int_equal(put(&w.b, s, 100000), 0);
        }
        run_idle(&w, 60 * BP_SEC);
        assert_int_equal(of(&w.b, 68)->got, 3000001);
        assert_true(of(&w.b, 68)->fin && of(&w.b, 68)->stopped && !of(&w.b, 68)->cut);
        end(&w);
    }
    /* one that had not finished is cut */
    start(&w, 56);
    s = open_stream(&w.a, 128, &e);
    assert_int_equal(put(&w.a, s, 3000000), 0);
    bp_link_user_orphan(w.s.a.link, s);
    run_idle(&w, 10 * BP_SEC);
    assert_true(w.b.n == 0 || w.b.seen[0].cut);
    end(&w);
}

/* One that nobody at the other side has seen a byte of. */
static void user_reset_before_the_first_byte_leaves_nothing(void **state)
{
    struct side w;
    struct seen *e;
    (void)state;

    start(&w, 51);
    for (unsigned i = 0; i < 1000; i++) {
        bp_link_user_reset(w.s.a.link, open_stream(&w.a, 128, &e), 9);
        w.a.n = 0;
        run(&w, 20 * BP_MS);
    }
    run_idle(&w, 10 * BP_SEC);
    assert_int_equal(w.b.n, 0);
    end(&w);
}

static void user_streams_nobody_wants_are_refused(void **state)
{
    struct bp_user_stats st;
    struct side w;
    struct seen *e;
    struct bp_user_stream *s;
    (void)state;

    start(&w, 52);
    w.b.refuse = true;
    s = open_stream(&w.a, 128, &e);
    assert_int_equal(put(&w.a, s, 10000), 0);
    run_idle(&w, 10 * BP_SEC);
    assert_true(e->cut);
    assert_int_equal(e->code, BP_USER_REFUSED);
    bp_link_user_stats(w.s.b.link, &st);
    assert_int_equal(st.refused, 1);
    end(&w);
}

static void user_ten_thousand_in_sequence_and_239_at_once(void **state)
{
    struct bp_user_stats st;
    struct side w;
    struct seen *e;
    struct bp_user_stream *s;
    unsigned n = 0;
    (void)state;

    start(&w, 53);
    w.s.net.delay = BP_MS / 10;
    w.b.echo = true;
    for (unsigned i = 0; i < 10000; i++) {
        struct host *h = i % 2 == 0 ? &w.a : &w.b;
        s = open_stream(h, 128, &e);
        e->echo = false;
        assert_int_equal(put(h, s, 100), 0);
        assert_int_equal(bp_link_user_fin(h->node->link, s), 0);
        w.a.echo = w.b.echo = true;
        while (!e->closed) {
            run(&w, BP_MS);
        }
        assert_int_equal(e->got, 100);
        run_idle(&w, BP_SEC);
        w.a.n = w.b.n = 0;
    }
    while (bp_link_user_open(w.s.a.link, 128, &s) == 0) {
        e = add_seen(&w.a, s->tx.id);
        e->echo = false;
        s->host = e;
        assert_int_equal(put(&w.a, s, 5000), 0);
        n++;
    }
    assert_int_equal(n, 239);
    run(&w, BP_SEC);
    assert_int_equal(w.b.n, 239);
    for (unsigned i = 0; i < 239; i++) {
        s = bp_link_user_find(w.s.a.link, w.a.seen[i].id);
        assert_int_equal(w.a.seen[i].got, 5000);
        assert_int_equal(bp_link_user_fin(w.s.a.link, s), 0);
    }
    run_idle(&w, BP_SEC);
    bp_link_user_stats(w.s.a.link, &st);
    assert_int_equal(st.opened, 5000 + 239);
    assert_int_equal(st.accepted, 5000);
    assert_int_equal(st.unread_bytes, 0);
    end(&w);
}

/* A stream that is over for QUIC but not for its reader counts: else a peer could fill memory. */
static void user_unread_streams_count_against_the_limit(void **state)
{
    struct side w;
    struct seen *e;
    struct bp_user_stream *s;
    unsigned n = 0;
    (void)state;

    start(&w, 54);
    w.b.pause_new = true;
    for (unsigned round = 0; round < 3; round++) {
        while (bp_link_user_open(w.s.a.link, 128, &s) == 0) {
            e = add_seen(&w.a, s->tx.id);
            s->host = e;
            assert_int_equal(put(&w.a, s, 10), 0);
            assert_int_equal(bp_link_user_fin(w.s.a.link, s), 0);
            n++;
        }
        run(&w, BP_SEC);
        for (unsigned i = 0; i < w.b.n && round == 0; i++) {
            s = bp_link_user_find(w.s.b.link, w.b.seen[i].id);
            assert_int_equal(bp_link_user_fin(w.s.b.link, s), 0);
        }
        run(&w, BP_SEC);
        assert_int_equal(n, 239);
    }
    for (unsigned i = 0; i < w.b.n; i++) {
        s = bp_link_user_find(w.s.b.link, w.b.seen[i].id);
        w.b.seen[i].paused = false;
        look(&w.b, s);
    }
    run_idle(&w, BP_SEC);
    run(&w, BP_SEC);
    assert_int_equal(bp_link_user_open(w.s.a.link, 128, &s), 0);
    sim_free(&w.s);
}

/* --- before distribution is up, parked --------------------------------------- */

static void user_streams_wait_until_distribution_is_up(void **state)
{
    struct side w;
    struct seen *e;
    struct bp_user_stream *s;
    (void)state;

    begin(&w, 60);
    w.s.b_holds = true;
    sim_connect_up(&w.s);
    s = open_stream(&w.a, 128, &e);
    assert_int_equal(put(&w.a, s, 6000000), 0);
    run(&w, BP_SEC);
    assert_int_equal(w.b.n, 0);
    bp_link_deliver(w.s.b.link);
    run(&w, 2 * BP_SEC);
    assert_int_equal(w.b.n, 1);
    assert_int_equal(w.b.seen[0].got, 6000000);
    sim_free(&w.s);
    assert_int_equal(w.s.a.owners, 0);
}

static void user_parked_streams_have_a_limit_and_a_time(void **state)
{
    struct bp_user_stats st;
    struct side w;
    struct seen *e;
    struct bp_user_stream *s;
    unsigned n = 0;
    (void)state;

    start(&w, 61);
    for (unsigned i = 0; i < BP_USER_PARKED_MAX + 3; i++) {
        s = open_stream(&w.a, 128, &e);
        assert_int_equal(put(&w.a, s, 3), 0);
    }
    sim_flush(&w.s);
    sim_run(&w.s, w.s.now + 100 * BP_MS);
    while ((s = bp_link_user_next(w.s.b.link)) != NULL) {
        uint8_t bytes[10];
        assert_int_equal(bp_link_user_peek(s, bytes, sizeof(bytes)), 3);
        if (bp_link_user_park(w.s.b.link, s, w.s.now + BP_SEC)) {
            n++;
        }
    }
    assert_int_equal(n, BP_USER_PARKED_MAX);
    bp_link_user_stats(w.s.b.link, &st);
    assert_int_equal(st.parked, BP_USER_PARKED_MAX);
    assert_int_equal(st.parked_too_many, 3);
    sim_run(&w.s, w.s.now + 900 * BP_MS);
    assert_null(bp_link_user_next(w.s.b.link));
    sim_run(&w.s, w.s.now + 200 * BP_MS);
    for (n = 0; (s = bp_link_user_next(w.s.b.link)) != NULL; n++) {
        assert_true(s->expired);
        bp_link_user_refuse(w.s.b.link, s);
    }
    assert_int_equal(n, BP_USER_PARKED_MAX);
    bp_link_user_stats(w.s.b.link, &st);
    assert_int_equal(st.parked, 0);
    assert_int_equal(st.parked_too_long, BP_USER_PARKED_MAX);
    sim_free(&w.s);
    assert_int_equal(w.s.a.owners + w.s.b.bins, 0);
}

static void user_skip_leaves_what_follows(void **state)
{
    struct bp_user_chunk c;
    struct side w;
    struct seen *e;
    struct bp_user_stream *s;
    (void)state;

    start(&w, 62);
    s = open_stream(&w.a, 128, &e);
    assert_int_equal(put(&w.a, s, 50000), 0);
    sim_flush(&w.s);
    sim_run(&w.s, w.s.now + BP_SEC);
    s = bp_link_user_next(w.s.b.link);
    assert_non_null(s);
    bp_link_user_welcome(w.s.b.link, s, &w);
    bp_link_user_skip(w.s.b.link, s, 257);
    assert_true(bp_link_user_take(w.s.b.link, s, &c));
    assert_int_equal(c.data[0], byte_at(68, 257));
    w.s.b.bins--;
    free(c.bin);
    bp_link_user_skip(w.s.b.link, s, 50000);
    assert_false(bp_link_user_take(w.s.b.link, s, &c));
    sim_free(&w.s);
    assert_int_equal(w.s.a.owners + w.s.b.bins, 0);
}

/* A link that ends takes its streams along, whatever they were at. */
static void user_streams_end_with_the_link(void **state)
{
    struct side w;
    struct seen *e;
    (void)state;

    start(&w, 63);
    w.b.pause_new = true;
    for (unsigned i = 0; i < 30; i++) {
        assert_int_equal(put(&w.a, open_stream(&w.a, 128, &e), 100000 * i), 0);
        assert_int_equal(put(&w.b, open_stream(&w.b, 128, &e), 100000 * i), 0);
    }
    run(&w, 30 * BP_MS);
    bp_link_fail(w.s.a.link, 0, NULL);
    sim_flush(&w.s);
    sim_run(&w.s, w.s.now + BP_SEC);
    assert_true(w.s.b.failed);
    sim_free(&w.s);
    assert_int_equal(w.s.a.owners + w.s.b.owners, 0);
    assert_int_equal(w.s.a.bins + w.s.b.bins, 0);
}

/* A stream keeps a connection from being closed as unused, and was a use when it is over. */
static void user_stream_is_a_use_of_the_connection(void **state)
{
    struct side w;
    struct seen *e;
    struct bp_user_stream *s;
    (void)state;

    start(&w, 64);
    run(&w, 10 * BP_SEC);
    assert_int_equal(bp_link_idle(w.s.a.link, BP_SEC, false, w.s.now), BP_LINK_IDLE);
    s = open_stream(&w.a, 128, &e);
    assert_int_equal(bp_link_idle(w.s.a.link, BP_SEC, false, w.s.now), BP_LINK_STREAMS);
    assert_int_equal(put(&w.a, s, 10), 0);
    run(&w, 10 * BP_SEC);
    assert_int_equal(bp_link_idle(w.s.a.link, BP_SEC, false, w.s.now), BP_LINK_STREAMS);
    assert_int_equal(bp_link_idle(w.s.b.link, BP_SEC, false, w.s.now), BP_LINK_STREAMS);
    bp_link_user_reset(w.s.a.link, s, 0);
    run(&w, BP_SEC / 2);
    assert_int_equal(bp_link_idle(w.s.a.link, BP_SEC, false, w.s.now), BP_LINK_USED);
    assert_int_equal(bp_link_idle(w.s.b.link, BP_SEC, false, w.s.now), BP_LINK_USED);
    run(&w, 2 * BP_SEC);
    assert_int_equal(bp_link_idle(w.s.a.link, BP_SEC, false, w.s.now), BP_LINK_IDLE);
    end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(user_reset_reaches_the_other_side_with_its_code),
        cmocka_unit_test(user_reset_of_one_half_ends_the_stream),
        cmocka_unit_test(user_orphan_delivers_what_it_had_finished),
        cmocka_unit_test(user_reset_before_the_first_byte_leaves_nothing),
        cmocka_unit_test(user_streams_nobody_wants_are_refused),
        cmocka_unit_test(user_ten_thousand_in_sequence_and_239_at_once),
        cmocka_unit_test(user_unread_streams_count_against_the_limit),
        cmocka_unit_test(user_streams_wait_until_distribution_is_up),
        cmocka_unit_test(user_parked_streams_have_a_limit_and_a_time),
        cmocka_unit_test(user_skip_leaves_what_follows),
        cmocka_unit_test(user_streams_end_with_the_link),
        cmocka_unit_test(user_stream_is_a_use_of_the_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
