/* SPDX-License-Identifier: Apache-2.0 */
/* How connections begin, how they are refused, and what a peer that restarts looks like. */
#include "sim/traffic.h"
#include "support/t.h"

#include "quic/conn_impl.h"
#include "quic/tls_cert.h"

#include <ngtcp2/ngtcp2_crypto_gnutls.h>

/* --- Retry --------------------------------------------------------------- */

static void fill_half_open(struct sim *s)
{
    struct bp_addr a;

    for (unsigned i = 0; i < BP_HALF_OPEN_RETRY; i++) {
        char ip[32];
        snprintf(ip, sizeof(ip), "203.0.113.%u", i + 1);
        assert_int_equal(bp_addr_parse(&a, ip, 4000), 0);
        bp_listener_half_open(&s->listener, &a, true);
    }
}

static bool is_retry(const uint8_t *p)
{
    return (p[0] & 0xf0) == 0xf0; /* RFC 9000, 17.2.5: long header, fixed bit, type 3 */
}

/* Loses the first `n` Retry packets. */
static bool drop_retries(void *ctx, bool to_b, const uint8_t *p, size_t len)
{
    unsigned *left = ctx;

    if (to_b || len == 0 || !is_retry(p) || *left == 0) {
        return false;
    }
    (*left)--;
    return true;
}

static void works(struct sim *s)
{
    struct sim_flow ab = {.from = &s->a, .to = &s->b};

    sim_flow_run(s, &ab, 1000, 100 * BP_MS);
    sim_flow_drain(s, &ab, BP_SEC);
}

/* Of our own ids the one that packets carry is the first in ngtcp2's sorted list; it is looked up
 * for every packet. */
static void first_id_is_first(const struct sim_node *n)
{
    unsigned first = 0, later = 0;

    for (unsigned i = 0; i < n->n_cids; i++) {
        if (n->cids[i].len == BP_CID_LEN) {
            first += n->cids[i].data[0] < BP_LATER_CID;
            later += n->cids[i].data[0] >= BP_LATER_CID;
        }
    }
    assert_int_equal(first, 1);
    assert_int_equal(later, 7);
}

/* Whether a datagram carries one of the later ids. */
static bool is_later(void *ctx, bool to_b, const uint8_t *p, size_t len)
{
    unsigned *seen = ctx;

    (void)to_b;
    *seen += len > BP_CID_LEN && (p[0] & 0x80) == 0 && p[1] >= BP_LATER_CID;
    return false;
}

static void connect_packets_carry_the_id_that_sorts_first(void **state)
{
    for (unsigned i = 0; i < 8; i++) {
        struct sim s;
        unsigned later = 0;

        (void)state;
        sim_init(&s, 101);
        sim_connect_up(&s);
        first_id_is_first(&s.a);
        first_id_is_first(&s.b);
        s.net.drop = is_later;
        s.net.drop_ctx = &later;
        works(&s);
        assert_int_equal(later, 0);
        sim_free(&s);
    }
}

static void connect_many_half_open_proves_address_with_retry(void **state)
{
    struct sim s;

    (void)state;
    sim_init(&s, 100);
    fill_half_open(&s);
    sim_connect_up(&s);
    assert_int_equal(s.listener.retries, 1);
    works(&s);
    sim_free(&s);
}

static void connect_retries_lost_comes_up(void **state)
{
    struct sim s;
    unsigned left = 3;
    bp_time at;

    (void)state;
    sim_init(&s, 101);
    fill_half_open(&s);
    s.net.drop = drop_retries;
    s.net.drop_ctx = &left;
    at = s.now;
    sim_connect_up(&s);
    assert_int_equal(left, 0);
    assert_int_equal(s.listener.retries, 4);
    assert_true(s.now - at < 7 * BP_SEC); /* the setup time of the product */
    works(&s);
    sim_free(&s);
}

/* Retry, while everything is lost, doubled and damaged now and then. */
static void connect_retry_on_bad_network_comes_up(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 10; i++) {
        struct sim s;

        sim_init(&s, t_seed(102 + i));
        fill_half_open(&s);
        s.net.loss = 50;
        s.net.dup = 200;
        s.net.flip = 50;
        s.net.jitter = 20 * BP_MS;
        sim_connect_up(&s);
        works(&s);
        sim_free(&s);
    }
}

