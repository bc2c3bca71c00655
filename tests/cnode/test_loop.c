/* SPDX-License-Identifier: Apache-2.0 */
/* C nodes that are driven by the program's own loop. */
#include "cnode/rig.h"

#include "barrel_p2p/barrel_p2p.h"
#include "io/udp.h"

#include <poll.h>

static void pair(struct rig *r, void **state, struct rig_node **a, struct rig_node **b)
{
    *r = (struct rig){.state = state};
    *b = rig_node(r, NAME_B);
    rig_start(*b, true);
    *a = rig_node(r, NAME_A);
    rig_knows(*a, *b);
    rig_start(*a, false);
}

static bp_peer_id other_end(const struct rig_node *x, const struct rig_node *peer)
{
    return bp_node_find_peer(x->n, bp_node_name(peer->n));
}

/* --- the ordinary -------------------------------------------------------- */

static void up_talk_down(void **state)
{
    struct rig r;
    struct rig_node *a;
    struct rig_node *b;
    const struct bp_event *ev;
    struct bp_peer_info info;
    bp_peer_id id;

    pair(&r, state, &a, &b);
    id = rig_connect(&r, a, b);
    assert_int_equal(rig_send(a, id, "hello", 5), 0);
    ev = rig_expect(&r, b, BP_EVENT_MESSAGE);
    assert_int_equal(ev->len, 7);
    assert_memory_equal(ev->data, "\x70\x83hello", 7);
    assert_int_equal(rig_send(b, ev->peer, "answer", 6), 0);
    ev = rig_expect(&r, a, BP_EVENT_MESSAGE);
    assert_memory_equal(ev->data,
                        "\x70\x83"
                        "answer",
                        8);
    assert_int_equal(bp_node_peer_info(a->n, id, &info, sizeof(info)), 0);
    assert_true(info.up);
    assert_false(info.inbound);
    assert_string_equal(info.name, NAME_B);
    assert_true(strncmp(info.fingerprint, "SHA256:", 7) == 0);
    assert_int_equal(info.messages_sent, 1);
    assert_int_equal(info.messages_received, 1);
    assert_true(info.srtt_us > 0 && info.bytes_sent > 0 && info.datagram_size >= 1200);
    assert_int_equal(bp_node_close(a->n, id), 0);
    ev = rig_expect(&r, a, BP_EVENT_DOWN);
    assert_int_equal(ev->error, BP_ERROR_LOCAL_CLOSE);
    assert_true(ev->was_up);
    (void)rig_expect_down(&r, b, BP_ERROR_PEER_CLOSED, NULL);
    assert_int_equal(bp_node_close(a->n, id), BP_ERROR_NOT_FOUND);
    assert_int_equal(bp_node_peers(a->n, NULL, 0), 0);
    assert_int_equal(rig_counter(b, "down_connection_closed"), 1);
    /* Once more: the key is pinned now. */
    (void)rig_connect(&r, a, b);
    rig_end(&r);
}

/* Order and content of many messages of all sizes, in both directions at once. */
static void many_messages(void **state)
{
    struct rig r;
    struct rig_node *a;
    struct rig_node *b;
    static uint8_t body[70000];
    uint32_t sent[2] = {0, 0};
    uint32_t got[2] = {0, 0};
    struct rig_node *x[2];
    bp_peer_id to[2];

    pair(&r, state, &a, &b);
    to[0] = rig_connect(&r, a, b);
    to[1] = other_end(b, a);
    x[0] = a;
    x[1] = b;
    a->deaf = b->deaf = true; /* the test takes the events itself */
    while (got[0] < 3000 || got[1] < 3000) {
        for (int i = 0; i < 2; i++) {
            struct bp_event ev;
            while (sent[i] < 3000) {
                size_t len = 4 + (sent[i] * 7919u) % (sent[i] % 50 == 0 ? 69000u : 300u);
                memcpy(body, &sent[i], sizeof(sent[i]));
                memset(body + 4, (int)(sent[i] & 0xff), len - 4);
                if (rig_send(x[i], to[i], body, len) != 0) {
                    break;
                }
                sent[i]++;
            }
            while (bp_node_next(x[i]->n, &ev) == 0) {
                uint32_t k;
                if (ev.kind == BP_EVENT_MESSAGE) {
                    size_t len = 4 + (got[i] * 7919u) % (got[i] % 50 == 0 ? 69000u : 300u);
                    assert_int_equal(ev.len, len + 2);
                    memcpy(&k, ev.data + 2, sizeof(k));
                    assert_int_equal(k, got[i]);
                    assert_int_equal(ev.data[ev.len - 1], len > 4 ? (got[i] & 0xff) : (k >> 24));
                    got[i]++;
                } else {
                    assert_int_equal(ev.kind, BP_EVENT_WRITABLE);
                }
                bp_event_clear(&ev);
            }
        }
        rig_turn(&r, 50);
    }
    rig_end(&r);
}

