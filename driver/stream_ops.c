/* SPDX-License-Identifier: Apache-2.0 */
/* Control operations on user streams, and the port commands that bring large writes. */
#include "driver/streams.h"

#include <string.h>

#define COMMAND_HEAD 9u /* 0, Id:64: distribution messages never begin with 0 */
#define STACK_SLICES 32u

enum { SENT = 0, WAIT = 1 };

static uint64_t be(const uint8_t *p, unsigned bytes)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < bytes; i++) {
        v = v << 8 | p[i];
    }
    return v;
}

/* <<1, Mode:8, N:16/signed>> active; <<2, Priority:8>>; <<3, Nonblock:8>>, in any order. */
static bool read_opts(const uint8_t *p, size_t len, struct drv_stream_opts *o)
{
    *o = (struct drv_stream_opts){.has_active = false};
    while (len > 0) {
        if (p[0] == 1 && len >= 4 && p[1] <= DRV_ACTIVE_N) {
            o->has_active = true;
            o->active = (enum drv_active)p[1];
            o->n = (int16_t)(uint16_t)be(p + 2, 2);
            p += 4;
            len -= 4;
        } else if (p[0] == 2 && len >= 2 && p[1] >= BP_USER_PRIORITY_MIN) {
            o->has_priority = true;
            o->priority = p[1];
            p += 2;
            len -= 2;
        } else if (p[0] == 3 && len >= 2) {
            o->has_nonblock = true;
            o->nonblock = p[1] != 0;
            p += 2;
            len -= 2;
        } else {
            return false;
        }
    }
    return true;
}

/* The stream that an operation begins with the id of; NULL: none, the error is in `r`. */
static struct bp_user_stream *stream_of(const struct drv_conn_port *cp, const uint8_t *p,
                                        size_t len, size_t want, struct drv_reply *r)
{
    struct bp_user_stream *s;

    if (len < want) {
        drv_reply_error(r, BP_E_INVALID, NULL);
        return NULL;
    }
    s = drv_stream_find(cp, be(p, 8));
    if (s == NULL || s->host == NULL) {
        drv_reply_error(r, BP_E_UNKNOWN_STREAM, NULL);
        return NULL;
    }
    return s;
}

/* The same, and the caller is its owner. */
static struct bp_user_stream *own_stream(const struct drv_conn_port *cp, const uint8_t *p,
                                         size_t len, size_t want, struct drv_reply *r)
{
    struct bp_user_stream *s = stream_of(cp, p, len, want, r);

    if (s != NULL && ((const struct drv_stream *)s->host)->owner != driver_caller(cp->p.port)) {
        drv_reply_error(r, BP_E_NOT_OWNER, NULL);
        return NULL;
    }
    return s;
}

static void op_open(struct drv_conn_port *cp, const uint8_t *p, size_t len, struct drv_reply *r)
{
    struct bp_link *l = cp->conn->link;
    struct drv_stream_opts o;
    struct bp_user_stream *s;
    int rc;

    if (!read_opts(p, len, &o)) {
        drv_reply_error(r, BP_E_INVALID, NULL);
        return;
    }
    if (drv_streams_get(cp) == NULL) {
        drv_reply_error(r, BP_E_NOMEM, NULL);
        return;
    }
    rc = bp_link_user_open(l, o.has_priority ? o.priority : BP_USER_PRIORITY_DEFAULT, &s);
    if (rc != 0) {
        drv_reply_error(r, rc == BP_E_AGAIN ? BP_E_STREAM_LIMIT : rc, NULL);
        return;
    }
    if (!drv_stream_own(cp, s, driver_caller(cp->p.port), &o)) {
        bp_link_user_reset(l, s, 0);
        drv_reply_error(r, BP_E_NOMEM, NULL);
        return;
    }
    drv_reply_ok(r);
    drv_reply_uint(r, drv_stream_number(cp, s), 8);
}

/* True if bytes may be queued now; else the result is in `r`. */
static bool may_send(struct drv_conn_port *cp, struct bp_user_stream *s, struct drv_reply *r)
{
    const struct drv_stream *h = s->host;

    if (s->tx.fin) {
        drv_reply_error(r, BP_E_SEND_CLOSED, NULL);
        return false;
    }
    if (s->tx.shut || s->cut) {
        drv_reply_error(r, BP_E_UNKNOWN_STREAM, "the peer wants no more of the stream");
        return false;
    }
    if (drv_stream_room(cp, s)) {
        return true;
    }
    if (h->nonblock) {
        drv_reply_error(r, BP_E_WOULD_BLOCK, NULL);
    } else {
        drv_reply_ok(r);
        drv_reply_uint(r, WAIT, 1);
    }
    return false;
}

