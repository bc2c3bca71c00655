/* SPDX-License-Identifier: Apache-2.0 */
/* One side of the authentication under test, fed with WIRE 3.4's vector or other messages. */
#ifndef BP_TESTS_AUTH_SIDE_H
#define BP_TESTS_AUTH_SIDE_H

#include "support/t.h"

#include "auth/auth.h"
#include "base/err.h"
#include "base/rw.h"

#define CLIENT BP_AUTH_CLIENT
#define SERVER BP_AUTH_SERVER
#define WALL   UINT64_C(1767225600000) /* the client's clock in WIRE 3.4 */
#define NOW    (100 * BP_SEC)
#define N_MSGS 5 /* message types; a valid one of type t is sent[role][t - 1] */
#define N_KEYS 3

static const char *const c_name = "a@127.0.0.1";
static const char *const s_name = "b@127.0.0.1";
static const char *const seeds[N_KEYS] = {
    "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20",
    "4142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f60",
    "8182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0",
};
static const char *const vector[2][N_MSGS] = {
    {"002f0102000b61403132372e302e302e3179b5562e8fe654f94078b112e8a98ba7901f853ae695be"
     "d7e0e3910bad049664",
     "002902a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf0000019b76"
     "daa800",
     "004103864f3b777192e9222914c6106a21a52bf33851dea6d8781e1a0b4ea8cae4ddb2861d26d204"
     "c87da008f4b195b1c0e7904de36495f25e00b0dfbe49bc6d2f7308",
     "000104", "000f05000c6b65795f6d69736d61746368"},
    {"002f0102000b62403132372e302e302e31adc14011f82d1c56d956aa4f9d73d8858361a606048525"
     "e0d08c638dc75dd8c7",
     "002902c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf0000019b76"
     "daa805",
     "0041039069495ef51407f5ff3b5841bf788fc1b7eac69264436122581a3633c88f21d579b43df682"
     "ccd10cfc74acffa9067c2f0c92096e5a08604f04411d298362200e",
     "000104", "000f05000c6b65795f6d69736d61746368"},
};
#define TOLD_KEY_MISMATCH "000f05000c6b65795f6d69736d61746368"
#define TOLD_UNTRUSTED    "001005000d756e747275737465645f6b6579"
#define TOLD_SIGNATURE    "00140500117369676e61747572655f696e76616c6964"

static struct bp_identity *ids[N_KEYS]; /* client, server, a third party */
static uint8_t nonces[2][BP_NONCE_LEN];
static uint8_t binding[BP_BINDING_LEN];
static const uint8_t secrets[2][BP_KEY_LEN] = {{1}, {2}}; /* nonce secrets */
static struct {
    uint8_t p[96];
    size_t len;
} sent[2][N_MSGS]; /* by role of the sender: the vector's messages */

static inline int setup(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_KEYS; i++) {
        uint8_t seed[BP_KEY_LEN];

        t_hex(seeds[i], seed, sizeof(seed));
        assert_int_equal(bp_identity_new(&ids[i], seed, NULL, bp_mem_libc()), 0);
    }
    for (size_t i = 0; i < BP_NONCE_LEN; i++) {
        nonces[CLIENT][i] = (uint8_t)(0xa0 + i);
        nonces[SERVER][i] = (uint8_t)(0xc0 + i);
    }
    assert_int_equal(bp_sha256("example server certificate DER", 30, binding), 0);
    for (size_t r = 0; r < 2; r++) {
        for (size_t m = 0; m < N_MSGS; m++) {
            sent[r][m].len = t_hex(vector[r][m], sent[r][m].p, sizeof(sent[r][m].p));
        }
    }
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_KEYS; i++) {
        bp_identity_del(ids[i]);
    }
    return 0;
}

/* --- one side ---------------------------------------------------------------- */

/* Effects as letters in their order: S send, s send with FIN, L lookup, D done, F failed. */
struct side {
    struct bp_auth a;
    struct bp_auth_config cfg;
    char log[BP_AUTH_MAX_EFFECTS + 1];
    uint8_t wire[BP_AUTH_OUT_CAP];
    size_t wire_len;
    struct bp_auth_effect lookup, done, failed;
};

static inline struct bp_auth_config config(enum bp_auth_role role)
{
    struct bp_auth_config cfg = {
        .role = role,
        .identity = ids[role],
        .self_name = role == CLIENT ? c_name : s_name,
        .dialled_name = role == CLIENT ? s_name : NULL,
        .trust_mode = BP_TRUST_TOFU,
        .window = 30 * BP_SEC,
        .nonce_secret = secrets[role],
        .test_nonce = nonces[role],
    };

    memcpy(cfg.binding, binding, sizeof(binding));
    return cfg;
}

static inline uint64_t wall_of(const struct side *s)
{
    return s->cfg.role == CLIENT ? WALL : WALL + 5;
}

static inline void drain(struct side *s)
{
    struct bp_auth_effect e;

    while (bp_auth_poll(&s->a, &e)) {
        size_t n = strlen(s->log);

        assert_true(n < BP_AUTH_MAX_EFFECTS);
        s->log[n + 1] = '\0';
        switch (e.kind) {
        case BP_AUTH_SEND:
            s->log[n] = e.fin ? 's' : 'S';
            assert_true(s->wire_len + e.len <= sizeof(s->wire));
            memcpy(s->wire + s->wire_len, e.data, e.len);
            s->wire_len += e.len;
            break;
        case BP_AUTH_LOOKUP:
            s->log[n] = 'L';
            s->lookup = e;
            break;
        case BP_AUTH_DONE:
            s->log[n] = 'D';
            s->done = e;
            break;
        case BP_AUTH_FAILED:
            s->log[n] = 'F';
            s->failed = e;
            break;
        }
    }
}

