/* SPDX-License-Identifier: Apache-2.0 */
/* UDP sockets and batches. */
#include "io/udp.h"

#include "base/err.h"

#include <errno.h>
#include <linux/errqueue.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#ifndef IP_MTU_DISCOVER
#define IP_MTU_DISCOVER 10
#endif
#ifndef IP_PMTUDISC_PROBE
#define IP_PMTUDISC_PROBE 3
#endif
#ifndef IPV6_PMTUDISC_PROBE
#define IPV6_PMTUDISC_PROBE 3
#endif

#define SOCKET_BUFFER (4 * 1024 * 1024)

/* --- sockets ------------------------------------------------------------- */

static void set_int(int fd, int level, int name, int value)
{
    /* Each of these makes the node faster or the path MTU search better; none is needed. */
    (void)setsockopt(fd, level, name, &value, sizeof(value));
}

/* As large as the system lets us: the forced variants need CAP_NET_ADMIN. */
static void size_buffers(int fd)
{
    int size = SOCKET_BUFFER;

    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) != 0) {
        set_int(fd, SOL_SOCKET, SO_RCVBUF, size);
    }
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) != 0) {
        set_int(fd, SOL_SOCKET, SO_SNDBUF, size);
    }
}

static int new_socket(int family)
{
    int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return -1;
    }
    if (family == AF_INET6) {
        set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
        set_int(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
    }
    /* Also for IPv4 over a dual-stack socket. */
    set_int(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
    set_int(fd, IPPROTO_UDP, UDP_GRO, 1);
    size_buffers(fd);
    return fd;
}

static int sys_error(void)
{
    switch (errno) {
    case EADDRINUSE:
        return BP_E_ADDR_IN_USE;
    case EMFILE:
    case ENFILE:
        return BP_E_LIMIT;
    default:
        return BP_E_SYSTEM;
    }
}

static int close_failed(int fd, int rc)
{
    int saved = errno;

    (void)close(fd);
    errno = saved;
    return rc;
}

static int local_of(int fd, struct bp_addr *out)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);

    if (getsockname(fd, (struct sockaddr *)&ss, &len) != 0 ||
        !bp_addr_from_sockaddr(out, &ss, len)) {
        return BP_E_SYSTEM;
    }
    return 0;
}

static int bind_exclusively(int *out, const struct bp_addr *a, struct bp_addr *bound)
{
    int fd = new_socket(a->u.sa.sa_family);
    int on = 1;
    int rc;

    if (fd < 0) {
        return sys_error();
    }
    if (bind(fd, &a->u.sa, a->len) != 0) {
        return close_failed(fd, sys_error());
    }
    /* Only now: peer sockets join from here on, another node's exclusive bind still fails. */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0) {
        return close_failed(fd, BP_E_SYSTEM);
    }
    rc = local_of(fd, bound);
    if (rc != 0) {
        return close_failed(fd, rc);
    }
    *out = fd;
    return 0;
}

int bp_udp_listen(int *fd, const struct bp_addr *want, uint16_t port, int family,
                  struct bp_addr *bound)
{
    struct bp_addr a = {0};
    int rc;

    if (want->len != 0) {
        a = *want;
        bp_addr_set_port(&a, port);
        return bind_exclusively(fd, &a, bound);
    }
    if (family != 4) {
        if (bp_addr_parse(&a, "::", port) != 0) {
            return BP_E_INTERNAL;
        }
        rc = bind_exclusively(fd, &a, bound);
        if (rc == 0 || rc == BP_E_ADDR_IN_USE || rc == BP_E_LIMIT || family == 6) {
            return rc;
        }
    }
    if (bp_addr_parse(&a, "0.0.0.0", port) != 0) {
        return BP_E_INTERNAL;
    }
    return bind_exclusively(fd, &a, bound);
}

int bp_udp_connect(int *out, const struct bp_addr *local, struct bp_addr *remote,
                   struct bp_addr *bound)
{
    int family = local->len != 0 ? local->u.sa.sa_family : remote->u.sa.sa_family;
    int on = 1;
    int fd;
    int rc = 0;

