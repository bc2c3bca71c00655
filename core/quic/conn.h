/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One QUIC connection (RFC 9000) on ngtcp2: datagrams and time in, datagrams and a deadline out.
 *
 *   conn.c            life, settings, timers, close
 *   conn_read.c       what ngtcp2 reports while it reads
 *   conn_write.c      what goes into the next datagrams, and in which order
 *   conn_path.c       moving to another path
 *   conn_mtu.c        when to probe for large datagrams; a path that stops taking them
 *   conn_user.c       user streams: their turn to write, their end (conn_user.h)
 *   sendq.c           bytes of a stream until they are acknowledged
 *   tls_session.c     TLS 1.3
 *
 * The layer above is told through `struct bp_conn_ops`. These functions are part of core (the link
 * implements them), are called from inside bp_conn_read, _write and _on_timer, and must only take
 * notes: they must not call bp_conn_* except bp_conn_credit.
 */
#ifndef BP_CONN_H
#define BP_CONN_H

#include "base/addr.h"
#include "base/err.h"
#include "quic/sendq.h"

struct bp_conn;
struct bp_tls_cred;
struct bp_user_tx;

#define BP_CID_LEN        8u     /* of the connection ids that we issue */
#define BP_CID_MAX        20u    /* RFC 9000, 17.2 */
#define BP_DGRAM_MIN      1200u  /* that every path takes (RFC 9000, 14) */
#define BP_DGRAM_MAX      65507u /* largest UDP payload over IPv4 */
#define BP_DGRAM_SENT     16368u /* largest that we send: four are a run */
#define BP_STREAMS_MAX    20u    /* streams that we write on one connection */
#define BP_TICKET_KEY_LEN 64u    /* GnuTLS' */
#define BP_SESSION_MAX    4096u  /* of a TLS session that can go on; ours have 1 KB */

struct bp_cid {
    uint8_t len;
    uint8_t data[BP_CID_MAX];
};

bool bp_cid_equal(const struct bp_cid *a, const struct bp_cid *b);

struct bp_conn_ops {
    /* TLS is done and its ALPN is right: streams may be opened. */
    int (*handshake_done)(void *user);
    /* A server may send before the client has finished (RFC 9001, 4.9: "0.5-RTT"): what it sends
     * can be read by nobody but that client, but who the client is is not known yet. */
    void (*early_ready)(void *user);
    /* In-order bytes of a stream; `fin` after the last. Credit is returned with bp_conn_credit.
     * An error ends the connection with its close code. */
    int (*stream_data)(void *user, int64_t stream_id, const uint8_t *p, size_t len, bool fin);
    /* The peer reset a stream that it wrote, or asked us to stop on one that we write (told by
     * bp_conn_write, when there is something to write on it). */
    int (*stream_reset)(void *user, int64_t stream_id, uint64_t code);
    /* Everything below `offset` of the stream in `slot` has arrived. */
    void (*acked)(void *user, unsigned slot, uint64_t offset);
    /* We issued, or the peer retired, a connection id. */
    void (*cid)(void *user, const struct bp_cid *cid, bool added);
    /* With `keep_session`: bp_conn_take_session has something. */
    void (*session)(void *user);

    /* Of user streams that were opened or adopted (conn_user.h); needed where there are any.
     * As stream_data; the peer reset what it writes; it wants no more of what we write, which is
     * noticed when there is something to write, or at the end. */
    int (*user_data)(void *user, struct bp_user_tx *t, const uint8_t *p, size_t len, bool fin);
    int (*user_reset)(void *user, struct bp_user_tx *t, uint64_t code);
    void (*user_stopped)(void *user, struct bp_user_tx *t, uint64_t code);
    /* All of it has arrived on both sides, or is of no interest any more: QUIC has forgotten the
     * stream, and `t` may be freed. */
    void (*user_closed)(void *user, struct bp_user_tx *t);
};

struct bp_conn_config {
    const struct bp_mem *mem;
    const struct bp_conn_ops *ops;
    void *user;
    struct bp_owner_ops owner;   /* of bytes handed over with bp_conn_put_owned */
    struct bp_tls_cred *cred;    /* a reference is taken */
    const uint8_t *reset_secret; /* 32 bytes, node-wide; copied */
    struct bp_addr local;
    struct bp_addr remote;
    bp_time idle_timeout;      /* max_idle_timeout (RFC 9000, 10.1) */
    bp_time keepalive;         /* PING after that long without a packet; 0: never */
    bp_time handshake_timeout; /* of TLS alone; the link has the deadline of everything */
    uint32_t max_datagram; /* that we send, BP_DGRAM_MIN..BP_DGRAM_MAX; 0: what the path takes */
    bool no_migration;     /* the peer must not move it (disable_active_migration) */
    bool early_name;       /* tell the peer what bp_conn_early_name says */
    /* A TLS session may go on in a later connection between the same two peers of our own, which
     * then need no certificate. A server's key for tickets (copied), NULL: none; who has another
     * certificate must have another key. A client: whether it wants one, and what
     * bp_conn_take_session gave of an earlier connection to this peer (borrowed for the call;
     * GnuTLS trusts its form), length 0: none. */
    const uint8_t *ticket_key;
    bool keep_session;
    const uint8_t *session;
    size_t session_len;
    /* Server only: from the client's Initial (and its Retry token). */
    uint32_t version;
    struct bp_cid client_scid;
    struct bp_cid client_dcid;   /* the DCID of the Initial that is answered */
    struct bp_cid original_dcid; /* == client_dcid without Retry */
    bool retried;
    const uint8_t *token; /* the Retry token, borrowed for the call */
    size_t token_len;
};

