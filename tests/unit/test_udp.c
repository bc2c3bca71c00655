/* SPDX-License-Identifier: Apache-2.0 */
/* UDP sockets and batches on the loopback: what is sent in one call arrives cut as it was meant. */
#include "support/t.h"

#include "base/err.h"
#include "io/udp.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

static uint8_t rx_mem[BP_UDP_RX_BUFS * BP_UDP_RX_BUF];
static uint8_t tx_mem[BP_UDP_TX_BUF];

static struct bp_addr addr(const char *ip, uint16_t port)
{
    struct bp_addr a;

    assert_int_equal(bp_addr_parse(&a, ip, port), 0);
    return a;
}

static int listen_at(const char *ip, int family, struct bp_addr *bound)
{
    struct bp_addr want = addr(ip, 0);
    int fd = -1;

    assert_int_equal(bp_udp_listen(&fd, &want, 0, family, bound), 0);
    assert_int_not_equal(bp_addr_port(bound), 0);
    return fd;
}

static int connect_to(const struct bp_addr *to, struct bp_udp_tx *tx)
{
    struct bp_addr none = {0};
    struct bp_addr remote = *to;
    struct bp_addr bound;
    int fd = -1;

    assert_int_equal(bp_udp_connect(&fd, &none, &remote, &bound), 0);
    *tx = (struct bp_udp_tx){.peer = remote};
    return fd;
}

/* Datagrams in the order of arrival, one after the other; returns their number. */
static unsigned collect(int fd, uint8_t *out, size_t *sizes, unsigned want)
{
    unsigned n = 0;
    size_t at = 0;

    while (n < want) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        struct bp_udp_rx rx[BP_UDP_RX_BUFS];
        bool refused;
        int got;

        if (poll(&p, 1, 5000) != 1) {
            break;
        }
        got = bp_udp_recv(fd, rx_mem, rx, &refused);
        assert_true(got >= 0);
        for (int i = 0; i < got; i++) {
            for (size_t off = 0; off < rx[i].len; off += rx[i].seg) {
                size_t len = rx[i].len - off < rx[i].seg ? rx[i].len - off : rx[i].seg;
                memcpy(out + at, rx[i].data + off, len);
                at += len;
                sizes[n++] = len;
            }
        }
    }
    return n;
}

/* Runs of equal datagrams with a shorter last one, as the connection makes them. */
static void runs_arrive_as_datagrams(void **state)
{
    static const struct {
        size_t seg;
        size_t len;
    } shapes[] = {{1200, 1200},  {1200, 3600}, {1200, 12345},
                  {9000, 63000}, {100, 6400},  {16384, 40000}};
    static uint8_t out[256 * 1024];
    size_t sizes[256];
    struct bp_addr at;
    struct bp_udp_tx tx;
    int server = listen_at("127.0.0.1", 4, &at);
    int client = connect_to(&at, &tx);

    (void)state;
    for (size_t i = 0; i < sizeof(tx_mem); i++) {
        tx_mem[i] = (uint8_t)(i * 7 + i / 256);
    }
    for (int no_gso = 0; no_gso < 2; no_gso++) {
        tx.no_gso = no_gso != 0;
        for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
            unsigned n = (unsigned)((shapes[i].len + shapes[i].seg - 1) / shapes[i].seg);
            struct bp_tx_run run = {
                .off = 10, .len = shapes[i].len, .seg = shapes[i].seg, .remote = tx.peer};
            uint64_t calls = tx.syscalls;

            assert_int_equal(bp_udp_send(client, &tx, tx_mem, &run, 1), 1);
            assert_int_equal(tx.syscalls - calls, no_gso != 0 ? n : 1);
            assert_int_equal(collect(server, out, sizes, n), n);
            for (unsigned k = 0; k < n; k++) {
                size_t want = k + 1 < n ? shapes[i].seg : shapes[i].len - k * shapes[i].seg;
                assert_int_equal(sizes[k], want);
            }
            assert_memory_equal(out, tx_mem + 10, shapes[i].len);
        }
    }
    assert_int_equal(tx.lost, 0);
    (void)close(client);
    (void)close(server);
}

/* The loopback carries a run in one piece. */
static void full_run_is_received_at_once(const char *ip, int family)
{
    struct bp_addr want = addr(ip, 0);
    struct bp_addr at;
    struct bp_udp_tx tx;
    struct bp_udp_rx rx[BP_UDP_RX_BUFS];
    struct bp_tx_run run = {.len = BP_TX_RUN_MAX, .seg = BP_DGRAM_SENT};
    struct pollfd p = {.events = POLLIN};
    bool refused;
    int server;
    int client;

    if (bp_udp_listen(&server, &want, 0, family, &at) != 0) {
        return; /* no IPv6 here */
    }
    client = connect_to(&at, &tx);
    run.remote = tx.peer;
    p.fd = server;
    assert_int_equal(bp_udp_send(client, &tx, tx_mem, &run, 1), 1);
    assert_int_equal(poll(&p, 1, 5000), 1);
    if (!tx.no_gso) {
        assert_int_equal(bp_udp_recv(server, rx_mem, rx, &refused), 1);
        assert_int_equal(rx[0].len, BP_TX_RUN_MAX);
        assert_int_equal(rx[0].seg, BP_DGRAM_SENT);
    }
    (void)close(client);
    (void)close(server);
}

