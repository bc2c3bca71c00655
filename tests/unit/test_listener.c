/* SPDX-License-Identifier: Apache-2.0 */
/* Datagrams of no connection: which are routed or accepted, the limits, and Retry. */
#include "support/t.h"

#include "unit/listener_side.h"

#include <gnutls/crypto.h>
#include <ngtcp2/ngtcp2_crypto.h>

#define RETRY_TAG 16u

/* --- routing ------------------------------------------------------------- */

static void listener_short_headers_are_routed_by_eight_bytes(void **state)
{
    struct fix f;
    (void)state;

    setup(&f);
    for (size_t len = 1 + BP_CID_LEN; len < 100; len++) {
        put_short(&f, len);
        assert_int_equal(classify(&f), BP_LISTENER_ROUTE);
        assert_cid(&f.r.cid, f.pkt + 1, BP_CID_LEN);
    }
    for (size_t len = 0; len < 1 + BP_CID_LEN; len++) {
        put_short(&f, len);
        assert_int_equal(classify(&f), BP_LISTENER_DROP);
    }
    assert_int_equal(f.l.dropped_short, BP_CID_LEN); /* an empty datagram is not counted */
}

static void listener_long_headers_are_routed_whatever_their_kind(void **state)
{
    static const size_t lens[] = {0, 1, 7, 8, 19, 20};
    struct fix f;
    (void)state;

    setup(&f);
    for (unsigned kind = KIND_INIT; kind <= KIND_RETRY; kind++) {
        for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
            struct lh h = header(V1, lens[i], 20 - lens[i]);

            h.kind = kind;
            put_long(&f, &h, 100); /* too short to begin something, not to go on with it */
            assert_int_equal(classify(&f), BP_LISTENER_ROUTE);
            assert_cid(&f.r.cid, h.dcid, h.dcid_len);
        }
    }
    assert_int_equal(f.l.dropped_short, 0);
}

static void listener_initial_is_accepted_with_its_ids(void **state)
{
    static const size_t dcid_lens[] = {8, 9, 18, 20};
    static const size_t scid_lens[] = {0, 1, 8, 20};
    struct fix f;
    (void)state;

    setup(&f);
    for (size_t i = 0; i < 4; i++) {
        for (size_t k = 0; k < 4; k++) {
            struct lh h = header(V1, dcid_lens[i], scid_lens[k]);

            put_long(&f, &h, FULL);
            assert_int_equal(feed(&f), BP_LISTENER_ACCEPT);
            assert_int_equal(f.r.initial.version, V1);
            assert_cid(&f.r.initial.client_dcid, h.dcid, h.dcid_len);
            assert_cid(&f.r.initial.original_dcid, h.dcid, h.dcid_len);
            assert_cid(&f.r.initial.client_scid, h.scid, h.scid_len);
            assert_false(f.r.initial.retried);
            assert_null(f.r.initial.token);
            assert_int_equal(f.r.initial.token_len, 0);
        }
    }
    assert_int_equal(f.l.dropped_short, 0);
}

static void listener_only_a_full_initial_begins_a_connection(void **state)
{
    struct lh h = header(V1, 8, 8);
    struct fix f;
    (void)state;

    setup(&f);
    put_long(&f, &h, FULL - 1);
    assert_int_equal(feed(&f), BP_LISTENER_DROP);
    for (h.kind = KIND_0RTT; h.kind <= KIND_RETRY; h.kind++) {
        put_long(&f, &h, FULL);
        assert_int_equal(feed(&f), BP_LISTENER_DROP);
    }
    assert_int_equal(f.l.dropped_short, 4);
    assert_int_equal(f.l.retries + f.l.resets + f.l.version_negotiations, 0);
}

/* --- broken headers ------------------------------------------------------ */

