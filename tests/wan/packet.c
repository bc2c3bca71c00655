/* SPDX-License-Identifier: Apache-2.0 */
/* IPv4 (RFC 791), UDP, TCP and ICMP (RFC 792, 1191) as far as the emulator changes them. */
#include "wan/packet.h"

#include <string.h>

#define PROTO_ICMP  1
#define PROTO_TCP   6
#define PROTO_UDP   17
#define IP_HEADER   20u
#define SRC         12u /* offsets in the IPv4 header */
#define DST         16u
#define ICMP_HEADER 8u
#define FIRST_PORT  1024u /* translated ports stay at or above it */

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static void put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
    put16(p, (uint16_t)(v >> 16));
    put16(p + 2, (uint16_t)v);
}

static uint16_t fold(uint64_t sum)
{
    while (sum >> 16 != 0) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)sum;
}

static uint16_t checksum(const uint8_t *p, size_t len)
{
    uint64_t sum = 0;

    for (size_t i = 0; i + 1 < len; i += 2) {
        sum += get16(p + i);
    }
    if (len % 2 != 0) {
        sum += (uint64_t)p[len - 1] << 8;
    }
    return (uint16_t)~fold(sum);
}

/* RFC 1624: the checksum at `at` after 16 bits of what it covers changed. */
static void adjust(uint8_t *at, uint16_t before, uint16_t after)
{
    put16(at, (uint16_t)~fold((uint64_t)(uint16_t)~get16(at) + (uint16_t)~before + after));
}

static size_t header_len(const uint8_t *ip)
{
    return (size_t)(ip[0] & 15) * 4;
}

bool wan_ip4_ok(const uint8_t *ip, size_t len)
{
    return len >= IP_HEADER && ip[0] >> 4 == 4 && header_len(ip) >= IP_HEADER &&
           header_len(ip) <= len && get16(ip + 2) == len;
}

static bool is_fragment(const uint8_t *ip)
{
    return (get16(ip + 6) & 0x1fff) != 0; /* not the first one: without ports */
}

/* The transport checksum, or NULL: not there, or not used. */
static uint8_t *transport_sum(uint8_t *ip, size_t len)
{
    size_t at = header_len(ip);

    if (is_fragment(ip)) {
        return NULL;
    }
    if (ip[9] == PROTO_UDP && len >= at + 8 && get16(ip + at + 6) != 0) {
        return ip + at + 6;
    }
    if (ip[9] == PROTO_TCP && len >= at + 20) {
        return ip + at + 16;
    }
    return NULL;
}

/* Source (offset 0) or destination (2) port, or NULL. */
static uint8_t *port_at(uint8_t *ip, size_t len, size_t offset)
{
    size_t at = header_len(ip);

    if ((ip[9] != PROTO_UDP && ip[9] != PROTO_TCP) || is_fragment(ip) || len < at + 4) {
        return NULL;
    }
    return ip + at + offset;
}

/* A UDP checksum that comes out as 0 is sent as 0xffff: 0 means that there is none. */
static void set16(uint8_t *at, uint16_t value, uint8_t *sum, bool udp)
{
    if (sum != NULL) {
        adjust(sum, get16(at), value);
        if (udp && get16(sum) == 0) {
            put16(sum, 0xffff);
        }
    }
    put16(at, value);
}

static void set_address(uint8_t *ip, size_t len, size_t field, uint32_t value)
{
    uint8_t *sum = transport_sum(ip, len);

    for (size_t half = 0; half < 2; half++) {
        uint8_t *at = ip + field + 2 * half;
        uint16_t v = (uint16_t)(half == 0 ? value >> 16 : value);

        adjust(ip + 10, get16(at), v);
        set16(at, v, sum, ip[9] == PROTO_UDP);
    }
}

static void set_port(uint8_t *ip, size_t len, uint8_t *port, uint16_t value)
{
    set16(port, value, transport_sum(ip, len), ip[9] == PROTO_UDP);
}

/* ---- NAT ---- */

void wan_nat_set(struct wan_nat *n, uint32_t address, uint16_t port_offset)
{
    n->address = address;
    n->port_offset = port_offset;
    n->n = 0;
}

static bool nat_off(const struct wan_nat *n)
{
    return n->port_offset == 0 && (n->address == 0 || n->address == n->inside);
}

static uint32_t outside_address(const struct wan_nat *n)
{
    return n->address != 0 ? n->address : n->inside;
}

