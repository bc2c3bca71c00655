/* SPDX-License-Identifier: Apache-2.0 */
/* The DNS backend: up to three questions for a lookup, the first of them that is answered wins. */
#include "io/dns_backend.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/err.h"

/* In the order in which they count. */
enum { ASK_OF_NODE, ASK_OF_DOMAIN, ASK_HOST, N_ASKS };

#define PENDING 1 /* no error code */

struct asked {
    int rc; /* PENDING, 0 or an error */
    uint32_t ttl;
    struct bp_endpoints found;
};

struct ticket {
    bool used;
    uint64_t id;  /* the chain's */
    uint64_t seq; /* tells late answers of an earlier lookup in this place */
    char node[BP_NODE_NAME_MAX + 1];
    struct asked asked[N_ASKS];
};

struct bp_dns_backend {
    struct bp_resolver *resolver;
    bool has_domain;
    bool has_servers;
    bool has_own_host;
    char domain[BP_DNS_NAME_MAX + 1];
    char servers[1024];
    char own_host[BP_NODE_NAME_MAX + 1];
    uint16_t port;
    int family;
    bp_time limit;
    uint32_t max_ttl;
    uint64_t next_seq;
    struct ticket tickets[BP_CHAIN_LOOKUPS_MAX];
};

/* --- life ---------------------------------------------------------------- */

static bool copy(const char *from, char *to, size_t cap, bool *has)
{
    *has = from != NULL;
    return from == NULL || (size_t)snprintf(to, cap, "%s", from) < cap;
}

/* A server has a quarter of the limit for its first answer, so that a second try fits. */
static int open_resolver(const struct bp_dns_backend *b, struct bp_resolver **out)
{
    bp_time ms = b->limit / 4 / BP_MS;

    return bp_resolver_new(out, b->has_servers ? b->servers : NULL,
                           ms < 1 ? 1u : (ms > 60000 ? 60000u : (unsigned)ms));
}

int bp_dns_backend_new(struct bp_dns_backend **out, const struct bp_dns_backend_config *config)
{
    struct bp_dns_backend *b = calloc(1, sizeof(*b));
    char name[BP_DNS_NAME_MAX + 1];
    int rc = BP_E_INVALID;

    *out = NULL;
    if (b == NULL) {
        return BP_E_NOMEM;
    }
    b->port = config->port != 0 ? config->port : BP_DNS_BACKEND_PORT;
    b->family = config->family;
    b->limit = config->limit != 0 ? config->limit : 2 * BP_SEC;
    b->max_ttl = config->max_ttl;
    if (copy(config->domain, b->domain, sizeof(b->domain), &b->has_domain) &&
        copy(config->servers, b->servers, sizeof(b->servers), &b->has_servers) &&
        copy(config->own_host, b->own_host, sizeof(b->own_host), &b->has_own_host) &&
        (!b->has_domain || bp_dns_service_name(NULL, b->domain, name) == 0)) {
        rc = open_resolver(b, &b->resolver);
    }
    if (rc != 0) {
        bp_dns_backend_del(b);
        return rc;
    }
    *out = b;
    return 0;
}

void bp_dns_backend_del(struct bp_dns_backend *b)
{
    if (b != NULL) {
        bp_resolver_del(b->resolver);
        free(b);
    }
}

int bp_dns_backend_fd(const struct bp_dns_backend *b)
{
    return bp_resolver_fd(b->resolver);
}

/* --- answers ------------------------------------------------------------- */

/* The node's name without its host. */
static void name_part(const char *node, char out[static BP_NODE_NAME_MAX + 1])
{
    (void)snprintf(out, BP_NODE_NAME_MAX + 1, "%.*s", (int)strcspn(node, "@"), node);
}

static void add(struct asked *k, const char *host, uint16_t port)
{
    struct bp_endpoint ep = {.port = port};

    if (k->found.n < BP_ENDPOINTS_MAX &&
        (size_t)snprintf(ep.host, sizeof(ep.host), "%s", host) < sizeof(ep.host) &&
        bp_endpoint_valid(&ep)) {
        k->found.at[k->found.n++] = ep;
    }
}

