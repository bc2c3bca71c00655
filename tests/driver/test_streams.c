/* SPDX-License-Identifier: Apache-2.0 */
/* User streams of connection ports: operations, owners, acceptors, tags, ends. */
#include "driver/node_util.h"

#include "base/err.h"
#include "base/rw.h"
#include "driver/streams.h"

#include <unistd.h>

/* --- names of streams ------------------------------------------------------- */

/* The connection's bits of stream numbers. */
static uint64_t conn_bits;

static const char *event_text(const char *before, int64_t id, const char *what)
{
    static char text[4][300];
    static unsigned next;
    char *out = text[next++ % 4];

    snprintf(out, sizeof(text[0]), "%s<peer@127.0.0.1> %llu %s", before,
             (unsigned long long)(conn_bits | (uint64_t)id), what);
    return out;
}

#define EVENT(id, what) event_text("quic_dist_stream quic_dist_stream ", id, what)

/* --- the pair, and streams of the peer --------------------------------------- */

static void up(struct pair *p, void **state)
{
    char path[PATH_MAX];

    /* another one of that name, in a test that has several */
    (void)unlink(tmpdir_path(state, "keys/trusted/peer@127.0.0.1.pub", path));
    pair_dial(p, state);
    pair_handshake(p);
    bp_link_user_accept(p->peer.link, true);
    conn_bits = drv_node.next_id;
    conn_bits <<= STREAM_ID_BITS;
    vm_forget(p->conn);
    vm_forget(NULL);
}

static void turns(struct pair *p, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        peer_step(&p->peer);
        vm_poll(2, NULL, 0);
    }
}

static void op(struct pair *p, unsigned code, int64_t id, const void *more, size_t len,
               struct vm_reply *r)
{
    static uint8_t buf[70000];
    struct bp_writer w;

    bp_writer_init(&w, buf, sizeof(buf));
    bp_write_u64(&w, conn_bits | (uint64_t)id);
    bp_write_bytes(&w, more, len);
    assert_false(w.bad);
    vm_control(p->conn, code, buf, w.len, r);
}

static struct vm_reply reply;

static const char *err_of(struct pair *p, unsigned code, int64_t id, const void *more, size_t len)
{
    op(p, code, id, more, len, &reply);
    return reply.badarg ? "badarg!" : reply.ok ? "" : reply.err;
}

static int64_t open_as(struct pair *p, unsigned pid, const void *opts, size_t len)
{
    int64_t id = 0;

    vm_caller(pid);
    vm_control_ok(p->conn, OP_STREAM_OPEN, opts, len, &reply);
    assert_int_equal(reply.len, 8);
    for (unsigned i = 0; i < 8; i++) {
        id = id << 8 | reply.data[i];
    }
    assert_int_equal((uint64_t)id >> STREAM_ID_BITS, conn_bits >> STREAM_ID_BITS);
    return id & ((INT64_C(1) << STREAM_ID_BITS) - 1);
}

static void send_as(struct pair *p, unsigned pid, int64_t id, const char *text, bool fin)
{
    uint8_t buf[600] = {fin};

    vm_caller(pid);
    memcpy(buf + 1, text, strlen(text));
    assert_string_equal(err_of(p, OP_STREAM_SEND, id, buf, 1 + strlen(text)), "");
    assert_int_equal(reply.data[0], 0);
}

/* A stream that the peer opens, with its first bytes. */
static struct bp_user_stream *peer_opens(struct pair *p, const char *text, size_t len)
{
    struct bp_slice slice = {.base = (const uint8_t *)text, .len = len};
    struct bp_user_stream *s;

    assert_int_equal(bp_link_user_open(p->peer.link, 128, &s), 0);
    s->host = p;
    assert_int_equal(bp_link_user_put(p->peer.link, s, &slice, 1), 0);
    turns(p, 20);
    return s;
}

static void peer_puts(struct pair *p, struct bp_user_stream *s, const char *text)
{
    struct bp_slice slice = {.base = (const uint8_t *)text, .len = strlen(text)};

    assert_int_equal(bp_link_user_put(p->peer.link, s, &slice, 1), 0);
    turns(p, 20);
}

