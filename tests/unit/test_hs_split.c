/* SPDX-License-Identifier: Apache-2.0 */
/* The handshake splitter: every message, every split, every word, junk. */
#include "support/t.h"

#include "base/err.h"
#include "dist/hs_split.h"

#define CLIENT_N   "4e 0000000d07df7fbd 69696969 0003 614062"          /* a@b, creation iiii */
#define SERVER_N   "4e 0000000d07df7fbd 01020304 69696969 0003 634064" /* c@d */
#define REPLY      "72 0a0b0c0d 000102030405060708090a0b0c0d0e0f"
#define ACK        "61 000102030405060708090a0b0c0d0e0f"
#define COMPLEMENT "63 00000004 00000009"
#define TICK       "00000000"
#define SOK        "736f6b"

struct stream {
    uint8_t p[2048];
    size_t len;
};

static void add_hex(struct stream *s, const char *hex)
{
    s->len += t_hex(hex, s->p + s->len, sizeof(s->p) - s->len);
}

static void add_text(struct stream *s, const char *text)
{
    memcpy(s->p + s->len, text, strlen(text));
    s->len += strlen(text);
}

/* Pushes `in` cut at `a` and `b`; returns the messages' lengths in `lens`, their number or < 0. */
static int split3(enum bp_hs_role role, const struct stream *in, size_t a, size_t b, size_t *lens,
                  size_t max, struct stream *out)
{
    struct bp_hs_split s;
    size_t cuts[4] = {0, a, b, in->len};
    size_t n = 0;

    bp_hs_init(&s, role);
    out->len = 0;
    for (size_t i = 0; i < 3; i++) {
        const uint8_t *msg;
        size_t len;
        int rc = bp_hs_push(&s, in->p + cuts[i], cuts[i + 1] - cuts[i]);
        if (rc != 0) {
            return rc;
        }
        while ((rc = bp_hs_next(&s, &msg, &len)) > 0) {
            assert_true(n < max);
            lens[n++] = len;
            memcpy(out->p + out->len, msg, len);
            out->len += len;
        }
        if (rc < 0) {
            return rc;
        }
    }
    return (int)n;
}

/* Asserts that `in`, cut in any two places, gives the messages of the lengths `want`. */
static void expect_all_splits(enum bp_hs_role role, const struct stream *in, const size_t *want,
                              size_t n_want)
{
    struct stream whole;
    size_t lens[8];

    assert_int_equal(split3(role, in, 0, 0, lens, 8, &whole), (int)n_want);
    for (size_t a = 0; a <= in->len; a++) {
        for (size_t b = a; b <= in->len; b++) {
            struct stream out;
            int n = split3(role, in, a, b, lens, 8, &out);
            assert_int_equal(n, (int)n_want);
            assert_memory_equal(lens, want, n_want * sizeof(*want));
            assert_int_equal(out.len, whole.len);
            assert_memory_equal(out.p, whole.p, whole.len);
        }
    }
}

static void hs_client_any_split_gives_three_messages(void **state)
{
    static const char *const words[] = {"sok", "sok_simultaneous", "salive"};
    (void)state;

    for (size_t i = 0; i < 3; i++) {
        struct stream in = {.len = 0};
        add_text(&in, words[i]);
        add_hex(&in, SERVER_N);
        add_hex(&in, ACK);
        expect_all_splits(BP_HS_CLIENT, &in, (size_t[]){strlen(words[i]), 22, 17}, 3);
    }
}

static void hs_client_named_status_counts_its_name(void **state)
{
    struct stream in = {.len = 0};
    (void)state;

    add_text(&in, "snamed:");
    add_hex(&in, "0003 4e4061 69696969"); /* N@a: bytes that could be taken for a message */
    add_hex(&in, SERVER_N);
    add_hex(&in, ACK);
    expect_all_splits(BP_HS_CLIENT, &in, (size_t[]){7 + 2 + 3 + 4, 22, 17}, 3);
}

static void hs_server_any_split_gives_its_messages(void **state)
{
    struct stream in = {.len = 0};
    (void)state;

    add_hex(&in, CLIENT_N);
    add_text(&in, "strue");
    add_hex(&in, COMPLEMENT);
    add_hex(&in, REPLY);
    expect_all_splits(BP_HS_SERVER, &in, (size_t[]){18, 5, 9, 21}, 4);
}

static void hs_ticks_between_messages_are_skipped(void **state)
{
    struct stream in = {.len = 0};
    struct stream server = {.len = 0};
    (void)state;

    add_hex(&in, TICK SOK TICK SERVER_N TICK TICK ACK);
    expect_all_splits(BP_HS_CLIENT, &in, (size_t[]){3, 22, 17}, 3);
    add_hex(&server, TICK CLIENT_N TICK REPLY);
    expect_all_splits(BP_HS_SERVER, &server, (size_t[]){18, 21}, 2);
}

