/* SPDX-License-Identifier: Apache-2.0 */
/* NEIGHBOR: a request to be linked, high or low priority (paper, section 4.3). */
#include "membership/hpv_impl.h"

/* One eviction by a high request makes three more nodes look for links. */
#define COST_EVICTION 4u

static bool asks_high(const struct bp_hpv *h)
{
    for (uint32_t i = 0; i < h->n_attempts; i++) {
        if (h->attempts[i].asked && h->attempts[i].high) {
            return true;
        }
    }
    return false;
}

/*
 * The paper: high without any link, else low. One high request at a time is enough; a lost peer and
 * a swap ask high because both ends exchange a link for a better one.
 */
void bp_hpv_neighbor_send(struct bp_hpv *h, struct bp_hpv_attempt *a)
{
    a->high = a->want == BP_HPV_WANT_BACK || a->want == BP_HPV_WANT_SWAP ||
              (h->active.n == 0 && !asks_high(h));
    a->asked = true;
    a->deadline = h->now + h->c.pending_timeout;
    bp_hpv_send(h, a->peer, BP_HPV_NEIGHBOR)->flag = a->high;
}

void bp_hpv_on_neighbor(struct bp_hpv *h, bp_peer from, const struct bp_hpv_msg *msg)
{
    bool yes =
        !h->left && (bp_hpv_view_find(&h->active, from) != NULL || h->active.n < h->active.cap ||
                     (msg->flag && bp_hpv_spend(h, COST_EVICTION)));

    if (yes) {
        bp_hpv_link_add(h, from);
    } else if (!h->left) {
        h->stats.refused_by_us++;
        bp_hpv_passive_add(h, from, h->now, NULL, 0);
    }
    bp_hpv_send(h, from, BP_HPV_NEIGHBOR_REPLY)->flag = yes;
}
