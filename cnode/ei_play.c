/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The acceptor's side of libei's handshake. The I/O thread has done it with the peer (shake.c),
 * with as many peers at once as there are, and holds back the last message, which makes the peer
 * believe that it is connected. What ei_accept says and hears is between libei and this, which
 * plays the peer's part; nothing in it waits.
 */
#include "cnode/ei_impl.h"

#include <errno.h>
#include <stdlib.h>

int cn_ei_play_begin(struct cn_ei *h, const struct cn_peer *p)
{
    int rc;

    h->play = malloc(sizeof(*h->play));
    if (h->play == NULL) {
        return cn_ei_failed(ENOMEM, BP_E_NOMEM, NULL);
    }
    rc = bp_shake_init(h->play, false, bp_link_peer_name(p->link), p->n->opt.cookie,
                       p->shake->peer_creation);
    if (rc != 0) {
        cn_ei_play_end(h);
        return cn_ei_failed(EIO, rc, NULL);
    }
    return 0;
}

int cn_ei_play_take(struct cn_ei *h, const uint8_t *msg, size_t len)
{
    int rc = bp_shake_recv(h->play, msg, len);

    if (rc != 0) {
        h->broken = true;
        return cn_ei_failed(EIO, rc, h->play->why);
    }
    return 0;
}

int cn_ei_play_give(struct cn_ei *h)
{
    const uint8_t *msg;
    size_t len;
    int rc;

    if (!bp_shake_poll(h->play, &msg, &len)) {
        return EAGAIN;
    }
    rc = cn_ei_reader_put(&h->in, CN_EI_HS_HEAD, msg, len, NULL);
    return rc == 0 ? 0 : cn_ei_failed(EIO, rc, NULL);
}

bool cn_ei_play_over(const struct cn_ei *h)
{
    return h->play->state == BP_SHAKE_DONE;
}

void cn_ei_play_end(struct cn_ei *h)
{
    free(h->play);
    h->play = NULL;
}
