/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bad network for tests: two network namespaces, joined by a program that delays, loses,
 * duplicates, reorders and rewrites the IP packets between them.
 *
 *   main.c   command line, control socket, the loop
 *   ns.c     namespaces, TUN devices, running commands in them
 *   link.c   what happens to a packet
 */
#ifndef WAN_H
#define WAN_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define WAN_PACKET_MAX 65536u
#define WAN_QUEUE_MAX  65536u /* packets under way in one direction */

enum wan_dir { WAN_AB, WAN_BA };

/* One direction. Times in ns, chances in parts of a million. */
struct wan_params {
    uint64_t delay;
    uint64_t jitter; /* added at random, 0 to this */
    uint32_t loss;
    uint32_t dup;
    uint32_t reorder; /* these overtake: they are not delayed */
    uint64_t rate;    /* bits/s, 0: as fast as it goes */
    uint64_t queue;   /* bytes that wait for the rate; more are dropped */
    uint32_t mtu;     /* larger IP packets vanish (a black hole), 0: none do */
    bool down;
};

struct wan_stats {
    uint64_t packets;
    uint64_t bytes;
    uint64_t lost;    /* by chance, or while down */
    uint64_t too_big; /* for the mtu */
    uint64_t overrun; /* of the queue */
    uint64_t duplicated;
    uint64_t largest; /* IP packet that passed */
};

/* Changes what B sees of A's UDP: like a NAT that has forgotten its mapping. */
struct wan_nat {
    uint16_t port_add; /* to the source port; 0 with addr 0: no NAT */
    uint32_t addr;     /* network order; 0: A's own */
};

struct wan_packet {
    uint64_t at;
    uint64_t seq; /* equal times keep their order */
    uint32_t len;
    uint8_t data[];
};

struct wan_link {
    struct wan_params params[2];
    struct wan_stats stats[2];
    struct wan_nat nat;
    uint16_t nat_inside[65536]; /* A's port by the port that B sees; 0: no mapping */
    uint32_t addr[2]; /* of a and b, network order */
    int tun[2];
    uint64_t rng;
    uint64_t seq;
    uint64_t busy_until[2]; /* the rate's bottleneck */
    struct wan_packet **heap[2];
    size_t n[2];
};

void wan_link_init(struct wan_link *l, uint64_t seed);
/* Reads what side `dir` sends; forwards or keeps it. */
void wan_link_read(struct wan_link *l, enum wan_dir dir, uint64_t now);
/* Delivers what is due; returns when something will be, UINT64_MAX if nothing is under way. */
uint64_t wan_link_run(struct wan_link *l, uint64_t now);
/* "key=value", or "a.key=value" for packets from a only ("b." likewise). NULL, or what is wrong. */
const char *wan_link_set(struct wan_link *l, const char *key, const char *value);

struct wan_side {
    pid_t pid; /* keeps the namespace */
    int tun;
};

/* Makes both sides. 0; or 77 with a line on standard error where that is not permitted. */
int wan_ns_make(struct wan_side sides[2], const uint32_t addr[2], unsigned mtu);
/* Runs a command in the namespaces of process `pid`; returns only on failure. */
int wan_ns_exec(pid_t pid, char **argv);

#endif
