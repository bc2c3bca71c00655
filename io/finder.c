/* SPDX-License-Identifier: Apache-2.0 */
/* The finder: a chain, its own backends, and a resolver for what they answer with. */
#include "io/finder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/err.h"

enum finding_state { SEEKING, RESOLVING, DONE };

/* What one endpoint's host stands for. */
struct resolved {
    bool pending;
    size_t n;
    struct bp_addr at[BP_FINDER_ADDRS];
};

struct finding {
    struct finding *next;
    enum finding_state state;
    uint32_t id; /* the chain's */
    int rc;
    const char *backend;
    bp_time deadline; /* RESOLVING */
    struct bp_endpoints found;
    struct resolved resolved[BP_ENDPOINTS_MAX];
};

struct bp_finder {
    struct bp_chain *chain;
    struct bp_file_backend *files;
    struct bp_dns_backend *dns;
    struct bp_resolver *resolver; /* made when a name has to be resolved */
    int epoll_fd;
    bp_time limit;
    bp_time now;
    int family;
    bool has_servers;
    bool has_own_host;
    char servers[1024];
    char own_host[BP_NODE_NAME_MAX + 1];
    struct finding *findings; /* oldest first */
};

/* --- life ---------------------------------------------------------------- */

static bool copy(const char *from, char *to, size_t cap, bool *has)
{
    *has = from != NULL;
    return from == NULL || (size_t)snprintf(to, cap, "%s", from) < cap;
}

int bp_finder_new(struct bp_finder **out, const struct bp_finder_config *config)
{
    const struct bp_chain_config chain = {.limit = config->limit, .negative = config->negative};
    struct bp_finder *f = calloc(1, sizeof(*f));
    int rc = BP_E_INVALID;

    *out = NULL;
    if (f == NULL) {
        return BP_E_NOMEM;
    }
    f->family = config->family;
    f->limit = config->limit != 0 ? config->limit : 2 * BP_SEC;
    f->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (copy(config->servers, f->servers, sizeof(f->servers), &f->has_servers) &&
        copy(config->own_host, f->own_host, sizeof(f->own_host), &f->has_own_host)) {
        rc = f->epoll_fd >= 0 ? bp_chain_new(&f->chain, &chain) : BP_E_SYSTEM;
    }
    if (rc != 0) {
        bp_finder_del(f);
        return rc;
    }
    *out = f;
    return 0;
}

void bp_finder_del(struct bp_finder *f)
{
    if (f == NULL) {
        return;
    }
    bp_chain_del(f->chain);
    bp_file_backend_del(f->files);
    bp_dns_backend_del(f->dns);
    bp_resolver_del(f->resolver);
    while (f->findings != NULL) {
        struct finding *next = f->findings->next;
        free(f->findings);
        f->findings = next;
    }
    if (f->epoll_fd >= 0) {
        (void)close(f->epoll_fd);
    }
    free(f);
}

static int watch(const struct bp_finder *f, int fd)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};

    return epoll_ctl(f->epoll_fd, EPOLL_CTL_ADD, fd, &ev) == 0 ? 0 : BP_E_SYSTEM;
}

int bp_finder_add(struct bp_finder *f, const struct bp_backend *b, void *ctx)
{
    return bp_chain_add(f->chain, b, ctx);
}

int bp_finder_add_static(struct bp_finder *f, struct bp_static_nodes *nodes)
{
    return bp_chain_add(f->chain, &bp_static_backend, nodes);
}

int bp_finder_add_files(struct bp_finder *f, const struct bp_file_backend_config *config)
{
    int rc = f->files == NULL ? bp_file_backend_new(&f->files, config) : BP_E_STATE;

    if (rc != 0) {
        return rc;
    }
    rc = watch(f, bp_file_backend_fd(f->files));
    rc = rc == 0 ? bp_chain_add(f->chain, &bp_file_backend_ops, f->files) : rc;
    if (rc != 0) {
        bp_file_backend_del(f->files);
        f->files = NULL;
    }
    return rc;
}

