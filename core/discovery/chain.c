/* SPDX-License-Identifier: Apache-2.0 */
/* The chain of discovery backends: one lookup is at one backend at a time. */
#include "discovery/chain.h"

#include <string.h>

#include "base/err.h"

struct kept {
    struct kept *next;
    unsigned backend;
    bp_time until;
    int rc;
    struct bp_endpoints found;
    char node[BP_NODE_NAME_MAX + 1];
};

enum lookup_state { LOOKUP_FREE, LOOKUP_NEXT, LOOKUP_WAITS, LOOKUP_ANSWERED, LOOKUP_DONE };

struct lookup {
    enum lookup_state state;
    uint32_t id;
    unsigned at; /* backend */
    bp_time deadline;
    int rc;
    uint32_t ttl;
    struct bp_endpoints found;
    char node[BP_NODE_NAME_MAX + 1];
};

struct link {
    const struct bp_backend *ops;
    void *ctx;
    bp_time paused_until;
};

struct complaint {
    const char *backend;
    int rc;
};

struct bp_chain {
    struct bp_mem mem;
    bp_time limit;
    bp_time negative;
    bp_time now; /* of the last call that said it */
    struct link links[BP_CHAIN_BACKENDS_MAX];
    unsigned n_links;
    uint32_t next_id;
    struct lookup lookups[BP_CHAIN_LOOKUPS_MAX];
    struct complaint complaints[BP_CHAIN_EVENTS_MAX];
    unsigned n_complaints;
    struct kept *kept; /* newest first */
    unsigned n_kept;
    struct bp_chain_stats stats;
};

/* --- life ---------------------------------------------------------------- */

int bp_chain_new(struct bp_chain **out, const struct bp_chain_config *config)
{
    const struct bp_mem *mem = config->mem != NULL ? config->mem : bp_mem_libc();
    struct bp_chain *c = bp_mem_zalloc(mem, 1, sizeof(*c));

    *out = c;
    if (c == NULL) {
        return BP_E_NOMEM;
    }
    c->mem = *mem;
    c->limit = config->limit != 0 ? config->limit : 2 * BP_SEC;
    c->negative = config->negative != 0 ? config->negative : BP_SEC;
    return 0;
}

/* A ticket names the lookup and the backend, so that what comes late from another is known. */
static uint64_t ticket_of(const struct lookup *l)
{
    return (uint64_t)l->id << 8 | l->at;
}

static void let_go(struct bp_chain *c, struct lookup *l)
{
    const struct link *k = &c->links[l->at];

    if (l->state == LOOKUP_WAITS && k->ops->cancel != NULL) {
        k->ops->cancel(k->ctx, ticket_of(l));
    }
    l->state = LOOKUP_FREE;
}

static void drop_kept(struct bp_chain *c, struct kept **p)
{
    struct kept *gone = *p;

    *p = gone->next;
    c->n_kept--;
    c->mem.release(c->mem.ctx, gone);
}

void bp_chain_del(struct bp_chain *c)
{
    if (c == NULL) {
        return;
    }
    for (unsigned i = 0; i < BP_CHAIN_LOOKUPS_MAX; i++) {
        let_go(c, &c->lookups[i]);
    }
    while (c->kept != NULL) {
        drop_kept(c, &c->kept);
    }
    c->mem.release(c->mem.ctx, c);
}

int bp_chain_add(struct bp_chain *c, const struct bp_backend *b, void *ctx)
{
    if (c->n_links == BP_CHAIN_BACKENDS_MAX) {
        return BP_E_LIMIT;
    }
    c->links[c->n_links++] = (struct link){.ops = b, .ctx = ctx};
    return 0;
}

/* --- what is kept -------------------------------------------------------- */

static struct kept **find_kept(struct bp_chain *c, unsigned backend, const char *node)
{
    struct kept **p = &c->kept;

    while (*p != NULL && ((*p)->backend != backend || strcmp((*p)->node, node) != 0)) {
        p = &(*p)->next;
    }
    return p;
}

static const struct kept *kept_answer(struct bp_chain *c, const struct lookup *l)
{
    struct kept **p = find_kept(c, l->at, l->node);

    if (*p != NULL && (*p)->until <= c->now) {
        drop_kept(c, p);
    }
    return *p != NULL && (*p)->backend == l->at && strcmp((*p)->node, l->node) == 0 ? *p : NULL;
}

