/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of keygen and fingerprint: the files are those of a node. */
#include "cli/run.h"

#include "auth/identity.h"
#include "io/identity_dir.h"

#include <pthread.h>

#define RACERS 6

/* WIRE 3.4, and what `ssh-keygen` makes of a SHA-256: base64 without padding */
#define SEED        "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20"
#define PUB_HEX     "79b5562e8fe654f94078b112e8a98ba7901f853ae695bed7e0e3910bad049664"
#define PUB_BASE64  "ebVWLo/mVPlAeLES6KmLp5AfhTrmlb7X4OORC60ElmQ="
#define PUB_URL     "ebVWLo_mVPlAeLES6KmLp5AfhTrmlb7X4OORC60ElmQ"
#define FINGERPRINT "SHA256:ZbYGc9btiEvwHCwiLYKtoHQPKawzVdapJcgfF/R6J7g"

static void put_hex(void **state, const char *name, const char *hex)
{
    uint8_t bytes[64];
    char p[PATH_MAX];

    tmpdir_put(tmpdir_path(state, name, p), bytes, t_hex(hex, bytes, sizeof(bytes)));
}

/* The identity as a node loads it. */
static void load(void **state, const char *dir, uint8_t pub[static BP_KEY_LEN])
{
    struct bp_identity *id;
    struct bp_errbuf err;
    char p[PATH_MAX];

    if (bp_identity_load_or_create(tmpdir_path(state, dir, p), &id, &err) != 0) {
        fail_msg("%s", err.text);
    }
    assert_false(err.warning);
    memcpy(pub, bp_identity_pub(id), BP_KEY_LEN);
    bp_identity_del(id);
}

static void keygen_makes_what_a_node_loads(void **state)
{
    struct run r;
    uint8_t pub[BP_KEY_LEN];
    uint8_t file[64];
    char text[BP_FINGERPRINT_TEXT];
    char p[PATH_MAX];

    cli(&r, state, "keygen");
    assert_int_equal(r.status, 0);
    assert_string_equal(r.err, "");
    assert_int_equal(tmpdir_mode(tmpdir_path(state, "data", p)), 0700);
    assert_int_equal(tmpdir_mode(tmpdir_path(state, "data/keys", p)), 0700);
    assert_int_equal(tmpdir_count(p), 2);
    assert_int_equal(tmpdir_mode(tmpdir_path(state, "data/keys/node.key", p)), 0600);
    assert_int_equal(tmpdir_get(p, file, sizeof(file)), BP_KEY_LEN);
    load(state, "data/keys", pub);
    assert_int_equal(tmpdir_get(tmpdir_path(state, "data/keys/node.pub", p), file, sizeof(file)),
                     BP_KEY_LEN);
    assert_memory_equal(file, pub, BP_KEY_LEN);
    bp_fingerprint_text(pub, text);
    expect_out(&r, 0, text);
}

static void keygen_json_names_everything(void **state)
{
    static const char *const names[] = {"fingerprint", "fingerprint_hex", "public_key", "key_file",
                                        "public_file"};
    struct run r;
    json_t *o;

    cli(&r, state, "keygen", "-j", "-d", "new/dir");
    o = cli_json(&r);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_string_not_equal(member(o, names[i]), "");
    }
    assert_true(json_is_null(json_object_get(o, "backup_dir")));
    assert_string_equal(member(o, "key_file"), "new/dir/node.key");
    assert_int_equal(strlen(member(o, "fingerprint_hex")), 64);
    json_decref(o);
}

static void keygen_replaces_only_with_force_and_keeps_the_old(void **state)
{
    struct run r;
    uint8_t before[BP_KEY_LEN];
    uint8_t after[BP_KEY_LEN];
    uint8_t kept[BP_KEY_LEN];
    char p[PATH_MAX];
    char name[256];
    json_t *o;

    cli(&r, state, "keygen", "--dir", "k");
    load(state, "k", before);
    cli(&r, state, "keygen", "--dir", "k", "--json");
    expect_err(&r, 5, "--force");
    o = cli_json(&r);
    assert_string_equal(member(o, "error"), "exists");
    json_decref(o);
    load(state, "k", after);
    assert_memory_equal(before, after, BP_KEY_LEN);

    cli(&r, state, "keygen", "--dir", "k", "--json", "--force");
    assert_int_equal(r.status, 0);
    o = cli_json(&r);
    snprintf(name, sizeof(name), "%s/node.pub", member(o, "backup_dir"));
    json_decref(o);
    load(state, "k", after);
    assert_memory_not_equal(before, after, BP_KEY_LEN);
    assert_int_equal(tmpdir_get(tmpdir_path(state, name, p), kept, sizeof(kept)), BP_KEY_LEN);
    assert_memory_equal(before, kept, BP_KEY_LEN);
    assert_int_equal(tmpdir_mode(p), 0600);

    /* half an identity is not overwritten either */
    assert_int_equal(unlink(tmpdir_path(state, "k/node.key", p)), 0);
    cli(&r, state, "keygen", "--dir", "k");
    expect_err(&r, 5, "already");
    cli(&r, state, "keygen", "--dir", "k", "--force");
    expect_err(&r, 1, "node.pub");
}

