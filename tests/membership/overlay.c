/* SPDX-License-Identifier: Apache-2.0 */
/* The world of the overlay simulator: time, channels, failures, and the checks. */
#include "membership/overlay.h"

#include <stdlib.h>
#include <string.h>

enum what { MSG, CONN_OK, CONN_FAILED, CONN_TRY, DOWN };

struct ov_item {
    enum what what;
    bp_peer to;
    bp_peer from;
    uint32_t next_free;
    struct bp_hpv_msg msg;
};

#define SENDS_MAX 1000u /* by one node in one second: the rate limit and its burst, doubled */

static void give_up(const char *what)
{
    fprintf(stderr, "overlay: %s\n", what);
    exit(2);
}

uint64_t ov_rand(struct overlay *o)
{
    return bp_hpv_rand(&o->rng);
}

void ov_violation(struct overlay *o, bp_peer peer, const char *what)
{
    if (o->violations++ == 0) {
        snprintf(o->violation, sizeof(o->violation), "seed %llu, event %llu, %.6f s, node %u: %s",
                 (unsigned long long)o->c.seed, (unsigned long long)o->events, (double)o->now / 1e9,
                 peer, what);
    }
}

static void note(struct overlay *o, uint64_t x)
{
    o->trace = (o->trace ^ x) * 0x100000001b3u;
}

/* --- the queue ------------------------------------------------------------------ */

static struct ov_item *queue(struct overlay *o, bp_time at, enum what what, bp_peer to,
                             bp_peer from)
{
    uint32_t i = o->free_item;
    struct ov_item *it;

    if (i != VT_NO_ITEM) {
        o->free_item = o->items[i].next_free;
    } else {
        if (o->n_items == o->cap_items) {
            o->cap_items = o->cap_items != 0 ? o->cap_items * 2 : 1024;
            o->items = vt_must(realloc(o->items, o->cap_items * sizeof(*o->items)));
        }
        i = o->n_items++;
    }
    it = &o->items[i];
    it->what = what;
    it->to = to;
    it->from = from;
    vt_push(&o->queue, at, i, to);
    return it;
}

static void copy_msg(struct bp_hpv_msg *to, const struct bp_hpv_msg *from)
{
    memcpy(to, from, offsetof(struct bp_hpv_msg, peers) + from->n_peers * sizeof(from->peers[0]));
}

/* --- life -------------------------------------------------------------------------- */

void ov_config_default(struct ov_config *c, uint32_t cap, uint64_t seed)
{
    *c = (struct ov_config){.cap = cap,
                            .seed = seed,
                            .notice_min = BP_SEC / 10,
                            .notice_max = 2 * BP_SEC,
                            .attempt = 2 * BP_SEC,
                            .check = true};
    bp_hpv_config_default(&c->hpv);
}

bool ov_init(struct overlay *o, const struct ov_config *c)
{
    memset(o, 0, sizeof(*o));
    o->c = *c;
    o->rng = c->seed;
    o->now = BP_SEC;
    o->free_item = VT_NO_ITEM;
    o->trace = 0xcbf29ce484222325u;
    o->nodes = calloc((size_t)c->cap + 1, sizeof(*o->nodes));
    o->stamp = calloc((size_t)c->cap + 1, sizeof(*o->stamp));
    return o->nodes != NULL && o->stamp != NULL;
}

void ov_free(struct overlay *o)
{
    for (bp_peer p = 1; o->nodes != NULL && p <= o->n_started; p++) {
        bp_hpv_del(o->nodes[p].h);
    }
    free(o->nodes);
    free(o->stamp);
    vt_free(&o->queue);
    free(o->items);
}

bool ov_reachable(const struct overlay *o, bp_peer a, bp_peer b)
{
    return o->nodes[a].alive && o->nodes[b].alive && o->nodes[a].side == o->nodes[b].side;
}

/* --- one step of one node ------------------------------------------------------------ */

static void account_send(struct overlay *o, bp_peer from, enum bp_hpv_kind kind)
{
    struct ov_node *n = &o->nodes[from];
    uint32_t second = (uint32_t)(o->now / BP_SEC);

    o->sent[kind]++;
    if (n->sent_second != second) {
        n->sent_second = second;
        n->sent_now = 0;
    }
    if (++n->sent_now > o->max_sent_second) {
        o->max_sent_second = n->sent_now;
        if (n->sent_now > SENDS_MAX) {
            ov_violation(o, from, "too many messages in one second");
        }
    }
}

