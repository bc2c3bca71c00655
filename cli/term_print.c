/* SPDX-License-Identifier: Apache-2.0 */
/* Erlang terms from the external term format, which libei reads, to text. */
#include "cli/term_text.h"

#include "base/err.h"
#include "cli/term_put.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/*
 * libei's decoders have no length argument. Behind the term there are so many zero bytes that
 * whatever they read besides the sizes that are checked here (three atoms and some numbers at
 * most) lies within the buffer; afterwards it is seen whether they left the term.
 */
#define PAD          4096
#define FIRST_FRAMES 64

/* NEW_FUN_EXT up to the module: tag, size, arity, MD5, index, number of free variables. */
#define NEW_FUN_FIXED (1 + 4 + 1 + 16 + 4 + 4)

enum frame_kind { IN_TUPLE, IN_LIST, IN_TAIL, IN_KEY, IN_VALUE };

/* A container that is being printed. */
struct frame {
    enum frame_kind kind;
    unsigned left; /* elements, or entries of a map, that are not finished */
};

struct printer {
    FILE *f;
    const char *buf;
    int len;
    int at;
    enum cli_term_style style;
    struct frame *frames;
    unsigned n_frames;
    unsigned cap_frames;
};

/* --- atoms, numbers -------------------------------------------------------------------------- */

/* The bytes of a decoded atom of `size` bytes; it may hold NULs. */
static size_t atom_len(const char *p, size_t size, erlang_char_encoding was)
{
    size_t len = size;

    if (was == ERLANG_LATIN1) { /* each character above 127 has become two bytes */
        len = 0;
        for (size_t i = 0; i < size; i++) {
            len += (p[len] & 0x80) != 0 ? 2 : 1;
        }
    }
    return len;
}

static int print_atom(struct printer *p, int size)
{
    char name[MAXATOMLEN_UTF8 + 1];
    erlang_char_encoding was;

    if (ei_decode_atom_as(p->buf, &p->at, name, MAXATOMLEN_UTF8, ERLANG_UTF8, &was, NULL) != 0 ||
        p->at > p->len) {
        return BP_E_INVALID;
    }
    return term_put_atom(p->f, name, atom_len(name, (size_t)size, was));
}

static int print_long(struct printer *p)
{
    long v;

    if (ei_decode_long(p->buf, &p->at, &v) != 0 || p->at > p->len) {
        return BP_E_INVALID;
    }
    fprintf(p->f, "%ld", v);
    return 0;
}

static int print_big(struct printer *p, int size)
{
    erlang_big *big;
    mpz_t n;
    int rc = BP_E_INVALID;

    if (size < 0 || size > p->len - p->at) {
        return BP_E_INVALID;
    }
    if (size > CLI_TERM_BIG_MAX) {
        return BP_E_LIMIT;
    }
    big = ei_alloc_big((unsigned)size);
    if (big == NULL) {
        return BP_E_NOMEM;
    }
    if (ei_decode_big(p->buf, &p->at, big) == 0 && p->at <= p->len) {
        mpz_init(n);
        mpz_import(n, ((size_t)size + 1) / 2, -1, sizeof(unsigned short), 0, 0, big->digits);
        if (big->is_neg) {
            mpz_neg(n, n);
        }
        (void)mpz_out_str(p->f, 10, n);
        mpz_clear(n);
        rc = 0;
    }
    ei_free_big(big);
    return rc;
}

static int print_float(struct printer *p)
{
    double d;

    if (ei_decode_double(p->buf, &p->at, &d) != 0 || p->at > p->len || !isfinite(d)) {
        return BP_E_INVALID;
    }
    term_put_float(p->f, d);
    return 0;
}

/* --- identifiers, functions ------------------------------------------------------------------ */

/* "#What<" and the name of a node: without quotes, as libei prints it, but no control characters.
 */
