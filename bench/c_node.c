/* SPDX-License-Identifier: Apache-2.0 */
/*
 * C nodes for `make bench` (bp_bench_cnode.erl), with a poll() loop of their own.
 *
 *   c_node echo NAME COOKIE          sends {Pid, Payload} back to Pid, until it is killed
 *   c_node sink NAME COOKIE          counts binaries; answers {Pid, finish} with the number
 *   c_node ask NAME COOKIE PEER BYTES COUNT WARMUP
 *                                    round trips to the process `echo` of PEER, one after the other
 *   c_node hold NAME COOKIE          is dialled; shows its memory with each hundred connections
 *   c_node swarm COUNT COOKIE PEER PORT
 *                                    that many nodes in one process, each connected to PEER
 */
#include <barrel_p2p/barrel_p2p.h>

#include <ei.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define OP_SEND     2
#define OP_REG_SEND 6

static void die(const char *what)
{
    printf("error %s: %s\n", what, bp_error_detail());
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct bp_node *new_node(const char *name, const char *cookie)
{
    struct bp_node *n;

    if (bp_node_new(&n, name) != 0 || bp_node_set_text(n, BP_OPT_COOKIE, cookie) != 0) {
        die(name);
    }
    return n;
}

static struct bp_node *start_node(const char *name, const char *cookie, bool listen)
{
    struct bp_node *n = new_node(name, cookie);
    uint16_t port = 0;

    if (bp_node_start(n) != 0 || (listen && bp_node_listen(n, &port) != 0)) {
        die(name);
    }
    if (listen) {
        printf("port %u\n", port);
        fflush(stdout);
    }
    return n;
}

/* The next event of the node. */
static void next(struct bp_node *n, struct bp_event *ev)
{
    while (bp_node_next(n, ev) != 0) {
        struct pollfd p = {.fd = bp_node_fd(n), .events = POLLIN};
        (void)poll(&p, 1, bp_node_timeout(n));
        if (bp_node_process(n) != 0) {
            die("process");
        }
    }
}

/* --- messages -------------------------------------------------------------------------------- */

static void send_parts(struct bp_node *n, bp_peer_id peer, const ei_x_buff *control,
                       const char *payload, size_t len)
{
    const struct bp_part parts[] = {{.data = "\x70", .len = 1},
                                    {.data = control->buff, .len = (size_t)control->index},
                                    {.data = payload, .len = len}};
    int rc;

    while ((rc = bp_node_send(n, peer, parts, 3)) == BP_ERROR_AGAIN) {
        (void)bp_node_process(n);
    }
    if (rc != 0) {
        die("send");
    }
}

static void send_to(struct bp_node *n, bp_peer_id peer, const erlang_pid *to, const char *payload,
                    size_t len)
{
    ei_x_buff control;

    if (ei_x_new_with_version(&control) != 0 || ei_x_encode_tuple_header(&control, 3) != 0 ||
        ei_x_encode_long(&control, OP_SEND) != 0 || ei_x_encode_atom(&control, "") != 0 ||
        ei_x_encode_pid(&control, to) != 0) {
        die("memory");
    }
    send_parts(n, peer, &control, payload, len);
    (void)ei_x_free(&control);
}

/* Goes behind the control message; `*len` is what is left. */
static const char *payload_of(const struct bp_event *ev, size_t *len)
{
    const char *p = (const char *)ev->data + 1;
    int at = 0;
    int version;

    if (ei_decode_version(p, &at, &version) != 0 || ei_skip_term(p, &at) != 0 ||
        (size_t)at + 1 >= ev->len) {
        return NULL;
    }
    *len = ev->len - 1 - (size_t)at;
    return p + at;
}

/* The pid of {Pid, _}. */
static bool sender(const char *payload, erlang_pid *pid)
{
    int at = 0;
    int version;
    int arity;

    return ei_decode_version(payload, &at, &version) == 0 &&
           ei_decode_tuple_header(payload, &at, &arity) == 0 && arity == 2 &&
           ei_decode_pid(payload, &at, pid) == 0;
}

static void serve(const char *name, const char *cookie, bool sink)
{
    struct bp_node *n = start_node(name, cookie, true);
    unsigned long count = 0;

    for (;;) {
        struct bp_event ev;
        const char *payload;
        erlang_pid pid;
        size_t len;
        next(n, &ev);
        payload = ev.kind == BP_EVENT_MESSAGE ? payload_of(&ev, &len) : NULL;
        if (payload != NULL && sender(payload, &pid)) {
            ei_x_buff number;
            if (!sink) {
                send_to(n, ev.peer, &pid, payload, len);
            } else if (ei_x_new_with_version(&number) == 0) {
                (void)ei_x_encode_ulong(&number, count);
                send_to(n, ev.peer, &pid, number.buff, (size_t)number.index);
                (void)ei_x_free(&number);
                count = 0;
            }
        } else if (payload != NULL) {
            count++;
        }
        bp_event_clear(&ev);
    }
}

/* --- asking ---------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
    const uint64_t *l = a;
    const uint64_t *r = b;

    return (*l > *r) - (*l < *r);
}

/* REG_SEND to `echo`, and {Self, Binary}. */
static void make_question(const char *name, long bytes, ei_x_buff *control, ei_x_buff *payload)
{
    erlang_pid self = {.num = 1, .creation = 1};
    char *data = calloc(1, (size_t)bytes + 1);

    (void)snprintf(self.node, sizeof(self.node), "%s", name);
    if (data == NULL || ei_x_new_with_version(control) != 0 ||
        ei_x_encode_tuple_header(control, 4) != 0 || ei_x_encode_long(control, OP_REG_SEND) != 0 ||
        ei_x_encode_pid(control, &self) != 0 || ei_x_encode_atom(control, "") != 0 ||
        ei_x_encode_atom(control, "echo") != 0 || ei_x_new_with_version(payload) != 0 ||
        ei_x_encode_tuple_header(payload, 2) != 0 || ei_x_encode_pid(payload, &self) != 0 ||
        ei_x_encode_binary(payload, data, (int)bytes) != 0) {
        die("memory");
    }
    free(data);
}

static int ask(char **argv)
{
    long bytes = strtol(argv[3], NULL, 10);
    long count = strtol(argv[4], NULL, 10);
    long warmup = strtol(argv[5], NULL, 10);
    struct bp_node *n = start_node(argv[0], argv[1], false);
    uint64_t *took = calloc((size_t)count + 1, sizeof(*took));
    struct bp_event ev;
    ei_x_buff control;
    ei_x_buff payload;
    bp_peer_id peer;

    if (took == NULL || count < 1 || bp_node_dial(n, argv[2], 10000, &peer) != 0) {
        die(argv[2]);
    }
    next(n, &ev);
    if (ev.kind != BP_EVENT_UP) {
        printf("error %s\n", ev.text);
        return 1;
    }
    make_question(argv[0], bytes, &control, &payload);
    for (long i = -warmup; i < count; i++) {
        uint64_t from = now_ns();
        send_parts(n, peer, &control, payload.buff, (size_t)payload.index);
        do {
            next(n, &ev);
            bp_event_clear(&ev);
        } while (ev.kind != BP_EVENT_MESSAGE && ev.kind != BP_EVENT_DOWN);
        if (ev.kind == BP_EVENT_DOWN) {
            printf("error %s\n", ev.text);
            return 1;
        }
        if (i >= 0) {
            took[i] = now_ns() - from;
        }
    }
    qsort(took, (size_t)count, sizeof(*took), by_size);
    printf("trips %.1f %.1f\n", (double)took[count / 2] / 1000,
           (double)took[count - 1 - count / 100] / 1000);
    free(took);
    (void)ei_x_free(&control);
    (void)ei_x_free(&payload);
    bp_node_del(n);
    return 0;
}

/* --- many connections ------------------------------------------------------------------------ */

/* Memory of this process that is in use, in KB. */
static long resident_kb(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    long size;
    long resident = 0;

    if (f == NULL || fscanf(f, "%ld %ld", &size, &resident) != 2) {
        resident = 0;
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void hold(const char *name, const char *cookie)
{
    struct bp_node *n = start_node(name, cookie, true);
    struct bp_event ev;
    long up = 0;

    printf("holds 0 %ld\n", resident_kb());
    fflush(stdout);

    for (;;) {
        next(n, &ev);
        up += ev.kind == BP_EVENT_UP;
        up -= ev.kind == BP_EVENT_DOWN && ev.was_up;
        if (ev.kind == BP_EVENT_UP && up % 100 == 0) {
            printf("holds %ld %ld\n", up, resident_kb());
            fflush(stdout);
        }
        bp_event_clear(&ev);
    }
}

/* One after the other, so that the other side has strangers one at a time; then all live on. */
static int swarm(long count, const char *cookie, const char *peer_name, unsigned port)
{
    struct bp_node **nodes = calloc((size_t)count, sizeof(struct bp_node *));
    struct pollfd *p = calloc((size_t)count, sizeof(*p));
    char name[64];
    char dir[64];

    if (nodes == NULL || p == NULL) {
        die("memory");
    }
    for (long i = 0; i < count; i++) {
        struct bp_event ev;
        bp_peer_id peer;
        (void)snprintf(name, sizeof(name), "swarm%ld@localhost", i);
        (void)snprintf(dir, sizeof(dir), "swarm/%ld", i);
        nodes[i] = new_node(name, cookie);
        /* the certificate is the same for all, which spares time; keys are not */
        if (bp_node_set_text(nodes[i], BP_OPT_KEY_DIR, dir) != 0 ||
            bp_node_set_text(nodes[i], BP_OPT_CERT_FILE, "swarm.crt") != 0 ||
            bp_node_set_text(nodes[i], BP_OPT_CERT_KEY_FILE, "swarm.key") != 0 ||
            bp_node_start(nodes[i]) != 0 ||
            bp_node_dial_at(nodes[i], peer_name, "127.0.0.1", (uint16_t)port, 10000, &peer) != 0) {
            die(name);
        }
        next(nodes[i], &ev);
        if (ev.kind != BP_EVENT_UP) {
            printf("error %s: %s\n", name, ev.text);
            return 1;
        }
        p[i] = (struct pollfd){.fd = bp_node_fd(nodes[i]), .events = POLLIN};
    }
    printf("up %ld\n", count);
    fflush(stdout);
    for (;;) {
        (void)poll(p, (nfds_t)count, 500);
        for (long i = 0; i < count; i++) {
            struct bp_event ev;
            if (p[i].revents == 0 && bp_node_timeout(nodes[i]) != 0) {
                continue;
            }
            (void)bp_node_process(nodes[i]);
            while (bp_node_next(nodes[i], &ev) == 0) {
                if (ev.kind == BP_EVENT_DOWN) {
                    printf("error down: %s\n", ev.text);
                    return 1;
                }
                bp_event_clear(&ev);
            }
        }
    }
}

int main(int argc, char **argv)
{
    (void)ei_init();
    if (argc == 4 && strcmp(argv[1], "echo") == 0) {
        serve(argv[2], argv[3], false);
    }
    if (argc == 4 && strcmp(argv[1], "sink") == 0) {
        serve(argv[2], argv[3], true);
    }
    if (argc == 8 && strcmp(argv[1], "ask") == 0) {
        return ask(argv + 2);
    }
    if (argc == 4 && strcmp(argv[1], "hold") == 0) {
        hold(argv[2], argv[3]);
    }
    if (argc == 6 && strcmp(argv[1], "swarm") == 0) {
        return swarm(strtol(argv[2], NULL, 10), argv[3], argv[4],
                     (unsigned)strtoul(argv[5], NULL, 10));
    }
    fprintf(stderr, "usage: c_node echo|sink|ask|hold|swarm ..., see bench/c_node.c\n");
    return 2;
}
