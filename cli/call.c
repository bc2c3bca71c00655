/* SPDX-License-Identifier: Apache-2.0 */
/* barrel-p2p call and send: a function call, or a message, with terms as text. */
#include "cli/remote.h"

#include "base/err.h"
#include "cli/term_text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_MAX (256u << 20) /* a node's max_frame_bytes, unless it is configured otherwise */

/* All of the standard input; the caller frees it. */
static int read_input(const struct cli *c, const char *what, char **out, size_t *len)
{
    size_t cap = 65536;
    char *buf = malloc(cap);

    *len = 0;
    while (buf != NULL) {
        *len += fread(buf + *len, 1, cap - 1 - *len, stdin);
        if (*len < cap - 1 || *len > INPUT_MAX) {
            break;
        }
        cap = cap < INPUT_MAX / 2 ? cap * 2 : INPUT_MAX + 2;
        char *more = realloc(buf, cap);
        if (more == NULL) {
            free(buf);
        }
        buf = more;
    }
    if (buf == NULL) {
        return cli_fail_rc(c, BP_E_NOMEM, NULL);
    }
    if (ferror(stdin) != 0) {
        int why = errno;
        free(buf);
        return cli_fail(c, CLI_FAILED, "file_error", "cannot read the standard input: %s",
                        strerror(why));
    }
    if (*len > INPUT_MAX) {
        free(buf);
        return cli_fail(c, CLI_USAGE, "badarg",
                        "%s: the standard input has more than %u MB, which no node takes in one "
                        "message",
                        what, INPUT_MAX >> 20);
    }
    buf[*len] = '\0';
    *out = buf;
    return CLI_OK;
}

/* Reads a term that the command line holds, or with "-" the standard input. */
static int read_term(const struct cli *c, const char *what, const char *text, ei_x_buff *x)
{
    struct cli_term_err err;
    char *input = NULL;
    size_t len = strlen(text);
    int status = CLI_OK;
    int rc;

    if (strcmp(text, "-") == 0) {
        status = read_input(c, what, &input, &len);
        if (status != CLI_OK) {
            return status;
        }
        text = input;
    }
    rc = cli_term_parse(text, len, CLI_TERM_ARG, x, &err);
    if (rc != 0 && strchr(text, '\n') == NULL && err.line == 1) {
        status = cli_fail(c, CLI_USAGE, bp_err_atom(rc), "%s, column %u: %s", what, err.column,
                          err.text);
    } else if (rc != 0) {
        status = cli_fail(c, CLI_USAGE, bp_err_atom(rc), "%s, line %u, column %u: %s", what,
                          err.line, err.column, err.text);
    }
    free(input);
    return status;
}

/* --- call ------------------------------------------------------------------------------------ */

static int read_args(const struct cli *c, ei_x_buff *args)
{
    int type;
    int size;
    int at = 0;
    int status = read_term(c, "ARGS", c->n_args > 3 ? c->args[3] : "[]", args);

    if (status != CLI_OK) {
        return status;
    }
    (void)ei_get_type(args->buff, &at, &type, &size);
    if (type != ERL_NIL_EXT && type != ERL_LIST_EXT && type != ERL_STRING_EXT) {
        return cli_fail(c, CLI_USAGE, "badarg",
                        "ARGS is the list of all arguments, for example '[1, \"two\"]'");
    }
    return CLI_OK;
}

static int print_result(struct cli_remote *r, ei_x_buff *x, int at)
{
    char *text;
    size_t len;
    json_t *o;
    int rc = cli_term_string(x, &at, CLI_TERM_PRETTY, &text, &len);

    if (rc != 0) {
        return cli_fail(r->c, CLI_FAILED, bp_err_atom(rc), "%s: the result cannot be shown: %s",
                        r->peer, bp_err_text(rc));
    }
    if (!r->c->json) {
        (void)fwrite(text, 1, len, stdout);
        putchar('\n');
        free(text);
        return CLI_OK;
    }
    o = json_pack("{s:s, s:s%}", "node", r->peer, "result", text, len);
    free(text);
    return cli_print(r->c, o);
}