static int put_node(FILE *f, const char *what, const char *name)
{
    const char *end = name + strlen(name);
    size_t n;

    fprintf(f, "#%s<", what);
    for (const char *p = name; p < end; p += n) {
        int32_t c = term_utf8(p, end, &n);
        if (c < 0) {
            return BP_E_INVALID;
        }
        term_put_quoted(f, (uint32_t)c, '\0');
    }
    return 0;
}

static int print_pid(struct printer *p)
{
    erlang_pid pid;

    if (ei_decode_pid(p->buf, &p->at, &pid) != 0 || p->at > p->len ||
        put_node(p->f, "Pid", pid.node) != 0) {
        return BP_E_INVALID;
    }
    fprintf(p->f, ".%u.%u>", pid.num, pid.serial);
    return 0;
}

static int print_port(struct printer *p)
{
    erlang_port port;

    if (ei_decode_port(p->buf, &p->at, &port) != 0 || p->at > p->len ||
        put_node(p->f, "Port", port.node) != 0) {
        return BP_E_INVALID;
    }
    fprintf(p->f, ".%llu>", port.id);
    return 0;
}

static int print_ref(struct printer *p)
{
    erlang_ref ref = {0};

    if (ei_decode_ref(p->buf, &p->at, &ref) != 0 || p->at > p->len || ref.len < 0 || ref.len > 5 ||
        put_node(p->f, "Ref", ref.node) != 0) {
        return BP_E_INVALID;
    }
    for (int i = ref.len - 1; i >= 0; i--) {
        fprintf(p->f, ".%u", ref.n[i]);
    }
    putc('>', p->f);
    return 0;
}

static int put_fun(FILE *f, const erlang_fun *fun)
{
    int rc;

    if (fun->type == EI_FUN_EXPORT) {
        fputs("fun ", f);
        rc = term_put_atom(f, fun->module, strlen(fun->module));
        putc(':', f);
        if (rc == 0) {
            rc = term_put_atom(f, fun->u.exprt.func, strlen(fun->u.exprt.func));
        }
        fprintf(f, "/%ld", fun->arity);
    } else {
        fputs("#Fun<", f);
        rc = term_put_atom(f, fun->module, strlen(fun->module));
        fprintf(f, ".%ld.%ld>", fun->u.closure.old_index, fun->u.closure.uniq);
    }
    return rc;
}

/* Goes behind an atom, or a number that is not a big one; false: something else is there. */
static bool skip(const struct printer *p, int *at, bool atom)
{
    int type;
    int size;

    if (*at >= p->len) {
        return false;
    }
    (void)ei_get_type(p->buf, at, &type, &size);
    if (atom) {
        return type == ERL_ATOM_EXT &&
               ei_decode_atom_as(p->buf, at, NULL, MAXATOMLEN_UTF8, ERLANG_UTF8, NULL, NULL) == 0;
    }
    return (type == ERL_SMALL_INTEGER_EXT || type == ERL_INTEGER_EXT) &&
           ei_decode_long(p->buf, at, NULL) == 0;
}

/*
 * ei_decode_fun takes big numbers of any length for small ones and reads all of them. True if its
 * atoms and numbers are what they should be.
 */
static bool fun_is_safe(const struct printer *p, int type)
{
    int at = p->at + (type == ERL_EXPORT_EXT ? 1 : NEW_FUN_FIXED);

    return type == ERL_EXPORT_EXT
               ? skip(p, &at, true) && skip(p, &at, true) && skip(p, &at, false)
               : skip(p, &at, true) && skip(p, &at, false) && skip(p, &at, false);
}

static int print_fun(struct printer *p, int type)
{
    erlang_fun fun = {0};
    int end = p->at;
    int rc;

    /* The first round copies nothing: it tells whether the second one may. */
    if (!fun_is_safe(p, type) || ei_decode_fun(p->buf, &end, NULL) != 0 || end <= p->at ||
        end > p->len || ei_decode_fun(p->buf, &p->at, &fun) != 0) {
        return BP_E_INVALID;
    }
    rc = put_fun(p->f, &fun);
    free_fun(&fun);
    return rc;
}

/* --- strings, binaries ----------------------------------------------------------------------- */

