/* SPDX-License-Identifier: Apache-2.0 */
/* The control socket: a Unix SOCK_SEQPACKET socket, one request and one answer per connection. */
#ifndef WAN_CONTROL_H
#define WAN_CONTROL_H

#include <stddef.h>

#define WAN_CONTROL_MAX 4096

/* A listening socket at `path` (replaces one that nobody listens on), or -1 after a line. */
int wan_control_listen(const char *path);

/*
 * Sends `request` and reads the answer into `answer` (terminated); a descriptor that came with it
 * goes to *fd, if not NULL, else -1. Returns 0, or 2 after a line.
 */
int wan_control_ask(const char *path, const char *request, char answer[WAN_CONTROL_MAX], int *fd);

/* Sends an answer and, if fd >= 0, a descriptor. Best effort: the asker may be gone. */
void wan_control_answer(int client, const char *text, int fd);

#endif
