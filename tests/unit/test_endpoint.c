/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoint files: what upstream writes, what people edit, what is broken. */
#include "support/t.h"

#include "base/err.h"
#include "discovery/endpoint.h"

static int parse(const char *text, struct bp_endpoint *ep)
{
    return bp_endpoint_parse(text, strlen(text), ep);
}

static void endpoint_upstream_text_is_read(void **state)
{
    struct bp_endpoint ep;
    (void)state;

    assert_int_equal(parse("{\"127.0.0.1\",9001}.\n", &ep), 0);
    assert_string_equal(ep.host, "127.0.0.1");
    assert_int_equal(ep.port, 9001);
    assert_int_equal(parse("{\"fe80::1:2\",65535}.", &ep), 0);
    assert_string_equal(ep.host, "fe80::1:2");
    assert_int_equal(ep.port, 65535);
    assert_int_equal(parse(" \r\n{ \"My-host_1.example\"\t,\n 1 } . \n\n", &ep), 0);
    assert_string_equal(ep.host, "My-host_1.example");
    assert_int_equal(ep.port, 1);
}

static void endpoint_broken_text_is_refused_and_zeroed(void **state)
{
    static const char *const bad[] = {
        "",
        " ",
        "{",
        "{\"h\",1}", /* no end of term: a write that was cut off */
        "{\"h\",1",
        "{\"h\",}.",
        "{\"h\",0}.",
        "{\"h\",01}.",
        "{\"h\",65536}.",
        "{\"h\",4294967297}.",
        "{\"h\",-1}.",
        "{\"h\",1.5}.",
        "{\"h\",1}. x",
        "{\"h\",1}..",
        "{\"h\",1,2}.",
        "{\"\",1}.",
        "{\"h h\",1}.",
        "{\" h\",1}.",
        "{\"h\\n\",1}.",
        "{\"h;rm\",1}.",
        "{\"h/..\",1}.",
        "{h,1}.",
        "{'h',1}.",
        "[\"h\",1].",
        "{\"host\": \"h\", \"port\": 1}",
        "x{\"h\",1}.",
    };
    (void)state;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct bp_endpoint ep = {.host = "old", .port = 7};
        assert_int_equal(parse(bad[i], &ep), BP_E_FILE);
        assert_string_equal(ep.host, "");
        assert_int_equal(ep.port, 0);
    }
}

static void endpoint_nul_and_truncation_are_refused(void **state)
{
    static const char text[] = "{\"127.0.0.1\",9001}.\n";
    struct bp_endpoint ep;
    (void)state;

    for (size_t len = 0; len < sizeof(text) - 2; len++) {
        assert_int_equal(bp_endpoint_parse(text, len, &ep), BP_E_FILE);
    }
    assert_int_equal(bp_endpoint_parse(text, sizeof(text) - 2, &ep), 0);
    assert_int_equal(bp_endpoint_parse(text, sizeof(text), &ep), BP_E_FILE); /* with the NUL */
    assert_int_equal(bp_endpoint_parse("{\"a\0b\",1}.", 10, &ep), BP_E_FILE);
}

static void endpoint_host_and_file_sizes_are_limited(void **state)
{
    char host[300];
    char text[BP_ENDPOINT_TEXT_MAX + 8];
    struct bp_endpoint ep;
    int n;
    (void)state;

    memset(host, 'h', sizeof(host));
    n = snprintf(text, sizeof(text), "{\"%.255s\",1}.", host);
    assert_int_equal(bp_endpoint_parse(text, (size_t)n, &ep), 0);
    assert_int_equal(strlen(ep.host), 255);
    n = snprintf(text, sizeof(text), "{\"%.256s\",1}.", host);
    assert_int_equal(bp_endpoint_parse(text, (size_t)n, &ep), BP_E_FILE);

    memset(text, ' ', sizeof(text));
    memcpy(text, "{\"h\",1}.", 8);
    assert_int_equal(bp_endpoint_parse(text, BP_ENDPOINT_TEXT_MAX, &ep), 0);
    assert_int_equal(bp_endpoint_parse(text, BP_ENDPOINT_TEXT_MAX + 1, &ep), BP_E_FILE);
}

static void endpoint_format_writes_upstream_text(void **state)
{
    struct bp_endpoint ep = {.host = "b.example", .port = 4711};
    struct bp_endpoint again;
    char buf[64];
    char text[320];
    int n;
    (void)state;

    n = bp_endpoint_format(&ep, buf, sizeof(buf));
    assert_string_equal(buf, "{\"b.example\",4711}.\n");
    assert_int_equal(n, (int)strlen(buf));
    assert_int_equal(bp_endpoint_parse(buf, (size_t)n, &again), 0);
    assert_string_equal(again.host, ep.host);
    assert_int_equal(again.port, ep.port);
    assert_int_equal(bp_endpoint_format(&ep, buf, (size_t)n), BP_E_LIMIT);
    assert_int_equal(bp_endpoint_format(&ep, buf, (size_t)n + 1), n);

    memset(ep.host, 'h', 255);
    ep.host[255] = '\0';
    assert_int_equal(bp_endpoint_format(&ep, text, sizeof(text)), 255 + 11);
    memset(ep.host, 'h', 256); /* not terminated */
    assert_int_equal(bp_endpoint_format(&ep, text, sizeof(text)), BP_E_INVALID);
}

static void endpoint_format_refuses_what_parse_would(void **state)
{
    char buf[64];
    (void)state;

    assert_int_equal(bp_endpoint_format(&(struct bp_endpoint){.host = "h"}, buf, 64), BP_E_INVALID);
    assert_int_equal(bp_endpoint_format(&(struct bp_endpoint){.port = 1}, buf, 64), BP_E_INVALID);
    assert_int_equal(
        bp_endpoint_format(&(struct bp_endpoint){.host = "h\",1}.", .port = 1}, buf, 64),
        BP_E_INVALID);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(endpoint_upstream_text_is_read),
    cmocka_unit_test(endpoint_broken_text_is_refused_and_zeroed),
    cmocka_unit_test(endpoint_nul_and_truncation_are_refused),
    cmocka_unit_test(endpoint_host_and_file_sizes_are_limited),
    cmocka_unit_test(endpoint_format_writes_upstream_text),
    cmocka_unit_test(endpoint_format_refuses_what_parse_would),
};

T_MAIN(tests)
