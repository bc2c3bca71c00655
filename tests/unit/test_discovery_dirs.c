/* SPDX-License-Identifier: Apache-2.0 */
/* Which directories are used for endpoint files, and which are not because others could write
 * there. */
#include "unit/tmpdir.h"

#include "base/err.h"
#include "io/discovery_dirs.h"

static struct bp_discovery_dirs dirs;
static struct bp_errbuf err;

static void dirs_default_are_the_working_directory_and_the_users(void **state)
{
    const struct bp_discovery_dirs_config config = {.make = true};
    char xdg[PATH_MAX];
    char cwd[PATH_MAX];
    char want[3 * PATH_MAX];

    tmpdir_path(state, "", xdg);
    assert_int_equal(setenv("XDG_RUNTIME_DIR", xdg, 1), 0);
    assert_non_null(getcwd(cwd, sizeof(cwd)));
    assert_int_equal(bp_discovery_dirs(&config, &dirs, &err), 0);
    assert_true(dirs.n >= 2);
    snprintf(want, sizeof(want), "%s/data/discovery", cwd);
    assert_string_equal(dirs.at[0], want);
    snprintf(want, sizeof(want), "%s/barrel_p2p", xdg);
    assert_string_equal(dirs.at[1], want);
    assert_int_equal(tmpdir_mode(want), 0700);
    if (!err.warning) { /* somebody else's would be in the way */
        snprintf(want, sizeof(want), "/tmp/barrel_p2p-%lu", (unsigned long)geteuid());
        assert_int_equal(dirs.n, 3);
        assert_string_equal(dirs.at[2], want);
    }
}

static void dirs_configured_one_replaces_the_runtime_ones(void **state)
{
    struct bp_discovery_dirs_config config = {.dir = "/some/where", .make = true};
    char runtime[PATH_MAX];

    assert_int_equal(bp_discovery_dirs(&config, &dirs, &err), 0);
    assert_int_equal(dirs.n, 1);
    assert_string_equal(dirs.at[0], "/some/where");
    tmpdir_path(state, "r", runtime);
    config.runtime = runtime;
    assert_int_equal(bp_discovery_dirs(&config, &dirs, &err), 0);
    assert_int_equal(dirs.n, 2);
    assert_string_equal(dirs.at[1], runtime);
    assert_int_equal(tmpdir_mode(runtime), 0700);
    config.no_runtime = true;
    assert_int_equal(bp_discovery_dirs(&config, &dirs, &err), 0);
    assert_int_equal(dirs.n, 1);
}

static void dirs_that_others_can_enter_are_not_used(void **state)
{
    struct bp_discovery_dirs_config config = {.dir = "x"};
    char real[PATH_MAX];
    char name[PATH_MAX];

    tmpdir_path(state, "open", real);
    assert_int_equal(mkdir(real, 0700), 0);
    assert_int_equal(chmod(real, 0750), 0);
    config.runtime = real;
    assert_int_equal(bp_discovery_dirs(&config, &dirs, &err), 0);
    assert_int_equal(dirs.n, 1);
    assert_true(err.warning);
    assert_non_null(strstr(err.text, real));
    /* a link could be changed by whoever made it */
    assert_int_equal(chmod(real, 0700), 0);
    tmpdir_path(state, "link", name);
    assert_int_equal(symlink(real, name), 0);
    config.runtime = name;
    assert_int_equal(bp_discovery_dirs(&config, &dirs, &err), 0);
    assert_int_equal(dirs.n, 1);
    assert_true(err.warning);
    /* without `make` nothing is created, and nothing is complained about */
    tmpdir_path(state, "none", name);
    assert_int_equal(bp_discovery_dirs(&config, &dirs, &err), 0);
    assert_int_equal(dirs.n, 1);
    assert_false(err.warning);
    assert_int_equal(tmpdir_count(((struct tmpdir *)*state)->path), 2);
}

static void dirs_too_long_a_path_is_refused(void **state)
{
    struct bp_discovery_dirs_config config = {0};
    char path[2 * BP_DISCOVERY_DIR_CAP];
    (void)state;

    memset(path, 'a', sizeof(path));
    path[sizeof(path) - 1] = '\0';
    config.dir = path;
    assert_int_equal(bp_discovery_dirs(&config, &dirs, &err), BP_E_INVALID);
    path[0] = '/';
    assert_int_equal(bp_discovery_dirs(&config, &dirs, &err), BP_E_INVALID);
    assert_int_not_equal(err.text[0], '\0');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(dirs_default_are_the_working_directory_and_the_users),
        TMPDIR_TEST(dirs_configured_one_replaces_the_runtime_ones),
        TMPDIR_TEST(dirs_that_others_can_enter_are_not_used),
        TMPDIR_TEST(dirs_too_long_a_path_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