static void carry_out(struct overlay *o, bp_peer p)
{
    struct ov_node *n = &o->nodes[p];

    for (unsigned i = 0; i < o->out.n; i++) {
        const struct bp_hpv_effect *e = &o->out.effects[i];
        note(o, (uint64_t)e->kind << 56 ^ (uint64_t)p << 24 ^ e->peer);
        switch (e->kind) {
        case BP_HPV_SEND:
            account_send(o, p, e->msg.kind);
            if (e->peer > o->c.cap || e->peer == p) {
                ov_violation(o, p, "sends to itself or to nobody");
            } else if (o->c.loss_permille == 0 || ov_rand(o) % 1000 >= o->c.loss_permille) {
                copy_msg(
                    &queue(o, o->now + vt_latency(o->c.seed, p, e->peer), MSG, e->peer, p)->msg,
                    &e->msg);
            }
            break;
        case BP_HPV_CONNECT:
            o->connects++;
            (void)queue(o, o->now + vt_latency(o->c.seed, p, e->peer), CONN_TRY, p, e->peer);
            break;
        case BP_HPV_PEER_UP:
            n->up++;
            break;
        case BP_HPV_PEER_DOWN:
            n->up -= e->reason != BP_HPV_CONNECT_FAILED_REASON;
            break;
        case BP_HPV_JOINED:
            o->joined++;
            break;
        case BP_HPV_RELEASE:
            if (bp_hpv_is_active(n->h, e->peer)) {
                ov_violation(o, p, "releases the channel of an active peer");
            }
            break;
        case BP_HPV_LEFT:
            break;
        }
    }
    if (o->out.overflow != 0) {
        ov_violation(o, p, "more effects than there is room for");
    }
}

static void set_timer(struct overlay *o, bp_peer p)
{
    struct ov_node *n = &o->nodes[p];
    bp_time at = bp_hpv_deadline(n->h);

    if (at < o->now) {
        at = o->now;
    }
    if (at < n->timer) {
        n->timer = at;
        vt_push(&o->queue, at, VT_NO_ITEM, p);
    }
}

int ov_step(struct overlay *o, bp_peer p, const struct bp_hpv_event *ev)
{
    struct ov_node *n = &o->nodes[p];
    int rc = bp_hpv_step(n->h, ev, o->now, &o->out);

    o->events++;
    note(o, (uint64_t)ev->kind << 48 ^ o->now);
    carry_out(o, p);
    if (ev->kind == BP_HPV_TICK && bp_hpv_deadline(n->h) <= o->now) {
        ov_violation(o, p, "the deadline has not moved");
    }
    if (o->c.check) {
        ov_check_node(o, p);
    }
    set_timer(o, p);
    return rc;
}

static void happen(struct overlay *o, uint32_t index)
{
    struct ov_item *it = &o->items[index];
    struct bp_hpv_event ev = {.peer = it->from};
    struct bp_hpv_msg msg;
    bp_peer to = it->to;
    enum what what = it->what;
    bool reach = ov_reachable(o, to, it->from);

    if (what == MSG) {
        copy_msg(&msg, &it->msg);
    }
    it->next_free = o->free_item;
    o->free_item = index;
    if (!o->nodes[to].alive) {
        return;
    }
    switch (what) {
    case MSG:
        if (!reach) {
            return;
        }
        ev.kind = BP_HPV_RECV;
        ev.msg = &msg;
        break;
    case CONN_TRY:
        (void)queue(o, o->now + (reach ? vt_latency(o->c.seed, to, ev.peer) : o->c.attempt),
                    reach ? CONN_OK : CONN_FAILED, to, ev.peer);
        return;
    case CONN_OK:
    case CONN_FAILED:
        ev.kind = what == CONN_OK && reach ? BP_HPV_CONNECTED : BP_HPV_CONNECT_FAILED;
        o->connects_failed += ev.kind == BP_HPV_CONNECT_FAILED;
        break;
    case DOWN:
        if (reach) {
            return; /* came back, told when it did */
        }
        ev.kind = BP_HPV_CHANNEL_DOWN;
        break;
    }
    (void)ov_step(o, to, &ev);
}

void ov_run(struct overlay *o, bp_time until)
{
    while (o->queue.n != 0 && o->queue.heap[0].at <= until) {
        struct vt_slot s = vt_pop(&o->queue);
        o->now = s.at;
        if (s.item != VT_NO_ITEM) {
            happen(o, s.item);
        } else if (o->nodes[s.node].timer == s.at) {
            o->nodes[s.node].timer = BP_TIME_NEVER;
            if (!o->nodes[s.node].alive) {
                continue;
            }
            if (bp_hpv_deadline(o->nodes[s.node].h) <= o->now) {
                const struct bp_hpv_event tick = {.kind = BP_HPV_TICK};
                (void)ov_step(o, s.node, &tick);
            } else {
                set_timer(o, s.node);
            }
        }
    }
    o->now = until > o->now ? until : o->now;
}

/* --- what happens to nodes ------------------------------------------------------------- */

static void boot(struct overlay *o, bp_peer p, bp_peer contact)
{
    struct bp_hpv_config hc = o->c.hpv;
    struct ov_node *n = &o->nodes[p];

    hc.self = p;
    hc.seed = ov_rand(o);
    if (bp_hpv_new(&n->h, &hc, bp_mem_libc(), o->now) != 0) {
        give_up("a node could not be made");
    }
    n->alive = true;
    n->timer = BP_TIME_NEVER;
    n->up = 0;
    set_timer(o, p);
    if (contact != BP_PEER_NONE) {
        ov_join(o, p, contact);
    }
}

