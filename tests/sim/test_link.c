/* SPDX-License-Identifier: Apache-2.0 */
/* Whole links against each other over good and bad networks, in virtual time. */
#include "sim/traffic.h"
#include "support/t.h"

#include "quic/conn_impl.h"
#include "quic/packet_crypt.h"

#define MESSAGES 10000u

static void link_clean_network_authenticates(void **state)
{
    struct sim s;

    (void)state;
    sim_init(&s, 1);
    sim_connect_up(&s);
    assert_string_equal(s.a.peer, "b@sim");
    assert_string_equal(s.b.peer, "a@sim");
    assert_true(s.a.pin_wanted && s.b.pin_wanted);
    assert_true(s.a.has_key && s.b.has_key);
    sim_free(&s);
}

/* One round trip for QUIC, one for the proofs; the distribution handshake takes two more. */
static void link_authenticates_in_two_round_trips(void **state)
{
    struct sim s;
    bp_time start;

    (void)state;
    sim_init(&s, 11);
    s.net.delay = 50 * BP_MS;
    start = s.now;
    assert_int_equal(sim_dial(&s), 0);
    sim_run_auth(&s, BP_SEC);
    assert_true(s.a.authenticated && s.b.authenticated);
    assert_in_range(s.now - start, 4 * s.net.delay, 4 * s.net.delay + BP_MS);
    sim_free(&s);
}

/* ngtcp2 ends the process when its clock goes back; a host that passes times a little out of order
 * must not come to know that. */
static void link_clock_going_back_is_harmless(void **state)
{
    static uint8_t buf[2 * 65536 + 1024];
    struct bp_tx_run runs[BP_TX_RUNS];
    unsigned n;
    struct sim s;

    (void)state;
    sim_init(&s, 12);
    sim_connect_up(&s);
    assert_int_equal(bp_link_write(s.a.link, buf, sizeof(buf), runs, &n, s.now - BP_SEC), 0);
    assert_int_equal(bp_link_on_timer(s.a.link, s.now + BP_SEC), 0);
    assert_int_equal(bp_link_on_timer(s.a.link, s.now), 0);
    assert_int_equal(
        bp_link_read(s.a.link, &s.a.addr, &s.b.addr, (const uint8_t *)"x", 1, s.now - BP_SEC), 0);
    sim_free(&s);
}

/* --- frames -------------------------------------------------------------- */

static void exchange(uint64_t seed, unsigned loss, unsigned dup, bp_time jitter)
{
    struct sim s;
    uint32_t at_a[SIM_SENDERS] = {0}, at_b[SIM_SENDERS] = {0};
    uint32_t from_a[SIM_SENDERS] = {0}, from_b[SIM_SENDERS] = {0};
    uint32_t got_a = 0, got_b = 0, sent = 0;
    bp_time until;

    sim_init(&s, seed);
    s.net.loss = loss;
    s.net.dup = dup;
    s.net.jitter = jitter;
    sim_connect_up(&s);
    until = s.now + 600 * BP_SEC;
    while (got_a < MESSAGES || got_b < MESSAGES) {
        for (unsigned i = 0; i < 20 && sent < MESSAGES && bp_link_pending(s.a.link) < 500000; i++) {
            uint32_t who = (uint32_t)(t_rand(&s.rng) % SIM_SENDERS);
            size_t payload =
                t_rand(&s.rng) % 50 == 0 ? t_rand(&s.rng) % 60000 : t_rand(&s.rng) % 300;
            sim_send_message(&s.a, who, from_a[who]++, payload);
            sim_send_message(&s.b, who, from_b[who]++, payload / 2);
            sent++;
        }
        sim_flush(&s);
        assert_true(sim_step(&s, until));
        assert_false(s.a.failed || s.b.failed);
        sim_receive(&s.a, at_a, &got_a);
        sim_receive(&s.b, at_b, &got_b);
    }
    sim_run(&s, s.now + 5 * BP_SEC);
    assert_int_equal(s.a.owners, 0);
    assert_int_equal(s.b.owners, 0);
    assert_int_equal(bp_link_pending(s.a.link), 0);
    sim_free(&s);
    assert_int_equal(s.a.bins, 0);
    assert_int_equal(s.b.bins, 0);
}

static void link_clean_network_delivers_in_order(void **state)
{
    (void)state;
    exchange(t_seed(1), 0, 0, 0);
}

static void link_reordering_network_delivers_in_order(void **state)
{
    (void)state;
    exchange(t_seed(2), 0, 20, 4 * BP_MS);
}

static void link_lossy_network_delivers_in_order(void **state)
{
    (void)state;
    for (uint64_t seed = 3; seed < 6; seed++) {
        exchange(t_seed(seed), 20, 10, 2 * BP_MS);
    }
}

