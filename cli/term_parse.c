/* SPDX-License-Identifier: Apache-2.0 */
/* Erlang terms from text to the external term format, which libei writes. */
#include "cli/term_text.h"

#include "base/err.h"
#include "cli/term_bits.h"
#include "cli/term_scan.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define ATOM_CHARS   255
#define SMALL_TUPLE  255
#define SMALL_HEADER 2 /* bytes of the header of a tuple of up to SMALL_TUPLE elements */
#define LARGE_HEADER 5 /* bytes of any other header of tuple, list, map */

struct parser {
    struct term_scan scan;
    ei_x_buff *x;
    int start;      /* of the term in `x` */
    unsigned depth; /* containers that are open */
    unsigned keys;  /* keys of maps that are open */
};

static int parse_term(struct parser *ps);

static int no_memory(struct parser *ps)
{
    return term_scan_fail(&ps->scan, BP_E_NOMEM, ps->scan.at, "out of memory");
}

/* --- what has no parts ----------------------------------------------------------------------- */

/* The word's characters as UTF-8, NUL-terminated; NULL: reported. */
static char *chars_utf8(struct parser *ps, size_t *len)
{
    char *out = malloc(4 * ps->scan.n_chars + 1);

    if (out == NULL) {
        (void)no_memory(ps);
        return NULL;
    }
    *len = 0;
    for (size_t i = 0; i < ps->scan.n_chars; i++) {
        *len += term_utf8_put(ps->scan.chars[i], out + *len);
    }
    out[*len] = '\0';
    return out;
}

static int parse_atom(struct parser *ps)
{
    size_t len;
    char *text;
    int rc;

    if (ps->scan.n_chars > ATOM_CHARS) {
        return term_scan_fail(&ps->scan, BP_E_INVALID, ps->scan.at,
                              "an atom has at most %d characters", ATOM_CHARS);
    }
    text = chars_utf8(ps, &len);
    if (text == NULL) {
        return ps->scan.rc;
    }
    rc = ei_x_encode_atom_len_as(ps->x, text, (int)len, ERLANG_UTF8, ERLANG_UTF8);
    free(text);
    if (rc != 0) {
        return no_memory(ps);
    }
    term_scan_next(&ps->scan);
    return ps->scan.rc;
}

static int put_integer(struct parser *ps, const mpz_t n)
{
    erlang_big *big;
    size_t bytes = (mpz_sizeinbase(n, 2) + 7) / 8;
    int rc;

    if (mpz_fits_sint_p(n)) {
        return ei_x_encode_long(ps->x, mpz_get_si(n)) == 0 ? 0 : no_memory(ps);
    }
    big = ei_alloc_big((unsigned)bytes);
    if (big == NULL) {
        return no_memory(ps);
    }
    big->is_neg = mpz_sgn(n) < 0;
    (void)mpz_export(big->digits, NULL, -1, sizeof(unsigned short), 0, 0, n);
    rc = ei_x_encode_big(ps->x, big);
    ei_free_big(big);
    return rc == 0 ? 0 : no_memory(ps);
}

static int parse_number(struct parser *ps)
{
    struct term_scan *s = &ps->scan;
    bool minus = term_scan_is(s, '-');
    int rc;

    if (minus || term_scan_is(s, '+')) {
        term_scan_next(s);
    }
    if (s->token == TOK_FLOAT) {
        rc = ei_x_encode_double(ps->x, minus ? -s->real : s->real) == 0 ? 0 : no_memory(ps);
    } else if (s->token == TOK_INT || s->token == TOK_CHAR) {
        if (minus) {
            mpz_neg(s->number, s->number);
        }
        rc = put_integer(ps, s->number);
    } else {
        return term_scan_unexpected(s, "a number");
    }
    if (rc == 0) {
        term_scan_next(s);
        rc = s->rc;
    }
    return rc;
}

static int parse_binary(struct parser *ps)
{
    struct term_bits b = {0};
    int rc;

    term_scan_next(&ps->scan);
    rc = term_bits_parse(&ps->scan, &b, CLI_TERM_PARSE_DEPTH - ps->depth);
    if (rc == 0) {
        const char *p = b.data != NULL ? (const char *)b.data : "";
        rc = b.n_bits % 8 == 0 ? ei_x_encode_binary(ps->x, p, (int)(b.n_bits / 8))
                               : ei_x_encode_bitstring(ps->x, p, 0, b.n_bits);
        rc = rc == 0 ? 0 : no_memory(ps);
    }
    term_bits_free(&b);
    return rc;
}

