/* SPDX-License-Identifier: Apache-2.0 */
/* Bounded reads, atomic writes and directory creation, with sentences for what went wrong. */
#include "io/files.h"

#include "base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHOWN_PATH_MAX 260 /* of a longer path the sentence shows the end */
#define TEMP_TRIES     8
#define TEMP_NAME_LEN  32

/* --- sentences --------------------------------------------------------------- */

void bp_errbuf_reset(struct bp_errbuf *err)
{
    if (err != NULL) {
        *err = (struct bp_errbuf){0};
    }
}

/* The absolute path, or "..." and its end. */
static void show_path(const char *path, char *out, size_t cap)
{
    char cwd[PATH_MAX] = "";
    const char *part[3] = {cwd, "", path};
    size_t total = 0;
    size_t skip;
    size_t at = 0;

    if (path[0] != '/' && getcwd(cwd, sizeof(cwd)) != NULL) {
        part[1] = cwd[strlen(cwd) - 1] == '/' ? "" : "/";
    }
    for (size_t i = 0; i < 3; i++) {
        total += strlen(part[i]);
    }
    skip = total < cap ? 0 : total - (cap - 4);
    if (skip != 0) {
        memcpy(out, "...", 3);
        at = 3;
    }
    for (size_t i = 0; i < 3; i++) {
        size_t len = strlen(part[i]);
        size_t drop = skip < len ? skip : len;
        memcpy(out + at, part[i] + drop, len - drop);
        at += len - drop;
        skip -= drop;
    }
    out[at] = '\0';
}

static const char *cure_for(int os_errno)
{
    switch (os_errno) {
    case EACCES:
    case EPERM:
        return "give the user that runs the node access to it";
    case EROFS:
        return "make the file system writable or configure another directory";
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return "free disk space or raise the limit";
    case EMFILE:
    case ENFILE:
        return "raise the limit of open files";
    case ENOTDIR:
        return "a part of the path is a file: move it away or configure another directory";
    case EISDIR:
        return "it is a directory: move it away or configure another path";
    case ENAMETOOLONG:
        return "use a shorter path";
    case ENOENT:
        return "check the path, or create what is missing";
    default:
        return "check the path and its file system";
    }
}

void bp_errbuf_set(struct bp_errbuf *err, int os_errno, const char *what, const char *path,
                   const char *why, const char *cure)
{
    char shown[SHOWN_PATH_MAX];
    char reason[128];

    if (err == NULL) {
        return;
    }
    err->os_errno = os_errno;
    err->warning = false;
    if (why == NULL) {
        why = strerror_r(os_errno, reason, sizeof(reason));
    }
    if (cure == NULL) {
        cure = cure_for(os_errno);
    }
    show_path(path, shown, sizeof(shown));
    (void)snprintf(err->text, sizeof(err->text), "%s %s: %s; %s", what, shown, why, cure);
}

static int fail_os(struct bp_errbuf *err, int os_errno, const char *what, const char *path)
{
    bp_errbuf_set(err, os_errno, what, path, NULL, NULL);
    return BP_E_FILE;
}

/* --- paths ------------------------------------------------------------------- */

int bp_path_join(const char *dir, const char *name, char *out, size_t cap, struct bp_errbuf *err)
{
    size_t len = strlen(dir);
    const char *sep = len != 0 && dir[len - 1] == '/' ? "" : "/";
    int n = snprintf(out, cap, "%s%s%s", dir, sep, name);

    if (n < 0 || (size_t)n >= cap) {
        bp_errbuf_set(err, ENAMETOOLONG, "cannot use the path", dir, NULL, cure_for(ENAMETOOLONG));
        return BP_E_INVALID;
    }
    return 0;
}

int bp_path_dir(const char *path, char *out, size_t cap, struct bp_errbuf *err)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash != NULL ? (size_t)(slash - path) : 0;

    if (cap < 2 || len >= cap) {
        bp_errbuf_set(err, ENAMETOOLONG, "cannot use the path", path, NULL, cure_for(ENAMETOOLONG));
        return BP_E_INVALID;
    }
    if (len != 0) {
        memcpy(out, path, len);
        out[len] = '\0';
    } else {
        (void)snprintf(out, cap, "%s", slash != NULL ? "/" : ".");
    }
    return 0;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

/* --- reading ----------------------------------------------------------------- */

