/* SPDX-License-Identifier: Apache-2.0 */
/* The world of the baselines: time, messages, failures, gossip. */
#include "membership/baseline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bl_item {
    bp_peer to;
    bp_peer from;
    uint32_t next_free;
    struct bl_msg msg;
};

void bl_config_default(struct bl_config *c, enum bl_kind kind, uint32_t cap, uint64_t seed)
{
    *c = (struct bl_config){.kind = kind,
                            .cap = cap,
                            .seed = seed,
                            .round = 10 * BP_SEC,
                            .notice_min = BP_SEC / 10,
                            .notice_max = 2 * BP_SEC,
                            .attempt = 2 * BP_SEC,
                            .fanout = 4,
                            .view_size = 35,
                            .walk = 5,
                            .extra_copies = 4,
                            .lease = 20,
                            .heartbeat = 2,
                            .isolated = 5};
}

void bl_init(struct baseline *b, const struct bl_config *c)
{
    *b = (struct baseline){.c = *c, .rng = c->seed, .now = BP_SEC, .free_item = VT_NO_ITEM};
    b->nodes = vt_must(calloc((size_t)c->cap + 1, sizeof(*b->nodes)));
    b->fifo = vt_must(malloc(((size_t)c->cap + 1) * sizeof(*b->fifo)));
    b->hops = vt_must(malloc(((size_t)c->cap + 1) * sizeof(*b->hops)));
}

void bl_free(struct baseline *b)
{
    for (bp_peer p = 1; p <= b->n_started; p++) {
        free(b->nodes[p].view.e);
    }
    vt_free(&b->queue);
    free(b->nodes);
    free(b->items);
    free(b->fifo);
    free(b->hops);
}

uint32_t bl_below(struct baseline *b, uint32_t n)
{
    return bp_hpv_below(&b->rng, n);
}

uint32_t bl_round(const struct baseline *b)
{
    return b->rounds_since == 0 ? 0 : (uint32_t)((b->now - b->rounds_since) / b->c.round);
}

/* --- views ------------------------------------------------------------------------- */

struct bl_entry *bl_view_find(const struct bl_view *v, bp_peer peer)
{
    for (uint32_t i = 0; i < v->n; i++) {
        if (v->e[i].peer == peer) {
            return &v->e[i];
        }
    }
    return NULL;
}

void bl_view_add(struct bl_view *v, bp_peer peer, uint32_t age)
{
    if (v->n == v->cap) {
        v->cap = v->cap != 0 ? v->cap * 2 : 16;
        v->e = vt_must(realloc(v->e, v->cap * sizeof(*v->e)));
    }
    v->e[v->n++] = (struct bl_entry){.peer = peer, .age = age};
}

void bl_view_remove_at(struct bl_view *v, uint32_t i)
{
    v->e[i] = v->e[--v->n];
}

/* --- messages ---------------------------------------------------------------------- */

static void queue(struct baseline *b, bp_time at, bp_peer from, bp_peer to, const struct bl_msg *m)
{
    uint32_t i = b->free_item;
    struct bl_item *it;

    if (i != VT_NO_ITEM) {
        b->free_item = b->items[i].next_free;
    } else {
        if (b->n_items == b->cap_items) {
            b->cap_items = b->cap_items != 0 ? b->cap_items * 2 : 1024;
            b->items = vt_must(realloc(b->items, b->cap_items * sizeof(*b->items)));
        }
        i = b->n_items++;
    }
    it = &b->items[i];
    it->to = to;
    it->from = from;
    memcpy(&it->msg, m, offsetof(struct bl_msg, e) + m->n * sizeof(m->e[0]));
    vt_push(&b->queue, at, i, to);
}

void bl_send(struct baseline *b, bp_peer from, bp_peer to, const struct bl_msg *m)
{
    b->sent[m->kind]++;
    queue(b, b->now + vt_latency(b->c.seed, from, to), from, to, m);
}

static void unacked(struct baseline *b, bp_peer p, bp_peer peer)
{
    struct bl_view *v = &b->nodes[p].view;
    const struct bl_entry *e = bl_view_find(v, peer);

    if (e != NULL) {
        bl_view_remove_at(v, (uint32_t)(e - v->e));
    }
}

static void deliver(struct baseline *b, uint32_t index)
{
    struct bl_item *it = &b->items[index];
    bp_peer to = it->to;
    bp_peer from = it->from;
    struct bl_msg m;

    memcpy(&m, &it->msg, offsetof(struct bl_msg, e) + it->msg.n * sizeof(m.e[0]));
    it->next_free = b->free_item;
    b->free_item = index;
    if (!b->nodes[to].alive) {
        if ((m.kind == BL_SUBSCRIBE || m.kind == BL_FORWARDED) && b->nodes[from].alive) {
            m.returned = true;
            queue(b, b->now + b->c.attempt, to, from, &m);
        }
        return;
    }
    b->events++;
    if (m.returned) {
        scamp_undelivered(b, to, &m);
    } else if (m.kind == BL_UNACKED) {
        unacked(b, to, from);
    } else if (b->c.kind == BL_SCAMP) {
        scamp_recv(b, to, from, &m);
    } else {
        cyclon_recv(b, to, from, &m);
    }
}

