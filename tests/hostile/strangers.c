/* SPDX-License-Identifier: Apache-2.0 */
/* Attacks on authentication by who dials (WIRE 11, S2 to S5), and worn-out or damaged transcripts.
 */
#include "hostile/client.h"

#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FLIPS_MAX 500u
#define KEEP_MAX  256u

static uint16_t port(void)
{
    return (uint16_t)arg_uint("port", 0);
}

static void dial(struct client *c, struct self *self)
{
    client_dial(c, self, arg("from", "127.0.0.5"), "127.0.0.1", port());
    (void)client_handshake(c, true);
}

/* The public key in a file of 32 bytes. */
static void read_key(const char *path, uint8_t out[BP_KEY_LEN])
{
    FILE *f = fopen(path, "rb");

    if (f == NULL || fread(out, 1, BP_KEY_LEN, f) != BP_KEY_LEN) {
        die("no key in %s", path);
    }
    (void)fclose(f);
}

static void report(struct client *c, const struct auth_result *r)
{
    (void)client_run(c, NULL, r->ok ? 300 : 2000);
    say_uint("hello", r->hello);
    say_uint("challenge", r->challenge);
    say_uint("response", r->response);
    say_uint("ok", r->ok);
    if (r->fail) {
        say_text("fail", r->reason);
    }
    client_report(c);
}

/*
 * Their signature over their own challenge: what a reflection wants. The challenge of one
 * connection is sent back on another that is open at the same time.
 */
static void reflect_across(struct self *self, const struct lies *lies)
{
    struct self other;
    struct client a, b;
    struct bp_auth_msg m;
    struct auth_result r = {0};
    struct lies second = *lies;
    uint8_t nonce[BP_NONCE_LEN];

    self_new(&other);
    dial(&a, self);
    client_hello(&a, lies);
    while (!r.challenge && client_next_auth(&a, &m, 2000)) {
        r.challenge = m.type == BP_AUTH_MSG_CHALLENGE;
    }
    if (!r.challenge) {
        die("no challenge");
    }
    memcpy(nonce, m.nonce, sizeof(nonce));
    second.nonce = nonce;
    second.name = "second@127.0.0.1";
    dial(&b, &other);
    client_authenticate(&b, &second, &r);
    report(&b, &r);
    client_free(&a);
    client_free(&b);
    self_free(&other);
}

/*
 * claim port= name= [key=FILE] [skew=MS] [reflect=same|across] [bad_signature=1] [says=NAME]
 * [cookie=C]: authenticates as `name`; says whether it was believed. With says= it goes on to the
 * distribution handshake as that node.
 */
void cmd_claim(void)
{
    const char *reflect = arg("reflect", "");
    const char *says = arg("says", NULL);
    static const uint8_t no_sig[BP_SIG_LEN] = {1};
    uint8_t key[BP_KEY_LEN];
    struct lies lies = {.name = arg("name", "stranger@127.0.0.1"),
                        .skew_ms = strtoll(arg("skew", "0"), NULL, 10),
                        .echo = strcmp(reflect, "same") == 0,
                        .sig = arg_uint("bad_signature", 0) != 0 ? no_sig : NULL};
    struct auth_result r;
    struct self self;
    struct client c;

    self_new(&self);
    if (arg("key", NULL) != NULL) {
        read_key(arg("key", NULL), key);
        lies.key = key;
    }
    if (strcmp(reflect, "across") == 0) {
        reflect_across(&self, &lies);
        return;
    }
    dial(&c, &self);
    client_authenticate(&c, &lies, &r);
    if (r.ok && says != NULL) {
        const char *step = client_dist(&c, says, arg("cookie", "no"));
        say_text("dist", step != NULL ? step : "up");
    }
    report(&c, &r);
    client_free(&c);
    self_free(&self);
}

/* --- names --------------------------------------------------------------- */

