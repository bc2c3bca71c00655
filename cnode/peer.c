/* SPDX-License-Identifier: Apache-2.0 */
/* One connection: its link, what it sends and is credited, how it ends. */
#include "cnode/cn.h"
#include "cnode/path.h"

#include "quic/conn_path.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCHES       4u /* that one peer sends before others have their turn */
#define FINISH_TRIES  64u
#define REFUSED_TRIES 2u
#define TIMER_STEP    (100u * 1000u) /* ns */

static void drop(void *ctx, void *p)
{
    (void)ctx;
    free(p);
}

/* --- life ---------------------------------------------------------------- */

int cn_peer_new(struct bp_node *n, struct cn_peer **out)
{
    struct cn_peer *p;

    *out = NULL;
    if (n->n_peers >= n->opt.max_peers) {
        n->stats.peers_limit++;
        return cn_fail(BP_E_LIMIT, "the node %s has its %llu connections (BP_OPT_MAX_PEERS)",
                       n->name, (unsigned long long)n->opt.max_peers);
    }
    p = calloc(1, sizeof(*p));
    if (p == NULL || cn_timers_reserve(&n->timers, n->n_peers + 1) != 0) {
        free(p);
        return cn_fail(BP_E_NOMEM, "%s", bp_err_text(BP_E_NOMEM));
    }
    if (!cn_peer_enter(n, p)) {
        free(p);
        return cn_fail(BP_E_NOMEM, "%s", bp_err_text(BP_E_NOMEM));
    }
    p->due = BP_TIME_NEVER;
    p->trust.key_dir = n->key_dir;
    p->next = n->peers;
    if (p->next != NULL) {
        p->next->prev = p;
    }
    n->peers = p;
    n->n_peers++;
    *out = p;
    return 0;
}

static void undirty(struct cn_peer *p)
{
    struct bp_node *n = p->n;
    struct cn_peer **at = &n->dirty;

    if (!p->dirty) {
        return;
    }
    while (*at != p) {
        at = &(*at)->next_dirty;
    }
    *at = p->next_dirty;
    if (*at == NULL) {
        n->dirty_tail = at;
    }
    p->dirty = false;
    p->next_dirty = NULL;
}

static void uncount(struct cn_peer *p)
{
    if (p->counted) {
        p->counted = false;
        bp_listener_half_open(p->n->listener, &p->counted_as, false);
    }
}

void cn_peer_known(struct cn_peer *p)
{
    if (p->newcomer) {
        p->newcomer = false;
        bp_listener_welcome(p->n->listener, &p->counted_as);
    }
}

void cn_peer_welcome(struct cn_peer *p)
{
    uncount(p);
    cn_peer_known(p);
}

static void drop_link(struct cn_peer *p)
{
    cn_peer_forget_cids(p);
    cn_peer_set_remote(p, NULL);
    bp_link_del(p->link);
    p->link = NULL;
    cn_move_free(p);
    cn_path_del(p->path);
    p->path = NULL;
    free(p->shake);
    p->shake = NULL;
}

void cn_peer_free(struct cn_peer *p)
{
    struct bp_node *n = p->n;

    cn_find_cancel(p);
    cn_ei_drop_peer(p);
    cn_event_drop(p);
    uncount(p);
    undirty(p);
    cn_timers_set(&n->timers, p, BP_TIME_NEVER);
    drop_link(p);
    cn_peer_leave(p);
    if (p->prev != NULL) {
        p->prev->next = p->next;
    } else {
        n->peers = p->next;
    }
    if (p->next != NULL) {
        p->next->prev = p->prev;
    }
    n->n_peers--;
    free(p->addrs);
    cn_relay_unref(p->relay);
    free(p);
}

void cn_peer_reap(struct cn_peer *p)
{
    if (p->stage == CN_ENDED && !p->ready && p->ei == NULL && !p->busy) {
        cn_peer_free(p);
    }
}

