/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of relays share: two nodes, messages in both directions, and a relay of functions. */
#ifndef BP_TESTS_CNODE_RELAY_SIDE_H
#define BP_TESTS_CNODE_RELAY_SIDE_H

#include "cnode/relays.h"
#include "cnode/rig.h"

#include "barrel_p2p/relay.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

static inline void pair(struct rig *r, void **state, bool threads, struct rig_node **a,
                        struct rig_node **b)
{
    void (*start)(struct rig_node * x, bool listen) = threads ? rig_start_thread : rig_start;

    *r = (struct rig){.state = state};
    *b = rig_node(r, NAME_B);
    start(*b, true);
    *a = rig_node(r, NAME_A);
    rig_knows(*a, *b);
    start(*a, false);
}

static inline struct bp_relay udp(uint16_t port)
{
    return (struct bp_relay){
        .size = sizeof(struct bp_relay), .kind = BP_RELAY_UDP, .host = "127.0.0.1", .port = port};
}

static inline bp_peer_id dial(struct rig_node *a, const char *name, const struct bp_relay *relay)
{
    struct bp_dial d = {.relay = relay};
    bp_peer_id id;

    if (bp_node_dial_with(a->n, name, &d, sizeof(d), &id) != 0) {
        fail_msg("%s", bp_error_detail());
    }
    return id;
}

static inline void expect_up(struct rig *r, struct rig_node *a, struct rig_node *b, bp_peer_id id)
{
    const struct bp_event *ev = rig_expect(r, a, BP_EVENT_UP);

    assert_true(ev->peer == id);
    assert_string_equal(rig_expect(r, b, BP_EVENT_UP)->name, bp_node_name(a->n));
}

/* From `a` to `b` through a forwarder that is opened: up on both sides. */
static inline bp_peer_id up_through(struct rig *r, struct rig_node *a, struct rig_node *b,
                                    struct forwarder *f)
{
    struct bp_relay relay;
    bp_peer_id id;

    forwarder_open(f, b->port);
    relay = udp(f->port);
    id = dial(a, NAME_B, &relay);
    expect_up(r, a, b, id);
    return id;
}

static inline void expect_relay(const struct rig_node *a, bp_peer_id id, const char *begins)
{
    struct bp_peer_info info;

    assert_int_equal(bp_node_peer_info(a->n, id, &info, sizeof(info)), 0);
    if (begins == NULL) {
        assert_string_equal(info.relay, "");
    } else {
        assert_true(strncmp(info.relay, begins, strlen(begins)) == 0);
    }
}

/* A thousand messages in each direction, of up to 20 KB. */
struct load {
    struct rig_node *a;
    struct rig_node *b;
    bp_peer_id ab;
    bp_peer_id ba;
    unsigned sent_a;
    unsigned sent_b;
};

#define LOAD 1000u

static inline void push(struct rig_node *x, bp_peer_id id, unsigned *sent)
{
    static const uint8_t bytes[20000];

    while (*sent < LOAD && rig_send(x, id, bytes, 1 + *sent * 37 % sizeof(bytes)) == 0) {
        (*sent)++;
    }
}

static inline bool loaded(void *ctx)
{
    struct load *l = ctx;

    push(l->a, l->ab, &l->sent_a);
    push(l->b, l->ba, &l->sent_b);
    return l->a->messages >= LOAD && l->b->messages >= LOAD;
}

static inline void load(struct rig *r, struct rig_node *a, struct rig_node *b, bp_peer_id id)
{
    struct load l = {.a = a, .b = b, .ab = id, .ba = bp_node_find_peer(b->n, bp_node_name(a->n))};

    a->messages = b->messages = 0;
    a->count_only = b->count_only = true;
    rig_until(r, loaded, &l);
}

static inline void close_both(struct rig *r, struct rig_node *a, struct rig_node *b, bp_peer_id id)
{
    assert_int_equal(bp_node_close(a->n, id), 0);
    assert_int_equal(rig_expect(r, a, BP_EVENT_DOWN)->error, BP_ERROR_LOCAL_CLOSE);
    assert_int_equal(rig_expect(r, b, BP_EVENT_DOWN)->error, BP_ERROR_PEER_CLOSED);
}

