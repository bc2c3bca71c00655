/* SPDX-License-Identifier: Apache-2.0 */
/* The authentication state machine: success, the state tables, trust (WIRE 3.2 to 3.4). */
#include "unit/auth_side.h"

/* --- success ----------------------------------------------------------------- */

static void client_vector_byte_exact(void **state)
{
    struct side s;
    size_t at = 0;

    (void)state;
    bring_default(&s, CLIENT, BP_AUTH_ST_FINISHED);
    assert_string_equal(s.log, "SLSSsD");
    for (size_t m = 0; m < 3; m++) { /* C1, C2, C3, and no OK */
        assert_memory_equal(s.wire + at, sent[CLIENT][m].p, sent[CLIENT][m].len);
        at += sent[CLIENT][m].len;
    }
    assert_int_equal(s.wire_len, at);
    assert_string_equal(s.lookup.peer_name, s_name);
    assert_memory_equal(s.lookup.peer_key, bp_identity_pub(ids[SERVER]), BP_KEY_LEN);
    assert_false(s.lookup.by_key);
    assert_true(s.done.has_identity);
    assert_true(s.done.pin);
    assert_string_equal(s.done.peer_name, s_name);
    assert_memory_equal(s.done.peer_key, bp_identity_pub(ids[SERVER]), BP_KEY_LEN);
    bp_auth_free(&s.a);
}

static void server_vector_byte_exact(void **state)
{
    struct side s;
    size_t at = 0;

    (void)state;
    bring_default(&s, SERVER, BP_AUTH_ST_FINISHED);
    assert_string_equal(s.log, "LSSsD"); /* S1 and S2 in one */
    for (size_t m = 0; m < 4; m++) {
        assert_memory_equal(s.wire + at, sent[SERVER][m].p, sent[SERVER][m].len);
        at += sent[SERVER][m].len;
    }
    assert_int_equal(s.wire_len, at);
    assert_true(s.done.has_identity);
    assert_true(s.done.pin);
    assert_string_equal(s.done.peer_name, c_name);
    assert_memory_equal(s.done.peer_key, bp_identity_pub(ids[CLIENT]), BP_KEY_LEN);
    bp_auth_free(&s.a);
}

/* All that the peer says, in chunks of every size, with the trust answer at once or at the end. */
static void chunking_any_size_same_result(void **state)
{
    (void)state;
    for (int role = 0; role < 2; role++) {
        uint8_t in[256];
        size_t len = 0;

        for (size_t m = 0; m < (role == CLIENT ? 4u : 3u); m++) {
            memcpy(in + len, sent[1 - role][m].p, sent[1 - role][m].len);
            len += sent[1 - role][m].len;
        }
        for (size_t chunk = 1; chunk <= len; chunk = chunk < 8 ? chunk + 1 : chunk * 2 - 3) {
            for (int late = 0; late < 2; late++) {
                struct bp_auth_config cfg = config((enum bp_auth_role)role);
                struct side s;

                open_with(&s, &cfg);
                for (size_t at = 0; at < len; at += chunk) {
                    size_t n = len - at < chunk ? len - at : chunk;

                    assert_int_equal(recv_bytes(&s, in + at, n), 0);
                    if (late == 0 && s.a.state == BP_AUTH_ST_WAIT_TRUST) {
                        assert_int_equal(trust(&s, true, s.lookup.peer_key), 0);
                    }
                }
                if (late == 1) {
                    assert_int_equal(trust(&s, true, s.lookup.peer_key), 0);
                }
                assert_string_equal(s.log, role == CLIENT ? "SLSSsD" : "LSSsD");
                assert_false(s.done.pin); /* it was pinned before */
                bp_auth_free(&s.a);
            }
        }
    }
}

