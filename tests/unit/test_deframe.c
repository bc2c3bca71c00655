/* SPDX-License-Identifier: Apache-2.0 */
/* Frames out of stream data: every split, limits, garbage, memory and its failures. */
#include "support/t.h"

#include "base/err.h"
#include "dist/deframe.h"

#define MAX_FRAME (4u << 20)

/* Host binaries on a t_heap, with their sizes on record. */
struct host {
    struct t_heap heap;
    struct bp_rx_mem rx;
    size_t largest;
    long allocs;
};

static void *bin_alloc(void *ctx, size_t cap, uint8_t **data)
{
    struct host *h = ctx;
    uint8_t *bin = h->heap.mem.alloc(&h->heap, cap);

    h->allocs++;
    h->largest = cap > h->largest ? cap : h->largest;
    *data = bin;
    return bin;
}

static void *bin_grow(void *ctx, void *bin, size_t cap, uint8_t **data)
{
    struct host *h = ctx;
    uint8_t *grown = h->heap.mem.grow(&h->heap, bin, cap);

    h->largest = cap > h->largest ? cap : h->largest;
    *data = grown;
    return grown;
}

static void bin_release(void *ctx, void *bin)
{
    struct host *h = ctx;

    h->heap.mem.release(&h->heap, bin);
}

static void host_init(struct host *h, long allow)
{
    *h = (struct host){.largest = 0};
    t_heap_init(&h->heap, allow);
    h->rx =
        (struct bp_rx_mem){.ctx = h, .alloc = bin_alloc, .grow = bin_grow, .release = bin_release};
}

/* Appends a frame of `len` payload bytes (>= 3), a valid header and then bytes that depend on
 * `n` and their place. */
static size_t put_frame(uint8_t *at, size_t len, unsigned n)
{
    at[0] = (uint8_t)(len >> 24);
    at[1] = (uint8_t)(len >> 16);
    at[2] = (uint8_t)(len >> 8);
    at[3] = (uint8_t)len;
    for (size_t i = 0; i < len; i++) {
        at[4 + i] = (uint8_t)(n * 7 + i * 31 + (i >> 8));
    }
    at[4] = 131;
    at[5] = 68;
    at[6] = 0;
    return len + 4;
}

static void expect_frame(struct host *h, struct bp_frame_queue *q, size_t len, unsigned n)
{
    struct bp_frame f;
    uint8_t *want = malloc(len + 4);

    assert_true(bp_frame_queue_pop(q, &f));
    assert_int_equal(f.len, len);
    put_frame(want, len, n);
    assert_memory_equal(f.data, want + 4, len);
    if (f.bin != NULL) {
        h->rx.release(h->rx.ctx, f.bin);
    }
    free(want);
}

static void deframe_any_split_gives_the_same_frames(void **state)
{
    static const size_t sizes[] = {3, 40, 1024, 1025, 300};
    uint8_t in[4096];
    size_t len = 0;
    (void)state;

    for (unsigned i = 0; i < 5; i++) {
        memset(in + len, 0, 4); /* a tick before each */
        len += 4;
        len += put_frame(in + len, sizes[i], i);
    }
    for (size_t a = 0; a <= len; a++) {
        struct host h;
        struct bp_deframer d;
        struct bp_frame_queue q;
        size_t b = a + (len - a) / 3;

        host_init(&h, -1);
        bp_deframer_init(&d, &h.rx, MAX_FRAME);
        bp_frame_queue_init(&q, &h.heap.mem, &h.rx, SIZE_MAX);
        assert_int_equal(bp_deframer_push(&d, in, a, &q), 0);
        assert_int_equal(bp_deframer_push(&d, in + a, b - a, &q), 0);
        assert_int_equal(bp_deframer_push(&d, in + b, len - b, &q), 0);
        assert_int_equal(q.ticks, 5);
        assert_int_equal(q.n, 5);
        assert_int_equal(q.total_frames, 5);
        assert_int_equal(q.bytes, 3 + 40 + 1024 + 1025 + 300 + 5 * BP_FRAME_COST);
        for (unsigned i = 0; i < 5; i++) {
            expect_frame(&h, &q, sizes[i], i);
        }
        assert_int_equal(q.bytes, 0);
        bp_deframer_free(&d, &q);
        bp_frame_queue_free(&q);
        assert_int_equal(h.heap.live, 0);
    }
}

