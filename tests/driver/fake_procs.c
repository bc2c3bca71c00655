/* SPDX-License-Identifier: Apache-2.0 */
/* Processes of the fake VM: mailboxes, monitors, and pids as the NIF gives them. */
#include "driver/fake_vm.h"

#include <erl_nif.h>

#define PROCS    100u
#define MONITORS 1024u

static struct _erl_drv_port boxes[PROCS];
static bool dead[PROCS];
static struct {
    ErlDrvPort port; /* NULL: free */
    ErlDrvTermData pid;
    unsigned id;
} monitors[MONITORS];
static unsigned next_id;
static unsigned caller;

ErlDrvPort vm_proc(unsigned pid)
{
    assert_true(pid > 0 && pid < PROCS);
    return &boxes[pid];
}

ErlDrvPort vm_mailbox(ErlDrvTermData pid)
{
    if (pid == 0 || pid >= PROCS) {
        fail_msg("the driver: a message to a process that never was");
    }
    return dead[pid] ? NULL : &boxes[pid];
}

void vm_caller(unsigned pid)
{
    caller = pid;
    dead[pid] = false;
}

ErlDrvTermData driver_caller(ErlDrvPort p)
{
    (void)p;
    return caller != 0 ? caller : VM_OWNER;
}

int driver_monitor_process(ErlDrvPort p, ErlDrvTermData pid, ErlDrvMonitor *m)
{
    if (pid < PROCS && dead[pid]) {
        return 1;
    }
    for (unsigned i = 0; i < MONITORS; i++) {
        if (monitors[i].port == NULL) {
            monitors[i].port = p;
            monitors[i].pid = pid;
            monitors[i].id = ++next_id;
            memset(m, 0, sizeof(*m));
            memcpy(m, &monitors[i].id, sizeof(monitors[i].id));
            return 0;
        }
    }
    fail_msg("the driver: more monitors than any test needs");
    return -1;
}

int driver_demonitor_process(ErlDrvPort p, const ErlDrvMonitor *m)
{
    unsigned id;

    memcpy(&id, m, sizeof(id));
    for (unsigned i = 0; i < MONITORS; i++) {
        if (monitors[i].port == p && monitors[i].id == id) {
            monitors[i].port = NULL;
            return 0;
        }
    }
    fail_msg("the driver: a monitor demonitored that is not there");
    return 1;
}

int driver_compare_monitors(const ErlDrvMonitor *a, const ErlDrvMonitor *b)
{
    return memcmp(a, b, sizeof(*a));
}

void vm_exit(unsigned pid)
{
    dead[pid] = true;
    for (unsigned i = 0; i < MONITORS; i++) {
        if (monitors[i].port != NULL && monitors[i].pid == pid) {
            ErlDrvPort p = monitors[i].port;
            ErlDrvMonitor m;

            memset(&m, 0, sizeof(m));
            memcpy(&m, &monitors[i].id, sizeof(monitors[i].id));
            monitors[i].port = NULL;
            vm_entry()->process_exit(p->data, &m);
        }
    }
}

unsigned vm_monitors(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < MONITORS; i++) {
        n += monitors[i].port != NULL;
    }
    return n;
}

void vm_port_gone(ErlDrvPort p)
{
    for (unsigned i = 0; i < MONITORS; i++) {
        if (monitors[i].port == p) {
            monitors[i].port = NULL;
        }
    }
}

void vm_procs_finish(void)
{
    for (unsigned i = 0; i < PROCS; i++) {
        free(boxes[i].msgs);
        boxes[i] = (struct _erl_drv_port){.open = false};
        dead[i] = false;
    }
    caller = 0;
}

/* --- what nif.c calls; nobody loads it here -------------------------------- */

int enif_get_local_pid(ErlNifEnv *env, ERL_NIF_TERM term, ErlNifPid *pid)
{
    (void)env;
    pid->pid = term;
    return 1;
}

ERL_NIF_TERM enif_make_badarg(ErlNifEnv *env)
{
    (void)env;
    return 0;
}

/* No binaries and no atoms: what makes directories is not called here. */
int enif_inspect_binary(ErlNifEnv *env, ERL_NIF_TERM term, ErlNifBinary *bin)
{
    (void)env;
    (void)term;
    (void)bin;
    return 0;
}

ERL_NIF_TERM enif_make_atom(ErlNifEnv *env, const char *name)
{
    (void)env;
    (void)name;
    return 0;
}

/* enif_make_uint64, where a long has 64 bits */
ERL_NIF_TERM enif_make_ulong(ErlNifEnv *env, unsigned long v)
{
    (void)env;
    return v;
}
