/* SPDX-License-Identifier: Apache-2.0 */
/* A thread for the files of one directory. What it shares with its owner, the last of both frees.
 */
#include "io/file_worker.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"

#define DIR_CAP 4096u

struct shared {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a job to do, or the end */
    pthread_cond_t ended;
    unsigned refs;
    bool closing;
    bool has_ended;
    struct bp_file_job *queue;
    struct bp_file_job **queue_tail;
    struct bp_file_job *running;
    bool unwanted; /* ... and nobody takes its result */
    bp_time since; /* ... when it began */
    struct bp_file_job *done;
    struct bp_file_job **done_tail;
    unsigned n;
    int notify_fd;
    struct bp_endpoint_cache cache; /* the thread's while it runs a job, else the lock's */
    char dir[DIR_CAP];
};

struct bp_file_worker {
    struct shared *s;
    bool has_thread; /* `thread` is to be joined or detached */
    pthread_t thread;
};

static bp_time monotonic(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (bp_time)t.tv_sec * BP_SEC + (bp_time)t.tv_nsec;
}

/* --- jobs ---------------------------------------------------------------- */

struct bp_file_job *bp_file_job_new(enum bp_file_job_kind kind, const char *node)
{
    struct bp_file_job *j = strlen(node) <= BP_NODE_NAME_MAX ? calloc(1, sizeof(*j)) : NULL;

    if (j != NULL) {
        j->kind = kind;
        j->listed_tail = &j->listed;
        memcpy(j->node, node, strlen(node) + 1);
    }
    return j;
}

void bp_file_job_free(struct bp_file_job *j)
{
    if (j == NULL) {
        return;
    }
    while (j->listed != NULL) {
        struct bp_file_listed *next = j->listed->next;
        free(j->listed);
        j->listed = next;
    }
    free(j->complaints);
    free(j);
}

static void jobs_free(struct bp_file_job *j)
{
    while (j != NULL) {
        struct bp_file_job *next = j->next;
        bp_file_job_free(j);
        j = next;
    }
}

/* --- in the thread ------------------------------------------------------- */

/* Without memory a complaint is lost, not the answer. */
static void keep_complaint(void *ctx, const char *file, const char *text)
{
    struct bp_file_job *j = ctx;

    (void)file;
    if (j->complaints == NULL) {
        j->complaints = calloc(BP_FILE_WORKER_COMPLAINTS, sizeof(*j->complaints));
    }
    if (j->complaints != NULL && j->n_complaints < BP_FILE_WORKER_COMPLAINTS) {
        struct bp_file_complaint *c = &j->complaints[j->n_complaints++];
        (void)snprintf(c->text, sizeof(c->text), "%s", text);
    }
}

static void do_delete(struct shared *s, struct bp_file_job *j, struct bp_errbuf *err)
{
    const struct bp_endpoint *ours = &j->eps.at[0];

    if (j->eps.n > 0) {
        struct bp_endpoints there;
        int rc = bp_endpoint_file_read(&s->cache, s->dir, j->node, &there, NULL, NULL);

        if (rc != 0 || there.at[0].port != ours->port ||
            (ours->host[0] != '\0' && strcmp(there.at[0].host, ours->host) != 0)) {
            return; /* none, or of another life */
        }
    }
    j->rc = bp_endpoint_file_delete(s->dir, j->node, err);
}

static void add_listed(void *ctx, const char *node, const struct bp_endpoints *eps)
{
    struct bp_file_job *j = ctx;
    struct bp_file_listed *l = calloc(1, sizeof(*l));

    if (l == NULL) {
        j->rc = BP_E_NOMEM;
        return;
    }
    l->first = eps->at[0];
    (void)snprintf(l->node, sizeof(l->node), "%s", node);
    *j->listed_tail = l;
    j->listed_tail = &l->next;
}