void cn_peer_link_config(struct bp_node *n, struct bp_link_config *lc)
{
    const struct cn_options *o = &n->opt;

    *lc = (struct bp_link_config){
        .mem = bp_mem_libc(),
        .rx = bp_rx_mem_libc(),
        .owner = {.release = drop},
        .auth_mode = o->auth ? BP_AUTH_BUILTIN : BP_AUTH_NONE,
        .setup_timeout = o->setup_timeout,
        .wall_ms = cn_wall_ms(),
        .dist_streams = 1, /* libei's messages do not name their sender: one stream, no fences */
        .max_frame_bytes = o->max_frame,
        .conn = {.cred = n->cred,
                 .reset_secret = n->reset_secret,
                 .idle_timeout = o->idle_timeout,
                 .keepalive = o->keepalive,
                 .max_datagram = o->max_datagram},
        .auth = {.identity = n->identity,
                 .self_name = n->name,
                 .trust_mode = o->trust,
                 .window = o->auth_window,
                 .nonce_secret = n->nonce_secret,
                 .succession = &n->succession,
                 .cookie_only = n->cookie_only,
                 .n_cookie_only = o->n_cookie_only}};
}

int cn_peer_connect(struct cn_peer *p, bool server, struct bp_link_config *lc, bp_time now)
{
    int rc;

    p->stage = CN_SETUP;
    p->local = lc->conn.local;
    rc = bp_link_new(&p->link, server, lc, now);
    if (rc != 0) {
        p->link = NULL;
        return rc;
    }
    cn_peer_set_remote(p, &lc->conn.remote);
    if (server) {
        /* The client uses the id of its first packet until it has seen our own. */
        cn_peer_cid(p, &lc->conn.client_dcid, true);
    }
    cn_shake_events(p, now);
    return 0;
}

/* --- sending ------------------------------------------------------------- */

void cn_peer_dirty(struct cn_peer *p)
{
    struct bp_node *n = p->n;

    if (!p->dirty) {
        p->dirty = true;
        p->next_dirty = NULL;
        *n->dirty_tail = p;
        n->dirty_tail = &p->next_dirty;
    }
}

/* One batch; true if there is more. */
static bool flush_batch(struct cn_peer *p, bp_time now)
{
    struct bp_node *n = p->n;
    struct bp_tx_run runs[BP_TX_RUNS];
    unsigned n_runs = 0;
    bool full;

    if (bp_link_write(p->link, n->tx_mem, BP_UDP_TX_BUF, runs, &n_runs, now) != 0) {
        n_runs = 0;
    }
    full = bp_conn_batch_full(bp_link_conn(p->link));
    if (p->move != NULL) {
        n_runs = cn_move_divert(p, n->tx_mem, runs, n_runs);
    }
    if (n_runs > 0 && p->path != NULL) {
        cn_path_send(p->path, n->tx_mem, runs, n_runs);
    } else if (n_runs > 0 && !cn_socket_send(n, runs, n_runs)) {
        return false;
    }
    return full || bp_link_has_more(p->link);
}

/* Its path is full; it becomes dirty again when there is room. */
static bool blocked(const struct cn_peer *p)
{
    return p->path != NULL && cn_path_blocked(p->path);
}

static void flush(struct cn_peer *p, bp_time now)
{
    struct bp_node *n = p->n;
    bool data = bp_link_pending(p->link) > 0;
    bool more = true;

    for (unsigned i = 0; more && i < BATCHES; i++) {
        if (n->n_stash > 0 || blocked(p)) {
            break;
        }
        more = flush_batch(p, i == 0 ? now : cn_now());
        cn_shake_events(p, now);
        if (bp_link_phase(p->link) == BP_LINK_FAILED) {
            return;
        }
    }
    if (data) {
        p->last_flush = cn_now();
        p->flush_cost = p->last_flush - now;
    }
    if ((more || n->n_stash > 0) && !blocked(p)) {
        cn_peer_dirty(p);
    }
}

/*
 * A message goes out at once unless the last flush is only just over; then it waits for those that
 * follow, until whoever runs the node has its turn. "Just" grows with what a flush costs.
 */
void cn_peer_sent(struct cn_peer *p, bp_time now)
{
    bp_time pause = p->flush_cost > CN_FLUSH_AFTER ? p->flush_cost : CN_FLUSH_AFTER;

    if (p->n->threaded &&
        (now - p->last_flush > pause || bp_link_pending(p->link) >= CN_FLUSH_BYTES)) {
        cn_peer_settle(p, now);
    } else {
        cn_peer_dirty(p);
    }
}

