/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a packet costs, step by step, on one core: two links of the core over two UDP sockets on the
 * loopback, 1 MB messages in one direction, in one thread. No VM, nobody waits for anybody, so
 * the figures are of the code alone, in CPU time of the thread, so that a busy machine does little
 * to them:
 *
 *     build/release/bench/packets [DATAGRAM [MEGABYTES [MESSAGE_BYTES]]]
 *
 * prints nanoseconds per data packet of each step, on one line with names and one with figures.
 */
#include "io/udp.h"
#include "sim/traffic.h"
#include "support/t.h"

#include <time.h>
#include <unistd.h>

enum step { PUT, WRITE, SEND, RECV, READ, ACK_WRITE, ACK_SEND, ACK_RECV, ACK_READ, STEPS };

static const char *const names[STEPS] = {"put",       "write",    "send",     "recv",    "read",
                                         "ack_write", "ack_send", "ack_recv", "ack_read"};
static uint64_t spent[STEPS];
static uint64_t n_acks;

static bp_time read_clock(clockid_t id)
{
    struct timespec t;

    (void)clock_gettime(id, &t);
    return (bp_time)t.tv_sec * BP_SEC + (bp_time)t.tv_nsec;
}

static bp_time now_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

/* Of this thread: others on the same core count only as cold caches. */
static bp_time cpu_ns(void)
{
    return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

struct side {
    struct sim_node *n;
    int fd;
    struct bp_udp_tx tx;
    uint8_t rx[BP_UDP_RX_BUFS * BP_UDP_RX_BUF];
    uint8_t out[BP_UDP_TX_BUF];
    struct bp_addr at;
};

static struct side a, b;
static bp_time offset; /* of the simulation's clock */

static bp_time clock_of(void)
{
    return now_ns() + offset;
}

/* What the host does: messages out of the queue. */
static uint64_t pop(struct sim_node *n)
{
    struct bp_frame f;
    uint64_t bytes = 0;

    while (bp_frame_queue_pop(bp_link_frames(n->link), &f)) {
        bytes += f.len;
        if (f.bin != NULL) {
            n->bins--;
            n->mem->release(n->mem->ctx, f.bin);
        }
    }
    bp_frame_queue_reset(bp_link_frames(n->link));
    return bytes;
}

static uint64_t send_side(struct side *s, enum step write_step, enum step send_step)
{
    struct bp_tx_run runs[BP_TX_RUNS];
    uint64_t packets = 0;
    unsigned n = 1;

    for (unsigned round = 0; round < 2 && n > 0; round++) {
        bp_time t0 = cpu_ns(), t1;

        assert_int_equal(bp_link_write(s->n->link, s->out, sizeof(s->out), runs, &n, clock_of()),
                         0);
        t1 = cpu_ns();
        spent[write_step] += t1 - t0;
        for (unsigned i = 0; i < n; i++) {
            packets += (runs[i].len + runs[i].seg - 1) / runs[i].seg;
        }
        if (n > 0) {
            assert_int_equal(bp_udp_send(s->fd, &s->tx, s->out, runs, n), n);
        }
        spent[send_step] += cpu_ns() - t1;
    }
    return packets;
}

static void receive_side(struct side *s, const struct bp_addr *peer, enum step recv_step,
                         enum step read_step)
{
    struct bp_udp_rx rx[BP_UDP_RX_BUFS];
    struct bp_link_event ev;
    bool refused;
    int n = 1;

    while (n > 0) {
        bp_time t0 = cpu_ns(), t1, now = clock_of();

        n = bp_udp_recv(s->fd, s->rx, rx, &refused);
        t1 = cpu_ns();
        spent[recv_step] += t1 - t0;
        for (int i = 0; i < n; i++) {
            for (size_t off = 0; off < rx[i].len; off += rx[i].seg) {
                size_t left = rx[i].len - off;
                assert_int_equal(bp_link_read(s->n->link, &s->n->addr, peer, rx[i].data + off,
                                              left < rx[i].seg ? left : rx[i].seg, now),
                                 0);
                while (bp_link_poll(s->n->link, &ev)) {
                }
            }
        }
        spent[read_step] += cpu_ns() - t1;
    }
}

static void sockets(void)
{
    struct bp_addr any;

    assert_int_equal(bp_addr_parse(&any, "127.0.0.1", 0), 0);
    assert_int_equal(bp_udp_listen(&a.fd, &any, 0, 4, &a.at), 0);
    assert_int_equal(bp_udp_listen(&b.fd, &any, 0, 4, &b.at), 0);
    assert_int_equal(connect(a.fd, &b.at.u.sa, b.at.len), 0);
    assert_int_equal(connect(b.fd, &a.at.u.sa, a.at.len), 0);
    /* The paths' names are those of the simulation. */
    a.tx.peer = b.n->addr;
    b.tx.peer = a.n->addr;
}

static void start(struct sim *s, uint32_t datagram)
{
    sim_init(s, 1);
    s->net.delay = BP_MS / 100;
    s->a.max_datagram = datagram;
    s->b.max_datagram = datagram;
    sim_connect_up(s);
    a.n = &s->a;
    b.n = &s->b;
    sockets();
    for (unsigned i = 0; i < 4; i++) {
        struct sim_flow f = {.from = &s->a, .to = &s->b};
        sim_flow_run(s, &f, 100000, 30 * BP_MS);
        sim_flow_drain(s, &f, BP_SEC);
    }
    offset = s->now - now_ns();
}

int main(int argc, char **argv)
{
    uint32_t datagram = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1452;
    uint64_t total = (argc > 2 ? strtoull(argv[2], NULL, 10) : 1000) * 1000000;
    size_t message = argc > 3 ? (size_t)strtoull(argv[3], NULL, 10) : 1000000;
    static struct sim s;
    uint64_t queued = 0, got = 0, packets = 0, sum = 0;
    uint32_t n[SIM_SENDERS] = {0};
    bp_time began = 0;

    start(&s, datagram);
    for (unsigned phase = 0; phase < 2; phase++) {
        uint64_t until = phase == 0 ? total / 10 : total;

        /* The first tenth is not counted. */
        queued = got = packets = n_acks = 0;
        memset(spent, 0, sizeof(spent));
        began = cpu_ns();
        while (got < until) {
            bp_time t0 = cpu_ns();

            while (bp_link_pending(a.n->link) < 524288) {
                sim_send_message(a.n, 0, n[0]++, message);
                queued += message;
            }
            spent[PUT] += cpu_ns() - t0;
            packets += send_side(&a, WRITE, SEND);
            receive_side(&b, &a.n->addr, RECV, READ);
            got += pop(b.n);
            n_acks += send_side(&b, ACK_WRITE, ACK_SEND);
            receive_side(&a, &b.n->addr, ACK_RECV, ACK_READ);
            assert_int_equal(bp_link_on_timer(a.n->link, clock_of()), 0);
            assert_int_equal(bp_link_on_timer(b.n->link, clock_of()), 0);
        }
        began = cpu_ns() - began;
    }
    printf("MB/s\tpackets\tacks\t");
    for (unsigned i = 0; i < STEPS; i++) {
        printf("%s\t", names[i]);
    }
    printf("sum\n%.0f\t%llu\t%llu\t", (double)got * 1000 / (double)began,
           (unsigned long long)packets, (unsigned long long)n_acks);
    for (unsigned i = 0; i < STEPS; i++) {
        sum += spent[i];
        printf("%.1f\t", (double)spent[i] / (double)packets);
    }
    printf("%.1f\n", (double)sum / (double)packets);
    return 0;
}
