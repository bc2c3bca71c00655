/* SPDX-License-Identifier: Apache-2.0 */
/* User streams: table, received bytes, life. */
#include "dist/link_user.h"

#include "dist/link_impl.h"

#include <string.h>

#define BUCKETS     64u
#define PIECE_FIRST 2048u
#define PIECE_MAX   (256u * 1024u)

/* Received bytes that the host has not taken. */
struct bp_user_piece {
    struct bp_user_piece *next;
    void *bin;
    uint8_t *data;
    size_t off; /* bytes before it were skipped */
    size_t len;
    size_t cap;
};

struct bp_link_users {
    struct bp_user_stream *buckets[BUCKETS];
    struct bp_user_stream *told_head;
    struct bp_user_stream **told_tail;
    unsigned n;        /* in the buckets */
    unsigned n_parked; /* of them */
    bp_time wake;      /* the earliest end of a parked one, or earlier */
    bool reserved;     /* the ids of distribution are taken */
    struct bp_user_stats stats;
};

static struct bp_link_users *users(struct bp_link *l)
{
    if (l->users == NULL) {
        l->users = bp_mem_zalloc(l->mem, 1, sizeof(*l->users));
        if (l->users != NULL) {
            l->users->told_tail = &l->users->told_head;
            l->users->wake = BP_TIME_NEVER;
        }
    }
    return l->users;
}

static unsigned bucket(int64_t id)
{
    return (unsigned)(((uint64_t)id >> 2) ^ ((uint64_t)id << 5)) % BUCKETS;
}

/* --- received bytes ------------------------------------------------------- */

static void drop_pieces(struct bp_link *l, struct bp_user_stream *s)
{
    while (s->head != NULL) {
        struct bp_user_piece *p = s->head;
        s->head = p->next;
        l->rx.release(l->rx.ctx, p->bin);
        l->mem->release(l->mem->ctx, p);
    }
    s->tail = NULL;
    l->users->stats.unread_bytes -= s->unread;
    s->unread = 0;
}

/* Room in the last piece, growing it while it is not large. */
static size_t room_in_tail(struct bp_link *l, struct bp_user_piece *p, size_t want)
{
    size_t cap;
    void *bin;

    if (p == NULL) {
        return 0;
    }
    if (p->cap == p->len && p->cap < PIECE_MAX) {
        cap = p->cap * 2 > p->len + want ? p->cap * 2 : p->len + want;
        cap = cap < PIECE_MAX ? cap : PIECE_MAX;
        bin = l->rx.grow(l->rx.ctx, p->bin, cap, &p->data);
        if (bin == NULL) {
            return 0;
        }
        p->bin = bin;
        p->cap = cap;
    }
    return p->cap - p->len;
}

static struct bp_user_piece *new_piece(struct bp_link *l, struct bp_user_stream *s, size_t want)
{
    struct bp_user_piece *p = bp_mem_zalloc(l->mem, 1, sizeof(*p));
    size_t cap = want > s->hint ? want : s->hint;

    if (p == NULL) {
        return NULL;
    }
    p->cap = cap < PIECE_MAX ? cap : PIECE_MAX;
    p->bin = l->rx.alloc(l->rx.ctx, p->cap, &p->data);
    if (p->bin == NULL) {
        l->mem->release(l->mem->ctx, p);
        return NULL;
    }
    if (s->tail != NULL) {
        s->tail->next = p;
    } else {
        s->head = p;
    }
    s->tail = p;
    return p;
}

static int append(struct bp_link *l, struct bp_user_stream *s, const uint8_t *data, size_t len)
{
    while (len > 0) {
        struct bp_user_piece *p = s->tail;
        size_t room = room_in_tail(l, p, len);
        size_t n;

        if (room == 0) {
            p = new_piece(l, s, len);
            if (p == NULL) {
                return BP_E_NOMEM;
            }
            room = p->cap;
        }
        n = len < room ? len : room;
        memcpy(p->data + p->len, data, n);
        p->len += n;
        s->unread += n;
        l->users->stats.unread_bytes += n;
        data += n;
        len -= n;
    }
    return 0;
}

/* --- the table ------------------------------------------------------------ */

