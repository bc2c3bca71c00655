/* SPDX-License-Identifier: Apache-2.0 */
/*
 * User streams of a connection: the writing side, and what QUIC says of them. They get what
 * distribution leaves: nothing of them is written while distribution has something to write that
 * may go, and part of the flow-control window and of what may be under way is kept free of them.
 * Among them the lowest priority number goes first; equal ones take turns, a packet each.
 *
 * The layer above owns the objects: it embeds a `struct bp_user_tx` in its own stream, and is given
 * it back in the callbacks of `struct bp_conn_ops`.
 */
#ifndef BP_CONN_USER_H
#define BP_CONN_USER_H

#include "quic/conn.h"

#define BP_USER_PRIORITY_MIN     16u /* WIRE 6.1 */
#define BP_USER_PRIORITY_MAX     255u
#define BP_USER_PRIORITY_DEFAULT 128u

struct bp_user_tx {
    int64_t id;
    struct bp_sendq q;
    struct bp_user_tx *next; /* among those that have something to write, by priority */
    struct bp_user_tx *prev;
    uint8_t priority;
    bool listed;   /* ... it is among them */
    bool blocked;  /* by the peer's stream window */
    bool fin;      /* no more will be queued */
    bool fin_sent; /* QUIC has taken all of it */
    bool shut;     /* nothing more is sent: reset, stopped by the peer, or closed */
    bool attached; /* QUIC knows it: its callbacks may come */
};

/* Opens a stream of ours. Errors: BP_E_AGAIN (the peer allows no more now), BP_E_NOMEM,
 * BP_E_STATE. */
int bp_conn_user_open(struct bp_conn *c, struct bp_user_tx *t, uint8_t priority) BP_MUST_CHECK;
/* Makes `t` the object of a stream that the peer has opened; may be called from a callback.
 * Errors: BP_E_STATE. */
int bp_conn_user_adopt(struct bp_conn *c, struct bp_user_tx *t, int64_t id,
                       uint8_t priority) BP_MUST_CHECK;

/* As bp_conn_put_copy, bp_conn_put_owned and bp_conn_fin. */
int bp_conn_user_put_copy(struct bp_conn *c, struct bp_user_tx *t, const void *p,
                          size_t len) BP_MUST_CHECK;
int bp_conn_user_put_owned(struct bp_conn *c, struct bp_user_tx *t, const uint8_t *p, size_t len,
                           void *owner) BP_MUST_CHECK;
int bp_conn_user_fin(struct bp_conn *c, struct bp_user_tx *t) BP_MUST_CHECK;
void bp_conn_user_set_priority(struct bp_conn *c, struct bp_user_tx *t, uint8_t priority);
/* RESET_STREAM and STOP_SENDING, as far as either still means something. */
void bp_conn_user_reset(struct bp_conn *c, struct bp_user_tx *t, uint64_t code);
/* STOP_SENDING: what the peer still writes is of no interest. */
void bp_conn_user_stop_reading(struct bp_conn *c, struct bp_user_tx *t, uint64_t code);
/* Gives back what it holds; no callback comes any more. Before it is freed. */
void bp_conn_user_drop(struct bp_conn *c, struct bp_user_tx *t);

/* Flow control: the reader took `len` bytes of stream `id`; the connection's window is given back
 * apart from it, when bytes arrive, so that a slow reader holds up its own stream alone. */
void bp_conn_user_credit(struct bp_conn *c, int64_t id, size_t len);
void bp_conn_credit_connection(struct bp_conn *c, size_t len);
/* The peer may open one more bidirectional stream. */
void bp_conn_allow_stream(struct bp_conn *c);

/* Bytes queued on user streams that QUIC has not taken yet. */
uint64_t bp_conn_user_unsent(const struct bp_conn *c);

#endif
