/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of io/rotate: new keys and certificates, backups, and what a crash leaves. */
#include "io/rotate.h"

#include "base/err.h"
#include "io/identity_dir.h"
#include "io/tls_files.h"
#include "quic/tls_cert.h"
#include "tmpdir.h"

#include <fcntl.h>
#include <gnutls/x509.h>
#include <sys/file.h>
#include <time.h>

#define NODE "a@h"

static void says(const struct bp_errbuf *err, const char *part)
{
    if (strstr(err->text, part) == NULL) {
        fail_msg("no \"%s\" in \"%s\"", part, err->text);
    }
}

static const char *join(const char *dir, const char *file, char out[static PATH_MAX])
{
    assert_int_equal(bp_path_join(dir, file, out, PATH_MAX, NULL), 0);
    return out;
}

static void load_pub(const char *dir, uint8_t pub[static BP_KEY_LEN])
{
    struct bp_identity *id;
    struct bp_errbuf err;

    if (bp_identity_load_or_create(dir, &id, &err) != 0) {
        fail_msg("%s", err.text);
    }
    assert_false(err.warning);
    memcpy(pub, bp_identity_pub(id), BP_KEY_LEN);
    bp_identity_del(id);
}

static void rotate(const char *dir, bool announce, char backup[static PATH_MAX])
{
    struct bp_errbuf err;

    if (bp_rotate_identity(dir, NODE, announce, backup, PATH_MAX, &err) != 0) {
        fail_msg("%s", err.text);
    }
}

/* Does the directory's announcement lead from `old` to the current key? */
static int leads_from(const char *dir, const uint8_t *old)
{
    struct bp_succession s;
    struct bp_errbuf err;
    uint8_t pub[BP_KEY_LEN];

    load_pub(dir, pub);
    bp_errbuf_reset(&err);
    bp_rotate_succession(dir, NODE, pub, &s, &err);
    assert_false(err.warning);
    return bp_succession_check(&s, NODE, old, pub);
}

static void rotate_first_key_made_no_backup(void **state)
{
    char dir[PATH_MAX];
    char backup[PATH_MAX];
    char p[PATH_MAX];

    tmpdir_path(state, "keys", dir);
    rotate(dir, true, backup);
    assert_string_equal(backup, "");
    assert_int_equal(tmpdir_mode(join(dir, BP_KEY_FILE, p)), 0600);
    assert_int_equal(tmpdir_mode(dir), 0700);
    assert_int_equal(tmpdir_count(dir), 2);
}

static void rotate_identity_new_key_signed_by_old_backup_private(void **state)
{
    uint8_t pubs[6][BP_KEY_LEN];
    uint8_t seed[BP_KEY_LEN];
    uint8_t kept[BP_KEY_LEN];
    char dir[PATH_MAX];
    char backup[PATH_MAX];
    char p[PATH_MAX];

    tmpdir_path(state, "keys", dir);
    load_pub(dir, pubs[0]);
    assert_int_equal(tmpdir_get(join(dir, BP_KEY_FILE, p), seed, sizeof(seed)), 32);
    for (int i = 1; i < 6; i++) {
        rotate(dir, true, backup);
        load_pub(dir, pubs[i]);
        assert_memory_not_equal(pubs[i], pubs[i - 1], 32);
        assert_int_equal(tmpdir_mode(join(dir, BP_KEY_FILE, p)), 0600);
        assert_int_equal(tmpdir_mode(join(dir, BP_PUB_FILE, p)), 0644);
        if (i == 1) {
            assert_int_equal(tmpdir_get(join(backup, BP_KEY_FILE, p), kept, sizeof(kept)), 32);
            assert_memory_equal(kept, seed, 32);
        }
        for (const char *const *f = (const char *const[]){BP_KEY_FILE, BP_PUB_FILE, NULL}; *f;
             f++) {
            assert_int_equal(tmpdir_mode(join(backup, *f, p)), 0600);
        }
        assert_int_equal(tmpdir_mode(backup), 0700);
        assert_int_equal(tmpdir_mode(join(dir, "backups", p)), 0700);
        assert_int_equal(tmpdir_count(p), i); /* of several in one second each has its own */
    }
    assert_int_equal(leads_from(dir, pubs[0]), BP_E_NOT_FOUND); /* missed too many */
    for (int i = 1; i < 5; i++) {
        assert_int_equal(leads_from(dir, pubs[i]), 0);
    }
}

