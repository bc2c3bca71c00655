/* SPDX-License-Identifier: Apache-2.0 */
/* Both directions of the link and the NAT, and their parameters as text. */
#ifndef WAN_CONFIG_H
#define WAN_CONFIG_H

#include "wan/link.h"
#include "wan/packet.h"

enum { WAN_AB, WAN_BA };

struct wan_net {
    struct wan_link dir[2];
    struct wan_nat nat;
};

/* inside: a's address, host order. */
void wan_net_init(struct wan_net *n, uint64_t seed, uint32_t inside);
void wan_net_free(struct wan_net *n);

/*
 * Sets one parameter of both directions ("loss=1%") or of one ("ab.loss=1%": from a to b).
 * False: nothing has changed, `err` says why.
 */
bool wan_net_set(struct wan_net *n, const char *key, const char *value, char *err, size_t cap);

/* A line per parameter, for --help. */
const char *wan_params_help(void);

/* The statistics, "ab key=value ...\nba key=value ...\n"; its length, less than `cap`. */
size_t wan_net_print(const struct wan_net *n, char *out, size_t cap);

/* "10.77.0.1" to host order. */
bool wan_parse_address(const char *text, uint32_t *out);

#endif
