/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connection id -> connection: which of a node's connections a datagram belongs to. A hash table
 * with a secret seed, so that a peer that chooses ids cannot fill one bucket. Several entries may
 * have the same id; a node also keeps other short keys in one of these (an address, say).
 */
#ifndef BP_CID_MAP_H
#define BP_CID_MAP_H

#include "quic/conn.h"

struct bp_cid_entry {
    struct bp_cid_entry *next;
    struct bp_cid cid;
    void *value;
};

/* All zero but `mem` and `seed` (random): empty. */
struct bp_cid_map {
    const struct bp_mem *mem;
    struct bp_cid_entry **buckets;
    size_t n_buckets; /* power of two */
    size_t n;
    uint64_t seed;
};

void bp_cid_map_init(struct bp_cid_map *m, const struct bp_mem *mem, uint64_t seed);
/* Also empty afterwards; the values are the caller's. */
void bp_cid_map_free(struct bp_cid_map *m);

/* False: no memory, or an empty id. */
bool bp_cid_map_add(struct bp_cid_map *m, const struct bp_cid *cid, void *value);
/* The entry with both, if there is one. */
void bp_cid_map_remove(struct bp_cid_map *m, const struct bp_cid *cid, const void *value);
/* The value of the newest entry with this id, or NULL. */
void *bp_cid_map_find(const struct bp_cid_map *m, const struct bp_cid *cid);
/* The next value with this id after `prev` (NULL: the first); NULL: no more. `prev` must still be
 * there. */
void *bp_cid_map_next(const struct bp_cid_map *m, const struct bp_cid *cid, const void *prev);

/* The destination id of a datagram (RFC 9000, 17.2 and 17.3); len 0 if it has none that could be
 * ours. */
void bp_cid_of_datagram(const uint8_t *p, size_t len, struct bp_cid *out);

#endif
