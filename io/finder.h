/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a node's name to the addresses at which to dial it: the chain of backends
 * (discovery/chain.h), then DNS for endpoints that are host names, behind one descriptor and one
 * deadline. What barrel_p2p_epmd:addresses_please/2 is for Erlang nodes.
 *
 *     bp_finder_new(&f, &config);
 *     bp_finder_add_files(f, &files); bp_finder_add_dns(f, &dns); ...
 *     bp_finder_lookup(f, "b@host", now, &id);
 *     while (bp_finder_poll(f, &e)) ...
 *     ... when bp_finder_fd(f) is readable, or at bp_finder_deadline(f): bp_finder_run(f, now), and
 *     poll again
 *
 * One thread at a time; no callbacks but those of backends and complaints.
 */
#ifndef BP_FINDER_H
#define BP_FINDER_H

#include "discovery/static_backend.h"
#include "io/dns_backend.h"
#include "io/file_backend.h"

#define BP_FINDER_ADDRS BP_ENDPOINTS_MAX /* of one node that are given */

struct bp_finder;

struct bp_finder_config {
    bp_time limit;        /* for one backend, and for the names of the endpoints; 0: 2 s */
    bp_time negative;     /* as in bp_chain_config */
    const char *servers;  /* DNS for the names of endpoints; copied; NULL: the system's */
    const char *own_host; /* means this machine whatever DNS says: loopback; copied; NULL: none */
    int family;           /* AF_INET, AF_INET6 or AF_UNSPEC */
};

enum bp_finder_event_kind {
    BP_FINDER_FOUND,    /* id, backend, addrs */
    BP_FINDER_UNKNOWN,  /* id; rc is BP_E_NOT_FOUND: no backend knows it; BP_E_SYSTEM: `found`, but
                           none of these names has an address */
    BP_FINDER_COMPLAINT /* backend, rc: it failed, and was left out */
};

struct bp_finder_event {
    enum bp_finder_event_kind kind;
    uint32_t id;
    int rc;
    const char *backend; /* static, or of its table */
    struct bp_endpoints found;
    size_t n;
    struct bp_addr addrs[BP_FINDER_ADDRS]; /* in the order in which to try them, each once */
};

/* BP_E_NOMEM, BP_E_SYSTEM (no descriptor), BP_E_INVALID (a text is too long). */
int bp_finder_new(struct bp_finder **out, const struct bp_finder_config *config) BP_MUST_CHECK;
/* Cancels what is under way; deletes the backends that it has made. NULL is a no-op. */
void bp_finder_del(struct bp_finder *f);

/*
 * Each adds a backend behind those that are there. `nodes` is borrowed, configurations are copied.
 * BP_E_LIMIT: BP_CHAIN_BACKENDS_MAX. BP_E_STATE: there is one of this kind (files, DNS). Else as
 * bp_file_backend_new and bp_dns_backend_new.
 */
int bp_finder_add_static(struct bp_finder *f, struct bp_static_nodes *nodes) BP_MUST_CHECK;
int bp_finder_add_files(struct bp_finder *f,
                        const struct bp_file_backend_config *config) BP_MUST_CHECK;
int bp_finder_add_dns(struct bp_finder *f,
                      const struct bp_dns_backend_config *config) BP_MUST_CHECK;
int bp_finder_add(struct bp_finder *f, const struct bp_backend *b, void *ctx) BP_MUST_CHECK;

/* To publish, withdraw, list, forget and answer. Not to be looked up, polled or deleted. */
struct bp_chain *bp_finder_chain(struct bp_finder *f);

/* As bp_chain_lookup; also BP_E_NOMEM. */
int bp_finder_lookup(struct bp_finder *f, const char *node, bp_time now,
                     uint32_t *id) BP_MUST_CHECK;
/* No event for it will come. */
void bp_finder_cancel(struct bp_finder *f, uint32_t id);

/* Readable when bp_finder_run has something to do. Not to be closed. */
int bp_finder_fd(const struct bp_finder *f);
/* The time at which to call it whatever the descriptor says; BP_TIME_NEVER. */
bp_time bp_finder_deadline(const struct bp_finder *f);
void bp_finder_run(struct bp_finder *f, bp_time now);
bool bp_finder_poll(struct bp_finder *f, struct bp_finder_event *out);

#endif
