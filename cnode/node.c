/* SPDX-License-Identifier: Apache-2.0 */
/* Life of a node: made, started, listening, gone. */
#include "cnode/cn.h"
#include "cnode/path.h"

#include "auth/node_name.h"
#include "io/name_claim.h"
#include "quic/tls_cert.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#ifndef BP_VERSION
#define BP_VERSION "0"
#endif

/* OTP gives 0 to 3 other meanings. */
#define CREATION_FIRST 4u

const char *bp_version(void)
{
    return BP_VERSION;
}

/* --- clocks -------------------------------------------------------------- */

static uint64_t clock_ns(clockid_t id)
{
    struct timespec t = {0};

    (void)clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * BP_SEC + (uint64_t)t.tv_nsec;
}

bp_time cn_now(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t cn_wall_ms(void)
{
    return clock_ns(CLOCK_REALTIME) / BP_MS;
}

/* --- new ----------------------------------------------------------------- */

static int init_lock(struct bp_node *n)
{
    pthread_mutexattr_t attr;
    int failed = pthread_mutexattr_init(&attr);

    if (failed != 0) {
        return BP_E_NOMEM;
    }
    /* Backends of the program are called with it, and may answer from inside. */
    (void)pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
    failed = pthread_mutex_init(&n->lock, &attr);
    (void)pthread_mutexattr_destroy(&attr);
    if (failed != 0) {
        return BP_E_NOMEM;
    }
    if (cn_cond_init(&n->users_gone) != 0) {
        (void)pthread_mutex_destroy(&n->lock);
        return BP_E_NOMEM;
    }
    if (cn_cond_init(&n->event_cond) != 0) {
        (void)pthread_cond_destroy(&n->users_gone);
        (void)pthread_mutex_destroy(&n->lock);
        return BP_E_NOMEM;
    }
    return 0;
}

static void init_maps(struct bp_node *n, uint64_t seed)
{
    const struct bp_mem *mem = bp_mem_libc();

    bp_cid_map_init(&n->cids, mem, seed);
    bp_cid_map_init(&n->addrs, mem, seed);
    bp_cid_map_init(&n->ids, mem, seed);
    bp_cid_map_init(&n->names, mem, seed);
}

static int init_rest(struct bp_node *n)
{
    uint64_t seed;
    int rc = bp_random(&seed, sizeof(seed));

    if (rc == 0) {
        rc = bp_random(&n->creation, sizeof(n->creation));
    }
    if (rc != 0) {
        return cn_fail(rc, "no random numbers");
    }
    if (n->creation < CREATION_FIRST) {
        n->creation += CREATION_FIRST;
    }
    init_maps(n, seed);
    rc = cn_info_init(n);
    if (rc != 0) {
        return cn_fail(rc, "%s", bp_err_text(rc));
    }
    rc = cn_run_init(n);
    return rc == 0 ? 0 : cn_fail(rc, "cannot wait for descriptors: %s", strerror(errno));
}

static void free_all(struct bp_node *n)
{
    cn_run_free(n);
    cn_options_free(&n->opt);
    cn_timers_free(&n->timers);
    bp_cid_map_free(&n->cids);
    bp_cid_map_free(&n->addrs);
    bp_cid_map_free(&n->ids);
    bp_cid_map_free(&n->names);
    bp_identity_del(n->identity);
    bp_tls_cred_unref(n->cred);
    free(n->listener);
    free(n->told);
    free(n->rx_mem);
    free(n->tx_mem);
    cn_relays_free(n);
    free(n->fixed);
    free(n->ended);
    (void)pthread_cond_destroy(&n->event_cond);
    (void)pthread_cond_destroy(&n->users_gone);
    (void)pthread_mutex_destroy(&n->lock);
    bp_wipe(n, sizeof(*n));
    free(n);
}

int bp_node_new(struct bp_node **out, const char *name)
{
    struct bp_node *n;
    int rc;

    *out = NULL;
    if (name == NULL || !bp_node_name_valid(name, strlen(name)) ||
        bp_node_name_dynamic(name, strlen(name))) {
        return cn_fail(BP_E_INVALID,
                       "not a node name; wanted is name@host with letters, digits, '_', '-', '.'");
    }
    n = calloc(1, sizeof(*n));
    if (n == NULL) {
        return cn_fail(BP_E_NOMEM, "%s", bp_err_text(BP_E_NOMEM));
    }
    if (init_lock(n) != 0) {
        free(n);
        return cn_fail(BP_E_NOMEM, "%s", bp_err_text(BP_E_NOMEM));
    }
    (void)snprintf(n->name, sizeof(n->name), "%s", name);
    n->fd = n->name_fd = n->outer = n->inner = n->wake_fd = n->event_fd = -1;
    n->dirty_tail = &n->dirty;
    n->ready_tail = &n->ready;
    cn_options_init(&n->opt);
    rc = init_rest(n);
    if (rc != 0) {
        free_all(n);
        return rc;
    }
    *out = n;
    return 0;
}

const char *bp_node_name(const struct bp_node *n)
{
    return n->name;
}

uint16_t bp_node_port(struct bp_node *n)
{
    uint16_t port;

    (void)pthread_mutex_lock(&n->lock);
    port = n->bound.len != 0 ? bp_addr_port(&n->bound) : 0;
    (void)pthread_mutex_unlock(&n->lock);
    return port;
}

void bp_node_fingerprint(struct bp_node *n, char *out, size_t cap)
{
    char text[BP_FINGERPRINT_TEXT] = "";

    (void)pthread_mutex_lock(&n->lock);
    if (n->identity != NULL) {
        bp_fingerprint_text(bp_identity_pub(n->identity), text);
    }
    (void)pthread_mutex_unlock(&n->lock);
    (void)snprintf(out, cap, "%s", text);
}

/* --- start --------------------------------------------------------------- */

static int allocate(struct bp_node *n)
{
    if (n->rx_mem == NULL) {
        n->rx_mem = malloc(BP_UDP_RX_BUFS * BP_UDP_RX_BUF);
    }
    if (n->tx_mem == NULL) {
        n->tx_mem = malloc(BP_UDP_TX_BUF);
    }
    if (n->told == NULL) {
        n->told = calloc(1, sizeof(*n->told));
    }
    return n->rx_mem != NULL && n->tx_mem != NULL && n->told != NULL
               ? 0
               : cn_fail(BP_E_NOMEM, "%s", bp_err_text(BP_E_NOMEM));
}

int bp_node_start(struct bp_node *n)
{
    int rc;

    (void)pthread_mutex_lock(&n->lock);
    if (n->started) {
        rc = cn_fail(BP_E_STATE, "the node %s was started before", n->name);
    } else {
        rc = allocate(n);
        if (rc == 0) {
            rc = cn_load(n);
        }
        if (rc == 0) {
            rc = cn_discover_init(n);
        }
        n->started = rc == 0;
    }
    (void)pthread_mutex_unlock(&n->lock);
    return rc;
}

/* --- the socket ---------------------------------------------------------- */

static int socket_error(const struct bp_node *n, int rc, uint16_t port)
{
    char ip[BP_ADDR_TEXT_MAX] = "";

    if (n->opt.bind.len != 0) {
        (void)bp_addr_ip_text(&n->opt.bind, ip);
    }
    return cn_fail(rc, "cannot open UDP port %u%s%s: %s%s", port, ip[0] != '\0' ? " of " : "", ip,
                   strerror(errno),
                   rc == BP_E_ADDR_IN_USE
                       ? " (another node or program has it: choose another port, or 0)"
                       : "");
}

int cn_open_socket(struct bp_node *n, uint16_t port)
{
    struct bp_addr bound;
    int fd;
    int rc;

    if (n->fd >= 0) {
        return 0;
    }
    rc = bp_udp_listen(&fd, &n->opt.bind, port, n->opt.family, &bound);
    if (rc != 0) {
        return socket_error(n, rc, port);
    }
    bp_udp_report_refused(fd);
    rc = cn_watch(n, fd, EPOLLIN, CN_SRC_SOCKET, 0);
    if (rc != 0) {
        (void)close(fd);
        return cn_fail(rc, "cannot wait for the UDP socket: %s", strerror(errno));
    }
    n->fd = fd;
    n->bound = bound;
    return 0;
}

static int claim_name(struct bp_node *n)
{
    struct bp_errbuf err;
    int rc = bp_name_claim(n->name, &n->name_fd, &err);

    if (rc != 0) {
        n->name_fd = -1;
        return cn_fail(rc, "%s", err.text);
    }
    return 0;
}

static void give_up_name(struct bp_node *n)
{
    if (n->name_fd >= 0) {
        (void)close(n->name_fd);
        n->name_fd = -1;
    }
}

int cn_listen(struct bp_node *n, const uint16_t *port)
{
    uint16_t wanted = port != NULL ? *port : n->opt.port;
    int rc;

    if (!n->started || n->listening || n->closing) {
        return cn_fail(BP_E_STATE,
                       n->listening ? "the node %s listens already"
                                    : "start the node %s before it listens",
                       n->name);
    }
    if (n->fd >= 0 && wanted != 0 && wanted != bp_addr_port(&n->bound)) {
        return cn_fail(BP_E_STATE, "the node %s has dialled from port %u already: listen first",
                       n->name, bp_addr_port(&n->bound));
    }
    n->listener = calloc(1, sizeof(*n->listener));
    if (n->listener == NULL) {
        return cn_fail(BP_E_NOMEM, "%s", bp_err_text(BP_E_NOMEM));
    }
    rc = bp_listener_init(n->listener, n->reset_secret);
    rc = rc == 0 ? claim_name(n) : cn_fail(rc, "%s", bp_err_text(rc));
    if (rc == 0) {
        rc = cn_open_socket(n, wanted);
    }
    if (rc != 0) {
        give_up_name(n);
        free(n->listener);
        n->listener = NULL;
        return rc;
    }
    n->listening = true;
    cn_publish(n);
    cn_touched(n);
    return 0;
}

int bp_node_listen(struct bp_node *n, uint16_t *port)
{
    int rc;

    (void)pthread_mutex_lock(&n->lock);
    rc = cn_listen(n, NULL);
    if (rc == 0 && port != NULL) {
        *port = bp_addr_port(&n->bound);
    }
    (void)pthread_mutex_unlock(&n->lock);
    return rc;
}

/* --- the end ------------------------------------------------------------- */

static void end_peers(struct bp_node *n)
{
    struct cn_peer *next;

    for (struct cn_peer *p = n->peers; p != NULL; p = next) {
        next = p->next;
        p->silent = true;
        cn_event_drop(p);
        cn_ei_drop_peer(p);
        cn_peer_end(p, BP_E_LOCAL_CLOSE, "this node stops", cn_now());
    }
    while (n->peers != NULL) {
        cn_peer_free(n->peers);
    }
}

void bp_node_del(struct bp_node *n)
{
    if (n == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&n->lock);
    n->closing = true;
    cn_ei_wake_all(n);
    (void)pthread_cond_broadcast(&n->event_cond);
    while (n->users > 0) {
        (void)pthread_cond_wait(&n->users_gone, &n->lock);
    }
    if (n->threaded) {
        n->stop = true;
        cn_touched(n);
        (void)pthread_mutex_unlock(&n->lock);
        (void)pthread_join(n->thread, NULL);
        (void)pthread_mutex_lock(&n->lock);
        n->threaded = false;
    }
    cn_withdraw(n);
    end_peers(n);
    cn_ei_free_all(n);
    cn_discover_free(n);
    cn_path_resolver_free(n);
    if (n->fd >= 0) {
        (void)close(n->fd);
    }
    give_up_name(n);
    (void)pthread_mutex_unlock(&n->lock);
    free_all(n);
}
