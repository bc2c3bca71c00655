/* SPDX-License-Identifier: Apache-2.0 */
/* User streams: who is written next, and their end. */
#include "quic/conn_impl.h"

/* Of the connection's window: distribution has that much when user streams are through. */
#define WINDOW_KEPT (1024u * 1024u)

/* --- the list of those that have something to write ---------------------- */

static bool has_unsent(const struct bp_user_tx *t)
{
    return t->q.sent < t->q.end || (t->fin && !t->fin_sent);
}

static void unlist(struct bp_conn *c, struct bp_user_tx *t)
{
    if (!t->listed) {
        return;
    }
    t->listed = false;
    if (t->prev != NULL) {
        t->prev->next = t->next;
    } else {
        c->user_head = t->next;
    }
    if (t->next != NULL) {
        t->next->prev = t->prev;
    }
    t->next = NULL;
    t->prev = NULL;
}

/* Behind all of its priority. */
static void list(struct bp_conn *c, struct bp_user_tx *t)
{
    struct bp_user_tx *before = NULL;
    struct bp_user_tx *at = c->user_head;

    if (t->listed || t->blocked || t->shut || !has_unsent(t)) {
        return;
    }
    for (; at != NULL && at->priority <= t->priority; at = at->next) {
        before = at;
    }
    t->listed = true;
    t->prev = before;
    t->next = at;
    if (at != NULL) {
        at->prev = t;
    }
    if (before != NULL) {
        before->next = t;
    } else {
        c->user_head = t;
    }
}

/* What is queued will not be sent any more. */
static void shut(struct bp_conn *c, struct bp_user_tx *t)
{
    if (!t->shut) {
        t->shut = true;
        c->user_unsent -= t->q.end - t->q.sent;
        c->user_unacked -= t->q.sent - t->q.acked;
    }
    unlist(c, t);
}

/* --- life ---------------------------------------------------------------- */

static void attach(struct bp_user_tx *t, int64_t id, uint8_t priority)
{
    *t = (struct bp_user_tx){.id = id, .priority = priority, .attached = true};
    bp_sendq_init(&t->q);
}

int bp_conn_user_open(struct bp_conn *c, struct bp_user_tx *t, uint8_t priority)
{
    int64_t id;
    int rc;

    if (c->err != 0) {
        return BP_E_STATE;
    }
    rc = ngtcp2_conn_open_bidi_stream(c->q, &id, t);
    if (rc == NGTCP2_ERR_STREAM_ID_BLOCKED) {
        return BP_E_AGAIN;
    }
    if (rc != 0) {
        return rc == NGTCP2_ERR_NOMEM ? BP_E_NOMEM : BP_E_STATE;
    }
    attach(t, id, priority);
    return 0;
}

int bp_conn_user_adopt(struct bp_conn *c, struct bp_user_tx *t, int64_t id, uint8_t priority)
{
    if (ngtcp2_conn_set_stream_user_data(c->q, id, t) != 0) {
        return BP_E_STATE;
    }
    attach(t, id, priority);
    return 0;
}

int bp_conn_user_put_copy(struct bp_conn *c, struct bp_user_tx *t, const void *p, size_t len)
{
    int rc = c->err != 0 || t->shut || t->fin ? BP_E_STATE : 0;

    rc = rc != 0 ? rc : bp_sendq_put_copy(&t->q, &c->pool, p, len);
    if (rc == 0) {
        c->user_unsent += len;
        list(c, t);
    }
    return rc;
}

int bp_conn_user_put_owned(struct bp_conn *c, struct bp_user_tx *t, const uint8_t *p, size_t len,
                           void *owner)
{
    int rc = c->err != 0 || t->shut || t->fin ? BP_E_STATE : 0;

    rc = rc != 0 ? rc : bp_sendq_put_owned(&t->q, c->mem, p, len, owner);
    if (rc == 0) {
        c->user_unsent += len;
        list(c, t);
    }
    return rc;
}

int bp_conn_user_fin(struct bp_conn *c, struct bp_user_tx *t)
{
    if (c->err != 0 || t->shut) {
        return BP_E_STATE;
    }
    t->fin = true;
    list(c, t);
    return 0;
}

