/* SPDX-License-Identifier: Apache-2.0 */
/* ei_accept beside peers that are slow, silent or gone, and the words of what fails. */
#include "cnode/ei_side.h"

#include "cnode/cn.h"

#include <errno.h>
#include <netinet/in.h>
#include <time.h>
#include <unistd.h>

#define N_SILENT 6u

static void says(const char *what)
{
    if (strstr(bp_error_detail(), what) == NULL) {
        fail_msg("'%s' is not in: %s", what, bp_error_detail());
    }
}

/* --- peers that stop in the middle --------------------------------------- */

/* Authenticated, and no word of libei's handshake yet. */
static void *dial_only(struct side *s)
{
    const ei_socket_callbacks *cb = bp_ei_callbacks();
    struct sockaddr_in nowhere = {.sin_family = AF_INET};
    void *ctx = NULL;

    assert_int_equal(cb->socket(&ctx, s->x->n), 0);
    assert_int_equal(bp_ei_next_dial(s->x->n, NAME_B), 0);
    if (cb->connect(ctx, &nowhere, sizeof(nowhere), RIG_PATIENCE_MS) != 0) {
        fail_msg("%s", bp_error_detail());
    }
    assert_int_equal(bp_ei_next_dial(s->x->n, NULL), 0);
    return ctx;
}

/* Says its name, hears the challenge, and does not answer. */
static void say_name_only(struct side *s, void *ctx)
{
    const ei_socket_callbacks *cb = bp_ei_callbacks();
    struct bp_shake shake;
    uint8_t buf[2 + BP_SHAKE_OUT_MAX];
    const uint8_t *msg;
    size_t msg_len;
    ssize_t len;

    assert_int_equal(bp_shake_init(&shake, false, bp_node_name(s->x->n), RIG_COOKIE, 1), 0);
    assert_true(bp_shake_poll(&shake, &msg, &msg_len));
    buf[0] = (uint8_t)(msg_len >> 8);
    buf[1] = (uint8_t)msg_len;
    memcpy(buf + 2, msg, msg_len);
    len = (ssize_t)msg_len + 2;
    assert_int_equal(cb->write(ctx, (const char *)buf, &len, RIG_PATIENCE_MS), 0);
    assert_int_equal(len, msg_len + 2);
    len = 5; /* its length and "sok" */
    assert_int_equal(cb->read(ctx, (char *)buf, &len, RIG_PATIENCE_MS), 0);
    assert_memory_equal(buf, "\0\3sok", (size_t)len);
}

static void silent_peers_keep_nobody_waiting(void **state)
{
    struct rig r = {.state = state};
    struct side a;
    struct side b;
    struct side c;
    void *silent[N_SILENT];
    pthread_t t;

    side_prepare(&r, &b, 'b');
    /* One that is silent would take all the patience of ei_accept. */
    assert_int_equal(
        bp_node_set_number(b.x->n, BP_OPT_SETUP_TIMEOUT, (uint64_t)2 * RIG_PATIENCE_MS), 0);
    side_begin(&b, true);
    side_begin_dialler(&r, &c, 'c', &b);
    side_begin_dialler(&r, &a, 'a', &b);
    for (unsigned i = 0; i < N_SILENT; i++) {
        silent[i] = dial_only(&c);
        if (i % 2 == 1) {
            say_name_only(&c, silent[i]);
        }
    }
    assert_int_equal(pthread_create(&t, NULL, side_accept_one, &b), 0);
    a.fd = bp_ei_connect(&a.ec, a.x->n, NAME_B, RIG_PATIENCE_MS);
    if (a.fd < 0) {
        fail_msg("%d: %s", erl_errno, bp_error_detail());
    }
    assert_int_equal(pthread_join(t, NULL), 0);
    assert_true(b.fd >= 0);
    assert_string_equal(b.accepted, NAME_A);
    side_send_number(&a, 5);
    assert_int_equal(side_receive_number(&b), 5);
    for (unsigned i = 0; i < N_SILENT; i++) {
        assert_int_equal(bp_ei_callbacks()->close(silent[i]), 0);
    }
    side_end(&c);
    side_end(&a);
    side_end(&b);
    rig_end(&r);
}

static bool all_refused(void *ctx)
{
    return rig_counter(ctx, "refused_timeout") >= N_SILENT;
}

/* Each has its deadline, whether the program accepts or not; and a peer that nobody accepts, too.
 */
