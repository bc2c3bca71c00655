/* SPDX-License-Identifier: Apache-2.0 */
/* The C node of the Erlang suites, on libei: a thread for each connection, as such programs are. */
#include "cnode/peer.h"

#include "barrel_p2p/ei.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNS 16

struct conn {
    struct conns *all;
    int fd; /* -1: free */
    char name[MAXNODELEN + 1];
    struct tally tally;
    pthread_mutex_t lock; /* of the tally */
    pthread_t thread;
    bool reads;
    bool ended;
};

struct conns {
    struct bp_node *n;
    ei_cnode ec;
    int listen_fd;
    pthread_mutex_t lock;
    struct conn at[CONNS];
};

static _Atomic bool quitting;
static pthread_t acceptor;
static struct conns all = {.listen_fd = -1, .lock = PTHREAD_MUTEX_INITIALIZER};

static void one_message(struct conn *c, const ei_x_buff *x)
{
    erlang_pid to;
    ei_x_buff answer;
    bool is;

    ei_x_new(&answer);
    (void)pthread_mutex_lock(&c->lock);
    is = peer_answer(&c->tally, x->buff, x->index, &to, &answer);
    (void)pthread_mutex_unlock(&c->lock);
    if (is && ei_send(c->fd, &to, answer.buff, answer.index) != 0) {
        peer_say("error cannot answer %s", c->name);
    }
    ei_x_free(&answer);
}

static void *serve(void *arg)
{
    struct conn *c = arg;
    erlang_msg msg;
    ei_x_buff x;
    int rc;

    ei_x_new(&x);
    while ((rc = ei_xreceive_msg(c->fd, &msg, &x)) != ERL_ERROR) {
        if (rc == ERL_MSG && (msg.msgtype == ERL_SEND || msg.msgtype == ERL_REG_SEND)) {
            one_message(c, &x);
        }
        x.index = 0;
    }
    peer_say("down %s %s", c->name, bp_error_detail());
    ei_x_free(&x);
    (void)pthread_mutex_lock(&all.lock);
    c->ended = true;
    (void)pthread_mutex_unlock(&all.lock);
    return NULL;
}

static void begin_reading(struct conn *c)
{
    c->reads = true;
    if (pthread_create(&c->thread, NULL, serve, c) != 0) {
        peer_die("no thread");
    }
}

/* Those that have ended are taken away here, too. */
static struct conn *add(int fd, const char *name, bool reads)
{
    struct conn *c = NULL;

    (void)pthread_mutex_lock(&all.lock);
    for (int i = 0; i < CONNS; i++) {
        struct conn *k = &all.at[i];
        if (k->fd > 0 && k->ended) {
            (void)pthread_join(k->thread, NULL);
            (void)ei_close_connection(k->fd);
            k->fd = 0;
            k->reads = false;
        }
        if (k->fd == 0 && c == NULL) {
            c = k;
        }
    }
    if (c != NULL) {
        memset(c, 0, sizeof(*c));
        c->fd = fd;
        c->tally.wrong = -1;
        (void)pthread_mutex_init(&c->lock, NULL);
        (void)snprintf(c->name, sizeof(c->name), "%s", name);
    }
    (void)pthread_mutex_unlock(&all.lock);
    if (c == NULL) {
        peer_die("too many connections");
    }
    peer_say("up %s", name);
    if (reads) {
        begin_reading(c);
    }
    return c;
}

static void *accept_all(void *arg)
{
    ErlConnect conp;
    int fd;

    (void)arg;
    while (!quitting) {
        fd = ei_accept(&all.ec, all.listen_fd, &conp);
        if (fd >= 0) {
            (void)add(fd, conp.nodename, true);
        }
    }
    return NULL;
}

static struct conn *of(const char *name)
{
    struct conn *found = NULL;

    (void)pthread_mutex_lock(&all.lock);
    for (int i = 0; i < CONNS; i++) {
        if (all.at[i].fd > 0 && !all.at[i].ended && strcmp(all.at[i].name, name) == 0) {
            found = &all.at[i];
        }
    }
    (void)pthread_mutex_unlock(&all.lock);
    return found;
}

static void connect_to(const char *node, bool reads)
{
    int fd = bp_ei_connect(&all.ec, all.n, node, 10000);

    if (fd < 0) {
        peer_say("failed %d %s", erl_errno, bp_error_detail());
    } else {
        (void)add(fd, node, reads);
    }
}

