/* SPDX-License-Identifier: Apache-2.0 */
/* Splitter for stream 0 during the distribution handshake (WIRE 4.1, 4.2). */
#include "dist/hs_split.h"

#include <string.h>

#include "base/err.h"
#include "base/rw.h"

#define TICK_LEN         4u
#define CLIENT_NAME_HEAD 15u /* 'N', Flags:64, Creation:32, NameLen:16 */
#define SERVER_NAME_HEAD 19u /* 'N', Flags:64, Challenge:32, Creation:32, NameLen:16 */
#define REPLY_LEN        21u /* 'r', Challenge:32, Digest:16/bytes */
#define ACK_LEN          17u /* 'a', Digest:16/bytes */
#define COMPLEMENT_LEN   9u  /* 'c', FlagsHigh:32, Creation:32 */
#define NAMED_WORD       "snamed:"
#define NAMED_WORD_LEN   (sizeof(NAMED_WORD) - 1)

static const char *const server_words[] = {"sok",          "sok_simultaneous", "snok",
                                           "snot_allowed", "salive",           NULL};
static const char *const client_words[] = {"strue", "sfalse", NULL};

void bp_hs_init(struct bp_hs_split *s, enum bp_hs_role role)
{
    *s = (struct bp_hs_split){.role = role, .state = BP_HS_WAIT_FIRST};
}

int bp_hs_push(struct bp_hs_split *s, const uint8_t *data, size_t len)
{
    if (s->error != 0) {
        return s->error;
    }
    if (len > BP_HS_CAP - (s->len - s->off)) {
        s->error = BP_E_HS_TOO_LONG;
        return s->error;
    }
    if (s->off > 0) {
        memmove(s->buf, s->buf + s->off, s->len - s->off);
        s->len -= s->off;
        s->off = 0;
    }
    if (len > 0) {
        memcpy(s->buf + s->len, data, len);
        s->len += len;
    }
    return 0;
}

/* A message of a known length: 1 if it is there, else 0. */
static int fixed(size_t want, size_t avail, size_t *len)
{
    *len = want;
    return avail >= want;
}

/* `head` bytes that end with NameLen:16, then the name, then `tail` bytes. */
static int with_name(const uint8_t *p, size_t avail, size_t head, size_t tail, size_t *len)
{
    size_t name_len;

    if (avail < head) {
        return 0;
    }
    name_len = (size_t)p[head - 2] << 8 | p[head - 1];
    if (name_len > BP_NODE_NAME_MAX) {
        return BP_E_HS_TOO_LONG;
    }
    return fixed(head + name_len + tail, avail, len);
}

/*
 * The longest of `words` that the bytes start with. While the bytes are a true prefix of a longer
 * word the answer is "more": that is what makes "sok" wait for one byte.
 */
static int one_of(const char *const *words, const uint8_t *p, size_t avail, size_t *len)
{
    size_t best = 0;

    for (; *words != NULL; words++) {
        size_t n = strlen(*words);
        if (avail < n && memcmp(p, *words, avail) == 0) {
            return 0;
        }
        if (avail >= n && n > best && memcmp(p, *words, n) == 0) {
            best = n;
        }
    }
    *len = best;
    return best > 0 ? 1 : BP_E_HS_MALFORMED;
}

static int server_status(const uint8_t *p, size_t avail, size_t *len)
{
    size_t n = avail < NAMED_WORD_LEN ? avail : NAMED_WORD_LEN;

    /* "sn" is also the start of "snok": the words decide until the byte that differs. */
    if (memcmp(p, NAMED_WORD, n) == 0) {
        return n < NAMED_WORD_LEN ? 0 : with_name(p, avail, NAMED_WORD_LEN + 2, 4, len);
    }
    return one_of(server_words, p, avail, len);
}

/* Finds the end of the message at `p` (at least one byte) and the state after it. */
static int cut(const struct bp_hs_split *s, const uint8_t *p, size_t avail, size_t *len,
               enum bp_hs_state *then)
{
    bool server = s->role == BP_HS_SERVER;

