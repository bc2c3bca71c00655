/* SPDX-License-Identifier: Apache-2.0 */
/* The hostile client: connection, socket, authentication with lies. */
#include "hostile/client.h"

#include "base/err.h"
#include "base/rw.h"
#include "io/udp.h"
#include "quic/conn_impl.h"
#include "quic/tls_cert.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SILENCE 5000

/* --- who ----------------------------------------------------------------- */

void self_new(struct self *s)
{
    static struct bp_tls_pem pem;
    uint8_t seed[BP_KEY_LEN];
    char err[256];

    *s = (struct self){0};
    if (bp_identity_generate(seed, s->pub) != 0 ||
        bp_identity_new(&s->identity, seed, s->pub, bp_mem_libc()) != 0 ||
        bp_random(s->reset_secret, sizeof(s->reset_secret)) != 0 ||
        bp_tls_cert_generate("hostile", (int64_t)(wall_ms() / 1000), &pem) != 0 ||
        bp_tls_cred_load(pem.cert, pem.cert_len, pem.key, pem.key_len, &s->cred, err,
                         sizeof(err)) != 0) {
        die("no keys");
    }
}

void self_free(struct self *s)
{
    bp_identity_del(s->identity);
    bp_tls_cred_unref(s->cred);
}

/* --- what the connection reports ----------------------------------------- */

static int on_tls_done(void *user)
{
    struct client *c = user;

    c->tls_done = true;
    return 0;
}

static void on_early(void *user)
{
    (void)user;
}

static int on_data(void *user, int64_t id, const uint8_t *p, size_t len, bool fin)
{
    struct client *c = user;

    (void)fin;
    if (id == (c->server ? 2 : 3)) {
        (void)bp_auth_split_push(&c->auth_in, p, len);
    } else if (id == 0 && len <= sizeof(c->ctl) - c->ctl_len) {
        memcpy(c->ctl + c->ctl_len, p, len);
        c->ctl_len += len;
    }
    if (id != 0 && id != (c->server ? 2 : 3)) {
        c->got += len;
    }
    bp_conn_credit(c->c, id, len);
    return 0;
}

static int on_reset(void *user, int64_t id, uint64_t code)
{
    struct client *c = user;

    (void)id;
    (void)code;
    c->resets++;
    return 0;
}

static void on_acked(void *user, unsigned slot, uint64_t offset)
{
    (void)user;
    (void)slot;
    (void)offset;
}

static void on_cid(void *user, const struct bp_cid *cid, bool added)
{
    (void)user;
    (void)cid;
    (void)added;
}

const struct bp_conn_ops *client_ops(void)
{
    static const struct bp_conn_ops ops = {.handshake_done = on_tls_done,
                                           .early_ready = on_early,
                                           .stream_data = on_data,
                                           .stream_reset = on_reset,
                                           .acked = on_acked,
                                           .cid = on_cid};
    return &ops;
}

/* --- life ---------------------------------------------------------------- */

void client_init(struct client *c, struct self *self, int fd)
{
    *c = (struct client){.self = self, .fd = fd, .auth_slot = -1, .ctl_slot = -1, .began = mono()};
}

void client_dial(struct client *c, struct self *self, const char *from, const char *to,
                 uint16_t port)
{
    struct bp_conn_config cfg;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof(c->local.u);

    client_init(c, self, fd);
    if (fd < 0 || bp_addr_parse(&c->local, from, 0) != 0 ||
        bp_addr_parse(&c->remote, to, port) != 0 || bind(fd, &c->local.u.sa, c->local.len) != 0 ||
        getsockname(fd, &c->local.u.sa, &len) != 0) {
        die("no socket on %s: %s", from, strerror(errno));
    }
    cfg = (struct bp_conn_config){.mem = bp_mem_libc(),
                                  .ops = client_ops(),
                                  .user = c,
                                  .cred = self->cred,
                                  .reset_secret = self->reset_secret,
                                  .local = c->local,
                                  .remote = c->remote,
                                  .idle_timeout = 60 * BP_SEC};
    if (bp_conn_new(&c->c, false, &cfg, mono()) != 0) {
        die("no connection");
    }
    if (arg_uint("foreign", 0) != 0) {
        /* Not our number of connection ids: bp_conn_peer_is_ours is false over there. */
        ngtcp2_transport_params *p =
            (ngtcp2_transport_params *)(uintptr_t)ngtcp2_conn_get_local_transport_params(c->c->q);
        p->active_connection_id_limit = 7;
    }
}

void client_free(struct client *c)
{
    bp_conn_del(c->c);
    if (c->fd >= 0 && !c->server) {
        (void)close(c->fd);
    }
    c->c = NULL;
}

