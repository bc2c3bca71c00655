/* SPDX-License-Identifier: Apache-2.0 */
/* DNS answers with SRV records: any bytes; what is accepted is usable and in order. */
#include "fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "discovery/dns.h"

static void check(int ok)
{
    if (!ok) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct bp_srv_answer a;
    char name[BP_DNS_NAME_MAX + 1];
    int rc = bp_dns_parse_srv(data, size, &a);

    check(rc == 0 || rc == BP_E_NOT_FOUND || rc == BP_E_PROTOCOL);
    check((rc == 0) == (a.n > 0) && a.n <= BP_SRV_MAX);
    for (size_t i = 0; i < a.n; i++) {
        size_t len = strnlen(a.at[i].target, sizeof(a.at[i].target));

        check(len > 0 && len <= BP_DNS_NAME_MAX && a.at[i].port != 0);
        check(i == 0 || a.at[i - 1].priority <= a.at[i].priority);
        check(bp_dns_srv_is_node(&a.at[i], "n", a.at[i].target, "example"));
        rc = bp_dns_service_name(a.at[i].target, "example", name);
        check(rc == 0 || rc == BP_E_LIMIT);
    }
    return 0;
}
