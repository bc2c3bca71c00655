/* SPDX-License-Identifier: Apache-2.0 */
/* C nodes that dial each other through something in between. */
#include "cnode/relays.h"
#include "cnode/rig.h"

#include "barrel_p2p/relay.h"
#include "unit/dns_server.h"

#include <poll.h>
#include <sys/socket.h>

static void pair(struct rig *r, void **state, bool threads, struct rig_node **a,
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

static struct bp_relay udp(uint16_t port)
{
    return (struct bp_relay){
        .size = sizeof(struct bp_relay), .kind = BP_RELAY_UDP, .host = "127.0.0.1", .port = port};
}

static bp_peer_id dial(struct rig_node *a, const char *name, const struct bp_relay *relay)
{
    struct bp_dial d = {.relay = relay};
    bp_peer_id id;

    if (bp_node_dial_with(a->n, name, &d, sizeof(d), &id) != 0) {
        fail_msg("%s", bp_error_detail());
    }
    return id;
}

static void expect_up(struct rig *r, struct rig_node *a, struct rig_node *b, bp_peer_id id)
{
    const struct bp_event *ev = rig_expect(r, a, BP_EVENT_UP);

    assert_true(ev->peer == id);
    assert_string_equal(rig_expect(r, b, BP_EVENT_UP)->name, bp_node_name(a->n));
}

static void expect_relay(const struct rig_node *a, bp_peer_id id, const char *begins)
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

static void push(struct rig_node *x, bp_peer_id id, unsigned *sent)
{
    static const uint8_t bytes[20000];

    while (*sent < LOAD && rig_send(x, id, bytes, 1 + *sent * 37 % sizeof(bytes)) == 0) {
        (*sent)++;
    }
}

static bool loaded(void *ctx)
{
    struct load *l = ctx;

    push(l->a, l->ab, &l->sent_a);
    push(l->b, l->ba, &l->sent_b);
    return l->a->messages >= LOAD && l->b->messages >= LOAD;
}

static void load(struct rig *r, struct rig_node *a, struct rig_node *b, bp_peer_id id)
{
    struct load l = {.a = a, .b = b, .ab = id, .ba = bp_node_find_peer(b->n, bp_node_name(a->n))};

    a->messages = b->messages = 0;
    a->count_only = b->count_only = true;
    rig_until(r, loaded, &l);
}

static void close_both(struct rig *r, struct rig_node *a, struct rig_node *b, bp_peer_id id)
{
    assert_int_equal(bp_node_close(a->n, id), 0);
    assert_int_equal(rig_expect(r, a, BP_EVENT_DOWN)->error, BP_ERROR_LOCAL_CLOSE);
    assert_int_equal(rig_expect(r, b, BP_EVENT_DOWN)->error, BP_ERROR_PEER_CLOSED);
}

/* --- a forwarder --------------------------------------------------------- */

static void through_forwarder(void **state, bool threads)
{
    struct rig r;
    struct rig_node *a;
    struct rig_node *b;
    struct forwarder f;
    struct bp_relay relay;
    bp_peer_id id;

    pair(&r, state, threads, &a, &b);
    forwarder_open(&f, b->port);
    relay = udp(f.port);
    id = dial(a, NAME_B, &relay);
    expect_up(&r, a, b, id);
    expect_relay(a, id, "relay 127.0.0.1:");
    load(&r, a, b, id);
    assert_int_equal(bp_node_port(a->n), 0); /* it needed no socket of its own */
    close_both(&r, a, b, id);
    assert_true(rig_counter(a, "relay_datagrams_out") > 100);
    assert_true(rig_counter(a, "relay_datagrams_in") > 0);
    assert_true(rig_counter(a, "relay_bytes_out") > LOAD * 9000 &&
                rig_counter(a, "relay_bytes_in") > LOAD * 9000);
    assert_true(f.moved + 100 >= rig_counter(a, "relay_datagrams_out"));
    /* once */
    id = rig_connect(&r, a, b);
    expect_relay(a, id, NULL);
    rig_end(&r);
    forwarder_close(&f);
}

static void forwarder_loop(void **state)
{
    through_forwarder(state, false);
}

static void forwarder_thread(void **state)
{
    through_forwarder(state, true);
}

static void table(void **state)
{
    struct rig r;
    struct rig_node *a;
    struct rig_node *b;
    struct forwarder f;
    struct forwarder other;
    struct bp_relay relay;
    struct bp_dial direct = {.direct = true};
    bp_peer_id id;

    pair(&r, state, false, &a, &b);
    forwarder_open(&f, b->port);
    forwarder_open(&other, b->port);
    relay = udp(f.port);
    assert_int_equal(bp_node_set_relay(a->n, NAME_B, &relay), 0);
    for (int i = 0; i < 2; i++) {
        id = rig_connect(&r, a, b);
        expect_relay(a, id, "relay ");
        close_both(&r, a, b, id);
    }
    assert_true(f.moved > 0 && other.moved == 0);
    /* what a dial asks for counts more */
    relay = udp(other.port);
    id = dial(a, NAME_B, &relay);
    expect_up(&r, a, b, id);
    close_both(&r, a, b, id);
    assert_true(other.moved > 0);
    assert_int_equal(bp_node_dial_with(a->n, NAME_B, &direct, sizeof(direct), &id), 0);
    expect_up(&r, a, b, id);
    expect_relay(a, id, NULL);
    close_both(&r, a, b, id);
    /* replaced, and taken out while a connection goes through it */
    assert_int_equal(bp_node_set_relay(a->n, NAME_B, &relay), 0);
    id = rig_connect(&r, a, b);
    assert_int_equal(bp_node_set_relay(a->n, NAME_B, NULL), 0);
    assert_int_equal(bp_node_set_relay(a->n, NAME_B, NULL), 0);
    load(&r, a, b, id);
    close_both(&r, a, b, id);
    id = rig_connect(&r, a, b);
    expect_relay(a, id, NULL);
    rig_end(&r);
    forwarder_close(&f);
    forwarder_close(&other);
}

/* Nobody knows where it is, but the forwarder. */
static void unknown_node(void **state)
{
    struct rig r = {.state = state};
    struct rig_node *b = rig_node(&r, NAME_B);
    struct rig_node *a = rig_node(&r, NAME_A);
    struct forwarder f;
    struct bp_relay relay;
    bp_peer_id id;

    rig_start(b, true);
    rig_start(a, false);
    forwarder_open(&f, b->port);
    relay = udp(f.port);
    id = dial(a, NAME_B, &relay);
    expect_up(&r, a, b, id);
    close_both(&r, a, b, id);
    /* a proxy would have to be told */
    relay.kind = BP_RELAY_SOCKS5;
    (void)dial(a, NAME_B, &relay);
    assert_int_equal(rig_expect(&r, a, BP_EVENT_DOWN)->error, BP_ERROR_NOT_FOUND);
    rig_end(&r);
    forwarder_close(&f);
}

/* What it says that it takes is kept to. */
static void mtu(void **state)
{
    struct rig r;
    struct rig_node *a;
    struct rig_node *b;
    struct forwarder f;
    struct bp_relay relay;
    struct bp_peer_info info;
    struct bp_dial small = {.max_datagram = 1250};
    bp_peer_id id;

    pair(&r, state, false, &a, &b);
    forwarder_open(&f, b->port);
    relay = udp(f.port);
    id = dial(a, NAME_B, &relay);
    expect_up(&r, a, b, id);
    load(&r, a, b, id);
    assert_true(f.largest > 1400); /* as the loopback allows */
    close_both(&r, a, b, id);
    f.largest = 0;
    relay.mtu = 1300;
    id = dial(a, NAME_B, &relay);
    expect_up(&r, a, b, id);
    load(&r, a, b, id);
    assert_int_equal(bp_node_peer_info(a->n, id, &info, sizeof(info)), 0);
    assert_int_equal(info.datagram_size, 1300);
    assert_int_equal(f.largest, 1300);
    close_both(&r, a, b, id);
    /* a dial may ask for less, with a relay and without */
    f.largest = 0;
    small.relay = &relay;
    assert_int_equal(bp_node_dial_with(a->n, NAME_B, &small, sizeof(small), &id), 0);
    expect_up(&r, a, b, id);
    load(&r, a, b, id);
    assert_int_equal(f.largest, 1250);
    rig_end(&r);
    forwarder_close(&f);
}

/* --- a descriptor -------------------------------------------------------- */

static void descriptor(void **state)
{
    struct rig r;
    struct rig_node *a;
    struct rig_node *b;
    struct forwarder f;
    struct bp_relay relay = {.size = sizeof(relay), .kind = BP_RELAY_FD};
    int stream[2];
    bp_peer_id id;

    pair(&r, state, true, &a, &b);
    relay.fd = forwarder_open_pair(&f, b->port);
    assert_int_equal(bp_node_set_relay(a->n, NAME_B, &relay), 0);
    (void)close(relay.fd); /* the library has its own */
    for (int i = 0; i < 2; i++) {
        id = rig_connect(&r, a, b);
        expect_relay(a, id, "descriptor ");
        load(&r, a, b, id);
        close_both(&r, a, b, id);
    }
    /* what is no datagram socket */
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, stream), 0);
    relay.fd = stream[0];
    assert_int_equal(bp_node_set_relay(a->n, NAME_B, &relay), BP_ERROR_INVALID);
    assert_non_null(strstr(bp_error_detail(), "no datagram socket"));
    (void)close(stream[0]);
    (void)close(stream[1]);
    rig_end(&r);
    forwarder_close(&f);
}

