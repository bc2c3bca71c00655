/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A peer that is authenticated and then uses streams in ways that the protocol does not know: the
 * link ends on both sides, with an error and a close code that name what happened, and the close
 * code is seen by the other side. User streams, which we do not have yet, are refused and harm
 * nothing.
 */
#include "sim/traffic.h"
#include "support/t.h"

#include "dist/link_impl.h"
#include "quic/conn_impl.h"

struct misuse {
    struct sim s;
    struct sim_node *bad;
    struct sim_node *good;
    struct sim_flow to_good;
    struct sim_flow to_bad;
};

/* A link with traffic in both directions; a is the one that misbehaves, or b. */
static void start_n(struct misuse *m, uint64_t seed, bool server, unsigned n_streams)
{
    *m = (struct misuse){0};
    sim_init(&m->s, seed);
    m->s.a.dist_streams = m->s.b.dist_streams = n_streams;
    m->bad = server ? &m->s.b : &m->s.a;
    m->good = server ? &m->s.a : &m->s.b;
    m->to_good = (struct sim_flow){.from = m->bad, .to = m->good};
    m->to_bad = (struct sim_flow){.from = m->good, .to = m->bad};
    sim_connect_up(&m->s);
    sim_flow_run(&m->s, &m->to_good, 1000, 200 * BP_MS);
    sim_flow_run(&m->s, &m->to_bad, 1000, 200 * BP_MS);
    sim_flow_drain(&m->s, &m->to_good, BP_SEC);
    sim_flow_drain(&m->s, &m->to_bad, BP_SEC);
}

static void start(struct misuse *m, uint64_t seed, bool server)
{
    start_n(m, seed, server, BP_DIST_STREAMS_MAX);
}

/* Both ends are down within a second, and the bad one was told why. */
static void ends(struct misuse *m, int expected)
{
    char code[32];

    sim_flush(&m->s);
    sim_run(&m->s, m->s.now + BP_SEC);
    assert_true(m->good->failed && m->bad->failed);
    assert_int_equal(bp_link_error(m->good->link), expected);
    assert_int_equal(bp_link_error(m->bad->link), BP_E_PEER_CLOSED);
    snprintf(code, sizeof(code), "code 0x%llx", (unsigned long long)bp_err_close_code(expected));
    assert_non_null(strstr(bp_link_error_text(m->bad->link), code));
    assert_non_null(strstr(bp_link_error_text(m->bad->link), bp_err_atom(expected)));
    sim_free(&m->s);
    assert_int_equal(m->s.a.owners + m->s.b.owners, 0);
    assert_int_equal(m->s.a.bins + m->s.b.bins, 0);
}

static int ignore_reset(void *user, int64_t id, uint64_t code)
{
    (void)user;
    (void)id;
    (void)code;
    return 0;
}

/* The bad one does not mind when its streams are reset. */
static void shrug_off_resets(struct misuse *m)
{
    static struct bp_conn_ops ops;
    struct bp_conn *c = bp_link_conn(m->bad->link);

    ops = *c->ops;
    ops.stream_reset = ignore_reset;
    c->ops = &ops;
}

static ngtcp2_conn *q(const struct misuse *m)
{
    return bp_link_conn(m->bad->link)->q;
}

/* The first stream with data that `m->bad` has opened. */
static int64_t own_stream(const struct misuse *m)
{
    return m->bad == &m->s.a ? 4 : 1;
}

static int64_t other_stream(const struct misuse *m)
{
    return m->bad == &m->s.a ? 1 : 4;
}

/* Bytes on a stream, in the next datagram. */
static void put(struct misuse *m, int64_t id, const char *text, bool fin)
{
    struct bp_conn *c = bp_link_conn(m->bad->link);
    int slot = bp_conn_adopt(c, id);

    assert_true(slot >= 0);
    if (text[0] != '\0') {
        assert_int_equal(bp_conn_put_copy(c, (unsigned)slot, text, strlen(text)), 0);
    }
    if (fin) {
        assert_int_equal(bp_conn_fin(c, (unsigned)slot), 0);
    }
    bp_conn_set_urgent(c, (unsigned)slot);
}

static void misuse_reset_of_data_stream_ends_link(void **state)
{
    struct misuse m;

    (void)state;
    for (unsigned server = 0; server < 2; server++) {
        start(&m, 200 + server, server != 0);
        assert_int_equal(ngtcp2_conn_shutdown_stream_write(q(&m), 0, own_stream(&m), 7), 0);
        ends(&m, BP_E_STREAM_RESET);
    }
}