/* Errors: BP_E_NOMEM, BP_E_CRYPTO, BP_E_INTERNAL. `cfg` is copied as far as it is needed. */
int bp_conn_new(struct bp_conn **out, bool server, const struct bp_conn_config *cfg,
                bp_time now) BP_MUST_CHECK;

/* Frees everything and releases all owners; sends nothing. NULL is a no-op. */
void bp_conn_del(struct bp_conn *c);

/*
 * One datagram (GRO batches are cut by the caller). Returns 0, also for packets that were
 * dropped; an error is final: BP_E_* of what ended the connection (bp_conn_error_text says more).
 * After an error bp_conn_write_close gives the datagram to send, if any.
 */
int bp_conn_read(struct bp_conn *c, const struct bp_addr *local, const struct bp_addr *remote,
                 const uint8_t *p, size_t len, bp_time now);

/* A run of datagrams of `seg` bytes (the last may be shorter) to one address. */
struct bp_tx_run {
    struct bp_addr local;
    struct bp_addr remote;
    size_t off; /* in the buffer */
    size_t len;
    size_t seg;
};

#define BP_TX_RUNS     8u
#define BP_TX_SEGS_MAX 64u /* of one run: the kernel's UDP_MAX_SEGMENTS */
/* Of a run, in bytes: with UDP, IPv6 and Ethernet headers less than 65,536, the gso_max_size of
 * most devices, the loopback among them. What is not, the kernel cuts before it sends, and the
 * receiver gets datagram by datagram. */
#define BP_TX_RUN_MAX  (4u * BP_DGRAM_SENT)

/*
 * Fills `buf` with the next datagrams, `*n_runs` runs of them: cap - BP_DGRAM_SENT bytes at most,
 * of which each 64 KB are one run. `cap` must be at least 2 * BP_DGRAM_SENT. Nothing more to send
 * now: *n_runs is 0. Returns 0 or the error that ended the connection.
 */
int bp_conn_write(struct bp_conn *c, uint8_t *buf, size_t cap, struct bp_tx_run *runs,
                  unsigned *n_runs, bp_time now);
/* True if the last call ended for want of room only: there may be more to send. */
bool bp_conn_batch_full(const struct bp_conn *c);

/*
 * True if bp_conn_write would give acknowledgements of little data and nothing else. They may wait
 * for the answer that is likely to follow, or for the next deadline (a coarse one: RFC 9000, 13.2.1
 * allows max_ack_delay, 25 ms). Before bp_conn_settle true only after TLS with a peer of our own:
 * it need not be asked for more than a millisecond, then what was lost is sent again.
 */
bool bp_conn_only_acks(const struct bp_conn *c);

/* When bp_conn_on_timer must be called, BP_TIME_NEVER if there is nothing to wait for. */
bp_time bp_conn_deadline(const struct bp_conn *c, bp_time now);
int bp_conn_on_timer(struct bp_conn *c, bp_time now);
/*
 * From now on deadlines are at least a millisecond away. ngtcp2 shows its ACK delay, a fraction of
 * the round-trip time, as a deadline: right while somebody waits for the acknowledgement, a packet
 * and a wake-up for each message of the distribution handshake where nobody does, and 48,000
 * wake-ups a second under load.
 */
void bp_conn_coarse(struct bp_conn *c);
/*
 * Setting up is over. Deadlines become coarse. Path MTU discovery begins a millisecond later: its
 * probes do not get in the way of the messages that a dialler waits for. And the TLS session is
 * given back (24 KB): QUIC has the secrets and updates its keys without it. A client that wants a
 * ticket waits for it, a second at most. There may be no peer certificate any more.
 */
void bp_conn_settle(struct bp_conn *c);
/* True for a server that has yet to give its ticket, to a peer of our own. */
bool bp_conn_has_ticket(const struct bp_conn *c);
/* Makes the ticket, which goes with the next datagram. */
void bp_conn_give_ticket(struct bp_conn *c);

/* Moves out what a later connection to this peer may give as `session`; 0: there is nothing. */
size_t bp_conn_take_session(struct bp_conn *c, uint8_t out[static BP_SESSION_MAX]);
/* Whether this connection's TLS session has gone on from an earlier one. */
bool bp_conn_resumed(const struct bp_conn *c);

