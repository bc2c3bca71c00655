/* SPDX-License-Identifier: Apache-2.0 */
/* What the driver gets from the VM to keep: memory, binaries, mutexes. All of it is counted, and
 * an allocation can be made to fail. */
#include "driver/fake_vm.h"

#include <pthread.h>

struct bin_head {
    long refs;
    long size;
    ErlDrvBinary bin;
};

static long live;
static long live_bins;
static long allow = -1;
static bool refused;
static bool once;

void vm_die(const char *what)
{
    fail_msg("the driver: %s", what);
}

/* --- memory -------------------------------------------------------------- */

static bool may_alloc(void)
{
    if (allow == 0) {
        refused = true;
        allow = once ? -1 : 0;
        return false;
    }
    if (allow > 0) {
        allow--;
    }
    return true;
}

void vm_fail_after(long n)
{
    allow = n;
    refused = false;
    once = false;
}

void vm_never_fail(void)
{
    allow = -1;
}

void vm_fail_once(long n)
{
    vm_fail_after(n);
    once = true;
}

bool vm_has_failed(void)
{
    return refused;
}

long vm_live(void)
{
    return live;
}

long vm_live_bins(void)
{
    return live_bins;
}

void *driver_alloc(ErlDrvSizeT size)
{
    void *p = may_alloc() ? malloc(size) : NULL;

    live += p != NULL;
    return p;
}

void *driver_realloc(void *p, ErlDrvSizeT size)
{
    void *q = may_alloc() ? realloc(p, size) : NULL;

    live += q != NULL && p == NULL;
    return q;
}

void driver_free(void *p)
{
    if (p == NULL) {
        vm_die("driver_free(NULL)");
    }
    live--;
    free(p);
}

static struct bin_head *head_of(const ErlDrvBinary *b)
{
    return (struct bin_head *)(uintptr_t)((const uint8_t *)b - offsetof(struct bin_head, bin));
}

static ErlDrvBinary *new_bin(size_t size)
{
    struct bin_head *h = malloc(sizeof(*h) + size);

    assert_non_null(h);
    h->refs = 1;
    h->bin.orig_size = (ErlDrvSInt)size;
    live_bins++;
    return &h->bin;
}

ErlDrvBinary *driver_alloc_binary(ErlDrvSizeT size)
{
    return may_alloc() ? new_bin(size) : NULL;
}

ErlDrvBinary *driver_realloc_binary(ErlDrvBinary *b, ErlDrvSizeT size)
{
    struct bin_head *h = head_of(b);

    if (h->refs != 1) {
        vm_die("driver_realloc_binary of a shared binary");
    }
    h = may_alloc() ? realloc(h, sizeof(*h) + size) : NULL;
    if (h == NULL) {
        return NULL;
    }
    h->bin.orig_size = (ErlDrvSInt)size;
    return &h->bin;
}

void driver_free_binary(ErlDrvBinary *b)
{
    struct bin_head *h = head_of(b);

    if (h->refs < 1) {
        vm_die("a binary freed too often");
    }
    if (--h->refs == 0) {
        live_bins--;
        free(h);
    }
}

ErlDrvSInt driver_binary_inc_refc(ErlDrvBinary *b)
{
    return ++head_of(b)->refs;
}

ErlDrvBinary *vm_bin(const void *data, size_t len)
{
    ErlDrvBinary *b = new_bin(len);

    memcpy(b->orig_bytes, data, len);
    return b;
}

long vm_bin_refs(const ErlDrvBinary *bin)
{
    return head_of(bin)->refs;
}

/* --- locks --------------------------------------------------------------- */

struct ErlDrvMutex_ {
    pthread_mutex_t m;
};

ErlDrvMutex *erl_drv_mutex_create(char *name)
{
    struct ErlDrvMutex_ *m = calloc(1, sizeof(*m));
    pthread_mutexattr_t a;

    (void)name;
    assert_non_null(m);
    pthread_mutexattr_init(&a);
    pthread_mutexattr_settype(&a, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutex_init(&m->m, &a);
    pthread_mutexattr_destroy(&a);
    return m;
}

void erl_drv_mutex_destroy(ErlDrvMutex *m)
{
    if (pthread_mutex_destroy(&m->m) != 0) {
        vm_die("a locked mutex destroyed");
    }
    free(m);
}

void erl_drv_mutex_lock(ErlDrvMutex *m)
{
    if (pthread_mutex_lock(&m->m) != 0) {
        vm_die("a mutex locked twice");
    }
}

void erl_drv_mutex_unlock(ErlDrvMutex *m)
{
    if (pthread_mutex_unlock(&m->m) != 0) {
        vm_die("a mutex unlocked that was not locked");
    }
}