static void misuse_stop_sending_on_data_stream_ends_link(void **state)
{
    struct misuse m;

    (void)state;
    for (unsigned server = 0; server < 2; server++) {
        start(&m, 202 + server, server != 0);
        shrug_off_resets(&m);
        assert_int_equal(ngtcp2_conn_shutdown_stream_read(q(&m), 0, other_stream(&m), 7), 0);
        sim_flush(&m.s);
        sim_run(&m.s, m.s.now + 100 * BP_MS);
        assert_false(m.good->failed); /* ngtcp2 says it when there is something to write */
        for (uint32_t i = 0; i < SIM_SENDERS; i++) {
            sim_send_message(m.good, i, m.to_bad.sent[i]++, 100);
        }
        ends(&m, BP_E_STREAM_RESET);
    }
}

static void misuse_reset_or_stop_of_control_stream_ends_link(void **state)
{
    struct misuse m;

    (void)state;
    for (unsigned server = 0; server < 2; server++) {
        start(&m, 204 + server, server != 0);
        assert_int_equal(ngtcp2_conn_shutdown_stream_write(q(&m), 0, 0, 7), 0);
        ends(&m, BP_E_STREAM_RESET);
        start(&m, 206 + server, server != 0);
        shrug_off_resets(&m);
        assert_int_equal(ngtcp2_conn_shutdown_stream_read(q(&m), 0, 0, 7), 0);
        sim_flush(&m.s);
        sim_run(&m.s, m.s.now + 100 * BP_MS);
        bp_link_tick(m.good->link);
        ends(&m, BP_E_STREAM_RESET);
    }
}

static void misuse_finished_stream_ends_link(void **state)
{
    struct misuse m;

    (void)state;
    for (unsigned server = 0; server < 2; server++) {
        start(&m, 208 + server, server != 0);
        put(&m, own_stream(&m), "", true);
        ends(&m, BP_E_STREAM_FINISHED);
        start(&m, 210 + server, server != 0);
        put(&m, 0, "", true);
        ends(&m, BP_E_STREAM_FINISHED);
    }
}

/* Frames go from who opened a stream to the other; nothing comes back on it. */
static void misuse_data_on_our_stream_ends_link(void **state)
{
    struct misuse m;

    (void)state;
    for (unsigned server = 0; server < 2; server++) {
        start(&m, 212 + server, server != 0);
        put(&m, other_stream(&m), "x", false);
        ends(&m, BP_E_STREAM_UNEXPECTED);
    }
}

static void misuse_second_uni_stream_ends_link(void **state)
{
    struct misuse m;
    int64_t id;

    (void)state;
    for (unsigned server = 0; server < 2; server++) {
        start(&m, 214 + server, server != 0);
        assert_true(bp_conn_open_uni(bp_link_conn(m.bad->link), &id) >= 0);
        put(&m, id, "x", false);
        ends(&m, BP_E_STREAM_UNEXPECTED);
    }
}

static void misuse_garbage_on_control_stream_ends_link(void **state)
{
    struct misuse m;

    (void)state;
    for (unsigned server = 0; server < 2; server++) {
        start(&m, 218 + server, server != 0);
        put(&m, 0, "tick?", false);
        ends(&m, BP_E_HS_MALFORMED);
    }
}

static void misuse_broken_frame_ends_link(void **state)
{
    struct misuse m;

    (void)state;
    for (unsigned server = 0; server < 2; server++) {
        start(&m, 220 + server, server != 0);
        put(&m, own_stream(&m), "\x7f\x7f\x7f\x7f too large", false);
        ends(&m, BP_E_FRAME_TOO_LARGE);
    }
}

static void put_bytes(struct misuse *m, int64_t id, const void *p, size_t len)
{
    struct bp_conn *c = bp_link_conn(m->bad->link);
    int slot = bp_conn_adopt(c, id);

    assert_true(slot >= 0);
    assert_int_equal(bp_conn_put_copy(c, (unsigned)slot, p, len), 0);
    bp_conn_set_urgent(c, (unsigned)slot);
}

/* Ticks, on stream 0 and as empty frames: as many as a node sends in hours are no harm, more are.
 */
