/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of core/quic/tls_cert: the generated certificate, and loading of PEM texts. */
#include "quic/tls_cert.h"

#include "base/err.h"
#include "support/t.h"

#include <pthread.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#define NOW INT64_C(1700000000)

static struct bp_tls_pem make(const char *cn)
{
    struct bp_tls_pem pem;

    assert_int_equal(bp_tls_cert_generate(cn, NOW, &pem), 0);
    assert_int_equal(strlen(pem.cert), pem.cert_len);
    assert_int_equal(strlen(pem.key), pem.key_len);
    return pem;
}

static gnutls_datum_t datum(char *p, size_t len)
{
    return (gnutls_datum_t){(unsigned char *)p, (unsigned)len};
}

static gnutls_x509_crt_t parse(struct bp_tls_pem *pem)
{
    gnutls_x509_crt_t crt;
    gnutls_datum_t in = datum(pem->cert, pem->cert_len);

    assert_int_equal(gnutls_x509_crt_init(&crt), 0);
    assert_int_equal(gnutls_x509_crt_import(crt, &in, GNUTLS_X509_FMT_PEM), 0);
    return crt;
}

/* --- generation -------------------------------------------------------------- */

static void tls_cert_generated_has_fields_of_wire_1_2(void **state)
{
    struct bp_tls_pem pem = make("node@host.example");
    gnutls_x509_crt_t crt = parse(&pem);
    gnutls_ecc_curve_t curve;
    char text[128];
    uint8_t raw[64];
    size_t len = sizeof(text);
    unsigned critical = 0;
    unsigned ca = 1;
    unsigned usage = 0;
    unsigned verified = 1;

    (void)state;
    assert_int_equal(gnutls_x509_crt_get_version(crt), 3);
    assert_int_equal(gnutls_x509_crt_get_dn(crt, text, &len), 0);
    assert_string_equal(text, "CN=node@host.example,O=Barrel P2P");
    len = sizeof(text);
    assert_int_equal(gnutls_x509_crt_get_issuer_dn(crt, text, &len), 0);
    assert_string_equal(text, "CN=node@host.example,O=Barrel P2P");
    assert_int_equal(gnutls_x509_crt_get_activation_time(crt), NOW - 300);
    assert_int_equal(gnutls_x509_crt_get_expiration_time(crt), NOW + 365 * 86400);
    assert_int_equal(gnutls_x509_crt_get_signature_algorithm(crt), GNUTLS_SIGN_ECDSA_SHA256);
    assert_int_equal(gnutls_x509_crt_get_pk_ecc_raw(crt, &curve, NULL, NULL), 0);
    assert_int_equal(curve, GNUTLS_ECC_CURVE_SECP256R1);

    len = sizeof(raw);
    assert_int_equal(gnutls_x509_crt_get_serial(crt, raw, &len), 0);
    assert_int_equal(len, 16);
    assert_true(raw[0] > 0 && raw[0] < 0x80);

    assert_int_equal(gnutls_x509_crt_get_basic_constraints(crt, &critical, &ca, NULL), 0);
    assert_int_equal(critical, 1);
    assert_int_equal(ca, 0);
    critical = 0;
    assert_int_equal(gnutls_x509_crt_get_key_usage(crt, &usage, &critical), 0);
    assert_int_equal(critical, 1);
    assert_int_equal(usage, GNUTLS_KEY_DIGITAL_SIGNATURE);
    len = sizeof(text);
    assert_int_equal(gnutls_x509_crt_get_key_purpose_oid(crt, 0, text, &len, &critical), 0);
    assert_string_equal(text, GNUTLS_KP_TLS_WWW_SERVER);
    assert_int_equal(critical, 0);
    len = sizeof(text);
    assert_int_equal(gnutls_x509_crt_get_key_purpose_oid(crt, 1, text, &len, &critical), 0);
    assert_string_equal(text, GNUTLS_KP_TLS_WWW_CLIENT);
    len = sizeof(text);
    assert_int_equal(gnutls_x509_crt_get_extension_info(crt, 3, text, &len, &critical),
                     GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE); /* no subjectAltName, no other */
    assert_int_equal(gnutls_x509_crt_verify(crt, &crt, 1,
                                            GNUTLS_VERIFY_DISABLE_TIME_CHECKS |
                                                GNUTLS_VERIFY_ALLOW_ANY_X509_V1_CA_CRT,
                                            &verified),
                     0);
    assert_int_equal(verified & GNUTLS_CERT_SIGNATURE_FAILURE, 0);
    gnutls_x509_crt_deinit(crt);
    bp_tls_pem_free(&pem);
}

