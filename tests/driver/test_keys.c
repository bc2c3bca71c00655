/* SPDX-License-Identifier: Apache-2.0 */
/* Pins that change while a connection is being set up, and the operations on the node's own keys.
 */
#include "driver/node_util.h"

#include "base/err.h"

static struct tlv args;
static struct vm_reply reply;

/* --- pins ---------------------------------------------------------------- */

/* The peer's key is pinned, and a new connection to it is authenticated. */
static void dial_pinned(struct pair *p, void **state)
{
    pair_dial(p, state);
    pair_handshake(p);
    vm_close(p->conn);
    peer_close(&p->peer, 0);
    p->conn = vm_open("barrel_p2p_drv connect");
    assert_non_null(p->conn);
    connect_args(&args, p->peer.name, "127.0.0.1", peer_port(&p->peer));
    vm_control_ok(p->conn, OP_CONNECT, args.data, args.len, &reply);
    await_msg(p, p->conn, "authenticated <peer@127.0.0.1> <SHA256:");
}

static const char *pin_file(void **state, char out[static PATH_MAX])
{
    return tmpdir_path(state, "keys/trusted/peer@127.0.0.1.pub", out);
}

static void refused_at_nodeup(struct pair *p)
{
    vm_control(p->conn, OP_PRE_NODEUP, NULL, 0, &reply);
    assert_false(reply.ok);
    assert_string_equal(reply.err, "key_mismatch");
    assert_non_null(strstr((char *)reply.data, "changed or removed meanwhile"));
}

static void pin_unchanged_connection_comes_up(void **state)
{
    struct pair p;
    char file[PATH_MAX];

    dial_pinned(&p, state);
    assert_int_equal(access(pin_file(state, file), F_OK), 0);
    vm_control_ok(p.conn, OP_PRE_NODEUP, NULL, 0, &reply);
    pair_free(&p);
}

/* Revocation counts until the last moment. */
static void pin_removed_after_authentication_refused(void **state)
{
    struct pair p;
    char file[PATH_MAX];

    dial_pinned(&p, state);
    assert_int_equal(unlink(pin_file(state, file)), 0);
    refused_at_nodeup(&p);
    assert_int_equal(access(file, F_OK), -1); /* and it is not pinned again */
    pair_free(&p);
}

static void pin_changed_after_authentication_refused(void **state)
{
    uint8_t other[BP_KEY_LEN] = {1};
    uint8_t now[BP_KEY_LEN];
    struct pair p;
    char file[PATH_MAX];

    dial_pinned(&p, state);
    tmpdir_put(pin_file(state, file), other, sizeof(other));
    refused_at_nodeup(&p);
    assert_int_equal(tmpdir_get(file, now, sizeof(now)), sizeof(now));
    assert_memory_equal(now, other, sizeof(now));
    pair_free(&p);
}

/* --- operations ---------------------------------------------------------- */

static ErlDrvPort open_node(void)
{
    ErlDrvPort node = vm_open("barrel_p2p_drv node");

    assert_non_null(node);
    return node;
}

static void badarg(ErlDrvPort node, unsigned op)
{
    vm_control(node, op, args.data, args.len, &reply);
    assert_string_equal(reply.err, "badarg");
}

static void signatures_made_and_verified(void **state)
{
    ErlDrvPort node = open_node();
    uint8_t pub[BP_KEY_LEN];
    uint8_t seed[BP_KEY_LEN];
    uint8_t sig[BP_SIG_LEN];

    (void)state;
    vm_control_ok(node, OP_KEYPAIR_NEW, NULL, 0, &reply);
    assert_int_equal(reply.len, 64);
    memcpy(pub, reply.data, sizeof(pub));
    memcpy(seed, reply.data + 32, sizeof(seed));
    args.len = 0;
    badarg(node, OP_PUBLIC_KEY);
    tlv_bytes(&args, 1, seed, sizeof(seed));
    vm_control_ok(node, OP_PUBLIC_KEY, args.data, args.len, &reply);
    assert_memory_equal(reply.data, pub, sizeof(pub));
    badarg(node, OP_SIGN); /* nothing to sign */
    tlv_text(&args, 2, "message");
    vm_control_ok(node, OP_SIGN, args.data, args.len, &reply);
    assert_int_equal(reply.len, sizeof(sig));
    memcpy(sig, reply.data, sizeof(sig));
    for (int i = 0; i < 2; i++) {
        args.len = 0;
        tlv_bytes(&args, 1, pub, sizeof(pub));
        tlv_text(&args, 2, i == 0 ? "message" : "Message");
        badarg(node, OP_VERIFY);
        tlv_bytes(&args, 3, sig, sizeof(sig));
        vm_control_ok(node, OP_VERIFY, args.data, args.len, &reply);
        assert_int_equal(reply.data[0], i == 0);
    }
    vm_close(node);
}

