/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The secret of a node's stateless resets (RFC 9000, 10.3): what lets a node that was killed and is
 * back tell its peers that their connection is gone. It has to be the same in the next life.
 *
 * It is derived from the identity key, so that nothing more has to be kept. A rotation writes the
 * secret that is in force to BP_RESET_FILE, which counts from then on: peers have connections that
 * were made under it. A rotation that says that the old key may be stolen takes the file away,
 * since who has that key can compute what is in it.
 */
#ifndef BP_RESET_SECRET_H
#define BP_RESET_SECRET_H

#include "auth/identity.h"
#include "io/files.h"

#define BP_RESET_FILE       "node.reset" /* BP_RESET_SECRET_LEN bytes, mode 0600 */
#define BP_RESET_SECRET_LEN 32u

/*
 * The secret of the node whose identity in `key_dir` is `id`, in `out`; the caller wipes it. A file
 * that cannot be used is no error: the derived secret is taken, and `err` (may be NULL) carries a
 * warning. Errors: BP_E_NOMEM, BP_E_CRYPTO.
 */
int bp_reset_secret(const char *key_dir, const struct bp_identity *id,
                    uint8_t out[static BP_RESET_SECRET_LEN], struct bp_errbuf *err) BP_MUST_CHECK;

/*
 * Writes the secret that is in force to the file, before `id` is replaced by another identity.
 * Errors: as above, BP_E_FILE.
 */
int bp_reset_secret_keep(const char *key_dir, const struct bp_identity *id,
                         struct bp_errbuf *err) BP_MUST_CHECK;

/* Takes the file away: from now on the secret is the present identity's own. */
void bp_reset_secret_forget(const char *key_dir);

#endif
