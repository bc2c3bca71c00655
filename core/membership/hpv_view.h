/* SPDX-License-Identifier: Apache-2.0 */
/* The views: small sets of peers in arrays of fixed capacity, without order. */
#ifndef BP_HPV_VIEW_H
#define BP_HPV_VIEW_H

#include "membership/hpv.h"

struct bp_hpv_entry {
    bp_peer peer;
    uint32_t fails;     /* attempts in a row that failed */
    bp_time seen;       /* when somebody was last in touch with it, as far as we know */
    bp_time not_before; /* no attempt until then */
};

struct bp_hpv_view {
    struct bp_hpv_entry *e; /* `cap` places; borrowed */
    uint32_t n;
    uint32_t cap;
};

/* splitmix64: the state machine's own random numbers, replayable from the seed. */
uint64_t bp_hpv_rand(uint64_t *rng);
/* In [0, n); n > 0. */
uint32_t bp_hpv_below(uint64_t *rng, uint32_t n);

/* NULL if it is not there; valid until the view changes. */
struct bp_hpv_entry *bp_hpv_view_find(const struct bp_hpv_view *v, bp_peer peer);
/* False if the view is full; the caller has checked that the peer is not there. */
bool bp_hpv_view_add(struct bp_hpv_view *v, const struct bp_hpv_entry *e);
bool bp_hpv_view_remove(struct bp_hpv_view *v, bp_peer peer);
/* A random member that is neither `a` nor `b`; BP_PEER_NONE if there is none. */
bp_peer bp_hpv_view_pick(const struct bp_hpv_view *v, bp_peer a, bp_peer b, uint64_t *rng);
/*
 * Up to `max` distinct random members that have not failed and are not `except`, appended to the
 * message's peers with their age at `now`; `fresh`: age 0, they are in touch with us.
 */
void bp_hpv_view_sample(const struct bp_hpv_view *v, unsigned max, bp_peer except, bool fresh,
                        bp_time now, uint64_t *rng, struct bp_hpv_msg *msg);
/* Which entry makes room: one that failed, else one of `sent` (which the other end now has), else
 * a random one. The view is not empty. */
uint32_t bp_hpv_view_victim(const struct bp_hpv_view *v, const bp_peer *sent, unsigned n_sent,
                            uint64_t *rng);

#endif
