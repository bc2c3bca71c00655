/* SPDX-License-Identifier: Apache-2.0 */
#include "quic/mover.h"

#define RETRY (20 * BP_MS) /* for a connection id: the peer replaces one within a round trip */

int bp_mover_begin(struct bp_mover *m, const struct bp_conn *c, bp_time timeout, bp_time now)
{
    if (m->state != BP_MOVER_IDLE) {
        return BP_E_BUSY;
    }
    if (bp_conn_peer_refuses_migration(c)) {
        return BP_E_MIGRATION_DISABLED;
    }
    m->state = BP_MOVER_OPENING;
    m->at_once = false;
    m->waits_for = 0;
    m->deadline = now + timeout;
    return 0;
}

void bp_mover_opened(struct bp_mover *m, const struct bp_addr *local, const struct bp_addr *key,
                     bp_time now)
{
    m->state = BP_MOVER_CID;
    m->next = *local;
    m->key = key != NULL ? *key : *local;
    m->retry_at = now;
}

void bp_mover_cancel(struct bp_mover *m)
{
    m->state = BP_MOVER_IDLE;
    m->at_once = false;
}

void bp_mover_give_up(struct bp_mover *m, bp_time now)
{
    m->deadline = now;
}

void bp_mover_left(struct bp_mover *m, const struct bp_addr *key, bp_time pto, bp_time now)
{
    unsigned i = m->n_left++ % BP_MOVER_LEFT;

    m->left[i].key = *key;
    m->left[i].until = now + BP_PATH_REST + 4 * pto;
}

/* When the new path may be used. */
static bp_time rested_at(const struct bp_mover *m)
{
    bp_time at = 0;

    for (unsigned i = 0; i < BP_MOVER_LEFT; i++) {
        if (bp_addr_equal(&m->left[i].key, &m->key) && m->left[i].until > at) {
            at = m->left[i].until;
        }
    }
    return at;
}

static bool on_dead_path(struct bp_conn *c)
{
    struct bp_conn_stats st;

    bp_conn_stats(c, &st);
    return st.in_recovery;
}

static enum bp_move_step fail(struct bp_mover *m, int rc, bp_time now, int *out)
{
    *out = rc;
    m->state = m->at_once ? BP_MOVER_BACK : BP_MOVER_IDLE;
    m->retry_at = now;
    return BP_MOVE_FAILED;
}

static enum bp_move_step try_path(struct bp_mover *m, struct bp_conn *c,
                                  const struct bp_addr *remote, bp_time now, int *rc)
{
    bp_time rested = rested_at(m);
    bool dead = m->at_once || on_dead_path(c);

    if (rested > now) {
        m->retry_at = rested;
        return BP_MOVE_NONE;
    }
    m->waits_for = bp_conn_migrate(c, &m->next, remote, dead, now);
    if (m->waits_for == 0) {
        m->at_once = dead;
        m->state = BP_MOVER_VALIDATING;
    } else if (m->waits_for == BP_E_NO_SPARE_CID || m->waits_for == BP_E_STATE) {
        m->retry_at = now + RETRY;
    } else {
        return fail(m, m->waits_for, now, rc);
    }
    return BP_MOVE_NONE;
}

static enum bp_move_step go_back(struct bp_mover *m, struct bp_conn *c, const struct bp_addr *used,
                                 const struct bp_addr *remote, bp_time now)
{
    int rc = bp_conn_migrate(c, used, remote, true, now);

    if (rc == BP_E_NO_SPARE_CID) {
        m->retry_at = now + RETRY;
        return BP_MOVE_NONE;
    }
    bp_mover_cancel(m);
    return BP_MOVE_BACK;
}

static enum bp_move_step on_result(struct bp_mover *m, enum bp_path_result result,
                                   const struct bp_addr *local, bp_time now, int *rc)
{
    bool ours = m->state >= BP_MOVER_CID && bp_addr_equal(local, &m->next);

    if (result == BP_PATH_VALID) {
        if (!ours) {
            return BP_MOVE_RENAMED;
        }
        bp_mover_cancel(m);
        return BP_MOVE_DONE;
    }
    if (result == BP_PATH_FAILED && m->state == BP_MOVER_VALIDATING) {
        if (m->at_once) {
            return fail(m, BP_E_TIMEOUT, now, rc);
        }
        m->state = BP_MOVER_CID; /* three challenges were lost; again as long as there is time */
        m->retry_at = now;
    }
    return BP_MOVE_NONE;
}

enum bp_move_step bp_mover_step(struct bp_mover *m, struct bp_conn *c, const struct bp_addr *used,
                                const struct bp_addr *remote, bp_time now, int *rc,
                                struct bp_addr *renamed)
{
    enum bp_path_result result = bp_conn_path_result(c, renamed);
    enum bp_move_step step = on_result(m, result, renamed, now, rc);

    if (step != BP_MOVE_NONE) {
        return step;
    }
    if (m->state == BP_MOVER_VALIDATING && !m->at_once && on_dead_path(c)) {
        m->state = BP_MOVER_CID;
        m->retry_at = now;
    }
    if (m->state != BP_MOVER_IDLE && m->state != BP_MOVER_BACK && now >= m->deadline) {
        return fail(m, m->waits_for == BP_E_NO_SPARE_CID ? BP_E_NO_SPARE_CID : BP_E_TIMEOUT, now,
                    rc);
    }
    if (m->state == BP_MOVER_CID && now >= m->retry_at) {
        return try_path(m, c, remote, now, rc);
    }
    if (m->state == BP_MOVER_BACK && now >= m->retry_at) {
        return go_back(m, c, used, remote, now);
    }
    return BP_MOVE_NONE;
}

bp_time bp_mover_deadline(const struct bp_mover *m)
{
    bp_time at = BP_TIME_NEVER;

    if (m->state != BP_MOVER_IDLE && m->state != BP_MOVER_BACK) {
        at = m->deadline;
    }
    if ((m->state == BP_MOVER_CID || m->state == BP_MOVER_BACK) && m->retry_at < at) {
        at = m->retry_at;
    }
    return at;
}
