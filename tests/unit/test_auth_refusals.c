/* SPDX-License-Identifier: Apache-2.0 */
/* What the authentication refuses and excepts (WIRE 3.3; WIRE 11, S1 to S5). */
#include "unit/auth_side.h"

/* --- refusals ---------------------------------------------------------------- */

static void hello_own_identity_refused(void **state)
{
    (void)state;
    for (int role = 0; role < 2; role++) {
        struct bp_auth_config cfg = config((enum bp_auth_role)role);
        const char *log = role == CLIENT ? "SF" : "F";
        struct side s;

        open_with(&s, &cfg); /* our key under the right name */
        assert_int_equal(
            recv_hello(&s, role == CLIENT ? s_name : c_name, bp_identity_pub(ids[role])),
            BP_E_AUTH_OWN_IDENTITY);
        assert_failed(&s, BP_E_AUTH_OWN_IDENTITY, log, NULL);
        open_with(&s, &cfg); /* our name with another key */
        assert_int_equal(recv_hello(&s, cfg.self_name, bp_identity_pub(ids[2])),
                         BP_E_AUTH_OWN_IDENTITY);
        assert_failed(&s, BP_E_AUTH_OWN_IDENTITY, log, NULL);
    }
}

static void hello_other_node_than_dialled_refused(void **state)
{
    static const char *const other[] = {"c@127.0.0.1", "b@127.0.0.11", "b@127.0.0.", "B@127.0.0.1",
                                        "nonode@nohost"};

    (void)state;
    for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++) {
        struct side s;

        bring_default(&s, CLIENT, BP_AUTH_ST_WAIT_HELLO);
        assert_int_equal(recv_hello(&s, other[i], bp_identity_pub(ids[SERVER])),
                         BP_E_AUTH_NAME_MISMATCH);
        assert_failed(&s, BP_E_AUTH_NAME_MISMATCH, "SF", NULL);
        assert_string_equal(s.failed.peer_name, other[i]);
    }
}

/* Who dials an address and no name takes whoever is there: by its own name, and by its key. */
static void nobody_dialled_takes_any_name_but_no_dynamic_one(void **state)
{
    struct bp_auth_config cfg = config(CLIENT);
    struct side s;

    (void)state;
    cfg.dialled_name = "";
    bring(&s, &cfg, BP_AUTH_ST_WAIT_HELLO);
    assert_int_equal(recv_hello(&s, "c@127.0.0.1", bp_identity_pub(ids[SERVER])), 0);
    assert_string_equal(s.lookup.peer_name, "c@127.0.0.1");
    assert_false(s.lookup.by_key);
    assert_int_equal(trust(&s, true, bp_identity_pub(ids[2])), BP_E_AUTH_KEY_MISMATCH);
    bring(&s, &cfg, BP_AUTH_ST_WAIT_HELLO);
    assert_int_equal(recv_hello(&s, "nonode@nohost", bp_identity_pub(ids[SERVER])),
                     BP_E_AUTH_NAME_MISMATCH);
    bring(&s, &cfg, BP_AUTH_ST_WAIT_HELLO);
    assert_int_equal(recv_hello(&s, c_name, bp_identity_pub(ids[SERVER])), BP_E_AUTH_OWN_IDENTITY);
    /* No name, so none that would need no key. */
    cfg.cookie_only = (const char *const[]){"*@127.0.0.1"};
    cfg.n_cookie_only = 1;
    bring(&s, &cfg, BP_AUTH_ST_WAIT_HELLO);
    assert_int_equal(recv_type(&s, BP_AUTH_MSG_OK), BP_E_AUTH_UNEXPECTED_OK);
}

static void hello_bad_name_refused(void **state)
{
    static const char *const bad[] = {"", "x", "../../etc@x", "a@b@c", ".a@b", "a b@c", "a@b\n"};

    (void)state;
    for (int role = 0; role < 2; role++) {
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
            struct side s;

            bring_default(&s, (enum bp_auth_role)role, BP_AUTH_ST_WAIT_HELLO);
            assert_int_equal(recv_hello(&s, bad[i], bp_identity_pub(ids[2])), BP_E_AUTH_BAD_NAME);
            assert_failed(&s, BP_E_AUTH_BAD_NAME, role == CLIENT ? "SF" : "F", NULL);
            assert_string_equal(s.failed.peer_name, ""); /* never reaches a log */
        }
    }
}

