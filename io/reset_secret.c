/* SPDX-License-Identifier: Apache-2.0 */
/* The secret of stateless resets: from a file after a rotation, else from the identity key. */
#include "io/reset_secret.h"

#include "base/err.h"

#include <limits.h>
#include <unistd.h>

#define MODE 0600u

static const char cure[] = "delete it; peers that were connected when this node was killed then "
                           "wait for their timeout";

/* Ed25519 signatures are deterministic, and nobody else can make this one. */
static int derive(const struct bp_identity *id, uint8_t out[static BP_RESET_SECRET_LEN])
{
    static const char label[] = "barrel_p2p stateless reset";
    uint8_t sig[BP_SIG_LEN];
    int rc = bp_identity_sign(id, label, sizeof(label), sig);

    if (rc == 0) {
        rc = bp_sha256(sig, sizeof(sig), out);
    }
    bp_wipe(sig, sizeof(sig));
    return rc;
}

int bp_reset_secret(const char *key_dir, const struct bp_identity *id,
                    uint8_t out[static BP_RESET_SECRET_LEN], struct bp_errbuf *err)
{
    char path[PATH_MAX];
    int rc = bp_path_join(key_dir, BP_RESET_FILE, path, sizeof(path), err);

    if (rc == 0) {
        rc = bp_file_read_exact(path, out, BP_RESET_SECRET_LEN, cure, err);
    }
    if (rc == 0) {
        bp_file_warn_loose(path, err);
        return 0;
    }
    if (rc == BP_E_NOT_FOUND) {
        bp_errbuf_reset(err);
    } else if (err != NULL) {
        err->warning = true;
    }
    return derive(id, out);
}

int bp_reset_secret_keep(const char *key_dir, const struct bp_identity *id, struct bp_errbuf *err)
{
    uint8_t secret[BP_RESET_SECRET_LEN];
    char path[PATH_MAX];
    int rc = bp_path_join(key_dir, BP_RESET_FILE, path, sizeof(path), err);

    if (rc != 0) {
        return rc;
    }
    rc = bp_reset_secret(key_dir, id, secret, NULL);
    if (rc == 0) {
        rc = bp_file_write_atomic(path, secret, sizeof(secret), MODE, err);
    } else {
        bp_errbuf_set(err, 0, "cannot compute", path, bp_err_text(rc), "try again");
    }
    bp_wipe(secret, sizeof(secret));
    return rc;
}

void bp_reset_secret_forget(const char *key_dir)
{
    char path[PATH_MAX];

    if (bp_path_join(key_dir, BP_RESET_FILE, path, sizeof(path), NULL) == 0) {
        (void)unlink(path);
    }
}
