/* SPDX-License-Identifier: Apache-2.0 */
/* SOCKS 5, RFC 1928 and 1929. */
#include "relay/socks5.h"

#include <stdio.h>
#include <string.h>

#define VERSION       5
#define NO_AUTH       0
#define USER_PASSWORD 2
#define NO_METHOD     0xff
#define UDP_ASSOCIATE 3
#define ATYP_IPV4     1
#define ATYP_NAME     3
#define ATYP_IPV6     4
#define AUTH_VERSION  1 /* RFC 1929, 2 */

int bp_socks5_init(struct bp_socks5 *s, const char *user, const char *password)
{
    *s = (struct bp_socks5){.state = BP_SOCKS5_METHOD};
    if (user != NULL && user[0] != '\0') {
        if (password == NULL || strlen(user) > BP_SOCKS5_TEXT_MAX ||
            strlen(password) > BP_SOCKS5_TEXT_MAX) {
            return BP_E_INVALID;
        }
        memcpy(s->user, user, strlen(user) + 1);
        memcpy(s->password, password, strlen(password) + 1);
    }
    s->out[0] = VERSION;
    s->out[1] = s->user[0] != '\0' ? 2 : 1;
    s->out[2] = NO_AUTH;
    s->out[3] = USER_PASSWORD;
    s->out_len = 2u + s->out[1];
    return 0;
}

const uint8_t *bp_socks5_out(const struct bp_socks5 *s, size_t *len)
{
    *len = s->out_len - s->out_off;
    return s->out + s->out_off;
}

void bp_socks5_sent(struct bp_socks5 *s, size_t n)
{
    s->out_off += n;
    if (s->out_off >= s->out_len) {
        bp_wipe(s->out, sizeof(s->out)); /* the password went through it */
        s->out_len = s->out_off = 0;
    }
}

void bp_socks5_free(struct bp_socks5 *s)
{
    bp_wipe(s->password, sizeof(s->password));
    bp_wipe(s->out, sizeof(s->out));
}

static int fail(struct bp_socks5 *s, const char *text)
{
    s->state = BP_SOCKS5_FAILED;
    snprintf(s->text, sizeof(s->text), "%s", text);
    bp_socks5_free(s);
    return BP_E_RELAY;
}

static void ask_associate(struct bp_socks5 *s)
{
    /* From where we shall send is not known yet: "all zeros" (RFC 1928, 4). */
    static const uint8_t request[10] = {VERSION, UDP_ASSOCIATE, 0, ATYP_IPV4};

    memcpy(s->out, request, sizeof(request));
    s->out_len = sizeof(request);
    s->out_off = 0;
    s->state = BP_SOCKS5_REPLY;
}

static int on_method(struct bp_socks5 *s)
{
    size_t user = strlen(s->user);
    size_t password = strlen(s->password);

    if (s->in[0] != VERSION) {
        return fail(s, "what answers there is no SOCKS 5 proxy");
    }
    if (s->in[1] == NO_AUTH) {
        bp_wipe(s->password, sizeof(s->password));
        ask_associate(s);
        return 0;
    }
    if (s->in[1] != USER_PASSWORD || user == 0) {
        return fail(s, s->in[1] != NO_METHOD
                           ? "the proxy chose an authentication that was not offered"
                       : user == 0 ? "the proxy wants a user name and a password"
                                   : "the proxy takes neither user name and password nor nothing");
    }
    s->out[0] = AUTH_VERSION;
    s->out[1] = (uint8_t)user;
    memcpy(s->out + 2, s->user, user);
    s->out[2 + user] = (uint8_t)password;
    memcpy(s->out + 3 + user, s->password, password);
    s->out_len = 3 + user + password;
    s->out_off = 0;
    bp_wipe(s->password, sizeof(s->password));
    s->state = BP_SOCKS5_AUTH;
    return 0;
}

static const char *reply_text(uint8_t code)
{
    static const char *const texts[] = {
        NULL,
        "the proxy failed",
        "the proxy's rules do not allow it",
        "the proxy says: network unreachable",
        "the proxy says: host unreachable",
        "the proxy says: connection refused",
        "the proxy says: TTL expired",
        "the proxy does not relay UDP",
        "the proxy does not take this kind of address",
    };

    return code < sizeof(texts) / sizeof(texts[0]) ? texts[code] : "the proxy refused it";
}

/* How long the reply is, as far as that can be told from what is there. */
static size_t reply_len(const struct bp_socks5 *s)
{
    if (s->in_len < 5) {
        return 5;
    }
    switch (s->in[3]) {
    case ATYP_IPV4:
        return 4 + 4 + 2;
    case ATYP_IPV6:
        return 4 + 16 + 2;
    case ATYP_NAME:
        return 4 + 1 + (size_t)s->in[4] + 2;
    default:
        return 0;
    }
}

