/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS sessions that go on in the next connection to the same node, and the key of the tickets that
 * we give. All of it is in memory only, and forgotten when the node's settings change: those name
 * its certificate, to which the peers' proof of identity is bound.
 */
#include "driver/drv.h"

#include <string.h>

/* A key makes tickets for so long. Who has one of the key before goes through all of TLS. */
#define KEY_FOR     (3600 * BP_SEC)
#define SESSION_FOR (3600 * BP_SEC)
#define SESSIONS    64u

struct session {
    char node[BP_NODE_NAME_MAX + 1];
    bp_time at;
    size_t len;
    uint8_t *data;
};

/* All under drv_node.lock. */
static uint8_t key[BP_TICKET_KEY_LEN];
static bp_time key_at;
static bool has_key;
static struct session sessions[SESSIONS];

static void drop(struct session *s)
{
    if (s->data != NULL) {
        bp_wipe(s->data, s->len);
        drv_free(s->data);
    }
    *s = (struct session){0};
}

void drv_tickets_forget(void)
{
    bp_wipe(key, sizeof(key));
    has_key = false;
    for (unsigned i = 0; i < SESSIONS; i++) {
        drop(&sessions[i]);
    }
}

bool drv_tickets_key(const struct drv_settings *of, uint8_t out[static BP_TICKET_KEY_LEN],
                     bp_time now)
{
    bool ok = false;

    erl_drv_mutex_lock(drv_node.lock);
    if (drv_node.settings == of) { /* else it is another certificate's */
        if (!has_key || now - key_at >= KEY_FOR) {
            has_key = bp_random(key, sizeof(key)) == 0;
            key_at = now;
        }
        ok = has_key;
        memcpy(out, key, sizeof(key));
    }
    erl_drv_mutex_unlock(drv_node.lock);
    return ok;
}

static struct session *find(const char *node)
{
    for (unsigned i = 0; i < SESSIONS; i++) {
        if (sessions[i].data != NULL && strcmp(sessions[i].node, node) == 0) {
            return &sessions[i];
        }
    }
    return NULL;
}

/* Where a session may be put: a free place, or that of the oldest. */
static struct session *place(void)
{
    struct session *s = &sessions[0];

    for (unsigned i = 0; i < SESSIONS && s->data != NULL; i++) {
        if (sessions[i].data == NULL || sessions[i].at < s->at) {
            s = &sessions[i];
        }
    }
    return s;
}

void drv_tickets_drop(const char *node)
{
    struct session *s;

    erl_drv_mutex_lock(drv_node.lock);
    s = find(node);
    if (s != NULL) {
        drop(s);
    }
    erl_drv_mutex_unlock(drv_node.lock);
}

size_t drv_tickets_take(const char *node, uint8_t out[static BP_SESSION_MAX], bp_time now)
{
    struct session *s;
    size_t len = 0;

    erl_drv_mutex_lock(drv_node.lock);
    s = find(node);
    if (s != NULL) {
        if (now - s->at < SESSION_FOR) {
            len = s->len;
            memcpy(out, s->data, len);
        }
        drop(s);
    }
    erl_drv_mutex_unlock(drv_node.lock);
    return len;
}

void drv_tickets_keep(const struct drv_settings *from, const char *node,
                      const uint8_t p[static BP_SESSION_MAX], size_t len, bp_time now)
{
    uint8_t *data = len > 0 ? driver_alloc((ErlDrvSizeT)len) : NULL;
    struct session *s;

    if (data == NULL) {
        return;
    }
    memcpy(data, p, len);
    erl_drv_mutex_lock(drv_node.lock);
    if (drv_node.settings != from) {
        bp_wipe(data, len); /* they have changed since it was dialled */
        drv_free(data);
    } else {
        s = find(node);
        s = s != NULL ? s : place();
        drop(s);
        *s = (struct session){.at = now, .len = len, .data = data};
        memcpy(s->node, node, strlen(node) + 1);
    }
    erl_drv_mutex_unlock(drv_node.lock);
}
