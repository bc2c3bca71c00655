/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One Erlang connection: QUIC connection, authentication, distribution handshake, then frames on
 * ordered streams. Datagrams, messages of the VM and time come in; datagrams, frames for the VM,
 * events and a deadline go out. The host may be a port driver, a C node or the simulator.
 *
 *   link.c       life and phases          link_rx.c   what arrives on which stream
 *   link_auth.c  authentication           link_tx.c   messages to streams, fences, ticks
 *   link_hs.c    distribution handshake   link_idle.c closing what nobody uses
 *   link_user.c  user streams (link_user.h) link_path.c moving to another path
 *
 *   phase        begins when                              what the host does
 *   TLS          bp_link_new                              moves datagrams
 *   AUTH         TLS is done                              answers LOOKUP events
 *   EXTERNAL     TLS is done, auth is the host's          bp_link_auth_send/recv, then _auth_done
 *   HANDSHAKE    the peer is authenticated                bp_link_hs_send, bp_link_hs_recv
 *   UP           bp_link_up                               bp_link_send, bp_link_tick, frames
 *   FAILED       any error (event FAILED)                 bp_link_finish, bp_link_del
 */
#ifndef BP_LINK_H
#define BP_LINK_H

#include "auth/auth.h"
#include "dist/deframe.h"
#include "quic/conn.h"

#define BP_DIST_STREAMS_MAX        16u
#define BP_MAX_FRAME_BYTES_DEFAULT (256u * 1024u * 1024u)

struct bp_link;

enum bp_auth_mode {
    BP_AUTH_NONE,    /* only the cookie protects the node */
    BP_AUTH_BUILTIN, /* auth v2 (WIRE 3) */
    BP_AUTH_EXTERNAL /* the host runs its own protocol on the auth streams */
};

enum bp_link_phase {
    BP_LINK_TLS,
    BP_LINK_AUTH,
    BP_LINK_EXTERNAL,
    BP_LINK_HANDSHAKE,
    BP_LINK_UP,
    BP_LINK_FAILED
};

struct bp_link_config {
    const struct bp_mem *mem;
    struct bp_rx_mem rx;       /* where frames for the VM are assembled */
    struct bp_owner_ops owner; /* of slices handed over with bp_link_send */
    struct bp_conn_config
        conn; /* addresses, credentials, Initial; mem, ops, user, owner are ours */
    enum bp_auth_mode auth_mode;
    struct bp_auth_config auth; /* role and binding are filled in here */
    bp_time setup_timeout;      /* of TLS + auth + distribution handshake */
    uint64_t wall_ms;           /* wall clock at bp_link_new */
    unsigned dist_streams;      /* 1..BP_DIST_STREAMS_MAX that we write */
    uint32_t max_frame_bytes;
};

enum bp_link_event_kind {
    BP_LINK_EV_LOOKUP,        /* look `name` (or, with by_key, `key`) up: bp_link_trust */
    BP_LINK_EV_TLS_DONE,      /* phase EXTERNAL begins */
    BP_LINK_EV_AUTHENTICATED, /* phase HANDSHAKE begins; `name` is "" where nobody was named */
    BP_LINK_EV_CID_ADDED,
    BP_LINK_EV_CID_REMOVED,
    BP_LINK_EV_SESSION,    /* bp_conn_take_session, for a later link to this peer */
    BP_LINK_EV_IDLE_ASKED, /* bp_link_idle_answer */
    BP_LINK_EV_FAILED      /* bp_link_error, bp_link_error_text */
};

struct bp_link_event {
    enum bp_link_event_kind kind;
    char name[BP_NODE_NAME_MAX + 1];
    uint8_t key[BP_KEY_LEN];
    bool has_key;
    bool by_key;
    /* AUTHENTICATED: pin the key when the distribution handshake has succeeded; if LOOKUP was
     * answered with another one, in place of that (it has handed over, auth/succession.h) */
    bool pin;
    struct bp_cid cid;
};

