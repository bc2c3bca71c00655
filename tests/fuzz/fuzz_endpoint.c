/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoint files: any text; what is accepted survives being written in both formats and read again.
 */
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

static void same(const struct bp_endpoint *a, const struct bp_endpoint *b)
{
    check(strcmp(a->host, b->host) == 0 && a->port == b->port);
}

static void round_trip(const struct bp_endpoints *eps, enum bp_endpoint_format format, size_t n)
{
    struct bp_endpoints again;
    char buf[BP_ENDPOINT_TEXT_MAX];
    int len = bp_endpoints_format(eps, format, buf, sizeof(buf));

    check(len > 0 && (size_t)len == strlen(buf));
    check(bp_endpoints_parse(buf, (size_t)len, &again) == 0);
    check(again.n == n);
    for (size_t i = 0; i < n; i++) {
        same(&eps->at[i], &again.at[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bp_endpoints eps;
    int rc = bp_endpoints_parse((const char *)data, size, &eps);

    check(rc == 0 || rc == BP_E_FILE);
    if (rc == 0) {
        check(eps.n >= 1 && eps.n <= BP_ENDPOINTS_MAX);
        round_trip(&eps, BP_ENDPOINT_JSON, eps.n);
        round_trip(&eps, BP_ENDPOINT_TERM, 1);
    } else {
        check(eps.n == 0 && eps.at[0].host[0] == '\0' && eps.at[0].port == 0);
    }
    return 0;
}
