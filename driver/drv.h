/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The linked-in port driver: one node port per VM (settings, listener, connections that are not
 * authenticated yet) and one connection port per peer (its own socket, lock and link).
 *
 *   drv.c        entry points of the VM
 *   node.c       the node port                conn_port.c  connection ports: the data path
 *   conn_ctl.c   control operations of connection ports
 *   conn.c       a connection: link, socket, timer; under whichever port owns it now
 *   conn_migrate.c moving a connection to another socket and path
 *   relay.c      what datagrams go through instead of a UDP socket of our own
 *   conn_why.c   why a connection failed, in words that help
 *   key_ops.c    control operations on the node's own keys and certificate
 *   mailbox.c    datagrams that came to the wrong socket
 *   ack_clock.c  how long acknowledgements wait for a datagram
 *   tickets.c    TLS sessions that go on in the next connection
 *   turn.c       how much a connection does at a time while others are active
 *   settings.c   CONFIG, as an immutable snapshot that connections share
 *   file_ops.c   control operations on key, trust and TLS files
 *   endpoint_ops.c  endpoint files: operations that threads do
 *   member_ops.c control operations of membership; idle_ops.c closing what nobody uses
 *   route_ops.c  telling Erlang of new addresses and routes
 *   streams.c    user streams: owners, delivery, ends; stream_ops.c their control operations,
 *                stream_tell.c their messages (all in streams.h), tag_ops.c tags
 *   nif.c        what is no control operation: pids as numbers, private directories
 *   resolve.c    DNS: questions by control operation, answers by message
 *   stats.c      counters (counters.def)
 *   args.c       arguments and results of control operations, terms for Erlang, log, memory
 *
 * Locks: each port's own (the VM holds it around every callback), and `drv_node.lock`, which
 * guards what connections share. It is never held across a call into a link or the VM, except
 * for the listener's own state machine.
 */
#ifndef BP_DRV_H
#define BP_DRV_H

#include "auth/identity.h"
#include "auth/succession.h"
#include "dist/link_user.h"
#include "dist/tags.h"
#include "io/files.h"
#include "io/peer_trust.h"
#include "io/relay_path.h"
#include "io/reset_secret.h"
#include "io/udp.h"
#include "quic/cid_map.h"
#include "quic/closing.h"
#include "quic/listener.h"

#include <erl_driver.h>

#define DRV_PATH_MAX    4096u
#define DRV_MAILBOX_MAX 256u /* datagrams that wait for their connection */
#define DRV_CIDS_MAX    24u  /* ids of one connection: 8 active, some retired, the first one */
#define DRV_HIGH_WATER  (512u * 1024u)
#define DRV_LOW_WATER   (256u * 1024u)
#define DRV_REF_MIN     512u /* shorter pieces are cheaper to copy than to count */
#define DRV_FLUSH_BYTES (60u * 1024u)
#define DRV_FLUSH_AFTER (20u * 1000u) /* ns */
#define DRV_ACKS_WAIT   BP_MS
#define DRV_LOG_BURST   50u
#define DRV_LOG_PER_SEC 10u

