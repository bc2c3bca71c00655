/* SPDX-License-Identifier: Apache-2.0 */
/* The file backend in a chain: real directories, and files that hang or cannot be used. */
#include "unit/hang.h"
#include "unit/tmpdir.h"

#include "base/err.h"
#include "io/file_backend.h"

#include <poll.h>
#include <time.h>

static struct bp_file_backend *files;
static struct bp_chain *chain;
static char dir_a[PATH_MAX];
static char dir_b[PATH_MAX];
static unsigned complaints;

static bp_time now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (bp_time)t.tv_sec * BP_SEC + (bp_time)t.tv_nsec;
}

static void say(void *ctx, const char *file, const char *text)
{
    (void)ctx;
    assert_non_null(strstr(text, file)); /* the directory */
    complaints++;
}

static int setup(void **state)
{
    const struct bp_chain_config config = {.limit = 60 * BP_SEC};
    const char *dirs[2] = {dir_a, dir_b};
    const struct bp_file_backend_config file_config = {
        .dirs = dirs, .n_dirs = 2, .limit = 60 * BP_SEC, .complaint = {.say = say}};

    complaints = 0;
    if (tmpdir_setup(state) != 0) {
        return -1;
    }
    tmpdir_path(state, "a", dir_a);
    tmpdir_path(state, "b", dir_b);
    assert_int_equal(bp_chain_new(&chain, &config), 0);
    assert_int_equal(bp_file_backend_new(&files, &file_config), 0);
    assert_int_equal(bp_chain_add(chain, &bp_file_backend_ops, files), 0);
    return 0;
}

static int teardown(void **state)
{
    bp_chain_del(chain);
    bp_file_backend_del(files);
    return tmpdir_teardown(state);
}

static void finish(struct bp_chain_event *e)
{
    for (;;) {
        struct pollfd p = {bp_file_backend_fd(files), POLLIN, 0};

        if (bp_chain_poll(chain, e)) {
            return;
        }
        assert_int_equal(poll(&p, 1, 60000), 1);
        bp_file_backend_run(files, chain);
        bp_chain_tick(chain, now());
    }
}

static void look(const char *node, struct bp_chain_event *e)
{
    uint32_t id;

    assert_int_equal(bp_chain_lookup(chain, node, now(), &id), 0);
    finish(e);
}

static void put(const char *dir, const char *name, const char *text)
{
    char path[2 * PATH_MAX];

    (void)mkdir(dir, 0700);
    snprintf(path, sizeof(path), "%s/%s.endpoint", dir, name);
    tmpdir_put(path, text, strlen(text));
}

static void file_backend_adds_up_what_directories_say(void **state)
{
    struct bp_chain_event e;
    (void)state;

    look("n@h", &e); /* no directory yet */
    assert_int_equal(e.kind, BP_CHAIN_UNKNOWN);
    put(dir_a, "n@h", "{\"host\": \"192.0.2.1\", \"port\": 1}\n");
    put(dir_b, "n@h",
        "{\"host\": \"x\", \"port\": 2, \"addresses\": [{\"host\": \"192.0.2.1\", "
        "\"port\": 1}, {\"host\": \"192.0.2.1\", \"port\": 2}]}\n");
    look("n@h", &e);
    assert_int_equal(e.kind, BP_CHAIN_FOUND);
    assert_string_equal(e.backend, "file");
    assert_int_equal(e.found.n, 2); /* each once */
    assert_int_equal(e.found.at[0].port, 1);
    assert_int_equal(e.found.at[1].port, 2);
    put(dir_a, "m@h", "{\"192.0.2.9\",9}.\n");
    look("m@h", &e);
    assert_string_equal(e.found.at[0].host, "192.0.2.9");
    assert_int_equal(complaints, 0);
}

static void file_backend_bad_file_is_an_error_only_where_nobody_knows_better(void **state)
{
    struct bp_chain_event e;
    (void)state;

    put(dir_a, "n@h", "nonsense");
    put(dir_b, "n@h", "{\"192.0.2.9\",9}.\n");
    look("n@h", &e);
    assert_int_equal(e.kind, BP_CHAIN_FOUND);
    assert_int_equal(complaints, 1);
    put(dir_b, "n@h", "nonsense, too");
    look("n@h", &e);
    assert_int_equal(e.kind, BP_CHAIN_COMPLAINT);
    assert_int_equal(e.rc, BP_E_FILE);
    finish(&e);
    assert_int_equal(e.kind, BP_CHAIN_UNKNOWN);
    look("n@h", &e); /* each content is complained about once */
    assert_int_equal(complaints, 2);
}

static const struct bp_endpoints here = {.n = 1, .at = {{.host = "192.0.2.5", .port = 5}}};

