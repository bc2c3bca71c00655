/* SPDX-License-Identifier: Apache-2.0 */
/* The chain of discovery backends in virtual time, and the example of a backend in C. */
#include "support/t.h"

#include "../../examples/discovery/table_backend.c"
#include "base/err.h"
#include "discovery/chain.h"

/* A backend that does what the test says. */
struct scripted {
    int rc;       /* of lookup; 0: it answers later */
    bool at_once; /* ... from inside of lookup */
    uint32_t ttl;
    unsigned asked;
    unsigned cancelled;
    uint64_t ticket;
    char host[64];
};

static const struct bp_endpoints somewhere = {.n = 1, .at = {{.host = "192.0.2.9", .port = 9}}};

static int scripted_lookup(void *ctx, struct bp_chain *c, uint64_t ticket, const char *node,
                           const char *host)
{
    struct scripted *s = ctx;

    assert_non_null(strchr(node, '@'));
    snprintf(s->host, sizeof(s->host), "%s", host);
    s->asked++;
    s->ticket = ticket;
    if (s->at_once) {
        bp_chain_answer(c, ticket, 0, &somewhere, s->ttl);
    }
    return s->rc;
}

static void scripted_cancel(void *ctx, uint64_t ticket)
{
    struct scripted *s = ctx;

    assert_int_equal(ticket, s->ticket);
    s->cancelled++;
}

static const struct bp_backend scripted = {
    .name = "scripted", .lookup = scripted_lookup, .cancel = scripted_cancel};

static struct bp_chain *chain;
static struct scripted first;
static struct scripted second;

