/* SPDX-License-Identifier: Apache-2.0 */
/* libei over QUIC: the callbacks that move bytes, and the end of the handshake. */
#include "cnode/ei_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

/* --- callbacks: bytes ---------------------------------------------------- */

/*
 * Many bytes are copied without the lock: `in` belongs to the thread that reads, `out` to the one
 * that writes, and whoever closes the descriptor waits for both.
 */
#define LARGE 16384u

static void leave(struct cn_ei *h)
{
    h->waiters++;
    (void)pthread_mutex_unlock(&h->n->lock);
}

static void come_back(struct cn_ei *h)
{
    (void)pthread_mutex_lock(&h->n->lock);
    h->waiters--;
    if (h->kind == EI_CLOSING) {
        (void)pthread_cond_broadcast(&h->cond);
    }
}

static bool is_over(const struct cn_ei *h)
{
    return h->peer == NULL || h->peer->stage == CN_ENDED || h->broken;
}

/* A whole message of the program; takes it. 0, or an errno. */
static int send_message(struct cn_ei *h, uint8_t *msg, size_t len)
{
    struct cn_peer *p = h->peer;
    struct bp_slice s = {.base = msg, .len = len, .owner = msg};
    int rc;

    if (h->play != NULL) {
        int err = cn_ei_play_take(h, msg, len);
        free(msg);
        return err;
    }
    if (!h->up) {
        rc = cn_shake_send(p, msg, len);
        free(msg);
    } else if (!cn_message_begins(msg, len)) {
        free(msg);
        return cn_ei_failed(EINVAL, BP_E_INVALID, "a message begins with the bytes 112 and 131");
    } else {
        rc = bp_link_send(p->link, &s, 1);
    }
    cn_peer_sent(p, cn_now());
    if (rc != 0) {
        return p->stage == CN_ENDED ? cn_ei_ended(h)
                                    : cn_ei_failed(rc == BP_E_NOMEM ? ENOMEM : EIO, rc, NULL);
    }
    return 0;
}

static int take_bytes(struct cn_ei *h, const uint8_t *buf, size_t len, size_t *used)
{
    uint8_t *msg;
    size_t msg_len;
    bool large = len >= LARGE;
    int rc;

    if (large) {
        leave(h);
    }
    rc = cn_ei_cutter_push(&h->out, buf, len, used, &msg, &msg_len);
    if (large) {
        come_back(h);
    }
    if (rc == CN_EI_MESSAGE && is_over(h)) {
        free(msg);
        return cn_ei_ended(h);
    }
    if (rc == CN_EI_TICK && is_over(h)) {
        return cn_ei_ended(h);
    }
    switch (rc) {
    case CN_EI_MORE:
        return 0;
    case CN_EI_TICK:
        bp_link_tick(h->peer->link);
        cn_peer_sent(h->peer, cn_now());
        return 0;
    case CN_EI_MESSAGE:
        return send_message(h, msg, msg_len);
    default:
        h->broken = true;
        (void)cn_fail(rc, "a message is larger than BP_OPT_MAX_FRAME, or there is no memory");
        return rc == BP_E_NOMEM ? ENOMEM : EMSGSIZE;
    }
}

/* Whether a message may begin. */
static bool has_room(const struct cn_ei *h)
{
    return !h->up || cn_ei_cutter_busy(&h->out) ||
           bp_link_pending(h->peer->link) < h->n->opt.send_buffer;
}

static int write_over(const struct cn_ei *h)
{
    if (h->broken && h->peer != NULL && h->peer->stage != CN_ENDED) {
        return cn_ei_failed(EPIPE, BP_E_STATE, "a write has failed in the middle of a message");
    }
    return cn_ei_ended(h);
}

