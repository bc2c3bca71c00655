/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of the emulator as a program, which run themselves inside of `wan` (of the same build):
 * the link and its rights are there, or the whole program ends with 77 and wan's line.
 */
#ifndef WAN_RIG_H
#define WAN_RIG_H

#include "support/t.h"

#include "wan/control.h"

#include <netinet/in.h>

#define PORT    4000
#define WAIT_MS 10000

extern char rig_wan[1024];    /* the emulator's path */
extern char rig_control[256]; /* its control socket */
extern int rig_udp[2];        /* sockets in the sides a and b, bound to PORT */

/* main: `tests` runs the group. Returns the program's status. */
int rig_main(int (*tests)(void));
/* Around each test: the link as it is without options, `rig_udp`; what a test has left on the link
 * must not reach the next one. */
int rig_setup(void **state);
int rig_teardown(void **state);
#define WAN_TEST(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)

double rig_now_ms(void);
/* A request that is not refused; `fd`, if not NULL, gets the descriptor that comes with it. */
void rig_ask(const char *request, char answer[WAN_CONTROL_MAX], int *fd);
void rig_set(const char *parameters);
/* A number of the statistics: rig_stat("ab", "lost"). */
long rig_stat(const char *direction, const char *key);
/* Waits until the emulator has counted as much. */
void rig_wait_stat(const char *direction, const char *key, long at_least);

/* A socket in a side. */
int rig_socket(const char *side, int type);
struct sockaddr_in rig_address(const char *ip, int port);
void rig_bind(int s, const char *ip, int port);
/* A datagram of `len` bytes that begins with a number; -1: it was not sent. */
int rig_send_to(int s, const char *ip, int port, uint32_t number, size_t len);
/* From side a to b. */
void rig_send_ab(uint32_t number, size_t len);
void rig_wait_readable(int s);
/* The number in the next datagram, and who sent it. */
uint32_t rig_receive(int s, struct sockaddr_in *from);

#endif
