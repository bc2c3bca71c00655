/* SPDX-License-Identifier: Apache-2.0 */
/*
 * User streams between two links, over good and bad networks: bytes arrive whole and in order, each
 * stream by itself, distribution goes first, and a slow reader holds up nobody else.
 */
#include "sim/user_side.h"

/* --- bytes ---------------------------------------------------------------- */

static void user_first_ids_are_behind_those_of_distribution(void **state)
{
    struct side w;
    struct seen *e;
    (void)state;

    start(&w, 1);
    assert_int_equal(open_stream(&w.a, 128, &e)->tx.id, 68);
    assert_int_equal(open_stream(&w.b, 128, &e)->tx.id, 65);
    assert_int_equal(open_stream(&w.a, 128, &e)->tx.id, 72);
    sim_free(&w.s);
    /* the same with fewer streams for distribution, and after some were used */
    begin(&w, 2);
    w.s.a.dist_streams = w.s.b.dist_streams = 3;
    sim_connect_up(&w.s);
    for (uint32_t i = 0; i < SIM_SENDERS; i++) {
        sim_send_message(&w.s.a, i, 0, 10);
    }
    assert_int_equal(open_stream(&w.a, 128, &e)->tx.id, 68);
    assert_int_equal(open_stream(&w.b, 128, &e)->tx.id, 65);
    sim_free(&w.s);
}

/* Streams of both sides, echoed, beside distribution, over a network that loses and reorders. */
static void user_bytes_arrive_whole_over_bad_network(void **state)
{
    static const unsigned loss[] = {0, 10, 50};
    (void)state;

    for (unsigned i = 0; i < sizeof(loss) / sizeof(loss[0]); i++) {
        struct side w;
        struct sim_flow flow;
        struct seen *e;

        start(&w, 10 + i);
        w.a.echo = w.b.echo = true;
        w.s.net.loss = loss[i];
        w.s.net.jitter = loss[i] > 0 ? 8 * BP_MS : 0;
        w.s.net.dup = loss[i] > 0 ? 20 : 0;
        flow = (struct sim_flow){.from = &w.s.a, .to = &w.s.b};
        for (unsigned k = 0; k < 20; k++) {
            struct host *h = k % 2 == 0 ? &w.a : &w.b;
            struct bp_user_stream *s = open_stream(h, (uint8_t)(16 + k), &e);
            e->echo = false;
            assert_int_equal(put(h, s, k * 10007), 0);
            assert_int_equal(put(h, s, 1 + k), 0);
            assert_int_equal(bp_link_user_fin(h->node->link, s), 0);
        }
        for (unsigned k = 0; k < 200; k++) {
            sim_flow_send(&w.s, &flow, 3000);
            run(&w, 2 * BP_MS);
        }
        run_idle(&w, 60 * BP_SEC);
        sim_flow_drain(&w.s, &flow, 30 * BP_SEC);
        for (unsigned k = 0; k < 20; k++) {
            int64_t id = (k % 2 == 0 ? 68 : 65) + 4 * (k / 2);
            const struct seen *o = of(k % 2 == 0 ? &w.a : &w.b, id);
            const struct seen *p = of(k % 2 == 0 ? &w.b : &w.a, id);
            assert_true(o->closed && p->closed && o->fin && p->fin);
            assert_int_equal(p->got, k * 10007 + 1 + k);
            assert_int_equal(o->got, p->got);
        }
        end(&w);
    }
}

/* WIRE 11, C4: upstream refuses what does not fit the window. */
static void user_write_larger_than_the_window_flows(void **state)
{
    struct side w;
    struct seen *e;
    struct bp_user_stream *s;
    (void)state;

    start(&w, 20);
    s = open_stream(&w.a, 128, &e);
    assert_int_equal(put(&w.a, s, 20000000), 0);
    assert_int_equal(bp_link_user_fin(w.s.a.link, s), 0);
    w.b.echo = true;
    run_idle(&w, 60 * BP_SEC);
    assert_int_equal(of(&w.b, 68)->got, 20000000);
    assert_int_equal(e->got, 20000000);
    end(&w);
}

