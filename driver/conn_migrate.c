/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moving a connection to another path (quic/mover.h, dist/link_path.h). The new socket stands
 * beside the old one until its path is validated; then it takes the old one's place, which still
 * receives what is under way and is closed a little later. Where the peer has dialled it is asked.
 *
 * Whatever takes longer than the caller allows ends as BP_E_TIMEOUT, with the path as it was.
 */
#include "driver/drv.h"

#include "dist/link_path.h"
#include "quic/mover.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define OLD_PATHS       4u /* sockets of former paths that are still read */
#define OLD_FOR         BP_SEC
#define TIMEOUT_DEFAULT (5 * BP_SEC)
#define TIMEOUT_MAX_MS  3600000u

struct path {
    int fd;
    struct bp_addr local;
    struct bp_udp_tx tx;
    struct drv_relay *relay;
    bp_time close_at;
};

struct drv_move {
    struct bp_mover m;
    struct path next; /* fd -1: none */
    struct path old[OLD_PATHS];
    unsigned n_old;
    bool asked; /* the dialler, which has time until then */
    bp_time asked_until;
    bool tell; /* `caller`, with `id` */
    ErlDrvTermData caller;
    uint64_t id;
    bool for_peer; /* which has asked, and waits for an answer */
};

/* --- sockets ------------------------------------------------------------- */

static void select_path(struct drv_conn_port *cp, int fd, int on)
{
    driver_select(cp->p.port, (ErlDrvEvent)(intptr_t)fd, ERL_DRV_READ | ERL_DRV_USE, on);
}

/* What was set on the socket in use (setopts) holds for its successor. */
static void copy_options(int from, int to, int family)
{
    const int names[][2] = {
        {SOL_SOCKET, SO_PRIORITY},
        {family == AF_INET6 ? IPPROTO_IPV6 : IPPROTO_IP, family == AF_INET6 ? IPV6_TCLASS : IP_TOS},
    };

    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        int value = 0;
        socklen_t len = sizeof(value);
        if (getsockopt(from, names[i][0], names[i][1], &value, &len) == 0 && value > 0) {
            (void)setsockopt(to, names[i][0], names[i][1], &value, sizeof(value));
        }
    }
}

/* QUIC has a name of our own for the path: a socket that is bound to the address of a former one
 * must be asked anew (bp_conn_migrate). */
static void use_next(struct drv_conn_port *cp)
{
    struct drv_conn *c = cp->conn;
    struct path *next = &c->move->next;

    bp_relay_path_name(&c->peer, &next->local);
    copy_options(c->fd, next->fd, c->peer.u.sa.sa_family);
    next->tx = (struct bp_udp_tx){.peer = c->peer};
    drv_relay_tx(next->relay, &next->tx);
    select_path(cp, next->fd, 1);
}

static int open_next(struct drv_conn_port *cp, const struct bp_addr *want)
{
    struct drv_conn *c = cp->conn;
    struct path *next = &c->move->next;
    struct bp_addr bound;
    bool share;
    int rc;

    if (next->relay != NULL) {
        rc = drv_relay_open(cp, next->relay, &c->peer, &next->fd, &next->local);
        if (rc == 0) {
            use_next(cp);
        }
        return rc;
    }
    erl_drv_mutex_lock(drv_node.lock);
    bound = drv_node.bound;
    erl_drv_mutex_unlock(drv_node.lock);
    share = bound.len != 0 && want->len != 0 && bp_addr_port(want) == bp_addr_port(&bound);
    rc = bp_udp_path(&next->fd, want, &c->peer, share, &next->local);
    if (rc != 0) {
        next->fd = -1;
        return rc;
    }
    use_next(cp);
    return 0;
}

static void close_next(struct drv_conn_port *cp)
{
    struct path *next = &cp->conn->move->next;

    if (next->fd >= 0) {
        select_path(cp, next->fd, 0);
        next->fd = -1;
    }
    drv_relay_close(cp, next->relay);
    next->relay = NULL;
}

