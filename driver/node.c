/* SPDX-License-Identifier: Apache-2.0 */
/* The node port: settings, the listener, and connections until they are authenticated. */
#include "driver/drv.h"

#include "io/name_claim.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define RX_ROUNDS 16

struct drv_node drv_node;

/* Only touched by callbacks of the node port, under its lock. */
static struct drv_conn *half_open;
static int listen_fd = -1;
static int name_fd = -1; /* our claim on the node name, while we listen */
static struct drv_node_port *the_port;

/* --- life ---------------------------------------------------------------- */

struct drv_port *drv_node_port_start(ErlDrvPort port)
{
    struct drv_node_port *np;
    bool taken;

    erl_drv_mutex_lock(drv_node.lock);
    taken = drv_node.has_port;
    if (!taken) { /* else the first one's owner would not be told any more */
        drv_node.has_port = true;
        drv_node.port = driver_mk_port(port);
        drv_node.owner = driver_connected(port);
        drv_node.has_owner = true;
        drv_node.log_tokens = DRV_LOG_BURST;
        drv_node.log_at = drv_now();
    }
    erl_drv_mutex_unlock(drv_node.lock);
    if (taken) {
        return NULL;
    }
    np = bp_mem_zalloc(drv_mem(), 1, sizeof(*np));
    if (np != NULL) {
        np->p = (struct drv_port){.kind = PORT_NODE, .port = port, .wake_fd = -1};
    }
    if (np == NULL || drv_port_wake_open(&np->p) != 0 || drv_acks_open(np) != 0) {
        if (np != NULL) {
            drv_port_wake_close(&np->p);
        }
        drv_free(np);
        erl_drv_mutex_lock(drv_node.lock);
        drv_node.has_port = false;
        erl_drv_mutex_unlock(drv_node.lock);
        return NULL;
    }
    erl_drv_mutex_lock(drv_node.lock);
    drv_mailbox_init(&drv_node.stray, np->p.wake_fd);
    erl_drv_mutex_unlock(drv_node.lock);
    the_port = np;
    return &np->p;
}

static void drop_half_open(struct drv_conn *c, const char *why, bp_time now)
{
    drv_conn_finish(c, listen_fd, why != NULL ? BP_E_LOCAL_CLOSE : 0, why, now);
    drv_conn_unlink(&half_open, c);
    drv_conn_del(c);
}

void drv_node_port_stop(struct drv_node_port *np)
{
    struct drv_settings *settings;
    struct drv_conn *orphans;
    struct drv_pkt *strays;
    bp_time now = drv_now();

    while (half_open != NULL) {
        drop_half_open(half_open, "this node stops", now);
    }
    erl_drv_mutex_lock(drv_node.lock);
    orphans = drv_node.orphans;
    drv_node.orphans = NULL;
    settings = drv_node.settings;
    drv_node.settings = NULL;
    drv_tickets_forget();
    strays = drv_mailbox_take(&drv_node.stray);
    drv_node.stray.wake_fd = -1;
    drv_node.bound = (struct bp_addr){0};
    drv_node.has_port = false;
    drv_node.has_owner = false;
    erl_drv_mutex_unlock(drv_node.lock);
    drv_pkts_free(strays);
    while (orphans != NULL) {
        struct drv_conn *next = orphans->next;
        drv_conn_finish(orphans, listen_fd, 0, NULL, now);
        drv_conn_del(orphans);
        orphans = next;
    }
    drv_settings_unref(settings);
    if (np->fd_selected) {
        driver_select(np->p.port, (ErlDrvEvent)(intptr_t)listen_fd, ERL_DRV_READ | ERL_DRV_USE, 0);
    } else if (listen_fd >= 0) {
        (void)close(listen_fd);
    }
    listen_fd = -1;
    if (name_fd >= 0) {
        (void)close(name_fd);
        name_fd = -1;
    }
    drv_member_stop();
    drv_tags_stop();
    drv_endpoint_stop(np);
    drv_resolve_stop(np);
    drv_route_stop(np);
    drv_acks_close(np);
    the_port = NULL;
    drv_port_wake_close(&np->p);
}