static void tls_cert_generated_has_upstream_size_and_utf8_names(void **state)
{
    /* UTF8String CN, as upstream encodes it though PrintableString would do */
    static const uint8_t cn[] = "\x06\x03\x55\x04\x03\x0c\x0f"
                                "barrel_p2p-node";
    static const uint8_t org[] = "\x06\x03\x55\x04\x0a\x0c\x0a"
                                 "Barrel P2P";
    struct bp_tls_pem pem = make("barrel_p2p-node");
    gnutls_x509_crt_t crt = parse(&pem);
    uint8_t der[1024];
    size_t len = sizeof(der);
    int hits = 0;

    (void)state;
    assert_int_equal(gnutls_x509_crt_export(crt, GNUTLS_X509_FMT_DER, der, &len), 0);
    assert_in_range(len, 414 - 4, 414 + 4); /* the signature's integers vary */
    for (size_t i = 0; i + sizeof(cn) < len; i++) {
        hits += memcmp(der + i, cn, sizeof(cn) - 1) == 0;
        hits += memcmp(der + i, org, sizeof(org) - 1) == 0;
    }
    assert_int_equal(hits, 4);
    gnutls_x509_crt_deinit(crt);
    bp_tls_pem_free(&pem);
}

static void tls_cert_generated_key_is_sec1_and_new_each_time(void **state)
{
    struct bp_tls_pem a = make("a@h");
    struct bp_tls_pem b = make("a@h");
    static const struct bp_tls_pem none;

    (void)state;
    assert_non_null(strstr(a.key, "-----BEGIN EC PRIVATE KEY-----"));
    assert_non_null(strstr(a.cert, "-----BEGIN CERTIFICATE-----"));
    assert_string_not_equal(a.key, b.key);
    assert_string_not_equal(a.cert, b.cert);
    bp_tls_pem_free(&a);
    assert_memory_equal(&a, &none, sizeof(a));
    bp_tls_pem_free(&b);
}

static void tls_cert_long_name_cut_bad_name_refused(void **state)
{
    static const struct bp_tls_pem none;
    struct bp_tls_pem pem;
    gnutls_x509_crt_t crt;
    char cn[256];
    char text[256];
    size_t len = sizeof(text);

    (void)state;
    memset(cn, 'x', 255);
    cn[255] = '\0';
    pem = make(cn);
    crt = parse(&pem);
    assert_int_equal(
        gnutls_x509_crt_get_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, text, &len), 0);
    assert_int_equal(len, 64);
    gnutls_x509_crt_deinit(crt);
    bp_tls_pem_free(&pem);

    assert_int_equal(bp_tls_cert_generate("", NOW, &pem), BP_E_INVALID);
    assert_memory_equal(&pem, &none, sizeof(pem));
    assert_int_equal(bp_tls_cert_generate("a\n@h", NOW, &pem), BP_E_INVALID);
    assert_int_equal(bp_tls_cert_generate("\xc3\xa9@h", NOW, &pem), BP_E_INVALID);
    assert_int_equal(bp_tls_cert_generate("a@h", -1, &pem), BP_E_INVALID);
    assert_int_equal(bp_tls_cert_generate("a@h", INT64_MAX, &pem), BP_E_INVALID);
}

/* --- loading ----------------------------------------------------------------- */