static void close_oldest(struct drv_conn_port *cp)
{
    struct drv_move *m = cp->conn->move;
    int fd = m->old[0].fd;

    cp->conn->rx_local = &m->old[0].local;
    drv_conn_port_drain(cp->conn, fd, m->old[0].relay);
    cp->conn->rx_local = NULL;
    select_path(cp, fd, 0);
    drv_relay_close(cp, m->old[0].relay);
    m->n_old--;
    memmove(m->old, m->old + 1, m->n_old * sizeof(m->old[0]));
}

/* Two sockets of one machine are two paths, two ways to one relay may be one. */
static void path_key(int fd, const struct drv_relay *relay, struct bp_addr *key)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);

    *key = (struct bp_addr){0};
    if (relay != NULL) {
        drv_relay_key(relay, key);
    } else if (getsockname(fd, (struct sockaddr *)&ss, &len) == 0) {
        (void)bp_addr_from_sockaddr(key, (const struct sockaddr *)&ss, len);
    }
}

/* The path of `next` is the connection's now. */
static void change_over(struct drv_conn_port *cp, bp_time now)
{
    struct drv_conn *c = cp->conn;
    struct drv_move *m = c->move;
    struct bp_conn_stats st;
    struct bp_addr key;

    if (cp->write_selected) {
        cp->write_selected = false;
        driver_select(cp->p.port, (ErlDrvEvent)(intptr_t)c->fd, ERL_DRV_WRITE, 0);
    }
    if (c->stash != NULL) {
        /* What the old socket still takes; the rest is lost, as by a network. */
        (void)drv_conn_send(c, c->relay, c->fd, &c->tx, c->stash, c->stash_runs, c->stash_n);
        drv_free(c->stash);
        c->stash = NULL;
        c->stash_n = 0;
    }
    if (m->n_old == OLD_PATHS) {
        close_oldest(cp);
    }
    bp_conn_stats(bp_link_conn(c->link), &st);
    path_key(c->fd, c->relay, &key);
    bp_mover_left(&m->m, &key, st.pto, now);
    m->old[m->n_old++] =
        (struct path){.fd = c->fd,
                      .local = c->local,
                      .relay = c->relay,
                      .close_at = now + (OLD_FOR > 3 * st.pto ? OLD_FOR : 3 * st.pto)};
    m->next.tx.syscalls += c->tx.syscalls;
    m->next.tx.lost += c->tx.lost;
    m->next.tx.lost_bytes += c->tx.lost_bytes;
    c->fd = m->next.fd;
    c->local = m->next.local;
    c->tx = m->next.tx;
    c->relay = m->next.relay;
    c->refused = 0;
    m->next.fd = -1;
    m->next.relay = NULL;
}

unsigned drv_move_divert(struct drv_conn *c, const uint8_t *buf, struct bp_tx_run *runs, unsigned n)
{
    struct path *next = &c->move->next;
    unsigned kept = 0;

    for (unsigned i = 0; i < n; i++) {
        if (bp_addr_equal(&runs[i].local, &c->local)) {
            runs[kept++] = runs[i];
        } else if (next->fd >= 0 && bp_addr_equal(&runs[i].local, &next->local)) {
            (void)drv_conn_send(c, next->relay, next->fd, &next->tx, buf, &runs[i], 1);
        }
        /* Others are of a path that was given up. */
    }
    return kept;
}

void drv_move_ready(struct drv_conn_port *cp, int fd)
{
    struct drv_move *m = cp->conn->move;
    struct bp_addr local;

    if (m == NULL) {
        return;
    }
    if (m->next.fd == fd) {
        local = m->next.local;
        drv_conn_port_read(cp, fd, &local, m->next.relay);
        return;
    }
    for (unsigned i = 0; i < m->n_old; i++) {
        if (m->old[i].fd == fd) {
            local = m->old[i].local;
            drv_conn_port_read(cp, fd, &local, m->old[i].relay);
            return;
        }
    }
}

/* --- beginning and ending ------------------------------------------------ */

