/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Spreads the VM's messages over N streams without breaking signal order (DESIGN 6): says to
 * which stream the next message goes, or that it must wait. Holds no payload; the caller keeps
 * held messages in a FIFO and asks again for its head after acknowledgements.
 *
 * Rules, with "idle" for a stream on which all that was written is acknowledged:
 *  - A message with a key goes to stream hash % N.
 *  - A continuation goes to the stream of its first fragment.
 *  - A fence's first fragment, or the whole fence, goes out when all streams but one are idle, on
 *    the one that is not. Its own stream need not be waited for: it is ordered by itself.
 *  - When a fence's last fragment is written, the barrier stands: messages for other streams wait
 *    until that fragment is acknowledged; those for the same stream don't. So neighbouring fences
 *    share one wait.
 *  - While a fence is between its first and last fragment other messages flow. They are not from
 *    the fence's sender, because the VM has a process emit one signal at a time; and to hold them
 *    could deadlock: the VM stops a sender while much is held, and the last fragment never comes.
 *
 * One barrier is enough: a second fence ends on another stream only after the first barrier is
 * acknowledged, and on the same stream its end covers the first one's.
 *
 * Acknowledged means contiguous from the stream's start, so that the peer has all of it. Every
 * wait is for bytes already written, hence ends as long as the connection lives.
 * With one stream nothing waits.
 */
#ifndef BP_ORDER_H
#define BP_ORDER_H

#include "base/types.h"
#include "dist/route.h"

#define BP_ORDER_STREAMS_MAX 16u
/* Fragmented messages under way at once: one for each process that is suspended on the port. */
#define BP_ORDER_SEQS_MAX    (1u << 20)

struct bp_order_seq {
    uint64_t id;
    uint8_t stream;
    bool fence;
    bool used;
};

struct bp_order {
    const struct bp_mem *mem;
    unsigned n_streams;
    uint64_t written[BP_ORDER_STREAMS_MAX]; /* end offset of the last message */
    uint64_t acked[BP_ORDER_STREAMS_MAX];   /* contiguous */
    uint32_t busy;                          /* bit i: written[i] > acked[i] */

    bool barrier; /* a fence's end is not acknowledged */
    unsigned barrier_stream;
    uint64_t barrier_end;

    bool admitted; /* bp_order_wrote is due */
    unsigned admitted_stream;
    bool admitted_fence_end;
    bool holding;

    struct bp_order_seq *seqs; /* open addressing; `seqs_cap` is 0 or a power of two */
    size_t seqs_cap;
    size_t n_seqs;

    uint64_t fences; /* messages that were sent as fences */
    uint64_t holds;  /* messages that had to wait while at the head */
};

/* `n_streams` is brought into 1..BP_ORDER_STREAMS_MAX; `mem` is borrowed. */
void bp_order_init(struct bp_order *o, unsigned n_streams, const struct bp_mem *mem);
void bp_order_free(struct bp_order *o);

/*
 * May the message `r`, the oldest that the VM emitted and that was not written, go out?
 *   1  write it to `*stream` now, then call bp_order_wrote
 *   0  hold it, and all that comes later; ask again after bp_order_acked
 *   BP_E_INTERNAL  two sequences with one id at once, which the VM never sends; the receiving VM
 *                  would end the connection
 *   BP_E_STATE     bp_order_wrote was not called for the last message
 *   BP_E_LIMIT, BP_E_NOMEM  no room to remember a sequence; nothing is changed
 * A continuation of an unknown sequence is treated as a fence of its own.
 */
int bp_order_admit(struct bp_order *o, const struct bp_route *r, unsigned *stream) BP_MUST_CHECK;

/* The admitted message ends at byte offset `end` of the stream that it was given. */
void bp_order_wrote(struct bp_order *o, uint64_t end);

/* The peer has acknowledged all of `stream` before byte offset `end`. */
void bp_order_acked(struct bp_order *o, unsigned stream, uint64_t end);

#endif
