/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a node's identity lives and how it gets one. An identity belongs to one node name: the
 * first node that uses a default directory owns it (`node.name` says which), others get
 * `nodes/<node>/` inside it, so that two nodes started in one place never share a key.
 */
#ifndef BP_IDENTITY_DIR_H
#define BP_IDENTITY_DIR_H

#include "io/files.h"

#define BP_KEY_FILE   "node.key"  /* 32-byte Ed25519 seed, mode 0600 */
#define BP_PUB_FILE   "node.pub"  /* its public key, 32 bytes, mode 0644 */
#define BP_OWNER_FILE "node.name" /* name of the node that owns the directory, one line */

struct bp_identity;

/*
 * The directory that the node called `node_name` has to use, in `out` (`cap` bytes).
 *
 *   explicit_dir         `dir` as it is: the user named it, it may be shared and is never
 * redirected no owner yet         `dir`, claimed for this node; keys that are there already come
 * with it owner is this node   `dir` owner is another     `dir`/nodes/<node_name>, created with
 * mode 0700 cannot be claimed    `dir` as it is (read-only, or no permission) nonode@nohost
 * `dir`/nodes/nonode@nohost: a node without a name owns nothing
 *
 * Two nodes that claim at the same moment: one wins, the other reads its name.
 * Errors: BP_E_INVALID (name, path too long), BP_E_FILE (`node.name` is garbage or unreadable, a
 * directory cannot be made), with a sentence in `err`. `out` is empty then.
 */
int bp_identity_dir_resolve(const char *dir, bool explicit_dir, const char *node_name, char *out,
                            size_t cap, struct bp_errbuf *err) BP_MUST_CHECK;

/*
 * The same for those who only look: nothing is claimed or created. The directory that comes out may
 * not exist.
 */
int bp_identity_dir_find(const char *dir, bool explicit_dir, const char *node_name, char *out,
                         size_t cap, struct bp_errbuf *err) BP_MUST_CHECK;

/*
 * Loads the key pair of `key_dir`, or makes one (and the directory) where there is none. The public
 * file is written again if only the private one is there. `*out` is the caller's, until
 * bp_identity_del. Of several processes that start at once in an empty directory one makes the key,
 * the others load it. On success `err` may carry a warning: other users can read the key, or the
 * public file could not be written.
 * Errors: BP_E_KEYPAIR (the two files do not belong together), BP_E_FILE (unreadable, wrong size,
 * private file missing), BP_E_NOMEM, BP_E_CRYPTO; always with a sentence.
 */
int bp_identity_load_or_create(const char *key_dir, struct bp_identity **out,
                               struct bp_errbuf *err) BP_MUST_CHECK;

#endif
