/* SPDX-License-Identifier: Apache-2.0 */
/* A link's distribution handshake on stream 0, from authentication until frames may flow. */
#include "auth/node_name.h"
#include "dist/link_impl.h"

#include <stdio.h>
#include <string.h>

/* The dialler's end of stream 0. */
static int open_control(struct bp_link *l)
{
    int64_t id = -1;
    int rc;

    if (l->server || l->control_slot >= 0) {
        return 0;
    }
    rc = bp_conn_open_bidi(l->conn, &id);
    if (rc < 0) {
        return rc;
    }
    l->control_slot = rc;
    bp_conn_set_urgent(l->conn, (unsigned)rc);
    return 0;
}

int bp_link_begin_hs(struct bp_link *l)
{
    l->phase = BP_LINK_HANDSHAKE;
    if (bp_conn_peer_is_ours(l->conn)) {
        bp_conn_coarse(l->conn);
    }
    return open_control(l);
}

/*
 * A dialler's name goes with its proof of who it is, where the peer keeps it until it has checked
 * that (link_rx.c): the peer goes on with it then, and does not wait for us to hear that it has.
 */
static bool name_is_early(const struct bp_link *l)
{
    return l->phase == BP_LINK_AUTH && !l->server && l->setup->out_n > 0 &&
           bp_auth_responded(&l->setup->auth) && bp_conn_early_name(l->conn);
}

int bp_link_pump_hs(struct bp_link *l)
{
    struct bp_link_setup *s = l->setup;
    int opened = s != NULL && name_is_early(l) ? open_control(l) : 0;
    unsigned slot = (unsigned)l->control_slot;

    if (opened != 0) {
        return opened;
    }
    while (s != NULL && s->out_n > 0 && l->control_slot >= 0 &&
           (bp_conn_acked(l->conn, slot) == bp_conn_queued(l->conn, slot) ||
            bp_conn_peer_is_ours(l->conn))) {
        int rc = bp_conn_put_copy(l->conn, slot, s->out[s->out_head].data, s->out[s->out_head].len);
        if (rc != 0) {
            return rc;
        }
        s->out_head = (s->out_head + 1) % BP_HS_OUT;
        s->out_n--;
    }
    if (s != NULL && l->phase == BP_LINK_UP && s->out_n == 0) {
        bp_link_drop_setup(l);
        bp_conn_settle(l->conn);
    }
    return 0;
}

static void note_said(struct bp_link *l, const void *msg, size_t len)
{
    const char *name;
    size_t name_len;
    uint64_t flags;

    l->setup->ticket = l->server && bp_conn_has_ticket(l->conn);
    if (bp_hs_name(msg, len, l->server, &name, &name_len, &flags) == 0) {
        snprintf(l->setup->said, sizeof(l->setup->said), "%.*s", (int)name_len, name);
    }
}

/* A dialler's host may give its name at once, and ask for the answer. */
static bool dials(const struct bp_link *l)
{
    return !l->server && l->setup != NULL &&
           (l->phase == BP_LINK_TLS || l->phase == BP_LINK_AUTH || l->phase == BP_LINK_EXTERNAL);
}

int bp_link_hs_send(struct bp_link *l, const void *msg, size_t len)
{
    struct bp_link_setup *s = l->setup;
    unsigned i;
    int rc;

    if (dials(l) ? l->setup->out_n > 0 : l->phase != BP_LINK_HANDSHAKE || l->control_slot < 0) {
        return BP_E_STATE;
    }
    if (s->out_n == BP_HS_OUT || len > BP_HS_OUT_BYTES || len == 0) {
        return BP_E_LIMIT;
    }
    i = (s->out_head + s->out_n) % BP_HS_OUT;
    memcpy(s->out[i].data, msg, len);
    if (s->out[i].data[0] == 'N') {
        note_said(l, msg, len);
    }
    s->out[i].len = (uint16_t)len;
    s->out_n++;
    rc = bp_link_pump_hs(l);
    if (rc != 0) {
        bp_link_fail(l, rc, NULL);
    }
    return rc;
}

