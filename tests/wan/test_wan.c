/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The emulator as a program: real sockets in both sides, the control socket, the command line.
 * Runs itself inside of `wan` (of the same build), so the link and its rights are there, or the
 * whole program ends with 77 and wan's line.
 */
#include "support/t.h"

#include "wan/control.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef IP_MTU
#define IP_MTU 14
#endif

#define PORT    4000
#define WAIT_MS 10000
#define HEADERS 28 /* IPv4 and UDP */

static char wan_path[1024];
static const char *control;
static int ns_own; /* where we were started: side a */
static int udp[2]; /* sockets in the sides, bound to PORT */

/* ---- tools ---- */

static double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void must_ask(const char *request, char answer[WAN_CONTROL_MAX], int *fd)
{
    assert_int_equal(wan_control_ask(control, request, answer, fd), 0);
    if (strncmp(answer, "error", 5) == 0) {
        fail_msg("%s: %s", request, answer);
    }
}

static void set(const char *parameters)
{
    char request[512];
    char answer[WAN_CONTROL_MAX];

    snprintf(request, sizeof(request), "set %s", parameters);
    must_ask(request, answer, NULL);
    assert_string_equal(answer, "ok");
}

/* A number of the statistics: stat("ab", "lost"). */
static long stat_of(const char *direction, const char *key)
{
    char answer[WAN_CONTROL_MAX];
    char wanted[64];
    char *line;
    char *at;

    must_ask("stats", answer, NULL);
    line = strstr(answer, direction[0] == 'a' ? "ab " : "ba ");
    assert_non_null(line);
    snprintf(wanted, sizeof(wanted), " %s=", key);
    at = strstr(line, wanted);
    assert_non_null(at);
    return strtol(at + strlen(wanted), NULL, 10);
}

/* Waits until the emulator has counted as much. */
static void wait_stat(const char *direction, const char *key, long at_least)
{
    double end = now_ms() + WAIT_MS;

    while (stat_of(direction, key) < at_least) {
        if (now_ms() > end) {
            fail_msg("%s %s stays %ld", direction, key, stat_of(direction, key));
        }
    }
}

static int socket_in(const char *side, int type)
{
    char request[] = "side ?";
    char answer[WAN_CONTROL_MAX];
    int ns;
    int s;

    request[5] = side[0];
    must_ask(request, answer, &ns);
    assert_int_equal(setns(ns, CLONE_NEWNET), 0);
    s = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    assert_true(s >= 0);
    assert_int_equal(setns(ns_own, CLONE_NEWNET), 0);
    close(ns);
    return s;
}

static struct sockaddr_in address(const char *ip, int port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

    assert_int_equal(inet_pton(AF_INET, ip, &sa.sin_addr), 1);
    return sa;
}

static void bind_to(int s, const char *ip, int port)
{
    struct sockaddr_in sa = address(ip, port);

    assert_int_equal(bind(s, (struct sockaddr *)&sa, sizeof(sa)), 0);
}

static int send_to(int s, const char *ip, int port, uint32_t number, size_t len)
{
    static uint8_t data[10000];
    struct sockaddr_in sa = address(ip, port);

    memcpy(data, &number, sizeof(number));
    return sendto(s, data, len, 0, (struct sockaddr *)&sa, sizeof(sa)) == (ssize_t)len ? 0 : -1;
}

/* From side a to b. */
static void send_ab(uint32_t number, size_t len)
{
    assert_int_equal(send_to(udp[0], "10.77.0.2", PORT, number, len), 0);
}

static void wait_readable(int s)
{
    struct pollfd p = {.fd = s, .events = POLLIN};

    assert_int_equal(poll(&p, 1, WAIT_MS), 1);
}

/* The number in the next datagram, and who sent it. */
static uint32_t receive(int s, struct sockaddr_in *from)
{
    struct sockaddr_in sa;
    socklen_t sa_len = sizeof(sa);
    uint8_t data[10000];
    uint32_t number;

    wait_readable(s);
    assert_true(recvfrom(s, data, sizeof(data), 0, (struct sockaddr *)&sa, &sa_len) >= 4);
    if (from != NULL) {
        *from = sa;
    }
    memcpy(&number, data, sizeof(number));
    return number;
}

