/* SPDX-License-Identifier: Apache-2.0 */
/* Messages about user streams. */
#include "driver/streams.h"

#include <string.h>

struct terms {
    ErlDrvTermData t[48];
    int n;
};

static void put(struct terms *m, ErlDrvTermData a)
{
    m->t[m->n++] = a;
}

static void put_atom(struct terms *m, const char *name)
{
    put(m, ERL_DRV_ATOM);
    put(m, driver_mk_atom((char *)(uintptr_t)name));
}

static void put_uint64(struct terms *m, const ErlDrvUInt64 *v)
{
    put(m, ERL_DRV_UINT64);
    put(m, (ErlDrvTermData)v);
}

static void put_tuple(struct terms *m, unsigned arity)
{
    put(m, ERL_DRV_TUPLE);
    put(m, arity);
}

static void put_node(struct terms *m, const struct drv_streams *st)
{
    put(m, ERL_DRV_EXT2TERM);
    put(m, (ErlDrvTermData)st->node);
    put(m, st->node_len);
}

/* A port that is closing sends nothing any more: the node port speaks for it. */
static ErlDrvTermData speaker(const struct drv_conn_port *cp)
{
    ErlDrvTermData port;

    if (!cp->p.stopped) {
        return driver_mk_port(cp->p.port);
    }
    erl_drv_mutex_lock(drv_node.lock);
    port = drv_node.port;
    erl_drv_mutex_unlock(drv_node.lock);
    return port;
}

static void send_to(struct drv_conn_port *cp, ErlDrvTermData to, struct terms *m)
{
    (void)erl_drv_send_term(speaker(cp), to, m->t, m->n);
}

static void put_ref(struct terms *m, const struct drv_conn_port *cp, const ErlDrvUInt64 *id)
{
    put_atom(m, "quic_dist_stream");
    put_node(m, cp->streams);
    put_uint64(m, id);
    put_tuple(m, 3);
}

static ErlDrvTermData owner_of(const struct bp_user_stream *s)
{
    return ((const struct drv_stream *)s->host)->owner;
}

void drv_tell_stream_data(struct drv_conn_port *cp, const struct bp_user_stream *s,
                          const struct bp_user_chunk *c)
{
    ErlDrvUInt64 id = drv_stream_number(cp, s);
    ErlDrvBinary *bin = c->bin;
    struct terms m = {.n = 0};

    put_atom(&m, "quic_dist_stream");
    put_ref(&m, cp, &id);
    put_atom(&m, "data");
    if (c->len > 0) {
        put(&m, ERL_DRV_BINARY);
        put(&m, (ErlDrvTermData)bin);
        put(&m, c->len);
        put(&m, (ErlDrvTermData)(c->data - (const uint8_t *)bin->orig_bytes));
    } else {
        put(&m, ERL_DRV_BUF2BINARY);
        put(&m, (ErlDrvTermData) "");
        put(&m, 0);
    }
    put_atom(&m, c->fin ? "true" : "false");
    put_tuple(&m, 3);
    put_tuple(&m, 3);
    send_to(cp, owner_of(s), &m);
}

void drv_tell_stream_reset(struct drv_conn_port *cp, const struct bp_user_stream *s, uint64_t code)
{
    ErlDrvUInt64 id = drv_stream_number(cp, s);
    ErlDrvUInt64 value = code;
    struct terms m = {.n = 0};

    put_atom(&m, "quic_dist_stream");
    put_ref(&m, cp, &id);
    put_atom(&m, "reset");
    put_uint64(&m, &value);
    put_tuple(&m, 2);
    put_tuple(&m, 3);
    send_to(cp, owner_of(s), &m);
}

void drv_tell_stream_atom(struct drv_conn_port *cp, const struct bp_user_stream *s,
                          const char *event)
{
    ErlDrvUInt64 id = drv_stream_number(cp, s);
    struct terms m = {.n = 0};

    put_atom(&m, "quic_dist_stream");
    put_ref(&m, cp, &id);
    put_atom(&m, event);
    put_tuple(&m, 3);
    send_to(cp, owner_of(s), &m);
}