/* --- receiving ----------------------------------------------------------- */

void cn_peer_read(struct cn_peer *p, const struct bp_addr *local, const struct bp_addr *remote,
                  const uint8_t *d, size_t len, bp_time now)
{
    (void)bp_link_read(p->link, local, remote, d, len, now);
    cn_shake_events(p, now);
}

uint64_t cn_peer_queued(const struct cn_peer *p)
{
    const struct bp_frame_queue *q = p->link != NULL ? bp_link_frames(p->link) : NULL;

    return q != NULL && q->n > 0 ? q->bytes : 0;
}

void cn_peer_credit(struct cn_peer *p, bp_time now)
{
    const struct bp_frame_queue *q = bp_link_frames(p->link);

    (void)now;
    if (p->stage != CN_UP) {
        return;
    }
    /* A message that is not whole does not count: it is the peer's turn. */
    if (!p->held && q->n > 0 && q->bytes > p->n->opt.recv_buffer) {
        p->held = true;
        p->n->stats.held++;
        bp_link_hold(p->link);
    } else if (p->held && (q->n == 0 || q->bytes <= p->n->opt.recv_buffer / 2)) {
        p->held = false;
        bp_link_deliver(p->link);
        cn_peer_dirty(p);
    }
}

static void answer_ticks(struct cn_peer *p)
{
    struct bp_link_stats ls;

    bp_link_stats(p->link, &ls);
    if (ls.ticks_in > p->ticks_seen) {
        p->ticks_seen = ls.ticks_in;
        bp_link_tick(p->link);
    }
}

/* --- after anything happened --------------------------------------------- */

/* The peer's address has changed and was validated. */
static void follow(struct cn_peer *p)
{
    const struct bp_addr *remote = bp_conn_remote(bp_link_conn(p->link));

    if (!bp_addr_equal(remote, &p->remote)) {
        struct bp_addr copy = *remote;
        cn_peer_set_remote(p, &copy);
    }
}

static void set_timer(struct cn_peer *p, bool later, bp_time now)
{
    bp_time due = bp_link_deadline(p->link, now);

    /* QUIC has no deadline for what it would have sent now, were it asked: a lost frame, say. */
    if (later && due > now + BP_MS) {
        due = now + BP_MS;
    }
    if (p->move != NULL && cn_move_deadline(p) < due) {
        due = cn_move_deadline(p);
    }
    if (due != BP_TIME_NEVER && due < now + TIMER_STEP) {
        due = now + TIMER_STEP;
    }
    cn_timers_set(&p->n->timers, p, due);
}

static void notify(struct cn_peer *p, bp_time now)
{
    if (p->ei != NULL) {
        cn_ei_changed(p);
    } else if (p->native && p->stage == CN_UP) {
        if (p->want_writable && bp_link_pending(p->link) <= p->n->opt.send_buffer / 2) {
            p->want_writable = false;
            p->tell_writable = true;
        }
        if (p->tell_writable || bp_link_frames(p->link)->n > 0) {
            cn_event_ready(p);
        }
    }
    cn_peer_credit(p, now);
}

/* Only where libei dials it does its handshake itself. */
static bool shakes(const struct cn_peer *p)
{
    return p->native || (p->ei_peer && p->inbound);
}

static void link_failed(struct cn_peer *p, bp_time now);

void cn_peer_settle(struct cn_peer *p, bp_time now)
{
    bool later;

    if (p->link == NULL || p->stage == CN_ENDED || p->busy) {
        return;
    }
    p->busy = true; /* nothing in here frees it */
    cn_shake_events(p, now);
    if (shakes(p) && p->stage == CN_SETUP) {
        cn_shake_step(p, now);
    }
    if (p->stage == CN_UP) {
        answer_ticks(p);
    }
    /* What was read is likely to be answered: one datagram then, and one wake-up of the peer. */
    later = p->just_read && bp_conn_only_acks(bp_link_conn(p->link));
    p->just_read = false;
    if (!later && p->stage != CN_ENDED && bp_link_phase(p->link) != BP_LINK_FAILED) {
        flush(p, now);
    }
    if (shakes(p) && p->stage == CN_SETUP) {
        cn_shake_step(p, now);
    }
    p->busy = false;
    if (p->stage == CN_ENDED) {
        cn_peer_reap(p);
        return;
    }
    if (bp_link_phase(p->link) == BP_LINK_FAILED) {
        link_failed(p, now);
        return;
    }
    follow(p);
    if (p->stage == CN_UP) {
        cn_move_settle(p, now);
    }
    notify(p, now);
    set_timer(p, later, now);
}

