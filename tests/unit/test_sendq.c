/* SPDX-License-Identifier: Apache-2.0 */
/* Send buffers: what goes in comes out in order, and each owner is released exactly once. */
#include "support/t.h"

#include "base/err.h"
#include "quic/sendq.h"

static void count_release(void *ctx, void *owner)
{
    (void)ctx;
    (*(int *)owner)++;
}

static const struct bp_owner_ops ops = {.release = count_release};

static void sendq_random_operations_keep_bytes_and_owners(void **state)
{
    static uint8_t model[200000];
    static int owners[400];
    static uint8_t payload[400][300];
    struct t_heap h;
    struct bp_block_pool pool;
    struct bp_sendq q;
    uint64_t rng = t_seed(42);
    size_t end = 0, sent = 0, acked = 0, n = 0;

    (void)state;
    t_heap_init(&h, -1);
    bp_block_pool_init(&pool, &h.mem);
    bp_sendq_init(&q);
    while (n < 400 || acked < end) {
        struct bp_vec vec[4];
        size_t k;
        if (n < 400 && t_rand(&rng) % 2 == 0) {
            size_t len = 1 + t_rand(&rng) % sizeof(payload[0]);
            memset(payload[n], (int)n, len);
            memcpy(model + end, payload[n], len);
            if (n % 2 == 0) {
                assert_int_equal(bp_sendq_put_owned(&q, &h.mem, payload[n], len, &owners[n]), 0);
            } else {
                assert_int_equal(bp_sendq_put_copy(&q, &pool, payload[n], len), 0);
            }
            end += len;
            n++;
        }
        k = bp_sendq_peek(&q, 1 + t_rand(&rng) % 500, vec, 4);
        for (size_t i = 0, at = sent; i < k; i++) {
            assert_memory_equal(vec[i].base, model + at, vec[i].len);
            at += vec[i].len;
        }
        if (k > 0) {
            size_t take = 1 + t_rand(&rng) % vec[0].len;
            bp_sendq_sent(&q, take);
            sent += take;
        }
        if (sent > acked && t_rand(&rng) % 3 == 0) {
            acked += 1 + t_rand(&rng) % (sent - acked);
            bp_sendq_acked(&q, acked, &pool, &ops);
        }
    }
    for (size_t i = 0; i < 400; i++) {
        assert_int_equal(owners[i], i % 2 == 0);
    }
    bp_block_pool_trim(&pool);
    assert_int_equal(pool.n_blocks, 0);
    bp_sendq_free(&q, &pool, &ops);
    bp_block_pool_free(&pool);
    assert_int_equal(h.live, 0);
}

static void sendq_no_memory_appends_nothing(void **state)
{
    uint8_t big[3 * BP_BLOCK_SIZE] = {0};

    (void)state;
    for (long allow = 0; allow < 8; allow++) {
        struct t_heap h;
        struct bp_block_pool pool;
        struct bp_sendq q;
        int rc;

        t_heap_init(&h, allow);
        bp_block_pool_init(&pool, &h.mem);
        bp_sendq_init(&q);
        rc = bp_sendq_put_copy(&q, &pool, big, 10);
        if (rc == 0) {
            rc = bp_sendq_put_copy(&q, &pool, big, sizeof(big));
            assert_int_equal(q.end, rc == 0 ? sizeof(big) + 10 : 10);
        } else {
            assert_int_equal(rc, BP_E_NOMEM);
            assert_int_equal(q.end, 0);
        }
        bp_sendq_free(&q, &pool, &ops);
        bp_block_pool_free(&pool);
        assert_int_equal(h.live, 0);
    }
}

static void sendq_freed_early_releases_owners(void **state)
{
    struct t_heap h;
    struct bp_block_pool pool;
    struct bp_sendq q;
    int owner = 0;

    (void)state;
    t_heap_init(&h, -1);
    bp_block_pool_init(&pool, &h.mem);
    bp_sendq_init(&q);
    assert_int_equal(bp_sendq_put_owned(&q, &h.mem, (const uint8_t *)"x", 1, &owner), 0);
    bp_sendq_free(&q, &pool, &ops);
    assert_int_equal(owner, 1);
    assert_int_equal(h.live, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sendq_random_operations_keep_bytes_and_owners),
        cmocka_unit_test(sendq_no_memory_appends_nothing),
        cmocka_unit_test(sendq_freed_early_releases_owners),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
