/* SPDX-License-Identifier: Apache-2.0 */
/*
 * User streams between two links, over good and bad networks: bytes arrive whole and in order, each
 * stream by itself, distribution goes first, and nothing is left when they are over.
 */
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
    bool echo; /* answers with what it gets */
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

static uint8_t byte_at(int64_t id, uint64_t offset)
{
    return (uint8_t)(offset * 31 + offset / 251 + (uint64_t)id * 7);
}

static struct seen *add_seen(struct host *h, int64_t id)
{
    struct seen *e = &h->seen[h->n++];

    assert_true(h->n <= PEER_MAX);
    *e = (struct seen){.id = id, .paused = h->pause_new, .echo = h->echo};
    return e;
}

static struct bp_user_stream *open_stream(struct host *h, uint8_t priority, struct seen **out)
{
    struct bp_user_stream *s;

    assert_int_equal(bp_link_user_open(h->node->link, priority, &s), 0);
    *out = add_seen(h, s->tx.id);
    s->host = *out;
    return s;
}

/* Owned bytes, whose pattern tells stream and offset. */
static int put(struct host *h, struct bp_user_stream *s, size_t len)
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

static void take(struct host *h, struct bp_user_stream *s, struct seen *e)
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

static void look(struct host *h, struct bp_user_stream *s)
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

static void poll_host(struct host *h)
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

static void accept_all(struct sim_node *n)
{
    bp_link_user_accept(n->link, true);
}

static void begin(struct side *w, uint64_t seed)
{
    *w = (struct side){0};
    sim_init(&w->s, t_seed(seed));
    w->a.node = &w->s.a;
    w->b.node = &w->s.b;
    w->s.on_link = accept_all;
}

static void start(struct side *w, uint64_t seed)
{
    begin(w, seed);
    sim_connect_up(&w->s);
}

static void end(struct side *w)
{
    assert_string_equal(w->s.a.failed ? bp_link_error_text(w->s.a.link) : "", "");
    assert_string_equal(w->s.b.failed ? bp_link_error_text(w->s.b.link) : "", "");
    sim_free(&w->s);
    assert_int_equal(w->s.a.owners + w->s.b.owners, 0);
    assert_int_equal(w->s.a.bins + w->s.b.bins, 0);
}

/* One event at a time for at most `for_`; the hosts take what there is. */
static void run(struct side *w, bp_time for_)
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

static void run_idle(struct side *w, bp_time within)
{
    bp_time until = w->s.now + within;

    while (bp_link_user_streams(w->s.a.link) + bp_link_user_streams(w->s.b.link) > 0) {
        assert_true(w->s.now < until);
        run(w, 10 * BP_MS);
    }
}

static const struct seen *of(const struct host *h, int64_t id)
{
    for (unsigned i = 0; i < h->n; i++) {
        if (h->seen[i].id == id) {
            return &h->seen[i];
        }
    }
    return NULL;
}

/* --- bytes ---------------------------------------------------------------- */

static void user_first_ids_are_behind_those_of_distribution(void **state)
{
    struct side w;
    struct seen *e;
    (void)state;

    start(&w, 1);
    assert_int_equal(open_stream(&w.a, 128, &e)->tx.id, 68);
    assert_int_equal(open_stream(&w.b, 128, &e)->tx.id, 65);
    assert_int_equal(open_stream(&w.a, 128, &e)->tx.id, 72);
    sim_free(&w.s);
    /* the same with fewer streams for distribution, and after some were used */
    begin(&w, 2);
    w.s.a.dist_streams = w.s.b.dist_streams = 3;
    sim_connect_up(&w.s);
    for (uint32_t i = 0; i < SIM_SENDERS; i++) {
        sim_send_message(&w.s.a, i, 0, 10);
    }
    assert_int_equal(open_stream(&w.a, 128, &e)->tx.id, 68);
    assert_int_equal(open_stream(&w.b, 128, &e)->tx.id, 65);
    sim_free(&w.s);
}

