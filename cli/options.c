/* SPDX-License-Identifier: Apache-2.0 */
/* The command line: finding the subcommand, its options, help, and what a wrong word may have
 * meant. */
#include "cli/cli.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_OPTIONS  16
#define NEAR_MAX   32 /* longer words are not guessed */
#define NEAR_WRONG 2  /* letters that may be wrong */
#define TABLE_MAX  16

/* Options that have no letter. */
enum {
    LONG_STATIC = 256,
    LONG_DISCOVERY_DIR,
    LONG_DNS_DOMAIN,
    LONG_DNS_SERVERS,
    LONG_DIST_PORT,
    LONG_TRUST
};

struct option_text {
    unsigned bit; /* 0: every subcommand */
    int letter;   /* 256 and above: none */
    const char *name;
    const char *arg;
    const char *text;
};

static const struct option_text option_texts[N_OPTIONS] = {
    {CLI_OPT_DIR, 'd', "dir", "DIR", "this directory, instead of the usual one"},
    {CLI_OPT_NODE, 'n', "node", "NAME", "of this node, where several share the usual directory"},
    {CLI_OPT_KEY, 'k', "key", "KEY", "the key itself, in base64 or hex"},
    {CLI_OPT_FORCE, 'f', "force", NULL, "replace what is there"},
    {CLI_OPT_JSON, 'j', "json", NULL, "print JSON"},
    {CLI_OPT_REMOTE, 'N', "name", "NAME", "be this node, instead of barrel_p2p_USER@HOST"},
    {CLI_OPT_REMOTE, 'C', "cookie", "COOKIE", "instead of the one in ~/.erlang.cookie"},
    {CLI_OPT_REMOTE, LONG_TRUST, "trust", "MODE",
     "tofu: trust a new key, or strict: only known ones"},
    {CLI_OPT_TIMEOUT, 't', "timeout", "SECONDS", "give up after that"},
    {CLI_OPT_FIND, 'c', "config", "FILE", "a sys.config that says where nodes are"},
    {CLI_OPT_FIND, LONG_STATIC, "static", "NODE=HOST:PORT", "where a node is; may be repeated"},
    {CLI_OPT_FIND, LONG_DISCOVERY_DIR, "discovery-dir", "DIR",
     "directory with endpoint files, instead of the usual"},
    {CLI_OPT_FIND, LONG_DNS_DOMAIN, "dns-domain", "DOMAIN", "domain with SRV records of the nodes"},
    {CLI_OPT_FIND, LONG_DNS_SERVERS, "dns-servers", "LIST", "IP:PORT,... instead of the system's"},
    {CLI_OPT_FIND, LONG_DIST_PORT, "dist-port", "PORT", "of nodes found by host name only"},
    {0, 'h', "help", NULL, "this text"},
};

/* --- guesses ------------------------------------------------------------------- */

/* The number of letters to insert, delete or replace; words of up to NEAR_MAX letters. */
static unsigned distance(const char *a, const char *b)
{
    unsigned d[2][NEAR_MAX + 1]; /* the rows of i - 1 and i letters of `a` */
    size_t n = strlen(a);
    size_t m = strlen(b);

    for (size_t j = 0; j <= m; j++) {
        d[0][j] = (unsigned)j;
    }
    for (size_t i = 1; i <= n; i++) {
        const unsigned *last = d[(i - 1) % 2];
        unsigned *row = d[i % 2];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= m; j++) {
            unsigned best = last[j - 1] + (a[i - 1] != b[j - 1]);
            best = last[j] + 1 < best ? last[j] + 1 : best;
            row[j] = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
        }
    }
    return d[n % 2][m];
}

const char *cli_nearest(const char *word, const char *const *names)
{
    const char *found = NULL;
    unsigned best = NEAR_WRONG + 1;

    if (word[0] == '\0' || strlen(word) > NEAR_MAX) {
        return NULL;
    }
    for (; *names != NULL; names++) {
        unsigned far;
        if (strlen(*names) > NEAR_MAX) {
            continue;
        }
        far = strncmp(word, *names, strlen(word)) == 0 ? 1 : distance(word, *names);
        if (far < best && far < strlen(*names)) {
            best = far;
            found = *names;
        }
    }
    return found;
}

