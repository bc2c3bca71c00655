/* SPDX-License-Identifier: Apache-2.0 */
/* Send buffer of one stream: ranges held until acknowledged. */
#include "quic/sendq.h"

#include "base/err.h"

#include <string.h>

#define FIRST_CAP 8u

void bp_block_pool_init(struct bp_block_pool *p, const struct bp_mem *mem)
{
    *p = (struct bp_block_pool){.mem = mem};
}

static void block_unref(struct bp_block_pool *p, struct bp_block *b)
{
    if (b != NULL && --b->refs == 0) {
        p->n_blocks--;
        p->mem->release(p->mem->ctx, b);
    }
}

void bp_block_pool_trim(struct bp_block_pool *p)
{
    if (p->cur != NULL && p->cur->refs == 1) {
        block_unref(p, p->cur);
        p->cur = NULL;
    }
}

void bp_block_pool_free(struct bp_block_pool *p)
{
    block_unref(p, p->cur);
    p->cur = NULL;
}

/* A block with at least one free byte, as the pool's current one. */
static struct bp_block *block_with_room(struct bp_block_pool *p)
{
    struct bp_block *b = p->cur;

    if (b != NULL && b->refs == 1) {
        b->used = 0; /* nobody else reads it */
    }
    if (b != NULL && b->used < BP_BLOCK_SIZE) {
        return b;
    }
    b = p->mem->alloc(p->mem->ctx, sizeof(*b));
    if (b == NULL) {
        return NULL;
    }
    b->refs = 1;
    b->used = 0;
    p->n_blocks++;
    block_unref(p, p->cur);
    p->cur = b;
    return b;
}

void bp_sendq_init(struct bp_sendq *q)
{
    *q = (struct bp_sendq){0};
}

static struct bp_seg *seg_at(const struct bp_sendq *q, uint32_t i)
{
    return &q->ring[i & (q->cap - 1)];
}

static void seg_release(struct bp_seg *s, struct bp_block_pool *pool,
                        const struct bp_owner_ops *ops)
{
    if (s->owner != NULL) {
        ops->release(ops->ctx, s->owner);
    }
    block_unref(pool, s->block);
}

void bp_sendq_free(struct bp_sendq *q, struct bp_block_pool *pool, const struct bp_owner_ops *ops)
{
    for (uint32_t i = q->head; i != q->tail; i++) {
        seg_release(seg_at(q, i), pool, ops);
    }
    pool->mem->release(pool->mem->ctx, q->ring);
    bp_sendq_init(q);
}

/* Room for `n` more segments. */
static int reserve(struct bp_sendq *q, const struct bp_mem *mem, uint32_t n)
{
    uint32_t used = q->tail - q->head;
    uint32_t cap = q->cap != 0 ? q->cap : FIRST_CAP;
    struct bp_seg *ring;

    while (cap < used + n) {
        if (cap > UINT32_MAX / 4) {
            return BP_E_NOMEM;
        }
        cap *= 2;
    }
    if (cap == q->cap) {
        return 0;
    }
    ring = mem->alloc(mem->ctx, sizeof(*ring) * cap);
    if (ring == NULL) {
        return BP_E_NOMEM;
    }
    for (uint32_t i = 0; i < used; i++) {
        ring[i] = *seg_at(q, q->head + i);
    }
    mem->release(mem->ctx, q->ring);
    q->next -= q->head;
    q->head = 0;
    q->tail = used;
    q->ring = ring;
    q->cap = cap;
    return 0;
}

int bp_sendq_put_owned(struct bp_sendq *q, const struct bp_mem *mem, const uint8_t *base,
                       size_t len, void *owner)
{
    int rc = reserve(q, mem, 1);

    if (rc != 0) {
        return rc;
    }
    *seg_at(q, q->tail) = (struct bp_seg){.base = base, .len = len, .owner = owner};
    q->tail++;
    q->end += len;
    return 0;
}

