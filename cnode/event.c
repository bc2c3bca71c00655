/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events and messages for programs that do without libei. Nothing is queued here: a peer that has
 * something to tell is in the list of those that are ready, and its messages stay where its link
 * put them until they are taken.
 */
#include "cnode/cn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COPY_MAX  4096u /* longer messages are not copied into shared blocks */
#define PARTS_MAX 16u   /* that are passed on as they are */

bool cn_message_begins(const uint8_t *p, size_t len)
{
    return len >= 2 && p[0] == BP_DIST_PASS_THROUGH && p[1] == BP_DIST_VERSION;
}

/* --- who is ready -------------------------------------------------------- */

void cn_event_ready(struct cn_peer *p)
{
    struct bp_node *n = p->n;

    if (!p->ready) {
        p->ready = true;
        p->next_ready = NULL;
        *n->ready_tail = p;
        n->ready_tail = &p->next_ready;
    }
}

void cn_event_drop(struct cn_peer *p)
{
    struct bp_node *n = p->n;
    struct cn_peer **at = &n->ready;

    p->tell_up = p->tell_down = p->tell_writable = p->tell_moved = false;
    if (!p->ready) {
        return;
    }
    while (*at != p) {
        at = &(*at)->next_ready;
    }
    *at = p->next_ready;
    if (*at == NULL) {
        n->ready_tail = at;
    }
    p->ready = false;
    p->next_ready = NULL;
}

/* --- taking -------------------------------------------------------------- */

static void describe(const struct cn_peer *p, enum bp_event_kind kind, struct bp_event *ev)
{
    ev->kind = kind;
    ev->peer = p->id;
    ev->inbound = p->inbound;
    ev->was_up = p->was_up;
    (void)snprintf(ev->name, sizeof(ev->name), "%s", p->name);
}

/* One message; false if there is none. A message that is none ends the connection. */
static bool take_message(struct cn_peer *p, struct bp_event *ev, bp_time now)
{
    struct bp_frame_queue *q = p->link != NULL ? bp_link_frames(p->link) : NULL;
    struct bp_frame f;
    uint8_t *copy;

    if (q == NULL || p->local_close || !bp_frame_queue_pop(q, &f)) {
        return false;
    }
    if (!cn_message_begins(f.data, f.len)) {
        free(f.bin);
        p->n->stats.messages_malformed++;
        p->local_close = true; /* nothing more is taken */
        cn_peer_end(p, BP_E_FRAME_MALFORMED,
                    "the peer sent a message with an atom cache or in fragments, which no C node "
                    "has asked for",
                    now);
        return false;
    }
    copy = f.bin;
    if (copy == NULL) {
        copy = malloc(f.len);
        if (copy != NULL) {
            memcpy(copy, f.data, f.len);
        }
    }
    if (q->n == 0) {
        bp_frame_queue_reset(q);
    }
    if (copy == NULL) {
        p->local_close = true;
        cn_peer_end(p, BP_E_NOMEM, NULL, now);
        return false;
    }
    ev->kind = BP_EVENT_MESSAGE;
    ev->peer = p->id;
    ev->data = f.bin != NULL ? f.data : copy;
    ev->len = f.len;
    ev->reserved = copy;
    return true;
}

/* The next event of a peer that is ready; false if there is none. */
static bool take(struct cn_peer *p, struct bp_event *ev, bp_time now)
{
    if (p->tell_up) {
        p->tell_up = false;
        describe(p, BP_EVENT_UP, ev);
        ev->flags = p->peer_flags;
        ev->creation = p->peer_creation;
        return true;
    }
    if (p->tell_writable && p->stage == CN_UP) {
        p->tell_writable = false;
        describe(p, BP_EVENT_WRITABLE, ev);
        return true;
    }
    if (p->tell_moved) {
        p->tell_moved = false;
        describe(p, BP_EVENT_MOVED, ev);
        ev->error = p->move_error;
        (void)snprintf(ev->text, sizeof(ev->text), "%s", p->move_text);
        return true;
    }
    if (take_message(p, ev, now)) {
        return true;
    }
    if (p->tell_down) {
        p->tell_down = false;
        describe(p, BP_EVENT_DOWN, ev);
        ev->error = p->err;
        (void)snprintf(ev->text, sizeof(ev->text), "%s", p->text);
        return true;
    }
    return false;
}

