/* SPDX-License-Identifier: Apache-2.0 */
/* User streams of a connection port: who owns them, what the owners are told, how they end. */
#include "driver/streams.h"

#include <string.h>

#define ATOM_EXT_MAGIC  131u /* a term in external format */
#define SMALL_ATOM_UTF8 119u

/* --- life ------------------------------------------------------------------ */

struct drv_streams *drv_streams_get(struct drv_conn_port *cp)
{
    const char *name = bp_link_peer_name(cp->conn->link);
    struct drv_streams *st = cp->streams;
    size_t len = strlen(name);

    if (st != NULL) {
        return st;
    }
    st = bp_mem_zalloc(drv_mem(), 1, sizeof(*st));
    if (st != NULL) {
        st->node[0] = ATOM_EXT_MAGIC;
        st->node[1] = SMALL_ATOM_UTF8;
        st->node[2] = (uint8_t)len;
        memcpy(st->node + 3, name, len);
        st->node_len = len + 3;
        cp->streams = st;
    }
    return st;
}

static uint64_t connection_bits(const struct drv_conn_port *cp)
{
    return (uint64_t)cp->conn->id << STREAM_ID_BITS;
}

uint64_t drv_stream_number(const struct drv_conn_port *cp, const struct bp_user_stream *s)
{
    return connection_bits(cp) | (uint64_t)s->tx.id;
}

struct bp_user_stream *drv_stream_find(const struct drv_conn_port *cp, uint64_t number)
{
    uint64_t id = number & ((UINT64_C(1) << STREAM_ID_BITS) - 1);

    return (number ^ id) == connection_bits(cp) ? bp_link_user_find(cp->conn->link, (int64_t)id)
                                                : NULL;
}

/* A monitor of a process that is the owner of something here. */
static bool watch(const struct drv_conn_port *cp, ErlDrvTermData pid, ErlDrvMonitor *m)
{
    return driver_monitor_process(cp->p.port, pid, m) == 0;
}

static void unwatch(const struct drv_conn_port *cp, const ErlDrvMonitor *m)
{
    if (!cp->p.stopped) { /* a port that closes has none */
        (void)driver_demonitor_process(cp->p.port, m);
    }
}

bool drv_stream_own(struct drv_conn_port *cp, struct bp_user_stream *s, ErlDrvTermData owner,
                    const struct drv_stream_opts *opts)
{
    struct drv_stream *h = bp_mem_zalloc(drv_mem(), 1, sizeof(*h));

    if (h == NULL || !watch(cp, owner, &h->monitor)) {
        drv_free(h);
        return false;
    }
    h->owner = owner;
    h->active = DRV_ACTIVE_AUTO;
    h->left = STREAM_AUTO_EVENTS;
    h->bytes_left = STREAM_AUTO_BYTES;
    if (s->local) {
        s->host = h;
    } else {
        bp_link_user_welcome(cp->conn->link, s, h);
    }
    drv_stream_set(cp, s, opts);
    return true;
}

/* No owner any more: what the link still has of it is the link's. */
static void disown(struct drv_conn_port *cp, struct bp_user_stream *s, bool demonitor)
{
    struct drv_stream *h = s->host;

    if (h->reserved) {
        cp->n_reserved--;
    }
    if (h->full) {
        cp->streams->n_full--;
        if (!h->nonblock) {
            drv_tell_stream_room(cp, s); /* it will see that the stream is gone */
        }
    }
    if (demonitor) {
        unwatch(cp, &h->monitor);
    }
    s->host = NULL;
    drv_free(h);
}

bool drv_stream_hand_over(struct drv_conn_port *cp, struct drv_stream *h, ErlDrvTermData owner)
{
    ErlDrvMonitor m;

    if (!watch(cp, owner, &m)) {
        return false;
    }
    unwatch(cp, &h->monitor);
    h->monitor = m;
    h->owner = owner;
    return true;
}

/* --- how much an owner gets -------------------------------------------------- */

static void set_active(struct drv_conn_port *cp, struct bp_user_stream *s,
                       const struct drv_stream_opts *o)
{
    struct drv_stream *h = s->host;
    int64_t left = o->n;

    if (o->active == DRV_ACTIVE_N && h->active == DRV_ACTIVE_N) {
        left += h->left; /* as inet's {active, N} */
    }
    h->active = o->active;
    switch (o->active) {
    case DRV_ACTIVE_N:
        left = left > 32767 ? 32767 : left;
        h->left = left > 0 ? (int32_t)left : 0;
        if (left <= 0) {
            h->active = DRV_ACTIVE_FALSE;
            drv_tell_stream_atom(cp, s, "passive");
        }
        break;
    case DRV_ACTIVE_AUTO:
        h->left = STREAM_AUTO_EVENTS;
        h->bytes_left = STREAM_AUTO_BYTES;
        break;
    case DRV_ACTIVE_ONCE:
    case DRV_ACTIVE_TRUE:
    case DRV_ACTIVE_FALSE:
    default:
        break;
    }
}

