/* SPDX-License-Identifier: Apache-2.0 */
/* The resolver against a DNS server of the test's own on a loopback port. */
#include "support/t.h"

#include "base/err.h"
#include "io/resolver.h"

#include <arpa/inet.h>
#include <poll.h>
#include <unistd.h>

#define TYPE_A    1
#define TYPE_SRV  33
#define TYPE_AAAA 28

struct server {
    int fd;
    char text[32]; /* for the resolver */
    unsigned asked;
};

static int setup(void **state)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    struct server *s = calloc(1, sizeof(*s));

    assert_non_null(s);
    s->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(s->fd >= 0);
    assert_int_equal(bind(s->fd, (struct sockaddr *)&a, len), 0);
    assert_int_equal(getsockname(s->fd, (struct sockaddr *)&a, &len), 0);
    snprintf(s->text, sizeof(s->text), "127.0.0.1:%u", ntohs(a.sin_port));
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct server *s = *state;

    close(s->fd);
    free(s);
    return 0;
}

/* One record after the question, which is `q` bytes long with its header. */
static size_t put_record(uint8_t *p, unsigned type, unsigned ttl, const void *data, size_t n)
{
    const uint8_t head[] = {0xc0, 12, 0, (uint8_t)type, 0, 1, 0, 0, 0, (uint8_t)ttl, 0, (uint8_t)n};

    memcpy(p, head, sizeof(head));
    memcpy(p + sizeof(head), data, n);
    return sizeof(head) + n;
}

/* Answers one question if there is one: names that begin with 'x' do not exist. */
static void serve(struct server *s)
{
    static const uint8_t v4[] = {192, 0, 2, 1};
    static const uint8_t v6[16] = {0x20, 1, 0xd, 0xb8, [15] = 1};
    static const uint8_t srv[] = {0, 1, 0, 2, 0x11, 0x51, 1, 'h', 0};
    struct sockaddr_in from;
    socklen_t from_len = sizeof(from);
    uint8_t p[512];
    ssize_t n =
        recvfrom(s->fd, p, sizeof(p) / 2, MSG_DONTWAIT, (struct sockaddr *)&from, &from_len);
    size_t end = 12;
    unsigned type;

    if (n < 17) {
        return;
    }
    s->asked++;
    while (p[end] != 0) {
        end += p[end] + 1u;
    }
    type = p[end + 2];
    end += 5; /* what follows is the resolver's EDNS record, if any */
    p[2] = 0x81;
    p[3] = p[13] == 'x' ? 0x83 : 0x80;
    memset(p + 6, 0, 6);
    if (p[13] != 'x') {
        p[7] = 1;
        if (type == TYPE_A) {
            end += put_record(p + end, type, 30, v4, sizeof(v4));
        } else if (type == TYPE_AAAA) {
            end += put_record(p + end, type, 20, v6, sizeof(v6));
        } else {
            end += put_record(p + end, type, 7, srv, sizeof(srv));
        }
    }
    assert_int_equal(sendto(s->fd, p, end, 0, (struct sockaddr *)&from, from_len), (ssize_t)end);
}

/* Waits for an answer; `serving`: and answers questions meanwhile. */
static void wait_answer(struct bp_resolver *r, struct server *s, bool serving, struct bp_answer *a)
{
    for (int i = 0; i < 2000; i++) {
        struct pollfd p[] = {{bp_resolver_fd(r), POLLIN, 0}, {serving ? s->fd : -1, POLLIN, 0}};

        if (bp_resolver_take(r, a)) {
            return;
        }
        assert_true(poll(p, 2, 5000) > 0);
        if (p[1].revents != 0) {
            serve(s);
        }
        if (p[0].revents != 0) {
            bp_resolver_run(r);
        }
    }
    fail();
}

