/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fences and the barrier, rule by rule, then a model: processes that emit signals (fragmented
 * ones too), streams that deliver and acknowledge in any relation to each other, and a receiver
 * that checks what OTP promises. The model is itself tested with routers that are wrong.
 */
#include "support/t.h"

#include "base/err.h"
#include "dist/order.h"

/* --- rules ---------------------------------------------------------------- */

static struct bp_route key(uint32_t hash)
{
    return (struct bp_route){.kind = BP_ROUTE_KEY, .hash = hash, .last = true};
}

static struct bp_route fence(void)
{
    return (struct bp_route){.kind = BP_ROUTE_FENCE, .last = true};
}

static struct bp_route first_of(struct bp_route r, uint64_t seq)
{
    r.fragmented = true;
    r.last = false;
    r.seq_id = seq;
    return r;
}

static struct bp_route cont(uint64_t seq, bool last)
{
    return (struct bp_route){
        .kind = BP_ROUTE_CONT, .fragmented = true, .last = last, .seq_id = seq};
}

static void expect_sent(struct bp_order *o, struct bp_route r, unsigned stream, uint64_t end)
{
    unsigned s = 99;

    assert_int_equal(bp_order_admit(o, &r, &s), 1);
    assert_int_equal(s, stream);
    bp_order_wrote(o, end);
}

static void expect_held(struct bp_order *o, struct bp_route r)
{
    unsigned s;

    assert_int_equal(bp_order_admit(o, &r, &s), 0);
}

static void order_keys_share_their_stream(void **state)
{
    struct bp_order o;
    (void)state;

    bp_order_init(&o, 16, bp_mem_libc());
    expect_sent(&o, key(3), 3, 10);
    expect_sent(&o, key(19), 3, 20);
    expect_sent(&o, key(4), 4, 10);
    assert_int_equal(o.fences, 0);
    assert_int_equal(o.holds, 0);
    bp_order_free(&o);
}

static void order_fence_waits_for_all_streams_but_one(void **state)
{
    struct bp_order o;
    (void)state;

    bp_order_init(&o, 16, bp_mem_libc());
    expect_sent(&o, key(3), 3, 10);
    expect_sent(&o, key(5), 5, 10);
    expect_held(&o, fence());
    bp_order_acked(&o, 3, 9);
    expect_held(&o, fence());
    bp_order_acked(&o, 3, 10);
    expect_sent(&o, fence(), 5, 20); /* the stream that has data orders it by itself */
    assert_int_equal(o.fences, 1);
    assert_int_equal(o.holds, 1); /* one message, however often it was tried */
    bp_order_free(&o);
}

static void order_fence_with_all_idle_or_one_busy_does_not_wait(void **state)
{
    struct bp_order o;
    (void)state;

    bp_order_init(&o, 16, bp_mem_libc());
    expect_sent(&o, fence(), 0, 10);
    bp_order_acked(&o, 0, 10);
    expect_sent(&o, key(7), 7, 10);
    expect_sent(&o, fence(), 7, 20);
    expect_sent(&o, fence(), 7, 30); /* a neighbour shares the wait */
    expect_sent(&o, key(7), 7, 40);
    expect_held(&o, key(8));
    bp_order_acked(&o, 7, 29);
    expect_held(&o, key(8));
    bp_order_acked(&o, 7, 30); /* the fences' end; what follows on 7 is not waited for */
    expect_sent(&o, key(8), 8, 10);
    assert_int_equal(o.fences, 3);
    assert_int_equal(o.holds, 1);
    bp_order_free(&o);
}

static void order_others_flow_between_a_fences_fragments(void **state)
{
    struct bp_order o;
    (void)state;

    bp_order_init(&o, 16, bp_mem_libc());
    expect_sent(&o, first_of(fence(), 77), 0, 100);
    expect_sent(&o, key(5), 5, 10);
    expect_sent(&o, cont(77, false), 0, 200);
    expect_sent(&o, key(6), 6, 10);
    expect_sent(&o, cont(77, true), 0, 300); /* does not wait for 5 and 6 */
    expect_held(&o, key(5));
    bp_order_acked(&o, 0, 299);
    expect_held(&o, key(5));
    bp_order_acked(&o, 0, 300);
    expect_sent(&o, key(5), 5, 20);
    assert_int_equal(o.fences, 1);
    assert_int_equal(o.n_seqs, 0);
    bp_order_free(&o);
}

