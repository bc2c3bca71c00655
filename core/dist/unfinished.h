/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The account of what a peer has begun and not finished: bytes of frames that are not whole, and of
 * fragmented messages (WIRE 5) whose last fragment has not come. The VM keeps the fragments of such
 * a message until then, without a limit of its own.
 */
#ifndef BP_UNFINISHED_H
#define BP_UNFINISHED_H

#include "base/types.h"

#define BP_UNFINISHED_MAX          65536u /* fragmented messages at once */
#define BP_UNFINISHED_PER_FRAGMENT 32u    /* what the VM needs for each that is announced */

struct bp_unfinished_seq;

struct bp_unfinished {
    const struct bp_mem *mem;
    struct bp_unfinished_seq *seqs; /* open addressing; `cap` is 0 or a power of two */
    size_t cap;
    size_t n;
    uint64_t seed; /* the peer chooses ids: it must not know where they go */
    uint64_t bytes;
    uint64_t max_bytes;
};

/* `mem` is borrowed for the account's life. */
void bp_unfinished_init(struct bp_unfinished *u, const struct bp_mem *mem, uint64_t max_bytes);
void bp_unfinished_free(struct bp_unfinished *u);

/* `n` more bytes of a frame that is not whole. Error: BP_E_UNFINISHED. */
int bp_unfinished_add(struct bp_unfinished *u, uint64_t n) BP_MUST_CHECK;
/* The frame is whole, or given up. */
void bp_unfinished_sub(struct bp_unfinished *u, uint64_t n);

/*
 * A fragment, first, middle or last, of `len` bytes with its sequence id and number, which in the
 * first is how many there will be: the VM has a place for each at once. A message whose first fragment never came, or a second with the id of one that is under way, are the VM's
 * to judge. Errors: BP_E_UNFINISHED (too many bytes or messages), BP_E_NOMEM, BP_E_CRYPTO.
 */
int bp_unfinished_fragment(struct bp_unfinished *u, uint64_t seq, uint64_t frag, bool first,
                           uint64_t len) BP_MUST_CHECK;

#endif
