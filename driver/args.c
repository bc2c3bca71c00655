/* SPDX-License-Identifier: Apache-2.0 */
/* Control arguments and results, messages to Erlang, the log, clocks and memory of the VM. */
#include "driver/drv.h"

#include "base/rw.h"

#include <stdio.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

/* --- arguments ----------------------------------------------------------- */

void drv_args_init(struct drv_args *a, const uint8_t *p, size_t len)
{
    *a = (struct drv_args){.p = p, .left = len};
}

bool drv_args_next(struct drv_args *a, struct drv_arg *out)
{
    if (a->left == 0) {
        return false;
    }
    if (a->left < 3) {
        a->bad = true;
        return false;
    }
    out->key = a->p[0];
    out->len = (uint16_t)(a->p[1] << 8 | a->p[2]);
    if (a->left - 3 < out->len) {
        a->bad = true;
        return false;
    }
    out->val = a->p + 3;
    a->p += 3u + out->len;
    a->left -= 3u + out->len;
    return true;
}

static bool find(const uint8_t *p, size_t len, uint8_t key, struct drv_arg *out)
{
    struct drv_args a;

    drv_args_init(&a, p, len);
    while (drv_args_next(&a, out)) {
        if (out->key == key) {
            return true;
        }
    }
    return false;
}

bool drv_args_string(const uint8_t *p, size_t len, uint8_t key, char *out, size_t cap)
{
    struct drv_arg a;

    out[0] = '\0';
    if (!find(p, len, key, &a) || a.len >= cap || memchr(a.val, 0, a.len) != NULL) {
        return false;
    }
    memcpy(out, a.val, a.len);
    out[a.len] = '\0';
    return true;
}

uint64_t drv_arg_uint(const struct drv_arg *a)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < a->len && i < 8; i++) {
        v = v << 8 | a->val[i];
    }
    return v;
}

bool drv_args_uint(const uint8_t *p, size_t len, uint8_t key, uint64_t *out)
{
    struct drv_arg a;

    if (!find(p, len, key, &a) || a.len == 0 || a.len > 8) {
        return false;
    }
    *out = drv_arg_uint(&a);
    return true;
}

/* --- results ------------------------------------------------------------- */

void drv_reply_init(struct drv_reply *r)
{
    *r = (struct drv_reply){0};
}

void drv_reply_bytes(struct drv_reply *r, const void *p, size_t len)
{
    if (r->nomem || len == 0) {
        return;
    }
    if (r->cap - r->len < len) {
        size_t cap = (r->len + len) * 2 + 64;
        uint8_t *grown = driver_realloc(r->p, cap);
        if (grown == NULL) {
            r->nomem = true;
            return;
        }
        r->p = grown;
        r->cap = cap;
    }
    memcpy(r->p + r->len, p, len);
    r->len += len;
}

void drv_reply_uint(struct drv_reply *r, uint64_t v, unsigned bytes)
{
    uint8_t b[8];

    for (unsigned i = 0; i < bytes; i++) {
        b[bytes - 1 - i] = (uint8_t)(v >> (8 * i));
    }
    drv_reply_bytes(r, b, bytes);
}

void drv_reply_tlv(struct drv_reply *r, uint8_t key, const void *p, size_t len)
{
    drv_reply_uint(r, key, 1);
    drv_reply_uint(r, len, 2);
    drv_reply_bytes(r, p, len);
}

void drv_reply_stat(struct drv_reply *r, const char *name, uint64_t v)
{
    drv_reply_uint(r, strlen(name), 1);
    drv_reply_bytes(r, name, strlen(name));
    drv_reply_uint(r, v, 8);
}

void drv_reply_ok(struct drv_reply *r)
{
    r->len = 0;
    drv_reply_uint(r, 0, 1);
}

void drv_reply_error(struct drv_reply *r, int err, const char *text)
{
    const char *atom = bp_err_atom(err);

    r->len = 0;
    drv_reply_uint(r, 1, 1);
    drv_reply_uint(r, strlen(atom), 1);
    drv_reply_bytes(r, atom, strlen(atom));
    text = text != NULL && text[0] != '\0' ? text : bp_err_text(err);
    drv_reply_bytes(r, text, strlen(text));
}

ErlDrvSSizeT drv_reply_done(struct drv_reply *r, char **rbuf, ErlDrvSizeT rlen)
{
    size_t len = r->len;

    if (r->nomem || len == 0) {
        drv_free(r->p);
        return -1; /* badarg in the caller: there is no memory to say more */
    }
    if (len <= rlen) {
        memcpy(*rbuf, r->p, len);
    } else {
        /* PORT_CONTROL_FLAG_BINARY: a larger result is a binary. */
        ErlDrvBinary *bin = driver_alloc_binary((ErlDrvSizeT)len);
        if (bin == NULL) {
            drv_free(r->p);
            return -1;
        }
        memcpy(bin->orig_bytes, r->p, len);
        *rbuf = (char *)bin;
    }
    bp_wipe(r->p, len); /* it may have been a secret */
    drv_free(r->p);
    return (ErlDrvSSizeT)len;
}