/* {barrel_p2p_path, Id, ok | Error | {relay_failed, Text}} */
static void tell(struct drv_conn_port *cp, const struct drv_move *m, int rc, const char *why)
{
    const char *result = rc == 0 ? "ok" : bp_err_atom(rc);
    ErlDrvTermData t[14] = {ERL_DRV_ATOM, driver_mk_atom((char *)(uintptr_t) "barrel_p2p_path"),
                            ERL_DRV_UINT, (ErlDrvTermData)m->id,
                            ERL_DRV_ATOM, driver_mk_atom((char *)(uintptr_t)result)};
    int n = 6;

    if (rc == BP_E_RELAY) {
        t[n++] = ERL_DRV_BUF2BINARY;
        t[n++] = (ErlDrvTermData)why;
        t[n++] = (ErlDrvTermData)strlen(why);
        t[n++] = ERL_DRV_TUPLE;
        t[n++] = 2;
    }
    t[n++] = ERL_DRV_TUPLE;
    t[n++] = 3;
    erl_drv_send_term(driver_mk_port(cp->p.port), m->caller, t, n);
}

/* Says what came of it; `why` for BP_E_RELAY. */
static void finish(struct drv_conn_port *cp, int rc, const char *why)
{
    struct drv_move *m = cp->conn->move;
    struct drv_move ended = *m;

    m->tell = false;
    m->for_peer = false;
    if (ended.for_peer) {
        bp_link_path_answer(cp->conn->link, rc);
        drv_wake(cp->p.wake_fd);
    }
    if (ended.tell) {
        tell(cp, &ended, rc, why);
    }
}

static struct drv_move *move_of(struct drv_conn *c)
{
    if (c->move == NULL) {
        c->move = bp_mem_zalloc(drv_mem(), 1, sizeof(*c->move));
        if (c->move != NULL) {
            c->move->next.fd = -1;
        }
    }
    return c->move;
}

/* The socket of the new path is there. */
static void opened(struct drv_move *m, bp_time now)
{
    struct bp_addr key;

    path_key(m->next.fd, m->next.relay, &key);
    bp_mover_opened(&m->m, &m->next.local, &key, now);
}

/* 0: it has begun, and finish() will be called; else nothing has. */
static int begin(struct drv_conn_port *cp, const struct bp_addr *want, struct drv_relay *relay,
                 bp_time timeout, bp_time now)
{
    struct drv_conn *c = cp->conn;
    struct drv_move *m = move_of(c);
    int rc = 0;

    if (m == NULL) {
        rc = BP_E_NOMEM;
    } else if (bp_link_phase(c->link) != BP_LINK_UP || c->fd < 0) {
        rc = BP_E_STATE;
    } else if (m->asked || m->m.state != BP_MOVER_IDLE) {
        rc = BP_E_BUSY;
    }
    if (rc != 0) {
        drv_relay_close(cp, relay);
        return rc;
    }
    m->next.relay = relay;
    if (c->inbound) {
        rc = want->len != 0 || relay != NULL ? BP_E_NOT_DIALLER : bp_link_path_ask(c->link);
        m->asked = rc == 0;
        m->asked_until = now + timeout;
        return rc;
    }
    rc = bp_mover_begin(&m->m, bp_link_conn(c->link), timeout, now);
    if (rc != 0) {
        return rc;
    }
    rc = open_next(cp, want);
    if (rc == 0) {
        opened(m, now);
    } else if (rc < 0) {
        bp_mover_cancel(&m->m);
    }
    return rc == 1 ? 0 : rc; /* with a relay that has failed, if any: reply_begin says why */
}

bool drv_move_relay_opened(struct drv_conn_port *cp, const struct drv_relay *r, int rc, int fd,
                           const struct bp_addr *local)
{
    struct drv_move *m = cp->conn->move;

    if (m == NULL || m->next.relay != r || m->m.state != BP_MOVER_OPENING) {
        return false;
    }
    if (rc != 0) {
        drv_log(DRV_WARNING, "relay_failed", drv_conn_peer(cp->conn), "%s: %s", drv_relay_name(r),
                drv_relay_text(r));
        bp_mover_cancel(&m->m);
        finish(cp, rc, drv_relay_text(r));
        close_next(cp);
        return true;
    }
    m->next.fd = fd;
    m->next.local = *local;
    use_next(cp);
    opened(m, drv_now());
    return true;
}

struct drv_relay *drv_move_relay(const struct drv_conn *c, unsigned i)
{
    const struct drv_move *m = c->move;
    unsigned n = 0;

