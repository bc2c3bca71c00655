/* SPDX-License-Identifier: Apache-2.0 */
/* Erlang terms as text: what is understood, what is printed, where errors are said to be. The
 * comparison with Erlang itself is in cli_terms_SUITE. */
#include "support/t.h"

#include "base/err.h"
#include "cli/term_json.h"

#include <ei.h>

/* Parses; fails the test unless it is a term. */
static void parse(ei_x_buff *x, const char *text)
{
    struct cli_term_err err;

    assert_int_equal(ei_x_new(x), 0);
    if (cli_term_parse(text, strlen(text), CLI_TERM_ARG, x, &err) != 0) {
        fail_msg("%s: %u:%u: %s", text, err.line, err.column, err.text);
    }
}

/* `text` printed both ways. */
static void shows(const char *text, const char *plain, const char *pretty)
{
    ei_x_buff x;

    parse(&x, text);
    for (int i = 0; i < 2; i++) {
        char *out = NULL;
        size_t len = 0;
        int at = 0;
        assert_int_equal(
            cli_term_string(&x, &at, i == 0 ? CLI_TERM_PLAIN : CLI_TERM_PRETTY, &out, &len), 0);
        assert_int_equal(at, x.index);
        assert_string_equal(out, i == 0 ? plain : pretty);
        assert_int_equal(len, strlen(out));
        free(out);
    }
    ei_x_free(&x);
}

/* The text is refused there, with a sentence that holds `part`. */
static void refuses(const char *text, int want, unsigned line, unsigned column, const char *part)
{
    struct cli_term_err err;
    ei_x_buff x;
    int rc;

    assert_int_equal(ei_x_new_with_version(&x), 0);
    rc = cli_term_parse(text, strlen(text), CLI_TERM_ARG, &x, &err);
    if (rc != want || err.line != line || err.column != column || strstr(err.text, part) == NULL) {
        fail_msg("%.60s: %d, %u:%u: %s", text, rc, err.line, err.column, err.text);
    }
    assert_int_equal(x.index, 1);
    ei_x_free(&x);
}

static void term_simple_ones(void **state)
{
    (void)state;
    shows("abc", "abc", "abc");
    shows(" 'a b' . ", "'a b'", "'a b'");
    shows("'if'", "'if'", "'if'");
    shows("'\\x{3bb}\\n'", "'\xce\xbb\\n'", "'\xce\xbb\\n'");
    shows("\xc3\xa5"
          "b",
          "\xc3\xa5"
          "b",
          "\xc3\xa5"
          "b");
    shows("1_000", "1000", "1000");
    shows("-16#Ff", "-255", "-255");
    shows("36#z", "35", "35");
    shows("$a", "97", "97");
    shows("-$\\n", "-10", "-10");
    shows("$ ", "32", "32");
    shows("2147483647", "2147483647", "2147483647");
    shows("-2147483648", "-2147483648", "-2147483648");
    shows("4294967296", "4294967296", "4294967296");
    shows("-9223372036854775808", "-9223372036854775808", "-9223372036854775808");
    shows("1234567890123456789012345678901234567890", "1234567890123456789012345678901234567890",
          "1234567890123456789012345678901234567890");
    shows("fun erlang:'+'/2", "fun erlang:'+'/2", "fun erlang:'+'/2");
    shows("% first\n((a)) % last", "a", "a");
}

static void term_floats(void **state)
{
    (void)state;
    shows("0.0", "0.0", "0.0");
    shows("-0.0", "-0.0", "-0.0");
    shows("1.0e5", "1.0e5", "1.0e5");
    shows("100.0", "100.0", "100.0");
    shows("123456.789", "123456.789", "123456.789");
    shows("0.001", "0.001", "0.001");
    shows("0.00001", "1.0e-5", "1.0e-5");
    shows("5.684341886080802e-14", "5.684341886080802e-14", "5.684341886080802e-14");
    shows("1.7976931348623157e308", "1.7976931348623157e308", "1.7976931348623157e308");
    shows("5.0e-324", "5.0e-324", "5.0e-324");
    shows("1.5E+3", "1.5e3", "1.5e3");
}

