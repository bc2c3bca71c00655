/* SPDX-License-Identifier: Apache-2.0 */
/* Public keys as text. Base64 and hex are GnuTLS's. */
#include "cli/key_text.h"

#include "base/err.h"

#include <gnutls/gnutls.h>
#include <string.h>

#define HEX_LEN    (2 * BP_KEY_LEN)
#define BASE64_LEN (CLI_KEY_BASE64_CAP - 1)

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool starts(const uint8_t *p, size_t len, const char *prefix)
{
    size_t n = strlen(prefix);

    return len >= n && memcmp(p, prefix, n) == 0;
}

static const char *reason(const uint8_t *p, size_t len)
{
    if (len == 0) {
        return "it is empty";
    }
    if (starts(p, len, "SHA256:")) {
        return "this is a fingerprint, from which no key can be found";
    }
    if (starts(p, len, "-----BEGIN")) {
        return "this is PEM, wanted is the node.pub of a node";
    }
    if (starts(p, len, "ssh-")) {
        return "this is a key of OpenSSH, wanted is the node.pub of a node";
    }
    return "wanted are 32 bytes (a node's node.pub), 64 hex digits, or 43 or 44 base64 digits";
}

static int from_gnutls(int rc)
{
    if (rc >= 0) {
        return 0;
    }
    return rc == GNUTLS_E_MEMORY_ERROR ? BP_E_NOMEM : BP_E_INVALID;
}

static int decode_hex(const uint8_t *p, uint8_t *key)
{
    uint8_t digits[HEX_LEN];
    gnutls_datum_t in = {.data = digits, .size = sizeof(digits)};
    gnutls_datum_t out = {0};
    int rc;

    memcpy(digits, p, sizeof(digits));
    rc = from_gnutls(gnutls_hex_decode2(&in, &out));
    if (rc == 0 && out.size != BP_KEY_LEN) {
        rc = BP_E_INVALID;
    }
    if (rc == 0) {
        memcpy(key, out.data, BP_KEY_LEN);
    }
    gnutls_free(out.data);
    return rc;
}

/* GnuTLS refuses set bits behind the end and other padding: signs of a damaged copy. */
static int decode_base64(const uint8_t *p, size_t len, uint8_t *key)
{
    uint8_t digits[BASE64_LEN];
    gnutls_datum_t in = {.data = digits, .size = sizeof(digits)};
    gnutls_datum_t out = {0};
    int rc;

    for (size_t i = 0; i < len; i++) {
        digits[i] = p[i] == '-' ? '+' : p[i] == '_' ? '/' : p[i];
    }
    if (len < BASE64_LEN) {
        digits[len] = '=';
    }
    rc = from_gnutls(gnutls_base64_decode2(&in, &out));
    if (rc == 0 && out.size != BP_KEY_LEN) {
        rc = BP_E_INVALID;
    }
    if (rc == 0) {
        memcpy(key, out.data, BP_KEY_LEN);
    }
    gnutls_free(out.data);
    return rc;
}

int cli_key_parse(const uint8_t *p, size_t len, bool raw, uint8_t key[static BP_KEY_LEN],
                  const char **why)
{
    int rc = BP_E_INVALID;

    *why = NULL;
    memset(key, 0, BP_KEY_LEN);
    if (raw && len == BP_KEY_LEN) {
        memcpy(key, p, BP_KEY_LEN);
        return 0;
    }
    while (len > 0 && is_blank(p[len - 1])) {
        len--;
    }
    while (len > 0 && is_blank(p[0])) {
        p++;
        len--;
    }
    if (len == HEX_LEN) {
        rc = decode_hex(p, key);
    } else if (len == BASE64_LEN || len == BASE64_LEN - 1) {
        rc = decode_base64(p, len, key);
    }
    if (rc != 0) {
        memset(key, 0, BP_KEY_LEN);
    }
    if (rc == BP_E_INVALID) {
        *why = reason(p, len);
    }
    return rc;
}

int cli_key_base64(const uint8_t key[static BP_KEY_LEN], char out[static CLI_KEY_BASE64_CAP])
{
    uint8_t copy[BP_KEY_LEN];
    gnutls_datum_t in = {.data = copy, .size = sizeof(copy)};
    gnutls_datum_t text = {0};
    int rc;

    memcpy(copy, key, sizeof(copy));
    rc = from_gnutls(gnutls_base64_encode2(&in, &text));
    if (rc == 0 && text.size != BASE64_LEN) {
        rc = BP_E_CRYPTO;
    }
    if (rc == 0) {
        memcpy(out, text.data, BASE64_LEN);
        out[BASE64_LEN] = '\0';
    }
    gnutls_free(text.data);
    return rc;
}

void cli_hex(const uint8_t *p, size_t len, char *out)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[p[i] >> 4];
        out[2 * i + 1] = digits[p[i] & 15];
    }
    out[2 * len] = '\0';
}
