// SPDX-License-Identifier: Apache-2.0
// Preloaded into a measured node: publishes how many bytes the process has from malloc, what no
// Erlang function and no file in /proc tells.

#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define PERIOD_MS 100

// Overwrites the file (its descriptor is `arg`) with one decimal number of fixed width.
static void *publish(void *arg)
{
    int fd = *(int *)arg;
    const struct timespec period = {.tv_nsec = PERIOD_MS * 1000000L};
    for (;;) {
        struct mallinfo2 info = mallinfo2();
        char text[32];
        int len = snprintf(text, sizeof(text), "%020zu\n", info.uordblks + info.hblkhd);
        if (len > 0 && pwrite(fd, text, (size_t)len, 0) < 0) {
            return NULL;
        }
        nanosleep(&period, NULL);
    }
}

// $BENCH_MALLOC_FILE.<pid>: child processes inherit the environment and have files of their own.
__attribute__((constructor)) static void start(void)
{
    static int fd;
    const char *prefix = getenv("BENCH_MALLOC_FILE");
    char path[4096];
    int len = prefix ? snprintf(path, sizeof(path), "%s.%ld", prefix, (long)getpid()) : 0;
    if (len <= 0 || (size_t)len >= sizeof(path)) {
        return;
    }
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    pthread_t thread;
    if (fd >= 0 && pthread_create(&thread, NULL, publish, &fd) == 0) {
        pthread_detach(thread);
    }
}
