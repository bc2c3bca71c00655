/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and callbacks of packet protection; see the header for why they are ours. */
#include "quic/packet_crypt.h"

#include "base/err.h"
#include "quic/conn_impl.h"

#include <ngtcp2/ngtcp2_crypto_gnutls.h>
#include <string.h>

#ifdef BP_HAVE_IPSEC_MB
#include <intel-ipsec-mb.h>
#include <stdatomic.h>
#endif

#define OURS    ((uintptr_t)1) /* mark in a native handle */
#define KEY_LEN 16u
#define IV_LEN  12u
#define TAG_LEN 16u
#define ALIGN   64u /* of expanded keys, for the widest loads */

static bool is_ours(const void *handle)
{
    return ((uintptr_t)handle & OURS) != 0;
}

/* An aligned object with its allocation in front: what malloc gives is aligned to 16 bytes. */
struct aligned {
    const struct bp_mem *mem;
    void *base;
    size_t size;
};

static void aligned_del(void *p)
{
    struct aligned head;

    head = ((struct aligned *)p)[-1];
    bp_wipe(p, head.size);
    head.mem->release(head.mem->ctx, head.base);
}

static void *unmark(void *handle)
{
    return (uint8_t *)handle - OURS;
}

#ifdef BP_HAVE_IPSEC_MB

static void *aligned_new(const struct bp_mem *mem, size_t size)
{
    uint8_t *base = bp_mem_zalloc(mem, 1, size + ALIGN + sizeof(struct aligned));
    uintptr_t at;
    struct aligned *head;

    if (base == NULL) {
        return NULL;
    }
    at = ((uintptr_t)base + sizeof(struct aligned) + ALIGN - 1) & ~(uintptr_t)(ALIGN - 1);
    head = (struct aligned *)(void *)(base + (at - (uintptr_t)base) - sizeof(struct aligned));
    *head = (struct aligned){.mem = mem, .base = base, .size = size};
    return head + 1;
}

static void *mark(void *p)
{
    return (uint8_t *)p + OURS;
}

static IMB_MGR *make_library(void)
{
    const uint64_t wanted = IMB_FEATURE_AESNI | IMB_FEATURE_PCLMULQDQ;
    IMB_MGR *m = alloc_mb_mgr(0);

    if (m == NULL) {
        return NULL;
    }
    init_mb_mgr_auto(m, NULL);
    if (imb_get_errno(m) != 0 || (m->features & wanted) != wanted) {
        free_mb_mgr(m);
        return NULL;
    }
    return m;
}

/* One table of functions for the process: made once, never changed, never freed. */
static IMB_MGR *library(void)
{
    static _Atomic(IMB_MGR *) made;
    static atomic_bool missing;
    IMB_MGR *m = atomic_load_explicit(&made, memory_order_acquire);
    IMB_MGR *other = NULL;

    if (m != NULL || atomic_load_explicit(&missing, memory_order_relaxed)) {
        return m;
    }
    m = make_library();
    if (m == NULL) {
        atomic_store_explicit(&missing, true, memory_order_relaxed);
        return NULL;
    }
    if (!atomic_compare_exchange_strong(&made, &other, m)) {
        free_mb_mgr(m);
        m = other;
    }
    return m;
}

bool bp_packet_crypt_fast(void)
{
    return library() != NULL;
}

int bp_packet_key_new(ngtcp2_crypto_aead_ctx *out, const struct bp_mem *mem,
                      const uint8_t key[static KEY_LEN])
{
    IMB_MGR *m = library();
    struct gcm_key_data *k;

    if (m == NULL) {
        return BP_E_CRYPTO;
    }
    k = aligned_new(mem, sizeof(*k));
    if (k == NULL) {
        return BP_E_NOMEM;
    }
    IMB_AES128_GCM_PRE(m, key, k);
    out->native_handle = mark(k);
    return 0;
}

/* The eleven round keys, for one block at a time. */
struct hp_key {
    uint8_t enc[11 * 16];
    uint8_t dec[11 * 16]; /* the library derives both */
};

int bp_packet_hp_new(ngtcp2_crypto_cipher_ctx *out, const struct bp_mem *mem,
                     const uint8_t key[static KEY_LEN])
{
    IMB_MGR *m = library();
    struct hp_key *k;

    if (m == NULL) {
        return BP_E_CRYPTO;
    }
    k = aligned_new(mem, sizeof(*k));
    if (k == NULL) {
        return BP_E_NOMEM;
    }
    IMB_AES_KEYEXP_128(m, key, k->enc, k->dec);
    out->native_handle = mark(k);
    return 0;
}