static void rotate_identity_not_announced_followed_by_nobody(void **state)
{
    uint8_t a[BP_KEY_LEN];
    uint8_t b[BP_KEY_LEN];
    char dir[PATH_MAX];
    char backup[PATH_MAX];
    char p[PATH_MAX];

    tmpdir_path(state, "keys", dir);
    load_pub(dir, a);
    rotate(dir, true, backup);
    load_pub(dir, b);
    rotate(dir, false, backup);
    assert_int_equal(leads_from(dir, a), BP_E_NOT_FOUND);
    assert_int_equal(leads_from(dir, b), BP_E_NOT_FOUND);
    assert_int_equal(access(join(dir, BP_SUCCESSION_FILE, p), F_OK), -1);
    assert_int_equal(tmpdir_mode(join(backup, BP_SUCCESSION_FILE, p)), 0600);
}

/* The announcement was written and the machine stopped before the key was. */
static void rotate_identity_interrupted_old_key_and_its_chain_stay(void **state)
{
    uint8_t first[BP_KEY_LEN];
    uint8_t second[BP_KEY_LEN];
    uint8_t now[BP_KEY_LEN];
    uint8_t seed[BP_KEY_LEN];
    char dir[PATH_MAX];
    char backup[PATH_MAX];
    char p[PATH_MAX];

    tmpdir_path(state, "keys", dir);
    load_pub(dir, first);
    rotate(dir, true, backup);
    load_pub(dir, second);
    assert_int_equal(tmpdir_get(join(dir, BP_KEY_FILE, p), seed, sizeof(seed)), 32);
    rotate(dir, true, backup);
    tmpdir_put(join(dir, BP_KEY_FILE, p), seed, sizeof(seed));
    assert_int_equal(unlink(join(dir, BP_PUB_FILE, p)), 0);
    load_pub(dir, now);
    assert_memory_equal(now, second, 32);
    assert_int_equal(leads_from(dir, first), 0);
    /* and the next one goes on from there */
    rotate(dir, true, backup);
    assert_int_equal(leads_from(dir, first), 0);
    assert_int_equal(leads_from(dir, second), 0);
}

static void rotate_identity_useless_chain_warns(void **state)
{
    uint8_t old[BP_KEY_LEN];
    uint8_t pub[BP_KEY_LEN];
    uint8_t junk[97] = {0};
    struct bp_succession s;
    struct bp_errbuf err;
    char dir[PATH_MAX];
    char backup[PATH_MAX];
    char p[PATH_MAX];

    tmpdir_path(state, "keys", dir);
    load_pub(dir, old);
    rotate(dir, true, backup);
    load_pub(dir, pub);
    bp_rotate_succession(dir, "b@h", pub, &s, &err); /* the node has another name now */
    assert_true(err.warning);
    assert_int_equal(s.n, 0);
    says(&err, BP_SUCCESSION_FILE);
    bp_rotate_succession(dir, NODE, old, &s, &err); /* a key that was put back */
    assert_false(err.warning);
    assert_int_equal(s.n, 0);
    for (size_t len = 0; len <= sizeof(junk); len++) {
        tmpdir_put(join(dir, BP_SUCCESSION_FILE, p), junk, len);
        bp_rotate_succession(dir, NODE, pub, &s, &err);
        assert_true(err.warning);
        assert_int_equal(s.n, 0);
        says(&err, "delete it");
    }
}