    if (m == NULL) {
        return NULL;
    }
    if (m->next.relay != NULL && n++ == i) {
        return m->next.relay;
    }
    for (unsigned k = 0; k < m->n_old; k++) {
        if (m->old[k].relay != NULL && n++ == i) {
            return m->old[k].relay;
        }
    }
    return NULL;
}

bool drv_move_left(const struct drv_conn *c, const struct drv_relay *r)
{
    const struct drv_move *m = c->move;

    for (unsigned i = 0; m != NULL && i < m->n_old; i++) {
        if (m->old[i].relay == r) {
            return true;
        }
    }
    return false;
}

/* --- as time goes by ----------------------------------------------------- */

bp_time drv_move_deadline(const struct drv_conn *c)
{
    const struct drv_move *m = c->move;
    bp_time at = bp_mover_deadline(&m->m);

    if (m->asked && m->asked_until < at) {
        at = m->asked_until;
    }
    if (m->n_old > 0 && m->old[0].close_at < at) {
        at = m->old[0].close_at;
    }
    return at;
}

static void steps(struct drv_conn_port *cp, bp_time now)
{
    struct drv_conn *c = cp->conn;
    struct drv_move *m = c->move;
    enum bp_mover_state before = m->m.state;
    enum bp_move_step step;
    struct bp_addr name;
    int rc = 0;

    while ((step = bp_mover_step(&m->m, bp_link_conn(c->link), &c->local, &c->peer, now, &rc,
                                 &name)) != BP_MOVE_NONE) {
        if (step == BP_MOVE_DONE) {
            change_over(cp, now);
            finish(cp, 0, "");
        } else if (step == BP_MOVE_FAILED) {
            if (m->m.state == BP_MOVER_IDLE) {
                close_next(cp);
            }
            finish(cp, rc, "");
        } else if (step == BP_MOVE_BACK) {
            close_next(cp);
        } else {
            c->local = name;
        }
    }
    if (before != m->m.state) {
        drv_wake(cp->p.wake_fd); /* a challenge is to be sent */
    }
}

void drv_move_settle(struct drv_conn_port *cp, bp_time now)
{
    struct drv_conn *c = cp->conn;
    struct drv_move *m;
    int rc;

    if (c->alive && bp_link_path_asked(c->link)) {
        const struct bp_addr any = {0};
        rc = begin(cp, &any, NULL, TIMEOUT_DEFAULT, now);
        if (rc == 0) {
            c->move->for_peer = true;
        } else {
            bp_link_path_answer(c->link, rc);
            drv_wake(cp->p.wake_fd);
        }
    }
    m = c->move;
    if (m == NULL) {
        return;
    }
    steps(cp, now);
    if (m->asked && bp_link_path_answered(c->link, &rc)) {
        m->asked = false;
        finish(cp, rc, "");
    } else if (m->asked && now >= m->asked_until) {
        m->asked = false;
        finish(cp, BP_E_TIMEOUT, "");
    }
    while (m->n_old > 0 && now >= m->old[0].close_at) {
        close_oldest(cp);
    }
}

void drv_move_stop(struct drv_conn_port *cp)
{
    struct drv_conn *c = cp->conn;

    if (c->move == NULL) {
        return;
    }
    close_next(cp); /* the caller watches the port */
    while (c->move->n_old > 0) {
        close_oldest(cp);
    }
    drv_free(c->move);
    c->move = NULL;
}

/* --- control ------------------------------------------------------------- */

static void reply_begin(const struct drv_conn *c, int rc, struct drv_reply *r)
{
    switch (rc) {
    case 0:
        drv_reply_ok(r);
        break;
    case BP_E_SYSTEM:
    case BP_E_ADDR_IN_USE:
    case BP_E_LIMIT:
        drv_reply_error(r, rc, strerror(errno));
        break;
    case BP_E_RELAY:
        drv_reply_error(r, rc, drv_relay_text(c->move->next.relay));
        break;
    case BP_E_INVALID:
        drv_reply_error(r, rc, "the local address is not of the peer's family");
        break;
    default:
        drv_reply_error(r, rc, bp_err_text(rc));
    }
}

/* 1: address, 2: its port (both optional); 3: timeout in ms; 4: id of the message to the caller;
 * 20 and up: a relay (relay.c) */
