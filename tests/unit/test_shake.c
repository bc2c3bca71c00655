/* SPDX-License-Identifier: Apache-2.0 */
/* The distribution handshake of nodes without a VM: two of them, and each branch of its table. */
#include "support/t.h"

#include "base/err.h"
#include "dist/shake.h"

static void start(struct bp_shake *c, struct bp_shake *s, const char *cookie_c,
                  const char *cookie_s)
{
    assert_int_equal(bp_shake_init(c, false, "c@127.0.0.1", cookie_c, 7), 0);
    assert_int_equal(bp_shake_init(s, true, "s@127.0.0.1", cookie_s, 8), 0);
}

/* Moves all that `from` has to say; returns the last result of `to`. */
static int move(struct bp_shake *from, struct bp_shake *to)
{
    const uint8_t *msg;
    size_t len;
    int rc = 0;

    while (rc == 0 && bp_shake_poll(from, &msg, &len)) {
        rc = bp_shake_recv(to, msg, len);
    }
    return rc;
}

static void both_up(void **state)
{
    static const enum bp_shake_status stati[] = {BP_SHAKE_OK, BP_SHAKE_OK_SIMULTANEOUS};
    struct bp_shake c;
    struct bp_shake s;

    (void)state;
    for (int i = 0; i < 2; i++) {
        start(&c, &s, "x", "x");
        assert_int_equal(move(&c, &s), 0);
        assert_int_equal(s.state, BP_SHAKE_ASKED);
        assert_int_equal(s.peer_creation, 7);
        assert_int_equal(bp_shake_status(&s, stati[i]), 0);
        assert_int_equal(bp_shake_status(&s, stati[i]), BP_E_STATE);
        assert_int_equal(move(&s, &c), 0);
        assert_int_equal(c.state, BP_SHAKE_WAIT_ACK);
        assert_int_equal(move(&c, &s), 0);
        assert_int_equal(s.state, BP_SHAKE_DONE);
        assert_int_equal(move(&s, &c), 0);
        assert_int_equal(c.state, BP_SHAKE_DONE);
        assert_true(c.peer_flags == BP_SHAKE_FLAGS && s.peer_flags == BP_SHAKE_FLAGS);
        assert_int_equal(c.peer_creation, 8);
    }
}

/* The server notices first; a client would, too. */
static void other_cookie(void **state)
{
    struct bp_shake c;
    struct bp_shake s;
    uint8_t wrong[17] = {'a'};

    (void)state;
    start(&c, &s, "x", "y");
    assert_int_equal(move(&c, &s), 0);
    assert_int_equal(bp_shake_status(&s, BP_SHAKE_OK), 0);
    assert_int_equal(move(&s, &c), 0);
    assert_int_equal(move(&c, &s), BP_E_HS_COOKIE);
    assert_int_equal(s.state, BP_SHAKE_FAILED);
    assert_int_equal(bp_shake_recv(&c, wrong, sizeof(wrong)), BP_E_HS_COOKIE);
    assert_int_equal(c.state, BP_SHAKE_FAILED);
}

static void alive(void **state)
{
    struct bp_shake c;
    struct bp_shake s;

    (void)state;
    start(&c, &s, "x", "x");
    assert_int_equal(move(&c, &s), 0);
    assert_int_equal(bp_shake_status(&s, BP_SHAKE_ALIVE), 0);
    assert_int_equal(move(&s, &c), 0);
    assert_int_equal(s.state, BP_SHAKE_WAIT_TRUE);
    assert_int_equal(move(&c, &s), 0);
    assert_int_equal(move(&s, &c), 0);
    assert_int_equal(move(&c, &s), 0);
    assert_int_equal(move(&s, &c), 0);
    assert_int_equal(c.state, BP_SHAKE_DONE);
    assert_int_equal(s.state, BP_SHAKE_DONE);
    /* The client knows of it, too. */
    start(&c, &s, "x", "x");
    c.have_other = true;
    assert_int_equal(move(&c, &s), 0);
    assert_int_equal(bp_shake_status(&s, BP_SHAKE_ALIVE), 0);
    assert_int_equal(move(&s, &c), BP_E_HS_NOT_ALLOWED);
    assert_int_equal(move(&c, &s), BP_E_HS_NOT_ALLOWED);
}

static void unwanted(void **state)
{
    static const char *const words[] = {"snok", "snot_allowed", "snamed:", "s", "sokk"};
    struct bp_shake c;
    struct bp_shake s;

    (void)state;
    start(&c, &s, "x", "x");
    assert_int_equal(move(&c, &s), 0);
    assert_int_equal(bp_shake_status(&s, BP_SHAKE_NOK), BP_E_HS_NOT_ALLOWED);
    assert_int_equal(move(&s, &c), BP_E_HS_NOT_ALLOWED);
    assert_non_null(strstr(c.why, "at the same moment"));
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        start(&c, &s, "x", "x");
        assert_int_equal(bp_shake_recv(&c, (const uint8_t *)words[i], strlen(words[i])),
                         BP_E_HS_NOT_ALLOWED);
        assert_int_equal(c.state, BP_SHAKE_FAILED);
    }
}

/* In every state, every message that does not belong there, and every one that is cut off. */
static void out_of_order(void **state)
{
    static const char tags[] = "sNrac";
    uint8_t msg[64] = {0};

    (void)state;
    for (int step = 0; step < 4; step++) {
        for (size_t t = 0; t < sizeof(tags); t++) {
            struct bp_shake c;
            struct bp_shake s;
            struct bp_shake *x;
            bool right;
            start(&c, &s, "x", "x");
            if (step >= 1) {
                assert_int_equal(move(&c, &s), 0);
                assert_int_equal(bp_shake_status(&s, BP_SHAKE_OK), 0);
            }
            if (step >= 2) {
                assert_int_equal(move(&s, &c), 0);
            }
            x = step == 0 || step == 2 ? &c : &s;
            msg[0] = (uint8_t)tags[t];
            right = (x->state == BP_SHAKE_WAIT_STATUS && tags[t] == 's') ||
                    (x->state == BP_SHAKE_WAIT_ACK && tags[t] == 'a') ||
                    (x->state == BP_SHAKE_WAIT_REPLY && tags[t] == 'r');
            if (!right) {
                assert_int_equal(bp_shake_recv(x, msg, 30), BP_E_HS_MALFORMED);
            } else if (tags[t] != 's') {
                assert_int_equal(bp_shake_recv(x, msg, 5), BP_E_HS_MALFORMED);
            }
        }
    }
}

static void bad_settings(void **state)
{
    static char name[BP_NODE_NAME_MAX + 2];
    static char cookie[BP_SHAKE_COOKIE_MAX + 2];
    struct bp_shake s;

    (void)state;
    memset(name, 'n', sizeof(name) - 1);
    memset(cookie, 'c', sizeof(cookie) - 1);
    assert_int_equal(bp_shake_init(&s, false, "", "x", 1), BP_E_INVALID);
    assert_int_equal(bp_shake_init(&s, false, name, "x", 1), BP_E_INVALID);
    assert_int_equal(bp_shake_init(&s, false, "a@h", cookie, 1), BP_E_INVALID);
    name[BP_NODE_NAME_MAX] = '\0';
    cookie[BP_SHAKE_COOKIE_MAX] = '\0';
    assert_int_equal(bp_shake_init(&s, false, name, cookie, 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_up),  cmocka_unit_test(other_cookie), cmocka_unit_test(alive),
        cmocka_unit_test(unwanted), cmocka_unit_test(out_of_order), cmocka_unit_test(bad_settings),
    };

    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
