/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When path MTU probes may be sent, and a path that stops taking large datagrams.
 *
 * ngtcp2 sends a probe whenever one is due, in front of data, and counts it into the congestion
 * window, which it fills on a new connection. Those of a path that is smaller, or of a peer that
 * was killed just now, are lost: the next message would wait for a probe timeout. A probe that is
 * larger than the buffer is put off, so the buffer's size is what we decide with.
 *
 * A path that stops taking large datagrams (RFC 8899, 4.3: black hole). ngtcp2 finds the size of a
 * path but never makes it smaller, so everything that it sends again would be lost again.
 *
 * A stream whose bytes wait for acknowledgement through two probe timeouts makes us send small
 * datagrams only, for a second. Were they needed, the next suspicion comes soon, and then it is
 * two seconds, four and so on: a path that only was silent for a while loses next to nothing, and
 * one that did shrink is tried rarely.
 */
#include "quic/conn_impl.h"

/* Silence of the peer's host is shorter than that, mostly. */
#define STALL_MIN     (200 * BP_MS)
#define SMALL_FIRST   BP_SEC
#define SMALL_MAX     (600 * BP_SEC) /* RFC 8899, 5.1.1: PMTU_RAISE_TIMER */
/* Large datagrams that go through for so long mean that the path is well. */
#define WELL_AFTER    (60 * BP_SEC)
/* Of the congestion window, for a message beside a probe. The first window takes the probe of jumbo
 * frames and this. */
#define PROBE_RESERVE 4096u

static bool stalled(const struct bp_conn *c, bp_time now)
{
    bp_time pto = ngtcp2_conn_get_pto(c->q);
    bp_time limit = pto * 5 / 2; /* the second probe timeout is 3 after the last packet */

    limit = limit > STALL_MIN ? limit : STALL_MIN;
    for (unsigned i = 0; i < c->n_streams; i++) {
        const struct bp_stream *s = &c->streams[i];
        if (!s->shut && s->q.acked < s->q.sent && now - s->progress >= limit) {
            return true;
        }
    }
    return c->user_unacked > 0 && now - c->user_progress >= limit;
}

/* With nothing to send a probe leaves room in the window for a message. When more waits than the
 * window takes it is full in any case, and large datagrams are wanted soon. */
static size_t probe_limit(const struct bp_conn *c, size_t mtu)
{
    uint64_t left = ngtcp2_conn_get_cwnd_left(c->q);

    if (!c->settled || c->late_at != 0 || c->mtu_unanswered) {
        return mtu;
    }
    if (c->unsent + c->user_unsent > left || left >= BP_DGRAM_SENT + PROBE_RESERVE) {
        return BP_DGRAM_SENT;
    }
    return left >= mtu + PROBE_RESERVE ? (size_t)left - PROBE_RESERVE : mtu;
}

size_t bp_conn_datagram_limit(struct bp_conn *c, bp_time now)
{
    size_t mtu = ngtcp2_conn_get_path_max_tx_udp_payload_size(c->q);

    if (c->small) {
        if (now < c->small_until) {
            return NGTCP2_MAX_UDP_PAYLOAD_SIZE;
        }
        c->small = false;
        for (unsigned i = 0; i < c->n_streams; i++) {
            c->streams[i].progress = now;
        }
        c->user_progress = now;
    }
    if (mtu <= NGTCP2_MAX_UDP_PAYLOAD_SIZE || !c->settled || !stalled(c, now)) {
        return probe_limit(c, mtu);
    }
    if (c->small_for == 0 || now - c->small_until >= WELL_AFTER) {
        c->small_for = SMALL_FIRST;
    } else {
        c->small_for = c->small_for < SMALL_MAX / 2 ? c->small_for * 2 : SMALL_MAX;
    }
    c->small = true;
    c->small_until = now + c->small_for;
    return NGTCP2_MAX_UDP_PAYLOAD_SIZE;
}
