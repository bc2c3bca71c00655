/* SPDX-License-Identifier: Apache-2.0 */
/* Parser and writer of endpoint files (WIRE 9). */
#include "discovery/endpoint.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"

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

int bp_endpoint_parse(const char *text, size_t len, struct bp_endpoint *ep)
{
    struct scan s = {.p = text};

    *ep = (struct bp_endpoint){0};
    if (len == 0 || len > BP_ENDPOINT_TEXT_MAX) {
        return BP_E_FILE;
    }
    s.end = text + len;
    if (take(&s, '{') && take(&s, '"') && take_host(&s, ep) && take(&s, ',') && take_port(&s, ep) &&
        take(&s, '}') && take(&s, '.')) {
        skip_blanks(&s);
        if (s.p == s.end) {
            return 0;
        }
    }
    *ep = (struct bp_endpoint){0};
    return BP_E_FILE;
}

int bp_endpoint_format(const struct bp_endpoint *ep, char *buf, size_t cap)
{
    size_t n = strnlen(ep->host, sizeof(ep->host));
    int len;

    if (ep->port == 0 || n == 0 || n > BP_ENDPOINT_HOST_MAX) {
        return BP_E_INVALID;
    }
    for (size_t i = 0; i < n; i++) {
        if (!is_host_char(ep->host[i])) {
            return BP_E_INVALID;
        }
    }
    len = snprintf(buf, cap, "{\"%s\",%u}.\n", ep->host, (unsigned)ep->port);
    if (len < 0 || (size_t)len >= cap) {
        return BP_E_LIMIT;
    }
    return len;
}
