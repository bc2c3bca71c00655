/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Erlang terms as text, between people and libei: what `erl_parse:parse_term` and `io:format` do in
 * a node. The external term format itself is libei's (ei_x_encode_*, ei_decode_*).
 *
 * Typical use:
 *
 *     ei_x_buff x;
 *     struct cli_term_err err;
 *     if (ei_x_new_with_version(&x) != 0 ||
 *         cli_term_parse(text, strlen(text), CLI_TERM_ARG, &x, &err) != 0) ... err.line, err.text
 *     int at = 0, version;
 *     ei_decode_version(x.buff, &at, &version);
 *     cli_term_print(stdout, &x, &at, CLI_TERM_PRETTY);
 */
#ifndef CLI_TERM_TEXT_H
#define CLI_TERM_TEXT_H

#include "base/types.h"

#include <ei.h>
#include <stdio.h>

#define CLI_TERM_PARSE_DEPTH 512         /* tuples in lists in maps ... in a text */
#define CLI_TERM_PRINT_DEPTH 65536       /* the same in a term that is printed */
#define CLI_TERM_MAX         (256 << 20) /* bytes of an encoded term */
#define CLI_TERM_BIG_MAX     (1 << 20)   /* bytes of an integer, as text or encoded */

/* Where the text is wrong and why: for people, one sentence without a full stop. */
struct cli_term_err {
    unsigned line;   /* from 1 */
    unsigned column; /* in characters, from 1 */
    char text[192];
};

enum cli_term_end {
    CLI_TERM_ARG, /* the text is one term; a full stop may follow */
    CLI_TERM_FILE /* one term and a full stop, as file:consult/1 wants it */
};

/*
 * Parses UTF-8 text (borrowed, `len` bytes, NUL not needed) and appends the term to `x`, without a
 * version byte. All terms of erl_parse:parse_term/1 are understood: comments, "adjacent" "strings",
 * `16#ff`, `$c`, bit syntax, `fun m:f/1`. Maps with equal keys keep the last, as in Erlang.
 *
 * 0; BP_E_INVALID (the text is no term, `err` says where and why); BP_E_LIMIT (too deep or too
 * large, `err` says which); BP_E_NOMEM. On error what `x` held before is still there.
 */
int cli_term_parse(const char *text, size_t len, enum cli_term_end end, ei_x_buff *x,
                   struct cli_term_err *err) BP_MUST_CHECK;

/*
 * Makes the bytes behind x->index zero, so many that what libei decodes of a short header (a
 * version, tuple headers, atoms, small numbers) never leaves the buffer, whatever a peer sent.
 * BP_E_NOMEM.
 */
int cli_term_pad(ei_x_buff *x) BP_MUST_CHECK;

enum cli_term_style {
    CLI_TERM_PLAIN, /* lists and binaries as numbers: io:format("~tw") */
    CLI_TERM_PRETTY /* printable ones as text: io:format("~0tp") of a node with `+pc unicode` */
};

/*
 * Prints the term at `*at` of `x`, whose length is x->index, on one line, and moves `*at` behind
 * it. The bytes may come from a peer: nothing behind x->index is used. `x` is not changed, but its
 * buffer may move. Other than in Erlang, identifiers carry their node's name:
 * #Pid<a@host.90.0>, #Port<a@host.3>, #Ref<a@host.1.2.3>; cli_term_parse does not read them.
 *
 * 0; BP_E_INVALID (not a term, or cut off); BP_E_LIMIT (deeper than CLI_TERM_PRINT_DEPTH, or an
 * integer over CLI_TERM_BIG_MAX); BP_E_NOMEM; what was printed up to there stays.
 * Whether `f` took it is the caller's question (ferror).
 */
int cli_term_print(FILE *f, ei_x_buff *x, int *at, enum cli_term_style style) BP_MUST_CHECK;

/*
 * The same as a string: `*out` is for the caller to free, `*out_len` (may be NULL) its length
 * without the NUL. On error `*out` is NULL.
 */
int cli_term_string(ei_x_buff *x, int *at, enum cli_term_style style, char **out,
                    size_t *out_len) BP_MUST_CHECK;

#endif
