/* SPDX-License-Identifier: Apache-2.0 */
/* Who has the cookie and misbehaves; and the dialler's part of the distribution handshake. */
#include "hostile/client.h"

#include "base/err.h"
#include "base/rw.h"
#include "dist/deframe.h"
#include "quic/conn_impl.h"

#include <gnutls/crypto.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What OTP 25 insists on, fragments, ids of spawn and alias; not published: a hidden node. */
#define DIST_FLAGS                                                                                 \
    (UINT64_C(0x4) | 0x10 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x20000 | 0x40000 |   \
     0x800000 | 0x1000000 | 0x2000000 | UINT64_C(1) << 32 | UINT64_C(1) << 34 |                    \
     UINT64_C(1) << 35 | UINT64_C(1) << 36)
#define STEP_MS     3000
#define ATTACK_SECS 20u

/* --- distribution handshake ---------------------------------------------- */

void client_dist_name(struct client *c, const char *name)
{
    uint8_t buf[300];
    struct bp_writer w;

    bp_writer_init(&w, buf, sizeof(buf));
    bp_write_u8(&w, 'N');
    bp_write_u64(&w, DIST_FLAGS);
    bp_write_u32(&w, (uint32_t)rnd() | 4);
    bp_write_u16(&w, (uint16_t)strlen(name));
    bp_write_bytes(&w, name, strlen(name));
    client_ctl_bytes(c, buf, w.len);
}

static bool has_status(const struct client *c)
{
    return c->ctl_len >= 3;
}

static bool has_challenge(const struct client *c)
{
    size_t name;

    if (c->ctl_len < 3 + 19) {
        return false;
    }
    name = (size_t)c->ctl[3 + 17] << 8 | c->ctl[3 + 18];
    return c->ctl_len >= 3 + 19 + name;
}

static bool has_ack(const struct client *c)
{
    return c->ctl_len >= 17 && c->ctl[0] == 'a';
}

static void digest(const char *cookie, uint32_t challenge, uint8_t out[16])
{
    char text[300];
    int n = snprintf(text, sizeof(text), "%.255s%" PRIu32, cookie, challenge);

    if (gnutls_hash_fast(GNUTLS_DIG_MD5, text, (size_t)n, out) != 0) {
        die("no MD5");
    }
}

const char *client_dist(struct client *c, const char *name, const char *cookie)
{
    uint8_t reply[21] = {'r', 0, 0, 0, 1};
    uint32_t challenge = 0;

    c->ctl_len = 0;
    client_dist_name(c, name);
    if (!client_run(c, has_status, STEP_MS)) {
        return "no status";
    }
    if (memcmp(c->ctl, "sok", 3) != 0) {
        return "refused";
    }
    if (!client_run(c, has_challenge, STEP_MS) || c->ctl[3] != 'N') {
        return "no challenge";
    }
    for (unsigned i = 0; i < 4; i++) {
        challenge = challenge << 8 | c->ctl[3 + 9 + i];
    }
    c->ctl_len = 0;
    digest(cookie, challenge, reply + 5);
    client_ctl_bytes(c, reply, sizeof(reply));
    return client_run(c, has_ack, STEP_MS) ? NULL : "no acknowledgement";
}

/* --- misuse -------------------------------------------------------------- */

static void put(struct client *c, int slot, const void *p, size_t len)
{
    if (slot < 0 || bp_conn_put_copy(c->c, (unsigned)slot, p, len) != 0) {
        die("nothing can be written");
    }
}

/* The head of a fragmented message and `len - 19` bytes of it, as a frame. */
static size_t fragment(uint8_t *p, uint64_t seq, uint64_t frag, bool first, uint32_t len)
{
    struct bp_writer w;

    bp_writer_init(&w, p, 4 + 19);
    bp_write_u32(&w, len);
    bp_write_u8(&w, BP_DIST_VERSION);
    bp_write_u8(&w, first ? BP_DIST_FRAG_HEADER : BP_DIST_FRAG_CONT);
    bp_write_u64(&w, seq);
    bp_write_u64(&w, frag);
    bp_write_u8(&w, 0);
    p[4 + 19] = 97; /* a control message that is a term: 6 */
    p[4 + 20] = 6;
    return 4 + (size_t)len;
}

/* Until something stands on standard input, or it ends. */
static void stay_until_told(struct client *c)
{
    bp_time until = mono() + ATTACK_SECS * BP_SEC;
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};

    while (c->err == 0 && mono() < until && poll(&p, 1, 0) == 0) {
        (void)client_run(c, NULL, 50);
    }
}