static int print_string(struct printer *p, int size)
{
    const uint8_t *b;
    char *copy;
    bool text = p->style == CLI_TERM_PRETTY;

    if (size > p->len - p->at) {
        return BP_E_INVALID;
    }
    copy = malloc((size_t)size + 1);
    if (copy == NULL) {
        return BP_E_NOMEM;
    }
    if (ei_decode_string(p->buf, &p->at, copy) != 0 || p->at > p->len) {
        free(copy);
        return BP_E_INVALID;
    }
    b = (const uint8_t *)copy;
    for (int i = 0; text && i < size; i++) {
        text = term_printable(b[i]);
    }
    putc(text ? '"' : '[', p->f);
    for (int i = 0; i < size; i++) {
        if (text) {
            term_put_quoted(p->f, b[i], '"');
        } else {
            fprintf(p->f, "%s%u", i > 0 ? "," : "", b[i]);
        }
    }
    putc(text ? '"' : ']', p->f);
    free(copy);
    return 0;
}

/* How a binary is shown between quotes; 0: not at all. */
static char text_of(const char *b, size_t n)
{
    bool ascii = true;
    bool latin1 = true;
    bool utf8 = true;
    size_t len;

    for (size_t i = 0; i < n && latin1; i++) {
        ascii = ascii && (b[i] & 0x80) == 0;
        latin1 = term_printable((uint8_t)b[i]);
    }
    for (size_t i = 0; i < n && utf8; i += len) {
        int32_t c = term_utf8(b + i, b + n, &len);
        utf8 = c >= 0 && term_printable((uint32_t)c);
    }
    return utf8 && !(ascii && latin1) ? 'u' : latin1 ? 'l' : 0;
}

static void put_text_binary(FILE *f, const char *b, size_t n, char kind)
{
    size_t len = 1;

    fputs("<<\"", f);
    for (size_t i = 0; i < n; i += len) {
        term_put_quoted(f, kind == 'u' ? (uint32_t)term_utf8(b + i, b + n, &len) : (uint8_t)b[i],
                        '"');
    }
    fputs(kind == 'u' ? "\"/utf8>>" : "\">>", f);
}

static int print_binary(struct printer *p, int size)
{
    const char *b;
    unsigned offset;
    size_t bits;
    size_t bytes;
    char kind;

    if (size < 0 || size > p->len - p->at ||
        ei_decode_bitstring(p->buf, &p->at, &b, &offset, &bits) != 0 || p->at > p->len ||
        offset != 0 || bits > 8 * (size_t)size) {
        return BP_E_INVALID;
    }
    bytes = bits / 8;
    kind = p->style == CLI_TERM_PRETTY && bits > 0 && bits % 8 == 0 ? text_of(b, bytes) : 0;
    if (kind != 0) {
        put_text_binary(p->f, b, bytes, kind);
        return 0;
    }
    fputs("<<", p->f);
    for (size_t i = 0; i < bytes; i++) {
        fprintf(p->f, "%s%u", i > 0 ? "," : "", (uint8_t)b[i]);
    }
    if (bits % 8 != 0) {
        fprintf(p->f, "%s%u:%u", bytes > 0 ? "," : "", (uint8_t)b[bytes] >> (8 - bits % 8),
                (unsigned)(bits % 8));
    }
    fputs(">>", p->f);
    return 0;
}

/* --- containers ------------------------------------------------------------------------------ */

static int push(struct printer *p, enum frame_kind kind, int n)
{
    if (n < 0 || n > p->len - p->at) { /* each element has a byte at least */
        return BP_E_INVALID;
    }
    if (p->n_frames == p->cap_frames) {
        unsigned cap = p->cap_frames != 0 ? 2 * p->cap_frames : FIRST_FRAMES;
        struct frame *f;
        if (cap > CLI_TERM_PRINT_DEPTH) {
            return BP_E_LIMIT;
        }
        f = realloc(p->frames, cap * sizeof(*f));
        if (f == NULL) {
            return BP_E_NOMEM;
        }
        p->frames = f;
        p->cap_frames = cap;
    }
    p->frames[p->n_frames].kind = kind;
    p->frames[p->n_frames].left = (unsigned)n;
    p->n_frames++;
    return 0;
}

