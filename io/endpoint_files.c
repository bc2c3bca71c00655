/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoint files: names, reading through a cache, writing, listing. */
#include "io/endpoint_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "auth/node_name.h"
#include "base/err.h"

#define SUFFIX    ".endpoint"
#define PATH_CAP  4096u
#define N_BUCKETS 1024u
#define CURE      "remove it; its node writes a new one when it starts"

struct stamp {
    struct timespec mtime;
    off_t size;
    ino_t inode;
};

struct bp_endpoint_cached {
    struct bp_endpoint_cached *next;
    struct stamp stamp;
    int rc; /* 0, or why it cannot be used */
    size_t n;
    struct bp_endpoint *at;
    char path[];
};

/* --- cache --------------------------------------------------------------- */

static void cached_free(struct bp_endpoint_cached *e)
{
    free(e->at);
    free(e);
}

void bp_endpoint_cache_free(struct bp_endpoint_cache *c)
{
    for (size_t i = 0; i < c->n_buckets; i++) {
        while (c->buckets[i] != NULL) {
            struct bp_endpoint_cached *e = c->buckets[i];
            c->buckets[i] = e->next;
            cached_free(e);
        }
    }
    free(c->buckets);
    c->buckets = NULL;
    c->n_buckets = 0;
    c->n = 0;
}

static size_t bucket_of(const struct bp_endpoint_cache *c, const char *path)
{
    uint64_t h = 14695981039346656037u; /* FNV-1a */

    for (const char *p = path; *p != '\0'; p++) {
        h = (h ^ (uint8_t)*p) * 1099511628211u;
    }
    return (size_t)(h % c->n_buckets);
}

static struct bp_endpoint_cached *cache_find(struct bp_endpoint_cache *c, const char *path)
{
    if (c == NULL || c->n_buckets == 0) {
        return NULL;
    }
    for (struct bp_endpoint_cached *e = c->buckets[bucket_of(c, path)]; e != NULL; e = e->next) {
        if (strcmp(e->path, path) == 0) {
            return e;
        }
    }
    return NULL;
}

static void cache_remove(struct bp_endpoint_cache *c, struct bp_endpoint_cached *gone)
{
    struct bp_endpoint_cached **p = &c->buckets[bucket_of(c, gone->path)];

    while (*p != gone) {
        p = &(*p)->next;
    }
    *p = gone->next;
    c->n--;
    cached_free(gone);
}

/* Remembers what was read; without memory it is read again next time. */
static void cache_put(struct bp_endpoint_cache *c, const char *path, const struct stamp *stamp,
                      int rc, const struct bp_endpoints *eps)
{
    struct bp_endpoint_cached *e;
    size_t len = strlen(path) + 1;

    if (c == NULL) {
        return;
    }
    if (c->n >= BP_ENDPOINT_FILES_MAX) {
        bp_endpoint_cache_free(c);
    }
    if (c->n_buckets == 0) {
        c->buckets = calloc(N_BUCKETS, sizeof(*c->buckets));
        c->n_buckets = c->buckets != NULL ? N_BUCKETS : 0;
    }
    e = c->n_buckets != 0 ? malloc(sizeof(*e) + len) : NULL;
    if (e == NULL) {
        return;
    }
    *e = (struct bp_endpoint_cached){.stamp = *stamp, .rc = rc, .n = eps->n};
    memcpy(e->path, path, len);
    if (e->n > 0) {
        e->at = malloc(e->n * sizeof(*e->at));
        if (e->at == NULL) {
            free(e);
            return;
        }
        memcpy(e->at, eps->at, e->n * sizeof(*e->at));
    }
    e->next = c->buckets[bucket_of(c, path)];
    c->buckets[bucket_of(c, path)] = e;
    c->n++;
}

static bool stamp_equal(const struct stamp *a, const struct stamp *b)
{
    return a->mtime.tv_sec == b->mtime.tv_sec && a->mtime.tv_nsec == b->mtime.tv_nsec &&
           a->size == b->size && a->inode == b->inode;
}

