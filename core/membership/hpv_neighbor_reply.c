/* SPDX-License-Identifier: Apache-2.0 */
/* NEIGHBOR_REPLY: the other end has linked us, or refuses (paper, section 4.3). */
#include "membership/hpv_impl.h"

static void accepted(struct bp_hpv *h, const struct bp_hpv_attempt *a)
{
    if (a->want == BP_HPV_WANT_FILL && h->active.n >= h->active.cap) {
        /* Others were faster. */
        (void)bp_hpv_send(h, a->peer, BP_HPV_DISCONNECT);
        bp_hpv_release(h, a->peer);
        return;
    }
    bp_hpv_link_add(h, a->peer);
}

static void refused(struct bp_hpv *h, const struct bp_hpv_attempt *a)
{
    struct bp_hpv_entry *e;

    h->stats.refused_by_peer++;
    if (a->high) {
        /* Only a node that has left, or cannot cope, refuses high. */
        (void)bp_hpv_view_remove(&h->passive, a->peer);
        (void)bp_hpv_view_remove(&h->lost, a->peer);
        bp_hpv_release(h, a->peer);
        return;
    }
    bp_hpv_passive_add(h, a->peer, h->now, NULL, 0);
    e = bp_hpv_view_find(&h->passive, a->peer);
    if (e != NULL) {
        e->not_before = h->now + bp_hpv_jitter(h, h->c.shuffle_period, 100, 100);
    }
    if (a->want == BP_HPV_WANT_FILL) {
        h->refusals++;
    }
    bp_hpv_release(h, a->peer);
}

void bp_hpv_on_neighbor_reply(struct bp_hpv *h, bp_peer from, const struct bp_hpv_msg *msg)
{
    const struct bp_hpv_attempt *found = bp_hpv_attempt_find(h, from);
    struct bp_hpv_attempt a;

    if (found == NULL || !found->asked) {
        if (bp_hpv_view_find(&h->active, from) != NULL) {
            return; /* its own request, or ours before, made the link */
        }
        if (msg->flag) {
            bp_hpv_link_deny(h, from); /* too late */
        } else {
            h->stats.dropped_unexpected++;
        }
        return;
    }
    a = *found;
    bp_hpv_attempt_remove(h, from);
    if (msg->flag) {
        accepted(h, &a);
    } else {
        refused(h, &a);
    }
}
