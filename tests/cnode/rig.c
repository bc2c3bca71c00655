/* SPDX-License-Identifier: Apache-2.0 */
/* Several C nodes in one process. */
#include "cnode/rig.h"

#include "io/trust_store.h"

#include <poll.h>
#include <time.h>

static uint64_t now_ms(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void log_line(void *ctx, enum bp_log_level level, const char *event, const char *peer,
                     const char *text)
{
    const struct rig_node *x = ctx;

    fprintf(stderr, "%s [%d] %s %s: %s\n", bp_node_name(x->n), level, event, peer, text);
}

const char *rig_name(char letter)
{
    static char names[26][32];
    char *name = names[letter - 'a'];

    if (name[0] == '\0') {
        snprintf(name, sizeof(names[0]), "%c%ld@127.0.0.1", letter, (long)getpid());
    }
    return name;
}

/* --- nodes --------------------------------------------------------------- */

struct rig_node *rig_node(struct rig *r, const char *name)
{
    struct rig_node *x;
    char dir[PATH_MAX];

    assert_true(r->n < RIG_NODES);
    x = &r->nodes[r->n++];
    *x = (struct rig_node){0};
    assert_int_equal(bp_node_new(&x->n, name), 0);
    x->events = calloc(RIG_EVENTS, sizeof(*x->events));
    assert_non_null(x->events);
    assert_int_equal(bp_node_set_text(x->n, BP_OPT_DIR, tmpdir_path(r->state, name, dir)), 0);
    /* A fixed entry of somebody who is not there: so that no other files or servers are asked. */
    assert_int_equal(bp_node_discover_static(x->n, "nobody@127.0.0.1", "127.0.0.1", 9), 0);
    assert_int_equal(bp_node_set_text(x->n, BP_OPT_COOKIE, RIG_COOKIE), 0);
    if (getenv("RIG_LOG") != NULL) {
        bp_node_set_log(x->n, BP_LOG_DEBUG, log_line, x);
    }
    return x;
}

void rig_start(struct rig_node *x, bool listen)
{
    if (bp_node_start(x->n) != 0 || (listen && bp_node_listen(x->n, &x->port) != 0)) {
        fail_msg("%s", bp_error_detail());
    }
}

void rig_start_thread(struct rig_node *x, bool listen)
{
    rig_start(x, listen);
    assert_int_equal(bp_node_run_thread(x->n), 0);
    x->threaded = true;
}

void rig_knows(struct rig_node *x, const struct rig_node *y)
{
    assert_int_equal(bp_node_discover_static(x->n, bp_node_name(y->n), "127.0.0.1", y->port), 0);
}

void rig_stop(struct rig_node *x)
{
    bp_node_del(x->n);
    x->n = NULL;
    for (size_t i = 0; i < x->n_events; i++) {
        bp_event_clear(&x->events[i].ev);
    }
    free(x->events);
    x->events = NULL;
    x->n_events = 0;
}

void rig_end(struct rig *r)
{
    for (unsigned i = 0; i < r->n; i++) {
        if (r->nodes[i].n != NULL) {
            rig_stop(&r->nodes[i]);
        }
    }
    r->n = 0;
}

const char *rig_trusted(struct rig *r, struct rig_node *x, struct rig_node *y,
                        char out[static PATH_MAX])
{
    char name[1024];

    snprintf(name, sizeof(name), "%s/data/keys/trusted/%s.pub", bp_node_name(x->n),
             bp_node_name(y->n));
    return tmpdir_path(r->state, name, out);
}

void rig_pin(struct rig *r, struct rig_node *x, struct rig_node *y, bool right)
{
    char path[PATH_MAX];
    char name[512];
    uint8_t key[BP_KEY_LEN];
    struct bp_errbuf err;

    snprintf(name, sizeof(name), "%s/data/keys/node.pub", bp_node_name(y->n));
    assert_int_equal(tmpdir_get(tmpdir_path(r->state, name, path), key, sizeof(key)), sizeof(key));
    if (!right) {
        key[0] ^= 1;
    }
    snprintf(name, sizeof(name), "%s/data/keys", bp_node_name(x->n));
    assert_int_equal(
        bp_trust_store(tmpdir_path(r->state, name, path), bp_node_name(y->n), key, &err), 0);
}

/* --- running ------------------------------------------------------------- */

static void keep(struct rig_node *x, struct bp_event *ev)
{
    struct rig_event *e;

    if (ev->kind == BP_EVENT_MESSAGE) {
        x->messages++;
        x->bytes += ev->len;
        if (x->count_only) {
            bp_event_clear(ev);
            return;
        }
    }
    assert_true(x->n_events < RIG_EVENTS);
    e = &x->events[x->n_events++];
    e->ev = *ev;
    e->sum = 0;
    for (size_t i = 0; i < ev->len; i++) {
        e->sum += ev->data[i];
    }
}

static bool take_all(struct rig_node *x)
{
    struct bp_event ev;
    bool any = false;

    while (!x->deaf && bp_node_next(x->n, &ev) == 0) {
        keep(x, &ev);
        any = true;
    }
    return any;
}

static void watch_queue(struct rig *r, const struct rig_node *x)
{
    bp_peer_id ids[RIG_NODES];
    struct bp_peer_info info;
    size_t n = bp_node_peers(x->n, ids, RIG_NODES);

    for (size_t i = 0; i < n && i < RIG_NODES; i++) {
        if (bp_node_peer_info(x->n, ids[i], &info, sizeof(info)) == 0 &&
            info.recv_queue > r->max_queue) {
            r->max_queue = info.recv_queue;
        }
    }
}

void rig_turn(struct rig *r, int ms)
{
    struct pollfd fds[RIG_NODES];
    nfds_t n = 0;
    bool any = false;

    for (unsigned i = 0; i < r->n; i++) {
        struct rig_node *x = &r->nodes[i];
        int t;
        if (x->n == NULL) {
            continue;
        }
        any = take_all(x) || any;
        t = x->deaf && x->threaded ? -1 : bp_node_timeout(x->n);
        if (x->deaf && !x->threaded && t == 0) {
            t = 1; /* its events are there to stay */
        }
        ms = t >= 0 && t < ms ? t : ms;
        if (!(x->deaf && x->threaded)) {
            fds[n++] = (struct pollfd){.fd = bp_node_fd(x->n), .events = POLLIN};
        }
    }
    assert_true(poll(fds, n, any ? 0 : ms) >= 0);
    for (unsigned i = 0; i < r->n; i++) {
        struct rig_node *x = &r->nodes[i];
        if (x->n != NULL && !x->threaded) {
            assert_int_equal(bp_node_process(x->n), 0);
        }
        if (x->n != NULL && x->deaf) {
            watch_queue(r, x);
        }
    }
}

void rig_until_at(const char *file, int line, const char *what, struct rig *r,
                  bool (*done)(void *ctx), void *ctx)
{
    uint64_t end = now_ms() + RIG_PATIENCE_MS;

    while (!done(ctx)) {
        if (now_ms() >= end) {
            print_error("%s:%d: not `%s` after %d ms\n", file, line, what, RIG_PATIENCE_MS);
            _fail(file, line);
        }
        rig_turn(r, 100);
    }
}

const struct bp_event *rig_expect_at(const char *file, int line, struct rig *r, struct rig_node *x,
                                     enum bp_event_kind kind)
{
    uint64_t end = now_ms() + RIG_PATIENCE_MS;

    for (;;) {
        while (x->seen < x->n_events) {
            const struct bp_event *ev = &x->events[x->seen++].ev;
            if (ev->kind == kind) {
                return ev;
            }
        }
        if (now_ms() >= end) {
            print_error("%s:%d: %s: no event %d\n", file, line, bp_node_name(x->n), kind);
            _fail(file, line);
        }
        rig_turn(r, 100);
    }
}

/* --- what tests do ------------------------------------------------------- */

bp_peer_id rig_connect(struct rig *r, struct rig_node *from, struct rig_node *to)
{
    bp_peer_id id;
    const struct bp_event *ev;

    assert_int_equal(bp_node_dial(from->n, bp_node_name(to->n), 0, &id), 0);
    ev = rig_expect(r, from, BP_EVENT_UP);
    assert_true(ev->peer == id);
    assert_string_equal(ev->name, bp_node_name(to->n));
    assert_false(ev->inbound);
    ev = rig_expect(r, to, BP_EVENT_UP);
    assert_string_equal(ev->name, bp_node_name(from->n));
    assert_true(ev->inbound);
    return id;
}

int rig_send(struct rig_node *x, bp_peer_id peer, const void *p, size_t len)
{
    const struct bp_part parts[] = {{.data = "\x70\x83", .len = 2}, {.data = p, .len = len}};

    return bp_node_send(x->n, peer, parts, 2);
}

struct wanted {
    const char *name;
    uint64_t value;
};

static void pick(void *ctx, const char *name, uint64_t value)
{
    struct wanted *w = ctx;

    if (strcmp(name, w->name) == 0) {
        w->value = value;
    }
}

uint64_t rig_counter(const struct rig_node *x, const char *name)
{
    struct wanted w = {.name = name};

    bp_node_counters(x->n, pick, &w);
    return w.value;
}

const struct bp_event *rig_expect_down(struct rig *r, struct rig_node *x, int error,
                                       const char *text)
{
    const struct bp_event *ev = rig_expect(r, x, BP_EVENT_DOWN);

    assert_int_equal(ev->error, error);
    if (text != NULL && strstr(ev->text, text) == NULL) {
        fail_msg("'%s' does not say: %s", ev->text, text);
    }
    return ev;
}
