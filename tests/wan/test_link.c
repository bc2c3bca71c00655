/* SPDX-License-Identifier: Apache-2.0 */
/* The emulator's parts without I/O, in virtual time: link, parameters, NAT, ICMP. */
#include "support/t.h"

#include "wan/config.h"

#define START (10 * WAN_SEC)

static struct wan_net net;

static int setup(void **state)
{
    (void)state;
    wan_net_init(&net, 7, 0x0a4d0001);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    wan_net_free(&net);
    return 0;
}

static void set(const char *key, const char *value)
{
    char err[256] = "";

    if (!wan_net_set(&net, key, value, err, sizeof(err))) {
        fail_msg("%s", err);
    }
}

static enum wan_verdict push(uint32_t number, size_t len, uint64_t now)
{
    uint8_t data[2000] = {0};

    memcpy(data, &number, sizeof(number));
    return wan_link_push(&net.dir[WAN_AB], data, len, now);
}

/* Runs to the next arrival; its number, and when it came. */
static uint32_t next_arrival(uint64_t *at)
{
    struct wan_packet *p = NULL;
    uint32_t number;

    while (p == NULL) {
        *at = wan_link_deadline(&net.dir[WAN_AB]);
        assert_true(*at != WAN_NEVER);
        p = wan_link_pop(&net.dir[WAN_AB], *at);
    }
    memcpy(&number, p->data, sizeof(number));
    free(p);
    return number;
}

static bool is_empty(void)
{
    return wan_link_deadline(&net.dir[WAN_AB]) == WAN_NEVER;
}

static void link_delay_is_exact(void **state)
{
    uint64_t at;

    (void)state;
    set("delay", "20ms");
    push(1, 100, START);
    push(2, 100, START + 5);
    assert_null(wan_link_pop(&net.dir[WAN_AB], START + 20 * WAN_MS - 1));
    assert_int_equal(next_arrival(&at), 1);
    assert_true(at == START + 20 * WAN_MS);
    assert_int_equal(next_arrival(&at), 2);
    assert_true(at == START + 20 * WAN_MS + 5);
    assert_true(is_empty());
}

static void link_jitter_spreads_and_keeps_order(void **state)
{
    uint64_t low = WAN_NEVER;
    uint64_t high = 0;
    uint64_t at;

    (void)state;
    set("delay", "20ms");
    set("jitter", "5ms");
    for (uint32_t i = 0; i < 1000; i++) { /* too far from each other to meet */
        uint64_t sent = START + i * 100 * WAN_MS;

        push(i, 100, sent);
        assert_int_equal(next_arrival(&at), i);
        low = at - sent < low ? at - sent : low;
        high = at - sent > high ? at - sent : high;
    }
    assert_in_range(low, 15 * WAN_MS, 15 * WAN_MS + WAN_MS / 10);
    assert_in_range(high, 25 * WAN_MS - WAN_MS / 10, 25 * WAN_MS);
    for (uint32_t i = 0; i < 1000; i++) {
        push(i, 100, START + 200 * WAN_SEC + i);
    }
    for (uint32_t i = 0; i < 1000; i++) {
        assert_int_equal(next_arrival(&at), i);
    }
}

static void link_rate_spaces_packets(void **state)
{
    uint64_t at;

    (void)state;
    set("rate", "8mbit"); /* 1000 bytes take 1 ms */
    set("delay", "10ms");
    for (uint32_t i = 0; i < 50; i++) {
        assert_int_equal(push(i, 1000, START), WAN_TAKEN);
    }
    for (uint32_t i = 0; i < 50; i++) {
        assert_int_equal(next_arrival(&at), i);
        assert_true(at == START + (10 + i + 1) * WAN_MS);
    }
    /* The transmitter was idle meanwhile: nothing is saved up. */
    push(50, 1000, START + WAN_SEC);
    next_arrival(&at);
    assert_true(at == START + WAN_SEC + 11 * WAN_MS);
}

static void link_queue_is_bounded(void **state)
{
    uint64_t at;
    uint32_t n = 0;

    (void)state;
    set("rate", "8mbit");
    set("queue", "10000");
    for (uint32_t i = 0; i < 50; i++) {
        n += push(i, 1000, START) == WAN_TAKEN;
    }
    assert_int_equal(n, 10);
    assert_int_equal(net.dir[WAN_AB].stats.queue_full, 40);
    assert_int_equal(net.dir[WAN_AB].stats.backlog_max, 10000);
    /* Half of it is sent: there is room for as much. */
    assert_int_equal(push(100, 1000, START + 5 * WAN_MS), WAN_TAKEN);
    while (!is_empty()) {
        next_arrival(&at);
        n--;
    }
    assert_int_equal((int)n, -1);
    set("queue", "0");
    assert_int_equal(push(101, 1000, START + WAN_SEC), WAN_TAKEN);
    assert_int_equal(push(102, 1000, START + WAN_SEC), WAN_DROPPED);
}

