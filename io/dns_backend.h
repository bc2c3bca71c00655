/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Discovery by DNS, as a backend of the chain: what barrel_p2p_discovery_dns.erl is for Erlang
 * nodes. With a domain first the SRV records `_erlang-dist._quic.<host>.<domain>` (one node), then
 * those of `_erlang-dist._quic.<domain>` that are about the node; without records, or without a
 * domain, the addresses of the host part of the node's name with one fixed port. All questions are
 * asked at the same time.
 *
 * Typical use:
 *
 *     bp_dns_backend_new(&dns, &config);
 *     bp_chain_add(chain, &bp_dns_backend_ops, dns);
 *     ... after bp_chain_lookup and when bp_dns_backend_fd(dns) is readable:
 *         bp_dns_backend_run(dns, chain)
 *     ... and bp_chain_tick
 *
 * One thread at a time may call these functions and the chain's.
 */
#ifndef BP_DNS_BACKEND_H
#define BP_DNS_BACKEND_H

#include "discovery/chain.h"
#include "io/resolver.h"

#define BP_DNS_BACKEND_PORT 4433u

struct bp_dns_backend;

struct bp_dns_backend_config {
    const char *domain;   /* of SRV records; copied; NULL: none are asked for */
    const char *servers;  /* as bp_resolver_new has it; copied; NULL: the system's */
    const char *own_host; /* whose addresses are not asked for: no other node has our port there;
                             copied; NULL: none */
    uint16_t port;        /* where there is no SRV record; 0: BP_DNS_BACKEND_PORT */
    int family;           /* AF_INET, AF_INET6 or AF_UNSPEC */
    bp_time limit;    /* for list, and four times what a server has for its first answer; 0: 2 s */
    uint32_t max_ttl; /* seconds for which an answer is kept at most */
};

/* BP_E_INVALID: the domain or the servers. BP_E_NOMEM, BP_E_SYSTEM. */
int bp_dns_backend_new(struct bp_dns_backend **out,
                       const struct bp_dns_backend_config *config) BP_MUST_CHECK;
/* The chain must be gone. NULL is a no-op. */
void bp_dns_backend_del(struct bp_dns_backend *b);

/* Readable when bp_dns_backend_run has something to do. Not to be closed. */
int bp_dns_backend_fd(const struct bp_dns_backend *b);

/* Gives the chain what was answered meanwhile. What /etc/hosts knows is there at once: call it
 * after bp_chain_lookup, too. */
void bp_dns_backend_run(struct bp_dns_backend *b, struct bp_chain *c);

/*
 * The backend; its context is a struct bp_dns_backend.
 *
 * lookup: BP_E_NOT_FOUND, BP_E_TIMEOUT, BP_E_SYSTEM (no server), BP_E_PROTOCOL, BP_E_LIMIT.
 * list: the targets of the domain's records, as upstream names nodes there ("a.b.c" is a@b.c);
 * waits for them up to the limit. Nothing where there is no domain.
 */
extern const struct bp_backend bp_dns_backend_ops;

#endif
