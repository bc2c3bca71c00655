/* SPDX-License-Identifier: Apache-2.0 */
/* Our own node of ping, call, send and peers: who we are, how nodes are found, what errors mean. */
#include "cli/remote.h"

#include "base/err.h"
#include "cli/term_text.h"
#include "io/name_claim.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NAMES_MAX 16 /* of this command at once, by one user on one machine */

uint64_t cli_now_us(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

unsigned cli_remote_left(const struct cli_remote *r)
{
    uint64_t now = cli_now_us() / 1000;

    return now < r->deadline ? (unsigned)(r->deadline - now) : 0;
}

/* --- errors ---------------------------------------------------------------------------------- */

static int status_of(int error)
{
    switch (error) {
    case BP_ERROR_NOT_FOUND:
        return CLI_NOT_FOUND;
    case BP_ERROR_TIMEOUT:
    case BP_ERROR_IDLE_TIMEOUT:
        return CLI_TIMEOUT;
    case BP_ERROR_AUTH_REJECTED:
    case BP_ERROR_COOKIE:
    case BP_ERROR_NOT_ALLOWED:
        return CLI_REFUSED;
    case BP_ERROR_REFUSED:
    case BP_ERROR_PEER_CLOSED:
    case BP_E_STATELESS_RESET:
    case BP_ERROR_RELAY:
        return CLI_NO_ANSWER;
    case BP_ERROR_INVALID:
        return CLI_USAGE;
    case BP_ERROR_DUPLICATE_NAME:
        return CLI_EXISTS;
    default:
        return bp_err_class(error) == BP_ERR_PEER ? CLI_REFUSED : CLI_FAILED;
    }
}

/* An Erlang node that does not like our cookie ends the connection and says nothing. */
static int closed_in_handshake(struct cli_remote *r, const char *text)
{
    return cli_fail(r->c, CLI_REFUSED, "refused",
                    "%s: %s, before the connection was up: most often the cookie is another one "
                    "(--cookie); that node's log knows",
                    r->peer, text[0] != '\0' ? text : bp_error_text(BP_ERROR_PEER_CLOSED));
}

int cli_remote_not_up(struct cli_remote *r, int error, const char *text)
{
    return error == BP_ERROR_PEER_CLOSED ? closed_in_handshake(r, text)
                                         : cli_remote_report(r, error, text);
}

/* Also the first thing that goes wrong for somebody who has only just started two nodes. */
static int wrong_cookie(struct cli_remote *r, const char *text)
{
    return cli_fail(r->c, CLI_REFUSED, bp_error_name(BP_ERROR_COOKIE),
                    "%s: %s; ours is that of %s, others come from --cookie or --config (a node "
                    "that was given none has the public one, barrel_p2p)",
                    r->peer, text[0] != '\0' ? text : bp_error_text(BP_ERROR_COOKIE),
                    r->cookie_from != NULL ? r->cookie_from : "~/.erlang.cookie");
}

int cli_remote_report(struct cli_remote *r, int error, const char *text)
{
    if (error == BP_ERROR_COOKIE) {
        return wrong_cookie(r, text);
    }
    return cli_fail(r->c, status_of(error), bp_error_name(error), "%s: %s", r->peer,
                    text[0] != '\0' ? text : bp_error_text(error));
}

/* --- who we are ------------------------------------------------------------------------------ */

/* What a node name may hold stays, anything else becomes '_'. */
static void clean(char *text)
{
    for (char *p = text; *p != '\0'; p++) {
        bool ok = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                  (*p >= '0' && *p <= '9') || *p == '.' || *p == '-' || *p == '_';
        if (!ok || (p == text && (*p == '.' || *p == '-'))) {
            *p = '_';
        }
    }
}

static int name_taken(const struct cli_remote *r, const struct bp_errbuf *err)
{
    return cli_fail(r->c, CLI_EXISTS, bp_err_atom(BP_E_DUPLICATE_NAME), "%s", err->text);
}

/* Claims `r->self`; CLI_EXISTS, not reported: somebody has it. */
static int claim(struct cli_remote *r, struct bp_errbuf *err)
{
    int rc = bp_name_claim(r->self, &r->claim, err);

    if (rc == BP_E_DUPLICATE_NAME) {
        return CLI_EXISTS;
    }
    return rc == 0 ? CLI_OK : cli_fail_rc(r->c, rc, err);
}

/*
 * barrel_p2p_USER@HOST, or barrel_p2p_USER_2@HOST and so on while others run: nodes pin our key to
 * our name, so that it should be the same each time, and one node cannot be connected twice.
 */
static int choose_name(struct cli_remote *r)
{
    const struct passwd *pw = getpwuid(geteuid());
    struct bp_errbuf err;
    char user[64];
    char host[128];
    int status = CLI_EXISTS;

    if (r->c->self != NULL) {
        (void)snprintf(r->self, sizeof(r->self), "%s", r->c->self);
        status = claim(r, &err);
        return status == CLI_EXISTS ? name_taken(r, &err) : status;
    }
    if (pw != NULL) {
        (void)snprintf(user, sizeof(user), "%s", pw->pw_name);
    } else {
        (void)snprintf(user, sizeof(user), "%lu", (unsigned long)geteuid());
    }
    if (gethostname(host, sizeof(host)) != 0 || host[0] == '\0') {
        (void)snprintf(host, sizeof(host), "localhost");
    }
    host[sizeof(host) - 1] = '\0';
    clean(user);
    clean(host);
    for (int i = 1; status == CLI_EXISTS && i <= NAMES_MAX; i++) {
        char number[8] = "";
        if (i > 1) {
            (void)snprintf(number, sizeof(number), "_%d", i);
        }
        (void)snprintf(r->self, sizeof(r->self), "barrel_p2p_%s%s@%s", user, number, host);
        status = claim(r, &err);
    }
    return status == CLI_EXISTS ? name_taken(r, &err) : status;
}

/* Where our identity and the keys that we trust are. */
static int choose_dir(struct cli_remote *r, char out[static PATH_MAX])
{
    const char *base = getenv("XDG_CONFIG_HOME");
    const char *home = getenv("HOME");
    const struct passwd *pw;
    int n;

    if (r->c->dir != NULL) {
        n = snprintf(out, PATH_MAX, "%s", r->c->dir);
    } else if (base != NULL && base[0] == '/') {
        n = snprintf(out, PATH_MAX, "%s/barrel_p2p", base);
    } else {
        if (home == NULL || home[0] != '/') {
            pw = getpwuid(geteuid());
            home = pw != NULL ? pw->pw_dir : "/";
        }
        n = snprintf(out, PATH_MAX, "%s/.config/barrel_p2p", home);
    }
    return n < PATH_MAX ? CLI_OK
                        : cli_fail(r->c, CLI_USAGE, "badarg", "the directory's name is too long");
}

/* --- the node -------------------------------------------------------------------------------- */

static int set_up(struct cli_remote *r)
{
    char dir[PATH_MAX];
    int status = choose_dir(r, dir);
    int rc;

    if (status != CLI_OK) {
        return status;
    }
    rc = bp_node_new(&r->node, r->self);
    if (rc == 0) {
        rc = bp_node_set_text(r->node, BP_OPT_DIR, dir);
    }
    if (rc == 0 && r->c->trust != NULL) {
        rc = bp_node_set_text(r->node, BP_OPT_TRUST, r->c->trust);
    }
    if (rc != 0) {
        return cli_remote_report(r, rc, bp_error_detail());
    }
    status = cli_remote_relay(r);
    if (status == CLI_OK) {
        status = cli_remote_find(r);
    }
    if (status == CLI_OK && (rc = bp_node_start(r->node)) != 0) {
        status = cli_remote_report(r, rc, bp_error_detail());
    }
    return status;
}

int cli_remote_new(struct cli *c, const char *peer, struct cli_remote *r)
{
    int status;

    memset(r, 0, sizeof(*r));
    r->c = c;
    r->peer = peer;
    r->claim = -1;
    r->fd = -1;
    r->deadline = cli_now_us() / 1000 + (c->timeout_ms != 0 ? c->timeout_ms : CLI_TIMEOUT_MS);
    status = cli_check_node(c, peer);
    if (status == CLI_OK) {
        status = choose_name(r);
    }
    return status == CLI_OK ? set_up(r) : status;
}

void cli_remote_del(struct cli_remote *r)
{
    if (r->fd >= 0) {
        (void)ei_close_connection(r->fd);
    }
    bp_node_del(r->node);
    if (r->claim >= 0) {
        (void)close(r->claim);
    }
}

int cli_remote_path(struct cli_remote *r, bp_peer_id peer, json_t *o)
{
    struct bp_peer_info i;
    int rc = bp_node_peer_info(r->node, peer, &i, sizeof(i));

    if (rc != 0) {
        return cli_remote_report(r, rc, bp_error_detail());
    }
    if (json_object_set_new(o, "address", json_string(i.address)) != 0 ||
        json_object_set_new(o, "local", json_string(i.local)) != 0 ||
        json_object_set_new(o, "fingerprint",
                            i.fingerprint[0] != '\0' ? json_string(i.fingerprint) : json_null()) !=
            0 ||
        json_object_set_new(o, "round_trip_us", json_integer((json_int_t)i.srtt_us)) != 0 ||
        json_object_set_new(o, "datagram_bytes", json_integer((json_int_t)i.datagram_size)) != 0 ||
        json_object_set_new(o, "relay", i.relay[0] != '\0' ? json_string(i.relay) : json_null()) !=
            0) {
        return cli_fail_rc(r->c, BP_E_NOMEM, NULL);
    }
    return CLI_OK;
}

/* --- through libei --------------------------------------------------------------------------- */

int cli_remote_connect(struct cli_remote *r)
{
    unsigned left = cli_remote_left(r);
    int rc = bp_ei_init(&r->ec, r->node, 0);

    if (rc != 0) {
        return cli_remote_report(r, rc, bp_error_detail());
    }
    r->fd = bp_ei_connect(&r->ec, r->node, r->peer, left != 0 ? left : 1);
    if (r->fd < 0) {
        int why = bp_error_last(); /* 0: libei itself did not like something */
        r->fd = -1;
        return cli_remote_not_up(r, why != 0 ? why : BP_ERROR_PEER_CLOSED, bp_error_detail());
    }
    return CLI_OK;
}

int cli_remote_atom(const struct cli *c, const char *what, const char *text, char *out, size_t cap)
{
    struct cli_term_err err;
    ei_x_buff x;
    int at = 0;
    int status = CLI_OK;

    if (ei_x_new(&x) != 0) {
        return cli_fail_rc(c, BP_E_NOMEM, NULL);
    }
    if (text[0] == '\'') {
        if (cli_term_parse(text, strlen(text), CLI_TERM_ARG, &x, &err) != 0) {
            status = cli_fail(c, CLI_USAGE, "badarg", "%s %s: %s", what, text, err.text);
        }
    } else if (ei_x_encode_atom_as(&x, text, ERLANG_UTF8, ERLANG_UTF8) != 0) {
        status = CLI_USAGE;
    }
    if (status == CLI_OK &&
        (text[0] == '\0' ||
         ei_decode_atom_as(x.buff, &at, out, (int)cap, ERLANG_LATIN1, NULL, NULL) != 0)) {
        status = cli_fail(c, CLI_USAGE, "badarg", "'%s' cannot be used as %s", text, what);
    }
    (void)ei_x_free(&x);
    return status;
}

/* libei's socket errors, while a connection is up. */
static int broken(struct cli_remote *r)
{
    if (erl_errno == ETIMEDOUT) {
        return cli_remote_report(r, BP_ERROR_TIMEOUT,
                                 r->late != NULL ? r->late
                                                 : "no answer in time (--timeout gives it longer)");
    }
    if (bp_error_last() == 0) {
        return cli_remote_report(r, BP_ERROR_PEER_CLOSED, "the connection has ended");
    }
    return cli_fail(r->c, CLI_NO_ANSWER, bp_error_name(bp_error_last()),
                    "%s: the connection has ended: %s", r->peer, bp_error_detail());
}

/* The reply `{rex, Result}`; `*at` is at the result. False: something else has come. */
static bool is_reply(const ei_x_buff *x, int *at)
{
    char atom[MAXATOMLEN];
    int version;
    int arity;

    *at = 0;
    return x->index > 8 && ei_decode_version(x->buff, at, &version) == 0 &&
           ei_decode_tuple_header(x->buff, at, &arity) == 0 && arity == 2 &&
           ei_decode_atom(x->buff, at, atom) == 0 && strcmp(atom, "rex") == 0 && *at < x->index;
}

/* {badrpc, Reason}: `*at` goes to the reason. */
static bool is_badrpc(const ei_x_buff *x, int *at)
{
    char atom[MAXATOMLEN];
    int arity;
    int type;
    int size;
    int i = *at;

    (void)ei_get_type(x->buff, &i, &type, &size);
    if (type != ERL_SMALL_TUPLE_EXT || size != 2 || x->index - i < 10 ||
        ei_decode_tuple_header(x->buff, &i, &arity) != 0 ||
        ei_decode_atom(x->buff, &i, atom) != 0 || strcmp(atom, "badrpc") != 0 || i >= x->index) {
        return false;
    }
    *at = i;
    return true;
}

/* What ei_rpc_to sends, {Self, {call, M, F, Args, user}} to rex, with a time limit. */
static int send_call(struct cli_remote *r, const char *m, const char *f, const ei_x_buff *args)
{
    unsigned left = cli_remote_left(r);
    char rex[] = "rex";
    ei_x_buff x;
    int rc;

    if (ei_x_new_with_version(&x) != 0) {
        return cli_fail_rc(r->c, BP_E_NOMEM, NULL);
    }
    if (ei_x_encode_tuple_header(&x, 2) != 0 || ei_x_encode_pid(&x, ei_self(&r->ec)) != 0 ||
        ei_x_encode_tuple_header(&x, 5) != 0 || ei_x_encode_atom(&x, "call") != 0 ||
        ei_x_encode_atom(&x, m) != 0 || ei_x_encode_atom(&x, f) != 0 ||
        ei_x_append(&x, args) != 0 || ei_x_encode_atom(&x, "user") != 0) {
        (void)ei_x_free(&x);
        return cli_fail_rc(r->c, BP_E_NOMEM, NULL);
    }
    rc = ei_reg_send_tmo(&r->ec, r->fd, rex, x.buff, x.index, left != 0 ? left : 1);
    (void)ei_x_free(&x);
    return rc == 0 ? CLI_OK : broken(r);
}

int cli_remote_call(struct cli_remote *r, const char *module, const char *function,
                    const ei_x_buff *args, ei_x_buff *x, int *at, bool *failed)
{
    char m[MAXATOMLEN];
    char f[MAXATOMLEN];
    int status = cli_remote_atom(r->c, "a module", module, m, sizeof(m));

    if (status == CLI_OK) {
        status = cli_remote_atom(r->c, "a function", function, f, sizeof(f));
    }
    if (status != CLI_OK) {
        return status;
    }
    status = send_call(r, m, f, args);
    if (status != CLI_OK) {
        return status;
    }
    for (;;) {
        unsigned left = cli_remote_left(r);
        erlang_msg msg;
        int got;
        x->index = 0;
        got = ei_rpc_from(&r->ec, r->fd, left != 0 ? (int)left : 1, &msg, x);
        if (got == ERL_TIMEOUT || (got != ERL_MSG && cli_remote_left(r) == 0)) {
            erl_errno = ETIMEDOUT;
            return broken(r);
        }
        if (got == ERL_ERROR) {
            return broken(r);
        }
        if (got == ERL_MSG && cli_term_pad(x) != 0) {
            return cli_fail_rc(r->c, BP_E_NOMEM, NULL);
        }
        if (got == ERL_MSG && msg.msgtype == ERL_SEND && is_reply(x, at)) {
            *failed = is_badrpc(x, at);
            return CLI_OK;
        }
    }
}

int cli_remote_failed(struct cli_remote *r, const char *what, ei_x_buff *x, int at)
{
    char *text;
    int rc = cli_term_string(x, &at, CLI_TERM_PRETTY, &text, NULL);
    int status;

    if (rc != 0) {
        return cli_fail_rc(r->c, rc, NULL);
    }
    status = cli_fail(r->c, CLI_REMOTE, "badrpc", "%s: %s failed there: %s", r->peer, what, text);
    free(text);
    return status;
}
