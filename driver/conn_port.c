/* SPDX-License-Identifier: Apache-2.0 */
/* A connection port: one peer, its own socket and lock; the VM's data path. */
#include "driver/drv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RX_ROUNDS      2
#define RX_MANY        4096u /* bytes of a datagram or batch that is followed by others, probably */
#define RX_SOON        (20u * 1000u)
#define TX_ROUNDS      2u /* batches of 128 KB in one callback; others wait that long */
#define DRAIN_ROUNDS   64
#define STACK_SLICES   64u /* messages with more pieces take memory from the heap */
#define HS_MESSAGE_MAX 1024u

/* --- life ---------------------------------------------------------------- */

static struct drv_conn *take_orphan(uint32_t id)
{
    struct drv_conn *c;

    erl_drv_mutex_lock(drv_node.lock);
    for (c = drv_node.orphans; c != NULL && c->id != id; c = c->next) {
    }
    if (c != NULL) {
        drv_conn_unlink(&drv_node.orphans, c);
    }
    erl_drv_mutex_unlock(drv_node.lock);
    return c;
}

void drv_conn_port_fail(struct drv_conn_port *cp, int err, const char *text)
{
    struct drv_conn *c = cp->conn;

    if (c != NULL && c->err == 0) {
        c->err = err;
        snprintf(c->err_text, sizeof(c->err_text), "%s", text);
        bp_link_fail(c->link, err, text);
    }
}

static bool is_link_local(const struct bp_addr *a)
{
    return a->u.sa.sa_family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&a->u.v6.sin6_addr);
}

void drv_conn_port_open_socket(struct drv_conn_port *cp)
{
    struct drv_conn *c = cp->conn;
    struct bp_addr bound = c->local;
    struct bp_addr remote = c->peer;
    int rc = bp_udp_connect(&c->fd, &c->local, &remote, &bound);

    if (rc != 0) {
        char text[256];
        snprintf(text, sizeof(text), "cannot open a socket for the connection: %s%s",
                 strerror(errno),
                 rc == BP_E_LIMIT ? " (raise the limit of open files, ulimit -n)"
                 : is_link_local(&c->peer)
                     ? " (a link-local address needs an interface, which Erlang's addresses do not "
                       "name: use another address of the node)"
                     : "");
        drv_conn_port_fail(cp, rc, text);
        return;
    }
    c->peer = remote;
    c->tx.peer = remote;
    cp->fd_selected = true;
    driver_select(cp->p.port, (ErlDrvEvent)(intptr_t)c->fd, ERL_DRV_READ | ERL_DRV_USE, 1);
}

void drv_conn_port_relay_opened(struct drv_conn_port *cp, int rc, int fd,
                                const struct bp_addr *local)
{
    struct drv_conn *c = cp->conn;

    (void)local; /* QUIC has a name for the path since before the relay was there */
    if (rc != 0) {
        char text[512];
        snprintf(text, sizeof(text), "%s: %s", drv_relay_name(c->relay), drv_relay_text(c->relay));
        drv_conn_port_fail(cp, rc, text);
        return;
    }
    c->fd = fd;
    c->tx.peer = c->peer;
    drv_relay_tx(c->relay, &c->tx);
    cp->fd_selected = true;
    driver_select(cp->p.port, (ErlDrvEvent)(intptr_t)fd, ERL_DRV_READ | ERL_DRV_USE, 1);
}

struct drv_port *drv_conn_port_start(ErlDrvPort port, const char *args)
{
    struct drv_conn_port *cp = bp_mem_zalloc(drv_mem(), 1, sizeof(*cp));
    struct drv_conn *c = NULL;

    if (cp == NULL) {
        return NULL;
    }
    cp->p = (struct drv_port){.kind = PORT_CONN, .port = port, .wake_fd = -1};
    if (strncmp(args, "attach ", 7) == 0) {
        c = take_orphan((uint32_t)strtoul(args + 7, NULL, 10));
    }
    if ((c == NULL && strcmp(args, "connect") != 0) || drv_port_wake_open(&cp->p) != 0) {
        drv_conn_del(c);
        drv_free(cp);
        return NULL;
    }
    if (c != NULL) {
        cp->conn = c;
        erl_drv_mutex_lock(drv_node.lock);
        c->place = CONN_OWN_PORT;
        c->box.wake_fd = cp->p.wake_fd;
        erl_drv_mutex_unlock(drv_node.lock);
        cp->just_read = true; /* by the node port */
        drv_conn_port_open_socket(cp);
        /* What came meanwhile, and failures, outside of start(). Else the timer can wait for the
         * name, which the VM looks for next. */
        if (c->box.nonempty || bp_link_phase(c->link) == BP_LINK_FAILED ||
            !drv_conn_port_soon(cp, drv_now())) {
            drv_wake(cp->p.wake_fd);
        }
    }
    return &cp->p;
}