enum drv_op {
    OP_CONFIG = 1,
    OP_LISTEN = 2,
    OP_DETACH = 3,
    OP_STATS = 4,
    OP_ENDPOINT_WRITE = 5,
    OP_ENDPOINT_READ = 6,
    OP_ENDPOINT_DELETE = 7,
    OP_ENDPOINT_LIST = 8,
    OP_TLS_ENSURE = 9,
    OP_DIR_RESOLVE = 10,
    OP_TRUST_STORE = 11,
    OP_TRUST_STORE_IF_NEW = 12,
    OP_TRUST_LOOKUP = 13,
    OP_TRUST_DELETE = 14,
    OP_TRUST_LIST = 15,
    OP_FINGERPRINT = 16,
    OP_RESOLVE = 17,
    OP_ENDPOINT_KNOWN = 18,
    OP_CONNECT = 20,
    OP_PEER = 21,
    OP_RECV = 22,
    OP_PRE_NODEUP = 23,
    OP_POST_NODEUP = 24,
    OP_GETSTAT = 25,
    OP_SETOPTS = 26,
    OP_GETOPTS = 27,
    OP_AUTH_SEND = 28,
    OP_AUTH_RECV = 29,
    OP_PEERCERT = 30,
    OP_AUTH_DONE = 31,
    OP_CONN_STATS = 32,
    OP_CERT_INFO = 40,
    OP_ROTATE_CERT = 41,
    OP_ROTATE_IDENTITY = 42,
    OP_SERVER_BINDING = 43,
    OP_KEYPAIR_ENSURE = 44,
    OP_KEYPAIR_SAVE = 45,
    OP_KEYPAIR_NEW = 46,
    OP_PUBLIC_KEY = 47,
    OP_SIGN = 48,
    OP_VERIFY = 49,
    OP_RANDOM = 50,
    OP_NAME_MATCH = 51,
    OP_MEMBER_START = 60,
    OP_MEMBER_STEP = 61,
    OP_MEMBER_VIEWS = 62,
    OP_MEMBER_STATS = 63,
    OP_MEMBER_STOP = 64,
    OP_MEMBER_NEEDS = 65,
    OP_IDLE_ASK = 70,
    OP_IDLE_ANSWER = 71,
    OP_IDLE_CLOSE = 72,
    OP_STREAM_OPEN = 80,
    OP_STREAM_SEND = 81,
    OP_STREAM_RESERVE = 82,
    OP_STREAM_CLOSE = 83,
    OP_STREAM_RESET = 84,
    OP_STREAM_OPTS = 85,
    OP_STREAM_HOLD = 86,
    OP_STREAM_OWNER = 87,
    OP_STREAM_ACCEPT = 88,
    OP_STREAM_STOP = 89,
    OP_STREAM_LIST = 90,
    OP_STREAM_RESUME = 91,
    OP_STREAM_NODE = 92,
    OP_TAG_ADD = 100,
    OP_TAG_REMOVE = 101,
    OP_TAG_CLEAR = 102,
    OP_STREAM_WATCHER = 103,
    OP_MIGRATE = 110,
    OP_PATH = 111,
    OP_ROUTE_WATCH = 112,
    OP_RELAY_TAKE = 113,
    OP_RELAY_GIVE = 114,
    OP_MIGRATE_STOP = 115
};

enum drv_level { DRV_ERROR, DRV_WARNING, DRV_INFO, DRV_DEBUG };

/* --- settings.c ---------------------------------------------------------- */

/* What CONFIG said. Never changes; connections keep the one that they began with. */
struct drv_settings {
    _Atomic unsigned refs;
    char node_name[BP_NODE_NAME_MAX + 1];
    char key_dir[DRV_PATH_MAX];
    struct bp_identity *identity;
    struct bp_succession succession; /* how the identity came to be */
    uint8_t reset_secret[BP_RESET_SECRET_LEN];
    struct bp_tls_cred *cred;
    enum bp_auth_mode auth_mode;
    enum bp_trust_mode trust_mode;
    bp_time setup_timeout;
    bp_time auth_window;
    bp_time keepalive;
    bp_time idle_timeout;
    unsigned dist_streams;
    uint32_t max_frame_bytes;
    uint32_t max_datagram;
    bool no_migration; /* of the peers */
    enum drv_level log_level;
    bp_time preamble_timeout; /* of the tag of a user stream */
    struct bp_addr bind;
    uint16_t port;
    int family;
    char (*cookie_only)[BP_NODE_NAME_MAX + 1];
    const char **cookie_only_ptrs;
    size_t n_cookie_only;
};

int drv_settings_new(struct drv_settings **out, const uint8_t *args, size_t len,
                     struct bp_errbuf *err);
struct drv_settings *drv_settings_ref(struct drv_settings *s);
void drv_settings_unref(struct drv_settings *s);

/* --- mailbox.c ----------------------------------------------------------- */

struct drv_conn;

struct drv_pkt {
    struct drv_pkt *next;
    struct bp_addr remote;
    size_t len;
    uint8_t data[];
};

/* Where datagrams for a connection go while another thread may be using it. Guarded by the node's
 * lock; alive as long as the connection is. */
struct drv_mailbox {
    struct drv_pkt *head;
    struct drv_pkt **tail;
    unsigned n;
    int wake_fd; /* of the port that owns the connection; -1: none */
    uint64_t dropped;
    _Atomic bool nonempty;
};

void drv_mailbox_init(struct drv_mailbox *m, int wake_fd);
void drv_mailbox_put(struct drv_mailbox *m, const struct bp_addr *remote, const uint8_t *p,
                     size_t len);
struct drv_pkt *drv_mailbox_take(struct drv_mailbox *m);
void drv_pkts_free(struct drv_pkt *list);
/* Calls the port's ready callback soon, from any thread. */
void drv_wake(int wake_fd);

/* --- conn.c -------------------------------------------------------------- */

