/* SPDX-License-Identifier: Apache-2.0 */
/* The table of keys, and what values they take: the rules of barrel_p2p_config_keys:check/2. */
#include "cli/config.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"
#include "discovery/endpoint.h"

#define TEXT_CAP      8192u
#define NAME_MAX_     64u /* letters of a key */
#define ADVERTISE_MAX 8

const struct cli_key cli_keys[] = {
#define X(place, name, type, optional, min, max, words, fallback, flags, expects)                  \
    {CLI_##place, name, CLI_T_##type, optional, min, max, words, fallback, flags, expects},
#include "cli/config_keys.def"
#undef X
};
const size_t cli_n_keys = sizeof(cli_keys) / sizeof(cli_keys[0]);

const struct cli_key *cli_key_find(const char *name)
{
    for (size_t i = 0; i < cli_n_keys; i++) {
        if (strcmp(cli_keys[i].name, name) == 0) {
            return &cli_keys[i];
        }
    }
    return NULL;
}

const char *cli_place_text(enum cli_place place)
{
    static const char *const texts[] = {[CLI_BARREL_P2P] = "barrel_p2p",
                                        [CLI_QUIC] = "quic",
                                        [CLI_DIST] = "quic, dist",
                                        [CLI_BOTH] = "barrel_p2p, or quic, dist"};
    return texts[place];
}

/* --- names that nobody knows --------------------------------------------------- */

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Levenshtein's. */
static size_t distance(const char *a, const char *b)
{
    size_t row[NAME_MAX_ + 1];
    size_t m = strlen(b);

    for (size_t j = 0; j <= m; j++) {
        row[j] = j;
    }
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = smaller(row[j], row[j - 1]) + 1;
            best = smaller(best, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[m];
}

bool cli_key_stands_in(const struct cli_key *k, enum cli_place place)
{
    return k->place == place || k->place == CLI_BOTH;
}

/* Of several that are equally near, the first of the alphabet, as in Erlang. */
const char *cli_key_nearest(enum cli_place place, const char *name)
{
    const char *found = NULL;
    size_t best = 0;

    if (strlen(name) > 255) {
        return NULL;
    }
    for (size_t i = 0; i < cli_n_keys; i++) {
        const struct cli_key *k = &cli_keys[i];
        size_t far;

        if (!cli_key_stands_in(k, place) || strlen(k->name) > NAME_MAX_) {
            continue;
        }
        far = distance(name, k->name);
        if (found == NULL || far < best || (far == best && strcmp(k->name, found) < 0)) {
            found = k->name;
            best = far;
        }
    }
    return found != NULL && best * 2 <= strlen(name) ? found : NULL;
}

/* --- values -------------------------------------------------------------------- */

static bool in_range(struct cli_value v, long long min, long long max)
{
    long long n;

    return cli_value_integer(v, &n) && n >= min && n <= max;
}

static bool is_text(struct cli_value v)
{
    char text[TEXT_CAP];

    return cli_value_text(v, text, sizeof(text)) && text[0] != '\0';
}

/* string:to_integer/1 of a text without anything behind the number. */
static bool is_port_text(struct cli_value v)
{
    char text[32];
    char *end;
    long n;
    int type;
    int size;
    int at = v.at;

    if (ei_get_type(v.x->buff, &at, &type, &size) != 0 || type != ERL_STRING_EXT ||
        !cli_value_text(v, text, sizeof(text)) || isspace((unsigned char)text[0])) {
        return false;
    }
    errno = 0;
    n = strtol(text, &end, 10);
    return *end == '\0' && end != text && errno == 0 && n >= 0 && n <= 65535;
}

static bool is_word(struct cli_value v, const char *words)
{
    char name[MAXATOMLEN_UTF8];
    size_t n;

    if (!cli_value_atom(v, name) || name[0] == '\0') {
        return false;
    }
    n = strlen(name);
    for (const char *p = words; (p = strstr(p, name)) != NULL; p += n) {
        if ((p == words || p[-1] == ' ') && (p[n] == ' ' || p[n] == '\0')) {
            return true;
        }
    }
    return false;
}

static bool is_some_atom(struct cli_value v)
{
    char name[MAXATOMLEN_UTF8];

    return cli_value_atom(v, name) && strcmp(name, "undefined") != 0;
}

/* What inet:parse_strict_address/1 takes. */
static bool is_address_text(char *text)
{
    struct bp_addr any;
    char *scope = strchr(text, '%');

    if (scope != NULL && strchr(text, ':') != NULL) {
        *scope = '\0';
    }
    return bp_addr_parse(&any, text, 1) == 0;
}

static bool is_address(struct cli_value v)
{
    char text[256];

    return cli_value_ip(v, text) ||
           (cli_value_text(v, text, sizeof(text)) && is_address_text(text));
}

static bool is_host(struct cli_value v)
{
    char ip[INET6_ADDRSTRLEN];
    char name[MAXATOMLEN_UTF8];
    struct bp_endpoint ep = {.port = 1};
    size_t n;

    if (cli_value_ip(v, ip)) {
        return true;
    }
    if (cli_value_is(v, "undefined") ||
        (!cli_value_atom(v, name) && !cli_value_text(v, name, sizeof(name)))) {
        return false;
    }
    n = strlen(name);
    if (n >= sizeof(ep.host)) {
        return false;
    }
    memcpy(ep.host, name, n + 1);
    return bp_endpoint_valid(&ep);
}

static bool is_advertised(struct cli_value v)
{
    struct cli_value host;
    long long n;

    if (cli_value_tuple(v, &host) == 2 && !cli_value_integer(host, &n)) {
        return is_host(host) && in_range(cli_value_after(host), 0, 65535);
    }
    return is_host(v);
}

/* {srtt_ms, N} and the like. */
static bool is_watchdog(struct cli_value v)
{
    struct cli_value key;

    if (cli_value_tuple(v, &key) != 2) {
        return false;
    }
    return (cli_value_is(key, "srtt_ms") && in_range(cli_value_after(key), 1, 3600000)) ||
           (cli_value_is(key, "strikes") && in_range(cli_value_after(key), 1, 1000)) ||
           (cli_value_is(key, "period_ms") && in_range(cli_value_after(key), 10, 3600000));
}

static bool is_map(struct cli_value v)
{
    int type;
    int size;

    return ei_get_type(v.x->buff, &v.at, &type, &size) == 0 && type == ERL_MAP_EXT;
}

/* The elements of an adapter without options. */
static int relay_size(struct cli_value kind)
{
    if (cli_value_is(kind, "fd") || cli_value_is(kind, "process")) {
        return 2;
    }
    return cli_value_is(kind, "udp_relay") || cli_value_is(kind, "socks5") ||
                   cli_value_is(kind, "module")
               ? 3
               : 0;
}

/* {Node, Adapter}; what is in a map only the node's boot looks at. */
static bool is_relay(struct cli_value v)
{
    char name[MAXATOMLEN_UTF8];
    struct cli_value node;
    struct cli_value adapter;
    struct cli_value kind;
    struct cli_value arg;
    struct cli_value last;
    int n;

    if (cli_value_tuple(v, &node) != 2 || !cli_value_atom(node, name)) {
        return false;
    }
    adapter = cli_value_after(node);
    n = cli_value_tuple(adapter, &kind);
    if (n < 2 || relay_size(kind) < n - 1 || relay_size(kind) > n) {
        return false;
    }
    arg = last = cli_value_after(kind);
    for (int i = 2; i < n; i++) {
        last = cli_value_after(last);
    }
    if (n > relay_size(kind) && !is_map(last)) {
        return false;
    }
    if (cli_value_is(kind, "udp_relay") || cli_value_is(kind, "socks5")) {
        return is_host(arg) && in_range(cli_value_after(arg), 1, 65535);
    }
    return cli_value_is(kind, "fd") ? in_range(arg, 0, INT_MAX) : is_some_atom(arg);
}

static bool is_server(struct cli_value v)
{
    struct cli_value host;

    if (cli_value_tuple(v, &host) == 2) {
        return is_address(host) && in_range(cli_value_after(host), 1, 65535);
    }
    return is_address(v);
}

static bool is_backend(struct cli_value v)
{
    struct cli_value module;

    while (cli_value_tuple(v, &module) == 2) {
        v = module;
    }
    return is_some_atom(v);
}

static bool is_binary(struct cli_value v)
{
    int type;
    int size;

    return ei_get_type(v.x->buff, &v.at, &type, &size) == 0 && type == ERL_BINARY_EXT;
}

/* An atom, a binary, or Latin-1 text with one "@" and something on either side. */
static bool is_name(struct cli_value v)
{
    char text[TEXT_CAP];
    const char *host;
    int type;
    int size;
    int at = v.at;

    if (!cli_value_atom(v, text) &&
        ((!is_binary(v) &&
          (ei_get_type(v.x->buff, &at, &type, &size) != 0 || type != ERL_STRING_EXT)) ||
         !cli_value_text(v, text, sizeof(text)))) {
        return false;
    }
    host = strchr(text, '@');
    return host != NULL && host != text && host[1] != '\0' && strchr(host + 1, '@') == NULL &&
           strlen(text) <= 255;
}

static bool list_of(struct cli_value v, bool (*is)(struct cli_value), int min, int max)
{
    struct cli_list l;
    struct cli_value e;

    if (!cli_list_begin(&l, v) || !l.proper || l.left < min || (max > 0 && l.left > max)) {
        return false;
    }
    while (cli_list_next(&l, &e)) {
        if (!is(e)) {
            return false;
        }
    }
    return true;
}

/* A proper list of anything. */
static bool is_list(struct cli_value v)
{
    struct cli_list l;
    int type;
    int size;
    int at = v.at;

    return (ei_get_type(v.x->buff, &at, &type, &size) == 0 && type == ERL_STRING_EXT) ||
           (cli_list_begin(&l, v) && l.proper);
}

/* As barrel_p2p_config:auth_callback/0 wants it. */
static bool is_callback(struct cli_value v)
{
    struct cli_value first;
    char text[TEXT_CAP];
    int type;
    int size;
    int at = v.at;
    char *colon;

    if (cli_value_is(v, "undefined") ||
        (cli_value_tuple(v, &first) == 2 && cli_value_atom(first, text) &&
         cli_value_atom(cli_value_after(first), text))) {
        return true;
    }
    if (ei_get_type(v.x->buff, &at, &type, &size) == 0 && type == ERL_EXPORT_EXT) {
        char *shown = cli_value_print(v);
        size_t n = shown != NULL ? strlen(shown) : 0;
        bool good = n > 2 && strcmp(shown + n - 2, "/3") == 0;
        free(shown);
        return good;
    }
    if (!cli_value_text(v, text, sizeof(text))) {
        return false;
    }
    colon = strchr(text, ':');
    return strcmp(text, "undefined") == 0 ||
           (colon != NULL && colon != text && colon[1] != '\0' && strchr(colon + 1, ':') == NULL);
}

bool cli_key_accepts(const struct cli_key *k, struct cli_value v)
{
    char name[MAXATOMLEN_UTF8];

    if (k->optional && cli_value_is(v, "undefined")) {
        return true;
    }
    switch (k->type) {
    case CLI_T_ADDRESS:
        return cli_value_is(v, "any") || cli_value_is(v, "undefined") || is_address(v);
    case CLI_T_ADVERTISE:
        return is_advertised(v) || list_of(v, is_advertised, 1, ADVERTISE_MAX);
    case CLI_T_BACKENDS:
        return list_of(v, is_backend, 0, 0);
    case CLI_T_BOOLEAN:
        return is_word(v, "true false");
    case CLI_T_CALLBACK:
        return is_callback(v);
    case CLI_T_COOKIE:
        return (cli_value_atom(v, name) && name[0] != '\0') || is_text(v);
    case CLI_T_DIR:
    case CLI_T_TEXT:
        return is_text(v);
    case CLI_T_DIR_OR_NONE:
        return cli_value_is(v, "none") || is_text(v);
    case CLI_T_IGNORED:
        return true;
    case CLI_T_INTEGER:
        return in_range(v, k->min, k->max);
    case CLI_T_LIST:
        return is_list(v);
    case CLI_T_MODULE:
        return is_some_atom(v);
    case CLI_T_NAME_LIST:
        return list_of(v, is_name, 0, 0);
    case CLI_T_ONE_OF:
        return is_word(v, k->words);
    case CLI_T_PORT:
        return in_range(v, 0, 65535) || is_port_text(v);
    case CLI_T_REFUSED:
        return cli_value_is(v, "undefined");
    case CLI_T_RELAYS:
        return list_of(v, is_relay, 0, 0);
    case CLI_T_SERVERS:
        return list_of(v, is_server, 0, 0);
    case CLI_T_TIMEOUT:
        return cli_value_is(v, "infinity") || in_range(v, k->min, k->max);
    case CLI_T_WATCHDOG:
        return cli_value_is(v, "off") || list_of(v, is_watchdog, 0, 0);
    }
    return false;
}
