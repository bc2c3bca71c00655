/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which directory a subcommand uses, and the refusal to write secrets, or what decides about trust,
 * where other users could read or change them.
 */
#include "cli/cli.h"

#include "auth/node_name.h"
#include "base/err.h"
#include "io/identity_dir.h"
#include "io/trust_store.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIR_MODE      0700u
#define OTHERS_WRITE  ((mode_t)(S_IWGRP | S_IWOTH))
#define OTHERS_ACCESS ((mode_t)(S_IRGRP | S_IWGRP | S_IROTH | S_IWOTH))

int cli_check_node(const struct cli *c, const char *node)
{
    if (node == NULL || bp_node_name_valid(node, strlen(node))) {
        return CLI_OK;
    }
    return cli_fail(c, CLI_USAGE, "bad_node_name",
                    "'%s' is not a node name; wanted is name@host, as node() shows it: letters, "
                    "digits, '_', '.' and '-'",
                    node);
}

/* --- who else can get at it ---------------------------------------------------- */

static const char *user_name(uid_t uid, char out[static 64])
{
    const struct passwd *pw = getpwuid(uid);

    if (pw != NULL) {
        (void)snprintf(out, 64, "%s", pw->pw_name);
    } else {
        (void)snprintf(out, 64, "%lu", (unsigned long)uid);
    }
    return out;
}

/* True for the group that many systems make for each user, with nobody else in it. */
static bool is_private_group(gid_t gid)
{
    const struct passwd *pw = getpwuid(geteuid());
    const struct group *gr = getgrgid(gid);

    return pw != NULL && gr != NULL && pw->pw_gid == gid && strcmp(pw->pw_name, gr->gr_name) == 0 &&
           gr->gr_mem[0] == NULL;
}

static int refuse_owner(const struct cli *c, const char *path, uid_t owner)
{
    char name[64];

    (void)user_name(owner, name);
    return cli_fail(c, CLI_UNSAFE, "unsafe_directory",
                    "refusing to write below %s: it belongs to the user %s; run this command as "
                    "that user, or choose another directory with --dir",
                    path, name);
}

static int refuse_mode(const struct cli *c, const char *path, mode_t mode, const char *what,
                       const char *cure)
{
    return cli_fail(c, CLI_UNSAFE, "unsafe_directory",
                    "refusing to write into %s: other users can %s it (mode %04o); run 'chmod %s "
                    "%s', or choose another directory with --dir",
                    path, what, (unsigned)(mode & 07777), cure, path);
}

static int cannot_look(const struct cli *c, const char *path)
{
    struct bp_errbuf err;

    bp_errbuf_set(&err, errno, "cannot use", path, NULL, NULL);
    return cli_fail_rc(c, BP_E_FILE, &err);
}

/* Who may write in a directory above can put another one in the place of ours, unless the sticky
 * bit forbids it. */
static int check_above(const struct cli *c, const char *path)
{
    struct stat st;
    mode_t open;

    if (stat(path, &st) != 0) {
        return cannot_look(c, path);
    }
    if (st.st_uid != 0 && st.st_uid != geteuid()) {
        return refuse_owner(c, path, st.st_uid);
    }
    open = st.st_mode & OTHERS_WRITE;
    if (open == 0 || (st.st_mode & S_ISVTX) != 0 ||
        (open == S_IWGRP && is_private_group(st.st_gid))) {
        return CLI_OK;
    }
    return refuse_mode(c, path, st.st_mode, "write", "go-w");
}

static int check_target(const struct cli *c, const char *path, enum cli_use use)
{
    struct stat st;

    if (stat(path, &st) != 0) {
        return cannot_look(c, path);
    }
    if (st.st_uid != geteuid()) {
        return refuse_owner(c, path, st.st_uid);
    }
    if (use == CLI_WRITE_SECRETS && (st.st_mode & OTHERS_ACCESS) != 0) {
        return refuse_mode(c, path, st.st_mode, "read or write", "700");
    }
    return (st.st_mode & OTHERS_WRITE) != 0 ? refuse_mode(c, path, st.st_mode, "write", "go-w")
                                            : CLI_OK;
}

/* All directories from / down to the real path `path`; the last one by the stricter rule where it
 * is the target. */
static int check_chain(const struct cli *c, char *path, bool is_target, enum cli_use use)
{
    int status = check_above(c, "/");

    for (char *slash = path + 1; status == CLI_OK && *path != '\0'; slash++) {
        if (*slash == '/') {
            *slash = '\0';
            status = check_above(c, path);
            *slash = '/';
        } else if (*slash == '\0') {
            return is_target ? check_target(c, path, use) : check_above(c, path);
        }
    }
    return status;
}