/* Opens a regular file; a FIFO or a device does not block. Returns the descriptor or an error. */
static int open_regular(const char *path, struct stat *st, struct bp_errbuf *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0) {
        int e = errno;
        (void)fail_os(err, e, "cannot read", path);
        return e == ENOENT ? BP_E_NOT_FOUND : BP_E_FILE;
    }
    if (fstat(fd, st) != 0) {
        int rc = fail_os(err, errno, "cannot read", path);
        (void)close(fd);
        return rc;
    }
    if (!S_ISREG(st->st_mode)) {
        bp_errbuf_set(err, 0, "cannot read", path, "not a regular file",
                      "put a file there or configure another path");
        (void)close(fd);
        return BP_E_FILE;
    }
    return fd;
}

/* Reads until `len` bytes or the end of the file. Returns the number of bytes, or -1 with errno. */
static ssize_t read_full(int fd, void *buf, size_t len)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = read(fd, (uint8_t *)buf + done, len - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -1;
        }
        if (n == 0) {
            break;
        }
        done += (size_t)n;
    }
    return (ssize_t)done;
}

int bp_file_read(const char *path, size_t cap, const struct bp_mem *mem, uint8_t **out, size_t *len,
                 struct bp_errbuf *err)
{
    struct stat st;
    uint8_t *buf = NULL;
    size_t size = 0;
    ssize_t n;
    int rc;
    int fd;

    *out = NULL;
    *len = 0;
    bp_errbuf_reset(err);
    fd = open_regular(path, &st, err);
    if (fd < 0) {
        return fd;
    }
    if (st.st_size < 0 || (uint64_t)st.st_size > cap) {
        bp_errbuf_set(err, 0, "cannot read", path, "the file is too large",
                      "check that it is the right file");
        rc = BP_E_FILE;
        goto fail;
    }
    size = (size_t)st.st_size + 1; /* one more byte shows that the file grew; later the NUL */
    buf = mem->alloc(mem->ctx, size);
    if (buf == NULL) {
        bp_errbuf_set(err, 0, "cannot read", path, "out of memory", "free some memory");
        rc = BP_E_NOMEM;
        goto fail;
    }
    n = read_full(fd, buf, size);
    if (n < 0) {
        rc = fail_os(err, errno, "cannot read", path);
        goto fail;
    }
    if ((size_t)n != size - 1) {
        bp_errbuf_set(err, 0, "cannot read", path, "the file changed while it was read",
                      "try again");
        rc = BP_E_FILE;
        goto fail;
    }
    buf[n] = 0;
    *out = buf;
    *len = (size_t)n;
    (void)close(fd);
    return 0;
fail:
    if (buf != NULL) {
        bp_wipe(buf, size);
        mem->release(mem->ctx, buf);
    }
    (void)close(fd);
    return rc;
}

int bp_file_read_exact(const char *path, void *out, size_t len, const char *cure,
                       struct bp_errbuf *err)
{
    struct stat st;
    char why[80];
    uint8_t extra;
    ssize_t n;
    ssize_t more = 0;
    int fd;

    bp_errbuf_reset(err);
    fd = open_regular(path, &st, err);
    if (fd < 0) {
        bp_wipe(out, len);
        return fd;
    }
    n = read_full(fd, out, len);
    if (n == (ssize_t)len) {
        more = read_full(fd, &extra, 1);
    }
    if (n < 0 || more < 0) {
        int rc = fail_os(err, errno, "cannot read", path);
        (void)close(fd);
        bp_wipe(out, len);
        return rc;
    }
    (void)close(fd);
    if (n == (ssize_t)len && more == 0) {
        return 0;
    }
    bp_wipe(out, len);
    (void)snprintf(why, sizeof(why), "the file has %lld bytes, not %zu", (long long)st.st_size,
                   len);
    bp_errbuf_set(err, 0, "cannot use", path, why, cure);
    return BP_E_FILE;
}

/* --- writing ----------------------------------------------------------------- */

static int write_full(int fd, const void *data, size_t len)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = write(fd, (const uint8_t *)data + done, len - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -1;
        }
        done += (size_t)n;
    }
    return 0;
}

/* Creates an empty file with a random name; the name does not depend on the target's length. */
static int open_temp(int dirfd, char name[static TEMP_NAME_LEN])
{
    for (int i = 0; i < TEMP_TRIES; i++) {
        uint64_t r;
        int fd;

        if (getrandom(&r, sizeof(r), 0) != (ssize_t)sizeof(r)) {
            return -1;
        }
        (void)snprintf(name, TEMP_NAME_LEN, ".tmp-%016llx", (unsigned long long)r);
        fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd >= 0 || errno != EEXIST) {
            return fd;
        }
    }
    return -1;
}

