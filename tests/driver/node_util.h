/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments of control operations, and a node under test with its directory. */
#ifndef DRIVER_NODE_UTIL_H
#define DRIVER_NODE_UTIL_H

#include "driver/drv.h"
#include "driver/peer.h"
#include "unit/tmpdir.h"

/* A test with a directory of its own, after which no port is open. */
static inline int vm_test_teardown(void **state)
{
    vm_close_all();
    return tmpdir_teardown(state);
}
#define VM_TEST(f) cmocka_unit_test_setup_teardown(f, tmpdir_setup, vm_test_teardown)

/* The program's group: loads the driver, and unloads it without anything left behind. */
static inline int vm_group_setup(void **state)
{
    (void)state;
    vm_init();
    return 0;
}

static inline int vm_group_teardown(void **state)
{
    (void)state;
    vm_finish();
    return 0;
}

struct tlv {
    size_t len;
    uint8_t data[16384];
};

void tlv_bytes(struct tlv *t, uint8_t key, const void *p, size_t len);
void tlv_text(struct tlv *t, uint8_t key, const char *text);
void tlv_uint(struct tlv *t, uint8_t key, uint64_t v, unsigned bytes);

/* Good settings for a node whose files are in the test's directory; the name is this process's. */
void good_config(struct tlv *t, void **state);
const char *node_name(void);

/* The node port, configured and listening; `*port` is its UDP port. */
ErlDrvPort start_node(void **state, uint16_t *port);

/* Settings 1, 2, 3 of CONNECT. */
void connect_args(struct tlv *t, const char *name, const char *ip, uint16_t port);

/* A connection between the driver and a peer. */
struct pair {
    ErlDrvPort node;
    ErlDrvPort conn;
    struct peer peer;
    struct peer *peers[1];
    uint16_t udp_port;
};

/* Each fails the test if it takes more than seconds. */
void pair_dial(struct pair *p, void **state); /* the driver dials: authenticated */
/* The same for another peer of the node of `first`. */
void pair_dial_more(struct pair *p, const struct pair *first, const char *peer);
void pair_accept(struct pair *p, void **state); /* the peer dials: attached, authenticated */
/* The same, but what the node sent before it was attached is lost. */
void pair_accept_ok_lost(struct pair *p, void **state);
void pair_handshake(struct pair *p);            /* distribution handshake, both up, delivering */
/* Ends the connection; the same side dials again, with the handshake. */
void pair_again(struct pair *p);
/* A counter of the connection or the node, by its name. */
uint64_t pair_conn_stat(const struct pair *p, const char *name);
uint64_t pair_node_stat(const struct pair *p, const char *name);
void pair_free(struct pair *p);
bool pair_run(struct pair *p, bool (*done)(void *ctx), void *ctx);

/* The handshake message with which a node names itself. */
size_t name_message(uint8_t *buf, size_t cap, const char *name, bool challenge);

/* Waits for a message. */
void await_msg(struct pair *p, ErlDrvPort port, const char *start);

#endif
