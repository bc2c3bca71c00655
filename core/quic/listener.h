/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What to do with a datagram that no connection owns: accept, answer statelessly, or drop.
 * Keeps no connection, only counters of half-open ones and the secrets of tokens and resets.
 */
#ifndef BP_LISTENER_H
#define BP_LISTENER_H

#include "base/addr.h"
#include "quic/conn.h"

#define BP_HALF_OPEN_MAX             256u /* connections that are not authenticated, in all */
#define BP_HALF_OPEN_RETRY           32u  /* from here on an address must be proved with Retry */
#define BP_HALF_OPEN_PER_SOURCE      64u  /* from one IP address (IPv6: one /64) */
#define BP_RETRY_TOKEN_LIFETIME      (10 * BP_SEC)
#define BP_STATELESS_REPLIES_PER_SEC 100u

enum bp_listener_action {
    BP_LISTENER_DROP,
    BP_LISTENER_ROUTE,  /* belongs to the connection with `cid`, if there is one */
    BP_LISTENER_ACCEPT, /* make a server connection from `initial` and feed it the datagram */
    BP_LISTENER_REPLY   /* send the `reply_len` bytes that were written */
};

/* What an acceptable Initial says; goes into struct bp_conn_config. */
struct bp_initial {
    uint32_t version;
    struct bp_cid client_scid;
    struct bp_cid client_dcid;
    struct bp_cid original_dcid;
    bool retried;
    const uint8_t *token; /* in the datagram */
    size_t token_len;
};

struct bp_listener_result {
    enum bp_listener_action action;
    struct bp_cid cid;
    struct bp_initial initial;
    size_t reply_len;
};

struct bp_half_open {
    uint8_t source[16];
    uint32_t n;
};

struct bp_listener {
    uint8_t reset_secret[32];
    uint8_t token_secret[32];
    uint32_t n_half_open;
    struct bp_half_open sources[BP_HALF_OPEN_MAX];
    uint32_t n_sources;
    bp_time reply_window;
    uint32_t replies;
    /* counters */
    uint64_t dropped_short; /* Initials below 1200 bytes, and what cannot be parsed */
    uint64_t dropped_limit; /* because of the limits above */
    uint64_t retries;
    uint64_t version_negotiations;
    uint64_t resets;
};

/* `reset_secret` should survive a restart, so that peers learn of it by a stateless reset. */
int bp_listener_init(struct bp_listener *l, const uint8_t reset_secret[static 32]) BP_MUST_CHECK;

/*
 * Judges a datagram that came from `remote`. First it is taken apart: short headers and known
 * kinds of long headers give ROUTE with the destination id; the caller looks the id up and, where
 * nobody has it, calls bp_listener_unknown.
 */
void bp_listener_classify(struct bp_listener *l, const uint8_t *p, size_t len,
                          struct bp_listener_result *out);

/* The id of `out` is nobody's: accept, answer into `reply` (cap >= 1280), or drop. */
void bp_listener_unknown(struct bp_listener *l, const struct bp_addr *remote, const uint8_t *p,
                         size_t len, uint8_t *reply, size_t cap, bp_time now,
                         struct bp_listener_result *out);

/* An accepted connection counts against the limits until it is authenticated or gone. */
void bp_listener_half_open(struct bp_listener *l, const struct bp_addr *remote, bool added);

#endif
