/* SPDX-License-Identifier: Apache-2.0 */
/* Ways through relays, with real sockets: a forwarder's, a descriptor, a pair, a proxy that answers
 * byte by byte. */
#include "support/t.h"

#include "io/relay_path.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

static struct bp_addr addr(const char *ip, uint16_t port)
{
    struct bp_addr a;

    assert_int_equal(bp_addr_parse(&a, ip, port), 0);
    return a;
}

static int bound_socket(int type, struct bp_addr *bound)
{
    struct bp_addr any = addr("127.0.0.1", 0);
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    int fd = socket(AF_INET, type, 0);

    assert_int_equal(bind(fd, &any.u.sa, any.len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
    assert_true(bp_addr_from_sockaddr(bound, &ss, len));
    return fd;
}

static size_t receive(int fd, uint8_t *out, size_t cap)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    ssize_t n;

    assert_int_equal(poll(&p, 1, 5000), 1);
    n = recv(fd, out, cap, MSG_DONTWAIT);
    assert_true(n >= 0);
    return (size_t)n;
}

/* Sends two datagrams of three, of which the last is too large, and looks at the counters. */
static void send_two(struct bp_relay_path *r, int fd, const struct bp_addr *remote, int far,
                     size_t header)
{
    static uint8_t buf[3000];
    struct bp_udp_tx tx = {.peer = *remote};
    struct bp_relay_stats st = {0};
    struct bp_tx_run runs[] = {{.remote = *remote, .off = 0, .len = 1300, .seg = 1200},
                               {.remote = *remote, .off = 1300, .len = 1350, .seg = 1350}};
    uint8_t got[2000];

    memset(buf, 7, sizeof(buf));
    r->mtu = 1300;
    bp_relay_path_tx(r, &tx);
    assert_int_equal(bp_relay_path_send(&st, fd, &tx, buf, runs, 2), 2);
    assert_int_equal(st.datagrams_out, 2);
    assert_int_equal(st.bytes_out, 1300);
    assert_int_equal(st.dropped_out, 1);
    assert_int_equal(receive(far, got, sizeof(got)), header + 1200);
    assert_int_equal(got[header], 7);
    assert_int_equal(receive(far, got, sizeof(got)), header + 100);
}

static void forwarder(void **state)
{
    struct bp_relay_path r = {0};
    struct bp_addr via;
    struct bp_addr local;
    struct bp_addr key;
    struct bp_addr remote = addr("192.0.2.1", 4433);
    struct bp_relay_stats st = {0};
    int far = bound_socket(SOCK_DGRAM, &via);
    int fd;

    (void)state;
    bp_relay_path_udp(&r, &via);
    assert_true(strncmp(r.name, "relay 127.0.0.1:", 16) == 0);
    assert_int_equal(bp_relay_path_open(&r, &remote, &fd, &local), 0);
    assert_int_not_equal(bp_addr_port(&local), 0);
    bp_relay_path_key(&r, &key);
    assert_true(bp_addr_equal(&key, &via));
    send_two(&r, fd, &remote, far, 0);
    assert_int_equal(bp_relay_path_unwrap(&r, &st, (const uint8_t *)"abc", 3), 3);
    assert_int_equal(st.datagrams_in, 1);
    bp_relay_path_close(&r);
    (void)close(fd);
    (void)close(far);
}

/* The user's descriptor stays as it is, and may go at once. */
static void descriptor(void **state)
{
    struct bp_relay_path r = {0};
    struct bp_addr local;
    struct bp_addr other;
    struct bp_addr remote = addr("2001:db8::1", 4433);
    int pair[2];
    int fd;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), 0);
    bp_relay_path_fd(&r, pair[0]);
    assert_int_equal(bp_relay_path_open(&r, &remote, &fd, &local), 0);
    assert_int_equal(fcntl(pair[0], F_GETFL) & O_NONBLOCK, 0);
    (void)close(pair[0]);
    bp_relay_path_name(&remote, &other);
    assert_int_equal(local.u.sa.sa_family, AF_INET6); /* as QUIC has the peer */
    assert_false(bp_addr_equal(&local, &other));
    send_two(&r, fd, &remote, pair[1], 0);
    (void)close(fd);
    (void)close(pair[1]);

    bp_relay_path_fd(&r, 999);
    assert_int_equal(bp_relay_path_open(&r, &remote, &fd, &local), BP_E_RELAY);
    assert_non_null(strstr(r.text, "not a socket"));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    bp_relay_path_fd(&r, pair[0]);
    assert_int_equal(bp_relay_path_open(&r, &remote, &fd, &local), BP_E_RELAY);
    assert_string_equal(r.text, "not a datagram socket");
    (void)close(pair[0]);
    (void)close(pair[1]);
}

static void pair_of_sockets(void **state)
{
    struct bp_relay_path r = {0};
    struct bp_addr local;
    struct bp_addr remote = addr("127.0.0.1", 1);
    int fd;

    (void)state;
    bp_relay_path_pair(&r, "a process");
    assert_int_equal(bp_relay_path_open(&r, &remote, &fd, &local), 0);
    send_two(&r, fd, &remote, r.side, 0);
    bp_relay_path_close(&r);
    assert_int_equal(r.side, -1);
    (void)close(fd);
}

/* --- a proxy ------------------------------------------------------------- */

struct proxy {
    int listener;
    int tcp;
    int udp;
    struct bp_addr at;
    struct bp_addr udp_at;
};

static void proxy_open(struct proxy *x)
{
    x->tcp = -1;
    x->udp = bound_socket(SOCK_DGRAM, &x->udp_at);
    x->listener = bound_socket(SOCK_STREAM, &x->at);
    assert_int_equal(listen(x->listener, 1), 0);
}