static void drain(int s)
{
    uint8_t data[16];

    while (recv(s, data, sizeof(data), MSG_DONTWAIT) >= 0) {
    }
}

static int setup(void **state)
{
    (void)state;
    set("delay=0 jitter=0 loss=0 dup=0 reorder=0 reorder_by=1ms rate=0 queue=256k mtu=65535 down=0 "
        "icmp=0 nat_port=0 nat_addr=0");
    for (int i = 0; i < 2; i++) {
        int size = 4 << 20;

        udp[i] = socket_in(i == 0 ? "a" : "b", SOCK_DGRAM);
        (void)setsockopt(udp[i], SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
        bind_to(udp[i], i == 0 ? "10.77.0.1" : "10.77.0.2", PORT);
    }
    return 0;
}

/* What a test has left on the link must not reach the next one. */
static int teardown(void **state)
{
    (void)state;
    set("delay=0 loss=0 rate=0 down=0 mtu=65535 nat_port=0 nat_addr=0");
    drain(udp[1]);
    close(udp[0]);
    close(udp[1]);
    return 0;
}

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
    set("delay=20ms");
    for (i = 0; i < 500 && (i < 10 || best >= 40.6); i++) {
        double start = now_ms();
        double took;

        send_ab(i, 100);
        assert_int_equal(receive(udp[1], NULL), i);
        assert_int_equal(send_to(udp[1], "10.77.0.1", PORT, i, 100), 0);
        assert_int_equal(receive(udp[0], NULL), i);
        took = now_ms() - start;
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
    before = stat_of("ab", "lost");
    set("loss=5%");
    for (uint32_t i = 0; i < 2000; i += 100) {
        long out = stat_of("ab", "in") + 100;

        for (uint32_t j = 0; j < 100; j++) {
            send_ab(i + j, 40);
        }
        wait_stat("ab", "in", out);
    }
    set("loss=0");
    send_ab(9999, 40);
    while (receive(udp[1], NULL) != 9999) {
        received++;
    }
    printf("# %u of 2000 arrived\n", received);
    assert_in_range(received, 1900 - 39, 1900 + 39); /* 4 sigma */
    assert_int_equal(stat_of("ab", "lost") - before, 2000 - received);
    assert_int_equal(stat_of("ab", "overruns"), 0);
}

static void duplicates_and_late_ones_arrive(void **state)
{
    long in = stat_of("ab", "in");
    uint32_t received = 0;
    uint32_t swapped = 0;
    uint32_t last = 0;

    (void)state;
    set("delay=5ms dup=10% reorder=10% reorder_by=20ms");
    for (uint32_t i = 1; i <= 500; i++) {
        send_ab(i, 40);
    }
    wait_stat("ab", "in", in + 500);
    set("delay=100ms dup=0 reorder=0");
    send_ab(9999, 40);
    for (uint32_t n; (n = receive(udp[1], NULL)) != 9999; last = n > last ? n : last) {
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
        send_ab(i, 1000 - HEADERS);
    }
    for (uint32_t i = 0; i < 201; i++) {
        assert_int_equal(receive(udp[1], NULL), i);
        first = i == 0 ? now_ms() : first;
    }
    return now_ms() - first;
}

/* On a busy machine the first or the last may be seen late: one of 100 tries must show it. */
static void rate_is_kept(void **state)
{
    double took = 0;

    (void)state;
    set("rate=10mbit queue=1m");
    for (int i = 0; i < 100 && (took < 155 || took > 170); i++) {
        took = time_of_200_kb();
    }
    printf("# 200,000 bytes at 10 Mbit/s took %.2f ms\n", took);
    assert_true(took >= 155 && took <= 170);
}

static void queue_drops_what_does_not_fit(void **state)
{
    long dropped = stat_of("ab", "queue_full");
    long in = stat_of("ab", "in");
    uint32_t received = 0;

    (void)state;
    set("rate=1mbit queue=10k");
    for (uint32_t i = 0; i < 100; i++) {
        send_ab(i, 1024 - HEADERS);
    }
    wait_stat("ab", "in", in + 100);
    set("rate=0");
    send_ab(9999, 100);
    while (receive(udp[1], NULL) != 9999) {
        received++;
    }
    dropped = stat_of("ab", "queue_full") - dropped;
    assert_int_equal(received + dropped, 100);
    assert_in_range(received, 10, 50); /* ten wait; some are sent while we send */
}

static void partition_of_both_and_of_one_direction(void **state)
{
    long down = stat_of("ab", "down");

    (void)state;
    set("down=1");
    send_ab(1, 100);
    wait_stat("ab", "down", down + 1);
    set("down=0");
    send_ab(2, 100);
    assert_int_equal(receive(udp[1], NULL), 2);
    set("ba.down=1");
    down = stat_of("ba", "down");
    send_ab(3, 100);
    assert_int_equal(receive(udp[1], NULL), 3);
    assert_int_equal(send_to(udp[1], "10.77.0.1", PORT, 4, 100), 0);
    wait_stat("ba", "down", down + 1);
    set("ba.down=0");
    assert_int_equal(send_to(udp[1], "10.77.0.1", PORT, 5, 100), 0);
    assert_int_equal(receive(udp[0], NULL), 5);
}

static void mtu_is_a_black_hole(void **state)
{
    int df = IP_PMTUDISC_DO;

    (void)state;
    assert_int_equal(setsockopt(udp[0], IPPROTO_IP, IP_MTU_DISCOVER, &df, sizeof(df)), 0);
    send_ab(1, 9000 - HEADERS); /* the devices take 9000 */
    assert_int_equal(receive(udp[1], NULL), 1);
    set("mtu=1280");
    send_ab(2, 1281 - HEADERS);
    send_ab(3, 9000 - HEADERS);
    send_ab(4, 1280 - HEADERS);
    assert_int_equal(receive(udp[1], NULL), 4);
    send_ab(5, 1281 - HEADERS); /* still nobody has told us */
    set("mtu=9000");
    send_ab(6, 9000 - HEADERS);
    assert_int_equal(receive(udp[1], NULL), 6);
}

static void mtu_with_icmp_is_learnt(void **state)
{
    struct sockaddr_in sa = address("10.77.0.2", PORT + 1);
    struct pollfd p = {.events = POLLIN};
    int df = IP_PMTUDISC_DO;
    int mtu = 0;
    socklen_t len = sizeof(mtu);
    char data[9000] = {0};
    int s = socket_in("a", SOCK_DGRAM);

    (void)state;
    set("mtu=1280 icmp=1");
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
    struct sockaddr_in want = address(seen_ip, seen_port);
    struct sockaddr_in from;

    send_ab(number, 1000);
    assert_int_equal(receive(udp[1], &seen), number);
    assert_int_equal(ntohs(seen.sin_port), seen_port);
    assert_int_equal(seen.sin_addr.s_addr, want.sin_addr.s_addr);
    assert_int_equal(sendto(udp[1], &number, 4, 0, (struct sockaddr *)&seen, sizeof(seen)), 4);
    assert_int_equal(receive(udp[0], &from), number);
    assert_int_equal(ntohs(from.sin_port), PORT);
}

static void nat_rebinds_port_then_address(void **state)
{
    long lost = stat_of("ba", "nat");

    (void)state;
    echo_through_nat(1, "10.77.0.1", PORT);
    set("nat_port=+1");
    echo_through_nat(2, "10.77.0.1", PORT + 1);
    set("nat_addr=10.77.0.3");
    echo_through_nat(3, "10.77.0.3", PORT + 1);
    set("nat_port=+1");
    echo_through_nat(4, "10.77.0.3", PORT + 2);
    /* Forgotten mappings and a's own address lead nowhere. */
    assert_int_equal(send_to(udp[1], "10.77.0.3", PORT + 1, 5, 100), 0);
    assert_int_equal(send_to(udp[1], "10.77.0.1", PORT, 6, 100), 0);
    assert_int_equal(send_to(udp[1], "10.77.0.3", PORT + 2, 7, 100), 0);
    assert_int_equal(receive(udp[0], NULL), 7);
    assert_int_equal(stat_of("ba", "nat") - lost, 2);
    set("nat_port=0 nat_addr=0");
    echo_through_nat(8, "10.77.0.1", PORT);
}

/* b's port is closed: the kernel's ICMP quotes the translated packet, a's socket learns of it. */
static void nat_translates_icmp_errors(void **state)
{
    struct sockaddr_in sa = address("10.77.0.2", PORT + 1);
    struct pollfd p = {.events = POLLIN};
    int s = socket_in("a", SOCK_DGRAM);

    (void)state;
    set("nat_port=5 nat_addr=10.77.0.3");
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
    struct sockaddr_in sa = address("10.77.0.2", PORT);
    struct sockaddr_in peer;
    socklen_t len = sizeof(peer);
    int listener = socket_in("b", SOCK_STREAM);
    int out = socket_in("a", SOCK_STREAM);
    int in;

    (void)state;
    set("delay=2ms loss=1% nat_addr=10.77.0.9 nat_port=77");
    bind_to(listener, "10.77.0.2", PORT);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(connect(out, (struct sockaddr *)&sa, sizeof(sa)), 0);
    in = accept(listener, (struct sockaddr *)&peer, &len);
    assert_true(in >= 0);
    sa = address("10.77.0.9", 0);
    assert_int_equal(peer.sin_addr.s_addr, sa.sin_addr.s_addr);
    tcp_copy(out, in);
    close(in);
    close(out);
    close(listener);
}

/* ---- the program ---- */

/* Runs a program; out, if not NULL, gets what it prints. */
static int run(const char *program, char *argv[], void (*before)(void), char *out, size_t cap)
{
    size_t len = 0;
    int fds[2];
    int status;
    ssize_t n;
    pid_t pid;

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid = fork();
    if (pid == 0) {
        if (out != NULL) {
            dup2(fds[1], STDOUT_FILENO);
            dup2(fds[1], STDERR_FILENO);
        }
        if (before != NULL) {
            before();
        }
        execv(program, argv);
        _exit(99);
    }
    close(fds[1]);
    while (out != NULL && len < cap - 1 && (n = read(fds[0], out + len, cap - 1 - len)) > 0) {
        len += (size_t)n;
    }
    if (out != NULL) {
        out[len] = '\0';
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    close(fds[0]);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* argv[0] is replaced. */
static int run_wan(char *argv[], void (*before)(void), char *out, size_t cap)
{
    argv[0] = wan_path;
    return run(wan_path, argv, before, out, cap);
}

#define ARGS(...) ((char *[]){(char[]){""}, __VA_ARGS__, NULL})
#define S(text)   ((char[]){text})

static char control_arg[256];

static void exit_status_is_the_commands(void **state)
{
    (void)state;
    assert_int_equal(run_wan(ARGS(S("sh"), S("-c"), S("exit 7")), NULL, NULL, 0), 7);
    assert_int_equal(run_wan(ARGS(S("sh"), S("-c"), S("kill -9 $$")), NULL, NULL, 0), 137);
    assert_int_equal(run_wan(ARGS(S("--"), S("/nowhere/x")), NULL, (char[256]){0}, 256), 127);
}

static void bad_usage_is_refused(void **state)
{
    char out[512];

    (void)state;
    assert_int_equal(run_wan(ARGS(S("--loss"), S("x"), S("true")), NULL, out, sizeof(out)), 2);
    assert_non_null(strstr(out, "loss=x"));
    assert_int_equal(run_wan(ARGS(S("--nothing"), S("1"), S("true")), NULL, out, sizeof(out)), 2);
    assert_int_equal(run_wan(ARGS(S("--loss"), S("1%")), NULL, out, sizeof(out)), 2);
    assert_int_equal(run_wan(ARGS(S("-a"), S("10"), S("true")), NULL, out, sizeof(out)), 2);
    assert_int_equal(run_wan(ARGS(S("set"), control_arg, S("nothing=1")), NULL, out, sizeof(out)),
                     2);
    assert_non_null(strstr(out, "nothing"));
    assert_int_equal(run_wan(ARGS(S("set"), S("/nowhere/x"), S("loss=1%")), NULL, out, sizeof(out)),
                     2);
    assert_int_equal(run_wan(ARGS(S("--help")), NULL, out, sizeof(out)), 0);
}

static void set_and_stats_work_from_the_shell(void **state)
{
    char out[WAN_CONTROL_MAX];
    long down = stat_of("ab", "down");

    (void)state;
    assert_int_equal(
        run_wan(ARGS(S("set"), control_arg, S("ab.down=1"), S("delay=1ms")), NULL, NULL, 0), 0);
    send_ab(1, 100);
    wait_stat("ab", "down", down + 1);
    assert_int_equal(run_wan(ARGS(S("stats"), control_arg), NULL, out, sizeof(out)), 0);
    assert_memory_equal(out, "ab in=", 6);
    assert_non_null(strstr(out, "\nba in="));
}

static void exec_enters_the_sides(void **state)
{
    static const char *const sides[] = {"a", "b"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        char request[] = "side ?";
        char answer[WAN_CONTROL_MAX];
        char out[256];
        char want[64];
        char side[] = "?";
        struct stat st;
        int ns;

        request[5] = side[0] = sides[i][0];
        must_ask(request, answer, &ns);
        assert_int_equal(fstat(ns, &st), 0);
        close(ns);
        snprintf(want, sizeof(want), "net:[%lu]\n", (unsigned long)st.st_ino);
        assert_int_equal(run_wan(ARGS(S("exec"), control_arg, side, S("--"), S("readlink"),
                                      S("/proc/self/ns/net")),
                                 NULL, out, sizeof(out)),
                         0);
        assert_string_equal(out, want);
    }
}

/* Programs in both sides and in the background hold our pipe; its end shows that all are gone. */
static void all_ends_after(int sig)
{
    static char script[] = "sleep 1000 & $WAN_EXEC_B sh -c 'echo up; sleep 1000' & exec sleep 1000";
    char *argv[] = {wan_path, S("sh"), S("-c"), script, NULL};
    struct pollfd p = {.events = POLLIN};
    char text[16];
    int fds[2];
    int status;
    pid_t pid;

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid = fork();
    if (pid == 0) {
        dup2(fds[1], STDOUT_FILENO);
        execv(wan_path, argv);
        _exit(99);
    }
    close(fds[1]);
    wait_readable(fds[0]);
    assert_int_equal(read(fds[0], text, sizeof(text)), 3);
    kill(pid, sig);
    p.fd = fds[0];
    assert_int_equal(poll(&p, 1, WAIT_MS), 1);
    assert_int_equal(read(fds[0], text, sizeof(text)), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    close(fds[0]);
    if (sig == SIGKILL) {
        assert_true(WIFSIGNALED(status));
    } else {
        assert_int_equal(WEXITSTATUS(status), 128 + sig);
    }
}

static void all_ends_with_it(void **state)
{
    (void)state;
    all_ends_after(SIGTERM);
    all_ends_after(SIGINT);
    all_ends_after(SIGKILL);
}

/*
 * What an unprivileged user has who may open /dev/net/tun. CAP_SETFCAP stays, because without it
 * the kernel does not map user 0, who we still are.
 */
static void drop_rights(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}, {0}};
    uint32_t keep = 1u << CAP_SETFCAP;

    prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NO_SETUID_FIXUP);
    data[0] = (struct __user_cap_data_struct){keep, keep, keep};
    if (syscall(SYS_capset, &header, data) != 0 ||
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SETFCAP, 0, 0) != 0) {
        _exit(98);
    }
}

