/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HyParView (Leitao, Pereira, Rodrigues: HyParView, DSN 2007) as a state machine: which few peers a
 * node keeps a link to (the active view, symmetric), and which it falls back on (the passive view).
 *
 *   struct bp_hpv_out out;
 *   bp_hpv_step(h, &event, now, &out);      -> carry out out.effects in their order
 *   bp_hpv_deadline(h)                      -> when to step with BP_HPV_TICK
 *
 * A channel between two nodes delivers messages in order or goes down. Where this differs from the
 * paper is said at each rule; the differences in short:
 *   - each attempt to link is NEIGHBOR over a channel that is up, with a deadline, and both ends
 *     know the outcome; whoever finds a link that only the other end believes in sends DISCONNECT;
 *   - a refusal or failure is followed by another candidate, but bounded per shuffle period;
 *   - passive entries carry an age that travels with them: who is not heard of by anybody expires;
 *   - after many failures the passive view is looked through for nodes that are cut off;
 *   - peers lost from the active view are remembered (`lost`) and asked again with backoff, and one
 *     link is swapped for a random passive peer now and then: islands find each other again.
 *
 * Peers are the caller's handles; 0 is nobody. No function here allocates but bp_hpv_new.
 */
#ifndef BP_HPV_H
#define BP_HPV_H

#include "base/types.h"

#define BP_HPV_ACTIVE_MAX     32u  /* largest active_size */
#define BP_HPV_PASSIVE_MAX    512u /* largest passive_size */
#define BP_HPV_SHUFFLE_MAX    32u  /* largest shuffle_length, and peers in one message */
#define BP_HPV_TTL_MAX        32u
#define BP_HPV_CONTACTS       16u
#define BP_HPV_REPLIES        2u /* temporary channels for shuffle replies */
#define BP_HPV_LOST_MAX       16u
/* Attempts to link under way, beyond one for each place in the active view. */
#define BP_HPV_EXTRA_ATTEMPTS 8u
/* No step has more effects. Most come from LEAVE: two for each link. */
#define BP_HPV_EFFECTS_MAX    (4u * BP_HPV_ACTIVE_MAX + 32u)

typedef uint32_t bp_peer;
#define BP_PEER_NONE 0u

/* An age that a peer did not say. */
#define BP_HPV_AGE_UNKNOWN UINT32_MAX

enum bp_hpv_kind {
    BP_HPV_JOIN,           /* newcomer to contact */
    BP_HPV_FORWARD_JOIN,   /* peer = newcomer, ttl */
    BP_HPV_DISCONNECT,     /* the sender has no link to you (any more) */
    BP_HPV_NEIGHBOR,       /* flag = high priority */
    BP_HPV_NEIGHBOR_REPLY, /* flag = accepted */
    BP_HPV_SHUFFLE,        /* peer = originator, ttl, peers */
    BP_HPV_SHUFFLE_REPLY,  /* peers */
    BP_HPV_N_KINDS
};

struct bp_hpv_known {
    bp_peer peer;
    uint32_t age_ms; /* since somebody was last in touch with it */
};

struct bp_hpv_msg {
    enum bp_hpv_kind kind;
    bp_peer peer;
    uint8_t ttl;
    bool flag;
    uint8_t n_peers;
    struct bp_hpv_known peers[BP_HPV_SHUFFLE_MAX];
};

enum bp_hpv_event_kind {
    BP_HPV_DO_JOIN, /* peer = contact */
    BP_HPV_DO_LEAVE,
    BP_HPV_RECV,      /* msg from peer, over the channel to it */
    BP_HPV_CONNECTED, /* answers CONNECT: the channel is up, maybe has been for long */
    BP_HPV_CONNECT_FAILED,
    BP_HPV_CHANNEL_DOWN, /* the channel to peer, whoever wanted it, is gone */
    BP_HPV_TICK          /* the deadline has come; harmless at any other time */
};

struct bp_hpv_event {
    enum bp_hpv_event_kind kind;
    bp_peer peer;
    const struct bp_hpv_msg *msg; /* borrowed for the step */
};

