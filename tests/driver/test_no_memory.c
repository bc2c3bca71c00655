/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole life of a connection, with the n-th allocation failing, for every n: nothing crashes,
 * nothing leaks, and who waits for an answer gets one.
 */
#include "driver/node_util.h"

#include "base/err.h"

#define SETUP_MS 400

enum step { S_NODE, S_CONFIG, S_LISTEN, S_OPEN, S_CONNECT, S_AUTH, S_UP, S_DATA };

struct life {
    struct pair p;
    enum step reached;
    bool accept; /* the peer dials */
};

static bool config_and_listen(struct life *l, void **state)
{
    static struct tlv t;
    static struct vm_reply r;

    l->p.node = vm_open("barrel_p2p_drv node");
    if (l->p.node == NULL) {
        return false;
    }
    l->reached = S_CONFIG;
    good_config(&t, state);
    vm_control(l->p.node, OP_CONFIG, t.data, t.len, &r);
    if (!r.ok) {
        return false;
    }
    l->reached = S_LISTEN;
    vm_control(l->p.node, OP_LISTEN, NULL, 0, &r);
    if (!r.ok) {
        return false;
    }
    l->p.udp_port = (uint16_t)(r.data[0] << 8 | r.data[1]);
    return true;
}

static bool settled(void *ctx)
{
    const struct life *l = ctx;

    return vm_find(l->p.conn, "authenticated") != NULL || vm_find(l->p.conn, "failed") != NULL;
}

static bool dial(struct life *l)
{
    static struct tlv t;
    static struct vm_reply r;

    l->reached = S_OPEN;
    l->p.conn = vm_open("barrel_p2p_drv connect");
    if (l->p.conn == NULL) {
        return false;
    }
    l->reached = S_CONNECT;
    t.len = 0;
    tlv_text(&t, 1, l->p.peer.name);
    tlv_text(&t, 2, "127.0.0.1");
    tlv_uint(&t, 3, peer_port(&l->p.peer), 2);
    tlv_uint(&t, 4, SETUP_MS, 4);
    vm_control(l->p.conn, OP_CONNECT, t.data, t.len, &r);
    if (!r.ok) {
        return false;
    }
    l->reached = S_AUTH;
    /* Within the setup time: an answer is owed, whatever happened. */
    if (!run_until(l->p.peers, 1, settled, l, SETUP_MS + 2000)) {
        fail_msg("the dialler hears nothing");
    }
    return vm_find(l->p.conn, "authenticated") != NULL;
}

static bool offered_or_over(void *ctx)
{
    const struct life *l = ctx;

    return vm_find(NULL, "incoming") != NULL || l->p.peer.failed;
}

static bool heard_ok_or_over(void *ctx)
{
    const struct life *l = ctx;

    return !l->p.conn->open || l->p.peer.failed || l->p.peer.authenticated;
}

static bool accept_peer(struct life *l)
{
    static struct vm_reply r;
    char command[64];
    unsigned id;
    uint8_t be[4];

    l->reached = S_AUTH;
    peer_dial(&l->p.peer, l->p.udp_port, node_name());
    (void)run_until(l->p.peers, 1, offered_or_over, l, SETUP_MS);
    if (vm_find(NULL, "incoming") == NULL) {
        return false; /* the peer's retransmissions would come later than this */
    }
    id = (unsigned)strtoul(vm_find(NULL, "incoming") + 8, NULL, 10);
    for (unsigned i = 0; i < 4; i++) {
        be[i] = (uint8_t)(id >> (24 - 8 * i));
    }
    vm_control(l->p.node, OP_DETACH, be, sizeof(be), &r);
    if (!r.ok) {
        return false;
    }
    snprintf(command, sizeof(command), "barrel_p2p_drv attach %u", id);
    l->p.conn = vm_open(command);
    return l->p.conn != NULL && run_until(l->p.peers, 1, heard_ok_or_over, l, SETUP_MS) &&
           l->p.conn->open && !l->p.peer.failed;
}

static bool got_all(void *ctx)
{
    const struct life *l = ctx;

    return !l->p.conn->open || l->p.peer.failed ||
           (l->p.peer.rx_len >= 100000 && l->p.conn->rx_len >= 100000);
}

/* --- the distribution handshake, as long as both sides live --------------- */

static bool vm_has_hs(void *ctx)
{
    const struct life *l = ctx;

    return !l->p.conn->open || vm_find(l->p.conn, "hs ") != NULL ||
           vm_find(l->p.conn, "failed") != NULL;
}

static bool vm_hears(struct life *l)
{
    static struct vm_reply r;

    vm_forget(l->p.conn);
    vm_control(l->p.conn, OP_RECV, NULL, 0, &r);
    if (!r.ok) {
        return false;
    }
    if (r.data[0] == 1) {
        return true;
    }
    if (!run_until(l->p.peers, 1, vm_has_hs, l, SETUP_MS + 2000)) {
        fail_msg("who waits for a handshake message hears nothing");
    }
    return l->p.conn->open && vm_find(l->p.conn, "hs ") != NULL;
}

static bool peer_has_hs(void *ctx)
{
    struct life *l = ctx;
    const uint8_t *msg;
    size_t len;

    return l->p.peer.failed || bp_link_hs_recv(l->p.peer.link, &msg, &len) != 0;
}