static void challenge_own_nonce_refused(void **state)
{
    (void)state;
    for (int role = 0; role < 2; role++) {
        struct side s;

        bring_default(&s, (enum bp_auth_role)role, BP_AUTH_ST_WAIT_CHALLENGE);
        assert_int_equal(recv_challenge(&s, nonces[role], WALL), BP_E_AUTH_REFLECTED);
        assert_failed(&s, BP_E_AUTH_REFLECTED, role == CLIENT ? "SLSF" : "LSF", NULL);
    }
}

/* The nonce of any connection of this node, as server or client, is known again; others' are not.
 */
static void challenge_nonce_of_another_own_connection_refused(void **state)
{
    (void)state;
    for (int role = 0; role < 2; role++) {
        struct bp_auth_config issuer = config((enum bp_auth_role)(1 - role));
        struct bp_auth_config cfg = config((enum bp_auth_role)role);
        struct side first;
        struct side second;
        struct side s;

        issuer.test_nonce = NULL;
        issuer.nonce_secret = cfg.nonce_secret; /* one node, in the other role */
        open_with(&first, &issuer);
        open_with(&second, &issuer);
        assert_memory_not_equal(first.a.nonce, second.a.nonce, BP_NONCE_LEN);
        bring(&s, &cfg, BP_AUTH_ST_WAIT_CHALLENGE);
        assert_int_equal(recv_challenge(&s, first.a.nonce, WALL), BP_E_AUTH_REFLECTED);
        bp_auth_free(&first.a); /* later too */
        bring(&s, &cfg, BP_AUTH_ST_WAIT_CHALLENGE);
        assert_int_equal(recv_challenge(&s, second.a.nonce, WALL), BP_E_AUTH_REFLECTED);
        cfg.nonce_secret = secrets[1 - role]; /* another node */
        bring(&s, &cfg, BP_AUTH_ST_WAIT_CHALLENGE);
        assert_int_equal(recv_challenge(&s, second.a.nonce, WALL), 0);
    }
}

static void challenge_clock_skew_60_s_is_the_edge(void **state)
{
    (void)state;
    for (int role = 0; role < 2; role++) {
        const uint64_t own = role == CLIENT ? WALL : WALL + 5;
        const struct {
            uint64_t ts;
            int err;
        } v[] = {
            {own + 60000, 0},
            {own - 60000, 0},
            {own + 60001, BP_E_AUTH_SKEW},
            {own - 60001, BP_E_AUTH_SKEW},
            {0, BP_E_AUTH_SKEW},
            {UINT64_MAX, BP_E_AUTH_SKEW},
            {UINT64_C(1) << 63, BP_E_AUTH_SKEW},
            {own + (UINT64_C(1) << 63), BP_E_AUTH_SKEW}, /* the difference is no int64 */
            {own + (UINT64_C(1) << 32), BP_E_AUTH_SKEW}, /* its low 32 bits are 0 */
        };

        for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
            struct side s;

            bring_default(&s, (enum bp_auth_role)role, BP_AUTH_ST_WAIT_CHALLENGE);
            assert_int_equal(recv_challenge(&s, nonces[1 - role], v[i].ts), v[i].err);
            if (v[i].err != 0) {
                assert_failed(&s, BP_E_AUTH_SKEW, role == CLIENT ? "SLSF" : "LSF", NULL);
            }
        }
    }
}

static void response_window_30_s_is_the_edge(void **state)
{
    (void)state;
    for (int role = 0; role < 2; role++) {
        const uint8_t *p = sent[1 - role][2].p;
        size_t len = sent[1 - role][2].len;
        struct side s;

        bring_default(&s, (enum bp_auth_role)role, BP_AUTH_ST_WAIT_RESPONSE);
        /* the wall clock may jump: only the monotonic one counts here */
        assert_int_equal(recv_at(&s, p, len, NOW + 30 * BP_SEC, WALL + 3600000), 0);
        bring_default(&s, (enum bp_auth_role)role, BP_AUTH_ST_WAIT_RESPONSE);
        assert_int_equal(recv_at(&s, p, len, NOW + 30 * BP_SEC + 1, WALL), BP_E_AUTH_LATE);
        assert_failed(&s, BP_E_AUTH_LATE, role == CLIENT ? "SLSSF" : "LSSsF",
                      role == CLIENT ? NULL : TOLD_SIGNATURE);
    }
}

