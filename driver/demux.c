/* SPDX-License-Identifier: Apache-2.0 */
/* Connection id -> connection, and mailboxes for datagrams that came to another socket. */
#include "driver/drv.h"

#include <string.h>
#include <unistd.h>

#define FIRST_BUCKETS 64u

/* --- mailboxes ----------------------------------------------------------- */

void drv_mailbox_init(struct drv_mailbox *m, int wake_fd)
{
    *m = (struct drv_mailbox){.wake_fd = wake_fd};
    m->tail = &m->head;
}

void drv_wake(int wake_fd)
{
    const uint64_t one = 1;

    if (wake_fd >= 0 && write(wake_fd, &one, sizeof(one)) < 0) {
        /* Full: it is awake. */
    }
}

void drv_mailbox_put(struct drv_mailbox *m, const struct bp_addr *remote, const uint8_t *p,
                     size_t len)
{
    struct drv_pkt *pkt;

    if (m->n >= DRV_MAILBOX_MAX) {
        m->dropped++; /* QUIC sends it again */
        return;
    }
    pkt = driver_alloc((ErlDrvSizeT)(sizeof(*pkt) + len));
    if (pkt == NULL) {
        m->dropped++;
        return;
    }
    *pkt = (struct drv_pkt){.remote = *remote, .len = len};
    memcpy(pkt->data, p, len);
    *m->tail = pkt;
    m->tail = &pkt->next;
    m->n++;
    m->nonempty = true;
    drv_wake(m->wake_fd);
}

struct drv_pkt *drv_mailbox_take(struct drv_mailbox *m)
{
    struct drv_pkt *list = m->head;

    m->head = NULL;
    m->tail = &m->head;
    m->n = 0;
    m->nonempty = false;
    return list;
}

void drv_pkts_free(struct drv_pkt *list)
{
    while (list != NULL) {
        struct drv_pkt *next = list->next;
        drv_free(list);
        list = next;
    }
}

/* --- connection ids ------------------------------------------------------ */

static size_t bucket(const struct drv_demux *d, const struct bp_cid *cid)
{
    uint64_t h = d->seed ^ cid->len;

    for (unsigned i = 0; i < cid->len; i++) {
        h = (h ^ cid->data[i]) * 0x100000001b3u;
    }
    h ^= h >> 29;
    return (size_t)(h * 0x9e3779b97f4a7c15u >> 32) & (d->n_buckets - 1);
}

static bool grow(struct drv_demux *d)
{
    struct drv_demux bigger = {.n_buckets = d->n_buckets != 0 ? d->n_buckets * 2 : FIRST_BUCKETS,
                               .n = d->n,
                               .seed = d->seed};

    bigger.buckets = bp_mem_zalloc(drv_mem(), bigger.n_buckets, sizeof(*bigger.buckets));
    if (bigger.buckets == NULL) {
        return d->n_buckets != 0;
    }
    for (size_t i = 0; i < d->n_buckets; i++) {
        struct drv_cid_entry *e = d->buckets[i];
        while (e != NULL) {
            struct drv_cid_entry *next = e->next;
            size_t b = bucket(&bigger, &e->cid);
            e->next = bigger.buckets[b];
            bigger.buckets[b] = e;
            e = next;
        }
    }
    drv_free(d->buckets);
    *d = bigger;
    return true;
}

bool drv_demux_add(struct drv_demux *d, const struct bp_cid *cid, struct drv_conn *c)
{
    struct drv_cid_entry *e;
    size_t b;

    if (cid->len == 0 || (d->n >= d->n_buckets && !grow(d))) {
        return false;
    }
    e = driver_alloc(sizeof(*e));
    if (e == NULL) {
        return false;
    }
    b = bucket(d, cid);
    *e = (struct drv_cid_entry){.next = d->buckets[b], .cid = *cid, .conn = c};
    d->buckets[b] = e;
    d->n++;
    return true;
}

void drv_demux_remove(struct drv_demux *d, const struct bp_cid *cid, const struct drv_conn *c)
{
    struct drv_cid_entry **at;

    if (d->n_buckets == 0) {
        return;
    }
    for (at = &d->buckets[bucket(d, cid)]; *at != NULL; at = &(*at)->next) {
        struct drv_cid_entry *e = *at;
        if (e->conn == c && bp_cid_equal(&e->cid, cid)) {
            *at = e->next;
            drv_free(e);
            d->n--;
            return;
        }
    }
}

struct drv_conn *drv_demux_find(const struct drv_demux *d, const struct bp_cid *cid)
{
    if (d->n_buckets == 0 || cid->len == 0) {
        return NULL;
    }
    for (const struct drv_cid_entry *e = d->buckets[bucket(d, cid)]; e != NULL; e = e->next) {
        if (bp_cid_equal(&e->cid, cid)) {
            return e->conn;
        }
    }
    return NULL;
}

void drv_demux_free(struct drv_demux *d)
{
    for (size_t i = 0; i < d->n_buckets; i++) {
        while (d->buckets[i] != NULL) {
            struct drv_cid_entry *e = d->buckets[i];
            d->buckets[i] = e->next;
            drv_free(e);
        }
    }
    drv_free(d->buckets);
    *d = (struct drv_demux){.seed = d->seed};
}

void drv_dcid(const uint8_t *p, size_t len, struct bp_cid *out)
{
    out->len = 0;
    if (len == 0) {
        return;
    }
    if ((p[0] & 0x80) == 0) { /* RFC 9000, 17.3: our ids have a fixed length */
        if (len > BP_CID_LEN) {
            out->len = BP_CID_LEN;
            memcpy(out->data, p + 1, BP_CID_LEN);
        }
        return;
    }
    if (len > 6 && p[5] <= BP_CID_MAX && len >= 6u + p[5]) {
        out->len = p[5];
        memcpy(out->data, p + 6, out->len);
    }
}
