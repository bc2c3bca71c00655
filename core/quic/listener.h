/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What to do with a datagram that no connection owns: accept, answer statelessly, or drop.
 * Keeps no connection, only counters of half-open ones and the secrets of tokens and resets.
 */
#ifndef BP_LISTENER_H
#define BP_LISTENER_H

#include "base/addr.h"
#include "base/rate.h"
#include "quic/conn.h"

#define BP_HALF_OPEN_MAX             256u /* connections that are not authenticated, in all */
#define BP_HALF_OPEN_RETRY           32u  /* from here on an address must be proved with Retry */
#define BP_HALF_OPEN_PER_SOURCE      64u  /* from one IP address (IPv6: one /64) */
#define BP_HALF_OPEN_ROOMY           128u /* up to here; then fewer, so that a few hosts ... */
#define BP_HALF_OPEN_TIGHT           192u
#define BP_HALF_OPEN_PER_SOURCE_BUSY 16u /* ... that hold what they can ... */
#define BP_HALF_OPEN_PER_SOURCE_FULL 4u  /* ... do not lock all others out */
#define BP_WASTED_RETRY              32u /* useless first packets in a second: Retry from here on */
#define BP_WASTED_HOLD               (10 * BP_SEC) /* for so long */
#define BP_RETRY_TOKEN_LIFETIME      (10 * BP_SEC)
/* Stateless answers, in each tenth of a second. A source has its own share, so that a flood from
 * others does not take a peer's Retry or reset away; the sum bounds what a flood from spoofed
 * addresses costs. */
#define BP_REPLIES_PER_SOURCE        25u
#define BP_REPLIES_IN_ALL            500u
#define BP_REPLY_WINDOW              (100 * BP_MS)
#define BP_REPLY_SOURCES             1024u /* sources are hashed to that many shares; a power of two */

/* Peers that nobody here knows and that have not proved the cookie: the VM makes an atom of the
 * name of each, for ever. So many at once from a source and in all, then one in a period. */
#define BP_NEWCOMERS_PER_SOURCE   64u
#define BP_NEWCOMER_SOURCE_PERIOD (5 * BP_SEC)
#define BP_NEWCOMERS_IN_ALL       512u
#define BP_NEWCOMER_PERIOD        BP_SEC
#define BP_NEWCOMER_SOURCES       256u

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

/* What a connection that answers it must know, into its config; the token is borrowed. */
void bp_initial_config(const struct bp_initial *in, struct bp_conn_config *cfg);

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
    uint32_t replies; /* in this window */
    uint8_t source_replies[BP_REPLY_SOURCES];
    bp_time wasted_window;
    uint32_t wasted_now;
    bp_time retry_until;
    struct bp_rate newcomers;
    struct bp_rate source_newcomers[BP_NEWCOMER_SOURCES]; /* hashed, as the above */
    /* counters */
    uint64_t dropped_short; /* Initials below 1200 bytes, and what cannot be parsed */
    uint64_t dropped_limit; /* because of the limits above */
    uint64_t wasted;        /* see bp_listener_wasted */
    uint64_t newcomers_refused;
    uint64_t retries;
    uint64_t version_negotiations;
    uint64_t resets;
};

/* `reset_secret` should survive a restart, so that peers learn of it by a stateless reset. */
int bp_listener_init(struct bp_listener *l, const uint8_t reset_secret[static 32]) BP_MUST_CHECK;

/* Another secret from now on, that of the connections to come. */
void bp_listener_set_reset_secret(struct bp_listener *l, const uint8_t reset_secret[static 32]);

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

/*
 * An accepted connection ended before TLS was done, by its peer's fault: its first packet was none,
 * or led nowhere. Such a connection costs memory and keys although it is never half-open for long;
 * when there are many, addresses must be proved.
 */
void bp_listener_wasted(struct bp_listener *l, bp_time now);

/*
 * A peer that is not known here wants to begin the distribution handshake. False: there were too
 * many of them that did not have the cookie. bp_listener_welcome takes back one that had it.
 */
bool bp_listener_newcomer(struct bp_listener *l, const struct bp_addr *remote, bp_time now);
void bp_listener_welcome(struct bp_listener *l, const struct bp_addr *remote);

/* An accepted connection counts against the limits until it is authenticated or gone. */
void bp_listener_half_open(struct bp_listener *l, const struct bp_addr *remote, bool added);

#endif