/* All that came on stream `id` at the peer, as text; counts its end. */
static size_t peer_gets(struct pair *p, int64_t id, uint8_t *buf, size_t cap, bool *fin)
{
    struct bp_user_stream *s = bp_link_user_find(p->peer.link, id);
    struct bp_user_chunk c;
    size_t used = 0;

    while (s != NULL && bp_link_user_take(p->peer.link, s, &c)) {
        assert_true(used + c.len <= cap);
        if (c.len > 0) {
            memcpy(buf + used, c.data, c.len);
        }
        used += c.len;
        *fin = *fin || c.fin;
        if (c.bin != NULL) {
            free(c.bin);
        }
    }
    return used;
}

static bool has(unsigned pid, const char *start)
{
    return vm_find(vm_proc(pid), start) != NULL;
}

static void ends(struct pair *p)
{
    vm_caller(0);
    pair_free(p);
    assert_int_equal(vm_monitors(), 0);
    for (unsigned i = 1; i < 10; i++) {
        vm_forget(vm_proc(i));
    }
}

/* --- tests -------------------------------------------------------------------- */

static void stream_carries_bytes_both_ways(void **state)
{
    struct pair p;
    struct bp_user_stream *s;
    uint8_t buf[100];
    bool fin = false;
    int64_t id;

    up(&p, state);
    id = open_as(&p, 1, NULL, 0);
    assert_int_equal(id, 68);
    send_as(&p, 1, id, "hello", false);
    turns(&p, 20);
    assert_int_equal(peer_gets(&p, id, buf, sizeof(buf), &fin), 5);
    assert_memory_equal(buf, "hello", 5);
    assert_false(fin);
    s = bp_link_user_find(p.peer.link, id);
    peer_puts(&p, s, "answer");
    assert_true(has(1, EVENT(68, "data <answer> false")));
    send_as(&p, 1, id, "", true);
    turns(&p, 20);
    assert_int_equal(peer_gets(&p, id, buf, sizeof(buf), &fin), 0);
    assert_true(fin);
    assert_string_equal(err_of(&p, OP_STREAM_SEND, id, "\0x", 2), "send_closed");
    assert_string_equal(err_of(&p, OP_STREAM_RESERVE, id, "\0", 1), "send_closed");
    assert_int_equal(bp_link_user_fin(p.peer.link, s), 0);
    turns(&p, 20);
    assert_true(has(1, EVENT(68, "data <> true")));
    assert_int_equal(vm_count(vm_proc(1), EVENT(68, "closed")), 1);
    assert_string_equal(err_of(&p, OP_STREAM_SEND, id, "\0x", 2), "unknown_stream");
    ends(&p);
}

static void stream_operations_are_their_owners(void **state)
{
    static const unsigned ops[] = {OP_STREAM_SEND,  OP_STREAM_RESERVE, OP_STREAM_CLOSE,
                                   OP_STREAM_RESET, OP_STREAM_OPTS,    OP_STREAM_HOLD,
                                   OP_STREAM_OWNER};
    struct pair p;
    int64_t id;

    up(&p, state);
    id = open_as(&p, 1, NULL, 0);
    vm_caller(2);
    for (unsigned i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        assert_string_equal(err_of(&p, ops[i], id, "\0\0\0\0\0\0\0\3", 8), "not_owner");
        assert_string_equal(err_of(&p, ops[i], 4711, "\0\0\0\0\0\0\0\3", 8), "unknown_stream");
        /* what is left of an earlier connection */
        conn_bits ^= UINT64_C(1) << STREAM_ID_BITS;
        assert_string_equal(err_of(&p, ops[i], id, "\0\0\0\0\0\0\0\3", 8), "unknown_stream");
        conn_bits ^= UINT64_C(1) << STREAM_ID_BITS;
    }
    vm_caller(1);
    /* cut off, or wrong */
    for (unsigned i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        vm_control(p.conn, ops[i], "\0\0\0\0\0\0\0", 7, &reply);
        assert_string_equal(reply.err, "badarg");
    }
    assert_string_equal(err_of(&p, OP_STREAM_OPTS, id, "\1\5\0\0", 4), "badarg");
    assert_string_equal(err_of(&p, OP_STREAM_OPTS, id, "\1\1\0", 3), "badarg");
    assert_string_equal(err_of(&p, OP_STREAM_OPTS, id, "\2\17", 2), "badarg");
    assert_string_equal(err_of(&p, OP_STREAM_OPTS, id, "\3", 1), "badarg");
    assert_string_equal(err_of(&p, OP_STREAM_OPTS, id, "\4\1", 2), "badarg");
    assert_string_equal(err_of(&p, OP_STREAM_OPTS, id, "\1\2\0\0\2\100\3\1", 8), "");
    vm_control(p.conn, OP_STREAM_OPEN, "\2\1", 2, &reply);
    assert_string_equal(reply.err, "badarg");
    vm_control(p.conn, OP_STREAM_ACCEPT, "\7", 1, &reply);
    assert_string_equal(reply.err, "badarg");
    vm_control(p.conn, OP_STREAM_LIST, "", 0, &reply);
    assert_string_equal(reply.err, "badarg");
    ends(&p);
}

