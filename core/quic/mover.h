/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moving a connection that we dialled to another path (quic/conn_path.h): when to try, to wait, to
 * give up. The host has the sockets: it opens the new path's, sends what bp_conn_write gives for it
 * there, and reads both.
 *
 *   IDLE --begin--> OPENING --opened--> CID --an id for the path--> VALIDATING --answered--> IDLE
 *                                        ^-------- not answered ---------'
 *
 * Where the old path seems dead the new one is used before the answer comes; if it does not, BACK
 * waits for an id with which the old one is used again.
 */
#ifndef BP_MOVER_H
#define BP_MOVER_H

#include "quic/conn_path.h"

#define BP_MOVER_LEFT 8u /* paths that were left and are remembered */

enum bp_mover_state {
    BP_MOVER_IDLE,
    BP_MOVER_OPENING,
    BP_MOVER_CID,
    BP_MOVER_VALIDATING,
    BP_MOVER_BACK
};

struct bp_mover {
    enum bp_mover_state state;
    struct bp_addr next; /* the new path's name */
    struct bp_addr key;  /* the same as the peer tells it from others */
    bool at_once;        /* the connection is on it already */
    bp_time deadline;
    bp_time retry_at;
    int waits_for; /* what QUIC last refused the path with; 0: it took it */
    struct {
        struct bp_addr key;
        bp_time until;
    } left[BP_MOVER_LEFT];
    unsigned n_left; /* ever */
};

enum bp_move_step {
    BP_MOVE_NONE,
    BP_MOVE_DONE,   /* the new path is the connection's: it takes the old one's place */
    BP_MOVE_FAILED, /* `rc` of bp_mover_step; in state BACK the new path's socket is still needed */
    BP_MOVE_BACK,   /* ... and now it is not */
    BP_MOVE_RENAMED, /* a path that was given up was answered late: QUIC calls the one in use `next`
                        of bp_mover_step from now on; it stays where it is */
};

/* A path is to be opened, of which bp_mover_opened or bp_mover_cancel tells. BP_E_BUSY;
 * BP_E_MIGRATION_DISABLED, by the peer. */
int bp_mover_begin(struct bp_mover *m, const struct bp_conn *c, bp_time timeout,
                   bp_time now) BP_MUST_CHECK;
/* It is open; `key` NULL: nothing tells it from others but `local`. */
void bp_mover_opened(struct bp_mover *m, const struct bp_addr *local, const struct bp_addr *key,
                     bp_time now);
/* It could not be opened. */
void bp_mover_cancel(struct bp_mover *m);
/* No answer on the new path is waited for any longer: the next step says BP_E_TIMEOUT. */
void bp_mover_give_up(struct bp_mover *m, bp_time now);
/* The path `key` was left: it rests before it may be used again. */
void bp_mover_left(struct bp_mover *m, const struct bp_addr *key, bp_time pto, bp_time now);

/*
 * After anything happened to the connection, and at bp_mover_deadline; until it gives NONE. `used`
 * is the name of the path that the host uses, `*rc` why it failed, `*renamed` the other name.
 */
enum bp_move_step bp_mover_step(struct bp_mover *m, struct bp_conn *c, const struct bp_addr *used,
                                const struct bp_addr *remote, bp_time now, int *rc,
                                struct bp_addr *renamed);
bp_time bp_mover_deadline(const struct bp_mover *m);

#endif