enum bp_hpv_effect_kind {
    BP_HPV_CONNECT,   /* see that there is a channel to peer; answer with CONNECTED or _FAILED */
    BP_HPV_SEND,      /* msg to peer; to nobody if the channel is down */
    BP_HPV_RELEASE,   /* a channel that CONNECT made for us is of no more use to us */
    BP_HPV_PEER_UP,   /* peer is in the active view */
    BP_HPV_PEER_DOWN, /* ... no more, because of reason */
    BP_HPV_JOINED, /* the active view is not empty any more, for the first time or after `left` */
    BP_HPV_LEFT
};

enum bp_hpv_reason {
    BP_HPV_DROPPED,  /* by us, to make room */
    BP_HPV_GRACEFUL, /* by the peer, or we leave */
    BP_HPV_NODEDOWN, /* its channel went down */
    BP_HPV_CONNECT_FAILED_REASON
};

struct bp_hpv_effect {
    enum bp_hpv_effect_kind kind;
    bp_peer peer;
    enum bp_hpv_reason reason; /* of PEER_DOWN */
    struct bp_hpv_msg msg;     /* of SEND */
};

struct bp_hpv_out {
    unsigned n;
    unsigned overflow; /* effects that found no room: always 0, see BP_HPV_EFFECTS_MAX */
    struct bp_hpv_effect effects[BP_HPV_EFFECTS_MAX];
};

struct bp_hpv_config {
    bp_peer self;
    uint64_t seed;
    unsigned active_size;    /* 1..BP_HPV_ACTIVE_MAX */
    unsigned passive_size;   /* 1..BP_HPV_PASSIVE_MAX */
    unsigned arwl;           /* steps of a join's and a shuffle's walk, 1..BP_HPV_TTL_MAX */
    unsigned prwl;           /* at which step a join's walk reaches passive views, <= arwl */
    unsigned shuffle_length; /* 1..BP_HPV_SHUFFLE_MAX, this node included */
    unsigned max_fail_count;
    bp_time shuffle_period;
    bp_time base_backoff;
    bp_time passive_max_age;
    bp_time cleanup_period;
    bp_time churn_window;
    bp_time pending_timeout;
    bp_time swap_period; /* between two swaps for a random passive peer; 0: never */
    bp_time lost_max_age;
    bp_time contact_retry;
    unsigned n_contacts; /* <= BP_HPV_CONTACTS */
    bp_peer contacts[BP_HPV_CONTACTS];
};

/* Counters since _new: hpv_stats.def. */
struct bp_hpv_stats {
#define X(name, text) uint64_t name;
#include "membership/hpv_stats.def"
#undef X
};

struct bp_hpv;

/* Upstream's defaults (WIRE 10.2) and ours for the rest; self, seed and contacts stay 0. */
void bp_hpv_config_default(struct bp_hpv_config *c);

/*
 * A node without links. Errors: BP_E_INVALID (a value is out of its range), BP_E_NOMEM.
 * `mem` is borrowed for the object's life.
 */
int bp_hpv_new(struct bp_hpv **out, const struct bp_hpv_config *c, const struct bp_mem *mem,
               bp_time now) BP_MUST_CHECK;
void bp_hpv_del(struct bp_hpv *h);

/*
 * Takes one event; `out` is overwritten with what the host must do, in order. `now` never goes
 * back (an earlier one counts as the last one). BP_E_INVALID: the event names nobody or this node
 * itself, or the message is not well-formed; nothing has changed but a counter.
 */
int bp_hpv_step(struct bp_hpv *h, const struct bp_hpv_event *ev, bp_time now,
                struct bp_hpv_out *out);

/* When to step with TICK; never BP_TIME_NEVER. */
bp_time bp_hpv_deadline(const struct bp_hpv *h);

/* The views, into at most `cap` places; return the number of peers in the view. */
unsigned bp_hpv_active(const struct bp_hpv *h, bp_peer *out, unsigned cap);
unsigned bp_hpv_passive(const struct bp_hpv *h, bp_peer *out, unsigned cap);
bool bp_hpv_is_active(const struct bp_hpv *h, bp_peer peer);

/* Is the channel to `peer` in use: a link, an attempt to link, a reply that waits for it? */
bool bp_hpv_needs(const struct bp_hpv *h, bp_peer peer);

/* Does anything in here name `peer`? Where not, its handle may be given to another peer. */
bool bp_hpv_refers(const struct bp_hpv *h, bp_peer peer);

const struct bp_hpv_stats *bp_hpv_stats(const struct bp_hpv *h);
const char *bp_hpv_reason_name(enum bp_hpv_reason reason);

#endif