    if (family == AF_INET6) {
        bp_addr_map_v6(remote);
    } else if (remote->u.sa.sa_family != AF_INET) {
        errno = EAFNOSUPPORT;
        return BP_E_SYSTEM;
    }
    fd = new_socket(family);
    if (fd < 0) {
        return sys_error();
    }
    if (local->len != 0) {
        if (setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0 ||
            bind(fd, &local->u.sa, local->len) != 0) {
            return close_failed(fd, sys_error());
        }
    }
    if (connect(fd, &remote->u.sa, remote->len) != 0) {
        return close_failed(fd, sys_error());
    }
    if (local->len != 0) {
        *bound = *local;
    } else {
        rc = local_of(fd, bound);
    }
    if (rc != 0) {
        return close_failed(fd, rc);
    }
    *out = fd;
    return 0;
}

int bp_udp_path(int *out, const struct bp_addr *want, const struct bp_addr *remote, bool share,
                struct bp_addr *bound)
{
    struct bp_addr a = *want;
    int family = remote->u.sa.sa_family;
    int on = 1;
    int fd;
    int rc;

    if (a.len != 0 && family == AF_INET6) {
        bp_addr_map_v6(&a);
    }
    if (a.len != 0 && (a.u.sa.sa_family != family ||
                       (family == AF_INET6 && bp_addr_is_mapped(&a) != bp_addr_is_mapped(remote) &&
                        !IN6_IS_ADDR_UNSPECIFIED(&a.u.v6.sin6_addr)))) {
        return BP_E_INVALID;
    }
    fd = new_socket(family);
    if (fd < 0) {
        return sys_error();
    }
    if (a.len != 0 && ((share && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0) ||
                       bind(fd, &a.u.sa, a.len) != 0)) {
        return close_failed(fd, sys_error());
    }
    if (connect(fd, &remote->u.sa, remote->len) != 0) {
        return close_failed(fd, sys_error());
    }
    rc = local_of(fd, bound);
    if (rc != 0) {
        return close_failed(fd, rc);
    }
    *out = fd;
    return 0;
}

/* --- sending ------------------------------------------------------------- */

union gso_control {
    char buf[CMSG_SPACE(sizeof(uint16_t))];
    struct cmsghdr align;
};

static void fill_msg(struct msghdr *m, struct iovec *iov, union gso_control *ctl,
                     const struct bp_udp_tx *tx, const uint8_t *buf, struct bp_tx_run *run,
                     size_t len)
{
    iov->iov_base = (void *)(uintptr_t)(buf + run->off);
    iov->iov_len = len;
    *m = (struct msghdr){.msg_iov = iov, .msg_iovlen = 1};
    if (!bp_addr_equal(&tx->peer, &run->remote)) {
        m->msg_name = &run->remote.u;
        m->msg_namelen = run->remote.len;
    }
    if (len > run->seg) {
        uint16_t seg = (uint16_t)run->seg;
        struct cmsghdr *c;
        memset(ctl, 0, sizeof(*ctl));
        m->msg_control = ctl->buf;
        m->msg_controllen = sizeof(ctl->buf);
        c = CMSG_FIRSTHDR(m);
        c->cmsg_level = IPPROTO_UDP;
        c->cmsg_type = UDP_SEGMENT;
        c->cmsg_len = CMSG_LEN(sizeof(seg));
        memcpy(CMSG_DATA(c), &seg, sizeof(seg));
    }
}

enum send_result { SENT, FULL, NO_GSO, LOST, RETRY };

static enum send_result judge(struct bp_udp_tx *tx, bool with_gso)
{
    switch (errno) {
    case EINTR:
        return RETRY;
    case EAGAIN:
        return FULL;
    case ECONNREFUSED:
        /* An answer to an earlier datagram; this one was not sent. */
        tx->refused = true;
        return RETRY;
    case ENOTCONN:
    case ECONNRESET:
    case EPIPE:
        /* AF_UNIX: the other end is gone, now or since an earlier datagram. */
        tx->refused = true;
        return LOST;
    case EINVAL:
    case EIO:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
        return with_gso ? NO_GSO : LOST;
    default:
        /* EMSGSIZE: a path MTU probe that does not fit; others: as if the network lost it. */
        return LOST;
    }
}

