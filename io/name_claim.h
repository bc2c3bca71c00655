/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One node of a name on one machine, as EPMD has it: the name is claimed as an address in Linux's
 * abstract Unix namespace. Such an address leaves no file, is shared by all users of a network
 * namespace, and is free again at the moment in which its process ends, however it ends.
 */
#ifndef BP_NAME_CLAIM_H
#define BP_NAME_CLAIM_H

#include "io/files.h"

/*
 * Claims `node` ("n@h"). `*fd` keeps the claim until it is closed; nothing is ever read from it.
 * BP_E_DUPLICATE_NAME: somebody has it; `err` names the process. BP_E_SYSTEM: no socket.
 */
int bp_name_claim(const char *node, int *fd, struct bp_errbuf *err) BP_MUST_CHECK;

#endif
