/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/node_util.h"

#include "base/rw.h"

#define LONG_MS 20000

void tlv_bytes(struct tlv *t, uint8_t key, const void *p, size_t len)
{
    assert_true(sizeof(t->data) - t->len >= len + 3);
    t->data[t->len++] = key;
    t->data[t->len++] = (uint8_t)(len >> 8);
    t->data[t->len++] = (uint8_t)len;
    memcpy(t->data + t->len, p, len);
    t->len += len;
}

void tlv_text(struct tlv *t, uint8_t key, const char *text)
{
    tlv_bytes(t, key, text, strlen(text));
}

void tlv_uint(struct tlv *t, uint8_t key, uint64_t v, unsigned bytes)
{
    uint8_t be[8];

    for (unsigned i = 0; i < bytes; i++) {
        be[i] = (uint8_t)(v >> (8 * (bytes - 1 - i)));
    }
    tlv_bytes(t, key, be, bytes);
}

const char *node_name(void)
{
    static char name[64];

    /* A name belongs to one process of the machine. */
    snprintf(name, sizeof(name), "driver%ld@127.0.0.1", (long)getpid());
    return name;
}

void good_config(struct tlv *t, void **state)
{
    char path[PATH_MAX];

    t->len = 0;
    tlv_text(t, 1, node_name());
    tlv_text(t, 2, tmpdir_path(state, "quic/node.crt", path));
    tlv_text(t, 3, tmpdir_path(state, "quic/node.key", path));
    tlv_text(t, 4, tmpdir_path(state, "keys", path));
    tlv_uint(t, 5, 1, 1);
    tlv_text(t, 13, "127.0.0.1");
    tlv_uint(t, 30, 2000, 4); /* of preambles of streams */
    tlv_uint(t, 8, 10000, 4);
}

ErlDrvPort start_node(void **state, uint16_t *port)
{
    ErlDrvPort node = vm_open("barrel_p2p_drv node");
    struct vm_reply *r = calloc(1, sizeof(*r));
    struct tlv *t = calloc(1, sizeof(*t));

    assert_non_null(node);
    assert_non_null(r);
    assert_non_null(t);
    good_config(t, state);
    vm_control_ok(node, OP_CONFIG, t->data, t->len, r);
    vm_control_ok(node, OP_LISTEN, NULL, 0, r);
    *port = (uint16_t)(r->data[0] << 8 | r->data[1]);
    assert_int_not_equal(*port, 0);
    free(r);
    free(t);
    return node;
}

void connect_args(struct tlv *t, const char *name, const char *ip, uint16_t port)
{
    t->len = 0;
    tlv_text(t, 1, name);
    tlv_text(t, 2, ip);
    tlv_uint(t, 3, port, 2);
    tlv_uint(t, 4, 10000, 4);
}

bool pair_run(struct pair *p, bool (*done)(void *ctx), void *ctx)
{
    return run_until(p->peers, 1, done, ctx, LONG_MS);
}

struct wanted {
    ErlDrvPort port;
    const char *start;
};

static bool has_msg(void *ctx)
{
    const struct wanted *w = ctx;

    return vm_find(w->port, w->start) != NULL;
}

void await_msg(struct pair *p, ErlDrvPort port, const char *start)
{
    struct wanted w = {.port = port, .start = start};

    if (!pair_run(p, has_msg, &w)) {
        fail_msg("no message \"%s\", the first is \"%s\", the peer's error \"%s\"", start,
                 vm_find(port, "") != NULL ? vm_find(port, "") : "",
                 p->peer.link != NULL ? bp_link_error_text(p->peer.link) : "no link");
    }
}

static void pair_start(struct pair *p, void **state)
{
    memset(p, 0, sizeof(*p));
    p->peers[0] = &p->peer;
    peer_init(&p->peer, "peer@127.0.0.1");
    p->node = start_node(state, &p->udp_port);
}

