/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of a link: shared by link*.c only. */
#ifndef BP_LINK_IMPL_H
#define BP_LINK_IMPL_H

#include "base/rate.h"
#include "dist/hs_split.h"
#include "dist/idle.h"
#include "dist/link.h"
#include "dist/link_user.h"
#include "dist/order.h"
#include "dist/route.h"

#define BP_LINK_EVENTS_FIRST 4u
#define BP_LINK_EVENTS_MAX   64u    /* more than one datagram can cause */
#define BP_HS_OUT            8u     /* handshake messages that wait for an acknowledgement */
#define BP_HS_OUT_BYTES      1024u  /* of one such message */
#define BP_EXT_AUTH_MAX      65536u /* bytes of an external auth protocol that nobody has read */
#define BP_AUTH_STREAM_MAX   4096u  /* bytes of the built-in one, ever */

/* What a peer may do for nothing: so many at once, then one in a period. Nodes tick once in 15 s,
 * and of user streams only those count that nobody here wants. */
#define BP_TICKS_BURST        4096u
#define BP_TICK_PERIOD        (5 * BP_MS)
#define BP_USER_STREAMS_BURST 8192u
#define BP_USER_STREAM_PERIOD (2 * BP_MS)

/* Of a name in a sentence, NUL included. */
#define BP_LINK_NAME_TEXT 128u

#define BP_LINK_AUTH_UNWANTED                                                                      \
    "the peer wants to authenticate, but authentication is off on this node"

/* What is only needed until the link is up. */
struct bp_link_setup {
    struct bp_auth auth;
    bool auth_ready;
    bool auth_started;
    bool peer_fin;
    struct bp_hs_split split;
    struct {
        uint16_t len;
        uint8_t data[BP_HS_OUT_BYTES];
    } out[BP_HS_OUT];
    unsigned out_head;
    unsigned out_n;
    uint8_t *ext; /* auth mode EXTERNAL: BP_EXT_AUTH_MAX bytes for what the peer has sent */
    size_t ext_len;
    bool ext_fin;
    char said[BP_NODE_NAME_MAX + 1]; /* our name in the distribution handshake */
    bool ticket; /* ... with the challenge in which it is, and a ticket is next */
};

/* A message that waits behind a fence, with its bytes. */
struct bp_held {
    struct bp_held *next;
    struct bp_route route;
    size_t len;
    size_t n;
    struct bp_slice slices[]; /* then copies of the borrowed ones */
};

/* Agreeing to close. */
struct bp_link_ask {
    bool asked; /* our ASK(round) waits for an answer */
    bool due;   /* it was YES */
    bp_time asked_at;
    uint16_t round;
    uint64_t messages; /* when we asked */
    bool answer_due;   /* the peer's ASK(peer_round) waits for our host */
    bool peer_temporary;
    bp_time event_at; /* the host was last asked */
    uint16_t peer_round;
    bool agreed; /* we said YES, when and with how many messages */
    bp_time agreed_at;
    uint64_t agreed_taken;
    uint64_t agreed_frames;
};

/* Asking for another path, and being asked (link_path.c). */
struct bp_link_path {
    bool asking; /* our ASK(round) waits for an answer */
    bool answered;
    uint8_t round;
    int result;
    bool asked; /* the host has yet to see the peer's ASK(peer_round) */
    bool answer_due;
    uint8_t peer_round;
    bp_time asked_at;
    bool busy_due; /* the answer to another ASK(busy_round) */
    uint8_t busy_round;
};

struct bp_link {
    struct bp_conn *conn;
    const struct bp_mem *mem;
    struct bp_rx_mem rx;
    struct bp_owner_ops owner;
    enum bp_link_phase phase;
    enum bp_auth_mode auth_mode;
    struct bp_auth_config auth_cfg;
    bool server;
    bool early_ready;    /* noted in a callback, as is the next */
    bool handshake_done; /* of TLS */
    bool auth_unwanted;  /* the peer authenticates, and we do not */
    bool delivering;
    bool credit_due; /* some of `uncredited` may be given back */
    int err;
    char text[256];
    char peer_name[BP_NODE_NAME_MAX + 1];
    char dialled[BP_NODE_NAME_MAX + 1];
    bool claimed;      /* a dynamic peer said a name, and nobody has asked for it yet */
    bool peer_checked; /* the name in the dist handshake was compared */
    bp_time now;
    bp_time deadline;
    uint64_t wall_base_ms; /* wall clock - monotonic clock */
    struct bp_link_setup *setup;

    int auth_slot;
    int control_slot;
    int data_slots[BP_DIST_STREAMS_MAX]; /* -1: not opened yet */
    unsigned n_streams;
    uint32_t max_frame_bytes;
    struct bp_deframer *deframers[BP_DIST_STREAMS_MAX]; /* made when their stream begins */
    uint64_t uncredited[BP_DIST_STREAMS_MAX];           /* bytes that came */
    uint8_t word[4]; /* a tick or other word on stream 0, as far as it is there */
    uint8_t word_len;
    struct bp_rate tick_rate;
    struct bp_rate user_stream_rate;
    uint64_t auth_bytes;
    struct bp_frame_queue frames;

