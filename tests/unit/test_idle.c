/* SPDX-License-Identifier: Apache-2.0 */
/* What is alive across a connection, from control messages in the forms that OTP encodes. */
#include "support/t.h"

#include "dist/idle.h"

#include <string.h>
#include <time.h>

/* Two processes of ours, two of the peer, a reference of each. */
#define A      "58 7703 614068 0000005a 00000000 00000001"
#define B      "58 7703 614068 0000005b 00000001 00000001"
#define X      "58 7705 6240682e78 0000004d 00000003 01020304"
#define Y      "58 7705 6240682e78 0000005a 00000000 01020304"
#define R      "5a 0003 7703 614068 00000001 0001a1c1 60380001 03e66da7"
#define Q      "5a 0003 7703 614068 00000001 0001a1c2 60380001 03e66da7"
#define REX    "7703 726578"
#define BRIDGE "7711 62617272656c5f7032705f627269646765"
#define H      "83 44 00 "
#define P      "70 83 "

static struct bp_idle idle;

static int start(void **state)
{
    (void)state;
    bp_idle_init(&idle, bp_mem_libc());
    return 0;
}

static int stop(void **state)
{
    (void)state;
    bp_idle_free(&idle);
    return 0;
}

static void message(bool out, const char *hex)
{
    uint8_t p[1024];
    size_t len = t_hex(hex, p, sizeof(p));

    bp_idle_message(&idle, p, len, out);
    assert_false(idle.doubtful);
}

#define OUT(hex) message(true, hex)
#define IN(hex)  message(false, hex)

static void idle_links_end_in_every_way(void **state)
{
    (void)state;
    OUT(H "68 03 61 01" A X);
    assert_int_equal(idle.n, 1);
    IN(H "68 03 61 01" X A); /* both ends at once: one link */
    assert_int_equal(idle.n, 1);
    IN(H "68 04 61 23 61 07" X A); /* UNLINK_ID */
    assert_int_equal(idle.n, 0);
    IN(H "68 04 61 24 61 07" X A); /* an ACK ends nothing */
    OUT(P "68 03 61 01" A X);
    OUT(P "68 03 61 01" B X);
    OUT(P "68 03 61 01" A Y);
    assert_int_equal(idle.n, 3);
    OUT(H "68 04 61 23 6e 03 00 010203" A X); /* ids may be big */
    assert_int_equal(idle.n, 2);
    OUT(H "68 04 61 24 61 01" A X);
    assert_int_equal(idle.n, 2);
    IN(H "68 03 61 18" X B "77 02 6f6b"); /* PAYLOAD_EXIT */
    assert_int_equal(idle.n, 1);
    OUT(H "68 04 61 03" A Y REX); /* EXIT */
    assert_int_equal(idle.n, 0);
    OUT(H "68 03 61 01" A X);
    IN(H "68 05 61 0d" X A "6a" REX); /* EXIT_TT */
    assert_int_equal(idle.n, 0);
    OUT(H "68 03 61 01" A X);
    IN(H "68 04 61 19" X A "6a"); /* PAYLOAD_EXIT_TT */
    assert_int_equal(idle.n, 0);
    OUT(H "68 03 61 01" A X);
    OUT(H "68 03 61 04" A X); /* UNLINK, before OTP 23 */
    assert_int_equal(idle.n, 0);
    IN(H "68 03 61 01" X A); /* pids of both ends have the same numbers, mirrored: two links */
    IN(H "68 03 61 01" Y A);
    assert_int_equal(idle.n, 2);
    OUT(H "68 04 61 08" A X REX); /* exit/2 ends no link */
    OUT(H "68 03 61 1a" A X);
    assert_int_equal(idle.n, 2);
}

static void idle_monitors_are_those_of_one_end(void **state)
{
    (void)state;
    OUT(H "68 04 61 13" A X R);
    IN(H "68 04 61 13" X A R); /* the same numbers, another's */
    assert_int_equal(idle.n, 2);
    OUT(H "68 04 61 14" A X R);
    assert_int_equal(idle.n, 1);
    IN(H "68 05 61 15" X A R REX); /* passed our DEMONITOR on the way: ends nothing else */
    assert_int_equal(idle.n, 1);
    OUT(H "68 05 61 15" A X R REX);
    assert_int_equal(idle.n, 0);
    OUT(H "68 04 61 13" A REX R); /* by name; its end has a name, too */
    assert_int_equal(idle.n, 1);
    IN(H "68 04 61 1c" REX A R); /* PAYLOAD_MONITOR_P_EXIT */
    assert_int_equal(idle.n, 0);
    IN(H "68 04 61 13" X REX Q);
    IN(H "68 04 61 14" X REX Q);
    assert_int_equal(idle.n, 0);
}

