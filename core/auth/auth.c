/* SPDX-License-Identifier: Apache-2.0 */
/* State machine of the authentication; its tables are in the header. */
#include "auth/auth.h"

#include <string.h>

#include "auth/node_name.h"
#include "base/err.h"
#include "base/rw.h"

#define NONCE_RANDOM 16u /* random half of a nonce; the other half is its MAC */
#define SIGNED_LEN   (BP_NONCE_LEN + 8u + BP_KEY_LEN + BP_BINDING_LEN) /* WIRE 3.1 */

/* Reasons of FAIL on the wire (WIRE 3.3) */
static const char wire_key_mismatch[] = "key_mismatch";
static const char wire_untrusted[] = "untrusted_key";
static const char wire_signature[] = "signature_invalid";

/* SUCCESSION, HELLO, CHALLENGE, RESPONSE, and FAIL with the longest reason */
_Static_assert(5 * BP_AUTH_FRAME_HEAD + BP_AUTH_SUCCESSION_MAX + BP_AUTH_HELLO_MAX +
                       BP_AUTH_CHALLENGE_LEN + BP_AUTH_RESPONSE_LEN + 3 + sizeof(wire_signature) <=
                   BP_AUTH_OUT_CAP,
               "room for all that a side sends");

/* --- effects --------------------------------------------------------------- */

/* Every state adds at most two, so that the array cannot overflow (the tests walk all paths). */
static struct bp_auth_effect *add_effect(struct bp_auth *a, enum bp_auth_effect_kind kind)
{
    struct bp_auth_effect *e = &a->effects[a->n_effects];

    if (a->n_effects < BP_AUTH_MAX_EFFECTS - 1) {
        a->n_effects++;
    }
    *e = (struct bp_auth_effect){
        .kind = kind, .peer_name = a->peer_name, .peer_key = a->has_key ? a->peer_key : NULL};
    return e;
}

static bool is_over(const struct bp_auth *a)
{
    return a->state == BP_AUTH_ST_FINISHED || a->state == BP_AUTH_ST_FAILED;
}

/* The end, without a word to the peer. `reason` may be NULL. */
static int fail(struct bp_auth *a, int err, const char *reason)
{
    struct bp_auth_effect *e = add_effect(a, BP_AUTH_FAILED);

    a->state = BP_AUTH_ST_FAILED;
    e->err = err;
    e->reason = reason != NULL ? reason : bp_err_text(err);
    return err;
}

/* Sends `n` messages as one effect. */
static int send_msgs(struct bp_auth *a, const struct bp_auth_msg *msgs, size_t n, bool fin)
{
    struct bp_writer w;
    struct bp_auth_effect *e;

    bp_writer_init(&w, a->out + a->out_len, sizeof(a->out) - a->out_len);
    for (size_t i = 0; i < n; i++) {
        bp_auth_msg_encode(&w, &msgs[i]);
    }
    if (w.bad) {
        return fail(a, BP_E_INTERNAL, NULL);
    }
    e = add_effect(a, BP_AUTH_SEND);
    e->data = w.base;
    e->len = w.len;
    e->fin = fin;
    a->out_len += w.len;
    return 0;
}

/* The end, and a server tells the client why. */
static int fail_told(struct bp_auth *a, int err, const char *wire)
{
    struct bp_auth_msg msg = {.type = BP_AUTH_MSG_FAIL, .reason = wire, .reason_len = strlen(wire)};

    if (a->cfg.role == BP_AUTH_SERVER) {
        int rc = send_msgs(a, &msg, 1, true);
        if (rc != 0) {
            return rc;
        }
    }
    return fail(a, err, NULL);
}

/* Success: a client ends its stream, a server says OK and ends its stream. */
static int finish(struct bp_auth *a, bool has_identity)
{
    struct bp_auth_msg ok = {.type = BP_AUTH_MSG_OK};
    struct bp_auth_effect *e;
    int rc = send_msgs(a, &ok, a->cfg.role == BP_AUTH_SERVER ? 1 : 0, true);

    if (rc != 0) {
        return rc;
    }
    e = add_effect(a, BP_AUTH_DONE);
    e->has_identity = has_identity;
    e->pin = has_identity && a->pin;
    e->replaces = e->pin && a->replacing ? a->replaced : NULL;
    a->state = BP_AUTH_ST_FINISHED;
    return 0;
}

/* --- nonces and signatures ------------------------------------------------- */

