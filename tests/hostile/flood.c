/* SPDX-License-Identifier: Apache-2.0 */
/* Attacks without a connection: floods of datagrams, half-open connections, a squatted port. */
#include "hostile/client.h"

#include "base/err.h"
#include "quic/tls_cert.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FLOOD_MAX    200000u /* datagrams */
#define FLOOD_SOCKS  256u
#define FLOOD_BATCH  20u
#define FLOOD_SIZE   1472u
#define POOL         256u /* first packets that are right, of connections that nobody goes on with */
#define INITIAL_SIZE 1200u

static uint8_t pool[POOL][FLOOD_SIZE];
static size_t pool_len[POOL];

static int bound_socket(const char *ip)
{
    struct bp_addr a;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0 || bp_addr_parse(&a, ip, 0) != 0 || bind(fd, &a.u.sa, a.len) != 0) {
        die("no socket on %s: %s", ip, strerror(errno));
    }
    return fd;
}

/* --- datagrams ----------------------------------------------------------- */

struct kept {
    uint8_t *p;
    size_t len;
};

static void keep_first(void *ctx, const uint8_t *p, size_t len)
{
    struct kept *k = ctx;

    if (k->len == 0 && len <= FLOOD_SIZE) {
        memcpy(k->p, p, len);
        k->len = len;
    }
}

/* First packets with a whole ClientHello in them, as any client sends. */
static void fill_pool(void)
{
    struct self self;

    self_new(&self);
    for (unsigned i = 0; i < POOL; i++) {
        struct kept k = {.p = pool[i]};
        struct client c;

        client_dial(&c, &self, "127.0.0.1", "127.0.0.1", 9);
        c.on_send = keep_first;
        c.on_send_ctx = &k;
        (void)close(c.fd); /* nothing of it is sent */
        client_flush(&c);
        pool_len[i] = k.len;
        c.fd = -1;
        client_free(&c);
    }
    self_free(&self);
}

static void random_bytes(uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i += 8) {
        uint64_t r = rnd();
        memcpy(p + i, &r, len - i < 8 ? len - i : 8);
    }
}

/* A long header with random ids, and noise behind it. */
static size_t long_header(uint8_t *p, uint8_t first, uint32_t version, size_t size)
{
    random_bytes(p, 64);
    p[0] = first;
    p[1] = (uint8_t)(version >> 24);
    p[2] = (uint8_t)(version >> 16);
    p[3] = (uint8_t)(version >> 8);
    p[4] = (uint8_t)version;
    p[5] = 8;
    p[14] = 8;
    p[23] = 0; /* no token */
    p[24] = 0x44;
    p[25] = 0x96;
    return size;
}

static size_t next_datagram(uint8_t *p, uint64_t i)
{
    uint64_t r = rnd();

    switch (i % 10) {
    case 0: /* a real first packet */
    case 5:
        memcpy(p, pool[r % POOL], pool_len[r % POOL]);
        return pool_len[r % POOL];
    case 1: /* looks like one */
    case 2:
    case 3:
        return long_header(p, (uint8_t)(0xc0 | (r & 3)), 1, INITIAL_SIZE);
    case 4: /* another version */
        return long_header(p, 0xc3, (uint32_t)r | 0x0a0a0a0a, INITIAL_SIZE);
    case 6: /* belongs to a connection that nobody knows */
        random_bytes(p, 100);
        p[0] = (uint8_t)(0x40 | (r & 0x3f));
        return 30 + r % 70;
    case 7: /* Handshake, 0-RTT, Retry */
        return long_header(p, (uint8_t)(0xd0 + 0x10 * (r % 3)), 1, 100 + r % 1100);
    default: /* noise of all sizes */
        random_bytes(p, 64);
        return r % (FLOOD_SIZE + 1);
    }
}

static void drain(int fd)
{
    static uint8_t buf[FLOOD_SIZE];

    while (fd >= 0 && recv(fd, buf, sizeof(buf), 0) >= 0) {
    }
}

/*
 * flood port= rate= count= [sink=1]: datagrams of all kinds from 256 ports of 16 addresses; with
 * sink= they go to a socket of our own instead, for the same work without an attack.
 */
