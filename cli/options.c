/* SPDX-License-Identifier: Apache-2.0 */
/* The command line: finding the subcommand, its options, help, and what a wrong word may have
 * meant. */
#include "cli/cli.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_OPTIONS  19
#define NEAR_MAX   32 /* longer words are not guessed */
#define NEAR_WRONG 2  /* letters that may be wrong */
#define TABLE_MAX  16

#define TIMEOUT_MAX_MS 600000u

/* Options without a letter. */
enum {
    ONLY_LONG = 256,
    DISCOVERY_DIR,
    RUNTIME_DIR,
    STATIC,
    DNS_DOMAIN,
    DNS_SERVERS,
    DNS_PORT,
    TRUST,
    RELAY,
    RELAY_SECRET
};

struct option_text {
    unsigned bit; /* 0: every subcommand */
    int letter;
    const char *name;
    const char *arg;
    const char *text;
};

static const struct option_text option_texts[N_OPTIONS] = {
    {CLI_OPT_DIR, 'd', "dir", "DIR", "the directory itself, instead of the usual one"},
    {CLI_OPT_NODE, 'n', "node", "NAME", "of this node, where several share the usual directory"},
    {CLI_OPT_KEY, 'k', "key", "KEY", "the key itself, in base64 or hex"},
    {CLI_OPT_FORCE, 'f', "force", NULL, "replace what is there"},
    {CLI_OPT_DISCOVERY, 'c', "config", "FILE",
     "a node's sys.config: finds nodes as that node does"},
    {CLI_OPT_DISCOVERY, STATIC, "static", "NODE=HOST:PORT", "where a node is; can be repeated"},
    {CLI_OPT_DISCOVERY, DISCOVERY_DIR, "discovery-dir", "DIR", "of endpoint files"},
    {CLI_OPT_DISCOVERY, RUNTIME_DIR, "runtime-dir", "DIR", "of this machine's; none: nowhere"},
    {CLI_OPT_DISCOVERY, DNS_DOMAIN, "dns-domain", "DOMAIN", "of SRV records"},
    {CLI_OPT_DISCOVERY, DNS_SERVERS, "dns-servers", "LIST",
     "ADDRESS[:PORT],... instead of the system's"},
    {CLI_OPT_DISCOVERY, DNS_PORT, "dns-port", "PORT", "where DNS names none; usually 4433"},
    {CLI_OPT_TIMEOUT, 't', "timeout", "MS", "milliseconds to wait at most"},
    {CLI_OPT_REMOTE, 'N', "name", "NAME", "be this node, instead of barrel_p2p_USER@HOST"},
    {CLI_OPT_REMOTE, 'C', "cookie", "COOKIE", "instead of the one in ~/.erlang.cookie"},
    {CLI_OPT_REMOTE, TRUST, "trust", "MODE", "tofu: take a new node's key, or strict"},
    {CLI_OPT_REMOTE, RELAY, "relay", "URL", "udp://HOST:PORT or socks5://[USER@]HOST:PORT"},
    {CLI_OPT_REMOTE, RELAY_SECRET, "relay-secret", "FILE",
     "with its password; or $BARREL_P2P_RELAY_PASSWORD"},
    {CLI_OPT_JSON, 'j', "json", NULL, "print JSON"},
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
    int width = (cmd->options & CLI_OPT_DISCOVERY) != 0 ? 27 : 20;

    printf("usage: barrel-p2p %s [OPTIONS]%s%s\n\n", c->name, cmd->args[0] != '\0' ? " " : "",
           cmd->args);
    print_indented(cmd->summary);
    if (cmd->details != NULL) {
        putchar('\n');
        print_indented(cmd->details);
    }
    printf("\noptions:\n");
    for (const struct option_text *o = option_texts; o < option_texts + N_OPTIONS; o++) {
        char left[32];
        if (o->bit != 0 && (cmd->options & o->bit) == 0) {
            continue;
        }
        (void)snprintf(left, sizeof(left), "%s%s--%s%s%s",
                       o->letter < ONLY_LONG ? (char[]){'-', (char)o->letter, '\0'} : "  ",
                       o->letter < ONLY_LONG ? ", " : "  ", o->name, o->arg != NULL ? " " : "",
                       o->arg != NULL ? o->arg : "");
        printf("  %-*s %s\n", width, left, o->text);
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
        if (o->letter < ONLY_LONG) {
            shorts[at++] = (char)o->letter;
            if (o->arg != NULL) {
                shorts[at++] = ':';
            }
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

/* "-d" or "--static". */
static const char *option_name(int letter)
{
    static char text[32];

    for (const struct option_text *o = option_texts; o < option_texts + N_OPTIONS; o++) {
        if (o->letter == letter && letter < ONLY_LONG) {
            (void)snprintf(text, sizeof(text), "-%c", (char)letter);
        } else if (o->letter == letter) {
            (void)snprintf(text, sizeof(text), "--%s", o->name);
        }
    }
    return text;
}

/* Options that say how nodes are found; false: it is none of them. */
static bool set_discovery(struct cli_discovery *d, int letter)
{
    const char **to[] = {[DISCOVERY_DIR - ONLY_LONG] = &d->dir,
                         [RUNTIME_DIR - ONLY_LONG] = &d->runtime_dir,
                         [DNS_DOMAIN - ONLY_LONG] = &d->dns_domain,
                         [DNS_SERVERS - ONLY_LONG] = &d->dns_servers,
                         [DNS_PORT - ONLY_LONG] = &d->dns_port};

    if (letter == 'c') {
        d->config = optarg;
    } else if (letter == STATIC && d->n_static < CLI_STATIC_MAX) {
        d->static_nodes[d->n_static++] = optarg;
    } else if (letter > ONLY_LONG && letter <= DNS_PORT && letter != STATIC) {
        *to[letter - ONLY_LONG] = optarg;
    } else {
        return false;
    }
    return true;
}

/* Who we are for other nodes. */
static int set_remote(struct cli *c, int letter)
{
    if (letter == 'N') {
        c->self = optarg;
        return cli_check_node(c, c->self);
    }
    if (letter == 'C') {
        c->cookie = optarg;
        return CLI_OK;
    }
    if (letter == RELAY || letter == RELAY_SECRET) {
        *(letter == RELAY ? &c->relay : &c->relay_secret) = optarg;
        return CLI_OK;
    }
    c->trust = optarg;
    if (strcmp(optarg, "tofu") == 0 || strcmp(optarg, "strict") == 0) {
        return CLI_OK;
    }
    fprintf(stderr, "barrel-p2p %s: --trust %s: wanted is tofu or strict\n", c->name, optarg);
    return see_help(c);
}

static bool set_timeout(struct cli *c)
{
    char *end;
    unsigned long ms = strtoul(optarg, &end, 10);

    if (optarg[0] < '0' || optarg[0] > '9' || *end != '\0' || ms < 1 || ms > TIMEOUT_MAX_MS) {
        return false;
    }
    c->timeout_ms = (unsigned)ms;
    return true;
}

static int set_option(struct cli *c, int letter)
{
    switch (letter) {
    case 't':
        if (!set_timeout(c)) {
            fprintf(stderr, "barrel-p2p %s: --timeout %s: wanted are milliseconds, 1 to %u\n",
                    c->name, optarg, TIMEOUT_MAX_MS);
            return see_help(c);
        }
        break;
    case 'N':
    case 'C':
    case TRUST:
    case RELAY:
    case RELAY_SECRET:
        if (set_remote(c, letter) != CLI_OK) {
            return CLI_USAGE;
        }
        break;
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
        if (!set_discovery(&c->discovery, letter)) {
            fprintf(stderr, "barrel-p2p %s: --static can be given at most %d times\n", c->name,
                    CLI_STATIC_MAX);
            return see_help(c);
        }
    }
    if (letter != 'n' && optarg != NULL && optarg[0] == '\0') {
        fprintf(stderr, "barrel-p2p %s: option %s has an empty value\n", c->name,
                option_name(letter));
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