static void window_is_configurable_and_skew_is_twice_it(void **state)
{
    struct bp_auth_config cfg = config(SERVER);
    struct side s;

    (void)state;
    cfg.window = 2 * BP_SEC;
    bring(&s, &cfg, BP_AUTH_ST_WAIT_CHALLENGE);
    assert_int_equal(recv_challenge(&s, nonces[CLIENT], wall_of(&s) + 4001), BP_E_AUTH_SKEW);
    bring(&s, &cfg, BP_AUTH_ST_WAIT_CHALLENGE);
    assert_int_equal(recv_challenge(&s, nonces[CLIENT], wall_of(&s) + 4000), 0);
    assert_int_equal(
        recv_at(&s, sent[CLIENT][2].p, sent[CLIENT][2].len, NOW + 2 * BP_SEC + 1, WALL),
        BP_E_AUTH_LATE);
}

static void response_any_wrong_bit_refused(void **state)
{
    (void)state;
    for (int role = 0; role < 2; role++) {
        for (size_t i = 0; i < BP_SIG_LEN; i += 7) {
            uint8_t bad[96];
            size_t len = sent[1 - role][2].len;
            struct side s;

            memcpy(bad, sent[1 - role][2].p, len);
            bad[3 + i] ^= 0x10;
            bring_default(&s, (enum bp_auth_role)role, BP_AUTH_ST_WAIT_RESPONSE);
            assert_int_equal(recv_bytes(&s, bad, len), BP_E_AUTH_SIGNATURE);
            assert_failed(&s, BP_E_AUTH_SIGNATURE, role == CLIENT ? "SLSSF" : "LSSsF",
                          role == CLIENT ? NULL : TOLD_SIGNATURE);
        }
    }
}

/* A man in the middle shows the client another certificate than the server has. */
static void other_binding_is_signature_invalid_on_both_sides(void **state)
{
    struct bp_auth_config cfg[2] = {config(CLIENT), config(SERVER)};
    struct side side[2];

    (void)state;
    cfg[CLIENT].binding[31] ^= 1;
    open_with(&side[CLIENT], &cfg[CLIENT]);
    open_with(&side[SERVER], &cfg[SERVER]);
    pump(&side[CLIENT], &side[SERVER]);
    assert_failed(&side[SERVER], BP_E_AUTH_SIGNATURE, "LSSsF", TOLD_SIGNATURE);
    assert_failed(&side[CLIENT], BP_E_AUTH_SIGNATURE, "SLSSF", NULL);
}

/* Claiming another's public key is of no use without its private half. */
static void key_without_its_secret_is_signature_invalid(void **state)
{
    struct side side[2];
    uint8_t sig[BP_SIG_LEN];
    struct bp_auth_msg msg = {.type = BP_AUTH_MSG_RESPONSE, .sig = sig};

    (void)state;
    for (int role = 0; role < 2; role++) {
        uint8_t text[104];
        struct bp_writer w;

        bring_default(&side[role], (enum bp_auth_role)role, BP_AUTH_ST_WAIT_RESPONSE);
        bp_writer_init(&w, text, sizeof(text));
        bp_write_bytes(&w, nonces[role], BP_NONCE_LEN);
        bp_write_u64(&w, wall_of(&side[role]));
        bp_write_bytes(&w, bp_identity_pub(ids[1 - role]), BP_KEY_LEN);
        bp_write_bytes(&w, binding, BP_BINDING_LEN);
        assert_int_equal(bp_identity_sign(ids[2], text, sizeof(text), sig), 0);
        assert_int_equal(recv_msg(&side[role], &msg), BP_E_AUTH_SIGNATURE);
        bring_default(&side[role], (enum bp_auth_role)role, BP_AUTH_ST_WAIT_RESPONSE);
        assert_int_equal(bp_identity_sign(ids[1 - role], text, sizeof(text), sig), 0);
        assert_int_equal(recv_msg(&side[role], &msg), 0);
    }
}

