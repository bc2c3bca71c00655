/* SPDX-License-Identifier: Apache-2.0 */
/* The HyParView paper's comparison: its table of the overlays, and what failures do to messages. */
#include <stdio.h>
#include <string.h>

#include "membership/net.h"
#include "membership/plot.h"
#include "membership/report.h"

#define SETTLE   50 /* rounds before anything is measured */
#define SOURCES  500
#define BURST    10 /* messages before anybody has noticed */
#define MESSAGES 1000
#define PARTS    10 /* of these, for the curve */
#define CURVE    80 /* % failed */
#define N_CURVE  (1 + PARTS + REPORT_AFTER)

static struct net net;

/* --- the table (the paper's table 1) ------------------------------------------------------ */

static uint64_t last_rounds; /* messages of the protocol in the last 10 rounds of settle() */

/* What more there is to say about HyParView; the rest of the table is printed before it. */
static void note_hyparview(char *to, size_t size)
{
    uint32_t deg[OV_DEGREES];
    double bars[OV_DEGREES];
    unsigned last = 0;
    size_t at;

    at = (size_t)snprintf(to, size,
                          "HyParView: %u component(s), %.2f messages per node and second in the "
                          "last 10 rounds, at most %u by one node in one second since the start; "
                          "in-degree:",
                          ov_components(&net.o), (double)last_rounds / net.n / 100,
                          net.o.max_sent_second);
    ov_in_degrees(&net.o, deg);
    for (unsigned i = 0; i < OV_DEGREES; i++) {
        bars[i] = deg[i];
        if (deg[i] != 0 && at < size) {
            at += (size_t)snprintf(to + at, size - at, " %u: %u", i, deg[i]);
            last = i;
        }
    }
    if (report_svg != NULL) {
        char path[512];
        snprintf(path, sizeof(path), "%s/hyparview_in_degree.svg", report_svg);
        if (!plot_bars(path, "How many nodes have how many links to them", "in-degree", "nodes",
                       bars, 0, last)) {
            report_fatal("no plot");
        }
    }
}

struct figures {
    double clustering;
    double path;
    double hops;
};

/* One row of what is in `net` now. */
static struct figures row(const char *name)
{
    struct figures f;

    struct net_spread s = net_spread(&net, 200, 0);
    struct dg_degrees d;
    struct digraph g;

    net_graph(&net, &g);
    d = dg_degrees(&g);
    f = (struct figures){dg_clustering(&g, &g.both), dg_path(&g, &g.both, SOURCES, report_seed),
                         s.last_hop};
    printf("| %s | %.6f | %.5f | %.1f | %.2f %% | %.6f | %.5f | %.1f | %.1f | %u to %u |\n", name,
           f.clustering, f.path, f.hops, 100 * s.reliability, dg_clustering(&g, &g.out),
           dg_path(&g, &g.out, SOURCES, report_seed), d.mean, d.in_sd, d.in_min, d.in_max);
    dg_free(&g);
    return f;
}

/*
 * The HyParView paper's table 1, of 10,000 nodes. HyParView's row was given to us in writing; those
 * of Cyclon and Scamp are as readers of the paper remember them.
 */
static void published(const struct figures *paper, const struct figures *ours, const char *what)
{
    printf("| ... %s | %g | %g | %.1f | | | | | | |\n", what, paper->clustering, paper->path,
           paper->hops);
    if (ours != NULL) {
        printf("| ... ours / that | %.2f | %.3f | %.2f | | | | | | |\n",
               ours->clustering / paper->clustering, ours->path / paper->path,
               ours->hops / paper->hops);
    }
}

static void settle(void)
{
    net_grow(&net);
    net_run(&net, (SETTLE - 10) * REPORT_ROUND);
    last_rounds = net_sent(&net);
    net_run(&net, 10 * REPORT_ROUND);
    last_rounds = net_sent(&net) - last_rounds;
}

static void grow(enum net_kind kind, uint32_t n, const struct bl_config *scamp)
{
    net_open(&net, kind, n, report_seed, scamp);
    settle();
}

static int verdict(void)
{
    if (net_violations(&net) != 0) {
        printf("VIOLATED %llu times, first: %s\n", (unsigned long long)net.o.violations,
               net.o.violation);
    }
    return net_violations(&net) != 0;
}

