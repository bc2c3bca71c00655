/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the sending process in the first bytes of a distribution message (DESIGN 6, WIRE 5). */
#include "dist/route.h"

#include "base/err.h"
#include "dist/deframe.h"

/* External term format. */
#define SMALL_INTEGER   97u
#define INTEGER         98u
#define ATOM            100u
#define SMALL_TUPLE     104u
#define NIL             106u
#define STRING          107u
#define SMALL_BIG       110u
#define SMALL_ATOM      115u
#define ATOM_UTF8       118u
#define SMALL_ATOM_UTF8 119u
#define NEW_PID         88u
#define PID             103u
#define NEWER_REFERENCE 90u
#define NEW_REFERENCE   114u

#define OP_MAX         BP_OP_ALTACT_SIG_SEND
#define RESULT_ELEMENT 5u /* of SPAWN_REPLY: a pid, or the error */

/* The element that names the sender; 0: a fence. UNLINK is not sent by any VM that we speak to. */
static const uint8_t key_element[OP_MAX + 1] = {
    [BP_OP_LINK] = 2,
    [BP_OP_EXIT] = 2,
    [BP_OP_EXIT_TT] = 2,
    [BP_OP_EXIT2] = 2,
    [BP_OP_EXIT2_TT] = 2,
    [BP_OP_PAYLOAD_EXIT] = 2,
    [BP_OP_PAYLOAD_EXIT_TT] = 2,
    [BP_OP_PAYLOAD_EXIT2] = 2,
    [BP_OP_PAYLOAD_EXIT2_TT] = 2,
    [BP_OP_MONITOR_P] = 2,
    [BP_OP_DEMONITOR_P] = 2,
    [BP_OP_REG_SEND] = 2,
    [BP_OP_REG_SEND_TT] = 2,
    [BP_OP_SEND_SENDER] = 2,
    [BP_OP_SEND_SENDER_TT] = 2,
    [BP_OP_ALIAS_SEND] = 2,
    [BP_OP_ALIAS_SEND_TT] = 2,
    [BP_OP_MONITOR_P_EXIT] = 2,
    [BP_OP_PAYLOAD_MONITOR_P_EXIT] = 2,
    [BP_OP_UNLINK_ID] = 3,
    [BP_OP_UNLINK_ID_ACK] = 3,
    [BP_OP_ALTACT_SIG_SEND] = 3,
    [BP_OP_SPAWN_REQUEST] = 3,
    [BP_OP_SPAWN_REQUEST_TT] = 3,
    [BP_OP_SPAWN_REPLY] = RESULT_ELEMENT,
    [BP_OP_SPAWN_REPLY_TT] = RESULT_ELEMENT,
};

/*
 * A bounded reader whose calls the compiler can inline: this runs once per message, and with
 * base/rw.h's calls it took several times as long. `bad` stays, and every later read gives zero.
 */
struct cursor {
    const uint8_t *p;
    const uint8_t *end;
    bool bad;
};

static const uint8_t *take(struct cursor *r, size_t len)
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

static uint8_t get8(struct cursor *r)
{
    const uint8_t *p = take(r, 1);

    return p != NULL ? *p : 0;
}

static uint16_t get16(struct cursor *r)
{
    const uint8_t *p = take(r, 2);

    return (uint16_t)(p != NULL ? p[0] << 8 | p[1] : 0);
}

static uint32_t get32(struct cursor *r)
{
    const uint8_t *p = take(r, 4);

    return p != NULL
               ? (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3]
               : 0;
}

static uint64_t get64(struct cursor *r)
{
    uint64_t high = get32(r);

    return high << 32 | get32(r);
}

/* Spreads 64 bits over all 32 of the result; pid numbers differ in few bits. */
static uint32_t mix(uint64_t x)
{
    x ^= x >> 33;
    x *= UINT64_C(0xff51afd7ed558ccd);
    x ^= x >> 33;
    x *= UINT64_C(0xc4ceb9fe1a85ec53);
    x ^= x >> 33;
    return (uint32_t)x;
}

/* Skips an atom whose tag is `tag`; marks the reader bad for anything else. */
static void skip_atom(struct cursor *r, uint8_t tag)
{
    if (tag == SMALL_ATOM || tag == SMALL_ATOM_UTF8) {
        (void)take(r, get8(r));
    } else if (tag == ATOM || tag == ATOM_UTF8) {
        (void)take(r, get16(r));
    } else {
        r->bad = true;
    }
}

/* The numbers of a pid, tag already read. The node is ours in every key, so it adds nothing. */
static uint64_t read_pid(struct cursor *r, uint8_t tag)
{
    uint64_t id_serial;

    skip_atom(r, get8(r));
    id_serial = get64(r); /* ID:32, Serial:32 */
    (void)take(r, tag == NEW_PID ? 4 : 1);
    return id_serial;
}

