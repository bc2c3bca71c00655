/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What HyParView is compared with is what its papers say: Cyclon's and Scamp's known properties,
 * and the comparison itself with 1,000 nodes. SEED=s for another seed.
 */
#include "support/t.h"

#include <math.h>

#include "membership/net.h"

#define ROUND (10 * BP_SEC)

static struct net net;

static uint64_t seed(void)
{
    const char *s = getenv("SEED");

    return s != NULL ? strtoull(s, NULL, 0) : 1;
}

static void grow(enum net_kind kind, uint32_t n, const struct bl_config *scamp)
{
    net_open(&net, kind, n, seed(), scamp);
    net_grow(&net);
}

static void rounds(unsigned n)
{
    net_run(&net, n * ROUND);
}

static void between(const char *what, double x, double min, double max)
{
    if (!(x >= min && x <= max)) {
        fail_msg("SEED=%llu: %s is %g, not %g to %g", (unsigned long long)seed(), what, x, min,
                 max);
    }
}

/* Of the entries in the views of the living. */
static double dead_entries(void)
{
    double dead = 0;
    double all = 0;

    for (bp_peer p = 1; p <= net.b.n_started; p++) {
        const struct bl_view *v = &net.b.nodes[p].view;
        for (uint32_t i = 0; net.b.nodes[p].alive && i < v->n; i++) {
            all++;
            dead += !net.b.nodes[v->e[i].peer].alive;
        }
    }
    return all > 0 ? dead / all : 0;
}

/* No self, nobody twice, never more than the size. */
static void views_are_sound(uint32_t max)
{
    for (bp_peer p = 1; p <= net.b.n_started; p++) {
        const struct bl_view *v = &net.b.nodes[p].view;
        assert_true(v->n <= max);
        for (uint32_t i = 0; i < v->n; i++) {
            assert_true(v->e[i].peer != p && v->e[i].peer != BP_PEER_NONE);
            assert_ptr_equal(bl_view_find(v, v->e[i].peer), &v->e[i]);
        }
    }
}

/* A triangle 0 1 2 with a tail 2 3, and 4 alone; an arc to itself and one twice do not count. */
static void digraph_measures(void **state)
{
    static const uint32_t arcs[][2] = {{0, 1}, {1, 2}, {2, 0}, {2, 3}, {3, 3}, {0, 1}};
    struct dg_degrees d;
    struct digraph g;
    (void)state;

    dg_begin(&g, 5);
    for (size_t i = 0; i < sizeof(arcs) / sizeof(arcs[0]); i++) {
        dg_arc(&g, arcs[i][0], arcs[i][1]);
    }
    dg_end(&g);
    /* Both ways: 1, 1, 1/3, 0 and 0; along the arcs nobody's neighbours know each other but 2's:
     * 0 and 3 do not. */
    assert_float_equal(dg_clustering(&g, &g.both), (1 + 1 + 1.0 / 3) / 5, 1e-9);
    assert_float_equal(dg_clustering(&g, &g.out), 0, 1e-9);
    assert_int_equal(dg_cut_off(&g), 1);
    /* Many sources: 0 and 1 reach with 1 1 2, 2 with 1 1 1, 3 with 1 2 2: 16 / 12 on average. */
    assert_float_equal(dg_path(&g, &g.both, 20000, 1), 16.0 / 12, 0.02);
    /* 0: 1 2 3; 1: 1 2 2; 2: 1 2 1; 3: nobody: 15 / 9. */
    assert_float_equal(dg_path(&g, &g.out, 20000, 1), 15.0 / 9, 0.02);
    d = dg_degrees(&g);
    assert_float_equal(d.mean, 6.0 / 5, 1e-9);
    assert_int_equal(d.in_min, 0);
    assert_int_equal(d.in_max, 2);
    assert_int_equal(d.out_min, 0);
    assert_int_equal(d.out_max, 2);
    dg_free(&g);
}

/* Random graphs of degree 2k have a clustering of 2k/n; in-degrees deviate by sqrt(k) there, by
 * less in Cyclon; gossip reaches r = 1 - e^(-fanout r). */