/* RESERVE, then a port command whose bytes are referenced until they are acknowledged. */
static void stream_large_write_goes_by_reference(void **state)
{
    static uint8_t got[1100000];
    uint8_t *data = malloc(1000000);
    uint8_t head[9] = {0};
    struct vm_piece pieces[2];
    struct pair p;
    ErlDrvBinary *bin;
    size_t n = 0;
    bool fin = false;
    int64_t id;

    up(&p, state);
    for (size_t i = 0; i < 1000000; i++) {
        data[i] = (uint8_t)(i * 7 + i / 253);
    }
    bin = vm_bin(data, 1000000);
    id = open_as(&p, 1, NULL, 0);
    assert_string_equal(err_of(&p, OP_STREAM_RESERVE, id, "\1", 1), "");
    assert_int_equal(reply.data[0], 0);
    for (unsigned i = 0; i < 8; i++) {
        head[8 - i] = (uint8_t)((conn_bits | (uint64_t)id) >> (8 * i));
    }
    pieces[0] = (struct vm_piece){.base = head, .len = 9};
    pieces[1] = (struct vm_piece){.bin = bin, .base = bin->orig_bytes, .len = 1000000};
    vm_command(p.conn, pieces, 2);
    assert_int_equal(vm_bin_refs(bin), 2);
    for (unsigned i = 0; i < 3000 && !fin; i++) {
        turns(&p, 1);
        n += peer_gets(&p, id, got + n, sizeof(got) - n, &fin);
    }
    assert_true(fin);
    assert_int_equal(n, 1000000);
    assert_memory_equal(got, data, n);
    for (unsigned i = 0; i < 1000 && vm_bin_refs(bin) > 1; i++) {
        turns(&p, 1);
    }
    assert_int_equal(vm_bin_refs(bin), 1);
    driver_free_binary(bin);
    free(data);
    ends(&p);
}

/* A command for a stream that ended meanwhile is nobody's; one of distribution stays one. */
static void stream_command_and_distribution_are_told_apart(void **state)
{
    uint8_t head[9] = {0};
    struct pair p;
    int64_t id;
    int64_t other;

    up(&p, state);
    id = open_as(&p, 1, NULL, 0);
    other = open_as(&p, 2, NULL, 0);
    vm_caller(1);
    assert_string_equal(err_of(&p, OP_STREAM_RESERVE, id, "\0", 1), "");
    vm_caller(2);
    assert_string_equal(err_of(&p, OP_STREAM_RESERVE, other, "\0", 1), "");
    vm_exit(1);
    /* between RESERVE and its command */
    vm_command_bytes(p.conn, "\x83\x44\0\x68\2\x61\x05\x61\1", 9);
    for (unsigned i = 0; i < 8; i++) {
        head[8 - i] = (uint8_t)((conn_bits | (uint64_t)id) >> (8 * i));
    }
    vm_command_bytes(p.conn, head, 9);
    turns(&p, 30);
    assert_int_equal(p.peer.n_frames, 1);
    assert_int_equal(bp_link_phase(p.peer.link), BP_LINK_UP);
    ends(&p);
}

