/* SPDX-License-Identifier: Apache-2.0 */
/* What a connection does at a time while another one of the node is active, and while none is. */
#include "driver/node_util.h"

#include <time.h>

#define MESSAGE 1000000u
#define ACTIVE  DRV_BRIEF_FOR
#define TRIES   1000u
#define AT_ONCE (DRV_BRIEF_ROOM - BP_DGRAM_SENT + 4096u) /* and a small datagram or two */

static bp_time now_ns(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (bp_time)t.tv_sec * BP_SEC + (bp_time)t.tv_nsec;
}

/* Two connections of one node. */
struct two {
    struct pair bulk;
    struct pair light;
    struct peer *peers[2];
    uint8_t *msg;
    size_t want; /* at the peer of `bulk` */
};

static bool all_there(void *ctx)
{
    const struct two *t = ctx;

    return t->bulk.peer.rx_len >= t->want;
}

static uint64_t sent(const struct pair *p)
{
    const struct drv_conn_port *cp = (const struct drv_conn_port *)(void *)p->conn->data;
    struct bp_conn_stats st;

    bp_conn_stats(bp_link_conn(cp->conn->link), &st);
    return st.bytes_sent;
}

static struct bp_conn_stats bulk_stats(const struct two *t)
{
    const struct drv_conn_port *cp = (const struct drv_conn_port *)(void *)t->bulk.conn->data;
    struct bp_conn_stats st;

    bp_conn_stats(bp_link_conn(cp->conn->link), &st);
    return st;
}

static bool all_acked(void *ctx)
{
    return bulk_stats(ctx).bytes_in_flight == 0;
}

static void drain(struct two *t)
{
    t->bulk.peer.silent = false;
    assert_true(run_until(t->peers, 2, all_there, t, 20000));
    assert_true(run_until(t->peers, 2, all_acked, t, 20000));
    t->bulk.peer.rx_len = 0;
    t->want = 0;
}

static void send_bulk(struct two *t)
{
    vm_command_bytes(t->bulk.conn, t->msg, MESSAGE);
    t->want += MESSAGE;
}

static void send_light(struct two *t)
{
    vm_command_bytes(t->light.conn, t->msg, 100);
}

static void start(struct two *t, void **state)
{
    memset(t, 0, sizeof(*t));
    t->msg = calloc(1, MESSAGE);
    assert_non_null(t->msg);
    memcpy(t->msg,
           "\x83\x44\x00\x68\x03\x61\x16\x58\x77\x03"
           "a@s\0\0\0\x07\0\0\0\0\0\0\0\x01\x77\x01y",
           28);
    pair_dial(&t->bulk, state);
    pair_handshake(&t->bulk);
    pair_dial_more(&t->light, &t->bulk, "other@127.0.0.1");
    pair_handshake(&t->light);
    t->peers[0] = &t->bulk.peer;
    t->peers[1] = &t->light.peer;
    for (unsigned i = 0; i < 10; i++) { /* until datagrams and the window are large */
        send_bulk(t);
        drain(t);
    }
}

static void finish(struct two *t)
{
    vm_close(t->bulk.conn);
    vm_close(t->light.conn);
    t->light.conn = NULL;
    vm_close(t->bulk.node);
    peer_free(&t->bulk.peer);
    peer_free(&t->light.peer);
    vm_forget(NULL);
    free(t->msg);
}

static void pause_until_nobody_is_active(void)
{
    bp_time until = now_ns() + 2 * ACTIVE;

    while (now_ns() < until) {
    }
}

/* Until what was tried has said something three times: it returns whether it has. Bulk's peer is
 * silent meanwhile, so that no acknowledgement calls the driver, and nobody is active before. */
static void three_times(void **state, bool (*tried)(struct two *t))
{
    struct two t;
    unsigned counted = 0;

    start(&t, state);
    for (unsigned i = 0; i < TRIES && counted < 3; i++) {
        t.bulk.peer.silent = true;
        pause_until_nobody_is_active();
        counted += tried(&t);
        drain(&t);
    }
    assert_int_equal(counted, 3);
    finish(&t);
}

/* A busy machine says nothing mostly: what took longer than others give way, or what the congestion
 * window did not let be a full batch. */
static bool try_others_active_little_at_a_time(struct two *t)
{
    bp_time began = now_ns();
    uint64_t at[4];

    at[0] = sent(&t->bulk);
    send_light(t);
    send_bulk(t);
    at[1] = sent(&t->bulk);
    vm_poll(0, NULL, 0);
    at[2] = sent(&t->bulk);
    send_light(t);
    vm_poll(0, NULL, 0);
    at[3] = sent(&t->bulk);
    if (now_ns() - began < ACTIVE && at[1] - at[0] >= 2 * BP_DGRAM_SENT) {
        assert_in_range(at[1] - at[0], 1, AT_ONCE);
        assert_int_equal(at[2] - at[1], 0);
        assert_in_range(at[3] - at[2], 1, AT_ONCE);
        return true;
    }
    return false;
}

static void others_active_little_at_a_time(void **state)
{
    three_times(state, try_others_active_little_at_a_time);
}

static bp_time turn_over(const struct two *t)
{
    return ((const struct drv_conn_port *)(void *)t->bulk.conn->data)->turn.over;
}

