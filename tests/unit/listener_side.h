/* SPDX-License-Identifier: Apache-2.0 */
/* A listener under test, and the datagrams that it is given. */
#ifndef BP_TESTS_LISTENER_SIDE_H
#define BP_TESTS_LISTENER_SIDE_H

#include "support/t.h"

#include "quic/listener.h"

#define V1         1u
#define V2         0x6b3343cfu
#define V_UNKNOWN  0xff00001du
#define FULL       1200u /* the smallest datagram that may begin a connection */
#define REPLY_CAP  1280u
#define T0         (1000 * BP_SEC)
#define KIND_INIT  0u
#define KIND_0RTT  1u
#define KIND_HS    2u
#define KIND_RETRY 3u

static const uint8_t side_secret[32] = {0x5a, 1, 2, 3, 4, 5, 6, 7, 8, 9};

/* One listener, the last datagram, and what became of it. */
struct fix {
    struct bp_listener l;
    struct bp_listener_result r;
    uint8_t pkt[2048];
    size_t len;
    uint8_t reply[REPLY_CAP];
    struct bp_addr from;
    bp_time now;
};

/* Fields of a long header; token is only written into Initials. */
struct lh {
    uint32_t version;
    unsigned kind;
    uint8_t dcid[255];
    size_t dcid_len;
    uint8_t scid[255];
    size_t scid_len;
    const uint8_t *token;
    size_t token_len;
};

static inline struct bp_addr addr(const char *ip, uint16_t port)
{
    struct bp_addr a;

    assert_int_equal(bp_addr_parse(&a, ip, port), 0);
    return a;
}

static inline void setup(struct fix *f)
{
    memset(f, 0, sizeof(*f));
    assert_int_equal(bp_listener_init(&f->l, side_secret), 0);
    f->from = addr("192.0.2.1", 4433);
    f->now = T0;
}

static inline struct lh header(uint32_t version, size_t dcid_len, size_t scid_len)
{
    struct lh h = {.version = version, .dcid_len = dcid_len, .scid_len = scid_len};

    for (size_t i = 0; i < sizeof(h.dcid); i++) {
        h.dcid[i] = (uint8_t)(0xd0 + i);
        h.scid[i] = (uint8_t)(0x50 + i);
    }
    return h;
}

/* Writes the header and fills the datagram up to `len` bytes with what looks encrypted. */
static inline size_t put_long(struct fix *f, const struct lh *h, size_t len)
{
    uint8_t *p = f->pkt;
    size_t head, left;

    *p++ = (uint8_t)(0xc0 | h->kind << 4);
    for (int shift = 24; shift >= 0; shift -= 8) {
        *p++ = (uint8_t)(h->version >> shift);
    }
    *p++ = (uint8_t)h->dcid_len;
    memcpy(p, h->dcid, h->dcid_len);
    p += h->dcid_len;
    *p++ = (uint8_t)h->scid_len;
    memcpy(p, h->scid, h->scid_len);
    p += h->scid_len;
    if (h->version == V1 && h->kind == KIND_INIT) {
        *p++ = (uint8_t)(0x40 | h->token_len >> 8);
        *p++ = (uint8_t)h->token_len;
        if (h->token_len > 0) {
            memcpy(p, h->token, h->token_len);
            p += h->token_len;
        }
    }
    head = (size_t)(p - f->pkt) + 2;
    assert_true(len >= head && len <= sizeof(f->pkt));
    left = len - head;
    *p++ = (uint8_t)(0x40 | left >> 8);
    *p++ = (uint8_t)left;
    memset(p, 0xee, left);
    f->len = len;
    return head;
}

static inline void put_short(struct fix *f, size_t len)
{
    memset(f->pkt, 0xaa, sizeof(f->pkt));
    f->pkt[0] = 0x41;
    for (uint8_t i = 0; i < BP_CID_LEN; i++) {
        f->pkt[1 + i] = (uint8_t)(0x10 + i);
    }
    f->len = len;
}

/* Both steps on an exact copy on the heap, so that ASan sees any read past the end. */
static inline enum bp_listener_action feed(struct fix *f)
{
    uint8_t *copy = malloc(f->len + (f->len == 0));

    assert_non_null(copy);
    memcpy(copy, f->pkt, f->len);
    memset(f->reply, 0, sizeof(f->reply));
    bp_listener_classify(&f->l, copy, f->len, &f->r);
    if (f->r.action == BP_LISTENER_ROUTE) {
        bp_listener_unknown(&f->l, &f->from, copy, f->len, f->reply, sizeof(f->reply), f->now,
                            &f->r);
        assert_true(f->r.action != BP_LISTENER_ROUTE);
    }
    if (f->r.initial.token != NULL) { /* points into the copy, which is about to go */
        f->r.initial.token = f->pkt + (f->r.initial.token - copy);
    }
    free(copy);
    return f->r.action;
}

static inline enum bp_listener_action classify(struct fix *f)
{
    bp_listener_classify(&f->l, f->pkt, f->len, &f->r);
    return f->r.action;
}

static inline enum bp_listener_action feed_initial(struct fix *f)
{
    struct lh h = header(V1, 8, 8);

    put_long(f, &h, FULL);
    return feed(f);
}

static inline void assert_cid(const struct bp_cid *cid, const uint8_t *data, size_t len)
{
    assert_int_equal(cid->len, len);
    assert_memory_equal(cid->data, data, len);
}

static inline void open_from(struct fix *f, const char *ip, uint16_t port, bool added)
{
    struct bp_addr a = addr(ip, port);

    bp_listener_half_open(&f->l, &a, added);
}

/* `n` half-open connections, each from its own address. */
static inline void crowd(struct fix *f, unsigned n, bool added)
{
    for (unsigned i = 0; i < n; i++) {
        char ip[32];

        snprintf(ip, sizeof(ip), "10.1.%u.%u", i / 250, i % 250 + 1);
        open_from(f, ip, 1000, added);
    }
}

#endif
