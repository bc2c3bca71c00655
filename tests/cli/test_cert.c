/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of cert show and renew: the pair is one that a node loads, and a user's own is left alone.
 */
#include "cli/run.h"

#include "io/tls_files.h"
#include "quic/tls_cert.h"

#include <gnutls/x509.h>
#include <time.h>

static struct bp_tls_cred *load(void **state, const char *dir)
{
    struct bp_tls_cred *cred = NULL;
    struct bp_errbuf err;
    char d[PATH_MAX];
    char cert[PATH_MAX];
    char key[PATH_MAX];

    tmpdir_path(state, dir, d);
    assert_int_equal(bp_path_join(d, "node.crt", cert, sizeof(cert), NULL), 0);
    assert_int_equal(bp_path_join(d, "node.key", key, sizeof(key), NULL), 0);
    if (bp_tls_files_load(cert, key, &cred, &err) != 0) {
        fail_msg("%s", err.text);
    }
    assert_string_equal(err.text, "");
    return cred;
}

static void cert_renew_makes_what_a_node_loads(void **state)
{
    struct run r;
    struct bp_tls_cred *cred;
    char p[PATH_MAX];
    json_t *o;

    cli(&r, state, "cert", "renew");
    expect_err(&r, 2, "--node");
    cli(&r, state, "cert", "renew", "--node", "a@h");
    expect_out(&r, 0, "CN=a@h,O=Barrel P2P");
    cred = load(state, "data/quic");
    assert_true(bp_tls_cred_generated(cred));
    bp_tls_cred_unref(cred);
    assert_int_equal(tmpdir_mode(tmpdir_path(state, "data/quic", p)), 0700);
    assert_int_equal(tmpdir_mode(tmpdir_path(state, "data/quic/node.key", p)), 0600);

    cli(&r, state, "cert", "show", "--json", "-n", "a@h");
    assert_int_equal(r.status, 0);
    o = cli_json(&r);
    assert_string_equal(member(o, "subject"), "CN=a@h,O=Barrel P2P");
    assert_true(json_is_true(json_object_get(o, "generated")));
    assert_true(json_is_true(json_object_get(o, "key_matches")));
    assert_true(json_is_false(json_object_get(o, "expired")));
    assert_in_range(json_integer_value(json_object_get(o, "days_left")), 364, 365);
    json_decref(o);
}

static void cert_renew_again_keeps_name_and_backup(void **state)
{
    struct run r;
    struct bp_tls_cred *a;
    struct bp_tls_cred *b;
    char name[256];
    char p[PATH_MAX];
    json_t *o;

    cli(&r, state, "cert", "renew", "--node", "a@h", "--dir", "q");
    a = load(state, "q");
    cli(&r, state, "cert", "renew", "--dir", "q", "--json");
    assert_int_equal(r.status, 0);
    o = cli_json(&r);
    assert_string_equal(member(o, "subject"), "CN=a@h,O=Barrel P2P");
    snprintf(name, sizeof(name), "%s/node.key", member(o, "backup_dir"));
    assert_int_equal(tmpdir_mode(tmpdir_path(state, name, p)), 0600);
    json_decref(o);
    b = load(state, "q");
    assert_memory_not_equal(bp_tls_cred_binding(a), bp_tls_cred_binding(b), BP_BINDING_LEN);
    bp_tls_cred_unref(a);
    bp_tls_cred_unref(b);
}

static void cert_show_without_certificate(void **state)
{
    struct run r;

    cli(&r, state, "cert", "show");
    expect_err(&r, 3, "barrel-p2p cert renew");
    cli(&r, state, "cert", "show", "missing.pem", "--json");
    expect_out(&r, 3, "not_found");
    assert_int_equal(tmpdir_count(((struct tmpdir *)*state)->path), 0);
}

/* A certificate that somebody else made, which ended `ago` seconds before now. */
static void put_users_pair(void **state, const char *dir, const char *cn, long ago)
{
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t crt;
    char pem[4096];
    char p[PATH_MAX];
    char name[64];
    size_t len = sizeof(pem);

    assert_int_equal(gnutls_x509_privkey_init(&key), 0);
    assert_int_equal(gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA, 256, 0), 0);
    assert_int_equal(gnutls_x509_crt_init(&crt), 0);
    assert_int_equal(gnutls_x509_crt_set_version(crt, 3), 0);
    assert_int_equal(gnutls_x509_crt_set_serial(crt, "\1", 1), 0);
    assert_int_equal(gnutls_x509_crt_set_dn(crt, cn, NULL), 0);
    assert_int_equal(gnutls_x509_crt_set_activation_time(crt, time(NULL) - 2 * ago - 100), 0);
    assert_int_equal(gnutls_x509_crt_set_expiration_time(crt, time(NULL) - ago), 0);
    assert_int_equal(gnutls_x509_crt_set_key(crt, key), 0);
    assert_int_equal(gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0), 0);
    assert_int_equal(gnutls_x509_crt_export(crt, GNUTLS_X509_FMT_PEM, pem, &len), 0);
    (void)mkdir(tmpdir_path(state, dir, p), 0700);
    snprintf(name, sizeof(name), "%s/node.crt", dir);
    tmpdir_put(tmpdir_path(state, name, p), pem, len);
    len = sizeof(pem);
    assert_int_equal(gnutls_x509_privkey_export(key, GNUTLS_X509_FMT_PEM, pem, &len), 0);
    snprintf(name, sizeof(name), "%s/node.key", dir);
    tmpdir_put(tmpdir_path(state, name, p), pem, len);
    assert_int_equal(chmod(p, 0600), 0);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
}