static void misuse_ticks_without_end_end_link(void **state)
{
    static const uint8_t zeros[4 * BP_TICKS_BURST + 400];
    struct bp_link_stats st;
    struct misuse m;

    (void)state;
    for (unsigned server = 0; server < 2; server++) {
        for (unsigned data = 0; data < 2; data++) {
            start(&m, 222 + server, server != 0);
            put_bytes(&m, data != 0 ? own_stream(&m) : 0, zeros, 4 * BP_TICKS_BURST);
            sim_flush(&m.s);
            sim_run(&m.s, m.s.now + BP_SEC);
            bp_link_stats(m.good->link, &st);
            assert_false(m.good->failed);
            assert_int_equal(st.ticks_in, BP_TICKS_BURST);
            put_bytes(&m, data != 0 ? own_stream(&m) : 0, zeros, 4 * BP_SEC / BP_TICK_PERIOD);
            sim_flush(&m.s);
            sim_run(&m.s, m.s.now + BP_SEC);
            assert_false(m.good->failed);
            put_bytes(&m, data != 0 ? own_stream(&m) : 0, zeros, sizeof(zeros));
            sim_flush(&m.s);
            sim_run(&m.s, m.s.now + BP_SEC);
            assert_non_null(strstr(bp_link_error_text(m.good->link), "ticks"));
            ends(&m, BP_E_FLOOD);
        }
    }
}

/* The first fragment of `n` messages, 1000 bytes each, as the VM would send it. */
static void begin_messages(struct misuse *m, unsigned from, unsigned n)
{
    uint8_t frame[1004] = {0, 0, 1000 >> 8, 1000 & 0xff, BP_DIST_VERSION, BP_DIST_FRAG_HEADER};

    frame[4 + 17] = 9; /* of nine */
    for (unsigned i = from; i < from + n; i++) {
        frame[4 + 8] = (uint8_t)(i >> 8);
        frame[4 + 9] = (uint8_t)i;
        put_bytes(m, own_stream(m), frame, sizeof(frame));
    }
    sim_flush(&m->s);
    sim_run(&m->s, m->s.now + BP_SEC);
}

static void misuse_messages_that_never_finish_end_link(void **state)
{
    struct bp_link_stats st;
    struct misuse m;

    (void)state;
    for (unsigned server = 0; server < 2; server++) {
        start(&m, 226 + server, server != 0);
        bp_frame_queue_set_unfinished(bp_link_frames(m.good->link),
                                      100000 + 900 * BP_UNFINISHED_PER_FRAGMENT);
        begin_messages(&m, 0, 100);
        bp_link_stats(m.good->link, &st);
        assert_false(m.good->failed);
        assert_int_equal(st.unfinished_bytes, 100000 + 900 * BP_UNFINISHED_PER_FRAGMENT);
        assert_int_equal(st.unfinished_messages, 100);
        begin_messages(&m, 100, 1);
        ends(&m, BP_E_UNFINISHED);
    }
}

/* A frame on each stream that goes on and on. */
static void misuse_frames_that_never_end_end_link(void **state)
{
    static uint8_t half[60000] = {0, 4, 0, 0, BP_DIST_PASS_THROUGH, BP_DIST_VERSION};
    struct misuse m;

    (void)state;
    for (unsigned server = 0; server < 2; server++) {
        start(&m, 228 + server, server != 0);
        bp_frame_queue_set_unfinished(bp_link_frames(m.good->link), 100000);
        put_bytes(&m, own_stream(&m), half, sizeof(half));
        sim_flush(&m.s);
        sim_run(&m.s, m.s.now + BP_SEC);
        assert_false(m.good->failed);
        put_bytes(&m, own_stream(&m) + 4, half, sizeof(half));
        ends(&m, BP_E_UNFINISHED);
    }
}

/* --- before authentication ----------------------------------------------- */

/*
 * A stranger: its TLS is right, then it puts `len` bytes on a stream of its choice instead of
 * authenticating. `streams` bidirectional ones are opened; the last is written (0: the auth
 * stream).
 */