int bp_finder_add_dns(struct bp_finder *f, const struct bp_dns_backend_config *config)
{
    int rc = f->dns == NULL ? bp_dns_backend_new(&f->dns, config) : BP_E_STATE;

    if (rc != 0) {
        return rc;
    }
    rc = watch(f, bp_dns_backend_fd(f->dns));
    rc = rc == 0 ? bp_chain_add(f->chain, &bp_dns_backend_ops, f->dns) : rc;
    if (rc != 0) {
        bp_dns_backend_del(f->dns);
        f->dns = NULL;
    }
    return rc;
}

struct bp_chain *bp_finder_chain(struct bp_finder *f)
{
    return f->chain;
}

int bp_finder_fd(const struct bp_finder *f)
{
    return f->epoll_fd;
}

/* --- names of endpoints -------------------------------------------------------- */

static struct finding *find(const struct bp_finder *f, uint32_t id)
{
    struct finding *k = f->findings;

    while (k != NULL && k->id != id) {
        k = k->next;
    }
    return k;
}

static int open_resolver(struct bp_finder *f)
{
    bp_time ms = f->limit / 4 / BP_MS; /* so that a second try fits */
    int rc;

    if (f->resolver != NULL) {
        return 0;
    }
    rc = bp_resolver_new(&f->resolver, f->has_servers ? f->servers : NULL,
                         ms < 1 ? 1u : (ms > 60000 ? 60000u : (unsigned)ms));
    if (rc == 0 && watch(f, bp_resolver_fd(f->resolver)) != 0) {
        bp_resolver_del(f->resolver);
        f->resolver = NULL;
        rc = BP_E_SYSTEM;
    }
    return rc;
}

static void loopback(const struct bp_finder *f, uint16_t port, struct resolved *r)
{
    if (f->family != AF_INET6 && bp_addr_parse(&r->at[r->n], "127.0.0.1", port) == 0) {
        r->n++;
    }
    if (f->family != AF_INET && bp_addr_parse(&r->at[r->n], "::1", port) == 0) {
        r->n++;
    }
}

static void resolve_one(struct bp_finder *f, struct finding *k, size_t i)
{
    const struct bp_endpoint *ep = &k->found.at[i];
    struct resolved *r = &k->resolved[i];
    struct bp_question q = {
        .kind = BP_ASK_HOST, .name = ep->host, .family = f->family, .id = i, .who = k->id};

    if (bp_addr_parse(&r->at[0], ep->host, ep->port) == 0) {
        r->n = 1;
    } else if (f->has_own_host && strcasecmp(ep->host, f->own_host) == 0) {
        loopback(f, ep->port, r);
    } else if (open_resolver(f) == 0) {
        r->pending = bp_resolver_ask(f->resolver, &q) == 0;
    }
}

static void take_hosts(struct bp_finder *f)
{
    struct bp_answer a;

    if (f->resolver == NULL) {
        return;
    }
    bp_resolver_run(f->resolver);
    while (bp_resolver_take(f->resolver, &a)) {
        struct finding *k = find(f, (uint32_t)a.who);
        struct resolved *r = k != NULL ? &k->resolved[a.id % BP_ENDPOINTS_MAX] : NULL;

        if (k == NULL || k->state != RESOLVING || !r->pending) {
            continue;
        }
        r->pending = false;
        for (size_t i = 0; a.rc == 0 && i < a.n && r->n < BP_FINDER_ADDRS; i++) {
            r->at[r->n] = a.at[i];
            bp_addr_set_port(&r->at[r->n++], k->found.at[a.id % BP_ENDPOINTS_MAX].port);
        }
    }
}

/* Done when every name is, or when it takes too long: then with those that are. */
static void check_resolved(struct bp_finder *f, struct finding *k)
{
    bool pending = false;
    size_t n = 0;

    for (size_t i = 0; i < k->found.n; i++) {
        pending = pending || k->resolved[i].pending;
        n += k->resolved[i].n;
    }
    if (k->state == RESOLVING && (!pending || f->now >= k->deadline)) {
        k->state = DONE;
        k->rc = n > 0 ? 0 : BP_E_SYSTEM;
    }
}

/* --- lookups ------------------------------------------------------------------- */

