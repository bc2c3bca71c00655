/* SPDX-License-Identifier: Apache-2.0 */
/* Life and phases of an Erlang connection. */
#include "dist/link_impl.h"

#include <stdio.h>
#include <string.h>

/* --- life ---------------------------------------------------------------- */

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
    cc.early_name = l->auth_mode == BP_AUTH_BUILTIN;
    rc = bp_conn_new(&l->conn, l->server, &cc, now);
    if (rc != 0) {
        return rc;
    }
    if (l->server && l->auth_mode == BP_AUTH_BUILTIN) {
        rc = bp_link_init_auth(l);
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
    l->user_unread_max = BP_USER_UNREAD_MAX;
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
    bp_idle_init(&l->idle, l->mem);
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

void bp_link_drop_setup(struct bp_link *l)
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
    bp_link_user_del(l);
    bp_conn_del(l->conn);
    bp_link_drop_setup(l);
    for (unsigned i = 0; i < BP_DIST_STREAMS_MAX; i++) {
        if (l->deframers[i] != NULL) {
            bp_deframer_free(l->deframers[i], &l->frames);
            l->mem->release(l->mem->ctx, l->deframers[i]);
        }
    }
    bp_link_drop_held(l);
    bp_frame_queue_free(&l->frames);
    bp_order_free(&l->order);
    bp_idle_free(&l->idle);
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

/* The peer took offence at the name that we said: it stands in nobody's log but its own. */
static bool said_other_name(const struct bp_link *l, char *text, size_t cap)
{
    char shown[BP_LINK_NAME_TEXT];

    if (bp_conn_peer_reason(l->conn) != BP_E_HS_NAME_MISMATCH || l->setup == NULL ||
        l->setup->said[0] == '\0') {
        return false;
    }
    bp_err_printable(shown, sizeof(shown), l->setup->said, strlen(l->setup->said));
    snprintf(
        text, cap,
        "the peer refused our name (dist_name_mismatch): we said in the distribution handshake "
        "that we are %s",
        shown);
    return true;
}

static int fail_conn(struct bp_link *l, int err)
{
    char named[sizeof(l->text)];

    if (err == BP_E_IDLE && l->phase != BP_LINK_FAILED) {
        bp_link_idle_closed(l);
    }
    /* A callback may have said it better already. */
    if (l->text[0] != '\0' && l->phase != BP_LINK_FAILED) {
        char text[sizeof(l->text)];
        memcpy(text, l->text, sizeof(text));
        bp_link_fail(l, err, text);
    } else if (err == BP_E_PEER_CLOSED && said_other_name(l, named, sizeof(named))) {
        bp_link_fail(l, err, named);
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

int bp_link_advance(struct bp_link *l)
{
    int rc = 0;

    if (l->phase == BP_LINK_FAILED) {
        return l->err;
    }
    if (l->phase == BP_LINK_TLS && l->early_ready) {
        l->early_ready = false;
        rc = bp_link_speak_early(l);
    }
    if (rc == 0 && l->phase == BP_LINK_TLS && l->handshake_done) {
        rc = bp_link_after_tls(l);
    }
    if (rc == 0 && l->phase == BP_LINK_AUTH) {
        rc = bp_link_drain_auth(l);
    }
    if (rc == 0 &&
        (l->phase == BP_LINK_AUTH || l->phase == BP_LINK_HANDSHAKE || l->phase == BP_LINK_UP)) {
        rc = bp_link_pump_hs(l);
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
        (void)bp_link_drain_auth(l);
    }
    if (rc != 0) {
        return fail_conn(l, rc);
    }
    bp_link_idle_note(l);
    return bp_link_advance(l);
}

/*
 * A ticket takes a while to make, and a while to read: it is made while the peer is busy with our
 * challenge, and goes with the answer to what it says then.
 */
static bool ticket_due(const struct bp_link *l)
{
    return l->phase == BP_LINK_HANDSHAKE && l->setup->ticket && l->setup->out_n == 0 &&
           bp_conn_unsent(l->conn) == 0;
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
    if (ticket_due(l)) {
        l->setup->ticket = false;
        bp_conn_give_ticket(l->conn);
        return 0;
    }
    if (l->credit_due) {
        bp_link_credit(l);
    }
    bp_link_idle_note(l);
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
    return ticket_due(l) || (l->phase == BP_LINK_AUTH && l->setup->auth_ready &&
                             l->setup->auth.paused && bp_conn_unsent(l->conn) == 0);
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
    if (l->users != NULL && bp_link_user_deadline(l) < at) {
        at = bp_link_user_deadline(l);
    }
    return l->phase != BP_LINK_UP && l->deadline < at ? l->deadline : at;
}

static const char *phase_text(enum bp_link_phase phase)
{
    switch (phase) {
    case BP_LINK_TLS:
        return "no answer from the peer's address within the setup time (QUIC and TLS): it is not "
               "there, or a firewall on the way drops UDP";
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
    bp_link_user_on_timer(l);
    return bp_link_advance(l);
}

/* What ngtcp2 would pace is due by then: nobody comes back for it. */
#define FINISH_AHEAD BP_SEC
#define CLOSE_ROOM   1024u /* what the caller gives for CONNECTION_CLOSE */

size_t bp_link_finish(struct bp_link *l, uint8_t *buf, size_t cap, struct bp_tx_run *runs,
                      unsigned *n_runs, bp_time now)
{
    size_t used = 0;

    *n_runs = 0;
    bp_link_fail(l, BP_E_LOCAL_CLOSE, NULL);
    now += FINISH_AHEAD;
    if (bp_conn_write(l->conn, buf, cap - CLOSE_ROOM, runs, n_runs, now) != 0) {
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
        return n;
    }
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
    if (l->phase == BP_LINK_UP) {
        out->age_ms = (l->now - l->up_at) / BP_MS;
        out->idle_ms = (l->now - l->used_at) / BP_MS;
    }
    out->live = l->idle.n;
    out->live_doubtful = l->idle.doubtful;
    out->membership_messages = l->idle.own;
}
