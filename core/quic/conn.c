/* SPDX-License-Identifier: Apache-2.0 */
/* Life of a QUIC connection: settings, timers, close, what ended it. */
#include "quic/conn_impl.h"

#include "quic/tls_cert.h"

#include <gnutls/crypto.h>
#include <stdio.h>
#include <string.h>

/* DESIGN 5: the RFC's 333 ms make the first timeouts 1 + 2 + 4 s, which loses connects. */
#define INITIAL_RTT             (100 * BP_MS)
#define INITIAL_MAX_DATA        (16u * 1024u * 1024u)
#define INITIAL_MAX_STREAM_DATA (4u * 1024u * 1024u)
#define MAX_WINDOW              (256u * 1024u * 1024u)
#define MAX_STREAM_WINDOW       (64u * 1024u * 1024u)
#define MAX_STREAMS             100u /* WIRE 0.2 */
/* Who takes and sends early names allows one uni stream more; it is never used. */
#define EARLY_NAME_STREAM       1u
#define MAX_STREAMS_BIDI        256u /* 17 are for distribution, the others user streams at once */
#define ACTIVE_CID_LIMIT        8u
/* "Glitches", per second, after which ngtcp2 >= 1.15 ends a connection. Stream data that arrives
 * twice is one, so a path with loss and jitter makes hundreds a second with nobody at fault (its
 * default is 33, 330 since 1.18). Ours are above what a path of 10 Gbit/s can bring in packets. */
#define GLITCHES                1000000u
/* While both hosts tell that they are connected, nothing else is in their way. */
#define LATE                    BP_MS
/* The ticket of a server of our own comes before that, if it is not lost. */
#define TICKET_WAIT             BP_SEC
/* ngtcp2 shows its ACK delay (a fraction of the round-trip time) as a deadline. */
#define MIN_TIMER               BP_MS

/* Sizes to probe: IPv6's minimum MTU, Ethernet, jumbo frames, the loopback (four to a batch). */
static const uint16_t mtu_probes[] = {1232, 1452, 8952, BP_DGRAM_SENT};
#define MTU_PROBES (sizeof(mtu_probes) / sizeof(mtu_probes[0]))

static void *mem_malloc(size_t size, void *ctx)
{
    const struct bp_mem *m = ctx;
    return m->alloc(m->ctx, size);
}

static void mem_free(void *p, void *ctx)
{
    const struct bp_mem *m = ctx;
    m->release(m->ctx, p);
}

static void *mem_calloc(size_t n, size_t size, void *ctx)
{
    return bp_mem_zalloc(ctx, n, size);
}

static void *mem_realloc(void *p, size_t size, void *ctx)
{
    const struct bp_mem *m = ctx;
    return m->grow(m->ctx, p, size);
}

static ngtcp2_conn *get_conn(ngtcp2_crypto_conn_ref *ref)
{
    struct bp_conn *c = ref->user_data;
    return c->q;
}

void bp_conn_fill_path(const struct bp_addr *local, const struct bp_addr *remote, ngtcp2_path *out)
{
    /* ngtcp2's type has no const, but it copies what it needs. */
    union {
        const struct sockaddr *in;
        struct sockaddr *out;
    } l = {.in = &local->u.sa}, r = {.in = &remote->u.sa};

    *out = (ngtcp2_path){.local = {.addr = l.out, .addrlen = local->len},
                         .remote = {.addr = r.out, .addrlen = remote->len}};
}

/* The sizes below a limit, and the limit itself unless it is less than what is sent anyway; their
 * number. */
static size_t limited_probes(uint16_t limit, uint16_t out[static MTU_PROBES])
{
    size_t n = 0;

    while (n < MTU_PROBES && mtu_probes[n] < limit) {
        out[n] = mtu_probes[n];
        n++;
    }
    if (n < MTU_PROBES && limit > BP_DGRAM_MIN) {
        out[n++] = limit;
    }
    return n;
}