/* --- messages ------------------------------------------------------------ */

static ErlDrvTermData atom(const char *name)
{
    return driver_mk_atom((char *)(uintptr_t)name);
}

void drv_tell(ErlDrvPort port, const char *tag)
{
    ErlDrvTermData p = driver_mk_port(port);
    ErlDrvTermData t[] = {ERL_DRV_PORT,  p, ERL_DRV_ATOM,  atom(tag),
                          ERL_DRV_TUPLE, 1, ERL_DRV_TUPLE, 2};

    erl_drv_output_term(p, t, sizeof(t) / sizeof(t[0]));
}

void drv_tell_bins(ErlDrvPort port, const char *tag, const char *name, const void *a, size_t a_len,
                   const void *b, size_t b_len)
{
    ErlDrvTermData p = driver_mk_port(port);
    ErlDrvTermData t[16];
    int n = 0;
    unsigned arity = 1;

    t[n++] = ERL_DRV_PORT;
    t[n++] = p;
    t[n++] = ERL_DRV_ATOM;
    t[n++] = atom(tag);
    if (name != NULL) {
        t[n++] = ERL_DRV_ATOM;
        t[n++] = atom(name);
        arity++;
    }
    if (a != NULL) {
        t[n++] = ERL_DRV_BUF2BINARY;
        t[n++] = (ErlDrvTermData)a;
        t[n++] = (ErlDrvTermData)a_len;
        arity++;
    }
    if (b != NULL) {
        t[n++] = ERL_DRV_BUF2BINARY;
        t[n++] = (ErlDrvTermData)b;
        t[n++] = (ErlDrvTermData)b_len;
        arity++;
    }
    t[n++] = ERL_DRV_TUPLE;
    t[n++] = arity;
    t[n++] = ERL_DRV_TUPLE;
    t[n++] = 2;
    erl_drv_output_term(p, t, n);
}

void drv_tell_data(ErlDrvPort port, const char *tag, const void *data, size_t len, bool fin)
{
    ErlDrvTermData p = driver_mk_port(port);
    ErlDrvTermData t[] = {ERL_DRV_PORT,
                          p,
                          ERL_DRV_ATOM,
                          atom(tag),
                          ERL_DRV_BUF2BINARY,
                          (ErlDrvTermData)data,
                          (ErlDrvTermData)len,
                          ERL_DRV_ATOM,
                          atom(fin ? "true" : "false"),
                          ERL_DRV_TUPLE,
                          3,
                          ERL_DRV_TUPLE,
                          2};

    erl_drv_output_term(p, t, sizeof(t) / sizeof(t[0]));
}

/* The node port and its owner, as they are now. */
static bool node_target(ErlDrvTermData *port, ErlDrvTermData *owner)
{
    bool there;

    erl_drv_mutex_lock(drv_node.lock);
    there = drv_node.has_port && drv_node.has_owner;
    *port = drv_node.port;
    *owner = drv_node.owner;
    erl_drv_mutex_unlock(drv_node.lock);
    return there;
}

void drv_tell_incoming(uint32_t id)
{
    ErlDrvTermData port;
    ErlDrvTermData owner;

    if (node_target(&port, &owner)) {
        ErlDrvTermData t[] = {ERL_DRV_PORT,  port, ERL_DRV_ATOM,  atom("incoming"),
                              ERL_DRV_UINT,  id,   ERL_DRV_TUPLE, 2,
                              ERL_DRV_TUPLE, 2};
        erl_drv_send_term(port, owner, t, sizeof(t) / sizeof(t[0]));
    }
}

void drv_tell_result(ErlDrvTermData who, const char *tag, uint64_t id, struct drv_reply *r)
{
    ErlDrvTermData port;
    ErlDrvTermData owner;

    if (!r->nomem && node_target(&port, &owner)) {
        ErlDrvTermData t[] = {ERL_DRV_ATOM,
                              atom(tag),
                              ERL_DRV_UINT,
                              (ErlDrvTermData)id,
                              ERL_DRV_BUF2BINARY,
                              (ErlDrvTermData)r->p,
                              r->len,
                              ERL_DRV_TUPLE,
                              3};
        erl_drv_send_term(port, who, t, sizeof(t) / sizeof(t[0]));
    }
    drv_free(r->p);
}

/* One line costs a token; the bucket fills with DRV_LOG_PER_SEC (strangers cannot flood the log).
 */