static void stranger_writes(bool server, unsigned streams, size_t len, int expected)
{
    static const uint8_t zeros[100000];
    struct misuse m = {0};
    struct bp_conn *c;
    int64_t id = -1;
    int slot = -1;

    sim_init(&m.s, 240 + streams);
    m.bad = server ? &m.s.b : &m.s.a;
    m.good = server ? &m.s.a : &m.s.b;
    m.bad->auth_mode = BP_AUTH_EXTERNAL; /* its link does nothing by itself */
    assert_int_equal(sim_dial(&m.s), 0);
    while (m.s.b.link == NULL || bp_link_phase(m.bad->link) != BP_LINK_EXTERNAL ||
           bp_link_phase(m.good->link) != BP_LINK_AUTH) {
        assert_true(sim_step(&m.s, 3 * BP_SEC));
    }
    c = bp_link_conn(m.bad->link);
    if (streams == 0) {
        slot = bp_conn_open_uni(c, &id);
    }
    for (unsigned i = 0; i < streams; i++) {
        assert_int_equal(ngtcp2_conn_open_bidi_stream(c->q, &id, NULL), 0);
        slot = bp_conn_adopt(c, id);
        if (i + 1 < streams) {
            c->n_streams--;
        }
    }
    assert_true(slot >= 0);
    assert_int_equal(bp_conn_put_copy(c, (unsigned)slot, zeros, len), 0);
    ends(&m, expected);
}

/* As if the peer had said so. */
static void allow_uni(struct sim_node *n, uint64_t streams)
{
    union {
        const ngtcp2_transport_params *in;
        ngtcp2_transport_params *out;
    } p = {.in = ngtcp2_conn_get_remote_transport_params(bp_link_conn(n->link)->q)};

    p.out->initial_max_streams_uni = streams;
}

static void misuse_stranger_writes_elsewhere_loses_connection(void **state)
{
    (void)state;
    stranger_writes(false, 0, 3, BP_E_AUTH_MALFORMED);
    stranger_writes(false, 0, 100000, BP_E_AUTH_MALFORMED);
    stranger_writes(false, 1, 1, BP_E_AUTH_UNEXPECTED); /* stream 0 */
    stranger_writes(false, 2, 1, BP_E_STREAM_UNEXPECTED);
    stranger_writes(false, 2, 100000, BP_E_STREAM_UNEXPECTED);
    stranger_writes(false, 40, 1, BP_E_STREAM_UNEXPECTED);
    stranger_writes(true, 0, 100000, BP_E_AUTH_MALFORMED);
    stranger_writes(true, 1, 1, BP_E_STREAM_UNEXPECTED);
    stranger_writes(true, 40, 1, BP_E_STREAM_UNEXPECTED);
}

/* The name of a peer that says that it proves who it is afterwards: a splitter holds it, and nobody
 * sees it. */
static void misuse_early_name_is_held_and_no_more(void **state)
{
    static const uint8_t zeros[BP_HS_CAP + 1];
    const uint8_t *msg;
    size_t len;

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct misuse m = {0};
        int slot;
        int64_t id;

        sim_init(&m.s, 250 + i);
        m.bad = &m.s.a;
        m.good = &m.s.b;
        m.bad->auth_mode = BP_AUTH_EXTERNAL;
        assert_int_equal(sim_dial(&m.s), 0);
        while (m.s.b.link == NULL || bp_link_phase(m.bad->link) != BP_LINK_EXTERNAL ||
               bp_link_phase(m.good->link) != BP_LINK_AUTH) {
            assert_true(sim_step(&m.s, 3 * BP_SEC));
        }
        allow_uni(m.good, 101);
        slot = bp_conn_open_bidi(bp_link_conn(m.bad->link), &id);
        assert_true(slot >= 0);
        assert_int_equal(
            bp_conn_put_copy(bp_link_conn(m.bad->link), (unsigned)slot, zeros, BP_HS_CAP + i), 0);
        if (i == 1) {
            ends(&m, BP_E_HS_TOO_LONG);
            continue;
        }
        sim_flush(&m.s);
        sim_run(&m.s, m.s.now + BP_SEC);
        assert_int_equal(m.good->link->setup->split.len, BP_HS_CAP);
        assert_int_equal(bp_link_hs_recv(m.good->link, &msg, &len), BP_E_STATE);
        assert_int_equal(bp_link_phase(m.good->link), BP_LINK_AUTH);
        sim_run(&m.s, m.s.now + 60 * BP_SEC);
        assert_true(m.good->failed);
        assert_false(m.good->authenticated);
        sim_free(&m.s);
    }
}

/* --- user streams -------------------------------------------------------- */

