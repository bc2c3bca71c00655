/* SPDX-License-Identifier: Apache-2.0 */
/* barrel-p2p resolve and names: what each backend of discovery says, and how long it takes. */
#include "cli/discover.h"

#include "base/err.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ONLY_A_NODE "only a node can ask this module"

/* One backend in a chain of its own. */
struct asked {
    struct bp_chain *chain;
    struct bp_file_backend *files;
    struct bp_dns_backend *dns;
    int fd; /* -1: answers at once */
};

static void complain(void *ctx, const char *file, const char *text)
{
    (void)ctx;
    (void)file;
    cli_warn("%s", text);
}

static int open_one(struct cli_discover *d, enum cli_backend which, struct asked *a)
{
    const struct bp_chain_config config = {.limit = d->finder.limit};
    int rc = bp_chain_new(&a->chain, &config);

    a->fd = -1;
    if (rc == 0 && which == CLI_STATIC) {
        rc = bp_chain_add(a->chain, &bp_static_backend, &d->nodes);
    } else if (rc == 0 && which == CLI_FILES) {
        d->files.complaint.say = complain;
        rc = bp_file_backend_new(&a->files, &d->files);
        rc = rc == 0 ? bp_chain_add(a->chain, &bp_file_backend_ops, a->files) : rc;
        a->fd = rc == 0 ? bp_file_backend_fd(a->files) : -1;
    } else if (rc == 0) {
        rc = bp_dns_backend_new(&a->dns, &d->dns);
        rc = rc == 0 ? bp_chain_add(a->chain, &bp_dns_backend_ops, a->dns) : rc;
        a->fd = rc == 0 ? bp_dns_backend_fd(a->dns) : -1;
    }
    return rc;
}

static void close_one(struct asked *a)
{
    bp_chain_del(a->chain);
    bp_file_backend_del(a->files);
    bp_dns_backend_del(a->dns);
}

static void wait_for(int fd, bp_time deadline)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    bp_time now = cli_now();
    bp_time ms = deadline <= now ? 0 : (deadline - now) / BP_MS + 1;

    (void)poll(&p, 1, ms < 1000 ? (int)ms : 1000);
}

/* Asks one backend: 0 and `*out`, BP_E_NOT_FOUND, or why it failed. */
static int ask_one(struct cli_discover *d, enum cli_backend which, const char *node,
                   struct bp_endpoints *out)
{
    struct asked a = {0};
    struct bp_chain_event e;
    uint32_t id;
    int failure = 0;
    int rc = open_one(d, which, &a);

    *out = (struct bp_endpoints){0};
    rc = rc == 0 ? bp_chain_lookup(a.chain, node, cli_now(), &id) : rc;
    for (bool more = rc == 0; more;) {
        if (a.files != NULL) {
            bp_file_backend_run(a.files, a.chain);
        } else if (a.dns != NULL) {
            bp_dns_backend_run(a.dns, a.chain);
        }
        bp_chain_tick(a.chain, cli_now());
        while (more && bp_chain_poll(a.chain, &e)) {
            if (e.kind == BP_CHAIN_COMPLAINT) {
                failure = e.rc;
                continue;
            }
            rc = e.rc != 0 && failure != 0 ? failure : e.rc;
            *out = e.found;
            more = false;
        }
        if (more) {
            wait_for(a.fd, bp_chain_deadline(a.chain));
        }
    }
    close_one(&a);
    return rc;
}

/* The addresses of endpoints, names resolved, in the order of dialling. */
static int addresses_of(struct cli_discover *d, const char *node, const struct bp_endpoints *eps,
                        struct bp_finder_event *e)
{
    struct bp_static_node rows[BP_ENDPOINTS_MAX];
    struct bp_static_nodes nodes = {.n = eps->n, .at = rows};
    struct bp_finder *f;
    uint32_t id;
    int rc = bp_finder_new(&f, &d->finder);

    for (size_t i = 0; i < eps->n; i++) {
        (void)snprintf(rows[i].node, sizeof(rows[i].node), "%s", node);
        rows[i].at = eps->at[i];
    }
    rc = rc == 0 ? bp_finder_add_static(f, &nodes) : rc;
    rc = rc == 0 ? bp_finder_lookup(f, node, cli_now(), &id) : rc;
    while (rc == 0 && !bp_finder_poll(f, e)) {
        wait_for(bp_finder_fd(f), bp_finder_deadline(f));
        bp_finder_run(f, cli_now());
    }
    bp_finder_del(f);
    return rc != 0 ? rc : e->rc;
}

