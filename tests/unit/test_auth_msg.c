/* SPDX-License-Identifier: Apache-2.0 */
/* Codec and frame splitter of the authentication messages (WIRE 3.1, 3.4). */
#include "support/t.h"

#include "auth/auth_msg.h"
#include "base/err.h"

static const char c1_hex[] = "002f0102000b61403132372e302e302e31"
                             "79b5562e8fe654f94078b112e8a98ba7901f853ae695bed7e0e3910bad049664";
static const char s2_hex[] =
    "002902c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf0000019b76daa805";
static const char c3_hex[] =
    "004103864f3b777192e9222914c6106a21a52bf33851dea6d8781e1a0b4ea8cae4ddb2"
    "861d26d204c87da008f4b195b1c0e7904de36495f25e00b0dfbe49bc6d2f7308";
static const char s4_hex[] = "000104";
static const char fail_hex[] = "000f05000c6b65795f6d69736d61746368";

static const char *const all_hex[] = {c1_hex, s2_hex, c3_hex, s4_hex, fail_hex};
#define N_ALL (sizeof(all_hex) / sizeof(all_hex[0]))

static void decode_vector_then_encode_gives_the_same_bytes(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_ALL; i++) {
        uint8_t in[128];
        uint8_t out[128];
        struct bp_auth_msg msg;
        struct bp_writer w;
        size_t len = t_hex(all_hex[i], in, sizeof(in));

        assert_int_equal(bp_auth_msg_decode(&msg, in + 2, len - 2), 0);
        assert_int_equal(msg.type, i + 1);
        bp_writer_init(&w, out, sizeof(out));
        bp_auth_msg_encode(&w, &msg);
        assert_false(w.bad);
        assert_int_equal(w.len, len);
        assert_memory_equal(out, in, len);
    }
}

static void decode_vector_fields(void **state)
{
    uint8_t in[128];
    struct bp_auth_msg msg;
    size_t len;

    (void)state;
    len = t_hex(c1_hex, in, sizeof(in));
    assert_int_equal(bp_auth_msg_decode(&msg, in + 2, len - 2), 0);
    assert_int_equal(msg.name_len, 11);
    assert_memory_equal(msg.name, "a@127.0.0.1", 11);
    assert_ptr_equal(msg.pub, in + len - 32);
    len = t_hex(s2_hex, in, sizeof(in));
    assert_int_equal(bp_auth_msg_decode(&msg, in + 2, len - 2), 0);
    assert_ptr_equal(msg.nonce, in + 3);
    assert_int_equal(msg.ts_ms, 1767225600005);
    len = t_hex(fail_hex, in, sizeof(in));
    assert_int_equal(bp_auth_msg_decode(&msg, in + 2, len - 2), 0);
    assert_int_equal(msg.reason_len, 12);
    assert_memory_equal(msg.reason, "key_mismatch", 12);
}

/* Each prefix, and each message with one byte too many, is malformed. */
static void decode_wrong_length_malformed(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_ALL; i++) {
        uint8_t in[128] = {0};
        size_t len = t_hex(all_hex[i], in, sizeof(in)) - 2;

        for (size_t n = 0; n <= len + 1; n++) {
            struct bp_auth_msg msg;
            uint8_t *copy = malloc(n != 0 ? n : 1); /* exact size: the sanitizer sees overreads */

            assert_non_null(copy);
            memcpy(copy, in + 2, n);
            assert_int_equal(bp_auth_msg_decode(&msg, copy, n), n == len ? 0 : BP_E_AUTH_MALFORMED);
            free(copy);
        }
    }
}

static void decode_unknown_type_malformed(void **state)
{
    struct bp_auth_msg msg;

    (void)state;
    for (int type = 0; type < 256; type++) {
        uint8_t in[1] = {(uint8_t)type};

        assert_int_equal(bp_auth_msg_decode(&msg, in, 1), type == 4 ? 0 : BP_E_AUTH_MALFORMED);
    }
    assert_int_equal(bp_auth_msg_decode(&msg, NULL, 0), BP_E_AUTH_MALFORMED);
}

