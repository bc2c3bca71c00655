/* SPDX-License-Identifier: Apache-2.0 */
/* The key that a peer presents: looked up, pinned, explained. */
#include "io/peer_trust.h"

#include "auth/identity.h"
#include "base/err.h"
#include "io/trust_store.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define HEX_LEN (2u * BP_KEY_LEN)

/* --- files --------------------------------------------------------------- */

/* What is pinned to the peer's name; NULL: nothing is. */
static void expect(struct bp_peer_trust *t, const uint8_t *pinned)
{
    t->was_pinned = pinned != NULL;
    if (pinned != NULL) {
        memcpy(t->expected, pinned, sizeof(t->expected));
    }
}

int bp_peer_trust_lookup(struct bp_peer_trust *t, const struct bp_link_event *ev, bool *found,
                         uint8_t out[static BP_KEY_LEN], struct bp_errbuf *err)
{
    int rc;

    bp_errbuf_reset(err);
    bp_peer_trust_claimed(t, ev->key);
    if (ev->by_key) {
        rc = bp_trust_find_by_key(t->key_dir, ev->key, NULL, err);
        memcpy(out, ev->key, BP_KEY_LEN);
    } else {
        rc = bp_trust_lookup(t->key_dir, ev->name, out, err);
        expect(t, rc == 0 ? out : NULL);
    }
    *found = rc == 0;
    return rc == BP_E_NOT_FOUND ? 0 : rc;
}

void bp_peer_trust_claimed(struct bp_peer_trust *t, const uint8_t *claimed)
{
    if (claimed != NULL && !t->has_key) {
        t->presented = true;
        memcpy(t->key, claimed, sizeof(t->key));
    }
}

void bp_peer_trust_proved(struct bp_peer_trust *t, const struct bp_link_event *ev)
{
    t->pin = ev->pin;
    t->has_key = ev->has_key;
    memcpy(t->key, ev->key, sizeof(t->key));
}

int bp_peer_trust_name(struct bp_peer_trust *t, const char *name, struct bp_errbuf *err)
{
    uint8_t pinned[BP_KEY_LEN];
    int rc;

    bp_errbuf_reset(err);
    rc = bp_trust_lookup(t->key_dir, name, pinned, err);
    if (rc == BP_E_NOT_FOUND ||
        (rc == 0 && t->has_key && bp_equal_ct(pinned, t->key, sizeof(pinned)))) {
        return 0;
    }
    expect(t, rc == 0 ? pinned : NULL);
    return rc == 0 ? BP_E_AUTH_KEY_MISMATCH : rc;
}

/* A pin that was removed or changed since the key was judged counts, too. */
static int still_pinned(const struct bp_peer_trust *t, const char *name, struct bp_errbuf *err)
{
    uint8_t pinned[BP_KEY_LEN];
    int rc = bp_trust_lookup(t->key_dir, name, pinned, err);

    if (rc == BP_E_NOT_FOUND || (rc == 0 && !bp_equal_ct(pinned, t->key, sizeof(pinned)))) {
        return BP_E_MISMATCH;
    }
    return rc;
}

static int replace_pin(const struct bp_peer_trust *t, const char *name, char *note, size_t cap,
                       struct bp_errbuf *err)
{
    char old[BP_FINGERPRINT_TEXT];
    char new[BP_FINGERPRINT_TEXT];
    int rc = bp_trust_replace(t->key_dir, name, t->expected, t->key, err);

    if (rc == 0) {
        bp_fingerprint_text(t->expected, old);
        bp_fingerprint_text(t->key, new);
        (void)snprintf(note, cap,
                       "its key is %s now: the pinned one, %s, has signed it; the pin was replaced",
                       new, old);
    }
    return rc;
}

int bp_peer_trust_pin(struct bp_peer_trust *t, const char *name, bool *replaced, char *note,
                      size_t cap, struct bp_errbuf *err)
{
    int rc = 0;

    bp_errbuf_reset(err);
    *replaced = false;
    if (!t->has_key) {
        return 0;
    }
    if (t->pin && t->was_pinned) {
        rc = replace_pin(t, name, note, cap, err);
        *replaced = rc == 0;
    } else if (t->pin) {
        rc = bp_trust_store_if_new(t->key_dir, name, t->key, err);
    } else if (t->was_pinned) {
        rc = still_pinned(t, name, err);
    }
    t->pin = false;
    return rc;
}

/* --- words --------------------------------------------------------------- */

struct text {
    char *p;
    size_t cap;
    size_t len;
};

static void add(struct text *t, const char *fmt, ...) BP_PRINTF(2, 3);

static void add(struct text *t, const char *fmt, ...)
{
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(t->p + t->len, t->cap - t->len, fmt, ap);
    va_end(ap);
    if (n > 0) {
        t->len += (size_t)n < t->cap - t->len ? (size_t)n : t->cap - t->len - 1;
    }
}

static void add_keys(struct text *out, const struct bp_peer_trust *t, int err)
{
    char fingerprint[BP_FINGERPRINT_TEXT];

    if (t->presented || t->has_key) {
        bp_fingerprint_text(t->key, fingerprint);
        add(out, "; it presented the key %s", fingerprint);
    }
    if (t->was_pinned) {
        bp_fingerprint_text(t->expected, fingerprint);
        add(out, ", pinned is %s", fingerprint);
    } else if (t->presented && err == BP_E_AUTH_UNTRUSTED) {
        add(out, ", none is pinned");
    }
}

/*
 * How `node` comes to trust `key`, with `replace` instead of another one; `dir` may be NULL: on
 * another machine.
 */
