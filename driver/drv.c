/* SPDX-License-Identifier: Apache-2.0 */
/* Entry points of the VM, and what the two kinds of ports share: depth, timer, end. */
#include "driver/drv.h"

#include <gnutls/gnutls.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define NAME         "barrel_p2p_drv"
#define TIMER_MAX_MS 3600000u
#define SLICE        BP_MS /* of the VM's, as erl_drv_consume_timeslice documents it */

/* --- wake-ups and timers ------------------------------------------------- */

int drv_port_wake_open(struct drv_port *p)
{
    p->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (p->wake_fd < 0) {
        return BP_E_LIMIT;
    }
    p->armed = BP_TIME_NEVER;
    p->wake_selected = true;
    driver_select(p->port, (ErlDrvEvent)(intptr_t)p->wake_fd, ERL_DRV_READ | ERL_DRV_USE, 1);
    return 0;
}

void drv_port_wake_close(struct drv_port *p)
{
    if (p->wake_selected) {
        p->wake_selected = false;
        driver_select(p->port, (ErlDrvEvent)(intptr_t)p->wake_fd, ERL_DRV_READ | ERL_DRV_USE, 0);
    }
    p->wake_fd = -1;
    if (p->armed != BP_TIME_NEVER) {
        p->armed = BP_TIME_NEVER;
        driver_cancel_timer(p->port);
    }
}

void drv_port_wake_read(struct drv_port *p)
{
    uint64_t n;

    if (read(p->wake_fd, &n, sizeof(n)) < 0) {
        /* Nothing to read: another turn has seen it. */
    }
}

void drv_port_timer_arm(struct drv_port *p, bp_time at, bp_time now)
{
    bp_time ms;

    /* One that fires too early only looks at the clock: cheaper than setting it again and again. */
    if (at == BP_TIME_NEVER || p->armed <= at || p->wake_fd < 0) {
        return;
    }
    ms = at > now ? (at - now + BP_MS - 1) / BP_MS : 0;
    if (driver_set_timer(p->port, ms < TIMER_MAX_MS ? (unsigned long)ms : TIMER_MAX_MS) == 0) {
        p->armed = at;
    }
}

/* --- entry points -------------------------------------------------------- */

static int drv_init(void)
{
    drv_node.lock = erl_drv_mutex_create((char *)(uintptr_t) "barrel_p2p");
    bp_cid_map_init(&drv_node.demux, drv_mem(), drv_now() * 0x9e3779b97f4a7c15u);
    return drv_node.lock != NULL && gnutls_global_init() == 0 ? 0 : -1;
}

static void drv_finish(void)
{
    while (drv_node.scratch != NULL) {
        struct drv_scratch *s = drv_node.scratch;
        drv_node.scratch = s->next;
        driver_free(s);
    }
    bp_cid_map_free(&drv_node.demux);
    erl_drv_mutex_destroy(drv_node.lock);
    gnutls_global_deinit();
}

static ErlDrvData drv_start(ErlDrvPort port, char *command)
{
    const char *args = strchr(command, ' ');
    struct drv_port *p = NULL;

    args = args != NULL ? args + 1 : "";
    set_port_control_flags(port, PORT_CONTROL_FLAG_BINARY);
    if (strcmp(args, "node") == 0) {
        p = drv_node_port_start(port);
    } else {
        p = drv_conn_port_start(port, args);
    }
    return p != NULL ? (ErlDrvData)p : ERL_DRV_ERROR_BADARG;
}

/*
 * Each callback runs between these two. `stop` can come from inside one of them
 * (driver_failure_atom, driver_output): it must deselect at once, or the VM calls the port dead
 * with its descriptors in use; memory is freed when the outermost callback leaves.
 */
static void enter(struct drv_port *p)
{
    if (p->depth++ == 0) {
        p->entered = drv_now();
    }
}

/* The VM looks for I/O of other ports after so many reductions, of which our work costs none. */
static void count_time(const struct drv_port *p)
{
    bp_time percent = (drv_now() - p->entered) / (SLICE / 100);

    if (percent > 0) {
        (void)erl_drv_consume_timeslice(p->port, percent < 100 ? (int)percent : 100);
    }
}

static void leave(struct drv_port *p)
{
    if (--p->depth > 0) {
        return;
    }
    if (!p->stopped) {
        if (p->worked) {
            p->worked = false;
            count_time(p);
        }
        return;
    }
    if (p->kind == PORT_CONN) {
        drv_conn_port_free((struct drv_conn_port *)p);
    }
    driver_free(p);
}

