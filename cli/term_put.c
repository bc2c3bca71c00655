/* SPDX-License-Identifier: Apache-2.0 */
/* Characters, atoms and floats as Erlang writes them. */
#include "cli/term_put.h"

#include "base/err.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void put_code(FILE *f, uint32_t c)
{
    char utf8[4];

    (void)fwrite(utf8, 1, term_utf8_put(c, utf8), f);
}

void term_put_quoted(FILE *f, uint32_t c, char quote)
{
    static const char controls[] = "\b\177\033\f\n\r\t\v";
    static const char letters[] = "bdefnrtv";
    const char *p = c != 0 && c < 128 ? strchr(controls, (int)c) : NULL;

    if (p != NULL) {
        fprintf(f, "\\%c", letters[p - controls]);
    } else if (c < 32 || (c >= 127 && c < 160)) {
        fprintf(f, "\\%03o", (unsigned)c);
    } else {
        if (c == (uint32_t)quote || c == '\\') {
            putc('\\', f);
        }
        put_code(f, c);
    }
}

bool term_printable(uint32_t c)
{
    return (c >= 32 && c < 127) || (c >= 8 && c <= 13) || c == 27 || (c >= 160 && c < 0xd800) ||
           (c >= 0xe000 && c < 0xfffe) || (c >= 0x10000 && c <= 0x10ffff);
}

int term_put_atom(FILE *f, const char *p, size_t len)
{
    bool plain = len > 0 && !term_reserved(p, len, true);
    size_t n;

    for (size_t i = 0; i < len; i += n) {
        int32_t c = term_utf8(p + i, p + len, &n);
        if (c < 0) {
            return BP_E_INVALID;
        }
        plain = plain && (i == 0 ? term_small((uint32_t)c) : term_inner((uint32_t)c));
    }
    if (plain) {
        (void)fwrite(p, 1, len, f);
        return 0;
    }
    putc('\'', f);
    for (size_t i = 0; i < len; i += n) {
        term_put_quoted(f, (uint32_t)term_utf8(p + i, p + len, &n), '\'');
    }
    putc('\'', f);
    return 0;
}

/*
 * The fewest decimal digits that give `d` (positive) again, into `digits`; returns the exponent of
 * the first one. At a power of two the neighbour below is nearer than that above, and the digits
 * that are one higher may fit where the nearest ones do not.
 */
static int shortest(double d, char digits[static 32])
{
    char text[64];
    int e = 0;

    for (int n = 0; n <= 16; n++) {
        for (int up = 0; up < 2; up++) {
            int len;
            (void)snprintf(text, sizeof(text), "%.*e", n, d);
            digits[0] = text[0];
            len = 1;
            for (const char *p = text + 1; *p != 'e'; p++) {
                if (*p != '.') {
                    digits[len++] = *p;
                }
            }
            digits[len] = '\0';
            e = atoi(strchr(text, 'e') + 1);
            if (up == 1) {
                if (digits[len - 1] == '9') {
                    continue;
                }
                digits[len - 1]++;
            }
            (void)snprintf(text, sizeof(text), "%c.%se%d", digits[0], len > 1 ? digits + 1 : "0",
                           e);
            if (strtod(text, NULL) == d) {
                return e;
            }
        }
    }
    return e;
}

void term_put_float(FILE *f, double d)
{
    char digits[32] = "0";
    int e = d != 0 ? shortest(fabs(d), digits) : 0;
    int n = (int)strlen(digits);
    int plain; /* characters */
    int scientific;
    char exponent[16];

    while (n > 1 && digits[n - 1] == '0') {
        digits[--n] = '\0';
    }
    plain = e < 0 ? n + 1 - e : e + 1 < n ? n + 1 : e + 3;
    scientific = (n > 1 ? n + 1 : 3) + snprintf(exponent, sizeof(exponent), "e%d", e);
    if (signbit(d)) {
        putc('-', f);
    }
    if (scientific < plain || fabs(d) >= 9007199254740992.0) {
        fprintf(f, "%c.%s%s", digits[0], n > 1 ? digits + 1 : "0", exponent);
    } else if (e < 0) {
        fprintf(f, "0.%.*s%s", -e - 1, "0000000000", digits);
    } else if (e + 1 < n) {
        fprintf(f, "%.*s.%s", e + 1, digits, digits + e + 1);
    } else {
        fprintf(f, "%s%.*s.0", digits, e + 1 - n, "00000000000000000000");
    }
}