static void cert_of_the_user_replaced_only_with_force(void **state)
{
    struct run r;
    struct bp_tls_cred *cred;
    char p[PATH_MAX];
    char before[4096];
    char after[4096];
    size_t n;
    json_t *o;

    put_users_pair(state, "q", "CN=mine", -86400);
    cli(&r, state, "cert", "show", "--dir", "q");
    expect_out(&r, 0, "generated     no");
    n = tmpdir_get(tmpdir_path(state, "q/node.crt", p), before, sizeof(before));
    cli(&r, state, "cert", "renew", "--dir", "q", "--json");
    expect_err(&r, 5, "--force");
    o = cli_json(&r);
    assert_string_equal(member(o, "error"), "user_certificate");
    json_decref(o);
    assert_int_equal(tmpdir_get(p, after, sizeof(after)), n);
    assert_memory_equal(before, after, n);

    cli(&r, state, "cert", "renew", "--dir", "q", "--force", "--json");
    assert_int_equal(r.status, 0);
    o = cli_json(&r);
    assert_string_equal(member(o, "subject"), "CN=mine,O=Barrel P2P");
    snprintf(p, sizeof(p), "%s/%s/node.crt", ((struct tmpdir *)*state)->path,
             member(o, "backup_dir"));
    json_decref(o);
    assert_int_equal(tmpdir_get(p, after, sizeof(after)), n);
    assert_memory_equal(before, after, n);
    cred = load(state, "q");
    assert_true(bp_tls_cred_generated(cred));
    bp_tls_cred_unref(cred);
}

static void cert_show_says_what_is_wrong(void **state)
{
    struct run r;
    char p[PATH_MAX];

    put_users_pair(state, "old", "CN=old", 86400);
    cli(&r, state, "cert", "show", "--dir", "old");
    expect_err(&r, 0, "the certificate has expired");
    expect_out(&r, 0, "expired       yes");

    /* another's key beside it */
    cli(&r, state, "cert", "renew", "--dir", "new", "--node", "a@h");
    assert_int_equal(rename(tmpdir_path(state, "new/node.crt", p),
                            tmpdir_path(state, "old/node.crt", (char[PATH_MAX]){0})),
                     0);
    cli(&r, state, "cert", "show", "--dir", "old", "--json");
    expect_err(&r, 1, "does not belong to the first certificate");
    expect_out(&r, 1, "\"key_matches\": false");
    /* only the certificate */
    cli(&r, state, "cert", "show", "old/node.crt", "--json");
    expect_out(&r, 0, "CN=a@h");
    assert_null(strstr(r.out, "key_matches"));
    assert_int_equal(unlink(tmpdir_path(state, "old/node.key", p)), 0);
    cli(&r, state, "cert", "show", "--dir", "old", "--json");
    expect_err(&r, 0, "old/node.key: No such file");
    expect_out(&r, 0, "\"key_matches\": null");
    /* half a pair is no pair */
    cli(&r, state, "cert", "renew", "--dir", "old");
    expect_err(&r, 1, "other half");
    cli(&r, state, "cert", "renew", "--dir", "old", "--force");
    expect_out(&r, 0, "key matches   yes");
    tmpdir_put(tmpdir_path(state, "old/node.crt", p), "garbage", 7);
    cli(&r, state, "cert", "show", "--dir", "old");
    expect_err(&r, 1, "old/node.crt: the certificate");
}

static const struct CMUnitTest tests[] = {
    TMPDIR_TEST(cert_renew_makes_what_a_node_loads),
    TMPDIR_TEST(cert_renew_again_keeps_name_and_backup),
    TMPDIR_TEST(cert_show_without_certificate),
    TMPDIR_TEST(cert_of_the_user_replaced_only_with_force),
    TMPDIR_TEST(cert_show_says_what_is_wrong),
};

T_MAIN(tests)
