/* SPDX-License-Identifier: Apache-2.0 */
/* When which peer wants to be looked at: a binary heap. */
#include "cnode/cn.h"

#include <stdlib.h>

int cn_timers_reserve(struct cn_timers *t, size_t n)
{
    size_t cap = t->cap != 0 ? t->cap : 64;
    struct cn_peer **heap;

    if (n + 1 <= t->cap) {
        return 0;
    }
    while (cap < n + 1) {
        cap *= 2;
    }
    heap = realloc(t->heap, cap * sizeof(*heap));
    if (heap == NULL) {
        return BP_E_NOMEM;
    }
    t->heap = heap;
    t->cap = cap;
    return 0;
}

void cn_timers_free(struct cn_timers *t)
{
    free(t->heap);
    *t = (struct cn_timers){0};
}

static void put(struct cn_timers *t, size_t i, struct cn_peer *p)
{
    t->heap[i] = p;
    p->heap_at = i;
}

static void up(struct cn_timers *t, size_t i)
{
    struct cn_peer *p = t->heap[i];

    while (i > 1 && t->heap[i / 2]->due > p->due) {
        put(t, i, t->heap[i / 2]);
        i /= 2;
    }
    put(t, i, p);
}

static void down(struct cn_timers *t, size_t i)
{
    struct cn_peer *p = t->heap[i];

    for (;;) {
        size_t child = 2 * i;
        if (child > t->n) {
            break;
        }
        if (child < t->n && t->heap[child + 1]->due < t->heap[child]->due) {
            child++;
        }
        if (t->heap[child]->due >= p->due) {
            break;
        }
        put(t, i, t->heap[child]);
        i = child;
    }
    put(t, i, p);
}

void cn_timers_set(struct cn_timers *t, struct cn_peer *p, bp_time due)
{
    size_t i = p->heap_at;
    bp_time was = p->due;

    p->due = due;
    if (due == BP_TIME_NEVER) {
        if (i != 0) {
            struct cn_peer *last = t->heap[t->n--];
            p->heap_at = 0;
            if (last != p) {
                put(t, i, last);
                up(t, i);
                down(t, last->heap_at);
            }
        }
        return;
    }
    if (i == 0) {
        put(t, ++t->n, p);
        up(t, t->n);
    } else if (due < was) {
        up(t, i);
    } else {
        down(t, i);
    }
}

bp_time cn_timers_first(const struct cn_timers *t)
{
    return t->n > 0 ? t->heap[1]->due : BP_TIME_NEVER;
}
