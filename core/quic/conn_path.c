/* SPDX-License-Identifier: Apache-2.0 */
/* Moving a connection to another path, and what ngtcp2 says of paths. */
#include "quic/conn_path.h"
#include "quic/conn_impl.h"

/* From this version on ngtcp2 remembers the last four paths for ten minutes: one that has answered is
 * used again without a question, and no callback tells. */
#define REMEMBERS_PATHS 0x010c00

bool bp_conn_path_in_use(const struct bp_conn *c, const struct bp_addr *remote,
                         const struct bp_addr *local)
{
    const ngtcp2_path *p = ngtcp2_conn_get_path(c->q);
    struct bp_addr r;
    struct bp_addr l;

    return bp_addr_from_sockaddr(&r, p->remote.addr, p->remote.addrlen) &&
           bp_addr_from_sockaddr(&l, p->local.addr, p->local.addrlen) &&
           bp_addr_equal(&r, remote) && (local == NULL || bp_addr_equal(&l, local));
}

int bp_conn_migrate(struct bp_conn *c, const struct bp_addr *local, const struct bp_addr *remote,
                    bool at_once, bp_time now)
{
    ngtcp2_path path;
    int rc;

    if (c->server) {
        return BP_E_NOT_DIALLER; /* ngtcp2 aborts the process for that */
    }
    if (c->err != 0 || !c->handshake_done) {
        return BP_E_STATE;
    }
    if (bp_conn_peer_refuses_migration(c)) {
        return BP_E_MIGRATION_DISABLED;
    }
    bp_conn_fill_path(local, remote, &path);
    now = bp_conn_clock(c, now);
    rc = at_once ? ngtcp2_conn_initiate_immediate_migration(c->q, &path, now)
                 : ngtcp2_conn_initiate_migration(c->q, &path, now);
    c->path_result = BP_PATH_NONE; /* also the word on a validation that this one has ended */
    switch (rc) {
    case 0:
        c->path_local = *local;
        if (!at_once && bp_conn_path_in_use(c, remote, local)) {
            bp_conn_path_validated(c, &path, true); /* it is known */
        }
        return 0;
    case NGTCP2_ERR_CONN_ID_BLOCKED:
        return BP_E_NO_SPARE_CID;
    case NGTCP2_ERR_INVALID_STATE:
        return BP_E_STATE;
    case NGTCP2_ERR_INVALID_ARGUMENT:
        return BP_E_INVALID;
    default:
        return bp_conn_fail(c, rc);
    }
}

bool bp_conn_peer_refuses_migration(const struct bp_conn *c)
{
    const ngtcp2_transport_params *p = ngtcp2_conn_get_remote_transport_params(c->q);

    return p != NULL && p->disable_active_migration != 0;
}

enum bp_path_result bp_conn_path_result(struct bp_conn *c, struct bp_addr *local)
{
    enum bp_path_result r = c->path_result;

    c->path_result = BP_PATH_NONE;
    if (r == BP_PATH_VALID) {
        *local = c->path_local;
    }
    return r;
}

/* The peer of a server is at `remote` now. */
static void follow(struct bp_conn *c, const struct bp_addr *remote)
{
    c->left[c->n_left++ % BP_PATHS_LEFT] = c->remote;
    c->remote = *remote;
    c->migrations++;
}

void bp_conn_path_other(struct bp_conn *c, const struct bp_addr *remote)
{
    if (ngtcp2_version(REMEMBERS_PATHS) == NULL || !bp_conn_path_in_use(c, remote, NULL)) {
        return;
    }
    for (unsigned i = 0; i < BP_PATHS_LEFT; i++) {
        if (bp_addr_equal(&c->left[i], remote)) {
            follow(c, remote);
            return;
        }
    }
}

void bp_conn_path_validated(struct bp_conn *c, const ngtcp2_path *path, bool ok)
{
    struct bp_addr remote;
    struct bp_addr local;

    if (!bp_addr_from_sockaddr(&remote, path->remote.addr, path->remote.addrlen) ||
        !bp_addr_from_sockaddr(&local, path->local.addr, path->local.addrlen)) {
        return;
    }
    if (!c->server) {
        c->path_result = ok ? BP_PATH_VALID : BP_PATH_FAILED;
        c->migrations += ok;
        c->path_local = local;
    } else if (ok && !bp_addr_equal(&remote, &c->remote)) {
        follow(c, &remote);
    }
    if (ok) {
        c->local = local;
        c->remote = remote;
    }
}

bool bp_conn_in_recovery(const struct bp_conn *c)
{
    bp_time pto = ngtcp2_conn_get_pto(c->q);

    for (unsigned i = 0; i < c->n_streams; i++) {
        const struct bp_stream *s = &c->streams[i];
        if (!s->shut && s->q.acked < s->q.sent && c->now - s->progress >= pto) {
            return true;
        }
    }
    return c->user_unacked > 0 && c->now - c->user_progress >= pto;
}