static void file_backend_publishes_and_withdraws_only_its_own(void **state)
{
    struct bp_chain_event e;
    (void)state;

    assert_int_equal(bp_chain_withdraw(chain, "me@h"), 0); /* was not published */
    assert_true(bp_chain_poll(chain, &e));
    assert_int_equal(e.rc, BP_E_NOT_FOUND);
    assert_int_equal(bp_chain_publish(chain, "me@h", &here), 1);
    look("me@h", &e);
    assert_string_equal(e.found.at[0].host, "192.0.2.5");
    assert_int_equal(tmpdir_count(dir_a), 1);
    assert_int_equal(tmpdir_count(dir_b), 1);
    put(dir_b, "me@h", "{\"192.0.2.5\",6}.\n"); /* another life */
    assert_int_equal(bp_chain_withdraw(chain, "me@h"), 1);
    assert_int_equal(tmpdir_count(dir_a), 0);
    assert_int_equal(tmpdir_count(dir_b), 1);
}

static void file_backend_publishes_where_one_directory_can_be_written(void **state)
{
    struct bp_chain_event e;
    (void)state;

    tmpdir_put(dir_a, "", 0); /* not a directory */
    assert_int_equal(bp_chain_publish(chain, "me@h", &here), 1);
    assert_int_equal(complaints, 1);
    assert_int_equal(tmpdir_count(dir_b), 1);
    assert_int_equal(unlink(strcat(dir_b, "/me@h.endpoint")), 0);
    *strrchr(dir_b, '/') = '\0';
    assert_int_equal(rmdir(dir_b), 0);
    tmpdir_put(dir_b, "", 0);
    assert_int_equal(bp_chain_publish(chain, "me@h", &here), 0);
    assert_true(bp_chain_poll(chain, &e));
    assert_int_equal(e.kind, BP_CHAIN_COMPLAINT);
    assert_int_equal(e.rc, BP_E_FILE);
}

static unsigned listed;

static void count(void *ctx, const char *node, uint16_t port)
{
    (void)ctx;
    assert_non_null(strstr(node, "@h"));
    assert_true(port > 0);
    listed++;
}

static void file_backend_lists_all_directories(void **state)
{
    (void)state;

    listed = 0;
    assert_int_equal(bp_file_backend_ops.list(files, count, NULL), 0);
    assert_int_equal(listed, 0);
    put(dir_a, "n@h", "{\"192.0.2.9\",9}.\n");
    put(dir_b, "m@h", "{\"192.0.2.9\",8}.\n");
    put(dir_b, "no_name", "{\"192.0.2.9\",8}.\n");
    assert_int_equal(bp_file_backend_ops.list(files, count, NULL), 0);
    assert_int_equal(listed, 2);
    assert_int_equal(complaints, 1);
}

/* A fifo without a writer would hold whoever opens it. */
static void file_backend_fifo_holds_nobody(void **state)
{
    struct bp_chain_event e;
    char path[2 * PATH_MAX];
    (void)state;

    assert_int_equal(mkdir(dir_a, 0700), 0);
    snprintf(path, sizeof(path), "%s/n@h.endpoint", dir_a);
    assert_int_equal(mkfifo(path, 0600), 0);
    put(dir_b, "n@h", "{\"192.0.2.9\",9}.\n");
    look("n@h", &e);
    assert_int_equal(e.kind, BP_CHAIN_FOUND);
    assert_int_equal(complaints, 1);
}

static void file_backend_hung_mount_is_passed(void **state)
{
    bp_time start = now();
    struct bp_chain_event e;
    uint32_t id;
    (void)state;

    put(dir_a, "n@h", "{\"192.0.2.9\",9}.\n");
    hang(".endpoint");
    assert_int_equal(bp_chain_lookup(chain, "n@h", start, &id), 0); /* comes back at once */
    wait_hanging();
    assert_false(bp_chain_poll(chain, &e));
    bp_chain_tick(chain, start + 61 * BP_SEC);
    assert_true(bp_chain_poll(chain, &e));
    assert_int_equal(e.kind, BP_CHAIN_COMPLAINT);
    assert_int_equal(e.rc, BP_E_TIMEOUT);
    assert_true(bp_chain_poll(chain, &e));
    assert_int_equal(e.kind, BP_CHAIN_UNKNOWN);
    hang(NULL);
    /* what came too late is nobody's answer */
    assert_int_equal(bp_chain_lookup(chain, "n@h", start + 120 * BP_SEC, &id), 0);
    finish(&e);
    assert_int_equal(e.kind, BP_CHAIN_FOUND);
    assert_int_equal(e.id, id);
}