/* fun Module:Function/Arity, behind "fun". */
static int parse_fun(struct parser *ps)
{
    struct term_scan *s = &ps->scan;
    erlang_fun f = {0};
    char names[2][4 * ATOM_CHARS + 1];

    term_scan_next(s);
    for (int i = 0; i < 2; i++) {
        size_t len;
        char *text;
        if (s->token != TOK_ATOM || s->n_chars > ATOM_CHARS) {
            return term_scan_unexpected(s, i == 0 ? "a module" : "a function");
        }
        text = chars_utf8(ps, &len);
        if (text == NULL) {
            return s->rc;
        }
        if (strlen(text) != len) {
            free(text);
            return term_scan_unexpected(s, "a name without NUL");
        }
        memcpy(names[i], text, len + 1);
        free(text);
        term_scan_next(s);
        if (!term_scan_is(s, i == 0 ? ':' : '/')) {
            return term_scan_unexpected(s, i == 0 ? "':' and a function" : "'/' and an arity");
        }
        term_scan_next(s);
    }
    if (s->token != TOK_INT || mpz_cmp_ui(s->number, 255) > 0) {
        return term_scan_unexpected(s, "an arity of 0 to 255");
    }
    f.type = EI_FUN_EXPORT;
    f.arity = mpz_get_si(s->number);
    memcpy(f.module, names[0], strlen(names[0]) + 1);
    f.u.exprt.func = names[1];
    if (ei_x_encode_fun(ps->x, &f) != 0) {
        return no_memory(ps);
    }
    term_scan_next(s);
    return s->rc;
}

/* --- what stands between elements ------------------------------------------------------------ */

/* Whether one more element comes: takes the comma. */
static bool comma(struct term_scan *s)
{
    if (!term_scan_is(s, ',')) {
        return false;
    }
    term_scan_next(s);
    return true;
}

/* Behind the last element: takes the bracket, or says that it is missing. */
static int end_of_elements(struct term_scan *s, char bracket)
{
    char wanted[] = "',' or '?'";

    if (!term_scan_is(s, bracket)) {
        wanted[8] = bracket;
        return term_scan_unexpected(s, wanted);
    }
    term_scan_next(s);
    return s->rc;
}

/* --- lists and strings ----------------------------------------------------------------------- */

static int put_string(struct parser *ps, const uint32_t *chars, size_t n)
{
    bool bytes = true;
    int rc = 0;

    for (size_t i = 0; i < n; i++) {
        bytes = bytes && chars[i] < 256;
    }
    if (n > CLI_TERM_MAX / 8) {
        return term_scan_fail(&ps->scan, BP_E_LIMIT, ps->scan.at, "this string is too long");
    }
    if (bytes) { /* libei makes a list of it where it is too long for a string */
        char *p = malloc(n + 1);
        if (p == NULL) {
            return no_memory(ps);
        }
        for (size_t i = 0; i < n; i++) {
            p[i] = (char)chars[i];
        }
        rc = ei_x_encode_string_len(ps->x, p, (int)n);
        free(p);
    } else {
        rc = ei_x_encode_list_header(ps->x, (long)n);
        for (size_t i = 0; rc == 0 && i < n; i++) {
            rc = ei_x_encode_long(ps->x, (long)chars[i]);
        }
        rc = rc == 0 ? ei_x_encode_empty_list(ps->x) : rc;
    }
    return rc == 0 ? 0 : no_memory(ps);
}

/* "a" "b" is one string. */
static int parse_string(struct parser *ps)
{
    struct term_scan *s = &ps->scan;
    uint32_t *all = NULL;
    size_t n = 0;
    int rc;

    while (s->token == TOK_STRING) {
        uint32_t *p = realloc(all, (n + s->n_chars + 1) * sizeof(*p));
        if (p == NULL) {
            free(all);
            return no_memory(ps);
        }
        all = p;
        if (s->n_chars != 0) {
            memcpy(all + n, s->chars, s->n_chars * sizeof(*p));
        }
        n += s->n_chars;
        term_scan_next(s);
    }
    rc = s->rc != 0 ? s->rc : put_string(ps, all, n);
    free(all);
    return rc;
}

static void type_at(const struct parser *ps, int at, int *type, int *size)
{
    (void)ei_get_type(ps->x->buff, &at, type, size);
}

static void remove_bytes(ei_x_buff *x, int at, int n)
{
    memmove(x->buff + at, x->buff + at + n, (size_t)(x->index - at - n));
    x->index -= n;
}