/* --- running ------------------------------------------------------------- */

static void failed(struct client *c, int err)
{
    if (err != 0 && c->err == 0) {
        c->err = err;
        c->ended = mono();
    }
}

void client_flush(struct client *c)
{
    static uint8_t buf[2 * BP_DGRAM_MAX + 1024];
    struct bp_tx_run runs[BP_TX_RUNS];
    unsigned n = 1;

    while (c->err == 0 && !c->mute && n > 0) {
        failed(c, bp_conn_write(c->c, buf, sizeof(buf), runs, &n, mono()));
        for (unsigned i = 0; c->err == 0 && i < n; i++) {
            for (size_t off = 0; off < runs[i].len; off += runs[i].seg) {
                size_t len = runs[i].len - off < runs[i].seg ? runs[i].len - off : runs[i].seg;
                const uint8_t *p = buf + runs[i].off + off;

                if (c->on_send != NULL) {
                    c->on_send(c->on_send_ctx, p, len);
                }
                c->sent_datagrams++;
                c->sent_bytes += len;
                (void)sendto(c->fd, p, len, 0, &runs[i].remote.u.sa, runs[i].remote.len);
            }
        }
    }
}

void client_read(struct client *c, const struct bp_addr *from, const uint8_t *p, size_t len)
{
    if (c->err == 0) {
        failed(c, bp_conn_read(c->c, &c->local, from, p, len, mono()));
    }
}

static void receive(struct client *c)
{
    static uint8_t buf[65536];
    struct bp_addr from = {0};
    ssize_t n;

    for (;;) {
        from.len = sizeof(from.u);
        n = recvfrom(c->fd, buf, sizeof(buf), 0, &from.u.sa, &from.len);
        if (n < 0) {
            return;
        }
        client_read(c, &from, buf, (size_t)n);
    }
}

void client_step(struct client *c, int ms)
{
    struct pollfd fd = {.fd = c->fd, .events = POLLIN};
    bp_time now = mono();
    bp_time at = bp_conn_deadline(c->c, now);
    int wait = at <= now ? 0 : at - now > (bp_time)ms * BP_MS ? ms : (int)((at - now) / BP_MS) + 1;

    client_flush(c);
    (void)poll(&fd, 1, wait < ms ? wait : ms);
    if (!c->server) {
        receive(c);
    }
    now = mono();
    if (c->err == 0 && bp_conn_deadline(c->c, now) <= now) {
        failed(c, bp_conn_on_timer(c->c, now));
    }
    client_flush(c);
}

bool client_run(struct client *c, bool (*done)(const struct client *c), int ms)
{
    bp_time until = mono() + (bp_time)ms * BP_MS;

    for (;;) {
        bp_time now = mono();

        if (done != NULL && done(c)) {
            return true;
        }
        if (c->err != 0 || now >= until) {
            return false;
        }
        client_step(c, (int)((until - now) / BP_MS) + 1);
    }
}

bool client_tls_done(const struct client *c)
{
    return c->tls_done;
}

bool client_handshake(struct client *c, bool must)
{
    if (!client_run(c, client_tls_done, SILENCE)) {
        if (must) {
            die("no TLS: %s", bp_conn_error_text(c->c));
        }
        return false;
    }
    client_flush(c);
    return true;
}

/* --- bytes on streams ---------------------------------------------------- */

static void put(struct client *c, int slot, const void *p, size_t len)
{
    if (slot < 0 || (c->err == 0 && bp_conn_put_copy(c->c, (unsigned)slot, p, len) != 0)) {
        die("nothing can be written on slot %d", slot);
    }
    client_flush(c);
}

void client_auth_bytes(struct client *c, const void *p, size_t len)
{
    int64_t id;

    if (c->auth_slot < 0) {
        c->auth_slot = bp_conn_open_uni(c->c, &id);
    }
    put(c, c->auth_slot, p, len);
}

void client_ctl_bytes(struct client *c, const void *p, size_t len)
{
    int64_t id;

    if (c->ctl_slot < 0) {
        c->ctl_slot = bp_conn_open_bidi(c->c, &id);
    }
    put(c, c->ctl_slot, p, len);
}

int client_new_stream(struct client *c)
{
    int64_t id;

    return bp_conn_open_bidi(c->c, &id);
}

/* --- authentication ------------------------------------------------------ */

bool client_next_auth(struct client *c, struct bp_auth_msg *out, int ms)
{
    bp_time until = mono() + (bp_time)ms * BP_MS;

    for (;;) {
        const uint8_t *p = NULL;
        size_t len = 0;

        if (bp_auth_split_next(&c->auth_in, &p, &len) == 0 && p != NULL) {
            memcpy(c->msg, p, len);
            return bp_auth_msg_decode(out, c->msg, len) == 0;
        }
        if (c->err != 0 || mono() >= until) {
            return false;
        }
        client_step(c, 50);
    }
}