/* What is there may belong to the next connection of the same peer. */
void drv_conn_port_drain(struct drv_conn *c, int fd, const struct drv_relay *relay)
{
    struct drv_scratch *s = drv_scratch_take();
    struct bp_addr nobody = c->peer;
    struct bp_udp_rx rx[BP_UDP_RX_BUFS];
    bool refused;
    int n = BP_UDP_RX_BUFS;

    bp_addr_set_port(&nobody, 0);
    if (s == NULL || connect(fd, &nobody.u.sa, nobody.len) != 0) {
        n = 0;
    }
    c->rx_relay = relay;
    for (int round = 0; round < DRAIN_ROUNDS && n > 0; round++) {
        n = bp_udp_recv(fd, s->rx, rx, &refused);
        for (int i = 0; i < n; i++) {
            drv_conn_batch(c, &rx[i], drv_now());
        }
    }
    c->rx_relay = NULL;
    if (s != NULL) {
        drv_scratch_give(s);
    }
}

void drv_conn_port_stop(struct drv_conn_port *cp)
{
    struct drv_conn *c = cp->conn;

    if (c != NULL) {
        drv_streams_end(cp);
        drv_conn_finish(c, c->fd, 0, NULL, drv_now());
        if (c->fd >= 0) {
            drv_conn_port_drain(c, c->fd, c->relay);
        }
        drv_move_stop(cp);
        drv_acks_stop(&cp->acks);
        erl_drv_mutex_lock(drv_node.lock);
        c->box.wake_fd = -1;
        erl_drv_mutex_unlock(drv_node.lock);
        if (cp->fd_selected) {
            cp->fd_selected = false;
            driver_select(cp->p.port, (ErlDrvEvent)(intptr_t)c->fd,
                          ERL_DRV_READ | ERL_DRV_WRITE | ERL_DRV_USE, 0);
        } else if (c->fd >= 0) {
            (void)close(c->fd);
        }
        c->fd = -1;
        drv_relay_close(cp, c->relay);
        c->relay = NULL;
    }
    drv_port_wake_close(&cp->p);
}

void drv_conn_port_free(struct drv_conn_port *cp)
{
    drv_conn_del(cp->conn);
    cp->conn = NULL;
}

/* --- telling Erlang ------------------------------------------------------ */

static void deliver(struct drv_conn_port *cp)
{
    struct bp_link *l = cp->conn->link;
    struct bp_frame_queue *q = bp_link_frames(l);
    struct bp_frame f;

    if (!bp_link_delivering(l)) {
        return;
    }
    while (!cp->p.stopped && bp_frame_queue_pop(q, &f)) {
        cp->answers = true;
        if (f.bin != NULL) {
            ErlDrvBinary *bin = f.bin;
            driver_output_binary(cp->p.port, NULL, 0, bin,
                                 (ErlDrvSizeT)(f.data - (const uint8_t *)bin->orig_bytes),
                                 (ErlDrvSizeT)f.len);
            driver_free_binary(bin);
        } else {
            driver_output2(cp->p.port, NULL, 0, (char *)(uintptr_t)f.data, (ErlDrvSizeT)f.len);
        }
    }
    if (!cp->p.stopped) {
        bp_frame_queue_reset(q);
        drv_streams_deliver(cp);
    }
}

static void tell_handshake(struct drv_conn_port *cp)
{
    const uint8_t *msg;
    size_t len;

    if (cp->want_hs && drv_conn_hs_recv(cp->conn, &msg, &len) == 1) {
        cp->want_hs = false;
        drv_tell_bins(cp->p.port, "hs", NULL, msg, len, NULL, 0);
    }
}

static void tell_auth(struct drv_conn_port *cp)
{
    const uint8_t *p;
    size_t len;
    bool fin;

    if (cp->want_auth && bp_link_auth_recv(cp->conn->link, &p, &len, &fin) == 0 &&
        (len > 0 || fin)) {
        cp->want_auth = false;
        drv_tell_data(cp->p.port, "auth_data", p, len, fin);
    }
}

