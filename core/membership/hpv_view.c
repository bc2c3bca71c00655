/* SPDX-License-Identifier: Apache-2.0 */
/* Views as arrays: a few dozen entries are found faster by looking at all than through a table. */
#include "membership/hpv_view.h"

uint64_t bp_hpv_rand(uint64_t *rng)
{
    uint64_t z = *rng += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint32_t bp_hpv_below(uint64_t *rng, uint32_t n)
{
    return (uint32_t)(((bp_hpv_rand(rng) >> 32) * n) >> 32);
}

struct bp_hpv_entry *bp_hpv_view_find(const struct bp_hpv_view *v, bp_peer peer)
{
    for (uint32_t i = 0; i < v->n; i++) {
        if (v->e[i].peer == peer) {
            return &v->e[i];
        }
    }
    return NULL;
}

bool bp_hpv_view_add(struct bp_hpv_view *v, const struct bp_hpv_entry *e)
{
    if (v->n >= v->cap) {
        return false;
    }
    v->e[v->n++] = *e;
    return true;
}

bool bp_hpv_view_remove(struct bp_hpv_view *v, bp_peer peer)
{
    struct bp_hpv_entry *e = bp_hpv_view_find(v, peer);

    if (e == NULL) {
        return false;
    }
    *e = v->e[--v->n];
    return true;
}

bp_peer bp_hpv_view_pick(const struct bp_hpv_view *v, bp_peer a, bp_peer b, uint64_t *rng)
{
    bp_peer chosen = BP_PEER_NONE;
    uint32_t n = 0;

    for (uint32_t i = 0; i < v->n; i++) {
        bp_peer peer = v->e[i].peer;
        if (peer != a && peer != b && bp_hpv_below(rng, ++n) == 0) {
            chosen = peer;
        }
    }
    return chosen;
}

static uint32_t age_ms(const struct bp_hpv_entry *e, bp_time now)
{
    bp_time age = now > e->seen ? (now - e->seen) / BP_MS : 0;

    return age < BP_HPV_AGE_UNKNOWN ? (uint32_t)age : BP_HPV_AGE_UNKNOWN - 1;
}

void bp_hpv_view_sample(const struct bp_hpv_view *v, unsigned max, bp_peer except, bool fresh,
                        bp_time now, uint64_t *rng, struct bp_hpv_msg *msg)
{
    unsigned first = msg->n_peers;
    unsigned room = BP_HPV_SHUFFLE_MAX - first;
    unsigned k = max < room ? max : room;
    uint32_t n = 0;

    /* Reservoir sampling: one pass, no memory but the result. */
    for (uint32_t i = 0; k != 0 && i < v->n; i++) {
        const struct bp_hpv_entry *e = &v->e[i];
        uint32_t at;
        if (e->fails != 0 || e->peer == except) {
            continue;
        }
        at = n < k ? n : bp_hpv_below(rng, n + 1);
        n++;
        if (at < k) {
            msg->peers[first + at] =
                (struct bp_hpv_known){.peer = e->peer, .age_ms = fresh ? 0 : age_ms(e, now)};
        }
    }
    msg->n_peers = (uint8_t)(first + (n < k ? n : k));
}

uint32_t bp_hpv_view_victim(const struct bp_hpv_view *v, const bp_peer *sent, unsigned n_sent,
                            uint64_t *rng)
{
    for (uint32_t i = 0; i < v->n; i++) {
        if (v->e[i].fails != 0) {
            return i;
        }
    }
    for (unsigned s = 0; s < n_sent; s++) {
        for (uint32_t i = 0; i < v->n; i++) {
            if (v->e[i].peer == sent[s]) {
                return i;
            }
        }
    }
    return bp_hpv_below(rng, v->n);
}