static void term_strings_and_lists(void **state)
{
    (void)state;
    shows("\"abc\"", "[97,98,99]", "\"abc\"");
    shows("\"a\" \"b\" % and\n\"c\"", "[97,98,99]", "\"abc\"");
    shows("\"\\x{3bb}\\s\\t\\\"\\\\\"", "[955,32,9,34,92]", "\"\xce\xbb \\t\\\"\\\\\"");
    shows("\"\"", "[]", "[]");
    shows("[1,2,300]", "[1,2,300]", "[1,2,300]");
    shows("[a|b]", "[a|b]", "[a|b]");
    shows("[1|[2|[3]]]", "[1,2,3]", "[1,2,3]");
    shows("[$a|\"bc\"]", "[97,98,99]", "\"abc\"");
    shows("[a|[b|c]]", "[a,b|c]", "[a,b|c]");
    shows("[a,\"x\"|\"yz\"]", "[a,[120],121,122]", "[a,\"x\",121,122]");
    shows("[[],{},[[]]]", "[[],{},[[]]]", "[[],{},[[]]]");
    shows("[7]", "[7]", "[7]");
    shows("\"\\b\\d\\e\\f\\v\"", "[8,127,27,12,11]", "[8,127,27,12,11]");
}

static void term_binaries(void **state)
{
    (void)state;
    shows("<<>>", "<<>>", "<<>>");
    shows("<<1,2,\"abc\">>", "<<1,2,97,98,99>>", "<<1,2,97,98,99>>");
    shows("<<\"abc\">>", "<<97,98,99>>", "<<\"abc\">>");
    shows("<<\"\xce\xbb\"/utf8>>", "<<206,187>>", "<<\"\xce\xbb\"/utf8>>");
    shows("<<5:3>>", "<<5:3>>", "<<5:3>>");
    shows("<<1,5:3>>", "<<1,5:3>>", "<<1,5:3>>");
    shows("<<16#123:12/little>>", "<<35,1:4>>", "<<35,1:4>>");
    shows("<<-1:16,256>>", "<<255,255,0>>", "<<255,255,0>>");
    shows("<<1:2/unit:8-little-signed-integer>>", "<<1,0>>", "<<1,0>>");
    shows("<<1.0:32/float,1/float>>", "<<63,128,0,0,63,240,0,0,0,0,0,0>>",
          "<<63,128,0,0,63,240,0,0,0,0,0,0>>");
    shows("<<1.0:16/float,65504.0:16/float>>", "<<60,0,123,255>>", "<<60,0,123,255>>");
    shows("<<16#1f600/utf16,16#1f600/utf32-little>>", "<<216,61,222,0,0,246,1,0>>",
          "<<216,61,222,0,0,246,1,0>>");
    shows("<<(<<1:4>>)/bits,<<7,8>>:1/binary>>", "<<16,7:4>>", "<<16,7:4>>");
    shows("<<\"ab\":16/little>>", "<<97,0,98,0>>", "<<97,0,98,0>>");
}

static void term_tuples_and_maps(void **state)
{
    char text[2048] = "{0";
    (void)state;
    shows("{a,{b},{}}", "{a,{b},{}}", "{a,{b},{}}");
    shows("#{}", "#{}", "#{}");
    shows("#{a => 1, \"k\" => [x]}", "#{a => 1,[107] => [x]}", "#{a => 1,\"k\" => [x]}");
    shows("#{1=>a,2=>b,1=>c}", "#{2 => b,1 => c}", "#{2 => b,1 => c}");
    /* equal keys are found whatever order their parts are written in */
    shows("#{#{b=>1,a=>\"z\"}=>x,#{a=>[122],b=>1}=>y}", "#{#{a => [122],b => 1} => y}",
          "#{#{a => \"z\",b => 1} => y}");
    for (int i = 1; i < 300; i++) {
        snprintf(text + strlen(text), sizeof(text) - strlen(text), ",%d", i);
    }
    strcat(text, "}");
    shows(text, text, text);
}

