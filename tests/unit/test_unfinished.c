/* SPDX-License-Identifier: Apache-2.0 */
/* Unit tests of the account of unfinished messages, and of rates. */
#include "support/t.h"

#include "base/err.h"
#include "base/rate.h"
#include "dist/unfinished.h"

static void rate_burst_then_one_in_a_period(void **state)
{
    struct bp_rate r = {0};
    bp_time now = 1000 * BP_SEC;
    (void)state;

    for (unsigned i = 0; i < 5; i++) {
        assert_true(bp_rate_take(&r, 1, 5, BP_SEC, now));
    }
    assert_false(bp_rate_take(&r, 1, 5, BP_SEC, now));
    assert_false(bp_rate_take(&r, 1, 5, BP_SEC, now + BP_SEC - 1));
    assert_true(bp_rate_take(&r, 1, 5, BP_SEC, now + BP_SEC));
    assert_false(bp_rate_take(&r, 1, 5, BP_SEC, now + BP_SEC));
    now += BP_SEC + BP_SEC / 2; /* fractions of a period are not lost */
    assert_false(bp_rate_take(&r, 1, 5, BP_SEC, now));
    assert_true(bp_rate_take(&r, 1, 5, BP_SEC, now + BP_SEC / 2));
    bp_rate_give_back(&r);
    assert_true(bp_rate_take(&r, 1, 5, BP_SEC, now + BP_SEC / 2));
    assert_false(bp_rate_take(&r, 1, 5, BP_SEC, 0)); /* a clock that goes back forgets nothing */
    assert_false(bp_rate_take(&r, 6, 5, BP_SEC, now + 100 * BP_SEC));
    assert_false(bp_rate_take(&r, UINT64_MAX, 5, BP_SEC, now + 100 * BP_SEC));
    assert_true(bp_rate_take(&r, 5, 5, BP_SEC, now + 100 * BP_SEC));
}

static void rate_of_nothing_gives_nothing_back(void **state)
{
    struct bp_rate r = {0};
    (void)state;

    bp_rate_give_back(&r);
    assert_true(bp_rate_take(&r, 1, 1, BP_SEC, 1));
    assert_false(bp_rate_take(&r, 1, 1, BP_SEC, 1));
}

#define FRAG(u, seq, frag, first, len) bp_unfinished_fragment(u, seq, frag, first, len)

#define PLACES(n) ((n) * BP_UNFINISHED_PER_FRAGMENT)

static void unfinished_message_counts_until_its_last_fragment(void **state)
{
    struct bp_unfinished u;
    (void)state;

    bp_unfinished_init(&u, bp_mem_libc(), 1000 + PLACES(5));
    assert_int_equal(FRAG(&u, 7, 3, true, 400), 0);
    assert_int_equal(FRAG(&u, 7, 2, false, 400), 0);
    assert_int_equal(u.bytes, 800 + PLACES(3));
    assert_int_equal(u.n, 1);
    assert_int_equal(FRAG(&u, 8, 1, true, 5000), 0); /* the first is the last: nothing is kept */
    assert_int_equal(FRAG(&u, 9, 5, false, 5000), 0); /* never began: the VM's business */
    assert_int_equal(u.bytes, 800 + PLACES(3));
    assert_int_equal(FRAG(&u, 8, 2, true, 201), BP_E_UNFINISHED);
    assert_int_equal(u.n, 1);
    assert_int_equal(FRAG(&u, 8, 2, true, 200), 0);
    assert_int_equal(FRAG(&u, 7, 1, false, 400), 0);
    assert_int_equal(u.bytes, 200 + PLACES(2));
    assert_int_equal(FRAG(&u, 8, 1, false, 1), 0);
    assert_int_equal(u.bytes, 0);
    assert_int_equal(u.n, 0);
    bp_unfinished_free(&u);
}

