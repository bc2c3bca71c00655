/* SPDX-License-Identifier: Apache-2.0 */
/* Options of a node, and what is loaded according to them: cookie, identity, certificate. */
#include "cnode/cn.h"

#include "auth/node_name.h"
#include "io/identity_dir.h"
#include "io/reset_secret.h"
#include "io/rotate.h"
#include "io/tls_files.h"
#include "quic/tls_cert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define KEY_DIR     "data/keys"
#define CERT_DIR    "data/quic"
#define COOKIE_FILE ".erlang.cookie"
#define HOUR_MS     (3600u * 1000u)

void cn_options_init(struct cn_options *o)
{
    *o = (struct cn_options){.trust = BP_TRUST_TOFU,
                             .auth = true,
                             .setup_timeout = 7000 * BP_MS,
                             .auth_window = 30000 * BP_MS,
                             .keepalive = 2000 * BP_MS,
                             .idle_timeout = 60000 * BP_MS,
                             .max_frame = BP_MAX_FRAME_BYTES_DEFAULT,
                             .max_datagram = BP_DGRAM_MAX,
                             .send_buffer = 512u * 1024u,
                             .recv_buffer = 1024u * 1024u,
                             .max_peers = 65536};
}

static void free_secret(char *text)
{
    if (text != NULL) {
        bp_wipe(text, strlen(text));
        free(text);
    }
}

void cn_options_free(struct cn_options *o)
{
    free_secret(o->cookie);
    free(o->dir);
    free(o->key_dir);
    free(o->cert_file);
    free(o->cert_key_file);
    free(o->advertise);
    for (size_t i = 0; i < o->n_cookie_only; i++) {
        free(o->cookie_only[i]);
    }
    *o = (struct cn_options){0};
}

/* --- setting ------------------------------------------------------------- */

static int replace(char **slot, const char *value)
{
    char *copy = strdup(value);

    if (copy == NULL) {
        return cn_fail(BP_E_NOMEM, "%s", bp_err_text(BP_E_NOMEM));
    }
    free_secret(*slot);
    *slot = copy;
    return 0;
}

static int bad(const char *what)
{
    return cn_fail(BP_E_INVALID, "%s", what);
}

static int set_cookie(struct cn_options *o, const char *value)
{
    if (value[0] == '\0' || strlen(value) > BP_SHAKE_COOKIE_MAX) {
        return cn_fail(BP_E_INVALID, "a cookie has 1 to %u bytes", BP_SHAKE_COOKIE_MAX);
    }
    return replace(&o->cookie, value);
}

static int set_trust(struct cn_options *o, const char *value)
{
    if (strcmp(value, "tofu") == 0) {
        o->trust = BP_TRUST_TOFU;
    } else if (strcmp(value, "strict") == 0) {
        o->trust = BP_TRUST_STRICT;
    } else {
        return bad("trust is \"tofu\" or \"strict\"");
    }
    return 0;
}

static int add_cookie_only(struct cn_options *o, const char *value)
{
    int rc;

    if (o->n_cookie_only == CN_COOKIE_ONLY) {
        return cn_fail(BP_E_LIMIT, "too many names of nodes that need no key (%u)", CN_COOKIE_ONLY);
    }
    rc = replace(&o->cookie_only[o->n_cookie_only], value);
    o->n_cookie_only += rc == 0;
    return rc;
}

static int set_text(struct cn_options *o, enum bp_option option, const char *value)
{
    switch (option) {
    case BP_OPT_COOKIE:
        return set_cookie(o, value);
    case BP_OPT_DIR:
        return value[0] == '\0' ? bad("an empty directory") : replace(&o->dir, value);
    case BP_OPT_KEY_DIR:
        return value[0] == '\0' ? bad("an empty directory") : replace(&o->key_dir, value);
    case BP_OPT_CERT_FILE:
        return replace(&o->cert_file, value);
    case BP_OPT_CERT_KEY_FILE:
        return replace(&o->cert_key_file, value);
    case BP_OPT_TRUST:
        return set_trust(o, value);
    case BP_OPT_COOKIE_ONLY:
        return add_cookie_only(o, value);
    case BP_OPT_BIND:
        return bp_addr_parse(&o->bind, value, 0) == 0
                   ? 0
                   : bad("the address to bind is an IPv4 or IPv6 literal");
    case BP_OPT_ADVERTISE:
        return cn_advertise_valid(value) ? replace(&o->advertise, value)
                                         : bad("what to advertise is HOST, HOST:PORT or "
                                               "[IPV6]:PORT, at most 8 of them with "
                                               "commas between");
    default:
        return bad("no such option with a text");
    }
}

static int set_ms(bp_time *slot, uint64_t value, uint64_t min, uint64_t max)
{
    if (value < min || value > max) {
        return cn_fail(BP_E_INVALID, "wanted is a time of %llu to %llu ms", (unsigned long long)min,
                       (unsigned long long)max);
    }
    *slot = value * BP_MS;
    return 0;
}