static void deframe_byte_by_byte_gives_all_frames(void **state)
{
    uint8_t in[2 * (5000 + 4)];
    size_t len = put_frame(in, 5000, 1);
    struct host h;
    struct bp_deframer d;
    struct bp_frame_queue q;
    (void)state;

    len += put_frame(in + len, 5000, 2);
    host_init(&h, -1);
    bp_deframer_init(&d, &h.rx, MAX_FRAME);
    bp_frame_queue_init(&q, &h.heap.mem, &h.rx, SIZE_MAX);
    for (size_t i = 0; i < len; i++) {
        assert_int_equal(bp_deframer_push(&d, in + i, 1, &q), 0);
    }
    expect_frame(&h, &q, 5000, 1);
    expect_frame(&h, &q, 5000, 2);
    bp_deframer_free(&d, &q);
    bp_frame_queue_free(&q);
    assert_int_equal(h.heap.live, 0);
}

static void deframe_small_frames_make_no_binary(void **state)
{
    uint8_t *in = malloc(1 << 20);
    size_t len = 0;
    unsigned n = 0;
    struct host h;
    struct bp_deframer d;
    struct bp_frame_queue q;
    long calls;
    (void)state;

    while (len + 104 <= (1 << 20)) {
        len += put_frame(in + len, 100, n++);
    }
    host_init(&h, -1);
    bp_deframer_init(&d, &h.rx, MAX_FRAME);
    bp_frame_queue_init(&q, &h.heap.mem, &h.rx, SIZE_MAX);
    for (int round = 0; round < 3; round++) {
        calls = h.heap.calls;
        assert_int_equal(bp_deframer_push(&d, in, len, &q), 0);
        for (unsigned i = 0; i < n; i++) {
            expect_frame(&h, &q, 100, i);
        }
        bp_frame_queue_reset(&q);
    }
    assert_int_equal(h.allocs, 0);
    /* A chunk of the arena per 163 frames, and nothing else once the ring has grown. */
    assert_true(h.heap.calls - calls <= n / 163 + 1);
    bp_frame_queue_trim(&q);
    assert_int_equal(h.heap.live, 0); /* idle: nothing is kept */
    bp_frame_queue_free(&q);
    free(in);
}

static void deframe_frames_stay_valid_until_reset(void **state)
{
    uint8_t in[208];
    struct host h;
    struct bp_deframer d;
    struct bp_frame_queue q;
    struct bp_frame first;
    (void)state;

    put_frame(in, 100, 1);
    put_frame(in + 104, 100, 2);
    host_init(&h, -1);
    bp_deframer_init(&d, &h.rx, MAX_FRAME);
    bp_frame_queue_init(&q, &h.heap.mem, &h.rx, SIZE_MAX);
    assert_int_equal(bp_deframer_push(&d, in, 208, &q), 0);
    assert_true(bp_frame_queue_pop(&q, &first));
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(bp_deframer_push(&d, in, 208, &q), 0);
    }
    assert_memory_equal(first.data, in + 4, 100);
    /* A reset with frames queued keeps these. */
    bp_frame_queue_reset(&q);
    for (int i = 0; i < 1000; i++) {
        expect_frame(&h, &q, 100, 2);
        expect_frame(&h, &q, 100, 1);
        bp_frame_queue_reset(&q);
    }
    expect_frame(&h, &q, 100, 2);
    assert_false(bp_frame_queue_pop(&q, &first));
    bp_frame_queue_free(&q);
    assert_int_equal(h.heap.live, 0);
}

