/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who runs a node: the program's own loop, or the I/O thread; and how others wait.
 *
 * The I/O thread sleeps until the first deadline that it knows of. A thread of the program that
 * sends makes earlier ones (a retransmission, say), and waking the sleeper for each would cost more
 * than sending: so the I/O thread sleeps briefly while the program is active, and for longer and
 * longer when it is not.
 */
#include "cnode/cn.h"
#include "cnode/path.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define EVENTS         64
#define NAP_FIRST      (10 * BP_MS)
#define NAP_LAST       (600 * BP_SEC)
/* Peers that are looked at in one turn; the others have the next. */
#define TIMERS_AT_ONCE 256u

/* --- descriptors --------------------------------------------------------- */

static int add(int epoll, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event ev = {.events = events, .data.u64 = data};

    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev) == 0 ? 0 : BP_E_SYSTEM;
}

int cn_watch(struct bp_node *n, int fd, uint32_t events, enum cn_source source, uint64_t which)
{
    struct epoll_event ev = {.events = events, .data.u64 = which << 8 | source};

    if (epoll_ctl(n->inner, EPOLL_CTL_MOD, fd, &ev) == 0) {
        return 0;
    }
    return add(n->inner, fd, events, which << 8 | source);
}

void cn_unwatch(struct bp_node *n, int fd)
{
    struct epoll_event ev = {0};

    (void)epoll_ctl(n->inner, EPOLL_CTL_DEL, fd, &ev);
}

int cn_run_init(struct bp_node *n)
{
    n->outer = epoll_create1(EPOLL_CLOEXEC);
    n->inner = epoll_create1(EPOLL_CLOEXEC);
    n->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    n->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (n->outer < 0 || n->inner < 0 || n->wake_fd < 0 || n->event_fd < 0 ||
        cn_watch(n, n->wake_fd, EPOLLIN, CN_SRC_WAKE, 0) != 0 ||
        add(n->outer, n->event_fd, EPOLLIN, 0) != 0 || add(n->outer, n->inner, EPOLLIN, 0) != 0) {
        return BP_E_SYSTEM;
    }
    return 0;
}

void cn_run_free(struct bp_node *n)
{
    const int fds[] = {n->outer, n->inner, n->wake_fd, n->event_fd};

    for (unsigned i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        if (fds[i] >= 0) {
            (void)close(fds[i]);
        }
    }
}

static void signal_fd(int fd)
{
    const uint64_t one = 1;

    if (write(fd, &one, sizeof(one)) < 0) {
        /* Full: it is readable. */
    }
}

static void clear_fd(int fd)
{
    uint64_t count;

    if (read(fd, &count, sizeof(count)) < 0) {
        /* Empty already. */
    }
}

int bp_node_fd(struct bp_node *n)
{
    return n->outer;
}

/* --- one turn ------------------------------------------------------------ */

static bp_time next_deadline(const struct bp_node *n)
{
    bp_time at = cn_timers_first(&n->timers);
    bp_time find = cn_find_deadline(n);

    if (n->more_rx || n->answers || (n->dirty != NULL && n->n_stash == 0)) {
        return 0;
    }
    return find < at ? find : at;
}

static void run_timers(struct bp_node *n, bp_time now)
{
    /* Coarse deadlines are shown as a millisecond away even when they have passed. */
    for (unsigned i = 0; i < TIMERS_AT_ONCE && cn_timers_first(&n->timers) <= now; i++) {
        cn_peer_timer(n->timers.heap[1], now);
    }
}

static void run_dirty(struct bp_node *n, bp_time now)
{
    /* Those that are there now: a peer with more to send comes again in the next turn. */
    size_t left = 0;

    for (const struct cn_peer *p = n->dirty; p != NULL; p = p->next_dirty) {
        left++;
    }
    for (; left > 0 && n->dirty != NULL && n->n_stash == 0; left--) {
        struct cn_peer *p = n->dirty;

        n->dirty = p->next_dirty;
        if (n->dirty == NULL) {
            n->dirty_tail = &n->dirty;
        }
        p->next_dirty = NULL;
        p->dirty = false;
        cn_peer_settle(p, now);
    }
}