/* Writes the `n` small integers behind the header at `at` as the VM does, as a string. */
static int shorten(struct parser *ps, int at, size_t n)
{
    char *p = malloc(n);
    int from = at + LARGE_HEADER;
    int rc;

    if (p == NULL) {
        return no_memory(ps);
    }
    for (size_t i = 0; i < n; i++) {
        long v = 0;
        (void)ei_decode_long(ps->x->buff, &from, &v);
        p[i] = (char)v;
    }
    ps->x->index = at;
    rc = ei_x_encode_string_len(ps->x, p, (int)n);
    free(p);
    return rc == 0 ? 0 : no_memory(ps);
}

/*
 * What is behind "|" is at `tail`. A list there becomes a part of this one, so that equal terms
 * have equal bytes; `*closed` is set where its end is there already.
 */
static int join_tail(struct parser *ps, int tail, size_t *n, bool *closed)
{
    int type;
    int size;

    type_at(ps, tail, &type, &size);
    *closed = true;
    if (type == ERL_NIL_EXT) {
        return 0;
    }
    if (type == ERL_LIST_EXT) {
        remove_bytes(ps->x, tail, LARGE_HEADER);
        *n += (size_t)size;
    } else if (type == ERL_STRING_EXT) {
        char *p = malloc((size_t)size + 1);
        int at = tail;
        int rc = p != NULL ? ei_decode_string(ps->x->buff, &at, p) : -1;
        ps->x->index = tail;
        for (int i = 0; rc == 0 && i < size; i++) {
            rc = ei_x_encode_long(ps->x, (unsigned char)p[i]);
        }
        free(p);
        *n += (size_t)size;
        rc = rc == 0 ? ei_x_encode_empty_list(ps->x) : rc;
        return rc == 0 ? 0 : no_memory(ps);
    }
    return 0;
}

/* Elements and perhaps a tail, up to the "]" and behind it. */
static int parse_elements(struct parser *ps, size_t *n, bool *bytes, bool *closed)
{
    struct term_scan *s = &ps->scan;
    int rc = 0;

    while (rc == 0) {
        int at = ps->x->index;
        int type;
        int size;
        rc = parse_term(ps);
        if (rc != 0) {
            return rc;
        }
        type_at(ps, at, &type, &size);
        *bytes = *bytes && type == ERL_SMALL_INTEGER_EXT;
        *n += 1;
        if (!comma(s)) {
            break;
        }
    }
    if (term_scan_is(s, '|')) {
        int tail = ps->x->index;
        int type;
        int size;
        term_scan_next(s);
        rc = parse_term(ps);
        if (rc != 0) {
            return rc;
        }
        type_at(ps, tail, &type, &size);
        *bytes = *bytes && (type == ERL_STRING_EXT || type == ERL_NIL_EXT);
        rc = join_tail(ps, tail, n, closed);
    }
    return rc == 0 ? end_of_elements(s, ']') : rc;
}

static int parse_list(struct parser *ps)
{
    int at = ps->x->index;
    bool bytes = true;
    bool closed = false;
    size_t n = 0;
    int rc;

    term_scan_next(&ps->scan);
    if (term_scan_is(&ps->scan, ']')) {
        term_scan_next(&ps->scan);
        if (ps->scan.rc != 0) {
            return ps->scan.rc;
        }
        return ei_x_encode_empty_list(ps->x) == 0 ? 0 : no_memory(ps);
    }
    if (ei_x_encode_list_header(ps->x, 1) != 0) {
        return no_memory(ps);
    }
    rc = parse_elements(ps, &n, &bytes, &closed);
    if (rc != 0) {
        return rc;
    }
    if (bytes && n <= 65535) {
        return shorten(ps, at, n);
    }
    if (!closed && ei_x_encode_empty_list(ps->x) != 0) {
        return no_memory(ps);
    }
    (void)ei_encode_list_header(ps->x->buff, &at, (int)n); /* of the same length as the first one */
    return 0;
}

/* --- tuples ---------------------------------------------------------------------------------- */

