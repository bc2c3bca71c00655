%% SPDX-License-Identifier: Apache-2.0
%% Terms as text in the command against erl_scan, erl_parse and io_lib of this node, both ways.
-module(cli_terms_SUITE).

-include_lib("common_test/include/ct.hrl").
-include("bp_test.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([texts_are_read_as_erlang_does/1, random_terms_are_printed_as_erlang_does/1,
         random_terms_come_back/1, each_character_in_quotes/1, floats/1, identifiers/1]).

suite() -> [{timetrap, {seconds, 90}}].

all() ->
    [texts_are_read_as_erlang_does, random_terms_are_printed_as_erlang_does,
     random_terms_come_back, each_character_in_quotes, floats, identifiers].

init_per_suite(Config) -> bp_cluster:only(quic, Config).

end_per_suite(_) -> ok.

init_per_testcase(Case, Config) ->
    Program = filename:join([bp_cluster:root(), "build/asan/tests/cli/term_port"]),
    filelib:is_regular(Program) orelse
        ct:fail("~ts is missing: make BUILD=asan cli-bins", [Program]),
    Port = open_port({spawn_executable, Program}, [{packet, 4}, binary, exit_status]),
    [{port, Port} | bp_cluster:init_case(?MODULE, Case, Config)].

end_per_testcase(_, Config) ->
    true = port_close(?config(port, Config)),
    bp_cluster:end_case(Config).

ask(Config, Op, Data) ->
    Port = ?config(port, Config),
    true = port_command(Port, [Op, Data]),
    receive
        {Port, {data, <<"o", Answer/binary>>}} -> {ok, Answer};
        {Port, {data, <<"e", Why/binary>>}} -> {error, Why};
        {Port, {exit_status, Status}} -> error({ended, Status, Op, Data})
    after ?LONG ->
        error({no_answer, Op, Data})
    end.

%% The term that the command reads in Text (characters), or error.
read(Config, Text) ->
    case ask(Config, "p", unicode:characters_to_binary(Text)) of
        {ok, Answer} -> {ok, binary_to_term(Answer)};
        {error, _} -> error
    end.

%% The same by Erlang.
erlang_reads(Text) ->
    try
        End = case lists:suffix(".", Text) of true -> "\n"; false -> "\n." end,
        {ok, Tokens, _} = erl_scan:string(Text ++ End),
        {ok, Term} = erl_parse:parse_term(Tokens),
        {ok, Term}
    catch
        error:_ -> error
    end.

print(Config, Op, Term) ->
    {ok, Text} = ask(Config, Op, term_to_binary(Term)),
    unicode:characters_to_list(Text).

texts_are_read_as_erlang_does(Config) ->
    {Same, Different} =
        lists:partition(fun(T) -> erlang_reads(T) =:= read(Config, T) end, texts()),
    true = length(Same) > 150,
    ?EQ([], [{T, erlang_reads(T), ask(Config, "p", unicode:characters_to_binary(T))}
             || T <- Different]).

