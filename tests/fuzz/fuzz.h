/* SPDX-License-Identifier: Apache-2.0 */
/* Entry point that each fuzz target defines. */
#ifndef BP_FUZZ_H
#define BP_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
