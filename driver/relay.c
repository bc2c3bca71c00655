/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a connection's datagrams go through instead of a UDP socket towards the peer, for Erlang
 * nodes: io/relay_path.h in the VM's poll set, and Erlang processes, which sit at the far end of a
 * pair of sockets that this port holds.
 */
#include "driver/drv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define TAKE_MAX 1024u /* that it may ask for at once */

/* Arguments of CONNECT and MIGRATE, after their own. */
enum arg {
    A_WAY = 20,
    A_IP = 21,
    A_PORT = 22,
    A_USER = 23,
    A_PASSWORD = 24,
    A_FD = 25,
    A_MTU = 26,
    A_NAME = 27
};

struct drv_relay {
    struct bp_relay_path p;
    bool side_selected;
    bool writable;      /* `side` is selected for writing */
    ErlDrvTermData pid; /* PAIR: who takes datagrams */
    bool watched;       /* ... and is monitored */
    ErlDrvMonitor monitor;
    uint32_t credit;
    bool reading; /* PAIR: selected for reading: the process has credit */
};

/* --- arguments ----------------------------------------------------------- */

static int parse_via(const uint8_t *p, size_t len, struct bp_addr *via)
{
    char ip[BP_ADDR_TEXT_MAX];
    uint64_t port = 0;

    if (!drv_args_string(p, len, A_IP, ip, sizeof(ip)) || !drv_args_uint(p, len, A_PORT, &port) ||
        port == 0 || port > UINT16_MAX || bp_addr_parse(via, ip, (uint16_t)port) != 0) {
        return BP_E_INVALID;
    }
    return 0;
}

static int parse_udp(struct drv_relay *r, const uint8_t *p, size_t len)
{
    struct bp_addr via;
    int rc = parse_via(p, len, &via);

    if (rc == 0) {
        bp_relay_path_udp(&r->p, &via);
    }
    return rc;
}

static int parse_socks(struct drv_relay *r, const uint8_t *p, size_t len)
{
    char user[BP_SOCKS5_TEXT_MAX + 1] = "";
    char password[BP_SOCKS5_TEXT_MAX + 1] = "";
    struct bp_addr via;
    int rc = parse_via(p, len, &via);

    (void)drv_args_string(p, len, A_USER, user, sizeof(user));
    (void)drv_args_string(p, len, A_PASSWORD, password, sizeof(password));
    if (rc == 0) {
        rc = bp_relay_path_socks5(&r->p, &via, user, password);
    }
    bp_wipe(password, sizeof(password));
    return rc;
}

static int parse_fd(struct drv_relay *r, const uint8_t *p, size_t len)
{
    uint64_t fd = 0;

    if (!drv_args_uint(p, len, A_FD, &fd) || fd > INT32_MAX) {
        return BP_E_INVALID;
    }
    bp_relay_path_fd(&r->p, (int)fd);
    return 0;
}

static void parse_pair(struct drv_relay *r, const uint8_t *p, size_t len)
{
    char name[sizeof(r->p.name)];

    bp_relay_path_pair(&r->p,
                       drv_args_string(p, len, A_NAME, name, sizeof(name)) ? name : "a process");
}

static int parse_mtu(struct drv_relay *r, const uint8_t *p, size_t len)
{
    uint64_t mtu = 0;

    if (drv_args_uint(p, len, A_MTU, &mtu) && (mtu < BP_DGRAM_MIN || mtu > BP_DGRAM_MAX)) {
        return BP_E_INVALID;
    }
    r->p.mtu = (uint32_t)mtu;
    return 0;
}

int drv_relay_parse(struct drv_relay **out, const uint8_t *p, size_t len)
{
    struct drv_relay *r;
    uint64_t way = 0;
    int rc;

    *out = NULL;
    if (!drv_args_uint(p, len, A_WAY, &way)) {
        return 0;
    }
    r = bp_mem_zalloc(drv_mem(), 1, sizeof(*r));
    if (r == NULL) {
        return BP_E_NOMEM;
    }
    rc = parse_mtu(r, p, len);
    if (rc == 0 && way == BP_WAY_UDP) {
        rc = parse_udp(r, p, len);
    } else if (rc == 0 && way == BP_WAY_SOCKS5) {
        rc = parse_socks(r, p, len);
    } else if (rc == 0 && way == BP_WAY_FD) {
        rc = parse_fd(r, p, len);
    } else if (rc == 0 && way == BP_WAY_PAIR) {
        parse_pair(r, p, len);
    } else if (rc == 0) {
        rc = BP_E_INVALID;
    }
    if (rc != 0) {
        drv_free(r);
        return rc;
    }
    *out = r;
    return 0;
}

/* --- opening ------------------------------------------------------------- */

static void select_side(struct drv_conn_port *cp, int fd, int mode, int on)
{
    driver_select(cp->p.port, (ErlDrvEvent)(intptr_t)fd, mode, on);
}

static void count_dead(void)
{
    erl_drv_mutex_lock(drv_node.lock);
    drv_node.relays_dead++;
    erl_drv_mutex_unlock(drv_node.lock);
}

static void count_failed(int rc)
{
    if (rc < 0) {
        erl_drv_mutex_lock(drv_node.lock);
        drv_node.relays_failed++;
        erl_drv_mutex_unlock(drv_node.lock);
    }
}

int drv_relay_open(struct drv_conn_port *cp, struct drv_relay *r, const struct bp_addr *remote,
                   int *fd, struct bp_addr *local)
{
    int rc = bp_relay_path_open(&r->p, remote, fd, local);

    count_failed(rc);
    if (rc == 1) {
        r->writable = true;
        r->side_selected = true;
        select_side(cp, r->p.side, ERL_DRV_READ | ERL_DRV_WRITE | ERL_DRV_USE, 1);
    }
    return rc; /* the far end of a pair is selected when a process takes datagrams */
}

