/* SPDX-License-Identifier: Apache-2.0 */
/* One TLS 1.3 session of a QUIC connection: GnuTLS set up for ngtcp2 (RFC 9001). */
#ifndef BP_TLS_SESSION_H
#define BP_TLS_SESSION_H

#include "base/types.h"

#include <gnutls/gnutls.h>
#include <ngtcp2/ngtcp2_crypto.h>

struct bp_tls_cred;

/* The application protocol of Erlang distribution over QUIC (WIRE 1.2). */
#define BP_ALPN "erlang-dist"

/*
 * Makes a session. `ref` leads GnuTLS back to the ngtcp2 connection and must outlive it; `cred`
 * is borrowed and must outlive it too. As client the peer's chain is not judged (identity is the
 * Ed25519 key's business), but GnuTLS verifies CertificateVerify, so the peer holds the key of
 * the certificate that the channel binding hashes.
 * Errors: BP_E_NOMEM, BP_E_CRYPTO.
 */
int bp_tls_session_new(gnutls_session_t *out, bool server, struct bp_tls_cred *cred,
                       ngtcp2_crypto_conn_ref *ref) BP_MUST_CHECK;

/* Whether `erlang-dist` was agreed; call it after the handshake. */
bool bp_tls_session_alpn_ok(gnutls_session_t s);

/* The peer's leaf certificate (DER, borrowed from the session), or NULL. */
const uint8_t *bp_tls_session_peer_cert(gnutls_session_t s, size_t *len);

#endif