static bool file_stamp(const char *path, struct stamp *out)
{
    struct stat st;

    if (stat(path, &st) != 0) {
        return false;
    }
    *out = (struct stamp){.mtime = st.st_mtim, .size = st.st_size, .inode = st.st_ino};
    return true;
}

/* --- one file ------------------------------------------------------------ */

static void complain(const struct bp_endpoint_complaint *c, const char *path,
                     const struct bp_errbuf *err)
{
    if (c != NULL) {
        c->say(c->ctx, path, err->text);
    }
}

static void unusable(struct bp_errbuf *err, const char *path)
{
    bp_errbuf_set(err, 0, "cannot use the endpoint file", path,
                  "it holds neither {\"host\": \"...\", \"port\": N} nor {\"host\",Port}.", CURE);
}

/* `*was_read`: the result is the content's, not of a file that could not be opened. */
static int read_path(const char *path, struct bp_endpoints *out, bool *was_read,
                     struct bp_errbuf *err)
{
    uint8_t *text = NULL;
    size_t len = 0;
    int rc = bp_file_read(path, BP_ENDPOINT_TEXT_MAX, bp_mem_libc(), &text, &len, err);

    if (rc != 0) {
        *was_read = rc == BP_E_FILE && err->os_errno == 0; /* too large, say */
        return rc;
    }
    rc = bp_endpoints_parse((const char *)text, len, out);
    bp_mem_libc()->release(NULL, text);
    *was_read = rc == 0 || rc == BP_E_FILE;
    if (rc == BP_E_FILE) {
        unusable(err, path);
    }
    return rc;
}

static int read_cached(struct bp_endpoint_cache *cache, const char *path, struct bp_endpoints *out,
                       const struct bp_endpoint_complaint *complaint, struct bp_errbuf *err)
{
    struct bp_endpoint_cached *e = cache_find(cache, path);
    struct stamp stamp;
    bool there = file_stamp(path, &stamp);
    bool was_read = false;
    int rc;

    *out = (struct bp_endpoints){0};
    if (e != NULL && there && stamp_equal(&e->stamp, &stamp)) {
        cache->hits++;
        out->n = e->n;
        if (e->n > 0) {
            memcpy(out->at, e->at, e->n * sizeof(*e->at));
        }
        if (e->rc != 0) {
            unusable(err, path);
        }
        return e->rc;
    }
    if (e != NULL) {
        cache_remove(cache, e);
    }
    /* The stamp is from before the read: a file that changes in between is read once more. */
    rc = read_path(path, out, &was_read, err);
    if (cache != NULL) {
        cache->reads++;
    }
    if (rc == BP_E_FILE) {
        complain(complaint, path, err);
    }
    if (there && was_read) {
        cache_put(cache, path, &stamp, rc, out);
    }
    return rc;
}

static int file_path(const char *dir, const char *node, char path[static PATH_CAP],
                     struct bp_errbuf *err)
{
    char name[BP_NODE_NAME_MAX + sizeof(SUFFIX)];

    bp_errbuf_reset(err);
    if (!bp_node_name_valid(node, strlen(node))) {
        return BP_E_INVALID;
    }
    snprintf(name, sizeof(name), "%.*s%s", (int)BP_NODE_NAME_MAX, node, SUFFIX);
    return bp_path_join(dir, name, path, PATH_CAP, err);
}

/* File systems that no other machine or program has to answer for. */
static bool is_local(long type)
{
    static const long types[] = {EXT4_SUPER_MAGIC,      XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC,
                                 F2FS_SUPER_MAGIC,      TMPFS_MAGIC,     RAMFS_MAGIC,
                                 OVERLAYFS_SUPER_MAGIC, 0x2fc12fc1 /* ZFS */};

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (type == types[i]) {
            return true;
        }
    }
    return false;
}