/* --- SOCKS --------------------------------------------------------------- */

/* What the VM has selected it closes. */
static void close_side(struct drv_conn_port *cp, struct drv_relay *r)
{
    if (r->watched) {
        r->watched = false;
        (void)driver_demonitor_process(cp->p.port, &r->monitor);
    }
    if (r->p.side >= 0 && r->side_selected) {
        select_side(cp, r->p.side, ERL_DRV_READ | ERL_DRV_WRITE | ERL_DRV_USE, 0);
        r->p.side = -1;
    }
    bp_relay_path_close(&r->p);
}

static void opened(struct drv_conn_port *cp, struct drv_relay *r, int rc, int fd,
                   const struct bp_addr *local)
{
    count_failed(rc);
    if (rc != 0) {
        close_side(cp, r);
    }
    if (r == cp->conn->relay) {
        drv_conn_port_relay_opened(cp, rc, fd, local);
    } else if (!drv_move_relay_opened(cp, r, rc, fd, local) && fd >= 0) {
        (void)close(fd);
    }
}

static void down(struct drv_conn_port *cp, struct drv_relay *r, const char *why)
{
    close_side(cp, r);
    if (!r->p.down && !drv_move_left(cp->conn, r)) {
        r->p.down = true;
        count_dead();
        drv_log(DRV_WARNING, "relay_down", drv_conn_peer(cp->conn),
                "%s: %s; the connection ends unless it is moved", r->p.name, why);
    }
}

static void socks_ready(struct drv_conn_port *cp, struct drv_relay *r)
{
    struct bp_addr local = {0};
    bool was_open = r->p.open;
    bool want;
    int fd;
    int rc = bp_relay_path_ready(&r->p, &fd, &local);

    if (rc < 0 && was_open) {
        down(cp, r, r->p.text);
        return;
    }
    want = rc >= 0 && bp_relay_path_wants_write(&r->p);
    if (rc >= 0 && want != r->writable) {
        r->writable = want;
        select_side(cp, r->p.side, ERL_DRV_WRITE, want);
    }
    if (rc <= 0) {
        opened(cp, r, rc, fd, &local);
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

    for (unsigned i = 0; s != NULL && i < 64 && r->credit > 0 && r->p.side >= 0; i++) {
        ssize_t n = recv(r->p.side, s->rx, sizeof(s->rx), MSG_DONTWAIT);
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
    if (r->credit == 0 && r->reading && r->p.side >= 0) {
        r->reading = false;
        select_side(cp, r->p.side, ERL_DRV_READ, 0);
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
        if (r != NULL && r->p.way == BP_WAY_PAIR && r->p.side >= 0 && r->pid == pid) {
            return r;
        }
        if (r != NULL && r->p.way == BP_WAY_PAIR && r->p.side >= 0 && r->pid == 0) {
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
    if (r->pid == 0) {
        r->watched = driver_monitor_process(cp->p.port, pid, &r->monitor) == 0;
    }
    if (!r->reading) {
        r->reading = true;
        select_side(cp, r->p.side, r->side_selected ? ERL_DRV_READ : ERL_DRV_READ | ERL_DRV_USE, 1);
        r->side_selected = true;
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
    if (len > 0 && send(r->p.side, p, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        cp->conn->relayed.dropped_in++; /* full: lost, as in a network */
    }
}

void drv_relay_process_exit(struct drv_conn_port *cp, const ErlDrvMonitor *monitor)
{
    struct drv_relay *r;

    for (unsigned i = 0;
         cp->conn != NULL &&
         ((r = i == 0 ? cp->conn->relay : drv_move_relay(cp->conn, i - 1)) != NULL || i == 0);
         i++) {
        if (r != NULL && r->watched && driver_compare_monitors(&r->monitor, monitor) == 0) {
            r->watched = false;
            down(cp, r, "the process has ended");
            return;
        }
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
        if (r != NULL && r->p.side == fd) {
            if (r->p.way == BP_WAY_SOCKS5) {
                socks_ready(cp, r);
            } else {
                process_ready(cp, r);
            }
            return true;
        }
    }
    return false;
}

void drv_relay_tx(const struct drv_relay *r, struct bp_udp_tx *tx)
{
    if (r != NULL) {
        bp_relay_path_tx(&r->p, tx);
    }
}

size_t drv_relay_unwrap(const struct drv_relay *r, struct bp_relay_stats *stats, const uint8_t *p,
                        size_t len)
{
    return bp_relay_path_unwrap(&r->p, stats, p, len);
}

uint32_t drv_relay_mtu(const struct drv_relay *r)
{
    return r->p.mtu;
}

void drv_relay_key(const struct drv_relay *r, struct bp_addr *key)
{
    bp_relay_path_key(&r->p, key);
}

void drv_relay_refused(struct drv_conn *c)
{
    if (!c->relay->p.down) {
        c->relay->p.down = true;
        count_dead();
        drv_log(DRV_WARNING, "relay_down", drv_conn_peer(c),
                "nobody takes datagrams at %s; the connection ends unless it is moved",
                c->relay->p.name);
    }
}

const char *drv_relay_name(const struct drv_relay *r)
{
    return r->p.name;
}

const char *drv_relay_text(const struct drv_relay *r)
{
    return r != NULL ? r->p.text : "";
}

void drv_relay_close(struct drv_conn_port *cp, struct drv_relay *r)
{
    if (r == NULL) {
        return;
    }
    close_side(cp, r);
    drv_free(r);
}
