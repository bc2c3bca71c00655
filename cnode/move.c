/* SPDX-License-Identifier: Apache-2.0 */
/* Moving a connection to another path while messages flow (quic/mover.h): the new path stands
 * beside the old one until the peer has answered there; the old one is read for a little longer. */
#include "cnode/path.h"

#include "dist/link_path.h"
#include "quic/mover.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OLD_PATHS       4u
#define OLD_FOR         BP_SEC
#define TIMEOUT_DEFAULT (5 * BP_SEC)
#define TIMEOUT_MAX_MS  3600000u

struct cn_move {
    struct bp_mover m;
    struct cn_path *next;
    struct {
        struct cn_path *path;
        bp_time close_at;
    } old[OLD_PATHS];
    unsigned n_old;
    bool asked; /* we were dialled: the peer moves it */
    bp_time asked_until;
    bool for_peer; /* which has asked us, and waits for an answer */
    bool for_program;
};

static const struct bp_addr *used(const struct cn_peer *p)
{
    return p->path != NULL ? &p->path->local : &p->local;
}

static void close_oldest(struct cn_move *v)
{
    cn_path_del(v->old[0].path);
    v->n_old--;
    memmove(v->old, v->old + 1, v->n_old * sizeof(v->old[0]));
}

void cn_move_free(struct cn_peer *p)
{
    struct cn_move *v = p->move;

    p->move = NULL;
    if (v != NULL) {
        cn_path_del(v->next);
        while (v->n_old > 0) {
            close_oldest(v);
        }
        free(v);
    }
}

struct cn_path *cn_move_path(const struct cn_peer *p, unsigned i)
{
    const struct cn_move *v = p->move;

    if (i == 0 || v == NULL) {
        return i == 0 ? p->path : NULL;
    }
    if (i == 1) {
        return v->next;
    }
    return i - 2 < v->n_old ? v->old[i - 2].path : NULL;
}

unsigned cn_move_divert(struct cn_peer *p, const uint8_t *buf, struct bp_tx_run *runs, unsigned n)
{
    struct cn_path *next = p->move->next;
    unsigned kept = 0;

    for (unsigned i = 0; i < n; i++) {
        if (bp_addr_equal(&runs[i].local, used(p))) {
            runs[kept++] = runs[i];
        } else if (next != NULL && next->state == CN_PATH_OPEN &&
                   bp_addr_equal(&runs[i].local, &next->local)) {
            cn_path_send(next, buf, &runs[i], 1);
        }
        /* Others are of a path that was given up. */
    }
    return kept;
}

/* --- beginning ----------------------------------------------------------- */

static void key_of(const struct cn_path *path, const struct bp_addr *local, struct bp_addr *key)
{
    *key = *local;
    if (path != NULL && path->relay != NULL) {
        bp_relay_path_key(&path->r, key);
    }
}

static void opened(struct cn_peer *p, bp_time now)
{
    struct cn_move *v = p->move;
    struct bp_addr key;

    key_of(v->next, &v->next->local, &key);
    bp_mover_opened(&v->m, &v->next->local, &key, now);
}

static int begin(struct cn_peer *p, struct cn_relay *relay, bp_time timeout, bp_time now)
{
    struct cn_move *v = p->move;
    int rc;

    if (p->stage != CN_UP) {
        return BP_E_STATE;
    }
    if (v == NULL) {
        v = p->move = calloc(1, sizeof(*v));
    }
    if (v == NULL) {
        return BP_E_NOMEM;
    }
    if (v->asked) {
        return BP_E_BUSY;
    }
    if (p->inbound) {
        rc = relay != NULL ? BP_E_NOT_DIALLER : bp_link_path_ask(p->link);
        v->asked = rc == 0;
        v->asked_until = now + timeout;
        return rc;
    }
    rc = bp_mover_begin(&v->m, bp_link_conn(p->link), timeout, now);
    if (rc != 0) {
        return rc;
    }
    rc = cn_path_new(&v->next, p, relay, &p->remote);
    if (rc == 0) {
        opened(p, now);
    } else if (rc < 0) {
        bp_mover_cancel(&v->m);
    }
    return rc < 0 ? rc : 0;
}

/* --- ending -------------------------------------------------------------- */

static void finish(struct cn_peer *p, int rc, const char *text)
{
    struct cn_move *v = p->move;

    if (v->for_peer) {
        v->for_peer = false;
        bp_link_path_answer(p->link, rc);
        cn_peer_dirty(p);
    }
    p->move_error = rc;
    if (v->for_program) {
        v->for_program = false;
        (void)snprintf(p->move_text, sizeof(p->move_text), "%s", text);
        if (p->native) {
            p->tell_moved = true;
            cn_event_ready(p);
        }
    }
}

static void close_next(struct cn_move *v)
{
    cn_path_del(v->next);
    v->next = NULL;
}

/* The new path is the connection's. */
static void change_over(struct cn_peer *p, bp_time now)
{
    struct cn_move *v = p->move;
    struct bp_addr remote = p->remote;
    struct bp_conn_stats st;
    struct bp_addr key;

    bp_conn_stats(bp_link_conn(p->link), &st);
    key_of(p->path, used(p), &key);
    bp_mover_left(&v->m, &key, st.pto, now);
    if (v->n_old == OLD_PATHS) {
        close_oldest(v);
    }
    if (p->path != NULL) {
        v->old[v->n_old].path = p->path;
        v->old[v->n_old++].close_at = now + (OLD_FOR > 3 * st.pto ? OLD_FOR : 3 * st.pto);
    }
    p->path = v->next;
    v->next = NULL;
    p->refused = 0;
    cn_peer_set_remote(p, &remote);
    cn_log(p->n, BP_LOG_INFO, "moved", cn_who(p), "the connection is on another path");
}