/* names port=: a HELLO for each byte that may not be in a name, and for each other bad form. */
void cmd_names(void)
{
    static const char legal[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-@";
    static const char *const forms[] = {
        "",     "@",    "a@",     "@b",      "ab",      "a@b@c", ".a@b", "-a@b",
        "a@.b", "a@-b", "../a@b", "a@b/../", "a@b\xc3", "a@@b",  "@a@b", "a b@c",
    };
    unsigned tried = 0, believed = 0, closed = 0;
    char name[8] = "a?@b";
    struct self self;

    self_new(&self);
    for (unsigned i = 0; i < 256 + sizeof(forms) / sizeof(forms[0]); i++) {
        struct bp_auth_msg m = {
            .type = BP_AUTH_MSG_HELLO, .name = name, .name_len = 4, .pub = self.pub};
        uint8_t buf[BP_AUTH_SPLIT_CAP];
        struct bp_auth_msg answer;
        struct bp_writer w;
        struct client c;

        if (i < 256) {
            if (i != 0 && strchr(legal, (int)i) != NULL) {
                continue;
            }
            name[1] = (char)i;
        } else {
            m.name = forms[i - 256];
            m.name_len = strlen(m.name);
        }
        dial(&c, &self);
        bp_writer_init(&w, buf, sizeof(buf));
        bp_auth_msg_encode(&w, &m);
        client_auth_bytes(&c, buf, w.len);
        while (client_next_auth(&c, &answer, 2000)) {
            believed += answer.type == BP_AUTH_MSG_RESPONSE || answer.type == BP_AUTH_MSG_OK;
        }
        tried++;
        closed += c.err != 0;
        client_free(&c);
    }
    say_uint("tried", tried);
    say_uint("believed", believed);
    say_uint("closed", closed);
    self_free(&self);
}

/* --- transcripts --------------------------------------------------------- */

/* flips port= n=: handshakes with one wrong bit each, at random among all that we say. */
void cmd_flips(void)
{
    static const char name[] = "flip@127.0.0.1";
    const int bits = 8 * (int)(3 * BP_AUTH_FRAME_HEAD + 4 + sizeof(name) - 1 + BP_KEY_LEN +
                               BP_AUTH_CHALLENGE_LEN + BP_AUTH_RESPONSE_LEN);
    unsigned n = (unsigned)arg_uint("n", 100);
    unsigned believed = 0, harmless = 0, closed = 0;
    struct self self;

    if (n > FLIPS_MAX) {
        die("flips: n <= %u", FLIPS_MAX);
    }
    self_new(&self);
    for (unsigned i = 0; i < n; i++) {
        struct lies lies = {.name = name, .flip_bit = 1 + (int)(rnd() % (unsigned)bits)};
        int in_challenge = lies.flip_bit - 1 -
                           8 * (int)(BP_AUTH_FRAME_HEAD + 4 + sizeof(name) - 1 + BP_KEY_LEN +
                                     BP_AUTH_FRAME_HEAD + 1);
        int in_name = lies.flip_bit - 1 - 8 * (int)(BP_AUTH_FRAME_HEAD + 4);
        struct auth_result r;
        struct client c;

        dial(&c, &self);
        client_authenticate(&c, &lies, &r);
        /* Another nonce, or a clock that is off by a little, or another name that is one, is
         * another true statement and not a broken one. */
        if (r.ok && ((in_challenge >= 0 && in_challenge < 8 * (int)(BP_NONCE_LEN + 8)) ||
                     (in_name >= 0 && in_name < 8 * (int)(sizeof(name) - 1)))) {
            harmless++;
        } else {
            believed += r.ok;
            (void)client_run(&c, NULL, 2000);
            closed += c.err != 0;
        }
        client_free(&c);
    }
    say_uint("tried", n);
    say_uint("harmless", harmless);
    say_uint("believed", believed);
    say_uint("closed", closed);
    self_free(&self);
}

struct tape {
    uint8_t p[KEEP_MAX][1500];
    size_t len[KEEP_MAX];
    unsigned n;
};

static void record(void *ctx, const uint8_t *p, size_t len)
{
    struct tape *t = ctx;

    if (t->n < KEEP_MAX && len <= sizeof(t->p[0])) {
        memcpy(t->p[t->n], p, len);
        t->len[t->n++] = len;
    }
}

/* replay port= n= pause=MS: one true handshake; then all that was sent in it again, n times, from
 * the same address and from others, in order and not; half of them after a pause, when the node has
 * forgotten the first. */
void cmd_replay(void)
{
    static struct tape tape;
    struct lies lies = {.name = "replay@127.0.0.1"};
    unsigned n = (unsigned)arg_uint("n", 20);
    struct auth_result r;
    struct self self;
    struct client c;
    struct bp_addr to;
    uint64_t sent = 0;

    self_new(&self);
    client_dial(&c, &self, "127.0.0.5", "127.0.0.1", port());
    c.on_send = record;
    c.on_send_ctx = &tape;
    to = c.remote;
    (void)client_handshake(&c, true);
    client_authenticate(&c, &lies, &r);
    say_uint("ok", r.ok);
    client_free(&c);
    say_uint("recorded", tape.n);
    for (unsigned i = 0; i < n && i < 100; i++) {
        char ip[32];

        if (i == n / 2) {
            (void)usleep((useconds_t)arg_uint("pause", 3000) * 1000);
        }
        snprintf(ip, sizeof(ip), "127.0.0.%u", 5 + i % 4);
        client_dial(&c, &self, ip, "127.0.0.1", port());
        for (unsigned k = 0; k < tape.n; k++) {
            unsigned at = i % 2 == 0 ? k : (unsigned)(rnd() % tape.n);
            sent += sendto(c.fd, tape.p[at], tape.len[at], 0, &to.u.sa, to.len) > 0;
            (void)usleep(1000);
        }
        client_free(&c);
    }
    say_uint("replayed", sent);
    self_free(&self);
}

/* --- newcomers ----------------------------------------------------------- */

/*
 * newcomers port= n= name=: that many identities, each with a name of its own or all with `name`;
 * each authenticates, says its name in the distribution handshake, and does not know the cookie.
 */
void cmd_newcomers(void)
{
    unsigned n = (unsigned)arg_uint("n", 50);
    unsigned authenticated = 0, up = 0, refused = 0;

    if (n > 500) {
        die("newcomers: n <= 500");
    }
    for (unsigned i = 0; i < n; i++) {
        struct self self;
        struct client c;
        struct auth_result r;
        char name[64];
        struct lies lies = {.name = name};

        if (arg("name", NULL) != NULL) {
            snprintf(name, sizeof(name), "%s", arg("name", NULL));
        } else {
            snprintf(name, sizeof(name), "newcomer%u@127.0.0.1", i);
        }
        self_new(&self);
        dial(&c, &self);
        client_authenticate(&c, &lies, &r);
        if (r.ok) {
            authenticated++;
            up += client_dist(&c, name, "not the cookie") == NULL;
            (void)client_run(&c, NULL, 2000);
            refused += c.err != 0;
        }
        client_free(&c);
        self_free(&self);
    }
    say_uint("authenticated", authenticated);
    say_uint("up", up);
    say_uint("refused", refused);
}
