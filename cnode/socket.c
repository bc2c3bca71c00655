/* SPDX-License-Identifier: Apache-2.0 */
/* The node's UDP socket: to whom a datagram belongs. */
#include "cnode/cn.h"

#include <string.h>
#include <sys/epoll.h>

#define RX_ROUNDS    4 /* then whoever waits for the lock has its turn */
#define ERROR_ROUNDS 64

/* --- sending ------------------------------------------------------------- */

static void want_out(struct bp_node *n, bool want)
{
    if (n->want_out != want && n->fd >= 0) {
        n->want_out = want;
        (void)cn_watch(n, n->fd, want ? EPOLLIN | EPOLLOUT : EPOLLIN, CN_SRC_SOCKET, 0);
    }
}

bool cn_socket_send(struct bp_node *n, struct bp_tx_run *runs, unsigned n_runs)
{
    unsigned done = bp_udp_send(n->fd, &n->tx, n->tx_mem, runs, n_runs);

    if (done == n_runs) {
        return true;
    }
    n->n_stash = n_runs - done;
    memcpy(n->stash, runs + done, n->n_stash * sizeof(runs[0]));
    want_out(n, true);
    return false;
}

bool cn_socket_unstash(struct bp_node *n)
{
    unsigned done = bp_udp_send(n->fd, &n->tx, n->tx_mem, n->stash, n->n_stash);

    if (done < n->n_stash) {
        n->n_stash -= done;
        memmove(n->stash, n->stash + done, n->n_stash * sizeof(n->stash[0]));
        return false;
    }
    n->n_stash = 0;
    want_out(n, false);
    return true;
}

/* --- strangers ----------------------------------------------------------- */

static void accept_peer(struct bp_node *n, const struct bp_initial *in,
                        const struct bp_addr *remote, const uint8_t *d, size_t len, bp_time now)
{
    struct bp_link_config lc;
    struct cn_peer *p;
    int rc = cn_peer_new(n, &p);

    if (rc != 0) {
        char addr[BP_ADDR_TEXT_MAX];
        cn_log(n, BP_LOG_WARNING, "accept_failed", bp_addr_text(remote, addr), "%s",
               bp_error_detail());
        return;
    }
    p->inbound = true;
    p->silent = true; /* until it is up */
    p->counted = true;
    p->remote = p->counted_as = *remote;
    bp_listener_half_open(n->listener, remote, true);
    n->stats.accepted++;
    cn_peer_link_config(n, &lc);
    lc.conn.local = n->bound;
    lc.conn.remote = *remote;
    bp_initial_config(in, &lc.conn);
    rc = cn_peer_connect(p, true, &lc, now);
    if (rc != 0) {
        cn_log(n, BP_LOG_ERROR, "accept_failed", cn_who(p), "%s", bp_err_text(rc));
        cn_peer_free(p);
        return;
    }
    cn_peer_read(p, p->path == NULL ? &p->local : &n->bound, remote, d, len, now);
    cn_peer_dirty(p);
}

/* A key of the table of addresses. */
void cn_addr_key(const struct bp_addr *a, struct bp_cid *out)
{
    struct bp_addr mapped = *a;
    uint16_t port = bp_addr_port(a);

    bp_addr_map_v6(&mapped);
    out->len = 18;
    memcpy(out->data, &mapped.u.v6.sin6_addr, 16);
    memcpy(out->data + 16, &port, sizeof(port));
}

/* Perhaps a stateless reset, whose id nobody knows: for all that dialled this address. */
static bool maybe_reset(struct bp_node *n, const struct bp_addr *remote, const uint8_t *d,
                        size_t len, bp_time now)
{
    struct bp_cid key;
    struct cn_peer *p = NULL;
    bool any = false;

    if ((d[0] & 0x80) != 0) {
        return false;
    }
    cn_addr_key(remote, &key);
    while ((p = bp_cid_map_next(&n->addrs, &key, p)) != NULL) {
        if (p->stage != CN_ENDED && p->link != NULL) {
            any = true;
            cn_peer_read(p, p->path == NULL ? &p->local : &n->bound, remote, d, len, now);
            cn_peer_dirty(p);
        }
    }
    return any;
}

