/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The router on control messages in each form that OTP encodes, on cut off heads, and on terms
 * that it does not know.
 */
#include "support/t.h"

#include "base/err.h"
#include "dist/route.h"

/* Two pids and a reference of node a@h, one pid of another node. */
#define PID_P      "58 640003 614068 0000005a 00000000 00000001"
#define PID_Q      "58 640003 614068 0000005b 00000000 00000001"
#define PID_X      "58 640005 6240682e78 0000004d 00000003 01020304"
#define PID_P_UTF8 "58 7703 614068 0000005a 00000000 00000001"
#define PID_OLD    "67 640003 614068 0000005a 00000000 01"
#define REF_R      "5a 0003 640003 614068 00000001 0001a1c1 60380001 03e66da7"
#define REF_S      "5a 0003 640003 614068 00000001 0001a1c2 60380001 03e66da7"
#define REF_R_UTF8 "5a 0003 7703 614068 00000001 0001a1c1 60380001 03e66da7"
#define REF_OLD    "72 0003 640003 614068 01 0001a1c1 60380001 03e66da7"
#define EMPTY      "64 0000"
#define REX        "64 0003 726578"
#define H68        "83 44 00 "
#define FIRST      "83 45 0102030405060708 0000000000000003 00 "

static struct bp_route peek(const char *hex)
{
    uint8_t head[2048];
    size_t len = t_hex(hex, head, sizeof(head));
    struct bp_route r;

    assert_int_equal(bp_route_peek(head, len, &r), 0);
    return r;
}

/* The hash of pid P, through the simplest message. */
static uint32_t hash_of(const char *pid)
{
    char hex[256];

    snprintf(hex, sizeof(hex), H68 "68 03 61 16 %s " PID_X, pid);
    return peek(hex).hash;
}

static void route_keyed_operations_go_with_their_sender(void **state)
{
    static const struct {
        unsigned op;
        const char *hex;
    } cases[] = {
        {1, "68 03 61 01" PID_P PID_X},
        {3, "68 04 61 03" PID_P PID_X REX},
        {6, "68 04 61 06" PID_P EMPTY REX},
        {8, "68 04 61 08" PID_P PID_X REX},
        {13, "68 05 61 0d" PID_P PID_X "6a" REX},
        {16, "68 05 61 10" PID_P EMPTY REX "6a"},
        {18, "68 05 61 12" PID_P PID_X "6a" REX},
        {19, "68 04 61 13" PID_P REX REF_R},
        {20, "68 04 61 14" PID_P PID_X REF_R},
        {21, "68 05 61 15" PID_P PID_X REF_R REX},
        {22, "68 03 61 16" PID_P PID_X},
        {23, "68 04 61 17" PID_P PID_X "6a"},
        {24, "68 03 61 18" PID_P PID_X},
        {25, "68 04 61 19" PID_P PID_X "6a"},
        {26, "68 03 61 1a" PID_P PID_X},
        {27, "68 04 61 1b" PID_P PID_X "6a"},
        {28, "68 04 61 1c" PID_P PID_X REF_R},
        {29, "68 06 61 1d" REF_R PID_P PID_Q "6803 64 0001 6d 64 0001 66 61 03 6a"},
        {30, "68 07 61 1e" REF_R PID_P PID_Q "6803 64 0001 6d 64 0001 66 61 03 6a 6a"},
        {31, "68 05 61 1f" REF_R PID_X "61 01" PID_P},
        {31, "68 05 61 1f" REF_R PID_X "62 00000001" PID_P},
        {32, "68 06 61 20" REF_R PID_X "61 01" PID_P "6a"},
        {33, "68 03 61 21" PID_P REF_R},
        {34, "68 04 61 22" PID_P REF_R "6a"},
        {35, "68 04 61 23 61 07" PID_P PID_X},
        {35, "68 04 61 23 62 00001234" PID_P PID_X},
        {35, "68 04 61 23 6e 07 00 cdab8967452301" PID_P PID_X},
        {36, "68 04 61 24 61 07" PID_P PID_X},
        {37, "68 04 61 25 62 00001000" PID_P REX},
        {37, "68 05 61 25 61 02" PID_P REF_R "6a"},
        {22, "68 03 62 00000016" PID_P PID_X}, /* op as a 32-bit integer */
        {22, "68 03 61 16" PID_P_UTF8 PID_X},
        {22, "68 03 61 16" PID_OLD PID_X},
    };
    uint32_t want = hash_of(PID_P);
    (void)state;

    assert_int_not_equal(want % 16, hash_of(PID_Q) % 16);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        static const char *const forms[] = {H68, FIRST, "70 83 "};
        for (size_t k = 0; k < 3; k++) {
            char hex[512];
            struct bp_route r;
            snprintf(hex, sizeof(hex), "%s%s 83 6a", forms[k], cases[i].hex);
            r = peek(hex);
            assert_int_equal(r.kind, BP_ROUTE_KEY);
            assert_int_equal(r.hash, want);
            assert_int_equal(r.op, cases[i].op);
            assert_int_equal(r.fragmented, k == 1);
            assert_int_equal(r.last, k != 1);
            assert_true(r.seq_id == (k == 1 ? 0x0102030405060708u : 0));
        }
    }
}

