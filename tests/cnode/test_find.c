/* SPDX-License-Identifier: Apache-2.0 */
/* How C nodes find each other and say where they are: backends of the program, files, DNS. */
#include "cnode/rig.h"

#include "barrel_p2p/barrel_p2p.h"
#include "unit/dns_server.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct registry {
    struct bp_node *n;
    uint16_t port; /* 0: answers later */
    uint64_t ticket;
    unsigned lookups;
    unsigned published;
    unsigned withdrawn;
};

static int registry_lookup(void *ctx, uint64_t ticket, const char *peer, const char *host)
{
    struct registry *g = ctx;
    struct bp_address at = {.ip = "127.0.0.1", .port = g->port};

    g->lookups++;
    assert_string_equal(host, "127.0.0.1");
    if (strcmp(peer, NAME_B) != 0) {
        return BP_ERROR_NOT_FOUND;
    }
    g->ticket = ticket;
    if (g->port != 0) {
        bp_node_answer(g->n, ticket, 0, &at, 1, 0);
    }
    return 0;
}

static int registry_publish(void *ctx, const char *self, const struct bp_address *at, size_t n)
{
    struct registry *g = ctx;

    assert_string_equal(self, NAME_A);
    assert_int_equal(n, 2);
    assert_string_equal(at[0].ip, "192.0.2.7");
    assert_int_equal(at[0].port, 4711);
    assert_string_equal(at[1].ip, "2001:db8::1");
    g->published++;
    return 0;
}

static int registry_withdraw(void *ctx, const char *self)
{
    struct registry *g = ctx;

    (void)self;
    g->withdrawn++;
    return 0;
}

static void own_backend(void **state)
{
    static const struct bp_backend_ops ops = {.name = "registry",
                                              .lookup = registry_lookup,
                                              .publish = registry_publish,
                                              .withdraw = registry_withdraw};
    struct rig r = {.state = state};
    struct rig_node *b = rig_node(&r, NAME_B);
    struct rig_node *a = rig_node(&r, NAME_A);
    struct registry g = {.n = a->n};
    struct bp_address at = {.ip = "127.0.0.1"};
    bp_peer_id id;

    rig_start(b, true);
    assert_int_equal(bp_node_discover_with(a->n, &ops, &g), 0);
    assert_int_equal(bp_node_set_text(a->n, BP_OPT_ADVERTISE, "192.0.2.7:4711,[2001:db8::1]"), 0);
    rig_start(a, true);
    assert_int_equal(g.published, 1);
    /* At once. */
    g.port = b->port;
    id = rig_connect(&r, a, b);
    assert_int_equal(bp_node_close(a->n, id), 0);
    (void)rig_expect(&r, b, BP_EVENT_DOWN);
    /* Later. */
    g.port = 0;
    assert_int_equal(bp_node_dial(a->n, NAME_B, 0, &id), 0);
    while (g.lookups < 2) {
        rig_turn(&r, 100);
    }
    rig_turn(&r, 0);
    at.port = b->port;
    bp_node_answer(a->n, g.ticket, 0, &at, 1, 0);
    (void)rig_expect(&r, a, BP_EVENT_UP);
    bp_node_answer(a->n, g.ticket, 0, &at, 1, 0); /* twice: nothing happens */
    /* Not at all. */
    assert_int_equal(bp_node_dial(a->n, "c@127.0.0.1", 0, &id), 0);
    (void)rig_expect_down(&r, a, BP_ERROR_NOT_FOUND, NULL);
    rig_stop(a);
    assert_int_equal(g.withdrawn, 1);
    rig_end(&r);
}

