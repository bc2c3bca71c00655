/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replacing a node's key or certificate by a new one, in an order in which a crash at any point
 * leaves files that a node can start with. What was there is copied to
 * `<dir>/backups/YYYYMMDDTHHMMSSZ/` before, every file with mode 0600 in directories of mode 0700.
 */
#ifndef BP_ROTATE_H
#define BP_ROTATE_H

#include "auth/succession.h"
#include "io/files.h"

#define BP_SUCCESSION_FILE                                                                         \
    "node.succession" /* the chain (bp_succession_encode), then its last key */

/*
 * A new identity for the node `node` in `key_dir`. With `announce` the old key signs the new one,
 * for peers that have the old one pinned; without, earlier announcements go too: nobody who has an
 * old key pinned will accept the new one. Without a key one is made. `backup` (`cap` bytes) is
 * where the old files are, "" if there were none. Errors: BP_E_AGAIN (another process is at it),
 * BP_E_INVALID (name, path), and those of bp_identity_load_or_create; then the old identity is
 * still in force.
 */
int bp_rotate_identity(const char *key_dir, const char *node, bool announce, char *backup,
                       size_t cap, struct bp_errbuf *err) BP_MUST_CHECK;

/*
 * Puts the pair into `key_dir` (which is created) in place of whatever is there: for tools that
 * provision nodes. Errors: BP_E_KEYPAIR (`pub` is not the seed's), BP_E_AGAIN, BP_E_FILE,
 * BP_E_NOMEM, BP_E_CRYPTO.
 */
int bp_rotate_install(const char *key_dir, const uint8_t seed[static BP_KEY_LEN],
                      const uint8_t pub[static BP_KEY_LEN], struct bp_errbuf *err) BP_MUST_CHECK;

/*
 * The succession of the key `pub` in `key_dir`; empty if there is none. A file that is of no use
 * for this key and node name is an empty one too, and `err` carries a warning.
 */
void bp_rotate_succession(const char *key_dir, const char *node,
                          const uint8_t pub[static BP_KEY_LEN], struct bp_succession *out,
                          struct bp_errbuf *err);

/*
 * A new pair of TLS certificate (common name `cn`) and key. The old pair must be one that
 * was generated (bp_tls_cred_generated): what the user provided is never replaced. Without files a
 * pair is made. `backup` as above.
 * Errors: BP_E_AGAIN, BP_E_STATE (not a generated certificate), and those of bp_tls_files_ensure.
 */
int bp_rotate_cert(const char *cert_file, const char *key_file, const char *cn, char *backup,
                   size_t cap, struct bp_errbuf *err) BP_MUST_CHECK;

/*
 * The same whatever is there, also a pair that the user provided, one half of a pair, or garbage:
 * for a user who said so.
 */
int bp_rotate_cert_any(const char *cert_file, const char *key_file, const char *cn, char *backup,
                       size_t cap, struct bp_errbuf *err) BP_MUST_CHECK;

#endif
