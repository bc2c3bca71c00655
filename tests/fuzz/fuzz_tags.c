/* SPDX-License-Identifier: Apache-2.0 */
/*
 * First bytes of user streams against registered tags: any tags of a few owners, any bytes. What
 * was judged does not change when more bytes come, a tag is found exactly when its preamble is
 * there, and who gives up its tags takes nobody else's.
 */
#include "fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "dist/tags.h"

#define TAGS   16u
#define OWNERS 8u

struct model {
    struct bp_tags t;
    const uint8_t *preamble[TAGS]; /* in the input: a length byte and as many bytes */
    bool gone[TAGS];
    size_t n;
    unsigned owners;
};

static void check(bool ok)
{
    if (!ok) {
        abort();
    }
}

static uint64_t owner_of(const struct model *m, size_t i)
{
    return i % m->owners;
}

/* Returns where the tags end. */
static size_t add_tags(struct model *m, const uint8_t *data, size_t size)
{
    size_t at = 1;

    for (unsigned i = 0; i < data[0] % (TAGS + 1); i++) {
        int rc;

        if (at >= size || at + 1 + data[at] > size) {
            break;
        }
        rc = bp_tags_add(&m->t, data + at + 1, data[at], owner_of(m, m->n));
        check(rc == 0 || rc == (data[at] == 0 ? BP_E_INVALID : BP_E_EXISTS));
        if (rc == 0) {
            m->preamble[m->n++] = data + at;
        }
        at += 1u + data[at];
    }
    check(m->t.n == m->n);
    return at;
}

/* What the first `len` bytes must be judged as, by the whole list. */
static enum bp_tag_match expected(const struct model *m, const uint8_t *p, size_t len,
                                  size_t *which)
{
    enum bp_tag_match best = BP_TAG_NONE;

    for (size_t i = 0; i < m->n; i++) {
        size_t whole = m->preamble[i][0] + 1u;

        if (m->gone[i] || memcmp(m->preamble[i], p, len < whole ? len : whole) != 0) {
            continue;
        }
        if (len >= whole) {
            *which = i;
            return BP_TAG_FOUND;
        }
        best = BP_TAG_MORE;
    }
    return best;
}

static enum bp_tag_match match(const struct model *m, const uint8_t *p, size_t len)
{
    const struct bp_tag *found;
    size_t i = 0;
    enum bp_tag_match got = bp_tags_match(&m->t, p, len, &found);

    check(got == expected(m, p, len, &i));
    check((got == BP_TAG_FOUND) == (found != NULL));
    if (found != NULL) {
        check(found->len == m->preamble[i][0] && found->owner == owner_of(m, i) &&
              memcmp(found->tag, m->preamble[i] + 1, found->len) == 0);
    }
    return got;
}

static size_t left_to(const struct model *m, uint64_t owner)
{
    size_t n = 0;

    for (size_t i = 0; i < m->n; i++) {
        n += !m->gone[i] && owner_of(m, i) == owner;
    }
    return n;
}

static void remove_one(struct model *m, size_t i)
{
    check(bp_tags_remove(&m->t, m->preamble[i] + 1, m->preamble[i][0]) == 0);
    check(bp_tags_remove(&m->t, m->preamble[i] + 1, m->preamble[i][0]) == BP_E_NOT_FOUND);
    m->gone[i] = true;
}

static void remove_owner(struct model *m, uint64_t owner)
{
    size_t n = left_to(m, owner);

    check(bp_tags_has_owner(&m->t, owner) == (n > 0));
    check(bp_tags_remove_owner(&m->t, owner) == n);
    check(!bp_tags_has_owner(&m->t, owner) && bp_tags_remove_owner(&m->t, owner) == 0);
    for (size_t i = 0; i < m->n; i++) {
        m->gone[i] = m->gone[i] || owner_of(m, i) == owner;
    }
    for (size_t i = 0; i < m->n; i++) {
        (void)match(m, m->preamble[i], m->preamble[i][0] + 1u);
    }
    for (unsigned o = 0; o < m->owners; o++) {
        check(bp_tags_has_owner(&m->t, o) == (left_to(m, o) > 0));
    }
}

/* `n` tags, each a length byte and as many bytes; then what a stream brings. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct model m = {0};
    enum bp_tag_match last = BP_TAG_MORE;
    size_t at;

    if (size < 1) {
        return 0;
    }
    bp_tags_init(&m.t, bp_mem_libc());
    m.owners = 1 + (data[0] >> 5) % OWNERS;
    at = add_tags(&m, data, size);
    for (size_t len = 0; len <= size - at && len < 600; len++) {
        enum bp_tag_match now = match(&m, data + at, len);

        check(len == 0 || last == BP_TAG_MORE || now == last);
        last = now;
    }
    for (size_t i = 0; (data[0] & 0x10) != 0 && i < m.n; i += 3) {
        remove_one(&m, i);
    }
    for (unsigned o = 0; o < m.owners; o++) {
        remove_owner(&m, o);
    }
    check(m.t.n == 0);
    bp_tags_free(&m.t);
    return 0;
}
