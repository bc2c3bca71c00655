/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a node makes of the key that a peer presents: looks up what is pinned to the peer's name,
 * pins the key when the peer has shown the cookie, and says in words that help why a peer was
 * refused. One of these belongs to one connection; core/auth judges, this keeps the files.
 */
#ifndef BP_PEER_TRUST_H
#define BP_PEER_TRUST_H

#include "dist/link.h"
#include "io/files.h"

/* All zero but `key_dir` (borrowed; NULL without built-in authentication): nothing is known. */
struct bp_peer_trust {
    const char *key_dir;
    bool has_key;    /* `key` is proved */
    bool presented;  /* `key` is claimed */
    bool was_pinned; /* `expected` is what is pinned to the peer's name */
    bool pin;        /* the key shall be pinned, in place of `expected` if that was */
    uint8_t key[BP_KEY_LEN];
    uint8_t expected[BP_KEY_LEN];
};

/*
 * The answer to LOOKUP: 0 with `*found` and, if found, the key for bp_link_trust in `out`. An error
 * is one of a file that cannot be used, which must not count as "not pinned".
 */
int bp_peer_trust_lookup(struct bp_peer_trust *t, const struct bp_link_event *ev, bool *found,
                         uint8_t out[static BP_KEY_LEN], struct bp_errbuf *err) BP_MUST_CHECK;

/* AUTHENTICATED: keeps its verdict. FAILED: `claimed` is the key that the peer had, or NULL. */
void bp_peer_trust_proved(struct bp_peer_trust *t, const struct bp_link_event *ev);
void bp_peer_trust_claimed(struct bp_peer_trust *t, const uint8_t *claimed);

/*
 * A dynamic peer uses `name` (bp_link_claimed): 0, BP_E_AUTH_KEY_MISMATCH if that name is pinned to
 * another key, or the error of a file.
 */
int bp_peer_trust_name(struct bp_peer_trust *t, const char *name,
                       struct bp_errbuf *err) BP_MUST_CHECK;

/*
 * The peer called `name` has shown the cookie: pins its key if that is to be (TOFU, rotation).
 * `*replaced` is true if an older key's pin was replaced, which deserves a log line; its text is in
 * `note` then. BP_E_MISMATCH: the trust in the key ended meanwhile. Errors of files.
 */
int bp_peer_trust_pin(struct bp_peer_trust *t, const char *name, bool *replaced, char *note,
                      size_t cap, struct bp_errbuf *err) BP_MUST_CHECK;

/*
 * Why the peer of a link that ended with `err` refused us, an error of authentication or
 * BP_E_HS_NAME_MISMATCH; 0 if it did not, or did not say. A FAIL carries the word, a close the name
 * of the error, which are the same where both can be.
 */
int bp_peer_trust_refusal(struct bp_link *l, int err);

/* Who is asked to trust whom, for the sentence. */
struct bp_trust_sides {
    const char *peer;        /* name, "" if none was said */
    const char *self;        /* our name */
    const uint8_t *self_key; /* our public key, NULL without one */
    int refusal;             /* bp_peer_trust_refusal */
};

/*
 * `text` and, if `err` is one of authentication, the keys and what there is to do on which side:
 * the command that makes the key a trusted one once its owner has confirmed it, say. Printable
 * ASCII as long as `text` is. `out` gets at most `cap` bytes, NUL included.
 */
void bp_peer_trust_explain(const struct bp_peer_trust *t, int err, const char *text,
                           const struct bp_trust_sides *sides, char *out, size_t cap);

#endif
