/* SPDX-License-Identifier: Apache-2.0 */
/* Counters of the node and of connections (counters.def), and how connections ended. */
#include "driver/drv.h"

#include <stdio.h>
#include <string.h>

static const char *const stage_names[] = {
    [DRV_REFUSED] = "refused", [DRV_DIAL_FAILED] = "dial_failed", [DRV_DOWN] = "down"};

/* Under the node's lock. */
static uint64_t ended[sizeof(stage_names) / sizeof(stage_names[0])][BP_ERR_COUNT];

void drv_count_end(enum drv_stage stage, int err)
{
    unsigned i = bp_err_index(err);

    if (i < BP_ERR_COUNT) {
        ended[stage][i]++;
    }
}

static void reply_ends(struct drv_reply *r)
{
    uint64_t copy[sizeof(ended) / sizeof(ended[0])][BP_ERR_COUNT];
    char name[64];

    erl_drv_mutex_lock(drv_node.lock);
    memcpy(copy, ended, sizeof(copy));
    erl_drv_mutex_unlock(drv_node.lock);
    for (unsigned s = 0; s < sizeof(ended) / sizeof(ended[0]); s++) {
        for (unsigned i = 0; i < BP_ERR_COUNT; i++) {
            if (copy[s][i] != 0) {
                snprintf(name, sizeof(name), "%s_%s", stage_names[s], bp_err_atom(bp_err_at(i)));
                drv_reply_stat(r, name, copy[s][i]);
            }
        }
    }
}

static const char *const node_names[] = {
#define NODE(name, value) name,
#define CONN(name, value)
#include "driver/counters.def"
#undef NODE
#undef CONN
};

#define N_NODE (sizeof(node_names) / sizeof(node_names[0]))

/* Under the node's lock. */
static void node_values(const struct drv_node *n, uint64_t out[N_NODE])
{
    const struct bp_listener *l = &n->listener;
    unsigned i = 0;

#define NODE(name, value) out[i++] = (value);
#define CONN(name, value)
#include "driver/counters.def"
#undef NODE
#undef CONN
}

void drv_node_stats(struct drv_reply *r)
{
    uint64_t values[N_NODE];

    erl_drv_mutex_lock(drv_node.lock);
    node_values(&drv_node, values);
    erl_drv_mutex_unlock(drv_node.lock);
    drv_reply_ok(r);
    for (unsigned i = 0; i < N_NODE; i++) {
        drv_reply_stat(r, node_names[i], values[i]);
    }
    reply_ends(r);
}

/* Of a time span that has not ended: 0. */
static uint64_t span_us(bp_time from, bp_time to)
{
    return from != 0 && to > from ? (to - from) / 1000 : 0;
}

static void reply_known(struct drv_reply *r, const char *name, uint64_t value)
{
    if (value != BP_UNKNOWN) {
        drv_reply_stat(r, name, value);
    }
}

static uint64_t ms_since(bp_time t)
{
    bp_time now = drv_now();

    return now > t ? (now - t) / BP_MS : 0;
}

void drv_conn_stats(const struct drv_conn *c, struct drv_reply *r)
{
    struct bp_link_stats ls;
    struct bp_conn_stats cs;
    struct bp_user_stats us;

    bp_link_user_stats(c->link, &us);
    bp_link_stats(c->link, &ls);
    bp_conn_stats(bp_link_conn(c->link), &cs);
    drv_reply_ok(r);
#define NODE(name, value)
#define CONN(name, value) reply_known(r, name, value);
#include "driver/counters.def"
#undef NODE
#undef CONN
}
