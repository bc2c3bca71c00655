/* SPDX-License-Identifier: Apache-2.0 */
/* barrel-p2p config check: what a node would say to a sys.config, and what is then in force. */
#include "cli/config.h"

#include "base/err.h"
#include "cli/discover.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_COOKIE "barrel_p2p"
#define HIDDEN         "'***'"

struct report {
    json_t *errors;
    json_t *warnings;
    json_t *keys;
    const struct cli_config *cfg;
    bool nomem;
};

static void add(struct report *r, json_t *list, const char *key, const char *value,
                const char *expects, const char *text)
{
    json_t *o = json_pack("{s:s, s:s?, s:s?, s:s}", "key", key, "value", value, "expects", expects,
                          "text", text);

    r->nomem = r->nomem || o == NULL || json_array_append_new(list, o) != 0;
}

/* --- keys ---------------------------------------------------------------------- */

/* Where a key stands, as one writes it: "{quic, [{dist, [{family, ...}]}]}". */
static const char *written(enum cli_place place, const char *key, const char *value,
                           char out[static 512])
{
    if (place == CLI_DIST) {
        (void)snprintf(out, 512, "{quic, [{dist, [{%s, %.300s}]}]}", key, value);
    } else {
        (void)snprintf(out, 512, "{%s, [{%s, %.300s}]}", place == CLI_QUIC ? "quic" : "barrel_p2p",
                       key, value);
    }
    return out;
}

/* What is behind each `password =>` of a printed term, as stars. */
static void hide_passwords(char *text)
{
    static const char word[] = "password => ";

    for (char *p = strstr(text, word); p != NULL; p = strstr(p, word)) {
        bool quoted = false;

        for (p += sizeof(word) - 1; *p != '\0' && (quoted || (*p != ',' && *p != '}')); p++) {
            if (quoted && *p == '\\' && p[1] != '\0') {
                *p++ = '*';
            } else if (*p == '"') {
                quoted = !quoted;
            }
            *p = '*';
        }
    }
}

/* As text that may be seen by whoever reads a terminal or the output of a build; NULL: no memory.
 */
static char *shown_value(const struct cli_key *k, struct cli_value v)
{
    char *text = strcmp(k->name, "dist_cookie") == 0 ? strdup(HIDDEN) : cli_value_print(v);

    if (text != NULL && strcmp(k->name, "relays") == 0) {
        hide_passwords(text);
    }
    return text;
}

static void bad_value(struct report *r, const struct cli_key *k, enum cli_place place,
                      struct cli_value v)
{
    char *shown = shown_value(k, v);
    char where[512];
    char text[1024];

    (void)snprintf(text, sizeof(text), "%s: must be %s",
                   written(place, k->name, shown != NULL ? shown : "?", where), k->expects);
    add(r, r->errors, k->name, shown, k->expects, text);
    free(shown);
}

/* A value in each place where the key may stand. */
static void check_key(struct report *r, const struct cli_key *k)
{
    static const enum cli_place both[] = {CLI_BARREL_P2P, CLI_DIST};
    struct cli_value v;

    for (size_t i = 0; i < (k->place == CLI_BOTH ? 2 : 1); i++) {
        enum cli_place place = k->place == CLI_BOTH ? both[i] : k->place;
        if (cli_config_in(r->cfg, place, k->name, &v) && !cli_key_accepts(k, v)) {
            bad_value(r, k, place, v);
        }
    }
    if (k->type == CLI_T_IGNORED && cli_config_get(r->cfg, k->name, &v)) {
        char *shown = cli_value_print(v);
        add(r, r->warnings, k->name, shown, NULL, "the key has no effect in this carrier");
        free(shown);
    }
}

