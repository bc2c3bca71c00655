/* SPDX-License-Identifier: Apache-2.0 */
/* Words of Erlang text: "Erlang Reference Manual", chapters Character Set and Data Types. */
#include "cli/term_scan.h"

#include "base/err.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define BASE_MAX   36
#define DIGITS_MAX (4u * CLI_TERM_BIG_MAX) /* characters of a number */

/* --- characters ------------------------------------------------------------------------------ */

int32_t term_utf8(const char *p, const char *end, size_t *len)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    const uint8_t *b = (const uint8_t *)p;
    uint32_t c = b[0];
    size_t n = c < 0x80 ? 1 : c < 0xc0 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf8 ? 4 : 0;

    if (n == 0 || (size_t)(end - p) < n) {
        return -1;
    }
    *len = n;
    if (n == 1) {
        return (int32_t)c;
    }
    c &= 0xffu >> (n + 1);
    for (size_t i = 1; i < n; i++) {
        if ((b[i] & 0xc0) != 0x80) {
            return -1;
        }
        c = c << 6 | (b[i] & 0x3fu);
    }
    if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) {
        return -1;
    }
    return (int32_t)c;
}

size_t term_utf8_put(uint32_t c, char out[static 4])
{
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

    if (n == 1) {
        out[0] = (char)c;
        return 1;
    }
    for (size_t i = n - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (c & 0x3f));
        c >>= 6;
    }
    out[0] = (char)((0xf0u << (4 - n)) | c);
    return n;
}

bool term_small(uint32_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 0xdf && c <= 0xff && c != 0xf7);
}

static bool is_capital(uint32_t c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 0xc0 && c <= 0xde && c != 0xd7);
}

static bool is_digit(uint32_t c)
{
    return c >= '0' && c <= '9';
}

bool term_inner(uint32_t c)
{
    return term_small(c) || is_capital(c) || is_digit(c) || c == '_' || c == '@';
}

static bool is_blank(uint32_t c)
{
    return c <= ' ' || (c >= 0x80 && c <= 0xa0);
}

bool term_reserved(const char *word, size_t len, bool newer)
{
    static const char *const words[] = {
        "maybe", "else", /* of newer releases */
        "after", "and",  "andalso", "band",   "begin",   "bnot", "bor", "bsl",  "bsr",
        "bxor",  "case", "catch",   "cond",   "div",     "end",  "fun", "if",   "let",
        "not",   "of",   "or",      "orelse", "receive", "rem",  "try", "when", "xor",
    };

    for (size_t i = newer ? 0 : 2; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strlen(words[i]) == len && memcmp(words[i], word, len) == 0) {
            return true;
        }
    }
    return false;
}

/* --- errors ---------------------------------------------------------------------------------- */

int term_scan_fail(struct term_scan *s, int rc, const char *at, const char *fmt, ...)
{
    va_list ap;

    if (s->rc != 0) {
        return s->rc;
    }
    s->rc = rc;
    s->token = TOK_BAD;
    s->err->line = 1;
    s->err->column = 1;
    for (const char *p = s->text; p < at; p++) {
        if (*p == '\n') {
            s->err->line++;
            s->err->column = 1;
        } else if ((*p & 0xc0) != 0x80) {
            s->err->column++;
        }
    }
    va_start(ap, fmt);
    (void)vsnprintf(s->err->text, sizeof(s->err->text), fmt, ap);
    va_end(ap);
    return rc;
}

int term_scan_unexpected(struct term_scan *s, const char *wanted)
{
    size_t len = (size_t)(s->p - s->at);

    if (s->rc != 0) {
        return s->rc;
    }
    if (s->token == TOK_END) {
        return term_scan_fail(s, BP_E_INVALID, s->at, "the text ends where %s is wanted", wanted);
    }
    if (s->token == TOK_DOT) {
        return term_scan_fail(s, BP_E_INVALID, s->at, "a full stop where %s is wanted", wanted);
    }
    if (s->token == TOK_RESERVED) {
        return term_scan_fail(s, BP_E_INVALID, s->at,
                              "%.*s is a reserved word; as an atom it is written '%.*s'", (int)len,
                              s->at, (int)len, s->at);
    }
    if (s->token == TOK_VAR) {
        return term_scan_fail(s, BP_E_INVALID, s->at,
                              "%.*s is a variable, which has no value here (atoms begin with a "
                              "small letter)",
                              len < 40 ? (int)len : 40, s->at);
    }
    while (len > 40 || (len > 0 && len < (size_t)(s->end - s->at) && (s->at[len] & 0xc0) == 0x80)) {
        len--; /* not in the middle of a character */
    }
    return term_scan_fail(s, BP_E_INVALID, s->at, "`%.*s` where %s is wanted", (int)len, s->at,
                          wanted);
}

