/* SPDX-License-Identifier: Apache-2.0 */
/* Two links, virtual time and a bad network. */
#include "sim/world.h"

#include "base/rw.h"
#include "quic/tls_cert.h"
#include "support/t.h"

#define BACKLOG_MAX (4u * 1024u * 1024u)
/* Steps without progress of time: more than any burst needs. */
#define SPIN_MAX    200000u

struct sim_packet {
    struct sim_packet *next;
    bp_time at;
    bool to_b;
    struct bp_addr peer; /* to b: the sender, as b sees it; to a: where it was sent */
    size_t len;
    uint8_t data[];
};

/* --- memory of the "host" ------------------------------------------------ */

static void *rx_alloc(void *ctx, size_t cap, uint8_t **data)
{
    struct sim_node *n = ctx;
    void *p = n->mem->alloc(n->mem->ctx, cap);

    n->bins += p != NULL;
    *data = p;
    return p;
}

static void *rx_grow(void *ctx, void *bin, size_t cap, uint8_t **data)
{
    struct sim_node *n = ctx;
    void *p = n->mem->grow(n->mem->ctx, bin, cap);

    *data = p;
    return p;
}

static void rx_release(void *ctx, void *bin)
{
    struct sim_node *n = ctx;

    n->bins -= bin != NULL;
    n->mem->release(n->mem->ctx, bin);
}

static void owner_release(void *ctx, void *owner)
{
    struct sim_node *n = ctx;

    n->owners--;
    free(owner);
}

/* --- nodes --------------------------------------------------------------- */

static void node_init(struct sim_node *n, const char *name, uint16_t port)
{
    uint8_t seed[BP_KEY_LEN];
    struct bp_tls_pem *pem = calloc(1, sizeof(*pem));
    char err[256];

    *n = (struct sim_node){.name = name,
                           .auth_mode = BP_AUTH_BUILTIN,
                           .dist_streams = BP_DIST_STREAMS_MAX,
                           .closing = calloc(1, sizeof(*n->closing)),
                           .mem = bp_mem_libc()};
    assert_int_equal(bp_addr_parse(&n->addr, "192.0.2.1", port), 0);
    assert_int_equal(bp_identity_generate(seed, n->pub), 0);
    assert_int_equal(bp_identity_new(&n->identity, seed, n->pub, bp_mem_libc()), 0);
    assert_int_equal(bp_random(n->nonce_secret, sizeof(n->nonce_secret)), 0);
    assert_int_equal(bp_random(n->reset_secret, sizeof(n->reset_secret)), 0);
    assert_int_equal(bp_tls_cert_generate(name, 1767225600, pem), 0);
    assert_int_equal(bp_tls_cred_load(pem->cert, pem->cert_len, pem->key, pem->key_len, &n->cred,
                                      err, sizeof(err)),
                     0);
    bp_tls_pem_free(pem);
    free(pem);
}

static void node_free(struct sim_node *n)
{
    bp_link_del(n->link);
    bp_identity_del(n->identity);
    bp_tls_cred_unref(n->cred);
    free(n->closing);
}

void sim_init(struct sim *s, uint64_t seed)
{
    *s = (struct sim){.now = BP_SEC,
                      .rng = seed,
                      .net = {.delay = 5 * BP_MS},
                      .setup_timeout = 30 * BP_SEC,
                      .idle_timeout = 300 * BP_SEC,
                      .dialled = "b@sim"};
    node_init(&s->a, "a@sim", 1001);
    node_init(&s->b, "b@sim", 1002);
    s->a_seen = s->a.addr;
    assert_int_equal(bp_listener_init(&s->listener, s->b.reset_secret), 0);
}

static void free_packets(struct sim_packet *p)
{
    while (p != NULL) {
        struct sim_packet *next = p->next;
        free(p);
        p = next;
    }
}

