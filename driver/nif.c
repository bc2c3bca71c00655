/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One function for barrel_p2p_nif: a local process as the number that the VM's driver interface
 * knows it by. A driver learns pids only of processes that call it; a stream, though, may be given
 * to a process that never did. The library is the driver's own.
 */
#include <erl_nif.h>

static ERL_NIF_TERM pid_number(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    ErlNifPid pid;

    if (argc != 1 || !enif_get_local_pid(env, argv[0], &pid)) {
        return enif_make_badarg(env);
    }
    /* ERL_NIF_TERM and ErlDrvTermData are the VM's term, and a local pid is no pointer. */
    return enif_make_uint64(env, (ErlNifUInt64)enif_make_pid(env, &pid));
}

static int upgrade(ErlNifEnv *env, void **priv, void **old_priv, ERL_NIF_TERM info)
{
    (void)env;
    (void)priv;
    (void)old_priv;
    (void)info;
    return 0;
}

static ErlNifFunc functions[] = {{.name = "pid_number", .arity = 1, .fptr = pid_number}};

ErlNifEntry *nif_init(void);
ERL_NIF_INIT(barrel_p2p_nif, functions, NULL, NULL, upgrade, NULL)
