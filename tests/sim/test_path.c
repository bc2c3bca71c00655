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
    mtu_is(0, 16384);
}

static void path_mtu_shrinks_under_bulk_transfer_goes_on(void **state)
{
    struct path_test t;
    uint32_t before;

    (void)state;
    start(&t, 40);
    sim_connect_up(&t.s);
    sim_flow_run(&t.s, &t.ab, 20000, 2 * BP_SEC);
    assert_int_equal(datagram_size(&t.s.a), 16384);
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
    assert_int_equal(datagram_size(&t.s.b), 16384);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(path_mtu_is_found),
        cmocka_unit_test(path_mtu_shrinks_under_bulk_transfer_goes_on),
        cmocka_unit_test(path_mtu_shrinks_for_a_minute_is_used_again),
        cmocka_unit_test(path_mtu_shrinks_single_message_arrives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
