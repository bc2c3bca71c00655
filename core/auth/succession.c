/* SPDX-License-Identifier: Apache-2.0 */
/* Chains of keys that each sign the next one; the format is in the header. */
#include "auth/succession.h"

#include <string.h>

#include "auth/node_name.h"
#include "base/err.h"
#include "base/rw.h"

#define PURPOSE_LEN 64u
#define TEXT_MAX    (PURPOSE_LEN + 2u + BP_NODE_NAME_MAX + 2u * BP_KEY_LEN)

static const char purpose[PURPOSE_LEN] = "barrel_p2p key succession, version 1";

/* What `old` signs; 0 if the name is none. */
static size_t signed_text(const char *name, const uint8_t *old, const uint8_t *next,
                          uint8_t out[static TEXT_MAX])
{
    struct bp_writer w;
    size_t len = strlen(name);

    if (!bp_node_name_valid(name, len)) {
        return 0;
    }
    bp_writer_init(&w, out, TEXT_MAX);
    bp_write_bytes(&w, purpose, sizeof(purpose));
    bp_write_u16(&w, (uint16_t)len);
    bp_write_bytes(&w, name, len);
    bp_write_bytes(&w, old, BP_KEY_LEN);
    bp_write_bytes(&w, next, BP_KEY_LEN);
    return w.bad ? 0 : w.len;
}

int bp_succession_sign(const struct bp_identity *old, const char *name,
                       const uint8_t next[static BP_KEY_LEN], uint8_t sig[static BP_SIG_LEN])
{
    uint8_t text[TEXT_MAX];
    size_t len = signed_text(name, bp_identity_pub(old), next, text);

    return len == 0 ? BP_E_INVALID : bp_identity_sign(old, text, len, sig);
}

void bp_succession_add(struct bp_succession *s, const uint8_t key[static BP_KEY_LEN],
                       const uint8_t sig[static BP_SIG_LEN])
{
    if (s->n == BP_SUCCESSION_MAX) {
        memmove(s->links, s->links + 1, (BP_SUCCESSION_MAX - 1) * sizeof(s->links[0]));
        s->n--;
    }
    memcpy(s->links[s->n].key, key, BP_KEY_LEN);
    memcpy(s->links[s->n].sig, sig, BP_SIG_LEN);
    s->n++;
}

int bp_succession_check(const struct bp_succession *s, const char *name,
                        const uint8_t from[static BP_KEY_LEN], const uint8_t to[static BP_KEY_LEN])
{
    uint8_t text[TEXT_MAX];
    unsigned i = 0;

    while (i < s->n && !bp_equal_ct(s->links[i].key, from, BP_KEY_LEN)) {
        i++;
    }
    if (i == s->n) {
        return BP_E_NOT_FOUND;
    }
    for (; i < s->n; i++) {
        const uint8_t *next = i + 1 < s->n ? s->links[i + 1].key : to;
        size_t len = signed_text(name, s->links[i].key, next, text);
        int rc = len == 0 ? BP_E_AUTH_SIGNATURE
                          : bp_ed25519_verify(s->links[i].key, text, len, s->links[i].sig);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

int bp_succession_decode(struct bp_succession *out, const uint8_t *p, size_t len)
{
    *out = (struct bp_succession){0};
    if (len == 0 || len % BP_SUCCESSION_LINK_LEN != 0 ||
        len / BP_SUCCESSION_LINK_LEN > BP_SUCCESSION_MAX) {
        return BP_E_INVALID;
    }
    for (; len > 0; len -= BP_SUCCESSION_LINK_LEN, p += BP_SUCCESSION_LINK_LEN) {
        bp_succession_add(out, p, p + BP_KEY_LEN);
    }
    return 0;
}

size_t bp_succession_encode(const struct bp_succession *s,
                            uint8_t out[static BP_SUCCESSION_MAX * BP_SUCCESSION_LINK_LEN])
{
    for (unsigned i = 0; i < s->n; i++) {
        memcpy(out + i * BP_SUCCESSION_LINK_LEN, s->links[i].key, BP_KEY_LEN);
        memcpy(out + i * BP_SUCCESSION_LINK_LEN + BP_KEY_LEN, s->links[i].sig, BP_SIG_LEN);
    }
    return (size_t)s->n * BP_SUCCESSION_LINK_LEN;
}
