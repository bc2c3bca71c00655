/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a connection's datagrams go through instead of a UDP socket towards the peer: a forwarder, a
 * SOCKS 5 proxy, a socket of the user's, or a pair of sockets at whose other end somebody takes and
 * gives datagrams. For Erlang nodes (driver/relay.c) and C nodes (cnode/path.c).
 *
 * QUIC does not know: for it the peer is where it was dialled, and the path has a name of its own.
 * Nothing here blocks or waits; one thread at a time.
 */
#ifndef BP_RELAY_PATH_H
#define BP_RELAY_PATH_H

#include "io/udp.h"
#include "relay/socks5.h"

/* As the user sees it, and long enough for the error of a system call. */
#define BP_RELAY_TEXT 256u

enum bp_relay_way { BP_WAY_UDP = 1, BP_WAY_SOCKS5 = 2, BP_WAY_FD = 3, BP_WAY_PAIR = 4 };

struct bp_relay_stats {
    uint64_t datagrams_out;
    uint64_t bytes_out; /* without a proxy's headers */
    uint64_t datagrams_in;
    uint64_t bytes_in;
    uint64_t dropped_out; /* larger than the relay takes, or refused by the kernel */
    uint64_t dropped_in;  /* not what a proxy sends */
};

struct bp_relay_path {
    enum bp_relay_way way;
    uint32_t mtu;          /* largest datagram of QUIC that it takes; 0: not known */
    struct bp_addr via;    /* UDP, SOCKS5 */
    struct bp_addr remote; /* of QUIC */
    struct bp_udp_relay tx;
    struct bp_socks5 socks;
    int user_fd; /* FD; borrowed */
    int side;    /* SOCKS5: the TCP connection; PAIR: the far end; -1: none */
    bool connecting;
    bool open;
    bool down;                        /* ... and somebody was told */
    char name[BP_ADDR_TEXT_MAX + 32]; /* "relay 192.0.2.7:5000" */
    char text[BP_RELAY_TEXT];         /* why it failed */
};

/* Each makes `r` ready for bp_relay_path_open. `via` and texts are copied, `fd` is borrowed until
 * then. BP_E_INVALID: user name or password too long. */
void bp_relay_path_udp(struct bp_relay_path *r, const struct bp_addr *via);
int bp_relay_path_socks5(struct bp_relay_path *r, const struct bp_addr *via, const char *user,
                         const char *password) BP_MUST_CHECK;
void bp_relay_path_fd(struct bp_relay_path *r, int fd);
void bp_relay_path_pair(struct bp_relay_path *r, const char *name);

/*
 * Opens it for a connection to `remote`. 0: `*fd` is the caller's, to send to and receive from, and
 * `*local` the name of the path for QUIC. 1: that takes time: wait for `side`, always for reading
 * and while bp_relay_path_wants_write for writing, and call bp_relay_path_ready. Errors, explained
 * in `text`: BP_E_RELAY, BP_E_LIMIT (no descriptors), BP_E_SYSTEM.
 */
int bp_relay_path_open(struct bp_relay_path *r, const struct bp_addr *remote, int *fd,
                       struct bp_addr *local) BP_MUST_CHECK;

/*
 * SOCKS5: `side` is readable or writable. 0: it is open now, as after bp_relay_path_open. 1:
 * nothing has changed. An error: it could not be opened, or (`open`) the proxy does not relay any
 * more; `text` says why.
 */
int bp_relay_path_ready(struct bp_relay_path *r, int *fd, struct bp_addr *local) BP_MUST_CHECK;
bool bp_relay_path_wants_write(const struct bp_relay_path *r);

/* How to send through it: what goes into a bp_udp_tx that is otherwise the caller's. */
void bp_relay_path_tx(const struct bp_relay_path *r, struct bp_udp_tx *tx);
/* bp_udp_send, counted. */
unsigned bp_relay_path_send(struct bp_relay_stats *stats, int fd, struct bp_udp_tx *tx,
                            const uint8_t *buf, struct bp_tx_run *runs, unsigned n);
/* The length of what the peer sent, which is the end of the datagram; 0: nothing. Counted. */
size_t bp_relay_path_unwrap(const struct bp_relay_path *r, struct bp_relay_stats *stats,
                            const uint8_t *p, size_t len);

/* What tells ways to the same peer apart. */
void bp_relay_path_key(const struct bp_relay_path *r, struct bp_addr *key);
/* A name for a path that no other has, for a connection to `remote`: in 127/8, or that mapped. */
void bp_relay_path_name(const struct bp_addr *remote, struct bp_addr *local);

/* Closes `side` unless it is -1, and wipes the password. */
void bp_relay_path_close(struct bp_relay_path *r);

#endif
