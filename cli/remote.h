/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommands that talk to nodes: the command as a hidden C node. */
#ifndef CLI_REMOTE_H
#define CLI_REMOTE_H

#include "cli/cli.h"

#include <barrel_p2p/ei.h>
#include <jansson.h>

#define CLI_TIMEOUT_MS 5000u /* without --timeout */

struct cli_remote {
    struct cli *c;
    struct bp_node *node;
    int claim; /* keeps our name */
    char self[BP_NAME_MAX + 1];
    const char *peer;        /* the node that is asked; borrowed */
    const char *cookie_from; /* where our cookie is from, for people */
    const char *late;        /* what to say where the time is over; NULL: the usual */
    uint64_t deadline;       /* monotonic milliseconds */
    ei_cnode ec;
    int fd;           /* of libei, -1: none */
    bool relay_knows; /* where the node is: nobody else has to */
};

/*
 * Makes our node for the question to `peer` (borrowed): its name, which nobody else on this machine
 * has while we run, identity, cookie, discovery. CLI_OK, or a status that has been reported; either
 * way cli_remote_del frees it.
 */
int cli_remote_new(struct cli *c, const char *peer, struct cli_remote *r);
void cli_remote_del(struct cli_remote *r);

/* Finds the node and gives its addresses, and the cookie, to our node. CLI_OK, or a status that has
 * been reported. */
int cli_remote_find(struct cli_remote *r);

/* Sets the relay of --relay. CLI_OK, or a status that has been reported. */
int cli_remote_relay(struct cli_remote *r);

/* Connects through libei; r->fd. CLI_OK, or a status that has been reported. */
int cli_remote_connect(struct cli_remote *r);

/*
 * Calls Module:Function(Args...) on the node; `args` is an encoded list without a version byte.
 * CLI_OK: the result is in `x` (ei_x_new; the caller's to free in any case) from `*at` on. Also
 * where the function failed there: then `*failed` is true and the result is the reason.
 * Else a status that has been reported.
 */
int cli_remote_call(struct cli_remote *r, const char *module, const char *function,
                    const ei_x_buff *args, ei_x_buff *x, int *at, bool *failed);

/* The result of a call that failed there, reported: CLI_REMOTE. */
int cli_remote_failed(struct cli_remote *r, const char *what, ei_x_buff *x, int at);

/* Milliseconds that are left, 0: none. */
unsigned cli_remote_left(const struct cli_remote *r);

/* Reports an error of libbarrel_p2p and its sentence ("": the usual one). */
int cli_remote_report(struct cli_remote *r, int error, const char *text);

/* The same of a connection that did not come up. */
int cli_remote_not_up(struct cli_remote *r, int error, const char *text);

/* What a pair of addresses says about the path to the peer, as members of `o`. CLI_OK, or a
 * reported status. */
int cli_remote_path(struct cli_remote *r, bp_peer_id peer, json_t *o);

/* A name as Erlang has it, quoted or not, in Latin-1 as libei wants it; CLI_USAGE is reported. */
int cli_remote_atom(const struct cli *c, const char *what, const char *text, char *out, size_t cap);

/* Monotonic time. */
uint64_t cli_now_us(void);

int cli_ping(struct cli *c);
int cli_rpc(struct cli *c);
int cli_send(struct cli *c);
int cli_peers(struct cli *c);

#endif
