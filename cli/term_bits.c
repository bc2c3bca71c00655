/* SPDX-License-Identifier: Apache-2.0 */
/* Bit syntax with constant values: "Erlang Reference Manual", chapter Bit Syntax Expressions. */
#include "cli/term_bits.h"

#include "base/err.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BITS_MAX (8ul * CLI_TERM_MAX)
#define UNIT_MAX 256u

enum seg_type { SEG_INTEGER, SEG_FLOAT, SEG_BYTES, SEG_BITS, SEG_UTF8, SEG_UTF16, SEG_UTF32 };

/* One segment: its value and how it is to be written. */
struct segment {
    const char *at;        /* in the text */
    enum term_token value; /* TOK_INT, TOK_FLOAT, TOK_STRING, TOK_OPEN_BITS */
    mpz_t number;          /* of TOK_INT */
    double real;           /* of TOK_FLOAT */
    uint32_t *chars;       /* of TOK_STRING */
    size_t n_chars;
    struct term_bits bits; /* of TOK_OPEN_BITS */
    bool has_size;
    bool has_type;
    bool has_order;
    bool has_sign;
    bool little;
    bool is_signed;
    enum seg_type type;
    size_t size;
    size_t unit; /* 0: not given */
};

/* --- bits ------------------------------------------------------------------------------------ */

void term_bits_free(struct term_bits *b)
{
    free(b->data);
    memset(b, 0, sizeof(*b));
}

/* Room for `n` more bits. */
static int reserve(struct term_scan *s, struct term_bits *b, size_t n)
{
    size_t need;
    uint8_t *p;

    if (n > BITS_MAX - b->n_bits) {
        return term_scan_fail(s, BP_E_LIMIT, s->at, "this binary is too large");
    }
    need = (b->n_bits + n + 7) / 8;
    if (need <= b->cap) {
        return 0;
    }
    need = need < 64 ? 64 : need + need / 2;
    p = realloc(b->data, need);
    if (p == NULL) {
        return term_scan_fail(s, BP_E_NOMEM, s->at, "out of memory");
    }
    memset(p + b->cap, 0, need - b->cap);
    b->data = p;
    b->cap = need;
    return 0;
}

/* Appends the upper `n` (1 to 8) bits of `byte`; there is room. */
static void put(struct term_bits *b, uint8_t byte, unsigned n)
{
    unsigned used = (unsigned)(b->n_bits % 8);
    uint8_t *p = b->data + b->n_bits / 8;

    byte = (uint8_t)(byte & (0xff00u >> n));
    p[0] = (uint8_t)(p[0] | byte >> used);
    if (used + n > 8) {
        p[1] = (uint8_t)(p[1] | byte << (8 - used));
    }
    b->n_bits += n;
}

/* Appends `n_bits` of a number that is in `bytes`, lowest byte first. */
static void put_number(struct term_bits *b, const uint8_t *bytes, size_t n_bits, bool little)
{
    size_t whole = n_bits / 8;
    unsigned rest = (unsigned)(n_bits % 8);
    uint8_t top = (uint8_t)(rest != 0 ? bytes[whole] << (8 - rest) : 0);

    if (rest != 0 && !little) {
        put(b, top, rest);
    }
    for (size_t i = 0; i < whole; i++) {
        put(b, bytes[little ? i : whole - 1 - i], 8);
    }
    if (rest != 0 && little) {
        put(b, top, rest);
    }
}

static int put_integer(struct term_scan *s, struct term_bits *b, const mpz_t number, size_t n_bits,
                       bool little)
{
    uint8_t *bytes;
    mpz_t low;
    int rc = reserve(s, b, n_bits);

    if (rc != 0 || n_bits == 0) {
        return rc;
    }
    bytes = calloc(1, n_bits / 8 + 1);
    if (bytes == NULL) {
        return term_scan_fail(s, BP_E_NOMEM, s->at, "out of memory");
    }
    mpz_init(low);
    mpz_fdiv_r_2exp(low, number, n_bits); /* two's complement */
    (void)mpz_export(bytes, NULL, -1, 1, 0, 0, low);
    mpz_clear(low);
    put_number(b, bytes, n_bits, little);
    free(bytes);
    return 0;
}

static int put_small(struct term_scan *s, struct term_bits *b, uint64_t v, size_t n_bits,
                     bool little)
{
    uint8_t bytes[8];
    int rc = reserve(s, b, n_bits);

    if (rc == 0) {
        for (size_t i = 0; i < sizeof(bytes); i++) {
            bytes[i] = (uint8_t)(v >> (8 * i));
        }
        put_number(b, bytes, n_bits, little);
    }
    return rc;
}