static void full_runs_are_not_cut(void **state)
{
    (void)state;
    full_run_is_received_at_once("127.0.0.1", 4);
    full_run_is_received_at_once("::1", 6);
}

static void source_address_is_reported_and_answered(void **state)
{
    struct bp_addr at;
    struct bp_udp_tx tx;
    struct bp_udp_rx rx[BP_UDP_RX_BUFS];
    struct bp_udp_tx any = {0};
    int server = listen_at("127.0.0.1", 4, &at);
    int client = connect_to(&at, &tx);
    struct bp_tx_run run = {.len = 5, .seg = 5, .remote = tx.peer};
    uint8_t out[16];
    size_t size;
    bool refused;
    struct pollfd p = {.fd = server, .events = POLLIN};

    (void)state;
    memcpy(tx_mem, "hello", 5);
    assert_int_equal(bp_udp_send(client, &tx, tx_mem, &run, 1), 1);
    assert_int_equal(poll(&p, 1, 5000), 1);
    assert_int_equal(bp_udp_recv(server, rx_mem, rx, &refused), 1);
    assert_int_equal(rx[0].len, 5);
    run = (struct bp_tx_run){.len = 5, .seg = 5, .remote = rx[0].remote};
    assert_int_equal(bp_udp_send(server, &any, rx[0].data, &run, 1), 1);
    assert_int_equal(collect(client, out, &size, 1), 1);
    assert_memory_equal(out, "hello", 5);
    assert_int_equal(bp_udp_recv(server, rx_mem, rx, &refused), 0); /* nothing there: at once */
    (void)close(client);
    (void)close(server);
}

/* What is not asked for stays in the socket, in order. */
static void as_many_are_received_as_wanted(void **state)
{
    struct bp_addr at;
    struct bp_udp_tx tx;
    struct bp_udp_rx rx[BP_UDP_RX_BUFS];
    int server = listen_at("127.0.0.1", 4, &at);
    int client = connect_to(&at, &tx);
    bool refused;

    (void)state;
    for (uint8_t i = 0; i < 4; i++) { /* of different sizes: the kernel keeps them apart */
        struct bp_tx_run run = {.len = 1u + i, .seg = 1u + i, .remote = tx.peer};
        tx_mem[0] = i;
        assert_int_equal(bp_udp_send(client, &tx, tx_mem, &run, 1), 1);
    }
    for (unsigned want = 1; want <= 2; want++) {
        struct pollfd p = {.fd = server, .events = POLLIN};
        assert_int_equal(poll(&p, 1, 5000), 1);
        assert_int_equal(bp_udp_recv_some(server, rx_mem, rx, want, &refused), want);
        assert_int_equal(rx[0].data[0], want - 1);
        assert_int_equal(rx[0].len, want);
    }
    assert_int_equal(bp_udp_recv_some(server, rx_mem, rx, 4, &refused), 1);
    assert_int_equal(rx[0].data[0], 3);
    (void)close(client);
    (void)close(server);
}

/* A peer socket joins the port of the listener; datagrams of that peer go to it. */
static void peer_socket_shares_the_port(void **state)
{
    struct bp_addr at;
    struct bp_addr bound;
    struct bp_addr remote;
    struct bp_udp_tx tx;
    struct bp_udp_tx back;
    int server = listen_at("127.0.0.1", 4, &at);
    struct bp_addr client_at;
    int client = listen_at("127.0.0.1", 4, &client_at);
    struct bp_tx_run run;
    uint8_t out[16];
    size_t size;
    int peer = -1;

    (void)state;
    remote = client_at;
    assert_int_equal(bp_udp_connect(&peer, &at, &remote, &bound), 0);
    assert_int_equal(bp_addr_port(&bound), bp_addr_port(&at));
    memcpy(tx_mem, "abc", 3);
    tx = (struct bp_udp_tx){0};
    run = (struct bp_tx_run){.len = 3, .seg = 3, .remote = at};
    assert_int_equal(bp_udp_send(client, &tx, tx_mem, &run, 1), 1);
    assert_int_equal(collect(peer, out, &size, 1), 1);
    back = (struct bp_udp_tx){.peer = remote};
    run = (struct bp_tx_run){.len = 3, .seg = 3, .remote = remote};
    assert_int_equal(bp_udp_send(peer, &back, tx_mem, &run, 1), 1);
    assert_int_equal(collect(client, out, &size, 1), 1);
    (void)close(peer);
    (void)close(client);
    (void)close(server);
}

