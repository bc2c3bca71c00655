/* SPDX-License-Identifier: Apache-2.0 */
/* How often something may happen: a number of times at once, then once in a period. */
#ifndef BP_RATE_H
#define BP_RATE_H

#include "base/types.h"

/* All zero is its initial state. */
struct bp_rate {
    bp_time since;
    uint64_t n; /* what happened and is not forgotten yet */
};

/* `n` more times: true and counted as long as at most `burst` are not forgotten, one of which is
 * forgotten each `period` (ns, not 0). What is refused is not counted. */
bool bp_rate_take(struct bp_rate *r, uint64_t n, uint64_t burst, bp_time period, bp_time now);
/* As if one of them had not happened. */
void bp_rate_give_back(struct bp_rate *r);

#endif
