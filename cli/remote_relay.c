/* SPDX-License-Identifier: Apache-2.0 */
/* --relay of ping, call, send and peers: what lies between, and its password. */
#include "cli/relay_url.h"
#include "cli/remote.h"

#include "base/err.h"

#include <barrel_p2p/relay.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PASSWORD_ENV "BARREL_P2P_RELAY_PASSWORD"
#define PASSWORD_MAX 255u

static int bad_secret(const struct cli *c, const char *what)
{
    return cli_fail(c, CLI_USAGE, "badarg", "--relay-secret %s: %s", c->relay_secret, what);
}

/* The first line of the file; nobody else may read it. */
static int read_secret(const struct cli *c, char out[static PASSWORD_MAX + 1])
{
    struct bp_errbuf err;
    struct stat st;
    uint8_t *text = NULL;
    size_t len = 0;
    size_t n;
    int rc;

    if (stat(c->relay_secret, &st) == 0 && (st.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        return cli_fail(c, CLI_UNSAFE, "unsafe_file",
                        "--relay-secret %s: other users can read or write the file (mode %04o); "
                        "run 'chmod 600 %s', and change the password if it matters",
                        c->relay_secret, (unsigned)(st.st_mode & 07777), c->relay_secret);
    }
    rc = bp_file_read(c->relay_secret, PASSWORD_MAX + 3, bp_mem_libc(), &text, &len, &err);
    if (rc != 0) {
        return cli_fail_rc(c, rc, &err);
    }
    n = strcspn((const char *)text, "\r\n");
    if (n > 0 && n <= PASSWORD_MAX) {
        memcpy(out, text, n);
        out[n] = '\0';
    }
    bp_wipe(text, len);
    free(text);
    return n > 0 && n <= PASSWORD_MAX ? CLI_OK : bad_secret(c, "its first line has 1 to 255 bytes");
}

static int password(const struct cli *c, char out[static PASSWORD_MAX + 1])
{
    const char *env = getenv(PASSWORD_ENV);

    if (c->relay_secret != NULL) {
        return read_secret(c, out);
    }
    if (env == NULL || env[0] == '\0' || strlen(env) > PASSWORD_MAX) {
        return cli_fail(c, CLI_USAGE, "badarg",
                        "--relay names a user, and there is no password (1 to 255 bytes): it goes "
                        "into $" PASSWORD_ENV " or a file (--relay-secret)");
    }
    memcpy(out, env, strlen(env) + 1);
    return CLI_OK;
}

static int set(struct cli_remote *r, const struct cli_relay_url *url, const char *secret)
{
    struct bp_relay relay = {.size = sizeof(relay),
                             .kind = url->scheme == CLI_RELAY_UDP ? BP_RELAY_UDP : BP_RELAY_SOCKS5,
                             .host = url->host,
                             .port = url->port,
                             .mtu = url->mtu};
    int rc;

    if (url->user[0] != '\0') {
        relay.user = url->user;
        relay.password = secret;
    }
    rc = bp_node_set_relay(r->node, r->peer, &relay);
    return rc == 0 ? CLI_OK : cli_remote_report(r, rc, bp_error_detail());
}

int cli_remote_relay(struct cli_remote *r)
{
    const struct cli *c = r->c;
    struct cli_relay_url url;
    char secret[PASSWORD_MAX + 1] = "";
    const char *why;
    int status = CLI_OK;

    if (c->relay == NULL) {
        return c->relay_secret == NULL ? CLI_OK : bad_secret(c, "there is no --relay");
    }
    if (cli_relay_url_parse(c->relay, &url, &why) != 0) {
        /* The text may hold a password. */
        return cli_fail(c, CLI_USAGE, "badarg", "--relay: %s", why);
    }
    if (url.user[0] != '\0') {
        status = password(c, secret);
    } else if (c->relay_secret != NULL) {
        status = bad_secret(c, "--relay names no user (socks5://USER@HOST:PORT)");
    }
    if (status == CLI_OK) {
        status = set(r, &url, secret);
    }
    bp_wipe(secret, sizeof(secret));
    r->relay_knows = url.scheme == CLI_RELAY_UDP;
    return status;
}
