/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ENDPOINT_WRITE, READ, DELETE, LIST: endpoint files, answered by a message to whoever asked. A
 * mount can hang, and a control operation would hold a scheduler meanwhile, so each directory has a
 * thread of its own (io/file_worker.h). The threads live with the node port, whose lock guards
 * this.
 *
 * Arguments: 1 directory, 2 node, 3 and 4 host and port once for each address, 5 format, 6 id, 7
 * the port that a file must say to be deleted. Later the caller gets {barrel_p2p_file, Id, Result},
 * Result as of control operations: for READ port (2 bytes), length and host of each address; for
 * LIST length and node, port, length and host of each node's first one. A directory that has hung
 * for a second is refused at once (BP_E_TIMEOUT).
 *
 * ENDPOINT_KNOWN: arguments 1 and 2, result as of READ, at once or never ("again": READ it).
 */
#include "driver/drv.h"

#include "auth/node_name.h"
#include "io/file_worker.h"

#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define WORKERS_MAX 8u
#define STUCK       BP_SEC

static struct bp_file_worker *workers[WORKERS_MAX];
static unsigned n_workers;
static unsigned next_out; /* who goes when a new directory needs a place */
static int event_fd = -1;
static uint64_t jobs;
static uint64_t known;   /* answered without a job */
static uint64_t refused; /* too many jobs or directories, or a directory that hangs */

/* --- life ---------------------------------------------------------------- */

/* A thread that hangs in the file system comes back into this code: it must stay loaded. */
static void end_worker(struct drv_node_port *np, struct bp_file_worker *w)
{
    if (!bp_file_worker_end(w, bp_file_worker_stuck(w) > STUCK ? 0 : 100 * BP_MS)) {
        driver_lock_driver(np->p.port);
    }
    bp_file_worker_del(w);
}

void drv_endpoint_stop(struct drv_node_port *np)
{
    while (n_workers > 0) {
        end_worker(np, workers[--n_workers]);
    }
    if (event_fd >= 0) {
        driver_select(np->p.port, (ErlDrvEvent)(intptr_t)event_fd, ERL_DRV_READ | ERL_DRV_USE, 0);
        event_fd = -1; /* the VM closes it when it has let go */
    }
}

static int open_event(struct drv_node_port *np)
{
    if (event_fd >= 0) {
        return 0;
    }
    event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (event_fd < 0) {
        return BP_E_SYSTEM;
    }
    if (driver_select(np->p.port, (ErlDrvEvent)(intptr_t)event_fd, ERL_DRV_READ | ERL_DRV_USE, 1) !=
        0) {
        (void)close(event_fd);
        event_fd = -1;
        return BP_E_SYSTEM;
    }
    return 0;
}

/* The place of a directory that nobody has asked for lately, if it does not hang. */
static bool make_room(struct drv_node_port *np)
{
    for (unsigned i = 0; i < n_workers; i++) {
        unsigned at = next_out++ % n_workers;
        if (bp_file_worker_stuck(workers[at]) == 0) {
            end_worker(np, workers[at]);
            workers[at] = workers[--n_workers];
            return true;
        }
    }
    return false;
}

static struct bp_file_worker *find_worker(const char *dir)
{
    for (unsigned i = 0; i < n_workers; i++) {
        if (strcmp(bp_file_worker_dir(workers[i]), dir) == 0) {
            return workers[i];
        }
    }
    return NULL;
}

static int worker_of(struct drv_node_port *np, const char *dir, struct bp_file_worker **out)
{
    int rc;

    *out = find_worker(dir);
    if (*out != NULL) {
        return 0;
    }
    rc = open_event(np);
    if (rc == 0 && n_workers == WORKERS_MAX && !make_room(np)) {
        rc = BP_E_LIMIT;
    }
    if (rc == 0) {
        rc = bp_file_worker_new(&workers[n_workers], dir, event_fd);
    }
    if (rc == 0) {
        *out = workers[n_workers++];
    }
    return rc;
}

/* --- results ------------------------------------------------------------- */