/* Streams of both sides, echoed, beside distribution, over a network that loses and reorders. */
static void user_bytes_arrive_whole_over_bad_network(void **state)
{
    static const unsigned loss[] = {0, 10, 50};
    (void)state;

    for (unsigned i = 0; i < sizeof(loss) / sizeof(loss[0]); i++) {
        struct side w;
        struct sim_flow flow;
        struct seen *e;

        start(&w, 10 + i);
        w.a.echo = w.b.echo = true;
        w.s.net.loss = loss[i];
        w.s.net.jitter = loss[i] > 0 ? 8 * BP_MS : 0;
        w.s.net.dup = loss[i] > 0 ? 20 : 0;
        flow = (struct sim_flow){.from = &w.s.a, .to = &w.s.b};
        for (unsigned k = 0; k < 20; k++) {
            struct host *h = k % 2 == 0 ? &w.a : &w.b;
            struct bp_user_stream *s = open_stream(h, (uint8_t)(16 + k), &e);
            e->echo = false;
            assert_int_equal(put(h, s, k * 10007), 0);
            assert_int_equal(put(h, s, 1 + k), 0);
            assert_int_equal(bp_link_user_fin(h->node->link, s), 0);
        }
        for (unsigned k = 0; k < 200; k++) {
            sim_flow_send(&w.s, &flow, 3000);
            run(&w, 2 * BP_MS);
        }
        run_idle(&w, 60 * BP_SEC);
        sim_flow_drain(&w.s, &flow, 30 * BP_SEC);
        for (unsigned k = 0; k < 20; k++) {
            int64_t id = (k % 2 == 0 ? 68 : 65) + 4 * (k / 2);
            const struct seen *o = of(k % 2 == 0 ? &w.a : &w.b, id);
            const struct seen *p = of(k % 2 == 0 ? &w.b : &w.a, id);
            assert_true(o->closed && p->closed && o->fin && p->fin);
            assert_int_equal(p->got, k * 10007 + 1 + k);
            assert_int_equal(o->got, p->got);
        }
        end(&w);
    }
}

/* WIRE 11, C4: upstream refuses what does not fit the window. */
static void user_write_larger_than_the_window_flows(void **state)
{
    struct side w;
    struct seen *e;
    struct bp_user_stream *s;
    (void)state;

    start(&w, 20);
    s = open_stream(&w.a, 128, &e);
    assert_int_equal(put(&w.a, s, 20000000), 0);
    assert_int_equal(bp_link_user_fin(w.s.a.link, s), 0);
    w.b.echo = true;
    run_idle(&w, 60 * BP_SEC);
    assert_int_equal(of(&w.b, 68)->got, 20000000);
    assert_int_equal(e->got, 20000000);
    end(&w);
}

static void user_finish_alone_and_half_close(void **state)
{
    struct side w;
    struct seen *e;
    struct bp_user_stream *s;
    (void)state;

    start(&w, 21);
    s = open_stream(&w.a, 128, &e);
    assert_int_equal(bp_link_user_fin(w.s.a.link, s), 0);
    run(&w, 100 * BP_MS);
    assert_true(of(&w.b, 68)->fin);
    assert_int_equal(of(&w.b, 68)->got, 0);
    assert_false(of(&w.b, 68)->closed); /* the other half is open */
    assert_int_equal(put(&w.a, s, 1), BP_E_STATE);
    s = bp_link_user_find(w.s.b.link, 68);
    assert_int_equal(put(&w.b, s, 100000), 0);
    assert_int_equal(bp_link_user_fin(w.s.b.link, s), 0);
    run_idle(&w, BP_SEC);
    assert_int_equal(e->got, 100000);
    assert_true(e->closed && of(&w.b, 68)->closed);
    assert_null(bp_link_user_find(w.s.b.link, 68));
    end(&w);
}

/* --- who goes first -------------------------------------------------------- */

