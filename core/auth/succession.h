/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Key succession: how a node that changes its key on purpose keeps the trust that its peers have in
 * the old one. Each key signs its successor. A node whose current key came by rotation tells peers
 * of this implementation so before its HELLO (message SUCCESSION, see auth_msg.h); who has an
 * earlier key of the chain pinned follows it to the key of the HELLO and pins that one.
 *
 * What a key signs (`len` is the name's):
 *
 *   "barrel_p2p key succession, version 1", NUL up to 64 bytes | len:16 | name | old:32 | new:32
 *
 * The signature of the authentication (WIRE 3.1) is over exactly 104 bytes, of which the peer
 * chooses the first 40. This text has at least 133: no challenge makes a node sign a succession.
 */
#ifndef BP_SUCCESSION_H
#define BP_SUCCESSION_H

#include "auth/identity.h"

#define BP_SUCCESSION_MAX      4u /* rotations that a peer may have missed */
#define BP_SUCCESSION_LINK_LEN (BP_KEY_LEN + BP_SIG_LEN)

/* A key, and its signature over the next one. */
struct bp_succession_link {
    uint8_t key[BP_KEY_LEN];
    uint8_t sig[BP_SIG_LEN];
};

/* Oldest first; the successor of the last key is said elsewhere. All zero: none. */
struct bp_succession {
    unsigned n;
    struct bp_succession_link links[BP_SUCCESSION_MAX];
};

/* `old` signs that `next` follows it for the node `name`. BP_E_INVALID (name), BP_E_NOMEM,
 * BP_E_CRYPTO. */
int bp_succession_sign(const struct bp_identity *old, const char *name,
                       const uint8_t next[static BP_KEY_LEN],
                       uint8_t sig[static BP_SIG_LEN]) BP_MUST_CHECK;

/* Adds a link; the oldest one goes if there is no room. */
void bp_succession_add(struct bp_succession *s, const uint8_t key[static BP_KEY_LEN],
                       const uint8_t sig[static BP_SIG_LEN]);

/*
 * 0 if for the node `name` the chain leads from the key `from` to the key `to`: each key from there
 * on has signed the next. Errors: BP_E_NOT_FOUND (`from` is not in it), BP_E_AUTH_SIGNATURE;
 * BP_E_NOMEM and BP_E_CRYPTO if it could not be found out.
 */
int bp_succession_check(const struct bp_succession *s, const char *name,
                        const uint8_t from[static BP_KEY_LEN],
                        const uint8_t to[static BP_KEY_LEN]) BP_MUST_CHECK;

/*
 * The links as bytes, one after the other: 1..BP_SUCCESSION_MAX times BP_SUCCESSION_LINK_LEN.
 * decode: BP_E_INVALID for another length. encode returns the length; `out` has room for all.
 */
int bp_succession_decode(struct bp_succession *out, const uint8_t *p, size_t len) BP_MUST_CHECK;
size_t bp_succession_encode(const struct bp_succession *s,
                            uint8_t out[static BP_SUCCESSION_MAX * BP_SUCCESSION_LINK_LEN]);

#endif
