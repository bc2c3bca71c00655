/* SPDX-License-Identifier: Apache-2.0 */
/* Reports of the kernel: what matters, and what is no report. */
#include "io/route_watch.h"
#include "support/t.h"

#include <linux/rtnetlink.h>
#include <string.h>
#include <unistd.h>

struct report {
    struct nlmsghdr h;
    struct rtmsg r;
};

static struct report route(uint16_t type, uint8_t kind, uint32_t flags)
{
    struct report m = {.h = {.nlmsg_len = sizeof(m), .nlmsg_type = type},
                       .r = {.rtm_type = kind, .rtm_flags = flags}};
    return m;
}

static bool relevant(const void *p, size_t len)
{
    return bp_route_watch_relevant(p, len);
}

static void only_routes_to_others_matter(void **state)
{
    const uint16_t types[] = {RTM_NEWROUTE, RTM_DELROUTE};

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct report m = route(types[i], RTN_UNICAST, 0);
        assert_true(relevant(&m, sizeof(m)));
        m = route(types[i], RTN_BLACKHOLE, 0);
        assert_true(relevant(&m, sizeof(m)));
        m = route(types[i], RTN_LOCAL, 0);
        assert_false(relevant(&m, sizeof(m)));
        m = route(types[i], RTN_BROADCAST, 0);
        assert_false(relevant(&m, sizeof(m)));
        m = route(types[i], RTN_UNICAST, RTM_F_CLONED);
        assert_false(relevant(&m, sizeof(m)));
    }
    {
        struct report m = route(RTM_NEWLINK, RTN_UNICAST, 0);
        assert_false(relevant(&m, sizeof(m)));
        m = route(RTM_DELADDR, 0, 0);
        assert_true(relevant(&m, sizeof(m)));
    }
}

static void later_reports_of_a_datagram_count(void **state)
{
    struct report m[3] = {route(RTM_NEWLINK, 0, 0), route(RTM_NEWROUTE, RTN_LOCAL, 0),
                          route(RTM_NEWADDR, 0, 0)};

    (void)state;
    assert_true(relevant(m, sizeof(m)));
    assert_false(relevant(m, 2 * sizeof(m[0])));
}

static void what_is_cut_off_is_no_report(void **state)
{
    struct report m = route(RTM_NEWROUTE, RTN_UNICAST, 0);

    (void)state;
    for (size_t len = 0; len < sizeof(m); len++) {
        assert_false(relevant(&m, len));
    }
    m.h.nlmsg_len = 3;
    assert_false(relevant(&m, sizeof(m)));
    m.h.nlmsg_len = sizeof(struct nlmsghdr);
    assert_false(relevant(&m, sizeof(m)));
}

static void kernel_is_listened_to(void **state)
{
    int fd = -1;

    (void)state;
    assert_int_equal(bp_route_watch_open(&fd), 0);
    assert_false(bp_route_watch_read(fd));
    assert_int_equal(close(fd), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_routes_to_others_matter),
        cmocka_unit_test(later_reports_of_a_datagram_count),
        cmocka_unit_test(what_is_cut_off_is_no_report),
        cmocka_unit_test(kernel_is_listened_to),
    };

    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
