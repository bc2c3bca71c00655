/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of io/identity_dir: who owns a directory, and the key pair on disk. */
#include "io/identity_dir.h"

#include "auth/identity.h"
#include "base/err.h"
#include "tmpdir.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

static void says(const struct bp_errbuf *err, const char *part)
{
    if (strstr(err->text, part) == NULL) {
        fail_msg("no \"%s\" in \"%s\"", part, err->text);
    }
}

/* --- ownership --------------------------------------------------------------- */

static void resolve_to(void **state, const char *dir, const char *node, const char *want)
{
    char d[PATH_MAX];
    char w[PATH_MAX];
    char out[PATH_MAX];
    struct bp_errbuf err;

    tmpdir_path(state, dir, d);
    if (bp_identity_dir_resolve(d, false, node, out, sizeof(out), &err) != 0) {
        fail_msg("%s", err.text);
    }
    assert_string_equal(out, tmpdir_path(state, want, w));
    assert_string_equal(err.text, "");
}

static void identity_dir_first_node_owns_others_redirected(void **state)
{
    char p[PATH_MAX];
    char got[64];

    resolve_to(state, "data/keys", "a@h", "data/keys");
    tmpdir_path(state, "data/keys/node.name", p);
    assert_int_equal(tmpdir_get(p, got, sizeof(got)), 4);
    assert_memory_equal(got, "a@h\n", 4);
    resolve_to(state, "data/keys", "b@h", "data/keys/nodes/b@h");
    assert_int_equal(tmpdir_mode(tmpdir_path(state, "data/keys/nodes/b@h", p)), 0700);
    resolve_to(state, "data/keys", "a@h", "data/keys");
    resolve_to(state, "data/keys", "b@h", "data/keys/nodes/b@h");
    resolve_to(state, "data/keys/", "a@h", "data/keys");
}

static void find_to(void **state, const char *dir, const char *node, const char *want)
{
    char d[PATH_MAX];
    char w[PATH_MAX];
    char out[PATH_MAX];
    struct bp_errbuf err;

    tmpdir_path(state, dir, d);
    if (bp_identity_dir_find(d, false, node, out, sizeof(out), &err) != 0) {
        fail_msg("%s", err.text);
    }
    assert_string_equal(out, tmpdir_path(state, want, w));
    assert_string_equal(err.text, "");
}

static void identity_dir_find_answers_as_resolve_and_changes_nothing(void **state)
{
    char p[PATH_MAX];
    char out[PATH_MAX];

    find_to(state, "data/keys", "a@h", "data/keys");
    find_to(state, "data/keys", "nonode@nohost", "data/keys/nodes/nonode@nohost");
    assert_int_equal(access(tmpdir_path(state, "data", p), F_OK), -1);
    resolve_to(state, "data/keys", "a@h", "data/keys");
    find_to(state, "data/keys", "a@h", "data/keys");
    find_to(state, "data/keys/", "b@h", "data/keys/nodes/b@h");
    assert_int_equal(tmpdir_count(tmpdir_path(state, "data/keys", p)), 1);
    assert_int_equal(bp_identity_dir_find(p, false, "../a@h", out, sizeof(out), NULL),
                     BP_E_INVALID);
    assert_int_equal(bp_identity_dir_find(p, true, "", out, sizeof(out), NULL), 0);
    assert_string_equal(out, p);
    tmpdir_put(tmpdir_path(state, "data/keys/node.name", p), "garbage", 7);
    tmpdir_path(state, "data/keys", p);
    assert_int_equal(bp_identity_dir_find(p, false, "a@h", out, sizeof(out), NULL), BP_E_FILE);
}

static void identity_dir_keys_without_owner_claimed(void **state)
{
    char p[PATH_MAX];

    assert_int_equal(mkdir(tmpdir_path(state, "keys", p), 0755), 0);
    tmpdir_put(tmpdir_path(state, "keys/node.key", p), "12345678901234567890123456789012", 32);
    resolve_to(state, "keys", "late@h", "keys");
    resolve_to(state, "keys", "other@h", "keys/nodes/other@h");
}

