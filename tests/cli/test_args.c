/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the command line: help, versions, wrong words, man page, completion, installation. */
#include "cli/run.h"

#include <sys/wait.h>

static const char *const commands[] = {"keygen",       "fingerprint", "trust list",   "trust add",
                                       "trust remove", "trust show",  "cert show",    "cert renew",
                                       "resolve",      "names",       "config check", "ping",
                                       "call",         "send",        "peers"};
#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

/* Splits "trust add" into two arguments; the buffers are static. */
static void split(const char *name, const char *args[static 2])
{
    static char words[2][32];
    const char *blank = strchr(name, ' ');

    snprintf(words[0], sizeof(words[0]), "%.*s",
             blank != NULL ? (int)(blank - name) : (int)strlen(name), name);
    args[0] = words[0];
    args[1] = NULL;
    if (blank != NULL) {
        snprintf(words[1], sizeof(words[1]), "%s", blank + 1);
        args[1] = words[1];
    }
}

static void args_version_is_that_of_the_application(void **state)
{
    struct run r;
    struct run r2;
    char want[64] = "";
    char line[256];
    FILE *f = fopen("erlang/barrel_p2p.app.src", "r");

    assert_non_null(f);
    while (fgets(line, sizeof(line), f) != NULL) {
        if (sscanf(line, " {vsn, \"%60[^\"]", want) == 1) {
            break;
        }
    }
    fclose(f);
    strcat(want, "\n");
    cli(&r, state, "--version");
    expect_out(&r, 0, want);
    cli(&r2, state, "version");
    assert_string_equal(r2.out, r.out);
    cli(&r2, state, "-V");
    assert_string_equal(r2.out, r.out);
}

static void args_help_of_each_command_with_examples(void **state)
{
    struct run r;
    struct run r2;

    cli(&r, state, "--help");
    for (size_t i = 0; i < N_COMMANDS; i++) {
        const char *w[2];
        char usage[64];

        expect_out(&r, 0, commands[i]);
        split(commands[i], w);
        snprintf(usage, sizeof(usage), "usage: barrel-p2p %s", commands[i]);
        cli(&r2, state, w[0], w[1] != NULL ? w[1] : "--help", w[1] != NULL ? "--help" : NULL);
        expect_out(&r2, 0, usage);
        expect_out(&r2, 0, "--json");
        expect_out(&r2, 0, "examples:\n  barrel-p2p ");
        assert_string_equal(r2.err, "");
        cli(&r2, state, "help", w[0], w[1]);
        expect_out(&r2, 0, usage);
        /* what is wrong besides does not matter */
        cli(&r2, state, w[0], w[1] != NULL ? w[1] : "-h", "-h", "more", "words");
        expect_out(&r2, 0, usage);
    }
    cli(&r, state, "trust", "--help");
    expect_out(&r, 0, "trust remove NODE");
    assert_null(strstr(r.out, "keygen"));
    cli(&r, state, "help");
    expect_out(&r, 0, "usage: barrel-p2p COMMAND");
    assert_int_equal(tmpdir_count(((struct tmpdir *)*state)->path), 0);
}

static void args_without_command_lists_them(void **state)
{
    struct run r;

    cli(&r, state, NULL);
    expect_err(&r, 2, "trust add NODE");
    assert_string_equal(r.out, "");
    cli(&r, state, "cert");
    expect_err(&r, 2, "cert renew");
}

