/* SPDX-License-Identifier: Apache-2.0 */
/* Views of HyParView: bounds, picks, samples and who makes room. */
#include "support/t.h"

#include "membership/hpv_view.h"

static struct bp_hpv_entry store[8];

static struct bp_hpv_view view_of(uint32_t n)
{
    struct bp_hpv_view v = {.e = store, .cap = 8};

    for (uint32_t i = 1; i <= n; i++) {
        assert_true(bp_hpv_view_add(
            &v, &(struct bp_hpv_entry){.peer = i, .seen = (bp_time)i * 100 * BP_MS}));
    }
    return v;
}

static void view_full_takes_no_more(void **state)
{
    struct bp_hpv_view v = view_of(8);
    (void)state;

    assert_false(bp_hpv_view_add(&v, &(struct bp_hpv_entry){.peer = 9}));
    assert_int_equal(v.n, 8);
    assert_null(bp_hpv_view_find(&v, 9));
    assert_true(bp_hpv_view_remove(&v, 3));
    assert_false(bp_hpv_view_remove(&v, 3));
    assert_true(bp_hpv_view_add(&v, &(struct bp_hpv_entry){.peer = 9}));
    assert_non_null(bp_hpv_view_find(&v, 9));
}

static void view_pick_is_uniform_and_leaves_out(void **state)
{
    struct bp_hpv_view v = view_of(5);
    uint64_t rng = 1;
    unsigned hits[6] = {0};
    (void)state;

    for (int i = 0; i < 30000; i++) {
        hits[bp_hpv_view_pick(&v, 2, 4, &rng)]++;
    }
    assert_int_equal(hits[2] + hits[4] + hits[0], 0);
    for (int i = 1; i <= 5; i += 2) {
        assert_in_range(hits[i], 9500, 10500);
    }
    v.n = 1;
    assert_int_equal(bp_hpv_view_pick(&v, 1, 0, &rng), BP_PEER_NONE);
    v.n = 0;
    assert_int_equal(bp_hpv_view_pick(&v, 0, 0, &rng), BP_PEER_NONE);
}

static void view_sample_is_distinct_uniform_and_says_ages(void **state)
{
    struct bp_hpv_view v = view_of(6);
    uint64_t rng = 7;
    unsigned hits[7] = {0};
    (void)state;

    v.e[4].fails = 1; /* peer 5 */
    for (int i = 0; i < 20000; i++) {
        struct bp_hpv_msg m = {.n_peers = 1, .peers = {{.peer = 99}}};
        bp_hpv_view_sample(&v, 2, 6, false, BP_SEC, &rng, &m);
        assert_int_equal(m.n_peers, 3);
        assert_int_equal(m.peers[0].peer, 99);
        assert_int_not_equal(m.peers[1].peer, m.peers[2].peer);
        for (int k = 1; k < 3; k++) {
            hits[m.peers[k].peer]++;
            assert_int_equal(m.peers[k].age_ms, 1000 - 100 * m.peers[k].peer);
        }
    }
    assert_int_equal(hits[5] + hits[6], 0);
    for (int i = 1; i <= 4; i++) {
        assert_in_range(hits[i], 9500, 10500);
    }
}

static void view_sample_never_overflows_a_message(void **state)
{
    struct bp_hpv_view v = view_of(8);
    struct bp_hpv_msg m = {.n_peers = BP_HPV_SHUFFLE_MAX - 3};
    uint64_t rng = 1;
    (void)state;

    bp_hpv_view_sample(&v, 8, 0, true, BP_SEC, &rng, &m);
    assert_int_equal(m.n_peers, BP_HPV_SHUFFLE_MAX);
    assert_int_equal(m.peers[BP_HPV_SHUFFLE_MAX - 1].age_ms, 0);
    bp_hpv_view_sample(&v, 8, 0, true, BP_SEC, &rng, &m);
    assert_int_equal(m.n_peers, BP_HPV_SHUFFLE_MAX);
}

static void view_victim_failed_then_sent_then_any(void **state)
{
    struct bp_hpv_view v = view_of(8);
    const bp_peer sent[] = {77, 6};
    uint64_t rng = 3;
    (void)state;

    v.e[2].fails = 1;
    assert_int_equal(bp_hpv_view_victim(&v, sent, 2, &rng), 2);
    v.e[2].fails = 0;
    assert_int_equal(bp_hpv_view_victim(&v, sent, 2, &rng), 5);
    for (int i = 0; i < 100; i++) {
        assert_true(bp_hpv_view_victim(&v, sent, 1, &rng) < 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(view_full_takes_no_more),
        cmocka_unit_test(view_pick_is_uniform_and_leaves_out),
        cmocka_unit_test(view_sample_is_distinct_uniform_and_says_ages),
        cmocka_unit_test(view_sample_never_overflows_a_message),
        cmocka_unit_test(view_victim_failed_then_sent_then_any),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
