/* SPDX-License-Identifier: Apache-2.0 */
/* Rules for node names as peers claim them (WIRE 3.1) and patterns over them (WIRE 3.3). */
#ifndef BP_NODE_NAME_H
#define BP_NODE_NAME_H

#include "base/types.h"

/*
 * True if `name` (borrowed, `len` bytes, need not end with NUL) is a node name: 1..255 bytes,
 * exactly one '@', both parts non-empty, bytes in [A-Za-z0-9_.-], no part starts with '.' or '-';
 * the host may also be an IPv6 address (upstream's nodes refuse such a name). Such a name is safe
 * as a file name and in a log line.
 */
bool bp_node_name_valid(const char *name, size_t len);

/* True for "nonode@nohost", what a node claims that will get its name in the dist handshake. */
bool bp_node_name_dynamic(const char *name, size_t len);

/*
 * True if `name` matches `pattern` (both borrowed, NUL-terminated). A '*' may stand for the whole
 * part before or the whole part after the '@', nowhere else; a pattern without '@' matches nothing,
 * and neither does a name that is not valid.
 */
bool bp_node_name_match(const char *pattern, const char *name);

#endif