static void listener_bad_id_lengths_begin_nothing(void **state)
{
    static const uint8_t token[] = {0x36, 1, 2, 3};
    struct fix f;
    (void)state;

    setup(&f);
    for (size_t len = 21; len <= 255; len += 78) { /* 21, 99, 177, 255 */
        struct lh h = header(V1, len, 8);

        put_long(&f, &h, FULL);
        assert_int_equal(classify(&f), BP_LISTENER_DROP);
        h = header(V1, 8, len);
        put_long(&f, &h, FULL);
        assert_int_equal(classify(&f), BP_LISTENER_DROP);
    }
    assert_int_equal(f.l.dropped_short, 8);
    /* RFC 9000, 7.2: at least 8 bytes, unless we chose the id. A token alone does not show that. */
    for (size_t len = 0; len < 8; len++) {
        struct lh h = header(V1, len, 8);

        put_long(&f, &h, FULL);
        assert_int_equal(feed(&f), BP_LISTENER_DROP);
        h.token = token;
        h.token_len = sizeof(token);
        put_long(&f, &h, FULL);
        assert_int_equal(feed(&f), BP_LISTENER_DROP);
    }
    assert_int_equal(f.l.dropped_short, 8 + 16);
    crowd(&f, BP_HALF_OPEN_RETRY, true); /* nor is it worth a Retry */
    for (size_t len = 0; len < 8; len++) {
        struct lh h = header(V1, len, 8);

        h.token = token;
        h.token_len = sizeof(token);
        put_long(&f, &h, FULL);
        assert_int_equal(feed(&f), BP_LISTENER_DROP);
    }
    assert_int_equal(f.l.retries, 0);
    assert_int_equal(f.l.replies, 0);
}

/* --- Retry --------------------------------------------------------------- */

struct retry {
    uint8_t scid[20];
    size_t scid_len;
    uint8_t token[256];
    size_t token_len;
};

/* Takes apart the Retry in f->reply (RFC 9000, 17.2.5), which answers an Initial with `h`. */
static void parse_retry(const struct fix *f, const struct lh *h, struct retry *out)
{
    const uint8_t *p = f->reply;
    const uint8_t *end = f->reply + f->r.reply_len;

    assert_int_equal(f->r.action, BP_LISTENER_REPLY);
    assert_true(f->r.reply_len < FULL);
    assert_int_equal(p[0] & 0xf0, 0xf0);
    assert_memory_equal(p + 1, "\0\0\0\1", 4);
    p += 5;
    assert_int_equal(*p, h->scid_len);
    assert_memory_equal(p + 1, h->scid, h->scid_len);
    p += 1 + h->scid_len;
    out->scid_len = *p++;
    assert_int_equal(out->scid_len, BP_CID_LEN); /* or its next datagrams are not routed */
    memcpy(out->scid, p, out->scid_len);
    p += out->scid_len;
    assert_true((size_t)(end - p) > RETRY_TAG);
    out->token_len = (size_t)(end - p) - RETRY_TAG;
    assert_true(out->token_len <= sizeof(out->token));
    memcpy(out->token, p, out->token_len);
}

/* An Initial that meets a crowd, and the Retry that it gets. */
static void get_retry(struct fix *f, struct lh *h, struct retry *out)
{
    setup(f);
    *h = header(V1, 12, 5);
    crowd(f, BP_HALF_OPEN_RETRY, true);
    put_long(f, h, FULL);
    assert_int_equal(feed(f), BP_LISTENER_REPLY);
    parse_retry(f, h, out);
    assert_int_equal(f->l.retries, 1);
}

/* The Initial that follows a Retry. */
static void put_retried(struct fix *f, const struct lh *first, const struct retry *r)
{
    struct lh h = *first;

    memcpy(h.dcid, r->scid, r->scid_len);
    h.dcid_len = r->scid_len;
    h.token = r->token;
    h.token_len = r->token_len;
    put_long(f, &h, FULL);
}