static void take_found(struct bp_finder *f, const struct bp_chain_event *e)
{
    struct finding *k = find(f, e->id);

    if (k == NULL) {
        return;
    }
    k->rc = e->rc;
    k->backend = e->backend;
    if (e->kind == BP_CHAIN_UNKNOWN) {
        k->state = DONE;
        return;
    }
    k->state = RESOLVING;
    k->deadline = f->now + f->limit;
    k->found = e->found;
    for (size_t i = 0; i < k->found.n; i++) {
        resolve_one(f, k, i);
    }
}

/* Complaints stay in the chain, which has a cap for them, until they are polled. */
static bool take_events(struct bp_finder *f, struct bp_finder_event *out)
{
    struct bp_chain_event e;

    while (bp_chain_poll(f->chain, &e)) {
        if (e.kind == BP_CHAIN_COMPLAINT) {
            *out = (struct bp_finder_event){
                .kind = BP_FINDER_COMPLAINT, .rc = e.rc, .backend = e.backend};
            return true;
        }
        take_found(f, &e);
    }
    take_hosts(f);
    for (struct finding *k = f->findings; k != NULL; k = k->next) {
        check_resolved(f, k);
    }
    return false;
}

int bp_finder_lookup(struct bp_finder *f, const char *node, bp_time now, uint32_t *id)
{
    struct finding *k = calloc(1, sizeof(*k));
    struct finding **p = &f->findings;
    int rc;

    if (k == NULL) {
        return BP_E_NOMEM;
    }
    f->now = now;
    rc = bp_chain_lookup(f->chain, node, now, id);
    if (rc != 0) {
        free(k);
        return rc;
    }
    k->id = *id;
    while (*p != NULL) {
        p = &(*p)->next;
    }
    *p = k;
    bp_finder_run(f, now); /* /etc/hosts has answered already */
    return 0;
}

void bp_finder_cancel(struct bp_finder *f, uint32_t id)
{
    bp_chain_cancel(f->chain, id);
    for (struct finding **p = &f->findings; *p != NULL; p = &(*p)->next) {
        if ((*p)->id == id) {
            struct finding *gone = *p;
            *p = gone->next;
            free(gone);
            return;
        }
    }
}

bp_time bp_finder_deadline(const struct bp_finder *f)
{
    bp_time at = bp_chain_deadline(f->chain);

    for (const struct finding *k = f->findings; k != NULL; k = k->next) {
        if (k->state == DONE) {
            return f->now; /* to be polled */
        }
        if (k->state == RESOLVING && k->deadline < at) {
            at = k->deadline;
        }
    }
    return at;
}

void bp_finder_run(struct bp_finder *f, bp_time now)
{
    f->now = now;
    if (f->files != NULL) {
        bp_file_backend_run(f->files, f->chain);
    }
    /* Twice: what the first tick hands on to DNS may be in /etc/hosts. */
    for (int i = 0; i < 2; i++) {
        if (f->dns != NULL) {
            bp_dns_backend_run(f->dns, f->chain);
        }
        bp_chain_tick(f->chain, now);
    }
}

static void give_addresses(const struct finding *k, struct bp_finder_event *out)
{
    for (size_t i = 0; i < k->found.n; i++) {
        const struct resolved *r = &k->resolved[i];
        for (size_t j = 0; j < r->n && out->n < BP_FINDER_ADDRS; j++) {
            bool known = false;
            for (size_t o = 0; o < out->n; o++) {
                known = known || bp_addr_equal(&out->addrs[o], &r->at[j]);
            }
            if (!known) {
                out->addrs[out->n++] = r->at[j];
            }
        }
    }
}

bool bp_finder_poll(struct bp_finder *f, struct bp_finder_event *out)
{
    if (take_events(f, out)) {
        return true;
    }
    for (struct finding **p = &f->findings; *p != NULL; p = &(*p)->next) {
        struct finding *k = *p;

        if (k->state == DONE) {
            *out =
                (struct bp_finder_event){.kind = k->rc == 0 ? BP_FINDER_FOUND : BP_FINDER_UNKNOWN,
                                         .id = k->id,
                                         .rc = k->rc,
                                         .backend = k->backend,
                                         .found = k->found};
            give_addresses(k, out);
            *p = k->next;
            free(k);
            return true;
        }
    }
    return false;
}
