/* SPDX-License-Identifier: Apache-2.0 */
/* libei over QUIC: C nodes that talk through ei_connect, ei_accept, ei_receive_msg and the rest. */
#include "cnode/ei_side.h"

#include "cnode/cn.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* --- tests --------------------------------------------------------------- */

static void there_and_back(void **state)
{
    struct rig r;
    struct side a;
    struct side b;
    struct bp_peer_info info;
    erlang_msg msg;
    ei_x_buff x;

    side_connected(&r, &a, &b, state);
    ei_x_new(&x);
    for (long i = 0; i < 300; i++) {
        side_send_number(&a, i);
        assert_int_equal(ei_xreceive_msg(b.fd, &msg, &x), ERL_MSG);
        assert_int_equal(msg.msgtype, ERL_REG_SEND);
        assert_string_equal(msg.toname, "sink");
        assert_string_equal(msg.from.node, NAME_A);
        assert_int_equal(side_decode_number(&x), i);
        /* To the pid that sent it. */
        assert_int_equal(ei_send(b.fd, &msg.from, x.buff, x.index), 0);
        assert_int_equal(ei_xreceive_msg_tmo(a.fd, &msg, &x, RIG_PATIENCE_MS), ERL_MSG);
        assert_int_equal(side_decode_number(&x), i);
    }
    ei_x_free(&x);
    assert_int_equal(bp_node_peer_info(a.x->n, bp_ei_peer(a.x->n, a.fd), &info, sizeof(info)), 0);
    assert_true(info.ei && info.up);
    assert_string_equal(info.name, NAME_B);
    assert_int_equal(bp_ei_peer(a.x->n, b.fd), 0);
    side_disconnect(&r, &a, &b);
}

static void timeouts(void **state)
{
    struct rig r;
    struct side a;
    struct side b;
    erlang_msg msg;
    ei_x_buff x;
    uint64_t began;

    side_connected(&r, &a, &b, state);
    ei_x_new(&x);
    began = rig_now_ms();
    assert_int_equal(ei_xreceive_msg_tmo(a.fd, &msg, &x, 60), ERL_ERROR);
    assert_int_equal(erl_errno, ETIMEDOUT);
    assert_true(rig_now_ms() - began >= 60);
    /* Nothing is lost by that. */
    side_send_number(&b, 5);
    assert_int_equal(ei_xreceive_msg_tmo(a.fd, &msg, &x, RIG_PATIENCE_MS), ERL_MSG);
    assert_int_equal(side_decode_number(&x), 5);
    assert_int_equal(ei_accept_tmo(&b.ec, b.listen_fd, NULL, 20), ERL_ERROR);
    assert_int_equal(erl_errno, ETIMEDOUT);
    ei_x_free(&x);
    side_disconnect(&r, &a, &b);
}

/* The descriptor is readable as long as there is something to read. */
static void pollable(void **state)
{
    struct rig r;
    struct side a;
    struct side b;
    erlang_msg msg;
    ei_x_buff x;
    struct pollfd p;

    side_connected(&r, &a, &b, state);
    ei_x_new(&x);
    p = (struct pollfd){.fd = a.fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 30), 0);
    side_send_number(&b, 1);
    side_send_number(&b, 2);
    assert_int_equal(poll(&p, 1, RIG_PATIENCE_MS), 1);
    assert_int_equal(ei_xreceive_msg(a.fd, &msg, &x), ERL_MSG);
    assert_int_equal(poll(&p, 1, RIG_PATIENCE_MS), 1);
    assert_int_equal(ei_xreceive_msg(a.fd, &msg, &x), ERL_MSG);
    assert_int_equal(side_decode_number(&x), 2);
    assert_int_equal(poll(&p, 1, 30), 0);
    /* The end shows, too. */
    assert_int_equal(ei_close_connection(b.fd), 0);
    b.fd = -1;
    assert_int_equal(poll(&p, 1, RIG_PATIENCE_MS), 1);
    assert_int_equal(ei_xreceive_msg(a.fd, &msg, &x), ERL_ERROR);
    assert_int_equal(erl_errno, EIO);
    assert_int_equal(ei_reg_send(&a.ec, a.fd, (char[]){"x"}, x.buff, x.index), ERL_ERROR);
    ei_x_free(&x);
    side_disconnect(&r, &a, &b);
}

