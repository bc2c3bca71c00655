/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node's Ed25519 key pair (RFC 8032), and the few other primitives that core/auth needs. Besides
 * core/quic this is the only module that uses GnuTLS. Ed25519 is libsodium's: a signature and its
 * check take half of the time that they take GnuTLS, and a connect waits for four of them.
 */
#ifndef BP_IDENTITY_H
#define BP_IDENTITY_H

#include "base/types.h"

#define BP_SHA256_LEN       32u
#define BP_MD5_LEN          16u
#define BP_FINGERPRINT_TEXT 51u /* "SHA256:", 43 base64 digits, NUL */

/* A key pair in memory. It does not change after `_new`, so that many threads may sign with it. */
struct bp_identity;

/*
 * Makes a key pair from its 32-byte seed (borrowed; the caller wipes it). The public half is always
 * computed from the seed; with `expect_pub` (borrowed, may be NULL) it must be that one. `*out` is
 * the caller's until bp_identity_del. `mem` must outlive it.
 * Errors: BP_E_KEYPAIR, BP_E_NOMEM, BP_E_CRYPTO; then `*out` is NULL.
 */
int bp_identity_new(struct bp_identity **out, const uint8_t seed[static BP_KEY_LEN],
                    const uint8_t *expect_pub, const struct bp_mem *mem) BP_MUST_CHECK;

/* Wipes and frees; NULL is a no-op. */
void bp_identity_del(struct bp_identity *id);

/* The public key, BP_KEY_LEN bytes, valid as long as `id`. */
const uint8_t *bp_identity_pub(const struct bp_identity *id);

/* Pure Ed25519 over `len` bytes. Errors: BP_E_CRYPTO. */
int bp_identity_sign(const struct bp_identity *id, const void *msg, size_t len,
                     uint8_t sig[static BP_SIG_LEN]) BP_MUST_CHECK;

/* A fresh random seed and its public key; the caller wipes the seed. Errors: as bp_identity_new. */
int bp_identity_generate(uint8_t seed[static BP_KEY_LEN],
                         uint8_t pub[static BP_KEY_LEN]) BP_MUST_CHECK;

/*
 * 0 if `sig` is `pub`'s signature over the `len` bytes. Keys of small order are refused: with them
 * one signature fits every message, so that nobody would have to own a secret.
 * Errors: BP_E_AUTH_SIGNATURE; BP_E_CRYPTO if it could not be found out.
 */
int bp_ed25519_verify(const uint8_t pub[static BP_KEY_LEN], const void *msg, size_t len,
                      const uint8_t sig[static BP_SIG_LEN]) BP_MUST_CHECK;

/* SHA-256 of the raw public key. Errors: BP_E_CRYPTO. */
int bp_fingerprint_sha256(const uint8_t pub[static BP_KEY_LEN],
                          uint8_t out[static BP_SHA256_LEN]) BP_MUST_CHECK;

/*
 * The same as text for people, "SHA256:" and base64 without padding, NUL-terminated. Where there
 * is no memory the text is "SHA256:unavailable".
 */
void bp_fingerprint_text(const uint8_t pub[static BP_KEY_LEN],
                         char out[static BP_FINGERPRINT_TEXT]);

/* Errors of the four: BP_E_NOMEM, BP_E_CRYPTO; then the output is not usable. */
int bp_sha256(const void *p, size_t len, uint8_t out[static BP_SHA256_LEN]) BP_MUST_CHECK;
int bp_hmac_sha256(const void *key, size_t key_len, const void *p, size_t len,
                   uint8_t out[static BP_SHA256_LEN]) BP_MUST_CHECK;
/* MD5, which the distribution handshake wants for the cookie; good for nothing else. */
int bp_md5(const void *p, size_t len, uint8_t out[static BP_MD5_LEN]) BP_MUST_CHECK;
/* Random bytes that are good for keys. */
int bp_random(void *out, size_t len) BP_MUST_CHECK;

#endif