static void rotate_identity_refusals_change_nothing(void **state)
{
    uint8_t a[BP_KEY_LEN];
    uint8_t b[BP_KEY_LEN];
    struct bp_errbuf err;
    char dir[PATH_MAX];
    char backup[PATH_MAX];
    char p[PATH_MAX];
    int fd;

    tmpdir_path(state, "keys", dir);
    load_pub(dir, a);
    assert_int_equal(bp_rotate_identity(dir, "bad", true, backup, sizeof(backup), &err),
                     BP_E_INVALID);
    fd = open(dir, O_RDONLY | O_DIRECTORY);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_int_equal(bp_rotate_identity(dir, NODE, true, backup, sizeof(backup), &err), BP_E_AGAIN);
    says(&err, "another process");
    close(fd);
    assert_int_equal(bp_rotate_identity(dir, NODE, true, backup, 10, &err), BP_E_INVALID);
    load_pub(dir, b);
    assert_memory_equal(a, b, 32);
    tmpdir_put(join(dir, BP_PUB_FILE, p), "0123456789abcdef0123456789abcdef", 32);
    assert_int_equal(bp_rotate_identity(dir, NODE, true, backup, sizeof(backup), &err),
                     BP_E_KEYPAIR);
    says(&err, BP_KEY_FILE);
}

/* --- certificates ------------------------------------------------------------ */

struct files {
    char dir[PATH_MAX];
    char cert[PATH_MAX];
    char key[PATH_MAX];
    char waiting[PATH_MAX];
};

static struct files in(void **state)
{
    struct files f;

    tmpdir_path(state, "q", f.dir);
    join(f.dir, BP_TLS_CERT_FILE, f.cert);
    join(f.dir, BP_TLS_KEY_FILE, f.key);
    join(f.dir, BP_TLS_CERT_FILE BP_TLS_CERT_WAITING, f.waiting);
    return f;
}

static void load_cert(const struct files *f, uint8_t binding[static BP_BINDING_LEN])
{
    struct bp_tls_cred *cred;
    struct bp_errbuf err;

    if (bp_tls_files_ensure(f->cert, f->key, NODE, &cred, &err) != 0) {
        fail_msg("%s", err.text);
    }
    assert_true(bp_tls_cred_generated(cred));
    memcpy(binding, bp_tls_cred_binding(cred), BP_BINDING_LEN);
    bp_tls_cred_unref(cred);
}

static void rotate_cert_new_pair_old_one_kept(void **state)
{
    struct files f = in(state);
    uint8_t a[BP_BINDING_LEN];
    uint8_t b[BP_BINDING_LEN];
    char old_key[1024];
    char new_key[1024];
    char kept[1024];
    char backup[PATH_MAX];
    char p[PATH_MAX];
    struct bp_errbuf err;
    size_t n;

    load_cert(&f, a);
    n = tmpdir_get(f.key, old_key, sizeof(old_key));
    assert_int_equal(bp_rotate_cert(f.cert, f.key, NODE, backup, sizeof(backup), &err), 0);
    load_cert(&f, b);
    assert_memory_not_equal(a, b, sizeof(a));
    assert_int_equal(tmpdir_mode(f.key), 0600);
    assert_int_equal(tmpdir_mode(f.cert), 0644);
    assert_int_equal(tmpdir_count(f.dir), 3);
    tmpdir_get(f.key, new_key, sizeof(new_key));
    assert_memory_not_equal(old_key, new_key, n);
    assert_int_equal(tmpdir_mode(join(backup, BP_TLS_CERT_FILE, p)), 0600);
    assert_int_equal(tmpdir_mode(join(backup, BP_TLS_KEY_FILE, p)), 0600);
    assert_int_equal(tmpdir_get(p, kept, sizeof(kept)), n);
    assert_memory_equal(kept, old_key, n);
}