/* The VM makes room for as many fragments as the first announces. */
static void unfinished_announced_fragments_count(void **state)
{
    static const uint64_t too_many[] = {33, UINT64_C(1) << 40, UINT64_MAX / 32, UINT64_MAX};
    struct bp_unfinished u;
    (void)state;

    bp_unfinished_init(&u, bp_mem_libc(), PLACES(32) + 10);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(FRAG(&u, 7, too_many[i], true, 1), BP_E_UNFINISHED);
    }
    assert_int_equal(FRAG(&u, 7, 32, true, 11), BP_E_UNFINISHED);
    assert_int_equal(u.bytes, 0);
    assert_int_equal(FRAG(&u, 7, 32, true, 10), 0);
    bp_unfinished_free(&u);
}

static void unfinished_partial_frames_share_the_limit(void **state)
{
    struct bp_unfinished u;
    (void)state;

    bp_unfinished_init(&u, bp_mem_libc(), 1000);
    assert_int_equal(FRAG(&u, 7, 3, true, 400 - PLACES(3)), 0);
    assert_int_equal(bp_unfinished_add(&u, 600), 0);
    assert_int_equal(bp_unfinished_add(&u, 1), BP_E_UNFINISHED);
    assert_int_equal(bp_unfinished_add(&u, UINT64_MAX), BP_E_UNFINISHED);
    bp_unfinished_sub(&u, 600);
    assert_int_equal(u.bytes, 400);
    bp_unfinished_free(&u);
    assert_int_equal(u.bytes, 0);
}

static void unfinished_messages_have_a_cap(void **state)
{
    struct bp_unfinished u;
    (void)state;

    bp_unfinished_init(&u, bp_mem_libc(), UINT64_MAX);
    for (uint64_t i = 0; i < BP_UNFINISHED_MAX; i++) {
        assert_int_equal(FRAG(&u, i * 0x10001, 2, true, 1), 0);
    }
    assert_int_equal(FRAG(&u, ~UINT64_C(0), 2, true, 1), BP_E_UNFINISHED);
    assert_int_equal(u.n, BP_UNFINISHED_MAX);
    assert_int_equal(FRAG(&u, 0x10001, 2, false, 1), 0); /* one that is under way may go on */
    bp_unfinished_free(&u);
}

/* Against a plain array: what begins, goes on and ends at random, with ids that collide. */
static void unfinished_random_order_same_as_model(void **state)
{
    static uint64_t model[300];
    uint64_t rng = t_seed(41);
    struct bp_unfinished u;
    uint64_t sum = 0;
    size_t n = 0;
    (void)state;

    memset(model, 0, sizeof(model));
    bp_unfinished_init(&u, bp_mem_libc(), UINT64_MAX);
    for (unsigned i = 0; i < 200000; i++) {
        uint64_t id = t_rand(&rng) % 300;
        uint64_t len = 1 + t_rand(&rng) % 100;
        uint64_t frag = 1 + t_rand(&rng) % 3;
        bool first = t_rand(&rng) % 2 == 0;

        assert_int_equal(FRAG(&u, id << 32, frag, first, len), 0);
        if (frag == 1) {
            sum -= model[id];
            n -= model[id] != 0;
            model[id] = 0;
        } else if (first || model[id] != 0) {
            uint64_t cost = len + (model[id] == 0 ? PLACES(frag) : 0);
            n += model[id] == 0;
            model[id] += cost;
            sum += cost;
        }
        assert_int_equal(u.bytes, sum);
        assert_int_equal(u.n, n);
    }
    bp_unfinished_free(&u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rate_burst_then_one_in_a_period),
        cmocka_unit_test(rate_of_nothing_gives_nothing_back),
        cmocka_unit_test(unfinished_message_counts_until_its_last_fragment),
        cmocka_unit_test(unfinished_announced_fragments_count),
        cmocka_unit_test(unfinished_partial_frames_share_the_limit),
        cmocka_unit_test(unfinished_messages_have_a_cap),
        cmocka_unit_test(unfinished_random_order_same_as_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
