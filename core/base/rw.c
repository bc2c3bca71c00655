/* SPDX-License-Identifier: Apache-2.0 */
/* Bounded big-endian reader and writer. */
#include "base/rw.h"

#include <string.h>

void bp_reader_init(struct bp_reader *r, const void *data, size_t len)
{
    r->p = data;
    r->end = len != 0 ? r->p + len : r->p;
    r->bad = false;
}

size_t bp_reader_left(const struct bp_reader *r)
{
    return r->bad ? 0 : (size_t)(r->end - r->p);
}

const uint8_t *bp_read_bytes(struct bp_reader *r, size_t len)
{
    const uint8_t *p = r->p;

    if (bp_reader_left(r) < len) {
        r->bad = true;
        return NULL;
    }
    if (len != 0) {
        r->p += len;
    }
    return p;
}

static uint64_t read_be(struct bp_reader *r, size_t len)
{
    const uint8_t *p = bp_read_bytes(r, len);
    uint64_t v = 0;

    if (p == NULL) {
        return 0;
    }
    for (size_t i = 0; i < len; i++) {
        v = (v << 8) | p[i];
    }
    return v;
}

uint8_t bp_read_u8(struct bp_reader *r)
{
    return (uint8_t)read_be(r, 1);
}

uint16_t bp_read_u16(struct bp_reader *r)
{
    return (uint16_t)read_be(r, 2);
}

uint32_t bp_read_u32(struct bp_reader *r)
{
    return (uint32_t)read_be(r, 4);
}

uint64_t bp_read_u64(struct bp_reader *r)
{
    return read_be(r, 8);
}

void bp_read_copy(struct bp_reader *r, void *out, size_t len)
{
    const uint8_t *p = bp_read_bytes(r, len);

    if (p == NULL) {
        memset(out, 0, len);
    } else {
        memcpy(out, p, len);
    }
}

void bp_writer_init(struct bp_writer *w, void *buf, size_t cap)
{
    w->base = buf;
    w->len = 0;
    w->cap = cap;
    w->bad = false;
}

void bp_write_bytes(struct bp_writer *w, const void *p, size_t len)
{
    if (w->bad || w->cap - w->len < len) {
        w->bad = true;
        return;
    }
    if (len != 0) {
        memcpy(w->base + w->len, p, len);
        w->len += len;
    }
}

static void write_be(struct bp_writer *w, uint64_t v, size_t len)
{
    uint8_t b[8];

    for (size_t i = 0; i < len; i++) {
        b[len - 1 - i] = (uint8_t)(v >> (8 * i));
    }
    bp_write_bytes(w, b, len);
}

void bp_write_u8(struct bp_writer *w, uint8_t v)
{
    write_be(w, v, 1);
}

void bp_write_u16(struct bp_writer *w, uint16_t v)
{
    write_be(w, v, 2);
}

void bp_write_u32(struct bp_writer *w, uint32_t v)
{
    write_be(w, v, 4);
}

void bp_write_u64(struct bp_writer *w, uint64_t v)
{
    write_be(w, v, 8);
}
