/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop: two TUN devices, a timer, signals, the control socket. */
#include "wan/run.h"

#include "wan/control.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BATCH       64 /* packets of one side before the other one has its turn */
#define MAX_CLIENTS 16
#define GRACE       (3 * WAN_SEC) /* for the command to end after a signal */
#define NICE        (-15)         /* a link does not wait for a processor */

enum { EV_TUN_A, EV_TUN_B, EV_TIMER, EV_SIGNAL, EV_LISTEN, EV_OUTER, EV_CLIENT };

struct run {
    const struct wan_options *o;
    struct wan_net *net;
    struct wan_side sides[2];
    int ep, timer, signals, listen, outer;
    int clients[MAX_CLIENTS];
    unsigned next_client;
    uint64_t armed; /* what the timer is set to */
    pid_t command;
    bool ended;
    int status;
    uint64_t give_up; /* WAN_NEVER, or when to end with the command still alive */
    uint8_t buf[WAN_MAX_PACKET];
};

static uint64_t clock_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * WAN_SEC + (uint64_t)t.tv_nsec;
}

/* ---- packets ---- */

static void answer_too_big(struct run *r, int side, const uint8_t *ip, size_t len)
{
    struct wan_link *l = &r->net->dir[side];
    uint8_t icmp[64];
    size_t n = l->p.icmp != 0 ? wan_icmp_too_big(ip, len, (uint32_t)l->p.mtu, icmp) : 0;

    if (n > 0 && write(r->sides[side].tun, icmp, n) == (ssize_t)n) {
        l->stats.icmp++;
    }
}

/* Takes one packet from a side's device; false when there is none. */
static bool take_packet(struct run *r, int side)
{
    struct wan_link *l = &r->net->dir[side];
    ssize_t n = read(r->sides[side].tun, r->buf, sizeof(r->buf));
    size_t len = n > 0 ? (size_t)n : 0;
    uint8_t original[128]; /* what an ICMP answer quotes: as the sender knows it */

    if (n <= 0) {
        return false;
    }
    if (!wan_ip4_ok(r->buf, len)) {
        l->stats.ignored++;
        return true;
    }
    memcpy(original, r->buf, len < sizeof(original) ? len : sizeof(original));
    if (side == WAN_A && !wan_nat_out(&r->net->nat, r->buf, len)) {
        l->stats.nat++;
        return true;
    }
    if (wan_link_push(l, r->buf, len, clock_now()) == WAN_TOO_BIG) {
        answer_too_big(r, side, original, len < sizeof(original) ? len : sizeof(original));
    }
    return true;
}

/* Hands over what has arrived from `side`. */
static void deliver(struct run *r, int side)
{
    struct wan_link *l = &r->net->dir[side];
    struct wan_packet *p;

    while ((p = wan_link_pop(l, clock_now())) != NULL) {
        if (side == WAN_B && !wan_nat_in(&r->net->nat, p->data, p->len)) {
            l->stats.nat++;
        } else if (write(r->sides[!side].tun, p->data, p->len) != (ssize_t)p->len) {
            l->stats.refused++;
        }
        free(p);
    }
}

static void arm_timer(struct run *r)
{
    uint64_t a = wan_link_deadline(&r->net->dir[WAN_AB]);
    uint64_t b = wan_link_deadline(&r->net->dir[WAN_BA]);
    uint64_t at = a < b ? a : b;
    struct itimerspec t = {0};

    if (at == r->armed) {
        return;
    }
    r->armed = at;
    if (at != WAN_NEVER) {
        t.it_value.tv_sec = (time_t)(at / WAN_SEC);
        t.it_value.tv_nsec = (long)(at % WAN_SEC);
    }
    timerfd_settime(r->timer, TFD_TIMER_ABSTIME, &t, NULL);
}

/* ---- statistics and control ---- */

static size_t print_stats(struct run *r, char *out, size_t cap)
{
    for (int i = WAN_A; i <= WAN_B; i++) {
        r->net->dir[i].stats.overruns = wan_side_overruns(&r->sides[i]);
    }
    return wan_net_print(r->net, out, cap);
}

