/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What arrives on which stream (WIRE 2). All of it is called from inside bp_conn_read, so it only
 * takes notes; bp_link_advance acts on them.
 *
 *   peer's first uni stream (2 or 3)     authentication
 *   0                                    distribution handshake, then ticks
 *   peer's bidi 4..64 or 1..61           frames, from the distribution handshake on
 *   peer's bidi above                    user streams (link_user.c)
 *   anything else                        ends the connection
 */
#include "dist/link_impl.h"

#include <stdio.h>
#include <string.h>

#define NOT_DATA    (-1)
#define USER_STREAM (-2)

static int on_handshake_done(void *user)
{
    struct bp_link *l = user;

    l->handshake_done = true;
    /* What comes next may be in the same datagram. */
    return bp_link_start_auth(l);
}

static void on_early_ready(void *user)
{
    struct bp_link *l = user;

    l->early_ready = true;
}

/* The index of a data stream that the peer writes, NOT_DATA or USER_STREAM. */
static int data_index(const struct bp_link *l, int64_t id)
{
    int64_t first = l->server ? 4 : 1;

    if ((id & 3) != (first & 3) || id < first) {
        return NOT_DATA; /* uni, or one that we opened */
    }
    return (id - first) / 4 < (int64_t)BP_DIST_STREAMS_MAX ? (int)((id - first) / 4) : USER_STREAM;
}

/* --- authentication ------------------------------------------------------ */

const uint8_t *bp_link_peer_key(const struct bp_link *l)
{
    const struct bp_link_setup *s = l->setup;

    return s != NULL && s->auth_ready && s->auth.has_key ? s->auth.peer_key : NULL;
}

static int external_auth_data(struct bp_link *l, const uint8_t *p, size_t len, bool fin)
{
    struct bp_link_setup *s = l->setup;

    if (BP_EXT_AUTH_MAX - s->ext_len < len) {
        return BP_E_EARLY_DATA_LIMIT;
    }
    if (len > 0) {
        memcpy(s->ext + s->ext_len, p, len);
        s->ext_len += len;
    }
    s->ext_fin = s->ext_fin || fin;
    return 0;
}

static int auth_data(struct bp_link *l, int64_t id, const uint8_t *p, size_t len, bool fin)
{
    int rc = 0;

    if (l->phase >= BP_LINK_HANDSHAKE) {
        return len == 0 ? 0 : BP_E_STREAM_UNEXPECTED; /* a late FIN */
    }
    if (l->auth_mode == BP_AUTH_EXTERNAL) {
        return external_auth_data(l, p, len, fin);
    }
    if (l->auth_mode == BP_AUTH_NONE && l->phase == BP_LINK_TLS) {
        /* A server's first words. Refused once our side of TLS is on its way: a close before that
         * cannot say why (RFC 9000, 10.2.3). */
        l->auth_unwanted = true;
        return 0;
    }
    if (l->auth_mode == BP_AUTH_NONE) {
        snprintf(l->text, sizeof(l->text), "%s", BP_LINK_AUTH_UNWANTED);
        return BP_E_AUTH_UNEXPECTED;
    }
    l->auth_bytes += len;
    if (l->auth_bytes > BP_AUTH_STREAM_MAX || !l->setup->auth_ready) {
        return BP_E_AUTH_MALFORMED;
    }
    bp_conn_credit(l->conn, id, len);
    /* Failures come as an effect, which says more than the code. */
    if (len > 0) {
        rc = bp_auth_recv(&l->setup->auth, p, len, l->now, bp_link_wall_ms(l));
    }
    if (rc == 0 && fin) {
        rc = bp_auth_peer_fin(&l->setup->auth);
    }
    return rc == BP_E_STATE ? BP_E_AUTH_UNEXPECTED : 0;
}

/* --- rates --------------------------------------------------------------- */

int bp_link_flood(struct bp_link *l, const char *what)
{
    snprintf(l->text, sizeof(l->text), "the peer floods us with %s", what);
    return BP_E_FLOOD;
}

static int ticked(struct bp_link *l, uint64_t n)
{
    return n == 0 || bp_rate_take(&l->tick_rate, n, BP_TICKS_BURST, BP_TICK_PERIOD, l->now)
               ? 0
               : bp_link_flood(l, "ticks");
}

/* --- stream 0 ------------------------------------------------------------ */

