/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the command barrel-p2p of the same build as the test, as a process of its own. */
#ifndef BP_TESTS_CLI_RUN_H
#define BP_TESTS_CLI_RUN_H

#include "support/t.h"
#include "unit/tmpdir.h"

#include <jansson.h>

#define OUT_MAX  65536
#define ARGS_MAX 24

struct run {
    int status; /* exit code; -1: ended by a signal */
    char out[OUT_MAX];
    char err[OUT_MAX];
};

struct call {
    const char *dir;   /* working directory */
    const char *input; /* standard input, NULL: empty */
    size_t input_len;
    const char *from;    /* a file as standard input instead of `input` */
    const char *to;      /* where the standard output goes instead of `out` */
    bool as_nobody;      /* without privileges, if the test has any */
    unsigned umask_;     /* 0: 022 */
    const char *command; /* beside the test, in place of the command */
    const char *args[ARGS_MAX];
};

/* Runs it. Fails the test if the command ends with a signal or a sanitizer's report. */
void cli_call(struct run *r, const struct call *call);

/* The usual case: cli(&r, state, "trust", "list"), in the test's directory. */
#define cli(r, state, ...)                                                                         \
    cli_call(r, &(struct call){.dir = ((struct tmpdir *)*(state))->path, .args = {__VA_ARGS__}})

/* The command's path. */
const char *cli_path(char out[static PATH_MAX]);

/* Goes to the root of the source tree; a group setup. */
int cli_enter_root(void **state);

/* Fails unless the exit code is `status` and stderr (`err`) or stdout holds `part`. */
#define expect_err(r, want, part) expect(r, want, (r)->err, part, __LINE__)
#define expect_out(r, want, part) expect(r, want, (r)->out, part, __LINE__)
void expect(const struct run *r, int want, const char *text, const char *part, int line);

/* What was printed, which must be one JSON value; json_decref it. */
json_t *cli_json(const struct run *r);

/* A string member, "" if there is none. */
const char *member(const json_t *o, const char *name);

/* Gives the test's directory to the unprivileged user, if the test may do that. */
void give_to_nobody(void **state);

#endif
