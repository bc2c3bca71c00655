/* SPDX-License-Identifier: Apache-2.0 */
/* What a node tells about itself: peers, counters, log, and errors in words. */
#include "cnode/cn.h"
#include "cnode/path.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const end_names[] = {
    [CN_END_REFUSED] = "refused", [CN_END_DIAL_FAILED] = "dial_failed", [CN_END_DOWN] = "down"};

#define N_ENDS (sizeof(end_names) / sizeof(end_names[0]))

int cn_info_init(struct bp_node *n)
{
    n->ended = calloc(N_ENDS * BP_ERR_COUNT, sizeof(*n->ended));
    return n->ended != NULL ? 0 : BP_E_NOMEM;
}

/* --- errors -------------------------------------------------------------- */

/* The public codes are those inside. */
#define SAME(a, b) _Static_assert((int)(a) == (int)(b), #a " is " #b)
SAME(BP_ERROR_AUTH_KEY_MISMATCH, BP_E_AUTH_KEY_MISMATCH);
SAME(BP_ERROR_AUTH_UNTRUSTED, BP_E_AUTH_UNTRUSTED);
SAME(BP_ERROR_AUTH_REJECTED, BP_E_AUTH_REJECTED);
SAME(BP_ERROR_PEER_CLOSED, BP_E_PEER_CLOSED);
SAME(BP_ERROR_COOKIE, BP_E_HS_COOKIE);
SAME(BP_ERROR_NOT_ALLOWED, BP_E_HS_NOT_ALLOWED);
SAME(BP_ERROR_AGAIN, BP_E_AGAIN);
SAME(BP_ERROR_NOT_FOUND, BP_E_NOT_FOUND);
SAME(BP_ERROR_LIMIT, BP_E_LIMIT);
SAME(BP_ERROR_TIMEOUT, BP_E_TIMEOUT);
SAME(BP_ERROR_IDLE_TIMEOUT, BP_E_IDLE_TIMEOUT);
SAME(BP_ERROR_REFUSED, BP_E_REFUSED);
SAME(BP_ERROR_INVALID, BP_E_INVALID);
SAME(BP_ERROR_STATE, BP_E_STATE);
SAME(BP_ERROR_EXISTS, BP_E_EXISTS);
SAME(BP_ERROR_SYSTEM, BP_E_SYSTEM);
SAME(BP_ERROR_FILE, BP_E_FILE);
SAME(BP_ERROR_LOCAL_CLOSE, BP_E_LOCAL_CLOSE);
SAME(BP_ERROR_ADDR_IN_USE, BP_E_ADDR_IN_USE);
SAME(BP_ERROR_DUPLICATE_NAME, BP_E_DUPLICATE_NAME);
SAME(BP_ERROR_NOT_DIALLER, BP_E_NOT_DIALLER);
SAME(BP_ERROR_MIGRATION_DISABLED, BP_E_MIGRATION_DISABLED);
SAME(BP_ERROR_NO_SPARE_CID, BP_E_NO_SPARE_CID);
SAME(BP_ERROR_PATH_FAILED, BP_E_PATH_FAILED);
SAME(BP_ERROR_BUSY, BP_E_BUSY);
SAME(BP_ERROR_RELAY, BP_E_RELAY);
SAME(BP_ERROR_NOMEM, BP_E_NOMEM);
SAME(BP_ERROR_INTERNAL, BP_E_INTERNAL);
SAME(BP_ERROR_CRYPTO, BP_E_CRYPTO);

const char *bp_error_name(int error)
{
    return error == 0 ? "ok" : bp_err_atom(error);
}

const char *bp_error_text(int error)
{
    return error == 0 ? "no error" : bp_err_text(error);
}

/* The thread's, as errno is. */
static _Thread_local char detail[1024];
static _Thread_local int last;

const char *bp_error_detail(void)
{
    return detail;
}

int bp_error_last(void)
{
    return last;
}

