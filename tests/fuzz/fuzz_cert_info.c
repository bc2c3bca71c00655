/* SPDX-License-Identifier: Apache-2.0 */
/* Certificate files of any content, as `barrel-p2p cert show FILE` reads them: what is shown is
 * printable, and the same certificate is loaded as a node would. */
#include "fuzz/fuzz.h"
#include "quic/tls_cert.h"

#include "base/err.h"

#include <stdlib.h>
#include <string.h>

static void check(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void printable(const char *text, size_t cap)
{
    check(memchr(text, '\0', cap) != NULL);
    for (; *text != '\0'; text++) {
        check(*text >= 0x20 && *text <= 0x7e);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bp_tls_cert_info info;
    char text[256];
    int rc;

    memset(text, 'x', sizeof(text));
    memset(&info, 'x', sizeof(info));
    rc = bp_tls_cert_info((const char *)data, size, &info, text, sizeof(text));
    check(rc == 0 || rc == BP_E_FILE || rc == BP_E_NOMEM);
    check(memchr(text, '\0', sizeof(text)) != NULL);
    check((rc == 0) == (text[0] == '\0'));
    printable(info.subject, sizeof(info.subject));
    printable(info.issuer, sizeof(info.issuer));
    printable(info.cn, sizeof(info.cn));
    printable(info.serial, sizeof(info.serial));
    printable(info.key, sizeof(info.key));
    if (rc == 0) {
        check(info.n_certs >= 1 && info.n_certs <= BP_TLS_CHAIN_MAX);
    } else {
        check(strncmp(text, "the certificate", 15) == 0);
    }
    return 0;
}
