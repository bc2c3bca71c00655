/* SPDX-License-Identifier: Apache-2.0 */
/* Processes of the command barrel-p2p, for tests. */
#include "cli/run.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/mman.h>
#include <sys/wait.h>

/* The test's own path without its last `levels` parts. */
static void above(int levels, char out[static PATH_MAX])
{
    ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 1);

    assert_true(n > 0);
    out[n] = '\0';
    for (int i = 0; i < levels; i++) {
        char *slash = strrchr(out, '/');
        assert_non_null(slash);
        *slash = '\0';
    }
}

/* <root>/build/<variant>/tests/cli/test_x -> <root>/build/<variant>/cli/barrel-p2p */
const char *cli_path(char out[static PATH_MAX])
{
    static const char command[] = "/cli/barrel-p2p";

    above(3, out);
    assert_true(strlen(out) + sizeof(command) <= PATH_MAX);
    return strcat(out, command);
}

int cli_enter_root(void **state)
{
    char root[PATH_MAX];

    (void)state;
    above(5, root);
    return chdir(root);
}

static int open_command(const char *other)
{
    char path[PATH_MAX];
    int fd;

    if (other != NULL) {
        above(1, path);
        assert_true(strlen(path) + strlen(other) + 2 <= PATH_MAX);
        (void)strcat(strcat(path, "/"), other);
    } else {
        (void)cli_path(path);
    }
    fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        fail_msg("%s: %s", path, strerror(errno));
    }
    return fd;
}

static const struct passwd *nobody(void)
{
    const struct passwd *pw = getpwnam("nobody");

    assert_non_null(pw);
    return pw;
}

void give_to_nobody(void **state)
{
    struct tmpdir *t = *state;

    if (geteuid() == 0) {
        assert_int_equal(chown(t->path, nobody()->pw_uid, nobody()->pw_gid), 0);
    }
}

/* A file in memory with `len` bytes of `data`, at its start. */
static int mem_file(const char *data, size_t len)
{
    int fd = memfd_create("test", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), len);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

static void read_back(int fd, char out[static OUT_MAX])
{
    ssize_t n = pread(fd, out, OUT_MAX - 1, 0);

    assert_true(n >= 0);
    out[n] = '\0';
    close(fd);
}

static void become_nobody(const struct passwd *pw)
{
    if (setgroups(0, NULL) != 0 || setgid(pw->pw_gid) != 0 || setuid(pw->pw_uid) != 0) {
        _exit(126);
    }
    /* its file of suppressions may be where only we can read */
    (void)unsetenv("LSAN_OPTIONS");
    (void)setenv("ASAN_OPTIONS", "handle_segv=2:detect_leaks=0", 1);
}

static void child(const struct call *call, int command, const int fds[3], const struct passwd *pw)
{
    char *argv[ARGS_MAX + 2] = {(char[]){"barrel-p2p"}};

    for (size_t i = 0; i < ARGS_MAX && call->args[i] != NULL; i++) {
        argv[i + 1] = strdup(call->args[i]);
    }
    (void)umask(call->umask_ != 0 ? call->umask_ : 022);
    for (int i = 0; i < 3; i++) {
        if (dup2(fds[i], i) < 0) {
            _exit(126);
        }
    }
    if (pw != NULL) {
        become_nobody(pw);
    }
    if (chdir(call->dir) != 0) {
        _exit(126);
    }
    (void)fexecve(command, argv, environ);
    _exit(127);
}

void cli_call(struct run *r, const struct call *call)
{
    int command = open_command(call->command);
    int fds[3] = {mem_file(call->input != NULL ? call->input : "", call->input_len),
                  mem_file("", 0), mem_file("", 0)};
    const struct passwd *pw = call->as_nobody && geteuid() == 0 ? nobody() : NULL;
    int status = 0;
    pid_t pid;

    if (call->from != NULL) {
        close(fds[0]);
        fds[0] = open(call->from, O_RDONLY | O_CLOEXEC);
        assert_true(fds[0] >= 0);
    }
    if (call->to != NULL) {
        close(fds[1]);
        fds[1] = open(call->to, O_WRONLY | O_CLOEXEC);
        assert_true(fds[1] >= 0);
    }
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        child(call, command, fds, pw);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    close(command);
    close(fds[0]);
    if (call->to != NULL) {
        close(fds[1]);
        r->out[0] = '\0';
    } else {
        read_back(fds[1], r->out);
    }
    read_back(fds[2], r->err);
    r->status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (r->status < 0 || r->status >= 126 || strstr(r->err, "Sanitizer") != NULL ||
        strstr(r->err, "runtime error") != NULL) {
        fail_msg("barrel-p2p %s ...: status %d: %s", call->args[0], r->status, r->err);
    }
}

void expect(const struct run *r, int want, const char *text, const char *part, int line)
{
    if (r->status != want || strstr(text, part) == NULL) {
        fail_msg("line %d: wanted status %d and \"%s\", got status %d\nout: %s\nerr: %s", line,
                 want, part, r->status, r->out, r->err);
    }
}

json_t *cli_json(const struct run *r)
{
    json_error_t e;
    json_t *v = json_loads(r->out, JSON_REJECT_DUPLICATES, &e);

    if (v == NULL) {
        fail_msg("not JSON (%s): %s", e.text, r->out);
    }
    return v;
}

const char *member(const json_t *o, const char *name)
{
    const char *s = json_string_value(json_object_get(o, name));

    return s != NULL ? s : "";
}