enum drv_conn_place {
    CONN_HALF_OPEN, /* owned by the node port */
    CONN_ORPHAN,    /* between DETACH and attach; nobody touches it */
    CONN_OWN_PORT
};

struct drv_move;
struct drv_relay;

struct drv_conn {
    struct drv_conn *next; /* in the node's list of half-open or orphaned connections */
    struct drv_conn *prev;
    enum drv_conn_place place;
    uint32_t id;
    struct bp_link *link;
    struct drv_settings *settings;
    struct drv_mailbox box;
    struct bp_cid cids[DRV_CIDS_MAX];
    unsigned n_cids;
    bool inbound;
    bool counted;  /* as half-open at the listener */
    bool newcomer; /* ... and as one that is not known */
    bool announced;
    bool authenticated;
    struct bp_peer_trust trust; /* in its key */
    bool failed;                /* the link has ended and its last datagrams were sent */
    bool reported;              /* ... and the owner was told */
    bool offered;               /* the acceptor was told of it */
    bool alive;                 /* the distribution handshake is over */
    bp_time began;              /* when it was dialled, or its first packet came */
    bp_time tls_at;             /* when TLS was done */
    bp_time auth_at;            /* when the peer was authenticated */
    int err;                    /* failures outside of the link */
    char err_text[512];

    int fd; /* own socket, -1 while half-open */
    struct bp_addr local;
    struct bp_addr peer; /* what `fd` is connected to */
    struct bp_udp_tx tx;
    struct drv_move *move;            /* other paths than that of `fd`; NULL: there are none */
    struct drv_relay *relay;          /* of `fd`; NULL: none */
    const struct drv_relay *rx_relay; /* that of what is being read */
    struct bp_relay_stats relayed;    /* of all relays that it had */
    const struct bp_addr *rx_local;   /* the path that is being read; NULL: that of `fd` */
    bool more;                        /* after a flush: more could be sent */
    uint8_t *stash;                   /* what a full socket did not take */
    size_t stash_len;
    struct bp_tx_run stash_runs[BP_TX_RUNS + 1];
    unsigned stash_n;
    bp_time refused_at; /* first ECONNREFUSED since the last sign of life */
    unsigned refused;

    bool idle_asked; /* the peer asks whether it may be closed: the node's owner has to know */
};

/* Scratch memory for one batch in or out; taken and given back within a callback. */
struct drv_scratch {
    struct drv_scratch *next;
    uint8_t rx[BP_UDP_RX_BUFS * BP_UDP_RX_BUF];
    uint8_t tx[BP_UDP_TX_BUF];
};

struct drv_scratch *drv_scratch_take(void);
void drv_scratch_give(struct drv_scratch *s);

int drv_conn_new(struct drv_conn **out, bool server, struct drv_settings *settings,
                 const struct bp_link_config *lc, bp_time now);
void drv_conn_del(struct drv_conn *c);
void drv_conn_link_config(struct drv_settings *s, struct bp_link_config *lc);
/* Lists of half-open and orphaned connections. */
void drv_conn_push(struct drv_conn **list, struct drv_conn *c);
void drv_conn_unlink(struct drv_conn **list, struct drv_conn *c);
/* A datagram that came to a socket of this connection or to the listener: feeds it to the link
 * that it belongs to, which may be another thread's. */
void drv_conn_datagram(struct drv_conn *c, const struct bp_addr *remote, const uint8_t *p,
                       size_t len, bp_time now);
/* The same for all that one receive buffer holds. */
void drv_conn_batch(struct drv_conn *c, const struct bp_udp_rx *rx, bp_time now);
/* Reads what other sockets received for this connection. */
void drv_conn_mailbox(struct drv_conn *c, bp_time now);
/* Handles the link's events; tells nobody. */
void drv_conn_events(struct drv_conn *c, bp_time now);
/* What goes through `fd` of a path of `c`; bp_udp_send, counted where a relay is in between. */
unsigned drv_conn_send(struct drv_conn *c, const struct drv_relay *relay, int fd,
                       struct bp_udp_tx *tx, const uint8_t *buf, struct bp_tx_run *runs,
                       unsigned n);
/* Sends one batch that fits `room` (of bp_conn_write, at most BP_UDP_TX_BUF); sets c->more if there
 * is another: a callback that goes on for long holds up all other ports of its scheduler. False:
 * the socket is full, wait until it is writable. */
