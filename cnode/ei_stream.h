/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libei speaks over a byte stream: messages with their length before them, of two bytes during the
 * distribution handshake, of four afterwards, where 0 is a tick. This cuts what it writes, in
 * whatever pieces, into messages, and gives messages to it as bytes. No I/O.
 */
#ifndef BP_CN_EI_STREAM_H
#define BP_CN_EI_STREAM_H

#include "base/types.h"

#define CN_EI_SMALL 1024u /* messages that a reader copies */

enum cn_ei_got { CN_EI_MORE, CN_EI_TICK, CN_EI_MESSAGE };

/* What the program writes. */
struct cn_ei_cutter {
    unsigned head_size; /* 2 or 4 */
    uint32_t max;       /* of one message */
    uint8_t head[4];
    unsigned head_len;
    uint32_t need;
    uint32_t have;
    uint8_t *body; /* NULL: the length is not known yet */
};

/* Begins, also again in the other mode; nothing may be under way then. */
void cn_ei_cutter_init(struct cn_ei_cutter *c, unsigned head_size, uint32_t max);
void cn_ei_cutter_free(struct cn_ei_cutter *c);
/* Whether it is inside of a message. */
bool cn_ei_cutter_busy(const struct cn_ei_cutter *c);

/*
 * Takes bytes up to the end of one message; `*used` is how many. MESSAGE: `*msg` (malloc, the
 * caller's) has `*msg_len` bytes, at least one. Errors: BP_E_LIMIT (longer than `max`), BP_E_NOMEM;
 * then the stream cannot go on.
 */
int cn_ei_cutter_push(struct cn_ei_cutter *c, const uint8_t *p, size_t len, size_t *used,
                      uint8_t **msg, size_t *msg_len) BP_MUST_CHECK;

/* What the program reads: one message at a time. All zero: empty. */
struct cn_ei_reader {
    uint8_t head[4];
    unsigned head_size;
    size_t at; /* given so far, head included */
    const uint8_t *body;
    size_t len;
    void *bin; /* malloc */
    uint8_t small[CN_EI_SMALL];
};

bool cn_ei_reader_empty(const struct cn_ei_reader *r);
/*
 * Puts a message into an empty reader. `bin` (malloc) holds `body` and is taken; without it the
 * bytes are copied: BP_E_LIMIT if they are more than CN_EI_SMALL, or more than the head can say.
 */
int cn_ei_reader_put(struct cn_ei_reader *r, unsigned head_size, const uint8_t *body, size_t len,
                     void *bin) BP_MUST_CHECK;
/* Gives at most `cap` bytes; returns how many. */
size_t cn_ei_reader_take(struct cn_ei_reader *r, uint8_t *out, size_t cap);
void cn_ei_reader_free(struct cn_ei_reader *r);

#endif
