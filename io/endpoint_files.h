/* SPDX-License-Identifier: Apache-2.0 */
/* A directory of `<node>.endpoint` files: where nodes that share it listen (WIRE 9). */
#ifndef BP_ENDPOINT_FILES_H
#define BP_ENDPOINT_FILES_H

#include "discovery/endpoint.h"
#include "io/files.h"

#define BP_ENDPOINT_FILES_MAX 10000u /* that one listing looks at, and that the cache knows */

/*
 * What was read, by path; a file is read again when its time, size or inode is another one. Zeroed
 * is empty. At BP_ENDPOINT_FILES_MAX entries all are forgotten. One thread at a time.
 */
struct bp_endpoint_cache {
    struct bp_endpoint_cached **buckets;
    size_t n_buckets;
    size_t n;
    uint64_t hits;
    uint64_t reads;
    bool is_local; /* the directory is on a file system of this machine, which is this device: */
    uint32_t dev_major;
    uint32_t dev_minor;
};

void bp_endpoint_cache_free(struct bp_endpoint_cache *c);

/* What is wrong with a file; called once for each content of it. Borrowed for the call. */
struct bp_endpoint_complaint {
    void (*say)(void *ctx, const char *file, const char *text);
    void *ctx;
};

/*
 * The addresses of `node`. BP_E_NOT_FOUND: no file. BP_E_FILE: it cannot be read or used.
 * BP_E_INVALID: not a node name, path too long. BP_E_NOMEM. `cache` and `complaint` may be NULL.
 */
int bp_endpoint_file_read(struct bp_endpoint_cache *cache, const char *dir, const char *node,
                          struct bp_endpoints *out, const struct bp_endpoint_complaint *complaint,
                          struct bp_errbuf *err) BP_MUST_CHECK;

/*
 * The same without ever waiting, for a directory that bp_endpoint_file_read has read with this
 * cache, on a local file system: 0 or BP_E_NOT_FOUND is what it would say. Nothing is taken from a
 * mount or a disk: what the kernel does not know by heart, or is new, gives BP_E_AGAIN.
 */
int bp_endpoint_file_known(struct bp_endpoint_cache *cache, const char *dir, const char *node,
                           struct bp_endpoints *out) BP_MUST_CHECK;

/* Creates or replaces the file atomically, mode 0644, not synced: a node writes it at each start.
 * Makes the directory. Errors as above. */
int bp_endpoint_file_write(const char *dir, const char *node, const struct bp_endpoints *eps,
                           enum bp_endpoint_format format, struct bp_errbuf *err) BP_MUST_CHECK;

/* Removes the file; 0 also if there is none. BP_E_INVALID, BP_E_FILE. */
int bp_endpoint_file_delete(const char *dir, const char *node, struct bp_errbuf *err) BP_MUST_CHECK;

/*
 * Calls `each` for every usable file, at most BP_ENDPOINT_FILES_MAX; others are complained about.
 * BP_E_NOT_FOUND: no such directory. BP_E_FILE: it cannot be read.
 */
int bp_endpoint_files_list(struct bp_endpoint_cache *cache, const char *dir,
                           void (*each)(void *ctx, const char *node,
                                        const struct bp_endpoints *eps),
                           void *ctx, const struct bp_endpoint_complaint *complaint,
                           struct bp_errbuf *err) BP_MUST_CHECK;

#endif