static struct bp_tls_cred *must_load(const char *cert, const char *key)
{
    struct bp_tls_cred *cred;
    char text[256] = "x";
    int rc = bp_tls_cred_load(cert, strlen(cert), key, strlen(key), &cred, text, sizeof(text));

    if (rc != 0) {
        fail_msg("%s", text);
    }
    assert_string_equal(text, "");
    return cred;
}

static void refused(const char *cert, size_t cert_len, const char *key, size_t key_len, int want,
                    const char *part)
{
    struct bp_tls_cred *cred;
    char text[256] = "";
    int rc = bp_tls_cred_load(cert, cert_len, key, key_len, &cred, text, sizeof(text));

    assert_int_equal(rc, want);
    assert_null(cred);
    if (strncmp(text, part, strlen(part)) != 0) {
        fail_msg("\"%s\" does not start with \"%s\"", text, part);
    }
    assert_int_equal(bp_tls_cred_load(cert, cert_len, key, key_len, &cred, NULL, 0), want);
}

static void tls_cred_generated_pair_loads_with_binding_and_times(void **state)
{
    struct bp_tls_pem pem = make("a@h");
    struct bp_tls_cred *cred = must_load(pem.cert, pem.key);
    gnutls_x509_crt_t crt = parse(&pem);
    uint8_t sum[32];
    size_t len = sizeof(sum);

    (void)state;
    assert_int_equal(gnutls_x509_crt_get_fingerprint(crt, GNUTLS_DIG_SHA256, sum, &len), 0);
    assert_memory_equal(bp_tls_cred_binding(cred), sum, 32);
    assert_int_equal(bp_tls_cred_not_before(cred), NOW - 300);
    assert_int_equal(bp_tls_cred_not_after(cred), NOW + 365 * 86400);
    assert_false(bp_tls_cred_expired(cred, NOW + 365 * 86400));
    assert_true(bp_tls_cred_expired(cred, NOW + 365 * 86400 + 1));
    assert_non_null(bp_tls_cred_native(cred));
    gnutls_x509_crt_deinit(crt);
    bp_tls_cred_unref(cred);
    bp_tls_cred_unref(NULL);
    bp_tls_pem_free(&pem);
}

/* A self-signed pair of another kind; `flags` says how the key is written. */
static void make_other(gnutls_pk_algorithm_t algo, unsigned bits, const char *password,
                       unsigned flags, char cert[static 4096], char key[static 4096])
{
    gnutls_x509_privkey_t k;
    gnutls_x509_crt_t c;
    size_t cert_len = 4095;
    size_t key_len = 4095;
    gnutls_digest_algorithm_t dig = GNUTLS_DIG_SHA256;

    memset(cert, 0, 4096);
    memset(key, 0, 4096);
    assert_int_equal(gnutls_x509_privkey_init(&k), 0);
    assert_int_equal(gnutls_x509_privkey_generate(k, algo, bits, 0), 0);
    assert_int_equal(gnutls_x509_crt_init(&c), 0);
    assert_int_equal(gnutls_x509_crt_set_version(c, 3), 0);
    assert_int_equal(gnutls_x509_crt_set_serial(c, "\x01", 1), 0);
    assert_int_equal(gnutls_x509_crt_set_dn(c, "CN=other", NULL), 0);
    assert_int_equal(gnutls_x509_crt_set_activation_time(c, (time_t)NOW), 0);
    assert_int_equal(gnutls_x509_crt_set_expiration_time(c, (time_t)NOW + 1), 0);
    assert_int_equal(gnutls_x509_crt_set_key(c, k), 0);
    if (algo == GNUTLS_PK_EDDSA_ED25519) {
        dig = GNUTLS_DIG_SHA512;
    }
    assert_int_equal(gnutls_x509_crt_sign2(c, c, k, dig, 0), 0);
    assert_int_equal(gnutls_x509_crt_export(c, GNUTLS_X509_FMT_PEM, cert, &cert_len), 0);
    if (flags != 0) {
        assert_int_equal(gnutls_x509_privkey_export_pkcs8(k, GNUTLS_X509_FMT_PEM, password, flags,
                                                          key, &key_len),
                         0);
    } else {
        assert_int_equal(gnutls_x509_privkey_export(k, GNUTLS_X509_FMT_PEM, key, &key_len), 0);
    }
    gnutls_x509_crt_deinit(c);
    gnutls_x509_privkey_deinit(k);
}