/* --- resolve ------------------------------------------------------------------------- */

static json_t *endpoints_json(const struct bp_endpoints *eps)
{
    json_t *list = json_array();

    for (size_t i = 0; i < eps->n; i++) {
        (void)json_array_append_new(
            list, json_pack("{s:s, s:i}", "host", eps->at[i].host, "port", (int)eps->at[i].port));
    }
    return list;
}

static json_t *answer_json(const char *name, int rc, const struct bp_endpoints *eps, bp_time took)
{
    json_t *o = json_pack("{s:s, s:I}", "backend", name, "time_us", (json_int_t)(took / 1000));

    if (rc == 0) {
        (void)json_object_set_new(o, "endpoints", endpoints_json(eps));
    } else {
        (void)json_object_set_new(o, "error", json_string(bp_err_atom(rc)));
    }
    return o;
}

static void print_answer(const char *name, int rc, const struct bp_endpoints *eps, bp_time took)
{
    printf("%-8s %6.1f ms  ", name, (double)took / 1e6);
    if (rc != 0) {
        puts(rc == BP_E_NOT_FOUND ? "not found"
             : rc == BP_E_SYSTEM  ? "no server could be asked"
                                  : bp_err_text(rc));
        return;
    }
    for (size_t i = 0; i < eps->n; i++) {
        bool v6 = strchr(eps->at[i].host, ':') != NULL;
        printf("%s%s%s%s:%u", i > 0 ? ", " : "", v6 ? "[" : "", eps->at[i].host, v6 ? "]" : "",
               (unsigned)eps->at[i].port);
    }
    putchar('\n');
}

/* Asks all; the first answer is what a node would go by. */
static json_t *ask_all(const struct cli *c, struct cli_discover *d, const char *node,
                       struct bp_endpoints *first)
{
    json_t *list = json_array();

    first->n = 0;
    for (size_t i = 0; i < d->n; i++) {
        struct bp_endpoints eps;
        bp_time start = cli_now();
        int rc;

        if (d->order[i] == CLI_OTHER) {
            (void)json_array_append_new(
                list, json_pack("{s:s, s:s}", "backend", d->names[i], "error", "not_asked"));
            if (!c->json) {
                printf("%-8s            " ONLY_A_NODE "\n", d->names[i]);
            }
            continue;
        }
        rc = ask_one(d, d->order[i], node, &eps);
        start = cli_now() - start;
        (void)json_array_append_new(list, answer_json(d->names[i], rc, &eps, start));
        if (!c->json) {
            print_answer(d->names[i], rc, &eps, start);
            (void)fflush(stdout); /* one that hangs must not hide the others */
        }
        if (rc == 0 && first->n == 0) {
            *first = eps;
        }
    }
    return list;
}

static json_t *addresses_json(const struct bp_finder_event *e)
{
    json_t *list = json_array();
    char text[BP_ADDR_TEXT_MAX];

    for (size_t i = 0; i < e->n; i++) {
        (void)json_array_append_new(list, json_string(bp_addr_text(&e->addrs[i], text)));
    }
    return list;
}

static int conclude(const struct cli *c, const char *node, json_t *answers,
                    const struct bp_endpoints *first, const struct bp_finder_event *e)
{
    char text[BP_ADDR_TEXT_MAX];
    int status = CLI_OK;

    if (c->json) {
        status = cli_print(c, json_pack("{s:s, s:O, s:o}", "node", node, "backends", answers,
                                        "addresses", addresses_json(e)));
    } else if (e->n > 0) {
        printf("dials    ");
        for (size_t i = 0; i < e->n; i++) {
            printf(" %s", bp_addr_text(&e->addrs[i], text));
        }
        putchar('\n');
    }
    if (status != CLI_OK || e->n > 0) {
        return status;
    }
    if (!c->json) {
        fprintf(stderr, "barrel-p2p %s: %s\n", c->name,
                first->n > 0 ? "the name that it should be at has no address"
                             : "nothing that was asked knows the node");
    }
    return first->n > 0 ? CLI_FAILED : CLI_NOT_FOUND;
}

int cli_resolve(struct cli *c)
{
    struct cli_discover d;
    struct bp_endpoints first;
    struct bp_finder_event e = {0};
    json_t *answers;
    int status = cli_check_node(c, c->args[0]);

    if (status != CLI_OK) {
        return status;
    }
    status = cli_discover_load(c, &d);
    if (status == CLI_OK) {
        answers = ask_all(c, &d, c->args[0], &first);
        if (first.n > 0) {
            (void)addresses_of(&d, c->args[0], &first, &e);
        }
        status = conclude(c, c->args[0], answers, &first, &e);
        json_decref(answers);
    }
    cli_discover_free(&d);
    return status;
}

