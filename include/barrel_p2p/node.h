/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node of an Erlang cluster in a C program, over QUIC: it has a name, an Ed25519 identity, a
 * cookie; it finds other nodes, dials and accepts them, and exchanges distribution messages.
 * Programs that use libei see barrel_p2p/ei.h, and need of this header only how to make a node.
 *
 *     struct bp_node *n;
 *     bp_node_new(&n, "c1@myhost");
 *     bp_node_set_text(n, BP_OPT_COOKIE, "secret");
 *     bp_node_start(n);
 *     bp_node_listen(n, NULL);                        only to be dialled
 *
 * Two ways to run it:
 *
 *   the caller's event loop                           one I/O thread of the library
 *   -----------------------                           -----------------------------
 *   wait until bp_node_fd is readable or              bp_node_run_thread
 *     bp_node_timeout milliseconds have passed
 *   bp_node_process
 *   bp_node_next until it returns BP_ERROR_AGAIN      bp_node_wait, or bp_node_fd and _next
 *
 * Threads: with the I/O thread every function may be called from any thread. Without it all calls
 * for one node must come from one thread at a time, except bp_node_answer. Several nodes in one
 * process know nothing of each other; there is no global state.
 *
 * After fork() a node is of no use in the child, except for bp_node_del before exec or _exit: there
 * is no I/O thread there, and nothing is said to peers.
 *
 * Pointers are not NULL unless it says that they may be.
 *
 * Bounds: what a peer can make a node hold is limited (BP_OPT_RECV_BUFFER, BP_OPT_MAX_FRAME); a
 * peer that breaks a rule loses its own connection, with a reason. Nothing blocks but bp_node_wait,
 * bp_node_del (briefly), and what reads or writes files: bp_node_start and bp_node_listen.
 */
#ifndef BARREL_P2P_NODE_H
#define BARREL_P2P_NODE_H

#include <barrel_p2p/discovery.h>
#include <barrel_p2p/error.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The library's version, "1.2.3". Static. */
BP_API const char *bp_version(void);

struct bp_node;

/* A connection to a peer. Numbers are never used twice in a node's life; 0 is none. */
typedef uint64_t bp_peer_id;

#define BP_NAME_MAX 255 /* bytes of a node name */

/* --- life ---------------------------------------------------------------- */

/*
 * Makes a node called `name`, "name@host" (letters, digits, '_', '-', '.'; the host may
 * be an IPv6 address). It does nothing yet.
 * `*out` is the caller's until bp_node_del. Errors: BP_ERROR_INVALID (name), BP_ERROR_NOMEM,
 * BP_ERROR_SYSTEM (no descriptors); then `*out` is NULL.
 */
BP_API int bp_node_new(struct bp_node **out, const char *name);

/*
 * Closes all connections (peers are told), withdraws the node's endpoint, ends the I/O thread,
 * wipes secrets and frees everything. libei calls that wait return with an error before; no call
 * may begin after bp_node_del has. NULL is a no-op.
 */
BP_API void bp_node_del(struct bp_node *node);

/* Settings; T: bp_node_set_text, N: bp_node_set_number. Times are in milliseconds. */
enum bp_option {
    /* T: the cluster's secret. Default: the first line of $HOME/.erlang.cookie. */
    BP_OPT_COOKIE = 1,
    /*
     * T: below which directory `data/keys`, `data/quic` and `data/discovery` lie, as Erlang nodes
     * have them in the working directory. Default: ".". A directory that belongs to another node
     * name is not shared: keys are then below `nodes/<name>/` in it.
     */
    BP_OPT_DIR = 2,
    /* T: exactly this directory for node.key, node.pub and trusted/. */
    BP_OPT_KEY_DIR = 3,
    /* T: PEM files of the TLS certificate and its key, both or none; made if they are missing. */
    BP_OPT_CERT_FILE = 4,
    BP_OPT_CERT_KEY_FILE = 5,
    /* T: "tofu" (default; an unknown node's key is pinned once it has shown the cookie) or
     * "strict" (only nodes whose key is pinned). */
    BP_OPT_TRUST = 6,
    /* T, several times: names ("*@host", "name@*") of nodes that need not prove who they are. */
    BP_OPT_COOKIE_ONLY = 7,
    /* T: the address to bind, an IPv4 or IPv6 literal. Default: all. */
    BP_OPT_BIND = 8,
    /* T: the addresses to publish in place of the one that is bound (NAT, several addresses), at
     * most 8, comma separated: "HOST", "HOST:PORT" or "[IPV6]:PORT". Port 0 is the one that is
     * bound, as is none. */
    BP_OPT_ADVERTISE = 9,

