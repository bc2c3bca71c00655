/* SPDX-License-Identifier: Apache-2.0 */
/* TLS sessions that go on: between a node and a peer, and how long they are kept for it. */
#include "driver/node_util.h"

static bool kept(void *ctx)
{
    uint8_t session[BP_SESSION_MAX];
    struct pair *p = ctx;
    size_t len = drv_tickets_take(p->peer.name, session, drv_now());

    if (len > 0) {
        drv_tickets_keep(drv_node.settings, p->peer.name, session, len, drv_now());
    }
    return len > 0;
}

static bool peer_kept(void *ctx)
{
    return ((struct pair *)ctx)->peer.session_len > 0;
}

static void configure_again(struct pair *p, void **state)
{
    struct tlv *t = calloc(1, sizeof(*t));
    struct vm_reply *r = calloc(1, sizeof(*r));

    assert_non_null(t);
    assert_non_null(r);
    good_config(t, state);
    vm_control_ok(p->node, OP_CONFIG, t->data, t->len, r);
    free(t);
    free(r);
}

static void dialled_again_goes_on(void **state)
{
    struct pair p;

    pair_dial(&p, state);
    pair_handshake(&p);
    assert_int_equal(pair_conn_stat(&p, "tls_resumed"), 0);
    for (int i = 0; i < 2; i++) {
        assert_true(pair_run(&p, kept, &p));
        pair_again(&p);
        assert_int_equal(pair_conn_stat(&p, "tls_resumed"), 1);
    }
    /* The peer has lost its key. */
    assert_true(pair_run(&p, kept, &p));
    p.peer.ticket_key[0] ^= 1;
    pair_again(&p);
    assert_int_equal(pair_conn_stat(&p, "tls_resumed"), 0);
    /* Our settings, and with them maybe our certificate, are new. */
    assert_true(pair_run(&p, kept, &p));
    configure_again(&p, state);
    pair_again(&p);
    assert_int_equal(pair_conn_stat(&p, "tls_resumed"), 0);
    pair_free(&p);
}

/* Of the connection that began before: what it brings is of no use with the new settings. */
static void session_of_former_settings_is_not_kept(void **state)
{
    uint8_t session[BP_SESSION_MAX];
    struct pair p;

    pair_dial(&p, state);
    configure_again(&p, state);
    pair_handshake(&p);
    for (int i = 0; i < 50; i++) {
        vm_poll(2, NULL, 0);
        peer_step(&p.peer);
    }
    assert_int_equal(drv_tickets_take(p.peer.name, session, drv_now()), 0);
    pair_free(&p);
}

static void peer_dials_again_goes_on(void **state)
{
    struct pair p;

    pair_accept(&p, state);
    pair_handshake(&p);
    assert_true(pair_run(&p, peer_kept, &p));
    pair_again(&p);
    assert_int_equal(pair_conn_stat(&p, "tls_resumed"), 1);
    configure_again(&p, state);
    pair_again(&p);
    assert_int_equal(pair_conn_stat(&p, "tls_resumed"), 0);
    pair_free(&p);
}

/* An hour for a key and for a session; as many sessions as there is room for. */
static void kept_within_limits(void **state)
{
    const bp_time hour = 3600 * BP_SEC;
    uint8_t data[BP_SESSION_MAX] = {7};
    uint8_t out[BP_SESSION_MAX];
    uint8_t key[2][BP_TICKET_KEY_LEN];
    uint16_t port;
    ErlDrvPort node = start_node(state, &port);
    const struct drv_settings *s = drv_node.settings;
    unsigned left = 0;
    char name[32];

    assert_true(drv_tickets_key(s, key[0], hour));
    assert_true(drv_tickets_key(s, key[1], 2 * hour - 1));
    assert_memory_equal(key[0], key[1], sizeof(key[0]));
    assert_true(drv_tickets_key(s, key[1], 2 * hour));
    assert_memory_not_equal(key[0], key[1], sizeof(key[0]));
    assert_false(drv_tickets_key(NULL, key[1], 2 * hour));

    drv_tickets_keep(s, "a@h", data, 100, hour);
    assert_int_equal(drv_tickets_take("b@h", out, hour), 0);
    assert_int_equal(drv_tickets_take("a@h", out, hour), 100);
    assert_memory_equal(out, data, 100);
    assert_int_equal(drv_tickets_take("a@h", out, hour), 0);
    drv_tickets_keep(s, "a@h", data, 100, hour);
    assert_int_equal(drv_tickets_take("a@h", out, 2 * hour), 0);
    drv_tickets_keep(s, "a@h", data, 100, hour);
    drv_tickets_drop("a@h");
    assert_int_equal(drv_tickets_take("a@h", out, hour), 0);
    for (unsigned i = 0; i < 200; i++) {
        snprintf(name, sizeof(name), "n%u@h", i);
        drv_tickets_keep(s, name, data, 100, hour + i);
    }
    for (unsigned i = 0; i < 200; i++) {
        snprintf(name, sizeof(name), "n%u@h", i);
        left += drv_tickets_take(name, out, hour + 200) > 0;
        assert_true(i >= 136 || left == 0);
    }
    assert_int_equal(left, 64);
    vm_close(node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VM_TEST(dialled_again_goes_on),
        VM_TEST(session_of_former_settings_is_not_kept),
        VM_TEST(peer_dials_again_goes_on),
        VM_TEST(kept_within_limits),
    };

    return cmocka_run_group_tests(tests, vm_group_setup, vm_group_teardown) != 0;
}
