/* SPDX-License-Identifier: Apache-2.0 */
/* Messages over simulated links. */
#include "sim/traffic.h"

#include "base/rw.h"
#include "support/t.h"

#define BUSY_BYTES 524288u /* the driver's high-water mark */

void sim_connect_up(struct sim *s)
{
    assert_int_equal(sim_dial(s), 0);
    sim_run_auth(s, 30 * BP_SEC);
    assert_string_equal(s->a.failed ? bp_link_error_text(s->a.link) : "", "");
    assert_true(s->a.authenticated);
    assert_true(s->b.authenticated);
    assert_int_equal(sim_handshake(s, "a@sim", "b@sim"), 0);
}

/* What the VM writes for Pid ! Msg: header, {SEND_SENDER, FromPid, ToPid}, then a payload that says
 * whose n-th message it is. Every 97th is an exit of a process monitored by name: a fence. */
static size_t make_message(uint8_t *buf, size_t cap, uint32_t sender, uint32_t n, size_t payload)
{
    struct bp_writer w;

    bp_writer_init(&w, buf, cap);
    bp_write_bytes(&w, "\x83\x44\x00\x68\x03", 5);
    if (n % 97 == 96) {
        bp_write_bytes(&w,
                       "\x61\x15\x77\x01"
                       "x",
                       5); /* MONITOR_P_EXIT from the name x */
    } else {
        bp_write_bytes(&w,
                       "\x61\x16\x58\x77\x03"
                       "a@s",
                       8); /* SEND_SENDER, a pid */
        bp_write_u32(&w, sender);
        bp_write_u32(&w, 0);
        bp_write_u32(&w, 1);
    }
    bp_write_bytes(&w,
                   "\x77\x01"
                   "y\x83\x6d",
                   5);
    bp_write_u32(&w, (uint32_t)(8 + payload));
    bp_write_u32(&w, sender);
    bp_write_u32(&w, n);
    assert_false(w.bad);
    return w.len;
}

/* In two pieces: the control part copied, the payload owned. */
int sim_try_message(struct sim_node *node, uint32_t sender, uint32_t n, size_t payload)
{
    uint8_t head[128];
    uint8_t *body = malloc(payload + 1);
    struct bp_slice slices[2];
    size_t len = make_message(head, sizeof(head), sender, n, payload);

    memset(body, (int)(sender + n), payload);
    node->owners++;
    slices[0] = (struct bp_slice){.base = head, .len = len};
    slices[1] = (struct bp_slice){.base = body, .len = payload, .owner = body};
    return bp_link_send(node->link, slices, 2);
}

void sim_send_message(struct sim_node *node, uint32_t sender, uint32_t n, size_t payload)
{
    assert_int_equal(sim_try_message(node, sender, n, payload), 0);
}

void sim_receive(struct sim_node *node, uint32_t *next, uint32_t *total)
{
    struct bp_frame f;

    while (bp_frame_queue_pop(bp_link_frames(node->link), &f)) {
        size_t at = 0;
        struct bp_reader r;
        uint32_t len, sender, n;

        while (at + 3 < f.len && !(f.data[at] == 0x79 && f.data[at + 1] == 0x83)) {
            at++;
        }
        bp_reader_init(&r, f.data + at + 3, f.len - at - 3);
        len = bp_read_u32(&r);
        sender = bp_read_u32(&r);
        n = bp_read_u32(&r);
        assert_false(r.bad);
        assert_int_equal(bp_reader_left(&r) + 8, len);
        assert_true(sender < SIM_SENDERS);
        assert_int_equal(n, next[sender]);
        for (size_t i = 0; i < len - 8; i++) {
            assert_int_equal(r.p[i], (uint8_t)(sender + n));
        }
        next[sender]++;
        (*total)++;
        if (f.bin != NULL) {
            node->bins--;
            node->mem->release(node->mem->ctx, f.bin);
        }
    }
    bp_frame_queue_reset(bp_link_frames(node->link));
}

/* --- flows --------------------------------------------------------------- */

void sim_flow_send(struct sim *s, struct sim_flow *f, size_t payload)
{
    uint32_t who = (uint32_t)(t_rand(&s->rng) % SIM_SENDERS);

    sim_send_message(f->from, who, f->sent[who]++, payload);
    f->n_sent++;
}

static void take(struct sim *s, struct sim_flow *f)
{
    assert_string_equal(s->a.failed ? bp_link_error_text(s->a.link) : "", "");
    assert_string_equal(s->b.failed ? bp_link_error_text(s->b.link) : "", "");
    sim_receive(f->to, f->got, &f->n_got);
}

void sim_flow_run(struct sim *s, struct sim_flow *f, size_t payload, bp_time for_)
{
    bp_time until = s->now + for_;

    while (s->now < until) {
        if (payload > 0 && !f->from->stalled && bp_link_pending(f->from->link) < BUSY_BYTES) {
            sim_flow_send(s, f, payload);
            sim_flush(s);
        }
        sim_run(s, s->now + BP_MS);
        take(s, f);
    }
}

void sim_flow_drain(struct sim *s, struct sim_flow *f, bp_time within)
{
    bp_time until = s->now + within;

    sim_flush(s);
    while (f->n_got < f->n_sent || f->from->owners > 0 || bp_link_pending(f->from->link) > 0) {
        if (!sim_step(s, until)) {
            fail_msg("%u of %u messages after %llu ms; %llu bytes wait", f->n_got, f->n_sent,
                     (unsigned long long)(within / BP_MS),
                     (unsigned long long)bp_link_pending(f->from->link));
        }
        take(s, f);
    }
}
