/* SPDX-License-Identifier: Apache-2.0 */
/* Codec and frame splitter of the authentication messages (WIRE 3.1). */
#include "auth/auth_msg.h"

#include <string.h>

#include "base/err.h"

_Static_assert(BP_AUTH_SPLIT_CAP >= BP_AUTH_FRAME_HEAD + BP_AUTH_MSG_MAX, "room for any message");
_Static_assert(BP_AUTH_MSG_MAX >= BP_AUTH_HELLO_MAX, "the largest message");

static int decode_hello(struct bp_auth_msg *out, struct bp_reader *r)
{
    uint8_t version = bp_read_u8(r);

    if (r->bad) {
        return BP_E_AUTH_MALFORMED;
    }
    if (version != BP_AUTH_VERSION) {
        return BP_E_AUTH_VERSION;
    }
    out->name_len = bp_read_u16(r);
    out->name = (const char *)bp_read_bytes(r, out->name_len);
    out->pub = bp_read_bytes(r, BP_KEY_LEN);
    return 0;
}

static void decode_succession(struct bp_auth_msg *out, struct bp_reader *r)
{
    uint8_t n = bp_read_u8(r);

    if (n == 0 || n > BP_SUCCESSION_MAX) {
        r->bad = true;
        return;
    }
    out->links_len = n * (size_t)BP_SUCCESSION_LINK_LEN;
    out->links = bp_read_bytes(r, out->links_len);
}

int bp_auth_msg_decode(struct bp_auth_msg *out, const uint8_t *p, size_t len)
{
    struct bp_reader r;
    uint8_t type;
    int rc = 0;

    memset(out, 0, sizeof(*out));
    bp_reader_init(&r, p, len);
    type = bp_read_u8(&r);
    switch (type) {
    case BP_AUTH_MSG_HELLO:
        rc = decode_hello(out, &r);
        break;
    case BP_AUTH_MSG_CHALLENGE:
        out->nonce = bp_read_bytes(&r, BP_NONCE_LEN);
        out->ts_ms = bp_read_u64(&r);
        break;
    case BP_AUTH_MSG_RESPONSE:
        out->sig = bp_read_bytes(&r, BP_SIG_LEN);
        break;
    case BP_AUTH_MSG_OK:
        break;
    case BP_AUTH_MSG_FAIL:
        out->reason_len = bp_read_u16(&r);
        out->reason = (const char *)bp_read_bytes(&r, out->reason_len);
        break;
    case BP_AUTH_MSG_SUCCESSION:
        decode_succession(out, &r);
        break;
    default:
        return BP_E_AUTH_MALFORMED;
    }
    if (rc != 0) {
        return rc;
    }
    if (r.bad || bp_reader_left(&r) != 0 || out->name_len > BP_NODE_NAME_MAX ||
        out->reason_len > BP_AUTH_REASON_MAX) {
        return BP_E_AUTH_MALFORMED;
    }
    out->type = (enum bp_auth_msg_type)type;
    return 0;
}

static size_t encoded_len(const struct bp_auth_msg *msg)
{
    switch (msg->type) {
    case BP_AUTH_MSG_HELLO:
        return msg->name_len <= BP_NODE_NAME_MAX ? 1 + 1 + 2 + msg->name_len + BP_KEY_LEN : 0;
    case BP_AUTH_MSG_CHALLENGE:
        return BP_AUTH_CHALLENGE_LEN;
    case BP_AUTH_MSG_RESPONSE:
        return BP_AUTH_RESPONSE_LEN;
    case BP_AUTH_MSG_OK:
        return 1;
    case BP_AUTH_MSG_FAIL:
        return msg->reason_len <= BP_AUTH_REASON_MAX ? 1 + 2 + msg->reason_len : 0;
    case BP_AUTH_MSG_SUCCESSION:
        return msg->links_len != 0 && 2 + msg->links_len <= BP_AUTH_SUCCESSION_MAX
                   ? 2 + msg->links_len
                   : 0;
    }
    return 0;
}

void bp_auth_msg_encode(struct bp_writer *w, const struct bp_auth_msg *msg)
{
    size_t len = encoded_len(msg);

    if (len == 0 || w->cap - w->len < BP_AUTH_FRAME_HEAD + len) {
        w->bad = true; /* before anything is written: never half a frame */
    }
    bp_write_u16(w, (uint16_t)len);
    bp_write_u8(w, (uint8_t)msg->type);
    switch (msg->type) {
    case BP_AUTH_MSG_HELLO:
        bp_write_u8(w, BP_AUTH_VERSION);
        bp_write_u16(w, (uint16_t)msg->name_len);
        bp_write_bytes(w, msg->name, msg->name_len);
        bp_write_bytes(w, msg->pub, BP_KEY_LEN);
        break;
    case BP_AUTH_MSG_CHALLENGE:
        bp_write_bytes(w, msg->nonce, BP_NONCE_LEN);
        bp_write_u64(w, msg->ts_ms);
        break;
    case BP_AUTH_MSG_RESPONSE:
        bp_write_bytes(w, msg->sig, BP_SIG_LEN);
        break;
    case BP_AUTH_MSG_OK:
        break;
    case BP_AUTH_MSG_FAIL:
        bp_write_u16(w, (uint16_t)msg->reason_len);
        bp_write_bytes(w, msg->reason, msg->reason_len);
        break;
    case BP_AUTH_MSG_SUCCESSION:
        bp_write_u8(w, (uint8_t)(msg->links_len / BP_SUCCESSION_LINK_LEN));
        bp_write_bytes(w, msg->links, msg->links_len);
        break;
    }
}

size_t bp_auth_split_push(struct bp_auth_split *s, const uint8_t *p, size_t len)
{
    size_t room;

    if (s->start != 0) {
        memmove(s->buf, s->buf + s->start, s->len - s->start);
        s->len -= s->start;
        s->start = 0;
    }
    room = BP_AUTH_SPLIT_CAP - s->len;
    if (len > room) {
        len = room;
    }
    if (len != 0) {
        memcpy(s->buf + s->len, p, len);
        s->len += len;
    }
    return len;
}

int bp_auth_split_next(struct bp_auth_split *s, const uint8_t **msg, size_t *len)
{
    const uint8_t *p = s->buf + s->start;
    size_t held = s->len - s->start;
    size_t n;

    *msg = NULL;
    *len = 0;
    if (held < BP_AUTH_FRAME_HEAD) {
        return 0;
    }
    n = (size_t)p[0] << 8 | p[1];
    if (n == 0 || n > BP_AUTH_MSG_MAX) {
        return BP_E_AUTH_MALFORMED;
    }
    if (held - BP_AUTH_FRAME_HEAD < n) {
        return 0;
    }
    s->start += BP_AUTH_FRAME_HEAD + n;
    *msg = p + BP_AUTH_FRAME_HEAD;
    *len = n;
    return 0;
}
