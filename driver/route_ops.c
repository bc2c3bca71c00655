/* SPDX-License-Identifier: Apache-2.0 */
/* Telling Erlang that addresses or routes of this machine have changed (io/route_watch.h): once,
 * until it asks again, since routes may change all the time. */
#include "driver/drv.h"

#include "io/route_watch.h"

#include <errno.h>
#include <string.h>

/* Only touched by callbacks of the node port, under its lock. */
static int watch_fd = -1;
static bool armed;   /* `who` wants to be told */
static bool changed; /* ... since it was told last */
static ErlDrvTermData who;

static void tell(struct drv_node_port *np)
{
    ErlDrvTermData t[] = {ERL_DRV_ATOM,  driver_mk_atom((char *)(uintptr_t) "barrel_p2p_routes"),
                          ERL_DRV_ATOM,  driver_mk_atom((char *)(uintptr_t) "changed"),
                          ERL_DRV_TUPLE, 2};

    armed = false;
    changed = false;
    erl_drv_send_term(driver_mk_port(np->p.port), who, t, sizeof(t) / sizeof(t[0]));
}

bool drv_route_ready(struct drv_node_port *np, int fd)
{
    if (fd != watch_fd) {
        return false;
    }
    changed = bp_route_watch_read(fd) || changed;
    if (changed && armed) {
        tell(np);
    }
    return true;
}

void drv_route_stop(struct drv_node_port *np)
{
    if (watch_fd >= 0) {
        driver_select(np->p.port, (ErlDrvEvent)(intptr_t)watch_fd, ERL_DRV_READ | ERL_DRV_USE, 0);
        watch_fd = -1;
    }
    armed = false;
    changed = false;
}

bool drv_route_op(struct drv_node_port *np, unsigned op, struct drv_reply *r)
{
    int rc = 0;

    if (op != OP_ROUTE_WATCH) {
        return false;
    }
    if (watch_fd < 0) {
        rc = bp_route_watch_open(&watch_fd);
        if (rc != 0) {
            watch_fd = -1;
            drv_reply_error(r, rc, strerror(errno));
            return true;
        }
        driver_select(np->p.port, (ErlDrvEvent)(intptr_t)watch_fd, ERL_DRV_READ | ERL_DRV_USE, 1);
    }
    who = driver_caller(np->p.port);
    armed = true;
    drv_reply_ok(r);
    if (changed) {
        tell(np);
    }
    return true;
}
