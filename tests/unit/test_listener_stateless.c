/* SPDX-License-Identifier: Apache-2.0 */
/* Datagrams of no connection: version negotiation, stateless reset, their rate, and garbage. */
#include "support/t.h"

#include "unit/listener_side.h"

#include <ngtcp2/ngtcp2_crypto.h>

#define RESET_TOKEN 16u
#define RESET_MIN   21u /* RFC 9000, 10.3: shorter ones are not taken for a reset */
#define RESET_MAX   36u

/* --- version negotiation ------------------------------------------------- */

/* The whole reply (RFC 9000, 17.2.1): the ids swapped, version 1 alone, nothing behind it. */
static void assert_negotiation(const struct fix *f, const struct lh *h)
{
    const uint8_t *p = f->reply;

    assert_int_equal(f->r.action, BP_LISTENER_REPLY);
    assert_int_equal(f->r.reply_len, 11 + h->scid_len + h->dcid_len);
    assert_int_equal(p[0] & 0x80, 0x80);
    assert_memory_equal(p + 1, "\0\0\0\0", 4);
    p += 5;
    assert_int_equal(*p++, h->scid_len);
    assert_memory_equal(p, h->scid, h->scid_len);
    p += h->scid_len;
    assert_int_equal(*p++, h->dcid_len);
    assert_memory_equal(p, h->dcid, h->dcid_len);
    p += h->dcid_len;
    assert_memory_equal(p, "\0\0\0\1", 4);
}

static void listener_unknown_version_is_told_ours(void **state)
{
    static const uint32_t versions[] = {2, V_UNKNOWN, 0x0a0a0a0a, 0x1a2a3a4a, 0x01000000, ~0u};
    static const size_t lens[] = {0, 1, 8, 20};
    uint64_t n = 0;
    struct fix f;
    (void)state;

    setup(&f);
    for (size_t v = 0; v < sizeof(versions) / sizeof(versions[0]); v++) {
        for (size_t i = 0; i < 16; i++) {
            struct lh h = header(versions[v], lens[i / 4], lens[i % 4]);

            h.kind = (unsigned)i % 4; /* means nothing in an unknown version */
            put_long(&f, &h, FULL);
            if (i % 2 != 0) {
                f.pkt[0] &= 0xbf; /* nor does the fixed bit */
            }
            assert_int_equal(feed(&f), BP_LISTENER_REPLY);
            assert_negotiation(&f, &h);
            assert_int_equal(f.l.version_negotiations, ++n);
        }
        f.now += BP_SEC;
    }
    assert_int_equal(f.l.dropped_short, 0);
}

static void listener_negotiation_echoes_long_source_ids(void **state)
{
    struct fix f;
    (void)state;

    setup(&f); /* RFC 9000, 17.2: other versions may have ids of up to 255 bytes */
    for (size_t len = 21; len <= 255; len += 26) {
        struct lh h = header(V_UNKNOWN, 8, len);

        put_long(&f, &h, FULL);
        assert_int_equal(feed(&f), BP_LISTENER_REPLY);
        assert_negotiation(&f, &h);
    }
    for (size_t len = 21; len <= 255; len += 26) { /* as a destination we never had one */
        struct lh h = header(V_UNKNOWN, len, 8);

        put_long(&f, &h, FULL);
        assert_int_equal(feed(&f), BP_LISTENER_DROP);
    }
}

static void listener_short_datagrams_negotiate_nothing(void **state)
{
    struct lh h = header(V_UNKNOWN, 8, 8);
    struct fix f;
    (void)state;

    setup(&f);
    for (size_t len = 25; len < FULL; len++) {
        put_long(&f, &h, len);
        assert_int_equal(feed(&f), BP_LISTENER_DROP);
        assert_int_equal(f.r.reply_len, 0);
        assert_int_equal(f.l.dropped_short, len - 24);
    }
    assert_int_equal(f.l.replies, 0); /* costs the others nothing */
    put_long(&f, &h, FULL);
    assert_int_equal(feed(&f), BP_LISTENER_REPLY);
    put_long(&f, &h, 1500);
    assert_int_equal(feed(&f), BP_LISTENER_REPLY);
    assert_negotiation(&f, &h);
}

