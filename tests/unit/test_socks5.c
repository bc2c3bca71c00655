/* SPDX-License-Identifier: Apache-2.0 */
/* The client's side of SOCKS 5, byte by byte and whole. */
#include "relay/socks5.h"
#include "support/t.h"

#include <string.h>

static void expect_out(struct bp_socks5 *s, const void *want, size_t n)
{
    size_t len;
    const uint8_t *p = bp_socks5_out(s, &len);

    assert_int_equal(len, n);
    assert_memory_equal(p, want, n);
    bp_socks5_sent(s, len);
    (void)bp_socks5_out(s, &len);
    assert_int_equal(len, 0);
}

#define REQUEST "\5\3\0\1\0\0\0\0\0\0"

static void without_authentication(void **state)
{
    struct bp_socks5 s;
    struct bp_addr want;

    (void)state;
    assert_int_equal(bp_socks5_init(&s, NULL, NULL), 0);
    expect_out(&s, "\5\1\0", 3);
    assert_int_equal(bp_socks5_in(&s, (const uint8_t *)"\5\0", 2), 0);
    expect_out(&s, REQUEST, 10);
    assert_int_equal(bp_socks5_in(&s, (const uint8_t *)"\5\0\0\1\300\0\2\7\x10\x01", 10), 0);
    assert_int_equal(s.state, BP_SOCKS5_DONE);
    assert_int_equal(bp_addr_parse(&want, "192.0.2.7", 0x1001), 0);
    assert_true(bp_addr_equal(&s.bound, &want));
}

static void with_user_and_password_in_single_bytes(void **state)
{
    static const uint8_t in[] = "\5\2\1\0\5\0\0\4\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1\1\2";
    struct bp_socks5 s;
    struct bp_addr want;
    size_t len;

    (void)state;
    assert_int_equal(bp_socks5_init(&s, "joe", "secret"), 0);
    expect_out(&s, "\5\2\0\2", 4);
    for (size_t i = 0; i < sizeof(in) - 1; i++) {
        assert_int_equal(bp_socks5_in(&s, in + i, 1), 0);
        if (i == 1) {
            expect_out(&s, "\1\3joe\6secret", 12);
        } else if (i == 3) {
            expect_out(&s, REQUEST, 10);
        }
        (void)bp_socks5_out(&s, &len);
        assert_int_equal(len, 0);
        assert_int_equal(s.state == BP_SOCKS5_DONE, i == sizeof(in) - 2);
    }
    assert_int_equal(bp_addr_parse(&want, "2001:db8::1", 0x102), 0);
    assert_true(bp_addr_equal(&s.bound, &want));
    for (size_t i = 0; i < sizeof(s.password); i++) {
        assert_int_equal(s.password[i], 0);
    }
}

/* "Where you talk to me": no address, or a name. */
static void proxys_own_address(void **state)
{
    static const char *const replies[] = {"\5\0\0\1\0\0\0\0\x10\x01", "\5\0\0\3\2pr\x10\x01"};
    static const size_t lens[] = {10, 9};

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct bp_socks5 s;
        assert_int_equal(bp_socks5_init(&s, "", ""), 0);
        assert_int_equal(bp_socks5_in(&s, (const uint8_t *)"\5\0", 2), 0);
        assert_int_equal(bp_socks5_in(&s, (const uint8_t *)replies[i], lens[i]), 0);
        assert_int_equal(s.state, BP_SOCKS5_DONE);
        assert_int_equal(s.bound.len, 0);
        assert_int_equal(s.bound_port, 0x1001);
    }
}

static void refused(const char *user, const void *in, size_t n, const char *text)
{
    struct bp_socks5 s;

    assert_int_equal(bp_socks5_init(&s, user, "p"), 0);
    assert_int_equal(bp_socks5_in(&s, in, n), BP_E_RELAY);
    assert_int_equal(s.state, BP_SOCKS5_FAILED);
    assert_string_equal(s.text, text);
    assert_int_equal(bp_socks5_in(&s, in, n), BP_E_RELAY);
}

