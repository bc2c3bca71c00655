/* SPDX-License-Identifier: Apache-2.0 */
/* C nodes that dial each other through something in between. */
#include "cnode/relay_side.h"

#include "unit/dns_server.h"

#include <sys/socket.h>

/* --- a forwarder --------------------------------------------------------- */

static void through_forwarder(void **state, bool threads)
{
    struct rig r;
    struct rig_node *a;
    struct rig_node *b;
    static struct forwarder f;
    bp_peer_id id;

    pair(&r, state, threads, &a, &b);
    id = up_through(&r, a, b, &f);
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
    static struct forwarder f;
    static struct forwarder other;
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
    static struct forwarder f;
    struct bp_relay relay;
    bp_peer_id id;

    rig_start(b, true);
    rig_start(a, false);
    id = up_through(&r, a, b, &f);
    relay = udp(f.port);
    close_both(&r, a, b, id);
    /* a proxy would have to be told */
    relay.kind = BP_RELAY_SOCKS5;
    (void)dial(a, NAME_B, &relay);
    (void)rig_expect_down(&r, a, BP_ERROR_NOT_FOUND, NULL);
    rig_end(&r);
    forwarder_close(&f);
}

/* What it says that it takes is kept to. */
static void mtu(void **state)
{
    struct rig r;
    struct rig_node *a;
    struct rig_node *b;
    static struct forwarder f;
    struct bp_relay relay;
    struct bp_peer_info info;
    struct bp_dial small = {.max_datagram = 1250};
    bp_peer_id id;

    pair(&r, state, false, &a, &b);
    id = up_through(&r, a, b, &f);
    relay = udp(f.port);
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
    static struct forwarder f;
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

static void through_functions(void **state, bool threads)
{
    struct rig r;
    struct rig_node *a;
    struct rig_node *b;
    static struct mine m;
    struct bp_relay relay = {
        .size = sizeof(relay), .kind = BP_RELAY_FUNCTIONS, .functions = &mine_functions, .ctx = &m};
    bp_peer_id id;

    pair(&r, state, threads, &a, &b);
    mine_start(&m, b->port);
    id = dial(a, NAME_B, &relay);
    expect_up(&r, a, b, id);
    expect_relay(a, id, "the program's relay");
    m.picky = true;
    load(&r, a, b, id);
    m.picky = false; /* the last datagram, which says that it is closed, comes only once */
    close_both(&r, a, b, id);
    assert_true(m.opened == 1 && m.closed == 1 && m.end == NULL);
    assert_true(m.full > 10 && rig_counter(a, "relay_datagrams_out") == m.taken);
    assert_true(rig_counter(a, "relay_datagrams_in") > 0);
    /* it may say no; and a node that ends closes what is open */
    m.refuse = BP_ERROR_LIMIT;
    (void)dial(a, NAME_B, &relay);
    (void)rig_expect_down(&r, a, BP_ERROR_RELAY, "the program's relay could not be opened");
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

/* `a` notices within 1.5 s that nobody answers, and what it logs is counted. */
static void watchful_pair(struct rig *r, struct rig_node **a, struct rig_node **b)
{
    *b = rig_node(r, NAME_B);
    *a = rig_node(r, NAME_A);
    downs = 0;
    rig_start(*b, true);
    rig_knows(*a, *b);
    assert_int_equal(bp_node_set_number((*a)->n, BP_OPT_IDLE_TIMEOUT, 1500), 0);
    bp_node_set_log((*a)->n, BP_LOG_INFO, count_log, NULL);
}

/* The log says so once, and the connection ends as one whose peer is silent. */
static void dies(void **state)
{
    struct rig r = {.state = state};
    struct rig_node *b;
    struct rig_node *a;
    static struct forwarder f;
    struct bp_relay relay;

    watchful_pair(&r, &a, &b);
    assert_int_equal(bp_node_set_number(a->n, BP_OPT_KEEPALIVE, 100), 0);
    rig_start(a, false);
    (void)up_through(&r, a, b, &f);
    relay = udp(f.port);
    forwarder_close(&f);
    (void)rig_expect_down(&r, a, BP_ERROR_IDLE_TIMEOUT, NULL);
    assert_int_equal(downs, 1);
    assert_non_null(strstr(down_text, "nobody takes datagrams there"));
    assert_non_null(strstr(down_text, NAME_B));
    assert_int_equal(rig_counter(a, "relays_dead"), 1);
    /* and is not taken for a node that is not there */
    (void)dial(a, NAME_B, &relay);
    (void)rig_expect_down(&r, a, BP_ERROR_RELAY, "nobody takes datagrams there");
    rig_end(&r);
}

/* A tunnel whose process is gone. */
static void descriptor_dies(void **state)
{
    struct rig r = {.state = state};
    struct rig_node *b;
    struct rig_node *a;
    static struct forwarder f;
    struct bp_relay relay = {.size = sizeof(relay), .kind = BP_RELAY_FD};
    bp_peer_id id;

    watchful_pair(&r, &a, &b);
    rig_start(a, false);
    relay.fd = forwarder_open_pair(&f, b->port);
    id = dial(a, NAME_B, &relay);
    expect_up(&r, a, b, id);
    forwarder_close(&f);
    assert_int_equal(rig_send(a, id, "x", 1), 0);
    (void)rig_expect_down(&r, a, BP_ERROR_IDLE_TIMEOUT, NULL);
    assert_int_equal(downs, 1);
    (void)dial(a, NAME_B, &relay);
    (void)rig_expect_down(&r, a, BP_ERROR_RELAY, NULL);
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
    (void)rig_expect_down(&r, a, BP_ERROR_LOCAL_CLOSE, NULL);
    (void)close(fd);
    (void)dial(a, NAME_B, &relay);
    (void)rig_expect_down(&r, a, BP_ERROR_RELAY, "cannot connect: Connection refused");
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
    static struct forwarder f;
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
};

T_MAIN(tests)
