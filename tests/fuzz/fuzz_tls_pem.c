/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: certificate and key files of any content. Input: u16 length of the certificate
 * text, certificate text, key text (the rest). */
#include "base/rw.h"
#include "fuzz/fuzz.h"
#include "quic/tls_cert.h"

#include <stdlib.h>
#include <string.h>

static void check(bool ok)
{
    if (!ok) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t no_binding[BP_BINDING_LEN];
    struct bp_reader r;
    struct bp_tls_cred *cred;
    const uint8_t *cert;
    size_t cert_len;
    size_t key_len;
    char text[256];
    int rc;

    bp_reader_init(&r, data, size);
    cert_len = bp_read_u16(&r);
    if (cert_len > bp_reader_left(&r)) {
        cert_len = bp_reader_left(&r);
    }
    cert = bp_read_bytes(&r, cert_len);
    key_len = bp_reader_left(&r);
    if (cert == NULL) {
        return 0;
    }
    memset(text, 'x', sizeof(text));
    rc = bp_tls_cred_load((const char *)cert, cert_len, (const char *)cert + cert_len, key_len,
                          &cred, text, sizeof(text));
    check(memchr(text, '\0', sizeof(text)) != NULL);
    check((rc == 0) == (cred != NULL));
    check((rc == 0) == (text[0] == '\0'));
    if (cred != NULL) {
        check(memcmp(bp_tls_cred_binding(cred), no_binding, sizeof(no_binding)) != 0);
        check(bp_tls_cred_native(cred) != NULL);
        bp_tls_cred_unref(cred);
    } else {
        check(strncmp(text, "the certificate", 15) == 0 || strncmp(text, "the key", 7) == 0);
    }
    return 0;
}