static void reply_sent(struct drv_reply *r, int rc)
{
    if (rc != 0) {
        drv_reply_error(r, rc == BP_E_STATE ? BP_E_UNKNOWN_STREAM : rc, NULL);
        return;
    }
    drv_reply_ok(r);
    drv_reply_uint(r, SENT, 1);
}

static void op_send(struct drv_conn_port *cp, const uint8_t *p, size_t len, struct drv_reply *r)
{
    struct bp_user_stream *s = own_stream(cp, p, len, 9, r);
    struct bp_slice slice = {.base = p + 9, .len = len - 9};
    int rc;

    if (s == NULL || (len > 9 && !may_send(cp, s, r))) {
        return;
    }
    rc = slice.len > 0 ? bp_link_user_put(cp->conn->link, s, &slice, 1) : 0;
    if (rc == 0 && p[8] != 0) {
        rc = bp_link_user_fin(cp->conn->link, s);
    }
    reply_sent(r, rc);
}

static void op_reserve(struct drv_conn_port *cp, const uint8_t *p, size_t len, struct drv_reply *r)
{
    struct bp_user_stream *s = own_stream(cp, p, len, 9, r);
    struct drv_stream *h;

    if (s == NULL || !may_send(cp, s, r)) {
        return;
    }
    h = s->host;
    if (!h->reserved) {
        h->reserved = true;
        cp->n_reserved++;
    }
    h->reserved_fin = p[8] != 0;
    reply_sent(r, 0);
}

static void op_close(struct drv_conn_port *cp, const uint8_t *p, size_t len, struct drv_reply *r)
{
    struct bp_user_stream *s = own_stream(cp, p, len, 8, r);

    if (s != NULL) {
        reply_sent(r, s->tx.fin ? 0 : bp_link_user_fin(cp->conn->link, s));
    }
}

static void op_reset(struct drv_conn_port *cp, const uint8_t *p, size_t len, struct drv_reply *r)
{
    struct bp_user_stream *s = own_stream(cp, p, len, 16, r);

    if (s != NULL) {
        drv_stream_reset(cp, s, be(p + 8, 8));
        drv_reply_ok(r);
    }
}

static void op_opts(struct drv_conn_port *cp, const uint8_t *p, size_t len, struct drv_reply *r)
{
    struct bp_user_stream *s = own_stream(cp, p, len, 8, r);
    struct drv_stream_opts o;

    if (s == NULL) {
        return;
    }
    if (!read_opts(p + 8, len - 8, &o)) {
        drv_reply_error(r, BP_E_INVALID, NULL);
        return;
    }
    drv_reply_ok(r);
    drv_stream_set(cp, s, &o);
    drv_stream_look(cp, s);
}

/* Nothing more is told to the owner until OWNER, so that it can pass on what it has. */
static void op_hold(struct drv_conn_port *cp, const uint8_t *p, size_t len, struct drv_reply *r)
{
    struct bp_user_stream *s = own_stream(cp, p, len, 8, r);

    if (s != NULL) {
        ((struct drv_stream *)s->host)->held = true;
        drv_reply_ok(r);
    }
}

/* <<Id:64, Pid:64>>: a process as nif.c gives it. */
static void op_owner(struct drv_conn_port *cp, const uint8_t *p, size_t len, struct drv_reply *r)
{
    struct bp_user_stream *s = own_stream(cp, p, len, 16, r);
    struct drv_stream *h;

    if (s == NULL) {
        return;
    }
    h = s->host;
    h->held = false;
    if (drv_stream_hand_over(cp, h, (ErlDrvTermData)be(p + 8, 8))) {
        drv_reply_ok(r);
    } else {
        drv_reply_error(r, BP_E_INVALID, "that process has ended");
    }
    drv_stream_look(cp, s);
}

