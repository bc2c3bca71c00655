/* SPDX-License-Identifier: Apache-2.0 */
/* UDP addresses as values: no resolving, no sockets. */
#ifndef BP_ADDR_H
#define BP_ADDR_H

#include "base/types.h"

#include <netinet/in.h>
#include <sys/socket.h>

struct bp_addr {
    union {
        struct sockaddr sa;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } u;
    socklen_t len; /* 0: no address */
};

/* "[2001:db8::1]:65535" and its terminating zero, with room for a scope. */
#define BP_ADDR_TEXT_MAX 72u

/* An IPv4 or IPv6 literal and a port. Returns 0 or BP_E_INVALID. */
int bp_addr_parse(struct bp_addr *out, const char *ip, uint16_t port) BP_MUST_CHECK;

/* Copies what a system call filled in; false if it is no IPv4 or IPv6 address. */
bool bp_addr_from_sockaddr(struct bp_addr *out, const void *sa, size_t len);

/* IPv4 as ::ffff:a.b.c.d, for sockets of family AF_INET6; IPv6 stays. */
void bp_addr_map_v6(struct bp_addr *a);

/* Whether it is an IPv4 address in IPv6 form. */
bool bp_addr_is_mapped(const struct bp_addr *a);

uint16_t bp_addr_port(const struct bp_addr *a);
void bp_addr_set_port(struct bp_addr *a, uint16_t port);
bool bp_addr_equal(const struct bp_addr *a, const struct bp_addr *b);

/* "192.0.2.1:4433" or "[2001:db8::1]:4433"; mapped IPv4 is shown as IPv4. Returns `buf`. */
const char *bp_addr_text(const struct bp_addr *a, char buf[static BP_ADDR_TEXT_MAX]);

/* The address without the port, in the same form ("192.0.2.1"). Returns `buf`. */
const char *bp_addr_ip_text(const struct bp_addr *a, char buf[static BP_ADDR_TEXT_MAX]);

#endif
