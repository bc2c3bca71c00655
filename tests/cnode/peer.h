/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A C node for the Erlang suites, as a program of its own: commands on standard input, what happens
 * on standard output, a line each.
 *
 *   cnode_peer ei|loop NAME COOKIE DIR
 *
 *   knows NODE PORT       (before start) NODE listens there on 127.0.0.1
 *   strict                (before start) trust = strict
 *   start                 -> started
 *   listen                -> listening PORT
 *   connect NODE          -> up NODE | failed CODE TEXT
 *   idle NODE             the same, and nothing is read (ei only)
 *   read NODE             now it is (ei only)
 *   rpc NODE M F          -> result TERM | failed ..   (M:F(), ei only)
 *   send NODE NAME WORD   {Word, Pid} to the process NAME
 *   count NODE            -> count N, of messages {n, I} that came in order, or wrong I
 *   info NODE             -> info KEY=VALUE ..
 *   counter NAME          -> counter VALUE
 *   relay NODE udp HOST PORT [MTU] | socks5 HOST PORT [USER PASSWORD] | fd PATH | functions PORT |
 *     none                -> relay set; fd: a socket that is connected to PATH; functions: those of
 *                         the program, which has a UDP socket to PORT of this machine
 *   migrate NODE ..       -> moved CODE TEXT; as relay, or direct
 *   close NODE            -> down NODE ..
 *   quit                  -> bye
 *
 * Besides: up NODE, down NODE TEXT. A message {echo, From, Term} is answered with {cnode, Term} to
 * the pid From, {n, I} is counted, {size, From, Binary} is answered with {cnode, Size}.
 */
#ifndef BP_TESTS_CNODE_PEER_H
#define BP_TESTS_CNODE_PEER_H

#include "barrel_p2p/barrel_p2p.h"

#include <ei.h>

struct tally {
    long next; /* of {n, I} */
    long wrong;
};

/* Says a line. From any thread. */
void peer_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void peer_die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/*
 * A payload (with version): true if `answer` (which was initialised) is to be sent to `to`.
 */
bool peer_answer(struct tally *t, const char *payload, int len, erlang_pid *to, ei_x_buff *answer);
void peer_info(struct bp_node *n, bp_peer_id id);

/* The two programs: return at "quit". */
void peer_ei(struct bp_node *n);
void peer_loop(struct bp_node *n);
/* The commands that both have; false: not one of them. */
bool peer_command(struct bp_node *n, const char *line);
bool peer_relay_command(struct bp_node *n, const char *line);

#endif
