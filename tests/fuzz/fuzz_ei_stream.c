/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libei's byte stream: any bytes, cut anywhere, give the same messages; and what is read back,
 * in whatever pieces, is the stream of those messages again.
 */
#include "fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "cnode/ei_stream.h"

#define MAX_INPUT 4096u
#define MAX_FRAME 2048u

struct result {
    int rc;
    size_t taken;
    size_t len; /* of `again` */
    uint8_t again[2 * MAX_INPUT];
};

static void check(bool ok)
{
    if (!ok) {
        abort();
    }
}

/* Gives a message back to the program, `piece` bytes at a time. */
static void read_back(struct result *out, unsigned head_size, uint8_t *msg, size_t len,
                      size_t piece)
{
    struct cn_ei_reader r = {0};
    size_t got;

    check(cn_ei_reader_put(&r, head_size, msg, len,
                           len % 2 == 0 || len > CN_EI_SMALL ? msg : NULL) == 0);
    if (r.bin == NULL) {
        free(msg);
    }
    while (!cn_ei_reader_empty(&r)) {
        got = cn_ei_reader_take(
            &r, out->again + out->len,
            piece < sizeof(out->again) - out->len ? piece : sizeof(out->again) - out->len);
        check(got > 0);
        out->len += got;
    }
    check(r.bin == NULL);
}

static void run(unsigned head_size, const uint8_t *data, size_t size, size_t piece,
                struct result *out)
{
    struct cn_ei_cutter c;

    *out = (struct result){0};
    cn_ei_cutter_init(&c, head_size, MAX_FRAME);
    while (out->taken < size) {
        size_t left = size - out->taken;
        size_t used;
        uint8_t *msg;
        size_t len;
        out->rc = cn_ei_cutter_push(&c, data + out->taken, left < piece ? left : piece, &used, &msg,
                                    &len);
        out->taken += used;
        if (out->rc < 0) {
            check(out->rc == BP_E_LIMIT);
            break;
        }
        check(used > 0);
        check((out->rc == CN_EI_MESSAGE) == (msg != NULL));
        if (out->rc == CN_EI_TICK) {
            memset(out->again + out->len, 0, head_size);
            out->len += head_size;
        } else if (msg != NULL) {
            check(len > 0 && len <= MAX_FRAME);
            read_back(out, head_size, msg, len, piece);
        }
        check(out->rc == CN_EI_MORE || !cn_ei_cutter_busy(&c));
    }
    cn_ei_cutter_free(&c);
}

/* The first byte: which head, and in which pieces. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct result whole;
    static struct result pieces;
    unsigned head_size;

    if (size < 2 || size > MAX_INPUT) {
        return 0;
    }
    head_size = (data[0] & 1) != 0 ? 2 : 4;
    run(head_size, data + 1, size - 1, MAX_INPUT, &whole);
    run(head_size, data + 1, size - 1, 1u + (data[0] >> 1), &pieces);
    check((whole.rc < 0) == (pieces.rc < 0) && whole.taken == pieces.taken);
    check(whole.len == pieces.len && memcmp(whole.again, pieces.again, whole.len) == 0);
    /* What was given back is what was written, as far as it was whole. */
    check(whole.len <= whole.taken && memcmp(whole.again, data + 1, whole.len) == 0);
    return 0;
}