/* Sends `len` bytes of a run at once. */
static enum send_result send_some(int fd, struct bp_udp_tx *tx, const uint8_t *buf,
                                  struct bp_tx_run *run, size_t len)
{
    bool plain = len <= run->seg && bp_addr_equal(&tx->peer, &run->remote);
    union gso_control ctl;
    struct msghdr m;
    struct iovec iov;

    if (!plain) {
        fill_msg(&m, &iov, &ctl, tx, buf, run, len);
    }
    /* A refused peer can be reported once per datagram sent; do not chase it for ever. */
    for (int tries = 0; tries < 4; tries++) {
        enum send_result r;

        tx->syscalls++;
        if ((plain ? send(fd, buf + run->off, len, MSG_NOSIGNAL) : sendmsg(fd, &m, MSG_NOSIGNAL)) >=
            0) {
            return SENT;
        }
        r = judge(tx, len > run->seg);
        if (r != RETRY) {
            return r;
        }
    }
    return LOST;
}

static void lose(struct bp_udp_tx *tx, uint64_t datagrams, size_t bytes)
{
    tx->lost += datagrams;
    tx->lost_bytes += bytes;
}

/* Drops what is larger than allowed: all but the last datagram have the run's size. */
static void cut(struct bp_udp_tx *tx, struct bp_tx_run *run)
{
    size_t last = run->len % run->seg;
    size_t drop = last != 0 && last <= tx->max_datagram ? run->len - last : run->len;

    lose(tx, (drop + run->seg - 1) / run->seg, drop);
    run->off += drop;
    run->len -= drop;
}

/* One datagram at a time, with its header. */
static unsigned send_relayed(int fd, struct bp_udp_tx *tx, const uint8_t *buf,
                             struct bp_tx_run *runs, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct bp_tx_run *run = &runs[i];

        if (tx->max_datagram != 0 && run->seg > tx->max_datagram && run->len > 0) {
            cut(tx, run);
        }
        while (run->len > 0) {
            size_t len = run->len < run->seg ? run->len : run->seg;
            struct iovec iov[2] = {
                {.iov_base = (void *)(uintptr_t)tx->relay->header,
                 .iov_len = tx->relay->header_len},
                {.iov_base = (void *)(uintptr_t)(buf + run->off), .iov_len = len}};
            struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};
            enum send_result r = RETRY;

            for (int tries = 0; tries < 4 && r == RETRY; tries++) {
                tx->syscalls++;
                r = sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0 ? SENT : judge(tx, false);
            }
            if (r == FULL) {
                return i;
            }
            if (r != SENT) {
                lose(tx, 1, len);
            }
            run->off += len;
            run->len -= len;
        }
    }
    return n;
}

size_t bp_udp_runs_size(const struct bp_tx_run *runs, unsigned n)
{
    size_t size = 0;

    for (unsigned i = 0; i < n; i++) {
        size += runs[i].len;
    }
    return size;
}

void bp_udp_runs_copy(uint8_t *to, struct bp_tx_run *copied, const uint8_t *buf,
                      const struct bp_tx_run *runs, unsigned n)
{
    size_t off = 0;

    for (unsigned i = 0; i < n; i++) {
        copied[i] = runs[i];
        copied[i].off = off;
        memcpy(to + off, buf + runs[i].off, runs[i].len);
        off += runs[i].len;
    }
}

unsigned bp_udp_send(int fd, struct bp_udp_tx *tx, const uint8_t *buf, struct bp_tx_run *runs,
                     unsigned n)
{
    if (tx->relay != NULL) {
        return send_relayed(fd, tx, buf, runs, n);
    }
    for (unsigned i = 0; i < n; i++) {
        struct bp_tx_run *run = &runs[i];

        if (tx->max_datagram != 0 && run->seg > tx->max_datagram && run->len > 0) {
            cut(tx, run);
        }
        while (run->len > 0) {
            size_t len = tx->no_gso && run->len > run->seg ? run->seg : run->len;
            enum send_result r = send_some(fd, tx, buf, run, len);

            if (r == FULL) {
                return i;
            }
            if (r == NO_GSO) {
                tx->no_gso = true;
                continue;
            }
            if (r == LOST) {
                lose(tx, (len + run->seg - 1) / run->seg, len);
            }
            run->off += len;
            run->len -= len;
        }
    }
    return n;
}

