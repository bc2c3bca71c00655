/* SPDX-License-Identifier: Apache-2.0 */
/* Parameters as text: names, units, ranges; statistics as text. */
#include "wan/config.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct unit {
    const char *name;
    double factor;
};

static const struct unit times[] = {
    {"us", 1e3},
    {"ms", 1e6},
    {"s", 1e9},
    {NULL, 0},
};
static const struct unit rates[] = {
    {"bit", 1}, {"kbit", 1e3}, {"mbit", 1e6}, {"gbit", 1e9}, {NULL, 0},
};
static const struct unit sizes[] = {
    {"", 1},
    {"k", 1024},
    {"m", 1024 * 1024},
    {NULL, 0},
};
static const struct unit shares[] = {
    {"%", 4294967296.0 / 100},
    {NULL, 0},
};
static const struct unit flags[] = {
    {"", 1},
    {NULL, 0},
};

/* A bare 0 is good for every unit. */
static const struct param {
    const char *name;
    size_t offset;
    const struct unit *units;
    double min, max;
} params[] = {
    {"delay", offsetof(struct wan_params, delay), times, 0, 60e9},
    {"jitter", offsetof(struct wan_params, jitter), times, 0, 60e9},
    {"loss", offsetof(struct wan_params, loss), shares, 0, 4294967296.0},
    {"dup", offsetof(struct wan_params, dup), shares, 0, 4294967296.0},
    {"reorder", offsetof(struct wan_params, reorder), shares, 0, 4294967296.0},
    {"reorder_by", offsetof(struct wan_params, reorder_by), times, 0, 60e9},
    {"rate", offsetof(struct wan_params, rate), rates, 1000, 1e12},
    {"queue", offsetof(struct wan_params, queue), sizes, 0, (double)WAN_MAX_BYTES},
    {"mtu", offsetof(struct wan_params, mtu), sizes, 68, WAN_MAX_PACKET},
    {"down", offsetof(struct wan_params, down), flags, 0, 1},
    {"icmp", offsetof(struct wan_params, icmp), flags, 0, 1},
};

const char *wan_params_help(void)
{
    return "  delay=TIME       one way (20ms, 300us, 1s)\n"
           "  jitter=TIME      delay varies by up to plus or minus TIME; order is kept\n"
           "  loss=SHARE       1%, 0.1%\n"
           "  dup=SHARE        arrives twice\n"
           "  reorder=SHARE    held back for reorder_by=TIME (1ms), so that later ones overtake\n"
           "  rate=RATE        kbit, mbit, gbit of IP packets; 0: no limit\n"
           "  queue=SIZE       what may wait for the transmitter (256k); more is dropped\n"
           "  mtu=SIZE         larger IP packets vanish; icmp=1: and are answered (RFC 1191)\n"
           "  down=1           everything vanishes\n"
           "  nat_port=N       b sees a's ports plus N; +N: plus N more than now\n"
           "  nat_addr=ADDR    b sees this address instead of a's; 0: a's own\n"
           "  ab.KEY, ba.KEY   one direction only (not nat_*)\n";
}

void wan_net_init(struct wan_net *n, uint64_t seed, uint32_t inside)
{
    memset(n, 0, sizeof(*n));
    wan_link_init(&n->dir[WAN_AB], seed);
    wan_link_init(&n->dir[WAN_BA], ~seed);
    n->nat.inside = inside;
}

void wan_net_free(struct wan_net *n)
{
    wan_link_free(&n->dir[WAN_AB]);
    wan_link_free(&n->dir[WAN_BA]);
}

bool wan_parse_address(const char *text, uint32_t *out)
{
    struct in_addr a;

    if (inet_pton(AF_INET, text, &a) != 1) {
        return false;
    }
    *out = ntohl(a.s_addr);
    return true;
}

