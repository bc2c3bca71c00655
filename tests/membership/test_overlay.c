/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Overlays of some hundred nodes, a few seeds each (SEEDS=n for more, SEED=s for one): they form,
 * survive failures, churn, partitions and loss. What holds after each event is in overlay.c.
 */
#include "support/t.h"

#include <string.h>

#include "membership/overlay.h"

#define ROUND (10 * BP_SEC)

static struct overlay o;

static unsigned seeds(void)
{
    const char *n = getenv("SEEDS");

    return getenv("SEED") != NULL ? 1 : n != NULL ? (unsigned)strtoul(n, NULL, 0) : 3;
}

static uint64_t seed(unsigned i)
{
    const char *s = getenv("SEED");

    return s != NULL ? strtoull(s, NULL, 0) : 1000 + i;
}

static void open_with(const struct ov_config *c)
{
    assert_true(ov_init(&o, c));
}

/* Says which seed it was. */
static void holds(bool ok, const char *what)
{
    if (!ok || o.violations != 0) {
        fail_msg("SEED=%llu: %s %s (%u nodes, %u components, %u one-sided)",
                 (unsigned long long)o.c.seed, ok ? "" : what, o.violations != 0 ? o.violation : "",
                 ov_alive(&o), ov_components(&o), ov_one_sided(&o));
    }
}

/* `n` nodes, one every 100 ms, each through a random one that is there. */
static void grow(uint32_t n)
{
    (void)ov_start(&o, BP_PEER_NONE);
    for (uint32_t i = 1; i < n; i++) {
        ov_run(&o, o.now + BP_SEC / 10);
        (void)ov_start(&o, ov_random_alive(&o));
    }
}

/* Rounds until everybody is in one overlay and all links have two ends; 0: not within `max`. */
static unsigned settle(unsigned max)
{
    for (unsigned r = 1; r <= max; r++) {
        ov_run(&o, o.now + ROUND - 3 * BP_SEC);
        if (ov_one_sided_for(&o, 3 * BP_SEC) == 0 && ov_components(&o) == 1) {
            return r;
        }
    }
    return 0;
}

static void stays_settled(unsigned rounds)
{
    for (unsigned r = 0; r < rounds; r++) {
        ov_run(&o, o.now + ROUND - 3 * BP_SEC);
        holds(ov_one_sided_for(&o, 3 * BP_SEC) == 0, "a link has one end for 3 s");
        holds(ov_components(&o) == 1, "the overlay is in pieces");
    }
}

static void kill_some(unsigned percent)
{
    uint32_t n = ov_alive(&o) * percent / 100;

    while (n != 0) {
        ov_kill(&o, ov_random_alive(&o));
        n--;
    }
    ov_lost(&o);
}

static void split(unsigned percent)
{
    for (bp_peer p = 1; p <= o.n_started; p++) {
        o.nodes[p].side = ov_rand(&o) % 100 < percent;
    }
    ov_lost(&o);
}

static void heal(void)
{
    for (bp_peer p = 1; p <= o.n_started; p++) {
        o.nodes[p].side = 0;
    }
}

static void overlay_forms_and_stays_one(void **state)
{
    (void)state;
    for (unsigned i = 0; i < seeds(); i++) {
        struct ov_config c;
        ov_config_default(&c, 300, seed(i));
        open_with(&c);
        grow(300);
        holds(settle(3) != 0, "did not settle in 3 rounds");
        stays_settled(20);
        holds(ov_mean_active(&o) > 4.5, "links are missing");
        holds(o.joined == 300, "somebody never joined");
        ov_free(&o);
    }
}

static void overlay_all_join_one_contact_at_once(void **state)
{
    (void)state;
    for (unsigned i = 0; i < seeds(); i++) {
        struct ov_config c;
        bp_peer contact;
        ov_config_default(&c, 60, seed(i));
        open_with(&c);
        contact = ov_start(&o, BP_PEER_NONE);
        for (int k = 1; k < 60; k++) {
            (void)ov_start(&o, contact);
        }
        holds(settle(2) != 0, "did not settle in 2 rounds");
        ov_free(&o);
    }
}

static void overlay_two_nodes_meet_again(void **state)
{
    struct ov_config c;
    (void)state;

    ov_config_default(&c, 2, 1);
    open_with(&c);
    grow(2);
    holds(settle(1) != 0, "two nodes did not meet");
    split(0);
    o.nodes[1].side = 1;
    ov_lost(&o);
    ov_run(&o, o.now + 600 * BP_SEC);
    holds(ov_components(&o) == 2, "a link across a partition");
    heal();
    holds(settle(60) != 0, "two nodes did not meet again");
    ov_free(&o);
}

