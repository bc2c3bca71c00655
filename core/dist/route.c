/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the sending process in the first bytes of a distribution message (DESIGN 6, WIRE 5). */
#include "dist/route.h"

#include "base/err.h"
#include "dist/deframe.h"
#include "dist/peek.h"

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

/* SPAWN_REPLY whose result is no pid: with an atom, an error, the request id is the key. */
static bool spawn_error_key(struct bp_peek at_element_2, uint8_t result_tag, uint64_t *key)
{
    struct bp_peek r = at_element_2;
    uint8_t tag;

    if (result_tag != BP_TERM_ATOM && result_tag != BP_TERM_ATOM_UTF8 &&
        result_tag != BP_TERM_SMALL_ATOM && result_tag != BP_TERM_SMALL_ATOM_UTF8) {
        return false;
    }
    tag = bp_peek_get8(&r);
    if (tag != BP_TERM_NEWER_REFERENCE && tag != BP_TERM_NEW_REFERENCE) {
        return false;
    }
    *key = bp_peek_read_ref(&r, tag);
    return !r.bad;
}

/* The control tuple at `r`: sets the kind, and the hash if there is a key. */
static void peek_control(struct bp_peek r, struct bp_route *out)
{
    struct bp_peek second;
    uint64_t key = 0;
    uint32_t op;
    uint8_t arity;
    uint8_t element;
    uint8_t tag;

    out->kind = BP_ROUTE_FENCE;
    if (bp_peek_get8(&r) != BP_TERM_SMALL_TUPLE) {
        return;
    }
    arity = bp_peek_get8(&r);
    op = bp_peek_read_op(&r);
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
        bp_peek_skip_element(&r);
    }
    tag = bp_peek_get8(&r);
    if (!r.bad && (tag == BP_TERM_NEW_PID || tag == BP_TERM_PID)) {
        key = bp_peek_read_pid(&r, tag);
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
static int read_fragment(struct bp_peek *r, struct bp_route *out)
{
    uint64_t frag_id;

    out->seq_id = bp_peek_get64(r);
    frag_id = bp_peek_get64(r);
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
    struct bp_peek r = {.p = head, .end = len != 0 ? head + len : head};
    uint8_t first;
    uint8_t second;
    int rc = 0;

    *out = (struct bp_route){.kind = BP_ROUTE_FENCE, .last = true};
    first = bp_peek_get8(&r);
    second = bp_peek_get8(&r);
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
        if (bp_peek_get8(&r) == 0 && !r.bad) {
            peek_control(r, out);
        }
    }
    return rc;
}
