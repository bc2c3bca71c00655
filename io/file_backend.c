/* SPDX-License-Identifier: Apache-2.0 */
/* The file backend: a worker for each directory, and what lookups wait for. */
#include "io/file_backend.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "io/file_worker.h"

/* A directory whose worker is busy for so long is left out. */
#define STUCK BP_SEC

struct ticket {
    bool used;
    uint64_t id;
    unsigned pending; /* directories */
    int failure;      /* the first one's that is not BP_E_NOT_FOUND */
    struct bp_endpoints found[BP_FILE_BACKEND_DIRS];
};

struct published {
    char node[BP_NODE_NAME_MAX + 1];
    struct bp_endpoint first;
};

struct bp_file_backend {
    size_t n_dirs;
    struct bp_file_worker *workers[BP_FILE_BACKEND_DIRS];
    int event_fd;
    enum bp_endpoint_format format;
    bp_time limit;
    struct bp_endpoint_complaint complaint;
    unsigned n_ours;
    struct published ours[BP_FILE_BACKEND_OURS];
    uint64_t next_call;
    struct ticket tickets[BP_CHAIN_LOOKUPS_MAX];
    struct bp_file_job *read; /* taken while somebody waited for another one */
};

/* Ids of jobs: those of lookups are the chain's tickets, others have this bit. */
#define CALL ((uint64_t)1 << 63)

static bp_time monotonic(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (bp_time)t.tv_sec * BP_SEC + (bp_time)t.tv_nsec;
}

/* --- life ---------------------------------------------------------------- */

int bp_file_backend_new(struct bp_file_backend **out, const struct bp_file_backend_config *config)
{
    struct bp_file_backend *b;
    int rc;

    *out = NULL;
    if (config->n_dirs == 0 || config->n_dirs > BP_FILE_BACKEND_DIRS) {
        return BP_E_INVALID;
    }
    b = calloc(1, sizeof(*b));
    if (b == NULL) {
        return BP_E_NOMEM;
    }
    b->limit = config->limit != 0 ? config->limit : 2 * BP_SEC;
    b->complaint = config->complaint;
    b->format = config->format;
    b->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = b->event_fd >= 0 ? 0 : BP_E_SYSTEM;
    while (rc == 0 && b->n_dirs < config->n_dirs) {
        rc = bp_file_worker_new(&b->workers[b->n_dirs], config->dirs[b->n_dirs], b->event_fd);
        b->n_dirs += rc == 0;
    }
    if (rc != 0) {
        bp_file_backend_del(b);
        return rc;
    }
    *out = b;
    return 0;
}

void bp_file_backend_del(struct bp_file_backend *b)
{
    if (b == NULL) {
        return;
    }
    for (size_t d = 0; d < b->n_dirs; d++) {
        bp_file_worker_del(b->workers[d]);
    }
    while (b->read != NULL) {
        struct bp_file_job *next = b->read->next;
        bp_file_job_free(b->read);
        b->read = next;
    }
    if (b->event_fd >= 0) {
        (void)close(b->event_fd);
    }
    free(b);
}

int bp_file_backend_fd(const struct bp_file_backend *b)
{
    return b->event_fd;
}

/* --- jobs that are done ---------------------------------------------------- */

static void tell_complaints(const struct bp_file_backend *b, size_t d, const struct bp_file_job *j)
{
    const char *dir = bp_file_worker_dir(b->workers[d]);

    for (unsigned i = 0; i < j->n_complaints && b->complaint.say != NULL; i++) {
        b->complaint.say(b->complaint.ctx, dir, j->complaints[i].text);
    }
}

static void tell_failure(const struct bp_file_backend *b, size_t d, const struct bp_file_job *j)
{
    if (b->complaint.say != NULL) {
        b->complaint.say(b->complaint.ctx, bp_file_worker_dir(b->workers[d]),
                         j->why[0] != '\0' ? j->why : bp_err_text(j->rc));
    }
}

static void add_new(struct bp_endpoints *all, const struct bp_endpoint *ep)
{
    for (size_t i = 0; i < all->n; i++) {
        if (all->at[i].port == ep->port && strcmp(all->at[i].host, ep->host) == 0) {
            return;
        }
    }
    if (all->n < BP_ENDPOINTS_MAX) {
        all->at[all->n++] = *ep;
    }
}

static void settle(struct bp_chain *c, struct ticket *t)
{
    struct bp_endpoints all = {0};

    if (t->pending > 0) {
        return;
    }
    for (size_t d = 0; d < BP_FILE_BACKEND_DIRS; d++) {
        for (size_t i = 0; i < t->found[d].n; i++) {
            add_new(&all, &t->found[d].at[i]);
        }
    }
    t->used = false;
    bp_chain_answer(c, t->id, all.n > 0 ? 0 : t->failure, &all, 0);
}

