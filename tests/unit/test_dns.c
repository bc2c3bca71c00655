/* SPDX-License-Identifier: Apache-2.0 */
/* SRV answers and the order of addresses. */
#include "support/t.h"

#include "base/err.h"
#include "discovery/dns.h"

static uint8_t msg[4096];
static size_t len;

static void u16(unsigned v)
{
    msg[len++] = (uint8_t)(v >> 8);
    msg[len++] = (uint8_t)v;
}

static void name(const char *s)
{
    while (*s != '\0') {
        size_t n = strcspn(s, ".");
        msg[len++] = (uint8_t)n;
        memcpy(msg + len, s, n);
        len += n;
        s += n + (s[n] == '.');
    }
    msg[len++] = 0;
}

static void begin(unsigned answers)
{
    len = 0;
    u16(1);
    u16(0x8180);
    u16(1);
    u16(answers);
    u16(0);
    u16(0);
    name("_erlang-dist._quic.c.example");
    u16(33);
    u16(1);
}

static void srv(unsigned priority, unsigned weight, unsigned port, unsigned ttl, const char *target)
{
    size_t at;

    u16(0xc00c);
    u16(33);
    u16(1);
    u16(0);
    u16(ttl);
    at = len;
    u16(0);
    u16(priority);
    u16(weight);
    u16(port);
    name(target);
    msg[at] = (uint8_t)((len - at - 2) >> 8);
    msg[at + 1] = (uint8_t)(len - at - 2);
}

static void srv_records_come_in_order_of_preference(void **state)
{
    struct bp_srv_answer a;
    (void)state;

    begin(5);
    srv(20, 9, 4433, 300, "D.c.example");
    srv(10, 1, 4434, 60, "b.c.example");
    srv(10, 5, 4435, 90, "a.c.example");
    srv(0, 0, 0, 1, "no.port");
    srv(0, 0, 4433, 1, ""); /* "there is no such service" */
    assert_int_equal(bp_dns_parse_srv(msg, len, &a), 0);
    assert_int_equal(a.n, 3);
    assert_int_equal(a.ttl, 60);
    assert_string_equal(a.at[0].target, "a.c.example");
    assert_int_equal(a.at[0].port, 4435);
    assert_string_equal(a.at[1].target, "b.c.example");
    assert_string_equal(a.at[2].target, "d.c.example");
    assert_int_equal(a.at[2].priority, 20);
}

static void srv_answer_that_is_broken_is_refused(void **state)
{
    struct bp_srv_answer a;
    size_t whole;
    (void)state;

    begin(1);
    srv(1, 1, 1, 1, "a.c.example");
    whole = len;
    for (size_t n = 0; n < whole; n++) {
        assert_true(bp_dns_parse_srv(msg, n, &a) != 0);
        assert_int_equal(a.n, 0);
    }
    assert_int_equal(bp_dns_parse_srv(msg, whole, &a), 0);
    begin(0);
    assert_int_equal(bp_dns_parse_srv(msg, len, &a), BP_E_NOT_FOUND);
    begin(1);
    srv(1, 1, 1, 1, "a b.example"); /* no host name */
    assert_int_equal(bp_dns_parse_srv(msg, len, &a), BP_E_NOT_FOUND);
}

static void srv_records_are_limited(void **state)
{
    struct bp_srv_answer a;
    (void)state;

    begin(BP_SRV_MAX + 10);
    for (unsigned i = 0; i < BP_SRV_MAX + 10; i++) {
        srv(i, 0, 1, 1, "a.example");
    }
    assert_int_equal(bp_dns_parse_srv(msg, len, &a), 0);
    assert_int_equal(a.n, BP_SRV_MAX);
}

static void service_name_is_upstreams(void **state)
{
    char out[BP_DNS_NAME_MAX + 1];
    char big[300];
    (void)state;

    assert_int_equal(bp_dns_service_name(NULL, "C.example.", out), 0);
    assert_string_equal(out, "_erlang-dist._quic.c.example");
    assert_int_equal(bp_dns_service_name("h1", "c.example", out), 0);
    assert_string_equal(out, "_erlang-dist._quic.h1.c.example");
    assert_int_equal(bp_dns_service_name("h 1", "c.example", out), BP_E_INVALID);
    assert_int_equal(bp_dns_service_name(NULL, "", out), BP_E_INVALID);
    memset(big, 'a', 240);
    big[240] = '\0';
    assert_int_equal(bp_dns_service_name(NULL, big, out), BP_E_LIMIT);
}

static void srv_record_belongs_to_a_node(void **state)
{
    struct bp_srv s = {.port = 1, .target = "node1.c.example"};
    (void)state;

    assert_true(bp_dns_srv_is_node(&s, "x", "node1.c.example", "c.example"));
    assert_true(bp_dns_srv_is_node(&s, "x", "Node1", "c.example"));
    assert_true(bp_dns_srv_is_node(&s, "node1", "c.example", "other"));
    assert_false(bp_dns_srv_is_node(&s, "node1", "node2.c.example", "c.example"));
    assert_false(bp_dns_srv_is_node(&s, "node", "c.example", "c.example"));
    assert_false(bp_dns_srv_is_node(&s, "x", "node1", "example"));
}

static void interleave_is(const char *in, const char *want)
{
    struct bp_addr a[8];
    size_t n = strlen(in) / 2;
    char got[20] = "";

    for (size_t i = 0; i < n; i++) {
        const char *ip = in[2 * i] == '4' ? "192.0.2.1" : "2001:db8::1";
        assert_int_equal(bp_addr_parse(&a[i], ip, (uint16_t)(in[2 * i + 1])), 0);
    }
    bp_dns_interleave(a, n);
    for (size_t i = 0; i < n; i++) {
        got[2 * i] = a[i].u.sa.sa_family == AF_INET ? '4' : '6';
        got[2 * i + 1] = (char)bp_addr_port(&a[i]);
    }
    assert_string_equal(got, want);
}

static void addresses_alternate_between_families(void **state)
{
    (void)state;
    interleave_is("", "");
    interleave_is("4a", "4a");
    interleave_is("4a4b", "4a4b");
    interleave_is("6a6b4c4d", "6a4c6b4d");
    interleave_is("4a4b4c6d", "4a6d4b4c");
    interleave_is("6a4b6c", "6a4b6c");
    interleave_is("4a4b6c6d6e", "4a6c4b6d6e");
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(srv_records_come_in_order_of_preference),
    cmocka_unit_test(srv_answer_that_is_broken_is_refused),
    cmocka_unit_test(srv_records_are_limited),
    cmocka_unit_test(service_name_is_upstreams),
    cmocka_unit_test(srv_record_belongs_to_a_node),
    cmocka_unit_test(addresses_alternate_between_families),
};

T_MAIN(tests)
