/* SPDX-License-Identifier: Apache-2.0 */
/* A connection port: one peer, its own socket and lock; the VM's data path. */
#include "driver/drv.h"

#include "quic/tls_cert.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RX_ROUNDS      8
#define REF_MIN        512u /* shorter pieces are cheaper to copy than to count */
#define STACK_SLICES   64u  /* messages with more pieces take memory from the heap */
#define HS_MESSAGE_MAX 1024u

/* --- life ---------------------------------------------------------------- */

static struct drv_conn *take_orphan(uint32_t id)
{
    struct drv_conn *c;

    erl_drv_mutex_lock(drv_node.lock);
    for (c = drv_node.orphans; c != NULL && c->id != id; c = c->next) {
    }
    if (c != NULL) {
        if (c->prev != NULL) {
            c->prev->next = c->next;
        } else {
            drv_node.orphans = c->next;
        }
        if (c->next != NULL) {
            c->next->prev = c->prev;
        }
        c->next = NULL;
        c->prev = NULL;
    }
    erl_drv_mutex_unlock(drv_node.lock);
    return c;
}

static void fail(struct drv_conn_port *cp, int err, const char *text)
{
    struct drv_conn *c = cp->conn;

    if (c != NULL && c->err == 0) {
        c->err = err;
        snprintf(c->err_text, sizeof(c->err_text), "%s", text);
        bp_link_fail(c->link, err, text);
    }
}

/* Gives the connection its own socket; a failure fails the link. */
static void open_socket(struct drv_conn_port *cp)
{
    struct drv_conn *c = cp->conn;
    struct bp_addr bound = c->local;
    struct bp_addr remote = c->peer;
    int rc = bp_udp_connect(&c->fd, &c->local, &remote, &bound);

    if (rc != 0) {
        char text[256];
        snprintf(text, sizeof(text), "cannot open a socket for the connection: %s%s",
                 strerror(errno),
                 rc == BP_E_LIMIT ? " (raise the limit of open files, ulimit -n)" : "");
        fail(cp, rc, text);
        return;
    }
    c->peer = remote;
    c->tx.peer = remote;
    cp->fd_selected = true;
    driver_select(cp->p.port, (ErlDrvEvent)(intptr_t)c->fd, ERL_DRV_READ | ERL_DRV_USE, 1);
}

struct drv_port *drv_conn_port_start(ErlDrvPort port, const char *args)
{
    struct drv_conn_port *cp = bp_mem_zalloc(drv_mem(), 1, sizeof(*cp));
    struct drv_conn *c = NULL;

    if (cp == NULL) {
        return NULL;
    }
    cp->p = (struct drv_port){.kind = PORT_CONN, .port = port, .timer_fd = -1};
    if (strncmp(args, "attach ", 7) == 0) {
        c = take_orphan((uint32_t)strtoul(args + 7, NULL, 10));
    }
    if ((c == NULL && strcmp(args, "connect") != 0) || drv_port_timer_open(&cp->p) != 0) {
        drv_conn_del(c);
        drv_free(cp);
        return NULL;
    }
    if (c != NULL) {
        cp->conn = c;
        erl_drv_mutex_lock(drv_node.lock);
        c->place = CONN_OWN_PORT;
        c->box.wake_fd = cp->p.timer_fd;
        erl_drv_mutex_unlock(drv_node.lock);
        open_socket(cp);
        drv_wake(cp->p.timer_fd); /* what came meanwhile, and failures, outside of start() */
    }
    return &cp->p;
}

void drv_conn_port_stop(struct drv_conn_port *cp)
{
    struct drv_conn *c = cp->conn;

    if (c != NULL) {
        drv_conn_finish(c, c->fd, 0, NULL, drv_now());
        erl_drv_mutex_lock(drv_node.lock);
        c->box.wake_fd = -1;
        erl_drv_mutex_unlock(drv_node.lock);
        if (cp->fd_selected) {
            cp->fd_selected = false;
            driver_select(cp->p.port, (ErlDrvEvent)(intptr_t)c->fd,
                          ERL_DRV_READ | ERL_DRV_WRITE | ERL_DRV_USE, 0);
        } else if (c->fd >= 0) {
            (void)close(c->fd);
        }
        c->fd = -1;
    }
    drv_port_timer_close(&cp->p);
}

