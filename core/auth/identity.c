/* SPDX-License-Identifier: Apache-2.0 */
/* Ed25519 key pairs on libsodium; digests and random bytes on GnuTLS. */
#include "auth/identity.h"

#include <string.h>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <sodium.h>

#include "base/err.h"

_Static_assert(crypto_sign_SEEDBYTES == BP_KEY_LEN && crypto_sign_PUBLICKEYBYTES == BP_KEY_LEN &&
                   crypto_sign_BYTES == BP_SIG_LEN,
               "libsodium's crypto_sign is Ed25519");

struct bp_identity {
    const struct bp_mem *mem;
    uint8_t secret[crypto_sign_SECRETKEYBYTES]; /* the seed and the public key */
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

int bp_identity_new(struct bp_identity **out, const uint8_t seed[static BP_KEY_LEN],
                    const uint8_t *expect_pub, const struct bp_mem *mem)
{
    struct bp_identity *id = bp_mem_zalloc(mem, 1, sizeof(*id));
    int rc = 0;

    *out = NULL;
    if (id == NULL) {
        return BP_E_NOMEM;
    }
    id->mem = mem;
    if (sodium_init() < 0 || crypto_sign_seed_keypair(id->pub, id->secret, seed) != 0) {
        rc = BP_E_CRYPTO;
    } else if (expect_pub != NULL && !bp_equal_ct(id->pub, expect_pub, BP_KEY_LEN)) {
        rc = BP_E_KEYPAIR;
    }
    if (rc != 0) {
        bp_identity_del(id);
        return rc;
    }
    *out = id;
    return 0;
}

void bp_identity_del(struct bp_identity *id)
{
    const struct bp_mem *mem;

    if (id == NULL) {
        return;
    }
    mem = id->mem;
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
    return crypto_sign_detached(sig, NULL, msg, len, id->secret) == 0 ? 0 : BP_E_CRYPTO;
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

/* libsodium refuses keys of small order and those that are not written in the one shortest way. */
int bp_ed25519_verify(const uint8_t pub[static BP_KEY_LEN], const void *msg, size_t len,
                      const uint8_t sig[static BP_SIG_LEN])
{
    if (sodium_init() < 0) {
        return BP_E_CRYPTO;
    }
    return crypto_sign_verify_detached(sig, msg, len, pub) == 0 ? 0 : BP_E_AUTH_SIGNATURE;
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