/* Bytes of a stream wait as long as distribution has something to send. */
static void user_streams_leave_distribution_first(void **state)
{
    struct side w;
    struct sim_flow flow;
    struct seen *e;
    struct bp_user_stream *s;
    uint64_t before;
    (void)state;

    start(&w, 30);
    flow = (struct sim_flow){.from = &w.s.a, .to = &w.s.b};
    w.s.net.delay = 20 * BP_MS;
    s = open_stream(&w.a, 16, &e);
    assert_int_equal(put(&w.a, s, 50000000), 0);
    run(&w, BP_SEC);
    for (unsigned i = 0; i < 20; i++) {
        before = s->tx.q.sent;
        assert_true(before < 50000000);
        while (bp_link_pending(w.s.a.link) < 524288) {
            sim_flow_send(&w.s, &flow, 20000);
        }
        while (bp_link_pending(w.s.a.link) > 0) {
            before = s->tx.q.sent;
            assert_true(sim_step(&w.s, w.s.now + BP_SEC));
            poll_host(&w.b);
            /* A packet may be filled up with it once distribution has nothing more. */
            assert_true(bp_link_pending(w.s.a.link) == 0 || s->tx.q.sent == before);
        }
        run(&w, 50 * BP_MS);
        sim_receive(flow.to, flow.got, &flow.n_got);
    }
    assert_int_equal(put(&w.a, s, 1), 0);
    bp_link_user_reset(w.s.a.link, s, 1);
    sim_flow_drain(&w.s, &flow, 30 * BP_SEC);
    run_idle(&w, 10 * BP_SEC);
    end(&w);
}

static void user_lower_priority_number_goes_first_and_equals_share(void **state)
{
    static const uint8_t prio[] = {200, 100, 100, 20};
    struct side w;
    struct seen *e[4];
    struct bp_user_stream *s[4];
    (void)state;

    start(&w, 31);
    w.s.net.delay = 20 * BP_MS;
    for (unsigned i = 0; i < 4; i++) {
        s[i] = open_stream(&w.a, prio[i], &e[i]);
        assert_int_equal(put(&w.a, s[i], 3000000), 0);
    }
    while (s[1]->tx.q.sent < 1500000) {
        assert_true(s[3]->tx.q.sent == 3000000 || s[1]->tx.q.sent == 0);
        assert_int_equal(s[0]->tx.q.sent, 0);
        /* equal ones differ by a few packets */
        assert_true(s[1]->tx.q.sent < s[2]->tx.q.sent + 300000 &&
                    s[2]->tx.q.sent < s[1]->tx.q.sent + 300000);
        run(&w, 10 * BP_MS);
    }
    /* changed on the way */
    bp_link_user_set_priority(w.s.a.link, s[0], 50);
    run(&w, 30 * BP_MS);
    while (s[0]->tx.q.sent < 3000000) {
        uint64_t second = s[1]->tx.q.sent;
        run(&w, 10 * BP_MS);
        assert_true(s[0]->tx.q.sent == 3000000 || s[1]->tx.q.sent <= second + 70000);
    }
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(bp_link_user_fin(w.s.a.link, s[i]), 0);
    }
    w.b.echo = true;
    for (unsigned i = 0; i < w.b.n; i++) {
        w.b.seen[i].echo = true;
    }
    run_idle(&w, 30 * BP_SEC);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(of(&w.b, 68 + 4 * (int64_t)i)->got, 3000000);
    }
    end(&w);
}

/* --- slow readers ----------------------------------------------------------- */

static void user_slow_reader_holds_up_its_own_stream_alone(void **state)
{
    struct side w;
    struct sim_flow flow;
    struct seen *e[11];
    struct bp_user_stream *s[11];
    uint64_t stuck;
    (void)state;

    start(&w, 40);
    flow = (struct sim_flow){.from = &w.s.a, .to = &w.s.b};
    w.b.pause_new = true;
    for (unsigned i = 0; i < 10; i++) {
        s[i] = open_stream(&w.a, 128, &e[i]);
        assert_int_equal(put(&w.a, s[i], 10000000), 0);
    }
    run(&w, 5 * BP_SEC);
    for (unsigned i = 0; i < 10; i++) {
        /* its window and no more; ten of them are more than the connection's window */
        assert_in_range(s[i]->tx.q.sent, 1000000, 5000000);
        assert_int_equal(of(&w.b, s[i]->tx.id)->got, 0);
    }
    stuck = s[0]->tx.q.sent;
    w.b.pause_new = false;
    s[10] = open_stream(&w.a, 255, &e[10]);
    assert_int_equal(put(&w.a, s[10], 30000000), 0);
    for (unsigned i = 0; i < 500; i++) {
        sim_flow_send(&w.s, &flow, 20000);
        run(&w, 10 * BP_MS);
        sim_receive(flow.to, flow.got, &flow.n_got);
    }
    assert_int_equal(of(&w.b, s[10]->tx.id)->got, 30000000);
    assert_int_equal(flow.n_got, 500);
    assert_int_equal(s[0]->tx.q.sent, stuck);
    for (unsigned i = 0; i < w.b.n; i++) {
        w.b.seen[i].paused = false;
        take(&w.b, bp_link_user_find(w.s.b.link, w.b.seen[i].id), &w.b.seen[i]);
    }
    run(&w, 20 * BP_SEC);
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(of(&w.b, s[i]->tx.id)->got, 10000000);
    }
    for (unsigned i = 0; i < 11; i++) {
        bp_link_user_reset(w.s.a.link, s[i], 0);
    }
    run_idle(&w, 10 * BP_SEC);
    end(&w);
}

