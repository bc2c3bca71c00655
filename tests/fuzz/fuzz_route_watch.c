/* SPDX-License-Identifier: Apache-2.0 */
/* Reports of the kernel (io/route_watch.h), whole and cut off. */
#include "fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "io/route_watch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (size_t len = 0; len <= size && len <= 256; len++) {
        uint8_t *copy = malloc(len + 1); /* so that reading behind it is seen */
        if (copy == NULL) {
            return 0;
        }
        memcpy(copy, data, len);
        (void)bp_route_watch_relevant(copy, len);
        free(copy);
    }
    return 0;
}
