/* SPDX-License-Identifier: Apache-2.0 */
/* barrel-p2p config check: what the VM and a node refuse is refused, with words. */
#include "cli/run.h"

static void put_config(void **state, const char *name, const char *text)
{
    char path[PATH_MAX];

    tmpdir_put(tmpdir_path(state, name, path), text, strlen(text));
}

static void check(struct run *r, void **state, const char *text)
{
    put_config(state, "sys.config", text);
    cli(r, state, "config", "check", "sys.config");
}

/* The value of a key, and where it came from. */
static void expect_key(const json_t *o, const char *key, const char *value, const char *origin)
{
    const json_t *keys = json_object_get(o, "keys");
    size_t i;
    const json_t *k;

    json_array_foreach(keys, i, k)
    {
        if (strcmp(member(k, "key"), key) == 0) {
            assert_string_equal(member(k, "value"), value);
            assert_string_equal(member(k, "origin"), origin);
            return;
        }
    }
    fail_msg("no key %s", key);
}

static void config_shows_what_is_in_force(void **state)
{
    struct run r;
    json_t *o;

    put_config(
        state, "sys.config",
        "%% a comment\n"
        "[{kernel, [{logger_level, info}]},\n"
        " {quic, [{dist_port, 4433}, {dist, [{family, inet}, {dns_domain, <<\"c.example\">>}]}]},\n"
        " {barrel_p2p, [{dist_cookie, secret}, {keepalive, 16#3e8},\n"
        "               {advertise, [{\"h\", 1}, {1,2,3,4}]}]}].\n");
    cli(&r, state, "config", "check", "sys.config", "--json");
    assert_int_equal(r.status, 0);
    o = cli_json(&r);
    assert_true(json_is_true(json_object_get(o, "valid")));
    assert_int_equal(json_array_size(json_object_get(o, "errors")), 0);
    assert_int_equal(json_array_size(json_object_get(o, "warnings")), 0);
    expect_key(o, "dist_port", "4433", "environment");
    expect_key(o, "family", "inet", "environment");
    expect_key(o, "dns_domain", "<<\"c.example\">>", "environment");
    expect_key(o, "keepalive", "1000", "environment");
    expect_key(o, "advertise", "[{\"h\",1},{1,2,3,4}]", "environment");
    expect_key(o, "listen_port", "0", "default");
    expect_key(o, "auth_key_dir", "\"data/keys\"", "default");
    json_decref(o);
    cli(&r, state, "config", "check", "sys.config");
    expect_out(&r, 0, "dist_port                  file      4433");
    expect_out(&r, 0, "dist_streams               default   16");
}

/* The output of a check ends up in the logs of builds. */
static void config_secrets_are_not_shown(void **state)
{
    struct run r;
    json_t *o;

    put_config(state, "s.config",
               "[{barrel_p2p, [{dist_cookie, cook13}, {relays, [{'a@h', {socks5, \"p\", 1080, "
               "#{username => \"u\", password => \"a,}\\\"pa55\"}}}, {'b@h', {socks5, \"q\", 1080, "
               "#{password => <<\"pa55\">>, username => \"w\"}}}]}]}].");
    for (int json = 0; json < 2; json++) {
        cli(&r, state, "config", "check", "s.config", json ? "--json" : NULL);
        assert_int_equal(r.status, 0);
        assert_null(strstr(r.out, "cook13"));
        assert_null(strstr(r.out, "pa55"));
        assert_non_null(strstr(r.out, "username"));
        assert_non_null(strstr(r.out, "b@h"));
    }
    o = cli_json(&r);
    expect_key(o, "dist_cookie", "'***'", "environment");
    json_decref(o);
    check(&r, state,
          "[{barrel_p2p, [{dist_cookie, 4711}, {relays, [{'a@h', {socks5, \"p\", 1080, "
          "#{username => 1, password => \"pa55\"}}}]}]}].");
    assert_int_equal(r.status, 6);
    assert_null(strstr(r.out, "4711"));
    assert_null(strstr(r.out, "pa55"));
    assert_null(strstr(r.err, "pa55"));
}

