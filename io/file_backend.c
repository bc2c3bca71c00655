/* SPDX-License-Identifier: Apache-2.0 */
/* The file backend: jobs for a thread that may hang in the file system. */
#include "io/file_backend.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"

#define COMPLAINTS 8u /* of one job that are told */

enum job_kind { JOB_READ, JOB_WRITE, JOB_DELETE, JOB_LIST };

struct listed {
    struct listed *next;
    uint16_t port;
    char node[BP_NODE_NAME_MAX + 1];
};

struct complaint {
    char file[PATH_MAX];
    char text[sizeof(((struct bp_errbuf *)NULL)->text)];
};

/* Belongs to the queue, then to the thread, then to the list of those done, then to the caller. */
struct job {
    struct job *next;
    enum job_kind kind;
    uint64_t ticket; /* JOB_READ */
    bool unwanted;   /* nobody takes the result */
    bool done;
    int rc;
    char node[BP_NODE_NAME_MAX + 1];
    struct bp_endpoints eps; /* found, or to be written, or what the file must say */
    struct listed *listed;
    struct listed **listed_tail;
    unsigned n_complaints;
    struct complaint *complaints; /* COMPLAINTS, from the first one on */
};

/* What the thread uses. It may outlive the backend, so the last of the two frees it. */
struct shared {
    pthread_mutex_t lock;
    pthread_cond_t work;
    pthread_cond_t done;
    unsigned refs;
    bool closing;
    struct job *queue;
    struct job **queue_tail;
    unsigned n_queued;
    struct job *running;
    struct job *ready; /* JOB_READ only: others are waited for */
    struct job **ready_tail;
    int event_fd;
    /* of the thread alone */
    struct bp_endpoint_cache cache;
    enum bp_endpoint_format format;
    size_t n_dirs;
    char dirs[BP_FILE_BACKEND_DIRS][PATH_MAX];
};

struct published {
    char node[BP_NODE_NAME_MAX + 1];
    struct bp_endpoint first;
};

struct bp_file_backend {
    struct shared *s;
    bool has_thread;
    bp_time limit;
    struct bp_endpoint_complaint complaint;
    unsigned n_ours;
    struct published ours[BP_FILE_BACKEND_OURS];
};

/* --- jobs ---------------------------------------------------------------- */

static struct job *job_new(enum job_kind kind, const char *node)
{
    struct job *j = calloc(1, sizeof(*j));

    if (j != NULL) {
        j->kind = kind;
        j->listed_tail = &j->listed;
        (void)snprintf(j->node, sizeof(j->node), "%s", node);
    }
    return j;
}

static void job_free(struct job *j)
{
    while (j->listed != NULL) {
        struct listed *next = j->listed->next;
        free(j->listed);
        j->listed = next;
    }
    free(j->complaints);
    free(j);
}

static void jobs_free(struct job *j)
{
    while (j != NULL) {
        struct job *next = j->next;
        job_free(j);
        j = next;
    }
}

/* --- in the thread ------------------------------------------------------- */