static void order_two_fences_under_way_keep_one_barrier_each(void **state)
{
    struct bp_order o;
    (void)state;

    bp_order_init(&o, 4, bp_mem_libc());
    expect_sent(&o, first_of(fence(), 1), 0, 100);
    bp_order_acked(&o, 0, 100);
    expect_sent(&o, key(2), 2, 10);
    expect_sent(&o, first_of(fence(), 2), 2, 110); /* another stream than the first fence */
    expect_sent(&o, cont(1, true), 0, 200);
    expect_held(&o, cont(2, true)); /* behind the first fence's barrier */
    bp_order_acked(&o, 0, 200);
    expect_sent(&o, cont(2, true), 2, 210);
    expect_held(&o, key(0));
    bp_order_acked(&o, 2, 210);
    expect_sent(&o, key(0), 0, 300);
    bp_order_free(&o);
}

static void order_continuations_follow_their_first_fragment(void **state)
{
    struct bp_order o;
    (void)state;

    bp_order_init(&o, 16, bp_mem_libc());
    /* More sequences at once than the first table holds. */
    for (uint64_t i = 0; i < 500; i++) {
        expect_sent(&o, first_of(key((uint32_t)i), i << 28), (unsigned)(i % 16), i + 1);
    }
    for (uint64_t i = 0; i < 500; i += 2) {
        expect_sent(&o, cont(i << 28, true), (unsigned)(i % 16), 1000 + i);
    }
    for (uint64_t i = 1; i < 500; i += 2) {
        expect_sent(&o, cont(i << 28, false), (unsigned)(i % 16), 2000 + i);
        expect_sent(&o, cont(i << 28, true), (unsigned)(i % 16), 2000 + i);
    }
    assert_int_equal(o.n_seqs, 0);
    for (size_t i = 0; i < o.seqs_cap; i++) {
        assert_false(o.seqs[i].used);
    }
    bp_order_free(&o);
}

static void order_unknown_continuation_is_a_fence(void **state)
{
    struct bp_order o;
    (void)state;

    bp_order_init(&o, 16, bp_mem_libc());
    expect_sent(&o, key(1), 1, 10);
    expect_sent(&o, key(2), 2, 10);
    expect_held(&o, cont(5, false));
    bp_order_acked(&o, 1, 10);
    expect_sent(&o, cont(5, false), 2, 20);
    expect_held(&o, key(1));
    assert_int_equal(o.fences, 1);
    bp_order_free(&o);
}

static void order_overlapping_sequence_is_an_error(void **state)
{
    struct bp_order o;
    struct bp_route again = first_of(key(1), 9);
    unsigned s;
    (void)state;

    bp_order_init(&o, 16, bp_mem_libc());
    expect_sent(&o, first_of(key(1), 9), 1, 10);
    assert_int_equal(bp_order_admit(&o, &again, &s), BP_E_INTERNAL);
    again = first_of(fence(), 9);
    assert_int_equal(bp_order_admit(&o, &again, &s), BP_E_INTERNAL);
    expect_sent(&o, cont(9, true), 1, 20);
    expect_sent(&o, first_of(key(1), 9), 1, 30);
    bp_order_free(&o);
}

static void order_single_fragment_sequence_is_whole(void **state)
{
    struct bp_order o;
    struct bp_route r = first_of(fence(), 9);
    (void)state;

    bp_order_init(&o, 16, bp_mem_libc());
    r.last = true;
    expect_sent(&o, r, 0, 10);
    assert_int_equal(o.n_seqs, 0);
    expect_held(&o, key(1));
    bp_order_free(&o);
}