static void listener_version_negotiation_is_not_answered(void **state)
{
    struct lh h = header(0, 8, 8);
    struct fix f;
    (void)state;

    setup(&f); /* RFC 9000, 6.1: or two servers talk for ever */
    for (size_t len = 25; len <= 2000; len += 25) {
        put_long(&f, &h, len);
        assert_int_equal(feed(&f), BP_LISTENER_DROP);
    }
    assert_int_equal(f.l.replies, 0);
}

/* --- stateless reset ----------------------------------------------------- */

static void assert_reset(const struct fix *f)
{
    uint8_t token[RESET_TOKEN];
    ngtcp2_cid cid;

    assert_int_equal(f->r.action, BP_LISTENER_REPLY);
    assert_true(f->r.reply_len < f->len);
    assert_in_range(f->r.reply_len, RESET_MIN, RESET_MAX);
    assert_int_equal(f->reply[0] & 0xc0, 0x40); /* looks like a short header */
    ngtcp2_cid_init(&cid, f->pkt + 1, BP_CID_LEN);
    assert_int_equal(
        ngtcp2_crypto_generate_stateless_reset_token(token, side_secret, sizeof(side_secret), &cid),
        0);
    assert_memory_equal(f->reply + f->r.reply_len - RESET_TOKEN, token, RESET_TOKEN);
}

static void listener_unknown_short_header_is_reset(void **state)
{
    uint64_t n = 0;
    struct fix f;
    (void)state;

    setup(&f);
    for (size_t len = 0; len <= sizeof(f.pkt); len++) {
        f.now += BP_SEC / 50;
        put_short(&f, len);
        if (len <= RESET_MIN) {
            assert_int_equal(feed(&f), BP_LISTENER_DROP);
            assert_int_equal(f.r.reply_len, 0);
        } else {
            assert_int_equal(feed(&f), BP_LISTENER_REPLY);
            assert_reset(&f);
            n++;
        }
        assert_int_equal(f.l.resets, n);
    }
    assert_int_equal(f.l.dropped_limit, 0);
}

static void listener_tiny_datagrams_cost_no_replies(void **state)
{
    struct fix f;
    (void)state;

    setup(&f);
    for (int i = 0; i < 1000; i++) {
        put_short(&f, (size_t)i % (RESET_MIN + 1));
        assert_int_equal(feed(&f), BP_LISTENER_DROP);
    }
    assert_int_equal(f.l.replies, 0);
    assert_int_equal(f.l.dropped_limit, 0);
}

static void listener_resets_of_two_nodes_come_to_an_end(void **state)
{
    struct fix f[2];
    unsigned n = 0;
    (void)state;

    setup(&f[0]);
    setup(&f[1]);
    put_short(&f[0], 1200);
    while (feed(&f[n % 2]) == BP_LISTENER_REPLY) {
        struct fix *to = &f[(n + 1) % 2];

        memcpy(to->pkt, f[n % 2].reply, f[n % 2].r.reply_len);
        to->len = f[n % 2].r.reply_len;
        n++;
    }
    assert_in_range(n, 1, RESET_MAX - RESET_MIN + 1);
}

static void listener_reset_token_depends_on_secret_and_id_alone(void **state)
{
    uint8_t first[RESET_MAX], other[32] = {1};
    struct fix f;
    (void)state;

    setup(&f);
    put_short(&f, 100);
    assert_int_equal(feed(&f), BP_LISTENER_REPLY);
    assert_int_equal(f.r.reply_len, RESET_MAX);
    memcpy(first, f.reply, RESET_MAX);

    setup(&f); /* restarted */
    put_short(&f, 50);
    f.pkt[0] = 0x7f;
    f.from = addr("2001:db8::9", 1);
    assert_int_equal(feed(&f), BP_LISTENER_REPLY);
    assert_memory_equal(f.reply + RESET_MAX - RESET_TOKEN, first + RESET_MAX - RESET_TOKEN,
                        RESET_TOKEN);
    assert_memory_not_equal(f.reply, first, RESET_MAX - RESET_TOKEN); /* random */

    f.pkt[BP_CID_LEN] ^= 1; /* the last byte of the id */
    assert_int_equal(feed(&f), BP_LISTENER_REPLY);
    assert_memory_not_equal(f.reply + RESET_MAX - RESET_TOKEN, first + RESET_MAX - RESET_TOKEN,
                            RESET_TOKEN);
    f.pkt[BP_CID_LEN] ^= 1;
    assert_int_equal(bp_listener_init(&f.l, other), 0);
    assert_int_equal(feed(&f), BP_LISTENER_REPLY);
    assert_memory_not_equal(f.reply + RESET_MAX - RESET_TOKEN, first + RESET_MAX - RESET_TOKEN,
                            RESET_TOKEN);
}

