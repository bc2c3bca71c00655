/* SPDX-License-Identifier: Apache-2.0 */
/* A connection in the VM: its link, its socket, its place in the demultiplexer. */
#include "driver/drv.h"

#include "auth/node_name.h"
#include "quic/conn_path.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SCRATCH_KEEP  4u
#define FINISH_TRIES  64u
#define REFUSED_TRIES 2u

/* --- scratch ------------------------------------------------------------- */

struct drv_scratch *drv_scratch_take(void)
{
    struct drv_scratch *s;

    erl_drv_mutex_lock(drv_node.lock);
    s = drv_node.scratch;
    if (s != NULL) {
        drv_node.scratch = s->next;
    }
    erl_drv_mutex_unlock(drv_node.lock);
    return s != NULL ? s : driver_alloc(sizeof(*s));
}

void drv_scratch_give(struct drv_scratch *s)
{
    unsigned n = 0;

    erl_drv_mutex_lock(drv_node.lock);
    for (const struct drv_scratch *i = drv_node.scratch; i != NULL; i = i->next) {
        n++;
    }
    if (n < SCRATCH_KEEP) {
        s->next = drv_node.scratch;
        drv_node.scratch = s;
        s = NULL;
    }
    erl_drv_mutex_unlock(drv_node.lock);
    if (s != NULL) {
        drv_free(s);
    }
}

/* --- life ---------------------------------------------------------------- */

void drv_conn_link_config(struct drv_settings *s, struct bp_link_config *lc)
{
    *lc = (struct bp_link_config){.mem = drv_mem(),
                                  .rx = *drv_rx_mem(),
                                  .owner = *drv_owner_ops(),
                                  .auth_mode = s->auth_mode,
                                  .setup_timeout = s->setup_timeout,
                                  .wall_ms = drv_wall_ms(),
                                  .dist_streams = s->dist_streams,
                                  .max_frame_bytes = s->max_frame_bytes,
                                  .conn = {.cred = s->cred,
                                           .reset_secret = s->reset_secret,
                                           .idle_timeout = s->idle_timeout,
                                           .keepalive = s->keepalive,
                                           .max_datagram = s->max_datagram,
                                           .no_migration = s->no_migration},
                                  .auth = {.identity = s->identity,
                                           .self_name = s->node_name,
                                           .trust_mode = s->trust_mode,
                                           .window = s->auth_window,
                                           .nonce_secret = drv_node.nonce_secret,
                                           .succession = &s->succession,
                                           .cookie_only = s->cookie_only_ptrs,
                                           .n_cookie_only = s->n_cookie_only}};
}

void drv_conn_push(struct drv_conn **list, struct drv_conn *c)
{
    c->prev = NULL;
    c->next = *list;
    if (c->next != NULL) {
        c->next->prev = c;
    }
    *list = c;
}

void drv_conn_unlink(struct drv_conn **list, struct drv_conn *c)
{
    if (c->prev != NULL) {
        c->prev->next = c->next;
    } else {
        *list = c->next;
    }
    if (c->next != NULL) {
        c->next->prev = c->prev;
    }
    c->next = NULL;
    c->prev = NULL;
}

static void add_cid(struct drv_conn *c, const struct bp_cid *cid)
{
    bool added;

    if (c->n_cids == DRV_CIDS_MAX) {
        return;
    }
    erl_drv_mutex_lock(drv_node.lock);
    added = bp_cid_map_add(&drv_node.demux, cid, c);
    erl_drv_mutex_unlock(drv_node.lock);
    if (added) {
        c->cids[c->n_cids++] = *cid;
    } else {
        /* Datagrams would not find it: better a clear end than a timeout. */
        bp_link_fail(c->link, BP_E_NOMEM, NULL);
    }
}

/* The place of one of this connection's ids, or -1. */
static int find_cid(const struct drv_conn *c, const struct bp_cid *cid)
{
    for (unsigned i = 0; i < c->n_cids; i++) {
        if (bp_cid_equal(&c->cids[i], cid)) {
            return (int)i;
        }
    }
    return -1;
}

