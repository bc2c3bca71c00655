/* SPDX-License-Identifier: Apache-2.0 */
/* Node name rules and patterns (WIRE 3.1, 3.3). */
#include "support/t.h"

#include "auth/node_name.h"

static bool valid(const char *s)
{
    return bp_node_name_valid(s, strlen(s));
}

static void valid_good_names_accepted(void **state)
{
    static const char *const good[] = {
        "a@b",   "a@127.0.0.1", "nonode@nohost", "A_b.c-9@host-1.example.com", "_@_", "9@0",
        "a.@b-", "a@::1",       "a@2001:DB8::1", "a@::ffff:192.0.2.1",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(valid(good[i]));
    }
}

static void valid_bad_names_refused(void **state)
{
    static const char *const bad[] = {
        "",      "@",     "a@",    "@b",     "ab",           "a@b@c", "a@@b",
        ".a@b",  "-a@b",  "a@.b",  "a@-b",   "a b@c",        "a@b/c", "../x@y",
        "a@b\n", "a@b:1", "a*@b",  "a@*",    "\xc3\xa9@b",   "a@b%s", "a\\@b",
        "a@1:2", "a@:1",  "a@::g", "a@.::1", "a@fe80::1%lo", "::1@b",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(valid(bad[i]));
    }
    assert_false(bp_node_name_valid("a\0@b", 4));
    assert_false(bp_node_name_valid("a@b\0", 4));
}

static void valid_every_byte_only_the_allowed_set_accepted(void **state)
{
    static const char set[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";

    (void)state;
    for (int c = 0; c < 256; c++) {
        char name[] = "ax@bx";
        bool ok = c != 0 && strchr(set, c) != NULL;

        name[1] = (char)c;
        assert_int_equal(bp_node_name_valid(name, 5), ok);
        name[1] = 'x';
        name[4] = (char)c;
        assert_int_equal(bp_node_name_valid(name, 5), ok);
    }
}

static void valid_length_limit_255(void **state)
{
    char name[257];

    (void)state;
    memset(name, 'x', sizeof(name));
    name[1] = '@';
    assert_true(bp_node_name_valid(name, 255));
    assert_false(bp_node_name_valid(name, 256));
}

static void dynamic_only_the_exact_name(void **state)
{
    (void)state;
    assert_true(bp_node_name_dynamic("nonode@nohost", 13));
    assert_false(bp_node_name_dynamic("nonode@nohost", 12));
    assert_false(bp_node_name_dynamic("nonode@nohostx", 14));
    assert_false(bp_node_name_dynamic("Nonode@nohost", 13));
    assert_false(bp_node_name_dynamic("", 0));
}

static void match_star_stands_for_a_whole_part_only(void **state)
{
    (void)state;
    assert_true(bp_node_name_match("a@b", "a@b"));
    assert_true(bp_node_name_match("*@b", "anything@b"));
    assert_true(bp_node_name_match("a@*", "a@any.host"));
    assert_true(bp_node_name_match("*@*", "x@y"));
    assert_false(bp_node_name_match("a@b", "a@bc"));
    assert_false(bp_node_name_match("a@b", "ab@b"));
    assert_false(bp_node_name_match("*@b", "a@c"));
    assert_false(bp_node_name_match("a@*", "b@c"));
    assert_false(bp_node_name_match("a*@b", "ab@b"));
    assert_false(bp_node_name_match("a@b*", "a@bc"));
    assert_false(bp_node_name_match("*", "a@b"));
    assert_false(bp_node_name_match("", "a@b"));
    assert_false(bp_node_name_match("**@b", "a@b"));
    assert_false(bp_node_name_match("*@*", "not a name"));
    assert_false(bp_node_name_match("*@*", "a@b@c"));
    assert_false(bp_node_name_match("a@b@c", "a@b@c"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(valid_good_names_accepted),
        cmocka_unit_test(valid_bad_names_refused),
        cmocka_unit_test(valid_every_byte_only_the_allowed_set_accepted),
        cmocka_unit_test(valid_length_limit_255),
        cmocka_unit_test(dynamic_only_the_exact_name),
        cmocka_unit_test(match_star_stands_for_a_whole_part_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