static void op_migrate(struct drv_conn_port *cp, const uint8_t *p, size_t len, struct drv_reply *r)
{
    struct bp_addr want = {0};
    char ip[BP_ADDR_TEXT_MAX];
    uint64_t port = 0;
    uint64_t ms = 0;
    uint64_t id = 0;
    struct drv_relay *relay = NULL;
    int rc;

    (void)drv_args_uint(p, len, 2, &port);
    if (!drv_args_uint(p, len, 3, &ms) || ms == 0 || ms > TIMEOUT_MAX_MS ||
        !drv_args_uint(p, len, 4, &id) || port > UINT16_MAX ||
        (drv_args_string(p, len, 1, ip, sizeof(ip)) &&
         bp_addr_parse(&want, ip, (uint16_t)port) != 0)) {
        drv_reply_error(r, BP_E_INVALID, NULL);
        return;
    }
    rc = drv_relay_parse(&relay, p, len);
    if (rc == 0) {
        rc = begin(cp, &want, relay, ms * BP_MS, drv_now());
    }
    if (rc == 0) {
        cp->conn->move->tell = true;
        cp->conn->move->caller = driver_caller(cp->p.port);
        cp->conn->move->id = id;
    }
    reply_begin(cp->conn, rc, r);
    if (rc != 0 && cp->conn->move != NULL && cp->conn->move->m.state == BP_MOVER_IDLE) {
        close_next(cp);
    }
}

/* 4: the id of a move that is over for its caller, who hears no more of it: its relay is none. */
static void op_migrate_stop(struct drv_conn_port *cp, const uint8_t *p, size_t len,
                            struct drv_reply *r)
{
    struct drv_move *m = cp->conn->move;
    uint64_t id = 0;

    if (!drv_args_uint(p, len, 4, &id)) {
        drv_reply_error(r, BP_E_INVALID, NULL);
        return;
    }
    drv_reply_ok(r);
    if (m != NULL && m->tell && m->id == id && !m->asked) {
        m->tell = false;
        bp_mover_give_up(&m->m, drv_now());
        steps(cp, drv_now()); /* the next call finds it at rest */
    }
}

static void put_addr(struct drv_reply *r, uint8_t key, const struct bp_addr *a)
{
    char text[BP_ADDR_TEXT_MAX];
    uint16_t port = a->len != 0 ? bp_addr_port(a) : 0;
    const uint8_t be[2] = {(uint8_t)(port >> 8), (uint8_t)port};

    bp_addr_ip_text(a, text);
    drv_reply_tlv(r, key, text, strlen(text));
    drv_reply_tlv(r, (uint8_t)(key + 1), be, sizeof(be));
}

/* 1, 2: local address and port of the path; 3, 4: the peer's; 5, 6: what a new socket to the peer
 * would have now, empty and 0 without a route; 7: the relay, empty if there is none. */
static void op_path(const struct drv_conn *c, struct drv_reply *r)
{
    const struct bp_addr any = {0};
    struct bp_addr local = c->local;
    struct bp_addr best = {0};
    const char *relay = c->relay != NULL ? drv_relay_name(c->relay) : "";
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    int fd;

    if (c->fd >= 0 && getsockname(c->fd, (struct sockaddr *)&ss, &len) == 0) {
        (void)bp_addr_from_sockaddr(&local, &ss, len);
    }
    if (bp_udp_path(&fd, &any, &c->peer, false, &best) == 0) {
        (void)close(fd);
    }
    drv_reply_ok(r);
    put_addr(r, 1, &local);
    put_addr(r, 3, &c->peer);
    put_addr(r, 5, &best);
    drv_reply_tlv(r, 7, relay, strlen(relay));
}

bool drv_move_op(struct drv_conn_port *cp, unsigned op, const uint8_t *p, size_t len,
                 struct drv_reply *r)
{
    switch (op) {
    case OP_MIGRATE:
        op_migrate(cp, p, len, r);
        return true;
    case OP_MIGRATE_STOP:
        op_migrate_stop(cp, p, len, r);
        return true;
    case OP_PATH:
        op_path(cp->conn, r);
        return true;
    default:
        return false;
    }
}
