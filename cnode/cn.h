/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of libbarrel_p2p: a node in a C program, on core and io.
 *
 *   node.c      life: new, start, listen, del
 *   settings.c  options, identity and certificate
 *   run.c       epoll, the I/O thread, who waits for what
 *   socket.c    the node's UDP socket: datagrams to peers, to the listener, to nobody
 *   peer.c      one connection: link, timer, sending, end; peer_tables.c  how it is found
 *   shake.c     authentication's files, the distribution handshake, which of two connections stays
 *   discover.c  the discovery chain, publishing
 *   find.c      names to addresses, dialling one after the other
 *   path.h      ways through relays: relay.c, path.c, feed.c; move.c from one path to another
 *   event.c     events and messages for programs with a loop
 *   ei.c        libei's callbacks: sockets; ei_io.c  bytes; ei_stream.c  messages in them;
 *               ei_play.c  the handshake of ei_accept
 *   info.c      peers and counters (counters.def), log
 *   timers.c    when which peer wants to be looked at
 *
 * A node has one UDP socket for all of its peers: they are all served by one thread, and a process
 * with thousands of them does not run out of descriptors.
 *
 * Everything of a node is guarded by `lock`. Functions here expect it to be held; the public ones,
 * bp_*, take it. Whoever holds it may write to the socket; reading and timers are left to the one
 * that runs the node (run.c).
 */
#ifndef BP_CN_H
#define BP_CN_H

#include "auth/identity.h"
#include "auth/succession.h"
#include "base/err.h"
#include "dist/link.h"
#include "dist/shake.h"
#include "io/finder.h"
#include "io/peer_trust.h"
#include "io/relay_path.h"
#include "io/udp.h"
#include "quic/cid_map.h"
#include "quic/closing.h"
#include "quic/listener.h"

#include "barrel_p2p/node.h"

#include <pthread.h>

#define CN_PATH_MAX     4096u
#define CN_CIDS_MAX     24u /* ids of one connection: 8 active, some retired, the first one */
#define CN_BACKENDS_MAX 8u
#define CN_STATIC_MAX   4096u
#define CN_COOKIE_ONLY  64u
#define CN_LOG_BURST    50u
#define CN_LOG_PERIOD   (100 * BP_MS)
#define CN_TEXT_MAX     512u
#define CN_ACCEPT_MAX   128u          /* peers that wait for ei_accept */
#define CN_FLUSH_AFTER  (20u * 1000u) /* ns */
#define CN_FLUSH_BYTES  (60u * 1024u)

struct cn_ei;
struct cn_path;
struct cn_move;
struct cn_relay;
struct cn_relay_row;
struct bp_resolver;

/* Where a peer is. */
enum cn_stage {
    CN_FINDING, /* its addresses are looked for; there is no link */
    CN_SETUP,   /* TLS, authentication, distribution handshake */
    CN_UP,
    CN_ENDED /* there may be messages and a DOWN event to be taken */
};

struct cn_peer {
    struct bp_node *n;
    bp_peer_id id;
    struct cn_peer *next; /* of all */
    struct cn_peer *prev;
    enum cn_stage stage;
    bool inbound;
    bool authenticated;
    bool counted;  /* as half-open at the listener */
    bool newcomer; /* ... and as one that is not known */
    bool was_up;
    bool ei_peer;                    /* belongs to libei: no events */
    bool native;                     /* ... the opposite */
    bool silent;                     /* nobody was told of it: no DOWN event */
    bool busy;                       /* in cn_peer_settle: not to be freed */
    char name[BP_NODE_NAME_MAX + 1]; /* dialled or claimed, "" if unknown */
    bool named;                      /* `name` is in the node's table of names */

    /* dialling */
    bool looking;
    uint32_t lookup; /* of the finder */
    unsigned n_addrs;
    unsigned next_addr;
    struct bp_addr *addrs; /* while it is dialled */
    bp_time give_up;
    struct cn_relay *relay; /* through which it is dialled; NULL: none */
    uint32_t max_datagram;  /* 0: the node's */
    bp_time attempt_until;  /* while the path to an address is opened */