    /* N: UDP port to listen on. Default: 0, any free one. */
    BP_OPT_PORT = 20,
    /* N: 4 or 6: only this family. Default: 0, both. */
    BP_OPT_FAMILY = 21,
    /* N: TLS, authentication and distribution handshake together. Default: 7000. */
    BP_OPT_SETUP_TIMEOUT = 22,
    /* N: how old an answer to a challenge may be. Default: 30000. */
    BP_OPT_AUTH_WINDOW = 23,
    /* N: a sign of life after that long without one; 0: never. Default: 2000. */
    BP_OPT_KEEPALIVE = 24,
    /* N: a peer that is silent for so long is gone. Default: 60000. */
    BP_OPT_IDLE_TIMEOUT = 25,
    /* N: largest message taken or sent, in bytes. A peer that has the cookie can make the node hold
     * sixteen times that in messages that are not whole. Default: 268435456. */
    BP_OPT_MAX_FRAME = 26,
    /* N: largest datagram sent, 1200..65507. Default: what the path takes. */
    BP_OPT_MAX_DATAGRAM = 27,
    /* N: bytes of messages that wait for the network on one connection; then sending says
     * BP_ERROR_AGAIN. Default: 524288. */
    BP_OPT_SEND_BUFFER = 28,
    /* N: bytes of messages of one peer that the program has not taken; then the peer is slowed
     * down by QUIC's flow control, which lets it send one window more: 4 MiB, or what it grew to
     * while the program was fast, at most 64 MiB. Default: 1048576. */
    BP_OPT_RECV_BUFFER = 29,
    /* N: connections at once, dialled and accepted. Default: 65536. */
    BP_OPT_MAX_PEERS = 30,
    /* N: 0: peers do not authenticate, the cookie alone protects the node. Default: 1. */
    BP_OPT_AUTH = 31
};

/*
 * Before bp_node_start. `value` is copied. Errors: BP_ERROR_INVALID (unknown option, or a value
 * that it cannot have), BP_ERROR_STATE (started), BP_ERROR_NOMEM.
 */
BP_API int bp_node_set_text(struct bp_node *node, enum bp_option option, const char *value);
BP_API int bp_node_set_number(struct bp_node *node, enum bp_option option, uint64_t value);

enum bp_log_level { BP_LOG_ERROR = 0, BP_LOG_WARNING = 1, BP_LOG_INFO = 2, BP_LOG_DEBUG = 3 };

/* One line, without its end. `event` is a word to search for ("connection_down"), `peer` a name and
 * address, or "". All strings are borrowed for the call and printable. */
typedef void bp_log_fn(void *ctx, enum bp_log_level level, const char *event, const char *peer,
                       const char *text);

/*
 * Where log lines up to `level` go; NULL: nowhere, as at the beginning. `fn` is called by whoever
 * runs the node, with the node locked: it must not block for long, and must call nothing of the
 * node. Lines that peers cause are limited to 10 a second. May be called at any time.
 */
BP_API void bp_node_set_log(struct bp_node *node, enum bp_log_level level, bp_log_fn *fn,
                            void *ctx);

/*
 * Loads the identity and the certificate (makes them at the first start), and is ready to dial.
 * Errors: BP_ERROR_STATE (started before), BP_ERROR_FILE, BP_ERROR_INVALID (settings that do not go
 * together, no cookie), BP_ERROR_SYSTEM, BP_ERROR_NOMEM, BP_ERROR_CRYPTO; bp_error_detail says what
 * is wrong with which file. It may be tried again.
 */
BP_API int bp_node_start(struct bp_node *node);

/*
 * Claims the node's name on this machine, binds the UDP port, accepts peers and publishes the
 * node's endpoint through the chain. `port` (may be NULL) is what it got. Once.
 * Errors: BP_ERROR_STATE, BP_ERROR_DUPLICATE_NAME, BP_ERROR_ADDR_IN_USE, BP_ERROR_SYSTEM.
 */
BP_API int bp_node_listen(struct bp_node *node, uint16_t *port);