/* --- rate ---------------------------------------------------------------- */

/* One of the three kinds of stateless replies. */
static enum bp_listener_action provoke(struct fix *f, unsigned kind)
{
    struct lh h = header(kind == 0 ? V_UNKNOWN : V1, 8, 8);

    if (kind == 2) {
        put_short(f, 40);
    } else {
        put_long(f, &h, FULL);
    }
    return feed(f);
}

static void listener_25_replies_in_a_tenth_of_a_second_of_all_kinds(void **state)
{
    struct fix f;
    (void)state;

    setup(&f);
    crowd(&f, BP_HALF_OPEN_RETRY, true);
    for (unsigned i = 0; i < 25; i++) {
        f.now = T0 + i * BP_MS;
        assert_int_equal(provoke(&f, i % 3), BP_LISTENER_REPLY);
    }
    f.now = T0 + BP_REPLY_WINDOW - 1;
    for (unsigned i = 0; i < 30; i++) {
        assert_int_equal(provoke(&f, i % 3), BP_LISTENER_DROP);
        assert_int_equal(f.r.reply_len, 0);
        assert_int_equal(f.l.dropped_limit, i + 1);
    }
    assert_int_equal(f.l.version_negotiations, 9);
    assert_int_equal(f.l.retries, 8);
    assert_int_equal(f.l.resets, 8);
    crowd(&f, BP_HALF_OPEN_RETRY, false);
    assert_int_equal(provoke(&f, 1), BP_LISTENER_ACCEPT); /* needs no reply */
    f.now = T0 + BP_REPLY_WINDOW;
    assert_int_equal(provoke(&f, 2), BP_LISTENER_REPLY);
}

static void listener_rate_holds_for_long_floods(void **state)
{
    uint64_t replies = 0;
    struct fix f;
    (void)state;

    setup(&f);
    put_short(&f, 40);
    for (unsigned ms = 0; ms < 20000; ms++) {
        f.now = T0 + ms * BP_MS;
        replies += feed(&f) == BP_LISTENER_REPLY;
    }
    assert_int_equal(replies, 200 * 25);
    assert_int_equal(f.l.resets, replies);
    assert_int_equal(f.l.dropped_limit, 20000 - replies);
}

/* A flood from elsewhere does not take a peer's answers away. */
static void listener_each_source_has_its_own_replies(void **state)
{
    uint64_t from_flood = 0;
    struct fix f;
    (void)state;

    setup(&f);
    /* With a random one two of the sources share what they get now and then. */
    memset(f.l.token_secret, 0x5a, sizeof(f.l.token_secret));
    crowd(&f, BP_HALF_OPEN_RETRY, true);
    for (unsigned i = 0; i < 20000; i++) { /* one second, eight hosts, many ports */
        f.now = T0 + i * (BP_SEC / 20000);
        f.from = addr("198.51.100.1", (uint16_t)(1000 + i));
        f.from.u.v4.sin_addr.s_addr += htonl(i % 8);
        from_flood += provoke(&f, 1) == BP_LISTENER_REPLY;
        if (i % 1000 == 999) {
            f.from = addr("192.0.2.77", 4433);
            assert_int_equal(provoke(&f, 1), BP_LISTENER_REPLY);
            f.from = addr("2001:db8:7::1", 4433);
            assert_int_equal(provoke(&f, 2), BP_LISTENER_REPLY);
        }
    }
    assert_in_range(from_flood, 1000, 10 * 8 * BP_REPLIES_PER_SOURCE);
}