    /* the connection */
    struct bp_link *link;
    struct cn_path *path; /* NULL: the node's socket, as `local` for QUIC */
    struct bp_addr local;
    struct cn_move *move; /* to another path; NULL: it never was moved */
    int move_error;       /* of the last time */
    char move_text[256];
    struct bp_addr remote;
    bool remote_known;         /* `remote` is in the table of addresses */
    struct bp_addr counted_as; /* its first address, for the listener's limits */
    struct bp_cid cids[CN_CIDS_MAX];
    unsigned n_cids;
    struct bp_peer_trust trust;
    struct bp_shake *shake; /* until it is up; not where libei has dialled, and does it itself */
    bool cookie_shown;      /* and its verdict is awaited */
    int shake_err;          /* why the handshake failed, which says more than the link's error */
    const char *shake_why;
    uint64_t ticks_seen;
    bp_time up_at;
    bp_time last_flush; /* when it was over */
    bp_time flush_cost;
    bp_time refused_at; /* first refusal since the last sign of life */
    unsigned refused;
    bool held; /* the program does not take messages: no more credit */

    /* what is to be done */
    bp_time due;
    size_t heap_at; /* in the node's timers, 0: not there */
    bool dirty;     /* in the list of those that have something to send */
    struct cn_peer *next_dirty;
    bool just_read;
    bool ready; /* in the list of those that have events */
    struct cn_peer *next_ready;
    bool tell_up;
    bool tell_writable;
    bool tell_down;
    bool tell_moved;
    bool local_close; /* no message is taken any more */
    bool want_writable;
    uint64_t peer_flags;
    uint32_t peer_creation;

    struct cn_ei *ei;            /* who reads and writes it, NULL: nobody (yet) */
    struct cn_peer *next_accept; /* in the queue of those that wait for ei_accept */
    bool offered;

    int err; /* why it has ended */
    char text[CN_TEXT_MAX];
};

/* What the program wants to be asked, in this order; the finder is made of it at the start. */
enum cn_backend_kind { CN_BACKEND_STATIC, CN_BACKEND_FILES, CN_BACKEND_DNS, CN_BACKEND_OWN };

struct cn_backend {
    enum cn_backend_kind kind;
    char *dirs[BP_FILE_BACKEND_DIRS]; /* FILES; none: the usual ones */
    size_t n_dirs;
    char *domain;          /* DNS */
    char *servers;         /* DNS */
    uint16_t port;         /* DNS */
    struct bp_backend own; /* OWN: what the chain calls */
    struct bp_backend_ops ops;
    void *ctx;
};

struct cn_options {
    char *cookie;
    char *dir;
    char *key_dir;
    char *cert_file;
    char *cert_key_file;
    char *advertise;
    enum bp_trust_mode trust;
    bool auth;
    char *cookie_only[CN_COOKIE_ONLY];
    size_t n_cookie_only;
    struct bp_addr bind;
    uint16_t port;
    int family;
    bp_time setup_timeout;
    bp_time auth_window;
    bp_time keepalive;
    bp_time idle_timeout;
    uint32_t max_frame;
    uint32_t max_datagram;
    uint64_t send_buffer;
    uint64_t recv_buffer;
    uint64_t max_peers;
};

/* The node's own timers and the program's descriptors in epoll. */
enum cn_source {
    CN_SRC_SOCKET = 1,
    CN_SRC_WAKE,
    CN_SRC_FINDER,
    CN_SRC_EI,
    CN_SRC_PATH,
    CN_SRC_SIDE, /* a proxy's connection */
    CN_SRC_RESOLVER
};

struct cn_timers {
    struct cn_peer **heap; /* from 1; the earliest is [1] */
    size_t n;
    size_t cap;
};

struct cn_stats {
    uint64_t dialled;
    uint64_t accepted;
    uint64_t authenticated;
    uint64_t refused;
    uint64_t went_up;
    uint64_t went_down;
    uint64_t dial_failed;
    uint64_t datagrams;
    uint64_t datagrams_to_nobody;
    uint64_t peers_limit;
    uint64_t accept_queue_full;
    uint64_t messages_malformed;
    uint64_t held;
    uint64_t lookups;
    uint64_t log_dropped;
    uint64_t relays_failed;
    uint64_t relays_dead;
};

struct bp_node {
    pthread_mutex_t lock;
    char name[BP_NODE_NAME_MAX + 1];
    struct cn_options opt;
    uint32_t creation;
    bool started;
    bool listening;
    bool closing;   /* bp_node_del: whoever waits gives up */
    unsigned users; /* threads that wait in a libei call or in bp_node_wait */
    pthread_cond_t users_gone;

    /* identity */
    char key_dir[CN_PATH_MAX];
    struct bp_identity *identity;
    struct bp_succession succession;
    struct bp_tls_cred *cred;
    bool secrets;
    uint8_t nonce_secret[32];
    uint8_t reset_secret[32];
    const char *cookie_only[CN_COOKIE_ONLY];

