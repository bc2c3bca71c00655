/* SPDX-License-Identifier: Apache-2.0 */
/* What will happen in virtual time: a heap, first things first, equal times in the order of pushes.
 */
#ifndef BP_VTIME_H
#define BP_VTIME_H

#include <stddef.h>

#include "base/types.h"

#define VT_NO_ITEM UINT32_MAX

struct vt_slot {
    bp_time at;
    uint64_t seq;
    uint32_t item; /* the caller's; VT_NO_ITEM: the timer of `node` */
    uint32_t node;
};

/* Zeroed: empty. */
struct vt_queue {
    struct vt_slot *heap;
    size_t n;
    size_t cap;
    uint64_t seq;
};

/* Exits the program if there is no memory. */
void vt_push(struct vt_queue *q, bp_time at, uint32_t item, uint32_t node);
/* Not on an empty queue. */
struct vt_slot vt_pop(struct vt_queue *q);
void vt_free(struct vt_queue *q);
/* `p`, or the end of the program if that is NULL. For tests' own allocations. */
void *vt_must(void *p);

/* Between two nodes, 1 to 50 ms: for both directions and for good, so that messages keep their
 * order. */
bp_time vt_latency(uint64_t seed, uint32_t a, uint32_t b);

#endif