void drv_tell_stream_opened(struct drv_conn_port *cp, const struct bp_user_stream *s)
{
    ErlDrvUInt64 id = drv_stream_number(cp, s);
    struct terms m = {.n = 0};

    put_atom(&m, "mstream");
    put_ref(&m, cp, &id);
    put_atom(&m, "opened");
    put_node(&m, cp->streams);
    put_tuple(&m, 4);
    send_to(cp, owner_of(s), &m);
}

static void put_port_and_id(struct terms *m, const struct drv_conn_port *cp, const char *tag,
                            const ErlDrvUInt64 *id)
{
    put_atom(m, tag);
    put(m, ERL_DRV_PORT);
    put(m, driver_mk_port(cp->p.port));
    put_uint64(m, id);
}

void drv_tell_stream_room(struct drv_conn_port *cp, const struct bp_user_stream *s)
{
    ErlDrvUInt64 id = drv_stream_number(cp, s);
    struct terms m = {.n = 0};

    put_port_and_id(&m, cp, "$barrel_p2p_room", &id);
    put_tuple(&m, 3);
    send_to(cp, owner_of(s), &m);
}

void drv_tell_stream_watch(struct drv_conn_port *cp, const struct bp_user_stream *s,
                           ErlDrvTermData watcher)
{
    ErlDrvUInt64 id = drv_stream_number(cp, s);
    struct terms m = {.n = 0};

    put_port_and_id(&m, cp, "$barrel_p2p_watch", &id);
    put(&m, ERL_DRV_PID);
    put(&m, owner_of(s));
    put_tuple(&m, 4);
    send_to(cp, watcher, &m);
}

/* --- the list ----------------------------------------------------------------- */

#define LIST_TERMS 14u /* of one stream */

struct listing {
    const struct drv_conn_port *cp;
    ErlDrvTermData *t;
    ErlDrvUInt64 *ids;
    size_t n; /* terms */
    size_t streams;
    size_t cap; /* streams */
};

static void list_one(void *ctx, struct bp_link *l, struct bp_user_stream *s)
{
    struct listing *x = ctx;
    const struct drv_stream *h = s->host;
    ErlDrvTermData *t = x->t + x->n;

    (void)l;
    if (h == NULL || x->streams == x->cap) {
        return;
    }
    x->ids[x->streams] = drv_stream_number(x->cp, s);
    *t++ = ERL_DRV_UINT64;
    *t++ = (ErlDrvTermData)&x->ids[x->streams];
    *t++ = ERL_DRV_PID;
    *t++ = h->owner;
    *t++ = ERL_DRV_UINT;
    *t++ = s->tx.priority;
    *t++ = ERL_DRV_ATOM;
    *t++ = driver_mk_atom((char *)(uintptr_t)(bp_link_user_finished(s) ? "true" : "false"));
    *t++ = ERL_DRV_ATOM;
    *t++ = driver_mk_atom((char *)(uintptr_t)(s->tx.fin ? "true" : "false"));
    *t++ = ERL_DRV_TUPLE;
    *t++ = 5;
    x->n = (size_t)(t - x->t);
    x->streams++;
}

bool drv_tell_stream_list(struct drv_conn_port *cp, ErlDrvTermData to, uint64_t token)
{
    struct listing x = {.cp = cp, .cap = bp_link_user_streams(cp->conn->link)};
    ErlDrvUInt64 value = token;
    bool ok;

    x.t = driver_alloc((ErlDrvSizeT)((x.cap * LIST_TERMS + 16) * sizeof(*x.t)));
    x.ids = driver_alloc((ErlDrvSizeT)((x.cap + 1) * sizeof(*x.ids)));
    ok = x.t != NULL && x.ids != NULL;
    if (ok) {
        x.t[x.n++] = ERL_DRV_ATOM;
        x.t[x.n++] = driver_mk_atom((char *)(uintptr_t) "$barrel_p2p_streams");
        x.t[x.n++] = ERL_DRV_UINT64;
        x.t[x.n++] = (ErlDrvTermData)&value;
        bp_link_user_each(cp->conn->link, list_one, &x);
        x.t[x.n++] = ERL_DRV_NIL;
        x.t[x.n++] = ERL_DRV_LIST;
        x.t[x.n++] = x.streams + 1;
        x.t[x.n++] = ERL_DRV_TUPLE;
        x.t[x.n++] = 3;
        (void)erl_drv_send_term(speaker(cp), to, x.t, (int)x.n);
    }
    drv_free(x.t);
    drv_free(x.ids);
    return ok;
}
