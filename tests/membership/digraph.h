/* SPDX-License-Identifier: Apache-2.0 */
/* A picture of who knows whom, and what is measured on it: the same for every protocol. */
#ifndef BP_DIGRAPH_H
#define BP_DIGRAPH_H

#include <stdint.h>

/* Sorted neighbours of v: link[first[v]] .. link[first[v + 1] - 1]; no loops, nothing twice. */
struct dg_links {
    uint32_t *first; /* [n + 1] */
    uint32_t *link;
};

/* Nodes 0..n-1. */
struct digraph {
    uint32_t n;
    uint32_t n_arcs;
    uint32_t cap_arcs;
    uint32_t (*arcs)[2];
    /* after dg_end: */
    struct dg_links out;  /* as the views are */
    struct dg_links both; /* an arc is a link that leads both ways */
};

void dg_begin(struct digraph *g, uint32_t n);
void dg_arc(struct digraph *g, uint32_t from, uint32_t to);
void dg_end(struct digraph *g);
void dg_free(struct digraph *g);

/* Average over the nodes of: links among a node's neighbours / those that could be. `l`: &g->out or
 * &g->both. */
double dg_clustering(const struct digraph *g, const struct dg_links *l);
/* Average length of the shortest paths from `sources` random nodes to all that they reach. */
double dg_path(const struct digraph *g, const struct dg_links *l, unsigned sources, uint64_t seed);
/* Nodes outside of the largest component of links that lead both ways. */
uint32_t dg_cut_off(const struct digraph *g);
struct dg_degrees {
    double mean; /* of in- and of out-degrees */
    double in_sd;
    uint32_t in_min;
    uint32_t in_max;
    uint32_t out_min;
    uint32_t out_max;
};
struct dg_degrees dg_degrees(const struct digraph *g);

#endif
