/* SPDX-License-Identifier: Apache-2.0 */
/* Command line, control socket and loop of the bad network. */
#include "wan/wan.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char usage[] =
    "wan [key=value ...] -- COMMAND ...   runs COMMAND beside two networks, 10.77.0.1 (a) and\n"
    "                                     10.77.0.2 (b), joined by a bad link\n"
    "wan exec PID -- COMMAND ...          runs COMMAND in the network of process PID\n"
    "wan set PATH key=value ...           changes the link while it runs\n"
    "wan stats PATH                       what went over it, as JSON\n"
    "\n"
    "keys, for both directions or as a.KEY (what a sends) and b.KEY:\n"
    "  delay=20ms jitter=5ms (random, 0 to that)   loss=1% dup=0.1% reorder=1% (not delayed)\n"
    "  rate=10mbit queue=256k                      mtu=1280 (larger IP packets vanish)\n"
    "  down=1 (nothing passes)                     nat_port=7 nat_addr=10.77.0.3 (a's UDP source)\n"
    "at the start also: if_mtu=1500 (of the devices) seed=1\n"
    "\n"
    "COMMAND's environment: WAN_EXEC_A, WAN_EXEC_B (prefixes that run a command on a side), WAN_A,\n"
    "WAN_B (addresses), WAN_CONTROL (PATH). The status is COMMAND's; 77 where namespaces are not\n"
    "permitted, with the reason.\n";

struct start {
    unsigned if_mtu;
    uint64_t seed;
};