/* Gives the temporary file its name without replacing anything; 0, or -1 with errno. */
static int publish_new(int dirfd, const char *temp, const char *name)
{
    if (linkat(dirfd, temp, dirfd, name, 0) == 0) {
        (void)unlinkat(dirfd, temp, 0); /* a second name would do no harm */
        return 0;
    }
    if (errno == EPERM || errno == EOPNOTSUPP || errno == ENOSYS) {
        /* a file system without hard links */
        return renameat2(dirfd, temp, dirfd, name, RENAME_NOREPLACE);
    }
    return -1;
}

struct write_job {
    const char *path;
    const void *data;
    size_t len;
    unsigned mode;
    bool replace;
    bool unsynced;
};

/* Writes a temporary file, whose name goes to `temp`; 0, or -1 with errno and no file. */
static int write_temp(int dirfd, const struct write_job *job, char temp[static TEMP_NAME_LEN])
{
    int fd = open_temp(dirfd, temp);
    int bad;
    int e;

    if (fd < 0) {
        return -1;
    }
    bad = fchmod(fd, (mode_t)job->mode) != 0 || write_full(fd, job->data, job->len) != 0 ||
          (!job->unsynced && fsync(fd) != 0);
    e = errno;
    if (close(fd) != 0 && !bad) {
        bad = 1;
        e = errno;
    }
    if (bad) {
        (void)unlinkat(dirfd, temp, 0);
        errno = e;
        return -1;
    }
    return 0;
}

static int sync_dir(int dirfd)
{
    return fsync(dirfd) != 0 && errno != EINVAL ? -1 : 0; /* EINVAL: cannot be synced here */
}

/* Writes and publishes through a temporary file; 0, or -1 with errno. */
static int write_at(int dirfd, const struct write_job *job)
{
    char temp[TEMP_NAME_LEN];
    const char *name = base_name(job->path);

    if (write_temp(dirfd, job, temp) != 0) {
        return -1;
    }
    if ((job->replace ? renameat(dirfd, temp, dirfd, name) : publish_new(dirfd, temp, name)) != 0) {
        int e = errno;
        (void)unlinkat(dirfd, temp, 0);
        errno = e;
        return -1;
    }
    return job->unsynced ? 0 : sync_dir(dirfd);
}

/* The directory of `path`, open; or BP_E_FILE. */
static int open_dir_of(const char *path, struct bp_errbuf *err)
{
    char dir[PATH_MAX];
    int dirfd;

    bp_errbuf_reset(err);
    if (bp_path_dir(path, dir, sizeof(dir), err) != 0) {
        return BP_E_FILE;
    }
    dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return dirfd < 0 ? fail_os(err, errno, "cannot write", path) : dirfd;
}

static int write_file(const struct write_job *job, struct bp_errbuf *err)
{
    int dirfd = open_dir_of(job->path, err);
    int rc = 0;

    if (dirfd < 0) {
        return dirfd;
    }
    if (write_at(dirfd, job) != 0) {
        int e = errno;
        rc = fail_os(err, e, "cannot write", job->path);
        if (e == EEXIST && !job->replace) {
            bp_errbuf_set(err, e, "cannot create", job->path, NULL, "it is left as it is");
            rc = BP_E_EXISTS;
        }
    }
    (void)close(dirfd);
    return rc;
}

int bp_file_write_atomic(const char *path, const void *data, size_t len, unsigned mode,
                         struct bp_errbuf *err)
{
    return write_file(&(struct write_job){path, data, len, mode, true, false}, err);
}

int bp_file_write_unsynced(const char *path, const void *data, size_t len, unsigned mode,
                           struct bp_errbuf *err)
{
    return write_file(&(struct write_job){path, data, len, mode, true, true}, err);
}

int bp_file_write_new(const char *path, const void *data, size_t len, unsigned mode,
                      struct bp_errbuf *err)
{
    return write_file(&(struct write_job){path, data, len, mode, false, false}, err);
}

/* --- replacing what was seen --------------------------------------------------- */

/* True if `name` holds exactly these bytes. */
static bool holds(int dirfd, const char *name, const uint8_t *bytes, size_t len)
{
    uint8_t now[BP_FILE_SWAP_MAX + 1];
    int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    ssize_t n = fd >= 0 ? read_full(fd, now, len + 1) : -1;

    if (fd >= 0) {
        (void)close(fd);
    }
    return n == (ssize_t)len && memcmp(now, bytes, len) == 0;
}