/* Of a key that may stand in both places the one in barrel_p2p counts; both are checked. */
static void config_keys_in_both_places(void **state)
{
    struct run r;
    json_t *o;

    put_config(state, "c.config",
               "[{barrel_p2p, [{dist_streams, 2}]}, {quic, [{dist, [{dist_streams, 3}, "
               "{idle_timeout, 5000}]}]}].");
    cli(&r, state, "config", "check", "c.config", "--json");
    assert_int_equal(r.status, 0);
    o = cli_json(&r);
    expect_key(o, "dist_streams", "2", "environment");
    expect_key(o, "idle_timeout", "5000", "environment");
    json_decref(o);
    check(&r, state, "[{quic, [{dist, [{dist_streams, 17}]}]}].");
    expect_out(&r, 6, "{quic, [{dist, [{dist_streams, 17}]}]}: must be an integer from 1 to 16");
}

static void config_wrong_values_are_all_named(void **state)
{
    static const struct {
        const char *config; /* of barrel_p2p, or with "D" of dist */
        const char *says;
    } cases[] = {
        {"{discovery_timeout, 0}", "an integer from 1 to 60000"},
        {"{discovery_timeout, 99999999999999999999}", "99999999999999999999"},
        {"{discovery_backends, not_a_list}", "a list of modules"},
        {"{discovery_backends, [\"text\"]}", "a list of modules"},
        {"{discovery_backends, [undefined]}", "a list of modules"},
        {"{discovery_file_format, xml}", "json or term"},
        {"{advertise, {\"h\", port}}", "Host, {Host, Port}"},
        {"{advertise, []}", "Host, {Host, Port}"},
        {"{advertise, \"a b\"}", "Host, {Host, Port}"},
        {"{advertise, [a,b,c,d,e,f,g,h,i]}", "at most 8"},
        {"{dns_servers, [\"ns.example\"]}", "IP addresses"},
        {"{dns_servers, \"127.0.0.1\"}", "IP addresses"},
        {"{dns_servers, [{\"::1\", 0}]}", "IP addresses"},
        {"{dns_servers, [\"127.1\"]}", "IP addresses"},
        {"{auth_key_dir, 42}", "a path as text"},
        {"{auth_key_dir, \"\"}", "a path as text"},
        {"{runtime_dir, undefined}", "a path as text, or none"},
        {"{keepalive, -1}", "0 to 3600000"},
        {"{auth_enabled, yes}", "true or false"},
        {"{auth_handshake_timeout, 0}", "milliseconds > 0 or infinity"},
        {"{cookie_only_nodes, [a|b]}", "a list of node names"},
        {"{contact_nodes, [foo]}", "a list of node names (name@host)"},
        {"{dist_cookie, ''}", "an atom or text"},
        {"{listen_port, \"65536\"}", "a port, 0 to 65535"},
        {"{listen_port, 1.0}", "a port, 0 to 65535"},
        {"{dist_cookie, 17}", "an atom or text"},
        {"D{family, ipv6}", "auto, inet or inet6"},
        {"D{bind, \"localhost\"}", "an IP address or any"},
        {"D{bind, {1,2,3}}", "an IP address or any"},
        {"D{dns_ttl, forever}", "0 to 86400"},
        {"D{dns_domain, ''}", "text"},
        {"Ddns_domain", "true"},
        {"D{psks, secret}", "left out"},
        {"D{nodes, none}", "a list"},
        {"D{register_with_epmd, true}", "false"},
        {"D{discovery_module, undefined}", "a module"},
        {"D{auth_callback, m}", "{Module, Function}"},
        {"D{auth_callback, \"a:b:c\"}", "{Module, Function}"},
        {"D{auth_callback, fun m:f/2}", "{Module, Function}"},
        {"D{auth_callback, undefined}", "auth_enabled"},
        {"{cookie_only_nodes, ['*@h']}, {dist_cookie, barrel_p2p}", "cookie of your own"},
    };
    struct run r;
    char text[512];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        bool dist = cases[i].config[0] == 'D';
        snprintf(text, sizeof(text), dist ? "[{quic, [{dist, [%s]}]}]." : "[{barrel_p2p, [%s]}].",
                 cases[i].config + dist);
        check(&r, state, text);
        if (r.status != 6 || strstr(r.out, cases[i].says) == NULL ||
            strstr(r.out, "error: ") == NULL) {
            fail_msg("%s: %d %s%s", cases[i].config, r.status, r.out, r.err);
        }
    }
    check(&r, state, "[{barrel_p2p, [{keepalive, x}, {active_size, 0}]}].");
    expect_out(&r, 6, "error: keepalive");
    expect_out(&r, 6, "error: active_size");
}

