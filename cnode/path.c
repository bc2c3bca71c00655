/* SPDX-License-Identifier: Apache-2.0 */
/* One connection's way through a relay: opened, sent through, read, dead. */
#include "cnode/path.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define RX_ROUNDS    4
#define FEED_AT_ONCE 64
#define RESOLVER_MS  2000u

const char *cn_path_name(const struct cn_path *path)
{
    static _Thread_local char text[CN_PATH_NAME_MAX];
    const struct cn_relay *c = path->relay;

    if (c == NULL) {
        return "";
    }
    switch (c->kind) {
    case BP_RELAY_FD:
        (void)snprintf(text, sizeof(text), "descriptor %d", c->user_fd);
        break;
    case BP_RELAY_FUNCTIONS:
        (void)snprintf(text, sizeof(text), "the program's relay");
        break;
    case BP_RELAY_UDP:
    case BP_RELAY_SOCKS5:
    default:
        (void)snprintf(text, sizeof(text), strchr(c->host, ':') != NULL ? "%s [%s]:%u" : "%s %s:%u",
                       c->kind == BP_RELAY_UDP ? "relay" : "SOCKS proxy", c->host, c->port);
    }
    return text;
}

/* --- opening ------------------------------------------------------------- */

static int watch_side(struct cn_path *path)
{
    return cn_watch(path->p->n, path->r.side,
                    bp_relay_path_wants_write(&path->r) ? EPOLLIN | EPOLLOUT : EPOLLIN, CN_SRC_SIDE,
                    path->p->id);
}

/* There is a descriptor to read. */
static int in_use(struct cn_path *path)
{
    int rc = cn_watch(path->p->n, path->fd, EPOLLIN, CN_SRC_PATH, path->p->id);

    if (rc != 0) {
        return cn_fail(rc, "%s: cannot wait for its socket: %s", cn_path_name(path),
                       strerror(errno));
    }
    path->state = CN_PATH_OPEN;
    path->tx.peer = path->remote; /* what the socket is connected to goes without saying */
    bp_relay_path_tx(&path->r, &path->tx);
    return 0;
}

static int open_functions(struct cn_path *path)
{
    const struct cn_relay *c = path->relay;
    struct bp_addr ip = path->remote;
    char text[BP_ADDR_TEXT_MAX];
    int rc = cn_feed_new(&path->end, &path->fd);

    if (rc != 0) {
        return cn_fail(rc, "%s: %s", cn_path_name(path), bp_err_text(rc));
    }
    bp_addr_ip_text(&ip, text);
    if (c->functions.open != NULL) {
        rc = c->functions.open(c->ctx, path->end, path->p->name, text, bp_addr_port(&ip));
    }
    if (rc != 0) {
        cn_feed_del(path->end);
        path->end = NULL;
        return cn_fail(BP_E_RELAY, "%s could not be opened: %s (%d)", cn_path_name(path),
                       bp_err_text(rc), rc);
    }
    return in_use(path);
}

static int open_way(struct cn_path *path)
{
    struct bp_addr bound; /* QUIC has a name of our own for the path */
    int rc = bp_relay_path_open(&path->r, &path->remote, &path->fd, &bound);

    if (rc < 0) {
        return cn_fail(rc, "%s: %s", cn_path_name(path), path->r.text);
    }
    if (rc == 0) {
        return in_use(path);
    }
    path->state = CN_PATH_OPENING;
    rc = watch_side(path);
    return rc == 0 ? 1
                   : cn_fail(rc, "%s: cannot wait for its socket: %s", cn_path_name(path),
                             strerror(errno));
}

static int open_via(struct cn_path *path, const struct bp_addr *via)
{
    const struct cn_relay *c = path->relay;
    struct bp_addr at = *via;
    int rc = 0;

    bp_addr_set_port(&at, c->port);
    if (c->kind == BP_RELAY_UDP) {
        bp_relay_path_udp(&path->r, &at);
    } else {
        rc = bp_relay_path_socks5(&path->r, &at, c->user, c->password);
    }
    return rc == 0 ? open_way(path) : cn_fail(rc, "%s: %s", cn_path_name(path), bp_err_text(rc));
}

/* --- the relay's name ---------------------------------------------------- */

static int need_resolver(struct bp_node *n)
{
    int rc;

    if (n->resolver != NULL) {
        return 0;
    }
    rc = bp_resolver_new(&n->resolver, cn_dns_servers(n), RESOLVER_MS);
    if (rc == 0) {
        rc = cn_watch(n, bp_resolver_fd(n->resolver), EPOLLIN, CN_SRC_RESOLVER, 0);
    }
    if (rc != 0) {
        cn_path_resolver_free(n);
    }
    return rc;
}

