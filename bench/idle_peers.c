/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many peers of one Erlang node in one process: each is a link of the core with a key, a node name
 * and a UDP socket of its own. They dial the node, authenticate, do the distribution handshake as
 * hidden nodes, answer ticks, and are silent otherwise.
 *
 *   idle_peers NODE IP PORT COOKIE [PREFIX]
 *
 *   on standard input   "dial N"       on standard output   "up TOTAL" when all of them are up
 *                       end of file                         "closed TOTAL", status 0
 *
 * Peers are PREFIX1@127.0.0.1, PREFIX2@127.0.0.1, ... The first failure of any of them ends the
 * program with a line on standard error and status 1.
 */
#include "base/rw.h"
#include "dist/link.h"
#include "io/udp.h"
#include "quic/tls_cert.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define PEERS_MAX     1000u
#define AT_ONCE       16u /* dialled at the same time: a node takes few strangers of one address */
#define EVENTS_MAX    64
#define LINE_MAX_     128u
#define MD5_LEN       16u
/* As a node has them by default (driver/settings.c). */
#define KEEPALIVE     (2 * BP_SEC)
#define IDLE_TIMEOUT  (300 * BP_SEC)
#define SETUP_TIMEOUT (10 * BP_SEC)

/*
 * OTP's distribution flags (lib/kernel/include/dist.hrl) that a node of OTP 25 and later demands:
 * extended references and pids, funs, exports, bit strings, floats, UTF-8 atoms, maps, big
 * creations, handshake of OTP 23, unlink ids, 64-bit pids. Without PUBLISHED: a hidden node.
 */
#define DIST_FLAGS                                                                                 \
    (UINT64_C(0x04) | UINT64_C(0x08) | UINT64_C(0x10) | UINT64_C(0x20) | UINT64_C(0x80) |          \
     UINT64_C(0x100) | UINT64_C(0x200) | UINT64_C(0x400) | UINT64_C(0x800) | UINT64_C(0x1000) |    \
     UINT64_C(0x4000) | UINT64_C(0x10000) | UINT64_C(0x20000) | UINT64_C(0x40000) |                \
     UINT64_C(0x80000) | UINT64_C(0x100000) | UINT64_C(0x400000) | UINT64_C(0x800000) |            \
     UINT64_C(0x1000000) | UINT64_C(0x2000000) | UINT64_C(0x4000000) | (UINT64_C(0x01) << 32) |    \
     (UINT64_C(0x04) << 32) | (UINT64_C(0x08) << 32))

struct peer {
    char name[64];
    struct bp_link *link;
    struct bp_identity *identity;
    int fd;
    struct bp_addr local;
    struct bp_udp_tx tx;
    uint32_t challenge; /* ours */
    uint64_t frames_in; /* seen so far, ticks included */
    bp_time due;        /* when its timer fires */
    bool named;         /* our first handshake message was sent */
    bool up;
};

struct peers {
    struct peer list[PEERS_MAX];
    unsigned n;      /* dialled so far */
    unsigned n_up;   /* of these */
    unsigned wanted; /* by "dial" */
    const char *node;
    const char *cookie;
    const char *prefix;
    struct bp_addr remote;
    struct bp_tls_cred *cred;
    uint8_t nonce_secret[32];
    uint8_t reset_secret[32];
    int epoll;
    char line[LINE_MAX_]; /* of standard input, not complete yet */
    size_t line_len;
    bool told; /* that all that are wanted are up */
};

/* Large, and so not on the stack. */
static struct peers all;
static uint8_t rx_mem[BP_UDP_RX_BUFS * BP_UDP_RX_BUF];
static uint8_t tx_mem[BP_UDP_TX_BUF];

static _Noreturn void die(const struct peer *p, const char *fmt, ...) BP_PRINTF(2, 3);

static _Noreturn void die(const struct peer *p, const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "idle_peers: %s%s", p != NULL ? p->name : "", p != NULL ? ": " : "");
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(1);
}

static bp_time clock_ns(clockid_t id)
{
    struct timespec t;

    (void)clock_gettime(id, &t);
    return (bp_time)t.tv_sec * BP_SEC + (bp_time)t.tv_nsec;
}

static bp_time now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

/* Nothing is sent that has an owner. */
static void owner_release(void *ctx, void *owner)
{
    (void)ctx;
    (void)owner;
}

/* --- dialling ------------------------------------------------------------ */