static int fast_encrypt(uint8_t *dest, void *handle, const uint8_t *plaintext, size_t len,
                        const uint8_t *nonce, const uint8_t *aad, size_t aad_len)
{
    IMB_MGR *m = library();
    struct gcm_context_data state;

    IMB_AES128_GCM_ENC(m, unmark(handle), &state, dest, plaintext, len, nonce, aad, aad_len,
                       dest + len, TAG_LEN);
    return 0;
}

/* bp_equal_ct for sixteen bytes, which takes eight times as long. */
static bool same_tag(const uint8_t *a, const uint8_t *b)
{
    uint64_t x[2];
    uint64_t y[2];

    memcpy(x, a, TAG_LEN);
    memcpy(y, b, TAG_LEN);
    return ((x[0] ^ y[0]) | (x[1] ^ y[1])) == 0;
}

static int fast_decrypt(uint8_t *dest, void *handle, const uint8_t *ciphertext, size_t len,
                        const uint8_t *nonce, const uint8_t *aad, size_t aad_len)
{
    IMB_MGR *m = library();
    struct gcm_context_data state;
    uint8_t tag[TAG_LEN];

    if (len < TAG_LEN) {
        return NGTCP2_ERR_DECRYPT;
    }
    len -= TAG_LEN;
    IMB_AES128_GCM_DEC(m, unmark(handle), &state, dest, ciphertext, len, nonce, aad, aad_len, tag,
                       TAG_LEN);
    return same_tag(tag, ciphertext + len) ? 0 : NGTCP2_ERR_DECRYPT;
}

/* RFC 9001, 5.4.3: AES of the sample alone, which is what CFB of a block of zeros is. */
static int fast_mask(uint8_t *dest, void *handle, const uint8_t *sample)
{
    static const uint8_t zeros[16];
    const struct hp_key *k = unmark(handle);
    uint8_t block[16];

    IMB_AES128_CFB_ONE(library(), block, zeros, sample, k->enc, sizeof(block));
    memcpy(dest, block, NGTCP2_HP_MASKLEN);
    return 0;
}

#else

bool bp_packet_crypt_fast(void)
{
    return false;
}

int bp_packet_key_new(ngtcp2_crypto_aead_ctx *out, const struct bp_mem *mem,
                      const uint8_t key[static KEY_LEN])
{
    (void)out, (void)mem, (void)key;
    return BP_E_CRYPTO;
}

int bp_packet_hp_new(ngtcp2_crypto_cipher_ctx *out, const struct bp_mem *mem,
                     const uint8_t key[static KEY_LEN])
{
    (void)out, (void)mem, (void)key;
    return BP_E_CRYPTO;
}

/* No handle of ours exists. */
static int fast_encrypt(uint8_t *dest, void *handle, const uint8_t *plaintext, size_t len,
                        const uint8_t *nonce, const uint8_t *aad, size_t aad_len)
{
    (void)dest, (void)handle, (void)plaintext, (void)len, (void)nonce, (void)aad, (void)aad_len;
    return NGTCP2_ERR_CALLBACK_FAILURE;
}

static int fast_decrypt(uint8_t *dest, void *handle, const uint8_t *ciphertext, size_t len,
                        const uint8_t *nonce, const uint8_t *aad, size_t aad_len)
{
    (void)dest, (void)handle, (void)ciphertext, (void)len, (void)nonce, (void)aad, (void)aad_len;
    return NGTCP2_ERR_DECRYPT;
}

static int fast_mask(uint8_t *dest, void *handle, const uint8_t *sample)
{
    (void)dest, (void)handle, (void)sample;
    return NGTCP2_ERR_CALLBACK_FAILURE;
}

#endif

/* --- callbacks of ngtcp2 --------------------------------------------------- */

static int on_encrypt(uint8_t *dest, const ngtcp2_crypto_aead *aead,
                      const ngtcp2_crypto_aead_ctx *ctx, const uint8_t *plaintext,
                      size_t plaintext_len, const uint8_t *nonce, size_t nonce_len,
                      const uint8_t *aad, size_t aad_len)
{
    if (is_ours(ctx->native_handle)) {
        return nonce_len == IV_LEN ? fast_encrypt(dest, ctx->native_handle, plaintext,
                                                  plaintext_len, nonce, aad, aad_len)
                                   : NGTCP2_ERR_CALLBACK_FAILURE;
    }
    return ngtcp2_crypto_encrypt_cb(dest, aead, ctx, plaintext, plaintext_len, nonce, nonce_len,
                                    aad, aad_len);
}

