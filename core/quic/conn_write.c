/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes into the next datagrams: urgent streams first (auth, dist control with its ticks),
 * then data in the order in which it was queued among all streams, skipping blocked streams; then
 * user streams (conn_user.c).
 */
#include "quic/conn_impl.h"

#include <string.h>

#define VECS           32u
#define RUNS_FIRST_CAP 64u
/* Below this round-trip time the timer is coarser than the pace (DESIGN 5). */
#define PACING_MIN_RTT (2 * BP_MS)

/*
 * ngtcp2 counts what was sent since it last was asked for the pace, and nothing takes back what was
 * counted: who begins to pace after a while without must wait for all that went out meanwhile,
 * seconds on a fast path. So a connection that once went without pacing stays without it. Before
 * the round trip is known there is no pace either: the initial window is small (RFC 9002, 7.2), and
 * half a handshake that waits for a timer of a millisecond takes twice as long.
 */
static bool paced(struct bp_conn *c, const ngtcp2_conn_info *info)
{
    c->unpaced = c->unpaced || info->min_rtt < PACING_MIN_RTT;
    return !c->unpaced && info->min_rtt != UINT64_MAX;
}

/* Of the connection's window: ticks pass while the peer takes no data (256 of them). */
#define URGENT_CREDIT 1024u

/*
 * Data under way on a short path: what fits a path of 32 Gbit/s, at least this. On the same machine
 * or rack the congestion window grows until the peer's socket buffer overflows; up to there all of
 * it is queue, which every message waits in, and then come losses.
 */
#define FLIGHT_MIN    (512u * 1024u)
#define FLIGHT_PER_US 4096u

/* User streams fill part of it: a message that comes meanwhile waits less. */
#define USER_SHARE(flight) ((flight) / 4 * 3)

static uint64_t flight_limit(const ngtcp2_conn_info *info)
{
    uint64_t us = info->min_rtt == UINT64_MAX ? UINT32_MAX : info->min_rtt / 1000;

    return us * FLIGHT_PER_US > FLIGHT_MIN ? us * FLIGHT_PER_US : FLIGHT_MIN;
}

/* How much of the connection's window a stream may use. */
static uint64_t window_for(const struct bp_conn *c, const struct bp_stream *s)
{
    uint64_t left = ngtcp2_conn_get_max_data_left(c->q);

    if (s->urgent) {
        return left;
    }
    return left > URGENT_CREDIT ? left - URGENT_CREDIT : 0;
}

/* --- streams ------------------------------------------------------------- */

int bp_conn_slot_of(const struct bp_conn *c, int64_t id)
{
    for (unsigned i = 0; i < c->n_streams; i++) {
        if (c->streams[i].used && c->streams[i].id == id) {
            return (int)i;
        }
    }
    return -1;
}

static int add_stream(struct bp_conn *c, int64_t id)
{
    struct bp_stream *s;

    if (c->n_streams == BP_STREAMS_MAX) {
        return BP_E_LIMIT;
    }
    s = &c->streams[c->n_streams];
    *s = (struct bp_stream){.id = id, .used = true};
    bp_sendq_init(&s->q);
    return (int)c->n_streams++;
}

static int opened(struct bp_conn *c, int rc, int64_t id, int64_t *out)
{
    if (rc == NGTCP2_ERR_STREAM_ID_BLOCKED) {
        return BP_E_AGAIN;
    }
    if (rc != 0) {
        return rc == NGTCP2_ERR_NOMEM ? BP_E_NOMEM : BP_E_STATE;
    }
    *out = id;
    return add_stream(c, id);
}

int bp_conn_open_uni(struct bp_conn *c, int64_t *id)
{
    int64_t sid = -1;
    int rc;

    if (c->n_streams == BP_STREAMS_MAX) {
        return BP_E_LIMIT;
    }
    rc = ngtcp2_conn_open_uni_stream(c->q, &sid, NULL);
    return opened(c, rc, sid, id);
}

int bp_conn_open_bidi(struct bp_conn *c, int64_t *id)
{
    int64_t sid = -1;
    int rc;

    if (c->n_streams == BP_STREAMS_MAX) {
        return BP_E_LIMIT;
    }
    rc = ngtcp2_conn_open_bidi_stream(c->q, &sid, NULL);
    return opened(c, rc, sid, id);
}

uint64_t bp_conn_bidi_left(const struct bp_conn *c)
{
    return ngtcp2_conn_get_streams_bidi_left(c->q);
}

