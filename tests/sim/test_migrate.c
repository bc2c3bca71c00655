/* SPDX-License-Identifier: Apache-2.0 */
/* Links that move from path to path, under load: nothing is lost, and little time. */
#include "dist/link_impl.h"
#include "dist/link_path.h"
#include "dist/link_user.h"
#include "quic/conn_impl.h"
#include "sim/traffic.h"
#include "support/t.h"

#define DELAY   (25 * BP_MS)
#define RTT     (2 * DELAY)
#define PAYLOAD 2400u

struct gap {
    struct sim_flow flow;
    uint32_t seen;
    bp_time at;      /* of the last arrival */
    bp_time longest; /* time without one */
};

struct move_test {
    struct sim s;
    struct gap ab;
    struct gap ba;
    uint16_t port;
    uint16_t names; /* given so far; 0: QUIC knows paths by their addresses */
    struct bp_addr path;
};

static void prepare(struct move_test *t, uint64_t seed)
{
    *t = (struct move_test){.port = 20000};
    sim_init(&t->s, seed);
    t->s.keepalive = 2 * BP_SEC;
    t->s.idle_timeout = 300 * BP_SEC;
    t->s.a_moves = true;
    t->s.net.delay = DELAY;
    t->s.net.mtu = 1452;
    t->ab.flow = (struct sim_flow){.from = &t->s.a, .to = &t->s.b};
    t->ba.flow = (struct sim_flow){.from = &t->s.b, .to = &t->s.a};
}

static void start(struct move_test *t, uint64_t seed)
{
    prepare(t, seed);
    sim_connect_up(&t->s);
    t->path = t->s.a.addr;
}

static void note(struct move_test *t, struct gap *g)
{
    if (g->flow.n_got != g->seen) {
        bp_time gap = t->s.now - g->at;
        g->seen = g->flow.n_got;
        g->at = t->s.now;
        g->longest = gap > g->longest ? gap : g->longest;
    }
}

/* Messages in both directions; which node is asked for what is looked at between two of them. */
static void run(struct move_test *t, bp_time for_)
{
    bp_time until = t->s.now + for_;

    while (t->s.now < until) {
        sim_flow_run(&t->s, &t->ab.flow, PAYLOAD, BP_MS);
        sim_flow_run(&t->s, &t->ba.flow, PAYLOAD, BP_MS);
        note(t, &t->ab);
        note(t, &t->ba);
    }
}

static void drain(struct move_test *t)
{
    sim_flow_drain(&t->s, &t->ab.flow, 30 * BP_SEC);
    sim_flow_drain(&t->s, &t->ba.flow, 30 * BP_SEC);
}

static void finish(struct move_test *t)
{
    sim_free(&t->s);
    assert_int_equal(t->s.a.bins, 0);
    assert_int_equal(t->s.b.bins, 0);
    assert_int_equal(t->s.a.owners, 0);
    assert_int_equal(t->s.b.owners, 0);
}

/* Runs until a's connection says what came of its move, at most `within`. */
static enum bp_path_result outcome(struct move_test *t, bp_time within)
{
    bp_time until = t->s.now + within;
    enum bp_path_result r;
    struct bp_addr local;

    while ((r = bp_conn_path_result(bp_link_conn(t->s.a.link), &local)) == BP_PATH_NONE &&
           t->s.now < until) {
        run(t, BP_MS);
    }
    if (r == BP_PATH_VALID) {
        t->path = local;
    }
    return r;
}

/* Moves a to the next port of `ip`, waiting for a connection id if need be. */
static enum bp_path_result move(struct move_test *t, const char *ip, bool at_once, bp_time within)
{
    struct bp_addr local;
    int rc;

