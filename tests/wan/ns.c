/* SPDX-License-Identifier: Apache-2.0 */
/* Namespaces, TUN devices, and commands that run in them. */
#include "wan/wan.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

static int not_permitted(const char *what)
{
    fprintf(stderr, "wan: skipped: %s: %s (needs network namespaces and /dev/net/tun)\n", what,
            strerror(errno));
    return 77;
}

/* --- inside of a side ---------------------------------------------------- */

static int set_flags(int s, const char *name)
{
    struct ifreq r = {0};

    snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
    if (ioctl(s, SIOCGIFFLAGS, &r) != 0) {
        return -1;
    }
    r.ifr_flags |= IFF_UP | IFF_RUNNING;
    return ioctl(s, SIOCSIFFLAGS, &r);
}

static int set_addr(int s, unsigned long request, const char *name, uint32_t addr)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {.s_addr = addr}};
    struct ifreq r = {0};

    snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
    memcpy(&r.ifr_addr, &in, sizeof(in));
    return ioctl(s, request, &r);
}

/* The device, up, with its address; -1 and errno. */
static int make_tun(uint32_t addr, unsigned mtu)
{
    struct ifreq r = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    int tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool ok;

    snprintf(r.ifr_name, sizeof(r.ifr_name), "wan0");
    ok = tun >= 0 && s >= 0 && ioctl(tun, TUNSETIFF, &r) == 0 && set_flags(s, "lo") == 0 &&
         set_addr(s, SIOCSIFADDR, "wan0", addr) == 0 &&
         set_addr(s, SIOCSIFNETMASK, "wan0", htonl(0xffffff00)) == 0;
    r = (struct ifreq){.ifr_mtu = (int)mtu};
    snprintf(r.ifr_name, sizeof(r.ifr_name), "wan0");
    ok = ok && ioctl(s, SIOCSIFMTU, &r) == 0;
    r = (struct ifreq){.ifr_qlen = 4096};
    snprintf(r.ifr_name, sizeof(r.ifr_name), "wan0");
    ok = ok && ioctl(s, SIOCSIFTXQLEN, &r) == 0 && set_flags(s, "wan0") == 0;
    if (!ok) {
        int saved = errno;
        if (tun >= 0) {
            (void)close(tun);
        }
        tun = -1;
        errno = saved;
    }
    if (s >= 0) {
        (void)close(s);
    }
    return tun;
}

union fd_control {
    char buf[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
};

/* The descriptor, or the errno of what failed. */
static void send_tun(int sock, int tun, int err)
{
    struct iovec iov = {.iov_base = &err, .iov_len = sizeof(err)};
    union fd_control ctl = {0};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

    if (tun >= 0) {
        struct cmsghdr *c;
        m.msg_control = ctl.buf;
        m.msg_controllen = sizeof(ctl.buf);
        c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &tun, sizeof(int));
    }
    (void)sendmsg(sock, &m, 0);
}

static int recv_tun(int sock)
{
    int err = EIO;
    int tun = -1;
    struct iovec iov = {.iov_base = &err, .iov_len = sizeof(err)};
    union fd_control ctl;
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl.buf, .msg_controllen = sizeof(ctl)};
    struct cmsghdr *c;

    if (recvmsg(sock, &m, MSG_CMSG_CLOEXEC) != sizeof(err)) {
        errno = EIO;
        return -1;
    }
    c = CMSG_FIRSTHDR(&m);
    if (c != NULL && c->cmsg_type == SCM_RIGHTS) {
        memcpy(&tun, CMSG_DATA(c), sizeof(int));
    }
    errno = err;
    return tun;
}

static void keep_side(int sock, uint32_t addr, unsigned mtu, pid_t parent)
{
    int tun;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(1);
    }
    /* The command may be ended with a signal to its group; this process must not be. */
    (void)setpgid(0, 0);
    if (unshare(CLONE_NEWNET) != 0) {
        send_tun(sock, -1, errno);
        _exit(1);
    }
    tun = make_tun(addr, mtu);
    send_tun(sock, tun, tun < 0 ? errno : 0);
    if (tun < 0) {
        _exit(1);
    }
    (void)close(tun);
    for (;;) {
        (void)pause();
    }
}

/* --- outside ------------------------------------------------------------- */

static bool write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    if (fd >= 0) {
        (void)close(fd);
    }
    return ok;
}

/* Where we may not make network namespaces we may in a user namespace of our own. */
static int become_able(void)
{
    char map[64];
    uid_t uid = geteuid();
    gid_t gid = getegid();

    if (uid == 0) {
        return 0;
    }
    if (unshare(CLONE_NEWUSER) != 0) {
        return -1;
    }
    (void)write_text("/proc/self/setgroups", "deny");
    snprintf(map, sizeof(map), "0 %u 1", (unsigned)uid);
    if (!write_text("/proc/self/uid_map", map)) {
        return -1;
    }
    snprintf(map, sizeof(map), "0 %u 1", (unsigned)gid);
    return write_text("/proc/self/gid_map", map) ? 0 : -1;
}

int wan_ns_make(struct wan_side sides[2], const uint32_t addr[2], unsigned mtu)
{
    pid_t parent;

    if (become_able() != 0) {
        return not_permitted("user namespace");
    }
    parent = getpid();
    for (int i = 0; i < 2; i++) {
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
            return not_permitted("socketpair");
        }
        sides[i].pid = fork();
        if (sides[i].pid < 0) {
            return not_permitted("fork");
        }
        if (sides[i].pid == 0) {
            keep_side(pair[1], addr[i], mtu, parent);
        }
        (void)close(pair[1]);
        sides[i].tun = recv_tun(pair[0]);
        (void)close(pair[0]);
        if (sides[i].tun < 0) {
            return not_permitted("network namespace with a TUN device");
        }
    }
    return 0;
}

int wan_ns_exec(pid_t pid, char **argv)
{
    char path[64];
    int net;

    snprintf(path, sizeof(path), "/proc/%ld/ns/net", (long)pid);
    net = open(path, O_RDONLY | O_CLOEXEC);
    if (net < 0 || setns(net, CLONE_NEWNET) != 0) {
        fprintf(stderr, "wan exec: cannot enter the network of process %ld: %s\n", (long)pid,
                strerror(errno));
        return 126;
    }
    (void)execvp(argv[0], argv);
    fprintf(stderr, "wan exec: %s: %s\n", argv[0], strerror(errno));
    return 127;
}