static int on_reply(struct bp_socks5 *s, size_t len)
{
    const uint8_t *port = s->in + len - 2;
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    bool any = true;

    s->bound_port = (uint16_t)(port[0] << 8 | port[1]);
    if (s->bound_port == 0) {
        return fail(s, "the proxy gave no port");
    }
    /* A name, or no address at all: it is where the proxy is. */
    s->bound = (struct bp_addr){0};
    if (s->in[3] == ATYP_IPV4) {
        memcpy(&v4.sin_addr, s->in + 4, 4);
        any = v4.sin_addr.s_addr == 0 || !bp_addr_from_sockaddr(&s->bound, &v4, sizeof(v4));
    } else if (s->in[3] == ATYP_IPV6) {
        memcpy(&v6.sin6_addr, s->in + 4, 16);
        any = IN6_IS_ADDR_UNSPECIFIED(&v6.sin6_addr) ||
              !bp_addr_from_sockaddr(&s->bound, &v6, sizeof(v6));
    }
    if (any) {
        s->bound = (struct bp_addr){0};
    } else {
        bp_addr_set_port(&s->bound, s->bound_port);
    }
    s->state = BP_SOCKS5_DONE;
    return 0;
}

/* How many bytes the next step needs; 0: a step that cannot be. */
static size_t wanted(const struct bp_socks5 *s)
{
    return s->state == BP_SOCKS5_REPLY ? reply_len(s) : 2;
}

static int step(struct bp_socks5 *s)
{
    switch (s->state) {
    case BP_SOCKS5_METHOD:
        return on_method(s);
    case BP_SOCKS5_AUTH:
        if (s->in[1] != 0) {
            return fail(s, "the proxy did not take the user name and password");
        }
        ask_associate(s);
        return 0;
    case BP_SOCKS5_REPLY:
        return on_reply(s, s->in_len);
    case BP_SOCKS5_DONE:
    case BP_SOCKS5_FAILED:
    default:
        return 0;
    }
}

int bp_socks5_in(struct bp_socks5 *s, const uint8_t *p, size_t len)
{
    int rc = 0;

    for (size_t i = 0; i < len && rc == 0 && s->state < BP_SOCKS5_DONE; i++) {
        size_t need;

        s->in[s->in_len++] = p[i];
        if (s->state == BP_SOCKS5_REPLY && s->in_len == 2 &&
            (s->in[0] != VERSION || s->in[1] != 0)) {
            return fail(s, s->in[0] != VERSION ? "what answers there is no SOCKS 5 proxy"
                                               : reply_text(s->in[1]));
        }
        need = wanted(s);
        if (need == 0) {
            return fail(s, "the proxy's answer has an unknown kind of address");
        }
        if (s->in_len == need && (s->state != BP_SOCKS5_REPLY || s->in_len > 5)) {
            rc = step(s);
            s->in_len = 0;
        }
    }
    return s->state == BP_SOCKS5_FAILED ? BP_E_RELAY : rc;
}

size_t bp_socks5_header(uint8_t out[static BP_SOCKS5_HEADER_MAX], const struct bp_addr *to)
{
    uint16_t port = bp_addr_port(to);
    size_t n = 4;

    memset(out, 0, BP_SOCKS5_HEADER_MAX);
    if (to->u.sa.sa_family == AF_INET || bp_addr_is_mapped(to)) {
        out[3] = ATYP_IPV4;
        memcpy(out + n,
               to->u.sa.sa_family == AF_INET ? (const uint8_t *)&to->u.v4.sin_addr
                                             : to->u.v6.sin6_addr.s6_addr + 12,
               4);
        n += 4;
    } else {
        out[3] = ATYP_IPV6;
        memcpy(out + n, to->u.v6.sin6_addr.s6_addr, 16);
        n += 16;
    }
    out[n++] = (uint8_t)(port >> 8);
    out[n++] = (uint8_t)port;
    return n;
}

size_t bp_socks5_strip(const uint8_t *p, size_t len)
{
    size_t n;

    if (len < 5 || p[0] != 0 || p[1] != 0 || p[2] != 0) {
        return 0;
    }
    switch (p[3]) {
    case ATYP_IPV4:
        n = 4 + 4 + 2;
        break;
    case ATYP_IPV6:
        n = 4 + 16 + 2;
        break;
    case ATYP_NAME:
        n = 4 + 1 + (size_t)p[4] + 2;
        break;
    default:
        return 0;
    }
    return len >= n ? n : 0;
}
