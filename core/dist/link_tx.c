/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of the VM to streams, in the order that Erlang guarantees; ticks. */
#include "dist/link_impl.h"

#include <string.h>

#define FRAME_HEAD  4u
#define TICK_LEN    4u
/* A first slice shorter than this may end inside of the control message. */
#define HEAD_ENOUGH 256u

static void release_slices(struct bp_link *l, struct bp_slice *slices, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (slices[i].owner != NULL) {
            l->owner.release(l->owner.ctx, slices[i].owner);
            slices[i].owner = NULL;
        }
    }
}

int bp_link_data_slot(struct bp_link *l, unsigned stream)
{
    int64_t id;

    if (l->data_slots[stream] < 0) {
        int slot = bp_conn_open_bidi(l->conn, &id);
        if (slot < 0) {
            return slot;
        }
        l->data_slots[stream] = slot;
    }
    return l->data_slots[stream];
}

/* Puts one frame on a data stream. Takes the owners, also on failure. */
static int put_frame(struct bp_link *l, unsigned stream, struct bp_slice *slices, size_t n,
                     size_t len)
{
    uint8_t head[FRAME_HEAD] = {(uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8),
                                (uint8_t)len};
    int opened = bp_link_data_slot(l, stream);
    unsigned slot = opened >= 0 ? (unsigned)opened : 0;
    int rc = opened >= 0 ? bp_conn_put_copy(l->conn, slot, head, sizeof(head)) : opened;

    for (size_t i = 0; rc == 0 && i < n; i++) {
        if (slices[i].len == 0) {
            continue;
        }
        if (slices[i].owner != NULL) {
            rc = bp_conn_put_owned(l->conn, slot, slices[i].base, slices[i].len, slices[i].owner);
            if (rc == 0) {
                slices[i].owner = NULL;
            }
        } else {
            rc = bp_conn_put_copy(l->conn, slot, slices[i].base, slices[i].len);
        }
    }
    release_slices(l, slices, n);
    if (rc == 0) {
        bp_order_wrote(&l->order, bp_conn_queued(l->conn, slot));
        l->stats.frames_out++;
        l->stats.bytes_out += len;
    }
    /* Half a frame cannot be taken back, and a stream that is shut loses messages: both end the
     * connection, as a broken TCP connection does. */
    return rc == BP_E_STATE ? BP_E_STREAM_RESET : rc;
}

/* The first bytes of a message in one piece. */
static const uint8_t *gather_head(const struct bp_slice *slices, size_t n, uint8_t *buf, size_t cap,
                                  size_t *len)
{
    size_t used = 0;

    buf[0] = 0;
    for (size_t i = 0; i < n; i++) {
        size_t k = slices[i].len < cap - used ? slices[i].len : cap - used;
        if (used == 0 && (slices[i].len >= HEAD_ENOUGH || i + 1 == n)) {
            *len = slices[i].len;
            return slices[i].base;
        }
        if (k > 0) {
            memcpy(buf + used, slices[i].base, k);
            used += k;
        }
    }
    *len = used;
    return buf;
}

/* --- waiting behind a fence ---------------------------------------------- */

static int hold(struct bp_link *l, const struct bp_route *route, struct bp_slice *slices, size_t n,
                size_t len)
{
    size_t copied = 0;
    struct bp_held *h;
    uint8_t *p;

    for (size_t i = 0; i < n; i++) {
        copied += slices[i].owner == NULL ? slices[i].len : 0;
    }
    h = l->mem->alloc(l->mem->ctx, sizeof(*h) + n * sizeof(*slices) + copied);
    if (h == NULL) {
        release_slices(l, slices, n);
        return BP_E_NOMEM;
    }
    *h = (struct bp_held){.route = *route, .len = len, .n = n};
    p = (uint8_t *)&h->slices[n];
    for (size_t i = 0; i < n; i++) {
        h->slices[i] = slices[i];
        if (slices[i].owner == NULL && slices[i].len > 0) {
            memcpy(p, slices[i].base, slices[i].len);
            h->slices[i].base = p;
            p += slices[i].len;
        }
    }
    *l->held_tail = h;
    l->held_tail = &h->next;
    l->held_bytes += len;
    l->stats.held++;
    return 0;
}

