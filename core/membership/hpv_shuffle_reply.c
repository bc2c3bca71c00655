/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SHUFFLE_REPLY: the other half of a shuffle, to its originator only. Mostly there is no channel to
 * it: at most BP_HPV_REPLIES temporary ones at a time, given back at once; beyond, no reply.
 */
#include "membership/hpv_impl.h"

void bp_hpv_reply_queue(struct bp_hpv *h, bp_peer to, const struct bp_hpv_msg *msg)
{
    struct bp_hpv_pending_reply *slot = NULL;

    for (unsigned i = 0; i < BP_HPV_REPLIES; i++) {
        if (h->replies[i].peer == to) {
            slot = NULL;
            break;
        }
        if (h->replies[i].peer == BP_PEER_NONE) {
            slot = &h->replies[i];
        }
    }
    if (slot == NULL) {
        h->stats.dropped_replies_full++;
        return;
    }
    *slot = (struct bp_hpv_pending_reply){
        .peer = to, .deadline = h->now + h->c.pending_timeout, .msg = *msg};
    h->stats.temporary_channels++;
    (void)bp_hpv_emit(h, BP_HPV_CONNECT, to);
}

static struct bp_hpv_pending_reply *find(struct bp_hpv *h, bp_peer peer)
{
    for (unsigned i = 0; i < BP_HPV_REPLIES; i++) {
        if (h->replies[i].peer == peer) {
            return &h->replies[i];
        }
    }
    return NULL;
}

void bp_hpv_reply_connected(struct bp_hpv *h, bp_peer peer)
{
    struct bp_hpv_pending_reply *r = find(h, peer);

    if (r != NULL) {
        *bp_hpv_send(h, peer, BP_HPV_SHUFFLE_REPLY) = r->msg;
        r->peer = BP_PEER_NONE;
        bp_hpv_release(h, peer);
    }
}

void bp_hpv_reply_failed(struct bp_hpv *h, bp_peer peer)
{
    struct bp_hpv_pending_reply *r = find(h, peer);

    if (r != NULL) {
        r->peer = BP_PEER_NONE;
    }
}

void bp_hpv_replies_expire(struct bp_hpv *h)
{
    for (unsigned i = 0; i < BP_HPV_REPLIES; i++) {
        struct bp_hpv_pending_reply *r = &h->replies[i];
        if (r->peer != BP_PEER_NONE && r->deadline <= h->now) {
            bp_peer peer = r->peer;
            r->peer = BP_PEER_NONE;
            bp_hpv_release(h, peer);
        }
    }
}

void bp_hpv_on_shuffle_reply(struct bp_hpv *h, const struct bp_hpv_msg *msg)
{
    if (h->left || h->replies_due == 0) {
        h->stats.dropped_unexpected++;
        return;
    }
    h->replies_due--;
    bp_hpv_integrate(h, msg, h->sent, h->n_sent);
}