static int parse_tuple(struct parser *ps)
{
    struct term_scan *s = &ps->scan;
    ei_x_buff *x = ps->x;
    int at = x->index;
    long n = 0;
    int rc = 0;

    term_scan_next(s);
    if (ei_x_encode_tuple_header(x, 0) != 0) {
        return no_memory(ps);
    }
    while (rc == 0 && !(n == 0 && term_scan_is(s, '}'))) {
        rc = parse_term(ps);
        n++;
        if (rc == 0 && !comma(s)) {
            break;
        }
    }
    if (rc == 0) {
        rc = end_of_elements(s, '}');
    }
    if (rc == 0 && n > SMALL_TUPLE) {
        int more = LARGE_HEADER - SMALL_HEADER;
        if (ei_x_append_buf(x, "\0\0\0", more) != 0) {
            return no_memory(ps);
        }
        memmove(x->buff + at + LARGE_HEADER, x->buff + at + SMALL_HEADER,
                (size_t)(x->index - at - LARGE_HEADER));
    }
    if (rc == 0) {
        (void)ei_encode_tuple_header(x->buff, &at, (int)n);
    }
    return rc;
}

/* --- maps ------------------------------------------------------------------------------------ */

struct entry {
    int at;
    int key_len;
    int len;
    const char *base; /* for sorting */
};

static int by_key(const void *a, const void *b)
{
    const struct entry *l = a;
    const struct entry *r = b;
    int min = l->key_len < r->key_len ? l->key_len : r->key_len;
    int d = memcmp(l->base + l->at, r->base + r->at, (size_t)min);

    d = d != 0 ? d : (l->key_len > r->key_len) - (l->key_len < r->key_len);
    return d != 0 ? d : (l->at > r->at) - (l->at < r->at);
}

static int by_place(const void *a, const void *b)
{
    const struct entry *l = a;
    const struct entry *r = b;

    return (l->at > r->at) - (l->at < r->at);
}

/*
 * Of entries with equal keys the last one stays; a VM would refuse the message. Keys that are maps
 * are sorted, so that equal ones have equal bytes.
 */
static int finish_map(struct parser *ps, int at, struct entry *e, size_t n)
{
    int from = at + LARGE_HEADER;
    int len = ps->x->index - from;
    char *copy = malloc((size_t)len + 1);
    size_t kept = 0;

    if (copy == NULL) {
        return no_memory(ps);
    }
    memcpy(copy, ps->x->buff + from, (size_t)len);
    for (size_t i = 0; i < n; i++) {
        e[i].at -= from;
        e[i].base = copy;
    }
    qsort(e, n, sizeof(*e), by_key);
    for (size_t i = 0; i < n; i++) {
        bool last = i + 1 == n || e[i].key_len != e[i + 1].key_len ||
                    memcmp(copy + e[i].at, copy + e[i + 1].at, (size_t)e[i].key_len) != 0;
        if (last) {
            e[kept++] = e[i];
        }
    }
    if (ps->keys == 0) {
        qsort(e, kept, sizeof(*e), by_place);
    }
    ps->x->index = from;
    for (size_t i = 0; i < kept; i++) {
        memcpy(ps->x->buff + ps->x->index, copy + e[i].at, (size_t)e[i].len);
        ps->x->index += e[i].len;
    }
    free(copy);
    (void)ei_encode_map_header(ps->x->buff, &at, (int)kept);
    return 0;
}

static int parse_entry(struct parser *ps, struct entry *e)
{
    struct term_scan *s = &ps->scan;
    int rc;

    e->at = ps->x->index;
    ps->keys++;
    rc = parse_term(ps);
    ps->keys--;
    if (rc == 0 && s->token != TOK_ARROW) {
        rc = term_scan_unexpected(s, "'=>'");
    }
    if (rc == 0) {
        e->key_len = ps->x->index - e->at;
        term_scan_next(s);
        rc = parse_term(ps);
        e->len = ps->x->index - e->at;
    }
    return rc;
}

static int parse_entries(struct parser *ps, struct entry **e, size_t *n)
{
    struct term_scan *s = &ps->scan;
    size_t cap = 0;
    int rc = 0;

    while (rc == 0 && !(*n == 0 && term_scan_is(s, '}'))) {
        if (*n == cap) {
            struct entry *p = realloc(*e, (cap != 0 ? 2 * cap : 8) * sizeof(*p));
            if (p == NULL) {
                return no_memory(ps);
            }
            *e = p;
            cap = cap != 0 ? 2 * cap : 8;
        }
        rc = parse_entry(ps, &(*e)[*n]);
        *n += 1;
        if (rc == 0 && !comma(s)) {
            break;
        }
    }
    if (rc == 0) {
        rc = end_of_elements(s, '}');
    }
    return rc;
}