void sim_free(struct sim *s)
{
    free_packets(s->queue);
    free_packets(s->a.backlog);
    free_packets(s->b.backlog);
    node_free(&s->a);
    node_free(&s->b);
}

static void fill_config(const struct sim *s, struct sim_node *n, const struct bp_addr *remote,
                        struct bp_link_config *c)
{
    *c = (struct bp_link_config){
        .mem = n->mem,
        .rx = {.ctx = n, .alloc = rx_alloc, .grow = rx_grow, .release = rx_release},
        .owner = {.ctx = n, .release = owner_release},
        .conn = {.cred = n->cred,
                 .reset_secret = n->reset_secret,
                 .local = n->addr,
                 .remote = *remote,
                 .idle_timeout = s->idle_timeout,
                 .keepalive = s->keepalive,
                 .ticket_key = n->ticket_key,
                 .keep_session = n->keep_session,
                 .session = n->session,
                 .session_len = n->session_len,
                 .max_datagram = n->max_datagram},
        .auth_mode = n->auth_mode,
        .auth = {.identity = n->identity,
                 .self_name = n->name,
                 .trust_mode = n->trust_mode,
                 .nonce_secret = n->nonce_secret,
                 .cookie_only = n->cookie_only,
                 .n_cookie_only = n->n_cookie_only},
        .setup_timeout = s->setup_timeout,
        .wall_ms = 1767225600000u + s->now / BP_MS,
        .dist_streams = n->dist_streams,
        .max_frame_bytes = n->max_frame_bytes};
}

int sim_dial(struct sim *s)
{
    struct bp_link_config c;
    int rc;

    fill_config(s, &s->a, &s->b.addr, &c);
    c.auth.dialled_name = s->dialled;
    rc = bp_link_new(&s->a.link, false, &c, s->now);
    if (rc == 0) {
        if (s->on_link != NULL) {
            s->on_link(&s->a);
        }
        sim_flush(s);
    }
    return rc;
}

static void add_cid(struct sim_node *n, const struct bp_cid *cid)
{
    assert_true(n->n_cids < SIM_CIDS_MAX);
    n->cids[n->n_cids++] = *cid;
}

static bool owns_cid(const struct sim_node *n, const struct bp_cid *cid)
{
    for (unsigned i = 0; i < n->n_cids; i++) {
        if (bp_cid_equal(&n->cids[i], cid)) {
            return true;
        }
    }
    return false;
}

static void remove_cid(struct sim_node *n, const struct bp_cid *cid)
{
    for (unsigned i = 0; i < n->n_cids; i++) {
        if (bp_cid_equal(&n->cids[i], cid)) {
            n->cids[i] = n->cids[--n->n_cids];
            return;
        }
    }
}

static void events(struct sim *s, struct sim_node *n)
{
    struct bp_link_event ev;

    while (n->link != NULL && bp_link_poll(n->link, &ev)) {
        switch (ev.kind) {
        case BP_LINK_EV_LOOKUP:
            bp_link_trust(n->link, n->pinned != NULL, n->pinned, s->now);
            break;
        case BP_LINK_EV_AUTHENTICATED:
            n->authenticated = true;
            n->pin_wanted = ev.pin;
            n->has_key = ev.has_key;
            snprintf(n->peer, sizeof(n->peer), "%s", ev.name);
            break;
        case BP_LINK_EV_FAILED:
            n->failed = true;
            break;
        case BP_LINK_EV_CID_ADDED:
            add_cid(n, &ev.cid);
            break;
        case BP_LINK_EV_CID_REMOVED:
            remove_cid(n, &ev.cid);
            break;
        case BP_LINK_EV_SESSION:
            n->session_len = bp_conn_take_session(bp_link_conn(n->link), n->session);
            break;
        case BP_LINK_EV_IDLE_ASKED:
            n->idle_asked++;
            break;
        case BP_LINK_EV_TLS_DONE:
        default:
            break;
        }
    }
    /* Without memory for the event the phase alone says it. */
    n->failed = n->failed || (n->link != NULL && bp_link_phase(n->link) == BP_LINK_FAILED);
}

