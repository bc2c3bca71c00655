/* SPDX-License-Identifier: Apache-2.0 */
/* TLS sessions that go on in the next connection: what they save, and what they do not open. */
#include "sim/traffic.h"
#include "support/t.h"

#include "quic/conn_impl.h"
#include "quic/tls_cert.h"

static const uint8_t key[BP_TICKET_KEY_LEN] = {1, 2, 3};

/* A first connection, after which a has what b gave it. */
static void first(struct sim *s, uint64_t seed)
{
    sim_init(s, seed);
    s->b.ticket_key = key;
    s->a.keep_session = true;
    sim_connect_up(s);
    assert_false(bp_conn_resumed(bp_link_conn(s->a.link)));
    sim_run(s, s->now + 100 * BP_MS);
    assert_in_range(s->a.session_len, 1, BP_SESSION_MAX);
}

/* The same two nodes at another time; with b's certificate, unless it is another one. */
static void second(struct sim *s, const struct sim *was, bool same_cert)
{
    sim_init(s, 2);
    s->b.ticket_key = key;
    s->a.keep_session = true;
    memcpy(s->a.session, was->a.session, sizeof(s->a.session));
    s->a.session_len = was->a.session_len;
    if (same_cert) {
        bp_tls_cred_unref(s->b.cred);
        s->b.cred = bp_tls_cred_ref(was->b.cred);
    }
}

static void goes_on(const struct sim *s, bool resumed)
{
    assert_true(bp_conn_resumed(bp_link_conn(s->a.link)) == resumed);
    assert_true(bp_conn_resumed(bp_link_conn(s->b.link)) == resumed);
}

static void works(struct sim *s)
{
    struct sim_flow ab = {.from = &s->a, .to = &s->b};

    sim_flow_run(s, &ab, 100, 100 * BP_MS);
    sim_flow_drain(s, &ab, BP_SEC);
}

/* Also the session that has gone on gives another one, and the peers prove who they are anew. */
static void session_goes_on_again_and_again(void **state)
{
    struct sim was;
    struct sim s;

    (void)state;
    first(&was, 1);
    for (int i = 0; i < 3; i++) {
        second(&s, &was, true);
        s.a.trust_mode = s.b.trust_mode = BP_TRUST_STRICT;
        s.a.pinned = s.b.pub;
        s.b.pinned = s.a.pub;
        sim_connect_up(&s);
        goes_on(&s, true);
        assert_true(s.a.has_key && s.b.has_key);
        assert_int_equal(s.net.n_lost, 0);
        assert_in_range(s.a.session_len, 1, BP_SESSION_MAX);
        assert_memory_not_equal(s.a.session, was.a.session, sizeof(s.a.session));
        works(&s);
        sim_free(&was);
        was = s;
    }
    sim_free(&was);
}

static void session_of_another_key_is_no_failure(void **state)
{
    static const uint8_t other[BP_TICKET_KEY_LEN] = {9};
    const uint8_t *keys[] = {other, NULL};
    struct sim was;

    (void)state;
    first(&was, 3);
    for (unsigned i = 0; i < 2; i++) {
        struct sim s;

        second(&s, &was, true);
        s.b.ticket_key = keys[i];
        sim_connect_up(&s);
        goes_on(&s, false);
        works(&s);
        sim_free(&s);
    }
    sim_free(&was);
}

/* The proof of identity is bound to the certificate of the session, also where it has gone on. */
static void session_does_not_vouch_for_another_certificate(void **state)
{
    struct sim was;
    struct sim s;

    (void)state;
    first(&was, 5);
    second(&s, &was, false);
    assert_int_equal(sim_dial(&s), 0);
    sim_run(&s, s.now + 5 * BP_SEC);
    goes_on(&s, true);
    assert_true(s.a.failed && s.b.failed);
    assert_false(s.a.authenticated || s.b.authenticated);
    assert_int_equal(bp_link_error(s.b.link), BP_E_AUTH_SIGNATURE);
    sim_free(&s);
    sim_free(&was);
}