static void silent_peers_end(void **state)
{
    struct rig r = {.state = state};
    struct side b;
    struct side c;
    void *silent[N_SILENT];
    char byte;
    ssize_t len = 1;

    side_prepare(&r, &b, 'b');
    assert_int_equal(bp_node_set_number(b.x->n, BP_OPT_SETUP_TIMEOUT, 1500), 0);
    side_begin(&b, true);
    side_begin_dialler(&r, &c, 'c', &b);
    for (unsigned i = 0; i + 1 < N_SILENT; i++) {
        silent[i] = dial_only(&c);
    }
    assert_true(bp_ei_connect(&c.ec, c.x->n, NAME_B, RIG_PATIENCE_MS) < 0);
    says("did not accept the connection in time");
    silent[N_SILENT - 1] = NULL;
    rig_until(&r, all_refused, b.x);
    assert_int_equal(bp_ei_callbacks()->read(silent[0], &byte, &len, RIG_PATIENCE_MS), ECONNRESET);
    for (unsigned i = 0; i + 1 < N_SILENT; i++) {
        assert_int_equal(bp_ei_callbacks()->close(silent[i]), 0);
    }
    side_end(&c);
    side_end(&b);
    rig_end(&r);
}

static bool has_no_peer(void *ctx)
{
    const struct rig_node *x = ctx;
    bp_peer_id id;

    return bp_node_peers(x->n, &id, 1) == 0;
}

/* A peer that goes while it waits to be accepted is never seen. */
static void gone_before_it_is_accepted(void **state)
{
    struct rig r = {.state = state};
    struct side a;
    struct side b;
    struct side c;
    pthread_t t;

    side_prepare(&r, &b, 'b');
    side_begin(&b, true);
    side_begin_dialler(&r, &c, 'c', &b);
    side_begin_dialler(&r, &a, 'a', &b);
    /* Nobody accepts yet: libei gives up, which closes the connection. */
    assert_true(bp_ei_connect(&c.ec, c.x->n, NAME_B, 300) < 0);
    rig_until(&r, has_no_peer, b.x);
    assert_int_equal(pthread_create(&t, NULL, side_accept_one, &b), 0);
    a.fd = bp_ei_connect(&a.ec, a.x->n, NAME_B, RIG_PATIENCE_MS);
    if (a.fd < 0) {
        fail_msg("%d: %s", erl_errno, bp_error_detail());
    }
    assert_int_equal(pthread_join(t, NULL), 0);
    assert_true(b.fd >= 0);
    assert_string_equal(b.accepted, NAME_A);
    side_end(&c);
    side_end(&a);
    side_end(&b);
    rig_end(&r);
}

/* --- words --------------------------------------------------------------- */

static void failures_have_words(void **state)
{
    struct rig r;
    struct side a;
    struct side b;
    ErlConnect conp;
    erlang_msg msg;
    ei_x_buff x;
    char bad[] = "\0\0\0\2no";
    ssize_t len = sizeof(bad) - 1;
    void *ctx = NULL;

    side_connected(&r, &a, &b, state);
    ei_x_new(&x);
    /* accept */
    assert_true(ei_accept_tmo(&b.ec, b.listen_fd, &conp, 1) < 0);
    assert_int_equal(erl_errno, ETIMEDOUT);
    says("nobody has connected in time");
    /* connect */
    assert_true(bp_ei_connect(&a.ec, a.x->n, "nowhere@127.0.0.1", 2000) < 0);
    says("nowhere@127.0.0.1");
    assert_true(bp_ei_connect(&a.ec, a.x->n, "nobody@127.0.0.1", 20000) < 0);
    says("nothing listens at the peer's address");
    assert_true(bp_ei_connect(&a.ec, a.x->n, "no name", 2000) < 0);
    says("no name");
    assert_true(bp_ei_connect(&a.ec, a.x->n, NAME_B, 200) < 0); /* nobody accepts */
    says("time");
    /* receive */
    assert_int_equal(ei_xreceive_msg_tmo(a.fd, &msg, &x, 1), ERL_ERROR);
    assert_int_equal(erl_errno, ETIMEDOUT);
    says("nothing has come from the peer in time");
    /* send: to nobody, what is no message, and to a peer that has gone */
    assert_int_equal(bp_ei_callbacks()->socket(&ctx, a.x->n), 0);
    assert_int_equal(bp_ei_callbacks()->write(ctx, bad, &len, 1), ENOTCONN);
    says("there is no connection");
    assert_int_equal(bp_ei_callbacks()->accept(&ctx, bad, &(int){sizeof(bad)}, 1), EINVAL);
    says("does not listen");
    assert_int_equal(bp_ei_callbacks()->close(ctx), 0);
    assert_int_equal(ei_close_connection(b.fd), 0);
    b.fd = -1;
    assert_int_equal(ei_xreceive_msg_tmo(a.fd, &msg, &x, RIG_PATIENCE_MS), ERL_ERROR);
    assert_int_equal(erl_errno, EIO);
    says("the peer closed the connection");
    assert_true(ei_reg_send(&a.ec, a.fd, (char[]){"sink"}, (char[]){"\x83\x6a"}, 2) < 0);
    assert_int_equal(erl_errno, EIO);
    says("the peer closed the connection");
    ei_x_free(&x);
    side_end(&a);
    side_end(&b);
    rig_end(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(silent_peers_keep_nobody_waiting),
        TMPDIR_TEST(silent_peers_end),
        TMPDIR_TEST(gone_before_it_is_accepted),
        TMPDIR_TEST(failures_have_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
