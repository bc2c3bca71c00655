/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Closing a connection that nobody uses, with the other end's consent (link.h). Between nodes of
 * our own, stream 0 carries besides ticks words of four bytes that are not zero:
 *
 *   'i', kind, Round:16     kind 1 ASK, 2 ASK about a temporary connection, 3 YES, 4 NO
 *
 *   asks: nothing unacknowledged ------- ASK(n) ----->  the host is asked, then this link
 *   still nothing taken or received? <-- YES(n) ------  nothing unacknowledged here either
 *   the host has a look at its VM
 *   CONNECTION_CLOSE(idle_channel) ------------------>
 *
 * Whoever asks calls it off when a message of the VM comes or goes meanwhile: that alone tells the
 * other end, which only has to forget that it agreed. What is lost is what the answering end's VM
 * hands out between its YES and the close: one round trip (counted: bp_link_idle_lost).
 */
#include "dist/link_impl.h"

#include <stdio.h>

#define WORD_TAG  0x69u
#define ASK_PAUSE (50 * BP_MS) /* between two questions that the host gets to see */
#define ANSWER    (5 * BP_SEC) /* the same question is not put again before */

enum word { ASK = 1, ASK_TEMPORARY = 2, YES = 3, NO = 4 };

/* All messages so far, both directions. */
static uint64_t messages(const struct bp_link *l)
{
    return l->taken + l->frames.total_frames;
}

/* Those of processes that use the connection; while a greeting is not answered, one less. */
static uint64_t used(const struct bp_link *l)
{
    return messages(l) - l->idle.own - 2 * l->idle.greetings;
}

void bp_link_idle_note(struct bp_link *l)
{
    uint64_t now = used(l);

    if (now != l->used) {
        l->used = now;
        l->used_at = l->now;
    }
}

void bp_link_idle_begin(struct bp_link *l)
{
    l->up_at = l->now;
    l->used_at = l->now;
}

/* Nothing is on its way: not in our queues, not unacknowledged, not half received. */
static bool quiet(const struct bp_link *l)
{
    if (l->held_head != NULL || bp_conn_unsent(l->conn) != 0 || l->frames.n != 0 ||
        l->frames.unfinished.bytes != 0 || l->frames.unfinished.n != 0) {
        return false;
    }
    for (unsigned i = 0; i < l->n_streams; i++) {
        if (l->data_slots[i] >= 0 && bp_conn_acked(l->conn, (unsigned)l->data_slots[i]) !=
                                         bp_conn_queued(l->conn, (unsigned)l->data_slots[i])) {
            return false;
        }
    }
    return true;
}

enum bp_link_use bp_link_idle(struct bp_link *l, bp_time min_idle, bool temporary, bp_time now)
{
    bp_link_idle_note(l);
    if (l->phase != BP_LINK_UP || !l->delivering) {
        return BP_LINK_NOT_UP;
    }
    if (!bp_conn_peer_is_ours(l->conn)) {
        return BP_LINK_NOT_OURS;
    }
    if (l->idle.doubtful) {
        return BP_LINK_DOUBTFUL;
    }
    if (l->idle.n != 0 || bp_link_user_streams(l) != 0) {
        return BP_LINK_LIVE;
    }
    if (temporary ? (int64_t)l->used > 0 : now - l->used_at < min_idle) {
        return BP_LINK_USED;
    }
    if ((int64_t)l->used < 0) {
        return BP_LINK_UNSENT; /* a greeting is not answered */
    }
    if (!temporary && now - l->up_at < min_idle) {
        return BP_LINK_YOUNG;
    }
    return quiet(l) ? BP_LINK_IDLE : BP_LINK_UNSENT;
}

static void put_word(struct bp_link *l, enum word kind, uint16_t round)
{
    const uint8_t word[4] = {WORD_TAG, (uint8_t)kind, (uint8_t)(round >> 8), (uint8_t)round};

    if (bp_conn_put_copy(l->conn, (unsigned)l->control_slot, word, sizeof(word)) != 0) {
        bp_link_fail(l, BP_E_NOMEM, NULL);
    }
}

/* --- asking ---------------------------------------------------------------- */

enum bp_link_use bp_link_idle_ask(struct bp_link *l, bp_time min_idle, bool temporary, bp_time now)
{
    enum bp_link_use use = bp_link_idle(l, min_idle, temporary, now);

    bool waiting = (l->ask.asked || l->ask.due) && l->ask.messages == messages(l) &&
                   now - l->ask.asked_at < ANSWER;

