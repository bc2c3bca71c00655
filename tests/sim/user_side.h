/* SPDX-License-Identifier: Apache-2.0 */
/* Hosts of user streams for the simulation: they open, echo, read or do not read, and note what
 * came. */
#ifndef BP_SIM_USER_SIDE_H
#define BP_SIM_USER_SIDE_H

#include "sim/traffic.h"
#include "support/t.h"

#include "dist/link_impl.h"
#include "quic/conn_impl.h"

#define PEER_MAX 300u

/* What the host of one side knows of a stream. */
struct seen {
    int64_t id;
    uint64_t got;
    bool fin;
    bool closed;
    bool cut;
    bool stopped;
    uint64_t code;
    bool paused;
    bool echo;      /* answers with what it gets */
    unsigned order; /* the how-manieth that was over */
};

struct host {
    struct sim_node *node;
    struct seen seen[PEER_MAX];
    unsigned n;
    unsigned n_over;
    bool refuse;
    bool pause_new;
    bool echo;
};

static inline uint8_t byte_at(int64_t id, uint64_t offset)
{
    return (uint8_t)(offset * 31 + offset / 251 + (uint64_t)id * 7);
}

static inline struct seen *add_seen(struct host *h, int64_t id)
{
    struct seen *e = &h->seen[h->n++];

    assert_true(h->n <= PEER_MAX);
    *e = (struct seen){.id = id, .paused = h->pause_new, .echo = h->echo};
    return e;
}

static inline struct bp_user_stream *open_stream(struct host *h, uint8_t priority,
                                                 struct seen **out)
{
    struct bp_user_stream *s;

    assert_int_equal(bp_link_user_open(h->node->link, priority, &s), 0);
    *out = add_seen(h, s->tx.id);
    s->host = *out;
    return s;
}

/* Owned bytes, whose pattern tells stream and offset. */
static inline int put(struct host *h, struct bp_user_stream *s, size_t len)
{
    uint8_t *p = malloc(len);
    struct bp_slice slice = {.base = p, .len = len, .owner = p};

    assert_non_null(p);
    for (size_t i = 0; i < len; i++) {
        p[i] = byte_at(s->tx.id, s->tx.q.end + i);
    }
    h->node->owners++;
    return bp_link_user_put(h->node->link, s, &slice, 1);
}

static inline void take(struct host *h, struct bp_user_stream *s, struct seen *e)
{
    struct bp_user_chunk c;

    while (!e->paused && bp_link_user_take(h->node->link, s, &c)) {
        assert_false(e->fin);
        for (size_t i = 0; i < c.len; i++) {
            assert_int_equal(c.data[i], byte_at(s->tx.id, e->got + i));
        }
        e->got += c.len;
        e->fin = c.fin;
        if (e->echo && c.len > 0) {
            assert_int_equal(put(h, s, c.len), 0);
        }
        if (e->echo && c.fin) {
            assert_int_equal(bp_link_user_fin(h->node->link, s), 0);
        }
        if (c.bin != NULL) {
            h->node->bins--;
            h->node->mem->release(h->node->mem->ctx, c.bin);
        }
    }
}

static inline void look(struct host *h, struct bp_user_stream *s)
{
    struct seen *e = s->host;

    if (e == NULL) {
        assert_false(s->local);
        if (h->refuse) {
            bp_link_user_refuse(h->node->link, s);
            return;
        }
        e = add_seen(h, s->tx.id);
        bp_link_user_welcome(h->node->link, s, e);
    }
    take(h, s, e);
    if (s->cut) {
        e->cut = true;
        e->code = s->cut_code;
        bp_link_user_reset(h->node->link, s, s->cut_code);
    } else if (bp_link_user_done(s)) {
        e->closed = true;
        e->stopped = s->stopped;
        e->order = h->n_over++;
        bp_link_user_release(h->node->link, s);
    }
}

static inline void poll_host(struct host *h)
{
    struct bp_user_stream *s;

    while ((s = bp_link_user_next(h->node->link)) != NULL) {
        look(h, s);
    }
}

struct side {
    struct sim s;
    struct host a;
    struct host b;
};

static inline void accept_all(struct sim_node *n)
{
    bp_link_user_accept(n->link, true);
}

static inline void begin(struct side *w, uint64_t seed)
{
    *w = (struct side){0};
    sim_init(&w->s, t_seed(seed));
    w->a.node = &w->s.a;
    w->b.node = &w->s.b;
    w->s.on_link = accept_all;
}

static inline void start(struct side *w, uint64_t seed)
{
    begin(w, seed);
    sim_connect_up(&w->s);
}

static inline void end(struct side *w)
{
    assert_string_equal(w->s.a.failed ? bp_link_error_text(w->s.a.link) : "", "");
    assert_string_equal(w->s.b.failed ? bp_link_error_text(w->s.b.link) : "", "");
    sim_free(&w->s);
    assert_int_equal(w->s.a.owners + w->s.b.owners, 0);
    assert_int_equal(w->s.a.bins + w->s.b.bins, 0);
}

/* One event at a time for at most `for_`; the hosts take what there is. */
static inline void run(struct side *w, bp_time for_)
{
    bp_time until = w->s.now + for_;

    sim_flush(&w->s);
    while (sim_step(&w->s, until)) {
        poll_host(&w->a);
        poll_host(&w->b);
        sim_flush(&w->s);
    }
    w->s.now = until;
}

static inline void run_idle(struct side *w, bp_time within)
{
    bp_time until = w->s.now + within;

    while (bp_link_user_streams(w->s.a.link) + bp_link_user_streams(w->s.b.link) > 0) {
        assert_true(w->s.now < until);
        run(w, 10 * BP_MS);
    }
}

static inline const struct seen *of(const struct host *h, int64_t id)
{
    for (unsigned i = 0; i < h->n; i++) {
        if (h->seen[i].id == id) {
            return &h->seen[i];
        }
    }
    return NULL;
}

#endif
