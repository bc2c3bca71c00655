/* SPDX-License-Identifier: Apache-2.0 */
/* Whole links against each other over good and bad networks, in virtual time. */
#include "sim/world.h"
#include "support/t.h"

#include "base/rw.h"

static void connect_up(struct sim *s)
{
    assert_int_equal(sim_dial(s), 0);
    sim_run_auth(s, 30 * BP_SEC);
    assert_string_equal(s->a.failed ? bp_link_error_text(s->a.link) : "", "");
    assert_true(s->a.authenticated);
    assert_true(s->b.authenticated);
    assert_int_equal(sim_handshake(s, "a@sim", "b@sim"), 0);
}

static void link_clean_network_authenticates(void **state)
{
    struct sim s;

    (void)state;
    sim_init(&s, 1);
    connect_up(&s);
    assert_string_equal(s.a.peer, "b@sim");
    assert_string_equal(s.b.peer, "a@sim");
    assert_true(s.a.pin_wanted && s.b.pin_wanted);
    assert_true(s.a.has_key && s.b.has_key);
    sim_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(link_clean_network_authenticates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
