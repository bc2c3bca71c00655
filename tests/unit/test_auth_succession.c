/* SPDX-License-Identifier: Apache-2.0 */
/* A peer whose key was rotated: trusted through the pinned key's signature, and only so. */
#include "unit/auth_side.h"

/* ids[2] was the key of `role` until it signed ids[role]. */
static struct bp_succession handed_over(enum bp_auth_role role, const char *name)
{
    struct bp_succession s = {0};
    uint8_t sig[BP_SIG_LEN];

    assert_int_equal(bp_succession_sign(ids[2], name, bp_identity_pub(ids[role]), sig), 0);
    bp_succession_add(&s, bp_identity_pub(ids[2]), sig);
    return s;
}

static void open_side(struct side *s, const struct bp_auth_config *cfg, bool early)
{
    if (!early) {
        open_with(s, cfg);
        return;
    }
    memset(s, 0, sizeof(*s));
    s->cfg = *cfg;
    assert_int_equal(bp_auth_init(&s->a, &s->cfg), 0);
    assert_int_equal(bp_auth_start_early(&s->a, NOW, wall_of(s)), 0);
    drain(s);
}

/* Runs both; `old` is what the side `judge` has pinned, the other one trusts on first use. */
static void run_pair(struct side sides[2], enum bp_auth_role judge, const uint8_t *old)
{
    size_t seen[2] = {0, 0};
    bool moved = true;

    while (moved) {
        moved = false;
        for (int i = 0; i < 2; i++) {
            struct side *to = &sides[1 - i];
            size_t n = sides[i].wire_len - seen[i];

            if (n != 0) {
                (void)recv_bytes(to, sides[i].wire + seen[i], n);
                seen[i] += n;
                moved = true;
            }
            if (to->a.state == BP_AUTH_ST_WAIT_TRUST) {
                bool pinned = 1 - i == (int)judge && old != NULL;
                (void)trust(to, pinned, pinned ? old : NULL);
                moved = true;
            }
        }
    }
}

static void succession_of_pinned_key_trusted_and_pinned(void **state)
{
    (void)state;
    for (int strict = 0; strict < 2; strict++) {
        for (int r = 0; r < 2; r++) {
            enum bp_auth_role rotated = (enum bp_auth_role)r;
            enum bp_auth_role judge = (enum bp_auth_role)(1 - r);
            struct bp_succession s = handed_over(rotated, rotated == CLIENT ? c_name : s_name);
            struct bp_auth_config cfg[2] = {config(CLIENT), config(SERVER)};
            struct side sides[2];

            cfg[rotated].succession = &s;
            cfg[judge].trust_mode = strict ? BP_TRUST_STRICT : BP_TRUST_TOFU;
            open_side(&sides[CLIENT], &cfg[CLIENT], true);
            open_side(&sides[SERVER], &cfg[SERVER], true);
            run_pair(sides, judge, bp_identity_pub(ids[2]));
            assert_int_equal(sides[judge].a.state, BP_AUTH_ST_FINISHED);
            assert_true(sides[judge].done.pin && sides[judge].done.has_identity);
            assert_memory_equal(sides[judge].done.peer_key, bp_identity_pub(ids[rotated]), 32);
            assert_non_null(sides[judge].done.replaces);
            assert_memory_equal(sides[judge].done.replaces, bp_identity_pub(ids[2]), 32);
            assert_null(sides[rotated].done.replaces);
        }
    }
}

/* A pin that is up to date, or none, is treated as without a succession. */
static void succession_changes_nothing_for_others(void **state)
{
    const uint8_t *pins[2] = {bp_identity_pub(ids[CLIENT]), NULL};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct bp_succession s = handed_over(CLIENT, c_name);
        struct bp_auth_config cfg[2] = {config(CLIENT), config(SERVER)};
        struct side sides[2];

        cfg[CLIENT].succession = &s;
        open_side(&sides[CLIENT], &cfg[CLIENT], true);
        open_side(&sides[SERVER], &cfg[SERVER], true);
        run_pair(sides, SERVER, pins[i]);
        assert_int_equal(sides[SERVER].a.state, BP_AUTH_ST_FINISHED);
        assert_int_equal(sides[SERVER].done.pin, i == 1);
        assert_null(sides[SERVER].done.replaces);
    }
}

/* Not announced, signed for another name, or by another key than the pinned one. */
static void changed_key_without_valid_succession_refused(void **state)
{
    (void)state;
    for (int how = 0; how < 4; how++) {
        struct bp_succession s = handed_over(CLIENT, how == 1 ? "x@127.0.0.1" : c_name);
        struct bp_auth_config cfg[2] = {config(CLIENT), config(SERVER)};
        const uint8_t *pin = bp_identity_pub(ids[how == 2 ? SERVER : 2]);
        struct side sides[2];

        s.links[0].sig[3] ^= how == 3;
        cfg[CLIENT].succession = how == 0 ? NULL : &s;
        open_side(&sides[CLIENT], &cfg[CLIENT], true);
        open_side(&sides[SERVER], &cfg[SERVER], true);
        run_pair(sides, SERVER, pin);
        assert_int_equal(sides[SERVER].failed.err, BP_E_AUTH_KEY_MISMATCH);
        assert_int_equal(sides[CLIENT].failed.err, BP_E_AUTH_REJECTED);
    }
}

