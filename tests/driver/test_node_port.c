/* SPDX-License-Identifier: Apache-2.0 */
/* The node port: settings and what is wrong with them, listening, files, strangers, garbage. */
#include "driver/node_util.h"

#include "base/err.h"

#include <arpa/inet.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static struct vm_reply reply;
static struct tlv args;

static ErlDrvPort open_node(void)
{
    ErlDrvPort node = vm_open("barrel_p2p_drv node");

    assert_non_null(node);
    return node;
}

static void refused(ErlDrvPort p, unsigned op, const char *err, const char *words)
{
    vm_control(p, op, args.data, args.len, &reply);
    assert_false(reply.ok);
    assert_false(reply.badarg);
    assert_string_equal(reply.err, err);
    if (strstr((char *)reply.data, words) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", (char *)reply.data, words);
    }
}

/* --- settings ------------------------------------------------------------ */

static void listen_before_config_is_refused(void **state)
{
    ErlDrvPort node = open_node();

    (void)state;
    args.len = 0;
    refused(node, OP_LISTEN, "bad_state", "CONFIG comes first");
    vm_close(node);
}

/* Good settings, with the value of one key replaced, or the key left out. */
static void config_with(void **state, uint8_t key, const char *value)
{
    struct tlv *good = calloc(1, sizeof(*good));
    struct drv_args a;
    struct drv_arg arg;

    assert_non_null(good);
    good_config(good, state);
    args.len = 0;
    drv_args_init(&a, good->data, good->len);
    while (drv_args_next(&a, &arg)) {
        if (arg.key != key) {
            tlv_bytes(&args, arg.key, arg.val, arg.len);
        }
    }
    if (value != NULL) {
        tlv_text(&args, key, value);
    }
    free(good);
}

static void config_errors_say_what_is_wrong(void **state)
{
    ErlDrvPort node = open_node();
    char longer[600];

    memset(longer, 'x', sizeof(longer));
    longer[sizeof(longer) - 1] = '\0';
    config_with(state, 1, NULL);
    refused(node, OP_CONFIG, "badarg", "node name");
    config_with(state, 1, "nohost");
    refused(node, OP_CONFIG, "badarg", "node name");
    config_with(state, 1, "../../etc@passwd");
    refused(node, OP_CONFIG, "badarg", "node name");
    config_with(state, 1, longer);
    refused(node, OP_CONFIG, "badarg", "node name");
    config_with(state, 2, NULL);
    refused(node, OP_CONFIG, "badarg", "cert_file");
    config_with(state, 4, NULL);
    refused(node, OP_CONFIG, "badarg", "auth_key_dir");
    config_with(state, 13, "not an address");
    refused(node, OP_CONFIG, "badarg", "bind address");
    config_with(state, 10, longer);
    refused(node, OP_CONFIG, "badarg", "cookie_only_nodes");
    config_with(state, 3, "/dev/null/node.key");
    refused(node, OP_CONFIG, "file_error", "/dev/null/node.key");
    /* nothing of it stays: listening still needs settings */
    args.len = 0;
    refused(node, OP_LISTEN, "bad_state", "CONFIG comes first");
    vm_close(node);
}

/* What cannot be read must not become the default: a node would listen on all addresses. */
static void config_value_of_bad_form_is_refused(void **state)
{
    ErlDrvPort node = open_node();

    config_with(state, 13, NULL);
    tlv_bytes(&args, 13, "127.0.0.1\0x", 11);
    refused(node, OP_CONFIG, "badarg", "bind address");
    config_with(state, 7, NULL);
    tlv_bytes(&args, 7, "", 0); /* auth_mode */
    refused(node, OP_CONFIG, "badarg", "number 7");
    config_with(state, 7, NULL);
    tlv_bytes(&args, 7, "123456789", 9);
    refused(node, OP_CONFIG, "badarg", "number 7");
    vm_close(node);
}