static void tls_cred_other_key_kinds_load(void **state)
{
    char cert[4096];
    char key[4096];

    (void)state;
    make_other(GNUTLS_PK_RSA, 2048, NULL, 0, cert, key);
    assert_non_null(strstr(key, "BEGIN RSA PRIVATE KEY"));
    bp_tls_cred_unref(must_load(cert, key));
    make_other(GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP384R1), NULL,
               GNUTLS_PKCS_PLAIN, cert, key);
    assert_non_null(strstr(key, "BEGIN PRIVATE KEY"));
    bp_tls_cred_unref(must_load(cert, key));
    make_other(GNUTLS_PK_EDDSA_ED25519, 256, NULL, GNUTLS_PKCS_PLAIN, cert, key);
    bp_tls_cred_unref(must_load(cert, key));
}

static void tls_cred_chain_first_certificate_counts(void **state)
{
    struct bp_tls_pem a = make("a@h");
    struct bp_tls_pem b = make("b@h");
    struct bp_tls_cred *alone = must_load(a.cert, a.key);
    struct bp_tls_cred *chain;
    char both[2 * BP_TLS_CERT_PEM_CAP + 32];
    char many[17 * BP_TLS_CERT_PEM_CAP];

    (void)state;
    snprintf(both, sizeof(both), "a comment\n%s\n%s", a.cert, b.cert);
    chain = must_load(both, a.key);
    assert_memory_equal(bp_tls_cred_binding(chain), bp_tls_cred_binding(alone), 32);
    bp_tls_cred_unref(chain);
    refused(both, strlen(both), b.key, b.key_len, BP_E_KEYPAIR, "the key does not belong");
    many[0] = '\0';
    for (int i = 0; i < 17; i++) {
        strcat(many, a.cert);
    }
    refused(many, strlen(many), a.key, a.key_len, BP_E_FILE, "the certificate file holds too many");
    bp_tls_cred_unref(alone);
    bp_tls_pem_free(&a);
    bp_tls_pem_free(&b);
}

static void tls_cred_unusable_input_refused_with_reason(void **state)
{
    struct bp_tls_pem a = make("a@h");
    struct bp_tls_pem b = make("a@h");
    char cert[4096];
    char key[4096];
    char *big = calloc(1, BP_TLS_CERT_PEM_MAX + 1);

    (void)state;
    assert_non_null(big);
    refused(a.cert, a.cert_len, b.key, b.key_len, BP_E_KEYPAIR, "the key does not belong");
    refused("", 0, a.key, a.key_len, BP_E_FILE, "the certificate is not");
    refused("garbage", 7, a.key, a.key_len, BP_E_FILE, "the certificate is not");
    refused(a.key, a.key_len, a.key, a.key_len, BP_E_FILE, "the certificate is not");
    refused(a.cert, a.cert_len, "", 0, BP_E_FILE, "the key is not");
    refused(a.cert, a.cert_len, "garbage", 7, BP_E_FILE, "the key is not");
    refused(a.cert, a.cert_len, a.cert, a.cert_len, BP_E_FILE, "the key is not");
    refused(a.cert, a.cert_len / 2, a.key, a.key_len, BP_E_FILE, "the certificate is not");
    refused(a.cert, a.cert_len, a.key, a.key_len / 2, BP_E_FILE, "the key is not");
    refused(big, BP_TLS_CERT_PEM_MAX + 1, a.key, a.key_len, BP_E_FILE,
            "the certificate file is too large");
    refused(a.cert, a.cert_len, big, BP_TLS_KEY_PEM_MAX + 1, BP_E_FILE,
            "the key file is too large");
    make_other(GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), "secret",
               GNUTLS_PKCS_PBES2_AES_256, cert, key);
    refused(cert, strlen(cert), key, strlen(key), BP_E_FILE, "the key is encrypted");
    free(big);
    bp_tls_pem_free(&a);
    bp_tls_pem_free(&b);
}