/*
 * After the handshake stream 0 carries words of four bytes: ticks, which are zero (WIRE 0.6), and
 * between nodes of our own those of link_idle.c and link_path.c.
 */
static int words(struct bp_link *l, const uint8_t *p, size_t len)
{
    uint64_t n = 0;
    uint64_t others = 0;
    int rc = 0;

    for (size_t i = 0; i < len && rc == 0; i++) {
        if (l->word_len == 0 && p[i] != 0 && !bp_conn_peer_is_ours(l->conn)) {
            return BP_E_HS_MALFORMED;
        }
        l->word[l->word_len++] = p[i];
        if (l->word_len < sizeof(l->word)) {
            continue;
        }
        l->word_len = 0;
        if ((l->word[0] | l->word[1] | l->word[2] | l->word[3]) == 0) {
            n++;
        } else if (l->word[0] == BP_LINK_PATH_TAG) {
            others++;
            bp_link_path_word(l, l->word);
        } else {
            others++;
            rc = bp_link_idle_word(l, l->word);
        }
    }
    l->stats.frames_in += n;
    l->stats.ticks_in += n;
    return rc != 0 ? rc : ticked(l, n + others);
}

/* A dialler has sent its name with its proof (link_hs.c); the answer may overtake OK. */
static bool early_name(const struct bp_link *l)
{
    return (l->server || l->control_slot >= 0) && bp_conn_early_name(l->conn);
}

/*
 * Nothing of it is looked at before the peer has authenticated (bp_link_hs_recv), and only what a
 * splitter holds is kept.
 */
static int control_data(struct bp_link *l, int64_t id, const uint8_t *p, size_t len, bool fin)
{
    /* A dialler that has nothing to prove may send its name along with the end of TLS. */
    bool with_tls = l->phase == BP_LINK_TLS && l->handshake_done;
    int rc;

    if (fin) {
        return BP_E_STREAM_FINISHED;
    }
    if ((l->phase == BP_LINK_AUTH || (with_tls && l->auth_mode == BP_AUTH_BUILTIN)) &&
        !early_name(l)) {
        snprintf(l->text, sizeof(l->text), "%s",
                 "the peer did not authenticate, but authentication is on on this node");
        return BP_E_AUTH_UNEXPECTED;
    }
    /* EXTERNAL: the dialler's verdict may come before our own. */
    if (!with_tls && l->phase != BP_LINK_AUTH && l->phase != BP_LINK_HANDSHAKE &&
        l->phase != BP_LINK_UP && l->phase != BP_LINK_EXTERNAL) {
        return BP_E_STREAM_UNEXPECTED;
    }
    if (l->control_slot < 0) {
        rc = bp_conn_adopt(l->conn, id);
        if (rc < 0) {
            return rc;
        }
        l->control_slot = rc;
        bp_conn_set_urgent(l->conn, (unsigned)rc);
    }
    bp_conn_credit(l->conn, id, len);
    if (l->phase == BP_LINK_UP || bp_hs_done(&l->setup->split)) {
        return words(l, p, len);
    }
    rc = bp_hs_push(&l->setup->split, p, len);
    return rc;
}

/* --- frames -------------------------------------------------------------- */

/* What the new ones in the queue say about links and monitors. */
static void note_frames(struct bp_link *l, size_t from)
{
    const struct bp_frame_queue *q = &l->frames;

    for (size_t i = from; i < q->n; i++) {
        const struct bp_frame *f = &q->ring[(q->head + i) & (q->cap - 1)];
        bp_idle_message(&l->idle, f->data, f->len, false);
    }
}

static int data(struct bp_link *l, int index, const uint8_t *p, size_t len, bool fin)
{
    struct bp_deframer *d = l->deframers[index];
    uint64_t ticks_before;
    size_t frames_before;
    int rc;

    if (l->phase != BP_LINK_HANDSHAKE && l->phase != BP_LINK_UP) {
        return BP_E_STREAM_UNEXPECTED;
    }
    if (d == NULL) {
        d = bp_mem_zalloc(l->mem, 1, sizeof(*d));
        if (d == NULL) {
            return BP_E_NOMEM;
        }
        bp_deframer_init(d, &l->rx, l->max_frame_bytes);
        l->deframers[index] = d;
    }
    /* Credited when datagrams are written, all of a batch at once. Until delivery begins the window
     * that was given is the limit of what can be queued here. */
    l->uncredited[index] += len;
    l->credit_due = l->delivering;
    if (fin) {
        return BP_E_STREAM_FINISHED;
    }
    ticks_before = l->frames.ticks;
    frames_before = l->frames.n;
    rc = bp_deframer_push(d, p, len, &l->frames);
    note_frames(l, frames_before);
    return rc != 0 ? rc : ticked(l, l->frames.ticks - ticks_before);
}