static void config_cut_anywhere_never_crashes(void **state)
{
    ErlDrvPort node = open_node();
    struct tlv *good = calloc(1, sizeof(*good));

    good_config(good, state);
    vm_control_ok(node, OP_CONFIG, good->data, good->len, &reply);
    for (size_t len = 0; len < good->len; len++) {
        vm_control(node, OP_CONFIG, good->data, len, &reply);
        assert_false(reply.badarg);
    }
    vm_control_ok(node, OP_CONFIG, good->data, good->len, &reply); /* again is fine */
    assert_memory_equal(reply.data, "SHA256:", 7);
    free(good);
    vm_close(node);
}

/* --- listening ----------------------------------------------------------- */

static void listen_once_per_node(void **state)
{
    uint16_t port;
    ErlDrvPort node = start_node(state, &port);

    args.len = 0;
    refused(node, OP_LISTEN, "bad_state", "already listening");
    assert_null(vm_open("barrel_p2p_drv node"));        /* one node per VM */
    assert_true(drv_node.port == driver_mk_port(node)); /* and it still hears of what comes */
    vm_close(node);
    node = start_node(state, &port); /* and another one after it */
    vm_close(node);
}

static void listen_port_in_use_says_so(void **state)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(0x7f000001)}};
    socklen_t len = sizeof(in);
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    ErlDrvPort node = open_node();
    char number[16];

    assert_int_equal(bind(s, (struct sockaddr *)&in, sizeof(in)), 0);
    assert_int_equal(getsockname(s, (struct sockaddr *)&in, &len), 0);
    good_config(&args, state);
    tlv_uint(&args, 14, ntohs(in.sin_port), 2);
    vm_control_ok(node, OP_CONFIG, args.data, args.len, &reply);
    snprintf(number, sizeof(number), "%u", ntohs(in.sin_port));
    refused(node, OP_LISTEN, "eaddrinuse", number);
    refused(node, OP_LISTEN, "eaddrinuse", "choose another port"); /* the name is free again */
    (void)close(s);
    vm_control_ok(node, OP_LISTEN, NULL, 0, &reply);
    vm_close(node);
}

/* --- strangers ----------------------------------------------------------- */

static uint64_t node_stat(ErlDrvPort node, const char *name)
{
    size_t at = 0;

    vm_control_ok(node, OP_STATS, NULL, 0, &reply);
    while (at < reply.len) {
        size_t n = reply.data[at];
        if (n == strlen(name) && memcmp(reply.data + at + 1, name, n) == 0) {
            uint64_t v = 0;
            for (size_t i = 0; i < 8; i++) {
                v = v << 8 | reply.data[at + 1 + n + i];
            }
            return v;
        }
        at += 1 + n + 8;
    }
    fail_msg("no statistic %s", name);
    return 0;
}

static void garbage_datagrams_cost_nothing(void **state)
{
    uint16_t port;
    ErlDrvPort node = start_node(state, &port);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(0x7f000001)}};
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    uint64_t rng = t_seed(20261124);
    long live = vm_live();
    uint8_t buf[1500];

    to.sin_port = htons(port);
    for (int i = 0; i < 3000; i++) {
        size_t len = t_rand(&rng) % sizeof(buf);
        for (size_t k = 0; k < len; k++) {
            buf[k] = (uint8_t)t_rand(&rng);
        }
        if (len > 6 && i % 3 == 0) { /* the head of an Initial */
            memcpy(buf, "\xc0\x00\x00\x00\x01\x08", 6);
        }
        (void)sendto(s, buf, len, 0, (struct sockaddr *)&to, sizeof(to));
        vm_poll(0, NULL, 0);
    }
    for (int i = 0; i < 50; i++) {
        vm_poll(1, NULL, 0);
    }
    assert_int_equal(node_stat(node, "half_open"), 0);
    assert_int_equal(node_stat(node, "connections"), 0);
    assert_int_equal(vm_count(NULL, "incoming"), 0);
    assert_int_equal(vm_count(NULL, "log warning"), 0);
    /* the pools that one connection needs may have been made */
    assert_in_range(vm_live(), live, live + 8);
    (void)close(s);
    vm_close(node);
}