static void remove_cid(struct drv_conn *c, const struct bp_cid *cid)
{
    int i = find_cid(c, cid);

    if (i >= 0) {
        erl_drv_mutex_lock(drv_node.lock);
        bp_cid_map_remove(&drv_node.demux, cid, c);
        erl_drv_mutex_unlock(drv_node.lock);
        c->cids[i] = c->cids[--c->n_cids];
    }
}

int drv_conn_new(struct drv_conn **out, bool server, struct drv_settings *settings,
                 const struct bp_link_config *lc, bp_time now)
{
    struct drv_conn *c = bp_mem_zalloc(drv_mem(), 1, sizeof(*c));
    int rc;

    *out = NULL;
    if (c == NULL) {
        return BP_E_NOMEM;
    }
    c->fd = -1;
    c->place = server ? CONN_HALF_OPEN : CONN_OWN_PORT;
    c->inbound = server;
    c->settings = drv_settings_ref(settings);
    c->local = lc->conn.local;
    c->peer = lc->conn.remote;
    c->began = now;
    c->trust.key_dir = c->settings->key_dir;
    drv_mailbox_init(&c->box, -1);
    rc = bp_link_new(&c->link, server, lc, now);
    if (rc != 0) {
        drv_settings_unref(c->settings);
        drv_free(c);
        return rc;
    }
    bp_link_user_accept(c->link, true);
    erl_drv_mutex_lock(drv_node.lock);
    c->id = ++drv_node.next_id;
    drv_node.conns++;
    erl_drv_mutex_unlock(drv_node.lock);
    if (server) {
        /* The client uses the id of its first packet until it has seen our own. */
        add_cid(c, &lc->conn.client_dcid);
    }
    drv_conn_events(c, now);
    if (bp_link_phase(c->link) == BP_LINK_FAILED) {
        rc = bp_link_error(c->link);
        drv_conn_del(c);
        return rc;
    }
    *out = c;
    return 0;
}

static void uncount(struct drv_conn *c)
{
    if (c->counted) {
        c->counted = false;
        erl_drv_mutex_lock(drv_node.lock);
        bp_listener_half_open(&drv_node.listener, &c->peer, false);
        erl_drv_mutex_unlock(drv_node.lock);
    }
}

void drv_conn_del(struct drv_conn *c)
{
    struct drv_pkt *left;

    if (c == NULL) {
        return;
    }
    uncount(c);
    erl_drv_mutex_lock(drv_node.lock);
    for (unsigned i = 0; i < c->n_cids; i++) {
        bp_cid_map_remove(&drv_node.demux, &c->cids[i], c);
    }
    left = drv_mailbox_take(&c->box);
    drv_node.conns--;
    erl_drv_mutex_unlock(drv_node.lock);
    drv_pkts_free(left);
    bp_link_del(c->link);
    drv_settings_unref(c->settings);
    if (c->stash != NULL) {
        drv_free(c->stash);
    }
    drv_free(c);
}

/* --- who it is and what went wrong --------------------------------------- */

const char *drv_conn_peer(const struct drv_conn *c)
{
    static _Thread_local char text[BP_NODE_NAME_MAX + 3 * BP_ADDR_TEXT_MAX];
    char addr[BP_ADDR_TEXT_MAX];
    const char *name = bp_link_peer_name(c->link);

    bp_addr_text(&c->peer, addr);
    if (c->relay != NULL) {
        snprintf(text, sizeof(text), "%s (%s through %s)", name, addr, drv_relay_name(c->relay));
    } else if (name[0] != '\0') {
        snprintf(text, sizeof(text), "%s (%s)", name, addr);
    } else {
        snprintf(text, sizeof(text), "%s", addr);
    }
    return text;
}

