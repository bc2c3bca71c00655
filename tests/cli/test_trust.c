/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of trust list, add, remove and show: the pins are those that a node reads. */
#include "cli/run.h"

#include "auth/identity.h"
#include "base/err.h"
#include "io/trust_store.h"

static const char key_a[] = "ebVWLo/mVPlAeLES6KmLp5AfhTrmlb7X4OORC60ElmQ=";
static const char key_a_hex[] = "79b5562e8fe654f94078b112e8a98ba7901f853ae695bed7e0e3910bad049664";
static const char key_b_hex[] = "adc14011f82d1c56d956aa4f9d73d8858361a606048525e0d08c638dc75dd8c7";

static void expect_pin(void **state, const char *dir, const char *node, const char *hex)
{
    uint8_t want[BP_KEY_LEN];
    uint8_t got[BP_KEY_LEN];
    char p[PATH_MAX];
    int rc = bp_trust_lookup(tmpdir_path(state, dir, p), node, got, NULL);

    if (hex == NULL) {
        assert_int_equal(rc, BP_E_NOT_FOUND);
        return;
    }
    assert_int_equal(rc, 0);
    assert_int_equal(t_hex(hex, want, sizeof(want)), BP_KEY_LEN);
    assert_memory_equal(want, got, BP_KEY_LEN);
}

static const char *fingerprint_of(const char *hex, char out[static BP_FINGERPRINT_TEXT])
{
    uint8_t key[BP_KEY_LEN];

    (void)t_hex(hex, key, sizeof(key));
    bp_fingerprint_text(key, out);
    return out;
}

static void trust_added_key_is_the_pin_of_a_node(void **state)
{
    struct tmpdir *t = *state;
    struct run r;
    uint8_t raw[BP_KEY_LEN];
    char text[BP_FINGERPRINT_TEXT];
    char p[PATH_MAX];

    cli(&r, state, "trust", "add", "a@h", "--key", key_a);
    expect_out(&r, 0, fingerprint_of(key_a_hex, text));
    expect_pin(state, "data/keys", "a@h", key_a_hex);
    assert_int_equal(tmpdir_mode(tmpdir_path(state, "data/keys/trusted", p)), 0700);
    assert_int_equal(tmpdir_mode(tmpdir_path(state, "data/keys/trusted/a@h.pub", p)), 0600);
    assert_int_equal(tmpdir_count(tmpdir_path(state, "data/keys/trusted", p)), 1);

    (void)t_hex(key_b_hex, raw, sizeof(raw));
    tmpdir_put(tmpdir_path(state, "b.pub", p), raw, sizeof(raw));
    cli(&r, state, "trust", "add", "b@h", "b.pub");
    expect_out(&r, 0, fingerprint_of(key_b_hex, text));
    expect_pin(state, "data/keys", "b@h", key_b_hex);

    cli_call(&r, &(struct call){.dir = t->path,
                                .input = (const char *)raw,
                                .input_len = sizeof(raw),
                                .args = {"trust", "add", "c@h", "-"}});
    expect_out(&r, 0, text);
    expect_err(&r, 0, "warning: the same key is trusted as b@h");
    expect_pin(state, "data/keys", "c@h", key_b_hex);

    cli(&r, state, "trust", "add", "d@h", "-k", key_a_hex, "--dir", "elsewhere", "--json");
    expect_out(&r, 0, "\"trusted\": \"d@h\"");
    expect_pin(state, "elsewhere", "d@h", key_a_hex);
}

static void trust_add_without_or_with_two_keys_refused(void **state)
{
    struct run r;

    cli(&r, state, "trust", "add", "a@h");
    expect_err(&r, 2, "give a file, - for the standard input, or --key");
    cli(&r, state, "trust", "add", "a@h", "f", "--key", key_a);
    expect_err(&r, 2, "not both");
    cli(&r, state, "trust", "add", "a@h", "--key", "12345678901234567890123456789012");
    expect_err(&r, 2, "--key is no public key");
    cli(&r, state, "trust", "add", "a@h", "--key", "SHA256:ZbYGc9btiEvwHCwiLYKtoHQPKawzVdapJcgf");
    expect_err(&r, 2, "this is a fingerprint");
    cli(&r, state, "trust", "add", "a@h", "missing.pub");
    expect_err(&r, 3, "missing.pub");
    cli(&r, state, "trust", "add", "a@h", "-");
    expect_err(&r, 1, "it is empty");
    assert_int_equal(tmpdir_count(((struct tmpdir *)*state)->path), 0);
}