texts() ->
    ["", "a", "A", "_", "a@b", "'a b'", "''", "\"\"", "[]", "{}", "#{}", "<<>>", "(a)", "((1))", "()",
     "{a,}", "{,a}", "[a,]", "[,]", "[|a]", "[a|]", "[a|b|c]", "[a|b,c]", "{a b}", "a b", "a,b",
     "[1|[2,3]]", "[1|\"ab\"]", "[a|\"ab\"]", "[256|\"ab\"]", "[$a|[$b|[]]]", "[a|[b|[c|d]]]", "[1 2]",
     "1", "-1", "+1", "- 1", "--1", "- - 1", "-a", "-$a", "+$a", "-1.5", "1.", "1.5", "1.e3", "1.5e3",
     "1.5E-3", "1.5e", "1.5e+", ".5", "1e5", "1_000", "1__0", "1_", "_1", "16#ff", "16#FF_ff",
     "16#_f", "16#", "37#1", "1#0", "0#1", "2#12", "36#Zz", "1_6#ff", "1_0.0_1", "1.0e1_0", "007",
     "1.0e400", "1.0e-400", "123456789012345678901234567890", "-36#zzzzzzzzzzzzzzzzzzzz",
     "9223372036854775807", "-9223372036854775808", "18446744073709551616", "134217728",
     "-134217729", "2147483648", "-2147483649", "$a", "$ ", "$\\n", "$\\x41", "$\\x{41}",
     "$\\x4", "$\\x{}", "$\\x{110000}", "$\\x{d800}", "$\\101", "$\\1012", "$\\^a", 
     "$\\s", "$\\q", "$\"", "$'", "$\x{3bb}", "\"a\nb\"", "\"a\\\nb\"", "\"a", "'a", "'a\\", "\"\\",
     "\"a\" \"b\"", "\"a\" 'b'", "\"a\" % c\n\"b\"", "% only", "a % b", "% a\na", "a. b", "a.b", "a..",
     "\"\x{3bb}\"", "'\x{3bb}'", "\x{3bb}", "\x{e5}b", "\x{d7}", "\x{f7}", "a\x{f7}", "\x{c5}b",
     "\x{a0}a", "a\x{85}", "if", "[not, a]", "maybe", "else", "cond", "let", "'if'", "not true",
     "1+2", "a:b", "fun a:b/1", "fun a:b/256", "fun 'a b':'C'/0", "fun a/1", "fun (a):b/1",
     "fun a:b/-1", "fun A:b/1", "fun() -> a end", "#{a=>1}", "#{a=>1,b=>2}", "#{a=>1,a=>2}",
     "#{a:=1}", "#{a=>1,}", "#{,}", "#{a}", "#r{}", "#{1=>a,1.0=>b}", "#{\"a\"=>1,[97]=>2}",
     "#{#{b=>1,a=>2}=>x,#{a=>2,b=>1}=>y}", "#{[a|[b]]=>1,[a,b]=>2}", "#{<<1>>=>1,<<\"\\1\">>=>2}",
     "#{a=>#{b=>#{c=>[d]}}}", "{#{}=>1}", "a=>b", "a=b", "a|b", "a||b", "@a", "?a", "!", ";", "&",
     "{}.", "{}%", "[.]", "}", "]", ")", ">>", "<<", "<<1", "<<1>", "<1>",
     "<<1,2,3>>", "<<1,>>", "<<,>>", "<<-1>>", "<<- 1>>", "<<+1>>", "<<256>>", "<<-129>>", "<<a>>",
     "<<(1)>>", "<<((1)):8>>", "<<(-1):8>>", "<<1:16>>", "<<1:0>>", "<<1:(16)>>", "<<1:(8+8)>>",
     "<<1:-1>>", "<<1:a>>", "<<1:N>>", "<<1:$\\b>>", "<<1:3>>", "<<1:3,1:5>>", "<<1:3,255,7:6>>",
     "<<16#123:12>>", "<<16#123:12/little>>", "<<16#12345:17/little,1:7>>", "<<-5:19/little-signed>>",
     "<<1:2/unit:8>>", "<<1/unit:8>>", "<<1:2/unit:8-little-signed-integer>>", "<<1:1/unit:257>>",
     "<<1:1/unit:256>>", "<<1:1/unit:0>>", "<<1/little-big>>", "<<1/integer-integer>>", "<<1/native>>",
     "<<258:16/native>>", "<<1/foo>>", "<<1/>>", "<<1//integer>>", "<<1.5>>", "<<1.5/float>>",
     "<<1.5:32/float>>", "<<1.5:16/float>>", "<<1.0e-7:16/float>>", "<<6.0e-5:16/float-little>>",
     "<<0.333:16/float>>", "<<65519.0:16/float>>", 
     "<<1:64/float>>", "<<1/float>>", "<<-1.0/float>>", "<<1:8/float>>", "<<1.5:64/float-little>>",
     "<<1.5:4/float-unit:8>>", "<<1.5/integer>>", "<<\"abc\">>", "<<\"a\" \"b\">>", "<<\"abc\":16>>",
     "<<\"abc\":16/little>>", "<<\"ab\"/float>>", "<<\"ab\":32/float>>", "<<\"abc\"/little>>",
     "<<\"abc\"/binary>>", "<<\"\x{e5}\">>", "<<\"\x{3bb}\">>", "<<\"\x{3bb}\"/utf8>>", "<<\"\x{1f600}\"/utf16>>",
     "<<\"\x{1f600}a\"/utf16-little>>", "<<\"\x{1f600}\"/utf32-little>>", "<<\"\x{1f600}\"/utf8,1>>",
     "<<\"abc\":8/utf8>>", "<<(\"abc\")>>", "<<(\"abc\")/utf8>>", "<<$a,$b/utf16>>", "<<16#d800/utf8>>",
     "<<16#110000/utf8>>", "<<-1/utf8>>", "<<1/utf8:8>>", "<<1/utf8-unit:8>>", "<<<<1>>/binary>>",
     "<< <<1>>/binary>>", "<< <<1>> >>", "<<(<<1>>)>>", "<<(<<1:4>>)/bits>>", "<<(<<1:4>>)/binary>>",
     "<<<<1,2>>:1/binary>>", "<<<<1,2>>:3/binary>>", "<<<<1,2>>:9/bits>>", "<<<<1,2>>/bytes,1:1>>",
     "<<<<1,2,3>>:1/binary-unit:16>>", "<<<<1,2,3>>/binary-unit:16>>", "<<<<1,2>>/bits-unit:16>>", "<<<<1,2>>:1/bits-unit:16>>", "<<1/little-little>>",
     "<<1/binary>>", "<<[1]>>", "<<{}>>", "<<1>>/a", "<<\"a\":4>>", "<<\"abc\":12/little>>"].