static void order_one_stream_never_waits(void **state)
{
    struct bp_order o;
    (void)state;

    bp_order_init(&o, 1, bp_mem_libc());
    expect_sent(&o, key(9), 0, 10);
    expect_sent(&o, fence(), 0, 20);
    expect_sent(&o, first_of(fence(), 3), 0, 30);
    expect_sent(&o, key(8), 0, 40);
    expect_sent(&o, cont(3, true), 0, 50);
    expect_sent(&o, key(8), 0, 60);
    assert_int_equal(o.fences, 0);
    assert_int_equal(o.holds, 0);
    bp_order_free(&o);
}

static void order_calls_out_of_turn_are_refused(void **state)
{
    struct bp_order o;
    struct bp_route r = key(1);
    unsigned s;
    (void)state;

    bp_order_init(&o, 99, bp_mem_libc());
    assert_int_equal(o.n_streams, BP_ORDER_STREAMS_MAX);
    bp_order_wrote(&o, 10); /* nothing was admitted: no effect */
    assert_int_equal(o.busy, 0);
    assert_int_equal(bp_order_admit(&o, &r, &s), 1);
    assert_int_equal(bp_order_admit(&o, &r, &s), BP_E_STATE);
    bp_order_wrote(&o, 10);
    bp_order_acked(&o, 99, 10); /* no such stream */
    bp_order_acked(&o, 1, 10);
    bp_order_acked(&o, 1, 5); /* an old acknowledgement */
    assert_int_equal(o.busy, 0);
    bp_order_free(&o);
    bp_order_init(&o, 0, bp_mem_libc());
    assert_int_equal(o.n_streams, 1);
}

static void order_failing_allocation_changes_nothing(void **state)
{
    bool done = false;
    (void)state;

    for (long allow = 0; !done; allow++) {
        struct t_heap h;
        struct bp_order o;

        t_heap_init(&h, allow);
        bp_order_init(&o, 16, &h.mem);
        done = true;
        for (uint64_t i = 0; i < 100; i++) {
            struct bp_route r = first_of(key((uint32_t)i), i);
            unsigned s;
            int rc = bp_order_admit(&o, &r, &s);
            if (rc != 1) {
                assert_int_equal(rc, BP_E_NOMEM);
                assert_int_equal(o.n_seqs, i);
                done = false;
                h.allow = -1;
                assert_int_equal(bp_order_admit(&o, &r, &s), 1);
            }
            bp_order_wrote(&o, i + 1);
        }
        assert_int_equal(o.n_seqs, 100);
        assert_true(allow < 20);
        bp_order_free(&o);
        assert_int_equal(h.live, 0);
    }
}

/* --- model ---------------------------------------------------------------- */

#define N_PROCS    12u
#define N_SIGNALS  400u
#define MAX_FRAGS  5u
#define MAX_MSGS   (N_SIGNALS * MAX_FRAGS)
#define HELD_LIMIT 300u /* bytes: then the VM stops emitting, in the middle of a message too */

enum kind { SPAWN_REPLY, SEND, EXIT_BY_PID, EXIT_BY_NAME, LEADER };

/* One message or fragment on its way. */
struct msg {
    unsigned proc;
    unsigned serial; /* of the signal, counted per process */
    enum kind kind;
    unsigned to;
    unsigned frag; /* counts down to 1; 0: not fragmented */
    bool first;
    bool last;
    bool fence;
    size_t len;
    bool delivered;
};

struct wire {
    unsigned msg[MAX_MSGS];
    uint64_t end[MAX_MSGS];
    size_t n;
    size_t n_delivered;
    uint64_t written;
    uint64_t received;
    uint64_t acked;
};

typedef struct bp_route (*router)(const struct msg *m);

struct model {
    uint64_t rng;
    unsigned n_streams;
    router route;
    bool lie; /* acknowledge what was not delivered */
    struct bp_order order;

    struct msg msgs[MAX_MSGS]; /* in order of emission */
    unsigned n_msgs;
    unsigned n_signals;
    unsigned next_serial[N_PROCS];
    unsigned frags_left[N_PROCS]; /* of the signal that the process is emitting */
    struct msg current[N_PROCS];

    unsigned held; /* index of the first message that was not written; FIFO up to n_msgs */
    size_t held_bytes;
    struct wire wires[BP_ORDER_STREAMS_MAX];

