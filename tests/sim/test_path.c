/* SPDX-License-Identifier: Apache-2.0 */
/* What a network may do to an established link: its MTU, silence, NAT, damage, stalled hosts. */
#include "sim/traffic.h"
#include "support/t.h"

/* The product's defaults (driver/settings.c). */
#define DEFAULT_KEEPALIVE (2 * BP_SEC)
#define DEFAULT_IDLE      (300 * BP_SEC)

struct path_test {
    struct sim s;
    struct sim_flow ab;
    struct sim_flow ba;
};

static void start(struct path_test *t, uint64_t seed)
{
    *t = (struct path_test){0};
    sim_init(&t->s, seed);
    t->s.keepalive = DEFAULT_KEEPALIVE;
    t->s.idle_timeout = DEFAULT_IDLE;
    t->ab = (struct sim_flow){.from = &t->s.a, .to = &t->s.b};
    t->ba = (struct sim_flow){.from = &t->s.b, .to = &t->s.a};
}

static void finish(struct path_test *t)
{
    sim_free(&t->s);
    assert_int_equal(t->s.a.bins, 0);
    assert_int_equal(t->s.b.bins, 0);
    assert_int_equal(t->s.a.owners, 0);
    assert_int_equal(t->s.b.owners, 0);
}

static size_t datagram_size(struct sim_node *n)
{
    struct bp_conn_stats st;

    bp_conn_stats(bp_link_conn(n->link), &st);
    return (size_t)st.datagram_size;
}

/* --- MTU ----------------------------------------------------------------- */

static void mtu_is(size_t mtu, size_t expected)
{
    struct path_test t;

    start(&t, 30 + mtu);
    t.s.net.mtu = mtu;
    sim_connect_up(&t.s);
    sim_flow_run(&t.s, &t.ab, 20000, 5 * BP_SEC);
    sim_flow_drain(&t.s, &t.ab, 5 * BP_SEC);
    sim_flow_run(&t.s, &t.ba, 20000, BP_SEC);
    sim_flow_drain(&t.s, &t.ba, 5 * BP_SEC);
    assert_int_equal(datagram_size(&t.s.a), expected);
    assert_int_equal(datagram_size(&t.s.b), expected);
    assert_int_equal(t.s.net.largest, expected);
    finish(&t);
}

static void path_mtu_is_found(void **state)
{
    (void)state;
    mtu_is(1200, 1200);
    mtu_is(1252, 1232);
    mtu_is(1280, 1232);
    mtu_is(1452, 1452);
    mtu_is(9000, 8952);
    mtu_is(0, BP_DGRAM_SENT);
}

/* What a node sends stays below its own limit; its peer has none. */
static void limit_is(uint32_t limit, size_t expected)
{
    struct path_test t;

    start(&t, 50 + limit);
    t.s.a.max_datagram = limit;
    sim_connect_up(&t.s);
    sim_flow_run(&t.s, &t.ab, 20000, 5 * BP_SEC);
    sim_flow_drain(&t.s, &t.ab, 5 * BP_SEC);
    assert_int_equal(datagram_size(&t.s.a), expected);
    assert_int_equal(t.s.a.largest_sent, expected);
    sim_flow_run(&t.s, &t.ba, 20000, BP_SEC);
    sim_flow_drain(&t.s, &t.ba, 5 * BP_SEC);
    assert_int_equal(datagram_size(&t.s.b), BP_DGRAM_SENT);
    assert_int_equal(t.s.a.largest_sent, expected);
    finish(&t);
}

static void datagram_limit_is_never_exceeded(void **state)
{
    (void)state;
    limit_is(1, 1200);
    limit_is(1200, 1200);
    limit_is(1201, 1201);
    limit_is(1452, 1452);
    limit_is(5000, 5000);
    limit_is(16384, BP_DGRAM_SENT);
    limit_is(65507, BP_DGRAM_SENT);
    limit_is(100000, BP_DGRAM_SENT);
}

/* Loss that is not congestion: with an algorithm that takes it for that (Cubic: 0.6 MB/s here) all
 * that is sent queues up, and the small messages wait in the queue. */
static void path_that_loses_stays_fast(void **state)
{
    struct sim s;
    struct sim_flow ab = {.from = &s.a, .to = &s.b};

    (void)state;
    sim_init(&s, t_seed(60));
    s.net.delay = 20 * BP_MS;
    s.net.loss = 10;
    s.net.mtu = 1452;
    sim_connect_up(&s);
    sim_flow_run(&s, &ab, 10000, 3 * BP_SEC);
    print_message("%.1f MB/s at 1 %% loss and 20 ms each way\n", ab.n_got * 0.01 / 3);
    assert_true(ab.n_got > 1000); /* of 3000 that were offered */
    sim_flow_drain(&s, &ab, 5 * BP_SEC);
    sim_free(&s);
}