void cn_path_resolver_free(struct bp_node *n)
{
    bp_resolver_del(n->resolver);
    n->resolver = NULL;
}

static int ask(struct cn_path *path, int family)
{
    struct bp_node *n = path->p->n;
    struct bp_question q = {.kind = BP_ASK_HOST,
                            .name = path->relay->host,
                            .family = family,
                            .id = ++n->last_question,
                            .who = path->p->id};
    int rc = need_resolver(n);

    path->asked_v6 = family == AF_INET6;
    path->question = q.id;
    path->state = CN_PATH_RESOLVING;
    if (rc == 0) {
        rc = bp_resolver_ask(n->resolver, &q);
    }
    n->answers = true; /* perhaps at once */
    return rc == 0 ? 1
                   : cn_fail(rc, "%s: its name cannot be resolved: %s", cn_path_name(path),
                             bp_err_text(rc));
}

static struct cn_path *that_asked(const struct bp_node *n, const struct bp_answer *a)
{
    const struct cn_peer *p = cn_peer_of(n, a->who);

    for (unsigned i = 0; p != NULL && i < 2; i++) {
        struct cn_path *path = cn_move_path(p, i);
        if (path != NULL && path->state == CN_PATH_RESOLVING && path->question == a->id) {
            return path;
        }
    }
    return NULL;
}

static void answered(struct cn_path *path, const struct bp_answer *a, bp_time now)
{
    int rc;

    if (a->rc == 0 && a->n > 0) {
        rc = open_via(path, &a->at[0]);
    } else if (!path->asked_v6) {
        rc = ask(path, AF_INET6); /* in this order, as Erlang nodes do */
    } else {
        rc = cn_fail(BP_E_RELAY, "%s: its name cannot be resolved: %s", cn_path_name(path),
                     a->why != NULL ? a->why : bp_err_text(a->rc));
    }
    if (rc <= 0) {
        cn_path_opened(path, rc, rc != 0 ? bp_error_detail() : "", now);
    }
}

void cn_path_resolved(struct bp_node *n)
{
    struct bp_answer a;

    n->answers = false;
    if (n->resolver == NULL) {
        return;
    }
    bp_resolver_run(n->resolver);
    while (bp_resolver_take(n->resolver, &a)) {
        struct cn_path *path = that_asked(n, &a);
        if (path != NULL) {
            answered(path, &a, cn_now());
        }
    }
}

/* --- life ---------------------------------------------------------------- */

int cn_path_new(struct cn_path **out, struct cn_peer *p, struct cn_relay *relay,
                const struct bp_addr *remote)
{
    struct cn_path *path = calloc(1, sizeof(*path));
    struct bp_addr via;
    int rc;

    *out = NULL;
    if (path == NULL) {
        return cn_fail(BP_E_NOMEM, "%s", bp_err_text(BP_E_NOMEM));
    }
    path->p = p;
    path->relay = cn_relay_ref(relay);
    path->remote = *remote;
    path->fd = -1;
    path->r.side = -1;
    path->r.mtu = relay != NULL ? relay->mtu : 0;
    bp_relay_path_name(remote, &path->local);
    if (relay == NULL) {
        bp_relay_path_udp(&path->r, remote);
        rc = open_way(path);
    } else if (relay->kind == BP_RELAY_FUNCTIONS) {
        rc = open_functions(path);
    } else if (relay->kind == BP_RELAY_FD) {
        bp_relay_path_fd(&path->r, relay->fd);
        rc = open_way(path);
    } else if (bp_addr_parse(&via, relay->host, relay->port) == 0) {
        rc = open_via(path, &via);
    } else {
        rc = ask(path, AF_INET);
    }
    if (rc < 0) {
        p->n->stats.relays_failed++;
        cn_path_del(path);
        return rc;
    }
    *out = path;
    return rc;
}

static void close_side(struct cn_path *path)
{
    if (path->r.side >= 0) {
        cn_unwatch(path->p->n, path->r.side);
    }
    bp_relay_path_close(&path->r);
}

void cn_path_del(struct cn_path *path)
{
    if (path == NULL) {
        return;
    }
    close_side(path);
    if (path->fd >= 0) {
        cn_unwatch(path->p->n, path->fd);
    }
    if (path->end != NULL) {
        if (path->relay->functions.close != NULL) {
            path->relay->functions.close(path->relay->ctx, path->end);
        }
        cn_feed_del(path->end);
    }
    if (path->fd >= 0) {
        (void)close(path->fd);
    }
    cn_relay_unref(path->relay);
    free(path->stash);
    free(path);
}