static void add_cure(struct text *out, const char *node, const uint8_t *key, const char *dir,
                     bool replace)
{
    char digits[HEX_LEN + 1];

    for (size_t i = 0; i < BP_KEY_LEN; i++) {
        (void)snprintf(digits + 2 * i, 3, "%02x", key[i]);
    }
    add(out,
        "`barrel-p2p trust add %s --key %s%s%s%s` or barrel_p2p_dist_keys:store_key('%s', "
        "<<16#%s:256>>)",
        node, digits, dir != NULL ? " --dir " : "", dir != NULL ? dir : "",
        replace ? " --force" : "", node, digits);
}

int bp_peer_trust_refusal(struct bp_link *l, int err)
{
    int why = 0;

    if (err == BP_E_AUTH_REJECTED) {
        why = bp_err_from_atom(bp_link_error_text(l));
    } else if (err == BP_E_PEER_CLOSED) {
        why = bp_conn_peer_reason(bp_link_conn(l));
    }
    return (why <= BP_E_AUTH_MALFORMED && why >= BP_E_AUTH_FINISHED) || why == BP_E_HS_NAME_MISMATCH
               ? why
               : 0;
}

/* The peer refused us: what we presented, and what there is to do on which side. */
static void add_rejected(struct text *out, const struct bp_trust_sides *sides)
{
    char fingerprint[BP_FINGERPRINT_TEXT];

    if (sides->self_key == NULL) {
        return;
    }
    bp_fingerprint_text(sides->self_key, fingerprint);
    add(out, "; it refused our key %s", fingerprint);
    switch (sides->refusal) {
    case BP_E_AUTH_KEY_MISMATCH:
    case BP_E_AUTH_UNTRUSTED:
        add(out, ": if that is right, run on its side ");
        add_cure(out, sides->self, sides->self_key, NULL, sides->refusal == BP_E_AUTH_KEY_MISMATCH);
        break;
    case BP_E_AUTH_SIGNATURE:
    case BP_E_AUTH_LATE:
        add(out, ": our answer came too late, or something between the nodes ends TLS");
        break;
    case BP_E_AUTH_SKEW:
        add(out, ": set the clocks of both machines");
        break;
    case BP_E_AUTH_OWN_IDENTITY:
        add(out, ": it has the same name or key; its log says which");
        break;
    case BP_E_AUTH_NAME_MISMATCH:
        add(out, ": it dialled another node at our address; correct the address on its side");
        break;
    case BP_E_HS_NAME_MISMATCH:
        add(out, "; we authenticated as %s: start this node anew, with one name", sides->self);
        break;
    default:
        break;
    }
}

static void add_own_identity(struct text *out, const struct bp_peer_trust *t,
                             const struct bp_trust_sides *sides)
{
    if (sides->self_key != NULL && bp_equal_ct(sides->self_key, t->key, BP_KEY_LEN)) {
        add(out, ", which is ours: give it a key of its own, with `barrel-p2p keygen --force` in "
                 "its directory of keys, while it is down");
    } else {
        add(out, ": it uses our name; give one of the two another");
    }
}

static void add_presented(struct text *out, const struct bp_peer_trust *t, int err,
                          const struct bp_trust_sides *sides)
{
    add_keys(out, t, err);
    switch (err) {
    case BP_E_AUTH_KEY_MISMATCH:
    case BP_E_AUTH_UNTRUSTED:
        if ((t->presented || t->has_key) && sides->peer[0] != '\0') {
            add(out, "; if its owner confirms that key: ");
            add_cure(out, sides->peer, t->key, t->key_dir, t->was_pinned);
        }
        break;
    case BP_E_AUTH_SKEW:
        add(out, "; set the clocks of both machines");
        break;
    case BP_E_AUTH_LATE:
        add(out, "; one of the machines or the network is too slow, see auth_timestamp_window");
        break;
    case BP_E_AUTH_OWN_IDENTITY:
        add_own_identity(out, t, sides);
        break;
    case BP_E_AUTH_NAME_MISMATCH:
        add(out, " and says that it is %s: correct the address of the node that was dialled",
            sides->peer);
        break;
    case BP_E_HS_NAME_MISMATCH:
        add(out,
            "; it authenticated as %s: start that node anew, with one name; if it has "
            "only one, somebody else uses its key",
            sides->peer);
        break;
    case BP_E_AUTH_SIGNATURE:
        add(out, ", but does not own it: nobody has to be trusted");
        break;
    default:
        break;
    }
}

void bp_peer_trust_explain(const struct bp_peer_trust *t, int err, const char *text,
                           const struct bp_trust_sides *sides, char *buf, size_t cap)
{
    struct text out = {.p = buf, .cap = cap};

    add(&out, "%s", text);
    switch (err) {
    case BP_E_AUTH_REJECTED:
        add_rejected(&out, sides);
        break;
    case BP_E_PEER_CLOSED:
        if (sides->refusal != 0) {
            add_rejected(&out, sides);
        }
        break;
    case BP_E_AUTH_KEY_MISMATCH:
    case BP_E_AUTH_UNTRUSTED:
    case BP_E_AUTH_SKEW:
    case BP_E_AUTH_LATE:
    case BP_E_AUTH_OWN_IDENTITY:
    case BP_E_AUTH_NAME_MISMATCH:
    case BP_E_AUTH_BAD_NAME:
    case BP_E_HS_NAME_MISMATCH:
    case BP_E_AUTH_SIGNATURE:
    case BP_E_AUTH_REFLECTED:
        add_presented(&out, t, err, sides);
        break;
    default:
        break;
    }
}