static void identity_dir_explicit_used_as_it_is(void **state)
{
    char d[PATH_MAX];
    char out[PATH_MAX];
    char p[PATH_MAX];

    tmpdir_path(state, "mine", d);
    assert_int_equal(bp_identity_dir_resolve(d, true, "a@h", out, sizeof(out), NULL), 0);
    assert_string_equal(out, d);
    assert_int_equal(access(d, F_OK), -1);
    assert_int_equal(mkdir(d, 0700), 0);
    tmpdir_put(tmpdir_path(state, "mine/node.name", p), "b@h\n", 4);
    assert_int_equal(bp_identity_dir_resolve(d, true, "a@h", out, sizeof(out), NULL), 0);
    assert_string_equal(out, d);
    assert_int_equal(bp_identity_dir_resolve(d, true, "nonode@nohost", out, sizeof(out), NULL), 0);
    assert_string_equal(out, d);
}

static void identity_dir_dynamic_node_never_owns(void **state)
{
    resolve_to(state, "keys", "nonode@nohost", "keys/nodes/nonode@nohost");
    resolve_to(state, "keys", "a@h", "keys");
    resolve_to(state, "keys", "nonode@nohost", "keys/nodes/nonode@nohost");
}

static void identity_dir_owner_by_hand_accepted(void **state)
{
    char p[PATH_MAX];

    assert_int_equal(mkdir(tmpdir_path(state, "keys", p), 0700), 0);
    tmpdir_put(tmpdir_path(state, "keys/node.name", p), "a@h \r\n\n", 7);
    resolve_to(state, "keys", "a@h", "keys");
    tmpdir_put(p, "a@h", 3);
    resolve_to(state, "keys", "a@h", "keys");
}

static void identity_dir_garbage_owner_named_with_cure(void **state)
{
    static const char *const bad[] = {
        "no name at all\n", "a@h\nb@h\n", "../x@h\n", "@\n", "\n", ""};
    char d[PATH_MAX];
    char p[PATH_MAX];
    char out[PATH_MAX];
    char big[300];
    struct bp_errbuf err;

    assert_int_equal(mkdir(tmpdir_path(state, "keys", d), 0700), 0);
    tmpdir_path(state, "keys/node.name", p);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        tmpdir_put(p, bad[i], strlen(bad[i]));
        assert_int_equal(bp_identity_dir_resolve(d, false, "a@h", out, sizeof(out), &err),
                         BP_E_FILE);
        assert_string_equal(out, "");
        says(&err, p);
        says(&err, "delete it");
    }
    memset(big, 'a', sizeof(big));
    big[100] = '@';
    tmpdir_put(p, big, sizeof(big));
    assert_int_equal(bp_identity_dir_resolve(d, false, "a@h", out, sizeof(out), &err), BP_E_FILE);
}

static void identity_dir_bad_arguments_refused(void **state)
{
    char d[PATH_MAX];
    char out[PATH_MAX];
    struct bp_errbuf err;

    tmpdir_path(state, "keys", d);
    assert_int_equal(bp_identity_dir_resolve(d, false, "../a@h", out, sizeof(out), &err),
                     BP_E_INVALID);
    assert_int_equal(bp_identity_dir_resolve(d, false, "a", out, sizeof(out), &err), BP_E_INVALID);
    assert_int_equal(bp_identity_dir_resolve("", false, "a@h", out, sizeof(out), &err),
                     BP_E_INVALID);
    assert_int_equal(bp_identity_dir_resolve(d, true, "a@h", out, 4, &err), BP_E_INVALID);
    assert_string_equal(out, "");
    assert_int_equal(access(d, F_OK), -1);
}