/* --- the network --------------------------------------------------------- */

static void enqueue(struct sim *s, struct sim_packet *pkt)
{
    struct sim_packet **at = &s->queue;

    while (*at != NULL && (*at)->at <= pkt->at) {
        at = &(*at)->next;
    }
    pkt->next = *at;
    *at = pkt;
}

static void put_packet(struct sim *s, bool to_b, const struct bp_addr *peer, const uint8_t *p,
                       size_t len)
{
    struct sim_packet *pkt = malloc(sizeof(*pkt) + len);

    *pkt =
        (struct sim_packet){.at = s->now + s->net.delay, .to_b = to_b, .peer = *peer, .len = len};
    if (s->net.jitter > 0) {
        pkt->at += t_rand(&s->rng) % s->net.jitter;
    }
    memcpy(pkt->data, p, len);
    if (s->net.flip > 0 && t_rand(&s->rng) % 1000 < s->net.flip) {
        s->net.n_flipped++;
        if (t_rand(&s->rng) % 4 == 0) {
            pkt->len = 1 + t_rand(&s->rng) % len;
        }
        for (uint64_t i = t_rand(&s->rng) % 8 + 1; i > 0; i--) {
            /* Every other one in the first bytes, which no encryption covers. */
            size_t at = t_rand(&s->rng) % (i % 2 == 0 && pkt->len > 24 ? 24 : pkt->len);
            pkt->data[at] ^= (uint8_t)(1u << t_rand(&s->rng) % 8);
        }
    }
    s->net.largest = len > s->net.largest ? len : s->net.largest;
    enqueue(s, pkt);
}

static void transmit(struct sim *s, bool to_b, const struct bp_addr *peer, const uint8_t *p,
                     size_t len)
{
    struct sim_node *from = to_b ? &s->a : &s->b;

    s->net.n_sent++;
    from->largest_sent = len > from->largest_sent ? len : from->largest_sent;
    if (s->net.cut || (s->a_moves && bp_addr_equal(peer, &s->a_dead)) ||
        (s->net.mtu != 0 && len > s->net.mtu) || t_rand(&s->rng) % 1000 < s->net.loss ||
        (s->net.drop != NULL && s->net.drop(s->net.drop_ctx, to_b, p, len))) {
        s->net.n_lost++;
        return;
    }
    if (to_b && s->net.spoof_per_mille > 0 && t_rand(&s->rng) % 1000 < s->net.spoof_per_mille) {
        s->net.n_spoofed++;
        put_packet(s, to_b, &s->net.spoof, p, len);
    }
    put_packet(s, to_b, peer, p, len);
    if (t_rand(&s->rng) % 1000 < s->net.dup) {
        put_packet(s, to_b, peer, p, len);
    }
}

void sim_name(struct sim *s, const struct bp_addr *name, const struct bp_addr *at)
{
    unsigned i = s->n_a_paths++ % SIM_PATHS;

    s->a_paths[i].name = *name;
    s->a_paths[i].at = *at;
}

/* Where b sees what a sends from `local`. */
static const struct bp_addr *seen_at(const struct sim *s, const struct bp_addr *local)
{
    for (unsigned i = 0; i < SIM_PATHS; i++) {
        if (bp_addr_equal(&s->a_paths[i].name, local)) {
            return &s->a_paths[i].at;
        }
    }
    return local;
}

/* What a calls the path at `at`: the last name that it gave. */
static const struct bp_addr *name_of(const struct sim *s, const struct bp_addr *at)
{
    for (unsigned i = s->n_a_paths; i > 0 && s->n_a_paths - i < SIM_PATHS; i--) {
        if (bp_addr_equal(&s->a_paths[(i - 1) % SIM_PATHS].at, at)) {
            return &s->a_paths[(i - 1) % SIM_PATHS].name;
        }
    }
    return at;
}