static void cyclon_is_like_a_random_graph(void **state)
{
    struct net_spread s;
    struct dg_degrees d;
    struct digraph g;
    (void)state;

    grow(NET_CYCLON, 1000, NULL);
    rounds(50);
    views_are_sound(35);
    net_graph(&net, &g);
    d = dg_degrees(&g);
    between("mean view", d.mean, 34.5, 35);
    between("deviation of the in-degree", d.in_sd, 1, sqrt(35));
    between("clustering", dg_clustering(&g, &g.both), 0.9 * 0.07, 1.1 * 0.07);
    between("clustering along views", dg_clustering(&g, &g.out), 0.9 * 0.035, 1.1 * 0.035);
    assert_int_equal(dg_cut_off(&g), 0);
    dg_free(&g);
    s = net_spread(&net, 100, 0);
    between("reliability", s.reliability, 0.97, 0.99);
    net_free(&net);
}

/* One of 35 a round, the oldest: after 35 rounds nobody is left that has died. */
static void cyclon_forgets_the_dead_in_as_many_rounds_as_its_view_is_long(void **state)
{
    (void)state;
    grow(NET_CYCLON, 500, NULL);
    rounds(40);
    net_fail(&net, 40);
    between("dead entries at once", dead_entries(), 0.35, 0.45);
    rounds(8);
    between("dead entries after 8 rounds", dead_entries(), 0.1, 0.45);
    rounds(52);
    between("dead entries after 60 rounds", dead_entries(), 0, 0.01);
    views_are_sound(35);
    net_free(&net);
}

static void acknowledgements_remove_the_dead_sooner(void **state)
{
    double left[2];
    (void)state;

    for (int acked = 0; acked < 2; acked++) {
        grow(acked != 0 ? NET_CYCLON_ACKED : NET_CYCLON, 500, NULL);
        rounds(40);
        net_fail(&net, 40);
        (void)net_spread(&net, 200, ROUND / 200);
        left[acked] = dead_entries();
        net_free(&net);
    }
    assert_true(left[0] > 0.3);
    assert_true(left[1] < 0.1);
}

/* Their paper: (c + 1) ln n. */
static void scamp_views_grow_with_the_logarithm(void **state)
{
    (void)state;
    for (unsigned c = 0; c < 2; c++) {
        for (uint32_t n = 300; n <= 3000; n *= 10) {
            struct bl_config bc;
            struct digraph g;
            bl_config_default(&bc, BL_SCAMP, n, seed());
            bc.extra_copies = c;
            grow(NET_SCAMP, n, &bc);
            views_are_sound(n);
            net_graph(&net, &g);
            between("mean view / ((c + 1) ln n)", dg_degrees(&g).mean / ((c + 1) * log(n)), 0.75,
                    1.25);
            assert_int_equal(dg_cut_off(&g), 0);
            dg_free(&g);
            net_free(&net);
        }
    }
}

static void scamp_leases_keep_views_and_end_the_dead(void **state)
{
    struct digraph g;
    double before;
    (void)state;

    grow(NET_SCAMP, 300, NULL);
    net_graph(&net, &g);
    before = dg_degrees(&g).mean;
    dg_free(&g);
    rounds(60);
    net_graph(&net, &g);
    between("mean view after three leases / before", dg_degrees(&g).mean / before, 0.7, 1.3);
    dg_free(&g);
    net_fail(&net, 30);
    between("dead entries at once", dead_entries(), 0.25, 0.35);
    /* A lease is 30 rounds at most. */
    rounds(32);
    between("dead entries after all leases", dead_entries(), 0, 0.01);
    net_graph(&net, &g);
    assert_int_equal(dg_cut_off(&g), 0);
    dg_free(&g);
    net_free(&net);
}

/* Nobody has node 7 in its view: no heartbeats come, and it subscribes again. */
static void scamp_isolated_node_comes_back(void **state)
{
    uint32_t in = 0;
    struct bl_config bc;
    (void)state;

    bl_config_default(&bc, BL_SCAMP, 100, seed());
    bc.lease = 0;
    grow(NET_SCAMP, 100, &bc);
    rounds(10);
    for (bp_peer p = 1; p <= 100; p++) {
        struct bl_view *v = &net.b.nodes[p].view;
        const struct bl_entry *e = bl_view_find(v, 7);
        if (e != NULL) {
            bl_view_remove_at(v, (uint32_t)(e - v->e));
        }
    }
    rounds(8);
    for (bp_peer p = 1; p <= 100; p++) {
        in += bl_view_find(&net.b.nodes[p].view, 7) != NULL;
    }
    assert_true(in >= 3);
    net_free(&net);
}