static void identity_dir_file_in_the_way_is_an_error(void **state)
{
    char d[PATH_MAX];
    char out[PATH_MAX];
    struct bp_errbuf err;

    tmpdir_put(tmpdir_path(state, "keys", d), "", 0);
    assert_int_equal(bp_identity_dir_resolve(d, false, "a@h", out, sizeof(out), &err), BP_E_FILE);
    says(&err, d);
    assert_int_equal(bp_identity_dir_resolve(d, false, "nonode@nohost", out, sizeof(out), &err),
                     BP_E_FILE);
}

/* For root only a kernel file system is unwritable: /sys refuses new files, or is read-only. */
static void identity_dir_unwritable_used_as_it_is(void **state)
{
    char d[PATH_MAX] = "/sys/kernel";
    char sub[PATH_MAX];
    char out[PATH_MAX];
    struct bp_errbuf err = {.text = "x"};

    if (geteuid() != 0) {
        assert_int_equal(mkdir(tmpdir_path(state, "keys", d), 0555), 0);
    }
    assert_int_equal(bp_identity_dir_resolve(d, false, "a@h", out, sizeof(out), &err), 0);
    assert_string_equal(out, d);
    assert_string_equal(err.text, "");
    assert_int_equal(bp_path_join(d, "missing", sub, sizeof(sub), NULL), 0);
    assert_int_equal(bp_identity_dir_resolve(sub, false, "a@h", out, sizeof(out), &err), 0);
    assert_string_equal(out, sub);
    assert_string_equal(err.text, "");
}

struct claimer {
    const char *dir;
    char node[16];
    char out[PATH_MAX];
    int rc;
};

static void *claim(void *arg)
{
    struct claimer *c = arg;

    c->rc = bp_identity_dir_resolve(c->dir, false, c->node, c->out, sizeof(c->out), NULL);
    return NULL;
}

static void identity_dir_racing_nodes_one_owns(void **state)
{
    char d[PATH_MAX];
    pthread_t th[4];
    struct claimer *c = calloc(4, sizeof(*c));

    assert_non_null(c);
    for (int round = 0; round < 10; round++) {
        int owners = 0;
        char name[16];
        snprintf(name, sizeof(name), "k%d", round);
        tmpdir_path(state, name, d);
        for (int i = 0; i < 4; i++) {
            c[i].dir = d;
            snprintf(c[i].node, sizeof(c[i].node), "n%d@h", i);
            assert_int_equal(pthread_create(&th[i], NULL, claim, &c[i]), 0);
        }
        for (int i = 0; i < 4; i++) {
            assert_int_equal(pthread_join(th[i], NULL), 0);
            assert_int_equal(c[i].rc, 0);
            owners += strcmp(c[i].out, d) == 0;
        }
        assert_int_equal(owners, 1);
    }
    free(c);
}

/* --- key pair ---------------------------------------------------------------- */

static struct bp_identity *must_load(const char *dir, bool warning)
{
    struct bp_identity *id;
    struct bp_errbuf err;

    if (bp_identity_load_or_create(dir, &id, &err) != 0) {
        fail_msg("%s", err.text);
    }
    assert_non_null(id);
    assert_int_equal(err.warning, warning);
    assert_int_equal(err.text[0] != '\0', warning);
    return id;
}

static void identity_created_then_loaded_the_same(void **state)
{
    char d[PATH_MAX];
    char p[PATH_MAX];
    uint8_t seed[64];
    uint8_t pub[64];
    struct bp_identity *id;
    struct bp_identity *again;

    id = must_load(tmpdir_path(state, "data/keys", d), false);
    assert_int_equal(tmpdir_mode(d), 0700);
    tmpdir_path(state, "data/keys/node.key", p);
    assert_int_equal(tmpdir_mode(p), 0600);
    assert_int_equal(tmpdir_get(p, seed, sizeof(seed)), 32);
    tmpdir_path(state, "data/keys/node.pub", p);
    assert_int_equal(tmpdir_mode(p), 0644);
    assert_int_equal(tmpdir_get(p, pub, sizeof(pub)), 32);
    assert_memory_equal(pub, bp_identity_pub(id), 32);
    assert_int_equal(tmpdir_count(d), 2);
    again = must_load(d, false);
    assert_memory_equal(bp_identity_pub(again), bp_identity_pub(id), 32);
    bp_identity_del(again);

    assert_int_equal(bp_identity_new(&again, seed, pub, bp_mem_libc()), 0);
    bp_identity_del(again);
    bp_identity_del(id);
}

