/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoint files: what upstream writes, what people edit, what is broken. */
#include "support/t.h"

#include "base/err.h"
#include "discovery/endpoint.h"

/* The first address, and how many there are. */
static int parse_text(const char *text, size_t len, struct bp_endpoint *ep, size_t *n)
{
    struct bp_endpoints eps;
    int rc;

    memset(&eps, 0xff, sizeof(eps));
    rc = bp_endpoints_parse(text, len, &eps);
    *ep = eps.at[0];
    *n = eps.n;
    return rc;
}

static int parse(const char *text, struct bp_endpoint *ep)
{
    size_t n;
    int rc = parse_text(text, strlen(text), ep, &n);

    assert_int_equal(n, rc == 0 ? 1 : 0);
    return rc;
}

static int parse_len(const char *text, size_t len, struct bp_endpoint *ep)
{
    size_t n;

    return parse_text(text, len, ep, &n);
}

static int format(const struct bp_endpoint *ep, enum bp_endpoint_format f, char *buf, size_t cap)
{
    struct bp_endpoints eps = {.n = 1, .at = {*ep}};

    return bp_endpoints_format(&eps, f, buf, cap);
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
        assert_int_equal(parse_len(text, len, &ep), BP_E_FILE);
    }
    assert_int_equal(parse_len(text, sizeof(text) - 2, &ep), 0);
    assert_int_equal(parse_len(text, sizeof(text), &ep), BP_E_FILE); /* with the NUL */
    assert_int_equal(parse_len("{\"a\0b\",1}.", 10, &ep), BP_E_FILE);
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
    assert_int_equal(parse_len(text, (size_t)n, &ep), 0);
    assert_int_equal(strlen(ep.host), 255);
    n = snprintf(text, sizeof(text), "{\"%.256s\",1}.", host);
    assert_int_equal(parse_len(text, (size_t)n, &ep), BP_E_FILE);

    memset(text, ' ', sizeof(text));
    memcpy(text, "{\"h\",1}.", 8);
    assert_int_equal(parse_len(text, BP_ENDPOINT_TEXT_MAX, &ep), 0);
    assert_int_equal(parse_len(text, BP_ENDPOINT_TEXT_MAX + 1, &ep), BP_E_FILE);
}

static void endpoint_format_writes_upstream_text(void **state)
{
    struct bp_endpoint ep = {.host = "b.example", .port = 4711};
    struct bp_endpoint again;
    char buf[64];
    char text[320];
    int n;
    (void)state;

    n = format(&ep, BP_ENDPOINT_TERM, buf, sizeof(buf));
    assert_string_equal(buf, "{\"b.example\",4711}.\n");
    assert_int_equal(n, (int)strlen(buf));
    assert_int_equal(parse_len(buf, (size_t)n, &again), 0);
    assert_string_equal(again.host, ep.host);
    assert_int_equal(again.port, ep.port);
    assert_int_equal(format(&ep, BP_ENDPOINT_TERM, buf, (size_t)n), BP_E_LIMIT);
    assert_int_equal(format(&ep, BP_ENDPOINT_TERM, buf, (size_t)n + 1), n);

    memset(ep.host, 'h', 255);
    ep.host[255] = '\0';
    assert_int_equal(format(&ep, BP_ENDPOINT_TERM, text, sizeof(text)), 255 + 11);
    memset(ep.host, 'h', 256); /* not terminated */
    assert_int_equal(format(&ep, BP_ENDPOINT_TERM, text, sizeof(text)), BP_E_INVALID);
}

static void endpoint_format_refuses_what_parse_would(void **state)
{
    char buf[64];
    (void)state;

    for (enum bp_endpoint_format f = BP_ENDPOINT_JSON; f <= BP_ENDPOINT_TERM; f++) {
        static const struct bp_endpoint bad[] = {
            {.host = "h"}, {.port = 1}, {.host = "h\",1}.", .port = 1}, {.host = "h\n", .port = 1}};
        struct bp_endpoints eps = {.n = 2, .at = {{.host = "h", .port = 1}}};

        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
            assert_int_equal(format(&bad[i], f, buf, 64), BP_E_INVALID);
            eps.at[1] = bad[i];
            assert_int_equal(bp_endpoints_format(&eps, f, buf, 64), BP_E_INVALID);
        }
        eps.n = 0;
        assert_int_equal(bp_endpoints_format(&eps, f, buf, 64), BP_E_INVALID);
        eps.n = BP_ENDPOINTS_MAX + 1;
        assert_int_equal(bp_endpoints_format(&eps, f, buf, 64), BP_E_INVALID);
    }
}

static void endpoint_json_is_read(void **state)
{
    struct bp_endpoint ep;
    (void)state;

    assert_int_equal(parse("{\"host\": \"192.0.2.1\", \"port\": 4433}", &ep), 0);
    assert_string_equal(ep.host, "192.0.2.1");
    assert_int_equal(ep.port, 4433);
    assert_int_equal(
        parse("\n{\"port\":1,\"node\":\"a@b\",\"host\":\"fe80::1\",\"x\":[{}]}\n\n", &ep), 0);
    assert_string_equal(ep.host, "fe80::1");
    assert_int_equal(ep.port, 1);
}

