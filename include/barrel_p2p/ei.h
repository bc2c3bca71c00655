/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libei (OTP's erl_interface, 23 or later) over QUIC. A program that uses libei makes a node,
 * fills its ei_cnode with bp_ei_init in place of ei_connect_init, and connects by name with
 * bp_ei_connect in place of ei_connect. Everything else stays: ei_connect_host_port, ei_listen,
 * ei_accept, ei_receive_msg, ei_xreceive_msg, ei_send, ei_reg_send, ei_rpc and their variants with
 * timeouts, ei_close_connection.
 *
 *     struct bp_node *n;
 *     ei_cnode ec;
 *     int fd;
 *
 *     bp_node_new(&n, "c1@myhost");
 *     bp_node_set_text(n, BP_OPT_COOKIE, "secret");
 *     if (bp_node_start(n) != 0 || bp_ei_init(&ec, n, 0) != 0 ||
 *         (fd = bp_ei_connect(&ec, n, "a@myhost", 5000)) < 0) {
 *         puts(bp_error_detail());
 *     }
 *     ei_reg_send(&ec, fd, ...)
 *
 * - bp_ei_init starts the node's I/O thread: peers' ticks are answered while the program is busy.
 * - The descriptor that libei returns is real: poll and select say when ei_receive_msg has
 *   something. Close it with ei_close_connection; a bare close() ends the connection too, but the
 *   memory of libei's entry for it is freed only with the node.
 * - ei_receive_msg does not return ERL_TICK: ticks have been answered already.
 * - ei_connect and ei_xconnect ask EPMD, of which there is none: use bp_ei_connect.
 *   ei_connect_host_port takes whatever node listens there, if its key is trusted for its name.
 * - ei_listen makes the node listen (bp_node_listen), on its BP_OPT_PORT, or on the port that is
 *   given. From then on peers that dial in are for ei_accept. ei_publish is not needed.
 * - ei_accept returns a peer that has shown the cookie: the I/O thread does the handshakes, all at
 *   once and each for at most BP_OPT_SETUP_TIMEOUT, so that a slow or silent peer keeps nobody
 *   waiting. A peer that is not accepted in that time ends. One that is refused is in the log
 *   (bp_node_set_log), and ei_accept goes on waiting.
 * - erl_errno after bp_ei_connect or ei_connect_host_port has failed: ECONNREFUSED (nothing listens
 *   there, or it refused us), EACCES (a key is wrong), EHOSTUNREACH (not found), ENETUNREACH (its
 *   relay), ETIMEDOUT, ENOMEM, EIO. Later libei has ETIMEDOUT and EIO (a wrong cookie, a connection
 *   that has ended) only. bp_error_last tells them apart, bp_error_detail has the sentence.
 * - One thread at a time for one descriptor, as always with libei; different ones at will. But
 *   ei_close_connection may be called while another thread waits in ei_accept or ei_receive_msg for
 *   that descriptor: it returns with an error. Close all descriptors before bp_node_del.
 *
 * These functions are defined here, so that they call the libei that the program is linked with;
 * the library itself does not contain libei.
 */
#ifndef BARREL_P2P_EI_H
#define BARREL_P2P_EI_H

#include <barrel_p2p/node.h>

#include <ei.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * For bp_ei_init and bp_ei_connect: the callbacks, for a structure of `size` bytes; what the
 * library does not know is zero. Static. And what the calling thread's next connection through them
 * is to dial in place of the address that libei gives (copied; NULL: nothing any more).
 */
BP_API ei_socket_callbacks *bp_ei_callbacks(void);
BP_API size_t bp_ei_callbacks_size(void);
BP_API int bp_ei_next_dial(struct bp_node *node, const char *peer);
/* The cookie, name and parts of it that the node has; checks that it was started, and starts its
 * I/O thread. `alive` has room for BP_NAME_MAX + 1 bytes, `*creation` 0 becomes the node's own.
 * Errors: BP_ERROR_STATE, ... */
BP_API int bp_ei_prepare(struct bp_node *node, char *alive, const char **host, const char **cookie,
                         unsigned *creation);

/*
 * Fills `ec` for the node, which was started and must live longer than `ec` and its descriptors.
 * `creation` tells incarnations of one name apart; 0: chosen at random. Returns 0, or a negative
 * bp_error: BP_ERROR_STATE (not started), BP_ERROR_SYSTEM (no thread), BP_ERROR_INVALID (the name
 * or the cookie is too long for libei).
 */
static inline int bp_ei_init(ei_cnode *ec, struct bp_node *node, unsigned creation)
{
    char alive[BP_NAME_MAX + 1];
    const char *host;
    const char *cookie;
    int rc = bp_ei_prepare(node, alive, &host, &cookie, &creation);

    if (rc == 0 && ei_init() != 0) {
        rc = BP_ERROR_SYSTEM;
    }
    if (rc == 0 &&
        ei_connect_xinit_ussi(ec, host, alive, bp_node_name(node), NULL, cookie, creation,
                              bp_ei_callbacks(), (int)bp_ei_callbacks_size(), node) != 0) {
        rc = BP_ERROR_INVALID;
    }
    return rc;
}

/*
 * Connects to the node called `peer`, found through the discovery chain: a descriptor for libei, or
 * a negative value as ei_connect has it, with erl_errno. `ms`: for each step of the handshake, as
 * in ei_connect_tmo; 0: BP_OPT_SETUP_TIMEOUT for finding, TLS and authentication.
 */
static inline int bp_ei_connect(ei_cnode *ec, struct bp_node *node, const char *peer, unsigned ms)
{
    struct in_addr nowhere;
    int fd = ERL_ERROR;

    memset(&nowhere, 0, sizeof(nowhere));
    if (bp_ei_next_dial(node, peer) == 0) {
        fd = ei_xconnect_host_port_tmo(ec, &nowhere, 1, ms);
        (void)bp_ei_next_dial(node, NULL);
    }
    return fd;
}

/* The connection behind a libei descriptor of this node, for bp_node_peer_info; 0 if it is none. */
BP_API bp_peer_id bp_ei_peer(struct bp_node *node, int fd);

#ifdef __cplusplus
}
#endif

#endif