static void transmit_runs(struct sim *s, bool to_b, const uint8_t *buf,
                          const struct bp_tx_run *runs, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        const struct bp_addr *a = s->a_moves ? seen_at(s, &runs[i].local) : &s->a_seen;

        for (size_t off = 0; off < runs[i].len; off += runs[i].seg) {
            size_t left = runs[i].len - off;
            size_t len = left < runs[i].seg ? left : runs[i].seg;

            if (s->net.device != 0 && runs[i].seg > s->net.device) {
                s->net.n_refused++;
                s->net.n_dragged += len <= s->net.device;
                continue;
            }
            transmit(s, to_b, to_b ? a : &runs[i].remote, buf + runs[i].off + off, len);
        }
    }
}

void sim_transmit(struct sim *s, const struct sim_node *n, const uint8_t *p, size_t len)
{
    transmit(s, n == &s->a, &s->a_seen, p, len);
}

static void flush_node(struct sim *s, struct sim_node *n, bool to_b)
{
    static uint8_t buf[2 * 65536 + 1024];
    struct bp_tx_run runs[BP_TX_RUNS + 1];
    unsigned n_runs = 1;

    if (n->link == NULL || n->stalled) {
        return;
    }
    while (n_runs > 0 && bp_link_write(n->link, buf, sizeof(buf), runs, &n_runs, s->now) == 0) {
        transmit_runs(s, to_b, buf, runs, n_runs);
    }
    events(s, n);
    if (n->failed) {
        size_t len = bp_link_finish(n->link, buf, sizeof(buf), runs, &n_runs, s->now);

        transmit_runs(s, to_b, buf, runs, n_runs);
        if (len > 0) {
            bp_closing_add(n->closing, n->cids, n->n_cids, buf + runs[n_runs - 1].off, len, s->now);
        }
    }
}

void sim_flush(struct sim *s)
{
    flush_node(s, &s->a, true);
    flush_node(s, &s->b, false);
}

void sim_rebind(struct sim *s, const char *ip, uint16_t port)
{
    assert_int_equal(bp_addr_parse(&s->a_seen, ip, port), 0);
}

void sim_stall(struct sim *s, struct sim_node *n, bool stalled)
{
    n->stalled = stalled;
    while (!stalled && n->backlog != NULL) {
        struct sim_packet *p = n->backlog;
        n->backlog = p->next;
        p->at = s->now;
        enqueue(s, p);
    }
    if (!stalled) {
        n->backlog_bytes = 0;
    }
}

/* Takes `p`: the socket's buffer, which drops what does not fit. */
static void keep_for_later(struct sim *s, struct sim_node *n, struct sim_packet *p)
{
    struct sim_packet **at = &n->backlog;

    if (n->backlog_bytes + p->len > BACKLOG_MAX) {
        s->net.n_lost++;
        free(p);
        return;
    }
    n->backlog_bytes += p->len;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    p->next = NULL;
    *at = p;
}

/* Forgets b's link as a whole. */
static void drop_b(struct sim *s)
{
    bp_link_del(s->b.link);
    s->b.link = NULL;
    s->b.n_cids = 0;
    s->b.authenticated = false;
    s->b.failed = false;
    s->b_exists = false;
}

void sim_restart_b(struct sim *s)
{
    drop_b(s);
    assert_int_equal(bp_listener_init(&s->listener, s->b.reset_secret), 0);
}

