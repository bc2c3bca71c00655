/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the VM would send over a simulated link, and the check of what arrives: each sender's
 * messages whole, once and in order.
 */
#ifndef BP_SIM_TRAFFIC_H
#define BP_SIM_TRAFFIC_H

#include "sim/world.h"

#define SIM_SENDERS 40u

/* Dials, authenticates, plays the distribution handshake; asserts that all of it works. */
void sim_connect_up(struct sim *s);

/* Sends message number `n` of `sender`; every 97th of a sender is a fence. Returns what
 * bp_link_send returned. */
int sim_try_message(struct sim_node *node, uint32_t sender, uint32_t n, size_t payload);
/* The same; it must work. */
void sim_send_message(struct sim_node *node, uint32_t sender, uint32_t n, size_t payload);
/* Pops what arrived and checks it against `next`, the number that each sender is at. */
void sim_receive(struct sim_node *node, uint32_t *next, uint32_t *total);

/* Messages from one node to the other. */
struct sim_flow {
    struct sim_node *from;
    struct sim_node *to;
    uint32_t sent[SIM_SENDERS];
    uint32_t got[SIM_SENDERS];
    uint32_t n_sent;
    uint32_t n_got;
};

/* One message of a random sender with `payload` bytes. */
void sim_flow_send(struct sim *s, struct sim_flow *f, size_t payload);
/*
 * Runs for `for_` of virtual time; every millisecond `f` sends a message of `payload` bytes as
 * long as less than 512 KB wait (the VM's limit), and what arrived on it is checked. 0: nothing is
 * sent. Links must not fail.
 */
void sim_flow_run(struct sim *s, struct sim_flow *f, size_t payload, bp_time for_);
/* Runs until everything that was sent has arrived, was acknowledged and was released; fails the
 * test when that takes longer than `within`. */
void sim_flow_drain(struct sim *s, struct sim_flow *f, bp_time within);

#endif