/* With such a key one signature fits every challenge, and nobody needs a secret. */
static void key_of_small_order_refused(void **state)
{
    uint8_t pub[BP_KEY_LEN] = {1};
    uint8_t sig[BP_SIG_LEN] = {1};
    struct bp_auth_msg msg = {.type = BP_AUTH_MSG_RESPONSE, .sig = sig};

    (void)state;
    for (int role = 0; role < 2; role++) {
        struct side s;

        bring_default(&s, (enum bp_auth_role)role, BP_AUTH_ST_WAIT_HELLO);
        assert_int_equal(recv_hello(&s, role == CLIENT ? s_name : c_name, pub), 0);
        assert_int_equal(trust(&s, false, NULL), 0);
        assert_int_equal(recv_type(&s, BP_AUTH_MSG_CHALLENGE), 0);
        assert_int_equal(recv_msg(&s, &msg), BP_E_AUTH_SIGNATURE);
    }
}

static void fail_reason_is_shown_in_printable_ascii(void **state)
{
    static const char reason[] = "go \x1b[2J\naway\xff~";
    struct bp_auth_msg msg = {
        .type = BP_AUTH_MSG_FAIL, .reason = reason, .reason_len = sizeof(reason)};
    char longest[BP_AUTH_REASON_MAX];
    struct side s;

    (void)state;
    bring_default(&s, CLIENT, BP_AUTH_ST_WAIT_HELLO);
    assert_int_equal(recv_msg(&s, &msg), BP_E_AUTH_REJECTED);
    assert_string_equal(s.failed.reason, "go ?[2J?away?~?");
    memset(longest, 'r', sizeof(longest));
    msg.reason = longest;
    msg.reason_len = sizeof(longest);
    bring_default(&s, CLIENT, BP_AUTH_ST_WAIT_HELLO);
    assert_int_equal(recv_msg(&s, &msg), BP_E_AUTH_REJECTED);
    assert_int_equal(strlen(s.failed.reason), sizeof(longest));
}

/* --- cookie-only names -------------------------------------------------------- */

static const char *const patterns[] = {"x@y", "*@127.0.0.1"};

static void cookie_only_server_says_ok_at_once(void **state)
{
    struct bp_auth_config cfg = config(SERVER);
    struct side s;

    (void)state;
    cfg.cookie_only = patterns;
    cfg.n_cookie_only = 2;
    bring(&s, &cfg, BP_AUTH_ST_WAIT_HELLO);
    assert_int_equal(recv_type(&s, BP_AUTH_MSG_HELLO), 0);
    assert_string_equal(s.log, "sD");
    assert_int_equal(s.wire_len, 3);
    assert_memory_equal(s.wire, "\0\1\4", 3);
    assert_false(s.done.has_identity);
    assert_false(s.done.pin);
    assert_string_equal(s.done.peer_name, c_name);
    assert_null(s.done.peer_key);
    /* our own name and key stay refused, and others need a key */
    bring(&s, &cfg, BP_AUTH_ST_WAIT_HELLO);
    assert_int_equal(recv_hello(&s, s_name, bp_identity_pub(ids[2])), BP_E_AUTH_OWN_IDENTITY);
    bring(&s, &cfg, BP_AUTH_ST_WAIT_HELLO);
    assert_int_equal(recv_hello(&s, c_name, bp_identity_pub(ids[SERVER])), BP_E_AUTH_OWN_IDENTITY);
    bring(&s, &cfg, BP_AUTH_ST_WAIT_HELLO);
    assert_int_equal(recv_hello(&s, "a@elsewhere", bp_identity_pub(ids[2])), 0);
    assert_string_equal(s.log, "L");
}

static void cookie_only_client_takes_ok_only_from_such_a_name(void **state)
{
    struct bp_auth_config cfg = config(CLIENT);
    struct side s;

    (void)state;
    cfg.cookie_only = patterns;
    cfg.n_cookie_only = 1;
    bring(&s, &cfg, BP_AUTH_ST_WAIT_HELLO);
    assert_int_equal(recv_type(&s, BP_AUTH_MSG_OK), BP_E_AUTH_UNEXPECTED_OK);
    cfg.n_cookie_only = 2;
    bring(&s, &cfg, BP_AUTH_ST_WAIT_HELLO);
    assert_int_equal(recv_type(&s, BP_AUTH_MSG_OK), 0);
    assert_string_equal(s.log, "SsD");
    assert_false(s.done.has_identity);
    assert_false(s.done.pin);
    assert_string_equal(s.done.peer_name, s_name);
    /* it is instead of a HELLO, not behind one */
    bring(&s, &cfg, BP_AUTH_ST_WAIT_CHALLENGE);
    assert_int_equal(recv_type(&s, BP_AUTH_MSG_OK), BP_E_AUTH_UNEXPECTED_OK);
}