void drv_stream_set(struct drv_conn_port *cp, struct bp_user_stream *s,
                    const struct drv_stream_opts *opts)
{
    struct drv_stream *h = s->host;

    if (opts->has_nonblock) {
        h->nonblock = opts->nonblock;
    }
    if (opts->has_priority) {
        bp_link_user_set_priority(cp->conn->link, s, opts->priority);
    }
    if (opts->has_active) {
        set_active(cp, s, opts);
    }
}

static bool may_tell(const struct drv_stream *h)
{
    switch (h->active) {
    case DRV_ACTIVE_ONCE:
    case DRV_ACTIVE_TRUE:
        return !h->held;
    case DRV_ACTIVE_N:
        return !h->held && h->left > 0;
    case DRV_ACTIVE_AUTO:
        return !h->held && h->left > 0 && h->bytes_left > 0;
    case DRV_ACTIVE_FALSE:
    default:
        return false;
    }
}

/* One event of `len` bytes was told. */
static void told(struct drv_conn_port *cp, struct bp_user_stream *s, size_t len)
{
    struct drv_stream *h = s->host;
    ErlDrvTermData watcher;

    if (h->active == DRV_ACTIVE_ONCE) {
        h->active = DRV_ACTIVE_FALSE;
    } else if (h->active == DRV_ACTIVE_N && --h->left == 0) {
        h->active = DRV_ACTIVE_FALSE;
        drv_tell_stream_atom(cp, s, "passive");
    } else if (h->active == DRV_ACTIVE_AUTO) {
        h->left--;
        h->bytes_left -= (int64_t)len;
        if (h->asked ||
            (h->left > STREAM_AUTO_EVENTS / 2 && h->bytes_left > STREAM_AUTO_BYTES / 2)) {
            return;
        }
        if (drv_stream_watcher(&watcher)) {
            h->asked = true;
            drv_tell_stream_watch(cp, s, watcher);
        } else {
            h->left = STREAM_AUTO_EVENTS;
            h->bytes_left = STREAM_AUTO_BYTES;
        }
    }
}

/* --- events -------------------------------------------------------------------- */

static void tell_data(struct drv_conn_port *cp, struct bp_user_stream *s,
                      const struct bp_user_chunk *c)
{
    drv_tell_stream_data(cp, s, c);
    if (c->bin != NULL) {
        driver_free_binary(c->bin);
    }
}

static void tell_end(struct drv_conn_port *cp, struct bp_user_stream *s, bool reset, uint64_t code)
{
    if (reset) {
        drv_tell_stream_reset(cp, s, code);
    }
    drv_tell_stream_atom(cp, s, "closed");
}

void drv_stream_look(struct drv_conn_port *cp, struct bp_user_stream *s)
{
    struct bp_link *l = cp->conn->link;
    struct drv_stream *h = s->host;
    struct bp_user_chunk c;

    while (may_tell(h) && bp_link_user_take(l, s, &c)) {
        tell_data(cp, s, &c);
        told(cp, s, c.len);
    }
    if (s->cut && !h->held) {
        uint64_t code = s->cut_code;
        tell_end(cp, s, true, code);
        disown(cp, s, true);
        bp_link_user_reset(l, s, code);
    } else if (bp_link_user_done(s) && !h->held) {
        tell_end(cp, s, s->stopped, s->stop_code);
        disown(cp, s, true);
        bp_link_user_release(l, s);
    }
}

void drv_stream_reset(struct drv_conn_port *cp, struct bp_user_stream *s, uint64_t code)
{
    tell_end(cp, s, true, code);
    disown(cp, s, true);
    bp_link_user_reset(cp->conn->link, s, code);
}

/* --- streams of the peer --------------------------------------------------------- */

static bool give_tagged(struct drv_conn_port *cp, struct bp_user_stream *s, ErlDrvTermData owner,
                        size_t preamble)
{
    static const struct drv_stream_opts defaults = {.has_active = false};

    if (!drv_stream_own(cp, s, owner, &defaults)) {
        return false;
    }
    drv_tell_stream_opened(cp, s);
    bp_link_user_skip(cp->conn->link, s, preamble);
    return true;
}

/* To the connection's own acceptors, one after the other. */
static bool give_untagged(struct drv_conn_port *cp, struct bp_user_stream *s)
{
    struct drv_streams *st = cp->streams;

    for (unsigned i = 0; i < st->n_acceptors; i++) {
        const struct drv_acceptor *a = &st->acceptors[st->turn++ % st->n_acceptors];
        if (drv_stream_own(cp, s, a->pid, &a->opts)) {
            return true;
        }
    }
    return false;
}

