/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chains of keys, as a file or a peer says them. Input: a byte that chooses the pin, then the
 * links; the first link can be made right (bits 4 and 5), which no fuzzer would guess. Only a chain
 * whose every link from the pinned key on was signed for this name may lead to the key.
 */
#include "fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "auth/auth.h"
#include "base/err.h"

static struct bp_identity *ids[3]; /* pinned, current, the fuzzed node's own */
static const uint8_t secret[BP_KEY_LEN] = {9};
static const char name[] = "a@h";
static uint8_t good_sig[BP_SIG_LEN];

static void check(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void make_keys(void)
{
    for (uint8_t i = 0; i < 3; i++) {
        uint8_t seed[BP_KEY_LEN] = {i};
        check(bp_identity_new(&ids[i], seed, NULL, bp_mem_libc()) == 0);
    }
    check(bp_succession_sign(ids[0], name, bp_identity_pub(ids[1]), good_sig) == 0);
}

/* The same, as a message to a node that has `pin` pinned: what it decides must be the same. */
static void tell(const uint8_t *links, size_t len, const uint8_t *pin, bool accepted)
{
    struct bp_auth_config cfg = {.role = BP_AUTH_SERVER,
                                 .identity = ids[2],
                                 .self_name = "b@h",
                                 .trust_mode = BP_TRUST_STRICT,
                                 .nonce_secret = secret};
    struct bp_auth_msg msgs[2] = {
        {.type = BP_AUTH_MSG_SUCCESSION, .links = links, .links_len = len},
        {.type = BP_AUTH_MSG_HELLO,
         .name = name,
         .name_len = sizeof(name) - 1,
         .pub = bp_identity_pub(ids[1])}};
    static struct bp_auth a;
    uint8_t buf[2 * BP_AUTH_SPLIT_CAP];
    struct bp_writer w;

    bp_writer_init(&w, buf, sizeof(buf));
    bp_auth_msg_encode(&w, &msgs[0]);
    bp_auth_msg_encode(&w, &msgs[1]);
    check(!w.bad && bp_auth_init(&a, &cfg) == 0 && bp_auth_start_early(&a, 0, 0) == 0);
    check(bp_auth_recv(&a, buf, w.len, 0, 0) == 0 && a.state == BP_AUTH_ST_WAIT_TRUST);
    check((bp_auth_trust(&a, true, pin, 0, 0) == 0) == accepted);
    check(a.replacing == accepted);
    bp_auth_free(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t bytes[BP_SUCCESSION_MAX * BP_SUCCESSION_LINK_LEN];
    uint8_t copy[sizeof(bytes)];
    struct bp_succession s;
    const uint8_t *pin;
    size_t len;
    int rc;

    if (ids[0] == NULL) {
        make_keys();
    }
    if (size < 1) {
        return 0;
    }
    len = size - 1 < sizeof(bytes) ? size - 1 : sizeof(bytes);
    memcpy(bytes, data + 1, len);
    if (len >= BP_SUCCESSION_LINK_LEN && (data[0] & 0x10) != 0) {
        memcpy(bytes, bp_identity_pub(ids[0]), BP_KEY_LEN);
    }
    if (len >= BP_SUCCESSION_LINK_LEN && (data[0] & 0x20) != 0) {
        memcpy(bytes + BP_KEY_LEN, good_sig, BP_SIG_LEN);
    }
    rc = bp_succession_decode(&s, bytes, len);
    check((rc == 0) == (len > 0 && len % BP_SUCCESSION_LINK_LEN == 0));
    check(rc == 0 ? s.n == len / BP_SUCCESSION_LINK_LEN : s.n == 0);
    if (rc != 0) {
        return 0;
    }
    check(bp_succession_encode(&s, copy) == len && memcmp(copy, bytes, len) == 0);
    pin = bp_identity_pub(ids[0]);
    if ((data[0] & 0x0f) != 0) {
        pin = s.links[(data[0] & 0x0fu) % s.n].key;
    }
    rc = bp_succession_check(&s, name, pin, bp_identity_pub(ids[1]));
    if (memcmp(pin, bp_identity_pub(ids[0]), BP_KEY_LEN) == 0) {
        /* nobody but ids[0] can make its one link, and more links are nobody's */
        check((rc == 0) == (s.n == 1 && memcmp(s.links[0].key, pin, BP_KEY_LEN) == 0 &&
                            memcmp(s.links[0].sig, good_sig, BP_SIG_LEN) == 0));
    }
    tell(bytes, len, pin, rc == 0);
    return 0;
}
