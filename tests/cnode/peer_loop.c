/* SPDX-License-Identifier: Apache-2.0 */
/* The C node of the Erlang suites, driven by its own poll() loop; libei for terms only. */
#include "cnode/peer.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CONNS 16

/* Operations of OTP's distribution protocol. */
#define OP_SEND     2
#define OP_REG_SEND 6

struct conn {
    bp_peer_id id;
    char name[BP_NAME_MAX + 1];
    struct tally tally;
};

static struct conn conns[CONNS];

static struct conn *of_id(bp_peer_id id)
{
    for (int i = 0; i < CONNS; i++) {
        if (conns[i].id == id) {
            return &conns[i];
        }
    }
    return NULL;
}

static void send_to_pid(struct bp_node *n, bp_peer_id id, const erlang_pid *to, const ei_x_buff *x)
{
    ei_x_buff control;
    struct bp_part parts[] = {{.data = "\x70", .len = 1}, {0}, {0}};

    ei_x_new_with_version(&control);
    ei_x_encode_tuple_header(&control, 3);
    ei_x_encode_long(&control, OP_SEND);
    ei_x_encode_atom(&control, "");
    ei_x_encode_pid(&control, to);
    parts[1] = (struct bp_part){.data = control.buff, .len = (size_t)control.index};
    parts[2] = (struct bp_part){.data = x->buff, .len = (size_t)x->index};
    if (bp_node_send(n, id, parts, 3) != 0) {
        peer_say("error cannot answer: %s", bp_error_detail());
    }
    ei_x_free(&control);
}

static void send_word(struct bp_node *n, bp_peer_id id, const char *name, const char *word)
{
    erlang_pid self = {.num = 1, .serial = 0, .creation = 4};
    struct bp_part parts[] = {{.data = "\x70", .len = 1}, {0}, {0}};
    ei_x_buff control;
    ei_x_buff x;

    (void)snprintf(self.node, sizeof(self.node), "%s", bp_node_name(n));
    ei_x_new_with_version(&control);
    ei_x_encode_tuple_header(&control, 4);
    ei_x_encode_long(&control, OP_REG_SEND);
    ei_x_encode_pid(&control, &self);
    ei_x_encode_atom(&control, "");
    ei_x_encode_atom(&control, name);
    ei_x_new_with_version(&x);
    ei_x_encode_tuple_header(&x, 2);
    ei_x_encode_atom(&x, word);
    ei_x_encode_pid(&x, &self);
    parts[1] = (struct bp_part){.data = control.buff, .len = (size_t)control.index};
    parts[2] = (struct bp_part){.data = x.buff, .len = (size_t)x.index};
    if (bp_node_send(n, id, parts, 3) != 0) {
        peer_say("failed 0 %s", bp_error_detail());
    }
    ei_x_free(&control);
    ei_x_free(&x);
}

static void on_message(struct bp_node *n, const struct bp_event *ev)
{
    struct conn *c = of_id(ev->peer);
    const char *p = (const char *)ev->data + 1;
    int len = (int)ev->len - 1;
    int index = 0;
    int version;
    int arity;
    long op;
    erlang_pid to;
    ei_x_buff answer;

    if (c == NULL || ei_decode_version(p, &index, &version) != 0 ||
        ei_decode_tuple_header(p, &index, &arity) != 0 || ei_decode_long(p, &index, &op) != 0 ||
        (op != OP_SEND && op != OP_REG_SEND && op != 22)) {
        return;
    }
    index = 0;
    (void)ei_decode_version(p, &index, &version);
    (void)ei_skip_term(p, &index);
    ei_x_new(&answer);
    if (peer_answer(&c->tally, p + index, len - index, &to, &answer)) {
        send_to_pid(n, ev->peer, &to, &answer);
    }
    ei_x_free(&answer);
}