static void random_bytes_have_a_limit(void **state)
{
    static const unsigned good[] = {1, 32, 1024};
    static const unsigned bad[] = {0, 1025, 65535};
    ErlDrvPort node = open_node();

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        args.len = 0;
        tlv_uint(&args, 1, good[i], 2);
        vm_control_ok(node, OP_RANDOM, args.data, args.len, &reply);
        assert_int_equal(reply.len, good[i]);
        args.len = 0;
        tlv_uint(&args, 1, bad[i], 2);
        badarg(node, OP_RANDOM);
    }
    vm_close(node);
}

/* New settings with the new pair; connections keep what they began with. */
static void rotated_certificate_counts_after_config(void **state)
{
    uint8_t before[BP_BINDING_LEN];
    char cert[PATH_MAX];
    char key[PATH_MAX];
    uint16_t port;
    ErlDrvPort node = open_node();

    args.len = 0;
    vm_control(node, OP_SERVER_BINDING, NULL, 0, &reply);
    assert_string_equal(reply.err, "bad_state");
    vm_close(node);
    node = start_node(state, &port);
    vm_control_ok(node, OP_SERVER_BINDING, NULL, 0, &reply);
    memcpy(before, reply.data, sizeof(before));
    tlv_text(&args, 1, tmpdir_path(state, "quic/node.crt", cert));
    badarg(node, OP_ROTATE_CERT);
    badarg(node, OP_CERT_INFO);
    tlv_text(&args, 2, tmpdir_path(state, "quic/node.key", key));
    vm_control_ok(node, OP_CERT_INFO, args.data, args.len, &reply);
    assert_int_equal(reply.len, 32 + 8 + 8 + 1);
    assert_memory_equal(reply.data, before, sizeof(before));
    assert_int_equal(reply.data[48], 1);
    tlv_text(&args, 3, node_name());
    vm_control_ok(node, OP_ROTATE_CERT, args.data, args.len, &reply);
    assert_non_null(strstr((char *)reply.data, "/quic/backups/"));
    vm_control_ok(node, OP_SERVER_BINDING, NULL, 0, &reply);
    assert_memory_equal(reply.data, before, sizeof(before));
    good_config(&args, state);
    vm_control_ok(node, OP_CONFIG, args.data, args.len, &reply);
    vm_control_ok(node, OP_SERVER_BINDING, NULL, 0, &reply);
    assert_memory_not_equal(reply.data, before, sizeof(before));
    vm_close(node);
}

static void cert_info_makes_nothing(void **state)
{
    ErlDrvPort node = open_node();
    char path[PATH_MAX];

    args.len = 0;
    tlv_text(&args, 1, tmpdir_path(state, "none/node.crt", path));
    tlv_text(&args, 2, tmpdir_path(state, "none/node.key", path));
    vm_control(node, OP_CERT_INFO, args.data, args.len, &reply);
    assert_string_equal(reply.err, "file_error");
    assert_non_null(strstr((char *)reply.data, "none/node.crt"));
    assert_int_equal(tmpdir_count(tmpdir_path(state, "", path)), 0);
    vm_close(node);
}

/* Arguments cut anywhere, and bytes that mean nothing: an answer or badarg. */
static void key_operations_survive_garbage(void **state)
{
    uint64_t rng = t_seed(815);
    ErlDrvPort node = open_node();
    char dir[PATH_MAX];
    char cwd[PATH_MAX];

    /* names that garbage makes up are relative */
    assert_non_null(getcwd(cwd, sizeof(cwd)));
    assert_int_equal(chdir(tmpdir_path(state, "", dir)), 0);
    for (unsigned op = OP_CERT_INFO; op <= OP_NAME_MATCH; op++) {
        args.len = 0;
        tlv_text(&args, 1, "a");
        tlv_text(&args, 2, "b@h");
        tlv_uint(&args, 3, 1, 1);
        for (size_t len = 0; len <= args.len; len++) {
            vm_control(node, op, args.data, len, &reply);
        }
        for (int round = 0; round < 20; round++) {
            uint8_t buf[100];
            size_t len = t_rand(&rng) % sizeof(buf);
            for (size_t i = 0; i < len; i++) {
                buf[i] = (uint8_t)t_rand(&rng);
            }
            if (len > 3) {
                buf[0] = (uint8_t)(1 + t_rand(&rng) % 4);
                buf[1] = 0;
                buf[2] = (uint8_t)(t_rand(&rng) % 8);
            }
            vm_control(node, op, buf, len, &reply);
        }
    }
    assert_int_equal(chdir(cwd), 0);
    vm_close(node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VM_TEST(pin_unchanged_connection_comes_up),
        VM_TEST(pin_removed_after_authentication_refused),
        VM_TEST(pin_changed_after_authentication_refused),
        VM_TEST(signatures_made_and_verified),
        VM_TEST(random_bytes_have_a_limit),
        VM_TEST(rotated_certificate_counts_after_config),
        VM_TEST(cert_info_makes_nothing),
        VM_TEST(key_operations_survive_garbage),
    };

    return cmocka_run_group_tests(tests, vm_group_setup, vm_group_teardown) != 0;
}