static int parse_map(struct parser *ps)
{
    struct term_scan *s = &ps->scan;
    int at = ps->x->index;
    struct entry *e = NULL;
    size_t n = 0;
    int rc;

    term_scan_next(s);
    if (s->token == TOK_ATOM) {
        return term_scan_fail(s, BP_E_INVALID, s->at,
                              "a record cannot be written here: write the tuple {%.*s, ...}",
                              (int)(s->p - s->at < 60 ? s->p - s->at : 60), s->at);
    }
    if (!term_scan_is(s, '{')) {
        return term_scan_unexpected(s, "'{' of a map");
    }
    term_scan_next(s);
    if (ei_x_encode_map_header(ps->x, 0) != 0) {
        return no_memory(ps);
    }
    rc = parse_entries(ps, &e, &n);
    if (rc == 0 && n > 0) {
        rc = finish_map(ps, at, e, n);
    }
    free(e);
    return rc;
}

/* --- all of them ----------------------------------------------------------------------------- */

static int parse_parentheses(struct parser *ps)
{
    int rc;

    term_scan_next(&ps->scan);
    rc = parse_term(ps);
    if (rc == 0 && !term_scan_is(&ps->scan, ')')) {
        rc = term_scan_unexpected(&ps->scan, "')'");
    }
    if (rc == 0) {
        term_scan_next(&ps->scan);
        rc = ps->scan.rc;
    }
    return rc;
}

static int parse_container(struct parser *ps)
{
    int rc;

    if (ps->depth == CLI_TERM_PARSE_DEPTH) {
        return term_scan_fail(&ps->scan, BP_E_LIMIT, ps->scan.at,
                              "more than %d terms inside of each other", CLI_TERM_PARSE_DEPTH);
    }
    ps->depth++;
    if (ps->scan.token == TOK_OPEN_BITS) {
        rc = parse_binary(ps);
    } else if (term_scan_is(&ps->scan, '{')) {
        rc = parse_tuple(ps);
    } else if (term_scan_is(&ps->scan, '[')) {
        rc = parse_list(ps);
    } else if (term_scan_is(&ps->scan, '#')) {
        rc = parse_map(ps);
    } else {
        rc = parse_parentheses(ps);
    }
    ps->depth--;
    return rc;
}

/* The term that begins with the present word; the word behind it is the present one afterwards. */
static int parse_term(struct parser *ps)
{
    struct term_scan *s = &ps->scan;
    int rc;

    if (s->token == TOK_ATOM) {
        rc = parse_atom(ps);
    } else if (s->token == TOK_STRING) {
        rc = parse_string(ps);
    } else if (s->token == TOK_INT || s->token == TOK_CHAR || s->token == TOK_FLOAT ||
               term_scan_is(s, '-') || term_scan_is(s, '+')) {
        rc = parse_number(ps);
    } else if (s->token == TOK_RESERVED && s->p - s->at == 3 && memcmp(s->at, "fun", 3) == 0) {
        rc = parse_fun(ps);
    } else if (s->token == TOK_OPEN_BITS || (s->token == TOK_OTHER && strchr("{[#(", s->mark))) {
        rc = parse_container(ps);
    } else {
        rc = term_scan_unexpected(s, "a term");
    }
    if (rc == 0 && ps->x->index - ps->start > CLI_TERM_MAX) {
        rc = term_scan_fail(s, BP_E_LIMIT, s->at, "the term is too large");
    }
    return rc;
}

int cli_term_parse(const char *text, size_t len, enum cli_term_end end, ei_x_buff *x,
                   struct cli_term_err *err)
{
    struct parser ps = {.x = x, .start = x->index};
    struct term_scan *s = &ps.scan;
    int rc;

    term_scan_init(s, text, len, err);
    if (len > CLI_TERM_MAX || x->index > INT_MAX - 2 * CLI_TERM_MAX) {
        rc = term_scan_fail(s, BP_E_LIMIT, text, "the text is too long");
    } else {
        term_scan_next(s);
        rc = s->rc != 0 ? s->rc : parse_term(&ps);
    }
    if (rc == 0 && s->token == TOK_DOT) {
        term_scan_next(s);
        rc = s->rc;
    } else if (rc == 0 && end == CLI_TERM_FILE) {
        rc = term_scan_unexpected(s, "a full stop");
    }
    if (rc == 0 && s->token != TOK_END) {
        rc = term_scan_unexpected(s, "the end of the text");
    }
    if (rc != 0 && x->buff != NULL) {
        x->index = ps.start;
    }
    term_scan_free(s);
    return rc;
}
