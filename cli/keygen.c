/* SPDX-License-Identifier: Apache-2.0 */
/* barrel-p2p keygen: a node's identity, made before the node is started. */
#include "cli/cli.h"

#include "auth/identity.h"
#include "base/err.h"
#include "io/identity_dir.h"
#include "io/rotate.h"

#include <sys/stat.h>

struct paths {
    char dir[PATH_MAX];
    char key[PATH_MAX];
    char pub[PATH_MAX];
    char backup[PATH_MAX];
};

static int set_paths(const struct cli *c, enum cli_use use, struct paths *p)
{
    struct bp_errbuf err;
    int status = cli_dir(c, use, CLI_KEY_DIR, p->dir);

    if (status != CLI_OK) {
        return status;
    }
    int rc = bp_path_join(p->dir, BP_KEY_FILE, p->key, sizeof(p->key), &err);
    if (rc == 0) {
        rc = bp_path_join(p->dir, BP_PUB_FILE, p->pub, sizeof(p->pub), &err);
    }
    return rc == 0 ? CLI_OK : cli_fail_rc(c, rc, &err);
}

/* Anything counts, a dangling symbolic link too. What cannot be looked at cannot be written. */
static bool present(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

static int show(const struct cli *c, const struct paths *p)
{
    uint8_t pub[BP_KEY_LEN];
    char file[PATH_MAX];
    int rc = 0;
    json_t *o;
    int status = cli_own_key(c, p->dir, true, pub, file);

    if (status != CLI_OK) {
        return status;
    }
    o = json_object();
    if (o != NULL) {
        rc = cli_add_key(o, pub);
    }
    if (o == NULL || rc != 0 || json_object_set_new(o, "key_file", json_string(p->key)) != 0 ||
        json_object_set_new(o, "public_file", json_string(p->pub)) != 0 ||
        json_object_set_new(o, "backup_dir",
                            p->backup[0] != '\0' ? json_string(p->backup) : json_null()) != 0) {
        json_decref(o);
        return cli_fail_rc(c, rc != 0 ? rc : BP_E_NOMEM, NULL);
    }
    return cli_print(c, o);
}

/* Never replaces: a node that starts at this moment makes a key as well, and one of the two counts.
 */
static int make(const struct paths *p, struct bp_errbuf *err)
{
    struct bp_identity *id = NULL;
    int rc = bp_identity_load_or_create(p->dir, &id, err);

    bp_identity_del(id);
    return rc;
}

/* Not announced: whoever replaces a key from outside may not trust the old one any more. */
static int replace(struct paths *p, struct bp_errbuf *err)
{
    return bp_rotate_identity(p->dir, "", false, p->backup, sizeof(p->backup), err);
}

int cli_keygen(struct cli *c)
{
    struct paths p = {0};
    struct bp_errbuf err;
    int status = set_paths(c, CLI_READ, &p); /* claims no directory where nothing is to be done */
    int rc;

    if (status != CLI_OK) {
        return status;
    }
    if (!c->force && (present(p.key) || present(p.pub))) {
        return cli_fail(c, CLI_EXISTS, "exists",
                        "there is an identity in %s already; show it with 'barrel-p2p "
                        "fingerprint', or replace it with --force (nodes that trust the old key "
                        "will refuse the new one)",
                        p.dir);
    }
    status = set_paths(c, CLI_WRITE_SECRETS, &p);
    if (status == CLI_OK) {
        status = cli_check_secret(c, p.key);
    }
    if (status != CLI_OK) {
        return status;
    }
    rc = c->force ? replace(&p, &err) : make(&p, &err);
    if (rc != 0) {
        return cli_fail_rc(c, rc, &err);
    }
    cli_warn_err(&err);
    return show(c, &p);
}
