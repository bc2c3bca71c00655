/* SPDX-License-Identifier: Apache-2.0 */
/* What closed connections still say: to whom, how often, for how long. */
#include "support/t.h"

#include "quic/closing.h"

#include <string.h>

#define T0 (1000 * BP_SEC)

static struct bp_closing t;

static struct bp_cid cid(uint64_t number)
{
    struct bp_cid c = {.len = BP_CID_LEN};

    memcpy(c.data, &number, sizeof(number));
    return c;
}

static int setup(void **state)
{
    (void)state;
    memset(&t, 0, sizeof(t));
    return 0;
}

/* A connection with `n` ids from `first` on, whose last words are `len` times the low byte. */
static void closed(uint64_t first, unsigned n, size_t len, bp_time now)
{
    struct bp_cid cids[BP_CLOSING_CIDS + 8];
    uint8_t words[BP_CLOSING_DATAGRAM + 8];

    for (unsigned i = 0; i < n; i++) {
        cids[i] = cid(first + i);
    }
    memset(words, (int)(first & 0xff), sizeof(words));
    bp_closing_add(&t, cids, n, words, len, now);
}

static size_t ask(uint64_t number, size_t len, bp_time now)
{
    struct bp_cid c = cid(number);
    uint8_t out[BP_CLOSING_DATAGRAM];

    return bp_closing_answer(&t, &c, len, out, sizeof(out), now);
}

static void closing_each_id_of_a_connection_is_answered(void **state)
{
    struct bp_cid c = cid(0x107);
    uint8_t out[BP_CLOSING_DATAGRAM];

    (void)state;
    closed(0x100, 8, 40, T0);
    closed(0x200, 8, 50, T0);
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(ask(0x100 + i, 100, T0 + (i + 1) * BP_SEC), 40);
        assert_int_equal(ask(0x200 + i, 100, T0 + (i + 1) * BP_SEC), 50);
    }
    assert_int_equal(bp_closing_answer(&t, &c, 100, out, sizeof(out), T0 + 20 * BP_SEC), 40);
    for (unsigned i = 0; i < 40; i++) {
        assert_int_equal(out[i], 0x00);
    }
    assert_int_equal(t.answers, 17);
}

static void closing_others_are_not_answered(void **state)
{
    struct bp_cid c = {.len = BP_CID_LEN - 1};
    uint8_t out[BP_CLOSING_DATAGRAM];

    (void)state;
    closed(0x100, 8, 40, T0);
    assert_int_equal(ask(0x108, 100, T0), 0);
    assert_int_equal(ask(0x100 + BP_CLOSING_FILTER, 100, T0), 0); /* passes the filter */
    assert_int_equal(bp_closing_answer(&t, &c, 100, out, sizeof(out), T0), 0);
    c.len = 0;
    assert_int_equal(bp_closing_answer(&t, &c, 100, out, sizeof(out), T0), 0);
}

static void closing_answers_have_a_rate_and_an_end(void **state)
{
    (void)state;
    closed(0x100, 1, 40, T0);
    assert_int_equal(ask(0x100, 100, T0), 40);
    assert_int_equal(ask(0x100, 100, T0 + BP_CLOSING_GAP - 1), 0);
    assert_int_equal(ask(0x100, 100, T0 + BP_CLOSING_GAP), 40);
    assert_int_equal(ask(0x100, 100, T0 + BP_CLOSING_KEEP - 1), 40);
    assert_int_equal(ask(0x100, 100, T0 + BP_CLOSING_KEEP), 0);
    assert_int_equal(ask(0x100, 100, T0 + 1), 0); /* it is forgotten */
}

static void closing_answers_do_not_amplify(void **state)
{
    struct bp_cid c = cid(0x100);
    uint8_t out[39];

    (void)state;
    closed(0x100, 1, 40, T0);
    assert_int_equal(ask(0x100, 13, T0), 0);
    assert_int_equal(ask(0x100, 14, T0), 40);
    assert_int_equal(bp_closing_answer(&t, &c, 100, out, sizeof(out), T0 + BP_SEC), 0);
}

static void closing_oldest_gives_way(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3 * BP_CLOSING_MAX; i++) {
        closed(0x1000 + 100 * i, BP_CLOSING_CIDS, 40, T0 + i);
    }
    for (unsigned i = 0; i < 3 * BP_CLOSING_MAX; i++) {
        assert_int_equal(ask(0x1000 + 100 * i, 100, T0 + BP_SEC), i < 2 * BP_CLOSING_MAX ? 0 : 40);
    }
    for (unsigned i = 0; i < BP_CLOSING_MAX; i++) {
        closed(1, 0, 40, T0); /* without ids: nothing remains of the others */
    }
    for (unsigned i = 0; i < BP_CLOSING_FILTER; i++) {
        assert_int_equal(t.filter[i], 0);
    }
}

static void closing_limits_of_an_entry(void **state)
{
    (void)state;
    closed(0x100, BP_CLOSING_CIDS + 8, BP_CLOSING_DATAGRAM, T0);
    assert_int_equal(ask(0x100 + BP_CLOSING_CIDS - 1, 100, T0), BP_CLOSING_DATAGRAM);
    assert_int_equal(ask(0x100 + BP_CLOSING_CIDS, 100, T0 + BP_SEC), 0);
    closed(0x200, 1, BP_CLOSING_DATAGRAM + 1, T0);
    closed(0x300, 1, 0, T0);
    assert_int_equal(ask(0x200, 100, T0), 0);
    assert_int_equal(ask(0x300, 100, T0), 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup(closing_each_id_of_a_connection_is_answered, setup),
    cmocka_unit_test_setup(closing_others_are_not_answered, setup),
    cmocka_unit_test_setup(closing_answers_have_a_rate_and_an_end, setup),
    cmocka_unit_test_setup(closing_answers_do_not_amplify, setup),
    cmocka_unit_test_setup(closing_oldest_gives_way, setup),
    cmocka_unit_test_setup(closing_limits_of_an_entry, setup),
};

T_MAIN(tests)
