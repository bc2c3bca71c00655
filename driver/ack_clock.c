/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The millisecond that acknowledgements wait for a datagram to ride on: one clock of the node for
 * all connections.
 *
 * It is no timer of the VM's, because the VM programs its next timeout before each wait for I/O and
 * takes it back after. One that is due before all else on its CPU makes both an exit to the
 * hypervisor, in a virtual machine: 11 us of each wait, 22 us of a round trip. This clock runs
 * while anybody waits, and nothing touches it meanwhile.
 */
#include "driver/drv.h"

#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

static int clock_fd = -1;            /* touched by callbacks of the node port and under its lock */
static struct drv_ack_wait *waiting; /* under drv_node.lock */

static void set_clock(bp_time every)
{
    struct itimerspec t = {0};

    t.it_value.tv_nsec = (long)every;
    t.it_interval = t.it_value;
    (void)timerfd_settime(clock_fd, 0, &t, NULL);
}

int drv_acks_open(struct drv_node_port *np)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);

    if (fd < 0) {
        return BP_E_LIMIT;
    }
    driver_select(np->p.port, (ErlDrvEvent)(intptr_t)fd, ERL_DRV_READ | ERL_DRV_USE, 1);
    erl_drv_mutex_lock(drv_node.lock);
    clock_fd = fd;
    erl_drv_mutex_unlock(drv_node.lock);
    return 0;
}

static void leave(struct drv_ack_wait *w)
{
    *w->at = w->next;
    if (w->next != NULL) {
        w->next->at = w->at;
    }
    w->listed = false;
}

static void join(struct drv_ack_wait *w)
{
    w->next = waiting;
    w->at = &waiting;
    if (w->next != NULL) {
        w->next->at = &w->next;
    } else {
        set_clock(DRV_ACKS_WAIT);
    }
    waiting = w;
    w->seen = w->asked;
    w->listed = true;
}

void drv_acks_close(struct drv_node_port *np)
{
    int fd = clock_fd;

    erl_drv_mutex_lock(drv_node.lock);
    while (waiting != NULL) {
        int wake_fd = waiting->wake_fd;

        leave(waiting);
        drv_wake(wake_fd);
    }
    clock_fd = -1;
    erl_drv_mutex_unlock(drv_node.lock);
    if (fd >= 0) {
        driver_select(np->p.port, (ErlDrvEvent)(intptr_t)fd, ERL_DRV_READ | ERL_DRV_USE, 0);
    }
}

/* Who has not asked since the last tick leaves, and is woken after that if anything is due: a port
 * that is woken while it is listed is woken again. */
static void tick(struct drv_ack_wait *w, bp_time now)
{
    bp_time by = w->by;
    bool due = by != 0 && by <= now;
    bp_time asked = w->asked;

    if (asked == w->seen && (by == 0 || due)) {
        leave(w);
        /* Its port may have looked at `listed` before that. */
        if (w->asked != asked) {
            join(w);
        }
    }
    w->seen = asked;
    if (due) {
        drv_wake(w->wake_fd);
    }
}

bool drv_acks_ready(int fd)
{
    uint64_t n;
    bp_time now = drv_now();
    struct drv_ack_wait *next;

    if (fd != clock_fd) {
        return false;
    }
    if (read(fd, &n, sizeof(n)) < 0) {
        return true;
    }
    erl_drv_mutex_lock(drv_node.lock);
    drv_node.ack_ticks++;
    for (struct drv_ack_wait *w = waiting; w != NULL; w = next) {
        next = w->next;
        tick(w, now);
    }
    if (waiting == NULL) {
        set_clock(0);
    }
    erl_drv_mutex_unlock(drv_node.lock);
    return true;
}

bool drv_acks_wait(struct drv_ack_wait *w, int wake_fd, bp_time by)
{
    bool listed;

    w->by = by;
    w->asked = by;
    if (w->listed) {
        return true;
    }
    erl_drv_mutex_lock(drv_node.lock);
    listed = clock_fd >= 0;
    if (listed && !w->listed) {
        w->wake_fd = wake_fd;
        join(w);
    }
    erl_drv_mutex_unlock(drv_node.lock);
    return listed;
}

void drv_acks_stop(struct drv_ack_wait *w)
{
    erl_drv_mutex_lock(drv_node.lock);
    if (w->listed) {
        leave(w);
    }
    erl_drv_mutex_unlock(drv_node.lock);
}
