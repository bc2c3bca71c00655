/* SPDX-License-Identifier: Apache-2.0 */
/* How connections are found: by the application's number, a name, an address, a connection id. */
#include "cnode/cn.h"

#include <stdio.h>
#include <string.h>

static void id_key(bp_peer_id id, struct bp_cid *out)
{
    out->len = sizeof(id);
    memcpy(out->data, &id, sizeof(id));
}

/* FNV-1a; names that share it are told apart by comparing. */
static void name_key(const char *name, struct bp_cid *out)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (const char *c = name; *c != '\0'; c++) {
        h = (h ^ (uint8_t)*c) * 0x100000001b3u;
    }
    out->len = sizeof(h);
    memcpy(out->data, &h, sizeof(h));
}

bool cn_peer_enter(struct bp_node *n, struct cn_peer *p)
{
    struct bp_cid key;

    id_key(n->last_id + 1, &key);
    if (!bp_cid_map_add(&n->ids, &key, p)) {
        return false;
    }
    p->n = n;
    p->id = ++n->last_id;
    return true;
}

struct cn_peer *cn_peer_of(const struct bp_node *n, bp_peer_id id)
{
    struct bp_cid key;

    id_key(id, &key);
    return bp_cid_map_find(&n->ids, &key);
}

struct cn_peer *cn_peer_named(const struct bp_node *n, const char *name, enum cn_stage stage)
{
    struct bp_cid key;
    struct cn_peer *p = NULL;

    name_key(name, &key);
    while ((p = bp_cid_map_next(&n->names, &key, p)) != NULL) {
        if (p->stage == stage && strcmp(p->name, name) == 0) {
            return p;
        }
    }
    return NULL;
}

struct cn_peer *cn_peer_native(const struct cn_peer *self, enum cn_stage stage, bool dialled)
{
    const char *name = bp_link_peer_name(self->link);
    struct bp_cid key;
    struct cn_peer *p = NULL;

    name_key(name, &key);
    while ((p = bp_cid_map_next(&self->n->names, &key, p)) != NULL) {
        if (p != self && p->native && p->stage == stage && !(dialled && p->inbound) &&
            strcmp(p->name, name) == 0) {
            return p;
        }
    }
    return NULL;
}

static void forget_name(struct cn_peer *p)
{
    struct bp_cid key;

    if (p->named) {
        p->named = false;
        name_key(p->name, &key);
        bp_cid_map_remove(&p->n->names, &key, p);
    }
}

void cn_peer_set_name(struct cn_peer *p, const char *name)
{
    struct bp_cid key;

    forget_name(p);
    (void)snprintf(p->name, sizeof(p->name), "%s", name);
    if (p->name[0] != '\0') {
        name_key(p->name, &key);
        /* Without memory it is not found by name, which costs a second connection at worst. */
        p->named = bp_cid_map_add(&p->n->names, &key, p);
    }
}

void cn_peer_set_remote(struct cn_peer *p, const struct bp_addr *remote)
{
    struct bp_cid key;

    if (p->remote_known) {
        cn_addr_key(&p->remote, &key);
        bp_cid_map_remove(&p->n->addrs, &key, p);
        p->remote_known = false;
    }
    if (remote != NULL) {
        p->remote = *remote;
        cn_addr_key(remote, &key);
        /* Through a relay nothing comes from there to the node's socket. */
        p->remote_known = p->path == NULL && bp_cid_map_add(&p->n->addrs, &key, p);
    }
}

static void add_cid(struct cn_peer *p, const struct bp_cid *cid)
{
    if (p->n_cids == CN_CIDS_MAX) {
        return;
    }
    if (bp_cid_map_add(&p->n->cids, cid, p)) {
        p->cids[p->n_cids++] = *cid;
    } else {
        /* Datagrams would not find it: better a clear end than a timeout. */
        bp_link_fail(p->link, BP_E_NOMEM, NULL);
    }
}

void cn_peer_cid(struct cn_peer *p, const struct bp_cid *cid, bool added)
{
    if (added) {
        add_cid(p, cid);
        return;
    }
    for (unsigned i = 0; i < p->n_cids; i++) {
        if (bp_cid_equal(&p->cids[i], cid)) {
            bp_cid_map_remove(&p->n->cids, cid, p);
            p->cids[i] = p->cids[--p->n_cids];
            return;
        }
    }
}

void cn_peer_forget_cids(struct cn_peer *p)
{
    while (p->n_cids > 0) {
        p->n_cids--;
        bp_cid_map_remove(&p->n->cids, &p->cids[p->n_cids], p);
    }
}

void cn_peer_leave(struct cn_peer *p)
{
    struct bp_cid key;

    forget_name(p);
    id_key(p->id, &key);
    bp_cid_map_remove(&p->n->ids, &key, p);
}