/* --- ALPN ---------------------------------------------------------------- */

/* Who speaks what: changed in place of the product's session. */
static bool at_server;
static const char *alpn_name;

static void other_alpn(struct sim_node *n)
{
    struct bp_conn *c = bp_link_conn(n->link);
    unsigned char name[16] = {0};
    gnutls_datum_t alpn = {.data = name, .size = (unsigned)strlen(alpn_name)};
    gnutls_session_t tls;

    if (c->server != at_server) {
        return;
    }
    memcpy(name, alpn_name, alpn.size);
    assert_int_equal(
        gnutls_init(&tls, c->server ? GNUTLS_SERVER | GNUTLS_NO_AUTO_SEND_TICKET : GNUTLS_CLIENT),
        0);
    assert_int_equal(gnutls_priority_set_direct(
                         tls, "NORMAL:-VERS-ALL:+VERS-TLS1.3:%DISABLE_TLS13_COMPAT_MODE", NULL),
                     0);
    assert_int_equal(c->server ? ngtcp2_crypto_gnutls_configure_server_session(tls)
                               : ngtcp2_crypto_gnutls_configure_client_session(tls),
                     0);
    assert_int_equal(
        gnutls_credentials_set(tls, GNUTLS_CRD_CERTIFICATE, bp_tls_cred_native(n->cred)), 0);
    if (alpn.size > 0) {
        assert_int_equal(gnutls_alpn_set_protocols(tls, &alpn, 1, 0), 0);
    }
    gnutls_session_set_ptr(tls, &c->ref);
    gnutls_deinit(c->tls);
    c->tls = tls;
    ngtcp2_conn_set_tls_native_handle(c->q, tls);
}

static void alpn_refused(bool server, const char *name)
{
    struct sim s;

    sim_init(&s, 110);
    at_server = server;
    alpn_name = name;
    s.on_link = other_alpn;
    assert_int_equal(sim_dial(&s), 0);
    sim_run(&s, s.now + 5 * BP_SEC);
    assert_true(s.a.failed && s.b.failed);
    assert_int_equal(bp_link_error(s.a.link), BP_E_ALPN);
    assert_int_equal(bp_link_error(s.b.link), BP_E_ALPN);
    assert_non_null(strstr(bp_link_error_text((server ? &s.a : &s.b)->link), "erlang-dist"));
    assert_false(s.a.authenticated || s.b.authenticated);
    sim_free(&s);
}

static void connect_other_alpn_refused_by_both_sides(void **state)
{
    (void)state;
    alpn_refused(false, "h3");
    alpn_refused(true, "h3");
    alpn_refused(false, "erlang-dis");
    alpn_refused(true, "erlang-dist2");
    alpn_refused(true, "");
}

/* A client that offers no ALPN at all. */
static void connect_no_alpn_refused_by_server(void **state)
{
    struct sim s;

    (void)state;
    sim_init(&s, 111);
    at_server = false;
    alpn_name = "";
    s.on_link = other_alpn;
    assert_int_equal(sim_dial(&s), 0);
    sim_run(&s, s.now + 5 * BP_SEC);
    assert_true(s.b.failed);
    assert_int_equal(bp_link_error(s.b.link), BP_E_ALPN);
    sim_free(&s);
}

/* --- authentication ------------------------------------------------------ */

/* Both ends fail with these errors and words. */
static void refused(struct sim *s, int at_a, int at_b, const char *at_a_words,
                    const char *at_b_words)
{
    assert_int_equal(sim_dial(s), 0);
    sim_run(s, s->now + 40 * BP_SEC);
    assert_true(s->a.failed && s->b.failed);
    assert_int_equal(bp_link_error(s->a.link), at_a);
    assert_int_equal(bp_link_error(s->b.link), at_b);
    assert_non_null(strstr(bp_link_error_text(s->a.link), at_a_words));
    assert_non_null(strstr(bp_link_error_text(s->b.link), at_b_words));
    sim_free(s);
}

static void connect_authentication_off_at_server_refused(void **state)
{
    struct sim s;

    (void)state;
    sim_init(&s, 120);
    s.b.auth_mode = BP_AUTH_NONE;
    refused(&s, BP_E_PEER_CLOSED, BP_E_AUTH_UNEXPECTED, "auth_unexpected_message",
            "authentication is off on this node");
}