/* ... and a pinned key that is another one is refused as ever. */
static void session_does_not_vouch_for_another_key(void **state)
{
    struct sim was;
    struct sim s;

    (void)state;
    first(&was, 6);
    second(&s, &was, true);
    s.b.pinned = was.a.pub;
    assert_int_equal(sim_dial(&s), 0);
    sim_run(&s, s.now + 5 * BP_SEC);
    goes_on(&s, true);
    assert_int_equal(bp_link_error(s.b.link), BP_E_AUTH_KEY_MISMATCH);
    assert_false(s.a.authenticated || s.b.authenticated);
    sim_free(&s);
    sim_free(&was);
}

/* Who waits for the first message need not read a ticket or a path MTU probe before: the ticket has
 * come with the last message of the handshake, also for a connection that ends at once. */
static void session_first_message_goes_alone(void **state)
{
    struct sim s;
    struct sim_flow ba = {.from = &s.b, .to = &s.a};
    struct bp_conn_stats before;
    struct bp_conn_stats after;

    (void)state;
    sim_init(&s, 20);
    s.net.delay = BP_MS / 20;
    s.b.ticket_key = key;
    s.a.keep_session = true;
    assert_int_equal(sim_dial(&s), 0);
    sim_run_auth(&s, 30 * BP_SEC);
    assert_int_equal(sim_handshake(&s, "a@sim", "b@sim"), 0);
    assert_in_range(s.a.largest_sent, 1200, 1200);
    assert_in_range(s.b.largest_sent, 1200, 1200);
    assert_null(bp_link_conn(s.b.link)->tls);
    assert_null(bp_link_conn(s.a.link)->tls);
    assert_in_range(s.a.session_len, 1, BP_SESSION_MAX);
    bp_conn_stats(bp_link_conn(s.b.link), &before);
    sim_flow_send(&s, &ba, 100);
    sim_flush(&s);
    bp_conn_stats(bp_link_conn(s.b.link), &after);
    assert_int_equal(after.packets_sent, before.packets_sent + 1);
    assert_in_range(after.bytes_sent - before.bytes_sent, 100, 250);
    sim_run(&s, s.now + 100 * BP_MS);
    bp_conn_stats(bp_link_conn(s.b.link), &after);
    assert_in_range(after.datagram_size, 1452, BP_DGRAM_SENT);
    sim_free(&s);
}

/* So many of the datagrams that are as large as one with a ticket. */
static bool drops_ticket(void *ctx, bool to_b, const uint8_t *p, size_t len)
{
    unsigned *left = ctx;

    if (to_b || len < 200 || (p[0] & 0x80) != 0 || *left == 0) {
        return false;
    }
    (*left)--;
    return true;
}

/* The TLS session costs 24 KB: it is not kept for a ticket that nobody gives or that is lost. */
static void session_that_does_not_come_is_not_waited_for(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        struct sim s;
        unsigned lose = 2;
        const struct bp_conn *a;

        sim_init(&s, 7 + i);
        s.keepalive = 2 * BP_SEC;
        s.a.keep_session = i > 0;
        s.b.ticket_key = i < 2 ? NULL : key;
        assert_int_equal(sim_dial(&s), 0);
        sim_run_auth(&s, 30 * BP_SEC);
        if (i == 2) {
            s.net.drop = drops_ticket;
            s.net.drop_ctx = &lose;
        }
        assert_int_equal(sim_handshake(&s, "a@sim", "b@sim"), 0);
        a = bp_link_conn(s.a.link);
        assert_true((a->tls != NULL) == (i > 0 && s.a.session_len == 0));
        sim_run(&s, s.now + 3 * BP_SEC);
        assert_null(bp_link_conn(s.b.link)->tls);
        assert_null(a->tls);
        assert_null(a->session);
        assert_true((s.a.session_len > 0) == (i == 2));
        assert_int_equal(lose, i == 2 ? 0 : 2);
        works(&s);
        sim_free(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(session_goes_on_again_and_again),
        cmocka_unit_test(session_of_another_key_is_no_failure),
        cmocka_unit_test(session_does_not_vouch_for_another_certificate),
        cmocka_unit_test(session_does_not_vouch_for_another_key),
        cmocka_unit_test(session_first_message_goes_alone),
        cmocka_unit_test(session_that_does_not_come_is_not_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
