/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of io/tls_files: the certificate and key files of a node. */
#include "io/tls_files.h"

#include "base/err.h"
#include "quic/tls_cert.h"
#include "tmpdir.h"

#include <pthread.h>
#include <time.h>

static void says(const struct bp_errbuf *err, const char *part)
{
    if (strstr(err->text, part) == NULL) {
        fail_msg("no \"%s\" in \"%s\"", part, err->text);
    }
}

struct files {
    char dir[PATH_MAX];
    char cert[PATH_MAX];
    char key[PATH_MAX];
};

static struct files in(void **state, const char *sub)
{
    struct files f;
    char name[64];

    tmpdir_path(state, sub, f.dir);
    snprintf(name, sizeof(name), "%s/node.crt", sub);
    tmpdir_path(state, name, f.cert);
    snprintf(name, sizeof(name), "%s/node.key", sub);
    tmpdir_path(state, name, f.key);
    return f;
}

static struct bp_tls_cred *must(const struct files *f, bool warning)
{
    struct bp_tls_cred *cred;
    struct bp_errbuf err;

    if (bp_tls_files_ensure(f->cert, f->key, "a@h", &cred, &err) != 0) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(err.warning, warning);
    assert_int_equal(err.text[0] != '\0', warning);
    return cred;
}

static void refused(const struct files *f, int want, const char *file, const char *part)
{
    struct bp_tls_cred *cred;
    struct bp_errbuf err;

    assert_int_equal(bp_tls_files_ensure(f->cert, f->key, "a@h", &cred, &err), want);
    assert_null(cred);
    assert_false(err.warning);
    says(&err, file);
    says(&err, part);
}

static void tls_files_missing_pair_made_then_kept(void **state)
{
    struct files f = in(state, "data/quic");
    struct bp_tls_cred *a = must(&f, false);
    struct bp_tls_cred *b;

    assert_int_equal(tmpdir_mode(f.dir), 0700);
    assert_int_equal(tmpdir_mode(f.key), 0600);
    assert_int_equal(tmpdir_mode(f.cert), 0644);
    assert_int_equal(tmpdir_count(f.dir), 2);
    b = must(&f, false);
    assert_memory_equal(bp_tls_cred_binding(a), bp_tls_cred_binding(b), 32);
    assert_true(bp_tls_cred_not_before(a) < (int64_t)time(NULL));
    assert_true(bp_tls_cred_not_after(a) > (int64_t)time(NULL) + 364 * 86400);
    bp_tls_cred_unref(a);
    bp_tls_cred_unref(b);
}

static void put_pair(const struct files *f, int64_t now)
{
    struct bp_tls_pem pem;

    assert_int_equal(bp_tls_cert_generate("own@h", now, &pem), 0);
    assert_int_equal(bp_mkdirs(f->dir, 0700, NULL), 0);
    tmpdir_put(f->cert, pem.cert, pem.cert_len);
    tmpdir_put(f->key, pem.key, pem.key_len);
    assert_int_equal(chmod(f->key, 0600), 0);
    bp_tls_pem_free(&pem);
}

static void tls_files_users_pair_used_as_it_is(void **state)
{
    struct files f = in(state, "q");
    char before[4096];
    char after[4096];
    size_t n;

    put_pair(&f, (int64_t)time(NULL));
    n = tmpdir_get(f.cert, before, sizeof(before));
    bp_tls_cred_unref(must(&f, false));
    assert_int_equal(tmpdir_get(f.cert, after, sizeof(after)), n);
    assert_memory_equal(before, after, n);
}

static void tls_files_one_half_missing_refused_nothing_written(void **state)
{
    struct files f = in(state, "q");

    put_pair(&f, (int64_t)time(NULL));
    assert_int_equal(unlink(f.key), 0);
    refused(&f, BP_E_FILE, f.key, "move node.crt away");
    assert_int_equal(tmpdir_count(f.dir), 1);
    put_pair(&f, (int64_t)time(NULL));
    assert_int_equal(unlink(f.cert), 0);
    refused(&f, BP_E_FILE, f.cert, "move node.key away");
    assert_int_equal(tmpdir_count(f.dir), 1);
}

static void tls_files_unusable_files_named_with_cure(void **state)
{
    struct files f = in(state, "q");
    struct files g = in(state, "r");
    char text[4096];
    size_t n;

    put_pair(&f, (int64_t)time(NULL));
    put_pair(&g, (int64_t)time(NULL));
    n = tmpdir_get(g.cert, text, sizeof(text));
    tmpdir_put(f.cert, text, n);
    refused(&f, BP_E_KEYPAIR, f.key, "does not belong");
    tmpdir_put(f.cert, text, n / 2);
    refused(&f, BP_E_FILE, f.cert, "have a new pair made");
    tmpdir_put(f.cert, "", 0);
    refused(&f, BP_E_FILE, f.cert, "the certificate is not");
    tmpdir_put(f.cert, text, n);
    tmpdir_put(f.key, "garbage", 7);
    refused(&f, BP_E_FILE, f.key, "the key is not");
    assert_int_equal(unlink(f.cert), 0);
    assert_int_equal(mkdir(f.cert, 0700), 0);
    refused(&f, BP_E_FILE, f.cert, "not a regular file");
    assert_int_equal(rmdir(f.cert), 0);
    assert_int_equal(symlink("nowhere", f.cert), 0);
    refused(&f, BP_E_FILE, f.cert, "No such file");
}