static void a_is_plain(struct sim_node *n)
{
    struct bp_conn *c = bp_link_conn(n->link);

    c->plain_crypto = !c->server;
}

static void b_is_plain(struct sim_node *n)
{
    struct bp_conn *c = bp_link_conn(n->link);

    c->plain_crypto = c->server;
}

static void both_are_plain(struct sim_node *n)
{
    bp_link_conn(n->link)->plain_crypto = true;
}

static void key_updates(void (*on_link)(struct sim_node *n))
{
    struct sim s;
    uint32_t at_b[SIM_SENDERS] = {0}, got = 0;
    unsigned updates = 0;

    sim_init(&s, 7);
    s.on_link = on_link;
    sim_connect_up(&s);
    sim_run(&s, s.now + BP_SEC);
    assert_null(s.a.link == NULL ? NULL : bp_conn_peer_cert(bp_link_conn(s.a.link), &(size_t){0}));
    for (uint32_t i = 0; i < 30; i++) {
        sim_send_message(&s.a, 0, i, 100);
        sim_flush(&s);
        sim_run(&s, s.now + 5 * BP_SEC);
        sim_receive(&s.b, at_b, &got);
        assert_int_equal(got, i + 1);
        /* Not possible while the last one is young: counted, not demanded each time. */
        updates += ngtcp2_conn_initiate_key_update(bp_link_conn(s.a.link)->q, s.now) == 0;
    }
    assert_true(updates >= 3);
    assert_int_equal(bp_link_conn(s.a.link)->fast_keys,
                     bp_packet_crypt_fast() && !bp_link_conn(s.a.link)->plain_crypto);
    sim_free(&s);
}

static void link_key_update_goes_on(void **state)
{
    (void)state;
    key_updates(NULL);
}

/* A node with many idle peers wakes up for several of them at once. */
static void link_idle_deadlines_are_on_a_grid(void **state)
{
    struct sim s;
    bp_time at, early;

    (void)state;
    sim_init(&s, 11);
    s.keepalive = 2 * BP_SEC;
    sim_connect_up(&s);
    sim_run(&s, s.now + 300 * BP_MS);
    at = bp_conn_deadline(bp_link_conn(s.a.link), s.now);
    early = ngtcp2_conn_get_expiry(bp_link_conn(s.a.link)->q);
    assert_true(early > s.now + BP_SEC);
    assert_int_equal(at % (250 * BP_MS), 0);
    assert_true(at >= early && at < early + 250 * BP_MS);
    /* Something is under way: its loss is noticed in time. */
    sim_send_message(&s.a, 0, 0, 100);
    sim_flush(&s);
    early = ngtcp2_conn_get_expiry(bp_link_conn(s.a.link)->q);
    at = bp_conn_deadline(bp_link_conn(s.a.link), s.now);
    assert_true(at == early || at == s.now + BP_MS);
    sim_free(&s);
}

/* Both kinds of packet protection, with each other and alone. */
static void link_packet_libraries_interoperate(void **state)
{
    (void)state;
    key_updates(a_is_plain);
    key_updates(b_is_plain);
    key_updates(both_are_plain);
}

static void link_ticks_pass_while_data_is_blocked(void **state)
{
    struct sim s;
    struct bp_link_stats before, after;
    uint32_t at_b[SIM_SENDERS] = {0}, got = 0, n = 0;

    (void)state;
    sim_init(&s, 8);
    s.b_holds = true;
    sim_connect_up(&s);
    for (; n < 400; n++) {
        sim_send_message(&s.a, n % SIM_SENDERS, n / SIM_SENDERS,
                         60000); /* 24 MB: more than the window */
    }
    sim_flush(&s);
    sim_run(&s, s.now + 30 * BP_SEC);
    assert_true(bp_link_pending(s.a.link) > 1000000);
    bp_link_stats(s.b.link, &before);
    for (unsigned i = 0; i < 20; i++) {
        bp_link_tick(s.a.link);
        sim_flush(&s);
        sim_run(&s, s.now + BP_SEC);
    }
    bp_link_stats(s.b.link, &after);
    assert_int_equal(after.frames_in, before.frames_in + 20);
    bp_link_deliver(s.b.link);
    sim_flush(&s);
    for (unsigned i = 0; i < 100 && got < n; i++) {
        sim_run(&s, s.now + BP_SEC);
        sim_receive(&s.b, at_b, &got);
        sim_flush(&s);
    }
    assert_int_equal(got, n);
    sim_free(&s);
}

/* --- refusals ------------------------------------------------------------ */

