/* SPDX-License-Identifier: Apache-2.0 */
/* Public keys as people pass them on: 32 raw bytes, hex, base64. */
#ifndef CLI_KEY_TEXT_H
#define CLI_KEY_TEXT_H

#include "base/types.h"

#define CLI_KEY_BASE64_CAP 45u   /* 44 digits and NUL */
#define CLI_KEY_FILE_MAX   1024u /* of a file that may hold a key */

/*
 * The key in `p` (borrowed): with `raw` exactly 32 bytes, or text with blanks around it: 64 hex
 * digits, or base64 of the standard or the URL alphabet, 44 digits or 43 without the padding.
 * Anything else is BP_E_INVALID, `key` is zero and `*why` (static) ends "it holds no public key: ".
 * Other errors: BP_E_NOMEM, BP_E_CRYPTO.
 */
int cli_key_parse(const uint8_t *p, size_t len, bool raw, uint8_t key[static BP_KEY_LEN],
                  const char **why) BP_MUST_CHECK;

/* The key as 44 base64 digits. BP_E_NOMEM. */
int cli_key_base64(const uint8_t key[static BP_KEY_LEN],
                   char out[static CLI_KEY_BASE64_CAP]) BP_MUST_CHECK;

/* `len` bytes as lower-case hex digits and NUL, 2 * len + 1 bytes. */
void cli_hex(const uint8_t *p, size_t len, char *out);

#endif
