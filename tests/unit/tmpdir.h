/* SPDX-License-Identifier: Apache-2.0 */
/* A directory of its own for each test that touches the disk, and a few looks into it. */
#ifndef BP_TESTS_TMPDIR_H
#define BP_TESTS_TMPDIR_H

#include "support/t.h"

#include <dirent.h>
#include <ftw.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

struct tmpdir {
    char path[PATH_MAX / 4];
};

static inline int tmpdir_setup(void **state)
{
    const char *base = getenv("TMPDIR");
    struct tmpdir *t = calloc(1, sizeof(*t));

    if (t == NULL) {
        return -1;
    }
    snprintf(t->path, sizeof(t->path), "%s/bp_test_XXXXXX",
             base != NULL && base[0] != '\0' ? base : "/tmp");
    *state = t;
    return mkdtemp(t->path) != NULL ? 0 : -1;
}

static inline int tmpdir_remove_one(const char *path, const struct stat *st, int kind,
                                    struct FTW *ftw)
{
    (void)st;
    (void)kind;
    (void)ftw;
    return remove(path);
}

static inline int tmpdir_teardown(void **state)
{
    struct tmpdir *t = *state;
    int rc = nftw(t->path, tmpdir_remove_one, 8, FTW_DEPTH | FTW_PHYS);

    free(t);
    return rc;
}

/* "<dir>/<name>" in a buffer of PATH_MAX bytes. */
static inline const char *tmpdir_path(void **state, const char *name, char out[static PATH_MAX])
{
    struct tmpdir *t = *state;

    snprintf(out, PATH_MAX, "%s%s%s", t->path, name[0] != '\0' ? "/" : "", name);
    return out;
}

static inline void tmpdir_put(const char *path, const void *data, size_t len)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

/* Reads up to `cap` bytes; returns how many. */
static inline size_t tmpdir_get(const char *path, void *data, size_t cap)
{
    FILE *f = fopen(path, "rb");
    size_t n;

    assert_non_null(f);
    n = fread(data, 1, cap, f);
    fclose(f);
    return n;
}

static inline unsigned tmpdir_mode(const char *path)
{
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777u;
}

/* Number of entries in a directory, "." and ".." not counted: shows temporary files left behind. */
static inline int tmpdir_count(const char *path)
{
    DIR *d = opendir(path);
    int n = -2;

    assert_non_null(d);
    while (readdir(d) != NULL) {
        n++;
    }
    closedir(d);
    return n;
}

#define TMPDIR_TEST(f) cmocka_unit_test_setup_teardown(f, tmpdir_setup, tmpdir_teardown)

#endif