/* What the listener of b does with a datagram that no connection owns. */
static void stranger(struct sim *s, const struct sim_packet *p)
{
    uint8_t reply[1500];
    struct bp_listener_result r;
    struct bp_link_config c;

    bp_listener_classify(&s->listener, p->data, p->len, &r);
    if (r.action == BP_LISTENER_ROUTE) {
        bp_listener_unknown(&s->listener, &p->peer, p->data, p->len, reply, sizeof(reply), s->now,
                            &r);
    }
    if (r.action == BP_LISTENER_REPLY) {
        transmit(s, false, &p->peer, reply, r.reply_len);
    }
    if (r.action != BP_LISTENER_ACCEPT || (s->b_exists && (!s->b.failed || s->b.authenticated))) {
        return;
    }
    drop_b(s); /* one whose first packet was damaged */
    fill_config(s, &s->b, &p->peer, &c);
    c.conn.version = r.initial.version;
    c.conn.client_scid = r.initial.client_scid;
    c.conn.client_dcid = r.initial.client_dcid;
    c.conn.original_dcid = r.initial.original_dcid;
    c.conn.retried = r.initial.retried;
    c.conn.token = r.initial.token;
    c.conn.token_len = r.initial.token_len;
    if (bp_link_new(&s->b.link, true, &c, s->now) == 0) {
        s->b_exists = true;
        add_cid(&s->b, &c.conn.client_dcid);
        events(s, &s->b);
        if (s->on_link != NULL) {
            s->on_link(&s->b);
        }
    }
}

/* As the driver looks them up: the owner of the id, else the listener. */
static bool is_for_b(struct sim *s, const struct sim_packet *p)
{
    struct bp_listener_result r;

    bp_listener_classify(&s->listener, p->data, p->len, &r);
    return s->b_exists && r.action == BP_LISTENER_ROUTE && owns_cid(&s->b, &r.cid);
}

/* The connection is closed, and its peer may not know. */
static void say_again(struct sim *s, struct sim_node *n, const struct sim_packet *p)
{
    uint8_t reply[BP_CLOSING_DATAGRAM];
    struct bp_listener_result r;
    size_t len;

    bp_listener_classify(&s->listener, p->data, p->len, &r);
    len = bp_closing_answer(n->closing, &r.cid, p->len, reply, sizeof(reply), s->now);
    if (len > 0) {
        transmit(s, !p->to_b, &p->peer, reply, len);
    }
}

static void deliver(struct sim *s, const struct sim_packet *p)
{
    struct sim_node *n = p->to_b ? &s->b : &s->a;

    if (!p->to_b && !s->a_moves && !bp_addr_equal(&p->peer, &s->a_seen)) {
        s->net.n_stale++;
        return;
    }
    if (p->to_b && !is_for_b(s, p)) {
        stranger(s, p);
        if (!is_for_b(s, p)) {
            return;
        }
    }
    if (n->failed) {
        say_again(s, n, p);
    } else if (n->link != NULL) {
        (void)bp_link_read(n->link, s->a_moves && !p->to_b ? name_of(s, &p->peer) : &n->addr,
                           p->to_b ? &p->peer : &s->b.addr, p->data, p->len, s->now);
        events(s, n);
    }
}

static bp_time deadline(const struct sim *s, const struct sim_node *n)
{
    return n->link != NULL && !n->failed && !n->stalled ? bp_link_deadline(n->link, s->now)
                                                        : BP_TIME_NEVER;
}

bool sim_step(struct sim *s, bp_time until)
{
    bp_time ta = deadline(s, &s->a);
    bp_time tb = deadline(s, &s->b);
    bp_time at = ta < tb ? ta : tb;
    struct sim_packet *p = s->queue;

    if (p != NULL && p->at <= at) {
        at = p->at;
    } else {
        p = NULL;
    }
    if (at > until) {
        return false;
    }
    s->spin = at > s->now ? 0 : s->spin + 1;
    assert_true(s->spin < SPIN_MAX);
    s->now = at > s->now ? at : s->now;
    if (p != NULL && (p->to_b ? &s->b : &s->a)->stalled) {
        s->queue = p->next;
        keep_for_later(s, p->to_b ? &s->b : &s->a, p);
    } else if (p != NULL) {
        s->queue = p->next;
        deliver(s, p);
        free(p);
    } else {
        struct sim_node *n = ta <= tb ? &s->a : &s->b;
        (void)bp_link_on_timer(n->link, s->now);
        events(s, n);
    }
    sim_flush(s);
    return true;
}

