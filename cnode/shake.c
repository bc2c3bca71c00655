/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From TLS to a connection that is up: what authentication asks of files, the distribution
 * handshake, and which of two connections to one peer stays.
 */
#include "cnode/cn.h"

#include "auth/node_name.h"

#include <stdlib.h>
#include <string.h>

/* --- authentication ------------------------------------------------------ */

/* Strangers who do not have the cookie may try so often: each costs a handshake. */
static bool take_newcomer(struct cn_peer *p, bp_time now)
{
    p->newcomer = bp_listener_newcomer(p->n->listener, &p->counted_as, now);
    if (!p->newcomer) {
        bp_link_fail(p->link, BP_E_NEWCOMERS, NULL);
    }
    return p->newcomer;
}

/* Looking for a key under any name reads the whole trust store: strangers get so many. */
static void look_up(struct cn_peer *p, const struct bp_link_event *ev, bp_time now)
{
    uint8_t key[BP_KEY_LEN];
    struct bp_errbuf err;
    bool found;
    int rc;

    if (ev->by_key && p->inbound && !take_newcomer(p, now)) {
        return;
    }
    rc = bp_peer_trust_lookup(&p->trust, ev, &found, key, &err);
    if (rc == 0) {
        if (ev->by_key && found) {
            cn_peer_known(p);
        }
        bp_link_trust(p->link, found, found ? key : NULL, now);
    } else {
        bp_link_fail(p->link, rc, err.text);
    }
}

static bool newcomer(struct cn_peer *p, const struct bp_link_event *ev, bp_time now)
{
    bool dynamic = bp_node_name_dynamic(ev->name, strlen(ev->name));

    if (!p->inbound ||
        (ev->has_key && !ev->pin && !(dynamic && p->n->opt.trust == BP_TRUST_TOFU))) {
        return true;
    }
    return take_newcomer(p, now);
}

static void authenticated(struct cn_peer *p, const struct bp_link_event *ev, bp_time now)
{
    struct bp_node *n = p->n;

    p->authenticated = true;
    n->stats.authenticated += p->inbound;
    bp_peer_trust_proved(&p->trust, ev);
    if (ev->name[0] != '\0') {
        cn_peer_set_name(p, ev->name);
    }
    if (!newcomer(p, ev, now) || !p->inbound) {
        return;
    }
    p->native = !n->accept_ei;
    p->ei_peer = n->accept_ei;
}

void cn_shake_events(struct cn_peer *p, bp_time now)
{
    struct bp_link_event ev;

    while (bp_link_poll(p->link, &ev)) {
        switch (ev.kind) {
        case BP_LINK_EV_LOOKUP:
            look_up(p, &ev, now);
            break;
        case BP_LINK_EV_AUTHENTICATED:
            authenticated(p, &ev, now);
            break;
        case BP_LINK_EV_CID_ADDED:
        case BP_LINK_EV_CID_REMOVED:
            cn_peer_cid(p, &ev.cid, ev.kind == BP_LINK_EV_CID_ADDED);
            break;
        case BP_LINK_EV_FAILED:
            bp_peer_trust_claimed(&p->trust, bp_link_peer_key(p->link));
            break;
        case BP_LINK_EV_IDLE_ASKED:
            /* When a connection is of no use any more is for the program to know. */
            (void)bp_link_idle_answer(p->link, false, 0, now);
            break;
        case BP_LINK_EV_TLS_DONE:
        default:
            break;
        }
    }
}

/* --- the distribution handshake ------------------------------------------ */

int cn_shake_recv(struct cn_peer *p, const uint8_t **msg, size_t *len)
{
    struct bp_errbuf err;
    int rc = bp_link_hs_recv(p->link, msg, len);

    if (rc != 1 || !bp_link_claimed(p->link) || !p->n->opt.auth) {
        return rc;
    }
    rc = bp_peer_trust_name(&p->trust, bp_link_peer_name(p->link), &err);
    if (rc == 0) {
        return 1;
    }
    bp_link_fail(p->link, rc, rc == BP_E_AUTH_KEY_MISMATCH ? NULL : err.text);
    return rc;
}

int cn_shake_send(struct cn_peer *p, const uint8_t *msg, size_t len)
{
    p->cookie_shown = msg[0] == 'r';
    return bp_link_hs_send(p->link, msg, len);
}

int cn_shake_done(struct cn_peer *p, bp_time now)
{
    struct bp_node *n = p->n;
    struct bp_errbuf err;
    char note[256];
    bool replaced = false;
    int rc = 0;

    cn_peer_welcome(p);
    cn_peer_set_name(p, bp_link_peer_name(p->link));
    if (n->opt.auth) {
        if (!p->trust.has_key) {
            cn_log(n, BP_LOG_WARNING, "cookie_only", cn_who(p),
                   "connected without proof of who it is, the cookie was enough: "
                   "BP_OPT_COOKIE_ONLY names it");
        }
        rc = bp_peer_trust_pin(&p->trust, bp_link_peer_name(p->link), &replaced, note, sizeof(note),
                               &err);
    }
    if (replaced) {
        cn_log(n, BP_LOG_WARNING, "key_rotated", cn_who(p), "%s", note);
    }
    if (rc == BP_E_MISMATCH) {
        rc = BP_E_AUTH_KEY_MISMATCH;
        bp_link_fail(p->link, rc,
                     "the key that is pinned to this name was changed or removed meanwhile");
    } else if (rc != 0) {
        bp_link_fail(p->link, rc, err.text);
    } else {
        rc = bp_link_up(p->link);
    }
    if (rc != 0) {
        return rc;
    }
    bp_link_deliver(p->link);
    p->stage = CN_UP;
    p->was_up = true;
    p->up_at = now;
    free(p->addrs);
    p->addrs = NULL;
    n->stats.went_up++;
    cn_log(n, BP_LOG_INFO, "connection_up", cn_who(p), "%s",
           p->inbound ? "it has dialled us" : "we have dialled it");
    return 0;
}

