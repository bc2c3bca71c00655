/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for io/endpoint_files.h (linked with --wrap): a directory hangs while it holds a file
 * called HANG, as a network mount does whose server is gone. */
#include "io/endpoint_files.h"

#include "base/err.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define WRAP(ret, name, params, args)                                                              \
    ret __real_##name params;                                                                      \
    ret __wrap_##name params;                                                                      \
    ret __wrap_##name params                                                                       \
    {                                                                                              \
        hang(dir);                                                                                 \
        return __real_##name args;                                                                 \
    }

static bool hangs(const char *dir)
{
    char path[4200];

    (void)snprintf(path, sizeof(path), "%s/HANG", dir);
    return access(path, F_OK) == 0;
}

static void hang(const char *dir)
{
    const struct timespec nap = {.tv_nsec = 10000000};

    while (hangs(dir)) {
        (void)nanosleep(&nap, NULL);
    }
}

/* Of a mount the kernel says so, and does not wait. */
int __real_bp_endpoint_file_known(struct bp_endpoint_cache *cache, const char *dir,
                                  const char *node, struct bp_endpoints *out);
int __wrap_bp_endpoint_file_known(struct bp_endpoint_cache *cache, const char *dir,
                                  const char *node, struct bp_endpoints *out);
int __wrap_bp_endpoint_file_known(struct bp_endpoint_cache *cache, const char *dir,
                                  const char *node, struct bp_endpoints *out)
{
    return hangs(dir) ? BP_E_AGAIN : __real_bp_endpoint_file_known(cache, dir, node, out);
}

WRAP(int, bp_endpoint_file_read,
     (struct bp_endpoint_cache * cache, const char *dir, const char *node, struct bp_endpoints *out,
      const struct bp_endpoint_complaint *complaint, struct bp_errbuf *err),
     (cache, dir, node, out, complaint, err))
WRAP(int, bp_endpoint_file_write,
     (const char *dir, const char *node, const struct bp_endpoints *eps,
      enum bp_endpoint_format format, struct bp_errbuf *err),
     (dir, node, eps, format, err))
WRAP(int, bp_endpoint_file_delete, (const char *dir, const char *node, struct bp_errbuf *err),
     (dir, node, err))
WRAP(int, bp_endpoint_files_list,
     (struct bp_endpoint_cache * cache, const char *dir,
      void (*each)(void *ctx, const char *node, const struct bp_endpoints *eps), void *ctx,
      const struct bp_endpoint_complaint *complaint, struct bp_errbuf *err),
     (cache, dir, each, ctx, complaint, err))
