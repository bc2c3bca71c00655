/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mount that hangs for as long as a test wants: the program's own open(), which the library's
 * files are opened with. For one file of a program.
 */
#ifndef BP_TESTS_HANG_H
#define BP_TESTS_HANG_H

#include "support/t.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

static pthread_mutex_t hang_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t hang_changed = PTHREAD_COND_INITIALIZER;
static const char *hang_at; /* part of a path */
static unsigned n_hanging;

int open(const char *path, int flags, ...)
{
    va_list ap;
    int mode;

    va_start(ap, flags);
    mode = va_arg(ap, int); /* garbage where there is none, which the kernel then ignores */
    va_end(ap);
    pthread_mutex_lock(&hang_lock);
    if (hang_at != NULL && strstr(path, hang_at) != NULL) {
        n_hanging++;
        pthread_cond_broadcast(&hang_changed);
        while (hang_at != NULL) {
            pthread_cond_wait(&hang_changed, &hang_lock);
        }
        n_hanging--;
        pthread_cond_broadcast(&hang_changed);
    }
    pthread_mutex_unlock(&hang_lock);
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

/* Who opens a path with this part in it hangs from now on; NULL: goes on. */
static inline void hang(const char *at)
{
    pthread_mutex_lock(&hang_lock);
    hang_at = at;
    pthread_cond_broadcast(&hang_changed);
    while (at == NULL && n_hanging > 0) {
        pthread_cond_wait(&hang_changed, &hang_lock);
    }
    pthread_mutex_unlock(&hang_lock);
}

static inline void wait_hanging(void)
{
    pthread_mutex_lock(&hang_lock);
    while (n_hanging == 0) {
        pthread_cond_wait(&hang_changed, &hang_lock);
    }
    pthread_mutex_unlock(&hang_lock);
}

#endif
