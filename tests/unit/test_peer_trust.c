/* SPDX-License-Identifier: Apache-2.0 */
/* What a peer's key is worth: looked up, pinned when the cookie was shown, and explained. */
#include "unit/tmpdir.h"

#include "base/err.h"
#include "io/peer_trust.h"
#include "io/trust_store.h"

#define PEER "b@host"

static const uint8_t key_1[BP_KEY_LEN] = {1};
static const uint8_t key_2[BP_KEY_LEN] = {2};

static struct bp_peer_trust trust_of(void **state, char dir[static PATH_MAX])
{
    return (struct bp_peer_trust){.key_dir = tmpdir_path(state, "keys", dir)};
}

static struct bp_link_event event(const uint8_t *key, bool pin)
{
    struct bp_link_event ev = {.name = PEER, .has_key = true, .pin = pin};

    memcpy(ev.key, key, BP_KEY_LEN);
    return ev;
}

static bool found(struct bp_peer_trust *t, const uint8_t *presented, uint8_t out[static BP_KEY_LEN])
{
    struct bp_link_event ev = event(presented, false);
    struct bp_errbuf err;
    bool is;

    assert_int_equal(bp_peer_trust_lookup(t, &ev, &is, out, &err), 0);
    return is;
}

static int pin(struct bp_peer_trust *t, const uint8_t *key, bool wanted, bool *replaced)
{
    struct bp_link_event ev = event(key, wanted);
    struct bp_errbuf err;
    char note[256];

    bp_peer_trust_proved(t, &ev);
    return bp_peer_trust_pin(t, PEER, replaced, note, sizeof(note), &err);
}

static void first_use(void **state)
{
    char dir[PATH_MAX];
    struct bp_peer_trust t = trust_of(state, dir);
    struct bp_errbuf err;
    uint8_t out[BP_KEY_LEN];
    bool replaced;

    assert_false(found(&t, key_1, out));
    assert_true(t.presented && !t.has_key && !t.was_pinned);
    assert_int_equal(bp_trust_lookup(dir, PEER, out, &err), BP_E_NOT_FOUND); /* not yet */
    assert_int_equal(pin(&t, key_1, true, &replaced), 0);
    assert_false(replaced);
    assert_int_equal(bp_trust_lookup(dir, PEER, out, &err), 0);
    assert_memory_equal(out, key_1, BP_KEY_LEN);
    t = trust_of(state, dir);
    assert_true(found(&t, key_1, out));
    assert_memory_equal(out, key_1, BP_KEY_LEN);
    assert_int_equal(pin(&t, key_1, false, &replaced), 0);
}

/* Between the judgement and the cookie somebody else decided. */
static void changed_meanwhile(void **state)
{
    char dir[PATH_MAX];
    struct bp_peer_trust t = trust_of(state, dir);
    struct bp_errbuf err;
    uint8_t out[BP_KEY_LEN];
    bool replaced;

    assert_false(found(&t, key_1, out));
    assert_int_equal(bp_trust_store(dir, PEER, key_2, &err), 0);
    assert_int_equal(pin(&t, key_1, true, &replaced), BP_E_MISMATCH);
    t = trust_of(state, dir);
    assert_true(found(&t, key_2, out));
    assert_int_equal(bp_trust_delete(dir, PEER, &err), 0);
    assert_int_equal(pin(&t, key_2, false, &replaced), BP_E_MISMATCH);
}

static void rotation(void **state)
{
    char dir[PATH_MAX];
    struct bp_peer_trust t = trust_of(state, dir);
    struct bp_errbuf err;
    uint8_t out[BP_KEY_LEN];
    bool replaced;

    assert_int_equal(bp_trust_store(dir, PEER, key_1, &err), 0);
    assert_true(found(&t, key_2, out));
    assert_memory_equal(out, key_1, BP_KEY_LEN);
    assert_int_equal(pin(&t, key_2, true, &replaced), 0);
    assert_true(replaced);
    assert_int_equal(bp_trust_lookup(dir, PEER, out, &err), 0);
    assert_memory_equal(out, key_2, BP_KEY_LEN);
}

static void without_a_key(void **state)
{
    char dir[PATH_MAX];
    struct bp_peer_trust t = trust_of(state, dir);
    struct bp_link_event ev = {.name = PEER, .pin = true};
    struct bp_errbuf err;
    uint8_t out[BP_KEY_LEN];
    char note[8];
    bool replaced;

    bp_peer_trust_proved(&t, &ev);
    assert_int_equal(bp_peer_trust_pin(&t, PEER, &replaced, note, sizeof(note), &err), 0);
    assert_int_equal(bp_trust_lookup(dir, PEER, out, &err), BP_E_NOT_FOUND);
}