static void args_wrong_word_suggests_the_nearest(void **state)
{
    static const char *const near[][2] = {
        {"trsut", "trust"},        {"kegyen", "keygen"}, {"fingerprints", "fingerprint"},
        {"finger", "fingerprint"}, {"crt", "cert"},      {"key", "keygen"}};
    struct run r;
    char want[64];

    for (size_t i = 0; i < sizeof(near) / sizeof(near[0]); i++) {
        cli(&r, state, near[i][0]);
        snprintf(want, sizeof(want), "'%s'; did you mean '%s'?", near[i][0], near[i][1]);
        expect_err(&r, 2, want);
    }
    cli(&r, state, "trust", "ad", "b@h");
    expect_err(&r, 2, "barrel-p2p trust: there is no command 'ad'; did you mean 'add'?");
    cli(&r, state, "cert", "renwe");
    expect_err(&r, 2, "did you mean 'renew'?");
    cli(&r, state, "frobnicate");
    expect_err(&r, 2, "there is no command 'frobnicate'\n");
    cli(&r, state, "help", "trsut");
    expect_err(&r, 2, "'trsut'; did you mean 'trust'?");
    cli(&r, state, "");
    expect_err(&r, 2, "there is no command ''\n");
    cli(&r, state, "a-word-that-is-far-too-long-to-be-any-command-of-ours-or-anybody-elses");
    expect_err(&r, 2, "there is no command");
}

static void args_wrong_options_refused(void **state)
{
    struct run r;

    cli(&r, state, "keygen", "--froce");
    expect_err(&r, 2, "option --froce cannot be used; did you mean --force?");
    cli(&r, state, "trust", "list", "--force");
    expect_err(&r, 2, "option --force cannot be used");
    cli(&r, state, "keygen", "--force=yes");
    expect_err(&r, 2, "option --force=yes cannot be used");
    cli(&r, state, "keygen", "-x");
    expect_err(&r, 2, "no option -x");
    cli(&r, state, "keygen", "-k", "00");
    expect_err(&r, 2, "no option -k");
    cli(&r, state, "keygen", "--dir");
    expect_err(&r, 2, "--dir needs a value");
    cli(&r, state, "keygen", "-n");
    expect_err(&r, 2, "-n needs a value");
    cli(&r, state, "keygen", "--dir", "");
    expect_err(&r, 2, "empty value");
    cli(&r, state, "keygen", "word");
    expect_err(&r, 2, "'word' is too much");
    cli(&r, state, "trust", "show", "a@h", "b@h");
    expect_err(&r, 2, "'b@h' is too much");
    cli(&r, state, "trust", "show");
    expect_err(&r, 2, "wanted: NODE");
    cli(&r, state, "trust", "add");
    expect_err(&r, 2, "wanted: NODE [FILE|-]");
    expect_err(&r, 2, "'barrel-p2p trust add --help' shows how to use it");
    assert_int_equal(tmpdir_count(((struct tmpdir *)*state)->path), 0);
}

static void args_node_names_validated(void **state)
{
    static const char *const bad[] = {"",      "a",           "@h",       "a@",   "../a@h",
                                      "a/b@h", "a@h@",        ".a@h",     "-a@h", "a b@h",
                                      "a@h\n", "a\xc3\xa9@h", "a@\x1b[2J"};
    struct run r;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cli(&r, state, "keygen", "--node", bad[i]);
        expect_err(&r, 2, "is not a node name");
        cli(&r, state, "trust", "show", "--", bad[i]);
        expect_err(&r, 2, "is not a node name");
        cli(&r, state, "trust", "add", "--key", "00", "--", bad[i]);
        expect_err(&r, 2, "is not a node name");
        cli(&r, state, "trust", "remove", "--", bad[i]);
        expect_err(&r, 2, "is not a node name");
        cli(&r, state, "cert", "renew", "--node", bad[i]);
        expect_err(&r, 2, "is not a node name");
    }
    assert_int_equal(tmpdir_count(((struct tmpdir *)*state)->path), 0);
}

static void args_failure_is_json_as_well(void **state)
{
    struct run r;
    json_t *o;

    cli(&r, state, "fingerprint", "--json");
    expect_err(&r, 3, "data/keys");
    o = cli_json(&r);
    assert_string_equal(member(o, "error"), "not_found");
    assert_non_null(strstr(member(o, "message"), "data/keys"));
    json_decref(o);
    cli(&r, state, "trust", "show", "\xff\xfe@h", "--json"); /* not UTF-8 */
    o = cli_json(&r);
    assert_int_equal(r.status, 2);
    assert_string_equal(member(o, "error"), "bad_node_name");
    json_decref(o);
}