static void file_backend_who_waits_for_a_hung_mount_waits_no_longer_than_the_limit(void **state)
{
    const char *dirs[1] = {dir_a};
    const struct bp_file_backend_config config = {
        .dirs = dirs, .n_dirs = 1, .limit = 100 * BP_MS, .complaint = {.say = say}};
    struct bp_file_backend *b;
    (void)state;

    put(dir_a, "n@h", "{\"192.0.2.9\",9}.\n");
    assert_int_equal(bp_file_backend_new(&b, &config), 0);
    hang(".endpoint");
    assert_int_equal(bp_file_backend_ops.list(b, count, NULL), BP_E_TIMEOUT);
    wait_hanging();
    assert_int_equal(bp_file_backend_ops.publish(b, "me@h", &here), BP_E_TIMEOUT); /* not begun */
    assert_int_equal(bp_file_backend_ops.withdraw(b, "me@h"), BP_E_TIMEOUT);
    bp_file_backend_del(b); /* does not wait either; the thread frees the rest */
    hang(NULL);
    listed = 0;
    assert_int_equal(bp_file_backend_ops.list(files, count, NULL), 0);
    assert_int_equal(listed, 1);
}

static void file_backend_too_many_at_once_are_refused(void **state)
{
    uint64_t ticket = 0;
    (void)state;

    hang(".endpoint");
    put(dir_a, "n@h", "{\"192.0.2.9\",9}.\n");
    for (; ticket < BP_CHAIN_LOOKUPS_MAX; ticket++) {
        assert_int_equal(bp_file_backend_ops.lookup(files, chain, ticket, "n@h", "h"), 0);
    }
    assert_int_equal(bp_file_backend_ops.lookup(files, chain, ticket, "n@h", "h"), BP_E_LIMIT);
    for (uint64_t t = 0; t < ticket; t++) {
        bp_file_backend_ops.cancel(files, t);
    }
    assert_int_equal(bp_file_backend_ops.lookup(files, chain, ticket, "n@h", "h"), 0);
    bp_file_backend_ops.cancel(files, ticket);
    hang(NULL);
}

/* The other directory's answer counts, from the second on that a directory hangs. */
static void file_backend_one_hung_directory_does_not_hold_the_other(void **state)
{
    struct bp_chain_event e;
    bp_time start = now();
    unsigned asked = 0;
    (void)state;

    put(dir_a, "n@h", "{\"192.0.2.9\",9}.\n");
    put(dir_b, "n@h", "{\"192.0.2.8\",8}.\n");
    hang("/a/");
    assert_int_equal(bp_file_backend_ops.lookup(files, chain, 1, "n@h", "h"), 0);
    wait_hanging();
    for (e.kind = BP_CHAIN_COMPLAINT; e.kind != BP_CHAIN_FOUND; asked++) {
        struct timespec nap = {.tv_nsec = 50000000};
        struct bp_chain_event none;
        uint32_t id;

        assert_true(asked < 1000);
        assert_int_equal(bp_chain_lookup(chain, "n@h", now(), &id), 0);
        nanosleep(&nap, NULL); /* the directory has to hang for a second */
        bp_file_backend_run(files, chain);
        bp_chain_tick(chain, now());
        while (bp_chain_poll(chain, &none)) {
            e = none;
        }
        bp_chain_cancel(chain, id);
    }
    assert_true(now() - start >= BP_SEC);
    assert_int_equal(e.found.n, 1);
    assert_int_equal(e.found.at[0].port, 8);
    hang(NULL);
}

static void file_backend_refuses_directories_that_it_cannot_use(void **state)
{
    const char *dirs[] = {"", "a", "b", "c", "d"};
    struct bp_file_backend_config config = {.dirs = dirs, .n_dirs = 1};
    struct bp_file_backend *b;
    (void)state;

    assert_int_equal(bp_file_backend_new(&b, &config), BP_E_INVALID);
    config.n_dirs = 0;
    assert_int_equal(bp_file_backend_new(&b, &config), BP_E_INVALID);
    config.n_dirs = 5;
    config.dirs = dirs;
    assert_int_equal(bp_file_backend_new(&b, &config), BP_E_INVALID);
    assert_null(b);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(file_backend_adds_up_what_directories_say),
        TEST(file_backend_bad_file_is_an_error_only_where_nobody_knows_better),
        TEST(file_backend_publishes_and_withdraws_only_its_own),
        TEST(file_backend_publishes_where_one_directory_can_be_written),
        TEST(file_backend_lists_all_directories),
        TEST(file_backend_fifo_holds_nobody),
        TEST(file_backend_hung_mount_is_passed),
        TEST(file_backend_who_waits_for_a_hung_mount_waits_no_longer_than_the_limit),
        TEST(file_backend_too_many_at_once_are_refused),
        TEST(file_backend_one_hung_directory_does_not_hold_the_other),
        TEST(file_backend_refuses_directories_that_it_cannot_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
