/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the files that `erl -config` reads, with its rules: what it refuses is refused here. */
#include "cli/config.h"

#include "base/err.h"
#include "cli/term_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX     (16u << 20)
#define INCLUDES_MAX 64u

/* One {Key, Value} of an application that is ours to look at. */
struct entry {
    struct entry *next;
    enum cli_place place; /* CLI_BARREL_P2P or CLI_QUIC */
    struct cli_value value;
    char key[MAXATOMLEN_UTF8];
};

struct file {
    struct file *next;
    ei_x_buff x;
    char path[PATH_MAX];
};

struct cli_config {
    const struct cli *c;
    struct file *files;
    unsigned n_files;
    ei_x_buff *yes;        /* `true`, what a bare atom in a property list stands for */
    struct entry *entries; /* what counts more stands first */
};

void cli_config_free(struct cli_config *cfg)
{
    if (cfg == NULL) {
        return;
    }
    while (cfg->entries != NULL) {
        struct entry *next = cfg->entries->next;
        free(cfg->entries);
        cfg->entries = next;
    }
    while (cfg->files != NULL) {
        struct file *next = cfg->files->next;
        (void)ei_x_free(&cfg->files->x);
        free(cfg->files);
        cfg->files = next;
    }
    if (cfg->yes != NULL) {
        (void)ei_x_free(cfg->yes);
        free(cfg->yes);
    }
    free(cfg);
}

/* --- refusals ------------------------------------------------------------------ */

static int refuse(const struct cli_config *cfg, const struct file *f, const char *why,
                  struct cli_value v)
{
    char *shown = cli_value_print(v);
    int status = cli_fail(cfg->c, CLI_INVALID, "bad_config",
                          "%s: the VM would not start with it: %s: %.200s", f->path, why,
                          shown != NULL ? shown : "?");

    free(shown);
    return status;
}

static bool is_sys(const struct file *f)
{
    const char *base = strrchr(f->path, '/');

    return strcmp(base != NULL ? base + 1 : f->path, "sys.config") == 0;
}

/* --- one file ------------------------------------------------------------------ */

static int parse_file(struct cli_config *cfg, struct file *f)
{
    uint8_t *text = NULL;
    size_t len = 0;
    struct bp_errbuf err;
    struct cli_term_err where;
    int rc = bp_file_read(f->path, FILE_MAX, bp_mem_libc(), &text, &len, &err);

    if (rc != 0) {
        return cli_fail_rc(cfg->c, rc, &err);
    }
    rc = cli_term_parse((const char *)text, len, CLI_TERM_FILE, &f->x, &where);
    free(text);
    if (rc == BP_E_INVALID || rc == BP_E_LIMIT) {
        return cli_fail(cfg->c, CLI_INVALID, "bad_config", "%s:%u:%u: %s", f->path, where.line,
                        where.column, where.text);
    }
    return rc != 0 ? cli_fail_rc(cfg->c, rc, NULL) : CLI_OK;
}

static int open_file(struct cli_config *cfg, const char *path, struct file **out)
{
    struct file *f = calloc(1, sizeof(*f));

    *out = f;
    if (f == NULL || ei_x_new(&f->x) != 0) {
        free(f);
        return cli_fail_rc(cfg->c, BP_E_NOMEM, NULL);
    }
    f->next = cfg->files;
    cfg->files = f;
    cfg->n_files++;
    if ((size_t)snprintf(f->path, sizeof(f->path), "%s", path) >= sizeof(f->path)) {
        return cli_fail(cfg->c, CLI_FAILED, "badarg", "the path is too long: %.200s...", path);
    }
    return parse_file(cfg, f);
}

/* Two entries of one application in one file. */
static bool is_twice(struct cli_value params, const char *key, int upto)
{
    struct cli_list l;
    struct cli_value e;
    struct cli_value k;

    (void)cli_list_begin(&l, params);
    while (cli_list_next(&l, &e) && e.at < upto) {
        if (cli_value_tuple(e, &k) == 2 && cli_value_is(k, key)) {
            return true;
        }
    }
    return false;
}

static int add_entry(struct cli_config *cfg, enum cli_place place, const char *key,
                     struct cli_value value)
{
    struct entry *e = calloc(1, sizeof(*e));

