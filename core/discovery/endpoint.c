/* SPDX-License-Identifier: Apache-2.0 */
/* Parser and writer of endpoint files: Erlang terms by hand (WIRE 9), JSON by jansson. */
#include "discovery/endpoint.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

/* An endpoint file needs two levels and one bracket for each address. The library's own limit of
 * 2048 levels would be deep for the stack of a scheduler thread. */
#define BRACKETS_MAX 32u

struct scan {
    const char *p;
    const char *end;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Not isalnum(), which depends on the locale. */
static bool is_host_char(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == ':' || c == '-';
}

bool bp_endpoint_valid(const struct bp_endpoint *ep)
{
    size_t n = strnlen(ep->host, sizeof(ep->host));

    if (ep->port == 0 || n == 0 || n > BP_ENDPOINT_HOST_MAX) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!is_host_char(ep->host[i])) {
            return false;
        }
    }
    return true;
}

/* --- term ---------------------------------------------------------------- */

static void skip_blanks(struct scan *s)
{
    while (s->p < s->end && is_blank(*s->p)) {
        s->p++;
    }
}

/* Takes `c`, with blanks before it. */
static bool take(struct scan *s, char c)
{
    skip_blanks(s);
    if (s->p == s->end || *s->p != c) {
        return false;
    }
    s->p++;
    return true;
}

/* Host bytes and the closing quote. */
static bool take_host(struct scan *s, struct bp_endpoint *ep)
{
    size_t n = 0;

    while (s->p < s->end && is_host_char(*s->p)) {
        if (n == BP_ENDPOINT_HOST_MAX) {
            return false;
        }
        ep->host[n++] = *s->p++;
    }
    ep->host[n] = '\0';
    if (n == 0 || s->p == s->end || *s->p != '"') {
        return false;
    }
    s->p++;
    return true;
}

static bool take_port(struct scan *s, struct bp_endpoint *ep)
{
    uint32_t v = 0;

    skip_blanks(s);
    if (s->p == s->end || *s->p == '0') {
        return false;
    }
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9') {
        v = v * 10 + (uint32_t)(*s->p++ - '0');
        if (v > UINT16_MAX) {
            return false;
        }
    }
    ep->port = (uint16_t)v;
    return v != 0;
}

static bool parse_term(const char *text, size_t len, struct bp_endpoint *ep)
{
    struct scan s = {.p = text, .end = text + len};

    if (!take(&s, '{') || !take(&s, '"') || !take_host(&s, ep) || !take(&s, ',') ||
        !take_port(&s, ep) || !take(&s, '}') || !take(&s, '.')) {
        return false;
    }
    skip_blanks(&s);
    return s.p == s.end;
}

/* --- JSON ---------------------------------------------------------------- */

static bool is_flat(const char *text, size_t len)
{
    unsigned n = 0;

    for (size_t i = 0; i < len; i++) {
        n += text[i] == '{' || text[i] == '[';
    }
    return n <= BRACKETS_MAX;
}

static bool from_object(const json_t *o, struct bp_endpoint *ep)
{
    const json_t *host = json_object_get(o, "host");
    const json_t *port = json_object_get(o, "port");
    size_t n = json_string_length(host);

    if (!json_is_string(host) || !json_is_integer(port) || n > BP_ENDPOINT_HOST_MAX ||
        json_integer_value(port) < 1 || json_integer_value(port) > UINT16_MAX) {
        return false;
    }
    memcpy(ep->host, json_string_value(host), n);
    ep->host[n] = '\0';
    ep->port = (uint16_t)json_integer_value(port);
    return bp_endpoint_valid(ep);
}

static bool from_json(const json_t *root, struct bp_endpoints *out)
{
    const json_t *all = json_object_get(root, "addresses");
    size_t n = json_array_size(all);

    if (!from_object(root, &out->at[0])) {
        return false;
    }
    out->n = 1;
    if (all == NULL) {
        return true;
    }
    if (!json_is_array(all) || n == 0 || n > BP_ENDPOINTS_MAX) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!from_object(json_array_get(all, i), &out->at[i])) {
            return false;
        }
    }
    out->n = n;
    return true;
}

static int parse_json(const char *text, size_t len, struct bp_endpoints *out)
{
    json_error_t err;
    json_t *root;
    bool ok;

    if (!is_flat(text, len)) {
        return BP_E_FILE;
    }
    /* The library's own seed comes from a file. Ours need not be secret: a text is small. */
    json_object_seed(1);
    root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &err);
    if (root == NULL) {
        return json_error_code(&err) == json_error_out_of_memory ? BP_E_NOMEM : BP_E_FILE;
    }
    ok = from_json(root, out);
    json_decref(root);
    return ok ? 0 : BP_E_FILE;
}

int bp_endpoints_parse(const char *text, size_t len, struct bp_endpoints *out)
{
    int rc = BP_E_FILE;

    *out = (struct bp_endpoints){0};
    if (len == 0 || len > BP_ENDPOINT_TEXT_MAX) {
        return BP_E_FILE;
    }
    if (parse_term(text, len, &out->at[0])) {
        out->n = 1;
        return 0;
    }
    *out = (struct bp_endpoints){0};
    rc = parse_json(text, len, out);
    if (rc != 0) {
        *out = (struct bp_endpoints){0};
    }
    return rc;
}

/* --- writing ------------------------------------------------------------- */

static json_t *to_object(const struct bp_endpoint *ep)
{
    return json_pack("{s:s, s:i}", "host", ep->host, "port", (int)ep->port);
}

static json_t *to_json(const struct bp_endpoints *eps)
{
    json_t *root = to_object(&eps->at[0]);
    json_t *all;

    if (root == NULL || eps->n == 1) {
        return root;
    }
    all = json_array();
    for (size_t i = 0; i < eps->n; i++) {
        /* The _new functions take their argument, also when they fail or it is NULL. */
        if (json_array_append_new(all, to_object(&eps->at[i])) != 0) {
            json_decref(all);
            json_decref(root);
            return NULL;
        }
    }
    if (json_object_set_new(root, "addresses", all) != 0) {
        json_decref(root);
        return NULL;
    }
    return root;
}

static int format_json(const struct bp_endpoints *eps, char *buf, size_t cap)
{
    json_t *root = to_json(eps);
    size_t n;

    if (root == NULL) {
        return BP_E_NOMEM;
    }
    n = json_dumpb(root, buf, cap, JSON_PRESERVE_ORDER);
    json_decref(root);
    if (n == 0) {
        return BP_E_NOMEM;
    }
    if (n + 2 > cap) { /* line end and NUL */
        return BP_E_LIMIT;
    }
    buf[n] = '\n';
    buf[n + 1] = '\0';
    return (int)(n + 1);
}

int bp_endpoints_format(const struct bp_endpoints *eps, enum bp_endpoint_format format, char *buf,
                        size_t cap)
{
    int len;

    if (eps->n == 0 || eps->n > BP_ENDPOINTS_MAX) {
        return BP_E_INVALID;
    }
    for (size_t i = 0; i < eps->n; i++) {
        if (!bp_endpoint_valid(&eps->at[i])) {
            return BP_E_INVALID;
        }
    }
    if (format == BP_ENDPOINT_JSON) {
        return format_json(eps, buf, cap);
    }
    len = snprintf(buf, cap, "{\"%s\",%u}.\n", eps->at[0].host, (unsigned)eps->at[0].port);
    if (len < 0 || (size_t)len >= cap) {
        return BP_E_LIMIT;
    }
    return len;
}
