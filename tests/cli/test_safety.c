/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of what is refused because other users could read or write it; as root, the command runs
 * without privileges, because root may do everything. */
#include "cli/run.h"

#define KEY "ebVWLo/mVPlAeLES6KmLp5AfhTrmlb7X4OORC60ElmQ="

/* As an unprivileged user, whom the test's directory belongs to. */
#define user(r, state, ...)                                                                        \
    cli_call(r, &(struct call){.dir = ((struct tmpdir *)*(state))->path,                           \
                               .as_nobody = true,                                                  \
                               .args = {__VA_ARGS__}})

static void set_mode(void **state, const char *name, mode_t mode)
{
    char p[PATH_MAX];

    assert_int_equal(chmod(tmpdir_path(state, name, p), mode), 0);
}

static bool there(void **state, const char *name)
{
    char p[PATH_MAX];

    return access(tmpdir_path(state, name, p), F_OK) == 0;
}

static void secret_not_into_a_directory_that_others_use(void **state)
{
    static const mode_t loose[] = {0755, 0750, 0740, 0720, 0770, 0704, 0702, 01777};
    struct run r;
    char want[64];

    give_to_nobody(state);
    user(&r, state, "keygen", "--dir", "k");
    assert_int_equal(r.status, 0);
    user(&r, state, "cert", "renew", "--dir", "k2", "--node", "a@h");
    assert_int_equal(r.status, 0);
    for (size_t i = 0; i < sizeof(loose) / sizeof(loose[0]); i++) {
        set_mode(state, "k", loose[i]);
        set_mode(state, "k2", loose[i]);
        user(&r, state, "keygen", "--dir", "k", "--force", "--json");
        expect_err(&r, 4, "other users can read or write it");
        snprintf(want, sizeof(want), "(mode %04o); run 'chmod 700 /", (unsigned)loose[i]);
        expect_err(&r, 4, want);
        expect_out(&r, 4, "unsafe_directory");
        user(&r, state, "cert", "renew", "--dir", "k2");
        expect_err(&r, 4, "other users can read or write it");
    }
    assert_false(there(state, "k/backups"));
    assert_false(there(state, "k2/backups"));
    /* what the text says helps */
    set_mode(state, "k", 0700);
    set_mode(state, "k2", 0711); /* passing through shows nothing */
    user(&r, state, "keygen", "--dir", "k", "--force");
    assert_int_equal(r.status, 0);
    user(&r, state, "cert", "renew", "--dir", "k2");
    assert_int_equal(r.status, 0);
}

static void pin_not_where_others_write(void **state)
{
    struct run r;

    give_to_nobody(state);
    user(&r, state, "trust", "add", "a@h", "--key", KEY, "--dir", "k");
    assert_int_equal(r.status, 0);
    set_mode(state, "k", 0755); /* keys that are trusted are no secret */
    user(&r, state, "trust", "add", "b@h", "--key", KEY, "--dir", "k");
    assert_int_equal(r.status, 0);
    set_mode(state, "k", 0775);
    user(&r, state, "trust", "add", "c@h", "--key", KEY, "--dir", "k");
    expect_err(&r, 4, "other users can write it (mode 0775); run 'chmod go-w /");
    set_mode(state, "k", 0757);
    user(&r, state, "trust", "add", "c@h", "--key", KEY, "--dir", "k");
    expect_err(&r, 4, "mode 0757");
    user(&r, state, "trust", "show", "c@h", "--dir", "k");
    assert_int_equal(r.status, 3);
}

/* trusted/ itself is part of the store. */
static void pin_not_into_a_trusted_directory_that_others_write(void **state)
{
    struct run r;

    give_to_nobody(state);
    user(&r, state, "trust", "add", "a@h", "--key", KEY, "--dir", "k");
    assert_int_equal(r.status, 0);
    set_mode(state, "k/trusted", 0777);
    user(&r, state, "trust", "add", "c@h", "--key", KEY, "--dir", "k");
    expect_err(&r, 4, "k/trusted");
    user(&r, state, "trust", "show", "c@h", "--dir", "k");
    assert_int_equal(r.status, 3);
}

