/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Discovery from a table in memory: what `{quic, [{dist, [{nodes, Entries}]}]}` is for Erlang
 * nodes.
 *
 *     static const struct bp_static_node rows[] = {
 *         {"a@host1", {"192.0.2.1", 4433}},
 *         {"b@host2", {"host2.example.org", 4433}},
 *     };
 *     struct bp_static_nodes nodes = {.n = 2, .at = rows};
 *     bp_chain_add(chain, &bp_static_backend, &nodes);
 */
#ifndef BP_STATIC_BACKEND_H
#define BP_STATIC_BACKEND_H

#include "discovery/chain.h"

/* One address of a node; a node may have several rows, which are tried in their order. */
struct bp_static_node {
    char node[BP_NODE_NAME_MAX + 1];
    /* A name, an IPv4 or an IPv6 address, the latter with or without brackets; a port that is not
     * 0. */
    struct bp_endpoint at;
};

/* The context of the backend. The rows are borrowed and may change between two calls. */
struct bp_static_nodes {
    size_t n;
    const struct bp_static_node *at;
};

/*
 * Answers from inside lookup. Rows that cannot be used are left out; BP_E_INVALID where that leaves
 * none for the node. No more than BP_ENDPOINTS_MAX rows of a node count.
 */
extern const struct bp_backend bp_static_backend;

/*
 * Reads "NODE=HOST:PORT", as command lines have it ("a@h=192.0.2.1:4433", "a@h=[::1]:4433"). A host
 * with several colons needs its brackets. BP_E_INVALID for anything else; `*out` is zeroed then.
 */
int bp_static_node_parse(const char *text, struct bp_static_node *out) BP_MUST_CHECK;

/*
 * Copies what a row says, without brackets. False if it is of no use: no "name@host", no host, no
 * port.
 */
bool bp_static_node_endpoint(const struct bp_static_node *row, struct bp_endpoint *out);

#endif
