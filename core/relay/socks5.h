/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client's side of SOCKS 5 (RFC 1928) for UDP ASSOCIATE, with user name and password (RFC 1929)
 * where the proxy wants them. Bytes of the TCP connection to the proxy come in and go out; it stays
 * open for as long as datagrams are to be relayed.
 */
#ifndef BP_SOCKS5_H
#define BP_SOCKS5_H

#include "base/addr.h"
#include "base/err.h"

#define BP_SOCKS5_TEXT_MAX   255u /* of a user name or password */
#define BP_SOCKS5_HEADER_MAX 22u  /* of a datagram: RFC 1928, 7, with an IPv6 address */

enum bp_socks5_state {
    BP_SOCKS5_METHOD,
    BP_SOCKS5_AUTH,
    BP_SOCKS5_REPLY,
    BP_SOCKS5_DONE,
    BP_SOCKS5_FAILED
};

struct bp_socks5 {
    enum bp_socks5_state state;
    char user[BP_SOCKS5_TEXT_MAX + 1];
    char password[BP_SOCKS5_TEXT_MAX + 1]; /* wiped once it was sent */
    uint8_t out[3 + 2 * BP_SOCKS5_TEXT_MAX];
    size_t out_len;
    size_t out_off; /* sent so far */
    uint8_t in[4 + 1 + 255 + 2];
    size_t in_len;
    struct bp_addr
        bound; /* where the proxy takes datagrams; DONE only. No address: the proxy's own */
    uint16_t bound_port;
    char text[128]; /* why it failed */
};

/* `user` NULL or "": no authentication is offered. Both are copied. Errors: BP_E_INVALID (longer
 * than BP_SOCKS5_TEXT_MAX). The first bytes are there to be sent. */
int bp_socks5_init(struct bp_socks5 *s, const char *user, const char *password) BP_MUST_CHECK;

/* What is to be sent (borrowed until the next call); 0 bytes: nothing now. */
const uint8_t *bp_socks5_out(const struct bp_socks5 *s, size_t *len);
void bp_socks5_sent(struct bp_socks5 *s, size_t n);

/*
 * What was received. 0 (look at bp_socks5_out, and at the state: DONE), or the error with which the
 * proxy failed us: BP_E_RELAY, and `text` says why. Bytes after the reply are ignored.
 */
int bp_socks5_in(struct bp_socks5 *s, const uint8_t *p, size_t len) BP_MUST_CHECK;

/* Wipes the password. */
void bp_socks5_free(struct bp_socks5 *s);

/* The header of a datagram to `to`; its length. */
size_t bp_socks5_header(uint8_t out[static BP_SOCKS5_HEADER_MAX], const struct bp_addr *to);

/* The length of a received datagram's header, 0 if it has none, is a fragment (RFC 1928 lets a
 * client drop these), or is cut off. */
size_t bp_socks5_strip(const uint8_t *p, size_t len);

#endif
