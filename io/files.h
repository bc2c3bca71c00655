/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small files that matter: bounded reads, atomic writes, and error sentences that a person can act
 * on. Nothing here has static state; every function may be called from any thread.
 */
#ifndef BP_FILES_H
#define BP_FILES_H

#include "base/types.h"

/*
 * What a failed call tells the operator: what was tried, on which file (absolute path), why it
 * failed, what to do. After a call that returned 0 `text` is empty, unless `warning` is true: then
 * it holds a sentence that deserves a log line (a secret that others can read). Every function
 * that takes one resets it first and accepts NULL.
 */
struct bp_errbuf {
    char text[512];
    int os_errno; /* 0 where the operating system was not the reason */
    bool warning;
};

#define BP_FILE_SWAP_MAX 64u

void bp_errbuf_reset(struct bp_errbuf *err);

/*
 * Sets "<what> <absolute path>: <why>; <cure>". `why` NULL stands for the text of `os_errno`,
 * `cure` NULL for what helps against it. A long path keeps its end.
 */
void bp_errbuf_set(struct bp_errbuf *err, int os_errno, const char *what, const char *path,
                   const char *why, const char *cure);

/* "<dir>/<name>" in `out`; BP_E_INVALID (and a sentence) when it does not fit. */
int bp_path_join(const char *dir, const char *name, char *out, size_t cap,
                 struct bp_errbuf *err) BP_MUST_CHECK;

/* The directory part of `path` ("." if none) in `out`; BP_E_INVALID when it does not fit. */
int bp_path_dir(const char *path, char *out, size_t cap, struct bp_errbuf *err) BP_MUST_CHECK;

/*
 * Reads a regular file (symbolic links are followed) of at most `cap` bytes. `*out` is memory of
 * `mem` that the caller releases (and wipes, if it is a secret); a NUL byte follows its `*len`
 * bytes. BP_E_NOT_FOUND: no such file. BP_E_FILE: unreadable, not a regular file, too large,
 * changed meanwhile. BP_E_NOMEM.
 */
int bp_file_read(const char *path, size_t cap, const struct bp_mem *mem, uint8_t **out, size_t *len,
                 struct bp_errbuf *err) BP_MUST_CHECK;

/*
 * Reads a file that must have exactly `len` bytes. `cure` ends the sentence for another size. On
 * failure `out` is wiped. Errors as bp_file_read, without BP_E_NOMEM.
 */
int bp_file_read_exact(const char *path, void *out, size_t len, const char *cure,
                       struct bp_errbuf *err) BP_MUST_CHECK;

/*
 * Replaces or creates `path`: a temporary file in the same directory, mode set whatever the umask,
 * synced, renamed, directory synced. A reader sees the old or the new content, nothing between;
 * the temporary file is removed on failure. BP_E_FILE.
 */
int bp_file_write_atomic(const char *path, const void *data, size_t len, unsigned mode,
                         struct bp_errbuf *err) BP_MUST_CHECK;

/*
 * As bp_file_write_atomic, but not synced: after a power failure it may be gone, empty or the old
 * one. For what is written again at each start.
 */
int bp_file_write_unsynced(const char *path, const void *data, size_t len, unsigned mode,
                           struct bp_errbuf *err) BP_MUST_CHECK;

/*
 * As bp_file_write_atomic, but never replaces: BP_E_EXISTS if `path` is there, and of several
 * writers exactly one succeeds. The file appears with its whole content.
 */
int bp_file_write_new(const char *path, const void *data, size_t len, unsigned mode,
                      struct bp_errbuf *err) BP_MUST_CHECK;

/*
 * As bp_file_write_atomic, but only in place of a file that holds exactly `old` (both have `len`
 * bytes, at most BP_FILE_SWAP_MAX). BP_E_MISMATCH, without a sentence: there is none, or another
 * content. What another process writes or deletes at the same moment is not lost: it counts, as if
 * it had come afterwards. (Where the file system cannot exchange two files it may be lost.)
 */
int bp_file_replace_if(const char *path, const void *old, const void *data, size_t len,
                       unsigned mode, struct bp_errbuf *err) BP_MUST_CHECK;

/* Creates a directory and its missing parents, each with `mode`. BP_E_FILE. */
int bp_mkdirs(const char *path, unsigned mode, struct bp_errbuf *err) BP_MUST_CHECK;

/*
 * Puts a warning in `err` if other users may read or write the secret at `path`. Keeps a warning
 * that is already there. Never fails: loose modes are reported, not refused, as upstream does.
 */
void bp_file_warn_loose(const char *path, struct bp_errbuf *err);

/* The same for a directory in which other users may put files, or replace ours. */
void bp_dir_warn_loose(const char *path, struct bp_errbuf *err);

#endif
