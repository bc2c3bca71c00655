/* SPDX-License-Identifier: Apache-2.0 */
/* Keys as files and texts: any bytes, once as a file and once as an argument; what is accepted is
 * the same key when it is written and read again. */
#include "fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "cli/key_text.h"

static void check(int ok)
{
    if (!ok) {
        abort();
    }
}

static void read_again(const char *text, const uint8_t key[static BP_KEY_LEN])
{
    uint8_t again[BP_KEY_LEN];
    const char *why;

    check(cli_key_parse((const uint8_t *)text, strlen(text), false, again, &why) == 0);
    check(memcmp(key, again, BP_KEY_LEN) == 0);
}

static void parse(const uint8_t *data, size_t size, bool raw)
{
    static const uint8_t zero[BP_KEY_LEN];
    char base64[CLI_KEY_BASE64_CAP];
    char hex[2 * BP_KEY_LEN + 1];
    uint8_t key[BP_KEY_LEN];
    const char *why = NULL;
    int rc = cli_key_parse(data, size, raw, key, &why);

    check(rc == 0 || rc == BP_E_INVALID);
    check((rc == 0) == (why == NULL));
    if (rc != 0) {
        check(memcmp(key, zero, sizeof(key)) == 0);
        return;
    }
    check(size >= BP_KEY_LEN);
    check(!raw || size != BP_KEY_LEN || memcmp(key, data, BP_KEY_LEN) == 0);
    check(cli_key_base64(key, base64) == 0);
    read_again(base64, key);
    cli_hex(key, sizeof(key), hex);
    read_again(hex, key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    parse(data, size, true);
    parse(data, size, false);
    return 0;
}