static void secret_file_that_others_read_not_replaced(void **state)
{
    static const mode_t loose[] = {0640, 0620, 0604, 0602, 0644};
    struct run r;

    give_to_nobody(state);
    user(&r, state, "keygen", "--dir", "k");
    user(&r, state, "cert", "renew", "--dir", "q", "--node", "a@h");
    assert_int_equal(r.status, 0);
    for (size_t i = 0; i < sizeof(loose) / sizeof(loose[0]); i++) {
        set_mode(state, "k/node.key", loose[i]);
        set_mode(state, "q/node.key", loose[i]);
        user(&r, state, "keygen", "--dir", "k", "--force");
        expect_err(&r, 4, "other users can read or write the file");
        expect_err(&r, 4, "run 'chmod 600 k/node.key'");
        user(&r, state, "cert", "renew", "--dir", "q", "--json");
        expect_err(&r, 4, "run 'chmod 600 q/node.key'");
        expect_out(&r, 4, "unsafe_file");
    }
    set_mode(state, "k/node.key", 0600);
    user(&r, state, "keygen", "--dir", "k", "--force");
    assert_int_equal(r.status, 0);
}

static void secret_not_below_a_directory_that_others_write(void **state)
{
    struct run r;
    char p[PATH_MAX];

    give_to_nobody(state);
    user(&r, state, "keygen", "--dir", "up/k");
    assert_int_equal(r.status, 0);
    set_mode(state, "up", 0777);
    user(&r, state, "keygen", "--dir", "up/k", "--force");
    expect_err(&r, 4, "up: other users can write it (mode 0777)");
    user(&r, state, "keygen", "--dir", "up/new/dir");
    expect_err(&r, 4, "up: other users can write it");
    assert_false(there(state, "up/new"));
    set_mode(state, "up", 01777); /* only owners rename there */
    user(&r, state, "keygen", "--dir", "up/new/dir");
    assert_int_equal(r.status, 0);
    assert_int_equal(tmpdir_mode(tmpdir_path(state, "up/new", p)), 0700);
    assert_int_equal(tmpdir_mode(tmpdir_path(state, "up/new/dir", p)), 0700);
    /* a symbolic link counts as what it leads to */
    set_mode(state, "up", 0777);
    assert_int_equal(symlink("up/k", tmpdir_path(state, "link", p)), 0);
    user(&r, state, "keygen", "--dir", "link", "--force");
    expect_err(&r, 4, "up: other users can write it");
}

static void nothing_claimed_in_a_usual_directory_that_others_use(void **state)
{
    struct run r;

    give_to_nobody(state);
    user(&r, state, "keygen");
    set_mode(state, "data/keys", 0777);
    user(&r, state, "keygen", "--node", "b@h", "--force");
    expect_err(&r, 4, "data/keys: other users can read or write it");
    assert_false(there(state, "data/keys/node.name"));
}

static void umask_of_the_user_opens_nothing(void **state)
{
    struct tmpdir *t = *state;
    struct run r;
    char p[PATH_MAX];

    cli_call(&r, &(struct call){.dir = t->path, .umask_ = 07000, .args = {"keygen"}});
    assert_int_equal(r.status, 0);
    assert_int_equal(tmpdir_mode(tmpdir_path(state, "data", p)), 0700);
    assert_int_equal(tmpdir_mode(tmpdir_path(state, "data/keys", p)), 0700);
    assert_int_equal(tmpdir_mode(tmpdir_path(state, "data/keys/node.key", p)), 0600);
}

