/* SPDX-License-Identifier: Apache-2.0 */
/* Erlang terms as JSON, for programs that read what the command prints. */
#ifndef CLI_TERM_JSON_H
#define CLI_TERM_JSON_H

#include "cli/term_text.h"

#include <jansson.h>

#define CLI_TERM_JSON_DEPTH 64

/*
 * The term at `*at` of `x` (as for cli_term_print), and `*at` goes behind it. `*out` is the
 * caller's to json_decref. What JSON has is itself: maps are objects, lists arrays, true, false
 * and null (also undefined) are no strings, small integers and floats are numbers; printable lists,
 * binaries and atoms are strings, and everything else is its text. Of keys that become the same
 * text the last stays. BP_E_INVALID, BP_E_LIMIT (also: deeper than CLI_TERM_JSON_DEPTH),
 * BP_E_NOMEM.
 */
int cli_term_json(ei_x_buff *x, int *at, json_t **out) BP_MUST_CHECK;

#endif