static void handle(struct bp_node *n, const struct epoll_event *ev)
{
    enum cn_source source = (enum cn_source)(ev->data.u64 & 0xff);

    switch (source) {
    case CN_SRC_SOCKET:
        if ((ev->events & EPOLLERR) != 0) {
            cn_socket_errors(n);
        }
        if ((ev->events & EPOLLOUT) != 0) {
            (void)cn_socket_unstash(n);
        }
        if ((ev->events & EPOLLIN) != 0) {
            n->more_rx = true;
        }
        break;
    case CN_SRC_WAKE:
        clear_fd(n->wake_fd);
        break;
    case CN_SRC_FINDER:
        n->look_again = true;
        break;
    case CN_SRC_EI:
        cn_ei_hung_up(n, ev->data.u64 >> 8, cn_now());
        break;
    case CN_SRC_PATH:
    case CN_SRC_SIDE:
        cn_path_ready(n, ev->data.u64 >> 8, source == CN_SRC_SIDE, ev->events);
        break;
    case CN_SRC_RESOLVER:
        n->answers = true;
        break;
    default:
        break;
    }
}

static void turn(struct bp_node *n, const struct epoll_event *ev, int n_ev)
{
    bp_time now;

    for (int i = 0; i < n_ev; i++) {
        handle(n, &ev[i]);
    }
    if (n->more_rx) {
        cn_socket_read(n);
    }
    if (n->answers) {
        cn_path_resolved(n);
    }
    now = cn_now();
    run_timers(n, now);
    if (cn_find_deadline(n) <= now) {
        cn_find_run(n, now);
    }
    run_dirty(n, now);
    cn_events_changed(n);
}

/* --- the program's loop -------------------------------------------------- */

int bp_node_timeout(struct bp_node *n)
{
    bp_time now = cn_now();
    bp_time at;
    int ms = -1;

    (void)pthread_mutex_lock(&n->lock);
    if (!n->threaded && n->started) {
        at = n->ready != NULL ? 0 : next_deadline(n);
        if (at <= now) {
            ms = 0;
        } else if (at != BP_TIME_NEVER) {
            at = (at - now + BP_MS - 1) / BP_MS;
            ms = at < INT32_MAX ? (int)at : INT32_MAX;
        }
    }
    (void)pthread_mutex_unlock(&n->lock);
    return ms;
}

int bp_node_process(struct bp_node *n)
{
    struct epoll_event ev[EVENTS];
    int n_ev;

    (void)pthread_mutex_lock(&n->lock);
    if (!n->started || n->threaded) {
        (void)pthread_mutex_unlock(&n->lock);
        return cn_fail(
            BP_E_STATE,
            n->threaded ? "the node %s has an I/O thread" : "the node %s was not started", n->name);
    }
    n_ev = epoll_wait(n->inner, ev, EVENTS, 0);
    turn(n, ev, n_ev > 0 ? n_ev : 0);
    (void)pthread_mutex_unlock(&n->lock);
    return 0;
}

/* --- the I/O thread ------------------------------------------------------ */

static int sleep_ms(bp_time at, bp_time now)
{
    if (at <= now) {
        return 0;
    }
    at = (at - now + BP_MS - 1) / BP_MS;
    return at < INT32_MAX ? (int)at : INT32_MAX;
}