/* A buffer of a fixed size, as ei_receive_msg has it; and one that is too small. */
static void static_buffer(void **state)
{
    struct rig r;
    struct side a;
    struct side b;
    char mem[64];
    ei_x_buff small = {.buff = mem, .buffsz = sizeof(mem)};
    ei_x_buff x;
    erlang_msg msg;

    side_connected(&r, &a, &b, state);
    side_send_number(&b, 77);
    assert_int_equal(ei_receive_msg(a.fd, &msg, &small), ERL_MSG);
    assert_int_equal(side_decode_number(&small), 77);
    ei_x_new_with_version(&x);
    ei_x_encode_binary(&x, (char[500]){0}, 500);
    side_send_term(&b, "sink", &x);
    assert_int_equal(ei_receive_msg(a.fd, &msg, &small), ERL_ERROR);
    assert_int_equal(erl_errno, EMSGSIZE);
    ei_x_free(&x);
    side_disconnect(&r, &a, &b);
}

struct bulk {
    struct side *s;
    size_t size;
    int n;
    uint64_t sum;
    int failed;
};

static void *receive_bulk(void *arg)
{
    struct bulk *k = arg;
    erlang_msg msg;
    ei_x_buff x;

    ei_x_new(&x);
    for (int i = 0; i < k->n && !k->failed; i++) {
        int index = 0;
        int version;
        int type;
        int size = 0;
        x.index = 0;
        if (ei_xreceive_msg(k->s->fd, &msg, &x) != ERL_MSG ||
            ei_decode_version(x.buff, &index, &version) != 0 ||
            ei_get_type(x.buff, &index, &type, &size) != 0 || (size_t)size != k->size) {
            k->failed = 1;
            break;
        }
        for (int at = x.index - size; at < x.index; at += 997) {
            k->sum += (uint8_t)x.buff[at];
        }
    }
    ei_x_free(&x);
    return NULL;
}

static void send_bulk(struct side *from, struct side *to, size_t size, int n)
{
    char *body = malloc(size);
    struct bulk k = {.s = to, .size = size, .n = n};
    uint64_t sum = 0;
    ei_x_buff x;
    pthread_t t;

    assert_non_null(body);
    for (size_t i = 0; i < size; i++) {
        body[i] = (char)(i * 2654435761u >> 13);
    }
    for (size_t at = 0; at < size; at += 997) {
        sum += (uint8_t)body[at];
    }
    ei_x_new_with_version(&x);
    ei_x_encode_binary(&x, body, (int)size);
    assert_int_equal(pthread_create(&t, NULL, receive_bulk, &k), 0);
    for (int i = 0; i < n; i++) {
        side_send_term(from, "sink", &x);
    }
    assert_int_equal(pthread_join(t, NULL), 0);
    assert_int_equal(k.failed, 0);
    assert_true(k.sum == sum * (uint64_t)n);
    ei_x_free(&x);
    free(body);
}

static void large_terms(void **state)
{
    struct rig r;
    struct side a;
    struct side b;

    side_connected(&r, &a, &b, state);
    send_bulk(&a, &b, 1000 * 1000, 40);
    send_bulk(&b, &a, 100u * 1000u * 1000u, 2);
    side_disconnect(&r, &a, &b);
}

/* What a peer sends when nobody reads is bounded, and a sender with a timeout is told. */
static void nobody_reads(void **state)
{
    struct rig r;
    struct side a;
    struct side b;
    static char body[100000];
    struct bp_peer_info info;
    ei_x_buff x;
    long sent = 0;
    long got = 0;
    erlang_msg msg;
    ei_x_buff in;

    side_connected(&r, &a, &b, state);
    ei_x_new_with_version(&x);
    ei_x_encode_binary(&x, body, sizeof(body));
    while (ei_reg_send_tmo(&a.ec, a.fd, (char[]){"sink"}, x.buff, x.index, 2000) == 0) {
        sent++;
        assert_true(sent < 1000);
    }
    assert_int_equal(erl_errno, ETIMEDOUT);
    assert_true(sent > 20);
    assert_int_equal(bp_node_peer_info(b.x->n, bp_ei_peer(b.x->n, b.fd), &info, sizeof(info)), 0);
    assert_true(info.recv_queue < 80u * 1024u * 1024u);
    /* All that was taken arrives. */
    ei_x_new(&in);
    for (got = 0; got < sent; got++) {
        assert_int_equal(ei_xreceive_msg_tmo(b.fd, &msg, &in, RIG_PATIENCE_MS), ERL_MSG);
    }
    ei_x_free(&in);
    ei_x_free(&x);
    side_disconnect(&r, &a, &b);
}