static void refusals_say_why(void **state)
{
    (void)state;
    refused(NULL, "HTTP", 4, "what answers there is no SOCKS 5 proxy");
    refused(NULL, "\5\2", 2, "the proxy chose an authentication that was not offered");
    refused(NULL, "\5\377", 2, "the proxy wants a user name and a password");
    refused("joe", "\5\377", 2, "the proxy takes neither user name and password nor nothing");
    refused("joe", "\5\2\1\1", 4, "the proxy did not take the user name and password");
    refused(NULL, "\5\0\5\2", 4, "the proxy's rules do not allow it");
    refused(NULL, "\5\0\5\7", 4, "the proxy does not relay UDP");
    refused(NULL, "\5\0\5\x63", 4, "the proxy refused it");
    refused(NULL, "\5\0\4\0", 4, "what answers there is no SOCKS 5 proxy");
    refused(NULL, "\5\0\5\0\0\7\0", 7, "the proxy's answer has an unknown kind of address");
    refused(NULL, "\5\0\5\0\0\1\1\1\1\1\0\0", 12, "the proxy gave no port");
}

static void too_long_names_are_refused(void **state)
{
    char long_one[BP_SOCKS5_TEXT_MAX + 2];
    struct bp_socks5 s;

    (void)state;
    memset(long_one, 'x', sizeof(long_one));
    long_one[BP_SOCKS5_TEXT_MAX + 1] = '\0';
    assert_int_equal(bp_socks5_init(&s, long_one, "p"), BP_E_INVALID);
    assert_int_equal(bp_socks5_init(&s, "u", long_one), BP_E_INVALID);
    assert_int_equal(bp_socks5_init(&s, "u", NULL), BP_E_INVALID);
    long_one[BP_SOCKS5_TEXT_MAX] = '\0';
    assert_int_equal(bp_socks5_init(&s, long_one, long_one), 0);
    bp_socks5_sent(&s, 4);
    assert_int_equal(bp_socks5_in(&s, (const uint8_t *)"\5\2", 2), 0);
    {
        size_t len;
        (void)bp_socks5_out(&s, &len);
        assert_int_equal(len, 3 + 2 * BP_SOCKS5_TEXT_MAX);
    }
}

static void headers_come_off_as_they_went_on(void **state)
{
    static const char *const ips[] = {"192.0.2.1", "2001:db8::7"};
    static const size_t lens[] = {10, 22};
    uint8_t buf[BP_SOCKS5_HEADER_MAX + 1];

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct bp_addr a;
        assert_int_equal(bp_addr_parse(&a, ips[i], 4433), 0);
        assert_int_equal(bp_socks5_header(buf, &a), lens[i]);
        assert_int_equal(bp_socks5_strip(buf, lens[i]), lens[i]);
        for (size_t len = 0; len < lens[i]; len++) {
            assert_int_equal(bp_socks5_strip(buf, len), 0);
        }
        bp_addr_map_v6(&a); /* as sockets of both families have it */
        assert_int_equal(bp_socks5_header(buf, &a), lens[i]);
        buf[2] = 1;
        assert_int_equal(bp_socks5_strip(buf, lens[i]), 0);
    }
    assert_int_equal(bp_socks5_strip((const uint8_t *)"\0\0\0\3\2ab\1\2x", 10), 9);
    assert_int_equal(bp_socks5_strip((const uint8_t *)"\0\0\0\3\377ab\1\2x", 10), 0);
    assert_int_equal(bp_socks5_strip((const uint8_t *)"\0\0\0\2\2ab\1\2x", 10), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_authentication),
        cmocka_unit_test(with_user_and_password_in_single_bytes),
        cmocka_unit_test(proxys_own_address),
        cmocka_unit_test(refusals_say_why),
        cmocka_unit_test(too_long_names_are_refused),
        cmocka_unit_test(headers_come_off_as_they_went_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
