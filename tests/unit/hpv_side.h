/* SPDX-License-Identifier: Apache-2.0 */
/* One HyParView node for the unit tests: events in, and what came out of the last one. */
#ifndef BP_HPV_SIDE_H
#define BP_HPV_SIDE_H

#include "support/t.h"

#include "base/err.h"
#include "membership/hpv_impl.h"

#define SELF 1u

static struct bp_hpv *h;
static struct bp_hpv_out out;
static bp_time now;

static inline void open_node(unsigned active_size)
{
    struct bp_hpv_config c;

    bp_hpv_config_default(&c);
    c.self = SELF;
    c.seed = 11;
    c.active_size = active_size;
    now = 1000 * BP_SEC;
    assert_int_equal(bp_hpv_new(&h, &c, bp_mem_libc(), now), 0);
}

static inline int event(enum bp_hpv_event_kind kind, bp_peer peer)
{
    const struct bp_hpv_event ev = {.kind = kind, .peer = peer};
    int rc = bp_hpv_step(h, &ev, now, &out);

    assert_int_equal(out.overflow, 0);
    return rc;
}

static inline int recv_msg(bp_peer from, const struct bp_hpv_msg *msg)
{
    const struct bp_hpv_event ev = {.kind = BP_HPV_RECV, .peer = from, .msg = msg};
    int rc = bp_hpv_step(h, &ev, now, &out);

    assert_int_equal(out.overflow, 0);
    return rc;
}

static inline void recv_kind(bp_peer from, enum bp_hpv_kind kind)
{
    const struct bp_hpv_msg msg = {.kind = kind};

    assert_int_equal(recv_msg(from, &msg), 0);
}

static inline void recv_flag(bp_peer from, enum bp_hpv_kind kind, bool flag)
{
    const struct bp_hpv_msg msg = {.kind = kind, .flag = flag};

    assert_int_equal(recv_msg(from, &msg), 0);
}

static inline void recv_walk(bp_peer from, enum bp_hpv_kind kind, bp_peer about, unsigned ttl)
{
    const struct bp_hpv_msg msg = {.kind = kind, .peer = about, .ttl = (uint8_t)ttl};

    assert_int_equal(recv_msg(from, &msg), 0);
}

/* The effect of that kind to that peer; NULL if there is none. */
static inline const struct bp_hpv_effect *effect(enum bp_hpv_effect_kind kind, bp_peer peer)
{
    for (unsigned i = 0; i < out.n; i++) {
        if (out.effects[i].kind == kind && (peer == 0 || out.effects[i].peer == peer)) {
            return &out.effects[i];
        }
    }
    return NULL;
}

static inline const struct bp_hpv_msg *sent(enum bp_hpv_kind kind, bp_peer to)
{
    for (unsigned i = 0; i < out.n; i++) {
        const struct bp_hpv_effect *e = &out.effects[i];
        if (e->kind == BP_HPV_SEND && e->msg.kind == kind && (to == 0 || e->peer == to)) {
            return &e->msg;
        }
    }
    return NULL;
}

/* The same where there must be one. */
static inline const struct bp_hpv_effect *the_effect(enum bp_hpv_effect_kind kind, bp_peer peer)
{
    static const struct bp_hpv_effect none;
    const struct bp_hpv_effect *e = effect(kind, peer);

    assert_non_null(e);
    return e != NULL ? e : &none;
}

static inline const struct bp_hpv_msg *the_sent(enum bp_hpv_kind kind, bp_peer to)
{
    static const struct bp_hpv_msg none;
    const struct bp_hpv_msg *m = sent(kind, to);

    assert_non_null(m);
    return m != NULL ? m : &none;
}

static inline unsigned n_sent(enum bp_hpv_kind kind)
{
    unsigned n = 0;

    for (unsigned i = 0; i < out.n; i++) {
        n += out.effects[i].kind == BP_HPV_SEND && out.effects[i].msg.kind == kind;
    }
    return n;
}

static inline bool is_passive(bp_peer peer)
{
    return bp_hpv_view_find(&h->passive, peer) != NULL;
}

static inline bool is_lost(bp_peer peer)
{
    return bp_hpv_view_find(&h->lost, peer) != NULL;
}

/* Links to first..last: they asked. */
static inline void link_to(bp_peer first, bp_peer last)
{
    for (bp_peer p = first; p <= last; p++) {
        recv_flag(p, BP_HPV_NEIGHBOR, true);
        assert_true(bp_hpv_is_active(h, p));
    }
}

/* A peer that we asked to be linked. */
static inline void ask(bp_peer peer, enum bp_hpv_want want)
{
    h->out = &out;
    assert_true(bp_hpv_attempt_start(h, peer, want));
    h->out = NULL;
    assert_int_equal(event(BP_HPV_CONNECTED, peer), 0);
    assert_non_null(sent(BP_HPV_NEIGHBOR, peer));
}

static inline void tick_at_deadline(void)
{
    bp_time at = bp_hpv_deadline(h);

    now = at > now ? at : now;
    assert_int_equal(event(BP_HPV_TICK, 0), 0);
    assert_true(bp_hpv_deadline(h) > now);
}

static inline int close_node(void **state)
{
    (void)state;
    bp_hpv_del(h);
    h = NULL;
    return 0;
}

#endif