/* The program's relay: a UDP socket towards b and a thread that reads it. */
struct mine {
    pthread_mutex_t lock;
    struct bp_relay_end *end; /* NULL: no path */
    int fd;
    int stop;
    pthread_t thread;
    uint16_t to;
    unsigned opened;
    unsigned closed;
    unsigned full; /* times that there was no room */
    unsigned taken;
    bool was_full;
    _Atomic bool picky; /* has no room for every tenth at first */
    int refuse;         /* what open says */
};

static inline int mine_open(void *ctx, struct bp_relay_end *end, const char *node, const char *ip,
                            uint16_t port)
{
    struct mine *m = ctx;

    assert_string_equal(node, NAME_B);
    assert_true(strcmp(ip, "127.0.0.1") == 0 && port == m->to);
    (void)pthread_mutex_lock(&m->lock);
    m->end = m->refuse == 0 ? end : NULL;
    m->opened++;
    (void)pthread_mutex_unlock(&m->lock);
    return m->refuse;
}

static inline int mine_send(void *ctx, struct bp_relay_end *end, const void *datagram, size_t len)
{
    struct mine *m = ctx;
    int rc = 0;

    (void)pthread_mutex_lock(&m->lock);
    assert_true(end == m->end);
    if (m->picky && m->taken % 10 == 9 && !m->was_full) {
        m->was_full = true;
        m->full++;
        rc = BP_ERROR_AGAIN; /* the thread says when there is room */
    } else {
        m->was_full = false;
        m->taken++;
        (void)send(m->fd, datagram, len, 0);
    }
    (void)pthread_mutex_unlock(&m->lock);
    return rc;
}

static inline void mine_close(void *ctx, struct bp_relay_end *end)
{
    struct mine *m = ctx;

    (void)pthread_mutex_lock(&m->lock);
    assert_true(end == m->end);
    m->end = NULL;
    m->closed++;
    (void)pthread_mutex_unlock(&m->lock);
}

static inline void *mine_read(void *arg)
{
    static _Thread_local uint8_t buf[65536];
    struct mine *m = arg;

    for (;;) {
        struct pollfd p[] = {{.fd = m->fd, .events = POLLIN}, {.fd = m->stop, .events = POLLIN}};
        ssize_t n = 0;

        if (poll(p, 2, 1) < 0 || p[1].revents != 0) {
            return NULL;
        }
        if (p[0].revents != 0) {
            n = recv(m->fd, buf, sizeof(buf), MSG_DONTWAIT);
        }
        (void)pthread_mutex_lock(&m->lock);
        if (m->end != NULL && n > 0) {
            (void)bp_relay_feed(m->end, buf, (size_t)n);
        }
        if (m->end != NULL && m->was_full) {
            bp_relay_room(m->end);
        }
        (void)pthread_mutex_unlock(&m->lock);
    }
}

static const struct bp_relay_functions mine_functions = {
    .open = mine_open, .send = mine_send, .close = mine_close};

static inline void mine_start(struct mine *m, uint16_t to)
{
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons(to), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int size = 4000000;

    *m = (struct mine){.to = to};
    assert_int_equal(pthread_mutex_init(&m->lock, NULL), 0);
    m->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    (void)setsockopt(m->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    assert_int_equal(connect(m->fd, (struct sockaddr *)&at, sizeof(at)), 0);
    m->stop = socket(AF_INET, SOCK_DGRAM, 0);
    assert_int_equal(connect(m->stop, (struct sockaddr *)&at, sizeof(at)), 0);
    (void)shutdown(m->stop, SHUT_WR);
    assert_int_equal(pthread_create(&m->thread, NULL, mine_read, m), 0);
}

static inline void mine_stop(struct mine *m)
{
    (void)shutdown(m->stop, SHUT_RDWR);
    assert_int_equal(pthread_join(m->thread, NULL), 0);
    (void)close(m->fd);
    (void)close(m->stop);
    (void)pthread_mutex_destroy(&m->lock);
}

#endif