/* Each round puts more; the node ends it. */
static uint64_t attack(struct client *c, const char *kind)
{
    static uint8_t block[65536 + 64];
    static const uint8_t huge[] = {0xff, 0xff, 0xff, 0xf0, BP_DIST_PASS_THROUGH, BP_DIST_VERSION};
    static const uint8_t big[] = {0x00, 0xff, 0xff, 0xff, BP_DIST_PASS_THROUGH, BP_DIST_VERSION};
    static const uint8_t zeros[4096];
    bp_time until = mono() + ATTACK_SECS * BP_SEC;
    uint64_t done = 0;
    int slots[16];
    unsigned n = 0;
    int64_t id;

    for (; n < 16; n++) {
        slots[n] = client_new_stream(c);
    }
    while (c->err == 0 && mono() < until) {
        unsigned slot = (unsigned)done % n;

        if (strcmp(kind, "user_streams") == 0) {
            for (unsigned i = 0; i < 20 && ngtcp2_conn_open_bidi_stream(c->c->q, &id, NULL) == 0;
                 i++, done++) {
                ngtcp2_path_storage ps;
                ngtcp2_pkt_info pi;
                ngtcp2_ssize taken;
                uint8_t buf[1500];
                ngtcp2_ssize len;

                ngtcp2_path_storage_zero(&ps);
                len = ngtcp2_conn_write_stream(c->c->q, &ps.path, &pi, buf, 1200, &taken,
                                               NGTCP2_WRITE_STREAM_FLAG_FIN, id, zeros, 10, mono());
                if (len > 0) {
                    (void)sendto(c->fd, buf, (size_t)len, 0, &c->remote.u.sa, c->remote.len);
                }
            }
        } else if (strcmp(kind, "claims_4_gb") == 0) {
            put(c, slots[0], huge, done++ == 0 ? sizeof(huge) : 0);
        } else if (strcmp(kind, "ticks") == 0) {
            client_ctl_bytes(c, zeros, sizeof(zeros));
            done += sizeof(zeros) / 4;
        } else if (strcmp(kind, "empty_frames") == 0) {
            put(c, slots[slot], zeros, sizeof(zeros));
            done += sizeof(zeros) / 4;
        } else if (strcmp(kind, "fragments") == 0) { /* begun, and never gone on with */
            size_t len = fragment(block, 1000 + done, 50, true, 60000);
            put(c, slots[slot], block, len);
            done++;
        } else if (strcmp(kind, "claims_fragments") == 0) { /* of a message of 2^40 of them */
            size_t len = fragment(block, 7, UINT64_C(1) << 40, true, 1000);
            put(c, slots[0], block, done++ == 0 ? len : 0);
        } else if (strcmp(kind, "one_message") == 0) { /* gone on with for ever */
            size_t len = fragment(block, 7, 1000000 - done, done == 0, 60000);
            put(c, slots[0], block, len);
            done++;
        } else if (strcmp(kind, "half_frames") == 0) { /* 16 MB each, and a third of it */
            if (done == 100 * n) {
                say_uint("filled", 100 * n * 60000);
                stay_until_told(c);
                return done;
            }
            if (done < n) {
                put(c, slots[slot], big, sizeof(big));
            }
            put(c, slots[slot], block, 60000);
            done++;
        } else {
            die("member: which kind?");
        }
        do {
            client_step(c, 1);
        } while (c->err == 0 && mono() < until &&
                 bp_conn_unsent(c->c) > (done == 100 * n ? 0 : 1000000));
    }
    return done;
}

#define ACK_LEN 17u /* of the handshake, before the ticks */

/* Stays for secs= seconds, and says what came: bytes of messages, and what is no tick on stream 0.
 */
static void stay(struct client *c)
{
    unsigned words = 0;

    (void)client_run(c, NULL, (int)arg_uint("secs", 5) * 1000);
    for (size_t i = ACK_LEN; i < c->ctl_len; i++) {
        words += c->ctl[i] != 0;
    }
    say_uint("got", c->got);
    say_uint("no_ticks", words);
}

/*
 * member port= name= cookie= kind=: authenticates, completes the distribution handshake, and then
 * sends what no node does. kind=nothing only stays.
 */
void cmd_member(void)
{
    const char *name = arg("name", "member@127.0.0.1");
    const char *kind = arg("kind", "nothing");
    struct lies lies = {.name = name};
    struct auth_result r;
    struct self self;
    struct client c;
    const char *step;

    self_new(&self);
    client_dial(&c, &self, arg("from", "127.0.0.5"), "127.0.0.1", (uint16_t)arg_uint("port", 0));
    (void)client_handshake(&c, true);
    client_authenticate(&c, &lies, &r);
    if (!r.ok) {
        die("not authenticated: %s", bp_conn_error_text(c.c));
    }
    step = client_dist(&c, name, arg("cookie", "ct"));
    if (step != NULL) {
        die("distribution handshake: %s, %s", step, bp_conn_error_text(c.c));
    }
    say_uint("up", 1);
    c.began = mono();
    if (strcmp(kind, "nothing") == 0) {
        stay(&c);
    } else {
        say_uint("done", attack(&c, kind));
        (void)client_run(&c, NULL, 1000);
    }
    say_uint("resets", c.resets);
    client_report(&c);
    client_free(&c);
    self_free(&self);
}