static void tell(struct bp_link *l, struct bp_user_stream *s)
{
    if (!s->told && !s->released) {
        s->told = true;
        s->told_next = NULL;
        *l->users->told_tail = s;
        l->users->told_tail = &s->told_next;
    }
}

static void untell(struct bp_link *l, struct bp_user_stream *s)
{
    struct bp_user_stream **at = &l->users->told_head;

    while (s->told && *at != NULL) {
        if (*at == s) {
            *at = s->told_next;
            if (*at == NULL) {
                l->users->told_tail = at;
            }
            break;
        }
        at = &(*at)->told_next;
    }
    s->told = false;
}

static void unpark(struct bp_link *l, struct bp_user_stream *s)
{
    if (s->parked_until != 0) {
        s->parked_until = 0;
        l->users->n_parked--;
    }
}

static void add(struct bp_link *l, struct bp_user_stream *s)
{
    struct bp_user_stream **at = &l->users->buckets[bucket(s->tx.id)];

    s->bucket_next = *at;
    *at = s;
    l->users->n++;
    l->used_at = l->now;
}

/* The peer may open another one for one of its own that is gone. */
static void free_stream(struct bp_link *l, struct bp_user_stream *s)
{
    struct bp_user_stream **at = &l->users->buckets[bucket(s->tx.id)];

    while (*at != s) {
        at = &(*at)->bucket_next;
    }
    *at = s->bucket_next;
    l->users->n--;
    l->used_at = l->now;
    if (!s->local) {
        bp_conn_allow_stream(l->conn);
    }
    l->mem->release(l->mem->ctx, s);
}

struct bp_user_stream *bp_link_user_find(const struct bp_link *l, int64_t id)
{
    struct bp_user_stream *s = l->users != NULL ? l->users->buckets[bucket(id)] : NULL;

    while (s != NULL && (s->tx.id != id || s->released)) {
        s = s->bucket_next;
    }
    return s;
}

void bp_link_user_each(struct bp_link *l,
                       void (*fn)(void *ctx, struct bp_link *l, struct bp_user_stream *s),
                       void *ctx)
{
    for (unsigned i = 0; l->users != NULL && i < BUCKETS; i++) {
        struct bp_user_stream *s = l->users->buckets[i];
        while (s != NULL) {
            struct bp_user_stream *next = s->bucket_next;
            if (!s->released) {
                fn(ctx, l, s);
            }
            s = next;
        }
    }
}

/* Before the connection is deleted. */
void bp_link_user_del(struct bp_link *l)
{
    for (unsigned i = 0; l->users != NULL && i < BUCKETS; i++) {
        while (l->users->buckets[i] != NULL) {
            struct bp_user_stream *s = l->users->buckets[i];
            l->users->buckets[i] = s->bucket_next;
            drop_pieces(l, s);
            bp_conn_user_drop(l->conn, &s->tx);
            l->mem->release(l->mem->ctx, s);
        }
    }
    l->mem->release(l->mem->ctx, l->users);
    l->users = NULL;
}

/* --- from the connection's callbacks ---------------------------------------- */

int bp_link_user_unwanted(struct bp_link *l)
{
    l->stats.user_streams_refused++;
    return bp_rate_take(&l->user_stream_rate, 1, BP_USER_STREAMS_BURST, BP_USER_STREAM_PERIOD,
                        l->now)
               ? 0
               : bp_link_flood(l, "user streams");
}

int bp_link_user_begun(struct bp_link *l, int64_t id, const uint8_t *p, size_t len, bool fin)
{
    struct bp_user_stream *s = NULL;

    if (l->accepts_user_streams && users(l) != NULL) {
        s = bp_mem_zalloc(l->mem, 1, sizeof(*s));
    }
    if (s == NULL || bp_conn_user_adopt(l->conn, &s->tx, id, BP_USER_PRIORITY_DEFAULT) != 0) {
        l->mem->release(l->mem->ctx, s);
        bp_conn_credit(l->conn, id, len);
        bp_conn_refuse_stream(l->conn, id, BP_USER_REFUSED);
        return bp_link_user_unwanted(l);
    }
    s->hint = PIECE_FIRST;
    add(l, s);
    return bp_link_user_data(l, &s->tx, p, len, fin);
}