void cn_peer_timer(struct cn_peer *p, bp_time now)
{
    char text[CN_TEXT_MAX];

    if (p->link != NULL) {
        (void)bp_link_on_timer(p->link, now);
        cn_peer_settle(p, now);
        return;
    }
    cn_timers_set(&p->n->timers, p, BP_TIME_NEVER);
    if (p->path != NULL) {
        cn_find_timeout(p, now);
    } else if (now >= p->give_up) {
        (void)snprintf(text, sizeof(text), "%s was not found in time", p->name);
        cn_peer_end(p, BP_E_TIMEOUT, text, now);
    } else if (!p->looking && p->n_addrs == 0) {
        int rc = cn_find_start(p, now);
        if (rc != 0) {
            cn_peer_end(p, rc, NULL, now);
        }
    }
}

bool cn_peer_refused_again(struct cn_peer *p, bp_time now)
{
    struct bp_conn_stats st;

    bp_conn_stats(bp_link_conn(p->link), &st);
    if (p->refused == 0 || st.last_authentic > p->refused_at) {
        p->refused = 0;
        p->refused_at = now;
    }
    p->refused++;
    /* ICMP can be forged: it takes several refusals and silence. */
    if (p->refused > REFUSED_TRIES && now - st.last_authentic >= st.pto &&
        now - p->refused_at >= st.pto / 2) {
        return true;
    }
    bp_conn_probe(bp_link_conn(p->link));
    return false;
}

void cn_peer_refused(struct cn_peer *p, bp_time now)
{
    const struct bp_addr *local = p->path != NULL ? &p->path->local : &p->local;

    /* Where the connection was before it is as it should be. */
    if (bp_conn_path_in_use(bp_link_conn(p->link), &p->remote, local) &&
        cn_peer_refused_again(p, now)) {
        bp_link_fail(p->link, BP_E_REFUSED, NULL);
    }
}

/* --- the end ------------------------------------------------------------- */

/* The last datagrams of a link that has failed, or is closed now. */
static void finish_link(struct cn_peer *p, int err, const char *why, bp_time now)
{
    struct bp_node *n = p->n;
    struct bp_tx_run runs[BP_TX_RUNS + 1];
    uint8_t *buf = n->tx_mem;
    unsigned n_runs = 0;
    size_t close_len;

    if (bp_link_phase(p->link) != BP_LINK_FAILED) {
        bool more = true;
        /* What the congestion window still takes. */
        for (unsigned i = 0; more && i < FINISH_TRIES && n->n_stash == 0 && !blocked(p); i++) {
            more = flush_batch(p, now);
        }
        bp_link_fail(p->link, err, why);
    }
    if (n->n_stash > 0) {
        buf = malloc(BP_UDP_TX_BUF);
    }
    if (buf != NULL && (n->fd >= 0 || p->path != NULL)) {
        close_len = bp_link_finish(p->link, buf, BP_UDP_TX_BUF, runs, &n_runs, now);
        if (close_len > 0 && p->was_up) {
            bp_closing_add(n->told, p->cids, p->n_cids, buf + runs[n_runs - 1].off, close_len, now);
        }
        if (p->move != NULL) {
            n_runs = cn_move_divert(p, buf, runs, n_runs);
        }
        if (p->path != NULL) {
            cn_path_send(p->path, buf, runs, n_runs);
        } else {
            (void)bp_udp_send(n->fd, &n->tx, buf, runs, n_runs);
        }
    }
    if (buf != n->tx_mem) {
        free(buf);
    }
    cn_shake_events(p, now);
}

