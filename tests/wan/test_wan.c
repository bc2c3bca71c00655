/* SPDX-License-Identifier: Apache-2.0 */
/* The emulator's link and NAT, with real sockets in both sides. */
#include "wan/rig.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef IP_MTU
#define IP_MTU 14
#endif

#define HEADERS 28 /* IPv4 and UDP */

/* ---- the link ---- */

/*
 * Never too early; and within 0.6 ms for both ways, unless the machine is busy with other things:
 * one of 500 tries must show it.
 */
static void echo_takes_two_delays(void **state)
{
    double best = 1e9;
    uint32_t i;

    (void)state;
    rig_set("delay=20ms");
    for (i = 0; i < 500 && (i < 10 || best >= 40.6); i++) {
        double start = rig_now_ms();
        double took;

        rig_send_ab(i, 100);
        assert_int_equal(rig_receive(rig_udp[1], NULL), i);
        assert_int_equal(rig_send_to(rig_udp[1], "10.77.0.1", PORT, i, 100), 0);
        assert_int_equal(rig_receive(rig_udp[0], NULL), i);
        took = rig_now_ms() - start;
        assert_true(took >= 40.0);
        best = took < best ? took : best;
    }
    printf("# best of %u round trips: %.3f ms\n", i, best);
    assert_true(best < 40.6);
}

static void loss_is_about_right(void **state)
{
    long before;
    uint32_t received = 0;

    (void)state;
    before = rig_stat("ab", "lost");
    rig_set("loss=5%");
    for (uint32_t i = 0; i < 2000; i += 100) {
        long out = rig_stat("ab", "in") + 100;

        for (uint32_t j = 0; j < 100; j++) {
            rig_send_ab(i + j, 40);
        }
        rig_wait_stat("ab", "in", out);
    }
    rig_set("loss=0");
    rig_send_ab(9999, 40);
    while (rig_receive(rig_udp[1], NULL) != 9999) {
        received++;
    }
    printf("# %u of 2000 arrived\n", received);
    assert_in_range(received, 1900 - 39, 1900 + 39); /* 4 sigma */
    assert_int_equal(rig_stat("ab", "lost") - before, 2000 - received);
    assert_int_equal(rig_stat("ab", "overruns"), 0);
}

static void duplicates_and_late_ones_arrive(void **state)
{
    long in = rig_stat("ab", "in");
    uint32_t received = 0;
    uint32_t swapped = 0;
    uint32_t last = 0;

    (void)state;
    rig_set("delay=5ms dup=10% reorder=10% reorder_by=20ms");
    for (uint32_t i = 1; i <= 500; i++) {
        rig_send_ab(i, 40);
    }
    rig_wait_stat("ab", "in", in + 500);
    rig_set("delay=100ms dup=0 reorder=0");
    rig_send_ab(9999, 40);
    for (uint32_t n; (n = rig_receive(rig_udp[1], NULL)) != 9999; last = n > last ? n : last) {
        received++;
        swapped += n < last;
    }
    assert_in_range(received, 550 - 27, 550 + 27);
    assert_in_range(swapped, 55 - 32, 55 + 32);
}

/* ms from the first to the last of 200,000 bytes at 10 Mbit/s. */
static double time_of_200_kb(void)
{
    double first = 0;

    for (uint32_t i = 0; i < 201; i++) {
        rig_send_ab(i, 1000 - HEADERS);
    }
    for (uint32_t i = 0; i < 201; i++) {
        assert_int_equal(rig_receive(rig_udp[1], NULL), i);
        first = i == 0 ? rig_now_ms() : first;
    }
    return rig_now_ms() - first;
}

/* On a busy machine the first or the last may be seen late: one of 100 tries must show it. */
static void rate_is_kept(void **state)
{
    double took = 0;

    (void)state;
    rig_set("rate=10mbit queue=1m");
    for (int i = 0; i < 100 && (took < 155 || took > 170); i++) {
        took = time_of_200_kb();
    }
    printf("# 200,000 bytes at 10 Mbit/s took %.2f ms\n", took);
    assert_true(took >= 155 && took <= 170);
}

static void queue_drops_what_does_not_fit(void **state)
{
    long dropped = rig_stat("ab", "queue_full");
    long in = rig_stat("ab", "in");
    uint32_t received = 0;

    (void)state;
    rig_set("rate=1mbit queue=10k");
    for (uint32_t i = 0; i < 100; i++) {
        rig_send_ab(i, 1024 - HEADERS);
    }
    rig_wait_stat("ab", "in", in + 100);
    rig_set("rate=0");
    rig_send_ab(9999, 100);
    while (rig_receive(rig_udp[1], NULL) != 9999) {
        received++;
    }
    dropped = rig_stat("ab", "queue_full") - dropped;
    assert_int_equal(received + dropped, 100);
    assert_in_range(received, 10, 50); /* ten wait; some are sent while we send */
}

