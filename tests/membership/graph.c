/* SPDX-License-Identifier: Apache-2.0 */
/* Measures of an overlay: symmetry, components, clustering, floods, degrees. */
#include "membership/overlay.h"

#include <stdlib.h>
#include <string.h>

static bool linked(const struct overlay *o, bp_peer a, bp_peer b)
{
    return bp_hpv_view_find(&o->nodes[a].h->active, b) != NULL;
}

static bool one_sided(const struct overlay *o, bp_peer a, bp_peer b)
{
    return o->nodes[a].alive && linked(o, a, b) && !(o->nodes[b].alive && linked(o, b, a));
}

uint32_t ov_one_sided(const struct overlay *o)
{
    uint32_t n = 0;

    for (bp_peer p = 1; p <= o->n_started; p++) {
        const struct bp_hpv_view *v = &o->nodes[p].h->active;
        for (uint32_t i = 0; o->nodes[p].alive && i < v->n; i++) {
            n += one_sided(o, p, v->e[i].peer);
        }
    }
    return n;
}

uint32_t ov_one_sided_for(struct overlay *o, bp_time later)
{
    uint32_t n = ov_one_sided(o);
    bp_peer(*pairs)[2] = vt_must(calloc((size_t)n + 1, sizeof(*pairs)));
    uint32_t k = 0;
    uint32_t still = 0;

    for (bp_peer p = 1; p <= o->n_started; p++) {
        const struct bp_hpv_view *v = &o->nodes[p].h->active;
        for (uint32_t i = 0; o->nodes[p].alive && i < v->n && k < n; i++) {
            if (one_sided(o, p, v->e[i].peer)) {
                pairs[k][0] = p;
                pairs[k++][1] = v->e[i].peer;
            }
        }
    }
    ov_run(o, o->now + later);
    for (uint32_t i = 0; i < k; i++) {
        still += one_sided(o, pairs[i][0], pairs[i][1]);
    }
    free(pairs);
    return still;
}

static uint32_t root(uint32_t *parent, uint32_t x)
{
    while (parent[x] != x) {
        parent[x] = parent[parent[x]];
        x = parent[x];
    }
    return x;
}

static uint32_t join_up(const struct overlay *o, uint32_t *largest)
{
    uint32_t *parent = vt_must(malloc(((size_t)o->n_started + 1) * sizeof(*parent)));
    uint32_t *size = vt_must(calloc((size_t)o->n_started + 1, sizeof(*size)));
    uint32_t n = 0;

    for (bp_peer p = 0; p <= o->n_started; p++) {
        parent[p] = p;
        n += p != 0 && o->nodes[p].alive;
    }
    for (bp_peer p = 1; p <= o->n_started; p++) {
        const struct bp_hpv_view *v = &o->nodes[p].h->active;
        for (uint32_t i = 0; o->nodes[p].alive && i < v->n; i++) {
            bp_peer q = v->e[i].peer;
            if (ov_reachable(o, p, q) && linked(o, q, p) && root(parent, p) != root(parent, q)) {
                parent[root(parent, p)] = root(parent, q);
                n--;
            }
        }
    }
    *largest = 0;
    for (bp_peer p = 1; p <= o->n_started; p++) {
        uint32_t r = root(parent, p);
        if (o->nodes[p].alive && ++size[r] > *largest) {
            *largest = size[r];
        }
    }
    free(parent);
    free(size);
    return n;
}

uint32_t ov_components(const struct overlay *o)
{
    uint32_t largest;

    return join_up(o, &largest);
}

uint32_t ov_cut_off(const struct overlay *o)
{
    uint32_t largest;

    (void)join_up(o, &largest);
    return ov_alive(o) - largest;
}

void ov_graph(const struct overlay *o, struct digraph *g)
{
    uint32_t *number = vt_must(calloc((size_t)o->n_started + 1, sizeof(*number)));
    uint32_t n = 0;

    for (bp_peer p = 1; p <= o->n_started; p++) {
        number[p] = n;
        n += o->nodes[p].alive;
    }
    dg_begin(g, n);
    for (bp_peer p = 1; p <= o->n_started; p++) {
        const struct bp_hpv_view *v = &o->nodes[p].h->active;
        for (uint32_t i = 0; o->nodes[p].alive && i < v->n; i++) {
            if (ov_reachable(o, p, v->e[i].peer)) {
                dg_arc(g, number[p], number[v->e[i].peer]);
            }
        }
    }
    dg_end(g);
    free(number);
}

struct ov_floods ov_flood(struct overlay *o, unsigned sources)
{
    size_t cap = (size_t)o->n_started + 1;
    uint32_t *fifo = vt_must(malloc(cap * sizeof(*fifo)));
    uint32_t *dist = vt_must(malloc(cap * sizeof(*dist)));
    struct ov_floods r = {.worst = 1};
    double paths = 0;
    double alive = ov_alive(o);

    for (unsigned s = 0; s < sources; s++) {
        uint32_t head = 0;
        uint32_t tail = 0;
        double sum = 0;
        memset(dist, 0xff, cap * sizeof(*dist));
        fifo[tail++] = ov_random_alive(o);
        dist[fifo[0]] = 0;
        while (head < tail) {
            bp_peer p = fifo[head++];
            const struct bp_hpv_view *v = &o->nodes[p].h->active;
            for (uint32_t i = 0; i < v->n; i++) {
                bp_peer q = v->e[i].peer;
                if (dist[q] == UINT32_MAX && ov_reachable(o, p, q)) {
                    dist[q] = dist[p] + 1;
                    sum += dist[q];
                    fifo[tail++] = q;
                }
            }
        }
        r.reliability += tail / alive / sources;
        r.worst = tail / alive < r.worst ? tail / alive : r.worst;
        r.max_hops += (double)dist[fifo[tail - 1]] / sources;
        paths += sum;
        r.path += tail - 1;
    }
    r.path = r.path > 0 ? paths / r.path : 0;
    free(fifo);
    free(dist);
    return r;
}

void ov_in_degrees(const struct overlay *o, uint32_t out[OV_DEGREES])
{
    uint32_t *deg = vt_must(calloc((size_t)o->n_started + 1, sizeof(*deg)));

    memset(out, 0, OV_DEGREES * sizeof(*out));
    for (bp_peer p = 1; p <= o->n_started; p++) {
        const struct bp_hpv_view *v = &o->nodes[p].h->active;
        for (uint32_t i = 0; o->nodes[p].alive && i < v->n; i++) {
            deg[v->e[i].peer]++;
        }
    }
    for (bp_peer p = 1; p <= o->n_started; p++) {
        if (o->nodes[p].alive) {
            out[deg[p] < OV_DEGREES ? deg[p] : OV_DEGREES - 1]++;
        }
    }
    free(deg);
}

double ov_mean_active(const struct overlay *o)
{
    double sum = 0;
    uint32_t alive = ov_alive(o);

    for (bp_peer p = 1; p <= o->n_started; p++) {
        sum += o->nodes[p].alive ? o->nodes[p].h->active.n : 0;
    }
    return alive != 0 ? sum / alive : 0;
}

double ov_dead_passive(const struct overlay *o)
{
    double dead = 0;
    double all = 0;

    for (bp_peer p = 1; p <= o->n_started; p++) {
        const struct bp_hpv_view *v = &o->nodes[p].h->passive;
        for (uint32_t i = 0; o->nodes[p].alive && i < v->n; i++) {
            all++;
            dead += !o->nodes[v->e[i].peer].alive;
        }
    }
    return all > 0 ? dead / all : 0;
}
