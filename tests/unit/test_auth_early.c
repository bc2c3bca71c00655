/* SPDX-License-Identifier: Apache-2.0 */
/* Challenges that go out before the peer's HELLO came: the same messages, one round trip less. */
#include "unit/auth_side.h"

static void open_early(struct side *s, const struct bp_auth_config *cfg)
{
    memset(s, 0, sizeof(*s));
    s->cfg = *cfg;
    assert_int_equal(bp_auth_init(&s->a, &s->cfg), 0);
    assert_int_equal(bp_auth_start_early(&s->a, NOW, wall_of(s)), 0);
    drain(s);
}

static void open_default(struct side *s, enum bp_auth_role role, bool early)
{
    struct bp_auth_config cfg = config(role);

    if (early) {
        open_early(s, &cfg);
    } else {
        open_with(s, &cfg);
    }
}

static void all_combinations_same_bytes(void **state)
{
    static const size_t n_msgs[2] = {3, 4};

    (void)state;
    for (int early = 0; early < 4; early++) {
        struct side side[2];

        open_default(&side[CLIENT], CLIENT, (early & 1) != 0);
        open_default(&side[SERVER], SERVER, (early & 2) != 0);
        pump(&side[CLIENT], &side[SERVER]);
        for (int role = 0; role < 2; role++) {
            size_t at = 0;

            assert_int_equal(side[role].a.state, BP_AUTH_ST_FINISHED);
            assert_true(side[role].done.has_identity);
            assert_true(side[role].done.pin);
            for (size_t m = 0; m < n_msgs[role]; m++) {
                assert_memory_equal(side[role].wire + at, sent[role][m].p, sent[role][m].len);
                at += sent[role][m].len;
            }
            assert_int_equal(side[role].wire_len, at);
        }
    }
}

static void first_words_are_hello_and_challenge(void **state)
{
    (void)state;
    for (int role = 0; role < 2; role++) {
        struct side s;

        open_default(&s, (enum bp_auth_role)role, true);
        assert_string_equal(s.log, "S");
        assert_int_equal(s.wire_len, sent[role][0].len + sent[role][1].len);
        assert_int_equal(bp_auth_start_early(&s.a, NOW, WALL), BP_E_STATE);
    }
}

static void refusals_are_told_after_the_first_words(void **state)
{
    struct bp_auth_config cfg = config(SERVER);
    struct side s;

    (void)state;
    open_early(&s, &cfg);
    assert_int_equal(recv_type(&s, BP_AUTH_MSG_HELLO), 0);
    assert_int_not_equal(trust(&s, true, bp_identity_pub(ids[SERVER])), 0);
    assert_failed(&s, BP_E_AUTH_KEY_MISMATCH, "SLsF", "000f05000c6b65795f6d69736d61746368");

    cfg.trust_mode = BP_TRUST_STRICT;
    open_early(&s, &cfg);
    assert_int_equal(recv_type(&s, BP_AUTH_MSG_HELLO), 0);
    assert_int_not_equal(trust(&s, false, NULL), 0);
    assert_failed(&s, BP_E_AUTH_UNTRUSTED, "SLsF", NULL);
}

/* Who has our challenge early can still not have it signed by us. */
static void own_challenge_sent_back_is_refused(void **state)
{
    (void)state;
    for (int role = 0; role < 2; role++) {
        struct side s;

        open_default(&s, (enum bp_auth_role)role, true);
        assert_int_equal(recv_type(&s, BP_AUTH_MSG_HELLO), 0);
        assert_int_equal(trust(&s, false, NULL), 0);
        assert_int_equal(recv_challenge(&s, nonces[role], wall_of(&s)), BP_E_AUTH_REFLECTED);
        assert_failed(&s, BP_E_AUTH_REFLECTED, "SLF", NULL);
    }
}

static void challenge_ages_from_its_sending(void **state)
{
    struct bp_auth_config cfg = config(SERVER);
    struct side s;

    (void)state;
    open_early(&s, &cfg);
    assert_int_equal(recv_type(&s, BP_AUTH_MSG_HELLO), 0);
    assert_int_equal(trust(&s, false, NULL), 0);
    assert_int_equal(recv_type(&s, BP_AUTH_MSG_CHALLENGE), 0);
    assert_int_equal(recv_at(&s, sent[CLIENT][BP_AUTH_MSG_RESPONSE - 1].p,
                             sent[CLIENT][BP_AUTH_MSG_RESPONSE - 1].len, NOW + cfg.window + 1,
                             WALL + 30001),
                     BP_E_AUTH_LATE);
}

static void server_with_cookie_only_names_waits(void **state)
{
    const char *const patterns[] = {c_name};
    struct bp_auth_config cfg = config(SERVER);
    struct side s;

    (void)state;
    cfg.cookie_only = patterns;
    cfg.n_cookie_only = 1;
    open_early(&s, &cfg);
    assert_string_equal(s.log, "");
    assert_int_equal(recv_type(&s, BP_AUTH_MSG_HELLO), 0);
    /* an early client's challenge comes behind its HELLO and means nothing any more */
    assert_int_equal(recv_type(&s, BP_AUTH_MSG_CHALLENGE), 0);
    assert_string_equal(s.log, "sD");
    assert_false(s.done.has_identity);
}

/* S3 can be sent before C3 is verified: C2, C3 and the end of the stream wait in between. */
static void server_pauses_between_answer_and_verification(void **state)
{
    struct bp_auth_config cfg = config(SERVER);
    struct side s;

    (void)state;
    cfg.pause = true;
    for (int fin = 0; fin < 2; fin++) {
        open_early(&s, &cfg);
        assert_int_equal(recv_type(&s, BP_AUTH_MSG_HELLO), 0);
        assert_int_equal(trust(&s, false, NULL), 0);
        assert_int_equal(recv_type(&s, BP_AUTH_MSG_CHALLENGE), 0);
        assert_string_equal(s.log, "SLS");
        assert_int_equal(recv_type(&s, BP_AUTH_MSG_RESPONSE), 0);
        if (fin != 0) {
            assert_int_equal(bp_auth_peer_fin(&s.a), 0);
        }
        drain(&s);
        assert_string_equal(s.log, "SLS");
        assert_int_equal(bp_auth_continue(&s.a, NOW, WALL), 0);
        drain(&s);
        assert_string_equal(s.log, "SLSsD");
        assert_true(s.done.has_identity);
    }
    /* an end without C3 is one that comes too early, pause or not */
    open_early(&s, &cfg);
    assert_int_equal(recv_type(&s, BP_AUTH_MSG_HELLO), 0);
    assert_int_equal(trust(&s, false, NULL), 0);
    assert_int_equal(recv_type(&s, BP_AUTH_MSG_CHALLENGE), 0);
    assert_int_equal(bp_auth_peer_fin(&s.a), 0);
    assert_int_equal(bp_auth_continue(&s.a, NOW, WALL), BP_E_AUTH_FINISHED);
    drain(&s);
    assert_failed(&s, BP_E_AUTH_FINISHED, "SLSF", NULL);
    assert_int_equal(bp_auth_continue(&s.a, NOW, WALL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_combinations_same_bytes),
        cmocka_unit_test(first_words_are_hello_and_challenge),
        cmocka_unit_test(refusals_are_told_after_the_first_words),
        cmocka_unit_test(own_challenge_sent_back_is_refused),
        cmocka_unit_test(challenge_ages_from_its_sending),
        cmocka_unit_test(server_with_cookie_only_names_waits),
        cmocka_unit_test(server_pauses_between_answer_and_verification),
    };

    return cmocka_run_group_tests(tests, setup, teardown) != 0;
}
