/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directories in which nodes look for endpoint files without any configuration, as
 * barrel_p2p_discovery_file.erl has them: `data/discovery` in the working directory, and the
 * runtime directories of this user on this machine.
 */
#ifndef BP_DISCOVERY_DIRS_H
#define BP_DISCOVERY_DIRS_H

#include "io/files.h"

#define BP_DISCOVERY_DIR      "data/discovery"
#define BP_DISCOVERY_DIRS_MAX 3u
#define BP_DISCOVERY_DIR_CAP  4096u

struct bp_discovery_dirs {
    size_t n;
    char at[BP_DISCOVERY_DIRS_MAX][BP_DISCOVERY_DIR_CAP]; /* absolute */
};

struct bp_discovery_dirs_config {
    const char *dir;     /* NULL: BP_DISCOVERY_DIR, and the runtime directories as well */
    const char *runtime; /* NULL: as `dir` says; else one directory instead of the usual ones */
    bool no_runtime;     /* none at all */
    bool make;           /* creates the runtime directories, mode 0700 */
};

/*
 * The directories in the order in which to ask them. Runtime directories
 * ($XDG_RUNTIME_DIR/barrel_p2p and /tmp/barrel_p2p-<uid>) are used only if they are directories,
 * not links, of this user with mode 0700: else another user could say where nodes are. `*err` holds
 * a warning about one that is there and is not like that. BP_E_INVALID: a path is too long;
 * BP_E_SYSTEM: the working directory is not known.
 */
int bp_discovery_dirs(const struct bp_discovery_dirs_config *config, struct bp_discovery_dirs *out,
                      struct bp_errbuf *err) BP_MUST_CHECK;

#endif
