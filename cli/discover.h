/* SPDX-License-Identifier: Apache-2.0 */
/* How a subcommand finds nodes: a sys.config (--config), then the command line, then what a node in
 * this directory would do without either. */
#ifndef CLI_DISCOVER_H
#define CLI_DISCOVER_H

#include "cli/config.h"

#include "discovery/static_backend.h"
#include "io/discovery_dirs.h"
#include "io/dns_backend.h"
#include "io/file_backend.h"
#include "io/finder.h"

enum cli_backend {
    CLI_STATIC,
    CLI_FILES,
    CLI_DNS,
    CLI_OTHER /* a module that only a node can ask */
};

struct cli_discover {
    struct cli_config *cfg; /* NULL: no --config */
    size_t n;
    enum cli_backend order[BP_CHAIN_BACKENDS_MAX];
    char names[BP_CHAIN_BACKENDS_MAX][MAXATOMLEN_UTF8]; /* "static", ..., or a module */
    struct bp_static_nodes nodes;
    struct bp_static_node *rows;
    struct bp_discovery_dirs dirs;
    const char *dir_ptrs[BP_DISCOVERY_DIRS_MAX];
    struct bp_file_backend_config files;
    struct bp_dns_backend_config dns;
    struct bp_finder_config finder;
    char dns_domain[256];
    char dns_servers[1024];
    char own_host[BP_NODE_NAME_MAX + 1];
};

/* CLI_OK, or a status that has been reported; cli_discover_free in either case. `d` must not move
 * afterwards. */
int cli_discover_load(const struct cli *c, struct cli_discover *d);
void cli_discover_free(struct cli_discover *d);

/* An entry of `nodes`: {Node, {Host, Port}} or {Node, Host, Port}. */
bool cli_static_entry(struct cli_value v, struct bp_static_node *out);

/* Nanoseconds of a clock that never goes back. */
bp_time cli_now(void);

#endif
