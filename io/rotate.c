/* SPDX-License-Identifier: Apache-2.0 */
/* New keys and certificates in place of old ones; the order of the steps is what matters. */
#include "io/rotate.h"

#include "auth/node_name.h"
#include "base/err.h"
#include "io/identity_dir.h"
#include "io/reset_secret.h"
#include "io/tls_files.h"
#include "quic/tls_cert.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BACKUP_MODE  0600u
#define DIR_MODE     0700u
#define KEY_MODE     0600u
#define PUBLIC_MODE  0644u
#define BACKUP_MAX   (256u * 1024u) /* of one file */
#define BACKUP_TRIES 100
#define CHAIN_MAX    (BP_SUCCESSION_MAX * BP_SUCCESSION_LINK_LEN)

static const char cure_key[] = "restore it from a backup";

static int64_t unix_now(void)
{
    struct timespec ts = {0};

    (void)clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec;
}

/* --- one at a time ----------------------------------------------------------- */

/* Makes the directory if it is not there, and locks it, which leaves no file. Returns the descriptor
 * that holds the lock. */
static int lock_dir(const char *dir, struct bp_errbuf *err)
{
    int rc = bp_mkdirs(dir, DIR_MODE, err);
    int fd;

    if (rc != 0) {
        return rc;
    }
    fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        bp_errbuf_set(err, errno, "cannot use the directory", dir, NULL, NULL);
        return BP_E_FILE;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int e = errno;
        bp_errbuf_set(err, e, "cannot lock", dir,
                      e == EWOULDBLOCK ? "another process rotates keys there" : NULL,
                      "try again later");
        (void)close(fd);
        return e == EWOULDBLOCK ? BP_E_AGAIN : BP_E_FILE;
    }
    return fd;
}

/* --- backups ----------------------------------------------------------------- */

/* Creates `<dir>/backups/<time>`, or `<time>-N` if it is taken. */
static int make_backup_dir(const char *dir, char out[static PATH_MAX], struct bp_errbuf *err)
{
    char backups[PATH_MAX];
    char name[64];
    char stamp[32];
    time_t now = (time_t)unix_now();
    struct tm tm;
    int rc = bp_path_join(dir, "backups", backups, sizeof(backups), err);

    if (rc == 0) {
        rc = bp_mkdirs(backups, DIR_MODE, err);
    }
    if (rc != 0) {
        return rc;
    }
    if (gmtime_r(&now, &tm) == NULL || strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", &tm) == 0) {
        bp_errbuf_set(err, 0, "cannot name a backup in", backups, "the clock is not usable",
                      "set the clock");
        return BP_E_FILE;
    }
    for (int i = 0; i < BACKUP_TRIES; i++) {
        (void)snprintf(name, sizeof(name), i == 0 ? "%s" : "%s-%d", stamp, i);
        rc = bp_path_join(backups, name, out, PATH_MAX, err);
        if (rc != 0) {
            return rc;
        }
        if (mkdir(out, DIR_MODE) == 0) {
            return 0;
        }
        if (errno != EEXIST) {
            break;
        }
    }
    bp_errbuf_set(err, errno, "cannot create the backup directory", out, NULL,
                  "give the user that runs the node access to it");
    return BP_E_FILE;
}

/* Copies `path` into the directory `to`; a file that is not there is passed over. */
static int back_up(const char *path, const char *to, struct bp_errbuf *err)
{
    const char *slash = strrchr(path, '/');
    char copy[PATH_MAX];
    uint8_t *data;
    size_t len;
    int rc = bp_file_read(path, BACKUP_MAX, bp_mem_libc(), &data, &len, err);

    if (rc == BP_E_NOT_FOUND) {
        bp_errbuf_reset(err);
        return 0;
    }
    if (rc == 0) {
        rc = bp_path_join(to, slash != NULL ? slash + 1 : path, copy, sizeof(copy), err);
        if (rc == 0) {
            rc = bp_file_write_new(copy, data, len, BACKUP_MODE, err);
        }
        bp_wipe(data, len);
        bp_mem_libc()->release(NULL, data);
    }
    return rc;
}

/* `files` ends with NULL. The directory goes to `backup`, which may be too short: BP_E_INVALID. */
static int back_up_all(const char *dir, const char *const *files, char *backup, size_t cap,
                       struct bp_errbuf *err)
{
    char to[PATH_MAX];
    int rc = make_backup_dir(dir, to, err);