static void link_new_rate_is_for_what_waits(void **state)
{
    uint64_t at;

    (void)state;
    set("rate", "1kbit");
    for (uint32_t i = 0; i < 10; i++) {
        push(i, 1000, START);
    }
    set("rate", "8mbit");
    for (uint32_t i = 0; i < 10; i++) {
        assert_int_equal(next_arrival(&at), i);
    }
    assert_true(at <= START + 10 * WAN_MS);
}

/* Of 100,000 packets; the deviation is below 4 sigma for the fixed seed. */
static void link_shares_are_right(void **state)
{
    struct wan_stats *s = &net.dir[WAN_AB].stats;
    uint32_t arrived = 0;
    uint32_t swapped = 0;
    uint32_t last = 0;
    uint64_t at;

    (void)state;
    set("loss", "5%");
    set("dup", "2%");
    set("reorder", "1%");
    for (uint32_t i = 1; i <= 100000; i++) {
        push(i, 100, START + i * WAN_MS / 10);
        while (!is_empty() && wan_link_deadline(&net.dir[WAN_AB]) <= START + i * WAN_MS / 10) {
            uint32_t n = next_arrival(&at);

            arrived++;
            swapped += n < last;
            last = n > last ? n : last;
        }
    }
    assert_in_range(s->lost, 5000 - 276, 5000 + 276);
    assert_in_range(s->duplicated, 1900 - 174, 1900 + 174);
    assert_in_range(s->reordered, 950 - 123, 950 + 123);
    /* 1 ms later: ten others have overtaken it; its duplicate counts too. */
    assert_in_range(swapped, s->reordered - 5, s->reordered + s->reordered / 20);
    while (!is_empty()) {
        next_arrival(&at);
        arrived++;
    }
    assert_int_equal(arrived, 100000 - s->lost + s->duplicated);
    assert_int_equal(net.dir[WAN_AB].bytes, 0);
}

static void link_same_seed_same_fates(void **state)
{
    static struct wan_net other;

    (void)state;
    set("loss", "50%");
    wan_net_init(&other, 7, 0x0a4d0001);
    other.dir[WAN_AB].p = net.dir[WAN_AB].p;
    other.dir[WAN_AB].p.dup = WAN_CERTAIN; /* does not change who is lost */
    for (uint32_t i = 0; i < 1000; i++) {
        uint8_t data[4];

        push(i, sizeof(data), START);
        memcpy(data, &i, sizeof(data));
        wan_link_push(&other.dir[WAN_AB], data, sizeof(data), START);
        assert_int_equal(net.dir[WAN_AB].stats.lost, other.dir[WAN_AB].stats.lost);
    }
    assert_in_range(net.dir[WAN_AB].stats.lost, 437, 563);
    wan_net_free(&other);
}

static void link_down_and_mtu_drop(void **state)
{
    uint64_t at;

    (void)state;
    set("mtu", "1280");
    set("delay", "10ms");
    assert_int_equal(push(1, 1280, START), WAN_TAKEN);
    assert_int_equal(push(2, 1281, START), WAN_TOO_BIG);
    set("down", "1");
    assert_int_equal(push(3, 100, START), WAN_DROPPED);
    assert_int_equal(next_arrival(&at), 1); /* was on the wire already */
    assert_true(is_empty());
    set("down", "0");
    assert_int_equal(push(4, 100, at), WAN_TAKEN);
    assert_int_equal(next_arrival(&at), 4);
}

static void link_what_waits_when_it_goes_down_is_lost(void **state)
{
    uint64_t at;

    (void)state;
    set("rate", "8mbit");
    push(1, 1000, START);
    push(2, 1000, START);
    assert_int_equal(next_arrival(&at), 1);
    set("down", "1");
    assert_null(wan_link_pop(&net.dir[WAN_AB], START + WAN_SEC));
    assert_true(is_empty());
    assert_int_equal(net.dir[WAN_AB].stats.down, 1);
}

static void link_memory_is_bounded(void **state)
{
    (void)state;
    set("delay", "60s");
    for (uint32_t i = 0; i < WAN_MAX_PACKETS + 10; i++) {
        push(i, 40, START);
    }
    assert_int_equal(net.dir[WAN_AB].stats.memory_full, 10);
}