int bp_conn_adopt(struct bp_conn *c, int64_t id)
{
    int slot = bp_conn_slot_of(c, id);

    return slot >= 0 ? slot : add_stream(c, id);
}

void bp_conn_set_urgent(struct bp_conn *c, unsigned slot)
{
    c->streams[slot].urgent = true;
    c->urgent |= 1u << slot;
}

uint64_t bp_conn_queued(const struct bp_conn *c, unsigned slot)
{
    return c->streams[slot].q.end;
}

uint64_t bp_conn_acked(const struct bp_conn *c, unsigned slot)
{
    return c->streams[slot].q.acked;
}

uint64_t bp_conn_unsent(const struct bp_conn *c)
{
    return c->unsent;
}

void bp_conn_credit(struct bp_conn *c, int64_t id, size_t len)
{
    /* Fails only for an id that is no stream of this connection: nothing to give back then. */
    if (ngtcp2_conn_extend_max_stream_offset(c->q, id, len) == 0) {
        ngtcp2_conn_extend_max_offset(c->q, len);
    }
}

void bp_conn_refuse_stream(struct bp_conn *c, int64_t id, uint64_t code)
{
    (void)ngtcp2_conn_shutdown_stream(c->q, 0, id, code);
}

/* --- the run queue ------------------------------------------------------- */

static struct bp_run *run_at(const struct bp_conn *c, uint32_t i)
{
    return &c->runs[i & (c->runs_cap - 1)];
}

static int reserve_run(struct bp_conn *c)
{
    uint32_t used = c->runs_tail - c->runs_head;
    uint32_t cap = c->runs_cap != 0 ? c->runs_cap * 2 : RUNS_FIRST_CAP;
    struct bp_run *runs;

    if (used < c->runs_cap) {
        return 0;
    }
    if (cap > UINT32_MAX / 4) {
        return BP_E_NOMEM;
    }
    runs = c->mem->alloc(c->mem->ctx, cap * sizeof(*runs));
    if (runs == NULL) {
        return BP_E_NOMEM;
    }
    for (uint32_t i = 0; i < used; i++) {
        runs[i] = *run_at(c, c->runs_head + i);
    }
    c->mem->release(c->mem->ctx, c->runs);
    c->runs_scan -= c->runs_head;
    c->runs_head = 0;
    c->runs_tail = used;
    c->runs = runs;
    c->runs_cap = cap;
    return 0;
}

/* Notes that `len` bytes were queued on `slot`; room was reserved. */
static void add_run(struct bp_conn *c, unsigned slot, size_t len)
{
    struct bp_stream *s = &c->streams[slot];

    c->unsent += len;
    if (s->urgent) {
        return;
    }
    if (c->runs_tail != c->runs_head && run_at(c, c->runs_tail - 1)->slot == slot) {
        run_at(c, c->runs_tail - 1)->bytes += len;
        return;
    }
    *run_at(c, c->runs_tail++) = (struct bp_run){.slot = slot, .bytes = len};
}

static int put_check(struct bp_conn *c, unsigned slot)
{
    if (c->err != 0 || slot >= c->n_streams || c->streams[slot].shut || c->streams[slot].fin) {
        return BP_E_STATE;
    }
    return reserve_run(c);
}

int bp_conn_put_copy(struct bp_conn *c, unsigned slot, const void *p, size_t len)
{
    int rc = put_check(c, slot);

    if (rc == 0) {
        rc = bp_sendq_put_copy(&c->streams[slot].q, &c->pool, p, len);
    }
    if (rc == 0) {
        add_run(c, slot, len);
    }
    return rc;
}

int bp_conn_put_owned(struct bp_conn *c, unsigned slot, const uint8_t *p, size_t len, void *owner)
{
    int rc = put_check(c, slot);

    if (rc == 0) {
        rc = bp_sendq_put_owned(&c->streams[slot].q, c->mem, p, len, owner);
    }
    if (rc == 0) {
        add_run(c, slot, len);
    }
    return rc;
}

int bp_conn_fin(struct bp_conn *c, unsigned slot)
{
    if (slot >= c->n_streams || c->streams[slot].shut) {
        return BP_E_STATE;
    }
    c->streams[slot].fin = true;
    return 0;
}

void bp_conn_unblock(struct bp_conn *c, struct bp_stream *s)
{
    if (s->blocked) {
        s->blocked = false;
        c->runs_scan = c->runs_head;
    }
}

