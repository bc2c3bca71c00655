/* SPDX-License-Identifier: Apache-2.0 */
/* From names to addresses: the whole chain, files and a DNS server of the test's own. */
#include "unit/dns_server.h"
#include "unit/tmpdir.h"

#include "base/err.h"
#include "io/finder.h"

#include <poll.h>
#include <time.h>

static const struct dns_row rows[] = {
    {"_erlang-dist._quic.srv.c.example", DNS_SRV, 50, "three.example", 5001, 1},
    {"three.example", DNS_A, 20, "192.0.2.3", 0, 0},
    {"three.example", DNS_A, 20, "192.0.2.4", 0, 0},
    {"three.example", DNS_AAAA, 25, "2001:db8::3", 0, 0},
    {0}};

static const struct bp_static_node static_rows[] = {{"s@h", {"192.0.2.9", 9}},
                                                    {"s@h", {"three.example", 10}},
                                                    {"s@h", {"192.0.2.9", 9}},
                                                    {"own@h", {"own.example", 7}},
                                                    {"lost@h", {"nowhere.example", 7}}};

static struct dns_server server;
static struct bp_static_nodes nodes = {.n = sizeof(static_rows) / sizeof(static_rows[0]),
                                       .at = static_rows};
static struct bp_finder *finder;

static bp_time now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (bp_time)t.tv_sec * BP_SEC + (bp_time)t.tv_nsec;
}

static void open_finder(void **state, bp_time limit, int family)
{
    const char *dirs[1] = {((struct tmpdir *)*state)->path};
    const struct bp_finder_config config = {
        .limit = limit, .servers = server.text, .own_host = "own.example", .family = family};
    const struct bp_file_backend_config files = {.dirs = dirs, .n_dirs = 1, .limit = 60 * BP_SEC};
    const struct bp_dns_backend_config dns = {.domain = "c.example",
                                              .servers = server.text,
                                              .own_host = "own.example",
                                              .family = family,
                                              .max_ttl = 30};

    assert_int_equal(bp_finder_new(&finder, &config), 0);
    assert_int_equal(bp_finder_add_static(finder, &nodes), 0);
    assert_int_equal(bp_finder_add_files(finder, &files), 0);
    assert_int_equal(bp_finder_add_files(finder, &files), BP_E_STATE);
    assert_int_equal(bp_finder_add_dns(finder, &dns), 0);
    assert_int_equal(bp_finder_add_dns(finder, &dns), BP_E_STATE);
}

static int setup(void **state)
{
    dns_server_open(&server, rows);
    return tmpdir_setup(state);
}

static int teardown(void **state)
{
    bp_finder_del(finder);
    finder = NULL;
    dns_server_close(&server);
    return tmpdir_teardown(state);
}

static void finish(struct bp_finder_event *e)
{
    for (int i = 0; i < 5000; i++) {
        struct pollfd p[] = {{bp_finder_fd(finder), POLLIN, 0}, {server.fd, POLLIN, 0}};
        bp_time at = bp_finder_deadline(finder);
        bp_time t;

        if (bp_finder_poll(finder, e)) {
            return;
        }
        t = now();
        at = at < t ? 0 : (at - t) / BP_MS + 1;
        assert_true(poll(p, 2, at < 60000 ? (int)at : 60000) >= 0);
        dns_server_serve(&server);
        bp_finder_run(finder, now());
    }
    fail();
}

static void look(const char *node, struct bp_finder_event *e)
{
    uint32_t id;

    assert_int_equal(bp_finder_lookup(finder, node, now(), &id), 0);
    finish(e);
    if (e->kind != BP_FINDER_COMPLAINT) {
        assert_int_equal(e->id, id);
    }
}

static const char *text(const struct bp_finder_event *e)
{
    static char out[1024];
    char one[BP_ADDR_TEXT_MAX];

    out[0] = '\0';
    for (size_t i = 0; i < e->n; i++) {
        strcat(strcat(out, bp_addr_text(&e->addrs[i], one)), " ");
    }
    return out;
}

static void finder_resolves_what_backends_answer_in_order(void **state)
{
    struct bp_finder_event e;

    open_finder(state, 60 * BP_SEC, AF_INET);
    look("s@h", &e);
    assert_int_equal(e.kind, BP_FINDER_FOUND);
    assert_string_equal(e.backend, "static");
    assert_int_equal(e.found.n, 3);
    assert_true(strcmp(text(&e), "192.0.2.9:9 192.0.2.3:10 192.0.2.4:10 ") == 0 ||
                strcmp(text(&e), "192.0.2.9:9 192.0.2.4:10 192.0.2.3:10 ") == 0);
    look("x@srv", &e);
    assert_string_equal(e.backend, "dns");
    assert_int_equal(e.n, 2);
    assert_int_equal(bp_addr_port(&e.addrs[0]), 5001);
}

