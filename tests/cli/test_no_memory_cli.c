/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands with the n-th allocation failing: they say so or do without, and neither crash, nor
 * leak, nor leave half a file behind: afterwards the same
 * command works, or finds the work done.
 */
#include "cli/run.h"

#include <sys/stat.h>

#define COMMAND   "barrel-p2p-nth-alloc"
#define RUNS_MAX  3000
/* Every allocation up to here, then fewer: most later ones are of a loop. */
#define ALL_UP_TO 60
#define STRIDE    7

static struct run r;

static bool hit(void **state)
{
    char path[PATH_MAX];

    return unlink(tmpdir_path(state, "hit", path)) == 0;
}

/* Runs it with every allocation failing; `prepare` comes before each. What it ends with when none
 * fails is `good` or `or_else`. */
static void every(void **state, const struct call *call, int good, int or_else,
                  void (*prepare)(void **state))
{
    char path[PATH_MAX];
    char number[16];
    struct call c = *call;
    unsigned failed = 0;
    unsigned runs = 0;

    c.dir = ((struct tmpdir *)*state)->path;
    c.command = COMMAND;
    assert_int_equal(setenv("BP_FAIL_HIT", tmpdir_path(state, "hit", path), 1), 0);
    for (int n = 1;; n += n < ALL_UP_TO ? 1 : STRIDE) {
        prepare(state);
        snprintf(number, sizeof(number), "%d", n);
        assert_int_equal(setenv("BP_FAIL_ALLOC", number, 1), 0);
        cli_call(&r, &c);
        assert_int_equal(unsetenv("BP_FAIL_ALLOC"), 0);
        if (!hit(state)) {
            if (r.status != good && r.status != or_else) {
                fail_msg("%s: status %d: %s", c.args[0], r.status, r.err);
            }
            break;
        }
        if (r.status != good && r.status != or_else) {
            failed++;
            if (r.err[0] == '\0' && r.out[0] == '\0') {
                fail_msg("%s: status %d without a word (allocation %d)", c.args[0], r.status, n);
            }
            cli_call(&r, &c);
            if (r.status != good && r.status != or_else) {
                fail_msg("%s: status %d after one whose allocation %d failed: %s", c.args[0],
                         r.status, n, r.err);
            }
        }
        runs++;
        assert_true(n < RUNS_MAX);
    }
    assert_int_equal(unsetenv("BP_FAIL_HIT"), 0);
    print_message("%s %s: %u runs, %u failed\n", c.args[0], c.args[1] != NULL ? c.args[1] : "",
                  runs, failed);
    assert_true(runs > 0);
}

static void remove_files(void **state, const char *const *names)
{
    char path[PATH_MAX];

    for (; *names != NULL; names++) {
        (void)unlink(tmpdir_path(state, *names, path));
    }
}

static void nothing(void **state)
{
    (void)state;
}

static void no_key(void **state)
{
    static const char *const names[] = {"data/keys/node.key", "data/keys/node.pub", NULL};

    remove_files(state, names);
}

static void no_pin(void **state)
{
    static const char *const names[] = {"data/keys/trusted/b@h.pub", NULL};

    remove_files(state, names);
}

static void no_cert(void **state)
{
    static const char *const names[] = {"data/quic/node.crt", "data/quic/node.key", NULL};

    remove_files(state, names);
}

static void keys(void **state)
{
    every(state, &(struct call){.args = {"keygen"}}, 0, 5, no_key);
    every(state, &(struct call){.args = {"fingerprint"}}, 0, 0, nothing);
    every(state, &(struct call){.args = {"fingerprint", "--json"}}, 0, 0, nothing);
}

static void trust(void **state)
{
    static const uint8_t key[32] = {/* RFC 8032, 7.1: test 1 */
                                    0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7,
                                    0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a,
                                    0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25,
                                    0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a};
    char path[PATH_MAX];

    tmpdir_put(tmpdir_path(state, "b.pub", path), key, sizeof(key));
    every(state, &(struct call){.args = {"trust", "add", "b@h", "b.pub"}}, 0, 0, no_pin);
    every(state, &(struct call){.args = {"trust", "list", "--json"}}, 0, 0, nothing);
}

static void cert(void **state)
{
    every(state, &(struct call){.args = {"cert", "renew", "--node", "a@h"}}, 0, 0, no_cert);
    every(state, &(struct call){.args = {"cert", "show", "--json"}}, 0, 0, nothing);
}

static void config(void **state)
{
    static const char text[] =
        "[{quic, [{dist_port, 4433}, {dist, [{nodes, [{'b@h', {\"127.0.0.1\", 9}}]}]}]},\n"
        " {barrel_p2p, [{dist_cookie, c}, {discovery_dir, \"d\"}]}].\n";
    char path[PATH_MAX];

    tmpdir_put(tmpdir_path(state, "sys.config", path), text, sizeof(text) - 1);
    assert_int_equal(mkdir(tmpdir_path(state, "d", path), 0700), 0);
    every(state, &(struct call){.args = {"config", "check", "sys.config", "--json"}}, 0, 0,
          nothing);
    every(state, &(struct call){.args = {"resolve", "b@h", "--config", "sys.config"}}, 0, 0,
          nothing);
    every(state, &(struct call){.args = {"names", "--config", "sys.config", "--json"}}, 0, 0,
          nothing);
}

/* Nobody is there. */
static void remote(void **state)
{
    char path[PATH_MAX];

    assert_int_equal(setenv("HOME", tmpdir_path(state, "", path), 1), 0);
    assert_int_equal(setenv("XDG_CONFIG_HOME", path, 1), 0);
    every(state,
          &(struct call){.args = {"call", "b@127.0.0.1", "lists", "sum", "[[1, 2.5, \"x\"]]",
                                  "--static", "b@127.0.0.1=127.0.0.1:9", "--cookie", "c",
                                  "--timeout", "200"}},
          8, 9, nothing);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(keys),   TMPDIR_TEST(trust),  TMPDIR_TEST(cert),
        TMPDIR_TEST(config), TMPDIR_TEST(remote),
    };

    return cmocka_run_group_tests(tests, cli_enter_root, NULL) != 0;
}
