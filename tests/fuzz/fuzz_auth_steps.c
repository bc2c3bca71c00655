/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The authentication state machine against a peer that follows the protocol and an attacker who
 * owns the network and the host's answers, but no secret key. Input: a byte of configuration, then
 * steps. The attacker must never be authenticated.
 */
#include "fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "auth/auth.h"
#include "base/err.h"
#include "base/rw.h"

#define N_KEYS 4

static const char *const names[] = {"a@h", "b@h", "nonode@nohost", "c@h", "bad name", ""};
#define N_NAMES (sizeof(names) / sizeof(names[0]))

struct side {
    struct bp_auth a;
    struct bp_auth_config cfg;
    uint8_t out[BP_AUTH_OUT_CAP];
    size_t out_len;
    size_t delivered; /* bytes of `out` that reached the other side */
    bool over;
    bool trusted; /* the host's last answer was a pin of the claimed key */
    bool asked;
    bool has_signed; /* its RESPONSE went out */
};

struct world {
    const uint8_t *p;
    size_t left;
    bp_time now;
    uint64_t wall;
    struct side target; /* whose invariants are checked */
    struct side peer;   /* the honest one */
};

static struct bp_identity *ids[2]; /* target, peer */
static uint8_t pubs[N_KEYS][BP_KEY_LEN];
static uint8_t nonces[2][BP_NONCE_LEN];
static const uint8_t secrets[2][BP_KEY_LEN] = {{1}, {2}};
static const char *const patterns[] = {"*@h"};

