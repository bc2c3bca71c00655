/* SPDX-License-Identifier: Apache-2.0 */
/* Links, monitors and requests that are alive across a connection. */
#include "dist/idle.h"

#include <string.h>

/* Whose monitor or request it is; a link belongs to both. */
#define OURS   UINT64_C(0x6f757273)
#define THEIRS UINT64_C(0x7468656972)
#define LINKED UINT64_C(0x6c696e6b)

#define SPAWN_LINKED    1u
#define SPAWN_MONITORED 2u

void bp_idle_init(struct bp_idle *i, const struct bp_mem *mem)
{
    *i = (struct bp_idle){.mem = mem};
}

static void drop_table(struct bp_idle *i)
{
    i->mem->release(i->mem->ctx, i->live);
    i->live = NULL;
    i->cap = 0;
    i->n = 0;
}

/* For good; what it knows is worth nothing any more. */
static void doubt(struct bp_idle *i)
{
    i->doubtful = true;
    drop_table(i);
}

void bp_idle_free(struct bp_idle *i)
{
    if (i->mem != NULL) {
        drop_table(i);
    }
}

/* --- the set: open addressing, linear probing -------------------------------- */

/* Never 0, which marks a free place. */
static uint64_t mix(uint64_t x)
{
    x ^= x >> 33;
    x *= UINT64_C(0xff51afd7ed558ccd);
    x ^= x >> 33;
    x *= UINT64_C(0xc4ceb9fe1a85ec53);
    x ^= x >> 33;
    return x != 0 ? x : 1;
}

/* The place of `key`, or the free one where it would go. */
static uint32_t place(const uint64_t *live, uint32_t cap, uint64_t key)
{
    uint32_t at = (uint32_t)key & (cap - 1);

    while (live[at] != 0 && live[at] != key) {
        at = (at + 1) & (cap - 1);
    }
    return at;
}

static bool grow(struct bp_idle *i)
{
    uint32_t cap = i->cap != 0 ? i->cap * 2 : BP_IDLE_FIRST;
    uint64_t *live = cap <= BP_IDLE_MAX ? bp_mem_zalloc(i->mem, cap, sizeof(*live)) : NULL;

    if (live == NULL) {
        return false;
    }
    for (uint32_t k = 0; k < i->cap; k++) {
        if (i->live[k] != 0) {
            live[place(live, cap, i->live[k])] = i->live[k];
        }
    }
    i->mem->release(i->mem->ctx, i->live);
    i->live = live;
    i->cap = cap;
    return true;
}

static void begins(struct bp_idle *i, uint64_t key)
{
    uint32_t at;

    if (i->doubtful) {
        return;
    }
    if (i->n >= i->cap / 2 && !grow(i)) {
        doubt(i);
        return;
    }
    at = place(i->live, i->cap, key);
    if (i->live[at] == 0) {
        i->live[at] = key;
        i->n++;
    }
}

static void ends(struct bp_idle *i, uint64_t key)
{
    uint32_t hole;
    uint32_t at;

    if (i->n == 0) {
        return;
    }
    hole = place(i->live, i->cap, key);
    if (i->live[hole] == 0) {
        return;
    }
    i->n--;
    if (i->n == 0 && i->cap > BP_IDLE_FIRST) {
        drop_table(i);
        return;
    }
    /* Whatever the hole would cut off from its own place moves into it. */
    for (at = (hole + 1) & (i->cap - 1); i->live[at] != 0; at = (at + 1) & (i->cap - 1)) {
        uint32_t home = (uint32_t)i->live[at] & (i->cap - 1);
        if (((at - home) & (i->cap - 1)) >= ((at - hole) & (i->cap - 1))) {
            i->live[hole] = i->live[at];
            hole = at;
        }
    }
    i->live[hole] = 0;
}

/* --- elements of control messages --------------------------------------------- */

static uint64_t pid(struct bp_peek *r)
{
    uint8_t tag = bp_peek_get8(r);

    if (tag != BP_TERM_NEW_PID && tag != BP_TERM_PID) {
        r->bad = true;
        return 0;
    }
    return bp_peek_read_pid(r, tag);
}

static uint64_t ref(struct bp_peek *r, uint64_t whose)
{
    uint8_t tag = bp_peek_get8(r);

    if (tag != BP_TERM_NEWER_REFERENCE && tag != BP_TERM_NEW_REFERENCE) {
        r->bad = true;
        return 0;
    }
    return mix(bp_peek_read_ref(r, tag) ^ whose << 16);
}

static uint64_t pair(uint64_t ours, uint64_t theirs)
{
    return mix(mix(ours ^ LINKED) * 3 + theirs);
}

