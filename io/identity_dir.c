/* SPDX-License-Identifier: Apache-2.0 */
/* Ownership of the identity directory, and the node's key pair on disk. */
#include "io/identity_dir.h"

#include "auth/identity.h"
#include "auth/node_name.h"
#include "base/err.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define DIR_MODE       0700u
#define KEY_MODE       0600u
#define PUB_MODE       0644u
#define OWNER_MODE     0644u
#define OWNER_FILE_MAX 1024u
#define RACE_TRIES     10 /* another process may be between two steps of the same work */
#define RACE_PAUSE_NS  (10 * 1000 * 1000)

static void pause_for_other(void)
{
    (void)nanosleep(&(struct timespec){.tv_nsec = RACE_PAUSE_NS}, NULL);
}

/* --- who owns the directory -------------------------------------------------- */

/* The name in `path`. BP_E_AGAIN: empty (not yet written); BP_E_NOT_FOUND; BP_E_FILE. */
static int read_owner(const char *path, char owner[static BP_NODE_NAME_MAX + 1],
                      struct bp_errbuf *err)
{
    uint8_t *text;
    size_t len;
    int rc = bp_file_read(path, OWNER_FILE_MAX, bp_mem_libc(), &text, &len, err);

    if (rc != 0) {
        return rc;
    }
    while (len > 0 && strchr(" \t\r\n", text[len - 1]) != NULL) {
        len--;
    }
    if (len <= BP_NODE_NAME_MAX && bp_node_name_valid((const char *)text, len)) {
        memcpy(owner, text, len);
        owner[len] = '\0';
    } else {
        rc = len == 0 ? BP_E_AGAIN : BP_E_FILE;
        bp_errbuf_set(err, 0, "cannot use", path, "it does not hold a node name",
                      "write the owning node's name into it, or delete it and the next node that "
                      "starts owns the directory");
    }
    bp_mem_libc()->release(NULL, text);
    return rc;
}

static bool cannot_write(const struct bp_errbuf *err)
{
    return err->os_errno == EROFS || err->os_errno == EACCES || err->os_errno == EPERM;
}

/*
 * Finds the owner of `dir`, claiming it for `node_name` (unless `look_only`) if nobody has. `owner`
 * is empty when the directory is not or cannot be claimed and has to be used as it is.
 */
static int find_owner(const char *dir, const char *node_name, bool look_only,
                      char owner[static BP_NODE_NAME_MAX + 1], struct bp_errbuf *err)
{
    char path[PATH_MAX];
    char line[BP_NODE_NAME_MAX + 2];
    int rc = bp_path_join(dir, BP_OWNER_FILE, path, sizeof(path), err);
    int len = snprintf(line, sizeof(line), "%s\n", node_name);

    owner[0] = '\0';
    for (int i = 0; rc == 0 && i < RACE_TRIES; i++) {
        rc = read_owner(path, owner, err);
        if (rc == BP_E_AGAIN) {
            pause_for_other();
            rc = i + 1 < RACE_TRIES ? 0 : BP_E_FILE;
            continue;
        }
        if (rc == BP_E_NOT_FOUND && look_only) {
            bp_errbuf_reset(err);
            return 0;
        }
        if (rc != BP_E_NOT_FOUND) {
            return rc;
        }
        rc = bp_mkdirs(dir, DIR_MODE, err);
        if (rc == 0) {
            rc = bp_file_write_new(path, line, (size_t)len, OWNER_MODE, err);
        }
        if (rc == 0) {
            memcpy(owner, node_name, strlen(node_name) + 1);
            return 0;
        }
        if (rc == BP_E_FILE && cannot_write(err)) {
            bp_errbuf_reset(err);
            return 0;
        }
        rc = rc == BP_E_EXISTS && i + 1 < RACE_TRIES ? 0 : rc;
    }
    return rc == BP_E_EXISTS ? BP_E_FILE : rc;
}

static int own_subdir(const char *dir, const char *node_name, bool look_only, char *out, size_t cap,
                      struct bp_errbuf *err)
{
    char nodes[PATH_MAX];
    int rc = bp_path_join(dir, "nodes", nodes, sizeof(nodes), err);