static void path_mtu_shrinks_under_bulk_transfer_goes_on(void **state)
{
    struct path_test t;
    uint32_t before;

    (void)state;
    start(&t, 40);
    sim_connect_up(&t.s);
    sim_flow_run(&t.s, &t.ab, 20000, 2 * BP_SEC);
    assert_int_equal(datagram_size(&t.s.a), BP_DGRAM_SENT);
    t.s.net.mtu = 1280;
    before = t.ab.n_got;
    sim_flow_run(&t.s, &t.ab, 20000, 3 * BP_SEC);
    assert_true(t.ab.n_got > before + 100);
    sim_flow_drain(&t.s, &t.ab, 10 * BP_SEC);
    finish(&t);
}

/* The path is tried again ever more rarely while it stays small, and used when it has recovered. */
static void path_mtu_shrinks_for_a_minute_is_used_again(void **state)
{
    struct path_test t;
    unsigned idle = 0;

    (void)state;
    start(&t, 42);
    sim_connect_up(&t.s);
    sim_flow_run(&t.s, &t.ba, 5000, 2 * BP_SEC);
    t.s.net.mtu = 1280;
    for (unsigned i = 0; i < 600; i++) {
        uint32_t before = t.ba.n_got;
        sim_flow_run(&t.s, &t.ba, i % 10 == 0 ? 5000 : 0, 100 * BP_MS);
        idle += i % 10 == 0 && t.ba.n_got == before;
    }
    assert_true(idle <= 8); /* tries at 1, 3, 7, 15, 31 s */
    assert_int_equal(datagram_size(&t.s.b), 1200);
    t.s.net.mtu = 0;
    sim_flow_run(&t.s, &t.ba, 5000, 70 * BP_SEC);
    assert_int_equal(datagram_size(&t.s.b), BP_DGRAM_SENT);
    sim_flow_drain(&t.s, &t.ba, 5 * BP_SEC);
    finish(&t);
}

/* One message that needs a large packet, on a link that is idle otherwise but for small ones. */
static void path_mtu_shrinks_single_message_arrives(void **state)
{
    struct path_test t;

    (void)state;
    start(&t, 41);
    sim_connect_up(&t.s);
    sim_flow_run(&t.s, &t.ab, 20000, 2 * BP_SEC);
    sim_flow_drain(&t.s, &t.ab, 5 * BP_SEC);
    t.s.net.mtu = 1280;
    sim_flow_send(&t.s, &t.ab, 12000);
    for (unsigned i = 0; i < 300; i++) {
        sim_flow_send(&t.s, &t.ab, 10);
        bp_link_tick(t.s.a.link);
        sim_flush(&t.s);
        sim_flow_run(&t.s, &t.ab, 0, 10 * BP_MS);
    }
    sim_flow_drain(&t.s, &t.ab, 2 * BP_SEC);
    finish(&t);
}

/* --- silence ------------------------------------------------------------- */

/* Nothing gets through for `long_` while both sides want to send. */
static void silence(bp_time long_, uint64_t seed)
{
    struct path_test t;

    start(&t, seed);
    sim_connect_up(&t.s);
    sim_flow_run(&t.s, &t.ab, 3000, BP_SEC);
    t.s.net.cut = true;
    for (unsigned i = 0; i < 50; i++) {
        sim_flow_send(&t.s, &t.ab, 3000);
        sim_flow_send(&t.s, &t.ba, 3000);
    }
    sim_flow_run(&t.s, &t.ab, 0, long_);
    t.s.net.cut = false;
    /* Probes back off: the next one may be as far away as the silence was long. */
    sim_flow_drain(&t.s, &t.ab, long_ + 2 * BP_SEC);
    sim_flow_drain(&t.s, &t.ba, 2 * BP_SEC + long_ / 4);
    finish(&t);
}

static void path_silent_for_a_while_nothing_lost(void **state)
{
    (void)state;
    silence(BP_SEC, 50);
    silence(10 * BP_SEC, 51);
    /* Longer than the VM's net_ticktime: QUIC does not give up by itself before its own limit. */
    silence(90 * BP_SEC, 52);
}

