/* SPDX-License-Identifier: Apache-2.0 */
/* Ed25519 key pairs against WIRE 3.4 and RFC 8032, fingerprints, digests. */
#include "support/t.h"

#include "auth/identity.h"
#include "base/err.h"

static const char client_seed[] =
    "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20";
static const char client_pub[] = "79b5562e8fe654f94078b112e8a98ba7901f853ae695bed7e0e3910bad049664";

static struct bp_identity *from_hex(const char *hex)
{
    struct bp_identity *id = NULL;
    uint8_t seed[BP_KEY_LEN];

    assert_int_equal(t_hex(hex, seed, sizeof(seed)), sizeof(seed));
    assert_int_equal(bp_identity_new(&id, seed, NULL, bp_mem_libc()), 0);
    return id;
}

static void new_seed_gives_the_public_key(void **state)
{
    struct bp_identity *id = from_hex(client_seed);
    uint8_t pub[BP_KEY_LEN];

    (void)state;
    t_hex(client_pub, pub, sizeof(pub));
    assert_memory_equal(bp_identity_pub(id), pub, sizeof(pub));
    bp_identity_del(id);
}

static void new_expected_key_is_compared(void **state)
{
    struct bp_identity *id = NULL;
    uint8_t seed[BP_KEY_LEN];
    uint8_t pub[BP_KEY_LEN];

    (void)state;
    t_hex(client_seed, seed, sizeof(seed));
    t_hex(client_pub, pub, sizeof(pub));
    assert_int_equal(bp_identity_new(&id, seed, pub, bp_mem_libc()), 0);
    assert_non_null(id);
    bp_identity_del(id);
    pub[31] ^= 1;
    assert_int_equal(bp_identity_new(&id, seed, pub, bp_mem_libc()), BP_E_KEYPAIR);
    assert_null(id);
}

static void new_no_memory_fails_and_leaks_nothing(void **state)
{
    uint8_t seed[BP_KEY_LEN] = {1};
    uint8_t wrong[BP_KEY_LEN] = {2};

    (void)state;
    for (long allow = 0;; allow++) {
        struct bp_identity *id = NULL;
        struct t_heap h;
        int rc;

        t_heap_init(&h, allow);
        rc = bp_identity_new(&id, seed, NULL, &h.mem);
        if (rc == 0) {
            assert_true(allow > 0);
            bp_identity_del(id);
            assert_int_equal(h.live, 0);
            assert_int_equal(bp_identity_new(&id, seed, wrong, &h.mem), BP_E_NOMEM);
            h.allow = -1;
            assert_int_equal(bp_identity_new(&id, seed, wrong, &h.mem), BP_E_KEYPAIR);
            assert_int_equal(h.live, 0);
            break;
        }
        assert_int_equal(rc, BP_E_NOMEM);
        assert_null(id);
        assert_int_equal(h.live, 0);
    }
    bp_identity_del(NULL);
}

/* RFC 8032, 7.1: tests 1 (empty message) and 3. */
static void sign_rfc8032_vectors(void **state)
{
    static const struct {
        const char *seed, *msg, *sig;
    } v[] = {
        {"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", "",
         "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
         "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"},
        {"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7", "af82",
         "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
         "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
        struct bp_identity *id = from_hex(v[i].seed);
        uint8_t msg[4];
        uint8_t want[BP_SIG_LEN];
        uint8_t sig[BP_SIG_LEN];
        size_t len = t_hex(v[i].msg, msg, sizeof(msg));

        t_hex(v[i].sig, want, sizeof(want));
        assert_int_equal(bp_identity_sign(id, msg, len, sig), 0);
        assert_memory_equal(sig, want, sizeof(sig));
        assert_int_equal(bp_ed25519_verify(bp_identity_pub(id), msg, len, sig), 0);
        bp_identity_del(id);
    }
}

static void verify_any_flipped_bit_refused(void **state)
{
    struct bp_identity *id = from_hex(client_seed);
    uint8_t msg[5] = {'h', 'e', 'l', 'l', 'o'};
    uint8_t pub[BP_KEY_LEN];
    uint8_t sig[BP_SIG_LEN];

    (void)state;
    memcpy(pub, bp_identity_pub(id), sizeof(pub));
    assert_int_equal(bp_identity_sign(id, msg, sizeof(msg), sig), 0);
    for (size_t i = 0; i < sizeof(sig); i++) {
        sig[i] ^= (uint8_t)(1u << (i % 8));
        assert_int_equal(bp_ed25519_verify(pub, msg, sizeof(msg), sig), BP_E_AUTH_SIGNATURE);
        sig[i] ^= (uint8_t)(1u << (i % 8));
    }
    for (size_t i = 0; i < sizeof(msg); i++) {
        msg[i] ^= 1;
        assert_int_equal(bp_ed25519_verify(pub, msg, sizeof(msg), sig), BP_E_AUTH_SIGNATURE);
        msg[i] ^= 1;
    }
    assert_int_equal(bp_ed25519_verify(pub, msg, sizeof(msg) - 1, sig), BP_E_AUTH_SIGNATURE);
    pub[0] ^= 1;
    assert_int_equal(bp_ed25519_verify(pub, msg, sizeof(msg), sig), BP_E_AUTH_SIGNATURE);
    pub[0] ^= 1;
    assert_int_equal(bp_ed25519_verify(pub, msg, sizeof(msg), sig), 0);
    bp_identity_del(id);
}

/* S and S + L solve the same equation; RFC 8032, 5.1.7 wants S < L. */
static void verify_second_form_of_a_signature_refused(void **state)
{
    struct bp_identity *id = from_hex(client_seed);
    uint8_t order[BP_KEY_LEN];
    uint8_t sig[BP_SIG_LEN];
    unsigned carry = 0;

    (void)state;
    t_hex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010", order, sizeof(order));
    assert_int_equal(bp_identity_sign(id, "hello", 5, sig), 0);
    for (size_t i = 0; i < sizeof(order); i++) {
        carry += (unsigned)sig[BP_SIG_LEN / 2 + i] + order[i];
        sig[BP_SIG_LEN / 2 + i] = (uint8_t)carry;
        carry >>= 8;
    }
    assert_int_equal(carry, 0);
    assert_int_equal(bp_ed25519_verify(bp_identity_pub(id), "hello", 5, sig), BP_E_AUTH_SIGNATURE);
    bp_identity_del(id);
}

/* R = A = the neutral element and S = 0 satisfies the equation for every message. */
static void verify_small_order_keys_refused(void **state)
{
    static const char *const keys[] = {
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    };
    uint8_t sig[BP_SIG_LEN] = {1};

    (void)state;
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        uint8_t pub[BP_KEY_LEN];

        t_hex(keys[i], pub, sizeof(pub));
        for (int sign = 0; sign < 2; sign++) {
            pub[31] = (uint8_t)((pub[31] & 0x7f) | (sign != 0 ? 0x80 : 0));
            for (size_t k = 0; k < 7; k++) {
                t_hex(keys[k], sig, BP_KEY_LEN);
                for (uint8_t m = 0; m < 16; m++) {
                    assert_int_equal(bp_ed25519_verify(pub, &m, 1, sig), BP_E_AUTH_SIGNATURE);
                }
            }
        }
    }
}