static void deframe_backlog_that_never_empties_does_not_grow(void **state)
{
    uint8_t in[104];
    struct host h;
    struct bp_deframer d;
    struct bp_frame_queue q;
    (void)state;

    put_frame(in, 100, 1);
    host_init(&h, -1);
    bp_deframer_init(&d, &h.rx, MAX_FRAME);
    bp_frame_queue_init(&q, &h.heap.mem, &h.rx, SIZE_MAX);
    assert_int_equal(bp_deframer_push(&d, in, 104, &q), 0);
    for (int i = 0; i < 20000; i++) { /* 2 MB through a queue that always holds one frame */
        assert_int_equal(bp_deframer_push(&d, in, 104, &q), 0);
        expect_frame(&h, &q, 100, 1);
        bp_frame_queue_reset(&q);
    }
    assert_true(h.heap.live <= 2 + (long)BP_FRAME_ARENA_KEEP + 1);
    bp_frame_queue_free(&q);
    assert_int_equal(h.heap.live, 0);
}

static void deframe_large_frame_grows_as_bytes_arrive(void **state)
{
    size_t len = 1000000;
    uint8_t *in = malloc(len + 4);
    struct host h;
    struct bp_deframer d;
    struct bp_frame_queue q;
    struct bp_frame f;
    (void)state;

    put_frame(in, len, 9);
    host_init(&h, -1);
    bp_deframer_init(&d, &h.rx, MAX_FRAME);
    bp_frame_queue_init(&q, &h.heap.mem, &h.rx, SIZE_MAX);
    assert_int_equal(bp_deframer_push(&d, in, 4, &q), 0);
    assert_int_equal(h.largest, 0); /* a length alone claims nothing */
    for (size_t i = 4; i < len + 4; i += 1000) {
        size_t n = len + 4 - i < 1000 ? len + 4 - i : 1000;
        assert_int_equal(bp_deframer_push(&d, in + i, n, &q), 0);
        if (i + n < len + 4) {
            size_t have = i + n - 4;
            assert_int_equal(q.bytes, have);
            assert_true(h.largest <=
                        (2 * have > BP_FRAME_FIRST_ALLOC ? 2 * have : BP_FRAME_FIRST_ALLOC));
        }
    }
    assert_int_equal(h.largest, len); /* and never more than the frame */
    assert_true(bp_frame_queue_pop(&q, &f));
    assert_non_null(f.bin);
    assert_memory_equal(f.data, in + 4, len);
    h.rx.release(&h, f.bin);
    bp_frame_queue_free(&q);
    assert_int_equal(h.heap.live, 0);
    free(in);
}

static void deframe_length_above_the_limit_is_too_large(void **state)
{
    uint8_t in[1100];
    struct host h;
    struct bp_deframer d;
    struct bp_frame_queue q;
    size_t len = put_frame(in, 1000, 0);
    (void)state;

    host_init(&h, -1);
    bp_frame_queue_init(&q, &h.heap.mem, &h.rx, SIZE_MAX);
    bp_deframer_init(&d, &h.rx, 1000);
    put_frame(in + len, 8, 0);
    in[len + 2] = 0x03;
    in[len + 3] = 0xe9; /* 1001 */
    assert_int_equal(bp_deframer_push(&d, in, len + 4, &q), BP_E_FRAME_TOO_LARGE);
    assert_int_equal(q.n, 1); /* what was complete before is there */
    assert_int_equal(bp_deframer_push(&d, in, len, &q), BP_E_FRAME_TOO_LARGE);
    assert_int_equal(q.n, 1);
    bp_deframer_free(&d, &q);
    bp_deframer_init(&d, &h.rx, UINT32_MAX);
    assert_int_equal(bp_deframer_push(&d, (const uint8_t *)"\xff\xff\xff\xff", 4, &q), 0);
    bp_deframer_free(&d, &q);
    bp_frame_queue_free(&q);
    assert_int_equal(h.heap.live, 0);
}