static void connect_authentication_off_at_client_refused(void **state)
{
    struct sim s;

    (void)state;
    sim_init(&s, 121);
    s.a.auth_mode = BP_AUTH_NONE;
    assert_int_equal(sim_dial(&s), 0);
    sim_run(&s, s.now + BP_SEC);
    /* The server's HELLO comes with its TLS flight. */
    assert_true(s.a.failed && s.b.failed);
    assert_int_equal(bp_link_error(s.a.link), BP_E_AUTH_UNEXPECTED);
    assert_int_equal(bp_link_error(s.b.link), BP_E_PEER_CLOSED);
    assert_non_null(strstr(bp_link_error_text(s.a.link), "authentication is off on this node"));
    assert_non_null(strstr(bp_link_error_text(s.b.link), "auth_unexpected_message"));
    sim_free(&s);
}

/* --- the dialler's name -------------------------------------------------- */

/* b has what it needs to go on when it has authenticated a, which has yet to hear of it. */
static void connect_name_comes_with_the_proof(void **state)
{
    const uint8_t *msg;
    size_t len;
    struct sim s;

    (void)state;
    sim_init(&s, 125);
    assert_int_equal(sim_dial(&s), 0);
    assert_int_equal(sim_send_name(&s, &s.a, "a@sim", false), 0);
    assert_int_equal(bp_link_hs_send(s.a.link, "N", 1), BP_E_STATE); /* one, until it has gone */
    assert_int_equal(bp_link_hs_recv(s.a.link, &msg, &len), 0);
    while (!s.b.authenticated) {
        assert_true(sim_step(&s, 3 * BP_SEC));
    }
    assert_false(s.a.authenticated);
    assert_int_equal(bp_link_hs_recv(s.b.link, &msg, &len), 1);
    assert_int_equal(msg[0], 'N');
    sim_free(&s);
}

static void says_nothing(struct sim_node *n)
{
    ngtcp2_conn *q = bp_link_conn(n->link)->q;
    ngtcp2_transport_params p = *ngtcp2_conn_get_local_transport_params(q);

    if (ngtcp2_conn_is_server(q)) {
        p.initial_max_streams_uni = 100;
        assert_int_equal(ngtcp2_conn_set_local_transport_params(q, &p), 0);
    }
}

/* A peer that does not say that it keeps names has it when it has said OK. */
static void connect_name_waits_for_a_peer_that_does_not_keep_it(void **state)
{
    const uint8_t *msg;
    size_t len;
    struct sim s;

    (void)state;
    sim_init(&s, 126);
    s.on_link = says_nothing;
    assert_int_equal(sim_dial(&s), 0);
    assert_int_equal(sim_send_name(&s, &s.a, "a@sim", false), 0);
    while (!s.b.authenticated) {
        assert_true(sim_step(&s, 3 * BP_SEC));
    }
    assert_int_equal(bp_link_hs_recv(s.b.link, &msg, &len), 0);
    assert_int_equal(sim_handshake_named(&s, "b@sim"), 0);
    works(&s);
    sim_free(&s);
}

/* Before what proves a's identity, after it, twice. */
static void connect_name_on_bad_network_comes_up(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 30; i++) {
        struct sim s;

        sim_init(&s, t_seed(127 + i));
        s.net.loss = 100;
        s.net.dup = 200;
        s.net.jitter = 20 * BP_MS;
        assert_int_equal(sim_dial(&s), 0);
        assert_int_equal(sim_send_name(&s, &s.a, "a@sim", false), 0);
        /* b goes on when it can; a may hear that before OK. */
        assert_int_equal(sim_handshake_named(&s, "b@sim"), 0);
        assert_true(s.a.authenticated);
        works(&s);
        sim_free(&s);
    }
}

/* --- authentication that is off ------------------------------------------ */

struct nth {
    unsigned left;
};

static bool lose_nth_of_a(void *ctx, bool to_b, const uint8_t *p, size_t len)
{
    struct nth *n = ctx;

    (void)p;
    (void)len;
    return to_b && n->left > 0 && --n->left == 0;
}