static bool has_more(const struct cn_peer *p)
{
    return p->tell_up || p->tell_down || p->tell_moved || (p->tell_writable && p->stage == CN_UP) ||
           (p->link != NULL && !p->local_close && bp_link_frames(p->link)->n > 0);
}

/* Only what is said to be in it is written, but for the beginning. */
static void begin_event(struct bp_event *ev)
{
    ev->kind = BP_EVENT_NONE;
    ev->error = 0;
    ev->peer = 0;
    ev->inbound = ev->was_up = false;
    ev->data = NULL;
    ev->len = 0;
    ev->flags = 0;
    ev->creation = 0;
    ev->name[0] = ev->text[0] = '\0';
    ev->reserved = NULL;
}

static int next_event(struct bp_node *n, struct bp_event *ev)
{
    bp_time now = cn_now();

    begin_event(ev);
    while (n->ready != NULL) {
        struct cn_peer *p = n->ready;
        bool got;

        p->busy = true;
        got = take(p, ev, now);
        p->busy = false;
        n->ready = p->next_ready;
        if (n->ready == NULL) {
            n->ready_tail = &n->ready;
        }
        p->ready = false;
        if (got && p->link != NULL && p->stage == CN_UP) {
            cn_peer_credit(p, now);
        }
        if (has_more(p)) {
            cn_event_ready(p); /* behind the others */
        } else {
            cn_peer_reap(p);
        }
        if (got) {
            return 0;
        }
    }
    return BP_E_AGAIN;
}

int bp_node_next(struct bp_node *n, struct bp_event *ev)
{
    int rc;

    (void)pthread_mutex_lock(&n->lock);
    rc = next_event(n, ev);
    cn_touched(n);
    (void)pthread_mutex_unlock(&n->lock);
    return rc;
}

int bp_node_wait(struct bp_node *n, struct bp_event *ev, int timeout_ms)
{
    bp_time until = timeout_ms < 0 ? BP_TIME_NEVER : cn_now() + (bp_time)timeout_ms * BP_MS;
    int rc;

    (void)pthread_mutex_lock(&n->lock);
    if (!n->threaded) {
        begin_event(ev);
        (void)pthread_mutex_unlock(&n->lock);
        return cn_fail(BP_E_STATE, "the node %s has no I/O thread", n->name);
    }
    rc = next_event(n, ev);
    cn_touched(n);
    while (rc == BP_E_AGAIN) {
        n->event_waiters++;
        rc = cn_wait(n, &n->event_cond, until);
        n->event_waiters--;
        if (rc == 0 || rc == BP_E_TIMEOUT) {
            int got = next_event(n, ev);
            rc = got == 0 ? 0 : rc == 0 ? BP_E_AGAIN : rc;
        }
    }
    cn_touched(n);
    (void)pthread_mutex_unlock(&n->lock);
    return rc;
}

void bp_event_clear(struct bp_event *ev)
{
    free(ev->reserved);
    ev->reserved = NULL;
    ev->data = NULL;
    ev->len = 0;
}

/* --- sending ------------------------------------------------------------- */

static bool first_bytes(const struct bp_part *parts, size_t n, uint8_t out[static 2])
{
    size_t got = 0;

    for (size_t i = 0; i < n && got < 2; i++) {
        const uint8_t *d = parts[i].data;
        for (size_t k = 0; k < parts[i].len && got < 2; k++) {
            out[got++] = d[k];
        }
    }
    return got == 2;
}

/* A message that is on its way into a link: the parts as they are, or one piece. */
struct outgoing {
    struct bp_slice slices[PARTS_MAX];
    size_t n;
    size_t len;
    uint8_t *copy;
};