/* Hands each side's new bytes to the other until nothing moves; answers TOFU look-ups. */
static void both_sides_real_nonces_succeed(void **state)
{
    struct bp_auth_config cfg[2] = {config(CLIENT), config(SERVER)};
    struct side side[2];

    (void)state;
    for (int i = 0; i < 2; i++) {
        cfg[i].test_nonce = NULL;
        open_with(&side[i], &cfg[i]);
    }
    pump(&side[CLIENT], &side[SERVER]);
    assert_string_equal(side[CLIENT].log, "SLSSsD");
    assert_string_equal(side[SERVER].log, "LSSsD");
}

static void longest_name_fits(void **state)
{
    struct bp_auth_config cfg[2] = {config(CLIENT), config(SERVER)};
    struct side side[2];
    char names[2][BP_NODE_NAME_MAX + 1];

    (void)state;
    for (int i = 0; i < 2; i++) {
        memset(names[i], 'x' + i, sizeof(names[i]));
        names[i][100] = '@';
        names[i][BP_NODE_NAME_MAX] = '\0';
        cfg[i].self_name = names[i];
    }
    cfg[CLIENT].dialled_name = names[SERVER];
    open_with(&side[CLIENT], &cfg[CLIENT]);
    open_with(&side[SERVER], &cfg[SERVER]);
    pump(&side[CLIENT], &side[SERVER]);
    assert_string_equal(side[CLIENT].done.peer_name, names[SERVER]);
    assert_string_equal(side[SERVER].done.peer_name, names[CLIENT]);
}

/* --- the state tables -------------------------------------------------------- */

#define UNEXP    BP_E_AUTH_UNEXPECTED
#define UNEXP_OK BP_E_AUTH_UNEXPECTED_OK
#define REJ      BP_E_AUTH_REJECTED

struct row {
    enum bp_auth_role role;
    enum bp_auth_state from;
    int want[N_MSGS]; /* HELLO CHALLENGE RESPONSE OK FAIL: the next state, or an error */
};

static const struct row table[] = {
    {CLIENT, BP_AUTH_ST_WAIT_HELLO, {BP_AUTH_ST_WAIT_TRUST, UNEXP, UNEXP, UNEXP_OK, REJ}},
    {CLIENT, BP_AUTH_ST_WAIT_CHALLENGE, {UNEXP, BP_AUTH_ST_WAIT_RESPONSE, UNEXP, UNEXP_OK, REJ}},
    {CLIENT, BP_AUTH_ST_WAIT_RESPONSE, {UNEXP, UNEXP, BP_AUTH_ST_WAIT_OK, UNEXP_OK, REJ}},
    {CLIENT, BP_AUTH_ST_WAIT_OK, {UNEXP, UNEXP, UNEXP, BP_AUTH_ST_FINISHED, REJ}},
    {SERVER, BP_AUTH_ST_WAIT_HELLO, {BP_AUTH_ST_WAIT_TRUST, UNEXP, UNEXP, UNEXP, UNEXP}},
    {SERVER, BP_AUTH_ST_WAIT_CHALLENGE, {UNEXP, BP_AUTH_ST_WAIT_RESPONSE, UNEXP, UNEXP, UNEXP}},
    {SERVER, BP_AUTH_ST_WAIT_RESPONSE, {UNEXP, UNEXP, BP_AUTH_ST_FINISHED, UNEXP, UNEXP}},
};

static void table_every_state_and_message(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        for (int m = 0; m < N_MSGS; m++) {
            int want = table[i].want[m];
            struct side s;
            size_t said;
            int rc;

            bring_default(&s, table[i].role, table[i].from);
            said = s.wire_len;
            rc = recv_type(&s, (enum bp_auth_msg_type)(m + 1));
            if (want < 0) {
                assert_int_equal(rc, want);
                assert_int_equal(s.failed.err, want);
                assert_int_equal(s.log[strlen(s.log) - 1], 'F');
                assert_int_equal(s.wire_len, said); /* nothing is sent */
            } else {
                assert_int_equal(rc, 0);
                assert_int_equal(s.a.state, want);
            }
            bp_auth_free(&s.a);
        }
    }
}

