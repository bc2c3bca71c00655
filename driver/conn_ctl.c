/* SPDX-License-Identifier: Apache-2.0 */
/* Control operations of a connection port: dialling, handshakes, options, statistics. */
#include "driver/drv.h"

#include <string.h>

/* The two ends' addresses; `bound`: what the node listens on, empty if it does not. */
static int dial_addresses(struct bp_link_config *lc, const struct bp_addr *bound, const char *ip,
                          uint16_t port)
{
    int rc = bp_addr_parse(&lc->conn.remote, ip, port);

    lc->conn.local = *bound;
    if (rc == 0 && bound->len != 0 && bound->u.sa.sa_family == AF_INET6) {
        bp_addr_map_v6(&lc->conn.remote);
    } else if (rc == 0 && bound->len == 0) {
        /* No listener: any port; the path's local address is only compared with itself. */
        rc = bp_addr_parse(&lc->conn.local,
                           lc->conn.remote.u.sa.sa_family == AF_INET ? "0.0.0.0" : "::", 0);
    }
    return rc;
}

/* Time limit, relay and the datagrams' size, which the relay may limit. `*relay`: the caller's. */
static int dial_options(struct bp_link_config *lc, struct drv_relay **relay, const uint8_t *p,
                        size_t len)
{
    uint64_t ms = 0;
    uint64_t max = 0;
    int rc;

    if (drv_args_uint(p, len, 4, &ms) && ms > 0) {
        lc->setup_timeout = ms * BP_MS;
    }
    if (drv_args_uint(p, len, 5, &max) && max >= BP_DGRAM_MIN && max < lc->conn.max_datagram) {
        lc->conn.max_datagram = (uint32_t)max;
    }
    rc = drv_relay_parse(relay, p, len);
    if (rc == 0 && *relay != NULL && drv_relay_mtu(*relay) != 0 &&
        drv_relay_mtu(*relay) < lc->conn.max_datagram) {
        lc->conn.max_datagram = drv_relay_mtu(*relay);
    }
    return rc;
}

/* The settings and the listener's address. NULL: there was no CONFIG. */
static struct drv_settings *node_settings(struct bp_addr *bound)
{
    struct drv_settings *s = NULL;

    erl_drv_mutex_lock(drv_node.lock);
    if (drv_node.settings != NULL) {
        s = drv_settings_ref(drv_node.settings);
    }
    *bound = drv_node.bound;
    erl_drv_mutex_unlock(drv_node.lock);
    return s;
}

/* Opens the new connection's path; takes the relay. A failure is in the connection's err. */
static void open_path(struct drv_conn_port *cp, struct drv_relay *relay,
                      const struct bp_link_config *lc, const struct bp_addr *bound)
{
    struct bp_addr path;
    int fd = -1;

    erl_drv_mutex_lock(drv_node.lock);
    cp->conn->box.wake_fd = cp->p.wake_fd;
    erl_drv_mutex_unlock(drv_node.lock);
    cp->dialling = true;
    if (bound->len == 0) {
        cp->conn->local.len = 0; /* let the kernel choose */
    }
    cp->conn->relay = relay;
    if (relay != NULL) {
        int rc = drv_relay_open(cp, relay, &lc->conn.remote, &fd, &path);

        if (rc <= 0) {
            drv_conn_port_relay_opened(cp, rc, fd, &path);
        }
    } else {
        drv_conn_port_open_socket(cp);
    }
    cp->conn->local = lc->conn.local;
}

