/* SPDX-License-Identifier: Apache-2.0 */
/* libei's byte stream and messages. */
#include "cnode/ei_stream.h"

#include "base/err.h"

#include <stdlib.h>
#include <string.h>

/* --- what is written ----------------------------------------------------- */

void cn_ei_cutter_init(struct cn_ei_cutter *c, unsigned head_size, uint32_t max)
{
    *c = (struct cn_ei_cutter){.head_size = head_size, .max = max};
}

void cn_ei_cutter_free(struct cn_ei_cutter *c)
{
    free(c->body);
    c->body = NULL;
    c->head_len = 0;
}

bool cn_ei_cutter_busy(const struct cn_ei_cutter *c)
{
    return c->head_len > 0;
}

static uint32_t number(const uint8_t *p, unsigned n)
{
    uint32_t v = 0;

    for (unsigned i = 0; i < n; i++) {
        v = v << 8 | p[i];
    }
    return v;
}

/* The length is there. */
static int begin_body(struct cn_ei_cutter *c)
{
    c->need = number(c->head, c->head_size);
    c->have = 0;
    if (c->need == 0) {
        c->head_len = 0;
        return CN_EI_TICK;
    }
    if (c->need > c->max) {
        return BP_E_LIMIT;
    }
    c->body = malloc(c->need);
    return c->body != NULL ? CN_EI_MORE : BP_E_NOMEM;
}

int cn_ei_cutter_push(struct cn_ei_cutter *c, const uint8_t *p, size_t len, size_t *used,
                      uint8_t **msg, size_t *msg_len)
{
    size_t k;

    *used = 0;
    *msg = NULL;
    *msg_len = 0;
    while (*used < len && c->body == NULL) {
        c->head[c->head_len++] = p[(*used)++];
        if (c->head_len == c->head_size) {
            int rc = begin_body(c);
            if (rc != CN_EI_MORE) {
                return rc;
            }
        }
    }
    if (c->body == NULL) {
        return CN_EI_MORE;
    }
    k = len - *used < c->need - c->have ? len - *used : c->need - c->have;
    if (k > 0) {
        memcpy(c->body + c->have, p + *used, k);
        c->have += (uint32_t)k;
        *used += k;
    }
    if (c->have < c->need) {
        return CN_EI_MORE;
    }
    *msg = c->body;
    *msg_len = c->need;
    c->body = NULL;
    c->head_len = 0;
    return CN_EI_MESSAGE;
}

/* --- what is read -------------------------------------------------------- */

bool cn_ei_reader_empty(const struct cn_ei_reader *r)
{
    return r->head_size == 0;
}

int cn_ei_reader_put(struct cn_ei_reader *r, unsigned head_size, const uint8_t *body, size_t len,
                     void *bin)
{
    if ((head_size == 2 && len > UINT16_MAX) || len > UINT32_MAX ||
        (bin == NULL && len > sizeof(r->small))) {
        return BP_E_LIMIT;
    }
    if (bin == NULL && len > 0) {
        memcpy(r->small, body, len);
    }
    r->body = bin != NULL ? body : r->small;
    r->bin = bin;
    r->len = len;
    r->at = 0;
    r->head_size = head_size;
    for (unsigned i = 0; i < head_size; i++) {
        r->head[i] = (uint8_t)(len >> (8 * (head_size - 1 - i)));
    }
    return 0;
}

size_t cn_ei_reader_take(struct cn_ei_reader *r, uint8_t *out, size_t cap)
{
    size_t got = 0;

    while (got < cap && r->at < r->head_size) {
        out[got++] = r->head[r->at++];
    }
    if (r->head_size != 0 && r->at >= r->head_size) {
        size_t off = r->at - r->head_size;
        size_t k = cap - got < r->len - off ? cap - got : r->len - off;
        if (k > 0) {
            memcpy(out + got, r->body + off, k);
            r->at += k;
            got += k;
        }
        if (r->at == r->head_size + r->len) {
            cn_ei_reader_free(r);
        }
    }
    return got;
}

void cn_ei_reader_free(struct cn_ei_reader *r)
{
    free(r->bin);
    r->bin = NULL;
    r->head_size = 0;
    r->len = 0;
    r->at = 0;
}
