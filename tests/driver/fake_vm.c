/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/fake_vm.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <time.h>

#define FDS_MAX  256u
#define ATOMS    256u
#define OWNER_ID VM_OWNER

struct fd_entry {
    int fd;
    int mode;
    ErlDrvPort port;
};

ErlDrvEntry *driver_init(void);

static ErlDrvEntry *entry;
static struct _erl_drv_port *ports;
static struct _erl_drv_port node_owner; /* its msgs are what the node's owner got */
static struct fd_entry fds[FDS_MAX];
static unsigned n_fds;
bool vm_timers_held;
static char *atoms[ATOMS];

/* --- terms --------------------------------------------------------------- */

ErlDrvTermData driver_mk_atom(char *name)
{
    for (unsigned i = 0; i < ATOMS; i++) {
        if (atoms[i] == NULL) {
            atoms[i] = strdup(name);
        }
        if (strcmp(atoms[i], name) == 0) {
            return (ErlDrvTermData)atoms[i];
        }
    }
    vm_die("an atom table that grows without end");
    return 0;
}

ErlDrvTermData driver_mk_port(ErlDrvPort p)
{
    return (ErlDrvTermData)p;
}

ErlDrvTermData driver_connected(ErlDrvPort p)
{
    (void)p;
    return OWNER_ID;
}

static void append(struct vm_msg *m, const char *fmt, ...)
{
    size_t n = strlen(m->text);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(m->text + n, sizeof(m->text) - n, fmt, ap);
    va_end(ap);
}

static void append_bytes(struct vm_msg *m, const char *p, size_t len)
{
    bool text = len <= 500;

    for (size_t i = 0; i < len; i++) {
        text = text && p[i] >= ' ' && p[i] <= '~';
    }
    if (text) {
        append(m, " <%.*s>", (int)len, p);
    } else {
        append(m, " <%zu bytes>", len);
    }
}

static void note_stream_terms(struct vm_msg *m, const ErlDrvTermData *t, int *i)
{
    switch (t[*i]) {
    case ERL_DRV_UINT64:
        append(m, " %llu", (unsigned long long)*(const ErlDrvUInt64 *)t[*i + 1]);
        *i += 2;
        break;
    case ERL_DRV_PID:
        append(m, " #%lu", (unsigned long)t[*i + 1]);
        *i += 2;
        break;
    case ERL_DRV_BINARY:
        append_bytes(m, ((const ErlDrvBinary *)t[*i + 1])->orig_bytes + t[*i + 3],
                     (size_t)t[*i + 2]);
        *i += 4;
        break;
    case ERL_DRV_EXT2TERM: /* a small UTF-8 atom */
        assert_int_equal(((const uint8_t *)t[*i + 1])[1], 119);
        append_bytes(m, (const char *)t[*i + 1] + 3, (size_t)t[*i + 2] - 3);
        *i += 3;
        break;
    case ERL_DRV_NIL:
        *i += 1;
        break;
    case ERL_DRV_LIST:
        *i += 2;
        break;
    default:
        vm_die("a term that it does not use");
    }
}

static void note(struct _erl_drv_port *to, const ErlDrvTermData *t, int n)
{
    struct vm_msg *m;
    int i = 0;

    if (to->msgs == NULL) {
        to->msgs = calloc(VM_MSGS_MAX, sizeof(*to->msgs));
    }
    assert_non_null(to->msgs);
    if (to->n_msgs == VM_MSGS_MAX) {
        vm_die("more messages than any test causes");
    }
    m = &to->msgs[to->n_msgs++];
    m->text[0] = '\0';
    while (i < n) {
        switch (t[i]) {
        case ERL_DRV_PORT:
            i += 2;
            break;
        case ERL_DRV_ATOM:
            append(m, "%s%s", m->text[0] != '\0' ? " " : "", (const char *)t[i + 1]);
            i += 2;
            break;
        case ERL_DRV_UINT:
            append(m, " %lu", (unsigned long)t[i + 1]);
            i += 2;
            break;
        case ERL_DRV_BUF2BINARY:
            append_bytes(m, (const char *)t[i + 1], (size_t)t[i + 2]);
            m->raw_len = (size_t)t[i + 2];
            if (m->raw_len > 0 && m->raw_len <= sizeof(m->raw)) {
                memcpy(m->raw, (const void *)t[i + 1], m->raw_len);
            }
            i += 3;
            break;
        case ERL_DRV_TUPLE:
            i += 2;
            break;
        default:
            note_stream_terms(m, t, &i);
        }
    }
}