static void works_in_a_user_namespace(void **state)
{
    char out[512];
    int rc = run_wan(ARGS(S("sh"), S("-c"), S("$WAN_EXEC_B cat /proc/self/uid_map")), drop_rights,
                     out, sizeof(out));

    (void)state;
    if (rc != 0) {
        fail_msg("%d: %s", rc, out);
    }
    assert_non_null(strstr(out, "         1\n")); /* one user is mapped: a new namespace */
}

/* From outside of it, too: how test suites put their nodes into the sides. */
static void exec_enters_a_user_namespace(void **state)
{
    static char script[] = "c=/tmp/wan_exec.$$\n"
                           "$0 --control $c sleep 100 & w=$!\n"
                           "until $0 stats $c >/dev/null 2>&1; do sleep 0.05; done\n"
                           "$0 exec $c b -- cat /proc/self/uid_map; rc=$?\n"
                           "kill $w; wait $w; exit $rc";
    char out[512];
    int rc = run("/bin/sh", ARGS(S("-c"), script, wan_path), drop_rights, out, sizeof(out));

    (void)state;
    if (rc != 0) {
        fail_msg("%d: %s", rc, out);
    }
    assert_non_null(strstr(out, "         1\n"));
}

/* unshare() fails with EPERM, as in containers. */
static void forbid_namespaces(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_unshare, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = 4, .filter = code};

    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        _exit(98);
    }
}