bool drv_conn_flush(struct drv_conn *c, int fd, size_t room, bp_time now);
bp_time drv_conn_deadline(const struct drv_conn *c, bp_time now);
void drv_conn_on_timer(struct drv_conn *c, bp_time now);
/* Sends the last datagrams of a link that has failed, or is closed now. */
void drv_conn_finish(struct drv_conn *c, int fd, int err, const char *why, bp_time now);
/* bp_link_hs_recv; refuses a name that a dynamic peer took and that is pinned to another key. */
int drv_conn_hs_recv(struct drv_conn *c, const uint8_t **msg, size_t *len);
/* The distribution handshake has succeeded: pins the key (TOFU, rotation). BP_E_MISMATCH: the trust
 * in it ended meanwhile. */
int drv_conn_pin(struct drv_conn *c, struct bp_errbuf *err);
/* The peer's port refused a datagram of `fd`. */
void drv_conn_refused(struct drv_conn *c, bp_time now);
const char *drv_conn_peer(const struct drv_conn *c);
int drv_conn_error(const struct drv_conn *c);

/* --- conn_why.c ---------------------------------------------------------- */

/* Why it failed. A failed authentication names the keys, and what to do if they are right; valid
 * until the thread's next call. */
const char *drv_conn_error_text(const struct drv_conn *c);
/* The peer ended it, and said that our part of the authentication was the reason. */
bool drv_conn_refused_us(const struct drv_conn *c);

/* --- tickets.c ----------------------------------------------------------- */

/* The key that sessions of peers which dial us go on with; false: there is none, or `of` are not
 * the node's settings any more. */
bool drv_tickets_key(const struct drv_settings *of, uint8_t out[static BP_TICKET_KEY_LEN],
                     bp_time now);
/* The TLS session of the last connection to `node`, which is kept no longer (a ticket that is used
 * twice shows who uses it); returns its length, 0 if there is none. */
size_t drv_tickets_take(const char *node, uint8_t out[static BP_SESSION_MAX], bp_time now);
/* Keeps one of a connection that began with the settings `from`. */
void drv_tickets_keep(const struct drv_settings *from, const char *node,
                      const uint8_t p[static BP_SESSION_MAX], size_t len, bp_time now);
/* The trust in this node's key has changed. */
void drv_tickets_drop(const char *node);
/* New settings, or the node ends: all sessions, and the key. With the node's lock. */
void drv_tickets_forget(void);

/* --- key_ops.c ----------------------------------------------------------- */

struct drv_reply;
/* True if `op` is one of key_ops.c's; the result is in `r`. */
bool drv_key_op(unsigned op, const uint8_t *p, size_t len, struct drv_reply *r);

/* --- idle_ops.c ---------------------------------------------------------- */

/* True if `op` is one of idle_ops.c's; the result is in `r`. */
struct drv_conn_port;
bool drv_idle_op(struct drv_conn_port *cp, unsigned op, const uint8_t *p, size_t len,
                 struct drv_reply *r);
/* A link ended because nobody used it: counts what that has cost. */
void drv_idle_closed(const struct drv_conn *c);

/* --- conn_migrate.c ------------------------------------------------------ */

struct drv_conn_port;

/* Sends the runs that belong to other paths than that of `c->fd`; moves the rest to the front and
 * returns their number. Only where c->move != NULL. */
unsigned drv_move_divert(struct drv_conn *c, const uint8_t *buf, struct bp_tx_run *runs,
                         unsigned n);
bp_time drv_move_deadline(const struct drv_conn *c);
/* A socket of another path has something. */
void drv_move_ready(struct drv_conn_port *cp, int fd);
/* After anything happened: goes on with what was begun, answers, tells, closes old sockets. */
void drv_move_settle(struct drv_conn_port *cp, bp_time now);
/* The port stops: gives all other sockets back. */
void drv_move_stop(struct drv_conn_port *cp);
/* True if `op` is one of conn_migrate.c's; the result is in `r`. */
bool drv_move_op(struct drv_conn_port *cp, unsigned op, const uint8_t *p, size_t len,
                 struct drv_reply *r);

/* --- relay.c ------------------------------------------------------------- */

/*
 * What a connection's datagrams go through, from the arguments of CONNECT or MIGRATE; NULL if they
 * name none. An error is in `err`, or "". Errors: BP_E_INVALID, BP_E_NOMEM.
 */
int drv_relay_parse(struct drv_relay **out, const uint8_t *p, size_t len);
/*
 * Opens it for datagrams to `remote`. 0: `*fd` is its socket, not selected yet, and `*local` a name
 * for the path; 1: that takes time, drv_relay_opened will be called. Errors: BP_E_RELAY,
 * BP_E_LIMIT, BP_E_SYSTEM; `text` of drv_relay_text.
 */