static void take_read(struct bp_file_backend *b, struct bp_chain *c, size_t d,
                      const struct bp_file_job *j)
{
    tell_complaints(b, d, j);
    for (struct ticket *t = b->tickets; t < b->tickets + BP_CHAIN_LOOKUPS_MAX; t++) {
        if (t->used && t->id == j->id) {
            t->found[d] = j->eps;
            t->failure = t->failure == BP_E_NOT_FOUND && j->rc != 0 ? j->rc : t->failure;
            t->pending--;
            settle(c, t);
            return;
        }
    }
}

static void take_all_read(struct bp_file_backend *b, struct bp_chain *c)
{
    while (b->read != NULL) {
        struct bp_file_job *j = b->read;
        b->read = j->next;
        take_read(b, c, (size_t)j->who, j);
        bp_file_job_free(j);
    }
}

void bp_file_backend_run(struct bp_file_backend *b, struct bp_chain *c)
{
    uint64_t n;

    (void)!read(b->event_fd, &n, sizeof(n));
    take_all_read(b, c);
    for (size_t d = 0; d < b->n_dirs; d++) {
        struct bp_file_job *j;
        while ((j = bp_file_worker_take(b->workers[d])) != NULL) {
            if ((j->id & CALL) == 0) {
                take_read(b, c, d, j);
            }
            bp_file_job_free(j); /* what nobody waits for any more */
        }
    }
}

/* --- lookups ------------------------------------------------------------- */

static int submit_read(struct bp_file_backend *b, struct ticket *t, size_t d, const char *node)
{
    struct bp_file_job *j = bp_file_job_new(BP_FILE_READ, node);
    int rc;

    if (j == NULL) {
        return BP_E_NOMEM;
    }
    j->id = t->id;
    j->who = d;
    rc = bp_file_worker_submit(b->workers[d], j);
    if (rc != 0) {
        bp_file_job_free(j);
        return rc;
    }
    t->pending++;
    return 0;
}

static int lookup(void *ctx, struct bp_chain *c, uint64_t ticket, const char *node,
                  const char *host)
{
    struct bp_file_backend *b = ctx;
    struct ticket *t = b->tickets;

    (void)c;
    (void)host;
    while (t < b->tickets + BP_CHAIN_LOOKUPS_MAX && t->used) {
        t++;
    }
    if (t == b->tickets + BP_CHAIN_LOOKUPS_MAX || strlen(node) > BP_NODE_NAME_MAX) {
        return BP_E_LIMIT;
    }
    *t = (struct ticket){.used = true, .id = ticket, .failure = BP_E_NOT_FOUND};
    for (size_t d = 0; d < b->n_dirs; d++) {
        int rc =
            bp_file_worker_stuck(b->workers[d]) > STUCK ? BP_E_TIMEOUT : submit_read(b, t, d, node);
        t->failure = t->failure == BP_E_NOT_FOUND && rc != 0 ? rc : t->failure;
    }
    t->used = t->pending > 0;
    return t->used ? 0 : t->failure;
}

static void cancel(void *ctx, uint64_t ticket)
{
    struct bp_file_backend *b = ctx;

    for (struct ticket *t = b->tickets; t < b->tickets + BP_CHAIN_LOOKUPS_MAX; t++) {
        t->used = t->used && t->id != ticket;
    }
    for (size_t d = 0; d < b->n_dirs; d++) {
        bp_file_worker_cancel(b->workers[d], ticket);
    }
}

/* --- calls that wait --------------------------------------------------------- */

/* What one directory said to a call. */
struct said {
    struct bp_file_job *job; /* NULL: nothing in time */
    int rc;
};

/* Keeps what is not the call's for bp_file_backend_run. */
static void take_said(struct bp_file_backend *b, uint64_t id, struct said *said)
{
    for (size_t d = 0; d < b->n_dirs; d++) {
        struct bp_file_job *j;
        while ((j = bp_file_worker_take(b->workers[d])) != NULL) {
            if (j->id == id) {
                said[d].job = j;
                said[d].rc = j->rc;
            } else if ((j->id & CALL) == 0) {
                j->next = b->read;
                b->read = j;
            } else {
                bp_file_job_free(j);
            }
        }
    }
}

static bool all_said(const struct bp_file_backend *b, const struct said *said)
{
    for (size_t d = 0; d < b->n_dirs; d++) {
        if (said[d].job == NULL && said[d].rc == BP_E_TIMEOUT) {
            return false;
        }
    }
    return true;
}

