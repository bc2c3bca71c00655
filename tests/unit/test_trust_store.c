/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of io/trust_store: pinned keys as files. */
#include "io/trust_store.h"

#include "base/err.h"
#include "tmpdir.h"

#include <pthread.h>

static void says(const struct bp_errbuf *err, const char *part)
{
    if (strstr(err->text, part) == NULL) {
        fail_msg("no \"%s\" in \"%s\"", part, err->text);
    }
}

static const uint8_t *key_of(uint8_t tag)
{
    static uint8_t key[256][BP_KEY_LEN];

    memset(key[tag], tag, BP_KEY_LEN);
    return key[tag];
}

static void trust_stored_key_found_by_name_and_key(void **state)
{
    char d[PATH_MAX];
    char p[PATH_MAX];
    char node[BP_NODE_NAME_MAX + 1];
    uint8_t key[64];
    struct bp_errbuf err;

    tmpdir_path(state, "", d);
    assert_int_equal(bp_trust_lookup(d, "a@h", key, &err), BP_E_NOT_FOUND);
    assert_int_equal(bp_trust_find_by_key(d, key_of(1), node, &err), BP_E_NOT_FOUND);
    assert_int_equal(bp_trust_store(d, "a@h", key_of(1), &err), 0);
    assert_int_equal(bp_trust_store(d, "b@h.example", key_of(2), &err), 0);
    assert_int_equal(tmpdir_mode(tmpdir_path(state, "trusted", p)), 0700);
    assert_int_equal(tmpdir_mode(tmpdir_path(state, "trusted/a@h.pub", p)), 0600);
    assert_int_equal(tmpdir_get(p, key, sizeof(key)), 32);
    assert_memory_equal(key, key_of(1), 32);

    assert_int_equal(bp_trust_lookup(d, "b@h.example", key, &err), 0);
    assert_memory_equal(key, key_of(2), 32);
    assert_string_equal(err.text, "");
    assert_int_equal(bp_trust_find_by_key(d, key_of(2), node, &err), 0);
    assert_string_equal(node, "b@h.example");
    assert_int_equal(bp_trust_find_by_key(d, key_of(1), NULL, &err), 0);
    assert_int_equal(bp_trust_find_by_key(d, key_of(3), node, &err), BP_E_NOT_FOUND);
}

static void trust_path_is_where_the_pin_is(void **state)
{
    char d[PATH_MAX];
    char p[PATH_MAX];
    char path[PATH_MAX];
    struct bp_errbuf err;

    tmpdir_path(state, "", d);
    assert_int_equal(bp_trust_path(d, "a@h", path, sizeof(path), &err), 0);
    assert_string_equal(path, tmpdir_path(state, "trusted/a@h.pub", p));
    assert_int_equal(bp_trust_path("keys", "a@h", path, sizeof(path), &err), 0);
    assert_string_equal(path, "keys/trusted/a@h.pub");
    assert_int_equal(bp_trust_path("keys", "a@h", path, strlen("keys/trusted/a@h.pub"), &err),
                     BP_E_INVALID);
    says(&err, "too long");
    assert_int_equal(bp_trust_path("keys", "../a@h", path, sizeof(path), &err), BP_E_INVALID);
}

static void trust_store_replaces_store_if_new_does_not(void **state)
{
    char d[PATH_MAX];
    char p[PATH_MAX];
    uint8_t key[BP_KEY_LEN];
    struct bp_errbuf err;

    tmpdir_path(state, "", d);
    tmpdir_path(state, "trusted/a@h.pub", p);
    assert_int_equal(bp_trust_store_if_new(d, "a@h", key_of(1), &err), 0);
    assert_int_equal(tmpdir_mode(p), 0600);
    assert_int_equal(bp_trust_store_if_new(d, "a@h", key_of(1), &err), 0);
    assert_string_equal(err.text, "");
    assert_int_equal(bp_trust_store_if_new(d, "a@h", key_of(2), &err), BP_E_MISMATCH);
    says(&err, p);
    assert_int_equal(bp_trust_lookup(d, "a@h", key, NULL), 0);
    assert_memory_equal(key, key_of(1), 32);
    assert_int_equal(bp_trust_store(d, "a@h", key_of(2), &err), 0);
    assert_int_equal(bp_trust_lookup(d, "a@h", key, NULL), 0);
    assert_memory_equal(key, key_of(2), 32);
    assert_int_equal(tmpdir_count(tmpdir_path(state, "trusted", p)), 1);
}

