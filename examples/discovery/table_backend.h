/* SPDX-License-Identifier: Apache-2.0 */
/* Example: a discovery backend in C, for programs that use the chain of core/discovery. */
#ifndef TABLE_BACKEND_H
#define TABLE_BACKEND_H

#include "discovery/chain.h"

#define TABLE_MAX 64u

/* Nodes that the program itself knows, say from its own configuration. Zeroed is empty. */
struct table {
    unsigned n;
    struct {
        char node[BP_NODE_NAME_MAX + 1];
        struct bp_endpoints at;
    } rows[TABLE_MAX];
};

/* Pass it to bp_chain_add together with a struct table. */
extern const struct bp_backend table_backend;

#endif