static void check_unknown(void *ctx, enum cli_place place, const char *key)
{
    struct report *r = ctx;
    const struct cli_key *k = cli_key_find(key);
    const char *near;
    char here[512];
    char there[512];
    char text[1200];

    if (strcmp(key, "included_applications") == 0 || (k != NULL && cli_key_stands_in(k, place))) {
        return;
    }
    (void)written(place, key, "_", here);
    if (k != NULL) {
        (void)snprintf(text, sizeof(text), "%s: it has no effect there: it belongs into %s", here,
                       written(k->place, key, "_", there));
    } else {
        near = cli_key_nearest(place, key);
        (void)snprintf(text, sizeof(text), "%s: no such key%s%s%s", here,
                       near != NULL ? "; did you mean " : "; docs/configuration.md lists them",
                       near != NULL ? near : "", near != NULL ? "?" : "");
    }
    add(r, r->warnings, key, NULL, NULL, text);
}

/* --- what depends on several keys ------------------------------------------------ */

static void check_auth(struct report *r)
{
    struct cli_value enabled;
    struct cli_value callback;
    bool off = cli_config_get(r->cfg, "auth_enabled", &enabled) && cli_value_is(enabled, "false");
    char text[16];

    if (off) {
        add(r, r->warnings, "auth_enabled", "false", NULL,
            "peers are NOT authenticated, only the cookie protects this node, and nothing does "
            "against a man in the middle");
        return;
    }
    if (cli_config_get(r->cfg, "auth_callback", &callback) &&
        (cli_value_is(callback, "undefined") ||
         (cli_value_text(callback, text, sizeof(text)) && strcmp(text, "undefined") == 0))) {
        add(r, r->errors, "auth_callback", "undefined", NULL,
            "auth_enabled is true, and there is no callback that could authenticate anybody: leave "
            "auth_callback out, or set {auth_enabled, false}");
    }
}

/* The default is public, and with it some nodes would need nothing at all. */
static void check_cookie(struct report *r)
{
    char cookie[1024] = "";
    struct cli_value v;
    struct cli_value only;
    struct cli_list l;
    bool is_set = cli_config_get(r->cfg, "dist_cookie", &v) && !cli_value_is(v, "undefined") &&
                  (cli_value_atom(v, cookie) || cli_value_text(v, cookie, sizeof(cookie)));
    bool some = cli_config_get(r->cfg, "cookie_only_nodes", &only) && cli_list_begin(&l, only) &&
                l.left > 0;

    if (is_set && strcmp(cookie, DEFAULT_COOKIE) == 0 && some) {
        add(r, r->errors, "cookie_only_nodes", NULL, NULL,
            "these nodes need only the cookie, and it is the public default: set a dist_cookie of "
            "your own");
    } else if (!is_set && some) {
        add(r, r->warnings, "cookie_only_nodes", NULL, NULL,
            "these nodes need only the cookie: the node refuses to boot unless -setcookie or "
            "dist_cookie names one of your own");
    } else if (!is_set) {
        add(r, r->warnings, "dist_cookie", NULL, NULL,
            "the cookie is the public default 'barrel_p2p' unless -setcookie names another one");
    }
}

/* A node finds out at the first lookup. */
static void check_nodes(struct report *r)
{
    struct cli_value nodes;
    struct cli_value e;
    struct cli_list l;
    struct bp_static_node row;

    if (!cli_config_get(r->cfg, "nodes", &nodes) || !cli_list_begin(&l, nodes)) {
        return;
    }
    while (cli_list_next(&l, &e)) {
        if (!cli_static_entry(e, &row)) {
            char *shown = cli_value_print(e);
            add(r, r->warnings, "nodes", shown, "{Node, {Host, Port}}",
                "an entry is ignored; wanted is {Node, {Host, Port}} or {Node, Host, Port}");
            free(shown);
        }
    }
}

/* --- result -------------------------------------------------------------------- */

static void add_effective(struct report *r, const struct cli_key *k)
{
    struct cli_value v;
    bool is_set = cli_config_get(r->cfg, k->name, &v);
    char *shown = is_set ? shown_value(k, v) : strdup(k->fallback);
    json_t *o;

    if (k->type != CLI_T_REFUSED) {
        o = json_pack("{s:s, s:s, s:s?, s:s}", "key", k->name, "where", cli_place_text(k->place),
                      "value", shown, "origin", is_set ? "environment" : "default");
        r->nomem =
            json_array_append_new(r->keys, o) != 0 || shown == NULL || r->nomem; /* takes `o` */
    }
    free(shown);
}