static void trust_change_by_hand_counts_at_once(void **state)
{
    char d[PATH_MAX];
    char p[PATH_MAX];
    uint8_t key[BP_KEY_LEN];

    tmpdir_path(state, "", d);
    assert_int_equal(bp_trust_store(d, "a@h", key_of(1), NULL), 0);
    tmpdir_put(tmpdir_path(state, "trusted/a@h.pub", p), key_of(7), 32);
    assert_int_equal(bp_trust_lookup(d, "a@h", key, NULL), 0);
    assert_memory_equal(key, key_of(7), 32);
    assert_int_equal(unlink(p), 0);
    assert_int_equal(bp_trust_lookup(d, "a@h", key, NULL), BP_E_NOT_FOUND);
}

static void trust_garbage_file_named_with_cure(void **state)
{
    char d[PATH_MAX];
    char p[PATH_MAX];
    uint8_t key[BP_KEY_LEN];
    struct bp_errbuf err;

    tmpdir_path(state, "", d);
    assert_int_equal(bp_trust_store(d, "a@h", key_of(1), NULL), 0);
    tmpdir_put(tmpdir_path(state, "trusted/a@h.pub", p), key_of(1), 31);
    assert_int_equal(bp_trust_lookup(d, "a@h", key, &err), BP_E_FILE);
    assert_memory_equal(key, key_of(0), 32);
    says(&err, p);
    says(&err, "31 bytes, not 32");
    says(&err, "delete the file");
    assert_int_equal(bp_trust_store_if_new(d, "a@h", key_of(1), &err), BP_E_FILE);
    assert_int_equal(bp_trust_find_by_key(d, key_of(1), NULL, &err), BP_E_NOT_FOUND);
    assert_int_equal(bp_trust_store(d, "a@h", key_of(1), &err), 0);
    assert_int_equal(bp_trust_lookup(d, "a@h", key, &err), 0);
}

static void trust_replace_only_the_key_that_was_seen(void **state)
{
    char d[PATH_MAX];
    char p[PATH_MAX];
    uint8_t key[BP_KEY_LEN];
    struct bp_errbuf err;

    tmpdir_path(state, "", d);
    assert_int_equal(bp_trust_replace(d, "a@h", key_of(1), key_of(2), &err), BP_E_MISMATCH);
    assert_int_equal(bp_trust_lookup(d, "a@h", key, &err), BP_E_NOT_FOUND);
    assert_int_equal(bp_trust_store(d, "a@h", key_of(1), &err), 0);
    assert_int_equal(bp_trust_replace(d, "a@h", key_of(1), key_of(2), &err), 0);
    assert_int_equal(tmpdir_mode(tmpdir_path(state, "trusted/a@h.pub", p)), 0600);
    assert_int_equal(bp_trust_replace(d, "a@h", key_of(1), key_of(2), &err), 0); /* again */
    assert_int_equal(bp_trust_replace(d, "a@h", key_of(1), key_of(3), &err), BP_E_MISMATCH);
    says(&err, p);
    assert_int_equal(bp_trust_lookup(d, "a@h", key, &err), 0);
    assert_memory_equal(key, key_of(2), sizeof(key));
    assert_int_equal(bp_trust_replace(d, "../a@h", key_of(1), key_of(3), &err), BP_E_INVALID);
}