/* `probes` is memory for a list that lives as long as `s`; ngtcp2 copies it. */
static void fill_settings(ngtcp2_settings *s, const struct bp_conn_config *cfg, bp_time now,
                          uint16_t probes[static MTU_PROBES])
{
    uint16_t limit = BP_DGRAM_MAX;

    if (cfg->max_datagram != 0 && cfg->max_datagram < BP_DGRAM_MAX) {
        limit = cfg->max_datagram > BP_DGRAM_MIN ? (uint16_t)cfg->max_datagram : BP_DGRAM_MIN;
    }
    ngtcp2_settings_default(s);
    s->initial_ts = now;
    s->initial_rtt = INITIAL_RTT;
    s->max_tx_udp_payload_size = limit;
    s->pmtud_probeslen = limited_probes(limit, probes);
    s->pmtud_probes = probes;
    s->no_pmtud = s->pmtud_probeslen == 0;
    s->cc_algo = NGTCP2_CC_ALGO_BBR; /* loss alone is no congestion (ARCHITECTURE.md) */
    /* ngtcp2 leaves an acknowledgement out of a datagram that follows within an eighth of the
     * round-trip time, unless so many packets came. */
    s->ack_thresh = 1;
#ifdef NGTCP2_SETTINGS_V3
    s->glitch_ratelim_burst = GLITCHES;
    s->glitch_ratelim_rate = GLITCHES;
#endif
    s->max_window = MAX_WINDOW;
    s->max_stream_window = MAX_STREAM_WINDOW;
    s->handshake_timeout = cfg->handshake_timeout != 0 ? cfg->handshake_timeout : UINT64_MAX;
    s->token = cfg->token;
    s->tokenlen = cfg->token_len;
    s->token_type = cfg->token_len != 0 ? NGTCP2_TOKEN_TYPE_RETRY : NGTCP2_TOKEN_TYPE_UNKNOWN;
}

static void fill_params(ngtcp2_transport_params *p, const struct bp_conn_config *cfg)
{
    ngtcp2_transport_params_default(p);
    p->initial_max_data = INITIAL_MAX_DATA;
    p->initial_max_stream_data_bidi_local = INITIAL_MAX_STREAM_DATA;
    p->initial_max_stream_data_bidi_remote = INITIAL_MAX_STREAM_DATA;
    p->initial_max_stream_data_uni = INITIAL_MAX_STREAM_DATA;
    p->initial_max_streams_bidi = MAX_STREAMS_BIDI;
    p->initial_max_streams_uni = MAX_STREAMS + (cfg->early_name ? EARLY_NAME_STREAM : 0);
    p->max_idle_timeout = cfg->idle_timeout;
    p->active_connection_id_limit = ACTIVE_CID_LIMIT;
    p->disable_active_migration = cfg->no_migration;
}

static int random_cid(ngtcp2_cid *cid, size_t len)
{
    cid->datalen = len;
    return gnutls_rnd(GNUTLS_RND_NONCE, cid->data, len) == 0 ? 0 : BP_E_CRYPTO;
}

/*
 * The first of the ids that we issue. ngtcp2 looks the id of each packet up in a sorted list, from
 * its start: the one that nearly all packets of a connection carry is before those that it gets
 * for other paths, which have the bit set (BP_LATER_CID).
 */
static int first_cid(ngtcp2_cid *cid)
{
    int rc = random_cid(cid, BP_CID_LEN);

    cid->data[0] &= (uint8_t)~BP_LATER_CID;
    return rc;
}

static int new_client(struct bp_conn *c, const struct bp_conn_config *cfg,
                      const ngtcp2_callbacks *cb, const ngtcp2_settings *settings,
                      const ngtcp2_transport_params *params)
{
    ngtcp2_cid dcid;
    ngtcp2_cid scid;
    ngtcp2_path path;

    /* WIRE 1.1: upstream's server takes ids of any length; RFC 9000, 7.2 wants >= 8. */
    if (random_cid(&dcid, 16) != 0 || first_cid(&scid) != 0) {
        return BP_E_CRYPTO;
    }
    bp_conn_fill_path(&cfg->local, &cfg->remote, &path);
    if (ngtcp2_conn_client_new(&c->q, &dcid, &scid, &path, NGTCP2_PROTO_VER_V1, cb, settings,
                               params, &c->qmem, c) != 0) {
        c->q = NULL; /* ngtcp2 leaves a pointer to what it freed */
        return BP_E_NOMEM;
    }
    return 0;
}