/* --- half-open connections ----------------------------------------------- */

static void log_refusal(const struct drv_conn *c)
{
    int err = drv_conn_error(c);
    enum drv_level level = DRV_WARNING;

    if (err == BP_E_FIRST_PACKET) {
        /* RFC 9000, 5.2.2. Most are a server's answers to a dial that was given up meanwhile. */
        level = DRV_DEBUG;
    } else if ((err == BP_E_PEER_CLOSED && !drv_conn_refused_us(c)) || err == BP_E_IDLE_TIMEOUT) {
        level = DRV_INFO;
    }
    drv_log(level, "connection_refused", drv_conn_peer(c),
            "incoming connection ended before it was authenticated: %s (%s)",
            drv_conn_error_text(c), bp_err_atom(err));
}

/* A connection that ended before TLS was done, and not of old age or for want of memory. */
static void note_wasted(const struct drv_conn *c, bp_time now)
{
    if (!bp_link_tls_done(c->link) && bp_err_class(drv_conn_error(c)) == BP_ERR_PEER) {
        erl_drv_mutex_lock(drv_node.lock);
        bp_listener_wasted(&drv_node.listener, now);
        erl_drv_mutex_unlock(drv_node.lock);
    }
}

/* After anything happened to a half-open connection. */
static void settle(struct drv_conn *c, bp_time now)
{
    /* A batch with an authentication message, the work that was put off for it, and its outcome. */
    for (int i = 0; i < 4 && (i == 0 || c->more); i++) {
        if (bp_link_phase(c->link) != BP_LINK_FAILED) {
            (void)drv_conn_flush(c, listen_fd, BP_UDP_TX_BUF, now);
        }
    }
    if (bp_link_phase(c->link) == BP_LINK_FAILED) {
        drv_conn_finish(c, listen_fd, 0, NULL, now);
        note_wasted(c, now);
        log_refusal(c);
        drv_conn_unlink(&half_open, c);
        drv_conn_del(c);
        return;
    }
    if (c->announced && !c->offered) {
        c->offered = true;
        drv_tell_incoming(c->id);
    }
}

static void accept_conn(const struct bp_initial *in, const struct bp_addr *remote, const uint8_t *p,
                        size_t len, bp_time now)
{
    struct bp_link_config lc;
    struct drv_settings *s;
    struct drv_conn *c;
    uint8_t ticket_key[BP_TICKET_KEY_LEN];
    int rc;

    erl_drv_mutex_lock(drv_node.lock);
    s = drv_settings_ref(drv_node.settings);
    erl_drv_mutex_unlock(drv_node.lock);
    drv_conn_link_config(s, &lc);
    lc.conn.local = drv_node.bound;
    lc.conn.remote = *remote;
    bp_initial_config(in, &lc.conn);
    if (s->auth_mode == BP_AUTH_BUILTIN && drv_tickets_key(s, ticket_key, now)) {
        lc.conn.ticket_key = ticket_key;
    }
    rc = drv_conn_new(&c, true, s, &lc, now);
    bp_wipe(ticket_key, sizeof(ticket_key));
    drv_settings_unref(s);
    if (rc != 0) {
        char addr[BP_ADDR_TEXT_MAX];
        drv_log(DRV_ERROR, "accept_failed", bp_addr_text(remote, addr), "%s", bp_err_text(rc));
        return;
    }
    c->counted = true;
    erl_drv_mutex_lock(drv_node.lock);
    bp_listener_half_open(&drv_node.listener, remote, true);
    drv_node.accepted++;
    if (drv_node.listener.n_half_open > drv_node.half_open_max) {
        drv_node.half_open_max = drv_node.listener.n_half_open;
    }
    c->box.wake_fd = the_port->p.wake_fd;
    erl_drv_mutex_unlock(drv_node.lock);
    drv_conn_push(&half_open, c);
    drv_conn_datagram(c, remote, p, len, now);
    settle(c, now);
}

