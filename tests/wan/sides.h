/* SPDX-License-Identifier: Apache-2.0 */
/* The two network namespaces, each with a TUN device, and programs in them. */
#ifndef WAN_SIDES_H
#define WAN_SIDES_H

#include <stdint.h>
#include <sys/types.h>

enum { WAN_A, WAN_B };

struct wan_side {
    int tun; /* non-blocking; a packet per read and write */
    int ns;
};

/*
 * All return 0, or the exit status with which the program should end after they printed a line:
 * 77 when this machine or user may not do it, else 2.
 */

/*
 * The next child will be the first process of a new PID namespace. Who has not the rights of root
 * becomes root of a new user namespace on the way.
 */
int wan_new_pid_namespace(void);

/*
 * The calling thread, the first one in a new PID namespace, gets a /proc of its own, and two
 * network namespaces in turn; it stays in b's. addresses: host order, of a and b, in one /24.
 */
int wan_sides_open(struct wan_side sides[2], const uint32_t addresses[2], unsigned mtu);
void wan_sides_close(struct wan_side sides[2]);

/* Packets that a side's device dropped because nobody had read them in time. */
uint64_t wan_side_overruns(const struct wan_side *s);

/* Becomes `argv` in the namespace `ns`, and ends when the parent ends. Returns only on failure. */
int wan_exec_in(int ns, char *const argv[]);

#endif