static uint16_t translate(const struct wan_nat *n, uint16_t port)
{
    uint32_t span = 65536 - FIRST_PORT;

    if (port < FIRST_PORT) {
        return port;
    }
    return (uint16_t)((port - FIRST_PORT + n->port_offset) % span + FIRST_PORT);
}

bool wan_nat_out(struct wan_nat *n, uint8_t *ip, size_t len)
{
    uint8_t *port;
    uint32_t i;

    if (nat_off(n) || get32(ip + SRC) != n->inside) {
        return true;
    }
    set_address(ip, len, SRC, outside_address(n));
    port = port_at(ip, len, 0);
    if (port == NULL) {
        return true;
    }
    for (i = 0; i < n->n; i++) {
        if (n->map[i].proto == ip[9] && n->map[i].inside == get16(port)) {
            break;
        }
    }
    if (i == n->n) {
        if (n->n == WAN_NAT_MAX) {
            return false;
        }
        n->map[i].proto = ip[9];
        n->map[i].inside = get16(port);
        n->map[i].outside = translate(n, get16(port));
        n->n++;
    }
    set_port(ip, len, port, n->map[i].outside);
    return true;
}

/* The inside port of a mapping, or 0. */
static uint16_t inside_port(const struct wan_nat *n, uint8_t proto, uint16_t outside)
{
    for (uint32_t i = 0; i < n->n; i++) {
        if (n->map[i].proto == proto && n->map[i].outside == outside) {
            return n->map[i].inside;
        }
    }
    return 0;
}

/* An ICMP error quotes a packet of a's: translated back as well, or a could not recognise it. */
static bool nat_in_icmp(const struct wan_nat *n, uint8_t *ip, size_t len)
{
    size_t at = header_len(ip);
    uint8_t *inner = ip + at + ICMP_HEADER;
    uint8_t *port;
    uint16_t inside;

    if (len < at + ICMP_HEADER + IP_HEADER + 4 || (ip[at] != 3 && ip[at] != 11)) {
        return true;
    }
    if (len < at + ICMP_HEADER + header_len(inner) + 4 ||
        get32(inner + SRC) != outside_address(n)) {
        return true;
    }
    put32(inner + SRC, n->inside);
    port = port_at(inner, len - at - ICMP_HEADER, 0);
    if (port != NULL) {
        inside = inside_port(n, inner[9], get16(port));
        if (inside == 0) {
            return false;
        }
        put16(port, inside);
    }
    put16(ip + at + 2, 0);
    put16(ip + at + 2, checksum(ip + at, len - at));
    return true;
}

bool wan_nat_in(const struct wan_nat *n, uint8_t *ip, size_t len)
{
    uint8_t *port;
    uint16_t inside;

    if (nat_off(n)) {
        return true;
    }
    if (get32(ip + DST) != outside_address(n)) {
        return false;
    }
    port = port_at(ip, len, 2);
    if (port != NULL) {
        inside = inside_port(n, ip[9], get16(port));
        if (inside == 0) {
            return false;
        }
        set_port(ip, len, port, inside);
    }
    set_address(ip, len, DST, n->inside);
    return ip[9] != PROTO_ICMP || is_fragment(ip) || nat_in_icmp(n, ip, len);
}

/* ---- ICMP ---- */

size_t wan_icmp_too_big(const uint8_t *ip, size_t len, uint32_t mtu, uint8_t out[64])
{
    size_t quoted = header_len(ip) + 8;
    size_t total;

    if (is_fragment(ip) || ip[9] == PROTO_ICMP || len < quoted || quoted > 36) {
        return 0;
    }
    total = IP_HEADER + ICMP_HEADER + quoted;
    memset(out, 0, IP_HEADER + ICMP_HEADER);
    out[0] = 0x45;
    put16(out + 2, (uint16_t)total);
    out[8] = 64; /* time to live */
    out[9] = PROTO_ICMP;
    memcpy(out + SRC, ip + DST, 4);
    memcpy(out + DST, ip + SRC, 4);
    put16(out + 10, checksum(out, IP_HEADER));
    out[IP_HEADER] = 3;     /* destination unreachable */
    out[IP_HEADER + 1] = 4; /* fragmentation needed and DF set */
    put16(out + IP_HEADER + 6, (uint16_t)(mtu > 65535 ? 65535 : mtu));
    memcpy(out + IP_HEADER + ICMP_HEADER, ip, quoted);
    put16(out + IP_HEADER + 2, checksum(out + IP_HEADER, total - IP_HEADER));
    return total;
}