static void hs_zeros_inside_a_message_are_kept(void **state)
{
    struct stream in = {.len = 0};
    (void)state;

    /* A challenge and a creation of zero: 8 zero bytes in the middle, split there too. */
    add_hex(&in, SOK "4e 0000000000000000 00000000 00000000 0003 634064" ACK);
    expect_all_splits(BP_HS_CLIENT, &in, (size_t[]){3, 22, 17}, 3);
}

static void hs_sok_waits_for_the_byte_behind_it(void **state)
{
    struct bp_hs_split s;
    const uint8_t *msg;
    size_t len;
    (void)state;

    bp_hs_init(&s, BP_HS_CLIENT);
    assert_int_equal(bp_hs_push(&s, (const uint8_t *)"sok", 3), 0);
    assert_int_equal(bp_hs_next(&s, &msg, &len), 0);
    assert_int_equal(bp_hs_push(&s, (const uint8_t *)"N", 1), 0);
    assert_int_equal(bp_hs_next(&s, &msg, &len), 1);
    assert_int_equal(len, 3);
    assert_memory_equal(msg, "sok", 3);
}

static void hs_words_without_longer_form_come_at_once(void **state)
{
    static const char *const words[] = {"snok", "snot_allowed", "salive", "sok_simultaneous"};
    (void)state;

    for (size_t i = 0; i < 4; i++) {
        struct stream in = {.len = 0};
        add_text(&in, words[i]);
        expect_all_splits(BP_HS_CLIENT, &in, (size_t[]){strlen(words[i])}, 1);
    }
    for (size_t i = 0; i < 2; i++) {
        struct stream in = {.len = 0};
        add_hex(&in, CLIENT_N);
        add_text(&in, i == 0 ? "strue" : "sfalse");
        expect_all_splits(BP_HS_SERVER, &in, (size_t[]){18, 5 + i}, 2);
    }
}

static void hs_done_hands_out_the_rest_once(void **state)
{
    struct stream in = {.len = 0};
    struct bp_hs_split s;
    const uint8_t *p;
    size_t len;
    (void)state;

    add_hex(&in, SOK SERVER_N ACK TICK "0000");
    bp_hs_init(&s, BP_HS_CLIENT);
    assert_int_equal(bp_hs_push(&s, in.p, in.len), 0);
    for (int i = 0; i < 3; i++) {
        assert_false(bp_hs_done(&s));
        bp_hs_take_rest(&s, &p, &len);
        assert_int_equal(len, 0);
        assert_int_equal(bp_hs_next(&s, &p, &len), 1);
    }
    assert_true(bp_hs_done(&s));
    assert_int_equal(bp_hs_next(&s, &p, &len), 0);
    bp_hs_take_rest(&s, &p, &len);
    assert_int_equal(len, 6);
    bp_hs_take_rest(&s, &p, &len);
    assert_int_equal(len, 0);
}

static void hs_junk_is_malformed_and_stays(void **state)
{
    static const struct {
        enum bp_hs_role role;
        const char *hex;
    } bad[] = {
        {BP_HS_SERVER, "6e 0005 00000000 6140"}, /* 'n': older than OTP 23 */
        {BP_HS_SERVER, REPLY},                   /* out of order */
        {BP_HS_SERVER, "7374727565"},            /* strue first */
        {BP_HS_SERVER, CLIENT_N CLIENT_N},
        {BP_HS_SERVER, CLIENT_N ACK},
        {BP_HS_SERVER, CLIENT_N SOK "4e"},
        {BP_HS_SERVER, "00000001"}, /* zeros that are no tick */
        {BP_HS_SERVER, "0001"},
        {BP_HS_CLIENT, SERVER_N},
        {BP_HS_CLIENT, "7378"},             /* sx */
        {BP_HS_CLIENT, "736e6f6e"},         /* snon */
        {BP_HS_CLIENT, "736e616d652c"},     /* sname, */
        {BP_HS_CLIENT, SOK "5f4e"},         /* sok_N */
        {BP_HS_CLIENT, SOK "61"},           /* ack instead of challenge */
        {BP_HS_CLIENT, "7374727565"},       /* strue from a server */
        {BP_HS_CLIENT, SOK SERVER_N REPLY}, /* a client's message from a server */
        {BP_HS_CLIENT, SOK SERVER_N SOK},
    };
    (void)state;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct stream in = {.len = 0};
        struct bp_hs_split s;
        const uint8_t *msg;
        size_t len;
        int rc;

        add_hex(&in, bad[i].hex);
        bp_hs_init(&s, bad[i].role);
        assert_int_equal(bp_hs_push(&s, in.p, in.len), 0);
        while ((rc = bp_hs_next(&s, &msg, &len)) > 0) {
        }
        assert_int_equal(rc, BP_E_HS_MALFORMED);
        assert_int_equal(bp_hs_next(&s, &msg, &len), BP_E_HS_MALFORMED);
        assert_int_equal(bp_hs_push(&s, in.p, 1), BP_E_HS_MALFORMED);
        assert_false(bp_hs_done(&s));
    }
}