bp_peer ov_start(struct overlay *o, bp_peer contact)
{
    if (o->n_started >= o->c.cap) {
        give_up("more nodes than cap");
    }
    boot(o, ++o->n_started, contact);
    return o->n_started;
}

void ov_restart(struct overlay *o, bp_peer peer, bp_peer contact)
{
    const struct bp_hpv_event down = {.kind = BP_HPV_CHANNEL_DOWN, .peer = peer};

    /* The old process's channels end before the new one has any. */
    for (bp_peer p = 1; p <= o->n_started; p++) {
        if (o->nodes[p].alive && bp_hpv_refers(o->nodes[p].h, peer)) {
            (void)ov_step(o, p, &down);
        }
    }
    bp_hpv_del(o->nodes[peer].h);
    boot(o, peer, contact);
}

void ov_join(struct overlay *o, bp_peer peer, bp_peer contact)
{
    const struct bp_hpv_event ev = {.kind = BP_HPV_DO_JOIN, .peer = contact};

    (void)ov_step(o, peer, &ev);
}

void ov_leave(struct overlay *o, bp_peer peer)
{
    const struct bp_hpv_event ev = {.kind = BP_HPV_DO_LEAVE};

    (void)ov_step(o, peer, &ev);
}

void ov_kill(struct overlay *o, bp_peer peer)
{
    o->nodes[peer].alive = false;
}

static void lose(struct overlay *o, bp_peer p, bp_peer other)
{
    if (!ov_reachable(o, p, other)) {
        (void)queue(o, o->now + o->c.notice_min + ov_rand(o) % (o->c.notice_max - o->c.notice_min),
                    DOWN, p, other);
    }
}

void ov_lost(struct overlay *o)
{
    for (bp_peer p = 1; p <= o->n_started; p++) {
        const struct bp_hpv *h = o->nodes[p].h;
        if (!o->nodes[p].alive) {
            continue;
        }
        for (uint32_t i = 0; i < h->active.n; i++) {
            lose(o, p, h->active.e[i].peer);
        }
        for (uint32_t i = 0; i < h->n_attempts; i++) {
            if (h->attempts[i].asked) {
                lose(o, p, h->attempts[i].peer);
            }
        }
    }
}

uint32_t ov_alive(const struct overlay *o)
{
    uint32_t n = 0;

    for (bp_peer p = 1; p <= o->n_started; p++) {
        n += o->nodes[p].alive;
    }
    return n;
}

bp_peer ov_random_alive(struct overlay *o)
{
    if (ov_alive(o) == 0) {
        give_up("nobody is alive");
    }
    for (;;) {
        bp_peer p = (bp_peer)(1 + ov_rand(o) % o->n_started);
        if (o->nodes[p].alive) {
            return p;
        }
    }
}

/* --- what must always hold ----------------------------------------------------------------- */

static void check_view(struct overlay *o, bp_peer p, const struct bp_hpv_view *v, uint32_t max)
{
    if (v->n > max || v->cap != max) {
        ov_violation(o, p, "a view is larger than its size");
    }
    for (uint32_t i = 0; i < v->n; i++) {
        bp_peer peer = v->e[i].peer;
        if (peer == p) {
            ov_violation(o, p, "is in its own view");
        } else if (peer == BP_PEER_NONE || peer > o->c.cap) {
            ov_violation(o, p, "a view holds nobody");
        } else if (o->stamp[peer] == o->look) {
            ov_violation(o, p, "a peer is in two places of its views");
        } else {
            o->stamp[peer] = o->look;
        }
    }
}

void ov_check_node(struct overlay *o, bp_peer p)
{
    const struct bp_hpv *h = o->nodes[p].h;

    o->look++;
    check_view(o, p, &h->active, o->c.hpv.active_size);
    if (o->nodes[p].up != (int32_t)h->active.n) {
        ov_violation(o, p, "peer_up and peer_down do not add up to the active view");
    }
    for (uint32_t i = 0; i < h->n_attempts; i++) {
        if (o->stamp[h->attempts[i].peer] == o->look) {
            ov_violation(o, p, "asks a peer that is linked");
        }
    }
    check_view(o, p, &h->passive, o->c.hpv.passive_size);
    check_view(o, p, &h->lost, h->lost.cap);
    if (h->n_attempts > h->c.active_size + BP_HPV_EXTRA_ATTEMPTS) {
        ov_violation(o, p, "too many attempts at once");
    }
    if (h->left && (h->active.n + h->passive.n + h->lost.n + h->n_attempts) != 0) {
        ov_violation(o, p, "has left and still knows somebody");
    }
}