static void decode_hello_of_another_version_is_told_apart(void **state)
{
    uint8_t in[128];
    struct bp_auth_msg msg;
    size_t len = t_hex(c1_hex, in, sizeof(in));

    (void)state;
    in[3] = 1;
    assert_int_equal(bp_auth_msg_decode(&msg, in + 2, len - 2), BP_E_AUTH_VERSION);
    in[3] = 3;
    assert_int_equal(bp_auth_msg_decode(&msg, in + 2, 2), BP_E_AUTH_VERSION);
    in[3] = 2;
    assert_int_equal(bp_auth_msg_decode(&msg, in + 2, 2), BP_E_AUTH_MALFORMED);
}

static void decode_hello_name_length_255_at_most(void **state)
{
    uint8_t in[400] = {1, 2};
    struct bp_auth_msg msg;

    (void)state;
    in[3] = 255;
    assert_int_equal(bp_auth_msg_decode(&msg, in, 4 + 255 + 32), 0);
    assert_int_equal(msg.name_len, 255);
    in[2] = 1;
    in[3] = 0;
    assert_int_equal(bp_auth_msg_decode(&msg, in, 4 + 256 + 32), BP_E_AUTH_MALFORMED);
}

static void decode_fail_reason_255_at_most(void **state)
{
    uint8_t in[400] = {5, 0, 255};
    struct bp_auth_msg msg;

    (void)state;
    assert_int_equal(bp_auth_msg_decode(&msg, in, 3 + 255), 0);
    in[1] = 1;
    in[2] = 0;
    assert_int_equal(bp_auth_msg_decode(&msg, in, 3 + 256), BP_E_AUTH_MALFORMED);
}

static void succession_of_one_to_four_links_only(void **state)
{
    uint8_t in[2 + 5 * BP_SUCCESSION_LINK_LEN] = {BP_AUTH_MSG_SUCCESSION};
    uint8_t out[BP_AUTH_FRAME_HEAD + sizeof(in)];

    (void)state;
    for (size_t i = 2; i < sizeof(in); i++) {
        in[i] = (uint8_t)i;
    }
    for (unsigned n = 0; n < 256; n++) {
        for (size_t links = 0; links <= 5; links++) {
            struct bp_auth_msg msg;
            struct bp_writer w;
            size_t len = 2 + links * BP_SUCCESSION_LINK_LEN;
            bool good = n == links && n >= 1 && n <= 4;

            in[1] = (uint8_t)n;
            assert_int_equal(bp_auth_msg_decode(&msg, in, len), good ? 0 : BP_E_AUTH_MALFORMED);
            if (good) {
                assert_int_equal(bp_auth_msg_decode(&msg, in, len - 1), BP_E_AUTH_MALFORMED);
                assert_int_equal(bp_auth_msg_decode(&msg, in, len), 0);
                assert_ptr_equal(msg.links, in + 2);
                bp_writer_init(&w, out, sizeof(out));
                bp_auth_msg_encode(&w, &msg);
                assert_false(w.bad);
                assert_int_equal(w.len, BP_AUTH_FRAME_HEAD + len);
                assert_memory_equal(out + BP_AUTH_FRAME_HEAD, in, len);
            }
        }
    }
}

static void encode_without_room_writes_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_ALL; i++) {
        uint8_t in[128];
        uint8_t out[128];
        struct bp_auth_msg msg;
        size_t len = t_hex(all_hex[i], in, sizeof(in));

        assert_int_equal(bp_auth_msg_decode(&msg, in + 2, len - 2), 0);
        for (size_t cap = 0; cap < len; cap++) {
            struct bp_writer w;

            bp_writer_init(&w, out, cap);
            bp_auth_msg_encode(&w, &msg);
            assert_true(w.bad);
            assert_int_equal(w.len, 0);
        }
    }
}

static void encode_illegal_message_refused(void **state)
{
    uint8_t out[1024];
    uint8_t big[512] = {0};
    struct bp_auth_msg bad[] = {
        {.type = BP_AUTH_MSG_HELLO, .name = (const char *)big, .name_len = 256, .pub = big},
        {.type = BP_AUTH_MSG_FAIL, .reason = (const char *)big, .reason_len = 256},
    };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct bp_writer w;

        bp_writer_init(&w, out, sizeof(out));
        bp_auth_msg_encode(&w, &bad[i]);
        assert_true(w.bad);
        assert_int_equal(w.len, 0);
    }
}