static void user_too_much_unread_ends_that_stream(void **state)
{
    struct bp_user_stats st;
    struct side w;
    struct seen *e[3];
    struct bp_user_stream *s[3];
    (void)state;

    start(&w, 41);
    w.b.pause_new = true;
    w.s.b.link->user_unread_max = 5000000;
    for (unsigned i = 0; i < 3; i++) {
        s[i] = open_stream(&w.a, (uint8_t)(20 + i), &e[i]);
        assert_int_equal(put(&w.a, s[i], 3000000), 0);
    }
    run(&w, 5 * BP_SEC);
    bp_link_user_stats(w.s.b.link, &st);
    assert_true(e[1]->cut || e[2]->cut);
    assert_int_equal(e[e[1]->cut ? 1 : 2]->code, BP_USER_TOO_MUCH);
    assert_false(e[0]->cut);
    assert_int_equal(st.too_much, e[1]->cut + e[2]->cut);
    assert_in_range(st.unread_bytes, 3000000, 5000000);
    bp_link_user_reset(w.s.a.link, s[0], 0);
    for (unsigned i = 1; i < 3; i++) {
        if (!e[i]->cut) {
            bp_link_user_reset(w.s.a.link, s[i], 0);
        }
    }
    run_idle(&w, 10 * BP_SEC);
    bp_link_user_stats(w.s.b.link, &st);
    assert_int_equal(st.unread_bytes, 0);
    end(&w);
}

/* --- ends -------------------------------------------------------------------- */

static void user_reset_reaches_the_other_side_with_its_code(void **state)
{
    struct side w;
    struct seen *e;
    struct bp_user_stream *s;
    (void)state;

    for (unsigned by_b = 0; by_b < 2; by_b++) {
        for (unsigned bytes = 0; bytes < 2; bytes++) {
            start(&w, 50);
            s = open_stream(&w.a, 128, &e);
            assert_int_equal(put(&w.a, s, 1), 0);
            run(&w, 100 * BP_MS);
            if (bytes != 0) {
                assert_int_equal(put(&w.a, s, 30000000), 0);
                run(&w, 20 * BP_MS);
            }
            if (by_b != 0) {
                bp_link_user_reset(w.s.b.link, bp_link_user_find(w.s.b.link, 68), 4711);
            } else {
                bp_link_user_reset(w.s.a.link, s, 4711);
            }
            run_idle(&w, 10 * BP_SEC);
            assert_true(by_b != 0 ? e->cut : of(&w.b, 68)->cut);
            assert_int_equal(by_b != 0 ? e->code : of(&w.b, 68)->code, 4711);
            end(&w);
        }
    }
}

/*
 * Upstream resets the half that it writes and says no more (WIRE 2, 6.1): that ends the stream here,
 * and nothing is left of it on either side. It does the same again for each datagram that comes.
 */
static void user_reset_of_one_half_ends_the_stream(void **state)
{
    struct side w;
    struct seen *e;
    struct bp_user_stream *s;
    (void)state;

    for (unsigned bytes = 0; bytes < 2; bytes++) {
        start(&w, 57);
        s = open_stream(&w.a, 128, &e);
        assert_int_equal(put(&w.a, s, bytes != 0 ? 20000000 : 10), 0);
        run(&w, 40 * BP_MS);
        assert_int_equal(ngtcp2_conn_shutdown_stream_write(bp_link_conn(w.s.b.link)->q, 0, 68, 0x100),
                         0);
        run_idle(&w, 10 * BP_SEC);
        assert_true(e->cut);
        assert_int_equal(e->code, 0x100);
        assert_true(of(&w.b, 68)->cut);
        end(&w);
    }
    /* a stream of theirs that they give up, without asking us to stop */
    start(&w, 58);
    s = open_stream(&w.b, 128, &e);
    assert_int_equal(put(&w.b, s, 1000), 0);
    run(&w, 100 * BP_MS);
    assert_int_equal(ngtcp2_conn_shutdown_stream_write(bp_link_conn(w.s.b.link)->q, 0, 65, 7), 0);
    run_idle(&w, 10 * BP_SEC);
    assert_true(of(&w.a, 65)->cut);
    assert_int_equal(of(&w.a, 65)->code, 7);
    end(&w);
}