    if (rc == 0) {
        rc = bp_path_join(nodes, node_name, out, cap, err);
    }
    if (rc == 0 && !look_only) {
        rc = bp_mkdirs(out, DIR_MODE, err);
    }
    return rc;
}

static int resolve(const char *dir, const char *node_name, bool look_only, char *out, size_t cap,
                   struct bp_errbuf *err)
{
    char owner[BP_NODE_NAME_MAX + 1];
    int rc;

    if (bp_node_name_dynamic(node_name, strlen(node_name))) {
        return own_subdir(dir, node_name, look_only, out, cap, err);
    }
    rc = find_owner(dir, node_name, look_only, owner, err);
    if (rc != 0) {
        return rc;
    }
    if (owner[0] != '\0' && strcmp(owner, node_name) != 0) {
        return own_subdir(dir, node_name, look_only, out, cap, err);
    }
    return bp_path_join(dir, "", out, cap, err);
}

static int find_dir(const char *dir, bool explicit_dir, const char *node_name, bool look_only,
                    char *out, size_t cap, struct bp_errbuf *err)
{
    struct bp_errbuf local;
    struct bp_errbuf *e = err != NULL ? err : &local; /* its os_errno decides */
    size_t len;
    int rc = 0;

    bp_errbuf_reset(e);
    if (cap != 0) {
        out[0] = '\0';
    }
    if (dir[0] == '\0') {
        bp_errbuf_set(e, 0, "cannot use the directory", dir, "its name is empty",
                      "configure a directory");
        return BP_E_INVALID;
    }
    if (explicit_dir) {
        rc = bp_path_join(dir, "", out, cap, e);
    } else if (!bp_node_name_valid(node_name, strlen(node_name))) {
        bp_errbuf_set(e, 0, "cannot choose a directory in", dir, "the node name is not valid",
                      "use a name of the form name@host");
        rc = BP_E_INVALID;
    } else {
        rc = resolve(dir, node_name, look_only, out, cap, e);
    }
    if (rc != 0) {
        if (cap != 0) {
            out[0] = '\0';
        }
        return rc;
    }
    for (len = strlen(out); len > 1 && out[len - 1] == '/'; len--) {
        out[len - 1] = '\0';
    }
    return 0;
}

int bp_identity_dir_resolve(const char *dir, bool explicit_dir, const char *node_name, char *out,
                            size_t cap, struct bp_errbuf *err)
{
    return find_dir(dir, explicit_dir, node_name, false, out, cap, err);
}

int bp_identity_dir_find(const char *dir, bool explicit_dir, const char *node_name, char *out,
                         size_t cap, struct bp_errbuf *err)
{
    return find_dir(dir, explicit_dir, node_name, true, out, cap, err);
}

/* --- the key pair ------------------------------------------------------------ */

struct key_paths {
    char key[PATH_MAX];
    char pub[PATH_MAX];
};

static const char cure_key[] = "restore it from a backup, or delete it and node.pub to get a new "
                               "identity (peers that pinned the old one must forget it)";
static const char cure_pub[] = "delete it, it is written again from node.key";

static int read_pair(const struct key_paths *p, uint8_t seed[static BP_KEY_LEN],
                     uint8_t pub[static BP_KEY_LEN], bool *has_pub, struct bp_errbuf *err)
{
    int rc;

    *has_pub = false;
    rc = bp_file_read_exact(p->key, seed, BP_KEY_LEN, cure_key, err);
    if (rc != 0) {
        return rc;
    }
    rc = bp_file_read_exact(p->pub, pub, BP_KEY_LEN, cure_pub, err);
    *has_pub = rc == 0;
    if (rc == BP_E_NOT_FOUND) {
        bp_errbuf_reset(err);
        rc = 0;
    }
    return rc;
}

