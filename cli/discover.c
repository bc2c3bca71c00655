/* SPDX-License-Identifier: Apache-2.0 */
/* Settings of discovery, from a sys.config and the command line. */
#include "cli/discover.h"

#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/socket.h>
#include <time.h>

#define MODULE "barrel_p2p_discovery_"

bp_time cli_now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (bp_time)t.tv_sec * BP_SEC + (bp_time)t.tv_nsec;
}

void cli_discover_free(struct cli_discover *d)
{
    cli_config_free(d->cfg);
    free(d->rows);
    d->cfg = NULL;
    d->rows = NULL;
}

/* --- fixed entries -------------------------------------------------------------- */

/* An atom, text or an address as a tuple. */
static bool to_text(struct cli_value v, char *out, size_t cap)
{
    char text[MAXATOMLEN_UTF8];

    if (!cli_value_ip(v, text) && !cli_value_atom(v, text)) {
        return cli_value_text(v, out, cap) && out[0] != '\0';
    }
    return (size_t)snprintf(out, cap, "%s", text) < cap;
}

bool cli_static_entry(struct cli_value v, struct bp_static_node *out)
{
    struct cli_value node;
    struct cli_value host;
    struct bp_endpoint ep;
    long long port;
    int n = cli_value_tuple(v, &node);

    *out = (struct bp_static_node){0};
    if (n != 2 && n != 3) {
        return false;
    }
    host = cli_value_after(node);
    if (n == 2 && cli_value_tuple(host, &host) != 2) {
        return false;
    }
    if (!to_text(node, out->node, sizeof(out->node)) ||
        !to_text(host, out->at.host, sizeof(out->at.host)) ||
        !cli_value_integer(cli_value_after(host), &port) || port < 1 || port > UINT16_MAX) {
        return false;
    }
    out->at.port = (uint16_t)port;
    return bp_static_node_endpoint(out, &ep);
}

/* Those of the command line first. */
static int load_static(const struct cli *c, struct cli_discover *d)
{
    struct cli_value nodes;
    struct cli_value e;
    struct cli_list l = {0};
    size_t n = 0;

    if (cli_config_get(d->cfg, "nodes", &nodes)) {
        (void)cli_list_begin(&l, nodes);
    }
    d->rows = calloc((size_t)(c->discovery.n_static + l.left + 1), sizeof(*d->rows));
    if (d->rows == NULL) {
        return cli_fail_rc(c, BP_E_NOMEM, NULL);
    }
    for (int i = 0; i < c->discovery.n_static; i++) {
        if (bp_static_node_parse(c->discovery.static_nodes[i], &d->rows[n]) != 0) {
            return cli_fail(c, CLI_USAGE, "badarg",
                            "--static %s: wanted is NODE=HOST:PORT, as a@host=192.0.2.1:4433",
                            c->discovery.static_nodes[i]);
        }
        n++;
    }
    while (cli_list_next(&l, &e)) {
        if (cli_static_entry(e, &d->rows[n])) {
            n++;
        } else {
            char *shown = cli_value_print(e);
            cli_warn("ignored in {quic,[{dist,[{nodes,_}]}]}: %s; an entry is {Node,{Host,Port}}",
                     shown != NULL ? shown : "?");
            free(shown);
        }
    }
    d->nodes = (struct bp_static_nodes){.n = n, .at = d->rows};
    return CLI_OK;
}

/* --- values ---------------------------------------------------------------------- */

static bool text_of(const struct cli_discover *d, const char *key, char *out, size_t cap)
{
    struct cli_value v;

    return cli_config_get(d->cfg, key, &v) && cli_value_text(v, out, cap) && out[0] != '\0';
}

static long long number_of(const struct cli_discover *d, const char *key)
{
    struct cli_value v;
    long long n;
    char text[32];

    if (cli_config_get(d->cfg, key, &v)) {
        if (cli_value_integer(v, &n)) {
            return n;
        }
        if (cli_value_text(v, text, sizeof(text))) {
            return strtoll(text, NULL, 10); /* a port as text */
        }
    }
    return strtoll(cli_key_find(key)->fallback, NULL, 10);
}