static void idle_spawn_requests_become_what_they_asked_for(void **state)
{
    static const char *const request = H "68 06 61 1d" R A A "68 03" REX REX "6101 6a";
    (void)state;

    OUT(request);
    assert_int_equal(idle.n, 1);
    IN(H "68 05 61 1f" R A "6100" X); /* neither link nor monitor */
    assert_int_equal(idle.n, 0);
    OUT(request);
    IN(H "68 05 61 1f" R A "6101" X); /* a link */
    assert_int_equal(idle.n, 1);
    IN(H "68 03 61 18" X A);
    assert_int_equal(idle.n, 0);
    OUT(request);
    IN(H "68 05 61 1f" R A "6102" X); /* a monitor: its reference is the request's */
    assert_int_equal(idle.n, 1);
    IN(H "68 04 61 1c" X A R);
    assert_int_equal(idle.n, 0);
    OUT(request);
    IN(H "68 05 61 1f" R A "6103" X);
    assert_int_equal(idle.n, 2);
    OUT(H "68 04 61 14" A X R);
    OUT(H "68 04 61 23 61 07" A X);
    assert_int_equal(idle.n, 0);
    OUT(H "68 07 61 1e" R A A "68 03" REX REX "6101 6a 6a"); /* with a trace token */
    IN(H "68 06 61 20" R A "6103" REX "6a");                 /* ... an error */
    assert_int_equal(idle.n, 0);
    IN(H "68 06 61 1d" Q X X "68 03" REX REX "6101 6a"); /* the peer's */
    OUT(H "68 05 61 1f" Q X "6101" A);
    assert_int_equal(idle.n, 1);
    IN(H "68 04 61 03" X A REX);
    assert_int_equal(idle.n, 0);
}

static void idle_fragments_count_once(void **state)
{
    (void)state;
    OUT("83 45 0102030405060708 0000000000000002 00 68 04 61 13" A X R);
    assert_int_equal(idle.n, 1);
    OUT("83 46 0102030405060708 0000000000000001 68 04 61 14" A X R); /* payload, whatever it is */
    assert_int_equal(idle.n, 1);
    OUT("83");
    OUT("");
    IN("83 44 00");
    OUT("83 45 0102030405060708 0000000000000001 00 68 04 61 14" A X R);
    assert_int_equal(idle.n, 0);
}

static void idle_membership_is_known_by_its_name(void **state)
{
    (void)state;
    OUT(H "68 04 61 06" A "7700" REX);
    OUT(H "68 04 61 06" A "7700"
          "7712 62617272656c5f7032705f62726964676573");
    assert_int_equal(idle.own, 0);
    OUT(H "68 04 61 06" A "7700" BRIDGE);
    IN(H "68 04 61 06" X "7700" BRIDGE);
    IN(H "68 04 61 06" X "640000"
         "640011 62617272656c5f7032705f627269646765");
    IN(P "68 05 61 10" X "7700" BRIDGE "6a");
    assert_int_equal(idle.own, 4);
    OUT(H "68 04 61 06" A "7700" REX "83 68 02" A "7710 66656174757265735f72657175657374");
    assert_int_equal(idle.greetings, 1);
    OUT(H "68 04 61 06" A "7700" REX "83 68 02" A "7710 66656174757265735f72657175657375");
    OUT(H "68 04 61 06" A "7700"
          "7703 726579"
          "83 7710 66656174757265735f72657175657374");
    assert_int_equal(idle.greetings, 1);
    assert_int_equal(idle.own, 4);
    assert_int_equal(idle.n, 0);
}

static void idle_what_it_cannot_read_is_doubtful(void **state)
{
    static const char *const bad[] = {
        H "68 04 61 13" A X,               /* the reference is missing */
        H "68 04 61 13" A X A,             /* ... is none */
        H "68 03 61 01" A REX,             /* a link to a name */
        H "68 05 61 1f" R A "6100",        /* the result is missing */
        H "6c 00000003 61 01" A X,         /* no tuple */
        H "68 04 61 23 68 00" A X,         /* an id that is a tuple */
        H "68 04 62 00000013" A X "61 00", /* the operation in four bytes */
    };
    (void)state;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint8_t p[256];
        struct bp_idle x;
        size_t len = t_hex(bad[i], p, sizeof(p));
        bp_idle_init(&x, bp_mem_libc());
        bp_idle_message(&x, p, len, false);
        assert_true(x.doubtful);
        bp_idle_free(&x);
    }
}