static void write_stats(struct run *r, int fd)
{
    char text[WAN_CONTROL_MAX];
    size_t len = print_stats(r, text, sizeof(text));

    if (write(fd, text, len) != (ssize_t)len) {
        fprintf(stderr, "wan: writing statistics: %s\n", strerror(errno));
    }
}

/* "set K=V ...": all or, at the first bad one, those before it. */
static void control_set(struct run *r, int client, char *args)
{
    char err[256] = "";
    char *save;
    char *word;

    for (word = strtok_r(args, " \n", &save); word != NULL; word = strtok_r(NULL, " \n", &save)) {
        char *value = strchr(word, '=');

        if (value != NULL) {
            *value++ = '\0';
        }
        if (value == NULL || !wan_net_set(r->net, word, value, err, sizeof(err))) {
            char text[320];

            snprintf(text, sizeof(text), "error: %s", value == NULL ? "wanted: KEY=VALUE" : err);
            wan_control_answer(client, text, -1);
            return;
        }
    }
    wan_control_answer(client, "ok", -1);
}

static void control_request(struct run *r, int client)
{
    char text[WAN_CONTROL_MAX];
    ssize_t n = recv(client, text, sizeof(text) - 1, MSG_DONTWAIT);

    if (n <= 0) {
        return;
    }
    text[n] = '\0';
    if (strncmp(text, "set ", 4) == 0) {
        control_set(r, client, text + 4);
    } else if (strcmp(text, "stats") == 0) {
        print_stats(r, text, sizeof(text));
        wan_control_answer(client, text, -1);
    } else if (strcmp(text, "side a") == 0 || strcmp(text, "side b") == 0) {
        wan_control_answer(client, "ok", r->sides[text[5] == 'a' ? WAN_A : WAN_B].ns);
    } else {
        wan_control_answer(client, "error: unknown request", -1);
    }
}

static int watch(struct run *r, int fd, uint32_t id)
{
    struct epoll_event e = {.events = EPOLLIN, .data.u32 = id};

    return epoll_ctl(r->ep, EPOLL_CTL_ADD, fd, &e);
}

/* The oldest client gives way: who does not ask does not block others. */
static void accept_client(struct run *r)
{
    int fd = accept4(r->listen, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    unsigned slot = r->next_client++ % MAX_CLIENTS;

    if (fd < 0) {
        return;
    }
    if (r->clients[slot] >= 0) {
        close(r->clients[slot]);
    }
    r->clients[slot] = fd;
    if (watch(r, fd, EV_CLIENT + slot) != 0) {
        close(fd);
        r->clients[slot] = -1;
    }
}

/* ---- processes ---- */

static void end_command(struct run *r, int sig)
{
    if (r->command > 0 && r->give_up == WAN_NEVER) {
        kill(r->command, sig);
        r->status = 128 + sig;
        r->give_up = clock_now() + GRACE;
    }
}

/* We are the first process of the namespace: all orphans are ours. */
static void reap(struct run *r)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == r->command) {
            r->ended = true;
            if (r->give_up == WAN_NEVER) {
                r->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            }
        }
    }
}

static void handle_signals(struct run *r)
{
    struct signalfd_siginfo s;

    while (read(r->signals, &s, sizeof(s)) == (ssize_t)sizeof(s)) {
        if (s.ssi_signo == SIGCHLD) {
            reap(r);
        } else if (s.ssi_signo == SIGUSR1) {
            write_stats(r, STDERR_FILENO);
        } else {
            end_command(r, (int)s.ssi_signo);
        }
    }
}

static void set_environment(const struct wan_options *o)
{
    char self[1024];
    char prefix[2200];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

    self[n > 0 ? n : 0] = '\0';
    setenv("WAN_A", o->address_text[WAN_A], 1);
    setenv("WAN_B", o->address_text[WAN_B], 1);
    setenv("WAN_CONTROL", o->control, 1);
    snprintf(prefix, sizeof(prefix), "%s exec %s a --", self, o->control);
    setenv("WAN_EXEC_A", prefix, 1);
    snprintf(prefix, sizeof(prefix), "%s exec %s b --", self, o->control);
    setenv("WAN_EXEC_B", prefix, 1);
}