static bool parse_value(const struct param *p, const char *text, uint64_t *out)
{
    char *end;
    double v = strtod(text, &end);

    if (end == text || !(v >= 0)) {
        return false;
    }
    if (v > 0 || *end != '\0') {
        const struct unit *u = p->units;

        while (u->name != NULL && strcmp(u->name, end) != 0) {
            u++;
        }
        if (u->name == NULL) {
            return false;
        }
        v *= u->factor;
    }
    if (v > p->max || (v < p->min && v > 0) ||
        (p->offset == offsetof(struct wan_params, mtu) && v <= 0)) {
        return false;
    }
    *out = (uint64_t)(v + 0.5);
    return true;
}

static bool set_nat(struct wan_nat *n, const char *key, const char *value)
{
    uint32_t address = 0;
    char *end;
    long v;

    if (strcmp(key, "nat_addr") == 0) {
        if (strcmp(value, "0") != 0 && !wan_parse_address(value, &address)) {
            return false;
        }
        wan_nat_set(n, address, n->port_offset);
        return true;
    }
    v = strtol(value, &end, 10);
    if (end == value || *end != '\0' || v < 0 || v > 60000) {
        return false;
    }
    wan_nat_set(n, n->address, (uint16_t)(v + (value[0] == '+' ? n->port_offset : 0)));
    return true;
}

bool wan_net_set(struct wan_net *n, const char *key, const char *value, char *err, size_t cap)
{
    unsigned dirs = 3;
    const char *name = key;

    if (strcmp(key, "nat_port") == 0 || strcmp(key, "nat_addr") == 0) {
        if (!set_nat(&n->nat, key, value)) {
            snprintf(err, cap, "bad value in %s=%s", key, value);
            return false;
        }
        return true;
    }
    if (strncmp(key, "ab.", 3) == 0 || strncmp(key, "ba.", 3) == 0) {
        dirs = key[0] == 'a' ? 1u << WAN_AB : 1u << WAN_BA;
        name = key + 3;
    }
    for (size_t i = 0; i < sizeof(params) / sizeof(params[0]); i++) {
        uint64_t v;

        if (strcmp(params[i].name, name) != 0) {
            continue;
        }
        if (!parse_value(&params[i], value, &v)) {
            snprintf(err, cap, "bad value in %s=%s", key, value);
            return false;
        }
        for (unsigned d = 0; d < 2; d++) {
            if ((dirs & 1u << d) != 0) {
                memcpy((char *)&n->dir[d].p + params[i].offset, &v, sizeof(v));
            }
        }
        return true;
    }
    snprintf(err, cap, "unknown parameter %s", key);
    return false;
}

static size_t print_direction(const struct wan_link *l, const char *name, char *out, size_t cap)
{
    const struct wan_stats *s = &l->stats;
    int n = snprintf(
        out, cap,
        "%s in=%" PRIu64 " in_bytes=%" PRIu64 " out=%" PRIu64 " out_bytes=%" PRIu64 " lost=%" PRIu64
        " down=%" PRIu64 " too_big=%" PRIu64 " queue_full=%" PRIu64 " memory_full=%" PRIu64
        " nat=%" PRIu64 " refused=%" PRIu64 " ignored=%" PRIu64 " overruns=%" PRIu64
        " duplicated=%" PRIu64 " reordered=%" PRIu64 " icmp=%" PRIu64 " backlog_max=%" PRIu64
        " late_mean_us=%" PRIu64 " late_max_us=%" PRIu64 "\n",
        name, s->in, s->in_bytes, s->out, s->out_bytes, s->lost, s->down, s->too_big, s->queue_full,
        s->memory_full, s->nat, s->refused, s->ignored, s->overruns, s->duplicated, s->reordered,
        s->icmp, s->backlog_max, s->out > 0 ? s->late_sum / s->out / 1000 : 0, s->late_max / 1000);

    return n < 0 || (size_t)n >= cap ? 0 : (size_t)n;
}

size_t wan_net_print(const struct wan_net *n, char *out, size_t cap)
{
    size_t used = print_direction(&n->dir[WAN_AB], "ab", out, cap);

    return used + print_direction(&n->dir[WAN_BA], "ba", out + used, cap - used);
}
