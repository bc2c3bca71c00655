/* SPDX-License-Identifier: Apache-2.0 */
/* The static backend: looks through a table. */
#include "discovery/static_backend.h"

#include <string.h>

#include "base/err.h"

#define PORT_DIGITS 5u

static bool is_node_name(const char *name)
{
    const char *at = memchr(name, '@', BP_NODE_NAME_MAX);

    return at != NULL && at != name && at[1] != '\0' &&
           strnlen(name, BP_NODE_NAME_MAX + 1) <= BP_NODE_NAME_MAX;
}

bool bp_static_node_endpoint(const struct bp_static_node *row, struct bp_endpoint *out)
{
    size_t len = strnlen(row->at.host, sizeof(row->at.host));
    size_t skip = len > 2 && row->at.host[0] == '[' && row->at.host[len - 1] == ']' ? 1 : 0;

    *out = (struct bp_endpoint){.port = row->at.port};
    if (len == sizeof(row->at.host) || !is_node_name(row->node)) {
        return false;
    }
    memcpy(out->host, row->at.host + skip, len - 2 * skip);
    return bp_endpoint_valid(out);
}

static bool parse_port(const char *text, uint16_t *port)
{
    uint32_t v = 0;
    size_t n = strlen(text);

    if (n == 0 || n > PORT_DIGITS || text[0] == '0') {
        return false;
    }
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9') {
            return false;
        }
        v = v * 10 + (uint32_t)(*text - '0');
    }
    *port = (uint16_t)v;
    return v <= UINT16_MAX;
}

int bp_static_node_parse(const char *text, struct bp_static_node *out)
{
    const char *eq = strchr(text, '=');
    const char *colon = strrchr(text, ':');
    struct bp_endpoint ep;
    size_t host_len;

    *out = (struct bp_static_node){0};
    if (eq == NULL || colon == NULL || colon <= eq || (size_t)(eq - text) > BP_NODE_NAME_MAX) {
        return BP_E_INVALID;
    }
    host_len = (size_t)(colon - eq) - 1;
    if (host_len > BP_ENDPOINT_HOST_MAX ||
        (eq[1] != '[' && memchr(eq + 1, ':', host_len) != NULL) ||
        !parse_port(colon + 1, &out->at.port)) {
        *out = (struct bp_static_node){0};
        return BP_E_INVALID;
    }
    memcpy(out->node, text, (size_t)(eq - text));
    memcpy(out->at.host, eq + 1, host_len);
    if (!bp_static_node_endpoint(out, &ep)) {
        *out = (struct bp_static_node){0};
        return BP_E_INVALID;
    }
    out->at = ep;
    return 0;
}

static int lookup(void *ctx, struct bp_chain *c, uint64_t ticket, const char *node,
                  const char *host)
{
    const struct bp_static_nodes *nodes = ctx;
    struct bp_endpoints found = {0};
    int rc = BP_E_NOT_FOUND;

    (void)host;
    for (size_t i = 0; i < nodes->n && found.n < BP_ENDPOINTS_MAX; i++) {
        if (strncmp(nodes->at[i].node, node, sizeof(nodes->at[i].node)) != 0) {
            continue;
        }
        if (bp_static_node_endpoint(&nodes->at[i], &found.at[found.n])) {
            found.n++;
        } else {
            rc = BP_E_INVALID;
        }
    }
    if (found.n == 0) {
        return rc;
    }
    bp_chain_answer(c, ticket, 0, &found, 0);
    return 0;
}

static int list(void *ctx, void (*each)(void *each_ctx, const char *node, uint16_t port),
                void *each_ctx)
{
    const struct bp_static_nodes *nodes = ctx;
    struct bp_endpoint ep;

    for (size_t i = 0; i < nodes->n; i++) {
        if (bp_static_node_endpoint(&nodes->at[i], &ep)) {
            each(each_ctx, nodes->at[i].node, ep.port);
        }
    }
    return 0;
}

const struct bp_backend bp_static_backend = {
    .name = "static", .local = true, .lookup = lookup, .list = list};
