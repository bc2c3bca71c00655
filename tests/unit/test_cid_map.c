/* SPDX-License-Identifier: Apache-2.0 */
/* Connection ids of a node's connections: many of them, equal ones, and no memory. */
#include "support/t.h"

#include "quic/cid_map.h"

static struct bp_cid cid_of(uint32_t n)
{
    struct bp_cid c = {.len = BP_CID_LEN};

    memcpy(c.data, &n, sizeof(n));
    return c;
}

static void many(void **state)
{
    static char values[5000];
    struct t_heap h;
    struct bp_cid_map m;

    (void)state;
    t_heap_init(&h, -1);
    bp_cid_map_init(&m, &h.mem, 12345);
    for (uint32_t i = 0; i < 5000; i++) {
        struct bp_cid c = cid_of(i);
        assert_null(bp_cid_map_find(&m, &c));
        assert_true(bp_cid_map_add(&m, &c, &values[i]));
    }
    for (uint32_t i = 0; i < 5000; i += 2) {
        struct bp_cid c = cid_of(i);
        bp_cid_map_remove(&m, &c, &values[i + 1]); /* another's: stays */
        assert_ptr_equal(bp_cid_map_find(&m, &c), &values[i]);
        bp_cid_map_remove(&m, &c, &values[i]);
        assert_null(bp_cid_map_find(&m, &c));
    }
    assert_int_equal(m.n, 2500);
    for (uint32_t i = 1; i < 5000; i += 2) {
        struct bp_cid c = cid_of(i);
        assert_ptr_equal(bp_cid_map_find(&m, &c), &values[i]);
    }
    bp_cid_map_free(&m);
    assert_int_equal(m.n, 0);
    assert_int_equal(h.live, 0);
}

/* Several values under one key, each once. */
static void equal_ones(void **state)
{
    struct bp_cid c = cid_of(7);
    struct bp_cid other = cid_of(8);
    struct bp_cid_map m;
    char values[3];
    unsigned seen = 0;
    const char *v = NULL;

    (void)state;
    bp_cid_map_init(&m, bp_mem_libc(), 1);
    assert_null(bp_cid_map_next(&m, &c, NULL));
    for (int i = 0; i < 3; i++) {
        assert_true(bp_cid_map_add(&m, &c, &values[i]));
        assert_true(bp_cid_map_add(&m, &other, &values[i]));
    }
    while ((v = bp_cid_map_next(&m, &c, v)) != NULL) {
        seen |= 1u << (v - values);
    }
    assert_int_equal(seen, 7);
    bp_cid_map_remove(&m, &c, &values[1]);
    assert_ptr_equal(bp_cid_map_next(&m, &c, bp_cid_map_find(&m, &c)), &values[0]);
    bp_cid_map_free(&m);
}

static void refusals(void **state)
{
    struct bp_cid empty = {0};
    struct bp_cid c = cid_of(1);
    struct bp_cid_map m;
    struct t_heap h;
    char value;

    (void)state;
    t_heap_init(&h, 0);
    bp_cid_map_init(&m, &h.mem, 1);
    assert_false(bp_cid_map_add(&m, &c, &value));
    assert_null(bp_cid_map_find(&m, &c));
    bp_cid_map_remove(&m, &c, &value);
    h.allow = -1;
    assert_false(bp_cid_map_add(&m, &empty, &value));
    assert_true(bp_cid_map_add(&m, &c, &value));
    assert_null(bp_cid_map_find(&m, &empty));
    bp_cid_map_free(&m);
    assert_int_equal(h.live, 0);
}

static void of_datagrams(void **state)
{
    uint8_t d[64] = {0x40, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    struct bp_cid c;

    (void)state;
    bp_cid_of_datagram(d, sizeof(d), &c);
    assert_int_equal(c.len, BP_CID_LEN);
    assert_memory_equal(c.data, d + 1, BP_CID_LEN);
    bp_cid_of_datagram(d, BP_CID_LEN, &c);
    assert_int_equal(c.len, 0);
    bp_cid_of_datagram(d, 0, &c);
    assert_int_equal(c.len, 0);
    d[0] = 0xc0;
    for (unsigned len = 0; len < 30; len++) {
        d[5] = (uint8_t)len;
        bp_cid_of_datagram(d, sizeof(d), &c);
        assert_int_equal(c.len, len <= BP_CID_MAX ? len : 0);
        bp_cid_of_datagram(d, 6 + len - (len > 0), &c); /* cut off */
        assert_int_equal(c.len, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many),
        cmocka_unit_test(equal_ones),
        cmocka_unit_test(refusals),
        cmocka_unit_test(of_datagrams),
    };

    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