static void deframe_foreign_payload_is_malformed(void **state)
{
    static const struct {
        const char *hex;
        int rc;
    } cases[] = {
        {"00000003 70 83 68", 0},
        {"00000003 83 44 00", 0},
        {"00000004 83 44 00 68", 0},
        {"00000013 83 45 0000000000000001 0000000000000002 00", 0},
        {"00000012 83 46 0000000000000001 0000000000000001", 0},
        {"00000001 83", BP_E_FRAME_MALFORMED},
        {"00000002 83 44", BP_E_FRAME_MALFORMED},
        {"00000002 70 83", BP_E_FRAME_MALFORMED},
        {"00000003 70 68 02", BP_E_FRAME_MALFORMED},
        {"00000003 83 68 02", BP_E_FRAME_MALFORMED}, /* a bare term */
        {"00000003 83 50 00", BP_E_FRAME_MALFORMED}, /* a compressed one */
        {"00000003 83 44 01", BP_E_FRAME_MALFORMED}, /* atom cache */
        {"00000003 47 45 54", BP_E_FRAME_MALFORMED},
        {"00000013 83 45 0000000000000001 0000000000000002 01", BP_E_FRAME_MALFORMED},
        {"00000012 83 45 0000000000000001 0000000000000002", BP_E_FRAME_MALFORMED},
        {"00000013 83 45 0000000000000001 0000000000000000 00", BP_E_FRAME_MALFORMED},
        {"00000011 83 46 0000000000000001 00000000000000", BP_E_FRAME_MALFORMED},
        {"00000012 83 46 0000000000000001 0000000000000000", BP_E_FRAME_MALFORMED},
    };
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t in[64];
        size_t len = t_hex(cases[i].hex, in, sizeof(in));
        for (int whole = 0; whole < 2; whole++) {
            struct host h;
            struct bp_deframer d;
            struct bp_frame_queue q;
            int rc = 0;

            host_init(&h, -1);
            bp_deframer_init(&d, &h.rx, MAX_FRAME);
            bp_frame_queue_init(&q, &h.heap.mem, &h.rx, SIZE_MAX);
            if (whole) {
                rc = bp_deframer_push(&d, in, len, &q);
            }
            for (size_t k = 0; !whole && rc == 0 && k < len; k++) {
                rc = bp_deframer_push(&d, in + k, 1, &q);
            }
            assert_int_equal(rc, cases[i].rc);
            assert_int_equal(q.n, rc == 0 ? 1 : 0);
            bp_deframer_free(&d, &q);
            bp_frame_queue_free(&q);
            assert_int_equal(h.heap.live, 0);
        }
    }
}

static void deframe_garbage_of_a_large_frame_ends_early(void **state)
{
    uint8_t in[64] = {0x00, 0x10, 0x00, 0x00, 0x83, 0x68};
    struct host h;
    struct bp_deframer d;
    struct bp_frame_queue q;
    (void)state;

    host_init(&h, -1);
    bp_deframer_init(&d, &h.rx, MAX_FRAME);
    bp_frame_queue_init(&q, &h.heap.mem, &h.rx, SIZE_MAX);
    assert_int_equal(bp_deframer_push(&d, in, 10, &q), 0);
    assert_int_equal(bp_deframer_push(&d, in + 10, 54, &q), BP_E_FRAME_MALFORMED);
    bp_deframer_free(&d, &q);
    bp_frame_queue_free(&q);
    assert_int_equal(h.heap.live, 0);
}