static void partition_of_both_and_of_one_direction(void **state)
{
    long down = rig_stat("ab", "down");

    (void)state;
    rig_set("down=1");
    rig_send_ab(1, 100);
    rig_wait_stat("ab", "down", down + 1);
    rig_set("down=0");
    rig_send_ab(2, 100);
    assert_int_equal(rig_receive(rig_udp[1], NULL), 2);
    rig_set("ba.down=1");
    down = rig_stat("ba", "down");
    rig_send_ab(3, 100);
    assert_int_equal(rig_receive(rig_udp[1], NULL), 3);
    assert_int_equal(rig_send_to(rig_udp[1], "10.77.0.1", PORT, 4, 100), 0);
    rig_wait_stat("ba", "down", down + 1);
    rig_set("ba.down=0");
    assert_int_equal(rig_send_to(rig_udp[1], "10.77.0.1", PORT, 5, 100), 0);
    assert_int_equal(rig_receive(rig_udp[0], NULL), 5);
}

static void mtu_is_a_black_hole(void **state)
{
    int df = IP_PMTUDISC_DO;

    (void)state;
    assert_int_equal(setsockopt(rig_udp[0], IPPROTO_IP, IP_MTU_DISCOVER, &df, sizeof(df)), 0);
    rig_send_ab(1, 9000 - HEADERS); /* the devices take 9000 */
    assert_int_equal(rig_receive(rig_udp[1], NULL), 1);
    rig_set("mtu=1280");
    rig_send_ab(2, 1281 - HEADERS);
    rig_send_ab(3, 9000 - HEADERS);
    rig_send_ab(4, 1280 - HEADERS);
    assert_int_equal(rig_receive(rig_udp[1], NULL), 4);
    rig_send_ab(5, 1281 - HEADERS); /* still nobody has told us */
    rig_set("mtu=9000");
    rig_send_ab(6, 9000 - HEADERS);
    assert_int_equal(rig_receive(rig_udp[1], NULL), 6);
}