static int nonce_mac(const struct bp_auth *a, const uint8_t *random, uint8_t *mac)
{
    return bp_hmac_sha256(a->cfg.nonce_secret, BP_KEY_LEN, random, NONCE_RANDOM, mac);
}

static int make_nonce(struct bp_auth *a)
{
    uint8_t mac[BP_SHA256_LEN];
    int rc;

    if (a->cfg.test_nonce != NULL) {
        memcpy(a->nonce, a->cfg.test_nonce, BP_NONCE_LEN);
        return 0;
    }
    rc = bp_random(a->nonce, NONCE_RANDOM);
    if (rc == 0) {
        rc = nonce_mac(a, a->nonce, mac);
    }
    if (rc == 0) {
        memcpy(a->nonce + NONCE_RANDOM, mac, BP_NONCE_LEN - NONCE_RANDOM);
    }
    bp_wipe(mac, sizeof(mac));
    return rc;
}

/* BP_E_AUTH_REFLECTED if `nonce` came from this object or another one with our secret. */
static int check_nonce(const struct bp_auth *a, const uint8_t *nonce)
{
    uint8_t mac[BP_SHA256_LEN];
    int rc = nonce_mac(a, nonce, mac);

    if (rc == 0 && (bp_equal_ct(nonce, a->nonce, BP_NONCE_LEN) ||
                    bp_equal_ct(nonce + NONCE_RANDOM, mac, BP_NONCE_LEN - NONCE_RANDOM))) {
        rc = BP_E_AUTH_REFLECTED;
    }
    bp_wipe(mac, sizeof(mac));
    return rc;
}

/* The message that `signer` signs to answer a challenge (WIRE 3.1). */
static void signed_message(const struct bp_auth *a, const uint8_t *nonce, uint64_t ts_ms,
                           const uint8_t *signer, uint8_t out[static SIGNED_LEN])
{
    struct bp_writer w;

    bp_writer_init(&w, out, SIGNED_LEN);
    bp_write_bytes(&w, nonce, BP_NONCE_LEN);
    bp_write_u64(&w, ts_ms);
    bp_write_bytes(&w, signer, BP_KEY_LEN);
    bp_write_bytes(&w, a->cfg.binding, BP_BINDING_LEN);
}

/* --- trust ----------------------------------------------------------------- */

/* Sends our HELLO, our challenge or both. */
static int introduce(struct bp_auth *a, bool hello, bool challenge, bp_time now, uint64_t wall_ms)
{
    const struct bp_succession *own = a->cfg.succession;
    uint8_t links[BP_SUCCESSION_MAX * BP_SUCCESSION_LINK_LEN];
    struct bp_auth_msg msgs[3] = {
        {.type = BP_AUTH_MSG_SUCCESSION, .links = links},
        {.type = BP_AUTH_MSG_HELLO,
         .name = a->cfg.self_name,
         .name_len = strlen(a->cfg.self_name),
         .pub = bp_identity_pub(a->cfg.identity)},
        {.type = BP_AUTH_MSG_CHALLENGE, .nonce = a->nonce, .ts_ms = wall_ms},
    };

    if (challenge) {
        a->sent_at = now;
        a->sent_ts_ms = wall_ms;
    }
    if (hello && a->ours && own != NULL && own->n != 0) {
        msgs[0].links_len = bp_succession_encode(own, links);
        return send_msgs(a, msgs, challenge ? 3 : 2, false);
    }
    return send_msgs(a, hello ? &msgs[1] : &msgs[2], hello && challenge ? 2 : 1, false);
}

/* The peer's key is trusted: challenge it, if that is still to be done. A server also says who it
 * is. */
static int accept_key(struct bp_auth *a, bp_time now, uint64_t wall_ms)
{
    int rc = a->challenged ? 0 : introduce(a, a->cfg.role == BP_AUTH_SERVER, true, now, wall_ms);

    if (rc == 0) {
        a->state = BP_AUTH_ST_WAIT_CHALLENGE;
    }
    return rc;
}

/* The pinned key has handed over to the peer's: trusted, and to be pinned instead. */
static bool has_succeeded(struct bp_auth *a, const uint8_t *pinned_key)
{
    if (bp_succession_check(&a->succession, a->peer_name, pinned_key, a->peer_key) != 0) {
        return false;
    }
    memcpy(a->replaced, pinned_key, BP_KEY_LEN);
    a->replacing = true;
    a->pin = true;
    return true;
}

