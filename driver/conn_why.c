/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why a connection failed, in words that help: a failed authentication names the key that the peer
 * presented, the one that was expected, and the command that makes the key a trusted one if its
 * owner confirms it. All of it is printable ASCII: names are valid, keys are digits.
 */
#include "driver/drv.h"

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

static void add_rejected(struct text *t, const struct drv_conn *c)
{
    const struct drv_settings *s = c->settings;
    char fingerprint[BP_FINGERPRINT_TEXT];

    if (s->identity == NULL) {
        return;
    }
    bp_fingerprint_text(bp_identity_pub(s->identity), fingerprint);
    add(t, "; it refused our key %s: if that is right, run on its side ", fingerprint);
    add_cure(t, s->node_name, bp_identity_pub(s->identity), NULL, false);
}

const char *drv_conn_error_text(const struct drv_conn *c)
{
    static _Thread_local char buf[TEXT_MAX];
    struct text t = {.p = buf};
    const char *peer = bp_link_peer_name(c->link);

    add(&t, "%s", c->err_text[0] != '\0' ? c->err_text : bp_link_error_text(c->link));
    switch (c->err != 0 ? c->err : bp_link_error(c->link)) {
    case BP_E_AUTH_KEY_MISMATCH:
    case BP_E_AUTH_UNTRUSTED:
        add_keys(&t, c);
        if ((c->presented || c->has_key) && peer[0] != '\0') {
            add(&t, "; if its owner confirms that key: ");
            add_cure(&t, peer, c->key, c->settings->key_dir, c->was_pinned);
        }
        break;
    case BP_E_AUTH_REJECTED:
        add_rejected(&t, c);
        break;
    case BP_E_AUTH_SKEW:
    case BP_E_AUTH_LATE:
        add_keys(&t, c);
        add(&t, "; set the clocks of both machines");
        break;
    case BP_E_AUTH_OWN_IDENTITY:
    case BP_E_AUTH_NAME_MISMATCH:
    case BP_E_AUTH_BAD_NAME:
    case BP_E_AUTH_SIGNATURE:
    case BP_E_AUTH_REFLECTED:
        add_keys(&t, c);
        break;
    default:
        break;
    }
    return buf;
}