int drv_relay_open(struct drv_conn_port *cp, struct drv_relay *r, const struct bp_addr *remote,
                   int *fd, struct bp_addr *local);
/* One of relay.c's descriptors has something; false: it is none. */
bool drv_relay_ready(struct drv_conn_port *cp, int fd);
/* A process that relays may have ended. */
void drv_relay_process_exit(struct drv_conn_port *cp, const ErlDrvMonitor *monitor);
/* bp_relay_path_tx; does nothing without relay. */
void drv_relay_tx(const struct drv_relay *r, struct bp_udp_tx *tx);
/* The largest datagram that it takes, 0: not known. */
uint32_t drv_relay_mtu(const struct drv_relay *r);
/* Takes the wrapping off; 0: such a datagram is nobody's. */
size_t drv_relay_unwrap(const struct drv_relay *r, struct bp_relay_stats *stats, const uint8_t *p,
                        size_t len);
/* Replaces the name of a path by what the peer may see of it. */
void drv_relay_key(const struct drv_relay *r, struct bp_addr *key);
/* A datagram was refused where the relay should be: says so, once. */
void drv_relay_refused(struct drv_conn *c);
/* What it is, for people, and why it failed. */
const char *drv_relay_name(const struct drv_relay *r);
const char *drv_relay_text(const struct drv_relay *r);
/* Gives all but the datagrams' socket back; NULL is a no-op. */
void drv_relay_close(struct drv_conn_port *cp, struct drv_relay *r);
/* True if `op` is one of relay.c's; the result is in `reply`. */
bool drv_relay_op(struct drv_conn_port *cp, unsigned op, const uint8_t *p, size_t len,
                  struct drv_reply *reply);

/* conn_port.c and conn_migrate.c: the relay that was being opened is there, or has failed (rc). */
void drv_conn_port_relay_opened(struct drv_conn_port *cp, int rc, int fd,
                                const struct bp_addr *local);
bool drv_move_relay_opened(struct drv_conn_port *cp, const struct drv_relay *r, int rc, int fd,
                           const struct bp_addr *local);
/* The relays of other paths than c->fd's, in any order; NULL: no more. */
struct drv_relay *drv_move_relay(const struct drv_conn *c, unsigned i);
/* It is of a path that was left. */
bool drv_move_left(const struct drv_conn *c, const struct drv_relay *r);

/* --- ports --------------------------------------------------------------- */

enum drv_port_kind { PORT_NODE, PORT_CONN };

struct drv_port {
    enum drv_port_kind kind;
    ErlDrvPort port;
    bp_time entered; /* the outermost callback */
    bool worked;     /* ... and did more in it than queue a message */
    unsigned depth;  /* callbacks under way; freed at 0 */
    bool stopped;
    int wake_fd; /* an eventfd */
    bool wake_selected;
    bp_time armed; /* what the port's timer waits for */
};

/* --- turn.c ---------------------------------------------------------------- */

/* For so long others give way to a connection that was active: an answer is likely to come. What
 * one of them sends at a time (a room for bp_conn_write: 48 KB of datagrams, which are one run),
 * and polls of the VM from one time to the next: our wake-up comes before what came after it was
 * asked for, so that one poll gives others their turn, the next one us ours. While somebody waits
 * for an answer ours comes only after so long: it is best when a message has just gone out, since
 * nobody else has anything to do until it is answered. */
#define DRV_BRIEF_FOR    (BP_MS / 2)
#define DRV_BRIEF_ROOM   (4u * BP_DGRAM_SENT)
#define DRV_BRIEF_POLLS  2u
#define DRV_BRIEF_WAIT   (BP_MS / 25)
#define DRV_BRIEF_ANSWER (BP_MS / 10) /* no answer later than that is waited for */

/* Of one connection. */
struct drv_turn {
    bp_time bulk_at; /* when it last moved a full batch */
    bp_time over;    /* the end of its turn, if that was brief and there is more to send; else 0 */
    unsigned polls;  /* until it sends again */
};

/* Something happened on a connection that has little to send: others give way. Cheap: per message.
 */
void drv_turn_active(const struct drv_turn *t, bp_time now);
/* True if another connection is active: do little now. */
bool drv_turn_brief(const struct drv_turn *t, bp_time now);
/* A connection that may be such a one has sent. Cheap: per flush. */
void drv_turn_sent(const struct drv_turn *t, bp_time now);
/* A turn is over, and there is more to send. */
void drv_turn_over(struct drv_turn *t, bool brief, bp_time now);
/* True if it is not yet its turn again. */
bool drv_turn_waits(const struct drv_turn *t, bp_time now);

