/* SPDX-License-Identifier: Apache-2.0 */
#include "io/name_claim.h"

#include "auth/identity.h"
#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PREFIX "barrel_p2p/"

/* A node name may be longer than such an address: its hash is not. */
static int claim_address(const char *node, struct sockaddr_un *sun, socklen_t *len)
{
    static const char hex[] = "0123456789abcdef";
    uint8_t digest[32];
    size_t at = 1 + sizeof(PREFIX) - 1;
    int rc = bp_sha256(node, strlen(node), digest);

    memset(sun, 0, sizeof(*sun));
    sun->sun_family = AF_UNIX;
    memcpy(sun->sun_path + 1, PREFIX, sizeof(PREFIX) - 1);
    for (size_t i = 0; rc == 0 && i < sizeof(digest); i++) {
        sun->sun_path[at++] = hex[digest[i] >> 4];
        sun->sun_path[at++] = hex[digest[i] & 15];
    }
    *len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + at);
    return rc;
}

/* The process that has the address; 0 if it cannot be asked. */
static pid_t holder(const struct sockaddr_un *sun, socklen_t len)
{
    struct ucred who = {0};
    socklen_t who_len = sizeof(who);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0) {
        return 0;
    }
    if (connect(fd, (const struct sockaddr *)sun, len) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &who_len) != 0) {
        who.pid = 0;
    }
    (void)close(fd);
    return who.pid;
}

static void explain(const char *node, pid_t pid, struct bp_errbuf *err)
{
    char who[48] = "another process";

    if (pid != 0) {
        snprintf(who, sizeof(who), "process %ld", (long)pid);
    }
    if (err != NULL) {
        snprintf(err->text, sizeof(err->text),
                 "%s on this machine is already node %s: stop it, or take another name", who, node);
    }
}

int bp_name_claim(const char *node, int *fd, struct bp_errbuf *err)
{
    struct sockaddr_un sun;
    socklen_t len;
    int rc = claim_address(node, &sun, &len);
    int s;

    bp_errbuf_reset(err);
    *fd = -1;
    if (rc != 0) {
        return rc;
    }
    s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s >= 0 && bind(s, (const struct sockaddr *)&sun, len) == 0) {
        /* Never accepted from: listening lets the next one learn who we are. */
        (void)listen(s, 1);
        *fd = s;
        return 0;
    }
    if (s >= 0 && errno == EADDRINUSE) {
        rc = BP_E_DUPLICATE_NAME;
        explain(node, holder(&sun, len), err);
    } else {
        rc = BP_E_SYSTEM;
        bp_errbuf_set(err, errno, "cannot claim the node name", node, NULL, NULL);
    }
    if (s >= 0) {
        (void)close(s);
    }
    return rc;
}