static struct tmpdir *race_dir;

static void *run_keygen(void *arg)
{
    struct run *r = arg;

    cli_call(r, &(struct call){.dir = race_dir->path, .args = {"keygen", "--dir", "k"}});
    return NULL;
}

/* Of several at once, or of one and a node that starts, none replaces what another one made. */
static void keygen_racing_keeps_the_first_key(void **state)
{
    static struct run r[RACERS];
    pthread_t th[RACERS];
    char p[PATH_MAX];

    race_dir = *state;
    for (int round = 0; round < 5; round++) {
        uint8_t key[BP_KEY_LEN];
        for (int i = 0; i < RACERS; i++) {
            assert_int_equal(pthread_create(&th[i], NULL, run_keygen, &r[i]), 0);
        }
        for (int i = 0; i < RACERS; i++) {
            assert_int_equal(pthread_join(th[i], NULL), 0);
            assert_true(r[i].status == 0 || r[i].status == 5);
        }
        load(state, "k", key);
        assert_int_not_equal(access(tmpdir_path(state, "k/backups", p), F_OK), 0);
        assert_int_equal(unlink(tmpdir_path(state, "k/node.key", p)), 0);
        assert_int_equal(unlink(tmpdir_path(state, "k/node.pub", p)), 0);
    }
}

static void keygen_of_several_nodes_as_they_choose_themselves(void **state)
{
    struct run r;
    uint8_t a[BP_KEY_LEN];
    uint8_t b[BP_KEY_LEN];
    char dir[PATH_MAX];
    char base[PATH_MAX];
    char want[PATH_MAX];
    char p[PATH_MAX];

    cli(&r, state, "keygen", "--node", "a@h");
    expect_out(&r, 0, "data/keys/node.key");
    cli(&r, state, "keygen", "--node", "b@h");
    expect_out(&r, 0, "data/keys/nodes/b@h/node.key");
    cli(&r, state, "keygen", "--node", "a@h");
    expect_err(&r, 5, "already");
    load(state, "data/keys", a);
    load(state, "data/keys/nodes/b@h", b);
    assert_memory_not_equal(a, b, BP_KEY_LEN);
    tmpdir_path(state, "data/keys", base);
    assert_int_equal(bp_identity_dir_resolve(base, false, "b@h", dir, sizeof(dir), NULL), 0);
    assert_string_equal(dir, tmpdir_path(state, "data/keys/nodes/b@h", want));
    assert_int_equal(bp_identity_dir_resolve(base, false, "a@h", dir, sizeof(dir), NULL), 0);
    assert_string_equal(dir, base);

    cli(&r, state, "fingerprint", "-n", "b@h");
    expect_out(&r, 0, "data/keys/nodes/b@h/node.pub");
    cli(&r, state, "fingerprint");
    expect_err(&r, 0, "several nodes use data/keys");
    /* looking claims and creates nothing */
    cli(&r, state, "fingerprint", "-n", "c@h");
    expect_err(&r, 3, "data/keys/nodes/c@h");
    assert_int_equal(access(tmpdir_path(state, "data/keys/nodes/c@h", p), F_OK), -1);
    /* a directory that was named is used as it is */
    cli(&r, state, "fingerprint", "-n", "c@h", "--dir", "data/keys");
    expect_out(&r, 0, "data/keys/node.pub");
}

/* Refusing leaves the directory to the node that comes first. */
static void keygen_that_refuses_claims_nothing(void **state)
{
    struct run r;
    char p[PATH_MAX];

    cli(&r, state, "keygen");
    assert_int_equal(r.status, 0);
    cli(&r, state, "keygen", "--node", "b@h");
    expect_err(&r, 5, "already");
    assert_int_equal(access(tmpdir_path(state, "data/keys/node.name", p), F_OK), -1);
}

/* --- fingerprint ----------------------------------------------------------------------------- */

static void expect_vector(const struct run *r)
{
    json_t *o = cli_json(r);

    assert_int_equal(r->status, 0);
    assert_string_equal(member(o, "fingerprint"), FINGERPRINT);
    assert_string_equal(member(o, "public_key"), PUB_BASE64);
    assert_string_equal(member(o, "fingerprint_hex"),
                        "65b60673d6ed884bf01c2c222d82ada0740f29ac3355d6a925c81f17f47a27b8");
    json_decref(o);
}

