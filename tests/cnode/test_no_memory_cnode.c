/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole life of two C nodes with the n-th allocation failing, for every n: nothing crashes,
 * nothing leaks, whoever waits for an answer gets one, and nothing that has failed keeps a name or
 * a port.
 */
#include "cnode/rig.h"
#include "faulty/nth_alloc.h"

#include "barrel_p2p/ei.h"
#include "cnode/cn.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

/* Ends what the lost allocation has left waiting; a busy machine needs that long for a connect. */
#define SETUP_MS    400
#define PATIENCE_MS 20000
#define LIVES_MAX   5000

enum step { S_NEW, S_OPTIONS, S_START, S_LISTEN, S_DIAL, S_UP, S_SENT, S_ARRIVED, S_CLOSED };

struct life {
    void **state;
    struct bp_node *a;
    struct bp_node *b;
    uint16_t port;
    enum step reached;
    bool a_up;
    bool b_up;
    bool down; /* of either */
    bool arrived;
    bp_peer_id peer;
    unsigned setup_ms;
};

/* --- events -------------------------------------------------------------- */

static struct bp_node *node_new(struct life *l, const char *name)
{
    char dir[PATH_MAX];
    struct bp_node *n;

    l->reached = S_NEW;
    if (bp_node_new(&n, name) != 0) {
        return NULL;
    }
    l->reached = S_OPTIONS;
    if (bp_node_set_text(n, BP_OPT_DIR, tmpdir_path(l->state, name, dir)) != 0 ||
        bp_node_set_text(n, BP_OPT_COOKIE, RIG_COOKIE) != 0 ||
        bp_node_set_number(n, BP_OPT_SETUP_TIMEOUT, l->setup_ms) != 0 ||
        bp_node_discover_static(n, "nobody@127.0.0.1", "127.0.0.1", 9) != 0) {
        bp_node_del(n);
        return NULL;
    }
    return n;
}

static void take(struct life *l, struct bp_node *n)
{
    struct bp_event ev;

    while (bp_node_next(n, &ev) == 0) {
        if (ev.kind == BP_EVENT_UP) {
            *(n == l->a ? &l->a_up : &l->b_up) = true;
        } else if (ev.kind == BP_EVENT_MESSAGE) {
            l->arrived = true;
        } else if (ev.kind == BP_EVENT_DOWN) {
            l->down = true;
        }
        bp_event_clear(&ev);
    }
}

/* Lets both work until `*what`, or a connection has ended: true if it was `what`. */
static bool until(struct life *l, const bool *what)
{
    uint64_t end = rig_now_ms() + PATIENCE_MS;

    while (!*what && !l->down) {
        struct pollfd fds[2] = {{.fd = bp_node_fd(l->a), .events = POLLIN},
                                {.fd = bp_node_fd(l->b), .events = POLLIN}};

        if (rig_now_ms() > end) {
            fail_msg("step %d: nothing happens any more", l->reached);
        }
        (void)poll(fds, 2, 1);
        (void)bp_node_process(l->a);
        (void)bp_node_process(l->b);
        take(l, l->a);
        take(l, l->b);
    }
    return *what;
}

static bool talk(struct life *l)
{
    static uint8_t msg[50000] = {112, 131};

    if ((l->b = node_new(l, NAME_B)) == NULL || (l->a = node_new(l, NAME_A)) == NULL) {
        return false;
    }
    l->reached = S_START;
    if (bp_node_start(l->b) != 0 || bp_node_start(l->a) != 0) {
        return false;
    }
    l->reached = S_LISTEN;
    l->port = 0;
    if (bp_node_listen(l->b, &l->port) != 0) {
        return false;
    }
    l->reached = S_DIAL;
    if (bp_node_dial_at(l->a, NAME_B, "127.0.0.1", l->port, 0, &l->peer) != 0 ||
        !until(l, &l->a_up) || !until(l, &l->b_up)) {
        return false;
    }
    l->reached = S_UP;
    if (bp_node_send(l->a, l->peer, &(struct bp_part){msg, sizeof(msg)}, 1) != 0) {
        return false;
    }
    l->reached = S_SENT;
    if (!until(l, &l->arrived)) {
        return false;
    }
    l->reached = S_ARRIVED;
    if (bp_node_close(l->a, l->peer) != 0 || !until(l, &l->down)) {
        return false;
    }
    l->reached = S_CLOSED;
    return true;
}

