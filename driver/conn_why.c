/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why a connection failed, in words that help: a failed authentication names the key that the peer
 * presented, the one that was expected, and the command that makes the key a trusted one if its
 * owner confirms it. All of it is printable ASCII: names are valid, keys are digits.
 */
#include "driver/drv.h"

#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>

#define TEXT_MAX 1024u
#define HEX_LEN  (2u * BP_KEY_LEN)

struct text {
    char *p;
    size_t len;
};

static void add(struct text *t, const char *fmt, ...) BP_PRINTF(2, 3);

static void add(struct text *t, const char *fmt, ...)
{
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(t->p + t->len, TEXT_MAX - t->len, fmt, ap);
    va_end(ap);
    if (n > 0) {
        t->len += (size_t)n < TEXT_MAX - t->len ? (size_t)n : TEXT_MAX - t->len - 1;
    }
}

static void hex(const uint8_t *key, char out[static HEX_LEN + 1])
{
    for (size_t i = 0; i < BP_KEY_LEN; i++) {
        (void)snprintf(out + 2 * i, 3, "%02x", key[i]);
    }
}

static void add_keys(struct text *t, const struct drv_conn *c)
{
    char fingerprint[BP_FINGERPRINT_TEXT];

    if (c->presented || c->has_key) {
        bp_fingerprint_text(c->key, fingerprint);
        add(t, "; it presented the key %s", fingerprint);
    }
    if (c->was_pinned) {
        bp_fingerprint_text(c->expected, fingerprint);
        add(t, ", pinned is %s", fingerprint);
    } else if (c->presented && bp_link_error(c->link) == BP_E_AUTH_UNTRUSTED) {
        add(t, ", none is pinned");
    }
}

/*
 * How `node` comes to trust `key`, with `replace` instead of another one; `dir` may be NULL: on
 * another machine.
 */
static void add_cure(struct text *t, const char *node, const uint8_t *key, const char *dir,
                     bool replace)
{
    char digits[HEX_LEN + 1];

    hex(key, digits);
    add(t,
        "`barrel-p2p trust add %s --key %s%s%s%s` or barrel_p2p_dist_keys:store_key('%s', "
        "<<16#%s:256>>)",
        node, digits, dir != NULL ? " --dir " : "", dir != NULL ? dir : "",
        replace ? " --force" : "", node, digits);
}

/* Which of a peer's reasons for refusing us it is; FAIL carries the word, a close the name of the
 * error, which are the same where both can be. */
static int reason_of(const struct drv_conn *c)
{
    switch (drv_conn_error(c)) {
    case BP_E_AUTH_REJECTED:
        return bp_err_from_atom(bp_link_error_text(c->link));
    case BP_E_PEER_CLOSED:
        return bp_conn_peer_reason(bp_link_conn(c->link));
    default:
        return 0;
    }
}

bool drv_conn_refused_us(const struct drv_conn *c)
{
    int why = reason_of(c);

    return why <= BP_E_AUTH_MALFORMED && why >= BP_E_AUTH_FINISHED;
}

/* The peer refused us: what we presented, and what there is to do on which side. */
static void add_rejected(struct text *t, const struct drv_conn *c)
{
    const struct drv_settings *s = c->settings;
    char fingerprint[BP_FINGERPRINT_TEXT];

    if (s->identity == NULL) {
        return;
    }
    bp_fingerprint_text(bp_identity_pub(s->identity), fingerprint);
    add(t, "; it refused our key %s", fingerprint);
    switch (reason_of(c)) {
    case BP_E_AUTH_KEY_MISMATCH:
    case BP_E_AUTH_UNTRUSTED:
        add(t, ": if that is right, run on its side ");
        add_cure(t, s->node_name, bp_identity_pub(s->identity), NULL,
                 reason_of(c) == BP_E_AUTH_KEY_MISMATCH);
        break;
    case BP_E_AUTH_SIGNATURE:
    case BP_E_AUTH_LATE:
        add(t, ": our answer came too late, or something between the nodes ends TLS");
        break;
    case BP_E_AUTH_SKEW:
        add(t, ": set the clocks of both machines");
        break;
    case BP_E_AUTH_OWN_IDENTITY:
        add(t, ": it has the same name or key; its log says which");
        break;
    case BP_E_AUTH_NAME_MISMATCH:
        add(t, ": it dialled another node at our address; correct the address on its side");
        break;
    default:
        break;
    }
}

static void add_own_identity(struct text *t, const struct drv_conn *c)
{
    const struct bp_identity *own = c->settings->identity;

    if (own != NULL && bp_equal_ct(bp_identity_pub(own), c->key, BP_KEY_LEN)) {
        add(t, ", which is ours: give it a key of its own, with `barrel-p2p keygen --force` in its "
               "directory of keys, while it is down");
    } else {
        add(t, ": it uses our name; give one of the two another");
    }
}

static void add_presented(struct text *t, const struct drv_conn *c, int err)
{
    const char *peer = bp_link_peer_name(c->link);

    add_keys(t, c);
    switch (err) {
    case BP_E_AUTH_KEY_MISMATCH:
    case BP_E_AUTH_UNTRUSTED:
        if ((c->presented || c->has_key) && peer[0] != '\0') {
            add(t, "; if its owner confirms that key: ");
            add_cure(t, peer, c->key, c->settings->key_dir, c->was_pinned);
        }
        break;
    case BP_E_AUTH_SKEW:
        add(t, "; set the clocks of both machines");
        break;
    case BP_E_AUTH_LATE:
        add(t, "; one of the machines or the network is too slow, see auth_timestamp_window");
        break;
    case BP_E_AUTH_OWN_IDENTITY:
        add_own_identity(t, c);
        break;
    case BP_E_AUTH_NAME_MISMATCH:
        add(t, " and says that it is %s: correct the address of the node that was dialled", peer);
        break;
    case BP_E_AUTH_SIGNATURE:
        add(t, ", but does not own it: nobody has to be trusted");
        break;
    default:
        break;
    }
}

const char *drv_conn_error_text(const struct drv_conn *c)
{
    static _Thread_local char buf[TEXT_MAX];
    struct text t = {.p = buf};
    int err = drv_conn_error(c);

    add(&t, "%s", c->err_text[0] != '\0' ? c->err_text : bp_link_error_text(c->link));
    switch (err) {
    case BP_E_AUTH_REJECTED:
        add_rejected(&t, c);
        break;
    case BP_E_PEER_CLOSED:
        if (drv_conn_refused_us(c)) {
            add_rejected(&t, c);
        }
        break;
    case BP_E_AUTH_KEY_MISMATCH:
    case BP_E_AUTH_UNTRUSTED:
    case BP_E_AUTH_SKEW:
    case BP_E_AUTH_LATE:
    case BP_E_AUTH_OWN_IDENTITY:
    case BP_E_AUTH_NAME_MISMATCH:
    case BP_E_AUTH_BAD_NAME:
    case BP_E_AUTH_SIGNATURE:
    case BP_E_AUTH_REFLECTED:
        add_presented(&t, c, err);
        break;
    default:
        break;
    }
    return buf;
}
