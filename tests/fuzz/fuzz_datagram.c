/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What strangers can send: datagrams to a listener and to the half-open connections that it begins.
 * Initial packets are protected with keys that follow from their own bytes, so that a captured one
 * is a seed that opens.
 *
 * Input: steps of <<What, Len:16, Datagram:Len>>. What: bits 0-1 the source port; bit 2: let time
 * pass, Len in units of 10 ms, no datagram.
 */
#include "fuzz/fuzz.h"

#include "auth/identity.h"
#include "base/err.h"
#include "dist/link.h"
#include "quic/listener.h"
#include "quic/tls_cert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINKS 6u

static struct bp_identity *identity;
static struct bp_tls_cred *cred;
static uint8_t secret[32] = {42};

struct world {
    struct bp_listener listener;
    struct bp_link *links[LINKS];
    struct bp_addr from[LINKS];
    unsigned n;
    bp_time now;
};

static void check(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void init(void)
{
    static struct bp_tls_pem pem;
    uint8_t seed[BP_KEY_LEN] = {7};
    char err[256];

    if (cred != NULL) {
        return;
    }
    check(bp_identity_new(&identity, seed, NULL, bp_mem_libc()) == 0);
    check(bp_tls_cert_generate("fuzz@host", 1767225600, &pem) == 0);
    check(bp_tls_cred_load(pem.cert, pem.cert_len, pem.key, pem.key_len, &cred, err, sizeof(err)) ==
          0);
}

static void drain(struct world *w, unsigned i)
{
    static uint8_t buf[2 * 65536 + 1024];
    struct bp_tx_run runs[BP_TX_RUNS + 1];
    struct bp_link_event ev;
    unsigned n = 1;

    while (n > 0 && bp_link_write(w->links[i], buf, sizeof(buf), runs, &n, w->now) == 0) {
    }
    while (bp_link_poll(w->links[i], &ev)) {
        /* Nobody can prove a key here. */
        check(ev.kind != BP_LINK_EV_AUTHENTICATED);
        if (ev.kind == BP_LINK_EV_LOOKUP) {
            bp_link_trust(w->links[i], false, NULL, w->now);
        }
    }
}

static void drop(struct world *w, unsigned i)
{
    static uint8_t buf[2 * 65536 + 1024];
    struct bp_tx_run runs[BP_TX_RUNS + 1];
    unsigned n;

    bp_link_finish(w->links[i], buf, sizeof(buf), runs, &n, w->now);
    bp_link_del(w->links[i]);
    bp_listener_half_open(&w->listener, &w->from[i], false);
    w->n--;
    w->links[i] = w->links[w->n];
    w->from[i] = w->from[w->n];
}

static void accept_link(struct world *w, const struct bp_addr *from, const struct bp_initial *in)
{
    struct bp_link_config c = {
        .mem = bp_mem_libc(),
        .rx = bp_rx_mem_libc(),
        .conn = {.cred = cred,
                 .reset_secret = secret,
                 .remote = *from,
                 .idle_timeout = 60 * BP_SEC},
        .auth_mode = BP_AUTH_BUILTIN,
        .auth = {.identity = identity, .self_name = "fuzz@host", .nonce_secret = secret},
        .setup_timeout = 10 * BP_SEC,
        .wall_ms = 1767225600000u + w->now / BP_MS,
        .dist_streams = BP_DIST_STREAMS_MAX};

    bp_initial_config(in, &c.conn);
    check(bp_addr_parse(&c.conn.local, "192.0.2.1", 4433) == 0);
    if (w->n == LINKS) {
        drop(w, 0);
    }
    if (bp_link_new(&w->links[w->n], true, &c, w->now) == 0) {
        w->from[w->n++] = *from;
        bp_listener_half_open(&w->listener, from, true);
    }
}

static void datagram(struct world *w, const struct bp_addr *from, const uint8_t *p, size_t len)
{
    struct bp_listener_result r;
    struct bp_addr local;
    uint8_t reply[1500];

    check(bp_addr_parse(&local, "192.0.2.1", 4433) == 0);
    bp_listener_classify(&w->listener, p, len, &r);
    if (r.action == BP_LISTENER_ROUTE) {
        bp_listener_unknown(&w->listener, from, p, len, reply, sizeof(reply), w->now, &r);
    }
    check(r.action != BP_LISTENER_REPLY || (r.reply_len > 0 && r.reply_len <= sizeof(reply)));
    if (r.action == BP_LISTENER_ACCEPT) {
        accept_link(w, from, &r.initial);
    }
    for (unsigned i = w->n; i-- > 0;) {
        (void)bp_link_read(w->links[i], &local, from, p, len, w->now);
        drain(w, i);
        if (bp_link_phase(w->links[i]) == BP_LINK_FAILED) {
            drop(w, i);
        }
    }
}

static void pass_time(struct world *w, bp_time ns)
{
    w->now += ns;
    for (unsigned i = w->n; i-- > 0;) {
        if (bp_link_deadline(w->links[i], w->now) <= w->now) {
            (void)bp_link_on_timer(w->links[i], w->now);
            drain(w, i);
        }
        if (bp_link_phase(w->links[i]) == BP_LINK_FAILED) {
            drop(w, i);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world w;

    init();
    memset(&w, 0, sizeof(w));
    w.now = BP_SEC;
    check(bp_listener_init(&w.listener, secret) == 0);
    while (size >= 3) {
        uint8_t what = data[0];
        size_t len = (size_t)data[1] << 8 | data[2];
        struct bp_addr from;

        data += 3;
        size -= 3;
        if ((what & 4) != 0) {
            pass_time(&w, (len + 1) * 10 * BP_MS);
            continue;
        }
        len = len < size ? len : size;
        check(bp_addr_parse(&from, "198.51.100.7", (uint16_t)(5000 + (what & 3))) == 0);
        datagram(&w, &from, data, len);
        data += len;
        size -= len;
    }
    while (w.n > 0) {
        drop(&w, 0);
    }
    check(w.listener.n_half_open == 0);
    return 0;
}