static void to_nobody(struct bp_node *n, const struct bp_addr *remote, const struct bp_cid *cid,
                      const uint8_t *d, size_t len, bp_time now)
{
    uint8_t reply[1500];
    struct bp_listener_result r = {.action = BP_LISTENER_DROP};

    n->stats.datagrams_to_nobody++;
    if (cid->len != 0) {
        r.reply_len = bp_closing_answer(n->told, cid, len, reply, sizeof(reply), now);
        r.action = BP_LISTENER_REPLY;
    }
    if (r.reply_len == 0) {
        if (maybe_reset(n, remote, d, len, now)) {
            return;
        }
        r.action = BP_LISTENER_DROP;
        if (n->listener != NULL) {
            bp_listener_classify(n->listener, d, len, &r);
            if (r.action == BP_LISTENER_ROUTE) {
                bp_listener_unknown(n->listener, remote, d, len, reply, sizeof(reply), now, &r);
            }
        }
    }
    if (r.action == BP_LISTENER_ACCEPT) {
        accept_peer(n, &r.initial, remote, d, len, now);
    } else if (r.action == BP_LISTENER_REPLY) {
        struct bp_udp_tx tx = {0};
        struct bp_tx_run run = {.remote = *remote, .len = r.reply_len, .seg = r.reply_len};
        (void)bp_udp_send(n->fd, &tx, reply, &run, 1);
    }
}

/* --- receiving ----------------------------------------------------------- */

static void on_datagram(struct bp_node *n, const struct bp_addr *remote, const uint8_t *d,
                        size_t len, bp_time now)
{
    struct bp_cid cid;
    struct cn_peer *p;

    n->stats.datagrams++;
    if (len == 0) {
        return;
    }
    bp_cid_of_datagram(d, len, &cid);
    p = bp_cid_map_find(&n->cids, &cid);
    if (p == NULL) {
        to_nobody(n, remote, &cid, d, len, now);
        return;
    }
    cn_peer_read(p, p->path == NULL ? &p->local : &n->bound, remote, d, len, now);
    p->just_read = true;
    cn_peer_dirty(p);
}

void cn_socket_read(struct bp_node *n)
{
    struct bp_udp_rx rx[BP_UDP_RX_BUFS];
    bool refused;

    n->more_rx = true;
    for (int round = 0; round < RX_ROUNDS; round++) {
        bp_time now = cn_now();
        int got = bp_udp_recv(n->fd, n->rx_mem, rx, &refused);

        for (int i = 0; i < got; i++) {
            for (size_t off = 0; off < rx[i].len; off += rx[i].seg) {
                size_t len = rx[i].len - off < rx[i].seg ? rx[i].len - off : rx[i].seg;
                on_datagram(n, &rx[i].remote, rx[i].data + off, len, now);
            }
        }
        if (got < (int)BP_UDP_RX_BUFS) {
            n->more_rx = false;
            return;
        }
    }
}

void cn_socket_errors(struct bp_node *n)
{
    struct bp_addr whose;
    bp_time now = cn_now();

    for (int i = 0; i < ERROR_ROUNDS && bp_udp_refused(n->fd, &whose); i++) {
        struct bp_cid key;
        struct cn_peer *p = NULL;

        if (whose.len == 0) {
            continue;
        }
        cn_addr_key(&whose, &key);
        while ((p = bp_cid_map_next(&n->addrs, &key, p)) != NULL) {
            if (p->stage != CN_ENDED && p->link != NULL) {
                cn_peer_refused(p, now);
                cn_peer_dirty(p);
            }
        }
    }
}
