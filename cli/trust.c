/* SPDX-License-Identifier: Apache-2.0 */
/* barrel-p2p trust: the keys that are pinned to other nodes' names. */
#include "cli/cli.h"

#include "auth/identity.h"
#include "base/err.h"
#include "cli/key_text.h"
#include "io/trust_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define TRUST_OPTIONS (CLI_OPT_DIR | CLI_OPT_NODE | CLI_OPT_JSON)

/* --- list ---------------------------------------------------------------------- */

static json_t *entry_json(const struct bp_trust_entry *e)
{
    char when[32];
    json_t *o = json_pack("{s:s}", "node", e->node);

    if (o == NULL || (e->key != NULL && cli_add_key(o, e->key) != 0) ||
        (e->key == NULL && json_object_set_new(o, "problem", json_string(e->problem)) != 0) ||
        json_object_set_new(o, "changed", json_string(cli_time(e->changed_at, when))) != 0) {
        json_decref(o);
        return NULL;
    }
    return o;
}

static bool collect(void *ctx, const struct bp_trust_entry *e)
{
    json_t **list = ctx;
    json_t *o = entry_json(e);

    if (o == NULL || json_array_append_new(*list, o) != 0) {
        json_decref(*list);
        *list = NULL;
        return false;
    }
    return true;
}

static const char *member(const json_t *o, const char *name)
{
    const char *s = json_string_value(json_object_get(o, name));

    return s != NULL ? s : "";
}

static int by_node(const void *a, const void *b)
{
    const json_t *const *x = a;
    const json_t *const *y = b;

    return strcmp(member(*x, "node"), member(*y, "node"));
}

/* A new array with the members of `list`, which is given back; NULL: no memory. */
static json_t *sorted(json_t *list)
{
    size_t n = json_array_size(list);
    json_t **p = calloc(n + 1, sizeof(*p));
    json_t *out = json_array();

    for (size_t i = 0; p != NULL && i < n; i++) {
        p[i] = json_array_get(list, i);
    }
    if (p != NULL) {
        qsort(p, n, sizeof(*p), by_node);
    }
    for (size_t i = 0; i < n; i++) {
        if (p == NULL || out == NULL || json_array_append(out, p[i]) != 0) {
            json_decref(out);
            out = NULL;
            break;
        }
    }
    free(p);
    json_decref(list);
    return out;
}

/* Prints the pins; those that cannot be used go to stderr as well. Returns how many those are. */
static size_t print_pins(const struct cli *c, const json_t *list)
{
    const json_t *o;
    size_t bad = 0;
    size_t i;
    int width = 0;

    json_array_foreach(list, i, o)
    {
        int len = (int)strlen(member(o, "node"));
        width = len > width ? len : width;
    }
    json_array_foreach(list, i, o)
    {
        const char *problem = member(o, "problem");
        if (problem[0] != '\0') {
            fprintf(stderr, "barrel-p2p %s: %s\n", c->name, problem);
            bad++;
        } else if (!c->json) {
            printf("%-*s  %s  %s\n", width, member(o, "node"), member(o, "fingerprint"),
                   member(o, "changed"));
        }
    }
    return bad;
}

static int trust_list(struct cli *c)
{
    char dir[PATH_MAX];
    struct bp_errbuf err;
    json_t *list;
    size_t bad;
    int status = cli_dir(c, CLI_READ, CLI_KEY_DIR, dir);
    int rc;

    if (status != CLI_OK) {
        return status;
    }
    list = json_array();
    rc = list != NULL ? bp_trust_list(dir, collect, &list, &err) : BP_E_NOMEM;
    if (rc != 0) {
        json_decref(list);
        return cli_fail_rc(c, rc, &err);
    }
    list = list != NULL ? sorted(list) : NULL;
    if (list == NULL) {
        return cli_fail_rc(c, BP_E_NOMEM, NULL);
    }
    bad = print_pins(c, list);
    if (!c->json) {
        json_decref(list);
    } else {
        status = cli_print(c, json_pack("{s:s, s:o}", "key_dir", dir, "trusted", list));
    }
    return status == CLI_OK && bad != 0 ? CLI_FAILED : status;
}

/* --- one pin ------------------------------------------------------------------- */

