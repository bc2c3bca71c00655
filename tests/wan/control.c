/* SPDX-License-Identifier: Apache-2.0 */
/* The control socket, both ends. */
#include "wan/control.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int control_socket(const char *path, struct sockaddr_un *sa)
{
    *sa = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(sa->sun_path)) {
        fprintf(stderr, "wan: %s: too long for a socket's path\n", path);
        return -1;
    }
    strcpy(sa->sun_path, path);
    return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
}

int wan_control_listen(const char *path)
{
    struct sockaddr_un sa;
    int s = control_socket(path, &sa);

    if (s < 0) {
        return -1;
    }
    if (connect(s, (struct sockaddr *)&sa, sizeof(sa)) != 0 && errno == ECONNREFUSED) {
        unlink(path); /* left behind by a wan that was killed */
    }
    close(s);
    s = control_socket(path, &sa);
    if (s < 0 || bind(s, (struct sockaddr *)&sa, sizeof(sa)) != 0 || listen(s, 64) != 0) {
        fprintf(stderr, "wan: %s: %s\n", path, strerror(errno));
        if (s >= 0) {
            close(s);
        }
        return -1;
    }
    return s;
}

static ssize_t receive(int s, char *text, size_t cap, int *fd)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = text, .iov_len = cap};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.space,
                       .msg_controllen = sizeof(control.space)};
    ssize_t n = recvmsg(s, &m, MSG_CMSG_CLOEXEC);
    struct cmsghdr *c = n >= 0 ? CMSG_FIRSTHDR(&m) : NULL;

    if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
        int got;

        memcpy(&got, CMSG_DATA(c), sizeof(got));
        if (fd != NULL) {
            *fd = got;
        } else {
            close(got);
        }
    }
    return n;
}

int wan_control_ask(const char *path, const char *request, char answer[WAN_CONTROL_MAX], int *fd)
{
    struct sockaddr_un sa;
    int s = control_socket(path, &sa);
    ssize_t n = -1;

    if (fd != NULL) {
        *fd = -1;
    }
    if (s >= 0 && connect(s, (struct sockaddr *)&sa, sizeof(sa)) == 0 &&
        send(s, request, strlen(request), MSG_NOSIGNAL) >= 0) {
        n = receive(s, answer, WAN_CONTROL_MAX - 1, fd);
    }
    if (n <= 0) {
        fprintf(stderr, "wan: %s: %s\n", path, n == 0 ? "no answer" : strerror(errno));
    } else {
        answer[n] = '\0';
    }
    if (s >= 0) {
        close(s);
    }
    return n > 0 ? 0 : 2;
}

void wan_control_answer(int client, const char *text, int fd)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov;
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    char copy[WAN_CONTROL_MAX];

    snprintf(copy, sizeof(copy), "%s", text);
    iov = (struct iovec){.iov_base = copy, .iov_len = strlen(copy)};
    if (fd >= 0) {
        memset(&control, 0, sizeof(control));
        m.msg_control = control.space;
        m.msg_controllen = sizeof(control.space);
        CMSG_FIRSTHDR(&m)->cmsg_level = SOL_SOCKET;
        CMSG_FIRSTHDR(&m)->cmsg_type = SCM_RIGHTS;
        CMSG_FIRSTHDR(&m)->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &fd, sizeof(int));
    }
    (void)sendmsg(client, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
}