    if (rc == 0) {
        rc = bp_path_join(to, "", backup, cap, err);
    }
    for (size_t i = 0; rc == 0 && files[i] != NULL; i++) {
        rc = back_up(files[i], to, err);
    }
    if (rc != 0 && cap != 0) {
        backup[0] = '\0';
    } else if (rc == 0) {
        backup[strlen(backup) - 1] = '\0'; /* the slash */
    }
    return rc;
}

/* --- identity ---------------------------------------------------------------- */

struct paths {
    char key[PATH_MAX];
    char pub[PATH_MAX];
    char chain[PATH_MAX];
};

static int set_paths(const char *key_dir, struct paths *p, struct bp_errbuf *err)
{
    int rc = bp_path_join(key_dir, BP_KEY_FILE, p->key, sizeof(p->key), err);

    if (rc == 0) {
        rc = bp_path_join(key_dir, BP_PUB_FILE, p->pub, sizeof(p->pub), err);
    }
    return rc == 0 ? bp_path_join(key_dir, BP_SUCCESSION_FILE, p->chain, sizeof(p->chain), err)
                   : rc;
}

static void useless(const char *path, const char *why, struct bp_succession *out,
                    struct bp_errbuf *err)
{
    *out = (struct bp_succession){0};
    bp_errbuf_set(err, 0, "cannot announce the rotation in", path, why,
                  "delete it; peers that missed the rotation must be told the new key by hand");
    if (err != NULL) {
        err->warning = true;
    }
}

void bp_rotate_succession(const char *key_dir, const char *node,
                          const uint8_t pub[static BP_KEY_LEN], struct bp_succession *out,
                          struct bp_errbuf *err)
{
    char path[PATH_MAX];
    uint8_t *p = NULL;
    size_t len = 0;
    int rc = bp_path_join(key_dir, BP_SUCCESSION_FILE, path, sizeof(path), err);

    *out = (struct bp_succession){0};
    if (rc == 0) {
        rc = bp_file_read(path, CHAIN_MAX + BP_KEY_LEN, bp_mem_libc(), &p, &len, err);
    }
    if (rc == BP_E_NOT_FOUND) {
        bp_errbuf_reset(err);
        return;
    }
    if (rc != 0) {
        if (err != NULL) {
            err->warning = true;
        }
        return;
    }
    if (len < BP_KEY_LEN || bp_succession_decode(out, p, len - BP_KEY_LEN) != 0) {
        useless(path, "it is damaged", out, err);
    } else if (!bp_equal_ct(p + len - BP_KEY_LEN, pub, BP_KEY_LEN) &&
               bp_equal_ct(out->links[out->n - 1].key, pub, BP_KEY_LEN)) {
        out->n--; /* a rotation that ended before it replaced the key */
    }
    if (out->n > 0 && bp_succession_check(out, node, out->links[0].key, pub) != 0) {
        useless(path, "it is not this key's or not this node's", out, err);
    }
    bp_mem_libc()->release(NULL, p);
}

/* Writes the chain with one link more: from `old` to the key `next`. */
static int write_chain(const char *key_dir, const struct paths *p, const char *node,
                       const struct bp_identity *old, const uint8_t next[static BP_KEY_LEN],
                       struct bp_errbuf *err)
{
    struct bp_succession s;
    uint8_t file[CHAIN_MAX + BP_KEY_LEN];
    uint8_t sig[BP_SIG_LEN];
    size_t len;
    int rc = bp_succession_sign(old, node, next, sig);

    if (rc != 0) {
        bp_errbuf_set(err, 0, "cannot announce the new key in", p->chain, bp_err_text(rc),
                      rc == BP_E_INVALID ? "use a node name of the form name@host" : "try again");
        return rc;
    }
    bp_rotate_succession(key_dir, node, bp_identity_pub(old), &s, NULL);
    bp_succession_add(&s, bp_identity_pub(old), sig);
    len = bp_succession_encode(&s, file);
    memcpy(file + len, next, BP_KEY_LEN);
    return bp_file_write_atomic(p->chain, file, len + BP_KEY_LEN, PUBLIC_MODE, err);
}

