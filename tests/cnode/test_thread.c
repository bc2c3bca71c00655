/* SPDX-License-Identifier: Apache-2.0 */
/* C nodes that their I/O threads run, used from several threads. */
#include "cnode/rig.h"

#include "cnode/cn.h"

#include <poll.h>
#include <pthread.h>
#include <time.h>

#define SENDERS  4
#define MESSAGES 3000u

static void pair(struct rig *r, void **state, struct rig_node **a, struct rig_node **b)
{
    *r = (struct rig){.state = state};
    *b = rig_node(r, NAME_B);
    rig_start_thread(*b, true);
    *a = rig_node(r, NAME_A);
    rig_knows(*a, *b);
    rig_start_thread(*a, false);
}

static void wait_for_events(void **state)
{
    struct rig r;
    struct rig_node *a;
    struct rig_node *b;
    struct bp_event ev;
    bp_peer_id id;

    pair(&r, state, &a, &b);
    a->deaf = b->deaf = true;
    assert_int_equal(bp_node_wait(a->n, &ev, 10), BP_ERROR_TIMEOUT);
    assert_int_equal(bp_node_process(a->n), BP_ERROR_STATE);
    assert_int_equal(bp_node_timeout(a->n), -1);
    assert_int_equal(bp_node_run_thread(a->n), BP_ERROR_STATE);
    assert_int_equal(bp_node_dial(a->n, NAME_B, 0, &id), 0);
    assert_int_equal(bp_node_wait(a->n, &ev, RIG_PATIENCE_MS), 0);
    assert_int_equal(ev.kind, BP_EVENT_UP);
    assert_int_equal(bp_node_wait(b->n, &ev, RIG_PATIENCE_MS), 0);
    assert_int_equal(ev.kind, BP_EVENT_UP);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(rig_send(a, id, "ping", 4), 0);
        assert_int_equal(bp_node_wait(b->n, &ev, RIG_PATIENCE_MS), 0);
        assert_int_equal(ev.kind, BP_EVENT_MESSAGE);
        bp_event_clear(&ev);
        assert_int_equal(rig_send(b, ev.peer, "pong", 4), 0);
        assert_int_equal(bp_node_wait(a->n, &ev, RIG_PATIENCE_MS), 0);
        assert_int_equal(ev.len, 6);
        bp_event_clear(&ev);
    }
    rig_end(&r);
}

/* The descriptor is readable exactly as long as there are events. */
static void descriptor(void **state)
{
    struct rig r;
    struct rig_node *a;
    struct rig_node *b;
    struct bp_event ev;
    struct pollfd p;
    bp_peer_id id;

    pair(&r, state, &a, &b);
    p = (struct pollfd){.fd = bp_node_fd(a->n), .events = POLLIN};
    a->deaf = b->deaf = true;
    assert_int_equal(poll(&p, 1, 50), 0);
    assert_int_equal(bp_node_dial(a->n, NAME_B, 0, &id), 0);
    assert_int_equal(poll(&p, 1, RIG_PATIENCE_MS), 1);
    assert_int_equal(poll(&p, 1, 0), 1);
    assert_int_equal(bp_node_next(a->n, &ev), 0);
    assert_int_equal(ev.kind, BP_EVENT_UP);
    assert_int_equal(bp_node_next(a->n, &ev), BP_ERROR_AGAIN);
    assert_int_equal(poll(&p, 1, 50), 0);
    assert_int_equal(bp_node_close(a->n, id), 0);
    assert_int_equal(poll(&p, 1, RIG_PATIENCE_MS), 1);
    assert_int_equal(bp_node_next(a->n, &ev), 0);
    assert_int_equal(ev.kind, BP_EVENT_DOWN);
    assert_int_equal(bp_node_next(a->n, &ev), BP_ERROR_AGAIN);
    assert_int_equal(poll(&p, 1, 50), 0);
    rig_end(&r);
}

struct sender {
    struct rig_node *x;
    bp_peer_id to;
    uint32_t number;
    bool failed;
};

