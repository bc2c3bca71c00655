/* SPDX-License-Identifier: Apache-2.0 */
/* Life and phases of an Erlang connection. */
#include "auth/node_name.h"
#include "dist/link_impl.h"

#include <stdio.h>
#include <string.h>

int64_t bp_link_auth_stream(bool server)
{
    return server ? 3 : 2;
}

/* --- life ---------------------------------------------------------------- */

/* A client can do it when it has the server's certificate. */
static int init_auth(struct bp_link *l)
{
    int rc;

    l->auth_cfg.role = l->server ? BP_AUTH_SERVER : BP_AUTH_CLIENT;
    l->auth_cfg.pause = true;
    rc = bp_conn_binding(l->conn, l->auth_cfg.binding);
    if (rc == 0) {
        rc = bp_auth_init(&l->setup->auth, &l->auth_cfg);
        l->setup->auth_ready = true;
    }
    return rc;
}

static int set_up(struct bp_link *l, const struct bp_link_config *cfg, bp_time now)
{
    struct bp_conn_config cc = cfg->conn;
    int rc;

    l->setup = bp_mem_zalloc(l->mem, 1, sizeof(*l->setup));
    if (l->setup == NULL) {
        return BP_E_NOMEM;
    }
    if (l->auth_mode == BP_AUTH_EXTERNAL) {
        l->setup->ext = l->mem->alloc(l->mem->ctx, BP_EXT_AUTH_MAX);
        if (l->setup->ext == NULL) {
            return BP_E_NOMEM;
        }
    }
    bp_hs_init(&l->setup->split, l->server ? BP_HS_SERVER : BP_HS_CLIENT);
    bp_order_init(&l->order, l->n_streams, l->mem);
    cc.mem = l->mem;
    cc.ops = &bp_link_conn_ops;
    cc.user = l;
    cc.owner = l->owner;
    rc = bp_conn_new(&l->conn, l->server, &cc, now);
    if (rc != 0) {
        return rc;
    }
    if (l->server && l->auth_mode == BP_AUTH_BUILTIN) {
        rc = init_auth(l);
    }
    bp_conn_list_cids(l->conn);
    return rc;
}

int bp_link_new(struct bp_link **out, bool server, const struct bp_link_config *cfg, bp_time now)
{
    struct bp_link *l;
    int rc;

    *out = NULL;
    if (cfg->dist_streams < 1 || cfg->dist_streams > BP_DIST_STREAMS_MAX ||
        (!server && cfg->auth.dialled_name == NULL)) {
        return BP_E_INVALID;
    }
    l = bp_mem_zalloc(cfg->mem, 1, sizeof(*l));
    if (l == NULL) {
        return BP_E_NOMEM;
    }
    l->mem = cfg->mem;
    l->rx = cfg->rx;
    l->owner = cfg->owner;
    l->server = server;
    l->auth_mode = cfg->auth_mode;
    l->auth_cfg = cfg->auth;
    l->now = now;
    l->deadline = cfg->setup_timeout != 0 ? now + cfg->setup_timeout : BP_TIME_NEVER;
    l->wall_base_ms = cfg->wall_ms - now / BP_MS;
    l->n_streams = cfg->dist_streams;
    l->max_frame_bytes =
        cfg->max_frame_bytes != 0 ? cfg->max_frame_bytes : BP_MAX_FRAME_BYTES_DEFAULT;
    l->auth_slot = -1;
    l->control_slot = -1;
    l->held_tail = &l->held_head;
    for (unsigned i = 0; i < BP_DIST_STREAMS_MAX; i++) {
        l->data_slots[i] = -1;
    }
    if (!server) {
        snprintf(l->dialled, sizeof(l->dialled), "%s", cfg->auth.dialled_name);
        snprintf(l->peer_name, sizeof(l->peer_name), "%s", l->dialled);
        l->auth_cfg.dialled_name = l->dialled;
    }
    bp_frame_queue_init(&l->frames, l->mem, &l->rx, SIZE_MAX);
    bp_frame_queue_set_unfinished(&l->frames, (uint64_t)BP_DIST_STREAMS_MAX * l->max_frame_bytes);
    rc = set_up(l, cfg, now);
    if (rc != 0) {
        bp_link_del(l);
        return rc;
    }
    *out = l;
    return 0;
}

