/* SPDX-License-Identifier: Apache-2.0 */
/* SRV records of a DNS message, by libresolv's parser; order of addresses. */
#include "discovery/dns.h"

#include <arpa/nameser.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"

#define SERVICE  "_erlang-dist._quic."
#define SRV_HEAD 6u /* priority, weight, port */

/* Not isalnum(), which depends on the locale. */
static bool is_name_char(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
}

/* Copies a host name without its last dot, in lower case. */
static bool copy_name(const char *from, char out[static BP_DNS_NAME_MAX + 1])
{
    size_t n = strlen(from);

    if (n > 0 && from[n - 1] == '.') {
        n--;
    }
    if (n == 0 || n > BP_DNS_NAME_MAX) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        char c = from[i];
        if (!is_name_char(c)) {
            return false;
        }
        out[i] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
    }
    out[n] = '\0';
    return true;
}

static bool parse_record(const ns_msg *m, const ns_rr *rr, struct bp_srv *out)
{
    const uint8_t *p = ns_rr_rdata(*rr);
    char name[NS_MAXDNAME];

    if (ns_rr_type(*rr) != ns_t_srv || ns_rr_class(*rr) != ns_c_in ||
        ns_rr_rdlen(*rr) <= SRV_HEAD) {
        return false;
    }
    out->priority = (uint16_t)(p[0] << 8 | p[1]);
    out->weight = (uint16_t)(p[2] << 8 | p[3]);
    out->port = (uint16_t)(p[4] << 8 | p[5]);
    return out->port != 0 &&
           ns_name_uncompress(ns_msg_base(*m), ns_msg_end(*m), p + SRV_HEAD, name, sizeof(name)) >=
               0 &&
           copy_name(name, out->target);
}

static int by_preference(const void *a, const void *b)
{
    const struct bp_srv *x = a;
    const struct bp_srv *y = b;

    if (x->priority != y->priority) {
        return x->priority < y->priority ? -1 : 1;
    }
    if (x->weight != y->weight) {
        return x->weight > y->weight ? -1 : 1;
    }
    return strcmp(x->target, y->target);
}

int bp_dns_parse_srv(const uint8_t *msg, size_t len, struct bp_srv_answer *out)
{
    ns_msg m;

    out->n = 0;
    out->ttl = UINT32_MAX;
    if (len > NS_MAXMSG || ns_initparse(msg, (int)len, &m) != 0) {
        out->ttl = 0;
        return BP_E_PROTOCOL;
    }
    for (int i = 0; i < ns_msg_count(m, ns_s_an) && out->n < BP_SRV_MAX; i++) {
        ns_rr rr;
        if (ns_parserr(&m, ns_s_an, i, &rr) != 0) {
            out->n = 0;
            out->ttl = 0;
            return BP_E_PROTOCOL;
        }
        if (parse_record(&m, &rr, &out->at[out->n])) {
            out->n++;
            if (ns_rr_ttl(rr) < out->ttl) {
                out->ttl = (uint32_t)ns_rr_ttl(rr);
            }
        }
    }
    if (out->n == 0) {
        out->ttl = 0;
        return BP_E_NOT_FOUND;
    }
    qsort(out->at, out->n, sizeof(out->at[0]), by_preference);
    return 0;
}

int bp_dns_service_name(const char *host, const char *domain, char out[static BP_DNS_NAME_MAX + 1])
{
    char h[BP_DNS_NAME_MAX + 1] = "";
    char d[BP_DNS_NAME_MAX + 1];
    int n;

    if ((host != NULL && !copy_name(host, h)) || !copy_name(domain, d)) {
        return BP_E_INVALID;
    }
    n = snprintf(out, BP_DNS_NAME_MAX + 1, SERVICE "%s%s%s", h, host != NULL ? "." : "", d);
    return n < 0 || n > (int)BP_DNS_NAME_MAX ? BP_E_LIMIT : 0;
}

/* Whether `name` is `a`.`b`, in any case of letters. */
static bool is_joined(const char *name, const char *a, const char *b)
{
    size_t n = strlen(a);

    return strncasecmp(name, a, n) == 0 && name[n] == '.' && strcasecmp(name + n + 1, b) == 0;
}

bool bp_dns_srv_is_node(const struct bp_srv *srv, const char *name, const char *host,
                        const char *domain)
{
    return strcasecmp(srv->target, host) == 0 || is_joined(srv->target, host, domain) ||
           is_joined(srv->target, name, host);
}

void bp_dns_interleave(struct bp_addr *addrs, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        size_t k = i;

        while (k < n && addrs[k].u.sa.sa_family == addrs[i - 1].u.sa.sa_family) {
            k++;
        }
        if (k == n) {
            return; /* the rest is of one family */
        }
        struct bp_addr next = addrs[k];
        memmove(&addrs[i + 1], &addrs[i], (k - i) * sizeof(*addrs));
        addrs[i] = next;
    }
}