static bool has_unsent(const struct bp_stream *s)
{
    return !s->shut && (s->q.sent < s->q.end || (s->fin && !s->fin_sent));
}

/* Which stream is next, -1 if none can be written. */
static int next_slot(struct bp_conn *c)
{
    for (uint32_t left = c->urgent; left != 0; left &= left - 1) {
        int i = __builtin_ctz(left);
        const struct bp_stream *s = &c->streams[i];
        if (!s->blocked && has_unsent(s)) {
            return i;
        }
    }
    for (; !c->flight_full && c->runs_scan != c->runs_tail; c->runs_scan++) {
        struct bp_run *r = run_at(c, c->runs_scan);
        struct bp_stream *s = &c->streams[r->slot];
        uint64_t early = s->ahead < r->bytes ? s->ahead : r->bytes;

        r->bytes -= early;
        s->ahead -= early;
        if (s->shut) {
            r->bytes = 0;
        }
        if (r->bytes == 0) {
            if (c->runs_scan == c->runs_head) {
                c->runs_head++;
            }
            continue;
        }
        if (!s->blocked) {
            return (int)r->slot;
        }
    }
    return -1;
}

/* QUIC took `len` bytes of `slot`. A packet may take more than the stream's turn: the surplus is
 * taken off its later turns. */
static void took(struct bp_conn *c, int slot, size_t len)
{
    struct bp_stream *s = &c->streams[slot];

    if (s->q.acked == s->q.sent) {
        s->progress = c->now;
    }
    bp_sendq_sent(&s->q, len);
    c->unsent -= len;
    if (!s->urgent) {
        s->ahead += len;
    }
}

/* --- datagrams ----------------------------------------------------------- */

/* Mostly it is the same bytes: this is asked for every packet. */
static bool same_addr(const struct bp_addr *a, const ngtcp2_addr *b)
{
    struct bp_addr other;

    if (a->len == b->addrlen && memcmp(&a->u, b->addr, a->len) == 0) {
        return a->len != 0;
    }
    return bp_addr_from_sockaddr(&other, b->addr, b->addrlen) && bp_addr_equal(a, &other);
}

/* Adds a datagram of `n` bytes at `off` to the runs. What is larger than `mtu` is a path MTU probe
 * and a run of its own: where the device does not take it, the kernel refuses all that is in its
 * run, an acknowledgement for one, which nobody would send again. */
static void add_datagram(struct bp_tx_run *runs, unsigned *n_runs, const ngtcp2_path *path,
                         size_t off, size_t n, size_t mtu)
{
    struct bp_tx_run *r = *n_runs > 0 ? &runs[*n_runs - 1] : NULL;

    if (r != NULL && r->off + r->len == off && n <= r->seg && r->seg <= mtu &&
        r->len % r->seg == 0 && r->len + n <= BP_TX_RUN_MAX && r->len / r->seg < BP_TX_SEGS_MAX &&
        same_addr(&r->remote, &path->remote) && same_addr(&r->local, &path->local)) {
        r->len += n;
        return;
    }
    r = &runs[(*n_runs)++];
    *r = (struct bp_tx_run){.off = off, .len = n, .seg = n};
    (void)bp_addr_from_sockaddr(&r->local, path->local.addr, path->local.addrlen);
    (void)bp_addr_from_sockaddr(&r->remote, path->remote.addr, path->remote.addrlen);
}

/* The peer asked us to stop, which ngtcp2 tells only now; what was queued will never arrive. */
static int stopped(struct bp_conn *c, struct bp_stream *s)
{
    /* After our own end of the stream everything was queued that ever will be. */
    int rc = s->fin_sent ? 0 : c->ops->stream_reset(c->user, s->id, 0);

    s->shut = true;
    c->unsent -= s->q.end - s->q.sent;
    if (rc == 0) {
        return 0;
    }
    c->cb_err = c->cb_err != 0 ? c->cb_err : rc;
    return NGTCP2_ERR_CALLBACK_FAILURE;
}

/* Where bytes for a packet come from: a stream of distribution or a user stream. */
struct source {
    struct bp_stream *s; /* or NULL */
    int slot;            /* of it */
    struct bp_user_tx *t;
    const struct bp_sendq *q;
    int64_t id;
    bool fin;
    uint64_t window; /* of the connection's */
};

