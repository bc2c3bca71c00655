/* SPDX-License-Identifier: Apache-2.0 */
/* First bytes of user streams against registered tags: any tags, any bytes. What was judged does
 * not change when more bytes come, and a tag is found exactly when its preamble is there. */
#include "fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "dist/tags.h"

#define TAGS 16u

static void check(bool ok)
{
    if (!ok) {
        abort();
    }
}

/* `n` tags, each a length byte and as many bytes; then what a stream brings. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *tags[TAGS];
    size_t n = 0;
    size_t at = 1;
    struct bp_tags t;
    const struct bp_tag *found;
    enum bp_tag_match last = BP_TAG_MORE;

    if (size < 1) {
        return 0;
    }
    bp_tags_init(&t, bp_mem_libc());
    for (unsigned i = 0; i < data[0] % (TAGS + 1); i++) {
        if (at >= size || at + 1 + data[at] > size) {
            break;
        }
        if (bp_tags_add(&t, data + at + 1, data[at], n) == 0) {
            tags[n++] = data + at;
        }
        at += 1u + data[at];
    }
    check(t.n == n);
    for (size_t len = 0; len <= size - at && len < 600; len++) {
        enum bp_tag_match m = bp_tags_match(&t, data + at, len, &found);

        check(len == 0 || last == BP_TAG_MORE || m == last);
        check((m == BP_TAG_FOUND) == (found != NULL));
        if (m == BP_TAG_FOUND) {
            check(found->len < len && memcmp(tags[found->owner], data + at, found->len + 1u) == 0);
        }
        for (size_t i = 0; i < n; i++) {
            size_t whole = tags[i][0] + 1u;
            size_t k = len < whole ? len : whole;
            if (memcmp(tags[i], data + at, k) == 0) {
                check(len < whole ? m == BP_TAG_MORE : m == BP_TAG_FOUND);
            }
        }
        last = m;
    }
    while (n > 0) {
        check(bp_tags_remove(&t, tags[n - 1] + 1, tags[n - 1][0]) == 0);
        n--;
    }
    bp_tags_free(&t);
    return 0;
}