/*
 * Opens a stream of ours: returns its slot (0..BP_STREAMS_MAX-1) for the calls below and its id.
 * Errors: BP_E_AGAIN (the peer allows no more), BP_E_LIMIT, BP_E_NOMEM.
 */
int bp_conn_open_uni(struct bp_conn *c, int64_t *id) BP_MUST_CHECK;
int bp_conn_open_bidi(struct bp_conn *c, int64_t *id) BP_MUST_CHECK;
/* How many bidirectional streams the peer still lets us open. */
uint64_t bp_conn_bidi_left(const struct bp_conn *c);
/* A slot for our half of a stream that the peer opened. */
int bp_conn_adopt(struct bp_conn *c, int64_t id) BP_MUST_CHECK;

/*
 * Queue bytes on a stream, in order of the calls among all data streams; a stream with
 * `bp_conn_set_urgent` goes before all others. put_owned takes `owner` only if it returns 0.
 * Errors: BP_E_NOMEM, BP_E_STATE (stream finished).
 */
int bp_conn_put_copy(struct bp_conn *c, unsigned slot, const void *p, size_t len) BP_MUST_CHECK;
int bp_conn_put_owned(struct bp_conn *c, unsigned slot, const uint8_t *p, size_t len,
                      void *owner) BP_MUST_CHECK;
int bp_conn_fin(struct bp_conn *c, unsigned slot) BP_MUST_CHECK;
void bp_conn_set_urgent(struct bp_conn *c, unsigned slot);

/* Stream offset after the last byte queued on `slot`; and up to where the peer has it. */
uint64_t bp_conn_queued(const struct bp_conn *c, unsigned slot);
uint64_t bp_conn_acked(const struct bp_conn *c, unsigned slot);
/* Bytes queued on all streams that QUIC has not taken yet. */
uint64_t bp_conn_unsent(const struct bp_conn *c);

/* The reader has consumed `len` bytes of stream `id`: flow-control credit for as many more. */
void bp_conn_credit(struct bp_conn *c, int64_t id, size_t len);
/* Resets a stream that the peer opened and that we don't want (RFC 9000, 3.5). */
void bp_conn_refuse_stream(struct bp_conn *c, int64_t id, uint64_t code);

/*
 * Ends the connection: CONNECTION_CLOSE with the error's application code (or the TLS alert that
 * is pending) into `buf`. Returns its length, 0 if there is nothing to send (before keys, twice).
 */
size_t bp_conn_write_close(struct bp_conn *c, int err, uint8_t *buf, size_t cap,
                           struct bp_tx_run *run, bp_time now);

/* Sends a PING soon (a probe for a peer whose port refused a datagram). */
void bp_conn_probe(struct bp_conn *c);

/* What ended the connection, for people: TLS alert, QUIC error, the peer's close code. */
const char *bp_conn_error_text(const struct bp_conn *c);

/* After BP_E_PEER_CLOSED: the error for which a peer of this implementation says that it closed the
 * connection (its word, nothing is proved by it), 0 if it named none. */
int bp_conn_peer_reason(const struct bp_conn *c);

/* SHA-256 of the server's leaf certificate of this TLS session. Errors: BP_E_STATE. */
int bp_conn_binding(const struct bp_conn *c, uint8_t out[static BP_BINDING_LEN]);
/* The peer's certificate (DER, borrowed), NULL if it sent none (clients don't). */
const uint8_t *bp_conn_peer_cert(const struct bp_conn *c, size_t *len);
/*
 * True if the peer's transport parameters are ours: version_information (RFC 9368), datagrams of
 * any size, eight connection ids. The upstream implementation sends none of the three (WIRE 1.3).
 */
bool bp_conn_peer_is_ours(const struct bp_conn *c);
/* True between two of our own that both authenticate by the built-in protocol: the dialler's first
 * word on stream 0 may come before it has proved who it is. Valid as the above. */
bool bp_conn_early_name(const struct bp_conn *c);
const struct bp_addr *bp_conn_remote(const struct bp_conn *c);

/* A count that this version of ngtcp2 does not tell. */
#define BP_UNKNOWN UINT64_MAX

struct bp_conn_stats {
    bp_time latest_rtt;
    bp_time min_rtt;
    bp_time smoothed_rtt;
    bp_time rttvar;
    uint64_t cwnd;
    uint64_t bytes_in_flight;
    uint64_t datagram_size; /* largest that the path takes */
    uint64_t packets_sent;
    uint64_t packets_lost; /* or BP_UNKNOWN */
    uint64_t migrations;   /* how often the path has changed, moved by us or by the peer */
    bool in_recovery;      /* bytes wait for an acknowledgement longer than a probe timeout */
    uint64_t datagrams_received;
    uint64_t bytes_sent;
    uint64_t bytes_received;
    bp_time last_authentic; /* when the last packet that decrypted came */
    bp_time pto;
};
void bp_conn_stats(const struct bp_conn *c, struct bp_conn_stats *out);

/* Our connection ids, for a demultiplexer: calls ops->cid(…, true) for each. */
void bp_conn_list_cids(struct bp_conn *c);

#endif