/* Whichever of the dialler's datagrams is lost: its name comes to the other side together with the
 * end of TLS then, or before it. */
static void connect_without_authentication_name_may_overtake_tls(void **state)
{
    (void)state;
    for (unsigned lost = 1; lost <= 5; lost++) {
        struct nth n = {.left = lost};
        struct sim s;

        sim_init(&s, 122 + lost);
        s.a.auth_mode = s.b.auth_mode = BP_AUTH_NONE;
        s.net.drop = lose_nth_of_a;
        s.net.drop_ctx = &n;
        assert_int_equal(sim_dial(&s), 0);
        while (!s.a.authenticated && sim_step(&s, s.now + 5 * BP_SEC)) {
        }
        assert_true(s.a.authenticated);
        assert_int_equal(sim_handshake(&s, s.a.name, s.b.name), 0);
        assert_true(!s.a.failed && !s.b.failed);
        sim_free(&s);
    }
}

static void take_identity(struct sim *s)
{
    bp_identity_del(s->b.identity);
    s->b.identity = s->a.identity;
    memcpy(s->b.pub, s->a.pub, sizeof(s->b.pub));
    memcpy(s->b.nonce_secret, s->a.nonce_secret, sizeof(s->b.nonce_secret));
}

static void own_refused(struct sim *s)
{
    assert_int_equal(sim_dial(s), 0);
    sim_run(s, s->now + 40 * BP_SEC);
    assert_true(s->a.failed && s->b.failed);
    /* Their HELLOs cross: each finds out by itself. */
    assert_int_equal(bp_link_error(s->a.link), BP_E_AUTH_OWN_IDENTITY);
    assert_int_equal(bp_link_error(s->b.link), BP_E_AUTH_OWN_IDENTITY);
    assert_false(s->a.authenticated || s->b.authenticated);
    if (s->b.identity == s->a.identity) {
        s->b.identity = NULL;
    }
    sim_free(s);
}

/* An address that leads back to the node itself; a copy of our key under another name; a node
 * that says our name. */
static void connect_own_node_key_or_name_refused(void **state)
{
    struct sim s;

    (void)state;
    sim_init(&s, 122);
    take_identity(&s);
    s.b.name = s.a.name;
    own_refused(&s);
    sim_init(&s, 123);
    take_identity(&s);
    own_refused(&s);
    sim_init(&s, 124);
    s.b.name = s.a.name;
    own_refused(&s);
}

static void connect_strict_client_refuses_stranger(void **state)
{
    struct sim s;

    (void)state;
    sim_init(&s, 125);
    s.a.trust_mode = BP_TRUST_STRICT;
    refused(&s, BP_E_AUTH_UNTRUSTED, BP_E_PEER_CLOSED, "strict", "untrusted_key");
}

static void connect_strict_both_pinned_comes_up(void **state)
{
    struct sim s;

    (void)state;
    sim_init(&s, 126);
    s.a.trust_mode = BP_TRUST_STRICT;
    s.b.trust_mode = BP_TRUST_STRICT;
    s.a.pinned = s.b.pub;
    s.b.pinned = s.a.pub;
    sim_connect_up(&s);
    assert_false(s.a.pin_wanted || s.b.pin_wanted);
    works(&s);
    sim_free(&s);
}

/* --- restarts ------------------------------------------------------------ */

static void reset_ends(bool busy)
{
    struct sim s;
    struct sim_flow ab = {.from = &s.a, .to = &s.b};
    bp_time at;

    sim_init(&s, 130 + busy);
    s.keepalive = 2 * BP_SEC;
    sim_connect_up(&s);
    sim_flow_run(&s, &ab, 2000, BP_SEC);
    sim_flow_drain(&s, &ab, BP_SEC);
    sim_restart_b(&s);
    if (busy) {
        sim_flow_send(&s, &ab, 2000);
        sim_flush(&s);
    }
    at = s.now;
    while (!s.a.failed) {
        assert_true(sim_step(&s, at + (busy ? 50 * BP_MS : 3 * BP_SEC)));
    }
    assert_int_equal(bp_link_error(s.a.link), BP_E_STATELESS_RESET);
    assert_string_equal(bp_link_error_text(s.a.link), bp_err_text(BP_E_STATELESS_RESET));
    assert_true(s.listener.resets >= 1);
    sim_free(&s);
    assert_int_equal(s.a.owners, 0);
}

