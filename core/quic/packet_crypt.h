/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Protection of 1-RTT packets (RFC 9001, 5) by a library that uses all of the CPU, where there is
 * one: AES-128-GCM of libipsec-mb is three times as fast as GnuTLS's on a CPU with vector AES, and
 * AES is more than a third of what bulk costs. TLS, Initial and Handshake packets, other ciphers
 * and other CPUs stay with GnuTLS and ngtcp2's helper.
 *
 * ngtcp2 hands a key's native handle to callbacks that know nothing else, so a key of ours is told
 * from one of GnuTLS by the lowest bit of that handle.
 */
#ifndef BP_PACKET_CRYPT_H
#define BP_PACKET_CRYPT_H

#include "base/types.h"

#include <gnutls/gnutls.h>
#include <ngtcp2/ngtcp2.h>

/* Whether this build and this CPU have it. */
bool bp_packet_crypt_fast(void);

/*
 * Sets the callbacks of packet protection. `decrypt` is left to the caller, who calls
 * bp_packet_decrypt.
 */
void bp_packet_crypt_callbacks(ngtcp2_callbacks *cb);

/* As ngtcp2_decrypt: 0, or NGTCP2_ERR_DECRYPT for a packet that is not authentic. */
int bp_packet_decrypt(uint8_t *dest, const ngtcp2_crypto_aead *aead,
                      const ngtcp2_crypto_aead_ctx *ctx, const uint8_t *ciphertext,
                      size_t ciphertext_len, const uint8_t *nonce, size_t nonce_len,
                      const uint8_t *aad, size_t aad_len);

/* Takes over the keys that a session derives; after ngtcp2's helper has configured it. */
void bp_packet_crypt_session(gnutls_session_t s);

/* --- for packet_crypt.c and its test ------------------------------------- */

/*
 * Contexts for a 16-byte packet or header protection key. 0, BP_E_NOMEM, or BP_E_CRYPTO where
 * bp_packet_crypt_fast() is false. Freed by the callbacks delete_crypto_aead_ctx and _cipher_ctx.
 */
int bp_packet_key_new(ngtcp2_crypto_aead_ctx *out, const struct bp_mem *mem,
                      const uint8_t key[static 16]) BP_MUST_CHECK;
int bp_packet_hp_new(ngtcp2_crypto_cipher_ctx *out, const struct bp_mem *mem,
                     const uint8_t key[static 16]) BP_MUST_CHECK;

#endif
