/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The n-th allocation fails, of those that the program's own objects make (linked with --wrap; what
 * shared libraries allocate is not counted). A program that is started with BP_FAIL_ALLOC=N does so
 * from its start, and makes the file BP_FAIL_HIT when it happens.
 */
#ifndef BP_TESTS_NTH_ALLOC_H
#define BP_TESTS_NTH_ALLOC_H

#include <stdbool.h>

/* From now on; 0: none fails. Any thread. */
void nth_alloc_arm(long n);
/* Whether it was reached since then. */
bool nth_alloc_hit(void);

#endif
