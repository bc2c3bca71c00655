/* SPDX-License-Identifier: Apache-2.0 */
/* c-ares behind one epoll descriptor: its sockets and its timer are what that waits for. */
#include "io/resolver.h"

#include <ares.h>
#include <arpa/nameser.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"

#define EVENTS 16
#define TRIES  2
#define FRESH_SEC                                                                                  \
    30 /* an idle channel older than this is made anew: resolv.conf may be another                 \
        */

struct question {
    struct bp_resolver *r;
    uint64_t id;
    uint64_t who;
    enum bp_question_kind kind;
};

struct ready {
    struct ready *next;
    struct bp_answer answer;
};

struct bp_resolver {
    ares_channel channel;
    int epoll_fd;
    int timer_fd;
    unsigned timeout_ms;
    char *servers; /* NULL: the system's */
    time_t made_at;
    bool closing;
    unsigned n_open;  /* questions whose answer was not taken */
    unsigned n_asked; /* of these, at c-ares */
    struct ready *head;
    struct ready **tail;
    struct bp_resolver_stats stats;
};

/* --- the channel --------------------------------------------------------- */

static void on_socket(void *data, ares_socket_t fd, int readable, int writable)
{
    struct bp_resolver *r = data;
    struct epoll_event ev = {.data.fd = fd};

    ev.events = (readable ? (uint32_t)EPOLLIN : 0u) | (writable ? (uint32_t)EPOLLOUT : 0u);
    if (ev.events == 0) {
        (void)epoll_ctl(r->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    } else if (epoll_ctl(r->epoll_fd, EPOLL_CTL_MOD, fd, &ev) != 0 && errno == ENOENT) {
        /* Without memory for it the question ends by its timer. */
        (void)epoll_ctl(r->epoll_fd, EPOLL_CTL_ADD, fd, &ev);
    }
}

static time_t now_sec(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec;
}

static int channel_open(struct bp_resolver *r)
{
    struct ares_options o = {.timeout = (int)r->timeout_ms,
                             .tries = TRIES,
                             .sock_state_cb = on_socket,
                             .sock_state_cb_data = r};
    int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB;
    int rc;

#ifdef ARES_OPT_QUERY_CACHE
    /* c-ares 1.31 keeps answers for up to an hour unless told not to. Discovery keeps them itself,
     * and forgets them when a dial fails. */
    o.qcache_max_ttl = 0;
    mask |= ARES_OPT_QUERY_CACHE;
#endif
    rc = ares_init_options(&r->channel, &o, mask);
    if (rc != ARES_SUCCESS) {
        r->channel = NULL;
        return rc == ARES_ENOMEM ? BP_E_NOMEM : BP_E_SYSTEM;
    }
    r->made_at = now_sec();
    if (r->servers != NULL) {
        rc = ares_set_servers_ports_csv(r->channel, r->servers);
        if (rc != ARES_SUCCESS) {
            ares_destroy(r->channel);
            r->channel = NULL;
            return rc == ARES_ENOMEM ? BP_E_NOMEM : BP_E_INVALID;
        }
    }
    return 0;
}

int bp_resolver_new(struct bp_resolver **out, const char *servers, unsigned timeout_ms)
{
    struct bp_resolver *r = calloc(1, sizeof(*r));
    struct epoll_event ev = {.events = EPOLLIN};
    int rc = BP_E_NOMEM;

    *out = NULL;
    if (r == NULL) {
        return BP_E_NOMEM;
    }
    r->tail = &r->head;
    r->timeout_ms = timeout_ms;
    r->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    r->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    ev.data.fd = r->timer_fd;
    if (r->epoll_fd < 0 || r->timer_fd < 0 ||
        epoll_ctl(r->epoll_fd, EPOLL_CTL_ADD, r->timer_fd, &ev) != 0) {
        rc = BP_E_SYSTEM;
        goto fail;
    }
    if (servers != NULL) {
        r->servers = strdup(servers);
        if (r->servers == NULL) {
            goto fail;
        }
    }
    rc = channel_open(r);
    if (rc != 0) {
        goto fail;
    }
    *out = r;
    return 0;
fail:
    bp_resolver_del(r);
    return rc;
}

void bp_resolver_del(struct bp_resolver *r)
{
    if (r == NULL) {
        return;
    }
    r->closing = true;
    if (r->channel != NULL) {
        ares_destroy(r->channel);
    }
    while (r->head != NULL) {
        struct ready *next = r->head->next;
        free(r->head);
        r->head = next;
    }
    if (r->timer_fd >= 0) {
        (void)close(r->timer_fd);
    }
    if (r->epoll_fd >= 0) {
        (void)close(r->epoll_fd);
    }
    free(r->servers);
    free(r);
}

int bp_resolver_fd(const struct bp_resolver *r)
{
    return r->epoll_fd;
}

static void arm_timer(struct bp_resolver *r)
{
    struct itimerspec t = {0};
    struct timeval tv;

    if (r->n_asked > 0 && ares_timeout(r->channel, NULL, &tv) != NULL) {
        t.it_value.tv_sec = tv.tv_sec;
        t.it_value.tv_nsec = tv.tv_usec * 1000;
        if (t.it_value.tv_sec == 0 && t.it_value.tv_nsec == 0) {
            t.it_value.tv_nsec = 1;
        }
    }
    (void)timerfd_settime(r->timer_fd, 0, &t, NULL);
}

/* --- answers ------------------------------------------------------------- */

static int status_error(int status)
{
    switch (status) {
    case ARES_SUCCESS:
        return 0;
    case ARES_ENODATA:
    case ARES_ENOTFOUND:
    case ARES_ENONAME:
        return BP_E_NOT_FOUND;
    case ARES_ETIMEOUT:
        return BP_E_TIMEOUT;
    case ARES_ENOMEM:
        return BP_E_NOMEM;
    case ARES_EBADNAME:
    case ARES_EBADQUERY:
        return BP_E_INVALID;
    case ARES_EBADRESP:
    case ARES_EFORMERR:
        return BP_E_PROTOCOL;
    default:
        return BP_E_SYSTEM;
    }
}

/* Frees the question; NULL when nobody can be told. */
static struct ready *answer_begin(struct question *q, int status)
{
    struct bp_resolver *r = q->r;
    struct ready *a = r->closing ? NULL : calloc(1, sizeof(*a));

    if (a != NULL) {
        a->answer.id = q->id;
        a->answer.who = q->who;
        a->answer.kind = q->kind;
        a->answer.rc = status_error(status);
        a->answer.why = ares_strerror(status);
    } else {
        r->n_open--; /* no memory: the asker's own limit ends its wait */
        r->stats.failed++;
    }
    r->n_asked--;
    free(q);
    return a;
}

static void answer_end(struct bp_resolver *r, struct ready *a)
{
    if (a->answer.rc == 0) {
        r->stats.answered++;
    } else {
        r->stats.failed++;
    }
    *r->tail = a;
    r->tail = &a->next;
}

static void on_host(void *arg, int status, int timeouts, struct ares_addrinfo *ai)
{
    struct question *q = arg;
    struct bp_resolver *r = q->r;
    struct ready *a = answer_begin(q, status);
    struct bp_answer *out;

    (void)timeouts;
    if (a == NULL) {
        ares_freeaddrinfo(ai);
        return;
    }
    out = &a->answer;
    out->ttl = UINT32_MAX;
    for (const struct ares_addrinfo_node *n = ai != NULL ? ai->nodes : NULL;
         n != NULL && out->n < BP_RESOLVER_ADDRS; n = n->ai_next) {
        if (bp_addr_from_sockaddr(&out->at[out->n], n->ai_addr, n->ai_addrlen)) {
            out->n++;
            /* 0 also stands for /etc/hosts, which costs nothing to read again. */
            out->ttl =
                n->ai_ttl >= 0 && (uint32_t)n->ai_ttl < out->ttl ? (uint32_t)n->ai_ttl : out->ttl;
        }
    }
    if (out->rc == 0 && out->n == 0) {
        out->rc = BP_E_NOT_FOUND;
    }
    bp_dns_interleave(out->at, out->n);
    ares_freeaddrinfo(ai);
    answer_end(r, a);
}

static void srv_answer(struct question *q, int status, const unsigned char *msg, size_t len)
{
    struct bp_resolver *r = q->r;
    struct ready *a = answer_begin(q, status);

    if (a == NULL) {
        return;
    }
    if (a->answer.rc == 0) {
        a->answer.rc = bp_dns_parse_srv(msg, len, &a->answer.srv);
        a->answer.why = bp_err_text(a->answer.rc);
        a->answer.ttl = a->answer.srv.ttl;
    }
    answer_end(r, a);
}

/* c-ares 1.28 gives records and calls what gives the message itself deprecated. The message is made
 * of them again, as c-ares does for its old callback, so that one parser reads all versions'. */
#if ARES_VERSION >= 0x011c00
static void on_srv(void *arg, ares_status_t status, size_t timeouts, const ares_dns_record_t *rec)
{
    unsigned char *msg = NULL;
    size_t len = 0;

    (void)timeouts;
    if (status == ARES_SUCCESS) {
        status = rec != NULL ? ares_dns_write(rec, &msg, &len) : ARES_EBADRESP;
    }
    srv_answer(arg, (int)status, msg, len);
    ares_free_string(msg);
}

static void ask_srv(struct bp_resolver *r, const char *name, struct question *q)
{
    /* A failure is told to the callback as well. */
    (void)ares_query_dnsrec(r->channel, name, ARES_CLASS_IN, ARES_REC_TYPE_SRV, on_srv, q, NULL);
}
#else
static void on_srv(void *arg, int status, int timeouts, unsigned char *msg, int len)
{
    (void)timeouts;
    srv_answer(arg, status, msg, len > 0 ? (size_t)len : 0);
}

static void ask_srv(struct bp_resolver *r, const char *name, struct question *q)
{
    ares_query(r->channel, name, ns_c_in, ns_t_srv, on_srv, q);
}
#endif

/* --- asking -------------------------------------------------------------- */

static int refresh(struct bp_resolver *r)
{
    ares_channel old = r->channel;
    int rc;

    if (r->servers != NULL || r->n_asked > 0 || now_sec() - r->made_at < FRESH_SEC) {
        return 0;
    }
    rc = channel_open(r);
    if (rc != 0) {
        r->channel = old;
        return rc;
    }
    ares_destroy(old);
    return 0;
}

int bp_resolver_ask(struct bp_resolver *r, const struct bp_question *q)
{
    const struct ares_addrinfo_hints hints = {.ai_family = q->family, .ai_socktype = SOCK_DGRAM};
    struct question *mine;
    int rc;

    if (r->n_open >= BP_RESOLVER_MAX) {
        r->stats.refused++;
        return BP_E_LIMIT;
    }
    if (q->name[0] == '\0' || strlen(q->name) > BP_DNS_NAME_MAX) {
        return BP_E_INVALID;
    }
    rc = refresh(r);
    if (rc != 0) {
        return rc;
    }
    mine = malloc(sizeof(*mine));
    if (mine == NULL) {
        return BP_E_NOMEM;
    }
    *mine = (struct question){.r = r, .id = q->id, .who = q->who, .kind = q->kind};
    r->n_open++;
    r->n_asked++;
    r->stats.asked++;
    /* Either may call back before it returns. */
    if (q->kind == BP_ASK_SRV) {
        ask_srv(r, q->name, mine);
    } else {
        ares_getaddrinfo(r->channel, q->name, NULL, &hints, on_host, mine);
    }
    arm_timer(r);
    return 0;
}

void bp_resolver_run(struct bp_resolver *r)
{
    struct epoll_event ev[EVENTS];
    int n = epoll_wait(r->epoll_fd, ev, EVENTS, 0);

    for (int i = 0; i < n; i++) {
        uint64_t ticks;
        if (ev[i].data.fd == r->timer_fd) {
            (void)!read(r->timer_fd, &ticks, sizeof(ticks));
        } else {
            ares_process_fd(r->channel, ev[i].data.fd,
                            (ev[i].events & EPOLLOUT) != 0 ? ev[i].data.fd : ARES_SOCKET_BAD);
        }
    }
    ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD); /* what timed out */
    arm_timer(r);
}

bool bp_resolver_take(struct bp_resolver *r, struct bp_answer *out)
{
    struct ready *a = r->head;

    if (a == NULL) {
        return false;
    }
    r->head = a->next;
    if (r->head == NULL) {
        r->tail = &r->head;
    }
    *out = a->answer;
    free(a);
    r->n_open--;
    return true;
}

void bp_resolver_stats(const struct bp_resolver *r, struct bp_resolver_stats *out)
{
    *out = r->stats;
}