/* As above, with nothing to send but the VM's ticks and what keeps the path open. */
static void path_silent_while_idle_link_stays(void **state)
{
    struct path_test t;

    (void)state;
    start(&t, 53);
    sim_connect_up(&t.s);
    sim_flow_run(&t.s, &t.ab, 0, 5 * BP_SEC);
    t.s.net.cut = true;
    sim_flow_run(&t.s, &t.ab, 0, 10 * BP_SEC);
    t.s.net.cut = false;
    sim_flow_send(&t.s, &t.ab, 100);
    sim_flow_send(&t.s, &t.ba, 100);
    sim_flow_drain(&t.s, &t.ab, 12 * BP_SEC);
    sim_flow_drain(&t.s, &t.ba, 2 * BP_SEC);
    finish(&t);
}

static void path_silent_for_good_both_sides_end(void **state)
{
    struct path_test t;

    (void)state;
    start(&t, 54);
    sim_connect_up(&t.s);
    sim_flow_run(&t.s, &t.ab, 3000, BP_SEC);
    t.s.net.cut = true;
    sim_run(&t.s, t.s.now + DEFAULT_IDLE - 10 * BP_SEC);
    assert_false(t.s.a.failed || t.s.b.failed);
    sim_run(&t.s, t.s.now + 20 * BP_SEC);
    assert_true(t.s.a.failed && t.s.b.failed);
    assert_int_equal(bp_link_error(t.s.a.link), BP_E_IDLE_TIMEOUT);
    assert_int_equal(bp_link_error(t.s.b.link), BP_E_IDLE_TIMEOUT);
    assert_non_null(strstr(bp_link_error_text(t.s.a.link), "nothing was heard from the peer"));
    sim_receive(&t.s.b, t.ab.got, &t.ab.n_got);
    finish(&t);
}

/* --- NAT ----------------------------------------------------------------- */

static void rebinding(uint64_t seed, unsigned loss, bool addresses)
{
    struct path_test t;
    char ip[] = "198.51.100.1";

    start(&t, seed);
    t.s.net.loss = loss;
    t.s.net.jitter = loss > 0 ? 3 * BP_MS : 0;
    sim_connect_up(&t.s);
    for (unsigned i = 0; i < 8; i++) {
        uint32_t ab, ba;

        ip[sizeof(ip) - 2] = (char)('1' + i);
        sim_rebind(&t.s, addresses && i > 0 ? ip : "192.0.2.1", (uint16_t)(20000 + i));
        for (unsigned j = 0; j < 10; j++) {
            sim_flow_run(&t.s, &t.ab, 8000, 50 * BP_MS);
            sim_flow_run(&t.s, &t.ba, 8000, 50 * BP_MS);
        }
        ab = t.ab.n_got;
        ba = t.ba.n_got;
        sim_flow_run(&t.s, &t.ab, 8000, 200 * BP_MS);
        sim_flow_run(&t.s, &t.ba, 8000, 200 * BP_MS);
        assert_true(t.ab.n_got > ab && t.ba.n_got > ba);
    }
    assert_true(t.s.net.n_stale > 0);
    sim_flow_drain(&t.s, &t.ab, 10 * BP_SEC);
    sim_flow_drain(&t.s, &t.ba, 10 * BP_SEC);
    assert_true(bp_addr_equal(bp_conn_remote(bp_link_conn(t.s.b.link)), &t.s.a_seen));
    /* The size of datagrams was found again on the last path. */
    assert_true(loss > 0 || datagram_size(&t.s.b) == BP_DGRAM_SENT);
    assert_true(loss > 0 || datagram_size(&t.s.a) == BP_DGRAM_SENT);
    finish(&t);
}

static void path_nat_changes_port_under_load_nothing_lost(void **state)
{
    (void)state;
    rebinding(t_seed(60), 0, false);
    rebinding(t_seed(61), 20, false);
}

static void path_nat_changes_address_under_load_nothing_lost(void **state)
{
    (void)state;
    rebinding(t_seed(62), 0, true);
    rebinding(t_seed(63), 20, true);
}

/* Only b has something to say; a's keep-alives show where it is. */
static void path_nat_changes_while_peer_is_silent_keepalive_tells(void **state)
{
    struct path_test t;

    (void)state;
    start(&t, 64);
    sim_connect_up(&t.s);
    for (unsigned i = 0; i < 20; i++) {
        sim_flow_run(&t.s, &t.ab, 0, 7 * BP_SEC);
        sim_rebind(&t.s, i % 2 == 0 ? "198.51.100.9" : "192.0.2.1", (uint16_t)(30000 + i));
        sim_flow_send(&t.s, &t.ba, 5000);
        sim_flow_drain(&t.s, &t.ba, 2 * DEFAULT_KEEPALIVE);
    }
    assert_true(bp_addr_equal(bp_conn_remote(bp_link_conn(t.s.b.link)), &t.s.a_seen));
    finish(&t);
}

