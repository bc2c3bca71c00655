/* SPDX-License-Identifier: Apache-2.0 */
/* barrel-p2p peers: the connections of a node, as barrel_p2p:peers() there has them, and ours to
 * it. */
#include "cli/remote.h"

#include "base/err.h"
#include "cli/term_json.h"

#include <stdio.h>
#include <string.h>

#define COLUMNS 8

static const struct {
    const char *title;
    const char *name; /* in the reply; of a counter if `counter` */
    bool counter;
} columns[COLUMNS] = {
    {"NODE", "node", false},
    {"ADDRESS", "address", false},
    {"DIRECTION", "direction", false},
    {"RTT us", "srtt", true},
    {"DATAGRAM", "datagram_size", true},
    {"BYTES IN", "bytes_received", true},
    {"BYTES OUT", "bytes_sent", true},
    {"PENDING", "pending", true},
};

/* The text of a cell; `buf` holds numbers. What a peer sent is printable: jansson has only let
 * UTF-8 through, and control characters are replaced. */
static const char *cell(const json_t *peer, int column, char buf[static 64])
{
    const json_t *v = json_object_get(peer, columns[column].name);

    if (columns[column].counter) {
        v = json_object_get(json_object_get(peer, "counters"), columns[column].name);
    }
    if (json_is_integer(v)) {
        (void)snprintf(buf, 64, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    } else {
        (void)snprintf(buf, 64, "%s", json_is_string(v) ? json_string_value(v) : "-");
    }
    for (char *p = buf; *p != '\0'; p++) {
        bool c1 = (uint8_t)p[0] == 0xc2 && (uint8_t)p[1] >= 0x80 && (uint8_t)p[1] < 0xa0;
        if ((unsigned char)*p < 32 || *p == 127 || c1) {
            *p = '?';
        }
    }
    return buf;
}

static void print_table(const json_t *peers)
{
    int width[COLUMNS];
    char buf[64];
    json_t *peer;
    size_t i;

    for (int c = 0; c < COLUMNS; c++) {
        width[c] = (int)strlen(columns[c].title);
        json_array_foreach(peers, i, peer)
        {
            int len = (int)strlen(cell(peer, c, buf));
            width[c] = len > width[c] ? len : width[c];
        }
    }
    for (int c = 0; c < COLUMNS; c++) {
        printf(columns[c].counter ? "%*s%s" : "%-*s%s", width[c], columns[c].title,
               c + 1 < COLUMNS ? "  " : "\n");
    }
    json_array_foreach(peers, i, peer)
    {
        for (int c = 0; c < COLUMNS; c++) {
            printf(columns[c].counter ? "%*s%s" : "%-*s%s", width[c], cell(peer, c, buf),
                   c + 1 < COLUMNS ? "  " : "\n");
        }
    }
}

static int print_peers(struct cli_remote *r, json_t *peers)
{
    json_t *o = json_pack("{s:s, s:o}", "node", r->peer, "peers", peers);
    json_t *path = json_object();
    int status = o != NULL && path != NULL ? CLI_OK : cli_fail_rc(r->c, BP_E_NOMEM, NULL);

    if (status == CLI_OK) {
        status = cli_remote_path(r, bp_ei_peer(r->node, r->fd), path);
    }
    if (status == CLI_OK && json_object_set(o, "path", path) != 0) {
        status = cli_fail_rc(r->c, BP_E_NOMEM, NULL);
    }
    if (status == CLI_OK && r->c->json) {
        json_incref(o);
        status = cli_print(r->c, o);
    } else if (status == CLI_OK) {
        print_table(peers);
        const char *relay = json_string_value(json_object_get(path, "relay"));
        printf("\nfrom here to %s at %s%s%s: %" JSON_INTEGER_FORMAT
               " us, datagrams of %" JSON_INTEGER_FORMAT " bytes\n",
               r->peer, json_string_value(json_object_get(path, "address")),
               relay != NULL ? " through " : "", relay != NULL ? relay : "",
               json_integer_value(json_object_get(path, "round_trip_us")),
               json_integer_value(json_object_get(path, "datagram_bytes")));
    }
    json_decref(path);
    json_decref(o);
    return status;
}

static int ask(struct cli_remote *r, const ei_x_buff *args, ei_x_buff *x)
{
    bool failed = false;
    json_t *peers;
    int at = 0;
    int status = cli_remote_connect(r);
    int rc;

    if (status == CLI_OK) {
        status = cli_remote_call(r, "barrel_p2p", "peers", args, x, &at, &failed);
    }
    if (status == CLI_OK && failed) {
        status = cli_remote_failed(r, "barrel_p2p:peers", x, at);
    }
    if (status != CLI_OK) {
        return status;
    }
    rc = cli_term_json(x, &at, &peers);
    if (rc == 0 && !json_is_array(peers)) {
        json_decref(peers);
        rc = BP_E_INVALID;
    }
    if (rc != 0) {
        return cli_fail(r->c, CLI_FAILED, bp_err_atom(rc),
                        "%s: what it says about its peers cannot be understood", r->peer);
    }
    return print_peers(r, peers);
}

int cli_peers(struct cli *c)
{
    struct cli_remote r;
    ei_x_buff args;
    ei_x_buff x;
    int status;

    if (ei_init() != 0 || ei_x_new(&args) != 0) {
        return cli_fail_rc(c, BP_E_NOMEM, NULL);
    }
    if (ei_x_new(&x) != 0 || ei_x_encode_empty_list(&args) != 0) {
        (void)ei_x_free(&args);
        return cli_fail_rc(c, BP_E_NOMEM, NULL);
    }
    status = cli_remote_new(c, c->args[0], &r);
    if (status == CLI_OK) {
        status = ask(&r, &args, &x);
    }
    cli_remote_del(&r);
    (void)ei_x_free(&args);
    (void)ei_x_free(&x);
    return status;
}
