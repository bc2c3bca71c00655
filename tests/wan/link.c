/* SPDX-License-Identifier: Apache-2.0 */
/* One direction of the emulated link: a transmitter with a bounded queue, then a lossy wire. */
#include "wan/link.h"

#include <stdlib.h>
#include <string.h>

/* splitmix64: any seed is good, also 0. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static bool happens(struct wan_link *l, uint64_t probability)
{
    return (next_random(&l->rng) >> 32) < probability;
}

void wan_link_init(struct wan_link *l, uint64_t seed)
{
    memset(l, 0, sizeof(*l));
    l->rng = seed;
    l->p.queue = 256 * 1024;
    l->p.reorder_by = WAN_MS;
    l->p.mtu = WAN_MAX_PACKET;
}

void wan_link_free(struct wan_link *l)
{
    while (l->head != NULL) {
        struct wan_packet *p = l->head;

        l->head = p->next;
        free(p);
    }
    for (uint32_t i = 0; i < l->n_heap; i++) {
        free(l->heap[i]);
    }
    free(l->heap);
    memset(l, 0, sizeof(*l));
}

/* ---- the heap ---- */

static bool earlier(const struct wan_packet *a, const struct wan_packet *b)
{
    return a->due != b->due ? a->due < b->due : a->seq < b->seq;
}

static bool heap_reserve(struct wan_link *l)
{
    uint32_t cap = l->cap_heap == 0 ? 256 : l->cap_heap * 2;
    struct wan_packet **heap;

    if (l->n_heap < l->cap_heap) {
        return true;
    }
    heap = realloc(l->heap, cap * sizeof(*heap));
    if (heap == NULL) {
        return false;
    }
    l->heap = heap;
    l->cap_heap = cap;
    return true;
}