static void tell_dialled(struct drv_conn_port *cp)
{
    struct drv_conn *c = cp->conn;
    const char *name = bp_link_peer_name(c->link);
    char fingerprint[BP_FINGERPRINT_TEXT] = "";

    if (!cp->dialling || !c->announced) {
        return;
    }
    cp->dialling = false;
    if (!c->authenticated) {
        drv_tell(cp->p.port, "tls_connected");
        return;
    }
    if (c->trust.has_key) {
        bp_fingerprint_text(c->trust.key, fingerprint);
    }
    drv_tell_bins(cp->p.port, "authenticated", NULL, name, strlen(name), fingerprint,
                  strlen(fingerprint));
}

static void tell_failed(struct drv_conn_port *cp)
{
    const char *text = drv_conn_error_text(cp->conn);

    if (cp->dialling || cp->want_hs || cp->want_auth) {
        cp->dialling = cp->want_hs = cp->want_auth = false;
        cp->conn->reported = true;
        drv_tell_bins(cp->p.port, "failed", bp_err_atom(drv_conn_error(cp->conn)), text,
                      strlen(text), NULL, 0);
    }
}

/* About closing a connection that nobody uses. */
static void tell_idle(struct drv_conn_port *cp)
{
    if (cp->conn->idle_asked) {
        cp->conn->idle_asked = false;
        drv_tell_of_port("idle_asked", cp->p.port);
    }
    if (bp_link_idle_due(cp->conn->link) != cp->idle_due) {
        cp->idle_due = !cp->idle_due;
        if (cp->idle_due) {
            drv_tell_of_port("idle_due", cp->p.port);
        }
    }
}

static void log_down(const struct drv_conn *c)
{
    int err = drv_conn_error(c);
    bool normal = err == BP_E_PEER_CLOSED || err == BP_E_LOCAL_CLOSE || err == BP_E_IDLE;
    struct bp_link_stats st;

    bp_link_stats(c->link, &st);
    normal = normal && st.idle_lost == 0;
    drv_log(normal ? DRV_INFO : DRV_WARNING, "connection_down", drv_conn_peer(c), "%s (%s)",
            drv_conn_error_text(c), bp_err_atom(err));
}

/* A link that was up has ended: the VM sees its port exit, which is the node's going down. */
static void go_down(struct drv_conn_port *cp)
{
    char reason[64];

    cp->conn->reported = true;
    deliver(cp);
    if (cp->p.stopped) {
        return;
    }
    drv_streams_end(cp);
    log_down(cp->conn);
    if (drv_conn_error(cp->conn) == BP_E_IDLE) {
        drv_idle_closed(cp->conn);
    }
    snprintf(reason, sizeof(reason), "%s", bp_err_atom(drv_conn_error(cp->conn)));
    driver_failure_atom(cp->p.port, reason);
}

/* --- after anything happened --------------------------------------------- */

static void update_busy(struct drv_conn_port *cp)
{
    uint64_t pending = bp_link_pending(cp->conn->link);

    if (!cp->busy && pending >= DRV_HIGH_WATER) {
        cp->busy = true;
        set_busy_port(cp->p.port, 1);
    } else if (cp->busy && pending <= DRV_LOW_WATER) {
        cp->busy = false;
        set_busy_port(cp->p.port, 0);
    }
}

static void want_writable(struct drv_conn_port *cp, bool want)
{
    if (want != cp->write_selected && cp->fd_selected) {
        cp->write_selected = want;
        driver_select(cp->p.port, (ErlDrvEvent)(intptr_t)cp->conn->fd, ERL_DRV_WRITE, want);
    }
}

/* What waits to be sent, of distribution and of user streams. */
static uint64_t unsent(const struct drv_conn_port *cp)
{
    return bp_link_pending(cp->conn->link) + bp_link_user_unsent(cp->conn->link);
}

