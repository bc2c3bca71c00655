/* SPDX-License-Identifier: Apache-2.0 */
/* Error codes of every layer: 0 is success, the table is err.def. */
#ifndef BP_ERR_H
#define BP_ERR_H

#include "base/types.h"

enum bp_err {
    BP_OK = 0,
#define X(name, code, close, atom, text) BP_E_##name = (code),
#include "base/err.def"
#undef X
};

enum bp_err_class {
    BP_ERR_NONE,  /* success */
    BP_ERR_PEER,  /* the peer's fault: close this connection */
    BP_ERR_LOCAL, /* try later, or tell the caller */
    BP_ERR_FATAL  /* destroy the object */
};

enum bp_err_class bp_err_class(int err);

/* The error's name as Erlang and log lines show it ("key_mismatch"); never NULL. */
const char *bp_err_atom(int err);

/* One sentence for people; never NULL. */
const char *bp_err_text(int err);

/* Whether the node that was dialled has decided: no other address of it can help. */
bool bp_err_is_verdict(int err);

/* The application error code that CONNECTION_CLOSE carries for it (RFC 9000, 19.19). */
uint64_t bp_err_close_code(int err);

/* The error whose close code a peer sent, or BP_E_PEER_CLOSED where it says nothing more. */
int bp_err_from_close_code(uint64_t code);

/* Bytes of a peer for a sentence: printable ASCII, '?' for others; what `cap`, NUL included, has no
 * room for ends in "...". `cap` is at least 4. */
void bp_err_printable(char *out, size_t cap, const void *p, size_t len);

/* Tables of what happened to each error: its place, BP_ERR_COUNT if it is none, and back. */
enum bp_err_index {
#define X(name, code, close, atom, text) BP_ERR_INDEX_##name,
#include "base/err.def"
#undef X
    BP_ERR_COUNT
};
unsigned bp_err_index(int err);
int bp_err_at(unsigned index);

/* The error of that name (bp_err_atom), 0 if it is none's. */
int bp_err_from_atom(const char *atom);

#endif
