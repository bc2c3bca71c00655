/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HyParView at scale: the paper's experiments with the state machines that nodes run, in virtual
 * time.
 *
 *   hyparview_report [--seed S] [--svg DIR] MODE [NODES]
 *   MODE: table, compare, failures, scale, sizing, churn, partition, loss
 */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "membership/overlay.h"
#include "membership/report.h"

#define ROUND     REPORT_ROUND
#define MAX_AFTER REPORT_AFTER

uint64_t report_seed = 1;
const char *report_svg;

static struct overlay o;

double report_wall(void)
{
    static time_t first;
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    first = first == 0 ? t.tv_sec : first;
    return (double)(t.tv_sec - first) + (double)t.tv_nsec / 1e9;
}

double report_memory_mb(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_maxrss / 1024;
}

void report_fatal(const char *what)
{
    fprintf(stderr, "hyparview_report: %s\n", what);
    exit(1);
}

static int verdict(void)
{
    if (o.violations != 0) {
        printf("VIOLATED %llu times, first: %s\n", (unsigned long long)o.violations, o.violation);
    }
    return o.violations != 0;
}

static void open_overlay(uint32_t cap, unsigned active, unsigned passive, bool check)
{
    struct ov_config c;

    ov_config_default(&c, cap, report_seed);
    c.check = check;
    c.hpv.active_size = active;
    c.hpv.passive_size = passive;
    if (!ov_init(&o, &c)) {
        report_fatal("no memory");
    }
}

/* One after the other, each through a random node, over `during`; then `rounds` to stabilise. */
static void grow(uint32_t n, bp_time during, unsigned rounds)
{
    (void)ov_start(&o, BP_PEER_NONE);
    for (uint32_t i = 1; i < n; i++) {
        ov_run(&o, o.now + during / n);
        (void)ov_start(&o, (bp_peer)(1 + ov_rand(&o) % o.n_started));
    }
    ov_run(&o, o.now + rounds * ROUND);
}

static double clustering(void)
{
    struct digraph g;
    double c;

    ov_graph(&o, &g);
    c = dg_clustering(&g, &g.both);
    dg_free(&g);
    return c;
}

static uint64_t all_sent(void)
{
    uint64_t n = 0;

    for (int k = 0; k < BP_HPV_N_KINDS; k++) {
        n += o.sent[k];
    }
    return n;
}

static void describe(void)
{
    printf("%u nodes alive, seed %llu: %u component(s), %u one-sided link(s) now, %u of "
           "them for 3 "
           "s, mean active view %.3f, joined %llu\n",
           ov_alive(&o), (unsigned long long)report_seed, ov_components(&o), ov_one_sided(&o),
           ov_one_sided_for(&o, 3 * BP_SEC), ov_mean_active(&o), (unsigned long long)o.joined);
}

/* --- failures ------------------------------------------------------------ */

struct after {
    uint32_t alive;
    double at_once; /* reliability before anybody has noticed */
    double noticed; /* after 2 s */
    double round_1;
    unsigned rounds;    /* until all are reached; 0: not within MAX_AFTER */
    unsigned symmetric; /* ... and the links have two ends and are one overlay */
    uint32_t cut_off;   /* at the end */
    int violated;
};

static struct after fail_some(unsigned percent)
{
    struct after a = {0};
    uint32_t n = (uint32_t)((uint64_t)ov_alive(&o) * percent / 100);

    while (n-- != 0) {
        ov_kill(&o, ov_random_alive(&o));
    }
    ov_lost(&o);
    a.alive = ov_alive(&o);
    a.at_once = ov_flood(&o, 50).reliability;
    ov_run(&o, o.now + 2 * BP_SEC);
    a.noticed = ov_flood(&o, 50).reliability;
    for (unsigned r = 1; r <= MAX_AFTER && a.symmetric == 0; r++) {
        double reached;
        ov_run(&o, o.now + ROUND - (r == 1 ? 2 : 0) * BP_SEC - 3 * BP_SEC);
        bool two_ends = ov_one_sided_for(&o, 3 * BP_SEC) == 0;
        reached = ov_flood(&o, 50).worst;
        a.round_1 = r == 1 ? ov_flood(&o, 50).reliability : a.round_1;
        a.rounds = a.rounds == 0 && reached >= 1 ? r : a.rounds;
        a.symmetric = two_ends && ov_components(&o) == 1 ? r : 0;
    }
    a.cut_off = ov_cut_off(&o);
    a.violated = verdict();
    return a;
}