static int judge_key(struct bp_auth *a, bool found, const uint8_t *pinned_key, bp_time now,
                     uint64_t wall_ms)
{
    bool same = pinned_key != NULL && bp_equal_ct(pinned_key, a->peer_key, BP_KEY_LEN);

    if (found && !a->by_key && !same) {
        if (pinned_key != NULL && has_succeeded(a, pinned_key)) {
            return accept_key(a, now, wall_ms);
        }
        return fail_told(a, BP_E_AUTH_KEY_MISMATCH, wire_key_mismatch);
    }
    if (found && a->by_key && pinned_key != NULL && !same) {
        return fail_told(a, BP_E_AUTH_UNTRUSTED, wire_untrusted);
    }
    if (!found && a->cfg.trust_mode == BP_TRUST_STRICT) {
        return fail_told(a, BP_E_AUTH_UNTRUSTED, wire_untrusted);
    }
    a->pin = !found && !a->by_key;
    return accept_key(a, now, wall_ms);
}

static bool is_cookie_only(const struct bp_auth *a, const char *name)
{
    for (size_t i = 0; i < a->cfg.n_cookie_only; i++) {
        if (bp_node_name_match(a->cfg.cookie_only[i], name)) {
            return true;
        }
    }
    return false;
}

/* --- messages -------------------------------------------------------------- */

static int on_hello(struct bp_auth *a, const struct bp_auth_msg *msg, bp_time now, uint64_t wall_ms)
{
    bool dynamic = bp_node_name_dynamic(msg->name, msg->name_len);
    bool client = a->cfg.role == BP_AUTH_CLIENT;

    memcpy(a->peer_key, msg->pub, BP_KEY_LEN);
    a->has_key = true;
    if (!bp_node_name_valid(msg->name, msg->name_len)) {
        return fail(a, BP_E_AUTH_BAD_NAME, NULL);
    }
    memcpy(a->peer_name, msg->name, msg->name_len);
    a->peer_name[msg->name_len] = '\0';
    if (bp_equal_ct(a->peer_key, bp_identity_pub(a->cfg.identity), BP_KEY_LEN) ||
        (!dynamic && strcmp(a->peer_name, a->cfg.self_name) == 0)) {
        return fail(a, BP_E_AUTH_OWN_IDENTITY, NULL);
    }
    if (client &&
        (a->cfg.dialled_name[0] == '\0' ? dynamic
                                        : strcmp(a->peer_name, a->cfg.dialled_name) != 0)) {
        return fail(a, BP_E_AUTH_NAME_MISMATCH, NULL);
    }
    if (!client && is_cookie_only(a, a->peer_name)) {
        a->has_key = false;
        return finish(a, false);
    }
    a->by_key = dynamic;
    if (dynamic && a->cfg.trust_mode == BP_TRUST_TOFU) {
        return judge_key(a, false, NULL, now, wall_ms);
    }
    add_effect(a, BP_AUTH_LOOKUP)->by_key = dynamic;
    a->state = BP_AUTH_ST_WAIT_TRUST;
    return 0;
}

static int on_challenge(struct bp_auth *a, const struct bp_auth_msg *msg, uint64_t wall_ms)
{
    uint64_t skew = msg->ts_ms > wall_ms ? msg->ts_ms - wall_ms : wall_ms - msg->ts_ms;
    struct bp_auth_msg answer = {.type = BP_AUTH_MSG_RESPONSE};
    uint8_t text[SIGNED_LEN];
    uint8_t sig[BP_SIG_LEN];
    int rc = check_nonce(a, msg->nonce);

    if (rc == 0 && skew > a->skew_max_ms) {
        rc = BP_E_AUTH_SKEW;
    }
    if (rc != 0) {
        return fail(a, rc, NULL);
    }
    signed_message(a, msg->nonce, msg->ts_ms, bp_identity_pub(a->cfg.identity), text);
    rc = bp_identity_sign(a->cfg.identity, text, sizeof(text), sig);
    if (rc != 0) {
        return fail(a, rc, NULL);
    }
    answer.sig = sig;
    a->state = BP_AUTH_ST_WAIT_RESPONSE;
    a->paused = a->cfg.pause && a->cfg.role == BP_AUTH_SERVER;
    return send_msgs(a, &answer, 1, false);
}

