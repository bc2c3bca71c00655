/* SPDX-License-Identifier: Apache-2.0 */
/* The only file that includes cmocka.h (it needs these headers before it). */
#ifndef BP_TESTS_T_H
#define BP_TESTS_T_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* cmocka 2.0 calls assert_in_range deprecated, and 1.1 has nothing else. */
#define CMOCKA_DISABLE_DEPRECATION_WARNINGS
#include <cmocka.h>
#undef stop /* a macro since cmocka 2.0 */

#include "base/types.h"

/* Runs a group and returns 0 or 1 (cmocka's own result is a count, taken mod 256 by the shell). */
#define T_MAIN(tests)                                                                              \
    int main(void)                                                                                 \
    {                                                                                              \
        return cmocka_run_group_tests(tests, NULL, NULL) != 0;                                     \
    }

/*
 * An allocator that fails. The first `allow` allocations succeed, all later ones return NULL;
 * `live` counts what is not released, so a test can end with assert_int_equal(h.live, 0).
 */
struct t_heap {
    struct bp_mem mem;
    long allow;
    long live;
    long calls;
};

/* `allow` < 0: never fail. */
void t_heap_init(struct t_heap *h, long allow);

/* Seed of a random test: SEED= from the environment, else `fallback`; prints it. */
uint64_t t_seed(uint64_t fallback);

/* xorshift64*: the tests' own random numbers, replayable from the seed. */
uint64_t t_rand(uint64_t *state);

/* Reads hex digits (blanks skipped) into `out`; returns the number of bytes. */
size_t t_hex(const char *hex, uint8_t *out, size_t cap);

#endif
