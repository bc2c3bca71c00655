/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Endpoint files of one directory, by a thread of their own: a mount can hang for minutes, and
 * nobody else may wait for it. Jobs in, jobs out, a descriptor that says when there are some.
 *
 * Typical use: bp_file_job_new, bp_file_worker_submit, wait until the descriptor is readable, read
 * it, then bp_file_worker_take until it returns NULL. One thread at a time uses a worker.
 */
#ifndef BP_FILE_WORKER_H
#define BP_FILE_WORKER_H

#include "io/endpoint_files.h"

#define BP_FILE_WORKER_JOBS       128u /* waiting and running; done ones count as well */
#define BP_FILE_WORKER_COMPLAINTS 8u   /* of one job that are kept */

struct bp_file_worker;

enum bp_file_job_kind {
    BP_FILE_READ,   /* the addresses of `node` */
    BP_FILE_WRITE,  /* `eps` for `node`, as `format` */
    BP_FILE_DELETE, /* of `node`; with `eps`, only where the first address is that of the file */
    BP_FILE_LIST    /* all nodes */
};

struct bp_file_listed {
    struct bp_file_listed *next;
    struct bp_endpoint first;
    char node[BP_NODE_NAME_MAX + 1];
};

struct bp_file_job {
    enum bp_file_job_kind kind;
    uint64_t id;  /* the submitter's */
    uint64_t who; /* the same */
    enum bp_endpoint_format format;
    char node[BP_NODE_NAME_MAX + 1];
    struct bp_endpoints eps; /* what is written, or was found */
    int rc;                  /* as the functions of io/endpoint_files.h have it */
    char why[sizeof(((struct bp_errbuf *)NULL)->text)];
    struct bp_file_listed *listed;
    unsigned n_complaints;
    struct bp_file_complaint {
        char text[sizeof(((struct bp_errbuf *)NULL)->text)];
    } * complaints; /* about files that cannot be used, once for each content */
    /* the worker's */
    struct bp_file_job *next;
    struct bp_file_listed **listed_tail;
};

/* NULL: no memory, or `node` is too long. */
struct bp_file_job *bp_file_job_new(enum bp_file_job_kind kind, const char *node) BP_MUST_CHECK;
/* One that was not submitted, or was taken. NULL is a no-op. */
void bp_file_job_free(struct bp_file_job *j);

/*
 * A worker for `dir`, whose thread begins with the first job. `notify_fd`, an eventfd, is written
 * to when a job is done; it is duplicated. BP_E_NOMEM, BP_E_INVALID (the directory), BP_E_SYSTEM
 * (no descriptor).
 */
int bp_file_worker_new(struct bp_file_worker **out, const char *dir, int notify_fd) BP_MUST_CHECK;

/*
 * Jobs are forgotten. Does not wait for a file operation: the thread ends, and gives its memory
 * back, when that returns. NULL is a no-op.
 */
void bp_file_worker_del(struct bp_file_worker *w);

const char *bp_file_worker_dir(const struct bp_file_worker *w);

/* Takes the job. BP_E_LIMIT: too many; BP_E_SYSTEM: no thread; then it is the caller's still. */
int bp_file_worker_submit(struct bp_file_worker *w, struct bp_file_job *j) BP_MUST_CHECK;

/* The addresses of `node` if bp_endpoint_file_known knows them and no job is under way; else
 * BP_E_AGAIN: submit one. Does not wait. */
int bp_file_worker_known(struct bp_file_worker *w, const char *node,
                         struct bp_endpoints *out) BP_MUST_CHECK;

/* Forgets jobs with this id, whatever becomes of them. */
void bp_file_worker_cancel(struct bp_file_worker *w, uint64_t id);

/* The next job that is done, which is the caller's then; NULL: none. */
struct bp_file_job *bp_file_worker_take(struct bp_file_worker *w);

/* For how long it has been busy with one job; 0: it is not. */
bp_time bp_file_worker_stuck(struct bp_file_worker *w);

/*
 * Ends the thread and waits for it, at most `limit`: false if it hangs in a file operation. A
 * worker whose thread was ended takes no jobs. For code that could be unloaded.
 */
bool bp_file_worker_end(struct bp_file_worker *w, bp_time limit);

#endif