/* Pushes `stream` in chunks of `chunk` and compares the frames that come out, in order. */
static void split_and_compare(const uint8_t *stream, size_t len, size_t chunk)
{
    struct bp_auth_split s = {0};
    size_t at = 0;  /* start of the next expected frame */
    size_t pos = 0; /* bytes pushed */

    while (pos < len) {
        size_t n = len - pos < chunk ? len - pos : chunk;
        const uint8_t *msg = NULL;
        size_t msg_len = 0;

        n = bp_auth_split_push(&s, stream + pos, n);
        assert_true(n > 0);
        pos += n;
        for (;;) {
            size_t want = (size_t)stream[at] << 8 | stream[at + 1];

            assert_int_equal(bp_auth_split_next(&s, &msg, &msg_len), 0);
            if (msg == NULL) {
                assert_true(at == len || pos < at + 2 + want);
                break;
            }
            assert_int_equal(msg_len, want);
            assert_memory_equal(msg, stream + at + 2, want);
            at += 2 + want;
            if (at == len) {
                break;
            }
        }
    }
    assert_int_equal(at, len);
}

static void split_any_chunking_gives_the_same_frames(void **state)
{
    uint8_t stream[1600];
    size_t len = 0;

    (void)state;
    for (size_t i = 0; i < N_ALL; i++) {
        len += t_hex(all_hex[i], stream + len, sizeof(stream) - len);
    }
    for (size_t i = 0; i < 3; i++) { /* frames of the largest size */
        stream[len] = BP_AUTH_MSG_MAX >> 8;
        stream[len + 1] = BP_AUTH_MSG_MAX & 0xff;
        memset(stream + len + 2, (int)i, BP_AUTH_MSG_MAX);
        len += 2 + BP_AUTH_MSG_MAX;
    }
    for (size_t chunk = 1; chunk <= len; chunk++) {
        split_and_compare(stream, len, chunk);
    }
}

static void split_bad_length_refused_at_once(void **state)
{
    static const uint8_t bad[][2] = {
        {0, 0}, {(BP_AUTH_MSG_MAX + 1) >> 8, (BP_AUTH_MSG_MAX + 1) & 0xff}, {0xff, 0xff}};
    const uint8_t *msg = NULL;
    size_t len = 0;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct bp_auth_split s = {0};

        assert_int_equal(bp_auth_split_push(&s, bad[i], 1), 1);
        assert_int_equal(bp_auth_split_next(&s, &msg, &len), 0);
        assert_null(msg);
        assert_int_equal(bp_auth_split_push(&s, bad[i] + 1, 1), 1);
        assert_int_equal(bp_auth_split_next(&s, &msg, &len), BP_E_AUTH_MALFORMED);
        assert_null(msg);
    }
}

static void split_full_takes_no_more(void **state)
{
    struct bp_auth_split s = {0};
    uint8_t ones[BP_AUTH_SPLIT_CAP + 9];
    const uint8_t *msg = NULL;
    size_t len = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(ones); i++) {
        ones[i] = i % 3 == 1; /* frames 00 01 00 */
    }
    assert_int_equal(bp_auth_split_push(&s, ones, sizeof(ones)), BP_AUTH_SPLIT_CAP);
    assert_int_equal(bp_auth_split_push(&s, ones, 1), 0);
    assert_int_equal(bp_auth_split_next(&s, &msg, &len), 0);
    assert_int_equal(len, 1);
    assert_int_equal(bp_auth_split_push(&s, ones, sizeof(ones)), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decode_vector_then_encode_gives_the_same_bytes),
        cmocka_unit_test(decode_vector_fields),
        cmocka_unit_test(decode_wrong_length_malformed),
        cmocka_unit_test(decode_unknown_type_malformed),
        cmocka_unit_test(decode_hello_of_another_version_is_told_apart),
        cmocka_unit_test(decode_hello_name_length_255_at_most),
        cmocka_unit_test(decode_fail_reason_255_at_most),
        cmocka_unit_test(succession_of_one_to_four_links_only),
        cmocka_unit_test(encode_without_room_writes_nothing),
        cmocka_unit_test(encode_illegal_message_refused),
        cmocka_unit_test(split_any_chunking_gives_the_same_frames),
        cmocka_unit_test(split_bad_length_refused_at_once),
        cmocka_unit_test(split_full_takes_no_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
