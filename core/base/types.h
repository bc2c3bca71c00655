/* SPDX-License-Identifier: Apache-2.0 */
/* Scalars, attributes and the allocator handle that every layer uses. */
#ifndef BP_TYPES_H
#define BP_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Monotonic time in nanoseconds. Core never reads a clock: time is an argument. */
typedef uint64_t bp_time;
#define BP_TIME_NEVER UINT64_MAX
#define BP_MS         ((bp_time)1000000u)
#define BP_SEC        ((bp_time)1000000000u)

#define BP_MUST_CHECK        __attribute__((warn_unused_result))
#define BP_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

#define BP_KEY_LEN       32u  /* Ed25519 public key, and seed */
#define BP_SIG_LEN       64u  /* Ed25519 signature */
#define BP_BINDING_LEN   32u  /* SHA-256 of the server's certificate */
#define BP_NONCE_LEN     32u  /* auth challenge */
#define BP_NODE_NAME_MAX 255u /* WIRE: bytes of a node name */

/*
 * Where core gets its memory. All functions take `ctx` first. `alloc` and `grow` return NULL when
 * there is no memory; core never aborts on that. `release(NULL)` is a no-op.
 */
struct bp_mem {
    void *ctx;
    void *(*alloc)(void *ctx, size_t size);
    void *(*grow)(void *ctx, void *p, size_t size);
    void (*release)(void *ctx, void *p);
};

/* The C library's allocator. */
const struct bp_mem *bp_mem_libc(void);

/* Zeroed memory of `n` objects of `size` bytes, or NULL (also on overflow). */
void *bp_mem_zalloc(const struct bp_mem *mem, size_t n, size_t size) BP_MUST_CHECK;

/* Overwrites `len` bytes in a way that the compiler keeps. */
void bp_wipe(void *p, size_t len);

/* True if `len` bytes are equal; takes the same time whether they are or not. */
bool bp_equal_ct(const void *a, const void *b, size_t len);

#endif