void vm_note(ErlDrvPort to, const ErlDrvTermData *t, int n)
{
    note(to, t, n);
}

ErlDrvEntry *vm_entry(void)
{
    return entry;
}

int erl_drv_output_term(ErlDrvTermData port, ErlDrvTermData *t, int n)
{
    struct _erl_drv_port *p = (struct _erl_drv_port *)port;

    if (!p->open) {
        return -1;
    }
    note(p, t, n);
    return 1;
}

int erl_drv_send_term(ErlDrvTermData port, ErlDrvTermData to, ErlDrvTermData *t, int n)
{
    struct _erl_drv_port *box = to == OWNER_ID ? &node_owner : vm_mailbox(to);

    (void)port;
    if (box == NULL) {
        return 0; /* it has ended */
    }
    note(box, t, n);
    return 1;
}

const struct vm_msg *vm_find_msg(ErlDrvPort port, const char *start)
{
    const struct _erl_drv_port *p = port != NULL ? port : &node_owner;

    for (unsigned i = 0; i < p->n_msgs; i++) {
        if (strncmp(p->msgs[i].text, start, strlen(start)) == 0) {
            return &p->msgs[i];
        }
    }
    return NULL;
}

const char *vm_find(ErlDrvPort port, const char *start)
{
    const struct vm_msg *m = vm_find_msg(port, start);

    return m != NULL ? m->text : NULL;
}

static bool locked;

int driver_lock_driver(ErlDrvPort p)
{
    (void)p;
    locked = true;
    return 0;
}

bool vm_locked(void)
{
    return locked;
}

unsigned vm_count(ErlDrvPort port, const char *start)
{
    const struct _erl_drv_port *p = port != NULL ? port : &node_owner;
    unsigned n = 0;

    for (unsigned i = 0; i < p->n_msgs; i++) {
        n += strncmp(p->msgs[i].text, start, strlen(start)) == 0;
    }
    return n;
}

void vm_forget(ErlDrvPort port)
{
    (port != NULL ? port : &node_owner)->n_msgs = 0;
}

/* --- data to the distribution -------------------------------------------- */

static int output(ErlDrvPort p, const void *data, size_t len)
{
    if (!p->open) {
        vm_die("output to a closed port");
    }
    if (p->rx_cap - p->rx_len < len) {
        p->rx_cap = (p->rx_len + len) * 2;
        p->rx = realloc(p->rx, p->rx_cap);
        assert_non_null(p->rx);
    }
    if (len > 0) {
        memcpy(p->rx + p->rx_len, data, len);
    }
    p->rx_len += len;
    p->n_frames++;
    return 0;
}

int driver_output2(ErlDrvPort p, char *hbuf, ErlDrvSizeT hlen, char *buf, ErlDrvSizeT len)
{
    (void)hbuf;
    assert_int_equal(hlen, 0);
    return output(p, buf, len);
}

int driver_output_binary(ErlDrvPort p, char *hbuf, ErlDrvSizeT hlen, ErlDrvBinary *bin,
                         ErlDrvSizeT offset, ErlDrvSizeT len)
{
    (void)hbuf;
    assert_int_equal(hlen, 0);
    if (offset + len > (ErlDrvSizeT)bin->orig_size) {
        vm_die("output from outside of a binary");
    }
    return output(p, bin->orig_bytes + offset, len);
}

void set_busy_port(ErlDrvPort p, int on)
{
    p->busy = on != 0;
    p->busy_changes++;
}

void set_port_control_flags(ErlDrvPort p, int flags)
{
    (void)p;
    assert_int_equal(flags, PORT_CONTROL_FLAG_BINARY);
}

/* --- descriptors --------------------------------------------------------- */

static struct fd_entry *find_fd(int fd)
{
    for (unsigned i = 0; i < n_fds; i++) {
        if (fds[i].fd == fd) {
            return &fds[i];
        }
    }
    return NULL;
}

