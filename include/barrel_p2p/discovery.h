/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a node finds others: a chain of backends is asked in order, and the first that knows a node
 * wins. A backend that fails or takes longer than two seconds is left out for this question.
 *
 * Before bp_node_start a program adds backends in the order in which they are to be asked. A node
 * to which none was added has what an Erlang node has: endpoint files of this directory and this
 * user's machine-wide ones, then DNS.
 */
#ifndef BARREL_P2P_DISCOVERY_H
#define BARREL_P2P_DISCOVERY_H

#include <barrel_p2p/error.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct bp_node;

/*
 * Adds fixed entries: `node` ("b@host") listens at `ip` (an IPv4 or IPv6 literal) and `port`. May
 * be called several times, also for one node, whose addresses are then tried in this order. The
 * first call puts the backend "static" into the chain. All strings are copied.
 * Errors: BP_ERROR_INVALID, BP_ERROR_LIMIT (8 addresses of a node, 4096 nodes), BP_ERROR_NOMEM,
 * BP_ERROR_STATE (the node was started).
 */
BP_API int bp_node_discover_static(struct bp_node *node, const char *peer, const char *ip,
                                   uint16_t port);

/*
 * Adds the endpoint files of a directory, `<node>.endpoint` each, as all nodes write and read them.
 * A listening node puts its own there and takes it away when it closes. A second call adds another
 * directory, asked together with the first. `dir` NULL: `data/discovery` below BP_OPT_DIR and this
 * user's directories on this machine, as Erlang nodes have them. The files are touched by a thread
 * for each directory, since a mount may hang; the threads block all signals and call nobody.
 * Errors: BP_ERROR_INVALID, BP_ERROR_LIMIT (4 directories, 8 backends), BP_ERROR_NOMEM,
 * BP_ERROR_STATE (started, or NULL together with other directories).
 */
BP_API int bp_node_discover_files(struct bp_node *node, const char *dir);

/*
 * Adds DNS: the SRV records `_erlang-dist._quic.<domain>` if `domain` is not NULL, then the host
 * part of the node's name, with `port` (0: 4433). `servers` as "192.0.2.53:53,[::1]:53", NULL:
 * those of /etc/resolv.conf. Once. Errors: BP_ERROR_LIMIT, BP_ERROR_NOMEM, BP_ERROR_STATE.
 */
BP_API int bp_node_discover_dns(struct bp_node *node, const char *domain, uint16_t port,
                                const char *servers);

/* --- a backend of one's own ---------------------------------------------- */

/* Where one answer goes. */
struct bp_answer_to;

/* An address: a literal and a port. */
struct bp_address {
    const char *ip; /* "192.0.2.1", "2001:db8::1" */
    uint16_t port;
};

/*
 * All but `name` and `lookup` may be NULL. The functions are called by whoever runs the node (the
 * caller of bp_node_process, or the I/O thread), with the node locked: they must not block, and
 * must call no bp_node_ function of the same node. Strings are borrowed for the call.
 */
struct bp_backend_ops {
    const char *name; /* for logs; borrowed for the node's life */
    /*
     * Where is `peer`, whose host part is `host`? Returns 0 if it has answered, or will answer,
     * with bp_node_answer for `ticket`; BP_ERROR_NOT_FOUND; or another error.
     */
    int (*lookup)(void *ctx, uint64_t ticket, const char *peer, const char *host);
    /* The answer is not wanted any more. */
    void (*cancel)(void *ctx, uint64_t ticket);
    /* This node can be reached there from now on; no longer. 0 or an error. */
    int (*publish)(void *ctx, const char *self, const struct bp_address *at, size_t n);
    int (*withdraw)(void *ctx, const char *self);
};

/*
 * Adds a backend. `ops` is copied; `ctx` is the caller's until bp_node_del has returned.
 * Errors: as bp_node_discover_files.
 */
BP_API int bp_node_discover_with(struct bp_node *node, const struct bp_backend_ops *ops, void *ctx);

/*
 * A backend's answer: `rc` 0 and `n` addresses (1 to 8) in the order in which to try them, or an
 * error. It may be kept for `ttl` seconds, 0: not at all. From any thread, and from inside of
 * `lookup`. An answer that comes too late or twice is ignored.
 */
BP_API void bp_node_answer(struct bp_node *node, uint64_t ticket, int rc,
                           const struct bp_address *at, size_t n, uint32_t ttl);

#ifdef __cplusplus
}
#endif

#endif
