/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments, output and the table of commands of the hostile peer. */
#include "hostile/hostile.h"

#include <gnutls/crypto.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define RUN_MAX 120u /* seconds: no command takes longer */

static int n_args;
static char **args;

static const struct {
    const char *name;
    void (*run)(void);
} commands[] = {
    {"flood", cmd_flood},         {"half_open", cmd_half_open}, {"hold_port", cmd_hold_port},
    {"loris", cmd_loris},         {"streams", cmd_streams},     {"claim", cmd_claim},
    {"names", cmd_names},         {"flips", cmd_flips},         {"replay", cmd_replay},
    {"newcomers", cmd_newcomers}, {"member", cmd_member},       {"serve", cmd_serve},
};

const char *arg(const char *key, const char *fallback)
{
    size_t len = strlen(key);

    for (int i = 0; i < n_args; i++) {
        if (strncmp(args[i], key, len) == 0 && args[i][len] == '=') {
            return args[i] + len + 1;
        }
    }
    return fallback;
}

uint64_t arg_uint(const char *key, uint64_t fallback)
{
    const char *text = arg(key, NULL);

    return text != NULL ? strtoull(text, NULL, 10) : fallback;
}

void say_uint(const char *name, uint64_t value)
{
    printf("%s %" PRIu64 "\n", name, value);
    fflush(stdout);
}

void say_text(const char *name, const char *text)
{
    printf("%s %s\n", name, text);
    fflush(stdout);
}

void die(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fputs("hostile: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(1);
}

static bp_time now_of(clockid_t id)
{
    struct timespec t;

    (void)clock_gettime(id, &t);
    return (bp_time)t.tv_sec * BP_SEC + (bp_time)t.tv_nsec;
}

bp_time mono(void)
{
    return now_of(CLOCK_MONOTONIC);
}

uint64_t wall_ms(void)
{
    return now_of(CLOCK_REALTIME) / BP_MS;
}

uint64_t rnd(void)
{
    static uint64_t x;

    if (x == 0) {
        x = arg_uint("seed", mono()) | 1;
        say_uint("seed", x);
    }
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    return x * UINT64_C(0x2545f4914f6cdd1d);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        die("which command?");
    }
    (void)alarm(RUN_MAX);
    n_args = argc - 2;
    args = argv + 2;
    if (strncmp(arg("to", "127.0.0.1"), "127.", 4) != 0 ||
        strncmp(arg("from", "127.0.0.1"), "127.", 4) != 0) {
        die("loopback addresses only");
    }
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            commands[i].run();
            return 0;
        }
    }
    die("no such command: %s", argv[1]);
}