static void params_bad_ones_change_nothing(void **state)
{
    static const char *const bad[][2] = {
        {"delay", "20"},      {"delay", "-1ms"},  {"delay", "x"},
        {"delay", "1h"},      {"delay", "61s"},   {"loss", "101%"},
        {"loss", "5"},        {"loss", "nan%"},   {"rate", "10"},
        {"rate", "1bit"},     {"mtu", "0"},       {"mtu", "67"},
        {"mtu", "65536"},     {"down", "2"},      {"queue", "1g"},
        {"nat_port", "x"},    {"nat_port", "-1"}, {"nat_port", ""},
        {"nat_addr", "10.1"}, {"nat_addr", ""},   {"ab.nat_port", "1"},
        {"xy.loss", "1%"},    {"", "1"},          {"delay", ""},
    };
    struct wan_net before;
    char err[256];

    (void)state;
    set("ba.delay", "5ms");
    before = net;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (wan_net_set(&net, bad[i][0], bad[i][1], err, sizeof(err))) {
            fail_msg("%s=%s was taken", bad[i][0], bad[i][1]);
        }
    }
    assert_memory_equal(&before, &net, sizeof(net));
}

static void params_units_and_directions(void **state)
{
    (void)state;
    set("delay", "1.5ms");
    set("ab.delay", "300us");
    set("ba.loss", "0.1%");
    set("rate", "2.5gbit");
    set("queue", "1k");
    set("nat_port", "+1");
    set("nat_port", "+2");
    assert_true(net.dir[WAN_AB].p.delay == 300000);
    assert_true(net.dir[WAN_BA].p.delay == 1500000);
    assert_true(net.dir[WAN_AB].p.loss == 0);
    assert_true(net.dir[WAN_BA].p.loss == 4294967);
    assert_true(net.dir[WAN_BA].p.rate == UINT64_C(2500000000));
    assert_true(net.dir[WAN_AB].p.queue == 1024);
    assert_int_equal(net.nat.port_offset, 3);
    set("rate", "0");
    set("nat_port", "0");
    assert_true(net.dir[WAN_BA].p.rate == 0);
    assert_int_equal(net.nat.port_offset, 0);
}

/* ---- packets ---- */

/* 10.77.0.1:5000 -> 10.77.0.2:6000, "hello", UDP; sums computed by hand-written code below. */
static const char udp_packet[] = "4500 0021 0001 4000 4011 0000 0a4d0001 0a4d0002"
                                 "1388 1770 000d 0000 68656c6c6f";

static uint16_t sum16(const uint8_t *p, size_t len, uint32_t sum)
{
    for (size_t i = 0; i < len; i++) {
        sum += i % 2 == 0 ? (uint32_t)p[i] << 8 : p[i];
    }
    while (sum > 0xffff) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)sum;
}

static bool sums_are_right(const uint8_t *ip, size_t len)
{
    uint32_t pseudo = sum16(ip + 12, 8, ip[9] + (uint32_t)(len - 20));

    return sum16(ip, 20, 0) == 0xffff && sum16(ip + 20, len - 20, pseudo) == 0xffff;
}

static size_t make_udp(uint8_t ip[64])
{
    size_t len = t_hex(udp_packet, ip, 64);
    uint16_t sum = (uint16_t)~sum16(ip, 20, 0);

    ip[10] = (uint8_t)(sum >> 8);
    ip[11] = (uint8_t)sum;
    sum = (uint16_t)~sum16(ip + 20, len - 20, sum16(ip + 12, 8, ip[9] + (uint32_t)(len - 20)));
    ip[26] = (uint8_t)(sum >> 8);
    ip[27] = (uint8_t)sum;
    assert_true(sums_are_right(ip, len));
    return len;
}

/* Makes the answer to a packet: addresses and ports swapped, sums stay right. */
static void turn(uint8_t *ip)
{
    uint8_t copy[24];

    memcpy(copy, ip, sizeof(copy));
    memcpy(ip + 12, copy + 16, 4);
    memcpy(ip + 16, copy + 12, 4);
    memcpy(ip + 20, copy + 22, 2);
    memcpy(ip + 22, copy + 20, 2);
}

static void nat_translates_both_ways(void **state)
{
    uint8_t ip[64];
    uint8_t seen[64];
    size_t len = make_udp(ip);

    (void)state;
    set("nat_port", "1");
    set("nat_addr", "10.77.0.3");
    assert_true(wan_nat_out(&net.nat, ip, len));
    assert_true(sums_are_right(ip, len));
    assert_int_equal(ip[15], 3);
    assert_int_equal(ip[20] << 8 | ip[21], 5001);
    memcpy(seen, ip, len);
    turn(ip);
    assert_true(wan_nat_in(&net.nat, ip, len));
    assert_true(sums_are_right(ip, len));
    assert_int_equal(ip[19], 1);
    assert_int_equal(ip[22] << 8 | ip[23], 5000);
    /* After a rebinding the old mapping is gone, and so is the unmapped address. */
    set("nat_port", "+1");
    turn(seen);
    assert_false(wan_nat_in(&net.nat, seen, len));
    make_udp(ip);
    turn(ip);
    assert_false(wan_nat_in(&net.nat, ip, len));
    make_udp(ip);
    assert_true(wan_nat_out(&net.nat, ip, len));
    assert_int_equal(ip[20] << 8 | ip[21], 5002);
}