static void proxy_close(struct proxy *x)
{
    (void)close(x->listener);
    (void)close(x->udp);
    if (x->tcp >= 0) {
        (void)close(x->tcp);
    }
}

/* The client's turn, as a loop would have it. */
static int step(struct bp_relay_path *r, int *fd, struct bp_addr *local)
{
    struct pollfd p = {.fd = r->side,
                       .events = bp_relay_path_wants_write(r) ? POLLIN | POLLOUT : POLLIN};

    assert_int_equal(poll(&p, 1, 5000), 1);
    return bp_relay_path_ready(r, fd, local);
}

static int say(struct proxy *x, const uint8_t *p, size_t len, struct bp_relay_path *r, int *fd,
               struct bp_addr *local)
{
    int rc = 1;

    for (size_t i = 0; i < len && rc == 1; i++) {
        assert_int_equal(send(x->tcp, p + i, 1, MSG_NOSIGNAL), 1);
        rc = step(r, fd, local);
    }
    return rc;
}

static void ask(struct proxy *x, struct bp_relay_path *r, const uint8_t *want, size_t len, int *fd,
                struct bp_addr *local)
{
    uint8_t got[64];

    while (bp_relay_path_wants_write(r)) {
        assert_int_equal(step(r, fd, local), 1);
    }
    if (x->tcp < 0) {
        x->tcp = accept(x->listener, NULL, NULL);
        assert_true(x->tcp >= 0);
    }
    assert_int_equal(receive(x->tcp, got, sizeof(got)), len);
    assert_memory_equal(got, want, len);
}

static const uint8_t methods[] = {5, 2, 0, 2};
static const uint8_t login[] = {1, 1, 'u', 2, 'p', 'w'};
static const uint8_t associate[] = {5, 3, 0, 1, 0, 0, 0, 0, 0, 0};

static void proxy(void **state)
{
    struct proxy x;
    struct bp_relay_path r = {0};
    struct bp_addr local;
    struct bp_addr remote = addr("192.0.2.1", 4433);
    struct bp_relay_stats st = {0};
    uint16_t port;
    int fd;

    (void)state;
    proxy_open(&x);
    port = bp_addr_port(&x.udp_at);
    assert_int_equal(bp_relay_path_socks5(&r, &x.at, "u", "pw"), 0);
    assert_int_equal(bp_relay_path_open(&r, &remote, &fd, &local), 1);
    assert_int_equal(fd, -1);
    ask(&x, &r, methods, sizeof(methods), &fd, &local);
    assert_int_equal(say(&x, (const uint8_t[]){5, 2}, 2, &r, &fd, &local), 1);
    ask(&x, &r, login, sizeof(login), &fd, &local);
    assert_int_equal(r.socks.password[0], 0); /* not kept */
    assert_int_equal(say(&x, (const uint8_t[]){1, 0}, 2, &r, &fd, &local), 1);
    ask(&x, &r, associate, sizeof(associate), &fd, &local);
    assert_int_equal(
        say(&x, (const uint8_t[]){5, 0, 0, 1, 127, 0, 0, 1, (uint8_t)(port >> 8), (uint8_t)port},
            10, &r, &fd, &local),
        0);
    assert_true(fd >= 0 && r.open);
    send_two(&r, fd, &remote, x.udp, 10);
    /* what has no header, and what has */
    assert_int_equal(bp_relay_path_unwrap(&r, &st, (const uint8_t *)"abc", 3), 0);
    assert_int_equal(st.dropped_in, 1);
    assert_int_equal(
        bp_relay_path_unwrap(&r, &st, (const uint8_t *)"\0\0\0\1\300\0\2\1\21\121abc", 13), 3);
    assert_int_equal(st.bytes_in, 3);
    /* the connection is what keeps the relay open */
    (void)close(x.tcp);
    x.tcp = -1;
    assert_int_equal(step(&r, &(int){0}, &local), BP_E_RELAY);
    assert_string_equal(r.text, "the proxy has closed its connection");
    bp_relay_path_close(&r);
    (void)close(fd);
    proxy_close(&x);
}

static void proxy_refuses(void **state)
{
    struct proxy x;
    struct bp_relay_path r = {0};
    struct bp_addr local;
    struct bp_addr remote = addr("192.0.2.1", 4433);
    int fd;

    (void)state;
    proxy_open(&x);
    assert_int_equal(bp_relay_path_socks5(&r, &x.at, "u", "pw"), 0);
    assert_int_equal(bp_relay_path_open(&r, &remote, &fd, &local), 1);
    ask(&x, &r, methods, sizeof(methods), &fd, &local);
    assert_int_equal(say(&x, (const uint8_t[]){5, 2}, 2, &r, &fd, &local), 1);
    ask(&x, &r, login, sizeof(login), &fd, &local);
    assert_int_equal(say(&x, (const uint8_t[]){1, 1}, 2, &r, &fd, &local), BP_E_RELAY);
    assert_string_equal(r.text, "the proxy did not take the user name and password");
    assert_int_equal(fd, -1);
    bp_relay_path_close(&r);
    proxy_close(&x);
    /* nobody there any more */
    assert_int_equal(bp_relay_path_socks5(&r, &x.at, NULL, NULL), 0);
    if (bp_relay_path_open(&r, &remote, &fd, &local) == 1) {
        assert_int_equal(step(&r, &fd, &local), BP_E_RELAY);
    }
    assert_string_equal(r.text, "cannot connect: Connection refused");
    bp_relay_path_close(&r);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(forwarder), cmocka_unit_test(descriptor),    cmocka_unit_test(pair_of_sockets),
    cmocka_unit_test(proxy),     cmocka_unit_test(proxy_refuses),
};

T_MAIN(tests)