static void take_srv(const struct bp_dns_backend *b, const struct ticket *t, bool of_domain,
                     const struct bp_srv_answer *srv, struct asked *k)
{
    const char *host = strchr(t->node, '@') + 1;
    char name[BP_NODE_NAME_MAX + 1];

    name_part(t->node, name);
    for (size_t i = 0; i < srv->n; i++) {
        if (!of_domain || bp_dns_srv_is_node(&srv->at[i], name, host, b->domain)) {
            add(k, srv->at[i].target, srv->at[i].port);
        }
    }
}

static void take(const struct bp_dns_backend *b, const struct ticket *t, unsigned which,
                 const struct bp_answer *a, struct asked *k)
{
    *k = (struct asked){.rc = a->rc, .ttl = a->ttl < b->max_ttl ? a->ttl : b->max_ttl};
    if (a->rc != 0) {
        return;
    }
    if (which != ASK_HOST) {
        take_srv(b, t, which == ASK_OF_DOMAIN, &a->srv, k);
    }
    for (size_t i = 0; i < a->n && which == ASK_HOST; i++) {
        char text[BP_ADDR_TEXT_MAX];
        add(k, bp_addr_ip_text(&a->at[i], text), b->port);
    }
    /* What comes from /etc/hosts costs nothing to read again, and its TTL is none. */
    k->ttl = a->ttl == UINT32_MAX ? 0 : k->ttl;
    k->rc = k->found.n > 0 ? 0 : BP_E_NOT_FOUND;
}

/* Answers the chain once it is known which question wins. */
static void settle(struct bp_chain *c, struct ticket *t)
{
    int failure = BP_E_NOT_FOUND;

    for (unsigned i = 0; i < N_ASKS; i++) {
        const struct asked *k = &t->asked[i];
        if (k->rc == PENDING) {
            return;
        }
        if (k->rc == 0) {
            t->used = false;
            bp_chain_answer(c, t->id, 0, &k->found, k->ttl);
            return;
        }
        failure = failure == BP_E_NOT_FOUND ? k->rc : failure;
    }
    t->used = false;
    bp_chain_answer(c, t->id, failure, NULL, 0);
}

void bp_dns_backend_run(struct bp_dns_backend *b, struct bp_chain *c)
{
    struct bp_answer a;

    bp_resolver_run(b->resolver);
    while (bp_resolver_take(b->resolver, &a)) {
        unsigned which = (unsigned)(a.id % N_ASKS);
        struct ticket *t = &b->tickets[a.who % BP_CHAIN_LOOKUPS_MAX];

        if (t->used && t->seq == a.id / N_ASKS && t->asked[which].rc == PENDING) {
            take(b, t, which, &a, &t->asked[which]);
            settle(c, t);
        }
    }
}

/* --- asking -------------------------------------------------------------- */

static void ask(struct bp_dns_backend *b, struct ticket *t, unsigned which,
                enum bp_question_kind kind, const char *name)
{
    struct bp_question q = {.kind = kind,
                            .name = name,
                            .family = b->family,
                            .id = t->seq * N_ASKS + which,
                            .who = (uint64_t)(t - b->tickets)};
    int rc = bp_resolver_ask(b->resolver, &q);

    t->asked[which].rc = rc == 0 ? PENDING : rc;
}

static void ask_srv(struct bp_dns_backend *b, struct ticket *t, unsigned which, const char *host)
{
    char name[BP_DNS_NAME_MAX + 1];

    /* A host that cannot stand in DNS has no record there. */
    if (b->has_domain && bp_dns_service_name(host, b->domain, name) == 0) {
        ask(b, t, which, BP_ASK_SRV, name);
    }
}

static void ask_host(struct bp_dns_backend *b, struct ticket *t, const char *host)
{
    struct bp_addr literal;

    if (b->has_own_host && strcasecmp(host, b->own_host) == 0) {
        return;
    }
    if (bp_addr_parse(&literal, host, b->port) == 0) {
        add(&t->asked[ASK_HOST], host, b->port);
        t->asked[ASK_HOST].rc = t->asked[ASK_HOST].found.n > 0 ? 0 : BP_E_NOT_FOUND;
        return;
    }
    ask(b, t, ASK_HOST, BP_ASK_HOST, host);
}