static void hs_long_names_and_floods_are_too_long(void **state)
{
    static const uint8_t flood[BP_HS_CAP + 1] = {'N'};
    struct bp_hs_split s;
    struct stream in = {.len = 0};
    struct stream out;
    size_t lens[8];
    const uint8_t *msg;
    size_t len;
    (void)state;

    bp_hs_init(&s, BP_HS_SERVER);
    assert_int_equal(bp_hs_push(&s, flood, sizeof(flood)), BP_E_HS_TOO_LONG);
    assert_int_equal(bp_hs_next(&s, &msg, &len), BP_E_HS_TOO_LONG);

    /* 255 is the longest name, 256 is told from the length alone. */
    add_hex(&in, "4e 0000000d07df7fbd 69696969 00ff");
    memset(in.p + in.len, 'x', 255);
    in.len += 255;
    assert_int_equal(split3(BP_HS_SERVER, &in, 0, 20, lens, 8, &out), 1);
    assert_int_equal(lens[0], 15 + 255);
    in.len = 0;
    add_hex(&in, "4e 0000000d07df7fbd 69696969 0100");
    assert_int_equal(split3(BP_HS_SERVER, &in, 0, 0, lens, 8, &out), BP_E_HS_TOO_LONG);
    in.len = 0;
    add_text(&in, "snamed:");
    add_hex(&in, "ffff");
    assert_int_equal(split3(BP_HS_CLIENT, &in, 0, 0, lens, 8, &out), BP_E_HS_TOO_LONG);
}

static void hs_buffer_is_used_again(void **state)
{
    struct bp_hs_split s;
    uint8_t tick[64] = {0};
    const uint8_t *msg;
    size_t len;
    (void)state;

    /* Many times the capacity in ticks, then a message across an odd boundary. */
    bp_hs_init(&s, BP_HS_SERVER);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(bp_hs_push(&s, tick, 63), 0);
        assert_int_equal(bp_hs_next(&s, &msg, &len), 0);
    }
    assert_int_equal(s.ticks, 1000 * 63 / 4);
}

static void hs_name_reads_both_forms(void **state)
{
    struct stream in = {.len = 0};
    const char *name;
    size_t len;
    uint64_t flags;
    (void)state;

    add_hex(&in, CLIENT_N);
    assert_int_equal(bp_hs_name(in.p, in.len, false, &name, &len, &flags), 0);
    assert_int_equal(len, 3);
    assert_memory_equal(name, "a@b", 3);
    assert_true(flags == 0x0000000d07df7fbd);
    assert_true((flags & BP_HS_FLAG_NAME_ME) == 0);
    assert_int_equal(bp_hs_name(in.p, in.len, true, &name, &len, &flags), BP_E_HS_MALFORMED);
    assert_null(name);

    in.len = 0;
    add_hex(&in, SERVER_N);
    assert_int_equal(bp_hs_name(in.p, in.len, true, &name, &len, &flags), 0);
    assert_memory_equal(name, "c@d", 3);

    /* The flag of a node that asks for a name: bit 33. */
    in.len = 0;
    add_hex(&in, "4e 0000000200000000 00000000 0004 686f7374");
    assert_int_equal(bp_hs_name(in.p, in.len, false, &name, &len, &flags), 0);
    assert_true(flags == BP_HS_FLAG_NAME_ME);
    assert_int_equal(len, 4);

    assert_int_equal(bp_hs_name(in.p, in.len - 1, false, &name, &len, &flags), BP_E_HS_MALFORMED);
    assert_int_equal(bp_hs_name(in.p, in.len + 1, false, &name, &len, &flags), BP_E_HS_MALFORMED);
    assert_int_equal(bp_hs_name(in.p, 0, false, &name, &len, &flags), BP_E_HS_MALFORMED);
    in.p[0] = 'r';
    assert_int_equal(bp_hs_name(in.p, in.len, false, &name, &len, &flags), BP_E_HS_MALFORMED);
    in.len = 0;
    add_hex(&in, "4e 0000000200000000 00000000 0000");
    assert_int_equal(bp_hs_name(in.p, in.len, false, &name, &len, &flags), BP_E_HS_MALFORMED);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(hs_client_any_split_gives_three_messages),
    cmocka_unit_test(hs_client_named_status_counts_its_name),
    cmocka_unit_test(hs_server_any_split_gives_its_messages),
    cmocka_unit_test(hs_ticks_between_messages_are_skipped),
    cmocka_unit_test(hs_zeros_inside_a_message_are_kept),
    cmocka_unit_test(hs_sok_waits_for_the_byte_behind_it),
    cmocka_unit_test(hs_words_without_longer_form_come_at_once),
    cmocka_unit_test(hs_done_hands_out_the_rest_once),
    cmocka_unit_test(hs_junk_is_malformed_and_stays),
    cmocka_unit_test(hs_long_names_and_floods_are_too_long),
    cmocka_unit_test(hs_buffer_is_used_again),
    cmocka_unit_test(hs_name_reads_both_forms),
};

T_MAIN(tests)