static void without_permission_said_in_words(void **state)
{
    struct run r;

    give_to_nobody(state);
    user(&r, state, "keygen", "--dir", "k");
    user(&r, state, "trust", "add", "a@h", "--key", KEY, "--dir", "k");
    assert_int_equal(r.status, 0);
    set_mode(state, "k", 0500);
    user(&r, state, "keygen", "--dir", "k", "--force");
    expect_err(&r, 1, "Permission denied");
    set_mode(state, "k/trusted", 0500);
    user(&r, state, "trust", "remove", "a@h", "--dir", "k");
    expect_err(&r, 1, "a@h.pub: Permission denied");
    user(&r, state, "trust", "add", "b@h", "--key", KEY, "--dir", "k");
    expect_err(&r, 1, "Permission denied");
    set_mode(state, "k", 0);
    user(&r, state, "fingerprint", "--dir", "k");
    expect_err(&r, 1, "node.pub: Permission denied");
    user(&r, state, "trust", "list", "--dir", "k");
    expect_err(&r, 1, "trusted: Permission denied");
    user(&r, state, "keygen", "--dir", "k/deeper");
    expect_err(&r, 1, "Permission denied");
    set_mode(state, "k", 0700);
    set_mode(state, "k/trusted", 0700);
    set_mode(state, "k/node.key", 0);
    user(&r, state, "fingerprint", "--dir", "k"); /* the public half is enough */
    assert_int_equal(r.status, 0);
}

/* --- only where the test may change owners ---------------------------------------------------- */

static void directory_of_another_user_refused(void **state)
{
    struct run r;

    cli(&r, state, "keygen", "--dir", "k");
    assert_int_equal(r.status, 0);
    give_to_nobody(state); /* what is above k */
    cli(&r, state, "keygen", "--dir", "k", "--force");
    expect_err(&r, 4, "belongs to the user nobody");
    cli(&r, state, "trust", "add", "a@h", "--key", KEY, "--dir", "k");
    expect_err(&r, 4, "run this command as that user");
}

static void only_the_last_directory_of_another_user_refused(void **state)
{
    struct run r;
    char p[PATH_MAX];

    cli(&r, state, "keygen", "--dir", "k");
    assert_int_equal(chown(tmpdir_path(state, "k", p), 1, 1), 0);
    cli(&r, state, "keygen", "--dir", "k", "--force");
    expect_err(&r, 4, "k: it belongs to the user");
    cli(&r, state, "cert", "renew", "--dir", "k", "--node", "a@h", "--force");
    expect_err(&r, 4, "k: it belongs to the user");
}

static void file_of_another_user_refused(void **state)
{
    struct run r;
    struct stat st;
    char p[PATH_MAX];

    cli(&r, state, "keygen", "--dir", "k");
    assert_int_equal(chown(tmpdir_path(state, "k/node.key", p), 1, 1), 0);
    cli(&r, state, "keygen", "--dir", "k", "--force");
    expect_err(&r, 4, "the file belongs to the user");
    assert_int_equal(stat(p, &st), 0);
    assert_int_equal(st.st_uid, 1);
}

/* A group in which nobody else is may write above, as with a umask of 002 on many systems. */
static void private_group_may_write_above(void **state)
{
    struct run r;
    char p[PATH_MAX];

    assert_int_equal(mkdir(tmpdir_path(state, "up", p), 0700), 0);
    assert_int_equal(chmod(p, 0775), 0);
    cli(&r, state, "keygen", "--dir", "up/k");
    assert_int_equal(r.status, 0);
    assert_int_equal(chown(p, 0, 1), 0);
    cli(&r, state, "keygen", "--dir", "up/k", "--force");
    expect_err(&r, 4, "up: other users can write it (mode 0775)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(secret_not_into_a_directory_that_others_use),
        TMPDIR_TEST(pin_not_where_others_write),
        TMPDIR_TEST(pin_not_into_a_trusted_directory_that_others_write),
        TMPDIR_TEST(secret_file_that_others_read_not_replaced),
        TMPDIR_TEST(secret_not_below_a_directory_that_others_write),
        TMPDIR_TEST(nothing_claimed_in_a_usual_directory_that_others_use),
        TMPDIR_TEST(umask_of_the_user_opens_nothing),
        TMPDIR_TEST(without_permission_said_in_words),
    };
    const struct CMUnitTest as_root[] = {
        TMPDIR_TEST(directory_of_another_user_refused),
        TMPDIR_TEST(only_the_last_directory_of_another_user_refused),
        TMPDIR_TEST(file_of_another_user_refused),
        TMPDIR_TEST(private_group_may_write_above),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    return (geteuid() == 0 ? cmocka_run_group_tests(as_root, NULL, NULL) : 0) + failed != 0;
}