/* --- many --------------------------------------------------------------------- */

static size_t monitor(uint8_t *p, uint8_t op, uint32_t n)
{
    size_t len = t_hex(H "68 04 61 13" A X R, p, 256);

    p[6] = op;
    p[len - 12] = (uint8_t)(n >> 24);
    p[len - 11] = (uint8_t)(n >> 16);
    p[len - 10] = (uint8_t)(n >> 8);
    p[len - 9] = (uint8_t)n;
    return len;
}

static void idle_random_monitors_same_as_model(void **state)
{
    static bool alive[3000];
    uint64_t rng = t_seed(4711);
    uint32_t n = 0;
    (void)state;

    memset(alive, 0, sizeof(alive));
    for (unsigned step = 0; step < 200000; step++) {
        /* Waves: mostly more, then mostly less. */
        bool more = t_rand(&rng) % 100 < (step / 20000 % 2 == 0 ? 70u : 30u);
        uint32_t k = (uint32_t)(t_rand(&rng) % 3000);
        bool out = k % 2 == 0;
        uint8_t p[256];
        size_t len = monitor(p, more ? 19 : t_rand(&rng) % 2 == 0 ? 20 : 21, k);
        n += more && !alive[k] ? 1 : 0;
        n -= !more && alive[k] ? 1 : 0;
        alive[k] = more;
        bp_idle_message(&idle, p, len, p[6] == 21 ? !out : out);
        assert_int_equal(idle.n, n);
    }
    for (uint32_t k = 0; k < 3000; k++) {
        uint8_t p[256];
        size_t len = monitor(p, 20, k);
        bp_idle_message(&idle, p, len, k % 2 == 0);
    }
    assert_int_equal(idle.n, 0);
    assert_null(idle.live); /* the memory is given back */
}

static void idle_too_many_are_doubtful_not_forgotten(void **state)
{
    uint8_t p[256];
    (void)state;

    for (uint32_t k = 0; k < BP_IDLE_MAX / 2; k++) {
        size_t len = monitor(p, 19, k);
        bp_idle_message(&idle, p, len, false);
    }
    assert_int_equal(idle.n, BP_IDLE_MAX / 2);
    assert_false(idle.doubtful);
    bp_idle_message(&idle, p, monitor(p, 19, BP_IDLE_MAX), false);
    assert_true(idle.doubtful);
    for (uint32_t k = 0; k <= BP_IDLE_MAX; k++) {
        size_t len = monitor(p, 20, k);
        bp_idle_message(&idle, p, len, false);
    }
    assert_true(idle.doubtful); /* for good */
    assert_int_equal(idle.n, 0);
    assert_null(idle.live);
}

/* Not a test of speed: prints what messages cost. */
static void idle_costs_little(void **state)
{
    enum { N = 1000000 };
    static const struct {
        const char *what;
        const char *hex;
    } cases[] = {{"SEND_SENDER", H "68 03 61 16" A X},
                 {"REG_SEND", H "68 04 61 06" A "7700" REX},
                 {"MONITOR_P and DEMONITOR_P", H "68 04 61 13" A X R}};
    (void)state;

    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct timespec from, to;
        uint8_t p[256];
        size_t len = t_hex(cases[c].hex, p, sizeof(p));
        clock_gettime(CLOCK_MONOTONIC, &from);
        for (unsigned i = 0; i < N; i++) {
            if (c == 2) {
                p[6] = i % 2 == 0 ? 19 : 20;
            }
            bp_idle_message(&idle, p, len, true);
        }
        clock_gettime(CLOCK_MONOTONIC, &to);
        print_message(
            "%-26s %5.1f ns each\n", cases[c].what,
            ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) / N);
    }
    assert_int_equal(idle.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(idle_links_end_in_every_way, start, stop),
        cmocka_unit_test_setup_teardown(idle_monitors_are_those_of_one_end, start, stop),
        cmocka_unit_test_setup_teardown(idle_spawn_requests_become_what_they_asked_for, start,
                                        stop),
        cmocka_unit_test_setup_teardown(idle_fragments_count_once, start, stop),
        cmocka_unit_test_setup_teardown(idle_membership_is_known_by_its_name, start, stop),
        cmocka_unit_test(idle_what_it_cannot_read_is_doubtful),
        cmocka_unit_test_setup_teardown(idle_random_monitors_same_as_model, start, stop),
        cmocka_unit_test_setup_teardown(idle_too_many_are_doubtful_not_forgotten, start, stop),
        cmocka_unit_test_setup_teardown(idle_costs_little, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
