/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a connection's datagrams go through instead of a UDP socket towards the peer:
 *
 *   udp_relay  a UDP socket towards a forwarder that knows where they go
 *   socks5     the same towards a SOCKS 5 proxy, with its header (relay/socks5.h); a TCP connection
 * to the proxy says how long fd         a socket of the user's, AF_UNIX or UDP, connected: a tunnel
 * in another process process    an Erlang process, at the far end of a pair of sockets that this
 * port holds
 *
 * QUIC does not know: for it the peer is where it was dialled, and the path has a name of its own.
 */
#include "driver/drv.h"

#include "relay/socks5.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define TAKE_MAX  1024u   /* that it may ask for at once */
#define PAIR_SIZE 1048576 /* socket buffers of a pair */
/* As the user sees it, and long enough for the error of a system call. */
#define TEXT_LEN  256u

enum kind { UDP_RELAY = 1, SOCKS5 = 2, FD = 3, PROCESS = 4 };

/* Arguments of CONNECT and MIGRATE, after their own. */
enum arg { A_KIND = 20, A_IP = 21, A_PORT = 22, A_USER = 23, A_PASSWORD = 24, A_FD = 25 };

struct drv_relay {
    enum kind kind;
    struct bp_addr via;    /* UDP_RELAY, SOCKS5 */
    struct bp_addr remote; /* of QUIC */
    struct bp_udp_relay tx;
    struct bp_socks5 socks;
    int user_fd;
    int side; /* SOCKS5: the TCP connection; PROCESS: the far end; -1: none */
    bool connecting;
    bool writable; /* selected for writing */
    bool open;
    bool down;          /* ... and the log has it */
    ErlDrvTermData pid; /* PROCESS: who takes datagrams */
    uint32_t credit;
    bool reading; /* selected for reading: the process has credit */
    char name[BP_ADDR_TEXT_MAX + 32];
    char text[TEXT_LEN];
};

/* --- arguments ----------------------------------------------------------- */

static int parse_via(struct drv_relay *r, const uint8_t *p, size_t len, const char *what)
{
    char ip[BP_ADDR_TEXT_MAX];
    char at[BP_ADDR_TEXT_MAX];
    uint64_t port = 0;

    if (!drv_args_string(p, len, A_IP, ip, sizeof(ip)) || !drv_args_uint(p, len, A_PORT, &port) ||
        port == 0 || port > UINT16_MAX || bp_addr_parse(&r->via, ip, (uint16_t)port) != 0) {
        return BP_E_INVALID;
    }
    snprintf(r->name, sizeof(r->name), "%s %s", what, bp_addr_text(&r->via, at));
    return 0;
}

static int parse_socks(struct drv_relay *r, const uint8_t *p, size_t len)
{
    char user[BP_SOCKS5_TEXT_MAX + 1] = "";
    char password[BP_SOCKS5_TEXT_MAX + 1] = "";
    int rc = parse_via(r, p, len, "SOCKS proxy");

    (void)drv_args_string(p, len, A_USER, user, sizeof(user));
    (void)drv_args_string(p, len, A_PASSWORD, password, sizeof(password));
    if (rc == 0) {
        rc = bp_socks5_init(&r->socks, user, password);
    }
    bp_wipe(password, sizeof(password));
    return rc;
}

int drv_relay_parse(struct drv_relay **out, const uint8_t *p, size_t len)
{
    struct drv_relay *r;
    uint64_t kind = 0;
    uint64_t fd = 0;
    int rc = BP_E_INVALID;

    *out = NULL;
    if (!drv_args_uint(p, len, A_KIND, &kind)) {
        return 0;
    }
    r = bp_mem_zalloc(drv_mem(), 1, sizeof(*r));
    if (r == NULL) {
        return BP_E_NOMEM;
    }
    r->kind = (enum kind)kind;
    r->side = -1;
    r->user_fd = -1;
    switch (r->kind) {
    case UDP_RELAY:
        rc = parse_via(r, p, len, "relay");
        break;
    case SOCKS5:
        rc = parse_socks(r, p, len);
        break;
    case FD:
        if (drv_args_uint(p, len, A_FD, &fd) && fd <= INT32_MAX) {
            r->user_fd = (int)fd;
            snprintf(r->name, sizeof(r->name), "descriptor %d", r->user_fd);
            rc = 0;
        }
        break;
    case PROCESS:
        snprintf(r->name, sizeof(r->name), "a process");
        rc = 0;
        break;
    default:
        break;
    }
    if (rc != 0) {
        bp_socks5_free(&r->socks);
        drv_free(r);
        return rc;
    }
    *out = r;
    return 0;
}

/* --- opening ------------------------------------------------------------- */