static void refusals(void **state)
{
    struct rig r;
    struct side a;
    struct side b;
    uint64_t began;
    int fd;

    side_connected(&r, &a, &b, state);
    /* Not found. */
    fd = bp_ei_connect(&a.ec, a.x->n, "nowhere@127.0.0.1", 2000);
    assert_true(fd < 0);
    assert_int_equal(erl_errno, EHOSTUNREACH);
    /* Nobody there. */
    fd = bp_ei_connect(&a.ec, a.x->n, "nobody@127.0.0.1", 20000);
    assert_true(fd < 0);
    assert_int_equal(erl_errno, ECONNREFUSED);
    /* Itself. */
    assert_true(bp_ei_connect(&a.ec, a.x->n, NAME_A, 2000) < 0);
    /* A key that is not the pinned one. */
    assert_int_equal(ei_close_connection(a.fd), 0);
    a.fd = -1;
    rig_pin(&r, a.x, b.x, false);
    fd = bp_ei_connect(&a.ec, a.x->n, NAME_B, 20000);
    assert_true(fd < 0);
    assert_int_equal(erl_errno, EACCES);
    assert_non_null(strstr(bp_error_detail(), "barrel-p2p trust add"));
    /* Nobody accepts: libei's own handshake has its timeout. */
    rig_pin(&r, a.x, b.x, true);
    began = rig_now_ms();
    fd = bp_ei_connect(&a.ec, a.x->n, NAME_B, 200);
    assert_true(fd < 0);
    assert_true(rig_now_ms() - began >= 200);
    side_disconnect(&r, &a, &b);
}

static void cookie(void **state)
{
    struct rig r = {.state = state};
    struct side a;
    struct side b;
    pthread_t t;
    int fd;

    side_prepare(&r, &b, 'b');
    side_begin(&b, true);
    side_prepare(&r, &a, 'a');
    rig_knows(a.x, b.x);
    assert_int_equal(bp_node_set_text(a.x->n, BP_OPT_COOKIE, "another"), 0);
    side_begin(&a, false);
    assert_int_equal(pthread_create(&t, NULL, side_accept_one, &b), 0);
    fd = bp_ei_connect(&a.ec, a.x->n, NAME_B, RIG_PATIENCE_MS);
    assert_true(fd < 0);
    assert_int_equal(erl_errno, EIO);
    assert_non_null(strstr(bp_error_detail(), "cookie"));
    assert_int_equal(rig_counter(b.x, "refused_bad_cookie"), 1);
    /* ei_accept was not told, and waits for the next one. */
    assert_int_equal(ei_close_connection(b.listen_fd), 0);
    b.listen_fd = -1;
    assert_int_equal(pthread_join(t, NULL), 0);
    assert_true(b.fd < 0);
    side_disconnect(&r, &a, &b);
}

/* It has several addresses, but is one node: libei's handshake is not begun again in its middle. */
static void cookie_at_two_addresses(void **state)
{
    struct rig r = {.state = state};
    struct side a;
    struct side b;

    side_prepare(&r, &b, 'b');
    side_begin(&b, true);
    side_prepare(&r, &a, 'a');
    rig_knows(a.x, b.x);
    assert_int_equal(bp_node_discover_static(a.x->n, NAME_B, "127.0.0.2", b.x->port), 0);
    assert_int_equal(bp_node_set_text(a.x->n, BP_OPT_COOKIE, "another"), 0);
    side_begin(&a, false);
    assert_true(bp_ei_connect(&a.ec, a.x->n, NAME_B, RIG_PATIENCE_MS) < 0);
    assert_int_equal(erl_errno, EIO);
    assert_non_null(strstr(bp_error_detail(), "cookie"));
    assert_int_equal(rig_counter(b.x, "refused_bad_cookie"), 1);
    side_disconnect(&r, &a, &b);
}

/* An address and a port, and whoever is there. */
static void host_and_port(void **state)
{
    struct rig r = {.state = state};
    struct side a;
    struct side b;
    pthread_t t;

    side_prepare(&r, &b, 'b');
    side_begin(&b, true);
    side_prepare(&r, &a, 'a');
    side_begin(&a, false);
    assert_int_equal(pthread_create(&t, NULL, side_accept_one, &b), 0);
    a.fd = ei_connect_host_port(&a.ec, (char[]){"127.0.0.1"}, b.x->port);
    assert_true(a.fd >= 0);
    assert_int_equal(pthread_join(t, NULL), 0);
    assert_true(b.fd >= 0);
    side_send_number(&a, 3);
    side_disconnect(&r, &a, &b);
}

