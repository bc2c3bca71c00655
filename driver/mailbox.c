/* SPDX-License-Identifier: Apache-2.0 */
/* Mailboxes for datagrams that came to another socket. */
#include "driver/drv.h"

#include <string.h>
#include <unistd.h>

void drv_mailbox_init(struct drv_mailbox *m, int wake_fd)
{
    *m = (struct drv_mailbox){.wake_fd = wake_fd};
    m->tail = &m->head;
}

void drv_wake(int wake_fd)
{
    const uint64_t one = 1;

    if (wake_fd >= 0 && write(wake_fd, &one, sizeof(one)) < 0) {
        /* Full: it is awake. */
    }
}

void drv_mailbox_put(struct drv_mailbox *m, const struct bp_addr *remote, const uint8_t *p,
                     size_t len)
{
    struct drv_pkt *pkt;

    if (m->n >= DRV_MAILBOX_MAX) {
        m->dropped++; /* QUIC sends it again */
        return;
    }
    pkt = driver_alloc((ErlDrvSizeT)(sizeof(*pkt) + len));
    if (pkt == NULL) {
        m->dropped++;
        return;
    }
    *pkt = (struct drv_pkt){.remote = *remote, .len = len};
    memcpy(pkt->data, p, len);
    *m->tail = pkt;
    m->tail = &pkt->next;
    m->n++;
    m->nonempty = true;
    drv_wake(m->wake_fd);
}

struct drv_pkt *drv_mailbox_take(struct drv_mailbox *m)
{
    struct drv_pkt *list = m->head;

    m->head = NULL;
    m->tail = &m->head;
    m->n = 0;
    m->nonempty = false;
    return list;
}

void drv_pkts_free(struct drv_pkt *list)
{
    while (list != NULL) {
        struct drv_pkt *next = list->next;
        drv_free(list);
        list = next;
    }
}