int drv_conn_error(const struct drv_conn *c)
{
    return c->err != 0 ? c->err : bp_link_error(c->link);
}

/* --- events -------------------------------------------------------------- */

static bool take_newcomer(struct drv_conn *c, bp_time now)
{
    bool ok;

    erl_drv_mutex_lock(drv_node.lock);
    ok = bp_listener_newcomer(&drv_node.listener, &c->peer, now);
    erl_drv_mutex_unlock(drv_node.lock);
    c->newcomer = ok;
    if (!ok) {
        bp_link_fail(c->link, BP_E_NEWCOMERS, NULL);
    }
    return ok;
}

static void welcome_newcomer(struct drv_conn *c)
{
    if (c->newcomer) {
        c->newcomer = false;
        erl_drv_mutex_lock(drv_node.lock);
        bp_listener_welcome(&drv_node.listener, &c->peer);
        erl_drv_mutex_unlock(drv_node.lock);
    }
}

/* Looking for a key under any name reads the whole trust store: strangers get so many. */
static void look_up(struct drv_conn *c, const struct bp_link_event *ev, bp_time now)
{
    uint8_t key[BP_KEY_LEN];
    struct bp_errbuf err;
    bool found;
    int rc;

    if (ev->by_key && c->inbound && !take_newcomer(c, now)) {
        return;
    }
    rc = bp_peer_trust_lookup(&c->trust, ev, &found, key, &err);
    if (rc == 0) {
        if (ev->by_key && found) {
            welcome_newcomer(c);
        }
        bp_link_trust(c->link, found, found ? key : NULL, now);
        return;
    }
    c->err = rc;
    snprintf(c->err_text, sizeof(c->err_text), "%s", err.text);
    bp_link_fail(c->link, rc, err.text);
}

static void count_authenticated(const struct drv_conn *c)
{
    if (c->inbound) {
        erl_drv_mutex_lock(drv_node.lock);
        drv_node.authenticated++;
        erl_drv_mutex_unlock(drv_node.lock);
    }
}

/* An accepted peer whose key is pinned nowhere will make the VM create an atom of its name before
 * it has to show that it has the cookie. */
static void newcomer(struct drv_conn *c, const struct bp_link_event *ev, bp_time now)
{
    bool dynamic = bp_node_name_dynamic(ev->name, strlen(ev->name));

    if (!c->inbound || c->settings->auth_mode == BP_AUTH_EXTERNAL ||
        (ev->has_key && !ev->pin && !(dynamic && c->settings->trust_mode == BP_TRUST_TOFU))) {
        return;
    }
    (void)take_newcomer(c, now);
}

/* After each call that may have brought the link out of TLS. */
static void note_tls(struct drv_conn *c)
{
    if (c->tls_at == 0 && bp_link_phase(c->link) != BP_LINK_TLS) {
        c->tls_at = drv_now();
    }
}

/* For the next connection to this node. Each proves its identity anew. */
static void keep_session(struct drv_conn *c, bp_time now)
{
    uint8_t p[BP_SESSION_MAX];
    size_t len = bp_conn_take_session(bp_link_conn(c->link), p);

    if (c->authenticated && c->trust.has_key) {
        drv_tickets_keep(c->settings, bp_link_peer_name(c->link), p, len, now);
    }
    bp_wipe(p, len);
}

void drv_conn_events(struct drv_conn *c, bp_time now)
{
    struct bp_link_event ev;

    note_tls(c);

    while (bp_link_poll(c->link, &ev)) {
        const uint8_t *key = bp_link_peer_key(c->link);

        switch (ev.kind) {
        case BP_LINK_EV_LOOKUP:
            look_up(c, &ev, now);
            break;
        case BP_LINK_EV_TLS_DONE:
            c->announced = true;
            break;
        case BP_LINK_EV_AUTHENTICATED:
            c->announced = true;
            c->authenticated = true;
            count_authenticated(c);
            c->auth_at = drv_now();
            bp_peer_trust_proved(&c->trust, &ev);
            newcomer(c, &ev, now);
            break;
        case BP_LINK_EV_CID_ADDED:
            add_cid(c, &ev.cid);
            break;
        case BP_LINK_EV_CID_REMOVED:
            remove_cid(c, &ev.cid);
            break;
        case BP_LINK_EV_SESSION:
            keep_session(c, now);
            break;
        case BP_LINK_EV_IDLE_ASKED:
            c->idle_asked = true;
            break;
        case BP_LINK_EV_FAILED:
            bp_peer_trust_claimed(&c->trust, key);
            break;
        default:
            break;
        }
    }
}

