/* SPDX-License-Identifier: Apache-2.0 */
/* Self-signed certificates (WIRE 1.2) and shared TLS credentials, on GnuTLS. */
#include "quic/tls_cert.h"

#include "base/err.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

/* WIRE 1.2 */
#define CERT_BACKDATE     300
#define CERT_LIFETIME     (365 * 86400)
#define CERT_VERSION      3
#define CERT_SERIAL_LEN   16
#define CERT_ORGANISATION "Barrel P2P"
#define CERT_CN_MAX       64u /* ub-common-name, RFC 5280 appendix A.1 */
#define NOW_MAX           ((int64_t)253402300799 - CERT_LIFETIME) /* the year 9999, RFC 5280 4.1.2.5 */

#define DER_UTF8_STRING 0x0cu

static int from_gnutls(int rc)
{
    if (rc >= 0) {
        return 0;
    }
    return rc == GNUTLS_E_MEMORY_ERROR ? BP_E_NOMEM : BP_E_CRYPTO;
}

/* --- generation -------------------------------------------------------------- */

/* Sets a subject and issuer attribute as UTF8String, whatever letters it has. */
static int set_name(gnutls_x509_crt_t crt, const char *oid, const char *value)
{
    uint8_t der[2 + CERT_CN_MAX];
    size_t len = strlen(value);
    int rc;

    if (len > CERT_CN_MAX) {
        len = CERT_CN_MAX;
    }
    der[0] = DER_UTF8_STRING;
    der[1] = (uint8_t)len;
    memcpy(der + 2, value, len);
    rc = gnutls_x509_crt_set_dn_by_oid(crt, oid, 1, der, (unsigned)(len + 2));
    if (rc < 0) {
        return rc;
    }
    return gnutls_x509_crt_set_issuer_dn_by_oid(crt, oid, 1, der, (unsigned)(len + 2));
}

static int set_serial(gnutls_x509_crt_t crt)
{
    uint8_t serial[CERT_SERIAL_LEN];
    int rc = gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof(serial));

    if (rc < 0) {
        return rc;
    }
    serial[0] &= 0x7f; /* positive */
    if (serial[0] == 0) {
        serial[0] = 1; /* DER integers have no leading zero byte */
    }
    return gnutls_x509_crt_set_serial(crt, serial, sizeof(serial));
}

static int set_extensions(gnutls_x509_crt_t crt)
{
    int rc = gnutls_x509_crt_set_basic_constraints(crt, 0, -1);

    if (rc >= 0) {
        rc = gnutls_x509_crt_set_key_usage(crt, GNUTLS_KEY_DIGITAL_SIGNATURE);
    }
    if (rc >= 0) {
        rc = gnutls_x509_crt_set_key_purpose_oid(crt, GNUTLS_KP_TLS_WWW_SERVER, 0);
    }
    if (rc >= 0) {
        rc = gnutls_x509_crt_set_key_purpose_oid(crt, GNUTLS_KP_TLS_WWW_CLIENT, 0);
    }
    return rc;
}

static int fill_cert(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key, const char *cn,
                     int64_t now_unix)
{
    int rc = gnutls_x509_crt_set_version(crt, CERT_VERSION);

    if (rc >= 0) {
        rc = set_serial(crt);
    }
    if (rc >= 0) {
        rc = set_name(crt, GNUTLS_OID_X520_COMMON_NAME, cn);
    }
    if (rc >= 0) {
        rc = set_name(crt, GNUTLS_OID_X520_ORGANIZATION_NAME, CERT_ORGANISATION);
    }
    if (rc >= 0) {
        rc = gnutls_x509_crt_set_activation_time(crt, (time_t)(now_unix - CERT_BACKDATE));
    }
    if (rc >= 0) {
        rc = gnutls_x509_crt_set_expiration_time(crt, (time_t)(now_unix + CERT_LIFETIME));
    }
    if (rc >= 0) {
        rc = set_extensions(crt);
    }
    if (rc >= 0) {
        rc = gnutls_x509_crt_set_key(crt, key);
    }
    if (rc >= 0) {
        rc = gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0);
    }
    return rc;
}