    unsigned got_serial[N_PROCS];
    bool open[N_PROCS]; /* the receiver has a sequence with this id */
    unsigned low;       /* all messages before it are delivered */
    unsigned n_order;   /* violations */
    unsigned n_overlap;
    unsigned n_fence;
    uint64_t fences;
    uint64_t holds;
};

static size_t put32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
    return 4;
}

static size_t put_pid(uint8_t *p, uint32_t id)
{
    size_t n = t_hex("58 7703 614068", p, 6);

    n += put32(p + n, id);
    n += put32(p + n, 0);
    return n + put32(p + n, 1);
}

/* The product: real bytes through the real router. */
static struct bp_route route_right(const struct msg *m)
{
    static const uint8_t ops[] = {[SPAWN_REPLY] = BP_OP_SPAWN_REPLY,
                                  [SEND] = BP_OP_SEND_SENDER,
                                  [EXIT_BY_PID] = BP_OP_PAYLOAD_EXIT,
                                  [EXIT_BY_NAME] = BP_OP_PAYLOAD_MONITOR_P_EXIT,
                                  [LEADER] = BP_OP_GROUP_LEADER};
    uint8_t p[128] = {131, 68};
    size_t n = 2;
    struct bp_route r;

    if (m->frag != 0) {
        p[1] = m->first ? 69 : 70;
        n += put32(p + n, 0);
        n += put32(p + n, m->proc);
        n += put32(p + n, 0);
        n += put32(p + n, m->frag);
    }
    if (m->first) {
        p[n++] = 0;
        n += t_hex(m->kind == SPAWN_REPLY ? "68 05 61" : "68 03 61", p + n, 3);
        p[n++] = ops[m->kind];
        if (m->kind == SPAWN_REPLY) {
            n += t_hex("5a 0001 7703 614068 00000001 00000009", p + n, 32);
            n += put_pid(p + n, 1000 + m->to);
            n += t_hex("61 01", p + n, 2);
            n += put_pid(p + n, m->proc);
        } else {
            n += m->kind == EXIT_BY_NAME ? t_hex("77 03 726578", p + n, 5)
                                         : put_pid(p + n, m->kind == LEADER ? 555 : m->proc);
            n += put_pid(p + n, 1000 + m->to);
        }
    }
    assert_int_equal(bp_route_peek(p, n, &r), 0);
    return r;
}

/* A router by pairs of identifiers, without fences: what must not pass the model. */
static struct bp_route route_by_pairs(const struct msg *m)
{
    struct bp_route r = route_right(m);

    if (r.kind != BP_ROUTE_CONT) {
        uint32_t from = m->kind == EXIT_BY_NAME || m->kind == SPAWN_REPLY ? 99 : m->proc;
        r.kind = BP_ROUTE_KEY;
        r.hash = from * 7 + m->to * 3;
    }
    return r;
}

/* Keys by sender, but what has no sender simply goes somewhere. */
static struct bp_route route_without_fences(const struct msg *m)
{
    struct bp_route r = route_right(m);

    if (r.kind == BP_ROUTE_FENCE) {
        r.kind = BP_ROUTE_KEY;
        r.hash = m->to;
    }
    return r;
}

static unsigned roll(struct model *w, unsigned n)
{
    return (unsigned)(t_rand(&w->rng) >> 33) % n;
}

static void start_signal(struct model *w, unsigned proc)
{
    struct msg *m = &w->current[proc];
    unsigned frags = 1;

    *m = (struct msg){.proc = proc, .serial = w->next_serial[proc]++, .to = roll(w, 4)};
    m->kind = m->serial == 0 ? SPAWN_REPLY : (enum kind)(SEND + roll(w, 3));
    if (m->serial != 0 && roll(w, 12) == 0) {
        m->kind = LEADER;
    } else if (m->kind == EXIT_BY_NAME && roll(w, 3) != 0) {
        m->kind = SEND; /* fences are rarer than the rest */
    }
    m->fence = m->kind == LEADER || m->kind == EXIT_BY_NAME;
    if (m->kind != SPAWN_REPLY && m->kind != LEADER && roll(w, 3) == 0) {
        frags = 2 + roll(w, MAX_FRAGS - 1);
    }
    m->frag = frags == 1 ? 0 : frags;
    w->frags_left[proc] = frags;
    w->n_signals++;
}