void drv_conn_port_free(struct drv_conn_port *cp)
{
    drv_conn_del(cp->conn);
    cp->conn = NULL;
}

/* --- telling Erlang ------------------------------------------------------ */

static void deliver(struct drv_conn_port *cp)
{
    struct bp_link *l = cp->conn->link;
    struct bp_frame_queue *q = bp_link_frames(l);
    struct bp_frame f;

    if (!bp_link_delivering(l)) {
        return;
    }
    while (!cp->p.stopped && bp_frame_queue_pop(q, &f)) {
        if (f.bin != NULL) {
            ErlDrvBinary *bin = f.bin;
            driver_output_binary(cp->p.port, NULL, 0, bin,
                                 (ErlDrvSizeT)(f.data - (const uint8_t *)bin->orig_bytes),
                                 (ErlDrvSizeT)f.len);
            driver_free_binary(bin);
        } else {
            driver_output2(cp->p.port, NULL, 0, (char *)(uintptr_t)f.data, (ErlDrvSizeT)f.len);
        }
    }
    if (!cp->p.stopped) {
        bp_frame_queue_reset(q);
    }
}

static void tell_handshake(struct drv_conn_port *cp)
{
    const uint8_t *msg;
    size_t len;

    if (cp->want_hs && drv_conn_hs_recv(cp->conn, &msg, &len) == 1) {
        cp->want_hs = false;
        drv_tell_bins(cp->p.port, "hs", NULL, msg, len, NULL, 0);
    }
}

static void tell_auth(struct drv_conn_port *cp)
{
    const uint8_t *p;
    size_t len;
    bool fin;

    if (cp->want_auth && bp_link_auth_recv(cp->conn->link, &p, &len, &fin) == 0 &&
        (len > 0 || fin)) {
        cp->want_auth = false;
        drv_tell_data(cp->p.port, "auth_data", p, len, fin);
    }
}

static void tell_dialled(struct drv_conn_port *cp)
{
    struct drv_conn *c = cp->conn;
    const char *name = bp_link_peer_name(c->link);
    char fingerprint[BP_FINGERPRINT_TEXT] = "";

    if (!cp->dialling || !c->announced) {
        return;
    }
    cp->dialling = false;
    if (!c->authenticated) {
        drv_tell(cp->p.port, "tls_connected");
        return;
    }
    if (c->has_key) {
        bp_fingerprint_text(c->key, fingerprint);
    }
    drv_tell_bins(cp->p.port, "authenticated", NULL, name, strlen(name), fingerprint,
                  strlen(fingerprint));
}

static void tell_failed(struct drv_conn_port *cp)
{
    const char *text = drv_conn_error_text(cp->conn);

    if (cp->dialling || cp->want_hs || cp->want_auth) {
        cp->dialling = cp->want_hs = cp->want_auth = false;
        cp->conn->reported = true;
        drv_tell_bins(cp->p.port, "failed", bp_err_atom(drv_conn_error(cp->conn)), text,
                      strlen(text), NULL, 0);
    }
}

static void log_down(const struct drv_conn *c)
{
    int err = drv_conn_error(c);
    bool normal = err == BP_E_PEER_CLOSED || err == BP_E_LOCAL_CLOSE;

    drv_log(normal ? DRV_INFO : DRV_WARNING, "connection_down", drv_conn_peer(c), "%s (%s)",
            drv_conn_error_text(c), bp_err_atom(err));
}

/* A link that was up has ended: the VM sees its port exit, which is the node's going down. */
static void go_down(struct drv_conn_port *cp)
{
    char reason[64];

    cp->conn->reported = true;
    deliver(cp);
    if (cp->p.stopped) {
        return;
    }
    log_down(cp->conn);
    snprintf(reason, sizeof(reason), "%s", bp_err_atom(drv_conn_error(cp->conn)));
    driver_failure_atom(cp->p.port, reason);
}

/* --- after anything happened --------------------------------------------- */

static void update_busy(struct drv_conn_port *cp)
{
    uint64_t pending = bp_link_pending(cp->conn->link);

    if (!cp->busy && pending >= DRV_HIGH_WATER) {
        cp->busy = true;
        set_busy_port(cp->p.port, 1);
    } else if (cp->busy && pending <= DRV_LOW_WATER) {
        cp->busy = false;
        set_busy_port(cp->p.port, 0);
    }
}