/* --- quoted text ----------------------------------------------------------------------------- */

static bool keep_char(struct term_scan *s, uint32_t c)
{
    if (s->n_chars == s->cap_chars) {
        size_t cap = s->cap_chars != 0 ? 2 * s->cap_chars : 64;
        uint32_t *p = cap <= CLI_TERM_MAX ? realloc(s->chars, cap * sizeof(*p)) : NULL;
        if (p == NULL) {
            (void)term_scan_fail(s, BP_E_NOMEM, s->at, "out of memory");
            return false;
        }
        s->chars = p;
        s->cap_chars = cap;
    }
    s->chars[s->n_chars++] = c;
    return true;
}

/* The character at s->p, which goes behind it; -1: the end, or not UTF-8 (reported). */
static int32_t take(struct term_scan *s)
{
    size_t len;
    int32_t c;

    if (s->p == s->end) {
        return -1;
    }
    c = term_utf8(s->p, s->end, &len);
    if (c < 0) {
        (void)term_scan_fail(s, BP_E_INVALID, s->p, "the text is not UTF-8");
        return -1;
    }
    if (c == 0xfffe || c == 0xffff) {
        (void)term_scan_fail(s, BP_E_INVALID, s->p, "this is no character of Unicode");
        return -1;
    }
    s->p += len;
    return c;
}

static int hex_value(char c)
{
    if (is_digit((unsigned char)c)) {
        return c - '0';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'Z' ? c - 'A' + 10 : BASE_MAX;
}

/* Behind `\x`: two hex digits, or any number of them in braces. */
static int32_t take_hex(struct term_scan *s, const char *from)
{
    bool braces = s->p < s->end && *s->p == '{';
    uint32_t c = 0;
    int n = 0;

    s->p += braces;
    while (s->p < s->end && hex_value(*s->p) < 16 && (braces || n < 2)) {
        c = c * 16 + (uint32_t)hex_value(*s->p++);
        c = c > 0x10ffff ? 0x110000 : c;
        n++;
    }
    if (n == 0 || (braces ? s->p == s->end || *s->p != '}' : n != 2)) {
        return term_scan_fail(s, BP_E_INVALID, from,
                              "a character in hex is written \\xHH or \\x{H...}");
    }
    s->p += braces;
    if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000) || c == 0xfffe || c == 0xffff) {
        return term_scan_fail(s, BP_E_INVALID, from, "there is no such character");
    }
    return (int32_t)c;
}

/* Behind a backslash; negative: an error, which is reported. */
static int32_t take_escape(struct term_scan *s)
{
    static const char letters[] = "bdefnrstv";
    static const char values[] = "\b\177\033\f\n\r \t\v";
    const char *from = s->p - 1;
    const char *letter;
    int32_t c = take(s);

    if (c < 0) {
        return term_scan_fail(s, BP_E_INVALID, from, "the text ends after a backslash");
    }
    if (c == 'x') {
        return take_hex(s, from);
    }
    if (c == '^') {
        c = take(s);
        return c >= 0 ? c & 31
                      : term_scan_fail(s, BP_E_INVALID, from, "the text ends after a backslash");
    }
    if (c >= '0' && c <= '7') {
        c -= '0';
        for (int n = 1; n < 3 && s->p < s->end && *s->p >= '0' && *s->p <= '7'; n++) {
            c = c * 8 + (*s->p++ - '0');
        }
        return c;
    }
    letter = c != 0 && c < 128 ? strchr(letters, c) : NULL;
    return letter != NULL ? values[letter - letters] : c;
}