static void user_finish_alone_and_half_close(void **state)
{
    struct side w;
    struct seen *e;
    struct bp_user_stream *s;
    (void)state;

    start(&w, 21);
    s = open_stream(&w.a, 128, &e);
    assert_int_equal(bp_link_user_fin(w.s.a.link, s), 0);
    run(&w, 100 * BP_MS);
    assert_true(of(&w.b, 68)->fin);
    assert_int_equal(of(&w.b, 68)->got, 0);
    assert_false(of(&w.b, 68)->closed); /* the other half is open */
    assert_int_equal(put(&w.a, s, 1), BP_E_STATE);
    s = bp_link_user_find(w.s.b.link, 68);
    assert_int_equal(put(&w.b, s, 100000), 0);
    assert_int_equal(bp_link_user_fin(w.s.b.link, s), 0);
    run_idle(&w, BP_SEC);
    assert_int_equal(e->got, 100000);
    assert_true(e->closed && of(&w.b, 68)->closed);
    assert_null(bp_link_user_find(w.s.b.link, 68));
    end(&w);
}

/* --- who goes first -------------------------------------------------------- */

/* Bytes of a stream wait as long as distribution has something to send. */
static void user_streams_leave_distribution_first(void **state)
{
    struct side w;
    struct sim_flow flow;
    struct seen *e;
    struct bp_user_stream *s;
    uint64_t before;
    (void)state;

    start(&w, 30);
    flow = (struct sim_flow){.from = &w.s.a, .to = &w.s.b};
    w.s.net.delay = 20 * BP_MS;
    s = open_stream(&w.a, 16, &e);
    assert_int_equal(put(&w.a, s, 50000000), 0);
    run(&w, BP_SEC);
    for (unsigned i = 0; i < 20; i++) {
        before = s->tx.q.sent;
        assert_true(before < 50000000);
        while (bp_link_pending(w.s.a.link) < 524288) {
            sim_flow_send(&w.s, &flow, 20000);
        }
        while (bp_link_pending(w.s.a.link) > 0) {
            before = s->tx.q.sent;
            assert_true(sim_step(&w.s, w.s.now + BP_SEC));
            poll_host(&w.b);
            /* A packet may be filled up with it once distribution has nothing more. */
            assert_true(bp_link_pending(w.s.a.link) == 0 || s->tx.q.sent == before);
        }
        run(&w, 50 * BP_MS);
        sim_receive(flow.to, flow.got, &flow.n_got);
    }
    assert_int_equal(put(&w.a, s, 1), 0);
    bp_link_user_reset(w.s.a.link, s, 1);
    sim_flow_drain(&w.s, &flow, 30 * BP_SEC);
    run_idle(&w, 10 * BP_SEC);
    end(&w);
}

static void user_lower_priority_number_goes_first_and_equals_share(void **state)
{
    static const uint8_t prio[] = {200, 100, 100, 20};
    struct side w;
    struct seen *e[4];
    struct bp_user_stream *s[4];
    (void)state;

    start(&w, 31);
    w.s.net.delay = 20 * BP_MS;
    for (unsigned i = 0; i < 4; i++) {
        s[i] = open_stream(&w.a, prio[i], &e[i]);
        assert_int_equal(put(&w.a, s[i], 3000000), 0);
    }
    while (s[1]->tx.q.sent < 1500000) {
        assert_true(s[3]->tx.q.sent == 3000000 || s[1]->tx.q.sent == 0);
        assert_int_equal(s[0]->tx.q.sent, 0);
        /* equal ones differ by a few packets */
        assert_true(s[1]->tx.q.sent < s[2]->tx.q.sent + 300000 &&
                    s[2]->tx.q.sent < s[1]->tx.q.sent + 300000);
        run(&w, 10 * BP_MS);
    }
    /* changed on the way */
    bp_link_user_set_priority(w.s.a.link, s[0], 50);
    run(&w, 30 * BP_MS);
    while (s[0]->tx.q.sent < 3000000) {
        uint64_t second = s[1]->tx.q.sent;
        run(&w, 10 * BP_MS);
        assert_true(s[0]->tx.q.sent == 3000000 || s[1]->tx.q.sent <= second + 70000);
    }
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(bp_link_user_fin(w.s.a.link, s[i]), 0);
    }
    w.b.echo = true;
    for (unsigned i = 0; i < w.b.n; i++) {
        w.b.seen[i].echo = true;
    }
    run_idle(&w, 30 * BP_SEC);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(of(&w.b, 68 + 4 * (int64_t)i)->got, 3000000);
    }
    end(&w);
}

