/* SPDX-License-Identifier: Apache-2.0 */
/* The running emulator: forwards packets until the command has ended. */
#ifndef WAN_RUN_H
#define WAN_RUN_H

#include "wan/config.h"
#include "wan/sides.h"

struct wan_options {
    uint32_t addresses[2]; /* of a and b, host order */
    const char *address_text[2];
    const char *control; /* path of the control socket */
    const char *stats;   /* file, or NULL */
    unsigned if_mtu;
    char *const *command;
};

/*
 * The life of the first process of the PID namespace: opens both sides, runs the command in side a,
 * forwards. Returns the exit status: the command's, 128 + signal, or an error's. `outer` is
 * readable (end of file) when the process outside has died. Takes net.
 */
int wan_run(const struct wan_options *o, struct wan_net *net, int outer);

#endif