static void say(struct client *c, const struct bp_auth_msg *m, size_t n, const struct lies *lies)
{
    static int bits; /* sent before, on this connection */
    uint8_t buf[BP_AUTH_SPLIT_CAP];
    struct bp_writer w;

    bp_writer_init(&w, buf, sizeof(buf));
    for (size_t i = 0; i < n; i++) {
        bp_auth_msg_encode(&w, &m[i]);
    }
    if (w.bad) {
        die("cannot encode that");
    }
    if (m->type == BP_AUTH_MSG_HELLO) {
        bits = 0;
    }
    if (lies->flip_bit > bits && lies->flip_bit <= bits + (int)w.len * 8) {
        int bit = lies->flip_bit - bits - 1;
        buf[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    bits += (int)w.len * 8;
    client_auth_bytes(c, buf, w.len);
}

void client_hello(struct client *c, const struct lies *lies)
{
    struct bp_auth_msg m = {.type = BP_AUTH_MSG_HELLO,
                            .name = lies->name,
                            .name_len = strlen(lies->name),
                            .pub = lies->key != NULL ? lies->key : c->self->pub};

    say(c, &m, 1, lies);
}

void client_challenge(struct client *c, const struct lies *lies, const uint8_t *theirs)
{
    uint8_t nonce[BP_NONCE_LEN];
    struct bp_auth_msg m = {.type = BP_AUTH_MSG_CHALLENGE,
                            .ts_ms = wall_ms() + (uint64_t)lies->skew_ms};

    if (bp_random(nonce, sizeof(nonce)) != 0) {
        die("no random numbers");
    }
    m.nonce = lies->echo ? theirs : lies->nonce != NULL ? lies->nonce : nonce;
    say(c, &m, 1, lies);
}

static void respond(struct client *c, const struct lies *lies, const struct bp_auth_msg *challenge)
{
    uint8_t text[BP_NONCE_LEN + 8 + BP_KEY_LEN + BP_BINDING_LEN];
    uint8_t binding[BP_BINDING_LEN];
    uint8_t sig[BP_SIG_LEN];
    struct bp_auth_msg m = {.type = BP_AUTH_MSG_RESPONSE};
    struct bp_writer w;

    if (bp_conn_binding(c->c, binding) != 0) {
        die("no certificate");
    }
    bp_writer_init(&w, text, sizeof(text));
    bp_write_bytes(&w, challenge->nonce, BP_NONCE_LEN);
    bp_write_u64(&w, challenge->ts_ms);
    bp_write_bytes(&w, lies->key != NULL ? lies->key : c->self->pub, BP_KEY_LEN);
    bp_write_bytes(&w, binding, BP_BINDING_LEN);
    if (bp_identity_sign(c->self->identity, text, sizeof(text), sig) != 0) {
        die("cannot sign");
    }
    m.sig = lies->sig != NULL ? lies->sig : sig;
    say(c, &m, 1, lies);
}

void client_authenticate(struct client *c, const struct lies *lies, struct auth_result *out)
{
    struct bp_auth_msg m;

    *out = (struct auth_result){0};
    client_hello(c, lies);
    while (!out->ok && !out->fail && client_next_auth(c, &m, SILENCE)) {
        switch (m.type) {
        case BP_AUTH_MSG_HELLO:
            out->hello = true;
            memcpy(out->hello_key, m.pub, BP_KEY_LEN);
            break;
        case BP_AUTH_MSG_CHALLENGE:
            out->challenge = true;
            memcpy(out->nonce, m.nonce, BP_NONCE_LEN);
            client_challenge(c, lies, m.nonce);
            respond(c, lies, &m);
            break;
        case BP_AUTH_MSG_RESPONSE:
            out->response = true;
            memcpy(out->sig, m.sig, BP_SIG_LEN);
            break;
        case BP_AUTH_MSG_OK:
            out->ok = true;
            break;
        case BP_AUTH_MSG_FAIL:
        default:
            out->fail = true;
            memcpy(out->reason, m.reason, m.reason_len);
            break;
        }
    }
}

void client_report(const struct client *c)
{
    say_uint("ended", c->err != 0);
    say_text("error", bp_err_atom(c->err));
    if (c->err != 0) {
        say_text("text", bp_conn_error_text(c->c));
    }
    say_uint("ms", ((c->err != 0 ? c->ended : mono()) - c->began) / BP_MS);
    say_uint("sent_bytes", c->sent_bytes);
}
