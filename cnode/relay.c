/* SPDX-License-Identifier: Apache-2.0 */
/* What the program says about relays: checked, copied, and the table of those that hold for good.
 */
#include "cnode/cn.h"
#include "cnode/path.h"

#include "auth/node_name.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HOST_MAX 253u

static int bad(const char *what)
{
    return cn_fail(BP_E_INVALID, "%s", what);
}

static bool text_ok(const char *text, size_t max)
{
    return text != NULL && text[0] != '\0' && strnlen(text, max + 1) <= max;
}

static int check(const struct bp_relay *r)
{
    if (r->size < sizeof(*r)) {
        return bad("a relay's size is sizeof(struct bp_relay)");
    }
    if (r->mtu != 0 && (r->mtu < BP_DGRAM_MIN || r->mtu > BP_DGRAM_MAX)) {
        return cn_fail(BP_E_INVALID, "a relay's mtu is a number of %u to %u", BP_DGRAM_MIN,
                       BP_DGRAM_MAX);
    }
    switch (r->kind) {
    case BP_RELAY_SOCKS5:
        if ((r->user == NULL) != (r->password == NULL) ||
            (r->user != NULL && (!text_ok(r->user, BP_SOCKS5_TEXT_MAX) ||
                                 !text_ok(r->password, BP_SOCKS5_TEXT_MAX)))) {
            return bad("a proxy's user name and password go together and have 1 to 255 bytes");
        }
        break;
    case BP_RELAY_FD:
        return r->fd >= 0 ? 0 : bad("a relay without its descriptor");
    case BP_RELAY_FUNCTIONS:
        return r->functions != NULL && r->functions->send != NULL
                   ? 0
                   : bad("a relay of functions without `send`");
    case BP_RELAY_UDP:
        break;
    default:
        return bad("no such kind of relay");
    }
    return text_ok(r->host, HOST_MAX) && r->port != 0 ? 0 : bad("a relay has a host and a port");
}

static void free_secret(char *text)
{
    if (text != NULL) {
        bp_wipe(text, strlen(text));
        free(text);
    }
}

void cn_relay_unref(struct cn_relay *r)
{
    if (r == NULL || --r->refs > 0) {
        return;
    }
    free(r->host);
    free(r->user);
    free_secret(r->password);
    if (r->fd >= 0) {
        (void)close(r->fd);
    }
    free(r);
}

struct cn_relay *cn_relay_ref(struct cn_relay *r)
{
    if (r != NULL) {
        r->refs++;
    }
    return r;
}

static int copy_text(char **out, const char *text)
{
    *out = text != NULL ? strdup(text) : NULL;
    return text == NULL || *out != NULL ? 0 : cn_fail(BP_E_NOMEM, "%s", bp_err_text(BP_E_NOMEM));
}

/* Says at once what bp_relay_path_open would say. */
static int copy_fd(int *out, int fd)
{
    int type = 0;
    socklen_t len = sizeof(type);

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) != 0 || type != SOCK_DGRAM) {
        return cn_fail(BP_E_INVALID, "descriptor %d is no datagram socket", fd);
    }
    *out = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return *out >= 0 ? 0
                     : cn_fail(BP_E_LIMIT, "descriptor %d cannot be used: %s", fd, strerror(errno));
}

int cn_relay_new(struct cn_relay **out, const struct bp_relay *from)
{
    struct cn_relay *r;
    int rc = check(from);

    *out = NULL;
    if (rc != 0) {
        return rc;
    }
    r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return cn_fail(BP_E_NOMEM, "%s", bp_err_text(BP_E_NOMEM));
    }
    r->refs = 1;
    r->kind = from->kind;
    r->port = from->port;
    r->fd = -1;
    r->mtu = from->mtu;
    if (from->kind == BP_RELAY_FUNCTIONS) {
        r->functions = *from->functions;
        r->ctx = from->ctx;
    } else if (from->kind == BP_RELAY_FD) {
        r->user_fd = from->fd;
        rc = copy_fd(&r->fd, from->fd);
    } else {
        rc = copy_text(&r->host, from->host);
    }
    if (rc == 0 && from->kind == BP_RELAY_SOCKS5) {
        rc = copy_text(&r->user, from->user);
        rc = rc == 0 ? copy_text(&r->password, from->password) : rc;
    }
    if (rc != 0) {
        cn_relay_unref(r);
        return rc;
    }
    *out = r;
    return 0;
}

/* --- the table ----------------------------------------------------------- */

static struct cn_relay_row **find(struct bp_node *n, const char *name)
{
    struct cn_relay_row **at = &n->relays;

    while (*at != NULL && strcmp((*at)->name, name) != 0) {
        at = &(*at)->next;
    }
    return at;
}

struct cn_relay *cn_relay_of(struct bp_node *n, const char *name)
{
    const struct cn_relay_row *row = *find(n, name);

    return row != NULL ? row->relay : NULL;
}

static void remove_row(struct bp_node *n, struct cn_relay_row **at)
{
    struct cn_relay_row *row = *at;

    *at = row->next;
    n->n_relays--;
    cn_relay_unref(row->relay);
    free(row);
}

void cn_relays_free(struct bp_node *n)
{
    while (n->relays != NULL) {
        remove_row(n, &n->relays);
    }
}

static int set(struct bp_node *n, const char *name, struct cn_relay *relay)
{
    struct cn_relay_row **at = find(n, name);
    struct cn_relay_row *row = *at;

    if (row != NULL) {
        cn_relay_unref(row->relay);
        row->relay = relay;
        return 0;
    }
    if (n->n_relays == CN_STATIC_MAX) {
        return cn_fail(BP_E_LIMIT, "too many nodes with relays (%u)", CN_STATIC_MAX);
    }
    row = calloc(1, sizeof(*row));
    if (row == NULL) {
        return cn_fail(BP_E_NOMEM, "%s", bp_err_text(BP_E_NOMEM));
    }
    memcpy(row->name, name, strlen(name) + 1);
    row->relay = relay;
    *at = row;
    n->n_relays++;
    return 0;
}

int bp_node_set_relay(struct bp_node *n, const char *name, const struct bp_relay *relay)
{
    struct cn_relay *copy = NULL;
    int rc = 0;

    if (name == NULL || !bp_node_name_valid(name, strlen(name))) {
        return cn_fail(BP_E_INVALID, "'%.255s' is no node name", name != NULL ? name : "");
    }
    if (relay != NULL) {
        rc = cn_relay_new(&copy, relay);
    }
    if (rc != 0) {
        return rc;
    }
    (void)pthread_mutex_lock(&n->lock);
    if (relay != NULL) {
        rc = set(n, name, copy);
        if (rc != 0) {
            cn_relay_unref(copy);
        }
    } else if (*find(n, name) != NULL) {
        remove_row(n, find(n, name));
    }
    (void)pthread_mutex_unlock(&n->lock);
    return rc;
}