    if (use == BP_LINK_IDLE && !waiting) {
        l->ask.round++;
        l->ask.due = false;
        l->ask.asked = true;
        l->ask.asked_at = now;
        l->ask.messages = messages(l);
        put_word(l, temporary ? ASK_TEMPORARY : ASK, l->ask.round);
    }
    return use;
}

static void on_yes(struct bp_link *l, uint16_t round)
{
    if (!l->ask.asked || round != l->ask.round) {
        return;
    }
    l->ask.asked = false;
    l->ask.due = true;
}

bool bp_link_idle_due(const struct bp_link *l)
{
    return l->ask.due && l->phase == BP_LINK_UP;
}

bool bp_link_idle_close(struct bp_link *l)
{
    if (!bp_link_idle_due(l)) {
        return false;
    }
    l->ask.due = false;
    if (messages(l) != l->ask.messages || l->idle.n != 0 || bp_link_user_streams(l) != 0 ||
        l->idle.doubtful || !quiet(l)) {
        l->stats.idle_called_off++;
        return false;
    }
    bp_link_fail(l, BP_E_IDLE, "nobody used it, and the peer agreed to close it");
    return true;
}

/* --- being asked ------------------------------------------------------------- */

static void on_ask(struct bp_link *l, uint16_t round, bool temporary)
{
    const struct bp_link_event ev = {.kind = BP_LINK_EV_IDLE_ASKED};

    if ((l->ask.asked || l->ask.due) && !l->server) {
        return; /* both ask at once: the server answers */
    }
    /* Nodes ask seldom, and again if there is no answer. */
    if (l->ask.event_at != 0 && l->now - l->ask.event_at < ASK_PAUSE) {
        return;
    }
    l->ask.asked = false;
    l->ask.due = false;
    l->ask.answer_due = true;
    l->ask.peer_round = round;
    l->ask.peer_temporary = temporary;
    l->ask.event_at = l->now;
    bp_link_event(l, &ev);
}

enum bp_link_use bp_link_idle_answer(struct bp_link *l, bool allowed, bp_time min_idle, bp_time now)
{
    enum bp_link_use use = bp_link_idle(l, min_idle, l->ask.peer_temporary, now);

    if (!l->ask.answer_due || use == BP_LINK_NOT_UP) {
        return BP_LINK_NOT_UP;
    }
    l->ask.answer_due = false;
    if (!allowed && use == BP_LINK_IDLE) {
        use = BP_LINK_USED;
    }
    if (use == BP_LINK_IDLE) {
        l->ask.agreed = true;
        l->ask.agreed_at = now;
        l->ask.agreed_taken = l->taken;
        l->ask.agreed_frames = l->frames.total_frames;
    }
    put_word(l, use == BP_LINK_IDLE ? YES : NO, l->ask.peer_round);
    return use;
}

void bp_link_idle_closed(struct bp_link *l)
{
    uint64_t us = l->now > l->ask.agreed_at ? (l->now - l->ask.agreed_at) / 1000 : 0;

    if (!l->ask.agreed || l->ask.agreed_frames != l->frames.total_frames) {
        snprintf(l->text, sizeof(l->text), "the peer closed it because nobody used it");
        return;
    }
    l->stats.idle_lost = l->taken - l->ask.agreed_taken;
    l->stats.idle_window_us = us;
    snprintf(l->text, sizeof(l->text),
             "nobody used it, and we agreed to close it %llu us ago; messages lost meanwhile: %llu",
             (unsigned long long)us, (unsigned long long)l->stats.idle_lost);
}

/* --- words ------------------------------------------------------------------- */

int bp_link_idle_word(struct bp_link *l, const uint8_t word[4])
{
    uint16_t round = (uint16_t)(word[2] << 8 | word[3]);

    if (word[0] != WORD_TAG || !bp_conn_peer_is_ours(l->conn)) {
        return BP_E_HS_MALFORMED;
    }
    if (l->phase != BP_LINK_UP) {
        return 0; /* it is up over there already; it will ask again */
    }
    switch (word[1]) {
    case ASK:
    case ASK_TEMPORARY:
        on_ask(l, round, word[1] == ASK_TEMPORARY);
        return 0;
    case YES:
        on_yes(l, round);
        return 0;
    case NO:
        if (round == l->ask.round) {
            l->ask.asked = false;
            l->stats.idle_refused++;
        }
        return 0;
    default:
        return 0; /* of a later version, which may say more */
    }
}