static void trust_bad_name_never_becomes_a_path(void **state)
{
    static const char *const bad[] = {"", "a", "../a@h", "a/b@h", "@h", ".a@h", "a@h@x"};
    char d[PATH_MAX];
    char p[PATH_MAX];
    char longest[BP_NODE_NAME_MAX + 1];
    uint8_t key[BP_KEY_LEN];
    struct bp_errbuf err;

    tmpdir_path(state, "", d);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(bp_trust_lookup(d, bad[i], key, &err), BP_E_INVALID);
        says(&err, "node name is not valid");
        assert_int_equal(bp_trust_store(d, bad[i], key_of(1), &err), BP_E_INVALID);
        assert_int_equal(bp_trust_store_if_new(d, bad[i], key_of(1), &err), BP_E_INVALID);
        assert_int_equal(bp_trust_delete(d, bad[i], &err), BP_E_INVALID);
    }
    assert_int_equal(access(tmpdir_path(state, "trusted", p), F_OK), -1);

    memset(longest, 'a', sizeof(longest));
    longest[10] = '@';
    longest[252] = '\0';
    assert_int_equal(bp_trust_store(d, longest, key_of(1), &err), BP_E_INVALID);
    says(&err, "too long");
    assert_int_equal(bp_trust_lookup(d, longest, key, &err), BP_E_INVALID);
    longest[251] = '\0';
    assert_int_equal(bp_trust_store_if_new(d, longest, key_of(1), &err), 0);
    assert_int_equal(bp_trust_store(d, longest, key_of(1), &err), 0);
    assert_int_equal(bp_trust_lookup(d, longest, key, &err), 0);
    assert_int_equal(bp_trust_find_by_key(d, key_of(1), longest, &err), 0);
    assert_int_equal(strlen(longest), 251);
}

static void trust_others_may_write_warned(void **state)
{
    static const mode_t loose[] = {0720, 0702, 0777, 01777};
    char d[PATH_MAX];
    char p[PATH_MAX];
    struct bp_errbuf err;

    tmpdir_path(state, "keys", d);
    bp_errbuf_reset(&err);
    bp_trust_warn_loose(d, &err); /* nothing is there */
    assert_false(err.warning);
    assert_int_equal(bp_trust_store(d, "a@h", key_of(1), NULL), 0);
    assert_int_equal(chmod(d, 0755), 0); /* keys that are trusted are no secret */
    bp_trust_warn_loose(d, &err);
    assert_false(err.warning);
    for (size_t i = 0; i < 2 * sizeof(loose) / sizeof(loose[0]); i++) {
        tmpdir_path(state, i % 2 == 0 ? "keys" : "keys/trusted", p);
        assert_int_equal(chmod(p, loose[i / 2]), 0);
        bp_errbuf_reset(&err);
        bp_trust_warn_loose(d, &err);
        assert_true(err.warning);
        says(&err, p);
        says(&err, "chmod go-w");
        assert_int_equal(chmod(p, 0700), 0);
    }
    bp_trust_warn_loose(d, NULL);
}

static void trust_delete_forgets(void **state)
{
    char d[PATH_MAX];
    uint8_t key[BP_KEY_LEN];
    struct bp_errbuf err;

    tmpdir_path(state, "", d);
    assert_int_equal(bp_trust_delete(d, "a@h", &err), BP_E_NOT_FOUND);
    says(&err, "a@h.pub");
    assert_int_equal(bp_trust_store(d, "a@h", key_of(1), &err), 0);
    assert_int_equal(bp_trust_delete(d, "a@h", &err), 0);
    assert_int_equal(bp_trust_lookup(d, "a@h", key, &err), BP_E_NOT_FOUND);
    assert_int_equal(bp_trust_store_if_new(d, "a@h", key_of(2), &err), 0);
}

struct seen {
    int good;
    int bad;
    int stop_after;
    uint8_t tags[8];
};