/* A file that cannot be used is not "no pin". */
static void garbage(void **state)
{
    char dir[PATH_MAX];
    char path[PATH_MAX];
    struct bp_peer_trust t = trust_of(state, dir);
    struct bp_link_event ev = event(key_1, false);
    struct bp_errbuf err;
    uint8_t out[BP_KEY_LEN];
    bool is;

    assert_int_equal(bp_trust_store(dir, PEER, key_1, &err), 0);
    tmpdir_put(tmpdir_path(state, "keys/trusted/" PEER ".pub", path), "short", 5);
    assert_int_equal(bp_peer_trust_lookup(&t, &ev, &is, out, &err), BP_E_FILE);
    assert_false(is);
    assert_non_null(strstr(err.text, PEER));
    assert_int_equal(bp_peer_trust_name(&t, PEER, &err), BP_E_FILE);
}

/* A name that a dynamic peer takes. */
static void dynamic_name(void **state)
{
    char dir[PATH_MAX];
    struct bp_peer_trust t = trust_of(state, dir);
    struct bp_link_event ev = event(key_1, false);
    struct bp_errbuf err;

    bp_peer_trust_proved(&t, &ev);
    assert_int_equal(bp_peer_trust_name(&t, PEER, &err), 0);
    assert_int_equal(bp_trust_store(dir, PEER, key_1, &err), 0);
    assert_int_equal(bp_peer_trust_name(&t, PEER, &err), 0);
    assert_int_equal(bp_trust_store(dir, PEER, key_2, &err), 0);
    assert_int_equal(bp_peer_trust_name(&t, PEER, &err), BP_E_AUTH_KEY_MISMATCH);
    assert_true(t.was_pinned);
    assert_memory_equal(t.expected, key_2, BP_KEY_LEN);
}

static void words(void **state)
{
    char dir[PATH_MAX];
    struct bp_peer_trust t = trust_of(state, dir);
    struct bp_trust_sides sides = {.peer = PEER, .self = "a@host", .self_key = key_2};
    char text[1024];
    char tiny[16];

    bp_peer_trust_claimed(&t, key_1);
    bp_peer_trust_explain(&t, BP_E_AUTH_UNTRUSTED, "no", &sides, text, sizeof(text));
    assert_non_null(strstr(text, "no; it presented the key SHA256:"));
    assert_non_null(strstr(text, "none is pinned"));
    assert_non_null(strstr(text, "`barrel-p2p trust add " PEER " --key 01000000"));
    assert_null(strstr(text, "--force"));
    t.was_pinned = true;
    bp_peer_trust_explain(&t, BP_E_AUTH_KEY_MISMATCH, "no", &sides, text, sizeof(text));
    assert_non_null(strstr(text, ", pinned is SHA256:"));
    assert_non_null(strstr(text, "--force"));
    sides.refusal = BP_E_AUTH_UNTRUSTED;
    bp_peer_trust_explain(&t, BP_E_AUTH_REJECTED, "no", &sides, text, sizeof(text));
    assert_non_null(strstr(text, "run on its side `barrel-p2p trust add a@host --key 02000000"));
    sides.refusal = BP_E_HS_NAME_MISMATCH;
    bp_peer_trust_explain(&t, BP_E_PEER_CLOSED, "no", &sides, text, sizeof(text));
    assert_non_null(strstr(text, "; it refused our key SHA256:"));
    assert_non_null(strstr(text, "; we authenticated as a@host: start this node anew"));
    bp_peer_trust_explain(&t, BP_E_HS_NAME_MISMATCH, "no", &sides, text, sizeof(text));
    assert_non_null(strstr(text, "no; it presented the key SHA256:"));
    assert_non_null(strstr(text, "; it authenticated as " PEER ": start that node anew"));
    bp_peer_trust_explain(&t, BP_E_TIMEOUT, "late", &sides, text, sizeof(text));
    assert_string_equal(text, "late");
    bp_peer_trust_explain(&t, BP_E_AUTH_KEY_MISMATCH, "no", &sides, tiny, sizeof(tiny));
    assert_int_equal(strlen(tiny), sizeof(tiny) - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(first_use),     TMPDIR_TEST(changed_meanwhile), TMPDIR_TEST(rotation),
        TMPDIR_TEST(without_a_key), TMPDIR_TEST(garbage),           TMPDIR_TEST(dynamic_name),
        TMPDIR_TEST(words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
