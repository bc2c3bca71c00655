/* SPDX-License-Identifier: Apache-2.0 */
/* ping, call, send, peers without any Erlang: a C node of this process is what they talk to. What
 * they do with real nodes is in cli_remote_SUITE. */
#include "cli/run.h"

#include <barrel_p2p/barrel_p2p.h>

#include <arpa/inet.h>
#include <pthread.h>

#define PEER "peer@localhost"

/* The peer: takes what comes and answers nothing. */
struct peer {
    struct bp_node *node;
    pthread_t thread;
    pthread_mutex_t lock;
    unsigned ups;
    unsigned messages;
    char last[BP_NAME_MAX + 1]; /* who came */
    uint16_t port;
    bool stop;
};

static void *run_peer(void *arg)
{
    struct peer *p = arg;
    bool stop = false;

    while (!stop) {
        struct bp_event ev = {.kind = BP_EVENT_NONE};
        int rc = bp_node_wait(p->node, &ev, 20);
        (void)pthread_mutex_lock(&p->lock);
        if (rc == 0 && ev.kind == BP_EVENT_UP) {
            p->ups++;
            memcpy(p->last, ev.name, sizeof(p->last));
        }
        p->messages += rc == 0 && ev.kind == BP_EVENT_MESSAGE;
        stop = p->stop;
        (void)pthread_mutex_unlock(&p->lock);
        if (rc == 0) {
            bp_event_clear(&ev);
        }
    }
    return NULL;
}

/* In "node" below the test's directory; also what the command gets as its home. */
static void start_peer(struct peer *p, void **state, const char *trust)
{
    char dir[PATH_MAX];

    memset(p, 0, sizeof(*p));
    assert_int_equal(pthread_mutex_init(&p->lock, NULL), 0);
    assert_int_equal(mkdir(tmpdir_path(state, "node", dir), 0700), 0);
    assert_int_equal(bp_node_new(&p->node, PEER), 0);
    assert_int_equal(bp_node_set_text(p->node, BP_OPT_DIR, dir), 0);
    assert_int_equal(bp_node_set_text(p->node, BP_OPT_COOKIE, "secret"), 0);
    assert_int_equal(bp_node_set_text(p->node, BP_OPT_TRUST, trust), 0);
    assert_int_equal(bp_node_set_text(p->node, BP_OPT_BIND, "127.0.0.1"), 0);
    assert_int_equal(bp_node_discover_static(p->node, "nobody@localhost", "127.0.0.1", 1), 0);
    assert_int_equal(bp_node_start(p->node), 0);
    assert_int_equal(bp_node_listen(p->node, &p->port), 0);
    assert_int_equal(bp_node_run_thread(p->node), 0);
    assert_int_equal(pthread_create(&p->thread, NULL, run_peer, p), 0);
}

static void stop_peer(struct peer *p)
{
    (void)pthread_mutex_lock(&p->lock);
    p->stop = true;
    (void)pthread_mutex_unlock(&p->lock);
    (void)pthread_join(p->thread, NULL);
    bp_node_del(p->node);
    (void)pthread_mutex_destroy(&p->lock);
}

static unsigned count(struct peer *p, const unsigned *what)
{
    unsigned n;

    (void)pthread_mutex_lock(&p->lock);
    n = *what;
    (void)pthread_mutex_unlock(&p->lock);
    return n;
}

/* The command may have ended before the peer's thread has taken what it did. */
static void expect_count(struct peer *p, const unsigned *what, unsigned n)
{
    const struct timespec nap = {.tv_nsec = 10000000};

    for (int i = 0; i < 3000 && count(p, what) < n; i++) {
        (void)nanosleep(&nap, NULL);
    }
    assert_int_equal(count(p, what), n);
}

static const char *at(uint16_t port, char out[static 64])
{
    (void)snprintf(out, 64, PEER "=127.0.0.1:%u", port);
    return out;
}

#define REMOTE(where)                                                                              \
    "--dir", "me", "--name", "tool@here", "--runtime-dir", "none", "--static", where