static void put_endpoint(struct drv_reply *r, const struct bp_endpoint *ep)
{
    drv_reply_uint(r, ep->port, 2);
    drv_reply_uint(r, strlen(ep->host), 1);
    drv_reply_bytes(r, ep->host, strlen(ep->host));
}

static void put_result(struct drv_reply *r, const struct bp_file_job *j)
{
    /* A directory that is not there has no nodes. */
    if (j->rc != 0 && !(j->kind == BP_FILE_LIST && j->rc == BP_E_NOT_FOUND)) {
        drv_reply_error(r, j->rc, j->why[0] != '\0' ? j->why : NULL);
        return;
    }
    drv_reply_ok(r);
    for (size_t i = 0; j->kind == BP_FILE_READ && i < j->eps.n; i++) {
        put_endpoint(r, &j->eps.at[i]);
    }
    for (const struct bp_file_listed *l = j->listed; l != NULL; l = l->next) {
        drv_reply_uint(r, strlen(l->node), 1);
        drv_reply_bytes(r, l->node, strlen(l->node));
        put_endpoint(r, &l->first);
    }
}

static void deliver(const struct bp_file_job *j)
{
    struct drv_reply r;

    for (unsigned i = 0; i < j->n_complaints; i++) {
        drv_log(DRV_WARNING, "discovery_file_ignored", "", "%s", j->complaints[i].text);
    }
    drv_reply_init(&r);
    put_result(&r, j);
    drv_tell_result((ErlDrvTermData)j->who, "barrel_p2p_file", j->id, &r);
}

bool drv_endpoint_ready(int fd)
{
    uint64_t n;

    if (fd != event_fd) {
        return false;
    }
    (void)!read(event_fd, &n, sizeof(n));
    for (unsigned i = 0; i < n_workers; i++) {
        struct bp_file_job *j;
        while ((j = bp_file_worker_take(workers[i])) != NULL) {
            deliver(j);
            bp_file_job_free(j);
        }
    }
    return true;
}

/* --- asking -------------------------------------------------------------- */

/* Arguments 3 and 4, host and port, once for each address. */
static bool addresses(const uint8_t *p, size_t len, struct bp_endpoints *eps)
{
    struct drv_args a;
    struct drv_arg arg;

    drv_args_init(&a, p, len);
    while (drv_args_next(&a, &arg)) {
        struct bp_endpoint *ep = &eps->at[eps->n < BP_ENDPOINTS_MAX ? eps->n : 0];

        if ((arg.key == 3 || arg.key == 4) && eps->n == BP_ENDPOINTS_MAX) {
            return false;
        }
        if (arg.key == 3) {
            if (arg.len > BP_ENDPOINT_HOST_MAX) {
                return false;
            }
            memcpy(ep->host, arg.val, arg.len);
            ep->host[arg.len] = '\0';
        } else if (arg.key == 4) {
            uint64_t port = drv_arg_uint(&arg);
            ep->port = port <= UINT16_MAX ? (uint16_t)port : 0;
            if (!bp_endpoint_valid(ep)) {
                return false;
            }
            eps->n++;
        }
    }
    return eps->n > 0;
}

static bool details(enum bp_file_job_kind kind, const uint8_t *p, size_t len, struct bp_file_job *j)
{
    uint64_t format = BP_ENDPOINT_JSON;
    uint64_t only = 0;

    if (kind == BP_FILE_WRITE) {
        (void)drv_args_uint(p, len, 5, &format);
        j->format = format == BP_ENDPOINT_TERM ? BP_ENDPOINT_TERM : BP_ENDPOINT_JSON;
        return addresses(p, len, &j->eps) && format <= BP_ENDPOINT_TERM;
    }
    if (kind == BP_FILE_DELETE && drv_args_uint(p, len, 7, &only)) {
        j->eps.n = 1;
        j->eps.at[0].port = only <= UINT16_MAX ? (uint16_t)only : 0;
    }
    return true;
}