static void want_writable(struct drv_conn_port *cp, bool want)
{
    if (want != cp->write_selected && cp->fd_selected) {
        cp->write_selected = want;
        driver_select(cp->p.port, (ErlDrvEvent)(intptr_t)cp->conn->fd, ERL_DRV_WRITE, want);
    }
}

static void flush(struct drv_conn_port *cp, bp_time now)
{
    bool data = bp_link_pending(cp->conn->link) > 0;

    cp->flush_due = false;
    if (cp->conn->fd < 0) {
        return;
    }
    want_writable(cp, !drv_conn_flush(cp->conn, cp->conn->fd, now));
    if (data) {
        /* Acknowledgements alone are no burst of the VM's. */
        cp->last_flush = drv_now();
        cp->flush_cost = cp->last_flush - now;
    }
}

/*
 * There is no callback at the end of a burst. A message goes out at once unless the last flush is
 * only just over; then it waits for the next turn of the VM's poll, so that a burst shares
 * datagrams. "Just" grows with what a flush costs: at least half of the time is left for the VM.
 */
static bool flush_now(const struct drv_conn_port *cp, bp_time now)
{
    bp_time pause = cp->flush_cost > DRV_FLUSH_AFTER ? cp->flush_cost : DRV_FLUSH_AFTER;

    return now - cp->last_flush > pause || bp_link_phase(cp->conn->link) == BP_LINK_FAILED ||
           bp_link_pending(cp->conn->link) >= DRV_FLUSH_BYTES;
}

/* The peer's address has changed and was validated: the socket follows. */
static void follow_peer(struct drv_conn *c)
{
    const struct bp_addr *remote = bp_conn_remote(bp_link_conn(c->link));

    if (c->fd < 0 || bp_addr_equal(remote, &c->peer)) {
        return;
    }
    c->peer = *remote;
    c->tx.peer = *remote;
    if (connect(c->fd, &remote->u.sa, remote->len) != 0) {
        c->tx.peer.len = 0; /* name the address in each datagram instead */
    }
}

/* Sends, delivers, tells, fails and sets the timer, as the link now demands. */
static void settle(struct drv_conn_port *cp, bp_time now)
{
    struct drv_conn *c = cp->conn;

    if (bp_link_phase(c->link) != BP_LINK_FAILED) {
        flush(cp, now);
    }
    if (bp_link_phase(c->link) == BP_LINK_FAILED) {
        drv_conn_finish(c, c->fd, 0, NULL, now);
        if (c->alive && !c->reported) {
            go_down(cp);
            return;
        }
        tell_handshake(cp);
        tell_failed(cp);
        return;
    }
    follow_peer(c);
    deliver(cp);
    if (cp->p.stopped) {
        return;
    }
    if (!c->alive) {
        tell_dialled(cp);
        tell_handshake(cp);
        tell_auth(cp);
    }
    update_busy(cp);
    drv_port_timer_arm(&cp->p, drv_conn_deadline(c, now), now);
    if (c->box.nonempty) {
        drv_wake(cp->p.timer_fd);
    }
}

static void read_socket(struct drv_conn_port *cp)
{
    struct drv_conn *c = cp->conn;
    struct drv_scratch *s = drv_scratch_take();
    struct bp_udp_rx rx[BP_UDP_RX_BUFS];

    if (s == NULL) {
        return;
    }
    for (int round = 0; round < RX_ROUNDS && !cp->p.stopped; round++) {
        bp_time now = drv_now();
        bool refused;
        int n = bp_udp_recv(c->fd, s->rx, rx, &refused);
        for (int i = 0; i < n; i++) {
            for (size_t off = 0; off < rx[i].len; off += rx[i].seg) {
                size_t len = rx[i].len - off < rx[i].seg ? rx[i].len - off : rx[i].seg;
                drv_conn_datagram(c, &rx[i].remote, rx[i].data + off, len, now);
            }
        }
        if (refused) {
            drv_conn_refused(c, now);
        }
        deliver(cp);
        if (n < (int)BP_UDP_RX_BUFS) {
            break;
        }
    }
    drv_scratch_give(s);
}