static void op_accept(struct drv_conn_port *cp, const uint8_t *p, size_t len, struct drv_reply *r)
{
    struct drv_streams *st = drv_streams_get(cp);
    ErlDrvTermData who = driver_caller(cp->p.port);
    struct drv_stream_opts o;
    struct drv_acceptor *grown;
    int rc = 0;

    if (!read_opts(p, len, &o)) {
        drv_reply_error(r, BP_E_INVALID, NULL);
        return;
    }
    for (unsigned i = 0; st != NULL && i < st->n_acceptors; i++) {
        if (st->acceptors[i].pid == who) {
            st->acceptors[i].opts = o;
            drv_reply_ok(r);
            return;
        }
    }
    if (st == NULL || st->n_acceptors == STREAM_ACCEPTORS_MAX) {
        rc = st == NULL ? BP_E_NOMEM : BP_E_LIMIT;
    } else if (st->n_acceptors == st->acceptors_cap) {
        unsigned cap = st->acceptors_cap != 0 ? st->acceptors_cap * 2 : 4;
        grown = drv_mem()->grow(NULL, st->acceptors, cap * sizeof(*grown));
        rc = grown == NULL ? BP_E_NOMEM : 0;
        st->acceptors = grown != NULL ? grown : st->acceptors;
        st->acceptors_cap = grown != NULL ? cap : st->acceptors_cap;
    }
    if (rc == 0) {
        struct drv_acceptor *a = &st->acceptors[st->n_acceptors];
        *a = (struct drv_acceptor){.pid = who, .opts = o};
        rc = driver_monitor_process(cp->p.port, who, &a->monitor) == 0 ? 0 : BP_E_INVALID;
        st->n_acceptors += rc == 0;
    }
    if (rc == 0) {
        drv_reply_ok(r);
    } else {
        drv_reply_error(r, rc, NULL);
    }
}

static void op_stop(struct drv_conn_port *cp, struct drv_reply *r)
{
    struct drv_streams *st = cp->streams;
    ErlDrvTermData who = driver_caller(cp->p.port);

    for (unsigned i = 0; st != NULL && i < st->n_acceptors; i++) {
        if (st->acceptors[i].pid == who) {
            (void)driver_demonitor_process(cp->p.port, &st->acceptors[i].monitor);
            st->acceptors[i] = st->acceptors[--st->n_acceptors];
            break;
        }
    }
    drv_reply_ok(r);
}

static void op_list(struct drv_conn_port *cp, const uint8_t *p, size_t len, struct drv_reply *r)
{
    if (len != 8) {
        drv_reply_error(r, BP_E_INVALID, NULL);
    } else if (drv_tell_stream_list(cp, driver_caller(cp->p.port), be(p, 8))) {
        drv_reply_ok(r);
    } else {
        drv_reply_error(r, BP_E_NOMEM, NULL);
    }
}

/* The owner has consumed what it was given; also said by the watcher of one that has changed. */
static void op_resume(struct drv_conn_port *cp, const uint8_t *p, size_t len, struct drv_reply *r)
{
    struct bp_user_stream *s = stream_of(cp, p, len, 8, r);
    struct drv_stream *h;

    if (s == NULL) {
        return;
    }
    h = s->host;
    drv_reply_ok(r);
    if (h->asked) {
        h->asked = false;
        h->left = STREAM_AUTO_EVENTS;
        h->bytes_left = STREAM_AUTO_BYTES;
        drv_stream_look(cp, s);
    }
}

/* The peer's name where it is not the one that it authenticated with (a dynamic one). */
static void op_node(struct drv_conn_port *cp, const uint8_t *p, size_t len, struct drv_reply *r)
{
    struct drv_streams *st = drv_streams_get(cp);

    if (st == NULL || len > BP_NODE_NAME_MAX) {
        drv_reply_error(r, st == NULL ? BP_E_NOMEM : BP_E_INVALID, NULL);
        return;
    }
    st->node[2] = (uint8_t)len;
    memcpy(st->node + 3, p, len);
    st->node_len = len + 3;
    drv_reply_ok(r);
}

