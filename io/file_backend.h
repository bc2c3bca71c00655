/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Discovery by directories of `<node>.endpoint` files (io/endpoint_files.h), as a backend of the
 * chain. A mount may hang for minutes, so a thread for each directory touches the files
 * (io/file_worker.h): lookups are answered when all are done, but for those that have hung for a
 * second already, and whoever publishes, withdraws or lists waits no longer than the limit.
 *
 * Typical use:
 *
 *     bp_file_backend_new(&files, &config);
 *     bp_chain_add(chain, &bp_file_backend_ops, files);
 *     ... when bp_file_backend_fd(files) is readable: bp_file_backend_run(files, chain)
 *     ... and bp_chain_tick
 *
 * One thread at a time may call these functions and the chain's.
 */
#ifndef BP_FILE_BACKEND_H
#define BP_FILE_BACKEND_H

#include "discovery/chain.h"
#include "io/endpoint_files.h"

#define BP_FILE_BACKEND_DIRS 4u
#define BP_FILE_BACKEND_OURS 8u /* nodes that are published */

struct bp_file_backend;

struct bp_file_backend_config {
    const char *const *dirs; /* copied; asked in this order, written to all */
    size_t n_dirs;           /* 1..BP_FILE_BACKEND_DIRS */
    enum bp_endpoint_format format;
    bp_time limit; /* for publish, withdraw and list; 0: 2 s */
    /* Told about files that cannot be used and what fails, with the directory, from inside
     * bp_file_backend_run or the call that waited; copied; `say` NULL: nobody is. */
    struct bp_endpoint_complaint complaint;
};

/* BP_E_NOMEM, BP_E_SYSTEM (no descriptor), BP_E_INVALID (directories). */
int bp_file_backend_new(struct bp_file_backend **out,
                        const struct bp_file_backend_config *config) BP_MUST_CHECK;
/*
 * Does not wait for file operations that hang: threads end when these come back. The chain must be
 * gone. NULL is a no-op.
 */
void bp_file_backend_del(struct bp_file_backend *b);

/* Readable when bp_file_backend_run has something to do. Not to be closed. */
int bp_file_backend_fd(const struct bp_file_backend *b);

/* Gives the chain what was found meanwhile. */
void bp_file_backend_run(struct bp_file_backend *b, struct bp_chain *c);

/*
 * The backend; its context is a struct bp_file_backend.
 *
 * lookup: the addresses of all directories together, each once. A file that cannot be used, or a
 * directory that hangs, is an error (BP_E_FILE, BP_E_TIMEOUT) only where no other one knows the
 * node. BP_E_LIMIT: too many at once.
 * publish: 0 where one directory has taken it, else the first one's error. BP_E_TIMEOUT.
 * withdraw: removes the files of a node that was published here, where they still say what was
 * written: others belong to another life of that node. BP_E_NOT_FOUND: it was not.
 * list: what all directories know; 0 where one could be read, else as publish.
 */
extern const struct bp_backend bp_file_backend_ops;

#endif