/* The writer has finished and is gone: all of it arrives, also when the reader writes meanwhile. */
static void user_orphan_delivers_what_it_had_finished(void **state)
{
    struct side w;
    struct seen *e;
    struct bp_user_stream *s;
    (void)state;

    for (unsigned answers = 0; answers < 2; answers++) {
        start(&w, 55);
        w.s.net.loss = 50;
        s = open_stream(&w.a, 128, &e);
        assert_int_equal(put(&w.a, s, 1), 0);
        run(&w, BP_SEC);
        assert_int_equal(put(&w.a, s, 3000000), 0);
        assert_int_equal(bp_link_user_fin(w.s.a.link, s), 0);
        bp_link_user_orphan(w.s.a.link, s);
        run(&w, 30 * BP_MS);
        if (answers != 0) {
            s = bp_link_user_find(w.s.b.link, 68);
            assert_int_equal(put(&w.b, s, 100000), 0);
        }
        run_idle(&w, 60 * BP_SEC);
        assert_int_equal(of(&w.b, 68)->got, 3000001);
        assert_true(of(&w.b, 68)->fin && of(&w.b, 68)->stopped && !of(&w.b, 68)->cut);
        end(&w);
    }
    /* one that had not finished is cut */
    start(&w, 56);
    s = open_stream(&w.a, 128, &e);
    assert_int_equal(put(&w.a, s, 3000000), 0);
    bp_link_user_orphan(w.s.a.link, s);
    run_idle(&w, 10 * BP_SEC);
    assert_true(w.b.n == 0 || w.b.seen[0].cut);
    end(&w);
}

/* One that nobody at the other side has seen a byte of. */
static void user_reset_before_the_first_byte_leaves_nothing(void **state)
{
    struct side w;
    struct seen *e;
    (void)state;

    start(&w, 51);
    for (unsigned i = 0; i < 1000; i++) {
        bp_link_user_reset(w.s.a.link, open_stream(&w.a, 128, &e), 9);
        w.a.n = 0;
        run(&w, 20 * BP_MS);
    }
    run_idle(&w, 10 * BP_SEC);
    assert_int_equal(w.b.n, 0);
    end(&w);
}

static void user_streams_nobody_wants_are_refused(void **state)
{
    struct bp_user_stats st;
    struct side w;
    struct seen *e;
    struct bp_user_stream *s;
    (void)state;

    start(&w, 52);
    w.b.refuse = true;
    s = open_stream(&w.a, 128, &e);
    assert_int_equal(put(&w.a, s, 10000), 0);
    run_idle(&w, 10 * BP_SEC);
    assert_true(e->cut);
    assert_int_equal(e->code, BP_USER_REFUSED);
    bp_link_user_stats(w.s.b.link, &st);
    assert_int_equal(st.refused, 1);
    end(&w);
}

static void user_ten_thousand_in_sequence_and_239_at_once(void **state)
{
    struct bp_user_stats st;
    struct side w;
    struct seen *e;
    struct bp_user_stream *s;
    unsigned n = 0;
    (void)state;

    start(&w, 53);
    w.s.net.delay = BP_MS / 10;
    w.b.echo = true;
    for (unsigned i = 0; i < 10000; i++) {
        struct host *h = i % 2 == 0 ? &w.a : &w.b;
        s = open_stream(h, 128, &e);
        e->echo = false;
        assert_int_equal(put(h, s, 100), 0);
        assert_int_equal(bp_link_user_fin(h->node->link, s), 0);
        w.a.echo = w.b.echo = true;
        while (!e->closed) {
            run(&w, BP_MS);
        }
        assert_int_equal(e->got, 100);
        run_idle(&w, BP_SEC);
        w.a.n = w.b.n = 0;
    }
    while (bp_link_user_open(w.s.a.link, 128, &s) == 0) {
        e = add_seen(&w.a, s->tx.id);
        e->echo = false;
        s->host = e;
        assert_int_equal(put(&w.a, s, 5000), 0);
        n++;
    }
    assert_int_equal(n, 239);
    run(&w, BP_SEC);
    assert_int_equal(w.b.n, 239);
    for (unsigned i = 0; i < 239; i++) {
        s = bp_link_user_find(w.s.a.link, w.a.seen[i].id);
        assert_int_equal(w.a.seen[i].got, 5000);
        assert_int_equal(bp_link_user_fin(w.s.a.link, s), 0);
    }
    run_idle(&w, BP_SEC);
    bp_link_user_stats(w.s.a.link, &st);
    assert_int_equal(st.opened, 5000 + 239);
    assert_int_equal(st.accepted, 5000);
    assert_int_equal(st.unread_bytes, 0);
    end(&w);
}

