/* SPDX-License-Identifier: Apache-2.0 */
/* A node name belongs to one process of the machine, for as long as that lives. */
#include "support/t.h"

#include "base/err.h"
#include "io/name_claim.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char name[64];

static int setup(void **state)
{
    (void)state;
    snprintf(name, sizeof(name), "claim%ld@host", (long)getpid());
    return 0;
}

static void second_claim_is_refused_and_names_the_process(void **state)
{
    struct bp_errbuf err;
    char pid[24];
    int first;
    int second;

    (void)state;
    snprintf(pid, sizeof(pid), "process %ld ", (long)getpid());
    assert_int_equal(0, bp_name_claim(name, &first, &err));
    assert_string_equal("", err.text);
    /* The one who asks for the holder stays in its queue: asked more often than that is long. */
    for (int i = 0; i < 5; i++) {
        assert_int_equal(BP_E_DUPLICATE_NAME, bp_name_claim(name, &second, &err));
        assert_int_equal(-1, second);
        assert_non_null(strstr(err.text, name));
        assert_non_null(strstr(err.text, "on this machine is already node"));
    }
    assert_int_equal(0, close(first));
    assert_int_equal(0, bp_name_claim(name, &first, NULL));
    assert_int_equal(BP_E_DUPLICATE_NAME, bp_name_claim(name, &second, &err));
    assert_non_null(strstr(err.text, pid));
    assert_int_equal(0, close(first));
}

static void names_of_any_length_are_told_apart(void **state)
{
    char a[256];
    char b[256];
    int fd_a;
    int fd_b;

    (void)state;
    memset(a, 'x', sizeof(a));
    snprintf(a + 150, sizeof(a) - 150, "%s-a", name);
    memcpy(b, a, sizeof(b));
    b[strlen(b) - 1] = 'b';
    assert_int_equal(0, bp_name_claim(a, &fd_a, NULL));
    assert_int_equal(0, bp_name_claim(b, &fd_b, NULL));
    assert_int_equal(0, close(fd_a));
    assert_int_equal(0, close(fd_b));
}

static void claim_of_a_killed_process_is_free(void **state)
{
    int ready[2];
    char byte;
    int status;
    int fd;
    pid_t child;

    (void)state;
    assert_int_equal(0, pipe(ready));
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        byte = bp_name_claim(name, &fd, NULL) == 0 ? 'y' : 'n';
        if (write(ready[1], &byte, 1) == 1) {
            (void)pause();
        }
        _exit(1);
    }
    assert_int_equal(1, read(ready[0], &byte, 1));
    assert_int_equal('y', byte);
    assert_int_equal(BP_E_DUPLICATE_NAME, bp_name_claim(name, &fd, NULL));
    assert_int_equal(0, kill(child, SIGKILL));
    assert_int_equal(child, waitpid(child, &status, 0));
    assert_int_equal(0, bp_name_claim(name, &fd, NULL));
    assert_int_equal(0, close(fd));
    (void)close(ready[0]);
    (void)close(ready[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(second_claim_is_refused_and_names_the_process),
        cmocka_unit_test(names_of_any_length_are_told_apart),
        cmocka_unit_test(claim_of_a_killed_process_is_free),
    };

    return cmocka_run_group_tests(tests, setup, NULL) != 0;
}