static bool on_entry(void *ctx, const struct bp_trust_entry *e)
{
    struct seen *s = ctx;

    assert_true(e->changed_at > 1500000000);
    if (e->key != NULL) {
        char want[16];
        snprintf(want, sizeof(want), "n%d@h", e->key[0]);
        assert_string_equal(e->node, want);
        s->tags[e->key[0]]++;
        s->good++;
    } else {
        assert_string_equal(e->node, "bad@h");
        assert_non_null(strstr(e->problem, "bad@h.pub"));
        s->bad++;
    }
    return s->good + s->bad != s->stop_after;
}

static void trust_list_shows_pins_and_broken_pins_only(void **state)
{
    char d[PATH_MAX];
    char p[PATH_MAX];
    struct seen s = {0};
    struct bp_errbuf err;

    tmpdir_path(state, "", d);
    assert_int_equal(bp_trust_list(d, on_entry, &s, &err), 0);
    assert_int_equal(s.good + s.bad, 0);
    for (uint8_t i = 1; i <= 3; i++) {
        char name[16];
        snprintf(name, sizeof(name), "n%d@h", i);
        assert_int_equal(bp_trust_store(d, name, key_of(i), &err), 0);
    }
    tmpdir_put(tmpdir_path(state, "trusted/bad@h.pub", p), "x", 1);
    tmpdir_put(tmpdir_path(state, "trusted/.tmp-0123456789abcdef", p), key_of(4), 32);
    tmpdir_put(tmpdir_path(state, "trusted/noname.pub", p), key_of(4), 32);
    tmpdir_put(tmpdir_path(state, "trusted/n4@h.old", p), key_of(4), 32);
    tmpdir_put(tmpdir_path(state, "trusted/.pub", p), key_of(4), 32);
    assert_int_equal(bp_trust_list(d, on_entry, &s, &err), 0);
    assert_int_equal(s.good, 3);
    assert_int_equal(s.bad, 1);
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(s.tags[i], 1);
    }
    s = (struct seen){.stop_after = 2};
    assert_int_equal(bp_trust_list(d, on_entry, &s, &err), 0);
    assert_int_equal(s.good + s.bad, 2);
}

static void trust_file_in_place_of_directory_reported(void **state)
{
    char d[PATH_MAX];
    char p[PATH_MAX];
    uint8_t key[BP_KEY_LEN];
    struct seen s = {0};
    struct bp_errbuf err;

    tmpdir_path(state, "", d);
    tmpdir_put(tmpdir_path(state, "trusted", p), "", 0);
    assert_int_equal(bp_trust_list(d, on_entry, &s, &err), BP_E_FILE);
    says(&err, p);
    assert_int_equal(bp_trust_find_by_key(d, key_of(1), NULL, &err), BP_E_FILE);
    assert_int_equal(bp_trust_lookup(d, "a@h", key, &err), BP_E_FILE);
    assert_int_equal(bp_trust_store(d, "a@h", key_of(1), &err), BP_E_FILE);
    assert_int_equal(bp_trust_store_if_new(d, "a@h", key_of(1), &err), BP_E_FILE);
    assert_int_equal(bp_trust_delete(d, "a@h", &err), BP_E_FILE);
}

struct pinner {
    const char *dir;
    const char *node;
    const uint8_t *key;
    int rc;
};

static void *pin(void *arg)
{
    struct pinner *p = arg;

    p->rc = bp_trust_store_if_new(p->dir, p->node, p->key, NULL);
    return NULL;
}