static int failed(struct drv_relay *r, int rc, const char *what)
{
    snprintf(r->text, sizeof(r->text), "%s: %s", what, strerror(errno));
    return rc;
}

/* A name for a path that has no UDP address here: one of 127/8 that nobody has. */
static void name_path(const struct drv_relay *r, struct bp_addr *local)
{
    static _Atomic uint32_t last;
    uint32_t n = ++last;
    char ip[BP_ADDR_TEXT_MAX];

    snprintf(ip, sizeof(ip), "127.%u.%u.%u", 128u + (n >> 16) % 127u, n >> 8 & 255u, n & 255u);
    if (bp_addr_parse(local, ip, 1) != 0) {
        *local = (struct bp_addr){0}; /* cannot be */
    }
    if (r->remote.u.sa.sa_family == AF_INET6) {
        bp_addr_map_v6(local);
    }
}

static int open_udp(struct drv_relay *r, const struct bp_addr *to, int *fd, struct bp_addr *local)
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

static int open_fd(struct drv_relay *r, int *fd, struct bp_addr *local)
{
    int type = 0;
    socklen_t len = sizeof(type);
    int flags;

    if (getsockopt(r->user_fd, SOL_SOCKET, SO_TYPE, &type, &len) != 0) {
        return failed(r, BP_E_RELAY, "not a socket");
    }
    if (type != SOCK_DGRAM) {
        snprintf(r->text, sizeof(r->text), "not a datagram socket");
        return BP_E_RELAY;
    }
    *fd = fcntl(r->user_fd, F_DUPFD_CLOEXEC, 3);
    flags = *fd >= 0 ? fcntl(*fd, F_GETFL) : -1;
    if (flags < 0 || fcntl(*fd, F_SETFL, flags | O_NONBLOCK) != 0) {
        int rc = failed(r, BP_E_LIMIT, "cannot use the descriptor");
        if (*fd >= 0) {
            (void)close(*fd);
        }
        return rc;
    }
    name_path(r, local);
    r->open = true;
    return 0;
}

static int open_process(struct drv_relay *r, int *fd, struct bp_addr *local)
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
    name_path(r, local);
    r->open = true;
    return 0; /* selected when a process takes datagrams */
}

static void select_side(struct drv_conn_port *cp, int fd, int mode, int on)
{
    driver_select(cp->p.port, (ErlDrvEvent)(intptr_t)fd, mode, on);
}

static int open_socks(struct drv_conn_port *cp, struct drv_relay *r)
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
    r->writable = true;
    r->reading = true;
    select_side(cp, r->side, ERL_DRV_READ | ERL_DRV_WRITE | ERL_DRV_USE, 1);
    return 1;
}

int drv_relay_open(struct drv_conn_port *cp, struct drv_relay *r, const struct bp_addr *remote,
                   int *fd, struct bp_addr *local)
{
    *fd = -1;
    r->remote = *remote;
    switch (r->kind) {
    case UDP_RELAY:
        return open_udp(r, &r->via, fd, local);
    case FD:
        return open_fd(r, fd, local);
    case PROCESS:
        return open_process(r, fd, local);
    case SOCKS5:
    default:
        return open_socks(cp, r);
    }
}

/* --- SOCKS --------------------------------------------------------------- */

static void close_side(struct drv_conn_port *cp, struct drv_relay *r)
{
    if (r->side < 0) {
        return;
    }
    if (r->kind == PROCESS && !r->reading && r->pid == 0) {
        (void)close(r->side); /* never selected */
    } else {
        select_side(cp, r->side, ERL_DRV_READ | ERL_DRV_WRITE | ERL_DRV_USE, 0);
    }
    r->side = -1;
}

static void opened(struct drv_conn_port *cp, struct drv_relay *r, int rc)
{
    struct bp_addr local = {0};
    int fd = -1;

    if (rc == 0) {
        struct bp_addr to = r->socks.bound;

        if (to.len == 0) {
            to = r->via;
            bp_addr_set_port(&to, r->socks.bound_port);
        }
        r->tx.header_len = bp_socks5_header(r->tx.header, &r->remote);
        rc = open_udp(r, &to, &fd, &local);
    }
    if (rc != 0) {
        close_side(cp, r);
    }
    if (r == cp->conn->relay) {
        drv_conn_port_relay_opened(cp, rc, fd, &local);
    } else if (!drv_move_relay_opened(cp, r, rc, fd, &local) && fd >= 0) {
        (void)close(fd);
    }
}

static void down(struct drv_conn_port *cp, struct drv_relay *r, const char *why)
{
    close_side(cp, r);
    if (!r->down) {
        r->down = true;
        drv_log(DRV_WARNING, "relay_down", drv_conn_peer(cp->conn),
                "%s: %s; the connection ends unless it is moved", r->name, why);
    }
}