    /* the network */
    int fd; /* -1: none yet */
    int name_fd;
    struct bp_addr bound;
    struct bp_udp_tx tx;
    uint8_t *rx_mem;
    uint8_t *tx_mem;
    struct bp_tx_run stash[BP_TX_RUNS + 1]; /* in tx_mem: what a full socket did not take */
    unsigned n_stash;
    bool want_out; /* EPOLLOUT is on */
    bool more_rx;  /* the socket was not read to its end */
    struct bp_listener *listener;
    struct bp_closing *told;
    struct bp_cid_map cids;
    struct bp_cid_map addrs; /* address -> peer, for stateless resets and refusals */
    struct bp_cid_map ids;
    struct bp_cid_map names;

    /* peers */
    struct cn_peer *peers;
    size_t n_peers;
    bp_peer_id last_id;
    struct cn_timers timers;
    struct cn_peer *dirty;
    struct cn_peer **dirty_tail;
    struct cn_peer *ready;
    struct cn_peer **ready_tail;

    /* discovery */
    struct cn_backend *backends[CN_BACKENDS_MAX];
    size_t n_backends;
    struct bp_static_node *fixed;
    struct bp_static_nodes fixed_nodes;
    struct bp_finder *finder; /* from bp_node_start on */
    bool look_again;          /* something was answered, or asked */
    bool published;

    /* relays */
    struct cn_relay_row *relays;
    size_t n_relays;
    struct bp_resolver *resolver; /* of their names; from the first one on */
    uint64_t last_question;
    bool answers; /* of the resolver, perhaps */
    struct bp_relay_stats relayed;

    /* running */
    int outer; /* what the program waits for */
    int inner; /* what whoever runs the node waits for */
    int wake_fd;
    int event_fd;
    bool event_set;
    bool touched; /* the program was active since the I/O thread slept last */
    bool threaded;
    bool stop;
    pthread_t thread;
    bp_time sleeps_until; /* the I/O thread; 0: it does not sleep */
    pthread_cond_t event_cond;
    unsigned event_waiters;

    /* libei */
    struct cn_ei *eis;
    struct cn_ei *accepting; /* whose ei_accept takes peers that dial us */
    bool accept_ei;          /* they are libei's, whether it accepts or not */
    uint64_t last_ei;

    bp_log_fn *log;
    void *log_ctx;
    enum bp_log_level log_level;
    struct bp_rate log_rate;
    struct cn_stats stats;
    uint64_t *ended; /* by error, info.c */
};

/* --- node.c -------------------------------------------------------------- */

bp_time cn_now(void);
uint64_t cn_wall_ms(void);
/* bp_error_detail and bp_error_last of this thread; returns `rc`. */
int cn_fail(int rc, const char *fmt, ...) BP_PRINTF(2, 3);
/* The socket, on any port if the node does not listen. */
int cn_open_socket(struct bp_node *n, uint16_t port);
/* ... and what takes strangers; under the lock. `port` NULL: that of the options. */
int cn_listen(struct bp_node *n, const uint16_t *port);

/* --- settings.c ---------------------------------------------------------- */

void cn_options_init(struct cn_options *o);
void cn_options_free(struct cn_options *o);
/* Loads what bp_node_start loads; no lock needed. */
int cn_load(struct bp_node *n);

/* --- run.c --------------------------------------------------------------- */

int cn_run_init(struct bp_node *n);
void cn_run_free(struct bp_node *n);
/* Starts the I/O thread if there is none. */
int cn_run_thread(struct bp_node *n);
int cn_watch(struct bp_node *n, int fd, uint32_t events, enum cn_source source, uint64_t which);
void cn_unwatch(struct bp_node *n, int fd);
/* After a call from outside: the one that runs the node may have to look earlier than it thinks. */
void cn_touched(struct bp_node *n);
/* Whoever runs it looks now. From any thread. */
void cn_wake(struct bp_node *n);
/* Waits for `c`, up to `until` (BP_TIME_NEVER: for ever), without the lock meanwhile. BP_E_TIMEOUT,
 * BP_E_STATE if the node closes. */
int cn_wait(struct bp_node *n, pthread_cond_t *c, bp_time until);
/* Somebody may wait for the node's events. */
void cn_events_changed(struct bp_node *n);
int cn_cond_init(pthread_cond_t *c);

/* --- timers.c ------------------------------------------------------------ */