/* Without the private key the announcement of another node is worth nothing. */
static void replayed_succession_needs_the_new_key(void **state)
{
    struct bp_succession s = handed_over(CLIENT, c_name);
    struct bp_auth_config cfg = config(SERVER);
    uint8_t links[BP_SUCCESSION_MAX * BP_SUCCESSION_LINK_LEN];
    struct bp_auth_msg msg = {.type = BP_AUTH_MSG_SUCCESSION, .links = links};
    uint8_t forged[BP_SIG_LEN] = {7};
    struct bp_auth_msg answer = {.type = BP_AUTH_MSG_RESPONSE, .sig = forged};
    struct side t;

    (void)state;
    msg.links_len = bp_succession_encode(&s, links);
    open_side(&t, &cfg, true);
    assert_int_equal(recv_msg(&t, &msg), 0);
    assert_int_equal(recv_hello(&t, c_name, bp_identity_pub(ids[CLIENT])), 0);
    assert_int_equal(trust(&t, true, bp_identity_pub(ids[2])), 0);
    assert_int_equal(recv_type(&t, BP_AUTH_MSG_CHALLENGE), 0);
    assert_int_equal(recv_msg(&t, &answer), BP_E_AUTH_SIGNATURE);
    assert_failed(&t, BP_E_AUTH_SIGNATURE, "SLSsF", TOLD_SIGNATURE);
}

static void peers_of_other_implementations_never_see_it(void **state)
{
    struct bp_succession s = handed_over(CLIENT, c_name);
    uint8_t links[BP_SUCCESSION_MAX * BP_SUCCESSION_LINK_LEN];
    struct bp_auth_msg msg = {.type = BP_AUTH_MSG_SUCCESSION, .links = links};

    (void)state;
    msg.links_len = bp_succession_encode(&s, links);
    for (int r = 0; r < 2; r++) {
        struct bp_auth_config cfg = config((enum bp_auth_role)r);
        struct side t;

        cfg.succession = &s;
        bring(&t, &cfg, BP_AUTH_ST_FINISHED);
        /* byte for byte what WIRE 3.4 has */
        assert_memory_equal(t.wire, sent[r][0].p, sent[r][0].len);
        /* and it is not taken from them */
        open_side(&t, &cfg, false);
        assert_int_equal(recv_msg(&t, &msg), BP_E_AUTH_UNEXPECTED);
    }
}

static void succession_out_of_order_refused(void **state)
{
    struct bp_succession s = handed_over(CLIENT, c_name);
    uint8_t links[BP_SUCCESSION_MAX * BP_SUCCESSION_LINK_LEN];
    struct bp_auth_msg msg = {.type = BP_AUTH_MSG_SUCCESSION, .links = links};
    struct bp_auth_config cfg = config(SERVER);
    struct side t;

    (void)state;
    msg.links_len = bp_succession_encode(&s, links);
    open_side(&t, &cfg, true);
    assert_int_equal(recv_msg(&t, &msg), 0);
    assert_int_equal(recv_msg(&t, &msg), BP_E_AUTH_UNEXPECTED);
    open_side(&t, &cfg, true);
    assert_int_equal(recv_type(&t, BP_AUTH_MSG_HELLO), 0);
    assert_int_equal(trust(&t, false, NULL), 0);
    assert_int_equal(recv_msg(&t, &msg), BP_E_AUTH_UNEXPECTED);
}

/* With the most links a side ever sends, everything still fits. */
static void largest_succession_fits(void **state)
{
    struct bp_succession s = {0};
    struct bp_auth_config cfg[2] = {config(CLIENT), config(SERVER)};
    struct side sides[2];
    uint8_t sig[BP_SIG_LEN] = {0};

    (void)state;
    for (unsigned i = 0; i < BP_SUCCESSION_MAX - 1; i++) {
        bp_succession_add(&s, bp_identity_pub(ids[SERVER]), sig);
    }
    assert_int_equal(bp_succession_sign(ids[2], c_name, bp_identity_pub(ids[CLIENT]), sig), 0);
    bp_succession_add(&s, bp_identity_pub(ids[2]), sig);
    cfg[CLIENT].succession = &s;
    open_side(&sides[CLIENT], &cfg[CLIENT], true);
    open_side(&sides[SERVER], &cfg[SERVER], true);
    run_pair(sides, SERVER, bp_identity_pub(ids[2]));
    assert_int_equal(sides[CLIENT].a.state, BP_AUTH_ST_FINISHED);
    assert_int_equal(sides[SERVER].a.state, BP_AUTH_ST_FINISHED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(succession_of_pinned_key_trusted_and_pinned),
        cmocka_unit_test(succession_changes_nothing_for_others),
        cmocka_unit_test(changed_key_without_valid_succession_refused),
        cmocka_unit_test(replayed_succession_needs_the_new_key),
        cmocka_unit_test(peers_of_other_implementations_never_see_it),
        cmocka_unit_test(succession_out_of_order_refused),
        cmocka_unit_test(largest_succession_fits),
    };

    return cmocka_run_group_tests(tests, setup, teardown) != 0;
}