static void identity_two_directories_two_keys(void **state)
{
    char d[PATH_MAX];
    struct bp_identity *a = must_load(tmpdir_path(state, "a", d), false);
    struct bp_identity *b = must_load(tmpdir_path(state, "b", d), false);

    assert_memory_not_equal(bp_identity_pub(a), bp_identity_pub(b), 32);
    bp_identity_del(a);
    bp_identity_del(b);
}

static void identity_missing_public_file_written_again(void **state)
{
    char d[PATH_MAX];
    char p[PATH_MAX];
    uint8_t pub[64];
    struct bp_identity *id = must_load(tmpdir_path(state, "k", d), false);

    tmpdir_path(state, "k/node.pub", p);
    assert_int_equal(unlink(p), 0);
    bp_identity_del(must_load(d, false));
    assert_int_equal(tmpdir_get(p, pub, sizeof(pub)), 32);
    assert_memory_equal(pub, bp_identity_pub(id), 32);
    bp_identity_del(id);
}

static void refused(const char *dir, int rc, const char *file, const char *part)
{
    struct bp_identity *id;
    struct bp_errbuf err;

    assert_int_equal(bp_identity_load_or_create(dir, &id, &err), rc);
    assert_null(id);
    assert_false(err.warning);
    says(&err, file);
    says(&err, part);
    assert_int_equal(bp_identity_load_or_create(dir, &id, NULL), rc);
}

static void identity_lost_private_file_refused_and_kept(void **state)
{
    char d[PATH_MAX];
    char p[PATH_MAX];

    bp_identity_del(must_load(tmpdir_path(state, "k", d), false));
    tmpdir_path(state, "k/node.key", p);
    assert_int_equal(unlink(p), 0);
    refused(d, BP_E_FILE, p, "only node.pub is there");
    assert_int_equal(access(p, F_OK), -1);
}

static void identity_foreign_public_file_refused(void **state)
{
    char d[PATH_MAX];
    char p[PATH_MAX];
    char key[PATH_MAX];
    uint8_t seed[BP_KEY_LEN];
    uint8_t pub[BP_KEY_LEN];

    bp_identity_del(must_load(tmpdir_path(state, "k", d), false));
    assert_int_equal(bp_identity_generate(seed, pub), 0);
    tmpdir_put(tmpdir_path(state, "k/node.pub", p), pub, sizeof(pub));
    refused(d, BP_E_KEYPAIR, tmpdir_path(state, "k/node.key", key), "delete node.pub");
}

static void identity_wrong_sizes_refused(void **state)
{
    static const uint8_t bytes[100];
    char d[PATH_MAX];
    char key[PATH_MAX];
    char pub[PATH_MAX];

    bp_identity_del(must_load(tmpdir_path(state, "k", d), false));
    tmpdir_path(state, "k/node.key", key);
    tmpdir_path(state, "k/node.pub", pub);
    tmpdir_put(pub, bytes, 31);
    refused(d, BP_E_FILE, pub, "31 bytes, not 32; delete it");
    tmpdir_put(key, bytes, 33);
    refused(d, BP_E_FILE, key, "33 bytes, not 32; restore it");
    tmpdir_put(key, bytes, 0);
    refused(d, BP_E_FILE, key, "0 bytes, not 32");
    assert_int_equal(unlink(key), 0);
    refused(d, BP_E_FILE, key, "only node.pub is there");
    assert_int_equal(unlink(pub), 0);
    assert_int_equal(mkdir(key, 0700), 0);
    refused(d, BP_E_FILE, key, "not a regular file");
    tmpdir_path(state, "k/node.key/x", d);
    tmpdir_put(d, "", 0);
    refused(d, BP_E_FILE, d, "Not a directory");
}

