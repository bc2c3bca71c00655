/* SPDX-License-Identifier: Apache-2.0 */
/* Attacks on time and memory before the cookie: who is slow, and who sends too much. */
#include "hostile/client.h"

#include "base/err.h"
#include "base/rw.h"
#include "quic/conn_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LORIS_MAX  64u
#define DRIP       100 /* ms between two bytes */
#define LORIS_SECS 30u

/* --- slow-loris ---------------------------------------------------------- */

static void hello_bytes(uint8_t *out, size_t *len, const char *name, const struct self *self)
{
    struct bp_auth_msg m = {.type = BP_AUTH_MSG_HELLO,
                            .name = name,
                            .name_len = strlen(name),
                            .pub = self->pub};
    struct bp_writer w;

    bp_writer_init(&w, out, BP_AUTH_SPLIT_CAP);
    bp_auth_msg_encode(&w, &m);
    *len = w.len;
}

/* Brings a client to the place where it becomes slow. */
static void begin_slow(struct client *c, const char *kind, const char *name)
{
    struct lies lies = {.name = name};
    struct auth_result res;

    if (strcmp(kind, "tls") == 0) {
        client_flush(c);
        return;
    }
    (void)client_handshake(c, true);
    if (strcmp(kind, "dist") == 0) {
        client_authenticate(c, &lies, &res);
        if (!res.ok) {
            die("not authenticated: %s %s", bp_conn_error_text(c->c), res.reason);
        }
    }
}

/*
 * loris port= kind=tls|auth|dist n= name=: n connections that go on as slowly as they can, each a
 * byte of what is next in a tenth of a second, until the node ends them or secs= have passed. With
 * tls nothing but the first packet is ever sent, and what comes back is not even acknowledged; a
 * node may not send enough to such a peer to always tell it of the end (RFC 9000, 8.1).
 */
void cmd_loris(void)
{
    const char *kind = arg("kind", "auth");
    const char *name = arg("name", "loris@127.0.0.1");
    unsigned n = (unsigned)arg_uint("n", 4);
    static struct client c[LORIS_MAX];
    static struct self self[LORIS_MAX];
    static char names[LORIS_MAX][64];
    static uint8_t drip[BP_AUTH_SPLIT_CAP];
    bool dist = strcmp(kind, "dist") == 0;
    bool tls = strcmp(kind, "tls") == 0;
    unsigned ended = 0;
    bp_time first = BP_TIME_NEVER, last = 0;
    size_t len = 0;
    bp_time until = mono() + arg_uint("secs", LORIS_SECS) * BP_SEC;

    if (n > LORIS_MAX) {
        die("loris: n <= %u", LORIS_MAX);
    }
    for (unsigned i = 0; i < n; i++) {
        char ip[32];
        snprintf(ip, sizeof(ip), "127.4.0.%u", 1 + i % 8);
        snprintf(names[i], sizeof(names[i]), "n%u_%s", i, name);
        self_new(&self[i]);
        client_dial(&c[i], &self[i], ip, "127.0.0.1", (uint16_t)arg_uint("port", 0));
        begin_slow(&c[i], kind, names[i]);
        c[i].mute = tls;
    }
    say_uint("slow", n);
    for (size_t at = 0; ended < n && mono() < until; at++) {
        ended = 0;
        for (unsigned i = 0; i < n; i++) {
            if (c[i].err == 0 && dist) {
                /* a name of 250 bytes, on and on */
                static const uint8_t head[] = {'N', 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 250};
                uint8_t b = at < sizeof(head) ? head[at] : 'a';
                client_ctl_bytes(&c[i], &b, at < 200);
            } else if (c[i].err == 0 && !tls) {
                hello_bytes(drip, &len, names[i], &self[i]);
                client_auth_bytes(&c[i], drip + (at < len ? at : 0), at + 1 < len);
            }
            if (c[i].err == 0) {
                client_step(&c[i], DRIP / (int)n);
            }
            ended += c[i].err != 0;
            if (tls && c[i].err == 0) {
                (void)usleep(DRIP * 1000 / n);
            }
        }
    }
    for (unsigned i = 0; i < n; i++) {
        bp_time t = c[i].err != 0 ? c[i].ended - c[i].began : BP_TIME_NEVER;
        first = t < first ? t : first;
        last = t > last ? t : last;
    }
    say_uint("closed", ended);
    say_uint("first_ms", ended > 0 ? first / BP_MS : 0);
    say_uint("last_ms", ended == n ? last / BP_MS : 0);
    if (n > 0) {
        client_report(&c[0]);
    }
}

/* --- all that they take -------------------------------------------------- */

/* As much as flow control takes on a stream of ngtcp2's, outside of the connection's own. */
static uint64_t stuff(struct client *c, int64_t id, unsigned datagrams)
{
    static uint8_t data[1100];
    uint8_t buf[1500];
    uint64_t sum = 0;

    for (unsigned i = 0; i < datagrams; i++) {
        ngtcp2_path_storage ps;
        ngtcp2_pkt_info pi;
        ngtcp2_ssize taken = -1;
        ngtcp2_ssize n;

        ngtcp2_path_storage_zero(&ps);
        n = ngtcp2_conn_write_stream(c->c->q, &ps.path, &pi, buf, 1200, &taken, 0, id, data,
                                     sizeof(data), mono());
        if (n <= 0) {
            return sum;
        }
        (void)sendto(c->fd, buf, (size_t)n, 0, &c->remote.u.sa, c->remote.len);
        c->sent_bytes += (uint64_t)n;
        sum += taken > 0 ? (uint64_t)taken : 0;
    }
    return sum;
}

/*
 * streams port= kind=all|auth|big: after TLS, data on every stream that may be opened; on the
 * authentication stream; or messages of 64 KB there. Says how much went out in stream data.
 */
void cmd_streams(void)
{
    const char *kind = arg("kind", "all");
    static int64_t ids[256];
    static uint8_t big[65537] = {0xff, 0xff, 1, 2};
    struct self self;
    struct client c;
    uint64_t sum = 0;
    unsigned n = 0;
    int64_t id;

    self_new(&self);
    client_dial(&c, &self, arg("from", "127.0.0.5"), "127.0.0.1", (uint16_t)arg_uint("port", 0));
    (void)client_handshake(&c, true);
    while (strcmp(kind, "big") != 0 && n < 128 && ngtcp2_conn_open_uni_stream(c.c->q, &id, NULL) == 0) {
        ids[n++] = id;
        if (strcmp(kind, "auth") == 0) {
            break;
        }
    }
    while (strcmp(kind, "all") == 0 && n < 256 &&
           ngtcp2_conn_open_bidi_stream(c.c->q, &id, NULL) == 0) {
        ids[n++] = id;
    }
    say_uint("streams", n);
    if (n == 0) {
        client_auth_bytes(&c, big, sizeof(big));
        sum = bp_conn_queued(c.c, (unsigned)c.auth_slot) - bp_conn_unsent(c.c);
    }
    for (unsigned round = 0; n > 0 && c.err == 0 && round < 3000; round++) {
        for (unsigned i = 0; i < n && c.err == 0; i++) {
            sum += stuff(&c, ids[n - 1 - i], 1);
        }
        client_step(&c, 1);
    }
    (void)client_run(&c, NULL, 1000);
    say_uint("accepted", sum);
    client_report(&c);
    client_free(&c);
    self_free(&self);
}
