/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attempts to link: CONNECT, then NEIGHBOR (or JOIN) once the channel is up, then the answer or a
 * deadline. The paper's reactive step (section 4.3) is bp_hpv_fill.
 */
#include "membership/hpv_impl.h"

#define BACKOFF_MAX  (300 * BP_SEC)
/* Refusals that a node with links takes in one shuffle period before it waits for the next. */
#define REFUSALS_MAX 8u
/* Passive peers that are looked at at the same time. */
#define SCANS_MAX    2u

struct bp_hpv_attempt *bp_hpv_attempt_find(struct bp_hpv *h, bp_peer peer)
{
    for (uint32_t i = 0; i < h->n_attempts; i++) {
        if (h->attempts[i].peer == peer) {
            return &h->attempts[i];
        }
    }
    return NULL;
}

static uint32_t count(const struct bp_hpv *h, enum bp_hpv_want want)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < h->n_attempts; i++) {
        n += h->attempts[i].want == want;
    }
    return n;
}

bool bp_hpv_attempt_start(struct bp_hpv *h, bp_peer peer, enum bp_hpv_want want)
{
    if (h->n_attempts >= h->cap_attempts ||
        (want != BP_HPV_WANT_FILL &&
         h->n_attempts - count(h, BP_HPV_WANT_FILL) >= BP_HPV_EXTRA_ATTEMPTS)) {
        h->stats.dropped_attempts_full++;
        return false;
    }
    h->attempts[h->n_attempts++] = (struct bp_hpv_attempt){
        .peer = peer, .want = want, .deadline = h->now + h->c.pending_timeout};
    h->stats.attempts++;
    (void)bp_hpv_emit(h, BP_HPV_CONNECT, peer);
    return true;
}

void bp_hpv_attempt_remove(struct bp_hpv *h, bp_peer peer)
{
    struct bp_hpv_attempt *a = bp_hpv_attempt_find(h, peer);

    if (a != NULL) {
        *a = h->attempts[--h->n_attempts];
    }
}

void bp_hpv_release(struct bp_hpv *h, bp_peer peer)
{
    if (!bp_hpv_needs(h, peer)) {
        (void)bp_hpv_emit(h, BP_HPV_RELEASE, peer);
    }
}

void bp_hpv_attempt_connected(struct bp_hpv *h, bp_peer peer)
{
    struct bp_hpv_attempt *a = bp_hpv_attempt_find(h, peer);

    if (a == NULL || a->asked) {
        return;
    }
    if (a->want == BP_HPV_WANT_JOIN) {
        bp_hpv_join_start(h, a);
    } else {
        bp_hpv_neighbor_send(h, a);
    }
}

bp_time bp_hpv_backoff(struct bp_hpv *h, uint32_t fails)
{
    bp_time t = h->c.base_backoff;

    for (uint32_t i = 0; i < fails && t < BACKOFF_MAX; i++) {
        t *= 2;
    }
    return bp_hpv_jitter(h, t < BACKOFF_MAX ? t : BACKOFF_MAX, 100, 50);
}

static void penalize(struct bp_hpv *h, bp_peer peer)
{
    struct bp_hpv_entry *e = bp_hpv_view_find(&h->passive, peer);

    if (e != NULL) {
        e->fails++;
        e->not_before = h->now + bp_hpv_backoff(h, e->fails);
        if (e->fails >= h->c.max_fail_count) {
            bp_hpv_lost_add(h, peer, false);
            (void)bp_hpv_view_remove(&h->passive, peer);
        }
        return;
    }
    e = bp_hpv_view_find(&h->lost, peer);
    if (e != NULL) {
        e->fails++;
        e->not_before = h->now + bp_hpv_backoff(h, e->fails);
    }
}

void bp_hpv_attempt_failed(struct bp_hpv *h, bp_peer peer)
{
    const struct bp_hpv_attempt *found = bp_hpv_attempt_find(h, peer);
    struct bp_hpv_attempt a;

    if (found == NULL) {
        return;
    }
    a = *found;
    bp_hpv_attempt_remove(h, peer);
    h->stats.attempts_failed++;
    penalize(h, peer);
    if (a.by_user) {
        bp_hpv_emit(h, BP_HPV_PEER_DOWN, peer)->reason = BP_HPV_CONNECT_FAILED_REASON;
    }
}

