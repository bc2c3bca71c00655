/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control operations on files: TLS material, directories, trust store. They are here so that Erlang
 * can use them before the VM has a file server, and so that C nodes share them.
 */
#include "driver/drv.h"

#include "io/identity_dir.h"
#include "io/tls_files.h"
#include "io/trust_store.h"
#include "quic/tls_cert.h"

#include <string.h>

struct request {
    char a[DRV_PATH_MAX];
    char b[DRV_PATH_MAX];
    char path[DRV_PATH_MAX];
    struct bp_errbuf err;
};

static void fail(struct drv_reply *r, int rc, const struct request *q)
{
    drv_reply_error(r, rc, q->err.text);
}

/* --- TLS files and directories ------------------------------------------- */

static void tls_ensure(const uint8_t *p, size_t len, struct request *q, struct drv_reply *r)
{
    char cn[BP_NODE_NAME_MAX + 1];
    struct bp_tls_cred *cred = NULL;
    int rc = BP_E_INVALID;

    if (drv_args_string(p, len, 1, q->a, sizeof(q->a)) &&
        drv_args_string(p, len, 2, q->b, sizeof(q->b)) &&
        drv_args_string(p, len, 3, cn, sizeof(cn))) {
        rc = bp_tls_files_ensure(q->a, q->b, cn, &cred, &q->err);
    }
    if (rc != 0) {
        fail(r, rc, q);
        return;
    }
    drv_reply_ok(r);
    drv_reply_uint(r, (uint64_t)bp_tls_cred_not_after(cred), 8);
    bp_tls_cred_unref(cred);
}

static void dir_resolve(const uint8_t *p, size_t len, struct request *q, struct drv_reply *r)
{
    uint64_t is_explicit = 0;
    int rc = BP_E_INVALID;

    (void)drv_args_uint(p, len, 2, &is_explicit);
    if (drv_args_string(p, len, 1, q->a, sizeof(q->a)) &&
        drv_args_string(p, len, 3, q->b, sizeof(q->b))) {
        rc = bp_identity_dir_resolve(q->a, is_explicit != 0, q->b, q->path, sizeof(q->path),
                                     &q->err);
    }
    if (rc != 0) {
        fail(r, rc, q);
        return;
    }
    drv_reply_ok(r);
    drv_reply_bytes(r, q->path, strlen(q->path));
}

/* --- trust store --------------------------------------------------------- */

static bool find_key(const uint8_t *p, size_t len, uint8_t key[static BP_KEY_LEN])
{
    struct drv_args a;
    struct drv_arg arg;

    drv_args_init(&a, p, len);
    while (drv_args_next(&a, &arg)) {
        if (arg.key == 3 && arg.len == BP_KEY_LEN) {
            memcpy(key, arg.val, BP_KEY_LEN);
            return true;
        }
    }
    return false;
}

static void trust(unsigned op, const uint8_t *p, size_t len, struct request *q, struct drv_reply *r)
{
    uint8_t key[BP_KEY_LEN];
    int rc = BP_E_INVALID;

    if (drv_args_string(p, len, 1, q->a, sizeof(q->a)) &&
        drv_args_string(p, len, 2, q->b, sizeof(q->b))) {
        if (op == OP_TRUST_LOOKUP) {
            rc = bp_trust_lookup(q->a, q->b, key, &q->err);
        } else if (op == OP_TRUST_DELETE) {
            rc = bp_trust_delete(q->a, q->b, &q->err);
        } else if (find_key(p, len, key)) {
            rc = op == OP_TRUST_STORE ? bp_trust_store(q->a, q->b, key, &q->err)
                                      : bp_trust_store_if_new(q->a, q->b, key, &q->err);
        }
    }
    if (rc != 0) {
        fail(r, rc, q);
        return;
    }
    drv_reply_ok(r);
    if (op == OP_TRUST_LOOKUP) {
        drv_reply_bytes(r, key, sizeof(key));
    }
}

static bool add_entry(void *ctx, const struct bp_trust_entry *e)
{
    struct drv_reply *r = ctx;

    if (e->key != NULL) {
        drv_reply_uint(r, strlen(e->node), 1);
        drv_reply_bytes(r, e->node, strlen(e->node));
        drv_reply_bytes(r, e->key, BP_KEY_LEN);
    }
    return true;
}

static void trust_list(const uint8_t *p, size_t len, struct request *q, struct drv_reply *r)
{
    int rc = BP_E_INVALID;

    drv_reply_ok(r);
    if (drv_args_string(p, len, 1, q->a, sizeof(q->a))) {
        rc = bp_trust_list(q->a, add_entry, r, &q->err);
    }
    if (rc != 0 && rc != BP_E_NOT_FOUND) {
        fail(r, rc, q);
    }
}

static void fingerprint(const uint8_t *p, size_t len, struct drv_reply *r)
{
    char text[BP_FINGERPRINT_TEXT];

    if (len != BP_KEY_LEN) {
        drv_reply_error(r, BP_E_INVALID, NULL);
        return;
    }
    bp_fingerprint_text(p, text);
    drv_reply_ok(r);
    drv_reply_bytes(r, text, strlen(text));
}

bool drv_file_op(unsigned op, const uint8_t *p, size_t len, struct drv_reply *r)
{
    struct request *q = bp_mem_zalloc(drv_mem(), 1, sizeof(*q));
    bool known = true;

    if (q == NULL) {
        drv_reply_error(r, BP_E_NOMEM, NULL);
        return true;
    }
    switch (op) {
    case OP_TLS_ENSURE:
        tls_ensure(p, len, q, r);
        break;
    case OP_DIR_RESOLVE:
        dir_resolve(p, len, q, r);
        break;
    case OP_TRUST_STORE:
    case OP_TRUST_STORE_IF_NEW:
    case OP_TRUST_LOOKUP:
    case OP_TRUST_DELETE:
        trust(op, p, len, q, r);
        break;
    case OP_TRUST_LIST:
        trust_list(p, len, q, r);
        break;
    case OP_FINGERPRINT:
        fingerprint(p, len, r);
        break;
    default:
        known = false;
    }
    drv_free(q);
    return known;
}