struct drv_node_port {
    struct drv_port p;
    bool fd_selected;
};

/* Acknowledgements of one connection that wait for a datagram. */
struct drv_ack_wait {
    struct drv_ack_wait *next; /* under the node's lock, as what follows */
    struct drv_ack_wait **at;
    bp_time seen; /* `asked` at the last tick */
    int wake_fd;
    _Atomic bool listed;
    _Atomic bp_time by;    /* when they go out without; 0: none wait. Only the port writes */
    _Atomic bp_time asked; /* the last `by` */
};

struct drv_conn_port {
    struct drv_port p;
    struct drv_conn *conn;
    bool fd_selected;
    bool write_selected;
    bool busy;
    bool want_hs;   /* RECV waits */
    bool want_auth; /* AUTH_RECV waits */
    bool dialling;  /* the owner waits for authenticated or failed */
    bool flush_due;
    bool just_read;
    bool answers;       /* what the VM sends next follows a message of the peer's */
    bool idle_due;      /* the peer agrees to close it, and the node's owner was told */
    bool rx_many;       /* the last read brought more than a small datagram */
    bp_time last_read;  /* when it began */
    bp_time last_flush; /* when it was over */
    bp_time flush_cost;
    struct drv_ack_wait acks;
    struct drv_turn turn;
    struct drv_streams *streams; /* what is known of user streams; NULL: nothing yet */
    unsigned n_reserved;         /* port commands that will bring bytes for one */
};

int drv_port_wake_open(struct drv_port *p);
/* Also cancels the timer. */
void drv_port_wake_close(struct drv_port *p);
void drv_port_wake_read(struct drv_port *p);
/* The VM's timer, whole milliseconds: a timerfd costs a virtual machine more than all the rest. */
void drv_port_timer_arm(struct drv_port *p, bp_time at, bp_time now);

struct drv_port *drv_node_port_start(ErlDrvPort port);
void drv_node_port_stop(struct drv_node_port *np);
void drv_node_port_ready(struct drv_node_port *np, int fd);
void drv_node_port_timeout(struct drv_node_port *np);
ErlDrvSSizeT drv_node_port_control(struct drv_node_port *np, unsigned op, const uint8_t *p,
                                   size_t len, char **rbuf, ErlDrvSizeT rlen);

struct drv_port *drv_conn_port_start(ErlDrvPort port, const char *args);
/* Sends the last datagrams and gives the descriptors back; the connection stays until _free. */
void drv_conn_port_stop(struct drv_conn_port *cp);
void drv_conn_port_free(struct drv_conn_port *cp);
void drv_conn_port_ready(struct drv_conn_port *cp, int fd, bool writable);
void drv_conn_port_timeout(struct drv_conn_port *cp);
void drv_conn_port_outputv(struct drv_conn_port *cp, ErlIOVec *ev);
/* Gives the connection its own socket; a failure fails the link. */
void drv_conn_port_open_socket(struct drv_conn_port *cp);
/* Reads what a socket of the connection holds, of the path from `local` (NULL: that of c->fd). */
void drv_conn_port_read(struct drv_conn_port *cp, int fd, const struct bp_addr *local,
                        const struct drv_relay *relay);
/* Reads what waits in a socket that is about to be closed, after it has left the peer's address. */
void drv_conn_port_drain(struct drv_conn *c, int fd, const struct drv_relay *relay);
/* Ends the link for a reason outside of it; the first reason stays. */
void drv_conn_port_fail(struct drv_conn_port *cp, int err, const char *text);
/* Sends soon: at once, unless that was done only just now. */
void drv_conn_port_push(struct drv_conn_port *cp, bp_time now);
/* What is to be sent may wait for a message to ride on, a millisecond at most; false: it may not.
 */
bool drv_conn_port_soon(struct drv_conn_port *cp, bp_time now);
/* Sends, delivers, tells, fails and sets the timer, as the link now demands. */
void drv_conn_port_settle(struct drv_conn_port *cp, bp_time now);
ErlDrvSSizeT drv_conn_port_control(struct drv_conn_port *cp, unsigned op, const uint8_t *p,
                                   size_t len, char **rbuf, ErlDrvSizeT rlen);

/* --- ack_clock.c --------------------------------------------------------- */

