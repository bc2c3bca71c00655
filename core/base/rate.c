/* SPDX-License-Identifier: Apache-2.0 */
/* Rates (token buckets). */
#include "base/rate.h"

bool bp_rate_take(struct bp_rate *r, uint64_t n, uint64_t burst, bp_time period, bp_time now)
{
    uint64_t forgotten = now > r->since ? (now - r->since) / period : 0;

    r->since += forgotten * period;
    r->n -= forgotten < r->n ? forgotten : r->n;
    if (n > burst || r->n > burst - n) {
        return false;
    }
    r->n += n;
    return true;
}

void bp_rate_give_back(struct bp_rate *r)
{
    r->n -= r->n > 0;
}