    if (e == NULL) {
        return cli_fail_rc(cfg->c, BP_E_NOMEM, NULL);
    }
    e->place = place;
    e->value = value;
    (void)snprintf(e->key, sizeof(e->key), "%s", key);
    e->next = cfg->entries;
    cfg->entries = e;
    return CLI_OK;
}

static int read_params(struct cli_config *cfg, struct file *f, const char *app,
                       struct cli_value params)
{
    bool barrel = strcmp(app, "barrel_p2p") == 0;
    struct cli_list l;
    struct cli_value e;

    if (!cli_list_begin(&l, params) || !l.proper) {
        return refuse(cfg, f, "the parameters of an application must be a list", params);
    }
    while (cli_list_next(&l, &e)) {
        char key[MAXATOMLEN_UTF8];
        struct cli_value k;
        int status;

        if (cli_value_tuple(e, &k) != 2 || !cli_value_atom(k, key)) {
            return refuse(cfg, f, "a parameter must be {Key, Value}", e);
        }
        if (is_twice(params, key, e.at)) {
            return refuse(cfg, f, "a parameter stands twice", e);
        }
        if (!barrel && strcmp(app, "quic") != 0) {
            continue;
        }
        status = add_entry(cfg, barrel ? CLI_BARREL_P2P : CLI_QUIC, key, cli_value_after(k));
        if (status != CLI_OK) {
            return status;
        }
    }
    return CLI_OK;
}

static int read_app(struct cli_config *cfg, struct file *f, struct cli_value v)
{
    char app[MAXATOMLEN_UTF8];
    struct cli_value name;

    if (cli_value_tuple(v, &name) != 2) {
        return refuse(cfg, f, "wanted is {Application, [{Key, Value}]}", v);
    }
    if (!cli_value_atom(name, app)) {
        return refuse(cfg, f, "the name of an application must be an atom", name);
    }
    return read_params(cfg, f, app, cli_value_after(name));
}

static int read_file(struct cli_config *cfg, const char *path, bool may_include);

/* "dir/other" or "dir/other.config", from where the sys.config is. */
static int include(struct cli_config *cfg, const struct file *f, const char *name)
{
    char dir[PATH_MAX];
    char path[PATH_MAX];
    char whole[PATH_MAX];
    size_t len = strlen(name);
    struct bp_errbuf err;
    bool bare = len < 7 || strcmp(name + len - 7, ".config") != 0;

    if (cfg->n_files > INCLUDES_MAX) {
        return cli_fail(cfg->c, CLI_FAILED, "limit", "%s: it names more than %u files", f->path,
                        INCLUDES_MAX);
    }
    if ((size_t)snprintf(path, sizeof(path), "%s%s", name, bare ? ".config" : "") >= sizeof(path) ||
        bp_path_dir(f->path, dir, sizeof(dir), &err) != 0) {
        return cli_fail(cfg->c, CLI_FAILED, "badarg", "%s: the path is too long", f->path);
    }
    if (path[0] == '/') {
        return read_file(cfg, path, false);
    }
    return bp_path_join(dir, path, whole, sizeof(whole), &err) == 0
               ? read_file(cfg, whole, false)
               : cli_fail_rc(cfg->c, BP_E_INVALID, &err);
}

/* Applications first, then the files that it names, whose values count more. */
static int read_file(struct cli_config *cfg, const char *path, bool may_include)
{
    char name[PATH_MAX];
    struct file *f;
    struct cli_list l;
    struct cli_value e;
    int status = open_file(cfg, path, &f);

    if (status != CLI_OK) {
        return status;
    }
    if (!cli_list_begin(&l, (struct cli_value){&f->x, 0}) || !l.proper) {
        return refuse(cfg, f, "wanted is one list with a full stop behind it",
                      (struct cli_value){&f->x, 0});
    }
    for (struct cli_list all = l; status == CLI_OK && cli_list_next(&all, &e);) {
        if (!may_include || !is_sys(f) || !cli_value_text(e, name, sizeof(name))) {
            status = read_app(cfg, f, e);
        }
    }
    for (; status == CLI_OK && may_include && is_sys(f) && cli_list_next(&l, &e);) {
        if (cli_value_text(e, name, sizeof(name))) {
            status = include(cfg, f, name);
        }
    }
    return status;
}

