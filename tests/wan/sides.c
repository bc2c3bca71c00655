/* SPDX-License-Identifier: Apache-2.0 */
/* Network namespaces and TUN devices with plain ioctls: needs no ip(8), no /var/run/netns. */
#include "wan/sides.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/nsfs.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define DEVICE     "wan0"
#define QUEUE_LEN  20000 /* packets that wait for us in the device; the default is 500 */
#define EXIT_ERROR 2
#define EXIT_SKIP  77

/* One line, and the status: a lack of rights or of kernel features is a skip. */
static int failed(const char *what)
{
    int e = errno;

    if (e == EPERM || e == EACCES || e == ENOENT || e == ENODEV || e == ENOSYS || e == ENOSPC ||
        e == EINVAL) {
        fprintf(stderr, "wan: skipped: %s: %s\n", what, strerror(e));
        return EXIT_SKIP;
    }
    fprintf(stderr, "wan: %s: %s\n", what, strerror(e));
    return EXIT_ERROR;
}

static int write_file(const char *path, const char *format, ...)
{
    char text[64];
    va_list ap;
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t n;
    int len;

    if (fd < 0) {
        return -1;
    }
    va_start(ap, format);
    len = vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    n = write(fd, text, (size_t)len);
    close(fd);
    return n == len ? 0 : -1;
}

static int become_root(void)
{
    unsigned uid = geteuid();
    unsigned gid = getegid();

    if (unshare(CLONE_NEWUSER) != 0) {
        return failed("no rights, and no user namespace");
    }
    /* A kernel that knows setgroups wants it off before gid_map may be written. */
    if (write_file("/proc/self/setgroups", "deny") != 0 && errno != ENOENT) {
        return failed("user namespace, /proc/self/setgroups");
    }
    if (write_file("/proc/self/uid_map", "0 %u 1", uid) != 0 ||
        write_file("/proc/self/gid_map", "0 %u 1", gid) != 0) {
        return failed("user namespace, /proc/self/uid_map");
    }
    return 0;
}

int wan_new_pid_namespace(void)
{
    int rc;

    if (unshare(CLONE_NEWPID) == 0) {
        return 0;
    }
    rc = errno == EPERM ? become_root() : 0;
    if (rc == 0 && unshare(CLONE_NEWPID) != 0) {
        rc = failed("new PID namespace");
    }
    return rc;
}

static int open_tun(void)
{
    struct ifreq r = {0};
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0) {
        return -1;
    }
    memcpy(r.ifr_name, DEVICE, sizeof(DEVICE));
    r.ifr_flags = IFF_TUN | IFF_NO_PI;
    if (ioctl(fd, TUNSETIFF, &r) != 0) {
        int e = errno;

        close(fd);
        errno = e;
        return -1;
    }
    return fd;
}

static int set_up(int s, const char *device)
{
    struct ifreq r = {0};

    strncpy(r.ifr_name, device, sizeof(r.ifr_name) - 1);
    if (ioctl(s, SIOCGIFFLAGS, &r) != 0) {
        return -1;
    }
    r.ifr_flags = (short)(r.ifr_flags | IFF_UP);
    return ioctl(s, SIOCSIFFLAGS, &r);
}

static int set_address(int s, unsigned long request, uint32_t address)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
    struct ifreq r = {0};

    memcpy(r.ifr_name, DEVICE, sizeof(DEVICE));
    memcpy(&r.ifr_addr, &in, sizeof(in));
    return ioctl(s, request, &r);
}

static int set_mtu(int s, int mtu)
{
    struct ifreq r = {0};

    memcpy(r.ifr_name, DEVICE, sizeof(DEVICE));
    r.ifr_mtu = mtu;
    return ioctl(s, SIOCSIFMTU, &r);
}

