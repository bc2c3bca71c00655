/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cuts the undelimited bytes of stream 0 into messages of the distribution handshake (WIRE 4.1
 * and 4.2). It finds where messages end and in which order they may come; what they mean is
 * dist_util's business.
 *
 *   state             | receives                                    | then
 *   ------------------+---------------------------------------------+------------------
 *   server WAIT_FIRST | N (name)                                    | WAIT_LAST
 *   server WAIT_LAST  | s true, s false, c                          | WAIT_LAST
 *                     | r (challenge reply)                         | DONE
 *   client WAIT_FIRST | s ok, ok_simultaneous, alive, named, nok,   | WAIT_CHALLENGE
 *                     |   not_allowed                               |
 *   client WAIT_CHAL. | N (challenge)                               | WAIT_LAST
 *   client WAIT_LAST  | a (challenge ack)                           | DONE
 *
 * "sok" is the only word that is a prefix of another ("sok_simultaneous"), and a lost packet can
 * split the longer one anywhere. So "sok" waits for the byte that follows it. That byte always
 * comes without an answer from us: the server's next step after `ok` is to send its challenge,
 * with at most a QUIC acknowledgement in between. (After `alive`, `true`, `false`, `nok`,
 * `not_allowed` it would not, but these are complete as they stand; `named:` counts its bytes.)
 * A tick of four zero bytes is skipped where a message could start, and only there.
 */
#ifndef BP_HS_SPLIT_H
#define BP_HS_SPLIT_H

#include "base/types.h"

/* Bytes that the splitter holds. The largest message has 19 + 255; a peer can have sent at most
 * three messages and some ticks before it needs an answer. */
#define BP_HS_CAP 1024u

/* In Flags of the client's 'N': Name is a host name only, the server shall choose the rest
 * (OTP's DFLAG_NAME_ME). */
#define BP_HS_FLAG_NAME_ME (UINT64_C(1) << 33)

enum bp_hs_role {
    BP_HS_CLIENT, /* we dialled: we receive s, N, a */
    BP_HS_SERVER  /* we accepted: we receive N, (s,) r */
};

enum bp_hs_state { BP_HS_WAIT_FIRST, BP_HS_WAIT_CHALLENGE, BP_HS_WAIT_LAST, BP_HS_DONE };

struct bp_hs_split {
    enum bp_hs_role role;
    enum bp_hs_state state;
    int error;      /* sticky */
    uint32_t ticks; /* skipped, since init */
    size_t off;     /* first byte that was not handed out */
    size_t len;     /* end of the bytes in `buf` */
    uint8_t buf[BP_HS_CAP];
};

void bp_hs_init(struct bp_hs_split *s, enum bp_hs_role role);

/*
 * Takes bytes of stream 0 (copied). BP_E_HS_TOO_LONG where more than BP_HS_CAP bytes are not yet
 * handed out; an earlier error of the splitter again.
 */
int bp_hs_push(struct bp_hs_split *s, const uint8_t *data, size_t len) BP_MUST_CHECK;

/*
 * The next complete message: 1 with `*msg` and `*len` (borrowed from the splitter until the next
 * call on it), 0 where more bytes are needed or the handshake is over. BP_E_HS_MALFORMED for
 * bytes that no message of this state starts with, BP_E_HS_TOO_LONG for a name longer than 255;
 * both stay.
 */
int bp_hs_next(struct bp_hs_split *s, const uint8_t **msg, size_t *len) BP_MUST_CHECK;

/* True once the last message that we receive was handed out: the rest are ticks. */
bool bp_hs_done(const struct bp_hs_split *s);

/*
 * What was pushed behind the last message, for whoever reads ticks from then on. Borrowed until
 * the next call; empty before the handshake is done and the second time.
 */
void bp_hs_take_rest(struct bp_hs_split *s, const uint8_t **data, size_t *len);

/*
 * The name and flags of an 'N' message; `from_server` tells which form it has. `*name` points
 * into `msg`. BP_E_HS_MALFORMED for anything but exactly one such message with a name of 1 to
 * 255 bytes.
 */
int bp_hs_name(const uint8_t *msg, size_t len, bool from_server, const char **name, size_t *namelen,
               uint64_t *flags) BP_MUST_CHECK;

#endif