static int on_response(struct bp_auth *a, const struct bp_auth_msg *msg, bp_time now)
{
    bp_time elapsed = now > a->sent_at ? now - a->sent_at : 0;
    uint8_t text[SIGNED_LEN];
    int rc;

    if (elapsed > a->cfg.window) {
        return fail_told(a, BP_E_AUTH_LATE, wire_signature);
    }
    signed_message(a, a->nonce, a->sent_ts_ms, a->peer_key, text);
    rc = bp_ed25519_verify(a->peer_key, text, sizeof(text), msg->sig);
    if (rc == BP_E_AUTH_SIGNATURE) {
        return fail_told(a, rc, wire_signature);
    }
    if (rc != 0) {
        return fail(a, rc, NULL);
    }
    a->has_identity = true;
    if (a->cfg.role == BP_AUTH_SERVER) {
        return finish(a, true);
    }
    a->state = BP_AUTH_ST_WAIT_OK;
    return 0;
}

/* OK is the end of a handshake, or, instead of a HELLO, a server that wants no identity from us. */
static int on_ok(struct bp_auth *a)
{
    if (a->state == BP_AUTH_ST_WAIT_OK && a->has_identity) {
        return finish(a, true);
    }
    if (a->state != BP_AUTH_ST_WAIT_HELLO || !is_cookie_only(a, a->cfg.dialled_name)) {
        return fail(a, BP_E_AUTH_UNEXPECTED_OK, NULL);
    }
    memcpy(a->peer_name, a->cfg.dialled_name, strlen(a->cfg.dialled_name) + 1);
    return finish(a, false);
}

static int on_fail(struct bp_auth *a, const struct bp_auth_msg *msg)
{
    for (size_t i = 0; i < msg->reason_len; i++) {
        char c = msg->reason[i];
        a->reason[i] = c >= ' ' && c <= '~' ? c : '?';
    }
    a->reason[msg->reason_len] = '\0';
    return fail(a, BP_E_AUTH_REJECTED, a->reason);
}

static int on_msg(struct bp_auth *a, const struct bp_auth_msg *msg, bp_time now, uint64_t wall_ms)
{
    bool client = a->cfg.role == BP_AUTH_CLIENT;

    switch (msg->type) {
    case BP_AUTH_MSG_SUCCESSION:
        if (a->state == BP_AUTH_ST_WAIT_HELLO && a->ours && a->succession.n == 0) {
            int rc = bp_succession_decode(&a->succession, msg->links, msg->links_len);
            return rc == 0 ? 0 : fail(a, BP_E_AUTH_MALFORMED, NULL);
        }
        break;
    case BP_AUTH_MSG_HELLO:
        if (a->state == BP_AUTH_ST_WAIT_HELLO) {
            return on_hello(a, msg, now, wall_ms);
        }
        break;
    case BP_AUTH_MSG_CHALLENGE:
        if (a->state == BP_AUTH_ST_WAIT_CHALLENGE) {
            return on_challenge(a, msg, wall_ms);
        }
        break;
    case BP_AUTH_MSG_RESPONSE:
        if (a->state == BP_AUTH_ST_WAIT_RESPONSE) {
            return on_response(a, msg, now);
        }
        break;
    case BP_AUTH_MSG_OK:
        if (client) {
            return on_ok(a);
        }
        break;
    case BP_AUTH_MSG_FAIL:
        if (client) {
            return on_fail(a, msg);
        }
        break;
    }
    return fail(a, BP_E_AUTH_UNEXPECTED, NULL);
}

