/* SPDX-License-Identifier: Apache-2.0 */
/* rtnetlink: reports of addresses and routes. */
#include "io/route_watch.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READS_MAX 64 /* more wait for the next call */

int bp_route_watch_open(int *out)
{
    struct sockaddr_nl a = {.nl_family = AF_NETLINK,
                            .nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR |
                                         RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);

    if (fd < 0) {
        return errno == EMFILE || errno == ENFILE ? BP_E_LIMIT : BP_E_SYSTEM;
    }
    if (bind(fd, (const struct sockaddr *)&a, sizeof(a)) != 0) {
        int saved = errno;
        (void)close(fd);
        errno = saved;
        return BP_E_SYSTEM;
    }
    *out = fd;
    return 0;
}

/* Of the main table, and not of the kernel's own for broadcasts and local addresses. */
static bool route_matters(const uint8_t *p, size_t len)
{
    struct rtmsg r;

    if (len < sizeof(r)) {
        return false;
    }
    memcpy(&r, p, sizeof(r));
    return (r.rtm_flags & RTM_F_CLONED) == 0 && r.rtm_type != RTN_LOCAL &&
           r.rtm_type != RTN_BROADCAST && r.rtm_type != RTN_MULTICAST && r.rtm_type != RTN_ANYCAST;
}

bool bp_route_watch_relevant(const uint8_t *p, size_t len)
{
    struct nlmsghdr h;

    while (len >= sizeof(h)) {
        size_t step;

        memcpy(&h, p, sizeof(h));
        if (h.nlmsg_len < sizeof(h) || h.nlmsg_len > len) {
            return false;
        }
        switch (h.nlmsg_type) {
        case RTM_NEWADDR:
        case RTM_DELADDR:
            return true;
        case RTM_NEWROUTE:
        case RTM_DELROUTE:
            if (route_matters(p + sizeof(h), h.nlmsg_len - sizeof(h))) {
                return true;
            }
            break;
        default:
            break;
        }
        step = NLMSG_ALIGN(h.nlmsg_len);
        if (step >= len) {
            break;
        }
        p += step;
        len -= step;
    }
    return false;
}

bool bp_route_watch_read(int fd)
{
    uint8_t buf[16384];
    bool relevant = false;

    for (int i = 0; i < READS_MAX; i++) {
        struct sockaddr_nl from = {0};
        socklen_t from_len = sizeof(from);
        ssize_t n =
            recvfrom(fd, buf, sizeof(buf), MSG_DONTWAIT, (struct sockaddr *)&from, &from_len);

        if (n < 0 && errno == ENOBUFS) {
            relevant = true; /* some were lost */
        } else if (n < 0 && errno != EINTR) {
            break;
        } else if (n > 0 && from.nl_pid == 0) { /* others may send to us, the kernel is 0 */
            relevant = relevant || bp_route_watch_relevant(buf, (size_t)n);
        }
    }
    return relevant;
}
