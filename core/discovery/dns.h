/* SPDX-License-Identifier: Apache-2.0 */
/* What discovery makes of DNS answers: SRV records (RFC 2782) and the order of addresses. */
#ifndef BP_DNS_H
#define BP_DNS_H

#include "base/addr.h"

#define BP_DNS_NAME_MAX 253u
#define BP_SRV_MAX      64u /* records of one answer that are kept */

struct bp_srv {
    uint16_t priority; /* lower first */
    uint16_t weight;
    uint16_t port;
    char target[BP_DNS_NAME_MAX + 1]; /* without the last dot, in lower case */
};

struct bp_srv_answer {
    uint32_t ttl; /* seconds, of the record that ends first */
    size_t n;
    struct bp_srv at[BP_SRV_MAX];
};

/*
 * Reads the SRV records of a DNS message of `len` bytes, in the order in which to use them. Others,
 * and records whose port or target cannot be used ("." says that there is no such service), are
 * left out, as is what goes beyond BP_SRV_MAX. BP_E_NOT_FOUND: none is left. BP_E_PROTOCOL: not a
 * DNS answer. `*out` is empty after a failure.
 */
int bp_dns_parse_srv(const uint8_t *msg, size_t len, struct bp_srv_answer *out) BP_MUST_CHECK;

/*
 * The name to ask for: "_erlang-dist._quic.<host>.<domain>", or without the host where that is
 * NULL. BP_E_LIMIT where it is too long, BP_E_INVALID where a part is no host name.
 */
int bp_dns_service_name(const char *host, const char *domain,
                        char out[static BP_DNS_NAME_MAX + 1]) BP_MUST_CHECK;

/*
 * Whether a record of "_erlang-dist._quic.<domain>" is about node `name`@`host`: its target is the
 * host, the host in that domain, or name.host, which is how upstream names nodes in DNS.
 */
bool bp_dns_srv_is_node(const struct bp_srv *srv, const char *name, const char *host,
                        const char *domain);

/*
 * Happy eyeballs (RFC 8305, 4): alternates between the families, beginning with the first
 * address's, and keeps the order within each.
 */
void bp_dns_interleave(struct bp_addr *addrs, size_t n);

#endif