static void term_errors_say_where_and_why(void **state)
{
    (void)state;
    refuses("", BP_E_INVALID, 1, 1, "the text ends where a term is wanted");
    refuses("{a,\n  b c}", BP_E_INVALID, 2, 5, "`c` where ',' or '}' is wanted");
    refuses("[1,2", BP_E_INVALID, 1, 5, "the text ends where ',' or ']' is wanted");
    refuses("{a,}", BP_E_INVALID, 1, 4, "`}` where a term is wanted");
    refuses("a b", BP_E_INVALID, 1, 3, "the end of the text is wanted");
    refuses("a. b", BP_E_INVALID, 1, 4, "the end of the text");
    refuses("{a, Var}", BP_E_INVALID, 1, 5, "Var is a variable");
    refuses("[if]", BP_E_INVALID, 1, 2, "'if'");
    refuses("#r{a=1}", BP_E_INVALID, 1, 2, "the tuple {r, ...}");
    refuses("#{a:=1}", BP_E_INVALID, 1, 4, "'=>'");
    refuses("'abc", BP_E_INVALID, 1, 1, "the closing ' of this atom is missing");
    refuses("[\"abc]", BP_E_INVALID, 1, 2, "the closing \" of this string is missing");
    refuses("\"\\x{110000}\"", BP_E_INVALID, 1, 2, "no such character");
    refuses("\"\\xf\"", BP_E_INVALID, 1, 2, "\\xHH");
    refuses("37#1", BP_E_INVALID, 1, 1, "2 to 36");
    refuses("2#3", BP_E_INVALID, 1, 1, "base 2");
    refuses("1.0e400", BP_E_INVALID, 1, 1, "too large for a float");
    refuses("1.0e", BP_E_INVALID, 1, 1, "exponent");
    refuses("-a", BP_E_INVALID, 1, 2, "a number");
    refuses("\xce\xbb", BP_E_INVALID, 1, 1, "quotes");
    refuses("'\xce\xbb' \xff", BP_E_INVALID, 1, 5, "not UTF-8");
    refuses("<<1:N>>", BP_E_INVALID, 1, 5, "N is a variable");
    refuses("<<300/utf9>>", BP_E_INVALID, 1, 7, "a type of the bit syntax");
    refuses("<<16#d800/utf8>>", BP_E_INVALID, 1, 3, "no such character");
    refuses("<<1.5>>", BP_E_INVALID, 1, 3, "/float");
    refuses("<<1/binary>>", BP_E_INVALID, 1, 3, "only a binary");
    refuses("<<1/little-big>>", BP_E_INVALID, 1, 12, "too much");
    refuses("<<1/unit:0>>", BP_E_INVALID, 1, 10, "1 to 256");
    refuses("fun f/1", BP_E_INVALID, 1, 6, "':'");
    refuses("fun m:f/256", BP_E_INVALID, 1, 9, "0 to 255");
    refuses("\xef\xbb\xbf[]", BP_E_INVALID, 1, 1, "byte order mark");
    refuses("a = b", BP_E_INVALID, 1, 3, "= does not belong here");
}

static void term_limits(void **state)
{
    size_t n = 4u * CLI_TERM_BIG_MAX + 2;
    char *text = malloc(n + 1);
    ei_x_buff x;
    int at = 0;
    char *out;
    (void)state;

    assert_non_null(text);
    memset(text, '[', CLI_TERM_PARSE_DEPTH);
    memset(text + CLI_TERM_PARSE_DEPTH, ']', CLI_TERM_PARSE_DEPTH);
    text[2 * CLI_TERM_PARSE_DEPTH] = '\0';
    parse(&x, text);
    ei_x_free(&x);
    memset(text, '[', CLI_TERM_PARSE_DEPTH + 1);
    refuses(text, BP_E_LIMIT, 1, CLI_TERM_PARSE_DEPTH + 1, "inside of each other");

    memset(text, '9', n);
    text[n] = '\0';
    refuses(text, BP_E_LIMIT, 1, 1, "too long");
    free(text);

    refuses("<<0:1000000000>>", BP_E_LIMIT, 1, 5, "too large");
    refuses("<<0:8000000/unit:256,0:8000000/unit:256>>", BP_E_LIMIT, 1, 40, "too large");

    /* printed deeper than anybody nests */
    assert_int_equal(ei_x_new(&x), 0);
    for (int i = 0; i < CLI_TERM_PRINT_DEPTH + 1; i++) {
        assert_int_equal(ei_x_encode_tuple_header(&x, 1), 0);
    }
    assert_int_equal(ei_x_encode_long(&x, 1), 0);
    assert_int_equal(cli_term_string(&x, &at, CLI_TERM_PLAIN, &out, NULL), BP_E_LIMIT);
    assert_null(out);
    ei_x_free(&x);
}

