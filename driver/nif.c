/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What barrel_p2p_nif cannot do otherwise. The library is the driver's own.
 *
 * pid_number: a local process as the number that the VM's driver interface knows it by. A driver
 * learns pids only of processes that call it; a stream, though, may be given to a process that
 * never did.
 *
 * make_private_dir: a directory that nobody else can enter at any moment. The VM's file server
 * makes one for everybody and changes its mode then, and another node that boots meanwhile sees the
 * first.
 */
#include <erl_nif.h>

#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

static ERL_NIF_TERM pid_number(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    ErlNifPid pid;

    if (argc != 1 || !enif_get_local_pid(env, argv[0], &pid)) {
        return enif_make_badarg(env);
    }
    /* ERL_NIF_TERM and ErlDrvTermData are the VM's term, and a local pid is no pointer. */
    return enif_make_uint64(env, (ErlNifUInt64)enif_make_pid(env, &pid));
}

/* make_private_dir(Path) -> whether it was made. The path is a binary with a NUL at its end. */
static ERL_NIF_TERM make_private_dir(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    ErlNifBinary path;
    bool made;

    if (argc != 1 || !enif_inspect_binary(env, argv[0], &path) || path.size == 0 ||
        path.size > PATH_MAX || memchr(path.data, '\0', path.size) != path.data + path.size - 1) {
        return enif_make_badarg(env);
    }
    made = mkdir((const char *)path.data, 0700) == 0 &&
           chmod((const char *)path.data, 0700) == 0; /* whatever the umask */
    return enif_make_atom(env, made ? "true" : "false");
}

static int upgrade(ErlNifEnv *env, void **priv, void **old_priv, ERL_NIF_TERM info)
{
    (void)env;
    (void)priv;
    (void)old_priv;
    (void)info;
    return 0;
}

static ErlNifFunc functions[] = {{.name = "pid_number", .arity = 1, .fptr = pid_number},
                                 {.name = "make_private_dir",
                                  .arity = 1,
                                  .fptr = make_private_dir,
                                  .flags = ERL_NIF_DIRTY_JOB_IO_BOUND}};

ErlNifEntry *nif_init(void);
ERL_NIF_INIT(barrel_p2p_nif, functions, NULL, NULL, upgrade, NULL)