/* Stops after each step of the replacement: whatever is there, a node starts with it. */
static void rotate_cert_interrupted_node_starts(void **state)
{
    struct files f = in(state);
    uint8_t a[BP_BINDING_LEN];
    uint8_t b[BP_BINDING_LEN];
    struct bp_tls_pem pem;
    struct bp_tls_cred *cred;
    struct bp_errbuf err;

    load_cert(&f, a);
    assert_int_equal(bp_tls_cert_generate(NODE, (int64_t)time(NULL), &pem), 0);
    tmpdir_put(f.waiting, pem.cert, pem.cert_len);
    load_cert(&f, b);
    assert_memory_equal(a, b, sizeof(a));
    tmpdir_put(f.key, pem.key, pem.key_len);
    load_cert(&f, b);
    assert_memory_not_equal(a, b, sizeof(a));
    assert_int_equal(access(f.waiting, F_OK), -1);
    load_cert(&f, a);
    assert_memory_equal(a, b, sizeof(a));
    /* a key that is nobody's stays an error, with a certificate waiting or not */
    bp_tls_pem_free(&pem);
    assert_int_equal(bp_tls_cert_generate(NODE, (int64_t)time(NULL), &pem), 0);
    tmpdir_put(f.key, pem.key, pem.key_len);
    assert_int_equal(bp_tls_cert_generate(NODE, (int64_t)time(NULL), &pem), 0);
    tmpdir_put(f.waiting, pem.cert, pem.cert_len);
    assert_int_equal(bp_tls_files_ensure(f.cert, f.key, NODE, &cred, &err), BP_E_KEYPAIR);
    says(&err, f.key);
    assert_int_equal(access(f.waiting, F_OK), 0);
    bp_tls_pem_free(&pem);
}

/* A self-signed pair of a user's own: with another organisation, or with ours but signed by
 * somebody else. */
static void put_users_pair(const struct files *f, bool our_organisation)
{
    static const char *const oid[2] = {GNUTLS_OID_X520_COMMON_NAME,
                                       GNUTLS_OID_X520_ORGANIZATION_NAME};
    const char *value[2] = {"users own", our_organisation ? "Barrel P2P" : "Example"};
    gnutls_x509_privkey_t key;
    gnutls_x509_privkey_t ca_key;
    gnutls_x509_crt_t crt;
    char pem[4096];
    size_t len = sizeof(pem);

    assert_int_equal(gnutls_x509_privkey_init(&key), 0);
    assert_int_equal(gnutls_x509_privkey_init(&ca_key), 0);
    assert_int_equal(gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA, 256, 0), 0);
    assert_int_equal(gnutls_x509_privkey_generate(ca_key, GNUTLS_PK_ECDSA, 256, 0), 0);
    assert_int_equal(gnutls_x509_crt_init(&crt), 0);
    gnutls_x509_crt_set_version(crt, 3);
    gnutls_x509_crt_set_serial(crt, "\1", 1);
    for (int i = 0; i < 2; i++) {
        gnutls_x509_crt_set_dn_by_oid(crt, oid[i], 0, value[i], (unsigned)strlen(value[i]));
        gnutls_x509_crt_set_issuer_dn_by_oid(crt, oid[i], 0, value[i], (unsigned)strlen(value[i]));
    }
    gnutls_x509_crt_set_activation_time(crt, time(NULL) - 100);
    gnutls_x509_crt_set_expiration_time(crt, time(NULL) + 86400);
    gnutls_x509_crt_set_key(crt, key);
    assert_int_equal(
        gnutls_x509_crt_sign2(crt, crt, our_organisation ? ca_key : key, GNUTLS_DIG_SHA256, 0), 0);
    assert_int_equal(gnutls_x509_crt_export(crt, GNUTLS_X509_FMT_PEM, pem, &len), 0);
    assert_int_equal(bp_mkdirs(f->dir, 0700, NULL), 0);
    tmpdir_put(f->cert, pem, len);
    len = sizeof(pem);
    assert_int_equal(gnutls_x509_privkey_export(key, GNUTLS_X509_FMT_PEM, pem, &len), 0);
    tmpdir_put(f->key, pem, len);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
    gnutls_x509_privkey_deinit(ca_key);
}

