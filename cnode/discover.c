/* SPDX-License-Identifier: Apache-2.0 */
/* Which backends of discovery a node has, and what it says of itself there. */
#include "cnode/cn.h"

#include "auth/node_name.h"
#include "io/discovery_dirs.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define PORT_DIGITS 6u

/* --- what the program adds ----------------------------------------------- */

static int no_memory(void)
{
    return cn_fail(BP_E_NOMEM, "%s", bp_err_text(BP_E_NOMEM));
}

/* The backend of that kind, made if there is none, or always if there may be several. */
static int backend(struct bp_node *n, enum cn_backend_kind kind, struct cn_backend **out)
{
    struct cn_backend *b;

    if (n->started) {
        return cn_fail(BP_E_STATE, "discovery is set up before the node is started");
    }
    for (size_t i = 0; kind != CN_BACKEND_OWN && i < n->n_backends; i++) {
        if (n->backends[i]->kind == kind) {
            *out = n->backends[i];
            return 0;
        }
    }
    if (n->n_backends == CN_BACKENDS_MAX) {
        return cn_fail(BP_E_LIMIT, "a node has at most %u discovery backends", CN_BACKENDS_MAX);
    }
    b = calloc(1, sizeof(*b));
    if (b == NULL) {
        return no_memory();
    }
    b->kind = kind;
    n->backends[n->n_backends++] = b;
    *out = b;
    return 0;
}

static int add_static(struct bp_node *n, const char *peer, const char *ip, uint16_t port)
{
    struct cn_backend *b;
    struct bp_static_node *grown;
    struct bp_static_node row = {.at = {.port = port}};
    struct bp_addr addr;
    int rc;

    if (peer == NULL || ip == NULL || port == 0 || !bp_node_name_valid(peer, strlen(peer)) ||
        bp_addr_parse(&addr, ip, port) != 0) {
        return cn_fail(BP_E_INVALID,
                       "a fixed entry is name@host, an IPv4 or IPv6 literal and a port");
    }
    rc = backend(n, CN_BACKEND_STATIC, &b);
    if (rc != 0) {
        return rc;
    }
    if (n->fixed_nodes.n == CN_STATIC_MAX) {
        return cn_fail(BP_E_LIMIT, "a node has at most %u fixed entries", CN_STATIC_MAX);
    }
    grown = realloc(n->fixed, (n->fixed_nodes.n + 1) * sizeof(*grown));
    if (grown == NULL) {
        return no_memory();
    }
    (void)snprintf(row.node, sizeof(row.node), "%s", peer);
    (void)snprintf(row.at.host, sizeof(row.at.host), "%s", ip);
    grown[n->fixed_nodes.n++] = row;
    n->fixed = grown;
    n->fixed_nodes.at = grown;
    return 0;
}

int bp_node_discover_static(struct bp_node *n, const char *peer, const char *ip, uint16_t port)
{
    int rc;

    (void)pthread_mutex_lock(&n->lock);
    rc = add_static(n, peer, ip, port);
    (void)pthread_mutex_unlock(&n->lock);
    return rc;
}

static int add_files(struct bp_node *n, const char *dir)
{
    struct cn_backend *b;
    bool had = false;
    int rc;

    for (size_t i = 0; i < n->n_backends; i++) {
        had = had || n->backends[i]->kind == CN_BACKEND_FILES;
    }
    rc = backend(n, CN_BACKEND_FILES, &b);
    if (rc != 0) {
        return rc;
    }
    if (had && (dir == NULL || b->n_dirs == 0)) {
        return cn_fail(BP_E_STATE, "the usual directories do not go together with others");
    }
    if (dir == NULL) {
        return 0;
    }
    if (b->n_dirs == BP_FILE_BACKEND_DIRS) {
        return cn_fail(BP_E_LIMIT, "at most %u directories of endpoint files",
                       BP_FILE_BACKEND_DIRS);
    }
    b->dirs[b->n_dirs] = strdup(dir);
    if (b->dirs[b->n_dirs] == NULL) {
        return no_memory();
    }
    b->n_dirs++;
    return 0;
}

int bp_node_discover_files(struct bp_node *n, const char *dir)
{
    int rc;

    (void)pthread_mutex_lock(&n->lock);
    rc = add_files(n, dir);
    (void)pthread_mutex_unlock(&n->lock);
    return rc;
}

