/* SPDX-License-Identifier: Apache-2.0 */
/* Node name rules. */
#include "auth/node_name.h"

#include <string.h>

static const char dynamic_name[] = "nonode@nohost";

static bool is_name_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '-';
}

static bool is_part(const char *p, size_t len)
{
    if (len == 0 || p[0] == '.' || p[0] == '-') {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (!is_name_byte(p[i])) {
            return false;
        }
    }
    return true;
}

/* What an IPv6 address is written with; `erl -name a@::1` is such a node. */
static bool is_ipv6_host(const char *p, size_t len)
{
    size_t colons = 0;

    for (size_t i = 0; i < len; i++) {
        bool hex = (p[i] >= '0' && p[i] <= '9') || (p[i] >= 'a' && p[i] <= 'f') ||
                   (p[i] >= 'A' && p[i] <= 'F');
        colons += p[i] == ':';
        if (!hex && p[i] != ':' && p[i] != '.') {
            return false;
        }
    }
    return colons >= 2 && len <= 45 && p[0] != '.';
}

bool bp_node_name_valid(const char *name, size_t len)
{
    const char *at;

    if (len == 0 || len > BP_NODE_NAME_MAX) {
        return false;
    }
    at = memchr(name, '@', len);
    if (at == NULL) {
        return false;
    }
    size_t n = (size_t)(at - name);
    return is_part(name, n) && (is_part(at + 1, len - n - 1) || is_ipv6_host(at + 1, len - n - 1));
}

bool bp_node_name_dynamic(const char *name, size_t len)
{
    return len == sizeof(dynamic_name) - 1 && memcmp(name, dynamic_name, len) == 0;
}

static bool part_matches(const char *pattern, size_t plen, const char *part, size_t len)
{
    if (plen == 1 && pattern[0] == '*') {
        return true;
    }
    return plen == len && memcmp(pattern, part, len) == 0;
}

bool bp_node_name_match(const char *pattern, const char *name)
{
    const char *pattern_at = strchr(pattern, '@');
    const char *name_at = strchr(name, '@');

    if (pattern_at == NULL || !bp_node_name_valid(name, strlen(name))) {
        return false;
    }
    return part_matches(pattern, (size_t)(pattern_at - pattern), name, (size_t)(name_at - name)) &&
           part_matches(pattern_at + 1, strlen(pattern_at + 1), name_at + 1, strlen(name_at + 1));
}
