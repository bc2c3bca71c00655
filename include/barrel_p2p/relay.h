/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nodes that are dialled through something else than this machine's UDP: a forwarder, a SOCKS 5
 * proxy, a tunnel in another process, functions of the program. Only the datagrams take another
 * way: a relay sees encrypted datagrams and can lose them, no more (docs/relay.md).
 *
 *     struct bp_relay relay = {.size = sizeof(relay), .kind = BP_RELAY_SOCKS5,
 *                              .host = "proxy.example.org", .port = 1080,
 *                              .user = "u", .password = "p"};
 *     bp_node_set_relay(n, "b@host2", &relay);              for good
 *
 *     struct bp_dial dial = {.relay = &relay};              for once
 *     bp_node_dial_with(n, "b@host2", &dial, sizeof(dial), &peer);
 *
 * What a dial asks for counts more than the node's table. A relay that cannot be opened ends the
 * dial with BP_ERROR_RELAY and its reason. One that dies later is a path that is silent, with one
 * line in the log where it can be known ("relay_down"): the connection ends as others do, unless it
 * is moved (bp_node_migrate). Nothing here blocks: names are resolved and proxies are asked by
 * whoever runs the node, within the dial's time.
 */
#ifndef BARREL_P2P_RELAY_H
#define BARREL_P2P_RELAY_H

#include <barrel_p2p/node.h>

#ifdef __cplusplus
extern "C" {
#endif

enum bp_relay_kind {
    BP_RELAY_UDP = 1,    /* `host`, `port`: everything is sent to a forwarder, which knows where it
                            goes: the peer needs no address that this node can find */
    BP_RELAY_SOCKS5 = 2, /* the same, and `user`, `password`: a SOCKS 5 proxy that relays UDP (RFC
                            1928 and 1929). It gets the address that discovery has for the peer */
    BP_RELAY_FD = 3,     /* `fd`: a connected datagram socket (AF_UNIX or UDP), at whose other end
                            somebody carries datagrams to the peer and back */
    BP_RELAY_FUNCTIONS = 4 /* `functions`, `ctx`: of the program */
};

/* The program's end of one path. */
struct bp_relay_end;

/*
 * All are called by whoever runs the node or calls a function of it, with the node locked: they
 * must not block, and may call of the library only bp_relay_feed and bp_relay_room.
 */
struct bp_relay_functions {
    /* A path to `node` begins, which was found at `ip` and `port` ("127.0.0.1" and 1 if nobody
     * knows where it is). `end` is valid until `close` returns; strings are borrowed. 0, or a
     * negative code, which ends the dial. May be NULL. */
    int (*open)(void *ctx, struct bp_relay_end *end, const char *node, const char *ip,
                uint16_t port);
    /* Takes one datagram, borrowed for the call. 0, or BP_ERROR_AGAIN: no room, it comes again
     * after bp_relay_room; anything else: it is lost. */
    int (*send)(void *ctx, struct bp_relay_end *end, const void *datagram, size_t len);
    /* The path has ended: `end` must not be used any more, by any thread. May be NULL. */
    void (*close)(void *ctx, struct bp_relay_end *end);
};

/* A relay. What does not belong to its kind is left 0. */
struct bp_relay {
    size_t size; /* sizeof(struct bp_relay): fields are only ever added at the end */
    enum bp_relay_kind kind;
    const char *host; /* name or address */
    uint16_t port;
    const char *user; /* both or none, up to 255 bytes each */
    const char *password;
    int fd; /* the library uses a duplicate of it: the caller may close its own at once, or go on
               using it; one connection at a time */
    const struct bp_relay_functions *functions;
    void *ctx;    /* must live until the node is deleted, or longer than what uses it */
    uint32_t mtu; /* largest QUIC datagram that it takes, 1200..65507, without a proxy's header;
                     0: not known */
};

/*
 * `name` is dialled through `relay` from now on (NULL: not any more), by bp_node_dial,
 * bp_ei_connect and all others that give a name. Everything but `ctx` is copied; a password is
 * wiped when it is not needed any more. At any time. Errors: BP_ERROR_INVALID (what is wrong is in
 * bp_error_detail), BP_ERROR_LIMIT (4,096 names, or no descriptors), BP_ERROR_NOMEM.
 */
BP_API int bp_node_set_relay(struct bp_node *node, const char *name, const struct bp_relay *relay);

/* How to dial once. Zeroed: as bp_node_dial. */
struct bp_dial {
    unsigned timeout_ms; /* 0: BP_OPT_SETUP_TIMEOUT */
    const char *ip;      /* where it is, and `port`; NULL: as discovery says */
    uint16_t port;
    const struct bp_relay *relay; /* NULL: as the node's table says */
    bool direct;                  /* no relay, even if the table has one */
    uint32_t max_datagram;        /* largest datagram sent, 1200..65507; 0: BP_OPT_MAX_DATAGRAM */
};

/*
 * As bp_node_dial and, with `ip`, as bp_node_dial_at. `dial` is borrowed for the call; `size` is
 * sizeof(*dial). Errors: theirs, and those of bp_node_set_relay.
 */
BP_API int bp_node_dial_with(struct bp_node *node, const char *name, const struct bp_dial *dial,
                             size_t size, bp_peer_id *peer);

/* Where to. Zeroed: to another socket of this machine, or through the relay that the node's table
 * has. */
struct bp_migrate {
    unsigned timeout_ms;          /* 0: 5000 */
    const struct bp_relay *relay; /* to this one; borrowed for the call */
    bool direct;                  /* to none, even if the table has one */
};

/*
 * Moves a connection that is up to another path while messages flow: nothing is lost or reordered,
 * and the old path is used until the peer has answered on the new one. `how` may be NULL, `size` is
 * sizeof(*how). 0: it has begun; a MOVED event tells its end, or DOWN if the connection ends before
 * (with libei: `moving` and `move_error` of bp_node_peer_info). Where the peer has dialled it is
 * asked to move, if it is of our kind; a relay cannot be asked for. A path that was left is used
 * again after 1.5 s. Errors, at once or in the event: BP_ERROR_NOT_FOUND, BP_ERROR_STATE (not up),
 * BP_ERROR_BUSY (it is being moved), BP_ERROR_NOT_DIALLER, BP_ERROR_MIGRATION_DISABLED (by the
 * peer), BP_ERROR_NO_SPARE_CID (the peer gave no connection id in time), BP_ERROR_RELAY,
 * BP_ERROR_TIMEOUT (nobody answered there; the path is as it was), BP_ERROR_PATH_FAILED (the peer
 * could not), those of bp_node_set_relay.
 */
BP_API int bp_node_migrate(struct bp_node *node, bp_peer_id peer, const struct bp_migrate *how,
                           size_t size);

/*
 * For functions: a datagram came from the peer; copied. From any thread, also with a lock of the
 * program's held that `close` takes. Errors: BP_ERROR_AGAIN (1 MiB waits for whoever runs the node:
 * it is lost, as in a network), BP_ERROR_INVALID (empty, or more than 65,507 bytes),
 * BP_ERROR_NOMEM.
 */
BP_API int bp_relay_feed(struct bp_relay_end *end, const void *datagram, size_t len);

/* After BP_ERROR_AGAIN of `send`: there is room again. From any thread. */
BP_API void bp_relay_room(struct bp_relay_end *end);

#ifdef __cplusplus
}
#endif

#endif
