/* SPDX-License-Identifier: Apache-2.0 */
/* C nodes that move their connections to other paths while messages flow. */
#include "cnode/relay_side.h"

#include "cnode/cn.h"
#include "quic/conn_path.h"

/* Messages in both directions until the move has ended; its result. */
struct moving {
    struct load l;
    struct rig_node *who;
    size_t from; /* events that were there before */
    int error;
};

static bool moved(void *ctx)
{
    struct moving *m = ctx;

    (void)loaded(&m->l);
    for (size_t i = m->from; i < m->who->n_events; i++) {
        if (m->who->events[i].ev.kind == BP_EVENT_MOVED) {
            m->error = m->who->events[i].ev.error;
            return true;
        }
        assert_int_not_equal(m->who->events[i].ev.kind, BP_EVENT_DOWN);
    }
    return false;
}

static int move(struct rig *r, struct rig_node *a, struct rig_node *b, bp_peer_id id,
                struct rig_node *who, const struct bp_migrate *how)
{
    struct moving m = {
        .l = {.a = a, .b = b, .ab = id, .ba = bp_node_find_peer(b->n, bp_node_name(a->n))},
        .who = who,
        .from = who->n_events};
    int rc;

    a->messages = b->messages = 0;
    a->count_only = b->count_only = true;
    (void)loaded(&m.l);
    rc = bp_node_migrate(who->n, who == a ? id : m.l.ba, how, sizeof(*how));
    if (rc != 0) {
        rig_until(r, loaded, &m.l);
        return rc;
    }
    rig_until(r, moved, &m);
    rig_until(r, loaded, &m.l);
    return m.error;
}

static void moves(void **state, bool threads)
{
    struct rig r;
    struct rig_node *a;
    struct rig_node *b;
    /* Static: when an assertion fails, their threads go on. */
    static struct forwarder one;
    static struct forwarder two;
    static struct forwarder tunnel;
    static struct mine m;
    struct bp_peer_info info;
    struct bp_relay relays[4] = {{0},
                                 {0},
                                 {.size = sizeof(struct bp_relay), .kind = BP_RELAY_FD},
                                 {.size = sizeof(struct bp_relay),
                                  .kind = BP_RELAY_FUNCTIONS,
                                  .functions = &mine_functions,
                                  .ctx = &m}};
    static const char *const names[] = {"relay 127.0.0.1:", "relay 127.0.0.1:", "descriptor ",
                                        "the program's relay"};
    static const int order[] = {0, 1, 2, 3, -1, 1, -1, -1, 0, 3};
    bp_peer_id id;

    pair(&r, state, threads, &a, &b);
    forwarder_open(&one, b->port);
    forwarder_open(&two, b->port);
    mine_start(&m, b->port);
    relays[0] = udp(one.port);
    relays[1] = udp(two.port);
    relays[1].mtu = 1300;
    relays[2].fd = forwarder_open_pair(&tunnel, b->port);
    id = rig_connect(&r, a, b); /* from the node's socket */
    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        struct bp_migrate how = {.direct = order[i] < 0, .timeout_ms = 20000};
        if (order[i] >= 0) {
            how.relay = &relays[order[i]];
        }
        assert_int_equal(move(&r, a, b, id, a, &how), 0);
        expect_relay(a, id, order[i] < 0 ? NULL : names[order[i]]);
    }
    assert_int_equal(bp_node_peer_info(a->n, id, &info, sizeof(info)), 0);
    assert_int_equal(info.migrations, 10);
    assert_false(info.moving);
    assert_true(one.moved > 100 && two.moved > 100 && tunnel.moved > 100 && m.taken > 10);
    assert_true(two.largest <= 1300);
    close_both(&r, a, b, id);
    rig_end(&r);
    assert_int_equal(m.opened, m.closed);
    (void)close(relays[2].fd);
    forwarder_close(&one);
    forwarder_close(&two);
    forwarder_close(&tunnel);
    mine_stop(&m);
}

static void moves_loop(void **state)
{
    moves(state, false);
}

static void moves_thread(void **state)
{
    moves(state, true);
}

struct at_rest {
    const struct rig_node *x;
    bp_peer_id id;
};

static bool rests(void *ctx)
{
    const struct at_rest *w = ctx;
    struct bp_peer_info info;

    assert_int_equal(bp_node_peer_info(w->x->n, w->id, &info, sizeof(info)), 0);
    return !info.moving;
}