int cn_fail(int rc, const char *fmt, ...)
{
    va_list ap;

    last = rc;
    va_start(ap, fmt);
    (void)vsnprintf(detail, sizeof(detail), fmt, ap);
    va_end(ap);
    return rc;
}

const char *cn_who(const struct cn_peer *p)
{
    static _Thread_local char text[BP_NODE_NAME_MAX + BP_ADDR_TEXT_MAX + CN_PATH_NAME_MAX + 20];
    char addr[BP_ADDR_TEXT_MAX + CN_PATH_NAME_MAX + 16] = "";
    const char *name = p->link != NULL ? bp_link_peer_name(p->link) : p->name;

    if (p->remote.len != 0) {
        (void)bp_addr_text(&p->remote, addr);
        if (p->path != NULL && p->path->relay != NULL) {
            size_t len = strlen(addr);
            (void)snprintf(addr + len, sizeof(addr) - len, " through %s", cn_path_name(p->path));
        }
    }
    if (name[0] != '\0' && addr[0] != '\0') {
        (void)snprintf(text, sizeof(text), "%s (%s)", name, addr);
    } else {
        (void)snprintf(text, sizeof(text), "%s%s", name, addr);
    }
    return text;
}

void cn_why(const struct cn_peer *p, int err, const char *text, char *out, size_t cap)
{
    const struct bp_node *n = p->n;
    struct bp_trust_sides sides = {
        .peer = p->link != NULL ? bp_link_peer_name(p->link) : p->name,
        .self = n->name,
        .self_key = n->identity != NULL ? bp_identity_pub(n->identity) : NULL,
        .refusal = p->link != NULL ? bp_peer_trust_refusal(p->link, err) : 0};

    bp_peer_trust_explain(&p->trust, err, text, &sides, out, cap);
}

/* --- log ----------------------------------------------------------------- */

void cn_log(struct bp_node *n, enum bp_log_level level, const char *event, const char *peer,
            const char *fmt, ...)
{
    char text[1280];
    va_list ap;

    if (n->log == NULL || level > n->log_level) {
        return;
    }
    if (!bp_rate_take(&n->log_rate, 1, CN_LOG_BURST, CN_LOG_PERIOD, cn_now())) {
        n->stats.log_dropped++;
        return;
    }
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    n->log(n->log_ctx, level, event, peer, text);
}

void bp_node_set_log(struct bp_node *n, enum bp_log_level level, bp_log_fn *fn, void *ctx)
{
    (void)pthread_mutex_lock(&n->lock);
    n->log = fn;
    n->log_ctx = ctx;
    n->log_level = level;
    (void)pthread_mutex_unlock(&n->lock);
}

/* --- counters ------------------------------------------------------------ */

void cn_count_end(struct bp_node *n, enum cn_end_kind kind, int err)
{
    unsigned i = bp_err_index(err);

    if (i < BP_ERR_COUNT) {
        n->ended[kind * BP_ERR_COUNT + i]++;
    }
}

void bp_node_counters(struct bp_node *n, void (*each)(void *ctx, const char *name, uint64_t value),
                      void *ctx)
{
    static const char *const names[] = {
#define COUNTER(name, value) name,
#include "cnode/counters.def"
#undef COUNTER
    };
    uint64_t values[sizeof(names) / sizeof(names[0])];
    uint64_t ended[N_ENDS * BP_ERR_COUNT];
    static const struct bp_listener none;
    const struct bp_listener *l;
    unsigned i = 0;

    (void)pthread_mutex_lock(&n->lock);
    l = n->listener != NULL ? n->listener : &none;
#define COUNTER(name, value) values[i++] = (value);
#include "cnode/counters.def"
#undef COUNTER
    memcpy(ended, n->ended, sizeof(ended));
    (void)pthread_mutex_unlock(&n->lock);
    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        each(ctx, names[i], values[i]);
    }
    for (i = 0; i < N_ENDS * BP_ERR_COUNT; i++) {
        if (ended[i] != 0) {
            char name[64];
            (void)snprintf(name, sizeof(name), "%s_%s", end_names[i / BP_ERR_COUNT],
                           bp_err_atom(bp_err_at(i % BP_ERR_COUNT)));
            each(ctx, name, ended[i]);
        }
    }
}