static inline void open_with(struct side *s, const struct bp_auth_config *cfg)
{
    memset(s, 0, sizeof(*s));
    s->cfg = *cfg;
    assert_int_equal(bp_auth_init(&s->a, &s->cfg), 0);
    assert_int_equal(bp_auth_start(&s->a, NOW, wall_of(s)), 0);
    drain(s);
}

static inline int recv_at(struct side *s, const void *p, size_t len, bp_time now, uint64_t wall)
{
    int rc = bp_auth_recv(&s->a, p, len, now, wall);

    drain(s);
    return rc;
}

static inline int recv_bytes(struct side *s, const void *p, size_t len)
{
    return recv_at(s, p, len, NOW, wall_of(s));
}

/* The peer's valid message of this type, from the vector. */
static inline int recv_type(struct side *s, enum bp_auth_msg_type type)
{
    return recv_bytes(s, sent[1 - s->cfg.role][type - 1].p, sent[1 - s->cfg.role][type - 1].len);
}

static inline int recv_msg(struct side *s, const struct bp_auth_msg *msg)
{
    uint8_t buf[BP_AUTH_SPLIT_CAP];
    struct bp_writer w;

    bp_writer_init(&w, buf, sizeof(buf));
    bp_auth_msg_encode(&w, msg);
    assert_false(w.bad);
    return recv_bytes(s, buf, w.len);
}

static inline int recv_hello(struct side *s, const char *name, const uint8_t *pub)
{
    struct bp_auth_msg msg = {
        .type = BP_AUTH_MSG_HELLO, .name = name, .name_len = strlen(name), .pub = pub};

    return recv_msg(s, &msg);
}

static inline int recv_challenge(struct side *s, const uint8_t *nonce, uint64_t ts_ms)
{
    struct bp_auth_msg msg = {.type = BP_AUTH_MSG_CHALLENGE, .nonce = nonce, .ts_ms = ts_ms};

    return recv_msg(s, &msg);
}

static inline int trust(struct side *s, bool found, const uint8_t *pinned)
{
    int rc = bp_auth_trust(&s->a, found, pinned, NOW, wall_of(s));

    drain(s);
    return rc;
}

/* Brings a fresh side to `state` with the vector's messages; the peer is unknown to the host. */
static inline void bring(struct side *s, const struct bp_auth_config *cfg, enum bp_auth_state state)
{
    open_with(s, cfg);
    while (s->a.state != state) {
        switch (s->a.state) {
        case BP_AUTH_ST_WAIT_HELLO:
            assert_int_equal(recv_type(s, BP_AUTH_MSG_HELLO), 0);
            break;
        case BP_AUTH_ST_WAIT_TRUST:
            assert_int_equal(trust(s, false, NULL), 0);
            break;
        case BP_AUTH_ST_WAIT_CHALLENGE:
            assert_int_equal(recv_type(s, BP_AUTH_MSG_CHALLENGE), 0);
            break;
        case BP_AUTH_ST_WAIT_RESPONSE:
            assert_int_equal(recv_type(s, BP_AUTH_MSG_RESPONSE), 0);
            break;
        case BP_AUTH_ST_WAIT_OK:
            assert_int_equal(recv_type(s, BP_AUTH_MSG_OK), 0);
            break;
        default:
            fail_msg("no way from state %d to %d", (int)s->a.state, (int)state);
        }
    }
}

static inline void bring_default(struct side *s, enum bp_auth_role role, enum bp_auth_state state)
{
    struct bp_auth_config cfg = config(role);

    bring(s, &cfg, state);
}

/* The side has failed with `err`, its effects since the start are `log`, and it said `last` last.
 */
static inline void assert_failed(const struct side *s, int err, const char *log, const char *last)
{
    assert_string_equal(s->log, log);
    assert_int_equal(s->a.state, BP_AUTH_ST_FAILED);
    assert_int_equal(s->failed.err, err);
    assert_true(strlen(s->failed.reason) > 0);
    if (last != NULL) {
        uint8_t want[64];
        size_t len = t_hex(last, want, sizeof(want));

        assert_true(s->wire_len >= len);
        assert_memory_equal(s->wire + s->wire_len - len, want, len);
    }
}

static inline void pump(struct side *c, struct side *s)
{
    struct side *sides[2] = {c, s};
    size_t seen[2] = {0, 0};
    bool moved = true;

    while (moved) {
        moved = false;
        for (int i = 0; i < 2; i++) {
            struct side *to = sides[1 - i];
            size_t n = sides[i]->wire_len - seen[i];

            if (n != 0) {
                (void)recv_bytes(to, sides[i]->wire + seen[i], n);
                seen[i] += n;
                moved = true;
            }
            if (to->a.state == BP_AUTH_ST_WAIT_TRUST) {
                (void)trust(to, false, NULL);
                moved = true;
            }
        }
    }
}

#endif