static void heap_push(struct wan_link *l, struct wan_packet *p)
{
    uint32_t i = l->n_heap++;

    while (i > 0 && earlier(p, l->heap[(i - 1) / 2])) {
        l->heap[i] = l->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    l->heap[i] = p;
}

static struct wan_packet *heap_pop(struct wan_link *l)
{
    struct wan_packet *top = l->heap[0];
    struct wan_packet *last = l->heap[--l->n_heap];
    uint32_t i = 0;

    for (;;) {
        uint32_t child = 2 * i + 1;

        if (child >= l->n_heap) {
            break;
        }
        if (child + 1 < l->n_heap && earlier(l->heap[child + 1], l->heap[child])) {
            child++;
        }
        if (!earlier(l->heap[child], last)) {
            break;
        }
        l->heap[i] = l->heap[child];
        i = child;
    }
    l->heap[i] = last; /* writes the slot of `last` itself when the heap is empty now */
    return top;
}

/* ---- the wire ---- */

static bool has_room(const struct wan_link *l, size_t len)
{
    return l->n_heap + l->n_queued < WAN_MAX_PACKETS && l->bytes + len <= WAN_MAX_BYTES;
}

static struct wan_packet *packet_new(struct wan_link *l, const uint8_t *data, size_t len)
{
    struct wan_packet *p = has_room(l, len) ? malloc(sizeof(*p) + len) : NULL;

    if (p == NULL) {
        l->stats.memory_full++;
        return NULL;
    }
    p->next = NULL;
    p->len = (uint32_t)len;
    memcpy(p->data, data, len);
    return p;
}

static void put_on_wire(struct wan_link *l, struct wan_packet *p, uint64_t due)
{
    if (!heap_reserve(l)) {
        l->stats.memory_full++;
        free(p);
        return;
    }
    p->due = due;
    p->seq = l->seq++;
    l->bytes += p->len;
    heap_push(l, p);
}

/*
 * The packet left the transmitter at `at`. Takes p. Every packet draws the same four random
 * numbers, so that changing one probability does not change what others do.
 */
static void transmit(struct wan_link *l, struct wan_packet *p, uint64_t at)
{
    bool lost = happens(l, l->p.loss);
    bool twice = happens(l, l->p.dup);
    bool held = happens(l, l->p.reorder);
    uint64_t spread = next_random(&l->rng);
    uint64_t due = at + l->p.delay;

    if (l->p.down != 0 || lost) {
        l->p.down != 0 ? l->stats.down++ : l->stats.lost++;
        free(p);
        return;
    }
    if (l->p.jitter > 0) {
        due += spread % (2 * l->p.jitter + 1);
        due = due > at + l->p.jitter ? due - l->p.jitter : at;
    }
    if (due < l->last_due) {
        due = l->last_due;
    }
    if (held) {
        due += l->p.reorder_by;
        l->stats.reordered++;
    } else {
        l->last_due = due;
    }
    if (twice) {
        struct wan_packet *copy = packet_new(l, p->data, p->len);

        if (copy != NULL) {
            l->stats.duplicated++;
            put_on_wire(l, copy, due);
        }
    }
    put_on_wire(l, p, due);
}

/* ---- the transmitter ---- */

static uint64_t tx_time(const struct wan_link *l, uint32_t len)
{
    return l->p.rate == 0 ? 0 : (uint64_t)len * 8 * WAN_SEC / l->p.rate;
}

/* Sends what the transmitter has finished by `now`. */
static void run_transmitter(struct wan_link *l, uint64_t now)
{
    while (l->head != NULL) {
        struct wan_packet *p = l->head;
        uint64_t done = l->tx_free + tx_time(l, p->len);

        if (done > now) {
            return;
        }
        l->head = p->next;
        if (l->head == NULL) {
            l->tail = NULL;
        }
        l->n_queued--;
        l->backlog -= p->len;
        l->bytes -= p->len;
        l->tx_free = done;
        transmit(l, p, done);
    }
}

enum wan_verdict wan_link_push(struct wan_link *l, const uint8_t *data, size_t len, uint64_t now)
{
    struct wan_packet *p;

    run_transmitter(l, now);
    l->stats.in++;
    l->stats.in_bytes += len;
    if (l->p.down != 0) {
        l->stats.down++;
        return WAN_DROPPED;
    }
    if (len > l->p.mtu) {
        l->stats.too_big++;
        return WAN_TOO_BIG;
    }
    /* An idle transmitter takes a packet of any size: a queue of 0 bytes is still a link. */
    if (l->p.rate != 0 && l->head != NULL && l->backlog + len > l->p.queue) {
        l->stats.queue_full++;
        return WAN_DROPPED;
    }
    p = packet_new(l, data, len);
    if (p == NULL) {
        return WAN_DROPPED;
    }
    if (l->head == NULL) {
        l->tx_free = l->tx_free > now ? l->tx_free : now;
        l->head = p;
    } else {
        l->tail->next = p;
    }
    l->tail = p;
    l->n_queued++;
    l->backlog += len;
    l->bytes += len;
    if (l->backlog > l->stats.backlog_max) {
        l->stats.backlog_max = l->backlog;
    }
    run_transmitter(l, now);
    return WAN_TAKEN;
}

struct wan_packet *wan_link_pop(struct wan_link *l, uint64_t now)
{
    struct wan_packet *p;
    uint64_t late;

    run_transmitter(l, now);
    if (l->n_heap == 0 || l->heap[0]->due > now) {
        return NULL;
    }
    p = heap_pop(l);
    l->bytes -= p->len;
    late = now - p->due;
    l->stats.late_sum += late;
    if (late > l->stats.late_max) {
        l->stats.late_max = late;
    }
    l->stats.out++;
    l->stats.out_bytes += p->len;
    return p;
}

uint64_t wan_link_deadline(const struct wan_link *l)
{
    uint64_t wire = l->n_heap > 0 ? l->heap[0]->due : WAN_NEVER;
    uint64_t tx = l->head != NULL ? l->tx_free + tx_time(l, l->head->len) : WAN_NEVER;

    return tx < wire ? tx : wire;
}
