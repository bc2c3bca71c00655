/* SPDX-License-Identifier: Apache-2.0 */
/* A DNS server of the test's own on a loopback port: answers from a table, or not at all. */
#ifndef BP_TESTS_DNS_SERVER_H
#define BP_TESTS_DNS_SERVER_H

#include "support/t.h"

#include <arpa/inet.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define DNS_A    1
#define DNS_AAAA 28
#define DNS_SRV  33

struct dns_row {
    const char *name; /* NULL ends the table */
    unsigned type;
    unsigned ttl;     /* at most 255 */
    const char *data; /* an address, or the target of an SRV record */
    unsigned port;
    unsigned priority;
};

struct dns_server {
    int fd;
    char text[32]; /* for the resolver */
    unsigned asked;
    bool silent;
    const struct dns_row *rows;
};

static inline void dns_server_open(struct dns_server *s, const struct dns_row *rows)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);

    *s = (struct dns_server){.rows = rows};
    s->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(s->fd >= 0);
    assert_int_equal(bind(s->fd, (struct sockaddr *)&a, len), 0);
    assert_int_equal(getsockname(s->fd, (struct sockaddr *)&a, &len), 0);
    snprintf(s->text, sizeof(s->text), "127.0.0.1:%u", ntohs(a.sin_port));
}

static inline void dns_server_close(struct dns_server *s)
{
    close(s->fd);
}

/* "a.b" as labels; returns their length. */
static inline size_t dns_put_name(uint8_t *p, const char *name)
{
    size_t n = 0;

    while (*name != '\0') {
        size_t len = strcspn(name, ".");
        p[n] = (uint8_t)len;
        memcpy(p + n + 1, name, len);
        n += len + 1;
        name += len + (name[len] == '.');
    }
    p[n] = 0;
    return n + 1;
}

static inline size_t dns_put_row(uint8_t *p, const struct dns_row *row)
{
    const uint8_t head[] = {0xc0, 12, 0, (uint8_t)row->type, 0, 1, 0, 0, 0, (uint8_t)row->ttl};
    uint8_t *data = p + sizeof(head) + 2;
    size_t n;

    memcpy(p, head, sizeof(head));
    if (row->type == DNS_SRV) {
        const uint8_t srv[] = {0, (uint8_t)row->priority,    0,
                               0, (uint8_t)(row->port >> 8), (uint8_t)row->port};
        memcpy(data, srv, sizeof(srv));
        n = sizeof(srv) + dns_put_name(data + sizeof(srv), row->data);
    } else {
        n = row->type == DNS_A ? 4 : 16;
        assert_int_equal(inet_pton(row->type == DNS_A ? AF_INET : AF_INET6, row->data, data), 1);
    }
    p[sizeof(head)] = 0;
    p[sizeof(head) + 1] = (uint8_t)n;
    return sizeof(head) + 2 + n;
}

/* Answers one question if there is one; names that are not in the table do not exist. */
static inline void dns_server_serve(struct dns_server *s)
{
    struct sockaddr_in from;
    socklen_t from_len = sizeof(from);
    uint8_t p[2048];
    char name[256] = "";
    ssize_t n = recvfrom(s->fd, p, 512, MSG_DONTWAIT, (struct sockaddr *)&from, &from_len);
    size_t end = 12;
    bool known = false;
    unsigned type;

    if (n < 17) {
        return;
    }
    s->asked++;
    while (p[end] != 0) {
        snprintf(name + strlen(name), sizeof(name) - strlen(name), "%s%.*s",
                 name[0] != '\0' ? "." : "", p[end], (const char *)p + end + 1);
        end += p[end] + 1u;
    }
    type = p[end + 2];
    end += 5; /* what follows is the resolver's EDNS record, if any */
    p[2] = 0x81;
    memset(p + 6, 0, 6);
    for (const struct dns_row *row = s->rows; row->name != NULL; row++) {
        if (strcasecmp(row->name, name) != 0) {
            continue;
        }
        known = true;
        if (row->type == type) {
            p[7]++;
            end += dns_put_row(p + end, row);
        }
    }
    p[3] = known ? 0x80 : 0x83;
    if (!s->silent) {
        assert_int_equal(sendto(s->fd, p, end, 0, (struct sockaddr *)&from, from_len),
                         (ssize_t)end);
    }
}

#endif