static void skips_where_it_is_forbidden(void **state)
{
    char out[512];

    (void)state;
    assert_int_equal(run_wan(ARGS(S("echo"), S("ran")), forbid_namespaces, out, sizeof(out)), 77);
    assert_memory_equal(out, "wan: skipped: ", 14);
    assert_ptr_equal(strchr(out, '\n'), out + strlen(out) - 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static int run_group(void)
{
    const struct CMUnitTest tests[] = {
        TEST(echo_takes_two_delays),
        TEST(loss_is_about_right),
        TEST(duplicates_and_late_ones_arrive),
        TEST(rate_is_kept),
        TEST(queue_drops_what_does_not_fit),
        TEST(partition_of_both_and_of_one_direction),
        TEST(mtu_is_a_black_hole),
        TEST(mtu_with_icmp_is_learnt),
        TEST(nat_rebinds_port_then_address),
        TEST(nat_translates_icmp_errors),
        TEST(tcp_works_through_loss_and_nat),
        TEST(exit_status_is_the_commands),
        TEST(bad_usage_is_refused),
        TEST(set_and_stats_work_from_the_shell),
        TEST(exec_enters_the_sides),
        TEST(all_ends_with_it),
        TEST(works_in_a_user_namespace),
        TEST(exec_enters_a_user_namespace),
        TEST(skips_where_it_is_forbidden),
    };

    ns_own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    return cmocka_run_group_tests(tests, NULL, NULL) != 0 || ns_own < 0;
}

int main(int argc, char **argv)
{
    char *slash;

    (void)argc;
    control = getenv("WAN_CONTROL");
    if (readlink("/proc/self/exe", wan_path, sizeof(wan_path) - 8) <= 0) {
        return 1;
    }
    slash = strrchr(wan_path, '/');
    if (slash == NULL) {
        return 1;
    }
    strcpy(slash, "/wan");
    if (control == NULL) {
        char self[] = "/proc/self/exe";
        char real[1024];
        ssize_t n = readlink(self, real, sizeof(real) - 1);

        real[n > 0 ? n : 0] = '\0';
        execl(wan_path, "wan", "--if-mtu", "9000", "--", real, (char *)NULL);
        perror(wan_path);
        return 1;
    }
    snprintf(control_arg, sizeof(control_arg), "%s", control);
    (void)argv;
    return run_group();
}
