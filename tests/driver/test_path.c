/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that move from path to path: what a path that was left has to say. */
#include "driver/node_util.h"

#include "base/rw.h"
#include "quic/conn_path.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

static struct drv_conn *conn_of(const struct pair *p)
{
    return ((struct drv_conn_port *)(void *)p->conn->data)->conn;
}

static struct bp_conn_stats stats_of(const struct pair *p)
{
    struct bp_conn_stats st;

    bp_conn_stats(bp_link_conn(conn_of(p)->link), &st);
    return st;
}

static bool in_use(const struct pair *p)
{
    const struct drv_conn *c = conn_of(p);

    return bp_conn_path_in_use(bp_link_conn(c->link), &c->peer, &c->local);
}

static size_t message(uint8_t *buf, size_t cap)
{
    static const uint8_t head[] = "\x83\x44\x00\x68\x03\x61\x16\x58\x77\x03"
                                  "a@s\0\0\0\x07\0\0\0\0\0\0\0\x01\x77\x01y";
    struct bp_writer w;

    bp_writer_init(&w, buf, cap);
    bp_write_bytes(&w, head, sizeof(head) - 1);
    assert_false(w.bad);
    return w.len;
}

static bool vm_got_it(void *ctx)
{
    const struct pair *p = ctx;

    return p->conn->n_frames > 0;
}

static bool peer_got_it(void *ctx)
{
    const struct pair *p = ctx;

    return p->peer.n_frames > 0;
}

static bool has_failed(void *ctx)
{
    return ((struct pair *)ctx)->conn->failed[0] != '\0';
}

/* A socket of the peer's at 127.0.0.1:`port` (0: any), which takes only what comes from `from` if
 * that is not 0. */
static int peer_socket(uint16_t port, uint16_t from)
{
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    if (from != 0) {
        at.sin_port = htons(from);
        assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    }
    return fd;
}

/* More refusals of what had been sent over the socket in use, over a longer time, than a connection
 * with a silent peer survives (drv_conn_refused); not so long that QUIC gives up a new path. */
static void refused_for_long(struct pair *p)
{
    bp_time until = drv_now() + 3 * stats_of(p).pto / 2;

    for (int i = 0; i < 8 || drv_now() < until; i++) {
        while (send(conn_of(p)->fd, "", 1, 0) < 0) { /* ECONNREFUSED, of the one before */
        }
        if (run_until(p->peers, 1, has_failed, p, 10)) {
            return; /* the connection is gone */
        }
    }
}

static void still_talks(struct pair *p)
{
    uint8_t msg[64];
    size_t len = message(msg, sizeof(msg));

    p->peer.n_frames = 0;
    p->peer.silent = false;
    vm_command_bytes(p->conn, msg, len);
    assert_true(pair_run(p, peer_got_it, p));
    assert_string_equal(p->conn->failed, "");
}

/* The peer has another address and is slow to answer there. What it refuses at its old one says
 * only that it has left. */
static void peer_moves_its_old_port_refuses(void **state)
{
    struct pair p;
    uint8_t msg[64];
    size_t len = message(msg, sizeof(msg));
    int old;

    pair_accept(&p, state);
    pair_handshake(&p);
    old = p.peer.fd;
    p.peer.fd = peer_socket(0, 0);
    peer_send(&p.peer, msg, len);
    peer_step(&p.peer);
    p.peer.silent = true;
    assert_true(pair_run(&p, vm_got_it, &p));
    assert_int_equal(close(old), 0);
    assert_false(in_use(&p)); /* not validated, so that the socket is the old path's yet */
    refused_for_long(&p);
    assert_string_equal(p.conn->failed, "");
    still_talks(&p);
    pair_free(&p);
}

/* The same where the peer stays: then it counts. */
static void peer_is_gone_its_port_refuses(void **state)
{
    struct pair p;

    pair_accept(&p, state);
    pair_handshake(&p);
    p.peer.silent = true;
    assert_int_equal(close(p.peer.fd), 0);
    assert_true(in_use(&p));
    refused_for_long(&p);
    assert_string_equal(p.conn->failed, "econnrefused");
    p.peer.fd = peer_socket(0, 0);
    pair_free(&p);
}

static bool on_next_path(void *ctx)
{
    return !in_use(ctx);
}

static bool dead_path(void *ctx)
{
    return stats_of(ctx).in_recovery;
}

/* The driver has left a dead path before the answer on the new one came; only the old one refuses.
 */
static void driver_moves_its_old_path_refuses(void **state)
{
    struct tlv *t = calloc(1, sizeof(*t));
    struct vm_reply *r = calloc(1, sizeof(*r));
    struct pair p;
    uint8_t msg[64];
    size_t len = message(msg, sizeof(msg));
    uint16_t port;
    int probe = peer_socket(0, 0);
    struct sockaddr_in at;
    socklen_t at_len = sizeof(at);

    assert_non_null(t);
    assert_non_null(r);
    assert_int_equal(getsockname(probe, (struct sockaddr *)&at, &at_len), 0);
    port = ntohs(at.sin_port); /* free, for the new path */
    pair_dial(&p, state);
    pair_handshake(&p);
    p.peer.silent = true;
    vm_command_bytes(p.conn, msg, len);
    assert_true(pair_run(&p, dead_path, &p));
    assert_int_equal(close(probe), 0);
    tlv_text(t, 1, "127.0.0.1");
    tlv_uint(t, 2, port, 2);
    tlv_uint(t, 3, 20000, 4);
    tlv_uint(t, 4, 1, 8);
    vm_control_ok(p.conn, OP_MIGRATE, t->data, t->len, r);
    assert_true(pair_run(&p, on_next_path, &p));
    assert_int_equal(close(p.peer.fd), 0);
    p.peer.fd = peer_socket(peer_port(&p.peer), port);
    refused_for_long(&p);
    assert_string_equal(p.conn->failed, "");
    still_talks(&p);
    pair_free(&p);
    free(t);
    free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VM_TEST(peer_moves_its_old_port_refuses),
        VM_TEST(peer_is_gone_its_port_refuses),
        VM_TEST(driver_moves_its_old_path_refuses),
    };

    return cmocka_run_group_tests(tests, vm_group_setup, vm_group_teardown) != 0;
}