/* Without memory a complaint is lost, not the answer. */
static void keep_complaint(void *ctx, const char *file, const char *text)
{
    struct job *j = ctx;

    if (j->complaints == NULL) {
        j->complaints = calloc(COMPLAINTS, sizeof(*j->complaints));
    }
    if (j->complaints != NULL && j->n_complaints < COMPLAINTS) {
        struct complaint *c = &j->complaints[j->n_complaints++];
        (void)snprintf(c->file, sizeof(c->file), "%s", file);
        (void)snprintf(c->text, sizeof(c->text), "%s", text);
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

static void do_read(struct shared *s, struct job *j)
{
    const struct bp_endpoint_complaint complaint = {.say = keep_complaint, .ctx = j};
    int failure = BP_E_NOT_FOUND;

    for (size_t d = 0; d < s->n_dirs; d++) {
        struct bp_endpoints eps;
        int rc = bp_endpoint_file_read(&s->cache, s->dirs[d], j->node, &eps, &complaint, NULL);

        for (size_t i = 0; i < eps.n; i++) {
            add_new(&j->eps, &eps.at[i]);
        }
        if (rc != 0 && failure == BP_E_NOT_FOUND) {
            failure = rc;
        }
    }
    j->rc = j->eps.n > 0 ? 0 : failure;
}

static void do_write(struct shared *s, struct job *j)
{
    j->rc = BP_E_FILE;
    for (size_t d = 0; d < s->n_dirs; d++) {
        struct bp_errbuf err;
        int rc = bp_endpoint_file_write(s->dirs[d], j->node, &j->eps, s->format, &err);

        if (rc != 0) {
            keep_complaint(j, s->dirs[d], err.text[0] != '\0' ? err.text : bp_err_text(rc));
        }
        j->rc = d == 0 || rc == 0 ? rc : j->rc;
    }
}

static void do_delete(struct shared *s, struct job *j)
{
    const struct bp_endpoint *ours = &j->eps.at[0];

    j->rc = 0;
    for (size_t d = 0; d < s->n_dirs; d++) {
        struct bp_endpoints there;
        struct bp_errbuf err;
        int rc = bp_endpoint_file_read(&s->cache, s->dirs[d], j->node, &there, NULL, NULL);

        if (rc != 0 || there.at[0].port != ours->port ||
            strcmp(there.at[0].host, ours->host) != 0) {
            continue;
        }
        rc = bp_endpoint_file_delete(s->dirs[d], j->node, &err);
        if (rc != 0) {
            keep_complaint(j, s->dirs[d], err.text);
            j->rc = rc;
        }
    }
}

static void add_listed(void *ctx, const char *node, const struct bp_endpoints *eps)
{
    struct job *j = ctx;
    struct listed *l = malloc(sizeof(*l));

    if (l == NULL) {
        j->rc = BP_E_NOMEM;
        return;
    }
    l->next = NULL;
    l->port = eps->at[0].port;
    (void)snprintf(l->node, sizeof(l->node), "%s", node);
    *j->listed_tail = l;
    j->listed_tail = &l->next;
}

static void do_list(struct shared *s, struct job *j)
{
    const struct bp_endpoint_complaint complaint = {.say = keep_complaint, .ctx = j};
    size_t failed = 0;

    for (size_t d = 0; d < s->n_dirs; d++) {
        struct bp_errbuf err;
        int rc = bp_endpoint_files_list(&s->cache, s->dirs[d], add_listed, j, &complaint, &err);

        if (rc != 0 && rc != BP_E_NOT_FOUND) {
            keep_complaint(j, s->dirs[d], err.text);
            failed++;
        }
    }
    if (j->rc == 0 && failed == s->n_dirs) {
        j->rc = BP_E_FILE;
    }
}

static void do_job(struct shared *s, struct job *j)
{
    switch (j->kind) {
    case JOB_READ:
        do_read(s, j);
        break;
    case JOB_WRITE:
        do_write(s, j);
        break;
    case JOB_DELETE:
        do_delete(s, j);
        break;
    case JOB_LIST:
        do_list(s, j);
        break;
    }
}

/* With the lock, which it releases: the last one frees. */
static void unref(struct shared *s)
{
    bool last = --s->refs == 0;

    (void)pthread_mutex_unlock(&s->lock);
    if (!last) {
        return;
    }
    jobs_free(s->queue);
    jobs_free(s->ready);
    bp_endpoint_cache_free(&s->cache);
    if (s->event_fd >= 0) {
        (void)close(s->event_fd);
    }
    (void)pthread_cond_destroy(&s->work);
    (void)pthread_cond_destroy(&s->done);
    (void)pthread_mutex_destroy(&s->lock);
    free(s);
}

/* With the lock. */
static void hand_over(struct shared *s, struct job *j)
{
    static const uint64_t one = 1;

    s->running = NULL;
    j->done = true;
    if (j->unwanted) {
        job_free(j);
    } else if (j->kind == JOB_READ) {
        j->next = NULL;
        *s->ready_tail = j;
        s->ready_tail = &j->next;
        (void)!write(s->event_fd, &one, sizeof(one));
    } else {
        (void)pthread_cond_broadcast(&s->done);
    }
}

static void *file_thread(void *arg)
{
    struct shared *s = arg;

    (void)pthread_mutex_lock(&s->lock);
    while (!s->closing) {
        struct job *j = s->queue;

        if (j == NULL) {
            (void)pthread_cond_wait(&s->work, &s->lock);
            continue;
        }
        s->queue = j->next;
        s->queue_tail = s->queue == NULL ? &s->queue : s->queue_tail;
        s->n_queued--;
        s->running = j;
        (void)pthread_mutex_unlock(&s->lock);
        do_job(s, j);
        (void)pthread_mutex_lock(&s->lock);
        hand_over(s, j);
    }
    unref(s);
    return NULL;
}

/* --- life ---------------------------------------------------------------- */

static int shared_new(struct shared **out, const struct bp_file_backend_config *config)
{
    struct shared *s = calloc(1, sizeof(*s));
    pthread_condattr_t attr;

    *out = s;
    if (s == NULL) {
        return BP_E_NOMEM;
    }
    (void)pthread_mutex_init(&s->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&s->work, NULL);
    (void)pthread_cond_init(&s->done, &attr);
    (void)pthread_condattr_destroy(&attr);
    s->refs = 1;
    s->queue_tail = &s->queue;
    s->ready_tail = &s->ready;
    s->format = config->format;
    s->n_dirs = config->n_dirs;
    for (size_t i = 0; i < config->n_dirs; i++) {
        (void)snprintf(s->dirs[i], sizeof(s->dirs[i]), "%s", config->dirs[i]);
    }
    s->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return s->event_fd >= 0 ? 0 : BP_E_SYSTEM;
}

int bp_file_backend_new(struct bp_file_backend **out, const struct bp_file_backend_config *config)
{
    struct bp_file_backend *b;
    int rc;

    *out = NULL;
    if (config->n_dirs == 0 || config->n_dirs > BP_FILE_BACKEND_DIRS) {
        return BP_E_INVALID;
    }
    for (size_t i = 0; i < config->n_dirs; i++) {
        if (config->dirs[i][0] == '\0' || strlen(config->dirs[i]) >= PATH_MAX) {
            return BP_E_INVALID;
        }
    }
    b = calloc(1, sizeof(*b));
    if (b == NULL) {
        return BP_E_NOMEM;
    }
    b->limit = config->limit != 0 ? config->limit : 2 * BP_SEC;
    b->complaint = config->complaint;
    rc = shared_new(&b->s, config);
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
    if (b->s != NULL) {
        (void)pthread_mutex_lock(&b->s->lock);
        b->s->closing = true;
        (void)pthread_cond_broadcast(&b->s->work);
        unref(b->s);
    }
    free(b);
}

int bp_file_backend_fd(const struct bp_file_backend *b)
{
    return b->s->event_fd;
}

/* With the first job, so that a backend that nobody asks has no thread. */
static int start_thread(struct bp_file_backend *b)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all;
    sigset_t old;
    int rc;

    if (b->has_thread) {
        return 0;
    }
    (void)sigfillset(&all);
    (void)pthread_attr_init(&attr);
    (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the program's */
    b->s->refs++;
    rc = pthread_create(&thread, &attr, file_thread, b->s);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    (void)pthread_attr_destroy(&attr);
    if (rc != 0) {
        b->s->refs--;
        return BP_E_SYSTEM;
    }
    b->has_thread = true;
    return 0;
}

/* --- asking -------------------------------------------------------------- */

/* Takes the job; frees it after a failure. With the lock. */
static int enqueue(struct bp_file_backend *b, struct job *j)
{
    struct shared *s = b->s;
    int rc = s->n_queued >= BP_FILE_BACKEND_JOBS ? BP_E_LIMIT : start_thread(b);

    if (rc != 0) {
        job_free(j);
        return rc;
    }
    *s->queue_tail = j;
    s->queue_tail = &j->next;
    s->n_queued++;
    (void)pthread_cond_signal(&s->work);
    return 0;
}

/* Takes a job out of a list; false if it is not there. With the lock. */
static bool take_out(struct job **head, struct job ***tail, const struct job *j)
{
    for (struct job **p = head; *p != NULL; p = &(*p)->next) {
        if (*p == j) {
            *p = j->next;
            *tail = *p == NULL ? p : *tail;
            return true;
        }
    }
    return false;
}

/* Nobody wants the job's result any more. With the lock. */
static void abandon(struct shared *s, struct job *j)
{
    if (j == s->running) {
        j->unwanted = true;
    } else if (take_out(&s->queue, &s->queue_tail, j)) {
        s->n_queued--;
        job_free(j);
    } else if (take_out(&s->ready, &s->ready_tail, j)) {
        job_free(j);
    }
}

static void tell_complaints(const struct bp_file_backend *b, const struct job *j)
{
    for (unsigned i = 0; i < j->n_complaints && b->complaint.say != NULL; i++) {
        b->complaint.say(b->complaint.ctx, j->complaints[i].file, j->complaints[i].text);
    }
}

/* Runs a job and waits for it, no longer than the limit. The caller frees it after 0. */
static int run_job(struct bp_file_backend *b, struct job *j)
{
    struct shared *s = b->s;
    struct timespec until;
    bp_time at;
    int rc;

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    at = (bp_time)until.tv_sec * BP_SEC + (bp_time)until.tv_nsec + b->limit;
    until = (struct timespec){.tv_sec = (time_t)(at / BP_SEC), .tv_nsec = (long)(at % BP_SEC)};
    (void)pthread_mutex_lock(&s->lock);
    rc = enqueue(b, j);
    while (rc == 0 && !j->done) {
        if (pthread_cond_timedwait(&s->done, &s->lock, &until) == ETIMEDOUT && !j->done) {
            abandon(s, j);
            rc = BP_E_TIMEOUT;
        }
    }
    (void)pthread_mutex_unlock(&s->lock);
    if (rc == 0) {
        tell_complaints(b, j);
    }
    return rc;
}

void bp_file_backend_run(struct bp_file_backend *b, struct bp_chain *c)
{
    struct shared *s = b->s;
    struct job *ready;
    uint64_t n;

    (void)pthread_mutex_lock(&s->lock);
    (void)!read(s->event_fd, &n, sizeof(n));
    ready = s->ready;
    s->ready = NULL;
    s->ready_tail = &s->ready;
    (void)pthread_mutex_unlock(&s->lock);
    for (const struct job *j = ready; j != NULL; j = j->next) {
        tell_complaints(b, j);
        bp_chain_answer(c, j->ticket, j->rc, &j->eps, 0);
    }
    jobs_free(ready);
}

static int lookup(void *ctx, struct bp_chain *c, uint64_t ticket, const char *node,
                  const char *host)
{
    struct bp_file_backend *b = ctx;
    struct job *j = job_new(JOB_READ, node);
    int rc;

    (void)c;
    (void)host;
    if (j == NULL) {
        return BP_E_NOMEM;
    }
    j->ticket = ticket;
    (void)pthread_mutex_lock(&b->s->lock);
    rc = enqueue(b, j);
    (void)pthread_mutex_unlock(&b->s->lock);
    return rc;
}

static struct job *with_ticket(struct job *j, uint64_t ticket)
{
    while (j != NULL && (j->kind != JOB_READ || j->ticket != ticket)) {
        j = j->next;
    }
    return j;
}

static void cancel(void *ctx, uint64_t ticket)
{
    struct shared *s = ((struct bp_file_backend *)ctx)->s;
    struct job *j;

    (void)pthread_mutex_lock(&s->lock);
    j = with_ticket(s->queue, ticket);
    j = j != NULL ? j : with_ticket(s->ready, ticket);
    if (j == NULL && s->running != NULL && s->running->kind == JOB_READ &&
        s->running->ticket == ticket) {
        j = s->running;
    }
    if (j != NULL) {
        abandon(s, j);
    }
    (void)pthread_mutex_unlock(&s->lock);
}

/* --- publishing, listing --------------------------------------------------- */

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
    struct job *j;
    int rc;

    if (strlen(node) > BP_NODE_NAME_MAX || (mine == NULL && b->n_ours == BP_FILE_BACKEND_OURS)) {
        return BP_E_LIMIT;
    }
    j = job_new(JOB_WRITE, node);
    if (j == NULL) {
        return BP_E_NOMEM;
    }
    j->eps = *eps;
    rc = run_job(b, j);
    if (rc == 0) {
        rc = j->rc;
        job_free(j);
    }
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
    struct job *j;
    int rc;

    if (mine == NULL) {
        return BP_E_NOT_FOUND;
    }
    j = job_new(JOB_DELETE, node);
    if (j == NULL) {
        return BP_E_NOMEM;
    }
    j->eps = (struct bp_endpoints){.n = 1, .at = {mine->first}};
    *mine = b->ours[--b->n_ours];
    rc = run_job(b, j);
    if (rc == 0) {
        rc = j->rc;
        job_free(j);
    }
    return rc;
}

static int list(void *ctx, void (*each)(void *each_ctx, const char *node, uint16_t port),
                void *each_ctx)
{
    struct job *j = job_new(JOB_LIST, "");
    int rc;

    if (j == NULL) {
        return BP_E_NOMEM;
    }
    rc = run_job(ctx, j);
    if (rc != 0) {
        return rc;
    }
    rc = j->rc;
    for (const struct listed *l = j->listed; l != NULL; l = l->next) {
        each(each_ctx, l->node, l->port);
    }
    job_free(j);
    return rc;
}

const struct bp_backend bp_file_backend_ops = {.name = "file",
                                               .local = true,
                                               .lookup = lookup,
                                               .cancel = cancel,
                                               .publish = publish,
                                               .withdraw = withdraw,
                                               .list = list};