static int write_locked(struct cn_ei *h, const uint8_t *buf, size_t len, size_t *done,
                        bp_time until)
{
    int err = 0;

    while (err == 0 && *done < len) {
        size_t used;
        if (is_over(h)) {
            return write_over(h);
        }
        if (!has_room(h)) {
            cn_touched(h->n);
            err =
                cn_ei_wait_for(h, until, "the peer takes messages more slowly than they are sent");
            continue;
        }
        err = take_bytes(h, buf + *done, len - *done, &used);
        *done += used;
    }
    return err;
}

/* What came while this thread was busy in here was not shown. */
static void show_alone(struct cn_ei *h)
{
    if (h->waiters == 0) {
        cn_ei_show(h);
    }
}

int cn_ei_cb_write(void *ctx, const char *buf, ssize_t *len, unsigned tmo)
{
    struct cn_ei *h = ctx;
    size_t done = 0;
    int err;

    (void)pthread_mutex_lock(&h->n->lock);
    err = write_locked(h, (const uint8_t *)buf, (size_t)*len, &done, cn_ei_until(tmo));
    show_alone(h);
    cn_touched(h->n);
    (void)pthread_mutex_unlock(&h->n->lock);
    if (done > 0) {
        *len = (ssize_t)done; /* an error that lasts comes with the next call */
        return 0;
    }
    return err;
}

int cn_ei_cb_writev(void *ctx, const void *iov, int iovcnt, ssize_t *len, unsigned tmo)
{
    struct cn_ei *h = ctx;
    const struct iovec *v = iov;
    bp_time until = cn_ei_until(tmo);
    size_t total = 0;
    int err = 0;

    (void)pthread_mutex_lock(&h->n->lock);
    for (int i = 0; err == 0 && i < iovcnt; i++) {
        size_t done = 0;
        err = write_locked(h, v[i].iov_base, v[i].iov_len, &done, until);
        total += done;
    }
    show_alone(h);
    cn_touched(h->n);
    (void)pthread_mutex_unlock(&h->n->lock);
    *len = (ssize_t)total;
    return total > 0 ? 0 : err;
}

/* The next message, if there is one: 0, EAGAIN, or what ends it all. */
static int fill_frame(struct cn_ei *h)
{
    struct cn_peer *p = h->peer;
    struct bp_frame_queue *q = bp_link_frames(p->link);
    struct bp_frame f;
    int rc;

    if (!bp_frame_queue_pop(q, &f)) {
        return EAGAIN;
    }
    if (!cn_message_begins(f.data, f.len)) {
        free(f.bin);
        h->broken = true;
        h->n->stats.messages_malformed++;
        cn_peer_end(p, BP_E_FRAME_MALFORMED,
                    "the peer sent a message with an atom cache or in fragments, which no C node "
                    "has asked for",
                    cn_now());
        (void)cn_ei_ended(h);
        return EIO;
    }
    rc = cn_ei_reader_put(&h->in, CN_EI_FRAME_HEAD, f.data, f.len, f.bin);
    if (q->n == 0) {
        bp_frame_queue_reset(q);
    }
    if (rc != 0) {
        free(f.bin);
        return cn_ei_failed(EIO, rc, NULL);
    }
    if (p->stage == CN_UP) {
        cn_peer_credit(p, cn_now());
    }
    return 0;
}

/*
 * "alive": the peer has a connection to a node of our name. If that is one of our last life, which
 * the peer has not noticed to be over, the answer is that this one counts; libei, which gives up
 * there, sees what it would have seen a little later. If it is one that we have, too, it stays.
 */
static void answer_alive(struct cn_ei *h, const uint8_t **msg, size_t *len)
{
    static const char alive[] = "salive";
    static const uint8_t ok[] = {'s', 'o', 'k'};
    static const uint8_t yes[] = {'s', 't', 'r', 'u', 'e'};
    static const uint8_t no[] = {'s', 'f', 'a', 'l', 's', 'e'};

    if (*len != sizeof(alive) - 1 || memcmp(*msg, alive, *len) != 0) {
        return;
    }
    if (cn_peer_named(h->n, bp_link_peer_name(h->peer->link), CN_UP) != NULL) {
        (void)cn_fail(BP_E_EXISTS, "there is a connection to this peer already");
        *msg = (const uint8_t *)alive; /* libei gives up */
        (void)cn_shake_send(h->peer, no, sizeof(no));
    } else if (cn_shake_send(h->peer, yes, sizeof(yes)) == 0) {
        *msg = ok;
        *len = sizeof(ok);
    }
    cn_peer_sent(h->peer, cn_now());
}