static void dial(struct pair *p)
{
    struct tlv *t = calloc(1, sizeof(*t));
    struct vm_reply *r = calloc(1, sizeof(*r));
    char text[128];

    assert_non_null(t);
    assert_non_null(r);
    p->conn = vm_open("barrel_p2p_drv connect");
    assert_non_null(p->conn);
    connect_args(t, p->peer.name, "127.0.0.1", peer_port(&p->peer));
    vm_control_ok(p->conn, OP_CONNECT, t->data, t->len, r);
    snprintf(text, sizeof(text), "authenticated <%s> <SHA256:", p->peer.name);
    await_msg(p, p->conn, text);
    free(t);
    free(r);
}

/* The last word of authentication is under way to the peer when the node offers the connection. */
static bool peer_has_ok(void *ctx)
{
    const struct pair *p = ctx;

    return p->peer.authenticated || p->peer.failed;
}

void pair_dial(struct pair *p, void **state)
{
    pair_start(p, state);
    dial(p);
}

void pair_dial_more(struct pair *p, const struct pair *first, const char *peer)
{
    memset(p, 0, sizeof(*p));
    p->peers[0] = &p->peer;
    peer_init(&p->peer, peer);
    p->node = first->node;
    p->udp_port = first->udp_port;
    dial(p);
}

static void be_dialled(struct pair *p)
{
    struct vm_reply *r = calloc(1, sizeof(*r));
    const char *msg;
    unsigned id;
    uint8_t be[4];
    char command[64];

    assert_non_null(r);
    peer_dial(&p->peer, p->udp_port, node_name());
    await_msg(p, NULL, "incoming");
    peer_step(&p->peer);
    msg = vm_find(NULL, "incoming");
    id = (unsigned)strtoul(msg + strlen("incoming"), NULL, 10);
    for (unsigned i = 0; i < 4; i++) {
        be[i] = (uint8_t)(id >> (24 - 8 * i));
    }
    vm_control_ok(p->node, OP_DETACH, be, sizeof(be), r);
    snprintf(command, sizeof(command), "barrel_p2p_drv attach %u", id);
    p->conn = vm_open(command);
    assert_non_null(p->conn);
    p->peer.deaf = false;
    assert_true(pair_run(p, peer_has_ok, p));
    vm_forget(NULL);
    free(r);
}

void pair_accept(struct pair *p, void **state)
{
    pair_start(p, state);
    be_dialled(p);
}

void pair_accept_ok_lost(struct pair *p, void **state)
{
    pair_start(p, state);
    p->peer.misses_ok = true;
    be_dialled(p);
}

void pair_again(struct pair *p)
{
    bool dialled = p->peer.server;

    vm_close(p->conn);
    vm_forget(NULL);
    peer_close(&p->peer, 0);
    p->peer.authenticated = p->peer.failed = false;
    if (dialled) {
        dial(p);
    } else {
        be_dialled(p);
    }
    pair_handshake(p);
}

/* --- the distribution handshake ------------------------------------------ */

size_t name_message(uint8_t *buf, size_t cap, const char *name, bool challenge)
{
    struct bp_writer w;

    bp_writer_init(&w, buf, cap);
    bp_write_u8(&w, 'N');
    bp_write_u64(&w, 0x0000000d07df7fbdu);
    if (challenge) {
        bp_write_u32(&w, 0x01020304);
    }
    bp_write_u32(&w, 4711);
    bp_write_u16(&w, (uint16_t)strlen(name));
    bp_write_bytes(&w, name, strlen(name));
    assert_false(w.bad);
    return w.len;
}

struct peer_wait {
    struct peer *peer;
    char first;
};

static bool peer_has(void *ctx)
{
    struct peer_wait *w = ctx;
    const uint8_t *msg;
    size_t len;

    return bp_link_hs_recv(w->peer->link, &msg, &len) == 1 && msg[0] == (uint8_t)w->first;
}

static void peer_awaits(struct pair *p, char first)
{
    struct peer_wait w = {.peer = &p->peer, .first = first};

    if (!pair_run(p, peer_has, &w)) {
        fail_msg("the peer did not get '%c': %s", first, bp_link_error_text(p->peer.link));
    }
}