int bp_packet_decrypt(uint8_t *dest, const ngtcp2_crypto_aead *aead,
                      const ngtcp2_crypto_aead_ctx *ctx, const uint8_t *ciphertext,
                      size_t ciphertext_len, const uint8_t *nonce, size_t nonce_len,
                      const uint8_t *aad, size_t aad_len)
{
    if (is_ours(ctx->native_handle)) {
        return nonce_len == IV_LEN ? fast_decrypt(dest, ctx->native_handle, ciphertext,
                                                  ciphertext_len, nonce, aad, aad_len)
                                   : NGTCP2_ERR_DECRYPT;
    }
    return ngtcp2_crypto_decrypt_cb(dest, aead, ctx, ciphertext, ciphertext_len, nonce, nonce_len,
                                    aad, aad_len);
}

static int on_hp_mask(uint8_t *dest, const ngtcp2_crypto_cipher *hp,
                      const ngtcp2_crypto_cipher_ctx *ctx, const uint8_t *sample)
{
    return is_ours(ctx->native_handle) ? fast_mask(dest, ctx->native_handle, sample)
                                       : ngtcp2_crypto_hp_mask_cb(dest, hp, ctx, sample);
}

static void on_delete_aead(ngtcp2_conn *q, ngtcp2_crypto_aead_ctx *ctx, void *user)
{
    if (is_ours(ctx->native_handle)) {
        aligned_del(unmark(ctx->native_handle));
        ctx->native_handle = NULL;
        return;
    }
    ngtcp2_crypto_delete_crypto_aead_ctx_cb(q, ctx, user);
}

static void on_delete_hp(ngtcp2_conn *q, ngtcp2_crypto_cipher_ctx *ctx, void *user)
{
    if (is_ours(ctx->native_handle)) {
        aligned_del(unmark(ctx->native_handle));
        ctx->native_handle = NULL;
        return;
    }
    ngtcp2_crypto_delete_crypto_cipher_ctx_cb(q, ctx, user);
}

/* Puts ours in the place of what the helper made from the same key. */
static int replace(struct bp_conn *c, ngtcp2_crypto_aead_ctx *ctx, const uint8_t *key)
{
    ngtcp2_crypto_aead_ctx ours;
    int rc = bp_packet_key_new(&ours, c->mem, key);

    if (rc == 0) {
        ngtcp2_crypto_aead_ctx_free(ctx);
        *ctx = ours;
    }
    return rc;
}

/* RFC 9001, 6.1: the header protection keys stay. */
static int on_update_key(ngtcp2_conn *q, uint8_t *rx_secret, uint8_t *tx_secret,
                         ngtcp2_crypto_aead_ctx *rx, uint8_t *rx_iv, ngtcp2_crypto_aead_ctx *tx,
                         uint8_t *tx_iv, const uint8_t *old_rx, const uint8_t *old_tx,
                         size_t secret_len, void *user)
{
    struct bp_conn *c = user;
    uint8_t rx_key[64];
    uint8_t tx_key[64];
    int rc = 0;

    if (ngtcp2_crypto_update_key(q, rx_secret, tx_secret, rx, rx_key, rx_iv, tx, tx_key, tx_iv,
                                 old_rx, old_tx, secret_len) != 0) {
        return NGTCP2_ERR_CALLBACK_FAILURE;
    }
    if (c->fast_keys && (replace(c, rx, rx_key) != 0 || replace(c, tx, tx_key) != 0)) {
        on_delete_aead(q, rx, user);
        on_delete_aead(q, tx, user);
        rc = NGTCP2_ERR_CALLBACK_FAILURE;
    }
    bp_wipe(rx_key, sizeof(rx_key));
    bp_wipe(tx_key, sizeof(tx_key));
    return rc;
}

void bp_packet_crypt_callbacks(ngtcp2_callbacks *cb)
{
    cb->encrypt = on_encrypt;
    cb->hp_mask = on_hp_mask;
    cb->update_key = on_update_key;
    cb->delete_crypto_aead_ctx = on_delete_aead;
    cb->delete_crypto_cipher_ctx = on_delete_hp;
}

