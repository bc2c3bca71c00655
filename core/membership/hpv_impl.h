/* SPDX-License-Identifier: Apache-2.0 */
/* The state of one node and what the files of the messages share; for core/membership and tests. */
#ifndef BP_HPV_IMPL_H
#define BP_HPV_IMPL_H

#include "membership/hpv_view.h"

/* Why a link is wanted; decides what happens when the other end agrees and our view is full. */
enum bp_hpv_want {
    BP_HPV_WANT_FILL, /* an empty place: then there is none any more, the other end is told */
    BP_HPV_WANT_JOIN, /* a contact: it takes us in any case, we make room */
    BP_HPV_WANT_WALK, /* a newcomer's walk ended here: we make room */
    BP_HPV_WANT_SWAP, /* a random passive peer: we make room */
    BP_HPV_WANT_BACK, /* a peer that was lost: we make room */
    BP_HPV_WANT_SCAN  /* after many failures, a passive peer that may be cut off: we make room */
};

struct bp_hpv_attempt {
    bp_peer peer;
    enum bp_hpv_want want;
    bool asked; /* the channel is up, NEIGHBOR went out; else CONNECT did */
    bool high;
    bool by_user; /* who is told if it fails */
    bp_time deadline;
};

/* A shuffle reply that waits for a temporary channel; peer BP_PEER_NONE: free. */
struct bp_hpv_pending_reply {
    bp_peer peer;
    bp_time deadline;
    struct bp_hpv_msg msg;
};

struct bp_hpv {
    struct bp_hpv_config c;
    const struct bp_mem *mem;
    bp_time now;
    uint64_t rng;
    struct bp_hpv_out *out; /* of the step under way */
    bool left;
    bool joined;
    struct bp_hpv_view active;  /* symmetric links */
    struct bp_hpv_view passive; /* disjoint from active and lost */
    struct bp_hpv_view lost;    /* were linked, then unreachable; `seen`: when they were lost */
    struct bp_hpv_attempt *attempts;
    uint32_t n_attempts;
    uint32_t cap_attempts;
    struct bp_hpv_pending_reply replies[BP_HPV_REPLIES];
    bp_peer sent[BP_HPV_SHUFFLE_MAX]; /* passive peers in our last shuffle */
    unsigned n_sent;
    unsigned replies_due; /* SHUFFLE_REPLYs to our last shuffle that we still take */
    unsigned scan;        /* passive peers that are still to be looked at */
    unsigned failed;      /* links that failed in the current churn window */
    unsigned refusals;    /* of FILL attempts in this shuffle period */
    bp_time shuffle_at;
    bp_time cleanup_at;
    bp_time swap_at;
    bp_time contact_at;
    unsigned next_contact;
    bp_time churn_at; /* begin of the current window */
    unsigned churn;   /* links that came or went in it */
    unsigned churn_before;
    bp_time spent_until; /* rate limit: virtual time up to which work is paid for */
    struct bp_hpv_stats stats;
};

/* --- hpv.c: effects ------------------------------------------------------- */

struct bp_hpv_effect *bp_hpv_emit(struct bp_hpv *h, enum bp_hpv_effect_kind kind, bp_peer peer);
/* The message to fill in, zeroed but for the kind. */
struct bp_hpv_msg *bp_hpv_send(struct bp_hpv *h, bp_peer to, enum bp_hpv_kind kind);
/*
 * May a peer make us do `cost` more? Work that one message multiplies (walks, evictions) is paid
 * for from what BP_HPV_RATE gives per second; counts `dropped_rate` if there is nothing left.
 */
#define BP_HPV_RATE  200u
#define BP_HPV_BURST 400u
bool bp_hpv_spend(struct bp_hpv *h, unsigned cost);
/* `t` times a random factor in [from, from + width) percent. */
bp_time bp_hpv_jitter(struct bp_hpv *h, bp_time t, unsigned from, unsigned width);

/* --- hpv_link.c: views of this node ---------------------------------------- */

