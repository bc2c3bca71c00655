/* SPDX-License-Identifier: Apache-2.0 */
/* Why a connection failed, in words that help (io/peer_trust.h). */
#include "driver/drv.h"

#define TEXT_MAX 1024u

bool drv_conn_refused_us(const struct drv_conn *c)
{
    return bp_peer_trust_refusal(c->link, drv_conn_error(c)) != 0;
}

const char *drv_conn_error_text(const struct drv_conn *c)
{
    static _Thread_local char buf[TEXT_MAX];
    const struct drv_settings *s = c->settings;
    int err = drv_conn_error(c);
    struct bp_trust_sides sides = {.peer = bp_link_peer_name(c->link),
                                   .self = s->node_name,
                                   .self_key =
                                       s->identity != NULL ? bp_identity_pub(s->identity) : NULL,
                                   .refusal = bp_peer_trust_refusal(c->link, err)};

    bp_peer_trust_explain(&c->trust, err,
                          c->err_text[0] != '\0' ? c->err_text : bp_link_error_text(c->link),
                          &sides, buf, sizeof(buf));
    return buf;
}
