/* SPDX-License-Identifier: Apache-2.0 */
/* Errors, bounded reader and writer, addresses. */
#include "support/t.h"

#include "base/addr.h"
#include "base/err.h"
#include "base/rw.h"

static void err_classes_follow_ranges(void **state)
{
    (void)state;
    assert_int_equal(bp_err_class(0), BP_ERR_NONE);
    assert_int_equal(bp_err_class(BP_E_FRAME_TOO_LARGE), BP_ERR_PEER);
    assert_int_equal(bp_err_class(BP_E_TIMEOUT), BP_ERR_LOCAL);
    assert_int_equal(bp_err_class(BP_E_NOMEM), BP_ERR_FATAL);
    assert_string_equal(bp_err_atom(BP_E_AUTH_KEY_MISMATCH), "key_mismatch");
    assert_string_equal(bp_err_atom(-999), "unknown_error");
    assert_int_equal(bp_err_from_atom("key_mismatch"), BP_E_AUTH_KEY_MISMATCH);
    assert_int_equal(bp_err_from_atom("key_mismatch "), 0);
    assert_int_equal(bp_err_from_atom(""), 0);
    assert_int_equal(bp_err_from_close_code(bp_err_close_code(BP_E_FRAME_TOO_LARGE)),
                     BP_E_FRAME_TOO_LARGE);
    assert_int_equal(bp_err_from_close_code(0), BP_E_PEER_CLOSED);
    assert_true(bp_err_is_verdict(BP_E_AUTH_KEY_MISMATCH));
    assert_false(bp_err_is_verdict(BP_E_REFUSED)); /* by what listens at one address */
    assert_false(bp_err_is_verdict(BP_E_AUTH_NAME_MISMATCH));
    assert_false(bp_err_is_verdict(0));
    assert_int_equal(bp_err_index(BP_E_NOMEM), BP_ERR_INDEX_NOMEM);
    for (unsigned i = 0; i < BP_ERR_COUNT; i++) {
        assert_int_equal(bp_err_index(bp_err_at(i)), i);
    }
    assert_int_equal(bp_err_index(0), BP_ERR_COUNT);
    assert_int_equal(bp_err_at(BP_ERR_COUNT), 0);
}

static void reader_past_end_stays_bad(void **state)
{
    const uint8_t in[] = {1, 2, 3, 4, 5};
    struct bp_reader r;
    uint8_t out[2] = {9, 9};

    (void)state;
    bp_reader_init(&r, in, sizeof(in));
    assert_int_equal(bp_read_u8(&r), 1);
    assert_int_equal(bp_read_u32(&r), 0x02030405);
    assert_false(r.bad);
    bp_read_copy(&r, out, 2);
    assert_true(r.bad);
    assert_int_equal(out[0], 0);
    assert_int_equal(bp_reader_left(&r), 0);
}

static void writer_past_end_stays_bad(void **state)
{
    uint8_t buf[6];
    struct bp_writer w;

    (void)state;
    bp_writer_init(&w, buf, sizeof(buf));
    bp_write_u32(&w, 0x01020304);
    bp_write_u16(&w, 0x0506);
    assert_memory_equal(buf, "\1\2\3\4\5\6", 6);
    assert_false(w.bad);
    bp_write_u8(&w, 7);
    assert_true(w.bad);
    assert_int_equal(w.len, 6);
}

static void addr_text_round_trip(void **state)
{
    struct bp_addr a, b;
    char text[BP_ADDR_TEXT_MAX];

    (void)state;
    assert_int_equal(bp_addr_parse(&a, "192.0.2.7", 4433), 0);
    assert_string_equal(bp_addr_text(&a, text), "192.0.2.7:4433");
    b = a;
    bp_addr_map_v6(&b);
    assert_false(bp_addr_equal(&a, &b));
    assert_string_equal(bp_addr_text(&b, text), "192.0.2.7:4433");
    assert_int_equal(bp_addr_parse(&a, "2001:db8::1", 1), 0);
    assert_string_equal(bp_addr_text(&a, text), "[2001:db8::1]:1");
    assert_int_equal(bp_addr_port(&a), 1);
    assert_int_equal(bp_addr_parse(&a, "host", 1), BP_E_INVALID);
    assert_false(bp_addr_from_sockaddr(&a, &b.u.sa, 3));
}

static void secrets_compare_and_wipe(void **state)
{
    uint8_t key[32];

    (void)state;
    memset(key, 7, sizeof(key));
    assert_true(bp_equal_ct(key, key, sizeof(key)));
    bp_wipe(key, sizeof(key));
    for (size_t i = 0; i < sizeof(key); i++) {
        assert_int_equal(key[i], 0);
    }
    assert_null(bp_mem_zalloc(bp_mem_libc(), SIZE_MAX / 2, 4));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(err_classes_follow_ranges), cmocka_unit_test(reader_past_end_stays_bad),
        cmocka_unit_test(writer_past_end_stays_bad), cmocka_unit_test(addr_text_round_trip),
        cmocka_unit_test(secrets_compare_and_wipe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
