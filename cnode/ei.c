/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libei over QUIC: the callbacks of its "User Supplied Socket Implementation". libei blocks in
 * them; the I/O thread does the work, answers ticks, and wakes whoever waits.
 *
 * What libei takes for a socket is one end of a pair. A byte lies in it while there is something to
 * read, so that the program can poll() it; and if the program closes it without libei, our end
 * hangs up.
 */
#include "cnode/ei_impl.h"

#include "barrel_p2p/ei.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- handles ------------------------------------------------------------- */

static struct cn_ei *handle_new(struct bp_node *n)
{
    struct cn_ei *h = calloc(1, sizeof(*h));
    int fds[2];

    if (h == NULL) {
        return NULL;
    }
    if (cn_cond_init(&h->cond) != 0) {
        free(h);
        return NULL;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) != 0) {
        (void)pthread_cond_destroy(&h->cond);
        free(h);
        return NULL;
    }
    h->n = n;
    h->fd = fds[0];
    h->our_fd = fds[1];
    h->id = ++n->last_ei;
    h->queue_tail = &h->queue;
    cn_ei_cutter_init(&h->out, CN_EI_HS_HEAD, CN_EI_HS_MAX);
    h->next = n->eis;
    if (h->next != NULL) {
        h->next->prev = h;
    }
    n->eis = h;
    /* No events: that the other end is closed is always told. */
    (void)cn_watch(n, h->our_fd, 0, CN_SRC_EI, h->id);
    return h;
}

static void close_ours(struct cn_ei *h)
{
    if (h->our_fd >= 0) {
        cn_unwatch(h->n, h->our_fd);
        (void)close(h->our_fd);
        h->our_fd = -1;
    }
}

static void handle_free(struct cn_ei *h, bool close_fd)
{
    struct bp_node *n = h->n;

    if (n->accepting == h) {
        n->accepting = NULL;
    }
    if (h->prev != NULL) {
        h->prev->next = h->next;
    } else {
        n->eis = h->next;
    }
    if (h->next != NULL) {
        h->next->prev = h->prev;
    }
    close_ours(h);
    if (close_fd) {
        (void)close(h->fd);
    }
    cn_ei_play_end(h);
    cn_ei_cutter_free(&h->out);
    cn_ei_reader_free(&h->in);
    (void)pthread_cond_destroy(&h->cond);
    free(h);
}

/* --- readable or not ----------------------------------------------------- */

static bool readable(const struct cn_ei *h)
{
    if (h->kind == EI_LISTENING) {
        return h->n_queue > 0;
    }
    return !cn_ei_reader_empty(&h->in) || h->peer == NULL || h->peer->stage == CN_ENDED ||
           (h->up && bp_link_frames(h->peer->link)->n > 0);
}

