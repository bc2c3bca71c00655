/* SPDX-License-Identifier: Apache-2.0 */
/* Discovery from a table in C. */
#include "support/t.h"

#include "base/err.h"
#include "discovery/static_backend.h"

/* Some rows are of no use. */
static const struct bp_static_node rows[] = {
    {"a@h", {"192.0.2.1", 4433}},    {"b@h.example", {"[2001:db8::1]", 1}},
    {"a@h", {"host.example", 4434}}, {"c@h", {"192.0.2.3", 0}},
    {"nohost", {"192.0.2.4", 4}},    {"d@h", {"bad host", 5}},
    {"d@h", {"good.host", 6}},
};
static const struct bp_static_nodes nodes = {.n = sizeof(rows) / sizeof(rows[0]), .at = rows};

static void look(const struct bp_static_nodes *n, const char *node, struct bp_chain_event *e,
                 int *complaint)
{
    const struct bp_chain_config config = {0};
    struct bp_static_nodes copy = *n;
    struct bp_chain *chain;
    uint32_t id;

    *complaint = 0;
    assert_int_equal(bp_chain_new(&chain, &config), 0);
    assert_int_equal(bp_chain_add(chain, &bp_static_backend, &copy), 0);
    assert_int_equal(bp_chain_lookup(chain, node, 0, &id), 0);
    assert_true(bp_chain_poll(chain, e));
    if (e->kind == BP_CHAIN_COMPLAINT) {
        *complaint = e->rc;
        assert_true(bp_chain_poll(chain, e));
    }
    bp_chain_del(chain);
}

static void static_backend_finds_rows_in_order(void **state)
{
    struct bp_chain_event e;
    int complaint;
    (void)state;

    look(&nodes, "a@h", &e, &complaint);
    assert_int_equal(e.kind, BP_CHAIN_FOUND);
    assert_string_equal(e.backend, "static");
    assert_int_equal(e.found.n, 2);
    assert_string_equal(e.found.at[0].host, "192.0.2.1");
    assert_int_equal(e.found.at[0].port, 4433);
    assert_string_equal(e.found.at[1].host, "host.example");
    assert_int_equal(e.found.at[1].port, 4434);
    look(&nodes, "b@h.example", &e, &complaint);
    assert_string_equal(e.found.at[0].host, "2001:db8::1");
    look(&nodes, "a@h.example", &e, &complaint);
    assert_int_equal(e.kind, BP_CHAIN_UNKNOWN);
    assert_int_equal(complaint, 0);
}

static void static_backend_leaves_out_rows_of_no_use(void **state)
{
    struct bp_chain_event e;
    int complaint;
    (void)state;

    look(&nodes, "d@h", &e, &complaint);
    assert_int_equal(e.kind, BP_CHAIN_FOUND);
    assert_int_equal(e.found.n, 1);
    assert_string_equal(e.found.at[0].host, "good.host");
    look(&nodes, "c@h", &e, &complaint);
    assert_int_equal(e.kind, BP_CHAIN_UNKNOWN);
    assert_int_equal(complaint, BP_E_INVALID);
}

static void static_backend_takes_no_more_addresses_than_fit(void **state)
{
    struct bp_static_node many[BP_ENDPOINTS_MAX + 3];
    struct bp_static_nodes all = {.n = BP_ENDPOINTS_MAX + 3, .at = many};
    struct bp_chain_event e;
    int complaint;
    (void)state;

    for (unsigned i = 0; i < all.n; i++) {
        many[i] = (struct bp_static_node){"a@h", {"192.0.2.1", (uint16_t)(i + 1)}};
    }
    look(&all, "a@h", &e, &complaint);
    assert_int_equal(e.found.n, BP_ENDPOINTS_MAX);
    assert_int_equal(e.found.at[BP_ENDPOINTS_MAX - 1].port, BP_ENDPOINTS_MAX);
}

static char listed[256];

static void add(void *ctx, const char *node, uint16_t port)
{
    (void)ctx;
    snprintf(listed + strlen(listed), sizeof(listed) - strlen(listed), "%s:%u ", node, port);
}

static void static_backend_lists_what_it_can_use(void **state)
{
    struct bp_static_nodes copy = nodes;
    (void)state;

    assert_int_equal(bp_static_backend.list(&copy, add, NULL), 0);
    assert_string_equal(listed, "a@h:4433 b@h.example:1 a@h:4434 d@h:6 ");
}

static void static_node_parse_reads_what_command_lines_have(void **state)
{
    static const struct {
        const char *text;
        const char *node;
        const char *host;
        unsigned port;
    } good[] = {{"a@h=192.0.2.1:4433", "a@h", "192.0.2.1", 4433},
                {"a@h=[::1]:1", "a@h", "::1", 1},
                {"a@h.example=some.host:65535", "a@h.example", "some.host", 65535}};
    static const char *const bad[] = {
        "",      "a@h",        "a@h=",         "a@h=h",       "a@h=h:",   "a@h=:1",
        "=h:1",  "a=h:1",      "@h=h:1",       "a@=h:1",      "a@h=h:0",  "a@h=h:65536",
        "a@h=h", "a@h=::1:44", "a@h=h:123456", "a@h=h h:1",   "a@h=h:1 ", "a@h=h:-1",
        "a:1=h", "a@h=[]:1",   "a@h=h:01",     "a@h=h:\xc3:1"};
    struct bp_static_node row;
    char longest[600];
    (void)state;

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(bp_static_node_parse(good[i].text, &row), 0);
        assert_string_equal(row.node, good[i].node);
        assert_string_equal(row.at.host, good[i].host);
        assert_int_equal(row.at.port, good[i].port);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(bp_static_node_parse(bad[i], &row), BP_E_INVALID);
        assert_int_equal(row.node[0], '\0');
    }
    memset(longest, 'a', sizeof(longest));
    memcpy(longest + 200, "@h=h:1", 7);
    assert_int_equal(bp_static_node_parse(longest, &row), 0);
    memset(longest, 'a', sizeof(longest));
    memcpy(longest + 254, "@h=h:1", 7);
    assert_int_equal(bp_static_node_parse(longest, &row), BP_E_INVALID);
    memset(longest, 'a', sizeof(longest));
    memcpy(longest, "a@h=", 4);
    memcpy(longest + 4 + 256, ":1", 3);
    assert_int_equal(bp_static_node_parse(longest, &row), BP_E_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(static_backend_finds_rows_in_order),
        cmocka_unit_test(static_backend_leaves_out_rows_of_no_use),
        cmocka_unit_test(static_backend_takes_no_more_addresses_than_fit),
        cmocka_unit_test(static_backend_lists_what_it_can_use),
        cmocka_unit_test(static_node_parse_reads_what_command_lines_have),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
