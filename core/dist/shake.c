/* SPDX-License-Identifier: Apache-2.0 */
/* The distribution handshake of a node without a VM; its table is in the header. */
#include "dist/shake.h"

#include "base/err.h"
#include "base/rw.h"

#include <stdio.h>
#include <string.h>

static int fail(struct bp_shake *s, int err, const char *why)
{
    s->state = BP_SHAKE_FAILED;
    s->why = why != NULL ? why : bp_err_text(err);
    return err;
}

/* --- messages ------------------------------------------------------------ */

static void begin(const struct bp_shake *s, struct bp_writer *w, uint8_t tag)
{
    /* No message causes more than two. */
    bp_writer_init(w, (void *)(uintptr_t)s->out[s->n_out], BP_SHAKE_OUT_MAX);
    bp_write_u8(w, tag);
}

static int end(struct bp_shake *s, const struct bp_writer *w)
{
    if (w->bad || s->n_out == BP_SHAKE_OUTS) {
        return fail(s, BP_E_INTERNAL, NULL);
    }
    s->out_len[s->n_out] = (uint16_t)w->len;
    s->n_out++;
    return 0;
}

static int say_status(struct bp_shake *s, const char *word)
{
    struct bp_writer w;

    begin(s, &w, 's');
    bp_write_bytes(&w, word, strlen(word));
    return end(s, &w);
}

/* Our name, with a challenge if we are the server. */
static int say_name(struct bp_shake *s, bool challenge)
{
    struct bp_writer w;

    begin(s, &w, 'N');
    bp_write_u64(&w, BP_SHAKE_FLAGS);
    if (challenge) {
        bp_write_u32(&w, s->challenge);
    }
    bp_write_u32(&w, s->creation);
    bp_write_u16(&w, (uint16_t)strlen(s->name));
    bp_write_bytes(&w, s->name, strlen(s->name));
    return end(s, &w);
}

/* MD5 of the cookie and a challenge in decimal digits. */
static int digest(const struct bp_shake *s, uint32_t challenge, uint8_t out[static BP_MD5_LEN])
{
    char text[BP_SHAKE_COOKIE_MAX + 16];
    int len = snprintf(text, sizeof(text), "%s%lu", s->cookie, (unsigned long)challenge);
    int rc = bp_md5(text, (size_t)len, out);

    bp_wipe(text, sizeof(text));
    return rc;
}

/* Whether `theirs` is the digest of our challenge. */
static int check_digest(struct bp_shake *s, const uint8_t *theirs)
{
    uint8_t ours[BP_MD5_LEN];
    int rc = digest(s, s->challenge, ours);

    if (rc == 0 && !bp_equal_ct(ours, theirs, sizeof(ours))) {
        rc = BP_E_HS_COOKIE;
    }
    return rc == 0 ? 0 : fail(s, rc, NULL);
}

/* --- life ---------------------------------------------------------------- */

int bp_shake_init(struct bp_shake *s, bool server, const char *name, const char *cookie,
                  uint32_t creation)
{
    int rc;

    *s = (struct bp_shake){.state = server ? BP_SHAKE_WAIT_NAME : BP_SHAKE_WAIT_STATUS,
                           .name = name,
                           .cookie = cookie,
                           .creation = creation};
    if (strlen(name) == 0 || strlen(name) > BP_NODE_NAME_MAX ||
        strlen(cookie) > BP_SHAKE_COOKIE_MAX) {
        return fail(s, BP_E_INVALID, NULL);
    }
    rc = bp_random(&s->challenge, sizeof(s->challenge));
    if (rc != 0) {
        return fail(s, rc, NULL);
    }
    return server ? 0 : say_name(s, false);
}

bool bp_shake_poll(struct bp_shake *s, const uint8_t **msg, size_t *len)
{
    if (s->next_out == s->n_out) {
        s->next_out = s->n_out = 0;
        return false;
    }
    *msg = s->out[s->next_out];
    *len = s->out_len[s->next_out];
    s->next_out++;
    return true;
}

/* --- what comes ---------------------------------------------------------- */

static bool is_word(const uint8_t *msg, size_t len, const char *word)
{
    return len == strlen(word) && memcmp(msg, word, len) == 0;
}

/* Of a status that is neither of these three. */
static const char *refusal(const uint8_t *word, size_t len)
{
    if (is_word(word, len, "nok")) {
        return "the peer dials us at the same moment, and goes on with that";
    }
    return is_word(word, len, "not_allowed")
               ? "the peer does not allow our name (net_kernel:allow/1)"
               : "the peer does not want this connection";
}

const char *bp_shake_refusal(const uint8_t *msg, size_t len)
{
    static const char *const fine[] = {"sok", "sok_simultaneous", "salive"};

    for (size_t i = 0; i < sizeof(fine) / sizeof(fine[0]); i++) {
        if (is_word(msg, len, fine[i])) {
            return NULL;
        }
    }
    return len > 0 && msg[0] == 's' ? refusal(msg + 1, len - 1) : NULL;
}

static int on_status(struct bp_shake *s, const uint8_t *word, size_t len)
{
    s->state = BP_SHAKE_WAIT_CHALLENGE;
    if (is_word(word, len, "ok") || is_word(word, len, "ok_simultaneous")) {
        return 0;
    }
    if (is_word(word, len, "alive")) {
        int rc = say_status(s, s->have_other ? "false" : "true");
        return rc != 0 || !s->have_other
                   ? rc
                   : fail(s, BP_E_HS_NOT_ALLOWED, "there is a connection to this peer already");
    }
    return fail(s, BP_E_HS_NOT_ALLOWED, refusal(word, len));
}

