/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which stream a message of the VM belongs to: by its sending process, so that all signals of a
 * process stay in order (DESIGN 6). A message that does not name its sender is a fence.
 *
 *   control operation                                            | key
 *   -------------------------------------------------------------+---------------------
 *   LINK, EXIT*, EXIT2*, PAYLOAD_EXIT*, MONITOR_P, DEMONITOR_P,  | element 2 if a pid
 *   REG_SEND*, SEND_SENDER*, ALIAS_SEND*, MONITOR_P_EXIT,        |
 *   PAYLOAD_MONITOR_P_EXIT                                       |
 *   UNLINK_ID, UNLINK_ID_ACK, ALTACT_SIG_SEND, SPAWN_REQUEST*    | element 3 if a pid
 *   SPAWN_REPLY*, element 5 a pid                                | element 5 (the new one)
 *   SPAWN_REPLY*, element 5 an atom                              | element 2 (request id)
 *   all others                                                   | none: fence
 *   continuation fragment                                        | as its first fragment
 *
 * Elements count from 1, the operation. This peeks at a few bytes that our own VM encoded, and
 * where it does not understand them it falls back to a fence, which is always right. It is no
 * decoder: libei's take no length, so they must not run on a head that may be cut off.
 */
#ifndef BP_ROUTE_H
#define BP_ROUTE_H

#include "base/types.h"

/* Enough of a message's first bytes for the keys of all operations with names of 255 bytes. */
#define BP_ROUTE_HEAD_MAX 1024u

/* Control operations (OTP's distribution protocol). */
enum bp_dist_op {
    BP_OP_LINK = 1,
    BP_OP_SEND = 2,
    BP_OP_EXIT = 3,
    BP_OP_UNLINK = 4,
    BP_OP_NODE_LINK = 5,
    BP_OP_REG_SEND = 6,
    BP_OP_GROUP_LEADER = 7,
    BP_OP_EXIT2 = 8,
    BP_OP_SEND_TT = 12,
    BP_OP_EXIT_TT = 13,
    BP_OP_REG_SEND_TT = 16,
    BP_OP_EXIT2_TT = 18,
    BP_OP_MONITOR_P = 19,
    BP_OP_DEMONITOR_P = 20,
    BP_OP_MONITOR_P_EXIT = 21,
    BP_OP_SEND_SENDER = 22,
    BP_OP_SEND_SENDER_TT = 23,
    BP_OP_PAYLOAD_EXIT = 24,
    BP_OP_PAYLOAD_EXIT_TT = 25,
    BP_OP_PAYLOAD_EXIT2 = 26,
    BP_OP_PAYLOAD_EXIT2_TT = 27,
    BP_OP_PAYLOAD_MONITOR_P_EXIT = 28,
    BP_OP_SPAWN_REQUEST = 29,
    BP_OP_SPAWN_REQUEST_TT = 30,
    BP_OP_SPAWN_REPLY = 31,
    BP_OP_SPAWN_REPLY_TT = 32,
    BP_OP_ALIAS_SEND = 33,
    BP_OP_ALIAS_SEND_TT = 34,
    BP_OP_UNLINK_ID = 35,
    BP_OP_UNLINK_ID_ACK = 36,
    BP_OP_ALTACT_SIG_SEND = 37
};

enum bp_route_kind {
    BP_ROUTE_KEY,   /* goes with `hash` */
    BP_ROUTE_FENCE, /* must be ordered against everything */
    BP_ROUTE_CONT   /* continues the sequence `seq_id` */
};

struct bp_route {
    enum bp_route_kind kind;
    uint32_t hash;   /* of the key, well mixed in all bits; KEY only */
    bool fragmented; /* one fragment of several: `seq_id` counts */
    bool last;       /* nothing of this message follows */
    uint64_t seq_id;
    uint8_t op; /* enum bp_dist_op, 0 where it is not known */
};

/*
 * Looks at the first `len` bytes of one message or fragment of the VM, as it goes into a frame.
 * Unknown or cut off contents give a fence. BP_E_INVALID only where a fragment's header itself is
 * cut off or impossible, because then it has no place; `*out` is zeroed.
 */
int bp_route_peek(const uint8_t *head, size_t len, struct bp_route *out) BP_MUST_CHECK;

#endif
