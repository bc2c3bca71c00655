/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bulk gives way. A scheduler of the VM looks for input between callbacks only, and is often the
 * only one awake: all other connections wait for what one does in a callback. While another one is
 * active, a connection with much to send sends little at a time, and the VM polls in between.
 */
#include "driver/drv.h"

#include <stdatomic.h>

#define BULK_FOR (10 * BP_MS) /* after a full batch */
#define GRAIN    (BP_MS / 8)  /* of what connections tell each other */

/* When a connection without bulk was active, and which. Written apart: a wrong pair costs a turn.
 */
static _Atomic bp_time light_at;
static _Atomic(const struct drv_turn *) light;
/* When one of them sent, and when bulk last gave way: the one is noted only if the other was just
 * now. */
static _Atomic bp_time sent_at;
static _Atomic bp_time gave_way_at;

void drv_turn_active(const struct drv_turn *t, bp_time now)
{
    if (now - t->bulk_at > BULK_FOR &&
        now - atomic_load_explicit(&light_at, memory_order_relaxed) > GRAIN) {
        atomic_store_explicit(&light, t, memory_order_relaxed);
        atomic_store_explicit(&light_at, now, memory_order_relaxed);
    }
}

bool drv_turn_brief(const struct drv_turn *t, bp_time now)
{
    return now - atomic_load_explicit(&light_at, memory_order_relaxed) < DRV_BRIEF_FOR &&
           atomic_load_explicit(&light, memory_order_relaxed) != t;
}

void drv_turn_sent(const struct drv_turn *t, bp_time now)
{
    if (now - atomic_load_explicit(&gave_way_at, memory_order_relaxed) < BULK_FOR &&
        now - t->bulk_at > BULK_FOR) {
        atomic_store_explicit(&sent_at, now, memory_order_relaxed);
    }
}

void drv_turn_over(struct drv_turn *t, bool brief, bp_time now)
{
    t->bulk_at = now;
    t->over = brief ? now : 0;
    t->polls = brief ? DRV_BRIEF_POLLS : 0;
    if (brief) {
        atomic_store_explicit(&gave_way_at, now, memory_order_relaxed);
    }
}

bool drv_turn_waits(const struct drv_turn *t, bp_time now)
{
    bp_time sent;

    if (t->polls > 0 || t->over == 0 || now - t->over >= DRV_BRIEF_WAIT) {
        return t->polls > 0;
    }
    sent = atomic_load_explicit(&sent_at, memory_order_relaxed);
    return sent <= t->over && t->over - sent < DRV_BRIEF_ANSWER;
}
