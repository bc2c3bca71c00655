/* SPDX-License-Identifier: Apache-2.0 */
/* Ed25519 key pairs, digests and random bytes on GnuTLS. */
#include "auth/identity.h"

#include <string.h>

#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include "base/err.h"

#define PKCS8_PREFIX_LEN 16u

struct bp_identity {
    const struct bp_mem *mem;
    gnutls_privkey_t key;
    uint8_t pub[BP_KEY_LEN];
};

/* The one place where GnuTLS' codes become ours. */
static int from_gnutls(int rc)
{
    if (rc >= 0) {
        return 0;
    }
    return rc == GNUTLS_E_MEMORY_ERROR ? BP_E_NOMEM : BP_E_CRYPTO;
}

static gnutls_datum_t datum(const void *p, size_t len)
{
    union {
        const void *in;
        void *out;
    } u = {.in = p}; /* GnuTLS' datum lacks const; none of our calls writes to it */

    return (gnutls_datum_t){.data = u.out, .size = (unsigned)len};
}

/* Imported as PKCS #8 (RFC 8410, section 7), because then GnuTLS computes the public half. */
static int import_seed(gnutls_privkey_t key, const uint8_t *seed)
{
    uint8_t der[PKCS8_PREFIX_LEN + BP_KEY_LEN] = {
        0x30, 0x2e,                               /* SEQUENCE, 46 bytes */
        0x02, 0x01, 0x00,                         /* version 0 */
        0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, /* id-Ed25519 */
        0x04, 0x22, 0x04, 0x20                    /* OCTET STRING of OCTET STRING, 32 bytes */
    };
    gnutls_datum_t d = datum(der, sizeof(der));
    int rc;

    memcpy(der + PKCS8_PREFIX_LEN, seed, BP_KEY_LEN);
    rc = gnutls_privkey_import_x509_raw(key, &d, GNUTLS_X509_FMT_DER, NULL, 0);
    bp_wipe(der, sizeof(der));
    return from_gnutls(rc);
}

static int export_pub(gnutls_privkey_t key, uint8_t *pub)
{
    gnutls_datum_t x = {.data = NULL, .size = 0};
    gnutls_ecc_curve_t curve = GNUTLS_ECC_CURVE_INVALID;
    int rc = from_gnutls(gnutls_privkey_export_ecc_raw2(key, &curve, &x, NULL, NULL, 0));

    if (rc == 0 && (curve != GNUTLS_ECC_CURVE_ED25519 || x.size != BP_KEY_LEN)) {
        rc = BP_E_CRYPTO;
    }
    if (rc == 0) {
        memcpy(pub, x.data, BP_KEY_LEN);
    }
    gnutls_free(x.data);
    return rc;
}

int bp_identity_new(struct bp_identity **out, const uint8_t seed[static BP_KEY_LEN],
                    const uint8_t *expect_pub, const struct bp_mem *mem)
{
    struct bp_identity *id = bp_mem_zalloc(mem, 1, sizeof(*id));
    int rc;

    *out = NULL;
    if (id == NULL) {
        return BP_E_NOMEM;
    }
    id->mem = mem;
    rc = from_gnutls(gnutls_privkey_init(&id->key));
    if (rc != 0) {
        id->key = NULL;
        goto fail;
    }
    rc = import_seed(id->key, seed);
    if (rc == 0) {
        rc = export_pub(id->key, id->pub);
    }
    if (rc == 0 && expect_pub != NULL && !bp_equal_ct(id->pub, expect_pub, BP_KEY_LEN)) {
        rc = BP_E_KEYPAIR;
    }
    if (rc != 0) {
        goto fail;
    }
    *out = id;
    return 0;
fail:
    bp_identity_del(id);
    return rc;
}

void bp_identity_del(struct bp_identity *id)
{
    const struct bp_mem *mem;

    if (id == NULL) {
        return;
    }
    mem = id->mem;
    if (id->key != NULL) {
        gnutls_privkey_deinit(id->key); /* wipes the seed */
    }
    bp_wipe(id, sizeof(*id));
    mem->release(mem->ctx, id);
}

const uint8_t *bp_identity_pub(const struct bp_identity *id)
{
    return id->pub;
}

int bp_identity_sign(const struct bp_identity *id, const void *msg, size_t len,
                     uint8_t sig[static BP_SIG_LEN])
{
    gnutls_datum_t m = datum(msg, len);
    gnutls_datum_t s = {.data = NULL, .size = 0};
    int rc = from_gnutls(gnutls_privkey_sign_data2(id->key, GNUTLS_SIGN_EDDSA_ED25519, 0, &m, &s));

    if (rc == 0 && s.size != BP_SIG_LEN) {
        rc = BP_E_CRYPTO;
    }
    if (rc == 0) {
        memcpy(sig, s.data, BP_SIG_LEN);
    }
    gnutls_free(s.data);
    return rc;
}

