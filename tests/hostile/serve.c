/* SPDX-License-Identifier: Apache-2.0 */
/* Attacks by who is dialled (WIRE 11, S1 to S4): a server that is not what it says. */
#include "hostile/client.h"

#include "base/err.h"
#include "base/rw.h"
#include "io/udp.h"
#include "quic/listener.h"
#include "quic/tls_cert.h"

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SERVE_MAX 16u /* connections, one after the other */

/* --- another's certificate ----------------------------------------------- */

static gnutls_pcert_st stolen;
static gnutls_privkey_t own_key;

/* Their certificate, which everybody who dials them gets to see, and a key of our own. */
static int present(gnutls_session_t s, const gnutls_datum_t *cas, int n_cas,
                   const gnutls_pk_algorithm_t *algos, int n_algos, gnutls_pcert_st **cert,
                   unsigned *n_certs, gnutls_privkey_t *key)
{
    (void)s;
    (void)cas;
    (void)n_cas;
    (void)algos;
    (void)n_algos;
    *cert = &stolen;
    *n_certs = 1;
    *key = own_key;
    return 0;
}

static void steal(struct self *self, const char *cert_file)
{
    static struct bp_tls_pem pem;
    gnutls_datum_t file;
    gnutls_datum_t key;

    if (bp_tls_cert_generate("thief", (int64_t)(wall_ms() / 1000), &pem) != 0) {
        die("no key");
    }
    key = (gnutls_datum_t){.data = (unsigned char *)pem.key, .size = (unsigned)pem.key_len};
    if (gnutls_load_file(cert_file, &file) != 0 ||
        gnutls_pcert_import_x509_raw(&stolen, &file, GNUTLS_X509_FMT_PEM, 0) != 0 ||
        gnutls_privkey_init(&own_key) != 0 ||
        gnutls_privkey_import_x509_raw(own_key, &key, GNUTLS_X509_FMT_PEM, NULL, 0) != 0) {
        die("cannot steal %s", cert_file);
    }
    gnutls_certificate_set_retrieve_function2(bp_tls_cred_native(self->cred), present);
}

/* --- what it says -------------------------------------------------------- */

static void send_msg(struct client *c, const struct bp_auth_msg *m)
{
    uint8_t buf[BP_AUTH_SPLIT_CAP];
    struct bp_writer w;

    bp_writer_init(&w, buf, sizeof(buf));
    bp_auth_msg_encode(&w, m);
    client_auth_bytes(c, buf, w.len);
}

static void hello(struct client *c, const char *name, const uint8_t *key)
{
    const struct bp_auth_msg m = {.type = BP_AUTH_MSG_HELLO,
                                  .name = name,
                                  .name_len = strlen(name),
                                  .pub = key};
    send_msg(c, &m);
}

static void challenge(struct client *c, const uint8_t *nonce)
{
    const struct bp_auth_msg m = {.type = BP_AUTH_MSG_CHALLENGE, .nonce = nonce,
                                  .ts_ms = wall_ms()};
    send_msg(c, &m);
}

static void answer(struct client *c, const char *kind, const struct bp_auth_msg *m)
{
    static const uint8_t nonce[BP_NONCE_LEN] = {1, 2, 3};
    static const uint8_t no_sig[BP_SIG_LEN] = {1};
    const char *name = arg("name", "victim@127.0.0.1");

    if (m->type == BP_AUTH_MSG_HELLO && strcmp(kind, "ok_at_once") == 0) {
        const struct bp_auth_msg ok = {.type = BP_AUTH_MSG_OK};
        send_msg(c, &ok);
    } else if (m->type == BP_AUTH_MSG_HELLO && strcmp(kind, "own_key") == 0) {
        hello(c, name, m->pub);
    } else if (m->type == BP_AUTH_MSG_HELLO && strcmp(kind, "other_name") == 0) {
        hello(c, "other@127.0.0.1", c->self->pub);
    } else if (m->type == BP_AUTH_MSG_HELLO) {
        hello(c, name, c->self->pub);
        if (strcmp(kind, "reflect") != 0) {
            challenge(c, nonce);
        }
    } else if (m->type == BP_AUTH_MSG_CHALLENGE && strcmp(kind, "reflect") == 0) {
        challenge(c, m->nonce);
    } else if (m->type == BP_AUTH_MSG_CHALLENGE) {
        const struct bp_auth_msg r = {.type = BP_AUTH_MSG_RESPONSE, .sig = no_sig};
        send_msg(c, &r);
    } else if (m->type == BP_AUTH_MSG_RESPONSE) {
        say_uint("their_signature", 1);
    }
}