static void args_full_disk_is_a_failure(void **state)
{
    struct run r;
    struct tmpdir *t = *state;

    cli_call(&r, &(struct call){.dir = t->path, .to = "/dev/full", .args = {"--help"}});
    expect_err(&r, 1, "cannot write the output");
    cli_call(&r, &(struct call){.dir = t->path, .to = "/dev/full", .args = {"keygen", "--json"}});
    expect_err(&r, 1, "cannot write the output");
}

/* --- what stands beside the program ---------------------------------------------------------- */

static char *whole_file(const char *path)
{
    char *text = calloc(1, 65536);

    assert_non_null(text);
    (void)tmpdir_get(path, text, 65535);
    return text;
}

/* Each "--word" of `text` in turn. */
static const char *next_option(const char *text, char out[static 32])
{
    const char *p = strstr(text, "--");
    size_t n = 2;

    if (p == NULL) {
        return NULL;
    }
    while (((p[n] >= 'a' && p[n] <= 'z') || (p[n] == '-' && n > 2)) && n < 31) {
        n++;
    }
    snprintf(out, 32, "%.*s", (int)n, p);
    return p + n;
}

/* "--dns-port" as a man page has it. */
static void in_roff(const char *option, char out[static 64])
{
    size_t n = 0;

    for (; *option != '\0' && n < 62; option++) {
        if (*option == '-') {
            out[n++] = '\\';
        }
        out[n++] = *option;
    }
    out[n] = '\0';
}

static void args_man_page_has_every_command_and_option(void **state)
{
    char *man = whole_file("cli/man/barrel-p2p.1");
    struct run r;

    for (size_t i = 0; i < N_COMMANDS; i++) {
        const char *w[2];
        const char *p;
        char option[32];
        char in_man[64];

        snprintf(in_man, sizeof(in_man), "barrel\\-p2p %s\n", commands[i]);
        if (strstr(man, in_man) == NULL) {
            fail_msg("the man page has no synopsis of %s", commands[i]);
        }
        split(commands[i], w);
        cli(&r, state, "help", w[0], w[1]);
        p = strstr(r.out, "options:");
        assert_non_null(p);
        while ((p = next_option(p, option)) != NULL) {
            in_roff(option, in_man);
            if (option[2] != '\0' && strstr(man, in_man) == NULL) {
                fail_msg("the man page does not know %s", option);
            }
        }
    }
    free(man);
}

/* Lets bash complete `line` in the test's directory; the candidates, one a line. */
static char *complete(void **state, const char *line)
{
    static char out[4096];
    struct tmpdir *t = *state;
    char root[PATH_MAX];
    char command[PATH_MAX];
    char script[4 * PATH_MAX];
    FILE *p;
    size_t n;

    assert_non_null(getcwd(root, sizeof(root)));
    snprintf(script, sizeof(script),
             "cd '%s' && . '%s/cli/completion/barrel-p2p.bash' && "
             "barrel-p2p() { '%s' \"$@\"; } && COMP_LINE='%s' && "
             "COMP_POINT=${#COMP_LINE} AFTER='' COMPREPLY='' && BEFORE=$(compgen -v) && "
             "_barrel_p2p && printf '%%s\\n' \"${COMPREPLY[@]}\" && AFTER=$(compgen -v) && "
             "diff <(echo \"$BEFORE\" | grep -v BEFORE) <(echo \"$AFTER\" | grep -v BEFORE)",
             t->path, root, cli_path(command), line);
    assert_int_equal(setenv("SCRIPT", script, 1), 0);
    p = popen("bash --norc -c \"$SCRIPT\" 2>&1", "r");
    assert_non_null(p);
    n = fread(out, 1, sizeof(out) - 1, p);
    out[n] = '\0';
    assert_int_equal(pclose(p), 0);
    return out;
}

static bool has_line(const char *text, const char *line)
{
    size_t n = strlen(line);

    for (const char *p = text; (p = strstr(p, line)) != NULL; p += n) {
        if ((p == text || p[-1] == '\n') && (p[n] == '\n' || p[n] == '\0')) {
            return true;
        }
    }
    return false;
}