static void overlay_survives_failures(void **state)
{
    static const struct {
        unsigned percent;
        unsigned rounds;
    } t[] = {{10, 2}, {50, 2}, {80, 6}};
    (void)state;

    for (unsigned i = 0; i < seeds(); i++) {
        for (size_t k = 0; k < sizeof(t) / sizeof(t[0]); k++) {
            struct ov_config c;
            ov_config_default(&c, 400, seed(i));
            open_with(&c);
            grow(400);
            ov_run(&o, o.now + 5 * ROUND);
            kill_some(t[k].percent);
            holds(settle(t[k].rounds) != 0, "not one overlay again in time");
            stays_settled(5);
            ov_free(&o);
        }
    }
}

static void overlay_partition_heals(void **state)
{
    (void)state;
    for (unsigned i = 0; i < seeds(); i++) {
        struct ov_config c;
        ov_config_default(&c, 200, seed(i));
        open_with(&c);
        grow(200);
        ov_run(&o, o.now + 5 * ROUND);
        split(30);
        /* Longer than passive entries live. */
        ov_run(&o, o.now + 60 * ROUND);
        holds(ov_components(&o) >= 2, "a link across a partition");
        heal();
        holds(settle(60) != 0, "the halves did not find each other");
        stays_settled(5);
        ov_free(&o);
    }
}

/* Two overlays of full views that never were one; one node knows one of the other side. */
static unsigned islands(uint64_t s, bool with_swap)
{
    struct ov_config c;
    unsigned rounds;

    ov_config_default(&c, 60, s);
    if (!with_swap) {
        c.hpv.swap_period = 0;
    }
    open_with(&c);
    (void)ov_start(&o, BP_PEER_NONE);
    (void)ov_start(&o, BP_PEER_NONE);
    for (bp_peer k = 3; k <= 60; k++) {
        ov_run(&o, o.now + BP_SEC / 10);
        (void)ov_start(&o, (bp_peer)(1 + (k + 1) % 2 + 2 * (ov_rand(&o) % ((k - 1) / 2))));
    }
    ov_run(&o, o.now + 10 * ROUND);
    holds(ov_components(&o) >= 2, "there are no two islands to begin with");
    for (bp_peer p = 1; p <= 60; p++) {
        const struct bp_hpv_entry e = {.peer = (bp_peer)(1 + p % 60), .seen = o.now};
        struct bp_hpv_view *v = &o.nodes[p].h->passive;
        if (v->n < v->cap) {
            (void)bp_hpv_view_add(v, &e);
        }
    }
    rounds = settle(120);
    holds(true, "");
    ov_free(&o);
    return rounds;
}

static void overlay_islands_merge_through_passive_views(void **state)
{
    (void)state;
    for (unsigned i = 0; i < seeds(); i++) {
        assert_int_not_equal(islands(seed(i), true), 0);
    }
    assert_int_equal(islands(1001, false), 0); /* it is the swap that does it */
}

static void overlay_churn_one_percent_per_round(void **state)
{
    (void)state;
    for (unsigned i = 0; i < seeds(); i++) {
        struct ov_config c;
        ov_config_default(&c, 1000, seed(i));
        open_with(&c);
        grow(300);
        for (unsigned r = 0; r < 60; r++) {
            for (unsigned k = 0; k < 3; k++) {
                ov_run(&o, o.now + ROUND / 6);
                ov_kill(&o, ov_random_alive(&o));
                ov_lost(&o);
                ov_run(&o, o.now + ROUND / 6);
                (void)ov_start(&o, ov_random_alive(&o));
            }
            /* The newcomer has joined, the dead may be in views still. */
            ov_run(&o, o.now + BP_SEC / 2);
            holds(ov_flood(&o, 3).reliability > 0.98, "a flood missed more than 2 %");
        }
        holds(settle(2) != 0, "not one overlay after churn");
        holds(ov_dead_passive(&o) < 0.3, "passive views are full of the dead");
        ov_free(&o);
    }
}

