/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DNS without blocking (c-ares): questions in, answers out, one descriptor to wait for.
 *
 * Typical use: bp_resolver_ask, wait until bp_resolver_fd is readable, bp_resolver_run, then
 * bp_resolver_take until it returns false. One thread at a time; no callbacks reach the user.
 */
#ifndef BP_RESOLVER_H
#define BP_RESOLVER_H

#include "discovery/dns.h"

#define BP_RESOLVER_MAX   256u /* questions under way */
#define BP_RESOLVER_ADDRS 16u  /* addresses of one answer that are kept */

struct bp_resolver;

enum bp_question_kind {
    BP_ASK_HOST, /* addresses of a host name: /etc/hosts, then A and AAAA */
    BP_ASK_SRV   /* SRV records of a name as it stands */
};

struct bp_question {
    enum bp_question_kind kind;
    const char *name; /* borrowed for the call */
    int family;       /* AF_INET, AF_INET6 or AF_UNSPEC */
    uint64_t id;      /* the asker's; comes back with the answer */
    uint64_t who;     /* the same */
};

struct bp_answer {
    uint64_t id;
    uint64_t who;
    enum bp_question_kind kind;
    int rc; /* 0, BP_E_NOT_FOUND, BP_E_TIMEOUT, BP_E_SYSTEM (no server), BP_E_PROTOCOL, ... */
    const char *why; /* static text for a failure */
    uint32_t ttl;    /* seconds; UINT32_MAX for what does not come from DNS */
    size_t n;        /* addresses, with port 0, in the order in which to try them */
    struct bp_addr at[BP_RESOLVER_ADDRS];
    struct bp_srv_answer srv;
};

struct bp_resolver_stats {
    uint64_t asked;
    uint64_t answered;
    uint64_t failed;
    uint64_t refused; /* more than BP_RESOLVER_MAX at once */
};

/*
 * `servers`: comma separated addresses with ports ("127.0.0.1:5353,[::1]:53"), or NULL for those of
 * /etc/resolv.conf, which is looked at again from time to time. Each server is asked twice and has
 * `timeout_ms` for the first answer; every question ends. BP_E_NOMEM, BP_E_SYSTEM, BP_E_INVALID
 * (servers).
 */
int bp_resolver_new(struct bp_resolver **out, const char *servers,
                    unsigned timeout_ms) BP_MUST_CHECK;
/* Questions under way are forgotten. NULL is a no-op. */
void bp_resolver_del(struct bp_resolver *r);

/* Readable when bp_resolver_run has something to do. The resolver's own: not to be closed. */
int bp_resolver_fd(const struct bp_resolver *r);

/* BP_E_LIMIT: too many under way. BP_E_INVALID: not a name. BP_E_NOMEM. The answer may be there at
 * once. */
int bp_resolver_ask(struct bp_resolver *r, const struct bp_question *q) BP_MUST_CHECK;

void bp_resolver_run(struct bp_resolver *r);
/* The next answer; false if there is none. */
bool bp_resolver_take(struct bp_resolver *r, struct bp_answer *out);

void bp_resolver_stats(const struct bp_resolver *r, struct bp_resolver_stats *out);

#endif
