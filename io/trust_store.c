/* SPDX-License-Identifier: Apache-2.0 */
/* Pinned public keys of other nodes, one file each (WIRE 3.3). */
#include "io/trust_store.h"

#include "auth/node_name.h"
#include "base/err.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SUFFIX     ".pub"
#define SUFFIX_LEN (sizeof(SUFFIX) - 1)
#define DIR_MODE   0700u
#define PIN_MODE   0600u
#define RACE_TRIES 10

static const char cure_pin[] = "put the node's 32-byte public key there, or delete the file to "
                               "forget the node";

static int dir_path(const char *key_dir, char out[static PATH_MAX], struct bp_errbuf *err)
{
    bp_errbuf_reset(err);
    return bp_path_join(key_dir, BP_TRUST_DIR, out, PATH_MAX, err);
}

/* The only place where a node's name becomes a path. */
static int pin_path(const char *key_dir, const char *node, char out[static PATH_MAX],
                    struct bp_errbuf *err)
{
    char dir[PATH_MAX];
    char name[NAME_MAX + 1];
    size_t len = strlen(node);
    int rc = dir_path(key_dir, dir, err);

    if (rc != 0) {
        return rc;
    }
    if (!bp_node_name_valid(node, len) || len + SUFFIX_LEN > NAME_MAX) {
        bp_errbuf_set(err, 0, "cannot use the trust store", dir,
                      len + SUFFIX_LEN > NAME_MAX ? "the node name is too long"
                                                  : "the node name is not valid",
                      "use a name of the form name@host with at most 251 bytes");
        return BP_E_INVALID;
    }
    memcpy(name, node, len);
    memcpy(name + len, SUFFIX, SUFFIX_LEN + 1);
    return bp_path_join(dir, name, out, PATH_MAX, err);
}

void bp_trust_warn_loose(const char *key_dir, struct bp_errbuf *err)
{
    char dir[PATH_MAX];

    if (bp_path_join(key_dir, BP_TRUST_DIR, dir, sizeof(dir), NULL) == 0) {
        bp_dir_warn_loose(key_dir, err);
        bp_dir_warn_loose(dir, err);
    }
}

int bp_trust_path(const char *key_dir, const char *node, char *out, size_t cap,
                  struct bp_errbuf *err)
{
    char path[PATH_MAX];
    int rc = pin_path(key_dir, node, path, err);

    if (rc == 0 && strlen(path) >= cap) {
        bp_errbuf_set(err, ENAMETOOLONG, "cannot use the path", path, NULL, "use a shorter path");
        rc = BP_E_INVALID;
    }
    if (rc == 0) {
        memcpy(out, path, strlen(path) + 1);
    }
    return rc;
}

int bp_trust_lookup(const char *key_dir, const char *node, uint8_t key[static BP_KEY_LEN],
                    struct bp_errbuf *err)
{
    char path[PATH_MAX];
    int rc = pin_path(key_dir, node, path, err);

    if (rc != 0) {
        memset(key, 0, BP_KEY_LEN);
        return rc;
    }
    return bp_file_read_exact(path, key, BP_KEY_LEN, cure_pin, err);
}

/* --- changing ---------------------------------------------------------------- */

static int prepare(const char *key_dir, const char *node, char path[static PATH_MAX],
                   struct bp_errbuf *err)
{
    char dir[PATH_MAX];
    int rc = pin_path(key_dir, node, path, err);

    if (rc == 0) {
        rc = dir_path(key_dir, dir, err);
    }
    return rc == 0 ? bp_mkdirs(dir, DIR_MODE, err) : rc;
}

int bp_trust_store(const char *key_dir, const char *node, const uint8_t key[static BP_KEY_LEN],
                   struct bp_errbuf *err)
{
    char path[PATH_MAX];
    int rc = prepare(key_dir, node, path, err);

    return rc == 0 ? bp_file_write_atomic(path, key, BP_KEY_LEN, PIN_MODE, err) : rc;
}

int bp_trust_store_if_new(const char *key_dir, const char *node,
                          const uint8_t key[static BP_KEY_LEN], struct bp_errbuf *err)
{
    char path[PATH_MAX];
    uint8_t pinned[BP_KEY_LEN];
    int rc = prepare(key_dir, node, path, err);

    for (int i = 0; rc == 0 && i < RACE_TRIES; i++) {
        rc = bp_file_write_new(path, key, BP_KEY_LEN, PIN_MODE, err);
        if (rc != BP_E_EXISTS) {
            return rc;
        }
        rc = bp_file_read_exact(path, pinned, sizeof(pinned), cure_pin, err);
        if (rc == 0 && bp_equal_ct(pinned, key, BP_KEY_LEN)) {
            return 0;
        }
        if (rc == 0) {
            bp_errbuf_set(err, 0, "cannot pin another key in", path, "the node has a pinned key",
                          "if the node's key was replaced on purpose, delete the file");
            return BP_E_MISMATCH;
        }
        rc = rc == BP_E_NOT_FOUND ? 0 : rc; /* forgotten meanwhile: try again */
    }
    if (rc == 0) {
        bp_errbuf_set(err, 0, "cannot keep", path, "it vanishes again and again",
                      "stop what deletes it");
        return BP_E_FILE;
    }
    return rc;
}