void bp_conn_user_set_priority(struct bp_conn *c, struct bp_user_tx *t, uint8_t priority)
{
    unlist(c, t);
    t->priority = priority;
    list(c, t);
}

void bp_conn_user_reset(struct bp_conn *c, struct bp_user_tx *t, uint64_t code)
{
    shut(c, t);
    if (t->attached && c->err == 0) {
        (void)ngtcp2_conn_shutdown_stream(c->q, 0, t->id, code);
    }
}

void bp_conn_user_stop_reading(struct bp_conn *c, struct bp_user_tx *t, uint64_t code)
{
    if (t->attached && c->err == 0) {
        (void)ngtcp2_conn_shutdown_stream_read(c->q, 0, t->id, code);
    }
}

void bp_conn_user_drop(struct bp_conn *c, struct bp_user_tx *t)
{
    shut(c, t);
    if (t->attached) {
        t->attached = false;
        (void)ngtcp2_conn_set_stream_user_data(c->q, t->id, NULL);
    }
    bp_sendq_free(&t->q, &c->pool, &c->owner);
}

void bp_conn_user_credit(struct bp_conn *c, int64_t id, size_t len)
{
    (void)ngtcp2_conn_extend_max_stream_offset(c->q, id, len);
}

void bp_conn_credit_connection(struct bp_conn *c, size_t len)
{
    ngtcp2_conn_extend_max_offset(c->q, len);
}

void bp_conn_allow_stream(struct bp_conn *c)
{
    ngtcp2_conn_extend_max_streams_bidi(c->q, 1);
}

uint64_t bp_conn_user_unsent(const struct bp_conn *c)
{
    return c->user_unsent;
}

/* --- for conn_write.c ----------------------------------------------------- */

uint64_t bp_conn_user_window(const struct bp_conn *c)
{
    uint64_t left = ngtcp2_conn_get_max_data_left(c->q);

    return left > WINDOW_KEPT ? left - WINDOW_KEPT : 0;
}

struct bp_user_tx *bp_conn_user_next(const struct bp_conn *c)
{
    struct bp_user_tx *t = c->user_head;

    if (t == NULL || c->user_full || (t->q.sent < t->q.end && bp_conn_user_window(c) == 0)) {
        return NULL;
    }
    return t;
}

void bp_conn_user_took(struct bp_conn *c, struct bp_user_tx *t, size_t len, bool fin)
{
    if (c->user_unacked == 0) {
        c->user_progress = c->now;
    }
    bp_sendq_sent(&t->q, len);
    c->user_unsent -= len;
    c->user_unacked += len;
    t->fin_sent = t->fin_sent || fin;
    if (!has_unsent(t)) {
        unlist(c, t);
    }
}

void bp_conn_user_turn(struct bp_conn *c)
{
    struct bp_user_tx *t = c->user_head;

    if (t != NULL && t->next != NULL && t->next->priority == t->priority) {
        unlist(c, t);
        list(c, t);
    }
}

void bp_conn_user_blocked(struct bp_conn *c, struct bp_user_tx *t)
{
    unlist(c, t);
    t->blocked = true;
}

/* --- what QUIC reports ----------------------------------------------------- */

void bp_conn_user_stopped(struct bp_conn *c, struct bp_user_tx *t)
{
    if (!t->fin_sent && !t->shut) {
        c->ops->user_stopped(c->user, t, 0);
    }
    shut(c, t);
}

void bp_conn_user_acked(struct bp_conn *c, struct bp_user_tx *t, uint64_t offset)
{
    uint64_t before = t->q.acked;

    bp_sendq_acked(&t->q, offset, &c->pool, &c->owner);
    c->user_progress = c->now;
    if (!t->shut) {
        c->user_unacked -= t->q.acked - before;
    }
}

void bp_conn_user_unblock(struct bp_conn *c, struct bp_user_tx *t)
{
    t->blocked = false;
    list(c, t);
}

void bp_conn_user_closed(struct bp_conn *c, struct bp_user_tx *t, uint64_t code)
{
    t->attached = false;
    if (!t->fin_sent) {
        c->ops->user_stopped(c->user, t, code);
    }
    shut(c, t);
    bp_sendq_free(&t->q, &c->pool, &c->owner);
    c->ops->user_closed(c->user, t);
}