static void tls_cred_cut_anywhere_refused(void **state)
{
    struct bp_tls_pem a = make("a@h");
    struct bp_tls_cred *cred;
    char both[2 * BP_TLS_CERT_PEM_CAP];
    size_t cert_end = (size_t)(strstr(a.cert, "-----END") - a.cert);
    size_t key_end = (size_t)(strstr(a.key, "-----END") - a.key);

    (void)state;
    for (size_t len = 0; len < cert_end; len += 7) {
        assert_int_not_equal(bp_tls_cred_load(a.cert, len, a.key, a.key_len, &cred, NULL, 0), 0);
        assert_null(cred);
    }
    for (size_t len = 0; len < key_end; len += 7) {
        assert_int_not_equal(bp_tls_cred_load(a.cert, a.cert_len, a.key, len, &cred, NULL, 0), 0);
        assert_null(cred);
    }
    snprintf(both, sizeof(both), "%s%s", a.cert, a.cert);
    refused(both, a.cert_len + cert_end, a.key, a.key_len, BP_E_FILE, "the certificate is not");
    bp_tls_pem_free(&a);
}

/* --- sharing and use --------------------------------------------------------- */

static void *ref_and_unref(void *arg)
{
    struct bp_tls_cred *cred = arg;

    for (int i = 0; i < 10000; i++) {
        struct bp_tls_cred *mine = bp_tls_cred_ref(cred);
        bp_tls_cred_unref(mine);
    }
    bp_tls_cred_unref(cred);
    return NULL;
}

/* A lost count shows as a leak or a use after free under ASan. */
static void tls_cred_references_of_threads_counted(void **state)
{
    struct bp_tls_pem pem = make("a@h");
    struct bp_tls_cred *cred = must_load(pem.cert, pem.key);
    pthread_t th[3];
    uint8_t binding[32];

    (void)state;
    memcpy(binding, bp_tls_cred_binding(cred), 32);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&th[i], NULL, ref_and_unref, bp_tls_cred_ref(cred)), 0);
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(th[i], NULL), 0);
    }
    assert_memory_equal(bp_tls_cred_binding(cred), binding, 32);
    bp_tls_cred_unref(cred);
    bp_tls_pem_free(&pem);
}

static gnutls_session_t session(unsigned flags, int fd, void *cred)
{
    gnutls_session_t s;

    assert_int_equal(gnutls_init(&s, flags | GNUTLS_NONBLOCK), 0);
    assert_int_equal(gnutls_priority_set_direct(
                         s, "NORMAL:-VERS-ALL:+VERS-TLS1.3:-GROUP-ALL:+GROUP-X25519", NULL),
                     0);
    assert_int_equal(gnutls_credentials_set(s, GNUTLS_CRD_CERTIFICATE, cred), 0);
    gnutls_transport_set_int(s, fd);
    return s;
}