/* --- help ---------------------------------------------------------------------- */

static void list_commands(FILE *f, const struct cli_command *table, const char *parent)
{
    for (; table->name != NULL; table++) {
        char left[48];
        if (table->subs != NULL) {
            list_commands(f, table->subs, table->name);
            continue;
        }
        (void)snprintf(left, sizeof(left), "%s%s%s %s", parent, parent[0] != '\0' ? " " : "",
                       table->name, table->args);
        fprintf(f, "  %-36s %s\n", left, table->summary);
    }
}

static void print_overview(FILE *f, const struct cli_command *table, const char *group)
{
    const char *blank = group[0] != '\0' ? " " : "";

    fprintf(f, "usage: barrel-p2p %s%sCOMMAND [OPTIONS] [ARGUMENTS]\n\n", group, blank);
    list_commands(f, table, group);
    fprintf(f,
            "\n'barrel-p2p %s%sCOMMAND --help' says more about one, 'barrel-p2p --version' which\n"
            "version this is, 'man barrel-p2p' all of it.\n",
            group, blank);
}

static void print_indented(const char *text)
{
    bool start = true;

    for (; *text != '\0'; text++) {
        if (start) {
            fputs("  ", stdout);
        }
        putchar(*text);
        start = *text == '\n';
    }
    putchar('\n');
}

static void print_help(const struct cli *c)
{
    const struct cli_command *cmd = c->command;

    printf("usage: barrel-p2p %s [OPTIONS]%s%s\n\n", c->name, cmd->args[0] != '\0' ? " " : "",
           cmd->args);
    print_indented(cmd->summary);
    if (cmd->details != NULL) {
        putchar('\n');
        print_indented(cmd->details);
    }
    printf("\noptions:\n");
    for (const struct option_text *o = option_texts; o < option_texts + N_OPTIONS; o++) {
        char left[48];
        char letter[4] = "  ";
        if (o->bit != 0 && (cmd->options & o->bit) == 0) {
            continue;
        }
        if (o->letter < 256) {
            (void)snprintf(letter, sizeof(letter), "-%c,", o->letter);
        }
        (void)snprintf(left, sizeof(left), "%-3s --%s%s%s", letter, o->name,
                       o->arg != NULL ? " " : "", o->arg != NULL ? o->arg : "");
        printf("  %-28s %s\n", left, o->text);
    }
    printf("\nexamples:\n");
    print_indented(cmd->examples);
}

/* --- options ------------------------------------------------------------------- */

/* Fills getopt_long's tables with the options of one subcommand. */
static void make_tables(unsigned options, struct option longs[static N_OPTIONS + 1],
                        char shorts[static 2 * N_OPTIONS + 2], const char **names)
{
    size_t n = 0;
    size_t at = 0;

    shorts[at++] = ':'; /* a missing argument is ':' and not '?' */
    for (const struct option_text *o = option_texts; o < option_texts + N_OPTIONS; o++) {
        if (o->bit != 0 && (options & o->bit) == 0) {
            continue;
        }
        names[n] = o->name;
        longs[n++] = (struct option){o->name, o->arg != NULL ? required_argument : no_argument,
                                     NULL, o->letter};
        if (o->letter >= 256) {
            continue;
        }
        shorts[at++] = (char)o->letter;
        if (o->arg != NULL) {
            shorts[at++] = ':';
        }
    }
    longs[n] = (struct option){0};
    names[n] = NULL;
    shorts[at] = '\0';
}

static int see_help(const struct cli *c)
{
    fprintf(stderr, "'barrel-p2p %s --help' shows how to use it\n", c->name);
    return CLI_USAGE;
}