static void table_every_state_malformed_input_fails(void **state)
{
    static const struct {
        uint8_t p[6];
        size_t len;
        int err;
    } bad[] = {
        {{0, 0}, 2, BP_E_AUTH_MALFORMED},             /* empty */
        {{0xff, 0xff}, 2, BP_E_AUTH_MALFORMED},       /* more than any message */
        {{0, 1, 9}, 3, BP_E_AUTH_MALFORMED},          /* unknown type */
        {{0, 2, 4, 0}, 4, BP_E_AUTH_MALFORMED},       /* OK with something behind */
        {{0, 4, 2, 0, 0, 0}, 6, BP_E_AUTH_MALFORMED}, /* short CHALLENGE */
        {{0, 2, 1, 3}, 4, BP_E_AUTH_VERSION},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        for (size_t k = 0; k < sizeof(bad) / sizeof(bad[0]); k++) {
            struct side s;
            size_t said;

            bring_default(&s, table[i].role, table[i].from);
            said = s.wire_len;
            assert_int_equal(recv_bytes(&s, bad[k].p, bad[k].len), bad[k].err);
            assert_int_equal(s.failed.err, bad[k].err);
            assert_int_equal(s.wire_len, said);
        }
    }
}

static void table_every_state_early_fin_fails(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct side s;

        bring_default(&s, table[i].role, table[i].from);
        assert_int_equal(bp_auth_peer_fin(&s.a), BP_E_AUTH_FINISHED);
        drain(&s);
        assert_int_equal(s.failed.err, BP_E_AUTH_FINISHED);
    }
}

static void over_everything_is_ignored(void **state)
{
    uint8_t junk[2 * BP_AUTH_SPLIT_CAP] = {0};

    (void)state;
    for (int role = 0; role < 2; role++) {
        for (int ok = 0; ok < 2; ok++) {
            struct side s;
            char log[sizeof(s.log)];

            bring_default(&s, (enum bp_auth_role)role,
                          ok != 0 ? BP_AUTH_ST_FINISHED : BP_AUTH_ST_WAIT_HELLO);
            if (ok == 0) {
                assert_int_equal(recv_bytes(&s, "\0\0", 2), BP_E_AUTH_MALFORMED);
            }
            memcpy(log, s.log, sizeof(log));
            for (int m = 0; m < N_MSGS; m++) {
                assert_int_equal(recv_type(&s, (enum bp_auth_msg_type)(m + 1)), 0);
            }
            assert_int_equal(recv_bytes(&s, "\xff\xff\xff", 3), 0);
            assert_int_equal(recv_bytes(&s, junk, sizeof(junk)), 0);
            assert_int_equal(bp_auth_peer_fin(&s.a), 0);
            assert_int_equal(trust(&s, false, NULL), BP_E_STATE);
            assert_int_equal(bp_auth_start(&s.a, NOW, WALL), BP_E_STATE);
            drain(&s);
            assert_string_equal(s.log, log);
        }
    }
}

/* --- trust ------------------------------------------------------------------- */

static void trust_other_pin_is_key_mismatch(void **state)
{
    const uint8_t *other = bp_identity_pub(ids[2]);
    struct side s;

    (void)state;
    bring_default(&s, CLIENT, BP_AUTH_ST_WAIT_TRUST);
    assert_int_equal(trust(&s, true, other), BP_E_AUTH_KEY_MISMATCH);
    assert_failed(&s, BP_E_AUTH_KEY_MISMATCH, "SLF", vector[CLIENT][0]); /* nothing after C1 */
    bring_default(&s, SERVER, BP_AUTH_ST_WAIT_TRUST);
    assert_int_equal(trust(&s, true, other), BP_E_AUTH_KEY_MISMATCH);
    assert_failed(&s, BP_E_AUTH_KEY_MISMATCH, "LsF", TOLD_KEY_MISMATCH);
    assert_string_equal(s.failed.peer_name, c_name);
    assert_memory_equal(s.failed.peer_key, bp_identity_pub(ids[CLIENT]), BP_KEY_LEN);
}