static void listener_retry_token_is_accepted(void **state)
{
    struct fix f;
    struct lh h;
    struct retry r;
    (void)state;

    get_retry(&f, &h, &r);
    put_retried(&f, &h, &r);
    assert_int_equal(feed(&f), BP_LISTENER_ACCEPT);
    assert_true(f.r.initial.retried);
    assert_int_equal(f.r.initial.version, V1);
    assert_cid(&f.r.initial.original_dcid, h.dcid, h.dcid_len);
    assert_cid(&f.r.initial.client_dcid, r.scid, r.scid_len);
    assert_cid(&f.r.initial.client_scid, h.scid, h.scid_len);
    assert_int_equal(f.r.initial.token_len, r.token_len);
    assert_memory_equal(f.r.initial.token, r.token, r.token_len);
    assert_int_equal(f.l.retries, 1);

    /* The crowd has gone meanwhile: the client has seen the Retry all the same. */
    crowd(&f, BP_HALF_OPEN_RETRY, false);
    assert_int_equal(feed(&f), BP_LISTENER_ACCEPT);
    assert_true(f.r.initial.retried);
    assert_cid(&f.r.initial.original_dcid, h.dcid, h.dcid_len);
}

static void listener_retry_packet_has_a_valid_tag(void **state)
{
    /* RFC 9001, 5.8: AES-128-GCM of nothing, over the original id and the packet. */
    static const char key_hex[] = "be0c690b9f66575a1d766b54e368c84e";
    static const char iv_hex[] = "461599d35d632bf2239825bb";
    uint8_t key[16], iv[12], pseudo[512], tag[RETRY_TAG];
    gnutls_datum_t k = {.data = key, .size = sizeof(key)};
    gnutls_aead_cipher_hd_t aead;
    size_t tag_len = sizeof(tag);
    struct fix f;
    struct lh h;
    struct retry r;
    size_t body;
    (void)state;

    get_retry(&f, &h, &r);
    assert_int_equal(t_hex(key_hex, key, sizeof(key)), sizeof(key));
    assert_int_equal(t_hex(iv_hex, iv, sizeof(iv)), sizeof(iv));
    body = f.r.reply_len - RETRY_TAG;
    assert_true(1 + h.dcid_len + body <= sizeof(pseudo));
    pseudo[0] = (uint8_t)h.dcid_len;
    memcpy(pseudo + 1, h.dcid, h.dcid_len);
    memcpy(pseudo + 1 + h.dcid_len, f.reply, body);
    assert_int_equal(gnutls_aead_cipher_init(&aead, GNUTLS_CIPHER_AES_128_GCM, &k), 0);
    assert_int_equal(gnutls_aead_cipher_encrypt(aead, iv, sizeof(iv), pseudo, 1 + h.dcid_len + body,
                                                sizeof(tag), "", 0, tag, &tag_len),
                     0);
    gnutls_aead_cipher_deinit(aead);
    assert_int_equal(tag_len, sizeof(tag));
    assert_memory_equal(tag, f.reply + body, RETRY_TAG);
}

static void listener_retry_token_expires(void **state)
{
    struct fix f;
    struct lh h;
    struct retry r;
    (void)state;

    get_retry(&f, &h, &r);
    put_retried(&f, &h, &r);
    f.now = T0 + BP_RETRY_TOKEN_LIFETIME - 1;
    assert_int_equal(feed(&f), BP_LISTENER_ACCEPT);
    assert_true(f.r.initial.retried);
    f.now = T0 + BP_RETRY_TOKEN_LIFETIME;
    assert_int_equal(feed(&f), BP_LISTENER_REPLY);
    assert_int_equal(f.l.retries, 2);
    f.now = T0 + 1000 * BP_SEC;
    assert_int_equal(feed(&f), BP_LISTENER_REPLY);
    assert_false(f.r.initial.retried);
}