int drv_conn_hs_recv(struct drv_conn *c, const uint8_t **msg, size_t *len)
{
    struct bp_errbuf err;
    int rc = bp_link_hs_recv(c->link, msg, len);

    if (rc != 1 || !bp_link_claimed(c->link) || c->settings->auth_mode != BP_AUTH_BUILTIN) {
        return rc;
    }
    rc = bp_peer_trust_name(&c->trust, bp_link_peer_name(c->link), &err);
    if (rc == 0) {
        return 1;
    }
    bp_link_fail(c->link, rc, rc == BP_E_AUTH_KEY_MISMATCH ? NULL : err.text);
    return rc;
}

int drv_conn_pin(struct drv_conn *c, struct bp_errbuf *err)
{
    char note[256];
    bool replaced;
    int rc;

    uncount(c);
    welcome_newcomer(c);
    c->alive = true;
    bp_errbuf_reset(err);
    if (c->settings->auth_mode != BP_AUTH_BUILTIN) {
        return 0;
    }
    if (!c->trust.has_key) {
        drv_log(DRV_WARNING, "cookie_only", drv_conn_peer(c),
                "connected without proof of who it is, the cookie was enough: cookie_only_nodes "
                "names it; take it out of that list if it has a key");
    }
    rc = bp_peer_trust_pin(&c->trust, bp_link_peer_name(c->link), &replaced, note, sizeof(note),
                           err);
    if (replaced) {
        drv_tickets_drop(bp_link_peer_name(c->link));
        drv_log(DRV_WARNING, "key_rotated", drv_conn_peer(c), "%s", note);
    }
    return rc;
}

/* --- datagrams in -------------------------------------------------------- */

static void feed(struct drv_conn *c, const struct bp_addr *remote, const uint8_t *p, size_t len,
                 bp_time now)
{
    (void)bp_link_read(c->link, c->rx_local != NULL ? c->rx_local : &c->local, remote, p, len, now);
    drv_conn_events(c, now);
}

void drv_conn_datagram(struct drv_conn *c, const struct bp_addr *remote, const uint8_t *p,
                       size_t len, bp_time now)
{
    struct bp_cid cid;
    struct drv_conn *other;
    bool taken = false;

    bp_cid_of_datagram(p, len, &cid);
    if (cid.len == 0 || find_cid(c, &cid) >= 0) {
        feed(c, remote, p, len, now);
        return;
    }
    erl_drv_mutex_lock(drv_node.lock);
    other = bp_cid_map_find(&drv_node.demux, &cid);
    if (other != NULL && other != c) {
        drv_mailbox_put(&other->box, remote, p, len);
        drv_node.handed_over++;
        taken = true;
    } else if (other == NULL && (p[0] & 0x80) != 0 && drv_node.bound.len != 0) {
        drv_mailbox_put(&drv_node.stray, remote, p, len); /* a new connection's Initial */
        drv_node.handed_over++;
        taken = true;
    }
    erl_drv_mutex_unlock(drv_node.lock);
    if (!taken) {
        feed(c, remote, p, len, now); /* a stateless reset has no id that anybody knows */
    }
}