static void op_connect(struct drv_conn_port *cp, const uint8_t *p, size_t len, struct drv_reply *r)
{
    struct bp_link_config lc;
    struct drv_settings *s;
    struct drv_relay *relay = NULL;
    struct bp_addr bound;
    char name[BP_NODE_NAME_MAX + 1];
    char ip[BP_ADDR_TEXT_MAX];
    uint8_t session[BP_SESSION_MAX];
    uint64_t port = 0;
    int rc;

    if (cp->conn != NULL || !drv_args_string(p, len, 1, name, sizeof(name)) ||
        !drv_args_string(p, len, 2, ip, sizeof(ip)) || !drv_args_uint(p, len, 3, &port) ||
        port == 0 || port > UINT16_MAX) {
        drv_reply_error(r, BP_E_INVALID, NULL);
        return;
    }
    s = node_settings(&bound);
    if (s == NULL) {
        drv_reply_error(r, BP_E_STATE, "CONFIG comes first");
        return;
    }
    drv_conn_link_config(s, &lc);
    lc.auth.dialled_name = name;
    rc = dial_addresses(&lc, &bound, ip, (uint16_t)port);
    if (rc == 0) {
        rc = dial_options(&lc, &relay, p, len);
    }
    if (s->auth_mode == BP_AUTH_BUILTIN) {
        lc.conn.keep_session = true;
        lc.conn.session = session;
        lc.conn.session_len = rc == 0 ? drv_tickets_take(name, session, drv_now()) : 0;
    }
    if (rc == 0) {
        rc = drv_conn_new(&cp->conn, false, s, &lc, drv_now());
    }
    bp_wipe(session, sizeof(session));
    drv_settings_unref(s);
    if (rc != 0) {
        drv_relay_close(cp, relay);
        drv_reply_error(r, rc, NULL);
        return;
    }
    open_path(cp, relay, &lc, &bound);
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
    if (c->trust.has_key) {
        bp_fingerprint_text(c->trust.key, fingerprint);
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
        drv_conn_port_fail(cp, BP_E_AUTH_KEY_MISMATCH,
                           "the key that is pinned to this name was changed or removed meanwhile");
    } else if (rc != 0) {
        drv_conn_port_fail(cp, rc, err.text);
    } else {
        rc = bp_link_up(c->link);
    }
    if (rc != 0) {
        reply_failure(c, r);
        if (!c->reported) {
            /* dist_util gives the reason to nobody, and its process may end before the port's turn.
             */
            c->reported = true;
            drv_log(DRV_WARNING, "connection_refused", drv_conn_peer(c), "%s (%s)",
                    drv_conn_error_text(c), bp_err_atom(drv_conn_error(c)));
        }
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
        if (arg.len == 0 || arg.len > 8 || opt_place(arg.key, c, &level, &name) != 0 ||
            setsockopt(c->fd, level, name, &value, sizeof(value)) != 0) {
            drv_reply_error(r, BP_E_INVALID, "the socket does not take this option");
            return;
        }
    }
    if (a.bad) {
        drv_reply_error(r, BP_E_INVALID, "the list of options is cut off");
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
        drv_conn_stats(c, r);
        return true;
    default:
        return drv_idle_op(cp, op, p, len, r) || drv_stream_op(cp, op, p, len, r) ||
               drv_move_op(cp, op, p, len, r) || drv_relay_op(cp, op, p, len, r);
    }
}

/* The connection is up, and what QUIC has to send can wait. Only what came for the VM cannot, once
 * it takes it. */
static bool up_quietly(const struct drv_conn_port *cp, unsigned op)
{
    struct bp_link *l = cp->conn->link;

    if (bp_link_phase(l) != BP_LINK_UP || bp_link_pending(l) > 0) {
        return false;
    }
    return op == OP_PRE_NODEUP ||
           (op == OP_POST_NODEUP && bp_link_frames(l)->n == 0 && bp_link_user_streams(l) == 0);
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
    if (cp->p.stopped) {
        return drv_reply_done(&r, rbuf, rlen); /* OP_IDLE_CLOSE */
    }
    if (cp->conn != NULL && (op == OP_CONNECT || op == OP_AUTH_SEND)) {
        drv_conn_port_settle(cp, drv_now());
    } else if (cp->conn != NULL && op >= OP_STREAM_OPEN) {
        drv_conn_port_push(cp, drv_now());
    } else if (cp->conn != NULL && op != OP_GETSTAT && op != OP_RECV && op != OP_PEER) {
        /* What the operation began goes on outside of it: the VM wants the result first. */
        if (!up_quietly(cp, op) || !drv_conn_port_soon(cp, drv_now())) {
            drv_port_timer_arm(&cp->p, cp->p.entered, cp->p.entered);
        }
    }
    return drv_reply_done(&r, rbuf, rlen);
}