static int new_server(struct bp_conn *c, const struct bp_conn_config *cfg,
                      const ngtcp2_callbacks *cb, const ngtcp2_settings *settings,
                      ngtcp2_transport_params *params)
{
    ngtcp2_cid dcid;
    ngtcp2_cid scid;
    ngtcp2_path path;

    if (first_cid(&scid) != 0) {
        return BP_E_CRYPTO;
    }
    ngtcp2_cid_init(&dcid, cfg->client_scid.data, cfg->client_scid.len);
    ngtcp2_cid_init(&params->original_dcid, cfg->original_dcid.data, cfg->original_dcid.len);
    params->original_dcid_present = 1;
    if (cfg->retried) {
        ngtcp2_cid_init(&params->retry_scid, cfg->client_dcid.data, cfg->client_dcid.len);
        params->retry_scid_present = 1;
    }
    if (ngtcp2_crypto_generate_stateless_reset_token(params->stateless_reset_token, c->reset_secret,
                                                     sizeof(c->reset_secret), &scid) != 0) {
        return BP_E_CRYPTO;
    }
    params->stateless_reset_token_present = 1;
    bp_conn_fill_path(&cfg->local, &cfg->remote, &path);
    if (ngtcp2_conn_server_new(&c->q, &dcid, &scid, &path, cfg->version, cb, settings, params,
                               &c->qmem, c) != 0) {
        c->q = NULL;
        return BP_E_NOMEM;
    }
    return 0;
}

static int set_up(struct bp_conn *c, const struct bp_conn_config *cfg, bp_time now)
{
    ngtcp2_callbacks cb;
    ngtcp2_settings settings;
    ngtcp2_transport_params params;
    uint16_t probes[MTU_PROBES];
    int rc;

    bp_conn_callbacks(&cb, c->server);
    fill_settings(&settings, cfg, now, probes);
    fill_params(&params, cfg);
    rc = c->server ? new_server(c, cfg, &cb, &settings, &params)
                   : new_client(c, cfg, &cb, &settings, &params);
    if (rc != 0) {
        return rc;
    }
    rc = bp_tls_session_new(&c->tls, c->server, c->cred, &c->ref);
    if (rc != 0) {
        return rc;
    }
    if (c->server && cfg->ticket_key != NULL) {
        bp_tls_session_tickets(c->tls, cfg->ticket_key);
        c->gives_ticket = true;
    }
    c->wants_session = !c->server && cfg->keep_session;
    if (!c->server && cfg->session_len > 0) {
        bp_tls_session_resume(c->tls, cfg->session, cfg->session_len);
    }
    ngtcp2_conn_set_tls_native_handle(c->q, c->tls);
    return 0;
}

int bp_conn_new(struct bp_conn **out, bool server, const struct bp_conn_config *cfg, bp_time now)
{
    struct bp_conn *c = bp_mem_zalloc(cfg->mem, 1, sizeof(*c));
    int rc;

    *out = NULL;
    if (c == NULL) {
        return BP_E_NOMEM;
    }
    c->mem = cfg->mem;
    c->qmem = (ngtcp2_mem){.user_data = (void *)(uintptr_t)cfg->mem,
                           .malloc = mem_malloc,
                           .free = mem_free,
                           .calloc = mem_calloc,
                           .realloc = mem_realloc};
    c->ref = (ngtcp2_crypto_conn_ref){.get_conn = get_conn, .user_data = c};
    c->ops = cfg->ops;
    c->user = cfg->user;
    c->owner = cfg->owner;
    c->server = server;
    c->early_name = cfg->early_name;
    c->local = cfg->local;
    c->remote = cfg->remote;
    c->keepalive = cfg->keepalive;
    c->last_authentic = now;
    c->cred = bp_tls_cred_ref(cfg->cred);
    memcpy(c->reset_secret, cfg->reset_secret, sizeof(c->reset_secret));
    bp_block_pool_init(&c->pool, c->mem);
    c->now = now;
    rc = set_up(c, cfg, now);
    if (rc != 0) {
        bp_conn_del(c);
        return rc;
    }
    *out = c;
    return 0;
}

static void tls_del(struct bp_conn *c)
{
    if (c->tls != NULL) {
        gnutls_deinit(c->tls);
        c->tls = NULL;
    }
}

static void session_del(struct bp_conn *c)
{
    if (c->session != NULL) {
        bp_wipe(c->session, BP_SESSION_MAX);
        c->mem->release(c->mem->ctx, c->session);
        c->session = NULL;
        c->session_len = 0;
    }
}