/* One process emits one message or fragment, unless the port is busy. */
static void emit(struct model *w)
{
    unsigned proc = roll(w, N_PROCS);
    struct msg *m;

    if (w->held_bytes > HELD_LIMIT) {
        return;
    }
    if (w->frags_left[proc] == 0) {
        if (w->n_signals == N_SIGNALS) {
            return;
        }
        start_signal(w, proc);
    }
    m = &w->msgs[w->n_msgs++];
    *m = w->current[proc];
    m->first = m->frag == 0 || m->frag == w->frags_left[proc]; /* of `current`: their number */
    m->frag = m->frag == 0 ? 0 : w->frags_left[proc];
    m->last = w->frags_left[proc] == 1;
    m->len = 1 + roll(w, 60);
    w->frags_left[proc]--;
    w->held_bytes += m->len;
}

/* Writes what the order allows. */
static void pump(struct model *w)
{
    while (w->held < w->n_msgs) {
        struct msg *m = &w->msgs[w->held];
        struct bp_route r = w->route(m);
        unsigned s = 0;
        struct wire *wire;
        int rc = bp_order_admit(&w->order, &r, &s);

        assert_true(rc >= 0);
        if (rc == 0) {
            return;
        }
        assert_true(s < w->n_streams);
        wire = &w->wires[s];
        wire->written += m->len;
        wire->msg[wire->n] = w->held;
        wire->end[wire->n++] = wire->written;
        bp_order_wrote(&w->order, wire->written);
        w->held++;
        w->held_bytes -= m->len;
    }
}

/* What the receiving VM sees, and what it was promised. */
static void receive(struct model *w, unsigned index)
{
    struct msg *m = &w->msgs[index];

    if (m->fence && m->first && w->low != index) {
        w->n_fence++; /* something that was emitted before a fence came after it */
    }
    for (unsigned i = w->low; i < index; i++) {
        if (w->msgs[i].fence && w->msgs[i].last && !w->msgs[i].delivered) {
            w->n_fence++; /* something that was emitted after a fence came before its end */
        }
    }
    m->delivered = true;
    while (w->low < w->n_msgs && w->msgs[w->low].delivered) {
        w->low++;
    }
    if (m->frag != 0 && m->first) {
        w->n_overlap += w->open[m->proc];
        w->open[m->proc] = true;
    }
    if (m->last) {
        if (m->frag != 0) {
            w->open[m->proc] = false;
        }
        w->n_order += w->got_serial[m->proc] != m->serial;
        w->got_serial[m->proc] = m->serial + 1;
    }
}

/* One stream makes some progress, by bytes, independently of all others. */
static void transmit(struct model *w)
{
    struct wire *wire = &w->wires[roll(w, w->n_streams)];
    uint64_t n = wire->written - wire->received;

    if (n > 0) {
        wire->received += 1 + (uint64_t)roll(w, (unsigned)n);
        while (wire->n_delivered < wire->n && wire->end[wire->n_delivered] <= wire->received) {
            receive(w, wire->msg[wire->n_delivered++]);
        }
    }
}

static void acknowledge(struct model *w)
{
    unsigned s = roll(w, w->n_streams);
    struct wire *wire = &w->wires[s];
    uint64_t end = w->lie ? wire->written : wire->received;

    if (end > wire->acked) {
        wire->acked = w->lie ? end : wire->acked + 1 + roll(w, (unsigned)(end - wire->acked));
        bp_order_acked(&w->order, s, wire->acked);
    }
}

/* All signals emitted to their last fragment, and all delivered. */
static bool is_over(const struct model *w)
{
    for (unsigned p = 0; p < N_PROCS; p++) {
        if (w->frags_left[p] != 0) {
            return false;
        }
    }
    return w->n_signals == N_SIGNALS && w->low == w->n_msgs;
}

