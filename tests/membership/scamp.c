/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scamp: subscriptions that random nodes keep, so that views grow with the logarithm of the group.
 * The contact is a random node (what the paper's indirection is for). A subscription has a lease:
 * who keeps it drops it at its end, when the subscriber subscribes again through somebody in its
 * view. Without the extra copies then: with them views would grow by c with each lease.
 */
#include "membership/baseline.h"

#define STEPS_MAX                                                                                  \
    2000u /* of a forwarded subscription; its place is found after a view's size on average */

static void subscribe(struct baseline *b, bp_peer p, bp_peer contact, unsigned extra)
{
    struct bl_node *n = &b->nodes[p];
    struct bl_msg m = {.kind = BL_SUBSCRIBE, .steps = extra, .n = 1, .e = {{.peer = p}}};

    /* Leases that begin together end apart. */
    n->lease_end =
        b->c.lease == 0 ? UINT32_MAX : bl_round(b) + b->c.lease / 2 + bl_below(b, b->c.lease + 1);
    n->heard = bl_round(b);
    m.e[0].age = n->lease_end;
    bl_send(b, p, contact, &m);
}

void scamp_join(struct baseline *b, bp_peer p, bp_peer contact)
{
    bl_view_add(&b->nodes[p].view, contact,
                b->c.lease == 0 ? UINT32_MAX : bl_round(b) + b->c.lease);
    subscribe(b, p, contact, b->c.extra_copies);
}

void scamp_round(struct baseline *b, bp_peer p)
{
    struct bl_node *n = &b->nodes[p];
    struct bl_view *v = &n->view;
    uint32_t now = bl_round(b);

    /* The last one stays: nobody could be asked without it. */
    for (uint32_t i = v->n; i-- != 0;) {
        if (v->e[i].age <= now && v->n > 1) {
            bl_view_remove_at(v, i);
        }
    }
    if (v->n == 0) {
        return;
    }
    if (now - n->beat >= b->c.heartbeat) {
        const struct bl_msg m = {.kind = BL_HEARTBEAT};
        n->beat = now;
        for (uint32_t i = 0; i < v->n; i++) {
            bl_send(b, p, v->e[i].peer, &m);
        }
    }
    if (n->lease_end <= now || now - n->heard >= b->c.isolated) {
        subscribe(b, p, v->e[bl_below(b, v->n)].peer, 0);
    }
}

static void forward(struct baseline *b, bp_peer p, const struct bl_msg *m)
{
    const struct bl_view *v = &b->nodes[p].view;
    struct bl_msg next = *m;

    if (v->n == 0 || ++next.steps > STEPS_MAX) {
        b->lost_walks++;
        return;
    }
    bl_send(b, p, v->e[bl_below(b, v->n)].peer, &next);
}

static void keep_or_forward(struct baseline *b, bp_peer p, const struct bl_msg *m)
{
    struct bl_view *v = &b->nodes[p].view;
    struct bl_entry *e = bl_view_find(v, m->e[0].peer);
    bool expired = e != NULL && e->age <= bl_round(b);

    if (p == m->e[0].peer || (e != NULL && !expired) || bl_below(b, v->n + 1) != 0) {
        forward(b, p, m);
    } else if (expired) {
        e->age = m->e[0].age;
    } else {
        bl_view_add(v, m->e[0].peer, m->e[0].age);
    }
}

static void spread_subscription(struct baseline *b, bp_peer p, const struct bl_msg *m)
{
    const struct bl_view *v = &b->nodes[p].view;
    const struct bl_msg copy = {.kind = BL_FORWARDED, .n = 1, .e = {m->e[0]}};

    if (v->n == 0) {
        bl_view_add(&b->nodes[p].view, m->e[0].peer, m->e[0].age);
        return;
    }
    for (uint32_t i = 0; i < v->n; i++) {
        bl_send(b, p, v->e[i].peer, &copy);
    }
    for (uint32_t i = 0; i < m->steps; i++) {
        bl_send(b, p, v->e[bl_below(b, v->n)].peer, &copy);
    }
}

void scamp_undelivered(struct baseline *b, bp_peer p, const struct bl_msg *m)
{
    const struct bl_view *v = &b->nodes[p].view;
    struct bl_msg again = *m;

    again.returned = false;
    if (m->kind == BL_FORWARDED) {
        forward(b, p, &again);
    } else if (v->n != 0 && m->e[0].age == b->nodes[p].lease_end) {
        bl_send(b, p, v->e[bl_below(b, v->n)].peer, &again);
    }
}

void scamp_recv(struct baseline *b, bp_peer p, bp_peer from, const struct bl_msg *m)
{
    (void)from;
    switch (m->kind) {
    case BL_SUBSCRIBE:
        spread_subscription(b, p, m);
        break;
    case BL_FORWARDED:
        keep_or_forward(b, p, m);
        break;
    case BL_HEARTBEAT:
        b->nodes[p].heard = bl_round(b);
        break;
    case BL_JOIN:
    case BL_WALK:
    case BL_SHUFFLE:
    case BL_SHUFFLE_REPLY:
    case BL_UNACKED:
    case BL_N_MSG_KINDS:
        break;
    }
}