/* False: nothing can be written. */
static bool next_source(struct bp_conn *c, struct source *src)
{
    src->slot = c->handshake_done || c->early_ready ? next_slot(c) : -1;
    src->t = NULL;
    if (src->slot >= 0) {
        src->s = &c->streams[src->slot];
        src->q = &src->s->q;
        src->id = src->s->id;
        src->fin = src->s->fin;
        src->window = window_for(c, src->s);
        return true;
    }
    src->s = NULL;
    src->t = bp_conn_user_next(c);
    if (src->t == NULL) {
        return false;
    }
    src->q = &src->t->q;
    src->id = src->t->id;
    src->fin = src->t->fin;
    src->window = bp_conn_user_window(c);
    return true;
}

/* The peer's window for this stream is used up, or it wants no more (ngtcp2's `code`). */
static int refused(struct bp_conn *c, const struct source *src, int code)
{
    if (code == NGTCP2_ERR_STREAM_DATA_BLOCKED) {
        if (src->s != NULL) {
            src->s->blocked = true;
        } else {
            bp_conn_user_blocked(c, src->t);
        }
        return 0;
    }
    if (src->s != NULL) {
        return stopped(c, src->s);
    }
    bp_conn_user_stopped(c, src->t);
    return 0;
}

/*
 * One packet into `buf`: asks for streams until it is full. Returns its length, 0 if nothing can
 * be sent now, negative (ngtcp2's code) on failure.
 */
static ngtcp2_ssize write_packet(struct bp_conn *c, ngtcp2_path *path, uint8_t *buf, size_t cap,
                                 bp_time now)
{
    ngtcp2_pkt_info pi;

    for (;;) {
        struct source src;
        bool some = next_source(c, &src);
        struct bp_vec vec[VECS];
        ngtcp2_vec qvec[VECS];
        size_t n_vec = 0;
        size_t offered = 0;
        uint32_t flags = NGTCP2_WRITE_STREAM_FLAG_NONE;
        ngtcp2_ssize taken = -1;
        ngtcp2_ssize n;

        if (some) {
            if (src.window == 0 && src.q->sent < src.q->end) {
                /* retry_blocked() looks again before each batch */
                (void)refused(c, &src, NGTCP2_ERR_STREAM_DATA_BLOCKED);
                continue;
            }
            n_vec = bp_sendq_peek(src.q, src.window < cap ? (size_t)src.window : cap, vec, VECS);
            for (size_t i = 0; i < n_vec; i++) {
                /* ngtcp2's vector has no const, but it only reads. */
                qvec[i] =
                    (ngtcp2_vec){.base = (uint8_t *)(uintptr_t)vec[i].base, .len = vec[i].len};
                offered += vec[i].len;
            }
            if (!c->settled || offered < c->unsent + c->user_unsent) {
                flags |= NGTCP2_WRITE_STREAM_FLAG_MORE; /* there is more for this packet */
            }
            if (src.fin && src.q->sent + offered == src.q->end) {
                flags |= NGTCP2_WRITE_STREAM_FLAG_FIN;
            }
        }
        n = ngtcp2_conn_writev_stream(c->q, path, &pi, buf, cap, &taken, flags, some ? src.id : -1,
                                      qvec, n_vec, now);
        if (some && taken >= 0 && (n >= 0 || n == NGTCP2_ERR_WRITE_MORE)) {
            bool fin = (flags & NGTCP2_WRITE_STREAM_FLAG_FIN) != 0 && (size_t)taken == offered;
            if (src.s != NULL) {
                took(c, src.slot, (size_t)taken);
                src.s->fin_sent = src.s->fin_sent || fin;
            } else {
                bp_conn_user_took(c, src.t, (size_t)taken, fin);
            }
        }
        switch (n) {
        case NGTCP2_ERR_WRITE_MORE:
            continue;
        case NGTCP2_ERR_STREAM_DATA_BLOCKED:
        case NGTCP2_ERR_STREAM_SHUT_WR:
        case NGTCP2_ERR_STREAM_NOT_FOUND:
            n = refused(c, &src, (int)n);
            if (n != 0) {
                return n;
            }
            continue;
        default:
            if (some && src.s == NULL) {
                bp_conn_user_turn(c);
            }
            return n;
        }
    }
}

/* The connection's window may have opened since the last batch. */
static void retry_blocked(struct bp_conn *c)
{
    for (unsigned i = 0; i < c->n_streams; i++) {
        struct bp_stream *s = &c->streams[i];
        if (s->blocked && window_for(c, s) > 0 &&
            ngtcp2_conn_get_max_stream_data_left(c->q, s->id) > 0) {
            bp_conn_unblock(c, s);
        }
    }
}

