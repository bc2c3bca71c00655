/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The chain of discovery backends for programs without a VM: asks them in order, the first that
 * knows a node wins. What barrel_p2p_discovery.erl is for Erlang nodes.
 *
 * A backend is a table of functions. A lookup that needs time returns 0 and answers later with
 * bp_chain_answer; one that takes longer than the limit is left out for a while. Time is an
 * argument, nothing here waits, and results are polled:
 *
 *     bp_chain_lookup(c, "b@h", now, &id);
 *     while (bp_chain_poll(c, &e)) ...          e.kind, e.id, e.rc, e.found
 *     ... at bp_chain_deadline(c): bp_chain_tick(c, now)
 */
#ifndef BP_CHAIN_H
#define BP_CHAIN_H

#include "discovery/endpoint.h"

#define BP_CHAIN_BACKENDS_MAX 8u
#define BP_CHAIN_LOOKUPS_MAX  64u  /* at once */
#define BP_CHAIN_KEPT_MAX     256u /* answers */
#define BP_CHAIN_EVENTS_MAX   32u  /* complaints that nobody has polled */
#define BP_CHAIN_PAUSE        (5u * BP_SEC)

struct bp_chain;

/*
 * All but `name` and `lookup` may be NULL. Functions are called from inside bp_chain_ functions,
 * and may call nothing of the chain but bp_chain_answer. `lookup` and `cancel` must not block; the
 * others may take a time that has a limit. Strings are borrowed.
 *
 * Ready ones: discovery/static_backend.h, io/file_backend.h, io/dns_backend.h.
 */
struct bp_backend {
    const char *name;
    bool local; /* answers cost next to nothing and may change at any time: they are not kept */
    /* 0: it answers (or has answered) `ticket`. BP_E_NOT_FOUND, or another error. */
    int (*lookup)(void *ctx, struct bp_chain *c, uint64_t ticket, const char *node,
                  const char *host);
    /* The answer to `ticket` is not wanted any more. */
    void (*cancel)(void *ctx, uint64_t ticket);
    /* This node can be reached there now; 0 or an error. */
    int (*publish)(void *ctx, const char *node, const struct bp_endpoints *eps);
    int (*withdraw)(void *ctx, const char *node);
    /* Calls `each` for the nodes that it knows; 0 or an error. */
    int (*list)(void *ctx, void (*each)(void *each_ctx, const char *node, uint16_t port),
                void *each_ctx);
};

struct bp_chain_config {
    const struct bp_mem *mem; /* NULL: the C library's */
    bp_time limit;            /* for one backend; 0: 2 s */
    bp_time negative;         /* how long "not found" is kept; 0: 1 s */
};

enum bp_chain_event_kind {
    BP_CHAIN_FOUND,    /* id, found, backend */
    BP_CHAIN_UNKNOWN,  /* id; rc is BP_E_NOT_FOUND */
    BP_CHAIN_COMPLAINT /* backend, rc: it failed, and was left out; BP_E_TIMEOUT: it hung */
};

struct bp_chain_event {
    enum bp_chain_event_kind kind;
    uint32_t id;
    int rc;
    const char *backend; /* of its table */
    struct bp_endpoints found;
};

struct bp_chain_stats {
    uint64_t lookups;
    uint64_t kept_answers; /* lookups of a backend that were not needed */
    uint64_t late_answers;
    uint64_t timeouts;
    uint64_t failures;
    uint64_t refused; /* BP_CHAIN_LOOKUPS_MAX */
    uint64_t complaints_dropped;
};

/* BP_E_NOMEM. */
int bp_chain_new(struct bp_chain **out, const struct bp_chain_config *config) BP_MUST_CHECK;
/* Cancels what is under way. NULL is a no-op. */
void bp_chain_del(struct bp_chain *c);

/* Adds a backend behind those that are there; both are borrowed for the chain's life. BP_E_LIMIT.
 */
int bp_chain_add(struct bp_chain *c, const struct bp_backend *b, void *ctx) BP_MUST_CHECK;

/*
 * Looks for a node, "name@host". The event comes by bp_chain_poll. BP_E_INVALID: no node name.
 * BP_E_LIMIT: too many at once.
 */
int bp_chain_lookup(struct bp_chain *c, const char *node, bp_time now, uint32_t *id) BP_MUST_CHECK;
/* No event for it will come. */
void bp_chain_cancel(struct bp_chain *c, uint32_t id);

/*
 * A backend's answer: rc 0 with at least one address, else an error. `ttl` seconds for which it may
 * be kept. What comes too late or twice is counted and ignored.
 */
void bp_chain_answer(struct bp_chain *c, uint64_t ticket, int rc, const struct bp_endpoints *eps,
                     uint32_t ttl);

/* Moves lookups on after answers and past backends that hang. */
void bp_chain_tick(struct bp_chain *c, bp_time now);
bp_time bp_chain_deadline(const struct bp_chain *c);
bool bp_chain_poll(struct bp_chain *c, struct bp_chain_event *out);

/* Forgets what was kept about a node: dialling it has failed. */
void bp_chain_forget(struct bp_chain *c, const char *node);

/* With every backend that can; complaints come as events. Returns how many have taken it. */
unsigned bp_chain_publish(struct bp_chain *c, const char *node, const struct bp_endpoints *eps);
unsigned bp_chain_withdraw(struct bp_chain *c, const char *node);

/* Each node that any backend knows; one that several know comes several times. */
void bp_chain_list(struct bp_chain *c, void (*each)(void *ctx, const char *node, uint16_t port),
                   void *ctx);

void bp_chain_stats(const struct bp_chain *c, struct bp_chain_stats *out);

#endif