int bp_identity_generate(uint8_t seed[static BP_KEY_LEN], uint8_t pub[static BP_KEY_LEN])
{
    struct bp_identity *id = NULL;
    int rc = bp_random(seed, BP_KEY_LEN);

    if (rc == 0) {
        rc = bp_identity_new(&id, seed, NULL, bp_mem_libc());
    }
    if (rc == 0) {
        memcpy(pub, id->pub, BP_KEY_LEN);
    }
    bp_identity_del(id);
    return rc;
}

/*
 * The y coordinates of the eight points whose order divides 8, and those of them that can also be
 * written as y + p; little-endian, without the sign bit of x (RFC 8032, 5.1.2).
 */
static bool has_small_order(const uint8_t *pub)
{
    static const uint8_t order8[2][BP_KEY_LEN] = {
        {0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4,
         0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6,
         0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05},
        {0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b,
         0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39,
         0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a},
    };
    uint8_t y[BP_KEY_LEN];
    bool zeros = true;
    bool ones = true;

    memcpy(y, pub, sizeof(y));
    y[31] &= 0x7f;
    for (size_t i = 1; i < 31; i++) {
        zeros = zeros && y[i] == 0x00;
        ones = ones && y[i] == 0xff;
    }
    if (zeros && y[31] == 0x00 && y[0] <= 1) {
        return true; /* y = 0 or 1 */
    }
    if (ones && y[31] == 0x7f && y[0] >= 0xec && y[0] <= 0xee) {
        return true; /* y = p - 1, p or p + 1 */
    }
    return memcmp(y, order8[0], sizeof(y)) == 0 || memcmp(y, order8[1], sizeof(y)) == 0;
}

int bp_ed25519_verify(const uint8_t pub[static BP_KEY_LEN], const void *msg, size_t len,
                      const uint8_t sig[static BP_SIG_LEN])
{
    gnutls_datum_t x = datum(pub, BP_KEY_LEN);
    gnutls_datum_t m = datum(msg, len);
    gnutls_datum_t s = datum(sig, BP_SIG_LEN);
    gnutls_pubkey_t key = NULL;
    int rc;

    if (has_small_order(pub)) {
        return BP_E_AUTH_SIGNATURE;
    }
    rc = gnutls_pubkey_init(&key);
    if (rc < 0) {
        return from_gnutls(rc);
    }
    rc = gnutls_pubkey_import_ecc_raw(key, GNUTLS_ECC_CURVE_ED25519, &x, NULL);
    if (rc >= 0) {
        rc = gnutls_pubkey_verify_data2(key, GNUTLS_SIGN_EDDSA_ED25519, 0, &m, &s);
    }
    gnutls_pubkey_deinit(key);
    if (rc == GNUTLS_E_PK_SIG_VERIFY_FAILED) {
        return BP_E_AUTH_SIGNATURE;
    }
    return from_gnutls(rc);
}

int bp_fingerprint_sha256(const uint8_t pub[static BP_KEY_LEN], uint8_t out[static BP_SHA256_LEN])
{
    return bp_sha256(pub, BP_KEY_LEN, out);
}

void bp_fingerprint_text(const uint8_t pub[static BP_KEY_LEN], char out[static BP_FINGERPRINT_TEXT])
{
    static const char prefix[] = "SHA256:";
    static const char unavailable[] = "SHA256:unavailable";
    const size_t digits = BP_FINGERPRINT_TEXT - sizeof(prefix);
    uint8_t hash[BP_SHA256_LEN];
    gnutls_datum_t d = datum(hash, sizeof(hash));
    gnutls_datum_t text = {.data = NULL, .size = 0};

    if (bp_fingerprint_sha256(pub, hash) != 0 || gnutls_base64_encode2(&d, &text) < 0 ||
        text.size < digits) {
        memcpy(out, unavailable, sizeof(unavailable));
    } else {
        memcpy(out, prefix, sizeof(prefix) - 1);
        memcpy(out + sizeof(prefix) - 1, text.data, digits); /* without the padding */
        out[BP_FINGERPRINT_TEXT - 1] = '\0';
    }
    gnutls_free(text.data);
}

int bp_sha256(const void *p, size_t len, uint8_t out[static BP_SHA256_LEN])
{
    return from_gnutls(gnutls_hash_fast(GNUTLS_DIG_SHA256, p, len, out));
}

int bp_hmac_sha256(const void *key, size_t key_len, const void *p, size_t len,
                   uint8_t out[static BP_SHA256_LEN])
{
    return from_gnutls(gnutls_hmac_fast(GNUTLS_MAC_SHA256, key, key_len, p, len, out));
}

int bp_md5(const void *p, size_t len, uint8_t out[static BP_MD5_LEN])
{
    return from_gnutls(gnutls_hash_fast(GNUTLS_DIG_MD5, p, len, out));
}

int bp_random(void *out, size_t len)
{
    return from_gnutls(gnutls_rnd(GNUTLS_RND_KEY, out, len));
}