static void stream_sender_waits_for_room(void **state)
{
    static char block[60000];
    static uint8_t got[8000000];
    struct pair p;
    size_t sent = 0;
    size_t n = 0;
    bool fin = false;
    int64_t id;
    int64_t nb;

    up(&p, state);
    memset(block, 'x', sizeof(block));
    block[0] = 0;
    p.peer.silent = true; /* nothing is acknowledged */
    id = open_as(&p, 1, NULL, 0);
    nb = open_as(&p, 2, "\3\1", 2);
    for (unsigned which = 0; which < 2; which++) {
        int64_t who = which == 0 ? id : nb;
        unsigned tries = 0;
        vm_caller(1 + which);
        for (;; tries++) {
            const char *err = err_of(&p, OP_STREAM_SEND, who, block, sizeof(block));
            assert_true(tries < 200);
            if (which == 1 && strcmp(err, "would_block") == 0) {
                break;
            }
            assert_string_equal(err, "");
            if (which == 0 && reply.data[0] == 1) {
                break;
            }
            sent += sizeof(block) - 1;
        }
        assert_in_range(tries, 10, 60);
    }
    assert_false(has(1, "$barrel_p2p_room") || has(2, EVENT(72, "writable")));
    p.peer.silent = false;
    for (unsigned i = 0; i < 3000 && n < sent; i++) {
        turns(&p, 1);
        n += peer_gets(&p, id, got, sizeof(got), &fin);
        n += peer_gets(&p, nb, got, sizeof(got), &fin);
    }
    assert_int_equal(n, sent);
    assert_int_equal(vm_count(vm_proc(1), "$barrel_p2p_room"), 1);
    assert_int_equal(vm_count(vm_proc(2), EVENT(72, "writable")), 1);
    vm_caller(1);
    assert_string_equal(err_of(&p, OP_STREAM_SEND, id, block, 10), "");
    ends(&p);
}

static void stream_owner_gets_as_much_as_it_asked_for(void **state)
{
    struct pair p;
    struct bp_user_stream *s;

    up(&p, state);
    vm_caller(1);
    vm_control_ok(p.conn, OP_STREAM_ACCEPT, "\1\0\0\0", 4, &reply);
    s = peer_opens(&p, "one", 3);
    assert_false(has(1, EVENT(65, "data")));
    assert_string_equal(err_of(&p, OP_STREAM_OPTS, 65, "\1\1\0\0", 4), ""); /* once */
    assert_true(has(1, EVENT(65, "data <one> false")));
    peer_puts(&p, s, "two");
    assert_false(has(1, EVENT(65, "data <two>")));
    assert_string_equal(err_of(&p, OP_STREAM_OPTS, 65, "\1\4\0\2", 4), ""); /* 2 */
    assert_false(has(1, EVENT(65, "passive")));
    peer_puts(&p, s, "three");
    assert_int_equal(vm_count(vm_proc(1), EVENT(65, "passive")), 1);
    peer_puts(&p, s, "four");
    assert_false(has(1, EVENT(65, "data <four>")));
    assert_string_equal(err_of(&p, OP_STREAM_OPTS, 65, "\1\2\0\0", 4), ""); /* true */
    assert_true(has(1, EVENT(65, "data <four> false")));
    for (unsigned i = 0; i < 100; i++) {
        peer_puts(&p, s, "more");
    }
    assert_int_equal(vm_count(vm_proc(1), EVENT(65, "data <more> false")), 100);
    ends(&p);
}

