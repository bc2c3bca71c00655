/* SPDX-License-Identifier: Apache-2.0 */
/* Helpers that every C test shares: failing allocator, seeds, hex. */
#include "support/t.h"

static void *heap_alloc(void *ctx, size_t size)
{
    struct t_heap *h = ctx;
    void *p;

    h->calls++;
    if (h->allow == 0) {
        return NULL;
    }
    if (h->allow > 0) {
        h->allow--;
    }
    p = malloc(size);
    if (p != NULL) {
        h->live++;
    }
    return p;
}

static void *heap_grow(void *ctx, void *p, size_t size)
{
    struct t_heap *h = ctx;

    if (p == NULL) {
        return heap_alloc(ctx, size);
    }
    h->calls++;
    if (h->allow == 0) {
        return NULL;
    }
    if (h->allow > 0) {
        h->allow--;
    }
    return realloc(p, size);
}

static void heap_release(void *ctx, void *p)
{
    struct t_heap *h = ctx;

    if (p != NULL) {
        h->live--;
        free(p);
    }
}

void t_heap_init(struct t_heap *h, long allow)
{
    *h = (struct t_heap){
        .mem = {.ctx = h, .alloc = heap_alloc, .grow = heap_grow, .release = heap_release},
        .allow = allow};
}

uint64_t t_seed(uint64_t fallback)
{
    const char *s = getenv("SEED");
    uint64_t seed = s != NULL ? strtoull(s, NULL, 0) : fallback;

    printf("# SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

uint64_t t_rand(uint64_t *state)
{
    uint64_t x = *state != 0 ? *state : 0x9e3779b97f4a7c15u;

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * 0x2545f4914f6cdd1du;
}

static int nibble(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

size_t t_hex(const char *hex, uint8_t *out, size_t cap)
{
    size_t n = 0;
    int high = -1;

    for (; *hex != '\0' && n < cap; hex++) {
        int v = nibble(*hex);
        if (v < 0) {
            continue;
        }
        if (high < 0) {
            high = v;
        } else {
            out[n++] = (uint8_t)(high << 4 | v);
            high = -1;
        }
    }
    return n;
}
