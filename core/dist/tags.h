/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tags of user streams (WIRE 6.2): whoever opens a tagged stream writes `TagLen:8, Tag` first, and
 * the node at the other end gives the stream to whoever has registered that tag.
 *
 * A stream is judged by as few bytes as possible: it waits only while what has come is the
 * beginning of a preamble that somebody has registered.
 */
#ifndef BP_TAGS_H
#define BP_TAGS_H

#include "base/types.h"

#define BP_TAG_LEN_MAX      255u
#define BP_TAG_PREAMBLE_MAX (1u + BP_TAG_LEN_MAX)
#define BP_TAGS_MAX         4096u /* registered at once */

struct bp_tag {
    uint64_t owner; /* the host's, e.g. a process */
    uint8_t len;
    uint8_t tag[BP_TAG_LEN_MAX];
};

struct bp_tags {
    const struct bp_mem *mem;
    struct bp_tag **v;
    size_t n;
    size_t cap;
};

enum bp_tag_match { BP_TAG_NONE, BP_TAG_MORE, BP_TAG_FOUND };

void bp_tags_init(struct bp_tags *t, const struct bp_mem *mem);
void bp_tags_free(struct bp_tags *t);

/* Errors: BP_E_INVALID (empty or too long), BP_E_EXISTS (also if `owner` has it), BP_E_LIMIT,
 * BP_E_NOMEM. */
int bp_tags_add(struct bp_tags *t, const uint8_t *tag, size_t len, uint64_t owner) BP_MUST_CHECK;
/* Errors: BP_E_NOT_FOUND. */
int bp_tags_remove(struct bp_tags *t, const uint8_t *tag, size_t len);
/* All tags of an owner; returns their number. */
size_t bp_tags_remove_owner(struct bp_tags *t, uint64_t owner);
bool bp_tags_has_owner(const struct bp_tags *t, uint64_t owner);

/* What the first `len` bytes of a stream say. FOUND: `*out` is the tag, borrowed until the next
 * change, and its preamble has out->len + 1 bytes. */
enum bp_tag_match bp_tags_match(const struct bp_tags *t, const uint8_t *p, size_t len,
                                const struct bp_tag **out);

#endif
