/* SPDX-License-Identifier: Apache-2.0 */
/* One direction of the emulated link: bytes and time in, bytes and a deadline out; no I/O. */
#ifndef WAN_LINK_H
#define WAN_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WAN_NEVER      UINT64_MAX
#define WAN_MS         UINT64_C(1000000)
#define WAN_SEC        UINT64_C(1000000000)
#define WAN_MAX_PACKET 65535u
#define WAN_CERTAIN    (UINT64_C(1) << 32) /* a probability of 1; see wan_params */

/* Caps of one direction, whatever the parameters say. */
#define WAN_MAX_PACKETS (UINT32_C(1) << 18)
#define WAN_MAX_BYTES   (UINT64_C(128) << 20)

/* What can be changed while the link is in use. Times in ns, probabilities in units of 2^-32. */
struct wan_params {
    uint64_t delay;
    uint64_t jitter; /* uniform, plus or minus; never reorders */
    uint64_t loss;
    uint64_t dup;
    uint64_t reorder; /* probability that a packet is held back, so that later ones overtake it */
    uint64_t reorder_by; /* for how long */
    uint64_t rate;       /* bits per second of IP packets; 0: no limit */
    uint64_t queue;      /* bytes that may wait for the transmitter */
    uint64_t mtu;        /* larger IP packets vanish */
    uint64_t down;       /* everything vanishes, except what has left the transmitter */
    uint64_t icmp;       /* what `mtu` drops is answered with "fragmentation needed" */
};

/* Each counts packets unless its name says otherwise. */
struct wan_stats {
    uint64_t in, in_bytes;
    uint64_t out, out_bytes;
    uint64_t lost; /* by the parameter `loss` */
    uint64_t down; /* while the link was down */
    uint64_t too_big;
    uint64_t queue_full;
    uint64_t memory_full; /* WAN_MAX_PACKETS, WAN_MAX_BYTES, or no memory */
    uint64_t nat;         /* no mapping for it */
    uint64_t refused;     /* the receiving device did not take it */
    uint64_t ignored;     /* not IPv4 */
    uint64_t overruns;    /* the sending device dropped them before we could read them */
    uint64_t duplicated;
    uint64_t reordered;
    uint64_t icmp;        /* messages sent because of too_big */
    uint64_t late_max;    /* ns that a packet left too late, at most */
    uint64_t late_sum;    /* ns, over all that left */
    uint64_t backlog_max; /* bytes that waited for the transmitter, at most */
};

struct wan_packet {
    struct wan_packet *next; /* in the transmitter's queue */
    uint64_t due;
    uint64_t seq; /* equal `due`: in order of arrival */
    uint32_t len;
    uint8_t data[];
};

struct wan_link {
    struct wan_params p;
    struct wan_stats stats;
    uint64_t rng;
    /* Transmitter: a queue, and when it is done with what it sends. */
    struct wan_packet *head, *tail;
    uint64_t backlog;
    uint64_t tx_free;
    /* The wire: a heap by (due, seq). */
    struct wan_packet **heap;
    uint32_t n_heap, cap_heap;
    uint32_t n_queued;
    uint64_t bytes; /* in queue and heap */
    uint64_t seq;
    uint64_t last_due; /* nothing that is not reordered arrives before it */
};

enum wan_verdict { WAN_TAKEN, WAN_DROPPED, WAN_TOO_BIG };

/* An empty link; packets' fates depend on `seed` and their number only. */
void wan_link_init(struct wan_link *l, uint64_t seed);
void wan_link_free(struct wan_link *l);

/* A packet enters at `now`; it is copied. WAN_TOO_BIG: dropped for its size. */
enum wan_verdict wan_link_push(struct wan_link *l, const uint8_t *data, size_t len, uint64_t now);

/* The next packet that has arrived at `now`, or NULL; the caller frees it. */
struct wan_packet *wan_link_pop(struct wan_link *l, uint64_t now);

/* When wan_link_pop may have something new; WAN_NEVER if nothing is on its way. */
uint64_t wan_link_deadline(const struct wan_link *l);

#endif
