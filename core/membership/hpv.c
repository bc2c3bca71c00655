/* SPDX-License-Identifier: Apache-2.0 */
/* HyParView: making a node, one step, what steps have in common. */
#include "membership/hpv_impl.h"

#include <string.h>

#include "base/err.h"

/* --- life ------------------------------------------------------------------ */

void bp_hpv_config_default(struct bp_hpv_config *c)
{
    *c = (struct bp_hpv_config){
        .active_size = 5,
        .passive_size = 30,
        .arwl = 6,
        .prwl = 3,
        .shuffle_length = 8,
        .max_fail_count = 5,
        .shuffle_period = 10 * BP_SEC,
        .base_backoff = BP_SEC,
        .passive_max_age = 300 * BP_SEC,
        .cleanup_period = 60 * BP_SEC,
        .churn_window = 30 * BP_SEC,
        .pending_timeout = 30 * BP_SEC,
        .swap_period = 300 * BP_SEC,
        .lost_max_age = 86400 * BP_SEC,
        .contact_retry = 5 * BP_SEC,
    };
}

static bool time_ok(bp_time t)
{
    return t >= BP_MS && t <= 365 * 86400 * BP_SEC;
}

static bool config_ok(const struct bp_hpv_config *c)
{
    return c->self != BP_PEER_NONE && c->active_size >= 1 && c->active_size <= BP_HPV_ACTIVE_MAX &&
           c->passive_size >= 1 && c->passive_size <= BP_HPV_PASSIVE_MAX && c->arwl >= 1 &&
           c->arwl <= BP_HPV_TTL_MAX && c->prwl <= c->arwl && c->shuffle_length >= 1 &&
           c->shuffle_length <= BP_HPV_SHUFFLE_MAX && c->max_fail_count >= 1 &&
           c->n_contacts <= BP_HPV_CONTACTS && time_ok(c->shuffle_period) &&
           time_ok(c->base_backoff) && time_ok(c->passive_max_age) && time_ok(c->cleanup_period) &&
           time_ok(c->churn_window) && time_ok(c->pending_timeout) && time_ok(c->lost_max_age) &&
           time_ok(c->contact_retry) && (c->swap_period == 0 || time_ok(c->swap_period));
}

static uint32_t lost_cap(const struct bp_hpv_config *c)
{
    uint32_t n = c->passive_size / 4;

    return n < 4 ? 4 : n > BP_HPV_LOST_MAX ? BP_HPV_LOST_MAX : n;
}

int bp_hpv_new(struct bp_hpv **out, const struct bp_hpv_config *c, const struct bp_mem *mem,
               bp_time now)
{
    struct bp_hpv *h;
    struct bp_hpv_entry *e;
    uint32_t n_entries;
    uint32_t n_attempts;

    *out = NULL;
    if (!config_ok(c)) {
        return BP_E_INVALID;
    }
    n_entries = c->active_size + c->passive_size + lost_cap(c);
    n_attempts = c->active_size + BP_HPV_EXTRA_ATTEMPTS;
    /* One block: a host may have very many nodes (the simulator does). */
    h = bp_mem_zalloc(mem, 1,
                      sizeof(*h) + n_entries * sizeof(*e) + n_attempts * sizeof(*h->attempts));
    if (h == NULL) {
        return BP_E_NOMEM;
    }
    h->c = *c;
    h->mem = mem;
    h->now = now;
    h->rng = c->seed ^ ((uint64_t)c->self << 32);
    e = (struct bp_hpv_entry *)(void *)(h + 1);
    h->active = (struct bp_hpv_view){.e = e, .cap = c->active_size};
    h->passive = (struct bp_hpv_view){.e = e + c->active_size, .cap = c->passive_size};
    h->lost = (struct bp_hpv_view){.e = h->passive.e + c->passive_size, .cap = lost_cap(c)};
    h->attempts = (struct bp_hpv_attempt *)(void *)(e + n_entries);
    h->cap_attempts = n_attempts;
    bp_hpv_timers_start(h);
    *out = h;
    return 0;
}

void bp_hpv_del(struct bp_hpv *h)
{
    if (h != NULL) {
        h->mem->release(h->mem->ctx, h);
    }
}

/* --- effects ---------------------------------------------------------------- */

struct bp_hpv_effect *bp_hpv_emit(struct bp_hpv *h, enum bp_hpv_effect_kind kind, bp_peer peer)
{
    struct bp_hpv_out *out = h->out;
    struct bp_hpv_effect *e;

    if (out->n == BP_HPV_EFFECTS_MAX) {
        out->overflow++;
        out->n--;
    }
    e = &out->effects[out->n++];
    e->kind = kind;
    e->peer = peer;
    e->reason = BP_HPV_DROPPED;
    return e;
}

struct bp_hpv_msg *bp_hpv_send(struct bp_hpv *h, bp_peer to, enum bp_hpv_kind kind)
{
    struct bp_hpv_msg *msg = &bp_hpv_emit(h, BP_HPV_SEND, to)->msg;