static void term_of_a_file_ends_with_a_full_stop(void **state)
{
    static const char two[] = "{a, 1}.\n{b, 2}.\n";
    static const char one[] = "%% coding: utf-8\n[{a, 1}]. % end\n";
    struct cli_term_err err;
    ei_x_buff x;
    (void)state;

    assert_int_equal(ei_x_new(&x), 0);
    assert_int_equal(cli_term_parse(one, strlen(one), CLI_TERM_FILE, &x, &err), 0);
    x.index = 0;
    assert_int_equal(cli_term_parse("[a]", 3, CLI_TERM_FILE, &x, &err), BP_E_INVALID);
    assert_non_null(strstr(err.text, "a full stop is wanted"));
    assert_int_equal(cli_term_parse(two, strlen(two), CLI_TERM_FILE, &x, &err), BP_E_INVALID);
    assert_int_equal(err.line, 2);
    assert_int_equal(x.index, 0);
    ei_x_free(&x);
}

static void term_identifiers_show_their_node(void **state)
{
    erlang_pid pid = {.node = "a@h", .num = 90, .serial = 1, .creation = 7};
    erlang_ref ref = {.node = "a@h", .len = 3, .n = {1, 2, 3}, .creation = 7};
    erlang_port port = {.node = "a@h", .id = 5, .creation = 7};
    ei_x_buff x;
    char *out;
    int at = 0;
    (void)state;

    assert_int_equal(ei_x_new(&x), 0);
    ei_x_encode_tuple_header(&x, 3);
    ei_x_encode_pid(&x, &pid);
    ei_x_encode_ref(&x, &ref);
    ei_x_encode_port(&x, &port);
    assert_int_equal(cli_term_string(&x, &at, CLI_TERM_PRETTY, &out, NULL), 0);
    assert_string_equal(out, "{#Pid<a@h.90.1>,#Ref<a@h.3.2.1>,#Port<a@h.5>}");
    free(out);
    ei_x_free(&x);
}

/* A terminal gets no control characters of a peer's, nor bytes that are no UTF-8. */
static void term_identifiers_are_escaped(void **state)
{
    static const char port[] = "x" "w\001\377" "\0\0\0\0\0\0\0\5" "\0\0\0\7";
    erlang_pid pid = {.node = "a\033[2J@h", .num = 90, .serial = 1, .creation = 7};
    ei_x_buff x;
    char *out;
    int at = 0;
    (void)state;

    assert_int_equal(ei_x_new(&x), 0);
    ei_x_encode_pid(&x, &pid);
    assert_int_equal(cli_term_string(&x, &at, CLI_TERM_PLAIN, &out, NULL), 0);
    assert_string_equal(out, "#Pid<a\\e[2J@h.90.1>");
    free(out);
    ei_x_free(&x);

    at = 0;
    assert_int_equal(ei_x_new(&x), 0);
    ei_x_append_buf(&x, port, sizeof(port) - 1);
    assert_int_equal(cli_term_string(&x, &at, CLI_TERM_PLAIN, &out, NULL), BP_E_INVALID);
    ei_x_free(&x);
}

