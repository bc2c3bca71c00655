/* SPDX-License-Identifier: Apache-2.0 */
/* Membership's control operations: arguments, effects as bytes, names that come and go. */
#include "driver/node_util.h"

#include "membership/hpv.h"

static struct vm_reply reply;
static struct tlv args;

static ErlDrvPort open_started(void)
{
    ErlDrvPort node = vm_open("barrel_p2p_drv node");

    assert_non_null(node);
    args.len = 0;
    tlv_text(&args, 1, "self@h");
    tlv_uint(&args, 2, 42, 8);
    vm_control(node, OP_MEMBER_START, args.data, args.len, &reply);
    assert_true(reply.ok);
    assert_int_equal(reply.len, 4);
    return node;
}

static void control(ErlDrvPort node, unsigned op)
{
    vm_control(node, op, args.data, args.len, &reply);
    assert_false(reply.badarg);
}

static void refused(ErlDrvPort node, unsigned op, const char *err)
{
    control(node, op);
    assert_false(reply.ok);
    assert_string_equal(reply.err, err);
}

static void event(enum bp_hpv_event_kind kind, const char *peer)
{
    args.len = 0;
    tlv_uint(&args, 1, kind, 1);
    if (peer != NULL) {
        tlv_text(&args, 2, peer);
    }
}

static void recv_from(const char *peer, enum bp_hpv_kind kind, unsigned flag)
{
    event(BP_HPV_RECV, peer);
    tlv_uint(&args, 3, kind, 1);
    tlv_uint(&args, 6, flag, 1);
}

/* <<AgeMs:32, Name>> */
static void known(uint32_t age, const char *name)
{
    uint8_t k[300] = {(uint8_t)(age >> 24), (uint8_t)(age >> 16), (uint8_t)(age >> 8),
                      (uint8_t)age};
    size_t len = strlen(name);

    memcpy(k + 4, name, len);
    tlv_bytes(&args, 7, k, 4 + len);
}

/* The effects of the last step, after the deadline. */
static void effects_are(const char *bytes, size_t len)
{
    assert_true(reply.ok);
    assert_int_equal(reply.len - 4, len);
    assert_memory_equal(reply.data + 4, bytes, len);
}
#define EFFECTS(bytes) effects_are(bytes, sizeof(bytes) - 1)

static uint64_t stat_of(ErlDrvPort node, const char *name)
{
    const uint8_t *p;
    uint64_t v = 0;

    args.len = 0;
    control(node, OP_MEMBER_STATS);
    assert_true(reply.ok);
    p = reply.data;
    while (p < reply.data + reply.len) {
        size_t len = p[0];
        bool it = strlen(name) == len && memcmp(p + 1, name, len) == 0;
        for (unsigned i = 0; it && i < 8; i++) {
            v = v << 8 | p[1 + len + i];
        }
        if (it) {
            return v;
        }
        p += 1 + len + 8;
    }
    fail_msg("no counter %s", name);
    return 0;
}

static void member_before_start_is_refused(void **state)
{
    ErlDrvPort node = vm_open("barrel_p2p_drv node");
    (void)state;

    event(BP_HPV_TICK, NULL);
    refused(node, OP_MEMBER_STEP, "bad_state");
    refused(node, OP_MEMBER_VIEWS, "bad_state");
    refused(node, OP_MEMBER_STATS, "bad_state");
    refused(node, OP_MEMBER_NEEDS, "bad_state");
    args.len = 0;
    control(node, OP_MEMBER_STOP);
    assert_true(reply.ok);
    vm_close(node);
}

