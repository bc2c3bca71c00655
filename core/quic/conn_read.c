/* SPDX-License-Identifier: Apache-2.0 */
/* What ngtcp2 reports while it reads packets and runs timers. */
#include "quic/conn_impl.h"
#include "quic/packet_crypt.h"

#include <gnutls/crypto.h>
#include <string.h>

static int refuse(struct bp_conn *c, int err)
{
    if (c->cb_err == 0) {
        c->cb_err = err;
    }
    return NGTCP2_ERR_CALLBACK_FAILURE;
}

/* TLS messages; those that come when the session was given back are tickets that nobody wants. */
static int on_crypto_data(ngtcp2_conn *q, ngtcp2_encryption_level level, uint64_t offset,
                          const uint8_t *p, size_t len, void *user)
{
    struct bp_conn *c = user;
    int rc = c->tls != NULL ? ngtcp2_crypto_recv_crypto_data_cb(q, level, offset, p, len, user) : 0;

    if (rc == 0 && c->tls != NULL && c->wants_session && level == NGTCP2_ENCRYPTION_LEVEL_1RTT &&
        bp_conn_peer_is_ours(c) && bp_conn_note_session(c)) {
        c->ops->session(c->user);
    }
    return rc;
}

static int on_handshake_completed(ngtcp2_conn *q, void *user)
{
    struct bp_conn *c = user;
    int rc;

    if (!bp_tls_session_alpn_ok(c->tls)) {
        return refuse(c, BP_E_ALPN);
    }
    c->handshake_done = true;
    c->resumed = gnutls_session_is_resumed(c->tls) != 0;
    if (c->keepalive != 0) {
        ngtcp2_conn_set_keep_alive_timeout(q, c->keepalive);
    }
    rc = c->ops->handshake_done(c->user);
    return rc == 0 ? 0 : refuse(c, rc);
}

static int on_tx_key(ngtcp2_conn *q, ngtcp2_encryption_level level, void *user)
{
    struct bp_conn *c = user;

    (void)q;
    if (c->server && level == NGTCP2_ENCRYPTION_LEVEL_1RTT) {
        c->early_ready = true;
        c->ops->early_ready(c->user);
    }
    return 0;
}

static int on_stream_data(ngtcp2_conn *q, uint32_t flags, int64_t id, uint64_t offset,
                          const uint8_t *p, size_t len, void *user, void *stream_user)
{
    struct bp_conn *c = user;
    int rc;

    (void)q;
    (void)offset;
    rc = stream_user != NULL
             ? c->ops->user_data(c->user, stream_user, p, len,
                                 (flags & NGTCP2_STREAM_DATA_FLAG_FIN) != 0)
             : c->ops->stream_data(c->user, id, p, len, (flags & NGTCP2_STREAM_DATA_FLAG_FIN) != 0);
    return rc == 0 ? 0 : refuse(c, rc);
}

static int on_acked(ngtcp2_conn *q, int64_t id, uint64_t offset, uint64_t len, void *user,
                    void *stream_user)
{
    struct bp_conn *c = user;
    int slot;

    (void)q;
    if (stream_user != NULL) {
        bp_conn_user_acked(c, stream_user, offset + len);
        return 0;
    }
    slot = bp_conn_slot_of(c, id);
    if (slot >= 0) {
        struct bp_stream *s = &c->streams[slot];
        bp_sendq_acked(&s->q, offset + len, &c->pool, &c->owner);
        s->progress = c->now;
        c->ops->acked(c->user, (unsigned)slot, s->q.acked);
    }
    return 0;
}

static int on_stream_reset(ngtcp2_conn *q, int64_t id, uint64_t final_size, uint64_t code,
                           void *user, void *stream_user)
{
    struct bp_conn *c = user;
    int rc = stream_user != NULL ? c->ops->user_reset(c->user, stream_user, code)
                                 : c->ops->stream_reset(c->user, id, code);

    (void)q;
    (void)final_size;
    return rc == 0 ? 0 : refuse(c, rc);
}

static int on_stream_close(ngtcp2_conn *q, uint32_t flags, int64_t id, uint64_t code, void *user,
                           void *stream_user)
{
    struct bp_conn *c = user;
    int slot = bp_conn_slot_of(c, id);

    if (stream_user != NULL) {
        /* Whether the peer may open another one is the link's to say. */
        code = (flags & NGTCP2_STREAM_CLOSE_FLAG_APP_ERROR_CODE_SET) != 0 ? code : 0;
        bp_conn_user_closed(c, stream_user, code);
        return 0;
    }
    if (slot >= 0) {
        struct bp_stream *s = &c->streams[slot];
        /* ngtcp2 no longer reads from it, so nothing needs to be kept for retransmission. */
        if (!s->shut) {
            c->unsent -= s->q.end - s->q.sent;
        }
        bp_sendq_free(&s->q, &c->pool, &c->owner);
        s->shut = true;
    }
    if (!ngtcp2_conn_is_local_stream(q, id)) {
        if (ngtcp2_is_bidi_stream(id)) {
            ngtcp2_conn_extend_max_streams_bidi(q, 1);
        } else {
            ngtcp2_conn_extend_max_streams_uni(q, 1);
        }
    }
    return 0;
}