/*
 * The public file goes first and comes last: without it a node that starts in between writes it
 * from the private one, with another key's it would refuse to start.
 */
static int replace_pair(const struct paths *p, const uint8_t *old_pub,
                        const uint8_t seed[static BP_KEY_LEN], const uint8_t pub[static BP_KEY_LEN],
                        struct bp_errbuf *err)
{
    int rc;

    if (unlink(p->pub) != 0 && errno != ENOENT) {
        bp_errbuf_set(err, errno, "cannot replace", p->pub, NULL,
                      "give the user that runs the node access to it");
        return BP_E_FILE;
    }
    rc = bp_file_write_atomic(p->key, seed, BP_KEY_LEN, KEY_MODE, err);
    if (rc != 0 && old_pub != NULL) {
        int restored = bp_file_write_atomic(p->pub, old_pub, BP_KEY_LEN, PUBLIC_MODE, NULL);
        (void)restored; /* a start writes it */
    }
    if (rc != 0) {
        return rc;
    }
    return bp_file_write_atomic(p->pub, pub, BP_KEY_LEN, PUBLIC_MODE, err);
}

static int rotate_locked(const char *key_dir, const char *node, bool announce, char *backup,
                         size_t cap, struct bp_errbuf *err)
{
    struct paths p;
    struct bp_identity *old = NULL;
    uint8_t seed[BP_KEY_LEN];
    uint8_t pub[BP_KEY_LEN];
    int rc = set_paths(key_dir, &p, err);

    if (rc == 0) {
        rc = bp_file_read_exact(p.key, seed, sizeof(seed), cure_key, err);
        bp_wipe(seed, sizeof(seed));
    }
    if (rc != 0 && rc != BP_E_NOT_FOUND) {
        return rc;
    }
    bool first = rc == BP_E_NOT_FOUND;
    rc = bp_identity_load_or_create(key_dir, &old, err);
    if (rc == 0 && !first) {
        const char *const files[] = {p.key, p.pub, p.chain, NULL};
        rc = back_up_all(key_dir, files, backup, cap, err);
        if (rc == 0 && bp_identity_generate(seed, pub) != 0) {
            bp_errbuf_set(err, 0, "cannot make a key for", p.key, "no random numbers", "try again");
            rc = BP_E_CRYPTO;
        }
        if (rc == 0 && announce) {
            rc = write_chain(key_dir, &p, node, old, pub, err);
        }
        if (rc == 0 && announce) {
            rc = bp_reset_secret_keep(key_dir, old, err);
        }
        if (rc == 0) {
            rc = replace_pair(&p, bp_identity_pub(old), seed, pub, err);
        }
        if (rc == 0 && !announce) {
            (void)unlink(p.chain); /* if it stays it is no use to the new key */
            bp_reset_secret_forget(key_dir);
        }
        bp_wipe(seed, sizeof(seed));
    }
    bp_identity_del(old);
    return rc;
}

int bp_rotate_identity(const char *key_dir, const char *node, bool announce, char *backup,
                       size_t cap, struct bp_errbuf *err)
{
    int lock;
    int rc;

    bp_errbuf_reset(err);
    if (cap != 0) {
        backup[0] = '\0';
    }
    if (announce && !bp_node_name_valid(node, strlen(node))) {
        bp_errbuf_set(err, 0, "cannot announce a new key in", key_dir, "the node name is not valid",
                      "use a name of the form name@host");
        return BP_E_INVALID;
    }
    lock = lock_dir(key_dir, err);
    if (lock < 0) {
        return lock;
    }
    rc = rotate_locked(key_dir, node, announce, backup, cap, err);
    (void)close(lock);
    return rc;
}

int bp_rotate_install(const char *key_dir, const uint8_t seed[static BP_KEY_LEN],
                      const uint8_t pub[static BP_KEY_LEN], struct bp_errbuf *err)
{
    struct bp_identity *id = NULL;
    struct paths p;
    int lock;
    int rc;

    bp_errbuf_reset(err);
    rc = bp_identity_new(&id, seed, pub, bp_mem_libc());
    bp_identity_del(id);
    if (rc != 0) {
        bp_errbuf_set(err, 0, "cannot put a key pair into", key_dir, bp_err_text(rc),
                      "give a 32-byte seed and the public key that belongs to it");
        return rc;
    }
    rc = set_paths(key_dir, &p, err);
    if (rc != 0) {
        return rc;
    }
    lock = lock_dir(key_dir, err);
    if (lock < 0) {
        return lock;
    }
    rc = replace_pair(&p, NULL, seed, pub, err);
    (void)close(lock);
    return rc;
}

