/* SPDX-License-Identifier: Apache-2.0 */
/* A link's authentication: its streams, and what auth/auth.h or the host wants. */
#include "dist/link_impl.h"

#include <stdio.h>
#include <string.h>

int64_t bp_link_auth_stream(bool server)
{
    return server ? 3 : 2;
}

int bp_link_init_auth(struct bp_link *l)
{
    int rc;

    l->auth_cfg.role = l->server ? BP_AUTH_SERVER : BP_AUTH_CLIENT;
    l->auth_cfg.pause = true;
    rc = bp_conn_binding(l->conn, l->auth_cfg.binding);
    if (rc == 0) {
        rc = bp_auth_init(&l->setup->auth, &l->auth_cfg);
        l->setup->auth_ready = true;
    }
    return rc;
}

/* The uni stream that carries our half of authentication. */
static int auth_slot(struct bp_link *l)
{
    int64_t id;
    int rc;

    if (l->auth_slot < 0) {
        rc = bp_conn_open_uni(l->conn, &id);
        if (rc < 0) {
            return rc;
        }
        l->auth_slot = rc;
        bp_conn_set_urgent(l->conn, (unsigned)rc);
    }
    return l->auth_slot;
}

static int put_auth(struct bp_link *l, const void *p, size_t len, bool fin)
{
    int slot = auth_slot(l);
    int rc = slot < 0 ? slot : 0;

    if (rc == 0 && len > 0) {
        rc = bp_conn_put_copy(l->conn, (unsigned)slot, p, len);
    }
    if (rc == 0 && fin) {
        rc = bp_conn_fin(l->conn, (unsigned)slot);
    }
    return rc;
}

static void announce(struct bp_link *l, const char *name, const uint8_t *key, bool pin)
{
    struct bp_link_event ev = {.kind = BP_LINK_EV_AUTHENTICATED, .pin = pin};

    snprintf(ev.name, sizeof(ev.name), "%s", name);
    snprintf(l->peer_name, sizeof(l->peer_name), "%s", name);
    if (key != NULL) {
        memcpy(ev.key, key, sizeof(ev.key));
        ev.has_key = true;
    }
    bp_link_event(l, &ev);
}

static int on_auth_effect(struct bp_link *l, const struct bp_auth_effect *e)
{
    struct bp_link_event ev = {0};
    int rc;

    switch (e->kind) {
    case BP_AUTH_SEND:
        return put_auth(l, e->data, e->len, e->fin);
    case BP_AUTH_LOOKUP:
        ev.kind = BP_LINK_EV_LOOKUP;
        ev.by_key = e->by_key;
        ev.has_key = true;
        snprintf(ev.name, sizeof(ev.name), "%s", e->peer_name);
        memcpy(ev.key, e->peer_key, sizeof(ev.key));
        snprintf(l->peer_name, sizeof(l->peer_name), "%s", e->peer_name);
        bp_link_event(l, &ev);
        return 0;
    case BP_AUTH_DONE:
        rc = bp_link_begin_hs(l);
        if (rc == 0) {
            announce(l, e->peer_name, e->has_identity ? e->peer_key : NULL, e->pin);
        }
        return rc;
    case BP_AUTH_FAILED:
    default:
        if (e->peer_name != NULL && e->peer_name[0] != '\0') {
            snprintf(l->peer_name, sizeof(l->peer_name), "%s", e->peer_name);
        }
        bp_link_fail(l, e->err, e->reason);
        return e->err;
    }
}

