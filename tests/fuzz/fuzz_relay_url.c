/* SPDX-License-Identifier: Apache-2.0 */
/* --relay: any text; what is taken is within its limits, and holds no password. */
#include "fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "cli/relay_url.h"

static void check(int ok)
{
    if (!ok) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cli_relay_url url;
    const char *why;
    char *text = malloc(size + 1);
    int rc;

    if (text == NULL) {
        return 0;
    }
    memcpy(text, data, size);
    text[size] = '\0';
    rc = cli_relay_url_parse(text, &url, &why);
    check(rc == 0 || rc == BP_E_INVALID);
    check((rc == 0) == (why == NULL));
    check((rc == 0) == (url.port != 0));
    check((rc == 0) == (url.host[0] != '\0'));
    check(strlen(url.host) <= CLI_RELAY_HOST_MAX && strlen(url.user) <= CLI_RELAY_USER_MAX);
    check(url.mtu == 0 || (url.mtu >= 1200 && url.mtu <= 65507));
    check(url.user[0] == '\0' || url.scheme == CLI_RELAY_SOCKS5);
    free(text);
    return 0;
}