/* --- nodes without a name ---------------------------------------------------- */

static void dynamic_tofu_takes_any_key_and_never_pins(void **state)
{
    struct bp_auth_config cfg[2] = {config(CLIENT), config(SERVER)};
    struct side side[2];

    (void)state;
    cfg[CLIENT].self_name = "nonode@nohost";
    open_with(&side[CLIENT], &cfg[CLIENT]);
    open_with(&side[SERVER], &cfg[SERVER]);
    pump(&side[CLIENT], &side[SERVER]);
    assert_string_equal(side[SERVER].log, "SSsD"); /* no look-up */
    assert_true(side[SERVER].done.has_identity);
    assert_false(side[SERVER].done.pin);
    assert_string_equal(side[SERVER].done.peer_name, "nonode@nohost");
    assert_true(side[CLIENT].done.pin); /* the server has a name */
}

static void dynamic_strict_asks_for_the_key(void **state)
{
    struct bp_auth_config cfg = config(SERVER);
    const uint8_t *pub = bp_identity_pub(ids[CLIENT]);
    struct side s;

    (void)state;
    cfg.trust_mode = BP_TRUST_STRICT;
    bring(&s, &cfg, BP_AUTH_ST_WAIT_HELLO);
    assert_int_equal(recv_hello(&s, "nonode@nohost", pub), 0);
    assert_true(s.lookup.by_key);
    assert_memory_equal(s.lookup.peer_key, pub, BP_KEY_LEN);
    assert_int_equal(trust(&s, false, NULL), BP_E_AUTH_UNTRUSTED);
    assert_failed(&s, BP_E_AUTH_UNTRUSTED, "LsF", TOLD_UNTRUSTED);
    bring(&s, &cfg, BP_AUTH_ST_WAIT_HELLO);
    assert_int_equal(recv_hello(&s, "nonode@nohost", pub), 0);
    assert_int_equal(trust(&s, true, bp_identity_pub(ids[2])), BP_E_AUTH_UNTRUSTED);
    bring(&s, &cfg, BP_AUTH_ST_WAIT_HELLO);
    assert_int_equal(recv_hello(&s, "nonode@nohost", pub), 0);
    assert_int_equal(trust(&s, true, NULL), 0);
    assert_int_equal(recv_type(&s, BP_AUTH_MSG_CHALLENGE), 0);
    assert_int_equal(recv_type(&s, BP_AUTH_MSG_RESPONSE), 0);
    assert_true(s.done.has_identity);
    assert_false(s.done.pin);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hello_own_identity_refused),
        cmocka_unit_test(hello_other_node_than_dialled_refused),
        cmocka_unit_test(nobody_dialled_takes_any_name_but_no_dynamic_one),
        cmocka_unit_test(hello_bad_name_refused),
        cmocka_unit_test(challenge_own_nonce_refused),
        cmocka_unit_test(challenge_nonce_of_another_own_connection_refused),
        cmocka_unit_test(challenge_clock_skew_60_s_is_the_edge),
        cmocka_unit_test(response_window_30_s_is_the_edge),
        cmocka_unit_test(window_is_configurable_and_skew_is_twice_it),
        cmocka_unit_test(response_any_wrong_bit_refused),
        cmocka_unit_test(other_binding_is_signature_invalid_on_both_sides),
        cmocka_unit_test(key_without_its_secret_is_signature_invalid),
        cmocka_unit_test(key_of_small_order_refused),
        cmocka_unit_test(fail_reason_is_shown_in_printable_ascii),
        cmocka_unit_test(cookie_only_server_says_ok_at_once),
        cmocka_unit_test(cookie_only_client_takes_ok_only_from_such_a_name),
        cmocka_unit_test(dynamic_tofu_takes_any_key_and_never_pins),
        cmocka_unit_test(dynamic_strict_asks_for_the_key),
    };

    return cmocka_run_group_tests(tests, setup, teardown) != 0;
}
