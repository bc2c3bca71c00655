/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for bp_udp_send (linked with --wrap): loses about one datagram in LOSE_ONE_IN. */
#include "io/udp.h"

#include <stdatomic.h>

#define LOSE_ONE_IN 50u

unsigned __real_bp_udp_send(int fd, struct bp_udp_tx *tx, const uint8_t *buf,
                            struct bp_tx_run *runs, unsigned n);
unsigned __wrap_bp_udp_send(int fd, struct bp_udp_tx *tx, const uint8_t *buf,
                            struct bp_tx_run *runs, unsigned n);

/* splitmix64 over a counter that all threads share */
static bool lose(void)
{
    static _Atomic uint64_t counter;
    uint64_t z = (atomic_fetch_add(&counter, 1) + 1) * 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) % LOSE_ONE_IN == 0;
}

/* Sends what comes before each lost datagram, in runs of its own. A full socket is reported as the
 * real function does it; the dice are thrown again for what is left. */
unsigned __wrap_bp_udp_send(int fd, struct bp_udp_tx *tx, const uint8_t *buf,
                            struct bp_tx_run *runs, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct bp_tx_run *r = &runs[i];

        while (r->len > 0) {
            struct bp_tx_run part = *r;
            bool lost = false;

            part.len = 0;
            while (part.len < r->len && !(lost = lose())) {
                part.len += r->len - part.len < r->seg ? r->len - part.len : r->seg;
            }
            if (part.len > 0) {
                size_t want = part.len;
                unsigned done = __real_bp_udp_send(fd, tx, buf, &part, 1);
                size_t sent = done == 1 ? want : want - part.len;

                r->off += sent;
                r->len -= sent;
                if (done == 0) {
                    return i;
                }
            }
            if (lost) {
                size_t gone = r->len < r->seg ? r->len : r->seg;

                r->off += gone;
                r->len -= gone;
            }
        }
    }
    return n;
}