/* Strangers who begin well and then break off fill no log. */
static void log_lines_are_limited(void **state)
{
    uint16_t port;
    ErlDrvPort node = start_node(state, &port);
    unsigned lines;

    for (int i = 0; i < 80; i++) {
        struct peer peer;

        peer_init(&peer, "peer@127.0.0.1");
        peer_dial(&peer, port, "another@127.0.0.1"); /* it finds another name and leaves */
        while (!peer.failed) {
            peer_step(&peer);
            vm_poll(1, &peer.fd, 1);
        }
        peer_close(&peer, BP_E_AUTH_NAME_MISMATCH);
        vm_poll(5, NULL, 0);
        peer_free(&peer);
    }
    lines = vm_count(NULL, "log ");
    assert_in_range(lines, 1, DRV_LOG_BURST + 20 * DRV_LOG_PER_SEC);
    if (lines < 80) {
        assert_true(node_stat(node, "log_lines_dropped") > 0);
    }
    vm_close(node);
}

/* --- files --------------------------------------------------------------- */

static void file_args(const char *dir, const char *node)
{
    args.len = 0;
    tlv_text(&args, 1, dir);
    tlv_text(&args, 2, node);
}

static void questions_to_dns_are_answered_by_message(void **state)
{
    ErlDrvPort node = open_node();
    (void)state;

    /* from /etc/hosts: no server is asked */
    args.len = 0;
    tlv_text(&args, 1, "localhost");
    tlv_uint(&args, 3, 4, 1);
    tlv_uint(&args, 4, 77, 8);
    tlv_uint(&args, 6, 1000, 4);
    vm_control_ok(node, OP_RESOLVE, args.data, args.len, &reply);
    assert_non_null(vm_find(NULL, "barrel_p2p_resolved 77"));
    /* a server where nobody is: the answer comes by descriptor, and says why */
    args.len = 0;
    tlv_text(&args, 1, "a.example");
    tlv_uint(&args, 4, 78, 8);
    tlv_text(&args, 5, "127.0.0.1:1");
    tlv_uint(&args, 6, 50, 4);
    vm_control_ok(node, OP_RESOLVE, args.data, args.len, &reply);
    for (int i = 0; i < 200 && vm_find(NULL, "barrel_p2p_resolved 78") == NULL; i++) {
        vm_poll(50, NULL, 0);
    }
    assert_non_null(vm_find(NULL, "barrel_p2p_resolved 78"));
    /* what is no question is refused, and a question under way goes with the port */
    tlv_uint(&args, 2, 2, 1);
    refused(node, OP_RESOLVE, "badarg", "");
    args.len = 0;
    tlv_text(&args, 1, "b.example");
    tlv_text(&args, 5, "no server");
    tlv_uint(&args, 6, 50, 4);
    refused(node, OP_RESOLVE, "badarg", "");
    args.len = 0;
    tlv_text(&args, 1, "b.example");
    tlv_text(&args, 5, "127.0.0.1:1");
    tlv_uint(&args, 6, 5000, 4);
    vm_control_ok(node, OP_RESOLVE, args.data, args.len, &reply);
    vm_close(node);
}

static void names_never_leave_their_directory(void **state)
{
    static const char *const bad[] = {"../x@h", "a@../h", "/etc/passwd", "a",
                                      "a@b@c",  "",       "a/b@h",       ".hidden@h"};
    static const unsigned ops[] = {OP_ENDPOINT_READ, OP_ENDPOINT_DELETE, OP_TRUST_LOOKUP,
                                   OP_TRUST_DELETE};
    ErlDrvPort node = open_node();
    char dir[PATH_MAX];

    (void)tmpdir_path(state, "x", dir);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        for (size_t k = 0; k < sizeof(ops) / sizeof(ops[0]); k++) {
            file_args(dir, bad[i]);
            refused(node, ops[k], "badarg", "");
        }
    }
    vm_close(node);
}