/* Its leases; and as it was before any ended, with views as long as the published ones may be. */
static void scamp_rows(uint32_t n)
{
    static const struct figures paper = {0.022476, 3.35398, 14.1};
    struct figures ours = {0};
    struct bl_config scamp;
    char name[64];

    bl_config_default(&scamp, BL_SCAMP, n, report_seed);
    snprintf(name, sizeof(name), "Scamp, c = 4, leases of %u rounds", scamp.lease);
    grow(NET_SCAMP, n, NULL);
    (void)row(name);
    net_free(&net);
    scamp.lease = 0;
    for (unsigned c = 2; c <= 4; c++) {
        scamp.extra_copies = c;
        snprintf(name, sizeof(name), "Scamp, c = %u, no leases", c);
        grow(NET_SCAMP, n, &scamp);
        ours = row(name);
        net_free(&net);
    }
    published(&paper, n == 10000 ? &ours : NULL, "paper, from memory");
}

int report_table(uint32_t n)
{
    static const struct figures hyparview = {0.00092, 6.38542, 9.0};
    static const struct figures cyclon = {0.006836, 2.60426, 10.6};
    struct figures ours;
    char note[1024];
    int bad = 0;

    printf("| %u nodes, after %u rounds | clustering coefficient | shortest path | maximum hops "
           "to delivery | reliability | clustering along views | path along views | view | "
           "in-degree: deviation | in-degree |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | "
           "---: | ---: | ---: |\n",
           n, SETTLE);
    grow(NET_HYPARVIEW, n, NULL);
    ours = row("HyParView");
    note_hyparview(note, sizeof(note));
    bad |= verdict();
    net_free(&net);
    published(&hyparview, n == 10000 ? &ours : NULL, "paper");
    grow(NET_CYCLON, n, NULL);
    ours = row("Cyclon");
    net_free(&net);
    published(&cyclon, n == 10000 ? &ours : NULL, "paper, from memory");
    scamp_rows(n);
    printf("\n%s\nseed %llu; wall time %.0f s, memory %.0f MB\n", note,
           (unsigned long long)report_seed, report_wall(), report_memory_mb());
    return bad;
}

/* --- failures (the paper's figures 2 to 4) ------------------------------------------------- */

struct after {
    double first; /* reliability of BURST messages at that moment */
    double mean;  /* of MESSAGES in the round that follows */
    double curve[N_CURVE];
    unsigned rounds; /* until it is what it was; 0: not within REPORT_AFTER */
    uint32_t cut_off;
    int violated;
};

struct failure {
    unsigned percent;
    double before; /* reliability */
};

static void fail_some(void *arg, void *out)
{
    const struct failure *f = arg;
    struct after *a = out;
    struct digraph g;
    unsigned n = 0;

    memset(a, 0, sizeof(*a));
    net_fail(&net, f->percent);
    a->first = net_spread(&net, BURST, 0).reliability;
    a->curve[n++] = a->first;
    for (unsigned i = 0; i < PARTS; i++) {
        double r = net_spread(&net, MESSAGES / PARTS, REPORT_ROUND / MESSAGES).reliability;
        a->curve[n++] = r;
        a->mean += r / PARTS;
    }
    for (unsigned r = 1; r <= REPORT_AFTER; r++) {
        double reached = net_spread(&net, 50, 0).reliability;
        a->curve[n++] = reached;
        if (a->rounds == 0 && reached >= 0.995 * f->before) {
            a->rounds = r;
            if (f->percent != CURVE) {
                break;
            }
        }
        net_run(&net, REPORT_ROUND);
    }
    net_graph(&net, &g);
    a->cut_off = dg_cut_off(&g);
    dg_free(&g);
    a->violated = verdict();
}

static const unsigned percents[] = {10, 20, 30, 40, 50, 60, 70, 80, 90, 95};
#define N_PERCENTS (sizeof(percents) / sizeof(percents[0]))

/* The last two as in simulators where a message to a dead node fails in no time. */
static const struct {
    const char *name;
    enum net_kind kind;
    bool at_once;
} subjects[] = {{"HyParView", NET_HYPARVIEW, false},
                {"CyclonAcked", NET_CYCLON_ACKED, false},
                {"Cyclon", NET_CYCLON, false},
                {"Scamp", NET_SCAMP, false},
                {"HyParView, noticed in no time", NET_HYPARVIEW, true},
                {"CyclonAcked, noticed in no time", NET_CYCLON_ACKED, true}};
#define N_SUBJECTS (sizeof(subjects) / sizeof(subjects[0]))
#define N_SLOW     NET_N_KINDS /* the first ones */

static struct after results[N_SUBJECTS][N_PERCENTS];
static double before[N_SUBJECTS];
static double per_second[N_SUBJECTS];