static void deframe_limit_counts_queued_and_partial_bytes(void **state)
{
    uint8_t in[3000];
    struct host h;
    struct bp_deframer d[2];
    struct bp_frame_queue q;
    struct bp_frame f;
    (void)state;

    host_init(&h, -1);
    bp_deframer_init(&d[0], &h.rx, MAX_FRAME);
    bp_deframer_init(&d[1], &h.rx, MAX_FRAME);
    put_frame(in, 2000, 0);
    bp_frame_queue_init(&q, &h.heap.mem, &h.rx, 2000 + 1500 + BP_FRAME_COST);
    assert_int_equal(bp_deframer_push(&d[0], in, 1004, &q), 0);
    assert_int_equal(bp_deframer_push(&d[1], in, 1504, &q), 0);
    assert_int_equal(bp_deframer_push(&d[0], in + 1004, 1000, &q), 0); /* exactly at the limit */
    assert_int_equal(q.bytes, 2000 + 1500 + BP_FRAME_COST);
    assert_int_equal(bp_deframer_push(&d[1], in + 1504, 1, &q), BP_E_EARLY_DATA_LIMIT);
    bp_deframer_free(&d[1], &q);
    assert_int_equal(q.bytes, 2000 + BP_FRAME_COST);

    /* Tiny frames are charged for their entries: 3 bytes each would pass for very long. */
    bp_frame_queue_set_limit(&q, q.bytes + 10 * (3 + BP_FRAME_COST));
    put_frame(in, 3, 0);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(bp_deframer_push(&d[1], in, 7, &q), 0);
    }
    assert_int_equal(bp_deframer_push(&d[1], in, 7, &q), BP_E_EARLY_DATA_LIMIT);

    /* Popping makes room again. */
    assert_true(bp_frame_queue_pop(&q, &f));
    h.rx.release(&h, f.bin);
    assert_int_equal(bp_deframer_push(&d[0], in, 7, &q), 0);
    bp_frame_queue_set_limit(&q, SIZE_MAX);
    assert_int_equal(bp_deframer_push(&d[0], in, 7, &q), 0);
    bp_deframer_free(&d[0], &q);
    bp_deframer_free(&d[1], &q);
    bp_frame_queue_free(&q);
    assert_int_equal(h.heap.live, 0);
}

static void deframe_any_failing_allocation_is_nomem(void **state)
{
    uint8_t *in = malloc(600000);
    size_t len = 0;
    int rc = BP_E_NOMEM;
    (void)state;

    for (unsigned i = 0; i < 100; i++) {
        len += put_frame(in + len, 900, i);
    }
    len += put_frame(in + len, 400000, 1);
    for (long allow = 0; rc != 0; allow++) {
        struct host h;
        struct bp_deframer d;
        struct bp_frame_queue q;

        assert_true(allow < 100);
        host_init(&h, allow);
        bp_deframer_init(&d, &h.rx, MAX_FRAME);
        bp_frame_queue_init(&q, &h.heap.mem, &h.rx, SIZE_MAX);
        rc = 0;
        for (size_t i = 0; i < len && rc == 0; i += 50000) {
            rc = bp_deframer_push(&d, in + i, len - i < 50000 ? len - i : 50000, &q);
        }
        if (rc != 0) {
            assert_int_equal(rc, BP_E_NOMEM);
        } else {
            assert_true(allow > 5);
            assert_int_equal(q.n, 101);
        }
        bp_deframer_free(&d, &q);
        bp_frame_queue_free(&q);
        assert_int_equal(h.heap.live, 0);
    }
    free(in);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(deframe_any_split_gives_the_same_frames),
    cmocka_unit_test(deframe_byte_by_byte_gives_all_frames),
    cmocka_unit_test(deframe_small_frames_make_no_binary),
    cmocka_unit_test(deframe_frames_stay_valid_until_reset),
    cmocka_unit_test(deframe_backlog_that_never_empties_does_not_grow),
    cmocka_unit_test(deframe_large_frame_grows_as_bytes_arrive),
    cmocka_unit_test(deframe_length_above_the_limit_is_too_large),
    cmocka_unit_test(deframe_foreign_payload_is_malformed),
    cmocka_unit_test(deframe_garbage_of_a_large_frame_ends_early),
    cmocka_unit_test(deframe_limit_counts_queued_and_partial_bytes),
    cmocka_unit_test(deframe_any_failing_allocation_is_nomem),
};

T_MAIN(tests)