/* The comparison of the report, small: the order that the HyParView paper found. */
static void hyparview_is_above_the_others_after_failures(void **state)
{
    static const enum net_kind kinds[] = {NET_HYPARVIEW, NET_CYCLON_ACKED, NET_CYCLON, NET_SCAMP};
    double mean[NET_N_KINDS];
    double last[NET_N_KINDS];
    (void)state;

    for (unsigned k = 0; k < NET_N_KINDS; k++) {
        struct bl_config bc;
        bl_config_default(&bc, BL_SCAMP, 1000, seed());
        bc.lease = 0; /* takes less time */
        grow(kinds[k], 1000, &bc);
        rounds(20);
        between("reliability without failures", net_spread(&net, 20, 0).reliability, 0.93, 1);
        net_fail(&net, 80);
        mean[kinds[k]] = net_spread(&net, 200, ROUND / 200).reliability;
        rounds(1);
        last[kinds[k]] = net_spread(&net, 20, 0).reliability;
        assert_int_equal(net_violations(&net), 0);
        net_free(&net);
    }
    between("HyParView in the first round", mean[NET_HYPARVIEW], 0.6, 1);
    between("HyParView after two rounds", last[NET_HYPARVIEW], 0.98, 1);
    between("Cyclon in the first round", mean[NET_CYCLON], 0, 0.2);
    between("Scamp in the first round", mean[NET_SCAMP], 0, 0.2);
    assert_true(mean[NET_HYPARVIEW] > mean[NET_CYCLON_ACKED]);
    assert_true(mean[NET_CYCLON_ACKED] > mean[NET_CYCLON] + 0.1);
    assert_true(last[NET_HYPARVIEW] > last[NET_CYCLON_ACKED]);
}

/* What the paper's simulator had: a message to a dead node fails before the next one is sent. */
static void hyparview_noticing_at_once_reaches_nearly_all(void **state)
{
    (void)state;
    net_open(&net, NET_HYPARVIEW, 1000, seed(), NULL);
    net_notice_at_once(&net);
    net_grow(&net);
    rounds(20);
    net_fail(&net, 80);
    between("reliability of 500 messages", net_spread(&net, 500, ROUND / 500).reliability, 0.97, 1);
    assert_int_equal(net_violations(&net), 0);
    net_free(&net);
}

static void same_seed_same_run(void **state)
{
    static const enum net_kind kinds[] = {NET_CYCLON_ACKED, NET_SCAMP};
    (void)state;

    for (unsigned k = 0; k < 2; k++) {
        uint64_t sum[3];
        for (unsigned i = 0; i < 3; i++) {
            net_open(&net, kinds[k], 100, seed() + (i == 2), NULL);
            net_grow(&net);
            rounds(10);
            net_fail(&net, 30);
            (void)net_spread(&net, 10, BP_SEC);
            sum[i] = net.b.events;
            for (bp_peer p = 1; p <= 100; p++) {
                const struct bl_view *v = &net.b.nodes[p].view;
                for (uint32_t e = 0; e < v->n; e++) {
                    sum[i] = sum[i] * 31 + v->e[e].peer;
                }
            }
            net_free(&net);
        }
        assert_true(sum[0] == sum[1]);
        assert_true(sum[0] != sum[2]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digraph_measures),
        cmocka_unit_test(cyclon_is_like_a_random_graph),
        cmocka_unit_test(cyclon_forgets_the_dead_in_as_many_rounds_as_its_view_is_long),
        cmocka_unit_test(acknowledgements_remove_the_dead_sooner),
        cmocka_unit_test(scamp_views_grow_with_the_logarithm),
        cmocka_unit_test(scamp_leases_keep_views_and_end_the_dead),
        cmocka_unit_test(scamp_isolated_node_comes_back),
        cmocka_unit_test(hyparview_is_above_the_others_after_failures),
        cmocka_unit_test(hyparview_noticing_at_once_reaches_nearly_all),
        cmocka_unit_test(same_seed_same_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
