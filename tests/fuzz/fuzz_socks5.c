/* SPDX-License-Identifier: Apache-2.0 */
/* What a SOCKS 5 proxy may answer: the first byte says with or without a user and how it is cut;
 * the same bytes as a datagram, and as the address that a datagram goes to. */
#include "fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "relay/socks5.h"

/* What it starts with is all header, says the same port, and an IPv4 address as IPv4 in both of
 * its forms. */
static void datagram_to(const uint8_t *ip, bool v4, uint16_t port)
{
    uint8_t head[BP_SOCKS5_HEADER_MAX];
    uint8_t mapped[BP_SOCKS5_HEADER_MAX];
    struct bp_addr to = {0};
    size_t n;

    if (v4) {
        to.u.v4.sin_family = AF_INET;
        memcpy(&to.u.v4.sin_addr, ip, 4);
        to.len = sizeof(to.u.v4);
    } else {
        to.u.v6.sin6_family = AF_INET6;
        memcpy(to.u.v6.sin6_addr.s6_addr, ip, 16);
        to.len = sizeof(to.u.v6);
    }
    bp_addr_set_port(&to, port);
    n = bp_socks5_header(head, &to);
    if (n > sizeof(head) || bp_socks5_strip(head, n) != n || bp_socks5_strip(head, n - 1) != 0 ||
        (head[n - 2] << 8 | head[n - 1]) != port) {
        abort();
    }
    bp_addr_map_v6(&to);
    if (bp_socks5_header(mapped, &to) != n || memcmp(head, mapped, n) != 0) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bp_socks5 s;
    size_t piece;

    if (size < 1) {
        return 0;
    }
    if (bp_socks5_strip(data + 1, size - 1) > size - 1) {
        abort();
    }
    if (size >= 19) {
        uint16_t port = (uint16_t)(data[17] << 8 | data[18]);

        datagram_to(data + 1, true, port);
        datagram_to(data + 1, false, port);
    }
    piece = (size_t)(data[0] >> 1) + 1;
    if (bp_socks5_init(&s, (data[0] & 1) != 0 ? "user" : NULL, "password") != 0) {
        abort();
    }
    for (size_t off = 1; off < size; off += piece) {
        size_t n = size - off < piece ? size - off : piece;
        size_t out;
        int rc = bp_socks5_in(&s, data + off, n);

        if ((rc != 0) != (s.state == BP_SOCKS5_FAILED)) {
            abort();
        }
        (void)bp_socks5_out(&s, &out);
        if (out > sizeof(s.out)) {
            abort();
        }
        bp_socks5_sent(&s, out);
    }
    bp_socks5_free(&s);
    return 0;
}
