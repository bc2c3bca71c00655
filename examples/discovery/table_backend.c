/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Example: a discovery backend in C is a table of functions. This one keeps nodes in memory; one
 * that has to ask somebody would return 0 from lookup, remember the ticket, and call
 * bp_chain_answer when the answer has come.
 */
#include "table_backend.h"

#include <string.h>

#include "base/err.h"

static unsigned find(const struct table *t, const char *node)
{
    unsigned i = 0;

    while (i < t->n && strcmp(t->rows[i].node, node) != 0) {
        i++;
    }
    return i;
}

static int lookup(void *ctx, struct bp_chain *c, uint64_t ticket, const char *node,
                  const char *host)
{
    const struct table *t = ctx;
    unsigned i = find(t, node);

    (void)host;
    if (i == t->n) {
        return BP_E_NOT_FOUND; /* the chain asks the next backend */
    }
    bp_chain_answer(c, ticket, 0, &t->rows[i].at, 0);
    return 0;
}

static int publish(void *ctx, const char *node, const struct bp_endpoints *eps)
{
    struct table *t = ctx;
    unsigned i = find(t, node);

    if (i == TABLE_MAX || strlen(node) > BP_NODE_NAME_MAX) {
        return BP_E_LIMIT;
    }
    memcpy(t->rows[i].node, node, strlen(node) + 1);
    t->rows[i].at = *eps;
    t->n += i == t->n;
    return 0;
}

static int withdraw(void *ctx, const char *node)
{
    struct table *t = ctx;
    unsigned i = find(t, node);

    if (i < t->n) {
        t->rows[i] = t->rows[--t->n];
    }
    return 0;
}

static int list(void *ctx, void (*each)(void *each_ctx, const char *node, uint16_t port),
                void *each_ctx)
{
    const struct table *t = ctx;

    for (unsigned i = 0; i < t->n; i++) {
        each(each_ctx, t->rows[i].node, t->rows[i].at.at[0].port);
    }
    return 0;
}

const struct bp_backend table_backend = {.name = "table",
                                         .local = true,
                                         .lookup = lookup,
                                         .publish = publish,
                                         .withdraw = withdraw,
                                         .list = list};