static void large_message(void **state)
{
    struct rig r;
    struct rig_node *a;
    struct rig_node *b;
    const size_t len = 40u * 1024u * 1024u;
    uint8_t *body = malloc(len);
    const struct bp_event *ev;
    bp_peer_id id;

    assert_non_null(body);
    for (size_t i = 0; i < len; i++) {
        body[i] = (uint8_t)(i * 31 >> 8);
    }
    pair(&r, state, &a, &b);
    id = rig_connect(&r, a, b);
    assert_int_equal(rig_send(a, id, body, len), 0);
    /* A second one only when there is room again. */
    assert_int_equal(rig_send(a, id, body, 1000), BP_ERROR_AGAIN);
    ev = rig_expect(&r, b, BP_EVENT_MESSAGE);
    assert_int_equal(ev->len, len + 2);
    assert_memory_equal(ev->data + 2, body, len);
    (void)rig_expect(&r, a, BP_EVENT_WRITABLE);
    assert_int_equal(rig_send(a, id, body, 1000), 0);
    (void)rig_expect(&r, b, BP_EVENT_MESSAGE);
    free(body);
    rig_end(&r);
}

/* --- who may not --------------------------------------------------------- */

static void other_cookie(void **state)
{
    struct rig r = {.state = state};
    struct rig_node *b = rig_node(&r, NAME_B);
    struct rig_node *a = rig_node(&r, NAME_A);
    const struct bp_event *ev;
    char path[PATH_MAX];
    bp_peer_id id;

    rig_start(b, true);
    rig_knows(a, b);
    /* At its second address it would be the same node: that is not dialled. */
    assert_int_equal(bp_node_discover_static(a->n, NAME_B, "127.0.0.2", b->port), 0);
    assert_int_equal(bp_node_set_text(a->n, BP_OPT_COOKIE, "another"), 0);
    rig_start(a, false);
    assert_int_equal(bp_node_dial(a->n, NAME_B, 0, &id), 0);
    ev = rig_expect(&r, a, BP_EVENT_DOWN);
    assert_true(ev->peer == id);
    assert_false(ev->was_up);
    assert_int_equal(ev->error, BP_ERROR_COOKIE);
    /* Nobody was told on the other side, and nothing is pinned on either. */
    assert_int_equal(b->n_events, 0);
    assert_int_equal(rig_counter(b, "refused_bad_cookie"), 1);
    assert_int_not_equal(access(rig_trusted(&r, b, a, path), F_OK), 0);
    assert_int_not_equal(access(rig_trusted(&r, a, b, path), F_OK), 0);
    rig_end(&r);
}

/* One address is refused with a reason, at the others there is nobody: the reason is told. */
static void refusal_says_more_than_silence(void **state)
{
    struct rig r = {.state = state};
    struct rig_node *b = rig_node(&r, NAME_B);
    struct rig_node *a = rig_node(&r, NAME_A);
    const struct bp_event *ev;
    bp_peer_id id;

    assert_int_equal(bp_node_set_text(b->n, BP_OPT_TRUST, "strict"), 0);
    rig_start(b, true);
    /* nobody has port 1 */
    assert_int_equal(bp_node_discover_static(a->n, NAME_B, "127.0.0.1", 1), 0);
    rig_knows(a, b);
    assert_int_equal(bp_node_discover_static(a->n, NAME_B, "127.0.0.2", 1), 0);
    rig_start(a, false);
    assert_int_equal(bp_node_dial(a->n, NAME_B, 0, &id), 0);
    ev = rig_expect(&r, a, BP_EVENT_DOWN);
    assert_int_equal(ev->error, BP_ERROR_AUTH_REJECTED);
    assert_non_null(strstr(ev->text, "untrusted_key"));
    rig_end(&r);
}

static void wrong_key_here(void **state)
{
    struct rig r;
    struct rig_node *a;
    struct rig_node *b;
    bp_peer_id id;

    pair(&r, state, &a, &b);
    rig_pin(&r, a, b, false);
    assert_int_equal(bp_node_dial(a->n, NAME_B, 0, &id), 0);
    (void)rig_expect_down(&r, a, BP_ERROR_AUTH_KEY_MISMATCH, "barrel-p2p trust add b");
    rig_end(&r);
}

