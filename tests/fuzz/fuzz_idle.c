/* SPDX-License-Identifier: Apache-2.0 */
/* What is alive across a connection: any messages, either direction, and every shorter one. */
#include "fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "dist/idle.h"

static void check(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void sound(const struct bp_idle *i)
{
    uint32_t n = 0;

    check((i->cap & (i->cap - 1)) == 0 && i->cap <= BP_IDLE_MAX && i->n <= i->cap / 2);
    check(!i->doubtful || i->n == 0);
    for (uint32_t k = 0; k < i->cap; k++) {
        n += i->live[k] != 0;
    }
    check(n == i->n);
}

/* Len:7 and the direction, then that much of a message in a block of its own. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bp_idle all;

    bp_idle_init(&all, bp_mem_libc());
    while (size > 0) {
        bool out = (data[0] & 0x80) != 0;
        size_t len = (data[0] & 0x7fu) < size ? data[0] & 0x7fu : size - 1;
        uint8_t *exact = malloc(len + 1);
        check(exact != NULL);
        memcpy(exact + 1, data + 1, len);
        for (size_t n = 0; n < len; n++) {
            struct bp_idle cut;
            uint8_t *shorter = malloc(n + 1);
            check(shorter != NULL);
            memcpy(shorter + 1, exact + 1, n);
            bp_idle_init(&cut, bp_mem_libc());
            bp_idle_message(&cut, shorter + 1, n, out);
            sound(&cut);
            bp_idle_free(&cut);
            free(shorter);
        }
        bp_idle_message(&all, exact + 1, len, out);
        sound(&all);
        free(exact);
        data += len + 1;
        size -= len + 1;
    }
    bp_idle_free(&all);
    return 0;
}