void bp_conn_del(struct bp_conn *c)
{
    if (c == NULL) {
        return;
    }
    ngtcp2_conn_del(c->q);
    tls_del(c);
    session_del(c);
    for (unsigned i = 0; i < c->n_streams; i++) {
        bp_sendq_free(&c->streams[i].q, &c->pool, &c->owner);
    }
    bp_block_pool_free(&c->pool);
    c->mem->release(c->mem->ctx, c->runs);
    bp_tls_cred_unref(c->cred);
    bp_wipe(c->reset_secret, sizeof(c->reset_secret));
    c->mem->release(c->mem->ctx, c);
}

/* --- what ended it ------------------------------------------------------- */

static int peer_closed(struct bp_conn *c)
{
    const ngtcp2_ccerr *e = ngtcp2_conn_get_ccerr(c->q);
    char reason[80];

    bp_err_printable(reason, sizeof(reason), e->reason, e->reasonlen);
    if (e->type == NGTCP2_CCERR_TYPE_APPLICATION) {
        int err = bp_err_from_close_code(e->error_code);
        c->peer_reason = bp_err_from_atom(reason);
        const char *what = c->peer_reason != 0 ? "it says why" : "no error";
        snprintf(c->text, sizeof(c->text), "the peer closed the connection: %s (code 0x%llx%s%s)",
                 err == BP_E_PEER_CLOSED ? what : bp_err_text(err),
                 (unsigned long long)e->error_code, reason[0] != '\0' ? ": " : "", reason);
        return err == BP_E_IDLE ? BP_E_IDLE : BP_E_PEER_CLOSED;
    }
    if (e->error_code >= 0x100 && e->error_code < 0x200) {
        unsigned alert = (unsigned)(e->error_code - 0x100);
        const char *name = gnutls_alert_get_name((gnutls_alert_description_t)alert);
        snprintf(c->text, sizeof(c->text), "the peer refused the TLS handshake: alert %u (%s)",
                 alert, name != NULL ? name : "unknown");
        return alert == GNUTLS_A_NO_APPLICATION_PROTOCOL ? BP_E_ALPN : BP_E_TLS;
    }
    snprintf(c->text, sizeof(c->text), "the peer closed the connection: QUIC error 0x%llx%s%s",
             (unsigned long long)e->error_code, reason[0] != '\0' ? ": " : "", reason);
    return BP_E_PEER_CLOSED;
}

static int tls_failed(struct bp_conn *c)
{
    uint8_t alert = ngtcp2_conn_get_tls_alert(c->q);
    const char *name = gnutls_alert_get_name((gnutls_alert_description_t)alert);

    if (alert == GNUTLS_A_NO_APPLICATION_PROTOCOL) {
        snprintf(c->text, sizeof(c->text), "the peer does not speak " BP_ALPN " (ALPN)");
        return BP_E_ALPN;
    }
    snprintf(c->text, sizeof(c->text), "the TLS handshake failed: alert %u (%s)", alert,
             name != NULL ? name : "unknown");
    return BP_E_TLS;
}

static int translate(struct bp_conn *c, int lib_err)
{
    switch (lib_err) {
    case NGTCP2_ERR_CALLBACK_FAILURE:
        snprintf(c->text, sizeof(c->text), "%s",
                 bp_err_text(c->cb_err != 0 ? c->cb_err : BP_E_INTERNAL));
        return c->cb_err != 0 ? c->cb_err : BP_E_INTERNAL;
    case NGTCP2_ERR_DRAINING:
        return peer_closed(c);
    case NGTCP2_ERR_CRYPTO:
        return tls_failed(c);
    case NGTCP2_ERR_NOMEM:
        snprintf(c->text, sizeof(c->text), "%s", bp_err_text(BP_E_NOMEM));
        return BP_E_NOMEM;
    case NGTCP2_ERR_IDLE_CLOSE:
        snprintf(c->text, sizeof(c->text), "nothing was heard from the peer for the idle timeout");
        return BP_E_IDLE_TIMEOUT;
    case NGTCP2_ERR_HANDSHAKE_TIMEOUT:
        snprintf(c->text, sizeof(c->text), "the TLS handshake did not finish in time");
        return BP_E_TIMEOUT;
    case NGTCP2_ERR_RECV_VERSION_NEGOTIATION:
    case NGTCP2_ERR_VERSION_NEGOTIATION_FAILURE:
        snprintf(c->text, sizeof(c->text), "%s", bp_err_text(BP_E_VERSION));
        return BP_E_VERSION;
    case NGTCP2_ERR_DROP_CONN:
    case NGTCP2_ERR_RETRY:
        snprintf(c->text, sizeof(c->text), "%s", bp_err_text(BP_E_FIRST_PACKET));
        return BP_E_FIRST_PACKET;
    case NGTCP2_ERR_CLOSING:
        snprintf(c->text, sizeof(c->text), "closed by this node");
        return BP_E_LOCAL_CLOSE;
    default:
        snprintf(c->text, sizeof(c->text), "QUIC: %s", ngtcp2_strerror(lib_err));
        return ngtcp2_err_is_fatal(lib_err) ? BP_E_INTERNAL : BP_E_PROTOCOL;
    }
}