/* Gives every directory a job like `model` and waits for all of them, no longer than the limit. */
static void call(struct bp_file_backend *b, const struct bp_file_job *model, struct said *said)
{
    static const uint64_t one = 1;
    uint64_t id = CALL | ++b->next_call;
    bp_time end = monotonic() + b->limit;
    uint64_t n;

    for (size_t d = 0; d < b->n_dirs; d++) {
        struct bp_file_job *j = bp_file_job_new(model->kind, model->node);

        said[d] = (struct said){.rc = j != NULL ? BP_E_TIMEOUT : BP_E_NOMEM};
        if (j == NULL) {
            continue;
        }
        j->id = id;
        j->eps = model->eps;
        j->format = b->format;
        if (bp_file_worker_submit(b->workers[d], j) != 0) {
            said[d].rc = BP_E_LIMIT;
            bp_file_job_free(j);
        }
    }
    while (!all_said(b, said)) {
        struct pollfd p = {.fd = b->event_fd, .events = POLLIN};
        bp_time now = monotonic();

        if (now >= end || poll(&p, 1, (int)((end - now) / BP_MS) + 1) < 0) {
            break;
        }
        (void)!read(b->event_fd, &n, sizeof(n));
        take_said(b, id, said);
    }
    for (size_t d = 0; d < b->n_dirs; d++) {
        bp_file_worker_cancel(b->workers[d], id);
    }
    if (b->read != NULL) {
        (void)!write(b->event_fd, &one, sizeof(one)); /* it was read above */
    }
}

/* Tells and frees; the first failure, 0 where `one` success is enough and there was one. */
static int conclude(struct bp_file_backend *b, struct said *said, bool one)
{
    int failure = 0;
    bool success = false;

    for (size_t d = 0; d < b->n_dirs; d++) {
        if (said[d].job != NULL) {
            tell_complaints(b, d, said[d].job);
            if (said[d].rc != 0 && said[d].rc != BP_E_NOT_FOUND) {
                tell_failure(b, d, said[d].job);
            }
        }
        bp_file_job_free(said[d].job);
        if (said[d].rc == 0 || said[d].rc == BP_E_NOT_FOUND) {
            success = true;
        } else if (failure == 0) {
            failure = said[d].rc;
        }
    }
    return one && success ? 0 : failure;
}

static struct published *find_ours(struct bp_file_backend *b, const char *node)
{
    for (unsigned i = 0; i < b->n_ours; i++) {
        if (strcmp(b->ours[i].node, node) == 0) {
            return &b->ours[i];
        }
    }
    return NULL;
}

static int publish(void *ctx, const char *node, const struct bp_endpoints *eps)
{
    struct bp_file_backend *b = ctx;
    struct published *mine = find_ours(b, node);
    struct bp_file_job model = {.kind = BP_FILE_WRITE, .eps = *eps};
    struct said said[BP_FILE_BACKEND_DIRS];
    int rc;

    if (strlen(node) > BP_NODE_NAME_MAX || (mine == NULL && b->n_ours == BP_FILE_BACKEND_OURS)) {
        return BP_E_LIMIT;
    }
    memcpy(model.node, node, strlen(node) + 1);
    call(b, &model, said);
    rc = conclude(b, said, true);
    /* What took too long may still be written. */
    if (rc == 0 || rc == BP_E_TIMEOUT) {
        mine = mine != NULL ? mine : &b->ours[b->n_ours++];
        memcpy(mine->node, node, strlen(node) + 1);
        mine->first = eps->at[0];
    }
    return rc;
}

static int withdraw(void *ctx, const char *node)
{
    struct bp_file_backend *b = ctx;
    struct published *mine = find_ours(b, node);
    struct bp_file_job model = {.kind = BP_FILE_DELETE};
    struct said said[BP_FILE_BACKEND_DIRS];

    if (mine == NULL) {
        return BP_E_NOT_FOUND;
    }
    memcpy(model.node, node, strlen(node) + 1);
    model.eps = (struct bp_endpoints){.n = 1, .at = {mine->first}};
    *mine = b->ours[--b->n_ours];
    call(b, &model, said);
    return conclude(b, said, false);
}

static int list(void *ctx, void (*each)(void *each_ctx, const char *node, uint16_t port),
                void *each_ctx)
{
    struct bp_file_backend *b = ctx;
    const struct bp_file_job model = {.kind = BP_FILE_LIST};
    struct said said[BP_FILE_BACKEND_DIRS];

    call(b, &model, said);
    for (size_t d = 0; d < b->n_dirs; d++) {
        const struct bp_file_job *j = said[d].job;
        for (const struct bp_file_listed *l = j != NULL ? j->listed : NULL; l != NULL;
             l = l->next) {
            each(each_ctx, l->node, l->first.port);
        }
    }
    return conclude(b, said, true);
}

const struct bp_backend bp_file_backend_ops = {.name = "file",
                                               .local = true,
                                               .lookup = lookup,
                                               .cancel = cancel,
                                               .publish = publish,
                                               .withdraw = withdraw,
                                               .list = list};
