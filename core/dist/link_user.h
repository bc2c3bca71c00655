/* SPDX-License-Identifier: Apache-2.0 */
/*
 * User streams of a link (WIRE 6): byte streams of applications beside the distribution traffic.
 *
 * The host opens streams and is told of the peer's. It polls bp_link_user_next for streams on which
 * something happened, and asks each for what there is:
 *
 *     while ((s = bp_link_user_next(l)) != NULL) {
 *         if (!s->local && s->host == NULL) { take it, park it, or refuse it; }
 *         while (wanted && bp_link_user_take(l, s, &chunk)) { ... }
 *         if (s->cut) { it ended early, with s->cut_code; bp_link_user_reset(l, s, s->cut_code); }
 *         else if (bp_link_user_done(s)) { both directions are over (one was s->stopped, maybe);
 *                                          bp_link_user_release(l, s); }
 *     }
 *
 * What the host does not take stays here, and the peer may send no more on that stream than its
 * window holds; other streams and distribution go on. A stream lives until the host has released
 * it and QUIC has closed it; until then it counts against what the peer may open.
 */
#ifndef BP_LINK_USER_H
#define BP_LINK_USER_H

#include "dist/link.h"
#include "quic/conn_user.h"

/* Application error codes of streams (RESET_STREAM, STOP_SENDING). */
#define BP_USER_REFUSED  0x100u /* nobody wants it (WIRE 2) */
#define BP_USER_LOST     0x101u /* the connection ended first; told to owners, never sent */
#define BP_USER_TOO_MUCH 0x102u /* too many bytes that nobody has read */

#define BP_USER_PARKED_MAX 64u                    /* WIRE 6.2 */
#define BP_USER_UNREAD_MAX (256u * 1024u * 1024u) /* of all streams of a link */

/* Received bytes in one binary of the host. */
struct bp_user_chunk {
    void *bin;
    const uint8_t *data;
    size_t len;
    bool fin; /* nothing comes after it */
};

struct bp_user_piece;

struct bp_user_stream {
    struct bp_user_tx tx; /* first: the connection gives it back */
    void *host;           /* the host's own */
    bool local;           /* we opened it */
    bool cut;             /* by the peer's RESET_STREAM, or for `cut_code` here */
    uint64_t cut_code;
    bool stopped; /* the peer wants no more of what we write; as important once it is all over */
    uint64_t stop_code;
    bool fin_taken; /* the host has taken the last byte */
    bool expired;   /* parked, and its time is over */
    uint64_t bytes_in;
    /* for link_user.c */
    struct bp_user_stream *bucket_next;
    struct bp_user_stream *told_next;
    struct bp_user_piece *head; /* not taken yet */
    struct bp_user_piece *tail;
    size_t unread;
    size_t hint;          /* how much memory the next piece begins with */
    bp_time parked_until; /* 0: not parked */
    bool told;            /* in the list for bp_link_user_next */
    bool fin;             /* the peer's last byte has come */
    bool closed;          /* by QUIC */
    bool released;
};

struct bp_user_stats {
    uint64_t open;     /* streams that are alive, now */
    uint64_t opened;   /* by us */
    uint64_t accepted; /* the peer's that somebody here took */
    uint64_t refused;
    uint64_t parked; /* now */
    uint64_t parked_too_many;
    uint64_t parked_too_long;
    uint64_t too_much; /* cut with BP_USER_TOO_MUCH */
    uint64_t resets_in;
    uint64_t unread_bytes; /* now */
    uint64_t bytes_in;
    uint64_t bytes_out;
};

/*
 * Whether streams of the peer are shown to the host; else, and as long as this was not called, all
 * are refused at once. They may come before distribution is up; the host sees them from
 * bp_link_deliver on.
 */
void bp_link_user_accept(struct bp_link *l, bool accept);

/* A new stream; nothing is on the wire until something is put on it. Errors: BP_E_STATE (the link
 * is not up), BP_E_AGAIN (the peer allows no more now), BP_E_NOMEM. */
int bp_link_user_open(struct bp_link *l, uint8_t priority,
                      struct bp_user_stream **out) BP_MUST_CHECK;
/* A stream that was not released; NULL: none. */
struct bp_user_stream *bp_link_user_find(const struct bp_link *l, int64_t id);
/* Calls `fn` for each stream that was not released; `fn` may release that stream. */
void bp_link_user_each(struct bp_link *l,
                       void (*fn)(void *ctx, struct bp_link *l, struct bp_user_stream *s),
                       void *ctx);

/* Queues bytes; takes every owner, also on failure. Errors: BP_E_STATE (the stream is finished, cut
 * or stopped by the peer), BP_E_NOMEM (the stream was cut, since part of it may be queued). */
int bp_link_user_put(struct bp_link *l, struct bp_user_stream *s, struct bp_slice *slices,
                     size_t n) BP_MUST_CHECK;
int bp_link_user_fin(struct bp_link *l, struct bp_user_stream *s) BP_MUST_CHECK;
/* Bytes put that QUIC has not taken yet. */
uint64_t bp_link_user_queued(const struct bp_user_stream *s);
void bp_link_user_set_priority(struct bp_link *l, struct bp_user_stream *s, uint8_t priority);
/* Ends both directions, and releases the stream. */
void bp_link_user_reset(struct bp_link *l, struct bp_user_stream *s, uint64_t code);
/* Its owner is gone: what it had finished still goes out, all else ends with code 0. */
void bp_link_user_orphan(struct bp_link *l, struct bp_user_stream *s);
/* Resets a stream of the peer that nobody here wants; too many of them end the link. */
void bp_link_user_refuse(struct bp_link *l, struct bp_user_stream *s);
/* Somebody wants it; `host` becomes s->host. */
void bp_link_user_welcome(struct bp_link *l, struct bp_user_stream *s, void *host);

/* The next stream on which something happened since it was last given; NULL: none. */
struct bp_user_stream *bp_link_user_next(struct bp_link *l);
/* Bytes, in order; `*out` belongs to the caller (bp_rx_mem, bin may be NULL for 0 bytes). They were
 * consumed then: the peer may send as many more. False: there are none. */
bool bp_link_user_take(struct bp_link *l, struct bp_user_stream *s, struct bp_user_chunk *out);
/* Copies up to `cap` bytes from the front, leaving them there; returns their number. */
size_t bp_link_user_peek(const struct bp_user_stream *s, uint8_t *buf, size_t cap);
/* Drops `n` bytes from the front; as if they had been taken. */
void bp_link_user_skip(struct bp_link *l, struct bp_user_stream *s, size_t n);
/* The peer has finished, and all of it has come. */
bool bp_link_user_finished(const struct bp_user_stream *s);
/* Everything of both directions has arrived, and the host has taken all. */
bool bp_link_user_done(const struct bp_user_stream *s);
/* The host needs it no more: `s` must not be used after that. */
void bp_link_user_release(struct bp_link *l, struct bp_user_stream *s);

/*
 * A stream of the peer waits for its next bytes, until `until`: then it is shown again, `expired`.
 * False: BP_USER_PARKED_MAX wait already. Parked again it keeps its time.
 */
bool bp_link_user_park(struct bp_link *l, struct bp_user_stream *s, bp_time until);

/* Streams that are alive: opened, or begun by the peer, and not over on both sides. */
unsigned bp_link_user_streams(const struct bp_link *l);
/* Bytes queued on all of them that QUIC has not taken yet. */
uint64_t bp_link_user_unsent(const struct bp_link *l);
void bp_link_user_stats(const struct bp_link *l, struct bp_user_stats *out);

#endif