/* A float of 16 bits (IEEE 754 binary16); false where it is too large. */
static bool to_half(double d, uint64_t *out)
{
    uint64_t sign = signbit(d) ? 0x8000 : 0;
    int e = -14;
    double q;

    if (d != 0) {
        (void)frexp(d, &e);
        e = e - 1 < -14 ? -14 : e - 1;
    }
    q = nearbyint(ldexp(fabs(d), 10 - e)); /* 11 bits, the upper one is not written */
    if (q >= 2048) {
        q /= 2;
        e++;
    }
    if (e > 15) {
        return false;
    }
    *out = sign | (q < 1024 ? (uint64_t)q : (uint64_t)(e + 15) << 10 | ((uint64_t)q - 1024));
    return true;
}

static int put_float(struct term_scan *s, struct term_bits *b, const struct segment *g, double d)
{
    size_t n_bits = g->has_size ? g->size * (g->unit != 0 ? g->unit : 1) : 64;
    uint64_t v = 0;
    bool fits = isfinite(d);

    if (n_bits == 64) {
        memcpy(&v, &d, sizeof(v));
    } else if (n_bits == 32) {
        float f = (float)d;
        uint32_t v32;
        fits = fits && isfinite(f);
        memcpy(&v32, &f, sizeof(v32));
        v = v32;
    } else if (n_bits == 16) {
        fits = fits && to_half(d, &v);
    } else {
        return term_scan_fail(s, BP_E_INVALID, g->at, "a float in a binary has 16, 32 or 64 bits");
    }
    if (!fits) {
        return term_scan_fail(s, BP_E_INVALID, g->at, "this number is too large for the float");
    }
    return put_small(s, b, v, n_bits, g->little);
}

static int put_utf(struct term_scan *s, struct term_bits *b, const struct segment *g, uint32_t c)
{
    char utf8[4];
    size_t len;
    int rc;

    if (g->type == SEG_UTF32) {
        return put_small(s, b, c, 32, g->little);
    }
    if (g->type == SEG_UTF16) {
        if (c < 0x10000) {
            return put_small(s, b, c, 16, g->little);
        }
        rc = put_small(s, b, 0xd7c0 + (c >> 10), 16, g->little);
        return rc != 0 ? rc : put_small(s, b, 0xdc00 + (c & 0x3ff), 16, g->little);
    }
    len = term_utf8_put(c, utf8);
    rc = reserve(s, b, 8 * len);
    for (size_t i = 0; rc == 0 && i < len; i++) {
        put(b, (uint8_t)utf8[i], 8);
    }
    return rc;
}

/* --- one segment ----------------------------------------------------------------------------- */

static int put_bits(struct term_scan *s, struct term_bits *b, const struct segment *g)
{
    size_t unit = g->unit != 0 ? g->unit : g->type == SEG_BYTES ? 8 : 1;
    size_t n = g->has_size ? g->size * unit : g->bits.n_bits;
    int rc;

    if (g->type != SEG_BYTES && g->type != SEG_BITS) {
        return term_scan_fail(s, BP_E_INVALID, g->at,
                              "a binary in a binary has the type /binary or /bits");
    }
    if (n > g->bits.n_bits || n % unit != 0) {
        return term_scan_fail(s, BP_E_INVALID, g->at,
                              "this binary does not have the wanted number of bits");
    }
    rc = reserve(s, b, n);
    for (size_t i = 0; rc == 0 && i < n; i += 8) {
        put(b, g->bits.data[i / 8], n - i < 8 ? (unsigned)(n - i) : 8);
    }
    return rc;
}

/* A number, or one character of a string. */
static int put_value(struct term_scan *s, struct term_bits *b, const struct segment *g,
                     const mpz_t number)
{
    switch (g->type) {
    case SEG_INTEGER:
        return put_integer(s, b, number, g->has_size ? g->size * (g->unit != 0 ? g->unit : 1) : 8,
                           g->little);
    case SEG_FLOAT:
        return put_float(s, b, g, mpz_get_d(number));
    case SEG_UTF8:
    case SEG_UTF16:
    case SEG_UTF32:
        if (mpz_sgn(number) < 0 || mpz_cmp_ui(number, 0x10ffff) > 0 ||
            (mpz_cmp_ui(number, 0xd800) >= 0 && mpz_cmp_ui(number, 0xe000) < 0)) {
            return term_scan_fail(s, BP_E_INVALID, g->at, "there is no such character");
        }
        return put_utf(s, b, g, (uint32_t)mpz_get_ui(number));
    case SEG_BYTES:
    case SEG_BITS:
        break;
    }
    return term_scan_fail(s, BP_E_INVALID, g->at,
                          "only a binary can have the type /binary or /bits");
}

