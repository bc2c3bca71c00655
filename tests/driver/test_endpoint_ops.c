/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoint files by control operation and message, and directories that hang. */
#include "driver/node_util.h"
#include "unit/hang.h"

#include "base/err.h"

#include <time.h>

static struct vm_reply reply;
static struct tlv args;
static uint64_t last_id;

static ErlDrvPort open_node(void)
{
    ErlDrvPort node = vm_open("barrel_p2p_drv node");

    assert_non_null(node);
    return node;
}

static void file_args(const char *dir, const char *node)
{
    args.len = 0;
    tlv_text(&args, 1, dir);
    tlv_text(&args, 2, node);
}

/* The operation is taken; its result comes by message. */
static void submit(ErlDrvPort node, unsigned op)
{
    size_t len = args.len;

    tlv_uint(&args, 6, ++last_id, 8);
    vm_control_ok(node, op, args.data, args.len, &reply);
    args.len = len;
}

static const struct vm_msg *result_of(uint64_t id)
{
    char start[64];
    const struct vm_msg *m;

    snprintf(start, sizeof(start), "barrel_p2p_file %lu ", (unsigned long)id);
    for (int i = 0; i < 600; i++) {
        m = vm_find_msg(NULL, start);
        if (m != NULL) {
            assert_true(m->raw_len > 0 && m->raw_len <= sizeof(m->raw));
            return m;
        }
        vm_poll(100, NULL, 0);
    }
    fail_msg("no result");
    return NULL;
}

static void expect(ErlDrvPort node, unsigned op, const void *bytes, size_t len)
{
    const struct vm_msg *m;

    submit(node, op);
    m = result_of(last_id);
    assert_int_equal(m->raw[0], 0);
    assert_int_equal(m->raw_len, len + 1);
    if (len > 0) {
        assert_memory_equal(m->raw + 1, bytes, len);
    }
}

static void expect_error(ErlDrvPort node, unsigned op, const char *err)
{
    const struct vm_msg *m;

    submit(node, op);
    m = result_of(last_id);
    assert_int_equal(m->raw[0], 1);
    assert_non_null(memmem(m->raw, m->raw_len, err, strlen(err)));
}

static void refused(ErlDrvPort node, unsigned op, const char *err)
{
    vm_control(node, op, args.data, args.len, &reply);
    assert_false(reply.ok);
    assert_false(reply.badarg);
    assert_string_equal(reply.err, err);
}

/* Without a job: the result of READ, or "again" where this machine cannot say. */
static void known(ErlDrvPort node, const char *bytes, size_t len)
{
    vm_control(node, OP_ENDPOINT_KNOWN, args.data, args.len, &reply);
    assert_false(reply.badarg);
    if (reply.ok) {
        assert_int_equal(reply.len, len);
        assert_memory_equal(reply.data, bytes, len);
    } else {
        assert_string_equal(reply.err, "again");
    }
}

static uint64_t stat_of(ErlDrvPort node, const char *name)
{
    uint64_t v = 0;
    size_t n = strlen(name);

    vm_control_ok(node, OP_STATS, NULL, 0, &reply);
    for (size_t i = 0; i + n + 9 <= reply.len; i += reply.data[i] + 9u) {
        if (reply.data[i] == n && memcmp(reply.data + i + 1, name, n) == 0) {
            for (size_t k = 0; k < 8; k++) {
                v = v << 8 | reply.data[i + 1 + n + k];
            }
            return v;
        }
    }
    fail_msg("no counter %s", name);
    return 0;
}

