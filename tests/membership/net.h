/* SPDX-License-Identifier: Apache-2.0 */
/* HyParView's state machines and the baselines under one roof: the same questions to each. */
#ifndef BP_NET_H
#define BP_NET_H

#include "membership/baseline.h"
#include "membership/overlay.h"

enum net_kind { NET_HYPARVIEW, NET_CYCLON_ACKED, NET_CYCLON, NET_SCAMP, NET_N_KINDS };

struct net {
    enum net_kind kind;
    uint32_t n;
    union {
        struct overlay o;
        struct baseline b;
    };
};

/*
 * The papers' set-up: HyParView 5 and 30, floods; the others as in bl_config_default, gossip. `c`
 * is Scamp's, NULL for the default. Nothing has been started yet; `n` nodes will be.
 */
void net_open(struct net *t, enum net_kind kind, uint32_t n, uint64_t seed,
              const struct bl_config *c);
/* Failures are noticed, and attempts at dead nodes end, within a millisecond. Before net_grow. */
void net_notice_at_once(struct net *t);
void net_free(struct net *t);
/* All join, one after the other: HyParView's nodes in 100 s; the others without rounds in between,
 * which begin then. Cyclon's join through the first node, the others' through random ones. */
void net_grow(struct net *t);
void net_run(struct net *t, bp_time d);
/* So many of 100 die at this moment. */
void net_fail(struct net *t, unsigned percent);
uint32_t net_alive(const struct net *t);
void net_graph(const struct net *t, struct digraph *g);

struct net_spread {
    double reliability; /* of the living reached, average */
    double worst;
    double last_hop; /* average over the messages */
};
/* `messages` from random nodes, `apart` in time; 0: all at this moment. */
struct net_spread net_spread(struct net *t, unsigned messages, bp_time apart);
/* Messages of the protocol itself since the start. */
uint64_t net_sent(const struct net *t);
/* What must not happen and did: 0 for the baselines. */
uint64_t net_violations(const struct net *t);

#endif