static void wrong_key_there(void **state)
{
    struct rig r;
    struct rig_node *a;
    struct rig_node *b;
    bp_peer_id id;

    pair(&r, state, &a, &b);
    rig_pin(&r, b, a, false);
    assert_int_equal(bp_node_dial(a->n, NAME_B, 0, &id), 0);
    (void)rig_expect_down(&r, a, BP_ERROR_AUTH_REJECTED, "it refused our key");
    assert_int_equal(b->n_events, 0);
    rig_end(&r);
}

static void strict(void **state)
{
    struct rig r = {.state = state};
    struct rig_node *b = rig_node(&r, NAME_B);
    struct rig_node *a = rig_node(&r, NAME_A);
    bp_peer_id id;

    rig_start(b, true);
    rig_knows(a, b);
    assert_int_equal(bp_node_set_text(a->n, BP_OPT_TRUST, "strict"), 0);
    rig_start(a, false);
    assert_int_equal(bp_node_dial(a->n, NAME_B, 0, &id), 0);
    (void)rig_expect_down(&r, a, BP_ERROR_AUTH_UNTRUSTED, NULL);
    rig_pin(&r, a, b, true);
    (void)rig_connect(&r, a, b);
    rig_end(&r);
}

/* --- who is not there ---------------------------------------------------- */

static void not_found(void **state)
{
    struct rig r = {.state = state};
    struct rig_node *a = rig_node(&r, NAME_A);
    const struct bp_event *ev;
    bp_peer_id id;

    rig_start(a, false);
    assert_int_equal(bp_node_dial(a->n, "who@127.0.0.1", 0, &id), 0);
    ev = rig_expect(&r, a, BP_EVENT_DOWN);
    assert_true(ev->peer == id);
    assert_int_equal(ev->error, BP_ERROR_NOT_FOUND);
    assert_string_equal(ev->name, "who@127.0.0.1");
    assert_int_equal(bp_node_dial(a->n, NAME_A, 0, &id), BP_ERROR_INVALID);
    assert_int_equal(bp_node_dial(a->n, "no name", 0, &id), BP_ERROR_INVALID);
    rig_end(&r);
}

#define CLOSED_PORT 9 /* that nobody has, and that the kernel gives to nobody */

static void refused(void **state)
{
    struct rig r = {.state = state};
    struct rig_node *a = rig_node(&r, NAME_A);
    const struct bp_event *ev;
    bp_peer_id id;

    rig_start(a, false);
    assert_int_equal(bp_node_dial_at(a->n, NAME_B, "127.0.0.1", CLOSED_PORT, 20000, &id), 0);
    ev = rig_expect(&r, a, BP_EVENT_DOWN);
    assert_int_equal(ev->error, BP_ERROR_REFUSED);
    rig_end(&r);
}

static void silence(void **state)
{
    struct rig r = {.state = state};
    struct rig_node *a = rig_node(&r, NAME_A);
    struct bp_addr any = {0};
    struct bp_addr bound;
    bp_peer_id id;
    int fd;

    assert_int_equal(bp_udp_listen(&fd, &any, 0, 4, &bound), 0);
    rig_start(a, false);
    assert_int_equal(bp_node_dial_at(a->n, NULL, "127.0.0.1", bp_addr_port(&bound), 300, &id), 0);
    (void)rig_expect_down(&r, a, BP_ERROR_TIMEOUT, NULL);
    close(fd);
    rig_end(&r);
}

/* The first address is of nobody, the second is right. */
static void second_address(void **state)
{
    struct rig r = {.state = state};
    struct rig_node *b = rig_node(&r, NAME_B);
    struct rig_node *a = rig_node(&r, NAME_A);

    rig_start(b, true);
    assert_int_equal(bp_node_discover_static(a->n, NAME_B, "127.0.0.1", CLOSED_PORT), 0);
    rig_knows(a, b);
    rig_start(a, false);
    (void)rig_connect(&r, a, b);
    rig_end(&r);
}

