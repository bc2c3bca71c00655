/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of io/files: bounded reads, atomic writes, sentences. */
#include "io/files.h"

#include "base/err.h"
#include "tmpdir.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

static void says(const struct bp_errbuf *err, const char *part)
{
    if (strstr(err->text, part) == NULL) {
        fail_msg("no \"%s\" in \"%s\"", part, err->text);
    }
}

/* --- reading ----------------------------------------------------------------- */

static void file_read_content_returned_with_nul(void **state)
{
    char p[PATH_MAX];
    struct t_heap h;
    struct bp_errbuf err;
    uint8_t *out;
    size_t len;

    t_heap_init(&h, -1);
    tmpdir_put(tmpdir_path(state, "f", p), "abc\0d", 5);
    assert_int_equal(bp_file_read(p, 5, &h.mem, &out, &len, &err), 0);
    assert_int_equal(len, 5);
    assert_memory_equal(out, "abc\0d", 6);
    assert_string_equal(err.text, "");
    h.mem.release(h.mem.ctx, out);

    tmpdir_put(p, "", 0);
    assert_int_equal(bp_file_read(p, 5, &h.mem, &out, &len, &err), 0);
    assert_int_equal(len, 0);
    assert_int_equal(out[0], 0);
    h.mem.release(h.mem.ctx, out);
    assert_int_equal(h.live, 0);
}

static void file_read_unusable_refused_with_sentence(void **state)
{
    char p[PATH_MAX];
    char dir[PATH_MAX];
    struct t_heap h;
    struct bp_errbuf err;
    uint8_t *out;
    size_t len;

    t_heap_init(&h, -1);
    tmpdir_path(state, "f", p);
    tmpdir_path(state, "", dir);
    assert_int_equal(bp_file_read(p, 5, &h.mem, &out, &len, &err), BP_E_NOT_FOUND);
    assert_null(out);
    says(&err, p);
    says(&err, "No such file");
    assert_int_equal(err.os_errno, ENOENT);

    tmpdir_put(p, "123456", 6);
    assert_int_equal(bp_file_read(p, 5, &h.mem, &out, &len, &err), BP_E_FILE);
    says(&err, "too large");
    assert_int_equal(bp_file_read(dir, 5, &h.mem, &out, &len, &err), BP_E_FILE);
    says(&err, "not a regular file");
    assert_int_equal(bp_file_read("/dev/zero", 5, &h.mem, &out, &len, &err), BP_E_FILE);

    tmpdir_path(state, "fifo", p);
    assert_int_equal(mkfifo(p, 0600), 0);
    assert_int_equal(bp_file_read(p, 5, &h.mem, &out, &len, &err), BP_E_FILE);

    tmpdir_path(state, "f/below", p);
    assert_int_equal(bp_file_read(p, 5, &h.mem, &out, &len, NULL), BP_E_FILE);
    assert_int_equal(h.live, 0);
}

static void file_read_no_memory_reported(void **state)
{
    char p[PATH_MAX];
    struct t_heap h;
    struct bp_errbuf err;
    uint8_t *out;
    size_t len;

    t_heap_init(&h, 0);
    tmpdir_put(tmpdir_path(state, "f", p), "abc", 3);
    assert_int_equal(bp_file_read(p, 5, &h.mem, &out, &len, &err), BP_E_NOMEM);
    assert_null(out);
    says(&err, "out of memory");
    assert_int_equal(h.live, 0);
}

static void file_read_symlink_followed(void **state)
{
    char p[PATH_MAX];
    char q[PATH_MAX];
    uint8_t out[3];

    tmpdir_put(tmpdir_path(state, "f", p), "abc", 3);
    assert_int_equal(symlink("f", tmpdir_path(state, "link", q)), 0);
    assert_int_equal(bp_file_read_exact(q, out, 3, "x", NULL), 0);
    assert_memory_equal(out, "abc", 3);
}