static void *send_many(void *arg)
{
    struct sender *s = arg;
    uint8_t body[200];

    memset(body, 7, sizeof(body));
    for (uint32_t i = 0; i < MESSAGES; i++) {
        int rc;
        memcpy(body, &s->number, sizeof(s->number));
        memcpy(body + 4, &i, sizeof(i));
        while ((rc = rig_send(s->x, s->to, body, 8 + i % 190)) == BP_ERROR_AGAIN) {
            struct timespec t = {.tv_nsec = 100000};
            (void)nanosleep(&t, NULL);
        }
        s->failed = s->failed || rc != 0;
    }
    return NULL;
}

/* Several threads send to one peer: each one's messages stay in order, and none is lost. */
static void many_senders(void **state)
{
    struct rig r;
    struct rig_node *a;
    struct rig_node *b;
    struct sender s[SENDERS];
    pthread_t t[SENDERS];
    uint32_t next[SENDERS] = {0};
    uint64_t got = 0;
    bp_peer_id id;

    pair(&r, state, &a, &b);
    id = rig_connect(&r, a, b);
    b->deaf = true;
    for (uint32_t i = 0; i < SENDERS; i++) {
        s[i] = (struct sender){.x = a, .to = id, .number = i};
        assert_int_equal(pthread_create(&t[i], NULL, send_many, &s[i]), 0);
    }
    while (got < SENDERS * MESSAGES) {
        struct bp_event ev;
        uint32_t who;
        uint32_t k;
        assert_int_equal(bp_node_wait(b->n, &ev, RIG_PATIENCE_MS), 0);
        assert_int_equal(ev.kind, BP_EVENT_MESSAGE);
        memcpy(&who, ev.data + 2, sizeof(who));
        memcpy(&k, ev.data + 6, sizeof(k));
        assert_true(who < SENDERS);
        assert_int_equal(k, next[who]);
        next[who]++;
        got++;
        bp_event_clear(&ev);
    }
    for (int i = 0; i < SENDERS; i++) {
        assert_int_equal(pthread_join(t[i], NULL), 0);
        assert_false(s[i].failed);
    }
    rig_end(&r);
}

static void *wait_long(void *arg)
{
    struct rig_node *x = arg;
    struct bp_event ev;
    int rc = bp_node_wait(x->n, &ev, -1);

    return rc == BP_ERROR_STATE ? NULL : arg;
}

/* Whoever waits when the node is deleted comes back. */
static void deleted_meanwhile(void **state)
{
    struct rig r = {.state = state};
    struct rig_node *a = rig_node(&r, NAME_A);
    pthread_t t;
    void *bad;
    bool waits = false;

    rig_start_thread(a, false);
    assert_int_equal(pthread_create(&t, NULL, wait_long, a), 0);
    while (!waits) {
        (void)pthread_mutex_lock(&a->n->lock);
        waits = a->n->users > 0;
        (void)pthread_mutex_unlock(&a->n->lock);
    }
    bp_node_del(a->n);
    assert_int_equal(pthread_join(t, &bad), 0);
    assert_null(bad);
    a->n = NULL;
    free(a->events);
    rig_end(&r);
}

/* One node of many, and all of one process. */
static void several_nodes(void **state)
{
    struct rig r = {.state = state};
    struct rig_node *x[6];
    bp_peer_id to[6][6] = {{0}};

    for (int i = 0; i < 6; i++) {
        x[i] = rig_node(&r, rig_name((char)('a' + i)));
        for (int k = 0; k < i; k++) {
            rig_knows(x[i], x[k]);
        }
        if (i % 2 == 0) {
            rig_start_thread(x[i], true);
        } else {
            rig_start(x[i], true);
        }
    }
    for (int i = 0; i < 6; i++) {
        for (int k = 0; k < i; k++) {
            to[i][k] = rig_connect(&r, x[i], x[k]);
        }
    }
    for (int i = 0; i < 6; i++) {
        assert_int_equal(bp_node_peers(x[i]->n, NULL, 0), 5);
        for (int k = 0; k < i; k++) {
            assert_int_equal(rig_send(x[i], to[i][k], &i, sizeof(i)), 0);
        }
    }
    for (int k = 0; k < 6; k++) {
        while (x[k]->messages < (uint64_t)(5 - k)) {
            rig_turn(&r, 100);
        }
    }
    rig_end(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(wait_for_events),   TMPDIR_TEST(descriptor),    TMPDIR_TEST(many_senders),
        TMPDIR_TEST(deleted_meanwhile), TMPDIR_TEST(several_nodes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
