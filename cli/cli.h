/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command `barrel-p2p`: what its subcommands share. Each subcommand has a file of its own; the
 * table of them is in barrel-p2p.c. One process runs one subcommand, so nothing here is freed early
 * except secrets, which are wiped where they were used.
 */
#ifndef CLI_H
#define CLI_H

#include "io/files.h"

#include <jansson.h>
#include <limits.h>

/* Exit codes; the man page lists them. */
enum {
    CLI_OK = 0,
    CLI_FAILED = 1,    /* a file or the system does not do what is needed */
    CLI_USAGE = 2,     /* the command line cannot be understood */
    CLI_NOT_FOUND = 3, /* there is no such key, pin or certificate */
    CLI_UNSAFE = 4,    /* refused: others could read the secret, or write what is trusted */
    CLI_EXISTS = 5,    /* refused: something is there that would be lost */
    CLI_INVALID = 6,   /* the configuration is not one that a node would boot with */
    CLI_REFUSED = 7,   /* the node refused us, or we it: key, cookie, name */
    CLI_TIMEOUT = 8,   /* no answer in time */
    CLI_NO_ANSWER = 9, /* nothing listens there, or the connection has ended */
    CLI_REMOTE = 10    /* the node did it, and it failed there */
};

/* Options; a subcommand names those that it has. --help is everywhere. */
enum {
    CLI_OPT_DIR = 1u << 0,
    CLI_OPT_NODE = 1u << 1,
    CLI_OPT_KEY = 1u << 2,
    CLI_OPT_FORCE = 1u << 3,
    CLI_OPT_JSON = 1u << 4,
    CLI_OPT_DISCOVERY =
        1u << 5, /* --config, --static, --discovery-dir, ...: struct cli_discovery */
    CLI_OPT_TIMEOUT = 1u << 6,
    CLI_OPT_REMOTE = 1u << 7 /* who we are for other nodes, and what is between: --name, --cookie,
                                --trust, --relay, --relay-secret */
};

#define CLI_STATIC_MAX 64 /* --static */

/* How nodes are found, as the command line says it; NULL: it does not. */
struct cli_discovery {
    const char *config; /* a sys.config; what follows counts more */
    const char *dir;
    const char *runtime_dir; /* "none": nowhere */
    const char *dns_domain;
    const char *dns_servers; /* "192.0.2.53,[::1]:53" */
    const char *dns_port;
    int n_static;
    const char *static_nodes[CLI_STATIC_MAX]; /* NODE=HOST:PORT */
};

struct cli;

/* A subcommand, or with `subs` a group of them. */
struct cli_command {
    const char *name;
    const char *args; /* as the help shows them: "NODE [FILE|-]" */
    const char *summary;
    const char *details;  /* paragraphs of the help, NULL: none */
    const char *examples; /* lines of the help */
    unsigned options;
    int min_args;
    int max_args;
    int (*run)(struct cli *c);
    const struct cli_command *subs; /* ends with a NULL name */
};

/* One call of a subcommand. All strings are the process's arguments. */
struct cli {
    const struct cli_command *command;
    char name[64]; /* "trust add" */
    const char *dir;
    const char *node;
    const char *key;
    bool force;
    bool json;
    unsigned timeout_ms; /* 0: not given */
    const char *self;    /* --name: what we are called */
    const char *cookie;
    const char *trust;        /* "tofu", "strict" */
    const char *relay;        /* a URL */
    const char *relay_secret; /* a file */
    struct cli_discovery discovery;
    int n_args;
    char **args;
};

extern const struct cli_command cli_trust_commands[];
extern const struct cli_command cli_cert_commands[];
extern const struct cli_command cli_config_commands[];
int cli_keygen(struct cli *c);
int cli_resolve(struct cli *c);
int cli_names(struct cli *c);
int cli_fingerprint(struct cli *c);

/* --- options.c ------------------------------------------------------------------------------- */

/*
 * Finds the subcommand and reads its options: CLI_OK, and `c` is ready to run; CLI_USAGE, and the
 * reason is on stderr. `*done` is true where help or version was asked for and printed.
 */
int cli_parse(struct cli *c, const struct cli_command *table, int argc, char **argv, bool *done);

/* The name in `names` (ends with NULL) that `word` may have meant, or NULL. */
const char *cli_nearest(const char *word, const char *const *names);

/* --- output.c -------------------------------------------------------------------------------- */

/*
 * Prints a result and takes `o`: with --json as it is, else a line for each member, "_" in names
 * as blank, null left out. CLI_OK, or CLI_FAILED where it cannot be written.
 */
int cli_print(const struct cli *c, json_t *o);

/* The text on stderr, with --json also as {"error": code, "message": text}. Returns `status`. */
int cli_fail(const struct cli *c, int status, const char *code, const char *fmt, ...)
    BP_PRINTF(4, 5);

/* The same for an error of io/ or core/ and its sentence. */
int cli_fail_rc(const struct cli *c, int rc, const struct bp_errbuf *err);

/* A line on stderr that starts with "warning: ". */
void cli_warn(const char *fmt, ...) BP_PRINTF(1, 2);

/* What `err` has to say after a success. */
void cli_warn_err(const struct bp_errbuf *err);

/* Flushes stdout; CLI_FAILED if what was printed has not been written. */
int cli_finish(void);

/* Adds fingerprint, fingerprint_hex and public_key of a public key. BP_E_NOMEM, BP_E_CRYPTO. */
int cli_add_key(json_t *o, const uint8_t pub[static BP_KEY_LEN]) BP_MUST_CHECK;

/* Unix seconds as "2026-01-31T12:00:00Z". */
const char *cli_time(int64_t unix_time, char out[static 32]);

/* --- dirs.c ---------------------------------------------------------------------------------- */

/* What a directory is wanted for. */
enum cli_use {
    CLI_READ,         /* nothing is created or changed */
    CLI_WRITE_PINS,   /* others must not be able to write there */
    CLI_WRITE_SECRETS /* nor to read */
};

#define CLI_KEY_DIR  "data/keys"
#define CLI_CERT_DIR "data/quic"

/*
 * The directory that a node would use: --dir as it is, else `usual`, below which --node chooses.
 * For writing it is created with mode 0700 and refused with CLI_UNSAFE if others may use it.
 * CLI_OK, or a status that has been reported.
 */
int cli_dir(const struct cli *c, enum cli_use use, const char *usual, char out[static PATH_MAX]);

/* CLI_UNSAFE (reported) if the secret file is there and others may read or write it. */
int cli_check_secret(const struct cli *c, const char *path);

/* CLI_OK if --node was not given or is a node name, else CLI_USAGE (reported). */
int cli_check_node(const struct cli *c, const char *node);

/* --- key_file.c ------------------------------------------------------------------------------ */

/*
 * The public key in `file`, or of the standard input where it is "-" (cli_key_parse). Of a private
 * key, which a file called *.key holds, the public half is computed if `private_too`; else it is
 * refused, because it has no business here. CLI_OK, or a status that has been reported.
 */
int cli_read_key(const struct cli *c, const char *file, bool private_too,
                 uint8_t key[static BP_KEY_LEN]);

/*
 * This node's public key in the key directory `dir`, and the path that it was read from. A pair
 * that does not match is an error, as it is for the node. CLI_OK, CLI_NOT_FOUND (reported only if
 * `wanted`), or a status that has been reported.
 */
int cli_own_key(const struct cli *c, const char *dir, bool wanted, uint8_t key[static BP_KEY_LEN],
                char file[static PATH_MAX]);

#endif
