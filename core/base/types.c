/* SPDX-License-Identifier: Apache-2.0 */
/* The C library's allocator as a bp_mem, and helpers for secrets. */
#include "base/types.h"

#include <stdlib.h>
#include <string.h>

static void *libc_alloc(void *ctx, size_t size)
{
    (void)ctx;
    return malloc(size);
}

static void *libc_grow(void *ctx, void *p, size_t size)
{
    (void)ctx;
    return realloc(p, size);
}

static void libc_release(void *ctx, void *p)
{
    (void)ctx;
    free(p);
}

const struct bp_mem *bp_mem_libc(void)
{
    static const struct bp_mem mem = {
        .alloc = libc_alloc, .grow = libc_grow, .release = libc_release};
    return &mem;
}

void *bp_mem_zalloc(const struct bp_mem *mem, size_t n, size_t size)
{
    void *p;

    if (size != 0 && n > SIZE_MAX / size) {
        return NULL;
    }
    p = mem->alloc(mem->ctx, n * size);
    if (p != NULL) {
        memset(p, 0, n * size);
    }
    return p;
}

void bp_wipe(void *p, size_t len)
{
    explicit_bzero(p, len);
}

bool bp_equal_ct(const void *a, const void *b, size_t len)
{
    const volatile uint8_t *x = a;
    const volatile uint8_t *y = b;
    uint8_t diff = 0;

    for (size_t i = 0; i < len; i++) {
        diff = (uint8_t)(diff | (x[i] ^ y[i]));
    }
    return diff == 0;
}
