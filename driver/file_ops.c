/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control operations on files: endpoints, TLS material, directories, trust store. They are here so
 * that Erlang can use them before the VM has a file server, and so that C nodes share them.
 */
#include "driver/drv.h"

#include "auth/node_name.h"
#include "discovery/endpoint.h"
#include "io/identity_dir.h"
#include "io/tls_files.h"
#include "io/trust_store.h"
#include "quic/tls_cert.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ENDPOINT_SUFFIX   ".endpoint"
#define ENDPOINT_FILE_MAX 1024u
#define ENDPOINTS_MAX     10000u

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

/* --- endpoints ----------------------------------------------------------- */

/* dir and node of arguments 1 and 2 -> <dir>/<node>.endpoint */
static int endpoint_path(const uint8_t *p, size_t len, struct request *q)
{
    char name[BP_NODE_NAME_MAX + sizeof(ENDPOINT_SUFFIX)];

    if (!drv_args_string(p, len, 1, q->a, sizeof(q->a)) ||
        !drv_args_string(p, len, 2, q->b, sizeof(q->b)) ||
        !bp_node_name_valid(q->b, strlen(q->b))) {
        return BP_E_INVALID;
    }
    snprintf(name, sizeof(name), "%.*s%s", (int)BP_NODE_NAME_MAX, q->b, ENDPOINT_SUFFIX);
    return bp_path_join(q->a, name, q->path, sizeof(q->path), &q->err);
}

static int read_endpoint(struct request *q, struct bp_endpoint *ep)
{
    uint8_t *text = NULL;
    size_t len = 0;
    int rc = bp_file_read(q->path, ENDPOINT_FILE_MAX, bp_mem_libc(), &text, &len, &q->err);

    if (rc != 0) {
        return rc;
    }
    rc = bp_endpoint_parse((const char *)text, len, ep);
    bp_mem_libc()->release(NULL, text);
    if (rc != 0) {
        bp_errbuf_set(&q->err, 0, "cannot use the endpoint file", q->path,
                      "it does not hold {\"host\",Port}.",
                      "remove it; its node writes a new one when it starts");
    }
    return rc;
}

static void endpoint_write(const uint8_t *p, size_t len, struct request *q, struct drv_reply *r)
{
    struct bp_endpoint ep = {0};
    char text[ENDPOINT_FILE_MAX];
    uint64_t port = 0;
    int rc = endpoint_path(p, len, q);

    if (rc == 0 && (!drv_args_string(p, len, 3, ep.host, sizeof(ep.host)) ||
                    !drv_args_uint(p, len, 4, &port) || port == 0 || port > UINT16_MAX)) {
        rc = BP_E_INVALID;
    }
    if (rc == 0) {
        ep.port = (uint16_t)port;
        rc = bp_endpoint_format(&ep, text, sizeof(text));
        rc = rc > 0 ? 0 : rc;
    }
    if (rc == 0) {
        rc = bp_mkdirs(q->a, 0700, &q->err);
    }
    if (rc == 0) {
        rc = bp_file_write_atomic(q->path, text, strlen(text), 0644, &q->err);
    }
    if (rc != 0) {
        fail(r, rc, q);
    } else {
        drv_reply_ok(r);
    }
}

static void endpoint_read(const uint8_t *p, size_t len, struct request *q, struct drv_reply *r)
{
    struct bp_endpoint ep;
    int rc = endpoint_path(p, len, q);

    if (rc == 0) {
        rc = read_endpoint(q, &ep);
    }
    if (rc != 0) {
        fail(r, rc, q);
        return;
    }
    drv_reply_ok(r);
    drv_reply_uint(r, ep.port, 2);
    drv_reply_bytes(r, ep.host, strlen(ep.host));
}

static void endpoint_delete(const uint8_t *p, size_t len, struct request *q, struct drv_reply *r)
{
    int rc = endpoint_path(p, len, q);

    if (rc == 0 && unlink(q->path) != 0 && errno != ENOENT) {
        bp_errbuf_set(&q->err, errno, "cannot remove the endpoint file", q->path, NULL, NULL);
        rc = BP_E_FILE;
    }
    if (rc != 0) {
        fail(r, rc, q);
    } else {
        drv_reply_ok(r);
    }
}

static void endpoint_list(const uint8_t *p, size_t len, struct request *q, struct drv_reply *r)
{
    char dir[DRV_PATH_MAX];
    const struct dirent *e;
    unsigned n = 0;
    DIR *d;

    if (!drv_args_string(p, len, 1, dir, sizeof(dir))) {
        drv_reply_error(r, BP_E_INVALID, NULL);
        return;
    }
    drv_reply_ok(r);
    d = opendir(dir);
    while (d != NULL && n < ENDPOINTS_MAX && (e = readdir(d)) != NULL) {
        size_t name_len = strlen(e->d_name);
        size_t suffix = sizeof(ENDPOINT_SUFFIX) - 1;
        struct bp_endpoint ep;

        if (name_len <= suffix || strcmp(e->d_name + name_len - suffix, ENDPOINT_SUFFIX) != 0 ||
            !bp_node_name_valid(e->d_name, name_len - suffix) ||
            bp_path_join(dir, e->d_name, q->path, sizeof(q->path), &q->err) != 0 ||
            read_endpoint(q, &ep) != 0) {
            continue;
        }
        drv_reply_uint(r, name_len - suffix, 1);
        drv_reply_bytes(r, e->d_name, name_len - suffix);
        drv_reply_uint(r, ep.port, 2);
        drv_reply_uint(r, strlen(ep.host), 1);
        drv_reply_bytes(r, ep.host, strlen(ep.host));
        n++;
    }
    if (d != NULL) {
        (void)closedir(d);
    }
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
    case OP_ENDPOINT_WRITE:
        endpoint_write(p, len, q, r);
        break;
    case OP_ENDPOINT_READ:
        endpoint_read(p, len, q, r);
        break;
    case OP_ENDPOINT_DELETE:
        endpoint_delete(p, len, q, r);
        break;
    case OP_ENDPOINT_LIST:
        endpoint_list(p, len, q, r);
        break;
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