static int bad_option(const struct cli *c, int letter, const char *word, const char *const *names)
{
    char stem[NEAR_MAX + 1];
    const char *guess = NULL;

    if (letter == ':') {
        fprintf(stderr, "barrel-p2p %s: option %s needs a value\n", c->name, word);
        return see_help(c);
    }
    if (strncmp(word, "--", 2) == 0) {
        (void)snprintf(stem, sizeof(stem), "%.*s", (int)strcspn(word + 2, "="), word + 2);
        guess = cli_nearest(stem, names);
        fprintf(stderr, "barrel-p2p %s: option %s cannot be used%s%s%s\n", c->name, word,
                guess != NULL ? "; did you mean --" : "", guess != NULL ? guess : "",
                guess != NULL ? "?" : "");
    } else {
        fprintf(stderr, "barrel-p2p %s: there is no option -%c\n", c->name, optopt);
    }
    return see_help(c);
}

/* Seconds, "2" or "0.5", as milliseconds. */
static bool read_seconds(const char *text, unsigned *ms)
{
    char *end;
    double s = strtod(text, &end);

    if (end == text || *end != '\0' || !(s >= 0.001 && s <= 86400)) {
        return false;
    }
    *ms = (unsigned)(s * 1000 + 0.5);
    return true;
}

static bool read_port(const char *text, uint16_t *port)
{
    char *end;
    unsigned long v = strtoul(text, &end, 10);

    if (end == text || *end != '\0' || v == 0 || v > 65535 || strspn(text, "0123456789") == 0) {
        return false;
    }
    *port = (uint16_t)v;
    return true;
}

static int bad_value(const struct cli *c, const char *name, const char *wanted)
{
    fprintf(stderr, "barrel-p2p %s: --%s '%s' cannot be used, wanted: %s\n", c->name, name, optarg,
            wanted);
    return see_help(c);
}

/* Options about other nodes. */
static int set_remote_option(struct cli *c, int letter)
{
    switch (letter) {
    case 'N':
        c->self = optarg;
        return cli_check_node(c, c->self);
    case 'C':
        c->cookie = optarg;
        return CLI_OK;
    case LONG_TRUST:
        c->trust = optarg;
        return strcmp(optarg, "tofu") == 0 || strcmp(optarg, "strict") == 0
                   ? CLI_OK
                   : bad_value(c, "trust", "tofu or strict");
    case 't':
        return read_seconds(optarg, &c->timeout_ms) ? CLI_OK : bad_value(c, "timeout", "seconds");
    default:
        return CLI_USAGE;
    }
}

/* Options that say where nodes are. */
static int set_find_option(struct cli *c, int letter)
{
    switch (letter) {
    case 'c':
        c->find.config = optarg;
        return CLI_OK;
    case LONG_STATIC:
        if (c->find.n_fixed == CLI_STATIC_MAX) {
            return bad_value(c, "static", "at most 64 of them; more belong into a sys.config");
        }
        c->find.fixed[c->find.n_fixed++] = optarg;
        return CLI_OK;
    case LONG_DISCOVERY_DIR:
        c->find.discovery_dir = optarg;
        return CLI_OK;
    case LONG_DNS_DOMAIN:
        c->find.dns_domain = optarg;
        return CLI_OK;
    case LONG_DNS_SERVERS:
        c->find.dns_servers = optarg;
        return CLI_OK;
    case LONG_DIST_PORT:
        return read_port(optarg, &c->find.dist_port) ? CLI_OK
                                                     : bad_value(c, "dist-port", "1 to 65535");
    default:
        return set_remote_option(c, letter);
    }
}

static int set_option(struct cli *c, int letter)
{
    switch (letter) {
    case 'd':
        c->dir = optarg;
        break;
    case 'n':
        c->node = optarg;
        break;
    case 'k':
        c->key = optarg;
        break;
    case 'f':
        c->force = true;
        break;
    case 'j':
        c->json = true;
        break;
    default:
        return set_find_option(c, letter);
    }
    if ((letter == 'd' || letter == 'k') && optarg[0] == '\0') {
        fprintf(stderr, "barrel-p2p %s: option -%c has an empty value\n", c->name, letter);
        return see_help(c);
    }
    return CLI_OK;
}

