/* SPDX-License-Identifier: Apache-2.0 */
/* What a node does by the clock: shuffles, forgets, swaps a link, asks its contacts. */
#include "membership/hpv_impl.h"

#define SHUFFLE_MIN (2 * BP_SEC)
#define SHUFFLE_MAX (30 * BP_SEC)

/* --- how often to shuffle (WIRE 8.2) ------------------------------------------- */

static void churn_roll(struct bp_hpv *h)
{
    if (h->now - h->churn_at >= h->c.churn_window) {
        h->churn_before = h->now - h->churn_at < 2 * h->c.churn_window ? h->churn : 0;
        h->churn = 0;
        h->failed = 0;
        h->churn_at = h->now;
    }
}

/* Links that came or went in the last churn_window, the window before counted in proportion. */
static unsigned recent_churn(struct bp_hpv *h)
{
    bp_time part;

    churn_roll(h);
    part = (h->now - h->churn_at) * 16 / h->c.churn_window;
    return h->churn + (unsigned)(h->churn_before * (16 - (part < 16 ? part : 16)) / 16);
}

static bp_time shuffle_period(struct bp_hpv *h)
{
    bp_time base = h->c.shuffle_period < SHUFFLE_MAX ? h->c.shuffle_period : SHUFFLE_MAX;
    bp_time fast = base < SHUFFLE_MIN ? base : SHUFFLE_MIN;
    unsigned n = recent_churn(h);

    if (n > 10) {
        return fast;
    }
    if (n > 5) {
        return base / 2 > fast ? base / 2 : fast;
    }
    return base;
}

void bp_hpv_churned(struct bp_hpv *h)
{
    bp_time at;

    churn_roll(h);
    h->churn++;
    at = h->now + bp_hpv_jitter(h, shuffle_period(h), 90, 20);
    if (at < h->shuffle_at) {
        h->shuffle_at = at;
    }
}

/*
 * Not in the paper: where half of the links fail within a churn window, nodes may be left whose
 * whole passive view is dead. They cannot find anybody, but others have them in their passive
 * views: each is asked once, with low priority, so that only those who miss links accept.
 */
void bp_hpv_link_failed(struct bp_hpv *h)
{
    churn_roll(h);
    h->stats.links_failed++;
    h->failed++;
    if (h->failed > 1 && h->failed * 2 >= h->active.cap) {
        h->scan = h->passive.n;
    }
}

/* --- timers ---------------------------------------------------------------------- */

void bp_hpv_timers_start(struct bp_hpv *h)
{
    bp_time first = h->c.contact_retry < BP_SEC ? h->c.contact_retry : BP_SEC;

    h->churn_at = h->now;
    h->shuffle_at = h->now + bp_hpv_jitter(h, shuffle_period(h), 0, 100);
    h->cleanup_at = h->now + bp_hpv_jitter(h, h->c.cleanup_period, 50, 50);
    h->swap_at = h->now + bp_hpv_jitter(h, h->c.swap_period, 50, 100);
    h->contact_at = h->now + bp_hpv_jitter(h, first, 50, 50);
    h->next_contact = h->c.n_contacts != 0 ? bp_hpv_below(&h->rng, h->c.n_contacts) : 0;
}

static bool wants_contact(const struct bp_hpv *h)
{
    return !h->left && h->active.n == 0 && h->c.n_contacts != 0;
}

static void ask_contact(struct bp_hpv *h)
{
    for (unsigned i = 0; i < h->c.n_contacts; i++) {
        bp_peer peer = h->c.contacts[h->next_contact++ % h->c.n_contacts];
        if (peer != h->c.self && bp_hpv_attempt_find(h, peer) == NULL) {
            (void)bp_hpv_attempt_start(h, peer, BP_HPV_WANT_JOIN);
            return;
        }
    }
}

static void expire_lost(struct bp_hpv *h)
{
    for (uint32_t i = 0; i < h->lost.n;) {
        const struct bp_hpv_entry *e = &h->lost.e[i];
        if (h->now - e->seen > h->c.lost_max_age && bp_hpv_attempt_find(h, e->peer) == NULL) {
            (void)bp_hpv_view_remove(&h->lost, e->peer);
        } else {
            i++;
        }
    }
}

static bool stale(const struct bp_hpv *h, const struct bp_hpv_entry *e)
{
    return h->now - e->seen > h->c.passive_max_age;
}

/*
 * Not in the paper: islands whose views are full would never look at their passive views. The peer
 * that nobody around here has heard of for longest is dead, or lives on another island: a link is
 * swapped for one to it. Rare enough that links last, and it keeps the overlay random.
 */
static void swap(struct bp_hpv *h)
{
    const struct bp_hpv_entry *oldest = NULL;

    for (uint32_t i = 0; !h->left && i < h->passive.n; i++) {
        const struct bp_hpv_entry *e = &h->passive.e[i];
        if (e->not_before <= h->now && (oldest == NULL || e->seen < oldest->seen) &&
            bp_hpv_attempt_find(h, e->peer) == NULL) {
            oldest = e;
        }
    }
    if (oldest != NULL && bp_hpv_attempt_start(h, oldest->peer, BP_HPV_WANT_SWAP)) {
        h->stats.swaps++;
    }
}

/*
 * Whoever is older than passive_max_age goes; but one of them is asked first, and where nobody else
 * is known they stay: this may be a small island, and they the only way out of it.
 */
static void expire_passive(struct bp_hpv *h)
{
    uint32_t n_stale = 0;
    bool keep;

    for (uint32_t i = 0; i < h->passive.n; i++) {
        n_stale += stale(h, &h->passive.e[i]);
    }
    if (n_stale == 0) {
        return;
    }
    keep = h->c.swap_period != 0 && n_stale == h->passive.n;
    if (h->c.swap_period != 0) {
        swap(h);
    }
    for (uint32_t i = 0; !keep && i < h->passive.n;) {
        const struct bp_hpv_entry *e = &h->passive.e[i];
        if (stale(h, e) && bp_hpv_attempt_find(h, e->peer) == NULL) {
            (void)bp_hpv_view_remove(&h->passive, e->peer);
            h->stats.passive_expired++;
        } else {
            i++;
        }
    }
}

void bp_hpv_timers_run(struct bp_hpv *h)
{
    if (h->now >= h->cleanup_at) {
        expire_passive(h);
        expire_lost(h);
        h->cleanup_at = h->now + bp_hpv_jitter(h, h->c.cleanup_period, 90, 20);
    }
    if (h->now >= h->shuffle_at) {
        h->refusals = 0;
        bp_hpv_shuffle_send(h);
        h->shuffle_at = h->now + bp_hpv_jitter(h, shuffle_period(h), 90, 20);
    }
    if (h->c.swap_period != 0 && h->now >= h->swap_at) {
        if (h->active.n == h->active.cap) {
            swap(h);
        }
        h->swap_at = h->now + bp_hpv_jitter(h, h->c.swap_period, 50, 100);
    }
    if (wants_contact(h) && h->now >= h->contact_at) {
        ask_contact(h);
        h->contact_at = h->now + bp_hpv_jitter(h, h->c.contact_retry, 75, 50);
    }
}

bp_time bp_hpv_timers_at(const struct bp_hpv *h)
{
    bp_time at = h->cleanup_at < h->shuffle_at ? h->cleanup_at : h->shuffle_at;

    if (h->c.swap_period != 0 && h->swap_at < at) {
        at = h->swap_at;
    }
    if (wants_contact(h) && h->contact_at < at) {
        at = h->contact_at;
    }
    return at;
}