/* QUIC knows the peer by the address that was dialled, whatever is in between. */
static void relayed(struct drv_conn *c, const uint8_t *p, size_t len, bp_time now)
{
    size_t left = drv_relay_unwrap(c->rx_relay, &c->relayed, p, len);

    if (left > 0) {
        drv_conn_datagram(c, &c->peer, p + (len - left), left, now);
    }
}

void drv_conn_batch(struct drv_conn *c, const struct bp_udp_rx *rx, bp_time now)
{
    for (size_t off = 0; off < rx->len; off += rx->seg) {
        size_t len = rx->len - off < rx->seg ? rx->len - off : rx->seg;
        if (c->rx_relay != NULL) {
            relayed(c, rx->data + off, len, now);
            continue;
        }
        drv_conn_datagram(c, &rx->remote, rx->data + off, len, now);
    }
}

void drv_conn_mailbox(struct drv_conn *c, bp_time now)
{
    struct drv_pkt *list;

    if (!c->box.nonempty) {
        return;
    }
    erl_drv_mutex_lock(drv_node.lock);
    list = drv_mailbox_take(&c->box);
    erl_drv_mutex_unlock(drv_node.lock);
    for (const struct drv_pkt *p = list; p != NULL; p = p->next) {
        feed(c, &p->remote, p->data, p->len, now);
    }
    drv_pkts_free(list);
}

void drv_conn_refused(struct drv_conn *c, bp_time now)
{
    struct bp_conn_stats st;

    if (c->relay != NULL && c->alive) {
        drv_relay_refused(c); /* that says nothing of the peer */
        return;
    }
    if (!bp_conn_path_in_use(bp_link_conn(c->link), &c->peer, &c->local)) {
        return; /* where the connection was before: that is as it should be */
    }
    bp_conn_stats(bp_link_conn(c->link), &st);
    if (c->refused == 0 || st.last_authentic > c->refused_at) {
        c->refused = 0;
        c->refused_at = now;
    }
    c->refused++;
    /* ICMP can be forged: it takes several refusals and silence (DESIGN 3). */
    if (c->refused > REFUSED_TRIES && now - st.last_authentic >= st.pto &&
        now - c->refused_at >= st.pto / 2) {
        bp_link_fail(c->link, BP_E_REFUSED, NULL);
        drv_conn_events(c, now);
        return;
    }
    bp_conn_probe(bp_link_conn(c->link));
}

/* --- datagrams out ------------------------------------------------------- */

/* Keeps what a full socket did not take, until it is writable. */
static void stash(struct drv_conn *c, const uint8_t *buf, const struct bp_tx_run *runs, unsigned n)
{
    c->stash = driver_alloc((ErlDrvSizeT)bp_udp_runs_size(runs, n));
    if (c->stash == NULL) {
        return; /* as if the network lost it */
    }
    bp_udp_runs_copy(c->stash, c->stash_runs, buf, runs, n);
    c->stash_n = n;
}

unsigned drv_conn_send(struct drv_conn *c, const struct drv_relay *relay, int fd,
                       struct bp_udp_tx *tx, const uint8_t *buf, struct bp_tx_run *runs, unsigned n)
{
    return relay != NULL ? bp_relay_path_send(&c->relayed, fd, tx, buf, runs, n)
                         : bp_udp_send(fd, tx, buf, runs, n);
}

/* True if nothing is stashed (any more). */
static bool unstash(struct drv_conn *c, int fd)
{
    unsigned done;

    if (c->stash == NULL) {
        return true;
    }
    done = drv_conn_send(c, c->relay, fd, &c->tx, c->stash, c->stash_runs, c->stash_n);
    if (done < c->stash_n) {
        memmove(c->stash_runs, c->stash_runs + done,
                (c->stash_n - done) * sizeof(c->stash_runs[0]));
        c->stash_n -= done;
        return false;
    }
    drv_free(c->stash);
    c->stash = NULL;
    c->stash_n = 0;
    return true;
}