    msg->kind = kind;
    msg->peer = BP_PEER_NONE;
    msg->ttl = 0;
    msg->flag = false;
    msg->n_peers = 0;
    h->stats.sent++;
    return msg;
}

bool bp_hpv_spend(struct bp_hpv *h, unsigned cost)
{
    const bp_time each = BP_SEC / BP_HPV_RATE;

    if (h->spent_until > h->now + BP_HPV_BURST * each) {
        h->stats.dropped_rate++;
        return false;
    }
    h->spent_until = (h->spent_until > h->now ? h->spent_until : h->now) + cost * each;
    return true;
}

bp_time bp_hpv_jitter(struct bp_hpv *h, bp_time t, unsigned from, unsigned width)
{
    return t / 1000 * (from * 10 + bp_hpv_below(&h->rng, width * 10));
}

/* --- a step ------------------------------------------------------------------ */

static bool msg_ok(const struct bp_hpv_msg *msg)
{
    if (msg == NULL || (unsigned)msg->kind >= BP_HPV_N_KINDS || msg->n_peers > BP_HPV_SHUFFLE_MAX) {
        return false;
    }
    return (msg->kind != BP_HPV_FORWARD_JOIN && msg->kind != BP_HPV_SHUFFLE) ||
           msg->peer != BP_PEER_NONE;
}

static void on_msg(struct bp_hpv *h, bp_peer from, const struct bp_hpv_msg *msg)
{
    h->stats.received++;
    bp_hpv_heard(h, from);
    switch (msg->kind) {
    case BP_HPV_JOIN:
        bp_hpv_on_join(h, from);
        break;
    case BP_HPV_FORWARD_JOIN:
        bp_hpv_on_forward_join(h, from, msg);
        break;
    case BP_HPV_DISCONNECT:
        bp_hpv_on_disconnect(h, from);
        break;
    case BP_HPV_NEIGHBOR:
        bp_hpv_on_neighbor(h, from, msg);
        break;
    case BP_HPV_NEIGHBOR_REPLY:
        bp_hpv_on_neighbor_reply(h, from, msg);
        break;
    case BP_HPV_SHUFFLE:
        bp_hpv_on_shuffle(h, from, msg);
        break;
    case BP_HPV_SHUFFLE_REPLY:
        bp_hpv_on_shuffle_reply(h, msg);
        break;
    case BP_HPV_N_KINDS:
        break;
    }
}

static int do_join(struct bp_hpv *h, bp_peer contact)
{
    struct bp_hpv_attempt *a;

    h->left = false;
    if (bp_hpv_view_find(&h->active, contact) != NULL) {
        return 0;
    }
    a = bp_hpv_attempt_find(h, contact);
    if (a == NULL) {
        if (!bp_hpv_attempt_start(h, contact, BP_HPV_WANT_JOIN)) {
            return BP_E_LIMIT;
        }
        a = bp_hpv_attempt_find(h, contact);
    } else if (!a->asked) {
        a->want = BP_HPV_WANT_JOIN;
    }
    a->by_user = true;
    return 0;
}

static void do_leave(struct bp_hpv *h)
{
    while (h->active.n != 0) {
        bp_peer peer = h->active.e[0].peer;
        (void)bp_hpv_send(h, peer, BP_HPV_DISCONNECT);
        bp_hpv_link_drop(h, peer, BP_HPV_GRACEFUL);
    }
    while (h->n_attempts != 0) {
        struct bp_hpv_attempt a = h->attempts[0];
        bp_hpv_attempt_remove(h, a.peer);
        bp_hpv_release(h, a.peer);
    }
    for (unsigned i = 0; i < BP_HPV_REPLIES; i++) {
        h->replies[i].peer = BP_PEER_NONE;
    }
    h->passive.n = 0;
    h->lost.n = 0;
    h->n_sent = 0;
    h->replies_due = 0;
    h->scan = 0;
    if (!h->left) {
        (void)bp_hpv_emit(h, BP_HPV_LEFT, BP_PEER_NONE);
    }
    h->left = true;
    h->joined = false;
}

static void on_channel_down(struct bp_hpv *h, bp_peer peer)
{
    bp_hpv_reply_failed(h, peer);
    if (bp_hpv_view_find(&h->active, peer) != NULL) {
        bp_hpv_link_drop(h, peer, BP_HPV_NODEDOWN);
        bp_hpv_link_failed(h);
        bp_hpv_lost_add(h, peer, true);
    } else if (bp_hpv_attempt_find(h, peer) != NULL) {
        bp_hpv_attempt_failed(h, peer);
    }
    /* A passive peer's channel may go: we do not use it. */
}