/* The character at `*at`, which goes behind it; -1: something else. */
static int32_t char_at(const struct printer *p, int *at)
{
    int type;
    int size;
    long v;

    if (*at >= p->len) {
        return -1;
    }
    (void)ei_get_type(p->buf, at, &type, &size);
    if ((type != ERL_SMALL_INTEGER_EXT && type != ERL_INTEGER_EXT) ||
        ei_decode_long(p->buf, at, &v) != 0 || *at > p->len || v < 0 || v > 0x10ffff ||
        !term_printable((uint32_t)v)) {
        return -1;
    }
    return (int32_t)v;
}

/* Prints a list of `n` printable characters as a string; false: it is something else. */
static bool print_chars(struct printer *p, int n)
{
    int at = p->at;
    int type;
    int size;

    for (int i = 0; i < n; i++) {
        if (char_at(p, &at) < 0) {
            return false;
        }
    }
    (void)ei_get_type(p->buf, &at, &type, &size);
    if (at >= p->len || type != ERL_NIL_EXT) {
        return false;
    }
    at = p->at;
    putc('"', p->f);
    for (int i = 0; i < n; i++) {
        term_put_quoted(p->f, (uint32_t)char_at(p, &at), '"');
    }
    putc('"', p->f);
    p->at = at + 1; /* the end of the list is one byte */
    return true;
}

static int open_list(struct printer *p)
{
    int n;
    int rc;

    if (ei_decode_list_header(p->buf, &p->at, &n) != 0 || p->at > p->len) {
        return BP_E_INVALID;
    }
    if (n <= 0) { /* libei has no such lists */
        return BP_E_INVALID;
    }
    if (p->style == CLI_TERM_PRETTY && print_chars(p, n)) {
        return 0;
    }
    rc = push(p, IN_LIST, n);
    putc('[', p->f);
    return rc;
}

static int open_tuple(struct printer *p)
{
    int n;
    int rc;

    if (ei_decode_tuple_header(p->buf, &p->at, &n) != 0 || p->at > p->len) {
        return BP_E_INVALID;
    }
    rc = push(p, IN_TUPLE, n);
    putc('{', p->f);
    return rc;
}

static int open_map(struct printer *p)
{
    int n;
    int rc;

    if (ei_decode_map_header(p->buf, &p->at, &n) != 0 || p->at > p->len) {
        return BP_E_INVALID;
    }
    rc = push(p, IN_KEY, n);
    fputs("#{", p->f);
    return rc;
}

/* The elements are through: what is there is the end, or what stands behind the "|". */
static int list_tail(struct printer *p, struct frame *top)
{
    int type;
    int size;
    int at = p->at;
    int n;

    if (at >= p->len) {
        return BP_E_INVALID;
    }
    (void)ei_get_type(p->buf, &at, &type, &size);
    if (type == ERL_NIL_EXT) {
        p->at++;
        putc(']', p->f);
        p->n_frames--;
        return 0;
    }
    if (type == ERL_LIST_EXT) { /* another encoding of one list */
        if (ei_decode_list_header(p->buf, &p->at, &n) != 0 || p->at > p->len || n <= 0 ||
            n > p->len - p->at) {
            return BP_E_INVALID;
        }
        top->left = (unsigned)n;
        putc(',', p->f);
        return 0;
    }
    top->kind = IN_TAIL;
    top->left = 1;
    putc('|', p->f);
    return 0;
}