/* --- functions ----------------------------------------------------------- */

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
    int refuse; /* what open says */
};

static int mine_open(void *ctx, struct bp_relay_end *end, const char *node, const char *ip,
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

/* Has no room for every tenth at first. */
static int mine_send(void *ctx, struct bp_relay_end *end, const void *datagram, size_t len)
{
    struct mine *m = ctx;
    int rc = 0;

    (void)pthread_mutex_lock(&m->lock);
    assert_true(end == m->end);
    if (m->taken % 10 == 9 && !m->was_full) {
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

static void mine_close(void *ctx, struct bp_relay_end *end)
{
    struct mine *m = ctx;

    (void)pthread_mutex_lock(&m->lock);
    assert_true(end == m->end);
    m->end = NULL;
    m->closed++;
    (void)pthread_mutex_unlock(&m->lock);
}

static void *mine_read(void *arg)
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

static void mine_start(struct mine *m, uint16_t to)
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

static void mine_stop(struct mine *m)
{
    (void)shutdown(m->stop, SHUT_RDWR);
    assert_int_equal(pthread_join(m->thread, NULL), 0);
    (void)close(m->fd);
    (void)close(m->stop);
    (void)pthread_mutex_destroy(&m->lock);
}

static void through_functions(void **state, bool threads)
{
    struct rig r;
    struct rig_node *a;
    struct rig_node *b;
    struct mine m;
    struct bp_relay relay = {
        .size = sizeof(relay), .kind = BP_RELAY_FUNCTIONS, .functions = &mine_functions, .ctx = &m};
    const struct bp_event *ev;
    bp_peer_id id;

    pair(&r, state, threads, &a, &b);
    mine_start(&m, b->port);
    id = dial(a, NAME_B, &relay);
    expect_up(&r, a, b, id);
    expect_relay(a, id, "the program's relay");
    load(&r, a, b, id);
    close_both(&r, a, b, id);
    assert_true(m.opened == 1 && m.closed == 1 && m.end == NULL);
    assert_true(m.full > 10 && rig_counter(a, "relay_datagrams_out") == m.taken);
    assert_true(rig_counter(a, "relay_datagrams_in") > 0);
    /* it may say no; and a node that ends closes what is open */
    m.refuse = BP_ERROR_LIMIT;
    (void)dial(a, NAME_B, &relay);
    ev = rig_expect(&r, a, BP_EVENT_DOWN);
    assert_int_equal(ev->error, BP_ERROR_RELAY);
    assert_non_null(strstr(ev->text, "the program's relay could not be opened"));
    assert_true(m.opened == 2 && m.closed == 1);
    m.refuse = 0;
    id = dial(a, NAME_B, &relay);
    expect_up(&r, a, b, id);
    rig_end(&r);
    assert_true(m.opened == 3 && m.closed == 2 && m.end == NULL);
    mine_stop(&m);
}

static void functions_loop(void **state)
{
    through_functions(state, false);
}

static void functions_thread(void **state)
{
    through_functions(state, true);
}

/* --- moving -------------------------------------------------------------- */

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
    struct forwarder one;
    struct forwarder two;
    struct forwarder tunnel;
    struct mine m;
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

static void cannot_move(void **state)
{
    struct rig r;
    struct rig_node *a;
    struct rig_node *b;
    struct forwarder f;
    struct bp_relay relay;
    struct bp_relay proxy = {
        .size = sizeof(proxy), .kind = BP_RELAY_SOCKS5, .host = "127.0.0.1", .port = 1};
    struct bp_migrate how = {.relay = &relay, .timeout_ms = 500};
    struct bp_migrate plain = {0};
    bp_peer_id id;
    bp_peer_id other;
    int rc;

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
    while ((rc = move(&r, a, b, id, b, &plain)) == BP_ERROR_BUSY) {
    }
    assert_int_equal(rc, 0);
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
    struct forwarder f;
    struct bp_relay relay;
    struct bp_migrate direct = {.direct = true, .timeout_ms = 20000};
    bp_peer_id id;

    pair(&r, state, true, &a, &b);
    forwarder_open(&f, b->port);
    relay = udp(f.port);
    id = dial(a, NAME_B, &relay);
    expect_up(&r, a, b, id);
    load(&r, a, b, id);
    f.mute = true; /* a closed port would be said to b, which ends the connection */
    assert_int_equal(move(&r, a, b, id, a, &direct), 0);
    expect_relay(a, id, NULL);
    close_both(&r, a, b, id);
    rig_end(&r);
    forwarder_close(&f);
}

/* --- what fails ---------------------------------------------------------- */

static unsigned downs;
static char down_text[512];

static void count_log(void *ctx, enum bp_log_level level, const char *event, const char *peer,
                      const char *text)
{
    (void)ctx;
    (void)level;
    if (strcmp(event, "relay_down") == 0) {
        downs++;
        snprintf(down_text, sizeof(down_text), "%s: %s", peer, text);
    }
}

/* The log says so once, and the connection ends as one whose peer is silent. */
static void dies(void **state)
{
    struct rig r = {.state = state};
    struct rig_node *b = rig_node(&r, NAME_B);
    struct rig_node *a = rig_node(&r, NAME_A);
    struct forwarder f;
    struct bp_relay relay;
    const struct bp_event *ev;
    bp_peer_id id;

    downs = 0;
    rig_start(b, true);
    rig_knows(a, b);
    assert_int_equal(bp_node_set_number(a->n, BP_OPT_IDLE_TIMEOUT, 1500), 0);
    assert_int_equal(bp_node_set_number(a->n, BP_OPT_KEEPALIVE, 100), 0);
    bp_node_set_log(a->n, BP_LOG_INFO, count_log, NULL);
    rig_start(a, false);
    forwarder_open(&f, b->port);
    relay = udp(f.port);
    id = dial(a, NAME_B, &relay);
    expect_up(&r, a, b, id);
    forwarder_close(&f);
    ev = rig_expect(&r, a, BP_EVENT_DOWN);
    assert_int_equal(ev->error, BP_ERROR_IDLE_TIMEOUT);
    assert_int_equal(downs, 1);
    assert_non_null(strstr(down_text, "nobody takes datagrams there"));
    assert_non_null(strstr(down_text, NAME_B));
    assert_int_equal(rig_counter(a, "relays_dead"), 1);
    /* and is not taken for a node that is not there */
    (void)dial(a, NAME_B, &relay);
    ev = rig_expect(&r, a, BP_EVENT_DOWN);
    assert_int_equal(ev->error, BP_ERROR_RELAY);
    assert_non_null(strstr(ev->text, "nobody takes datagrams there"));
    rig_end(&r);
}

/* A tunnel whose process is gone. */
static void descriptor_dies(void **state)
{
    struct rig r = {.state = state};
    struct rig_node *b = rig_node(&r, NAME_B);
    struct rig_node *a = rig_node(&r, NAME_A);
    struct forwarder f;
    struct bp_relay relay = {.size = sizeof(relay), .kind = BP_RELAY_FD};
    const struct bp_event *ev;
    bp_peer_id id;

    downs = 0;
    rig_start(b, true);
    rig_knows(a, b);
    assert_int_equal(bp_node_set_number(a->n, BP_OPT_IDLE_TIMEOUT, 1500), 0);
    bp_node_set_log(a->n, BP_LOG_INFO, count_log, NULL);
    rig_start(a, false);
    relay.fd = forwarder_open_pair(&f, b->port);
    id = dial(a, NAME_B, &relay);
    expect_up(&r, a, b, id);
    forwarder_close(&f);
    assert_int_equal(rig_send(a, id, "x", 1), 0);
    ev = rig_expect(&r, a, BP_EVENT_DOWN);
    assert_int_equal(ev->error, BP_ERROR_IDLE_TIMEOUT);
    assert_int_equal(downs, 1);
    (void)dial(a, NAME_B, &relay);
    ev = rig_expect(&r, a, BP_EVENT_DOWN);
    assert_int_equal(ev->error, BP_ERROR_RELAY);
    (void)close(relay.fd);
    rig_end(&r);
}

/* The loop goes on, and the dial ends in time and says why. */
static void proxy_is_mute(void **state)
{
    struct rig r;
    struct rig_node *a;
    struct rig_node *b;
    struct bp_relay relay = {.size = sizeof(relay),
                             .kind = BP_RELAY_SOCKS5,
                             .host = "127.0.0.1",
                             .user = "u",
                             .password = "p"};
    struct bp_dial d = {.relay = &relay, .timeout_ms = 2000};
    struct rig_node *c;
    const struct bp_event *ev;
    bp_peer_id to_c;
    bp_peer_id id;
    int fd = mute_tcp(&relay.port);

    pair(&r, state, false, &a, &b);
    c = rig_node(&r, rig_name('c'));
    rig_start(c, true);
    assert_int_equal(bp_node_dial_at(a->n, bp_node_name(c->n), "127.0.0.1", c->port, 0, &to_c), 0);
    expect_up(&r, a, c, to_c);
    assert_int_equal(bp_node_dial_with(a->n, NAME_B, &d, sizeof(d), &id), 0);
    /* others are served meanwhile */
    assert_int_equal(rig_send(a, to_c, "x", 1), 0);
    (void)rig_expect(&r, c, BP_EVENT_MESSAGE);
    assert_int_equal(a->n_events, a->seen);
    assert_true(bp_node_timeout(a->n) <= 2000);
    ev = rig_expect(&r, a, BP_EVENT_DOWN);
    assert_int_equal(ev->error, BP_ERROR_TIMEOUT);
    assert_non_null(strstr(ev->text, "SOCKS proxy 127.0.0.1:"));
    assert_non_null(strstr(ev->text, "did not answer in time"));
    assert_int_equal(rig_counter(a, "relays_failed"), 1);
    /* given up while it waits; and deleted */
    assert_int_equal(bp_node_dial_with(a->n, NAME_B, &d, sizeof(d), &id), 0);
    assert_int_equal(bp_node_close(a->n, id), 0);
    assert_int_equal(rig_expect(&r, a, BP_EVENT_DOWN)->error, BP_ERROR_LOCAL_CLOSE);
    (void)close(fd);
    (void)dial(a, NAME_B, &relay);
    ev = rig_expect(&r, a, BP_EVENT_DOWN);
    assert_int_equal(ev->error, BP_ERROR_RELAY);
    assert_non_null(strstr(ev->text, "cannot connect: Connection refused"));
    fd = mute_tcp(&relay.port);
    (void)dial(a, NAME_B, &relay);
    rig_end(&r);
    (void)close(fd);
}

/* Names of relays are asked for by whoever runs the node. */
static void name_of_relay(void **state)
{
    static const struct dns_row rows[] = {
        {.name = "relay.c.example", .type = DNS_A, .ttl = 60, .data = "127.0.0.1"}, {0}};
    struct rig r = {.state = state};
    struct rig_node *b = rig_node(&r, NAME_B);
    struct rig_node *a = rig_node(&r, NAME_A);
    struct dns_server server;
    struct forwarder f;
    struct bp_relay relay;
    const struct bp_event *ev = NULL;

    rig_start(b, true);
    rig_knows(a, b);
    dns_server_open(&server, rows);
    assert_int_equal(bp_node_discover_dns(a->n, "c.example", 0, server.text), 0);
    rig_start(a, false);
    forwarder_open(&f, b->port);
    relay = udp(f.port);
    relay.host = "relay.c.example";
    for (int i = 0; i < 2; i++) {
        size_t seen = a->n_events;
        (void)dial(a, NAME_B, &relay);
        while (a->n_events == seen) {
            dns_server_serve(&server);
            rig_turn(&r, 20);
        }
        ev = &a->events[seen].ev;
        relay.host = "nobody.c.example";
        if (i == 0) {
            assert_int_equal(ev->kind, BP_EVENT_UP);
            expect_relay(a, ev->peer, "relay relay.c.example:");
            assert_int_equal(bp_node_close(a->n, ev->peer), 0);
            rig_expect(&r, a, BP_EVENT_DOWN);
        }
    }
    assert_int_equal(ev->kind, BP_EVENT_DOWN);
    assert_int_equal(ev->error, BP_ERROR_RELAY);
    assert_non_null(strstr(ev->text, "relay nobody.c.example:"));
    assert_non_null(strstr(ev->text, "cannot be resolved"));
    dns_server_close(&server);
    rig_end(&r);
    forwarder_close(&f);
}

static void refused(struct rig_node *a, const struct bp_relay *relay, const char *why)
{
    struct bp_dial d = {.relay = relay};
    bp_peer_id id;

    assert_int_equal(bp_node_dial_with(a->n, NAME_B, &d, sizeof(d), &id), BP_ERROR_INVALID);
    assert_non_null(strstr(bp_error_detail(), why));
    assert_int_equal(bp_node_set_relay(a->n, NAME_B, relay), BP_ERROR_INVALID);
}

static void misuse(void **state)
{
    struct rig r;
    struct rig_node *a;
    struct rig_node *b;
    struct bp_relay ok = udp(1);
    struct bp_relay x;
    struct bp_dial d = {.relay = &ok, .direct = true};
    static const struct bp_relay_functions none;
    bp_peer_id id;

    pair(&r, state, false, &a, &b);
    x = ok, x.size = 8, refused(a, &x, "size");
    x = ok, x.kind = (enum bp_relay_kind)9, refused(a, &x, "kind");
    x = ok, x.host = "", refused(a, &x, "host");
    x = ok, x.host = NULL, refused(a, &x, "host");
    x = ok, x.port = 0, refused(a, &x, "port");
    x = ok, x.mtu = 1199, refused(a, &x, "mtu");
    x = ok, x.kind = BP_RELAY_SOCKS5, x.user = "u", refused(a, &x, "password");
    x = ok, x.kind = BP_RELAY_SOCKS5, x.user = "u", x.password = "", refused(a, &x, "password");
    x = ok, x.kind = BP_RELAY_FD, x.fd = -1, refused(a, &x, "descriptor");
    x = ok, x.kind = BP_RELAY_FD, x.fd = 9999, refused(a, &x, "no datagram socket");
    x = ok, x.kind = BP_RELAY_FUNCTIONS, refused(a, &x, "send");
    x.functions = &none, refused(a, &x, "send");
    assert_int_equal(bp_node_set_relay(a->n, "no name", &ok), BP_ERROR_INVALID);
    assert_int_equal(bp_node_set_relay(a->n, NULL, &ok), BP_ERROR_INVALID);
    assert_int_equal(bp_node_dial_with(a->n, NAME_B, &d, sizeof(d), &id), BP_ERROR_INVALID);
    d = (struct bp_dial){.max_datagram = 70000};
    assert_int_equal(bp_node_dial_with(a->n, NAME_B, &d, sizeof(d), &id), BP_ERROR_INVALID);
    d = (struct bp_dial){.ip = "nowhere", .port = 1};
    assert_int_equal(bp_node_dial_with(a->n, NAME_B, &d, sizeof(d), &id), BP_ERROR_INVALID);
    d = (struct bp_dial){0};
    assert_int_equal(bp_node_dial_with(a->n, NULL, &d, sizeof(d), &id), BP_ERROR_INVALID);
    /* an older program's struct */
    assert_int_equal(bp_node_dial_with(a->n, NAME_B, &d, sizeof(d.timeout_ms), &id), 0);
    expect_up(&r, a, b, id);
    rig_end(&r);
}

static const struct CMUnitTest tests[] = {
    TMPDIR_TEST(forwarder_loop),
    TMPDIR_TEST(forwarder_thread),
    TMPDIR_TEST(table),
    TMPDIR_TEST(unknown_node),
    TMPDIR_TEST(mtu),
    TMPDIR_TEST(descriptor),
    TMPDIR_TEST(functions_loop),
    TMPDIR_TEST(functions_thread),
    TMPDIR_TEST(dies),
    TMPDIR_TEST(descriptor_dies),
    TMPDIR_TEST(proxy_is_mute),
    TMPDIR_TEST(name_of_relay),
    TMPDIR_TEST(misuse),
    TMPDIR_TEST(moves_loop),
    TMPDIR_TEST(moves_thread),
    TMPDIR_TEST(cannot_move),
    TMPDIR_TEST(off_a_dead_relay),
};

T_MAIN(tests)