static bool may_log(enum drv_level level)
{
    bool ok;
    bp_time now = drv_now();

    erl_drv_mutex_lock(drv_node.lock);
    ok = drv_node.settings == NULL || level <= drv_node.settings->log_level;
    if (ok) {
        drv_node.log_tokens +=
            (double)(now - drv_node.log_at) / (double)BP_SEC * (double)DRV_LOG_PER_SEC;
        if (drv_node.log_tokens > DRV_LOG_BURST) {
            drv_node.log_tokens = DRV_LOG_BURST;
        }
        drv_node.log_at = now;
        ok = drv_node.log_tokens >= 1;
        if (ok) {
            drv_node.log_tokens -= 1;
        } else {
            drv_node.log_dropped++;
        }
    }
    erl_drv_mutex_unlock(drv_node.lock);
    return ok;
}

void drv_tell_of_port(const char *tag, ErlDrvPort of)
{
    ErlDrvTermData port;
    ErlDrvTermData owner;

    if (node_target(&port, &owner)) {
        ErlDrvTermData t[] = {
            ERL_DRV_PORT,  port, ERL_DRV_ATOM,  atom(tag), ERL_DRV_PORT, driver_mk_port(of),
            ERL_DRV_TUPLE, 2,    ERL_DRV_TUPLE, 2};
        erl_drv_send_term(port, owner, t, sizeof(t) / sizeof(t[0]));
    }
}

void drv_log(enum drv_level level, const char *event, const char *peer, const char *fmt, ...)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    ErlDrvTermData port;
    ErlDrvTermData owner;
    char text[1280];
    va_list ap;

    if (!may_log(level) || !node_target(&port, &owner)) {
        return;
    }
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    ErlDrvTermData t[] = {ERL_DRV_PORT,         port,
                          ERL_DRV_ATOM,         atom("log"),
                          ERL_DRV_ATOM,         atom(names[level]),
                          ERL_DRV_ATOM,         atom(event),
                          ERL_DRV_BUF2BINARY,   (ErlDrvTermData)peer,
                          strlen(peer),         ERL_DRV_BUF2BINARY,
                          (ErlDrvTermData)text, strlen(text),
                          ERL_DRV_TUPLE,        5,
                          ERL_DRV_TUPLE,        2};
    erl_drv_send_term(port, owner, t, sizeof(t) / sizeof(t[0]));
}

/* --- clocks and memory --------------------------------------------------- */

static uint64_t clock_ns(clockid_t id)
{
    struct timespec ts = {0};

    (void)clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * BP_SEC + (uint64_t)ts.tv_nsec;
}

bp_time drv_now(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t drv_wall_ms(void)
{
    return clock_ns(CLOCK_REALTIME) / BP_MS;
}

static void *mem_alloc(void *ctx, size_t size)
{
    (void)ctx;
    return driver_alloc((ErlDrvSizeT)(size != 0 ? size : 1));
}

static void *mem_grow(void *ctx, void *p, size_t size)
{
    (void)ctx;
    return p == NULL ? mem_alloc(ctx, size) : driver_realloc(p, (ErlDrvSizeT)size);
}

void drv_free(void *p)
{
    if (p != NULL) {
        driver_free(p); /* which does not take NULL */
    }
}

static void mem_release(void *ctx, void *p)
{
    (void)ctx;
    drv_free(p);
}

const struct bp_mem *drv_mem(void)
{
    static const struct bp_mem mem = {.alloc = mem_alloc, .grow = mem_grow, .release = mem_release};
    return &mem;
}

static void *bin_alloc(void *ctx, size_t cap, uint8_t **data)
{
    ErlDrvBinary *bin = driver_alloc_binary((ErlDrvSizeT)cap);

    (void)ctx;
    if (bin != NULL) {
        *data = (uint8_t *)bin->orig_bytes;
    }
    return bin;
}

static void *bin_grow(void *ctx, void *p, size_t cap, uint8_t **data)
{
    ErlDrvBinary *bin = driver_realloc_binary(p, (ErlDrvSizeT)cap);

    (void)ctx;
    if (bin != NULL) {
        *data = (uint8_t *)bin->orig_bytes;
    }
    return bin;
}

static void bin_release(void *ctx, void *p)
{
    (void)ctx;
    if (p != NULL) {
        driver_free_binary(p);
    }
}

const struct bp_rx_mem *drv_rx_mem(void)
{
    static const struct bp_rx_mem rx = {
        .alloc = bin_alloc, .grow = bin_grow, .release = bin_release};
    return &rx;
}

const struct bp_owner_ops *drv_owner_ops(void)
{
    static const struct bp_owner_ops ops = {.release = bin_release};
    return &ops;
}
