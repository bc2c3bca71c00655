/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Closing connections that nobody uses (dist/link.h): what Erlang asks, and what it cost.
 *
 * OP_IDLE_ASK and OP_IDLE_ANSWER: <<Flags, MinIdleMs:32>>, flag 1: a temporary connection (ASK), or
 * it may be closed as far as Erlang knows (ANSWER). The result is one byte, an enum bp_link_use.
 *
 * OP_IDLE_CLOSE: <<WallUs:64>>, the time at the call. The VM carries out a control operation at
 * once if nothing waits for the port, and else after it. What came to wait while this one waited
 * cannot be seen here: so one that waited does nothing, and has to be called again. The result is
 * one byte: 0 called off, 1 closed (the port has ended), 2 again.
 */
#include "driver/drv.h"

#include <time.h>

#define CLOSE_WITHIN_US 100u

enum closed { CALLED_OFF, CLOSED, AGAIN };

static uint64_t get_u64(const uint8_t *p)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < 8; i++) {
        v = v << 8 | p[i];
    }
    return v;
}

static enum closed close_now(struct drv_conn_port *cp, uint64_t called_us)
{
    struct timespec ts;
    uint64_t now_us;

    if (!bp_link_idle_due(cp->conn->link)) {
        return CALLED_OFF;
    }
    (void)clock_gettime(CLOCK_REALTIME, &ts);
    now_us = (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
    if (now_us - called_us > CLOSE_WITHIN_US) {
        return AGAIN; /* also when the clock went back */
    }
    if (!bp_link_idle_close(cp->conn->link)) {
        return CALLED_OFF;
    }
    /* Not in the next callback: until then the VM would queue what nobody takes. */
    drv_conn_port_settle(cp, drv_now());
    return CLOSED;
}

bool drv_idle_op(struct drv_conn_port *cp, unsigned op, const uint8_t *p, size_t len,
                 struct drv_reply *r)
{
    struct bp_link *l = cp->conn->link;
    bp_time now = drv_now();
    bp_time min_idle;
    uint8_t result;

    if (op != OP_IDLE_ASK && op != OP_IDLE_ANSWER && op != OP_IDLE_CLOSE) {
        return false;
    }
    if (len != (op == OP_IDLE_CLOSE ? 8u : 5u)) {
        drv_reply_error(r, BP_E_INVALID, NULL);
        return true;
    }
    if (op == OP_IDLE_CLOSE) {
        result = (uint8_t)close_now(cp, get_u64(p));
    } else {
        min_idle =
            (bp_time)((uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | p[4]) *
            BP_MS;
        result = (uint8_t)(op == OP_IDLE_ASK ? bp_link_idle_ask(l, min_idle, p[0] != 0, now)
                                             : bp_link_idle_answer(l, p[0] != 0, min_idle, now));
    }
    drv_reply_ok(r);
    drv_reply_uint(r, result, 1);
    return true;
}

void drv_idle_closed(const struct drv_conn *c)
{
    struct bp_link_stats st;

    bp_link_stats(c->link, &st);
    if (st.idle_window_us == 0) {
        return; /* we closed it */
    }
    erl_drv_mutex_lock(drv_node.lock);
    drv_node.idle_agreed++;
    drv_node.idle_lost += st.idle_lost;
    drv_node.idle_window_us += st.idle_window_us;
    if (st.idle_window_us > drv_node.idle_window_us_max) {
        drv_node.idle_window_us_max = st.idle_window_us;
    }
    erl_drv_mutex_unlock(drv_node.lock);
}