static int set_in(uint64_t *slot, uint64_t value, uint64_t min, uint64_t max)
{
    if (value < min || value > max) {
        return cn_fail(BP_E_INVALID, "wanted is a number of %llu to %llu", (unsigned long long)min,
                       (unsigned long long)max);
    }
    *slot = value;
    return 0;
}

static int set_u32(uint32_t *slot, uint64_t value, uint64_t min, uint64_t max)
{
    uint64_t v = 0;
    int rc = set_in(&v, value, min, max);

    if (rc == 0) {
        *slot = (uint32_t)v;
    }
    return rc;
}

static int set_small(struct cn_options *o, enum bp_option option, uint64_t value)
{
    if (option == BP_OPT_PORT) {
        if (value > UINT16_MAX) {
            return bad("a port is a number of 0 to 65535");
        }
        o->port = (uint16_t)value;
    } else if (option == BP_OPT_FAMILY) {
        if (value != 0 && value != 4 && value != 6) {
            return bad("the family is 4, 6, or 0 for both");
        }
        o->family = (int)value;
    } else {
        o->auth = value != 0;
    }
    return 0;
}

static int set_number(struct cn_options *o, enum bp_option option, uint64_t value)
{
    switch (option) {
    case BP_OPT_PORT:
    case BP_OPT_FAMILY:
    case BP_OPT_AUTH:
        return set_small(o, option, value);
    case BP_OPT_SETUP_TIMEOUT:
        return set_ms(&o->setup_timeout, value, 1, HOUR_MS);
    case BP_OPT_AUTH_WINDOW:
        return set_ms(&o->auth_window, value, 1, 24u * HOUR_MS);
    case BP_OPT_KEEPALIVE:
        return set_ms(&o->keepalive, value, 0, HOUR_MS);
    case BP_OPT_IDLE_TIMEOUT:
        return set_ms(&o->idle_timeout, value, 1000, 24u * HOUR_MS);
    case BP_OPT_MAX_FRAME:
        return set_u32(&o->max_frame, value, 65536, UINT32_MAX);
    case BP_OPT_MAX_DATAGRAM:
        return set_u32(&o->max_datagram, value, BP_DGRAM_MIN, BP_DGRAM_MAX);
    case BP_OPT_SEND_BUFFER:
        return set_in(&o->send_buffer, value, 4096, UINT32_MAX);
    case BP_OPT_RECV_BUFFER:
        return set_in(&o->recv_buffer, value, 4096, UINT32_MAX);
    case BP_OPT_MAX_PEERS:
        return set_in(&o->max_peers, value, 1, 1u << 20);
    default:
        return bad("no such option with a number");
    }
}

int bp_node_set_text(struct bp_node *n, enum bp_option option, const char *value)
{
    int rc;

    (void)pthread_mutex_lock(&n->lock);
    if (n->started) {
        rc = cn_fail(BP_E_STATE, "options are set before the node is started");
    } else {
        rc = value == NULL ? bad("no value") : set_text(&n->opt, option, value);
    }
    (void)pthread_mutex_unlock(&n->lock);
    return rc;
}

int bp_node_set_number(struct bp_node *n, enum bp_option option, uint64_t value)
{
    int rc;

    (void)pthread_mutex_lock(&n->lock);
    rc = n->started ? cn_fail(BP_E_STATE, "options are set before the node is started")
                    : set_number(&n->opt, option, value);
    (void)pthread_mutex_unlock(&n->lock);
    return rc;
}

/* --- loading ------------------------------------------------------------- */