/* A stream that is over for QUIC but not for its reader counts: else a peer could fill memory. */
static void user_unread_streams_count_against_the_limit(void **state)
{
    struct side w;
    struct seen *e;
    struct bp_user_stream *s;
    unsigned n = 0;
    (void)state;

    start(&w, 54);
    w.b.pause_new = true;
    for (unsigned round = 0; round < 3; round++) {
        while (bp_link_user_open(w.s.a.link, 128, &s) == 0) {
            e = add_seen(&w.a, s->tx.id);
            s->host = e;
            assert_int_equal(put(&w.a, s, 10), 0);
            assert_int_equal(bp_link_user_fin(w.s.a.link, s), 0);
            n++;
        }
        run(&w, BP_SEC);
        for (unsigned i = 0; i < w.b.n && round == 0; i++) {
            s = bp_link_user_find(w.s.b.link, w.b.seen[i].id);
            assert_int_equal(bp_link_user_fin(w.s.b.link, s), 0);
        }
        run(&w, BP_SEC);
        assert_int_equal(n, 239);
    }
    for (unsigned i = 0; i < w.b.n; i++) {
        s = bp_link_user_find(w.s.b.link, w.b.seen[i].id);
        w.b.seen[i].paused = false;
        look(&w.b, s);
    }
    run_idle(&w, BP_SEC);
    run(&w, BP_SEC);
    assert_int_equal(bp_link_user_open(w.s.a.link, 128, &s), 0);
    sim_free(&w.s);
}

/* --- before distribution is up, parked --------------------------------------- */

static void user_streams_wait_until_distribution_is_up(void **state)
{
    struct side w;
    struct seen *e;
    struct bp_user_stream *s;
    (void)state;

    begin(&w, 60);
    w.s.b_holds = true;
    sim_connect_up(&w.s);
    s = open_stream(&w.a, 128, &e);
    assert_int_equal(put(&w.a, s, 6000000), 0);
    run(&w, BP_SEC);
    assert_int_equal(w.b.n, 0);
    bp_link_deliver(w.s.b.link);
    run(&w, 2 * BP_SEC);
    assert_int_equal(w.b.n, 1);
    assert_int_equal(w.b.seen[0].got, 6000000);
    sim_free(&w.s);
    assert_int_equal(w.s.a.owners, 0);
}

static void user_parked_streams_have_a_limit_and_a_time(void **state)
{
    struct bp_user_stats st;
    struct side w;
    struct seen *e;
    struct bp_user_stream *s;
    unsigned n = 0;
    (void)state;

    start(&w, 61);
    for (unsigned i = 0; i < BP_USER_PARKED_MAX + 3; i++) {
        s = open_stream(&w.a, 128, &e);
        assert_int_equal(put(&w.a, s, 3), 0);
    }
    sim_flush(&w.s);
    sim_run(&w.s, w.s.now + 100 * BP_MS);
    while ((s = bp_link_user_next(w.s.b.link)) != NULL) {
        uint8_t bytes[10];
        assert_int_equal(bp_link_user_peek(s, bytes, sizeof(bytes)), 3);
        if (bp_link_user_park(w.s.b.link, s, w.s.now + BP_SEC)) {
            n++;
        }
    }
    assert_int_equal(n, BP_USER_PARKED_MAX);
    bp_link_user_stats(w.s.b.link, &st);
    assert_int_equal(st.parked, BP_USER_PARKED_MAX);
    assert_int_equal(st.parked_too_many, 3);
    sim_run(&w.s, w.s.now + 900 * BP_MS);
    assert_null(bp_link_user_next(w.s.b.link));
    sim_run(&w.s, w.s.now + 200 * BP_MS);
    for (n = 0; (s = bp_link_user_next(w.s.b.link)) != NULL; n++) {
        assert_true(s->expired);
        bp_link_user_refuse(w.s.b.link, s);
    }
    assert_int_equal(n, BP_USER_PARKED_MAX);
    bp_link_user_stats(w.s.b.link, &st);
    assert_int_equal(st.parked, 0);
    assert_int_equal(st.parked_too_long, BP_USER_PARKED_MAX);
    sim_free(&w.s);
    assert_int_equal(w.s.a.owners + w.s.b.bins, 0);
}

