/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A receiver that takes nothing for a while: windows close, senders wait. What must not wait
 * passes, and when the receiver goes on everything arrives.
 */
#include "sim/traffic.h"
#include "support/t.h"

#include "dist/link_impl.h"
#include "quic/conn_impl.h"

#define BLOCKED_BYTES                                                                              \
    4000000u /* that wait: far more than QUIC holds for want of acknowledgement                    \
              */

/* Sends until the peer's windows are closed and more waits behind them, and not for a fence. */
static void fill(struct sim *s, struct sim_flow *f)
{
    uint64_t sum = 0;

    while (bp_link_pending(f->from->link) < BLOCKED_BYTES / 2) {
        while (bp_link_pending(f->from->link) < BLOCKED_BYTES) {
            size_t payload = 1 + t_rand(&s->rng) % 120000;

            sim_flow_send(s, f, payload);
            sim_flush(s);
            sim_run(s, s->now + BP_MS);
            sum += payload;
            assert_true(sum < 200000000u);
        }
        sim_run(s, s->now + 5 * BP_SEC);
    }
}

static void ticks_pass(struct sim *s)
{
    struct bp_link_stats a0, b0, a1, b1;

    bp_link_stats(s->a.link, &a0);
    bp_link_stats(s->b.link, &b0);
    for (unsigned i = 0; i < 10; i++) {
        bp_link_tick(s->a.link);
        bp_link_tick(s->b.link);
        sim_flush(s);
        sim_run(s, s->now + 15 * BP_SEC);
    }
    bp_link_stats(s->a.link, &a1);
    bp_link_stats(s->b.link, &b1);
    assert_int_equal(a1.frames_in, a0.frames_in + 10);
    assert_int_equal(b1.frames_in, b0.frames_in + 10);
}

static bool has_held(const struct sim_node *n)
{
    struct bp_link_stats st;

    bp_link_stats(n->link, &st);
    return st.held > 0;
}

/* The receiver, or both receivers, hold for minutes, then go on. */
static void hold(uint64_t seed, bool both, unsigned loss)
{
    struct sim s;
    struct sim_flow ab = {.from = &s.a, .to = &s.b};
    struct sim_flow ba = {.from = &s.b, .to = &s.a};

    sim_init(&s, seed);
    s.keepalive = 2 * BP_SEC;
    s.net.loss = loss;
    s.a_holds = both;
    s.b_holds = true;
    for (unsigned i = 0; i < SIM_SENDERS; i++) { /* soon a fence: number 96 */
        ab.sent[i] = ab.got[i] = ba.sent[i] = ba.got[i] = 92;
    }
    sim_connect_up(&s);
    fill(&s, &ab);
    if (both) {
        fill(&s, &ba);
    } else {
        sim_flow_run(&s, &ba, 3000, BP_SEC);
        sim_flow_drain(&s, &ba, 2 * BP_SEC);
    }
    ticks_pass(&s);
    assert_true(has_held(&s.a)); /* fences wait too */
    bp_link_deliver(s.b.link);
    if (both) {
        sim_run(&s, s.now + 10 * BP_SEC);
        bp_link_deliver(s.a.link);
    }
    sim_flow_drain(&s, &ab, 60 * BP_SEC);
    sim_flow_drain(&s, &ba, 60 * BP_SEC);
    ticks_pass(&s);
    sim_free(&s);
    assert_int_equal(s.a.bins + s.b.bins, 0);
}

static void blocked_receiver_goes_on_everything_arrives(void **state)
{
    (void)state;
    hold(t_seed(400), false, 0);
    hold(t_seed(401), false, 20);
}

static void blocked_both_receivers_go_on_everything_arrives(void **state)
{
    (void)state;
    hold(t_seed(402), true, 0);
    hold(t_seed(403), true, 20);
}

/* One process sends more than a stream may have under way; the others' messages overtake it. */
/* What was taken before the receiver held is given back, though it holds when it writes next. */
static void blocked_receiver_gives_back_what_it_took(void **state)
{
    static uint8_t buf[2 * 65536 + 1024];
    struct bp_tx_run runs[BP_TX_RUNS];
    unsigned n_runs;
    uint64_t took = 0;
    struct sim s;

    (void)state;
    sim_init(&s, t_seed(406));
    sim_connect_up(&s);
    sim_send_message(&s.a, 0, 0, 8000);
    assert_int_equal(bp_link_write(s.a.link, buf, sizeof(buf), runs, &n_runs, s.now), 0);
    for (unsigned i = 0; i < n_runs; i++) {
        for (size_t off = 0; off < runs[i].len; off += runs[i].seg) {
            size_t left = runs[i].len - off;
            assert_int_equal(bp_link_read(s.b.link, &s.b.addr, &s.a.addr, buf + runs[i].off + off,
                                          left < runs[i].seg ? left : runs[i].seg, s.now),
                             0);
        }
    }
    for (unsigned i = 0; i < BP_DIST_STREAMS_MAX; i++) {
        took += s.b.link->uncredited[i];
    }
    assert_true(took >= 8000);
    bp_link_hold(s.b.link);
    for (unsigned i = 0; i < BP_DIST_STREAMS_MAX; i++) {
        assert_int_equal(s.b.link->uncredited[i], 0);
    }
    sim_free(&s);
}