static void drv_stop(ErlDrvData data)
{
    struct drv_port *p = (struct drv_port *)data;

    enter(p);
    p->stopped = true;
    if (p->kind == PORT_NODE) {
        drv_node_port_stop((struct drv_node_port *)p);
    } else {
        drv_conn_port_stop((struct drv_conn_port *)p);
    }
    leave(p);
}

static void ready(ErlDrvData data, ErlDrvEvent event, bool writable)
{
    struct drv_port *p = (struct drv_port *)data;
    int fd = (int)(intptr_t)event;

    if (p->stopped) {
        return;
    }
    enter(p);
    if (p->kind == PORT_NODE) {
        drv_node_port_ready((struct drv_node_port *)p, fd);
    } else {
        drv_conn_port_ready((struct drv_conn_port *)p, fd, writable);
    }
    leave(p);
}

static void drv_timeout(ErlDrvData data)
{
    struct drv_port *p = (struct drv_port *)data;

    p->armed = BP_TIME_NEVER;
    if (p->stopped) {
        return;
    }
    enter(p);
    if (p->kind == PORT_NODE) {
        drv_node_port_timeout((struct drv_node_port *)p);
    } else {
        drv_conn_port_timeout((struct drv_conn_port *)p);
    }
    leave(p);
}

static void drv_ready_input(ErlDrvData data, ErlDrvEvent event)
{
    ready(data, event, false);
}

static void drv_ready_output(ErlDrvData data, ErlDrvEvent event)
{
    ready(data, event, true);
}

static void drv_outputv(ErlDrvData data, ErlIOVec *ev)
{
    struct drv_port *p = (struct drv_port *)data;

    if (p->stopped || p->kind != PORT_CONN) {
        return;
    }
    enter(p);
    drv_conn_port_outputv((struct drv_conn_port *)p, ev);
    leave(p);
}

static ErlDrvSSizeT drv_control(ErlDrvData data, unsigned int command, char *buf, ErlDrvSizeT len,
                                char **rbuf, ErlDrvSizeT rlen)
{
    struct drv_port *p = (struct drv_port *)data;
    ErlDrvSSizeT n;

    if (p->stopped) {
        return -1;
    }
    enter(p);
    if (p->kind == PORT_NODE) {
        n = drv_node_port_control((struct drv_node_port *)p, command, (const uint8_t *)buf, len,
                                  rbuf, rlen);
    } else {
        n = drv_conn_port_control((struct drv_conn_port *)p, command, (const uint8_t *)buf, len,
                                  rbuf, rlen);
    }
    leave(p);
    return n;
}

/* An owner or acceptor of streams has ended, or a relay. */
static void drv_process_exit(ErlDrvData data, ErlDrvMonitor *monitor)
{
    struct drv_port *p = (struct drv_port *)data;

    if (p->stopped || p->kind != PORT_CONN) {
        return;
    }
    enter(p);
    drv_streams_process_exit((struct drv_conn_port *)p, monitor);
    drv_relay_process_exit((struct drv_conn_port *)p, monitor);
    leave(p);
}

static void drv_stop_select(ErlDrvEvent event, void *reserved)
{
    (void)reserved;
    (void)close((int)(intptr_t)event);
}

static ErlDrvEntry entry = {.init = drv_init,
                            .start = drv_start,
                            .stop = drv_stop,
                            .ready_input = drv_ready_input,
                            .ready_output = drv_ready_output,
                            .driver_name = (char *)(uintptr_t)NAME,
                            .finish = drv_finish,
                            .control = drv_control,
                            .timeout = drv_timeout,
                            .outputv = drv_outputv,
                            .extended_marker = (int)ERL_DRV_EXTENDED_MARKER,
                            .major_version = ERL_DRV_EXTENDED_MAJOR_VERSION,
                            .minor_version = ERL_DRV_EXTENDED_MINOR_VERSION,
                            .driver_flags = ERL_DRV_FLAG_USE_PORT_LOCKING | ERL_DRV_FLAG_SOFT_BUSY,
                            .process_exit = drv_process_exit,
                            .stop_select = drv_stop_select};

DRIVER_INIT(barrel_p2p_drv)
{
    return &entry;
}
