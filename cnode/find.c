/* SPDX-License-Identifier: Apache-2.0 */
/* From names to addresses, and dialling one after the other. */
#include "cnode/cn.h"

#include "auth/node_name.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRY     (10 * BP_MS)
#define LEAST_TRY (500 * BP_MS)

/* --- looking up ---------------------------------------------------------- */

int cn_find_start(struct cn_peer *p, bp_time now)
{
    struct bp_node *n = p->n;
    int rc = bp_finder_lookup(n->finder, p->name, now, &p->lookup);

    if (rc == BP_E_LIMIT) { /* its turn comes */
        cn_timers_set(&n->timers, p, now + RETRY < p->give_up ? now + RETRY : p->give_up);
        return 0;
    }
    if (rc != 0) {
        return rc;
    }
    n->stats.lookups++;
    n->look_again = true;
    p->looking = true;
    cn_timers_set(&n->timers, p, p->give_up);
    return 0;
}

void cn_find_cancel(struct cn_peer *p)
{
    if (p->looking) {
        p->looking = false;
        bp_finder_cancel(p->n->finder, p->lookup);
    }
}

static struct cn_peer *looking_for(const struct bp_node *n, uint32_t lookup)
{
    for (struct cn_peer *p = n->peers; p != NULL; p = p->next) {
        if (p->looking && p->lookup == lookup) {
            return p;
        }
    }
    return NULL;
}

static void found(struct cn_peer *p, const struct bp_finder_event *e, bp_time now)
{
    char text[CN_TEXT_MAX];

    p->looking = false;
    if (e->kind == BP_FINDER_UNKNOWN || e->n == 0) {
        (void)snprintf(text, sizeof(text),
                       e->rc == BP_E_SYSTEM
                           ? "%s is known, but its host name '%s' has no address"
                           : "no discovery backend knows %s: it is not running, or not where this "
                             "node looks (endpoint files, DNS)%.0s",
                       p->name, e->found.n > 0 ? e->found.at[0].host : "");
        cn_peer_end(p, BP_E_NOT_FOUND, text, now);
        return;
    }
    p->addrs = calloc(e->n, sizeof(*p->addrs));
    if (p->addrs == NULL) {
        cn_peer_end(p, BP_E_NOMEM, NULL, now);
        return;
    }
    memcpy(p->addrs, e->addrs, e->n * sizeof(*p->addrs));
    p->n_addrs = (unsigned)e->n;
    cn_find_next(p, now);
}

void cn_find_run(struct bp_node *n, bp_time now)
{
    struct bp_finder_event e;

    if (n->finder == NULL) {
        return;
    }
    n->look_again = false;
    bp_finder_run(n->finder, now);
    while (bp_finder_poll(n->finder, &e)) {
        struct cn_peer *p = e.kind == BP_FINDER_COMPLAINT ? NULL : looking_for(n, e.id);
        if (e.kind == BP_FINDER_COMPLAINT) {
            cn_log(n, BP_LOG_WARNING, "discovery", n->name, "the backend %s was left out: %s",
                   e.backend, bp_err_text(e.rc));
        } else if (p != NULL) {
            found(p, &e, now);
        }
    }
}

bp_time cn_find_deadline(const struct bp_node *n)
{
    if (n->look_again) {
        return 0;
    }
    return n->finder != NULL ? bp_finder_deadline(n->finder) : BP_TIME_NEVER;
}

/* --- dialling ------------------------------------------------------------ */

static int dial(struct cn_peer *p, struct bp_addr remote, bp_time timeout, bp_time now)
{
    struct bp_node *n = p->n;
    struct bp_link_config lc;
    int rc = cn_open_socket(n, n->opt.port);

    if (rc != 0) {
        return rc;
    }
    if (n->bound.u.sa.sa_family == AF_INET6) {
        bp_addr_map_v6(&remote);
    } else if (remote.u.sa.sa_family != AF_INET) {
        return cn_fail(BP_E_INVALID, "an IPv6 address cannot be dialled from an IPv4 socket");
    }
    cn_peer_link_config(n, &lc);
    lc.conn.local = n->bound;
    lc.conn.remote = remote;
    lc.auth.dialled_name = p->name;
    lc.setup_timeout = timeout;
    rc = cn_peer_connect(p, false, &lc, now);
    return rc == 0 ? 0 : cn_fail(rc, "cannot dial: %s", bp_err_text(rc));
}