int bp_link_drain_auth(struct bp_link *l)
{
    struct bp_auth_effect e;

    while (l->phase == BP_LINK_AUTH && bp_auth_poll(&l->setup->auth, &e)) {
        int rc = on_auth_effect(l, &e);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

int bp_link_start_auth(struct bp_link *l)
{
    struct bp_link_setup *s = l->setup;
    int rc = 0;

    if (l->auth_mode != BP_AUTH_BUILTIN || s->auth_started) {
        return 0;
    }
    if (!l->server) {
        rc = bp_link_init_auth(l);
    }
    if (bp_conn_early_name(l->conn)) {
        /* The peer has something to do with our proof only when we go on with its name: one
         * datagram and one wake-up, with our verdict. */
        s->auth.cfg.pause = false;
    }
    if (rc == 0) {
        /* A failure comes as an effect too, with words. */
        int started = bp_conn_peer_is_ours(l->conn)
                          ? bp_auth_start_early(&s->auth, l->now, bp_link_wall_ms(l))
                          : bp_auth_start(&s->auth, l->now, bp_link_wall_ms(l));
        (void)started;
        s->auth_started = true;
    }
    return rc;
}

int bp_link_speak_early(struct bp_link *l)
{
    struct bp_auth_effect e;
    int rc = 0;

    if (!bp_conn_peer_is_ours(l->conn)) {
        return 0;
    }
    rc = bp_link_start_auth(l);
    while (rc == 0 && l->auth_mode == BP_AUTH_BUILTIN && bp_auth_poll(&l->setup->auth, &e)) {
        rc = on_auth_effect(l, &e);
    }
    return rc;
}

int bp_link_after_tls(struct bp_link *l)
{
    struct bp_link_event ev = {.kind = BP_LINK_EV_TLS_DONE};
    int rc;

    switch (l->auth_mode) {
    case BP_AUTH_NONE:
        if (l->auth_unwanted) {
            bp_link_fail(l, BP_E_AUTH_UNEXPECTED, BP_LINK_AUTH_UNWANTED);
            return l->err;
        }
        rc = bp_link_begin_hs(l);
        if (rc == 0) {
            announce(l, l->dialled, NULL, false);
        }
        return rc;
    case BP_AUTH_EXTERNAL:
        l->phase = BP_LINK_EXTERNAL;
        bp_link_event(l, &ev);
        return 0;
    case BP_AUTH_BUILTIN:
    default:
        l->phase = BP_LINK_AUTH;
        return 0;
    }
}

/* --- answers of the host --------------------------------------------------- */

void bp_link_trust(struct bp_link *l, bool found, const uint8_t *key, bp_time now)
{
    int rc;

    if (l->phase != BP_LINK_AUTH) {
        return;
    }
    l->now = now;
    rc = bp_auth_trust(&l->setup->auth, found, key, now, bp_link_wall_ms(l));
    (void)rc; /* it comes as an effect too */
    (void)bp_link_advance(l);
}

int bp_link_auth_send(struct bp_link *l, const void *p, size_t len, bool fin)
{
    return l->phase == BP_LINK_EXTERNAL ? put_auth(l, p, len, fin) : BP_E_STATE;
}

int bp_link_auth_recv(struct bp_link *l, const uint8_t **p, size_t *len, bool *fin)
{
    struct bp_link_setup *s = l->setup;

    *len = 0;
    *fin = false;
    if (l->phase != BP_LINK_EXTERNAL) {
        return BP_E_STATE;
    }
    *p = s->ext;
    *len = s->ext_len;
    *fin = s->ext_fin;
    bp_conn_credit(l->conn, bp_link_auth_stream(!l->server), *len);
    s->ext_len = 0;
    return 0;
}

int bp_link_auth_done(struct bp_link *l, bool ok, const char *name)
{
    int rc;

    if (l->phase != BP_LINK_EXTERNAL) {
        return BP_E_STATE;
    }
    if (!ok) {
        bp_link_fail(l, BP_E_AUTH_CALLBACK, NULL);
        return 0;
    }
    rc = bp_link_begin_hs(l);
    if (rc != 0) {
        bp_link_fail(l, rc, NULL);
        return rc;
    }
    announce(l, name[0] != '\0' ? name : l->dialled, NULL, false);
    rc = bp_link_pump_hs(l);
    if (rc != 0) {
        bp_link_fail(l, rc, NULL);
    }
    return rc;
}
