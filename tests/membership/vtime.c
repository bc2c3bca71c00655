/* SPDX-License-Identifier: Apache-2.0 */
#include "membership/vtime.h"

#include <stdio.h>
#include <stdlib.h>

#include "membership/hpv_view.h"

void *vt_must(void *p)
{
    if (p == NULL) {
        fprintf(stderr, "membership: no memory\n");
        exit(2);
    }
    return p;
}

static bool before(const struct vt_slot *a, const struct vt_slot *b)
{
    return a->at != b->at ? a->at < b->at : a->seq < b->seq;
}

void vt_push(struct vt_queue *q, bp_time at, uint32_t item, uint32_t node)
{
    struct vt_slot s = {.at = at, .seq = q->seq++, .item = item, .node = node};
    size_t i = q->n++;

    if (q->n > q->cap) {
        q->cap = q->cap != 0 ? q->cap * 2 : 1024;
        q->heap = vt_must(realloc(q->heap, q->cap * sizeof(*q->heap)));
    }
    while (i != 0 && before(&s, &q->heap[(i - 1) / 4])) {
        q->heap[i] = q->heap[(i - 1) / 4];
        i = (i - 1) / 4;
    }
    q->heap[i] = s;
}

struct vt_slot vt_pop(struct vt_queue *q)
{
    struct vt_slot top = q->heap[0];
    struct vt_slot s = q->heap[--q->n];
    size_t i = 0;

    for (;;) {
        size_t best = i * 4 + 1;
        if (best >= q->n) {
            break;
        }
        for (size_t k = best + 1; k < i * 4 + 5 && k < q->n; k++) {
            if (before(&q->heap[k], &q->heap[best])) {
                best = k;
            }
        }
        if (!before(&q->heap[best], &s)) {
            break;
        }
        q->heap[i] = q->heap[best];
        i = best;
    }
    q->heap[i] = s;
    return top;
}

void vt_free(struct vt_queue *q)
{
    free(q->heap);
    *q = (struct vt_queue){0};
}

bp_time vt_latency(uint64_t seed, uint32_t a, uint32_t b)
{
    uint64_t s = ((uint64_t)(a < b ? a : b) << 32 | (a < b ? b : a)) ^ seed;

    return BP_MS + bp_hpv_rand(&s) % (49 * BP_MS);
}
