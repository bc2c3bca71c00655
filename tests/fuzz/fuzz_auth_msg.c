/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Splitter and decoder of the authentication messages. Input: a byte that chooses the chunks, then
 * the stream. Chunking must not change what comes out, and a message that decodes must encode to
 * the same bytes.
 */
#include "fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "auth/auth_msg.h"
#include "base/rw.h"

struct result {
    size_t frames;
    size_t bytes; /* of messages, in all */
    int err;
};

static void check(bool ok)
{
    if (!ok) {
        abort();
    }
}

static int on_frame(const uint8_t *p, size_t len)
{
    uint8_t out[BP_AUTH_FRAME_HEAD + BP_AUTH_MSG_MAX];
    struct bp_auth_msg msg;
    struct bp_writer w;
    int rc;

    check(len > 0 && len <= BP_AUTH_MSG_MAX);
    rc = bp_auth_msg_decode(&msg, p, len);
    if (rc != 0) {
        check(rc < 0);
        return rc;
    }
    bp_writer_init(&w, out, sizeof(out));
    bp_auth_msg_encode(&w, &msg);
    check(!w.bad && w.len == len + BP_AUTH_FRAME_HEAD);
    check(memcmp(out + BP_AUTH_FRAME_HEAD, p, len) == 0);
    return 0;
}

static struct result run(const uint8_t *p, size_t len, size_t chunk)
{
    static struct bp_auth_split s;
    struct result r = {0, 0, 0};

    memset(&s, 0, sizeof(s));
    while (len != 0 && r.err == 0) {
        size_t n = bp_auth_split_push(&s, p, len < chunk ? len : chunk);

        check(n > 0);
        p += n;
        len -= n;
        for (;;) {
            const uint8_t *msg = NULL;
            size_t msg_len = 0;

            r.err = bp_auth_split_next(&s, &msg, &msg_len);
            if (r.err != 0 || msg == NULL) {
                break;
            }
            r.frames++;
            r.bytes += msg_len;
            r.err = on_frame(msg, msg_len);
            if (r.err != 0) {
                break;
            }
        }
    }
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct result whole;
    struct result chunked;

    if (size == 0) {
        return 0;
    }
    whole = run(data + 1, size - 1, SIZE_MAX);
    chunked = run(data + 1, size - 1, (size_t)data[0] + 1);
    check(whole.err == chunked.err && whole.frames == chunked.frames &&
          whole.bytes == chunked.bytes);
    return 0;
}
