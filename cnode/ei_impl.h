/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of libei's callbacks: shared by ei*.c only. */
#ifndef BP_CN_EI_IMPL_H
#define BP_CN_EI_IMPL_H

#include "cnode/cn.h"
#include "cnode/ei_stream.h"

#include <sys/types.h>

#define CN_EI_HS_HEAD    2u
#define CN_EI_HS_MAX     1024u
#define CN_EI_FRAME_HEAD 4u

/* DEAD: the program has closed its descriptor itself. CLOSING: whoever waits has to leave. */
enum cn_ei_kind { EI_FRESH, EI_LISTENING, EI_CONNECTION, EI_DEAD, EI_CLOSING };

struct cn_ei {
    struct bp_node *n;
    struct cn_ei *next;
    struct cn_ei *prev;
    uint64_t id;
    enum cn_ei_kind kind;
    int fd;     /* the program's */
    int our_fd; /* -1: the program has closed its own */
    bool signalled;
    pthread_cond_t cond;
    unsigned waiters;
    struct cn_peer *peer; /* CONNECTION; stays when it has ended, until this is closed */
    bool up;
    bool broken; /* the program's stream cannot go on */
    struct cn_ei_cutter out;
    struct cn_ei_reader in;
    struct bp_shake *play; /* accepted, and libei has not finished its handshake */
    uint8_t last_given;    /* the kind of handshake message that libei has read last */
    struct cn_peer *queue; /* LISTENING */
    struct cn_peer **queue_tail;
    unsigned n_queue;
    unsigned backlog;
};

/* The descriptor is readable or not, as it has to be now. */
void cn_ei_show(struct cn_ei *h);
/* Waits until something changes: 0, or an errno, ETIMEDOUT with `late` as bp_error_detail. */
int cn_ei_wait_for(struct cn_ei *h, bp_time until, const char *late);
/* `err`, which libei makes EIO of mostly; bp_error_detail has `rc` and `why` (NULL: rc's text). */
int cn_ei_failed(int err, int rc, const char *why);
/* libei's timeouts are milliseconds, all ones: for ever. */
bp_time cn_ei_until(unsigned tmo);
/* The errno of a connection that has ended; bp_error_detail says why. */
int cn_ei_ended(const struct cn_ei *h);

/* ei_play.c: the handshake of a peer that was accepted; 0, or an errno. */
int cn_ei_play_begin(struct cn_ei *h, const struct cn_peer *p);
/* A message of libei; the next one for it, EAGAIN if there is none. */
int cn_ei_play_take(struct cn_ei *h, const uint8_t *msg, size_t len);
int cn_ei_play_give(struct cn_ei *h);
bool cn_ei_play_over(const struct cn_ei *h);
void cn_ei_play_end(struct cn_ei *h);

/* ei_io.c: as struct ei_socket_callbacks has them. */
int cn_ei_cb_write(void *ctx, const char *buf, ssize_t *len, unsigned tmo);
int cn_ei_cb_writev(void *ctx, const void *iov, int iovcnt, ssize_t *len, unsigned tmo);
int cn_ei_cb_read(void *ctx, char *buf, ssize_t *len, unsigned tmo);
int cn_ei_cb_header_size(void *ctx, int *sz);
int cn_ei_cb_handshake_complete(void *ctx);

#endif