/* Handles the frames at hand, up to the end or to a question for the host. */
static int run(struct bp_auth *a, bp_time now, uint64_t wall_ms)
{
    struct bp_auth_msg msg;
    const uint8_t *p = NULL;
    size_t len = 0;
    int rc;

    while (!is_over(a) && a->state != BP_AUTH_ST_WAIT_TRUST && !a->paused) {
        rc = bp_auth_split_next(&a->in, &p, &len);
        if (rc == 0 && p == NULL) {
            return 0;
        }
        if (rc == 0) {
            rc = bp_auth_msg_decode(&msg, p, len);
        }
        if (rc != 0) {
            return fail(a, rc, NULL);
        }
        rc = on_msg(a, &msg, now, wall_ms);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* --- public ---------------------------------------------------------------- */

static bool is_node_name(const char *name)
{
    return name != NULL && bp_node_name_valid(name, strlen(name));
}

int bp_auth_init(struct bp_auth *a, const struct bp_auth_config *cfg)
{
    memset(a, 0, sizeof(*a));
    a->state = BP_AUTH_ST_FAILED;
    if (cfg->identity == NULL || cfg->nonce_secret == NULL || !is_node_name(cfg->self_name) ||
        (cfg->role == BP_AUTH_CLIENT &&
         (cfg->dialled_name == NULL ||
          (cfg->dialled_name[0] != '\0' && !is_node_name(cfg->dialled_name)))) ||
        (cfg->n_cookie_only != 0 && cfg->cookie_only == NULL)) {
        return BP_E_INVALID;
    }
    a->cfg = *cfg;
    if (a->cfg.window == 0) {
        a->cfg.window = BP_AUTH_WINDOW;
    }
    a->skew_max_ms = a->cfg.window / BP_MS * 2;
    a->state = cfg->role == BP_AUTH_CLIENT ? BP_AUTH_ST_START : BP_AUTH_ST_WAIT_HELLO;
    return make_nonce(a);
}

void bp_auth_free(struct bp_auth *a)
{
    bp_wipe(a, sizeof(*a));
}

int bp_auth_start(struct bp_auth *a, bp_time now, uint64_t wall_ms)
{
    if (a->cfg.role == BP_AUTH_SERVER && a->state == BP_AUTH_ST_WAIT_HELLO) {
        return 0;
    }
    if (a->state != BP_AUTH_ST_START) {
        return BP_E_STATE;
    }
    a->state = BP_AUTH_ST_WAIT_HELLO;
    return introduce(a, true, false, now, wall_ms);
}

int bp_auth_start_early(struct bp_auth *a, bp_time now, uint64_t wall_ms)
{
    bool server = a->cfg.role == BP_AUTH_SERVER;

    if (a->state != (server ? BP_AUTH_ST_WAIT_HELLO : BP_AUTH_ST_START) || a->challenged) {
        return BP_E_STATE;
    }
    a->ours = true;
    if (server && a->cfg.n_cookie_only != 0) {
        return 0;
    }
    a->state = BP_AUTH_ST_WAIT_HELLO;
    a->challenged = true;
    return introduce(a, true, true, now, wall_ms);
}

int bp_auth_recv(struct bp_auth *a, const uint8_t *p, size_t len, bp_time now, uint64_t wall_ms)
{
    if (a->state == BP_AUTH_ST_START) {
        return BP_E_STATE;
    }
    while (len != 0 && !is_over(a)) {
        size_t n = bp_auth_split_push(&a->in, p, len);
        int rc;

        if (n == 0) {
            return fail(a, BP_E_AUTH_UNEXPECTED,
                        "the peer sent too much before its key was judged");
        }
        p += n;
        len -= n;
        rc = run(a, now, wall_ms);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

int bp_auth_peer_fin(struct bp_auth *a)
{
    if (is_over(a)) {
        return 0;
    }
    if (a->state == BP_AUTH_ST_START) {
        return BP_E_STATE;
    }
    if (a->state == BP_AUTH_ST_WAIT_TRUST || a->paused) {
        a->fin = true;
        return 0;
    }
    return fail(a, BP_E_AUTH_FINISHED, NULL);
}

/* Handles what has waited for an answer or a pause, the end of the stream last. */
static int catch_up(struct bp_auth *a, bp_time now, uint64_t wall_ms)
{
    int rc = run(a, now, wall_ms);

    if (rc == 0 && a->fin) {
        rc = bp_auth_peer_fin(a);
    }
    return rc;
}

int bp_auth_continue(struct bp_auth *a, bp_time now, uint64_t wall_ms)
{
    if (!a->paused) {
        return 0;
    }
    a->paused = false;
    return catch_up(a, now, wall_ms);
}

int bp_auth_trust(struct bp_auth *a, bool found, const uint8_t *pinned_key, bp_time now,
                  uint64_t wall_ms)
{
    int rc;

    if (a->state != BP_AUTH_ST_WAIT_TRUST) {
        return BP_E_STATE;
    }
    if (found && pinned_key == NULL && !a->by_key) {
        return BP_E_INVALID;
    }
    rc = judge_key(a, found, pinned_key, now, wall_ms);
    return rc == 0 ? catch_up(a, now, wall_ms) : rc;
}

bool bp_auth_responded(const struct bp_auth *a)
{
    return a->state == BP_AUTH_ST_WAIT_RESPONSE || a->state == BP_AUTH_ST_WAIT_OK;
}

bool bp_auth_poll(struct bp_auth *a, struct bp_auth_effect *out)
{
    if (a->next_effect == a->n_effects) {
        return false;
    }
    *out = a->effects[a->next_effect++];
    return true;
}
