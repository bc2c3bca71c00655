/* SPDX-License-Identifier: Apache-2.0 */
/* Look-ups in the error table. */
#include "base/err.h"

#include <string.h>

struct err_row {
    int code;
    uint64_t close;
    const char *atom;
    const char *text;
    bool verdict;
};

static const struct err_row rows[] = {
#define X(name, code, close, atom, text)       {code, close, atom, text, false},
#define VERDICT(name, code, close, atom, text) {code, close, atom, text, true},
#include "base/err.def"
#undef X
};

static const struct err_row *find(int err)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].code == err) {
            return &rows[i];
        }
    }
    return NULL;
}

enum bp_err_class bp_err_class(int err)
{
    if (err >= 0) {
        return BP_ERR_NONE;
    }
    if (err > -100) {
        return BP_ERR_PEER;
    }
    return err > -200 ? BP_ERR_LOCAL : BP_ERR_FATAL;
}

const char *bp_err_atom(int err)
{
    const struct err_row *row = find(err);

    if (err == 0) {
        return "ok";
    }
    return row != NULL ? row->atom : "unknown_error";
}

const char *bp_err_text(int err)
{
    const struct err_row *row = find(err);

    if (err == 0) {
        return "ok";
    }
    return row != NULL ? row->text : "unknown error";
}

bool bp_err_is_verdict(int err)
{
    const struct err_row *row = find(err);

    return row != NULL && row->verdict;
}

uint64_t bp_err_close_code(int err)
{
    const struct err_row *row = find(err);

    return row != NULL ? row->close : 0;
}

int bp_err_from_close_code(uint64_t code)
{
    if (code >= 0x100) {
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
            if (rows[i].close == code) {
                return rows[i].code;
            }
        }
    }
    return BP_E_PEER_CLOSED;
}

int bp_err_from_atom(const char *atom)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (strcmp(rows[i].atom, atom) == 0) {
            return rows[i].code;
        }
    }
    return 0;
}

void bp_err_printable(char *out, size_t cap, const void *p, size_t len)
{
    const uint8_t *in = p;
    size_t n = 0;

    for (; n < len && n + 1 < cap; n++) {
        out[n] = in[n] >= 0x20 && in[n] < 0x7f ? (char)in[n] : '?';
    }
    out[n] = '\0';
    if (n < len) {
        memcpy(out + n - 3, "...", 3);
    }
}

unsigned bp_err_index(int err)
{
    const struct err_row *row = find(err);

    return row != NULL ? (unsigned)(row - rows) : BP_ERR_COUNT;
}

int bp_err_at(unsigned index)
{
    return index < BP_ERR_COUNT ? rows[index].code : 0;
}