static void args_completion_has_every_command_and_option(void **state)
{
    struct run r;

    for (size_t i = 0; i < N_COMMANDS; i++) {
        const char *w[2];
        const char *p;
        char line[64];
        char option[32];

        split(commands[i], w);
        assert_true(has_line(complete(state, "barrel-p2p "), w[0]));
        if (w[1] != NULL) {
            snprintf(line, sizeof(line), "barrel-p2p %s ", w[0]);
            assert_true(has_line(complete(state, line), w[1]));
        }
        cli(&r, state, "help", w[0], w[1]);
        snprintf(line, sizeof(line), "barrel-p2p %s --", commands[i]);
        char *offered = complete(state, line);
        p = strstr(r.out, "options:");
        while ((p = next_option(p, option)) != NULL && strncmp(option, "--", 2) == 0) {
            if (option[2] != '\0' && strstr(p, "examples:") != NULL && !has_line(offered, option)) {
                fail_msg("completion of %s does not offer %s", commands[i], option);
            }
        }
        /* and none that is not there */
        for (p = offered; (p = next_option(p, option)) != NULL;) {
            if (strstr(r.out, option) == NULL) {
                fail_msg("completion of %s offers %s", commands[i], option);
            }
        }
    }
}

/* What it finds with is forgotten afterwards: complete() fails where a variable is left behind. */
static void args_completion_knows_nodes_that_are_found(void **state)
{
    assert_string_equal(complete(state, "barrel-p2p resolve --static a@h=127.0.0.1:1 --runtime-dir "
                                        "none a"),
                        "a@h\n");
}

static void args_completion_knows_trusted_nodes(void **state)
{
    static const char key[] = "ebVWLo/mVPlAeLES6KmLp5AfhTrmlb7X4OORC60ElmQ=";
    struct run r;

    cli(&r, state, "trust", "add", "bob@host1", "--key", key);
    expect_out(&r, 0, "bob@host1");
    cli(&r, state, "trust", "add", "eve@host2", "--key", key, "--dir", "other");
    expect_out(&r, 0, "eve@host2");
    assert_string_equal(complete(state, "barrel-p2p trust remove "), "bob@host1\n");
    assert_string_equal(complete(state, "barrel-p2p trust show --dir other "), "eve@host2\n");
    assert_string_equal(complete(state, "barrel-p2p trust show bob@"), "host1\n");
    assert_string_equal(complete(state, "barrel-p2p trust show x"), "\n");
    assert_string_equal(complete(state, "barrel-p2p fingerprint oth"), "other\n");
}

/* Options whose values are completed too, and whose values are no words of the command. */
static void args_completion_knows_relays(void **state)
{
    struct run r;

    assert_string_equal(complete(state, "barrel-p2p ping b@h --relay "), "udp://\nsocks5://\n");
    assert_string_equal(complete(state, "barrel-p2p call b@h --relay s"), "socks5://\n");
    /* bash replaces what is behind the ":" */
    assert_string_equal(complete(state, "barrel-p2p ping b@h --relay udp:"), "//\n");
    assert_string_equal(complete(state, "barrel-p2p ping b@h --relay x"), "\n");
    assert_string_equal(complete(state, "barrel-p2p ping b@h --relay udp://h:50"), "\n");
    cli(&r, state, "keygen", "--dir", "other");
    assert_int_equal(r.status, 0);
    assert_string_equal(complete(state, "barrel-p2p ping b@h --relay-secret oth"), "other\n");
    assert_string_equal(complete(state, "barrel-p2p send b@h --trust s"), "strict\n");
    assert_string_equal(complete(state,
                                 "barrel-p2p ping --static b@h=192.0.2.1:4433 --runtime-dir none "
                                 "--discovery-dir other --relay udp://192.0.2.7:5000 "
                                 "--relay-secret other "),
                        "b@h\n");
}

/* What one line says holds for that line only. */
static void args_completion_forgets_the_line_before(void **state)
{
    assert_string_equal(complete(state,
                                 "barrel-p2p ping --static b@h=192.0.2.1:4433 --runtime-dir none "
                                 "--discovery-dir other "
                                 "' && COMP_POINT=${#COMP_LINE} && _barrel_p2p && COMP_LINE='"
                                 "barrel-p2p ping --runtime-dir none --discovery-dir other "),
                        "\n");
}

