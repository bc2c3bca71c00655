/* SPDX-License-Identifier: Apache-2.0 */
/* The DNS backend in a chain, with a server of the test's own. */
#include "unit/dns_server.h"

#include "base/err.h"
#include "io/dns_backend.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

static const struct dns_row rows[] = {
    {"_erlang-dist._quic.one.c.example", DNS_SRV, 50, "one.c.example", 5001, 1},
    {"_erlang-dist._quic.c.example", DNS_SRV, 10, "b.two.example", 5002, 2},
    {"_erlang-dist._quic.c.example", DNS_SRV, 10, "a.two.example", 5003, 1},
    {"_erlang-dist._quic.c.example", DNS_SRV, 10, "two.c.example", 5004, 3},
    {"_erlang-dist._quic.c.example", DNS_SRV, 10, "other", 5005, 3},
    {"three.example", DNS_A, 20, "192.0.2.3", 0, 0},
    {"three.example", DNS_AAAA, 25, "2001:db8::3", 0, 0},
    {"one", DNS_A, 20, "192.0.2.1", 0, 0},
    {0}};

static struct dns_server server;
static struct bp_dns_backend *dns;
static struct bp_chain *chain;

static bp_time now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (bp_time)t.tv_sec * BP_SEC + (bp_time)t.tv_nsec;
}

static void open_chain(const char *domain, bp_time limit)
{
    /* The chain is patient: what it does with a silent server, test_chain shows. */
    const struct bp_chain_config config = {.limit = 60 * BP_SEC};
    const struct bp_dns_backend_config dns_config = {.domain = domain,
                                                     .servers = server.text,
                                                     .own_host = "own.example",
                                                     .port = 4000,
                                                     .limit = limit,
                                                     .max_ttl = 30};

    assert_int_equal(bp_chain_new(&chain, &config), 0);
    assert_int_equal(bp_dns_backend_new(&dns, &dns_config), 0);
    assert_int_equal(bp_chain_add(chain, &bp_dns_backend_ops, dns), 0);
}

static int setup(void **state)
{
    (void)state;
    dns_server_open(&server, rows);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    bp_chain_del(chain);
    bp_dns_backend_del(dns);
    dns_server_close(&server);
    return 0;
}

/* Serves questions until the lookup has its event. */
static void finish(struct bp_chain_event *e)
{
    for (int i = 0; i < 2000; i++) {
        struct pollfd p[] = {{bp_dns_backend_fd(dns), POLLIN, 0}, {server.fd, POLLIN, 0}};

        bp_dns_backend_run(dns, chain);
        bp_chain_tick(chain, now());
        if (bp_chain_poll(chain, e)) {
            return;
        }
        assert_true(poll(p, 2, 5000) > 0);
        dns_server_serve(&server);
    }
    fail();
}

static void look(const char *node, struct bp_chain_event *e)
{
    uint32_t id;

    assert_int_equal(bp_chain_lookup(chain, node, now(), &id), 0);
    finish(e);
}

static void expect(const struct bp_chain_event *e, size_t i, const char *host, unsigned port)
{
    assert_int_equal(e->kind, BP_CHAIN_FOUND);
    assert_true(i < e->found.n);
    assert_string_equal(e->found.at[i].host, host);
    assert_int_equal(e->found.at[i].port, port);
}

static void dns_backend_without_domain_asks_for_the_host(void **state)
{
    struct bp_chain_event e;
    (void)state;

    open_chain(NULL, 0);
    look("x@three.example", &e);
    assert_int_equal(e.found.n, 2);
    assert_int_equal(e.found.at[0].port, 4000);
    assert_true(strcmp(e.found.at[0].host, "192.0.2.3") == 0 ||
                strcmp(e.found.at[1].host, "192.0.2.3") == 0);
    assert_true(strcmp(e.found.at[0].host, "2001:db8::3") == 0 ||
                strcmp(e.found.at[1].host, "2001:db8::3") == 0);
    look("x@nothing.example", &e);
    assert_int_equal(e.kind, BP_CHAIN_UNKNOWN);
}

static void dns_backend_answers_literals_and_its_own_host_without_asking(void **state)
{
    struct bp_chain_event e;
    (void)state;

    open_chain(NULL, 0);
    look("x@192.0.2.77", &e);
    expect(&e, 0, "192.0.2.77", 4000);
    look("x@own.example", &e);
    assert_int_equal(e.kind, BP_CHAIN_UNKNOWN);
    assert_int_equal(server.asked, 0);
}

static void dns_backend_prefers_the_nodes_own_records(void **state)
{
    struct bp_chain_event e;
    (void)state;

    open_chain("c.example", 0);
    look("x@one", &e); /* has an address, too */
    assert_int_equal(e.found.n, 1);
    expect(&e, 0, "one.c.example", 5001);
}

static void dns_backend_tells_the_domains_records_apart(void **state)
{
    struct bp_chain_event e;
    (void)state;

    open_chain("c.example", 0);
    look("a@two.example", &e);
    assert_int_equal(e.found.n, 1);
    expect(&e, 0, "a.two.example", 5003);
    look("b@two.example", &e);
    expect(&e, 0, "b.two.example", 5002);
    look("z@two", &e); /* the host in the domain */
    expect(&e, 0, "two.c.example", 5004);
    look("z@two.example", &e);
    assert_int_equal(e.kind, BP_CHAIN_UNKNOWN);
    look("x@three.example", &e); /* no record: its address */
    assert_int_equal(e.found.n, 2);
}

