/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that we have closed, for as long as their peers may not know it. */
#include "quic/closing.h"

#include <string.h>

static uint16_t *filter_of(struct bp_closing *t, uint64_t cid)
{
    return &t->filter[cid & (BP_CLOSING_FILTER - 1)];
}

/* Our ids are random: no hash is needed. */
static bool number_of(const struct bp_cid *cid, uint64_t *out)
{
    if (cid->len != sizeof(*out)) {
        return false;
    }
    memcpy(out, cid->data, sizeof(*out));
    return true;
}

static void forget(struct bp_closing *t, struct bp_closing_entry *e)
{
    for (unsigned i = 0; i < e->n_cids; i++) {
        (*filter_of(t, e->cids[i]))--;
    }
    e->n_cids = 0;
}

void bp_closing_add(struct bp_closing *t, const struct bp_cid *cids, unsigned n, const uint8_t *p,
                    size_t len, bp_time now)
{
    struct bp_closing_entry *e = &t->entries[t->next];

    if (len == 0 || len > sizeof(e->datagram)) {
        return;
    }
    t->next = (t->next + 1) % BP_CLOSING_MAX;
    forget(t, e);
    for (unsigned i = 0; i < n && e->n_cids < BP_CLOSING_CIDS; i++) {
        uint64_t cid;

        if (number_of(&cids[i], &cid)) {
            e->cids[e->n_cids++] = cid;
            (*filter_of(t, cid))++;
        }
    }
    memcpy(e->datagram, p, len);
    e->len = (uint8_t)len;
    e->until = now + BP_CLOSING_KEEP;
    e->next = 0;
}

static struct bp_closing_entry *find(struct bp_closing *t, uint64_t cid)
{
    if (*filter_of(t, cid) == 0) {
        return NULL;
    }
    for (unsigned i = 0; i < BP_CLOSING_MAX; i++) {
        struct bp_closing_entry *e = &t->entries[i];

        for (unsigned k = 0; k < e->n_cids; k++) {
            if (e->cids[k] == cid) {
                return e;
            }
        }
    }
    return NULL;
}

size_t bp_closing_answer(struct bp_closing *t, const struct bp_cid *cid, size_t len, uint8_t *out,
                         size_t cap, bp_time now)
{
    struct bp_closing_entry *e;
    uint64_t number;

    if (!number_of(cid, &number)) {
        return 0;
    }
    e = find(t, number);
    if (e != NULL && now >= e->until) {
        forget(t, e);
        return 0;
    }
    if (e == NULL || now < e->next || e->len > 3 * len || e->len > cap) {
        return 0;
    }
    memcpy(out, e->datagram, e->len);
    e->next = now + BP_CLOSING_GAP;
    t->answers++;
    return e->len;
}