bool report_in_copy(void (*run)(void *arg, void *out), void *arg, void *out, size_t size)
{
    int fd[2];
    pid_t pid;
    bool ok;

    fflush(stdout);
    if (pipe(fd) != 0 || (pid = fork()) < 0) {
        report_fatal("cannot fork");
    }
    if (pid == 0) {
        run(arg, out);
        fflush(stdout);
        _exit(write(fd[1], out, size) != (ssize_t)size);
    }
    close(fd[1]);
    ok = read(fd[0], out, size) == (ssize_t)size;
    close(fd[0]);
    waitpid(pid, NULL, 0);
    return ok;
}

static void fail_run(void *percent, void *out)
{
    *(struct after *)out = fail_some(*(unsigned *)percent);
}

static struct after fail_copy(unsigned percent)
{
    struct after a;

    if (!report_in_copy(fail_run, &percent, &a, sizeof(a))) {
        a = (struct after){.violated = 1};
    }
    return a;
}

void report_rounds(unsigned n)
{
    if (n == 0) {
        printf(" not within %d", MAX_AFTER);
    } else {
        printf(" %u", n);
    }
}

static int failures(uint32_t n)
{
    static const unsigned percents[] = {10, 20, 30, 40, 50, 60, 70, 80, 90, 95};
    int bad = 0;

    open_overlay(n, 5, 30, true);
    grow(n, 100 * BP_SEC, 50);
    describe();
    printf("\n| failed at once | alive | reliability at once | after 2 s | after 1 round | rounds "
           "until all are reached | until one symmetric overlay | cut off then |\n"
           "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n");
    for (unsigned i = 0; i < sizeof(percents) / sizeof(percents[0]); i++) {
        struct after a = fail_copy(percents[i]);
        printf("| %u %% | %u | %.2f %% | %.2f %% | %.2f %% |", percents[i], a.alive,
               100 * a.at_once, 100 * a.noticed, 100 * a.round_1);
        report_rounds(a.rounds);
        printf(" |");
        report_rounds(a.symmetric);
        printf(" | %u |\n", a.cut_off);
        bad |= a.violated;
    }
    return bad | verdict();
}

/* --- size ---------------------------------------------------------------------------------------
 */

static int scale(uint32_t n)
{
    double start = report_wall();
    unsigned rounds = 0;
    uint32_t parts;

    open_overlay(n, 5, 30, true);
    grow(n, 100 * BP_SEC, 0);
    do {
        ov_run(&o, o.now + ROUND);
        parts = ov_components(&o);
    } while (++rounds < 5 || (parts != 1 && rounds < MAX_AFTER));
    describe();
    printf(
        "%llu events, %llu messages in %.0f s of virtual time: wall time %.1f s, memory %.0f MB; "
        "one overlay: %s\n",
        (unsigned long long)o.events, (unsigned long long)all_sent(), (double)o.now / 1e9,
        report_wall() - start, report_memory_mb(), parts == 1 ? "yes" : "NO");
    return verdict() | (parts != 1);
}

static int sizing(uint32_t n)
{
    static const unsigned sizes[] = {3, 4, 5, 6, 8};
    int bad = 0;

    printf(
        "%u nodes, passive_size = 6 times active_size\n\n| active_size | path | maximum hops | "
        "clustering | messages per node and second | reached at once after 30 %% fail | after 50 "
        "%% | after 70 %% | rounds until one overlay after 70 %% |\n"
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        n);
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct ov_floods f;
        struct after a[3];
        uint64_t before;
        open_overlay(n, sizes[i], 6 * sizes[i], true);
        grow(n, 100 * BP_SEC, 20);
        before = all_sent();
        ov_run(&o, o.now + 10 * ROUND);
        f = ov_flood(&o, 100);
        for (unsigned k = 0; k < 3; k++) {
            a[k] = fail_copy(30 + 20 * k);
            bad |= a[k].violated;
        }
        printf("| %u | %.2f | %.1f | %.4f | %.2f | %.2f %% | %.2f %% | %.2f %% |", sizes[i], f.path,
               f.max_hops, clustering(), (double)(all_sent() - before) / n / 100,
               100 * a[0].at_once, 100 * a[1].at_once, 100 * a[2].at_once);
        report_rounds(a[2].symmetric);
        printf(" |\n");
        bad |= verdict();
        ov_free(&o);
    }
    return bad;
}

/* --- bad times
 * ------------------------------------------------------------------------------------ */