/* Before the lock is taken: copying much takes its time. `max` bytes at most, so that no sum of
 * wrong lengths is a small one. */
static int prepare(struct outgoing *o, const struct bp_part *parts, size_t n, size_t max)
{
    uint8_t begin[2];
    size_t at = 0;

    o->len = 0;
    o->copy = NULL;
    for (size_t i = 0; i < n; i++) {
        if (parts == NULL || (parts[i].data == NULL && parts[i].len > 0)) {
            return cn_fail(BP_E_INVALID, "a piece of a message is nowhere");
        }
        if (parts[i].len > max - o->len) {
            return cn_fail(BP_E_LIMIT, "a message is larger than BP_OPT_MAX_FRAME, %zu bytes", max);
        }
        o->len += parts[i].len;
    }
    if (!first_bytes(parts, n, begin) || !cn_message_begins(begin, 2)) {
        return cn_fail(BP_E_INVALID, "a message begins with the bytes 112 and 131");
    }
    if (o->len <= COPY_MAX && n <= PARTS_MAX) {
        for (size_t i = 0; i < n; i++) {
            o->slices[i] = (struct bp_slice){.base = parts[i].data, .len = parts[i].len};
        }
        o->n = n;
        return 0;
    }
    o->copy = malloc(o->len);
    if (o->copy == NULL) {
        return cn_fail(BP_E_NOMEM, "%s", bp_err_text(BP_E_NOMEM));
    }
    for (size_t i = 0; i < n; i++) {
        if (parts[i].len > 0) {
            memcpy(o->copy + at, parts[i].data, parts[i].len);
            at += parts[i].len;
        }
    }
    o->slices[0] = (struct bp_slice){.base = o->copy, .len = o->len, .owner = o->copy};
    o->n = 1;
    return 0;
}

/* Whether it may be sent now. */
static int check(struct bp_node *n, struct cn_peer *p)
{
    if (p == NULL || !p->native) {
        return cn_fail(BP_E_NOT_FOUND, "there is no such connection (any more)");
    }
    if (p->stage != CN_UP) {
        return cn_fail(BP_E_STATE, "%s is not connected", p->name);
    }
    if (bp_link_pending(p->link) >= n->opt.send_buffer) {
        p->want_writable = true;
        return cn_fail(BP_E_AGAIN, "%s takes messages more slowly than they are sent", p->name);
    }
    return 0;
}

int bp_node_send(struct bp_node *n, bp_peer_id peer, const struct bp_part *parts, size_t count)
{
    struct outgoing o;
    struct cn_peer *p;
    int rc = prepare(&o, parts, count, n->opt.max_frame);

    if (rc != 0) {
        return rc;
    }
    (void)pthread_mutex_lock(&n->lock);
    p = cn_peer_of(n, peer);
    rc = check(n, p);
    if (rc == 0) {
        bp_time now = cn_now();
        rc = bp_link_send(p->link, o.slices, o.n);
        o.copy = NULL; /* taken, whatever came of it */
        if (rc != 0) {
            (void)cn_fail(rc, "%s", bp_err_text(rc));
        }
        cn_peer_sent(p, now);
    }
    cn_touched(n);
    (void)pthread_mutex_unlock(&n->lock);
    free(o.copy);
    return rc;
}

int bp_node_close(struct bp_node *n, bp_peer_id id)
{
    struct cn_peer *p;
    int rc = 0;

    (void)pthread_mutex_lock(&n->lock);
    p = cn_peer_of(n, id);
    if (p == NULL || p->stage == CN_ENDED) {
        rc = cn_fail(BP_E_NOT_FOUND, "there is no such connection (any more)");
    } else {
        p->local_close = true;
        cn_peer_end(p, BP_E_LOCAL_CLOSE, NULL, cn_now());
    }
    cn_touched(n);
    (void)pthread_mutex_unlock(&n->lock);
    return rc;
}