static void link_config(const struct peer *p, struct bp_link_config *c)
{
    *c = (struct bp_link_config){.mem = bp_mem_libc(),
                                 .rx = bp_rx_mem_libc(),
                                 .owner = {.release = owner_release},
                                 .conn = {.cred = all.cred,
                                          .reset_secret = all.reset_secret,
                                          .local = p->local,
                                          .remote = all.remote,
                                          .idle_timeout = IDLE_TIMEOUT,
                                          .keepalive = KEEPALIVE},
                                 .auth_mode = BP_AUTH_BUILTIN,
                                 .auth = {.identity = p->identity,
                                          .self_name = p->name,
                                          .dialled_name = all.node,
                                          .trust_mode = BP_TRUST_TOFU,
                                          .window = 30 * BP_SEC,
                                          .nonce_secret = all.nonce_secret},
                                 .setup_timeout = SETUP_TIMEOUT,
                                 .wall_ms = clock_ns(CLOCK_REALTIME) / BP_MS,
                                 .dist_streams = BP_DIST_STREAMS_MAX};
}

static void make_identity(struct peer *p)
{
    uint8_t seed[BP_KEY_LEN];
    uint8_t pub[BP_KEY_LEN];
    int rc = bp_identity_generate(seed, pub);

    if (rc == 0) {
        rc = bp_identity_new(&p->identity, seed, pub, bp_mem_libc());
    }
    bp_wipe(seed, sizeof(seed));
    if (rc == 0) {
        rc = bp_random(&p->challenge, sizeof(p->challenge));
    }
    if (rc != 0) {
        die(p, "no key: %s", bp_err_text(rc));
    }
}

static void dial(struct peer *p, unsigned number)
{
    static const struct bp_addr any_port = {0};
    struct bp_addr remote = all.remote;
    struct epoll_event ev = {.events = EPOLLIN, .data.u32 = number};
    struct bp_link_config c;
    int rc;

    *p = (struct peer){.fd = -1};
    snprintf(p->name, sizeof(p->name), "%s%u@127.0.0.1", all.prefix, number + 1);
    make_identity(p);
    rc = bp_udp_connect(&p->fd, &any_port, &remote, &p->local);
    if (rc != 0) {
        die(p, "no socket: %s%s", strerror(errno),
            rc == BP_E_LIMIT ? " (raise the limit of open files, ulimit -n)" : "");
    }
    p->tx.peer = remote;
    if (epoll_ctl(all.epoll, EPOLL_CTL_ADD, p->fd, &ev) != 0) {
        die(p, "epoll: %s", strerror(errno));
    }
    link_config(p, &c);
    rc = bp_link_new(&p->link, false, &c, now_ns());
    if (rc != 0) {
        die(p, "no link: %s", bp_err_text(rc));
    }
}

/* --- the distribution handshake (WIRE 4.1; OTP, "Distribution Protocol") -- */

/* MD5 of the cookie and the challenge in decimal digits. */
static void digest(uint32_t challenge, uint8_t out[static MD5_LEN])
{
    char text[512];
    int len = snprintf(text, sizeof(text), "%s%" PRIu32, all.cookie, challenge);

    if (len < 0 || (size_t)len >= sizeof(text)) {
        die(NULL, "the cookie is too long");
    }
    if (gnutls_hash_fast(GNUTLS_DIG_MD5, text, (size_t)len, out) != 0) {
        die(NULL, "no MD5");
    }
}

static void say(const struct peer *p, const struct bp_writer *w, const uint8_t *msg)
{
    int rc = w->bad ? BP_E_LIMIT : bp_link_hs_send(p->link, msg, w->len);

    if (rc != 0) {
        die(p, "cannot send a handshake message: %s", bp_err_text(rc));
    }
}

static void say_name(const struct peer *p)
{
    uint8_t msg[128];
    struct bp_writer w;

    bp_writer_init(&w, msg, sizeof(msg));
    bp_write_u8(&w, 'N');
    bp_write_u64(&w, DIST_FLAGS);
    bp_write_u32(&w, 4); /* creation: 0 to 3 have other meanings */
    bp_write_u16(&w, (uint16_t)strlen(p->name));
    bp_write_bytes(&w, p->name, strlen(p->name));
    say(p, &w, msg);
}

/* Answers 'N', Flags:64, Challenge:32, ... */
static void reply(const struct peer *p, const uint8_t *msg, size_t len)
{
    uint8_t out[32];
    uint8_t md5[MD5_LEN];
    struct bp_reader r;
    struct bp_writer w;

    bp_reader_init(&r, msg, len);
    (void)bp_read_u8(&r);
    (void)bp_read_u64(&r);
    digest(bp_read_u32(&r), md5);
    if (r.bad) {
        die(p, "the challenge is cut off");
    }
    bp_writer_init(&w, out, sizeof(out));
    bp_write_u8(&w, 'r');
    bp_write_u32(&w, p->challenge);
    bp_write_bytes(&w, md5, sizeof(md5));
    say(p, &w, out);
}

