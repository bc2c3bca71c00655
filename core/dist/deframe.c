/* SPDX-License-Identifier: Apache-2.0 */
/* Frame parser and frame queue of the data streams (WIRE 5). */
#include "dist/deframe.h"

#include <string.h>

#include "base/err.h"

static void *libc_alloc(void *ctx, size_t cap, uint8_t **data)
{
    (void)ctx;
    *data = bp_mem_libc()->alloc(NULL, cap);
    return *data;
}

static void *libc_grow(void *ctx, void *bin, size_t cap, uint8_t **data)
{
    void *p = bp_mem_libc()->grow(NULL, bin, cap);

    (void)ctx;
    if (p != NULL) {
        *data = p;
    }
    return p;
}

static void libc_release(void *ctx, void *bin)
{
    (void)ctx;
    bp_mem_libc()->release(NULL, bin);
}

struct bp_rx_mem bp_rx_mem_libc(void)
{
    return (struct bp_rx_mem){.alloc = libc_alloc, .grow = libc_grow, .release = libc_release};
}

#define RING_FIRST_CAP  64u
#define HEADER_LEN      3u  /* 131, 68, NumRefs */
#define FRAG_HEADER_LEN 19u /* 131, 69, SeqId:64, FragId:64, NumRefs */
#define FRAG_CONT_LEN   18u /* 131, 70, SeqId:64, FragId:64 */
#define CACHE_LINE      64u
#define WARM_MAX        2048u /* the CPU is ahead by itself in a longer copy */

struct bp_frame_chunk {
    struct bp_frame_chunk *next;
    uint32_t used;   /* bytes of `data` */
    uint32_t queued; /* frames in it that were not popped */
    uint8_t data[BP_FRAME_ARENA_CHUNK];
};

/* --- queue --------------------------------------------------------------- */

void bp_frame_queue_init(struct bp_frame_queue *q, const struct bp_mem *mem,
                         const struct bp_rx_mem *rx, size_t max_bytes)
{
    *q = (struct bp_frame_queue){.mem = mem, .rx = rx, .max_bytes = max_bytes};
    bp_unfinished_init(&q->unfinished, mem, UINT64_MAX);
}

static void free_chunks(struct bp_frame_queue *q, struct bp_frame_chunk *c)
{
    while (c != NULL) {
        struct bp_frame_chunk *next = c->next;
        q->mem->release(q->mem->ctx, c);
        c = next;
    }
}

void bp_frame_queue_free(struct bp_frame_queue *q)
{
    struct bp_frame f;

    while (bp_frame_queue_pop(q, &f)) {
        if (f.bin != NULL) {
            q->rx->release(q->rx->ctx, f.bin);
        }
    }
    free_chunks(q, q->first);
    free_chunks(q, q->spare);
    if (q->ring != NULL) {
        q->mem->release(q->mem->ctx, q->ring);
    }
    bp_unfinished_free(&q->unfinished);
    bp_frame_queue_init(q, q->mem, q->rx, q->max_bytes);
}

void bp_frame_queue_set_limit(struct bp_frame_queue *q, size_t max_bytes)
{
    q->max_bytes = max_bytes;
}

void bp_frame_queue_set_unfinished(struct bp_frame_queue *q, uint64_t max_bytes)
{
    q->unfinished.max_bytes = max_bytes;
}

bool bp_frame_queue_pop(struct bp_frame_queue *q, struct bp_frame *out)
{
    if (q->n == 0) {
        return false;
    }
    *out = q->ring[q->head];
    q->head = (q->head + 1) & (q->cap - 1);
    q->n--;
    q->bytes -= out->len + BP_FRAME_COST;
    if (out->bin == NULL) {
        /* Arena frames leave in the order in which they came, so the chunks do too. */
        while (q->pop->queued == 0) {
            q->pop = q->pop->next;
        }
        q->pop->queued--;
    }
    return true;
}