int driver_select(ErlDrvPort p, ErlDrvEvent event, int mode, int on)
{
    int fd = (int)(intptr_t)event;
    struct fd_entry *e = find_fd(fd);

    if (on != 0) {
        if (e == NULL) {
            assert_true(n_fds < FDS_MAX);
            e = &fds[n_fds++];
            *e = (struct fd_entry){.fd = fd, .port = p};
        }
        if (e->port != p) {
            vm_die("one descriptor selected by two ports");
        }
        e->mode |= mode;
        return 0;
    }
    if (e == NULL) {
        vm_die("a descriptor deselected that was not selected");
        return -1;
    }
    e->mode &= ~mode;
    if ((mode & ERL_DRV_USE) != 0) {
        *e = fds[--n_fds];
        entry->stop_select(event, NULL);
    }
    return 0;
}

static void callback(int fd, ErlDrvPort p, int mode)
{
    /* An earlier callback of this turn may have closed it. */
    const struct fd_entry *e = find_fd(fd);

    if (e == NULL || e->port != p || (e->mode & mode) == 0) {
        return;
    }
    if (mode == ERL_DRV_READ) {
        entry->ready_input(p->data, (ErlDrvEvent)(intptr_t)fd);
    } else {
        entry->ready_output(p->data, (ErlDrvEvent)(intptr_t)fd);
    }
}

/* --- timers -------------------------------------------------------------- */

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

int driver_set_timer(ErlDrvPort p, unsigned long ms)
{
    if (!p->open) {
        vm_die("a timer of a closed port");
    }
    p->timer_set = true;
    p->timer_at = now_ms() + ms + 1; /* never early, as the VM's */
    return 0;
}

int driver_cancel_timer(ErlDrvPort p)
{
    p->timer_set = false;
    return 0;
}

int erl_drv_consume_timeslice(ErlDrvPort p, int percent)
{
    if (!p->open || percent < 1 || percent > 100) {
        vm_die("a time slice of a closed port, or more than one");
    }
    return 0;
}

/* At most `ms`, and not beyond the next timer. */
static int until_timer(int ms)
{
    uint64_t now = now_ms();

    for (const struct _erl_drv_port *p = ports; p != NULL && !vm_timers_held; p = p->next) {
        if (p->open && p->timer_set) {
            int left = p->timer_at > now ? (int)(p->timer_at - now) : 0;
            ms = left < ms ? left : ms;
        }
    }
    return ms;
}

static void run_timers(void)
{
    uint64_t now = now_ms();

    for (struct _erl_drv_port *p = ports; p != NULL && !vm_timers_held; p = p->next) {
        if (p->open && p->timer_set && p->timer_at <= now) {
            p->timer_set = false;
            entry->timeout(p->data);
        }
    }
}

static void ready_callbacks(struct pollfd *p, const struct fd_entry *then, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if ((p[i].revents & POLLNVAL) != 0) {
            vm_die("a selected descriptor was closed");
        }
        if ((p[i].revents & (POLLIN | POLLERR | POLLHUP)) != 0) {
            callback(then[i].fd, then[i].port, ERL_DRV_READ);
        }
        if ((p[i].revents & POLLOUT) != 0) {
            callback(then[i].fd, then[i].port, ERL_DRV_WRITE);
        }
    }
}

void vm_poll(int ms, const int *also, unsigned n_also)
{
    struct pollfd p[FDS_MAX + 8];
    struct fd_entry then[FDS_MAX];
    unsigned n = n_fds;

    memcpy(then, fds, sizeof(then));
    for (unsigned i = 0; i < n; i++) {
        p[i] = (struct pollfd){.fd = then[i].fd};
        p[i].events = (short)(((then[i].mode & ERL_DRV_READ) != 0 ? POLLIN : 0) |
                              ((then[i].mode & ERL_DRV_WRITE) != 0 ? POLLOUT : 0));
    }
    for (unsigned i = 0; i < n_also; i++) {
        p[n + i] = (struct pollfd){.fd = also[i], .events = POLLIN};
    }
    if (poll(p, n + n_also, until_timer(ms)) > 0) {
        ready_callbacks(p, then, n);
    }
    run_timers();
}

/* --- ports --------------------------------------------------------------- */

static void stop(ErlDrvPort p)
{
    if (p->open) {
        p->open = false;
        vm_port_gone(p);
        entry->stop(p->data);
    }
    for (unsigned i = 0; i < n_fds; i++) {
        if (fds[i].port == p) {
            vm_die("a closed port with a selected descriptor");
        }
    }
}

int driver_failure_atom(ErlDrvPort p, char *reason)
{
    snprintf(p->failed, sizeof(p->failed), "%s", reason);
    stop(p);
    return 0;
}