static void listener_retry_token_is_bound_to_the_address(void **state)
{
    static const struct {
        const char *ip;
        uint16_t port;
    } others[] = {
        {"192.0.2.2", 4433},
        {"192.0.2.1", 4434},
        {"::ffff:192.0.2.1", 4433},
        {"2001:db8::1", 4433},
    };
    struct fix f;
    struct lh h;
    struct retry r;
    (void)state;

    get_retry(&f, &h, &r);
    put_retried(&f, &h, &r);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        f.from = addr(others[i].ip, others[i].port);
        assert_int_equal(feed(&f), BP_LISTENER_REPLY);
        assert_int_equal(f.l.retries, 2 + i);
        assert_false(f.r.initial.retried);
        assert_null(f.r.initial.token);
    }
    f.from = addr("192.0.2.1", 4433);
    assert_int_equal(feed(&f), BP_LISTENER_ACCEPT);
}

static void listener_retry_token_is_bound_to_the_connection_id(void **state)
{
    struct fix f;
    struct lh h;
    struct retry r, other;
    (void)state;

    get_retry(&f, &h, &r);
    for (size_t i = 0; i < r.scid_len; i++) {
        other = r;
        other.scid[i] ^= 1;
        put_retried(&f, &h, &other);
        assert_int_equal(feed(&f), BP_LISTENER_REPLY);
    }
    other = r; /* the id of the first Initial is not the one either */
    memcpy(other.scid, h.dcid, h.dcid_len);
    other.scid_len = h.dcid_len;
    put_retried(&f, &h, &other);
    assert_int_equal(feed(&f), BP_LISTENER_REPLY);
    put_retried(&f, &h, &r);
    assert_int_equal(feed(&f), BP_LISTENER_ACCEPT);

    /* Two Retries of one Initial: neither's token goes with the other's id. */
    put_long(&f, &h, FULL);
    assert_int_equal(feed(&f), BP_LISTENER_REPLY);
    parse_retry(&f, &h, &other);
    assert_memory_not_equal(other.scid, r.scid, BP_CID_LEN);
    memcpy(other.token, r.token, r.token_len);
    put_retried(&f, &h, &other);
    assert_int_equal(feed(&f), BP_LISTENER_REPLY);
}

static void listener_forged_retry_tokens_are_refused(void **state)
{
    struct fix f, g;
    struct lh h;
    struct retry r, bad;
    (void)state;

    get_retry(&f, &h, &r);
    for (size_t i = 0; i < r.token_len; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            bad = r;
            bad.token[i] ^= (uint8_t)(1u << bit);
            put_retried(&f, &h, &bad);
            assert_int_equal(feed(&f), BP_LISTENER_REPLY);
            assert_false(f.r.initial.retried);
            f.now += BP_SEC / 50; /* below the rate limit; the token does not outlive this */
            if (f.now - T0 > BP_RETRY_TOKEN_LIFETIME / 2) {
                f.now = T0;
            }
        }
    }
    for (size_t len = 1; len < r.token_len; len++) {
        f.now += BP_REPLY_WINDOW;
        bad = r;
        bad.token_len = len;
        put_retried(&f, &h, &bad);
        assert_int_equal(feed(&f), BP_LISTENER_REPLY);
    }
    f.now += BP_REPLY_WINDOW;
    bad = r;
    bad.token[bad.token_len++] = 0;
    put_retried(&f, &h, &bad);
    assert_int_equal(feed(&f), BP_LISTENER_REPLY);

    setup(&g); /* another listener with the same reset secret has its own token secret */
    crowd(&g, BP_HALF_OPEN_RETRY, true);
    put_retried(&g, &h, &r);
    assert_int_equal(feed(&g), BP_LISTENER_REPLY);
    f.now = T0;
    put_retried(&f, &h, &r);
    assert_int_equal(feed(&f), BP_LISTENER_ACCEPT);
}

static void listener_without_a_crowd_other_tokens_do_not_matter(void **state)
{
    struct lh h = header(V1, 8, 8);
    uint8_t token[300];
    struct fix f;
    (void)state;

    setup(&f);
    for (size_t len = 1; len <= sizeof(token); len += 13) {
        memset(token, 0x77, sizeof(token));
        token[0] = len % 2 == 0 ? NGTCP2_CRYPTO_TOKEN_MAGIC_RETRY2 : 0x36;
        h.token = token;
        h.token_len = len;
        put_long(&f, &h, FULL);
        assert_int_equal(feed(&f), BP_LISTENER_ACCEPT);
        assert_false(f.r.initial.retried);
        assert_null(f.r.initial.token);
        assert_cid(&f.r.initial.original_dcid, h.dcid, h.dcid_len);
    }
}