/*
 * A peer has said its name: is there a connection already, or do we dial it, too? Then the node
 * whose name is the greater one keeps its own, as OTP's net_kernel has it.
 */
static enum bp_shake_status judge(struct cn_peer *p, bp_time now)
{
    struct bp_node *n = p->n;
    struct cn_peer *other;

    if (cn_peer_native(p, CN_UP, false) != NULL) {
        return BP_SHAKE_ALIVE;
    }
    other = cn_peer_native(p, CN_SETUP, true);
    if (other == NULL) {
        return BP_SHAKE_OK;
    }
    if (strcmp(n->name, bp_link_peer_name(p->link)) > 0) {
        return BP_SHAKE_NOK;
    }
    cn_peer_end(other, BP_E_HS_NOT_ALLOWED,
                "the peer dials us at the same moment: its connection is the one", now);
    return BP_SHAKE_OK_SIMULTANEOUS;
}

/* The peer has shown the cookie, and is sure that the connection that we have is gone. */
static void replace_old(struct cn_peer *p, bp_time now)
{
    struct cn_peer *old = cn_peer_native(p, CN_UP, false);

    if (old != NULL) {
        cn_peer_end(old, BP_E_PEER_CLOSED, "the peer has begun a new connection", now);
    }
}

static int say(struct cn_peer *p)
{
    const uint8_t *msg;
    size_t len;

    while (bp_shake_poll(p->shake, &msg, &len)) {
        int rc = cn_shake_send(p, msg, len);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int begin(struct cn_peer *p)
{
    p->shake = malloc(sizeof(*p->shake));
    if (p->shake == NULL) {
        return BP_E_NOMEM;
    }
    return bp_shake_init(p->shake, p->inbound, p->n->name, p->n->opt.cookie, p->n->creation);
}

static int on_message(struct cn_peer *p, const uint8_t *msg, size_t len, bp_time now)
{
    int rc;

    p->shake->have_other = cn_peer_native(p, CN_UP, false) != NULL;
    rc = bp_shake_recv(p->shake, msg, len);
    if (rc == 0 && p->shake->state == BP_SHAKE_ASKED) {
        rc = bp_shake_status(p->shake, judge(p, now));
    }
    return rc;
}

static void go_up(struct cn_peer *p, bp_time now)
{
    replace_old(p, now);
    if (cn_shake_done(p, now) != 0) {
        return;
    }
    p->peer_flags = p->shake->peer_flags;
    p->peer_creation = p->shake->peer_creation;
    free(p->shake);
    p->shake = NULL;
    p->silent = false;
    p->tell_up = true;
    cn_event_ready(p);
}

int cn_shake_accepted(struct cn_peer *p, bp_time now)
{
    int rc;

    replace_old(p, now);
    rc = say(p); /* what was held back */
    if (rc != 0) {
        bp_link_fail(p->link, rc, NULL);
        return rc;
    }
    rc = cn_shake_done(p, now);
    if (rc == 0) {
        p->peer_flags = p->shake->peer_flags;
        p->peer_creation = p->shake->peer_creation;
        free(p->shake);
        p->shake = NULL;
    }
    return rc;
}

/* Where libei is to accept the peer, the last message waits for that. */
static bool holds_back(const struct cn_peer *p)
{
    return !p->native && p->shake->state == BP_SHAKE_DONE;
}

static void shaken(struct cn_peer *p, bp_time now)
{
    int rc;

    if (p->native) {
        go_up(p, now);
        return;
    }
    if (p->offered || p->ei != NULL) {
        return;
    }
    rc = cn_ei_offer(p);
    if (rc != 0) {
        bp_link_fail(p->link, rc, "the program does not accept peers, or too many wait for that");
    }
}

void cn_shake_step(struct cn_peer *p, bp_time now)
{
    const uint8_t *msg;
    size_t len;
    int rc = 0;

    if (bp_link_phase(p->link) != BP_LINK_HANDSHAKE && bp_link_phase(p->link) != BP_LINK_FAILED) {
        return;
    }
    if (p->shake == NULL && bp_link_phase(p->link) == BP_LINK_HANDSHAKE) {
        rc = begin(p);
        rc = rc == 0 ? say(p) : rc;
    }
    while (rc == 0 && p->shake != NULL && p->shake->state < BP_SHAKE_DONE &&
           cn_shake_recv(p, &msg, &len) == 1) {
        rc = on_message(p, msg, len, now);
        if (bp_link_phase(p->link) == BP_LINK_HANDSHAKE && !holds_back(p)) {
            int said = say(p);
            rc = rc != 0 ? rc : said;
        }
    }
    if (rc != 0) {
        /* A link that the peer has closed behind its refusal has failed already: this says why. */
        p->shake_err = rc;
        p->shake_why = p->shake != NULL ? p->shake->why : NULL;
        bp_link_fail(p->link, rc, p->shake_why);
    } else if (p->shake != NULL && p->shake->state == BP_SHAKE_DONE && p->stage == CN_SETUP &&
               bp_link_phase(p->link) == BP_LINK_HANDSHAKE) {
        shaken(p, now);
    }
}