struct bp_link_stats {
    uint64_t frames_in; /* frames and ticks */
    uint64_t frames_out;
    uint64_t bytes_in; /* of frames */
    uint64_t bytes_out;
    uint64_t fences;
    uint64_t held; /* messages that had to wait behind a fence */
    uint64_t ticks_in;
    uint64_t user_streams_refused;
    uint64_t unfinished_bytes;    /* of frames and fragmented messages, now */
    uint64_t unfinished_messages; /* fragmented ones, now */
    uint64_t age_ms;              /* since bp_link_up */
    uint64_t idle_ms;             /* since the last message of a process, either way */
    uint64_t live;                /* links, monitors and requests across it, now */
    uint64_t live_doubtful;       /* 1: it cannot tell */
    uint64_t membership_messages; /* that do not count as use */
    uint64_t idle_refused;        /* the peer did not want it closed */
    uint64_t idle_called_off;     /* a message came meanwhile */
    uint64_t idle_window_us;      /* from our consent until the peer closed it */
    uint64_t idle_lost;           /* messages that our VM handed out in that time */
};

/* Errors: BP_E_NOMEM, BP_E_CRYPTO, BP_E_INVALID, BP_E_INTERNAL. */
int bp_link_new(struct bp_link **out, bool server, const struct bp_link_config *cfg,
                bp_time now) BP_MUST_CHECK;
void bp_link_del(struct bp_link *l);

/* As bp_conn_read, bp_conn_write, bp_conn_deadline, bp_conn_on_timer. An error is final; it comes
 * as event FAILED too. */
int bp_link_read(struct bp_link *l, const struct bp_addr *local, const struct bp_addr *remote,
                 const uint8_t *p, size_t len, bp_time now);
int bp_link_write(struct bp_link *l, uint8_t *buf, size_t cap, struct bp_tx_run *runs,
                  unsigned *n_runs, bp_time now);
/* True if bp_link_write is to be called again, once what the last call gave was sent: the link has
 * put off work so that the peer need not wait for it. */
bool bp_link_has_more(const struct bp_link *l);
bp_time bp_link_deadline(const struct bp_link *l, bp_time now);
int bp_link_on_timer(struct bp_link *l, bp_time now);

/* Takes the next event; false if there is none. */
bool bp_link_poll(struct bp_link *l, struct bp_link_event *out);

/* Ends the link with `err` (0: normally); event FAILED follows unless it has failed before. */
void bp_link_fail(struct bp_link *l, int err, const char *why);

/*
 * The last datagrams: what is queued (an authentication refusal, say), then CONNECTION_CLOSE.
 * As bp_link_write, but `runs` has BP_TX_RUNS + 1 elements and `buf` at least 1 KiB more;
 * afterwards only bp_link_del is useful. Returns the length of the CONNECTION_CLOSE, which is the
 * last run, or 0 if there is none.
 */
size_t bp_link_finish(struct bp_link *l, uint8_t *buf, size_t cap, struct bp_tx_run *runs,
                      unsigned *n_runs, bp_time now);

enum bp_link_phase bp_link_phase(const struct bp_link *l);
/* Whether TLS was ever done. */
bool bp_link_tls_done(const struct bp_link *l);
int bp_link_error(const struct bp_link *l);
const char *bp_link_error_text(const struct bp_link *l);
/* The name that the peer was dialled as, claims or has proved; "" before it said any. */
const char *bp_link_peer_name(const struct bp_link *l);
/* The key that the peer has presented, proved or not, valid until the next call; NULL if none, or
 * once the link is up. */
const uint8_t *bp_link_peer_key(const struct bp_link *l);
struct bp_conn *bp_link_conn(struct bp_link *l);

/* --- authentication ------------------------------------------------------ */

/* The answer to LOOKUP; see bp_auth_trust. */
void bp_link_trust(struct bp_link *l, bool found, const uint8_t *key, bp_time now);

/* Phase EXTERNAL: bytes on our auth stream; what the peer wrote on its own (borrowed until the
 * next call, 0 bytes and *fin == false if nothing is there); the verdict, with the peer's name
 * ("" if unknown). Errors: BP_E_STATE, BP_E_NOMEM, BP_E_AGAIN. */
int bp_link_auth_send(struct bp_link *l, const void *p, size_t len, bool fin) BP_MUST_CHECK;
int bp_link_auth_recv(struct bp_link *l, const uint8_t **p, size_t *len, bool *fin) BP_MUST_CHECK;
int bp_link_auth_done(struct bp_link *l, bool ok, const char *name) BP_MUST_CHECK;

/* --- distribution handshake ---------------------------------------------- */