static int measure(unsigned k, uint32_t n)
{
    int bad = 0;

    net_open(&net, subjects[k].kind, n, report_seed, NULL);
    if (subjects[k].at_once) {
        net_notice_at_once(&net);
    }
    settle();
    per_second[k] = (double)last_rounds / n / 100;
    before[k] = net_spread(&net, 100, 0).reliability;
    for (unsigned i = 0; i < N_PERCENTS; i++) {
        struct failure f = {.percent = percents[i], .before = before[k]};
        struct after *a = &results[k][i];
        bad |= !report_in_copy(fail_some, &f, a, sizeof(*a)) || a->violated;
    }
    bad |= verdict();
    net_free(&net);
    return bad;
}

static void print_head(const char *title, const char *first, unsigned columns)
{
    printf("\n%s\n\n| %s |", title, first);
    for (unsigned k = 0; k < columns; k++) {
        printf(" %s |", subjects[k].name);
    }
    printf("\n| ---: |");
    for (unsigned k = 0; k < columns; k++) {
        printf(" ---: |");
    }
    printf("\n");
}

static void print_results(void)
{
    print_head("Reliability of ten messages at the moment of the failures", "failed at once",
               N_SLOW);
    for (unsigned i = 0; i < N_PERCENTS; i++) {
        printf("| %u %% |", percents[i]);
        for (unsigned k = 0; k < N_SLOW; k++) {
            printf(" %.2f %% |", 100 * results[k][i].first);
        }
        printf("\n");
    }
    print_head("Reliability of 1000 messages in the round (10 s) that follows", "failed at once",
               N_SUBJECTS);
    for (unsigned i = 0; i < N_PERCENTS; i++) {
        printf("| %u %% |", percents[i]);
        for (unsigned k = 0; k < N_SUBJECTS; k++) {
            printf(" %.2f %% |", 100 * results[k][i].mean);
        }
        printf("\n");
    }
    print_head("Rounds until messages reach as many of the living as before (within 0.5 %); nodes "
               "cut off then",
               "failed at once", N_SLOW);
    for (unsigned i = 0; i < N_PERCENTS; i++) {
        printf("| %u %% |", percents[i]);
        for (unsigned k = 0; k < N_SLOW; k++) {
            report_rounds(results[k][i].rounds);
            printf("; %u |", results[k][i].cut_off);
        }
        printf("\n");
    }
    print_head("Before the failures", "", N_SLOW);
    printf("| reliability |");
    for (unsigned k = 0; k < N_SLOW; k++) {
        printf(" %.2f %% |", 100 * before[k]);
    }
    printf("\n| messages of the protocol, per node and second |");
    for (unsigned k = 0; k < N_SLOW; k++) {
        printf(" %.2f |", per_second[k]);
    }
    printf("\n");
}

/* Three charts in one file. */
static int draw(void)
{
    static struct plot_line lines[3][N_SUBJECTS];
    static const char *const titles[3] = {"Ten messages at the moment of the failures",
                                          "1000 messages in the 10 s that follow",
                                          "80 % fail: recovery"};
    char path[512];
    struct plot_chart charts[3];

    if (report_svg == NULL) {
        return 0;
    }
    for (unsigned k = 0; k < N_SUBJECTS; k++) {
        for (unsigned i = 0; i < N_PERCENTS; i++) {
            plot_point(&lines[0][k], percents[i], 100 * results[k][i].first);
            plot_point(&lines[1][k], percents[i], 100 * results[k][i].mean);
            for (unsigned c = 0; percents[i] == CURVE && c < N_CURVE; c++) {
                double x = c == 0 ? 0 : c <= PARTS ? (c - 0.5) / PARTS : c - PARTS;
                plot_point(&lines[2][k], x, 100 * results[k][i].curve[c]);
            }
        }
    }
    for (unsigned c = 0; c < 3; c++) {
        charts[c] = (struct plot_chart){.title = titles[c],
                                        .x_name = c < 2 ? "% of the nodes that fail" : "rounds",
                                        .y_name = "% of the living reached",
                                        .x_max = c < 2 ? 100 : REPORT_AFTER,
                                        .legend_right = c == 2,
                                        .lines = lines[c],
                                        .n_lines = c == 1 ? N_SUBJECTS : N_SLOW};
        for (unsigned k = 0; k < N_SUBJECTS; k++) {
            lines[c][k].name = subjects[k].name;
        }
    }
    snprintf(path, sizeof(path), "%s/hyparview_failures.svg", report_svg);
    return !plot_charts(path, charts, 3);
}

int report_compare(uint32_t n)
{
    int bad = 0;

    printf("%u nodes, seed %llu, %u rounds before the failures\n", n,
           (unsigned long long)report_seed, SETTLE);
    for (unsigned k = 0; k < N_SUBJECTS; k++) {
        bad |= measure(k, n);
    }
    print_results();
    printf("\nwall time %.0f s, memory %.0f MB\n", report_wall(), report_memory_mb());
    return bad | draw();
}