void drv_conn_port_ready(struct drv_conn_port *cp, int fd, bool writable)
{
    struct drv_conn *c = cp->conn;
    bp_time now;

    if (fd == cp->p.timer_fd) {
        drv_port_timer_read(&cp->p);
        if (c == NULL) {
            return;
        }
        now = drv_now();
        drv_conn_mailbox(c, now);
        if (drv_conn_deadline(c, now) <= now || !cp->flush_due) {
            drv_conn_on_timer(c, now);
            if (bp_link_pending(c->link) == 0) {
                bp_frame_queue_trim(bp_link_frames(c->link));
            }
        }
    } else if (c == NULL) {
        return;
    } else if (!writable) {
        /* Also when the link has failed: a new connection of the same peer begins here. */
        read_socket(cp);
    }
    if (!cp->p.stopped) {
        settle(cp, drv_now());
    }
}

/* --- from the VM --------------------------------------------------------- */

static void handshake_message(struct drv_conn_port *cp, const ErlIOVec *ev)
{
    uint8_t msg[HS_MESSAGE_MAX];
    size_t len = 0;
    int rc;

    for (int i = 0; i < ev->vsize; i++) {
        if (ev->iov[i].iov_len > sizeof(msg) - len) {
            fail(cp, BP_E_HS_TOO_LONG, bp_err_text(BP_E_HS_TOO_LONG));
            return;
        }
        if (ev->iov[i].iov_len > 0) {
            memcpy(msg + len, ev->iov[i].iov_base, ev->iov[i].iov_len);
            len += ev->iov[i].iov_len;
        }
    }
    if (len == 0) {
        return;
    }
    rc = bp_link_hs_send(cp->conn->link, msg, len);
    if (rc != 0) {
        fail(cp, rc, "a distribution handshake message could not be sent");
    }
}

static void frame(struct drv_conn_port *cp, const ErlIOVec *ev)
{
    struct bp_slice on_stack[STACK_SLICES];
    struct bp_slice *slices = on_stack;
    size_t n = 0;

    if (ev->vsize > (int)STACK_SLICES) {
        slices = driver_alloc(sizeof(*slices) * (size_t)ev->vsize);
        if (slices == NULL) {
            fail(cp, BP_E_NOMEM, bp_err_text(BP_E_NOMEM));
            return;
        }
    }
    for (int i = 0; i < ev->vsize; i++) {
        ErlDrvBinary *bin = ev->binv[i];
        struct bp_slice *s = &slices[n];

        if (ev->iov[i].iov_len == 0) {
            continue;
        }
        *s = (struct bp_slice){.base = (const uint8_t *)ev->iov[i].iov_base,
                               .len = ev->iov[i].iov_len};
        if (bin != NULL && s->len >= REF_MIN) {
            driver_binary_inc_refc(bin);
            s->owner = bin;
        }
        n++;
    }
    /* A failure is the link's, and settle() sees it. */
    if (bp_link_send(cp->conn->link, slices, n) != 0) {
        cp->flush_due = true;
    }
    if (slices != on_stack) {
        driver_free(slices);
    }
}

void drv_conn_port_outputv(struct drv_conn_port *cp, ErlIOVec *ev)
{
    struct drv_conn *c = cp->conn;
    bp_time now;

    if (c == NULL || bp_link_phase(c->link) == BP_LINK_FAILED) {
        return;
    }
    now = drv_now();
    if (!c->alive) {
        handshake_message(cp, ev);
        settle(cp, now);
        return;
    }
    if (ev->size == 0) {
        bp_link_tick(c->link);
        settle(cp, now);
        return;
    }
    frame(cp, ev);
    if (flush_now(cp, now)) {
        settle(cp, now);
    } else if (!cp->flush_due) {
        /* More will come at once; what was queued goes out when this burst is over. */
        cp->flush_due = true;
        cp->p.armed = 0;
        drv_wake(cp->p.timer_fd);
    }
}

/* --- control ------------------------------------------------------------- */

