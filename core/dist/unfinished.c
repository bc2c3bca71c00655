/* SPDX-License-Identifier: Apache-2.0 */
/* Account of unfinished frames and fragmented messages. */
#include "dist/unfinished.h"

#include "auth/identity.h"
#include "base/err.h"

#define FIRST_CAP 16u

struct bp_unfinished_seq {
    uint64_t id;
    uint64_t bytes; /* 0: the place is free */
};

void bp_unfinished_init(struct bp_unfinished *u, const struct bp_mem *mem, uint64_t max_bytes)
{
    *u = (struct bp_unfinished){.mem = mem, .max_bytes = max_bytes};
}

void bp_unfinished_free(struct bp_unfinished *u)
{
    u->mem->release(u->mem->ctx, u->seqs);
    bp_unfinished_init(u, u->mem, u->max_bytes);
}

int bp_unfinished_add(struct bp_unfinished *u, uint64_t n)
{
    if (u->bytes > u->max_bytes || n > u->max_bytes - u->bytes) {
        return BP_E_UNFINISHED;
    }
    u->bytes += n;
    return 0;
}

void bp_unfinished_sub(struct bp_unfinished *u, uint64_t n)
{
    u->bytes -= n < u->bytes ? n : u->bytes;
}

/* --- fragmented messages ------------------------------------------------- */

static size_t home_of(const struct bp_unfinished *u, uint64_t id)
{
    uint64_t h = (id ^ u->seed) * UINT64_C(0x9e3779b97f4a7c15);

    h = (h ^ h >> 32 ^ u->seed >> 16) * UINT64_C(0xd6e8feb86659fd93);
    return (size_t)(h >> 32) & (u->cap - 1);
}

/* The place of `id`, or the free one where it would go. There is always one: see grow. */
static struct bp_unfinished_seq *find(const struct bp_unfinished *u, uint64_t id)
{
    size_t i = home_of(u, id);

    while (u->seqs[i].bytes != 0 && u->seqs[i].id != id) {
        i = (i + 1) & (u->cap - 1);
    }
    return &u->seqs[i];
}

static int grow(struct bp_unfinished *u)
{
    struct bp_unfinished old = *u;

    if (u->n * 2 < u->cap) {
        return 0;
    }
    if (u->n >= BP_UNFINISHED_MAX) {
        return BP_E_UNFINISHED;
    }
    if (u->cap == 0) {
        int rc = bp_random(&u->seed, sizeof(u->seed));
        if (rc != 0) {
            return rc;
        }
    }
    u->cap = old.cap != 0 ? old.cap * 2 : FIRST_CAP;
    u->seqs = bp_mem_zalloc(u->mem, u->cap, sizeof(*u->seqs));
    if (u->seqs == NULL) {
        u->seqs = old.seqs;
        u->cap = old.cap;
        return BP_E_NOMEM;
    }
    for (size_t i = 0; i < old.cap; i++) {
        if (old.seqs[i].bytes != 0) {
            *find(u, old.seqs[i].id) = old.seqs[i];
        }
    }
    u->mem->release(u->mem->ctx, old.seqs);
    return 0;
}

/* Frees a place, and closes the gap: who follows may have wanted it. */
static void remove_seq(struct bp_unfinished *u, struct bp_unfinished_seq *s)
{
    size_t gap = (size_t)(s - u->seqs);
    size_t mask = u->cap - 1;

    for (size_t i = (gap + 1) & mask; u->seqs[i].bytes != 0; i = (i + 1) & mask) {
        size_t home = home_of(u, u->seqs[i].id);
        if (((i - home) & mask) >= ((i - gap) & mask)) {
            u->seqs[gap] = u->seqs[i];
            gap = i;
        }
    }
    u->seqs[gap].bytes = 0;
    u->n--;
}

int bp_unfinished_fragment(struct bp_unfinished *u, uint64_t seq, uint64_t frag, bool first,
                           uint64_t len)
{
    uint64_t cost = len;
    struct bp_unfinished_seq *s = u->cap != 0 ? find(u, seq) : NULL;
    bool known = s != NULL && s->bytes != 0;
    int rc;

    if (frag == 1) {
        if (known) {
            bp_unfinished_sub(u, s->bytes);
            remove_seq(u, s);
        }
        return 0;
    }
    if (!known && !first) {
        return 0;
    }
    if (!known) {
        if (frag > u->max_bytes / BP_UNFINISHED_PER_FRAGMENT) {
            return BP_E_UNFINISHED;
        }
        cost += frag * BP_UNFINISHED_PER_FRAGMENT;
        rc = grow(u);
        if (rc != 0) {
            return rc;
        }
        s = find(u, seq);
    }
    rc = bp_unfinished_add(u, cost);
    if (rc != 0) {
        return rc;
    }
    if (!known) {
        s->id = seq;
        u->n++;
    }
    s->bytes += cost;
    return 0;
}