void bp_frame_queue_reset(struct bp_frame_queue *q)
{
    while (q->first != NULL && q->first->queued == 0) {
        struct bp_frame_chunk *c = q->first;
        q->first = c->next;
        if (q->n_spare < BP_FRAME_ARENA_KEEP) {
            c->next = q->spare;
            q->spare = c;
            q->n_spare++;
        } else {
            q->mem->release(q->mem->ctx, c);
        }
    }
    if (q->first == NULL) {
        q->last = NULL;
    }
    q->pop = q->first;
}

void bp_frame_queue_trim(struct bp_frame_queue *q)
{
    free_chunks(q, q->spare);
    q->spare = NULL;
    q->n_spare = 0;
    if (q->n == 0 && q->ring != NULL) {
        q->mem->release(q->mem->ctx, q->ring);
        q->ring = NULL;
        q->cap = 0;
        q->head = 0;
    }
    if (q->unfinished.n == 0 && q->unfinished.bytes == 0) {
        bp_unfinished_free(&q->unfinished);
    }
}

/* Room for one more entry in the ring. */
static int ring_reserve(struct bp_frame_queue *q)
{
    size_t cap;
    struct bp_frame *ring;

    if (q->n < q->cap) {
        return 0;
    }
    cap = q->cap != 0 ? q->cap * 2 : RING_FIRST_CAP;
    if (cap > SIZE_MAX / sizeof(*ring)) {
        return BP_E_NOMEM;
    }
    ring = q->mem->alloc(q->mem->ctx, cap * sizeof(*ring));
    if (ring == NULL) {
        return BP_E_NOMEM;
    }
    for (size_t i = 0; i < q->n; i++) {
        ring[i] = q->ring[(q->head + i) & (q->cap - 1)];
    }
    if (q->ring != NULL) {
        q->mem->release(q->mem->ctx, q->ring);
    }
    q->ring = ring;
    q->cap = cap;
    q->head = 0;
    return 0;
}

/* `len` bytes of the arena, or NULL; the caller queues a frame there. */
static uint8_t *arena_take(struct bp_frame_queue *q, size_t len)
{
    struct bp_frame_chunk *c = q->last;
    uint8_t *p;

    if (c == NULL || BP_FRAME_ARENA_CHUNK - c->used < len) {
        if (q->spare != NULL) {
            c = q->spare;
            q->spare = c->next;
            q->n_spare--;
        } else {
            c = q->mem->alloc(q->mem->ctx, sizeof(*c));
            if (c == NULL) {
                return NULL;
            }
        }
        c->next = NULL;
        c->used = 0;
        c->queued = 0;
        if (q->last == NULL) {
            q->first = c;
            q->pop = c;
        } else {
            q->last->next = c;
        }
        q->last = c;
    }
    p = c->data + c->used;
    c->used += (uint32_t)len;
    c->queued++;
    return p;
}

/* Charges `bytes` to the connection's account. */
static int charge(struct bp_frame_queue *q, size_t bytes)
{
    if (q->bytes > q->max_bytes || bytes > q->max_bytes - q->bytes) {
        return BP_E_EARLY_DATA_LIMIT;
    }
    q->bytes += bytes;
    return 0;
}

/* Puts a frame that is charged already into the ring, where ring_reserve made room. */
static void ring_put(struct bp_frame_queue *q, const uint8_t *data, size_t len, void *bin)
{
    q->ring[(q->head + q->n) & (q->cap - 1)] =
        (struct bp_frame){.data = data, .len = len, .bin = bin};
    q->n++;
    q->total_frames++;
    q->total_bytes += len;
}

/* --- deframer ------------------------------------------------------------ */

void bp_deframer_init(struct bp_deframer *d, const struct bp_rx_mem *rx, uint32_t max_frame_bytes)
{
    *d = (struct bp_deframer){.rx = rx, .max_frame_bytes = max_frame_bytes};
}