int bp_link_user_data(void *user, struct bp_user_tx *t, const uint8_t *p, size_t len, bool fin)
{
    struct bp_link *l = user;
    struct bp_user_stream *s = (struct bp_user_stream *)t;

    if (l->phase == BP_LINK_FAILED) {
        return 0;
    }
    if (l->delivering) {
        bp_conn_credit_connection(l->conn, len);
    } else {
        l->uncredited_user += len;
    }
    if (s->released || s->cut) {
        return 0;
    }
    s->bytes_in += len;
    l->users->stats.bytes_in += len;
    if (l->users->stats.unread_bytes + len > l->user_unread_max || append(l, s, p, len) != 0) {
        /* What has come is of no use without the rest. */
        s->cut = true;
        s->cut_code = BP_USER_TOO_MUCH;
        l->users->stats.too_much++;
    }
    s->fin = s->fin || fin;
    tell(l, s);
    return 0;
}

int bp_link_user_on_reset(void *user, struct bp_user_tx *t, uint64_t code)
{
    struct bp_link *l = user;
    struct bp_user_stream *s = (struct bp_user_stream *)t;

    if (s->released || s->cut || l->phase == BP_LINK_FAILED) {
        return 0;
    }
    l->users->stats.resets_in++;
    s->cut = true;
    s->cut_code = code;
    tell(l, s);
    return 0;
}

/* What the peer has written is still worth reading. */
void bp_link_user_on_stop(void *user, struct bp_user_tx *t, uint64_t code)
{
    struct bp_link *l = user;
    struct bp_user_stream *s = (struct bp_user_stream *)t;

    if (!s->released) {
        s->stopped = true;
        s->stop_code = s->stop_code != 0 ? s->stop_code : code;
        tell(l, s);
    }
}

void bp_link_user_closed(void *user, struct bp_user_tx *t)
{
    struct bp_link *l = user;
    struct bp_user_stream *s = (struct bp_user_stream *)t;

    s->closed = true;
    if (s->released) {
        free_stream(l, s);
    } else {
        tell(l, s);
    }
}

/* --- the host ---------------------------------------------------------------- */

void bp_link_user_accept(struct bp_link *l, bool accept)
{
    l->accepts_user_streams = accept;
}

/* The ids below are distribution's (WIRE 2), used or not. */
static int reserve_ids(struct bp_link *l)
{
    int64_t id;
    int rc = 0;

    for (unsigned i = 0; rc >= 0 && i < l->n_streams; i++) {
        rc = bp_link_data_slot(l, i);
    }
    for (unsigned i = l->n_streams; rc >= 0 && i < BP_DIST_STREAMS_MAX; i++) {
        rc = bp_conn_open_bidi(l->conn, &id);
    }
    return rc < 0 ? rc : 0;
}

int bp_link_user_open(struct bp_link *l, uint8_t priority, struct bp_user_stream **out)
{
    struct bp_user_stream *s;
    int rc = 0;

    *out = NULL;
    if (l->phase != BP_LINK_UP) {
        return BP_E_STATE;
    }
    if (users(l) == NULL) {
        return BP_E_NOMEM;
    }
    if (!l->users->reserved) {
        /* All of them or none: half of it would move the ids of the others. */
        rc = bp_conn_bidi_left(l->conn) < BP_DIST_STREAMS_MAX + 1 ? BP_E_AGAIN : reserve_ids(l);
        l->users->reserved = rc == 0;
    }
    s = rc == 0 ? bp_mem_zalloc(l->mem, 1, sizeof(*s)) : NULL;
    if (rc == 0 && s == NULL) {
        rc = BP_E_NOMEM;
    }
    if (rc == 0) {
        rc = bp_conn_user_open(l->conn, &s->tx, priority);
    }
    if (rc != 0) {
        l->mem->release(l->mem->ctx, s);
        return rc;
    }
    s->local = true;
    s->hint = PIECE_FIRST;
    add(l, s);
    l->users->stats.opened++;
    *out = s;
    return 0;
}