static void refused(struct sim *s, int at_a, int at_b)
{
    assert_int_equal(sim_dial(s), 0);
    sim_run_auth(s, 60 * BP_SEC);
    sim_run(s, s->now + 5 * BP_SEC);
    assert_true(s->a.failed);
    assert_int_equal(bp_link_error(s->a.link), at_a);
    if (at_b != 0) {
        assert_true(s->b.failed);
        assert_int_equal(bp_link_error(s->b.link), at_b);
    }
    sim_free(s);
}

static void link_other_key_pinned_at_server_refused(void **state)
{
    struct sim s;
    static const uint8_t other[BP_KEY_LEN] = {1, 2, 3};

    (void)state;
    sim_init(&s, 10);
    s.b.pinned = other;
    refused(&s, BP_E_AUTH_REJECTED, BP_E_AUTH_KEY_MISMATCH);
}

static void link_other_key_pinned_at_client_refused(void **state)
{
    struct sim s;
    static const uint8_t other[BP_KEY_LEN] = {1, 2, 3};

    (void)state;
    sim_init(&s, 11);
    s.a.pinned = other;
    refused(&s, BP_E_AUTH_KEY_MISMATCH, BP_E_PEER_CLOSED);
}

static void link_strict_server_refuses_stranger(void **state)
{
    struct sim s;

    (void)state;
    sim_init(&s, 12);
    s.b.trust_mode = BP_TRUST_STRICT;
    refused(&s, BP_E_AUTH_REJECTED, BP_E_AUTH_UNTRUSTED);
}

static void link_other_node_than_dialled_refused(void **state)
{
    struct sim s;

    (void)state;
    sim_init(&s, 13);
    s.dialled = "c@sim";
    refused(&s, BP_E_AUTH_NAME_MISMATCH, BP_E_PEER_CLOSED);
}

static void link_other_name_in_dist_handshake_refused(void **state)
{
    struct sim s;

    (void)state;
    sim_init(&s, 14);
    assert_int_equal(sim_dial(&s), 0);
    sim_run_auth(&s, 30 * BP_SEC);
    assert_int_equal(sim_handshake(&s, "z@sim", "b@sim"), BP_E_HS_NAME_MISMATCH);
    sim_run(&s, s.now + BP_SEC);
    assert_true(s.a.failed);
    assert_int_equal(bp_conn_peer_reason(bp_link_conn(s.a.link)), BP_E_HS_NAME_MISMATCH);
    assert_non_null(strstr(bp_link_error_text(s.a.link), "we said"));
    assert_non_null(strstr(bp_link_error_text(s.a.link), "z@sim"));
    assert_non_null(strstr(bp_link_error_text(s.b.link), "that it is z@sim,"));
    sim_free(&s);
}

/* Whatever a stranger calls itself: a line of the log stays one, and short. */
static void link_other_name_is_bounded_and_printable(void **state)
{
    char name[BP_NODE_NAME_MAX + 1];
    struct sim s;

    (void)state;
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    memcpy(name, "z@\n\x1b[2J\xff", 8);
    sim_init(&s, 16);
    assert_int_equal(sim_dial(&s), 0);
    sim_run_auth(&s, 30 * BP_SEC);
    assert_int_equal(sim_handshake(&s, name, "b@sim"), BP_E_HS_NAME_MISMATCH);
    assert_non_null(strstr(bp_link_error_text(s.b.link), "that it is z@??[2J?nnnn"));
    assert_non_null(strstr(bp_link_error_text(s.b.link), "nnn..., which is"));
    for (const char *p = bp_link_error_text(s.b.link); *p != '\0'; p++) {
        assert_true(*p >= ' ' && *p <= '~');
    }
    sim_run(&s, s.now + BP_SEC);
    assert_non_null(strstr(bp_link_error_text(s.a.link), "z@??[2J?nnnn"));
    sim_free(&s);
}

static void link_silent_peer_times_out_with_words(void **state)
{
    struct sim s;

    (void)state;
    sim_init(&s, 15);
    s.net.cut = true;
    s.setup_timeout = 7 * BP_SEC;
    assert_int_equal(sim_dial(&s), 0);
    sim_run(&s, s.now + 10 * BP_SEC);
    assert_true(s.a.failed);
    assert_int_equal(bp_link_error(s.a.link), BP_E_TIMEOUT);
    assert_non_null(strstr(bp_link_error_text(s.a.link), "no answer"));
    sim_free(&s);
}

