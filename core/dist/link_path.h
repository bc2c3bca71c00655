/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moving a link to another path from either end. QUIC lets only the dialler do that
 * (quic/conn_path.h); the other end asks it to, if it is of our own.
 */
#ifndef BP_LINK_PATH_H
#define BP_LINK_PATH_H

#include "dist/link.h"
#include "quic/conn_path.h"

/*
 * Accepted links: asks the dialler to move; the answer comes with bp_link_path_answered. A question
 * that was not answered is forgotten.
 * Errors: BP_E_NOT_DIALLER (the peer is not of our own), BP_E_STATE (we dialled, or it is not up),
 * BP_E_NOMEM.
 */
int bp_link_path_ask(struct bp_link *l) BP_MUST_CHECK;

/* True once when the answer is there: 0 or the error with which the dialler's attempt ended. */
bool bp_link_path_answered(struct bp_link *l, int *result);

/*
 * True once when the other end has asked; the host moves the link and says what came of it. At most
 * one question in 50 ms gets as far as that; others are answered with BP_E_BUSY.
 */
bool bp_link_path_asked(struct bp_link *l);
void bp_link_path_answer(struct bp_link *l, int result);

#endif
