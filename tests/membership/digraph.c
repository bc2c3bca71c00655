/* SPDX-License-Identifier: Apache-2.0 */
#include "membership/digraph.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "membership/hpv_view.h"
#include "membership/vtime.h"

void dg_begin(struct digraph *g, uint32_t n)
{
    *g = (struct digraph){.n = n};
}

void dg_arc(struct digraph *g, uint32_t from, uint32_t to)
{
    if (g->n_arcs == g->cap_arcs) {
        g->cap_arcs = g->cap_arcs != 0 ? g->cap_arcs * 2 : 1024;
        g->arcs = vt_must(realloc(g->arcs, g->cap_arcs * sizeof(*g->arcs)));
    }
    g->arcs[g->n_arcs][0] = from;
    g->arcs[g->n_arcs++][1] = to;
}

void dg_free(struct digraph *g)
{
    free(g->arcs);
    free(g->out.first);
    free(g->out.link);
    free(g->both.first);
    free(g->both.link);
    *g = (struct digraph){0};
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

/* Sorts each node's links and drops loops and what is there twice; `end`: where each node's end. */
static void tidy(uint32_t n, struct dg_links *l, const uint32_t *end)
{
    uint32_t kept = 0;

    for (uint32_t v = 0; v < n; v++) {
        uint32_t from = l->first[v];
        l->first[v] = kept;
        qsort(&l->link[from], end[v] - from, sizeof(*l->link), by_value);
        for (uint32_t i = from; i < end[v]; i++) {
            uint32_t to = l->link[i];
            if (to != v && (kept == l->first[v] || l->link[kept - 1] != to)) {
                l->link[kept++] = to;
            }
        }
    }
    l->first[n] = kept;
}

static void index_links(const struct digraph *g, struct dg_links *l, bool both)
{
    uint32_t *at = vt_must(calloc((size_t)g->n + 1, sizeof(*at)));

    l->first = vt_must(calloc((size_t)g->n + 1, sizeof(*l->first)));
    l->link = vt_must(calloc((size_t)g->n_arcs * 2 + 1, sizeof(*l->link)));
    for (uint32_t i = 0; i < g->n_arcs; i++) {
        at[g->arcs[i][0]]++;
        at[g->arcs[i][1]] += both;
    }
    for (uint32_t v = 0, sum = 0; v < g->n; v++) {
        uint32_t n = at[v];
        l->first[v] = at[v] = sum;
        sum += n;
    }
    for (uint32_t i = 0; i < g->n_arcs; i++) {
        l->link[at[g->arcs[i][0]]++] = g->arcs[i][1];
        if (both) {
            l->link[at[g->arcs[i][1]]++] = g->arcs[i][0];
        }
    }
    tidy(g->n, l, at);
    free(at);
}

void dg_end(struct digraph *g)
{
    index_links(g, &g->out, false);
    index_links(g, &g->both, true);
}

double dg_clustering(const struct digraph *g, const struct dg_links *l)
{
    uint32_t *mark = vt_must(calloc((size_t)g->n + 1, sizeof(*mark)));
    double sum = 0;

    for (uint32_t v = 0; v < g->n; v++) {
        const uint32_t *nb = &l->link[l->first[v]];
        uint32_t n = l->first[v + 1] - l->first[v];
        uint64_t links = 0;
        for (uint32_t i = 0; i < n; i++) {
            mark[nb[i]] = v + 1;
        }
        for (uint32_t i = 0; i < n; i++) {
            for (uint32_t k = l->first[nb[i]]; k < l->first[nb[i] + 1]; k++) {
                links += mark[l->link[k]] == v + 1;
            }
        }
        /* Along both ways each link was seen from both of its ends. */
        sum += n > 1 ? (double)links / ((double)n * (n - 1)) : 0;
    }
    free(mark);
    return g->n != 0 ? sum / g->n : 0;
}

/* Marks what `from` reaches with the distance; the count, and the sum of the distances. */
static uint32_t reach(const struct dg_links *l, uint32_t from, uint32_t *dist, uint32_t *fifo,
                      double *sum)
{
    uint32_t head = 0;
    uint32_t tail = 0;

    dist[from] = 0;
    fifo[tail++] = from;
    while (head < tail) {
        uint32_t v = fifo[head++];
        for (uint32_t k = l->first[v]; k < l->first[v + 1]; k++) {
            if (dist[l->link[k]] == UINT32_MAX) {
                dist[l->link[k]] = dist[v] + 1;
                *sum += dist[v] + 1;
                fifo[tail++] = l->link[k];
            }
        }
    }
    return tail;
}

double dg_path(const struct digraph *g, const struct dg_links *l, unsigned sources, uint64_t seed)
{
    uint32_t *dist = vt_must(malloc(((size_t)g->n + 1) * sizeof(*dist)));
    uint32_t *fifo = vt_must(malloc(((size_t)g->n + 1) * sizeof(*fifo)));
    double sum = 0;
    double pairs = 0;

    for (unsigned s = 0; s < sources && g->n != 0; s++) {
        memset(dist, 0xff, (size_t)g->n * sizeof(*dist));
        pairs += reach(l, bp_hpv_below(&seed, g->n), dist, fifo, &sum) - 1;
    }
    free(dist);
    free(fifo);
    return pairs > 0 ? sum / pairs : 0;
}

uint32_t dg_cut_off(const struct digraph *g)
{
    uint32_t *dist = vt_must(malloc(((size_t)g->n + 1) * sizeof(*dist)));
    uint32_t *fifo = vt_must(malloc(((size_t)g->n + 1) * sizeof(*fifo)));
    uint32_t largest = 0;
    double ignored = 0;

    memset(dist, 0xff, (size_t)g->n * sizeof(*dist));
    for (uint32_t v = 0; v < g->n; v++) {
        if (dist[v] == UINT32_MAX) {
            uint32_t n = reach(&g->both, v, dist, fifo, &ignored);
            largest = n > largest ? n : largest;
        }
    }
    free(dist);
    free(fifo);
    return g->n - largest;
}

struct dg_degrees dg_degrees(const struct digraph *g)
{
    struct dg_degrees d = {.in_min = UINT32_MAX, .out_min = UINT32_MAX};
    uint32_t *in = vt_must(calloc((size_t)g->n * 2 + 1, sizeof(*in)));
    uint32_t *out = in + g->n;
    double squares = 0;

    for (uint32_t i = 0; i < g->n_arcs; i++) {
        out[g->arcs[i][0]]++;
        in[g->arcs[i][1]]++;
    }
    d.mean = g->n != 0 ? (double)g->n_arcs / g->n : 0;
    for (uint32_t v = 0; v < g->n; v++) {
        squares += (in[v] - d.mean) * (in[v] - d.mean);
        d.in_min = in[v] < d.in_min ? in[v] : d.in_min;
        d.in_max = in[v] > d.in_max ? in[v] : d.in_max;
        d.out_min = out[v] < d.out_min ? out[v] : d.out_min;
        d.out_max = out[v] > d.out_max ? out[v] : d.out_max;
    }
    d.in_sd = g->n != 0 ? sqrt(squares / g->n) : 0;
    free(in);
    return d;
}