static void file_read_exact_other_size_refused_and_wiped(void **state)
{
    char p[PATH_MAX];
    struct bp_errbuf err;
    uint8_t out[4] = {9, 9, 9, 9};

    tmpdir_path(state, "f", p);
    assert_int_equal(bp_file_read_exact(p, out, 4, "cure", &err), BP_E_NOT_FOUND);
    assert_memory_equal(out, "\0\0\0\0", 4);
    tmpdir_put(p, "123", 3);
    assert_int_equal(bp_file_read_exact(p, out, 4, "pray", &err), BP_E_FILE);
    assert_memory_equal(out, "\0\0\0\0", 4);
    says(&err, "3 bytes, not 4");
    says(&err, "pray");
    tmpdir_put(p, "12345", 5);
    assert_int_equal(bp_file_read_exact(p, out, 4, "pray", &err), BP_E_FILE);
    assert_memory_equal(out, "\0\0\0\0", 4);
    says(&err, "5 bytes, not 4");
    tmpdir_put(p, "1234", 4);
    assert_int_equal(bp_file_read_exact(p, out, 4, "pray", &err), 0);
    assert_memory_equal(out, "1234", 4);
    assert_string_equal(err.text, "");
}

/* --- writing ----------------------------------------------------------------- */

static void file_write_atomic_new_and_old_replaced_with_mode(void **state)
{
    char p[PATH_MAX];
    char dir[PATH_MAX];
    char got[16];
    struct bp_errbuf err;
    mode_t old = umask(0077);

    tmpdir_path(state, "", dir);
    tmpdir_path(state, "f", p);
    assert_int_equal(bp_file_write_atomic(p, "one", 3, 0644, &err), 0);
    umask(old);
    assert_int_equal(tmpdir_mode(p), 0644);
    assert_int_equal(bp_file_write_atomic(p, "twotwo", 6, 0600, &err), 0);
    assert_int_equal(tmpdir_mode(p), 0600);
    assert_int_equal(tmpdir_get(p, got, sizeof(got)), 6);
    assert_memory_equal(got, "twotwo", 6);
    assert_int_equal(tmpdir_count(dir), 1);
}

static void file_write_atomic_symlink_replaced_not_followed(void **state)
{
    char p[PATH_MAX];
    char target[PATH_MAX];
    char got[16];
    struct stat st;

    tmpdir_put(tmpdir_path(state, "target", target), "old", 3);
    assert_int_equal(symlink("target", tmpdir_path(state, "f", p)), 0);
    assert_int_equal(bp_file_write_atomic(p, "new", 3, 0600, NULL), 0);
    assert_int_equal(lstat(p, &st), 0);
    assert_true(S_ISREG(st.st_mode));
    assert_int_equal(tmpdir_get(target, got, sizeof(got)), 3);
    assert_memory_equal(got, "old", 3);
}

static void file_write_atomic_failure_leaves_nothing(void **state)
{
    char p[PATH_MAX];
    char dir[PATH_MAX];
    struct bp_errbuf err;

    tmpdir_path(state, "", dir);
    tmpdir_path(state, "sub", p);
    assert_int_equal(mkdir(p, 0700), 0);
    assert_int_equal(bp_file_write_atomic(p, "x", 1, 0600, &err), BP_E_FILE);
    says(&err, p);
    assert_int_equal(tmpdir_count(dir), 1);

    tmpdir_path(state, "none/f", p);
    assert_int_equal(bp_file_write_atomic(p, "x", 1, 0600, &err), BP_E_FILE);
    assert_int_equal(err.os_errno, ENOENT);
    tmpdir_put(tmpdir_path(state, "plain", p), "x", 1);
    tmpdir_path(state, "plain/f", p);
    assert_int_equal(bp_file_write_atomic(p, "x", 1, 0600, &err), BP_E_FILE);
    assert_int_equal(err.os_errno, ENOTDIR);
    assert_int_equal(tmpdir_count(dir), 2);
}

