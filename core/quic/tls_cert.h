/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS material: the self-signed certificate that a node makes for itself (WIRE 1.2), and the
 * credentials that its connections share. The certificate is no proof of identity (that is
 * core/auth's work); its hash binds the authentication to the TLS session (WIRE 3.1).
 */
#ifndef BP_TLS_CERT_H
#define BP_TLS_CERT_H

#include "base/types.h"

#define BP_TLS_CERT_PEM_CAP 2048u          /* a generated certificate needs under 700 bytes */
#define BP_TLS_KEY_PEM_CAP  512u           /* a generated P-256 key needs under 250 bytes */
#define BP_TLS_CERT_PEM_MAX (256u * 1024u) /* of a certificate file that is loaded */
#define BP_TLS_KEY_PEM_MAX  (64u * 1024u)
#define BP_TLS_CHAIN_MAX    16u

/* A generated pair in the caller's storage; both texts end with NUL, which the lengths omit. */
struct bp_tls_pem {
    char cert[BP_TLS_CERT_PEM_CAP];
    size_t cert_len;
    char key[BP_TLS_KEY_PEM_CAP];
    size_t key_len;
};

/*
 * Makes an EC P-256 key and its self-signed certificate: CN=`cn` (the node's name; printable ASCII,
 * cut to the 64 bytes that X.520 allows), O="Barrel P2P", valid from 300 s before `now_unix` (Unix
 * seconds) for 365 days after it. The key is SEC1 PEM ("EC PRIVATE KEY"). Call bp_tls_pem_free
 * when done; after an error there is nothing in `out`.
 * Errors: BP_E_INVALID (cn, time), BP_E_NOMEM, BP_E_CRYPTO.
 */
int bp_tls_cert_generate(const char *cn, int64_t now_unix, struct bp_tls_pem *out) BP_MUST_CHECK;

/* Wipes the pair. */
void bp_tls_pem_free(struct bp_tls_pem *pem);

/*
 * Certificate and key ready for TLS sessions. Does not change after loading, so that connections of
 * several threads use one. Counted: a connection holds a reference as long as it lives, and the
 * certificate may be replaced for later ones.
 */
struct bp_tls_cred;

/*
 * Loads PEM texts (borrowed; need not end with NUL). The certificate file may hold a chain, the
 * node's own certificate first; the key may be EC, RSA or Ed25519, as SEC1, PKCS#1 or PKCS#8, not
 * encrypted. `*out` has one reference, the caller's. An expired certificate is not an error.
 * Errors: BP_E_FILE (garbage, truncated, encrypted, too large, unsuitable), BP_E_KEYPAIR (the key
 * is not the certificate's), BP_E_NOMEM, BP_E_CRYPTO; then `*out` is NULL and `errtext` (`cap`
 * bytes; may be NULL) holds the reason, which starts with "the certificate" or "the key".
 */
int bp_tls_cred_load(const char *cert_pem, size_t cert_len, const char *key_pem, size_t key_len,
                     struct bp_tls_cred **out, char *errtext, size_t cap) BP_MUST_CHECK;

/* One more reference; returns `cred`. From any thread. */
struct bp_tls_cred *bp_tls_cred_ref(struct bp_tls_cred *cred);

/* Gives a reference back; the last one frees. NULL is a no-op. From any thread. */
void bp_tls_cred_unref(struct bp_tls_cred *cred);

/* SHA-256 of the DER of the node's own certificate, BP_BINDING_LEN bytes, valid as `cred` is. */
const uint8_t *bp_tls_cred_binding(const struct bp_tls_cred *cred);

/* Validity of the node's own certificate, Unix seconds. */
int64_t bp_tls_cred_not_before(const struct bp_tls_cred *cred);
int64_t bp_tls_cred_not_after(const struct bp_tls_cred *cred);
bool bp_tls_cred_expired(const struct bp_tls_cred *cred, int64_t now_unix);

/*
 * True if the certificate is one that bp_tls_cert_generate (or upstream's generator) makes: signed
 * by itself, EC, with that organisation. Such a certificate may be renewed without asking.
 */
bool bp_tls_cred_generated(const struct bp_tls_cred *cred);

#define BP_TLS_NAME_TEXT 256u /* of a name that is shown; longer ones are cut */

/* What a certificate says, for people. All texts are printable ASCII, other bytes are '?'. */
struct bp_tls_cert_info {
    char subject[BP_TLS_NAME_TEXT];
    char issuer[BP_TLS_NAME_TEXT];
    char cn[65];     /* the subject's common name, "" if it has none */
    char serial[64]; /* hex */
    char key[64];    /* "EC/ECDSA, 256 bits" */
    int64_t not_before;
    int64_t not_after;
    uint8_t binding[BP_BINDING_LEN]; /* SHA-256 of its DER */
    unsigned n_certs;                /* in the file */
    bool generated;                  /* as bp_tls_cred_generated */
};

/*
 * Reads the first certificate of a PEM text (borrowed), without its key. Errors: BP_E_FILE,
 * BP_E_NOMEM; then `errtext` (`cap` bytes; may be NULL) holds the reason, as for bp_tls_cred_load.
 */
int bp_tls_cert_info(const char *pem, size_t len, struct bp_tls_cert_info *out, char *errtext,
                     size_t cap) BP_MUST_CHECK;

/* The gnutls_certificate_credentials_t inside, valid as long as `cred`. Only core/quic uses it. */
void *bp_tls_cred_native(const struct bp_tls_cred *cred);
/* Likewise the gnutls_priority_t: versions, suites and groups of all sessions. */
void *bp_tls_cred_priority(const struct bp_tls_cred *cred);

#endif