/* --- limits -------------------------------------------------------------- */

static void listener_retry_begins_at_32_half_open(void **state)
{
    struct fix f;
    (void)state;

    setup(&f);
    for (unsigned n = 0; n < BP_HALF_OPEN_RETRY; n++) {
        char ip[32];

        assert_int_equal(f.l.n_half_open, n);
        assert_int_equal(feed_initial(&f), BP_LISTENER_ACCEPT);
        snprintf(ip, sizeof(ip), "10.0.0.%u", n + 1);
        open_from(&f, ip, 1, true);
    }
    assert_int_equal(BP_HALF_OPEN_RETRY, 32);
    assert_int_equal(feed_initial(&f), BP_LISTENER_REPLY);
    assert_int_equal(f.l.retries, 1);
    open_from(&f, "10.0.0.7", 1, false);
    assert_int_equal(feed_initial(&f), BP_LISTENER_ACCEPT);
    assert_int_equal(f.l.dropped_limit, 0);
}

static void listener_256_half_open_is_the_end(void **state)
{
    struct fix f;
    struct lh h;
    struct retry r;
    (void)state;

    get_retry(&f, &h, &r);
    crowd(&f, BP_HALF_OPEN_RETRY, false);
    assert_int_equal(f.l.n_half_open, 0);
    assert_int_equal(f.l.n_sources, 0);
    put_retried(&f, &h, &r);
    crowd(&f, BP_HALF_OPEN_MAX - 1, true);
    assert_int_equal(feed(&f), BP_LISTENER_ACCEPT);
    open_from(&f, "172.16.0.1", 1, true);
    assert_int_equal(f.l.n_half_open, 256);
    assert_int_equal(feed(&f), BP_LISTENER_DROP);
    assert_int_equal(f.l.dropped_limit, 1);
    open_from(&f, "172.16.0.1", 1, false);
    assert_int_equal(feed(&f), BP_LISTENER_ACCEPT);
    crowd(&f, BP_HALF_OPEN_MAX - 1, false);
    assert_int_equal(f.l.n_half_open, 0);
    assert_int_equal(f.l.n_sources, 0);
}

/* A Retry token for f->from, whatever is half open. */
static void prove_address(struct fix *f)
{
    struct lh h = header(V1, 8, 8);
    uint32_t n = f->l.n_half_open;
    struct retry r;

    f->l.n_half_open = BP_HALF_OPEN_RETRY;
    put_long(f, &h, FULL);
    assert_int_equal(feed(f), BP_LISTENER_REPLY);
    f->l.n_half_open = n;
    parse_retry(f, &h, &r);
    put_retried(f, &h, &r);
}

static enum bp_listener_action proved_from(struct fix *f, const char *ip, uint16_t port)
{
    f->from = addr(ip, port);
    prove_address(f);
    return feed(f);
}

static void listener_one_address_gets_64(void **state)
{
    struct fix f;
    (void)state;

    setup(&f);
    for (uint16_t n = 0; n < 64; n++) {
        assert_int_equal(proved_from(&f, "192.0.2.1", (uint16_t)(1000 + n)), BP_LISTENER_ACCEPT);
        bp_listener_half_open(&f.l, &f.from, true);
        f.now += BP_SEC;
    }
    assert_int_equal(f.l.n_half_open, BP_HALF_OPEN_PER_SOURCE);
    assert_int_equal(f.l.n_sources, 1);
    assert_int_equal(proved_from(&f, "192.0.2.1", 1), BP_LISTENER_DROP);
    assert_int_equal(proved_from(&f, "::ffff:192.0.2.1", 1), BP_LISTENER_DROP);
    assert_int_equal(f.l.dropped_limit, 2);
    assert_int_equal(proved_from(&f, "192.0.2.2", 1), BP_LISTENER_ACCEPT);
    assert_int_equal(proved_from(&f, "::ffff:192.0.2.2", 1), BP_LISTENER_ACCEPT);
    assert_int_equal(proved_from(&f, "2001:db8::1", 1), BP_LISTENER_ACCEPT);
    open_from(&f, "::ffff:192.0.2.1", 5, false); /* the same host in its other form */
    assert_int_equal(proved_from(&f, "192.0.2.1", 1), BP_LISTENER_ACCEPT);
}