int bp_conn_fail(struct bp_conn *c, int lib_err)
{
    if (c->err == 0) {
        c->lib_err = lib_err;
        c->err = translate(c, lib_err);
        if (lib_err == NGTCP2_ERR_DRAINING || lib_err == NGTCP2_ERR_DROP_CONN ||
            lib_err == NGTCP2_ERR_IDLE_CLOSE || lib_err == NGTCP2_ERR_RETRY) {
            c->closed = true; /* RFC 9000, 10.1 and 10.2.2: nothing is sent */
        }
        if (c->err == BP_E_STATELESS_RESET) {
            c->closed = true;
        }
        /* ngtcp2 is half-way through something then, and crashes when it is asked for a close. A
         * callback of ours that refuses is no such case. */
        if (ngtcp2_err_is_fatal(lib_err) && c->cb_err == 0) {
            c->closed = true;
        }
    }
    return c->err;
}

int bp_conn_peer_reason(const struct bp_conn *c)
{
    return c->peer_reason;
}

const char *bp_conn_error_text(const struct bp_conn *c)
{
    return c->text[0] != '\0' ? c->text : bp_err_text(c->err);
}

/* --- reading and time ---------------------------------------------------- */

bp_time bp_conn_clock(struct bp_conn *c, bp_time now)
{
    c->now = now > c->now ? now : c->now;
    return c->now;
}

/* After bp_conn_settle: gives the TLS session back once the ticket has come, or does not. */
static void tls_wait(struct bp_conn *c, bp_time now)
{
    if (c->tls_until != 0 && (!c->wants_session || now >= c->tls_until)) {
        c->tls_until = 0;
        tls_del(c);
    }
}

int bp_conn_read(struct bp_conn *c, const struct bp_addr *local, const struct bp_addr *remote,
                 const uint8_t *p, size_t len, bp_time now)
{
    ngtcp2_path path;
    ngtcp2_pkt_info pi = {0};
    bool *decrypted;
    int rc;

    if (c->err != 0) {
        return c->err;
    }
    if (len == 0) {
        return 0; /* ngtcp2 takes no empty datagram */
    }
    decrypted = bp_conn_decrypted();
    *decrypted = false;
    bp_conn_fill_path(local, remote, &path);
    now = bp_conn_clock(c, now);
    rc = ngtcp2_conn_read_pkt(c->q, &path, &pi, p, len, now);
    c->datagrams_received++;
    c->bytes_received += len;
    c->read_since_write += len;
    if (*decrypted) {
        c->last_authentic = now;
        c->mtu_unanswered = false;
    }
    if (c->server && !bp_addr_equal(remote, &c->remote)) {
        bp_conn_path_other(c, remote);
    }
    tls_wait(c, now);
    return rc == 0 ? 0 : bp_conn_fail(c, rc);
}

/*
 * Where nothing is under way only a keep-alive or the end of the idle time is due. Those of all
 * connections fall on one grid, so that a node with hundreds of idle peers wakes up for many at
 * once: waking up costs more than the datagram.
 */
static bp_time on_grid(const struct bp_conn *c, bp_time at, bp_time now)
{
    const bp_time grid = c->keepalive / 8;
    ngtcp2_conn_info info;

    if (grid == 0 || at == BP_TIME_NEVER || at < now + grid || c->unsent > 0) {
        return at;
    }
    ngtcp2_conn_get_conn_info(c->q, &info);
    return info.bytes_in_flight > 0 ? at : (at + grid - 1) / grid * grid;
}