/* Room for `n` peers; BP_E_NOMEM. */
int cn_timers_reserve(struct cn_timers *t, size_t n);
void cn_timers_free(struct cn_timers *t);
/* BP_TIME_NEVER takes it out. */
void cn_timers_set(struct cn_timers *t, struct cn_peer *p, bp_time due);
bp_time cn_timers_first(const struct cn_timers *t);

/* --- socket.c ------------------------------------------------------------ */

/* Reads what is there; more_rx is set if that was too much for once. */
void cn_socket_read(struct bp_node *n);
/* The key of an address in the table of addresses. */
void cn_addr_key(const struct bp_addr *a, struct bp_cid *out);
/* The kernel's reports of refused datagrams. */
void cn_socket_errors(struct bp_node *n);
/* Sends what a full socket did not take; false: it is still full. */
bool cn_socket_unstash(struct bp_node *n);
/* False: the socket is full, and keeps what is left of tx_mem. */
bool cn_socket_send(struct bp_node *n, struct bp_tx_run *runs, unsigned n_runs);

/* --- peer.c -------------------------------------------------------------- */

/* BP_E_LIMIT, BP_E_NOMEM. */
int cn_peer_new(struct bp_node *n, struct cn_peer **out);
void cn_peer_free(struct cn_peer *p);
void cn_peer_link_config(struct bp_node *n, struct bp_link_config *lc);
/* Gives it a link; `server`: for a first packet. */
int cn_peer_connect(struct cn_peer *p, bool server, struct bp_link_config *lc, bp_time now);
/* One datagram for it, which came on the path `local`. */
void cn_peer_read(struct cn_peer *p, const struct bp_addr *local, const struct bp_addr *remote,
                  const uint8_t *d, size_t len, bp_time now);
/* After anything happened to its link: events, handshake, sending, messages, timer. The peer may be
 * gone afterwards. */
void cn_peer_settle(struct cn_peer *p, bp_time now);
/* Something is to be sent, soon. */
void cn_peer_dirty(struct cn_peer *p);
void cn_peer_timer(struct cn_peer *p, bp_time now);
/* After a message was queued: sends at once, or with those that follow. */
void cn_peer_sent(struct cn_peer *p, bp_time now);
/* Ends it: `err` and `text` (NULL: the error's own) are why. The peer may be gone afterwards. */
void cn_peer_end(struct cn_peer *p, int err, const char *text, bp_time now);
void cn_peer_refused(struct cn_peer *p, bp_time now);
/* Counts a refusal; true: so often, and nothing is heard, that nobody is there. */
bool cn_peer_refused_again(struct cn_peer *p, bp_time now);
/* The program has taken messages, or cannot: flow control follows. */
void cn_peer_credit(struct cn_peer *p, bp_time now);
/* Frees it if it has ended and nobody wants anything of it any more. */
void cn_peer_reap(struct cn_peer *p);
/* Bytes of messages that the program has not taken. */
uint64_t cn_peer_queued(const struct cn_peer *p);
/* It is no stranger: its key is pinned. */
void cn_peer_known(struct cn_peer *p);
/* It has shown the cookie: it does not count as a stranger any more. */
void cn_peer_welcome(struct cn_peer *p);

/* --- peer_tables.c ------------------------------------------------------- */

/* Gives it its number, and the node; false: no memory. */
bool cn_peer_enter(struct bp_node *n, struct cn_peer *p);
/* Found neither by number nor by name any more. */
void cn_peer_leave(struct cn_peer *p);
struct cn_peer *cn_peer_of(const struct bp_node *n, bp_peer_id id);
/* The one of that name in `stage`, or NULL. */
struct cn_peer *cn_peer_named(const struct bp_node *n, const char *name, enum cn_stage stage);
/* Another connection to the node that `self` is one to, of a program without libei; `dialled`: only
 * one that we have dialled. NULL: there is none. */
struct cn_peer *cn_peer_native(const struct cn_peer *self, enum cn_stage stage, bool dialled);
void cn_peer_set_name(struct cn_peer *p, const char *name);
/* Where it is, and who is asked for when something comes from there; NULL: nowhere any more. */
void cn_peer_set_remote(struct cn_peer *p, const struct bp_addr *remote);
/* A connection id that the link has issued, or the peer has retired. */
void cn_peer_cid(struct cn_peer *p, const struct bp_cid *cid, bool added);
void cn_peer_forget_cids(struct cn_peer *p);

/* --- shake.c ------------------------------------------------------------- */

