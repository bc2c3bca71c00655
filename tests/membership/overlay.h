/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many real HyParView state machines in virtual time: channels with latency, failures, partitions
 * and loss; what must hold after every event is checked after every event. One seed, one run.
 */
#ifndef BP_OVERLAY_H
#define BP_OVERLAY_H

#include <stdio.h>

#include "membership/digraph.h"
#include "membership/hpv_impl.h"
#include "membership/vtime.h"

struct ov_config {
    uint32_t cap; /* nodes that may ever exist; ids 1..cap */
    uint64_t seed;
    unsigned loss_permille;   /* messages that vanish although the channel is up */
    bp_time notice_min;       /* a dead neighbour is noticed that much later, at least ... */
    bp_time notice_max;       /* ... and at most */
    bp_time attempt;          /* that long an attempt at a dead node takes */
    bool check;               /* look at a node after each of its events */
    struct bp_hpv_config hpv; /* self and seed are set for each node */
};

struct ov_node {
    struct bp_hpv *h; /* NULL: never started */
    bool alive;
    uint8_t side;         /* nodes on different sides do not reach each other */
    bp_time timer;        /* the queued TICK that counts */
    int32_t up;           /* PEER_UP minus PEER_DOWN */
    uint32_t sent_second; /* second of `sent_now` */
    uint32_t sent_now;
};

struct ov_item; /* one thing that will happen */

struct overlay {
    struct ov_config c;
    struct ov_node *nodes; /* [1..cap] */
    uint32_t n_started;
    bp_time now;
    uint64_t rng;
    struct vt_queue queue;
    struct ov_item *items;
    uint32_t n_items;
    uint32_t cap_items;
    uint32_t free_item;
    struct bp_hpv_out out;
    uint32_t *stamp; /* for the check: which node was last seen by which look */
    uint32_t look;
    /* results */
    uint64_t trace; /* hash of all that happened: equal for equal seeds */
    uint64_t events;
    uint64_t sent[BP_HPV_N_KINDS];
    uint64_t connects;
    uint64_t connects_failed;
    uint64_t joined;
    uint32_t max_sent_second; /* by one node in one second */
    uint64_t violations;
    char violation[256]; /* the first one */
};

void ov_config_default(struct ov_config *c, uint32_t cap, uint64_t seed);
/* False: no memory. */
bool ov_init(struct overlay *o, const struct ov_config *c);
void ov_free(struct overlay *o);

/* A node that has not been started yet starts; it joins through `contact` unless that is 0. */
bp_peer ov_start(struct overlay *o, bp_peer contact);
/* A dead node starts again, with empty views and another seed. */
void ov_restart(struct overlay *o, bp_peer peer, bp_peer contact);
void ov_join(struct overlay *o, bp_peer peer, bp_peer contact);
void ov_leave(struct overlay *o, bp_peer peer);
/* Dies without a word; its peers notice later. After the last of several: ov_lost. */
void ov_kill(struct overlay *o, bp_peer peer);
/* Queues the ends of all channels that lead nowhere now. */
void ov_lost(struct overlay *o);
/* Everything that happens until then. */
void ov_run(struct overlay *o, bp_time until);
bp_peer ov_random_alive(struct overlay *o);
uint32_t ov_alive(const struct overlay *o);
uint64_t ov_rand(struct overlay *o);
bool ov_reachable(const struct overlay *o, bp_peer a, bp_peer b);
/* Notes that something does not hold. */
void ov_violation(struct overlay *o, bp_peer peer, const char *what);
void ov_check_node(struct overlay *o, bp_peer peer);
/* Checks, feeds and carries out: one event of one node. */
int ov_step(struct overlay *o, bp_peer peer, const struct bp_hpv_event *ev);

/* --- graph.c: what the overlay is like ----------------------------------------- */

/* Links that only one end believes in, right now; messages under way can be the reason. */
uint32_t ov_one_sided(const struct overlay *o);
/* One-sided links that are still so `later`: runs the overlay on. */
uint32_t ov_one_sided_for(struct overlay *o, bp_time later);
/* Connected components of the living, over links that both ends have. */
uint32_t ov_components(const struct overlay *o);
/* The living outside of the largest component. */
uint32_t ov_cut_off(const struct overlay *o);
/* The living, and who of them has whom in its active view. */
void ov_graph(const struct overlay *o, struct digraph *g);
/* Floods from `sources` random nodes: over links as the forwarding node believes in them. */
struct ov_floods {
    double reliability; /* reached / alive, average */
    double worst;
    double path;     /* average length of shortest paths to those reached */
    double max_hops; /* average over floods of the last delivery */
};
struct ov_floods ov_flood(struct overlay *o, unsigned sources);
/* How many of the living have in-degree i; i < BP_HPV_ACTIVE_MAX * 4. */
#define OV_DEGREES (BP_HPV_ACTIVE_MAX * 4u)
void ov_in_degrees(const struct overlay *o, uint32_t out[OV_DEGREES]);
double ov_mean_active(const struct overlay *o);
double ov_dead_passive(const struct overlay *o); /* fraction of passive entries that are dead */

#endif