/* As term_to_binary prints them on a node that is not distributed, only the 131 taken off. */
static void route_terms_as_otp_prints_them_are_understood(void **state)
{
#define OTP_P "5864000d6e6f6e6f6465406e6f686f73740000005a0000000000000000"
#define OTP_Q "586400056240682e780000004d0000000301020304"
#define OTP_R "5a000364000d6e6f6e6f6465406e6f686f7374000000000001a1c16038000103e66da7"
    static const struct {
        const char *hex;
        enum bp_route_kind kind;
        bool from_p;
    } cases[] = {
        {"68036101" OTP_P OTP_Q, BP_ROUTE_KEY, true},
        {"68046106" OTP_P "640000640003726578", BP_ROUTE_KEY, true},
        {"68036116" OTP_P OTP_Q, BP_ROUTE_KEY, true},
        {"68036121" OTP_P OTP_R, BP_ROUTE_KEY, true},
        {"680461236e0700cdab8967452301" OTP_P OTP_Q, BP_ROUTE_KEY, true},
        {"680461236107" OTP_P OTP_Q, BP_ROUTE_KEY, true},
        {"6806611d" OTP_R OTP_P OTP_P "68036400016d6400016661036c000000016400046c696e6b6a",
         BP_ROUTE_KEY, true},
        {"6805611f" OTP_R OTP_Q "6101" OTP_P, BP_ROUTE_KEY, true},
        {"6805611f" OTP_R OTP_Q "61006400066261646f7074", BP_ROUTE_KEY, false},
        {"6804611c" OTP_P OTP_Q OTP_R, BP_ROUTE_KEY, true},
        {"680461256200001000" OTP_P "640003726578", BP_ROUTE_KEY, true},
        {"6804611c640003726578" OTP_Q OTP_R, BP_ROUTE_FENCE, false},
        {"68036107" OTP_P OTP_Q, BP_ROUTE_FENCE, false},
        {"68036102640000" OTP_Q, BP_ROUTE_FENCE, false},
        {"68016105", BP_ROUTE_FENCE, false},
    };
    uint32_t p = hash_of(OTP_P);
    (void)state;

    assert_int_not_equal(p, hash_of(OTP_Q));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char hex[512];
        struct bp_route r;
        snprintf(hex, sizeof(hex), H68 "%s", cases[i].hex);
        r = peek(hex);
        assert_int_equal(r.kind, cases[i].kind);
        assert_int_equal(r.kind == BP_ROUTE_KEY && r.hash == p, cases[i].from_p);
    }
}