/* As given to bp_node_new; valid as long as the node. */
BP_API const char *bp_node_name(const struct bp_node *node);
/* The UDP port, 0 before there is a socket. */
BP_API uint16_t bp_node_port(struct bp_node *node);
/* Fingerprint of the node's public key, "SHA256:...", "" before bp_node_start or without
 * authentication. `out` gets at most `cap` bytes with the terminating zero. */
BP_API void bp_node_fingerprint(struct bp_node *node, char *out, size_t cap);

/* --- running ------------------------------------------------------------- */

/*
 * Starts the library's I/O thread, which blocks all signals. Errors: BP_ERROR_STATE (not started,
 * or it runs), BP_ERROR_SYSTEM.
 */
BP_API int bp_node_run_thread(struct bp_node *node);

/*
 * The descriptor to wait for until it is readable (poll, select, epoll; level-triggered). Without
 * the I/O thread: something is to be processed. With it: an event waits. Owned by the node; the
 * same for its whole life, whichever way it runs.
 */
BP_API int bp_node_fd(struct bp_node *node);

/* Milliseconds until bp_node_process must be called although bp_node_fd is not readable: 0 at once,
 * -1 never, as poll() has it. With the I/O thread always -1. */
BP_API int bp_node_timeout(struct bp_node *node);

/*
 * Reads, writes and lets timers pass; never blocks. It handles a bounded number of datagrams, so
 * that other descriptors have their turn. Errors: BP_ERROR_STATE (not started, or there is an I/O
 * thread).
 */
BP_API int bp_node_process(struct bp_node *node);

/* --- events -------------------------------------------------------------- */

enum bp_event_kind {
    BP_EVENT_NONE = 0,
    BP_EVENT_UP = 1,       /* the peer is connected; `name` is proved */
    BP_EVENT_MESSAGE = 2,  /* `data`: a distribution message */
    BP_EVENT_WRITABLE = 3, /* after BP_ERROR_AGAIN of bp_node_send: there is room again */
    BP_EVENT_MOVED = 5,    /* bp_node_migrate has ended: `error` 0, or why, and `text` */
    BP_EVENT_DOWN = 4      /* the connection has ended, or dialling has failed: `error`, `text` */
};

/*
 * `data` begins with the bytes of OTP's "Protocol between connected nodes": 112, then a control
 * message and, for some, a payload, each a term in the external format that begins with 131
 * (ei_decode_version). Atom caches are not used. A message that the peer's VM sends in fragments is
 * whole here. Ticks are answered by the library and do not show.
 */
struct bp_event {
    enum bp_event_kind kind;
    int error;           /* DOWN, MOVED */
    bp_peer_id peer;     /* never 0 */
    bool inbound;        /* UP, DOWN: the peer has dialled us */
    bool was_up;         /* DOWN: there was an UP */
    const uint8_t *data; /* MESSAGE */
    size_t len;
    uint64_t flags;             /* UP: the peer's distribution flags */
    uint32_t creation;          /* UP: of the peer's incarnation */
    char name[BP_NAME_MAX + 1]; /* the peer's; "" where nobody said any */
    char text[512];             /* DOWN, MOVED: the reason for people, with what to do about it */
    void *reserved;             /* what bp_event_clear frees */
};

/*
 * The next event, in order for each peer; 0, or BP_ERROR_AGAIN and kind NONE. What was in `*ev` is
 * not looked at. `data` is valid until bp_event_clear, which must be called for every event that
 * came (it is a no-op for all but MESSAGE).
 */
BP_API int bp_node_next(struct bp_node *node, struct bp_event *ev);
BP_API void bp_event_clear(struct bp_event *ev);

/*
 * With the I/O thread only: as bp_node_next, but waits up to `timeout_ms` (-1: for ever). Errors:
 * BP_ERROR_TIMEOUT, BP_ERROR_STATE (no I/O thread).
 */
BP_API int bp_node_wait(struct bp_node *node, struct bp_event *ev, int timeout_ms);

/* --- peers --------------------------------------------------------------- */

/*
 * Looks `name` up in the chain and dials it, one address after the other. Exactly one UP or DOWN
 * event for `*peer` follows, and after UP exactly one DOWN, whoever closes it. `peer` may be NULL,
 * here and below: events have the name as well.
 * `timeout_ms` for all of it; 0: BP_OPT_SETUP_TIMEOUT. Errors: BP_ERROR_INVALID (name, or our own),
 * BP_ERROR_EXISTS (`*peer` is the connection that is there or under way), BP_ERROR_LIMIT,
 * BP_ERROR_STATE, BP_ERROR_NOMEM, BP_ERROR_SYSTEM.
 */