static int call(struct cli_remote *r, const ei_x_buff *args)
{
    struct cli *c = r->c;
    char what[128];
    ei_x_buff x;
    bool failed = false;
    int at = 0;
    int status = cli_remote_connect(r);

    if (status != CLI_OK) {
        return status;
    }
    if (ei_x_new(&x) != 0) {
        return cli_fail_rc(c, BP_E_NOMEM, NULL);
    }
    status = cli_remote_call(r, c->args[1], c->args[2], args, &x, &at, &failed);
    if (status == CLI_OK && failed) {
        (void)snprintf(what, sizeof(what), "%.50s:%.50s", c->args[1], c->args[2]);
        status = cli_remote_failed(r, what, &x, at);
    } else if (status == CLI_OK) {
        status = print_result(r, &x, at);
    }
    (void)ei_x_free(&x);
    return status;
}

int cli_rpc(struct cli *c)
{
    struct cli_remote r = {.claim = -1, .fd = -1};
    ei_x_buff args;
    int status;

    if (ei_init() != 0 || ei_x_new(&args) != 0) {
        return cli_fail_rc(c, BP_E_NOMEM, NULL);
    }
    status = read_args(c, &args);
    if (status == CLI_OK) {
        status = cli_remote_new(c, c->args[0], &r);
        if (status == CLI_OK) {
            status = call(&r, &args);
        }
        cli_remote_del(&r);
    }
    (void)ei_x_free(&args);
    return status;
}

/* --- send ------------------------------------------------------------------------------------ */

/*
 * The message is on its way; asks who has the name. The answer comes behind the message, so that
 * it has arrived, and says whether somebody was there.
 */
static int check_name(struct cli_remote *r, const char *name)
{
    char atom[MAXATOMLEN];
    ei_x_buff args;
    ei_x_buff x;
    bool failed = false;
    int type;
    int size;
    int at = 0;
    int status;

    if (ei_x_new(&args) != 0) {
        return cli_fail_rc(r->c, BP_E_NOMEM, NULL);
    }
    if (ei_x_new(&x) != 0 || ei_x_encode_list_header(&args, 1) != 0 ||
        ei_x_encode_atom(&args, name) != 0 || ei_x_encode_empty_list(&args) != 0) {
        (void)ei_x_free(&args);
        return cli_fail_rc(r->c, BP_E_NOMEM, NULL);
    }
    status = cli_remote_call(r, "erlang", "whereis", &args, &x, &at, &failed);
    if (status == CLI_OK && failed) {
        status = cli_remote_failed(r, "erlang:whereis", &x, at);
    } else if (status == CLI_OK) {
        (void)ei_get_type(x.buff, &at, &type, &size);
        if (type == ERL_ATOM_EXT && ei_decode_atom(x.buff, &at, atom) == 0 &&
            strcmp(atom, "undefined") == 0) {
            status = cli_fail(r->c, CLI_NOT_FOUND, "not_found",
                              "%s: no process is registered as %s there; the message is lost",
                              r->peer, r->c->args[1]);
        }
    }
    (void)ei_x_free(&args);
    (void)ei_x_free(&x);
    return status;
}

static int send_term(struct cli_remote *r, char *name, ei_x_buff *term)
{
    unsigned left;
    int status = cli_remote_connect(r);

    if (status != CLI_OK) {
        return status;
    }
    left = cli_remote_left(r);
    if (ei_reg_send_tmo(&r->ec, r->fd, name, term->buff, term->index, left != 0 ? left : 1) != 0) {
        return cli_remote_report(r,
                                 erl_errno == ETIMEDOUT ? BP_ERROR_TIMEOUT : BP_ERROR_PEER_CLOSED,
                                 "the message could not be sent");
    }
    r->late = "the message was sent, but the node does not say whether it arrived (only Erlang "
              "nodes do)";
    status = check_name(r, name);
    if (status == CLI_OK && r->c->json) {
        status =
            cli_print(r->c, json_pack("{s:s, s:s}", "node", r->peer, "sent_to", r->c->args[1]));
    }
    return status;
}

int cli_send(struct cli *c)
{
    struct cli_remote r = {.claim = -1, .fd = -1};
    char name[MAXATOMLEN];
    ei_x_buff term;
    int status;

    if (ei_init() != 0 || ei_x_new_with_version(&term) != 0) {
        return cli_fail_rc(c, BP_E_NOMEM, NULL);
    }
    status = cli_remote_atom(c, "a registered name", c->args[1], name, sizeof(name));
    if (status == CLI_OK) {
        status = read_term(c, "TERM", c->args[2], &term);
    }
    if (status == CLI_OK) {
        status = cli_remote_new(c, c->args[0], &r);
        if (status == CLI_OK) {
            status = send_term(&r, name, &term);
        }
        cli_remote_del(&r);
    }
    (void)ei_x_free(&term);
    return status;
}