static int add_dns(struct bp_node *n, const char *domain, uint16_t port, const char *servers)
{
    struct cn_backend *b;
    int rc = 0;

    for (size_t i = 0; i < n->n_backends; i++) {
        if (n->backends[i]->kind == CN_BACKEND_DNS) {
            return cn_fail(BP_E_STATE, "DNS is in the chain already");
        }
    }
    rc = backend(n, CN_BACKEND_DNS, &b);
    if (rc != 0) {
        return rc;
    }
    b->port = port;
    if (domain != NULL && (b->domain = strdup(domain)) == NULL) {
        return no_memory();
    }
    if (servers != NULL && (b->servers = strdup(servers)) == NULL) {
        return no_memory();
    }
    return 0;
}

int bp_node_discover_dns(struct bp_node *n, const char *domain, uint16_t port, const char *servers)
{
    int rc;

    (void)pthread_mutex_lock(&n->lock);
    rc = add_dns(n, domain, port, servers);
    (void)pthread_mutex_unlock(&n->lock);
    return rc;
}

/* --- a backend of the program's own -------------------------------------- */

static int own_lookup(void *ctx, struct bp_chain *c, uint64_t ticket, const char *node,
                      const char *host)
{
    const struct cn_backend *b = ctx;

    (void)c;
    return b->ops.lookup(b->ctx, ticket, node, host);
}

static void own_cancel(void *ctx, uint64_t ticket)
{
    const struct cn_backend *b = ctx;

    b->ops.cancel(b->ctx, ticket);
}

static int own_publish(void *ctx, const char *node, const struct bp_endpoints *eps)
{
    const struct cn_backend *b = ctx;
    struct bp_address at[BP_ENDPOINTS_MAX];

    for (size_t i = 0; i < eps->n; i++) {
        at[i] = (struct bp_address){.ip = eps->at[i].host, .port = eps->at[i].port};
    }
    return b->ops.publish(b->ctx, node, at, eps->n);
}

static int own_withdraw(void *ctx, const char *node)
{
    const struct cn_backend *b = ctx;

    return b->ops.withdraw(b->ctx, node);
}

int bp_node_discover_with(struct bp_node *n, const struct bp_backend_ops *ops, void *ctx)
{
    struct cn_backend *b;
    int rc;

    if (ops == NULL || ops->name == NULL || ops->lookup == NULL) {
        return cn_fail(BP_E_INVALID, "a discovery backend has a name and a function lookup");
    }
    (void)pthread_mutex_lock(&n->lock);
    rc = backend(n, CN_BACKEND_OWN, &b);
    if (rc == 0) {
        b->ops = *ops;
        b->ctx = ctx;
        b->own = (struct bp_backend){.name = ops->name,
                                     .lookup = own_lookup,
                                     .cancel = ops->cancel != NULL ? own_cancel : NULL,
                                     .publish = ops->publish != NULL ? own_publish : NULL,
                                     .withdraw = ops->withdraw != NULL ? own_withdraw : NULL};
    }
    (void)pthread_mutex_unlock(&n->lock);
    return rc;
}

void bp_node_answer(struct bp_node *n, uint64_t ticket, int rc, const struct bp_address *at,
                    size_t count, uint32_t ttl)
{
    struct bp_endpoints eps = {0};

    for (size_t i = 0; rc == 0 && i < count && eps.n < BP_ENDPOINTS_MAX; i++) {
        struct bp_endpoint *e = &eps.at[eps.n];
        if (at[i].ip != NULL && strlen(at[i].ip) < sizeof(e->host)) {
            (void)snprintf(e->host, sizeof(e->host), "%s", at[i].ip);
            e->port = at[i].port;
            eps.n += bp_endpoint_valid(e);
        }
    }
    if (rc == 0 && eps.n == 0) {
        rc = BP_E_INVALID;
    }
    /* May be called from inside of `lookup`: the lock is a recursive one. */
    (void)pthread_mutex_lock(&n->lock);
    if (n->finder != NULL) {
        bp_chain_answer(bp_finder_chain(n->finder), ticket, rc, &eps, ttl);
        n->look_again = true;
        cn_wake(n);
    }
    (void)pthread_mutex_unlock(&n->lock);
}

/* --- the finder ---------------------------------------------------------- */

