/* SPDX-License-Identifier: Apache-2.0 */
/* CONFIG: one immutable snapshot of the node's settings, with its key and its certificate. */
#include "driver/drv.h"

#include "auth/node_name.h"
#include "io/identity_dir.h"
#include "io/rotate.h"
#include "io/tls_files.h"
#include "io/trust_store.h"
#include "quic/tls_cert.h"

#include <stdio.h>
#include <string.h>

enum {
    K_NODE_NAME = 1,
    K_CERT_FILE = 2,
    K_KEY_FILE = 3,
    K_KEY_DIR = 4,
    K_KEY_DIR_EXPLICIT = 5,
    K_TRUST_MODE = 6,
    K_AUTH_MODE = 7,
    K_SETUP_MS = 8,
    K_WINDOW_MS = 9,
    K_COOKIE_ONLY = 10,
    K_DIST_STREAMS = 11,
    K_MAX_FRAME = 12,
    K_BIND = 13,
    K_PORT = 14,
    K_FAMILY = 15,
    K_KEEPALIVE_MS = 16,
    K_IDLE_MS = 17,
    K_LOG_LEVEL = 18,
    K_MAX_DATAGRAM = 19,
    K_PREAMBLE_MS = 30,
    K_NO_MIGRATION = 31
};

struct drv_settings *drv_settings_ref(struct drv_settings *s)
{
    s->refs++;
    return s;
}

void drv_settings_unref(struct drv_settings *s)
{
    if (s == NULL || --s->refs != 0) {
        return;
    }
    bp_identity_del(s->identity);
    bp_tls_cred_unref(s->cred);
    bp_wipe(s->reset_secret, sizeof(s->reset_secret));
    drv_free(s->cookie_only);
    drv_free(s->cookie_only_ptrs);
    drv_free(s);
}

static int bad(struct bp_errbuf *err, const char *what)
{
    bp_errbuf_reset(err);
    snprintf(err->text, sizeof(err->text), "setting %s is missing or not usable", what);
    return BP_E_INVALID;
}

static uint64_t number(const uint8_t *p, size_t len, uint8_t key, uint64_t fallback, uint64_t min,
                       uint64_t max)
{
    uint64_t v = fallback;

    (void)drv_args_uint(p, len, key, &v);
    return v < min ? min : v > max ? max : v;
}

static bool is_text(uint8_t key)
{
    return key <= K_KEY_DIR || key == K_COOKIE_ONLY || key == K_BIND ||
           (key > K_MAX_DATAGRAM && key != K_PREAMBLE_MS && key != K_NO_MIGRATION);
}

/* A value that cannot be read must not become the default, which may be the less safe one. */
static int check_form(const uint8_t *p, size_t len, bool *has_bind, struct bp_errbuf *err)
{
    struct drv_args a;
    struct drv_arg arg;

    *has_bind = false;
    drv_args_init(&a, p, len);
    while (drv_args_next(&a, &arg)) {
        *has_bind = *has_bind || arg.key == K_BIND;
        if (!is_text(arg.key) && (arg.len == 0 || arg.len > 8)) {
            char what[32];
            snprintf(what, sizeof(what), "number %u", arg.key);
            return bad(err, what);
        }
    }
    return a.bad ? bad(err, "list") : 0;
}

static int read_numbers(struct drv_settings *s, const uint8_t *p, size_t len, struct bp_errbuf *err)
{
    char bind[BP_ADDR_TEXT_MAX];
    bool has_bind;
    int rc = check_form(p, len, &has_bind, err);

    if (rc != 0) {
        return rc;
    }
    s->auth_mode = (enum bp_auth_mode)number(p, len, K_AUTH_MODE, BP_AUTH_BUILTIN, BP_AUTH_NONE,
                                             BP_AUTH_EXTERNAL);
    s->trust_mode = (enum bp_trust_mode)number(p, len, K_TRUST_MODE, BP_TRUST_TOFU, BP_TRUST_TOFU,
                                               BP_TRUST_STRICT);
    s->setup_timeout = number(p, len, K_SETUP_MS, 7000, 1, 3600u * 1000u) * BP_MS;
    s->auth_window = number(p, len, K_WINDOW_MS, 30000, 1, 24u * 3600u * 1000u) * BP_MS;
    s->keepalive = number(p, len, K_KEEPALIVE_MS, 2000, 0, 3600u * 1000u) * BP_MS;
    s->idle_timeout = number(p, len, K_IDLE_MS, 300000, 1000, 24u * 3600u * 1000u) * BP_MS;
    s->dist_streams =
        (unsigned)number(p, len, K_DIST_STREAMS, BP_DIST_STREAMS_MAX, 1, BP_DIST_STREAMS_MAX);
    s->max_frame_bytes =
        (uint32_t)number(p, len, K_MAX_FRAME, BP_MAX_FRAME_BYTES_DEFAULT, 65536, UINT32_MAX);
    s->max_datagram =
        (uint32_t)number(p, len, K_MAX_DATAGRAM, BP_DGRAM_MAX, BP_DGRAM_MIN, BP_DGRAM_MAX);
    s->no_migration = number(p, len, K_NO_MIGRATION, 0, 0, 1) != 0;
    s->log_level = (enum drv_level)number(p, len, K_LOG_LEVEL, DRV_INFO, DRV_ERROR, DRV_DEBUG);
    s->preamble_timeout = number(p, len, K_PREAMBLE_MS, 10000, 1, 3600u * 1000u) * BP_MS;
    s->port = (uint16_t)number(p, len, K_PORT, 0, 0, UINT16_MAX);
    s->family = (int)number(p, len, K_FAMILY, 0, 0, 6);
    if (has_bind && (!drv_args_string(p, len, K_BIND, bind, sizeof(bind)) ||
                     bp_addr_parse(&s->bind, bind, s->port) != 0)) {
        return bad(err, "bind address (an IPv4 or IPv6 literal is wanted)");
    }
    return 0;
}