/* A link exists: makes room in the active view, forgets attempts and other entries. */
void bp_hpv_link_add(struct bp_hpv *h, bp_peer peer);
void bp_hpv_link_drop(struct bp_hpv *h, bp_peer peer, enum bp_hpv_reason reason);
/* DISCONNECT to somebody who believes in a link that is none. */
void bp_hpv_link_deny(struct bp_hpv *h, bp_peer peer);
/* True if the hop may use a link to us; else it is told that there is none. */
bool bp_hpv_link_check(struct bp_hpv *h, bp_peer hop);
/* `sent`: whom to replace first when the view is full. */
void bp_hpv_passive_add(struct bp_hpv *h, bp_peer peer, bp_time seen, const bp_peer *sent,
                        unsigned n_sent);
/* All peers of a shuffle or its reply. */
void bp_hpv_integrate(struct bp_hpv *h, const struct bp_hpv_msg *msg, const bp_peer *sent,
                      unsigned n_sent);
/* A message came from it: it lives. */
void bp_hpv_heard(struct bp_hpv *h, bp_peer peer);
/* `by_link`: it was linked; it replaces somebody when `lost` is full. */
void bp_hpv_lost_add(struct bp_hpv *h, bp_peer peer, bool by_link);

/* --- hpv_attempt.c: a channel, then NEIGHBOR -------------------------------- */

struct bp_hpv_attempt *bp_hpv_attempt_find(struct bp_hpv *h, bp_peer peer);
bool bp_hpv_attempt_start(struct bp_hpv *h, bp_peer peer, enum bp_hpv_want want);
void bp_hpv_attempt_remove(struct bp_hpv *h, bp_peer peer);
void bp_hpv_attempt_connected(struct bp_hpv *h, bp_peer peer);
/* No channel, or no answer in time. */
void bp_hpv_attempt_failed(struct bp_hpv *h, bp_peer peer);
void bp_hpv_attempts_expire(struct bp_hpv *h);
/* Starts what is wanted now: links for empty places, a lost peer that is due. */
void bp_hpv_fill(struct bp_hpv *h);
bp_time bp_hpv_fill_at(const struct bp_hpv *h);
bp_time bp_hpv_backoff(struct bp_hpv *h, uint32_t fails);
void bp_hpv_release(struct bp_hpv *h, bp_peer peer);

/* --- hpv_timer.c ------------------------------------------------------------ */

void bp_hpv_timers_start(struct bp_hpv *h);
void bp_hpv_timers_run(struct bp_hpv *h);
bp_time bp_hpv_timers_at(const struct bp_hpv *h);
/* A link came or went. */
void bp_hpv_churned(struct bp_hpv *h);
/* A link failed; many at once start a scan of the passive view. */
void bp_hpv_link_failed(struct bp_hpv *h);

/* --- one file per message: hpv_join.c, ... ---------------------------------- */

void bp_hpv_join_start(struct bp_hpv *h, struct bp_hpv_attempt *a);
void bp_hpv_on_join(struct bp_hpv *h, bp_peer from);
void bp_hpv_on_forward_join(struct bp_hpv *h, bp_peer from, const struct bp_hpv_msg *msg);
void bp_hpv_on_disconnect(struct bp_hpv *h, bp_peer from);
void bp_hpv_neighbor_send(struct bp_hpv *h, struct bp_hpv_attempt *a);
void bp_hpv_on_neighbor(struct bp_hpv *h, bp_peer from, const struct bp_hpv_msg *msg);
void bp_hpv_on_neighbor_reply(struct bp_hpv *h, bp_peer from, const struct bp_hpv_msg *msg);
void bp_hpv_shuffle_send(struct bp_hpv *h);
void bp_hpv_on_shuffle(struct bp_hpv *h, bp_peer from, const struct bp_hpv_msg *msg);
void bp_hpv_on_shuffle_reply(struct bp_hpv *h, const struct bp_hpv_msg *msg);
/* Over its own channel, or a temporary one that is asked for here. */
void bp_hpv_reply_queue(struct bp_hpv *h, bp_peer to, const struct bp_hpv_msg *msg);
void bp_hpv_reply_connected(struct bp_hpv *h, bp_peer peer);
void bp_hpv_reply_failed(struct bp_hpv *h, bp_peer peer);
void bp_hpv_replies_expire(struct bp_hpv *h);

#endif
