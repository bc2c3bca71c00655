/* SPDX-License-Identifier: Apache-2.0 */
/* --relay of the command: what is taken, and in which words the rest is refused. */
#include "support/t.h"

#include "cli/relay_url.h"

static void takes(void **state)
{
    static const struct {
        const char *text;
        struct cli_relay_url want;
    } rows[] = {
        {"udp://192.0.2.1:5000", {.host = "192.0.2.1", .port = 5000}},
        {"udp://192.0.2.1:5000/", {.host = "192.0.2.1", .port = 5000}},
        {"udp://relay.example.org:1?mtu=1200",
         {.host = "relay.example.org", .port = 1, .mtu = 1200}},
        {"udp://[2001:db8::1]:65535", {.host = "2001:db8::1", .port = 65535}},
        {"socks5://proxy", {.scheme = CLI_RELAY_SOCKS5, .host = "proxy", .port = 1080}},
        {"socks5://u@[::1]:9?mtu=65507",
         {.scheme = CLI_RELAY_SOCKS5, .host = "::1", .port = 9, .user = "u", .mtu = 65507}},
        {"socks5://me%40there@p_1.x-y:9",
         {.scheme = CLI_RELAY_SOCKS5, .host = "p_1.x-y", .port = 9, .user = "me@there"}},
        {"socks5://a@b@c", {.scheme = CLI_RELAY_SOCKS5, .host = "c", .port = 1080, .user = "a@b"}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cli_relay_url got;
        const char *why;
        if (cli_relay_url_parse(rows[i].text, &got, &why) != 0) {
            fail_msg("%s: %s", rows[i].text, why);
        }
        assert_null(why);
        assert_int_equal(got.scheme, rows[i].want.scheme);
        assert_string_equal(got.host, rows[i].want.host);
        assert_int_equal(got.port, rows[i].want.port);
        assert_string_equal(got.user, rows[i].want.user);
        assert_int_equal(got.mtu, rows[i].want.mtu);
    }
}

static void refuses(void **state)
{
    static const struct {
        const char *text;
        const char *why;
    } rows[] = {
        {"", "wanted is udp://"},
        {"http://h:1", "wanted is udp://"},
        {"192.0.2.1:5000", "wanted is udp://"},
        {"udp://", "wanted is udp://"},
        {"udp://:5", "wanted is udp://"},
        {"udp://h", "port is missing"},
        {"udp://h:", "a port, 1 to 65535"},
        {"udp://h:0", "port is missing"},
        {"udp://h:65536", "a port, 1 to 65535"},
        {"udp://h:99999999999999999999", "a port, 1 to 65535"},
        {"udp://h:12x", "a port, 1 to 65535"},
        {"udp://2001:db8::1:5", "a port, 1 to 65535"},
        {"udp://[::1:5", "wanted is udp://"},
        {"udp://[::1]5", "a port, 1 to 65535"},
        {"udp://a b:5", "wanted is udp://"},
        {"udp://u@h:5", "no user"},
        {"udp://h:5?", "mtu=N"},
        {"udp://h:5?mtu=1199", "mtu=N"},
        {"udp://h:5?mtu=65508", "mtu=N"},
        {"udp://h:5?mtu=1300x", "mtu=N"},
        {"udp://h:5?size=1300", "mtu=N"},
        {"socks5://u:secret@h:5", "seen by other users"},
        {"socks5://@h:5", "no user's name"},
        {"socks5://u%4@h:5", "two hex digits"},
        {"socks5://u%00@h:5", "no NUL"},
    };
    char text[700] = "socks5://";

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cli_relay_url got;
        const char *why;
        assert_int_equal(cli_relay_url_parse(rows[i].text, &got, &why), BP_E_INVALID);
        if (strstr(why, rows[i].why) == NULL) {
            fail_msg("%s: %s", rows[i].text, why);
        }
        assert_int_equal(got.port, 0);
    }
    for (size_t n = 253; n <= 256; n++) {
        struct cli_relay_url got;
        const char *why;
        memset(text + 9, 'a', n);
        text[9 + n] = '\0';
        assert_int_equal(cli_relay_url_parse(text, &got, &why), n <= 253 ? 0 : BP_E_INVALID);
        memcpy(text + 9 + n, "@h", 3);
        assert_int_equal(cli_relay_url_parse(text, &got, &why), n <= 255 ? 0 : BP_E_INVALID);
    }
}

static const struct CMUnitTest tests[] = {cmocka_unit_test(takes), cmocka_unit_test(refuses)};

T_MAIN(tests)