static bool send_runs(struct drv_conn *c, int fd, const uint8_t *buf, struct bp_tx_run *runs,
                      unsigned n)
{
    unsigned done;

    if (c->move != NULL) {
        n = drv_move_divert(c, buf, runs, n);
    }
    done = drv_conn_send(c, c->relay, fd, &c->tx, buf, runs, n);
    if (done < n) {
        stash(c, buf, runs + done, n - done);
        return false;
    }
    return true;
}

bool drv_conn_flush(struct drv_conn *c, int fd, size_t room, bp_time now)
{
    struct drv_scratch *s;
    struct bp_tx_run runs[BP_TX_RUNS];
    unsigned n = 0;
    bool full;
    bool ok = unstash(c, fd);

    c->more = false;
    if (!ok || bp_link_phase(c->link) == BP_LINK_FAILED) {
        return ok;
    }
    s = drv_scratch_take();
    if (s == NULL) {
        /* Nothing would make it try again: what was never sent has no timer. */
        bp_link_fail(c->link, BP_E_NOMEM, NULL);
        drv_conn_events(c, now);
        return true;
    }
    if (bp_link_write(c->link, s->tx, room, runs, &n, now) != 0) {
        n = 0;
    }
    note_tls(c);
    full = bp_conn_batch_full(bp_link_conn(c->link));
    ok = n == 0 || send_runs(c, fd, s->tx, runs, n);
    c->more = ok && (full || bp_link_has_more(c->link));
    drv_scratch_give(s);
    drv_conn_events(c, now);
    if (c->tx.refused) {
        c->tx.refused = false;
        drv_conn_refused(c, now);
    }
    return ok;
}

void drv_conn_finish(struct drv_conn *c, int fd, int err, const char *why, bp_time now)
{
    struct drv_scratch *s;
    struct bp_tx_run runs[BP_TX_RUNS + 1];
    unsigned n = 0;
    size_t close_len;

    if (c->failed) {
        return;
    }
    c->failed = true;
    if (bp_link_phase(c->link) != BP_LINK_FAILED) {
        /* What the congestion window still takes. */
        c->more = fd >= 0;
        for (unsigned i = 0; c->more && i < FINISH_TRIES; i++) {
            (void)drv_conn_flush(c, fd, BP_UDP_TX_BUF, now);
        }
        bp_link_fail(c->link, err, why);
    }
    s = drv_scratch_take();
    if (s != NULL) {
        if (fd >= 0) {
            (void)unstash(c, fd); /* if the socket is full, the close alone may still fit */
            close_len = bp_link_finish(c->link, s->tx, sizeof(s->tx), runs, &n, now);
            if (close_len > 0 && c->alive) {
                erl_drv_mutex_lock(drv_node.lock);
                bp_closing_add(&drv_node.closing, c->cids, c->n_cids, s->tx + runs[n - 1].off,
                               close_len, now);
                erl_drv_mutex_unlock(drv_node.lock);
            }
            if (c->move != NULL) {
                n = drv_move_divert(c, s->tx, runs, n);
            }
            (void)drv_conn_send(c, c->relay, fd, &c->tx, s->tx, runs, n);
        }
        drv_scratch_give(s);
    }
    drv_conn_events(c, now);
    erl_drv_mutex_lock(drv_node.lock);
    drv_count_end(c->alive     ? DRV_DOWN
                  : c->inbound ? DRV_REFUSED
                               : DRV_DIAL_FAILED,
                  drv_conn_error(c));
    erl_drv_mutex_unlock(drv_node.lock);
}

bp_time drv_conn_deadline(const struct drv_conn *c, bp_time now)
{
    bp_time at = c->failed ? BP_TIME_NEVER : bp_link_deadline(c->link, now);
    bp_time move = c->move != NULL && !c->failed ? drv_move_deadline(c) : BP_TIME_NEVER;

    return move < at ? move : at;
}

void drv_conn_on_timer(struct drv_conn *c, bp_time now)
{
    (void)bp_link_on_timer(c->link, now);
    drv_conn_events(c, now);
}
