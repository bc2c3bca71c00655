/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads a few terms at the start of a control message (External Term Format), bounded and inlined:
 * for the router (route.c) and for the count of what is alive across a connection (idle.c). It is
 * no decoder: it knows what can precede the elements that those two look for.
 */
#ifndef BP_PEEK_H
#define BP_PEEK_H

#include "base/types.h"

#define BP_TERM_SMALL_INTEGER   97u
#define BP_TERM_INTEGER         98u
#define BP_TERM_ATOM            100u
#define BP_TERM_SMALL_TUPLE     104u
#define BP_TERM_NIL             106u
#define BP_TERM_STRING          107u
#define BP_TERM_SMALL_BIG       110u
#define BP_TERM_SMALL_ATOM      115u
#define BP_TERM_ATOM_UTF8       118u
#define BP_TERM_SMALL_ATOM_UTF8 119u
#define BP_TERM_NEW_PID         88u
#define BP_TERM_PID             103u
#define BP_TERM_NEWER_REFERENCE 90u
#define BP_TERM_NEW_REFERENCE   114u

/*
 * A bounded reader whose calls the compiler can inline: this runs once per message, and with
 * base/rw.h's calls it took several times as long. `bad` stays, and every later read gives zero.
 */
struct bp_peek {
    const uint8_t *p;
    const uint8_t *end;
    bool bad;
};

static inline const uint8_t *bp_peek_take(struct bp_peek *r, size_t len)
{
    const uint8_t *p = r->p;

    if ((size_t)(r->end - r->p) < len) {
        r->bad = true;
        r->p = r->end;
        return NULL;
    }
    r->p += len;
    return p;
}

static inline uint8_t bp_peek_get8(struct bp_peek *r)
{
    const uint8_t *p = bp_peek_take(r, 1);

    return p != NULL ? *p : 0;
}

static inline uint16_t bp_peek_get16(struct bp_peek *r)
{
    const uint8_t *p = bp_peek_take(r, 2);

    return (uint16_t)(p != NULL ? p[0] << 8 | p[1] : 0);
}

static inline uint32_t bp_peek_get32(struct bp_peek *r)
{
    const uint8_t *p = bp_peek_take(r, 4);

    return p != NULL
               ? (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3]
               : 0;
}

static inline uint64_t bp_peek_get64(struct bp_peek *r)
{
    uint64_t high = bp_peek_get32(r);

    return high << 32 | bp_peek_get32(r);
}

/* Skips an atom whose tag is `tag`; marks the reader bad for anything else. */
static inline void bp_peek_skip_atom(struct bp_peek *r, uint8_t tag)
{
    if (tag == BP_TERM_SMALL_ATOM || tag == BP_TERM_SMALL_ATOM_UTF8) {
        (void)bp_peek_take(r, bp_peek_get8(r));
    } else if (tag == BP_TERM_ATOM || tag == BP_TERM_ATOM_UTF8) {
        (void)bp_peek_take(r, bp_peek_get16(r));
    } else {
        r->bad = true;
    }
}

/* The numbers of a pid, tag already read. The node is ours in every key, so it adds nothing. */
static inline uint64_t bp_peek_read_pid(struct bp_peek *r, uint8_t tag)
{
    uint64_t id_serial;

    bp_peek_skip_atom(r, bp_peek_get8(r));
    id_serial = bp_peek_get64(r); /* ID:32, Serial:32 */
    (void)bp_peek_take(r, tag == BP_TERM_NEW_PID ? 4 : 1);
    return id_serial;
}

/* The numbers of a reference folded together, tag already read. */
static inline uint64_t bp_peek_read_ref(struct bp_peek *r, uint8_t tag)
{
    uint16_t words = bp_peek_get16(r);
    uint64_t v = words;

    bp_peek_skip_atom(r, bp_peek_get8(r));
    (void)bp_peek_take(r, tag == BP_TERM_NEWER_REFERENCE ? 4 : 1);
    for (uint16_t i = 0; i < words && !r->bad; i++) {
        v = v * UINT64_C(0x9e3779b97f4a7c15) + bp_peek_get32(r);
    }
    return v;
}

/* Skips one element that can precede a key; no lists and no tuples among them. */
static inline void bp_peek_skip_element(struct bp_peek *r)
{
    uint8_t tag = bp_peek_get8(r);

    switch (tag) {
    case BP_TERM_SMALL_INTEGER:
        (void)bp_peek_get8(r);
        break;
    case BP_TERM_INTEGER:
        (void)bp_peek_get32(r);
        break;
    case BP_TERM_SMALL_BIG:
        (void)bp_peek_take(r, (size_t)bp_peek_get8(r) + 1);
        break;
    case BP_TERM_STRING:
        (void)bp_peek_take(r, bp_peek_get16(r));
        break;
    case BP_TERM_NIL:
        break;
    case BP_TERM_NEW_PID:
    case BP_TERM_PID:
        (void)bp_peek_read_pid(r, tag);
        break;
    case BP_TERM_NEWER_REFERENCE:
    case BP_TERM_NEW_REFERENCE:
        (void)bp_peek_read_ref(r, tag);
        break;
    default:
        bp_peek_skip_atom(r, tag);
        break;
    }
}

static inline uint32_t bp_peek_read_op(struct bp_peek *r)
{
    uint8_t tag = bp_peek_get8(r);

    if (tag == BP_TERM_SMALL_INTEGER) {
        return bp_peek_get8(r);
    }
    return tag == BP_TERM_INTEGER ? bp_peek_get32(r) : UINT32_MAX;
}

#endif