/* With rtnetlink: the ioctl is refused in user namespaces. */
static int set_queue_len(uint32_t packets)
{
    struct {
        struct nlmsghdr h;
        struct ifinfomsg info;
        struct rtattr a;
        uint32_t value;
    } m = {.h = {.nlmsg_len = sizeof(m),
                 .nlmsg_type = RTM_NEWLINK,
                 .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
           .info = {.ifi_family = AF_UNSPEC, .ifi_index = (int)if_nametoindex(DEVICE)},
           .a = {.rta_len = RTA_LENGTH(sizeof(uint32_t)), .rta_type = IFLA_TXQLEN},
           .value = packets};
    struct {
        struct nlmsghdr h;
        struct nlmsgerr e;
    } answer = {0};
    int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    int rc = -1;

    if (s < 0) {
        return -1;
    }
    if (send(s, &m, sizeof(m), 0) == (ssize_t)sizeof(m) &&
        recv(s, &answer, sizeof(answer), MSG_TRUNC) >= (ssize_t)sizeof(answer)) {
        errno = -answer.e.error;
        rc = errno == 0 ? 0 : -1;
    }
    close(s);
    return rc;
}

static int configure(uint32_t address, unsigned mtu)
{
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int rc = -1;

    if (s < 0) {
        return -1;
    }
    /* Router solicitations would be noise on the link; where IPv6 is absent there is none. */
    (void)write_file("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
    (void)write_file("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    (void)write_file("/proc/sys/net/ipv6/conf/" DEVICE "/disable_ipv6", "1");
    if (set_up(s, "lo") == 0 && set_address(s, SIOCSIFADDR, address) == 0 &&
        set_address(s, SIOCSIFNETMASK, 0xffffff00) == 0 && set_mtu(s, (int)mtu) == 0 &&
        set_queue_len(QUEUE_LEN) == 0 && set_up(s, DEVICE) == 0) {
        rc = 0;
    }
    close(s);
    return rc;
}

static int open_side(struct wan_side *side, uint32_t address, unsigned mtu)
{
    if (unshare(CLONE_NEWNET) != 0) {
        return failed("new network namespace");
    }
    side->ns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (side->ns < 0) {
        return failed("/proc/thread-self/ns/net");
    }
    side->tun = open_tun();
    if (side->tun < 0) {
        return failed("/dev/net/tun");
    }
    if (configure(address, mtu) != 0) {
        return failed("configuring " DEVICE);
    }
    return 0;
}

int wan_sides_open(struct wan_side sides[2], const uint32_t addresses[2], unsigned mtu)
{
    int rc = 0;

    for (int i = WAN_A; i <= WAN_B; i++) {
        sides[i] = (struct wan_side){.tun = -1, .ns = -1};
    }
    if (unshare(CLONE_NEWNS) != 0) {
        return failed("new mount namespace");
    }
    /*
     * ps and kill shall agree on process ids. Where this is refused (a container that masks parts
     * of /proc) programs still run, with the /proc of outside.
     */
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0) {
        (void)mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    }
    for (int i = WAN_A; i <= WAN_B && rc == 0; i++) {
        rc = open_side(&sides[i], addresses[i], mtu);
    }
    if (rc != 0) {
        wan_sides_close(sides);
    }
    return rc;
}

void wan_sides_close(struct wan_side sides[2])
{
    for (int i = WAN_A; i <= WAN_B; i++) {
        if (sides[i].tun >= 0) {
            close(sides[i].tun);
        }
        if (sides[i].ns >= 0) {
            close(sides[i].ns);
        }
        sides[i] = (struct wan_side){.tun = -1, .ns = -1};
    }
}

uint64_t wan_side_overruns(const struct wan_side *s)
{
    char line[512];
    unsigned long long dropped = 0;
    FILE *f;

    if (setns(s->ns, CLONE_NEWNET) != 0) {
        return 0;
    }
    f = fopen("/proc/thread-self/net/dev", "re");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        /* name: 8 columns of what came in; bytes, packets, errors, drops of what went out */
        if (sscanf(line, " " DEVICE ": %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %llu",
                   &dropped) == 1) {
            break;
        }
    }
    if (f != NULL) {
        fclose(f);
    }
    return dropped;
}

/* A wan that an ordinary user runs has a user namespace, and who enters it from outside may do in
 * the link's namespaces what wan itself may. */
static int enter(int ns)
{
    int user;

    if (setns(ns, CLONE_NEWNET) == 0) {
        return 0;
    }
    if (errno != EPERM) {
        return -1;
    }
    user = ioctl(ns, NS_GET_USERNS);
    if (user < 0) {
        return -1;
    }
    if (setns(user, CLONE_NEWUSER) != 0) {
        close(user);
        return -1;
    }
    close(user);
    return setns(ns, CLONE_NEWNET);
}

int wan_exec_in(int ns, char *const argv[])
{
    sigset_t none;

    if (enter(ns) != 0) {
        return failed("entering the network namespace");
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execvp(argv[0], argv);
    fprintf(stderr, "wan: %s: %s\n", argv[0], strerror(errno));
    return errno == ENOENT ? 127 : 126;
}
