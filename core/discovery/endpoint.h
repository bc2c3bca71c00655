/* SPDX-License-Identifier: Apache-2.0 */
/* The text of a `<node>.endpoint` file: one Erlang term, `{"host",Port}.` (WIRE 9). */
#ifndef BP_ENDPOINT_H
#define BP_ENDPOINT_H

#include "base/types.h"

#define BP_ENDPOINT_HOST_MAX 255u
#define BP_ENDPOINT_TEXT_MAX 1024u /* of a whole file */

struct bp_endpoint {
    char host[BP_ENDPOINT_HOST_MAX + 1]; /* name or address, NUL-terminated */
    uint16_t port;                       /* 1..65535 */
};

/*
 * Reads a whole file's text; blanks and line ends are allowed between tokens. A host is 1 to 255
 * bytes of A-Z a-z 0-9 . : _ -, the port is decimal without leading zeros. BP_E_FILE for
 * anything else, with `*ep` zeroed.
 */
int bp_endpoint_parse(const char *text, size_t len, struct bp_endpoint *ep) BP_MUST_CHECK;

/*
 * Writes the text with a line end and a NUL, as upstream does. Returns its length without the
 * NUL, BP_E_INVALID for an endpoint that bp_endpoint_parse would refuse, BP_E_LIMIT where `cap`
 * is too small.
 */
int bp_endpoint_format(const struct bp_endpoint *ep, char *buf, size_t cap) BP_MUST_CHECK;

#endif
