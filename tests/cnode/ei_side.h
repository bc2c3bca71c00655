/* SPDX-License-Identifier: Apache-2.0 */
/* A C node that talks through libei, in a rig. */
#ifndef BP_TESTS_CNODE_EI_SIDE_H
#define BP_TESTS_CNODE_EI_SIDE_H

#include "cnode/rig.h"

#include "barrel_p2p/ei.h"

#include <pthread.h>

struct side {
    struct rig_node *x;
    ei_cnode ec;
    int listen_fd; /* -1: it does not listen */
    int fd;        /* its connection, or -1 */
    char accepted[MAXNODELEN + 1];
};

/* Its node, not started: set options then, and whom it knows. */
void side_prepare(struct rig *r, struct side *s, char letter);
void side_begin(struct side *s, bool listening);
/* Both, for one that knows where `to` is. */
void side_begin_dialler(struct rig *r, struct side *s, char letter, const struct side *to);
void side_end(struct side *s);
/* For a thread: accepts one peer as `fd` (negative if that fails), whose name is `accepted`. */
void *side_accept_one(void *arg);
/* Begins a rig with a, which is connected to b. And ends both, and the rig. */
void side_connected(struct rig *r, struct side *a, struct side *b, void **state);
void side_disconnect(struct rig *r, struct side *a, struct side *b);
/* To a registered name. */
void side_send_term(struct side *s, const char *name, ei_x_buff *x);
/* {number, N} with version. */
void side_send_number(struct side *s, long n);
long side_decode_number(const ei_x_buff *x);
/* The number in the next message. */
long side_receive_number(struct side *s);

#endif
