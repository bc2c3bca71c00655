/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The path of a connection (RFC 9000, 9). Who dialled moves it: the new path is validated while the
 * old one carries on, and only then used. The other side follows by itself (bp_conn_remote).
 */
#ifndef BP_CONN_PATH_H
#define BP_CONN_PATH_H

#include "quic/conn.h"

/*
 * Begins to validate the path from `local`, which names a socket that the connection has not used
 * (any address that differs from those, also where a former socket's is bound again; datagrams for
 * it come out of bp_conn_write with it), to `remote`. What comes of it: bp_conn_path_result; not so
 * on the way back `at_once` to a name that was used, where ngtcp2 >= 1.12 asks nothing (without
 * `at_once` it is VALID then, and proves nothing). A validation that is under way is given up.
 * `at_once`: the new path is used before it is validated, for when the old one is dead: there the
 * question for validation could wait for acknowledgements that never come. If it fails the
 * connection is still on it; the way back is another bp_conn_migrate.
 * Errors: BP_E_NOT_DIALLER; BP_E_MIGRATION_DISABLED, by the peer (transport parameter
 * disable_active_migration); BP_E_NO_SPARE_CID (the peer has more on the way, mostly: try again);
 * BP_E_STATE, before the handshake is confirmed; BP_E_INVALID (the path that is used);
 * BP_E_NOMEM and others end the connection.
 */
int bp_conn_migrate(struct bp_conn *c, const struct bp_addr *local, const struct bp_addr *remote,
                    bool at_once, bp_time now) BP_MUST_CHECK;

/* Data that is sent now takes that path (`local` NULL: from anywhere). A peer's new address is in
 * use from its first datagram on, before bp_conn_remote tells. */
bool bp_conn_path_in_use(const struct bp_conn *c, const struct bp_addr *remote,
                         const struct bp_addr *local);

/* A path that was left must not be used again for so long: the peer may still be validating it, and
 * with ngtcp2 1.11 it would lose count of connection ids. */
#define BP_PATH_REST (1500 * BP_MS)

/* The peer has sent disable_active_migration. */
bool bp_conn_peer_refuses_migration(const struct bp_conn *c);

enum bp_path_result { BP_PATH_NONE, BP_PATH_VALID, BP_PATH_FAILED };

/* The outcome of bp_conn_migrate, once. VALID: `*local` is what is used from now on. */
enum bp_path_result bp_conn_path_result(struct bp_conn *c, struct bp_addr *local);

#endif
