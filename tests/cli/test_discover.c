/* SPDX-License-Identifier: Apache-2.0 */
/* barrel-p2p resolve and names: fixed entries, files, and a DNS server of the test's own. */
#include "cli/run.h"
#include "unit/dns_server.h"

#include <poll.h>
#include <pthread.h>

static void put_file(void **state, const char *name, const char *text)
{
    char path[PATH_MAX];

    tmpdir_put(tmpdir_path(state, name, path), text, strlen(text));
}

static int setup(void **state)
{
    char path[PATH_MAX];

    if (tmpdir_setup(state) != 0) {
        return -1;
    }
    assert_int_equal(mkdir(tmpdir_path(state, "disc", path), 0700), 0);
    put_file(state, "disc/f@h.endpoint", "{\"host\": \"192.0.2.5\", \"port\": 5}");
    put_file(state, "disc/both@h.endpoint", "{\"192.0.2.6\",6}.");
    return 0;
}

static json_t *answer(const json_t *o, const char *backend)
{
    size_t i;
    json_t *a;

    json_array_foreach(json_object_get(o, "backends"), i, a)
    {
        if (strcmp(member(a, "backend"), backend) == 0) {
            return a;
        }
    }
    fail_msg("no answer of %s", backend);
    return NULL;
}

static const char *first_host(const json_t *a)
{
    return member(json_array_get(json_object_get(a, "endpoints"), 0), "host");
}

static void resolve_shows_each_backends_answer(void **state)
{
    struct run r;
    json_t *o;

    cli(&r, state, "resolve", "both@h", "--static", "both@h=[2001:db8::1]:1", "--static",
        "both@h=127.0.0.1:2", "--discovery-dir", "disc", "--json");
    assert_int_equal(r.status, 0);
    o = cli_json(&r);
    assert_string_equal(first_host(answer(o, "static")), "2001:db8::1");
    assert_string_equal(first_host(answer(o, "file")), "192.0.2.6");
    assert_string_equal(member(answer(o, "dns"), "error"), "not_found");
    assert_true(json_integer_value(json_object_get(answer(o, "file"), "time_us")) >= 0);
    /* it goes by the first one */
    assert_int_equal(json_array_size(json_object_get(o, "addresses")), 2);
    assert_string_equal(json_string_value(json_array_get(json_object_get(o, "addresses"), 0)),
                        "[2001:db8::1]:1");
    json_decref(o);
    cli(&r, state, "resolve", "f@h", "--discovery-dir", "disc");
    expect_out(&r, 0, "not found");
    expect_out(&r, 0, "192.0.2.5:5");
    expect_out(&r, 0, "dials     192.0.2.5:5");
}

/* The name of this machine needs no DNS, which may say 127.0.1.1, or what a router has. */
static void resolve_own_host_as_a_node_does(void **state)
{
    char host[256];
    char entry[300];
    struct run r;

    assert_int_equal(gethostname(host, sizeof(host)), 0);
    (void)snprintf(entry, sizeof(entry), "a@h=%s:7", host);
    cli(&r, state, "resolve", "a@h", "--static", entry, "--discovery-dir", "disc");
    expect_out(&r, 0, "dials     127.0.0.1:7 [::1]:7");
}

static void resolve_unknown_and_unresolvable(void **state)
{
    struct run r;

    cli(&r, state, "resolve", "x@h.invalid", "--discovery-dir", "disc", "--dns-servers",
        "127.0.0.1:1", "--timeout", "300");
    assert_int_equal(r.status, 3);
    expect_err(&r, 3, "nothing that was asked knows the node");
    cli(&r, state, "resolve", "x@h", "--discovery-dir", "disc", "--static", "x@h=no.invalid:1",
        "--dns-servers", "127.0.0.1:1", "--timeout", "300");
    expect_err(&r, 1, "has no address");
    cli(&r, state, "resolve", "nonsense");
    expect_err(&r, 2, "not a node name");
}

static void resolve_wrong_options_are_refused(void **state)
{
    struct run r;

    cli(&r, state, "resolve", "x@h", "--static", "x@h");
    expect_err(&r, 2, "NODE=HOST:PORT");
    cli(&r, state, "resolve", "x@h", "--dns-port", "0");
    expect_err(&r, 2, "--dns-port");
    cli(&r, state, "resolve", "x@h", "--timeout", "0");
    expect_err(&r, 2, "--timeout");
    cli(&r, state, "resolve", "x@h", "--timeout", "5s");
    expect_err(&r, 2, "--timeout");
    cli(&r, state, "resolve", "x@h", "--dns-domain", "");
    expect_err(&r, 2, "--dns-domain has an empty value");
    cli(&r, state, "resolve", "x@h", "--confg", "x");
    expect_err(&r, 2, "did you mean --config?");
    cli(&r, state, "resolve", "x@h", "--config", "none.config");
    expect_err(&r, 3, "none.config");
    put_file(state, "bad.config", "[{barrel_p2p, [{discovery_timeout, 0}]}].");
    cli(&r, state, "resolve", "x@h", "--config", "bad.config");
    expect_err(&r, 6, "discovery_timeout must be an integer from 1 to 60000");
}