/* --- names --------------------------------------------------------------------------- */

struct known {
    uint16_t port;
    unsigned backends; /* bits of the chain's places */
    char node[BP_DNS_NAME_MAX + BP_NODE_NAME_MAX];
};

struct all_known {
    unsigned backend;
    size_t n;
    size_t cap;
    struct known *at;
    bool nomem;
};

static void add_known(void *ctx, const char *node, uint16_t port)
{
    struct all_known *all = ctx;
    struct known *k;

    if (all->n == all->cap) {
        size_t cap = all->cap > 0 ? all->cap * 2 : 64;
        struct known *at = realloc(all->at, cap * sizeof(*at));
        if (at == NULL) {
            all->nomem = true;
            return;
        }
        all->at = at;
        all->cap = cap;
    }
    k = &all->at[all->n++];
    k->port = port;
    k->backends = 1u << all->backend;
    (void)snprintf(k->node, sizeof(k->node), "%s", node);
}

static int by_name(const void *a, const void *b)
{
    const struct known *x = a;
    const struct known *y = b;
    int order = strcmp(x->node, y->node);

    return order != 0 ? order : (int)x->port - (int)y->port;
}

/* One line for a node and a port, whoever knows it. */
static void merge(struct all_known *all)
{
    size_t n = 0;

    if (all->n > 0) {
        qsort(all->at, all->n, sizeof(*all->at), by_name);
    }
    for (size_t i = 0; i < all->n; i++) {
        if (n > 0 && by_name(&all->at[n - 1], &all->at[i]) == 0) {
            all->at[n - 1].backends |= all->at[i].backends;
        } else {
            all->at[n++] = all->at[i];
        }
    }
    all->n = n;
}

static int list_one(struct cli_discover *d, size_t i, struct all_known *all)
{
    struct asked a = {0};
    struct bp_chain_event e;
    int rc = open_one(d, d->order[i], &a);

    if (rc == 0) {
        all->backend = (unsigned)i;
        bp_chain_list(a.chain, add_known, all);
        if (bp_chain_poll(a.chain, &e)) {
            rc = e.rc;
        }
    }
    close_one(&a);
    return rc;
}

static void backends_text(const struct cli_discover *d, unsigned bits, char out[static 256])
{
    size_t n = 0;

    out[0] = '\0';
    for (size_t i = 0; i < d->n; i++) {
        if ((bits & 1u << i) != 0 && n < 200) {
            n += (size_t)snprintf(out + n, 256 - n, "%s%s", n > 0 ? ", " : "", d->names[i]);
        }
    }
}

static int print_known(const struct cli *c, const struct cli_discover *d,
                       const struct all_known *all, json_t *failures)
{
    json_t *list = json_array();
    char text[256];

    for (size_t i = 0; i < all->n; i++) {
        const struct known *k = &all->at[i];
        backends_text(d, k->backends, text);
        if (c->json) {
            (void)json_array_append_new(list, json_pack("{s:s, s:i, s:s}", "node", k->node, "port",
                                                        (int)k->port, "backends", text));
        } else {
            printf("%-40s %5u  %s\n", k->node, (unsigned)k->port, text);
        }
    }
    if (c->json) {
        return cli_print(c, json_pack("{s:o, s:O}", "nodes", list, "failed", failures));
    }
    json_decref(list);
    return CLI_OK;
}

int cli_names(struct cli *c)
{
    struct cli_discover d;
    struct all_known all = {0};
    json_t *failures = json_array();
    int status = cli_discover_load(c, &d);

    for (size_t i = 0; status == CLI_OK && i < d.n; i++) {
        int rc = d.order[i] != CLI_OTHER ? list_one(&d, i, &all) : 0;

        if (d.order[i] == CLI_OTHER) {
            cli_warn("%s: " ONLY_A_NODE, d.names[i]);
        } else if (rc != 0) {
            cli_warn("%s: left out: %s", d.names[i], bp_err_text(rc));
            (void)json_array_append_new(
                failures, json_pack("{s:s, s:s}", "backend", d.names[i], "error", bp_err_atom(rc)));
        }
    }
    if (status == CLI_OK) {
        merge(&all);
        status = all.nomem ? cli_fail_rc(c, BP_E_NOMEM, NULL) : print_known(c, &d, &all, failures);
    }
    json_decref(failures);
    free(all.at);
    cli_discover_free(&d);
    return status;
}