static bool has_room(const struct two *t)
{
    struct bp_conn_stats st = bulk_stats(t);

    return st.bytes_in_flight + BP_TX_RUN_MAX < st.cwnd && st.bytes_in_flight < 4 * BP_TX_RUN_MAX;
}

/* False if it has to wait for the next poll. */
static bool sent_light(struct two *t)
{
    uint64_t before = sent(&t->light);

    send_light(t);
    return sent(&t->light) > before;
}

/* A turn of bulk right after another connection has sent. Returns its end, 0: something took so
 * long that it says nothing. */
static bp_time turn_after_light(struct two *t)
{
    bp_time asked;
    bp_time over;
    uint64_t before;

    send_light(t);
    send_bulk(t);
    over = turn_over(t);
    before = sent(&t->bulk);
    asked = now_ns();
    if (!sent_light(t) || over == 0) {
        return 0;
    }
    vm_poll(0, NULL, 0);
    vm_poll(0, NULL, 0);
    over = turn_over(t);
    return sent(&t->bulk) > before && over - asked < DRV_BRIEF_ANSWER ? over : 0;
}

/* An answer is to come, and finds nothing else being done; but not for long. */
static bool try_others_have_sent_turn_is_put_off(struct two *t)
{
    bp_time over = turn_after_light(t);
    uint64_t before = sent(&t->bulk);

    for (unsigned n = 0; n < DRV_BRIEF_POLLS + 1; n++) {
        vm_poll(0, NULL, 0);
    }
    if (over != 0 && now_ns() - over < DRV_BRIEF_WAIT && has_room(t)) {
        assert_int_equal(sent(&t->bulk), before);
        while (now_ns() - over < DRV_BRIEF_WAIT) {
        }
        vm_poll(0, NULL, 0);
        assert_true(sent(&t->bulk) > before);
        return true;
    }
    return false;
}

static void others_have_sent_turn_is_put_off(void **state)
{
    three_times(state, try_others_have_sent_turn_is_put_off);
}

/* Who is active without sending has no answer to come. */
static bool try_others_send_nothing_turn_is_soon(struct two *t)
{
    bp_time began = now_ns();
    bool usable = sent_light(t);
    uint64_t before;

    send_bulk(t);
    while (now_ns() - began < 2 * DRV_BRIEF_ANSWER) {
    }
    vm_poll(0, NULL, 0);
    vm_poll(0, NULL, 0); /* a turn */
    usable = usable && has_room(t);
    before = sent(&t->bulk);
    for (unsigned n = 0; n < DRV_BRIEF_POLLS; n++) {
        vm_poll(0, NULL, 0);
    }
    if (now_ns() - began < ACTIVE && usable) {
        assert_true(sent(&t->bulk) > before);
        return true;
    }
    return false;
}

static void others_send_nothing_turn_is_soon(void **state)
{
    three_times(state, try_others_send_nothing_turn_is_soon);
}

static bool try_nobody_else_active_full_batches(struct two *t)
{
    bool room = bulk_stats(t).cwnd >= 4 * BP_TX_RUN_MAX;
    uint64_t before = sent(&t->bulk);

    send_bulk(t);
    if (room) { /* the window of a path that was slow is small */
        assert_true(sent(&t->bulk) - before >= 3 * BP_TX_RUN_MAX);
    }
    drain(t);
    /* Its own small messages are no reason either. */
    vm_command_bytes(t->bulk.conn, t->msg, 100);
    t->want += 100;
    return room;
}

static void nobody_else_active_full_batches(void **state)
{
    three_times(state, try_nobody_else_active_full_batches);
}

/* What waits for its turn is never forgotten. */
static void others_always_active_all_arrives(void **state)
{
    struct two t;
    bp_time until;

    start(&t, state);
    for (unsigned i = 0; i < 5; i++) {
        send_bulk(&t);
    }
    until = now_ns() + 60 * BP_SEC;
    while (!all_there(&t) && now_ns() < until) {
        send_light(&t);
        vm_poll(0, NULL, 0);
        peer_step(&t.bulk.peer);
        peer_step(&t.light.peer);
    }
    assert_true(all_there(&t));
    drain(&t);
    finish(&t);
}

/* A connection that was closed or has failed while its turn was over takes nothing with it. */
static void turn_over_peer_closes_port_exits(void **state)
{
    struct two t;

    start(&t, state);
    send_light(&t);
    send_bulk(&t);
    peer_close(&t.bulk.peer, 0);
    for (unsigned i = 0; i < 2000 && t.bulk.conn->failed[0] == '\0'; i++) {
        send_light(&t);
        vm_poll(5, NULL, 0);
        peer_step(&t.light.peer);
    }
    assert_string_equal(t.bulk.conn->failed, "connection_closed");
    finish(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VM_TEST(others_active_little_at_a_time),   VM_TEST(others_have_sent_turn_is_put_off),
        VM_TEST(others_send_nothing_turn_is_soon), VM_TEST(nobody_else_active_full_batches),
        VM_TEST(others_always_active_all_arrives), VM_TEST(turn_over_peer_closes_port_exits),
    };

    return cmocka_run_group_tests(tests, vm_group_setup, vm_group_teardown) != 0;
}