/* A program that closes the descriptor without libei. */
static void closed_behind_our_back(void **state)
{
    struct rig r;
    struct side a;
    struct side b;
    erlang_msg msg;
    ei_x_buff x;

    side_connected(&r, &a, &b, state);
    ei_x_new(&x);
    assert_int_equal(close(a.fd), 0);
    a.fd = -1;
    assert_int_equal(ei_xreceive_msg_tmo(b.fd, &msg, &x, RIG_PATIENCE_MS), ERL_ERROR);
    assert_int_equal(erl_errno, EIO);
    ei_x_free(&x);
    side_disconnect(&r, &a, &b);
}

static void *receive_for_ever(void *arg)
{
    struct side *s = arg;
    erlang_msg msg;
    ei_x_buff x;
    int rc;

    ei_x_new(&x);
    rc = ei_xreceive_msg(s->fd, &msg, &x);
    ei_x_free(&x);
    return rc == ERL_ERROR ? NULL : arg;
}

/* The peer goes while somebody waits. */
static void gone_meanwhile(void **state)
{
    struct rig r;
    struct side a;
    struct side b;
    pthread_t t;
    void *bad;

    side_connected(&r, &a, &b, state);
    assert_int_equal(pthread_create(&t, NULL, receive_for_ever, &a), 0);
    assert_int_equal(ei_close_connection(b.fd), 0);
    b.fd = -1;
    assert_int_equal(pthread_join(t, &bad), 0);
    assert_null(bad);
    side_disconnect(&r, &a, &b);
}

/* Who waits for a descriptor that is closed comes back. */
static void closed_while_waiting(void **state)
{
    struct rig r;
    struct side a;
    struct side b;
    pthread_t t[2];
    void *bad;

    side_connected(&r, &a, &b, state);
    assert_int_equal(pthread_create(&t[0], NULL, receive_for_ever, &a), 0);
    assert_int_equal(pthread_create(&t[1], NULL, side_accept_one, &b), 0);
    for (int waits = 0; waits < 2;) {
        waits = 0;
        (void)pthread_mutex_lock(&a.x->n->lock);
        waits += a.x->n->users > 0;
        (void)pthread_mutex_unlock(&a.x->n->lock);
        (void)pthread_mutex_lock(&b.x->n->lock);
        waits += b.x->n->users > 0;
        (void)pthread_mutex_unlock(&b.x->n->lock);
    }
    assert_int_equal(ei_close_connection(a.fd), 0);
    assert_int_equal(pthread_join(t[0], &bad), 0);
    assert_null(bad);
    assert_int_equal(ei_close_connection(b.listen_fd), 0);
    assert_int_equal(pthread_join(t[1], NULL), 0);
    assert_true(b.fd < 0);
    a.fd = b.listen_fd = -1;
    side_disconnect(&r, &a, &b);
}

/* Without descriptors there is an error, and with them again it goes on. */
static void no_descriptors(void **state)
{
    struct rig r;
    struct side a;
    struct side b;
    struct rlimit old;
    struct rlimit few;
    erlang_msg msg;
    ei_x_buff x;
    int fd;

    side_connected(&r, &a, &b, state);
    ei_x_new(&x);
    fd = dup(a.fd);
    assert_true(fd >= 0);
    (void)close(fd);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    few = (struct rlimit){.rlim_cur = (rlim_t)fd, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    fd = bp_ei_connect(&a.ec, a.x->n, "nobody@127.0.0.1", 5000);
    assert_true(fd < 0);
    assert_int_equal(erl_errno, EMFILE);
    assert_non_null(strstr(bp_error_detail(), "descriptor"));
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    fd = bp_ei_connect(&a.ec, a.x->n, "nobody@127.0.0.1", 5000);
    assert_true(fd < 0);
    assert_int_equal(erl_errno, ECONNREFUSED);
    side_send_number(&a, 4);
    assert_int_equal(ei_xreceive_msg(b.fd, &msg, &x), ERL_MSG);
    assert_int_equal(side_decode_number(&x), 4);
    ei_x_free(&x);
    side_disconnect(&r, &a, &b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(there_and_back), TMPDIR_TEST(timeouts),
        TMPDIR_TEST(pollable),       TMPDIR_TEST(static_buffer),
        TMPDIR_TEST(large_terms),    TMPDIR_TEST(nobody_reads),
        TMPDIR_TEST(refusals),       TMPDIR_TEST(cookie),
        TMPDIR_TEST(host_and_port),  TMPDIR_TEST(closed_behind_our_back),
        TMPDIR_TEST(gone_meanwhile), TMPDIR_TEST(closed_while_waiting),
        TMPDIR_TEST(no_descriptors), TMPDIR_TEST(cookie_at_two_addresses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
