/* SPDX-License-Identifier: Apache-2.0 */
/* Cyclon with the enhanced shuffle: the oldest neighbour is asked, and forgotten until it answers.
 */
#include <string.h>

#include "membership/baseline.h"

void cyclon_join(struct baseline *b, bp_peer p, bp_peer contact)
{
    const struct bl_msg m = {.kind = BL_JOIN};

    bl_send(b, p, contact, &m);
}

/* `n` random entries come first. */
static void shuffle_up(struct baseline *b, struct bl_view *v, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t k = i + bl_below(b, v->n - i);
        struct bl_entry t = v->e[i];
        v->e[i] = v->e[k];
        v->e[k] = t;
    }
}

/* Appends up to `room` random entries of the view. */
static void offer(struct baseline *b, struct bl_view *v, struct bl_msg *m, uint32_t room)
{
    uint32_t n = v->n < room ? v->n : room;

    shuffle_up(b, v, n);
    memcpy(&m->e[m->n], v->e, n * sizeof(v->e[0]));
    m->n += n;
}

void cyclon_round(struct baseline *b, bp_peer p)
{
    struct bl_node *n = &b->nodes[p];
    struct bl_msg m = {.kind = BL_SHUFFLE, .n = 1, .e = {{.peer = p}}};
    uint32_t oldest = 0;

    if (n->view.n == 0) {
        return;
    }
    for (uint32_t i = 0; i < n->view.n; i++) {
        n->view.e[i].age++;
        oldest = n->view.e[i].age > n->view.e[oldest].age ? i : oldest;
    }
    n->asked = n->view.e[oldest].peer;
    bl_view_remove_at(&n->view, oldest);
    offer(b, &n->view, &m, BL_ENTRIES - 1);
    n->n_sent = m.n - 1;
    memcpy(n->sent, &m.e[1], n->n_sent * sizeof(m.e[0]));
    bl_send(b, p, n->asked, &m);
}

/* Empty places first, then those of entries that the other node has now. */
static void take(struct baseline *b, bp_peer p, const struct bl_entry *e, uint32_t n,
                 const struct bl_entry *sent, uint32_t n_sent)
{
    struct bl_view *v = &b->nodes[p].view;

    for (uint32_t i = 0; i < n; i++) {
        struct bl_entry *old = NULL;
        if (e[i].peer == p || bl_view_find(v, e[i].peer) != NULL) {
            continue;
        }
        if (v->n < b->c.view_size) {
            bl_view_add(v, e[i].peer, e[i].age);
            continue;
        }
        while (old == NULL && n_sent != 0) {
            old = bl_view_find(v, sent[--n_sent].peer);
        }
        if (old == NULL) {
            return;
        }
        *old = (struct bl_entry){.peer = e[i].peer, .age = e[i].age};
    }
}

/* The newcomer takes a random entry's place, and gets that entry. */
static void end_walk(struct baseline *b, bp_peer p, bp_peer newcomer)
{
    struct bl_view *v = &b->nodes[p].view;
    struct bl_msg m = {.kind = BL_SHUFFLE_REPLY, .n = 1, .e = {{.peer = p}}};

    if (newcomer == p || bl_view_find(v, newcomer) != NULL) {
        b->lost_walks++;
        return;
    }
    if (v->n >= b->c.view_size) {
        uint32_t i = bl_below(b, v->n);
        m.e[0] = v->e[i];
        bl_view_remove_at(v, i);
    }
    bl_view_add(v, newcomer, 0);
    bl_send(b, p, newcomer, &m);
}

static void walk(struct baseline *b, bp_peer p, bp_peer newcomer, uint32_t steps)
{
    const struct bl_view *v = &b->nodes[p].view;
    const struct bl_msg m = {
        .kind = BL_WALK, .steps = steps - 1, .n = 1, .e = {{.peer = newcomer}}};
    uint32_t others = v->n - (bl_view_find(v, newcomer) != NULL);
    bp_peer to;

    if (steps == 0 || others == 0) {
        end_walk(b, p, newcomer);
        return;
    }
    do {
        to = v->e[bl_below(b, v->n)].peer;
    } while (to == newcomer);
    bl_send(b, p, to, &m);
}

void cyclon_recv(struct baseline *b, bp_peer p, bp_peer from, const struct bl_msg *m)
{
    struct bl_node *n = &b->nodes[p];
    struct bl_msg reply = {.kind = BL_SHUFFLE_REPLY};

    switch (m->kind) {
    case BL_JOIN:
        for (unsigned i = 0; i < b->c.view_size; i++) {
            walk(b, p, from, b->c.walk);
        }
        break;
    case BL_WALK:
        walk(b, p, m->e[0].peer, m->steps);
        break;
    case BL_SHUFFLE:
        offer(b, &n->view, &reply, BL_ENTRIES);
        bl_send(b, p, from, &reply);
        take(b, p, m->e, m->n, reply.e, reply.n);
        break;
    case BL_SHUFFLE_REPLY:
        take(b, p, m->e, m->n, n->sent, from == n->asked ? n->n_sent : 0);
        if (from == n->asked) {
            n->asked = BP_PEER_NONE;
        }
        break;
    case BL_SUBSCRIBE:
    case BL_FORWARDED:
    case BL_HEARTBEAT:
    case BL_UNACKED:
    case BL_N_MSG_KINDS:
        break;
    }
}
