/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The distribution handshake of C nodes: any messages, as Len:16 and bytes, to both roles. The
 * cookie is never proved by chance, and nothing is said after the end.
 */
#include "fuzz/fuzz.h"

#include <stdlib.h>

#include "base/err.h"
#include "dist/shake.h"

static void check(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void drain(struct bp_shake *s)
{
    const uint8_t *msg;
    size_t len;
    unsigned n = 0;

    while (bp_shake_poll(s, &msg, &len)) {
        check(len > 0 && len <= BP_SHAKE_OUT_MAX && n++ < BP_SHAKE_OUTS);
    }
}

static void run(bool server, enum bp_shake_status status, const uint8_t *data, size_t size)
{
    struct bp_shake s;

    check(bp_shake_init(&s, server, "a@127.0.0.1", "secret", 4) == 0);
    drain(&s);
    while (size >= 2) {
        size_t len = (size_t)data[0] << 8 | data[1];
        int rc;
        data += 2;
        size -= 2;
        len = len < size ? len : size;
        if (len == 0) {
            continue; /* the splitter gives no empty ones */
        }
        rc = bp_shake_recv(&s, data, len);
        check(rc == 0 || (rc < 0 && s.state == BP_SHAKE_FAILED && s.why != NULL));
        if (s.state == BP_SHAKE_ASKED) {
            rc = bp_shake_status(&s, status);
            check(rc == 0 || status == BP_SHAKE_NOK);
        }
        drain(&s);
        check(s.state != BP_SHAKE_DONE);
        data += len;
        size -= len;
    }
}

/* The first byte: role, and what an acceptor answers. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0) {
        run((data[0] & 1) != 0, (enum bp_shake_status)((data[0] >> 1) & 3), data + 1, size - 1);
    }
    return 0;
}
