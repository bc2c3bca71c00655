/* SPDX-License-Identifier: Apache-2.0 */
/* Characters, atoms and floats as Erlang writes them; for cli/term_print.c. */
#ifndef CLI_TERM_PUT_H
#define CLI_TERM_PUT_H

#include "cli/term_scan.h"

#include <stdio.h>

/* A code point as io_lib writes it between quotes. */
void term_put_quoted(FILE *f, uint32_t c, char quote);
/* Whether text may have it: lists and binaries of others are printed as numbers. */
bool term_printable(uint32_t c);
/* UTF-8, with quotes where it needs them. BP_E_INVALID: it is not UTF-8; nothing was written. */
int term_put_atom(FILE *f, const char *p, size_t len) BP_MUST_CHECK;
/* Finite. As float_to_list(F, [short]): the shorter of 123.0 and 1.23e2, the first where they are
 * equal. */
void term_put_float(FILE *f, double d);

#endif