/* A status that libei makes an EIO of. */
static void say_refusal(const uint8_t *msg, size_t len)
{
    const char *why = bp_shake_refusal(msg, len);

    if (why != NULL) {
        (void)cn_fail(BP_E_HS_NOT_ALLOWED, "%s", why);
    }
}

static int fill(struct cn_ei *h)
{
    const uint8_t *msg;
    size_t len;
    int rc;

    if (h->play != NULL) {
        return cn_ei_play_give(h);
    }
    if (h->peer == NULL || h->peer->link == NULL) {
        return EAGAIN;
    }
    if (h->up) {
        return fill_frame(h);
    }
    if (cn_shake_recv(h->peer, &msg, &len) != 1) {
        if (h->peer->stage != CN_ENDED) {
            cn_peer_settle(h->peer, cn_now()); /* it may have failed just now */
        }
        return EAGAIN;
    }
    answer_alive(h, &msg, &len);
    say_refusal(msg, len);
    h->last_given = msg[0];
    rc = cn_ei_reader_put(&h->in, CN_EI_HS_HEAD, msg, len, NULL);
    return rc == 0 ? 0 : cn_ei_failed(EIO, rc, NULL);
}

int cn_ei_cb_read(void *ctx, char *buf, ssize_t *len, unsigned tmo)
{
    struct cn_ei *h = ctx;
    bp_time until = cn_ei_until(tmo);
    size_t got = 0;
    int err = 0;

    (void)pthread_mutex_lock(&h->n->lock);
    while (err == 0 && *len > 0) {
        if (!cn_ei_reader_empty(&h->in)) {
            bool large = *len >= (ssize_t)LARGE;
            if (large) {
                leave(h);
            }
            got = cn_ei_reader_take(&h->in, (uint8_t *)buf, (size_t)*len);
            if (large) {
                come_back(h);
            }
            break;
        }
        err = fill(h);
        if (err == EAGAIN) {
            err = is_over(h) ? cn_ei_ended(h)
                             : cn_ei_wait_for(h, until, "nothing has come from the peer in time");
        }
    }
    show_alone(h);
    cn_touched(h->n);
    (void)pthread_mutex_unlock(&h->n->lock);
    *len = (ssize_t)got;
    return got > 0 ? 0 : err;
}

/* --- callbacks: the handshake -------------------------------------------- */

int cn_ei_cb_header_size(void *ctx, int *sz)
{
    (void)ctx;
    *sz = CN_EI_HS_HEAD;
    return 0;
}

int cn_ei_cb_handshake_complete(void *ctx)
{
    struct cn_ei *h = ctx;
    struct bp_node *n = h->n;
    bp_time now = cn_now();
    int err = 0;

    (void)pthread_mutex_lock(&n->lock);
    if (is_over(h)) {
        err = cn_ei_ended(h);
    } else if (h->play != NULL && !cn_ei_play_over(h)) {
        err = cn_ei_failed(EIO, BP_E_STATE, "libei has not finished its handshake");
    } else if ((h->play != NULL ? cn_shake_accepted(h->peer, now) : cn_shake_done(h->peer, now)) !=
               0) {
        cn_peer_settle(h->peer, now); /* ends it */
        err = cn_ei_ended(h);
    } else {
        h->up = true;
        cn_ei_play_end(h);
        cn_ei_cutter_init(&h->out, CN_EI_FRAME_HEAD, n->opt.max_frame);
        cn_peer_settle(h->peer, now);
        cn_ei_show(h);
    }
    cn_touched(n);
    (void)pthread_mutex_unlock(&n->lock);
    return err;
}
