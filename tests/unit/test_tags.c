/* SPDX-License-Identifier: Apache-2.0 */
/* Unit tests of the tags of user streams. */
#include "support/t.h"

#include "base/err.h"
#include "dist/tags.h"

static int add(struct bp_tags *t, const char *tag, uint64_t owner)
{
    return bp_tags_add(t, (const uint8_t *)tag, strlen(tag), owner);
}

static enum bp_tag_match match(const struct bp_tags *t, const char *bytes,
                               const struct bp_tag **out)
{
    return bp_tags_match(t, (const uint8_t *)bytes, strlen(bytes), out);
}

static void tags_of_all_lengths_are_found(void **state)
{
    uint8_t bytes[BP_TAG_PREAMBLE_MAX + 10];
    const struct bp_tag *found;
    struct bp_tags t;
    (void)state;

    memset(bytes, 'x', sizeof(bytes));
    bp_tags_init(&t, bp_mem_libc());
    for (size_t len = 1; len <= BP_TAG_LEN_MAX; len++) {
        assert_int_equal(bp_tags_add(&t, bytes + 1, len, len), 0);
    }
    for (size_t len = 1; len <= BP_TAG_LEN_MAX; len++) {
        bytes[0] = (uint8_t)len;
        for (size_t n = 0; n <= len; n++) {
            assert_int_equal(bp_tags_match(&t, bytes, n, &found), BP_TAG_MORE);
            assert_null(found);
        }
        for (size_t n = len + 1; n <= sizeof(bytes); n++) {
            assert_int_equal(bp_tags_match(&t, bytes, n, &found), BP_TAG_FOUND);
            assert_int_equal(found->owner, len);
            assert_int_equal(found->len, len);
        }
    }
    bytes[0] = 0; /* an empty tag is nobody's */
    assert_int_equal(bp_tags_match(&t, bytes, 1, &found), BP_TAG_NONE);
    bp_tags_free(&t);
}

static void tags_are_judged_by_the_first_byte_that_fits_none(void **state)
{
    const struct bp_tag *found;
    struct bp_tags t;
    (void)state;

    bp_tags_init(&t, bp_mem_libc());
    assert_int_equal(match(&t, "", &found), BP_TAG_NONE);
    assert_int_equal(match(&t, "\4file", &found), BP_TAG_NONE);
    assert_int_equal(add(&t, "file", 1), 0);
    assert_int_equal(add(&t, "fine", 2), 0);
    assert_int_equal(match(&t, "", &found), BP_TAG_MORE);
    assert_int_equal(match(&t, "\4", &found), BP_TAG_MORE);
    assert_int_equal(match(&t, "\5", &found), BP_TAG_NONE);
    assert_int_equal(match(&t, "\4fi", &found), BP_TAG_MORE);
    assert_int_equal(match(&t, "\4fa", &found), BP_TAG_NONE);
    assert_int_equal(match(&t, "\4fil", &found), BP_TAG_MORE);
    assert_int_equal(match(&t, "\4filx", &found), BP_TAG_NONE);
    assert_int_equal(match(&t, "\4fine and more", &found), BP_TAG_FOUND);
    assert_int_equal(found->owner, 2);
    bp_tags_free(&t);
}

static void tags_have_one_owner_each(void **state)
{
    const struct bp_tag *found;
    struct bp_tags t;
    (void)state;

    bp_tags_init(&t, bp_mem_libc());
    assert_int_equal(add(&t, "a", 1), 0);
    assert_int_equal(add(&t, "a", 2), BP_E_EXISTS);
    assert_int_equal(add(&t, "a", 1), BP_E_EXISTS);
    assert_int_equal(add(&t, "b", 1), 0);
    assert_int_equal(add(&t, "c", 2), 0);
    assert_int_equal(add(&t, "", 2), BP_E_INVALID);
    assert_int_equal(bp_tags_add(&t, (const uint8_t *)"a", 256, 1), BP_E_INVALID);
    assert_true(bp_tags_has_owner(&t, 1));
    /* one of two goes, the other stays (WIRE 11, C12) */
    assert_int_equal(bp_tags_remove(&t, (const uint8_t *)"a", 1), 0);
    assert_int_equal(bp_tags_remove(&t, (const uint8_t *)"a", 1), BP_E_NOT_FOUND);
    assert_int_equal(match(&t, "\1b", &found), BP_TAG_FOUND);
    assert_true(bp_tags_has_owner(&t, 1));
    assert_int_equal(add(&t, "a", 1), 0);
    /* its end takes all of its tags */
    assert_int_equal(bp_tags_remove_owner(&t, 1), 2);
    assert_false(bp_tags_has_owner(&t, 1));
    assert_int_equal(match(&t, "\1b", &found), BP_TAG_NONE);
    assert_int_equal(match(&t, "\1c", &found), BP_TAG_FOUND);
    assert_int_equal(bp_tags_remove_owner(&t, 1), 0);
    bp_tags_free(&t);
}

static void tags_end_at_a_limit_and_without_memory(void **state)
{
    struct t_heap heap;
    struct bp_tags t;
    char tag[16];
    (void)state;

    bp_tags_init(&t, bp_mem_libc());
    for (unsigned i = 0; i < BP_TAGS_MAX; i++) {
        snprintf(tag, sizeof(tag), "%u", i);
        assert_int_equal(add(&t, tag, i), 0);
    }
    assert_int_equal(add(&t, "one more", 1), BP_E_LIMIT);
    bp_tags_free(&t);
    for (long allow = 0; allow < 4; allow++) {
        t_heap_init(&heap, allow);
        bp_tags_init(&t, &heap.mem);
        for (unsigned i = 0; i < 20; i++) {
            snprintf(tag, sizeof(tag), "%u", i);
            int rc = add(&t, tag, i);
            assert_true(rc == 0 || rc == BP_E_NOMEM);
        }
        assert_true(t.n < 20);
        bp_tags_free(&t);
        assert_int_equal(heap.live, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tags_of_all_lengths_are_found),
        cmocka_unit_test(tags_are_judged_by_the_first_byte_that_fits_none),
        cmocka_unit_test(tags_have_one_owner_each),
        cmocka_unit_test(tags_end_at_a_limit_and_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