static int churn(uint32_t n)
{
    double worst = 1;
    double sum = 0;
    unsigned pieces = 0;

    open_overlay(n * 3, 5, 30, true);
    grow(n, 100 * BP_SEC, 10);
    for (unsigned r = 0; r < 100; r++) {
        double reached;
        for (uint32_t k = 0; k < n / 100 + 1; k++) {
            ov_run(&o, o.now + ROUND / (n / 100 + 1));
            ov_kill(&o, ov_random_alive(&o));
            (void)ov_start(&o, ov_random_alive(&o));
        }
        ov_lost(&o);
        ov_run(&o, o.now + BP_SEC / 2);
        reached = ov_flood(&o, 10).reliability;
        worst = reached < worst ? reached : worst;
        sum += reached;
        pieces += ov_components(&o) != 1;
    }
    printf(
        "churn, %u nodes, 1 %% die and 1 %% join per round, 100 rounds: reliability %.3f %% on "
        "average, worst %.3f %%; %u rounds with somebody cut off; dead passive entries %.1f %%\n",
        n, sum, 100 * worst, pieces, 100 * ov_dead_passive(&o));
    ov_run(&o, o.now + 2 * ROUND);
    describe();
    return verdict() | (ov_components(&o) != 1);
}

static int partition(uint32_t n)
{
    unsigned rounds = 0;

    open_overlay(n, 5, 30, true);
    grow(n, 100 * BP_SEC, 20);
    for (bp_peer p = 1; p <= n; p++) {
        o.nodes[p].side = ov_rand(&o) % 100 < 40;
    }
    ov_lost(&o);
    ov_run(&o, o.now + 60 * ROUND);
    printf("partition 40:60 of %u nodes for 60 rounds (passive entries live for 30): %u pieces\n",
           n, ov_components(&o));
    for (bp_peer p = 1; p <= n; p++) {
        o.nodes[p].side = 0;
    }
    while (rounds < 100 && ov_components(&o) != 1) {
        ov_run(&o, o.now + ROUND);
        rounds++;
    }
    printf("healed: one overlay after %u round(s)\n", rounds);
    ov_run(&o, o.now + 10 * ROUND);
    describe();
    return verdict() | (ov_components(&o) != 1);
}

static int loss(uint32_t n)
{
    for (unsigned permille = 10; permille <= 100; permille += 45) {
        unsigned rounds = 0;
        open_overlay(n, 5, 30, true);
        o.c.loss_permille = permille;
        grow(n, 100 * BP_SEC, 20);
        printf(
            "%.1f %% of the messages lost, %u nodes: reliability %.3f %%, %u one-sided links, %u "
            "pieces; ",
            permille / 10.0, n, 100 * ov_flood(&o, 20).reliability, ov_one_sided(&o),
            ov_components(&o));
        o.c.loss_permille = 0;
        while (rounds < 100 && (ov_one_sided_for(&o, 3 * BP_SEC) != 0 || ov_components(&o) != 1)) {
            ov_run(&o, o.now + ROUND - 3 * BP_SEC);
            rounds++;
        }
        printf("%u rounds without loss until all links have two ends\n", rounds);
        if (verdict() != 0 || rounds == 100) {
            return 1;
        }
        ov_free(&o);
    }
    return 0;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(uint32_t n);
        uint32_t n;
    } modes[] = {{"table", report_table, 10000}, {"compare", report_compare, 10000},
                 {"failures", failures, 10000},  {"scale", scale, 100000},
                 {"sizing", sizing, 2000},       {"churn", churn, 1000},
                 {"partition", partition, 1000}, {"loss", loss, 1000}};
    int i = 1;

    setvbuf(stdout, NULL, _IOLBF, 0);
    (void)report_wall();
    for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
        if (strcmp(argv[i], "--seed") == 0) {
            report_seed = strtoull(argv[i + 1], NULL, 0);
        } else if (strcmp(argv[i], "--svg") == 0) {
            report_svg = argv[i + 1];
        } else {
            break;
        }
    }
    for (unsigned k = 0; i < argc && k < sizeof(modes) / sizeof(modes[0]); k++) {
        if (strcmp(argv[i], modes[k].name) == 0) {
            unsigned long n = i + 1 < argc ? strtoul(argv[i + 1], NULL, 0) : modes[k].n;
            if (n < 20 || n > 1000000) {
                report_fatal("NODES is 20 to 1000000");
            }
            return modes[k].run((uint32_t)n);
        }
    }
    fprintf(stderr, "usage: hyparview_report [--seed S] [--svg DIR] "
                    "table|compare|failures|scale|sizing|churn|partition|loss [NODES]\n");
    return 2;
}
