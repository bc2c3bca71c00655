/* SPDX-License-Identifier: Apache-2.0 */
/* The node's TLS certificate and key on disk. */
#include "io/tls_files.h"

#include "base/err.h"
#include "quic/tls_cert.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DIR_MODE  0700u
#define KEY_MODE  0600u
#define CERT_MODE 0644u
#define WAIT_TRIES                                                                                 \
    100 /* for a process that has made the key and is about to make the certificate */
#define WAIT_PAUSE_NS (10 * 1000 * 1000)
#define MAKE_TRIES    3

static int64_t unix_now(void)
{
    struct timespec ts = {0};

    (void)clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec;
}

/*
 * Anything at the path counts, a dangling symbolic link too: nothing is put in its place. So does
 * what may not be looked at: reading it gives the right sentence.
 */
static bool present(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 || errno == EACCES;
}

/* --- loading ----------------------------------------------------------------- */

static int use_pems(const char *cert_file, const char *key_file, const uint8_t *cert,
                    size_t cert_len, const uint8_t *key, size_t key_len, struct bp_tls_cred **out,
                    struct bp_errbuf *err)
{
    char why[256];
    const char *cure = "replace it, or move certificate and key away to have a new pair made";
    int rc = bp_tls_cred_load((const char *)cert, cert_len, (const char *)key, key_len, out, why,
                              sizeof(why));

    if (rc != 0) {
        bool of_key = strncmp(why, "the key", strlen("the key")) == 0;
        bp_errbuf_set(err, 0, of_key ? "cannot use the TLS key" : "cannot use the TLS certificate",
                      of_key ? key_file : cert_file, why, cure);
        return rc;
    }
    if (err != NULL && bp_tls_cred_expired(*out, unix_now())) {
        bp_errbuf_set(err, 0, "old TLS certificate", cert_file, "it has expired",
                      "nodes accept it, but renew it or move it and its key away");
        err->warning = true;
    }
    return 0;
}

static int load_pair(const char *cert_file, const char *key_file, struct bp_tls_cred **out,
                     struct bp_errbuf *err)
{
    const struct bp_mem *mem = bp_mem_libc();
    uint8_t *cert = NULL;
    uint8_t *key = NULL;
    size_t cert_len = 0;
    size_t key_len = 0;
    int rc = bp_file_read(cert_file, BP_TLS_CERT_PEM_MAX, mem, &cert, &cert_len, err);

    if (rc == 0) {
        rc = bp_file_read(key_file, BP_TLS_KEY_PEM_MAX, mem, &key, &key_len, err);
    }
    if (rc == 0) {
        rc = use_pems(cert_file, key_file, cert, cert_len, key, key_len, out, err);
    }
    if (rc == 0) {
        bp_file_warn_loose(key_file, err);
    }
    if (key != NULL) {
        bp_wipe(key, key_len);
    }
    mem->release(mem->ctx, key);
    mem->release(mem->ctx, cert);
    return rc == BP_E_NOT_FOUND ? BP_E_FILE : rc;
}

/* Loads the pair. If the key is that of a certificate which waits beside the other, a rotation was
 * interrupted, and the last step is made up for. */
int bp_tls_files_load(const char *cert_file, const char *key_file, struct bp_tls_cred **out,
                      struct bp_errbuf *err)
{
    struct bp_errbuf e2;
    char waiting[PATH_MAX];
    int rc;
    int n = snprintf(waiting, sizeof(waiting), "%s%s", cert_file, BP_TLS_CERT_WAITING);

    *out = NULL;
    rc = load_pair(cert_file, key_file, out, err);
    if (rc != BP_E_KEYPAIR || n < 0 || (size_t)n >= sizeof(waiting) || !present(waiting) ||
        load_pair(waiting, key_file, out, &e2) != 0) {
        return rc;
    }
    if (rename(waiting, cert_file) != 0) {
        bp_tls_cred_unref(*out);
        *out = NULL;
        bp_errbuf_set(err, errno, "cannot replace the TLS certificate", cert_file, NULL,
                      "give the user that runs the node access to it");
        return BP_E_FILE;
    }
    if (err != NULL) {
        *err = e2;
    }
    return 0;
}

/* --- making ------------------------------------------------------------------ */

static int make_dir_of(const char *file, struct bp_errbuf *err)
{
    char dir[PATH_MAX];

    if (bp_path_dir(file, dir, sizeof(dir), err) != 0) {
        return BP_E_FILE;
    }
    return bp_mkdirs(dir, DIR_MODE, err);
}

/* BP_E_EXISTS: another process has begun to make the pair. */
static int create(const char *cert_file, const char *key_file, const char *cn,
                  struct bp_errbuf *err)
{
    struct bp_tls_pem pem;
    int rc = make_dir_of(key_file, err);

    if (rc == 0) {
        rc = make_dir_of(cert_file, err);
    }
    if (rc != 0) {
        return rc;
    }
    rc = bp_tls_cert_generate(cn, unix_now(), &pem);
    if (rc != 0) {
        bp_errbuf_set(err, 0, "cannot make a TLS certificate for", cert_file, bp_err_text(rc),
                      "check the node's name and the clock");
        return rc;
    }
    rc = bp_file_write_new(key_file, pem.key, pem.key_len, KEY_MODE, err);
    if (rc == 0) {
        rc = bp_file_write_new(cert_file, pem.cert, pem.cert_len, CERT_MODE, err);
        if (rc != 0) {
            (void)unlink(key_file); /* it is ours, and nobody can use it alone */
            rc = BP_E_FILE;
        }
    }
    bp_tls_pem_free(&pem);
    return rc;
}

static int half_missing(const char *missing, const char *there, struct bp_errbuf *err)
{
    char cure[256];
    const char *slash = strrchr(there, '/');

    (void)snprintf(cure, sizeof(cure),
                   "restore it, or move %.100s away to have a new pair of certificate and key made",
                   slash != NULL ? slash + 1 : there);
    bp_errbuf_set(err, 0, "cannot find the other half of the TLS pair,", missing,
                  "no such file, and its other half is there", cure);
    return BP_E_FILE;
}

/* Waits while only the key is there: its maker writes the certificate next. */
static bool wait_for_cert(const char *cert_file, const char *key_file)
{
    for (int i = 0; i < WAIT_TRIES; i++) {
        if (present(cert_file)) {
            return true;
        }
        if (!present(key_file)) {
            return false;
        }
        (void)nanosleep(&(struct timespec){.tv_nsec = WAIT_PAUSE_NS}, NULL);
    }
    return present(cert_file);
}

int bp_tls_files_ensure(const char *cert_file, const char *key_file, const char *cn,
                        struct bp_tls_cred **out, struct bp_errbuf *err)
{
    *out = NULL;
    bp_errbuf_reset(err);
    for (int i = 0; i < MAKE_TRIES; i++) {
        if (!present(cert_file) && !present(key_file)) {
            int rc = create(cert_file, key_file, cn, err);
            if (rc != 0 && rc != BP_E_EXISTS) {
                return rc;
            }
        }
        if (present(cert_file) || wait_for_cert(cert_file, key_file)) {
            /* tested after the certificate: a maker writes the key first */
            return present(key_file) ? bp_tls_files_load(cert_file, key_file, out, err)
                                     : half_missing(key_file, cert_file, err);
        }
        if (present(key_file)) {
            return half_missing(cert_file, key_file, err);
        }
        /* its maker has failed and taken the key back */
    }
    bp_errbuf_set(err, 0, "cannot keep", key_file, "it vanishes again and again",
                  "stop what deletes it");
    return BP_E_FILE;
}
