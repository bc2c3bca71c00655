/* SPDX-License-Identifier: Apache-2.0 */
/* The C node of the Erlang suites: relays, by commands. */
#include "cnode/peer.h"

#include "barrel_p2p/relay.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* --- functions: a UDP socket to a port of this machine, and a thread that reads it --------------
 */

struct way {
    pthread_mutex_t lock;
    struct bp_relay_end *end;
    int fd;
    uint16_t port;
};

static int way_open(void *ctx, struct bp_relay_end *end, const char *node, const char *ip,
                    uint16_t port)
{
    struct way *w = ctx;

    (void)node;
    (void)ip;
    (void)port;
    (void)pthread_mutex_lock(&w->lock);
    w->end = end;
    (void)pthread_mutex_unlock(&w->lock);
    return 0;
}

static int way_send(void *ctx, struct bp_relay_end *end, const void *datagram, size_t len)
{
    const struct way *w = ctx;

    (void)end;
    return send(w->fd, datagram, len, MSG_DONTWAIT) >= 0 ? 0 : BP_ERROR_LIMIT;
}

static void way_close(void *ctx, struct bp_relay_end *end)
{
    struct way *w = ctx;

    (void)end;
    (void)pthread_mutex_lock(&w->lock);
    w->end = NULL;
    (void)pthread_mutex_unlock(&w->lock);
}

static void *way_read(void *arg)
{
    static uint8_t buf[65536];
    struct way *w = arg;
    ssize_t n;

    while ((n = recv(w->fd, buf, sizeof(buf), 0)) >= 0) {
        (void)pthread_mutex_lock(&w->lock);
        if (w->end != NULL && n > 0) {
            (void)bp_relay_feed(w->end, buf, (size_t)n);
        }
        (void)pthread_mutex_unlock(&w->lock);
    }
    return NULL;
}

static struct way *way_new(uint16_t port)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct way *w = calloc(1, sizeof(*w));
    int size = 4000000;
    pthread_t thread;

    if (w == NULL || pthread_mutex_init(&w->lock, NULL) != 0) {
        peer_die("no memory");
    }
    w->fd = socket(AF_INET, SOCK_DGRAM, 0);
    (void)setsockopt(w->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    if (w->fd < 0 || connect(w->fd, (struct sockaddr *)&to, sizeof(to)) != 0 ||
        pthread_create(&thread, NULL, way_read, w) != 0) {
        peer_die("no socket for a relay");
    }
    return w;
}

/* --- a descriptor -------------------------------------------------------------------------------
 */

static int unix_socket(const char *path)
{
    struct sockaddr_un own = {.sun_family = AF_UNIX};
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

    (void)snprintf(own.sun_path, sizeof(own.sun_path), "%.100s.a", path);
    (void)snprintf(to.sun_path, sizeof(to.sun_path), "%.100s", path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&own, sizeof(own)) != 0 ||
        connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
        peer_die("cannot connect to %s", path);
    }
    return fd;
}

/* --- commands -----------------------------------------------------------------------------------
 */

static const struct bp_relay_functions functions = {
    .open = way_open, .send = way_send, .close = way_close};

/* What is behind "relay NODE"; false: no relay. */
static bool read_relay(const char *text, struct bp_relay *r)
{
    static char host[128];
    static char user[128];
    static char password[128];
    unsigned port = 0;
    unsigned mtu = 0;

    *r = (struct bp_relay){.size = sizeof(*r)};
    if (sscanf(text, "udp %127s %u %u", host, &port, &mtu) >= 2) {
        r->kind = BP_RELAY_UDP;
    } else if (sscanf(text, "socks5 %127s %u %127s %127s", host, &port, user, password) >= 2) {
        r->kind = BP_RELAY_SOCKS5;
        if (password[0] != '\0') {
            r->user = user;
            r->password = password;
        }
    } else if (sscanf(text, "fd %127s", host) == 1) {
        r->kind = BP_RELAY_FD;
        r->fd = unix_socket(host);
    } else if (sscanf(text, "functions %u", &port) == 1) {
        r->kind = BP_RELAY_FUNCTIONS;
        r->functions = &functions;
        r->ctx = way_new((uint16_t)port);
    } else {
        return false;
    }
    r->host = host;
    r->port = (uint16_t)port;
    r->mtu = mtu;
    return true;
}

/* Peers of libei's have no events. */
static void wait_moved(struct bp_node *n, bp_peer_id id)
{
    const struct timespec pause = {.tv_nsec = 5000000};
    struct bp_peer_info i;

    while (bp_node_peer_info(n, id, &i, sizeof(i)) == 0 && i.moving) {
        (void)nanosleep(&pause, NULL);
    }
    peer_say("moved %d", i.move_error);
}

static void migrate(struct bp_node *n, const char *node, const char *to)
{
    bp_peer_id id = bp_node_find_peer(n, node);
    struct bp_relay relay;
    struct bp_migrate how = {.timeout_ms = 20000};
    struct bp_peer_info i;
    int rc;

    if (read_relay(to, &relay)) {
        how.relay = &relay;
    } else {
        how.direct = strcmp(to, "direct") == 0;
    }
    rc = bp_node_migrate(n, id, &how, sizeof(how));
    if (rc != 0) {
        peer_say("moved %d %s", rc, bp_error_detail());
    } else if (bp_node_peer_info(n, id, &i, sizeof(i)) == 0 && i.ei) {
        wait_moved(n, id);
    }
}

bool peer_relay_command(struct bp_node *n, const char *line)
{
    struct bp_relay relay;
    char node[256];
    int at = 0;
    bool some;

    if (sscanf(line, "migrate %255s %n", node, &at) == 1 && at != 0) {
        migrate(n, node, line + at);
        return true;
    }
    if (sscanf(line, "relay %255s %n", node, &at) != 1 || at == 0) {
        return false;
    }
    some = read_relay(line + at, &relay);
    if (bp_node_set_relay(n, node, some ? &relay : NULL) != 0) {
        peer_die("%s", bp_error_detail());
    }
    if (some && relay.kind == BP_RELAY_FD) {
        (void)close(relay.fd); /* the library has its own */
    }
    peer_say("relay set");
    return true;
}
