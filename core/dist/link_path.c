/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asking the dialler to move (link_path.h): words of four bytes on stream 0, beside ticks and those
 * of link_idle.c, between nodes of our own.
 *
 *   'm', kind, round, result    kind 1 ASK, 2 ANSWER; result: a place in `results`
 */
#include "dist/link_path.h"
#include "dist/link_impl.h"

#define ASK_PAUSE (50 * BP_MS)

enum word { ASK = 1, ANSWER = 2 };

static const int results[] = {
    0,         BP_E_MIGRATION_DISABLED, BP_E_NO_SPARE_CID, BP_E_TIMEOUT, BP_E_PATH_FAILED,
    BP_E_BUSY, BP_E_NOT_DIALLER};
#define N_RESULTS     (sizeof(results) / sizeof(results[0]))
#define RESULT_FAILED 4u

static uint8_t place_of(int result)
{
    for (unsigned i = 0; i < N_RESULTS; i++) {
        if (results[i] == result) {
            return (uint8_t)i;
        }
    }
    return RESULT_FAILED;
}

static void put_word(struct bp_link *l, enum word kind, uint8_t round, uint8_t result)
{
    const uint8_t word[4] = {BP_LINK_PATH_TAG, (uint8_t)kind, round, result};

    if (bp_conn_put_copy(l->conn, (unsigned)l->control_slot, word, sizeof(word)) != 0) {
        bp_link_fail(l, BP_E_NOMEM, NULL);
    }
}

int bp_link_path_ask(struct bp_link *l)
{
    if (l->phase != BP_LINK_UP || !l->server) {
        return BP_E_STATE;
    }
    if (!bp_conn_peer_is_ours(l->conn)) {
        return BP_E_NOT_DIALLER;
    }
    l->path.asking = true;
    l->path.answered = false;
    l->path.round++;
    put_word(l, ASK, l->path.round, 0);
    return l->phase == BP_LINK_UP ? 0 : BP_E_NOMEM;
}

bool bp_link_path_answered(struct bp_link *l, int *result)
{
    bool was = l->path.answered;

    l->path.answered = false;
    *result = l->path.result;
    return was;
}

bool bp_link_path_asked(struct bp_link *l)
{
    bool was = l->path.asked;

    l->path.asked = false;
    if (l->path.busy_due && l->phase == BP_LINK_UP) {
        l->path.busy_due = false;
        put_word(l, ANSWER, l->path.busy_round, place_of(BP_E_BUSY));
    }
    return was;
}

void bp_link_path_answer(struct bp_link *l, int result)
{
    if (l->phase == BP_LINK_UP && l->path.answer_due) {
        l->path.answer_due = false;
        put_word(l, ANSWER, l->path.peer_round, place_of(result));
    }
}

static void on_ask(struct bp_link *l, uint8_t round)
{
    if (l->server) {
        return; /* nothing that a node of ours would say */
    }
    if (l->path.answer_due || (l->path.asked_at != 0 && l->now - l->path.asked_at < ASK_PAUSE)) {
        l->path.busy_due = true; /* this is a callback of QUIC's: said by bp_link_path_asked */
        l->path.busy_round = round;
        return;
    }
    l->path.asked = true;
    l->path.answer_due = true;
    l->path.peer_round = round;
    l->path.asked_at = l->now;
}

void bp_link_path_word(struct bp_link *l, const uint8_t word[4])
{
    if (l->phase != BP_LINK_UP) {
        return; /* it is up over there already; there will be no answer */
    }
    if (word[1] == ASK) {
        on_ask(l, word[2]);
    } else if (word[1] == ANSWER && l->path.asking && word[2] == l->path.round) {
        l->path.asking = false;
        l->path.answered = true;
        l->path.result = results[word[3] < N_RESULTS ? word[3] : RESULT_FAILED];
    }
}
