/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node's configuration without the node: the file that `erl -config` reads, and the rules by
 * which a node checks it at its boot. The table of keys is made from
 * erlang/barrel_p2p_config_keys.erl.
 */
#ifndef CLI_CONFIG_H
#define CLI_CONFIG_H

#include "cli/cli.h"

#include <ei.h>
#include <netinet/in.h>

/* --- terms ------------------------------------------------------------------- */

/* A term in a buffer that cli_term_parse has filled. */
struct cli_value {
    ei_x_buff *x;
    int at;
};

/* The number of elements if it is a tuple, else -1; `*first` is the first one. */
int cli_value_tuple(struct cli_value v, struct cli_value *first);

/* The elements of a list of terms; text, which libei has another form for, is none. */
struct cli_list {
    struct cli_value at;
    int left;
    bool proper; /* it ends with [] */
};
bool cli_list_begin(struct cli_list *l, struct cli_value v);
bool cli_list_next(struct cli_list *l, struct cli_value *out);

/* The next term behind this one. */
struct cli_value cli_value_after(struct cli_value v);

bool cli_value_integer(struct cli_value v, long long *out);
bool cli_value_atom(struct cli_value v, char out[static MAXATOMLEN_UTF8]);
bool cli_value_is(struct cli_value v, const char *atom);
/* A binary, or a list of characters ([] is empty), as UTF-8; false for others, and for what does
 * not fit. */
bool cli_value_text(struct cli_value v, char *out, size_t cap);
/* An address as a tuple of 4 or 8 numbers, as text. */
bool cli_value_ip(struct cli_value v, char out[static INET6_ADDRSTRLEN]);
/* What `~0tp` makes of it; to be freed; NULL: no memory. */
char *cli_value_print(struct cli_value v);

/* --- keys -------------------------------------------------------------------- */

enum cli_place { CLI_BARREL_P2P, CLI_QUIC, CLI_DIST, CLI_BOTH };

enum cli_type {
    CLI_T_ADDRESS,
    CLI_T_ADVERTISE,
    CLI_T_BACKENDS,
    CLI_T_BOOLEAN,
    CLI_T_CALLBACK,
    CLI_T_COOKIE,
    CLI_T_DIR,
    CLI_T_DIR_OR_NONE,
    CLI_T_IGNORED,
    CLI_T_INTEGER,
    CLI_T_LIST,
    CLI_T_MODULE,
    CLI_T_NAME_LIST,
    CLI_T_ONE_OF,
    CLI_T_PORT,
    CLI_T_REFUSED,
    CLI_T_RELAYS,
    CLI_T_SERVERS,
    CLI_T_TEXT,
    CLI_T_TIMEOUT,
    CLI_T_WATCHDOG
};

struct cli_key {
    enum cli_place place;
    const char *name;
    enum cli_type type;
    bool optional; /* `undefined` is good */
    long long min;
    long long max;
    const char *words;    /* CLI_T_ONE_OF: atoms, separated by blanks */
    const char *fallback; /* the default, as text */
    const char *flags;    /* of the command line that count more, separated by blanks */
    const char *expects;
};

extern const struct cli_key cli_keys[];
extern const size_t cli_n_keys;

const struct cli_key *cli_key_find(const char *name);
/* Whether the key may stand in CLI_BARREL_P2P or CLI_DIST. */
bool cli_key_stands_in(const struct cli_key *k, enum cli_place place);
/* The key that a mistyped one there most likely is, or NULL. */
const char *cli_key_nearest(enum cli_place place, const char *name);
/* "barrel_p2p", "quic", "quic, dist", "barrel_p2p, or quic, dist" */
const char *cli_place_text(enum cli_place place);
/* Whether a node would take the value. */
bool cli_key_accepts(const struct cli_key *k, struct cli_value v);

/* --- files ------------------------------------------------------------------- */

struct cli_config;

/*
 * Reads FILE as `erl -config` does: one list of {Application, [{Key, Value}]}; a file called
 * sys.config may name others, whose values count more. CLI_OK, or a status that has been reported:
 * CLI_NOT_FOUND, CLI_FAILED, or CLI_INVALID where the VM would refuse to boot.
 */
int cli_config_read(const struct cli *c, const char *file, struct cli_config **out);
void cli_config_free(struct cli_config *cfg);

/* The value that counts of a key where the table says that it stands; false: not configured. `cfg`
 * may be NULL. */
bool cli_config_get(const struct cli_config *cfg, const char *key, struct cli_value *out);
/* The value in one place; CLI_BOTH is none. */
bool cli_config_in(const struct cli_config *cfg, enum cli_place place, const char *key,
                   struct cli_value *out);
/* Calls `each` once for every key in CLI_BARREL_P2P or CLI_DIST. */
void cli_config_each(const struct cli_config *cfg, enum cli_place place,
                     void (*each)(void *ctx, enum cli_place place, const char *key), void *ctx);

#endif