static int export_pem(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key, struct bp_tls_pem *out)
{
    size_t len = sizeof(out->cert) - 1;
    int rc = gnutls_x509_crt_export(crt, GNUTLS_X509_FMT_PEM, out->cert, &len);

    if (rc < 0) {
        return rc;
    }
    out->cert_len = len;
    len = sizeof(out->key) - 1;
    rc = gnutls_x509_privkey_export(key, GNUTLS_X509_FMT_PEM, out->key, &len);
    if (rc < 0) {
        return rc;
    }
    out->key_len = len;
    return 0;
}

static bool cn_valid(const char *cn)
{
    if (cn[0] == '\0') {
        return false;
    }
    for (; *cn != '\0'; cn++) {
        if (*cn < 0x20 || *cn > 0x7e) {
            return false;
        }
    }
    return true;
}

int bp_tls_cert_generate(const char *cn, int64_t now_unix, struct bp_tls_pem *out)
{
    gnutls_x509_crt_t crt = NULL;
    gnutls_x509_privkey_t key = NULL;
    int rc;

    *out = (struct bp_tls_pem){0};
    if (!cn_valid(cn) || now_unix < CERT_BACKDATE || now_unix > NOW_MAX) {
        return BP_E_INVALID;
    }
    rc = gnutls_x509_privkey_init(&key);
    if (rc >= 0) {
        rc = gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
                                          GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
    }
    if (rc >= 0) {
        rc = gnutls_x509_crt_init(&crt);
    }
    if (rc >= 0) {
        rc = fill_cert(crt, key, cn, now_unix);
    }
    if (rc >= 0) {
        rc = export_pem(crt, key, out);
    }
    if (crt != NULL) {
        gnutls_x509_crt_deinit(crt);
    }
    if (key != NULL) {
        gnutls_x509_privkey_deinit(key);
    }
    if (rc < 0) {
        bp_tls_pem_free(out);
    }
    return from_gnutls(rc);
}

void bp_tls_pem_free(struct bp_tls_pem *pem)
{
    bp_wipe(pem, sizeof(*pem));
}

/* --- credentials ------------------------------------------------------------- */

/*
 * WIRE 0.1: TLS_AES_128_GCM_SHA256, x25519 and ecdsa_secp256r1_sha256 must be offered, and chosen
 * by us as server: they come first, and our order counts.
 */
static const char priority[] =
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305:"
    "-GROUP-ALL:+GROUP-X25519:+GROUP-SECP256R1:+GROUP-SECP384R1:"
    "%DISABLE_TLS13_COMPAT_MODE:%SERVER_PRECEDENCE";

struct bp_tls_cred {
    atomic_uint refs;
    gnutls_certificate_credentials_t native;
    gnutls_priority_t priority; /* parsed once: a connect does not wait for it */
    uint8_t binding[BP_BINDING_LEN];
    int64_t not_before;
    int64_t not_after;
    bool generated;
};

/* What a load collects; freed as a whole. */
struct loading {
    gnutls_x509_crt_t *crts;
    unsigned n_crts;
    gnutls_x509_privkey_t key;
    char *errtext;
    size_t cap;
};

static int refuse(const struct loading *l, int err, const char *text)
{
    if (l->errtext != NULL && l->cap != 0) {
        (void)snprintf(l->errtext, l->cap, "%s", text);
    }
    return err;
}

/* `text` and what GnuTLS says; lack of memory stays what it is. */
static int refuse_gnutls(const struct loading *l, int rc, const char *text)
{
    char full[256];

    (void)snprintf(full, sizeof(full), "%s (%s)", text, gnutls_strerror(rc));
    return refuse(l, rc == GNUTLS_E_MEMORY_ERROR ? BP_E_NOMEM : BP_E_FILE, full);
}

static gnutls_datum_t datum_of(const char *p, size_t len)
{
    /* GnuTLS reads only, but its type has no const */
    return (gnutls_datum_t){.data = (unsigned char *)(uintptr_t)p, .size = (unsigned)len};
}