/* --- datagrams ----------------------------------------------------------- */

static void on_datagram(const struct bp_addr *remote, const uint8_t *p, size_t len, uint8_t *reply,
                        size_t cap, bp_time now)
{
    struct bp_listener_result r;
    struct drv_conn *c = NULL;

    erl_drv_mutex_lock(drv_node.lock);
    drv_node.datagrams++;
    bp_listener_classify(&drv_node.listener, p, len, &r);
    if (r.action == BP_LISTENER_ROUTE) {
        c = bp_cid_map_find(&drv_node.demux, &r.cid);
        if (c == NULL) {
            r.reply_len = bp_closing_answer(&drv_node.closing, &r.cid, len, reply, cap, now);
            r.action = BP_LISTENER_REPLY;
            if (r.reply_len == 0) {
                bp_listener_unknown(&drv_node.listener, remote, p, len, reply, cap, now, &r);
            }
        } else if (c->place != CONN_HALF_OPEN) {
            drv_mailbox_put(&c->box, remote, p, len);
            c = NULL;
        }
    }
    erl_drv_mutex_unlock(drv_node.lock);
    if (c != NULL) {
        drv_conn_datagram(c, remote, p, len, now);
        settle(c, now);
    } else if (r.action == BP_LISTENER_ACCEPT) {
        accept_conn(&r.initial, remote, p, len, now);
    } else if (r.action == BP_LISTENER_REPLY) {
        struct bp_udp_tx tx = {0};
        struct bp_tx_run run = {.remote = *remote, .len = r.reply_len, .seg = r.reply_len};
        (void)bp_udp_send(listen_fd, &tx, reply, &run, 1);
    }
}

static void read_socket(void)
{
    struct drv_scratch *s = drv_scratch_take();
    struct bp_udp_rx rx[BP_UDP_RX_BUFS];
    bool refused;

    if (s == NULL) {
        return;
    }
    for (int round = 0; round < RX_ROUNDS; round++) {
        bp_time now = drv_now();
        int n = bp_udp_recv(listen_fd, s->rx, rx, &refused);
        for (int i = 0; i < n; i++) {
            for (size_t off = 0; off < rx[i].len; off += rx[i].seg) {
                size_t len = rx[i].len - off < rx[i].seg ? rx[i].len - off : rx[i].seg;
                on_datagram(&rx[i].remote, rx[i].data + off, len, s->tx, sizeof(s->tx), now);
            }
        }
        if (n <= 0) {
            break;
        }
    }
    drv_scratch_give(s);
}

/* What peers' sockets received for the listener or for half-open connections. */
static void read_mailboxes(bp_time now)
{
    struct drv_pkt *list;
    struct drv_scratch *s;

    for (struct drv_conn *c = half_open, *next; c != NULL; c = next) {
        next = c->next;
        if (c->box.nonempty) {
            drv_conn_mailbox(c, now);
            settle(c, now);
        }
    }
    if (!drv_node.stray.nonempty) {
        return;
    }
    erl_drv_mutex_lock(drv_node.lock);
    list = drv_mailbox_take(&drv_node.stray);
    erl_drv_mutex_unlock(drv_node.lock);
    s = listen_fd >= 0 ? drv_scratch_take() : NULL;
    for (const struct drv_pkt *p = list; s != NULL && p != NULL; p = p->next) {
        on_datagram(&p->remote, p->data, p->len, s->tx, sizeof(s->tx), now);
    }
    if (s != NULL) {
        drv_scratch_give(s);
    }
    drv_pkts_free(list);
}

