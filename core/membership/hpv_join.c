/* SPDX-License-Identifier: Apache-2.0 */
/* JOIN: a newcomer asks a contact to take it in (paper, section 4.2, algorithm 1). */
#include "membership/hpv_impl.h"

/* The channel to the contact is up. It takes every newcomer: the link exists with the message. */
void bp_hpv_join_start(struct bp_hpv *h, struct bp_hpv_attempt *a)
{
    bp_peer contact = a->peer;

    (void)bp_hpv_send(h, contact, BP_HPV_JOIN);
    bp_hpv_link_add(h, contact);
}

void bp_hpv_on_join(struct bp_hpv *h, bp_peer from)
{
    /* A refusal makes it try again later, or somebody else. */
    if (h->left || !bp_hpv_spend(h, 1 + h->active.n)) {
        (void)bp_hpv_send(h, from, BP_HPV_DISCONNECT);
        bp_hpv_link_drop(h, from, BP_HPV_GRACEFUL);
        return;
    }
    h->stats.joins++;
    bp_hpv_link_add(h, from);
    for (uint32_t i = 0; i < h->active.n; i++) {
        if (h->active.e[i].peer != from) {
            struct bp_hpv_msg *msg = bp_hpv_send(h, h->active.e[i].peer, BP_HPV_FORWARD_JOIN);
            msg->peer = from;
            msg->ttl = (uint8_t)h->c.arwl;
        }
    }
}