static int load_certs(struct loading *l, const char *pem, size_t len)
{
    gnutls_datum_t in = datum_of(pem, len);
    int rc;

    if (len > BP_TLS_CERT_PEM_MAX) {
        return refuse(l, BP_E_FILE, "the certificate file is too large");
    }
    rc = gnutls_x509_crt_list_import2(&l->crts, &l->n_crts, &in, GNUTLS_X509_FMT_PEM, 0);
    if (rc < 0) {
        l->crts = NULL;
        l->n_crts = 0;
        return refuse_gnutls(l, rc, "the certificate is not complete, valid PEM");
    }
    if (l->n_crts == 0) {
        return refuse(l, BP_E_FILE, "the certificate file holds no certificate");
    }
    if (l->n_crts > BP_TLS_CHAIN_MAX) {
        return refuse(l, BP_E_FILE, "the certificate file holds too many certificates");
    }
    return 0;
}

static int load_key(struct loading *l, const char *pem, size_t len)
{
    gnutls_datum_t in = datum_of(pem, len);
    int rc;

    if (len > BP_TLS_KEY_PEM_MAX) {
        return refuse(l, BP_E_FILE, "the key file is too large");
    }
    rc = gnutls_x509_privkey_init(&l->key);
    if (rc < 0) {
        l->key = NULL;
        return refuse_gnutls(l, rc, "the key cannot be loaded");
    }
    rc = gnutls_x509_privkey_import2(l->key, &in, GNUTLS_X509_FMT_PEM, NULL, 0);
    if (rc == GNUTLS_E_DECRYPTION_FAILED) {
        return refuse(l, BP_E_FILE, "the key is encrypted, which cannot be used");
    }
    if (rc < 0) {
        return refuse_gnutls(l, rc, "the key is not a complete, valid PEM private key");
    }
    switch (gnutls_x509_privkey_get_pk_algorithm(l->key)) {
    case GNUTLS_PK_RSA:
    case GNUTLS_PK_ECDSA:
    case GNUTLS_PK_EDDSA_ED25519:
        return 0;
    default:
        return refuse(l, BP_E_FILE, "the key is not of kind EC, RSA or Ed25519");
    }
}

static int check_match(const struct loading *l)
{
    uint8_t a[32];
    uint8_t b[32];
    size_t a_len = sizeof(a);
    size_t b_len = sizeof(b);
    int rc = gnutls_x509_crt_get_key_id(l->crts[0], GNUTLS_KEYID_USE_SHA256, a, &a_len);

    if (rc < 0) {
        return refuse_gnutls(l, rc, "the certificate has no usable public key");
    }
    rc = gnutls_x509_privkey_get_key_id(l->key, GNUTLS_KEYID_USE_SHA256, b, &b_len);
    if (rc < 0) {
        return refuse_gnutls(l, rc, "the key has no usable public half");
    }
    if (a_len != b_len || memcmp(a, b, a_len) != 0) {
        return refuse(l, BP_E_KEYPAIR,
                      "the key does not belong to the first certificate of the certificate file");
    }
    return 0;
}

/* Made by us: nobody else signed it, and it says so. */
static bool is_generated(const struct loading *l)
{
    char o[sizeof(CERT_ORGANISATION)];
    size_t len = sizeof(o);
    unsigned bits;
    unsigned verdict = 1;

    return l->n_crts == 1 &&
           gnutls_x509_crt_get_pk_algorithm(l->crts[0], &bits) == GNUTLS_PK_ECDSA &&
           gnutls_x509_crt_get_dn_by_oid(l->crts[0], GNUTLS_OID_X520_ORGANIZATION_NAME, 0, 0, o,
                                         &len) == 0 &&
           strcmp(o, CERT_ORGANISATION) == 0 &&
           gnutls_x509_crt_check_issuer(l->crts[0], l->crts[0]) == 1 &&
           gnutls_x509_crt_verify(l->crts[0], l->crts, 1,
                                  GNUTLS_VERIFY_DISABLE_TIME_CHECKS |
                                      GNUTLS_VERIFY_DISABLE_CA_SIGN |
                                      GNUTLS_VERIFY_DO_NOT_ALLOW_SAME,
                                  &verdict) == 0 &&
           verdict == 0;
}

