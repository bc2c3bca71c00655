/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RESOLVE: questions to DNS, answered by a message to whoever asked. The resolver lives with the
 * node port, whose lock guards it, and never waits.
 *
 * Arguments: 1 name, 2 kind (0 host, 1 SRV), 3 family (0, 4, 6), 4 id, 5 servers (empty: the
 * system's), 6 milliseconds for a server's first answer. For SRV the name is the domain, and 7 the
 * host of one node's own records. Later the caller gets
 * {barrel_p2p_resolved, Id, Result}, Result as of control operations: for hosts the TTL (4 bytes)
 * and each address (length, bytes); for SRV the TTL and, in order of preference, priority, weight,
 * port (2 bytes each), length and target.
 */
#include "driver/drv.h"

#include "io/resolver.h"

#include <string.h>
#include <unistd.h>

#define SERVERS_MAX 1024u

static struct bp_resolver *resolver;
static int select_fd = -1; /* a duplicate of the resolver's: the VM closes it when it has let go */
static char servers[SERVERS_MAX];
static unsigned timeout_ms;

void drv_resolve_stop(struct drv_node_port *np)
{
    if (select_fd >= 0) {
        driver_select(np->p.port, (ErlDrvEvent)(intptr_t)select_fd, ERL_DRV_READ | ERL_DRV_USE, 0);
        select_fd = -1;
    }
    bp_resolver_del(resolver);
    resolver = NULL;
}

static int start(struct drv_node_port *np, const char *wanted, unsigned ms)
{
    int rc;

    if (resolver != NULL && strcmp(servers, wanted) == 0 && timeout_ms == ms) {
        return 0;
    }
    drv_resolve_stop(np); /* who waits for the old servers gives up by itself */
    rc = bp_resolver_new(&resolver, wanted[0] != '\0' ? wanted : NULL, ms);
    if (rc != 0) {
        return rc;
    }
    select_fd = dup(bp_resolver_fd(resolver));
    if (select_fd < 0) {
        drv_resolve_stop(np);
        return BP_E_SYSTEM;
    }
    if (driver_select(np->p.port, (ErlDrvEvent)(intptr_t)select_fd, ERL_DRV_READ | ERL_DRV_USE,
                      1) != 0) {
        (void)close(select_fd);
        select_fd = -1;
        drv_resolve_stop(np);
        return BP_E_SYSTEM;
    }
    memcpy(servers, wanted, strlen(wanted) + 1);
    timeout_ms = ms;
    return 0;
}

static void put_answer(struct drv_reply *r, const struct bp_answer *a)
{
    if (a->rc != 0) {
        drv_reply_error(r, a->rc, a->why);
        return;
    }
    drv_reply_ok(r);
    drv_reply_uint(r, a->ttl, 4);
    for (size_t i = 0; i < a->n; i++) {
        const struct bp_addr *addr = &a->at[i];
        if (addr->u.sa.sa_family == AF_INET) {
            drv_reply_uint(r, 4, 1);
            drv_reply_bytes(r, &addr->u.v4.sin_addr, 4);
        } else {
            drv_reply_uint(r, 16, 1);
            drv_reply_bytes(r, &addr->u.v6.sin6_addr, 16);
        }
    }
    for (size_t i = 0; i < a->srv.n; i++) {
        const struct bp_srv *srv = &a->srv.at[i];
        drv_reply_uint(r, srv->priority, 2);
        drv_reply_uint(r, srv->weight, 2);
        drv_reply_uint(r, srv->port, 2);
        drv_reply_uint(r, strlen(srv->target), 1);
        drv_reply_bytes(r, srv->target, strlen(srv->target));
    }
}

static void deliver(void)
{
    struct bp_answer *a = bp_mem_zalloc(drv_mem(), 1, sizeof(*a));

    /* Without memory the answers wait for the next call. */
    while (a != NULL && resolver != NULL && bp_resolver_take(resolver, a)) {
        struct drv_reply r;
        drv_reply_init(&r);
        put_answer(&r, a);
        drv_tell_result((ErlDrvTermData)a->who, "barrel_p2p_resolved", a->id, &r);
    }
    drv_free(a);
}

bool drv_resolve_ready(int fd)
{
    if (fd != select_fd || resolver == NULL) {
        return false;
    }
    bp_resolver_run(resolver);
    deliver();
    return true;
}

static bool question_name(const uint8_t *p, size_t len, bool srv,
                          char out[static BP_DNS_NAME_MAX + 1])
{
    char name[BP_DNS_NAME_MAX + 1];
    char host[BP_DNS_NAME_MAX + 1];
    bool of_one = drv_args_string(p, len, 7, host, sizeof(host));

    if (!drv_args_string(p, len, 1, name, sizeof(name))) {
        return false;
    }
    if (srv) {
        return bp_dns_service_name(of_one ? host : NULL, name, out) == 0;
    }
    memcpy(out, name, sizeof(name));
    return true;
}

void drv_resolve_control(struct drv_node_port *np, const uint8_t *p, size_t len,
                         struct drv_reply *r)
{
    char name[BP_DNS_NAME_MAX + 1];
    char wanted[SERVERS_MAX] = "";
    uint64_t kind = 0;
    uint64_t family = 0;
    uint64_t id = 0;
    uint64_t ms = 0;
    int rc = BP_E_INVALID;

    (void)drv_args_uint(p, len, 2, &kind);
    (void)drv_args_uint(p, len, 3, &family);
    (void)drv_args_uint(p, len, 4, &id);
    (void)drv_args_uint(p, len, 6, &ms);
    (void)drv_args_string(p, len, 5, wanted, sizeof(wanted));
    if (question_name(p, len, kind == BP_ASK_SRV, name) && kind <= BP_ASK_SRV && ms >= 1 &&
        ms <= 60000) {
        rc = start(np, wanted, (unsigned)ms);
    }
    if (rc == 0) {
        struct bp_question q = {.kind = (enum bp_question_kind)kind,
                                .name = name,
                                .family = family == 4   ? AF_INET
                                          : family == 6 ? AF_INET6
                                                        : AF_UNSPEC,
                                .id = id,
                                .who = (uint64_t)driver_caller(np->p.port)};
        rc = bp_resolver_ask(resolver, &q);
    }
    if (rc != 0) {
        drv_reply_error(r, rc, rc == BP_E_LIMIT ? "too many DNS questions are under way" : NULL);
        return;
    }
    deliver(); /* /etc/hosts answers at once */
    drv_reply_ok(r);
}

void drv_resolve_stats(struct drv_reply *r)
{
    struct bp_resolver_stats s = {0};

    if (resolver != NULL) {
        bp_resolver_stats(resolver, &s);
    }
    drv_reply_stat(r, "dns_asked", s.asked);
    drv_reply_stat(r, "dns_answered", s.answered);
    drv_reply_stat(r, "dns_failed", s.failed);
    drv_reply_stat(r, "dns_refused", s.refused);
}
