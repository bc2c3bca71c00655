/* SPDX-License-Identifier: Apache-2.0 */
/* Tags of user streams, for all connections of the node; the watcher of owners. */
#include "driver/drv.h"

#define PID_BYTES 8u

static ErlDrvTermData pid_of(const uint8_t *p)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < PID_BYTES; i++) {
        v = v << 8 | p[i];
    }
    return (ErlDrvTermData)v;
}

/* <<Pid:64, Tag/binary>>, with Pid as nif.c gives it. */
static int add(const uint8_t *p, size_t len)
{
    if (len < PID_BYTES) {
        return BP_E_INVALID;
    }
    if (drv_node.tags.mem == NULL) {
        bp_tags_init(&drv_node.tags, drv_mem());
    }
    return bp_tags_add(&drv_node.tags, p + PID_BYTES, len - PID_BYTES, pid_of(p));
}

bool drv_tag_op(struct drv_node_port *np, unsigned op, const uint8_t *p, size_t len,
                struct drv_reply *r)
{
    int rc = 0;

    if (op < OP_TAG_ADD || op > OP_STREAM_WATCHER) {
        return false;
    }
    erl_drv_mutex_lock(drv_node.lock);
    switch ((enum drv_op)op) {
    case OP_TAG_ADD:
        rc = add(p, len);
        break;
    case OP_TAG_REMOVE:
        rc = bp_tags_remove(&drv_node.tags, p, len);
        break;
    case OP_TAG_CLEAR:
        bp_tags_free(&drv_node.tags);
        break;
    case OP_STREAM_WATCHER:
    default:
        drv_node.watcher = driver_caller(np->p.port);
        drv_node.has_watcher = true;
        break;
    }
    erl_drv_mutex_unlock(drv_node.lock);
    if (rc == 0) {
        drv_reply_ok(r);
    } else {
        drv_reply_error(r, rc, NULL);
    }
    return true;
}

void drv_tags_stop(void)
{
    erl_drv_mutex_lock(drv_node.lock);
    bp_tags_free(&drv_node.tags);
    drv_node.has_watcher = false;
    erl_drv_mutex_unlock(drv_node.lock);
}

enum bp_tag_match drv_tag_match(const uint8_t *p, size_t len, ErlDrvTermData *owner,
                                size_t *preamble)
{
    const struct bp_tag *tag;
    enum bp_tag_match m;

    *owner = 0;
    *preamble = 0;
    erl_drv_mutex_lock(drv_node.lock);
    m = bp_tags_match(&drv_node.tags, p, len, &tag);
    if (m == BP_TAG_FOUND) {
        *owner = (ErlDrvTermData)tag->owner;
        *preamble = 1u + tag->len;
    }
    erl_drv_mutex_unlock(drv_node.lock);
    return m;
}

bool drv_stream_watcher(ErlDrvTermData *pid)
{
    bool there;

    erl_drv_mutex_lock(drv_node.lock);
    there = drv_node.has_watcher;
    *pid = drv_node.watcher;
    erl_drv_mutex_unlock(drv_node.lock);
    return there;
}