/* A few hosts that hold what they can leave room for others. */
static void listener_few_hosts_cannot_take_all_places(void **state)
{
    struct fix f;
    unsigned taken = 0;
    (void)state;

    setup(&f);
    for (unsigned n = 0; n < 16 * 64; n++) {
        char ip[32];

        snprintf(ip, sizeof(ip), "198.51.100.%u", 1 + n % 16);
        f.now += BP_SEC;
        if (proved_from(&f, ip, (uint16_t)(1000 + n)) == BP_LISTENER_ACCEPT) {
            bp_listener_half_open(&f.l, &f.from, true);
            taken++;
        }
    }
    assert_in_range(taken, BP_HALF_OPEN_ROOMY, BP_HALF_OPEN_TIGHT);
    for (unsigned n = 0; n < 4; n++) {
        assert_int_equal(proved_from(&f, "192.0.2.9", (uint16_t)(1000 + n)), BP_LISTENER_ACCEPT);
        bp_listener_half_open(&f.l, &f.from, true);
    }
}

/* --- newcomers ----------------------------------------------------------- */

static void listener_newcomers_of_one_source_are_limited(void **state)
{
    struct bp_addr bad = addr("198.51.100.1", 1);
    struct bp_addr good = addr("192.0.2.1", 1);
    struct fix f;
    (void)state;

    setup(&f);
    /* With a random one the two share a counter now and then. */
    memset(f.l.token_secret, 0x5a, sizeof(f.l.token_secret));
    for (unsigned i = 0; i < 1000; i++) { /* who has the cookie does not count */
        assert_true(bp_listener_newcomer(&f.l, &good, f.now));
        bp_listener_welcome(&f.l, &good);
    }
    for (unsigned i = 0; i < BP_NEWCOMERS_PER_SOURCE; i++) {
        assert_true(bp_listener_newcomer(&f.l, &bad, f.now));
    }
    assert_false(bp_listener_newcomer(&f.l, &bad, f.now));
    assert_int_equal(f.l.newcomers_refused, 1);
    assert_true(bp_listener_newcomer(&f.l, &good, f.now));
    assert_true(bp_listener_newcomer(&f.l, &bad, f.now + BP_NEWCOMER_SOURCE_PERIOD));
    assert_false(bp_listener_newcomer(&f.l, &bad, f.now + BP_NEWCOMER_SOURCE_PERIOD));
}

/* A day of attacks from everywhere: fewer names than would fill the VM's table of atoms. */
static void listener_newcomers_in_all_are_limited(void **state)
{
    uint64_t rng = t_seed(8);
    unsigned n = 0;
    struct fix f;
    (void)state;

    setup(&f);
    for (unsigned i = 0; i < 20 * 86400; i++) {
        struct bp_addr from = addr("198.51.100.1", 1);

        from.u.v4.sin_addr.s_addr = (uint32_t)t_rand(&rng);
        f.now += BP_SEC / 20;
        n += bp_listener_newcomer(&f.l, &from, f.now);
    }
    assert_in_range(n, 86400, 86400 + BP_NEWCOMERS_IN_ALL);
}