/* Runs one seed to its end; the caller frees the result. */
static struct model *run(uint64_t seed, unsigned n_streams, router route, bool lie)
{
    struct model *w = calloc(1, sizeof(*w));
    unsigned weights[3]; /* emit, transmit, acknowledge: each seed has its own balance */

    w->rng = seed * 0x9e3779b97f4a7c15u + 1;
    w->n_streams = n_streams;
    w->route = route;
    w->lie = lie;
    bp_order_init(&w->order, n_streams, bp_mem_libc());
    for (int i = 0; i < 3; i++) {
        weights[i] = 1 + roll(w, 8);
    }
    for (unsigned step = 0; !is_over(w); step++) {
        unsigned x = roll(w, weights[0] + weights[1] + weights[2]);
        if (step > 2000000) {
            print_error("stuck: seed %llu, %u messages, held from %u, delivered %u\n",
                        (unsigned long long)seed, w->n_msgs, w->held, w->low);
            assert_true(false);
        }
        if (x < weights[0]) {
            emit(w);
        } else if (x < weights[0] + weights[1]) {
            transmit(w);
        } else {
            acknowledge(w);
        }
        pump(w);
    }
    assert_int_equal(w->order.n_seqs, 0);
    w->fences = w->order.fences;
    w->holds = w->order.holds;
    bp_order_free(&w->order);
    return w;
}

static void order_model_finds_no_violation(void **state)
{
    static const unsigned streams[] = {1, 2, 3, 16};
    uint64_t seed = t_seed(1);
    uint64_t fences = 0;
    uint64_t holds = 0;
    (void)state;

    for (uint64_t i = 0; i < 40; i++) {
        struct model *w = run(seed + i, streams[i % 4], route_right, false);
        if (w->n_order + w->n_overlap + w->n_fence != 0) {
            fail_msg("SEED=%llu: order %u overlap %u fence %u", (unsigned long long)(seed + i),
                     w->n_order, w->n_overlap, w->n_fence);
        }
        fences += w->fences;
        holds += w->holds;
        free(w);
    }
    assert_true(fences > 100);
    assert_true(holds > 100);
}

static void order_model_detects_wrong_routers(void **state)
{
    unsigned pairs_order = 0;
    unsigned pairs_overlap = 0;
    unsigned bare_order = 0;
    unsigned bare_overlap = 0;
    unsigned lie_order = 0;
    unsigned lie_fence = 0;
    (void)state;

    for (uint64_t i = 1; i <= 4; i++) {
        struct model *w = run(i, 16, route_by_pairs, false);
        pairs_order += w->n_order;
        pairs_overlap += w->n_overlap;
        free(w);
        w = run(i, 16, route_without_fences, false);
        bare_order += w->n_order;
        bare_overlap += w->n_overlap;
        free(w);
        w = run(i, 16, route_right, true); /* fences that wait for nothing */
        lie_order += w->n_order;
        lie_fence += w->n_fence;
        free(w);
    }
    assert_true(pairs_order > 0 && pairs_overlap > 0);
    assert_true(bare_order > 0 && bare_overlap > 0);
    assert_true(lie_order > 0 && lie_fence > 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(order_keys_share_their_stream),
    cmocka_unit_test(order_fence_waits_for_all_streams_but_one),
    cmocka_unit_test(order_fence_with_all_idle_or_one_busy_does_not_wait),
    cmocka_unit_test(order_others_flow_between_a_fences_fragments),
    cmocka_unit_test(order_two_fences_under_way_keep_one_barrier_each),
    cmocka_unit_test(order_continuations_follow_their_first_fragment),
    cmocka_unit_test(order_unknown_continuation_is_a_fence),
    cmocka_unit_test(order_overlapping_sequence_is_an_error),
    cmocka_unit_test(order_single_fragment_sequence_is_whole),
    cmocka_unit_test(order_one_stream_never_waits),
    cmocka_unit_test(order_calls_out_of_turn_are_refused),
    cmocka_unit_test(order_failing_allocation_changes_nothing),
    cmocka_unit_test(order_model_finds_no_violation),
    cmocka_unit_test(order_model_detects_wrong_routers),
};

T_MAIN(tests)