/* What the link reports. */
void cn_shake_events(struct cn_peer *p, bp_time now);
/* The distribution handshake of programs without libei. */
void cn_shake_step(struct cn_peer *p, bp_time now);
/* ei_accept has taken an offered peer and is through with it: as cn_shake_done. */
int cn_shake_accepted(struct cn_peer *p, bp_time now);
/* bp_link_hs_recv, with the check of a dynamic peer's name. */
int cn_shake_recv(struct cn_peer *p, const uint8_t **msg, size_t *len);
/* A message of the distribution handshake. */
int cn_shake_send(struct cn_peer *p, const uint8_t *msg, size_t len);
/* The handshake has succeeded: pins the key, and the link is up. An error has ended the link. */
int cn_shake_done(struct cn_peer *p, bp_time now);

/* --- discover.c ---------------------------------------------------------- */

int cn_discover_init(struct bp_node *n);
void cn_discover_free(struct bp_node *n);
/* Whether a BP_OPT_ADVERTISE can be used. */
bool cn_advertise_valid(const char *text);
void cn_publish(struct bp_node *n);
void cn_withdraw(struct bp_node *n);
/* DNS servers that the program named; NULL: the system's. */
const char *cn_dns_servers(const struct bp_node *n);

/* --- find.c -------------------------------------------------------------- */

struct cn_dial {
    const char *name; /* may be NULL where `at` is not */
    const struct bp_addr *at;
    unsigned timeout_ms;
    struct cn_ei *ei;       /* for whom; NULL: the program */
    struct cn_relay *relay; /* borrowed; NULL: as the table says */
    bool direct;            /* ... or none */
    uint32_t max_datagram;  /* 0: the node's */
};
/* The peer may be gone already when this returns 0; then its end was told. */
int cn_dial(struct bp_node *n, const struct cn_dial *d);
/* The path through a relay was not open in time. */
void cn_find_timeout(struct cn_peer *p, bp_time now);
/* Begins to look for `p->name`, if that was not possible before. */
int cn_find_start(struct cn_peer *p, bp_time now);
void cn_find_cancel(struct cn_peer *p);
/* Dials the next address, or ends the peer with the last error. */
void cn_find_next(struct cn_peer *p, bp_time now);
/*
 * Why an address did not do, kept as the dial's reason. What a node answered says more than that
 * another address is silent; of several alike the first stays.
 */
void cn_find_note(struct cn_peer *p, int err, const char *text);
/*
 * Whether the next address may do better than one that has failed like that. Not while libei is in
 * the middle of its handshake: another link would know nothing of it.
 */
bool cn_find_more(const struct cn_peer *p, int err);
/* A descriptor of discovery is readable, or time has passed. */
void cn_find_run(struct bp_node *n, bp_time now);
bp_time cn_find_deadline(const struct bp_node *n);

/* --- event.c ------------------------------------------------------------- */

void cn_event_ready(struct cn_peer *p);
void cn_event_drop(struct cn_peer *p);
/* 112, 131: what every message begins with. */
bool cn_message_begins(const uint8_t *p, size_t len);

/* --- ei.c ---------------------------------------------------------------- */

/* Something happened to a peer of libei: data, the end, the next phase. */
void cn_ei_changed(struct cn_peer *p);
/* The peer's `ei` is its reader and writer. */
void cn_ei_attach(struct cn_peer *p);
/* A peer that has shown the cookie, for ei_accept. BP_E_LIMIT: too many wait, or nobody accepts any
 * more. */
int cn_ei_offer(struct cn_peer *p);
/* The peer is going away. */
void cn_ei_drop_peer(struct cn_peer *p);
/* The program has closed its descriptor. */
void cn_ei_hung_up(struct bp_node *n, uint64_t which, bp_time now);
/* bp_node_del. */
void cn_ei_wake_all(struct bp_node *n);
void cn_ei_free_all(struct bp_node *n);

/* --- info.c -------------------------------------------------------------- */

void cn_log(struct bp_node *n, enum bp_log_level level, const char *event, const char *peer,
            const char *fmt, ...) BP_PRINTF(5, 6);
/* "name (address)" of a peer for people; valid until the thread's next call. */
const char *cn_who(const struct cn_peer *p);
/* Why it failed, in words that help. */
void cn_why(const struct cn_peer *p, int err, const char *text, char *out, size_t cap);
enum cn_end_kind { CN_END_REFUSED, CN_END_DIAL_FAILED, CN_END_DOWN };
void cn_count_end(struct bp_node *n, enum cn_end_kind kind, int err);
int cn_info_init(struct bp_node *n);

#endif
