/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/peer.h"

#include "base/err.h"
#include "io/udp.h"
#include "quic/listener.h"
#include "quic/tls_cert.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

static bp_time now_ns(clockid_t id)
{
    struct timespec t;

    (void)clock_gettime(id, &t);
    return (bp_time)t.tv_sec * BP_SEC + (bp_time)t.tv_nsec;
}

/* --- memory -------------------------------------------------------------- */

static void owner_release(void *ctx, void *owner)
{
    struct peer *p = ctx;

    p->owners--;
    free(owner);
}

/* --- life ---------------------------------------------------------------- */

void peer_init(struct peer *p, const char *name)
{
    uint8_t seed[BP_KEY_LEN];
    struct bp_tls_pem *pem = calloc(1, sizeof(*pem));
    struct bp_addr any;
    char err[256];

    *p = (struct peer){.server = true};
    snprintf(p->name, sizeof(p->name), "%s", name);
    assert_non_null(pem);
    assert_int_equal(bp_identity_generate(seed, p->pub), 0);
    assert_int_equal(bp_identity_new(&p->identity, seed, p->pub, bp_mem_libc()), 0);
    assert_int_equal(bp_random(p->nonce_secret, sizeof(p->nonce_secret)), 0);
    assert_int_equal(bp_random(p->reset_secret, sizeof(p->reset_secret)), 0);
    assert_int_equal(bp_random(p->ticket_key, sizeof(p->ticket_key)), 0);
    assert_int_equal(bp_tls_cert_generate(name, (int64_t)time(NULL), pem), 0);
    assert_int_equal(bp_tls_cred_load(pem->cert, pem->cert_len, pem->key, pem->key_len, &p->cred,
                                      err, sizeof(err)),
                     0);
    bp_tls_pem_free(pem);
    free(pem);
    assert_int_equal(bp_addr_parse(&any, "127.0.0.1", 0), 0);
    assert_int_equal(bp_udp_listen(&p->fd, &any, 0, 4, &p->local), 0);
}

void peer_free(struct peer *p)
{
    bp_link_del(p->link);
    bp_identity_del(p->identity);
    bp_tls_cred_unref(p->cred);
    (void)close(p->fd);
    free(p->rx);
    assert_int_equal(p->owners, 0);
}

uint16_t peer_port(const struct peer *p)
{
    return bp_addr_port(&p->local);
}

static void fill_config(struct peer *p, struct bp_link_config *c)
{
    *c = (struct bp_link_config){.mem = bp_mem_libc(),
                                 .rx = bp_rx_mem_libc(),
                                 .owner = {.ctx = p, .release = owner_release},
                                 .conn = {.cred = p->cred,
                                          .reset_secret = p->reset_secret,
                                          .local = p->local,
                                          .remote = p->remote,
                                          .idle_timeout = 60 * BP_SEC,
                                          .ticket_key = p->ticket_key,
                                          .keep_session = true,
                                          .session = p->session,
                                          .session_len = p->session_len},
                                 .auth_mode = BP_AUTH_BUILTIN,
                                 .auth = {.identity = p->identity,
                                          .self_name = p->name,
                                          .trust_mode = BP_TRUST_TOFU,
                                          .nonce_secret = p->nonce_secret},
                                 .setup_timeout = 30 * BP_SEC,
                                 .wall_ms = now_ns(CLOCK_REALTIME) / BP_MS,
                                 .dist_streams = BP_DIST_STREAMS_MAX};
}

void peer_dial(struct peer *p, uint16_t port, const char *dialled)
{
    struct bp_link_config c;

    p->server = false;
    assert_int_equal(bp_addr_parse(&p->remote, "127.0.0.1", port), 0);
    fill_config(p, &c);
    c.auth.dialled_name = dialled;
    assert_int_equal(bp_link_new(&p->link, false, &c, now_ns(CLOCK_MONOTONIC)), 0);
}

static void accept_link(struct peer *p, const struct bp_addr *from, const uint8_t *data, size_t len)
{
    static struct bp_listener listener;
    struct bp_listener_result r;
    struct bp_link_config c;
    uint8_t reply[1500];
    bp_time now = now_ns(CLOCK_MONOTONIC);

    assert_int_equal(bp_listener_init(&listener, p->reset_secret), 0);
    bp_listener_classify(&listener, data, len, &r);
    if (r.action == BP_LISTENER_ROUTE) {
        bp_listener_unknown(&listener, from, data, len, reply, sizeof(reply), now, &r);
    }
    if (r.action != BP_LISTENER_ACCEPT) {
        return;
    }
    p->remote = *from;
    fill_config(p, &c);
    c.conn.version = r.initial.version;
    c.conn.client_scid = r.initial.client_scid;
    c.conn.client_dcid = r.initial.client_dcid;
    c.conn.original_dcid = r.initial.original_dcid;
    assert_int_equal(bp_link_new(&p->link, true, &c, now), 0);
}

/* --- running ------------------------------------------------------------- */

