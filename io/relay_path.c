/* SPDX-License-Identifier: Apache-2.0 */
#include "io/relay_path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PAIR_SIZE 1048576 /* socket buffers of a pair */

/* --- making -------------------------------------------------------------- */

static void init(struct bp_relay_path *r, enum bp_relay_way way, const struct bp_addr *via)
{
    uint32_t mtu = r->mtu;

    *r = (struct bp_relay_path){.way = way, .mtu = mtu, .user_fd = -1, .side = -1};
    if (via != NULL) {
        r->via = *via;
    }
}

static void name_via(struct bp_relay_path *r, const char *what)
{
    char at[BP_ADDR_TEXT_MAX];

    (void)snprintf(r->name, sizeof(r->name), "%s %s", what, bp_addr_text(&r->via, at));
}

void bp_relay_path_udp(struct bp_relay_path *r, const struct bp_addr *via)
{
    init(r, BP_WAY_UDP, via);
    name_via(r, "relay");
}

int bp_relay_path_socks5(struct bp_relay_path *r, const struct bp_addr *via, const char *user,
                         const char *password)
{
    init(r, BP_WAY_SOCKS5, via);
    name_via(r, "SOCKS proxy");
    return bp_socks5_init(&r->socks, user, password);
}

void bp_relay_path_fd(struct bp_relay_path *r, int fd)
{
    init(r, BP_WAY_FD, NULL);
    r->user_fd = fd;
    (void)snprintf(r->name, sizeof(r->name), "descriptor %d", fd);
}

void bp_relay_path_pair(struct bp_relay_path *r, const char *name)
{
    init(r, BP_WAY_PAIR, NULL);
    (void)snprintf(r->name, sizeof(r->name), "%s", name);
}

/* --- opening ------------------------------------------------------------- */

static int failed(struct bp_relay_path *r, int rc, const char *what)
{
    (void)snprintf(r->text, sizeof(r->text), "%s: %s", what, strerror(errno));
    return rc;
}

void bp_relay_path_name(const struct bp_addr *remote, struct bp_addr *local)
{
    static _Atomic uint32_t last;
    uint32_t n = ++last;
    char ip[BP_ADDR_TEXT_MAX];

    (void)snprintf(ip, sizeof(ip), "127.%u.%u.%u", 128u + (n >> 16) % 127u, n >> 8 & 255u,
                   n & 255u);
    if (bp_addr_parse(local, ip, 1) != 0) {
        *local = (struct bp_addr){0}; /* cannot be */
    }
    if (remote->u.sa.sa_family == AF_INET6) {
        bp_addr_map_v6(local);
    }
}

static int open_udp(struct bp_relay_path *r, const struct bp_addr *to, int *fd,
                    struct bp_addr *local)
{
    const struct bp_addr any = {0};
    int rc = bp_udp_path(fd, &any, to, false, local);

    if (rc != 0) {
        return failed(r, rc, "cannot open a socket");
    }
    if (r->remote.u.sa.sa_family == AF_INET6) {
        bp_addr_map_v6(local);
    }
    r->open = true;
    return 0;
}

static int open_fd(struct bp_relay_path *r, int *fd, struct bp_addr *local)
{
    int type = 0;
    socklen_t len = sizeof(type);

    if (getsockopt(r->user_fd, SOL_SOCKET, SO_TYPE, &type, &len) != 0) {
        return failed(r, BP_E_RELAY, "not a socket");
    }
    if (type != SOCK_DGRAM) {
        (void)snprintf(r->text, sizeof(r->text), "not a datagram socket");
        return BP_E_RELAY;
    }
    /* Whether it blocks is the user's affair, who has the same socket. */
    *fd = fcntl(r->user_fd, F_DUPFD_CLOEXEC, 3);
    if (*fd < 0) {
        return failed(r, BP_E_LIMIT, "cannot use the descriptor");
    }
    bp_relay_path_name(&r->remote, local);
    r->open = true;
    return 0;
}

static int open_pair(struct bp_relay_path *r, int *fd, struct bp_addr *local)
{
    int pair[2];
    int size = PAIR_SIZE;

    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0) {
        return failed(r, BP_E_LIMIT, "no pair of sockets");
    }
    for (unsigned i = 0; i < 2; i++) {
        (void)setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    }
    *fd = pair[0];
    r->side = pair[1];
    bp_relay_path_name(&r->remote, local);
    r->open = true;
    return 0;
}

