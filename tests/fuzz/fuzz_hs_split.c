/* SPDX-License-Identifier: Apache-2.0 */
/* Handshake splitter: any bytes; how they are cut must not change what comes out. */
#include "fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "dist/hs_split.h"

#define MAX_INPUT 900u /* below BP_HS_CAP, so that one push always fits */

struct result {
    int rc;
    size_t n_msgs;
    size_t lens[MAX_INPUT];
    size_t rest;
};

static void check(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void run(enum bp_hs_role role, const uint8_t *data, size_t size, size_t piece,
                struct result *out)
{
    struct bp_hs_split s;
    const uint8_t *p;
    size_t len;

    memset(out, 0, sizeof(*out));
    bp_hs_init(&s, role);
    for (size_t i = 0; i < size && out->rc >= 0; i += piece) {
        out->rc = bp_hs_push(&s, data + i, size - i < piece ? size - i : piece);
        check(out->rc == 0);
        while ((out->rc = bp_hs_next(&s, &p, &len)) > 0) {
            const char *name;
            size_t name_len;
            uint64_t flags;
            check(len > 0 && p >= s.buf && p + len <= s.buf + BP_HS_CAP);
            out->lens[out->n_msgs++] = len;
            if (bp_hs_name(p, len, role == BP_HS_CLIENT, &name, &name_len, &flags) == 0) {
                check(name_len > 0 && name_len <= BP_NODE_NAME_MAX);
            }
        }
    }
    bp_hs_take_rest(&s, &p, &out->rest);
    check(out->rest == 0 || bp_hs_done(&s));
}

/* The first byte's lowest bit is the role. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct result whole;
    struct result pieces;
    enum bp_hs_role role;

    if (size == 0 || size > MAX_INPUT) {
        return 0;
    }
    role = (data[0] & 1) != 0 ? BP_HS_SERVER : BP_HS_CLIENT;
    run(role, data + 1, size - 1, MAX_INPUT, &whole);
    run(role, data + 1, size - 1, 1, &pieces);
    check(whole.rc == pieces.rc);
    check(whole.n_msgs == pieces.n_msgs && whole.rest == pieces.rest);
    check(memcmp(whole.lens, pieces.lens, sizeof(whole.lens)) == 0);
    return 0;
}