int bp_trust_replace(const char *key_dir, const char *node, const uint8_t old[static BP_KEY_LEN],
                     const uint8_t key[static BP_KEY_LEN], struct bp_errbuf *err)
{
    char path[PATH_MAX];
    uint8_t pinned[BP_KEY_LEN];
    int rc = pin_path(key_dir, node, path, err);

    if (rc == 0) {
        rc = bp_file_read_exact(path, pinned, sizeof(pinned), cure_pin, err);
    }
    if (rc == 0 && bp_equal_ct(pinned, key, BP_KEY_LEN)) {
        return 0;
    }
    if (rc == 0) {
        rc = bp_file_replace_if(path, old, key, BP_KEY_LEN, PIN_MODE, err);
    }
    if (rc == BP_E_NOT_FOUND || rc == BP_E_MISMATCH) {
        bp_errbuf_set(err, 0, "cannot replace the key in", path, "it was changed meanwhile",
                      "connect again");
        return BP_E_MISMATCH;
    }
    return rc;
}

int bp_trust_delete(const char *key_dir, const char *node, struct bp_errbuf *err)
{
    char path[PATH_MAX];
    int rc = pin_path(key_dir, node, path, err);

    if (rc != 0) {
        return rc;
    }
    if (unlink(path) != 0) {
        int e = errno;
        bp_errbuf_set(err, e, "cannot delete", path, NULL, NULL);
        return e == ENOENT ? BP_E_NOT_FOUND : BP_E_FILE;
    }
    return 0;
}

/* --- scanning ---------------------------------------------------------------- */

/* The node's name if `file` is called like a pin; false otherwise. */
static bool name_of_file(const char *file, char node[static BP_NODE_NAME_MAX + 1])
{
    size_t len = strlen(file);

    if (len <= SUFFIX_LEN || len - SUFFIX_LEN > BP_NODE_NAME_MAX ||
        strcmp(file + len - SUFFIX_LEN, SUFFIX) != 0) {
        return false;
    }
    len -= SUFFIX_LEN;
    memcpy(node, file, len);
    node[len] = '\0';
    return bp_node_name_valid(node, len);
}

/* Reads one pin and hands it to `fn`. Returns false when the listing has to end. */
static bool visit(const char *dir, const char *file, bp_trust_list_fn *fn, void *ctx)
{
    char path[PATH_MAX];
    char node[BP_NODE_NAME_MAX + 1];
    uint8_t key[BP_KEY_LEN];
    struct bp_errbuf problem;
    struct stat st = {0};
    struct bp_trust_entry entry = {.node = node, .problem = problem.text};
    int rc;

    if (!name_of_file(file, node) || bp_path_join(dir, file, path, sizeof(path), &problem) != 0) {
        return true;
    }
    rc = bp_file_read_exact(path, key, sizeof(key), cure_pin, &problem);
    if (rc == BP_E_NOT_FOUND) {
        return true; /* deleted meanwhile */
    }
    entry.key = rc == 0 ? key : NULL;
    entry.changed_at = stat(path, &st) == 0 ? (int64_t)st.st_mtime : 0;
    return fn(ctx, &entry);
}

int bp_trust_list(const char *key_dir, bp_trust_list_fn *fn, void *ctx, struct bp_errbuf *err)
{
    char dir[PATH_MAX];
    DIR *d;
    int rc = dir_path(key_dir, dir, err);

    if (rc != 0) {
        return rc;
    }
    d = opendir(dir);
    if (d == NULL) {
        int e = errno;
        if (e == ENOENT) {
            return 0;
        }
        bp_errbuf_set(err, e, "cannot read the trust store", dir, NULL,
                      "make it a directory that the node's user can read");
        return BP_E_FILE;
    }
    for (size_t n = 0;; n++) {
        struct dirent *de;

        errno = 0;
        de = readdir(d);
        if (de == NULL && errno != 0) {
            bp_errbuf_set(err, errno, "cannot read the trust store", dir, NULL,
                          "check the file system");
            rc = BP_E_FILE;
        }
        if (de == NULL) {
            break;
        }
        if (n == BP_TRUST_MAX + 2) { /* "." and ".." are not counted */
            bp_errbuf_set(err, 0, "cannot read all of the trust store", dir,
                          "it has more than 100000 files", "delete pins that are not needed");
            rc = BP_E_LIMIT;
            break;
        }
        if (!visit(dir, de->d_name, fn, ctx)) {
            break;
        }
    }
    (void)closedir(d);
    return rc;
}

struct key_search {
    const uint8_t *key;
    char *node;
    bool found;
};

static bool match_key(void *ctx, const struct bp_trust_entry *entry)
{
    struct key_search *s = ctx;

    if (entry->key == NULL || !bp_equal_ct(entry->key, s->key, BP_KEY_LEN)) {
        return true;
    }
    s->found = true;
    if (s->node != NULL) {
        memcpy(s->node, entry->node, strlen(entry->node) + 1);
    }
    return false;
}

int bp_trust_find_by_key(const char *key_dir, const uint8_t key[static BP_KEY_LEN], char *node,
                         struct bp_errbuf *err)
{
    struct key_search s = {.key = key, .node = node};
    int rc = bp_trust_list(key_dir, match_key, &s, err);

    if (rc == 0 && !s.found) {
        char dir[PATH_MAX];
        rc = dir_path(key_dir, dir, err);
        if (rc == 0) {
            bp_errbuf_set(err, 0, "cannot find the key in", dir, "it is not pinned",
                          "pin it to trust it");
            rc = BP_E_NOT_FOUND;
        }
    }
    return rc;
}
