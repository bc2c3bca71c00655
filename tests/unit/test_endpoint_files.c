/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoint files on disk: written whole, cached by their time, complained about once. */
#include "support/t.h"

#include "base/err.h"
#include "io/endpoint_files.h"
#include "unit/tmpdir.h"

#include <fcntl.h>

static const struct bp_endpoints one = {.n = 1, .at = {{.host = "192.0.2.1", .port = 4433}}};

struct seen {
    unsigned n;
    char text[512];
};

static void say(void *ctx, const char *file, const char *text)
{
    struct seen *s = ctx;

    assert_non_null(strstr(text, file));
    s->n++;
    snprintf(s->text, sizeof(s->text), "%s", text);
}

static void count(void *ctx, const char *node, const struct bp_endpoints *eps)
{
    unsigned *n = ctx;

    assert_non_null(strchr(node, '@'));
    assert_true(eps->n >= 1);
    (*n)++;
}

/* Moves a file's time, so that a change within one tick of the kernel's clock is seen too. */
static void touch(const char *path, long sec)
{
    struct timespec t[2] = {{.tv_sec = sec}, {.tv_sec = sec}};

    assert_int_equal(utimensat(AT_FDCWD, path, t, 0), 0);
}

static void endpoint_file_is_written_read_and_deleted(void **state)
{
    struct bp_endpoint_cache cache = {0};
    struct bp_endpoints eps;
    struct bp_errbuf err;
    char dir[PATH_MAX];
    char path[PATH_MAX];
    (void)state;

    tmpdir_path(state, "a/b", dir);
    tmpdir_path(state, "a/b/n@h.endpoint", path);
    assert_int_equal(bp_endpoint_file_read(&cache, dir, "n@h", &eps, NULL, &err), BP_E_NOT_FOUND);
    for (enum bp_endpoint_format f = BP_ENDPOINT_JSON; f <= BP_ENDPOINT_TERM; f++) {
        struct stat st;

        assert_int_equal(bp_endpoint_file_write(dir, "n@h", &one, f, &err), 0);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0644);
        assert_int_equal(bp_endpoint_file_read(&cache, dir, "n@h", &eps, NULL, &err), 0);
        assert_int_equal(eps.n, 1);
        assert_string_equal(eps.at[0].host, "192.0.2.1");
        assert_int_equal(eps.at[0].port, 4433);
    }
    assert_int_equal(bp_endpoint_file_delete(dir, "n@h", &err), 0);
    assert_int_equal(bp_endpoint_file_delete(dir, "n@h", &err), 0);
    assert_int_equal(bp_endpoint_file_read(&cache, dir, "n@h", &eps, NULL, &err), BP_E_NOT_FOUND);
    assert_int_equal(bp_endpoint_file_read(&cache, dir, "../n@h", &eps, NULL, &err), BP_E_INVALID);
    assert_int_equal(bp_endpoint_file_delete(dir, "no name", &err), BP_E_INVALID);
    bp_endpoint_cache_free(&cache);
}

/* A machine without openat2's RESOLVE_CACHED, or a TMPDIR that is no local file system, knows
 * nothing by heart: then there is nothing to look at here. */
