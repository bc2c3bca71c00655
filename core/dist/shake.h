/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OTP's distribution handshake, version 6 ("Distribution Protocol", WIRE 4.1), for nodes without a
 * VM: both sides show that they have the cookie. Whole messages in (dist/hs_split.h cuts them),
 * messages out. The peer's name was authenticated before; whoever uses this compares it
 * (bp_link_hs_recv does).
 *
 *   client            receives         sends          then
 *   -                 -                N              WAIT_STATUS
 *   WAIT_STATUS       s ok, ok_sim.                   WAIT_CHALLENGE
 *                     s alive          s true         WAIT_CHALLENGE
 *                                      s false        FAILED, if we have another connection
 *                     s nok, other                    FAILED not_allowed
 *   WAIT_CHALLENGE    N                r              WAIT_ACK
 *   WAIT_ACK          a                               DONE, or FAILED bad_cookie
 *
 *   server            receives         sends          then
 *   WAIT_NAME         N                               ASKED
 *   ASKED             bp_shake_status  s ok, N        WAIT_REPLY
 *                                      s nok          FAILED
 *                                      s alive        WAIT_TRUE
 *   WAIT_TRUE         s true           N              WAIT_REPLY
 *                     s other                         FAILED
 *   WAIT_REPLY        r                a              DONE, or FAILED bad_cookie
 */
#ifndef BP_SHAKE_H
#define BP_SHAKE_H

#include "auth/identity.h"

#define BP_SHAKE_OUT_MAX    288u /* the largest message: N with a name of 255 bytes */
#define BP_SHAKE_OUTS       2u   /* that one message can cause */
#define BP_SHAKE_COOKIE_MAX 511u

/*
 * What a C node says that it can do (OTP's dist.hrl): what OTP 25 and 26 insist on, and what libei
 * decodes. No atom cache and no fragments: messages come whole.
 */
#define BP_SHAKE_FLAG_HANDSHAKE_23 UINT64_C(0x1000000)
#define BP_SHAKE_FLAGS                                                                             \
    (UINT64_C(0x04) /* extended references */ | UINT64_C(0x08) /* monitors */ |                    \
     UINT64_C(0x10) /* funs */ | UINT64_C(0x80) /* new funs */ |                                   \
     UINT64_C(0x100) /* extended pids and ports */ | UINT64_C(0x200) /* exports */ |               \
     UINT64_C(0x400) /* bit strings */ | UINT64_C(0x800) /* IEEE floats */ |                       \
     UINT64_C(0x4000) /* small atom tags */ | UINT64_C(0x10000) /* UTF-8 atoms */ |                \
     UINT64_C(0x20000) /* maps */ | UINT64_C(0x40000) /* 32-bit creations */ |                     \
     BP_SHAKE_FLAG_HANDSHAKE_23 | UINT64_C(0x2000000) /* unlink ids */ |                           \
     UINT64_C(0x400000000) /* 64-bit pids, V4_NC */)

enum bp_shake_state {
    BP_SHAKE_WAIT_STATUS,
    BP_SHAKE_WAIT_CHALLENGE,
    BP_SHAKE_WAIT_ACK,
    BP_SHAKE_WAIT_NAME,
    BP_SHAKE_ASKED,
    BP_SHAKE_WAIT_TRUE,
    BP_SHAKE_WAIT_REPLY,
    BP_SHAKE_DONE,
    BP_SHAKE_FAILED
};

/* What an acceptor answers to a name. */
enum bp_shake_status {
    BP_SHAKE_OK,
    BP_SHAKE_OK_SIMULTANEOUS, /* we dial it, too, and give that up */
    BP_SHAKE_NOK,             /* we dial it, too, and ours is the one */
    BP_SHAKE_ALIVE            /* there is a connection: goes on if the peer says that it is gone */
};

/* The fields are this module's, but `state` and those of the peer may be read. */
struct bp_shake {
    enum bp_shake_state state;
    const char *name;   /* ours; this and the cookie are borrowed */
    const char *cookie; /* NUL-terminated, at most BP_SHAKE_COOKIE_MAX bytes */
    uint32_t creation;
    bool have_other;    /* the host's: there is a connection to this peer that is up */
    uint32_t challenge; /* ours */
    uint64_t peer_flags;
    uint32_t peer_creation;
    const char *why; /* FAILED: a static sentence */
    uint16_t out_len[BP_SHAKE_OUTS];
    uint8_t out[BP_SHAKE_OUTS][BP_SHAKE_OUT_MAX];
    unsigned n_out;
    unsigned next_out;
};

/*
 * Begins; a client's first message is there at once. Errors: BP_E_INVALID (name, cookie),
 * BP_E_CRYPTO.
 */
int bp_shake_init(struct bp_shake *s, bool server, const char *name, const char *cookie,
                  uint32_t creation) BP_MUST_CHECK;

/*
 * One message of the peer. Errors, after which the state is FAILED: BP_E_HS_MALFORMED (also for
 * what may not come now, and a peer without what version 6 needs), BP_E_HS_COOKIE,
 * BP_E_HS_NOT_ALLOWED, BP_E_CRYPTO.
 */
int bp_shake_recv(struct bp_shake *s, const uint8_t *msg, size_t len) BP_MUST_CHECK;

/* ASKED: the answer. BP_E_STATE; BP_E_HS_NOT_ALLOWED after NOK, whose message is still to be sent.
 */
int bp_shake_status(struct bp_shake *s, enum bp_shake_status status) BP_MUST_CHECK;

/* Why a peer that was dialled says no, if `msg` is a status that does; else NULL. Static. */
const char *bp_shake_refusal(const uint8_t *msg, size_t len);

/* The next message to send, borrowed until the next call; false if there is none. */
bool bp_shake_poll(struct bp_shake *s, const uint8_t **msg, size_t *len);

#endif