%% With `+pc unicode`, as the command prints everywhere.
random_terms_are_printed_as_erlang_does(Config) ->
    Node = bp_cluster:start(Config, #{names => none, args => ["+pc", "unicode"]}),
    Seed = seed(),
    Terms = [term(4) || _ <- lists:seq(1, 3000)],
    Texts = bp_cluster:run(Node, fun() ->
                [{lists:flatten(io_lib:format("~tw", [T])),
                  lists:flatten(io_lib:format("~0tp", [T]))} || T <- Terms]
            end),
    [begin
         ?EQ({Seed, T, Plain}, {Seed, T, print(Config, "w", T)}),
         ?EQ({Seed, T, Pretty}, {Seed, T, print(Config, "t", T)})
     end || {T, {Plain, Pretty}} <- lists:zip(Terms, Texts)],
    ok.

%% What the command prints, Erlang and the command read as the same term.
random_terms_come_back(Config) ->
    Seed = seed(),
    [begin
         Term = term(5),
         [begin
              Text = print(Config, Op, Term),
              ?EQ({Seed, Text, {ok, Term}}, {Seed, Text, read(Config, Text)}),
              ?EQ({Seed, Text, {ok, Term}}, {Seed, Text, erlang_reads(Text)})
          end || Op <- ["w", "t"]],
         %% and with all the line breaks of a file
         File = lists:flatten(io_lib:format("~tp.~n", [Term])),
         ?EQ({Seed, File, {ok, Term}}, {Seed, File, read(Config, File)})
     end || _ <- lists:seq(1, 2000)],
    ok.

each_character_in_quotes(Config) ->
    Chars = lists:seq(0, 300) ++ [955, 8203, 16#d7ff, 16#e000, 16#feff, 16#fffe, 16#ffff, 16#10000,
                                  16#10ffff],
    [begin
         Atom = list_to_atom([C]),
         ?EQ(lists:flatten(io_lib:format("~tw", [Atom])), print(Config, "w", Atom)),
         [?EQ({T, erlang_reads(T)}, {T, read(Config, T)})
          || T <- [[$", C, $"], [$', C, $'], [$", $\\, C, $"], [$$, C], [$$, $\\, C],
                   [$$, $\\, $^, C rem 16#fffe], [C], [$a, C], [C, $a], [$a, $\s, C]],
             %% quotes in quotes, and what ends a text early, have cases of their own
             T =/= "$\\", T =/= "$\\^", not lists:member(C, "\"'%.$")]
     end || C <- Chars],
    %% more than fits into a string of the external format
    Many = lists:duplicate(70000, $x),
    ?EQ({ok, Many}, read(Config, print(Config, "t", Many))),
    %% all of an atom's length, in bytes as well
    [begin
         Long = list_to_atom(lists:duplicate(255, C)),
         ?EQ({ok, Long}, read(Config, print(Config, "w", Long)))
     end || C <- [$a, 0, 229, 955, 16#1f600]],
    ?EQ(error, read(Config, "'" ++ lists:duplicate(256, $a) ++ "'")),
    %% as a node before OTP 26 may still send one
    ?EQ({ok, <<16#c3, 16#a5, 0, 16#c3, 16#a4, "b">>},
        strip(ask(Config, "w", <<131, 100, 4:16, 229, 0, 228, $b>>))).

%% Without the quotes and with the NUL as it is.
strip({ok, Text}) ->
    {ok, iolist_to_binary(string:replace(string:trim(Text, both, "'"), "\\000", [0]))}.

floats(Config) ->
    Seed = seed(),
    Powers = [math:pow(2, E) || E <- lists:seq(-1070, 1023)],
    Random = [F || _ <- lists:seq(1, 10000),
                   <<F/float>> <- [<<(rand:uniform(1 bsl 64) - 1):64>>]],
    Short = [rand:uniform(1 bsl 20) / math:pow(10, rand:uniform(12)) || _ <- lists:seq(1, 3000)],
    [?EQ({Seed, float_to_list(F, [short])}, {Seed, print(Config, "w", F)})
     || F <- Powers ++ Random ++ Short],
    [?EQ({Seed, F, {ok, F}}, {Seed, F, read(Config, print(Config, "w", F))})
     || F <- Powers ++ Random],
    ok.

identifiers(Config) ->
    Pid = print(Config, "w", self()),
    {match, _} = re:run(Pid, "^#Pid<nonode@nohost\\.[0-9]+\\.[0-9]+>$"),
    [_, Num, Serial] = string:lexemes(pid_to_list(self()), "<.>"),
    ?EQ("#Pid<nonode@nohost." ++ Num ++ "." ++ Serial ++ ">", Pid),
    "#Ref<0" ++ Ref = ref_to_list(make_ref()),
    "#Ref<nonode@nohost" ++ Shown = print(Config, "w", list_to_ref("#Ref<0" ++ Ref)),
    ?EQ(Ref, Shown),
    "#Port<0" ++ Port = erlang:port_to_list(?config(port, Config)),
    ?EQ("#Port<nonode@nohost" ++ Port, print(Config, "w", ?config(port, Config))),
    Fun = fun(X) -> {X, Config} end,
    ?EQ(erlang:fun_to_list(Fun), print(Config, "w", Fun)),
    ?EQ("fun lists:'+'/2", print(Config, "w", fun lists:'+'/2)),
    ?EQ(error, read(Config, Pid)).

%% ---- random terms ----

seed() ->
    Seed = case os:getenv("SEED") of
        false -> erlang:unique_integer([positive]) + erlang:system_time();
        Given -> list_to_integer(Given)
    end,
    ct:pal("SEED=~w", [Seed]),
    _ = rand:seed(exsss, Seed),
    Seed.

pick(Choices) -> lists:nth(rand:uniform(length(Choices)), Choices).

several(Max, Make) -> [Make() || _ <- lists:seq(1, rand:uniform(Max + 1) - 1)].

term(0) -> leaf();
term(Depth) ->
    Sub = fun() -> term(Depth - 1) end,
    case rand:uniform(8) of
        1 -> list_to_tuple(several(5, Sub));
        2 -> several(5, Sub);
        3 -> several(3, Sub) ++ Sub();
        4 -> several(6, fun small/0);
        %% up to two entries of the same kind are in the same order everywhere
        5 -> maps:from_list(several(2, fun() -> {small(), Sub()} end));
        6 -> #{Sub() => Sub()};
        _ -> leaf()
    end.

small() -> rand:uniform(256) - 1.

leaf() ->
    case rand:uniform(10) of
        1 -> small();
        2 -> rand:uniform(1 bsl 40) - (1 bsl 39);
        3 -> pick([1, -1]) * rand:uniform(1 bsl (8 * rand:uniform(300)));
        4 -> rand:uniform() * math:pow(10, rand:uniform(40) - 20);
        5 -> list_to_atom(several(8, fun char/0));
        6 -> several(8, fun char/0);
        7 -> unicode:characters_to_binary(several(8, fun char/0));
        8 -> list_to_binary(several(8, fun small/0));
        9 -> <<(rand:uniform(1 bsl 20)):(rand:uniform(30))>>;
        10 -> pick([a, b, 'if', [], {}, <<>>, #{}, "abc", <<"abc">>, fun lists:map/2,
                    list_to_tuple(lists:seq(1, 300))])
    end.

char() ->
    case rand:uniform(6) of
        1 -> small();
        2 -> pick([955, 8364, 16#1f600, 16#feff]);
        _ -> 96 + rand:uniform(26)
    end.