/* The numbers of a reference folded together, tag already read. */
static uint64_t read_ref(struct cursor *r, uint8_t tag)
{
    uint16_t words = get16(r);
    uint64_t v = words;

    skip_atom(r, get8(r));
    (void)take(r, tag == NEWER_REFERENCE ? 4 : 1);
    for (uint16_t i = 0; i < words && !r->bad; i++) {
        v = v * UINT64_C(0x9e3779b97f4a7c15) + get32(r);
    }
    return v;
}

/* Skips one element that can precede a key; no lists and no tuples among them. */
static void skip_element(struct cursor *r)
{
    uint8_t tag = get8(r);

    switch (tag) {
    case SMALL_INTEGER:
        (void)get8(r);
        break;
    case INTEGER:
        (void)get32(r);
        break;
    case SMALL_BIG:
        (void)take(r, (size_t)get8(r) + 1);
        break;
    case STRING:
        (void)take(r, get16(r));
        break;
    case NIL:
        break;
    case NEW_PID:
    case PID:
        (void)read_pid(r, tag);
        break;
    case NEWER_REFERENCE:
    case NEW_REFERENCE:
        (void)read_ref(r, tag);
        break;
    default:
        skip_atom(r, tag);
        break;
    }
}

static uint32_t read_op(struct cursor *r)
{
    uint8_t tag = get8(r);

    if (tag == SMALL_INTEGER) {
        return get8(r);
    }
    return tag == INTEGER ? get32(r) : UINT32_MAX;
}

/* SPAWN_REPLY whose result is no pid: with an atom, an error, the request id is the key. */
static bool spawn_error_key(struct cursor at_element_2, uint8_t result_tag, uint64_t *key)
{
    struct cursor r = at_element_2;
    uint8_t tag;

    if (result_tag != ATOM && result_tag != ATOM_UTF8 && result_tag != SMALL_ATOM &&
        result_tag != SMALL_ATOM_UTF8) {
        return false;
    }
    tag = get8(&r);
    if (tag != NEWER_REFERENCE && tag != NEW_REFERENCE) {
        return false;
    }
    *key = read_ref(&r, tag);
    return !r.bad;
}

/* The control tuple at `r`: sets the kind, and the hash if there is a key. */
static void peek_control(struct cursor r, struct bp_route *out)
{
    struct cursor second;
    uint64_t key = 0;
    uint32_t op;
    uint8_t arity;
    uint8_t element;
    uint8_t tag;

    out->kind = BP_ROUTE_FENCE;
    if (get8(&r) != SMALL_TUPLE) {
        return;
    }
    arity = get8(&r);
    op = read_op(&r);
    if (r.bad || op > OP_MAX) {
        return;
    }
    out->op = (uint8_t)op;
    element = key_element[op];
    if (element == 0 || arity < element) {
        return;
    }
    second = r;
    for (uint8_t i = 2; i < element; i++) {
        skip_element(&r);
    }
    tag = get8(&r);
    if (!r.bad && (tag == NEW_PID || tag == PID)) {
        key = read_pid(&r, tag);
        if (r.bad) {
            return;
        }
    } else if (r.bad || element != RESULT_ELEMENT || !spawn_error_key(second, tag, &key)) {
        return;
    }
    out->kind = BP_ROUTE_KEY;
    out->hash = mix(key);
}

/* SeqId:64, FragId:64 behind 131, 69 or 131, 70. Fragments count down to 1. */
static int read_fragment(struct cursor *r, struct bp_route *out)
{
    uint64_t frag_id;

    out->seq_id = get64(r);
    frag_id = get64(r);
    if (r->bad || frag_id == 0) {
        *out = (struct bp_route){0};
        return BP_E_INVALID;
    }
    out->fragmented = true;
    out->last = frag_id == 1;
    return 0;
}

int bp_route_peek(const uint8_t *head, size_t len, struct bp_route *out)
{
    struct cursor r = {.p = head, .end = len != 0 ? head + len : head};
    uint8_t first;
    uint8_t second;
    int rc = 0;

    *out = (struct bp_route){.kind = BP_ROUTE_FENCE, .last = true};
    first = get8(&r);
    second = get8(&r);
    if (r.bad) {
        *out = (struct bp_route){0};
        return BP_E_INVALID; /* not even the form is known */
    }
    if (first == BP_DIST_PASS_THROUGH && second == BP_DIST_VERSION) {
        peek_control(r, out);
        return 0;
    }
    if (first != BP_DIST_VERSION) {
        return 0;
    }
    if (second == BP_DIST_FRAG_HEADER || second == BP_DIST_FRAG_CONT) {
        rc = read_fragment(&r, out);
    }
    if (rc == 0 && second == BP_DIST_FRAG_CONT) {
        out->kind = BP_ROUTE_CONT;
    } else if (rc == 0 && (second == BP_DIST_HEADER || second == BP_DIST_FRAG_HEADER)) {
        /* With atom cache references the atoms could not be skipped: a fence. */
        if (get8(&r) == 0 && !r.bad) {
            peek_control(r, out);
        }
    }
    return rc;
}