static void release_slices(struct bp_link *l, struct bp_slice *slices, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (slices[i].owner != NULL) {
            l->owner.release(l->owner.ctx, slices[i].owner);
            slices[i].owner = NULL;
        }
    }
}

int bp_link_user_put(struct bp_link *l, struct bp_user_stream *s, struct bp_slice *slices, size_t n)
{
    size_t len = 0;
    int rc = l->phase != BP_LINK_UP || s->cut ? BP_E_STATE : 0;

    for (size_t i = 0; rc == 0 && i < n; i++) {
        if (slices[i].len == 0) {
            continue;
        }
        if (slices[i].owner != NULL) {
            rc = bp_conn_user_put_owned(l->conn, &s->tx, slices[i].base, slices[i].len,
                                        slices[i].owner);
            if (rc == 0) {
                slices[i].owner = NULL;
            }
        } else {
            rc = bp_conn_user_put_copy(l->conn, &s->tx, slices[i].base, slices[i].len);
        }
        len += slices[i].len;
    }
    release_slices(l, slices, n);
    if (rc == 0) {
        l->users->stats.bytes_out += len;
    } else if (rc == BP_E_NOMEM) {
        s->cut = true;
        s->cut_code = BP_USER_TOO_MUCH;
        tell(l, s);
    }
    return rc;
}

int bp_link_user_fin(struct bp_link *l, struct bp_user_stream *s)
{
    if (l->phase != BP_LINK_UP || s->cut) {
        return BP_E_STATE;
    }
    return bp_conn_user_fin(l->conn, &s->tx);
}

uint64_t bp_link_user_queued(const struct bp_user_stream *s)
{
    return s->tx.shut ? 0 : s->tx.q.end - s->tx.q.sent;
}

void bp_link_user_set_priority(struct bp_link *l, struct bp_user_stream *s, uint8_t priority)
{
    bp_conn_user_set_priority(l->conn, &s->tx, priority);
}

void bp_link_user_reset(struct bp_link *l, struct bp_user_stream *s, uint64_t code)
{
    bp_conn_user_reset(l->conn, &s->tx, code);
    bp_link_user_release(l, s);
}

void bp_link_user_orphan(struct bp_link *l, struct bp_user_stream *s)
{
    if (!s->tx.fin || s->cut) {
        bp_conn_user_reset(l->conn, &s->tx, 0);
    } else if (!s->fin) {
        bp_conn_user_stop_reading(l->conn, &s->tx, 0);
    }
    bp_link_user_release(l, s);
}

void bp_link_user_refuse(struct bp_link *l, struct bp_user_stream *s)
{
    bp_link_user_reset(l, s, BP_USER_REFUSED);
    if (l->phase != BP_LINK_FAILED && bp_link_user_unwanted(l) != 0) {
        char text[sizeof(l->text)];

        memcpy(text, l->text, sizeof(text));
        bp_link_fail(l, BP_E_FLOOD, text);
    }
}

void bp_link_user_welcome(struct bp_link *l, struct bp_user_stream *s, void *host)
{
    unpark(l, s);
    s->host = host;
    l->users->stats.accepted++;
}

struct bp_user_stream *bp_link_user_next(struct bp_link *l)
{
    struct bp_user_stream *s = l->users != NULL ? l->users->told_head : NULL;

    if (s == NULL || !l->delivering) {
        return NULL;
    }
    l->users->told_head = s->told_next;
    if (s->told_next == NULL) {
        l->users->told_tail = &l->users->told_head;
    }
    s->told = false;
    return s;
}

/* A stream that brings much gets large pieces at once. */
static void learn(struct bp_user_stream *s, size_t len)
{
    if (len >= s->hint && s->hint < PIECE_MAX) {
        s->hint *= 2;
    } else if (len < s->hint / 4 && s->hint > PIECE_FIRST) {
        s->hint /= 2;
    }
}

static void consumed(struct bp_link *l, struct bp_user_stream *s, size_t n)
{
    s->unread -= n;
    l->users->stats.unread_bytes -= n;
    bp_conn_user_credit(l->conn, s->tx.id, n);
}