static int check_values(const struct cli *c, const struct cli_discover *d)
{
    for (size_t i = 0; i < cli_n_keys; i++) {
        struct cli_value v;
        if (cli_config_get(d->cfg, cli_keys[i].name, &v) && !cli_key_accepts(&cli_keys[i], v)) {
            return cli_fail(c, CLI_INVALID, "bad_config",
                            "%s: %s must be %s; 'barrel-p2p config check' says more",
                            c->discovery.config, cli_keys[i].name, cli_keys[i].expects);
        }
    }
    return CLI_OK;
}

/* --- the chain --------------------------------------------------------------------- */

static void add_backend(struct cli_discover *d, enum cli_backend which, const char *name)
{
    if (d->n < BP_CHAIN_BACKENDS_MAX) {
        d->order[d->n] = which;
        (void)snprintf(d->names[d->n], sizeof(d->names[d->n]), "%s", name);
        d->n++;
    }
}

static void add_module(struct cli_discover *d, struct cli_value v)
{
    static const char *const names[] = {
        [CLI_STATIC] = "static", [CLI_FILES] = "file", [CLI_DNS] = "dns"};
    char module[MAXATOMLEN_UTF8];
    struct cli_value first;

    while (cli_value_tuple(v, &first) == 2) {
        v = first;
    }
    if (!cli_value_atom(v, module)) {
        return;
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strncmp(module, MODULE, strlen(MODULE)) == 0 &&
            strcmp(module + strlen(MODULE), names[i]) == 0) {
            add_backend(d, (enum cli_backend)i, names[i]);
            return;
        }
    }
    add_backend(d, CLI_OTHER, module);
}

static void load_chain(struct cli_discover *d)
{
    struct cli_value v;
    struct cli_value e;
    struct cli_list l;

    if (cli_config_get(d->cfg, "discovery_module", &v) &&
        !cli_value_is(v, "barrel_p2p_discovery")) {
        add_module(d, v);
    } else if (cli_config_get(d->cfg, "discovery_backends", &v) && cli_list_begin(&l, v)) {
        while (cli_list_next(&l, &e)) {
            add_module(d, e);
        }
    } else {
        add_backend(d, CLI_STATIC, "static");
        add_backend(d, CLI_FILES, "file");
        add_backend(d, CLI_DNS, "dns");
    }
}

/* --- files --------------------------------------------------------------------------- */

static int load_dirs(const struct cli *c, struct cli_discover *d)
{
    char dir[PATH_MAX];
    char runtime[PATH_MAX];
    struct bp_discovery_dirs_config config = {.dir = c->discovery.dir,
                                              .runtime = c->discovery.runtime_dir};
    struct cli_value v;
    struct bp_errbuf err;
    int rc;

    if (config.dir == NULL && text_of(d, "discovery_dir", dir, sizeof(dir))) {
        config.dir = dir;
    }
    if (config.runtime == NULL && cli_config_get(d->cfg, "runtime_dir", &v)) {
        config.no_runtime = cli_value_is(v, "none");
        config.runtime =
            !config.no_runtime && cli_value_text(v, runtime, sizeof(runtime)) ? runtime : NULL;
    } else if (config.runtime != NULL && strcmp(config.runtime, "none") == 0) {
        config.no_runtime = true;
    }
    rc = bp_discovery_dirs(&config, &d->dirs, &err);
    if (rc != 0) {
        return cli_fail_rc(c, rc, &err);
    }
    cli_warn_err(&err);
    for (size_t i = 0; i < d->dirs.n; i++) {
        d->dir_ptrs[i] = d->dirs.at[i];
    }
    d->files.dirs = d->dir_ptrs;
    d->files.n_dirs = d->dirs.n;
    return CLI_OK;
}

/* --- DNS ------------------------------------------------------------------------------- */