static void file_write_atomic_full_disk_keeps_old_content(void **state)
{
    static uint8_t big[8192];
    char p[PATH_MAX];
    char dir[PATH_MAX];
    char got[16];
    struct bp_errbuf err;
    struct rlimit old;
    struct rlimit tight;
    int rc;

    tmpdir_path(state, "", dir);
    tmpdir_put(tmpdir_path(state, "f", p), "old", 3);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    tight = old;
    tight.rlim_cur = 4096;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    rc = bp_file_write_atomic(p, big, sizeof(big), 0600, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(rc, BP_E_FILE);
    assert_int_equal(err.os_errno, EFBIG);
    assert_int_equal(tmpdir_get(p, got, sizeof(got)), 3);
    assert_memory_equal(got, "old", 3);
    assert_int_equal(tmpdir_count(dir), 1);
}

static void file_write_new_existing_kept(void **state)
{
    char p[PATH_MAX];
    char dir[PATH_MAX];
    char got[16];
    struct bp_errbuf err;

    tmpdir_path(state, "", dir);
    tmpdir_path(state, "f", p);
    assert_int_equal(bp_file_write_new(p, "one", 3, 0600, &err), 0);
    assert_int_equal(tmpdir_mode(p), 0600);
    assert_int_equal(bp_file_write_new(p, "two", 3, 0600, &err), BP_E_EXISTS);
    says(&err, p);
    assert_int_equal(tmpdir_get(p, got, sizeof(got)), 3);
    assert_memory_equal(got, "one", 3);
    assert_int_equal(tmpdir_count(dir), 1);

    assert_int_equal(symlink("nowhere", tmpdir_path(state, "dangling", p)), 0);
    assert_int_equal(bp_file_write_new(p, "two", 3, 0600, &err), BP_E_EXISTS);
    assert_int_equal(tmpdir_count(dir), 2);
}

struct racer {
    const char *path;
    char tag;
    int rc;
};

static void *race_new(void *arg)
{
    struct racer *r = arg;
    char data[64];

    memset(data, r->tag, sizeof(data));
    r->rc = bp_file_write_new(r->path, data, sizeof(data), 0600, NULL);
    return NULL;
}

static void file_write_new_racing_one_wins(void **state)
{
    char p[PATH_MAX];
    char got[65];
    pthread_t th[4];
    struct racer r[4];

    for (int round = 0; round < 10; round++) {
        int won = -1;
        char name[16];
        snprintf(name, sizeof(name), "f%d", round);
        tmpdir_path(state, name, p);
        for (int i = 0; i < 4; i++) {
            r[i] = (struct racer){p, (char)('a' + i), 1};
            assert_int_equal(pthread_create(&th[i], NULL, race_new, &r[i]), 0);
        }
        for (int i = 0; i < 4; i++) {
            assert_int_equal(pthread_join(th[i], NULL), 0);
            if (r[i].rc == 0) {
                assert_int_equal(won, -1);
                won = i;
            } else {
                assert_int_equal(r[i].rc, BP_E_EXISTS);
            }
        }
        assert_int_not_equal(won, -1);
        assert_int_equal(tmpdir_get(p, got, sizeof(got)), 64);
        for (int i = 0; i < 64; i++) {
            assert_int_equal(got[i], 'a' + won);
        }
    }
}

/* --- directories, modes, sentences ------------------------------------------- */

static void mkdirs_missing_parents_created(void **state)
{
    char p[PATH_MAX];
    char q[PATH_MAX];
    struct bp_errbuf err;

    tmpdir_path(state, "a//b/c/", p);
    assert_int_equal(bp_mkdirs(p, 0700, &err), 0);
    assert_int_equal(tmpdir_mode(p), 0700);
    assert_int_equal(tmpdir_mode(tmpdir_path(state, "a", q)), 0700);
    assert_int_equal(bp_mkdirs(p, 0700, &err), 0);
    assert_int_equal(bp_mkdirs("/", 0700, &err), 0);
    assert_int_equal(bp_mkdirs("", 0700, &err), BP_E_FILE);
}

static void mkdirs_file_in_the_way_named(void **state)
{
    char p[PATH_MAX];
    char f[PATH_MAX];
    struct bp_errbuf err;

    tmpdir_put(tmpdir_path(state, "f", f), "", 0);
    tmpdir_path(state, "f/sub", p);
    assert_int_equal(bp_mkdirs(p, 0700, &err), BP_E_FILE);
    says(&err, f);
    says(&err, "Not a directory");
    assert_int_equal(err.os_errno, ENOTDIR);
}

static void file_warn_loose_only_loose_modes_reported(void **state)
{
    char p[PATH_MAX];
    struct bp_errbuf err;

    bp_errbuf_reset(&err);
    tmpdir_put(tmpdir_path(state, "f", p), "x", 1);
    assert_int_equal(chmod(p, 0600), 0);
    bp_file_warn_loose(p, &err);
    assert_false(err.warning);
    assert_string_equal(err.text, "");
    assert_int_equal(chmod(p, 0640), 0);
    bp_file_warn_loose(p, &err);
    assert_true(err.warning);
    says(&err, p);
    says(&err, "chmod 600");
    bp_file_warn_loose(p, NULL);
}

static void errbuf_long_path_keeps_end_and_cure(void **state)
{
    struct bp_errbuf err;
    char path[2000];

    (void)state;
    memset(path, 'x', sizeof(path));
    path[0] = '/';
    memcpy(path + sizeof(path) - 9, "/the_end", 9);
    bp_errbuf_set(&err, ENOSPC, "cannot write", path, NULL, "free some");
    says(&err, "cannot write ...xxx");
    says(&err, "/the_end: No space left on device; free some");
}

static void errbuf_cure_follows_from_the_reason(void **state)
{
    struct bp_errbuf err;

    (void)state;
    bp_errbuf_set(&err, EMFILE, "cannot list", "/d", NULL, NULL);
    says(&err, "cannot list /d: Too many open files; raise the limit of open files");
    bp_errbuf_set(&err, ENOSPC, "cannot list", "/d", NULL, NULL);
    says(&err, "free disk space");
    bp_errbuf_set(&err, 0, "cannot list", "/d", "it is odd", NULL);
    says(&err, "cannot list /d: it is odd; check the path");
}

static void errbuf_relative_path_made_absolute(void **state)
{
    struct bp_errbuf err;
    char old[PATH_MAX];
    char want[PATH_MAX + 32];
    char dir[PATH_MAX];

    assert_non_null(getcwd(old, sizeof(old)));
    assert_int_equal(chdir(tmpdir_path(state, "", dir)), 0);
    assert_non_null(getcwd(dir, sizeof(dir)));
    bp_errbuf_set(&err, 0, "cannot use", "data/keys", "w", "c");
    assert_int_equal(chdir(old), 0);
    snprintf(want, sizeof(want), "cannot use %s/data/keys: w; c", dir);
    assert_string_equal(err.text, want);
}

static void path_parts_split_and_joined(void **state)
{
    char out[8];

    (void)state;
    assert_int_equal(bp_path_join("a", "b", out, sizeof(out), NULL), 0);
    assert_string_equal(out, "a/b");
    assert_int_equal(bp_path_join("/", "b", out, sizeof(out), NULL), 0);
    assert_string_equal(out, "/b");
    assert_int_equal(bp_path_join("abc", "defg", out, sizeof(out), NULL), BP_E_INVALID);
    assert_int_equal(bp_path_dir("a/b/c", out, sizeof(out), NULL), 0);
    assert_string_equal(out, "a/b");
    assert_int_equal(bp_path_dir("c", out, sizeof(out), NULL), 0);
    assert_string_equal(out, ".");
    assert_int_equal(bp_path_dir("/c", out, sizeof(out), NULL), 0);
    assert_string_equal(out, "/");
    assert_int_equal(bp_path_dir("abcdefgh/c", out, sizeof(out), NULL), BP_E_INVALID);
}

static const struct CMUnitTest tests[] = {
    TMPDIR_TEST(file_read_content_returned_with_nul),
    TMPDIR_TEST(file_read_unusable_refused_with_sentence),
    TMPDIR_TEST(file_read_no_memory_reported),
    TMPDIR_TEST(file_read_symlink_followed),
    TMPDIR_TEST(file_read_exact_other_size_refused_and_wiped),
    TMPDIR_TEST(file_write_atomic_new_and_old_replaced_with_mode),
    TMPDIR_TEST(file_write_atomic_symlink_replaced_not_followed),
    TMPDIR_TEST(file_write_atomic_failure_leaves_nothing),
    TMPDIR_TEST(file_write_atomic_full_disk_keeps_old_content),
    TMPDIR_TEST(file_write_new_existing_kept),
    TMPDIR_TEST(file_write_new_racing_one_wins),
    TMPDIR_TEST(mkdirs_missing_parents_created),
    TMPDIR_TEST(mkdirs_file_in_the_way_named),
    TMPDIR_TEST(file_warn_loose_only_loose_modes_reported),
    TMPDIR_TEST(errbuf_long_path_keeps_end_and_cure),
    TMPDIR_TEST(errbuf_relative_path_made_absolute),
    cmocka_unit_test(path_parts_split_and_joined),
    cmocka_unit_test(errbuf_cure_follows_from_the_reason),
};

T_MAIN(tests)