static bool one_life(void **state, long n, unsigned setup_ms)
{
    struct life l = {.state = state, .setup_ms = setup_ms};
    bool ok;

    nth_alloc_arm(n);
    ok = talk(&l);
    bp_node_del(l.a);
    bp_node_del(l.b);
    return ok;
}

static void every_life(bool (*live)(void **state, long n, unsigned setup_ms), void **state)
{
    unsigned survived = 0;
    long n;

    assert_true(live(state, 0, PATIENCE_MS)); /* the keys are there from now on */
    for (n = 1;; n++) {
        bool ok = live(state, n, SETUP_MS);

        if (!nth_alloc_hit()) {
            break;
        }
        survived += ok;
        assert_true(n < LIVES_MAX);
    }
    nth_alloc_arm(0);
    assert_true(live(state, 0, PATIENCE_MS));
    print_message("%ld allocations, %u of which were not needed\n", n - 1, survived);
    assert_true(n > 50);
}

static void events(void **state)
{
    every_life(one_life, state);
}

/* The first start, which makes keys, certificate and directories; each time in a new place. */
static void first_start(void **state)
{
    long n;

    for (n = 1;; n++) {
        struct bp_node *node = NULL;
        char name[32];
        char dir[PATH_MAX];
        int rc;

        snprintf(name, sizeof(name), "first%ld", n);
        (void)tmpdir_path(state, name, dir);
        nth_alloc_arm(n);
        rc = bp_node_new(&node, NAME_A);
        rc = rc == 0 ? bp_node_set_text(node, BP_OPT_DIR, dir) : rc;
        rc = rc == 0 ? bp_node_set_text(node, BP_OPT_COOKIE, RIG_COOKIE) : rc;
        rc = rc == 0 ? bp_node_start(node) : rc;
        if (rc != 0) {
            assert_true(bp_error_detail()[0] != '\0');
        }
        bp_node_del(node);
        nth_alloc_arm(nth_alloc_hit() ? 0 : -1);
        if (rc == 0) {
            break;
        }
        /* What a failed start has left behind is no obstacle. */
        assert_int_equal(bp_node_new(&node, NAME_A), 0);
        assert_int_equal(bp_node_set_text(node, BP_OPT_DIR, dir), 0);
        assert_int_equal(bp_node_set_text(node, BP_OPT_COOKIE, RIG_COOKIE), 0);
        if (bp_node_start(node) != 0) {
            fail_msg("after allocation %ld failed: %s", n, bp_error_detail());
        }
        bp_node_del(node);
        assert_true(n < LIVES_MAX);
    }
    nth_alloc_arm(0);
    assert_true(n > 10);
}

/* --- libei's callbacks ---------------------------------------------------- */

/* libei's part is played: its own allocations are not ours to judge. */
struct side {
    struct bp_node *n;
    void *ctx;
    bool server;
    bool ok;
    atomic_bool over; /* nobody will dial any more */
};

static bool put(void *ctx, const uint8_t *p, size_t len)
{
    while (len > 0) {
        ssize_t n = (ssize_t)len;

        if (bp_ei_callbacks()->write(ctx, (const char *)p, &n, PATIENCE_MS) != 0) {
            return false;
        }
        p += n;
        len -= (size_t)n;
    }
    return true;
}

static bool get(void *ctx, uint8_t *p, size_t len)
{
    while (len > 0) {
        ssize_t n = (ssize_t)len;

        if (bp_ei_callbacks()->read(ctx, (char *)p, &n, PATIENCE_MS) != 0) {
            return false;
        }
        p += n;
        len -= (size_t)n;
    }
    return true;
}