static void check(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void init_keys(void)
{
    if (ids[0] != NULL) {
        return;
    }
    for (int i = 0; i < 2; i++) {
        uint8_t seed[BP_KEY_LEN] = {(uint8_t)(i + 1)};

        check(bp_identity_new(&ids[i], seed, NULL, bp_mem_libc()) == 0);
        memcpy(pubs[i], bp_identity_pub(ids[i]), BP_KEY_LEN);
        memset(nonces[i], 0xa0 + i, BP_NONCE_LEN);
    }
    memset(pubs[2], 7, BP_KEY_LEN); /* nobody's */
    pubs[3][0] = 1;                 /* of order 1 */
}

static uint8_t next(struct world *w)
{
    if (w->left == 0) {
        return 0;
    }
    w->left--;
    return *w->p++;
}

static void on_done(const struct world *w, const struct bp_auth_effect *e)
{
    const struct side *t = &w->target;
    bool strict = t->cfg.trust_mode == BP_TRUST_STRICT;

    check(strcmp(e->peer_name, t->cfg.self_name) != 0);
    check(t->cfg.role == BP_AUTH_SERVER || strcmp(e->peer_name, t->cfg.dialled_name) == 0);
    if (!e->has_identity) {
        check(t->cfg.n_cookie_only != 0 && !e->pin && e->peer_key == NULL);
        return;
    }
    /* only the honest peer can sign, it signs one challenge, and ours reached it */
    check(memcmp(e->peer_key, pubs[1], BP_KEY_LEN) == 0);
    check(w->peer.has_signed);
    check(t->trusted || !strict);
    check(!e->pin || (!strict && t->asked && !t->trusted));
    check(!e->pin || strcmp(e->peer_name, "nonode@nohost") != 0);
}

static void drain(struct world *w, struct side *s)
{
    struct bp_auth_effect e;

    while (bp_auth_poll(&s->a, &e)) {
        check(!s->over);
        switch (e.kind) {
        case BP_AUTH_SEND:
            check(e.len <= sizeof(s->out) - s->out_len);
            memcpy(s->out + s->out_len, e.data, e.len);
            s->out_len += e.len;
            s->has_signed |= e.len == BP_AUTH_FRAME_HEAD + BP_AUTH_RESPONSE_LEN;
            break;
        case BP_AUTH_LOOKUP:
            check(!s->asked);
            s->asked = true;
            break;
        case BP_AUTH_DONE:
            s->over = true;
            if (s == &w->target) {
                on_done(w, &e);
            }
            break;
        case BP_AUTH_FAILED:
            check(e.err < 0);
            for (const char *c = e.reason; *c != '\0'; c++) {
                check(*c >= ' ' && *c <= '~');
            }
            s->over = true;
            break;
        }
    }
}

static void feed(struct world *w, struct side *s, const uint8_t *p, size_t len)
{
    int rc = bp_auth_recv(&s->a, p, len, w->now, w->wall);

    drain(w, s);
    check(rc == 0 || s->over);
}

static void deliver(struct world *w, struct side *from, struct side *to)
{
    size_t n = from->out_len - from->delivered;
    size_t want = next(w);

    if (want != 0 && want < n) {
        n = want;
    }
    from->delivered += n;
    feed(w, to, from->out + from->delivered - n, n);
}

/* A well-formed message that needs no secret. */
static void forge(struct world *w)
{
    uint8_t buf[BP_AUTH_SPLIT_CAP];
    uint8_t sig[BP_SIG_LEN] = {1};
    struct bp_auth_msg msg = {.type = (enum bp_auth_msg_type)(next(w) % 5 + 1)};
    uint8_t arg = next(w);
    struct bp_writer out;

    msg.name = names[arg % N_NAMES];
    msg.name_len = strlen(msg.name);
    msg.pub = pubs[(arg >> 4) % N_KEYS];
    msg.nonce = (arg & 1) != 0 ? nonces[0] : (arg & 2) != 0 ? nonces[1] : pubs[2];
    msg.ts_ms = w->wall + ((uint64_t)(arg >> 4) - 8) * 10000;
    msg.sig = sig;
    msg.reason = "no \x1b!";
    msg.reason_len = 5;
    for (size_t i = 0; (arg & 0x80) != 0 && i < BP_SIG_LEN; i++) {
        sig[i] = next(w);
    }
    bp_writer_init(&out, buf, sizeof(buf));
    bp_auth_msg_encode(&out, &msg);
    check(!out.bad);
    feed(w, &w->target, buf, out.len);
}

static void answer(struct world *w, struct side *s)
{
    uint8_t how = next(w) % 4;
    const uint8_t *pin = how == 1 ? s->a.peer_key : how == 2 ? pubs[2] : NULL;
    bool waits = s->a.state == BP_AUTH_ST_WAIT_TRUST;

    if (waits) {
        s->trusted = how == 1 || (how == 3 && s->a.by_key);
    }
    int rc = bp_auth_trust(&s->a, how != 0, pin, w->now, w->wall);
    check(waits || rc == BP_E_STATE);
    drain(w, s);
}

static void step(struct world *w)
{
    size_t n;

    switch (next(w) % 11) {
    case 0:
        n = next(w);
        n = n < w->left ? n : w->left;
        feed(w, &w->target, w->p, n);
        w->p += n;
        w->left -= n;
        break;
    case 1:
        deliver(w, &w->peer, &w->target);
        break;
    case 2:
        deliver(w, &w->target, &w->peer);
        break;
    case 3:
        answer(w, &w->target);
        break;
    case 4:
        answer(w, &w->peer);
        break;
    case 5:
        w->now += next(w) * BP_SEC / 4;
        break;
    case 6:
        w->wall += ((uint64_t)next(w) - 128) * 1000;
        break;
    case 7:
        forge(w);
        break;
    case 8:
        (void)!bp_auth_continue(&w->target.a, w->now, w->wall);
        drain(w, &w->target);
        break;
    case 9:
        (void)!bp_auth_continue(&w->peer.a, w->now, w->wall);
        drain(w, &w->peer);
        break;
    default:
        if (bp_auth_peer_fin(&w->target.a) != 0) {
            check(w->target.a.state == BP_AUTH_ST_FAILED);
        }
        drain(w, &w->target);
        break;
    }
}

static void open_side(struct world *w, struct side *s, size_t who, enum bp_auth_role role,
                      uint8_t how)
{
    bool early = (how & (who == 0 ? 32 : 64)) != 0;
    int rc;

    s->cfg = (struct bp_auth_config){
        .role = role,
        .identity = ids[who],
        .self_name = who == 1 && (how & 8) != 0 ? "nonode@nohost" : names[who],
        .dialled_name = names[1 - who],
        .trust_mode = (how & 2) != 0 ? BP_TRUST_STRICT : BP_TRUST_TOFU,
        .nonce_secret = secrets[who],
        .cookie_only = patterns,
        .n_cookie_only = who == 0 && (how & 4) != 0 ? 1 : 0,
        .pause = (how & 128) != 0,
        .test_nonce = nonces[who],
    };
    if (who == 1 && (how & 16) != 0) {
        s->cfg.binding[0] = 1; /* a man in the middle: no success is possible */
    }
    check(bp_auth_init(&s->a, &s->cfg) == 0);
    rc =
        early ? bp_auth_start_early(&s->a, w->now, w->wall) : bp_auth_start(&s->a, w->now, w->wall);
    check(rc == 0);
    drain(w, s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world w;
    uint8_t how;

    init_keys();
    memset(&w, 0, sizeof(w));
    w.p = data;
    w.left = size;
    w.now = BP_SEC;
    w.wall = 1767225600000;
    how = next(&w);
    open_side(&w, &w.target, 0, (how & 1) != 0 ? BP_AUTH_SERVER : BP_AUTH_CLIENT, how);
    open_side(&w, &w.peer, 1, (how & 1) != 0 ? BP_AUTH_CLIENT : BP_AUTH_SERVER, how);
    while (w.left != 0) {
        step(&w);
    }
    check(w.target.a.state != BP_AUTH_ST_FINISHED || w.target.over);
    check((how & 16) == 0 || w.target.a.state != BP_AUTH_ST_FINISHED ||
          w.target.cfg.n_cookie_only != 0);
    bp_auth_free(&w.target.a);
    bp_auth_free(&w.peer.a);
    return 0;
}