static int setup(void **state)
{
    const struct bp_chain_config config = {.limit = 2 * BP_SEC, .negative = BP_SEC};

    (void)state;
    memset(&first, 0, sizeof(first));
    memset(&second, 0, sizeof(second));
    assert_int_equal(bp_chain_new(&chain, &config), 0);
    assert_int_equal(bp_chain_add(chain, &scripted, &first), 0);
    assert_int_equal(bp_chain_add(chain, &scripted, &second), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    bp_chain_del(chain);
    return 0;
}

static uint32_t look(const char *node, bp_time now)
{
    uint32_t id = 0;

    assert_int_equal(bp_chain_lookup(chain, node, now, &id), 0);
    return id;
}

static void expect(enum bp_chain_event_kind kind, uint32_t id, int rc)
{
    struct bp_chain_event e;

    assert_true(bp_chain_poll(chain, &e));
    assert_int_equal(e.kind, kind);
    assert_int_equal(e.id, id);
    assert_int_equal(e.rc, rc);
    if (kind == BP_CHAIN_FOUND) {
        assert_int_equal(e.found.n, 1);
        assert_int_equal(e.found.at[0].port, 9);
        assert_string_equal(e.backend, "scripted");
    }
}

static void expect_nothing(void)
{
    struct bp_chain_event e;
    assert_false(bp_chain_poll(chain, &e));
}

static void chain_first_backend_that_knows_wins(void **state)
{
    uint32_t id;
    (void)state;

    first.at_once = true;
    id = look("n@some.host", 0);
    expect(BP_CHAIN_FOUND, id, 0);
    assert_string_equal(first.host, "some.host");
    assert_int_equal(second.asked, 0);
    first.at_once = false;
    first.rc = BP_E_NOT_FOUND;
    second.at_once = true;
    id = look("m@h", 0);
    expect(BP_CHAIN_FOUND, id, 0);
    assert_int_equal(second.asked, 1);
    second.at_once = false;
    second.rc = BP_E_NOT_FOUND;
    id = look("o@h", 0);
    expect(BP_CHAIN_UNKNOWN, id, BP_E_NOT_FOUND);
    expect_nothing();
}

static void chain_backend_that_fails_is_left_out_with_a_complaint(void **state)
{
    uint32_t id;
    (void)state;

    first.rc = BP_E_SYSTEM;
    second.at_once = true;
    id = look("n@h", 0);
    expect(BP_CHAIN_COMPLAINT, 0, BP_E_SYSTEM);
    expect(BP_CHAIN_FOUND, id, 0);
    /* an answer without addresses is a failure, too */
    first.rc = 0;
    id = look("m@h", 0);
    expect_nothing();
    bp_chain_answer(chain, first.ticket, 0, NULL, 0);
    bp_chain_tick(chain, 1);
    expect(BP_CHAIN_COMPLAINT, 0, BP_E_INVALID);
    expect(BP_CHAIN_FOUND, id, 0);
}

static void chain_backend_that_hangs_is_passed_and_paused(void **state)
{
    struct bp_chain_stats stats;
    uint64_t old;
    uint32_t a;
    uint32_t b;
    (void)state;

    second.at_once = true;
    a = look("a@h", 0);
    b = look("b@h", BP_SEC);
    old = first.ticket;
    expect_nothing();
    assert_int_equal(bp_chain_deadline(chain), 2 * BP_SEC);
    bp_chain_tick(chain, 2 * BP_SEC - 1);
    expect_nothing();
    first.ticket = old - 256; /* what _cancel expects: a's */
    bp_chain_tick(chain, 2 * BP_SEC);
    assert_int_equal(first.cancelled, 1);
    expect(BP_CHAIN_COMPLAINT, 0, BP_E_TIMEOUT);
    expect(BP_CHAIN_FOUND, a, 0);
    expect_nothing();
    first.ticket = old;
    bp_chain_tick(chain, 3 * BP_SEC);
    expect(BP_CHAIN_FOUND, b, 0); /* no second complaint about one hang */
    /* paused: not asked at all, and asked again afterwards */
    a = look("c@h", 4 * BP_SEC);
    expect(BP_CHAIN_FOUND, a, 0);
    assert_int_equal(first.asked, 2);
    (void)look("d@h", 3 * BP_SEC + BP_CHAIN_PAUSE);
    assert_int_equal(first.asked, 3);
    /* what comes late changes nothing */
    bp_chain_answer(chain, old, 0, &somewhere, 60);
    bp_chain_stats(chain, &stats);
    assert_int_equal(stats.late_answers, 1);
    assert_int_equal(stats.timeouts, 2);
}

static void chain_answers_are_kept_as_long_as_they_say(void **state)
{
    struct bp_chain_stats stats;
    (void)state;

    first.at_once = true;
    first.ttl = 10;
    expect(BP_CHAIN_FOUND, look("n@h", 0), 0);
    expect(BP_CHAIN_FOUND, look("n@h", 10 * BP_SEC - 1), 0);
    assert_int_equal(first.asked, 1);
    expect(BP_CHAIN_FOUND, look("n@h", 10 * BP_SEC), 0);
    assert_int_equal(first.asked, 2);
    bp_chain_forget(chain, "n@h");
    expect(BP_CHAIN_FOUND, look("n@h", 10 * BP_SEC), 0);
    assert_int_equal(first.asked, 3);
    /* "not found" for a moment, without a second complaint */
    first.at_once = false;
    first.rc = BP_E_NOT_FOUND;
    second.rc = BP_E_NOT_FOUND;
    expect(BP_CHAIN_UNKNOWN, look("x@h", 0), BP_E_NOT_FOUND);
    expect(BP_CHAIN_UNKNOWN, look("x@h", BP_SEC - 1), BP_E_NOT_FOUND);
    assert_int_equal(second.asked, 1);
    expect(BP_CHAIN_UNKNOWN, look("x@h", BP_SEC), BP_E_NOT_FOUND);
    assert_int_equal(second.asked, 2);
    bp_chain_stats(chain, &stats);
    assert_int_equal(stats.kept_answers, 3);
}

static void chain_limits_hold(void **state)
{
    struct bp_chain_stats stats;
    uint32_t id;
    char node[32];
    (void)state;

    first.at_once = true;
    first.ttl = 1000;
    for (unsigned i = 0; i < 2 * BP_CHAIN_KEPT_MAX; i++) {
        snprintf(node, sizeof(node), "n%u@h", i);
        expect(BP_CHAIN_FOUND, look(node, 0), 0);
    }
    look("n0@h", 0); /* the oldest was dropped */
    assert_int_equal(first.asked, 2 * BP_CHAIN_KEPT_MAX + 1);
    expect(BP_CHAIN_FOUND, chain != NULL ? 2 * BP_CHAIN_KEPT_MAX + 1 : 0, 0);
    first.at_once = false;
    for (unsigned i = 0; i < BP_CHAIN_LOOKUPS_MAX; i++) {
        snprintf(node, sizeof(node), "m%u@h", i);
        (void)look(node, 0);
    }
    assert_int_equal(bp_chain_lookup(chain, "one@more", 0, &id), BP_E_LIMIT);
    bp_chain_stats(chain, &stats);
    assert_int_equal(stats.refused, 1);
    assert_int_equal(bp_chain_lookup(chain, "no_host", 0, &id), BP_E_INVALID);
    assert_int_equal(bp_chain_lookup(chain, "@h", 0, &id), BP_E_INVALID);
    assert_int_equal(bp_chain_lookup(chain, "n@", 0, &id), BP_E_INVALID);
    for (unsigned i = 2; i < BP_CHAIN_BACKENDS_MAX; i++) {
        assert_int_equal(bp_chain_add(chain, &table_backend, NULL), 0);
    }
    assert_int_equal(bp_chain_add(chain, &table_backend, NULL), BP_E_LIMIT);
    first.ticket = 0;
    for (unsigned i = 0; i < BP_CHAIN_LOOKUPS_MAX; i++) {
        first.ticket = (uint64_t)(2 * BP_CHAIN_KEPT_MAX + 2 + i) << 8;
        bp_chain_cancel(chain, 2 * BP_CHAIN_KEPT_MAX + 2 + i);
    }
    assert_int_equal(first.cancelled, BP_CHAIN_LOOKUPS_MAX);
    expect_nothing();
}

static void count_node(void *ctx, const char *node, uint16_t port)
{
    assert_string_equal(node, "n@h");
    assert_int_equal(port, 9);
    (*(unsigned *)ctx)++;
}

static void chain_example_table_publishes_finds_and_lists(void **state)
{
    struct table *table = calloc(1, sizeof(*table));
    struct bp_chain_event e;
    unsigned n = 0;
    char node[32];
    (void)state;

    first.rc = BP_E_NOT_FOUND;
    second.rc = BP_E_NOT_FOUND;
    assert_int_equal(bp_chain_add(chain, &table_backend, table), 0);
    assert_int_equal(bp_chain_publish(chain, "n@h", &somewhere), 1);
    assert_int_equal(bp_chain_publish(chain, "n@h", &somewhere), 1);
    (void)look("n@h", 0);
    assert_true(bp_chain_poll(chain, &e));
    assert_string_equal(e.backend, "table");
    assert_string_equal(e.found.at[0].host, "192.0.2.9");
    bp_chain_list(chain, count_node, &n);
    assert_int_equal(n, 1);
    assert_int_equal(bp_chain_withdraw(chain, "n@h"), 1);
    expect(BP_CHAIN_UNKNOWN, look("n@h", 2 * BP_SEC), BP_E_NOT_FOUND);
    for (unsigned i = 0; i < TABLE_MAX; i++) {
        snprintf(node, sizeof(node), "n%u@h", i);
        assert_int_equal(bp_chain_publish(chain, node, &somewhere), 1);
    }
    assert_int_equal(bp_chain_publish(chain, "one@more", &somewhere), 0);
    expect(BP_CHAIN_COMPLAINT, 0, BP_E_LIMIT);
    free(table);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static const struct CMUnitTest tests[] = {
    TEST(chain_first_backend_that_knows_wins),
    TEST(chain_backend_that_fails_is_left_out_with_a_complaint),
    TEST(chain_backend_that_hangs_is_passed_and_paused),
    TEST(chain_answers_are_kept_as_long_as_they_say),
    TEST(chain_limits_hold),
    TEST(chain_example_table_publishes_finds_and_lists),
};

T_MAIN(tests)
