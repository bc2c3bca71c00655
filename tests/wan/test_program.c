/* SPDX-License-Identifier: Apache-2.0 */
/* The emulator as a program: the command line, the control socket, what it starts and ends. */
#include "wan/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

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
    argv[0] = rig_wan;
    return run(rig_wan, argv, before, out, cap);
}

#define ARGS(...) ((char *[]){(char[]){""}, __VA_ARGS__, NULL})
#define S(text)   ((char[]){text})

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
    assert_int_equal(run_wan(ARGS(S("set"), rig_control, S("nothing=1")), NULL, out, sizeof(out)),
                     2);
    assert_non_null(strstr(out, "nothing"));
    assert_int_equal(run_wan(ARGS(S("set"), S("/nowhere/x"), S("loss=1%")), NULL, out, sizeof(out)),
                     2);
    assert_int_equal(run_wan(ARGS(S("--help")), NULL, out, sizeof(out)), 0);
}

static void set_and_stats_work_from_the_shell(void **state)
{
    char out[WAN_CONTROL_MAX];
    long down = rig_stat("ab", "down");

    (void)state;
    assert_int_equal(
        run_wan(ARGS(S("set"), rig_control, S("ab.down=1"), S("delay=1ms")), NULL, NULL, 0), 0);
    rig_send_ab(1, 100);
    rig_wait_stat("ab", "down", down + 1);
    assert_int_equal(run_wan(ARGS(S("stats"), rig_control), NULL, out, sizeof(out)), 0);
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
        rig_ask(request, answer, &ns);
        assert_int_equal(fstat(ns, &st), 0);
        close(ns);
        snprintf(want, sizeof(want), "net:[%lu]\n", (unsigned long)st.st_ino);
        assert_int_equal(run_wan(ARGS(S("exec"), rig_control, side, S("--"), S("readlink"),
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
    char *argv[] = {rig_wan, S("sh"), S("-c"), script, NULL};
    struct pollfd p = {.events = POLLIN};
    char text[16];
    int fds[2];
    int status;
    pid_t pid;

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid = fork();
    if (pid == 0) {
        dup2(fds[1], STDOUT_FILENO);
        execv(rig_wan, argv);
        _exit(99);
    }
    close(fds[1]);
    rig_wait_readable(fds[0]);
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
    int rc = run("/bin/sh", ARGS(S("-c"), script, rig_wan), drop_rights, out, sizeof(out));

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

static int run_group(void)
{
    const struct CMUnitTest tests[] = {
        WAN_TEST(exit_status_is_the_commands),
        WAN_TEST(bad_usage_is_refused),
        WAN_TEST(set_and_stats_work_from_the_shell),
        WAN_TEST(exec_enters_the_sides),
        WAN_TEST(all_ends_with_it),
        WAN_TEST(works_in_a_user_namespace),
        WAN_TEST(exec_enters_a_user_namespace),
        WAN_TEST(skips_where_it_is_forbidden),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
    return rig_main(run_group);
}
