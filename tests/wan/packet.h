/* SPDX-License-Identifier: Apache-2.0 */
/* What the emulator does to IPv4 packets: address translation, ICMP "fragmentation needed". */
#ifndef WAN_PACKET_H
#define WAN_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WAN_NAT_MAX 1024

/*
 * A NAT in front of side a. Its mappings are made by a's packets and forgotten when its rules
 * change, as in a NAT that was restarted: what b sends to a forgotten address is dropped. While
 * the rules change nothing (port_offset 0, address 0) everything passes.
 */
struct wan_nat {
    uint32_t inside;      /* a's address, host order */
    uint32_t address;     /* what b sees instead; 0: the same */
    uint16_t port_offset; /* added to a's source ports */
    uint32_t n;
    struct {
        uint8_t proto;
        uint16_t inside, outside;
    } map[WAN_NAT_MAX];
};

/* True for a whole IPv4 packet: what the other functions may be given. */
bool wan_ip4_ok(const uint8_t *ip, size_t len);

/* New rules; forgets the mappings. */
void wan_nat_set(struct wan_nat *n, uint32_t address, uint16_t port_offset);

/* Rewrites a packet of side a / to side a in place. False: drop it (no mapping, table full). */
bool wan_nat_out(struct wan_nat *n, uint8_t *ip, size_t len);
bool wan_nat_in(const struct wan_nat *n, uint8_t *ip, size_t len);

/*
 * The ICMP message that a router with this MTU would answer to `ip`; its length, or 0 if there is
 * none (fragments, ICMP errors). Comes from the address that the packet was sent to.
 */
size_t wan_icmp_too_big(const uint8_t *ip, size_t len, uint32_t mtu, uint8_t out[64]);

#endif