static const char config[] = "[{quic, [{dist_port, 7000}, {dist, [{nodes, [{'s@h', {\"192.0.2.1\", "
                             "1}}, {\"t@h\", {1,2,3,4}, 2}, "
                             "{u@h}]}, {family, inet}]}]},\n"
                             " {barrel_p2p, [{discovery_dir, \"disc\"}, {runtime_dir, none},\n"
                             "   {discovery_backends, [barrel_p2p_discovery_file, my_registry, "
                             "{barrel_p2p_discovery_static, []},\n"
                             "                         barrel_p2p_discovery_dns]}]}].\n";

static void resolve_and_names_read_a_sys_config(void **state)
{
    struct run r;
    json_t *o;

    put_file(state, "c.config", config);
    cli(&r, state, "resolve", "t@h", "--config", "c.config", "--json");
    assert_int_equal(r.status, 0);
    assert_non_null(strstr(r.err, "ignored in {quic"));
    o = cli_json(&r);
    /* in the order of the chain */
    assert_string_equal(member(json_array_get(json_object_get(o, "backends"), 0), "backend"),
                        "file");
    assert_string_equal(member(answer(o, "my_registry"), "error"), "not_asked");
    assert_string_equal(first_host(answer(o, "static")), "1.2.3.4");
    json_decref(o);
    cli(&r, state, "resolve", "x@127.0.0.9", "--config", "c.config");
    expect_out(&r, 0, "127.0.0.9:7000");
    cli(&r, state, "resolve", "x@127.0.0.9", "--config", "c.config", "--node", "me@127.0.0.9");
    assert_int_equal(r.status, 3); /* nobody else has that node's port on its host */
    cli(&r, state, "names", "--config", "c.config");
    expect_out(&r, 0, "both@h");
    expect_out(&r, 0, "s@h                                          1  static");
    expect_out(&r, 0, "t@h                                          2  static");
    assert_non_null(strstr(r.err, "my_registry: only a node"));
}

static void names_merges_what_several_know(void **state)
{
    struct run r;
    json_t *o;

    cli(&r, state, "names", "--discovery-dir", "disc", "--static", "f@h=1.2.3.4:5", "--static",
        "f@h=1.2.3.4:6", "--json");
    assert_int_equal(r.status, 0);
    o = cli_json(&r);
    assert_int_equal(json_array_size(json_object_get(o, "nodes")), 3);
    assert_string_equal(member(json_array_get(json_object_get(o, "nodes"), 1), "backends"),
                        "static, file");
    json_decref(o);
    put_file(state, "disc/broken@h.endpoint", "nonsense");
    cli(&r, state, "names", "--discovery-dir", "disc");
    expect_err(&r, 0, "broken@h.endpoint");
    cli(&r, state, "names", "--discovery-dir", "disc/f@h.endpoint");
    expect_err(&r, 0, "file: left out");
}

/* --- DNS ------------------------------------------------------------------------- */

static const struct dns_row rows[] = {
    {"_erlang-dist._quic.c.example", DNS_SRV, 10, "a.two.example", 5003, 1},
    {"two.example", DNS_A, 20, "192.0.2.3", 0, 0},
    {"a.two.example", DNS_A, 20, "192.0.2.4", 0, 0},
    {0}};

static struct dns_server server;
static int quit[2];

static void *serve(void *arg)
{
    struct pollfd p[] = {{server.fd, POLLIN, 0}, {quit[0], POLLIN, 0}};

    while (poll(p, 2, -1) >= 0 && p[1].revents == 0) {
        dns_server_serve(&server);
    }
    return arg;
}

static void resolve_asks_dns(void **state)
{
    pthread_t thread;
    struct run r;

    dns_server_open(&server, rows);
    assert_int_equal(pipe(quit), 0);
    assert_int_equal(pthread_create(&thread, NULL, serve, NULL), 0);
    cli(&r, state, "resolve", "x@two.example", "--discovery-dir", "disc", "--dns-servers",
        server.text, "--dns-port", "77");
    expect_out(&r, 0, "dials     192.0.2.3:77");
    cli(&r, state, "resolve", "a@two.example", "--discovery-dir", "disc", "--dns-servers",
        server.text, "--dns-domain", "c.example");
    expect_out(&r, 0, "a.two.example:5003");
    expect_out(&r, 0, "dials     192.0.2.4:5003");
    cli(&r, state, "names", "--discovery-dir", "disc", "--dns-servers", server.text, "--dns-domain",
        "c.example");
    expect_out(&r, 0, "a@two.example                             5003  dns");
    assert_int_equal(write(quit[1], "x", 1), 1);
    assert_int_equal(pthread_join(thread, NULL), 0);
    close(quit[0]);
    close(quit[1]);
    /* nobody answers any more */
    cli(&r, state, "names", "--discovery-dir", "disc", "--dns-servers", server.text, "--dns-domain",
        "c.example", "--timeout", "300");
    expect_err(&r, 0, "dns: left out: timed out");
    expect_out(&r, 0, "f@h");
    dns_server_close(&server);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, tmpdir_teardown)

static const struct CMUnitTest tests[] = {
    TEST(resolve_shows_each_backends_answer), TEST(resolve_unknown_and_unresolvable),
    TEST(resolve_wrong_options_are_refused),  TEST(resolve_and_names_read_a_sys_config),
    TEST(names_merges_what_several_know),     TEST(resolve_asks_dns),
    TEST(resolve_own_host_as_a_node_does),
};

int main(void)
{
    return cmocka_run_group_tests(tests, cli_enter_root, NULL) != 0;
}
