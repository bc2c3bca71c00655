/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One HyParView node against a host and peers that do anything: input is a byte of configuration,
 * then events, messages and jumps of time. Views keep their bounds, effects fit, the deadline
 * moves.
 */
#include "fuzz/fuzz.h"

#include <stdlib.h>

#include "membership/hpv_impl.h"

#define N_PEERS 24u

struct input {
    const uint8_t *p;
    size_t left;
};

static void check(bool ok)
{
    if (!ok) {
        abort();
    }
}

static uint8_t next(struct input *in)
{
    if (in->left == 0) {
        return 0;
    }
    in->left--;
    return *in->p++;
}

static bp_peer a_peer(struct input *in)
{
    return next(in) % (N_PEERS + 1);
}

static void read_msg(struct input *in, struct bp_hpv_msg *msg)
{
    uint8_t kind = next(in);
    uint8_t flags = next(in);

    *msg = (struct bp_hpv_msg){.kind = (enum bp_hpv_kind)(kind % (BP_HPV_N_KINDS + 1)),
                               .flag = (flags & 1) != 0,
                               .peer = a_peer(in),
                               .ttl = next(in),
                               .n_peers = flags >> 2};
    for (unsigned i = 0; i < msg->n_peers && i < BP_HPV_SHUFFLE_MAX; i++) {
        uint8_t age = next(in);
        msg->peers[i] = (struct bp_hpv_known){
            .peer = a_peer(in), .age_ms = age == 255 ? BP_HPV_AGE_UNKNOWN : age * 5000u};
    }
}

static void check_view(const struct bp_hpv_view *v, uint32_t max, bool seen[N_PEERS + 1])
{
    check(v->n <= max);
    for (uint32_t i = 0; i < v->n; i++) {
        bp_peer p = v->e[i].peer;
        check(p > 1 && p <= N_PEERS && !seen[p]);
        seen[p] = true;
    }
}

static void check_node(const struct bp_hpv *h, int up)
{
    bool seen[N_PEERS + 1] = {false};

    check_view(&h->active, h->c.active_size, seen);
    check(up == (int)h->active.n);
    check(h->n_attempts <= h->c.active_size + BP_HPV_EXTRA_ATTEMPTS);
    for (uint32_t i = 0; i < h->n_attempts; i++) {
        check(!seen[h->attempts[i].peer]);
    }
    check_view(&h->passive, h->c.passive_size, seen);
    check_view(&h->lost, BP_HPV_LOST_MAX, seen);
}

static int balance(const struct bp_hpv_out *out)
{
    int up = 0;

    check(out->overflow == 0 && out->n <= BP_HPV_EFFECTS_MAX);
    for (unsigned i = 0; i < out->n; i++) {
        const struct bp_hpv_effect *e = &out->effects[i];
        up += e->kind == BP_HPV_PEER_UP;
        up -= e->kind == BP_HPV_PEER_DOWN && e->reason != BP_HPV_CONNECT_FAILED_REASON;
        check(e->kind != BP_HPV_SEND ||
              (e->peer > 1 && e->peer <= N_PEERS && e->msg.n_peers <= BP_HPV_SHUFFLE_MAX));
    }
    return up;
}

static void step(struct bp_hpv *h, struct input *in, bp_time *now, int *up)
{
    static struct bp_hpv_out out;
    struct bp_hpv_msg msg;
    struct bp_hpv_event ev = {.kind = BP_HPV_TICK};
    uint8_t what = next(in);

    if (what >= 200) {
        bp_time at = bp_hpv_deadline(h);
        *now = at > *now ? at : *now;
    } else if (what >= 180) {
        *now += (bp_time)next(in) * next(in) * 100 * BP_MS;
    } else {
        ev.kind = what < 90 ? BP_HPV_RECV : (enum bp_hpv_event_kind)(what % 8);
        ev.peer = a_peer(in);
        if (ev.kind == BP_HPV_RECV) {
            read_msg(in, &msg);
            ev.msg = &msg;
        }
    }
    (void)bp_hpv_step(h, &ev, *now, &out);
    *up += balance(&out);
    check_node(h, *up);
    check(ev.kind != BP_HPV_TICK || bp_hpv_deadline(h) > *now);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {.p = data, .left = size};
    struct bp_hpv_config c;
    struct bp_hpv *h;
    bp_time now = BP_SEC;
    uint8_t how = next(&in);
    int up = 0;

    bp_hpv_config_default(&c);
    c.self = 1;
    c.seed = how;
    c.active_size = 1 + how % 5;
    c.passive_size = 1 + how / 8 % 16;
    c.swap_period = (how & 128) != 0 ? 0 : c.swap_period;
    c.n_contacts = how % 3;
    c.contacts[0] = 1;
    c.contacts[1] = 2;
    check(bp_hpv_new(&h, &c, bp_mem_libc(), now) == 0);
    while (in.left != 0) {
        step(h, &in, &now, &up);
    }
    bp_hpv_del(h);
    return 0;
}