/* Reads options and arguments behind the subcommand's name, which is argv[0]. */
static int parse_options(struct cli *c, int argc, char **argv, bool *done)
{
    struct option longs[N_OPTIONS + 1];
    char shorts[2 * N_OPTIONS + 2];
    const char *names[N_OPTIONS + 1];
    int letter;

    make_tables(c->command->options, longs, shorts, names);
    opterr = 0;
    optind = 0; /* GNU: start again, and let options follow arguments */
    while ((letter = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
        if (letter == 'h') {
            print_help(c);
            *done = true;
            return CLI_OK;
        }
        if (letter == '?' || letter == ':') {
            return bad_option(c, letter, argv[optind - 1], names);
        }
        if (set_option(c, letter) != CLI_OK) {
            return CLI_USAGE;
        }
    }
    c->n_args = argc - optind;
    c->args = argv + optind;
    if (c->n_args < c->command->min_args) {
        fprintf(stderr, "barrel-p2p %s: something is missing, wanted: %s\n", c->name,
                c->command->args);
        return see_help(c);
    }
    if (c->n_args > c->command->max_args) {
        fprintf(stderr, "barrel-p2p %s: '%s' is too much\n", c->name,
                c->args[c->command->max_args]);
        return see_help(c);
    }
    return cli_check_node(c, c->node);
}

/* --- subcommands --------------------------------------------------------------- */

static int unknown(const struct cli_command *table, const char *group, const char *word)
{
    const char *names[TABLE_MAX + 1] = {0};
    const char *guess;

    for (size_t i = 0; i < TABLE_MAX && table[i].name != NULL; i++) {
        names[i] = table[i].name;
    }
    guess = cli_nearest(word, names);
    fprintf(stderr, "barrel-p2p%s%s: there is no command '%s'", group[0] != '\0' ? " " : "", group,
            word);
    if (guess != NULL) {
        fprintf(stderr, "; did you mean '%s'?", guess);
    }
    fprintf(stderr, "\n'barrel-p2p --help' lists them\n");
    return CLI_USAGE;
}

static bool is_word(const char *arg, const char *letter, const char *name, const char *plain)
{
    return strcmp(arg, letter) == 0 || strcmp(arg, name) == 0 || strcmp(arg, plain) == 0;
}

/* Walks down the tables. `c->name` collects the words. */
static int find(struct cli *c, const struct cli_command *table, int argc, char **argv, bool *done,
                bool help)
{
    const struct cli_command *cmd = table;
    const char *word = argc > 1 ? argv[1] : NULL;
    size_t len = strlen(c->name);

    if (word != NULL && is_word(word, "-h", "--help", "help")) {
        return find(c, table, argc - 1, argv + 1, done, true);
    }
    if (word == NULL) {
        print_overview(help ? stdout : stderr, table, c->name);
        *done = true;
        return help ? CLI_OK : CLI_USAGE;
    }
    while (cmd->name != NULL && strcmp(cmd->name, word) != 0) {
        cmd++;
    }
    if (cmd->name == NULL) {
        return unknown(table, c->name, word);
    }
    (void)snprintf(c->name + len, sizeof(c->name) - len, "%s%s", len != 0 ? " " : "", word);
    if (cmd->subs != NULL) {
        return find(c, cmd->subs, argc - 1, argv + 1, done, help);
    }
    c->command = cmd;
    if (help) {
        print_help(c);
        *done = true;
        return CLI_OK;
    }
    return parse_options(c, argc - 1, argv + 1, done);
}

int cli_parse(struct cli *c, const struct cli_command *table, int argc, char **argv, bool *done)
{
    if (argc > 1 && is_word(argv[1], "-V", "--version", "version")) {
        printf("barrel-p2p %s\n", BP_VERSION);
        *done = true;
        return CLI_OK;
    }
    return find(c, table, argc, argv, done, false);
}
