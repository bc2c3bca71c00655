/* SPDX-License-Identifier: Apache-2.0 */
/* barrel-p2p cert: the TLS certificate that a node shows. */
#include "cli/cli.h"

#include "base/err.h"
#include "cli/key_text.h"
#include "io/rotate.h"
#include "io/tls_files.h"
#include "quic/tls_cert.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define DAY 86400

struct cert_files {
    char dir[PATH_MAX];
    char cert[PATH_MAX];
    char key[PATH_MAX]; /* "": a certificate without its key */
};

static int find_files(const struct cli *c, enum cli_use use, struct cert_files *f)
{
    struct bp_errbuf err;
    int status = cli_dir(c, use, CLI_CERT_DIR, f->dir);

    if (status != CLI_OK) {
        return status;
    }
    int rc = bp_path_join(f->dir, BP_TLS_CERT_FILE, f->cert, sizeof(f->cert), &err);
    if (rc == 0) {
        rc = bp_path_join(f->dir, BP_TLS_KEY_FILE, f->key, sizeof(f->key), &err);
    }
    return rc == 0 ? CLI_OK : cli_fail_rc(c, rc, &err);
}

/* --- reading ------------------------------------------------------------------- */

/* 0, BP_E_NOT_FOUND, BP_E_FILE, BP_E_NOMEM; with a sentence. */
static int read_info(const char *file, struct bp_tls_cert_info *info, struct bp_errbuf *err)
{
    uint8_t *pem = NULL;
    size_t len = 0;
    char why[256];
    int rc = bp_file_read(file, BP_TLS_CERT_PEM_MAX, bp_mem_libc(), &pem, &len, err);

    if (rc != 0) {
        return rc;
    }
    rc = bp_tls_cert_info((const char *)pem, len, info, why, sizeof(why));
    if (rc != 0) {
        bp_errbuf_set(err, 0, "cannot use the TLS certificate", file, why,
                      "replace it, or make a new one with 'barrel-p2p cert renew --force'");
    }
    bp_wipe(pem, len); /* a key may be in it */
    bp_mem_libc()->release(NULL, pem);
    return rc;
}

/* True, false, or null where the key cannot be read; the reason is on stderr. */
static json_t *key_matches(const struct cert_files *f)
{
    struct bp_errbuf err;
    struct bp_tls_cred *cred = NULL;
    uint8_t *cert = NULL;
    uint8_t *key = NULL;
    size_t cert_len = 0;
    size_t key_len = 0;
    char why[256] = "";
    int rc = bp_file_read(f->cert, BP_TLS_CERT_PEM_MAX, bp_mem_libc(), &cert, &cert_len, &err);

    if (rc == 0) {
        rc = bp_file_read(f->key, BP_TLS_KEY_PEM_MAX, bp_mem_libc(), &key, &key_len, &err);
    }
    if (rc != 0) {
        cli_warn("%s", err.text);
        bp_mem_libc()->release(NULL, cert);
        return json_null();
    }
    rc = bp_tls_cred_load((const char *)cert, cert_len, (const char *)key, key_len, &cred, why,
                          sizeof(why));
    bp_tls_cred_unref(cred);
    bp_wipe(key, key_len);
    bp_mem_libc()->release(NULL, key);
    bp_mem_libc()->release(NULL, cert);
    if (rc != 0) {
        cli_warn("%s: a node will refuse to start with %s", why, f->key);
    }
    bp_errbuf_reset(&err);
    bp_file_warn_loose(f->key, &err);
    cli_warn_err(&err);
    return json_boolean(rc == 0);
}

/* --- show ---------------------------------------------------------------------- */

static json_t *info_json(const struct bp_tls_cert_info *i, const char *file, int64_t now)
{
    char hash[2 * BP_BINDING_LEN + 1];
    char from[32];
    char until[32];

    cli_hex(i->binding, sizeof(i->binding), hash);
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:b, s:b, s:I, s:s}", "file", file, "subject",
        i->subject, "issuer", i->issuer, "serial", i->serial, "key", i->key, "not_before",
        cli_time(i->not_before, from), "not_after", cli_time(i->not_after, until), "days_left",
        (json_int_t)((i->not_after - now) / DAY), "expired", i->not_after < now, "generated",
        i->generated, "certificates", (json_int_t)i->n_certs, "sha256", hash);
}

