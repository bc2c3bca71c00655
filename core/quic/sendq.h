/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Send buffer of one stream: a queue of byte ranges that stay where they are until the peer has
 * acknowledged them (ngtcp2 retransmits from the same memory).
 *
 * A range belongs to an owner (a refcounted binary of the host, released once when the last byte
 * is acknowledged) or lies in a shared block, into which small pieces are copied.
 */
#ifndef BP_SENDQ_H
#define BP_SENDQ_H

#include "base/types.h"

/* How the host gets its binaries back. `release` runs exactly once for each owner handed over. */
struct bp_owner_ops {
    void *ctx;
    void (*release)(void *ctx, void *owner);
};

#define BP_BLOCK_SIZE (32u * 1024u)

/* A block for copied bytes, shared by the streams of one connection. */
struct bp_block {
    uint32_t refs;
    uint32_t used;
    uint8_t data[BP_BLOCK_SIZE];
};

/* Where a connection's streams get room for copies. Holds one reference on the current block. */
struct bp_block_pool {
    const struct bp_mem *mem;
    struct bp_block *cur;
    uint32_t n_blocks; /* alive */
};

void bp_block_pool_init(struct bp_block_pool *p, const struct bp_mem *mem);
/* Gives the current block back if nothing in it is waiting for an acknowledgement. */
void bp_block_pool_trim(struct bp_block_pool *p);
void bp_block_pool_free(struct bp_block_pool *p);

/* A contiguous piece of the stream. */
struct bp_seg {
    const uint8_t *base;
    size_t len;
    void *owner;            /* released through bp_owner_ops, or NULL */
    struct bp_block *block; /* or a reference on a block, or NULL (borrowed for ever) */
};

struct bp_sendq {
    struct bp_seg *ring;
    uint32_t cap;  /* power of two, or 0 */
    uint32_t head; /* first segment not wholly acknowledged */
    uint32_t tail; /* one past the last; tail - head segments are held */
    uint32_t next; /* first segment with bytes not yet given to QUIC */
    size_t next_off;
    uint64_t head_offset; /* stream offset of ring[head] */
    uint64_t sent;        /* stream offset of the next byte for QUIC */
    uint64_t end;         /* stream offset after the last byte */
    uint64_t acked;       /* contiguous, from 0 */
};

/* A vector element as writev wants it. */
struct bp_vec {
    const uint8_t *base;
    size_t len;
};

void bp_sendq_init(struct bp_sendq *q);
/* Releases every owner and block that is still held. */
void bp_sendq_free(struct bp_sendq *q, struct bp_block_pool *pool, const struct bp_owner_ops *ops);

/*
 * Appends `len` bytes at `base` that stay valid until `owner` is released. Takes `owner` only if
 * it returns 0. Errors: BP_E_NOMEM.
 */
int bp_sendq_put_owned(struct bp_sendq *q, const struct bp_mem *mem, const uint8_t *base,
                       size_t len, void *owner) BP_MUST_CHECK;

/* Appends a copy of `len` bytes. Errors: BP_E_NOMEM (nothing is appended then). */
int bp_sendq_put_copy(struct bp_sendq *q, struct bp_block_pool *pool, const void *data,
                      size_t len) BP_MUST_CHECK;

/* Up to `n` pieces and `limit` bytes that QUIC has not taken yet; returns their number. */
size_t bp_sendq_peek(const struct bp_sendq *q, size_t limit, struct bp_vec *vec, size_t n);

/* QUIC took `len` bytes. */
void bp_sendq_sent(struct bp_sendq *q, size_t len);

/* The peer has everything below stream offset `offset`: releases what is complete. */
void bp_sendq_acked(struct bp_sendq *q, uint64_t offset, struct bp_block_pool *pool,
                    const struct bp_owner_ops *ops);

#endif