static int fail_crypto(int rc, const char *path, struct bp_errbuf *err)
{
    if (rc == BP_E_KEYPAIR) {
        bp_errbuf_set(err, 0, "cannot use", path, "node.pub beside it is another key's",
                      "restore the pair from a backup, or delete node.pub, it is written again "
                      "from node.key");
    } else {
        bp_errbuf_set(err, 0, "cannot use", path, bp_err_text(rc), "try again");
    }
    return rc;
}

/* Loads what is on disk. BP_E_NOT_FOUND: there is no private key. */
static int load(const struct key_paths *p, struct bp_identity **out, struct bp_errbuf *err)
{
    uint8_t seed[BP_KEY_LEN];
    uint8_t pub[BP_KEY_LEN];
    bool has_pub;
    int rc = read_pair(p, seed, pub, &has_pub, err);

    if (rc == 0) {
        rc = bp_identity_new(out, seed, has_pub ? pub : NULL, bp_mem_libc());
        if (rc != 0) {
            rc = fail_crypto(rc, p->key, err);
        }
    }
    bp_wipe(seed, sizeof(seed));
    if (rc != 0) {
        return rc;
    }
    if (!has_pub &&
        bp_file_write_atomic(p->pub, bp_identity_pub(*out), BP_KEY_LEN, PUB_MODE, err) != 0 &&
        err != NULL) {
        err->warning = true; /* the node works without; only people read it */
    }
    bp_file_warn_loose(p->key, err);
    return 0;
}

/* Makes a private key. BP_E_EXISTS: another process was faster. */
static int create(const char *key_dir, const struct key_paths *p, struct bp_errbuf *err)
{
    uint8_t seed[BP_KEY_LEN];
    uint8_t pub[BP_KEY_LEN];
    int rc = bp_mkdirs(key_dir, DIR_MODE, err);

    if (rc != 0) {
        return rc;
    }
    rc = bp_identity_generate(seed, pub);
    if (rc == 0) {
        rc = bp_file_write_new(p->key, seed, sizeof(seed), KEY_MODE, err);
    } else {
        rc = fail_crypto(rc, p->key, err);
    }
    bp_wipe(seed, sizeof(seed));
    return rc;
}

/* A public file alone: nothing may be made up for it, unless its private file is just arriving. */
static int check_no_orphan(const struct key_paths *p, struct bp_errbuf *err)
{
    uint8_t bytes[BP_KEY_LEN];
    int rc = bp_file_read_exact(p->pub, bytes, sizeof(bytes), cure_pub, err);

    if (rc == BP_E_NOT_FOUND) {
        return 0;
    }
    rc = bp_file_read_exact(p->key, bytes, sizeof(bytes), cure_key, err);
    bp_wipe(bytes, sizeof(bytes));
    if (rc != BP_E_NOT_FOUND) {
        return rc; /* it is there by now */
    }
    bp_errbuf_set(err, 0, "cannot find the private key", p->key, "only node.pub is there",
                  "restore it from a backup, or delete node.pub to get a new identity");
    return BP_E_FILE;
}

int bp_identity_load_or_create(const char *key_dir, struct bp_identity **out, struct bp_errbuf *err)
{
    struct key_paths p;
    int rc;

    *out = NULL;
    bp_errbuf_reset(err);
    rc = bp_path_join(key_dir, BP_KEY_FILE, p.key, sizeof(p.key), err);
    if (rc == 0) {
        rc = bp_path_join(key_dir, BP_PUB_FILE, p.pub, sizeof(p.pub), err);
    }
    if (rc != 0) {
        return BP_E_FILE;
    }
    for (int i = 0; i < RACE_TRIES; i++) {
        rc = load(&p, out, err);
        if (rc != BP_E_NOT_FOUND) {
            return rc;
        }
        rc = check_no_orphan(&p, err);
        if (rc == 0) {
            rc = create(key_dir, &p, err);
        }
        if (rc != 0 && rc != BP_E_EXISTS) {
            return rc;
        }
    }
    bp_errbuf_set(err, 0, "cannot keep", p.key, "it vanishes again and again",
                  "stop what deletes it");
    return BP_E_FILE;
}