/* --- accepting ----------------------------------------------------------- */

static bool accept_one(struct client *c, struct bp_listener *l, const struct bp_addr *from,
                       const uint8_t *p, size_t len)
{
    struct bp_listener_result r;
    uint8_t reply[1500];
    struct bp_conn_config cfg;

    bp_listener_classify(l, p, len, &r);
    if (r.action == BP_LISTENER_ROUTE) {
        bp_listener_unknown(l, from, p, len, reply, sizeof(reply), mono(), &r);
    }
    if (r.action != BP_LISTENER_ACCEPT) {
        return false;
    }
    c->remote = *from;
    cfg = (struct bp_conn_config){.mem = bp_mem_libc(),
                                  .ops = client_ops(),
                                  .user = c,
                                  .cred = c->self->cred,
                                  .reset_secret = c->self->reset_secret,
                                  .local = c->local,
                                  .remote = *from,
                                  .idle_timeout = 60 * BP_SEC,
                                  .version = r.initial.version,
                                  .client_scid = r.initial.client_scid,
                                  .client_dcid = r.initial.client_dcid,
                                  .original_dcid = r.initial.original_dcid};
    return bp_conn_new(&c->c, true, &cfg, mono()) == 0;
}

static void read_all(struct client *c, struct bp_listener *l)
{
    static uint8_t mem[BP_UDP_RX_BUFS * BP_UDP_RX_BUF];
    struct bp_udp_rx rx[BP_UDP_RX_BUFS];
    bool refused;
    int n;

    while ((n = bp_udp_recv(c->fd, mem, rx, &refused)) > 0) {
        for (int i = 0; i < n; i++) {
            for (size_t off = 0; off < rx[i].len; off += rx[i].seg) {
                size_t len = rx[i].len - off < rx[i].seg ? rx[i].len - off : rx[i].seg;
                if (c->c != NULL || accept_one(c, l, &rx[i].remote, rx[i].data + off, len)) {
                    client_read(c, &rx[i].remote, rx[i].data + off, len);
                }
            }
        }
    }
}

static void converse(struct client *c, const char *kind)
{
    struct bp_auth_msg m;

    client_step(c, 1);
    while (c->err == 0 && client_next_auth(c, &m, 0)) {
        answer(c, kind, &m);
    }
}

/*
 * serve kind=stolen_cert|own_key|reflect|other_name|ok_at_once|bad_signature name= [cert=FILE]:
 * says the port, then how each connection ended, until standard input ends.
 */
void cmd_serve(void)
{
    const char *kind = arg("kind", "bad_signature");
    static struct bp_listener l;
    struct self self;
    struct bp_addr local;
    struct client c;
    unsigned served = 0;
    int fd;

    self_new(&self);
    if (strcmp(kind, "stolen_cert") == 0) {
        steal(&self, arg("cert", ""));
    }
    if (bp_addr_parse(&local, arg("from", "127.0.0.9"), 0) != 0 ||
        bp_udp_listen(&fd, &local, 0, 4, &local) != 0 ||
        bp_listener_init(&l, self.reset_secret) != 0) {
        die("cannot listen");
    }
    say_uint("port", bp_addr_port(&local));
    client_init(&c, &self, fd);
    c.server = true;
    c.local = local;
    while (served < SERVE_MAX) {
        struct pollfd fds[2] = {{.fd = fd, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};

        (void)poll(fds, 2, 20);
        if (fds[1].revents != 0) {
            break;
        }
        read_all(&c, &l);
        if (c.c != NULL) {
            converse(&c, kind);
        }
        if (c.c != NULL && c.err != 0) {
            say_uint("tls", c.tls_done);
            client_report(&c);
            client_free(&c);
            client_init(&c, &self, fd);
            c.server = true;
            c.local = local;
            served++;
        }
    }
    client_free(&c);
    (void)close(fd);
    self_free(&self);
}