static int put_segment(struct term_scan *s, struct term_bits *b, const struct segment *g)
{
    int rc = 0;

    if (g->type >= SEG_UTF8 && (g->has_size || g->unit != 0)) {
        return term_scan_fail(s, BP_E_INVALID, g->at, "the utf types have no size");
    }
    if (g->unit > 1 && g->type == SEG_BITS) {
        return term_scan_fail(s, BP_E_INVALID, g->at, "/bits has no unit but 1");
    }
    if (g->unit != 0 && !g->has_size && g->type != SEG_BYTES) {
        return term_scan_fail(s, BP_E_INVALID, g->at, "a unit needs a size");
    }
    if (g->value == TOK_OPEN_BITS) {
        return put_bits(s, b, g);
    }
    if (g->value == TOK_FLOAT) {
        return g->type == SEG_FLOAT ? put_float(s, b, g, g->real)
                                    : term_scan_fail(s, BP_E_INVALID, g->at,
                                                     "a float in a binary has the type /float");
    }
    if (g->value == TOK_INT) {
        return put_value(s, b, g, g->number);
    }
    for (size_t i = 0; rc == 0 && i < g->n_chars; i++) {
        mpz_t c;
        mpz_init_set_ui(c, g->chars[i]);
        rc = put_value(s, b, g, c);
        mpz_clear(c);
    }
    return rc;
}

/* --- the text of a segment ------------------------------------------------------------------- */

/* "a" "b" is one string. */
static int read_strings(struct term_scan *s, struct segment *g)
{
    while (s->token == TOK_STRING) {
        size_t n = g->n_chars + s->n_chars;
        uint32_t *p = realloc(g->chars, (n + 1) * sizeof(*p));
        if (p == NULL) {
            return term_scan_fail(s, BP_E_NOMEM, s->at, "out of memory");
        }
        if (s->n_chars != 0) {
            memcpy(p + g->n_chars, s->chars, s->n_chars * sizeof(*p));
        }
        g->chars = p;
        g->n_chars = n;
        term_scan_next(s);
    }
    g->value = TOK_STRING;
    return s->rc;
}

static int read_value(struct term_scan *s, struct segment *g, unsigned depth)
{
    bool minus = term_scan_is(s, '-');
    int rc;

    if (minus || term_scan_is(s, '+')) {
        term_scan_next(s);
        if (s->token != TOK_INT && s->token != TOK_CHAR && s->token != TOK_FLOAT) {
            return term_scan_unexpected(s, "a number");
        }
    }
    if (s->token == TOK_INT || s->token == TOK_CHAR) {
        g->value = TOK_INT;
        mpz_set(g->number, s->number);
        if (minus) {
            mpz_neg(g->number, g->number);
        }
    } else if (s->token == TOK_FLOAT) {
        g->value = TOK_FLOAT;
        g->real = minus ? -s->real : s->real;
    } else if (s->token == TOK_STRING) {
        return read_strings(s, g);
    } else if (s->token == TOK_OPEN_BITS && depth > 0) {
        g->value = TOK_OPEN_BITS;
        term_scan_next(s);
        return term_bits_parse(s, &g->bits, depth - 1);
    } else if (term_scan_is(s, '(') && depth > 0) {
        term_scan_next(s);
        rc = read_value(s, g, depth - 1);
        if (rc == 0 && !term_scan_is(s, ')')) {
            rc = term_scan_unexpected(s, "')'");
        }
        if (rc != 0) {
            return rc;
        }
    } else if (depth == 0 && (s->token == TOK_OPEN_BITS || term_scan_is(s, '('))) {
        return term_scan_fail(s, BP_E_LIMIT, s->at, "too many terms inside of each other");
    } else {
        return term_scan_unexpected(s, "a number, a string or '>>'");
    }
    term_scan_next(s);
    return s->rc;
}