static void trust_other_key_replaced_only_with_force(void **state)
{
    struct run r;
    char a[BP_FINGERPRINT_TEXT];
    char b[BP_FINGERPRINT_TEXT];
    json_t *o;

    cli(&r, state, "trust", "add", "a@h", "--key", key_a);
    cli(&r, state, "trust", "add", "a@h", "--key", key_a); /* the same again */
    assert_int_equal(r.status, 0);
    cli(&r, state, "trust", "add", "a@h", "--key", key_b_hex, "--json");
    expect_err(&r, 5, fingerprint_of(key_a_hex, a));
    expect_err(&r, 5, fingerprint_of(key_b_hex, b));
    expect_err(&r, 5, "--force");
    o = cli_json(&r);
    assert_string_equal(member(o, "error"), "mismatch");
    json_decref(o);
    expect_pin(state, "data/keys", "a@h", key_a_hex);
    cli(&r, state, "trust", "add", "a@h", "--key", key_b_hex, "-f");
    assert_int_equal(r.status, 0);
    expect_pin(state, "data/keys", "a@h", key_b_hex);
}

/* SECURITY: a pin of one's own key would let a mirror in (and is what the scp of a whole directory
 * makes). */
static void trust_own_key_and_private_key_refused(void **state)
{
    struct run r;

    cli(&r, state, "keygen");
    cli(&r, state, "trust", "add", "b@h", "data/keys/node.pub");
    expect_err(&r, 1, "the key of this node itself");
    cli(&r, state, "trust", "add", "b@h", "data/keys/node.pub", "--force");
    expect_err(&r, 1, "the key of this node itself");
    cli(&r, state, "trust", "add", "b@h", "data/keys/node.key");
    expect_err(&r, 1, "a private key stays on its machine");
    expect_pin(state, "data/keys", "b@h", NULL);
}

static void trust_list_sorted_with_broken_pins_named(void **state)
{
    struct run r;
    char p[PATH_MAX];
    const char *b;
    json_t *o;

    cli(&r, state, "trust", "list");
    assert_int_equal(r.status, 0);
    assert_string_equal(r.out, "");
    cli(&r, state, "trust", "list", "--json");
    o = cli_json(&r);
    assert_int_equal(json_array_size(json_object_get(o, "trusted")), 0);
    json_decref(o);
    assert_int_equal(tmpdir_count(((struct tmpdir *)*state)->path), 0);

    cli(&r, state, "trust", "add", "second@h", "--key", key_b_hex);
    cli(&r, state, "trust", "add", "first@h", "--key", key_a);
    cli(&r, state, "trust", "list");
    assert_int_equal(r.status, 0);
    assert_int_equal(strncmp(r.out, "first@h   SHA256:ZbYGc9bt", 25), 0);
    b = strchr(r.out, '\n');
    assert_non_null(b);
    assert_int_equal(strncmp(b + 1, "second@h  SHA256:", 17), 0);
    assert_null(strstr(strchr(b + 1, '\n') + 1, "SHA256"));

    tmpdir_put(tmpdir_path(state, "data/keys/trusted/bad@h.pub", p), "x", 1);
    cli(&r, state, "trust", "list");
    expect_err(&r, 1, "bad@h.pub: the file has 1 bytes, not 32");
    assert_null(strstr(r.out, "bad@h"));
    cli(&r, state, "trust", "list", "--json");
    assert_int_equal(r.status, 1);
    o = cli_json(&r);
    assert_int_equal(json_array_size(json_object_get(o, "trusted")), 3);
    assert_string_equal(member(json_array_get(json_object_get(o, "trusted"), 0), "node"), "bad@h");
    assert_non_null(
        strstr(member(json_array_get(json_object_get(o, "trusted"), 0), "problem"), "not 32"));
    json_decref(o);
}