static void endpoints_written_read_listed_deleted(void **state)
{
    ErlDrvPort node = open_node();
    char dir[PATH_MAX];

    (void)tmpdir_path(state, "disc", dir);
    file_args(dir, "a@h");
    expect_error(node, OP_ENDPOINT_READ, "not_found");
    expect(node, OP_ENDPOINT_LIST, NULL, 0);
    tlv_text(&args, 3, "h.example");
    tlv_uint(&args, 4, 4433, 2);
    expect(node, OP_ENDPOINT_WRITE, NULL, 0);
    file_args(dir, "a@h");
    refused(node, OP_ENDPOINT_KNOWN, "again"); /* never read */
    expect(node, OP_ENDPOINT_READ, "\x11\x51\x09h.example", 12);
    known(node, "\x11\x51\x09h.example", 12);
    expect(node, OP_ENDPOINT_LIST,
           "\x03"
           "a@h"
           "\x11\x51\x09h.example",
           16);
    /* a second address, in the other format: a term holds the first only */
    tlv_text(&args, 3, "192.0.2.1");
    tlv_uint(&args, 4, 4433, 2);
    tlv_text(&args, 3, "2001:db8::1");
    tlv_uint(&args, 4, 4434, 2);
    expect(node, OP_ENDPOINT_WRITE, NULL, 0);
    expect(node, OP_ENDPOINT_READ,
           "\x11\x51\x09"
           "192.0.2.1\x11\x52\x0b"
           "2001:db8::1",
           2 + 1 + 9 + 2 + 1 + 11);
    tlv_uint(&args, 5, 1, 1);
    expect(node, OP_ENDPOINT_WRITE, NULL, 0);
    expect(node, OP_ENDPOINT_READ,
           "\x11\x51\x09"
           "192.0.2.1",
           2 + 1 + 9);
    /* only where it says that port */
    file_args(dir, "a@h");
    tlv_uint(&args, 7, 4434, 2);
    expect(node, OP_ENDPOINT_DELETE, NULL, 0);
    expect(node, OP_ENDPOINT_READ,
           "\x11\x51\x09"
           "192.0.2.1",
           2 + 1 + 9);
    file_args(dir, "a@h");
    tlv_uint(&args, 7, 4433, 2);
    expect(node, OP_ENDPOINT_DELETE, NULL, 0);
    expect_error(node, OP_ENDPOINT_READ, "not_found");
    file_args(dir, "a@h");
    expect(node, OP_ENDPOINT_DELETE, NULL, 0);
    vm_close(node);
}

static void endpoints_bad_arguments_are_refused_at_once(void **state)
{
    ErlDrvPort node = open_node();
    char dir[PATH_MAX];

    (void)tmpdir_path(state, "", dir);
    args.len = 0;
    refused(node, OP_ENDPOINT_LIST, "badarg");
    refused(node, OP_ENDPOINT_KNOWN, "badarg");
    tlv_text(&args, 1, dir);
    refused(node, OP_ENDPOINT_READ, "badarg");
    tlv_text(&args, 2, "a@h");
    refused(node, OP_ENDPOINT_WRITE, "badarg"); /* no address */
    tlv_text(&args, 3, "h h");
    tlv_uint(&args, 4, 1, 2);
    refused(node, OP_ENDPOINT_WRITE, "badarg");
    file_args(dir, "../x@y");
    refused(node, OP_ENDPOINT_READ, "badarg");
    vm_close(node);
}

static void endpoints_complaints_are_logged_once(void **state)
{
    ErlDrvPort node = open_node();
    char dir[PATH_MAX];
    char path[PATH_MAX];

    (void)tmpdir_path(state, "", dir);
    (void)tmpdir_path(state, "a@h.endpoint", path);
    tmpdir_put(path, "nonsense", 8);
    file_args(dir, "a@h");
    expect_error(node, OP_ENDPOINT_READ, "file_error");
    expect_error(node, OP_ENDPOINT_READ, "file_error");
    assert_int_equal(vm_count(NULL, "log warning discovery_file_ignored"), 1);
    vm_close(node);
}

