/* SPDX-License-Identifier: Apache-2.0 */
/* Router: any head, and every shorter one; then the order on what it says. */
#include "fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "dist/order.h"
#include "dist/route.h"

static void check(bool ok)
{
    if (!ok) {
        abort();
    }
}

/* A cut off head never has another key than the whole one. */
static void check_prefixes(const uint8_t *data, size_t size)
{
    struct bp_route whole;
    int rc = bp_route_peek(data, size, &whole);

    check(rc == 0 || rc == BP_E_INVALID);
    for (size_t n = 0; n < size && n < 128; n++) {
        uint8_t *exact = malloc(n + 1); /* a read behind the head is a read behind the block */
        struct bp_route r;
        check(exact != NULL);
        memcpy(exact + 1, data, n);
        if (bp_route_peek(exact + 1, n, &r) == 0 && r.kind == BP_ROUTE_KEY) {
            check(whole.kind == BP_ROUTE_KEY && r.hash == whole.hash && r.op == whole.op);
        }
        free(exact);
    }
}

/* The input as messages of Len:8, each admitted in turn, acknowledged when something waits. */
static void check_order(const uint8_t *data, size_t size)
{
    struct bp_order o;
    uint64_t end = 0;

    bp_order_init(&o, 4, bp_mem_libc());
    while (size > 0) {
        size_t len = data[0] < size ? data[0] : size - 1;
        struct bp_route r;
        if (bp_route_peek(data + 1, len, &r) == 0) {
            unsigned s = 0;
            int rc = bp_order_admit(&o, &r, &s);
            if (rc == 0) {
                for (unsigned i = 0; i < 4; i++) {
                    bp_order_acked(&o, i, end);
                }
                rc = bp_order_admit(&o, &r, &s);
                check(rc != 0); /* nothing waits once all is acknowledged */
            }
            if (rc == 1) {
                check(s < 4);
                end += len + 4;
                bp_order_wrote(&o, end);
            }
        }
        data += len + 1;
        size -= len + 1;
    }
    bp_order_free(&o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_prefixes(data, size);
    check_order(data, size);
    return 0;
}