static void mtu_with_icmp_is_learnt(void **state)
{
    struct sockaddr_in sa = rig_address("10.77.0.2", PORT + 1);
    struct pollfd p = {.events = POLLIN};
    int df = IP_PMTUDISC_DO;
    int mtu = 0;
    socklen_t len = sizeof(mtu);
    char data[9000] = {0};
    int s = rig_socket("a", SOCK_DGRAM);

    (void)state;
    rig_set("mtu=1280 icmp=1");
    assert_int_equal(setsockopt(s, IPPROTO_IP, IP_MTU_DISCOVER, &df, sizeof(df)), 0);
    assert_int_equal(connect(s, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(send(s, data, 2000, 0), 2000);
    p.fd = s;
    assert_int_equal(poll(&p, 1, WAIT_MS), 1);
    assert_int_equal(send(s, data, 2000, 0), -1);
    assert_int_equal(errno, EMSGSIZE);
    assert_int_equal(getsockopt(s, IPPROTO_IP, IP_MTU, &mtu, &len), 0);
    assert_int_equal(mtu, 1280);
    close(s);
}

/* ---- NAT ---- */

/* a sends, b answers to whom it sees, a gets the answer; checks whom b sees. */
static void echo_through_nat(uint32_t number, const char *seen_ip, int seen_port)
{
    struct sockaddr_in seen;
    struct sockaddr_in want = rig_address(seen_ip, seen_port);
    struct sockaddr_in from;

    rig_send_ab(number, 1000);
    assert_int_equal(rig_receive(rig_udp[1], &seen), number);
    assert_int_equal(ntohs(seen.sin_port), seen_port);
    assert_int_equal(seen.sin_addr.s_addr, want.sin_addr.s_addr);
    assert_int_equal(sendto(rig_udp[1], &number, 4, 0, (struct sockaddr *)&seen, sizeof(seen)), 4);
    assert_int_equal(rig_receive(rig_udp[0], &from), number);
    assert_int_equal(ntohs(from.sin_port), PORT);
}

static void nat_rebinds_port_then_address(void **state)
{
    long lost = rig_stat("ba", "nat");

    (void)state;
    echo_through_nat(1, "10.77.0.1", PORT);
    rig_set("nat_port=+1");
    echo_through_nat(2, "10.77.0.1", PORT + 1);
    rig_set("nat_addr=10.77.0.3");
    echo_through_nat(3, "10.77.0.3", PORT + 1);
    rig_set("nat_port=+1");
    echo_through_nat(4, "10.77.0.3", PORT + 2);
    /* Forgotten mappings and a's own address lead nowhere. */
    assert_int_equal(rig_send_to(rig_udp[1], "10.77.0.3", PORT + 1, 5, 100), 0);
    assert_int_equal(rig_send_to(rig_udp[1], "10.77.0.1", PORT, 6, 100), 0);
    assert_int_equal(rig_send_to(rig_udp[1], "10.77.0.3", PORT + 2, 7, 100), 0);
    assert_int_equal(rig_receive(rig_udp[0], NULL), 7);
    assert_int_equal(rig_stat("ba", "nat") - lost, 2);
    rig_set("nat_port=0 nat_addr=0");
    echo_through_nat(8, "10.77.0.1", PORT);
}

/* b's port is closed: the kernel's ICMP quotes the translated packet, a's socket learns of it. */
static void nat_translates_icmp_errors(void **state)
{
    struct sockaddr_in sa = rig_address("10.77.0.2", PORT + 1);
    struct pollfd p = {.events = POLLIN};
    int s = rig_socket("a", SOCK_DGRAM);

    (void)state;
    rig_set("nat_port=5 nat_addr=10.77.0.3");
    assert_int_equal(connect(s, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(send(s, "x", 1, 0), 1);
    p.fd = s;
    assert_int_equal(poll(&p, 1, WAIT_MS), 1);
    assert_int_equal(recv(s, &sa, 1, 0), -1);
    assert_int_equal(errno, ECONNREFUSED);
    close(s);
}

/* Writes 1 MB into a connection from a to b while reading it; what b reads is what a wrote. */
static void tcp_copy(int from, int to)
{
    static uint8_t data[1 << 20];
    static uint8_t back[sizeof(data)];
    size_t sent = 0;
    size_t got = 0;
    uint64_t seed = 5;

    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)t_rand(&seed);
    }
    while (got < sizeof(data)) {
        struct pollfd p[2] = {{.fd = from, .events = sent < sizeof(data) ? POLLOUT : 0},
                              {.fd = to, .events = POLLIN}};
        ssize_t n;

        assert_true(poll(p, 2, WAIT_MS) > 0);
        n = send(from, data + sent, sizeof(data) - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
        n = recv(to, back + got, sizeof(back) - got, MSG_DONTWAIT);
        got += n > 0 ? (size_t)n : 0;
    }
    assert_memory_equal(data, back, sizeof(data));
}

static void tcp_works_through_loss_and_nat(void **state)
{
    struct sockaddr_in sa = rig_address("10.77.0.2", PORT);
    struct sockaddr_in peer;
    socklen_t len = sizeof(peer);
    int listener = rig_socket("b", SOCK_STREAM);
    int out = rig_socket("a", SOCK_STREAM);
    int in;

    (void)state;
    rig_set("delay=2ms loss=1% nat_addr=10.77.0.9 nat_port=77");
    rig_bind(listener, "10.77.0.2", PORT);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(connect(out, (struct sockaddr *)&sa, sizeof(sa)), 0);
    in = accept(listener, (struct sockaddr *)&peer, &len);
    assert_true(in >= 0);
    sa = rig_address("10.77.0.9", 0);
    assert_int_equal(peer.sin_addr.s_addr, sa.sin_addr.s_addr);
    tcp_copy(out, in);
    close(in);
    close(out);
    close(listener);
}

static int run_group(void)
{
    const struct CMUnitTest tests[] = {
        WAN_TEST(echo_takes_two_delays),
        WAN_TEST(loss_is_about_right),
        WAN_TEST(duplicates_and_late_ones_arrive),
        WAN_TEST(rate_is_kept),
        WAN_TEST(queue_drops_what_does_not_fit),
        WAN_TEST(partition_of_both_and_of_one_direction),
        WAN_TEST(mtu_is_a_black_hole),
        WAN_TEST(mtu_with_icmp_is_learnt),
        WAN_TEST(nat_rebinds_port_then_address),
        WAN_TEST(nat_translates_icmp_errors),
        WAN_TEST(tcp_works_through_loss_and_nat),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
    return rig_main(run_group);
}
