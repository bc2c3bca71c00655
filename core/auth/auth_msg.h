/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of the Ed25519 authentication, version 2 (WIRE 3.1), and the splitter that cuts a
 * stream of them into frames. Each frame is `Len:16, Msg:Len`, all integers big-endian.
 *
 * One message is ours, sent to and taken from peers of this implementation only:
 * SUCCESSION `6, N:8, N * (Key:32, Signature:64)`, N = 1..BP_SUCCESSION_MAX (auth/succession.h).
 */
#ifndef BP_AUTH_MSG_H
#define BP_AUTH_MSG_H

#include "auth/succession.h"
#include "base/rw.h"
#include "base/types.h"

#define BP_AUTH_VERSION        2u
#define BP_AUTH_REASON_MAX     255u
#define BP_AUTH_FRAME_HEAD     2u
#define BP_AUTH_CHALLENGE_LEN  (1u + BP_NONCE_LEN + 8u)
#define BP_AUTH_RESPONSE_LEN   (1u + BP_SIG_LEN)
#define BP_AUTH_HELLO_MAX      (1u + 1u + 2u + BP_NODE_NAME_MAX + BP_KEY_LEN)
#define BP_AUTH_SUCCESSION_MAX (2u + BP_SUCCESSION_MAX * BP_SUCCESSION_LINK_LEN)
/* The largest legal message. The length field allows 65535, which no stranger needs. */
#define BP_AUTH_MSG_MAX        BP_AUTH_SUCCESSION_MAX
/* Bytes that a splitter holds: one message of any size, or all that a peer can send ahead. */
#define BP_AUTH_SPLIT_CAP      512u

enum bp_auth_msg_type {
    BP_AUTH_MSG_HELLO = 1,
    BP_AUTH_MSG_CHALLENGE = 2,
    BP_AUTH_MSG_RESPONSE = 3,
    BP_AUTH_MSG_OK = 4,
    BP_AUTH_MSG_FAIL = 5,
    BP_AUTH_MSG_SUCCESSION = 6
};

/* Only the fields of its type are set. Pointers are borrowed: decoded ones from the input. */
struct bp_auth_msg {
    enum bp_auth_msg_type type;
    const char *name;     /* HELLO; not NUL-terminated, not checked by the rules for names */
    size_t name_len;      /* HELLO */
    const uint8_t *pub;   /* HELLO, BP_KEY_LEN bytes */
    const uint8_t *nonce; /* CHALLENGE, BP_NONCE_LEN bytes */
    uint64_t ts_ms;       /* CHALLENGE, wall clock, ms since the epoch */
    const uint8_t *sig;   /* RESPONSE, BP_SIG_LEN bytes */
    const char *reason;   /* FAIL; not NUL-terminated, any bytes */
    size_t reason_len;    /* FAIL */
    const uint8_t *links; /* SUCCESSION, see bp_succession_decode */
    size_t links_len;     /* SUCCESSION */
};

/*
 * Decodes one message (without its frame length).
 * Errors: BP_E_AUTH_VERSION for a HELLO of another version, BP_E_AUTH_MALFORMED for all else;
 * then `*out` has no meaning.
 */
int bp_auth_msg_decode(struct bp_auth_msg *out, const uint8_t *p, size_t len) BP_MUST_CHECK;

/*
 * Appends the frame of a message, length included. Sets `w->bad` where the room is too small, a
 * name or reason is too long, or the type is unknown.
 */
void bp_auth_msg_encode(struct bp_writer *w, const struct bp_auth_msg *msg);

/* Cuts a byte stream into frames, whatever chunks it comes in. All zero is its initial state. */
struct bp_auth_split {
    size_t start; /* first byte that was not given out */
    size_t len;   /* end of the bytes held */
    uint8_t buf[BP_AUTH_SPLIT_CAP];
};

/*
 * Takes as many of the `len` bytes as there is room for and returns their number, which is 0 only
 * if `len` is 0 or BP_AUTH_SPLIT_CAP bytes wait for bp_auth_split_next. Frames given out before
 * become invalid.
 */
size_t bp_auth_split_push(struct bp_auth_split *s, const uint8_t *p, size_t len);

/*
 * The next complete frame's message: `*msg` points into `s` (until the next push), or is NULL if
 * there is none yet. Errors: BP_E_AUTH_MALFORMED for an empty frame or one longer than
 * BP_AUTH_MSG_MAX, as soon as its length is known; the stream cannot be read on after that.
 */
int bp_auth_split_next(struct bp_auth_split *s, const uint8_t **msg, size_t *len) BP_MUST_CHECK;

#endif