/* The node port starts and stops. BP_E_LIMIT: there is no descriptor left. */
int drv_acks_open(struct drv_node_port *np);
void drv_acks_close(struct drv_node_port *np);
/* False: the descriptor is not the clock's. */
bool drv_acks_ready(int fd);
/* Wakes the port through `wake_fd` when `by` is over, at most DRV_ACKS_WAIT late, unless w->by is 0
 * then. False: there is no node port any more. */
bool drv_acks_wait(struct drv_ack_wait *w, int wake_fd, bp_time by);
/* The port stops. */
void drv_acks_stop(struct drv_ack_wait *w);

/* --- streams.c, stream_ops.c ---------------------------------------------- */

/* Tells the owners what has come. */
void drv_streams_deliver(struct drv_conn_port *cp);
/* Bytes went out: there may be room for more. */
void drv_streams_flushed(struct drv_conn_port *cp);
/* The connection has ended: tells all owners, gives everything back. */
void drv_streams_end(struct drv_conn_port *cp);
void drv_streams_process_exit(struct drv_conn_port *cp, ErlDrvMonitor *monitor);
/* True if `op` is one of stream_ops.c's; the result is in `r`. */
bool drv_stream_op(struct drv_conn_port *cp, unsigned op, const uint8_t *p, size_t len,
                   struct drv_reply *r);
/* True if the command brought the bytes of a stream. */
bool drv_stream_command(struct drv_conn_port *cp, const ErlIOVec *ev);

/* --- tag_ops.c ------------------------------------------------------------ */

/* The same for tags and the watcher of owners; called under the node port's lock. */
bool drv_tag_op(struct drv_node_port *np, unsigned op, const uint8_t *p, size_t len,
                struct drv_reply *r);
void drv_tags_stop(void);
/* Whose tag the bytes begin with; see bp_tags_match. */
enum bp_tag_match drv_tag_match(const uint8_t *p, size_t len, ErlDrvTermData *owner,
                                size_t *preamble);
/* The process that knows when owners have consumed what they were given; false: none. */
bool drv_stream_watcher(ErlDrvTermData *pid);

/* --- the node ------------------------------------------------------------ */

struct drv_node {
    ErlDrvMutex *lock;
    bool secrets_ready;
    uint8_t nonce_secret[32];
    uint8_t reset_secret[BP_RESET_SECRET_LEN]; /* of nodes without an identity */
    /* under `lock` from here */
    struct drv_settings *settings; /* NULL before CONFIG */
    bool has_port;
    ErlDrvTermData port;
    ErlDrvTermData owner;
    bool has_owner;
    struct bp_cid_map demux;
    struct bp_listener listener;
    struct bp_closing closing;
    struct bp_addr bound;     /* of the listener; len 0: none */
    struct drv_mailbox stray; /* Initials that came to a peer's socket */
    struct drv_conn *orphans;
    struct bp_tags tags;
    ErlDrvTermData watcher;
    bool has_watcher;
    uint32_t next_id;
    struct drv_scratch *scratch;
    uint64_t log_dropped;
    double log_tokens;
    bp_time log_at;
    uint64_t conns;
    uint64_t accepted;
    uint64_t authenticated; /* of the accepted ones */
    uint64_t half_open_max;
    uint64_t datagrams;
    uint64_t handed_over;
    uint64_t ack_ticks;
    uint64_t idle_agreed;        /* connections that a peer closed because we had agreed */
    uint64_t idle_lost;          /* messages lost between our consent and that */
    uint64_t idle_window_us;     /* sum of that time */
    uint64_t idle_window_us_max; /* ... and the longest */
    uint64_t relays_failed;      /* that could not be opened */
    uint64_t relays_dead;        /* that did not relay any more */
};

extern struct drv_node drv_node;

/* --- stats.c ------------------------------------------------------------- */

/* When a connection ended. */
enum drv_stage { DRV_REFUSED, DRV_DIAL_FAILED, DRV_DOWN };

struct drv_reply;
/* Counts a connection that ended with `err`; under the node's lock. */
void drv_count_end(enum drv_stage stage, int err);
void drv_node_stats(struct drv_reply *r);
void drv_conn_stats(const struct drv_conn *c, struct drv_reply *r);

/* --- file_ops.c ---------------------------------------------------------- */

/* True if `op` is one of file_ops.c's; the result is in `r`. */
bool drv_file_op(unsigned op, const uint8_t *p, size_t len, struct drv_reply *r);

/* --- endpoint_ops.c ------------------------------------------------------- */