/* --- certificate ------------------------------------------------------------- */

/*
 * The new certificate waits beside the old one while the key is replaced, so that a node that
 * starts in between finds the half that it needs (bp_tls_files_ensure).
 */
static int replace_cert(const char *cert_file, const char *key_file, const char *cn,
                        struct bp_errbuf *err)
{
    char waiting[PATH_MAX];
    struct bp_tls_pem pem;
    int n = snprintf(waiting, sizeof(waiting), "%s%s", cert_file, BP_TLS_CERT_WAITING);
    int rc = n < 0 || (size_t)n >= sizeof(waiting) ? BP_E_INVALID
                                                   : bp_tls_cert_generate(cn, unix_now(), &pem);

    if (rc != 0) {
        bp_errbuf_set(err, 0, "cannot make a TLS certificate for", cert_file, bp_err_text(rc),
                      "check the node's name, the path and the clock");
        return rc;
    }
    rc = bp_file_write_atomic(waiting, pem.cert, pem.cert_len, PUBLIC_MODE, err);
    if (rc == 0) {
        rc = bp_file_write_atomic(key_file, pem.key, pem.key_len, KEY_MODE, err);
    }
    if (rc == 0) {
        rc = bp_file_write_atomic(cert_file, pem.cert, pem.cert_len, PUBLIC_MODE, err);
    }
    if (rc == 0) {
        (void)unlink(waiting);
    }
    bp_tls_pem_free(&pem);
    return rc;
}

static bool present(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 || errno != ENOENT;
}

/* Makes the pair where there is none; refuses one that the user provided. */
static int check_pair(const char *cert_file, const char *key_file, const char *cn,
                      struct bp_errbuf *err)
{
    struct bp_tls_cred *cred = NULL;
    int rc = bp_tls_files_ensure(cert_file, key_file, cn, &cred, err);
    bool generated = rc == 0 && bp_tls_cred_generated(cred);

    bp_tls_cred_unref(cred);
    if (rc == 0 && !generated) {
        bp_errbuf_set(
            err, 0, "cannot replace the TLS certificate", cert_file,
            "it was not made by this program",
            "put a new one and its key there yourself; it is used from the next reload on");
        return BP_E_STATE;
    }
    return rc;
}

static int rotate_cert_locked(const char *dir, const char *cert_file, const char *key_file,
                              const char *cn, bool any, char *backup, size_t cap,
                              struct bp_errbuf *err)
{
    const char *const files[] = {cert_file, key_file, NULL};
    bool first = !present(cert_file) && !present(key_file);
    int rc = any && !first ? 0 : check_pair(cert_file, key_file, cn, err);

    if (rc != 0 || first) {
        return rc;
    }
    rc = back_up_all(dir, files, backup, cap, err);
    return rc == 0 ? replace_cert(cert_file, key_file, cn, err) : rc;
}

static int rotate_cert(const char *cert_file, const char *key_file, const char *cn, bool any,
                       char *backup, size_t cap, struct bp_errbuf *err)
{
    char dir[PATH_MAX];
    int lock;
    int rc;

    bp_errbuf_reset(err);
    if (cap != 0) {
        backup[0] = '\0';
    }
    rc = bp_path_dir(cert_file, dir, sizeof(dir), err);
    if (rc != 0) {
        return rc;
    }
    lock = lock_dir(dir, err);
    if (lock < 0) {
        return lock;
    }
    rc = rotate_cert_locked(dir, cert_file, key_file, cn, any, backup, cap, err);
    (void)close(lock);
    return rc;
}

int bp_rotate_cert(const char *cert_file, const char *key_file, const char *cn, char *backup,
                   size_t cap, struct bp_errbuf *err)
{
    return rotate_cert(cert_file, key_file, cn, false, backup, cap, err);
}

int bp_rotate_cert_any(const char *cert_file, const char *key_file, const char *cn, char *backup,
                       size_t cap, struct bp_errbuf *err)
{
    return rotate_cert(cert_file, key_file, cn, true, backup, cap, err);
}