static void blocked_stream_does_not_hold_others(void **state)
{
    struct sim s;
    struct sim_flow ab = {.from = &s.a, .to = &s.b};
    const struct bp_conn *c;
    uint32_t before;
    unsigned blocked = 0;

    (void)state;
    sim_init(&s, 404);
    s.b_holds = true;
    sim_connect_up(&s);
    c = bp_link_conn(s.a.link);
    for (uint32_t i = 0; i < 60; i++) { /* 6 MB: below the first fence */
        sim_send_message(&s.a, 0, ab.sent[0]++, 100000);
        ab.n_sent++;
    }
    sim_flush(&s);
    sim_run(&s, s.now + 5 * BP_SEC);
    for (unsigned i = 0; i < c->n_streams; i++) {
        blocked += c->streams[i].q.sent < c->streams[i].q.end;
    }
    assert_int_equal(blocked, 1);
    sim_receive(&s.b, ab.got, &ab.n_got);
    before = ab.n_got;
    assert_true(before > 20 && before < 60);
    for (uint32_t who = 1; who < SIM_SENDERS; who++) {
        sim_send_message(&s.a, who, ab.sent[who]++, 1000);
        ab.n_sent++;
    }
    sim_flush(&s);
    sim_run(&s, s.now + BP_SEC);
    sim_receive(&s.b, ab.got, &ab.n_got);
    /* All but those who share the stream. */
    assert_true(ab.n_got - before >= SIM_SENDERS / 2);
    bp_link_deliver(s.b.link);
    sim_flow_drain(&s, &ab, 10 * BP_SEC);
    sim_free(&s);
}

/* Every stream has bytes waiting; each of them goes on. */
static void blocked_all_streams_go_on(void **state)
{
    struct sim s;
    struct sim_flow ab = {.from = &s.a, .to = &s.b};
    const struct bp_conn *c;
    unsigned waiting = 0;

    (void)state;
    sim_init(&s, 405);
    s.b_holds = true;
    sim_connect_up(&s);
    fill(&s, &ab);
    for (uint32_t who = 0; who < SIM_SENDERS; who++) {
        if (ab.sent[who] % 97 != 96) {
            sim_send_message(&s.a, who, ab.sent[who]++, 50000);
            ab.n_sent++;
        }
    }
    sim_flush(&s);
    c = bp_link_conn(s.a.link);
    for (unsigned i = 0; i < c->n_streams; i++) {
        waiting += c->streams[i].q.sent < c->streams[i].q.end;
    }
    /* All that carry data; one of the 16 has no sender here. Two are for auth and control. */
    assert_int_equal(waiting, c->n_streams - 2);
    assert_true(waiting >= 15);
    bp_link_deliver(s.b.link);
    sim_flow_drain(&s, &ab, 30 * BP_SEC);
    sim_free(&s);
}

/*
 * Bulk of one process is queued first, then small messages of others. Erlang promises no order
 * between them, but programs have come to expect it of one connection: a small message must not
 * pass bulk in our queue, only when the network loses something.
 */
static void small_messages_do_not_pass_bulk_of_others(void **state)
{
    enum { BULK = 40, OTHERS = 12 };
    struct sim s;
    struct sim_flow f = {.from = &s.a, .to = &s.b};

    (void)state;
    sim_init(&s, t_seed(404));
    sim_connect_up(&s);
    for (uint32_t n = 0; n < BULK; n++) {
        sim_send_message(&s.a, 0, f.sent[0]++, 100000);
    }
    for (uint32_t sender = 1; sender <= OTHERS; sender++) {
        sim_send_message(&s.a, sender, f.sent[sender]++, 10);
    }
    f.n_sent = BULK + OTHERS;
    sim_flush(&s);
    while (f.got[0] < BULK) {
        sim_run(&s, s.now + 100 * 1000);
        sim_receive(&s.b, f.got, &f.n_got);
        for (uint32_t sender = 1; f.got[0] < BULK - 1 && sender <= OTHERS; sender++) {
            assert_int_equal(f.got[sender], 0);
        }
    }
    sim_flow_drain(&s, &f, 10 * BP_SEC);
    sim_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_messages_do_not_pass_bulk_of_others),
        cmocka_unit_test(blocked_receiver_goes_on_everything_arrives),
        cmocka_unit_test(blocked_both_receivers_go_on_everything_arrives),
        cmocka_unit_test(blocked_receiver_gives_back_what_it_took),
        cmocka_unit_test(blocked_stream_does_not_hold_others),
        cmocka_unit_test(blocked_all_streams_go_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
