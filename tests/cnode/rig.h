/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several C nodes in one process, on real sockets: driven by one loop, or by their I/O threads.
 * What they tell is kept, so that a test can wait for it.
 */
#ifndef BP_TESTS_CNODE_RIG_H
#define BP_TESTS_CNODE_RIG_H

#include "unit/tmpdir.h"

#include "barrel_p2p/node.h"

#define RIG_NODES       8u
#define RIG_EVENTS      256u
/* Long enough for a busy machine; nothing waits that long unless it fails. */
#define RIG_PATIENCE_MS 30000

struct rig_event {
    struct bp_event ev; /* `data` is a copy, or NULL */
    uint64_t sum;       /* of the bytes of `data` */
};

struct rig_node {
    struct bp_node *n;
    uint16_t port;
    bool threaded;
    bool deaf; /* its events are not taken */
    struct rig_event *events;
    size_t n_events;
    size_t seen; /* by rig_expect */
    uint64_t messages;
    uint64_t bytes;
    bool count_only; /* messages are counted, not kept */
};

struct rig {
    void **state;
    struct rig_node nodes[RIG_NODES];
    unsigned n;
    uint64_t max_queue; /* the largest recv_queue that was seen while a node was deaf */
};

/* A node called `name`, with a directory of its own, that was not started; set options then. */
struct rig_node *rig_node(struct rig *r, const char *name);
/* Starts it, with a cookie if it has none set; `listen`: and it listens. */
void rig_start(struct rig_node *x, bool listen);
/* `x` finds `y` there. Before rig_start(x), after rig_start(y). */
void rig_knows(struct rig_node *x, const struct rig_node *y);
/* As rig_start, and its I/O thread runs it. */
void rig_start_thread(struct rig_node *x, bool listen);
void rig_end(struct rig *r);
/* One node alone; others see it go. */
void rig_stop(struct rig_node *x);

/* Lets all nodes do their work for up to `ms`, or until something happens. */
void rig_turn(struct rig *r, int ms);
/* ... until `done(ctx)`; fails after RIG_PATIENCE_MS. */
#define rig_until(r, done, ...) rig_until_at(__FILE__, __LINE__, #done, r, done, __VA_ARGS__)
void rig_until_at(const char *file, int line, const char *what, struct rig *r,
                  bool (*done)(void *ctx), void *ctx);
/* ... until `x` has got another event of that kind, which is returned; others are passed over. */
#define rig_expect(r, x, kind) rig_expect_at(__FILE__, __LINE__, r, x, kind)
const struct bp_event *rig_expect_at(const char *file, int line, struct rig *r, struct rig_node *x,
                                     enum bp_event_kind kind);
/* ... of a connection that ended with `error`, and whose text has `text` in it (NULL: any). */
const struct bp_event *rig_expect_down(struct rig *r, struct rig_node *x, int error,
                                       const char *text);

/* Dials and waits until both are up. Returns the dialler's connection. */
bp_peer_id rig_connect(struct rig *r, struct rig_node *from, struct rig_node *to);
/* A message with these bytes behind 112, 131. Returns bp_node_send's result. */
int rig_send(struct rig_node *x, bp_peer_id peer, const void *p, size_t len);
uint64_t rig_counter(const struct rig_node *x, const char *name);
/* Where `x` pins `y`'s key. */
const char *rig_trusted(struct rig *r, struct rig_node *x, struct rig_node *y,
                        char out[static PATH_MAX]);
/* Pins `y`'s key, or garbage, for `y`'s name at `x`. */
void rig_pin(struct rig *r, struct rig_node *x, struct rig_node *y, bool right);

/* Names are claimed machine-wide, and other tests run at the same time: "a<pid>@127.0.0.1". */
const char *rig_name(char letter);
#define NAME_A rig_name('a')
#define NAME_B rig_name('b')

#define RIG_COOKIE "rig cookie"

#endif
