/* SPDX-License-Identifier: Apache-2.0 */
/* One TLS 1.3 session of a QUIC connection. */
#include "quic/tls_session.h"

#include "base/err.h"
#include "quic/packet_crypt.h"
#include "quic/tls_cert.h"

#include <ngtcp2/ngtcp2_crypto_gnutls.h>
#include <string.h>

static int set_up(gnutls_session_t s, bool server, struct bp_tls_cred *cred)
{
    static unsigned char alpn_name[] = BP_ALPN;
    const gnutls_datum_t alpn = {.data = alpn_name, .size = sizeof(alpn_name) - 1};

    if (gnutls_priority_set(s, bp_tls_cred_priority(cred)) != 0) {
        return BP_E_CRYPTO;
    }
    if ((server ? ngtcp2_crypto_gnutls_configure_server_session(s)
                : ngtcp2_crypto_gnutls_configure_client_session(s)) != 0) {
        return BP_E_CRYPTO;
    }
    bp_packet_crypt_session(s);
    if (gnutls_credentials_set(s, GNUTLS_CRD_CERTIFICATE, bp_tls_cred_native(cred)) != 0 ||
        gnutls_alpn_set_protocols(s, &alpn, 1, GNUTLS_ALPN_MANDATORY) != 0) {
        return BP_E_CRYPTO;
    }
    if (server) {
        gnutls_certificate_server_set_request(s, GNUTLS_CERT_IGNORE);
    }
    return 0;
}

int bp_tls_session_new(gnutls_session_t *out, bool server, struct bp_tls_cred *cred,
                       ngtcp2_crypto_conn_ref *ref)
{
    /* One key share, x25519, is what every peer takes; a second costs a dialler 65 us. */
    unsigned flags =
        server ? GNUTLS_SERVER | GNUTLS_NO_AUTO_SEND_TICKET : GNUTLS_CLIENT | GNUTLS_KEY_SHARE_TOP;
    gnutls_session_t s = NULL;
    int rc;

    *out = NULL;
    rc = gnutls_init(&s, flags | GNUTLS_NO_END_OF_EARLY_DATA);
    if (rc != 0) {
        return rc == GNUTLS_E_MEMORY_ERROR ? BP_E_NOMEM : BP_E_CRYPTO;
    }
    rc = set_up(s, server, cred);
    if (rc != 0) {
        gnutls_deinit(s);
        return rc;
    }
    gnutls_session_set_ptr(s, ref);
    *out = s;
    return 0;
}

void bp_tls_session_tickets(gnutls_session_t s, const uint8_t key[static BP_TICKET_KEY_LEN])
{
    /* GnuTLS copies it; its type has no const. */
    const gnutls_datum_t d = {.data = (uint8_t *)(uintptr_t)key, .size = BP_TICKET_KEY_LEN};

    (void)gnutls_session_ticket_enable_server(s, &d);
}

void bp_tls_session_give(gnutls_session_t s)
{
    (void)gnutls_session_ticket_send(s, 1, 0);
}

void bp_tls_session_resume(gnutls_session_t s, const uint8_t *p, size_t len)
{
    (void)gnutls_session_set_data(s, p, len);
}

size_t bp_tls_session_save(gnutls_session_t s, uint8_t *out, size_t cap)
{
    gnutls_datum_t d = {0};
    size_t len = 0;

    if ((gnutls_session_get_flags(s) & GNUTLS_SFLAGS_SESSION_TICKET) == 0 ||
        gnutls_session_get_data2(s, &d) != 0) {
        return 0;
    }
    if (d.size <= cap) {
        len = d.size;
        memcpy(out, d.data, len);
    }
    bp_wipe(d.data, d.size);
    gnutls_free(d.data);
    return len;
}

bool bp_tls_session_alpn_ok(gnutls_session_t s)
{
    gnutls_datum_t got = {0};

    return gnutls_alpn_get_selected_protocol(s, &got) == 0 && got.size == sizeof(BP_ALPN) - 1 &&
           bp_equal_ct(got.data, BP_ALPN, got.size);
}

const uint8_t *bp_tls_session_peer_cert(gnutls_session_t s, size_t *len)
{
    unsigned n = 0;
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(s, &n);

    if (chain == NULL || n == 0) {
        *len = 0;
        return NULL;
    }
    *len = chain[0].size;
    return chain[0].data;
}