void cn_move_opened(struct cn_path *path, int rc, const char *text, bp_time now)
{
    struct cn_peer *p = path->p;
    struct cn_move *v = p->move;

    if (rc == 0) {
        opened(p, now);
    } else {
        char copy[CN_TEXT_MAX];
        (void)snprintf(copy, sizeof(copy), "%s", text);
        p->n->stats.relays_failed++;
        cn_log(p->n, BP_LOG_WARNING, "relay_failed", cn_who(p), "%s", copy);
        bp_mover_cancel(&v->m);
        close_next(v);
        finish(p, rc, copy);
    }
    cn_peer_dirty(p);
}

/* --- as time goes by ----------------------------------------------------- */

static void asked_by_peer(struct cn_peer *p, bp_time now)
{
    struct cn_relay *relay = p->path != NULL ? p->path->relay : NULL;
    int rc = begin(p, relay, TIMEOUT_DEFAULT, now);

    if (rc == 0) {
        p->move->for_peer = true;
    } else {
        bp_link_path_answer(p->link, rc);
    }
    cn_peer_dirty(p);
}

static void steps(struct cn_peer *p, bp_time now)
{
    struct cn_move *v = p->move;
    struct bp_addr name;
    enum bp_move_step step;
    int rc = 0;

    while ((step = bp_mover_step(&v->m, bp_link_conn(p->link), used(p), &p->remote, now, &rc,
                                 &name)) != BP_MOVE_NONE) {
        if (step == BP_MOVE_DONE) {
            change_over(p, now);
            finish(p, 0, "");
        } else if (step == BP_MOVE_FAILED) {
            if (v->m.state == BP_MOVER_IDLE) {
                close_next(v);
            }
            finish(p, rc, bp_err_text(rc));
        } else if (step == BP_MOVE_BACK) {
            close_next(v);
        } else if (p->path != NULL) {
            p->path->local = name;
        } else {
            p->local = name;
        }
        cn_peer_dirty(p);
    }
}

void cn_move_settle(struct cn_peer *p, bp_time now)
{
    struct cn_move *v;
    enum bp_mover_state before;
    int rc;

    if (bp_link_path_asked(p->link)) {
        asked_by_peer(p, now);
    }
    v = p->move;
    if (v == NULL) {
        return;
    }
    before = v->m.state;
    if (!p->inbound) {
        steps(p, now);
    }
    if (v->asked && bp_link_path_answered(p->link, &rc)) {
        v->asked = false;
        finish(p, rc, rc != 0 ? bp_err_text(rc) : "");
    } else if (v->asked && now >= v->asked_until) {
        v->asked = false;
        finish(p, BP_E_TIMEOUT, bp_err_text(BP_E_TIMEOUT));
    }
    while (v->n_old > 0 && now >= v->old[0].close_at) {
        close_oldest(v);
    }
    if (before != v->m.state) {
        cn_peer_dirty(p); /* a challenge is to be sent */
    }
}

bp_time cn_move_deadline(const struct cn_peer *p)
{
    const struct cn_move *v = p->move;
    bp_time at = bp_mover_deadline(&v->m);

    if (v->asked && v->asked_until < at) {
        at = v->asked_until;
    }
    if (v->n_old > 0 && v->old[0].close_at < at) {
        at = v->old[0].close_at;
    }
    return at;
}

bool cn_moving(const struct cn_peer *p)
{
    return p->move != NULL && (p->move->asked || p->move->m.state != BP_MOVER_IDLE);
}

/* --- public -------------------------------------------------------------- */

static int start(struct cn_peer *p, struct cn_relay *relay, unsigned ms)
{
    bp_time now = cn_now();
    int rc = begin(p, relay, ms != 0 ? ms * BP_MS : TIMEOUT_DEFAULT, now);

    if (rc != 0) {
        return rc == BP_E_RELAY || rc == BP_E_LIMIT
                   ? rc /* it has said why */
                   : cn_fail(rc, "%s cannot be moved: %s", cn_who(p), bp_err_text(rc));
    }
    p->move->for_program = true;
    cn_peer_settle(p, now);
    return 0;
}

int bp_node_migrate(struct bp_node *n, bp_peer_id peer, const struct bp_migrate *how, size_t size)
{
    struct bp_migrate h = {0};
    struct cn_relay *relay = NULL;
    struct cn_peer *p;
    int rc = 0;

    if (how != NULL) {
        memcpy(&h, how, size < sizeof(h) ? size : sizeof(h));
    }
    if ((h.direct && h.relay != NULL) || h.timeout_ms > TIMEOUT_MAX_MS) {
        return cn_fail(BP_E_INVALID, h.direct ? "a relay, and none: choose one of the two"
                                              : "the time is at most an hour");
    }
    if (h.relay != NULL) {
        rc = cn_relay_new(&relay, h.relay);
    }
    if (rc != 0) {
        return rc;
    }
    (void)pthread_mutex_lock(&n->lock);
    p = cn_peer_of(n, peer);
    if (p == NULL || p->stage == CN_ENDED) {
        rc = cn_fail(BP_E_NOT_FOUND, "there is no such connection (any more)");
    } else {
        if (relay == NULL && !h.direct) {
            relay = cn_relay_ref(cn_relay_of(n, p->name));
        }
        rc = start(p, relay, h.timeout_ms);
        cn_touched(n);
    }
    cn_relay_unref(relay);
    (void)pthread_mutex_unlock(&n->lock);
    return rc;
}