static void keep(struct bp_chain *c, const struct lookup *l)
{
    bp_time for_so_long = l->rc == 0 ? l->ttl * BP_SEC : c->negative;
    struct kept **old = find_kept(c, l->at, l->node);
    struct kept *k;

    if (*old != NULL) {
        drop_kept(c, old);
    }
    if (for_so_long == 0 || c->links[l->at].ops->local) {
        return;
    }
    if (c->n_kept >= BP_CHAIN_KEPT_MAX) {
        for (old = &c->kept; (*old)->next != NULL; old = &(*old)->next) {
        }
        drop_kept(c, old);
    }
    k = bp_mem_zalloc(&c->mem, 1, sizeof(*k));
    if (k == NULL) {
        return; /* it is asked again */
    }
    k->backend = l->at;
    k->until = c->now + for_so_long;
    k->rc = l->rc;
    k->found = l->found;
    memcpy(k->node, l->node, sizeof(k->node));
    k->next = c->kept;
    c->kept = k;
    c->n_kept++;
}

void bp_chain_forget(struct bp_chain *c, const char *node)
{
    struct kept **p = &c->kept;

    while (*p != NULL) {
        if (strcmp((*p)->node, node) == 0) {
            drop_kept(c, p);
        } else {
            p = &(*p)->next;
        }
    }
}

/* --- lookups ------------------------------------------------------------- */

static void complain(struct bp_chain *c, unsigned backend, int rc)
{
    c->stats.failures++;
    if (c->n_complaints == BP_CHAIN_EVENTS_MAX) {
        c->stats.complaints_dropped++;
        return;
    }
    c->complaints[c->n_complaints++] =
        (struct complaint){.backend = c->links[backend].ops->name, .rc = rc};
}

/* Takes an answer, new or kept: the end of the lookup, or on to the next backend. */
static void take_answer(struct lookup *l)
{
    if (l->rc == 0) {
        l->state = LOOKUP_DONE;
    } else {
        l->at++;
        l->state = LOOKUP_NEXT;
    }
}

static void ask(struct bp_chain *c, struct lookup *l)
{
    struct link *k = &c->links[l->at];
    const struct kept *kept = kept_answer(c, l);
    int rc;

    if (c->now < k->paused_until) {
        l->at++;
        return;
    }
    if (kept != NULL) {
        c->stats.kept_answers++;
        l->rc = kept->rc;
        l->found = kept->found;
        take_answer(l);
        return;
    }
    l->state = LOOKUP_WAITS;
    l->deadline = c->now + c->limit;
    rc = k->ops->lookup(k->ctx, c, ticket_of(l), l->node, strchr(l->node, '@') + 1);
    if (rc != 0 && l->state == LOOKUP_WAITS) {
        l->rc = rc;
        l->state = LOOKUP_ANSWERED;
    }
}

/* As far as it goes without waiting. */
static void advance(struct bp_chain *c, struct lookup *l)
{
    while (l->state == LOOKUP_NEXT || l->state == LOOKUP_ANSWERED) {
        if (l->state == LOOKUP_ANSWERED) {
            if (l->rc != 0 && l->rc != BP_E_NOT_FOUND) {
                complain(c, l->at, l->rc);
            }
            keep(c, l);
            take_answer(l);
        } else if (l->at == c->n_links) {
            l->rc = BP_E_NOT_FOUND;
            l->state = LOOKUP_DONE;
        } else {
            ask(c, l);
        }
    }
}

int bp_chain_lookup(struct bp_chain *c, const char *node, bp_time now, uint32_t *id)
{
    const char *at = strchr(node, '@');
    struct lookup *l = NULL;

    c->now = now;
    if (at == NULL || at == node || at[1] == '\0' || strlen(node) > BP_NODE_NAME_MAX) {
        return BP_E_INVALID;
    }
    for (unsigned i = 0; i < BP_CHAIN_LOOKUPS_MAX && l == NULL; i++) {
        l = c->lookups[i].state == LOOKUP_FREE ? &c->lookups[i] : NULL;
    }
    if (l == NULL) {
        c->stats.refused++;
        return BP_E_LIMIT;
    }
    c->stats.lookups++;
    *l = (struct lookup){.state = LOOKUP_NEXT, .id = ++c->next_id};
    memcpy(l->node, node, strlen(node) + 1);
    *id = l->id;
    advance(c, l);
    return 0;
}

void bp_chain_cancel(struct bp_chain *c, uint32_t id)
{
    for (unsigned i = 0; i < BP_CHAIN_LOOKUPS_MAX; i++) {
        if (c->lookups[i].state != LOOKUP_FREE && c->lookups[i].id == id) {
            let_go(c, &c->lookups[i]);
        }
    }
}

