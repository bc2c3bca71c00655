/* SPDX-License-Identifier: Apache-2.0 */
/*
 * As much of the VM as the driver sees: ports, binaries with reference counts, descriptors that
 * are polled, messages to owners, and the habits that bite: `stop` comes from inside of
 * driver_failure_atom, a closed descriptor's `stop_select` comes once, mutexes do not nest.
 * What the driver does wrong ends the test at once.
 */
#ifndef FAKE_VM_H
#define FAKE_VM_H

#include "support/t.h"

#include <erl_driver.h>

#define VM_MSGS_MAX 4096u
#define VM_OWNER    4711u

/* {Port, {Tag, ...}} as text: "tag atom <text of a binary>", binaries longer than 100 bytes as
 * "<N bytes>". */
struct vm_msg {
    char text[640];
    uint8_t raw[256]; /* its last binary, if it fits */
    size_t raw_len;
};

struct _erl_drv_port {
    ErlDrvData data;
    bool open;
    bool in_callback;
    bool busy;
    int busy_changes;
    bool timer_set;
    uint64_t timer_at; /* ms of the monotonic clock */
    char failed[64];   /* driver_failure_atom's reason */
    struct vm_msg *msgs;
    unsigned n_msgs;
    /* what driver_output gave to the distribution, one after the other */
    uint8_t *rx;
    size_t rx_len;
    size_t rx_cap;
    unsigned n_frames;
    struct _erl_drv_port *next;
};

struct vm_reply {
    bool badarg; /* the driver said -1 */
    bool ok;
    size_t len;
    uint8_t data[65536]; /* after the status byte, with a NUL behind it; errors: the text */
    char err[64];
};

void vm_init(void);
/* Closes what a failed test has left open. */
void vm_close_all(void);
/* Unloads the driver; fails if it holds memory, binaries or descriptors. */
void vm_finish(void);

/* NULL: start failed. */
ErlDrvPort vm_open(const char *command);
/* port_close; forgets the port. */
void vm_close(ErlDrvPort p);
void vm_control(ErlDrvPort p, unsigned op, const void *data, size_t len, struct vm_reply *r);
/* The same, and the result must be ok. */
void vm_control_ok(ErlDrvPort p, unsigned op, const void *data, size_t len, struct vm_reply *r);

/* port_command: pieces with `bin` are references into binaries. */
struct vm_piece {
    ErlDrvBinary *bin;
    const void *base;
    size_t len;
};
void vm_command(ErlDrvPort p, const struct vm_piece *pieces, int n);
void vm_command_bytes(ErlDrvPort p, const void *data, size_t len);

/* One turn of the poll, at most `ms` long: callbacks of descriptors that are ready. `also` are
 * descriptors of the test that end the wait. */
void vm_poll(int ms, const int *also, unsigned n_also);
/* No port's timer fires while it is true. */
extern bool vm_timers_held;

/* The first message of `port` (NULL: sent to the node's owner) that begins with `start`, or NULL.
 */
const char *vm_find(ErlDrvPort port, const char *start);
const struct vm_msg *vm_find_msg(ErlDrvPort port, const char *start);
void vm_forget(ErlDrvPort port);
unsigned vm_count(ErlDrvPort port, const char *start);

/* Processes besides the owner, by numbers below 100: each has a mailbox (for vm_find, vm_count and
 * vm_forget). Control operations are called by the process that vm_caller named last; 0: the owner.
 */
ErlDrvPort vm_proc(unsigned pid);
void vm_caller(unsigned pid);
/* It ends: ports that monitor it are told. It may live again afterwards. */
void vm_exit(unsigned pid);
/* Monitors that are there. */
unsigned vm_monitors(void);

/* For the parts of it, fake_*.c. */
void vm_die(const char *what); /* the driver has done wrong */
void vm_note(ErlDrvPort to, const ErlDrvTermData *t, int n);
ErlDrvEntry *vm_entry(void);
ErlDrvPort vm_mailbox(ErlDrvTermData pid);
void vm_port_gone(ErlDrvPort p);
void vm_procs_finish(void);

ErlDrvBinary *vm_bin(const void *data, size_t len);
long vm_bin_refs(const ErlDrvBinary *bin);

/* Allocations by the driver: what is alive; the next `n` succeed, then all fail (-1: never). */
long vm_live(void);
long vm_live_bins(void);
void vm_fail_after(long n);
/* ... the next `n` succeed, then one fails. */
void vm_fail_once(long n);
/* Whether the driver has asked to stay loaded. */
bool vm_locked(void);
/* From now on none fails; vm_has_failed keeps what was. */
void vm_never_fail(void);
bool vm_has_failed(void);

#endif