static void note_device(struct bp_endpoint_cache *cache, const char *dir)
{
    struct statfs fs;
    struct stat st;
    int fd = cache != NULL ? open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;

    if (cache == NULL) {
        return;
    }
    cache->is_local =
        fd >= 0 && fstatfs(fd, &fs) == 0 && is_local((long)fs.f_type) && fstat(fd, &st) == 0;
    if (cache->is_local) {
        cache->dev_major = major(st.st_dev);
        cache->dev_minor = minor(st.st_dev);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
}

int bp_endpoint_file_read(struct bp_endpoint_cache *cache, const char *dir, const char *node,
                          struct bp_endpoints *out, const struct bp_endpoint_complaint *complaint,
                          struct bp_errbuf *err)
{
    char path[PATH_CAP];
    struct bp_errbuf none;
    int rc = file_path(dir, node, path, err);

    *out = (struct bp_endpoints){0};
    if (rc == 0) {
        rc = read_cached(cache, path, out, complaint, err != NULL ? err : &none);
        note_device(cache, dir);
    }
    return rc;
}

/* --- without waiting ------------------------------------------------------ */

#if defined(SYS_openat2) && defined(RESOLVE_CACHED)

/* Opens nothing, and looks into the kernel's cache of names only (Linux 5.12). */
static int open_cached(int at, const char *path, int flags, uint64_t resolve)
{
    struct open_how how = {.flags = (unsigned)O_PATH | (unsigned)O_CLOEXEC | (unsigned)flags,
                           .resolve = RESOLVE_CACHED | resolve};

    return (int)syscall(SYS_openat2, at, path, &how, sizeof(how));
}

/* No server is asked. */
static bool stat_cached(int fd, struct statx *out)
{
    const unsigned want = STATX_TYPE | STATX_MTIME | STATX_SIZE | STATX_INO;

    return statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, want, out) == 0 &&
           (out->stx_mask & want) == want;
}

static int compare_cached(struct bp_endpoint_cache *cache, int fd, const char *path,
                          struct bp_endpoints *out)
{
    const struct bp_endpoint_cached *e = cache_find(cache, path);
    struct stamp stamp;
    struct statx st;

    if (e == NULL || e->rc != 0 || !stat_cached(fd, &st) || !S_ISREG(st.stx_mode)) {
        return BP_E_AGAIN;
    }
    stamp = (struct stamp){
        .mtime = {.tv_sec = st.stx_mtime.tv_sec, .tv_nsec = (long)st.stx_mtime.tv_nsec},
        .size = (off_t)st.stx_size,
        .inode = (ino_t)st.stx_ino};
    if (!stamp_equal(&e->stamp, &stamp)) {
        return BP_E_AGAIN;
    }
    cache->hits++;
    out->n = e->n;
    memcpy(out->at, e->at, e->n * sizeof(*e->at));
    return 0;
}

static int known_in(struct bp_endpoint_cache *cache, int dir, const char *path,
                    struct bp_endpoints *out)
{
    struct statx st;
    int fd;
    int rc;

    if (!stat_cached(dir, &st) || st.stx_dev_major != cache->dev_major ||
        st.stx_dev_minor != cache->dev_minor) {
        return BP_E_AGAIN; /* another one is mounted there by now */
    }
    fd = open_cached(dir, strrchr(path, '/') + 1, O_NOFOLLOW, RESOLVE_NO_XDEV);
    if (fd < 0) {
        return errno == ENOENT ? BP_E_NOT_FOUND : BP_E_AGAIN;
    }
    rc = compare_cached(cache, fd, path, out);
    (void)close(fd);
    return rc;
}

#endif

int bp_endpoint_file_known(struct bp_endpoint_cache *cache, const char *dir, const char *node,
                           struct bp_endpoints *out)
{
    int rc = BP_E_AGAIN;

    *out = (struct bp_endpoints){0};
#if defined(SYS_openat2) && defined(RESOLVE_CACHED)
    char path[PATH_CAP];
    int fd;

