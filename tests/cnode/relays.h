/* SPDX-License-Identifier: Apache-2.0 */
/* What C nodes are dialled through in tests: a thread that forwards between a socket, to which the
 * node sends, and the UDP port of another node. */
#ifndef BP_TESTS_CNODE_RELAYS_H
#define BP_TESTS_CNODE_RELAYS_H

#include "support/t.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct forwarder {
    pthread_t thread;
    int front;
    int back;
    int stop; /* eventfd */
    uint16_t port;
    bool connected;       /* `front` is one end of a pair */
    _Atomic bool mute;    /* takes what comes, and forwards nothing */
    _Atomic bool one_way; /* nothing comes back */
    _Atomic unsigned moved;
    _Atomic unsigned largest; /* from the front */
};

/* A UDP forwarder to 127.0.0.1:`to`, at f->port. */
void forwarder_open(struct forwarder *f, uint16_t to);
/* The same with a pair of AF_UNIX sockets; the descriptor is the caller's. */
int forwarder_open_pair(struct forwarder *f, uint16_t to);
/* Its ports are closed. */
void forwarder_close(struct forwarder *f);

/* A TCP port that takes connections and never says a word; close() ends it. */
int mute_tcp(uint16_t *port);

#endif
