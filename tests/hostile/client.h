/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A QUIC client that does what it is told: the core's connection without its link, so that any
 * bytes can be put on any stream.
 */
#ifndef HOSTILE_CLIENT_H
#define HOSTILE_CLIENT_H

#include "auth/auth_msg.h"
#include "auth/identity.h"
#include "hostile/hostile.h"
#include "quic/conn.h"

#define CTL_CAP 4096u

/* Who it is; keys are made on demand. */
struct self {
    struct bp_identity *identity;
    uint8_t pub[BP_KEY_LEN];
    struct bp_tls_cred *cred;
    uint8_t reset_secret[32];
};

void self_new(struct self *s);
void self_free(struct self *s);

struct client {
    struct bp_conn *c;
    struct self *self;
    int fd;
    struct bp_addr local;
    struct bp_addr remote;
    bool server;
    bool tls_done;
    bool mute; /* reads, and sends nothing but what send_raw is given */
    int err;
    bp_time began;
    bp_time ended;
    /* what came */
    struct bp_auth_split auth_in;
    uint8_t msg[BP_AUTH_SPLIT_CAP]; /* the last message of client_next_auth */
    uint8_t ctl[CTL_CAP];           /* of stream 0 */
    size_t ctl_len;
    uint64_t got; /* bytes of other streams */
    uint64_t resets;
    /* what went */
    int auth_slot;
    int ctl_slot;
    uint64_t sent_datagrams;
    uint64_t sent_bytes;
    void (*on_send)(void *ctx, const uint8_t *p, size_t len);
    void *on_send_ctx;
};

/* Opens a socket on `from` (port 0: any) and begins to dial, with foreign=1 as another
 * implementation. Dies if that fails. */
void client_dial(struct client *c, struct self *self, const char *from, const char *to,
                 uint16_t port);
/* Wraps a connection that somebody else made (serve.c). */
void client_init(struct client *c, struct self *self, int fd);
const struct bp_conn_ops *client_ops(void);
void client_free(struct client *c);

/* Reads, timers, sends; waits up to `ms` for a datagram. */
void client_step(struct client *c, int ms);
/* Steps until `done(c)` (NULL: never), the connection's end, or `ms` have passed: true if done. */
bool client_run(struct client *c, bool (*done)(const struct client *c), int ms);
bool client_tls_done(const struct client *c);
/* Runs until TLS is done. Dies if it does not get there and `must`. */
bool client_handshake(struct client *c, bool must);
void client_flush(struct client *c);
/* One datagram. */
void client_read(struct client *c, const struct bp_addr *from, const uint8_t *p, size_t len);

/* Bytes on our auth stream, on stream 0. */
void client_auth_bytes(struct client *c, const void *p, size_t len);
void client_ctl_bytes(struct client *c, const void *p, size_t len);
/* Bytes on a new bidirectional stream; returns its slot. */
int client_new_stream(struct client *c);

/* --- authentication ------------------------------------------------------ */

/* What to say; what is NULL is the truth. */
struct lies {
    const char *name;
    const uint8_t *key;   /* claimed */
    const uint8_t *nonce; /* of our challenge */
    bool echo;            /* their own challenge as ours */
    int64_t skew_ms;      /* of our clock */
    const uint8_t *sig;   /* instead of our signature */
    int flip_bit;         /* of all that we send, counted from 1; 0: none */
};

struct auth_result {
    bool hello, challenge, response, ok, fail;
    uint8_t hello_key[BP_KEY_LEN];
    uint8_t nonce[BP_NONCE_LEN]; /* of their challenge */
    uint8_t sig[BP_SIG_LEN];     /* theirs over ours */
    char reason[BP_AUTH_REASON_MAX + 1];
};

/* The next message of their auth stream, waiting up to `ms`. */
bool client_next_auth(struct client *c, struct bp_auth_msg *out, int ms);
void client_hello(struct client *c, const struct lies *lies);
void client_challenge(struct client *c, const struct lies *lies, const uint8_t *theirs);
/* Plays the dialler's part until OK, FAIL, the connection's end or 5 seconds of silence. */
void client_authenticate(struct client *c, const struct lies *lies, struct auth_result *out);
/* How it ended: the lines ended, error, text, ms, sent_bytes. */
void client_report(const struct client *c);

/* --- distribution handshake (member.c) ----------------------------------- */

/* As the node `name`, towards the end. Result: NULL, or the step that failed. */
const char *client_dist(struct client *c, const char *name, const char *cookie);
void client_dist_name(struct client *c, const char *name);

#endif