static void config_good_values_are_good(void **state)
{
    static const char *const good[] = {
        "{discovery_backends, [a, {b, [opts]}]}",
        "{advertise, \"h\"}",
        "{advertise, {1,2,3,4}}",
        "{advertise, [{{0,0,0,0,0,0,0,1}, 5}, h]}",
        "{advertise, undefined}",
        "{advertise, <<\"h.example\">>}",
        "{dns_servers, [\"::1\", {{1,2,3,4}, 53}, <<\"127.0.0.1\">>]}",
        "{listen_port, \"4433\"}",
        "{auth_key_dir, <<\"x\">>}",
        "{auth_key_dir, \"caf\\x{e9}\"}",
        "{runtime_dir, none}",
        "{max_datagram_bytes, undefined}",
        "{cookie_only_nodes, ['a@b', \"*@c\", <<\"d@e\">>]}, {dist_cookie, \"mine\"}",
        "{auth_handshake_timeout, infinity}",
        "{discovery_timeout, 60000}",
        "D{bind, any}",
        "D{bind, {127,0,0,1}}",
        "D{bind, \"fe80::1%eth0\"}",
        "D{auth_callback, {m, f}}",
        "D{auth_callback, \"m:f\"}",
        "D{auth_callback, <<\"m:f\">>}",
        "D{auth_callback, fun m:f/3}",
        "D{cert_file, undefined}",
        "D{psks, undefined}",
        "D{family, inet}, {family, nonsense}" /* the first one counts */};
    struct run r;
    char text[512];

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        bool dist = good[i][0] == 'D';
        snprintf(text, sizeof(text), dist ? "[{quic, [{dist, [%s]}]}]." : "[{barrel_p2p, [%s]}].",
                 good[i] + dist);
        check(&r, state, text);
        if (r.status != 0) {
            fail_msg("%s: %d %s%s", good[i], r.status, r.out, r.err);
        }
    }
}

static void config_warnings_do_not_fail(void **state)
{
    struct run r;

    check(
        &r, state,
        "[{barrel_p2p, [{auth_trust_mod, strict}, {completely_different, 1}, {dns_domain, \"x\"}, "
        "{auth_enabled, false}, {address, x}]}, "
        "{quic, [{dist, [{verify, verify_peer}, {nodes, [{'a@h', {\"h\", 1}}, {'b@h', \"h\", "
        "0}]}, {fmaily, inet}]}]}].");
    expect_out(&r, 0, "{quic, [{dist, [{fmaily, _}]}]}: no such key; did you mean family?");
    expect_out(&r, 0, "did you mean auth_trust_mode?");
    expect_out(&r, 0, "completely_different, _}]}: no such key; docs/configuration.md");
    expect_out(&r, 0, "it belongs into {quic, [{dist, [{dns_domain, _}]}]}");
    expect_out(&r, 0, "peers are NOT authenticated");
    expect_out(&r, 0, "warning: verify: the key has no effect");
    expect_out(&r, 0, "warning: address: the key has no effect");
    expect_out(&r, 0, "({b@h,\"h\",0})");
    expect_out(&r, 0, "the public default 'barrel_p2p' unless -setcookie");
}