static void tls_files_directory_not_possible_reported(void **state)
{
    struct files f = in(state, "q");

    tmpdir_put(f.dir, "", 0);
    refused(&f, BP_E_FILE, f.dir, "Not a directory");
}

static void tls_files_certificate_not_writable_takes_key_back(void **state)
{
    struct files f = in(state, "q");
    char name[300];

    memset(name, 'x', sizeof(name)); /* longer than a file name can be */
    memcpy(name, "q/", 2);
    name[299] = '\0';
    tmpdir_path(state, name, f.cert);
    assert_int_equal(bp_mkdirs(f.dir, 0700, NULL), 0);
    refused(&f, BP_E_FILE, "cannot write", "File name too long");
    assert_int_equal(tmpdir_count(f.dir), 0);
}

static void tls_files_bad_name_refused(void **state)
{
    struct files f = in(state, "q");
    struct bp_tls_cred *cred;
    struct bp_errbuf err;

    assert_int_equal(bp_tls_files_ensure(f.cert, f.key, "", &cred, &err), BP_E_INVALID);
    says(&err, f.cert);
    assert_int_equal(tmpdir_count(f.dir), 0);
}

static void tls_files_expired_or_readable_works_with_warning(void **state)
{
    struct files f = in(state, "q");

    put_pair(&f, 1500000000);
    bp_tls_cred_unref(must(&f, true));
    put_pair(&f, (int64_t)time(NULL));
    bp_tls_cred_unref(must(&f, false));
    assert_int_equal(chmod(f.key, 0604), 0);
    bp_tls_cred_unref(must(&f, true));
}

struct booter {
    const struct files *f;
    struct bp_tls_cred *cred;
    int rc;
};

static void *boot(void *arg)
{
    struct booter *b = arg;

    b->rc = bp_tls_files_ensure(b->f->cert, b->f->key, "a@h", &b->cred, NULL);
    return NULL;
}

static void tls_files_racing_processes_share_one_pair(void **state)
{
    pthread_t th[4];
    struct booter b[4];

    for (int round = 0; round < 5; round++) {
        char name[16];
        struct files f;
        snprintf(name, sizeof(name), "q%d", round);
        f = in(state, name);
        for (int i = 0; i < 4; i++) {
            b[i] = (struct booter){.f = &f};
            assert_int_equal(pthread_create(&th[i], NULL, boot, &b[i]), 0);
        }
        for (int i = 0; i < 4; i++) {
            assert_int_equal(pthread_join(th[i], NULL), 0);
            assert_int_equal(b[i].rc, 0);
            assert_memory_equal(bp_tls_cred_binding(b[i].cred), bp_tls_cred_binding(b[0].cred), 32);
        }
        for (int i = 0; i < 4; i++) {
            bp_tls_cred_unref(b[i].cred);
        }
        assert_int_equal(tmpdir_count(f.dir), 2);
    }
}

struct late {
    const struct files *f;
    const char *cert;
    size_t len;
};

static void *write_late(void *arg)
{
    struct late *l = arg;

    nanosleep(&(struct timespec){.tv_nsec = 50 * 1000 * 1000}, NULL);
    return bp_file_write_new(l->f->cert, l->cert, l->len, 0644, NULL) == 0 ? l : NULL;
}

static void tls_files_key_of_slow_maker_waited_for(void **state)
{
    struct files f = in(state, "q");
    char cert[4096];
    struct late l = {.f = &f, .cert = cert};
    pthread_t th;
    void *ok;

    put_pair(&f, (int64_t)time(NULL));
    l.len = tmpdir_get(f.cert, cert, sizeof(cert));
    assert_int_equal(unlink(f.cert), 0);
    assert_int_equal(pthread_create(&th, NULL, write_late, &l), 0);
    bp_tls_cred_unref(must(&f, false));
    assert_int_equal(pthread_join(th, &ok), 0);
    assert_non_null(ok);
}

static const struct CMUnitTest tests[] = {
    TMPDIR_TEST(tls_files_missing_pair_made_then_kept),
    TMPDIR_TEST(tls_files_users_pair_used_as_it_is),
    TMPDIR_TEST(tls_files_one_half_missing_refused_nothing_written),
    TMPDIR_TEST(tls_files_unusable_files_named_with_cure),
    TMPDIR_TEST(tls_files_directory_not_possible_reported),
    TMPDIR_TEST(tls_files_certificate_not_writable_takes_key_back),
    TMPDIR_TEST(tls_files_bad_name_refused),
    TMPDIR_TEST(tls_files_expired_or_readable_works_with_warning),
    TMPDIR_TEST(tls_files_racing_processes_share_one_pair),
    TMPDIR_TEST(tls_files_key_of_slow_maker_waited_for),
};

T_MAIN(tests)