static void *io_thread(void *arg)
{
    struct bp_node *n = arg;
    struct epoll_event ev[EVENTS];
    bp_time nap = NAP_FIRST;

    (void)pthread_mutex_lock(&n->lock);
    while (!n->stop) {
        bp_time now = cn_now();
        bp_time at = next_deadline(n);
        bp_time until;
        int n_ev;

        nap = n->touched ? NAP_FIRST : nap < NAP_LAST / 2 ? nap * 2 : NAP_LAST;
        n->touched = false;
        until = at < now + nap ? at : now + nap;
        n->sleeps_until = until;
        (void)pthread_mutex_unlock(&n->lock);
        n_ev = epoll_wait(n->inner, ev, EVENTS, sleep_ms(until, now));
        (void)pthread_mutex_lock(&n->lock);
        n->sleeps_until = 0;
        turn(n, ev, n_ev > 0 ? n_ev : 0);
    }
    (void)pthread_mutex_unlock(&n->lock);
    return NULL;
}

int cn_run_thread(struct bp_node *n)
{
    sigset_t all;
    sigset_t old;
    struct epoll_event ev = {0};
    int rc;

    if (n->threaded) {
        return 0;
    }
    (void)sigfillset(&all);
    if (pthread_sigmask(SIG_SETMASK, &all, &old) != 0) {
        return BP_E_SYSTEM;
    }
    n->threaded = true;
    n->stop = false;
    rc = pthread_create(&n->thread, NULL, io_thread, n);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0) {
        n->threaded = false;
        return cn_fail(BP_E_SYSTEM, "no I/O thread could be started");
    }
    /* From now on the program only waits for events. */
    (void)epoll_ctl(n->outer, EPOLL_CTL_DEL, n->inner, &ev);
    return 0;
}

int bp_node_run_thread(struct bp_node *n)
{
    int rc;

    (void)pthread_mutex_lock(&n->lock);
    if (!n->started || n->threaded || n->closing) {
        rc = cn_fail(BP_E_STATE,
                     n->threaded ? "the node %s has an I/O thread already"
                                 : "start the node %s first",
                     n->name);
    } else {
        rc = cn_run_thread(n);
    }
    (void)pthread_mutex_unlock(&n->lock);
    return rc;
}

void cn_wake(struct bp_node *n)
{
    signal_fd(n->wake_fd);
}

void cn_touched(struct bp_node *n)
{
    if (!n->threaded) {
        return; /* whoever runs it asks for the timeout before it waits */
    }
    n->touched = true;
    if (n->stop || (n->sleeps_until != 0 && next_deadline(n) < n->sleeps_until)) {
        n->sleeps_until = 0; /* once is enough */
        cn_wake(n);
    }
    cn_events_changed(n);
}

/* --- waiting ------------------------------------------------------------- */

int cn_cond_init(pthread_cond_t *c)
{
    pthread_condattr_t attr;
    int rc;

    if (pthread_condattr_init(&attr) != 0) {
        return BP_E_NOMEM;
    }
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    rc = pthread_cond_init(c, &attr);
    (void)pthread_condattr_destroy(&attr);
    return rc == 0 ? 0 : BP_E_NOMEM;
}

int cn_wait(struct bp_node *n, pthread_cond_t *c, bp_time until)
{
    struct timespec t = {.tv_sec = (time_t)(until / BP_SEC), .tv_nsec = (long)(until % BP_SEC)};
    int rc = 0;

    if (n->closing) {
        return BP_E_STATE;
    }
    n->users++;
    if (until == BP_TIME_NEVER) {
        (void)pthread_cond_wait(c, &n->lock);
    } else if (pthread_cond_timedwait(c, &n->lock, &t) == ETIMEDOUT) {
        rc = BP_E_TIMEOUT;
    }
    n->users--;
    if (n->closing) {
        (void)pthread_cond_signal(&n->users_gone);
        return BP_E_STATE;
    }
    return rc;
}

void cn_events_changed(struct bp_node *n)
{
    bool some = n->ready != NULL;

    if (!n->threaded) {
        return;
    }
    if (some && n->event_waiters > 0) {
        (void)pthread_cond_signal(&n->event_cond);
    } else if (some && !n->event_set) {
        n->event_set = true;
        signal_fd(n->event_fd);
    } else if (!some && n->event_set) {
        n->event_set = false;
        clear_fd(n->event_fd);
    }
}
