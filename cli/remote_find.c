/* SPDX-License-Identifier: Apache-2.0 */
/* Where the node is that ping, call, send and peers are about: as `resolve` finds it. */
#include "cli/discover.h"
#include "cli/remote.h"

#include "base/err.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define WAIT_MS 1000

/* The chain, but for modules that only a node can ask. */
static int add_backends(struct bp_finder *f, struct cli_discover *d)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < d->n; i++) {
        if (d->order[i] == CLI_STATIC) {
            rc = bp_finder_add_static(f, &d->nodes);
        } else if (d->order[i] == CLI_FILES) {
            rc = bp_finder_add_files(f, &d->files);
        } else if (d->order[i] == CLI_DNS) {
            rc = bp_finder_add_dns(f, &d->dns);
        }
    }
    return rc;
}

/* Runs the finder until it has the answer; BP_E_TIMEOUT: the time is over. */
static int wait_answer(struct cli_remote *r, struct bp_finder *f, struct bp_finder_event *e)
{
    for (;;) {
        while (bp_finder_poll(f, e)) {
            if (e->kind != BP_FINDER_COMPLAINT) {
                return 0;
            }
            cli_warn("discovery: %s is left out: %s", e->backend, bp_err_text(e->rc));
        }
        struct pollfd p = {.fd = bp_finder_fd(f), .events = POLLIN};
        bp_time now = cli_now();
        bp_time at = bp_finder_deadline(f);
        bp_time ms = at <= now ? 0 : (at - now) / BP_MS + 1;
        unsigned left = cli_remote_left(r);
        if (left == 0) {
            return BP_E_TIMEOUT;
        }
        ms = ms < WAIT_MS ? ms : WAIT_MS;
        (void)poll(&p, 1, ms < left ? (int)ms : (int)left);
        bp_finder_run(f, cli_now());
    }
}

static int not_found(struct cli_remote *r, const struct bp_finder_event *e)
{
    if (e->rc == BP_E_SYSTEM) {
        return cli_remote_report(r, BP_ERROR_NOT_FOUND,
                                 "it is known, but by a host name that has no address; "
                                 "`barrel-p2p resolve` shows which");
    }
    return cli_remote_report(r, BP_ERROR_NOT_FOUND,
                             "nothing knows where this node is: not --static, endpoint files or "
                             "DNS; `barrel-p2p resolve` shows who was asked");
}

static int add_addresses(struct cli_remote *r, const struct bp_finder_event *e)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < e->n; i++) {
        char ip[BP_ADDR_TEXT_MAX];
        (void)bp_addr_ip_text(&e->addrs[i], ip);
        rc = bp_node_discover_static(r->node, r->peer, ip, bp_addr_port(&e->addrs[i]));
    }
    return rc == 0 ? CLI_OK : cli_remote_report(r, rc, bp_error_detail());
}

/* Only the relay knows; our node need not ask again. */
static int add_nowhere(struct cli_remote *r)
{
    int rc = bp_node_discover_static(r->node, r->peer, "127.0.0.1", 1);

    return rc == 0 ? CLI_OK : cli_remote_report(r, rc, bp_error_detail());
}

/* As erl has it; libbarrel_p2p reads it. */
static int check_cookie_file(const struct cli_remote *r)
{
    const char *home = getenv("HOME");
    char path[PATH_MAX];

    struct stat st;

    if (home != NULL && snprintf(path, sizeof(path), "%s/.erlang.cookie", home) < PATH_MAX &&
        stat(path, &st) == 0) {
        if ((st.st_mode & (S_IRWXG | S_IRWXO)) != 0) { /* erl does not start with it */
            cli_warn("other users can read or write %s, and with it the cookie: run chmod 400 on "
                     "it",
                     path);
        }
        return CLI_OK;
    }
    return cli_fail(
        r->c, CLI_NOT_FOUND, "no_cookie",
        "there is no cookie: it is the first line of ~/.erlang.cookie, {dist_cookie, _} of "
        "--config, or --cookie");
}

/* Of --config, where the command line does not say it. */
static int set_cookie(struct cli_remote *r, const struct cli_discover *d)
{
    char cookie[MAXATOMLEN_UTF8] = "";
    struct cli_value v;
    int rc = 0;

    if (r->c->cookie != NULL) {
        r->cookie_from = "--cookie";
        rc = bp_node_set_text(r->node, BP_OPT_COOKIE, r->c->cookie);
    } else if (cli_config_get(d->cfg, "dist_cookie", &v) &&
               (cli_value_atom(v, cookie) || cli_value_text(v, cookie, sizeof(cookie)))) {
        r->cookie_from = "--config";
        rc = bp_node_set_text(r->node, BP_OPT_COOKIE, cookie);
    } else {
        r->cookie_from = "~/.erlang.cookie";
        return check_cookie_file(r);
    }
    bp_wipe(cookie, sizeof(cookie));
    return rc == 0 ? CLI_OK : cli_remote_report(r, rc, bp_error_detail());
}

static int find(struct cli_remote *r, struct cli_discover *d)
{
    struct bp_finder_event e;
    struct bp_finder *f;
    uint32_t id;
    int status = set_cookie(r, d);
    int rc;

    if (status != CLI_OK) {
        return status;
    }
    d->finder.own_host = strchr(r->self, '@') + 1; /* what is there needs no DNS */
    d->dns.own_host = d->finder.own_host;
    rc = bp_finder_new(&f, &d->finder);
    if (rc == 0) {
        rc = add_backends(f, d);
    }
    if (rc == 0) {
        rc = bp_finder_lookup(f, r->peer, cli_now(), &id);
    }
    if (rc == 0) {
        rc = wait_answer(r, f, &e);
    }
    if (rc != 0) {
        status = cli_remote_report(r, rc, "");
    } else {
        status = e.kind == BP_FINDER_FOUND ? add_addresses(r, &e)
                 : r->relay_knows          ? add_nowhere(r)
                                           : not_found(r, &e);
    }
    bp_finder_del(f);
    return status;
}

int cli_remote_find(struct cli_remote *r)
{
    struct cli without_timeout = *r->c; /* ours is for all of it, not for each backend */
    struct cli_discover d;
    int status;

    without_timeout.timeout_ms = 0;
    status = cli_discover_load(&without_timeout, &d);
    if (status == CLI_OK) {
        status = find(r, &d);
    }
    cli_discover_free(&d);
    return status;
}