static void trust_racing_pins_one_wins(void **state)
{
    char d[PATH_MAX];
    pthread_t th[4];
    struct pinner p[4];

    tmpdir_path(state, "", d);
    for (uint8_t i = 1; i <= 4; i++) {
        (void)key_of(i);
    }
    for (int round = 0; round < 10; round++) {
        char node[16];
        uint8_t key[BP_KEY_LEN];
        snprintf(node, sizeof(node), "n%d@h", round);
        for (uint8_t i = 0; i < 4; i++) {
            p[i] = (struct pinner){d, node, key_of((uint8_t)(1 + i / 2)), 1};
        }
        for (int i = 0; i < 4; i++) {
            assert_int_equal(pthread_create(&th[i], NULL, pin, &p[i]), 0);
        }
        for (int i = 0; i < 4; i++) {
            assert_int_equal(pthread_join(th[i], NULL), 0);
        }
        assert_int_equal(bp_trust_lookup(d, node, key, NULL), 0);
        for (int i = 0; i < 4; i++) {
            int want = memcmp(p[i].key, key, 32) == 0 ? 0 : BP_E_MISMATCH;
            assert_int_equal(p[i].rc, want);
        }
    }
}

struct successor {
    const char *dir;
    pthread_barrier_t *start;
    int rc;
};

static void *follow(void *arg)
{
    struct successor *s = arg;

    (void)pthread_barrier_wait(s->start);
    s->rc = bp_trust_replace(s->dir, "a@h", key_of(1), key_of(2), NULL);
    return NULL;
}

/* An operator takes a key away, or pins another, while a peer's rotation is followed: what the
 * operator did is what stays. */
static void trust_replace_never_undoes_what_others_did(void **state)
{
    char d[PATH_MAX];
    char p[PATH_MAX];
    int followed = 0;

    tmpdir_path(state, "", d);
    for (int round = 0; round < 400; round++) {
        bool revoke = round % 2 == 0;
        pthread_barrier_t start;
        struct successor s = {d, &start, 1};
        uint8_t key[BP_KEY_LEN];
        pthread_t th;

        assert_int_equal(bp_trust_store(d, "a@h", key_of(1), NULL), 0);
        assert_int_equal(pthread_barrier_init(&start, NULL, 2), 0);
        assert_int_equal(pthread_create(&th, NULL, follow, &s), 0);
        (void)pthread_barrier_wait(&start);
        for (volatile int i = 0; i < round * 200; i++) {
        }
        assert_int_equal(revoke ? bp_trust_delete(d, "a@h", NULL)
                                : bp_trust_store(d, "a@h", key_of(3), NULL),
                         0);
        assert_int_equal(pthread_join(th, NULL), 0);
        (void)pthread_barrier_destroy(&start);
        assert_true(s.rc == 0 || s.rc == BP_E_MISMATCH);
        followed += s.rc == 0;
        assert_int_equal(bp_trust_lookup(d, "a@h", key, NULL), revoke ? BP_E_NOT_FOUND : 0);
        if (!revoke) {
            assert_memory_equal(key, key_of(3), sizeof(key));
        }
        assert_int_equal(tmpdir_count(tmpdir_path(state, "trusted", p)), revoke ? 0 : 1);
    }
    print_message("# %d of 400 were followed before\n", followed);
}

static const struct CMUnitTest tests[] = {
    TMPDIR_TEST(trust_stored_key_found_by_name_and_key),
    TMPDIR_TEST(trust_path_is_where_the_pin_is),
    TMPDIR_TEST(trust_store_replaces_store_if_new_does_not),
    TMPDIR_TEST(trust_change_by_hand_counts_at_once),
    TMPDIR_TEST(trust_garbage_file_named_with_cure),
    TMPDIR_TEST(trust_replace_only_the_key_that_was_seen),
    TMPDIR_TEST(trust_bad_name_never_becomes_a_path),
    TMPDIR_TEST(trust_others_may_write_warned),
    TMPDIR_TEST(trust_delete_forgets),
    TMPDIR_TEST(trust_list_shows_pins_and_broken_pins_only),
    TMPDIR_TEST(trust_file_in_place_of_directory_reported),
    TMPDIR_TEST(trust_racing_pins_one_wins),
    TMPDIR_TEST(trust_replace_never_undoes_what_others_did),
};

T_MAIN(tests)
