/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A C node that asks: connects to a node by name, sends {call, Self, {hello, I}} to the process
 * `echo` there, and waits for {cnode, {hello, I}}. The server may be echo_server or an Erlang node.
 *
 *     cc echo_client.c $(pkg-config --cflags --libs barrel_p2p_ei) -o echo_client
 *     ./echo_client c2@myhost c1@myhost 3
 */
#include <barrel_p2p/barrel_p2p.h>
#include <barrel_p2p/ei.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS 5000

static int fail(const char *what)
{
    fprintf(stderr, "echo_client: %s: %s\n", what, bp_error_detail());
    return 1;
}

static int ask(ei_cnode *ec, int fd, long number)
{
    ei_x_buff x;
    char echo[] = "echo";
    int rc;

    if (ei_x_new_with_version(&x) != 0) {
        return -1;
    }
    rc = ei_x_encode_tuple_header(&x, 3) != 0 || ei_x_encode_atom(&x, "call") != 0 ||
         ei_x_encode_pid(&x, ei_self(ec)) != 0 || ei_x_encode_tuple_header(&x, 2) != 0 ||
         ei_x_encode_atom(&x, "hello") != 0 || ei_x_encode_long(&x, number) != 0;
    if (rc == 0) {
        rc = ei_reg_send_tmo(ec, fd, echo, x.buff, x.index, TIMEOUT_MS);
    }
    (void)ei_x_free(&x);
    return rc == 0 ? 0 : -1;
}

/* The number in the answer, -1: there is none, or it is something else. */
static long answer(int fd)
{
    char tag[MAXATOMLEN];
    char word[MAXATOMLEN];
    erlang_msg msg;
    ei_x_buff x;
    long number = -1;
    int at = 0;
    int version;
    int outer;
    int inner;

    if (ei_x_new(&x) != 0) {
        return -1;
    }
    if (ei_xreceive_msg_tmo(fd, &msg, &x, TIMEOUT_MS) != ERL_MSG ||
        ei_decode_version(x.buff, &at, &version) != 0 ||
        ei_decode_tuple_header(x.buff, &at, &outer) != 0 || outer != 2 ||
        ei_decode_atom(x.buff, &at, tag) != 0 || strcmp(tag, "cnode") != 0 ||
        ei_decode_tuple_header(x.buff, &at, &inner) != 0 || inner != 2 ||
        ei_decode_atom(x.buff, &at, word) != 0 || strcmp(word, "hello") != 0 ||
        ei_decode_long(x.buff, &at, &number) != 0) {
        number = -1;
    }
    (void)ei_x_free(&x);
    return number;
}

int main(int argc, char **argv)
{
    struct bp_node *node;
    ei_cnode ec;
    long count;
    int fd;

    if (argc < 4 || argc > 5) {
        fprintf(stderr, "usage: echo_client NAME@HOST SERVER@HOST COUNT [COOKIE]\n");
        return 2;
    }
    count = strtol(argv[3], NULL, 10);
    if (bp_node_new(&node, argv[1]) != 0 ||
        (argc == 5 && bp_node_set_text(node, BP_OPT_COOKIE, argv[4]) != 0) ||
        bp_node_start(node) != 0 || bp_ei_init(&ec, node, 0) != 0) {
        return fail(argv[1]);
    }
    fd = bp_ei_connect(&ec, node, argv[2], TIMEOUT_MS);
    if (fd < 0) {
        fail(argv[2]);
        bp_node_del(node);
        return 1;
    }
    for (long i = 1; i <= count; i++) {
        if (ask(&ec, fd, i) != 0 || answer(fd) != i) {
            fail("no answer");
            bp_node_del(node);
            return 1;
        }
        printf("hello %ld\n", i);
    }
    (void)ei_close_connection(fd);
    bp_node_del(node);
    return 0;
}
