/* SPDX-License-Identifier: Apache-2.0 */
/* Packet protection by the faster library: the RFC's example, and the same bytes as GnuTLS. */
#include "support/t.h"

#include "quic/packet_crypt.h"

#include <gnutls/crypto.h>
#include <ngtcp2/ngtcp2_crypto.h>

static ngtcp2_callbacks cb;

static void need_fast(void)
{
    if (!bp_packet_crypt_fast()) {
        print_message("no faster library in this build, or not for this CPU\n");
        skip();
    }
    bp_packet_crypt_callbacks(&cb);
}

static void unhex(uint8_t *out, const char *hex)
{
    for (; hex[0] != '\0'; hex += 2) {
        unsigned byte;
        assert_int_equal(sscanf(hex, "%2x", &byte), 1);
        *out++ = (uint8_t)byte;
    }
}

/* RFC 9001, A.2: the client's Initial. */
static void packet_hp_mask_is_the_rfcs(void **state)
{
    ngtcp2_crypto_cipher_ctx hp;
    ngtcp2_crypto_cipher unused = {0};
    struct t_heap h;
    uint8_t key[16], sample[16], want[5], mask[5];

    (void)state;
    need_fast();
    t_heap_init(&h, -1);
    unhex(key, "9f50449e04a0e810283a1e9933adedd2");
    unhex(sample, "d1b1c98dd7689fb8ec11d242b123dc9b");
    unhex(want, "437b9aec36");
    assert_int_equal(bp_packet_hp_new(&hp, &h.mem, key), 0);
    assert_int_equal(cb.hp_mask(mask, &unused, &hp, sample), 0);
    assert_memory_equal(mask, want, sizeof(want));
    cb.delete_crypto_cipher_ctx(NULL, &hp, NULL);
    assert_null(hp.native_handle);
    assert_int_equal(h.live, 0);
}

static void random_bytes(uint64_t *rng, uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        p[i] = (uint8_t)t_rand(rng);
    }
}

static void packet_bytes_are_those_of_gnutls(void **state)
{
    enum { MAX = 17000 };
    static uint8_t plain[MAX], ours[MAX + 16], theirs[MAX + 16], back[MAX];
    ngtcp2_crypto_aead unused = {0};
    uint64_t rng = t_seed(9);
    struct t_heap h;

    (void)state;
    need_fast();
    t_heap_init(&h, -1);
    for (unsigned i = 0; i < 2000; i++) {
        uint8_t key[16], nonce[12], aad[64];
        size_t len = i < 300 ? i : t_rand(&rng) % MAX, aad_len = t_rand(&rng) % sizeof(aad);
        size_t out = sizeof(theirs), flip;
        gnutls_datum_t datum = {.data = key, .size = sizeof(key)};
        gnutls_aead_cipher_hd_t g;
        ngtcp2_crypto_aead_ctx k;

        random_bytes(&rng, key, sizeof(key));
        random_bytes(&rng, nonce, sizeof(nonce));
        random_bytes(&rng, aad, aad_len);
        random_bytes(&rng, plain, len);
        assert_int_equal(gnutls_aead_cipher_init(&g, GNUTLS_CIPHER_AES_128_GCM, &datum), 0);
        assert_int_equal(gnutls_aead_cipher_encrypt(g, nonce, sizeof(nonce), aad, aad_len, 16,
                                                    plain, len, theirs, &out),
                         0);
        gnutls_aead_cipher_deinit(g);
        assert_int_equal(bp_packet_key_new(&k, &h.mem, key), 0);
        /* In place, as ngtcp2 does it. */
        memcpy(ours, plain, len);
        assert_int_equal(cb.encrypt(ours, &unused, &k, ours, len, nonce, 12, aad, aad_len), 0);
        assert_memory_equal(ours, theirs, len + 16);
        assert_int_equal(
            bp_packet_decrypt(back, &unused, &k, ours, len + 16, nonce, 12, aad, aad_len), 0);
        assert_memory_equal(back, plain, len);
        flip = t_rand(&rng) % (len + 16);
        ours[flip] ^= (uint8_t)(1u << (i % 8));
        assert_int_equal(
            bp_packet_decrypt(back, &unused, &k, ours, len + 16, nonce, 12, aad, aad_len),
            NGTCP2_ERR_DECRYPT);
        cb.delete_crypto_aead_ctx(NULL, &k, NULL);
    }
    assert_int_equal(h.live, 0);
}

static void packet_short_or_odd_input_is_refused(void **state)
{
    ngtcp2_crypto_aead unused = {0};
    ngtcp2_crypto_aead_ctx k;
    struct t_heap h;
    uint8_t key[16] = {1}, nonce[12] = {0}, text[32] = {0}, out[32];

    (void)state;
    need_fast();
    t_heap_init(&h, 0);
    assert_int_not_equal(bp_packet_key_new(&k, &h.mem, key), 0);
    assert_int_not_equal(bp_packet_hp_new(&(ngtcp2_crypto_cipher_ctx){0}, &h.mem, key), 0);
    t_heap_init(&h, -1);
    assert_int_equal(bp_packet_key_new(&k, &h.mem, key), 0);
    for (size_t len = 0; len < 16; len++) {
        assert_int_equal(bp_packet_decrypt(out, &unused, &k, text, len, nonce, 12, NULL, 0),
                         NGTCP2_ERR_DECRYPT);
    }
    assert_int_equal(bp_packet_decrypt(out, &unused, &k, text, 32, nonce, 8, NULL, 0),
                     NGTCP2_ERR_DECRYPT);
    assert_int_equal(cb.encrypt(out, &unused, &k, text, 8, nonce, 8, NULL, 0),
                     NGTCP2_ERR_CALLBACK_FAILURE);
    cb.delete_crypto_aead_ctx(NULL, &k, NULL);
    assert_int_equal(h.live, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packet_hp_mask_is_the_rfcs),
        cmocka_unit_test(packet_bytes_are_those_of_gnutls),
        cmocka_unit_test(packet_short_or_odd_input_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