static void flush(struct drv_conn_port *cp, bp_time now)
{
    bool data = unsent(cp) > 0;
    bool brief = drv_turn_brief(&cp->turn, now);
    size_t room = brief ? DRV_BRIEF_ROOM : BP_UDP_TX_BUF;
    unsigned rounds = brief ? 1 : TX_ROUNDS;
    bool ok = true;

    cp->flush_due = false;
    cp->turn.over = 0;
    cp->answers = false;
    cp->acks.by = 0;
    if (cp->conn->fd < 0) {
        return;
    }
    for (unsigned n = 0; ok && n < rounds && (n == 0 || cp->conn->more); n++) {
        ok = drv_conn_flush(cp->conn, cp->conn->fd, room, n == 0 ? now : drv_now());
    }
    want_writable(cp, !ok);
    if (data) {
        /* Acknowledgements alone are no burst of the VM's. */
        cp->last_flush = drv_now();
        cp->flush_cost = cp->last_flush - now;
        drv_turn_sent(&cp->turn, cp->last_flush);
    }
    if (cp->conn->more) {
        /* Others first. */
        drv_turn_over(&cp->turn, brief, data ? cp->last_flush : now);
        cp->flush_due = true;
        drv_wake(cp->p.wake_fd);
    }
    if (cp->streams != NULL) {
        drv_streams_flushed(cp);
    }
}

/* `bytes` were read, or the VM has sent something. */
static void note_activity(struct drv_conn_port *cp, size_t bytes)
{
    if (bytes >= BP_TX_RUN_MAX || unsent(cp) >= DRV_FLUSH_BYTES) {
        cp->turn.bulk_at = cp->p.entered;
    } else {
        drv_turn_active(&cp->turn, cp->p.entered);
    }
}

/*
 * There is no callback at the end of a burst. A message goes out at once unless the last flush is
 * only just over; then it waits for the next turn of the VM's poll, so that a burst shares
 * datagrams. "Just" grows with what a flush costs: at least half of the time is left for the VM.
 * What follows a message of the peer's answers it, and is no burst.
 */
static bool flush_now(const struct drv_conn_port *cp, bp_time now)
{
    bp_time pause = cp->flush_cost > DRV_FLUSH_AFTER ? cp->flush_cost : DRV_FLUSH_AFTER;

    if (drv_turn_waits(&cp->turn, now) && bp_link_phase(cp->conn->link) != BP_LINK_FAILED) {
        return false;
    }
    return now - cp->last_flush > pause || cp->answers ||
           bp_link_phase(cp->conn->link) == BP_LINK_FAILED || unsent(cp) >= DRV_FLUSH_BYTES;
}

void drv_conn_port_push(struct drv_conn_port *cp, bp_time now)
{
    struct drv_conn *c = cp->conn;

    if (bp_link_phase(c->link) != BP_LINK_FAILED && flush_now(cp, now)) {
        cp->p.worked = true;
        flush(cp, now);
        drv_port_timer_arm(&cp->p, drv_conn_deadline(c, now), now);
        if (bp_link_phase(c->link) != BP_LINK_FAILED) {
            return;
        }
        cp->flush_due = false;
    }
    if (!cp->flush_due) {
        cp->flush_due = true;
        drv_wake(cp->p.wake_fd); /* a link that has failed ends there */
    }
}

/* The peer's address has changed and was validated: the socket follows. */
static void follow_peer(struct drv_conn *c)
{
    const struct bp_addr *remote = bp_conn_remote(bp_link_conn(c->link));

    if (c->fd < 0 || bp_addr_equal(remote, &c->peer)) {
        return;
    }
    c->peer = *remote;
    c->tx.peer = *remote;
    c->refused = 0;
    if (connect(c->fd, &remote->u.sa, remote->len) != 0) {
        c->tx.peer.len = 0; /* name the address in each datagram instead */
    }
}

/* Who waited since the last flush and is not listed any more was woken: what is due then must not
 * be put off again. */
bool drv_conn_port_soon(struct drv_conn_port *cp, bp_time now)
{
    return cp->acks.by != 0 ? cp->acks.listed
                            : drv_acks_wait(&cp->acks, cp->p.wake_fd, now + DRV_ACKS_WAIT);
}

/*
 * What was read is likely to be answered: one datagram then, and one wake-up of the peer. QUIC has
 * no deadline for what it would have sent now, were it asked: a lost frame, say. Its other
 * deadlines can wait for the clock as well.
 */
static bool acks_wait(struct drv_conn_port *cp, bp_time now)
{
    struct drv_conn *c = cp->conn;

    if (!cp->just_read || c->stash != NULL || !bp_conn_only_acks(bp_link_conn(c->link))) {
        return false;
    }
    return drv_conn_port_soon(cp, now);
}