bp_time bp_conn_deadline(const struct bp_conn *c, bp_time now)
{
    bp_time at;

    if (c->err != 0 || c->closed) {
        return BP_TIME_NEVER;
    }
    at = ngtcp2_conn_get_expiry(c->q);
    at = c->late_at != 0 && c->late_at < at ? c->late_at : at;
    if (c->coarse && at < now + MIN_TIMER) {
        return now + MIN_TIMER;
    }
    return c->coarse ? on_grid(c, at, now) : at;
}

void bp_conn_coarse(struct bp_conn *c)
{
    c->coarse = true;
}

void bp_conn_settle(struct bp_conn *c)
{
    c->coarse = true;
    c->settled = true;
    c->late_at = c->now + LATE;
    if (c->tls != NULL && c->handshake_done) {
        c->gives_ticket = false;
        c->wants_session = c->wants_session && bp_conn_peer_is_ours(c);
        c->tls_until = c->now + TICKET_WAIT;
        tls_wait(c, c->now);
    }
}

void bp_conn_late(struct bp_conn *c, bp_time now)
{
    if (now >= c->late_at) {
        c->late_at = 0;
    }
}

bool bp_conn_has_ticket(const struct bp_conn *c)
{
    return c->gives_ticket && c->tls != NULL && bp_conn_peer_is_ours(c);
}

void bp_conn_give_ticket(struct bp_conn *c)
{
    if (bp_conn_has_ticket(c)) {
        bp_tls_session_give(c->tls); /* ngtcp2 copies it */
    }
    c->gives_ticket = false;
}

bool bp_conn_note_session(struct bp_conn *c)
{
    if (c->session == NULL) {
        c->session = c->mem->alloc(c->mem->ctx, BP_SESSION_MAX);
    }
    c->session_len =
        c->session != NULL ? bp_tls_session_save(c->tls, c->session, BP_SESSION_MAX) : 0;
    if (c->session_len == 0) {
        session_del(c);
        return false;
    }
    c->wants_session = false;
    return true;
}

size_t bp_conn_take_session(struct bp_conn *c, uint8_t out[static BP_SESSION_MAX])
{
    size_t len = c->session_len;

    if (len > 0) {
        memcpy(out, c->session, len);
    }
    session_del(c);
    return len;
}

bool bp_conn_resumed(const struct bp_conn *c)
{
    return c->resumed;
}

int bp_conn_on_timer(struct bp_conn *c, bp_time now)
{
    int rc;

    if (c->err != 0) {
        return c->err;
    }
    tls_wait(c, now);
    if (ngtcp2_conn_get_expiry(c->q) > now) {
        return 0;
    }
    rc = ngtcp2_conn_handle_expiry(c->q, bp_conn_clock(c, now));
    return rc == 0 ? 0 : bp_conn_fail(c, rc);
}

size_t bp_conn_write_close(struct bp_conn *c, int err, uint8_t *buf, size_t cap,
                           struct bp_tx_run *run, bp_time now)
{
    ngtcp2_ccerr ccerr;
    ngtcp2_path_storage ps;
    ngtcp2_pkt_info pi;
    ngtcp2_ssize n;
    const char *reason = err != 0 ? bp_err_atom(err) : "";
    const uint8_t *r = (const uint8_t *)reason;

    if (c->closed) {
        return 0;
    }
    ngtcp2_ccerr_default(&ccerr);
    if (c->lib_err == NGTCP2_ERR_CRYPTO) {
        ngtcp2_ccerr_set_tls_alert(&ccerr, ngtcp2_conn_get_tls_alert(c->q), NULL, 0);
    } else if (c->lib_err != 0 && c->lib_err != NGTCP2_ERR_CALLBACK_FAILURE) {
        ngtcp2_ccerr_set_liberr(&ccerr, c->lib_err, NULL, 0);
    } else if (err == BP_E_ALPN) {
        ngtcp2_ccerr_set_tls_alert(&ccerr, GNUTLS_A_NO_APPLICATION_PROTOCOL, NULL, 0);
    } else {
        ngtcp2_ccerr_set_application_error(&ccerr, bp_err_close_code(err), r, strlen(reason));
    }
    ngtcp2_path_storage_zero(&ps);
    n = ngtcp2_conn_write_connection_close(c->q, &ps.path, &pi, buf, cap, &ccerr,
                                           bp_conn_clock(c, now));
    c->closed = true;
    if (c->err == 0) {
        c->err = err != 0 ? err : BP_E_LOCAL_CLOSE;
    }
    if (n <= 0) {
        return 0;
    }
    *run = (struct bp_tx_run){.len = (size_t)n, .seg = (size_t)n};
    if (!bp_addr_from_sockaddr(&run->local, ps.path.local.addr, ps.path.local.addrlen) ||
        !bp_addr_from_sockaddr(&run->remote, ps.path.remote.addr, ps.path.remote.addrlen)) {
        run->local = c->local;
        run->remote = c->remote;
    }
    return (size_t)n;
}