void bp_deframer_free(struct bp_deframer *d, struct bp_frame_queue *q)
{
    if (d->bin != NULL) {
        if (q != NULL) {
            q->bytes -= d->have;
            bp_unfinished_sub(&q->unfinished, d->have);
        }
        d->rx->release(d->rx->ctx, d->bin);
    }
    bp_deframer_init(d, d->rx, d->max_frame_bytes);
}

/* True for FragId 0, which no sender uses: fragments count down to 1. */
static bool frag_id_is_zero(const uint8_t *p)
{
    static const uint8_t zero[8];

    return memcmp(p + 10, zero, sizeof(zero)) == 0;
}

/*
 * Cheap look at a payload's first bytes, so that garbage ends this connection here and is not left
 * to the VM's decoder. `have` bytes are there: all `len`, or at least FRAG_HEADER_LEN.
 */
static bool head_is_valid(const uint8_t *p, size_t have)
{
    if (have < HEADER_LEN) {
        return false;
    }
    if (p[0] == BP_DIST_PASS_THROUGH) {
        return p[1] == BP_DIST_VERSION;
    }
    if (p[0] != BP_DIST_VERSION) {
        return false;
    }
    switch (p[1]) {
    case BP_DIST_HEADER:
        return p[2] == 0; /* no atom cache references (WIRE 4.3, 5) */
    case BP_DIST_FRAG_HEADER:
        return have >= FRAG_HEADER_LEN && p[18] == 0 && !frag_id_is_zero(p);
    case BP_DIST_FRAG_CONT:
        return have >= FRAG_CONT_LEN && !frag_id_is_zero(p);
    default:
        return false;
    }
}

static uint64_t get_u64(const uint8_t *p)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < 8; i++) {
        v = v << 8 | p[i];
    }
    return v;
}

/* A payload is whole, and its head valid: if it is a fragment, the VM keeps it until the last. */
static int note_fragment(struct bp_frame_queue *q, const uint8_t *p, size_t len)
{
    if (p[0] != BP_DIST_VERSION || (p[1] != BP_DIST_FRAG_HEADER && p[1] != BP_DIST_FRAG_CONT)) {
        return 0;
    }
    return bp_unfinished_fragment(&q->unfinished, get_u64(p + 2), get_u64(p + 10),
                                  p[1] == BP_DIST_FRAG_HEADER, len);
}

/* A small frame that lies whole at `p`. */
static int take_small(struct bp_frame_queue *q, const uint8_t *p, size_t len)
{
    uint8_t *copy;
    int rc;

    if (!head_is_valid(p, len)) {
        return BP_E_FRAME_MALFORMED;
    }
    rc = ring_reserve(q);
    if (rc == 0) {
        rc = note_fragment(q, p, len);
    }
    if (rc != 0) {
        return rc;
    }
    rc = charge(q, len + BP_FRAME_COST);
    if (rc != 0) {
        return rc;
    }
    copy = arena_take(q, len);
    if (copy == NULL) {
        q->bytes -= len + BP_FRAME_COST;
        return BP_E_NOMEM;
    }
    memcpy(copy, p, len);
    ring_put(q, copy, len, NULL);
    return 0;
}

/* Memory for `want` bytes of the partial frame: grows with what arrived, not with its length. */
static int reserve(struct bp_deframer *d, size_t want)
{
    size_t cap;
    uint8_t *data = NULL;
    void *bin;

    if (d->bin != NULL && want <= d->cap) {
        return 0;
    }
    cap = d->bin != NULL ? d->cap * 2 : BP_FRAME_FIRST_ALLOC;
    cap = cap < want ? want : cap;
    cap = cap > d->need ? d->need : cap;
    bin = d->bin != NULL ? d->rx->grow(d->rx->ctx, d->bin, cap, &data)
                         : d->rx->alloc(d->rx->ctx, cap, &data);
    if (bin == NULL) {
        return BP_E_NOMEM;
    }
    d->bin = bin;
    d->data = data;
    d->cap = cap;
    return 0;
}

