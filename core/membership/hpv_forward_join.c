/* SPDX-License-Identifier: Apache-2.0 */
/* FORWARD_JOIN: a newcomer's random walk through the overlay (paper, section 4.2). */
#include "membership/hpv_impl.h"

/* The paper adds the newcomer here at once; we ask it, so that both ends have the link. Low
 * priority: a newcomer that has all its links already refuses. */
static void walk_end(struct bp_hpv *h, bp_peer newcomer)
{
    h->stats.walks_ended++;
    if (bp_hpv_view_find(&h->active, newcomer) != NULL ||
        bp_hpv_attempt_find(h, newcomer) != NULL) {
        return;
    }
    if (!bp_hpv_attempt_start(h, newcomer, BP_HPV_WANT_WALK)) {
        bp_hpv_passive_add(h, newcomer, h->now, NULL, 0);
    }
}

void bp_hpv_on_forward_join(struct bp_hpv *h, bp_peer from, const struct bp_hpv_msg *msg)
{
    unsigned ttl = msg->ttl < h->c.arwl ? msg->ttl : h->c.arwl;
    bp_peer next;

    /* The newcomer's walk goes on in any case. */
    (void)bp_hpv_link_check(h, from);
    if (h->left || msg->peer == h->c.self || !bp_hpv_spend(h, 1)) {
        return;
    }
    if (ttl == 0 || h->active.n <= 1) {
        walk_end(h, msg->peer);
        return;
    }
    if (ttl == h->c.prwl) {
        bp_hpv_passive_add(h, msg->peer, h->now, NULL, 0);
    }
    next = bp_hpv_view_pick(&h->active, from, msg->peer, &h->rng);
    if (next == BP_PEER_NONE) {
        walk_end(h, msg->peer);
        return;
    }
    struct bp_hpv_msg *on = bp_hpv_send(h, next, BP_HPV_FORWARD_JOIN);
    on->peer = msg->peer;
    on->ttl = (uint8_t)(ttl - 1);
}