void bp_hpv_attempts_expire(struct bp_hpv *h)
{
    for (uint32_t i = 0; i < h->n_attempts;) {
        struct bp_hpv_attempt a = h->attempts[i];
        if (a.deadline > h->now) {
            i++;
            continue;
        }
        bp_hpv_attempt_failed(h, a.peer); /* the last one is at `i` now */
        if (a.asked) {
            /* It may have agreed: then it must know that we did not hear it. */
            (void)bp_hpv_send(h, a.peer, BP_HPV_DISCONNECT);
        }
        bp_hpv_release(h, a.peer);
    }
}

/* --- what is wanted ----------------------------------------------------------- */

static bool may_fill(const struct bp_hpv *h)
{
    return !h->left && h->active.n + count(h, BP_HPV_WANT_FILL) < h->active.cap &&
           (h->active.n == 0 || h->refusals < REFUSALS_MAX);
}

static bool has_attempt(const struct bp_hpv *h, bp_peer peer)
{
    for (uint32_t i = 0; i < h->n_attempts; i++) {
        if (h->attempts[i].peer == peer) {
            return true;
        }
    }
    return false;
}

/* Random among those that never failed; only then those whose backoff is over. */
static bp_peer candidate(struct bp_hpv *h, const struct bp_hpv_view *v)
{
    bp_peer chosen = BP_PEER_NONE;
    bool failed = true;
    uint32_t n = 0;

    for (uint32_t i = 0; i < v->n; i++) {
        const struct bp_hpv_entry *e = &v->e[i];
        if (e->not_before > h->now || (e->fails != 0 && !failed) || has_attempt(h, e->peer)) {
            continue;
        }
        if (e->fails == 0 && failed) {
            failed = false;
            n = 0;
        }
        if (bp_hpv_below(&h->rng, ++n) == 0) {
            chosen = e->peer;
        }
    }
    return chosen;
}

/* Goes on whenever one of its attempts ends: it needs no deadline of its own. */
static void scan(struct bp_hpv *h)
{
    while (h->scan != 0 && h->active.n == h->active.cap && count(h, BP_HPV_WANT_SCAN) < SCANS_MAX) {
        bp_peer peer = candidate(h, &h->passive);
        if (peer == BP_PEER_NONE || bp_hpv_view_find(&h->passive, peer)->fails != 0) {
            h->scan = 0;
        } else if (bp_hpv_attempt_start(h, peer, BP_HPV_WANT_SCAN)) {
            h->scan--;
            h->stats.scanned++;
        } else {
            return;
        }
    }
}

void bp_hpv_fill(struct bp_hpv *h)
{
    bp_peer peer;

    while (may_fill(h) && (peer = candidate(h, &h->passive)) != BP_PEER_NONE) {
        if (!bp_hpv_attempt_start(h, peer, BP_HPV_WANT_FILL)) {
            break;
        }
    }
    scan(h);
    if (!h->left && h->lost.n != 0 && count(h, BP_HPV_WANT_BACK) == 0 &&
        h->n_attempts < h->cap_attempts) {
        /* Each that cannot be asked now is put off, or the next deadline would be in the past. */
        for (uint32_t i = 0; i < h->lost.n; i++) {
            peer = candidate(h, &h->lost);
            if (peer == BP_PEER_NONE || bp_hpv_attempt_start(h, peer, BP_HPV_WANT_BACK)) {
                break;
            }
            bp_hpv_view_find(&h->lost, peer)->not_before = h->now + bp_hpv_backoff(h, 0);
        }
    }
}

static bp_time soonest(const struct bp_hpv *h, const struct bp_hpv_view *v)
{
    bp_time at = BP_TIME_NEVER;

    for (uint32_t i = 0; i < v->n; i++) {
        if (v->e[i].not_before < at && !has_attempt(h, v->e[i].peer)) {
            at = v->e[i].not_before;
        }
    }
    return at;
}

bp_time bp_hpv_fill_at(const struct bp_hpv *h)
{
    bp_time at =
        may_fill(h) && h->n_attempts < h->cap_attempts ? soonest(h, &h->passive) : BP_TIME_NEVER;

    if (!h->left && h->lost.n != 0 && count(h, BP_HPV_WANT_BACK) == 0 &&
        h->n_attempts < h->cap_attempts) {
        bp_time back = soonest(h, &h->lost);
        at = back < at ? back : at;
    }
    return at;
}