static void remote_ping_of_a_c_node(void **state)
{
    struct peer p;
    struct run r;
    char where[64];
    char print[128];
    json_t *o;

    start_peer(&p, state, "tofu");
    at(p.port, where);
    cli(&r, state, "ping", PEER, "--cookie", "secret", REMOTE(where), "--json");
    if (r.status != 0) {
        fail_msg("%d: %s", r.status, r.err);
    }
    o = cli_json(&r);
    assert_string_equal(member(o, "answer"), "pong");
    bp_node_fingerprint(p.node, print, sizeof(print));
    assert_string_equal(member(o, "fingerprint"), print);
    assert_non_null(strstr(member(o, "address"), "127.0.0.1:"));
    assert_true(json_integer_value(json_object_get(o, "round_trip_us")) > 0);
    json_decref(o);
    expect_count(&p, &p.ups, 1);
    assert_string_equal(p.last, "tool@here");
    stop_peer(&p);
}

static void remote_cookie_of_home(void **state)
{
    struct peer p;
    struct run r;
    char where[64];
    char file[PATH_MAX];
    char *home = getenv("HOME") != NULL ? strdup(getenv("HOME")) : NULL;

    start_peer(&p, state, "tofu");
    at(p.port, where);
    assert_int_equal(setenv("HOME", ((struct tmpdir *)*state)->path, 1), 0);
    cli(&r, state, "ping", PEER, REMOTE(where));
    expect_err(&r, 3, "~/.erlang.cookie");
    tmpdir_put(tmpdir_path(state, ".erlang.cookie", file), "secret\n", 7);
    assert_int_equal(chmod(file, 0400), 0);
    cli(&r, state, "ping", PEER, REMOTE(where));
    expect_out(&r, 0, "pong");
    assert_string_equal(r.err, "");
    assert_int_equal(chmod(file, 0640), 0);
    cli(&r, state, "ping", PEER, REMOTE(where));
    expect_out(&r, 0, "pong");
    expect_err(&r, 0, "run chmod 400 on it");
    tmpdir_put(file, "\n", 1);
    cli(&r, state, "ping", PEER, REMOTE(where));
    expect_err(&r, 2, ".erlang.cookie: its first line is no cookie");
    if (home != NULL) {
        (void)setenv("HOME", home, 1);
    }
    free(home);
    stop_peer(&p);
}

static void remote_refusals_say_why(void **state)
{
    struct peer p;
    struct run r;
    char where[64];

    start_peer(&p, state, "strict");
    at(p.port, where);
    cli(&r, state, "ping", PEER, "--cookie", "secret", REMOTE(where));
    expect_err(&r, 7, "barrel-p2p trust add tool@here --key ");
    cli(&r, state, "call", PEER, "m", "f", "--cookie", "secret", REMOTE(where));
    expect_err(&r, 7, PEER);
    assert_int_equal(count(&p, &p.ups), 0);
    stop_peer(&p);
}

static void remote_cookie_must_be_the_same(void **state)
{
    struct peer p;
    struct run r;
    char where[64];
    char again[64];
    json_t *o;

    start_peer(&p, state, "tofu");
    at(p.port, where);
    (void)snprintf(again, sizeof(again), PEER "=127.0.0.2:%u", (unsigned)p.port);
    cli(&r, state, "ping", PEER, "--cookie", "other", REMOTE(where));
    expect_err(&r, 7, "ours is that of --cookie");
    /* libei is told of an address that may do better only. */
    cli(&r, state, "call", PEER, "m", "f", "--cookie", "other", REMOTE(where), "--static", again,
        "--json");
    expect_err(&r, 7, "ours is that of --cookie");
    o = cli_json(&r);
    assert_string_equal(member(o, "error"), "bad_cookie");
    json_decref(o);
    assert_int_equal(count(&p, &p.ups), 0);
    stop_peer(&p);
}

/* The peer is no Erlang node: it takes messages and answers no calls. The limits are long enough for a busy
 * machine to connect and send within. */
static void remote_nobody_answers_calls(void **state)
{
    struct peer p;
    struct run r;
    char where[64];

    start_peer(&p, state, "tofu");
    at(p.port, where);
    cli(&r, state, "call", PEER, "m", "f", "--cookie", "secret", "--timeout", "4000",
        REMOTE(where));
    expect_err(&r, 8, "no answer in time");
    expect_count(&p, &p.messages, 1);
    cli(&r, state, "send", PEER, "x", "{a,1}", "--cookie", "secret", "--timeout", "4000",
        REMOTE(where));
    expect_err(&r, 8, "the message was sent");
    expect_count(&p, &p.messages, 3);
    cli(&r, state, "peers", PEER, "--cookie", "secret", "--timeout", "1500", REMOTE(where));
    expect_err(&r, 8, PEER);
    stop_peer(&p);
}