    *then = s->state;
    switch (s->state) {
    case BP_HS_WAIT_FIRST:
        if (server && p[0] == 'N') {
            *then = BP_HS_WAIT_LAST;
            return with_name(p, avail, CLIENT_NAME_HEAD, 0, len);
        }
        if (!server && p[0] == 's') {
            *then = BP_HS_WAIT_CHALLENGE;
            return server_status(p, avail, len);
        }
        break;
    case BP_HS_WAIT_CHALLENGE:
        if (p[0] == 'N') {
            *then = BP_HS_WAIT_LAST;
            return with_name(p, avail, SERVER_NAME_HEAD, 0, len);
        }
        break;
    case BP_HS_WAIT_LAST:
        if (server && p[0] == 's') {
            return one_of(client_words, p, avail, len);
        }
        if (server && p[0] == 'c') {
            return fixed(COMPLEMENT_LEN, avail, len);
        }
        if (p[0] == (server ? 'r' : 'a')) {
            *then = BP_HS_DONE;
            return fixed(server ? REPLY_LEN : ACK_LEN, avail, len);
        }
        break;
    case BP_HS_DONE:
        break;
    }
    return BP_E_HS_MALFORMED;
}

/* 1: a message may start at `off`; 0: more bytes are needed; < 0: zeros that are no tick. */
static int skip_ticks(struct bp_hs_split *s)
{
    while (s->off < s->len && s->buf[s->off] == 0) {
        size_t n = s->len - s->off < TICK_LEN ? s->len - s->off : TICK_LEN;
        for (size_t i = 1; i < n; i++) {
            if (s->buf[s->off + i] != 0) {
                return BP_E_HS_MALFORMED;
            }
        }
        if (n < TICK_LEN) {
            return 0;
        }
        s->off += TICK_LEN;
        s->ticks++;
    }
    return s->off < s->len;
}

int bp_hs_next(struct bp_hs_split *s, const uint8_t **msg, size_t *len)
{
    enum bp_hs_state then = s->state;
    int rc;

    *msg = NULL;
    *len = 0;
    if (s->error != 0) {
        return s->error;
    }
    if (s->state == BP_HS_DONE) {
        return 0;
    }
    rc = skip_ticks(s);
    if (rc > 0) {
        rc = cut(s, s->buf + s->off, s->len - s->off, len, &then);
    }
    if (rc > 0) {
        *msg = s->buf + s->off;
        s->off += *len;
        s->state = then;
        return 1;
    }
    *len = 0;
    s->error = rc;
    return rc;
}

bool bp_hs_done(const struct bp_hs_split *s)
{
    return s->state == BP_HS_DONE;
}

void bp_hs_take_rest(struct bp_hs_split *s, const uint8_t **data, size_t *len)
{
    *data = NULL;
    *len = 0;
    if (s->state == BP_HS_DONE && s->off < s->len) {
        *data = s->buf + s->off;
        *len = s->len - s->off;
        s->off = s->len;
    }
}

int bp_hs_name(const uint8_t *msg, size_t len, bool from_server, const char **name, size_t *namelen,
               uint64_t *flags)
{
    struct bp_reader r;
    bool tagged;

    bp_reader_init(&r, msg, len);
    tagged = bp_read_u8(&r) == 'N';
    *flags = bp_read_u64(&r);
    (void)bp_read_bytes(&r, from_server ? 8 : 4); /* (Challenge,) Creation */
    *namelen = bp_read_u16(&r);
    *name = (const char *)bp_read_bytes(&r, *namelen);
    if (r.bad || !tagged || bp_reader_left(&r) != 0 || *namelen == 0 ||
        *namelen > BP_NODE_NAME_MAX) {
        *name = NULL;
        *namelen = 0;
        *flags = 0;
        return BP_E_HS_MALFORMED;
    }
    return 0;
}