static void resolver_answers_hosts_in_both_families(void **state)
{
    struct server *s = *state;
    struct bp_question q = {.kind = BP_ASK_HOST, .name = "a.example.", .id = 5, .who = 6};
    struct bp_resolver *r;
    struct bp_answer a;
    unsigned v4 = 0;

    assert_int_equal(bp_resolver_new(&r, s->text, 2000), 0);
    assert_int_equal(bp_resolver_ask(r, &q), 0);
    wait_answer(r, s, true, &a);
    assert_int_equal(a.rc, 0);
    assert_int_equal(a.id, 5);
    assert_int_equal(a.who, 6);
    assert_int_equal(a.n, 2);
    assert_int_equal(a.ttl, 20);
    for (size_t i = 0; i < a.n; i++) {
        v4 += a.at[i].u.sa.sa_family == AF_INET;
    }
    assert_int_equal(v4, 1);
    q.family = AF_INET;
    assert_int_equal(bp_resolver_ask(r, &q), 0);
    wait_answer(r, s, true, &a);
    assert_int_equal(a.n, 1);
    assert_int_equal(a.at[0].u.v4.sin_addr.s_addr, inet_addr("192.0.2.1"));
    bp_resolver_del(r);
}

static void resolver_answers_srv(void **state)
{
    struct server *s = *state;
    struct bp_question q = {.kind = BP_ASK_SRV, .name = "_erlang-dist._quic.c.example"};
    struct bp_resolver *r;
    struct bp_answer a;

    assert_int_equal(bp_resolver_new(&r, s->text, 2000), 0);
    assert_int_equal(bp_resolver_ask(r, &q), 0);
    wait_answer(r, s, true, &a);
    assert_int_equal(a.rc, 0);
    assert_int_equal(a.srv.n, 1);
    assert_int_equal(a.ttl, 7);
    assert_int_equal(a.srv.at[0].port, 4433);
    assert_string_equal(a.srv.at[0].target, "h");
    bp_resolver_del(r);
}

static void resolver_says_what_does_not_exist(void **state)
{
    struct server *s = *state;
    struct bp_question q = {.kind = BP_ASK_HOST, .name = "x.example."};
    struct bp_resolver_stats stats;
    struct bp_resolver *r;
    struct bp_answer a;

    assert_int_equal(bp_resolver_new(&r, s->text, 2000), 0);
    assert_int_equal(bp_resolver_ask(r, &q), 0);
    wait_answer(r, s, true, &a);
    assert_int_equal(a.rc, BP_E_NOT_FOUND);
    q.kind = BP_ASK_SRV;
    assert_int_equal(bp_resolver_ask(r, &q), 0);
    wait_answer(r, s, true, &a);
    assert_int_equal(a.rc, BP_E_NOT_FOUND);
    q.name = "";
    assert_int_equal(bp_resolver_ask(r, &q), BP_E_INVALID);
    bp_resolver_stats(r, &stats);
    assert_int_equal(stats.failed, 2);
    bp_resolver_del(r);
    assert_int_equal(bp_resolver_new(&r, "no server", 2000), BP_E_INVALID);
    assert_null(r);
}

static void resolver_gives_up_on_a_silent_server(void **state)
{
    struct server *s = *state;
    struct bp_question q = {.kind = BP_ASK_SRV, .name = "a.example"};
    struct bp_resolver *r;
    struct bp_answer a;

    assert_int_equal(bp_resolver_new(&r, s->text, 20), 0);
    assert_int_equal(bp_resolver_ask(r, &q), 0);
    wait_answer(r, s, false, &a);
    assert_int_equal(a.rc, BP_E_TIMEOUT);
    bp_resolver_del(r);
}

static void resolver_limits_what_is_under_way(void **state)
{
    struct server *s = *state;
    struct bp_question q = {.kind = BP_ASK_SRV, .name = "a.example"};
    struct bp_resolver_stats stats;
    struct bp_resolver *r;

    assert_int_equal(bp_resolver_new(&r, s->text, 20000), 0);
    for (unsigned i = 0; i < BP_RESOLVER_MAX; i++) {
        assert_int_equal(bp_resolver_ask(r, &q), 0);
    }
    assert_int_equal(bp_resolver_ask(r, &q), BP_E_LIMIT);
    bp_resolver_stats(r, &stats);
    assert_int_equal(stats.refused, 1);
    bp_resolver_del(r); /* with all of them under way */
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static const struct CMUnitTest tests[] = {
    TEST(resolver_answers_hosts_in_both_families), TEST(resolver_answers_srv),
    TEST(resolver_says_what_does_not_exist),       TEST(resolver_gives_up_on_a_silent_server),
    TEST(resolver_limits_what_is_under_way),
};

T_MAIN(tests)
