/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control operations on the node's own keys and certificate: rotation, provisioning, and the pieces
 * of the authentication that Erlang offers as functions.
 */
#include "driver/drv.h"

#include "auth/node_name.h"
#include "io/identity_dir.h"
#include "io/rotate.h"
#include "io/tls_files.h"
#include "quic/tls_cert.h"

#include <string.h>

#define RANDOM_MAX 1024u

struct request {
    const uint8_t *p;
    size_t len;
    char a[DRV_PATH_MAX];
    char b[DRV_PATH_MAX];
    char c[BP_NODE_NAME_MAX + 1];
    struct bp_errbuf err;
};

static bool text(const struct request *q, uint8_t key, char *out, size_t cap)
{
    return drv_args_string(q->p, q->len, key, out, cap);
}

/* The value of `key`, NULL unless it has `want` bytes (0: any number). */
static const uint8_t *bytes(const struct request *q, uint8_t key, size_t want, size_t *len)
{
    struct drv_args a;
    struct drv_arg arg;

    drv_args_init(&a, q->p, q->len);
    while (drv_args_next(&a, &arg)) {
        if (arg.key == key && (want == 0 || arg.len == want)) {
            if (len != NULL) {
                *len = arg.len;
            }
            return arg.val;
        }
    }
    return NULL;
}

/* Nothing, or text, after the status. */
static void answer(struct drv_reply *r, int rc, const struct request *q, const char *result)
{
    if (rc != 0) {
        drv_reply_error(r, rc, q->err.text);
        return;
    }
    drv_reply_ok(r);
    drv_reply_bytes(r, result, strlen(result));
}

/* --- certificate --------------------------------------------------------- */

static void cert_info(struct request *q, struct drv_reply *r)
{
    struct bp_tls_cred *cred = NULL;
    int rc = BP_E_INVALID;

    if (text(q, 1, q->a, sizeof(q->a)) && text(q, 2, q->b, sizeof(q->b))) {
        rc = bp_tls_files_load(q->a, q->b, &cred, &q->err);
    }
    if (rc != 0) {
        answer(r, rc, q, "");
        return;
    }
    drv_reply_ok(r);
    drv_reply_bytes(r, bp_tls_cred_binding(cred), BP_BINDING_LEN);
    drv_reply_uint(r, (uint64_t)bp_tls_cred_not_before(cred), 8);
    drv_reply_uint(r, (uint64_t)bp_tls_cred_not_after(cred), 8);
    drv_reply_uint(r, bp_tls_cred_generated(cred), 1);
    bp_tls_cred_unref(cred);
}

static void rotate_cert(struct request *q, struct drv_reply *r)
{
    char backup[DRV_PATH_MAX] = "";
    int rc = BP_E_INVALID;

    if (text(q, 1, q->a, sizeof(q->a)) && text(q, 2, q->b, sizeof(q->b)) &&
        text(q, 3, q->c, sizeof(q->c))) {
        rc = bp_rotate_cert(q->a, q->b, q->c, backup, sizeof(backup), &q->err);
    }
    answer(r, rc, q, backup);
}

/* The binding of the certificate that new connections get. */
static void server_binding(struct drv_reply *r)
{
    struct drv_settings *s = NULL;

    erl_drv_mutex_lock(drv_node.lock);
    if (drv_node.settings != NULL) {
        s = drv_settings_ref(drv_node.settings);
    }
    erl_drv_mutex_unlock(drv_node.lock);
    if (s == NULL) {
        drv_reply_error(r, BP_E_STATE, "this carrier is not configured");
        return;
    }
    drv_reply_ok(r);
    drv_reply_bytes(r, bp_tls_cred_binding(s->cred), BP_BINDING_LEN);
    drv_settings_unref(s);
}

/* --- identity ------------------------------------------------------------ */

static void rotate_identity(struct request *q, struct drv_reply *r)
{
    char backup[DRV_PATH_MAX] = "";
    uint64_t announce = 0;
    int rc = BP_E_INVALID;

    if (text(q, 1, q->a, sizeof(q->a)) && text(q, 2, q->c, sizeof(q->c)) &&
        drv_args_uint(q->p, q->len, 3, &announce)) {
        rc = bp_rotate_identity(q->a, q->c, announce != 0, backup, sizeof(backup), &q->err);
    }
    answer(r, rc, q, backup);
}

static void keypair_ensure(struct request *q, struct drv_reply *r)
{
    struct bp_identity *id = NULL;
    int rc = BP_E_INVALID;

    if (text(q, 1, q->a, sizeof(q->a))) {
        rc = bp_identity_load_or_create(q->a, &id, &q->err);
    }
    bp_identity_del(id);
    answer(r, rc, q, "");
}

static void keypair_save(struct request *q, struct drv_reply *r)
{
    const uint8_t *pub = bytes(q, 2, BP_KEY_LEN, NULL);
    const uint8_t *seed = bytes(q, 3, BP_KEY_LEN, NULL);
    int rc = BP_E_INVALID;

    if (text(q, 1, q->a, sizeof(q->a)) && pub != NULL && seed != NULL) {
        rc = bp_rotate_install(q->a, seed, pub, &q->err);
    }
    answer(r, rc, q, "");
}