static void endpoint_that_was_read_is_known_until_it_changes(void **state)
{
    struct bp_endpoints two = {.n = 1, .at = {{.host = "192.0.2.2", .port = 4434}}};
    struct bp_endpoint_cache cache = {0};
    struct bp_endpoints eps;
    struct bp_errbuf err;
    char dir[PATH_MAX];
    char other[PATH_MAX];
    char path[PATH_MAX];
    uint64_t reads;
    (void)state;

    tmpdir_path(state, "k/d", dir);
    tmpdir_path(state, "k/other", other);
    tmpdir_path(state, "k/d/n@h.endpoint", path);
    assert_int_equal(bp_endpoint_file_write(dir, "n@h", &one, BP_ENDPOINT_JSON, &err), 0);
    assert_int_equal(bp_endpoint_file_known(&cache, dir, "n@h", &eps), BP_E_AGAIN);
    assert_int_equal(bp_endpoint_file_read(&cache, dir, "n@h", &eps, NULL, &err), 0);
    if (!cache.is_local || bp_endpoint_file_known(&cache, dir, "n@h", &eps) != 0) {
        bp_endpoint_cache_free(&cache);
        skip();
    }
    reads = cache.reads;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(bp_endpoint_file_known(&cache, dir, "n@h", &eps), 0);
        assert_int_equal(eps.n, 1);
        assert_string_equal(eps.at[0].host, "192.0.2.1");
        assert_int_equal(eps.at[0].port, 4433);
    }
    assert_int_equal(cache.reads, reads);
    /* another content */
    assert_int_equal(bp_endpoint_file_write(dir, "n@h", &two, BP_ENDPOINT_JSON, &err), 0);
    assert_int_equal(bp_endpoint_file_known(&cache, dir, "n@h", &eps), BP_E_AGAIN);
    assert_int_equal(bp_endpoint_file_read(&cache, dir, "n@h", &eps, NULL, &err), 0);
    assert_int_equal(bp_endpoint_file_known(&cache, dir, "n@h", &eps), 0);
    assert_int_equal(eps.at[0].port, 4434);
    /* a link may lead to a mount */
    assert_int_equal(rename(path, other), 0);
    assert_int_equal(symlink(other, path), 0);
    assert_int_equal(bp_endpoint_file_known(&cache, dir, "n@h", &eps), BP_E_AGAIN);
    assert_int_equal(bp_endpoint_file_read(&cache, dir, "n@h", &eps, NULL, &err), 0);
    assert_int_equal(bp_endpoint_file_known(&cache, dir, "n@h", &eps), BP_E_AGAIN);
    /* gone */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(bp_endpoint_file_read(&cache, dir, "n@h", &eps, NULL, &err), BP_E_NOT_FOUND);
    assert_int_equal(bp_endpoint_file_known(&cache, dir, "n@h", &eps), BP_E_NOT_FOUND);
    assert_int_equal(bp_endpoint_file_known(&cache, dir, "../n@h", &eps), BP_E_AGAIN);
    /* another file system by now */
    assert_int_equal(bp_endpoint_file_write(dir, "n@h", &one, BP_ENDPOINT_JSON, &err), 0);
    assert_int_equal(bp_endpoint_file_read(&cache, dir, "n@h", &eps, NULL, &err), 0);
    assert_int_equal(bp_endpoint_file_known(&cache, dir, "n@h", &eps), 0);
    cache.dev_minor++;
    assert_int_equal(bp_endpoint_file_known(&cache, dir, "n@h", &eps), BP_E_AGAIN);
    cache.is_local = false;
    assert_int_equal(bp_endpoint_file_known(&cache, dir, "n@h", &eps), BP_E_AGAIN);
    bp_endpoint_cache_free(&cache);
}

static void endpoint_cache_reads_again_when_the_file_changes(void **state)
{
    struct bp_endpoints two = {.n = 1, .at = {{.host = "192.0.2.2", .port = 4434}}};
    struct bp_endpoint_cache cache = {0};
    struct bp_endpoints eps;
    struct bp_errbuf err;
    char dir[PATH_MAX];
    (void)state;

    tmpdir_path(state, "", dir);
    assert_int_equal(bp_endpoint_file_write(dir, "n@h", &one, BP_ENDPOINT_JSON, &err), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(bp_endpoint_file_read(&cache, dir, "n@h", &eps, NULL, &err), 0);
    }
    assert_int_equal(cache.reads, 1);
    assert_int_equal(cache.hits, 2);
    assert_int_equal(bp_endpoint_file_write(dir, "n@h", &two, BP_ENDPOINT_JSON, &err), 0);
    assert_int_equal(bp_endpoint_file_read(&cache, dir, "n@h", &eps, NULL, &err), 0);
    assert_int_equal(cache.reads, 2);
    assert_int_equal(eps.at[0].port, 4434);
    assert_int_equal(cache.n, 1);
    bp_endpoint_cache_free(&cache);
}