static void socks_failed(struct drv_conn_port *cp, struct drv_relay *r)
{
    if (r->open) {
        down(cp, r, r->text);
    } else {
        opened(cp, r, BP_E_RELAY);
    }
}

static bool socks_write(struct drv_conn_port *cp, struct drv_relay *r)
{
    size_t len;
    const uint8_t *p = bp_socks5_out(&r->socks, &len);
    bool want = false;

    if (len > 0) {
        ssize_t n = send(r->side, p, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            (void)failed(r, 0, "the connection to the proxy broke");
            return false;
        }
        bp_socks5_sent(&r->socks, n > 0 ? (size_t)n : 0);
        (void)bp_socks5_out(&r->socks, &len);
        want = len > 0;
    }
    if (want != r->writable) {
        r->writable = want;
        select_side(cp, r->side, ERL_DRV_WRITE, want);
    }
    return true;
}

static bool socks_read(struct drv_relay *r)
{
    uint8_t buf[512];
    ssize_t n = recv(r->side, buf, sizeof(buf), MSG_DONTWAIT);

    if (n == 0) {
        snprintf(r->text, sizeof(r->text), "the proxy has closed its connection");
        return false;
    }
    if (n < 0) {
        if (errno == EAGAIN || errno == EINTR) {
            return true;
        }
        (void)failed(r, 0, "the connection to the proxy broke");
        return false;
    }
    if (bp_socks5_in(&r->socks, buf, (size_t)n) != 0) {
        snprintf(r->text, sizeof(r->text), "%s", r->socks.text);
        return false;
    }
    return true;
}

static void socks_ready(struct drv_conn_port *cp, struct drv_relay *r)
{
    if (r->connecting) {
        int err = 0;
        socklen_t len = sizeof(err);
        struct sockaddr_storage peer;
        socklen_t peer_len = sizeof(peer);

        if (getsockopt(r->side, SOL_SOCKET, SO_ERROR, &err, &len) != 0 || err != 0) {
            errno = err != 0 ? err : errno;
            (void)failed(r, 0, "cannot connect");
            socks_failed(cp, r);
            return;
        }
        if (getpeername(r->side, (struct sockaddr *)&peer, &peer_len) != 0) {
            return; /* not yet */
        }
        r->connecting = false;
    }
    if (!socks_read(r) || !socks_write(cp, r)) {
        socks_failed(cp, r);
    } else if (r->socks.state == BP_SOCKS5_DONE && !r->open) {
        opened(cp, r, 0);
    }
}

/* --- processes ----------------------------------------------------------- */

/* {barrel_p2p_datagram, Port, Binary} */
static bool give(struct drv_conn_port *cp, const struct drv_relay *r, const uint8_t *p, size_t len)
{
    ErlDrvTermData port = driver_mk_port(cp->p.port);
    ErlDrvTermData t[] = {ERL_DRV_ATOM,
                          driver_mk_atom((char *)(uintptr_t) "barrel_p2p_datagram"),
                          ERL_DRV_PORT,
                          port,
                          ERL_DRV_BUF2BINARY,
                          (ErlDrvTermData)p,
                          (ErlDrvTermData)len,
                          ERL_DRV_TUPLE,
                          3};

    return erl_drv_send_term(port, r->pid, t, sizeof(t) / sizeof(t[0])) > 0;
}

/* {barrel_p2p_passive, Port} */
static void tell_passive(struct drv_conn_port *cp, const struct drv_relay *r)
{
    ErlDrvTermData port = driver_mk_port(cp->p.port);
    ErlDrvTermData t[] = {ERL_DRV_ATOM,  driver_mk_atom((char *)(uintptr_t) "barrel_p2p_passive"),
                          ERL_DRV_PORT,  port,
                          ERL_DRV_TUPLE, 2};

    (void)erl_drv_send_term(port, r->pid, t, sizeof(t) / sizeof(t[0]));
}

static void process_ready(struct drv_conn_port *cp, struct drv_relay *r)
{
    struct drv_scratch *s = drv_scratch_take();

    for (unsigned i = 0; s != NULL && i < 64 && r->credit > 0 && r->side >= 0; i++) {
        ssize_t n = recv(r->side, s->rx, sizeof(s->rx), MSG_DONTWAIT);
        if (n < 0) {
            break;
        }
        r->credit--;
        if (!give(cp, r, s->rx, (size_t)n)) {
            down(cp, r, "the process has ended");
        }
    }
    if (s != NULL) {
        drv_scratch_give(s);
    }
    if (r->credit == 0 && r->reading && r->side >= 0) {
        r->reading = false;
        select_side(cp, r->side, ERL_DRV_READ, 0);
        tell_passive(cp, r);
    }
}