static int submit(struct drv_node_port *np, enum bp_file_job_kind kind, const uint8_t *p,
                  size_t len)
{
    char dir[DRV_PATH_MAX];
    char node[BP_NODE_NAME_MAX + 1] = "";
    struct bp_file_worker *w = NULL;
    struct bp_file_job *j;
    int rc;

    if (!drv_args_string(p, len, 1, dir, sizeof(dir)) ||
        (kind != BP_FILE_LIST && (!drv_args_string(p, len, 2, node, sizeof(node)) ||
                                  !bp_node_name_valid(node, strlen(node))))) {
        return BP_E_INVALID;
    }
    rc = worker_of(np, dir, &w);
    if (rc == 0 && bp_file_worker_stuck(w) > STUCK) {
        rc = BP_E_TIMEOUT;
    }
    if (rc != 0) {
        return rc;
    }
    j = bp_file_job_new(kind, node);
    if (j == NULL) {
        return BP_E_NOMEM;
    }
    (void)drv_args_uint(p, len, 6, &j->id);
    j->who = (uint64_t)driver_caller(np->p.port);
    rc = details(kind, p, len, j) ? bp_file_worker_submit(w, j) : BP_E_INVALID;
    if (rc != 0) {
        bp_file_job_free(j);
    }
    return rc;
}

static void op_known(const uint8_t *p, size_t len, struct drv_reply *r)
{
    char dir[DRV_PATH_MAX];
    char node[BP_NODE_NAME_MAX + 1];
    struct bp_file_worker *w;
    struct bp_endpoints eps;
    int rc = BP_E_AGAIN;

    if (!drv_args_string(p, len, 1, dir, sizeof(dir)) ||
        !drv_args_string(p, len, 2, node, sizeof(node))) {
        drv_reply_error(r, BP_E_INVALID, NULL);
        return;
    }
    w = find_worker(dir);
    if (w != NULL) {
        rc = bp_file_worker_known(w, node, &eps);
    }
    known += rc != BP_E_AGAIN;
    if (rc != 0) {
        drv_reply_error(r, rc, NULL);
        return;
    }
    drv_reply_ok(r);
    for (size_t i = 0; i < eps.n; i++) {
        put_endpoint(r, &eps.at[i]);
    }
}

bool drv_endpoint_op(struct drv_node_port *np, unsigned op, const uint8_t *p, size_t len,
                     struct drv_reply *r)
{
    static const struct {
        unsigned op;
        enum bp_file_job_kind kind;
    } kinds[] = {{OP_ENDPOINT_WRITE, BP_FILE_WRITE},
                 {OP_ENDPOINT_READ, BP_FILE_READ},
                 {OP_ENDPOINT_DELETE, BP_FILE_DELETE},
                 {OP_ENDPOINT_LIST, BP_FILE_LIST}};

    if (op == OP_ENDPOINT_KNOWN) {
        op_known(p, len, r);
        return true;
    }
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        int rc;

        if (kinds[i].op != op) {
            continue;
        }
        rc = submit(np, kinds[i].kind, p, len);
        jobs += rc == 0;
        refused += rc == BP_E_LIMIT || rc == BP_E_TIMEOUT;
        if (rc == 0) {
            drv_reply_ok(r);
        } else {
            drv_reply_error(r, rc,
                            rc == BP_E_TIMEOUT ? "the directory hangs"
                            : rc == BP_E_LIMIT ? "too many file operations are under way"
                                               : NULL);
        }
        return true;
    }
    return false;
}

void drv_endpoint_stats(struct drv_reply *r)
{
    unsigned hung = 0;

    for (unsigned i = 0; i < n_workers; i++) {
        hung += bp_file_worker_stuck(workers[i]) > STUCK;
    }
    drv_reply_stat(r, "endpoint_file_jobs", jobs);
    drv_reply_stat(r, "endpoint_file_jobs_refused", refused);
    drv_reply_stat(r, "endpoint_files_known", known);
    drv_reply_stat(r, "endpoint_dirs_hung", hung);
}