/* Atom or string up to `quote`; s->p is behind the first one. */
static void scan_quoted(struct term_scan *s, char quote, enum term_token token)
{
    s->n_chars = 0;
    for (;;) {
        int32_t c = take(s);
        if (c == quote) {
            break;
        }
        if (c == '\\') {
            c = take_escape(s);
        }
        if (c < 0) {
            (void)term_scan_fail(s, BP_E_INVALID, s->at, "the closing %c of this %s is missing",
                                 quote, token == TOK_ATOM ? "atom" : "string");
            return;
        }
        if (!keep_char(s, (uint32_t)c)) {
            return;
        }
    }
    s->token = token;
}

static void scan_char(struct term_scan *s)
{
    int32_t c = take(s);

    if (c == '\\') {
        c = take_escape(s);
    }
    if (c < 0) {
        (void)term_scan_fail(s, BP_E_INVALID, s->at, "a character is missing after $");
        return;
    }
    mpz_set_ui(s->number, (unsigned long)c);
    s->token = TOK_CHAR;
}

/* --- numbers --------------------------------------------------------------------------------- */

/*
 * Copies digits of `base` to `out` (NULL: only counts), underscores between them left out; stops
 * at the first other character. Returns the number of digits.
 */
static size_t take_digits(struct term_scan *s, int base, char *out)
{
    size_t n = 0;

    while (s->p < s->end) {
        if (*s->p == '_' && n > 0 && s->p + 1 < s->end && hex_value(s->p[1]) < base) {
            s->p++;
        }
        if (hex_value(*s->p) >= base) {
            break;
        }
        if (out != NULL) {
            out[n] = *s->p;
        }
        s->p++;
        n++;
    }
    return n;
}

/* The number that starts at `from` (digits of `base`) into s->number. */
static void set_number(struct term_scan *s, const char *from, int base)
{
    size_t len = (size_t)(s->p - from);
    char *digits = len <= DIGITS_MAX ? malloc(len + 1) : NULL;

    if (digits == NULL) {
        (void)term_scan_fail(s, len <= DIGITS_MAX ? BP_E_NOMEM : BP_E_LIMIT, from,
                             "this number is too long");
        return;
    }
    s->p = from;
    digits[take_digits(s, base, digits)] = '\0';
    (void)mpz_set_str(s->number, digits, base);
    free(digits);
    if (mpz_sizeinbase(s->number, 2) > 8ul * CLI_TERM_BIG_MAX) {
        (void)term_scan_fail(s, BP_E_LIMIT, from, "this number is too long");
        return;
    }
    s->token = TOK_INT;
}

/* s->p is behind the "." that follows the digits at s->at. */
static void scan_float(struct term_scan *s)
{
    char copy[512];
    size_t n = 0;

    (void)take_digits(s, 10, NULL);
    if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
        s->p++;
        s->p += s->p < s->end && (*s->p == '+' || *s->p == '-');
        if (take_digits(s, 10, NULL) == 0) {
            (void)term_scan_fail(s, BP_E_INVALID, s->at, "the exponent of this number is missing");
            return;
        }
    }
    for (const char *p = s->at; p < s->p; p++) {
        if (*p != '_') {
            if (n == sizeof(copy) - 1) {
                (void)term_scan_fail(s, BP_E_LIMIT, s->at, "this number is too long");
                return;
            }
            copy[n++] = *p;
        }
    }
    copy[n] = '\0';
    s->real = strtod(copy, NULL);
    if (!isfinite(s->real)) {
        (void)term_scan_fail(s, BP_E_INVALID, s->at, "this number is too large for a float");
        return;
    }
    s->token = TOK_FLOAT;
}

static void scan_number(struct term_scan *s)
{
    const char *from;

    (void)take_digits(s, 10, NULL);
    if (s->end - s->p >= 2 && *s->p == '.' && is_digit((unsigned char)s->p[1])) {
        s->p++;
        scan_float(s);
        return;
    }
    if (s->p == s->end || *s->p != '#') {
        set_number(s, s->at, 10);
        return;
    }
    set_number(s, s->at, 10);
    if (s->rc != 0) {
        return;
    }
    if (mpz_cmp_ui(s->number, 2) < 0 || mpz_cmp_ui(s->number, BASE_MAX) > 0) {
        (void)term_scan_fail(s, BP_E_INVALID, s->at, "the base of a number is 2 to 36");
        return;
    }
    from = ++s->p;
    if (take_digits(s, (int)mpz_get_ui(s->number), NULL) == 0) {
        (void)term_scan_fail(s, BP_E_INVALID, s->at, "a digit of base %lu is missing after #",
                             mpz_get_ui(s->number));
        return;
    }
    set_number(s, from, (int)mpz_get_ui(s->number));
}