static int on_challenge(struct bp_shake *s, struct bp_reader *r)
{
    uint32_t challenge;
    uint8_t md5[BP_MD5_LEN];
    struct bp_writer w;
    int rc;

    s->peer_flags = bp_read_u64(r);
    challenge = bp_read_u32(r);
    s->peer_creation = bp_read_u32(r);
    (void)bp_read_bytes(r, bp_read_u16(r));
    if (r->bad || bp_reader_left(r) != 0) {
        return fail(s, BP_E_HS_MALFORMED, NULL);
    }
    if ((s->peer_flags & BP_SHAKE_FLAG_HANDSHAKE_23) == 0) {
        return fail(s, BP_E_HS_MALFORMED, "the peer does not speak the handshake of OTP 23");
    }
    rc = digest(s, challenge, md5);
    if (rc != 0) {
        return fail(s, rc, NULL);
    }
    begin(s, &w, 'r');
    bp_write_u32(&w, s->challenge);
    bp_write_bytes(&w, md5, sizeof(md5));
    s->state = BP_SHAKE_WAIT_ACK;
    return end(s, &w);
}

static int on_ack(struct bp_shake *s, struct bp_reader *r)
{
    const uint8_t *theirs = bp_read_bytes(r, BP_MD5_LEN);
    int rc;

    if (theirs == NULL || bp_reader_left(r) != 0) {
        return fail(s, BP_E_HS_MALFORMED, NULL);
    }
    rc = check_digest(s, theirs);
    if (rc == 0) {
        s->state = BP_SHAKE_DONE;
    }
    return rc;
}

static int on_name(struct bp_shake *s, struct bp_reader *r)
{
    s->peer_flags = bp_read_u64(r);
    s->peer_creation = bp_read_u32(r);
    (void)bp_read_bytes(r, bp_read_u16(r));
    if (r->bad) {
        return fail(s, BP_E_HS_MALFORMED, NULL);
    }
    if ((s->peer_flags & BP_SHAKE_FLAG_HANDSHAKE_23) == 0) {
        return fail(s, BP_E_HS_MALFORMED, "the peer does not speak the handshake of OTP 23");
    }
    s->state = BP_SHAKE_ASKED;
    return 0;
}

static int on_reply(struct bp_shake *s, struct bp_reader *r)
{
    uint32_t challenge = bp_read_u32(r);
    const uint8_t *theirs = bp_read_bytes(r, BP_MD5_LEN);
    uint8_t md5[BP_MD5_LEN];
    struct bp_writer w;
    int rc;

    if (theirs == NULL || bp_reader_left(r) != 0) {
        return fail(s, BP_E_HS_MALFORMED, NULL);
    }
    rc = check_digest(s, theirs);
    if (rc == 0) {
        rc = digest(s, challenge, md5);
    }
    if (rc != 0) {
        return fail(s, rc, NULL);
    }
    begin(s, &w, 'a');
    bp_write_bytes(&w, md5, sizeof(md5));
    s->state = BP_SHAKE_DONE;
    return end(s, &w);
}

int bp_shake_recv(struct bp_shake *s, const uint8_t *msg, size_t len)
{
    struct bp_reader r;
    uint8_t tag;

    bp_reader_init(&r, msg, len);
    tag = bp_read_u8(&r);
    if (s->state == BP_SHAKE_WAIT_STATUS && tag == 's') {
        return on_status(s, msg + 1, len - 1);
    }
    if (s->state == BP_SHAKE_WAIT_CHALLENGE && tag == 'N') {
        return on_challenge(s, &r);
    }
    if (s->state == BP_SHAKE_WAIT_ACK && tag == 'a') {
        return on_ack(s, &r);
    }
    if (s->state == BP_SHAKE_WAIT_NAME && tag == 'N') {
        return on_name(s, &r);
    }
    if (s->state == BP_SHAKE_WAIT_TRUE && tag == 's') {
        if (!is_word(msg + 1, len - 1, "true")) {
            return fail(s, BP_E_HS_NOT_ALLOWED, "the peer goes on with the connection that it has");
        }
        s->state = BP_SHAKE_WAIT_REPLY;
        return say_name(s, true);
    }
    if (s->state == BP_SHAKE_WAIT_REPLY && tag == 'r') {
        return on_reply(s, &r);
    }
    return fail(s, BP_E_HS_MALFORMED, "a message of the distribution handshake came out of order");
}

int bp_shake_status(struct bp_shake *s, enum bp_shake_status status)
{
    int rc;

    if (s->state != BP_SHAKE_ASKED) {
        return BP_E_STATE;
    }
    switch (status) {
    case BP_SHAKE_ALIVE:
        s->state = BP_SHAKE_WAIT_TRUE;
        return say_status(s, "alive");
    case BP_SHAKE_NOK:
        rc = say_status(s, "nok");
        return rc != 0 ? rc
                       : fail(s, BP_E_HS_NOT_ALLOWED, "we dial this peer, and go on with that");
    case BP_SHAKE_OK:
    case BP_SHAKE_OK_SIMULTANEOUS:
    default:
        s->state = BP_SHAKE_WAIT_REPLY;
        rc = say_status(s, status == BP_SHAKE_OK ? "ok" : "ok_simultaneous");
        return rc != 0 ? rc : say_name(s, true);
    }
}