static uint64_t now_ns(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --- control ------------------------------------------------------------- */

static int control_socket(const char *path, bool server)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    int rc;

    if (fd < 0 || strlen(path) >= sizeof(sun.sun_path)) {
        return -1;
    }
    strcpy(sun.sun_path, path);
    rc = server ? bind(fd, (struct sockaddr *)&sun, sizeof(sun))
                : connect(fd, (struct sockaddr *)&sun, sizeof(sun));
    if (rc != 0 || (server && listen(fd, 8) != 0)) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

static size_t stats_json(const struct wan_link *l, char *out, size_t cap)
{
    size_t n = 0;

    for (int d = 0; d < 2; d++) {
        const struct wan_stats *s = &l->stats[d];
        n += (size_t)snprintf(out + n, cap - n,
                              "%s\"%c\":{\"packets\":%llu,\"bytes\":%llu,\"lost\":%llu,"
                              "\"too_big\":%llu,\"overrun\":%llu,\"duplicated\":%llu,"
                              "\"largest\":%llu}",
                              d == 0 ? "{" : ",", 'a' + d, (unsigned long long)s->packets,
                              (unsigned long long)s->bytes, (unsigned long long)s->lost,
                              (unsigned long long)s->too_big, (unsigned long long)s->overrun,
                              (unsigned long long)s->duplicated, (unsigned long long)s->largest);
    }
    return n + (size_t)snprintf(out + n, cap - n, "}");
}

/* Applies "key=value"; what is wrong goes to `err`. */
static bool apply(struct wan_link *l, struct start *st, char *pair, char *err, size_t cap)
{
    char *value = strchr(pair, '=');
    const char *wrong;

    if (value == NULL) {
        snprintf(err, cap, "%s: want key=value", pair);
        return false;
    }
    *value++ = '\0';
    if (st != NULL && strcmp(pair, "if_mtu") == 0) {
        st->if_mtu = (unsigned)atoi(value);
        return true;
    }
    if (st != NULL && strcmp(pair, "seed") == 0) {
        st->seed = strtoull(value, NULL, 10);
        return true;
    }
    wrong = wan_link_set(l, pair, value);
    if (wrong != NULL) {
        snprintf(err, cap, "%s: %s", pair, wrong);
    }
    return wrong == NULL;
}

/* One request: words after each other, or nothing for statistics. */
static void serve(struct wan_link *l, int listener)
{
    char buf[1024];
    char reply[1024] = "ok";
    char *save = NULL;
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    ssize_t n = fd >= 0 ? recv(fd, buf, sizeof(buf) - 1, 0) : -1;

    if (n >= 0) {
        buf[n] = '\0';
        if (strcmp(buf, "stats") == 0) {
            (void)stats_json(l, reply, sizeof(reply));
        } else {
            for (char *w = strtok_r(buf, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save)) {
                if (!apply(l, NULL, w, reply, sizeof(reply))) {
                    break;
                }
            }
        }
        (void)send(fd, reply, strlen(reply), MSG_NOSIGNAL);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
}

static int ask(const char *path, const char *request, bool print)
{
    char reply[1024];
    int fd = control_socket(path, false);
    ssize_t n = -1;

    if (fd >= 0 && send(fd, request, strlen(request), 0) >= 0) {
        n = recv(fd, reply, sizeof(reply) - 1, 0);
    }
    if (n <= 0) {
        fprintf(stderr, "wan: nobody answers at %s\n", path);
        return 1;
    }
    reply[n] = '\0';
    if (print || strcmp(reply, "ok") != 0) {
        fprintf(print ? stdout : stderr, "%s\n", reply);
    }
    return print || strcmp(reply, "ok") == 0 ? 0 : 2;
}

/* --- running ------------------------------------------------------------- */

static pid_t start_command(char **argv, const struct wan_side sides[2], const char *control,
                           const sigset_t *old)
{
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    pid_t parent = getpid();
    pid_t pid = n > 0 ? fork() : -1;

    if (pid != 0) {
        return pid;
    }
    self[n] = '\0';
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(1);
    }
    for (int i = 0; i < 2; i++) {
        char value[4200];
        snprintf(value, sizeof(value), "%s exec %ld --", self, (long)sides[i].pid);
        (void)setenv(i == 0 ? "WAN_EXEC_A" : "WAN_EXEC_B", value, 1);
    }
    (void)setenv("WAN_A", "10.77.0.1", 1);
    (void)setenv("WAN_B", "10.77.0.2", 1);
    (void)setenv("WAN_CONTROL", control, 1);
    (void)sigprocmask(SIG_SETMASK, old, NULL);
    (void)execvp(argv[0], argv);
    fprintf(stderr, "wan: %s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

/* The command's status once it has ended, -1 before. */
static int take_signal(int sigfd, pid_t command)
{
    struct signalfd_siginfo si;
    int status;

    if (read(sigfd, &si, sizeof(si)) != (ssize_t)sizeof(si)) {
        return -1;
    }
    if (si.ssi_signo != SIGCHLD) {
        (void)kill(command, (int)si.ssi_signo);
        return -1;
    }
    while (waitpid(command, &status, WNOHANG) == command) {
        if (WIFEXITED(status)) {
            return WEXITSTATUS(status);
        }
        if (WIFSIGNALED(status)) {
            return 128 + WTERMSIG(status);
        }
    }
    return -1;
}

static int loop(struct wan_link *l, int control, int sigfd, pid_t command)
{
    for (;;) {
        struct pollfd fds[4] = {{.fd = l->tun[0], .events = POLLIN},
                                {.fd = l->tun[1], .events = POLLIN},
                                {.fd = control, .events = POLLIN},
                                {.fd = sigfd, .events = POLLIN}};
        uint64_t now = now_ns();
        uint64_t next = wan_link_run(l, now);
        struct timespec wait = {0};
        int status;

        if (next != UINT64_MAX && next > now) {
            wait.tv_sec = (time_t)((next - now) / 1000000000u);
            wait.tv_nsec = (long)((next - now) % 1000000000u);
        }
        if (ppoll(fds, 4, next == UINT64_MAX ? NULL : &wait, NULL) < 0 && errno != EINTR) {
            return 1;
        }
        now = now_ns();
        for (int d = 0; d < 2; d++) {
            if (fds[d].revents != 0) {
                wan_link_read(l, (enum wan_dir)d, now);
            }
        }
        if (fds[2].revents != 0) {
            serve(l, control);
        }
        if (fds[3].revents != 0) {
            status = take_signal(sigfd, command);
            if (status >= 0) {
                return status;
            }
        }
    }
}

static int run(struct wan_link *l, const struct start *st, char **argv)
{
    struct wan_side sides[2];
    char path[64];
    sigset_t set;
    sigset_t old;
    int control;
    int sigfd;
    int rc;

    for (int i = 0; i < 2; i++) {
        l->addr[i] = htonl(0x0a4d0001u + (uint32_t)i);
    }
    rc = wan_ns_make(sides, l->addr, st->if_mtu);
    if (rc != 0) {
        return rc;
    }
    l->tun[0] = sides[0].tun;
    l->tun[1] = sides[1].tun;
    snprintf(path, sizeof(path), "/tmp/wan.%ld", (long)getpid());
    control = control_socket(path, true);
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &set, &old);
    sigfd = signalfd(-1, &set, SFD_CLOEXEC);
    /* Delays are to be kept to a fraction of a millisecond. */
    (void)prctl(PR_SET_TIMERSLACK, 1000);
    if (control < 0 || sigfd < 0) {
        fprintf(stderr, "wan: cannot listen at %s: %s\n", path, strerror(errno));
        return 1;
    }
    rc = loop(l, control, sigfd, start_command(argv, sides, path, &old));
    (void)unlink(path);
    for (int i = 0; i < 2; i++) {
        (void)kill(sides[i].pid, SIGKILL);
    }
    return rc;
}

static char **after_dashes(int argc, char **argv, int from)
{
    for (int i = from; i < argc; i++) {
        if (strcmp(argv[i], "--") == 0) {
            argv[i] = NULL;
            return argv[i + 1] != NULL ? &argv[i + 1] : NULL;
        }
    }
    return NULL;
}

static int set_command(int argc, char **argv)
{
    char request[1024] = "";

    for (int i = 3; i < argc; i++) {
        size_t n = strlen(request);
        snprintf(request + n, sizeof(request) - n, "%s%s", i > 3 ? " " : "", argv[i]);
    }
    return ask(argv[2], request, false);
}

int main(int argc, char **argv)
{
    static struct wan_link link;
    struct start st = {.if_mtu = 1500, .seed = 1};
    char **command;
    char err[256];

    if (argc < 2 || strcmp(argv[1], "--help") == 0) {
        fputs(usage, argc < 2 ? stderr : stdout);
        return argc < 2 ? 2 : 0;
    }
    if (argc > 3 && strcmp(argv[1], "set") == 0) {
        return set_command(argc, argv);
    }
    if (argc == 3 && strcmp(argv[1], "stats") == 0) {
        return ask(argv[2], "stats", true);
    }
    command = after_dashes(argc, argv, 1);
    if (command == NULL) {
        fputs(usage, stderr);
        return 2;
    }
    if (strcmp(argv[1], "exec") == 0) {
        return argc > 3 ? wan_ns_exec((pid_t)atol(argv[2]), command) : 2;
    }
    wan_link_init(&link, 0);
    for (int i = 1; argv[i] != NULL; i++) {
        if (!apply(&link, &st, argv[i], err, sizeof(err))) {
            fprintf(stderr, "wan: %s\n", err);
            return 2;
        }
    }
    link.rng = st.seed;
    return run(&link, &st, command);
}