void bl_run(struct baseline *b, bp_time until)
{
    while (b->queue.n != 0 && b->queue.heap[0].at <= until) {
        struct vt_slot s = vt_pop(&b->queue);
        b->now = s.at;
        if (s.item != VT_NO_ITEM) {
            deliver(b, s.item);
        } else if (b->nodes[s.node].alive) {
            b->events++;
            if (b->c.kind == BL_SCAMP) {
                scamp_round(b, s.node);
            } else {
                cyclon_round(b, s.node);
            }
            vt_push(&b->queue, b->now + b->c.round, VT_NO_ITEM, s.node);
        }
    }
    b->now = until > b->now ? until : b->now;
}

/* --- nodes ------------------------------------------------------------------------- */

static void begin_rounds(struct baseline *b, bp_peer p)
{
    vt_push(&b->queue, b->now + bp_hpv_rand(&b->rng) % b->c.round, VT_NO_ITEM, p);
}

void bl_begin_rounds(struct baseline *b)
{
    b->rounds_since = b->now;
    for (bp_peer p = 1; p <= b->n_started; p++) {
        begin_rounds(b, p);
    }
}

bp_peer bl_start(struct baseline *b, bp_peer contact)
{
    bp_peer p = ++b->n_started;

    if (p > b->c.cap) {
        fprintf(stderr, "baseline: more nodes than cap\n");
        exit(2);
    }
    b->nodes[p].alive = true;
    b->nodes[p].lease_end = UINT32_MAX;
    b->nodes[p].heard = bl_round(b);
    if (b->rounds_since != 0) {
        begin_rounds(b, p);
    }
    if (contact != BP_PEER_NONE && b->c.kind == BL_SCAMP) {
        scamp_join(b, p, contact);
    } else if (contact != BP_PEER_NONE) {
        cyclon_join(b, p, contact);
    }
    return p;
}

void bl_kill(struct baseline *b, bp_peer peer)
{
    b->nodes[peer].alive = false;
}

uint32_t bl_alive(const struct baseline *b)
{
    uint32_t n = 0;

    for (bp_peer p = 1; p <= b->n_started; p++) {
        n += b->nodes[p].alive;
    }
    return n;
}

bp_peer bl_random_alive(struct baseline *b)
{
    if (bl_alive(b) == 0) {
        fprintf(stderr, "baseline: nobody is alive\n");
        exit(2);
    }
    for (;;) {
        bp_peer p = 1 + bl_below(b, b->n_started);
        if (b->nodes[p].alive) {
            return p;
        }
    }
}

void bl_graph(const struct baseline *b, struct digraph *g)
{
    uint32_t *number = vt_must(calloc((size_t)b->c.cap + 1, sizeof(*number)));
    uint32_t n = 0;

    for (bp_peer p = 1; p <= b->n_started; p++) {
        number[p] = n;
        n += b->nodes[p].alive;
    }
    dg_begin(g, n);
    for (bp_peer p = 1; p <= b->n_started; p++) {
        const struct bl_view *v = &b->nodes[p].view;
        for (uint32_t i = 0; b->nodes[p].alive && i < v->n; i++) {
            if (b->nodes[v->e[i].peer].alive) {
                dg_arc(g, number[p], number[v->e[i].peer]);
            }
        }
    }
    dg_end(g);
    free(number);
}

/* --- gossip ------------------------------------------------------------------------ */

static void missed(struct baseline *b, bp_peer p, struct bl_entry *e)
{
    const struct bl_msg m = {.kind = BL_UNACKED};

    if (b->c.kind == BL_CYCLON_ACKED && !e->suspect) {
        e->suspect = true;
        queue(b,
              b->now + b->c.notice_min + bp_hpv_rand(&b->rng) % (b->c.notice_max - b->c.notice_min),
              e->peer, p, &m);
    }
}

struct bl_gossip bl_gossip(struct baseline *b, bp_peer source)
{
    uint32_t head = 0;
    uint32_t tail = 0;

    memset(b->hops, 0xff, ((size_t)b->n_started + 1) * sizeof(*b->hops));
    b->hops[source] = 0;
    b->fifo[tail++] = source;
    while (head < tail) {
        bp_peer p = b->fifo[head++];
        struct bl_view *v = &b->nodes[p].view;
        for (uint32_t i = 0; i < v->n && i < b->c.fanout; i++) {
            uint32_t k = i + bl_below(b, v->n - i);
            struct bl_entry e = v->e[k];
            v->e[k] = v->e[i];
            v->e[i] = e;
            if (!b->nodes[e.peer].alive) {
                missed(b, p, &v->e[i]);
            } else if (b->hops[e.peer] == UINT32_MAX) {
                b->hops[e.peer] = b->hops[p] + 1;
                b->fifo[tail++] = e.peer;
            }
        }
    }
    return (struct bl_gossip){.reached = tail, .last_hop = b->hops[b->fifo[tail - 1]]};
}
