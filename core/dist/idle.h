/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is alive across a connection: links, monitors and requests to spawn that have not ended yet,
 * as the control messages of both directions tell it (OTP, "Distribution Protocol").
 *
 *   begins                                        ends, in either direction unless said
 *   LINK                                          UNLINK, UNLINK_ID, EXIT*, PAYLOAD_EXIT*
 *   MONITOR_P                                     DEMONITOR_P, or *MONITOR_P_EXIT the other way
 *   SPAWN_REQUEST                                 SPAWN_REPLY the other way; a link or monitor that
 *                                                 it asked for begins there
 *
 * It is a set, not a number: a DEMONITOR_P that passes the monitor's own end on the way, or a LINK
 * from both ends at once, must not make it wrong. Where it cannot know (a message that it does not
 * understand, too many to remember, no memory) it is doubtful for good, which counts as alive.
 *
 * Messages of membership, which both ends' bridges send to each other by name, and OTP's greeting
 * of a new node are told apart: they alone do not make a connection one that is in use.
 *
 * A message costs one comparison; only those in the table above are looked into (tens of ns).
 */
#ifndef BP_IDLE_H
#define BP_IDLE_H

#include "base/types.h"
#include "dist/deframe.h"
#include "dist/peek.h"
#include "dist/route.h"

#define BP_IDLE_FIRST 16u    /* places of the first table; a power of two */
#define BP_IDLE_MAX   65536u /* places of the largest one, half of them used: 512 KB */

/* The name that the bridges have (WIRE 8.1). */
#define BP_IDLE_BRIDGE "barrel_p2p_bridge"

/* OTP's rex asks each new node's rex for its features, and gets one message in return. */
#define BP_IDLE_GREETING "features_request"

struct bp_idle {
    const struct bp_mem *mem; /* borrowed */
    uint64_t *live;           /* hashes, 0: free; NULL while nothing is alive */
    uint32_t cap;             /* 0 or a power of two */
    uint32_t n;
    bool doubtful;
    uint64_t own;       /* messages of membership, both directions */
    uint64_t greetings; /* questions of rex to rex, both directions */
};

void bp_idle_init(struct bp_idle *i, const struct bp_mem *mem);
void bp_idle_free(struct bp_idle *i);

/* The operations that bp_idle_control wants to see, bit 1 << op. */
#define BP_IDLE_OPS                                                                                \
    (UINT64_C(1) << BP_OP_LINK | UINT64_C(1) << BP_OP_EXIT | UINT64_C(1) << BP_OP_UNLINK |         \
     UINT64_C(1) << BP_OP_REG_SEND | UINT64_C(1) << BP_OP_EXIT_TT |                                \
     UINT64_C(1) << BP_OP_REG_SEND_TT | UINT64_C(1) << BP_OP_MONITOR_P |                           \
     UINT64_C(1) << BP_OP_DEMONITOR_P | UINT64_C(1) << BP_OP_MONITOR_P_EXIT |                      \
     UINT64_C(1) << BP_OP_PAYLOAD_EXIT | UINT64_C(1) << BP_OP_PAYLOAD_EXIT_TT |                    \
     UINT64_C(1) << BP_OP_PAYLOAD_MONITOR_P_EXIT | UINT64_C(1) << BP_OP_SPAWN_REQUEST |            \
     UINT64_C(1) << BP_OP_SPAWN_REQUEST_TT | UINT64_C(1) << BP_OP_SPAWN_REPLY |                    \
     UINT64_C(1) << BP_OP_SPAWN_REPLY_TT | UINT64_C(1) << BP_OP_UNLINK_ID)

static inline bool bp_idle_concerns(uint32_t op)
{
    return op < 64 && (BP_IDLE_OPS >> op & 1) != 0;
}

/* A control message, from its tuple's tag on; `out`: our VM sends it, else it came from the peer.
 */
void bp_idle_control(struct bp_idle *i, const uint8_t *p, size_t len, bool out);

/*
 * A whole message, or its first fragment, as it stands in a frame; others are ignored. `head` has
 * as much of it as bp_route_peek needs.
 */
static inline void bp_idle_message(struct bp_idle *i, const uint8_t *head, size_t len, bool out)
{
    size_t at;

    if (len < 2) {
        return;
    }
    if (head[0] == BP_DIST_PASS_THROUGH) {
        at = 2;
    } else if (head[1] == BP_DIST_HEADER) {
        at = 3;
    } else if (head[1] == BP_DIST_FRAG_HEADER) {
        at = 19;
    } else {
        return;
    }
    /* The tuple's tag and arity, the operation's tag, the operation. */
    if (len >= at + 4 &&
        (head[at + 2] != BP_TERM_SMALL_INTEGER || bp_idle_concerns(head[at + 3]))) {
        bp_idle_control(i, head + at, len - at, out);
    }
}

#endif
