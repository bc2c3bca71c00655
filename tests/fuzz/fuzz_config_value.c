/* SPDX-License-Identifier: Apache-2.0 */
/* Text of a configuration file: whatever parses is looked at by the rules of every key. */
#include "fuzz.h"

#include "cli/config.h"
#include "cli/term_text.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cli_term_err err;
    ei_x_buff x;

    if (ei_x_new(&x) != 0) {
        return 0;
    }
    if (cli_term_parse((const char *)data, size, CLI_TERM_FILE, &x, &err) == 0) {
        struct cli_value v = {&x, 0};
        struct cli_list l;
        struct cli_value e;

        for (size_t i = 0; i < cli_n_keys; i++) {
            (void)cli_key_accepts(&cli_keys[i], v);
        }
        if (cli_list_begin(&l, v)) {
            while (cli_list_next(&l, &e)) {
                for (size_t i = 0; i < cli_n_keys; i++) {
                    (void)cli_key_accepts(&cli_keys[i], e);
                }
            }
        }
        free(cli_value_print(v));
    }
    (void)ei_x_free(&x);
    return 0;
}