    if (!cache->is_local || file_path(dir, node, path, NULL) != 0) {
        return BP_E_AGAIN;
    }
    fd = open_cached(AT_FDCWD, dir, O_DIRECTORY, 0);
    if (fd >= 0) {
        rc = known_in(cache, fd, path, out);
        (void)close(fd);
    }
#else
    (void)cache;
    (void)dir;
    (void)node;
#endif
    return rc;
}

/* --- writing -------------------------------------------------------------- */

int bp_endpoint_file_write(const char *dir, const char *node, const struct bp_endpoints *eps,
                           enum bp_endpoint_format format, struct bp_errbuf *err)
{
    char path[PATH_CAP];
    char text[BP_ENDPOINT_TEXT_MAX];
    int len;
    int rc = file_path(dir, node, path, err);

    if (rc != 0) {
        return rc;
    }
    len = bp_endpoints_format(eps, format, text, sizeof(text));
    if (len < 0) {
        return len;
    }
    rc = bp_mkdirs(dir, 0700, err);
    return rc != 0 ? rc : bp_file_write_unsynced(path, text, (size_t)len, 0644, err);
}

int bp_endpoint_file_delete(const char *dir, const char *node, struct bp_errbuf *err)
{
    char path[PATH_CAP];
    int rc = file_path(dir, node, path, err);

    if (rc == 0 && unlink(path) != 0 && errno != ENOENT) {
        bp_errbuf_set(err, errno, "cannot remove the endpoint file", path, NULL,
                      "remove it by hand, or others will try to reach a node that is gone");
        rc = BP_E_FILE;
    }
    return rc;
}

/* --- listing ------------------------------------------------------------- */

static void bad_name(struct bp_endpoint_cache *cache, const char *path,
                     const struct bp_endpoint_complaint *complaint)
{
    struct bp_endpoints none = {0};
    struct bp_errbuf err;
    struct stamp stamp;

    if (cache_find(cache, path) != NULL || !file_stamp(path, &stamp)) {
        return;
    }
    bp_errbuf_reset(&err);
    bp_errbuf_set(&err, 0, "ignored the endpoint file", path, "its name is not a node's",
                  "remove it if it is not wanted there");
    complain(complaint, path, &err);
    cache_put(cache, path, &stamp, BP_E_FILE, &none);
}

int bp_endpoint_files_list(struct bp_endpoint_cache *cache, const char *dir,
                           void (*each)(void *ctx, const char *node,
                                        const struct bp_endpoints *eps),
                           void *ctx, const struct bp_endpoint_complaint *complaint,
                           struct bp_errbuf *err)
{
    const struct dirent *e;
    char path[PATH_CAP];
    unsigned n = 0;
    DIR *d;

    bp_errbuf_reset(err);
    d = opendir(dir);
    if (d == NULL) {
        int rc = errno == ENOENT ? BP_E_NOT_FOUND : BP_E_FILE;
        bp_errbuf_set(err, errno, "cannot list the discovery directory", dir, NULL, NULL);
        return rc;
    }
    while (n < BP_ENDPOINT_FILES_MAX && (e = readdir(d)) != NULL) {
        char node[BP_NODE_NAME_MAX + 1];
        size_t len = strlen(e->d_name);
        struct bp_endpoints eps;
        struct bp_errbuf one;

        if (len <= strlen(SUFFIX) || strcmp(e->d_name + len - strlen(SUFFIX), SUFFIX) != 0 ||
            bp_path_join(dir, e->d_name, path, sizeof(path), NULL) != 0) {
            continue;
        }
        n++;
        len -= strlen(SUFFIX);
        if (len >= sizeof(node) || !bp_node_name_valid(e->d_name, len)) {
            bad_name(cache, path, complaint);
            continue;
        }
        memcpy(node, e->d_name, len);
        node[len] = '\0';
        if (read_cached(cache, path, &eps, complaint, &one) == 0) {
            each(ctx, node, &eps);
        }
    }
    (void)closedir(d);
    return 0;
}