static const char *own_host(const struct bp_node *n)
{
    return strchr(n->name, '@') + 1;
}

static int family_of(const struct bp_node *n)
{
    return n->opt.family == 4 ? AF_INET : n->opt.family == 6 ? AF_INET6 : AF_UNSPEC;
}

static void complain(void *ctx, const char *file, const char *text)
{
    struct bp_node *n = ctx;

    cn_log(n, BP_LOG_WARNING, "discovery", n->name, "%s: %s", file, text);
}

static int start_files(struct bp_node *n, const struct cn_backend *b)
{
    struct bp_file_backend_config c = {.format = BP_ENDPOINT_JSON,
                                       .complaint = {.say = complain, .ctx = n}};
    const char *list[BP_FILE_BACKEND_DIRS];
    struct bp_discovery_dirs dirs;
    char own[CN_PATH_MAX];
    struct bp_errbuf err;
    int rc;

    c.dirs = list;
    for (size_t i = 0; b != NULL && i < b->n_dirs; i++) {
        list[c.n_dirs++] = b->dirs[i];
    }
    if (c.n_dirs == 0) {
        struct bp_discovery_dirs_config dc = {.make = true};
        rc = bp_discovery_dirs(&dc, &dirs, &err);
        if (rc != 0) {
            return cn_fail(rc, "%s", err.text);
        }
        for (size_t i = 0; i < dirs.n && c.n_dirs < BP_FILE_BACKEND_DIRS; i++) {
            list[c.n_dirs++] = dirs.at[i];
        }
        if (n->opt.dir != NULL &&
            bp_path_join(n->opt.dir, BP_DISCOVERY_DIR, own, sizeof(own), &err) == 0) {
            list[0] = own;
        }
    }
    rc = bp_finder_add_files(n->finder, &c);
    return rc == 0 ? 0 : cn_fail(rc, "the endpoint files cannot be used: %s", bp_err_text(rc));
}

static int start_dns(struct bp_node *n, const struct cn_backend *b)
{
    struct bp_dns_backend_config c = {.own_host = own_host(n), .family = family_of(n)};
    int rc;

    if (b != NULL) {
        c.domain = b->domain;
        c.servers = b->servers;
        c.port = b->port;
    }
    rc = bp_finder_add_dns(n->finder, &c);
    return rc == 0 ? 0 : cn_fail(rc, "DNS cannot be used: %s", bp_err_text(rc));
}

static int start_backend(struct bp_node *n, struct cn_backend *b)
{
    int rc;

    switch (b->kind) {
    case CN_BACKEND_STATIC:
        rc = bp_finder_add_static(n->finder, &n->fixed_nodes);
        break;
    case CN_BACKEND_FILES:
        return start_files(n, b);
    case CN_BACKEND_DNS:
        return start_dns(n, b);
    case CN_BACKEND_OWN:
    default:
        rc = bp_finder_add(n->finder, &b->own, b);
        break;
    }
    return rc == 0 ? 0 : cn_fail(rc, "a discovery backend: %s", bp_err_text(rc));
}

const char *cn_dns_servers(const struct bp_node *n)
{
    for (size_t i = 0; i < n->n_backends; i++) {
        if (n->backends[i]->kind == CN_BACKEND_DNS) {
            return n->backends[i]->servers;
        }
    }
    return NULL;
}

int cn_discover_init(struct bp_node *n)
{
    struct bp_finder_config c = {
        .servers = cn_dns_servers(n), .own_host = own_host(n), .family = family_of(n)};
    int rc = bp_finder_new(&n->finder, &c);

    if (rc != 0) {
        n->finder = NULL;
        return cn_fail(rc, "discovery cannot be used: %s", bp_err_text(rc));
    }
    for (size_t i = 0; rc == 0 && i < n->n_backends; i++) {
        rc = start_backend(n, n->backends[i]);
    }
    if (rc == 0 && n->n_backends == 0) {
        rc = start_files(n, NULL);
        rc = rc == 0 ? start_dns(n, NULL) : rc;
    }
    if (rc == 0) {
        rc = cn_watch(n, bp_finder_fd(n->finder), EPOLLIN, CN_SRC_FINDER, 0);
    }
    if (rc != 0) {
        bp_finder_del(n->finder);
        n->finder = NULL;
    }
    return rc;
}

