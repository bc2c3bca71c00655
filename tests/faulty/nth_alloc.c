/* SPDX-License-Identifier: Apache-2.0 */
/* malloc and its siblings, of which one call fails. */
#include "faulty/nth_alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
char *__real_strdup(const char *s);
void *__real_ei_realloc(void *p, long size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
char *__wrap_strdup(const char *s);
void *__wrap_ei_realloc(void *p, long size);

static atomic_long left;
static atomic_bool hit;
static _Thread_local bool exempt;

void nth_alloc_arm(long n)
{
    atomic_store(&hit, false);
    atomic_store(&left, n);
}

bool nth_alloc_hit(void)
{
    return atomic_load(&hit);
}

__attribute__((constructor)) static void from_environment(void)
{
    const char *n = getenv("BP_FAIL_ALLOC");

    if (n != NULL) {
        nth_alloc_arm(strtol(n, NULL, 10));
    }
}

static bool fails(void)
{
    const char *path;
    int fd;

    if (exempt || atomic_load(&left) <= 0 || atomic_fetch_sub(&left, 1) != 1) {
        return false;
    }
    atomic_store(&hit, true);
    path = getenv("BP_FAIL_HIT");
    fd = path != NULL ? open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644) : -1;
    if (fd >= 0) {
        (void)close(fd);
    }
    errno = ENOMEM;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    return fails() ? NULL : __real_realloc(p, size);
}

char *__wrap_strdup(const char *s)
{
    return fails() ? NULL : __real_strdup(s);
}

/* libei loses its buffer when that cannot grow. */
void *__wrap_ei_realloc(void *p, long size)
{
    void *q;

    exempt = true;
    q = __real_ei_realloc(p, size);
    exempt = false;
    return q;
}