static void trust_show_and_remove(void **state)
{
    struct run r;
    json_t *o;

    cli(&r, state, "trust", "show", "a@h");
    expect_err(&r, 3, "no key of a@h is trusted in data/keys");
    cli(&r, state, "trust", "remove", "a@h", "--json");
    expect_out(&r, 3, "not_found");
    assert_int_equal(tmpdir_count(((struct tmpdir *)*state)->path), 0);
    cli(&r, state, "trust", "add", "a@h", "--key", key_a);
    cli(&r, state, "trust", "show", "a@h", "--json");
    assert_int_equal(r.status, 0);
    o = cli_json(&r);
    assert_string_equal(member(o, "node"), "a@h");
    assert_string_equal(member(o, "public_key"), key_a);
    assert_string_equal(member(o, "file"), "data/keys/trusted/a@h.pub");
    assert_int_equal(strlen(member(o, "changed")), strlen("2026-01-31T12:00:00Z"));
    json_decref(o);
    cli(&r, state, "trust", "show", "a@h");
    expect_out(&r, 0, key_a);
    cli(&r, state, "trust", "remove", "a@h");
    expect_out(&r, 0, "a@h");
    expect_pin(state, "data/keys", "a@h", NULL);
    cli(&r, state, "trust", "remove", "a@h");
    assert_int_equal(r.status, 3);
}

static void trust_of_several_nodes_kept_apart(void **state)
{
    struct run r;
    char p[PATH_MAX];

    cli(&r, state, "trust", "add", "x@h", "--node", "a@h", "--key", key_a);
    cli(&r, state, "trust", "add", "x@h", "--node", "b@h", "--key", key_b_hex);
    expect_pin(state, "data/keys", "x@h", key_a_hex);
    expect_pin(state, "data/keys/nodes/b@h", "x@h", key_b_hex);
    cli(&r, state, "trust", "list", "--node", "b@h");
    expect_out(&r, 0, "x@h");
    cli(&r, state, "trust", "show", "x@h", "--node", "b@h");
    expect_out(&r, 0, "data/keys/nodes/b@h/trusted/x@h.pub");
    cli(&r, state, "trust", "remove", "x@h", "--node", "b@h");
    assert_int_equal(r.status, 0);
    expect_pin(state, "data/keys", "x@h", key_a_hex);
    cli(&r, state, "trust", "remove", "x@h", "--node", "c@h");
    assert_int_equal(r.status, 3);
    assert_int_equal(access(tmpdir_path(state, "data/keys/nodes/c@h", p), F_OK), -1);
}

static void trust_longest_name_and_too_long_one(void **state)
{
    struct run r;
    char name[BP_NODE_NAME_MAX + 2];

    memset(name, 'a', sizeof(name));
    name[5] = '@';
    name[251] = '\0';
    cli(&r, state, "trust", "add", name, "--key", key_a);
    assert_int_equal(r.status, 0);
    expect_pin(state, "data/keys", name, key_a_hex);
    name[251] = 'a';
    name[252] = '\0';
    cli(&r, state, "trust", "add", name, "--key", key_a);
    expect_err(&r, 1, "too long");
}

static const struct CMUnitTest tests[] = {
    TMPDIR_TEST(trust_added_key_is_the_pin_of_a_node),
    TMPDIR_TEST(trust_add_without_or_with_two_keys_refused),
    TMPDIR_TEST(trust_other_key_replaced_only_with_force),
    TMPDIR_TEST(trust_own_key_and_private_key_refused),
    TMPDIR_TEST(trust_list_sorted_with_broken_pins_named),
    TMPDIR_TEST(trust_show_and_remove),
    TMPDIR_TEST(trust_of_several_nodes_kept_apart),
    TMPDIR_TEST(trust_longest_name_and_too_long_one),
};

T_MAIN(tests)
