/* SPDX-License-Identifier: Apache-2.0 */
/* All of libbarrel_p2p but barrel_p2p/ei.h, which needs libei's header. */
#ifndef BARREL_P2P_H
#define BARREL_P2P_H

#include <barrel_p2p/discovery.h>
#include <barrel_p2p/error.h>
#include <barrel_p2p/node.h>
#include <barrel_p2p/relay.h>

#endif