static void do_job(struct shared *s, struct bp_file_job *j)
{
    const struct bp_endpoint_complaint complaint = {.say = keep_complaint, .ctx = j};
    struct bp_errbuf err;
    int rc;

    bp_errbuf_reset(&err);
    switch (j->kind) {
    case BP_FILE_READ:
        j->rc = bp_endpoint_file_read(&s->cache, s->dir, j->node, &j->eps, &complaint, &err);
        break;
    case BP_FILE_WRITE:
        j->rc = bp_endpoint_file_write(s->dir, j->node, &j->eps, j->format, &err);
        break;
    case BP_FILE_DELETE:
        do_delete(s, j, &err);
        break;
    case BP_FILE_LIST:
        rc = bp_endpoint_files_list(&s->cache, s->dir, add_listed, j, &complaint, &err);
        j->rc = rc != 0 ? rc : j->rc;
        break;
    }
    (void)snprintf(j->why, sizeof(j->why), "%s", j->rc != 0 ? err.text : "");
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
    jobs_free(s->done);
    bp_endpoint_cache_free(&s->cache);
    if (s->notify_fd >= 0) {
        (void)close(s->notify_fd);
    }
    (void)pthread_cond_destroy(&s->changed);
    (void)pthread_cond_destroy(&s->ended);
    (void)pthread_mutex_destroy(&s->lock);
    free(s);
}

/* With the lock. */
static void hand_over(struct shared *s, struct bp_file_job *j)
{
    static const uint64_t one = 1;

    s->running = NULL;
    if (s->unwanted || s->closing) {
        s->n--;
        bp_file_job_free(j);
        return;
    }
    j->next = NULL;
    *s->done_tail = j;
    s->done_tail = &j->next;
    (void)!write(s->notify_fd, &one, sizeof(one));
}

static void *file_thread(void *arg)
{
    struct shared *s = arg;

    (void)pthread_mutex_lock(&s->lock);
    while (!s->closing) {
        struct bp_file_job *j = s->queue;

        if (j == NULL) {
            (void)pthread_cond_wait(&s->changed, &s->lock);
            continue;
        }
        s->queue = j->next;
        s->queue_tail = s->queue == NULL ? &s->queue : s->queue_tail;
        s->running = j;
        s->unwanted = false;
        s->since = monotonic();
        (void)pthread_mutex_unlock(&s->lock);
        do_job(s, j);
        (void)pthread_mutex_lock(&s->lock);
        hand_over(s, j);
    }
    s->has_ended = true;
    (void)pthread_cond_broadcast(&s->ended);
    unref(s);
    return NULL;
}

/* --- life ---------------------------------------------------------------- */

static void shared_init(struct shared *s)
{
    pthread_condattr_t attr;

    (void)pthread_mutex_init(&s->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&s->changed, NULL);
    (void)pthread_cond_init(&s->ended, &attr);
    (void)pthread_condattr_destroy(&attr);
    s->refs = 1;
    s->queue_tail = &s->queue;
    s->done_tail = &s->done;
}

int bp_file_worker_new(struct bp_file_worker **out, const char *dir, int notify_fd)
{
    struct bp_file_worker *w;

    *out = NULL;
    if (dir[0] == '\0' || strlen(dir) >= DIR_CAP) {
        return BP_E_INVALID;
    }
    w = calloc(1, sizeof(*w));
    if (w == NULL) {
        return BP_E_NOMEM;
    }
    w->s = calloc(1, sizeof(*w->s));
    if (w->s == NULL) {
        free(w);
        return BP_E_NOMEM;
    }
    shared_init(w->s);
    memcpy(w->s->dir, dir, strlen(dir) + 1);
    w->s->notify_fd = fcntl(notify_fd, F_DUPFD_CLOEXEC, 0);
    if (w->s->notify_fd < 0) {
        bp_file_worker_del(w);
        return BP_E_SYSTEM;
    }
    *out = w;
    return 0;
}

void bp_file_worker_del(struct bp_file_worker *w)
{
    if (w == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&w->s->lock);
    w->s->closing = true;
    (void)pthread_cond_broadcast(&w->s->changed);
    unref(w->s);
    if (w->has_thread) {
        (void)pthread_detach(w->thread);
    }
    free(w);
}