static int fill_cred(const struct loading *l, struct bp_tls_cred *cred)
{
    gnutls_datum_t der;
    size_t len = sizeof(cred->binding);
    int rc = gnutls_certificate_allocate_credentials(&cred->native);

    if (rc < 0) {
        cred->native = NULL;
        return refuse_gnutls(l, rc, "the certificate cannot be used");
    }
    rc = gnutls_priority_init(&cred->priority, priority, NULL);
    if (rc < 0) {
        cred->priority = NULL;
        return refuse_gnutls(l, rc, "the certificate cannot be used: no TLS 1.3");
    }
    rc = gnutls_certificate_set_x509_key(cred->native, l->crts, (int)l->n_crts, l->key);
    if (rc >= 0) {
        /* the binding is over the bytes that a session sends */
        rc = gnutls_certificate_get_crt_raw(cred->native, 0, 0, &der);
    }
    if (rc >= 0) {
        rc = gnutls_fingerprint(GNUTLS_DIG_SHA256, &der, cred->binding, &len);
    }
    if (rc < 0) {
        return refuse_gnutls(l, rc, "the certificate cannot be used with the key");
    }
    cred->not_before = (int64_t)gnutls_x509_crt_get_activation_time(l->crts[0]);
    cred->not_after = (int64_t)gnutls_x509_crt_get_expiration_time(l->crts[0]);
    cred->generated = is_generated(l);
    return 0;
}

static void cred_del(struct bp_tls_cred *cred)
{
    if (cred->native != NULL) {
        gnutls_certificate_free_credentials(cred->native);
    }
    if (cred->priority != NULL) {
        gnutls_priority_deinit(cred->priority);
    }
    bp_mem_libc()->release(NULL, cred);
}

static void loading_free(struct loading *l)
{
    for (unsigned i = 0; i < l->n_crts; i++) {
        gnutls_x509_crt_deinit(l->crts[i]);
    }
    gnutls_free(l->crts);
    if (l->key != NULL) {
        gnutls_x509_privkey_deinit(l->key);
    }
}

int bp_tls_cred_load(const char *cert_pem, size_t cert_len, const char *key_pem, size_t key_len,
                     struct bp_tls_cred **out, char *errtext, size_t cap)
{
    struct loading l = {.errtext = errtext, .cap = cap};
    struct bp_tls_cred *cred = NULL;
    int rc;

    *out = NULL;
    (void)refuse(&l, 0, "");
    rc = load_certs(&l, cert_pem, cert_len);
    if (rc == 0) {
        rc = load_key(&l, key_pem, key_len);
    }
    if (rc == 0) {
        rc = check_match(&l);
    }
    if (rc == 0) {
        cred = bp_mem_zalloc(bp_mem_libc(), 1, sizeof(*cred));
        rc = cred != NULL ? fill_cred(&l, cred)
                          : refuse(&l, BP_E_NOMEM, "the certificate: out of memory");
    }
    loading_free(&l);
    if (rc != 0) {
        if (cred != NULL) {
            cred_del(cred);
        }
        return rc;
    }
    atomic_init(&cred->refs, 1);
    *out = cred;
    return 0;
}

struct bp_tls_cred *bp_tls_cred_ref(struct bp_tls_cred *cred)
{
    (void)atomic_fetch_add_explicit(&cred->refs, 1, memory_order_relaxed);
    return cred;
}

void bp_tls_cred_unref(struct bp_tls_cred *cred)
{
    if (cred != NULL && atomic_fetch_sub_explicit(&cred->refs, 1, memory_order_acq_rel) == 1) {
        cred_del(cred);
    }
}

const uint8_t *bp_tls_cred_binding(const struct bp_tls_cred *cred)
{
    return cred->binding;
}