/* Fails the link with both names: the authenticated one is in its peer's name. */
static int other_name(struct bp_link *l, const char *name, size_t len)
{
    char shown[BP_LINK_NAME_TEXT];
    char text[sizeof(l->text)];

    bp_err_printable(shown, sizeof(shown), name, len);
    snprintf(text, sizeof(text),
             "it says in the distribution handshake that it is %s, which is not the authenticated "
             "name",
             shown);
    bp_link_fail(l, BP_E_HS_NAME_MISMATCH, text);
    return BP_E_HS_NAME_MISMATCH;
}

/*
 * A node without a name of its own asks for one and says its host only. Once it has got a name from
 * its first peer it uses that with others, though its key is still that of nonode@nohost: the host
 * must refuse a name that is pinned to another key (bp_link_claimed).
 */
static int check_dynamic_name(struct bp_link *l, const char *name, size_t len, uint64_t flags)
{
    if ((flags & BP_HS_FLAG_NAME_ME) != 0) {
        return memchr(name, '@', len) == NULL ? 0 : other_name(l, name, len);
    }
    if (!bp_node_name_valid(name, len) || bp_node_name_dynamic(name, len) ||
        (strlen(l->auth_cfg.self_name) == len && memcmp(l->auth_cfg.self_name, name, len) == 0)) {
        return other_name(l, name, len);
    }
    memcpy(l->peer_name, name, len);
    l->peer_name[len] = '\0';
    l->claimed = true;
    return 0;
}

bool bp_link_claimed(struct bp_link *l)
{
    bool was = l->claimed;

    l->claimed = false;
    return was;
}

/*
 * The name in the distribution handshake must be the authenticated one (WIRE 11, S2). A node that
 * asks for a dynamic name authenticates as nonode@nohost.
 */
static int check_name(struct bp_link *l, const uint8_t *msg, size_t len)
{
    const char *name;
    size_t name_len;
    uint64_t flags;
    bool dynamic;
    int rc = bp_hs_name(msg, len, !l->server, &name, &name_len, &flags);

    if (rc != 0) {
        return rc;
    }
    l->peer_checked = true;
    if (l->peer_name[0] == '\0') {
        if (name_len <= BP_NODE_NAME_MAX) {
            memcpy(l->peer_name, name, name_len);
            l->peer_name[name_len] = '\0';
        }
        return 0;
    }
    dynamic = bp_node_name_dynamic(l->peer_name, strlen(l->peer_name));
    if (dynamic && l->server) {
        return check_dynamic_name(l, name, name_len, flags);
    }
    return strlen(l->peer_name) == name_len && memcmp(l->peer_name, name, name_len) == 0
               ? 0
               : other_name(l, name, name_len);
}

int bp_link_hs_recv(struct bp_link *l, const uint8_t **msg, size_t *len)
{
    int rc;

    bool closed = l->phase == BP_LINK_FAILED && l->err == BP_E_PEER_CLOSED;

    if (dials(l)) {
        return 0;
    }
    /* A refusal ("snok") and the close that follows it often share a datagram. */
    if ((l->phase != BP_LINK_HANDSHAKE && !closed) || l->setup == NULL) {
        return l->phase == BP_LINK_FAILED ? l->err : BP_E_STATE;
    }
    rc = bp_hs_next(&l->setup->split, msg, len);
    if (rc == 0 && closed) {
        return l->err;
    }
    if (rc == 1 && !l->peer_checked && (*msg)[0] == 'N') {
        int bad = check_name(l, *msg, *len);
        rc = bad != 0 ? bad : 1;
    }
    if (rc < 0) {
        bp_link_fail(l, rc, NULL);
    }
    return rc;
}

int bp_link_up(struct bp_link *l)
{
    if (l->phase != BP_LINK_HANDSHAKE || l->control_slot < 0) {
        return BP_E_STATE;
    }
    if (bp_conn_bidi_left(l->conn) < l->n_streams) {
        bp_link_fail(l, BP_E_AGAIN, "the peer allows too few streams for distribution data");
        return BP_E_AGAIN;
    }
    l->phase = BP_LINK_UP;
    bp_link_idle_begin(l);
    return bp_link_pump_hs(l);
}