/* --- peers --------------------------------------------------------------- */

static void fill_path(const struct cn_peer *p, struct bp_peer_info *out)
{
    struct bp_conn_stats cs;
    struct bp_link_stats ls;

    bp_conn_stats(bp_link_conn(p->link), &cs);
    bp_link_stats(p->link, &ls);
    out->srtt_us = cs.smoothed_rtt / 1000;
    out->latest_rtt_us = cs.latest_rtt / 1000;
    out->min_rtt_us = cs.min_rtt / 1000;
    out->rttvar_us = cs.rttvar / 1000;
    out->cwnd = cs.cwnd;
    out->bytes_in_flight = cs.bytes_in_flight;
    out->datagram_size = cs.datagram_size;
    out->packets_sent = cs.packets_sent;
    out->datagrams_received = cs.datagrams_received;
    out->bytes_sent = cs.bytes_sent;
    out->bytes_received = cs.bytes_received;
    out->messages_sent = ls.frames_out;
    out->messages_received = ls.frames_in - ls.ticks_in;
    out->send_queue = bp_link_pending(p->link);
    out->recv_queue = cn_peer_queued(p);
    out->migrations = cs.migrations;
    out->moving = cn_moving(p);
    out->move_error = p->move_error;
}

int bp_node_peer_info(struct bp_node *n, bp_peer_id id, struct bp_peer_info *out, size_t size)
{
    struct bp_peer_info info = {.peer = id};
    const struct cn_peer *p;

    (void)pthread_mutex_lock(&n->lock);
    p = cn_peer_of(n, id);
    if (p == NULL) {
        (void)pthread_mutex_unlock(&n->lock);
        return cn_fail(BP_E_NOT_FOUND, "there is no such connection (any more)");
    }
    info.inbound = p->inbound;
    info.up = p->stage == CN_UP;
    info.ei = p->ei_peer;
    (void)snprintf(info.name, sizeof(info.name), "%s",
                   p->link != NULL ? bp_link_peer_name(p->link) : p->name);
    if (p->remote.len != 0) {
        (void)bp_addr_text(&p->remote, info.address);
    }
    if (n->bound.len != 0) {
        (void)bp_addr_text(&n->bound, info.local);
    }
    if (p->path != NULL) {
        (void)snprintf(info.relay, sizeof(info.relay), "%s", cn_path_name(p->path));
    }
    if (p->trust.has_key) {
        bp_fingerprint_text(p->trust.key, info.fingerprint);
    }
    if (info.up) {
        info.up_ms = (cn_now() - p->up_at) / BP_MS;
    }
    if (p->link != NULL) {
        fill_path(p, &info);
    }
    (void)pthread_mutex_unlock(&n->lock);
    memcpy(out, &info, size < sizeof(info) ? size : sizeof(info));
    return 0;
}

bp_peer_id bp_node_find_peer(struct bp_node *n, const char *name)
{
    const struct cn_peer *p;
    bp_peer_id id;

    (void)pthread_mutex_lock(&n->lock);
    p = cn_peer_named(n, name, CN_UP);
    id = p != NULL ? p->id : 0;
    (void)pthread_mutex_unlock(&n->lock);
    return id;
}

size_t bp_node_peers(struct bp_node *n, bp_peer_id *out, size_t cap)
{
    size_t i = 0;

    (void)pthread_mutex_lock(&n->lock);
    for (const struct cn_peer *p = n->peers; p != NULL; p = p->next) {
        if (i < cap) {
            out[i] = p->id;
        }
        i++;
    }
    (void)pthread_mutex_unlock(&n->lock);
    return i;
}