void bp_chain_answer(struct bp_chain *c, uint64_t ticket, int rc, const struct bp_endpoints *eps,
                     uint32_t ttl)
{
    for (unsigned i = 0; i < BP_CHAIN_LOOKUPS_MAX; i++) {
        struct lookup *l = &c->lookups[i];

        if (l->state != LOOKUP_WAITS || ticket_of(l) != ticket) {
            continue;
        }
        if (rc == 0 && (eps == NULL || eps->n == 0 || eps->n > BP_ENDPOINTS_MAX)) {
            rc = BP_E_INVALID;
        }
        l->rc = rc;
        l->ttl = ttl;
        l->found = rc == 0 ? *eps : (struct bp_endpoints){0};
        l->state = LOOKUP_ANSWERED;
        return;
    }
    c->stats.late_answers++;
}

void bp_chain_tick(struct bp_chain *c, bp_time now)
{
    c->now = now;
    for (unsigned i = 0; i < BP_CHAIN_LOOKUPS_MAX; i++) {
        struct lookup *l = &c->lookups[i];

        if (l->state == LOOKUP_WAITS && l->deadline <= now) {
            struct link *k = &c->links[l->at];
            if (k->ops->cancel != NULL) {
                k->ops->cancel(k->ctx, ticket_of(l));
            }
            c->stats.timeouts++;
            if (now >= k->paused_until) {
                complain(c, l->at, BP_E_TIMEOUT); /* once, whoever else waits for it */
            }
            k->paused_until = now + BP_CHAIN_PAUSE;
            l->at++;
            l->state = LOOKUP_NEXT;
        }
        advance(c, l);
    }
}

bp_time bp_chain_deadline(const struct bp_chain *c)
{
    bp_time at = BP_TIME_NEVER;

    for (unsigned i = 0; i < BP_CHAIN_LOOKUPS_MAX; i++) {
        const struct lookup *l = &c->lookups[i];

        if (l->state == LOOKUP_ANSWERED) {
            return c->now;
        }
        if (l->state == LOOKUP_WAITS && l->deadline < at) {
            at = l->deadline;
        }
    }
    return at;
}

bool bp_chain_poll(struct bp_chain *c, struct bp_chain_event *out)
{
    if (c->n_complaints > 0) {
        *out = (struct bp_chain_event){.kind = BP_CHAIN_COMPLAINT,
                                       .rc = c->complaints[0].rc,
                                       .backend = c->complaints[0].backend};
        c->n_complaints--;
        memmove(c->complaints, c->complaints + 1, c->n_complaints * sizeof(c->complaints[0]));
        return true;
    }
    for (unsigned i = 0; i < BP_CHAIN_LOOKUPS_MAX; i++) {
        struct lookup *l = &c->lookups[i];

        if (l->state == LOOKUP_DONE) {
            bool found = l->rc == 0;
            *out = (struct bp_chain_event){.kind = found ? BP_CHAIN_FOUND : BP_CHAIN_UNKNOWN,
                                           .id = l->id,
                                           .rc = l->rc,
                                           .backend = found ? c->links[l->at].ops->name : NULL,
                                           .found = l->found};
            l->state = LOOKUP_FREE;
            return true;
        }
    }
    return false;
}

/* --- publishing, listing --------------------------------------------------- */

unsigned bp_chain_publish(struct bp_chain *c, const char *node, const struct bp_endpoints *eps)
{
    unsigned n = 0;

    for (unsigned i = 0; i < c->n_links; i++) {
        const struct link *k = &c->links[i];
        int rc = k->ops->publish != NULL ? k->ops->publish(k->ctx, node, eps) : BP_E_STATE;

        n += rc == 0;
        if (rc != 0 && k->ops->publish != NULL) {
            complain(c, i, rc);
        }
    }
    return n;
}

unsigned bp_chain_withdraw(struct bp_chain *c, const char *node)
{
    unsigned n = 0;

    for (unsigned i = 0; i < c->n_links; i++) {
        const struct link *k = &c->links[i];
        int rc = k->ops->withdraw != NULL ? k->ops->withdraw(k->ctx, node) : BP_E_STATE;

        n += rc == 0;
        if (rc != 0 && k->ops->withdraw != NULL) {
            complain(c, i, rc);
        }
    }
    return n;
}

void bp_chain_list(struct bp_chain *c, void (*each)(void *ctx, const char *node, uint16_t port),
                   void *ctx)
{
    for (unsigned i = 0; i < c->n_links; i++) {
        const struct link *k = &c->links[i];
        int rc = k->ops->list != NULL ? k->ops->list(k->ctx, each, ctx) : 0;

        if (rc != 0 && rc != BP_E_NOT_FOUND) {
            complain(c, i, rc);
        }
    }
}

void bp_chain_stats(const struct bp_chain *c, struct bp_chain_stats *out)
{
    *out = c->stats;
}