static int start_command(struct run *r)
{
    r->command = fork();
    if (r->command == 0) {
        (void)setpriority(PRIO_PROCESS, 0, 0);
        set_environment(r->o);
        _exit(wan_exec_in(r->sides[WAN_A].ns, r->o->command));
    }
    return r->command > 0 ? 0 : -1;
}

/* ---- the loop ---- */

static int open_events(struct run *r)
{
    sigset_t set;

    r->ep = epoll_create1(EPOLL_CLOEXEC);
    r->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    r->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    r->listen = wan_control_listen(r->o->control);
    if (r->listen < 0) {
        return -1;
    }
    if (watch(r, r->sides[WAN_A].tun, EV_TUN_A) != 0 ||
        watch(r, r->sides[WAN_B].tun, EV_TUN_B) != 0 || watch(r, r->timer, EV_TIMER) != 0 ||
        watch(r, r->signals, EV_SIGNAL) != 0 || watch(r, r->listen, EV_LISTEN) != 0 ||
        watch(r, r->outer, EV_OUTER) != 0) {
        fprintf(stderr, "wan: epoll: %s\n", strerror(errno));
        return -1;
    }
    return 0;
}

static void handle_event(struct run *r, uint32_t id)
{
    uint64_t ticks;

    switch (id) {
    case EV_TUN_A:
    case EV_TUN_B:
        for (int i = 0; i < BATCH && take_packet(r, id == EV_TUN_A ? WAN_A : WAN_B); i++) {
        }
        break;
    case EV_TIMER:
        if (read(r->timer, &ticks, sizeof(ticks)) == (ssize_t)sizeof(ticks)) {
            r->armed = WAN_NEVER;
        }
        break;
    case EV_SIGNAL:
        handle_signals(r);
        break;
    case EV_LISTEN:
        accept_client(r);
        break;
    case EV_OUTER:
        r->ended = true;
        break;
    default:
        if (r->clients[id - EV_CLIENT] >= 0) { /* not closed by an event before this one */
            control_request(r, r->clients[id - EV_CLIENT]);
            close(r->clients[id - EV_CLIENT]);
            r->clients[id - EV_CLIENT] = -1;
        }
        break;
    }
}

static void loop(struct run *r)
{
    struct epoll_event events[32];

    while (!r->ended && (r->give_up == WAN_NEVER || clock_now() < r->give_up)) {
        int n = epoll_wait(r->ep, events, 32, r->give_up == WAN_NEVER ? -1 : 50);

        for (int i = 0; i < n; i++) {
            handle_event(r, events[i].data.u32);
        }
        deliver(r, WAN_A);
        deliver(r, WAN_B);
        arm_timer(r);
    }
}

static void save_stats(struct run *r)
{
    int fd = open(r->o->stats, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

    if (fd < 0) {
        fprintf(stderr, "wan: %s: %s\n", r->o->stats, strerror(errno));
        return;
    }
    write_stats(r, fd);
    close(fd);
}

static void close_all(struct run *r)
{
    int fds[] = {r->ep, r->timer, r->signals, r->listen};

    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    for (unsigned i = 0; i < MAX_CLIENTS; i++) {
        if (r->clients[i] >= 0) {
            close(r->clients[i]);
        }
    }
    wan_sides_close(r->sides);
}

int wan_run(const struct wan_options *o, struct wan_net *net, int outer)
{
    static struct run r;
    int rc;

    r = (struct run){.o = o, .net = net, .ep = -1, .timer = -1, .signals = -1, .listen = -1};
    r.outer = outer;
    r.armed = r.give_up = WAN_NEVER;
    for (unsigned i = 0; i < MAX_CLIENTS; i++) {
        r.clients[i] = -1;
    }
    rc = wan_sides_open(r.sides, o->addresses, o->if_mtu);
    if (rc == 0) {
        (void)setpriority(PRIO_PROCESS, 0, NICE); /* without the right: less precise, not wrong */
        rc = 2;
        if (open_events(&r) == 0 && start_command(&r) == 0) {
            loop(&r);
            rc = r.status;
            if (o->stats != NULL) {
                save_stats(&r);
            }
        }
    }
    close_all(&r);
    wan_net_free(net);
    return rc;
}
