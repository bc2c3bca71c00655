/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bounded big-endian reader and writer. Both remember the first overrun in `bad` and turn every
 * later call into a no-op, so that a parser can read a whole message and test once.
 */
#ifndef BP_RW_H
#define BP_RW_H

#include "base/types.h"

struct bp_reader {
    const uint8_t *p;
    const uint8_t *end;
    bool bad;
};

void bp_reader_init(struct bp_reader *r, const void *data, size_t len);
size_t bp_reader_left(const struct bp_reader *r);
uint8_t bp_read_u8(struct bp_reader *r);
uint16_t bp_read_u16(struct bp_reader *r);
uint32_t bp_read_u32(struct bp_reader *r);
uint64_t bp_read_u64(struct bp_reader *r);
/* `len` bytes in place (borrowed from the input), or NULL with `bad` set. */
const uint8_t *bp_read_bytes(struct bp_reader *r, size_t len);
/* Copies `len` bytes out; zeroes `out` and sets `bad` where they are not there. */
void bp_read_copy(struct bp_reader *r, void *out, size_t len);

struct bp_writer {
    uint8_t *base;
    size_t len;
    size_t cap;
    bool bad;
};

void bp_writer_init(struct bp_writer *w, void *buf, size_t cap);
void bp_write_u8(struct bp_writer *w, uint8_t v);
void bp_write_u16(struct bp_writer *w, uint16_t v);
void bp_write_u32(struct bp_writer *w, uint32_t v);
void bp_write_u64(struct bp_writer *w, uint64_t v);
void bp_write_bytes(struct bp_writer *w, const void *p, size_t len);

#endif