static void overlay_with_lossy_links_becomes_symmetric(void **state)
{
    (void)state;
    for (unsigned i = 0; i < seeds(); i++) {
        struct ov_config c;
        ov_config_default(&c, 200, seed(i));
        c.loss_permille = 50;
        open_with(&c);
        grow(200);
        ov_run(&o, o.now + 10 * ROUND);
        holds(ov_one_sided(&o) < 100, "a tenth of the links has one end");
        o.c.loss_permille = 0;
        holds(settle(60) != 0, "did not become symmetric");
        ov_free(&o);
    }
}

static void overlay_leavers_are_left_alone(void **state)
{
    struct ov_config c;
    (void)state;

    ov_config_default(&c, 50, seed(0));
    open_with(&c);
    grow(50);
    ov_run(&o, o.now + 5 * ROUND);
    ov_leave(&o, 7);
    ov_leave(&o, 8);
    ov_run(&o, o.now + 5 * ROUND);
    assert_int_equal(bp_hpv_active(o.nodes[7].h, NULL, 0), 0);
    assert_int_equal(ov_components(&o), 3);
    ov_join(&o, 7, 1);
    ov_run(&o, o.now + 2 * ROUND);
    assert_int_equal(ov_components(&o), 2);
    holds(true, "");
    ov_free(&o);
}

static void overlay_restarted_node_is_found_without_contact(void **state)
{
    struct ov_config c;
    (void)state;

    ov_config_default(&c, 50, seed(0));
    open_with(&c);
    grow(50);
    ov_run(&o, o.now + 5 * ROUND);
    ov_kill(&o, 9);
    ov_lost(&o);
    ov_run(&o, o.now + 3 * ROUND);
    ov_restart(&o, 9, BP_PEER_NONE);
    holds(settle(12) != 0, "a restarted node was not found");
    ov_free(&o);
}

static void overlay_same_seed_same_run(void **state)
{
    uint64_t trace[3];
    (void)state;

    for (unsigned k = 0; k < 3; k++) {
        struct ov_config c;
        ov_config_default(&c, 100, k == 2 ? 43 : 42);
        c.loss_permille = 20;
        open_with(&c);
        grow(100);
        kill_some(30);
        ov_run(&o, o.now + 5 * ROUND);
        trace[k] = o.trace;
        ov_free(&o);
    }
    assert_true(trace[0] == trace[1]);
    assert_true(trace[0] != trace[2]);
}

/* The checks themselves: each sees what it is for. */
static void overlay_checks_notice(void **state)
{
    struct ov_config c;
    struct bp_hpv *h;
    struct bp_hpv_entry saved;
    (void)state;

    ov_config_default(&c, 20, 5);
    open_with(&c);
    grow(20);
    holds(settle(3) != 0, "did not settle");
    h = o.nodes[4].h;
    saved = h->active.e[0];
    h->active.e[0].peer = 4;
    ov_check_node(&o, 4);
    assert_non_null(strstr(o.violation, "own view"));
    o.violations = 0;
    h->active.e[0].peer = h->active.e[1].peer;
    ov_check_node(&o, 4);
    assert_non_null(strstr(o.violation, "two places"));
    o.violations = 0;
    h->active.e[0] = h->active.e[--h->active.n];
    ov_check_node(&o, 4);
    assert_non_null(strstr(o.violation, "do not add up"));
    assert_int_equal(ov_one_sided(&o), 1);
    o.violations = 0;
    h->active.e[h->active.n] = h->active.e[0];
    h->active.e[0] = saved;
    h->active.n++;
    ov_check_node(&o, 4);
    assert_int_equal(o.violations, 0);
    for (bp_peer p = 1; p <= 20; p++) {
        o.nodes[p].side = p > 10;
    }
    assert_true(ov_components(&o) >= 2);
    assert_true(ov_flood(&o, 5).reliability < 1);
    ov_free(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overlay_forms_and_stays_one),
        cmocka_unit_test(overlay_all_join_one_contact_at_once),
        cmocka_unit_test(overlay_two_nodes_meet_again),
        cmocka_unit_test(overlay_survives_failures),
        cmocka_unit_test(overlay_partition_heals),
        cmocka_unit_test(overlay_islands_merge_through_passive_views),
        cmocka_unit_test(overlay_churn_one_percent_per_round),
        cmocka_unit_test(overlay_with_lossy_links_becomes_symmetric),
        cmocka_unit_test(overlay_leavers_are_left_alone),
        cmocka_unit_test(overlay_restarted_node_is_found_without_contact),
        cmocka_unit_test(overlay_same_seed_same_run),
        cmocka_unit_test(overlay_checks_notice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
