/* SPDX-License-Identifier: Apache-2.0 */
/* Closing a connection that nobody uses, through the operations of its port. */
#include "driver/node_util.h"

#include "base/err.h"

#include <time.h>

enum { CALLED_OFF, CLOSED, AGAIN };

static uint8_t op(struct pair *p, unsigned code, const void *args, size_t len)
{
    struct vm_reply *r = calloc(1, sizeof(*r));
    uint8_t result;

    assert_non_null(r);
    vm_control_ok(p->conn, code, args, len, r);
    assert_int_equal(r->len, 1);
    result = r->data[0];
    free(r);
    return result;
}

static void refused(struct pair *p, unsigned code, size_t len)
{
    static const uint8_t args[32] = {0};
    struct vm_reply *r = calloc(1, sizeof(*r));

    assert_non_null(r);
    vm_control(p->conn, code, args, len, r);
    assert_false(r->ok);
    assert_string_equal(r->err, "badarg");
    free(r);
}

/* `late`: as if the VM had been called so many us ago. */
static uint8_t close_op(struct pair *p, int64_t late)
{
    struct timespec ts;
    uint64_t us;
    uint8_t args[8];

    (void)clock_gettime(CLOCK_REALTIME, &ts);
    us = (uint64_t)((int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000 - late);
    for (unsigned i = 0; i < 8; i++) {
        args[i] = (uint8_t)(us >> (56 - 8 * i));
    }
    return op(p, OP_IDLE_CLOSE, args, sizeof(args));
}

static bool asked(void *ctx)
{
    struct pair *p = ctx;

    return bp_link_idle_answer(p->peer.link, true, 0, drv_now()) == BP_LINK_IDLE;
}

static bool told_due(void *ctx)
{
    (void)ctx;
    return vm_find(NULL, "idle_due") != NULL;
}

static void agree(struct pair *p)
{
    static const uint8_t any_age[5] = {0};

    vm_forget(NULL);
    for (int i = 0; i < 4000 && op(p, OP_IDLE_ASK, any_age, 5) != BP_LINK_IDLE; i++) {
        peer_step(&p->peer); /* what setting up has left */
        vm_poll(5, NULL, 0);
    }
    assert_true(pair_run(p, asked, p));
    assert_true(pair_run(p, told_due, p));
}

static void idle_close_ends_the_port_in_the_call(void **state)
{
    struct pair p;

    pair_dial(&p, state);
    pair_handshake(&p);
    agree(&p);
    assert_int_equal(close_op(&p, 1000000), AGAIN);
    assert_int_equal(close_op(&p, -1000000), AGAIN);
    assert_true(p.conn->open);
    for (int i = 0; i < 1000 && p.conn->open; i++) {
        assert_int_not_equal(close_op(&p, 0), CALLED_OFF);
    }
    assert_false(p.conn->open);
    assert_string_equal(p.conn->failed, "idle_channel");
    for (int i = 0; i < 1000 && !p.peer.failed; i++) {
        peer_step(&p.peer);
        vm_poll(2, NULL, 0);
    }
    assert_int_equal(bp_link_error(p.peer.link), BP_E_IDLE);
    pair_free(&p);
}

static void idle_close_is_called_off_by_a_message(void **state)
{
    static const char msg[] = "\x83\x44\x00\x68\x03\x61\x16";
    struct pair p;

    pair_accept(&p, state);
    pair_handshake(&p);
    assert_int_equal(close_op(&p, 0), CALLED_OFF); /* nobody has agreed to anything */
    agree(&p);
    vm_command_bytes(p.conn, msg, sizeof(msg) - 1);
    for (int i = 0; i < 1000 && close_op(&p, 0) == AGAIN; i++) {
    }
    assert_int_equal(close_op(&p, 0), CALLED_OFF);
    assert_true(p.conn->open);
    pair_free(&p);
}

static void idle_arguments_are_checked(void **state)
{
    static const unsigned ops[] = {OP_IDLE_ASK, OP_IDLE_ANSWER, OP_IDLE_CLOSE};
    static const uint8_t no[5] = {0};
    struct pair p;

    pair_dial(&p, state);
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        for (size_t len = 0; len < 20; len++) {
            if (len != (ops[i] == OP_IDLE_CLOSE ? 8u : 5u)) {
                refused(&p, ops[i], len);
            }
        }
    }
    assert_int_equal(op(&p, OP_IDLE_ASK, no, 5), BP_LINK_NOT_UP);
    assert_int_equal(op(&p, OP_IDLE_ANSWER, no, 5), BP_LINK_NOT_UP);
    pair_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VM_TEST(idle_close_ends_the_port_in_the_call),
        VM_TEST(idle_close_is_called_off_by_a_message),
        VM_TEST(idle_arguments_are_checked),
    };
    return cmocka_run_group_tests(tests, vm_group_setup, vm_group_teardown) != 0;
}