static void listen_is_exclusive(void **state)
{
    struct bp_addr at;
    struct bp_addr again;
    int server = listen_at("127.0.0.1", 4, &at);
    int other = -1;

    (void)state;
    assert_int_equal(bp_udp_listen(&other, &at, bp_addr_port(&at), 4, &again), BP_E_ADDR_IN_USE);
    (void)close(server);
    assert_int_equal(bp_udp_listen(&other, &at, bp_addr_port(&at), 4, &again), 0);
    (void)close(other);
}

static void any_address_takes_both_families(void **state)
{
    struct bp_addr none = {0};
    struct bp_addr bound;
    struct bp_addr to4;
    struct bp_udp_tx tx;
    int server = -1;
    int client;
    struct bp_tx_run run;
    uint8_t out[16];
    size_t size;

    (void)state;
    assert_int_equal(bp_udp_listen(&server, &none, 0, 0, &bound), 0);
    to4 = addr("127.0.0.1", bp_addr_port(&bound));
    client = connect_to(&to4, &tx);
    run = (struct bp_tx_run){.len = 4, .seg = 4, .remote = tx.peer};
    assert_int_equal(bp_udp_send(client, &tx, tx_mem, &run, 1), 1);
    assert_int_equal(collect(server, out, &size, 1), 1);
    (void)close(client);
    if (bound.u.sa.sa_family == AF_INET6) {
        struct bp_addr to6 = addr("::1", bp_addr_port(&bound));
        client = connect_to(&to6, &tx);
        run = (struct bp_tx_run){.len = 4, .seg = 4, .remote = tx.peer};
        assert_int_equal(bp_udp_send(client, &tx, tx_mem, &run, 1), 1);
        assert_int_equal(collect(server, out, &size, 1), 1);
        (void)close(client);
    }
    (void)close(server);
}

static void closed_port_is_reported_on_both_ways(void **state)
{
    struct bp_addr at;
    struct bp_udp_tx tx;
    struct bp_udp_rx rx[BP_UDP_RX_BUFS];
    int server = listen_at("127.0.0.1", 4, &at);
    int client = connect_to(&at, &tx);
    struct bp_tx_run run;
    struct pollfd p = {.fd = client, .events = POLLIN};
    bool refused = false;

    (void)state;
    (void)close(server);
    run = (struct bp_tx_run){.len = 4, .seg = 4, .remote = tx.peer};
    assert_int_equal(bp_udp_send(client, &tx, tx_mem, &run, 1), 1);
    assert_int_equal(poll(&p, 1, 5000), 1);
    assert_int_equal(bp_udp_recv(client, rx_mem, rx, &refused), 0);
    assert_true(refused);
    run = (struct bp_tx_run){.len = 4, .seg = 4, .remote = tx.peer};
    assert_int_equal(bp_udp_send(client, &tx, tx_mem, &run, 1), 1); /* the answer to this one ... */
    run = (struct bp_tx_run){.len = 4, .seg = 4, .remote = tx.peer};
    assert_int_equal(poll(&p, 1, 5000), 1);
    assert_int_equal(bp_udp_send(client, &tx, tx_mem, &run, 1), 1); /* ... comes with this one */
    assert_true(tx.refused);
    (void)close(client);
}

/* A socket that takes no more: what is left is said, and is what arrives when it is sent again. */
static void full_socket_keeps_the_rest(void **state)
{
    int pair[2];
    struct bp_udp_tx tx = {.no_gso = true};
    struct bp_tx_run runs[2];
    unsigned done = 2;
    unsigned sent = 0;
    unsigned got = 0;
    uint8_t buf[1200];

    (void)state;
    /* A datagram socket whose buffer the reader empties: UDP on the loopback never fills up. */
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair), 0);
    for (int i = 0; i < 1000 && done == 2; i++) {
        runs[0] = (struct bp_tx_run){.off = 0, .len = 2400, .seg = 1200};
        runs[1] = (struct bp_tx_run){.off = 2400, .len = 2000, .seg = 1200};
        done = bp_udp_send(pair[0], &tx, tx_mem, runs, 2);
        sent += 4;
    }
    assert_true(done < 2);
    assert_true(runs[done].len > 0);
    while (done < 2) {
        while (recv(pair[1], buf, sizeof(buf), 0) > 0) {
            got++;
        }
        done += bp_udp_send(pair[0], &tx, tx_mem, runs + done, 2 - done);
    }
    while (recv(pair[1], buf, sizeof(buf), 0) > 0) {
        got++;
    }
    assert_int_equal(got, sent);
    assert_int_equal(tx.lost, 0);
    (void)close(pair[0]);
    (void)close(pair[1]);
}

