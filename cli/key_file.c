/* SPDX-License-Identifier: Apache-2.0 */
/* Keys that the user names: files, the standard input, this node's own. */
#include "cli/cli.h"

#include "auth/identity.h"
#include "base/err.h"
#include "cli/key_text.h"
#include "io/identity_dir.h"

#include <stdio.h>
#include <string.h>

static const char private_suffix[] = ".key";

static bool is_private_name(const char *file)
{
    size_t n = sizeof(private_suffix) - 1;
    size_t len = strlen(file);

    return len >= n && strcmp(file + len - n, private_suffix) == 0;
}

/* The public half of the private key in `file`; BP_E_NOT_FOUND, BP_E_FILE, ... */
static int derive(const char *file, uint8_t key[static BP_KEY_LEN], struct bp_errbuf *err)
{
    struct bp_identity *id = NULL;
    uint8_t seed[BP_KEY_LEN];
    int rc = bp_file_read_exact(file, seed, sizeof(seed),
                                "a private key of this program is 32 raw bytes", err);

    if (rc == 0) {
        rc = bp_identity_new(&id, seed, NULL, bp_mem_libc());
    }
    bp_wipe(seed, sizeof(seed));
    if (rc == 0) {
        memcpy(key, bp_identity_pub(id), BP_KEY_LEN);
        bp_file_warn_loose(file, err);
    }
    bp_identity_del(id);
    return rc;
}

static int parse(const struct cli *c, const char *from, const uint8_t *p, size_t len,
                 uint8_t key[static BP_KEY_LEN])
{
    const char *why;
    int rc = cli_key_parse(p, len, true, key, &why);

    if (rc == BP_E_INVALID) {
        return cli_fail(c, CLI_FAILED, "bad_key", "%s holds no public key: %s", from, why);
    }
    return rc != 0 ? cli_fail_rc(c, rc, NULL) : CLI_OK;
}

static int read_stdin(const struct cli *c, uint8_t key[static BP_KEY_LEN])
{
    uint8_t buf[CLI_KEY_FILE_MAX + 1];
    size_t len = fread(buf, 1, sizeof(buf), stdin);
    int status;

    if (ferror(stdin) != 0) {
        status = cli_fail(c, CLI_FAILED, "file_error", "cannot read the standard input");
    } else if (len > CLI_KEY_FILE_MAX) {
        status = cli_fail(c, CLI_FAILED, "bad_key",
                          "the standard input holds no public key: it is too long");
    } else {
        status = parse(c, "the standard input", buf, len, key);
    }
    bp_wipe(buf, sizeof(buf)); /* a private key by mistake? */
    return status;
}

int cli_read_key(const struct cli *c, const char *file, bool private_too,
                 uint8_t key[static BP_KEY_LEN])
{
    struct bp_errbuf err;
    uint8_t *text = NULL;
    size_t len = 0;
    int status;
    int rc;

    if (strcmp(file, "-") == 0) {
        return read_stdin(c, key);
    }
    if (is_private_name(file) && !private_too) {
        return cli_fail(c, CLI_FAILED, "private_key",
                        "%s is a private key by its name, and a private key stays on its machine; "
                        "take the node.pub beside it",
                        file);
    }
    if (is_private_name(file)) {
        rc = derive(file, key, &err);
        if (rc != 0) {
            return cli_fail_rc(c, rc, &err);
        }
        cli_warn_err(&err);
        return CLI_OK;
    }
    rc = bp_file_read(file, CLI_KEY_FILE_MAX, bp_mem_libc(), &text, &len, &err);
    if (rc != 0) {
        return cli_fail_rc(c, rc, &err);
    }
    status = parse(c, file, text, len, key);
    bp_wipe(text, len); /* a private key under another name? */
    bp_mem_libc()->release(NULL, text);
    return status;
}

static int fail_mismatch(const struct cli *c, const char *pub_file)
{
    struct bp_errbuf err;

    bp_errbuf_set(&err, 0, "cannot use", pub_file,
                  "it is not the public half of node.key beside it",
                  "restore the pair from a backup, or delete node.pub, a node writes it again");
    return cli_fail_rc(c, BP_E_KEYPAIR, &err);
}

int cli_own_key(const struct cli *c, const char *dir, bool wanted, uint8_t key[static BP_KEY_LEN],
                char file[static PATH_MAX])
{
    char key_file[PATH_MAX];
    uint8_t derived[BP_KEY_LEN];
    struct bp_errbuf err;
    struct bp_errbuf key_err;
    int key_rc;
    int rc = bp_path_join(dir, BP_KEY_FILE, key_file, sizeof(key_file), &err);

    if (rc == 0) {
        rc = bp_path_join(dir, BP_PUB_FILE, file, PATH_MAX, &err);
    }
    if (rc != 0) {
        return cli_fail_rc(c, rc, &err);
    }
    rc = bp_file_read_exact(file, key, BP_KEY_LEN, "delete it, a node writes it again", &err);
    key_rc = derive(key_file, derived, &key_err);
    if (key_rc == 0) {
        cli_warn_err(&key_err);
    }
    if (rc == 0) {
        /* the private key may be unreadable for this user: the public one is enough */
        return key_rc == 0 && memcmp(key, derived, BP_KEY_LEN) != 0 ? fail_mismatch(c, file)
                                                                    : CLI_OK;
    }
    if (rc == BP_E_NOT_FOUND && key_rc == 0) {
        memcpy(key, derived, BP_KEY_LEN);
        memcpy(file, key_file, PATH_MAX);
        return CLI_OK;
    }
    if (rc == BP_E_NOT_FOUND && key_rc == BP_E_NOT_FOUND) {
        if (!wanted) {
            return CLI_NOT_FOUND;
        }
        bp_errbuf_set(&err, 0, "cannot find an identity in", dir, "there is no node.key",
                      "make one with 'barrel-p2p keygen', or choose with --dir or --node");
        return cli_fail_rc(c, rc, &err);
    }
    return rc == BP_E_NOT_FOUND ? cli_fail_rc(c, key_rc, &key_err) : cli_fail_rc(c, rc, &err);
}