static void config_what_the_vm_refuses(void **state)
{
    static const struct {
        const char *text;
        const char *says;
    } cases[] = {
        {"{barrel_p2p, []}.", "one list"},
        {"[{barrel_p2p, []}]", "sys.config:1:"},
        {"[{barrel_p2p, []}]. [].", "sys.config:1:"},
        {"[\n{barrel_p2p [{x, 1}]}].", "sys.config:2:"},
        {"", "sys.config:1:"},
        {"[{barrel_p2p, foo}].", "must be a list"},
        {"[{barrel_p2p, [x]}].", "{Key, Value}"},
        {"[{other, [{x, 1}, {x, 2}]}].", "stands twice"},
        {"[{\"barrel_p2p\", []}].", "must be an atom"},
        {"[barrel_p2p].", "{Application, [{Key, Value}]}"},
        {"[{barrel_p2p, []} | x].", "one list"},
    };
    struct run r;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        check(&r, state, cases[i].text);
        if (r.status != 6 || strstr(r.err, cases[i].says) == NULL) {
            fail_msg("%s: %d %s", cases[i].text, r.status, r.err);
        }
    }
    cli(&r, state, "config", "check", "nothing.config");
    expect_err(&r, 3, "nothing.config");
    cli(&r, state, "config", "check", ".");
    expect_err(&r, 1, "not a regular file");
    cli(&r, state, "config", "check", "nothing.config", "--json");
    assert_int_equal(r.status, 3);
    assert_non_null(strstr(r.out, "\"error\": \"not_found\""));
}

/* As application_controller does it: they stand beside the file, and count more. */
static void config_files_that_a_sys_config_names(void **state)
{
    char dir[PATH_MAX];
    struct run r;
    json_t *o;

    assert_int_equal(mkdir(tmpdir_path(state, "rel", dir), 0700), 0);
    put_config(
        state, "rel/sys.config",
        "[{barrel_p2p, [{keepalive, 1}, {idle_timeout, 5000}]}, \"more\", \"last.config\"].");
    put_config(state, "rel/more.config", "[{barrel_p2p, [{keepalive, 2}, {active_size, 3}]}].");
    put_config(state, "rel/last.config", "[{barrel_p2p, [{keepalive, 3}]}].");
    cli(&r, state, "config", "check", "rel/sys.config", "--json");
    assert_int_equal(r.status, 0);
    o = cli_json(&r);
    expect_key(o, "keepalive", "3", "environment");
    expect_key(o, "active_size", "3", "environment");
    expect_key(o, "idle_timeout", "5000", "environment");
    json_decref(o);
    /* only there */
    put_config(state, "rel/other.config", "[\"more\"].");
    cli(&r, state, "config", "check", "rel/other.config");
    expect_err(&r, 6, "{Application");
    put_config(state, "rel/sys.config", "[\"nothing\"].");
    cli(&r, state, "config", "check", "rel/sys.config");
    expect_err(&r, 3, "nothing.config");
}

static const struct CMUnitTest tests[] = {
    TMPDIR_TEST(config_shows_what_is_in_force), TMPDIR_TEST(config_keys_in_both_places),
    TMPDIR_TEST(config_secrets_are_not_shown),  TMPDIR_TEST(config_wrong_values_are_all_named),
    TMPDIR_TEST(config_good_values_are_good),   TMPDIR_TEST(config_warnings_do_not_fail),
    TMPDIR_TEST(config_what_the_vm_refuses),    TMPDIR_TEST(config_files_that_a_sys_config_names),
};

int main(void)
{
    return cmocka_run_group_tests(tests, cli_enter_root, NULL) != 0;
}