static void too_large_is_lost_not_stuck(void **state)
{
    struct bp_addr at;
    struct bp_udp_tx tx;
    int server = listen_at("127.0.0.1", 4, &at);
    int client = connect_to(&at, &tx);
    struct bp_tx_run runs[2] = {{.len = 65535, .seg = 65535, .remote = tx.peer}, /* > 65507 */
                                {.len = 10, .seg = 10, .remote = tx.peer}};
    uint8_t out[16];
    size_t size;

    (void)state;
    assert_int_equal(bp_udp_send(client, &tx, tx_mem, runs, 2), 2);
    assert_int_equal(tx.lost, 1);
    assert_int_equal(collect(server, out, &size, 1), 1);
    assert_int_equal(size, 10);
    (void)close(client);
    (void)close(server);
}

static void families_do_not_mix(void **state)
{
    struct bp_addr local;
    struct bp_addr remote = addr("::1", 9);
    struct bp_addr bound;
    int server = listen_at("127.0.0.1", 4, &local);
    int fd = -1;

    (void)state;
    assert_int_equal(bp_udp_connect(&fd, &local, &remote, &bound), BP_E_SYSTEM);
    (void)close(server);
}

/* A socket that is not connected is told whose port is closed, if it asks for that. */
static void refusals_of_many(void **state)
{
    struct bp_addr any = {0};
    struct bp_addr mine;
    struct bp_addr gone[2];
    struct bp_addr whose;
    bool seen[2] = {false, false};
    int fd = -1;

    (void)state;
    for (int i = 0; i < 2; i++) {
        (void)close(listen_at("127.0.0.1", 4, &gone[i]));
    }
    assert_int_equal(bp_udp_listen(&fd, &any, 0, 0, &mine), 0);
    bp_udp_report_refused(fd);
    assert_false(bp_udp_refused(fd, &whose));
    for (int i = 0; i < 2; i++) {
        struct bp_udp_tx tx = {0};
        struct bp_tx_run run = {.remote = gone[i], .len = 10, .seg = 10};
        if (mine.u.sa.sa_family == AF_INET6) {
            bp_addr_map_v6(&gone[i]);
            run.remote = gone[i];
        }
        assert_int_equal(bp_udp_send(fd, &tx, tx_mem, &run, 1), 1);
    }
    while (!seen[0] || !seen[1]) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&p, 1, 5000), 1);
        while (bp_udp_refused(fd, &whose)) {
            seen[0] = seen[0] || bp_addr_equal(&whose, &gone[0]);
            seen[1] = seen[1] || bp_addr_equal(&whose, &gone[1]);
        }
    }
    (void)close(fd);
}

/* What lies between takes no more: a run of larger ones goes, but its last that is not. */
static void limit_is_kept_to(void **state)
{
    struct bp_addr bound;
    struct bp_udp_tx tx;
    int to = listen_at("127.0.0.1", 4, &bound);
    int fd = connect_to(&bound, &tx);
    struct bp_tx_run runs[] = {{.remote = bound, .off = 0, .len = 2400, .seg = 1200},
                               {.remote = bound, .off = 2400, .len = 3100, .seg = 1500},
                               {.remote = bound, .off = 6000, .len = 3000, .seg = 1500}};
    static uint8_t out[65536];
    size_t sizes[16];

    (void)state;
    tx.max_datagram = 1400;
    assert_int_equal(bp_udp_send(fd, &tx, tx_mem, runs, 3), 3);
    assert_int_equal(tx.lost, 4);
    assert_int_equal(tx.lost_bytes, 6000);
    assert_int_equal(collect(to, out, sizes, 3), 3);
    assert_true(sizes[0] == 1200 && sizes[1] == 1200 && sizes[2] == 100);
    (void)close(fd);
    (void)close(to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limit_is_kept_to),
        cmocka_unit_test(runs_arrive_as_datagrams),
        cmocka_unit_test(full_runs_are_not_cut),
        cmocka_unit_test(source_address_is_reported_and_answered),
        cmocka_unit_test(as_many_are_received_as_wanted),
        cmocka_unit_test(peer_socket_shares_the_port),
        cmocka_unit_test(listen_is_exclusive),
        cmocka_unit_test(any_address_takes_both_families),
        cmocka_unit_test(closed_port_is_reported_on_both_ways),
        cmocka_unit_test(full_socket_keeps_the_rest),
        cmocka_unit_test(too_large_is_lost_not_stuck),
        cmocka_unit_test(families_do_not_mix),
        cmocka_unit_test(refusals_of_many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
