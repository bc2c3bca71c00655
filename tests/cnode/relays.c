/* SPDX-License-Identifier: Apache-2.0 */
#include "cnode/relays.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

static int bound(int type, uint16_t *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int size = 4000000;
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

static void *forward(void *arg)
{
    static _Thread_local uint8_t buf[65536];
    struct forwarder *f = arg;
    struct sockaddr_storage client;
    socklen_t client_len = 0;

    for (;;) {
        struct pollfd p[] = {{.fd = f->front, .events = POLLIN},
                             {.fd = f->back, .events = POLLIN},
                             {.fd = f->stop, .events = POLLIN}};
        ssize_t n;

        if (poll(p, 3, -1) < 0 || p[2].revents != 0) {
            return NULL;
        }
        if (p[0].revents != 0) {
            socklen_t len = sizeof(client);
            n = recvfrom(f->front, buf, sizeof(buf), MSG_DONTWAIT, (struct sockaddr *)&client,
                         &len);
            if (n > 0 && !f->mute) {
                client_len = len;
                f->largest = (unsigned)n > f->largest ? (unsigned)n : f->largest;
                f->moved++;
                (void)send(f->back, buf, (size_t)n, 0);
            }
        }
        if (p[1].revents != 0) {
            n = recv(f->back, buf, sizeof(buf), MSG_DONTWAIT);
            if (n > 0 && !f->mute && !f->one_way && (f->connected || client_len > 0)) {
                f->moved++;
                (void)sendto(f->front, buf, (size_t)n, MSG_NOSIGNAL,
                             f->connected ? NULL : (struct sockaddr *)&client,
                             f->connected ? 0 : client_len);
            }
        }
    }
}

static void start(struct forwarder *f, uint16_t to)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(to), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    uint16_t port;

    f->back = bound(SOCK_DGRAM, &port);
    assert_int_equal(connect(f->back, (struct sockaddr *)&a, sizeof(a)), 0);
    f->stop = eventfd(0, EFD_CLOEXEC);
    assert_int_equal(pthread_create(&f->thread, NULL, forward, f), 0);
}

void forwarder_open(struct forwarder *f, uint16_t to)
{
    *f = (struct forwarder){0};
    f->front = bound(SOCK_DGRAM, &f->port);
    start(f, to);
}

int forwarder_open_pair(struct forwarder *f, uint16_t to)
{
    int pair[2];

    *f = (struct forwarder){.connected = true};
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
    f->front = pair[0];
    start(f, to);
    return pair[1];
}

void forwarder_close(struct forwarder *f)
{
    const uint64_t one = 1;

    assert_int_equal(write(f->stop, &one, sizeof(one)), sizeof(one));
    assert_int_equal(pthread_join(f->thread, NULL), 0);
    (void)close(f->front);
    (void)close(f->back);
    (void)close(f->stop);
}

int mute_tcp(uint16_t *port)
{
    int fd = bound(SOCK_STREAM, port);

    assert_int_equal(listen(fd, 8), 0);
    return fd;
}
