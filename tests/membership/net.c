/* SPDX-License-Identifier: Apache-2.0 */
#include "membership/net.h"

#include <stdlib.h>
#include <string.h>

/* Longer than a subscription is on its way, mostly. */
#define JOIN_APART (5 * BP_SEC)

void net_open(struct net *t, enum net_kind kind, uint32_t n, uint64_t seed,
              const struct bl_config *scamp)
{
    static const enum bl_kind kinds[NET_N_KINDS] = {
        [NET_CYCLON_ACKED] = BL_CYCLON_ACKED, [NET_CYCLON] = BL_CYCLON, [NET_SCAMP] = BL_SCAMP};

    memset(t, 0, sizeof(*t));
    t->kind = kind;
    t->n = n;
    if (kind == NET_HYPARVIEW) {
        struct ov_config c;
        ov_config_default(&c, n, seed);
        c.hpv.active_size = 5;
        c.hpv.passive_size = 30;
        if (!ov_init(&t->o, &c)) {
            (void)vt_must(NULL);
        }
    } else {
        struct bl_config c;
        bl_config_default(&c, kinds[kind], n, seed);
        if (kind == NET_SCAMP && scamp != NULL) {
            c = *scamp;
            c.cap = n;
            c.seed = seed;
        }
        bl_init(&t->b, &c);
    }
}

void net_notice_at_once(struct net *t)
{
    if (t->kind == NET_HYPARVIEW) {
        t->o.c.notice_min = 0;
        t->o.c.notice_max = t->o.c.attempt = BP_MS;
    } else {
        t->b.c.notice_min = 0;
        t->b.c.notice_max = t->b.c.attempt = BP_MS;
    }
}

void net_free(struct net *t)
{
    if (t->kind == NET_HYPARVIEW) {
        ov_free(&t->o);
    } else {
        bl_free(&t->b);
    }
}

void net_run(struct net *t, bp_time d)
{
    if (t->kind == NET_HYPARVIEW) {
        ov_run(&t->o, t->o.now + d);
    } else {
        bl_run(&t->b, t->b.now + d);
    }
}

void net_grow(struct net *t)
{
    for (uint32_t i = 0; i < t->n; i++) {
        if (t->kind == NET_HYPARVIEW) {
            (void)ov_start(&t->o, i == 0 ? BP_PEER_NONE : ov_random_alive(&t->o));
        } else {
            bp_peer contact = t->kind == NET_SCAMP && i != 0 ? bl_random_alive(&t->b) : 1;
            (void)bl_start(&t->b, i == 0 ? BP_PEER_NONE : contact);
        }
        net_run(t, t->kind == NET_HYPARVIEW ? 100 * BP_SEC / t->n : JOIN_APART);
    }
    if (t->kind != NET_HYPARVIEW) {
        bl_begin_rounds(&t->b);
    }
}

void net_fail(struct net *t, unsigned percent)
{
    uint32_t n = (uint32_t)((uint64_t)net_alive(t) * percent / 100);

    while (n-- != 0) {
        if (t->kind == NET_HYPARVIEW) {
            ov_kill(&t->o, ov_random_alive(&t->o));
        } else {
            bl_kill(&t->b, bl_random_alive(&t->b));
        }
    }
    if (t->kind == NET_HYPARVIEW) {
        ov_lost(&t->o);
    }
}

uint32_t net_alive(const struct net *t)
{
    return t->kind == NET_HYPARVIEW ? ov_alive(&t->o) : bl_alive(&t->b);
}

void net_graph(const struct net *t, struct digraph *g)
{
    if (t->kind == NET_HYPARVIEW) {
        ov_graph(&t->o, g);
    } else {
        bl_graph(&t->b, g);
    }
}

struct net_spread net_spread(struct net *t, unsigned messages, bp_time apart)
{
    struct net_spread s = {.worst = 1};
    double alive = net_alive(t);

    for (unsigned i = 0; i < messages; i++) {
        double reached;
        double last_hop;
        if (t->kind == NET_HYPARVIEW) {
            struct ov_floods f = ov_flood(&t->o, 1);
            reached = f.reliability;
            last_hop = f.max_hops;
        } else {
            struct bl_gossip g = bl_gossip(&t->b, bl_random_alive(&t->b));
            reached = g.reached / alive;
            last_hop = g.last_hop;
        }
        s.reliability += reached;
        s.last_hop += last_hop;
        s.worst = reached < s.worst ? reached : s.worst;
        if (apart != 0) {
            net_run(t, apart);
        }
    }
    s.reliability /= messages;
    s.last_hop /= messages;
    return s;
}

uint64_t net_sent(const struct net *t)
{
    uint64_t n = 0;

    if (t->kind == NET_HYPARVIEW) {
        for (int k = 0; k < BP_HPV_N_KINDS; k++) {
            n += t->o.sent[k];
        }
    } else {
        for (int k = 0; k < BL_N_MSG_KINDS; k++) {
            n += t->b.sent[k];
        }
    }
    return n;
}

uint64_t net_violations(const struct net *t)
{
    return t->kind == NET_HYPARVIEW ? t->o.violations : 0;
}