static void tls_cred_session_sends_certificate_of_binding(void **state)
{
    struct bp_tls_pem pem = make("a@h");
    struct bp_tls_cred *cred = must_load(pem.cert, pem.key);
    gnutls_certificate_credentials_t none;
    gnutls_session_t c;
    gnutls_session_t s;
    const gnutls_datum_t *got;
    unsigned n = 0;
    uint8_t sum[32];
    size_t len = sizeof(sum);
    int fd[2];
    int rc_c = GNUTLS_E_AGAIN;
    int rc_s = GNUTLS_E_AGAIN;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
    assert_int_equal(gnutls_certificate_allocate_credentials(&none), 0);
    c = session(GNUTLS_CLIENT, fd[0], none);
    s = session(GNUTLS_SERVER, fd[1], bp_tls_cred_native(cred));
    for (int i = 0; i < 20 && (rc_c != 0 || rc_s != 0); i++) {
        rc_c = rc_c != 0 ? gnutls_handshake(c) : 0;
        rc_s = rc_s != 0 ? gnutls_handshake(s) : 0;
    }
    assert_int_equal(rc_c, 0);
    assert_int_equal(rc_s, 0);
    got = gnutls_certificate_get_peers(c, &n);
    assert_int_equal(n, 1);
    assert_int_equal(gnutls_fingerprint(GNUTLS_DIG_SHA256, got, sum, &len), 0);
    assert_memory_equal(sum, bp_tls_cred_binding(cred), 32);
    gnutls_deinit(c);
    gnutls_deinit(s);
    gnutls_certificate_free_credentials(none);
    close(fd[0]);
    close(fd[1]);
    bp_tls_cred_unref(cred);
    bp_tls_pem_free(&pem);
}

/* --- what a certificate says --------------------------------------------------- */

static void tls_cert_info_of_generated_certificate(void **state)
{
    struct bp_tls_pem pem = make("node@host.example");
    struct bp_tls_cred *cred = must_load(pem.cert, pem.key);
    struct bp_tls_cert_info info;
    char text[128];

    (void)state;
    assert_int_equal(bp_tls_cert_info(pem.cert, pem.cert_len, &info, text, sizeof(text)), 0);
    assert_string_equal(text, "");
    assert_string_equal(info.cn, "node@host.example");
    assert_string_equal(info.subject, "CN=node@host.example,O=Barrel P2P");
    assert_string_equal(info.issuer, info.subject);
    assert_string_equal(info.key, "EC/ECDSA, 256 bits");
    assert_int_equal(strlen(info.serial), 32);
    assert_int_equal(info.not_before, bp_tls_cred_not_before(cred));
    assert_int_equal(info.not_after, bp_tls_cred_not_after(cred));
    assert_memory_equal(info.binding, bp_tls_cred_binding(cred), BP_BINDING_LEN);
    assert_int_equal(info.n_certs, 1);
    assert_true(info.generated);
    bp_tls_cred_unref(cred);
    bp_tls_pem_free(&pem);
}

static void tls_cert_info_of_others_certificate_and_chain(void **state)
{
    struct bp_tls_pem pem = make("second@h");
    struct bp_tls_cert_info info;
    char cert[4096];
    char key[4096];
    char both[4096 + BP_TLS_CERT_PEM_CAP];

    (void)state;
    make_other(GNUTLS_PK_RSA, 2048, NULL, 0, cert, key);
    snprintf(both, sizeof(both), "%s%s", cert, pem.cert);
    assert_int_equal(bp_tls_cert_info(both, strlen(both), &info, NULL, 0), 0);
    assert_string_equal(info.cn, "other");
    assert_string_equal(info.key, "RSA, 2048 bits");
    assert_string_equal(info.serial, "01");
    assert_int_equal(info.n_certs, 2);
    assert_false(info.generated);
    bp_tls_pem_free(&pem);
}

/* A self-signed certificate whose subject has `n` times the attribute `oid` with the DER `value`.
 */
static size_t make_named(const char *oid, const void *value, unsigned value_len, int n,
                         char cert[static 4096])
{
    gnutls_x509_privkey_t k;
    gnutls_x509_crt_t c;
    size_t len = 4095;

    memset(cert, 0, 4096);
    assert_int_equal(gnutls_x509_privkey_init(&k), 0);
    assert_int_equal(gnutls_x509_privkey_generate(k, GNUTLS_PK_ECDSA, 256, 0), 0);
    assert_int_equal(gnutls_x509_crt_init(&c), 0);
    assert_int_equal(gnutls_x509_crt_set_version(c, 3), 0);
    assert_int_equal(gnutls_x509_crt_set_serial(c, "\x01", 1), 0);
    for (int i = 0; i < n; i++) {
        assert_int_equal(gnutls_x509_crt_set_dn_by_oid(c, oid, 1, value, value_len), 0);
    }
    assert_int_equal(gnutls_x509_crt_set_activation_time(c, (time_t)NOW), 0);
    assert_int_equal(gnutls_x509_crt_set_expiration_time(c, (time_t)NOW + 1), 0);
    assert_int_equal(gnutls_x509_crt_set_key(c, k), 0);
    assert_int_equal(gnutls_x509_crt_sign2(c, c, k, GNUTLS_DIG_SHA256, 0), 0);
    assert_int_equal(gnutls_x509_crt_export(c, GNUTLS_X509_FMT_PEM, cert, &len), 0);
    gnutls_x509_crt_deinit(c);
    gnutls_x509_privkey_deinit(k);
    return len;
}