BP_API int bp_node_dial(struct bp_node *node, const char *name, unsigned timeout_ms,
                        bp_peer_id *peer);

/*
 * The same at a given address. With `name` NULL whoever is there may answer, and its name is in UP:
 * its key must be trusted for the name that it claims.
 */
BP_API int bp_node_dial_at(struct bp_node *node, const char *name, const char *ip, uint16_t port,
                           unsigned timeout_ms, bp_peer_id *peer);

/* Ends a connection, or gives up dialling. What was sent before and fits into the network's window
 * still goes out. The DOWN event has BP_ERROR_LOCAL_CLOSE. Errors: BP_ERROR_NOT_FOUND. */
BP_API int bp_node_close(struct bp_node *node, bp_peer_id peer);

/* A piece of a message. */
struct bp_part {
    const void *data;
    size_t len;
};

/*
 * Queues one message, made of all `n` parts: 112, 131 and a control message, and for some 131 and a
 * payload, as above. Bytes are copied before the call returns; messages to one peer arrive in the
 * order of the calls. 0: it will be sent unless the connection ends. Errors: BP_ERROR_AGAIN
 * (nothing was taken; a WRITABLE event comes), BP_ERROR_NOT_FOUND, BP_ERROR_STATE (not up),
 * BP_ERROR_LIMIT (above BP_OPT_MAX_FRAME), BP_ERROR_INVALID (not such a message, or a piece with a
 * length is at NULL), BP_ERROR_NOMEM.
 */
BP_API int bp_node_send(struct bp_node *node, bp_peer_id peer, const struct bp_part *parts,
                        size_t n);

/* Addresses are text: "192.0.2.1:4433", "[2001:db8::1]:4433". Times are in microseconds. */
struct bp_peer_info {
    bp_peer_id peer;
    bool inbound;
    bool up;
    bool ei;                    /* belongs to a libei descriptor */
    char name[BP_NAME_MAX + 1]; /* proved if `up` */
    char address[72];           /* the peer's */
    char local[72];
    char fingerprint[64]; /* of its key, "" if it has proved none */
    uint64_t up_ms;       /* since it is up */
    uint64_t srtt_us;     /* smoothed round-trip time, of the path */
    uint64_t latest_rtt_us;
    uint64_t min_rtt_us;
    uint64_t rttvar_us;
    uint64_t cwnd;            /* congestion window, bytes */
    uint64_t bytes_in_flight; /* sent, not acknowledged */
    uint64_t datagram_size;   /* largest that the path takes, bytes */
    uint64_t packets_sent;
    uint64_t
        datagrams_lost; /* that the kernel would not take; what the network lost shows in srtt */
    uint64_t datagrams_received;
    uint64_t bytes_sent;
    uint64_t bytes_received;
    uint64_t messages_sent;
    uint64_t messages_received;
    uint64_t send_queue; /* bytes of messages that wait for the network */
    uint64_t recv_queue; /* bytes of messages that the program has not taken */
    char relay[288];     /* what is in between (barrel_p2p/relay.h), "" if nothing is */
    uint64_t migrations; /* how often the path has changed */
    bool moving;         /* bp_node_migrate has not ended yet */
    int move_error;      /* ... and how it ended the last time */
};

/* `size` is sizeof(*out): fields are only ever added at the end. BP_ERROR_NOT_FOUND. */
BP_API int bp_node_peer_info(struct bp_node *node, bp_peer_id peer, struct bp_peer_info *out,
                             size_t size);
/* The connection to `name` that is up, or 0. */
BP_API bp_peer_id bp_node_find_peer(struct bp_node *node, const char *name);
/* All connections, at most `cap` of them into `out`; returns how many there are. */
BP_API size_t bp_node_peers(struct bp_node *node, bp_peer_id *out, size_t cap);

/* Calls `each` for every counter of the node; `name` is borrowed for the call. */
BP_API void bp_node_counters(struct bp_node *node,
                             void (*each)(void *ctx, const char *name, uint64_t value), void *ctx);

#ifdef __cplusplus
}
#endif

#endif