void drv_conn_port_settle(struct drv_conn_port *cp, bp_time now)
{
    struct drv_conn *c = cp->conn;
    bool later = bp_link_phase(c->link) != BP_LINK_FAILED &&
                 (acks_wait(cp, now) || drv_turn_waits(&cp->turn, now));

    cp->p.worked = true;
    cp->just_read = false;
    if (bp_link_phase(c->link) != BP_LINK_FAILED && !later) {
        flush(cp, now);
    }
    if (bp_link_phase(c->link) == BP_LINK_FAILED) {
        cp->acks.by = 0;
        drv_conn_finish(c, c->fd, 0, NULL, now);
        if (c->alive && !c->reported) {
            go_down(cp);
            return;
        }
        if (c->authenticated) {
            tell_dialled(cp); /* its answer to our name may have come with the close */
        }
        tell_handshake(cp);
        tell_failed(cp);
        return;
    }
    follow_peer(c);
    deliver(cp);
    if (cp->p.stopped) {
        return;
    }
    if (!c->alive) {
        tell_dialled(cp);
        tell_handshake(cp);
        tell_auth(cp);
    }
    update_busy(cp);
    tell_idle(cp);
    drv_move_settle(cp, now);
    if (!later) {
        drv_port_timer_arm(&cp->p, drv_conn_deadline(c, now), now);
    }
    if (c->box.nonempty) {
        drv_wake(cp->p.wake_fd);
    }
}

/* How many buffers to ask for: looking for a second datagram costs as much as half a first one, and
 * in a dialogue there is none. */
static unsigned expected(struct drv_conn_port *cp, bp_time now)
{
    bool soon = now - cp->last_read < RX_SOON;

    cp->last_read = now;
    return cp->rx_many || soon ? BP_UDP_RX_BUFS : 1;
}

void drv_conn_port_read(struct drv_conn_port *cp, int fd, const struct bp_addr *local,
                        const struct drv_relay *relay)
{
    struct drv_conn *c = cp->conn;
    struct drv_scratch *s = drv_scratch_take();
    struct bp_udp_rx rx[BP_UDP_RX_BUFS];
    int rounds = drv_turn_brief(&cp->turn, cp->p.entered) ? 1 : RX_ROUNDS;
    size_t bytes = 0;

    if (s == NULL) {
        return;
    }
    for (int round = 0; round < rounds && !cp->p.stopped; round++) {
        bp_time now = drv_now();
        unsigned want = round == 0 ? expected(cp, now) : BP_UDP_RX_BUFS;
        bool refused;
        int n = bp_udp_recv_some(fd, s->rx, rx, want, &refused);
        c->rx_local = local;
        c->rx_relay = relay;
        for (int i = 0; i < n; i++) {
            drv_conn_batch(c, &rx[i], now);
            bytes += rx[i].len;
        }
        c->rx_local = NULL;
        c->rx_relay = NULL;
        if (refused && local == NULL) {
            drv_conn_refused(c, now);
        }
        deliver(cp);
        cp->rx_many = n > 1 || (n == 1 && rx[0].len >= RX_MANY);
        if (n < (int)want || !cp->rx_many) {
            break;
        }
    }
    drv_scratch_give(s);
    note_activity(cp, bytes);
}

void drv_conn_port_ready(struct drv_conn_port *cp, int fd, bool writable)
{
    struct drv_conn *c = cp->conn;

    if (fd == cp->p.wake_fd) {
        cp->turn.polls -= cp->turn.polls > 0;
        if (!drv_turn_waits(&cp->turn, cp->p.entered)) {
            drv_port_wake_read(&cp->p);
        } else if (c != NULL && !c->box.nonempty && bp_link_phase(c->link) != BP_LINK_FAILED) {
            return; /* the next poll shows it again */
        }
    }
    if (c == NULL) {
        return;
    }
    if (fd == cp->p.wake_fd) {
        drv_conn_mailbox(c, drv_now());
    } else if (fd != c->fd && drv_relay_ready(cp, fd)) {
        /* What it did goes out below. */
    } else if (!writable) {
        /* Also when the link has failed: a new connection of the same peer begins here. */
        if (fd == c->fd) {
            drv_conn_port_read(cp, fd, NULL, c->relay);
        } else {
            drv_move_ready(cp, fd);
        }
        cp->just_read = true;
    }
    if (!cp->p.stopped) {
        drv_conn_port_settle(cp, drv_now());
    }
}

