/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command's text form of terms as an Erlang port ({packet, 4}), so that a node can compare it
 * with its own. First byte of a request: 'p' parses the text that follows (answer: a term with its
 * version byte, or "LINE:COLUMN: why"), 'w' and 't' print the term that follows, plain or pretty.
 * First byte of an answer: 'o' or 'e'.
 */
#include "cli/term_text.h"

#include "base/err.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool get(void *p, size_t len)
{
    while (len > 0) {
        ssize_t n = read(STDIN_FILENO, p, len);
        if (n <= 0) {
            return false;
        }
        p = (char *)p + n;
        len -= (size_t)n;
    }
    return true;
}

static bool put(const void *p, size_t len)
{
    while (len > 0) {
        ssize_t n = write(STDOUT_FILENO, p, len);
        if (n <= 0) {
            return false;
        }
        p = (const char *)p + n;
        len -= (size_t)n;
    }
    return true;
}

static bool answer(char kind, const void *p, size_t len)
{
    size_t all = len + 1;
    uint8_t head[5] = {(uint8_t)(all >> 24), (uint8_t)(all >> 16), (uint8_t)(all >> 8),
                       (uint8_t)all, (uint8_t)kind};

    return put(head, sizeof(head)) && put(p, len);
}

static bool parse(const char *text, size_t len)
{
    struct cli_term_err err;
    char why[256];
    ei_x_buff x;
    bool ok;

    if (ei_x_new_with_version(&x) != 0) {
        return false;
    }
    if (cli_term_parse(text, len, CLI_TERM_ARG, &x, &err) == 0) {
        ok = answer('o', x.buff, (size_t)x.index);
    } else {
        (void)snprintf(why, sizeof(why), "%u:%u: %s", err.line, err.column, err.text);
        ok = answer('e', why, strlen(why));
    }
    (void)ei_x_free(&x);
    return ok;
}

static bool print(const char *p, size_t len, enum cli_term_style style)
{
    ei_x_buff x;
    int at = 0;
    int version;
    char *text = NULL;
    size_t text_len = 0;
    bool ok;
    int rc;

    if (ei_x_new(&x) != 0 || ei_x_append_buf(&x, p, (int)len) != 0 ||
        ei_decode_version(x.buff, &at, &version) != 0) {
        return false;
    }
    rc = cli_term_string(&x, &at, style, &text, &text_len);
    if (rc == 0 && at != x.index) {
        rc = BP_E_INTERNAL;
    }
    ok = rc == 0 ? answer('o', text, text_len)
                 : answer('e', bp_err_atom(rc), strlen(bp_err_atom(rc)));
    free(text);
    (void)ei_x_free(&x);
    return ok;
}

int main(void)
{
    uint8_t head[4];
    bool ok = ei_init() == 0;

    while (ok && get(head, sizeof(head))) {
        size_t len = (size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];
        char *p = malloc(len + 1);
        ok = p != NULL && len > 0 && get(p, len);
        if (ok && p[0] == 'p') {
            ok = parse(p + 1, len - 1);
        } else if (ok) {
            ok = print(p + 1, len - 1, p[0] == 't' ? CLI_TERM_PRETTY : CLI_TERM_PLAIN);
        }
        free(p);
    }
    return ok ? 0 : 1;
}