/* A stream of the peer that nobody has yet: true if somebody has now. */
static bool place(struct drv_conn_port *cp, struct bp_user_stream *s)
{
    struct bp_link *l = cp->conn->link;
    uint8_t head[BP_TAG_PREAMBLE_MAX];
    size_t n = bp_link_user_peek(s, head, sizeof(head));
    ErlDrvTermData owner;
    size_t preamble;

    if (s->cut) {
        bp_link_user_reset(l, s, s->cut_code);
        return false;
    }
    if (drv_streams_get(cp) != NULL) {
        enum bp_tag_match m = drv_tag_match(head, n, &owner, &preamble);

        if (m == BP_TAG_FOUND && give_tagged(cp, s, owner, preamble)) {
            return true;
        }
        if (m == BP_TAG_MORE && !s->expired && !bp_link_user_finished(s) &&
            bp_link_user_park(l, s, drv_now() + cp->conn->settings->preamble_timeout)) {
            return false;
        }
        if (give_untagged(cp, s)) {
            return true;
        }
    }
    bp_link_user_refuse(l, s);
    return false;
}

void drv_streams_deliver(struct drv_conn_port *cp)
{
    struct bp_user_stream *s;

    while (!cp->p.stopped && (s = bp_link_user_next(cp->conn->link)) != NULL) {
        if (s->host != NULL || place(cp, s)) {
            drv_stream_look(cp, s);
        }
    }
}

/* --- room for more ------------------------------------------------------------------ */

bool drv_stream_room(struct drv_conn_port *cp, struct bp_user_stream *s)
{
    struct drv_stream *h = s->host;

    if (!h->full && bp_link_user_queued(s) >= STREAM_HIGH_WATER) {
        h->full = true;
        cp->streams->n_full++;
    }
    return !h->full; /* once full, it is so until the owner was told of room */
}

static void tell_room(void *ctx, struct bp_link *l, struct bp_user_stream *s)
{
    struct drv_conn_port *cp = ctx;
    struct drv_stream *h = s->host;

    (void)l;
    if (h == NULL || !h->full || bp_link_user_queued(s) > STREAM_LOW_WATER) {
        return;
    }
    h->full = false;
    cp->streams->n_full--;
    if (h->nonblock) {
        drv_tell_stream_atom(cp, s, "writable");
    } else {
        drv_tell_stream_room(cp, s);
    }
}

void drv_streams_flushed(struct drv_conn_port *cp)
{
    if (cp->streams->n_full > 0) {
        bp_link_user_each(cp->conn->link, tell_room, cp);
    }
}

/* --- ends --------------------------------------------------------------------------- */

struct gone {
    struct drv_conn_port *cp;
    const ErlDrvMonitor *monitor;
};

static void owner_gone(void *ctx, struct bp_link *l, struct bp_user_stream *s)
{
    struct gone *g = ctx;
    struct drv_stream *h = s->host;

    if (h != NULL && driver_compare_monitors(&h->monitor, g->monitor) == 0) {
        disown(g->cp, s, false);
        bp_link_user_orphan(l, s);
    }
}

void drv_streams_process_exit(struct drv_conn_port *cp, ErlDrvMonitor *monitor)
{
    struct drv_streams *st = cp->streams;
    struct gone g = {.cp = cp, .monitor = monitor};

    for (unsigned i = 0; st != NULL && i < st->n_acceptors; i++) {
        if (driver_compare_monitors(&st->acceptors[i].monitor, monitor) == 0) {
            st->acceptors[i] = st->acceptors[--st->n_acceptors];
            return;
        }
    }
    if (st != NULL && cp->conn != NULL) {
        bp_link_user_each(cp->conn->link, owner_gone, &g);
        drv_conn_port_push(cp, drv_now());
    }
}

/* What has come is told, whatever the owner wanted: it is lost otherwise. */
static void lost(void *ctx, struct bp_link *l, struct bp_user_stream *s)
{
    struct drv_conn_port *cp = ctx;
    struct bp_user_chunk c;

    if (s->host == NULL) {
        bp_link_user_release(l, s);
        return;
    }
    while (bp_link_user_take(l, s, &c)) {
        tell_data(cp, s, &c);
    }
    if (s->cut) {
        tell_end(cp, s, true, s->cut_code);
    } else if (bp_link_user_done(s)) {
        tell_end(cp, s, s->stopped, s->stop_code);
    } else {
        tell_end(cp, s, true, BP_USER_LOST);
    }
    disown(cp, s, true);
    bp_link_user_release(l, s);
}

void drv_streams_end(struct drv_conn_port *cp)
{
    struct drv_streams *st = cp->streams;

    if (st == NULL) {
        return;
    }
    bp_link_user_each(cp->conn->link, lost, cp);
    for (unsigned i = 0; i < st->n_acceptors; i++) {
        unwatch(cp, &st->acceptors[i].monitor);
    }
    drv_free(st->acceptors);
    drv_free(st);
    cp->streams = NULL;
}