/* A number from 0 to `max`, in parentheses or not. */
static int read_count(struct term_scan *s, size_t max, size_t *out)
{
    bool inside = term_scan_is(s, '(');

    if (inside) {
        term_scan_next(s);
    }
    if (s->token != TOK_INT && s->token != TOK_CHAR) {
        return term_scan_unexpected(s, "a size");
    }
    if (mpz_cmp_ui(s->number, max) > 0) {
        return term_scan_fail(s, BP_E_LIMIT, s->at, "this size is too large");
    }
    *out = (size_t)mpz_get_ui(s->number);
    term_scan_next(s);
    if (inside && !term_scan_is(s, ')')) {
        return term_scan_unexpected(s, "')'");
    }
    if (inside) {
        term_scan_next(s);
    }
    return s->rc;
}

/* One word behind "/": type, sign, order. */
static int read_word(struct term_scan *s, struct segment *g)
{
    static const struct {
        const char *name;
        char kind; /* type, sign, order, unit */
        int value;
    } words[] = {
        {"integer", 't', SEG_INTEGER},
        {"float", 't', SEG_FLOAT},
        {"binary", 't', SEG_BYTES},
        {"bytes", 't', SEG_BYTES},
        {"bitstring", 't', SEG_BITS},
        {"bits", 't', SEG_BITS},
        {"utf8", 't', SEG_UTF8},
        {"utf16", 't', SEG_UTF16},
        {"utf32", 't', SEG_UTF32},
        {"signed", 's', 1},
        {"unsigned", 's', 0},
        {"big", 'o', 0},
        {"little", 'o', 1},
        {"native", 'o', __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__},
        {"unit", 'u', 0},
    };
    size_t len = (size_t)(s->p - s->at);
    size_t i = 0;

    while (i < sizeof(words) / sizeof(words[0]) &&
           (s->token != TOK_ATOM || strlen(words[i].name) != len ||
            memcmp(words[i].name, s->at, len) != 0)) {
        i++;
    }
    if (i == sizeof(words) / sizeof(words[0])) {
        return term_scan_unexpected(s, "a type of the bit syntax");
    }
    if (words[i].kind == 'u') {
        term_scan_next(s);
        if (!term_scan_is(s, ':')) {
            return term_scan_unexpected(s, "':' and a number");
        }
        term_scan_next(s);
        if (s->token == TOK_INT && mpz_sgn(s->number) == 0) {
            return term_scan_fail(s, BP_E_INVALID, s->at, "a unit is 1 to 256");
        }
        return read_count(s, UNIT_MAX, &g->unit);
    }
    if (words[i].kind == 't' && !(g->has_type && g->type != (enum seg_type)words[i].value)) {
        g->has_type = true;
        g->type = (enum seg_type)words[i].value;
    } else if (words[i].kind == 'o' && !(g->has_order && g->little != words[i].value)) {
        g->has_order = true;
        g->little = words[i].value != 0;
    } else if (words[i].kind == 's' && !(g->has_sign && g->is_signed != words[i].value)) {
        g->has_sign = true; /* which does not matter when something is put together */
        g->is_signed = words[i].value != 0;
    } else {
        return term_scan_fail(s, BP_E_INVALID, s->at, "`%s` is too much here", words[i].name);
    }
    term_scan_next(s);
    return s->rc;
}

static int read_segment(struct term_scan *s, struct term_bits *out, struct segment *g,
                        unsigned depth)
{
    int rc;

    g->at = s->at;
    rc = read_value(s, g, depth);
    if (rc == 0 && term_scan_is(s, ':')) {
        term_scan_next(s);
        g->has_size = true;
        rc = read_count(s, BITS_MAX / UNIT_MAX, &g->size);
    }
    if (rc == 0 && term_scan_is(s, '/')) {
        do {
            term_scan_next(s);
            rc = read_word(s, g);
        } while (rc == 0 && term_scan_is(s, '-'));
    }
    return rc != 0 ? rc : put_segment(s, out, g);
}

int term_bits_parse(struct term_scan *s, struct term_bits *out, unsigned depth)
{
    int rc = s->rc;

    if (rc == 0 && s->token == TOK_CLOSE_BITS) {
        term_scan_next(s);
        return s->rc;
    }
    while (rc == 0) {
        struct segment g = {0};
        mpz_init(g.number);
        rc = read_segment(s, out, &g, depth);
        mpz_clear(g.number);
        free(g.chars);
        term_bits_free(&g.bits);
        if (rc == 0 && s->token == TOK_CLOSE_BITS) {
            term_scan_next(s);
            return s->rc;
        }
        if (rc == 0 && !term_scan_is(s, ',')) {
            rc = term_scan_unexpected(s, "',' or '>>'");
        }
        if (rc == 0) {
            term_scan_next(s);
        }
    }
    return rc;
}
