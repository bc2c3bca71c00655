/* SPDX-License-Identifier: Apache-2.0 */
#include "wan/rig.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

char rig_wan[1024];
char rig_control[256];
int rig_udp[2];
static int ns_own; /* where we were started: side a */

double rig_now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

void rig_ask(const char *request, char answer[WAN_CONTROL_MAX], int *fd)
{
    assert_int_equal(wan_control_ask(rig_control, request, answer, fd), 0);
    if (strncmp(answer, "error", 5) == 0) {
        fail_msg("%s: %s", request, answer);
    }
}

void rig_set(const char *parameters)
{
    char request[512];
    char answer[WAN_CONTROL_MAX];

    snprintf(request, sizeof(request), "set %s", parameters);
    rig_ask(request, answer, NULL);
    assert_string_equal(answer, "ok");
}

long rig_stat(const char *direction, const char *key)
{
    char answer[WAN_CONTROL_MAX];
    char wanted[64];
    char *line;
    char *at;

    rig_ask("stats", answer, NULL);
    line = strstr(answer, direction[0] == 'a' ? "ab " : "ba ");
    assert_non_null(line);
    snprintf(wanted, sizeof(wanted), " %s=", key);
    at = strstr(line, wanted);
    assert_non_null(at);
    return strtol(at + strlen(wanted), NULL, 10);
}

void rig_wait_stat(const char *direction, const char *key, long at_least)
{
    double end = rig_now_ms() + WAIT_MS;

    while (rig_stat(direction, key) < at_least) {
        if (rig_now_ms() > end) {
            fail_msg("%s %s stays %ld", direction, key, rig_stat(direction, key));
        }
    }
}

int rig_socket(const char *side, int type)
{
    char request[] = "side ?";
    char answer[WAN_CONTROL_MAX];
    int ns;
    int s;

    request[5] = side[0];
    rig_ask(request, answer, &ns);
    assert_int_equal(setns(ns, CLONE_NEWNET), 0);
    s = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    assert_true(s >= 0);
    assert_int_equal(setns(ns_own, CLONE_NEWNET), 0);
    close(ns);
    return s;
}

struct sockaddr_in rig_address(const char *ip, int port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

    assert_int_equal(inet_pton(AF_INET, ip, &sa.sin_addr), 1);
    return sa;
}

void rig_bind(int s, const char *ip, int port)
{
    struct sockaddr_in sa = rig_address(ip, port);

    assert_int_equal(bind(s, (struct sockaddr *)&sa, sizeof(sa)), 0);
}

int rig_send_to(int s, const char *ip, int port, uint32_t number, size_t len)
{
    static uint8_t data[10000];
    struct sockaddr_in sa = rig_address(ip, port);

    memcpy(data, &number, sizeof(number));
    return sendto(s, data, len, 0, (struct sockaddr *)&sa, sizeof(sa)) == (ssize_t)len ? 0 : -1;
}

void rig_send_ab(uint32_t number, size_t len)
{
    assert_int_equal(rig_send_to(rig_udp[0], "10.77.0.2", PORT, number, len), 0);
}

void rig_wait_readable(int s)
{
    struct pollfd p = {.fd = s, .events = POLLIN};

    assert_int_equal(poll(&p, 1, WAIT_MS), 1);
}

uint32_t rig_receive(int s, struct sockaddr_in *from)
{
    struct sockaddr_in sa;
    socklen_t sa_len = sizeof(sa);
    uint8_t data[10000];
    uint32_t number;

    rig_wait_readable(s);
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

int rig_setup(void **state)
{
    (void)state;
    rig_set(
        "delay=0 jitter=0 loss=0 dup=0 reorder=0 reorder_by=1ms rate=0 queue=256k mtu=65535 down=0 "
        "icmp=0 nat_port=0 nat_addr=0");
    for (int i = 0; i < 2; i++) {
        int size = 4 << 20;

        rig_udp[i] = rig_socket(i == 0 ? "a" : "b", SOCK_DGRAM);
        (void)setsockopt(rig_udp[i], SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
        rig_bind(rig_udp[i], i == 0 ? "10.77.0.1" : "10.77.0.2", PORT);
    }
    return 0;
}

int rig_teardown(void **state)
{
    (void)state;
    rig_set("delay=0 loss=0 rate=0 down=0 mtu=65535 nat_port=0 nat_addr=0");
    drain(rig_udp[1]);
    close(rig_udp[0]);
    close(rig_udp[1]);
    return 0;
}

int rig_main(int (*tests)(void))
{
    const char *control = getenv("WAN_CONTROL");
    char real[1024];
    char *slash;
    ssize_t n = readlink("/proc/self/exe", real, sizeof(real) - 8);

    if (n <= 0) {
        return 1;
    }
    real[n] = '\0';
    strcpy(rig_wan, real);
    slash = strrchr(rig_wan, '/');
    if (slash == NULL) {
        return 1;
    }
    strcpy(slash, "/wan");
    if (control == NULL) {
        execl(rig_wan, "wan", "--if-mtu", "9000", "--", real, (char *)NULL);
        perror(rig_wan);
        return 1;
    }
    snprintf(rig_control, sizeof(rig_control), "%s", control);
    ns_own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    return tests() != 0 || ns_own < 0;
}
