/* SPDX-License-Identifier: Apache-2.0 */
/* Programs that call what they should not, or with what they should not: errors, and nothing else.
 */
#include "cnode/rig.h"

#include "barrel_p2p/barrel_p2p.h"

#include <string.h>

static void out_of_order(void **state)
{
    struct rig r = {.state = state};
    struct rig_node *a = rig_node(&r, NAME_A);
    struct bp_node *n;
    struct bp_event ev;
    bp_peer_id id;

    assert_int_equal(bp_node_new(&n, "nonsense"), BP_ERROR_INVALID);
    assert_null(n);
    assert_int_equal(bp_node_new(&n, "nonode@nohost"), BP_ERROR_INVALID);
    assert_int_equal(bp_node_process(a->n), BP_ERROR_STATE);
    assert_int_equal(bp_node_listen(a->n, NULL), BP_ERROR_STATE);
    assert_int_equal(bp_node_run_thread(a->n), BP_ERROR_STATE);
    assert_int_equal(bp_node_dial(a->n, NAME_B, 0, &id), BP_ERROR_STATE);
    assert_int_equal(bp_node_next(a->n, &ev), BP_ERROR_AGAIN);
    assert_int_equal(bp_node_wait(a->n, &ev, 0), BP_ERROR_STATE);
    rig_start(a, true);
    assert_int_equal(bp_node_start(a->n), BP_ERROR_STATE);
    assert_int_equal(bp_node_listen(a->n, NULL), BP_ERROR_STATE);
    assert_int_equal(bp_node_discover_static(a->n, "b@h", "127.0.0.1", 1), BP_ERROR_STATE);
    assert_true(strlen(bp_error_detail()) > 0);
    /* Another one of that name, as EPMD would refuse it. */
    assert_int_equal(bp_node_new(&n, NAME_A), 0);
    assert_int_equal(bp_node_set_text(n, BP_OPT_COOKIE, "x"), 0);
    {
        char dir[PATH_MAX];
        assert_int_equal(bp_node_set_text(n, BP_OPT_DIR, tmpdir_path(state, "other", dir)), 0);
    }
    assert_int_equal(bp_node_discover_static(n, "b@h", "127.0.0.1", 1), 0);
    assert_int_equal(bp_node_start(n), 0);
    assert_int_equal(bp_node_listen(n, NULL), BP_ERROR_DUPLICATE_NAME);
    bp_node_del(n);
    bp_node_del(NULL);
    rig_end(&r);
}

/* What can be said of a setting at once is said at once. */
static void wrong_settings(void **state)
{
    static const char *const advertise[] = {
        "",         ",",    "a,",     "::::zz",  "h:1x", "h:65536",
        "h:123456", "[::1", "[::1]x", "[::1]:x", "a b",  "1,2,3,4,5,6,7,8,9",
    };
    struct rig r = {.state = state};
    struct rig_node *a = rig_node(&r, NAME_A);

    for (size_t i = 0; i < sizeof(advertise) / sizeof(advertise[0]); i++) {
        assert_int_equal(bp_node_set_text(a->n, BP_OPT_ADVERTISE, advertise[i]), BP_ERROR_INVALID);
        assert_non_null(strstr(bp_error_detail(), "advertise"));
    }
    assert_int_equal(
        bp_node_set_text(a->n, BP_OPT_ADVERTISE, "h,h:0,h:65535,::1,[::1],[::1]:1,7,8"), 0);
    assert_int_equal(bp_node_set_text(a->n, (enum bp_option)999, "x"), BP_ERROR_INVALID);
    assert_int_equal(bp_node_set_text(a->n, BP_OPT_PORT, "1"), BP_ERROR_INVALID);
    assert_int_equal(bp_node_set_number(a->n, BP_OPT_COOKIE, 1), BP_ERROR_INVALID);
    assert_int_equal(bp_node_set_number(a->n, BP_OPT_PORT, 65536), BP_ERROR_INVALID);
    rig_end(&r);
}

static void wrong_pieces(void **state)
{
    struct rig r = {.state = state};
    struct rig_node *b = rig_node(&r, NAME_B);
    struct rig_node *a = rig_node(&r, NAME_A);
    const struct bp_part begin = {"\x70\x83", 2};
    bp_peer_id id;

    rig_start(b, true);
    rig_knows(a, b);
    rig_start(a, false);
    id = rig_connect(&r, a, b);
    assert_int_equal(bp_node_send(a->n, id, NULL, 0), BP_ERROR_INVALID);
    assert_int_equal(bp_node_send(a->n, id, NULL, 3), BP_ERROR_INVALID);
    assert_int_equal(bp_node_send(a->n, id, (struct bp_part[]){begin, {NULL, 5}}, 2),
                     BP_ERROR_INVALID);
    assert_int_equal(bp_node_send(a->n, id, (struct bp_part[]){begin, {"x", SIZE_MAX}}, 2),
                     BP_ERROR_LIMIT);
    /* A sum that is small only because it does not fit. */
    assert_int_equal(
        bp_node_send(a->n, id, (struct bp_part[]){begin, {"x", SIZE_MAX / 2}, {"y", SIZE_MAX / 2}},
                     3),
        BP_ERROR_LIMIT);
    /* Pieces without bytes may be nowhere, and the connection is none the worse for all that. */
    assert_int_equal(bp_node_send(a->n, id,
                                  (struct bp_part[]){{NULL, 0},
                                                     begin,
                                                     {"h\x01"
                                                      "a\x02",
                                                      4}},
                                  3),
                     0);
    assert_int_equal(rig_expect(&r, b, BP_EVENT_MESSAGE)->len, 6);
    rig_end(&r);
}

/* Who does not want to know a connection's number is told it by the events. */
static void no_place_for_the_number(void **state)
{
    struct rig r = {.state = state};
    struct rig_node *b = rig_node(&r, NAME_B);
    struct rig_node *a = rig_node(&r, NAME_A);
    const struct bp_dial how = {.timeout_ms = RIG_PATIENCE_MS};
    bp_peer_id id;

    rig_start(b, true);
    rig_knows(a, b);
    rig_start(a, false);
    assert_int_equal(bp_node_dial(a->n, NULL, 0, NULL), BP_ERROR_INVALID);
    assert_int_equal(bp_node_dial_at(a->n, NULL, "nowhere", 1, 0, NULL), BP_ERROR_INVALID);
    assert_int_equal(bp_node_dial_with(a->n, NAME_B, &how, sizeof(how), NULL), 0);
    assert_int_equal(bp_node_dial(a->n, NAME_B, 0, NULL), BP_ERROR_EXISTS);
    id = rig_expect(&r, a, BP_EVENT_UP)->peer;
    assert_int_equal(bp_node_find_peer(a->n, NAME_B), id);
    rig_end(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(out_of_order),
        TMPDIR_TEST(wrong_settings),
        TMPDIR_TEST(wrong_pieces),
        TMPDIR_TEST(no_place_for_the_number),
    };

    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