static void generate_pairs_differ_and_match(void **state)
{
    struct bp_identity *id = NULL;
    uint8_t seed[2][BP_KEY_LEN];
    uint8_t pub[2][BP_KEY_LEN];

    (void)state;
    assert_int_equal(bp_identity_generate(seed[0], pub[0]), 0);
    assert_int_equal(bp_identity_generate(seed[1], pub[1]), 0);
    assert_memory_not_equal(seed[0], seed[1], BP_KEY_LEN);
    assert_memory_not_equal(pub[0], pub[1], BP_KEY_LEN);
    assert_int_equal(bp_identity_new(&id, seed[0], pub[0], bp_mem_libc()), 0);
    bp_identity_del(id);
    assert_int_equal(bp_identity_new(&id, seed[0], pub[1], bp_mem_libc()), BP_E_KEYPAIR);
}

static void digests_known_answers(void **state)
{
    uint8_t out[BP_SHA256_LEN];
    uint8_t want[BP_SHA256_LEN];
    uint8_t key[20];

    (void)state;
    t_hex("f156806b850820f4cb19dea3e26453c43ce45cc18bd1a17a9d7ff01493c4929d", want, sizeof(want));
    assert_int_equal(bp_sha256("example server certificate DER", 30, out), 0); /* WIRE 3.4 */
    assert_memory_equal(out, want, sizeof(out));
    t_hex("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7", want, sizeof(want));
    memset(key, 0x0b, sizeof(key)); /* RFC 4231, test case 1 */
    assert_int_equal(bp_hmac_sha256(key, sizeof(key), "Hi There", 8, out), 0);
    assert_memory_equal(out, want, sizeof(out));
}

static void fingerprint_text_is_the_digest_in_base64(void **state)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t pub[BP_KEY_LEN];
    uint8_t hash[BP_SHA256_LEN + 1] = {0};
    char text[BP_FINGERPRINT_TEXT];
    char want[BP_FINGERPRINT_TEXT] = "SHA256:";

    (void)state;
    t_hex(client_pub, pub, sizeof(pub));
    assert_int_equal(bp_fingerprint_sha256(pub, hash), 0);
    for (size_t i = 0; i < 43; i++) {
        unsigned pair = (unsigned)hash[i * 6 / 8] << 8;

        pair |= i * 6 / 8 + 1 < sizeof(hash) ? hash[i * 6 / 8 + 1] : 0;
        want[7 + i] = digits[pair >> (10 - i * 6 % 8) & 0x3f];
    }
    bp_fingerprint_text(pub, text);
    assert_string_equal(text, want);
    assert_int_equal(strlen(text), 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_seed_gives_the_public_key),
        cmocka_unit_test(new_expected_key_is_compared),
        cmocka_unit_test(new_no_memory_fails_and_leaks_nothing),
        cmocka_unit_test(sign_rfc8032_vectors),
        cmocka_unit_test(verify_any_flipped_bit_refused),
        cmocka_unit_test(verify_second_form_of_a_signature_refused),
        cmocka_unit_test(verify_small_order_keys_refused),
        cmocka_unit_test(generate_pairs_differ_and_match),
        cmocka_unit_test(digests_known_answers),
        cmocka_unit_test(fingerprint_text_is_the_digest_in_base64),
    };

    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