void cmd_flood(void)
{
    uint64_t count = arg_uint("count", 20000);
    uint64_t rate = arg_uint("rate", 20000);
    static uint8_t bufs[FLOOD_BATCH][FLOOD_SIZE + 8];
    static int socks[FLOOD_SOCKS];
    struct mmsghdr msgs[FLOOD_BATCH];
    struct iovec iov[FLOOD_BATCH];
    struct bp_addr to;
    uint64_t sent = 0;
    uint64_t refused = 0;
    bp_time began;
    int sink = -1;

    if (count > FLOOD_MAX || rate == 0 || rate > 50000 ||
        bp_addr_parse(&to, arg("to", "127.0.0.1"), (uint16_t)arg_uint("port", 0)) != 0) {
        die("flood: port, rate <= 50000, count <= %u", FLOOD_MAX);
    }
    for (unsigned i = 0; i < FLOOD_SOCKS; i++) {
        char ip[32];
        snprintf(ip, sizeof(ip), "127.2.0.%u", 1 + i % 16);
        socks[i] = bound_socket(ip);
    }
    if (arg_uint("sink", 0) != 0) {
        socklen_t len = sizeof(to.u);
        sink = bound_socket("127.0.0.1");
        if (getsockname(sink, &to.u.sa, &len) != 0) {
            die("no sink");
        }
    }
    fill_pool();
    say_uint("started", 1);
    began = mono();
    for (uint64_t i = 0; i < count;) {
        bp_time due = began + i * BP_SEC / rate;
        bp_time now = mono();
        int n = 0;
        int done;

        if (due > now) {
            struct timespec t = {.tv_nsec = (long)(due - now)};
            (void)nanosleep(&t, NULL);
        }
        for (; n < (int)FLOOD_BATCH && i < count; n++, i++) {
            iov[n] = (struct iovec){.iov_base = bufs[n], .iov_len = next_datagram(bufs[n], i)};
            msgs[n] = (struct mmsghdr){.msg_hdr = {.msg_name = &to.u.sa,
                                                   .msg_namelen = to.len,
                                                   .msg_iov = &iov[n],
                                                   .msg_iovlen = 1}};
        }
        done = sendmmsg(socks[i / FLOOD_BATCH % FLOOD_SOCKS], msgs, (unsigned)n, 0);
        sent += done > 0 ? (uint64_t)done : 0;
        refused += done < n;
        drain(sink);
    }
    say_uint("sent", sent);
    say_uint("refused", refused);
    say_uint("ms", (mono() - began) / BP_MS);
    for (unsigned i = 0; i < FLOOD_SOCKS; i++) {
        (void)close(socks[i]);
    }
}

/* --- half-open connections ----------------------------------------------- */

static bool is_retry(const uint8_t *p, ssize_t len)
{
    return len > 0 && (p[0] & 0xf0) == 0xf0;
}

/*
 * half_open port= count=: begins that many handshakes from 160 addresses and goes on with none. A
 * Retry is answered, so that the address counts as proved.
 */
void cmd_half_open(void)
{
    uint64_t count = arg_uint("count", 1000);
    uint64_t retries = 0, answered = 0, silent = 0;
    static uint8_t buf[65536];
    struct self self;

    if (count > 20000) {
        die("half_open: count <= 20000");
    }
    self_new(&self);
    for (uint64_t i = 0; i < count; i++) {
        struct client c;
        bool retried = false;
        char ip[32];

        snprintf(ip, sizeof(ip), "127.3.%u.1", (unsigned)(i % 160));
        client_dial(&c, &self, ip, "127.0.0.1", (uint16_t)arg_uint("port", 0));
        client_flush(&c);
        for (;;) {
            struct pollfd fd = {.fd = c.fd, .events = POLLIN};
            ssize_t n = poll(&fd, 1, silent > 300 ? 1 : 20) == 1
                            ? recv(c.fd, buf, sizeof(buf), 0)
                            : -1;
            if (n < 0) {
                silent++;
                break;
            }
            if (!is_retry(buf, n) || retried) {
                answered++;
                break;
            }
            retried = true;
            retries++;
            client_read(&c, &c.remote, buf, (size_t)n);
            client_flush(&c);
        }
        client_free(&c);
    }
    say_uint("retries", retries);
    say_uint("answered", answered);
    say_uint("silent", silent);
    self_free(&self);
}

/*
 * hold_port port=: a socket on a port whose owner has died, so that the kernel does not say that
 * nobody is there (ICMP), until standard input ends.
 */
void cmd_hold_port(void)
{
    struct bp_addr a;
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    char c;

    if (fd < 0 || bp_addr_parse(&a, "::", (uint16_t)arg_uint("port", 0)) != 0 ||
        bind(fd, &a.u.sa, a.len) != 0) {
        die("the port cannot be held: %s", strerror(errno));
    }
    say_uint("holding", 1);
    while (read(STDIN_FILENO, &c, 1) > 0) {
    }
}