void cn_find_next(struct cn_peer *p, bp_time now)
{
    int rc = BP_E_NOT_FOUND;

    while (p->next_addr < p->n_addrs && now < p->give_up) {
        bp_time left = p->give_up - now;
        unsigned rest = p->n_addrs - p->next_addr;
        bp_time each = left / rest > LEAST_TRY ? left / rest : LEAST_TRY;

        rc = dial(p, p->addrs[p->next_addr++], each < left ? each : left, now);
        if (rc == 0) {
            cn_peer_settle(p, now);
            return;
        }
        if (p->err == 0) {
            p->err = rc;
            (void)snprintf(p->text, sizeof(p->text), "%s", bp_error_detail());
        }
    }
    if (now >= p->give_up) {
        rc = p->err != 0 ? p->err : BP_E_TIMEOUT;
    }
    if (p->err != 0) { /* of the last address that answered in some way */
        char text[CN_TEXT_MAX];
        memcpy(text, p->text, sizeof(text));
        cn_peer_end(p, p->err, text, now);
    } else {
        cn_peer_end(p, rc, NULL, now);
    }
}

/* --- public -------------------------------------------------------------- */

static int may_dial(struct bp_node *n, const char *name, bp_peer_id *peer)
{
    const struct cn_peer *p;

    if (!n->started || n->closing) {
        return cn_fail(BP_E_STATE, "start the node %s before it dials", n->name);
    }
    if (name == NULL) {
        return 0;
    }
    if (!bp_node_name_valid(name, strlen(name)) || strcmp(name, n->name) == 0) {
        return cn_fail(BP_E_INVALID, "'%.255s' is no node name, or our own", name);
    }
    p = cn_peer_named(n, name, CN_UP);
    p = p != NULL ? p : cn_peer_named(n, name, CN_FINDING);
    p = p != NULL ? p : cn_peer_named(n, name, CN_SETUP);
    if (p != NULL && !p->inbound && p->native) {
        *peer = p->id;
        return cn_fail(BP_E_EXISTS, "there is a connection to %s, or one is under way", name);
    }
    if (p != NULL && p->stage == CN_UP && p->native) {
        *peer = p->id;
        return cn_fail(BP_E_EXISTS, "%s has dialled us, and is connected", name);
    }
    return 0;
}

int cn_dial(struct bp_node *n, const char *name, const struct bp_addr *at, unsigned timeout_ms,
            struct cn_ei *ei)
{
    bp_time now = cn_now();
    struct cn_peer *p;
    int rc = cn_peer_new(n, &p);

    if (rc != 0) {
        return rc;
    }
    n->stats.dialled++;
    p->native = ei == NULL;
    p->ei_peer = ei != NULL;
    p->ei = ei;
    if (ei != NULL) {
        cn_ei_attach(p);
    }
    p->give_up = now + (timeout_ms != 0 ? timeout_ms * BP_MS : n->opt.setup_timeout);
    if (name != NULL) {
        cn_peer_set_name(p, name);
    }
    if (at == NULL) {
        rc = cn_find_start(p, now);
        rc = rc == 0 ? 0 : cn_fail(rc, "cannot look for %s: %s", name, bp_err_text(rc));
    } else {
        p->addrs = calloc(1, sizeof(*p->addrs));
        rc = p->addrs != NULL ? 0 : cn_fail(BP_E_NOMEM, "%s", bp_err_text(BP_E_NOMEM));
        if (rc == 0) {
            p->addrs[0] = *at;
            p->n_addrs = 1;
            rc = dial(p, p->addrs[p->next_addr++], p->give_up - now, now);
        }
    }
    if (rc != 0) {
        cn_peer_free(p);
        return rc;
    }
    if (at != NULL) {
        cn_peer_settle(p, now);
    } else {
        cn_find_run(n, now); /* what is known without waiting */
    }
    return 0;
}

static int dial_public(struct bp_node *n, const char *name, const struct bp_addr *at,
                       unsigned timeout_ms, bp_peer_id *peer)
{
    int rc;

    *peer = 0;
    (void)pthread_mutex_lock(&n->lock);
    rc = may_dial(n, name, peer);
    if (rc == 0) {
        bp_peer_id id = n->last_id + 1;
        rc = cn_dial(n, name, at, timeout_ms, NULL);
        if (rc == 0) {
            *peer = id;
        }
        cn_touched(n);
    }
    (void)pthread_mutex_unlock(&n->lock);
    return rc;
}

int bp_node_dial(struct bp_node *n, const char *name, unsigned timeout_ms, bp_peer_id *peer)
{
    if (name == NULL) {
        *peer = 0;
        return cn_fail(BP_E_INVALID, "whom to dial?");
    }
    return dial_public(n, name, NULL, timeout_ms, peer);
}

int bp_node_dial_at(struct bp_node *n, const char *name, const char *ip, uint16_t port,
                    unsigned timeout_ms, bp_peer_id *peer)
{
    struct bp_addr at;

    *peer = 0;
    if (ip == NULL || port == 0 || bp_addr_parse(&at, ip, port) != 0) {
        return cn_fail(BP_E_INVALID, "wanted is an IPv4 or IPv6 literal and a port");
    }
    return dial_public(n, name, &at, timeout_ms, peer);
}