/* With `auto` the watcher is asked half-way; without its word an owner gets no more. */
static void stream_watcher_lets_more_through(void **state)
{
    char watch[80];
    struct pair p;
    struct bp_user_stream *s;

    up(&p, state);
    vm_caller(9);
    vm_control_ok(p.node, OP_STREAM_WATCHER, NULL, 0, &reply);
    vm_caller(1);
    vm_control_ok(p.conn, OP_STREAM_ACCEPT, NULL, 0, &reply);
    s = peer_opens(&p, "x", 1);
    for (unsigned i = 1; i < 100; i++) {
        peer_puts(&p, s, "x");
    }
    assert_int_equal(vm_count(vm_proc(1), EVENT(65, "data")), STREAM_AUTO_EVENTS);
    snprintf(watch, sizeof(watch), "$barrel_p2p_watch %llu #1",
             (unsigned long long)(conn_bits | 65));
    assert_int_equal(vm_count(vm_proc(9), watch), 1);
    vm_caller(9);
    assert_string_equal(err_of(&p, OP_STREAM_RESUME, 65, NULL, 0), "");
    turns(&p, 10);
    assert_true(vm_count(vm_proc(1), EVENT(65, "data")) > STREAM_AUTO_EVENTS);
    assert_string_equal(err_of(&p, OP_STREAM_RESUME, 4711, NULL, 0), "unknown_stream");
    assert_int_equal(bp_link_user_fin(p.peer.link, s), 0);
    turns(&p, 20);
    assert_true(has(1, EVENT(65, "data <> true")) || vm_count(vm_proc(1), EVENT(65, "data")) >= 33);
    ends(&p);
}

static void stream_gets_another_owner(void **state)
{
    struct pair p;
    struct bp_user_stream *s;

    up(&p, state);
    vm_caller(1);
    vm_control_ok(p.conn, OP_STREAM_ACCEPT, NULL, 0, &reply);
    s = peer_opens(&p, "one", 3);
    assert_true(has(1, EVENT(65, "data <one> false")));
    assert_string_equal(err_of(&p, OP_STREAM_HOLD, 65, NULL, 0), "");
    peer_puts(&p, s, "two");
    assert_false(has(1, EVENT(65, "data <two>")));
    /* to one that has ended: all stays as it was */
    vm_exit(3);
    assert_string_equal(err_of(&p, OP_STREAM_OWNER, 65, "\0\0\0\0\0\0\0\3", 8), "badarg");
    assert_true(has(1, EVENT(65, "data <two> false")));
    assert_string_equal(err_of(&p, OP_STREAM_HOLD, 65, NULL, 0), "");
    peer_puts(&p, s, "three");
    assert_string_equal(err_of(&p, OP_STREAM_OWNER, 65, "\0\0\0\0\0\0\0\2", 8), "");
    assert_true(has(2, EVENT(65, "data <three> false")));
    assert_false(has(1, EVENT(65, "data <three>")));
    assert_string_equal(err_of(&p, OP_STREAM_SEND, 65, "\0x", 2), "not_owner");
    vm_exit(1);
    turns(&p, 20);
    assert_false(s->cut);
    vm_exit(2);
    turns(&p, 20);
    assert_true(s->cut);
    assert_int_equal(s->cut_code, 0);
    ends(&p);
}

static void stream_list_names_all(void **state)
{
    struct pair p;

    up(&p, state);
    (void)open_as(&p, 1, "\2\100", 2);
    send_as(&p, 1, 68, "x", true);
    (void)open_as(&p, 2, NULL, 0);
    vm_caller(3);
    vm_control_ok(p.conn, OP_STREAM_LIST, "\0\0\0\0\0\0\0\7", 8, &reply);
    assert_true(has(3, "$barrel_p2p_streams 7"));
    for (unsigned i = 0; i < 2; i++) {
        char text[80];
        snprintf(text, sizeof(text), "%llu #%u %s", (unsigned long long)(conn_bits | (68 + 4 * i)),
                 1 + i, i == 0 ? "64 false true" : "128 false false");
        assert_non_null(strstr(vm_find(vm_proc(3), "$barrel_p2p_streams"), text));
    }
    ends(&p);
}

static void tag(struct pair *p, unsigned code, unsigned pid, const char *text, const char *err)
{
    uint8_t buf[300] = {0, 0, 0, 0, 0, 0, 0, (uint8_t)pid};
    size_t skip = code == OP_TAG_ADD ? 8 : 0;

    memcpy(buf + skip, text, strlen(text));
    vm_control(p->node, code, buf, skip + strlen(text), &reply);
    assert_string_equal(reply.ok ? "" : reply.err, err);
}