static void keypair_new(struct drv_reply *r)
{
    uint8_t seed[BP_KEY_LEN];
    uint8_t pub[BP_KEY_LEN];
    int rc = bp_identity_generate(seed, pub);

    if (rc != 0) {
        drv_reply_error(r, rc, NULL);
    } else {
        drv_reply_ok(r);
        drv_reply_bytes(r, pub, sizeof(pub));
        drv_reply_bytes(r, seed, sizeof(seed));
    }
    bp_wipe(seed, sizeof(seed));
}

/* 1: a seed; with `sign`, 2: what to sign. The result is the signature, else the public key. */
static void with_seed(struct request *q, bool sign, struct drv_reply *r)
{
    const uint8_t *seed = bytes(q, 1, BP_KEY_LEN, NULL);
    struct bp_identity *id = NULL;
    uint8_t sig[BP_SIG_LEN];
    size_t len = 0;
    const uint8_t *msg = sign ? bytes(q, 2, 0, &len) : seed;
    int rc = BP_E_INVALID;

    if (seed != NULL && msg != NULL) {
        rc = bp_identity_new(&id, seed, NULL, bp_mem_libc());
    }
    if (rc == 0 && sign) {
        rc = bp_identity_sign(id, msg, len, sig);
    }
    if (rc != 0) {
        drv_reply_error(r, rc, NULL);
    } else {
        drv_reply_ok(r);
        if (sign) {
            drv_reply_bytes(r, sig, sizeof(sig));
        } else {
            drv_reply_bytes(r, bp_identity_pub(id), BP_KEY_LEN);
        }
    }
    bp_identity_del(id);
}

static void verify(const struct request *q, struct drv_reply *r)
{
    const uint8_t *pub = bytes(q, 1, BP_KEY_LEN, NULL);
    const uint8_t *sig = bytes(q, 3, BP_SIG_LEN, NULL);
    size_t len = 0;
    const uint8_t *msg = bytes(q, 2, 0, &len);
    int rc = pub != NULL && sig != NULL && msg != NULL ? bp_ed25519_verify(pub, msg, len, sig)
                                                       : BP_E_INVALID;

    if (rc != 0 && rc != BP_E_AUTH_SIGNATURE) {
        drv_reply_error(r, rc, NULL);
        return;
    }
    drv_reply_ok(r);
    drv_reply_uint(r, rc == 0, 1);
}

static void random_bytes(const struct request *q, struct drv_reply *r)
{
    uint8_t buf[RANDOM_MAX];
    uint64_t n = 0;
    int rc = BP_E_INVALID;

    if (drv_args_uint(q->p, q->len, 1, &n) && n > 0 && n <= sizeof(buf)) {
        rc = bp_random(buf, (size_t)n);
    }
    if (rc != 0) {
        drv_reply_error(r, rc, NULL);
        return;
    }
    drv_reply_ok(r);
    drv_reply_bytes(r, buf, (size_t)n);
    bp_wipe(buf, sizeof(buf));
}

static void name_match(struct request *q, struct drv_reply *r)
{
    if (!text(q, 1, q->a, sizeof(q->a)) || !text(q, 2, q->b, sizeof(q->b))) {
        drv_reply_error(r, BP_E_INVALID, NULL);
        return;
    }
    drv_reply_ok(r);
    drv_reply_uint(r, bp_node_name_match(q->a, q->b), 1);
}

static bool dispatch(unsigned op, struct request *q, struct drv_reply *r)
{
    switch (op) {
    case OP_CERT_INFO:
        cert_info(q, r);
        return true;
    case OP_ROTATE_CERT:
        rotate_cert(q, r);
        return true;
    case OP_ROTATE_IDENTITY:
        rotate_identity(q, r);
        return true;
    case OP_SERVER_BINDING:
        server_binding(r);
        return true;
    case OP_KEYPAIR_ENSURE:
        keypair_ensure(q, r);
        return true;
    case OP_KEYPAIR_SAVE:
        keypair_save(q, r);
        return true;
    case OP_KEYPAIR_NEW:
        keypair_new(r);
        return true;
    case OP_PUBLIC_KEY:
    case OP_SIGN:
        with_seed(q, op == OP_SIGN, r);
        return true;
    case OP_VERIFY:
        verify(q, r);
        return true;
    case OP_RANDOM:
        random_bytes(q, r);
        return true;
    case OP_NAME_MATCH:
        name_match(q, r);
        return true;
    default:
        return false;
    }
}

bool drv_key_op(unsigned op, const uint8_t *p, size_t len, struct drv_reply *r)
{
    struct request *q = bp_mem_zalloc(drv_mem(), 1, sizeof(*q));
    bool known = true;

    if (q == NULL) {
        drv_reply_error(r, BP_E_NOMEM, NULL);
        return true;
    }
    q->p = p;
    q->len = len;
    known = dispatch(op, q, r);
    drv_free(q);
    return known;
}