static int open_socks(struct bp_relay_path *r)
{
    r->side = socket(r->via.u.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (r->side < 0) {
        return failed(r, BP_E_LIMIT, "no socket");
    }
    if (connect(r->side, &r->via.u.sa, r->via.len) != 0 && errno != EINPROGRESS) {
        int rc = failed(r, BP_E_RELAY, "cannot connect");
        (void)close(r->side);
        r->side = -1;
        return rc;
    }
    r->connecting = true;
    return 1;
}

int bp_relay_path_open(struct bp_relay_path *r, const struct bp_addr *remote, int *fd,
                       struct bp_addr *local)
{
    *fd = -1;
    r->remote = *remote;
    switch (r->way) {
    case BP_WAY_UDP:
        return open_udp(r, &r->via, fd, local);
    case BP_WAY_FD:
        return open_fd(r, fd, local);
    case BP_WAY_PAIR:
        return open_pair(r, fd, local);
    case BP_WAY_SOCKS5:
    default:
        return open_socks(r);
    }
}

/* --- SOCKS --------------------------------------------------------------- */

bool bp_relay_path_wants_write(const struct bp_relay_path *r)
{
    return r->connecting || r->socks.out_off < r->socks.out_len;
}

static int socks_write(struct bp_relay_path *r)
{
    size_t len;
    const uint8_t *p = bp_socks5_out(&r->socks, &len);
    ssize_t n;

    if (len == 0) {
        return 0;
    }
    n = send(r->side, p, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        return failed(r, BP_E_RELAY, "the connection to the proxy broke");
    }
    bp_socks5_sent(&r->socks, n > 0 ? (size_t)n : 0);
    return 0;
}

static int socks_read(struct bp_relay_path *r)
{
    uint8_t buf[512];
    ssize_t n = recv(r->side, buf, sizeof(buf), MSG_DONTWAIT);
    int rc;

    if (n == 0) {
        (void)snprintf(r->text, sizeof(r->text), "the proxy has closed its connection");
        return BP_E_RELAY;
    }
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR
                   ? 0
                   : failed(r, BP_E_RELAY, "the connection to the proxy broke");
    }
    rc = bp_socks5_in(&r->socks, buf, (size_t)n);
    if (rc != 0) {
        (void)snprintf(r->text, sizeof(r->text), "%s", r->socks.text);
    }
    return rc;
}

/* 0: connected; 1: not yet. */
static int socks_connected(struct bp_relay_path *r)
{
    int err = 0;
    socklen_t len = sizeof(err);
    struct sockaddr_storage peer;
    socklen_t peer_len = sizeof(peer);

    if (getsockopt(r->side, SOL_SOCKET, SO_ERROR, &err, &len) != 0 || err != 0) {
        errno = err != 0 ? err : errno;
        return failed(r, BP_E_RELAY, "cannot connect");
    }
    if (getpeername(r->side, (struct sockaddr *)&peer, &peer_len) != 0) {
        return 1;
    }
    r->connecting = false;
    return 0;
}

static int socks_opened(struct bp_relay_path *r, int *fd, struct bp_addr *local)
{
    struct bp_addr to = r->socks.bound;

    if (to.len == 0) {
        to = r->via;
        bp_addr_set_port(&to, r->socks.bound_port);
    }
    r->tx.header_len = bp_socks5_header(r->tx.header, &r->remote);
    return open_udp(r, &to, fd, local);
}

int bp_relay_path_ready(struct bp_relay_path *r, int *fd, struct bp_addr *local)
{
    int rc = r->connecting ? socks_connected(r) : 0;

    *fd = -1;
    if (rc == 0) {
        rc = socks_read(r);
    }
    if (rc == 0) {
        rc = socks_write(r);
    }
    if (rc == 0) {
        rc = r->socks.state == BP_SOCKS5_DONE && !r->open ? socks_opened(r, fd, local) : 1;
    }
    return rc;
}

/* --- in use -------------------------------------------------------------- */

void bp_relay_path_tx(const struct bp_relay_path *r, struct bp_udp_tx *tx)
{
    /* A forwarder's socket is like any other. */
    tx->relay = r->way != BP_WAY_UDP ? &r->tx : NULL;
    tx->max_datagram = r->mtu;
}

static uint64_t count(const struct bp_tx_run *runs, unsigned n, uint64_t *bytes)
{
    uint64_t datagrams = 0;

    *bytes = 0;
    for (unsigned i = 0; i < n; i++) {
        if (runs[i].len > 0) {
            datagrams += (runs[i].len + runs[i].seg - 1) / runs[i].seg;
            *bytes += runs[i].len;
        }
    }
    return datagrams;
}

unsigned bp_relay_path_send(struct bp_relay_stats *stats, int fd, struct bp_udp_tx *tx,
                            const uint8_t *buf, struct bp_tx_run *runs, unsigned n)
{
    uint64_t lost = tx->lost;
    uint64_t lost_bytes = tx->lost_bytes;
    uint64_t bytes;
    uint64_t bytes_left;
    uint64_t datagrams = count(runs, n, &bytes);
    unsigned done = bp_udp_send(fd, tx, buf, runs, n);

    lost = tx->lost - lost;
    lost_bytes = tx->lost_bytes - lost_bytes;
    datagrams -= count(runs, n, &bytes_left);
    stats->dropped_out += lost;
    stats->datagrams_out += datagrams - lost;
    stats->bytes_out += bytes - bytes_left - lost_bytes;
    return done;
}

size_t bp_relay_path_unwrap(const struct bp_relay_path *r, struct bp_relay_stats *stats,
                            const uint8_t *p, size_t len)
{
    size_t header = r->way == BP_WAY_SOCKS5 ? bp_socks5_strip(p, len) : 0;

    if (r->way == BP_WAY_SOCKS5 && header == 0) {
        stats->dropped_in++;
        return 0;
    }
    stats->datagrams_in++;
    stats->bytes_in += len - header;
    return len - header;
}

void bp_relay_path_key(const struct bp_relay_path *r, struct bp_addr *key)
{
    if (r->via.len != 0) {
        *key = r->via;
    } else if (bp_addr_parse(key, "127.0.0.1", (uint16_t)r->way) != 0) {
        key->len = 0; /* cannot be */
    }
}

void bp_relay_path_close(struct bp_relay_path *r)
{
    if (r->side >= 0) {
        (void)close(r->side);
        r->side = -1;
    }
    bp_socks5_free(&r->socks);
}