static int on_stream_window(ngtcp2_conn *q, int64_t id, uint64_t max_data, void *user,
                            void *stream_user)
{
    struct bp_conn *c = user;
    int slot = bp_conn_slot_of(c, id);

    (void)q;
    (void)max_data;
    if (stream_user != NULL) {
        bp_conn_user_unblock(c, stream_user);
    } else if (slot >= 0) {
        bp_conn_unblock(c, &c->streams[slot]);
    }
    return 0;
}

static void to_cid(struct bp_cid *out, const ngtcp2_cid *cid)
{
    out->len = (uint8_t)cid->datalen;
    memcpy(out->data, cid->data, cid->datalen);
}

static int on_new_cid(ngtcp2_conn *q, ngtcp2_cid *cid, uint8_t *token, size_t len, void *user)
{
    struct bp_conn *c = user;
    struct bp_cid ours;

    (void)q;
    cid->datalen = len;
    if (gnutls_rnd(GNUTLS_RND_NONCE, cid->data, len) != 0) {
        return refuse(c, BP_E_CRYPTO);
    }
    cid->data[0] |= BP_LATER_CID;
    if (ngtcp2_crypto_generate_stateless_reset_token(token, c->reset_secret,
                                                     sizeof(c->reset_secret), cid) != 0) {
        return refuse(c, BP_E_CRYPTO);
    }
    to_cid(&ours, cid);
    c->ops->cid(c->user, &ours, true);
    return 0;
}

static int on_remove_cid(ngtcp2_conn *q, const ngtcp2_cid *cid, void *user)
{
    struct bp_conn *c = user;
    struct bp_cid ours;

    (void)q;
    to_cid(&ours, cid);
    c->ops->cid(c->user, &ours, false);
    return 0;
}

static int on_stateless_reset(ngtcp2_conn *q, const ngtcp2_pkt_stateless_reset *sr, void *user)
{
    struct bp_conn *c = user;

    (void)q;
    (void)sr;
    c->err = BP_E_STATELESS_RESET;
    c->closed = true;
    return 0;
}

static int on_path_validation(ngtcp2_conn *q, uint32_t flags, const ngtcp2_path *path,
                              const ngtcp2_path *old_path, ngtcp2_path_validation_result res,
                              void *user)
{
    (void)q;
    (void)flags;
    (void)old_path;
    bp_conn_path_validated(user, path, res == NGTCP2_PATH_VALIDATION_RESULT_SUCCESS);
    return 0;
}

/* ngtcp2 gives this callback no connection: the result is read back right after
 * ngtcp2_conn_read_pkt on the same thread. */
static _Thread_local bool decrypted;

bool *bp_conn_decrypted(void)
{
    return &decrypted;
}

/* Only a packet that decrypts proves that the peer is alive (anybody can send datagrams). */
static int on_decrypt(uint8_t *dest, const ngtcp2_crypto_aead *aead,
                      const ngtcp2_crypto_aead_ctx *ctx, const uint8_t *ciphertext,
                      size_t ciphertext_len, const uint8_t *nonce, size_t nonce_len,
                      const uint8_t *aad, size_t aad_len)
{
    int rc = bp_packet_decrypt(dest, aead, ctx, ciphertext, ciphertext_len, nonce, nonce_len, aad,
                               aad_len);

    decrypted = decrypted || rc == 0;
    return rc;
}

static void on_rand(uint8_t *dest, size_t len, const ngtcp2_rand_ctx *ctx)
{
    (void)ctx;
    /* ngtcp2 wants it for padding and skipped packet numbers, not for secrets. */
    if (gnutls_rnd(GNUTLS_RND_NONCE, dest, len) != 0) {
        memset(dest, 0x5a, len);
    }
}

void bp_conn_callbacks(ngtcp2_callbacks *cb, bool server)
{
    *cb = (ngtcp2_callbacks){.client_initial = server ? NULL : ngtcp2_crypto_client_initial_cb,
                             .recv_client_initial =
                                 server ? ngtcp2_crypto_recv_client_initial_cb : NULL,
                             .recv_crypto_data = on_crypto_data,
                             .handshake_completed = on_handshake_completed,
                             .recv_tx_key = on_tx_key,
                             .decrypt = on_decrypt,
                             .recv_stream_data = on_stream_data,
                             .acked_stream_data_offset = on_acked,
                             .stream_close = on_stream_close,
                             .recv_stateless_reset = on_stateless_reset,
                             .recv_retry = server ? NULL : ngtcp2_crypto_recv_retry_cb,
                             .rand = on_rand,
                             .get_new_connection_id = on_new_cid,
                             .remove_connection_id = on_remove_cid,
                             .path_validation = on_path_validation,
                             .stream_reset = on_stream_reset,
                             .extend_max_stream_data = on_stream_window,
                             .get_path_challenge_data = ngtcp2_crypto_get_path_challenge_data_cb,
                             .version_negotiation = ngtcp2_crypto_version_negotiation_cb};
    bp_packet_crypt_callbacks(cb);
}
