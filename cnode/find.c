/* SPDX-License-Identifier: Apache-2.0 */
/* From names to addresses, and dialling one after the other. */
#include "cnode/cn.h"
#include "cnode/path.h"

#include "auth/node_name.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* A relay may know where a node is that nobody else can find; a proxy has to be told. */
static bool anywhere(struct cn_peer *p, bp_time now)
{
    if (p->relay == NULL || p->relay->kind == BP_RELAY_SOCKS5) {
        return false;
    }
    p->addrs = calloc(1, sizeof(*p->addrs));
    if (p->addrs == NULL || bp_addr_parse(p->addrs, "127.0.0.1", 1) != 0) {
        return false;
    }
    p->n_addrs = 1;
    cn_find_next(p, now);
    return true;
}

static void found(struct cn_peer *p, const struct bp_finder_event *e, bp_time now)
{
    char text[CN_TEXT_MAX];

    p->looking = false;
    if (e->kind == BP_FINDER_UNKNOWN || e->n == 0) {
        if (anywhere(p, now)) {
            return;
        }
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

/* The node's one socket is connected to nobody, and a datagram that the kernel has no way for is as
 * one that the network lost: a socket that is asks the kernel before. */
static int routed(const struct bp_node *n, const struct bp_addr *remote)
{
    struct bp_addr from = n->opt.bind;
    struct bp_addr bound;
    char text[BP_ADDR_TEXT_MAX];
    int fd;
    int rc;

    if (from.len != 0 && from.u.sa.sa_family != remote->u.sa.sa_family) {
        return 0;
    }
    rc = bp_udp_path(&fd, &from, remote, false, &bound);
    if (rc == BP_E_SYSTEM) {
        int e = errno;
        (void)bp_addr_text(remote, text);
        return cn_fail(rc, "there is no way to %s from here: %s", text, strerror(e));
    }
    if (rc == 0) {
        (void)close(fd);
    }
    return 0;
}

/* To what an address of the peer's is when the node's socket has it. */
static int direct(struct bp_node *n, struct bp_addr *remote)
{
    int rc = cn_open_socket(n, n->opt.port);

    if (rc == 0) {
        rc = routed(n, remote);
    }
    if (rc != 0) {
        return rc;
    }
    if (n->bound.u.sa.sa_family == AF_INET6) {
        bp_addr_map_v6(remote);
    } else if (remote->u.sa.sa_family != AF_INET) {
        return cn_fail(BP_E_INVALID, "an IPv6 address cannot be dialled from an IPv4 socket");
    }
    return 0;
}

static void limit(uint32_t *size, uint32_t max)
{
    if (max != 0 && max < *size) {
        *size = max;
    }
}

/* The way to `remote` is there. */
static int start_link(struct cn_peer *p, const struct bp_addr *remote, bp_time timeout, bp_time now)
{
    struct bp_node *n = p->n;
    struct bp_link_config lc;
    int rc;

    cn_peer_link_config(n, &lc);
    lc.conn.local = p->path != NULL ? p->path->local : n->bound;
    lc.conn.remote = *remote;
    limit(&lc.conn.max_datagram, p->max_datagram);
    if (p->path != NULL) {
        limit(&lc.conn.max_datagram, p->path->relay->mtu);
    }
    lc.auth.dialled_name = p->name;
    lc.setup_timeout = timeout;
    rc = cn_peer_connect(p, false, &lc, now);
    return rc == 0 ? 0 : cn_fail(rc, "cannot dial: %s", bp_err_text(rc));
}

static int dial(struct cn_peer *p, struct bp_addr remote, bp_time timeout, bp_time now)
{
    int rc;

    if (p->relay == NULL) {
        rc = direct(p->n, &remote);
        return rc == 0 ? start_link(p, &remote, timeout, now) : rc;
    }
    p->attempt_until = now + timeout;
    rc = cn_path_new(&p->path, p, p->relay, &remote);
    if (rc == 0) {
        rc = start_link(p, &remote, timeout, now);
        if (rc != 0) {
            cn_path_del(p->path);
            p->path = NULL;
        }
    } else if (rc == 1) {
        cn_timers_set(&p->n->timers, p, p->attempt_until);
        rc = 0;
    }
    return rc;
}

/* The path to an address was not to be had. */
static void attempt_failed(struct cn_peer *p, int rc, const char *text, bp_time now)
{
    cn_find_note(p, rc, text);
    p->n->stats.relays_failed++;
    cn_path_del(p->path);
    p->path = NULL;
    cn_find_next(p, now);
}

void cn_path_opened(struct cn_path *path, int rc, const char *text, bp_time now)
{
    struct cn_peer *p = path->p;

    if (path != p->path) {
        cn_move_opened(path, rc, text, now);
        return;
    }
    if (rc == 0) {
        rc = start_link(p, &path->remote, p->attempt_until > now ? p->attempt_until - now : 1, now);
        text = rc != 0 ? bp_error_detail() : text;
    }
    if (rc == 0) {
        cn_peer_settle(p, now);
    } else {
        attempt_failed(p, rc, text, now);
    }
}

void cn_find_timeout(struct cn_peer *p, bp_time now)
{
    char text[CN_TEXT_MAX];

    if (now < p->attempt_until) {
        cn_timers_set(&p->n->timers, p, p->attempt_until);
        return;
    }
    (void)snprintf(text, sizeof(text), "%s: %s", cn_path_name(p->path),
                   p->path->state == CN_PATH_RESOLVING
                       ? "its name was not resolved in time"
                       : "the proxy did not answer in time (not a SOCKS 5 proxy, or out of reach)");
    attempt_failed(p, BP_E_TIMEOUT, text, now);
}

static bool is_silence(int err)
{
    return err == BP_E_TIMEOUT || err == BP_E_REFUSED || err == BP_E_SYSTEM;
}

void cn_find_note(struct cn_peer *p, int err, const char *text)
{
    if (p->err == 0 || (is_silence(p->err) && !is_silence(err))) {
        p->err = err;
        (void)snprintf(p->text, sizeof(p->text), "%s", text);
    }
}

bool cn_find_more(const struct cn_peer *p, int err)
{
    bool verdict = bp_err_is_verdict(err) || (err == BP_E_HS_COOKIE && p->authenticated);

    return p->next_addr < p->n_addrs && !verdict && !(p->authenticated && p->ei_peer);
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
        cn_find_note(p, rc, bp_error_detail());
    }
    if (now >= p->give_up) {
        rc = p->err != 0 ? p->err : BP_E_TIMEOUT;
    }
    if (p->err != 0) {
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

/* Looks for it, or dials the address that was given. */
static int begin(struct cn_peer *p, const struct bp_addr *at, bp_time now)
{
    int rc;

    if (at == NULL) {
        rc = cn_find_start(p, now);
        return rc == 0 ? 0 : cn_fail(rc, "cannot look for %s: %s", p->name, bp_err_text(rc));
    }
    p->addrs = calloc(1, sizeof(*p->addrs));
    if (p->addrs == NULL) {
        return cn_fail(BP_E_NOMEM, "%s", bp_err_text(BP_E_NOMEM));
    }
    p->addrs[0] = *at;
    p->n_addrs = 1;
    return dial(p, p->addrs[p->next_addr++], p->give_up - now, now);
}

int cn_dial(struct bp_node *n, const struct cn_dial *d)
{
    bp_time now = cn_now();
    struct cn_relay *relay = d->relay;
    struct cn_peer *p;
    int rc = cn_peer_new(n, &p);

    if (rc != 0) {
        return rc;
    }
    n->stats.dialled++;
    p->native = d->ei == NULL;
    p->ei_peer = d->ei != NULL;
    p->ei = d->ei;
    if (d->ei != NULL) {
        cn_ei_attach(p);
    }
    p->give_up = now + (d->timeout_ms != 0 ? d->timeout_ms * BP_MS : n->opt.setup_timeout);
    p->max_datagram = d->max_datagram;
    if (d->name != NULL) {
        cn_peer_set_name(p, d->name);
        if (relay == NULL && !d->direct) {
            relay = cn_relay_of(n, d->name);
        }
    }
    p->relay = cn_relay_ref(relay);
    rc = begin(p, d->at, now);
    if (rc != 0) {
        cn_peer_free(p);
        return rc;
    }
    if (d->at != NULL) {
        cn_peer_settle(p, now);
    } else {
        cn_find_run(n, now); /* what is known without waiting */
    }
    return 0;
}

/* A program may not want to know the number. */
static void tell(bp_peer_id *peer, bp_peer_id id)
{
    if (peer != NULL) {
        *peer = id;
    }
}

static int dial_public(struct bp_node *n, const struct cn_dial *d, bp_peer_id *peer)
{
    bp_peer_id id = 0;
    int rc;

    (void)pthread_mutex_lock(&n->lock);
    rc = may_dial(n, d->name, &id);
    if (rc == 0) {
        bp_peer_id next = n->last_id + 1;
        rc = cn_dial(n, d);
        id = rc == 0 ? next : 0;
        cn_touched(n);
    }
    (void)pthread_mutex_unlock(&n->lock);
    tell(peer, id);
    return rc;
}

int bp_node_dial(struct bp_node *n, const char *name, unsigned timeout_ms, bp_peer_id *peer)
{
    if (name == NULL) {
        tell(peer, 0);
        return cn_fail(BP_E_INVALID, "whom to dial?");
    }
    return dial_public(n, &(struct cn_dial){.name = name, .timeout_ms = timeout_ms}, peer);
}

static int parse_at(struct bp_addr *at, const char *ip, uint16_t port)
{
    return ip != NULL && port != 0 && bp_addr_parse(at, ip, port) == 0
               ? 0
               : cn_fail(BP_E_INVALID, "wanted is an IPv4 or IPv6 literal and a port");
}

int bp_node_dial_at(struct bp_node *n, const char *name, const char *ip, uint16_t port,
                    unsigned timeout_ms, bp_peer_id *peer)
{
    struct bp_addr at;
    int rc = parse_at(&at, ip, port);

    tell(peer, 0);
    if (rc != 0) {
        return rc;
    }
    return dial_public(n, &(struct cn_dial){.name = name, .at = &at, .timeout_ms = timeout_ms},
                       peer);
}

int bp_node_dial_with(struct bp_node *n, const char *name, const struct bp_dial *dial, size_t size,
                      bp_peer_id *peer)
{
    struct bp_dial d = {0};
    struct cn_dial how;
    struct cn_relay *relay = NULL;
    struct bp_addr at;
    int rc = 0;

    tell(peer, 0);
    memcpy(&d, dial, size < sizeof(d) ? size : sizeof(d));
    if (name == NULL && d.ip == NULL) {
        return cn_fail(BP_E_INVALID, "whom to dial?");
    }
    if (d.max_datagram != 0 && (d.max_datagram < BP_DGRAM_MIN || d.max_datagram > BP_DGRAM_MAX)) {
        return cn_fail(BP_E_INVALID, "max_datagram is a number of %u to %u", BP_DGRAM_MIN,
                       BP_DGRAM_MAX);
    }
    if (d.direct && d.relay != NULL) {
        return cn_fail(BP_E_INVALID, "a relay, and none: choose one of the two");
    }
    how = (struct cn_dial){.name = name,
                           .timeout_ms = d.timeout_ms,
                           .direct = d.direct,
                           .max_datagram = d.max_datagram};
    if (d.ip != NULL) {
        rc = parse_at(&at, d.ip, d.port);
        how.at = &at;
    }
    if (rc == 0 && d.relay != NULL) {
        rc = cn_relay_new(&relay, d.relay);
    }
    if (rc != 0) {
        return rc;
    }
    how.relay = relay;
    rc = dial_public(n, &how, peer);
    (void)pthread_mutex_lock(&n->lock);
    cn_relay_unref(relay);
    (void)pthread_mutex_unlock(&n->lock);
    return rc;
}