static bool peer_hears(struct life *l)
{
    return run_until(l->p.peers, 1, peer_has_hs, l, 2000) && !l->p.peer.failed;
}

static bool peer_says(struct life *l, const void *msg, size_t len)
{
    return !l->p.peer.failed && bp_link_hs_send(l->p.peer.link, msg, len) == 0;
}

static bool handshake(struct life *l)
{
    static uint8_t last[32];
    uint8_t name[300];
    size_t n;

    if (l->accept) {
        n = name_message(name, sizeof(name), l->p.peer.name, false);
        if (!peer_says(l, name, n) || !vm_hears(l)) {
            return false;
        }
        vm_command_bytes(l->p.conn, "sok", 3);
        n = name_message(name, sizeof(name), node_name(), true);
        vm_command_bytes(l->p.conn, name, n);
        last[0] = 'r';
        if (!peer_hears(l) || !peer_hears(l) || !peer_says(l, last, 21) || !vm_hears(l)) {
            return false;
        }
        last[0] = 'a';
        vm_command_bytes(l->p.conn, last, 17);
        return peer_hears(l);
    }
    n = name_message(name, sizeof(name), node_name(), false);
    vm_command_bytes(l->p.conn, name, n);
    n = name_message(name, sizeof(name), l->p.peer.name, true);
    if (!peer_hears(l) || !peer_says(l, "sok", 3) || !peer_says(l, name, n) || !vm_hears(l) ||
        !vm_hears(l)) {
        return false;
    }
    last[0] = 'r';
    vm_command_bytes(l->p.conn, last, 21);
    last[0] = 'a';
    return peer_hears(l) && peer_says(l, last, 17) && vm_hears(l);
}

static bool data(struct life *l)
{
    static uint8_t msg[100000];
    static struct vm_reply r;
    ErlDrvBinary *bin;
    struct vm_piece piece;

    if (!handshake(l)) {
        return false;
    }
    vm_control(l->p.conn, OP_PRE_NODEUP, NULL, 0, &r);
    if (!r.ok || bp_link_up(l->p.peer.link) != 0) {
        return false;
    }
    vm_control(l->p.conn, OP_POST_NODEUP, NULL, 0, &r);
    bp_link_deliver(l->p.peer.link);
    l->reached = S_UP;
    memcpy(msg,
           "\x83\x44\x00\x68\x03\x61\x16\x58\x77\x03"
           "a@s",
           13);
    bin = vm_bin(msg, sizeof(msg));
    piece = (struct vm_piece){.bin = bin, .base = bin->orig_bytes, .len = sizeof(msg)};
    vm_command(l->p.conn, &piece, 1);
    if (!l->p.peer.failed) {
        peer_send(&l->p.peer, msg, sizeof(msg));
    }
    (void)run_until(l->p.peers, 1, got_all, l, 3000);
    driver_free_binary(bin);
    if (!l->p.conn->open || l->p.peer.failed) {
        return false;
    }
    assert_int_equal(l->p.peer.rx_len, sizeof(msg));
    assert_int_equal(l->p.conn->rx_len, sizeof(msg));
    l->reached = S_DATA;
    return true;
}

/* True if it went through to the end. */
static bool live(bool accept, void **state)
{
    struct life l = {.accept = accept};
    bool ok;

    peer_init(&l.p.peer, "peer@127.0.0.1");
    l.p.peers[0] = &l.p.peer;
    ok = config_and_listen(&l, state) && (accept ? accept_peer(&l) : dial(&l)) && data(&l);
    vm_never_fail();
    if (l.p.conn != NULL) {
        vm_close(l.p.conn);
    }
    if (l.p.node != NULL) {
        vm_close(l.p.node);
    }
    peer_free(&l.p.peer);
    vm_forget(NULL);
    return ok;
}

static void each_allocation_fails_once(bool accept, void **state)
{
    long base;
    long n = 0;
    bool done = false;

    assert_true(live(accept, state)); /* files and pools are there now */
    base = vm_live();
    for (; !done; n++) {
        bool failed;
        vm_fail_once(n);
        (void)live(accept, state);
        failed = vm_has_failed();
        assert_int_equal(vm_live_bins(), 0);
        assert_in_range(vm_live(), 0, base + 4); /* pools may have grown */
        done = !failed;
        assert_true(n < 5000);
        if (n > 120) {
            n += 2; /* the rest is data, which repeats itself */
        }
    }
    print_message("# %ld allocations\n", n);
    assert_true(n > 20);
}

static void dialling(void **state)
{
    each_allocation_fails_once(false, state);
}

static void accepting(void **state)
{
    each_allocation_fails_once(true, state);
}

static void no_memory_from_some_point_on(void **state)
{
    for (long n = 0; n < 200; n += 7) {
        vm_fail_after(n);
        (void)live(n % 2 == 0, state);
        assert_int_equal(vm_live_bins(), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VM_TEST(dialling),
        VM_TEST(accepting),
        VM_TEST(no_memory_from_some_point_on),
    };

    return cmocka_run_group_tests(tests, vm_group_setup, vm_group_teardown) != 0;
}