    assert_int_equal(bp_addr_parse(&local, ip, t->port++), 0);
    if (t->names > 0) {
        struct bp_addr at = local;
        assert_int_equal(bp_addr_parse(&local, "127.128.0.1", t->names++), 0);
        sim_name(&t->s, &local, &at);
    }
    for (int i = 0; i < 200; i++) {
        rc = bp_conn_migrate(bp_link_conn(t->s.a.link), &local, &t->s.b.addr, at_once, t->s.now);
        if (rc != BP_E_NO_SPARE_CID) {
            break;
        }
        run(t, BP_MS);
    }
    assert_int_equal(rc, 0);
    sim_flush(&t->s);
    return outcome(t, within);
}

static void hundred_moves_lose_nothing(void **state)
{
    struct move_test t;
    bp_time worst_ab = 0;
    bp_time worst_ba = 0;
    bp_time longest = 0;

    (void)state;
    start(&t, 1);
    run(&t, 2 * BP_SEC);
    for (unsigned i = 0; i < 100; i++) {
        bp_time at = t.s.now;
        t.ab.longest = t.ba.longest = 0;
        assert_int_equal(move(&t, i % 3 == 0 ? "192.0.2.1" : "192.0.2.7", false, BP_SEC),
                         BP_PATH_VALID);
        longest = t.s.now - at > longest ? t.s.now - at : longest;
        run(&t, 2 * RTT);
        worst_ab = t.ab.longest > worst_ab ? t.ab.longest : worst_ab;
        worst_ba = t.ba.longest > worst_ba ? t.ba.longest : worst_ba;
    }
    print_message("round trip %llu ms: moves took at most %llu ms, pauses %llu and %llu ms\n",
                  (unsigned long long)(RTT / BP_MS), (unsigned long long)(longest / BP_MS),
                  (unsigned long long)(worst_ab / BP_MS), (unsigned long long)(worst_ba / BP_MS));
    assert_true(worst_ab < 3 * RTT);
    assert_true(worst_ba < 3 * RTT);
    drain(&t);
    finish(&t);
}

/* The same few paths again and again, under new names (bp_conn_migrate). A server of ngtcp2 1.11
 * retires a connection id twice when it is moved back to a path while it still validates the one
 * before (ERR_CONNECTION_ID_LIMIT in the end): the host waits for so long, BP_PATH_REST. One
 * of 1.12 and later (1.25 still) loses an id each time that it is moved back to a path that it
 * remembers, and after eight of them does not answer on another path any more: then the connection
 * stays where it is, unharmed. */
static void back_and_forth_breaks_nothing(void **state)
{
    const bool loses_ids = ngtcp2_version(0x010c00) != NULL;
    struct move_test t;
    unsigned moved = 0;

    (void)state;
    start(&t, 7);
    t.names = 1;
    run(&t, BP_SEC);
    for (unsigned i = 0; i < 120; i++) {
        t.port = (uint16_t)(20000 + (i % 5 == 4 ? 2 : i % 2));
        if (move(&t, "192.0.2.7", i % 7 == 3 && (i < 8 || !loses_ids), BP_SEC) != BP_PATH_VALID) {
            break;
        }
        moved++;
        run(&t, BP_PATH_REST + (i * 13 % 90) * 5 * BP_MS);
        assert_int_equal(bp_addr_port(bp_conn_remote(bp_link_conn(t.s.b.link))), t.port - 1);
    }
    print_message("%u moves\n", moved);
    assert_true(loses_ids ? moved >= 8 : moved == 120);
    run(&t, BP_SEC);
    drain(&t);
    finish(&t);
}