/* Prints the certificate at `f`; `backup` is where the old one is, NULL: none was replaced. */
static int show(const struct cli *c, const struct cert_files *f, const char *backup)
{
    struct bp_tls_cert_info info;
    struct bp_errbuf err;
    int64_t now = (int64_t)time(NULL);
    json_t *match = NULL;
    json_t *o;
    int status = CLI_OK;
    int rc = read_info(f->cert, &info, &err);

    if (rc == BP_E_NOT_FOUND) {
        return cli_fail(
            c, CLI_NOT_FOUND, "not_found",
            "there is no certificate %s; a node makes one at its first boot, 'barrel-p2p "
            "cert renew' does it now",
            f->cert);
    }
    if (rc != 0) {
        return cli_fail_rc(c, rc, &err);
    }
    o = info_json(&info, f->cert, now);
    if (o != NULL && f->key[0] != '\0') {
        match = key_matches(f);
        status = json_is_false(match) ? CLI_FAILED : CLI_OK;
        if (json_object_set_new(o, "key_file", json_string(f->key)) != 0 ||
            json_object_set_new(o, "key_matches", match) != 0) {
            json_decref(o);
            o = NULL;
        }
    }
    if (o != NULL && backup != NULL) {
        (void)json_object_set_new(o, "backup_dir",
                                  backup[0] != '\0' ? json_string(backup) : json_null());
    }
    if (info.not_after < now) {
        cli_warn(
            "the certificate has expired; nodes accept it, but 'barrel-p2p cert renew' is due");
    }
    rc = cli_print(c, o);
    return rc != CLI_OK ? rc : status;
}

static int cert_show(struct cli *c)
{
    struct cert_files f = {0};
    int status;

    if (c->n_args == 0) {
        status = find_files(c, CLI_READ, &f);
        return status == CLI_OK ? show(c, &f, NULL) : status;
    }
    (void)snprintf(f.cert, sizeof(f.cert), "%s", c->args[0]);
    return show(c, &f, NULL);
}

/* --- renew --------------------------------------------------------------------- */

/* --node, or the name in the old certificate. */
static int choose_cn(const struct cli *c, const struct cert_files *f, char cn[static PATH_MAX])
{
    struct bp_tls_cert_info info;
    int rc = 0;

    if (c->node != NULL) {
        (void)snprintf(cn, PATH_MAX, "%s", c->node);
        return CLI_OK;
    }
    rc = read_info(f->cert, &info, NULL);
    if (rc == 0 && info.cn[0] != '\0') {
        (void)snprintf(cn, PATH_MAX, "%s", info.cn);
        return CLI_OK;
    }
    return cli_fail(c, CLI_USAGE, "usage",
                    "no certificate in %s says whose it is: give the node's name with --node",
                    f->dir);
}

static int cert_renew(struct cli *c)
{
    struct cert_files f = {0};
    struct bp_errbuf err;
    char cn[PATH_MAX];
    char backup[PATH_MAX];
    int rc;
    int status = find_files(c, CLI_WRITE_SECRETS, &f);

    if (status == CLI_OK) {
        status = cli_check_secret(c, f.key);
    }
    if (status == CLI_OK) {
        status = choose_cn(c, &f, cn);
    }
    if (status != CLI_OK) {
        return status;
    }
    rc = (c->force ? bp_rotate_cert_any : bp_rotate_cert)(f.cert, f.key, cn, backup, sizeof(backup),
                                                          &err);
    if (rc == BP_E_STATE) {
        return cli_fail(
            c, CLI_EXISTS, "user_certificate",
            "%s was not made by barrel_p2p, so it is yours to renew; --force puts one of "
            "barrel_p2p's in its place and keeps yours in backups/",
            f.cert);
    }
    if (rc != 0) {
        return cli_fail_rc(c, rc, &err);
    }
    cli_warn_err(&err);
    return show(c, &f, backup);
}

/* --- the table ----------------------------------------------------------------- */

const struct cli_command cli_cert_commands[] = {
    {
        .name = "show",
        .args = "[FILE]",
        .summary = "show the certificate and whether its key belongs to it",
        .details =
            "Without FILE: node.crt and node.key of this node. 'generated' says that barrel_p2p\n"
            "made it, so that it is renewed without asking. The certificate proves nothing\n"
            "about identity; that is the work of the keys of `barrel-p2p trust`.",
        .examples = "barrel-p2p cert show\n"
                    "barrel-p2p cert show --node b@host --json\n"
                    "barrel-p2p cert show /etc/ssl/my.pem",
        .options = CLI_OPT_DIR | CLI_OPT_NODE | CLI_OPT_JSON,
        .max_args = 1,
        .run = cert_show,
    },
    {
        .name = "renew",
        .args = "",
        .summary = "make a new certificate and key",
        .details = "For the node of --node, or of the old certificate. The old pair is kept in\n"
                   "backups/. One that you provided is only replaced with --force. A running node\n"
                   "takes the new pair over within a day, or at once after\n"
                   "barrel_p2p_dist_auth:cache_server_cert_binding(); connections stay.",
        .examples = "barrel-p2p cert renew\n"
                    "barrel-p2p cert renew --dir /var/lib/myapp/quic --node a@host",
        .options = CLI_OPT_DIR | CLI_OPT_NODE | CLI_OPT_FORCE | CLI_OPT_JSON,
        .run = cert_renew,
    },
    {0},
};