/* More than that is acknowledged at once: its sender may wait for the window. */
#define ACK_AT_ONCE (32u * 1024u)

bool bp_conn_only_acks(const struct bp_conn *c)
{
    ngtcp2_conn_info info;

    if (c->err != 0 || c->unsent > 0 || c->user_head != NULL || c->probe ||
        c->read_since_write >= ACK_AT_ONCE) {
        return false;
    }
    if (!c->settled) {
        /* Each word of authentication and of the distribution handshake has an answer. */
        return c->tls_written && bp_conn_peer_is_ours(c);
    }
    ngtcp2_conn_get_conn_info(c->q, &info);
    return info.bytes_in_flight == 0; /* else something may have to be sent again */
}

bool bp_conn_batch_full(const struct bp_conn *c)
{
    return c->batch_full;
}

/* A call of bp_conn_write has made these packets, which may be none. */
static void written(struct bp_conn *c, const ngtcp2_conn_info *info, size_t n_packets, size_t bytes,
                    bp_time now)
{
    c->tls_written = c->handshake_done;
    if (c->probe) {
        c->probe = false;
        ngtcp2_conn_set_keep_alive_timeout(c->q, c->keepalive != 0 ? c->keepalive : UINT64_MAX);
    }
    if (n_packets > 0) {
        c->packets_sent += n_packets;
        c->bytes_sent += bytes;
        if (paced(c, info)) {
            ngtcp2_conn_update_pkt_tx_time(c->q, now);
        }
    }
    if (c->unsent == 0 && c->user_unsent == 0) {
        bp_block_pool_trim(&c->pool);
    }
}

int bp_conn_write(struct bp_conn *c, uint8_t *buf, size_t cap, struct bp_tx_run *runs,
                  unsigned *n_runs, bp_time now)
{
    ngtcp2_path_storage ps;
    ngtcp2_conn_info info;
    size_t used = 0;
    size_t n_packets = 0;
    size_t last = 0;
    size_t limit;
    size_t mtu;
    uint64_t max_flight;

    *n_runs = 0;
    c->batch_full = false;
    if (c->err != 0) {
        return c->err;
    }
    now = bp_conn_clock(c, now);
    c->read_since_write = 0;
    bp_conn_late(c, now);
    limit = bp_conn_datagram_limit(c, now);
    mtu = ngtcp2_conn_get_path_max_tx_udp_payload_size(c->q);
    retry_blocked(c);
    if (c->probe && c->handshake_done) {
        /* ngtcp2 has no "send a PING now": a keep-alive that is due while packets are written is
         * one. */
        ngtcp2_conn_set_keep_alive_timeout(c->q, 1);
    }
    ngtcp2_conn_get_conn_info(c->q, &info);
    max_flight = flight_limit(&info);
    if (paced(c, &info) && cap > BP_TX_RUN_MAX + BP_DGRAM_SENT) {
        cap = BP_TX_RUN_MAX + BP_DGRAM_SENT; /* the queue on the way is not ours alone */
    }
    ngtcp2_path_storage_zero(&ps); /* each packet fills in all of it */
    /* Whole GSO batches: the room for a path MTU probe of any size is not for data. Keep a run free
     * for a change of path. */
    for (;;) {
        uint64_t before = c->unsent;
        ngtcp2_ssize n;

        c->batch_full = used + last > cap - BP_DGRAM_SENT || *n_runs == BP_TX_RUNS;
        if (c->batch_full) {
            break;
        }
        c->flight_full = info.bytes_in_flight + used >= max_flight;
        c->user_full = info.bytes_in_flight + used >= USER_SHARE(max_flight);
        n = write_packet(c, &ps.path, buf + used, limit, now);
        if (n < 0) {
            return bp_conn_fail(c, (int)n);
        }
        if (n == 0) {
            break;
        }
        c->mtu_unanswered = c->mtu_unanswered || (size_t)n > mtu;
        add_datagram(runs, n_runs, &ps.path, used, (size_t)n, mtu);
        last = (size_t)n;
        used += last;
        n_packets++;
        /* ngtcp2 takes data last: nothing else was left out of this packet, and nothing that is
         * under way has to be sent again. Asking it would cost a third of what the packet does. */
        if (c->settled && info.bytes_in_flight == 0 && before > 0 && c->unsent == 0 &&
            c->user_head == NULL) {
            break;
        }
    }
    written(c, &info, n_packets, used, now);
    return 0;
}
