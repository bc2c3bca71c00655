/* SPDX-License-Identifier: Apache-2.0 */
/* Deframer and frame queue: how stream data is cut must not change the frames. */
#include "fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "dist/deframe.h"

#define MAX_FRAME 100000u

struct heap {
    struct bp_mem mem;
    struct bp_rx_mem rx;
    long live;
    unsigned countdown; /* the allocation that fails; 0: none */
};

/* What came out: enough to compare two runs. */
struct result {
    int rc;
    size_t n;
    size_t bytes;
    uint64_t hash;
    uint64_t ticks;
};

static void check(bool ok)
{
    if (!ok) {
        abort();
    }
}

static bool may_alloc(struct heap *h)
{
    return h->countdown == 0 || --h->countdown != 0;
}

static void *heap_alloc(void *ctx, size_t size)
{
    struct heap *h = ctx;
    void *p = may_alloc(h) ? malloc(size) : NULL;

    h->live += p != NULL;
    return p;
}

static void *heap_grow(void *ctx, void *p, size_t size)
{
    return may_alloc(ctx) ? realloc(p, size) : NULL;
}

static void heap_release(void *ctx, void *p)
{
    struct heap *h = ctx;

    h->live -= p != NULL;
    free(p);
}

static void *bin_alloc(void *ctx, size_t cap, uint8_t **data)
{
    check(cap <= BP_FRAME_FIRST_ALLOC);
    *data = heap_alloc(ctx, cap);
    return *data;
}

static void *bin_grow(void *ctx, void *bin, size_t cap, uint8_t **data)
{
    check(cap <= MAX_FRAME);
    *data = heap_grow(ctx, bin, cap);
    return *data;
}

static void drain(struct bp_frame_queue *q, struct heap *h, struct result *out)
{
    struct bp_frame f;

    while (bp_frame_queue_pop(q, &f)) {
        check(f.len >= 3 && f.len <= MAX_FRAME);
        for (size_t i = 0; i < f.len; i++) {
            out->hash = (out->hash ^ f.data[i]) * UINT64_C(0x100000001b3);
        }
        out->n++;
        out->bytes += f.len;
        if (f.bin != NULL) {
            heap_release(h, f.bin);
        }
    }
    bp_frame_queue_reset(q);
}

static void run(const uint8_t *data, size_t size, size_t piece, size_t limit, unsigned countdown,
                struct result *out)
{
    struct heap h = {.live = 0, .countdown = countdown};
    struct bp_deframer d;
    struct bp_frame_queue q;

    h.mem = (struct bp_mem){&h, heap_alloc, heap_grow, heap_release};
    h.rx = (struct bp_rx_mem){&h, bin_alloc, bin_grow, heap_release};
    *out = (struct result){.rc = 0};
    bp_deframer_init(&d, &h.rx, MAX_FRAME);
    bp_frame_queue_init(&q, &h.mem, &h.rx, limit);
    for (size_t i = 0; i < size && out->rc == 0; i += piece) {
        out->rc = bp_deframer_push(&d, data + i, size - i < piece ? size - i : piece, &q);
        check(q.bytes <= limit);
        if (limit == SIZE_MAX) {
            drain(&q, &h, out);
        }
    }
    out->ticks = q.ticks;
    bp_deframer_free(&d, &q);
    drain(&q, &h, out);
    check(q.bytes == 0 && q.n == 0);
    bp_frame_queue_free(&q);
    check(h.live == 0);
}

/* The first byte: size of the pieces, and which allocation fails in the last run. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct result whole;
    struct result pieces;

    if (size == 0) {
        return 0;
    }
    run(data + 1, size - 1, size, SIZE_MAX, 0, &whole);
    run(data + 1, size - 1, 1 + data[0] % 31u, SIZE_MAX, 0, &pieces);
    if (pieces.rc == BP_E_UNFINISHED) {
        check(whole.n >= pieces.n); /* a frame in pieces counts before it is whole */
    } else if (whole.rc == BP_E_UNFINISHED) {
        check(pieces.rc != 0 && whole.n == pieces.n); /* its head was wrong, and seen before */
    } else {
        check(whole.rc == pieces.rc && whole.n == pieces.n && whole.bytes == pieces.bytes);
        check(whole.hash == pieces.hash && whole.ticks == pieces.ticks);
    }
    run(data + 1, size - 1, 7, 256, 0, &pieces);
    run(data + 1, size - 1, 7, SIZE_MAX, 1 + data[0] / 31u, &pieces);
    return 0;
}