/* --- dying --------------------------------------------------------------- */

static bool was_left(const struct cn_path *path)
{
    return path != path->p->path && path != cn_move_path(path->p, 1);
}

static void down(struct cn_path *path, const char *why)
{
    struct bp_node *n = path->p->n;

    if (!path->r.down && !was_left(path)) {
        path->r.down = true;
        n->stats.relays_dead++;
        cn_log(n, BP_LOG_WARNING, "relay_down", cn_who(path->p),
               "%s: %s; the connection ends unless it is moved", cn_path_name(path), why);
    }
}

void cn_path_refused(struct cn_path *path, bp_time now)
{
    struct cn_peer *p = path->p;
    char text[CN_PATH_NAME_MAX + 64];

    if (path != p->path) {
        return;
    }
    if (path->relay == NULL) {
        cn_peer_refused(p, now);
        return;
    }
    if (p->stage == CN_UP) {
        down(path, "nobody takes datagrams there");
        return;
    }
    /* ICMP can be forged, a descriptor's other end cannot. */
    if (path->relay->kind == BP_RELAY_FD || cn_peer_refused_again(p, now)) {
        (void)snprintf(text, sizeof(text), "%s: nobody takes datagrams there", cn_path_name(path));
        bp_link_fail(p->link, BP_E_RELAY, text);
    }
}

/* --- sending ------------------------------------------------------------- */

static void want_out(struct cn_path *path, bool want)
{
    if (path->want_out != want && path->end == NULL) {
        path->want_out = want;
        (void)cn_watch(path->p->n, path->fd, want ? EPOLLIN | EPOLLOUT : EPOLLIN, CN_SRC_PATH,
                       path->p->id);
    }
}

/* As bp_udp_send. */
static unsigned call_functions(struct cn_path *path, const uint8_t *buf, struct bp_tx_run *runs,
                               unsigned n)
{
    const struct cn_relay *c = path->relay;
    struct bp_relay_stats *st = &path->p->n->relayed;

    for (unsigned i = 0; i < n; i++) {
        struct bp_tx_run *run = &runs[i];

        while (run->len > 0) {
            size_t len = run->len < run->seg ? run->len : run->seg;
            int rc = BP_E_LIMIT;

            if (c->mtu == 0 || len <= c->mtu) {
                rc = c->functions.send(c->ctx, path->end, buf + run->off, len);
            }
            if (rc == BP_E_AGAIN) {
                return i;
            }
            if (rc == 0) {
                st->datagrams_out++;
                st->bytes_out += len;
            } else {
                st->dropped_out++;
            }
            run->off += len;
            run->len -= len;
        }
    }
    return n;
}

static unsigned send_runs(struct cn_path *path, const uint8_t *buf, struct bp_tx_run *runs,
                          unsigned n)
{
    unsigned done;

    if (path->end != NULL) {
        return call_functions(path, buf, runs, n);
    }
    done = bp_relay_path_send(&path->p->n->relayed, path->fd, &path->tx, buf, runs, n);
    if (path->tx.refused) {
        path->tx.refused = false;
        cn_path_refused(path, cn_now());
    }
    return done;
}

/* Without memory it is lost, as in a network. */
static void stash(struct cn_path *path, const uint8_t *buf, const struct bp_tx_run *runs,
                  unsigned n)
{
    size_t size = bp_udp_runs_size(runs, n);

    path->stash = size > 0 ? malloc(size) : NULL;
    if (path->stash == NULL) {
        return;
    }
    bp_udp_runs_copy(path->stash, path->stash_runs, buf, runs, n);
    path->n_stash = n;
    want_out(path, true);
}

static void unstash(struct cn_path *path)
{
    unsigned done;

    if (path->n_stash == 0) {
        return;
    }
    done = send_runs(path, path->stash, path->stash_runs, path->n_stash);
    path->n_stash -= done;
    memmove(path->stash_runs, path->stash_runs + done, path->n_stash * sizeof(path->stash_runs[0]));
    if (path->n_stash == 0) {
        free(path->stash);
        path->stash = NULL;
        want_out(path, false);
        cn_peer_dirty(path->p);
    }
}

void cn_path_send(struct cn_path *path, const uint8_t *buf, struct bp_tx_run *runs, unsigned n)
{
    unsigned done = 0;

    unstash(path);
    if (path->n_stash == 0) {
        done = send_runs(path, buf, runs, n);
        if (done < n) {
            stash(path, buf, runs + done, n - done);
        }
    }
}

bool cn_path_blocked(const struct cn_path *path)
{
    return path->n_stash > 0;
}

