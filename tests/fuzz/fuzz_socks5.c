/* SPDX-License-Identifier: Apache-2.0 */
/* What a SOCKS 5 proxy may answer: the first byte says with or without a user and how it is cut;
 * the same bytes as a datagram. */
#include "fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "relay/socks5.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bp_socks5 s;
    size_t piece;

    if (size < 1) {
        return 0;
    }
    if (bp_socks5_strip(data + 1, size - 1) > size - 1) {
        abort();
    }
    piece = (size_t)(data[0] >> 1) + 1;
    if (bp_socks5_init(&s, (data[0] & 1) != 0 ? "user" : NULL, "password") != 0) {
        abort();
    }
    for (size_t off = 1; off < size; off += piece) {
        size_t n = size - off < piece ? size - off : piece;
        size_t out;
        int rc = bp_socks5_in(&s, data + off, n);

        if ((rc != 0) != (s.state == BP_SOCKS5_FAILED)) {
            abort();
        }
        (void)bp_socks5_out(&s, &out);
        if (out > sizeof(s.out)) {
            abort();
        }
        bp_socks5_sent(&s, out);
    }
    bp_socks5_free(&s);
    return 0;
}
