/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile peer for tests: `hostile COMMAND key=value ...`. It only talks to loopback addresses,
 * and every command is bounded in count and time. Results are lines of `name value` on standard
 * output; the exit status is 0 if the attack was carried out, whatever became of it.
 */
#ifndef HOSTILE_H
#define HOSTILE_H

#include "base/types.h"

/* The value of a `key=` argument, or `fallback`. */
const char *arg(const char *key, const char *fallback);
uint64_t arg_uint(const char *key, uint64_t fallback);

void say_uint(const char *name, uint64_t value);
void say_text(const char *name, const char *text);
/* Ends the program: the attack could not be carried out. */
_Noreturn void die(const char *fmt, ...) BP_PRINTF(1, 2);

bp_time mono(void);
uint64_t wall_ms(void);
uint64_t rnd(void);

/* flood.c */
void cmd_flood(void);
void cmd_half_open(void);
void cmd_hold_port(void);
/* loris.c */
void cmd_loris(void);
void cmd_streams(void);
/* strangers.c */
void cmd_claim(void);
void cmd_names(void);
void cmd_flips(void);
void cmd_replay(void);
void cmd_newcomers(void);
/* member.c */
void cmd_member(void);
/* serve.c */
void cmd_serve(void);

#endif