static void trust_strict_takes_only_pinned_keys(void **state)
{
    (void)state;
    for (int role = 0; role < 2; role++) {
        struct bp_auth_config cfg = config((enum bp_auth_role)role);
        struct side s;

        cfg.trust_mode = BP_TRUST_STRICT;
        bring(&s, &cfg, BP_AUTH_ST_WAIT_TRUST);
        assert_int_equal(trust(&s, false, NULL), BP_E_AUTH_UNTRUSTED);
        assert_failed(&s, BP_E_AUTH_UNTRUSTED, role == CLIENT ? "SLF" : "LsF",
                      role == CLIENT ? vector[CLIENT][0] : TOLD_UNTRUSTED);
        bring(&s, &cfg, BP_AUTH_ST_WAIT_TRUST);
        assert_int_equal(trust(&s, true, bp_identity_pub(ids[2])), BP_E_AUTH_KEY_MISMATCH);
        bring(&s, &cfg, BP_AUTH_ST_WAIT_TRUST);
        assert_int_equal(trust(&s, true, bp_identity_pub(ids[1 - role])), 0);
        assert_int_equal(recv_type(&s, BP_AUTH_MSG_CHALLENGE), 0);
        assert_int_equal(recv_type(&s, BP_AUTH_MSG_RESPONSE), 0);
        if (role == CLIENT) {
            assert_int_equal(recv_type(&s, BP_AUTH_MSG_OK), 0);
        }
        assert_true(s.done.has_identity);
        assert_false(s.done.pin);
    }
}

static void trust_wrong_calls_change_nothing(void **state)
{
    struct side s;

    (void)state;
    bring_default(&s, CLIENT, BP_AUTH_ST_WAIT_HELLO);
    assert_int_equal(trust(&s, false, NULL), BP_E_STATE);
    assert_int_equal(bp_auth_start(&s.a, NOW, WALL), BP_E_STATE);
    assert_int_equal(recv_type(&s, BP_AUTH_MSG_HELLO), 0);
    assert_int_equal(trust(&s, true, NULL), BP_E_INVALID);
    assert_int_equal(s.a.state, BP_AUTH_ST_WAIT_TRUST);
    assert_string_equal(s.log, "SL");
}

static void trust_pending_input_is_bounded(void **state)
{
    uint8_t junk[BP_AUTH_SPLIT_CAP + 1] = {0};

    (void)state;
    for (int role = 0; role < 2; role++) {
        struct side s;

        bring_default(&s, (enum bp_auth_role)role, BP_AUTH_ST_WAIT_TRUST);
        assert_int_equal(recv_bytes(&s, junk, BP_AUTH_SPLIT_CAP), 0);
        assert_int_equal(recv_bytes(&s, junk, 1), BP_E_AUTH_UNEXPECTED);
        assert_failed(&s, BP_E_AUTH_UNEXPECTED, role == CLIENT ? "SLF" : "LF", NULL);
    }
}

static void trust_fin_meanwhile_fails_afterwards(void **state)
{
    struct side s;

    (void)state;
    bring_default(&s, SERVER, BP_AUTH_ST_WAIT_TRUST);
    assert_int_equal(bp_auth_peer_fin(&s.a), 0);
    assert_int_equal(trust(&s, false, NULL), BP_E_AUTH_FINISHED);
    assert_failed(&s, BP_E_AUTH_FINISHED, "LSF", NULL);
    /* what came before the FIN is still read: the server's reason is not lost */
    bring_default(&s, CLIENT, BP_AUTH_ST_WAIT_TRUST);
    assert_int_equal(recv_type(&s, BP_AUTH_MSG_FAIL), 0);
    assert_int_equal(bp_auth_peer_fin(&s.a), 0);
    assert_int_equal(trust(&s, false, NULL), BP_E_AUTH_REJECTED);
    assert_failed(&s, BP_E_AUTH_REJECTED, "SLSF", NULL);
}

/* --- the object --------------------------------------------------------------- */

