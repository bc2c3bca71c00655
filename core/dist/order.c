/* SPDX-License-Identifier: Apache-2.0 */
/* Streams, fences and the barrier behind them (DESIGN 6). */
#include "dist/order.h"

#include <string.h>

#include "base/err.h"

#define SEQS_FIRST_CAP 16u

void bp_order_init(struct bp_order *o, unsigned n_streams, const struct bp_mem *mem)
{
    *o = (struct bp_order){.mem = mem, .n_streams = n_streams};
    if (n_streams < 1) {
        o->n_streams = 1;
    } else if (n_streams > BP_ORDER_STREAMS_MAX) {
        o->n_streams = BP_ORDER_STREAMS_MAX;
    }
}

void bp_order_free(struct bp_order *o)
{
    if (o->seqs != NULL) {
        o->mem->release(o->mem->ctx, o->seqs);
    }
    bp_order_init(o, o->n_streams, o->mem);
}

/* --- sequences under way -------------------------------------------------- */

static size_t seq_slot(uint64_t id, size_t cap)
{
    return (size_t)((id * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (cap - 1);
}

static struct bp_order_seq *seq_find(const struct bp_order *o, uint64_t id)
{
    if (o->n_seqs == 0) {
        return NULL;
    }
    for (size_t i = seq_slot(id, o->seqs_cap); o->seqs[i].used; i = (i + 1) & (o->seqs_cap - 1)) {
        if (o->seqs[i].id == id) {
            return &o->seqs[i];
        }
    }
    return NULL;
}

static void seq_put(struct bp_order_seq *seqs, size_t cap, struct bp_order_seq seq)
{
    size_t i = seq_slot(seq.id, cap);

    while (seqs[i].used) {
        i = (i + 1) & (cap - 1);
    }
    seqs[i] = seq;
}

/* Room for one more sequence, with a quarter of the table left empty. */
static int seq_reserve(struct bp_order *o)
{
    size_t cap = o->seqs_cap != 0 ? o->seqs_cap * 2 : SEQS_FIRST_CAP;
    struct bp_order_seq *seqs;

    if (o->n_seqs >= BP_ORDER_SEQS_MAX) {
        return BP_E_LIMIT;
    }
    if ((o->n_seqs + 1) * 4 <= o->seqs_cap * 3) {
        return 0;
    }
    seqs = bp_mem_zalloc(o->mem, cap, sizeof(*seqs));
    if (seqs == NULL) {
        return BP_E_NOMEM;
    }
    for (size_t i = 0; i < o->seqs_cap; i++) {
        if (o->seqs[i].used) {
            seq_put(seqs, cap, o->seqs[i]);
        }
    }
    if (o->seqs != NULL) {
        o->mem->release(o->mem->ctx, o->seqs);
    }
    o->seqs = seqs;
    o->seqs_cap = cap;
    return 0;
}

/* Removes an entry and closes the gap, so that no probe ends too early. */
static void seq_remove(struct bp_order *o, struct bp_order_seq *seq)
{
    size_t mask = o->seqs_cap - 1;
    size_t gap = (size_t)(seq - o->seqs);

    o->n_seqs--;
    for (size_t i = (gap + 1) & mask; o->seqs[i].used; i = (i + 1) & mask) {
        size_t home = seq_slot(o->seqs[i].id, o->seqs_cap);
        if (((i - home) & mask) >= ((i - gap) & mask)) {
            o->seqs[gap] = o->seqs[i];
            gap = i;
        }
    }
    o->seqs[gap].used = false;
}

/* --- admission ------------------------------------------------------------ */

/* Where a fence may go now: true if at most one stream is not idle. */
static bool fence_stream(const struct bp_order *o, unsigned *stream)
{
    if ((o->busy & (o->busy - 1)) != 0) {
        return false;
    }
    *stream = 0;
    while (o->busy >> *stream > 1) {
        (*stream)++;
    }
    return true;
}

/* The message waits; counts it once however often the caller asks. */
static int hold(struct bp_order *o)
{
    if (!o->holding) {
        o->holding = true;
        o->holds++;
    }
    return 0;
}

static int admit(struct bp_order *o, unsigned stream, bool fence_start, bool fence_end)
{
    o->holding = false;
    o->admitted = true;
    o->admitted_stream = stream;
    o->admitted_fence_end = fence_end;
    if (fence_start) {
        o->fences++;
    }
    return 1;
}

/* A first fragment or a whole message. */
static int admit_first(struct bp_order *o, const struct bp_route *r, unsigned *stream)
{
    bool fence = r->kind != BP_ROUTE_KEY;
    bool tracked = r->fragmented && !r->last;

    if (r->fragmented && seq_find(o, r->seq_id) != NULL) {
        return BP_E_INTERNAL;
    }
    if (fence) {
        /* An unacknowledged barrier keeps its stream busy, so this waits for it or shares it. */
        if (!fence_stream(o, stream)) {
            return hold(o);
        }
    } else {
        *stream = r->hash % o->n_streams;
        if (o->barrier && *stream != o->barrier_stream) {
            return hold(o);
        }
    }
    if (tracked) {
        int rc = seq_reserve(o);
        if (rc != 0) {
            return rc;
        }
        seq_put(o->seqs, o->seqs_cap,
                (struct bp_order_seq){
                    .id = r->seq_id, .stream = (uint8_t)*stream, .fence = fence, .used = true});
        o->n_seqs++;
    }
    return admit(o, *stream, fence, fence && !tracked);
}

static int admit_continuation(struct bp_order *o, const struct bp_route *r, unsigned *stream)
{
    struct bp_order_seq *seq = seq_find(o, r->seq_id);
    bool fence;

    if (seq == NULL) {
        if (!fence_stream(o, stream)) {
            return hold(o);
        }
        return admit(o, *stream, true, true);
    }
    *stream = seq->stream;
    if (o->barrier && *stream != o->barrier_stream) {
        return hold(o);
    }
    fence = seq->fence;
    if (r->last) {
        seq_remove(o, seq);
    }
    return admit(o, *stream, false, fence && r->last);
}

int bp_order_admit(struct bp_order *o, const struct bp_route *r, unsigned *stream)
{
    if (o->admitted) {
        return BP_E_STATE;
    }
    *stream = 0;
    if (o->n_streams == 1) {
        return admit(o, 0, false, false);
    }
    if (r->kind == BP_ROUTE_CONT) {
        return admit_continuation(o, r, stream);
    }
    return admit_first(o, r, stream);
}

void bp_order_wrote(struct bp_order *o, uint64_t end)
{
    unsigned s = o->admitted_stream;

    if (!o->admitted) {
        return;
    }
    o->admitted = false;
    o->written[s] = end;
    if (end > o->acked[s]) {
        o->busy |= 1u << s;
        if (o->admitted_fence_end) {
            o->barrier = true;
            o->barrier_stream = s;
            o->barrier_end = end;
        }
    }
}

void bp_order_acked(struct bp_order *o, unsigned stream, uint64_t end)
{
    if (stream >= o->n_streams || end <= o->acked[stream]) {
        return;
    }
    o->acked[stream] = end;
    if (end >= o->written[stream]) {
        o->busy &= ~(1u << stream);
    }
    if (o->barrier && stream == o->barrier_stream && end >= o->barrier_end) {
        o->barrier = false;
    }
}