static int print_pin(const struct cli *c, const char *dir, const uint8_t key[static BP_KEY_LEN],
                     json_t *more)
{
    char file[PATH_MAX] = "";
    struct stat st;
    char when[32] = "";
    int rc = bp_trust_path(dir, c->args[0], file, sizeof(file), NULL);

    if (rc == 0 && stat(file, &st) == 0) {
        (void)cli_time((int64_t)st.st_mtime, when);
    }
    if (rc == 0) {
        rc = cli_add_key(more, key);
    }
    if (rc == 0 && (json_object_set_new(more, "file", json_string(file)) != 0 ||
                    json_object_set_new(more, "changed", json_string(when)) != 0)) {
        rc = BP_E_NOMEM;
    }
    if (rc != 0) {
        json_decref(more);
        return cli_fail_rc(c, rc, NULL);
    }
    return cli_print(c, more);
}

static int not_trusted(const struct cli *c, const char *dir)
{
    return cli_fail(c, CLI_NOT_FOUND, "not_found",
                    "no key of %s is trusted in %s; 'barrel-p2p trust list' shows whose are",
                    c->args[0], dir);
}

static int trust_show(struct cli *c)
{
    uint8_t key[BP_KEY_LEN];
    char dir[PATH_MAX];
    struct bp_errbuf err;
    json_t *o;
    int rc;
    int status = cli_check_node(c, c->args[0]);

    if (status == CLI_OK) {
        status = cli_dir(c, CLI_READ, CLI_KEY_DIR, dir);
    }
    if (status != CLI_OK) {
        return status;
    }
    rc = bp_trust_lookup(dir, c->args[0], key, &err);
    if (rc != 0) {
        return rc == BP_E_NOT_FOUND ? not_trusted(c, dir) : cli_fail_rc(c, rc, &err);
    }
    o = json_pack("{s:s}", "node", c->args[0]);
    return o != NULL ? print_pin(c, dir, key, o) : cli_fail_rc(c, BP_E_NOMEM, NULL);
}

static int trust_remove(struct cli *c)
{
    char dir[PATH_MAX];
    struct bp_errbuf err;
    int rc;
    int status = cli_check_node(c, c->args[0]);

    if (status == CLI_OK) {
        status = cli_dir(c, CLI_READ, CLI_KEY_DIR, dir);
    }
    if (status != CLI_OK) {
        return status;
    }
    rc = bp_trust_delete(dir, c->args[0], &err);
    if (rc != 0) {
        return rc == BP_E_NOT_FOUND ? not_trusted(c, dir) : cli_fail_rc(c, rc, &err);
    }
    return cli_print(c, json_pack("{s:s, s:s}", "removed", c->args[0], "key_dir", dir));
}

/* --- add ----------------------------------------------------------------------- */

/* The key of --key or of FILE. */
static int wanted_key(const struct cli *c, uint8_t key[static BP_KEY_LEN])
{
    const char *why;
    int rc;

    if (c->key != NULL && c->n_args > 1) {
        return cli_fail(c, CLI_USAGE, "usage", "give either a file or --key, not both");
    }
    if (c->key == NULL && c->n_args < 2) {
        return cli_fail(
            c, CLI_USAGE, "usage",
            "whose key it is was said, but not the key: give a file, - for the standard "
            "input, or --key");
    }
    if (c->key == NULL) {
        return cli_read_key(c, c->args[1], false, key);
    }
    rc = cli_key_parse((const uint8_t *)c->key, strlen(c->key), false, key, &why);
    if (rc == BP_E_INVALID) {
        return cli_fail(c, CLI_USAGE, "bad_key", "--key is no public key: %s", why);
    }
    return rc != 0 ? cli_fail_rc(c, rc, NULL) : CLI_OK;
}

/* A node refuses whoever shows its own key (a mirror would), so that it is of no use as a pin. */
static int check_not_own(const struct cli *c, const char *dir, const uint8_t key[static BP_KEY_LEN])
{
    uint8_t own[BP_KEY_LEN];
    char file[PATH_MAX];
    int status = cli_own_key(c, dir, false, own, file);

    if (status == CLI_NOT_FOUND) {
        return CLI_OK;
    }
    if (status == CLI_OK && bp_equal_ct(own, key, BP_KEY_LEN)) {
        return cli_fail(
            c, CLI_FAILED, "own_key",
            "this is the key of this node itself (%s): each node needs a key of its own; "
            "take the node.pub of %s",
            file, c->args[0]);
    }
    return status;
}

/* Says so where the key is trusted under another name: an identity belongs to one name. */
static void warn_shared(const struct cli *c, const char *dir, const uint8_t key[static BP_KEY_LEN])
{
    char other[BP_NODE_NAME_MAX + 1];

    if (bp_trust_find_by_key(dir, key, other, NULL) == 0 && strcmp(other, c->args[0]) != 0) {
        cli_warn("the same key is trusted as %s: whoever has it may use both names", other);
    }
}

