/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text of a `<node>.endpoint` file, in both formats in use:
 *
 *   JSON  {"host": "192.0.2.1", "port": 4433}, what the documentation promises. A node with several
 *         addresses adds "addresses": [{"host": ..., "port": ...}, ...], the first one included.
 *         Other members are ignored, so that a later version can add some.
 *   term  {"192.0.2.1",4433}.  what upstream 0.1.0 reads and writes (WIRE 9)
 */
#ifndef BP_ENDPOINT_H
#define BP_ENDPOINT_H

#include "base/types.h"

#define BP_ENDPOINT_HOST_MAX 255u
#define BP_ENDPOINT_TEXT_MAX 4096u /* of a whole file */
#define BP_ENDPOINTS_MAX     8u    /* addresses of one node */

struct bp_endpoint {
    char host[BP_ENDPOINT_HOST_MAX + 1]; /* name or address, NUL-terminated */
    uint16_t port;                       /* 1..65535 */
};

/* The addresses of one node in the order in which to try them. */
struct bp_endpoints {
    size_t n;
    struct bp_endpoint at[BP_ENDPOINTS_MAX];
};

enum bp_endpoint_format { BP_ENDPOINT_JSON, BP_ENDPOINT_TERM };

/*
 * Reads a whole file's text in either format; blanks and line ends are allowed between tokens. A
 * host is 1 to 255 bytes of A-Z a-z 0-9 . : _ -, a port is decimal without leading zeros. JSON must
 * be one object whose members have different names. BP_E_FILE for anything else, and for more than
 * BP_ENDPOINTS_MAX addresses; BP_E_NOMEM. `*out` is empty after a failure and has at least one
 * address after 0.
 */
int bp_endpoints_parse(const char *text, size_t len, struct bp_endpoints *out) BP_MUST_CHECK;

/*
 * Writes the text with a line end and a NUL. A term holds the first address only. Returns its
 * length without the NUL, BP_E_INVALID for what bp_endpoints_parse would refuse, BP_E_LIMIT where
 * `cap` is too small, BP_E_NOMEM.
 */
int bp_endpoints_format(const struct bp_endpoints *eps, enum bp_endpoint_format format, char *buf,
                        size_t cap) BP_MUST_CHECK;

/* Whether a host and a port could stand in such a file. */
bool bp_endpoint_valid(const struct bp_endpoint *ep);

#endif