bool bp_file_worker_end(struct bp_file_worker *w, bp_time limit)
{
    struct shared *s = w->s;
    bp_time at = monotonic() + limit;
    struct timespec until = {.tv_sec = (time_t)(at / BP_SEC), .tv_nsec = (long)(at % BP_SEC)};
    bool ended;

    (void)pthread_mutex_lock(&s->lock);
    s->closing = true;
    (void)pthread_cond_broadcast(&s->changed);
    while (w->has_thread && !s->has_ended &&
           pthread_cond_timedwait(&s->ended, &s->lock, &until) != ETIMEDOUT) {
    }
    ended = !w->has_thread || s->has_ended;
    (void)pthread_mutex_unlock(&s->lock);
    if (ended && w->has_thread) {
        (void)pthread_join(w->thread, NULL);
        w->has_thread = false;
    }
    return ended;
}

const char *bp_file_worker_dir(const struct bp_file_worker *w)
{
    return w->s->dir;
}

/* With the lock. */
static int start_thread(struct bp_file_worker *w)
{
    sigset_t all;
    sigset_t old;
    int rc;

    if (w->has_thread) {
        return 0;
    }
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the program's */
    w->s->refs++;
    rc = pthread_create(&w->thread, NULL, file_thread, w->s);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0) {
        w->s->refs--;
        return BP_E_SYSTEM;
    }
    w->has_thread = true;
    return 0;
}

/* --- in and out ----------------------------------------------------------- */

int bp_file_worker_submit(struct bp_file_worker *w, struct bp_file_job *j)
{
    struct shared *s = w->s;
    int rc;

    (void)pthread_mutex_lock(&s->lock);
    rc = s->n >= BP_FILE_WORKER_JOBS || s->closing ? BP_E_LIMIT : start_thread(w);
    if (rc == 0) {
        j->next = NULL;
        *s->queue_tail = j;
        s->queue_tail = &j->next;
        s->n++;
        (void)pthread_cond_signal(&s->changed);
    }
    (void)pthread_mutex_unlock(&s->lock);
    return rc;
}

int bp_file_worker_known(struct bp_file_worker *w, const char *node, struct bp_endpoints *out)
{
    struct shared *s = w->s;
    int rc = BP_E_AGAIN;

    (void)pthread_mutex_lock(&s->lock);
    if (s->running == NULL && s->queue == NULL) {
        rc = bp_endpoint_file_known(&s->cache, s->dir, node, out);
    }
    (void)pthread_mutex_unlock(&s->lock);
    return rc;
}

/* With the lock. */
static void remove_from(struct shared *s, struct bp_file_job **head, struct bp_file_job ***tail,
                        uint64_t id)
{
    struct bp_file_job **p = head;

    while (*p != NULL) {
        struct bp_file_job *j = *p;
        if (j->id != id) {
            p = &j->next;
            continue;
        }
        *p = j->next;
        s->n--;
        bp_file_job_free(j);
    }
    *tail = p;
}

void bp_file_worker_cancel(struct bp_file_worker *w, uint64_t id)
{
    struct shared *s = w->s;

    (void)pthread_mutex_lock(&s->lock);
    remove_from(s, &s->queue, &s->queue_tail, id);
    remove_from(s, &s->done, &s->done_tail, id);
    s->unwanted = s->unwanted || (s->running != NULL && s->running->id == id);
    (void)pthread_mutex_unlock(&s->lock);
}

struct bp_file_job *bp_file_worker_take(struct bp_file_worker *w)
{
    struct shared *s = w->s;
    struct bp_file_job *j;

    (void)pthread_mutex_lock(&s->lock);
    j = s->done;
    if (j != NULL) {
        s->done = j->next;
        s->done_tail = s->done == NULL ? &s->done : s->done_tail;
        s->n--;
    }
    (void)pthread_mutex_unlock(&s->lock);
    return j;
}

bp_time bp_file_worker_stuck(struct bp_file_worker *w)
{
    bp_time t = 0;

    (void)pthread_mutex_lock(&w->s->lock);
    if (w->s->running != NULL) {
        t = monotonic() - w->s->since + 1;
    }
    (void)pthread_mutex_unlock(&w->s->lock);
    return t;
}