/* --- receiving ----------------------------------------------------------- */

static size_t gro_size(struct msghdr *m, size_t len)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
            int seg = 0;
            memcpy(&seg, CMSG_DATA(c), sizeof(seg));
            return seg > 0 && (size_t)seg < len ? (size_t)seg : len;
        }
    }
    return len;
}

int bp_udp_recv(int fd, uint8_t *mem, struct bp_udp_rx *rx, bool *refused)
{
    return bp_udp_recv_some(fd, mem, rx, BP_UDP_RX_BUFS, refused);
}

int bp_udp_recv_some(int fd, uint8_t *mem, struct bp_udp_rx *rx, unsigned max, bool *refused)
{
    struct mmsghdr msgs[BP_UDP_RX_BUFS];
    struct iovec iov[BP_UDP_RX_BUFS];
    struct sockaddr_storage from[BP_UDP_RX_BUFS];
    union {
        char buf[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } ctl[BP_UDP_RX_BUFS];
    int n = 0;

    *refused = false;
    for (unsigned i = 0; i < max; i++) {
        iov[i] = (struct iovec){.iov_base = mem + i * BP_UDP_RX_BUF, .iov_len = BP_UDP_RX_BUF};
        msgs[i] = (struct mmsghdr){.msg_hdr = {.msg_name = &from[i],
                                               .msg_namelen = sizeof(from[i]),
                                               .msg_iov = &iov[i],
                                               .msg_iovlen = 1,
                                               .msg_control = ctl[i].buf,
                                               .msg_controllen = sizeof(ctl[i].buf)}};
    }
    for (int tries = 0; tries < 4; tries++) {
        n = recvmmsg(fd, msgs, max, MSG_DONTWAIT, NULL);
        if (n >= 0 || (errno != EINTR && errno != ECONNREFUSED)) {
            break;
        }
        *refused = *refused || errno == ECONNREFUSED;
    }
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR || errno == ECONNREFUSED ? 0 : BP_E_SYSTEM;
    }
    for (int i = 0; i < n; i++) {
        struct bp_udp_rx *r = &rx[i];

        r->data = iov[i].iov_base;
        r->len = msgs[i].msg_len;
        r->seg = gro_size(&msgs[i].msg_hdr, r->len);
        if (!bp_addr_from_sockaddr(&r->remote, &from[i], msgs[i].msg_hdr.msg_namelen)) {
            r->remote = (struct bp_addr){0}; /* AF_UNIX, mostly without a name */
        }
    }
    return n;
}

/* --- what the kernel reports --------------------------------------------- */

void bp_udp_report_refused(int fd)
{
    set_int(fd, IPPROTO_IP, IP_RECVERR, 1);
    set_int(fd, IPPROTO_IPV6, IPV6_RECVERR, 1); /* fails for IPv4 */
}

static bool is_refusal(struct msghdr *m)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
        if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) ||
            (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR)) {
            struct sock_extended_err e;
            memcpy(&e, CMSG_DATA(c), sizeof(e));
            return e.ee_errno == ECONNREFUSED;
        }
    }
    return false;
}

bool bp_udp_refused(int fd, struct bp_addr *whose)
{
    union {
        char buf[512];
        struct cmsghdr align;
    } ctl;
    struct sockaddr_storage to;
    char byte;
    struct iovec iov = {.iov_base = &byte, .iov_len = sizeof(byte)};
    struct msghdr m = {.msg_name = &to,
                       .msg_namelen = sizeof(to),
                       .msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = ctl.buf,
                       .msg_controllen = sizeof(ctl.buf)};

    whose->len = 0;
    if (recvmsg(fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) {
        return false;
    }
    if (is_refusal(&m) && !bp_addr_from_sockaddr(whose, &to, m.msg_namelen)) {
        whose->len = 0;
    }
    return true;
}