static void drop_setup(struct bp_link *l)
{
    if (l->setup != NULL) {
        if (l->setup->auth_ready) {
            bp_auth_free(&l->setup->auth);
        }
        if (l->setup->ext != NULL) {
            bp_wipe(l->setup->ext, BP_EXT_AUTH_MAX);
            l->mem->release(l->mem->ctx, l->setup->ext);
        }
        bp_wipe(l->setup, sizeof(*l->setup));
        l->mem->release(l->mem->ctx, l->setup);
        l->setup = NULL;
    }
}

void bp_link_del(struct bp_link *l)
{
    if (l == NULL) {
        return;
    }
    bp_conn_del(l->conn);
    drop_setup(l);
    for (unsigned i = 0; i < BP_DIST_STREAMS_MAX; i++) {
        if (l->deframers[i] != NULL) {
            bp_deframer_free(l->deframers[i], &l->frames);
            l->mem->release(l->mem->ctx, l->deframers[i]);
        }
    }
    bp_link_drop_held(l);
    bp_frame_queue_free(&l->frames);
    bp_order_free(&l->order);
    l->mem->release(l->mem->ctx, l->events);
    l->mem->release(l->mem->ctx, l);
}

/* --- events and failure -------------------------------------------------- */

void bp_link_event(struct bp_link *l, const struct bp_link_event *ev)
{
    struct bp_link_event *grown;

    if (l->ev_n == l->ev_cap) {
        unsigned cap = l->ev_cap != 0 ? l->ev_cap * 2 : BP_LINK_EVENTS_FIRST;
        grown = cap <= BP_LINK_EVENTS_MAX ? l->mem->alloc(l->mem->ctx, cap * sizeof(*grown)) : NULL;
        if (grown == NULL) {
            /* The host polls after each call, and no call causes that many; or no memory. */
            l->err = l->err != 0 ? l->err : BP_E_NOMEM;
            l->phase = BP_LINK_FAILED;
            return;
        }
        for (unsigned i = 0; i < l->ev_n; i++) {
            grown[i] = l->events[(l->ev_head + i) % l->ev_cap];
        }
        l->mem->release(l->mem->ctx, l->events);
        l->events = grown;
        l->ev_cap = cap;
        l->ev_head = 0;
    }
    l->events[(l->ev_head + l->ev_n) % l->ev_cap] = *ev;
    l->ev_n++;
}

bool bp_link_poll(struct bp_link *l, struct bp_link_event *out)
{
    if (l->ev_n == 0) {
        /* Events are rare once a link is up. */
        l->mem->release(l->mem->ctx, l->events);
        l->events = NULL;
        l->ev_cap = 0;
        return false;
    }
    *out = l->events[l->ev_head];
    l->ev_head = (l->ev_head + 1) % l->ev_cap;
    l->ev_n--;
    return true;
}

void bp_link_fail(struct bp_link *l, int err, const char *why)
{
    struct bp_link_event ev = {.kind = BP_LINK_EV_FAILED};

    if (l->phase == BP_LINK_FAILED) {
        return;
    }
    l->phase = BP_LINK_FAILED;
    l->err = err != 0 ? err : BP_E_LOCAL_CLOSE;
    snprintf(l->text, sizeof(l->text), "%s", why != NULL ? why : bp_err_text(l->err));
    bp_link_event(l, &ev);
}

