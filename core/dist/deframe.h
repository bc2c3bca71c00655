/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data streams to frames: `Length:32, Payload:Length`, Length 0 is a tick (WIRE 5). One deframer
 * per stream, one queue per connection.
 *
 * Small frames that lie whole in one chunk of stream data are copied to the queue's arena; all
 * others are assembled in a binary of the host that is handed on without another copy.
 *
 * Typical use, for each batch of packets:
 *     bp_deframer_push(&d[i], p, len, &q);                        (as stream data comes in)
 *     while (bp_frame_queue_pop(&q, &f)) { deliver f; }
 *     bp_frame_queue_reset(&q);
 */
#ifndef BP_DEFRAME_H
#define BP_DEFRAME_H

#include "base/types.h"
#include "dist/unfinished.h"

#define BP_FRAME_HEAD        4u      /* Length:32 */
#define BP_FRAME_SMALL       1024u   /* largest frame that goes to the arena */
#define BP_FRAME_FIRST_ALLOC 131072u /* largest memory that a length field alone can claim */
#define BP_FRAME_COST        sizeof(struct bp_frame) /* charged per queued frame besides its bytes */
#define BP_FRAME_ARENA_CHUNK 16384u
#define BP_FRAME_ARENA_KEEP  2u /* empty chunks that a queue keeps for the next batch */

/* First bytes of a payload (WIRE 5, OTP's distribution protocol). */
#define BP_DIST_PASS_THROUGH 112u
#define BP_DIST_VERSION      131u
#define BP_DIST_HEADER       68u /* 131, 68, NumRefs:8 */
#define BP_DIST_FRAG_HEADER  69u /* 131, 69, SeqId:64, FragId:64, NumRefs:8 */
#define BP_DIST_FRAG_CONT    70u /* 131, 70, SeqId:64, FragId:64 */

/*
 * The host's reference-counted binaries. `alloc` returns a handle and sets `*data` to its bytes;
 * `grow` keeps the bytes, may move them and returns the handle to use from then on, or NULL with
 * the old one untouched; `release` drops the reference. None of them may call back.
 */
struct bp_rx_mem {
    void *ctx;
    void *(*alloc)(void *ctx, size_t cap, uint8_t **data);
    void *(*grow)(void *ctx, void *bin, size_t cap, uint8_t **data);
    void (*release)(void *ctx, void *bin);
};

/* For hosts without: a handle is its bytes, of the C library's allocator. */
struct bp_rx_mem bp_rx_mem_libc(void);

/*
 * One payload. `bin` NULL: `data` lies in the arena, valid until bp_frame_queue_reset. Else `bin`
 * holds the bytes and belongs to whoever popped the frame.
 */
struct bp_frame {
    const uint8_t *data;
    size_t len;
    void *bin;
};

struct bp_frame_chunk;

/* FIFO of complete frames, and the account of all bytes that a connection's deframers hold. */
struct bp_frame_queue {
    const struct bp_mem *mem;
    const struct bp_rx_mem *rx;
    struct bp_frame *ring; /* `cap` is 0 or a power of two */
    size_t cap;
    size_t head;
    size_t n;
    size_t max_bytes;
    size_t bytes; /* queued frames with BP_FRAME_COST each, and what partial frames hold so far */
    uint64_t total_frames;
    uint64_t total_bytes;
    uint64_t ticks;
    struct bp_unfinished unfinished;
    struct bp_frame_chunk *first; /* arena, oldest first */
    struct bp_frame_chunk *pop;   /* where the next arena frame is popped from */
    struct bp_frame_chunk *last;  /* where frames are added */
    struct bp_frame_chunk *spare;
    unsigned n_spare;
};

/* `mem` and `rx` are borrowed for the queue's life. `max_bytes` limits `bytes`; SIZE_MAX: never. */
void bp_frame_queue_init(struct bp_frame_queue *q, const struct bp_mem *mem,
                         const struct bp_rx_mem *rx, size_t max_bytes);

/* Releases everything, frames that nobody popped included. */
void bp_frame_queue_free(struct bp_frame_queue *q);

/* A limit from now on; bytes that are there already stay. */
void bp_frame_queue_set_limit(struct bp_frame_queue *q, size_t max_bytes);

/* At most so many bytes of frames and fragmented messages that are not whole; else
 * BP_E_UNFINISHED. */
void bp_frame_queue_set_unfinished(struct bp_frame_queue *q, uint64_t max_bytes);

/* The oldest frame, or false. The receiver owns `out->bin`. */
bool bp_frame_queue_pop(struct bp_frame_queue *q, struct bp_frame *out);

/*
 * Says that the caller has finished with all arena frames that it popped: their memory is used
 * again. Frames still queued stay.
 */
void bp_frame_queue_reset(struct bp_frame_queue *q);

/* Gives back all memory that is not in use; for a connection that has become idle. */
void bp_frame_queue_trim(struct bp_frame_queue *q);

/* The frame boundary state of one stream. */
struct bp_deframer {
    const struct bp_rx_mem *rx;
    uint32_t max_frame_bytes;
    int error; /* sticky */
    uint8_t head[BP_FRAME_HEAD];
    uint8_t head_len; /* bytes of a partial length field */
    bool checked;     /* the partial frame's first bytes were looked at */
    uint32_t need;    /* length of the partial frame, 0: none */
    uint32_t have;    /* bytes of it that are in `data` */
    size_t cap;
    uint8_t *data;
    void *bin; /* NULL until bytes of the frame arrive */
};

/* `rx` is borrowed for the deframer's life, and the same as the queue's. */
void bp_deframer_init(struct bp_deframer *d, const struct bp_rx_mem *rx, uint32_t max_frame_bytes);

/* Releases a partial frame and takes it off the account of `q` (NULL: the queue is gone). */
void bp_deframer_free(struct bp_deframer *d, struct bp_frame_queue *q);

/*
 * Takes the next bytes of the stream and queues each frame that they complete. All errors stay:
 *   BP_E_FRAME_TOO_LARGE   a length above max_frame_bytes
 *   BP_E_FRAME_MALFORMED   a payload that no VM sends, or one that uses the atom cache
 *   BP_E_EARLY_DATA_LIMIT  the queue's max_bytes is reached
 *   BP_E_UNFINISHED        bp_frame_queue_set_unfinished
 *   BP_E_NOMEM
 * Frames that were complete before the error are queued. Memory of a frame is at most
 * BP_FRAME_FIRST_ALLOC or twice the bytes that arrived, whichever is more.
 */
int bp_deframer_push(struct bp_deframer *d, const uint8_t *p, size_t len,
                     struct bp_frame_queue *q) BP_MUST_CHECK;

#endif