void drv_conn_port_timeout(struct drv_conn_port *cp)
{
    bp_time now = drv_now();

    if (cp->conn == NULL) {
        return;
    }
    /* It was set for something earlier: acknowledgements wait on. */
    cp->just_read = cp->acks.by > now;
    /* Not only if a deadline has passed: coarse ones are shown as later than they are. */
    drv_conn_on_timer(cp->conn, now);
    if (bp_link_pending(cp->conn->link) == 0) {
        bp_frame_queue_trim(bp_link_frames(cp->conn->link));
    }
    drv_conn_port_settle(cp, now);
}

/* --- from the VM --------------------------------------------------------- */

/*
 * dist_util says "ok" and then, when it has the cookie from its server, what the peer waits for.
 * Only a peer of our own takes the two from one datagram.
 */
static bool more_follows(const struct drv_conn *c, const uint8_t *msg, size_t len)
{
    return len >= 3 && memcmp(msg, "sok", 3) == 0 && bp_conn_peer_is_ours(bp_link_conn(c->link));
}

/* True if it need not be sent at once. */
static bool handshake_message(struct drv_conn_port *cp, const ErlIOVec *ev)
{
    uint8_t msg[HS_MESSAGE_MAX];
    size_t len = 0;
    int rc;

    for (int i = 0; i < ev->vsize; i++) {
        if (ev->iov[i].iov_len > sizeof(msg) - len) {
            drv_conn_port_fail(cp, BP_E_HS_TOO_LONG, bp_err_text(BP_E_HS_TOO_LONG));
            return false;
        }
        if (ev->iov[i].iov_len > 0) {
            memcpy(msg + len, ev->iov[i].iov_base, ev->iov[i].iov_len);
            len += ev->iov[i].iov_len;
        }
    }
    if (len == 0) {
        return false;
    }
    rc = bp_link_hs_send(cp->conn->link, msg, len);
    if (rc != 0) {
        drv_conn_port_fail(cp, rc, "a distribution handshake message could not be sent");
        return false;
    }
    return more_follows(cp->conn, msg, len);
}

static void frame(struct drv_conn_port *cp, const ErlIOVec *ev)
{
    struct bp_slice on_stack[STACK_SLICES];
    struct bp_slice *slices = on_stack;
    size_t n = 0;

    if (ev->vsize > (int)STACK_SLICES) {
        slices = driver_alloc(sizeof(*slices) * (size_t)ev->vsize);
        if (slices == NULL) {
            drv_conn_port_fail(cp, BP_E_NOMEM, bp_err_text(BP_E_NOMEM));
            return;
        }
    }
    for (int i = 0; i < ev->vsize; i++) {
        ErlDrvBinary *bin = ev->binv[i];
        struct bp_slice *s = &slices[n];

        if (ev->iov[i].iov_len == 0) {
            continue;
        }
        *s = (struct bp_slice){.base = (const uint8_t *)ev->iov[i].iov_base,
                               .len = ev->iov[i].iov_len};
        if (bin != NULL && s->len >= DRV_REF_MIN) {
            driver_binary_inc_refc(bin);
            s->owner = bin;
        }
        n++;
    }
    /* A failure is the link's, and drv_conn_port_settle sees it. */
    if (bp_link_send(cp->conn->link, slices, n) != 0) {
        cp->flush_due = true;
    }
    if (slices != on_stack) {
        driver_free(slices);
    }
}

void drv_conn_port_outputv(struct drv_conn_port *cp, ErlIOVec *ev)
{
    struct drv_conn *c = cp->conn;
    bp_time now;

    if (c == NULL || bp_link_phase(c->link) == BP_LINK_FAILED) {
        return;
    }
    now = cp->p.entered;
    if (!c->alive) {
        bool later = handshake_message(cp, ev);

        /* In TLS it waits for what proves who we are. */
        if (bp_link_phase(c->link) != BP_LINK_TLS && (!later || !drv_conn_port_soon(cp, now))) {
            drv_conn_port_settle(cp, now);
        }
        return;
    }
    if (ev->size == 0) {
        bp_link_tick(c->link);
        drv_conn_port_settle(cp, now);
        return;
    }
    if (cp->n_reserved == 0 || !drv_stream_command(cp, ev)) {
        frame(cp, ev);
    }
    note_activity(cp, 0);
    if (flush_now(cp, now)) {
        drv_conn_port_settle(cp, now);
    } else if (!cp->flush_due) {
        /* More will come at once; what was queued goes out when this burst is over. */
        cp->flush_due = true;
        drv_wake(cp->p.wake_fd);
    }
}
