/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control operations of membership: one HyParView state machine per node, stepped by the bridge
 * process in Erlang, under the node port's lock. Names become handles here and names again; the
 * effects of a step are its result.
 *
 * Arguments of MEMBER_STEP: 1 event, 2 peer; of a message 3 kind, 4 subject, 5 ttl, 6 flag, and for
 * each peer 7 <<AgeMs:32, Name/binary>>. Its result: <<NextMs:32>>, then for each effect
 * <<Kind, Reason, Len, Peer>>, and after a SEND <<MsgKind, Ttl, Flag, Len, Subject, N>> and N times
 * <<AgeMs:32, Len, Name>>.
 */
#include "driver/drv.h"

#include "auth/node_name.h"
#include "membership/hpv.h"

#include <string.h>

/* More than a node's views, attempts and replies can hold, and the names of one message besides. */
#define NAMES_MAX   1024u
#define NAMES_SPARE (BP_HPV_SHUFFLE_MAX + 4u)

static const char refused[] = "an argument of a membership operation is not valid";

/* Touched by the node port's control calls only, under its lock. Handle = index + 1. */
static struct {
    struct bp_hpv *hpv;
    struct bp_hpv_out out;
    char *names[NAMES_MAX];
    uint32_t hashes[NAMES_MAX];
    unsigned n_used;
} m;

/* --- names ------------------------------------------------------------------- */

static uint32_t hash_of(const uint8_t *p, size_t len)
{
    uint32_t h = 2166136261u;

    for (size_t i = 0; i < len; i++) {
        h = (h ^ p[i]) * 16777619u;
    }
    return h;
}

static void forget(unsigned i)
{
    drv_free(m.names[i]);
    m.names[i] = NULL;
    m.n_used--;
}

/* The handle of a name; BP_PEER_NONE if it is not a node's name, or there is no memory. */
static bp_peer intern(const uint8_t *p, size_t len)
{
    uint32_t h = hash_of(p, len);
    unsigned slot = NAMES_MAX;

    if (len > BP_NODE_NAME_MAX || !bp_node_name_valid((const char *)p, len)) {
        return BP_PEER_NONE;
    }
    for (unsigned i = 0; i < NAMES_MAX; i++) {
        if (m.names[i] == NULL) {
            slot = i;
        } else if (m.hashes[i] == h && strlen(m.names[i]) == len &&
                   memcmp(m.names[i], p, len) == 0) {
            return i + 1;
        }
    }
    if (slot == NAMES_MAX || (m.names[slot] = bp_mem_zalloc(drv_mem(), 1, len + 1)) == NULL) {
        return BP_PEER_NONE;
    }
    memcpy(m.names[slot], p, len);
    m.hashes[slot] = h;
    m.n_used++;
    return slot + 1;
}

/* Between steps: names that the state machine does not hold make room. */
static void sweep(void)
{
    if (m.n_used + NAMES_SPARE <= NAMES_MAX) {
        return;
    }
    for (unsigned i = 0; i < NAMES_MAX; i++) {
        if (m.names[i] != NULL && !bp_hpv_refers(m.hpv, i + 1)) {
            forget(i);
        }
    }
}

static void put_name(struct drv_reply *r, bp_peer peer)
{
    const char *name = peer != BP_PEER_NONE && peer <= NAMES_MAX && m.names[peer - 1] != NULL
                           ? m.names[peer - 1]
                           : "";

    drv_reply_uint(r, strlen(name), 1);
    drv_reply_bytes(r, name, strlen(name));
}

/* --- starting and stopping ------------------------------------------------------ */

void drv_member_stop(void)
{
    bp_hpv_del(m.hpv);
    m.hpv = NULL;
    for (unsigned i = 0; i < NAMES_MAX; i++) {
        if (m.names[i] != NULL) {
            forget(i);
        }
    }
}