/* Back and forth between the same two: b knows where a is, also where its library asks no more. */
static void path_nat_changes_back_is_followed(void **state)
{
    struct path_test t;
    struct bp_conn_stats st;

    (void)state;
    start(&t, 66);
    sim_connect_up(&t.s);
    for (unsigned i = 0; i < 12; i++) {
        sim_rebind(&t.s, i % 2 == 0 ? "198.51.100.9" : "192.0.2.1", 30000);
        sim_flow_run(&t.s, &t.ab, 1000, 2 * BP_SEC);
        sim_flow_run(&t.s, &t.ba, 1000, BP_SEC);
        sim_flow_drain(&t.s, &t.ab, 5 * BP_SEC);
        sim_flow_drain(&t.s, &t.ba, 5 * BP_SEC);
        assert_true(bp_addr_equal(bp_conn_remote(bp_link_conn(t.s.b.link)), &t.s.a_seen));
    }
    bp_conn_stats(bp_link_conn(t.s.b.link), &st);
    assert_int_equal(st.migrations, 12);
    finish(&t);
}

/* During the handshake QUIC allows no change (RFC 9000, 9): the link comes up all the same, or
 * fails within the setup time, with words. */
static void path_nat_changes_during_setup_ends_in_words_or_works(void **state)
{
    unsigned up = 0;

    (void)state;
    for (unsigned i = 0; i < 12; i++) {
        struct path_test t;

        start(&t, 110 + i);
        t.s.setup_timeout = 7 * BP_SEC;
        assert_int_equal(sim_dial(&t.s), 0);
        sim_run(&t.s, t.s.now + i * 3 * BP_MS);
        sim_rebind(&t.s, "198.51.100.77", 7777);
        sim_run_auth(&t.s, 8 * BP_SEC);
        if (t.s.a.authenticated && t.s.b.authenticated) {
            assert_int_equal(sim_handshake(&t.s, "a@sim", "b@sim"), 0);
            sim_flow_run(&t.s, &t.ab, 1000, 100 * BP_MS);
            sim_flow_drain(&t.s, &t.ab, 5 * BP_SEC);
            up++;
        } else {
            assert_true(t.s.a.failed && t.s.b.failed);
            assert_int_equal(bp_link_error(t.s.a.link), BP_E_TIMEOUT);
        }
        finish(&t);
    }
    assert_true(up >= 4);
}

/* A forged datagram from elsewhere, or a copy of a real one, moves nothing. */
static void path_copied_datagrams_from_elsewhere_do_not_move_link(void **state)
{
    struct path_test t;
    struct bp_addr real;

    (void)state;
    start(&t, 65);
    sim_connect_up(&t.s);
    sim_flow_run(&t.s, &t.ab, 3000, BP_SEC);
    real = t.s.a_seen;
    t.s.net.spoof_per_mille = 100;
    assert_int_equal(bp_addr_parse(&t.s.net.spoof, "203.0.113.66", 666), 0);
    sim_flow_run(&t.s, &t.ab, 3000, 3 * BP_SEC);
    t.s.net.spoof_per_mille = 0;
    sim_flow_run(&t.s, &t.ab, 3000, 3 * BP_SEC);
    sim_flow_drain(&t.s, &t.ab, 10 * BP_SEC);
    assert_true(t.s.net.n_spoofed > 10);
    assert_true(bp_addr_equal(bp_conn_remote(bp_link_conn(t.s.b.link)), &real));
    finish(&t);
}

/* Hundreds of megabytes on a path too short for pacing; then it becomes longer. What went out
 * before must not be paced afterwards. */
static void path_becomes_longer_after_bulk_no_stall(void **state)
{
    struct sim s;
    struct sim_flow f = {0};

    (void)state;
    sim_init(&s, 90);
    s.net.delay = BP_MS / 50;
    sim_connect_up(&s);
    f = (struct sim_flow){.from = &s.a, .to = &s.b};
    sim_flow_run(&s, &f, 400000, 500 * BP_MS);
    sim_flow_drain(&s, &f, BP_SEC);
    assert_true(f.n_got > 400);
    s.net.delay = 5 * BP_MS;
    for (int i = 0; i < 20; i++) {
        sim_flow_send(&s, &f, 100000);
        sim_flow_drain(&s, &f, 150 * BP_MS);
    }
    sim_free(&s);
}

/* --- damage and stalled hosts -------------------------------------------- */