static void op_connect(struct drv_conn_port *cp, const uint8_t *p, size_t len, struct drv_reply *r)
{
    struct bp_link_config lc;
    struct drv_settings *s = NULL;
    char name[BP_NODE_NAME_MAX + 1];
    char ip[BP_ADDR_TEXT_MAX];
    uint64_t port = 0;
    uint64_t ms = 0;
    int rc;

    if (cp->conn != NULL || !drv_args_string(p, len, 1, name, sizeof(name)) ||
        !drv_args_string(p, len, 2, ip, sizeof(ip)) || !drv_args_uint(p, len, 3, &port) ||
        port == 0 || port > UINT16_MAX) {
        drv_reply_error(r, BP_E_INVALID, NULL);
        return;
    }
    erl_drv_mutex_lock(drv_node.lock);
    if (drv_node.settings != NULL) {
        s = drv_settings_ref(drv_node.settings);
    }
    struct bp_addr local = drv_node.bound;
    erl_drv_mutex_unlock(drv_node.lock);
    if (s == NULL) {
        drv_reply_error(r, BP_E_STATE, "CONFIG comes first");
        return;
    }
    drv_conn_link_config(s, &lc);
    lc.conn.local = local;
    rc = bp_addr_parse(&lc.conn.remote, ip, (uint16_t)port);
    if (rc == 0 && local.len != 0 && local.u.sa.sa_family == AF_INET6) {
        bp_addr_map_v6(&lc.conn.remote);
    } else if (rc == 0 && local.len == 0) {
        /* No listener: any port; the path's local address is only compared with itself. */
        rc = bp_addr_parse(&lc.conn.local,
                           lc.conn.remote.u.sa.sa_family == AF_INET ? "0.0.0.0" : "::", 0);
    }
    lc.auth.dialled_name = name;
    if (drv_args_uint(p, len, 4, &ms) && ms > 0) {
        lc.setup_timeout = ms * BP_MS;
    }
    if (rc == 0) {
        rc = drv_conn_new(&cp->conn, false, s, &lc, drv_now());
    }
    drv_settings_unref(s);
    if (rc != 0) {
        drv_reply_error(r, rc, NULL);
        return;
    }
    erl_drv_mutex_lock(drv_node.lock);
    cp->conn->box.wake_fd = cp->p.timer_fd;
    erl_drv_mutex_unlock(drv_node.lock);
    cp->dialling = true;
    if (local.len == 0) {
        cp->conn->local.len = 0; /* let the kernel choose */
    }
    open_socket(cp);
    cp->conn->local = lc.conn.local;
    if (cp->conn->err != 0) {
        drv_reply_error(r, cp->conn->err, cp->conn->err_text);
        return;
    }
    drv_reply_ok(r);
}

static void op_peer(const struct drv_conn *c, struct drv_reply *r)
{
    const char *name = bp_link_peer_name(c->link);
    char text[BP_ADDR_TEXT_MAX];
    char fingerprint[BP_FINGERPRINT_TEXT];
    uint16_t port = bp_addr_port(&c->peer);
    uint8_t be[2] = {(uint8_t)(port >> 8), (uint8_t)port};
    uint8_t state = c->authenticated;

    drv_reply_ok(r);
    drv_reply_tlv(r, 1, name, strlen(name));
    bp_addr_ip_text(&c->peer, text);
    drv_reply_tlv(r, 2, text, strlen(text));
    drv_reply_tlv(r, 3, be, sizeof(be));
    if (c->has_key) {
        bp_fingerprint_text(c->key, fingerprint);
        drv_reply_tlv(r, 4, fingerprint, strlen(fingerprint));
    }
    drv_reply_tlv(r, 5, &state, 1);
}

static void reply_failure(const struct drv_conn *c, struct drv_reply *r)
{
    drv_reply_error(r, drv_conn_error(c), drv_conn_error_text(c));
}

static void op_recv(struct drv_conn_port *cp, struct drv_reply *r)
{
    const uint8_t *msg;
    size_t len;
    int rc = drv_conn_hs_recv(cp->conn, &msg, &len);

    if (rc < 0) {
        reply_failure(cp->conn, r);
        return;
    }
    drv_reply_ok(r);
    drv_reply_uint(r, (uint64_t)rc, 1);
    if (rc == 1) {
        drv_reply_bytes(r, msg, len);
    } else {
        cp->want_hs = true;
    }
}

static void op_pre_nodeup(struct drv_conn_port *cp, struct drv_reply *r)
{
    struct drv_conn *c = cp->conn;
    struct bp_errbuf err;
    int rc = drv_conn_pin(c, &err);

    c->alive = false;
    if (rc == BP_E_MISMATCH) {
        fail(cp, BP_E_AUTH_KEY_MISMATCH, "another key was pinned to this name meanwhile");
    } else if (rc != 0) {
        fail(cp, rc, err.text);
    } else {
        rc = bp_link_up(c->link);
    }
    if (rc != 0) {
        reply_failure(c, r);
        return;
    }
    c->alive = true;
    drv_reply_ok(r);
}

