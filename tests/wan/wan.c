/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An emulated wide-area link for tests: two network namespaces, joined by two TUN devices and this
 * program, which delays, loses, reorders, duplicates and translates IPv4 packets between them.
 */
#include "wan/control.h"
#include "wan/run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXIT_ERROR 2

static const char usage[] =
    "usage: wan [OPTION ...] [--] COMMAND [ARGUMENT ...]\n"
    "       wan set CONTROL KEY=VALUE ...\n"
    "       wan stats CONTROL\n"
    "       wan exec CONTROL a|b [--] COMMAND [ARGUMENT ...]\n"
    "\n"
    "Runs COMMAND in side a of an emulated link and ends with its exit status, or with 77 and one\n"
    "line where this machine does not permit it. COMMAND finds in its environment WAN_A and WAN_B\n"
    "(addresses), WAN_CONTROL (the control socket), WAN_EXEC_A and WAN_EXEC_B: prefixes that run "
    "a\n"
    "command in a side. What COMMAND starts ends with it; what `exec` starts from elsewhere ends\n"
    "with the process that started it.\n"
    "\n"
    "  -a ADDR, -b ADDR  addresses of the sides (10.77.0.1, 10.77.0.2), in one /24\n"
    "  --control PATH    the control socket (default: in a new directory in /tmp)\n"
    "  --if-mtu SIZE     MTU of the devices, 576 to 65535 (1500)\n"
    "  --seed N          of all random decisions (1)\n"
    "  --stats FILE      write statistics at the end; SIGUSR1 prints them to standard error\n"
    "  --KEY VALUE       a parameter of the link, as below\n"
    "\n"
    "Parameters, of both directions unless said otherwise:\n";

static int bad_usage(const char *what)
{
    fprintf(stderr, "wan: %s (wan --help)\n", what);
    return EXIT_ERROR;
}

static bool parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    char *end;
    unsigned long long v;

    errno = 0;
    v = strtoull(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || v < min || v > max) {
        return false;
    }
    *out = v;
    return true;
}

/* ---- set, stats, exec ---- */

static int ask(const char *control, const char *request)
{
    char answer[WAN_CONTROL_MAX];
    int rc = wan_control_ask(control, request, answer, NULL);

    if (rc == 0 && strncmp(answer, "error: ", 7) == 0) {
        fprintf(stderr, "wan: %s\n", answer + 7);
        return EXIT_ERROR;
    }
    if (rc == 0 && strcmp(answer, "ok") != 0) {
        fputs(answer, stdout);
    }
    return rc;
}

static int command_set(int argc, char **argv)
{
    char request[WAN_CONTROL_MAX] = "set";
    size_t len = strlen(request);

    if (argc < 2) {
        return bad_usage("set: wanted: CONTROL KEY=VALUE ...");
    }
    for (int i = 1; i < argc; i++) {
        int n = snprintf(request + len, sizeof(request) - len, " %s", argv[i]);

        if (n < 0 || (size_t)n >= sizeof(request) - len - 1) {
            return bad_usage("set: too long");
        }
        len += (size_t)n;
    }
    return ask(argv[0], request);
}

static int command_exec(int argc, char **argv)
{
    char answer[WAN_CONTROL_MAX];
    char request[] = "side a";
    int skip = argc > 2 && strcmp(argv[2], "--") == 0 ? 3 : 2;
    int ns;
    int rc;

    if (argc <= skip || (strcmp(argv[1], "a") != 0 && strcmp(argv[1], "b") != 0)) {
        return bad_usage("exec: wanted: CONTROL a|b COMMAND ...");
    }
    request[5] = argv[1][0];
    rc = wan_control_ask(argv[0], request, answer, &ns);
    if (rc == 0 && ns < 0) {
        return bad_usage("exec: no namespace in the answer");
    }
    return rc != 0 ? rc : wan_exec_in(ns, argv + skip);
}

/* ---- wan itself ---- */

struct setup {
    struct wan_options o;
    struct wan_net net;
    char dir[32]; /* of the control socket, when it is ours; else empty */
    char path[48];
};

/* One option that is not a parameter. Returns 0, an exit status, or -1: not one of these. */
static int parse_option(struct setup *s, const char *key, const char *value, uint64_t *seed)
{
    uint64_t v;

    if (strcmp(key, "-a") == 0 || strcmp(key, "-b") == 0) {
        int side = key[1] == 'a' ? WAN_A : WAN_B;

        s->o.address_text[side] = value;
        return wan_parse_address(value, &s->o.addresses[side]) ? 0 : bad_usage("bad address");
    }
    if (strcmp(key, "--control") == 0) {
        s->o.control = value;
        return 0;
    }
    if (strcmp(key, "--stats") == 0) {
        s->o.stats = value;
        return 0;
    }
    if (strcmp(key, "--seed") == 0) {
        return parse_number(value, 0, UINT64_MAX, seed) ? 0 : bad_usage("bad --seed");
    }
    if (strcmp(key, "--if-mtu") == 0) {
        if (!parse_number(value, 576, 65535, &v)) {
            return bad_usage("bad --if-mtu");
        }
        s->o.if_mtu = (unsigned)v;
        return 0;
    }
    return -1;
}