static void route_spawn_error_goes_with_its_request(void **state)
{
    struct bp_route r = peek(H68 "68 05 61 1f" REF_R PID_X "61 00 64 0006 6261646f7074");
    struct bp_route tt = peek(H68 "68 06 61 20" REF_R PID_X "61 00 77 06 6261646f7074 6a");
    struct bp_route utf8 = peek(H68 "68 05 61 1f" REF_R_UTF8 PID_X "61 00" REX);
    struct bp_route old = peek(H68 "68 05 61 1f" REF_OLD PID_X "61 00" REX);
    struct bp_route other = peek(H68 "68 05 61 1f" REF_S PID_X "61 00" REX);
    (void)state;

    assert_int_equal(r.kind, BP_ROUTE_KEY);
    assert_int_equal(tt.kind, BP_ROUTE_KEY);
    assert_int_equal(r.hash, tt.hash);
    assert_int_equal(r.hash, utf8.hash);
    assert_int_equal(r.hash, old.hash);
    assert_int_not_equal(r.hash, other.hash);
}

static void route_messages_without_sender_are_fences(void **state)
{
    static const char *const cases[] = {
        "68 03 61 02" EMPTY PID_X,                  /* SEND */
        "68 04 61 0c" EMPTY PID_X "6a",             /* SEND_TT */
        "68 01 61 05",                              /* NODE_LINK */
        "68 03 61 07" PID_P PID_X,                  /* GROUP_LEADER: P is the leader */
        "68 03 61 04" PID_P PID_X,                  /* UNLINK: not in the table */
        "68 05 61 15" REX PID_X REF_R REX,          /* MONITOR_P_EXIT from a name */
        "68 04 61 1c" REX PID_X REF_R,              /* PAYLOAD_MONITOR_P_EXIT from a name */
        "68 04 61 25 61 00" EMPTY REX,              /* ALTACT_SIG_SEND without a pid */
        "68 05 61 1f" REF_R PID_X "61 00 61 05",    /* SPAWN_REPLY with neither */
        "68 05 61 1f" PID_P PID_X "61 00" REX,      /* ... with an error, no request id */
        "68 04 61 23" PID_P "6d 00000001 00" PID_X, /* a binary: not understood */
        "68 04 61 26" PID_P PID_X REX,              /* 38: unknown */
        "68 04 61 00" PID_P PID_X REX,
        "68 04 61 ff" PID_P PID_X REX,
        "68 04 62 00000116" PID_P PID_X REX,
        "68 04 62 ffffffff" PID_P PID_X REX,
        "68 02 61 23 61 07", /* arity too small */
        "68 00",
        "69 00000003 61 16" PID_P PID_X,                  /* LARGE_TUPLE */
        "83 68 03 61 16" PID_P PID_X,                     /* a second version byte */
        "68 03 61 16 58 52 00 0000005a 00000000 00000001" /* atom cache reference as node */
    };
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char hex[512];
        struct bp_route r;
        snprintf(hex, sizeof(hex), H68 "%s 83 6a", cases[i]);
        r = peek(hex);
        assert_int_equal(r.kind, BP_ROUTE_FENCE);
        assert_false(r.fragmented);
        assert_true(r.last);
        snprintf(hex, sizeof(hex), FIRST "%s 83 6a", cases[i]);
        r = peek(hex);
        assert_int_equal(r.kind, BP_ROUTE_FENCE);
        assert_true(r.fragmented);
        assert_false(r.last);
    }
    assert_int_equal(peek("83 44 01 68 03 61 16" PID_P PID_X).kind, BP_ROUTE_FENCE);
    assert_int_equal(peek("83 47 00 68 03 61 16" PID_P PID_X).kind, BP_ROUTE_FENCE);
    assert_int_equal(peek("70 84 68 03 61 16" PID_P PID_X).kind, BP_ROUTE_FENCE);
    assert_int_equal(peek("00 00").kind, BP_ROUTE_FENCE);
}

static void route_fragments_carry_their_sequence(void **state)
{
    struct bp_route r = peek("83 46 ffeeddccbbaa9988 0000000000000002 0102");
    (void)state;

    assert_int_equal(r.kind, BP_ROUTE_CONT);
    assert_true(r.fragmented);
    assert_false(r.last);
    assert_true(r.seq_id == 0xffeeddccbbaa9988u);
    r = peek("83 46 ffeeddccbbaa9988 0000000000000001");
    assert_int_equal(r.kind, BP_ROUTE_CONT);
    assert_true(r.last);
    r = peek("83 46 ffeeddccbbaa9988 0000000100000001");
    assert_false(r.last);
    r = peek("83 45 0000000000000007 0000000000000001 00 68 03 61 16" PID_P PID_X);
    assert_int_equal(r.kind, BP_ROUTE_KEY);
    assert_true(r.fragmented);
    assert_true(r.last);
}

