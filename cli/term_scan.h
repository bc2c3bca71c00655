/* SPDX-License-Identifier: Apache-2.0 */
/* The words of Erlang text, as erl_scan finds them; for cli/term_*.c only. */
#ifndef CLI_TERM_SCAN_H
#define CLI_TERM_SCAN_H

#include "cli/term_text.h"

#include <gmp.h>

enum term_token {
    TOK_END,      /* of the text */
    TOK_ATOM,     /* chars */
    TOK_RESERVED, /* chars; a word that is no atom without quotes */
    TOK_VAR,
    TOK_INT,    /* number */
    TOK_FLOAT,  /* real */
    TOK_CHAR,   /* number */
    TOK_STRING, /* chars */
    TOK_DOT,    /* full stop */
    TOK_OPEN_BITS,
    TOK_CLOSE_BITS,
    TOK_ARROW,    /* => */
    TOK_OTHER,    /* the character in `mark` */
    TOK_BAD = 127 /* reported */
};

/* What has been read and the next word. */
struct term_scan {
    const char *text;
    const char *end;
    const char *p;  /* behind the word */
    const char *at; /* its first byte */
    enum term_token token;
    char mark;
    mpz_t number;
    double real;
    uint32_t *chars; /* code points of atom or string */
    size_t n_chars;
    size_t cap_chars;
    int rc; /* of the first error, which `err` describes */
    struct cli_term_err *err;
};

void term_scan_init(struct term_scan *s, const char *text, size_t len, struct cli_term_err *err);
void term_scan_free(struct term_scan *s);

/* Goes to the next word. After an error every call leaves TOK_BAD. */
void term_scan_next(struct term_scan *s);

/* True if the word is this character. */
bool term_scan_is(const struct term_scan *s, char mark);

/* Records an error at `at` if there is none yet, and returns the recorded one. */
int term_scan_fail(struct term_scan *s, int rc, const char *at, const char *fmt, ...)
    BP_PRINTF(4, 5);

/* Says that the word is not what is wanted: "',' or ']' is missing before 'x'". */
int term_scan_unexpected(struct term_scan *s, const char *wanted);

/* True for a word that Erlang reserves. `newer`: in some release, not only in OTP 25. */
bool term_reserved(const char *word, size_t len, bool newer);

/*
 * The code point at `p`, and in `*len` its bytes; -1 where it is not UTF-8 (surrogates and
 * overlong forms are not).
 */
int32_t term_utf8(const char *p, const char *end, size_t *len);

/* Writes a code point; the number of bytes, at most 4. */
size_t term_utf8_put(uint32_t c, char out[static 4]);

/* Erlang's idea of letters: unquoted atoms begin with a small one and go on with `inner` ones. */
bool term_small(uint32_t c);
bool term_inner(uint32_t c);

#endif
