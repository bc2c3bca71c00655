/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of core/auth/succession: what a key signs, and which chains lead where. */
#include "auth/succession.h"

#include "base/err.h"
#include "support/t.h"

#include <string.h>

#define KEYS 7

static struct bp_identity *ids[KEYS];
static const char name[] = "a@127.0.0.1";

static const uint8_t *pub(unsigned i)
{
    return bp_identity_pub(ids[i]);
}

static int make_keys(void **state)
{
    (void)state;
    for (unsigned i = 0; i < KEYS; i++) {
        uint8_t seed[BP_KEY_LEN] = {(uint8_t)(i + 1)};
        if (bp_identity_new(&ids[i], seed, NULL, bp_mem_libc()) != 0) {
            return -1;
        }
    }
    return 0;
}

static int drop_keys(void **state)
{
    (void)state;
    for (unsigned i = 0; i < KEYS; i++) {
        bp_identity_del(ids[i]);
    }
    return 0;
}

/* Links from key `first` to the one before `end`. */
static struct bp_succession chain(unsigned first, unsigned end)
{
    struct bp_succession s = {0};

    for (unsigned i = first; i < end; i++) {
        uint8_t sig[BP_SIG_LEN];
        assert_int_equal(bp_succession_sign(ids[i], name, pub(i + 1), sig), 0);
        bp_succession_add(&s, pub(i), sig);
    }
    return s;
}

/* The text is written down here once more: a change of it would lock nodes out. */
static void succession_signs_the_documented_text(void **state)
{
    uint8_t text[64 + 2 + sizeof(name) - 1 + 64] = "barrel_p2p key succession, version 1";
    uint8_t sig[BP_SIG_LEN];

    (void)state;
    text[65] = sizeof(name) - 1;
    memcpy(text + 66, name, sizeof(name) - 1);
    memcpy(text + 66 + sizeof(name) - 1, pub(0), 32);
    memcpy(text + 66 + sizeof(name) - 1 + 32, pub(1), 32);
    assert_int_equal(bp_succession_sign(ids[0], name, pub(1), sig), 0);
    assert_int_equal(bp_ed25519_verify(pub(0), text, sizeof(text), sig), 0);
    /* what answers a challenge has 104 bytes: the shortest name must give more */
    assert_true(64 + 2 + 3 + 64 > 104);
    assert_int_equal(bp_succession_sign(ids[0], "no name", pub(1), sig), BP_E_INVALID);
}

static void succession_leads_from_each_key_to_the_last(void **state)
{
    struct bp_succession s = chain(0, 4);

    (void)state;
    assert_int_equal(s.n, 4);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(bp_succession_check(&s, name, pub(i), pub(4)), 0);
    }
    assert_int_equal(bp_succession_check(&s, name, pub(4), pub(4)), BP_E_NOT_FOUND);
    assert_int_equal(bp_succession_check(&s, name, pub(5), pub(4)), BP_E_NOT_FOUND);
    s.n = 0;
    assert_int_equal(bp_succession_check(&s, name, pub(0), pub(4)), BP_E_NOT_FOUND);
}

static void succession_for_other_key_or_name_refused(void **state)
{
    struct bp_succession s = chain(0, 2);

    (void)state;
    assert_int_equal(bp_succession_check(&s, name, pub(0), pub(3)), BP_E_AUTH_SIGNATURE);
    assert_int_equal(bp_succession_check(&s, "b@127.0.0.1", pub(0), pub(2)), BP_E_AUTH_SIGNATURE);
    assert_int_equal(bp_succession_check(&s, "bad", pub(0), pub(2)), BP_E_AUTH_SIGNATURE);
}

/* Each byte counts, of every link from the pinned key on, and of no link before it. */
static void succession_changed_byte_refused(void **state)
{
    struct bp_succession good = chain(0, 2);

    (void)state;
    for (size_t i = 0; i < 2 * sizeof(good.links[0]); i++) {
        struct bp_succession s = good;
        ((uint8_t *)s.links)[i] ^= 0x10;
        assert_true(bp_succession_check(&s, name, pub(0), pub(2)) != 0);
    }
    good.links[0].sig[0] ^= 1;
    assert_int_equal(bp_succession_check(&good, name, pub(1), pub(2)), 0);
}

static void succession_full_drops_the_oldest(void **state)
{
    struct bp_succession s = chain(0, 6);

    (void)state;
    assert_int_equal(s.n, BP_SUCCESSION_MAX);
    assert_int_equal(bp_succession_check(&s, name, pub(1), pub(6)), BP_E_NOT_FOUND);
    assert_int_equal(bp_succession_check(&s, name, pub(2), pub(6)), 0);
}

static void succession_bytes_there_and_back(void **state)
{
    struct bp_succession s = chain(0, 3);
    struct bp_succession t;
    uint8_t bytes[BP_SUCCESSION_MAX * BP_SUCCESSION_LINK_LEN + 97] = {0};
    size_t len = bp_succession_encode(&s, bytes);

    (void)state;
    assert_int_equal(len, 3 * 96);
    assert_int_equal(bp_succession_decode(&t, bytes, len), 0);
    assert_memory_equal(&s, &t, sizeof(s));
    for (len = 0; len <= sizeof(bytes); len++) {
        bool good = len > 0 && len % 96 == 0 && len <= 4 * 96;
        assert_int_equal(bp_succession_decode(&t, bytes, len), good ? 0 : BP_E_INVALID);
        assert_int_equal(t.n, good ? len / 96 : 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(succession_signs_the_documented_text),
        cmocka_unit_test(succession_leads_from_each_key_to_the_last),
        cmocka_unit_test(succession_for_other_key_or_name_refused),
        cmocka_unit_test(succession_changed_byte_refused),
        cmocka_unit_test(succession_full_drops_the_oldest),
        cmocka_unit_test(succession_bytes_there_and_back),
    };

    return cmocka_run_group_tests(tests, make_keys, drop_keys) != 0;
}