/* Every cut of a head: a fence, or (where a fragment has no place) an error; never the key of
 * something that is not there. */
static void route_cut_off_heads_are_fences(void **state)
{
    static const char *const msgs[] = {
        H68 "68 03 61 16" PID_P,
        "70 83 68 03 61 21" PID_P_UTF8,
        FIRST "68 05 61 1f" REF_R PID_X "61 01" PID_P,
        FIRST "68 05 61 1f" REF_R PID_X "61 00 64",
        H68 "68 04 61 23 6e 07 00 cdab8967452301" PID_P,
    };
    (void)state;

    for (size_t i = 0; i < sizeof(msgs) / sizeof(msgs[0]); i++) {
        uint8_t full[512];
        size_t len = t_hex(msgs[i], full, sizeof(full));
        size_t need = i == 2 || i == 3 ? 18 : 2;
        for (size_t n = 0; n <= len; n++) {
            struct bp_route r;
            uint8_t *exact = malloc(n + 1); /* ASan sees a read behind the head */
            int rc;
            memcpy(exact + 1, full, n);
            rc = bp_route_peek(exact + 1, n, &r);
            assert_int_equal(rc, n < need ? BP_E_INVALID : 0);
            if (n < need) {
                assert_true(r.seq_id == 0 && !r.fragmented);
            } else {
                assert_int_equal(r.kind, n == len ? BP_ROUTE_KEY : BP_ROUTE_FENCE);
                assert_int_equal(r.fragmented, need == 18);
            }
            free(exact);
        }
    }
}

static void route_impossible_fragments_are_invalid(void **state)
{
    uint8_t head[64];
    struct bp_route r;
    size_t len;
    (void)state;

    len = t_hex("83 46 0000000000000007 0000000000000000", head, sizeof(head));
    assert_int_equal(bp_route_peek(head, len, &r), BP_E_INVALID);
    len = t_hex("83 45 0000000000000007 0000000000000000 00 68", head, sizeof(head));
    assert_int_equal(bp_route_peek(head, len, &r), BP_E_INVALID);
    len = t_hex("83 46 0000000000000007 00000000000001", head, sizeof(head));
    assert_int_equal(bp_route_peek(head, len, &r), BP_E_INVALID);
    assert_int_equal(bp_route_peek(head, 0, &r), BP_E_INVALID);
}

/* Neighbouring pids, as a VM hands them out, fill all streams evenly. */
static void route_neighbouring_pids_spread_over_streams(void **state)
{
    unsigned count[16] = {0};
    uint8_t head[64];
    size_t len = t_hex(H68 "68 03 61 16" PID_P PID_X, head, sizeof(head));
    (void)state;

    for (unsigned id = 0; id < 1600; id++) {
        struct bp_route r;
        head[14 + 2] = (uint8_t)(id >> 8); /* ID:32 of the pid starts at 14 */
        head[14 + 3] = (uint8_t)id;
        assert_int_equal(bp_route_peek(head, len, &r), 0);
        count[r.hash % 16]++;
    }
    for (size_t i = 0; i < 16; i++) {
        assert_in_range(count[i], 60, 145);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(route_keyed_operations_go_with_their_sender),
    cmocka_unit_test(route_terms_as_otp_prints_them_are_understood),
    cmocka_unit_test(route_spawn_error_goes_with_its_request),
    cmocka_unit_test(route_messages_without_sender_are_fences),
    cmocka_unit_test(route_fragments_carry_their_sequence),
    cmocka_unit_test(route_cut_off_heads_are_fences),
    cmocka_unit_test(route_impossible_fragments_are_invalid),
    cmocka_unit_test(route_neighbouring_pids_spread_over_streams),
};

T_MAIN(tests)