static void on_event(struct bp_node *n, const struct bp_event *ev)
{
    struct conn *c;

    switch (ev->kind) {
    case BP_EVENT_UP:
        c = of_id(0);
        if (c == NULL) {
            peer_die("too many connections");
        }
        *c = (struct conn){.id = ev->peer, .tally = {.wrong = -1}};
        (void)snprintf(c->name, sizeof(c->name), "%s", ev->name);
        peer_say("up %s", ev->name);
        break;
    case BP_EVENT_DOWN:
        c = of_id(ev->peer);
        if (c != NULL) {
            c->id = 0;
            peer_say("down %s %s", ev->name, ev->text);
        } else {
            peer_say("failed %d %s", ev->error, ev->text);
        }
        break;
    case BP_EVENT_MESSAGE:
        on_message(n, ev);
        break;
    case BP_EVENT_MOVED:
        peer_say("moved %d %s", ev->error, ev->text);
        break;
    case BP_EVENT_WRITABLE:
    case BP_EVENT_NONE:
    default:
        break;
    }
}

static void with_conn(struct bp_node *n, const char *line)
{
    char node[256];
    char a[256];
    char b[256];
    bp_peer_id id = 0;
    struct conn *c;

    if (sscanf(line, "%*s %255s %255s %255s", node, a, b) >= 1) {
        id = bp_node_find_peer(n, node);
    }
    c = id != 0 ? of_id(id) : NULL;
    if (c == NULL) {
        peer_say("failed 0 not connected: %s", line);
    } else if (strncmp(line, "send ", 5) == 0) {
        send_word(n, id, a, b);
    } else if (strncmp(line, "count ", 6) == 0) {
        peer_say(c->tally.wrong >= 0 ? "wrong %ld" : "count %ld",
                 c->tally.wrong >= 0 ? c->tally.wrong : c->tally.next);
    } else if (strncmp(line, "info ", 5) == 0) {
        peer_info(n, id);
    } else if (strncmp(line, "close ", 6) == 0) {
        (void)bp_node_close(n, id);
    } else {
        peer_die("not a command: %s", line);
    }
}

/* False: the end. */
static bool command(struct bp_node *n, const char *line)
{
    char node[256];
    bp_peer_id id;
    uint16_t port;

    if (strcmp(line, "quit") == 0) {
        return false;
    }
    if (peer_command(n, line)) {
        return true;
    }
    if (strcmp(line, "start") == 0) {
        if (bp_node_start(n) != 0) {
            peer_die("%s", bp_error_detail());
        }
        peer_say("started");
    } else if (strcmp(line, "listen") == 0) {
        if (bp_node_listen(n, &port) != 0) {
            peer_die("%s", bp_error_detail());
        }
        peer_say("listening %u", port);
    } else if (sscanf(line, "connect %255s", node) == 1) {
        if (bp_node_dial(n, node, 10000, &id) != 0) {
            peer_say("failed 0 %s", bp_error_detail());
        }
    } else {
        with_conn(n, line);
    }
    return true;
}

/* Complete lines of standard input; false: the end. */
static bool read_commands(struct bp_node *n)
{
    static char buf[4096];
    static size_t len;
    ssize_t got = read(STDIN_FILENO, buf + len, sizeof(buf) - 1 - len);
    char *end;

    if (got <= 0) {
        return false;
    }
    len += (size_t)got;
    buf[len] = '\0';
    while ((end = strchr(buf, '\n')) != NULL) {
        *end = '\0';
        if (!command(n, buf)) {
            return false;
        }
        len -= (size_t)(end + 1 - buf);
        memmove(buf, end + 1, len + 1);
    }
    return true;
}

void peer_loop(struct bp_node *n)
{
    bool running = true;
    struct bp_event ev;

    while (running) {
        struct pollfd fds[] = {{.fd = bp_node_fd(n), .events = POLLIN},
                               {.fd = STDIN_FILENO, .events = POLLIN}};

        (void)poll(fds, 2, bp_node_timeout(n));
        (void)bp_node_process(n); /* before the start it does nothing */
        while (bp_node_next(n, &ev) == 0) {
            on_event(n, &ev);
            bp_event_clear(&ev);
        }
        if (fds[1].revents != 0) {
            running = read_commands(n);
        }
    }
}