void sim_run(struct sim *s, bp_time until)
{
    while (sim_step(s, until)) {
    }
    if (until != BP_TIME_NEVER && s->now < until) {
        s->now = until;
    }
}

void sim_run_auth(struct sim *s, bp_time for_)
{
    bp_time until = s->now + for_;

    while (!(s->a.authenticated && s->b.authenticated) && !(s->a.failed && s->b.failed) &&
           sim_step(s, until)) {
    }
}

/* --- the distribution handshake ------------------------------------------ */

static int await_hs(struct sim *s, struct sim_node *n, char first)
{
    const uint8_t *msg;
    size_t len;
    bp_time until = s->now + 30 * BP_SEC;

    while (!n->authenticated && !n->failed && sim_step(s, until)) {
    }
    for (;;) {
        int rc = bp_link_hs_recv(n->link, &msg, &len);
        if (rc < 0) {
            events(s, n);
            sim_flush(s);
            return rc;
        }
        if (rc == 1) {
            return msg[0] == first ? 0 : BP_E_HS_MALFORMED;
        }
        if (!sim_step(s, until)) {
            return BP_E_TIMEOUT;
        }
    }
}

static int send_hs(struct sim *s, struct sim_node *n, const struct bp_writer *w)
{
    int rc = bp_link_hs_send(n->link, w->base, w->len);

    sim_flush(s);
    return rc;
}

int sim_send_name(struct sim *s, struct sim_node *n, const char *name, bool server)
{
    uint8_t buf[300];
    struct bp_writer w;

    bp_writer_init(&w, buf, sizeof(buf));
    bp_write_u8(&w, 'N');
    bp_write_u64(&w, 0x0000000d07df7fbdu);
    if (server) {
        bp_write_u32(&w, 0x01020304);
    }
    bp_write_u32(&w, 4711);
    bp_write_u16(&w, (uint16_t)strlen(name));
    bp_write_bytes(&w, name, strlen(name));
    return send_hs(s, n, &w);
}

static int send_fixed(struct sim *s, struct sim_node *n, const char *text, size_t len)
{
    uint8_t buf[32] = {0};
    struct bp_writer w;

    bp_writer_init(&w, buf, sizeof(buf));
    bp_write_bytes(&w, text, strlen(text));
    w.len = len;
    return send_hs(s, n, &w);
}

int sim_handshake(struct sim *s, const char *a_name, const char *b_name)
{
    int rc = sim_send_name(s, &s->a, a_name, false);

    return rc != 0 ? rc : sim_handshake_named(s, b_name);
}

int sim_handshake_named(struct sim *s, const char *b_name)
{
    int rc = await_hs(s, &s->b, 'N');

    rc = rc != 0 ? rc : send_fixed(s, &s->b, "sok", 3);
    rc = rc != 0 ? rc : sim_send_name(s, &s->b, b_name, true);
    rc = rc != 0 ? rc : await_hs(s, &s->a, 's');
    rc = rc != 0 ? rc : await_hs(s, &s->a, 'N');
    rc = rc != 0 ? rc : send_fixed(s, &s->a, "r", 21);
    rc = rc != 0 ? rc : await_hs(s, &s->b, 'r');
    rc = rc != 0 ? rc : send_fixed(s, &s->b, "a", 17);
    rc = rc != 0 ? rc : bp_link_up(s->b.link);
    rc = rc != 0 ? rc : await_hs(s, &s->a, 'a');
    rc = rc != 0 ? rc : bp_link_up(s->a.link);
    if (rc == 0) {
        if (!s->a_holds) {
            bp_link_deliver(s->a.link);
        }
        if (!s->b_holds) {
            bp_link_deliver(s->b.link);
        }
        sim_flush(s);
    }
    return rc;
}
