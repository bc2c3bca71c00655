/* SPDX-License-Identifier: Apache-2.0 */
/* Erlang terms: any bytes as text, and as an encoded term. What is read is printed, and what is
 * printed is read again as the same term. */
#include "fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "cli/term_json.h"

static void check(int ok)
{
    if (!ok) {
        abort();
    }
}

static void check_rc(int rc)
{
    check(rc == 0 || rc == BP_E_INVALID || rc == BP_E_LIMIT);
}

/* Identifiers and local funs are printed, but are no Erlang text. */
static bool readable(const char *text)
{
    return strstr(text, "#Pid<") == NULL && strstr(text, "#Ref<") == NULL &&
           strstr(text, "#Port<") == NULL && strstr(text, "#Fun<") == NULL;
}

/* Prints what `x` holds, reads it, prints that: the same text. */
static void there_and_back(ei_x_buff *x, enum cli_term_style style, bool own)
{
    struct cli_term_err err;
    ei_x_buff y;
    char *text = NULL;
    char *again = NULL;
    size_t len = 0;
    int at = 0;
    int rc = cli_term_string(x, &at, style, &text, &len);

    check_rc(rc);
    check(!own || rc == 0);
    check((rc == 0) == (text != NULL));
    if (rc != 0 || !readable(text)) {
        free(text);
        return;
    }
    check(ei_x_new(&y) == 0);
    rc = cli_term_parse(text, len, CLI_TERM_ARG, &y, &err);
    check(own ? rc == 0 : rc != BP_E_NOMEM);
    if (rc == 0 && own) {
        at = 0;
        check(cli_term_string(&y, &at, style, &again, NULL) == 0);
        check(at == y.index && strcmp(text, again) == 0);
    }
    free(again);
    free(text);
    (void)ei_x_free(&y);
}

static void as_text(const uint8_t *data, size_t size, enum cli_term_end end)
{
    struct cli_term_err err;
    ei_x_buff x;
    int rc;

    check(ei_x_new(&x) == 0);
    rc = cli_term_parse((const char *)data, size, end, &x, &err);
    check_rc(rc);
    check((rc != 0) == (err.text[0] != '\0'));
    check(rc == 0 ? x.index > 0 : x.index == 0 && err.line > 0 && err.column > 0);
    if (rc == 0) {
        there_and_back(&x, CLI_TERM_PLAIN, true);
        there_and_back(&x, CLI_TERM_PRETTY, true);
    }
    (void)ei_x_free(&x);
}

static void to_json(ei_x_buff *x)
{
    json_t *o;
    int at = 0;
    int rc = cli_term_json(x, &at, &o);

    check_rc(rc);
    check((rc == 0) == (o != NULL) && at <= x->index);
    json_decref(o);
}

static void as_term(const uint8_t *data, size_t size)
{
    ei_x_buff x;

    check(ei_x_new(&x) == 0 && ei_x_append_buf(&x, (const char *)data, (int)size) == 0);
    there_and_back(&x, CLI_TERM_PLAIN, false);
    there_and_back(&x, CLI_TERM_PRETTY, false);
    to_json(&x);
    (void)ei_x_free(&x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    as_text(data, size, CLI_TERM_ARG);
    as_text(data, size, CLI_TERM_FILE);
    as_term(data, size);
    return 0;
}