static void endpoint_file_of_rubbish_is_complained_about_once(void **state)
{
    struct bp_endpoint_cache cache = {0};
    struct seen seen = {0};
    const struct bp_endpoint_complaint complaint = {say, &seen};
    struct bp_endpoints eps;
    struct bp_errbuf err;
    char dir[PATH_MAX];
    char path[PATH_MAX];
    (void)state;

    tmpdir_path(state, "", dir);
    tmpdir_path(state, "n@h.endpoint", path);
    tmpdir_put(path, "rubbish", 7);
    for (int i = 0; i < 3; i++) {
        unsigned n = 0;
        assert_int_equal(bp_endpoint_file_read(&cache, dir, "n@h", &eps, &complaint, &err),
                         BP_E_FILE);
        assert_non_null(strstr(err.text, path));
        assert_int_equal(bp_endpoint_files_list(&cache, dir, count, &n, &complaint, &err), 0);
        assert_int_equal(n, 0);
    }
    assert_int_equal(seen.n, 1);
    touch(path, 1000);
    assert_int_equal(bp_endpoint_file_read(&cache, dir, "n@h", &eps, &complaint, &err), BP_E_FILE);
    assert_int_equal(seen.n, 2);
    bp_endpoint_cache_free(&cache);
}

static void endpoint_listing_skips_what_is_not_a_node(void **state)
{
    struct bp_endpoint_cache cache = {0};
    struct seen seen = {0};
    const struct bp_endpoint_complaint complaint = {say, &seen};
    struct bp_errbuf err;
    unsigned n = 0;
    char dir[PATH_MAX];
    char path[PATH_MAX];
    (void)state;

    tmpdir_path(state, "none", dir);
    assert_int_equal(bp_endpoint_files_list(&cache, dir, count, &n, &complaint, &err),
                     BP_E_NOT_FOUND);
    tmpdir_path(state, "", dir);
    assert_int_equal(bp_endpoint_file_write(dir, "a@h", &one, BP_ENDPOINT_JSON, &err), 0);
    assert_int_equal(bp_endpoint_file_write(dir, "b@h", &one, BP_ENDPOINT_TERM, &err), 0);
    tmpdir_put(tmpdir_path(state, "no_host.endpoint", path), "{\"h\",1}.", 8);
    tmpdir_put(tmpdir_path(state, "c@h.txt", path), "x", 1);
    tmpdir_put(tmpdir_path(state, ".endpoint", path), "x", 1);
    for (int i = 0; i < 2; i++) {
        n = 0;
        assert_int_equal(bp_endpoint_files_list(&cache, dir, count, &n, &complaint, &err), 0);
        assert_int_equal(n, 2);
    }
    assert_int_equal(seen.n, 1);
    assert_non_null(strstr(seen.text, "no_host.endpoint"));
    bp_endpoint_cache_free(&cache);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(endpoint_file_is_written_read_and_deleted, tmpdir_setup,
                                    tmpdir_teardown),
    cmocka_unit_test_setup_teardown(endpoint_that_was_read_is_known_until_it_changes, tmpdir_setup,
                                    tmpdir_teardown),
    cmocka_unit_test_setup_teardown(endpoint_cache_reads_again_when_the_file_changes, tmpdir_setup,
                                    tmpdir_teardown),
    cmocka_unit_test_setup_teardown(endpoint_file_of_rubbish_is_complained_about_once, tmpdir_setup,
                                    tmpdir_teardown),
    cmocka_unit_test_setup_teardown(endpoint_listing_skips_what_is_not_a_node, tmpdir_setup,
                                    tmpdir_teardown),
};

T_MAIN(tests)
