/* SPDX-License-Identifier: Apache-2.0 */
/* DISCONNECT: the other end has no link to us any more; it stays a passive peer (paper, 4.2). */
#include "membership/hpv_impl.h"

void bp_hpv_on_disconnect(struct bp_hpv *h, bp_peer from)
{
    struct bp_hpv_entry *e;

    if (h->left || bp_hpv_view_find(&h->active, from) == NULL) {
        return;
    }
    bp_hpv_link_drop(h, from, BP_HPV_GRACEFUL);
    bp_hpv_passive_add(h, from, h->now, NULL, 0);
    /* It has just made room for somebody: asking it at once would throw that one out again. */
    e = bp_hpv_view_find(&h->passive, from);
    if (e != NULL) {
        e->not_before = h->now + bp_hpv_backoff(h, 0);
    }
}
