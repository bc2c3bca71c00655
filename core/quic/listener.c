/* SPDX-License-Identifier: Apache-2.0 */
/* Datagrams that no connection owns (RFC 9000, sections 5.2, 6, 8.1 and 10.3). */
#include "quic/listener.h"

#include "base/err.h"

#include <gnutls/crypto.h>
#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>
#include <string.h>

#define INITIAL_DATAGRAM_MIN 1200u /* RFC 9000, 14.1 */
#define RESET_RAND_MAX       20u

int bp_listener_init(struct bp_listener *l, const uint8_t reset_secret[static 32])
{
    *l = (struct bp_listener){0};
    bp_listener_set_reset_secret(l, reset_secret);
    return gnutls_rnd(GNUTLS_RND_KEY, l->token_secret, sizeof(l->token_secret)) == 0 ? 0
                                                                                     : BP_E_CRYPTO;
}

void bp_listener_set_reset_secret(struct bp_listener *l, const uint8_t reset_secret[static 32])
{
    memcpy(l->reset_secret, reset_secret, sizeof(l->reset_secret));
}

/* --- half-open connections ----------------------------------------------- */

/* One IPv4 address, or one /64 of IPv6: what one host can easily have. */
static void source_of(const struct bp_addr *a, uint8_t out[16])
{
    struct bp_addr v6 = *a;

    memset(out, 0, 16);
    if (a->len != 0) {
        bp_addr_map_v6(&v6);
        memcpy(out, v6.u.v6.sin6_addr.s6_addr, bp_addr_is_mapped(&v6) ? 16 : 8);
    }
}

/* Hash of a source. Nobody outside can tell who shares one with whom. */
static uint32_t source_hash(const struct bp_listener *l, const struct bp_addr *remote)
{
    uint8_t source[16];
    uint64_t h;

    source_of(remote, source);
    memcpy(&h, l->token_secret, sizeof(h));
    for (size_t i = 0; i < sizeof(source); i++) {
        h = (h ^ source[i] ^ (uint64_t)l->token_secret[8 + i] << 32) * UINT64_C(0x9e3779b97f4a7c15);
        h ^= h >> 29;
    }
    return (uint32_t)(h >> 32);
}

static struct bp_half_open *find_source(struct bp_listener *l, const uint8_t source[16])
{
    for (uint32_t i = 0; i < l->n_sources; i++) {
        if (memcmp(l->sources[i].source, source, 16) == 0) {
            return &l->sources[i];
        }
    }
    return NULL;
}

void bp_listener_half_open(struct bp_listener *l, const struct bp_addr *remote, bool added)
{
    uint8_t source[16];
    struct bp_half_open *h;

    source_of(remote, source);
    h = find_source(l, source);
    if (added) {
        if (h == NULL && l->n_sources < BP_HALF_OPEN_MAX) {
            h = &l->sources[l->n_sources++];
            memcpy(h->source, source, sizeof(source));
            h->n = 0;
        }
        if (h != NULL) {
            h->n++;
        }
        l->n_half_open++;
        return;
    }
    if (l->n_half_open > 0) {
        l->n_half_open--;
    }
    if (h != NULL && --h->n == 0) {
        *h = l->sources[--l->n_sources];
    }
}

/* What one source may hold: the less, the fewer places are left. */
static uint32_t share_of_source(const struct bp_listener *l)
{
    if (l->n_half_open < BP_HALF_OPEN_ROOMY) {
        return BP_HALF_OPEN_PER_SOURCE;
    }
    return l->n_half_open < BP_HALF_OPEN_TIGHT ? BP_HALF_OPEN_PER_SOURCE_BUSY
                                               : BP_HALF_OPEN_PER_SOURCE_FULL;
}

static bool room_for(struct bp_listener *l, const struct bp_addr *remote)
{
    uint8_t source[16];
    const struct bp_half_open *h;

    source_of(remote, source);
    h = find_source(l, source);
    return l->n_half_open < BP_HALF_OPEN_MAX && (h == NULL || h->n < share_of_source(l));
}

void bp_listener_wasted(struct bp_listener *l, bp_time now)
{
    l->wasted++;
    if (now - l->wasted_window >= BP_SEC) {
        l->wasted_window = now;
        l->wasted_now = 0;
    }
    if (++l->wasted_now >= BP_WASTED_RETRY) {
        l->retry_until = now + BP_WASTED_HOLD;
    }
}

/* --- newcomers ----------------------------------------------------------- */

static struct bp_rate *newcomers_of(struct bp_listener *l, const struct bp_addr *remote)
{
    return &l->source_newcomers[source_hash(l, remote) % BP_NEWCOMER_SOURCES];
}