static int fail_conn(struct bp_link *l, int err)
{
    /* A callback may have said it better already. */
    if (l->text[0] != '\0' && l->phase != BP_LINK_FAILED) {
        char text[sizeof(l->text)];
        memcpy(text, l->text, sizeof(text));
        bp_link_fail(l, err, text);
    } else {
        bp_link_fail(l, err, bp_conn_error_text(l->conn));
    }
    return l->err;
}

enum bp_link_phase bp_link_phase(const struct bp_link *l)
{
    return l->phase;
}

bool bp_link_tls_done(const struct bp_link *l)
{
    return l->handshake_done;
}

int bp_link_error(const struct bp_link *l)
{
    return l->err;
}

const char *bp_link_error_text(const struct bp_link *l)
{
    return l->text[0] != '\0' ? l->text : bp_err_text(l->err);
}

const char *bp_link_peer_name(const struct bp_link *l)
{
    return l->peer_name;
}

struct bp_conn *bp_link_conn(struct bp_link *l)
{
    return l->conn;
}

/* --- phases -------------------------------------------------------------- */

uint64_t bp_link_wall_ms(const struct bp_link *l)
{
    return l->wall_base_ms + l->now / BP_MS;
}

/* The uni stream that carries our half of authentication. */
static int auth_slot(struct bp_link *l)
{
    int64_t id;
    int rc;

    if (l->auth_slot < 0) {
        rc = bp_conn_open_uni(l->conn, &id);
        if (rc < 0) {
            return rc;
        }
        l->auth_slot = rc;
        bp_conn_set_urgent(l->conn, (unsigned)rc);
    }
    return l->auth_slot;
}

static int put_auth(struct bp_link *l, const void *p, size_t len, bool fin)
{
    int slot = auth_slot(l);
    int rc = slot < 0 ? slot : 0;

    if (rc == 0 && len > 0) {
        rc = bp_conn_put_copy(l->conn, (unsigned)slot, p, len);
    }
    if (rc == 0 && fin) {
        rc = bp_conn_fin(l->conn, (unsigned)slot);
    }
    return rc;
}

/* Opens the control stream where it is ours to open: stream 0 belongs to the client. */
static int begin_handshake(struct bp_link *l)
{
    int64_t id = -1;
    int rc;

    l->phase = BP_LINK_HANDSHAKE;
    if (bp_conn_peer_is_ours(l->conn)) {
        bp_conn_coarse(l->conn);
    }
    if (!l->server) {
        rc = bp_conn_open_bidi(l->conn, &id);
        if (rc < 0) {
            return rc;
        }
        l->control_slot = rc;
        bp_conn_set_urgent(l->conn, (unsigned)rc);
    }
    return 0;
}

static void announce(struct bp_link *l, const char *name, const uint8_t *key, bool pin)
{
    struct bp_link_event ev = {.kind = BP_LINK_EV_AUTHENTICATED, .pin = pin};

    snprintf(ev.name, sizeof(ev.name), "%s", name);
    snprintf(l->peer_name, sizeof(l->peer_name), "%s", name);
    if (key != NULL) {
        memcpy(ev.key, key, sizeof(ev.key));
        ev.has_key = true;
    }
    bp_link_event(l, &ev);
}

static int on_auth_effect(struct bp_link *l, const struct bp_auth_effect *e)
{
    struct bp_link_event ev = {0};
    int rc;

    switch (e->kind) {
    case BP_AUTH_SEND:
        return put_auth(l, e->data, e->len, e->fin);
    case BP_AUTH_LOOKUP:
        ev.kind = BP_LINK_EV_LOOKUP;
        ev.by_key = e->by_key;
        ev.has_key = true;
        snprintf(ev.name, sizeof(ev.name), "%s", e->peer_name);
        memcpy(ev.key, e->peer_key, sizeof(ev.key));
        snprintf(l->peer_name, sizeof(l->peer_name), "%s", e->peer_name);
        bp_link_event(l, &ev);
        return 0;
    case BP_AUTH_DONE:
        rc = begin_handshake(l);
        if (rc == 0) {
            announce(l, e->peer_name, e->has_identity ? e->peer_key : NULL, e->pin);
        }
        return rc;
    case BP_AUTH_FAILED:
    default:
        if (e->peer_name != NULL && e->peer_name[0] != '\0') {
            snprintf(l->peer_name, sizeof(l->peer_name), "%s", e->peer_name);
        }
        bp_link_fail(l, e->err, e->reason);
        return e->err;
    }
}