static void rotate_cert_of_the_user_never_touched(void **state)
{
    struct files f = in(state);
    struct bp_errbuf err;
    char before[4096];
    char after[4096];
    char backup[PATH_MAX];

    for (int ours = 0; ours < 2; ours++) {
        put_users_pair(&f, ours);
        size_t n = tmpdir_get(f.cert, before, sizeof(before));
        assert_int_equal(bp_rotate_cert(f.cert, f.key, NODE, backup, sizeof(backup), &err),
                         BP_E_STATE);
        says(&err, f.cert);
        assert_string_equal(backup, "");
        assert_int_equal(tmpdir_get(f.cert, after, sizeof(after)), n);
        assert_memory_equal(before, after, n);
        assert_int_equal(tmpdir_count(f.dir), 2);
    }
}

static void rotate_cert_any_replaces_what_is_there(void **state)
{
    struct files f = in(state);
    struct bp_tls_cred *cred = NULL;
    struct bp_errbuf err;
    char before[4096];
    char after[4096];
    char kept[PATH_MAX];
    char backup[PATH_MAX];

    put_users_pair(&f, false);
    size_t n = tmpdir_get(f.cert, before, sizeof(before));
    assert_int_equal(bp_rotate_cert_any(f.cert, f.key, NODE, backup, sizeof(backup), &err), 0);
    assert_int_equal(tmpdir_get(join(backup, "node.crt", kept), after, sizeof(after)), n);
    assert_memory_equal(before, after, n);
    assert_int_equal(tmpdir_mode(kept), 0600);
    assert_int_equal(tmpdir_mode(f.key), 0600);
    assert_int_equal(bp_tls_files_load(f.cert, f.key, &cred, &err), 0);
    assert_true(bp_tls_cred_generated(cred));
    bp_tls_cred_unref(cred);

    /* half a pair, and garbage */
    assert_int_equal(unlink(f.cert), 0);
    assert_int_equal(bp_rotate_cert_any(f.cert, f.key, NODE, backup, sizeof(backup), &err), 0);
    tmpdir_put(f.key, "garbage", 7);
    assert_int_equal(bp_rotate_cert_any(f.cert, f.key, NODE, backup, sizeof(backup), &err), 0);
    assert_int_equal(bp_tls_files_load(f.cert, f.key, &cred, &err), 0);
    bp_tls_cred_unref(cred);
}

static void rotate_cert_without_files_makes_them(void **state)
{
    struct files f = in(state);
    struct bp_errbuf err;
    char backup[PATH_MAX];

    assert_int_equal(bp_rotate_cert(f.cert, f.key, NODE, backup, sizeof(backup), &err), 0);
    assert_string_equal(backup, "");
    assert_int_equal(tmpdir_count(f.dir), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(rotate_first_key_made_no_backup),
        TMPDIR_TEST(rotate_identity_new_key_signed_by_old_backup_private),
        TMPDIR_TEST(rotate_identity_not_announced_followed_by_nobody),
        TMPDIR_TEST(rotate_identity_interrupted_old_key_and_its_chain_stay),
        TMPDIR_TEST(rotate_identity_useless_chain_warns),
        TMPDIR_TEST(rotate_identity_refusals_change_nothing),
        TMPDIR_TEST(rotate_cert_new_pair_old_one_kept),
        TMPDIR_TEST(rotate_cert_interrupted_node_starts),
        TMPDIR_TEST(rotate_cert_of_the_user_never_touched),
        TMPDIR_TEST(rotate_cert_any_replaces_what_is_there),
        TMPDIR_TEST(rotate_cert_without_files_makes_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