/* The deepest directory of `dir` that exists, as a real path. */
static int deepest(const struct cli *c, const char *dir, char real[static PATH_MAX], bool *whole)
{
    char part[PATH_MAX];
    struct bp_errbuf err;

    *whole = true;
    (void)snprintf(part, sizeof(part), "%s", dir);
    while (realpath(part, real) == NULL) {
        char up[PATH_MAX];
        if (errno != ENOENT || strcmp(part, "/") == 0 || strcmp(part, ".") == 0) {
            return cannot_look(c, part);
        }
        *whole = false;
        if (bp_path_dir(part, up, sizeof(up), &err) != 0) {
            return cli_fail_rc(c, BP_E_FILE, &err);
        }
        memcpy(part, up, sizeof(part));
    }
    return CLI_OK;
}

/* Checks what there is of `dir`, creates the rest, and checks the result. */
static int make_safe(const struct cli *c, enum cli_use use, const char *dir)
{
    char real[PATH_MAX];
    struct bp_errbuf err;
    bool whole;
    int status = deepest(c, dir, real, &whole);

    if (status != CLI_OK) {
        return status;
    }
    status = check_chain(c, real, whole, use);
    if (status != CLI_OK || whole) {
        return status;
    }
    if (bp_mkdirs(dir, DIR_MODE, &err) != 0) {
        return cli_fail_rc(c, BP_E_FILE, &err);
    }
    status = deepest(c, dir, real, &whole);
    return status == CLI_OK ? check_chain(c, real, whole, use) : status;
}

/* Pins are in a directory of their own, and what is above that is checked with it. */
static int make_target_safe(const struct cli *c, enum cli_use use, const char *dir)
{
    char pins[PATH_MAX];
    struct bp_errbuf err;

    if (use != CLI_WRITE_PINS) {
        return make_safe(c, use, dir);
    }
    return bp_path_join(dir, BP_TRUST_DIR, pins, sizeof(pins), &err) == 0
               ? make_safe(c, use, pins)
               : cli_fail_rc(c, BP_E_INVALID, &err);
}

int cli_check_secret(const struct cli *c, const char *path)
{
    struct stat st;
    char name[64];

    if (stat(path, &st) != 0) {
        return errno == ENOENT ? CLI_OK : cannot_look(c, path);
    }
    if (st.st_uid != geteuid()) {
        return cli_fail(
            c, CLI_UNSAFE, "unsafe_file",
            "refusing to replace the secret in %s: the file belongs to the user %s; run "
            "this command as that user",
            path, user_name(st.st_uid, name));
    }
    if ((st.st_mode & OTHERS_ACCESS) != 0) {
        return cli_fail(c, CLI_UNSAFE, "unsafe_file",
                        "refusing to replace the secret in %s: other users can read or write the "
                        "file (mode %04o), so the old secret may be known to them; run 'chmod 600 "
                        "%s' and try again",
                        path, (unsigned)(st.st_mode & 07777), path);
    }
    return CLI_OK;
}

/* --- which directory ----------------------------------------------------------- */

/* Without --node nobody says whose directory is meant: that is worth a word where it matters. */
static void note_others(const char *usual)
{
    static bool said;
    char nodes[PATH_MAX];
    struct stat st;

    if (!said && bp_path_join(usual, "nodes", nodes, sizeof(nodes), NULL) == 0 &&
        stat(nodes, &st) == 0) {
        fprintf(stderr, "note: several nodes use %s; --node chooses one below nodes/\n", usual);
        said = true;
    }
}

static int find_dir(const struct cli *c, enum cli_use use, const char *usual,
                    char out[static PATH_MAX], struct bp_errbuf *err)
{
    const char *dir = c->dir != NULL ? c->dir : usual;
    bool as_it_is = c->dir != NULL || c->node == NULL;
    const char *node = c->node != NULL ? c->node : "";

    if (c->dir == NULL && c->node == NULL) {
        note_others(usual);
    }
    return use == CLI_READ ? bp_identity_dir_find(dir, as_it_is, node, out, PATH_MAX, err)
                           : bp_identity_dir_resolve(dir, as_it_is, node, out, PATH_MAX, err);
}

int cli_dir(const struct cli *c, enum cli_use use, const char *usual, char out[static PATH_MAX])
{
    struct bp_errbuf err;
    int status = CLI_OK;
    int rc;

    if (use != CLI_READ && c->dir == NULL && c->node != NULL) {
        status = make_safe(c, use, usual); /* before a node's claim is written there */
    }
    if (status != CLI_OK) {
        return status;
    }
    rc = find_dir(c, use, usual, out, &err);
    if (rc != 0) {
        return cli_fail_rc(c, rc, &err);
    }
    return use == CLI_READ ? CLI_OK : make_target_safe(c, use, out);
}