static void trust_store_lookup_delete(void **state)
{
    static const uint8_t key[BP_KEY_LEN] = {1, 2, 3};
    static const uint8_t other[BP_KEY_LEN] = {9};
    ErlDrvPort node = open_node();
    char dir[PATH_MAX];

    (void)tmpdir_path(state, "keys", dir);
    file_args(dir, "a@h");
    refused(node, OP_TRUST_LOOKUP, "not_found", "");
    refused(node, OP_TRUST_STORE, "badarg", ""); /* no key */
    tlv_bytes(&args, 3, key, sizeof(key));
    vm_control_ok(node, OP_TRUST_STORE_IF_NEW, args.data, args.len, &reply);
    file_args(dir, "a@h");
    tlv_bytes(&args, 3, other, sizeof(other));
    refused(node, OP_TRUST_STORE_IF_NEW, "mismatch", "");
    file_args(dir, "a@h");
    vm_control_ok(node, OP_TRUST_LOOKUP, args.data, args.len, &reply);
    assert_memory_equal(reply.data, key, sizeof(key));
    vm_control_ok(node, OP_TRUST_LIST, args.data, args.len, &reply);
    assert_int_equal(reply.len, 4 + BP_KEY_LEN);
    vm_control_ok(node, OP_TRUST_DELETE, args.data, args.len, &reply);
    refused(node, OP_TRUST_LOOKUP, "not_found", "");
    vm_control_ok(node, OP_FINGERPRINT, key, sizeof(key), &reply);
    assert_memory_equal(reply.data, "SHA256:", 7);
    vm_control(node, OP_FINGERPRINT, key, 31, &reply);
    assert_string_equal(reply.err, "badarg");
    vm_close(node);
}

/* --- garbage ------------------------------------------------------------- */

/* Every operation, in every kind of port, with bytes that mean nothing: an answer or badarg. */
static void garbage_operations_never_crash(void **state)
{
    uint64_t rng = t_seed(4711);
    struct pair p;
    uint8_t buf[300];

    pair_dial(&p, state);
    pair_handshake(&p);
    for (int round = 0; round < 40; round++) {
        ErlDrvPort fresh = vm_open("barrel_p2p_drv connect");
        ErlDrvPort targets[3] = {p.node, p.conn, fresh};

        for (unsigned op = 0; op <= 40; op++) {
            for (int t = 0; t < 3; t++) {
                size_t len = t_rand(&rng) % sizeof(buf);
                for (size_t i = 0; i < len; i++) {
                    buf[i] = (uint8_t)t_rand(&rng);
                }
                if (round % 2 == 0 && len > 3) { /* a list that is well-formed at its start */
                    buf[0] = (uint8_t)(1 + t_rand(&rng) % 18);
                    buf[1] = 0;
                    buf[2] = (uint8_t)(t_rand(&rng) % 8);
                }
                if (targets[t]->open) {
                    vm_control(targets[t], op, buf, len, &reply);
                }
            }
        }
        vm_close(fresh);
        vm_poll(0, NULL, 0);
    }
    pair_free(&p);
}

static void no_descriptors_left_is_said(void **state)
{
    uint16_t port;
    ErlDrvPort node = start_node(state, &port);
    ErlDrvPort conn = vm_open("barrel_p2p_drv connect");
    struct rlimit old;
    struct rlimit none;

    assert_non_null(conn);
    connect_args(&args, "peer@127.0.0.1", "127.0.0.1", 9);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = (struct rlimit){.rlim_cur = 3, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    vm_control(conn, OP_CONNECT, args.data, args.len, &reply);
    assert_null(vm_open("barrel_p2p_drv connect"));
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_string_equal(reply.err, "limit");
    assert_non_null(strstr((char *)reply.data, "ulimit -n"));
    vm_close(conn);
    vm_close(node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VM_TEST(listen_before_config_is_refused),
        VM_TEST(config_errors_say_what_is_wrong),
        VM_TEST(config_value_of_bad_form_is_refused),
        VM_TEST(config_cut_anywhere_never_crashes),
        VM_TEST(listen_once_per_node),
        VM_TEST(listen_port_in_use_says_so),
        VM_TEST(garbage_datagrams_cost_nothing),
        VM_TEST(log_lines_are_limited),
        VM_TEST(questions_to_dns_are_answered_by_message),
        VM_TEST(names_never_leave_their_directory),
        VM_TEST(trust_store_lookup_delete),
        VM_TEST(garbage_operations_never_crash),
        VM_TEST(no_descriptors_left_is_said),
    };

    return cmocka_run_group_tests(tests, vm_group_setup, vm_group_teardown) != 0;
}