/* Addresses that are not the sender's: the sum is bounded, and a peer gets through now and then. */
static void listener_replies_to_spoofed_sources_are_bounded(void **state)
{
    uint64_t rng = t_seed(99);
    uint64_t replies = 0;
    unsigned peer = 0;
    struct fix f;
    (void)state;

    setup(&f);
    crowd(&f, BP_HALF_OPEN_RETRY, true);
    for (unsigned i = 0; i < 40000; i++) { /* two seconds */
        f.now = T0 + i * (BP_SEC / 20000);
        f.from = addr("198.51.100.1", 5);
        f.from.u.v4.sin_addr.s_addr = (uint32_t)t_rand(&rng);
        replies += provoke(&f, 1) == BP_LISTENER_REPLY;
        if (i % 200 == 0) {
            f.from = addr("192.0.2.77", 4433);
            peer += provoke(&f, 1) == BP_LISTENER_REPLY;
        }
    }
    assert_in_range(replies, 5000, 20 * BP_REPLIES_IN_ALL);
    assert_in_range(peer, 20, 200);
}

/* First packets that lead nowhere never make a crowd, but cost as much: Retry begins for them. */
static void listener_wasted_first_packets_begin_retry(void **state)
{
    struct fix f;
    (void)state;

    setup(&f);
    for (unsigned i = 0; i < 10 * (BP_WASTED_RETRY - 1); i++) { /* slowly: nothing happens */
        f.now += BP_SEC / (BP_WASTED_RETRY - 1) + 1;
        bp_listener_wasted(&f.l, f.now);
        assert_int_equal(provoke(&f, 1), BP_LISTENER_ACCEPT);
    }
    f.now += 2 * BP_SEC;
    for (unsigned i = 0; i < BP_WASTED_RETRY; i++) {
        assert_int_equal(provoke(&f, 1), BP_LISTENER_ACCEPT);
        bp_listener_wasted(&f.l, f.now);
    }
    assert_int_equal(provoke(&f, 1), BP_LISTENER_REPLY);
    assert_int_equal(f.l.retries, 1);
    f.now += BP_WASTED_HOLD - 1;
    assert_int_equal(provoke(&f, 1), BP_LISTENER_REPLY);
    f.now++;
    assert_int_equal(provoke(&f, 1), BP_LISTENER_ACCEPT);
    assert_int_equal(f.l.wasted, 11 * BP_WASTED_RETRY - 10);
}

/* --- garbage ------------------------------------------------------------- */

static void listener_cut_initials_begin_nothing(void **state)
{
    struct lh h = header(V1, 20, 20);
    uint8_t token[100] = {0x36};
    struct fix f;
    (void)state;

    setup(&f);
    h.token = token;
    h.token_len = sizeof(token);
    put_long(&f, &h, FULL);
    assert_int_equal(feed(&f), BP_LISTENER_ACCEPT);
    for (f.len = 0; f.len < FULL; f.len++) {
        assert_int_equal(feed(&f), BP_LISTENER_DROP);
    }
    assert_int_equal(f.l.dropped_short, FULL - 1);
    assert_int_equal(f.l.replies, 0);
    for (f.len = 1; f.len < 47; f.len++) { /* where the ids are not whole: not even routed */
        assert_int_equal(classify(&f), BP_LISTENER_DROP);
    }
    f.len = 47;
    assert_int_equal(classify(&f), BP_LISTENER_ROUTE);
}

static void listener_lengths_past_the_end_begin_nothing(void **state)
{
    struct lh h = header(V1, 8, 8);
    struct fix f;
    size_t head;
    (void)state;

    setup(&f);
    head = put_long(&f, &h, FULL);
    assert_int_equal(feed(&f), BP_LISTENER_ACCEPT);
    f.pkt[head - 4] = 0x7f; /* a token that ends behind the datagram */
    f.pkt[head - 3] = 0xff;
    assert_int_equal(feed(&f), BP_LISTENER_DROP);
    memset(f.pkt + head - 4, 0xff, 8); /* 2^62 bytes behind it */
    assert_int_equal(feed(&f), BP_LISTENER_DROP);
    assert_int_equal(f.l.dropped_short, 2);

    put_long(&f, &h, FULL);
    f.pkt[5] = 0xff; /* an id that is longer than the datagram */
    f.len = 200;
    assert_int_equal(classify(&f), BP_LISTENER_DROP);
}