static void args_install_puts_all_three(void **state)
{
    static const char *const files[] = {"usr/bin/barrel-p2p", "usr/share/man/man1/barrel-p2p.1",
                                        "usr/share/bash-completion/completions/barrel-p2p"};
    struct tmpdir *t = *state;
    char line[2 * PATH_MAX];
    char p[PATH_MAX];
    FILE *out;

    snprintf(line, sizeof(line),
             "env -u MAKEFLAGS -u MAKELEVEL -u BUILD make -s install DESTDIR='%s' PREFIX=/usr 2>&1",
             t->path);
    assert_int_equal(system(line), 0);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(tmpdir_mode(tmpdir_path(state, files[i], p)), i == 0 ? 0755 : 0644);
    }
    snprintf(line, sizeof(line), "'%s' --version", tmpdir_path(state, files[0], p));
    out = popen(line, "r");
    assert_non_null(out);
    assert_non_null(fgets(p, sizeof(p), out));
    assert_int_equal(strncmp(p, "barrel-p2p ", 11), 0);
    assert_int_equal(pclose(out), 0);
}

/* Nothing is installed, above all not somewhere else. */
static void args_install_refuses_odd_places(void **state)
{
    static const char *const places[] = {"DESTDIR='a b' PREFIX=/usr", "PREFIX=relative",
                                         "PREFIX='/tmp/a b'", "PREFIX="};
    char line[2 * PATH_MAX];
    char text[256];

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        FILE *out;
        snprintf(line, sizeof(line),
                 "env -u MAKEFLAGS -u MAKELEVEL -u BUILD make -s -n install-cli %s 2>&1",
                 places[i]);
        out = popen(line, "r");
        assert_non_null(out);
        assert_non_null(fgets(text, sizeof(text), out));
        assert_non_null(strstr(text, " must "));
        assert_int_not_equal(pclose(out), 0);
    }
}

/* With an Erlang that cannot be run, and rules for everything, as in a fresh clone. */
static void args_command_is_built_without_erlang(void **state)
{
    char line[4096];
    size_t n = 0;
    FILE *out = popen("env -u MAKEFLAGS -u MAKELEVEL -u BUILD make -n -B cli V=1 "
                      "ERL=/nonexistent/erl ERLC=/nonexistent/erlc 2>&1",
                      "r");

    (void)state;
    assert_non_null(out);
    while (fgets(line, sizeof(line), out) != NULL) {
        n++;
        if (strstr(line, "/nonexistent") != NULL) {
            fail_msg("%s", line);
        }
    }
    assert_int_equal(pclose(out), 0);
    assert_true(n > 10);
}

static const struct CMUnitTest tests[] = {
    TMPDIR_TEST(args_version_is_that_of_the_application),
    TMPDIR_TEST(args_help_of_each_command_with_examples),
    TMPDIR_TEST(args_without_command_lists_them),
    TMPDIR_TEST(args_wrong_word_suggests_the_nearest),
    TMPDIR_TEST(args_wrong_options_refused),
    TMPDIR_TEST(args_node_names_validated),
    TMPDIR_TEST(args_failure_is_json_as_well),
    TMPDIR_TEST(args_full_disk_is_a_failure),
    TMPDIR_TEST(args_man_page_has_every_command_and_option),
    TMPDIR_TEST(args_completion_has_every_command_and_option),
    TMPDIR_TEST(args_completion_knows_nodes_that_are_found),
    TMPDIR_TEST(args_completion_knows_trusted_nodes),
    TMPDIR_TEST(args_completion_knows_relays),
    TMPDIR_TEST(args_completion_forgets_the_line_before),
    TMPDIR_TEST(args_install_puts_all_three),
    TMPDIR_TEST(args_install_refuses_odd_places),
    TMPDIR_TEST(args_command_is_built_without_erlang),
};

int main(void)
{
    return cmocka_run_group_tests(tests, cli_enter_root, NULL) != 0;
}