static int lookup(void *ctx, struct bp_chain *c, uint64_t ticket, const char *node,
                  const char *host)
{
    struct bp_dns_backend *b = ctx;
    struct ticket *t = b->tickets;

    while (t < b->tickets + BP_CHAIN_LOOKUPS_MAX && t->used) {
        t++;
    }
    if (t == b->tickets + BP_CHAIN_LOOKUPS_MAX || strlen(node) > BP_NODE_NAME_MAX) {
        return BP_E_LIMIT;
    }
    *t = (struct ticket){.used = true, .id = ticket, .seq = ++b->next_seq};
    memcpy(t->node, node, strlen(node) + 1);
    for (unsigned i = 0; i < N_ASKS; i++) {
        t->asked[i].rc = BP_E_NOT_FOUND;
    }
    ask_srv(b, t, ASK_OF_NODE, host);
    ask_srv(b, t, ASK_OF_DOMAIN, NULL);
    ask_host(b, t, host);
    settle(c, t);
    return 0;
}

static void cancel(void *ctx, uint64_t ticket)
{
    struct bp_dns_backend *b = ctx;

    for (unsigned i = 0; i < BP_CHAIN_LOOKUPS_MAX; i++) {
        if (b->tickets[i].used && b->tickets[i].id == ticket) {
            b->tickets[i].used = false; /* answers find another seq, or none */
        }
    }
}

/* --- listing ------------------------------------------------------------- */

static bp_time monotonic(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (bp_time)t.tv_sec * BP_SEC + (bp_time)t.tv_nsec;
}

static int wait_answer(const struct bp_dns_backend *b, struct bp_resolver *r, struct bp_answer *a)
{
    bp_time end = monotonic() + b->limit;

    while (!bp_resolver_take(r, a)) {
        struct pollfd p = {.fd = bp_resolver_fd(r), .events = POLLIN};
        bp_time now = monotonic();

        if (now >= end) {
            return BP_E_TIMEOUT;
        }
        (void)poll(&p, 1, (int)((end - now) / BP_MS) + 1);
        bp_resolver_run(r);
    }
    return a->rc;
}

/* "a.b.c" is node a@b.c. */
static bool target_node(const char *target, char node[static BP_DNS_NAME_MAX + 1])
{
    size_t dot = strcspn(target, ".");

    (void)snprintf(node, BP_DNS_NAME_MAX + 1, "%s", target);
    if (dot == 0 || target[dot] == '\0' || target[dot + 1] == '\0') {
        return false;
    }
    node[dot] = '@';
    return true;
}

static int list(void *ctx, void (*each)(void *each_ctx, const char *node, uint16_t port),
                void *each_ctx)
{
    const struct bp_dns_backend *b = ctx;
    char name[BP_DNS_NAME_MAX + 1];
    char node[BP_DNS_NAME_MAX + 1];
    struct bp_question q = {.kind = BP_ASK_SRV, .name = name};
    struct bp_resolver *r = NULL;
    struct bp_answer *a;
    int rc;

    if (!b->has_domain) {
        return 0;
    }
    a = calloc(1, sizeof(*a));
    if (a == NULL) {
        return BP_E_NOMEM;
    }
    /* One of its own: answers to lookups that come meanwhile would have no chain to go to. */
    rc = bp_dns_service_name(NULL, b->domain, name);
    rc = rc == 0 ? open_resolver(b, &r) : rc;
    rc = rc == 0 ? bp_resolver_ask(r, &q) : rc;
    rc = rc == 0 ? wait_answer(b, r, a) : rc;
    for (size_t i = 0; rc == 0 && i < a->srv.n; i++) {
        if (target_node(a->srv.at[i].target, node)) {
            each(each_ctx, node, a->srv.at[i].port);
        }
    }
    bp_resolver_del(r);
    free(a);
    return rc == BP_E_NOT_FOUND ? 0 : rc;
}

const struct bp_backend bp_dns_backend_ops = {
    .name = "dns", .lookup = lookup, .cancel = cancel, .list = list};