static void member_bad_arguments_are_refused(void **state)
{
    ErlDrvPort node = vm_open("barrel_p2p_drv node");
    (void)state;

    args.len = 0;
    refused(node, OP_MEMBER_START, "badarg"); /* no name */
    tlv_text(&args, 1, "no host");
    refused(node, OP_MEMBER_START, "badarg");
    args.len = 0;
    tlv_text(&args, 1, "self@h");
    tlv_uint(&args, 3, 33, 4); /* active_size */
    refused(node, OP_MEMBER_START, "badarg");
    args.len = 0;
    tlv_text(&args, 1, "self@h");
    tlv_uint(&args, 19, 1, 4); /* no such key */
    refused(node, OP_MEMBER_START, "badarg");
    event(BP_HPV_TICK, NULL);
    refused(node, OP_MEMBER_STEP, "bad_state");
    vm_close(node);

    node = open_started();
    event((enum bp_hpv_event_kind)200, "a@h");
    refused(node, OP_MEMBER_STEP, "badarg");
    event(BP_HPV_DO_JOIN, "self@h");
    refused(node, OP_MEMBER_STEP, "badarg");
    event(BP_HPV_DO_JOIN, "not a name");
    refused(node, OP_MEMBER_STEP, "badarg");
    event(BP_HPV_RECV, "a@h"); /* without a message */
    refused(node, OP_MEMBER_STEP, "badarg");
    recv_from("a@h", (enum bp_hpv_kind)77, 0);
    refused(node, OP_MEMBER_STEP, "badarg");
    recv_from("a@h", BP_HPV_SHUFFLE, 0);
    tlv_text(&args, 4, "a@h");
    for (unsigned i = 0; i <= BP_HPV_SHUFFLE_MAX; i++) {
        known(0, "x@h");
    }
    refused(node, OP_MEMBER_STEP, "badarg");
    recv_from("a@h", BP_HPV_SHUFFLE, 0);
    tlv_bytes(&args, 7, "abc", 3);
    refused(node, OP_MEMBER_STEP, "badarg");
    event(BP_HPV_TICK, NULL);
    args.len--; /* cut off */
    refused(node, OP_MEMBER_STEP, "badarg");
    vm_close(node);
}

static void member_effects_are_bytes(void **state)
{
    ErlDrvPort node = open_started();
    (void)state;

    event(BP_HPV_DO_JOIN, "a@h");
    control(node, OP_MEMBER_STEP);
    EFFECTS("\0\0\003a@h");
    event(BP_HPV_CONNECTED, "a@h");
    control(node, OP_MEMBER_STEP);
    EFFECTS("\1\0\003a@h\0\0\0\0\0" /* JOIN to a@h */
            "\3\0\003a@h"           /* PEER_UP */
            "\5\0\0");              /* JOINED */
    recv_from("a@h", BP_HPV_FORWARD_JOIN, 0);
    tlv_text(&args, 4, "b@h");
    tlv_uint(&args, 5, 6, 1);
    control(node, OP_MEMBER_STEP);
    EFFECTS("\0\0\003b@h");
    recv_from("a@h", BP_HPV_SHUFFLE, 0);
    tlv_text(&args, 4, "a@h");
    tlv_uint(&args, 5, 1, 1);
    known(0, "c@h");
    known(0, "bad name"); /* passed over */
    control(node, OP_MEMBER_STEP);
    EFFECTS("\0\0\003c@h"); /* nothing to answer with; asked to fill a place */
    event(BP_HPV_CHANNEL_DOWN, "a@h");
    control(node, OP_MEMBER_STEP);
    EFFECTS("\4\2\003a@h"); /* PEER_DOWN nodedown */
    args.len = 0;
    control(node, OP_MEMBER_VIEWS);
    assert_true(reply.ok);
    assert_int_equal(reply.len, 8);
    assert_memory_equal(reply.data, "\0\0\0\1\003c@h", 8);
    event(BP_HPV_DO_LEAVE, NULL);
    control(node, OP_MEMBER_STEP);
    assert_true(reply.ok);
    vm_close(node);
}