/* Whatever is cut off or changed in a term of a peer is an error, not a crash. */
static void term_from_a_peer_is_checked(void **state)
{
    static const char text[] = "{a,\"str\",[1,300|x],#{k=>1.5},<<1,2,3:4>>,123456789012345678901,"
                               "<<\"bin\">>,fun m:f/1,-5,'\\x{3bb}'}";
    uint64_t seed = t_seed(7);
    ei_x_buff whole;
    ei_x_buff x;
    char *out;
    (void)state;

    parse(&whole, text);
    for (int len = 0; len < whole.index; len++) {
        int at = 0;
        assert_int_equal(ei_x_new(&x), 0);
        ei_x_append_buf(&x, whole.buff, len);
        assert_int_equal(cli_term_string(&x, &at, CLI_TERM_PRETTY, &out, NULL), BP_E_INVALID);
        assert_int_equal(at, 0);
        ei_x_free(&x);
    }
    for (int i = 0; i < 20000; i++) {
        int at = 0;
        int rc;
        assert_int_equal(ei_x_new(&x), 0);
        ei_x_append_buf(&x, whole.buff, whole.index);
        for (int n = 0; n < 3; n++) {
            x.buff[t_rand(&seed) % (uint64_t)x.index] = (char)t_rand(&seed);
        }
        rc = cli_term_string(&x, &at, CLI_TERM_PRETTY, &out, NULL);
        assert_true(rc == 0 || rc == BP_E_INVALID || rc == BP_E_LIMIT);
        assert_true(at <= x.index);
        free(out);
        ei_x_free(&x);
    }
    ei_x_free(&whole);
}

static void json_is(const char *text, const char *want)
{
    ei_x_buff x;
    json_t *o;
    char *shown;
    int at = 0;

    parse(&x, text);
    assert_int_equal(cli_term_json(&x, &at, &o), 0);
    assert_int_equal(at, x.index);
    shown = json_dumps(o, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS);
    assert_non_null(shown);
    assert_string_equal(shown, want);
    free(shown);
    json_decref(o);
    ei_x_free(&x);
}

static void term_as_json(void **state)
{
    char deep[2 * CLI_TERM_JSON_DEPTH + 8];
    ei_x_buff x;
    json_t *o;
    int at = 0;

    (void)state;
    json_is("#{a => 1, <<\"b\">> => [true, undefined, x], \"c\" => 1.5}",
            "{\"a\":1,\"b\":[true,null,\"x\"],\"c\":1.5}");
    json_is("[\"text\", <<\"bin\">>, <<255>>, [1, 2], []]",
            "[\"text\",\"bin\",\"<<\\\"\xc3\xbf\\\">>\",[1,2],[]]");
    json_is("{a, 1}", "\"{a,1}\"");
    json_is("[a | b]", "\"[a|b]\"");
    json_is("4294967296", "4294967296");
    json_is("123456789012345678901234567890", "\"123456789012345678901234567890\"");
    json_is("#{{1, 2} => 3, 4 => 5}", "{\"4\":5,\"{1,2}\":3}");

    memset(deep, '[', CLI_TERM_JSON_DEPTH + 1);
    deep[CLI_TERM_JSON_DEPTH + 1] = 'a';
    memset(deep + CLI_TERM_JSON_DEPTH + 2, ']', CLI_TERM_JSON_DEPTH + 1);
    deep[2 * CLI_TERM_JSON_DEPTH + 3] = '\0';
    parse(&x, deep);
    assert_int_equal(cli_term_json(&x, &at, &o), BP_E_LIMIT);
    assert_null(o);
    ei_x_free(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(term_simple_ones),
        cmocka_unit_test(term_floats),
        cmocka_unit_test(term_strings_and_lists),
        cmocka_unit_test(term_binaries),
        cmocka_unit_test(term_tuples_and_maps),
        cmocka_unit_test(term_errors_say_where_and_why),
        cmocka_unit_test(term_limits),
        cmocka_unit_test(term_of_a_file_ends_with_a_full_stop),
        cmocka_unit_test(term_identifiers_show_their_node),
        cmocka_unit_test(term_identifiers_are_escaped),
        cmocka_unit_test(term_from_a_peer_is_checked),
        cmocka_unit_test(term_as_json),
    };
    return ei_init() != 0 || cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