static void stream_tags_lead_to_their_handlers(void **state)
{
    struct pair p;
    struct bp_user_stream *s[5];
    char silly[257];

    up(&p, state);
    tag(&p, OP_TAG_ADD, 1, "file", "");
    tag(&p, OP_TAG_ADD, 2, "file", "exists");
    tag(&p, OP_TAG_ADD, 2, "fi", "");
    tag(&p, OP_TAG_ADD, 2, "", "badarg");
    memset(silly, 'x', 256);
    silly[256] = '\0';
    tag(&p, OP_TAG_ADD, 2, silly, "badarg");
    tag(&p, OP_TAG_REMOVE, 0, "nobody's", "not_found");
    s[0] = peer_opens(&p, "\4filerest", 9);
    assert_true(has(1, event_text("mstream quic_dist_stream ", 65, "opened <peer@127.0.0.1>")));
    assert_true(has(1, EVENT(65, "data <rest> false")));
    /* byte by byte */
    s[1] = peer_opens(&p, "\2", 1);
    peer_puts(&p, s[1], "f");
    assert_int_equal(vm_count(vm_proc(2), "mstream"), 0);
    peer_puts(&p, s[1], "i");
    assert_int_equal(vm_count(vm_proc(2), "mstream"), 1);
    assert_false(has(2, EVENT(69, "data")));
    /* unknown, from its first byte that fits nobody; empty */
    s[2] = peer_opens(&p, "\4fix", 4);
    assert_true(s[2]->cut && s[2]->cut_code == BP_USER_REFUSED);
    s[3] = peer_opens(&p, "\0", 1);
    assert_true(s[3]->cut && s[3]->cut_code == BP_USER_REFUSED);
    /* a connection's own acceptor gets what has no tag, or the wrong one */
    vm_caller(3);
    vm_control_ok(p.conn, OP_STREAM_ACCEPT, NULL, 0, &reply);
    (void)peer_opens(&p, "\4nope", 5);
    assert_true(has(3, EVENT(81, "data <5 bytes> false")));
    s[4] = peer_opens(&p, "\4file", 5);
    assert_int_equal(vm_count(vm_proc(1), "mstream"), 2);
    /* finished too early */
    (void)peer_opens(&p, "\4fi", 3);
    assert_false(has(3, EVENT(89, "data")));
    assert_int_equal(bp_link_user_fin(p.peer.link, bp_link_user_find(p.peer.link, 89)), 0);
    turns(&p, 20);
    assert_true(has(3, EVENT(89, "data <3 bytes> true")));
    /* a handler that has ended */
    vm_exit(1);
    vm_forget(vm_proc(3));
    (void)peer_opens(&p, "\4file", 5);
    assert_true(has(3, EVENT(93, "data <5 bytes> false")));
    tag(&p, OP_TAG_CLEAR, 0, "", "");
    ends(&p);
}

static void stream_parked_ones_have_a_time(void **state)
{
    struct pair p;
    struct bp_user_stream *s;

    pair_dial(&p, state);
    pair_handshake(&p);
    bp_link_user_accept(p.peer.link, true);
    tag(&p, OP_TAG_ADD, 1, "file", "");
    s = peer_opens(&p, "\4fi", 3);
    turns(&p, 50);
    assert_false(s->cut);
    for (unsigned i = 0; i < 4000 && !s->cut; i++) {
        turns(&p, 1);
    }
    assert_true(s->cut && s->cut_code == BP_USER_REFUSED); /* after 2 s: good_config */
    tag(&p, OP_TAG_CLEAR, 0, "", "");
    ends(&p);
}

/* The owner is told of everything that had come, then of the end, whoever ends the connection. */
static void stream_owners_hear_of_the_end_of_the_connection(void **state)
{
    struct pair p;

    for (unsigned how = 0; how < 2; how++) {
        up(&p, state);
        vm_caller(2);
        vm_control_ok(p.conn, OP_STREAM_ACCEPT, "\1\0\0\0", 4, &reply);
        (void)peer_opens(&p, "unread", 6);
        (void)open_as(&p, 1, NULL, 0);
        send_as(&p, 1, 68, "x", false);
        if (how == 0) {
            vm_close(p.conn);
            p.conn = NULL;
        } else {
            peer_close(&p.peer, 0);
            for (unsigned i = 0; i < 200 && !has(1, EVENT(68, "closed")); i++) {
                vm_poll(5, NULL, 0);
            }
        }
        assert_true(has(2, EVENT(65, "data <unread> false")));
        assert_true(has(2, EVENT(65, "reset 257")));
        assert_int_equal(vm_count(vm_proc(2), EVENT(65, "closed")), 1);
        assert_true(has(1, EVENT(68, "reset 257")));
        assert_int_equal(vm_count(vm_proc(1), EVENT(68, "closed")), 1);
        ends(&p);
    }
}