bool bp_listener_newcomer(struct bp_listener *l, const struct bp_addr *remote, bp_time now)
{
    struct bp_rate *source = newcomers_of(l, remote);

    if (!bp_rate_take(source, 1, BP_NEWCOMERS_PER_SOURCE, BP_NEWCOMER_SOURCE_PERIOD, now)) {
        l->newcomers_refused++;
        return false;
    }
    if (!bp_rate_take(&l->newcomers, 1, BP_NEWCOMERS_IN_ALL, BP_NEWCOMER_PERIOD, now)) {
        bp_rate_give_back(source);
        l->newcomers_refused++;
        return false;
    }
    return true;
}

void bp_listener_welcome(struct bp_listener *l, const struct bp_addr *remote)
{
    bp_rate_give_back(newcomers_of(l, remote));
    bp_rate_give_back(&l->newcomers);
}

/* --- taking datagrams apart ---------------------------------------------- */

static void to_cid(struct bp_cid *out, const uint8_t *p, size_t len)
{
    out->len = (uint8_t)(len <= BP_CID_MAX ? len : BP_CID_MAX);
    memcpy(out->data, p, out->len);
}

void bp_listener_classify(struct bp_listener *l, const uint8_t *p, size_t len,
                          struct bp_listener_result *out)
{
    ngtcp2_version_cid vc;
    int rc;

    *out = (struct bp_listener_result){.action = BP_LISTENER_DROP};
    if (len == 0) {
        return;
    }
    rc = ngtcp2_pkt_decode_version_cid(&vc, p, len, BP_CID_LEN);
    if ((rc != 0 && rc != NGTCP2_ERR_VERSION_NEGOTIATION) || vc.dcidlen > BP_CID_MAX) {
        l->dropped_short++;
        return;
    }
    out->action = BP_LISTENER_ROUTE;
    to_cid(&out->cid, vc.dcid, vc.dcidlen);
}

/* Stateless answers have a rate limit: none of them may be worth provoking. */
static bool may_reply(struct bp_listener *l, const struct bp_addr *remote, bp_time now)
{
    uint8_t *share = &l->source_replies[source_hash(l, remote) % BP_REPLY_SOURCES];

    if (now - l->reply_window >= BP_REPLY_WINDOW) {
        l->reply_window = now;
        l->replies = 0;
        memset(l->source_replies, 0, sizeof(l->source_replies));
    }
    if (*share >= BP_REPLIES_PER_SOURCE || l->replies >= BP_REPLIES_IN_ALL) {
        l->dropped_limit++;
        return false;
    }
    (*share)++;
    l->replies++;
    return true;
}

static void reply(struct bp_listener_result *out, ngtcp2_ssize n)
{
    if (n > 0) {
        out->action = BP_LISTENER_REPLY;
        out->reply_len = (size_t)n;
    }
}

static void negotiate_version(struct bp_listener *l, const ngtcp2_version_cid *vc,
                              const struct bp_addr *remote, size_t len, uint8_t *buf, size_t cap,
                              bp_time now, struct bp_listener_result *out)
{
    const uint32_t versions[] = {NGTCP2_PROTO_VER_V1};
    uint8_t unused = 0;

    if (len < INITIAL_DATAGRAM_MIN) {
        l->dropped_short++;
        return;
    }
    if (!may_reply(l, remote, now)) {
        return;
    }
    (void)gnutls_rnd(GNUTLS_RND_NONCE, &unused, 1);
    l->version_negotiations++;
    reply(out, ngtcp2_pkt_write_version_negotiation(buf, cap, unused, vc->scid, vc->scidlen,
                                                    vc->dcid, vc->dcidlen, versions, 1));
}

static void reset(struct bp_listener *l, const ngtcp2_version_cid *vc, const struct bp_addr *remote,
                  size_t len, uint8_t *buf, size_t cap, bp_time now, struct bp_listener_result *out)
{
    uint8_t token[NGTCP2_STATELESS_RESET_TOKENLEN];
    uint8_t noise[RESET_RAND_MAX];
    /* RFC 9000, 10.3.3: shorter than what caused it, so that two nodes cannot play ping-pong. The
     * keep-alive of an idle peer is about 28 bytes, and must be answered: it is all that comes. */
    size_t room = len > sizeof(token) ? len - 1 - sizeof(token) : 0;
    size_t n_noise = room < RESET_RAND_MAX ? room : RESET_RAND_MAX;
    ngtcp2_cid cid;

    if (n_noise < NGTCP2_MIN_STATELESS_RESET_RANDLEN || !may_reply(l, remote, now)) {
        return;
    }
    ngtcp2_cid_init(&cid, vc->dcid, vc->dcidlen);
    if (gnutls_rnd(GNUTLS_RND_NONCE, noise, n_noise) != 0 ||
        ngtcp2_crypto_generate_stateless_reset_token(token, l->reset_secret,
                                                     sizeof(l->reset_secret), &cid) != 0) {
        return;
    }
    l->resets++;
    reply(out, ngtcp2_pkt_write_stateless_reset(buf, cap, token, noise, n_noise));
}