/* The VM may have authenticated it, and not be heard of it yet. */
static bool peer_may_speak(void *ctx)
{
    const struct peer *peer = ctx;

    return bp_link_phase(peer->link) == BP_LINK_HANDSHAKE;
}

static void peer_says(struct pair *p, const void *msg, size_t len)
{
    assert_true(pair_run(p, peer_may_speak, &p->peer));
    assert_int_equal(bp_link_hs_send(p->peer.link, msg, len), 0);
    peer_step(&p->peer);
}

static bool peer_authenticated(void *ctx)
{
    return bp_link_phase(((struct pair *)ctx)->peer.link) == BP_LINK_HANDSHAKE;
}

/* The VM asks for the next message and gets it, at once or later. */
static void vm_awaits(struct pair *p, struct vm_reply *r)
{
    vm_forget(p->conn);
    vm_control_ok(p->conn, OP_RECV, NULL, 0, r);
    if (r->data[0] == 0) {
        await_msg(p, p->conn, "hs ");
    }
}

void pair_handshake(struct pair *p)
{
    struct vm_reply *r = calloc(1, sizeof(*r));
    uint8_t buf[300] = {0};
    size_t n;

    assert_non_null(r);
    if (p->peer.server) { /* the VM has dialled */
        n = name_message(buf, sizeof(buf), node_name(), false);
        vm_command_bytes(p->conn, buf, n);
        peer_awaits(p, 'N');
        peer_says(p, "sok", 3);
        n = name_message(buf, sizeof(buf), p->peer.name, true);
        peer_says(p, buf, n);
        vm_awaits(p, r);
        vm_awaits(p, r);
        buf[0] = 'r';
        vm_command_bytes(p->conn, buf, 21);
        peer_awaits(p, 'r');
        buf[0] = 'a';
        peer_says(p, buf, 17);
        vm_awaits(p, r);
    } else {
        assert_true(pair_run(p, peer_authenticated, p)); /* which the VM was of it, earlier */
        n = name_message(buf, sizeof(buf), p->peer.name, false);
        peer_says(p, buf, n);
        vm_awaits(p, r);
        vm_command_bytes(p->conn, "sok", 3);
        n = name_message(buf, sizeof(buf), node_name(), true);
        vm_command_bytes(p->conn, buf, n);
        peer_awaits(p, 's');
        peer_awaits(p, 'N');
        buf[0] = 'r';
        peer_says(p, buf, 21);
        vm_awaits(p, r);
        buf[0] = 'a';
        vm_command_bytes(p->conn, buf, 17);
        peer_awaits(p, 'a');
    }
    assert_int_equal(bp_link_up(p->peer.link), 0);
    bp_link_deliver(p->peer.link);
    vm_control_ok(p->conn, OP_PRE_NODEUP, NULL, 0, r);
    vm_control_ok(p->conn, OP_POST_NODEUP, NULL, 0, r);
    vm_forget(p->conn);
    free(r);
}

static uint64_t port_stat(ErlDrvPort port, unsigned op, const char *name)
{
    struct vm_reply *r = calloc(1, sizeof(*r));
    const uint8_t *at;
    uint64_t v;

    assert_non_null(r);
    vm_control_ok(port, op, NULL, 0, r);
    at = memmem(r->data, r->len, name, strlen(name));
    assert_non_null(at);
    v = 0;
    for (unsigned i = 0; i < 8; i++) {
        v = v << 8 | at[strlen(name) + i];
    }
    free(r);
    return v;
}

uint64_t pair_conn_stat(const struct pair *p, const char *name)
{
    return port_stat(p->conn, OP_CONN_STATS, name);
}

uint64_t pair_node_stat(const struct pair *p, const char *name)
{
    return port_stat(p->node, OP_STATS, name);
}

void pair_free(struct pair *p)
{
    if (p->conn != NULL) {
        vm_close(p->conn);
    }
    vm_close(p->node);
    peer_free(&p->peer);
    vm_forget(NULL);
}