/* Queues one handshake message. It is sent when the one before it was acknowledged (WIRE 0.5). A
 * dialler may give the first one from the start: it goes as soon as the peer takes it.
 * Errors: BP_E_STATE, BP_E_LIMIT, BP_E_NOMEM. */
int bp_link_hs_send(struct bp_link *l, const void *msg, size_t len) BP_MUST_CHECK;

/* 1: a message of the peer (borrowed until the next call on the link), 0: none yet, <0: error. */
int bp_link_hs_recv(struct bp_link *l, const uint8_t **msg, size_t *len) BP_MUST_CHECK;

/*
 * True once after bp_link_hs_recv gave a message in which a peer that authenticated as
 * nonode@nohost uses a name (bp_link_peer_name): the caller ends the link if that name is pinned to
 * another key.
 */
bool bp_link_claimed(struct bp_link *l);

/* The handshake is over: from now on bp_link_send takes frames. Errors: BP_E_STATE, BP_E_NOMEM,
 * BP_E_AGAIN (the peer allows too few streams). */
int bp_link_up(struct bp_link *l) BP_MUST_CHECK;

/* --- frames -------------------------------------------------------------- */

/* Bytes of a message: borrowed for the call (`owner` NULL) or owned, see bp_conn_put_owned. */
struct bp_slice {
    const uint8_t *base;
    size_t len;
    void *owner;
};

/*
 * One message (or fragment) of the VM. Takes every owner, also on failure. An error has ended the
 * link: BP_E_STATE, BP_E_NOMEM, BP_E_INTERNAL.
 */
int bp_link_send(struct bp_link *l, struct bp_slice *slices, size_t n) BP_MUST_CHECK;

/* A tick, unless one is still waiting to be sent. */
void bp_link_tick(struct bp_link *l);

/* Bytes of messages that are queued here: not yet in a packet, or held behind a fence. */
uint64_t bp_link_pending(const struct bp_link *l);

/* From now on what arrives is credited at once; frames are popped from the queue by the host. */
void bp_link_deliver(struct bp_link *l);
/* The opposite, for a host that cannot pop as fast as frames come: what arrives is not credited
 * until bp_link_deliver, so that the peer may send one window and no more. */
void bp_link_hold(struct bp_link *l);
bool bp_link_delivering(const struct bp_link *l);
struct bp_frame_queue *bp_link_frames(struct bp_link *l);

void bp_link_stats(const struct bp_link *l, struct bp_link_stats *out);

/* --- closing what nobody uses ---------------------------------------------- */

/* Why a link may not be closed; the order is known to the host's Erlang side. */
enum bp_link_use {
    BP_LINK_IDLE,     /* it may */
    BP_LINK_NOT_UP,   /* it is not up, or was not asked about */
    BP_LINK_NOT_OURS, /* another implementation, which cannot agree: it stays */
    BP_LINK_DOUBTFUL, /* bp_idle has lost count */
    BP_LINK_LIVE,     /* links, monitors or user streams across it */
    BP_LINK_USED,     /* there was a message of a process of late, or the host says so */
    BP_LINK_YOUNG,
    BP_LINK_UNSENT, /* something is on its way */
    BP_LINK_STREAMS /* user streams */
};

/*
 * May it be closed: idle for `min_idle` and at least that old, nothing alive across it, nothing on
 * its way? `temporary`: no message of a process has ever used it, then its age does not matter.
 */
enum bp_link_use bp_link_idle(struct bp_link *l, bp_time min_idle, bool temporary, bp_time now);

/* If so, asks the other end. What comes of it: bp_link_idle_due some time later, or nothing. */
enum bp_link_use bp_link_idle_ask(struct bp_link *l, bp_time min_idle, bool temporary, bp_time now);

/*
 * The other end has agreed. Once the host knows that its VM has nothing waiting for this link,
 * which would have come as bp_link_send, it calls bp_link_idle_close: true if the link has failed
 * with BP_E_IDLE, false if it was called off.
 */
bool bp_link_idle_due(const struct bp_link *l);
bool bp_link_idle_close(struct bp_link *l);

/* After event IDLE_ASKED: says what bp_link_idle says, or no unless `allowed`. */
enum bp_link_use bp_link_idle_answer(struct bp_link *l, bool allowed, bp_time min_idle,
                                     bp_time now);

#endif