/* What must hold whatever came in. */
static void assert_sane(const struct fix *f)
{
    switch (f->r.action) {
    case BP_LISTENER_REPLY:
        assert_in_range(f->r.reply_len, 1, f->len - 1);
        assert_true((f->pkt[0] & 0x80) == 0 || f->len >= FULL);
        break;
    case BP_LISTENER_ACCEPT:
        assert_true(f->len >= FULL);
        assert_true((f->pkt[0] & 0x80) != 0);
        assert_false(f->r.initial.retried);
        assert_in_range(f->r.initial.client_dcid.len, 8, BP_CID_MAX);
        assert_in_range(f->r.initial.original_dcid.len, 8, BP_CID_MAX);
        assert_in_range(f->r.initial.client_scid.len, 0, BP_CID_MAX);
        break;
    default:
        assert_int_equal(f->r.action, BP_LISTENER_DROP);
    }
}

static void listener_garbage_is_judged_within_the_rules(void **state)
{
    static const uint32_t versions[] = {V1, V1, V1, 0, V2, V_UNKNOWN};
    uint64_t rng = t_seed(99), seen[4] = {0};
    struct fix f;
    (void)state;

    setup(&f);
    for (unsigned round = 0; round < 60000; round++) {
        struct lh h = header(versions[t_rand(&rng) % 6], t_rand(&rng) % 24, t_rand(&rng) % 24);
        size_t flips = t_rand(&rng) % 4;

        if (round == 30000) {
            crowd(&f, BP_HALF_OPEN_RETRY, true);
        }
        h.kind = t_rand(&rng) % 4 == 0 ? (unsigned)(t_rand(&rng) % 4) : KIND_INIT;
        put_long(&f, &h, FULL + t_rand(&rng) % 100);
        if (round % 8 == 0) { /* nothing but noise */
            for (size_t i = 0; i < 64; i++) {
                f.pkt[i] = (uint8_t)t_rand(&rng);
            }
        }
        while (flips-- > 0) {
            f.pkt[t_rand(&rng) % 64] = (uint8_t)t_rand(&rng);
        }
        if (t_rand(&rng) % 4 == 0) {
            f.len = t_rand(&rng) % (f.len + 1);
        }
        f.now += BP_SEC / 100;
        seen[feed(&f)]++;
        assert_sane(&f);
    }
    assert_true(seen[BP_LISTENER_DROP] > 0 && seen[BP_LISTENER_REPLY] > 0);
    assert_true(seen[BP_LISTENER_ACCEPT] > 0);
    assert_true(f.l.retries > 0 && f.l.resets > 0 && f.l.version_negotiations > 0);
    assert_int_equal(f.l.retries + f.l.resets + f.l.version_negotiations, seen[BP_LISTENER_REPLY]);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(listener_unknown_version_is_told_ours),
    cmocka_unit_test(listener_negotiation_echoes_long_source_ids),
    cmocka_unit_test(listener_short_datagrams_negotiate_nothing),
    cmocka_unit_test(listener_version_negotiation_is_not_answered),
    cmocka_unit_test(listener_unknown_short_header_is_reset),
    cmocka_unit_test(listener_tiny_datagrams_cost_no_replies),
    cmocka_unit_test(listener_resets_of_two_nodes_come_to_an_end),
    cmocka_unit_test(listener_reset_token_depends_on_secret_and_id_alone),
    cmocka_unit_test(listener_25_replies_in_a_tenth_of_a_second_of_all_kinds),
    cmocka_unit_test(listener_rate_holds_for_long_floods),
    cmocka_unit_test(listener_each_source_has_its_own_replies),
    cmocka_unit_test(listener_replies_to_spoofed_sources_are_bounded),
    cmocka_unit_test(listener_wasted_first_packets_begin_retry),
    cmocka_unit_test(listener_cut_initials_begin_nothing),
    cmocka_unit_test(listener_lengths_past_the_end_begin_nothing),
    cmocka_unit_test(listener_garbage_is_judged_within_the_rules),
};

T_MAIN(tests)