static void endpoint_broken_json_is_refused(void **state)
{
    static const char *const bad[] = {
        "{\"host\":\"h\",\"port\":1",
        "{\"host\":\"h\",\"port\":1}}",
        "{\"host\":\"h\",\"port\":1} x",
        "{\"host\":\"h\"}",
        "{\"port\":1}",
        "{}",
        "[]",
        "null",
        "\"h\"",
        "[\"h\",1]",
        "{\"host\":\"\",\"port\":1}",
        "{\"host\":\"h h\",\"port\":1}",
        "{\"host\":\"h\\u0000\",\"port\":1}",
        "{\"host\":\"h\\n\",\"port\":1}",
        "{\"host\":\"\\u00e4\",\"port\":1}",
        "{\"host\":1,\"port\":1}",
        "{\"host\":\"h\",\"port\":\"1\"}",
        "{\"host\":\"h\",\"port\":0}",
        "{\"host\":\"h\",\"port\":-1}",
        "{\"host\":\"h\",\"port\":65536}",
        "{\"host\":\"h\",\"port\":1.0}",
        "{\"host\":\"h\",\"port\":18446744073709551617}",
        "{\"host\":\"h\",\"host\":\"i\",\"port\":1}",
        "{\"host\":\"h\",\"port\":1,\"addresses\":[]}",
        "{\"host\":\"h\",\"port\":1,\"addresses\":{}}",
        "{\"host\":\"h\",\"port\":1,\"addresses\":[{\"host\":\"h\"}]}",
        "{\"host\":\"h\",\"port\":1,\"addresses\":[\"h\"]}",
    };
    struct bp_endpoint ep;
    char deep[1024];
    (void)state;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(parse(bad[i], &ep), BP_E_FILE);
        assert_string_equal(ep.host, "");
    }
    memset(deep, '[', sizeof(deep));
    assert_int_equal(parse_len(deep, sizeof(deep), &ep), BP_E_FILE);
}

static void endpoint_json_holds_several_addresses(void **state)
{
    struct bp_endpoints eps = {.n = BP_ENDPOINTS_MAX};
    struct bp_endpoints again;
    char buf[BP_ENDPOINT_TEXT_MAX];
    int n;
    (void)state;

    for (size_t i = 0; i < eps.n; i++) { /* the longest that there can be */
        memset(eps.at[i].host, 'a' + (int)i, BP_ENDPOINT_HOST_MAX);
        eps.at[i].port = (uint16_t)(UINT16_MAX - i);
    }
    n = bp_endpoints_format(&eps, BP_ENDPOINT_JSON, buf, sizeof(buf));
    assert_true(n > 0);
    assert_int_equal(bp_endpoints_parse(buf, (size_t)n, &again), 0);
    assert_int_equal(again.n, BP_ENDPOINTS_MAX);
    for (size_t i = 0; i < eps.n; i++) {
        assert_string_equal(again.at[i].host, eps.at[i].host);
        assert_int_equal(again.at[i].port, eps.at[i].port);
    }
    assert_int_equal(bp_endpoints_format(&eps, BP_ENDPOINT_JSON, buf, (size_t)n), BP_E_LIMIT);
    assert_int_equal(bp_endpoints_format(&eps, BP_ENDPOINT_JSON, buf, (size_t)n + 1), n);
    /* a term has room for one */
    n = bp_endpoints_format(&eps, BP_ENDPOINT_TERM, buf, sizeof(buf));
    assert_int_equal(bp_endpoints_parse(buf, (size_t)n, &again), 0);
    assert_int_equal(again.n, 1);
    assert_string_equal(again.at[0].host, eps.at[0].host);
    /* one too many */
    n = snprintf(buf, sizeof(buf), "{\"host\":\"h\",\"port\":1,\"addresses\":[");
    for (unsigned i = 0; i <= BP_ENDPOINTS_MAX; i++) {
        n += snprintf(buf + n, sizeof(buf) - (size_t)n, "%s{\"host\":\"h\",\"port\":1}",
                      i ? "," : "");
    }
    n += snprintf(buf + n, sizeof(buf) - (size_t)n, "]}");
    assert_int_equal(bp_endpoints_parse(buf, (size_t)n, &again), BP_E_FILE);
}

static void endpoint_json_is_the_documented_text(void **state)
{
    struct bp_endpoint ep = {.host = "b.example", .port = 4711};
    char buf[64];
    (void)state;
    int n = format(&ep, BP_ENDPOINT_JSON, buf, sizeof(buf));

    assert_string_equal(buf, "{\"host\": \"b.example\", \"port\": 4711}\n");
    assert_int_equal(n, (int)strlen(buf));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(endpoint_upstream_text_is_read),
    cmocka_unit_test(endpoint_broken_text_is_refused_and_zeroed),
    cmocka_unit_test(endpoint_nul_and_truncation_are_refused),
    cmocka_unit_test(endpoint_host_and_file_sizes_are_limited),
    cmocka_unit_test(endpoint_format_writes_upstream_text),
    cmocka_unit_test(endpoint_format_refuses_what_parse_would),
    cmocka_unit_test(endpoint_json_is_read),
    cmocka_unit_test(endpoint_broken_json_is_refused),
    cmocka_unit_test(endpoint_json_holds_several_addresses),
    cmocka_unit_test(endpoint_json_is_the_documented_text),
};

T_MAIN(tests)