int cli_config_read(const struct cli *c, const char *file, struct cli_config **out)
{
    struct cli_config *cfg = calloc(1, sizeof(*cfg));
    int status;

    *out = NULL;
    if (cfg == NULL) {
        return cli_fail_rc(c, BP_E_NOMEM, NULL);
    }
    cfg->c = c;
    cfg->yes = calloc(1, sizeof(*cfg->yes));
    status = cfg->yes != NULL && ei_x_new(cfg->yes) == 0 && ei_x_encode_atom(cfg->yes, "true") == 0
                 ? read_file(cfg, file, true)
                 : cli_fail_rc(c, BP_E_NOMEM, NULL);
    if (status != CLI_OK) {
        cli_config_free(cfg);
        return status;
    }
    *out = cfg;
    return CLI_OK;
}

/* --- looking up ------------------------------------------------------------------ */

static bool in_app(const struct cli_config *cfg, enum cli_place place, const char *key,
                   struct cli_value *out)
{
    for (const struct entry *e = cfg != NULL ? cfg->entries : NULL; e != NULL; e = e->next) {
        if (e->place == place && strcmp(e->key, key) == 0) {
            *out = e->value;
            return true;
        }
    }
    return false;
}

/* The first item of {quic, [{dist, _}]} with that key: {Key, Value}, or Key alone. */
static bool in_dist_item(const struct cli_config *cfg, const char *key, struct cli_value *out)
{
    struct cli_value dist;
    struct cli_value k;
    struct cli_list l;

    if (!in_app(cfg, CLI_QUIC, "dist", &dist) || !cli_list_begin(&l, dist)) {
        return false;
    }
    while (cli_list_next(&l, out)) {
        if ((cli_value_tuple(*out, &k) == 2 && cli_value_is(k, key)) || cli_value_is(*out, key)) {
            return true;
        }
    }
    return false;
}

/* proplists:get_value/2: the first one counts. */
static bool in_dist(const struct cli_config *cfg, const char *key, struct cli_value *out)
{
    struct cli_value item;
    struct cli_value k;

    if (!in_dist_item(cfg, key, &item)) {
        return false;
    }
    *out = cli_value_tuple(item, &k) == 2 ? cli_value_after(k) : (struct cli_value){cfg->yes, 0};
    return true;
}

bool cli_config_in(const struct cli_config *cfg, enum cli_place place, const char *key,
                   struct cli_value *out)
{
    if (place == CLI_BOTH) {
        return false;
    }
    return place == CLI_DIST ? in_dist(cfg, key, out) : in_app(cfg, place, key, out);
}

bool cli_config_get(const struct cli_config *cfg, const char *key, struct cli_value *out)
{
    const struct cli_key *k = cli_key_find(key);

    if (k == NULL) {
        return false;
    }
    if (k->place == CLI_BOTH) {
        return in_app(cfg, CLI_BARREL_P2P, key, out) || in_dist(cfg, key, out);
    }
    return cli_config_in(cfg, k->place, key, out);
}

/* The keys of {quic, [{dist, _}]}, as proplists has them. */
static void each_in_dist(const struct cli_config *cfg,
                         void (*each)(void *ctx, enum cli_place place, const char *key), void *ctx)
{
    struct cli_value dist;
    struct cli_value e;
    struct cli_value k;
    struct cli_value first;
    struct cli_list l;
    char key[MAXATOMLEN_UTF8];

    if (!in_app(cfg, CLI_QUIC, "dist", &dist) || !cli_list_begin(&l, dist)) {
        return;
    }
    while (cli_list_next(&l, &e)) {
        k = cli_value_tuple(e, &first) == 2 ? first : e;
        if (cli_value_atom(k, key) && /* once */
            in_dist_item(cfg, key, &first) && first.at == e.at) {
            each(ctx, CLI_DIST, key);
        }
    }
}

void cli_config_each(const struct cli_config *cfg, enum cli_place place,
                     void (*each)(void *ctx, enum cli_place place, const char *key), void *ctx)
{
    if (place == CLI_DIST) {
        each_in_dist(cfg, each, ctx);
        return;
    }
    for (const struct entry *e = cfg->entries; e != NULL; e = e->next) {
        if (e->place == CLI_BARREL_P2P) {
            bool again = false;
            for (const struct entry *o = cfg->entries; o != e; o = o->next) {
                again = again || (o->place == CLI_BARREL_P2P && strcmp(o->key, e->key) == 0);
            }
            if (!again) {
                each(ctx, place, e->key);
            }
        }
    }
}