/* The newest path's first: a process that serves one gets its port when it is opened. */
static struct drv_relay *process_relay(const struct drv_conn *c, ErlDrvTermData pid)
{
    struct drv_relay *r = NULL;
    struct drv_relay *found = NULL;

    for (unsigned i = 0; (r = i == 0 ? c->relay : drv_move_relay(c, i - 1)) != NULL || i == 0;
         i++) {
        if (r != NULL && r->kind == PROCESS && r->side >= 0 && r->pid == pid) {
            return r;
        }
        if (r != NULL && r->kind == PROCESS && r->side >= 0 && r->pid == 0) {
            found = r;
        }
    }
    return found;
}

static void op_take(struct drv_conn_port *cp, const uint8_t *p, size_t len, struct drv_reply *reply)
{
    ErlDrvTermData pid = driver_caller(cp->p.port);
    struct drv_relay *r = process_relay(cp->conn, pid);
    uint32_t n = len == 2 ? (uint32_t)(p[0] << 8 | p[1]) : 0;

    if (n == 0 || n > TAKE_MAX) {
        drv_reply_error(reply, BP_E_INVALID, NULL);
        return;
    }
    if (r == NULL) {
        drv_reply_error(reply, BP_E_STATE, "no relay of this connection waits for a process");
        return;
    }
    drv_reply_ok(reply);
    r->credit = r->credit + n < TAKE_MAX ? r->credit + n : TAKE_MAX;
    if (!r->reading) {
        r->reading = true;
        select_side(cp, r->side, r->pid == 0 ? ERL_DRV_READ | ERL_DRV_USE : ERL_DRV_READ, 1);
    }
    r->pid = pid;
}

static void op_give(struct drv_conn_port *cp, const uint8_t *p, size_t len, struct drv_reply *reply)
{
    struct drv_relay *r = process_relay(cp->conn, driver_caller(cp->p.port));

    if (r == NULL || r->pid == 0) {
        drv_reply_error(reply, BP_E_STATE, "take datagrams first");
        return;
    }
    drv_reply_ok(reply);
    if (len > 0 && send(r->side, p, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        /* Full: lost, as in a network. */
    }
}

bool drv_relay_op(struct drv_conn_port *cp, unsigned op, const uint8_t *p, size_t len,
                  struct drv_reply *reply)
{
    switch (op) {
    case OP_RELAY_TAKE:
        op_take(cp, p, len, reply);
        return true;
    case OP_RELAY_GIVE:
        op_give(cp, p, len, reply);
        return true;
    default:
        return false;
    }
}

/* --- in use -------------------------------------------------------------- */

bool drv_relay_ready(struct drv_conn_port *cp, int fd)
{
    struct drv_relay *r;

    for (unsigned i = 0;
         (r = i == 0 ? cp->conn->relay : drv_move_relay(cp->conn, i - 1)) != NULL || i == 0; i++) {
        if (r != NULL && r->side == fd) {
            if (r->kind == SOCKS5) {
                socks_ready(cp, r);
            } else {
                process_ready(cp, r);
            }
            return true;
        }
    }
    return false;
}

const struct bp_udp_relay *drv_relay_tx(const struct drv_relay *r)
{
    /* A forwarder's socket is like any other. */
    return r != NULL && r->kind != UDP_RELAY ? &r->tx : NULL;
}

size_t drv_relay_unwrap(const struct drv_relay *r, const uint8_t *p, size_t len)
{
    size_t header = r->kind == SOCKS5 ? bp_socks5_strip(p, len) : 0;

    return r->kind == SOCKS5 && header == 0 ? 0 : len - header;
}

void drv_relay_key(const struct drv_relay *r, struct bp_addr *key)
{
    if (r->via.len != 0) {
        *key = r->via;
    } else if (bp_addr_parse(key, "127.0.0.1", (uint16_t)r->kind) != 0) {
        key->len = 0; /* cannot be */
    }
}

void drv_relay_refused(struct drv_conn *c)
{
    if (!c->relay->down) {
        c->relay->down = true;
        drv_log(DRV_WARNING, "relay_down", drv_conn_peer(c),
                "nobody takes datagrams at %s; the connection ends unless it is moved",
                c->relay->name);
    }
}

const char *drv_relay_name(const struct drv_relay *r)
{
    return r->name;
}

const char *drv_relay_text(const struct drv_relay *r)
{
    return r != NULL ? r->text : "";
}

void drv_relay_close(struct drv_conn_port *cp, struct drv_relay *r)
{
    if (r == NULL) {
        return;
    }
    close_side(cp, r);
    bp_socks5_free(&r->socks);
    drv_free(r);
}