static void cannot_move(void **state)
{
    struct rig r;
    struct rig_node *a;
    struct rig_node *b;
    static struct forwarder f;
    struct bp_relay relay;
    struct bp_relay proxy = {
        .size = sizeof(proxy), .kind = BP_RELAY_SOCKS5, .host = "127.0.0.1", .port = 1};
    struct bp_migrate how = {.relay = &relay, .timeout_ms = 500};
    struct bp_migrate plain = {0};
    bp_peer_id id;
    bp_peer_id other;

    pair(&r, state, false, &a, &b);
    forwarder_open(&f, 9); /* to nobody */
    relay = udp(f.port);
    id = rig_connect(&r, a, b);
    other = bp_node_find_peer(b->n, NAME_A);
    /* nobody answers there: the connection stays where it is */
    assert_int_equal(move(&r, a, b, id, a, &how), BP_ERROR_TIMEOUT);
    expect_relay(a, id, NULL);
    /* a proxy that is not there; two at once; the side that was dialled */
    how.relay = &proxy;
    assert_int_equal(move(&r, a, b, id, a, &how), BP_ERROR_RELAY);
    how.relay = &relay;
    assert_int_equal(bp_node_migrate(a->n, id, &how, sizeof(how)), 0);
    assert_int_equal(bp_node_migrate(a->n, id, &how, sizeof(how)), BP_ERROR_BUSY);
    assert_non_null(strstr(bp_error_detail(), NAME_B));
    assert_int_equal(rig_expect(&r, a, BP_EVENT_MOVED)->error, BP_ERROR_TIMEOUT);
    assert_int_equal(bp_node_migrate(b->n, other, &how, sizeof(how)), BP_ERROR_NOT_DIALLER);
    /* the dialler is asked, and moves it when it is back from where nobody was */
    rig_until(&r, rests, &(struct at_rest){a, id});
    assert_int_equal(move(&r, a, b, id, b, &plain), 0);
    rig_until(&r, rests, &(struct at_rest){a, id});
    assert_int_equal(move(&r, a, b, id, a, &plain), 0);
    assert_int_equal(bp_node_migrate(a->n, 999, &plain, sizeof(plain)), BP_ERROR_NOT_FOUND);
    how.direct = true;
    assert_int_equal(bp_node_migrate(a->n, id, &how, sizeof(how)), BP_ERROR_INVALID);
    /* ends while it is being moved */
    how.direct = false;
    assert_int_equal(bp_node_migrate(a->n, id, &how, sizeof(how)), 0);
    close_both(&r, a, b, id);
    rig_end(&r);
    forwarder_close(&f);
}

/* Nothing comes through any more; off it, and nothing is lost. */
static void off_a_dead_relay(void **state)
{
    struct rig r;
    struct rig_node *a;
    struct rig_node *b;
    static struct forwarder f;
    struct bp_migrate direct = {.direct = true, .timeout_ms = 20000};
    bp_peer_id id;

    pair(&r, state, true, &a, &b);
    id = up_through(&r, a, b, &f);
    load(&r, a, b, id);
    f.mute = true; /* a closed port would be said to b, which ends the connection */
    assert_int_equal(move(&r, a, b, id, a, &direct), 0);
    expect_relay(a, id, NULL);
    close_both(&r, a, b, id);
    rig_end(&r);
    forwarder_close(&f);
}

static uint16_t port_of(int fd, bool peer)
{
    struct sockaddr_in a = {0};
    socklen_t len = sizeof(a);
    int rc = peer ? getpeername(fd, (struct sockaddr *)&a, &len)
                  : getsockname(fd, (struct sockaddr *)&a, &len);

    return rc == 0 ? ntohs(a.sin_port) : 0; /* at the same place for IPv6 */
}

/* The descriptor of this process's socket with that port, or that is connected to it. */
static int socket_of(uint16_t port, bool peer)
{
    for (int fd = 3; fd < 1024; fd++) {
        if (port_of(fd, peer) == port) {
            return fd;
        }
    }
    fail_msg("no socket %s port %u", peer ? "towards" : "on", port);
    return -1;
}

static void nobody_is_down(const struct rig *r)
{
    for (unsigned i = 0; i < r->n; i++) {
        for (size_t k = 0; k < r->nodes[i].n_events; k++) {
            const struct bp_event *ev = &r->nodes[i].events[k].ev;
            if (ev->kind == BP_EVENT_DOWN) {
                fail_msg("%s lost %s: %d", bp_node_name(r->nodes[i].n), ev->name, ev->error);
            }
        }
    }
}

/* Whether x sends to its peer there. */
static bool sends_to(const struct rig_node *x, const char *peer, const struct sockaddr_in6 *there)
{
    const struct cn_peer *p = cn_peer_of(x->n, bp_node_find_peer(x->n, peer));
    struct bp_addr addr;

    assert_non_null(p);
    assert_true(bp_addr_from_sockaddr(&addr, (const struct sockaddr *)there, sizeof(*there)));
    return bp_conn_path_in_use(bp_link_conn(p->link), &addr, NULL);
}