/* --- words ----------------------------------------------------------------------------------- */

static void skip_blanks(struct term_scan *s)
{
    size_t len;
    int32_t c;

    while (s->p < s->end) {
        c = term_utf8(s->p, s->end, &len);
        if (c == '%') {
            const char *nl = memchr(s->p, '\n', (size_t)(s->end - s->p));
            s->p = nl != NULL ? nl : s->end;
        } else if (c >= 0 && is_blank((uint32_t)c)) {
            s->p += len;
        } else {
            return;
        }
    }
}

static void scan_word(struct term_scan *s, bool atom)
{
    s->n_chars = 0;
    s->p = s->at;
    while (s->p < s->end) {
        size_t len;
        int32_t c = term_utf8(s->p, s->end, &len);
        if (c < 0 || !term_inner((uint32_t)c)) {
            break;
        }
        if (!keep_char(s, (uint32_t)c)) {
            return;
        }
        s->p += len;
    }
    if (!atom) {
        s->token = TOK_VAR;
    } else {
        s->token = term_reserved(s->at, (size_t)(s->p - s->at), false) ? TOK_RESERVED : TOK_ATOM;
    }
}

static bool follows(const struct term_scan *s, const char *mark)
{
    size_t len = strlen(mark);

    return (size_t)(s->end - s->at) >= len && memcmp(s->at, mark, len) == 0;
}

static void scan_mark(struct term_scan *s, int32_t c)
{
    if (c == 0xfeff) {
        (void)term_scan_fail(s, BP_E_INVALID, s->at,
                             "a byte order mark, which Erlang does not read");
        return;
    }
    if (c == '.' && (s->p == s->end || (uint8_t)*s->p <= ' ' || *s->p == '%')) {
        s->token = TOK_DOT;
    } else if (follows(s, "<<") || follows(s, ">>") || follows(s, "=>")) {
        s->p = s->at + 2;
        s->token = c == '<' ? TOK_OPEN_BITS : c == '>' ? TOK_CLOSE_BITS : TOK_ARROW;
    } else if (c < 128 && strchr("{}[]()|,:/-+#", c) != NULL) {
        s->mark = (char)c;
        s->token = TOK_OTHER;
    } else {
        char shown[5] = {0};
        (void)term_utf8_put((uint32_t)c, shown);
        (void)term_scan_fail(s, BP_E_INVALID, s->at,
                             c > 255 ? "%s does not belong here (write atoms with such letters "
                                       "in quotes)"
                                     : "%s does not belong here",
                             c < 32 || (c >= 127 && c < 160) ? "this character" : shown);
    }
}

void term_scan_next(struct term_scan *s)
{
    int32_t c;

    if (s->rc != 0) {
        return;
    }
    skip_blanks(s);
    s->at = s->p;
    if (s->p == s->end) {
        s->token = TOK_END;
        return;
    }
    c = take(s);
    if (c < 0) {
        return;
    }
    if (c == '"' || c == '\'') {
        scan_quoted(s, (char)c, c == '"' ? TOK_STRING : TOK_ATOM);
    } else if (c == '$') {
        scan_char(s);
    } else if (is_digit((uint32_t)c)) {
        s->p = s->at;
        scan_number(s);
    } else if (term_small((uint32_t)c)) {
        scan_word(s, true);
    } else if (is_capital((uint32_t)c) || c == '_') {
        scan_word(s, false);
    } else {
        scan_mark(s, c);
    }
}

bool term_scan_is(const struct term_scan *s, char mark)
{
    return s->token == TOK_OTHER && s->mark == mark;
}

void term_scan_init(struct term_scan *s, const char *text, size_t len, struct cli_term_err *err)
{
    memset(s, 0, sizeof(*s));
    memset(err, 0, sizeof(*err));
    s->text = text;
    s->p = text;
    s->end = text + len;
    s->err = err;
    mpz_init(s->number);
}

void term_scan_free(struct term_scan *s)
{
    free(s->chars);
    mpz_clear(s->number);
}