void cn_discover_free(struct bp_node *n)
{
    if (n->finder != NULL) {
        cn_unwatch(n, bp_finder_fd(n->finder));
        bp_finder_del(n->finder);
        n->finder = NULL;
    }
    for (size_t i = 0; i < n->n_backends; i++) {
        struct cn_backend *b = n->backends[i];
        for (size_t d = 0; d < b->n_dirs; d++) {
            free(b->dirs[d]);
        }
        free(b->domain);
        free(b->servers);
        free(b);
    }
    n->n_backends = 0;
}

/* --- publishing ---------------------------------------------------------- */

/* The port behind a colon, up to the end of an element; 0 and none are `bound`. */
static bool advertised_port(const char *digits, size_t len, uint16_t bound, uint16_t *out)
{
    unsigned long n = 0;

    if (len >= PORT_DIGITS) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (digits[i] < '0' || digits[i] > '9') {
            return false;
        }
        n = n * 10 + (unsigned long)(digits[i] - '0');
    }
    *out = n == 0 ? bound : (uint16_t)n;
    return n <= UINT16_MAX;
}

/* One element of BP_OPT_ADVERTISE: "HOST", "HOST:PORT", "[IPV6]:PORT". */
static bool advertised_one(const char *text, size_t len, uint16_t port, struct bp_endpoint *out)
{
    const char *end = text + len;
    const char *host = text;
    const char *host_end = end;
    const char *colon = memchr(text, ':', len);
    struct bp_addr literal;

    if (len > 0 && text[0] == '[') {
        host = text + 1;
        host_end = memchr(text, ']', len);
        if (host_end == NULL || (host_end + 1 < end && host_end[1] != ':')) {
            return false;
        }
        colon = host_end + 1 < end ? host_end + 1 : NULL;
    } else if (colon != NULL && memchr(colon + 1, ':', (size_t)(end - colon - 1)) == NULL) {
        host_end = colon;
    } else {
        colon = NULL; /* an IPv6 literal without brackets */
    }
    out->port = port;
    if ((size_t)(host_end - host) >= sizeof(out->host) ||
        (colon != NULL &&
         !advertised_port(colon + 1, (size_t)(end - colon - 1), port, &out->port))) {
        return false;
    }
    memcpy(out->host, host, (size_t)(host_end - host));
    out->host[host_end - host] = '\0';
    return bp_endpoint_valid(out) &&
           (strchr(out->host, ':') == NULL || bp_addr_parse(&literal, out->host, 0) == 0);
}

/* All of them; `port` for those without one. */
static bool advertised(const char *text, uint16_t port, struct bp_endpoints *out)
{
    *out = (struct bp_endpoints){0};
    while (text != NULL) {
        size_t len = strcspn(text, ",");
        if (out->n == BP_ENDPOINTS_MAX || !advertised_one(text, len, port, &out->at[out->n])) {
            return false;
        }
        out->n++;
        text = text[len] == ',' ? text + len + 1 : NULL;
    }
    return true;
}

bool cn_advertise_valid(const char *text)
{
    struct bp_endpoints out;

    return advertised(text, 1, &out);
}

/* Where others shall dial us. */
static void reachable_at(const struct bp_node *n, struct bp_endpoints *out)
{
    uint16_t port = bp_addr_port(&n->bound);
    char ip[BP_ADDR_TEXT_MAX];

    if (!advertised(n->opt.advertise, port, out) || out->n == 0) {
        bool any = n->opt.bind.len == 0;
        (void)bp_addr_ip_text(&n->bound, ip);
        any = any || strcmp(ip, "0.0.0.0") == 0 || strcmp(ip, "::") == 0;
        out->n = 1;
        out->at[0].port = port;
        (void)snprintf(out->at[0].host, sizeof(out->at[0].host), "%s", any ? own_host(n) : ip);
    }
}

void cn_publish(struct bp_node *n)
{
    struct bp_endpoints eps;

    reachable_at(n, &eps);
    (void)bp_chain_publish(bp_finder_chain(n->finder), n->name, &eps);
    n->published = true;
}

void cn_withdraw(struct bp_node *n)
{
    if (n->published) {
        (void)bp_chain_withdraw(bp_finder_chain(n->finder), n->name);
        n->published = false;
    }
}
