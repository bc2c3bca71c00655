/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of io/reset_secret: the same in the next life, also after a rotation. */
#include "io/reset_secret.h"

#include "base/err.h"
#include "io/identity_dir.h"
#include "io/rotate.h"
#include "tmpdir.h"

#define NODE "a@h"

static const char *path_of(const char *dir, char out[static PATH_MAX])
{
    assert_int_equal(bp_path_join(dir, BP_RESET_FILE, out, PATH_MAX, NULL), 0);
    return out;
}

/* What a node that starts in `dir` has. */
static bool secret_of(const char *dir, uint8_t out[static BP_RESET_SECRET_LEN],
                      struct bp_errbuf *err)
{
    struct bp_identity *id;

    assert_int_equal(bp_identity_load_or_create(dir, &id, NULL), 0);
    bp_errbuf_reset(err);
    assert_int_equal(bp_reset_secret(dir, id, out, err), 0);
    bp_identity_del(id);
    return err->warning;
}

static void rotate(const char *dir, bool announce)
{
    char backup[PATH_MAX];
    struct bp_errbuf err;

    if (bp_rotate_identity(dir, NODE, announce, backup, sizeof(backup), &err) != 0) {
        fail_msg("%s", err.text);
    }
}

static void reset_secret_survives_rotations(void **state)
{
    uint8_t first[BP_RESET_SECRET_LEN];
    uint8_t other[BP_RESET_SECRET_LEN];
    uint8_t now[BP_RESET_SECRET_LEN];
    struct bp_errbuf err;
    char dir[PATH_MAX];
    char path[PATH_MAX];

    tmpdir_path(state, "other", dir);
    assert_false(secret_of(dir, other, &err));
    tmpdir_path(state, "keys", dir);
    assert_false(secret_of(dir, first, &err));
    assert_memory_not_equal(first, other, sizeof(first));
    assert_false(secret_of(dir, now, &err));
    assert_memory_equal(now, first, sizeof(now));
    assert_int_equal(access(path_of(dir, path), F_OK), -1);
    for (int i = 0; i < 3; i++) {
        rotate(dir, true);
        assert_false(secret_of(dir, now, &err));
        assert_memory_equal(now, first, sizeof(now));
        assert_int_equal(tmpdir_mode(path_of(dir, path)), 0600);
    }
}

/* The old key may be stolen, and with it what was derived from it. */
static void reset_secret_new_when_key_was_stolen(void **state)
{
    uint8_t first[BP_RESET_SECRET_LEN];
    uint8_t second[BP_RESET_SECRET_LEN];
    uint8_t now[BP_RESET_SECRET_LEN];
    struct bp_errbuf err;
    char dir[PATH_MAX];
    char path[PATH_MAX];

    tmpdir_path(state, "keys", dir);
    assert_false(secret_of(dir, first, &err));
    rotate(dir, true);
    rotate(dir, false);
    assert_int_equal(access(path_of(dir, path), F_OK), -1);
    assert_false(secret_of(dir, second, &err));
    assert_memory_not_equal(second, first, sizeof(first));
    rotate(dir, true);
    assert_false(secret_of(dir, now, &err));
    assert_memory_equal(now, second, sizeof(now));
}

static void reset_secret_useless_file_warns(void **state)
{
    uint8_t first[BP_RESET_SECRET_LEN];
    uint8_t now[BP_RESET_SECRET_LEN];
    uint8_t junk[BP_RESET_SECRET_LEN + 1] = {1};
    struct bp_errbuf err;
    char dir[PATH_MAX];
    char path[PATH_MAX];

    tmpdir_path(state, "keys", dir);
    assert_false(secret_of(dir, first, &err));
    for (size_t len = 0; len <= sizeof(junk); len++) {
        bool right = len == BP_RESET_SECRET_LEN;
        tmpdir_put(path_of(dir, path), junk, len);
        assert_int_equal(chmod(path, 0600), 0);
        assert_int_equal(secret_of(dir, now, &err), !right);
        assert_memory_equal(now, right ? junk : first, sizeof(now));
        assert_true(right || strstr(err.text, path) != NULL);
    }
    /* a rotation puts it right */
    rotate(dir, true);
    assert_false(secret_of(dir, now, &err));
    assert_memory_equal(now, first, sizeof(now));
    assert_int_equal(chmod(path, 0644), 0);
    assert_true(secret_of(dir, now, &err));
    assert_non_null(strstr(err.text, "chmod 600"));
    assert_memory_equal(now, first, sizeof(now));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(reset_secret_survives_rotations),
        TMPDIR_TEST(reset_secret_new_when_key_was_stolen),
        TMPDIR_TEST(reset_secret_useless_file_warns),
    };

    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
