/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the driver's user streams: shared by stream*.c only.
 *
 * Events go from here to a stream's owner, without a process between. How many an owner gets ahead
 * of what it has consumed is its stream's `active`; bytes that it does not get wait in the link,
 * and then at the peer.
 */
#ifndef BP_DRV_STREAMS_H
#define BP_DRV_STREAMS_H

#include "driver/drv.h"

/* Queued bytes of a stream at which `send` waits, and at which it goes on. */
#define STREAM_HIGH_WATER    (1024u * 1024u)
#define STREAM_LOW_WATER     (512u * 1024u)
/* What an owner gets ahead with `auto`; at half of either the watcher is asked. */
#define STREAM_AUTO_EVENTS   32
#define STREAM_AUTO_BYTES    (8 * 1024 * 1024)
#define STREAM_ACCEPTORS_MAX 1024u

enum drv_active {
    DRV_ACTIVE_FALSE = 0, /* nothing */
    DRV_ACTIVE_ONCE = 1,  /* one event */
    DRV_ACTIVE_TRUE = 2,  /* whatever comes */
    DRV_ACTIVE_AUTO = 3,  /* as much as it consumes */
    DRV_ACTIVE_N = 4      /* so many events, then `passive` */
};

struct drv_stream_opts {
    bool has_active;
    bool has_priority;
    bool has_nonblock;
    enum drv_active active;
    int32_t n; /* of DRV_ACTIVE_N: added to what is left */
    uint8_t priority;
    bool nonblock;
};

/* Of a stream that has an owner; the link's `host`. */
struct drv_stream {
    ErlDrvTermData owner;
    ErlDrvMonitor monitor;
    enum drv_active active;
    int32_t left;       /* events that may still be given */
    int64_t bytes_left; /* the same, with `auto` */
    bool held;          /* it is about to get another owner */
    bool asked;         /* the watcher was */
    bool nonblock;
    bool full;     /* the owner is to be told when there is room */
    bool reserved; /* a port command with bytes is due */
    bool reserved_fin;
};

struct drv_acceptor {
    ErlDrvTermData pid;
    ErlDrvMonitor monitor;
    struct drv_stream_opts opts;
};

struct drv_streams {
    struct drv_acceptor *acceptors;
    unsigned n_acceptors;
    unsigned acceptors_cap;
    unsigned turn;   /* whose the next stream is */
    unsigned n_full; /* streams whose owner waits for room */
    size_t node_len;
    uint8_t node[BP_NODE_NAME_MAX + 3]; /* the peer's name in external format */
};

/* A stream's number for Erlang: its id, and in the upper bits its connection's number, so that what
 * is left of a stream of an earlier connection to the same node is never taken for a new one. */
#define STREAM_ID_BITS 44u
uint64_t drv_stream_number(const struct drv_conn_port *cp, const struct bp_user_stream *s);
/* NULL: none of this connection. */
struct bp_user_stream *drv_stream_find(const struct drv_conn_port *cp, uint64_t number);

/* --- streams.c -------------------------------------------------------------- */

/* NULL: no memory. */
struct drv_streams *drv_streams_get(struct drv_conn_port *cp);
/* Gives the stream an owner; false: that process has ended, or there is no memory. */
bool drv_stream_own(struct drv_conn_port *cp, struct bp_user_stream *s, ErlDrvTermData owner,
                    const struct drv_stream_opts *opts);
/* Another owner; false: that process has ended, nothing is changed. */
bool drv_stream_hand_over(struct drv_conn_port *cp, struct drv_stream *h, ErlDrvTermData owner);
void drv_stream_set(struct drv_conn_port *cp, struct bp_user_stream *s,
                    const struct drv_stream_opts *opts);
/* Tells the owner what there is and may be told; `s` may be gone after that. */
void drv_stream_look(struct drv_conn_port *cp, struct bp_user_stream *s);
/* The owner resets it: the owner is told, too. `s` is gone after that. */
void drv_stream_reset(struct drv_conn_port *cp, struct bp_user_stream *s, uint64_t code);
/* Whether more may be queued; if not, the owner is told when it may. */
bool drv_stream_room(struct drv_conn_port *cp, struct bp_user_stream *s);

/* --- stream_tell.c ---------------------------------------------------------- */

/* {quic_dist_stream, {quic_dist_stream, Node, Id}, Event} to the owner, with Event: */
void drv_tell_stream_data(struct drv_conn_port *cp, const struct bp_user_stream *s,
                          const struct bp_user_chunk *c); /* {data, Binary, Fin} */
void drv_tell_stream_reset(struct drv_conn_port *cp, const struct bp_user_stream *s,
                           uint64_t code); /* {reset, Code} */
void drv_tell_stream_atom(struct drv_conn_port *cp, const struct bp_user_stream *s,
                          const char *event); /* closed, passive, writable */
/* {mstream, Ref, opened, Node} */
void drv_tell_stream_opened(struct drv_conn_port *cp, const struct bp_user_stream *s);
/* {'$barrel_p2p_room', Port, Id}, to an owner that waits in send/2 */
void drv_tell_stream_room(struct drv_conn_port *cp, const struct bp_user_stream *s);
/* {'$barrel_p2p_watch', Port, Id, Owner} to the watcher */
void drv_tell_stream_watch(struct drv_conn_port *cp, const struct bp_user_stream *s,
                           ErlDrvTermData watcher);
/* {'$barrel_p2p_streams', Token, [{Id, Owner, Priority, RecvFin, SendFin}]} to `to`; false: no
 * memory. */
bool drv_tell_stream_list(struct drv_conn_port *cp, ErlDrvTermData to, uint64_t token);

#endif
