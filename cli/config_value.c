/* SPDX-License-Identifier: Apache-2.0 */
/* Looks into terms that were parsed from text: libei decodes, so they are well formed. */
#include "cli/config.h"

#include "cli/term_scan.h"
#include "cli/term_text.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int type_of(struct cli_value v, int *size)
{
    int type = 0;

    *size = 0;
    return ei_get_type(v.x->buff, &v.at, &type, size) == 0 ? type : 0;
}

struct cli_value cli_value_after(struct cli_value v)
{
    (void)ei_skip_term(v.x->buff, &v.at);
    return v;
}

int cli_value_tuple(struct cli_value v, struct cli_value *first)
{
    int arity;
    int size;
    int type = type_of(v, &size);

    if ((type != ERL_SMALL_TUPLE_EXT && type != ERL_LARGE_TUPLE_EXT) ||
        ei_decode_tuple_header(v.x->buff, &v.at, &arity) != 0) {
        return -1;
    }
    *first = v;
    return arity;
}

bool cli_list_begin(struct cli_list *l, struct cli_value v)
{
    int size;
    int type = type_of(v, &size);
    struct cli_value tail;

    *l = (struct cli_list){.at = v, .proper = true};
    if ((type != ERL_LIST_EXT && type != ERL_NIL_EXT) ||
        ei_decode_list_header(l->at.x->buff, &l->at.at, &l->left) != 0) {
        return false;
    }
    tail = l->at;
    for (int i = 0; i < l->left; i++) {
        tail = cli_value_after(tail);
    }
    l->proper = l->left == 0 || type_of(tail, &size) == ERL_NIL_EXT;
    return true;
}

bool cli_list_next(struct cli_list *l, struct cli_value *out)
{
    if (l->left == 0) {
        return false;
    }
    l->left--;
    *out = l->at;
    l->at = cli_value_after(l->at);
    return true;
}

bool cli_value_integer(struct cli_value v, long long *out)
{
    EI_LONGLONG n;
    int size;
    int type = type_of(v, &size);

    if ((type != ERL_SMALL_INTEGER_EXT && type != ERL_INTEGER_EXT && type != ERL_SMALL_BIG_EXT) ||
        ei_decode_longlong(v.x->buff, &v.at, &n) != 0) {
        return false;
    }
    *out = n;
    return true;
}

bool cli_value_atom(struct cli_value v, char out[static MAXATOMLEN_UTF8])
{
    return ei_decode_atom_as(v.x->buff, &v.at, out, MAXATOMLEN_UTF8, ERLANG_UTF8, NULL, NULL) == 0;
}

bool cli_value_is(struct cli_value v, const char *atom)
{
    char name[MAXATOMLEN_UTF8];

    return cli_value_atom(v, name) && strcmp(name, atom) == 0;
}

/* --- text ---------------------------------------------------------------------- */

/* A character of a text; no path, name or address holds a NUL, so neither does a text. */
static bool put_char(long c, char *out, size_t cap, size_t *n)
{
    char bytes[4];
    size_t len;

    if (c <= 0 || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) || (c >= 0xfffe && c <= 0xffff)) {
        return false;
    }
    len = term_utf8_put((uint32_t)c, bytes);
    if (cap - *n <= len) {
        return false;
    }
    memcpy(out + *n, bytes, len);
    *n += len;
    return true;
}

/* Bytes of libei's STRING_EXT are Latin-1 characters. */
static bool string_text(struct cli_value v, int size, char *out, size_t cap)
{
    char *p = malloc((size_t)size + 1);
    size_t n = 0;
    bool ok = p != NULL && ei_decode_string(v.x->buff, &v.at, p) == 0;

    for (int i = 0; ok && i < size; i++) {
        ok = put_char((unsigned char)p[i], out, cap, &n);
    }
    out[n] = '\0';
    free(p);
    return ok;
}

static bool list_text(struct cli_value v, char *out, size_t cap)
{
    struct cli_list l;
    struct cli_value e;
    size_t n = 0;
    bool ok = cli_list_begin(&l, v) && l.proper;

    while (ok && cli_list_next(&l, &e)) {
        long long c;
        ok = cli_value_integer(e, &c) && c <= 0x10ffff && put_char((long)c, out, cap, &n);
    }
    out[n] = '\0';
    return ok;
}

bool cli_value_text(struct cli_value v, char *out, size_t cap)
{
    int size;
    int type = type_of(v, &size);
    long len = 0;

    out[0] = '\0';
    if (type == ERL_STRING_EXT) {
        return string_text(v, size, out, cap);
    }
    if (type == ERL_BINARY_EXT) {
        if ((size_t)size >= cap || ei_decode_binary(v.x->buff, &v.at, out, &len) != 0) {
            out[0] = '\0';
            return false;
        }
        out[len] = '\0';
        return memchr(out, '\0', (size_t)len) == NULL;
    }
    return list_text(v, out, cap);
}

bool cli_value_ip(struct cli_value v, char out[static INET6_ADDRSTRLEN])
{
    struct cli_value e;
    int n = cli_value_tuple(v, &e);
    long long max = n == 4 ? 255 : 65535;
    uint8_t bytes[16];

    if (n != 4 && n != 8) {
        return false;
    }
    for (int i = 0; i < n; i++) {
        long long k;
        if (!cli_value_integer(e, &k) || k < 0 || k > max) {
            return false;
        }
        if (n == 4) {
            bytes[i] = (uint8_t)k;
        } else {
            bytes[2 * i] = (uint8_t)(k >> 8);
            bytes[2 * i + 1] = (uint8_t)k;
        }
        e = cli_value_after(e);
    }
    return inet_ntop(n == 4 ? AF_INET : AF_INET6, bytes, out, INET6_ADDRSTRLEN) != NULL;
}

char *cli_value_print(struct cli_value v)
{
    char *text = NULL;

    return cli_term_string(v.x, &v.at, CLI_TERM_PRETTY, &text, NULL) == 0 ? text : NULL;
}