/* 1 own name, 2 seed, 3.. numbers in the order of the structure, 20 contacts (repeatable). */
static int read_config(const uint8_t *p, size_t len, struct bp_hpv_config *c)
{
    unsigned *const counts[] = {&c->active_size, &c->passive_size,   &c->arwl,
                                &c->prwl,        &c->shuffle_length, &c->max_fail_count};
    bp_time *const times[] = {&c->shuffle_period, &c->base_backoff, &c->passive_max_age,
                              &c->cleanup_period, &c->churn_window, &c->pending_timeout,
                              &c->swap_period,    &c->contact_retry};
    struct drv_args a;
    struct drv_arg arg;

    bp_hpv_config_default(c);
    drv_args_init(&a, p, len);
    while (drv_args_next(&a, &arg)) {
        bool name = arg.key == 1 || arg.key == 20;
        bp_peer peer = name ? intern(arg.val, arg.len) : BP_PEER_NONE;
        uint64_t v = name ? 0 : drv_arg_uint(&arg);
        if (arg.key == 1) {
            c->self = peer;
        } else if (arg.key == 2) {
            c->seed = v;
        } else if (arg.key >= 3 && arg.key < 9 && v <= UINT16_MAX) {
            *counts[arg.key - 3] = (unsigned)v;
        } else if (arg.key >= 9 && arg.key < 17 && v <= UINT32_MAX) {
            *times[arg.key - 9] = v * BP_MS;
        } else if (arg.key == 20 && peer != BP_PEER_NONE && c->n_contacts < BP_HPV_CONTACTS) {
            c->contacts[c->n_contacts++] = peer;
        } else {
            return BP_E_INVALID;
        }
    }
    return a.bad ? BP_E_INVALID : 0;
}