static void connect_peer_restarted_reset_ends_link(void **state)
{
    (void)state;
    reset_ends(true);
    reset_ends(false);
}

/* After the reset a dials again and is accepted. */
static void connect_after_restart_comes_up_again(void **state)
{
    struct sim s;

    (void)state;
    sim_init(&s, 132);
    s.keepalive = 2 * BP_SEC;
    sim_connect_up(&s);
    sim_restart_b(&s);
    sim_run(&s, s.now + 3 * BP_SEC);
    assert_true(s.a.failed);
    bp_link_del(s.a.link);
    s.a.link = NULL;
    s.a.n_cids = 0;
    s.a.failed = false;
    s.a.authenticated = false;
    sim_connect_up(&s);
    works(&s);
    sim_free(&s);
}

/* Who does not know the secret cannot end a link. */
static void connect_reset_under_other_secret_ignored(void **state)
{
    struct sim s;
    struct sim_flow ab = {.from = &s.a, .to = &s.b};

    (void)state;
    sim_init(&s, 133);
    s.keepalive = 2 * BP_SEC;
    sim_connect_up(&s);
    sim_flow_run(&s, &ab, 2000, BP_SEC);
    memset(s.b.reset_secret, 0x77, sizeof(s.b.reset_secret));
    sim_restart_b(&s);
    sim_run(&s, s.now + 30 * BP_SEC);
    assert_true(s.listener.resets >= 1);
    assert_false(s.a.failed);
    sim_free(&s);
    assert_int_equal(s.a.owners, 0);
}

/* Whoever closes, and whoever dialled: a CONNECTION_CLOSE that was lost is said again when the peer
 * speaks, and it speaks for its keep-alive at the latest. */
static void connect_close_lost_is_said_again(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct sim s;
        struct sim_node *closes, *hears;

        sim_init(&s, 134 + i);
        closes = i == 0 ? &s.a : &s.b;
        hears = i == 0 ? &s.b : &s.a;
        s.keepalive = 2 * BP_SEC;
        sim_connect_up(&s);
        works(&s);
        s.net.cut = true;
        bp_link_fail(closes->link, BP_E_LOCAL_CLOSE, NULL);
        sim_flush(&s);
        sim_run(&s, s.now + 500 * BP_MS);
        assert_true(closes->failed);
        assert_false(hears->failed);
        s.net.cut = false;
        sim_run(&s, s.now + 5 * BP_SEC);
        assert_true(hears->failed);
        assert_int_equal(bp_link_error(hears->link), BP_E_PEER_CLOSED);
        /* ngtcp2 1.24 sends a probe beside the keep-alive */
        assert_in_range(closes->closing->answers, 1, 2);
        sim_free(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connect_packets_carry_the_id_that_sorts_first),
        cmocka_unit_test(connect_many_half_open_proves_address_with_retry),
        cmocka_unit_test(connect_retries_lost_comes_up),
        cmocka_unit_test(connect_retry_on_bad_network_comes_up),
        cmocka_unit_test(connect_other_alpn_refused_by_both_sides),
        cmocka_unit_test(connect_no_alpn_refused_by_server),
        cmocka_unit_test(connect_authentication_off_at_server_refused),
        cmocka_unit_test(connect_authentication_off_at_client_refused),
        cmocka_unit_test(connect_name_comes_with_the_proof),
        cmocka_unit_test(connect_name_waits_for_a_peer_that_does_not_keep_it),
        cmocka_unit_test(connect_name_on_bad_network_comes_up),
        cmocka_unit_test(connect_without_authentication_name_may_overtake_tls),
        cmocka_unit_test(connect_own_node_key_or_name_refused),
        cmocka_unit_test(connect_strict_client_refuses_stranger),
        cmocka_unit_test(connect_strict_both_pinned_comes_up),
        cmocka_unit_test(connect_peer_restarted_reset_ends_link),
        cmocka_unit_test(connect_after_restart_comes_up_again),
        cmocka_unit_test(connect_reset_under_other_secret_ignored),
        cmocka_unit_test(connect_close_lost_is_said_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
