/* SPDX-License-Identifier: Apache-2.0 */
/* Changes of this machine's addresses and routes, as the kernel reports them (rtnetlink(7)). */
#ifndef BP_ROUTE_WATCH_H
#define BP_ROUTE_WATCH_H

#include "base/err.h"

/* `*fd` becomes readable when something has changed; the caller closes it. Errors: BP_E_LIMIT,
 * BP_E_SYSTEM (errno tells). */
int bp_route_watch_open(int *fd) BP_MUST_CHECK;

/* Reads what is there; true if an address or a route by which a peer could be reached has come or
 * gone, or if reports were lost. */
bool bp_route_watch_read(int fd);

/* The same for one datagram of reports. */
bool bp_route_watch_relevant(const uint8_t *p, size_t len);

#endif