static void note_wasted(const struct cn_peer *p, int err, bp_time now)
{
    if (p->inbound && !bp_link_tls_done(p->link) && bp_err_class(err) == BP_ERR_PEER) {
        bp_listener_wasted(p->n->listener, now);
    }
}

static void log_end(struct cn_peer *p)
{
    enum bp_log_level level = BP_LOG_WARNING;

    if (p->err == BP_E_FIRST_PACKET) {
        level = BP_LOG_DEBUG;
    } else if (p->err == BP_E_PEER_CLOSED || p->err == BP_E_LOCAL_CLOSE ||
               p->err == BP_E_IDLE_TIMEOUT) {
        level = BP_LOG_INFO;
    }
    cn_log(p->n, level,
           p->was_up    ? "connection_down"
           : p->inbound ? "connection_refused"
                        : "dial_failed",
           cn_who(p), "%s (%s)", p->text, bp_err_atom(p->err));
}

static void count_end(struct cn_peer *p)
{
    struct bp_node *n = p->n;

    if (p->was_up) {
        n->stats.went_down++;
        cn_count_end(n, CN_END_DOWN, p->err);
    } else if (p->inbound) {
        n->stats.refused++;
        cn_count_end(n, CN_END_REFUSED, p->err);
    } else {
        n->stats.dial_failed++;
        cn_count_end(n, CN_END_DIAL_FAILED, p->err);
    }
}

void cn_peer_end(struct cn_peer *p, int err, const char *text, bp_time now)
{
    if (p->stage == CN_ENDED) {
        return;
    }
    cn_find_cancel(p);
    p->err = err;
    if (p->text != text) {
        cn_why(p, err, text != NULL ? text : bp_err_text(err), p->text, sizeof(p->text));
    }
    if (p->link != NULL) {
        finish_link(p, err, p->text, now);
        note_wasted(p, err, now);
    }
    cn_move_free(p);
    cn_path_del(p->path);
    p->path = NULL;
    p->stage = CN_ENDED;
    log_end(p);
    count_end(p);
    uncount(p);
    cn_peer_forget_cids(p);
    cn_peer_set_remote(p, NULL);
    undirty(p);
    cn_timers_set(&p->n->timers, p, BP_TIME_NEVER);
    free(p->shake);
    p->shake = NULL;
    if (p->ei != NULL) {
        cn_ei_changed(p);
    } else if (p->native && !p->silent) {
        p->tell_down = true;
        cn_event_ready(p);
    }
    cn_peer_reap(p);
}

/* The link has ended by itself. */
static void link_failed(struct cn_peer *p, bp_time now)
{
    int err = p->shake_err != 0 ? p->shake_err : bp_link_error(p->link);
    const char *why = p->shake_why != NULL ? p->shake_why : bp_link_error_text(p->link);
    char text[CN_TEXT_MAX];

    if (p->offered && err == BP_E_TIMEOUT) {
        why = "the program did not accept the peer in time (ei_accept)";
    }
    if (p->cookie_shown && !p->was_up && err == BP_E_PEER_CLOSED) {
        if (bp_conn_peer_reason(bp_link_conn(p->link)) == BP_E_TIMEOUT) {
            why = "the peer did not accept the connection in time";
        } else {
            err = BP_E_HS_COOKIE;
            why = "the peer closed the connection when it saw our cookie: it has another one";
        }
    }
    cn_why(p, err, why, text, sizeof(text));
    if (p->inbound || p->was_up) {
        cn_peer_end(p, err, text, now);
        return;
    }
    cn_find_note(p, err, text);
    if (cn_find_more(p, err)) {
        finish_link(p, err, NULL, now);
        cn_log(p->n, BP_LOG_DEBUG, "address_failed", cn_who(p), "%s", text);
        drop_link(p);
        p->stage = CN_FINDING;
        p->authenticated = false;
        p->cookie_shown = false;
        p->shake_err = 0;
        p->shake_why = NULL;
        p->trust = (struct bp_peer_trust){.key_dir = p->n->key_dir};
        cn_find_next(p, now);
        return;
    }
    cn_peer_end(p, p->err, p->text, now);
}