/*
 * Exchanges the temporary file with the other one, so that nothing that is put there or taken away
 * meanwhile is lost; what was not the expected content goes back. 1: done, 0: it was another
 * content or no file, -1 with errno.
 */
static int swap_in(int dirfd, const char *temp, const char *name, const struct write_job *job,
                   const void *old)
{
    if (renameat2(dirfd, temp, dirfd, name, RENAME_EXCHANGE) != 0) {
        return errno == ENOENT ? 0 : -1; /* somebody took it away, and meant it */
    }
    if (holds(dirfd, temp, old, job->len)) {
        return 1;
    }
    if (renameat2(dirfd, temp, dirfd, name, RENAME_EXCHANGE) != 0) {
        return errno == ENOENT ? 0 : -1;
    }
    if (holds(dirfd, temp, job->data, job->len)) {
        return 0;
    }
    /* Somebody wrote in between: that is newer than what went back. */
    return renameat(dirfd, temp, dirfd, name) == 0 ? 0 : -1;
}

int bp_file_replace_if(const char *path, const void *old, const void *data, size_t len,
                       unsigned mode, struct bp_errbuf *err)
{
    const struct write_job job = {path, data, len, mode, true, false};
    char temp[TEMP_NAME_LEN];
    int dirfd = open_dir_of(path, err);
    int done;
    int rc = BP_E_MISMATCH;

    if (dirfd < 0 || len > BP_FILE_SWAP_MAX) {
        return dirfd < 0 ? dirfd : BP_E_INVALID;
    }
    if (!holds(dirfd, base_name(path), old, len)) {
        (void)close(dirfd);
        return BP_E_MISMATCH;
    }
    if (write_temp(dirfd, &job, temp) != 0) {
        rc = fail_os(err, errno, "cannot write", path);
        (void)close(dirfd);
        return rc;
    }
    done = swap_in(dirfd, temp, base_name(path), &job, old);
    if (done < 0 && (errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP)) {
        /* a file system that cannot exchange */
        done = renameat(dirfd, temp, dirfd, base_name(path)) == 0 ? 1 : -1;
    }
    if (done < 0 || (done == 1 && sync_dir(dirfd) != 0)) {
        rc = fail_os(err, errno, "cannot write", path);
    } else if (done == 1) {
        rc = 0;
    }
    (void)unlinkat(dirfd, temp, 0);
    (void)close(dirfd);
    return rc;
}

/* --- directories and modes --------------------------------------------------- */

static int make_one(const char *path, unsigned mode, struct bp_errbuf *err)
{
    struct stat st;

    if (stat(path, &st) == 0) {
        return S_ISDIR(st.st_mode) ? 0 : fail_os(err, ENOTDIR, "cannot create the directory", path);
    }
    if (mkdir(path, (mode_t)mode) != 0) {
        int e = errno;
        if (e == EEXIST && stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
            return 0; /* another process was faster */
        }
        return fail_os(err, e, "cannot create the directory", path);
    }
    return 0;
}

int bp_mkdirs(const char *path, unsigned mode, struct bp_errbuf *err)
{
    char part[PATH_MAX];
    size_t len = strlen(path);

    bp_errbuf_reset(err);
    if (len == 0 || len >= sizeof(part)) {
        (void)fail_os(err, len == 0 ? ENOENT : ENAMETOOLONG, "cannot create the directory", path);
        return BP_E_FILE;
    }
    for (size_t i = 1; i <= len; i++) {
        if (path[i] == '/' || path[i] == '\0') {
            int rc;
            memcpy(part, path, i);
            part[i] = '\0';
            rc = make_one(part, mode, err);
            if (rc != 0) {
                return rc;
            }
        }
    }
    return 0;
}

void bp_file_warn_loose(const char *path, struct bp_errbuf *err)
{
    struct stat st;

    if (err == NULL || err->warning || stat(path, &st) != 0) {
        return;
    }
    if ((st.st_mode & (S_IRGRP | S_IWGRP | S_IROTH | S_IWOTH)) != 0) {
        bp_errbuf_set(err, 0, "unsafe secret file", path, "other users can read or write it",
                      "run chmod 600 on it");
        err->warning = true;
    }
}

void bp_dir_warn_loose(const char *path, struct bp_errbuf *err)
{
    struct stat st;

    if (err == NULL || err->warning || stat(path, &st) != 0) {
        return;
    }
    if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
        bp_errbuf_set(err, 0, "unsafe directory", path,
                      "other users can write it, and so decide whom this node trusts",
                      "run chmod go-w on it");
        err->warning = true;
    }
}