/* --- receiving ----------------------------------------------------------- */

static bool alive(const struct cn_peer *p, const struct cn_path *path)
{
    bool found = false;

    for (unsigned i = 0; i < CN_PATHS_MAX; i++) {
        found = found || cn_move_path(p, i) == path;
    }
    return found && p->stage != CN_ENDED;
}

/* False: the path is gone. */
static bool give(struct cn_path *path, const uint8_t *d, size_t len, bp_time now)
{
    struct cn_peer *p = path->p;
    size_t left = bp_relay_path_unwrap(&path->r, &p->n->relayed, d, len);

    p->n->stats.datagrams++;
    if (left > 0) {
        cn_peer_read(p, &path->local, &path->remote, d + (len - left), left, now);
        p->just_read = true;
    }
    return alive(p, path);
}

static void read_functions(struct cn_path *path, bp_time now)
{
    struct bp_node *n = path->p->n;
    size_t len;

    for (int i = 0; i < FEED_AT_ONCE; i++) {
        if (!cn_feed_take(path->end, n->rx_mem, BP_UDP_RX_BUF, &len)) {
            break;
        }
        if (!give(path, n->rx_mem, len, now)) {
            return;
        }
    }
    unstash(path); /* perhaps there is room now */
}

static bool give_batch(struct cn_path *path, const struct bp_udp_rx *rx, bp_time now)
{
    for (size_t off = 0; off < rx->len; off += rx->seg) {
        size_t len = rx->len - off < rx->seg ? rx->len - off : rx->seg;
        if (!give(path, rx->data + off, len, now)) {
            return false;
        }
    }
    return true;
}

static void read_socket(struct cn_path *path)
{
    struct bp_node *n = path->p->n;
    struct bp_udp_rx rx[BP_UDP_RX_BUFS];

    for (int round = 0; round < RX_ROUNDS; round++) {
        bp_time now = cn_now();
        bool refused = false;
        int got = bp_udp_recv(path->fd, n->rx_mem, rx, &refused);

        for (int i = 0; i < got; i++) {
            if (!give_batch(path, &rx[i], now)) {
                return;
            }
        }
        if (refused) {
            cn_path_refused(path, now);
        }
        if (got < 0) {
            /* It would be readable for ever. */
            cn_unwatch(n, path->fd);
            if (path->p->stage == CN_UP) {
                down(path, strerror(errno));
            } else {
                cn_path_refused(path, now);
            }
        }
        if (got < (int)BP_UDP_RX_BUFS) {
            return;
        }
    }
}

static void side_ready(struct cn_path *path)
{
    struct bp_addr bound;
    int fd = -1;
    bool open = path->state == CN_PATH_OPEN;
    int rc = bp_relay_path_ready(&path->r, &fd, &bound);

    if (rc == 1) {
        (void)watch_side(path);
    } else if (rc < 0 && open) {
        close_side(path);
        down(path, path->r.text);
    } else {
        if (rc == 0) {
            path->fd = fd;
            (void)watch_side(path);
            rc = in_use(path);
        } else {
            rc = cn_fail(rc, "%s: %s", cn_path_name(path), path->r.text);
        }
        cn_path_opened(path, rc, rc != 0 ? bp_error_detail() : "", cn_now());
    }
}

static void path_ready(struct cn_path *path, bool side, uint32_t events)
{
    if (side) {
        if (path->r.side >= 0) {
            side_ready(path);
        }
    } else if (path->state == CN_PATH_OPEN) {
        if (path->end != NULL) {
            read_functions(path, cn_now());
            return;
        }
        if ((events & EPOLLOUT) != 0) {
            unstash(path);
        }
        read_socket(path);
    }
}

void cn_path_ready(struct bp_node *n, bp_peer_id id, bool side, uint32_t events)
{
    struct cn_peer *p = cn_peer_of(n, id);
    bool was_busy;

    if (p == NULL || p->stage == CN_ENDED) {
        return;
    }
    if (side && p->link == NULL) { /* the path is being opened, which may end the peer */
        if (p->path != NULL) {
            path_ready(p->path, side, events);
        }
        return;
    }
    was_busy = p->busy;
    p->busy = true; /* it is not freed in here */
    for (unsigned i = 0; i < CN_PATHS_MAX && p->stage != CN_ENDED; i++) {
        struct cn_path *path = cn_move_path(p, i);
        if (path != NULL && (side || p->link != NULL)) {
            path_ready(path, side, events);
        }
    }
    p->busy = was_busy;
    if (p->stage == CN_ENDED) {
        cn_peer_reap(p);
    } else if (p->link != NULL) {
        cn_peer_dirty(p);
    }
}