/* Two passes: what the link is made of (first), then its parameters. Returns 0 or a status. */
static int parse_options(struct setup *s, char **argv, bool first, uint64_t *seed)
{
    char err[256];
    int i = 1;

    for (; argv[i] != NULL && argv[i][0] == '-' && strcmp(argv[i], "--") != 0; i += 2) {
        int rc;

        if (argv[i + 1] == NULL) {
            return bad_usage("an option without a value");
        }
        rc = parse_option(s, argv[i], argv[i + 1], seed);
        if (rc > 0) {
            return rc;
        }
        if (rc < 0 && strncmp(argv[i], "--", 2) != 0) {
            return bad_usage("unknown option");
        }
        if (rc < 0 && !first && !wan_net_set(&s->net, argv[i] + 2, argv[i + 1], err, sizeof(err))) {
            return bad_usage(err);
        }
    }
    if (argv[i] != NULL && strcmp(argv[i], "--") == 0) {
        i++;
    }
    if (argv[i] == NULL) {
        return bad_usage("no COMMAND");
    }
    s->o.command = argv + i;
    return 0;
}

static int make_control_dir(struct setup *s)
{
    if (s->o.control != NULL) {
        return 0;
    }
    strcpy(s->dir, "/tmp/wan.XXXXXX");
    if (mkdtemp(s->dir) == NULL) {
        s->dir[0] = '\0';
        fprintf(stderr, "wan: a directory in /tmp: %s\n", strerror(errno));
        return EXIT_ERROR;
    }
    snprintf(s->path, sizeof(s->path), "%s/control", s->dir);
    s->o.control = s->path;
    return 0;
}

/* Outside of the PID namespace: passes signals on, returns the exit status. */
static int wait_for(pid_t child, const sigset_t *signals)
{
    for (;;) {
        int sig = sigwaitinfo(signals, NULL);
        int status;

        if (sig == SIGCHLD && waitpid(child, &status, WNOHANG) == child) {
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
        if (sig > 0 && sig != SIGCHLD) {
            kill(child, sig);
        }
    }
}

/*
 * The emulator is the first process of a PID namespace: when it ends, by whatever means, the
 * kernel ends all that the command has started; when we end, the emulator is killed.
 */
static int start(struct setup *s)
{
    sigset_t signals;
    int alive[2];
    pid_t child;
    int rc;

    sigemptyset(&signals);
    for (size_t i = 0; i < 5; i++) {
        static const int ours[] = {SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGUSR1};

        sigaddset(&signals, ours[i]);
    }
    sigprocmask(SIG_BLOCK, &signals, NULL);
    if (pipe2(alive, O_CLOEXEC) != 0) {
        perror("wan: pipe");
        return EXIT_ERROR;
    }
    rc = wan_new_pid_namespace();
    if (rc != 0) {
        close(alive[0]);
        close(alive[1]);
        return rc;
    }
    child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(alive[1]);
        exit(wan_run(&s->o, &s->net, alive[0]));
    }
    close(alive[0]);
    rc = child > 0 ? wait_for(child, &signals) : EXIT_ERROR;
    close(alive[1]);
    return rc;
}

int main(int argc, char **argv)
{
    static struct setup s;
    uint64_t seed = 1;
    int rc;

    if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        printf("%s%s", usage, wan_params_help());
        return 0;
    }
    if (argc >= 2 && strcmp(argv[1], "set") == 0) {
        return command_set(argc - 2, argv + 2);
    }
    if (argc == 3 && strcmp(argv[1], "stats") == 0) {
        return ask(argv[2], "stats");
    }
    if (argc >= 2 && strcmp(argv[1], "exec") == 0) {
        return command_exec(argc - 2, argv + 2);
    }
    s.o = (struct wan_options){.address_text = {"10.77.0.1", "10.77.0.2"}, .if_mtu = 1500};
    s.o.addresses[WAN_A] = 0x0a4d0001;
    s.o.addresses[WAN_B] = 0x0a4d0002;
    rc = parse_options(&s, argv, true, &seed);
    if (rc != 0) {
        return rc;
    }
    wan_net_init(&s.net, seed, s.o.addresses[WAN_A]);
    rc = parse_options(&s, argv, false, &seed);
    if (rc == 0) {
        rc = make_control_dir(&s);
    }
    if (rc == 0) {
        rc = start(&s);
        unlink(s.o.control);
    }
    if (s.dir[0] != '\0') {
        rmdir(s.dir);
    }
    /* Not exit(): with its PID namespace gone this process cannot start LeakSanitizer's thread. */
    _exit(rc);
}
