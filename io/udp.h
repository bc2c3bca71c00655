/* SPDX-License-Identifier: Apache-2.0 */
/* UDP sockets of a node: one listener, one connected socket per peer on the same port (DESIGN 3),
 * and batches with GSO, GRO, sendmmsg and recvmmsg. */
#ifndef BP_UDP_H
#define BP_UDP_H

#include "base/addr.h"
#include "quic/conn.h"

#define BP_UDP_RX_BUFS 4u
#define BP_UDP_RX_BUF  (64u * 1024u)
#define BP_UDP_TX_BUF  (2u * BP_TX_RUN_MAX + BP_DGRAM_SENT)

/*
 * Binds the listener. `want` is the address (port 0: any free), or without a family (len 0) any
 * address of both families where the host has IPv6, else of IPv4, on `port`; `family` 0, 4 or 6
 * restricts that. Two nodes never share a port: the bind is exclusive, peer sockets may join it
 * afterwards. `*bound` is what it got.
 * Errors: BP_E_ADDR_IN_USE, BP_E_INVALID, BP_E_SYSTEM (errno tells).
 */
int bp_udp_listen(int *fd, const struct bp_addr *want, uint16_t port, int family,
                  struct bp_addr *bound) BP_MUST_CHECK;

/*
 * A socket connected to `remote`, on the listener's address and port (`local`), or, where there is
 * no listener (local->len == 0), on any free port. `remote` is mapped to IPv6 if `local` needs it.
 * `*bound` is the local address as the listener has it.
 * Errors: BP_E_LIMIT (no descriptors), BP_E_SYSTEM (errno tells).
 */
int bp_udp_connect(int *fd, const struct bp_addr *local, struct bp_addr *remote,
                   struct bp_addr *bound) BP_MUST_CHECK;

/*
 * A socket for another path to `remote`: bound to `want` (no address: the kernel chooses; port 0:
 * any free one) and connected. With `share` the port may be one that sockets of this user have
 * (SO_REUSEPORT): the node's own. `*bound` is what it got, the address that the route to `remote`
 * has included.
 * Errors: BP_E_ADDR_IN_USE, BP_E_LIMIT (no descriptors), BP_E_INVALID (the two are of different
 * families), BP_E_SYSTEM (errno tells).
 */
int bp_udp_path(int *fd, const struct bp_addr *want, const struct bp_addr *remote, bool share,
                struct bp_addr *bound) BP_MUST_CHECK;

/* What lies between a socket and the peer, as far as sending has to know it. */
struct bp_udp_relay {
    uint8_t header[32]; /* goes before each datagram */
    size_t header_len;
};

struct bp_udp_tx {
    struct bp_addr peer; /* that the socket is connected to; no address: not connected */
    const struct bp_udp_relay *relay; /* borrowed; NULL: none. Each datagram goes to where the
                                         socket is connected, which may be AF_UNIX */
    uint32_t max_datagram; /* larger ones are lost, as where the network has a limit; 0: none */
    bool no_gso;           /* the kernel refused it */
    bool refused;          /* set when ECONNREFUSED was seen; the caller clears it */
    uint64_t syscalls;
    uint64_t lost; /* datagrams that the kernel would not take, other than for want of room */
    uint64_t lost_bytes;
};

/* For runs that a full socket did not take: their bytes together, and a copy of them one behind the
 * other, in `to`, which has room for as many; `copied` are the runs there. */
size_t bp_udp_runs_size(const struct bp_tx_run *runs, unsigned n);
void bp_udp_runs_copy(uint8_t *to, struct bp_tx_run *copied, const uint8_t *buf,
                      const struct bp_tx_run *runs, unsigned n);

/*
 * Sends runs of datagrams. Returns the number of runs that are done; fewer than `n` means that the
 * socket is full: run number <result> was shortened to what is left, send it again when writable.
 */
unsigned bp_udp_send(int fd, struct bp_udp_tx *tx, const uint8_t *buf, struct bp_tx_run *runs,
                     unsigned n);

/* One received buffer: datagrams of `seg` bytes, the last may be shorter. `remote` is no address if
 * the socket is no UDP socket. */
struct bp_udp_rx {
    struct bp_addr remote;
    const uint8_t *data;
    size_t len;
    size_t seg;
};

/*
 * Receives what is there, at most BP_UDP_RX_BUFS buffers, into `mem` (BP_UDP_RX_BUFS *
 * BP_UDP_RX_BUF bytes). Returns their number, 0 if nothing is there; `*refused` is set where the
 * kernel reported that the peer's port is closed; BP_E_SYSTEM for anything else.
 */
int bp_udp_recv(int fd, uint8_t *mem, struct bp_udp_rx *rx, bool *refused);
/* The same for at most `max` of them, up to BP_UDP_RX_BUFS. */
int bp_udp_recv_some(int fd, uint8_t *mem, struct bp_udp_rx *rx, unsigned max, bool *refused);

/*
 * For a socket that is not connected, to which the kernel says nothing of refused datagrams unless
 * asked: from now on it keeps reports (EPOLLERR tells), which bp_udp_refused takes.
 */
void bp_udp_report_refused(int fd);

/* The next report; false: none. `whose` is the address whose port is closed, in the form of the
 * socket's family, or without a length for a report of another kind. */
bool bp_udp_refused(int fd, struct bp_addr *whose);

#endif