    struct bp_order order;
    struct bp_held *held_head;
    struct bp_held **held_tail;
    uint64_t held_bytes;

    struct bp_link_users *users; /* user streams; made for the first one */
    bool accepts_user_streams;
    uint64_t user_unread_max;
    uint64_t uncredited_user; /* bytes of theirs that came before delivery began */

    /* link_idle.c */
    struct bp_idle idle;
    uint64_t taken; /* messages of our VM */
    uint64_t used;  /* messages of processes when last looked */
    bp_time used_at;
    bp_time up_at;
    struct bp_link_ask ask;
    struct bp_link_path path;

    struct bp_link_event *events; /* ring, only there while it holds something */
    unsigned ev_cap;
    unsigned ev_head;
    unsigned ev_n;
    struct bp_link_stats stats;
};

/* Stream numbers (WIRE 2). */
int64_t bp_link_auth_stream(bool server);
#define BP_CONTROL_STREAM 0

/* The wall clock in ms since the epoch, as it is at l->now. */
uint64_t bp_link_wall_ms(const struct bp_link *l);

extern const struct bp_conn_ops bp_link_conn_ops;

/* --- link_rx.c, link_tx.c ------------------------------------------------- */

/* BP_E_FLOOD, with words. */
int bp_link_flood(struct bp_link *l, const char *what);
/* Gives back the windows of what came on data streams. */
void bp_link_credit(struct bp_link *l);
/* The slot of a data stream, which is opened when it is first used: most connections need few. */
int bp_link_data_slot(struct bp_link *l, unsigned stream);

/* --- link_user.c ---------------------------------------------------------- */

/* First bytes of a stream of the peer; what the connection reports of it later (bp_conn_ops). */
int bp_link_user_begun(struct bp_link *l, int64_t id, const uint8_t *p, size_t len, bool fin);
int bp_link_user_data(void *user, struct bp_user_tx *t, const uint8_t *p, size_t len, bool fin);
int bp_link_user_on_reset(void *user, struct bp_user_tx *t, uint64_t code);
void bp_link_user_on_stop(void *user, struct bp_user_tx *t, uint64_t code);
void bp_link_user_closed(void *user, struct bp_user_tx *t);
/* When a parked stream's time is over. */
bp_time bp_link_user_deadline(const struct bp_link *l);
void bp_link_user_on_timer(struct bp_link *l);
/* Before the connection is deleted. */
void bp_link_user_del(struct bp_link *l);
/* One more stream that nobody wants: 0 or BP_E_FLOOD. */
int bp_link_user_unwanted(struct bp_link *l);

/* --- link_auth.c ---------------------------------------------------------- */

/* A client can do it when it has the server's certificate. */
int bp_link_init_auth(struct bp_link *l);
/* Starts the built-in authentication, if it is used and was not started. */
int bp_link_start_auth(struct bp_link *l);
/* A server's first words, before the client's Finished has come. */
int bp_link_speak_early(struct bp_link *l);
/* TLS is done: begins what comes next. */
int bp_link_after_tls(struct bp_link *l);
/* Carries out what the built-in authentication wants. */
int bp_link_drain_auth(struct bp_link *l);

/* --- link_hs.c ------------------------------------------------------------ */

/* Opens the control stream where it is ours to open: stream 0 belongs to the client. */
int bp_link_begin_hs(struct bp_link *l);
/*
 * Sends the next handshake message if the one before it has arrived: upstream takes two that come
 * together for one (WIRE 0.5). Our own splitter does not, and saves the round trip.
 */
int bp_link_pump_hs(struct bp_link *l);

/* --- link_idle.c ---------------------------------------------------------- */

void bp_link_idle_begin(struct bp_link *l); /* the link is up */
/* Takes the time of the last message; whenever the link knows the time. */
void bp_link_idle_note(struct bp_link *l);
/* A word that is no tick. */
int bp_link_idle_word(struct bp_link *l, const uint8_t word[4]);
/* The peer has closed it with BP_E_IDLE: says so in l->text. */
void bp_link_idle_closed(struct bp_link *l);

/* --- link_path.c ---------------------------------------------------------- */

#define BP_LINK_PATH_TAG 0x6du /* first byte of its words */
void bp_link_path_word(struct bp_link *l, const uint8_t word[4]);

/* --- link.c, link_tx.c ---------------------------------------------------- */

/* Wipes and frees what is only needed until the link is up. */
void bp_link_drop_setup(struct bp_link *l);
void bp_link_event(struct bp_link *l, const struct bp_link_event *ev);
/* What may be done now that a callback only noted. Returns the link's error. */
int bp_link_advance(struct bp_link *l);
void bp_link_drop_held(struct bp_link *l);
/* Sends what a fence no longer holds back. */
int bp_link_release_held(struct bp_link *l);

#endif