static int handle(struct bp_hpv *h, const struct bp_hpv_event *ev)
{
    if (ev->kind != BP_HPV_TICK && ev->kind != BP_HPV_DO_LEAVE &&
        (ev->peer == BP_PEER_NONE || ev->peer == h->c.self)) {
        h->stats.dropped_invalid++;
        return BP_E_INVALID;
    }
    switch (ev->kind) {
    case BP_HPV_DO_JOIN:
        return do_join(h, ev->peer);
    case BP_HPV_DO_LEAVE:
        do_leave(h);
        return 0;
    case BP_HPV_RECV:
        if (!msg_ok(ev->msg)) {
            h->stats.dropped_invalid++;
            return BP_E_INVALID;
        }
        on_msg(h, ev->peer, ev->msg);
        return 0;
    case BP_HPV_CONNECTED:
        bp_hpv_reply_connected(h, ev->peer);
        bp_hpv_attempt_connected(h, ev->peer);
        return 0;
    case BP_HPV_CONNECT_FAILED:
        bp_hpv_reply_failed(h, ev->peer);
        bp_hpv_attempt_failed(h, ev->peer);
        return 0;
    case BP_HPV_CHANNEL_DOWN:
        on_channel_down(h, ev->peer);
        return 0;
    case BP_HPV_TICK:
        bp_hpv_attempts_expire(h);
        bp_hpv_replies_expire(h);
        bp_hpv_timers_run(h);
        return 0;
    }
    h->stats.dropped_invalid++;
    return BP_E_INVALID;
}

int bp_hpv_step(struct bp_hpv *h, const struct bp_hpv_event *ev, bp_time now,
                struct bp_hpv_out *out)
{
    int rc;

    out->n = 0;
    out->overflow = 0;
    h->out = out;
    h->now = now > h->now ? now : h->now;
    rc = handle(h, ev);
    if (rc != BP_E_INVALID) {
        bp_hpv_fill(h);
    }
    h->out = NULL;
    return rc;
}

bp_time bp_hpv_deadline(const struct bp_hpv *h)
{
    bp_time at = bp_hpv_timers_at(h);
    bp_time fill = bp_hpv_fill_at(h);

    if (fill < at) {
        at = fill;
    }
    for (uint32_t i = 0; i < h->n_attempts; i++) {
        if (h->attempts[i].deadline < at) {
            at = h->attempts[i].deadline;
        }
    }
    for (unsigned i = 0; i < BP_HPV_REPLIES; i++) {
        if (h->replies[i].peer != BP_PEER_NONE && h->replies[i].deadline < at) {
            at = h->replies[i].deadline;
        }
    }
    return at;
}

/* --- looking at it ------------------------------------------------------------ */

static unsigned copy_view(const struct bp_hpv_view *v, bp_peer *out, unsigned cap)
{
    for (unsigned i = 0; i < v->n && i < cap; i++) {
        out[i] = v->e[i].peer;
    }
    return v->n;
}

unsigned bp_hpv_active(const struct bp_hpv *h, bp_peer *out, unsigned cap)
{
    return copy_view(&h->active, out, cap);
}

unsigned bp_hpv_passive(const struct bp_hpv *h, bp_peer *out, unsigned cap)
{
    return copy_view(&h->passive, out, cap);
}

bool bp_hpv_is_active(const struct bp_hpv *h, bp_peer peer)
{
    return bp_hpv_view_find(&h->active, peer) != NULL;
}

bool bp_hpv_needs(const struct bp_hpv *h, bp_peer peer)
{
    if (bp_hpv_view_find(&h->active, peer) != NULL) {
        return true;
    }
    for (uint32_t i = 0; i < h->n_attempts; i++) {
        if (h->attempts[i].peer == peer) {
            return true;
        }
    }
    for (unsigned i = 0; i < BP_HPV_REPLIES; i++) {
        if (h->replies[i].peer == peer) {
            return true;
        }
    }
    return false;
}

bool bp_hpv_refers(const struct bp_hpv *h, bp_peer peer)
{
    if (peer == h->c.self || bp_hpv_view_find(&h->active, peer) != NULL ||
        bp_hpv_view_find(&h->passive, peer) != NULL || bp_hpv_view_find(&h->lost, peer) != NULL) {
        return true;
    }
    for (uint32_t i = 0; i < h->n_attempts; i++) {
        if (h->attempts[i].peer == peer) {
            return true;
        }
    }
    for (unsigned i = 0; i < h->c.n_contacts; i++) {
        if (h->c.contacts[i] == peer) {
            return true;
        }
    }
    for (unsigned i = 0; i < BP_HPV_REPLIES; i++) {
        const struct bp_hpv_pending_reply *r = &h->replies[i];
        for (unsigned k = 0; r->peer != BP_PEER_NONE && k < r->msg.n_peers; k++) {
            if (r->msg.peers[k].peer == peer) {
                return true;
            }
        }
        if (r->peer == peer) {
            return true;
        }
    }
    for (unsigned i = 0; i < h->n_sent; i++) {
        if (h->sent[i] == peer) {
            return true;
        }
    }
    return false;
}

const struct bp_hpv_stats *bp_hpv_stats(const struct bp_hpv *h)
{
    return &h->stats;
}

const char *bp_hpv_reason_name(enum bp_hpv_reason reason)
{
    switch (reason) {
    case BP_HPV_DROPPED:
        return "dropped";
    case BP_HPV_GRACEFUL:
        return "graceful";
    case BP_HPV_NODEDOWN:
        return "nodedown";
    case BP_HPV_CONNECT_FAILED_REASON:
        return "connect_failed";
    }
    return "unknown";
}