#define CLOSED_PORT 9 /* that nobody has, and that the kernel gives to nobody */

/* A port of this process on which nothing is answered. */
static int silent_port(uint16_t *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

static void remote_nobody_there(void **state)
{
    struct run r;
    char where[64];
    uint16_t port;
    int fd;

    at(CLOSED_PORT, where);
    cli(&r, state, "ping", PEER, "--cookie", "secret", REMOTE(where));
    expect_err(&r, 9, PEER);
    fd = silent_port(&port);
    at(port, where);
    cli(&r, state, "ping", PEER, "--cookie", "secret", "--timeout", "300", REMOTE(where));
    expect_err(&r, 8, PEER);
    cli(&r, state, "call", PEER, "m", "f", "--cookie", "secret", "--timeout", "300", REMOTE(where));
    expect_err(&r, 8, PEER);
    close(fd);
}

/* Before anything is looked up or written. */
static void remote_wrong_arguments(void **state)
{
    struct run r;

    cli(&r, state, "call", "a@h", "m", "f", "[1, ]");
    expect_err(&r, 2, "ARGS, column 5");
    cli(&r, state, "call", "a@h", "m", "f", "{1}");
    expect_err(&r, 2, "list of all arguments");
    cli(&r, state, "call", "a@h", "m", "f", "[\n1 2]");
    expect_err(&r, 2, "ARGS, line 2, column 3");
    cli(&r, state, "send", "a@h", "", "x");
    expect_err(&r, 2, "a registered name");
    cli(&r, state, "send", "a@h", "name", "X");
    expect_err(&r, 2, "X is a variable");
    cli(&r, state, "ping", "a");
    expect_err(&r, 2, "is not a node name");
    cli(&r, state, "ping", "a@h", "--name", "b");
    expect_err(&r, 2, "is not a node name");
    cli(&r, state, "ping", "a@h", "--trust", "none");
    expect_err(&r, 2, "tofu or strict");
    cli(&r, state, "ping", "a@h", "--timeout", "0");
    expect_err(&r, 2, "milliseconds");
    cli(&r, state, "ping", "a@h", "--cookie", "c", "--dir", "me", "--static", "a@h");
    expect_err(&r, 2, "NODE=HOST:PORT");
    assert_int_equal(tmpdir_count(((struct tmpdir *)*state)->path), 0);
}

/* Also where it never ends, or cannot be read. */
static void remote_terms_from_the_standard_input(void **state)
{
    const char *path = ((struct tmpdir *)*state)->path;
    const char *const bad = "[\n1,\n2 3]";
    struct run r;

    cli_call(&r, &(struct call){.dir = path,
                                .input = bad,
                                .input_len = strlen(bad),
                                .args = {"call", "a@h", "m", "f", "-"}});
    expect_err(&r, 2, "ARGS, line 3, column 3");
    cli_call(&r, &(struct call){
                     .dir = path, .from = "/dev/zero", .args = {"call", "a@h", "m", "f", "-"}});
    expect_err(&r, 2, "ARGS: the standard input has more than 256 MB");
    cli_call(&r, &(struct call){.dir = path, .from = "/", .args = {"send", "a@h", "name", "-"}});
    expect_err(&r, 1, "cannot read the standard input: Is a directory");
    assert_int_equal(tmpdir_count(path), 0);
}

static const struct CMUnitTest tests[] = {
    TMPDIR_TEST(remote_ping_of_a_c_node),     TMPDIR_TEST(remote_cookie_of_home),
    TMPDIR_TEST(remote_refusals_say_why),     TMPDIR_TEST(remote_cookie_must_be_the_same),
    TMPDIR_TEST(remote_nobody_answers_calls), TMPDIR_TEST(remote_nobody_there),
    TMPDIR_TEST(remote_wrong_arguments),      TMPDIR_TEST(remote_terms_from_the_standard_input),
};

int main(void)
{
    return cmocka_run_group_tests(tests, cli_enter_root, NULL) != 0;
}