static void events(struct peer *p)
{
    struct bp_link_event ev;

    while (p->link != NULL && bp_link_poll(p->link, &ev)) {
        if (ev.kind == BP_LINK_EV_LOOKUP) {
            bp_link_trust(p->link, false, NULL, now_ns(CLOCK_MONOTONIC));
            p->deaf = p->misses_ok;
        } else if (ev.kind == BP_LINK_EV_AUTHENTICATED) {
            p->authenticated = true;
        } else if (ev.kind == BP_LINK_EV_SESSION) {
            p->session_len = bp_conn_take_session(bp_link_conn(p->link), p->session);
        } else if (ev.kind == BP_LINK_EV_FAILED) {
            p->failed = true;
        }
    }
}

static void take_frames(struct peer *p)
{
    struct bp_frame_queue *q = bp_link_frames(p->link);
    struct bp_frame f;

    while (bp_frame_queue_pop(q, &f)) {
        if (p->rx_cap - p->rx_len < f.len) {
            p->rx_cap = (p->rx_len + f.len) * 2;
            p->rx = realloc(p->rx, p->rx_cap);
            assert_non_null(p->rx);
        }
        memcpy(p->rx + p->rx_len, f.data, f.len);
        p->rx_len += f.len;
        p->n_frames++;
        free(f.bin);
    }
    bp_frame_queue_reset(q);
}

static void receive(struct peer *p)
{
    static uint8_t mem[BP_UDP_RX_BUFS * BP_UDP_RX_BUF];
    struct bp_udp_rx rx[BP_UDP_RX_BUFS];
    bool refused;
    int n;

    while ((n = bp_udp_recv(p->fd, mem, rx, &refused)) > 0) {
        for (int i = 0; i < n && !p->deaf; i++) {
            for (size_t off = 0; off < rx[i].len; off += rx[i].seg) {
                size_t len = rx[i].len - off < rx[i].seg ? rx[i].len - off : rx[i].seg;
                if (p->link == NULL && p->server) {
                    accept_link(p, &rx[i].remote, rx[i].data + off, len);
                }
                if (p->link != NULL) {
                    (void)bp_link_read(p->link, &p->local, &rx[i].remote, rx[i].data + off, len,
                                       now_ns(CLOCK_MONOTONIC));
                    events(p);
                }
            }
        }
    }
}

static void transmit(struct peer *p)
{
    static uint8_t buf[BP_UDP_TX_BUF];
    struct bp_tx_run runs[BP_TX_RUNS + 1];
    struct bp_udp_tx tx = {0};
    unsigned n = 1;

    while (n > 0 &&
           bp_link_write(p->link, buf, sizeof(buf), runs, &n, now_ns(CLOCK_MONOTONIC)) == 0) {
        (void)bp_udp_send(p->fd, &tx, buf, runs, n);
    }
    events(p);
}

void peer_step(struct peer *p)
{
    bp_time now = now_ns(CLOCK_MONOTONIC);

    if (p->silent) {
        return;
    }
    receive(p);
    if (p->link != NULL && !p->holds && bp_link_delivering(p->link)) {
        take_frames(p); /* also what came with the close */
    }
    if (p->link == NULL || p->failed) {
        return;
    }
    if (bp_link_deadline(p->link, now) <= now) {
        (void)bp_link_on_timer(p->link, now);
        events(p);
    }
    transmit(p);
}

void peer_close(struct peer *p, int err)
{
    static uint8_t buf[BP_UDP_TX_BUF];
    struct bp_tx_run runs[BP_TX_RUNS + 1];
    struct bp_udp_tx tx = {0};
    unsigned n = 0;

    if (p->link != NULL) {
        bp_link_fail(p->link, err, NULL);
        bp_link_finish(p->link, buf, sizeof(buf), runs, &n, now_ns(CLOCK_MONOTONIC));
        (void)bp_udp_send(p->fd, &tx, buf, runs, n);
        bp_link_del(p->link);
        p->link = NULL;
    }
}

void peer_send(struct peer *p, const void *data, size_t len)
{
    uint8_t *copy = malloc(len);
    struct bp_slice slice = {.base = copy, .len = len, .owner = copy};

    assert_non_null(copy);
    memcpy(copy, data, len);
    p->owners++;
    assert_int_equal(bp_link_send(p->link, &slice, 1), 0);
}

bool run_until(struct peer *const *peers, unsigned n, bool (*done)(void *ctx), void *ctx, int ms)
{
    bp_time until = now_ns(CLOCK_MONOTONIC) + (bp_time)ms * BP_MS;
    int fds[8];

    for (unsigned i = 0; i < n; i++) {
        fds[i] = peers[i]->fd;
    }
    for (;;) {
        for (unsigned i = 0; i < n; i++) {
            peer_step(peers[i]);
        }
        if (done(ctx)) {
            return true;
        }
        if (now_ns(CLOCK_MONOTONIC) >= until) {
            return false;
        }
        vm_poll(1, fds, n);
    }
}