static int on_stream_data(void *user, int64_t id, const uint8_t *p, size_t len, bool fin)
{
    struct bp_link *l = user;
    int index;

    if (l->phase == BP_LINK_FAILED) {
        return 0;
    }
    if (id == bp_link_auth_stream(!l->server)) {
        return auth_data(l, id, p, len, fin);
    }
    if (id == BP_CONTROL_STREAM) {
        return control_data(l, id, p, len, fin);
    }
    index = data_index(l, id);
    if (index >= 0) {
        return data(l, index, p, len, fin);
    }
    if (index == USER_STREAM && (l->phase == BP_LINK_HANDSHAKE || l->phase == BP_LINK_UP)) {
        return bp_link_user_begun(l, id, p, len, fin);
    }
    return BP_E_STREAM_UNEXPECTED;
}

static int on_stream_reset(void *user, int64_t id, uint64_t code)
{
    struct bp_link *l = user;

    if (id == bp_link_auth_stream(!l->server)) {
        return l->phase >= BP_LINK_HANDSHAKE ? 0 : BP_E_STREAM_RESET;
    }
    if (data_index(l, id) != USER_STREAM) {
        return BP_E_STREAM_RESET;
    }
    /* Given up before a byte of it came, or refused here already. */
    bp_conn_refuse_stream(l->conn, id, code);
    return bp_link_user_unwanted(l);
}

static void on_acked(void *user, unsigned slot, uint64_t offset)
{
    struct bp_link *l = user;

    for (unsigned i = 0; l->phase == BP_LINK_UP && i < l->n_streams; i++) {
        if (l->data_slots[i] == (int)slot) {
            bp_order_acked(&l->order, i, offset);
            return;
        }
    }
}

static void on_cid(void *user, const struct bp_cid *cid, bool added)
{
    struct bp_link *l = user;
    struct bp_link_event ev = {.kind = added ? BP_LINK_EV_CID_ADDED : BP_LINK_EV_CID_REMOVED,
                               .cid = *cid};

    bp_link_event(l, &ev);
}

static void on_session(void *user)
{
    struct bp_link_event ev = {.kind = BP_LINK_EV_SESSION};

    bp_link_event(user, &ev);
}

const struct bp_conn_ops bp_link_conn_ops = {.handshake_done = on_handshake_done,
                                             .early_ready = on_early_ready,
                                             .stream_data = on_stream_data,
                                             .stream_reset = on_stream_reset,
                                             .acked = on_acked,
                                             .cid = on_cid,
                                             .session = on_session,
                                             .user_data = bp_link_user_data,
                                             .user_reset = bp_link_user_on_reset,
                                             .user_stopped = bp_link_user_on_stop,
                                             .user_closed = bp_link_user_closed};

/* --- delivery ------------------------------------------------------------ */

void bp_link_credit(struct bp_link *l)
{
    int64_t first = l->server ? 4 : 1;

    l->credit_due = false;
    for (unsigned i = 0; i < BP_DIST_STREAMS_MAX; i++) {
        if (l->uncredited[i] > 0) {
            bp_conn_credit(l->conn, first + 4 * (int64_t)i, (size_t)l->uncredited[i]);
            l->uncredited[i] = 0;
        }
    }
}

void bp_link_deliver(struct bp_link *l)
{
    l->delivering = true;
    bp_link_credit(l);
    bp_conn_credit_connection(l->conn, (size_t)l->uncredited_user);
    l->uncredited_user = 0;
}

void bp_link_hold(struct bp_link *l)
{
    if (l->credit_due) {
        bp_link_credit(l);
    }
    l->delivering = false;
}

bool bp_link_delivering(const struct bp_link *l)
{
    return l->delivering;
}

struct bp_frame_queue *bp_link_frames(struct bp_link *l)
{
    return &l->frames;
}