/* A peer that puts `text` on its stream number `index` after the handshake. */
static void misbehave(unsigned index, const char *text, size_t len, bool fin, int expected)
{
    struct sim s;
    struct bp_conn *c;
    int64_t id = -1;
    int slot = -1;

    sim_init(&s, 20 + index);
    s.b.max_frame_bytes = 1u << 20;
    sim_connect_up(&s);
    c = bp_link_conn(s.a.link);
    if (index == 0) {
        slot = s.a.link != NULL ? bp_conn_adopt(c, 0) : -1;
    } else if (index == 1) {
        slot = bp_conn_open_uni(c, &id);
    } else {
        slot = bp_conn_open_bidi(c, &id);
    }
    assert_true(slot >= 0);
    assert_int_equal(bp_conn_put_copy(c, (unsigned)slot, text, len), 0);
    if (fin) {
        assert_int_equal(bp_conn_fin(c, (unsigned)slot), 0);
        bp_conn_set_urgent(c, (unsigned)slot);
    }
    sim_flush(&s);
    sim_run(&s, s.now + 5 * BP_SEC);
    assert_true(s.b.failed);
    assert_int_equal(bp_link_error(s.b.link), expected);
    assert_true(s.a.failed);
    assert_non_null(strstr(bp_link_error_text(s.a.link), bp_err_text(expected)));
    sim_free(&s);
}

static void link_misbehaving_peer_loses_connection(void **state)
{
    (void)state;
    misbehave(2, "\x7f\xff\xff\xff", 4, false, BP_E_FRAME_TOO_LARGE);
    misbehave(3, "\x00\x00\x00\x05hello", 9, false, BP_E_FRAME_MALFORMED);
    misbehave(1, "x", 1, false, BP_E_STREAM_UNEXPECTED);
    misbehave(0, "garbage", 7, false, BP_E_HS_MALFORMED);
    misbehave(4, "\x00\x00\x00\x00", 4, true, BP_E_STREAM_FINISHED);
}

/* One datagram from `n` to `o`, which must be all that `n` has to send now. */
static void send_one(const struct sim *s, struct sim_node *n, struct sim_node *o, bp_time now)
{
    static uint8_t buf[2 * 65536 + 1024];
    struct bp_tx_run runs[BP_TX_RUNS];
    unsigned n_runs;

    assert_int_equal(bp_link_write(n->link, buf, sizeof(buf), runs, &n_runs, now), 0);
    assert_int_equal(n_runs, 1);
    assert_int_equal(runs[0].len, runs[0].seg);
    assert_int_equal(bp_link_read(o->link, &o->addr, &n->addr, buf, runs[0].len, now), 0);
    (void)s;
}

/* However soon it follows: else the acknowledgement would take a datagram of its own. */
static void link_answer_carries_the_acknowledgement(void **state)
{
    uint32_t next[SIM_SENDERS] = {0};
    uint32_t total = 0;
    struct bp_conn_stats st;
    struct sim s;

    (void)state;
    sim_init(&s, 13);
    s.net.delay = 20 * BP_MS;
    sim_connect_up(&s);
    sim_run(&s, s.now + 2 * BP_SEC);
    for (uint32_t i = 0; i < 3; i++) {
        sim_send_message(&s.a, 0, i, 64);
        send_one(&s, &s.a, &s.b, s.now + i * BP_SEC);
        assert_true(bp_conn_only_acks(bp_link_conn(s.b.link)));
        sim_send_message(&s.b, 0, i, 64);
        send_one(&s, &s.b, &s.a, s.now + i * BP_SEC + 1000);
        bp_conn_stats(bp_link_conn(s.a.link), &st);
        assert_int_equal(st.bytes_in_flight, 0);
        sim_receive(&s.a, next, &total);
    }
    assert_int_equal(total, 3);
    sim_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(link_clean_network_authenticates),
        cmocka_unit_test(link_authenticates_in_two_round_trips),
        cmocka_unit_test(link_clock_going_back_is_harmless),
        cmocka_unit_test(link_answer_carries_the_acknowledgement),
        cmocka_unit_test(link_clean_network_delivers_in_order),
        cmocka_unit_test(link_reordering_network_delivers_in_order),
        cmocka_unit_test(link_lossy_network_delivers_in_order),
        cmocka_unit_test(link_key_update_goes_on),
        cmocka_unit_test(link_idle_deadlines_are_on_a_grid),
        cmocka_unit_test(link_packet_libraries_interoperate),
        cmocka_unit_test(link_ticks_pass_while_data_is_blocked),
        cmocka_unit_test(link_other_key_pinned_at_server_refused),
        cmocka_unit_test(link_other_key_pinned_at_client_refused),
        cmocka_unit_test(link_strict_server_refuses_stranger),
        cmocka_unit_test(link_other_node_than_dialled_refused),
        cmocka_unit_test(link_other_name_in_dist_handshake_refused),
        cmocka_unit_test(link_other_name_is_bounded_and_printable),
        cmocka_unit_test(link_silent_peer_times_out_with_words),
        cmocka_unit_test(link_misbehaving_peer_loses_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