static int read_cookie_only(struct drv_settings *s, const uint8_t *p, size_t len,
                            struct bp_errbuf *err)
{
    struct drv_args a;
    struct drv_arg arg;
    size_t n = 0;

    drv_args_init(&a, p, len);
    while (drv_args_next(&a, &arg)) {
        n += arg.key == K_COOKIE_ONLY;
    }
    if (n == 0) {
        return 0;
    }
    s->cookie_only = bp_mem_zalloc(drv_mem(), n, sizeof(*s->cookie_only));
    s->cookie_only_ptrs = bp_mem_zalloc(drv_mem(), n, sizeof(*s->cookie_only_ptrs));
    if (s->cookie_only == NULL || s->cookie_only_ptrs == NULL) {
        return BP_E_NOMEM;
    }
    drv_args_init(&a, p, len);
    while (drv_args_next(&a, &arg)) {
        if (arg.key != K_COOKIE_ONLY) {
            continue;
        }
        if (arg.len > BP_NODE_NAME_MAX) {
            return bad(err, "cookie_only_nodes");
        }
        memcpy(s->cookie_only[s->n_cookie_only], arg.val, arg.len);
        s->cookie_only_ptrs[s->n_cookie_only] = s->cookie_only[s->n_cookie_only];
        s->n_cookie_only++;
    }
    return 0;
}

static int read_files(struct drv_settings *s, const uint8_t *p, size_t len, struct bp_errbuf *err)
{
    char cert[DRV_PATH_MAX];
    char key[DRV_PATH_MAX];
    char dir[DRV_PATH_MAX];
    uint64_t is_explicit = 0;
    int rc;

    if (!drv_args_string(p, len, K_CERT_FILE, cert, sizeof(cert)) ||
        !drv_args_string(p, len, K_KEY_FILE, key, sizeof(key))) {
        return bad(err, "cert_file or key_file");
    }
    rc = bp_tls_files_ensure(cert, key, s->node_name, &s->cred, err);
    if (rc != 0 || s->auth_mode != BP_AUTH_BUILTIN) {
        return rc;
    }
    (void)drv_args_uint(p, len, K_KEY_DIR_EXPLICIT, &is_explicit);
    if (!drv_args_string(p, len, K_KEY_DIR, dir, sizeof(dir))) {
        return bad(err, "auth_key_dir");
    }
    rc = bp_identity_dir_resolve(dir, is_explicit != 0, s->node_name, s->key_dir,
                                 sizeof(s->key_dir), err);
    if (rc == 0) {
        rc = bp_identity_load_or_create(s->key_dir, &s->identity, err);
    }
    if (rc == 0) {
        bp_rotate_succession(s->key_dir, s->node_name, bp_identity_pub(s->identity), &s->succession,
                             err->warning ? NULL : err);
        rc = bp_reset_secret(s->key_dir, s->identity, s->reset_secret, err->warning ? NULL : err);
        bp_trust_warn_loose(s->key_dir, err);
    }
    return rc;
}

int drv_settings_new(struct drv_settings **out, const uint8_t *p, size_t len, struct bp_errbuf *err)
{
    struct drv_settings *s = bp_mem_zalloc(drv_mem(), 1, sizeof(*s));
    int rc;

    *out = NULL;
    bp_errbuf_reset(err);
    if (s == NULL) {
        return BP_E_NOMEM;
    }
    s->refs = 1;
    /* Without an identity: nothing outlives the VM. */
    memcpy(s->reset_secret, drv_node.reset_secret, sizeof(s->reset_secret));
    if (!drv_args_string(p, len, K_NODE_NAME, s->node_name, sizeof(s->node_name)) ||
        !bp_node_name_valid(s->node_name, strlen(s->node_name))) {
        rc = bad(err, "node name (name@host with letters, digits, '_', '-' and '.', or an IPv6 "
                      "address as host)");
    } else {
        rc = read_numbers(s, p, len, err);
    }
    if (rc == 0) {
        rc = read_cookie_only(s, p, len, err);
    }
    if (rc == 0) {
        rc = read_files(s, p, len, err);
    }
    if (rc != 0) {
        drv_settings_unref(s);
        return rc;
    }
    *out = s;
    return 0;
}
