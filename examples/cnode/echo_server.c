/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A C node that answers: the server of OTP's tutorial "Erlang Interface, C Nodes", over QUIC.
 * Whatever comes as {call, From, Message} goes back to From as {cnode, Message}.
 *
 *     cc echo_server.c $(pkg-config --cflags --libs barrel_p2p_ei) -o echo_server
 *     ./echo_server c1@myhost
 *
 * and in an Erlang node of the same user in the same directory:
 *
 *     {any, 'c1@myhost'} ! {call, self(), hello}, receive {cnode, hello} -> ok end.
 */
#include <barrel_p2p/barrel_p2p.h>
#include <barrel_p2p/ei.h>

#include <poll.h>
#include <stdio.h>
#include <string.h>

#define PEERS_MAX 64

static int fail(const char *what)
{
    fprintf(stderr, "echo_server: %s: %s\n", what, bp_error_detail());
    return 1;
}

/* Answers one message; `m` holds it from its version byte on. */
static void answer(int fd, ei_x_buff *m)
{
    char atom[MAXATOMLEN];
    erlang_pid from;
    ei_x_buff reply;
    int at = 0;
    int version;
    int arity;

    if (ei_decode_version(m->buff, &at, &version) != 0 ||
        ei_decode_tuple_header(m->buff, &at, &arity) != 0 || arity != 3 ||
        ei_decode_atom(m->buff, &at, atom) != 0 || strcmp(atom, "call") != 0 ||
        ei_decode_pid(m->buff, &at, &from) != 0 || at >= m->index) {
        return; /* not for us */
    }
    if (ei_x_new_with_version(&reply) != 0) {
        return;
    }
    if (ei_x_encode_tuple_header(&reply, 2) == 0 && ei_x_encode_atom(&reply, "cnode") == 0 &&
        ei_x_append_buf(&reply, m->buff + at, m->index - at) == 0) {
        (void)ei_send(fd, &from, reply.buff, reply.index);
    }
    (void)ei_x_free(&reply);
}

/* Receives what is there; -1 where the peer has gone. */
static int serve(int fd, ei_x_buff *m)
{
    erlang_msg msg;
    int got;

    m->index = 0;
    got = ei_xreceive_msg_tmo(fd, &msg, m, 1000);
    if (got == ERL_MSG && (msg.msgtype == ERL_REG_SEND || msg.msgtype == ERL_SEND)) {
        answer(fd, m);
    }
    return got == ERL_ERROR && erl_errno != ETIMEDOUT ? -1 : 0;
}

int main(int argc, char **argv)
{
    struct pollfd p[1 + PEERS_MAX];
    struct bp_node *node;
    ei_cnode ec;
    ei_x_buff m;
    nfds_t n = 1;
    int port = 0;

    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: echo_server NAME@HOST [COOKIE]\n");
        return 2;
    }
    if (bp_node_new(&node, argv[1]) != 0 ||
        (argc == 3 && bp_node_set_text(node, BP_OPT_COOKIE, argv[2]) != 0) ||
        bp_node_start(node) != 0 || bp_ei_init(&ec, node, 0) != 0) {
        return fail(argv[1]);
    }
    p[0] = (struct pollfd){.fd = ei_listen(&ec, &port, PEERS_MAX), .events = POLLIN};
    if (p[0].fd < 0 || ei_x_new(&m) != 0) {
        return fail("listen");
    }
    printf("%s listens on UDP port %d\n", argv[1], port);
    fflush(stdout);
    while (poll(p, n, -1) >= 0) {
        for (nfds_t i = n - 1; i > 0; i--) { /* from the end: gaps are filled from there */
            if (p[i].revents != 0 && serve(p[i].fd, &m) != 0) {
                (void)ei_close_connection(p[i].fd);
                p[i] = p[--n];
            }
        }
        if (p[0].revents != 0 && n < 1 + PEERS_MAX) {
            ErlConnect peer;
            int fd = ei_accept_tmo(&ec, p[0].fd, &peer, 1000);
            if (fd >= 0) {
                printf("%s is here\n", peer.nodename);
                fflush(stdout);
                p[n++] = (struct pollfd){.fd = fd, .events = POLLIN};
            }
        }
    }
    bp_node_del(node);
    return 1;
}