static void dns_backend_keeps_answers_as_long_as_dns_says(void **state)
{
    struct bp_chain_stats stats;
    struct bp_chain_event e;
    unsigned asked;
    uint32_t id;
    bp_time t;
    (void)state;

    open_chain("c.example", 0);
    look("a@two.example", &e);
    asked = server.asked;
    t = now();
    assert_int_equal(bp_chain_lookup(chain, "a@two.example", t + 5 * BP_SEC, &id), 0);
    assert_true(bp_chain_poll(chain, &e));
    expect(&e, 0, "a.two.example", 5003);
    assert_int_equal(server.asked, asked);
    /* its TTL is 10 s */
    assert_int_equal(bp_chain_lookup(chain, "a@two.example", t + 11 * BP_SEC, &id), 0);
    assert_false(bp_chain_poll(chain, &e));
    bp_chain_cancel(chain, id);
    /* max_ttl is 30 s, the record's 50 s */
    look("x@one", &e);
    t = now();
    assert_int_equal(bp_chain_lookup(chain, "x@one", t + 29 * BP_SEC, &id), 0);
    assert_true(bp_chain_poll(chain, &e));
    assert_int_equal(bp_chain_lookup(chain, "x@one", t + 31 * BP_SEC, &id), 0);
    assert_false(bp_chain_poll(chain, &e));
    bp_chain_stats(chain, &stats);
    assert_int_equal(stats.kept_answers, 2);
}

static void dns_backend_silent_server_is_an_error_within_the_limit(void **state)
{
    struct bp_chain_event e;
    bp_time start = now();
    (void)state;

    open_chain(NULL, 400 * BP_MS);
    server.silent = true;
    look("x@three.example", &e);
    assert_int_equal(e.kind, BP_CHAIN_COMPLAINT);
    assert_int_equal(e.rc, BP_E_TIMEOUT);
    assert_true(bp_chain_poll(chain, &e));
    assert_int_equal(e.kind, BP_CHAIN_UNKNOWN);
    assert_true(now() - start >= 100 * BP_MS);
    assert_true(server.asked >= 2);
}

static void dns_backend_many_lookups_at_once_and_cancelled_ones(void **state)
{
    struct bp_chain_event e;
    uint32_t ids[BP_CHAIN_LOOKUPS_MAX];
    char node[64];
    unsigned found = 0;
    (void)state;

    open_chain("c.example", 0);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < BP_CHAIN_LOOKUPS_MAX; i++) {
            snprintf(node, sizeof(node), "n%u@three.example", i);
            assert_int_equal(bp_chain_lookup(chain, node, now(), &ids[i]), 0);
        }
        for (unsigned i = 0; round == 0 && i < BP_CHAIN_LOOKUPS_MAX; i++) {
            bp_chain_cancel(chain, ids[i]); /* their answers must not be taken for the others' */
        }
    }
    while (found < BP_CHAIN_LOOKUPS_MAX) {
        finish(&e);
        if (e.kind == BP_CHAIN_FOUND) { /* the resolver may be full: that is a complaint */
            assert_int_equal(e.found.n, 2);
        }
        found += e.kind != BP_CHAIN_COMPLAINT;
    }
}

static char listed[512];

static void add(void *ctx, const char *node, uint16_t port)
{
    (void)ctx;
    snprintf(listed + strlen(listed), sizeof(listed) - strlen(listed), "%s:%u ", node, port);
}

static int serve_list(void **state)
{
    pid_t pid;
    (void)state;

    pid = fork(); /* list waits, so somebody else must answer */
    if (pid == 0) {
        for (;;) {
            struct pollfd p = {server.fd, POLLIN, 0};
            (void)poll(&p, 1, 30000);
            dns_server_serve(&server);
        }
    }
    return pid;
}

static void dns_backend_lists_the_domains_nodes(void **state)
{
    pid_t pid;

    open_chain("c.example", 30 * BP_SEC);
    pid = serve_list(state);
    listed[0] = '\0';
    assert_int_equal(bp_dns_backend_ops.list(dns, add, NULL), 0);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    assert_string_equal(listed, "a@two.example:5003 b@two.example:5002 two@c.example:5004 ");
}

static void dns_backend_list_ends_where_nobody_answers(void **state)
{
    (void)state;

    open_chain("c.example", 200 * BP_MS);
    listed[0] = '\0';
    assert_int_equal(bp_dns_backend_ops.list(dns, add, NULL), BP_E_TIMEOUT);
    assert_string_equal(listed, "");
}

static void dns_backend_refuses_what_is_no_domain_or_server(void **state)
{
    struct bp_dns_backend_config config = {.domain = "bad domain"};
    struct bp_dns_backend *b;
    (void)state;

    open_chain(NULL, 0);
    assert_int_equal(bp_dns_backend_new(&b, &config), BP_E_INVALID);
    assert_null(b);
    config.domain = "good.domain";
    config.servers = "no server";
    assert_int_equal(bp_dns_backend_new(&b, &config), BP_E_INVALID);
    assert_null(b);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(dns_backend_without_domain_asks_for_the_host),
        TEST(dns_backend_answers_literals_and_its_own_host_without_asking),
        TEST(dns_backend_prefers_the_nodes_own_records),
        TEST(dns_backend_tells_the_domains_records_apart),
        TEST(dns_backend_keeps_answers_as_long_as_dns_says),
        TEST(dns_backend_silent_server_is_an_error_within_the_limit),
        TEST(dns_backend_many_lookups_at_once_and_cancelled_ones),
        TEST(dns_backend_lists_the_domains_nodes),
        TEST(dns_backend_list_ends_where_nobody_answers),
        TEST(dns_backend_refuses_what_is_no_domain_or_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
