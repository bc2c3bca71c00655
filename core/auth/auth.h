/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ed25519 authentication, version 2, as a state machine (WIRE 3.2, 3.3): it proves to each side of
 * a QUIC connection that the other holds the private key of the identity that it claims, and
 * asks the host whether that key belongs to the claimed name. One object serves one connection.
 *
 * The host feeds it the bytes of the peer's unidirectional stream and polls effects after each
 * call; effects come out in the order in which they must be carried out. The last one is always
 * DONE or FAILED; after that all input is ignored. The deadline is the host's (one for TLS,
 * authentication and distribution handshake); so are stream resets and closes.
 *
 *   client            event                        next
 *   START             bp_auth_start                sends C1 HELLO; WAIT_HELLO
 *   WAIT_HELLO        HELLO of the dialled name    LOOKUP; WAIT_TRUST (any, if none was dialled)
 *                     OK, dialled name cookie-only sends FIN; DONE without identity
 *   WAIT_TRUST        trusted                      sends C2 CHALLENGE; WAIT_CHALLENGE
 *   WAIT_CHALLENGE    CHALLENGE                    sends C3 RESPONSE; WAIT_RESPONSE
 *   WAIT_RESPONSE     RESPONSE, valid, in time     WAIT_OK
 *   WAIT_OK           OK                           sends FIN; DONE
 *   any               FAIL                         FAILED auth_rejected
 *
 *   server            event                        next
 *   WAIT_HELLO        HELLO, cookie-only name      sends OK, FIN; DONE without identity
 *                     HELLO                        LOOKUP; WAIT_TRUST
 *   WAIT_TRUST        trusted                      sends S1 HELLO, S2 CHALLENGE; WAIT_CHALLENGE
 *                     pinned with another key      sends FAIL key_mismatch, FIN; FAILED
 *                     not pinned, strict           sends FAIL untrusted_key, FIN; FAILED
 *   WAIT_CHALLENGE    CHALLENGE                    sends S3 RESPONSE; WAIT_RESPONSE
 *   WAIT_RESPONSE     RESPONSE, valid, in time     sends S4 OK, FIN; DONE
 *                     RESPONSE, invalid or late    sends FAIL signature_invalid, FIN; FAILED
 *
 * Between two nodes of this implementation nobody waits for the other's HELLO before the challenge
 * goes out (bp_auth_start_early): C1 C2 and S1 S2 cross, C3 and S3 follow. That saves a round trip
 * and changes no message. A challenge is 40 bytes that mean nothing to whom does not hold the key.
 *
 * Any other message, malformed input or an early FIN is FAILED with nothing sent. Beyond upstream
 * (the reasons are in WIRE 11, S1-S5) these are refused: a HELLO with our own key or name; a server
 * that is not the dialled node; a challenge that we issued ourselves, on this connection or on
 * any other; keys of small order. A TOFU pin is only announced (DONE.pin): the host
 * stores it when the distribution handshake has proved the cookie.
 *
 * Nonces can be recognised without a table: the second half of each nonce is a MAC of its random
 * first half under `nonce_secret`, which all connections of a node share. Whoever echoes a nonce of
 * ours, on whatever connection and however late, is caught, and no lock is needed.
 *
 * A node that has changed its key by rotation sends SUCCESSION before its HELLO, to peers of this
 * implementation only (those that bp_auth_start_early is for; from others it is refused). If the
 * pin is an earlier key of that chain, which leads to the key of the HELLO, the key is trusted as
 * if it were pinned, in both trust modes, and DONE says which key it replaces.
 *
 * A node without a name of its own yet claims "nonode@nohost". Names of that kind never are looked
 * up by name and never pinned: TOFU takes any key, strict mode one that is pinned under some name.
 */
#ifndef BP_AUTH_H
#define BP_AUTH_H

#include "auth/auth_msg.h"
#include "auth/identity.h"
#include "base/types.h"

#define BP_AUTH_WINDOW      (30 * BP_SEC) /* default of bp_auth_config.window (WIRE 3.3) */
#define BP_AUTH_OUT_CAP     1024u         /* all that one side ever sends */
#define BP_AUTH_MAX_EFFECTS 8u            /* more than one side ever has */

