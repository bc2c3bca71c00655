/* SPDX-License-Identifier: Apache-2.0 */
/* Connection ids of a node's connections. */
#include "quic/cid_map.h"

#include <string.h>

#define FIRST_BUCKETS 64u

void bp_cid_map_init(struct bp_cid_map *m, const struct bp_mem *mem, uint64_t seed)
{
    *m = (struct bp_cid_map){.mem = mem, .seed = seed};
}

static size_t bucket(const struct bp_cid_map *m, const struct bp_cid *cid)
{
    uint64_t h = m->seed ^ cid->len;

    for (unsigned i = 0; i < cid->len; i++) {
        h = (h ^ cid->data[i]) * 0x100000001b3u;
    }
    h ^= h >> 29;
    return (size_t)(h * 0x9e3779b97f4a7c15u >> 32) & (m->n_buckets - 1);
}

static bool grow(struct bp_cid_map *m)
{
    struct bp_cid_map bigger = *m;

    bigger.n_buckets = m->n_buckets != 0 ? m->n_buckets * 2 : FIRST_BUCKETS;
    bigger.buckets = bp_mem_zalloc(m->mem, bigger.n_buckets, sizeof(struct bp_cid_entry *));
    if (bigger.buckets == NULL) {
        return m->n_buckets != 0;
    }
    for (size_t i = 0; i < m->n_buckets; i++) {
        struct bp_cid_entry *e = m->buckets[i];
        while (e != NULL) {
            struct bp_cid_entry *next = e->next;
            size_t b = bucket(&bigger, &e->cid);
            e->next = bigger.buckets[b];
            bigger.buckets[b] = e;
            e = next;
        }
    }
    m->mem->release(m->mem->ctx, m->buckets);
    *m = bigger;
    return true;
}

bool bp_cid_map_add(struct bp_cid_map *m, const struct bp_cid *cid, void *value)
{
    struct bp_cid_entry *e;
    size_t b;

    if (cid->len == 0 || (m->n >= m->n_buckets && !grow(m))) {
        return false;
    }
    e = m->mem->alloc(m->mem->ctx, sizeof(*e));
    if (e == NULL) {
        return false;
    }
    b = bucket(m, cid);
    *e = (struct bp_cid_entry){.next = m->buckets[b], .cid = *cid, .value = value};
    m->buckets[b] = e;
    m->n++;
    return true;
}

void bp_cid_map_remove(struct bp_cid_map *m, const struct bp_cid *cid, const void *value)
{
    struct bp_cid_entry **at;

    if (m->n_buckets == 0 || cid->len == 0) {
        return;
    }
    for (at = &m->buckets[bucket(m, cid)]; *at != NULL; at = &(*at)->next) {
        struct bp_cid_entry *e = *at;
        if (e->value == value && bp_cid_equal(&e->cid, cid)) {
            *at = e->next;
            m->mem->release(m->mem->ctx, e);
            m->n--;
            return;
        }
    }
}

void *bp_cid_map_next(const struct bp_cid_map *m, const struct bp_cid *cid, const void *prev)
{
    bool passed = prev == NULL;

    if (m->n_buckets == 0 || cid->len == 0) {
        return NULL;
    }
    for (const struct bp_cid_entry *e = m->buckets[bucket(m, cid)]; e != NULL; e = e->next) {
        if (!bp_cid_equal(&e->cid, cid)) {
            continue;
        }
        if (passed) {
            return e->value;
        }
        passed = e->value == prev;
    }
    return NULL;
}

void *bp_cid_map_find(const struct bp_cid_map *m, const struct bp_cid *cid)
{
    return bp_cid_map_next(m, cid, NULL);
}

void bp_cid_map_free(struct bp_cid_map *m)
{
    for (size_t i = 0; i < m->n_buckets; i++) {
        while (m->buckets[i] != NULL) {
            struct bp_cid_entry *e = m->buckets[i];
            m->buckets[i] = e->next;
            m->mem->release(m->mem->ctx, e);
        }
    }
    m->mem->release(m->mem->ctx, m->buckets);
    *m = (struct bp_cid_map){.mem = m->mem, .seed = m->seed};
}

void bp_cid_of_datagram(const uint8_t *p, size_t len, struct bp_cid *out)
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
