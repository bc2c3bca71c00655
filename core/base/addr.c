/* SPDX-License-Identifier: Apache-2.0 */
/* UDP addresses as values. */
#include "base/addr.h"

#include "base/err.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static const uint8_t v4_mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool bp_addr_is_mapped(const struct bp_addr *a)
{
    return a->len != 0 && a->u.sa.sa_family == AF_INET6 &&
           memcmp(a->u.v6.sin6_addr.s6_addr, v4_mapped_prefix, sizeof(v4_mapped_prefix)) == 0;
}

int bp_addr_parse(struct bp_addr *out, const char *ip, uint16_t port)
{
    *out = (struct bp_addr){0};
    if (inet_pton(AF_INET, ip, &out->u.v4.sin_addr) == 1) {
        out->u.v4.sin_family = AF_INET;
        out->u.v4.sin_port = htons(port);
        out->len = sizeof(out->u.v4);
        return 0;
    }
    if (inet_pton(AF_INET6, ip, &out->u.v6.sin6_addr) == 1) {
        out->u.v6.sin6_family = AF_INET6;
        out->u.v6.sin6_port = htons(port);
        out->len = sizeof(out->u.v6);
        return 0;
    }
    return BP_E_INVALID;
}

bool bp_addr_from_sockaddr(struct bp_addr *out, const void *sa, size_t len)
{
    const struct sockaddr *s = sa;

    *out = (struct bp_addr){0};
    if (len >= sizeof(out->u.v4) && s->sa_family == AF_INET) {
        out->len = sizeof(out->u.v4);
    } else if (len >= sizeof(out->u.v6) && s->sa_family == AF_INET6) {
        out->len = sizeof(out->u.v6);
    } else {
        return false;
    }
    memcpy(&out->u, sa, out->len);
    return true;
}

void bp_addr_map_v6(struct bp_addr *a)
{
    struct sockaddr_in v4;

    if (a->len == 0 || a->u.sa.sa_family != AF_INET) {
        return;
    }
    v4 = a->u.v4;
    *a = (struct bp_addr){0};
    a->u.v6.sin6_family = AF_INET6;
    a->u.v6.sin6_port = v4.sin_port;
    memcpy(a->u.v6.sin6_addr.s6_addr, v4_mapped_prefix, sizeof(v4_mapped_prefix));
    memcpy(a->u.v6.sin6_addr.s6_addr + 12, &v4.sin_addr, 4);
    a->len = sizeof(a->u.v6);
}

uint16_t bp_addr_port(const struct bp_addr *a)
{
    if (a->len == 0) {
        return 0;
    }
    return ntohs(a->u.sa.sa_family == AF_INET ? a->u.v4.sin_port : a->u.v6.sin6_port);
}

void bp_addr_set_port(struct bp_addr *a, uint16_t port)
{
    if (a->len == 0) {
        return;
    }
    if (a->u.sa.sa_family == AF_INET) {
        a->u.v4.sin_port = htons(port);
    } else {
        a->u.v6.sin6_port = htons(port);
    }
}

bool bp_addr_equal(const struct bp_addr *a, const struct bp_addr *b)
{
    if (a->len != b->len || a->len == 0 || a->u.sa.sa_family != b->u.sa.sa_family) {
        return false;
    }
    if (a->u.sa.sa_family == AF_INET) {
        return a->u.v4.sin_port == b->u.v4.sin_port &&
               a->u.v4.sin_addr.s_addr == b->u.v4.sin_addr.s_addr;
    }
    return a->u.v6.sin6_port == b->u.v6.sin6_port &&
           memcmp(&a->u.v6.sin6_addr, &b->u.v6.sin6_addr, sizeof(a->u.v6.sin6_addr)) == 0;
}

const char *bp_addr_ip_text(const struct bp_addr *a, char buf[static BP_ADDR_TEXT_MAX])
{
    const void *src = NULL;
    int family = AF_INET;

    buf[0] = '\0';
    if (a->len == 0) {
        return buf;
    }
    if (bp_addr_is_mapped(a)) {
        src = a->u.v6.sin6_addr.s6_addr + 12;
    } else if (a->u.sa.sa_family == AF_INET) {
        src = &a->u.v4.sin_addr;
    } else {
        src = &a->u.v6.sin6_addr;
        family = AF_INET6;
    }
    if (inet_ntop(family, src, buf, BP_ADDR_TEXT_MAX) == NULL) {
        buf[0] = '\0';
    }
    return buf;
}

const char *bp_addr_text(const struct bp_addr *a, char buf[static BP_ADDR_TEXT_MAX])
{
    char ip[BP_ADDR_TEXT_MAX];

    bp_addr_ip_text(a, ip);
    snprintf(buf, BP_ADDR_TEXT_MAX, strchr(ip, ':') != NULL ? "[%.48s]:%u" : "%.48s:%u", ip,
             (unsigned)bp_addr_port(a));
    return buf;
}