void bp_conn_probe(struct bp_conn *c)
{
    c->probe = true;
}

bool bp_cid_equal(const struct bp_cid *a, const struct bp_cid *b)
{
    return a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
}

/* --- look-ups ------------------------------------------------------------ */

int bp_conn_binding(const struct bp_conn *c, uint8_t out[static BP_BINDING_LEN])
{
    const uint8_t *der;
    size_t len;

    if (c->server) {
        memcpy(out, bp_tls_cred_binding(c->cred), BP_BINDING_LEN);
        return 0;
    }
    der = bp_conn_peer_cert(c, &len);
    if (der == NULL) {
        return BP_E_STATE;
    }
    return gnutls_hash_fast(GNUTLS_DIG_SHA256, der, len, out) == 0 ? 0 : BP_E_CRYPTO;
}

const uint8_t *bp_conn_peer_cert(const struct bp_conn *c, size_t *len)
{
    *len = 0;
    return c->tls != NULL ? bp_tls_session_peer_cert(c->tls, len) : NULL;
}

bool bp_conn_peer_is_ours(const struct bp_conn *c)
{
    const ngtcp2_transport_params *p = ngtcp2_conn_get_remote_transport_params(c->q);

    return p != NULL && p->version_info_present && p->max_udp_payload_size >= BP_DGRAM_MAX &&
           p->active_connection_id_limit == ACTIVE_CID_LIMIT;
}

bool bp_conn_early_name(const struct bp_conn *c)
{
    const ngtcp2_transport_params *p = ngtcp2_conn_get_remote_transport_params(c->q);

    return c->early_name && bp_conn_peer_is_ours(c) &&
           p->initial_max_streams_uni == MAX_STREAMS + EARLY_NAME_STREAM;
}

const struct bp_addr *bp_conn_remote(const struct bp_conn *c)
{
    return &c->remote;
}

void bp_conn_stats(const struct bp_conn *c, struct bp_conn_stats *out)
{
    ngtcp2_conn_info info;
    size_t size =
        c->small ? NGTCP2_MAX_UDP_PAYLOAD_SIZE : ngtcp2_conn_get_path_max_tx_udp_payload_size(c->q);

    ngtcp2_conn_get_conn_info(c->q, &info);
    *out = (struct bp_conn_stats){.latest_rtt = info.latest_rtt,
                                  .min_rtt = info.min_rtt == UINT64_MAX ? 0 : info.min_rtt,
                                  .smoothed_rtt = info.smoothed_rtt,
                                  .rttvar = info.rttvar,
                                  .cwnd = info.cwnd,
                                  .bytes_in_flight = info.bytes_in_flight,
                                  .datagram_size = size,
                                  .packets_sent = c->packets_sent,
#ifdef NGTCP2_CONN_INFO_V2
                                  .packets_lost = info.pkt_lost,
#else
                                  .packets_lost = BP_UNKNOWN,
#endif
                                  .migrations = c->migrations,
                                  .in_recovery = bp_conn_in_recovery(c),
                                  .datagrams_received = c->datagrams_received,
                                  .bytes_sent = c->bytes_sent,
                                  .bytes_received = c->bytes_received,
                                  .last_authentic = c->last_authentic,
                                  .pto = ngtcp2_conn_get_pto(c->q)};
}

void bp_conn_list_cids(struct bp_conn *c)
{
    ngtcp2_cid cids[ACTIVE_CID_LIMIT * 2];
    size_t n = ngtcp2_conn_get_scid(c->q, NULL);

    if (n > sizeof(cids) / sizeof(cids[0])) {
        return; /* cannot be: we issue no more than the limit */
    }
    n = ngtcp2_conn_get_scid(c->q, cids);
    for (size_t i = 0; i < n; i++) {
        struct bp_cid cid = {.len = (uint8_t)cids[i].datalen};
        memcpy(cid.data, cids[i].data, cids[i].datalen);
        c->ops->cid(c->user, &cid, true);
    }
}