/* The table of names is not one that a peer can fill for good. */
static void member_names_make_room(void **state)
{
    ErlDrvPort node = open_started();
    (void)state;

    recv_from("a@h", BP_HPV_NEIGHBOR, 1);
    control(node, OP_MEMBER_STEP);
    for (unsigned i = 0; i < 300; i++) {
        recv_from("a@h", BP_HPV_SHUFFLE, 0);
        tlv_text(&args, 4, "a@h");
        for (unsigned k = 0; k < BP_HPV_SHUFFLE_MAX; k++) {
            char name[32];
            snprintf(name, sizeof(name), "n%u@h", i * 100 + k);
            known(0, name);
        }
        control(node, OP_MEMBER_STEP);
        assert_true(reply.ok);
    }
    assert_in_range(stat_of(node, "names"), 32, 1024);
    assert_true(stat_of(node, "dropped_rate") + stat_of(node, "shuffles_accepted") >= 300);
    args.len = 0;
    control(node, OP_MEMBER_VIEWS);
    assert_int_equal(reply.data[1], 1);
    assert_true(reply.data[3] > 20);
    /* Starting anew forgets all. */
    tlv_text(&args, 1, "self@h");
    control(node, OP_MEMBER_START);
    assert_int_equal(stat_of(node, "names"), 1);
    vm_close(node);
}

static void member_without_memory_goes_on(void **state)
{
    ErlDrvPort node = open_started();
    (void)state;

    vm_fail_after(0);
    recv_from("new@h", BP_HPV_NEIGHBOR, 1);
    vm_control(node, OP_MEMBER_STEP, args.data, args.len, &reply);
    assert_true(reply.badarg || !reply.ok);
    vm_never_fail();
    control(node, OP_MEMBER_STEP);
    assert_true(reply.ok);
    vm_fail_after(1); /* the name, not the node */
    args.len = 0;
    tlv_text(&args, 1, "self@h");
    vm_control(node, OP_MEMBER_START, args.data, args.len, &reply);
    assert_true(reply.badarg || !reply.ok);
    vm_never_fail();
    event(BP_HPV_TICK, NULL);
    refused(node, OP_MEMBER_STEP, "bad_state");
    vm_close(node);
}

static bool needs(ErlDrvPort node, const char *name)
{
    vm_control(node, OP_MEMBER_NEEDS, name, strlen(name), &reply);
    assert_true(reply.ok);
    assert_int_equal(reply.len, 1);
    return reply.data[0] != 0;
}

/* A channel is needed from the attempt on until the link or the attempt is gone. */
static void member_channels_in_use_are_known(void **state)
{
    ErlDrvPort node = open_started();
    (void)state;

    assert_false(needs(node, "a@h"));
    assert_false(needs(node, ""));
    event(BP_HPV_DO_JOIN, "a@h");
    control(node, OP_MEMBER_STEP);
    assert_true(needs(node, "a@h"));
    event(BP_HPV_CONNECT_FAILED, "a@h");
    control(node, OP_MEMBER_STEP);
    assert_false(needs(node, "a@h"));
    recv_from("b@h", BP_HPV_NEIGHBOR, 1);
    control(node, OP_MEMBER_STEP);
    assert_true(needs(node, "b@h")); /* a link */
    assert_false(needs(node, "b@hh"));
    recv_from("b@h", BP_HPV_SHUFFLE, 0);
    tlv_text(&args, 4, "c@h");
    tlv_uint(&args, 5, 1, 1);
    known(0, "c@h");
    known(5, "d@h");
    control(node, OP_MEMBER_STEP);
    recv_from("b@h", BP_HPV_SHUFFLE, 0);
    tlv_text(&args, 4, "c@h");
    tlv_uint(&args, 5, 1, 1);
    known(0, "c@h");
    control(node, OP_MEMBER_STEP);
    assert_true(needs(node, "c@h")); /* a reply that waits for a channel */
    assert_false(needs(node, "self@h"));
    event(BP_HPV_CHANNEL_DOWN, "b@h");
    control(node, OP_MEMBER_STEP);
    vm_close(node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VM_TEST(member_before_start_is_refused),   VM_TEST(member_bad_arguments_are_refused),
        VM_TEST(member_effects_are_bytes),         VM_TEST(member_names_make_room),
        VM_TEST(member_channels_in_use_are_known), VM_TEST(member_without_memory_goes_on),
    };
    return cmocka_run_group_tests(tests, vm_group_setup, vm_group_teardown) != 0;
}