static void free_head(struct bp_link *l)
{
    struct bp_held *h = l->held_head;

    l->held_head = h->next;
    if (l->held_head == NULL) {
        l->held_tail = &l->held_head;
    }
    l->held_bytes -= h->len;
    l->mem->release(l->mem->ctx, h);
}

void bp_link_drop_held(struct bp_link *l)
{
    while (l->held_head != NULL) {
        release_slices(l, l->held_head->slices, l->held_head->n);
        free_head(l);
    }
}

int bp_link_release_held(struct bp_link *l)
{
    while (l->held_head != NULL) {
        struct bp_held *h = l->held_head;
        unsigned stream;
        int rc = bp_order_admit(&l->order, &h->route, &stream);

        if (rc == 0) {
            return 0;
        }
        if (rc > 0) {
            rc = put_frame(l, stream, h->slices, h->n, h->len);
        }
        if (rc < 0) {
            return rc;
        }
        free_head(l);
    }
    return 0;
}

/* --- the VM's messages --------------------------------------------------- */

static int send_frame(struct bp_link *l, struct bp_slice *slices, size_t n, size_t len)
{
    uint8_t buf[BP_ROUTE_HEAD_MAX];
    struct bp_route route;
    const uint8_t *head;
    size_t head_len;
    unsigned stream;
    int rc;

    head = gather_head(slices, n, buf, sizeof(buf), &head_len);
    rc = bp_route_peek(head, head_len, &route);
    if (rc != 0) {
        release_slices(l, slices, n);
        return rc;
    }
    l->taken++;
    if (bp_idle_concerns(route.op)) {
        bp_idle_message(&l->idle, head, head_len, true);
    }
    if (l->held_head != NULL) {
        return hold(l, &route, slices, n, len);
    }
    rc = bp_order_admit(&l->order, &route, &stream);
    if (rc > 0) {
        return put_frame(l, stream, slices, n, len);
    }
    if (rc == 0) {
        return hold(l, &route, slices, n, len);
    }
    release_slices(l, slices, n);
    return rc;
}

int bp_link_send(struct bp_link *l, struct bp_slice *slices, size_t n)
{
    size_t len = 0;
    int rc;

    for (size_t i = 0; i < n; i++) {
        len += slices[i].len;
    }
    if (l->phase != BP_LINK_UP || len > UINT32_MAX) {
        release_slices(l, slices, n);
        return l->phase == BP_LINK_FAILED ? l->err : BP_E_STATE;
    }
    if (len == 0) {
        release_slices(l, slices, n);
        return 0;
    }
    rc = send_frame(l, slices, n, len);
    if (rc < 0) {
        bp_link_fail(l, rc, NULL);
        return rc;
    }
    return 0;
}

void bp_link_tick(struct bp_link *l)
{
    static const uint8_t tick[TICK_LEN] = {0};
    unsigned slot = (unsigned)l->control_slot;

    if (l->phase != BP_LINK_UP || l->control_slot < 0) {
        return;
    }
    /* WIRE 0.5: not behind a handshake message that has not arrived. One that waits will do for
     * both: it goes out before all data. */
    if (bp_conn_acked(l->conn, slot) != bp_conn_queued(l->conn, slot)) {
        return;
    }
    if (bp_conn_put_copy(l->conn, slot, tick, sizeof(tick)) == 0) {
        l->stats.frames_out++;
    }
}

uint64_t bp_link_pending(const struct bp_link *l)
{
    return l->conn != NULL ? bp_conn_unsent(l->conn) + l->held_bytes : 0;
}
