/* SPDX-License-Identifier: Apache-2.0 */
/* A relay as the command line has it (--relay). */
#ifndef CLI_RELAY_URL_H
#define CLI_RELAY_URL_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define CLI_RELAY_HOST_MAX 253u
#define CLI_RELAY_USER_MAX 255u

enum cli_relay_scheme { CLI_RELAY_UDP, CLI_RELAY_SOCKS5 };

struct cli_relay_url {
    enum cli_relay_scheme scheme;
    char host[CLI_RELAY_HOST_MAX + 1]; /* a name or an address, without brackets */
    uint16_t port;
    char user[CLI_RELAY_USER_MAX + 1]; /* SOCKS5; "": none */
    uint32_t mtu;                      /* 0: not given */
};

/*
 * "udp://HOST:PORT", "socks5://[USER@]HOST[:PORT]" (port 1080), both with "?mtu=N" or without; an
 * IPv6 address is in brackets, and "%40" in USER stands for "@". BP_E_INVALID, and `*why` (static)
 * is what is wrong: also for a password, which has no business on a command line.
 */
int cli_relay_url_parse(const char *text, struct cli_relay_url *out,
                        const char **why) BP_MUST_CHECK;

#endif
