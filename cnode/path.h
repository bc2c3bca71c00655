/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of libbarrel_p2p: the way of one connection's datagrams where it is not the node's socket.
 * relay.c keeps what the program asked for, path.c opens it and moves datagrams, feed.c is the
 * program's end where its own functions are the way.
 *
 *   RESOLVING --the relay's address--> OPENING --> OPEN
 */
#ifndef BP_CN_PATH_H
#define BP_CN_PATH_H

#include "cnode/cn.h"

#include "io/relay_path.h"
#include "io/resolver.h"

#include "barrel_p2p/relay.h"

#define CN_PATH_NAME_MAX 320u /* for people */

/* What the program asked for: in the table, and of each connection that was dialled so. Guarded by
 * the node's lock. */
struct cn_relay {
    unsigned refs;
    enum bp_relay_kind kind;
    char *host;
    uint16_t port;
    char *user;
    char *password;
    int fd;      /* our duplicate, -1: none */
    int user_fd; /* what the program calls it */
    struct bp_relay_functions functions;
    void *ctx;
    uint32_t mtu;
};

struct cn_relay_row {
    struct cn_relay_row *next;
    char name[BP_NODE_NAME_MAX + 1];
    struct cn_relay *relay;
};

enum cn_path_state { CN_PATH_RESOLVING, CN_PATH_OPENING, CN_PATH_OPEN };

struct cn_path {
    struct cn_peer *p;
    struct cn_relay *relay; /* NULL: a socket of the path's own, towards the peer */
    enum cn_path_state state;
    struct bp_addr remote; /* of QUIC */
    uint64_t question;     /* of the resolver */
    bool asked_v6;
    struct bp_relay_path r;
    struct bp_relay_end *end; /* FUNCTIONS */
    int fd;                   /* FUNCTIONS: its eventfd; -1: none yet */
    struct bp_addr local;     /* its name for QUIC */
    struct bp_udp_tx tx;
    bool want_out;  /* EPOLLOUT is on */
    uint8_t *stash; /* what a full socket did not take */
    struct bp_tx_run stash_runs[BP_TX_RUNS + 1];
    unsigned n_stash;
};

/* --- relay.c ------------------------------------------------------------- */

/* A checked copy of what the program says. BP_E_INVALID, BP_E_LIMIT, BP_E_NOMEM, all with detail.
 */
int cn_relay_new(struct cn_relay **out, const struct bp_relay *from) BP_MUST_CHECK;
struct cn_relay *cn_relay_ref(struct cn_relay *r);
void cn_relay_unref(struct cn_relay *r);
/* The table's, borrowed; NULL: none. */
struct cn_relay *cn_relay_of(struct bp_node *n, const char *name);
void cn_relays_free(struct bp_node *n);

/* --- feed.c -------------------------------------------------------------- */

/* `*fd` is readable when there is something to take, or the program has room; the caller's. */
int cn_feed_new(struct bp_relay_end **out, int *fd) BP_MUST_CHECK;
void cn_feed_del(struct bp_relay_end *e);
/* The next datagram of at most `cap` bytes; false: there is none, and `fd` is not readable. */
bool cn_feed_take(struct bp_relay_end *e, uint8_t *out, size_t cap, size_t *len);

/* --- path.c -------------------------------------------------------------- */

/*
 * Begins to open a path through `relay` (referenced; NULL: none) to `remote`. 0: it is open. 1:
 * that takes time, and cn_path_opened is called. Errors: as bp_relay_path_open, with
 * bp_error_detail, and there is no path.
 */
int cn_path_new(struct cn_path **out, struct cn_peer *p, struct cn_relay *relay,
                const struct bp_addr *remote) BP_MUST_CHECK;
/* Closes it. NULL is a no-op. */
void cn_path_del(struct cn_path *path);
/* For people: "SOCKS proxy 192.0.2.1:1080", "" without relay. Valid until the thread's next call.
 */
const char *cn_path_name(const struct cn_path *path);
/* Sends; what the path has no room for it keeps. */
void cn_path_send(struct cn_path *path, const uint8_t *buf, struct bp_tx_run *runs, unsigned n);
/* Nothing more may be sent now; when that changes the peer is made dirty. */
bool cn_path_blocked(const struct cn_path *path);
/* A refusal of its relay's says nothing about the peer. */
void cn_path_refused(struct cn_path *path, bp_time now);
/* Something of a peer's paths is ready. `side`: a proxy's connection. */
void cn_path_ready(struct bp_node *n, bp_peer_id id, bool side, uint32_t events);
/* The resolver has answers. */
void cn_path_resolved(struct bp_node *n);
void cn_path_resolver_free(struct bp_node *n);

/* --- move.c -------------------------------------------------------------- */

/* The paths of a peer: 0 in use, 1 to which it moves, then those that were left; NULL: none. Those
 * behind a NULL at 2 or more are NULL as well. */
#define CN_PATHS_MAX 6u
struct cn_path *cn_move_path(const struct cn_peer *p, unsigned i);
/* Sends the runs for the path to which it moves; the number of those that are left. */
unsigned cn_move_divert(struct cn_peer *p, const uint8_t *buf, struct bp_tx_run *runs, unsigned n);
/* As cn_path_opened, of the path to which it moves. */
void cn_move_opened(struct cn_path *path, int rc, const char *text, bp_time now);
/* After anything happened to a peer that is up. */
void cn_move_settle(struct cn_peer *p, bp_time now);
bp_time cn_move_deadline(const struct cn_peer *p);
void cn_move_free(struct cn_peer *p);
bool cn_moving(const struct cn_peer *p);

/* --- find.c -------------------------------------------------------------- */

/* A path that takes time is open (rc 0), or cannot be opened: `text` says why. */
void cn_path_opened(struct cn_path *path, int rc, const char *text, bp_time now);

#endif