/* Opens all streams that it may and writes up to `want` bytes, as they fit, on each. */
static uint64_t open_and_write(struct misuse *m, size_t want)
{
    static uint8_t data[12000];
    static uint8_t buf[65536];
    uint64_t sum = 0;
    int64_t id;

    while (ngtcp2_conn_open_bidi_stream(q(m), &id, NULL) == 0) {
        ngtcp2_path_storage ps;
        ngtcp2_pkt_info pi;
        ngtcp2_ssize taken = -1;
        ngtcp2_ssize n;

        if (id / 4 <= (int64_t)BP_DIST_STREAMS_MAX) {
            continue; /* one that is for frames */
        }
        ngtcp2_path_storage_zero(&ps);
        n = ngtcp2_conn_write_stream(q(m), &ps.path, &pi, buf, sizeof(buf), &taken, 0, id, data,
                                     want, bp_conn_clock(bp_link_conn(m->bad->link), m->s.now));
        assert_true(n >= 0);
        if (n > 0) {
            sim_transmit(&m->s, m->bad, buf, (size_t)n);
        }
        sum += taken > 0 ? (uint64_t)taken : 0;
        if (taken <= 0) {
            /* Congestion: this one is given up empty. */
            assert_int_equal(ngtcp2_conn_shutdown_stream(q(m), 0, id, 0), 0);
        }
    }
    return sum;
}

/*
 * As many streams as are allowed, again and again, with more data than the connection's window:
 * each is refused, its credit comes back, and frames are not disturbed.
 */
static void misuse_many_user_streams_are_refused(void **state)
{
    struct misuse m;

    (void)state;
    for (unsigned server = 0; server < 2; server++) {
        uint64_t sum = 0;

        start_n(&m, 230 + server, server != 0, 1);
        shrug_off_resets(&m);
        for (unsigned round = 0; sum < 20000000u; round++) {
            assert_true(round < 500);
            sim_run(&m.s, m.s.now + 20 * BP_MS); /* what was sent before is not paced any more */
            sum += open_and_write(&m, 12000);
            sim_flow_run(&m.s, &m.to_good, 1000, 50 * BP_MS);
            sim_flow_run(&m.s, &m.to_bad, 1000, 50 * BP_MS);
        }
        sim_flow_drain(&m.s, &m.to_good, BP_SEC);
        sim_flow_drain(&m.s, &m.to_bad, BP_SEC);
        sim_free(&m.s);
    }
}

/* Streams without end are a flood. */
static void misuse_user_streams_without_end_end_link(void **state)
{
    struct bp_link_stats st;
    struct misuse m;

    (void)state;
    for (unsigned server = 0; server < 2; server++) {
        unsigned round = 0;

        start_n(&m, 232 + server, server != 0, 1);
        shrug_off_resets(&m);
        for (; !m.good->failed; round++) {
            assert_true(round < 1000);
            (void)open_and_write(&m, 1);
            sim_flush(&m.s);
            sim_run(&m.s, m.s.now + 25 * BP_MS);
        }
        bp_link_stats(m.good->link, &st);
        assert_in_range(st.user_streams_refused, BP_USER_STREAMS_BURST,
                        BP_USER_STREAMS_BURST + round * 25 * BP_MS / BP_USER_STREAM_PERIOD + 1);
        assert_non_null(strstr(bp_link_error_text(m.good->link), "user streams"));
        ends(&m, BP_E_FLOOD);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(misuse_reset_of_data_stream_ends_link),
        cmocka_unit_test(misuse_stop_sending_on_data_stream_ends_link),
        cmocka_unit_test(misuse_reset_or_stop_of_control_stream_ends_link),
        cmocka_unit_test(misuse_finished_stream_ends_link),
        cmocka_unit_test(misuse_data_on_our_stream_ends_link),
        cmocka_unit_test(misuse_second_uni_stream_ends_link),
        cmocka_unit_test(misuse_garbage_on_control_stream_ends_link),
        cmocka_unit_test(misuse_broken_frame_ends_link),
        cmocka_unit_test(misuse_ticks_without_end_end_link),
        cmocka_unit_test(misuse_messages_that_never_finish_end_link),
        cmocka_unit_test(misuse_frames_that_never_end_end_link),
        cmocka_unit_test(misuse_user_streams_without_end_end_link),
        cmocka_unit_test(misuse_stranger_writes_elsewhere_loses_connection),
        cmocka_unit_test(misuse_early_name_is_held_and_no_more),
        cmocka_unit_test(misuse_many_user_streams_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