static void identity_readable_key_works_with_warning(void **state)
{
    char d[PATH_MAX];
    char p[PATH_MAX];

    bp_identity_del(must_load(tmpdir_path(state, "k", d), false));
    assert_int_equal(chmod(tmpdir_path(state, "k/node.key", p), 0644), 0);
    bp_identity_del(must_load(d, true));
    assert_int_equal(tmpdir_mode(p), 0644);
}

static void identity_public_file_unwritable_works_with_warning(void **state)
{
    char d[PATH_MAX];
    char p[PATH_MAX];
    struct bp_identity *id;
    struct bp_errbuf err;
    struct rlimit old;
    struct rlimit none;
    int rc;

    bp_identity_del(must_load(tmpdir_path(state, "k", d), false));
    assert_int_equal(unlink(tmpdir_path(state, "k/node.pub", p)), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    none = old;
    none.rlim_cur = 0;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    rc = bp_identity_load_or_create(d, &id, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(rc, 0);
    assert_true(err.warning);
    says(&err, p);
    assert_int_equal(tmpdir_count(d), 1);
    bp_identity_del(id);
}

struct loader {
    const char *dir;
    struct bp_identity *id;
    int rc;
};

static void *load_one(void *arg)
{
    struct loader *l = arg;

    l->rc = bp_identity_load_or_create(l->dir, &l->id, NULL);
    return NULL;
}

static void identity_racing_processes_share_one_key(void **state)
{
    char d[PATH_MAX];
    pthread_t th[4];
    struct loader l[4];

    for (int round = 0; round < 10; round++) {
        char name[16];
        snprintf(name, sizeof(name), "k%d", round);
        tmpdir_path(state, name, d);
        for (int i = 0; i < 4; i++) {
            l[i] = (struct loader){.dir = d};
            assert_int_equal(pthread_create(&th[i], NULL, load_one, &l[i]), 0);
        }
        for (int i = 0; i < 4; i++) {
            assert_int_equal(pthread_join(th[i], NULL), 0);
            assert_int_equal(l[i].rc, 0);
            assert_memory_equal(bp_identity_pub(l[i].id), bp_identity_pub(l[0].id), 32);
        }
        for (int i = 0; i < 4; i++) {
            bp_identity_del(l[i].id);
        }
        assert_int_equal(tmpdir_count(d), 2);
    }
}

static const struct CMUnitTest tests[] = {
    TMPDIR_TEST(identity_dir_first_node_owns_others_redirected),
    TMPDIR_TEST(identity_dir_find_answers_as_resolve_and_changes_nothing),
    TMPDIR_TEST(identity_dir_keys_without_owner_claimed),
    TMPDIR_TEST(identity_dir_explicit_used_as_it_is),
    TMPDIR_TEST(identity_dir_dynamic_node_never_owns),
    TMPDIR_TEST(identity_dir_owner_by_hand_accepted),
    TMPDIR_TEST(identity_dir_garbage_owner_named_with_cure),
    TMPDIR_TEST(identity_dir_bad_arguments_refused),
    TMPDIR_TEST(identity_dir_file_in_the_way_is_an_error),
    TMPDIR_TEST(identity_dir_unwritable_used_as_it_is),
    TMPDIR_TEST(identity_dir_racing_nodes_one_owns),
    TMPDIR_TEST(identity_created_then_loaded_the_same),
    TMPDIR_TEST(identity_two_directories_two_keys),
    TMPDIR_TEST(identity_missing_public_file_written_again),
    TMPDIR_TEST(identity_lost_private_file_refused_and_kept),
    TMPDIR_TEST(identity_foreign_public_file_refused),
    TMPDIR_TEST(identity_wrong_sizes_refused),
    TMPDIR_TEST(identity_readable_key_works_with_warning),
    TMPDIR_TEST(identity_public_file_unwritable_works_with_warning),
    TMPDIR_TEST(identity_racing_processes_share_one_key),
};

T_MAIN(tests)