static void rpc(struct conn *c, char *mod, char *fun)
{
    ei_x_buff args;
    ei_x_buff reply;
    char *text = NULL;
    int index = 0;

    ei_x_new(&args);
    ei_x_new(&reply);
    ei_x_encode_empty_list(&args);
    if (ei_rpc(&all.ec, c->fd, mod, fun, args.buff, args.index, &reply) < 0 ||
        ei_s_print_term(&text, reply.buff, &index) < 0) {
        peer_say("failed %d %s", erl_errno, bp_error_detail());
    } else {
        peer_say("result %s", text);
    }
    free(text);
    ei_x_free(&args);
    ei_x_free(&reply);
}

static void send_word(struct conn *c, char *name, const char *word)
{
    ei_x_buff x;

    ei_x_new_with_version(&x);
    ei_x_encode_tuple_header(&x, 2);
    ei_x_encode_atom(&x, word);
    ei_x_encode_pid(&x, ei_self(&all.ec));
    if (ei_reg_send(&all.ec, c->fd, name, x.buff, x.index) != 0) {
        peer_say("failed %d %s", erl_errno, bp_error_detail());
    }
    ei_x_free(&x);
}

static void close_one(struct conn *c)
{
    /* The reader must be out of libei before its descriptor is closed: the peer ends first. */
    (void)bp_node_close(all.n, bp_ei_peer(all.n, c->fd));
    if (!c->reads) {
        begin_reading(c);
    }
}

static void start(void)
{
    if (bp_node_start(all.n) != 0 || bp_ei_init(&all.ec, all.n, 0) != 0) {
        peer_die("%s", bp_error_detail());
    }
    peer_say("started");
}

static void begin_listening(void)
{
    int port = 0;

    all.listen_fd = ei_listen(&all.ec, &port, 16);
    if (all.listen_fd < 0) {
        peer_die("%s", bp_error_detail());
    }
    peer_say("listening %d", port);
    if (pthread_create(&acceptor, NULL, accept_all, NULL) != 0) {
        peer_die("no thread");
    }
}

static void with_conn(const char *line)
{
    char node[256];
    char a[256];
    char b[256];
    struct conn *c;

    if (sscanf(line, "%*s %255s %255s %255s", node, a, b) < 1 || (c = of(node)) == NULL) {
        peer_say("failed 0 not connected: %s", line);
    } else if (strncmp(line, "rpc ", 4) == 0) {
        rpc(c, a, b);
    } else if (strncmp(line, "send ", 5) == 0) {
        send_word(c, a, b);
    } else if (strncmp(line, "count ", 6) == 0) {
        (void)pthread_mutex_lock(&c->lock);
        peer_say(c->tally.wrong >= 0 ? "wrong %ld" : "count %ld",
                 c->tally.wrong >= 0 ? c->tally.wrong : c->tally.next);
        (void)pthread_mutex_unlock(&c->lock);
    } else if (strncmp(line, "info ", 5) == 0) {
        peer_info(all.n, bp_ei_peer(all.n, c->fd));
    } else if (strncmp(line, "read ", 5) == 0) {
        begin_reading(c);
    } else if (strncmp(line, "close ", 6) == 0) {
        close_one(c);
    } else {
        peer_die("not a command: %s", line);
    }
}

void peer_ei(struct bp_node *n)
{
    char line[1024];
    char node[256];

    all.n = n;
    while (fgets(line, sizeof(line), stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (strcmp(line, "quit") == 0) {
            break;
        }
        if (peer_command(n, line)) {
            continue;
        }
        if (strcmp(line, "start") == 0) {
            start();
        } else if (strcmp(line, "listen") == 0) {
            begin_listening();
        } else if (sscanf(line, "connect %255s", node) == 1) {
            connect_to(node, true);
        } else if (sscanf(line, "idle %255s", node) == 1) {
            connect_to(node, false);
        } else {
            with_conn(line);
        }
    }
    quitting = true;
    if (all.listen_fd >= 0) {
        (void)ei_close_connection(all.listen_fd); /* who waits there comes back */
        (void)pthread_join(acceptor, NULL);
    }
    for (int i = 0; i < CONNS; i++) {
        if (all.at[i].fd > 0) {
            (void)ei_close_connection(all.at[i].fd);
        }
        if (all.at[i].reads) {
            (void)pthread_join(all.at[i].thread, NULL);
        }
    }
}
