/* SPDX-License-Identifier: Apache-2.0 */
/* One TLS 1.3 session of a QUIC connection: GnuTLS set up for ngtcp2 (RFC 9001). */
#ifndef BP_TLS_SESSION_H
#define BP_TLS_SESSION_H

#include "base/types.h"
#include "quic/conn.h"

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

/*
 * TLS sessions that go on (RFC 8446, 2.2: a ticket is a pre-shared key, with a new Diffie-Hellman
 * exchange each time; no 0-RTT data). A server that has a key for tickets takes them, and gives one
 * when bp_tls_session_give is called after the handshake. A client saves what it has got, and
 * offers it in a later session with the same server, before the handshake; one that the server does
 * not take is no failure. A session that went on has the certificate of the first one, which proved
 * it.
 */
void bp_tls_session_tickets(gnutls_session_t s, const uint8_t key[static BP_TICKET_KEY_LEN]);
void bp_tls_session_give(gnutls_session_t s);
void bp_tls_session_resume(gnutls_session_t s, const uint8_t *p, size_t len);
/* The length of what was saved to `out`, 0 if there is no ticket yet or no room. */
size_t bp_tls_session_save(gnutls_session_t s, uint8_t *out, size_t cap);

/* Whether `erlang-dist` was agreed; call it after the handshake. */
bool bp_tls_session_alpn_ok(gnutls_session_t s);

/* The peer's leaf certificate (DER, borrowed from the session), or NULL. */
const uint8_t *bp_tls_session_peer_cert(gnutls_session_t s, size_t *len);

#endif