/* Damaged, cut, doubled and reordered datagrams, from the first one on. */
static void path_damaged_datagrams_do_no_harm(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 12; i++) {
        struct path_test t;

        start(&t, t_seed(70 + i));
        t.s.net.flip = 100;
        t.s.net.dup = 100;
        t.s.net.jitter = 10 * BP_MS;
        sim_connect_up(&t.s);
        sim_flow_run(&t.s, &t.ab, 4000, 2 * BP_SEC);
        sim_flow_run(&t.s, &t.ba, 4000, 2 * BP_SEC);
        sim_flow_drain(&t.s, &t.ab, 60 * BP_SEC);
        sim_flow_drain(&t.s, &t.ba, 60 * BP_SEC);
        assert_true(t.s.net.n_flipped > 50);
        finish(&t);
    }
}

/* A host that is suspended: its socket's buffer fills, then datagrams are lost. */
static void path_stalled_host_nothing_lost(void **state)
{
    static const bp_time stalls[] = {100 * BP_MS, BP_SEC, 10 * BP_SEC};

    (void)state;
    for (unsigned i = 0; i < sizeof(stalls) / sizeof(stalls[0]); i++) {
        struct path_test t;

        start(&t, 90 + i);
        sim_connect_up(&t.s);
        sim_flow_run(&t.s, &t.ab, 30000, BP_SEC);
        sim_stall(&t.s, &t.s.b, true);
        sim_flow_run(&t.s, &t.ab, 30000, stalls[i]);
        sim_stall(&t.s, &t.s.b, false);
        sim_flow_run(&t.s, &t.ab, 30000, 100 * BP_MS);
        sim_stall(&t.s, &t.s.a, true);
        sim_flow_run(&t.s, &t.ba, 30000, stalls[i]);
        sim_stall(&t.s, &t.s.a, false);
        sim_flow_drain(&t.s, &t.ab, stalls[i] + 5 * BP_SEC);
        sim_flow_drain(&t.s, &t.ba, stalls[i] + 5 * BP_SEC);
        finish(&t);
    }
}

/* --- statistics ---------------------------------------------------------- */

/* ngtcp2 tells from 1.16 on. */
static void path_lost_packets_are_counted(void **state)
{
    struct path_test t;
    struct bp_conn_stats st;
    uint64_t lost;

    (void)state;
    start(&t, 90);
    t.s.net.delay = 10 * BP_MS;
    sim_connect_up(&t.s);
    bp_conn_stats(bp_link_conn(t.s.a.link), &st);
    if (st.packets_lost == BP_UNKNOWN) {
        finish(&t);
        skip();
    }
    sim_flow_run(&t.s, &t.ab, 5000, BP_SEC);
    bp_conn_stats(bp_link_conn(t.s.a.link), &st);
    assert_int_equal(st.packets_lost, 0);
    lost = t.s.net.n_lost;
    t.s.net.loss = 50;
    sim_flow_run(&t.s, &t.ab, 5000, 5 * BP_SEC);
    t.s.net.loss = 0;
    sim_flow_drain(&t.s, &t.ab, 5 * BP_SEC);
    lost = t.s.net.n_lost - lost; /* of both directions, acknowledgements too */
    bp_conn_stats(bp_link_conn(t.s.a.link), &st);
    print_message("%llu lost, %llu counted\n", (unsigned long long)lost,
                  (unsigned long long)st.packets_lost);
    assert_in_range(st.packets_lost, lost / 4, lost);
    finish(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(path_mtu_is_found),
        cmocka_unit_test(datagram_limit_is_never_exceeded),
        cmocka_unit_test(path_that_loses_stays_fast),
        cmocka_unit_test(path_mtu_shrinks_under_bulk_transfer_goes_on),
        cmocka_unit_test(path_mtu_shrinks_for_a_minute_is_used_again),
        cmocka_unit_test(path_mtu_shrinks_single_message_arrives),
        cmocka_unit_test(path_silent_for_a_while_nothing_lost),
        cmocka_unit_test(path_silent_while_idle_link_stays),
        cmocka_unit_test(path_silent_for_good_both_sides_end),
        cmocka_unit_test(path_nat_changes_port_under_load_nothing_lost),
        cmocka_unit_test(path_nat_changes_address_under_load_nothing_lost),
        cmocka_unit_test(path_nat_changes_while_peer_is_silent_keepalive_tells),
        cmocka_unit_test(path_nat_changes_back_is_followed),
        cmocka_unit_test(path_nat_changes_during_setup_ends_in_words_or_works),
        cmocka_unit_test(path_copied_datagrams_from_elsewhere_do_not_move_link),
        cmocka_unit_test(path_damaged_datagrams_do_no_harm),
        cmocka_unit_test(path_stalled_host_nothing_lost),
        cmocka_unit_test(path_becomes_longer_after_bulk_no_stall),
        cmocka_unit_test(path_lost_packets_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
