/* SPDX-License-Identifier: Apache-2.0 */
/* barrel-p2p ping: finds a node, connects, proves who both are, and says how far away it is. */
#include "cli/remote.h"

#include "base/err.h"

#include <errno.h>
#include <poll.h>

/* Until the connection is up; `*peer` is it. */
static int wait_up(struct cli_remote *r, bp_peer_id peer)
{
    struct bp_event ev;

    for (;;) {
        struct pollfd p = {.fd = bp_node_fd(r->node), .events = POLLIN};
        unsigned left = cli_remote_left(r);
        int wait = bp_node_timeout(r->node);
        int status = -1;

        if (left == 0) {
            return cli_remote_report(r, BP_ERROR_TIMEOUT,
                                     "no answer in time (--timeout gives it longer)");
        }
        if (wait < 0 || (unsigned)wait > left) {
            wait = (int)left;
        }
        if (poll(&p, 1, wait) < 0 && errno != EINTR) {
            return cli_fail(r->c, CLI_FAILED, "system_error", "poll failed");
        }
        if (bp_node_process(r->node) != 0) {
            return cli_remote_report(r, BP_ERROR_INTERNAL, bp_error_detail());
        }
        while (status < 0 && bp_node_next(r->node, &ev) == 0) {
            if (ev.peer == peer && ev.kind == BP_EVENT_UP) {
                status = CLI_OK;
            } else if (ev.peer == peer && ev.kind == BP_EVENT_DOWN) {
                status = cli_remote_not_up(r, ev.error, ev.text);
            }
            bp_event_clear(&ev);
        }
        if (status >= 0) {
            return status;
        }
    }
}

static int print_result(struct cli_remote *r, bp_peer_id peer, uint64_t took_us)
{
    json_t *o = json_pack("{s:s, s:s, s:I}", "answer", "pong", "node", r->peer,
                          "connected_after_us", (json_int_t)took_us);
    int status = o != NULL ? cli_remote_path(r, peer, o) : cli_fail_rc(r->c, BP_E_NOMEM, NULL);

    if (status != CLI_OK) {
        json_decref(o);
        return status;
    }
    return cli_print(r->c, o);
}

int cli_ping(struct cli *c)
{
    struct cli_remote r;
    uint64_t began;
    bp_peer_id peer;
    int status = cli_remote_new(c, c->args[0], &r);
    int rc;

    if (status == CLI_OK) {
        began = cli_now_us();
        rc = bp_node_dial(r.node, r.peer, cli_remote_left(&r), &peer);
        status = rc == 0 ? wait_up(&r, peer) : cli_remote_report(&r, rc, bp_error_detail());
        if (status == CLI_OK) {
            status = print_result(&r, peer, cli_now_us() - began);
        }
    }
    cli_remote_del(&r);
    return status;
}