/* The same for endpoint files; results come later, as messages. */
bool drv_endpoint_op(struct drv_node_port *np, unsigned op, const uint8_t *p, size_t len,
                     struct drv_reply *r);
/* False: the descriptor is not of these. */
bool drv_endpoint_ready(int fd);
void drv_endpoint_stop(struct drv_node_port *np);
void drv_endpoint_stats(struct drv_reply *r);

/* --- resolve.c ------------------------------------------------------------ */

void drv_resolve_control(struct drv_node_port *np, const uint8_t *p, size_t len,
                         struct drv_reply *r);
/* False: the descriptor is not the resolver's. */
bool drv_resolve_ready(int fd);
void drv_resolve_stop(struct drv_node_port *np);
void drv_resolve_stats(struct drv_reply *r);

/* --- route_ops.c --------------------------------------------------------- */

/* False: the descriptor is not that of the kernel's reports. */
bool drv_route_ready(struct drv_node_port *np, int fd);
/* True if `op` is route_ops.c's; the result is in `r`. */
bool drv_route_op(struct drv_node_port *np, unsigned op, struct drv_reply *r);
void drv_route_stop(struct drv_node_port *np);

/* --- member_ops.c -------------------------------------------------------- */

/* The same for membership; called under the node port's lock. */
bool drv_member_op(unsigned op, const uint8_t *p, size_t len, struct drv_reply *r);
void drv_member_stop(void);

/* --- args.c -------------------------------------------------------------- */

/* One element of a <<Key:8, Len:16, Val>> list. */
struct drv_arg {
    uint8_t key;
    uint16_t len;
    const uint8_t *val;
};

struct drv_args {
    const uint8_t *p;
    size_t left;
    bool bad;
};

void drv_args_init(struct drv_args *a, const uint8_t *p, size_t len);
bool drv_args_next(struct drv_args *a, struct drv_arg *out);
/* The value of `key` as a string of at most cap - 1 bytes; false if absent, too long or with NUL.
 */
bool drv_args_string(const uint8_t *p, size_t len, uint8_t key, char *out, size_t cap);
bool drv_args_uint(const uint8_t *p, size_t len, uint8_t key, uint64_t *out);
uint64_t drv_arg_uint(const struct drv_arg *a);

/* A growing result. */
struct drv_reply {
    uint8_t *p;
    size_t len;
    size_t cap;
    bool nomem;
};

void drv_reply_init(struct drv_reply *r);
void drv_reply_ok(struct drv_reply *r);
void drv_reply_bytes(struct drv_reply *r, const void *p, size_t len);
void drv_reply_uint(struct drv_reply *r, uint64_t v, unsigned bytes);
void drv_reply_tlv(struct drv_reply *r, uint8_t key, const void *p, size_t len);
/* <<NameLen:8, Name, Value:64>> */
void drv_reply_stat(struct drv_reply *r, const char *name, uint64_t v);
/* Replaces the result by an error. */
void drv_reply_error(struct drv_reply *r, int err, const char *text);
/* Hands it to the VM and frees it. */
ErlDrvSSizeT drv_reply_done(struct drv_reply *r, char **rbuf, ErlDrvSizeT rlen);

/* {Tag, Id, Result} to a process; frees the reply's memory. */
void drv_tell_result(ErlDrvTermData who, const char *tag, uint64_t id, struct drv_reply *r);

bp_time drv_now(void);
uint64_t drv_wall_ms(void);
const struct bp_mem *drv_mem(void);
void drv_free(void *p); /* NULL is a no-op */
const struct bp_rx_mem *drv_rx_mem(void);
const struct bp_owner_ops *drv_owner_ops(void);

/* Messages to a port's owner: {Port, {Tag}}, {Port, {Tag, Binary, ...}}. */
void drv_tell(ErlDrvPort port, const char *tag);
void drv_tell_bins(ErlDrvPort port, const char *tag, const char *atom, const void *a, size_t a_len,
                   const void *b, size_t b_len);
void drv_tell_data(ErlDrvPort port, const char *tag, const void *p, size_t len, bool fin);
/* {NodePort, {incoming, Id}} and {NodePort, {log, Level, Event, Peer, Text}} to the node's owner.
 */
void drv_tell_incoming(uint32_t id);
/* {NodePort, {Tag, Port}} */
void drv_tell_of_port(const char *tag, ErlDrvPort of);
void drv_log(enum drv_level level, const char *event, const char *peer, const char *fmt, ...)
    BP_PRINTF(4, 5);

#endif