/* Names that would move the cursor of a terminal, or that do not fit. */
static void tls_cert_info_names_are_safe_to_print(void **state)
{
    static const char odd[] = "\x0c\x08\x1b[2Jn\xc3\xa9\n"; /* a UTF8String in DER */
    static const char wide[] = "\x0c\x32the name of an organisation that takes fifty bytes";
    struct bp_tls_cert_info info;
    char cert[4096];
    size_t len = make_named(GNUTLS_OID_X520_COMMON_NAME, odd, sizeof(odd) - 1, 1, cert);

    (void)state;
    assert_int_equal(bp_tls_cert_info(cert, len, &info, NULL, 0), 0);
    assert_string_equal(info.cn, "?[2Jn???");
    for (const char *p = info.subject; *p != '\0'; p++) {
        assert_in_range(*p, 0x20, 0x7e);
    }
    len = make_named(GNUTLS_OID_X520_ORGANIZATION_NAME, wide, sizeof(wide) - 1, 8, cert);
    assert_int_equal(bp_tls_cert_info(cert, len, &info, NULL, 0), 0);
    assert_string_equal(info.subject, "(too long to be shown)");
    assert_string_equal(info.cn, "");
}

static void tls_cert_info_of_garbage_refused(void **state)
{
    struct bp_tls_pem pem = make("a@h");
    struct bp_tls_cert_info info;
    char text[128];

    (void)state;
    assert_int_equal(bp_tls_cert_info("", 0, &info, text, sizeof(text)), BP_E_FILE);
    assert_int_equal(strncmp(text, "the certificate", 15), 0);
    assert_int_equal(bp_tls_cert_info(pem.key, pem.key_len, &info, text, sizeof(text)), BP_E_FILE);
    for (size_t n = 0; n < pem.cert_len - 30; n += 7) {
        assert_int_equal(bp_tls_cert_info(pem.cert, n, &info, text, sizeof(text)), BP_E_FILE);
        assert_string_equal(info.subject, "");
    }
    bp_tls_pem_free(&pem);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(tls_cert_generated_has_fields_of_wire_1_2),
    cmocka_unit_test(tls_cert_generated_has_upstream_size_and_utf8_names),
    cmocka_unit_test(tls_cert_generated_key_is_sec1_and_new_each_time),
    cmocka_unit_test(tls_cert_long_name_cut_bad_name_refused),
    cmocka_unit_test(tls_cred_generated_pair_loads_with_binding_and_times),
    cmocka_unit_test(tls_cred_other_key_kinds_load),
    cmocka_unit_test(tls_cred_chain_first_certificate_counts),
    cmocka_unit_test(tls_cred_unusable_input_refused_with_reason),
    cmocka_unit_test(tls_cred_cut_anywhere_refused),
    cmocka_unit_test(tls_cred_references_of_threads_counted),
    cmocka_unit_test(tls_cert_info_of_generated_certificate),
    cmocka_unit_test(tls_cert_info_of_others_certificate_and_chain),
    cmocka_unit_test(tls_cert_info_names_are_safe_to_print),
    cmocka_unit_test(tls_cert_info_of_garbage_refused),
    cmocka_unit_test(tls_cred_session_sends_certificate_of_binding),
};

T_MAIN(tests)
