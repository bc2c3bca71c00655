/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/relay_url.h"

#include <stdbool.h>
#include <string.h>

#define SOCKS_PORT 1080u
#define MTU_MIN    1200u
#define MTU_MAX    65507u

static int bad(const char **why, const char *text)
{
    *why = text;
    return BP_E_INVALID;
}

/* Digits up to `end`; false: others, or more than `max`. */
static bool number(const char *p, const char *end, uint32_t max, uint32_t *out)
{
    uint32_t n = 0;

    if (p == end) {
        return false;
    }
    for (; p < end; p++) {
        if (*p < '0' || *p > '9') {
            return false;
        }
        n = n * 10 + (uint32_t)(*p - '0');
        if (n > max) {
            return false;
        }
    }
    *out = n;
    return true;
}

static int digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* RFC 3986, 2.1. */
static int user(const char *p, const char *end, struct cli_relay_url *out, const char **why)
{
    size_t n = 0;

    if (memchr(p, ':', (size_t)(end - p)) != NULL) {
        return bad(why, "a password on the command line is seen by other users: it goes into "
                        "$BARREL_P2P_RELAY_PASSWORD or a file (--relay-secret)");
    }
    for (; p < end; p++) {
        int c = (unsigned char)*p;
        if (c == '%') {
            if (end - p < 3 || digit(p[1]) < 0 || digit(p[2]) < 0) {
                return bad(why, "behind a % in the user's name come two hex digits");
            }
            c = digit(p[1]) * 16 + digit(p[2]);
            p += 2;
        }
        if (c == 0 || n == CLI_RELAY_USER_MAX) {
            return bad(why, "the user's name has 1 to 255 bytes, and no NUL");
        }
        out->user[n++] = (char)c;
    }
    return n > 0 ? 0 : bad(why, "there is an @ and no user's name before it");
}

static int options(const char *p, struct cli_relay_url *out, const char **why)
{
    if (strncmp(p, "mtu=", 4) != 0 || !number(p + 4, p + strlen(p), MTU_MAX, &out->mtu) ||
        out->mtu < MTU_MIN) {
        return bad(why, "behind the ? comes mtu=N, with N from 1200 to 65507");
    }
    return 0;
}

/* Letters that names and addresses have. */
static bool host_ok(const char *p, size_t len, bool brackets)
{
    if (len == 0 || len > CLI_RELAY_HOST_MAX) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        bool alnum = (p[i] >= 'a' && p[i] <= 'z') || (p[i] >= 'A' && p[i] <= 'Z') ||
                     (p[i] >= '0' && p[i] <= '9');
        if (!alnum && strchr(brackets ? ":.%-_" : ".-_", p[i]) == NULL) {
            return false;
        }
    }
    return true;
}

static int host_and_port(const char *p, const char *end, struct cli_relay_url *out,
                         const char **why)
{
    const char *host = p;
    const char *host_end;
    uint32_t port = out->scheme == CLI_RELAY_SOCKS5 ? SOCKS_PORT : 0;
    bool brackets = p < end && *p == '[';

    if (brackets) {
        host = p + 1;
        host_end = memchr(host, ']', (size_t)(end - host));
        p = host_end != NULL ? host_end + 1 : end;
    } else {
        host_end = memchr(p, ':', (size_t)(end - p));
        host_end = host_end != NULL ? host_end : end;
        p = host_end;
    }
    if (host_end == NULL || !host_ok(host, (size_t)(host_end - host), brackets)) {
        return bad(why, "wanted is udp://HOST:PORT or socks5://[USER@]HOST:PORT, with an IPv6 "
                        "address in brackets");
    }
    if (p < end && (*p != ':' || !number(p + 1, end, 65535, &port))) {
        return bad(why, "behind the host comes a port, 1 to 65535");
    }
    if (port == 0) {
        return bad(why, "the relay's port is missing");
    }
    memcpy(out->host, host, (size_t)(host_end - host));
    out->host[host_end - host] = '\0';
    out->port = (uint16_t)port;
    return 0;
}

static int parse(const char *text, struct cli_relay_url *out, const char **why)
{
    const char *end;
    const char *at = NULL;
    int rc;

    if (strncmp(text, "udp://", 6) == 0) {
        text += 6;
    } else if (strncmp(text, "socks5://", 9) == 0) {
        out->scheme = CLI_RELAY_SOCKS5;
        text += 9;
    } else {
        return bad(why, "wanted is udp://HOST:PORT or socks5://[USER@]HOST:PORT");
    }
    end = text + strcspn(text, "?");
    for (const char *p = text; p < end; p++) {
        at = *p == '@' ? p : at;
    }
    if (*end == '?' && (rc = options(end + 1, out, why)) != 0) {
        return rc;
    }
    if (end > text && end[-1] == '/') {
        end--;
    }
    if (at != NULL) {
        if (out->scheme != CLI_RELAY_SOCKS5) {
            return bad(why, "a udp:// relay has no user");
        }
        rc = user(text, at, out, why);
        if (rc != 0) {
            return rc;
        }
        text = at + 1;
    }
    return host_and_port(text, end, out, why);
}

int cli_relay_url_parse(const char *text, struct cli_relay_url *out, const char **why)
{
    int rc;

    *out = (struct cli_relay_url){0};
    *why = NULL;
    rc = parse(text, out, why);
    if (rc != 0) {
        *out = (struct cli_relay_url){0};
    }
    return rc;
}