/* 'a', Digest:16 ends the handshake. */
static void go_up(struct peer *p, const uint8_t *msg, size_t len)
{
    uint8_t md5[MD5_LEN];
    int rc;

    digest(p->challenge, md5);
    if (len != 1 + MD5_LEN || memcmp(msg + 1, md5, MD5_LEN) != 0) {
        die(p, "the node has another cookie");
    }
    rc = bp_link_up(p->link);
    if (rc != 0) {
        die(p, "not up: %s", bp_link_error_text(p->link));
    }
    bp_link_deliver(p->link);
    p->up = true;
    all.n_up++;
}

static void handshake(struct peer *p)
{
    const uint8_t *msg;
    size_t len;

    if (bp_link_phase(p->link) != BP_LINK_HANDSHAKE) {
        return;
    }
    if (!p->named) {
        p->named = true;
        say_name(p);
    }
    while (!p->up && bp_link_hs_recv(p->link, &msg, &len) == 1) {
        if (msg[0] == 's' && (len != 3 || memcmp(msg, "sok", 3) != 0)) {
            die(p, "the node does not want it: %.*s", (int)len, (const char *)msg);
        } else if (msg[0] == 'N') {
            reply(p, msg, len);
        } else if (msg[0] == 'a') {
            go_up(p, msg, len);
        }
    }
}

/* --- running ------------------------------------------------------------- */

static void events(struct peer *p)
{
    struct bp_link_event ev;

    while (bp_link_poll(p->link, &ev)) {
        if (ev.kind == BP_LINK_EV_LOOKUP) {
            bp_link_trust(p->link, false, NULL, now_ns());
        } else if (ev.kind == BP_LINK_EV_FAILED) {
            die(p, "%s", bp_link_error_text(p->link));
        }
    }
}

/* What the node says is read and forgotten; a tick is answered, as C nodes do. */
static void take_frames(struct peer *p)
{
    struct bp_frame_queue *q = bp_link_frames(p->link);
    struct bp_link_stats st;
    struct bp_frame f;
    uint64_t frames = 0;

    while (bp_frame_queue_pop(q, &f)) {
        frames++;
        free(f.bin);
    }
    bp_frame_queue_reset(q);
    bp_link_stats(p->link, &st);
    if (st.frames_in > p->frames_in + frames) {
        bp_link_tick(p->link);
    }
    p->frames_in = st.frames_in;
}

static void transmit(struct peer *p, bp_time now)
{
    struct bp_tx_run runs[BP_TX_RUNS];
    unsigned n = 1;

    while (n > 0 && bp_link_write(p->link, tx_mem, sizeof(tx_mem), runs, &n, now) == 0) {
        /* What the socket does not take is lost, as on any network. */
        (void)bp_udp_send(p->fd, &p->tx, tx_mem, runs, n);
    }
    events(p);
}

/* After the link read or its timer fired; `just_read`: an acknowledgement may wait. */
static void settle(struct peer *p, bool just_read, bp_time now)
{
    events(p);
    handshake(p);
    if (p->up) {
        take_frames(p);
    }
    if (!(just_read && bp_conn_only_acks(bp_link_conn(p->link)))) {
        transmit(p, now);
    }
    /* Like a timer that is set: asked again later, a coarse deadline is always a millisecond off.
     */
    p->due = bp_link_deadline(p->link, now);
}

static void receive(struct peer *p)
{
    struct bp_udp_rx rx[BP_UDP_RX_BUFS];
    bp_time now = now_ns();
    bool refused;
    int n = bp_udp_recv(p->fd, rx_mem, rx, &refused);

    for (int i = 0; i < n; i++) {
        for (size_t off = 0; off < rx[i].len; off += rx[i].seg) {
            size_t len = rx[i].len - off < rx[i].seg ? rx[i].len - off : rx[i].seg;
            (void)bp_link_read(p->link, &p->local, &rx[i].remote, rx[i].data + off, len, now);
            events(p);
        }
    }
    settle(p, true, now);
}

/* Lets time pass for all of them; returns when to look again. */
static bp_time timers(void)
{
    bp_time first = BP_TIME_NEVER;

    for (unsigned i = 0; i < all.n; i++) {
        struct peer *p = &all.list[i];
        bp_time now = now_ns();
        if (p->due <= now) {
            (void)bp_link_on_timer(p->link, now);
            settle(p, false, now);
        }
        first = p->due < first ? p->due : first;
    }
    return first;
}

static void dial_more(void)
{
    while (all.n < all.wanted && all.n - all.n_up < AT_ONCE) {
        dial(&all.list[all.n], all.n);
        all.n++;
        settle(&all.list[all.n - 1], false, now_ns());
    }
    if (!all.told && all.n_up == all.wanted) {
        all.told = true;
        printf("up %u\n", all.n_up);
        fflush(stdout);
    }
}