/* Whether `len` more bytes at `base` of block `b` continue the last segment. */
static bool extends_tail(const struct bp_sendq *q, const struct bp_block *b, const uint8_t *base)
{
    const struct bp_seg *s;

    if (q->tail == q->head) {
        return false;
    }
    s = seg_at(q, q->tail - 1);
    return s->block == b && s->base + s->len == base;
}

int bp_sendq_put_copy(struct bp_sendq *q, struct bp_block_pool *pool, const void *data, size_t len)
{
    const uint8_t *p = data;
    /* At most this many blocks are touched; reserving first means that only the first block can
     * fail half-way, and pieces of a failed copy are taken back. */
    uint32_t tail = q->tail;
    uint64_t end = q->end;
    int rc = reserve(q, pool->mem, (uint32_t)(len / BP_BLOCK_SIZE) + 2);

    if (rc != 0) {
        return rc;
    }
    while (len > 0) {
        struct bp_block *b = block_with_room(pool);
        size_t n;
        uint8_t *dst;

        if (b == NULL) {
            while (q->tail != tail) {
                block_unref(pool, seg_at(q, --q->tail)->block);
            }
            /* A merged first piece stays as bytes of the block, not of the stream. */
            if (q->tail != q->head && q->end != end) {
                struct bp_seg *s = seg_at(q, q->tail - 1);
                uint64_t held = q->head_offset;
                for (uint32_t i = q->head; i != q->tail; i++) {
                    held += seg_at(q, i)->len;
                }
                s->len -= (size_t)(held - end);
            }
            q->end = end;
            return BP_E_NOMEM;
        }
        n = BP_BLOCK_SIZE - b->used < len ? BP_BLOCK_SIZE - b->used : len;
        dst = b->data + b->used;
        memcpy(dst, p, n);
        b->used += (uint32_t)n;
        if (extends_tail(q, b, dst)) {
            seg_at(q, q->tail - 1)->len += n;
        } else {
            *seg_at(q, q->tail) = (struct bp_seg){.base = dst, .len = n, .block = b};
            b->refs++;
            q->tail++;
        }
        q->end += n;
        p += n;
        len -= n;
    }
    return 0;
}

size_t bp_sendq_peek(const struct bp_sendq *q, size_t limit, struct bp_vec *vec, size_t n)
{
    size_t used = 0;
    size_t off = q->next_off;

    for (uint32_t i = q->next; i != q->tail && used < n && limit > 0; i++) {
        const struct bp_seg *s = seg_at(q, i);
        size_t left = s->len - off;

        if (left > 0) {
            vec[used].base = s->base + off;
            vec[used].len = left < limit ? left : limit;
            limit -= vec[used].len;
            used++;
        }
        off = 0;
    }
    return used;
}

void bp_sendq_sent(struct bp_sendq *q, size_t len)
{
    q->sent += len;
    while (q->next != q->tail) {
        size_t left = seg_at(q, q->next)->len - q->next_off;

        if (len < left) {
            q->next_off += len;
            return;
        }
        len -= left;
        /* The last segment may still grow: stay at its end. */
        if (q->next + 1 == q->tail && len == 0) {
            q->next_off += left;
            return;
        }
        q->next++;
        q->next_off = 0;
    }
}

void bp_sendq_acked(struct bp_sendq *q, uint64_t offset, struct bp_block_pool *pool,
                    const struct bp_owner_ops *ops)
{
    if (offset > q->sent) {
        offset = q->sent;
    }
    if (offset <= q->acked) {
        return;
    }
    q->acked = offset;
    while (q->head != q->tail) {
        struct bp_seg *s = seg_at(q, q->head);

        if (q->head_offset + s->len > offset) {
            return;
        }
        if (q->next == q->head) {
            q->next++;
            q->next_off = 0;
        }
        q->head_offset += s->len;
        seg_release(s, pool, ops);
        q->head++;
    }
}