static int drain_auth(struct bp_link *l)
{
    struct bp_auth_effect e;

    while (l->phase == BP_LINK_AUTH && bp_auth_poll(&l->setup->auth, &e)) {
        int rc = on_auth_effect(l, &e);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int tls_done(struct bp_link *l)
{
    struct bp_link_event ev = {.kind = BP_LINK_EV_TLS_DONE};
    int rc;

    switch (l->auth_mode) {
    case BP_AUTH_NONE:
        if (l->auth_unwanted) {
            bp_link_fail(l, BP_E_AUTH_UNEXPECTED, BP_LINK_AUTH_UNWANTED);
            return l->err;
        }
        rc = begin_handshake(l);
        if (rc == 0) {
            announce(l, l->dialled, NULL, false);
        }
        return rc;
    case BP_AUTH_EXTERNAL:
        l->phase = BP_LINK_EXTERNAL;
        bp_link_event(l, &ev);
        return 0;
    case BP_AUTH_BUILTIN:
    default:
        l->phase = BP_LINK_AUTH;
        return 0;
    }
}

int bp_link_start_auth(struct bp_link *l)
{
    struct bp_link_setup *s = l->setup;
    int rc = 0;

    if (l->auth_mode != BP_AUTH_BUILTIN || s->auth_started) {
        return 0;
    }
    if (!l->server) {
        rc = init_auth(l);
    }
    if (rc == 0) {
        /* A failure comes as an effect too, with words. */
        int started = bp_conn_peer_is_ours(l->conn)
                          ? bp_auth_start_early(&s->auth, l->now, bp_link_wall_ms(l))
                          : bp_auth_start(&s->auth, l->now, bp_link_wall_ms(l));
        (void)started;
        s->auth_started = true;
    }
    return rc;
}

/* A server's first words, before the client's Finished has come. */
static int speak_early(struct bp_link *l)
{
    struct bp_auth_effect e;
    int rc = 0;

    if (!bp_conn_peer_is_ours(l->conn)) {
        return 0;
    }
    rc = bp_link_start_auth(l);
    while (rc == 0 && l->auth_mode == BP_AUTH_BUILTIN && bp_auth_poll(&l->setup->auth, &e)) {
        rc = on_auth_effect(l, &e);
    }
    return rc;
}

/*
 * Sends the next handshake message if the one before it has arrived: upstream takes two that come
 * together for one (WIRE 0.5). Our own splitter does not, and saves the round trip.
 */
static int pump_handshake(struct bp_link *l)
{
    struct bp_link_setup *s = l->setup;
    unsigned slot = (unsigned)l->control_slot;

    while (s != NULL && s->out_n > 0 && l->control_slot >= 0 &&
           (bp_conn_acked(l->conn, slot) == bp_conn_queued(l->conn, slot) ||
            bp_conn_peer_is_ours(l->conn))) {
        int rc = bp_conn_put_copy(l->conn, slot, s->out[s->out_head].data, s->out[s->out_head].len);
        if (rc != 0) {
            return rc;
        }
        s->out_head = (s->out_head + 1) % BP_HS_OUT;
        s->out_n--;
    }
    if (s != NULL && l->phase == BP_LINK_UP && s->out_n == 0) {
        drop_setup(l);
        bp_conn_settle(l->conn);
    }
    return 0;
}

int bp_link_advance(struct bp_link *l)
{
    int rc = 0;

    if (l->phase == BP_LINK_FAILED) {
        return l->err;
    }
    if (l->phase == BP_LINK_TLS && l->early_ready) {
        l->early_ready = false;
        rc = speak_early(l);
    }
    if (rc == 0 && l->phase == BP_LINK_TLS && l->handshake_done) {
        rc = tls_done(l);
    }
    if (rc == 0 && l->phase == BP_LINK_AUTH) {
        rc = drain_auth(l);
    }
    if (rc == 0 && (l->phase == BP_LINK_HANDSHAKE || l->phase == BP_LINK_UP)) {
        rc = pump_handshake(l);
    }
    if (rc == 0 && l->held_head != NULL) {
        rc = bp_link_release_held(l);
    }
    if (rc != 0) {
        bp_link_fail(l, rc, NULL);
    }
    return rc;
}

/* --- datagrams and time -------------------------------------------------- */

int bp_link_read(struct bp_link *l, const struct bp_addr *local, const struct bp_addr *remote,
                 const uint8_t *p, size_t len, bp_time now)
{
    int rc;

    if (l->phase == BP_LINK_FAILED) {
        return l->err;
    }
    l->now = now;
    rc = bp_conn_read(l->conn, local, remote, p, len, now);
    /* An authentication verdict that came with the closing datagram says more than the close. */
    if (l->phase == BP_LINK_AUTH) {
        (void)drain_auth(l);
    }
    if (rc != 0) {
        return fail_conn(l, rc);
    }
    return bp_link_advance(l);
}

int bp_link_write(struct bp_link *l, uint8_t *buf, size_t cap, struct bp_tx_run *runs,
                  unsigned *n_runs, bp_time now)
{
    int rc;

    *n_runs = 0;
    if (l->phase == BP_LINK_FAILED) {
        return l->err;
    }
    l->now = now;
    if (l->phase == BP_LINK_AUTH && bp_conn_unsent(l->conn) == 0) {
        /* What came before the pause is on its way, and the peer busy with it. */
        int resumed = bp_auth_continue(&l->setup->auth, now, bp_link_wall_ms(l));
        (void)resumed; /* it comes as an effect too */
        if (bp_link_advance(l) != 0) {
            return l->err;
        }
    }
    rc = bp_conn_write(l->conn, buf, cap, runs, n_runs, now);
    if (rc == 0 && l->phase == BP_LINK_TLS && l->handshake_done) {
        /* A client's handshake completes while it writes its Finished. */
        if (bp_link_advance(l) == 0 && *n_runs == 0) {
            rc = bp_conn_write(l->conn, buf, cap, runs, n_runs, now);
        }
    }
    return rc == 0 ? 0 : fail_conn(l, rc);
}

bool bp_link_has_more(const struct bp_link *l)
{
    return l->phase == BP_LINK_AUTH && l->setup->auth_ready && l->setup->auth.paused &&
           bp_conn_unsent(l->conn) == 0;
}

bp_time bp_link_deadline(const struct bp_link *l, bp_time now)
{
    bp_time at;

    if (l->phase == BP_LINK_FAILED) {
        return BP_TIME_NEVER;
    }
    if (bp_link_has_more(l)) {
        return now;
    }
    at = bp_conn_deadline(l->conn, now);
    return l->phase != BP_LINK_UP && l->deadline < at ? l->deadline : at;
}

static const char *phase_text(enum bp_link_phase phase)
{
    switch (phase) {
    case BP_LINK_TLS:
        return "no answer from the peer's address within the setup time (QUIC and TLS)";
    case BP_LINK_AUTH:
    case BP_LINK_EXTERNAL:
        return "the authentication did not finish within the setup time";
    default:
        return "the distribution handshake did not finish within the setup time";
    }
}

int bp_link_on_timer(struct bp_link *l, bp_time now)
{
    int rc;

    if (l->phase == BP_LINK_FAILED) {
        return l->err;
    }
    l->now = now;
    if (l->phase != BP_LINK_UP && now >= l->deadline) {
        bp_link_fail(l, BP_E_TIMEOUT, phase_text(l->phase));
        return l->err;
    }
    rc = bp_conn_on_timer(l->conn, now);
    if (rc != 0) {
        return fail_conn(l, rc);
    }
    return bp_link_advance(l);
}

void bp_link_finish(struct bp_link *l, uint8_t *buf, size_t cap, struct bp_tx_run *runs,
                    unsigned *n_runs, bp_time now)
{
    size_t used = 0;

    *n_runs = 0;
    bp_link_fail(l, BP_E_LOCAL_CLOSE, NULL);
    if (bp_conn_write(l->conn, buf, cap, runs, n_runs, now) != 0) {
        *n_runs = 0;
    }
    if (*n_runs > 0) {
        used = runs[*n_runs - 1].off + runs[*n_runs - 1].len;
    }
    {
        struct bp_tx_run *run = &runs[*n_runs];
        size_t n = bp_conn_write_close(l->conn, l->err == BP_E_LOCAL_CLOSE ? 0 : l->err, buf + used,
                                       cap - used, run, now);
        if (n > 0) {
            run->off = used;
            (*n_runs)++;
        }
    }
}

/* --- authentication ------------------------------------------------------ */

void bp_link_trust(struct bp_link *l, bool found, const uint8_t *key, bp_time now)
{
    int rc;

    if (l->phase != BP_LINK_AUTH) {
        return;
    }
    l->now = now;
    rc = bp_auth_trust(&l->setup->auth, found, key, now, bp_link_wall_ms(l));
    (void)rc; /* it comes as an effect too */
    (void)bp_link_advance(l);
}

int bp_link_auth_send(struct bp_link *l, const void *p, size_t len, bool fin)
{
    return l->phase == BP_LINK_EXTERNAL ? put_auth(l, p, len, fin) : BP_E_STATE;
}

int bp_link_auth_recv(struct bp_link *l, const uint8_t **p, size_t *len, bool *fin)
{
    struct bp_link_setup *s = l->setup;

    *len = 0;
    *fin = false;
    if (l->phase != BP_LINK_EXTERNAL) {
        return BP_E_STATE;
    }
    *p = s->ext;
    *len = s->ext_len;
    *fin = s->ext_fin;
    bp_conn_credit(l->conn, bp_link_auth_stream(!l->server), *len);
    s->ext_len = 0;
    return 0;
}

int bp_link_auth_done(struct bp_link *l, bool ok, const char *name)
{
    int rc;

    if (l->phase != BP_LINK_EXTERNAL) {
        return BP_E_STATE;
    }
    if (!ok) {
        bp_link_fail(l, BP_E_AUTH_CALLBACK, NULL);
        return 0;
    }
    rc = begin_handshake(l);
    if (rc != 0) {
        bp_link_fail(l, rc, NULL);
        return rc;
    }
    announce(l, name[0] != '\0' ? name : l->dialled, NULL, false);
    return 0;
}

/* --- distribution handshake ---------------------------------------------- */

int bp_link_hs_send(struct bp_link *l, const void *msg, size_t len)
{
    struct bp_link_setup *s = l->setup;
    unsigned i;
    int rc;

    if (l->phase != BP_LINK_HANDSHAKE || l->control_slot < 0) {
        return BP_E_STATE;
    }
    if (s->out_n == BP_HS_OUT || len > BP_HS_OUT_BYTES || len == 0) {
        return BP_E_LIMIT;
    }
    i = (s->out_head + s->out_n) % BP_HS_OUT;
    memcpy(s->out[i].data, msg, len);
    s->out[i].len = (uint16_t)len;
    s->out_n++;
    rc = pump_handshake(l);
    if (rc != 0) {
        bp_link_fail(l, rc, NULL);
    }
    return rc;
}

/*
 * A node without a name of its own asks for one and says its host only. Once it has got a name from
 * its first peer it uses that with others, though its key is still that of nonode@nohost: the host
 * must refuse a name that is pinned to another key (bp_link_claimed).
 */
static int check_dynamic_name(struct bp_link *l, const char *name, size_t len, uint64_t flags)
{
    if ((flags & BP_HS_FLAG_NAME_ME) != 0) {
        return memchr(name, '@', len) == NULL ? 0 : BP_E_HS_NAME_MISMATCH;
    }
    if (!bp_node_name_valid(name, len) || bp_node_name_dynamic(name, len) ||
        (strlen(l->auth_cfg.self_name) == len && memcmp(l->auth_cfg.self_name, name, len) == 0)) {
        return BP_E_HS_NAME_MISMATCH;
    }
    memcpy(l->peer_name, name, len);
    l->peer_name[len] = '\0';
    l->claimed = true;
    return 0;
}

bool bp_link_claimed(struct bp_link *l)
{
    bool was = l->claimed;

    l->claimed = false;
    return was;
}

/*
 * The name in the distribution handshake must be the authenticated one (WIRE 11, S2). A node that
 * asks for a dynamic name authenticates as nonode@nohost.
 */
static int check_name(struct bp_link *l, const uint8_t *msg, size_t len)
{
    const char *name;
    size_t name_len;
    uint64_t flags;
    bool dynamic;
    int rc = bp_hs_name(msg, len, !l->server, &name, &name_len, &flags);

    if (rc != 0) {
        return rc;
    }
    l->peer_checked = true;
    if (l->peer_name[0] == '\0') {
        if (name_len <= BP_NODE_NAME_MAX) {
            memcpy(l->peer_name, name, name_len);
            l->peer_name[name_len] = '\0';
        }
        return 0;
    }
    dynamic = bp_node_name_dynamic(l->peer_name, strlen(l->peer_name));
    if (dynamic && l->server) {
        return check_dynamic_name(l, name, name_len, flags);
    }
    return strlen(l->peer_name) == name_len && memcmp(l->peer_name, name, name_len) == 0
               ? 0
               : BP_E_HS_NAME_MISMATCH;
}

int bp_link_hs_recv(struct bp_link *l, const uint8_t **msg, size_t *len)
{
    int rc;

    bool closed = l->phase == BP_LINK_FAILED && l->err == BP_E_PEER_CLOSED;

    /* A refusal ("snok") and the close that follows it often share a datagram. */
    if ((l->phase != BP_LINK_HANDSHAKE && !closed) || l->setup == NULL) {
        return l->phase == BP_LINK_FAILED ? l->err : BP_E_STATE;
    }
    rc = bp_hs_next(&l->setup->split, msg, len);
    if (rc == 0 && closed) {
        return l->err;
    }
    if (rc == 1 && !l->peer_checked && (*msg)[0] == 'N') {
        int bad = check_name(l, *msg, *len);
        rc = bad != 0 ? bad : 1;
    }
    if (rc < 0) {
        bp_link_fail(l, rc, NULL);
    }
    return rc;
}

int bp_link_up(struct bp_link *l)
{
    if (l->phase != BP_LINK_HANDSHAKE || l->control_slot < 0) {
        return BP_E_STATE;
    }
    if (bp_conn_bidi_left(l->conn) < l->n_streams) {
        bp_link_fail(l, BP_E_AGAIN, "the peer allows too few streams for distribution data");
        return BP_E_AGAIN;
    }
    l->phase = BP_LINK_UP;
    return pump_handshake(l);
}

void bp_link_stats(const struct bp_link *l, struct bp_link_stats *out)
{
    *out = l->stats;
    out->frames_in += l->frames.total_frames;
    out->bytes_in = l->frames.total_bytes;
    out->fences = l->order.fences;
    out->ticks_in += l->frames.ticks;
    out->unfinished_bytes = l->frames.unfinished.bytes;
    out->unfinished_messages = l->frames.unfinished.n;
}