static void init_unusable_configuration_refused(void **state)
{
    struct bp_auth_config cfg;
    struct side s;

    (void)state;
    cfg = config(CLIENT);
    cfg.identity = NULL;
    assert_int_equal(bp_auth_init(&s.a, &cfg), BP_E_INVALID);
    cfg = config(CLIENT);
    cfg.nonce_secret = NULL;
    assert_int_equal(bp_auth_init(&s.a, &cfg), BP_E_INVALID);
    cfg = config(CLIENT);
    cfg.self_name = "no name";
    assert_int_equal(bp_auth_init(&s.a, &cfg), BP_E_INVALID);
    cfg = config(CLIENT);
    cfg.dialled_name = NULL;
    assert_int_equal(bp_auth_init(&s.a, &cfg), BP_E_INVALID);
    cfg = config(SERVER);
    cfg.n_cookie_only = 1;
    assert_int_equal(bp_auth_init(&s.a, &cfg), BP_E_INVALID);
    assert_int_equal(bp_auth_start(&s.a, NOW, WALL), BP_E_STATE);
    bp_auth_free(&s.a);
}

static void client_not_started_takes_no_input(void **state)
{
    struct bp_auth_config cfg = config(CLIENT);
    struct bp_auth a;
    struct bp_auth_effect e;

    (void)state;
    assert_int_equal(bp_auth_init(&a, &cfg), 0);
    assert_int_equal(bp_auth_recv(&a, sent[SERVER][0].p, sent[SERVER][0].len, NOW, WALL),
                     BP_E_STATE);
    assert_int_equal(bp_auth_peer_fin(&a), BP_E_STATE);
    assert_false(bp_auth_poll(&a, &e));
    bp_auth_free(&a);
}

/* A host that polls only at the end gets the same effects in the same order. */
static void poll_at_the_end_gives_all_effects(void **state)
{
    struct bp_auth_config cfg = config(SERVER);
    struct side s = {.cfg = cfg};

    (void)state;
    assert_int_equal(bp_auth_init(&s.a, &s.cfg), 0);
    assert_int_equal(bp_auth_recv(&s.a, sent[CLIENT][0].p, sent[CLIENT][0].len, NOW, WALL), 0);
    assert_int_equal(bp_auth_trust(&s.a, false, NULL, NOW, WALL + 5), 0);
    for (size_t m = 1; m < 3; m++) {
        assert_int_equal(bp_auth_recv(&s.a, sent[CLIENT][m].p, sent[CLIENT][m].len, NOW, WALL), 0);
    }
    drain(&s);
    assert_string_equal(s.log, "LSSsD");
    assert_memory_equal(s.wire, sent[SERVER][0].p, sent[SERVER][0].len);
}

static void free_wipes_everything(void **state)
{
    static const struct bp_auth zero;
    struct side s;

    (void)state;
    bring_default(&s, SERVER, BP_AUTH_ST_FINISHED);
    bp_auth_free(&s.a);
    assert_memory_equal(&s.a, &zero, sizeof(zero));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(client_vector_byte_exact),
        cmocka_unit_test(server_vector_byte_exact),
        cmocka_unit_test(chunking_any_size_same_result),
        cmocka_unit_test(both_sides_real_nonces_succeed),
        cmocka_unit_test(longest_name_fits),
        cmocka_unit_test(table_every_state_and_message),
        cmocka_unit_test(table_every_state_malformed_input_fails),
        cmocka_unit_test(table_every_state_early_fin_fails),
        cmocka_unit_test(over_everything_is_ignored),
        cmocka_unit_test(trust_other_pin_is_key_mismatch),
        cmocka_unit_test(trust_strict_takes_only_pinned_keys),
        cmocka_unit_test(trust_wrong_calls_change_nothing),
        cmocka_unit_test(trust_pending_input_is_bounded),
        cmocka_unit_test(trust_fin_meanwhile_fails_afterwards),
        cmocka_unit_test(init_unusable_configuration_refused),
        cmocka_unit_test(client_not_started_takes_no_input),
        cmocka_unit_test(poll_at_the_end_gives_all_effects),
        cmocka_unit_test(free_wipes_everything),
    };

    return cmocka_run_group_tests(tests, setup, teardown) != 0;
}
