/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Closing connections that nobody uses (dist/link.h): what Erlang asks, and what it cost.
 *
 * OP_IDLE_ASK and OP_IDLE_ANSWER: <<Flags, MinIdleMs:32>>, flag 1: a temporary connection (ASK), or
 * it may be closed as far as Erlang knows (ANSWER). The result is one byte, an enum bp_link_use.
 */
#include "driver/drv.h"

bool drv_idle_op(struct drv_conn *c, unsigned op, const uint8_t *p, size_t len, struct drv_reply *r)
{
    enum bp_link_use use;
    bp_time now = drv_now();
    bp_time min_idle;

    if (op != OP_IDLE_ASK && op != OP_IDLE_ANSWER) {
        return false;
    }
    if (len != 5) {
        drv_reply_error(r, BP_E_INVALID, NULL);
        return true;
    }
    min_idle =
        (bp_time)((uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | p[4]) * BP_MS;
    use = op == OP_IDLE_ASK ? bp_link_idle_ask(c->link, min_idle, p[0] != 0, now)
                            : bp_link_idle_answer(c->link, p[0] != 0, min_idle, now);
    drv_reply_ok(r);
    drv_reply_uint(r, use, 1);
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
