/* SPDX-License-Identifier: Apache-2.0 */
/* What happens to a packet on its way. */
#include "wan/wan.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MILLION        1000000u
#define READS_PER_WAKE 64

static uint64_t next_random(struct wan_link *l)
{
    uint64_t z = l->rng += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static bool chance(struct wan_link *l, uint32_t of_a_million)
{
    return of_a_million != 0 && next_random(l) % MILLION < of_a_million;
}

void wan_link_init(struct wan_link *l, uint64_t seed)
{
    memset(l, 0, sizeof(*l));
    l->rng = seed;
    for (int d = 0; d < 2; d++) {
        l->params[d].queue = 256 * 1024;
        l->tun[d] = -1;
        l->heap[d] = calloc(WAN_QUEUE_MAX, sizeof(*l->heap[d]));
        if (l->heap[d] == NULL) {
            fprintf(stderr, "wan: no memory\n");
            exit(1);
        }
    }
}

/* --- the queue, a heap by time ------------------------------------------- */

static bool before(const struct wan_packet *a, const struct wan_packet *b)
{
    return a->at != b->at ? a->at < b->at : a->seq < b->seq;
}

static void push(struct wan_link *l, int d, struct wan_packet *p)
{
    struct wan_packet **h = l->heap[d];
    size_t i = l->n[d]++;

    while (i > 0 && before(p, h[(i - 1) / 2])) {
        h[i] = h[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    h[i] = p;
}

static struct wan_packet *pop(struct wan_link *l, int d)
{
    struct wan_packet **h = l->heap[d];
    struct wan_packet *top = h[0];
    struct wan_packet *last = h[--l->n[d]];
    size_t i = 0;

    for (;;) {
        size_t child = 2 * i + 1;
        if (child + 1 < l->n[d] && before(h[child + 1], h[child])) {
            child++;
        }
        if (child >= l->n[d] || !before(h[child], last)) {
            break;
        }
        h[i] = h[child];
        i = child;
    }
    h[i] = last;
    return top;
}

/* --- NAT ----------------------------------------------------------------- */

static uint16_t load16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static void store16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

/* Replaces 16 bits and corrects the checksum at `sum` (RFC 1624). */
static void replace16(uint8_t *p, uint16_t v, uint8_t *sum)
{
    uint32_t s = (uint32_t)(uint16_t)~load16(sum) + (uint16_t)~load16(p) + v;

    s = (s & 0xffff) + (s >> 16);
    s = (s & 0xffff) + (s >> 16);
    store16(sum, (uint16_t)~s);
    store16(p, v);
}

static void replace_addr(uint8_t *p, uint32_t addr, uint8_t *ip_sum, uint8_t *udp_sum)
{
    uint8_t a[4];

    memcpy(a, &addr, 4);
    for (int i = 0; i < 4; i += 2) {
        uint8_t saved[2] = {p[i], p[i + 1]};
        replace16(p + i, load16(a + i), ip_sum);
        if (load16(udp_sum) != 0) {
            p[i] = saved[0];
            p[i + 1] = saved[1];
            replace16(p + i, load16(a + i), udp_sum);
        }
    }
}

static bool has_nat(const struct wan_link *l)
{
    return l->nat.port_add != 0 || l->nat.addr != 0;
}

/* One port of an address becomes another, and the checksum stays right; 0 is "no checksum". */
static void replace_port(uint8_t *p, uint16_t port, uint8_t *udp_sum)
{
    if (load16(udp_sum) != 0) {
        replace16(p, port, udp_sum);
    }
    store16(p, port);
}

/* False: what was sent to a mapping that is forgotten. */
static bool translate(struct wan_link *l, enum wan_dir d, uint8_t *p, size_t len)
{
    size_t ihl = (size_t)(p[0] & 15) * 4;
    uint32_t outside = l->nat.addr != 0 ? l->nat.addr : l->addr[0];
    uint8_t *udp = p + ihl;
    uint16_t port;

    if (!has_nat(l) || (p[0] >> 4) != 4 || p[9] != IPPROTO_UDP || len < ihl + 8) {
        return true;
    }
    if (d == WAN_AB) {
        port = (uint16_t)(load16(udp) + l->nat.port_add);
        l->nat_inside[port] = load16(udp);
        replace_addr(p + 12, outside, p + 10, udp + 6);
        replace_port(udp, port, udp + 6);
        return true;
    }
    port = l->nat_inside[load16(udp + 2)];
    if (port == 0 || memcmp(p + 16, &outside, 4) != 0) {
        return false;
    }
    replace_addr(p + 16, l->addr[0], p + 10, udp + 6);
    replace_port(udp + 2, port, udp + 6);
    return true;
}

/* --- forwarding ---------------------------------------------------------- */

static void deliver(struct wan_link *l, int d, const uint8_t *p, size_t len)
{
    /* A full device drops, as networks do. */
    if (write(l->tun[1 - d], p, len) == (ssize_t)len) {
        l->stats[d].packets++;
        l->stats[d].bytes += len;
        if (len > l->stats[d].largest) {
            l->stats[d].largest = len;
        }
    } else {
        l->stats[d].overrun++;
    }
}

/* When the bottleneck has let the packet through; 0: there was no room for it. */
static uint64_t through_bottleneck(struct wan_link *l, int d, size_t len, uint64_t now)
{
    const struct wan_params *p = &l->params[d];
    uint64_t start = l->busy_until[d] > now ? l->busy_until[d] : now;

    if (p->rate == 0) {
        return now;
    }
    if ((start - now) / 1000 * (p->rate / 1000) / 8 / 1000 > p->queue) {
        return 0;
    }
    l->busy_until[d] = start + (uint64_t)len * 8 * 1000000 / (p->rate / 1000);
    return l->busy_until[d];
}

static void enqueue(struct wan_link *l, int d, const uint8_t *data, size_t len, uint64_t at)
{
    struct wan_packet *p;

    if (l->n[d] == WAN_QUEUE_MAX || (p = malloc(sizeof(*p) + len)) == NULL) {
        l->stats[d].overrun++;
        return;
    }
    p->at = at;
    p->seq = l->seq++;
    p->len = (uint32_t)len;
    memcpy(p->data, data, len);
    push(l, d, p);
}

static void forward(struct wan_link *l, enum wan_dir d, uint8_t *data, size_t len, uint64_t now)
{
    const struct wan_params *p = &l->params[d];
    unsigned copies = 1;
    uint64_t out;

    if (p->mtu != 0 && len > p->mtu) {
        l->stats[d].too_big++;
        return;
    }
    if (p->down || chance(l, p->loss) || len < 20 || !translate(l, d, data, len)) {
        l->stats[d].lost++;
        return;
    }
    out = through_bottleneck(l, d, len, now);
    if (out == 0) {
        l->stats[d].overrun++;
        return;
    }
    if (chance(l, p->dup)) {
        l->stats[d].duplicated++;
        copies = 2;
    }
    while (copies-- > 0) {
        uint64_t wait = p->delay + (p->jitter != 0 ? next_random(l) % (p->jitter + 1) : 0);

        if (chance(l, p->reorder)) {
            wait = 0;
        }
        if (out + wait <= now && l->n[d] == 0) {
            deliver(l, d, data, len);
        } else {
            enqueue(l, d, data, len, out + wait);
        }
    }
}

void wan_link_read(struct wan_link *l, enum wan_dir d, uint64_t now)
{
    static uint8_t buf[WAN_PACKET_MAX];

    for (int i = 0; i < READS_PER_WAKE; i++) {
        ssize_t n = read(l->tun[d], buf, sizeof(buf));
        if (n <= 0) {
            return;
        }
        /* IPv6 router solicitations and the like are not part of the test. */
        if ((buf[0] >> 4) == 4) {
            forward(l, d, buf, (size_t)n, now);
        }
    }
}

uint64_t wan_link_run(struct wan_link *l, uint64_t now)
{
    uint64_t next = UINT64_MAX;

    for (int d = 0; d < 2; d++) {
        while (l->n[d] > 0 && l->heap[d][0]->at <= now) {
            struct wan_packet *p = pop(l, d);
            deliver(l, d, p->data, p->len);
            free(p);
        }
        if (l->n[d] > 0 && l->heap[d][0]->at < next) {
            next = l->heap[d][0]->at;
        }
    }
    return next;
}

/* --- parameters ---------------------------------------------------------- */

struct unit {
    const char *name;
    double factor;
};

/* A number and one of the units; false if it is none. */
static bool quantity(const char *text, const struct unit *units, uint64_t *out)
{
    char *end;
    double v = strtod(text, &end);

    if (end == text || v < 0 || v > 1e15) {
        return false;
    }
    for (const struct unit *u = units; u->name != NULL; u++) {
        if (strcmp(end, u->name) == 0) {
            *out = (uint64_t)(v * u->factor + 0.5);
            return true;
        }
    }
    return false;
}

static const struct unit times[] = {{"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {NULL, 0}};
static const struct unit chances[] = {{"%", 1e4}, {"", 1e6}, {NULL, 0}};
static const struct unit rates[] = {{"", 1}, {"kbit", 1e3}, {"mbit", 1e6}, {"gbit", 1e9}, {NULL, 0}};
static const struct unit sizes[] = {{"", 1}, {"k", 1024}, {"m", 1048576}, {NULL, 0}};

static const char *set_one(struct wan_params *p, const char *key, const char *value)
{
    uint64_t v = 0;

    if (strcmp(key, "delay") == 0 || strcmp(key, "jitter") == 0) {
        if (!quantity(value, times, &v)) {
            return "wants a time such as 20ms, 300us or 1s";
        }
        *(key[0] == 'd' ? &p->delay : &p->jitter) = v;
    } else if (strcmp(key, "loss") == 0 || strcmp(key, "dup") == 0 || strcmp(key, "reorder") == 0) {
        if (!quantity(value, chances, &v) || v > MILLION) {
            return "wants a chance such as 1.5% or 0.015";
        }
        *(key[0] == 'l' ? &p->loss : key[0] == 'd' ? &p->dup : &p->reorder) = (uint32_t)v;
    } else if (strcmp(key, "rate") == 0) {
        if (!quantity(value, rates, &v) || (v != 0 && v < 1000)) {
            return "wants bits per second such as 10mbit, at least 1kbit, or 0";
        }
        p->rate = v;
    } else if (strcmp(key, "queue") == 0) {
        if (!quantity(value, sizes, &p->queue)) {
            return "wants bytes such as 256k";
        }
    } else if (strcmp(key, "mtu") == 0) {
        if (!quantity(value, sizes, &v) || v > 65535) {
            return "wants bytes of an IP packet, or 0";
        }
        p->mtu = (uint32_t)v;
    } else if (strcmp(key, "down") == 0) {
        p->down = strcmp(value, "0") != 0;
    } else {
        return "is not known: delay jitter loss dup reorder rate queue mtu down nat_port nat_addr";
    }
    return NULL;
}

const char *wan_link_set(struct wan_link *l, const char *key, const char *value)
{
    if (strcmp(key, "nat_port") == 0) {
        l->nat.port_add = (uint16_t)atoi(value);
        memset(l->nat_inside, 0, sizeof(l->nat_inside));
        return NULL;
    }
    if (strcmp(key, "nat_addr") == 0) {
        memset(l->nat_inside, 0, sizeof(l->nat_inside));
        return inet_pton(AF_INET, value, &l->nat.addr) == 1 ? NULL : "wants an IPv4 address";
    }
    if (strncmp(key, "a.", 2) == 0 || strncmp(key, "b.", 2) == 0) {
        return set_one(&l->params[key[0] == 'a' ? WAN_AB : WAN_BA], key + 2, value);
    }
    for (int d = 0; d < 2; d++) {
        const char *wrong = set_one(&l->params[d], key, value);
        if (wrong != NULL) {
            return wrong;
        }
    }
    return NULL;
}
