/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory runs out at each allocation of a link's whole life, on either side: for that one request
 * or for good. The link then works or ends with an error; nothing crashes, hangs or leaks.
 * ngtcp2 takes its memory from the same allocator; GnuTLS has its own, which is not tried here.
 */
#include "sim/traffic.h"
#include "support/t.h"

#define MESSAGES   48u
#define ALLOCS_MAX 20000

/* Fails request number `at` (from 1), with `for_good` all later ones too. */
struct faults {
    struct bp_mem mem;
    long calls;
    long at;
    bool for_good;
    long live;
};

static bool fault(struct faults *f)
{
    f->calls++;
    return f->at != 0 && (f->calls == f->at || (f->for_good && f->calls > f->at));
}

static void *fault_alloc(void *ctx, size_t size)
{
    struct faults *f = ctx;
    void *p = fault(f) ? NULL : malloc(size);

    f->live += p != NULL;
    return p;
}

static void *fault_grow(void *ctx, void *p, size_t size)
{
    struct faults *f = ctx;

    if (p == NULL) {
        return fault_alloc(ctx, size);
    }
    return fault(f) ? NULL : realloc(p, size);
}

static void fault_release(void *ctx, void *p)
{
    struct faults *f = ctx;

    f->live -= p != NULL;
    free(p);
}

static void faults_init(struct faults *f, long at, bool for_good)
{
    *f = (struct faults){
        .mem = {.ctx = f, .alloc = fault_alloc, .grow = fault_grow, .release = fault_release},
        .at = at,
        .for_good = for_good};
}

/* Some small, some that are sent by reference, some that are assembled in a binary. */
static bool send_all(struct sim *s, struct sim_flow *f)
{
    for (uint32_t i = 0; i < MESSAGES; i++) {
        uint32_t who = i % 3;
        size_t payload = i % 7 == 0 ? 40000 : i % 2 == 0 ? 20 : 900;
        if (sim_try_message(f->from, who, f->sent[who]++, payload) != 0) {
            return false;
        }
        f->n_sent++;
        if (i % 8 == 0) {
            sim_flush(s);
        }
    }
    return true;
}

/* False: the link did not live that long. */
static bool life(struct sim *s)
{
    struct sim_flow ab = {.from = &s->a, .to = &s->b};
    struct sim_flow ba = {.from = &s->b, .to = &s->a};
    bp_time until;

    if (sim_dial(s) != 0) {
        return false;
    }
    sim_run_auth(s, 10 * BP_SEC);
    if (!s->a.authenticated || !s->b.authenticated || sim_handshake(s, "a@sim", "b@sim") != 0) {
        return false;
    }
    ab.sent[0] = ba.sent[0] = 90; /* a fence is number 96 */
    ab.got[0] = ba.got[0] = 90;
    if (!send_all(s, &ab) || !send_all(s, &ba)) {
        return false;
    }
    bp_link_tick(s->a.link);
    bp_link_tick(s->b.link);
    sim_flush(s);
    sim_run(s, s->now + 100 * BP_MS);
    bp_link_deliver(s->b.link); /* until now its frames only queued up */
    sim_flush(s);
    until = s->now + 20 * BP_SEC;
    for (;;) {
        sim_receive(&s->b, ab.got, &ab.n_got);
        sim_receive(&s->a, ba.got, &ba.n_got);
        if (ab.n_got == ab.n_sent && ba.n_got == ba.n_sent) {
            break;
        }
        if (s->a.failed || s->b.failed || !sim_step(s, until)) {
            return false;
        }
    }
    bp_link_fail(s->a.link, 0, NULL);
    sim_flush(s);
    sim_run(s, s->now + BP_SEC);
    return true;
}

/* One life with the fault at `at`; false if it has fewer allocations. */
static bool one_life(bool at_b, long at, bool for_good, unsigned *lived)
{
    struct sim s;
    struct faults f;
    struct sim_node *n = at_b ? &s.b : &s.a;
    bool done;

    faults_init(&f, at, for_good);
    sim_init(&s, 300);
    s.setup_timeout = 7 * BP_SEC;
    s.b_holds = true;
    n->mem = &f.mem;
    done = life(&s);
    sim_flush(&s); /* what a send refused with comes as an event */
    *lived += done;
    if (!done && !s.a.failed && !s.b.failed && s.a.link != NULL) {
        fail_msg("allocation %ld at %s: the link hangs", at, at_b ? "b" : "a");
    }
    if (n->link != NULL && n->failed) {
        assert_true(bp_link_error(n->link) < 0);
        assert_true(done || bp_link_error(n->link) != BP_E_TIMEOUT);
        assert_true(bp_link_error_text(n->link)[0] != '\0');
    }
    sim_free(&s);
    if (f.live != 0) {
        fail_msg("allocation %ld at %s: %ld objects leak", at, at_b ? "b" : "a", f.live);
    }
    assert_int_equal(s.a.owners + s.b.owners, 0);
    assert_int_equal(s.a.bins + s.b.bins, 0);
    return f.calls >= at;
}

static void every_allocation(bool at_b, bool for_good)
{
    unsigned lived = 0;
    long at = 1;

    while (one_life(at_b, at, for_good, &lived)) {
        at++;
        assert_true(at < ALLOCS_MAX);
    }
    printf("# %ld allocations, %u lives in full\n", at - 1, lived);
    assert_true(at > 100);
    assert_true(lived >= 1);
}

static void faults_at_dialler_once(void **state)
{
    (void)state;
    every_allocation(false, false);
}

static void faults_at_dialler_for_good(void **state)
{
    (void)state;
    every_allocation(false, true);
}

static void faults_at_acceptor_once(void **state)
{
    (void)state;
    every_allocation(true, false);
}

static void faults_at_acceptor_for_good(void **state)
{
    (void)state;
    every_allocation(true, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults_at_dialler_once),
        cmocka_unit_test(faults_at_dialler_for_good),
        cmocka_unit_test(faults_at_acceptor_once),
        cmocka_unit_test(faults_at_acceptor_for_good),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