static uint32_t next_ms(bp_time now)
{
    bp_time at = bp_hpv_deadline(m.hpv);
    bp_time ms = at > now ? (at - now + BP_MS - 1) / BP_MS : 0;

    return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

static void op_start(const uint8_t *p, size_t len, struct drv_reply *r)
{
    struct bp_hpv_config c;
    bp_time now = drv_now();
    int rc;

    drv_member_stop();
    rc = read_config(p, len, &c);
    if (rc == 0) {
        rc = bp_hpv_new(&m.hpv, &c, drv_mem(), now);
    }
    if (rc != 0) {
        drv_member_stop();
        drv_reply_error(r, rc, rc == BP_E_INVALID ? refused : bp_err_text(rc));
        return;
    }
    drv_reply_ok(r);
    drv_reply_uint(r, next_ms(now), 4);
}

/* --- a step -------------------------------------------------------------------------- */

static bool read_peer(const struct drv_arg *arg, struct bp_hpv_msg *msg)
{
    struct bp_hpv_known *k;

    if (arg->len < 4 || msg->n_peers >= BP_HPV_SHUFFLE_MAX) {
        return false;
    }
    k = &msg->peers[msg->n_peers++];
    k->age_ms = (uint32_t)arg->val[0] << 24 | (uint32_t)arg->val[1] << 16 |
                (uint32_t)arg->val[2] << 8 | arg->val[3];
    k->peer = intern(arg->val + 4, arg->len - 4u); /* nobody: ignored by the state machine */
    return true;
}

static int read_event(const uint8_t *p, size_t len, struct bp_hpv_event *ev, struct bp_hpv_msg *msg)
{
    struct drv_args a;
    struct drv_arg arg;

    drv_args_init(&a, p, len);
    while (drv_args_next(&a, &arg)) {
        bool name = arg.key == 2 || arg.key == 4 || arg.key == 7;
        uint64_t v = name ? 0 : drv_arg_uint(&arg);
        if (v > UINT8_MAX) {
            return BP_E_INVALID;
        }
        switch (arg.key) {
        case 1:
            ev->kind = (enum bp_hpv_event_kind)v;
            break;
        case 2:
            ev->peer = intern(arg.val, arg.len);
            break;
        case 3:
            msg->kind = (enum bp_hpv_kind)v;
            ev->msg = msg;
            break;
        case 4:
            msg->peer = intern(arg.val, arg.len);
            break;
        case 5:
            msg->ttl = (uint8_t)v;
            break;
        case 6:
            msg->flag = v != 0;
            break;
        case 7:
            if (!read_peer(&arg, msg)) {
                return BP_E_INVALID;
            }
            break;
        default:
            return BP_E_INVALID;
        }
    }
    return a.bad ? BP_E_INVALID : 0;
}

static void put_effect(struct drv_reply *r, const struct bp_hpv_effect *e)
{
    drv_reply_uint(r, e->kind, 1);
    drv_reply_uint(r, e->reason, 1);
    put_name(r, e->peer);
    if (e->kind != BP_HPV_SEND) {
        return;
    }
    drv_reply_uint(r, e->msg.kind, 1);
    drv_reply_uint(r, e->msg.ttl, 1);
    drv_reply_uint(r, e->msg.flag, 1);
    put_name(r, e->msg.peer);
    drv_reply_uint(r, e->msg.n_peers, 1);
    for (unsigned i = 0; i < e->msg.n_peers; i++) {
        drv_reply_uint(r, e->msg.peers[i].age_ms, 4);
        put_name(r, e->msg.peers[i].peer);
    }
}

static void op_step(const uint8_t *p, size_t len, struct drv_reply *r)
{
    struct bp_hpv_event ev = {.kind = BP_HPV_TICK};
    struct bp_hpv_msg msg = {.kind = BP_HPV_JOIN};
    bp_time now = drv_now();
    int rc;

    sweep();
    rc = read_event(p, len, &ev, &msg);
    if (rc == 0) {
        rc = bp_hpv_step(m.hpv, &ev, now, &m.out);
    }
    if (rc == BP_E_INVALID) {
        drv_reply_error(r, rc, refused);
        return;
    }
    if (rc != 0 && m.out.n == 0) {
        drv_reply_error(r, rc, bp_err_text(rc));
        return;
    }
    drv_reply_ok(r);
    drv_reply_uint(r, next_ms(now), 4);
    for (unsigned i = 0; i < m.out.n; i++) {
        put_effect(r, &m.out.effects[i]);
    }
}

/* --- looking at it ---------------------------------------------------------------------- */

/* <<NActive:16, NPassive:16>>, then the names, each <<Len, Name>>. */
static void op_views(struct drv_reply *r)
{
    bp_peer peers[BP_HPV_PASSIVE_MAX];
    unsigned n;

    drv_reply_ok(r);
    drv_reply_uint(r, bp_hpv_active(m.hpv, NULL, 0), 2);
    drv_reply_uint(r, bp_hpv_passive(m.hpv, NULL, 0), 2);
    n = bp_hpv_active(m.hpv, peers, BP_HPV_PASSIVE_MAX);
    for (unsigned i = 0; i < n; i++) {
        put_name(r, peers[i]);
    }
    n = bp_hpv_passive(m.hpv, peers, BP_HPV_PASSIVE_MAX);
    for (unsigned i = 0; i < n; i++) {
        put_name(r, peers[i]);
    }
}

/* The argument is a name; the result one byte. */
static void op_needs(const uint8_t *p, size_t len, struct drv_reply *r)
{
    uint32_t h = hash_of(p, len);
    bool needs = false;

    for (unsigned i = 0; i < NAMES_MAX && !needs; i++) {
        needs = m.names[i] != NULL && m.hashes[i] == h && strlen(m.names[i]) == len &&
                memcmp(m.names[i], p, len) == 0 && bp_hpv_needs(m.hpv, i + 1);
    }
    drv_reply_ok(r);
    drv_reply_uint(r, needs, 1);
}

static void op_stats(struct drv_reply *r)
{
    const struct bp_hpv_stats *s = bp_hpv_stats(m.hpv);

    drv_reply_ok(r);
#define X(name, text) drv_reply_stat(r, #name, s->name);
#include "membership/hpv_stats.def"
#undef X
    drv_reply_stat(r, "names", m.n_used);
}

bool drv_member_op(unsigned op, const uint8_t *p, size_t len, struct drv_reply *r)
{
    if (op < OP_MEMBER_START || op > OP_MEMBER_NEEDS) {
        return false;
    }
    if (op != OP_MEMBER_START && op != OP_MEMBER_STOP && m.hpv == NULL) {
        drv_reply_error(r, BP_E_STATE, "membership has not been started");
        return true;
    }
    switch (op) {
    case OP_MEMBER_START:
        op_start(p, len, r);
        break;
    case OP_MEMBER_STEP:
        op_step(p, len, r);
        break;
    case OP_MEMBER_VIEWS:
        op_views(r);
        break;
    case OP_MEMBER_NEEDS:
        op_needs(p, len, r);
        break;
    case OP_MEMBER_STATS:
        op_stats(r);
        break;
    default:
        drv_member_stop();
        drv_reply_ok(r);
    }
    return true;
}
