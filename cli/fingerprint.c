/* SPDX-License-Identifier: Apache-2.0 */
/* barrel-p2p fingerprint: of a key file, or of this node. */
#include "cli/cli.h"

#include "base/err.h"

#include <stdio.h>

int cli_fingerprint(struct cli *c)
{
    uint8_t key[BP_KEY_LEN];
    char dir[PATH_MAX];
    char file[PATH_MAX];
    json_t *o;
    int status;
    int rc;

    if (c->n_args == 1) {
        (void)snprintf(file, sizeof(file), "%s", c->args[0]);
        status = cli_read_key(c, c->args[0], true, key);
    } else {
        status = cli_dir(c, CLI_READ, CLI_KEY_DIR, dir);
        if (status == CLI_OK) {
            status = cli_own_key(c, dir, true, key, file);
        }
    }
    if (status != CLI_OK) {
        return status;
    }
    o = json_object();
    rc = o != NULL ? cli_add_key(o, key) : BP_E_NOMEM;
    if (rc == 0 && json_object_set_new(o, "file", json_string(file)) != 0) {
        rc = BP_E_NOMEM;
    }
    if (rc != 0) {
        json_decref(o);
        return cli_fail_rc(c, rc, NULL);
    }
    return cli_print(c, o);
}