static void send_retry(struct bp_listener *l, const ngtcp2_pkt_hd *hd, const struct bp_addr *remote,
                       uint8_t *buf, size_t cap, bp_time now, struct bp_listener_result *out)
{
    uint8_t token[NGTCP2_CRYPTO_MAX_RETRY_TOKENLEN2];
    ngtcp2_cid scid;
    ngtcp2_ssize n;

    if (!may_reply(l, remote, now)) {
        return;
    }
    scid.datalen = BP_CID_LEN;
    if (gnutls_rnd(GNUTLS_RND_NONCE, scid.data, scid.datalen) != 0) {
        return;
    }
    n = ngtcp2_crypto_generate_retry_token2(token, l->token_secret, sizeof(l->token_secret),
                                            hd->version, &remote->u.sa, remote->len, &scid,
                                            &hd->dcid, now);
    if (n < 0) {
        return;
    }
    l->retries++;
    reply(out, ngtcp2_crypto_write_retry(buf, cap, hd->version, &hd->scid, &scid, &hd->dcid, token,
                                         (size_t)n));
}

/* True if the Initial carries a Retry token of ours for this address; fills original_dcid. */
static bool token_ok(struct bp_listener *l, const ngtcp2_pkt_hd *hd, const struct bp_addr *remote,
                     bp_time now, struct bp_initial *initial)
{
    ngtcp2_cid odcid;

    if (hd->tokenlen == 0 || hd->token[0] != NGTCP2_CRYPTO_TOKEN_MAGIC_RETRY2) {
        return false; /* none, or a token of another kind, which we never ask for */
    }
    if (ngtcp2_crypto_verify_retry_token2(
            &odcid, hd->token, hd->tokenlen, l->token_secret, sizeof(l->token_secret), hd->version,
            &remote->u.sa, remote->len, &hd->dcid, BP_RETRY_TOKEN_LIFETIME, now) != 0) {
        return false;
    }
    to_cid(&initial->original_dcid, odcid.data, odcid.datalen);
    initial->retried = true;
    initial->token = hd->token;
    initial->token_len = hd->tokenlen;
    return true;
}

static void accept_initial(struct bp_listener *l, const ngtcp2_pkt_hd *hd,
                           const struct bp_addr *remote, uint8_t *buf, size_t cap, bp_time now,
                           struct bp_listener_result *out)
{
    struct bp_initial *in = &out->initial;

    to_cid(&in->original_dcid, hd->dcid.data, hd->dcid.datalen);
    if (!token_ok(l, hd, remote, now, in)) {
        /* RFC 9000, 7.2. ngtcp2_accept lets it pass with any token. Nobody may own an empty id. */
        if (hd->dcid.datalen < NGTCP2_MIN_INITIAL_DCIDLEN) {
            l->dropped_short++;
            return;
        }
        if (l->n_half_open >= BP_HALF_OPEN_RETRY || now < l->retry_until) {
            send_retry(l, hd, remote, buf, cap, now, out);
            return;
        }
    }
    if (!room_for(l, remote)) {
        l->dropped_limit++;
        return;
    }
    in->version = hd->version;
    to_cid(&in->client_scid, hd->scid.data, hd->scid.datalen);
    to_cid(&in->client_dcid, hd->dcid.data, hd->dcid.datalen);
    out->action = BP_LISTENER_ACCEPT;
}

void bp_listener_unknown(struct bp_listener *l, const struct bp_addr *remote, const uint8_t *p,
                         size_t len, uint8_t *buf, size_t cap, bp_time now,
                         struct bp_listener_result *out)
{
    ngtcp2_version_cid vc;
    ngtcp2_pkt_hd hd;
    int rc;

    out->action = BP_LISTENER_DROP;
    out->reply_len = 0;
    if (len == 0) {
        return;
    }
    rc = ngtcp2_pkt_decode_version_cid(&vc, p, len, BP_CID_LEN);
    if (rc == NGTCP2_ERR_VERSION_NEGOTIATION) {
        negotiate_version(l, &vc, remote, len, buf, cap, now, out);
        return;
    }
    if (rc != 0) {
        l->dropped_short++;
        return;
    }
    if ((p[0] & 0x80) == 0) {
        reset(l, &vc, remote, len, buf, cap, now, out);
        return;
    }
    if (len < INITIAL_DATAGRAM_MIN || ngtcp2_accept(&hd, p, len) != 0) {
        l->dropped_short++;
        return;
    }
    accept_initial(l, &hd, remote, buf, cap, now, out);
}

void bp_initial_config(const struct bp_initial *in, struct bp_conn_config *cfg)
{
    cfg->version = in->version;
    cfg->client_scid = in->client_scid;
    cfg->client_dcid = in->client_dcid;
    cfg->original_dcid = in->original_dcid;
    cfg->retried = in->retried;
    cfg->token = in->token;
    cfg->token_len = in->token_len;
}
