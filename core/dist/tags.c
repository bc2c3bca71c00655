/* SPDX-License-Identifier: Apache-2.0 */
/* Who has which tag, and whose a stream is by its first bytes. */
#include "dist/tags.h"

#include "base/err.h"

#include <string.h>

void bp_tags_init(struct bp_tags *t, const struct bp_mem *mem)
{
    *t = (struct bp_tags){.mem = mem};
}

void bp_tags_free(struct bp_tags *t)
{
    for (size_t i = 0; i < t->n; i++) {
        t->mem->release(t->mem->ctx, t->v[i]);
    }
    if (t->mem != NULL) {
        t->mem->release(t->mem->ctx, t->v);
    }
    *t = (struct bp_tags){.mem = t->mem};
}

/* The place of a tag, or t->n. */
static size_t find(const struct bp_tags *t, const uint8_t *tag, size_t len)
{
    size_t i = 0;

    while (i < t->n && !(t->v[i]->len == len && memcmp(t->v[i]->tag, tag, len) == 0)) {
        i++;
    }
    return i;
}

static int reserve(struct bp_tags *t)
{
    size_t cap = t->cap != 0 ? t->cap * 2 : 8;
    struct bp_tag **v;

    if (t->n < t->cap) {
        return 0;
    }
    v = t->mem->grow(t->mem->ctx, t->v, cap * sizeof(*v));
    if (v == NULL) {
        return BP_E_NOMEM;
    }
    t->v = v;
    t->cap = cap;
    return 0;
}

int bp_tags_add(struct bp_tags *t, const uint8_t *tag, size_t len, uint64_t owner)
{
    struct bp_tag *entry;
    int rc;

    if (len == 0 || len > BP_TAG_LEN_MAX) {
        return BP_E_INVALID;
    }
    if (find(t, tag, len) < t->n) {
        return BP_E_EXISTS;
    }
    rc = t->n == BP_TAGS_MAX ? BP_E_LIMIT : reserve(t);
    if (rc != 0) {
        return rc;
    }
    entry = bp_mem_zalloc(t->mem, 1, sizeof(*entry));
    if (entry == NULL) {
        return BP_E_NOMEM;
    }
    entry->owner = owner;
    entry->len = (uint8_t)len;
    memcpy(entry->tag, tag, len);
    t->v[t->n++] = entry;
    return 0;
}

static void remove_at(struct bp_tags *t, size_t i)
{
    t->mem->release(t->mem->ctx, t->v[i]);
    t->v[i] = t->v[--t->n];
}

int bp_tags_remove(struct bp_tags *t, const uint8_t *tag, size_t len)
{
    size_t i = find(t, tag, len);

    if (i == t->n) {
        return BP_E_NOT_FOUND;
    }
    remove_at(t, i);
    return 0;
}

size_t bp_tags_remove_owner(struct bp_tags *t, uint64_t owner)
{
    size_t before = t->n;

    for (size_t i = 0; i < t->n;) {
        if (t->v[i]->owner == owner) {
            remove_at(t, i);
        } else {
            i++;
        }
    }
    return before - t->n;
}

bool bp_tags_has_owner(const struct bp_tags *t, uint64_t owner)
{
    for (size_t i = 0; i < t->n; i++) {
        if (t->v[i]->owner == owner) {
            return true;
        }
    }
    return false;
}

enum bp_tag_match bp_tags_match(const struct bp_tags *t, const uint8_t *p, size_t len,
                                const struct bp_tag **out)
{
    enum bp_tag_match best = BP_TAG_NONE;

    *out = NULL;
    for (size_t i = 0; i < t->n; i++) {
        const struct bp_tag *e = t->v[i];
        size_t have = len > 0 ? len - 1 : 0; /* of the tag itself */
        size_t n = have < e->len ? have : e->len;

        if (len > 0 && (p[0] != e->len || memcmp(e->tag, p + 1, n) != 0)) {
            continue;
        }
        if (have >= e->len) {
            *out = e;
            return BP_TAG_FOUND;
        }
        best = BP_TAG_MORE;
    }
    return best;
}