static void finder_alternates_between_the_families(void **state)
{
    struct bp_finder_event e;

    open_finder(state, 60 * BP_SEC, AF_UNSPEC);
    look("x@three.example", &e);
    assert_int_equal(e.n, 3);
    assert_int_not_equal(e.addrs[0].u.sa.sa_family, e.addrs[1].u.sa.sa_family);
    assert_int_equal(bp_addr_port(&e.addrs[0]), 4433);
}

static void finder_own_host_is_loopback(void **state)
{
    struct bp_finder_event e;

    open_finder(state, 60 * BP_SEC, AF_UNSPEC);
    look("own@h", &e);
    assert_string_equal(text(&e), "127.0.0.1:7 [::1]:7 ");
    assert_int_equal(server.asked, 0);
}

static void finder_reads_files(void **state)
{
    struct bp_finder_event e;
    const char *content = "{\"host\": \"192.0.2.8\", \"port\": 8}";
    char path[PATH_MAX];

    open_finder(state, 60 * BP_SEC, AF_UNSPEC);
    tmpdir_path(state, "f@h.endpoint", path);
    tmpdir_put(path, content, strlen(content));
    look("f@h", &e);
    assert_string_equal(e.backend, "file");
    assert_string_equal(text(&e), "192.0.2.8:8 ");
}

static void finder_tells_unknown_from_unresolvable(void **state)
{
    struct bp_finder_event e;

    open_finder(state, 60 * BP_SEC, AF_UNSPEC);
    look("lost@h", &e);
    assert_int_equal(e.kind, BP_FINDER_UNKNOWN);
    assert_int_equal(e.rc, BP_E_SYSTEM);
    assert_string_equal(e.found.at[0].host, "nowhere.example");
    look("x@nowhere", &e);
    assert_int_equal(e.kind, BP_FINDER_UNKNOWN);
    assert_int_equal(e.rc, BP_E_NOT_FOUND);
}

static void finder_silent_dns_costs_no_more_than_the_limit(void **state)
{
    struct bp_finder_event e;

    open_finder(state, 300 * BP_MS, AF_UNSPEC);
    server.silent = true;
    look("s@h", &e); /* one of its endpoints is a name */
    assert_int_equal(e.kind, BP_FINDER_FOUND);
    assert_string_equal(text(&e), "192.0.2.9:9 ");
    assert_true(server.asked > 0);
}

static void finder_cancelled_lookups_have_no_event(void **state)
{
    struct bp_finder_event e;
    uint32_t id;

    open_finder(state, 60 * BP_SEC, AF_UNSPEC);
    assert_int_equal(bp_finder_lookup(finder, "x@three.example", now(), &id), 0);
    bp_finder_cancel(finder, id);
    assert_int_equal(bp_finder_lookup(finder, "s@h", now(), &id), 0);
    assert_false(bp_finder_poll(finder, &e)); /* a name is being resolved */
    bp_finder_cancel(finder, id);
    look("own@h", &e);
    assert_int_equal(e.kind, BP_FINDER_FOUND);
    assert_false(bp_finder_poll(finder, &e));
}

static void finder_limits_hold(void **state)
{
    struct bp_finder_event e;
    uint32_t id;
    unsigned n = 0;

    open_finder(state, 60 * BP_SEC, AF_INET);
    for (unsigned i = 0; i < BP_CHAIN_LOOKUPS_MAX; i++) {
        assert_int_equal(bp_finder_lookup(finder, "x@three.example", now(), &id), 0);
    }
    assert_int_equal(bp_finder_lookup(finder, "x@three.example", now(), &id), BP_E_LIMIT);
    assert_int_equal(bp_finder_lookup(finder, "nonsense", now(), &id), BP_E_INVALID);
    for (; n < BP_CHAIN_LOOKUPS_MAX; n++) {
        finish(&e);
        assert_int_equal(e.kind, BP_FINDER_FOUND);
        assert_int_equal(e.n, 2);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(finder_resolves_what_backends_answer_in_order),
        TEST(finder_alternates_between_the_families),
        TEST(finder_own_host_is_loopback),
        TEST(finder_reads_files),
        TEST(finder_tells_unknown_from_unresolvable),
        TEST(finder_silent_dns_costs_no_more_than_the_limit),
        TEST(finder_cancelled_lookups_have_no_event),
        TEST(finder_limits_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