static void op_getstat(const struct drv_conn *c, struct drv_reply *r)
{
    struct bp_link_stats st;

    bp_link_stats(c->link, &st);
    drv_reply_ok(r);
    drv_reply_uint(r, st.frames_in, 8);
    drv_reply_uint(r, st.frames_out, 8);
    drv_reply_uint(r, bp_link_pending(c->link), 8);
}

static void number(struct drv_reply *r, const char *name, uint64_t v)
{
    drv_reply_uint(r, strlen(name), 1);
    drv_reply_bytes(r, name, strlen(name));
    drv_reply_uint(r, v, 8);
}

static void op_conn_stats(const struct drv_conn *c, struct drv_reply *r)
{
    struct bp_link_stats ls;
    struct bp_conn_stats cs;

    bp_link_stats(c->link, &ls);
    bp_conn_stats(bp_link_conn(c->link), &cs);
    drv_reply_ok(r);
    number(r, "srtt", cs.smoothed_rtt / 1000);
    number(r, "latest_rtt", cs.latest_rtt / 1000);
    number(r, "min_rtt", cs.min_rtt / 1000);
    number(r, "rtt_var", cs.rttvar / 1000);
    number(r, "cwnd", cs.cwnd);
    number(r, "bytes_in_flight", cs.bytes_in_flight);
    number(r, "datagram_size", cs.datagram_size);
    number(r, "packets_sent", cs.packets_sent);
    number(r, "datagrams_received", cs.datagrams_received);
    number(r, "bytes_sent", cs.bytes_sent);
    number(r, "bytes_received", cs.bytes_received);
    number(r, "frames_in", ls.frames_in);
    number(r, "frames_out", ls.frames_out);
    number(r, "fences", ls.fences);
    number(r, "held", ls.held);
    number(r, "pending", bp_link_pending(c->link));
    number(r, "send_syscalls", c->tx.syscalls);
    number(r, "send_lost", c->tx.lost);
    number(r, "mailbox_dropped", c->box.dropped);
}

static int opt_place(uint8_t key, const struct drv_conn *c, int *level, int *name)
{
    *level = SOL_SOCKET;
    switch (key) {
    case 1:
        *name = SO_PRIORITY;
        return 0;
    case 2:
        *level = c->peer.u.sa.sa_family == AF_INET6 ? IPPROTO_IPV6 : IPPROTO_IP;
        *name = c->peer.u.sa.sa_family == AF_INET6 ? IPV6_TCLASS : IP_TOS;
        return 0;
    case 3:
        *name = SO_RCVBUF;
        return 0;
    case 4:
        *name = SO_SNDBUF;
        return 0;
    default:
        return BP_E_INVALID;
    }
}

static void op_setopts(const struct drv_conn *c, const uint8_t *p, size_t len, struct drv_reply *r)
{
    struct drv_args a;
    struct drv_arg arg;
    int level;
    int name;

    drv_reply_ok(r);
    drv_args_init(&a, p, len);
    while (drv_args_next(&a, &arg)) {
        int value = (int)drv_arg_uint(&arg);
        if (arg.key == 5) {
            continue; /* nodelay: there is no Nagle to switch off */
        }
        if (opt_place(arg.key, c, &level, &name) != 0 ||
            setsockopt(c->fd, level, name, &value, sizeof(value)) != 0) {
            drv_reply_error(r, BP_E_INVALID, "the socket does not take this option");
            return;
        }
    }
}

static void op_getopts(const struct drv_conn *c, const uint8_t *p, size_t len, struct drv_reply *r)
{
    int level;
    int name;

    drv_reply_ok(r);
    for (size_t i = 0; i < len; i++) {
        int value = 0;
        socklen_t size = sizeof(value);
        uint8_t be[4];

        if (p[i] == 5) {
            drv_reply_tlv(r, 5, "\1", 1);
            continue;
        }
        if (opt_place(p[i], c, &level, &name) != 0 ||
            getsockopt(c->fd, level, name, &value, &size) != 0) {
            drv_reply_error(r, BP_E_INVALID, "the socket does not have this option");
            return;
        }
        for (unsigned k = 0; k < 4; k++) {
            be[k] = (uint8_t)((unsigned)value >> (24 - 8 * k));
        }
        drv_reply_tlv(r, p[i], be, sizeof(be));
    }
}

