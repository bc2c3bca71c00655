/* SPDX-License-Identifier: Apache-2.0 */
/* Binaries and bit strings of Erlang text, `<<1, 2:16/little, "abc"/utf8>>`; for cli/term_*.c. */
#ifndef CLI_TERM_BITS_H
#define CLI_TERM_BITS_H

#include "cli/term_scan.h"

/* What has been put together. */
struct term_bits {
    uint8_t *data; /* term_bits_free; the bits behind `n_bits` are zero */
    size_t n_bits;
    size_t cap;
};

/*
 * Reads from behind `<<` to behind the `>>` that belongs to it and appends the bits; `depth` more
 * binaries may be inside of each other. 0, or the error that `s` has recorded.
 */
int term_bits_parse(struct term_scan *s, struct term_bits *out, unsigned depth) BP_MUST_CHECK;
void term_bits_free(struct term_bits *b);

#endif