/* --- slow readers ----------------------------------------------------------- */

static void user_slow_reader_holds_up_its_own_stream_alone(void **state)
{
    struct side w;
    struct sim_flow flow;
    struct seen *e[11];
    struct bp_user_stream *s[11];
    uint64_t stuck;
    (void)state;

    start(&w, 40);
    flow = (struct sim_flow){.from = &w.s.a, .to = &w.s.b};
    w.b.pause_new = true;
    for (unsigned i = 0; i < 10; i++) {
        s[i] = open_stream(&w.a, 128, &e[i]);
        assert_int_equal(put(&w.a, s[i], 10000000), 0);
    }
    run(&w, 5 * BP_SEC);
    for (unsigned i = 0; i < 10; i++) {
        /* its window and no more; ten of them are more than the connection's window */
        assert_in_range(s[i]->tx.q.sent, 1000000, 5000000);
        assert_int_equal(of(&w.b, s[i]->tx.id)->got, 0);
    }
    stuck = s[0]->tx.q.sent;
    w.b.pause_new = false;
    s[10] = open_stream(&w.a, 255, &e[10]);
    assert_int_equal(put(&w.a, s[10], 30000000), 0);
    for (unsigned i = 0; i < 500; i++) {
        sim_flow_send(&w.s, &flow, 20000);
        run(&w, 10 * BP_MS);
        sim_receive(flow.to, flow.got, &flow.n_got);
    }
    assert_int_equal(of(&w.b, s[10]->tx.id)->got, 30000000);
    assert_int_equal(flow.n_got, 500);
    assert_int_equal(s[0]->tx.q.sent, stuck);
    for (unsigned i = 0; i < w.b.n; i++) {
        w.b.seen[i].paused = false;
        take(&w.b, bp_link_user_find(w.s.b.link, w.b.seen[i].id), &w.b.seen[i]);
    }
    run(&w, 20 * BP_SEC);
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(of(&w.b, s[i]->tx.id)->got, 10000000);
    }
    for (unsigned i = 0; i < 11; i++) {
        bp_link_user_reset(w.s.a.link, s[i], 0);
    }
    run_idle(&w, 10 * BP_SEC);
    end(&w);
}

static void user_too_much_unread_ends_that_stream(void **state)
{
    struct bp_user_stats st;
    struct side w;
    struct seen *e[3];
    struct bp_user_stream *s[3];
    (void)state;

    start(&w, 41);
    w.b.pause_new = true;
    w.s.b.link->user_unread_max = 5000000;
    for (unsigned i = 0; i < 3; i++) {
        s[i] = open_stream(&w.a, (uint8_t)(20 + i), &e[i]);
        assert_int_equal(put(&w.a, s[i], 3000000), 0);
    }
    run(&w, 5 * BP_SEC);
    bp_link_user_stats(w.s.b.link, &st);
    assert_true(e[1]->cut || e[2]->cut);
    assert_int_equal(e[e[1]->cut ? 1 : 2]->code, BP_USER_TOO_MUCH);
    assert_false(e[0]->cut);
    assert_int_equal(st.too_much, e[1]->cut + e[2]->cut);
    assert_in_range(st.unread_bytes, 3000000, 5000000);
    bp_link_user_reset(w.s.a.link, s[0], 0);
    for (unsigned i = 1; i < 3; i++) {
        if (!e[i]->cut) {
            bp_link_user_reset(w.s.a.link, s[i], 0);
        }
    }
    run_idle(&w, 10 * BP_SEC);
    bp_link_user_stats(w.s.b.link, &st);
    assert_int_equal(st.unread_bytes, 0);
    end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(user_first_ids_are_behind_those_of_distribution),
        cmocka_unit_test(user_bytes_arrive_whole_over_bad_network),
        cmocka_unit_test(user_write_larger_than_the_window_flows),
        cmocka_unit_test(user_finish_alone_and_half_close),
        cmocka_unit_test(user_streams_leave_distribution_first),
        cmocka_unit_test(user_lower_priority_number_goes_first_and_equals_share),
        cmocka_unit_test(user_slow_reader_holds_up_its_own_stream_alone),
        cmocka_unit_test(user_too_much_unread_ends_that_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