/* A control operation never waits; a directory that hangs is refused from then on. */
static void endpoints_hung_directory_holds_nobody(void **state)
{
    ErlDrvPort node = open_node();
    char hung[PATH_MAX];
    char good[PATH_MAX];
    char path[PATH_MAX];
    uint64_t hung_id;

    (void)tmpdir_path(state, "hung", hung);
    (void)tmpdir_path(state, "good", good);
    assert_int_equal(mkdir(hung, 0700), 0);
    (void)tmpdir_path(state, "hung/a@h.endpoint", path);
    tmpdir_put(path, "{\"h\",1}.", 8);
    hang("/hung/");
    file_args(hung, "a@h");
    submit(node, OP_ENDPOINT_READ); /* comes back */
    hung_id = last_id;
    wait_hanging();
    refused(node, OP_ENDPOINT_KNOWN, "again");
    file_args(good, "a@h");
    expect_error(node, OP_ENDPOINT_READ, "not_found"); /* another directory has another thread */
    file_args(hung, "a@h");
    for (int i = 0; i < 600 && stat_of(node, "endpoint_dirs_hung") == 0; i++) {
        vm_poll(100, NULL, 0);
    }
    refused(node, OP_ENDPOINT_READ, "timeout");
    refused(node, OP_ENDPOINT_LIST, "timeout");
    assert_int_equal(stat_of(node, "endpoint_file_jobs_refused"), 2);
    hang(NULL);
    assert_int_equal(result_of(hung_id)->raw[0], 0);
    file_args(hung, "a@h");
    expect(node, OP_ENDPOINT_READ, "\0\1\1h", 4);
    known(node, "\0\1\1h", 4);
    assert_int_equal(stat_of(node, "endpoint_dirs_hung"), 0);
    assert_false(vm_locked());
    vm_close(node);
}

static void endpoints_too_many_jobs_are_refused(void **state)
{
    ErlDrvPort node = open_node();
    char dir[PATH_MAX];
    char path[PATH_MAX];
    unsigned n = 0;

    (void)tmpdir_path(state, "many", dir);
    assert_int_equal(mkdir(dir, 0700), 0);
    (void)tmpdir_path(state, "many/a@h.endpoint", path);
    tmpdir_put(path, "{\"h\",1}.", 8);
    hang("/many/");
    file_args(dir, "a@h");
    reply.ok = true;
    while (reply.ok && n < 1000) {
        vm_control(node, OP_ENDPOINT_READ, args.data, args.len, &reply);
        n += reply.ok;
    }
    assert_int_equal(n, 128);
    assert_string_equal(reply.err, "limit");
    hang(NULL);
    vm_close(node); /* with answers that nobody took */
}

static void endpoints_many_directories_take_turns(void **state)
{
    ErlDrvPort node = open_node();
    char dir[PATH_MAX];
    char name[32];

    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 20; i++) {
            snprintf(name, sizeof(name), "d%u", i);
            file_args(tmpdir_path(state, name, dir), "a@h");
            expect_error(node, OP_ENDPOINT_READ, "not_found");
        }
    }
    vm_close(node);
}

/* The last test: a driver whose thread hangs stays loaded. */
static void endpoints_port_closes_while_a_directory_hangs(void **state)
{
    ErlDrvPort node = open_node();
    char dir[PATH_MAX];
    char path[PATH_MAX];

    (void)tmpdir_path(state, "end", dir);
    assert_int_equal(mkdir(dir, 0700), 0);
    (void)tmpdir_path(state, "end/a@h.endpoint", path);
    tmpdir_put(path, "{\"h\",1}.", 8);
    hang("/end/");
    file_args(dir, "a@h");
    submit(node, OP_ENDPOINT_READ);
    wait_hanging();
    vm_close(node);
    assert_true(vm_locked());
    hang(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VM_TEST(endpoints_written_read_listed_deleted),
        VM_TEST(endpoints_bad_arguments_are_refused_at_once),
        VM_TEST(endpoints_complaints_are_logged_once),
        VM_TEST(endpoints_hung_directory_holds_nobody),
        VM_TEST(endpoints_too_many_jobs_are_refused),
        VM_TEST(endpoints_many_directories_take_turns),
        VM_TEST(endpoints_port_closes_while_a_directory_hangs),
    };
    return cmocka_run_group_tests(tests, vm_group_setup, vm_group_teardown) != 0;
}
