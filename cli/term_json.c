/* SPDX-License-Identifier: Apache-2.0 */
/* Terms as JSON. Each term is printed first, which checks all of its bytes (term_print.c); libei's
 * decoders may trust them afterwards. */
#include "cli/term_json.h"

#include "base/err.h"

#include <stdlib.h>
#include <string.h>

static int to_json(ei_x_buff *x, int *at, unsigned depth, json_t **out);

static int made(json_t *o, json_t **out)
{
    *out = o;
    return o != NULL ? 0 : BP_E_NOMEM;
}

/* The term's own text. */
static int as_text(ei_x_buff *x, int *at, json_t **out)
{
    char *text;
    size_t len;
    int rc = cli_term_string(x, at, CLI_TERM_PRETTY, &text, &len);

    if (rc == 0) {
        rc = made(json_stringn(text, len), out);
        free(text);
    }
    return rc;
}

static int atom_json(ei_x_buff *x, int *at, json_t **out)
{
    char name[MAXATOMLEN_UTF8];

    if (ei_decode_atom_as(x->buff, at, name, sizeof(name), ERLANG_UTF8, NULL, NULL) != 0) {
        return BP_E_INVALID;
    }
    if (strcmp(name, "true") == 0 || strcmp(name, "false") == 0) {
        return made(json_boolean(name[0] == 't'), out);
    }
    if (strcmp(name, "null") == 0 || strcmp(name, "undefined") == 0) {
        return made(json_null(), out);
    }
    return made(json_string(name), out);
}

static int binary_json(ei_x_buff *x, int *at, json_t **out)
{
    int before = *at;
    const char *p;
    unsigned offset;
    size_t bits;

    if (ei_decode_bitstring(x->buff, at, &p, &offset, &bits) != 0) {
        return BP_E_INVALID;
    }
    *out = bits % 8 == 0 ? json_stringn(p, bits / 8) : NULL;
    if (*out != NULL) {
        return 0;
    }
    *at = before; /* not UTF-8 */
    return as_text(x, at, out);
}

static int array_json(ei_x_buff *x, int *at, int n, unsigned depth, json_t **out)
{
    json_t *o = json_array();
    json_t *v;
    int rc = o != NULL ? 0 : BP_E_NOMEM;

    for (int i = 0; rc == 0 && i < n; i++) {
        rc = to_json(x, at, depth, &v);
        if (rc == 0 && json_array_append_new(o, v) != 0) {
            rc = BP_E_NOMEM;
        }
    }
    if (rc != 0) {
        json_decref(o);
        o = NULL;
    }
    *out = o;
    return rc;
}

static int string_json(ei_x_buff *x, int *at, int size, json_t **out)
{
    char *p = malloc((size_t)size + 1);
    bool plain = true;
    json_t *o;

    if (p == NULL) {
        return BP_E_NOMEM;
    }
    if (ei_decode_string(x->buff, at, p) != 0) {
        free(p);
        return BP_E_INVALID;
    }
    for (int i = 0; i < size; i++) {
        plain = plain && ((p[i] >= 32 && p[i] < 127) || p[i] == '\n' || p[i] == '\t');
    }
    o = plain ? json_stringn(p, (size_t)size) : json_array();
    for (int i = 0; !plain && o != NULL && i < size; i++) {
        if (json_array_append_new(o, json_integer((uint8_t)p[i])) != 0) {
            json_decref(o);
            o = NULL;
        }
    }
    free(p);
    return made(o, out);
}

static int list_json(ei_x_buff *x, int *at, unsigned depth, json_t **out)
{
    int before = *at;
    int type;
    int size;
    int n;
    int rc;

    (void)ei_decode_list_header(x->buff, at, &n);
    rc = array_json(x, at, n, depth, out);
    if (rc != 0) {
        return rc;
    }
    (void)ei_get_type(x->buff, at, &type, &size);
    if (type == ERL_NIL_EXT) {
        *at += 1;
        return 0;
    }
    json_decref(*out); /* what JSON has not: [a|b] */
    *at = before;
    return as_text(x, at, out);
}

/* A key as text. */
static int key_json(ei_x_buff *x, int *at, unsigned depth, json_t **out)
{
    int before = *at;
    int rc = to_json(x, at, depth, out);

    if (rc == 0 && !json_is_string(*out)) {
        json_decref(*out);
        *at = before;
        rc = as_text(x, at, out);
    }
    return rc;
}

static int map_json(ei_x_buff *x, int *at, unsigned depth, json_t **out)
{
    json_t *o = json_object();
    int n = 0;
    int rc = o != NULL ? 0 : BP_E_NOMEM;

    (void)ei_decode_map_header(x->buff, at, &n);
    for (int i = 0; rc == 0 && i < n; i++) {
        json_t *key = NULL;
        json_t *v;
        rc = key_json(x, at, depth, &key);
        if (rc == 0) {
            rc = to_json(x, at, depth, &v);
        }
        if (rc == 0 && json_object_set_new(o, json_string_value(key), v) != 0) {
            rc = BP_E_NOMEM;
        }
        json_decref(key);
    }
    if (rc != 0) {
        json_decref(o);
        o = NULL;
    }
    *out = o;
    return rc;
}

/* Of a term that has been checked. `depth` more may be inside of it. */
static int to_json(ei_x_buff *x, int *at, unsigned depth, json_t **out)
{
    int type;
    int size;
    long v;
    double d;

    *out = NULL;
    if (depth == 0) {
        return BP_E_LIMIT;
    }
    (void)ei_get_type(x->buff, at, &type, &size);
    switch (type) {
    case ERL_ATOM_EXT:
        return atom_json(x, at, out);
    case ERL_SMALL_INTEGER_EXT:
    case ERL_INTEGER_EXT:
        return ei_decode_long(x->buff, at, &v) == 0 ? made(json_integer(v), out) : BP_E_INVALID;
    case ERL_SMALL_BIG_EXT: {
        int before = *at;
        if (ei_decode_long(x->buff, at, &v) == 0) {
            return made(json_integer(v), out);
        }
        *at = before;
        return as_text(x, at, out);
    }
    case ERL_FLOAT_EXT:
        return ei_decode_double(x->buff, at, &d) == 0 ? made(json_real(d), out) : BP_E_INVALID;
    case ERL_BINARY_EXT:
        return binary_json(x, at, out);
    case ERL_STRING_EXT:
        return string_json(x, at, size, out);
    case ERL_NIL_EXT:
        *at += 1;
        return made(json_array(), out);
    case ERL_LIST_EXT:
        return list_json(x, at, depth - 1, out);
    case ERL_MAP_EXT:
        return map_json(x, at, depth - 1, out);
    default:
        return as_text(x, at, out);
    }
}

int cli_term_json(ei_x_buff *x, int *at, json_t **out)
{
    int end = *at;
    char *text;
    int rc = cli_term_string(x, &end, CLI_TERM_PLAIN, &text, NULL);

    *out = NULL;
    if (rc != 0) {
        return rc;
    }
    free(text);
    return to_json(x, at, CLI_TERM_JSON_DEPTH, out);
}
