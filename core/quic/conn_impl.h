/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of a connection: shared by conn*.c only. */
#ifndef BP_CONN_IMPL_H
#define BP_CONN_IMPL_H

#include "quic/conn_path.h"
#include "quic/conn_user.h"
#include "quic/tls_session.h"

#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>

#define BP_LATER_CID  0x80u /* in the first byte of ids but the first one: conn.c says why */
#define BP_PATHS_LEFT 4u    /* as many as ngtcp2 remembers */

/* A stream that we write. */
struct bp_stream {
    int64_t id;
    struct bp_sendq q;
    uint64_t ahead;   /* bytes sent before their turn in the run queue */
    bp_time progress; /* last acknowledgement, or when bytes began to wait for one */
    bool used;
    bool urgent;
    bool blocked; /* by the peer's stream window */
    bool fin;
    bool fin_sent;
    bool shut; /* the peer asked us to stop, or the stream is closed */
};

/* `bytes` of the stream in `slot`, in the order in which they were queued among all streams. */
struct bp_run {
    uint32_t slot;
    uint64_t bytes;
};

struct bp_conn {
    ngtcp2_conn *q;
    gnutls_session_t tls;
    ngtcp2_crypto_conn_ref ref;
    struct bp_tls_cred *cred;
    bool gives_ticket;
    bool wants_session;
    bool resumed;
    bp_time late_at;   /* settled, but path MTU probes wait until then; 0: no more */
    bp_time tls_until; /* settled, but a ticket may come */
    uint8_t *session;  /* BP_SESSION_MAX bytes; that the host has not taken yet */
    size_t session_len;
    const struct bp_mem *mem;
    ngtcp2_mem qmem;
    const struct bp_conn_ops *ops;
    void *user;
    struct bp_owner_ops owner;
    bool server;
    bool early_name;
    bool plain_crypto; /* GnuTLS also where packet_crypt.h knows better: tests */
    bool fast_keys;    /* 1-RTT keys are packet_crypt.c's */
    bool handshake_done;
    bool tls_written; /* ... and our last word of it has left */
    bool probe;
    bool early_ready; /* a server that may send */
    bool coarse;      /* deadlines of less than a millisecond are not worth a wake-up */
    bool settled;     /* path MTU probes may be sent */
    bool closed;      /* CONNECTION_CLOSE was written, or nothing may be sent any more */
    int err;          /* what ended the connection */
    int cb_err;       /* what a callback refused with */
    int lib_err;      /* ngtcp2's code, for the close frame */
    char text[192];
    int peer_reason; /* what the peer's close named */
    uint8_t reset_secret[32];
    struct bp_addr local;
    struct bp_addr remote;
    enum bp_path_result path_result; /* conn_path.c */
    struct bp_addr path_local;
    uint64_t migrations;
    struct bp_addr left[BP_PATHS_LEFT]; /* a server's: where the peer was, a ring */
    unsigned n_left;

    struct bp_stream streams[BP_STREAMS_MAX];
    unsigned n_streams;
    uint32_t urgent; /* a bit for each slot whose stream is */
    struct bp_block_pool pool;
    struct bp_run *runs; /* ring */
    uint32_t runs_cap;
    uint32_t runs_head;
    uint32_t runs_tail;
    uint32_t runs_scan; /* all runs before it are of blocked streams or empty */
    uint64_t unsent;
    bool unpaced;
    bool batch_full;
    bool flight_full; /* no data for now: see flight_limit */

    struct bp_user_tx *user_head; /* user streams with something to write, the next one first */
    uint64_t user_unsent;
    uint64_t user_unacked;
    bp_time user_progress; /* as a stream's, of all user streams together */
    bool user_full;        /* as flight_full */

    bool mtu_unanswered; /* nothing came from the peer since the last path MTU probe */
    bool small;          /* no large datagrams for now (conn_mtu.c) */
    bp_time small_for;
    bp_time small_until;
    bp_time now; /* of the call that is under way, and the latest that ngtcp2 was told */

    bp_time keepalive;
    bp_time last_authentic;
    uint64_t datagrams_received;
    uint64_t read_since_write; /* bytes */
    uint64_t packets_sent;
    uint64_t bytes_sent;
    uint64_t bytes_received;
};

/* ngtcp2's callbacks (conn_read.c). */
void bp_conn_callbacks(ngtcp2_callbacks *cb, bool server);
/* The one place where ngtcp2's error codes become ours; remembers the text. */
int bp_conn_fail(struct bp_conn *c, int lib_err);
/* `now`, or the latest time that was used: ngtcp2 aborts the process when its clock goes back. */
bp_time bp_conn_clock(struct bp_conn *c, bp_time now);
/* `out` points into the two addresses. */
void bp_conn_fill_path(const struct bp_addr *local, const struct bp_addr *remote, ngtcp2_path *out);
/* See bp_conn_stats. */
bool bp_conn_in_recovery(const struct bp_conn *c);
/* ngtcp2 has finished with a path that was being validated (conn_path.c). */
void bp_conn_path_validated(struct bp_conn *c, const ngtcp2_path *path, bool ok);
/* A server has read a datagram from an address that is not the peer's. */
void bp_conn_path_other(struct bp_conn *c, const struct bp_addr *remote);
/* Set when a packet was decrypted on this thread. */
bool *bp_conn_decrypted(void);
/* The slot of a stream that we write, or -1. */
int bp_conn_slot_of(const struct bp_conn *c, int64_t id);
/* conn_user.c, for its siblings. How much of the connection's window user streams may use; who is
 * next, NULL if none can be written; QUIC took bytes; a packet is full; the stream's window is; the
 * peer wants no more of it; acknowledged up to `offset`; the window
 * has opened; QUIC has closed it. */
uint64_t bp_conn_user_window(const struct bp_conn *c);
struct bp_user_tx *bp_conn_user_next(const struct bp_conn *c);
void bp_conn_user_took(struct bp_conn *c, struct bp_user_tx *t, size_t len, bool fin);
void bp_conn_user_turn(struct bp_conn *c);
void bp_conn_user_blocked(struct bp_conn *c, struct bp_user_tx *t);
void bp_conn_user_stopped(struct bp_conn *c, struct bp_user_tx *t);
void bp_conn_user_acked(struct bp_conn *c, struct bp_user_tx *t, uint64_t offset);
void bp_conn_user_unblock(struct bp_conn *c, struct bp_user_tx *t);
void bp_conn_user_closed(struct bp_conn *c, struct bp_user_tx *t, uint64_t code);
/* The largest datagram that may be sent now, path MTU probes included. */
size_t bp_conn_datagram_limit(struct bp_conn *c, bp_time now);
/* Before a batch is written: is what was put off at bp_conn_settle due? */
void bp_conn_late(struct bp_conn *c, bp_time now);
/* TLS may have got a ticket; false: it has not, or there is no memory. */
bool bp_conn_note_session(struct bp_conn *c);
/* A stream may be written again: look at the run queue from its start. */
void bp_conn_unblock(struct bp_conn *c, struct bp_stream *s);

#endif