/* Who answers at an address where anybody may. */
static void anybody(void **state)
{
    struct rig r;
    struct rig_node *a;
    struct rig_node *b;
    const struct bp_event *ev;
    bp_peer_id id;

    pair(&r, state, &a, &b);
    assert_int_equal(bp_node_dial_at(a->n, NULL, "127.0.0.1", b->port, 0, &id), 0);
    ev = rig_expect(&r, a, BP_EVENT_UP);
    assert_string_equal(ev->name, NAME_B);
    assert_int_equal(bp_node_close(a->n, id), 0);
    (void)rig_expect(&r, b, BP_EVENT_DOWN);
    /* But not somebody else than was dialled, and not with a key that is not trusted. */
    assert_int_equal(bp_node_dial_at(a->n, "c@127.0.0.1", "127.0.0.1", b->port, 0, &id), 0);
    (void)rig_expect(&r, a, BP_EVENT_DOWN);
    ev = rig_expect(&r, a, BP_EVENT_DOWN);
    assert_string_equal(bp_error_name(ev->error), "auth_name_mismatch");
    rig_pin(&r, a, b, false);
    assert_int_equal(bp_node_dial_at(a->n, NULL, "127.0.0.1", b->port, 0, &id), 0);
    (void)rig_expect_down(&r, a, BP_ERROR_AUTH_KEY_MISMATCH, NULL);
    rig_end(&r);
}

/* --- both at once, and again --------------------------------------------- */

static bool both_up(void *ctx)
{
    struct rig *r = ctx;

    return bp_node_find_peer(r->nodes[0].n, bp_node_name(r->nodes[1].n)) != 0 &&
           bp_node_find_peer(r->nodes[1].n, bp_node_name(r->nodes[0].n)) != 0 &&
           bp_node_peers(r->nodes[0].n, NULL, 0) == 1 && bp_node_peers(r->nodes[1].n, NULL, 0) == 1;
}

static void simultaneous(void **state)
{
    struct rig r = {.state = state};
    struct rig_node *a = rig_node(&r, NAME_A);
    struct rig_node *b = rig_node(&r, NAME_B);
    unsigned ups[2] = {0, 0};
    bp_peer_id id[2];

    rig_start(a, true);
    rig_start(b, true);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(bp_node_dial_at(a->n, NAME_B, "127.0.0.1", b->port, 0, &id[0]), 0);
        assert_int_equal(bp_node_dial_at(b->n, NAME_A, "127.0.0.1", a->port, 0, &id[1]), 0);
        rig_until(&r, both_up, &r);
        assert_int_equal(rig_send(a, other_end(a, b), "x", 1), 0);
        (void)rig_expect(&r, b, BP_EVENT_MESSAGE);
        assert_int_equal(bp_node_close(a->n, other_end(a, b)), 0);
        while (bp_node_peers(b->n, NULL, 0) != 0 || bp_node_peers(a->n, NULL, 0) != 0) {
            rig_turn(&r, 100);
        }
    }
    for (size_t i = 0; i < a->n_events; i++) {
        ups[0] += a->events[i].ev.kind == BP_EVENT_UP;
    }
    for (size_t i = 0; i < b->n_events; i++) {
        ups[1] += b->events[i].ev.kind == BP_EVENT_UP;
    }
    assert_int_equal(ups[0], 10);
    assert_int_equal(ups[1], 10);
    rig_end(&r);
}

static void dialled_twice(void **state)
{
    struct rig r;
    struct rig_node *a;
    struct rig_node *b;
    bp_peer_id id;
    bp_peer_id again;

    pair(&r, state, &a, &b);
    assert_int_equal(bp_node_dial(a->n, NAME_B, 0, &id), 0);
    assert_int_equal(bp_node_dial(a->n, NAME_B, 0, &again), BP_ERROR_EXISTS);
    assert_true(again == id);
    (void)rig_expect(&r, a, BP_EVENT_UP);
    assert_int_equal(bp_node_dial(a->n, NAME_B, 0, &again), BP_ERROR_EXISTS);
    assert_true(again == id);
    rig_end(&r);
}

/* A node that ends tells its peers, and its next life takes over. */
static void next_life(void **state)
{
    struct rig r;
    struct rig_node *a;
    struct rig_node *b;
    struct rig_node *b2;
    const struct bp_event *ev;
    bp_peer_id id;

    pair(&r, state, &a, &b);
    (void)rig_connect(&r, a, b);
    rig_stop(b);
    (void)rig_expect_down(&r, a, BP_ERROR_PEER_CLOSED, NULL);
    b2 = rig_node(&r, NAME_B);
    rig_start(b2, true);
    assert_int_equal(bp_node_dial_at(a->n, NAME_B, "127.0.0.1", b2->port, 0, &id), 0);
    ev = rig_expect(&r, a, BP_EVENT_UP);
    assert_true(ev->peer == id);
    rig_end(&r);
}

/* --- bounds -------------------------------------------------------------- */