/* erl does not start with such a file, libei does. */
static void warn_open_cookie(struct bp_node *n, const char *path)
{
    struct stat st;

    if (stat(path, &st) == 0 && (st.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        cn_log(n, BP_LOG_WARNING, "cookie_file_open", n->name,
               "other users can read or write %s, and with it the cookie: run chmod 400 on it",
               path);
    }
}

/* The first line of the user's cookie file, as OTP has it. */
static int read_cookie(struct bp_node *n)
{
    const char *home = getenv("HOME");
    char path[CN_PATH_MAX];
    struct bp_errbuf err;
    uint8_t *text = NULL;
    size_t len = 0;
    int rc;

    if (home == NULL || bp_path_join(home, COOKIE_FILE, path, sizeof(path), &err) != 0) {
        return bad("no cookie: set BP_OPT_COOKIE (there is no $HOME/" COOKIE_FILE ")");
    }
    rc = bp_file_read(path, BP_SHAKE_COOKIE_MAX + 2, bp_mem_libc(), &text, &len, &err);
    if (rc != 0) {
        return cn_fail(rc == BP_E_NOT_FOUND ? BP_E_INVALID : rc, "no cookie: %s",
                       rc == BP_E_NOT_FOUND ? "set BP_OPT_COOKIE, or write $HOME/" COOKIE_FILE
                                            : err.text);
    }
    warn_open_cookie(n, path);
    text[strcspn((const char *)text, "\r\n")] = '\0';
    rc = set_cookie(&n->opt, (const char *)text);
    bp_wipe(text, len);
    free(text);
    return rc != BP_E_INVALID
               ? rc
               : cn_fail(rc, "%s: its first line is no cookie, which has 1 to %u bytes", path,
                         BP_SHAKE_COOKIE_MAX);
}

static int join(const struct cn_options *o, const char *name, char out[static CN_PATH_MAX])
{
    struct bp_errbuf err;
    int rc = bp_path_join(o->dir != NULL ? o->dir : ".", name, out, CN_PATH_MAX, &err);

    return rc == 0 ? 0 : cn_fail(rc, "%s", err.text);
}

static int load_cert(struct bp_node *n)
{
    const struct cn_options *o = &n->opt;
    char dir[CN_PATH_MAX];
    char own[CN_PATH_MAX];
    char cert[CN_PATH_MAX];
    char key[CN_PATH_MAX];
    struct bp_errbuf err;
    int rc;

    if ((o->cert_file == NULL) != (o->cert_key_file == NULL)) {
        return bad("BP_OPT_CERT_FILE and BP_OPT_CERT_KEY_FILE go together");
    }
    if (o->cert_file != NULL) {
        rc = bp_tls_files_ensure(o->cert_file, o->cert_key_file, n->name, &n->cred, &err);
        return rc == 0 ? 0 : cn_fail(rc, "%s", err.text);
    }
    rc = join(o, CERT_DIR, dir);
    if (rc != 0) {
        return rc;
    }
    rc = bp_identity_dir_resolve(dir, false, n->name, own, sizeof(own), &err);
    if (rc == 0) {
        rc = bp_path_join(own, BP_TLS_CERT_FILE, cert, sizeof(cert), &err);
    }
    if (rc == 0) {
        rc = bp_path_join(own, BP_TLS_KEY_FILE, key, sizeof(key), &err);
    }
    if (rc == 0) {
        rc = bp_tls_files_ensure(cert, key, n->name, &n->cred, &err);
    }
    if (rc == 0 && err.warning) {
        cn_log(n, BP_LOG_WARNING, "file_warning", n->name, "%s", err.text);
    }
    return rc == 0 ? 0 : cn_fail(rc, "%s", err.text);
}

static int load_identity(struct bp_node *n)
{
    const struct cn_options *o = &n->opt;
    char dir[CN_PATH_MAX];
    struct bp_errbuf err;
    int rc;

    if (o->key_dir == NULL) {
        rc = join(o, KEY_DIR, dir);
        if (rc != 0) {
            return rc;
        }
    }
    rc = bp_identity_dir_resolve(o->key_dir != NULL ? o->key_dir : dir, o->key_dir != NULL, n->name,
                                 n->key_dir, sizeof(n->key_dir), &err);
    if (rc == 0) {
        rc = bp_identity_load_or_create(n->key_dir, &n->identity, &err);
    }
    if (rc == 0) {
        bp_rotate_succession(n->key_dir, n->name, bp_identity_pub(n->identity), &n->succession,
                             err.warning ? NULL : &err);
    }
    if (rc == 0 && err.warning) {
        cn_log(n, BP_LOG_WARNING, "file_warning", n->name, "%s", err.text);
    }
    return rc == 0 ? 0 : cn_fail(rc, "%s", err.text);
}

static int make_secrets(struct bp_node *n)
{
    struct bp_errbuf err = {0};
    int rc = bp_random(n->nonce_secret, sizeof(n->nonce_secret));

    if (rc == 0 && n->identity != NULL) {
        rc = bp_reset_secret(n->key_dir, n->identity, n->reset_secret, &err);
    } else if (rc == 0) {
        rc = bp_random(n->reset_secret, sizeof(n->reset_secret));
    }
    if (rc == 0 && err.warning) {
        cn_log(n, BP_LOG_WARNING, "reset_secret", n->name, "%s", err.text);
    }
    return rc == 0 ? 0 : cn_fail(rc, "%s", bp_err_text(rc));
}

int cn_load(struct bp_node *n)
{
    int rc = 0;

    if (n->opt.cookie == NULL) {
        rc = read_cookie(n);
    }
    if (rc == 0 && n->cred == NULL) {
        rc = load_cert(n);
    }
    if (rc == 0 && n->opt.auth && n->identity == NULL) {
        rc = load_identity(n);
    }
    if (rc == 0) {
        rc = make_secrets(n);
    }
    for (size_t i = 0; i < n->opt.n_cookie_only; i++) {
        n->cookie_only[i] = n->opt.cookie_only[i];
    }
    return rc;
}