/* From and To are the next two elements. */
static uint64_t link_of(struct bp_peek *r, bool out)
{
    uint64_t from = pid(r);
    uint64_t to = pid(r);

    return out ? pair(from, to) : pair(to, from);
}

/* The rest of a REG_SEND goes to this name, and `r` stands behind it. */
static bool to_name(struct bp_peek *r, const char *name, size_t name_len)
{
    const uint8_t *p;
    uint8_t tag;
    size_t len;

    bp_peek_skip_element(r); /* From */
    bp_peek_skip_element(r); /* unused */
    tag = bp_peek_get8(r);
    if (tag == BP_TERM_SMALL_ATOM || tag == BP_TERM_SMALL_ATOM_UTF8) {
        len = bp_peek_get8(r);
    } else if (tag == BP_TERM_ATOM || tag == BP_TERM_ATOM_UTF8) {
        len = bp_peek_get16(r);
    } else {
        return false;
    }
    if (len != name_len) {
        return false;
    }
    p = bp_peek_take(r, len);
    return p != NULL && memcmp(p, name, len) == 0;
}

/* To rex, a message whose last element is this atom. */
static bool greets(struct bp_peek r)
{
    static const char what[] = BP_IDLE_GREETING;
    size_t len = sizeof(what) - 1;

    return to_name(&r, "rex", 3) && (size_t)(r.end - r.p) > len &&
           memcmp(r.end - len, what, len) == 0;
}

static void reg_send(struct bp_idle *i, struct bp_peek r)
{
    struct bp_peek again = r;

    if (to_name(&again, BP_IDLE_BRIDGE, sizeof(BP_IDLE_BRIDGE) - 1)) {
        i->own++;
    } else if (greets(r)) {
        i->greetings++;
    }
}

/* ReqId, To, Flags, Result. */
static void spawn_reply(struct bp_idle *i, struct bp_peek *r, bool out)
{
    uint64_t request = ref(r, out ? THEIRS : OURS);
    uint64_t to = pid(r);
    uint32_t flags = bp_peek_read_op(r); /* a small number, too */
    uint64_t made;

    if (r->bad || r->p == r->end) {
        doubt(i);
        return;
    }
    if (r->p[0] != BP_TERM_NEW_PID && r->p[0] != BP_TERM_PID) {
        ends(i, request); /* an error */
        return;
    }
    made = pid(r);
    if ((flags & SPAWN_MONITORED) == 0) {
        ends(i, request);
    }
    if ((flags & SPAWN_LINKED) != 0) {
        begins(i, out ? pair(made, to) : pair(to, made));
    }
}

/* The key of what the operation is about, for those with one. */
static uint64_t key_of(uint32_t op, struct bp_peek *r, bool out)
{
    switch (op) {
    case BP_OP_UNLINK_ID:
        bp_peek_skip_element(r);
        return link_of(r, out);
    case BP_OP_MONITOR_P:
    case BP_OP_DEMONITOR_P:
        bp_peek_skip_element(r);
        bp_peek_skip_element(r);
        return ref(r, out ? OURS : THEIRS);
    case BP_OP_MONITOR_P_EXIT:
    case BP_OP_PAYLOAD_MONITOR_P_EXIT:
        bp_peek_skip_element(r);
        bp_peek_skip_element(r);
        return ref(r, out ? THEIRS : OURS);
    case BP_OP_SPAWN_REQUEST:
    case BP_OP_SPAWN_REQUEST_TT:
        return ref(r, out ? OURS : THEIRS);
    default:
        return link_of(r, out);
    }
}

void bp_idle_control(struct bp_idle *i, const uint8_t *p, size_t len, bool out)
{
    struct bp_peek r = {.p = p, .end = p + len};
    uint64_t key;
    uint32_t op;

    if (bp_peek_get8(&r) != BP_TERM_SMALL_TUPLE) {
        doubt(i);
        return;
    }
    (void)bp_peek_get8(&r);
    op = bp_peek_read_op(&r);
    if (r.bad) {
        doubt(i);
        return;
    }
    if (op == BP_OP_REG_SEND || op == BP_OP_REG_SEND_TT) {
        reg_send(i, r);
        return;
    }
    if (!bp_idle_concerns(op)) {
        return;
    }
    if (op == BP_OP_SPAWN_REPLY || op == BP_OP_SPAWN_REPLY_TT) {
        spawn_reply(i, &r, out);
        return;
    }
    key = key_of(op, &r, out);
    if (r.bad) {
        doubt(i);
    } else if (op == BP_OP_LINK || op == BP_OP_MONITOR_P || op == BP_OP_SPAWN_REQUEST ||
               op == BP_OP_SPAWN_REQUEST_TT) {
        begins(i, key);
    } else {
        ends(i, key);
    }
}
