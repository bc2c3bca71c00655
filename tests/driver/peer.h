/* SPDX-License-Identifier: Apache-2.0 */
/* The other node: a link of the core on a UDP socket of its own, no driver, no VM. */
#ifndef DRIVER_PEER_H
#define DRIVER_PEER_H

#include "dist/link.h"
#include "driver/fake_vm.h"

struct peer {
    struct bp_link *link;
    struct bp_identity *identity;
    struct bp_tls_cred *cred;
    uint8_t pub[BP_KEY_LEN];
    uint8_t nonce_secret[32];
    uint8_t reset_secret[32];
    char name[64];
    int fd;
    struct bp_addr local;
    struct bp_addr remote;
    bool server; /* waits to be dialled */
    bool authenticated;
    bool failed;
    bool silent;    /* reads nothing, sends nothing */
    bool holds;     /* does not deliver: its window closes */
    bool misses_ok; /* a dialler's: it is deaf once it has answered the challenge */
    bool deaf;      /* what comes is lost */
    /* TLS sessions that go on: the key of its tickets, and what it was given. */
    uint8_t ticket_key[BP_TICKET_KEY_LEN];
    uint8_t session[BP_SESSION_MAX];
    size_t session_len;
    /* frames received, one after the other */
    uint8_t *rx;
    size_t rx_len;
    size_t rx_cap;
    unsigned n_frames;
    long owners; /* sent slices that are not released */
};

/* Keys, a socket on 127.0.0.1. */
void peer_init(struct peer *p, const char *name);
void peer_free(struct peer *p);
uint16_t peer_port(const struct peer *p);
/* Dials the node `dialled` at 127.0.0.1:port. */
void peer_dial(struct peer *p, uint16_t port, const char *dialled);
/* Reads, handles events and timers, sends. */
void peer_step(struct peer *p);
/* Sends the last datagrams and forgets the link; the socket stays. */
void peer_close(struct peer *p, int err);
/* A message for the other side, copied. */
void peer_send(struct peer *p, const void *data, size_t len);

/* Runs VM and peers until `done(ctx)`, at most `ms`; returns whether it was. */
bool run_until(struct peer *const *peers, unsigned n, bool (*done)(void *ctx), void *ctx, int ms);

#endif