enum bp_auth_role {
    BP_AUTH_CLIENT, /* the side that dialled the QUIC connection */
    BP_AUTH_SERVER
};

enum bp_trust_mode {
    BP_TRUST_TOFU,  /* trust on first use: an unknown name's key is pinned */
    BP_TRUST_STRICT /* unknown names are refused */
};

enum bp_auth_state {
    BP_AUTH_ST_START,
    BP_AUTH_ST_WAIT_HELLO,
    BP_AUTH_ST_WAIT_TRUST,
    BP_AUTH_ST_WAIT_CHALLENGE,
    BP_AUTH_ST_WAIT_RESPONSE,
    BP_AUTH_ST_WAIT_OK,
    BP_AUTH_ST_FINISHED, /* DONE is or was an effect */
    BP_AUTH_ST_FAILED
};

/* Everything that a pointer names is borrowed until bp_auth_free. */
struct bp_auth_config {
    enum bp_auth_role role;
    const struct bp_identity *identity;
    const char *self_name; /* NUL-terminated, a valid node name */
    /* Clients only: the same, or "" to take whoever answers, if it has a name and its key is
     * trusted for that. */
    const char *dialled_name;
    enum bp_trust_mode trust_mode;
    /* A response is accepted this long after the challenge; twice this is the largest difference of
     * the wall clocks. 0 means BP_AUTH_WINDOW. */
    bp_time window;
    uint8_t binding[BP_BINDING_LEN]; /* SHA-256 of the server's leaf certificate (DER) */
    const uint8_t *nonce_secret;     /* 32 bytes, random per node start, never told to anybody */
    const char *const *cookie_only;  /* patterns, see bp_node_name_match */
    size_t n_cookie_only;
    /* Servers: pause after S3 until bp_auth_continue, so that S3 can be sent, and verified by the
     * client, while we verify C3. */
    bool pause;
    const struct bp_succession *succession; /* of our own key; NULL or empty: none */
    const uint8_t *test_nonce;              /* NULL; tests: our challenge's BP_NONCE_LEN bytes */
};

enum bp_auth_effect_kind {
    BP_AUTH_SEND,   /* write `data` to our unidirectional stream (open it first), FIN if `fin` */
    BP_AUTH_LOOKUP, /* look the peer up in the trust store, then call bp_auth_trust */
    BP_AUTH_DONE,   /* success */
    BP_AUTH_FAILED  /* failure: close the connection when what was sent is acknowledged */
};

/* Pointers are valid until bp_auth_free. */
struct bp_auth_effect {
    enum bp_auth_effect_kind kind;
    /* SEND; `len` may be 0 with `fin` */
    const uint8_t *data;
    size_t len;
    bool fin;
    /* LOOKUP, DONE, FAILED: the name that the peer claimed, "" if none that is valid; and its key,
     * NULL if none. Both are proved by DONE with `has_identity`, else only claimed. */
    const char *peer_name;
    const uint8_t *peer_key;
    /* LOOKUP: search for the key under any name, not for the name */
    bool by_key;
    /* DONE: false if the name is cookie-only, then `peer_name` is not proved by anything */
    bool has_identity;
    /* DONE: pin the key to the name once the distribution handshake has succeeded */
    bool pin;
    /* DONE with `pin`: the key that this one replaces, by succession; NULL if none was pinned */
    const uint8_t *replaces;
    /* FAILED: an enum bp_err, and text for a log line in printable ASCII: the peer's reason with
     * BP_E_AUTH_REJECTED, else ours */
    int err;
    const char *reason;
};