/* --- keys that TLS derives --------------------------------------------------- */

/* HKDF-Expand-Label with an empty context (RFC 8446, 7.1; the labels: RFC 9001, 5.1). */
static int expand(uint8_t *out, size_t len, const ngtcp2_crypto_md *md, const uint8_t *secret,
                  size_t secret_len, const char *label)
{
    uint8_t info[32];
    size_t label_len = strlen(label);

    if (label_len + 4 > sizeof(info)) {
        return BP_E_INTERNAL;
    }
    info[0] = 0;
    info[1] = (uint8_t)len;
    info[2] = (uint8_t)label_len;
    memcpy(info + 3, label, label_len);
    info[3 + label_len] = 0;
    return ngtcp2_crypto_hkdf_expand(out, len, md, secret, secret_len, info, label_len + 4) == 0
               ? 0
               : BP_E_CRYPTO;
}

static int install(struct bp_conn *c, bool rx, const uint8_t *secret, size_t len)
{
    const ngtcp2_crypto_md *md = &ngtcp2_conn_get_crypto_ctx(c->q)->md;
    ngtcp2_crypto_aead_ctx aead = {0};
    ngtcp2_crypto_cipher_ctx hp = {0};
    uint8_t key[KEY_LEN];
    uint8_t hp_key[KEY_LEN];
    uint8_t iv[IV_LEN];
    int rc = -1;

    if (expand(key, sizeof(key), md, secret, len, "tls13 quic key") == 0 &&
        expand(iv, sizeof(iv), md, secret, len, "tls13 quic iv") == 0 &&
        expand(hp_key, sizeof(hp_key), md, secret, len, "tls13 quic hp") == 0 &&
        bp_packet_key_new(&aead, c->mem, key) == 0 && bp_packet_hp_new(&hp, c->mem, hp_key) == 0) {
        rc = rx ? ngtcp2_conn_install_rx_key(c->q, secret, len, &aead, iv, sizeof(iv), &hp)
                : ngtcp2_conn_install_tx_key(c->q, secret, len, &aead, iv, sizeof(iv), &hp);
    }
    if (rc != 0 && is_ours(aead.native_handle)) {
        on_delete_aead(c->q, &aead, c);
    }
    if (rc != 0 && is_ours(hp.native_handle)) {
        on_delete_hp(c->q, &hp, c);
    }
    bp_wipe(key, sizeof(key));
    bp_wipe(hp_key, sizeof(hp_key));
    bp_wipe(iv, sizeof(iv));
    return rc;
}

static int derive(struct bp_conn *c, bool rx, ngtcp2_encryption_level level, const void *secret,
                  size_t len)
{
    if (level == NGTCP2_ENCRYPTION_LEVEL_1RTT && c->fast_keys) {
        return install(c, rx, secret, len);
    }
    return rx ? ngtcp2_crypto_derive_and_install_rx_key(c->q, NULL, NULL, NULL, level, secret, len)
              : ngtcp2_crypto_derive_and_install_tx_key(c->q, NULL, NULL, NULL, level, secret, len);
}

static int on_secret(gnutls_session_t s, gnutls_record_encryption_level_t gnutls_level,
                     const void *rx, const void *tx, size_t len)
{
    ngtcp2_crypto_conn_ref *ref = gnutls_session_get_ptr(s);
    struct bp_conn *c = ref->user_data;
    ngtcp2_encryption_level level =
        ngtcp2_crypto_gnutls_from_gnutls_record_encryption_level(gnutls_level);

    if (level == NGTCP2_ENCRYPTION_LEVEL_1RTT) {
        c->fast_keys = !c->plain_crypto && gnutls_cipher_get(s) == GNUTLS_CIPHER_AES_128_GCM &&
                       ngtcp2_conn_get_negotiated_version(c->q) == NGTCP2_PROTO_VER_V1 &&
                       bp_packet_crypt_fast();
    }
    if ((rx != NULL && derive(c, true, level, rx, len) != 0) ||
        (tx != NULL && derive(c, false, level, tx, len) != 0)) {
        return GNUTLS_E_INTERNAL_ERROR;
    }
    return 0;
}

void bp_packet_crypt_session(gnutls_session_t s)
{
    gnutls_handshake_set_secret_function(s, on_secret);
}