bool bp_link_user_take(struct bp_link *l, struct bp_user_stream *s, struct bp_user_chunk *out)
{
    struct bp_user_piece *p = s->head;

    *out = (struct bp_user_chunk){0};
    if (s->cut || s->fin_taken || (p == NULL && !s->fin)) {
        return false;
    }
    if (p != NULL) {
        *out =
            (struct bp_user_chunk){.bin = p->bin, .data = p->data + p->off, .len = p->len - p->off};
        s->head = p->next;
        s->tail = s->head != NULL ? s->tail : NULL;
        learn(s, p->len);
        l->mem->release(l->mem->ctx, p);
        consumed(l, s, out->len);
    }
    out->fin = s->fin && s->head == NULL;
    s->fin_taken = out->fin;
    return true;
}

size_t bp_link_user_peek(const struct bp_user_stream *s, uint8_t *buf, size_t cap)
{
    size_t used = 0;

    for (const struct bp_user_piece *p = s->head; p != NULL && used < cap; p = p->next) {
        size_t n = p->len - p->off < cap - used ? p->len - p->off : cap - used;
        memcpy(buf + used, p->data + p->off, n);
        used += n;
    }
    return used;
}

void bp_link_user_skip(struct bp_link *l, struct bp_user_stream *s, size_t n)
{
    while (n > 0 && s->head != NULL) {
        struct bp_user_piece *p = s->head;
        size_t k = p->len - p->off < n ? p->len - p->off : n;

        p->off += k;
        n -= k;
        consumed(l, s, k);
        if (p->off == p->len) {
            s->head = p->next;
            s->tail = s->head != NULL ? s->tail : NULL;
            l->rx.release(l->rx.ctx, p->bin);
            l->mem->release(l->mem->ctx, p);
        }
    }
}

bool bp_link_user_finished(const struct bp_user_stream *s)
{
    return s->fin;
}

bool bp_link_user_done(const struct bp_user_stream *s)
{
    return s->closed && s->fin_taken;
}

void bp_link_user_release(struct bp_link *l, struct bp_user_stream *s)
{
    unpark(l, s);
    untell(l, s);
    drop_pieces(l, s);
    s->host = NULL;
    s->released = true;
    if (s->closed) {
        free_stream(l, s);
    }
}

/* --- parked ------------------------------------------------------------------- */

bool bp_link_user_park(struct bp_link *l, struct bp_user_stream *s, bp_time until)
{
    if (s->parked_until != 0) {
        return true;
    }
    if (l->users->n_parked == BP_USER_PARKED_MAX) {
        l->users->stats.parked_too_many++;
        return false;
    }
    l->users->n_parked++;
    s->parked_until = until;
    l->users->wake = until < l->users->wake ? until : l->users->wake;
    return true;
}

bp_time bp_link_user_deadline(const struct bp_link *l)
{
    return l->users != NULL && l->users->n_parked > 0 ? l->users->wake : BP_TIME_NEVER;
}

static void expire(void *ctx, struct bp_link *l, struct bp_user_stream *s)
{
    (void)ctx;
    if (s->parked_until == 0) {
        return;
    }
    if (s->parked_until <= l->now) {
        unpark(l, s);
        l->users->stats.parked_too_long++;
        s->expired = true;
        tell(l, s);
    } else if (s->parked_until < l->users->wake) {
        l->users->wake = s->parked_until;
    }
}

void bp_link_user_on_timer(struct bp_link *l)
{
    if (bp_link_user_deadline(l) <= l->now) {
        l->users->wake = BP_TIME_NEVER;
        bp_link_user_each(l, expire, NULL);
    }
}

/* --- figures -------------------------------------------------------------------- */

unsigned bp_link_user_streams(const struct bp_link *l)
{
    return l->users != NULL ? l->users->n : 0;
}

uint64_t bp_link_user_unsent(const struct bp_link *l)
{
    return bp_conn_user_unsent(l->conn);
}

void bp_link_user_stats(const struct bp_link *l, struct bp_user_stats *out)
{
    *out = l->users != NULL ? l->users->stats : (struct bp_user_stats){0};
    out->open = bp_link_user_streams(l);
    out->parked = l->users != NULL ? l->users->n_parked : 0;
    out->refused = l->stats.user_streams_refused;
}