static void op_auth_recv(struct drv_conn_port *cp, struct drv_reply *r)
{
    const uint8_t *p;
    size_t len;
    bool fin;
    int rc = bp_link_auth_recv(cp->conn->link, &p, &len, &fin);

    if (rc != 0) {
        reply_failure(cp->conn, r);
        return;
    }
    drv_reply_ok(r);
    if (len == 0 && !fin) {
        drv_reply_uint(r, 0, 1);
        cp->want_auth = true;
        return;
    }
    drv_reply_uint(r, 1, 1);
    drv_reply_uint(r, fin, 1);
    drv_reply_bytes(r, p, len);
}

static void op_auth_done(struct drv_conn_port *cp, const uint8_t *p, size_t len,
                         struct drv_reply *r)
{
    char name[BP_NODE_NAME_MAX + 1] = "";
    int rc;

    if (len < 2 || len != 2u + p[1]) {
        drv_reply_error(r, BP_E_INVALID, NULL);
        return;
    }
    memcpy(name, p + 2, p[1]);
    name[p[1]] = '\0';
    rc = bp_link_auth_done(cp->conn->link, p[0] != 0, name);
    drv_conn_events(cp->conn, drv_now());
    if (rc != 0) {
        reply_failure(cp->conn, r);
    } else {
        drv_reply_ok(r);
    }
}

static bool control(struct drv_conn_port *cp, unsigned op, const uint8_t *p, size_t len,
                    struct drv_reply *r)
{
    struct drv_conn *c = cp->conn;
    const uint8_t *cert;
    size_t cert_len;
    int rc;

    switch (op) {
    case OP_PEER:
        op_peer(c, r);
        return true;
    case OP_RECV:
        op_recv(cp, r);
        return true;
    case OP_PRE_NODEUP:
        op_pre_nodeup(cp, r);
        return true;
    case OP_POST_NODEUP:
        bp_link_deliver(c->link);
        drv_reply_ok(r);
        return true;
    case OP_GETSTAT:
        op_getstat(c, r);
        return true;
    case OP_SETOPTS:
        op_setopts(c, p, len, r);
        return true;
    case OP_GETOPTS:
        op_getopts(c, p, len, r);
        return true;
    case OP_AUTH_SEND:
        rc = len < 1 ? BP_E_INVALID : bp_link_auth_send(c->link, p + 1, len - 1, p[0] != 0);
        if (rc != 0) {
            drv_reply_error(r, rc, NULL);
        } else {
            drv_reply_ok(r);
        }
        return true;
    case OP_AUTH_RECV:
        op_auth_recv(cp, r);
        return true;
    case OP_PEERCERT:
        cert = bp_conn_peer_cert(bp_link_conn(c->link), &cert_len);
        drv_reply_ok(r);
        drv_reply_bytes(r, cert, cert_len);
        return true;
    case OP_AUTH_DONE:
        op_auth_done(cp, p, len, r);
        return true;
    case OP_CONN_STATS:
        op_conn_stats(c, r);
        return true;
    default:
        return false;
    }
}

ErlDrvSSizeT drv_conn_port_control(struct drv_conn_port *cp, unsigned op, const uint8_t *p,
                                   size_t len, char **rbuf, ErlDrvSizeT rlen)
{
    struct drv_reply r;

    drv_reply_init(&r);
    if (op == OP_CONNECT) {
        op_connect(cp, p, len, &r);
    } else if (cp->conn == NULL) {
        drv_reply_error(&r, BP_E_STATE, "CONNECT comes first");
    } else if (!control(cp, op, p, len, &r)) {
        return -1;
    }
    if (cp->conn != NULL && (op == OP_CONNECT || op == OP_AUTH_SEND)) {
        settle(cp, drv_now());
    } else if (cp->conn != NULL && op != OP_GETSTAT && op != OP_RECV && op != OP_PEER) {
        /* What the operation began goes on outside of it: the VM wants the result first. */
        cp->p.armed = 0;
        drv_wake(cp->p.timer_fd);
    }
    return drv_reply_done(&r, rbuf, rlen);
}