static void run_timers(bp_time now)
{
    for (struct drv_conn *c = half_open, *next; c != NULL; c = next) {
        next = c->next;
        /* Coarse deadlines are shown as a millisecond away even when they have passed. */
        if (drv_conn_deadline(c, now) <= now + BP_MS) {
            drv_conn_on_timer(c, now);
            settle(c, now);
        }
    }
}

static void arm(struct drv_node_port *np)
{
    bp_time now = drv_now();
    bp_time at = BP_TIME_NEVER;

    for (const struct drv_conn *c = half_open; c != NULL; c = c->next) {
        bp_time t = drv_conn_deadline(c, now);
        at = t < at ? t : at;
    }
    drv_port_timer_arm(&np->p, at, now);
    if (drv_node.stray.nonempty) {
        drv_wake(np->p.wake_fd);
    }
}

void drv_node_port_ready(struct drv_node_port *np, int fd)
{
    if (fd == np->p.wake_fd) {
        drv_port_wake_read(&np->p);
        read_mailboxes(drv_now());
    } else if (!drv_resolve_ready(fd) && !drv_endpoint_ready(fd) && !drv_route_ready(np, fd) &&
               !drv_acks_ready(fd)) {
        read_socket();
    }
    np->p.worked = true;
    arm(np);
}

void drv_node_port_timeout(struct drv_node_port *np)
{
    run_timers(drv_now());
    arm(np);
}

/* --- control ------------------------------------------------------------- */

/* Secrets that live as long as the VM. The reset secret is for nodes without an identity; one from
 * the identity survives a restart (io/reset_secret.h). */
static int make_secrets(void)
{
    int rc = 0;

    if (drv_node.secrets_ready) {
        return 0;
    }
    rc = bp_random(drv_node.nonce_secret, sizeof(drv_node.nonce_secret));
    if (rc == 0) {
        rc = bp_random(drv_node.reset_secret, sizeof(drv_node.reset_secret));
    }
    drv_node.secrets_ready = rc == 0;
    return rc;
}

static void op_config(struct drv_node_port *np, const uint8_t *p, size_t len, struct drv_reply *r)
{
    struct drv_settings *s;
    struct drv_settings *old;
    struct bp_errbuf err;
    char fingerprint[BP_FINGERPRINT_TEXT] = "";
    int rc = make_secrets();

    bp_errbuf_reset(&err);
    if (rc == 0) {
        rc = drv_settings_new(&s, p, len, &err);
    }
    if (rc != 0) {
        drv_reply_error(r, rc, err.text);
        return;
    }
    if (s->identity != NULL) {
        bp_fingerprint_text(bp_identity_pub(s->identity), fingerprint);
    }
    erl_drv_mutex_lock(drv_node.lock);
    old = drv_node.settings;
    drv_node.settings = s;
    drv_tickets_forget();
    bp_listener_set_reset_secret(&drv_node.listener, s->reset_secret);
    drv_node.owner = driver_connected(np->p.port);
    erl_drv_mutex_unlock(drv_node.lock);
    drv_settings_unref(old);
    if (err.warning) {
        drv_log(DRV_WARNING, "file_warning", s->node_name, "%s", err.text);
    }
    drv_reply_ok(r);
    drv_reply_bytes(r, fingerprint, strlen(fingerprint));
}

static void listen_error(struct drv_reply *r, int rc, const struct drv_settings *s)
{
    const char *hint = "";
    int e = errno;
    char text[256];
    char ip[BP_ADDR_TEXT_MAX];

    if (rc == BP_E_ADDR_IN_USE) {
        hint = " (another node or program has it: choose another port, or 0)";
    } else if (e == EACCES) {
        hint = " (low ports are root's: choose another one, or give the node CAP_NET_BIND_SERVICE)";
    }
    bp_addr_ip_text(&s->bind, ip);
    snprintf(text, sizeof(text), "cannot listen on UDP port %u%s%s: %s%s", s->port,
             ip[0] != '\0' ? " of " : "", ip, strerror(e), hint);
    drv_reply_error(r, rc, text);
}

