/* SPDX-License-Identifier: Apache-2.0 */
/* The C node of the Erlang suites: what both ways to run it share. */
#include "cnode/peer.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t out_lock = PTHREAD_MUTEX_INITIALIZER;

void peer_say(const char *fmt, ...)
{
    va_list ap;

    (void)pthread_mutex_lock(&out_lock);
    va_start(ap, fmt);
    (void)vprintf(fmt, ap);
    va_end(ap);
    (void)putchar('\n');
    (void)fflush(stdout);
    (void)pthread_mutex_unlock(&out_lock);
}

void peer_die(const char *fmt, ...)
{
    char text[2048];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    peer_say("error %s", text);
    exit(1);
}

static void log_line(void *ctx, enum bp_log_level level, const char *event, const char *peer,
                     const char *text)
{
    (void)ctx;
    fprintf(stderr, "[%d] %s %s: %s\n", level, event, peer, text);
}

static bool begin(const char *payload, int *index, int *arity, char *atom)
{
    int version;

    return ei_decode_version(payload, index, &version) == 0 &&
           ei_decode_tuple_header(payload, index, arity) == 0 && *arity >= 2 &&
           ei_decode_atom(payload, index, atom) == 0;
}

bool peer_answer(struct tally *t, const char *payload, int len, erlang_pid *to, ei_x_buff *answer)
{
    char atom[MAXATOMLEN];
    int index = 0;
    int arity;
    int type;
    int size;
    long i;

    if (!begin(payload, &index, &arity, atom)) {
        return false;
    }
    if (strcmp(atom, "n") == 0 && ei_decode_long(payload, &index, &i) == 0) {
        if (i != t->next && t->wrong < 0) {
            t->wrong = i;
        }
        t->next++;
        return false;
    }
    if (arity != 3 || ei_decode_pid(payload, &index, to) != 0) {
        return false;
    }
    ei_x_encode_version(answer);
    ei_x_encode_tuple_header(answer, 2);
    ei_x_encode_atom(answer, "cnode");
    if (strcmp(atom, "size") == 0 && ei_get_type(payload, &index, &type, &size) == 0) {
        ei_x_encode_long(answer, size);
    } else {
        ei_x_append_buf(answer, payload + index, len - index);
    }
    return true;
}

void peer_info(struct bp_node *n, bp_peer_id id)
{
    struct bp_peer_info i;

    if (bp_node_peer_info(n, id, &i, sizeof(i)) != 0) {
        peer_say("failed 0 %s", bp_error_detail());
        return;
    }
    peer_say("info name=%s address=%s fingerprint=%s up=%d srtt_us=%llu bytes_received=%llu "
             "recv_queue=%llu messages_received=%llu datagram_size=%llu relay=%s",
             i.name, i.address, i.fingerprint, i.up, (unsigned long long)i.srtt_us,
             (unsigned long long)i.bytes_received, (unsigned long long)i.recv_queue,
             (unsigned long long)i.messages_received, (unsigned long long)i.datagram_size,
             i.relay);
}

struct counter {
    const char *name;
    unsigned long long value;
};

static void pick(void *ctx, const char *name, uint64_t value)
{
    struct counter *c = ctx;

    if (strcmp(name, c->name) == 0) {
        c->value = value;
    }
}

bool peer_command(struct bp_node *n, const char *line)
{
    char node[256];
    unsigned port;

    if (sscanf(line, "counter %255s", node) == 1) {
        struct counter c = {.name = node};

        bp_node_counters(n, pick, &c);
        peer_say("counter %llu", c.value);
        return true;
    }

    if (sscanf(line, "knows %255s %u", node, &port) == 2) {
        if (bp_node_discover_static(n, node, "127.0.0.1", (uint16_t)port) != 0) {
            peer_die("%s", bp_error_detail());
        }
        return true;
    }
    if (strcmp(line, "strict") == 0) {
        (void)bp_node_set_text(n, BP_OPT_TRUST, "strict");
        return true;
    }
    return peer_relay_command(n, line);
}

int main(int argc, char **argv)
{
    struct bp_node *n;

    if (argc != 5) {
        peer_die("usage: cnode_peer ei|loop NAME COOKIE DIR");
    }
    if (ei_init() != 0 || bp_node_new(&n, argv[2]) != 0 ||
        bp_node_set_text(n, BP_OPT_COOKIE, argv[3]) != 0 ||
        bp_node_set_text(n, BP_OPT_DIR, argv[4]) != 0) {
        peer_die("%s", bp_error_detail());
    }
    bp_node_set_log(n, BP_LOG_INFO, log_line, NULL);
    if (strcmp(argv[1], "ei") == 0) {
        peer_ei(n);
    } else {
        peer_loop(n);
    }
    bp_node_del(n);
    peer_say("bye");
    return 0;
}
