/* SPDX-License-Identifier: Apache-2.0 */
/* Where endpoint files are: the working directory and this user's runtime directories. */
#include "io/discovery_dirs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

#define OTHERS ((mode_t)(S_IRWXG | S_IRWXO))

static int add(struct bp_discovery_dirs *out, const char *path, struct bp_errbuf *err)
{
    char *to = out->at[out->n];

    if (path[0] == '/') {
        if (strlen(path) >= BP_DISCOVERY_DIR_CAP) {
            bp_errbuf_set(err, ENAMETOOLONG, "cannot use the directory", path, NULL, NULL);
            return BP_E_INVALID;
        }
        memmove(to, path, strlen(path) + 1); /* may be the same place */
    } else {
        char cwd[BP_DISCOVERY_DIR_CAP];
        if (getcwd(cwd, sizeof(cwd)) == NULL) {
            bp_errbuf_set(err, errno, "cannot find the working directory for", path, NULL, NULL);
            return BP_E_SYSTEM;
        }
        if (bp_path_join(cwd, path, to, BP_DISCOVERY_DIR_CAP, err) != 0) {
            return BP_E_INVALID;
        }
    }
    out->n++;
    return 0;
}

/* Whether it is ours alone; a warning where it is there and is not. */
static bool is_private(const char *path, struct bp_errbuf *err)
{
    struct stat st;

    if (lstat(path, &st) != 0) {
        return false;
    }
    if (S_ISDIR(st.st_mode) && st.st_uid == geteuid() && (st.st_mode & OTHERS) == 0) {
        return true;
    }
    if (err != NULL && !err->warning) {
        bp_errbuf_set(err, 0, "not used for discovery:", path,
                      "it is not a directory of this user with mode 0700",
                      "remove it, or name another runtime directory, or none");
        err->warning = true;
    }
    return false;
}

static int add_private(struct bp_discovery_dirs *out, const char *path, bool make,
                       struct bp_errbuf *err)
{
    if (make && mkdir(path, 0700) == 0) {
        (void)chmod(path, 0700); /* whatever the umask */
    }
    return is_private(path, err) ? add(out, path, err) : 0;
}

static int add_usual(struct bp_discovery_dirs *out, bool make, struct bp_errbuf *err)
{
    const char *xdg = getenv("XDG_RUNTIME_DIR");
    char path[BP_DISCOVERY_DIR_CAP];
    struct stat st;

    if (xdg != NULL && xdg[0] == '/' && stat(xdg, &st) == 0 && S_ISDIR(st.st_mode) &&
        st.st_uid == geteuid() && bp_path_join(xdg, "barrel_p2p", path, sizeof(path), NULL) == 0) {
        int rc = add_private(out, path, make, err);
        if (rc != 0) {
            return rc;
        }
    }
    (void)snprintf(path, sizeof(path), "/tmp/barrel_p2p-%lu", (unsigned long)geteuid());
    return add_private(out, path, make, err);
}

int bp_discovery_dirs(const struct bp_discovery_dirs_config *config, struct bp_discovery_dirs *out,
                      struct bp_errbuf *err)
{
    int rc;

    bp_errbuf_reset(err);
    out->n = 0;
    rc = add(out, config->dir != NULL ? config->dir : BP_DISCOVERY_DIR, err);
    if (rc != 0 || config->no_runtime) {
        return rc;
    }
    if (config->runtime != NULL) {
        size_t n = out->n;

        /* Made absolute first, so that the warning says which one is meant. */
        rc = add(out, config->runtime, err);
        out->n = n;
        return rc != 0 ? rc : add_private(out, out->at[n], config->make, err);
    }
    return config->dir == NULL ? add_usual(out, config->make, err) : 0;
}