/* --- standard input ------------------------------------------------------ */

static void command(const char *line)
{
    unsigned more;

    if (sscanf(line, "dial %u", &more) != 1 || more > PEERS_MAX - all.wanted) {
        die(NULL, "not a command: \"%s\" (\"dial N\", %u peers in all)", line, PEERS_MAX);
    }
    all.wanted += more;
    all.told = false;
}

/* False at its end. */
static bool read_commands(void)
{
    ssize_t n = read(STDIN_FILENO, all.line + all.line_len, sizeof(all.line) - 1 - all.line_len);
    char *end;

    if (n <= 0) {
        return n < 0 && errno == EINTR;
    }
    all.line_len += (size_t)n;
    all.line[all.line_len] = '\0';
    while ((end = strchr(all.line, '\n')) != NULL) {
        *end = '\0';
        command(all.line);
        all.line_len -= (size_t)(end + 1 - all.line);
        memmove(all.line, end + 1, all.line_len + 1);
    }
    if (all.line_len == sizeof(all.line) - 1) {
        die(NULL, "a line of standard input is too long");
    }
    return true;
}

static void close_all(void)
{
    for (unsigned i = 0; i < all.n; i++) {
        struct peer *p = &all.list[i];
        struct bp_tx_run runs[BP_TX_RUNS + 1];
        unsigned n = 0;
        bp_link_fail(p->link, 0, NULL);
        bp_link_finish(p->link, tx_mem, sizeof(tx_mem), runs, &n, now_ns());
        (void)bp_udp_send(p->fd, &p->tx, tx_mem, runs, n);
        bp_link_del(p->link);
        bp_identity_del(p->identity);
        (void)close(p->fd);
    }
    bp_tls_cred_unref(all.cred);
    (void)close(all.epoll);
    printf("closed %u\n", all.n_up);
}

/* --- setting up ---------------------------------------------------------- */

/* One certificate for all: a client shows none. */
static void make_cred(void)
{
    struct bp_tls_pem *pem = calloc(1, sizeof(*pem));
    char err[256] = "no memory";
    int rc = pem != NULL ? bp_tls_cert_generate(all.prefix, (int64_t)time(NULL), pem) : BP_E_NOMEM;

    if (rc == 0) {
        rc = bp_tls_cred_load(pem->cert, pem->cert_len, pem->key, pem->key_len, &all.cred, err,
                              sizeof(err));
        bp_tls_pem_free(pem);
    }
    free(pem);
    if (rc != 0) {
        die(NULL, "no certificate: %s (%s)", bp_err_text(rc), err);
    }
}

static void set_up(int argc, char **argv)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.u32 = PEERS_MAX};
    unsigned long port;

    if (argc < 5 || argc > 6) {
        die(NULL, "usage: idle_peers NODE IP PORT COOKIE [PREFIX]");
    }
    port = strtoul(argv[3], NULL, 10);
    if (port == 0 || port > UINT16_MAX ||
        bp_addr_parse(&all.remote, argv[2], (uint16_t)port) != 0) {
        die(NULL, "%s %s: not an address and a port", argv[2], argv[3]);
    }
    all.node = argv[1];
    all.cookie = argv[4];
    all.prefix = argc == 6 ? argv[5] : "idle";
    if (strlen(all.prefix) > 32) {
        die(NULL, "%s: the prefix is too long (32 bytes)", all.prefix);
    }
    if (bp_random(all.nonce_secret, sizeof(all.nonce_secret)) != 0 ||
        bp_random(all.reset_secret, sizeof(all.reset_secret)) != 0) {
        die(NULL, "no random bytes");
    }
    make_cred();
    all.told = true;
    all.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (all.epoll < 0 || epoll_ctl(all.epoll, EPOLL_CTL_ADD, STDIN_FILENO, &ev) != 0) {
        die(NULL, "epoll: %s", strerror(errno));
    }
}

/* Milliseconds until `at`, rounded up, for epoll. */
static int wait_ms(bp_time at)
{
    bp_time now = now_ns();

    if (at <= now) {
        return 0;
    }
    at = (at - now + BP_MS - 1) / BP_MS;
    return at < 60000 ? (int)at : 60000;
}

int main(int argc, char **argv)
{
    bool running = true;

    set_up(argc, argv);
    while (running) {
        struct epoll_event ev[EVENTS_MAX];
        int n;
        dial_more();
        n = epoll_wait(all.epoll, ev, EVENTS_MAX, wait_ms(timers()));
        for (int i = 0; i < n; i++) {
            if (ev[i].data.u32 == PEERS_MAX) {
                running = read_commands();
            } else {
                receive(&all.list[ev[i].data.u32]);
            }
        }
    }
    close_all();
    return 0;
}