static bool shake(struct side *s)
{
    struct bp_shake k;
    uint8_t buf[1024];
    const uint8_t *msg;
    size_t len;

    if (bp_shake_init(&k, s->server, bp_node_name(s->n), RIG_COOKIE, 1) != 0) {
        return false;
    }
    while (k.state != BP_SHAKE_DONE || k.next_out < k.n_out) {
        while (bp_shake_poll(&k, &msg, &len)) {
            buf[0] = (uint8_t)(len >> 8);
            buf[1] = (uint8_t)len;
            memcpy(buf + 2, msg, len);
            if (!put(s->ctx, buf, len + 2)) {
                return false;
            }
        }
        if (k.state == BP_SHAKE_DONE) {
            break;
        }
        if (!get(s->ctx, buf, 2)) {
            return false;
        }
        len = (size_t)buf[0] << 8 | buf[1];
        if (len == 0 || len > sizeof(buf) || !get(s->ctx, buf, len) ||
            bp_shake_recv(&k, buf, len) != 0 ||
            (k.state == BP_SHAKE_ASKED && bp_shake_status(&k, BP_SHAKE_OK) != 0)) {
            return false;
        }
    }
    return (s->server ? bp_ei_callbacks()->accept_handshake_complete
                      : bp_ei_callbacks()->connect_handshake_complete)(s->ctx) == 0;
}

static void *serve(void *arg)
{
    struct side *s = arg;
    static uint8_t buf[20000];
    struct sockaddr_in addr;
    int len = sizeof(addr);
    void *ctx = s->ctx;

    while (bp_ei_callbacks()->accept(&ctx, &addr, &len, 20) != 0) {
        if (atomic_load(&s->over)) {
            return NULL;
        }
    }
    s->ok = shake(&(struct side){.n = s->n, .ctx = ctx, .server = true}) &&
            get(ctx, buf, sizeof(buf)) && buf[4] == 112 && put(ctx, buf, sizeof(buf));
    (void)get(ctx, buf, 1); /* until it is closed: else what is under way would be lost */
    (void)bp_ei_callbacks()->close(ctx);
    return NULL;
}

static bool dial_and_talk(struct life *l, struct side *s)
{
    static uint8_t buf[20000] = {0, 0, (20000 - 4) >> 8, (20000 - 4) & 255, 112, 131};
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons(l->port),
                               .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};

    l->reached = S_DIAL;
    if (bp_ei_callbacks()->socket(&s->ctx, s->n) != 0) {
        s->ctx = NULL;
        return false;
    }
    if (bp_ei_callbacks()->connect(s->ctx, &addr, sizeof(addr), l->setup_ms) != 0 || !shake(s)) {
        return false;
    }
    l->reached = S_UP;
    return put(s->ctx, buf, sizeof(buf)) && get(s->ctx, buf, sizeof(buf));
}

static bool start_ei(struct life *l, struct bp_node **out, const char *name)
{
    char alive[BP_NAME_MAX + 1];
    const char *host;
    const char *cookie;
    unsigned creation = 0;

    *out = node_new(l, name);
    l->reached = S_START;
    return *out != NULL && bp_node_start(*out) == 0 &&
           bp_ei_prepare(*out, alive, &host, &cookie, &creation) == 0;
}

static bool ei_life(void **state, long n, unsigned setup_ms)
{
    struct life l = {.state = state, .setup_ms = setup_ms};
    struct side b = {.server = true};
    struct side a = {0};
    struct sockaddr_in addr = {.sin_family = AF_INET};
    int len = sizeof(addr);
    pthread_t t;
    bool ok = false;

    nth_alloc_arm(n);
    if (start_ei(&l, &l.b, NAME_B) && start_ei(&l, &l.a, NAME_A)) {
        b.n = l.b;
        a.n = l.a;
        l.reached = S_LISTEN;
        if (bp_ei_callbacks()->socket(&b.ctx, b.n) != 0) {
            b.ctx = NULL;
        } else if (bp_ei_callbacks()->listen(b.ctx, &addr, &len, 5) == 0) {
            l.port = ntohs(addr.sin_port);
            assert_int_equal(pthread_create(&t, NULL, serve, &b), 0);
            ok = dial_and_talk(&l, &a);
            if (a.ctx != NULL) {
                (void)bp_ei_callbacks()->close(a.ctx);
            }
            atomic_store(&b.over, true);
            assert_int_equal(pthread_join(t, NULL), 0);
            ok = ok && b.ok;
        }
        if (b.ctx != NULL) {
            (void)bp_ei_callbacks()->close(b.ctx);
        }
    }
    bp_node_del(l.a);
    bp_node_del(l.b);
    return ok;
}

static void libei(void **state)
{
    every_life(ei_life, state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(first_start),
        TMPDIR_TEST(events),
        TMPDIR_TEST(libei),
    };

    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