/* A path that has answered before is asked again, and not used when nobody answers now. */
static void path_that_was_used_and_died_is_not_used(void **state)
{
    struct move_test t;
    struct bp_addr first;
    uint32_t seen;

    (void)state;
    start(&t, 10);
    t.names = 1;
    first = t.path;
    run(&t, BP_SEC);
    for (unsigned i = 0; i < 2; i++) {
        t.port = (uint16_t)(20000 + i);
        assert_int_equal(move(&t, "192.0.2.7", false, BP_SEC), BP_PATH_VALID);
        run(&t, 2 * BP_PATH_REST);
    }
    assert_int_equal(bp_addr_parse(&t.s.a_dead, "192.0.2.7", 20000), 0);
    seen = t.ab.flow.n_got;
    t.port = 20000;
    assert_int_equal(move(&t, "192.0.2.7", false, 10 * BP_SEC), BP_PATH_FAILED);
    assert_true(t.ab.flow.n_got > seen + 10);
    assert_int_equal(bp_addr_port(bp_conn_remote(bp_link_conn(t.s.b.link))), 20001);
    /* where the dialler has been once, by the same name: nothing may be asked, but all goes on */
    assert_int_equal(bp_conn_migrate(bp_link_conn(t.s.a.link), &first, &t.s.b.addr, false, t.s.now),
                     0);
    assert_int_equal(outcome(&t, BP_SEC), BP_PATH_VALID);
    assert_true(bp_addr_equal(&t.path, &first));
    run(&t, BP_SEC);
    assert_true(bp_addr_equal(bp_conn_remote(bp_link_conn(t.s.b.link)), &first));
    drain(&t);
    finish(&t);
}

/* How long after `at` the first message came, each way. */
static void first_arrivals(struct move_test *t, bp_time at, bp_time *ab, bp_time *ba)
{
    *ab = *ba = 0;
    while (*ab == 0 || *ba == 0) {
        run(t, BP_MS);
        *ab = *ab == 0 && t->ab.at >= at ? t->ab.at - at : *ab;
        *ba = *ba == 0 && t->ba.at >= at ? t->ba.at - at : *ba;
    }
}

/* The old path takes nothing any more, for a while. */
static void moves_off_a_dead_path(void **state)
{
    struct move_test t;
    bp_time worst_ab = 0;
    bp_time worst_ba = 0;

    (void)state;
    start(&t, 2);
    run(&t, 2 * BP_SEC);
    for (unsigned i = 0; i < 30; i++) {
        struct bp_conn_stats st = {0};
        struct bp_addr local;
        bp_time at, ab, ba;

        t.s.a_dead = t.path;
        while (!st.in_recovery) {
            run(&t, BP_MS);
            bp_conn_stats(bp_link_conn(t.s.a.link), &st);
        }
        at = t.s.now;
        assert_int_equal(bp_addr_parse(&local, i % 2 == 0 ? "192.0.2.7" : "192.0.2.1", t.port++),
                         0);
        assert_int_equal(
            bp_conn_migrate(bp_link_conn(t.s.a.link), &local, &t.s.b.addr, true, t.s.now), 0);
        sim_flush(&t.s);
        first_arrivals(&t, at, &ab, &ba);
        assert_int_equal(outcome(&t, BP_SEC), BP_PATH_VALID);
        worst_ab = ab > worst_ab ? ab : worst_ab;
        worst_ba = ba > worst_ba ? ba : worst_ba;
        run(&t, 20 * RTT);
    }
    print_message("round trip %llu ms: pauses %llu and %llu ms\n",
                  (unsigned long long)(RTT / BP_MS), (unsigned long long)(worst_ab / BP_MS),
                  (unsigned long long)(worst_ba / BP_MS));
    /* Half a round trip there, one until it is known what was lost, half a one there; the way back
     * begins half a round trip later. One more where the window is full before a message is whole.
     */
    assert_true(worst_ab < 3 * RTT);
    assert_true(worst_ba < 3 * RTT + RTT / 2);
    drain(&t);
    finish(&t);
}