/* A few KB, no heap; the fields are this module's. Effects point into it: do not move it. */
struct bp_auth {
    struct bp_auth_config cfg;
    enum bp_auth_state state;
    bool fin; /* the peer's FIN came while the host was asked */
    bool by_key;
    bool has_key;
    bool has_identity;
    bool pin;
    bool paused;
    bool ours;       /* the peer is of this implementation */
    bool challenged; /* our challenge went out before the peer's HELLO came */
    bool replacing;
    uint8_t replaced[BP_KEY_LEN];    /* what was pinned, if the peer's key has followed it */
    struct bp_succession succession; /* of the peer's key, as the peer says */
    uint64_t skew_max_ms;
    bp_time sent_at;                      /* when our challenge went out */
    uint64_t sent_ts_ms;                  /* the wall clock that it carried */
    uint8_t nonce[BP_NONCE_LEN];          /* our challenge */
    uint8_t peer_key[BP_KEY_LEN];         /* claimed */
    char peer_name[BP_NODE_NAME_MAX + 1]; /* claimed and valid, or empty */
    char reason[BP_AUTH_REASON_MAX + 1];
    struct bp_auth_split in;
    uint8_t out[BP_AUTH_OUT_CAP];
    size_t out_len;
    struct bp_auth_effect effects[BP_AUTH_MAX_EFFECTS];
    size_t n_effects;
    size_t next_effect;
};

/*
 * Prepares `a` (the caller's memory, in any state) with a copy of `*cfg`.
 * Errors: BP_E_INVALID if the configuration is not usable, BP_E_CRYPTO, BP_E_NOMEM; then `a` must
 * not be used except with bp_auth_free.
 */
int bp_auth_init(struct bp_auth *a, const struct bp_auth_config *cfg) BP_MUST_CHECK;

/* Wipes `a`. What effects pointed to is gone. */
void bp_auth_free(struct bp_auth *a);

/*
 * `now` is the monotonic clock, `wall_ms` the wall clock in ms since the epoch, here and below.
 *
 * Starts: a client sends its HELLO, a server waits (the call is optional for it).
 * Errors: BP_E_STATE if it was started before; anything that FAILED may carry.
 */
int bp_auth_start(struct bp_auth *a, bp_time now, uint64_t wall_ms) BP_MUST_CHECK;

/*
 * As bp_auth_start, and our challenge goes out at once, from a server with its HELLO before it. For
 * peers that are known to expect it. A server with cookie-only names waits as ever: such a name
 * gets OK instead of HELLO.
 */
int bp_auth_start_early(struct bp_auth *a, bp_time now, uint64_t wall_ms) BP_MUST_CHECK;

/*
 * Bytes of the peer's stream, in order and in any chunks (borrowed for the call). While a LOOKUP is
 * unanswered they are kept; more than a peer can send ahead by then is an error.
 * Returns 0, also after the end; BP_E_STATE for a client that was not started; or the error that
 * the FAILED effect carries.
 */
int bp_auth_recv(struct bp_auth *a, const uint8_t *p, size_t len, bp_time now,
                 uint64_t wall_ms) BP_MUST_CHECK;

/* Goes on after a pause (bp_auth_config.pause); else nothing. Returns as bp_auth_recv. */
int bp_auth_continue(struct bp_auth *a, bp_time now, uint64_t wall_ms) BP_MUST_CHECK;

/* The peer ended its stream. Returns as bp_auth_recv; before the end that is BP_E_AUTH_FINISHED,
 * but while a LOOKUP is unanswered, or in a pause, the error comes afterwards. */
int bp_auth_peer_fin(struct bp_auth *a) BP_MUST_CHECK;

/*
 * The host's answer to LOOKUP, and what was received meanwhile is processed. `found`: the name has
 * a pin, which is `pinned_key` (BP_KEY_LEN bytes, borrowed); with `by_key`: the key is pinned under
 * some name, and `pinned_key` may be NULL.
 * Returns as bp_auth_recv; BP_E_STATE if nothing was asked, BP_E_INVALID if a pin has no key.
 */
int bp_auth_trust(struct bp_auth *a, bool found, const uint8_t *pinned_key, bp_time now,
                  uint64_t wall_ms) BP_MUST_CHECK;

/* True once our answer to the peer's challenge is among the effects. */
bool bp_auth_responded(const struct bp_auth *a);

/* Takes the next effect; false if there is none. */
bool bp_auth_poll(struct bp_auth *a, struct bp_auth_effect *out);

#endif