static void listener_one_ipv6_network_gets_64(void **state)
{
    struct fix f;
    (void)state;

    setup(&f);
    for (unsigned n = 0; n < 64; n++) {
        char ip[64];

        snprintf(ip, sizeof(ip), "2001:db8:0:7:%x::%x", n * 977, n);
        assert_int_equal(proved_from(&f, ip, 1), BP_LISTENER_ACCEPT);
        bp_listener_half_open(&f.l, &f.from, true);
        f.now += BP_SEC;
    }
    assert_int_equal(f.l.n_sources, 1);
    assert_int_equal(proved_from(&f, "2001:db8:0:7::1", 1), BP_LISTENER_DROP);
    assert_int_equal(proved_from(&f, "2001:db8:0:7:ffff:ffff:ffff:ffff", 1), BP_LISTENER_DROP);
    assert_int_equal(f.l.dropped_limit, 2);
    assert_int_equal(proved_from(&f, "2001:db8:0:6:ffff::", 1), BP_LISTENER_ACCEPT);
    assert_int_equal(proved_from(&f, "2001:db8:0:8::", 1), BP_LISTENER_ACCEPT);
    open_from(&f, "2001:db8:0:7::1234", 9, false);
    assert_int_equal(proved_from(&f, "2001:db8:0:7::1", 1), BP_LISTENER_ACCEPT);
}

static void listener_counts_of_sources_stay_right(void **state)
{
    enum { SOURCES = 300 };
    uint32_t model[SOURCES] = {0};
    uint64_t rng = t_seed(7);
    uint32_t total = 0;
    struct fix f;
    (void)state;

    setup(&f);
    for (int step = 0; step < 20000; step++) {
        unsigned i = (unsigned)(t_rand(&rng) % SOURCES);
        char ip[32];

        snprintf(ip, sizeof(ip), "10.2.%u.%u", i / 200, i % 200);
        if (t_rand(&rng) % 2 == 0 && total < BP_HALF_OPEN_MAX) {
            open_from(&f, ip, (uint16_t)step, true);
            model[i]++;
            total++;
        } else if (model[i] > 0) {
            open_from(&f, ip, (uint16_t)step, false);
            model[i]--;
            total--;
        }
        assert_int_equal(f.l.n_half_open, total);
    }
    for (unsigned i = 0; i < SOURCES; i++) {
        char ip[32];

        snprintf(ip, sizeof(ip), "10.2.%u.%u", i / 200, i % 200);
        for (; model[i] > 0; model[i]--) {
            open_from(&f, ip, 1, false);
        }
    }
    assert_int_equal(f.l.n_half_open, 0);
    assert_int_equal(f.l.n_sources, 0);
    open_from(&f, "10.2.0.1", 1, false); /* one too many does no harm */
    assert_int_equal(f.l.n_half_open, 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(listener_short_headers_are_routed_by_eight_bytes),
    cmocka_unit_test(listener_long_headers_are_routed_whatever_their_kind),
    cmocka_unit_test(listener_initial_is_accepted_with_its_ids),
    cmocka_unit_test(listener_only_a_full_initial_begins_a_connection),
    cmocka_unit_test(listener_bad_id_lengths_begin_nothing),
    cmocka_unit_test(listener_retry_token_is_accepted),
    cmocka_unit_test(listener_retry_packet_has_a_valid_tag),
    cmocka_unit_test(listener_retry_token_expires),
    cmocka_unit_test(listener_retry_token_is_bound_to_the_address),
    cmocka_unit_test(listener_retry_token_is_bound_to_the_connection_id),
    cmocka_unit_test(listener_forged_retry_tokens_are_refused),
    cmocka_unit_test(listener_without_a_crowd_other_tokens_do_not_matter),
    cmocka_unit_test(listener_retry_begins_at_32_half_open),
    cmocka_unit_test(listener_256_half_open_is_the_end),
    cmocka_unit_test(listener_one_address_gets_64),
    cmocka_unit_test(listener_few_hosts_cannot_take_all_places),
    cmocka_unit_test(listener_one_ipv6_network_gets_64),
    cmocka_unit_test(listener_newcomers_of_one_source_are_limited),
    cmocka_unit_test(listener_newcomers_in_all_are_limited),
    cmocka_unit_test(listener_counts_of_sources_stay_right),
};

T_MAIN(tests)