/* The socket and the listener's state; an error is in `r`. */
static int open_listener(const struct drv_settings *s, int *fd, struct bp_addr *bound,
                         struct drv_reply *r)
{
    int rc = bp_udp_listen(fd, &s->bind, s->port, s->family, bound);

    if (rc != 0) {
        listen_error(r, rc, s);
        return rc;
    }
    erl_drv_mutex_lock(drv_node.lock);
    rc = bp_listener_init(&drv_node.listener, s->reset_secret);
    drv_node.bound = *bound;
    erl_drv_mutex_unlock(drv_node.lock);
    if (rc != 0) {
        (void)close(*fd);
        drv_reply_error(r, rc, NULL);
    }
    return rc;
}

static void op_listen(struct drv_node_port *np, struct drv_reply *r)
{
    const struct drv_settings *s = drv_node.settings;
    struct bp_errbuf err;
    struct bp_addr bound;
    char text[BP_ADDR_TEXT_MAX];
    int claim;
    int fd;
    int rc;

    if (s == NULL || listen_fd >= 0) {
        drv_reply_error(r, BP_E_STATE, s == NULL ? "CONFIG comes first" : "already listening");
        return;
    }
    rc = bp_name_claim(s->node_name, &claim, &err);
    if (rc != 0) {
        drv_reply_error(r, rc, err.text);
        return;
    }
    if (open_listener(s, &fd, &bound, r) != 0) {
        (void)close(claim);
        return;
    }
    listen_fd = fd;
    name_fd = claim;
    np->fd_selected = true;
    driver_select(np->p.port, (ErlDrvEvent)(intptr_t)fd, ERL_DRV_READ | ERL_DRV_USE, 1);
    drv_reply_ok(r);
    drv_reply_uint(r, bp_addr_port(&bound), 2);
    bp_addr_ip_text(&bound, text);
    drv_reply_bytes(r, text, strlen(text));
}

/* Takes an authenticated connection out of the node port's hands, for `attach`. */
static void op_detach(const uint8_t *p, size_t len, struct drv_reply *r)
{
    uint32_t id =
        len == 4 ? (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3] : 0;

    for (struct drv_conn *c = half_open; c != NULL; c = c->next) {
        if (c->id == id && c->offered) {
            drv_conn_unlink(&half_open, c);
            erl_drv_mutex_lock(drv_node.lock);
            c->place = CONN_ORPHAN;
            c->box.wake_fd = -1;
            drv_conn_push(&drv_node.orphans, c);
            erl_drv_mutex_unlock(drv_node.lock);
            drv_reply_ok(r);
            return;
        }
    }
    drv_reply_error(r, BP_E_NOT_FOUND, "the connection has ended meanwhile");
}

ErlDrvSSizeT drv_node_port_control(struct drv_node_port *np, unsigned op, const uint8_t *p,
                                   size_t len, char **rbuf, ErlDrvSizeT rlen)
{
    struct drv_reply r;

    drv_reply_init(&r);
    switch (op) {
    case OP_CONFIG:
        op_config(np, p, len, &r);
        break;
    case OP_LISTEN:
        op_listen(np, &r);
        break;
    case OP_DETACH:
        op_detach(p, len, &r);
        break;
    case OP_STATS:
        drv_node_stats(&r);
        drv_resolve_stats(&r);
        drv_endpoint_stats(&r);
        break;
    case OP_RESOLVE:
        drv_resolve_control(np, p, len, &r);
        break;
    default:
        if (!drv_route_op(np, op, &r) && !drv_member_op(op, p, len, &r) &&
            !drv_tag_op(np, op, p, len, &r) && !drv_endpoint_op(np, op, p, len, &r) &&
            !drv_file_op(op, p, len, &r) && !drv_key_op(op, p, len, &r)) {
            return -1;
        }
    }
    arm(np);
    return drv_reply_done(&r, rbuf, rlen);
}
