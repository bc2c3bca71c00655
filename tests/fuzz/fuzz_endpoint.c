/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoint files: any text; what is accepted survives being written and read again. */
#include "fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "discovery/endpoint.h"

static void check(int ok)
{
    if (!ok) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bp_endpoint ep;
    struct bp_endpoint again;
    char buf[320];
    int rc = bp_endpoint_parse((const char *)data, size, &ep);

    check(rc == 0 || rc == BP_E_FILE);
    if (rc == 0) {
        int len = bp_endpoint_format(&ep, buf, sizeof(buf));
        check(len > 0);
        check(bp_endpoint_parse(buf, (size_t)len, &again) == 0);
        check(strcmp(ep.host, again.host) == 0 && ep.port == again.port);
    } else {
        check(ep.host[0] == '\0' && ep.port == 0);
    }
    return 0;
}
