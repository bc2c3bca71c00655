/* SPDX-License-Identifier: Apache-2.0 */
/* A C node that talks through libei, in a rig. */
#include "cnode/ei_side.h"

#include <stdio.h>

void side_prepare(struct rig *r, struct side *s, char letter)
{
    *s = (struct side){.listen_fd = -1, .fd = -1};
    s->x = rig_node(r, rig_name(letter));
}

void side_begin(struct side *s, bool listening)
{
    int port = 0;

    rig_start(s->x, false);
    if (bp_ei_init(&s->ec, s->x->n, 0) != 0) {
        fail_msg("%s", bp_error_detail());
    }
    s->x->threaded = true;
    if (listening) {
        s->listen_fd = ei_listen(&s->ec, &port, 16);
        assert_true(s->listen_fd >= 0);
        s->x->port = bp_node_port(s->x->n);
        assert_int_equal(port, s->x->port);
    }
}

void side_begin_dialler(struct rig *r, struct side *s, char letter, const struct side *to)
{
    side_prepare(r, s, letter);
    rig_knows(s->x, to->x);
    side_begin(s, false);
}

void side_end(struct side *s)
{
    if (s->fd >= 0) {
        assert_int_equal(ei_close_connection(s->fd), 0);
    }
    if (s->listen_fd >= 0) {
        assert_int_equal(ei_close_connection(s->listen_fd), 0);
    }
}

/* --- a server in a thread ------------------------------------------------ */

void *side_accept_one(void *arg)
{
    struct side *s = arg;
    ErlConnect conp;

    s->fd = ei_accept_tmo(&s->ec, s->listen_fd, &conp, RIG_PATIENCE_MS);
    if (s->fd >= 0) {
        (void)snprintf(s->accepted, sizeof(s->accepted), "%s", conp.nodename);
    }
    return NULL;
}

void side_connected(struct rig *r, struct side *a, struct side *b, void **state)
{
    pthread_t t;

    *r = (struct rig){.state = state};
    side_prepare(r, b, 'b');
    side_begin(b, true);
    side_begin_dialler(r, a, 'a', b);
    assert_int_equal(pthread_create(&t, NULL, side_accept_one, b), 0);
    a->fd = bp_ei_connect(&a->ec, a->x->n, NAME_B, RIG_PATIENCE_MS);
    if (a->fd < 0) {
        fail_msg("%d: %s", erl_errno, bp_error_detail());
    }
    assert_int_equal(pthread_join(t, NULL), 0);
    assert_true(b->fd >= 0);
}

void side_disconnect(struct rig *r, struct side *a, struct side *b)
{
    side_end(a);
    side_end(b);
    rig_end(r);
}

void side_send_term(struct side *s, const char *name, ei_x_buff *x)
{
    char copy[64];

    snprintf(copy, sizeof(copy), "%s", name);
    assert_int_equal(ei_reg_send(&s->ec, s->fd, copy, x->buff, x->index), 0);
}

void side_send_number(struct side *s, long n)
{
    ei_x_buff x;

    ei_x_new_with_version(&x);
    ei_x_encode_tuple_header(&x, 2);
    ei_x_encode_atom(&x, "number");
    ei_x_encode_long(&x, n);
    side_send_term(s, "sink", &x);
    ei_x_free(&x);
}

long side_decode_number(const ei_x_buff *x)
{
    char atom[MAXATOMLEN];
    int index = 0;
    int version;
    int arity;
    long n = -1;

    assert_int_equal(ei_decode_version(x->buff, &index, &version), 0);
    assert_int_equal(ei_decode_tuple_header(x->buff, &index, &arity), 0);
    assert_int_equal(ei_decode_atom(x->buff, &index, atom), 0);
    assert_int_equal(ei_decode_long(x->buff, &index, &n), 0);
    return n;
}

long side_receive_number(struct side *s)
{
    erlang_msg msg;
    ei_x_buff x;
    long n;

    ei_x_new(&x);
    assert_int_equal(ei_xreceive_msg_tmo(s->fd, &msg, &x, RIG_PATIENCE_MS), ERL_MSG);
    n = side_decode_number(&x);
    ei_x_free(&x);
    return n;
}