int64_t bp_tls_cred_not_before(const struct bp_tls_cred *cred)
{
    return cred->not_before;
}

int64_t bp_tls_cred_not_after(const struct bp_tls_cred *cred)
{
    return cred->not_after;
}

bool bp_tls_cred_generated(const struct bp_tls_cred *cred)
{
    return cred->generated;
}

bool bp_tls_cred_expired(const struct bp_tls_cred *cred, int64_t now_unix)
{
    return now_unix > cred->not_after;
}

void *bp_tls_cred_native(const struct bp_tls_cred *cred)
{
    return cred->native;
}

void *bp_tls_cred_priority(const struct bp_tls_cred *cred)
{
    return cred->priority;
}

/* --- what a certificate says --------------------------------------------------- */

/* Ends the text after `len` bytes and makes it fit to be shown; a negative `rc` empties it. */
static void show_text(char *text, size_t cap, int rc, size_t len)
{
    if (rc == GNUTLS_E_SHORT_MEMORY_BUFFER) {
        (void)snprintf(text, cap, "(too long to be shown)");
        return;
    }
    text[rc < 0 ? 0 : len < cap ? len : cap - 1] = '\0';
    for (; *text != '\0'; text++) {
        *text = *text < 0x20 || *text > 0x7e ? '?' : *text;
    }
}

static void show_serial(gnutls_x509_crt_t crt, char *out, size_t cap)
{
    uint8_t serial[64];
    size_t len = sizeof(serial);

    out[0] = '\0';
    if (gnutls_x509_crt_get_serial(crt, serial, &len) < 0) {
        return;
    }
    for (size_t i = 0; i < len && 2 * i + 2 < cap; i++) {
        (void)snprintf(out + 2 * i, 3, "%02x", serial[i]);
    }
}

static void fill_info(const struct loading *l, struct bp_tls_cert_info *out)
{
    gnutls_x509_crt_t crt = l->crts[0];
    size_t len = sizeof(out->subject);
    unsigned bits = 0;
    int rc = gnutls_x509_crt_get_dn(crt, out->subject, &len);

    show_text(out->subject, sizeof(out->subject), rc, len);
    len = sizeof(out->issuer);
    rc = gnutls_x509_crt_get_issuer_dn(crt, out->issuer, &len);
    show_text(out->issuer, sizeof(out->issuer), rc, len);
    len = sizeof(out->cn);
    rc = gnutls_x509_crt_get_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, out->cn, &len);
    show_text(out->cn, sizeof(out->cn), rc == GNUTLS_E_SHORT_MEMORY_BUFFER ? -1 : rc, len);
    show_serial(crt, out->serial, sizeof(out->serial));
    rc = gnutls_x509_crt_get_pk_algorithm(crt, &bits);
    (void)snprintf(out->key, sizeof(out->key), "%s, %u bits",
                   rc < 0 ? "unknown" : gnutls_pk_get_name((gnutls_pk_algorithm_t)rc), bits);
    out->not_before = (int64_t)gnutls_x509_crt_get_activation_time(crt);
    out->not_after = (int64_t)gnutls_x509_crt_get_expiration_time(crt);
    out->n_certs = l->n_crts;
    out->generated = is_generated(l);
}

int bp_tls_cert_info(const char *pem, size_t len, struct bp_tls_cert_info *out, char *errtext,
                     size_t cap)
{
    struct loading l = {.errtext = errtext, .cap = cap};
    size_t hash_len = sizeof(out->binding);
    int rc;

    *out = (struct bp_tls_cert_info){0};
    (void)refuse(&l, 0, "");
    rc = load_certs(&l, pem, len);
    if (rc == 0) {
        int hashed =
            gnutls_x509_crt_get_fingerprint(l.crts[0], GNUTLS_DIG_SHA256, out->binding, &hash_len);
        rc = hashed < 0 ? refuse_gnutls(&l, hashed, "the certificate cannot be hashed") : 0;
    }
    if (rc == 0) {
        fill_info(&l, out);
    }
    loading_free(&l);
    return rc;
}
