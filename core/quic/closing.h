/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last words of connections that we have closed (RFC 9000, 10.2.1): a peer whose
 * CONNECTION_CLOSE was lost speaks to us again, and is told again. A stateless reset would not do:
 * who accepted a connection has no reset token of the id that the dialler began with.
 */
#ifndef BP_CLOSING_H
#define BP_CLOSING_H

#include "quic/conn.h"

#define BP_CLOSING_MAX      256u          /* connections; the oldest gives way */
#define BP_CLOSING_CIDS     24u           /* of one connection */
#define BP_CLOSING_DATAGRAM 128u          /* longer ones are not kept */
#define BP_CLOSING_KEEP     (60 * BP_SEC) /* net_ticktime: by then the peer knows anyway */
#define BP_CLOSING_GAP      (20 * BP_MS)  /* between two answers of one connection */
#define BP_CLOSING_FILTER   4096u         /* power of two */

struct bp_closing_entry {
    uint64_t cids[BP_CLOSING_CIDS];
    uint8_t n_cids; /* 0: free */
    uint8_t len;
    uint8_t datagram[BP_CLOSING_DATAGRAM];
    bp_time until;
    bp_time next; /* not answered before */
};

/* All zero: empty. */
struct bp_closing {
    struct bp_closing_entry entries[BP_CLOSING_MAX];
    uint32_t next;
    uint16_t filter[BP_CLOSING_FILTER]; /* ids that are kept, by their low bits */
    uint64_t answers;                   /* counter */
};

/* Keeps the datagram that closed the connection with these ids; copies all. Ids that are not of
 * our own length are left out. */
void bp_closing_add(struct bp_closing *t, const struct bp_cid *cids, unsigned n, const uint8_t *p,
                    size_t len, bp_time now);

/*
 * A datagram of `len` bytes came to an id that no connection owns: writes what to send back and
 * returns its length; 0: nothing (not one of ours, too late, too soon, or more than three times
 * what came, since the address may be forged).
 */
size_t bp_closing_answer(struct bp_closing *t, const struct bp_cid *cid, size_t len, uint8_t *out,
                         size_t cap, bp_time now);

#endif