/* Bytes of a user stream wait for acknowledgement, and nothing else is there to tell. */
static void user_stream_tells_of_a_dead_path(void **state)
{
    static const uint8_t bytes[5000];
    struct bp_slice slice = {.base = bytes, .len = sizeof(bytes)};
    struct move_test t;
    struct bp_user_stream *u;
    struct bp_conn_stats st;
    bp_time cut;

    (void)state;
    start(&t, 8);
    run(&t, BP_SEC);
    drain(&t);
    bp_link_user_accept(t.s.b.link, true);
    assert_int_equal(bp_link_user_open(t.s.a.link, 128, &u), 0);
    assert_int_equal(bp_link_user_put(t.s.a.link, u, &slice, 1), 0);
    sim_flush(&t.s);
    sim_run(&t.s, t.s.now + 10 * RTT);
    bp_conn_stats(bp_link_conn(t.s.a.link), &st);
    assert_false(st.in_recovery);
    t.s.a_dead = t.path;
    cut = t.s.now;
    assert_int_equal(bp_link_user_put(t.s.a.link, u, &slice, 1), 0);
    sim_flush(&t.s);
    while (!st.in_recovery) {
        assert_true(t.s.now < cut + 10 * RTT);
        sim_run(&t.s, t.s.now + BP_MS);
        bp_conn_stats(bp_link_conn(t.s.a.link), &st);
    }
    assert_int_equal(move(&t, "192.0.2.7", true, BP_SEC), BP_PATH_VALID);
    sim_run(&t.s, t.s.now + 10 * RTT);
    bp_conn_stats(bp_link_conn(t.s.a.link), &st);
    assert_false(st.in_recovery);
    finish(&t);
}

/* Nobody answers there: all goes on where it was. */
static void path_that_does_not_answer_is_not_used(void **state)
{
    struct move_test t;

    (void)state;
    start(&t, 3);
    run(&t, BP_SEC);
    assert_int_equal(bp_addr_parse(&t.s.a_dead, "192.0.2.9", t.port), 0);
    assert_int_equal(move(&t, "192.0.2.9", false, 10 * BP_SEC), BP_PATH_FAILED);
    assert_int_equal(move(&t, "192.0.2.9", false, 10 * BP_SEC), BP_PATH_VALID);
    /* at once, and back */
    t.s.a_dead = t.path;
    bp_addr_set_port(&t.s.a_dead, t.port);
    {
        struct bp_addr before = t.path;
        uint32_t seen;
        assert_int_equal(move(&t, "192.0.2.9", true, 10 * BP_SEC), BP_PATH_FAILED);
        assert_int_equal(
            bp_conn_migrate(bp_link_conn(t.s.a.link), &before, &t.s.b.addr, true, t.s.now), 0);
        /* Whether that is asked again is the library's affair; the other one is still dead. */
        seen = t.ab.flow.n_got;
        run(&t, BP_SEC);
        assert_true(t.ab.flow.n_got > seen);
        assert_true(bp_addr_equal(bp_conn_remote(bp_link_conn(t.s.b.link)), &before));
    }
    drain(&t);
    finish(&t);
}

/* Who accepted cannot, and ngtcp2 would abort the process; nor can anybody before TLS is done. */
static void who_may_not_move_is_refused(void **state)
{
    struct move_test t;
    struct bp_addr local;
    struct bp_addr first;

    (void)state;
    start(&t, 4);
    assert_int_equal(bp_addr_parse(&local, "192.0.2.9", 1), 0);
    first = t.s.a.addr;
    assert_int_equal(bp_conn_migrate(bp_link_conn(t.s.b.link), &local, &t.s.a.addr, false, t.s.now),
                     BP_E_NOT_DIALLER);
    run(&t, BP_SEC);
    assert_int_equal(bp_conn_migrate(bp_link_conn(t.s.a.link), &first, &t.s.b.addr, false, t.s.now),
                     BP_E_INVALID);
    finish(&t);
}

static void ids_run_out_and_come_back(void **state)
{
    struct move_test t;
    struct bp_addr local;
    unsigned n = 0;
    int rc;

    (void)state;
    start(&t, 5);
    run(&t, BP_SEC);
    do {
        assert_int_equal(bp_addr_parse(&local, "192.0.2.9", t.port++), 0);
        rc = bp_conn_migrate(bp_link_conn(t.s.a.link), &local, &t.s.b.addr, true, t.s.now);
        n += rc == 0;
    } while (rc == 0);
    assert_int_equal(rc, BP_E_NO_SPARE_CID);
    assert_in_range(n, 1, 7);
    run(&t, 4 * RTT);
    assert_int_equal(move(&t, "192.0.2.1", false, BP_SEC), BP_PATH_VALID);
    drain(&t);
    finish(&t);
}