static void fingerprint_of_every_form_of_a_key(void **state)
{
    static const char *const texts[] = {PUB_HEX, PUB_BASE64, PUB_URL, "\n  " PUB_HEX "\r\n",
                                        PUB_BASE64 "\n"};
    struct tmpdir *t = *state;
    struct run r;
    char p[PATH_MAX];

    put_hex(state, "raw.pub", PUB_HEX);
    cli(&r, state, "fingerprint", "raw.pub", "--json");
    expect_vector(&r);
    put_hex(state, "node.key", SEED);
    assert_int_equal(chmod(tmpdir_path(state, "node.key", p), 0600), 0);
    cli(&r, state, "fingerprint", "node.key", "--json");
    expect_vector(&r);
    assert_string_equal(r.err, "");
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        tmpdir_put(tmpdir_path(state, "text", p), texts[i], strlen(texts[i]));
        cli(&r, state, "fingerprint", "text", "--json");
        expect_vector(&r);
        cli_call(&r, &(struct call){.dir = t->path,
                                    .input = texts[i],
                                    .input_len = strlen(texts[i]),
                                    .args = {"fingerprint", "--json", "-"}});
        expect_vector(&r);
    }
}

static void fingerprint_of_loose_private_key_warns(void **state)
{
    struct run r;
    char p[PATH_MAX];

    put_hex(state, "node.key", SEED);
    assert_int_equal(chmod(tmpdir_path(state, "node.key", p), 0644), 0);
    cli(&r, state, "fingerprint", "--dir", ".");
    expect_out(&r, 0, FINGERPRINT);
    expect_err(&r, 0, "warning: unsafe secret file");
    expect_err(&r, 0, "chmod 600");
    assert_int_equal(tmpdir_count(((struct tmpdir *)*state)->path), 1); /* no node.pub was made */
}

static void fingerprint_of_torn_pair_refused(void **state)
{
    struct run r;
    char p[PATH_MAX];

    put_hex(state, "node.key", SEED);
    assert_int_equal(chmod(tmpdir_path(state, "node.key", p), 0600), 0);
    put_hex(state, "node.pub", SEED);
    cli(&r, state, "fingerprint", "--dir", ".", "--json");
    expect_err(&r, 1, "node.pub");
    expect_out(&r, 1, "keypair_mismatch");
}

static void fingerprint_of_anything_else_refused(void **state)
{
    static const struct {
        const char *text;
        const char *why;
    } bad[] = {
        {"", "it is empty"},
        {" \n", "it is empty"},
        {FINGERPRINT, "this is a fingerprint"},
        {"-----BEGIN PUBLIC KEY-----\n", "this is PEM"},
        {"ssh-ed25519 AAAAC3Nz", "a key of OpenSSH"},
        {"0102", "wanted are 32 bytes"},
        {"zz" PUB_HEX, "wanted are 32 bytes"},
        {"g9b5562e8fe654f94078b112e8a98ba7901f853ae695bed7e0e3910bad049664", "wanted are"},
        {"ebVWLo/mVPlAeLES6KmLp5AfhTrmlb7X4OORC60ElmR=", "wanted are"}, /* set bits at the end */
        {"ebVWLo/mVPlAeLES6KmLp5AfhTrmlb7X4OORC60Elm==", "wanted are"},
        {"ebVWLo/mVPlAeLES6KmLp5AfhTrmlb7X4OORC6 ElmQ=", "wanted are"},
    };
    struct run r;
    char big[2048];
    char p[PATH_MAX];
    struct tmpdir *t = *state;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        tmpdir_put(tmpdir_path(state, "f", p), bad[i].text, strlen(bad[i].text));
        cli(&r, state, "fingerprint", "f");
        expect_err(&r, 1, bad[i].why);
        expect_err(&r, 1, "f holds no public key");
    }
    memset(big, 'a', sizeof(big));
    tmpdir_put(p, big, sizeof(big));
    cli(&r, state, "fingerprint", "f");
    expect_err(&r, 1, "too large");
    cli_call(&r, &(struct call){.dir = t->path,
                                .input = big,
                                .input_len = sizeof(big),
                                .args = {"fingerprint", "-"}});
    expect_err(&r, 1, "the standard input holds no public key: it is too long");
    cli(&r, state, "fingerprint", "missing");
    expect_err(&r, 3, "missing: No such file");
    cli(&r, state, "fingerprint", ".");
    expect_err(&r, 1, "not a regular file");
    tmpdir_put(tmpdir_path(state, "short.key", p), "short", 5);
    cli(&r, state, "fingerprint", "short.key");
    expect_err(&r, 1, "5 bytes, not 32");
}

static const struct CMUnitTest tests[] = {
    TMPDIR_TEST(keygen_makes_what_a_node_loads),
    TMPDIR_TEST(keygen_json_names_everything),
    TMPDIR_TEST(keygen_replaces_only_with_force_and_keeps_the_old),
    TMPDIR_TEST(keygen_racing_keeps_the_first_key),
    TMPDIR_TEST(keygen_of_several_nodes_as_they_choose_themselves),
    TMPDIR_TEST(keygen_that_refuses_claims_nothing),
    TMPDIR_TEST(fingerprint_of_every_form_of_a_key),
    TMPDIR_TEST(fingerprint_of_loose_private_key_warns),
    TMPDIR_TEST(fingerprint_of_torn_pair_refused),
    TMPDIR_TEST(fingerprint_of_anything_else_refused),
};

T_MAIN(tests)