static void user_skip_leaves_what_follows(void **state)
{
    struct bp_user_chunk c;
    struct side w;
    struct seen *e;
    struct bp_user_stream *s;
    (void)state;

    start(&w, 62);
    s = open_stream(&w.a, 128, &e);
    assert_int_equal(put(&w.a, s, 50000), 0);
    sim_flush(&w.s);
    sim_run(&w.s, w.s.now + BP_SEC);
    s = bp_link_user_next(w.s.b.link);
    assert_non_null(s);
    bp_link_user_welcome(w.s.b.link, s, &w);
    bp_link_user_skip(w.s.b.link, s, 257);
    assert_true(bp_link_user_take(w.s.b.link, s, &c));
    assert_int_equal(c.data[0], byte_at(68, 257));
    w.s.b.bins--;
    free(c.bin);
    bp_link_user_skip(w.s.b.link, s, 50000);
    assert_false(bp_link_user_take(w.s.b.link, s, &c));
    sim_free(&w.s);
    assert_int_equal(w.s.a.owners + w.s.b.bins, 0);
}

/* A link that ends takes its streams along, whatever they were at. */
static void user_streams_end_with_the_link(void **state)
{
    struct side w;
    struct seen *e;
    (void)state;

    start(&w, 63);
    w.b.pause_new = true;
    for (unsigned i = 0; i < 30; i++) {
        assert_int_equal(put(&w.a, open_stream(&w.a, 128, &e), 100000 * i), 0);
        assert_int_equal(put(&w.b, open_stream(&w.b, 128, &e), 100000 * i), 0);
    }
    run(&w, 30 * BP_MS);
    bp_link_fail(w.s.a.link, 0, NULL);
    sim_flush(&w.s);
    sim_run(&w.s, w.s.now + BP_SEC);
    assert_true(w.s.b.failed);
    sim_free(&w.s);
    assert_int_equal(w.s.a.owners + w.s.b.owners, 0);
    assert_int_equal(w.s.a.bins + w.s.b.bins, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(user_first_ids_are_behind_those_of_distribution),
        cmocka_unit_test(user_bytes_arrive_whole_over_bad_network),
        cmocka_unit_test(user_write_larger_than_the_window_flows),
        cmocka_unit_test(user_finish_alone_and_half_close),
        cmocka_unit_test(user_streams_leave_distribution_first),
        cmocka_unit_test(user_lower_priority_number_goes_first_and_equals_share),
        cmocka_unit_test(user_slow_reader_holds_up_its_own_stream_alone),
        cmocka_unit_test(user_too_much_unread_ends_that_stream),
        cmocka_unit_test(user_reset_reaches_the_other_side_with_its_code),
        cmocka_unit_test(user_reset_of_one_half_ends_the_stream),
        cmocka_unit_test(user_orphan_delivers_what_it_had_finished),
        cmocka_unit_test(user_reset_before_the_first_byte_leaves_nothing),
        cmocka_unit_test(user_streams_nobody_wants_are_refused),
        cmocka_unit_test(user_ten_thousand_in_sequence_and_239_at_once),
        cmocka_unit_test(user_unread_streams_count_against_the_limit),
        cmocka_unit_test(user_streams_wait_until_distribution_is_up),
        cmocka_unit_test(user_parked_streams_have_a_limit_and_a_time),
        cmocka_unit_test(user_skip_leaves_what_follows),
        cmocka_unit_test(user_streams_end_with_the_link),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