/* As c-ares reads them: "192.0.2.53:53,[2001:db8::53]:53". */
static void add_server(struct cli_discover *d, struct cli_value v)
{
    size_t n = strlen(d->dns_servers);
    struct cli_value host = v;
    char text[256];
    long long port = 53;

    if (cli_value_tuple(v, &host) == 2) {
        (void)cli_value_integer(cli_value_after(host), &port);
    } else {
        host = v;
    }
    if (to_text(host, text, sizeof(text))) {
        bool v6 = strchr(text, ':') != NULL;
        (void)snprintf(d->dns_servers + n, sizeof(d->dns_servers) - n, "%s%s%s%s:%lld",
                       n > 0 ? "," : "", v6 ? "[" : "", text, v6 ? "]" : "", port);
    }
}

static int load_port(const struct cli *c, struct cli_discover *d)
{
    const char *text = c->discovery.dns_port;
    struct cli_value v;
    long long port;
    char *end;

    if (text == NULL) {
        /* all nodes are thought to have this node's */
        port = number_of(d, cli_config_get(d->cfg, "dist_port", &v) ? "dist_port" : "listen_port");
    } else {
        port = strtoll(text, &end, 10);
        if (text[0] < '0' || text[0] > '9' || *end != '\0' || port < 1 || port > UINT16_MAX) {
            return cli_fail(c, CLI_USAGE, "badarg", "--dns-port %s: wanted is a port, 1 to 65535",
                            text);
        }
    }
    d->dns.port = (uint16_t)port;
    return CLI_OK;
}

static int load_dns(const struct cli *c, struct cli_discover *d)
{
    struct cli_value v;
    struct cli_value e;
    struct cli_list l;

    if (c->discovery.dns_domain != NULL) {
        d->dns.domain = c->discovery.dns_domain;
    } else if (text_of(d, "dns_domain", d->dns_domain, sizeof(d->dns_domain))) {
        d->dns.domain = d->dns_domain;
    }
    if (c->discovery.dns_servers != NULL) {
        d->dns.servers = c->discovery.dns_servers;
    } else if (cli_config_get(d->cfg, "dns_servers", &v) && cli_list_begin(&l, v)) {
        while (cli_list_next(&l, &e)) {
            add_server(d, e);
        }
        d->dns.servers = d->dns_servers[0] != '\0' ? d->dns_servers : NULL;
    }
    if (cli_config_get(d->cfg, "family", &v)) {
        d->dns.family = cli_value_is(v, "inet")    ? AF_INET
                        : cli_value_is(v, "inet6") ? AF_INET6
                                                   : AF_UNSPEC;
    }
    d->dns.max_ttl = (uint32_t)number_of(d, "dns_ttl");
    return load_port(c, d);
}

int cli_discover_load(const struct cli *c, struct cli_discover *d)
{
    int status = CLI_OK;
    bp_time limit;

    *d = (struct cli_discover){0};
    if (c->discovery.config != NULL) {
        status = cli_config_read(c, c->discovery.config, &d->cfg);
        status = status == CLI_OK ? check_values(c, d) : status;
    }
    if (status == CLI_OK) {
        status = load_static(c, d);
    }
    if (status == CLI_OK) {
        status = load_dirs(c, d);
    }
    if (status == CLI_OK) {
        status = load_dns(c, d);
    }
    if (status != CLI_OK) {
        return status;
    }
    load_chain(d);
    limit = c->timeout_ms != 0 ? c->timeout_ms * BP_MS
                               : (bp_time)number_of(d, "discovery_timeout") * BP_MS;
    d->files.limit = limit;
    d->dns.limit = limit;
    d->finder = (struct bp_finder_config){
        .limit = limit,
        .negative = (bp_time)number_of(d, "discovery_negative_ttl") * BP_MS,
        .servers = d->dns.servers,
        .family = d->dns.family};
    if (c->node != NULL) { /* as that node would do it */
        (void)snprintf(d->own_host, sizeof(d->own_host), "%s", strchr(c->node, '@') + 1);
    } else if (gethostname(d->own_host, sizeof(d->own_host)) != 0) {
        d->own_host[0] = '\0';
    }
    d->own_host[sizeof(d->own_host) - 1] = '\0';
    if (d->own_host[0] != '\0') { /* what is on this machine needs no DNS */
        d->dns.own_host = d->own_host;
        d->finder.own_host = d->own_host;
    }
    return CLI_OK;
}