static void stream_reset_tells_both_sides(void **state)
{
    struct pair p;
    struct bp_user_stream *s;

    up(&p, state);
    vm_caller(1);
    vm_control_ok(p.conn, OP_STREAM_ACCEPT, NULL, 0, &reply);
    s = peer_opens(&p, "x", 1);
    assert_string_equal(err_of(&p, OP_STREAM_RESET, 65, "\0\0\0\0\0\0\x12\x67", 8), "");
    assert_true(has(1, EVENT(65, "reset 4711")) && has(1, EVENT(65, "closed")));
    turns(&p, 20);
    assert_true(s->cut);
    assert_int_equal(s->cut_code, 4711);
    s = peer_opens(&p, "y", 1);
    bp_link_user_reset(p.peer.link, s, 5);
    turns(&p, 20);
    assert_true(has(1, EVENT(69, "reset 5")) && has(1, EVENT(69, "closed")));
    /* nobody takes it */
    vm_control_ok(p.conn, OP_STREAM_STOP, NULL, 0, &reply);
    s = peer_opens(&p, "z", 1);
    assert_true(s->cut && s->cut_code == BP_USER_REFUSED);
    ends(&p);
}

/* Before the handshake is over there are no streams. */
static void stream_operations_need_a_connection(void **state)
{
    struct pair p;

    pair_dial(&p, state);
    vm_caller(1);
    for (unsigned code = OP_STREAM_OPEN; code < OP_STREAM_NODE; code++) {
        vm_control(p.conn, code, "\0\0\0\0\0\0\0\104\0\0\0\0\0\0\0\0", 16, &reply);
        assert_string_equal(reply.err, "bad_state");
    }
    ends(&p);
}

/* Without memory for this or that a stream may be cut or refused; nothing leaks, nothing crashes.
 */
static void stream_survives_without_memory(void **state)
{
    for (long n = 0; n < 60; n++) {
        struct pair p;

        up(&p, state);
        vm_caller(1);
        vm_control_ok(p.conn, OP_STREAM_ACCEPT, NULL, 0, &reply);
        vm_fail_once(n);
        vm_control(p.conn, OP_STREAM_OPEN, NULL, 0, &reply);
        (void)err_of(&p, OP_STREAM_SEND, 68, "\0some bytes", 11);
        (void)err_of(&p, OP_STREAM_LIST, 7, NULL, 0);
        vm_caller(2);
        vm_control(p.conn, OP_STREAM_ACCEPT, NULL, 0, &reply);
        if (!p.peer.failed) {
            (void)peer_opens(&p, "from the peer", 13);
        }
        vm_never_fail();
        ends(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VM_TEST(stream_carries_bytes_both_ways),
        VM_TEST(stream_operations_are_their_owners),
        VM_TEST(stream_large_write_goes_by_reference),
        VM_TEST(stream_command_and_distribution_are_told_apart),
        VM_TEST(stream_sender_waits_for_room),
        VM_TEST(stream_owner_gets_as_much_as_it_asked_for),
        VM_TEST(stream_watcher_lets_more_through),
        VM_TEST(stream_gets_another_owner),
        VM_TEST(stream_list_names_all),
        VM_TEST(stream_tags_lead_to_their_handlers),
        VM_TEST(stream_parked_ones_have_a_time),
        VM_TEST(stream_owners_hear_of_the_end_of_the_connection),
        VM_TEST(stream_reset_tells_both_sides),
        VM_TEST(stream_operations_need_a_connection),
        VM_TEST(stream_survives_without_memory),
    };
    return cmocka_run_group_tests(tests, vm_group_setup, vm_group_teardown) != 0;
}