static void answer(struct move_test *t, int result)
{
    while (!bp_link_path_asked(t->s.a.link)) {
        run(t, BP_MS);
    }
    bp_link_path_answer(t->s.a.link, result);
}

static int answered(struct move_test *t)
{
    int result;

    while (!bp_link_path_answered(t->s.b.link, &result)) {
        run(t, BP_MS);
    }
    return result;
}

static void dialler_is_asked_and_answers(void **state)
{
    static const int results[] = {0, BP_E_TIMEOUT, BP_E_NO_SPARE_CID, BP_E_MIGRATION_DISABLED,
                                  BP_E_PATH_FAILED};
    struct move_test t;
    int result;

    (void)state;
    start(&t, 6);
    assert_int_equal(bp_link_path_ask(t.s.a.link), BP_E_STATE);
    for (unsigned i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
        assert_int_equal(bp_link_path_ask(t.s.b.link), 0);
        answer(&t, results[i]);
        assert_int_equal(answered(&t), results[i]);
        run(&t, 100 * BP_MS);
    }
    /* what has no number of its own */
    assert_int_equal(bp_link_path_ask(t.s.b.link), 0);
    answer(&t, BP_E_LIMIT);
    assert_int_equal(answered(&t), BP_E_PATH_FAILED);
    /* the second question comes while the first one waits; the answer to the first is old then */
    run(&t, 100 * BP_MS);
    assert_int_equal(bp_link_path_ask(t.s.b.link), 0);
    run(&t, RTT);
    assert_true(bp_link_path_asked(t.s.a.link));
    assert_int_equal(bp_link_path_ask(t.s.b.link), 0);
    run(&t, RTT);
    assert_false(bp_link_path_asked(t.s.a.link));
    assert_int_equal(answered(&t), BP_E_BUSY);
    bp_link_path_answer(t.s.a.link, 0);
    run(&t, RTT);
    assert_false(bp_link_path_answered(t.s.b.link, &result));
    drain(&t);
    finish(&t);
}

/* Seven connection ids instead of our eight: another implementation, for the other end. */
static void disguise(struct sim_node *n)
{
    ngtcp2_transport_params *p =
        (ngtcp2_transport_params *)(uintptr_t)ngtcp2_conn_get_local_transport_params(
            n->link->conn->q);

    p->active_connection_id_limit = 7;
}

static void dialler_that_is_not_ours_is_not_asked(void **state)
{
    struct move_test t;
    uint64_t queued;

    (void)state;
    prepare(&t, 9);
    t.s.on_link = disguise;
    sim_connect_up(&t.s);
    run(&t, BP_SEC);
    drain(&t);
    queued = bp_conn_queued(t.s.b.link->conn, (unsigned)t.s.b.link->control_slot);
    assert_int_equal(bp_link_path_ask(t.s.b.link), BP_E_NOT_DIALLER);
    assert_int_equal(bp_conn_queued(t.s.b.link->conn, (unsigned)t.s.b.link->control_slot), queued);
    run(&t, BP_SEC);
    drain(&t);
    finish(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hundred_moves_lose_nothing),
        cmocka_unit_test(back_and_forth_breaks_nothing),
        cmocka_unit_test(moves_off_a_dead_path),
        cmocka_unit_test(user_stream_tells_of_a_dead_path),
        cmocka_unit_test(path_that_does_not_answer_is_not_used),
        cmocka_unit_test(path_that_was_used_and_died_is_not_used),
        cmocka_unit_test(who_may_not_move_is_refused),
        cmocka_unit_test(ids_run_out_and_come_back),
        cmocka_unit_test(dialler_is_asked_and_answers),
        cmocka_unit_test(dialler_that_is_not_ours_is_not_asked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
