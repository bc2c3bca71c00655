/* SPDX-License-Identifier: Apache-2.0 */
/* Path MTU probes are not in the way of messages, and large datagrams are used soon. */
#include "sim/traffic.h"
#include "support/t.h"

#define US (BP_MS / 1000)

static struct bp_conn_stats stats(const struct sim_node *n)
{
    struct bp_conn_stats st;

    bp_conn_stats(bp_link_conn(n->link), &st);
    return st;
}

/* b is killed when the link has been up for `up`, and is back `silent` later, when a sends. */
static void first_message_brings_reset(bp_time up, bp_time silent, size_t payload)
{
    struct sim s;
    struct sim_flow ab = {.from = &s.a, .to = &s.b};
    uint64_t sent;
    bp_time at;

    sim_init(&s, 200);
    s.net.delay = 50 * US;
    s.keepalive = 2 * BP_SEC;
    sim_connect_up(&s);
    sim_run(&s, s.now + up);
    sim_restart_b(&s);
    s.net.cut = true;
    sim_run(&s, s.now + silent);
    assert_false(s.a.failed);
    s.net.cut = false;
    sent = s.net.n_sent;
    at = s.now;
    sim_flow_send(&s, &ab, payload);
    sim_flush(&s);
    if (s.net.n_sent == sent) {
        fail_msg("killed after %llu us, silent for %llu ms: %llu of %llu bytes are under way",
                 (unsigned long long)(up / US), (unsigned long long)(silent / BP_MS),
                 (unsigned long long)stats(&s.a).bytes_in_flight,
                 (unsigned long long)stats(&s.a).cwnd);
    }
    while (!s.a.failed) {
        assert_true(sim_step(&s, at + BP_MS));
    }
    assert_int_equal(bp_link_error(s.a.link), BP_E_STATELESS_RESET);
    sim_free(&s);
    assert_int_equal(s.a.owners, 0);
}

static void peer_killed_when_just_up_next_message_leaves(void **state)
{
    static const bp_time silent[] = {0, 20 * BP_MS, 100 * BP_MS, 500 * BP_MS, 1500 * BP_MS};

    (void)state;
    for (bp_time up = 0; up <= 800 * US; up += 50 * US) {
        for (unsigned i = 0; i < sizeof(silent) / sizeof(silent[0]); i++) {
            first_message_brings_reset(up, silent[i], 100);
            first_message_brings_reset(up, silent[i], 40000);
        }
    }
}

/* Both ends live and have nothing to send but probes. */
static void window_stays_open(size_t mtu, bp_time delay)
{
    struct sim s;
    bp_time until;

    sim_init(&s, 220 + mtu);
    s.net.mtu = mtu;
    s.net.delay = delay;
    s.keepalive = 2 * BP_SEC;
    sim_connect_up(&s);
    until = s.now + 10 * BP_SEC;
    while (sim_step(&s, until)) {
        const struct sim_node *ends[] = {&s.a, &s.b};

        for (unsigned i = 0; i < 2; i++) {
            struct bp_conn_stats st = stats(ends[i]);

            if (st.bytes_in_flight + 4000 > st.cwnd) {
                fail_msg("mtu %zu: %llu of %llu bytes are under way at %s", mtu,
                         (unsigned long long)st.bytes_in_flight, (unsigned long long)st.cwnd,
                         ends[i]->name);
            }
        }
    }
    if (mtu == 0) {
        assert_int_equal(stats(&s.a).datagram_size, BP_DGRAM_SENT);
        assert_int_equal(stats(&s.b).datagram_size, BP_DGRAM_SENT);
    }
    sim_free(&s);
}

static void idle_link_probes_leave_room(void **state)
{
    static const size_t mtus[] = {0, 1200, 1252, 1452, 9000};

    (void)state;
    for (unsigned i = 0; i < sizeof(mtus) / sizeof(mtus[0]); i++) {
        window_stays_open(mtus[i], 50 * US);
        window_stays_open(mtus[i], 20 * BP_MS);
        window_stays_open(mtus[i], 150 * BP_MS);
    }
}

/* A sender that never pauses: its window is always full, and the sizes are found beside it. */
static void bulk_uses_large_datagrams_soon(void **state)
{
    static const bp_time delays[] = {50 * US, 5 * BP_MS, 50 * BP_MS};

    (void)state;
    for (unsigned i = 0; i < sizeof(delays) / sizeof(delays[0]); i++) {
        struct sim s;
        struct sim_flow ab = {.from = &s.a, .to = &s.b};
        bp_time at;

        sim_init(&s, 240 + i);
        s.net.delay = delays[i];
        sim_connect_up(&s);
        at = s.now;
        while (stats(&s.a).datagram_size != BP_DGRAM_SENT) {
            sim_flow_run(&s, &ab, 60000, BP_MS);
            assert_true(s.now < at + 10 * 2 * delays[i] + 2 * BP_MS);
        }
        print_message("%.1f ms round trip: datagrams of %u bytes after %.1f ms\n",
                      (double)delays[i] * 2 / BP_MS, BP_DGRAM_SENT, (double)(s.now - at) / BP_MS);
        sim_flow_drain(&s, &ab, 5 * BP_SEC);
        sim_free(&s);
    }
}

/* Probes that the device itself does not take, while the ends have acknowledgements and messages to
 * send: what is written behind a probe must not be refused with it. */
static void probe_refused_by_the_device_takes_nothing_along(void **state)
{
    static const bp_time delays[] = {50 * US, 5 * BP_MS, 50 * BP_MS};

    (void)state;
    for (unsigned i = 0; i < sizeof(delays) / sizeof(delays[0]); i++) {
        struct sim s;
        struct sim_flow ab = {.from = &s.a, .to = &s.b};
        struct sim_flow ba = {.from = &s.b, .to = &s.a};

        sim_init(&s, 260 + i);
        s.net.delay = delays[i];
        s.net.device = 1472;
        sim_connect_up(&s);
        for (unsigned k = 0; k < 400; k++) {
            for (unsigned m = 0; m <= k % 7; m++) {
                sim_flow_send(&s, k % 2 == 0 ? &ab : &ba, 100);
            }
            sim_flush(&s);
            sim_flow_run(&s, &ab, 0, (k * 37 % 50) * BP_MS);
            sim_flow_run(&s, &ba, 0, BP_MS);
        }
        sim_flow_drain(&s, &ab, 5 * BP_SEC);
        sim_flow_drain(&s, &ba, 5 * BP_SEC);
        assert_true(s.net.n_refused > 0);
        assert_int_equal(s.net.n_dragged, 0);
        sim_free(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(peer_killed_when_just_up_next_message_leaves),
        cmocka_unit_test(idle_link_probes_leave_room),
        cmocka_unit_test(bulk_uses_large_datagrams_soon),
        cmocka_unit_test(probe_refused_by_the_device_takes_nothing_along),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
