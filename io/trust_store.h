/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Public keys of other nodes: `<key_dir>/trusted/<node>.pub`, 32 raw bytes each (WIRE 3.3). Files
 * are read at each call, so that a change by hand counts at the next handshake. No state, no locks:
 * every function may be called from any thread and any process.
 *
 * `key_dir` is what bp_identity_dir_resolve gave. A node name that is not valid is BP_E_INVALID and
 * never becomes a path; so is one of more than 251 bytes, for which there is no file name.
 */
#ifndef BP_TRUST_STORE_H
#define BP_TRUST_STORE_H

#include "io/files.h"

#define BP_TRUST_DIR "trusted" /* in the key directory */
#define BP_TRUST_MAX 100000u   /* entries that a scan looks at */

/* Puts a warning in `err` if other users may pin keys; keeps one that is there. Never fails. */
void bp_trust_warn_loose(const char *key_dir, struct bp_errbuf *err);

/* The file of a pin, there or not, in `out`. BP_E_INVALID. */
int bp_trust_path(const char *key_dir, const char *node, char *out, size_t cap,
                  struct bp_errbuf *err) BP_MUST_CHECK;

/* The key pinned for `node`. BP_E_NOT_FOUND; BP_E_FILE (unreadable, wrong size); BP_E_INVALID. */
int bp_trust_lookup(const char *key_dir, const char *node, uint8_t key[static BP_KEY_LEN],
                    struct bp_errbuf *err) BP_MUST_CHECK;

/*
 * A node that has this key pinned, in `node` (BP_NODE_NAME_MAX + 1 bytes; may be NULL). Of several
 * it is the first in the directory. Unusable files are passed over. BP_E_NOT_FOUND; BP_E_LIMIT
 * (more than BP_TRUST_MAX entries and not among those looked at); BP_E_FILE (the directory cannot
 * be read).
 */
int bp_trust_find_by_key(const char *key_dir, const uint8_t key[static BP_KEY_LEN], char *node,
                         struct bp_errbuf *err) BP_MUST_CHECK;

/* Pins the key, replacing another. The directory is created. BP_E_FILE, BP_E_INVALID. */
int bp_trust_store(const char *key_dir, const char *node, const uint8_t key[static BP_KEY_LEN],
                   struct bp_errbuf *err) BP_MUST_CHECK;

/*
 * Pins the key if none is: 0 if it is pinned now or was already; BP_E_MISMATCH if the node has
 * another one, which stays. Of several callers at once one wins. BP_E_FILE, BP_E_INVALID.
 */
int bp_trust_store_if_new(const char *key_dir, const char *node,
                          const uint8_t key[static BP_KEY_LEN],
                          struct bp_errbuf *err) BP_MUST_CHECK;

/*
 * Pins the key in place of `old`: 0 also if it is pinned already; BP_E_MISMATCH if by now the node
 * has neither of them pinned, which stays so. BP_E_FILE, BP_E_INVALID.
 */
int bp_trust_replace(const char *key_dir, const char *node, const uint8_t old[static BP_KEY_LEN],
                     const uint8_t key[static BP_KEY_LEN], struct bp_errbuf *err) BP_MUST_CHECK;

/* Forgets the key. BP_E_NOT_FOUND, BP_E_FILE, BP_E_INVALID. */
int bp_trust_delete(const char *key_dir, const char *node, struct bp_errbuf *err) BP_MUST_CHECK;

/* One pinned key; all pointers are valid during the call only. */
struct bp_trust_entry {
    const char *node;
    const uint8_t *key; /* NULL: the file cannot be used, `problem` says why */
    const char *problem;
    int64_t changed_at; /* Unix seconds */
};

/* False ends the listing. */
typedef bool bp_trust_list_fn(void *ctx, const struct bp_trust_entry *entry);

/*
 * Calls `fn` for each pinned key, in no order; other files are passed over. A directory that does
 * not exist is an empty list. BP_E_LIMIT after BP_TRUST_MAX entries; BP_E_FILE.
 */
int bp_trust_list(const char *key_dir, bp_trust_list_fn *fn, void *ctx,
                  struct bp_errbuf *err) BP_MUST_CHECK;

#endif
