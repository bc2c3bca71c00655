/* SPDX-License-Identifier: Apache-2.0 */
/* Links of this node: who enters and leaves its views, and with whose knowledge. */
#include "membership/hpv_impl.h"

/* Paper, dropRandomElementFromActiveView. */
static void evict(struct bp_hpv *h)
{
    bp_peer peer = bp_hpv_view_pick(&h->active, BP_PEER_NONE, BP_PEER_NONE, &h->rng);

    (void)bp_hpv_send(h, peer, BP_HPV_DISCONNECT);
    bp_hpv_link_drop(h, peer, BP_HPV_DROPPED);
    bp_hpv_passive_add(h, peer, h->now, NULL, 0);
    h->stats.evictions++;
}

void bp_hpv_link_add(struct bp_hpv *h, bp_peer peer)
{
    const struct bp_hpv_entry e = {.peer = peer, .seen = h->now};

    if (bp_hpv_view_find(&h->active, peer) != NULL) {
        return;
    }
    bp_hpv_attempt_remove(h, peer);
    (void)bp_hpv_view_remove(&h->passive, peer);
    if (bp_hpv_view_remove(&h->lost, peer)) {
        h->stats.found_again++;
    }
    if (h->active.n >= h->active.cap) {
        evict(h);
    }
    (void)bp_hpv_view_add(&h->active, &e);
    (void)bp_hpv_emit(h, BP_HPV_PEER_UP, peer);
    if (!h->joined) {
        h->joined = true;
        (void)bp_hpv_emit(h, BP_HPV_JOINED, BP_PEER_NONE);
    }
    bp_hpv_churned(h);
}

void bp_hpv_link_drop(struct bp_hpv *h, bp_peer peer, enum bp_hpv_reason reason)
{
    if (bp_hpv_view_remove(&h->active, peer)) {
        bp_hpv_emit(h, BP_HPV_PEER_DOWN, peer)->reason = reason;
        bp_hpv_churned(h);
    }
}

void bp_hpv_link_deny(struct bp_hpv *h, bp_peer peer)
{
    (void)bp_hpv_send(h, peer, BP_HPV_DISCONNECT);
    h->stats.one_sided++;
}

bool bp_hpv_link_check(struct bp_hpv *h, bp_peer hop)
{
    const struct bp_hpv_attempt *a;

    if (bp_hpv_view_find(&h->active, hop) != NULL) {
        return true;
    }
    /* Its agreement to our NEIGHBOR may be under way: DISCONNECT could pass it on the other side.
     */
    a = bp_hpv_attempt_find(h, hop);
    if (a != NULL && a->asked) {
        return true;
    }
    bp_hpv_link_deny(h, hop);
    return false;
}

void bp_hpv_passive_add(struct bp_hpv *h, bp_peer peer, bp_time seen, const bp_peer *sent,
                        unsigned n_sent)
{
    const struct bp_hpv_entry e = {.peer = peer, .seen = seen};
    struct bp_hpv_entry *known;

    if (peer == h->c.self || peer == BP_PEER_NONE || bp_hpv_view_find(&h->active, peer) != NULL) {
        return;
    }
    known = bp_hpv_view_find(&h->lost, peer);
    if (known != NULL) {
        /* Others were in touch with it long after we lost it: ask it again soon. */
        if (seen > known->seen + h->c.pending_timeout && known->not_before > h->now) {
            known->seen = seen;
            known->not_before = h->now;
        }
        return;
    }
    known = bp_hpv_view_find(&h->passive, peer);
    if (known != NULL) {
        if (seen > known->seen) {
            known->seen = seen;
        }
        return;
    }
    if (!bp_hpv_view_add(&h->passive, &e)) {
        h->passive.e[bp_hpv_view_victim(&h->passive, sent, n_sent, &h->rng)] = e;
        h->stats.passive_replaced++;
    }
}

void bp_hpv_integrate(struct bp_hpv *h, const struct bp_hpv_msg *msg, const bp_peer *sent,
                      unsigned n_sent)
{
    for (unsigned i = 0; i < msg->n_peers; i++) {
        bp_time age = msg->peers[i].age_ms * BP_MS;
        if (msg->peers[i].age_ms == BP_HPV_AGE_UNKNOWN) {
            age = h->c.passive_max_age / 2;
        }
        if (age < h->c.passive_max_age) {
            bp_hpv_passive_add(h, msg->peers[i].peer, h->now > age ? h->now - age : 0, sent,
                               n_sent);
        }
    }
}

void bp_hpv_heard(struct bp_hpv *h, bp_peer peer)
{
    struct bp_hpv_entry *e = bp_hpv_view_find(&h->passive, peer);

    if (bp_hpv_view_remove(&h->lost, peer)) {
        bp_hpv_passive_add(h, peer, h->now, NULL, 0);
        h->stats.found_again++;
    } else if (e != NULL) {
        e->seen = h->now;
        if (e->fails != 0) {
            e->fails = 0;
            e->not_before = h->now;
        }
    }
}

void bp_hpv_lost_add(struct bp_hpv *h, bp_peer peer, bool by_link)
{
    struct bp_hpv_entry e = {.peer = peer, .seen = h->now};

    if (h->left || bp_hpv_view_find(&h->lost, peer) != NULL) {
        return;
    }
    e.not_before = h->now + bp_hpv_backoff(h, 0);
    (void)bp_hpv_view_remove(&h->passive, peer);
    if (!bp_hpv_view_add(&h->lost, &e) && by_link) {
        h->lost.e[bp_hpv_below(&h->rng, h->lost.n)] = e;
    }
}
