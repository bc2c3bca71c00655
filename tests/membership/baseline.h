/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What HyParView is compared with: Cyclon and Scamp, in virtual time with the same latencies as the
 * overlay simulator's. One seed, one run.
 *
 *   Cyclon   Voulgaris, Gavidia, van Steen: CYCLON, J. Network and Systems Management 13(2), 2005
 *   Scamp    Ganesh, Kermarrec, Massoulie: Peer-to-Peer Membership Management for Gossip-Based
 *            Protocols, IEEE Trans. Computers 52(2), 2003
 *
 * CyclonAcked is the HyParView paper's: Cyclon, and who does not acknowledge a gossip message is
 * removed from the view.
 */
#ifndef BP_BASELINE_H
#define BP_BASELINE_H

#include "membership/digraph.h"
#include "membership/hpv_view.h"
#include "membership/vtime.h"

#define BL_ENTRIES 14u /* in one message: Cyclon's shuffle length */

enum bl_kind { BL_CYCLON, BL_CYCLON_ACKED, BL_SCAMP };

struct bl_config {
    enum bl_kind kind;
    uint32_t cap; /* nodes that may ever exist; ids 1..cap */
    uint64_t seed;
    bp_time round;      /* Cyclon's shuffle, Scamp's look at its timers */
    bp_time notice_min; /* CyclonAcked: a missing acknowledgement; as in ov_config */
    bp_time notice_max;
    bp_time attempt; /* Scamp: what was sent to a dead node comes back; as in ov_config */
    unsigned fanout;
    unsigned view_size;    /* Cyclon */
    unsigned walk;         /* Cyclon: steps of a joining node's random walks */
    unsigned extra_copies; /* Scamp: c */
    /* Scamp, in rounds. A lease of 0 never ends. */
    unsigned lease;
    unsigned heartbeat;
    unsigned isolated; /* without a heartbeat */
};

struct bl_entry {
    bp_peer peer;
    uint32_t age; /* Cyclon: rounds; Scamp: the round in which the subscription ends */
    bool suspect; /* CyclonAcked: a message was not acknowledged, the time for it runs */
};

struct bl_view {
    struct bl_entry *e;
    uint32_t n;
    uint32_t cap;
};

struct bl_node {
    bool alive;
    struct bl_view view;
    /* Cyclon: the shuffle that waits for its reply */
    bp_peer asked;
    uint32_t n_sent;
    struct bl_entry sent[BL_ENTRIES];
    /* Scamp */
    uint32_t lease_end; /* round */
    uint32_t heard;     /* round of the last heartbeat */
    uint32_t beat;      /* round of its own last one */
};

enum bl_msg_kind {
    BL_JOIN,          /* Cyclon: newcomer to contact */
    BL_WALK,          /* Cyclon: e[0] = newcomer, n: steps left */
    BL_SHUFFLE,       /* Cyclon: e[0] = sender */
    BL_SHUFFLE_REPLY, /* Cyclon; also what a walk's end gives to the newcomer */
    BL_SUBSCRIBE,     /* Scamp: e[0] = subscriber; steps != 0: with extra copies */
    BL_FORWARDED,     /* Scamp: e[0] = subscriber */
    BL_HEARTBEAT,     /* Scamp */
    BL_UNACKED,       /* not a message: `from` has not acknowledged gossip in time */
    BL_N_MSG_KINDS
};

struct bl_msg {
    enum bl_msg_kind kind;
    bool returned; /* to its sender: the other node is dead */
    uint32_t steps;
    uint32_t n;
    struct bl_entry e[BL_ENTRIES];
};

struct bl_item; /* a message under way */

struct baseline {
    struct bl_config c;
    struct bl_node *nodes; /* [1..cap] */
    uint32_t n_started;
    bp_time now;
    bp_time rounds_since; /* 0: not yet */
    uint64_t rng;
    struct vt_queue queue;
    struct bl_item *items;
    uint32_t n_items;
    uint32_t cap_items;
    uint32_t free_item;
    uint32_t *fifo; /* for gossip */
    uint32_t *hops;
    uint64_t events;
    uint64_t sent[BL_N_MSG_KINDS];
    uint64_t lost_walks; /* subscriptions and walks that found no place */
};

/* The HyParView paper's: view 35, shuffle length 14; c = 4; fanout 4. */
void bl_config_default(struct bl_config *c, enum bl_kind kind, uint32_t cap, uint64_t seed);
void bl_init(struct baseline *b, const struct bl_config *c);
void bl_free(struct baseline *b);

/* A node starts and joins through `contact`, unless that is 0. */
bp_peer bl_start(struct baseline *b, bp_peer contact);
/* From now on there are rounds; those of different nodes are spread over time. Without: joining
 * and gossip only. */
void bl_begin_rounds(struct baseline *b);
void bl_kill(struct baseline *b, bp_peer peer);
void bl_run(struct baseline *b, bp_time until);
bp_peer bl_random_alive(struct baseline *b);
uint32_t bl_alive(const struct baseline *b);
/* The living, and who of them has whom in its view. */
void bl_graph(const struct baseline *b, struct digraph *g);

struct bl_gossip {
    uint32_t reached; /* of the living */
    uint32_t last_hop;
};
/* One message, at this moment: each node that gets it passes it on to `fanout` others. */
struct bl_gossip bl_gossip(struct baseline *b, bp_peer source);

/* --- for the protocols ------------------------------------------------------------- */

void bl_send(struct baseline *b, bp_peer from, bp_peer to, const struct bl_msg *m);
uint32_t bl_below(struct baseline *b, uint32_t n); /* random, [0, n) */
uint32_t bl_round(const struct baseline *b);
struct bl_entry *bl_view_find(const struct bl_view *v, bp_peer peer);
void bl_view_add(struct bl_view *v, bp_peer peer, uint32_t age);
void bl_view_remove_at(struct bl_view *v, uint32_t i);

void cyclon_join(struct baseline *b, bp_peer p, bp_peer contact);
void cyclon_round(struct baseline *b, bp_peer p);
void cyclon_recv(struct baseline *b, bp_peer p, bp_peer from, const struct bl_msg *m);

void scamp_join(struct baseline *b, bp_peer p, bp_peer contact);
void scamp_round(struct baseline *b, bp_peer p);
/* `m`, that `p` had sent, did not reach anybody. */
void scamp_undelivered(struct baseline *b, bp_peer p, const struct bl_msg *m);
void scamp_recv(struct baseline *b, bp_peer p, bp_peer from, const struct bl_msg *m);

#endif