/* Nodes of one directory of endpoint files find each other. */
static void files(void **state)
{
    struct rig r = {.state = state};
    struct rig_node *b = rig_node(&r, NAME_B);
    struct rig_node *a = rig_node(&r, NAME_A);
    char dir[PATH_MAX];
    char file[PATH_MAX];
    char name[512];

    (void)tmpdir_path(state, "shared", dir);
    assert_int_equal(bp_node_discover_files(a->n, dir), 0);
    assert_int_equal(bp_node_discover_files(b->n, dir), 0);
    rig_start(b, true);
    rig_start(a, false);
    snprintf(name, sizeof(name), "shared/%s.endpoint", NAME_B);
    assert_int_equal(access(tmpdir_path(state, name, file), F_OK), 0);
    (void)rig_connect(&r, a, b);
    rig_stop(b);
    assert_int_not_equal(access(file, F_OK), 0);
    rig_end(&r);
}

/* SRV records of a domain name the port, A records the address; both from a server of ours. */
static void dns(void **state)
{
    struct rig r = {.state = state};
    struct dns_server server;
    struct dns_row rows[] = {
        {"_erlang-dist._quic.c.example", DNS_SRV, 10, "peer.c.example", 0, 1},
        {"peer.c.example", DNS_A, 10, "127.0.0.1", 0, 0},
        {0},
    };
    char name[64];
    struct rig_node *b;
    struct rig_node *a;
    bp_peer_id id;

    snprintf(name, sizeof(name), "dns%d@peer.c.example", (int)getpid());
    b = rig_node(&r, name);
    a = rig_node(&r, NAME_A);
    rig_start(b, true);
    rows[0].port = b->port;
    dns_server_open(&server, rows);
    assert_int_equal(bp_node_discover_dns(a->n, "c.example", 0, server.text), 0);
    assert_int_equal(bp_node_discover_dns(a->n, "c.example", 0, server.text), BP_ERROR_STATE);
    rig_start(a, false);
    assert_int_equal(bp_node_dial(a->n, name, 0, &id), 0);
    for (int i = 0; i < RIG_PATIENCE_MS / 10 && a->n_events == 0; i++) {
        struct pollfd p = {.fd = server.fd, .events = POLLIN};
        rig_turn(&r, 10);
        if (poll(&p, 1, 0) > 0) {
            dns_server_serve(&server);
        }
    }
    assert_string_equal(rig_expect(&r, a, BP_EVENT_UP)->name, name);
    assert_true(server.asked >= 2);
    dns_server_close(&server);
    rig_end(&r);
}

/* The kernel lets nobody send there who has not asked for it, whatever the machine's routes are. */
#define NO_WAY "255.255.255.255"

/* ... which a dial says at once, or goes on to the next address. */
static void no_way(void **state)
{
    struct rig r = {.state = state};
    struct rig_node *b = rig_node(&r, NAME_B);
    struct rig_node *a = rig_node(&r, NAME_A);
    uint64_t began;
    bp_peer_id id;

    rig_start(b, true);
    assert_int_equal(bp_node_discover_static(a->n, "c@127.0.0.1", NO_WAY, 1), 0);
    assert_int_equal(bp_node_discover_static(a->n, NAME_B, NO_WAY, 1), 0);
    rig_knows(a, b);
    rig_start(a, false);
    assert_int_equal(bp_node_dial_at(a->n, NULL, NO_WAY, 1, 0, &id), BP_ERROR_SYSTEM);
    assert_non_null(strstr(bp_error_detail(), "no way to " NO_WAY ":1"));
    assert_int_equal(bp_node_dial(a->n, "c@127.0.0.1", 2 * RIG_PATIENCE_MS, &id), 0);
    (void)rig_expect_down(&r, a, BP_ERROR_SYSTEM, "no way to " NO_WAY ":1");
    began = rig_now_ms();
    assert_int_equal(bp_node_dial(a->n, NAME_B, 2 * RIG_PATIENCE_MS, &id), 0);
    (void)rig_expect(&r, a, BP_EVENT_UP);
    assert_true(rig_now_ms() - began < RIG_PATIENCE_MS);
    rig_end(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(own_backend),
        TMPDIR_TEST(files),
        TMPDIR_TEST(dns),
        TMPDIR_TEST(no_way),
    };

    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