static bool stuck(void *ctx)
{
    const struct rig_node *a = ctx;
    struct bp_peer_info info;
    bp_peer_id id;

    /* All that the peer's window takes is out, and nothing moves. */
    return bp_node_peers(a->n, &id, 1) == 1 &&
           bp_node_peer_info(a->n, id, &info, sizeof(info)) == 0 && info.bytes_in_flight == 0 &&
           info.send_queue > 0;
}

static void slow_reader(void **state)
{
    struct rig r;
    struct rig_node *a;
    struct rig_node *b;
    static uint8_t body[100000];
    uint64_t sent = 0;
    bp_peer_id id;

    pair(&r, state, &a, &b);
    id = rig_connect(&r, a, b);
    a->count_only = b->count_only = true;
    b->deaf = true;
    for (int i = 0; i < 2000; i++) {
        while (rig_send(a, id, body, sizeof(body)) == 0) {
            sent++;
        }
        rig_turn(&r, 5);
        if (stuck(a)) {
            break;
        }
    }
    rig_until(&r, stuck, a);
    assert_true(r.max_queue > 1000u * 1000u);
    /* The buffer and one window. */
    assert_true(r.max_queue < 80u * 1024u * 1024u);
    assert_true(sent * sizeof(body) < 100u * 1024u * 1024u);
    assert_int_equal(b->messages, 0);
    b->deaf = false;
    while (b->messages < sent) {
        rig_turn(&r, 100);
    }
    /* And it goes on. */
    for (uint64_t more = 0; more < 1000;) {
        while (more < 1000 && rig_send(a, id, body, sizeof(body)) == 0) {
            more++;
            sent++;
        }
        rig_turn(&r, 100);
    }
    while (b->messages < sent) {
        rig_turn(&r, 100);
    }
    assert_int_equal(b->bytes, sent * (sizeof(body) + 2));
    assert_true(rig_counter(b, "held") > 0);
    rig_end(&r);
}

static void limits(void **state)
{
    struct rig r = {.state = state};
    struct rig_node *b = rig_node(&r, NAME_B);
    struct rig_node *a = rig_node(&r, NAME_A);
    static uint8_t body[70000];
    const struct bp_part none = {.data = "\x83\x70", .len = 2};
    bp_peer_id id;
    bp_peer_id more;

    rig_start(b, true);
    rig_knows(a, b);
    assert_int_equal(bp_node_set_number(a->n, BP_OPT_MAX_PEERS, 1), 0);
    assert_int_equal(bp_node_set_number(a->n, BP_OPT_MAX_FRAME, 65536), 0);
    assert_int_equal(bp_node_set_number(a->n, BP_OPT_MAX_FRAME, 1), BP_ERROR_INVALID);
    assert_int_equal(bp_node_set_text(a->n, BP_OPT_TRUST, "blind"), BP_ERROR_INVALID);
    rig_start(a, false);
    assert_int_equal(bp_node_set_number(a->n, BP_OPT_PORT, 1), BP_ERROR_STATE);
    id = rig_connect(&r, a, b);
    assert_int_equal(bp_node_dial(a->n, "c@127.0.0.1", 0, &more), BP_ERROR_LIMIT);
    assert_int_equal(rig_send(a, id, body, sizeof(body)), BP_ERROR_LIMIT);
    assert_int_equal(bp_node_send(a->n, id, &none, 1), BP_ERROR_INVALID);
    assert_int_equal(rig_send(a, id + 1, body, 10), BP_ERROR_NOT_FOUND);
    /* The peer's message is larger than we take: it loses the connection, and both know why. */
    assert_int_equal(rig_send(b, other_end(b, a), body, sizeof(body)), 0);
    assert_string_equal(bp_error_name(rig_expect(&r, a, BP_EVENT_DOWN)->error), "frame_too_large");
    assert_non_null(strstr(rig_expect(&r, b, BP_EVENT_DOWN)->text, "larger than max_frame_bytes"));
    rig_end(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(up_talk_down),
        TMPDIR_TEST(many_messages),
        TMPDIR_TEST(large_message),
        TMPDIR_TEST(other_cookie),
        TMPDIR_TEST(refusal_says_more_than_silence),
        TMPDIR_TEST(wrong_key_here),
        TMPDIR_TEST(wrong_key_there),
        TMPDIR_TEST(strict),
        TMPDIR_TEST(not_found),
        TMPDIR_TEST(refused),
        TMPDIR_TEST(silence),
        TMPDIR_TEST(second_address),
        TMPDIR_TEST(anybody),
        TMPDIR_TEST(simultaneous),
        TMPDIR_TEST(dialled_twice),
        TMPDIR_TEST(next_life),
        TMPDIR_TEST(slow_reader),
        TMPDIR_TEST(limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