void cn_ei_show(struct cn_ei *h)
{
    bool is = readable(h);
    char byte = 0;

    if (is && !h->signalled && h->our_fd >= 0) {
        h->signalled = send(h->our_fd, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1;
    } else if (!is && h->signalled) {
        h->signalled = false;
        (void)recv(h->fd, &byte, 1, MSG_DONTWAIT);
    }
}

static void changed(struct cn_ei *h)
{
    if (h->waiters > 0) {
        (void)pthread_cond_broadcast(&h->cond); /* who waits takes it, and shows the rest */
    } else {
        cn_ei_show(h);
    }
}

void cn_ei_changed(struct cn_peer *p)
{
    changed(p->ei);
}

int cn_ei_failed(int err, int rc, const char *why)
{
    (void)cn_fail(rc, "%s", why != NULL ? why : bp_err_text(rc));
    return err;
}

int cn_ei_wait_for(struct cn_ei *h, bp_time until, const char *late)
{
    int rc;

    h->waiters++;
    rc = cn_wait(h->n, &h->cond, until);
    h->waiters--;
    if (h->kind == EI_CLOSING) {
        (void)pthread_cond_broadcast(&h->cond);
        return cn_ei_failed(ECONNABORTED, BP_E_STATE, "the descriptor was closed meanwhile");
    }
    if (rc == BP_E_TIMEOUT) {
        return cn_ei_failed(ETIMEDOUT, rc, late);
    }
    return rc == 0 ? 0 : cn_ei_failed(ESHUTDOWN, BP_E_STATE, "the node is being deleted");
}

bp_time cn_ei_until(unsigned tmo)
{
    return tmo == EI_SCLBK_INF_TMO ? BP_TIME_NEVER : cn_now() + tmo * BP_MS;
}

/* --- why ----------------------------------------------------------------- */

static int errno_of(const struct cn_peer *p)
{
    switch (p->err) {
    case BP_E_AUTH_KEY_MISMATCH:
    case BP_E_AUTH_UNTRUSTED:
    case BP_E_AUTH_REJECTED:
    case BP_E_AUTH_SIGNATURE:
    case BP_E_AUTH_NAME_MISMATCH:
    case BP_E_AUTH_OWN_IDENTITY:
    case BP_E_HS_NAME_MISMATCH:
    case BP_E_HS_COOKIE:
        return EACCES;
    case BP_E_NOMEM:
        return ENOMEM;
    default:
        break;
    }
    if (p->was_up || p->authenticated) {
        return ECONNRESET; /* never ETIMEDOUT, which means: try again */
    }
    switch (p->err) {
    case BP_E_NOT_FOUND:
        return EHOSTUNREACH;
    case BP_E_RELAY:
        return ENETUNREACH;
    case BP_E_TIMEOUT:
    case BP_E_IDLE_TIMEOUT:
        return ETIMEDOUT;
    case BP_E_REFUSED:
    case BP_E_PEER_CLOSED:
        return ECONNREFUSED;
    default:
        return EIO;
    }
}

/* The errno of a connection that has ended; bp_error_detail says why. */
int cn_ei_ended(const struct cn_ei *h)
{
    if (h->peer == NULL) {
        (void)cn_fail(BP_E_STATE, "there is no connection");
        return ENOTCONN;
    }
    (void)cn_fail(h->peer->err, "%s", h->peer->text);
    return errno_of(h->peer);
}

/* --- peers --------------------------------------------------------------- */

static void attach(struct cn_ei *h, struct cn_peer *p)
{
    h->kind = EI_CONNECTION;
    h->peer = p;
    p->ei = h;
}

void cn_ei_attach(struct cn_peer *p)
{
    attach(p->ei, p);
}

int cn_ei_offer(struct cn_peer *p)
{
    struct cn_ei *h = p->n->accepting;

    if (h == NULL || h->n_queue >= h->backlog) {
        p->n->stats.accept_queue_full++;
        return BP_E_LIMIT;
    }
    p->offered = true;
    p->next_accept = NULL;
    *h->queue_tail = p;
    h->queue_tail = &p->next_accept;
    h->n_queue++;
    changed(h);
    return 0;
}

static void unoffer(struct cn_peer *p)
{
    struct cn_ei *h = p->n->accepting;
    struct cn_peer **at;

    p->offered = false;
    if (h == NULL) {
        return;
    }
    for (at = &h->queue; *at != NULL && *at != p; at = &(*at)->next_accept) {
    }
    if (*at == p) {
        *at = p->next_accept;
        if (*at == NULL) {
            h->queue_tail = at;
        }
        h->n_queue--;
        changed(h);
    }
}

void cn_ei_drop_peer(struct cn_peer *p)
{
    if (p->offered) {
        unoffer(p);
    }
    if (p->ei != NULL) {
        p->ei->peer = NULL;
        p->ei = NULL;
    }
}

/* The handle lets go of its peer, which ends. */
static void let_go(struct cn_ei *h)
{
    struct cn_peer *p = h->peer;

    if (p == NULL) {
        return;
    }
    h->peer = NULL;
    p->ei = NULL;
    if (p->stage == CN_ENDED) {
        cn_peer_reap(p);
    } else {
        cn_peer_end(p, BP_E_LOCAL_CLOSE, NULL, cn_now());
    }
}

static void stop_listening(struct cn_ei *h)
{
    while (h->queue != NULL) {
        struct cn_peer *p = h->queue;
        unoffer(p);
        cn_peer_end(p, BP_E_LOCAL_CLOSE, "the program accepts no more peers", cn_now());
    }
    if (h->n->accepting == h) {
        h->n->accepting = NULL;
    }
}

void cn_ei_hung_up(struct bp_node *n, uint64_t which, bp_time now)
{
    struct cn_ei *h = n->eis;

    (void)now;
    while (h != NULL && h->id != which) {
        h = h->next;
    }
    if (h == NULL) {
        return;
    }
    close_ours(h);
    if (h->kind == EI_LISTENING) {
        stop_listening(h);
    }
    let_go(h);
    h->kind = EI_DEAD;
}

void cn_ei_wake_all(struct bp_node *n)
{
    for (struct cn_ei *h = n->eis; h != NULL; h = h->next) {
        (void)pthread_cond_broadcast(&h->cond);
    }
}

void cn_ei_free_all(struct bp_node *n)
{
    while (n->eis != NULL) {
        /* A descriptor that the program has closed itself may be another's by now. */
        handle_free(n->eis, n->eis->kind != EI_DEAD);
    }
}

/* --- callbacks: sockets -------------------------------------------------- */

/* What this thread dials next, in place of an address. */
static _Thread_local struct {
    struct bp_node *n;
    char name[BP_NODE_NAME_MAX + 1];
} next_dial;

int bp_ei_next_dial(struct bp_node *n, const char *peer)
{
    if (peer != NULL && (strlen(peer) > BP_NODE_NAME_MAX || strcmp(peer, n->name) == 0)) {
        return cn_fail(BP_E_INVALID, "'%.255s' is no node name, or our own", peer);
    }
    next_dial.n = peer != NULL ? n : NULL;
    (void)snprintf(next_dial.name, sizeof(next_dial.name), "%s", peer != NULL ? peer : "");
    return 0;
}

/* What libei itself did not like, and tells nobody. */
static void say_given_up(const struct cn_ei *h)
{
    if (h->kind == EI_CONNECTION && !h->up && h->last_given == 'a' && h->peer != NULL &&
        h->peer->stage != CN_ENDED) {
        (void)cn_fail(BP_E_HS_COOKIE, "%s: %s", cn_who(h->peer), bp_err_text(BP_E_HS_COOKIE));
    }
}

static int cb_socket(void **ctx, void *setup_ctx)
{
    struct bp_node *n = setup_ctx;
    struct cn_ei *h;

    (void)pthread_mutex_lock(&n->lock);
    if (n->closing) {
        (void)pthread_mutex_unlock(&n->lock);
        return cn_ei_failed(ESHUTDOWN, BP_E_STATE, "the node is being deleted");
    }
    h = handle_new(n);
    (void)pthread_mutex_unlock(&n->lock);
    if (h == NULL) {
        (void)cn_fail(BP_E_SYSTEM, "no descriptor for a connection: %s", strerror(errno));
        return errno != 0 ? errno : ENOMEM;
    }
    *ctx = h;
    return 0;
}

static int cb_close(void *ctx)
{
    struct cn_ei *h = ctx;
    struct bp_node *n = h->n;
    bool ours;

    (void)pthread_mutex_lock(&n->lock);
    if (h->kind == EI_LISTENING) {
        stop_listening(h);
    }
    say_given_up(h);
    let_go(h);
    ours = h->kind != EI_DEAD;
    h->kind = EI_CLOSING;
    (void)pthread_cond_broadcast(&h->cond);
    while (h->waiters > 0) {
        (void)pthread_cond_wait(&h->cond, &n->lock);
    }
    handle_free(h, ours);
    cn_touched(n);
    (void)pthread_mutex_unlock(&n->lock);
    return 0;
}

static int cb_get_fd(void *ctx, int *fd)
{
    const struct cn_ei *h = ctx;

    *fd = h->fd;
    return 0;
}

static int listen_errno(int rc)
{
    switch (rc) {
    case BP_E_ADDR_IN_USE:
    case BP_E_DUPLICATE_NAME:
        return EADDRINUSE;
    case BP_E_NOMEM:
        return ENOMEM;
    case BP_E_STATE:
        return EINVAL;
    default:
        return EIO;
    }
}

/* libei's addresses are IPv4 ones. */
static void fill_address(const struct bp_addr *a, void *addr, int *len)
{
    struct sockaddr_in in = {.sin_family = AF_INET};

    if (a->u.sa.sa_family == AF_INET) {
        in = a->u.v4;
    } else {
        in.sin_port = a->u.v6.sin6_port;
        if (bp_addr_is_mapped(a)) {
            memcpy(&in.sin_addr, (const uint8_t *)&a->u.v6.sin6_addr + 12, 4);
        }
    }
    memcpy(addr, &in, (size_t)*len < sizeof(in) ? (size_t)*len : sizeof(in));
    *len = (int)sizeof(in);
}

static int cb_listen(void *ctx, void *addr, int *len, int backlog)
{
    struct cn_ei *h = ctx;
    struct bp_node *n = h->n;
    struct sockaddr_in want = {0};
    uint16_t port;
    int rc = 0;

    memcpy(&want, addr, (size_t)*len < sizeof(want) ? (size_t)*len : sizeof(want));
    (void)pthread_mutex_lock(&n->lock);
    port = ntohs(want.sin_port);
    port = port != 0 ? port : n->opt.port;
    if (n->accepting != NULL) {
        rc = cn_fail(BP_E_ADDR_IN_USE, "the node %s has a listening descriptor already", n->name);
    } else if (!n->listening) {
        rc = cn_listen(n, &port);
    } else if (port != 0 && port != bp_addr_port(&n->bound)) {
        rc = cn_fail(BP_E_ADDR_IN_USE, "the node %s listens on port %u", n->name,
                     bp_addr_port(&n->bound));
    }
    if (rc == 0) {
        h->kind = EI_LISTENING;
        h->backlog =
            backlog > 0 && backlog < (int)CN_ACCEPT_MAX ? (unsigned)backlog : CN_ACCEPT_MAX;
        n->accepting = h;
        n->accept_ei = true;
        fill_address(&n->bound, addr, len);
    }
    (void)pthread_mutex_unlock(&n->lock);
    return rc == 0 ? 0 : listen_errno(rc);
}

/* A handle for the peer that has waited longest: 0, or an errno, and it goes on waiting. */
static int take_first(struct cn_ei *h, struct cn_ei **out)
{
    struct cn_peer *p = h->queue;
    struct cn_ei *got = handle_new(h->n);
    int err;

    if (got == NULL) {
        return cn_ei_failed(EMFILE, BP_E_SYSTEM, "no descriptor or memory for a connection");
    }
    err = cn_ei_play_begin(got, p);
    if (err != 0) {
        handle_free(got, true);
        return err;
    }
    unoffer(p);
    attach(got, p);
    *out = got;
    return 0;
}

static int cb_accept(void **ctx, void *addr, int *len, unsigned tmo)
{
    struct cn_ei *h = *ctx;
    struct bp_node *n = h->n;
    bp_time until = cn_ei_until(tmo);
    struct cn_ei *got = NULL;
    int err = 0;

    (void)pthread_mutex_lock(&n->lock);
    while (err == 0 && h->kind == EI_LISTENING && h->n_queue == 0) {
        err = cn_ei_wait_for(h, until, "nobody has connected in time");
    }
    if (h->kind != EI_LISTENING) {
        err = cn_ei_failed(EINVAL, BP_E_STATE, "the descriptor does not listen (any more)");
    } else if (h->n_queue > 0) {
        err = take_first(h, &got);
    }
    if (got != NULL) {
        fill_address(&got->peer->remote, addr, len);
        *ctx = got;
    }
    cn_ei_show(h);
    (void)pthread_mutex_unlock(&n->lock);
    return err;
}

static int cb_connect(void *ctx, void *addr, int len, unsigned tmo)
{
    struct cn_ei *h = ctx;
    struct bp_node *n = h->n;
    bp_time until = cn_ei_until(tmo);
    const char *name = next_dial.n == n ? next_dial.name : NULL;
    struct bp_addr at;
    int err = 0;
    int rc;

    if (name == NULL && !bp_addr_from_sockaddr(&at, addr, (size_t)len)) {
        return cn_ei_failed(EINVAL, BP_E_INVALID, "wanted is an IPv4 or IPv6 address");
    }
    (void)pthread_mutex_lock(&n->lock);
    rc = n->closing ? cn_fail(BP_E_STATE, "the node is being deleted")
                    : cn_dial(n, &(struct cn_dial){.name = name,
                                                   .at = name == NULL ? &at : NULL,
                                                   .timeout_ms = tmo == EI_SCLBK_INF_TMO ? 0 : tmo,
                                                   .ei = h});
    cn_touched(n);
    if (rc != 0) {
        (void)pthread_mutex_unlock(&n->lock);
        return rc == BP_E_NOMEM ? ENOMEM : rc == BP_E_LIMIT ? EMFILE : EIO;
    }
    while (err == 0 && h->peer != NULL && !h->peer->authenticated && h->peer->stage != CN_ENDED) {
        err = cn_ei_wait_for(h, until, "no answer in time");
    }
    if (h->peer == NULL || h->peer->stage == CN_ENDED) {
        err = cn_ei_ended(h);
    } else if (h->peer->authenticated) {
        err = 0;
    } else if (err == ETIMEDOUT) {
        (void)cn_fail(BP_E_TIMEOUT, "%s did not answer in time", cn_who(h->peer));
    }
    (void)pthread_mutex_unlock(&n->lock);
    return err;
}

static ei_socket_callbacks callbacks = {.flags = EI_SCLBK_FLG_FULL_IMPL,
                                        .socket = cb_socket,
                                        .close = cb_close,
                                        .listen = cb_listen,
                                        .accept = cb_accept,
                                        .connect = cb_connect,
                                        .writev = cn_ei_cb_writev,
                                        .write = cn_ei_cb_write,
                                        .read = cn_ei_cb_read,
                                        .handshake_packet_header_size = cn_ei_cb_header_size,
                                        .connect_handshake_complete = cn_ei_cb_handshake_complete,
                                        .accept_handshake_complete = cn_ei_cb_handshake_complete,
                                        .get_fd = cb_get_fd};

/* --- public -------------------------------------------------------------- */

ei_socket_callbacks *bp_ei_callbacks(void)
{
    return &callbacks; /* libei copies nothing and changes nothing */
}

size_t bp_ei_callbacks_size(void)
{
    return sizeof(callbacks);
}

int bp_ei_prepare(struct bp_node *n, char *alive, const char **host, const char **cookie,
                  unsigned *creation)
{
    int rc = 0;

    (void)pthread_mutex_lock(&n->lock);
    if (!n->started || n->closing) {
        rc = cn_fail(BP_E_STATE, "start the node %s first", n->name);
    } else {
        size_t len = strcspn(n->name, "@");
        memcpy(alive, n->name, len);
        alive[len] = '\0';
        *host = n->name + len + 1;
        *cookie = n->opt.cookie;
        *creation = *creation != 0 ? *creation : n->creation;
        n->creation = *creation; /* which shake.c says for libei */
        rc = cn_run_thread(n);
    }
    (void)pthread_mutex_unlock(&n->lock);
    return rc;
}

bp_peer_id bp_ei_peer(struct bp_node *n, int fd)
{
    bp_peer_id id = 0;

    (void)pthread_mutex_lock(&n->lock);
    for (const struct cn_ei *h = n->eis; h != NULL; h = h->next) {
        if (h->fd == fd && h->kind == EI_CONNECTION && h->peer != NULL) {
            id = h->peer->id;
        }
    }
    (void)pthread_mutex_unlock(&n->lock);
    return id;
}