static void nat_keeps_absent_checksum_absent(void **state)
{
    uint8_t ip[64];
    size_t len = make_udp(ip);

    (void)state;
    set("nat_port", "1");
    ip[26] = ip[27] = 0;
    assert_true(wan_nat_out(&net.nat, ip, len));
    assert_int_equal(ip[26] | ip[27], 0);
}

/* All offsets: among them some for which the sum comes out as 0, which must become 0xffff. */
static void nat_sums_are_right_for_all_ports(void **state)
{
    (void)state;
    for (uint16_t i = 1; i < 60000; i++) {
        uint8_t ip[64];
        size_t len = make_udp(ip);

        wan_nat_set(&net.nat, 0, i);
        assert_true(wan_nat_out(&net.nat, ip, len));
        assert_true(sums_are_right(ip, len));
        assert_true((ip[26] | ip[27]) != 0);
    }
}

static void nat_table_is_bounded(void **state)
{
    uint8_t ip[64];
    size_t len = make_udp(ip);

    (void)state;
    for (uint32_t i = 0; i <= WAN_NAT_MAX; i++) {
        set(i == 0 ? "nat_port" : "delay", i == 0 ? "7" : "0");
        len = make_udp(ip);
        ip[20] = (uint8_t)((2000 + i) >> 8);
        ip[21] = (uint8_t)(2000 + i);
        assert_int_equal(wan_nat_out(&net.nat, ip, len), i < WAN_NAT_MAX);
    }
}

/* Truncated in every way: only what the sanitizers say counts. */
static void packets_cut_short_are_survived(void **state)
{
    uint8_t ip[64];
    size_t len = make_udp(ip);

    (void)state;
    set("nat_port", "7");
    for (size_t cut = 0; cut <= len; cut++) {
        uint8_t *copy = malloc(cut + 1);
        uint8_t out[64];

        memcpy(copy, ip, cut);
        if (cut >= 20) {
            copy[3] = (uint8_t)cut;
        }
        assert_int_equal(wan_ip4_ok(copy, cut), cut >= 20);
        for (unsigned proto = 0; proto < 256 && cut >= 20; proto++) {
            copy[9] = (uint8_t)proto;
            wan_nat_out(&net.nat, copy, cut);
            turn(cut >= 24 ? copy : (uint8_t[64]){0x45});
            wan_nat_in(&net.nat, copy, cut);
            wan_icmp_too_big(copy, cut, 1280, out);
        }
        free(copy);
    }
}

static void icmp_tells_the_mtu(void **state)
{
    uint8_t ip[64];
    uint8_t out[64];
    size_t len = make_udp(ip);

    (void)state;
    assert_int_equal(wan_icmp_too_big(ip, len, 1280, out), 56);
    assert_true(wan_ip4_ok(out, 56));
    assert_int_equal(sum16(out, 20, 0), 0xffff);
    assert_int_equal(sum16(out + 20, 36, 0), 0xffff);
    assert_memory_equal(out + 12, ip + 16, 4);
    assert_memory_equal(out + 16, ip + 12, 4);
    assert_int_equal(out[20] << 8 | out[21], 3 << 8 | 4);
    assert_int_equal(out[26] << 8 | out[27], 1280);
    assert_memory_equal(out + 28, ip, 28);
    assert_int_equal(wan_icmp_too_big(out, 56, 1280, ip), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(link_delay_is_exact),
        TEST(link_jitter_spreads_and_keeps_order),
        TEST(link_rate_spaces_packets),
        TEST(link_queue_is_bounded),
        TEST(link_new_rate_is_for_what_waits),
        TEST(link_shares_are_right),
        TEST(link_same_seed_same_fates),
        TEST(link_down_and_mtu_drop),
        TEST(link_what_waits_when_it_goes_down_is_lost),
        TEST(link_memory_is_bounded),
        TEST(params_bad_ones_change_nothing),
        TEST(params_units_and_directions),
        TEST(nat_translates_both_ways),
        TEST(nat_keeps_absent_checksum_absent),
        TEST(nat_sums_are_right_for_all_ports),
        TEST(nat_table_is_bounded),
        TEST(packets_cut_short_are_survived),
        TEST(icmp_tells_the_mtu),
    };

    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