ErlDrvPort vm_open(const char *command)
{
    struct _erl_drv_port *p = calloc(1, sizeof(*p));
    char *copy = strdup(command);

    assert_non_null(p);
    p->open = true;
    p->data = entry->start(p, copy);
    free(copy);
    if (p->data == ERL_DRV_ERROR_BADARG || p->data == ERL_DRV_ERROR_GENERAL ||
        p->data == ERL_DRV_ERROR_ERRNO) {
        free(p->msgs);
        free(p);
        return NULL;
    }
    p->next = ports;
    ports = p;
    return p;
}

void vm_close(ErlDrvPort p)
{
    struct _erl_drv_port **at = &ports;

    stop(p);
    while (*at != p) {
        at = &(*at)->next;
    }
    *at = p->next;
    free(p->msgs);
    free(p->rx);
    free(p);
}

void vm_control(ErlDrvPort p, unsigned op, const void *data, size_t len, struct vm_reply *r)
{
    char small[64];
    char *rbuf = small;
    /* In a block of its own, so that reading beyond it is seen. */
    char *copy = malloc(len != 0 ? len : 1);
    ErlDrvSSizeT n;

    assert_true(p->open);
    assert_non_null(copy);
    if (len > 0) {
        memcpy(copy, data, len);
    }
    memset(r, 0, sizeof(*r));
    n = entry->control(p->data, op, copy, (ErlDrvSizeT)len, &rbuf, sizeof(small));
    free(copy);
    if (n < 0) {
        r->badarg = true;
        return;
    }
    assert_true(n > 0 && (size_t)n < sizeof(r->data));
    {
        const char *bytes = rbuf == small ? small : ((ErlDrvBinary *)(void *)rbuf)->orig_bytes;
        r->ok = bytes[0] == 0;
        if (r->ok) {
            r->len = (size_t)n - 1;
            memcpy(r->data, bytes + 1, r->len);
        } else {
            size_t atom = (uint8_t)bytes[1];
            memcpy(r->err, bytes + 2, atom);
            r->len = (size_t)n - 2 - atom;
            memcpy(r->data, bytes + 2 + atom, r->len);
        }
    }
    if (rbuf != small) {
        driver_free_binary((ErlDrvBinary *)(void *)rbuf);
    }
}

void vm_control_ok(ErlDrvPort p, unsigned op, const void *data, size_t len, struct vm_reply *r)
{
    vm_control(p, op, data, len, r);
    if (!r->ok) {
        fail_msg("operation %u: %s: %s", op, r->badarg ? "badarg" : r->err, (char *)r->data);
    }
}

void vm_command(ErlDrvPort p, const struct vm_piece *pieces, int n)
{
    SysIOVec *iov = calloc((size_t)n + 1, sizeof(*iov));
    ErlDrvBinary **binv = calloc((size_t)n + 1, sizeof(*binv));
    ErlIOVec ev = {.vsize = n, .iov = iov, .binv = binv};

    assert_non_null(iov);
    assert_non_null(binv);
    for (int i = 0; i < n; i++) {
        iov[i].iov_base = (char *)(uintptr_t)pieces[i].base;
        iov[i].iov_len = pieces[i].len;
        binv[i] = pieces[i].bin;
        ev.size += (ErlDrvSizeT)pieces[i].len;
    }
    entry->outputv(p->data, &ev);
    free(iov);
    free(binv);
}

void vm_command_bytes(ErlDrvPort p, const void *data, size_t len)
{
    struct vm_piece piece = {.base = data, .len = len};

    vm_command(p, &piece, len > 0 ? 1 : 0);
}

/* --- the whole ----------------------------------------------------------- */

void vm_init(void)
{
    entry = driver_init();
    assert_int_equal(entry->init(), 0);
}

void vm_close_all(void)
{
    vm_fail_after(-1);
    while (ports != NULL) {
        vm_close(ports);
    }
    node_owner.n_msgs = 0;
}

void vm_finish(void)
{
    vm_close_all();
    entry->finish();
    vm_procs_finish();
    assert_int_equal(n_fds, 0);
    assert_int_equal(vm_live_bins(), 0);
    assert_int_equal(vm_live(), 0);
    for (unsigned i = 0; i < ATOMS; i++) {
        free(atoms[i]);
        atoms[i] = NULL;
    }
    free(node_owner.msgs);
    node_owner = (struct _erl_drv_port){0};
}
