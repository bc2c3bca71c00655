/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two links of the real core in one process, with virtual time and a network between them that
 * delays, loses, duplicates and reorders datagrams and drops those above its MTU. The path and the
 * loss pattern replay from the seed; GnuTLS' own random numbers do not.
 */
#ifndef BP_SIM_WORLD_H
#define BP_SIM_WORLD_H

#include "dist/link.h"
#include "quic/closing.h"
#include "quic/listener.h"

#define SIM_CIDS_MAX 32u

struct sim_net {
    bp_time delay;
    bp_time jitter; /* added at random: reorders */
    unsigned loss;  /* per mille */
    unsigned dup;   /* per mille */
    unsigned flip;  /* per mille: one to eight bits change, or the end is missing */
    size_t mtu;     /* larger UDP payloads vanish; 0: none do */
    size_t device;  /* the kernel refuses a run of larger ones, with all that is in it; 0: none */
    bool cut;       /* nothing gets through */
    /* True: this one is lost. */
    bool (*drop)(void *ctx, bool to_b, const uint8_t *p, size_t len);
    void *drop_ctx;
    /* Per mille of a's datagrams: a copy that says it comes from `spoof` arrives first. */
    unsigned spoof_per_mille;
    struct bp_addr spoof;
    uint64_t n_spoofed;
    uint64_t n_sent;
    uint64_t n_lost;
    uint64_t n_flipped;
    uint64_t n_refused; /* by the device: larger ones, and those that were in a run with them */
    uint64_t n_dragged;
    uint64_t n_stale; /* sent to an address that a no longer has */
    size_t largest;   /* UDP payload that got through */
};

struct sim_packet;

struct sim_node {
    struct bp_link *link;
    struct bp_identity *identity;
    uint8_t pub[BP_KEY_LEN];
    struct bp_tls_cred *cred;
    const char *name;
    struct bp_addr addr;
    uint8_t nonce_secret[32];
    uint8_t reset_secret[32];
    enum bp_trust_mode trust_mode;
    enum bp_auth_mode auth_mode;
    const uint8_t *pinned; /* what this node knows of the other, or NULL */
    const char *const *cookie_only;
    size_t n_cookie_only;
    unsigned dist_streams;
    uint32_t max_frame_bytes;
    uint32_t max_datagram;
    const uint8_t *ticket_key;       /* of b, or NULL */
    bool keep_session;               /* a wants one */
    uint8_t session[BP_SESSION_MAX]; /* that a has got, or goes on with */
    size_t session_len;
    bool authenticated;
    bool pin_wanted;
    bool has_key;
    bool failed;
    unsigned idle_asked; /* how often the peer asked whether the link may be closed */
    char peer[BP_NODE_NAME_MAX + 1];
    size_t largest_sent;              /* UDP payload */
    long bins;                        /* received frames' binaries alive */
    long owners;                      /* sent slices' owners alive */
    struct bp_cid cids[SIM_CIDS_MAX]; /* of the link */
    unsigned n_cids;
    struct sim_packet *backlog; /* what came while the host was stalled */
    size_t backlog_bytes;
    bool stalled; /* the host neither reads nor looks at its clock */
    const struct bp_mem *mem;
    struct bp_closing *closing; /* what its closed connection still says */
};

#define SIM_PATHS 8u /* of those that a has named, the last ones */

struct sim {
    bp_time now;
    uint64_t rng;
    struct sim_net net;
    struct sim_node a; /* dials */
    struct sim_node b; /* is dialled */
    struct sim_packet *queue;
    unsigned spin;         /* steps since time moved */
    struct bp_addr a_seen; /* a's address as b sees it: sim_rebind */
    struct bp_listener listener;
    bool a_moves; /* a is seen at the local addresses that its datagrams have */
    struct {
        struct bp_addr name; /* ... unless they are names: sim_name */
        struct bp_addr at;
    } a_paths[SIM_PATHS];
    unsigned n_a_paths;
    struct bp_addr a_dead; /* of those, one from and to which nothing gets through */
    bool b_exists;
    bool a_holds; /* does not deliver after the handshake */
    bool b_holds;
    bp_time setup_timeout;
    bp_time idle_timeout;
    bp_time keepalive;
    const char *dialled;
    /* Called for each new link before it has sent or read anything. */
    void (*on_link)(struct sim_node *n);
};

/* With a_moves: b sees a's datagrams from `name` at `at`, and answers there reach a as for `name`.
 */
void sim_name(struct sim *s, const struct bp_addr *name, const struct bp_addr *at);
/* Keys, certificates and defaults (TOFU, built-in auth, 16 streams); no packet is sent. */
void sim_init(struct sim *s, uint64_t seed);
void sim_free(struct sim *s);
/* a dials b. */
int sim_dial(struct sim *s);
/* Runs until nothing is left to do or `until`; true while the links live. */
void sim_run(struct sim *s, bp_time until);
/* Runs until both are authenticated or one has failed, at most `for_` long. */
void sim_run_auth(struct sim *s, bp_time for_);
/* Plays both sides of the distribution handshake with messages of the right form and brings both
 * links up, delivering. Returns 0, or the error of the link that refused. */
int sim_handshake(struct sim *s, const char *a_name, const char *b_name);
/* The same for a that has sent its name already: gives a name to the link of `n`. */
int sim_send_name(struct sim *s, struct sim_node *n, const char *name, bool server);
int sim_handshake_named(struct sim *s, const char *b_name);
/* Runs one step: the earliest packet or timer. False: nothing is due before `until`. */
bool sim_step(struct sim *s, bp_time until);
/* Sends what both have to send, now. */
void sim_flush(struct sim *s);
/* Sends a datagram that the caller took from n's connection. */
void sim_transmit(struct sim *s, const struct sim_node *n, const uint8_t *p, size_t len);
/* A NAT between a and b forgets a: from now on b sees a at this address, and what is under way or
 * sent to the old one is lost. */
void sim_rebind(struct sim *s, const char *ip, uint16_t port);
/* b's process is killed and starts again: same keys, no memory of connections. */
void sim_restart_b(struct sim *s);
/* The host of `n` stops or goes on; up to 4 MB of datagrams wait for it. */
void sim_stall(struct sim *s, struct sim_node *n, bool stalled);

#endif