/* Memory that the next packet's bytes go to is brought near while that packet is decrypted. */
static void warm(const struct bp_deframer *d, size_t len)
{
    size_t room = d->cap - d->have;

    if (len > WARM_MAX) {
        return;
    }
    len = len < room ? len : room;
    for (size_t i = 0; i < len; i += CACHE_LINE) {
        __builtin_prefetch(d->data + d->have + i, 1);
    }
}

/* Adds up to `len` bytes to the partial frame; `*used` of them were its own. */
static int take_part(struct bp_deframer *d, const uint8_t *p, size_t len, struct bp_frame_queue *q,
                     size_t *used)
{
    size_t n = d->need - d->have;
    int rc;

    n = n > len ? len : n;
    rc = reserve(d, d->have + n);
    if (rc != 0) {
        return rc;
    }
    rc = charge(q, n);
    if (rc != 0) {
        return rc;
    }
    rc = bp_unfinished_add(&q->unfinished, n);
    if (rc != 0) {
        q->bytes -= n;
        return rc;
    }
    memcpy(d->data + d->have, p, n);
    d->have += (uint32_t)n;
    *used = n;
    if (!d->checked && (d->have == d->need || d->have >= FRAG_HEADER_LEN)) {
        if (!head_is_valid(d->data, d->have)) {
            return BP_E_FRAME_MALFORMED;
        }
        d->checked = true;
    }
    if (d->have < d->need) {
        warm(d, n);
        return 0;
    }
    bp_unfinished_sub(&q->unfinished, d->need);
    rc = ring_reserve(q);
    if (rc == 0) {
        rc = note_fragment(q, d->data, d->need);
    }
    if (rc == 0) {
        rc = charge(q, BP_FRAME_COST);
    }
    if (rc != 0) {
        return rc;
    }
    ring_put(q, d->data, d->need, d->bin);
    d->bin = NULL;
    d->data = NULL;
    d->cap = 0;
    d->need = 0;
    d->have = 0;
    d->checked = false;
    return 0;
}

/* Reads a length field, maybe from several chunks: 1 when it is complete, 0 at the end of data. */
static int take_head(struct bp_deframer *d, const uint8_t **p, const uint8_t *end, uint32_t *len)
{
    const uint8_t *h = *p;

    if (d->head_len == 0 && end - *p >= (ptrdiff_t)BP_FRAME_HEAD) {
        *p += BP_FRAME_HEAD;
    } else {
        while (d->head_len < BP_FRAME_HEAD && *p < end) {
            d->head[d->head_len++] = *(*p)++;
        }
        if (d->head_len < BP_FRAME_HEAD) {
            return 0;
        }
        d->head_len = 0;
        h = d->head;
    }
    *len = (uint32_t)h[0] << 24 | (uint32_t)h[1] << 16 | (uint32_t)h[2] << 8 | h[3];
    return 1;
}

static int push(struct bp_deframer *d, const uint8_t *p, const uint8_t *end,
                struct bp_frame_queue *q)
{
    int rc = 0;

    while (p < end) {
        size_t used = 0;
        if (d->need == 0) {
            uint32_t len = 0;
            if (take_head(d, &p, end, &len) == 0) {
                return 0;
            }
            if (len == 0) {
                q->ticks++;
                continue;
            }
            if (len > d->max_frame_bytes) {
                return BP_E_FRAME_TOO_LARGE;
            }
            d->need = len;
        }
        if (d->bin == NULL && d->need <= BP_FRAME_SMALL && (size_t)(end - p) >= d->need) {
            used = d->need;
            rc = take_small(q, p, used);
            d->need = 0;
        } else if (p < end) {
            rc = take_part(d, p, (size_t)(end - p), q, &used);
        }
        if (rc != 0) {
            return rc;
        }
        p += used;
    }
    return 0;
}

int bp_deframer_push(struct bp_deframer *d, const uint8_t *p, size_t len, struct bp_frame_queue *q)
{
    if (d->error == 0 && len > 0) {
        d->error = push(d, p, p + len, q);
    }
    return d->error;
}
