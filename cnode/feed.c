/* SPDX-License-Identifier: Apache-2.0 */
/* The program's end of a path through its own functions: a bounded queue of datagrams from it, with
 * a lock of its own, so that any thread may give them whoever holds the node. */
#include "cnode/cn.h"
#include "cnode/path.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define FEED_BYTES (1024u * 1024u) /* with what the queue itself takes */

struct datagram {
    struct datagram *next;
    size_t len;
    uint8_t data[];
};

struct bp_relay_end {
    pthread_mutex_t lock;
    int event_fd; /* the path's, which closes it */
    bool signalled;
    struct datagram *first;
    struct datagram **last;
    size_t bytes;
};

int cn_feed_new(struct bp_relay_end **out, int *fd)
{
    struct bp_relay_end *e = calloc(1, sizeof(*e));

    *out = NULL;
    *fd = -1;
    if (e == NULL) {
        return BP_E_NOMEM;
    }
    if (pthread_mutex_init(&e->lock, NULL) != 0) {
        free(e);
        return BP_E_NOMEM;
    }
    e->last = &e->first;
    e->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (e->event_fd < 0) {
        (void)pthread_mutex_destroy(&e->lock);
        free(e);
        return BP_E_LIMIT;
    }
    *fd = e->event_fd;
    *out = e;
    return 0;
}

void cn_feed_del(struct bp_relay_end *e)
{
    if (e == NULL) {
        return;
    }
    while (e->first != NULL) {
        struct datagram *d = e->first;
        e->first = d->next;
        free(d);
    }
    (void)pthread_mutex_destroy(&e->lock);
    free(e);
}

/* With the lock. */
static void signal_path(struct bp_relay_end *e)
{
    const uint64_t one = 1;

    if (!e->signalled) {
        e->signalled = true;
        if (write(e->event_fd, &one, sizeof(one)) < 0) {
            /* Full: it is readable. */
        }
    }
}

bool cn_feed_take(struct bp_relay_end *e, uint8_t *out, size_t cap, size_t *len)
{
    struct datagram *d;
    uint64_t count;

    (void)pthread_mutex_lock(&e->lock);
    d = e->first;
    if (d != NULL) {
        e->first = d->next;
        if (e->first == NULL) {
            e->last = &e->first;
        }
        e->bytes -= sizeof(*d) + d->len;
    } else if (e->signalled) {
        e->signalled = false;
        if (read(e->event_fd, &count, sizeof(count)) < 0) {
            /* Empty already. */
        }
    }
    (void)pthread_mutex_unlock(&e->lock);
    if (d == NULL) {
        return false;
    }
    *len = d->len < cap ? d->len : cap;
    memcpy(out, d->data, *len);
    free(d);
    return true;
}

int bp_relay_feed(struct bp_relay_end *e, const void *datagram, size_t len)
{
    struct datagram *d;
    int rc = 0;

    if (datagram == NULL || len == 0 || len > BP_DGRAM_MAX) {
        return cn_fail(BP_E_INVALID, "a datagram has 1 to %u bytes", BP_DGRAM_MAX);
    }
    d = malloc(sizeof(*d) + len);
    if (d == NULL) {
        return cn_fail(BP_E_NOMEM, "%s", bp_err_text(BP_E_NOMEM));
    }
    d->next = NULL;
    d->len = len;
    memcpy(d->data, datagram, len);
    (void)pthread_mutex_lock(&e->lock);
    if (e->bytes + sizeof(*d) + len > FEED_BYTES) {
        rc = BP_E_AGAIN;
    } else {
        *e->last = d;
        e->last = &d->next;
        e->bytes += sizeof(*d) + len;
        signal_path(e);
    }
    (void)pthread_mutex_unlock(&e->lock);
    if (rc != 0) {
        free(d);
        return cn_fail(rc, "whoever runs the node has not taken what the relay gave before");
    }
    return 0;
}

void bp_relay_room(struct bp_relay_end *e)
{
    (void)pthread_mutex_lock(&e->lock);
    signal_path(e);
    (void)pthread_mutex_unlock(&e->lock);
}