/* A move, and who is to send to the new path. */
struct attempt {
    struct rig_node *mover;
    const struct rig_node *other;
    const struct sockaddr_in6 *old;
    bp_peer_id id;
    size_t from; /* events of the mover that were there before */
};

static bool has_failed(const struct attempt *t)
{
    for (size_t i = t->from; i < t->mover->n_events; i++) {
        if (t->mover->events[i].ev.kind == BP_EVENT_MOVED && t->mover->events[i].ev.error != 0) {
            return true;
        }
    }
    return false;
}

/* Messages go on: one that comes by the new path makes the other node send there. */
static bool followed_or_failed(void *ctx)
{
    const struct attempt *t = ctx;

    (void)rig_send(t->mover, t->id, "on the way", 10);
    return !sends_to(t->other, bp_node_name(t->mover->n), t->old) || has_failed(t);
}

/* What b had sent towards a relay that a has just left is refused there, while nothing is heard on
 * the new path yet. */
static void left_address_refuses(void **state)
{
    struct rig r;
    struct rig_node *a;
    struct rig_node *b;
    static struct forwarder one;
    static struct forwarder two;
    struct bp_relay relays[2];
    struct bp_migrate how = {.relay = &relays[1], .timeout_ms = 20000};
    struct sockaddr_in6 old = {.sin6_family = AF_INET6};
    bp_peer_id id;
    int fd;

    pair(&r, state, false, &a, &b);
    forwarder_open(&one, b->port);
    forwarder_open(&two, b->port);
    relays[0] = udp(one.port);
    relays[1] = udp(two.port);
    old.sin6_port = htons(port_of(one.back, false));
    assert_int_equal(inet_pton(AF_INET6, "::ffff:127.0.0.1", &old.sin6_addr), 1);
    id = dial(a, NAME_B, &relays[0]);
    expect_up(&r, a, b, id);
    load(&r, a, b, id);
    one.mute = true;
    two.one_way = true;
    while (sends_to(b, NAME_A, &old)) { /* until a has left the dead one */
        rig_until(&r, rests, &(struct at_rest){a, id});
        a->seen = a->n_events;
        assert_int_equal(bp_node_migrate(a->n, id, &how, sizeof(how)), 0);
        rig_until(&r, followed_or_failed, &(struct attempt){a, b, &old, id, a->n_events});
    }
    two.mute = true;
    forwarder_close(&one);
    fd = socket_of(b->port, false);
    /* For longer than ends a connection. On a busy machine b may give the new path up before, and
     * on the old one a refusal counts. */
    for (int i = 0; i < 45 && !sends_to(b, NAME_A, &old); i++) {
        (void)sendto(fd, "", 1, 0, (struct sockaddr *)&old, sizeof(old));
        rig_turn(&r, 1);
        (void)poll(NULL, 0, 10);
    }
    nobody_is_down(&r);
    two.mute = two.one_way = false;
    if (rig_expect(&r, a, BP_EVENT_MOVED)->error == 0) { /* else a is on the path that is gone */
        load(&r, a, b, id);
        close_both(&r, a, b, id);
    }
    rig_end(&r);
    forwarder_close(&two);
}

/* A relay that was left may go: nobody is warned of it. */
static void left_relay_closes(void **state)
{
    struct rig r;
    struct rig_node *a;
    struct rig_node *b;
    static struct forwarder f;
    struct bp_migrate direct = {.direct = true, .timeout_ms = 20000};
    bp_peer_id id;
    int fd;

    pair(&r, state, false, &a, &b);
    id = up_through(&r, a, b, &f);
    assert_int_equal(bp_node_migrate(a->n, id, &direct, sizeof(direct)), 0);
    assert_int_equal(rig_expect(&r, a, BP_EVENT_MOVED)->error, 0);
    fd = socket_of(f.port, true); /* which is still read for a second */
    forwarder_close(&f);
    (void)send(fd, "", 1, 0);
    load(&r, a, b, id);
    assert_int_equal(rig_counter(a, "relays_dead"), 0);
    close_both(&r, a, b, id);
    rig_end(&r);
}

static const struct CMUnitTest tests[] = {
    TMPDIR_TEST(moves_loop),           TMPDIR_TEST(moves_thread),
    TMPDIR_TEST(cannot_move),          TMPDIR_TEST(off_a_dead_relay),
    TMPDIR_TEST(left_address_refuses), TMPDIR_TEST(left_relay_closes),
};

T_MAIN(tests)
