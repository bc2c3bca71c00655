/* SPDX-License-Identifier: Apache-2.0 */
/* SHUFFLE: a sample of the views walks to a random node, which answers (paper, section 4.4). */
#include "membership/hpv_impl.h"

/* The paper's 8: this node, 3 active, 4 passive peers; other lengths in proportion. */
void bp_hpv_shuffle_send(struct bp_hpv *h)
{
    unsigned others = h->c.shuffle_length - 1;
    unsigned from_active = others * 3 / 7;
    bp_peer to = bp_hpv_view_pick(&h->active, BP_PEER_NONE, BP_PEER_NONE, &h->rng);
    struct bp_hpv_msg *msg;
    unsigned first_passive;

    if (h->left || to == BP_PEER_NONE) {
        return;
    }
    msg = bp_hpv_send(h, to, BP_HPV_SHUFFLE);
    msg->peer = h->c.self;
    msg->ttl = (uint8_t)h->c.arwl;
    msg->peers[msg->n_peers++] = (struct bp_hpv_known){.peer = h->c.self};
    bp_hpv_view_sample(&h->active, from_active, to, true, h->now, &h->rng, msg);
    first_passive = msg->n_peers;
    bp_hpv_view_sample(&h->passive, others - from_active, to, false, h->now, &h->rng, msg);
    h->n_sent = 0;
    for (unsigned i = first_passive; i < msg->n_peers; i++) {
        h->sent[h->n_sent++] = msg->peers[i].peer;
    }
    /* Upstream's nodes answer at every step of the walk. */
    h->replies_due = h->c.arwl + 1;
    h->stats.shuffles++;
}

static void accept(struct bp_hpv *h, bp_peer from, const struct bp_hpv_msg *msg)
{
    struct bp_hpv_msg reply = {.kind = BP_HPV_SHUFFLE_REPLY};
    bp_peer given[BP_HPV_SHUFFLE_MAX];

    h->stats.shuffles_accepted++;
    bp_hpv_view_sample(&h->passive, msg->n_peers, msg->peer, false, h->now, &h->rng, &reply);
    for (unsigned i = 0; i < reply.n_peers; i++) {
        given[i] = reply.peers[i].peer;
    }
    bp_hpv_integrate(h, msg, given, reply.n_peers);
    if (reply.n_peers == 0) {
        return;
    }
    if (msg->peer == from || bp_hpv_view_find(&h->active, msg->peer) != NULL) {
        *bp_hpv_send(h, msg->peer, BP_HPV_SHUFFLE_REPLY) = reply;
    } else {
        bp_hpv_reply_queue(h, msg->peer, &reply);
    }
}

void bp_hpv_on_shuffle(struct bp_hpv *h, bp_peer from, const struct bp_hpv_msg *msg)
{
    unsigned ttl = msg->ttl < h->c.arwl ? msg->ttl : h->c.arwl;
    bp_peer next = BP_PEER_NONE;

    if (!bp_hpv_link_check(h, from) || h->left || msg->peer == h->c.self || !bp_hpv_spend(h, 1)) {
        return;
    }
    if (ttl > 1 && h->active.n > 1) {
        next = bp_hpv_view_pick(&h->active, from, msg->peer, &h->rng);
    }
    if (next == BP_PEER_NONE) {
        accept(h, from, msg);
        return;
    }
    struct bp_hpv_msg *on = bp_hpv_send(h, next, BP_HPV_SHUFFLE);
    *on = *msg;
    on->ttl = (uint8_t)(ttl - 1);
}