static void print_list(const char *what, const json_t *list)
{
    size_t i;
    json_t *o;

    json_array_foreach(list, i, o)
    {
        const char *value = json_string_value(json_object_get(o, "value"));
        const char *text = json_string_value(json_object_get(o, "text"));
        printf("%s: %s: %s%s%s%s\n", what, json_string_value(json_object_get(o, "key")), text,
               what[0] == 'w' && value != NULL ? " (" : "",
               what[0] == 'w' && value != NULL ? value : "",
               what[0] == 'w' && value != NULL ? ")" : "");
    }
}

static void print_keys(const json_t *keys)
{
    size_t i;
    json_t *o;

    json_array_foreach(keys, i, o)
    {
        bool is_default = strcmp(json_string_value(json_object_get(o, "origin")), "default") == 0;
        printf("%-26s %-9s %s\n", json_string_value(json_object_get(o, "key")),
               is_default ? "default" : "file", json_string_value(json_object_get(o, "value")));
    }
}

static int conclude(const struct cli *c, struct report *r)
{
    bool good = json_array_size(r->errors) == 0;
    json_t *o;

    if (r->nomem) {
        return cli_fail_rc(c, BP_E_NOMEM, NULL);
    }
    if (c->json) {
        o = json_pack("{s:s, s:b, s:O, s:O, s:O}", "file", c->args[0], "valid", (int)good, "errors",
                      r->errors, "warnings", r->warnings, "keys", r->keys);
        if (cli_print(c, o) != CLI_OK) {
            return CLI_FAILED;
        }
    } else {
        if (good) {
            print_keys(r->keys);
        }
        print_list("warning", r->warnings);
        print_list("error", r->errors);
    }
    return good ? CLI_OK : CLI_INVALID;
}

static int cli_config_check(struct cli *c)
{
    struct cli_config *cfg = NULL;
    struct report r = {0};
    int status = cli_config_read(c, c->args[0], &cfg);

    if (status != CLI_OK) {
        return status;
    }
    r = (struct report){
        .errors = json_array(), .warnings = json_array(), .keys = json_array(), .cfg = cfg};
    r.nomem = r.errors == NULL || r.warnings == NULL || r.keys == NULL;
    for (size_t i = 0; i < cli_n_keys && !r.nomem; i++) {
        check_key(&r, &cli_keys[i]);
        add_effective(&r, &cli_keys[i]);
    }
    if (!r.nomem) {
        cli_config_each(cfg, CLI_BARREL_P2P, check_unknown, &r);
        cli_config_each(cfg, CLI_DIST, check_unknown, &r);
        check_auth(&r);
        check_cookie(&r);
        check_nodes(&r);
    }
    status = conclude(c, &r);
    json_decref(r.errors);
    json_decref(r.warnings);
    json_decref(r.keys);
    cli_config_free(cfg);
    return status;
}

const struct cli_command cli_config_commands[] = {
    {
        .name = "check",
        .args = "FILE",
        .summary = "check a sys.config by the rules of a node's boot, and show what is in force",
        .details =
            "FILE is what -config names, or the sys.config of a release; files that a sys.config\n"
            "names are read as well. Shows each key with its value and whether that comes from "
            "the\n"
            "file or is the default, then warnings and errors. Flags of the command line "
            "(vm.args),\n"
            "which count more than the file, are not known here: barrel_p2p:config() on the node\n"
            "shows them, too. The cookie and passwords of relays are not shown. Exit code 6: a "
            "node\n"
            "would not boot with it.",
        .examples = "barrel-p2p config check sys.config\n"
                    "barrel-p2p config check releases/1.0/sys.config --json",
        .options = CLI_OPT_JSON,
        .min_args = 1,
        .max_args = 1,
        .run = cli_config_check,
    },
    {0},
};