bool drv_stream_op(struct drv_conn_port *cp, unsigned op, const uint8_t *p, size_t len,
                   struct drv_reply *r)
{
    if (op < OP_STREAM_OPEN || op > OP_STREAM_NODE) {
        return false;
    }
    /* From PRE_NODEUP on: whoever waits for the node to be up may be here before POST_NODEUP. */
    if (op != OP_STREAM_NODE && bp_link_phase(cp->conn->link) != BP_LINK_UP) {
        drv_reply_error(r, BP_E_STATE, "the connection is not up");
        return true;
    }
    switch ((enum drv_op)op) {
    case OP_STREAM_OPEN:
        op_open(cp, p, len, r);
        break;
    case OP_STREAM_SEND:
        op_send(cp, p, len, r);
        break;
    case OP_STREAM_RESERVE:
        op_reserve(cp, p, len, r);
        break;
    case OP_STREAM_CLOSE:
        op_close(cp, p, len, r);
        break;
    case OP_STREAM_RESET:
        op_reset(cp, p, len, r);
        break;
    case OP_STREAM_OPTS:
        op_opts(cp, p, len, r);
        break;
    case OP_STREAM_HOLD:
        op_hold(cp, p, len, r);
        break;
    case OP_STREAM_OWNER:
        op_owner(cp, p, len, r);
        break;
    case OP_STREAM_ACCEPT:
        op_accept(cp, p, len, r);
        break;
    case OP_STREAM_STOP:
        op_stop(cp, r);
        break;
    case OP_STREAM_LIST:
        op_list(cp, p, len, r);
        break;
    case OP_STREAM_RESUME:
        op_resume(cp, p, len, r);
        break;
    case OP_STREAM_NODE:
    default:
        op_node(cp, p, len, r);
        break;
    }
    return true;
}

/* --- port commands ------------------------------------------------------------------ */

/* The first bytes of a command; false: they are not there, or it is not one of ours. */
static bool command_head(const ErlIOVec *ev, uint8_t head[static COMMAND_HEAD])
{
    size_t n = 0;

    for (int i = 0; i < ev->vsize && n < COMMAND_HEAD; i++) {
        size_t k = ev->iov[i].iov_len < COMMAND_HEAD - n ? ev->iov[i].iov_len : COMMAND_HEAD - n;
        if (k > 0) {
            memcpy(head + n, ev->iov[i].iov_base, k);
            n += k;
        }
        if (n > 0 && head[0] != 0) {
            return false;
        }
    }
    return n == COMMAND_HEAD;
}

static void put_rest(struct drv_conn_port *cp, struct bp_user_stream *s, const ErlIOVec *ev,
                     struct bp_slice *slices)
{
    struct drv_stream *h = s->host;
    size_t skip = COMMAND_HEAD;
    size_t n = 0;
    int rc;

    for (int i = 0; i < ev->vsize; i++) {
        size_t k = ev->iov[i].iov_len < skip ? ev->iov[i].iov_len : skip;
        struct bp_slice *x = &slices[n];

        skip -= k;
        if (ev->iov[i].iov_len == k) {
            continue;
        }
        *x = (struct bp_slice){.base = (const uint8_t *)ev->iov[i].iov_base + k,
                               .len = ev->iov[i].iov_len - k};
        if (ev->binv[i] != NULL && x->len >= DRV_REF_MIN) {
            driver_binary_inc_refc(ev->binv[i]);
            x->owner = ev->binv[i];
        }
        n++;
    }
    rc = bp_link_user_put(cp->conn->link, s, slices, n);
    if (rc == 0 && h->reserved_fin) {
        rc = bp_link_user_fin(cp->conn->link, s);
    }
    (void)rc; /* the stream was cut then, and the owner will be told */
}

bool drv_stream_command(struct drv_conn_port *cp, const ErlIOVec *ev)
{
    struct bp_slice on_stack[STACK_SLICES];
    struct bp_slice *slices = on_stack;
    uint8_t head[COMMAND_HEAD];
    struct bp_user_stream *s;
    struct drv_stream *h;

    if (!command_head(ev, head)) {
        return false;
    }
    s = drv_stream_find(cp, be(head + 1, 8));
    h = s != NULL ? s->host : NULL;
    if (h == NULL || !h->reserved) {
        return true; /* it ended meanwhile; the owner was told */
    }
    h->reserved = false;
    cp->n_reserved--;
    if (ev->vsize > (int)STACK_SLICES) {
        slices = driver_alloc(sizeof(*slices) * (size_t)ev->vsize);
    }
    if (slices == NULL) {
        drv_stream_reset(cp, s, BP_USER_TOO_MUCH);
    } else {
        put_rest(cp, s, ev, slices);
    }
    if (slices != on_stack) {
        drv_free(slices);
    }
    return true;
}