static int fail_other_key(const struct cli *c, const char *dir,
                          const uint8_t key[static BP_KEY_LEN])
{
    uint8_t pinned[BP_KEY_LEN];
    char is[BP_FINGERPRINT_TEXT];
    char want[BP_FINGERPRINT_TEXT];
    struct bp_errbuf err;
    int rc = bp_trust_lookup(dir, c->args[0], pinned, &err);

    if (rc != 0) {
        return cli_fail_rc(c, rc, &err);
    }
    bp_fingerprint_text(pinned, is);
    bp_fingerprint_text(key, want);
    return cli_fail(
        c, CLI_EXISTS, "mismatch",
        "another key of %s is trusted: %s, and not %s; if its owner confirms the new one, "
        "--force replaces it",
        c->args[0], is, want);
}

static int trust_add(struct cli *c)
{
    uint8_t key[BP_KEY_LEN];
    char dir[PATH_MAX];
    struct bp_errbuf err;
    json_t *o;
    int rc;
    int status = cli_check_node(c, c->args[0]);

    if (status == CLI_OK) {
        status = wanted_key(c, key);
    }
    if (status == CLI_OK) {
        status = cli_dir(c, CLI_WRITE_PINS, CLI_KEY_DIR, dir);
    }
    if (status == CLI_OK) {
        status = check_not_own(c, dir, key);
    }
    if (status != CLI_OK) {
        return status;
    }
    warn_shared(c, dir, key);
    rc = c->force ? bp_trust_store(dir, c->args[0], key, &err)
                  : bp_trust_store_if_new(dir, c->args[0], key, &err);
    if (rc != 0) {
        return rc == BP_E_MISMATCH ? fail_other_key(c, dir, key) : cli_fail_rc(c, rc, &err);
    }
    o = json_pack("{s:s}", "trusted", c->args[0]);
    return o != NULL ? print_pin(c, dir, key, o) : cli_fail_rc(c, BP_E_NOMEM, NULL);
}

/* --- the table ----------------------------------------------------------------- */

const struct cli_command cli_trust_commands[] = {
    {
        .name = "list",
        .args = "",
        .summary = "list the nodes whose keys are trusted",
        .details =
            "A line for each: name, fingerprint, when the file was last changed. Files that\n"
            "cannot be used are named on stderr, and the exit code is 1.",
        .examples = "barrel-p2p trust list\n"
                    "barrel-p2p trust list --node b@host --json",
        .options = TRUST_OPTIONS,
        .run = trust_list,
    },
    {
        .name = "add",
        .args = "NODE [FILE|-]",
        .summary = "trust a node's key",
        .details = "The key is in FILE (the node.pub of that node), comes from the standard input\n"
                   "(-), or is given with --key. A running node sees it at the next handshake.\n"
                   "Compare the fingerprint that is printed with what the owner of NODE sees with\n"
                   "`barrel-p2p fingerprint`. A trusted key is only replaced with --force.",
        .examples =
            "barrel-p2p trust add b@host b.pub\n"
            "ssh host cat data/keys/node.pub | barrel-p2p trust add b@host -\n"
            "barrel-p2p trust add b@host --key ebVWLo/mVPlAeLES6KmLp5AfhTrmlb7X4OORC60ElmQ=",
        .options = TRUST_OPTIONS | CLI_OPT_KEY | CLI_OPT_FORCE,
        .min_args = 1,
        .max_args = 2,
        .run = trust_add,
    },
    {
        .name = "remove",
        .args = "NODE",
        .summary = "trust a node's key no longer",
        .details = "Counts from the next handshake on; a connection that is up stays. In the mode\n"
                   "tofu the next key that comes with the name and the cookie is trusted again:\n"
                   "to lock a node out, use the mode strict.",
        .examples = "barrel-p2p trust remove b@host",
        .options = TRUST_OPTIONS,
        .min_args = 1,
        .max_args = 1,
        .run = trust_remove,
    },
    {
        .name = "show",
        .args = "NODE",
        .summary = "show the key that is trusted for a node",
        .details = NULL,
        .examples = "barrel-p2p trust show b@host\n"
                    "barrel-p2p trust show b@host --json",
        .options = TRUST_OPTIONS,
        .min_args = 1,
        .max_args = 1,
        .run = trust_show,
    },
    {0},
};