/* After a term: marks of the open containers, up to the place of the next term. */
static int go_on(struct printer *p, bool opened)
{
    int rc = 0;

    while (rc == 0 && p->n_frames > 0) {
        struct frame *top = &p->frames[p->n_frames - 1];
        if (!opened) {
            if (top->kind == IN_KEY) {
                top->kind = IN_VALUE;
                fputs(" => ", p->f);
                return 0;
            }
            top->kind = top->kind == IN_VALUE ? IN_KEY : top->kind;
            top->left--;
        }
        if (top->left > 0) {
            if (!opened) {
                putc(',', p->f);
            }
            return 0;
        }
        if (top->kind == IN_LIST) {
            unsigned depth = p->n_frames;
            rc = list_tail(p, top);
            if (p->n_frames == depth) {
                return rc;
            }
        } else {
            putc(top->kind == IN_TAIL ? ']' : '}', p->f);
            p->n_frames--;
        }
        opened = false;
    }
    return rc;
}

static int print_one(struct printer *p)
{
    int type;
    int size;

    if (p->at >= p->len) {
        return BP_E_INVALID;
    }
    (void)ei_get_type(p->buf, &p->at, &type, &size);
    switch (type) {
    case ERL_ATOM_EXT:
        return print_atom(p, size);
    case ERL_SMALL_INTEGER_EXT:
    case ERL_INTEGER_EXT:
        return print_long(p);
    case ERL_SMALL_BIG_EXT:
    case ERL_LARGE_BIG_EXT:
        return print_big(p, size);
    case ERL_FLOAT_EXT:
        return print_float(p);
    case ERL_STRING_EXT:
        return print_string(p, size);
    case ERL_NIL_EXT:
        p->at++;
        fputs("[]", p->f);
        return 0;
    case ERL_BINARY_EXT:
    case ERL_BIT_BINARY_EXT:
        return print_binary(p, size);
    case ERL_LIST_EXT:
        return open_list(p);
    case ERL_SMALL_TUPLE_EXT:
    case ERL_LARGE_TUPLE_EXT:
        return open_tuple(p);
    case ERL_MAP_EXT:
        return open_map(p);
    case ERL_PID_EXT:
        return print_pid(p);
    case ERL_PORT_EXT:
    case ERL_V4_PORT_EXT:
        return print_port(p);
    case ERL_REFERENCE_EXT:
    case ERL_NEW_REFERENCE_EXT:
        return print_ref(p);
    case ERL_NEW_FUN_EXT:
    case ERL_EXPORT_EXT:
        return print_fun(p, type);
    default:
        return BP_E_INVALID;
    }
}

int cli_term_pad(ei_x_buff *x)
{
    static const char zeros[PAD];

    if (x->index > INT_MAX - PAD - 1024) {
        return BP_E_NOMEM;
    }
    if (ei_x_append_buf(x, zeros, PAD) != 0) {
        return BP_E_NOMEM;
    }
    x->index -= PAD;
    return 0;
}

int cli_term_print(FILE *f, ei_x_buff *x, int *at, enum cli_term_style style)
{
    struct printer p = {.f = f, .at = *at, .len = x->index, .style = style};
    int rc = 0;

    if (p.at < 0 || p.len < p.at) {
        return BP_E_INVALID;
    }
    if (cli_term_pad(x) != 0) {
        return BP_E_NOMEM;
    }
    p.buf = x->buff;
    do {
        unsigned depth = p.n_frames;
        rc = print_one(&p);
        if (rc == 0) {
            rc = go_on(&p, p.n_frames > depth);
        }
    } while (rc == 0 && p.n_frames > 0);
    free(p.frames);
    if (rc == 0) {
        *at = p.at;
    }
    return rc;
}

int cli_term_string(ei_x_buff *x, int *at, enum cli_term_style style, char **out, size_t *out_len)
{
    size_t len = 0;
    FILE *f;
    int rc;

    *out = NULL;
    f = open_memstream(out, &len);
    if (f == NULL) {
        return BP_E_NOMEM;
    }
    rc = cli_term_print(f, x, at, style);
    if (fclose(f) != 0 && rc == 0) {
        rc = BP_E_NOMEM;
    }
    if (rc != 0) {
        free(*out);
        *out = NULL;
    } else if (out_len != NULL) {
        *out_len = len;
    }
    return rc;
}
