%% SPDX-License-Identifier: Apache-2.0
%% EUnit tests of the benchmark's arithmetic and output: a wrong median would be believed.
-module(bp_bench_report_tests).

-include_lib("eunit/include/eunit.hrl").

summary_odd_count_is_middle_test() ->
    ?assertEqual({3.0, 1.0, 9.0}, bp_bench_report:summary([9, 1, 3])).

summary_even_count_is_mean_of_middle_test() ->
    ?assertEqual({2.5, 1.0, 9.0}, bp_bench_report:summary([9, 1, 3, 2])).

summary_empty_is_none_test() ->
    ?assertEqual(none, bp_bench_report:summary([])).

ratio_pairs_figures_of_one_round_test() ->
    Samples = #{quic => [{1, #{bulk_1 => 10}}, {2, #{bulk_1 => 40}}, {3, #{bulk_1 => 7}}],
                tcp => [{1, #{bulk_1 => 20}}, {2, #{bulk_1 => 20}}]},
    ?assertEqual({1.25, 0.5, 2.0}, bp_bench_report:ratio(bulk_1, quic, tcp, Samples)).

ratio_missing_carrier_is_none_test() ->
    Samples = #{quic => [{1, #{bulk_1 => 10}}]},
    ?assertEqual(none, bp_bench_report:ratio(bulk_1, quic, tls, Samples)).

verdict_at_most_follows_median_test() ->
    Targets = [{rtt_p50, quic, at_most, 1.3, tcp}],
    ?assertMatch([{_, {1.3, _, _}, met}], verdicts(Targets, 100, [130])),
    ?assertMatch([{_, _, not_met}], verdicts(Targets, 100, [131])),
    ?assertMatch([{_, _, met}], verdicts(Targets, 100, [500, 110, 120])).

verdict_at_least_follows_median_test() ->
    Targets = [{rtt_p50, quic, at_least, 1.5, tcp}],
    ?assertMatch([{_, _, met}], verdicts(Targets, 100, [150])),
    ?assertMatch([{_, _, not_met}], verdicts(Targets, 100, [149])).

verdict_absolute_needs_no_other_carrier_test() ->
    Targets = [{rtt_p50, quic, at_most, 1000, absolute}],
    ?assertMatch([{_, {999.0, _, _}, met}], verdicts(Targets, 1, [999])),
    ?assertMatch([{_, _, not_met}], verdicts(Targets, 1, [1001])).

verdict_unmeasured_carrier_has_none_test() ->
    ?assertEqual([], bp_bench_report:verdicts((result())#{samples := #{}})).

every_target_names_a_figure_and_carriers_test() ->
    Carriers = [absolute | [C || {C, _, _} <- bp_bench_carrier:carriers()]],
    [begin
         ?assert(lists:keymember(F, 1, bp_bench_report:figures())),
         ?assert(lists:member(C, Carriers) andalso lists:member(Versus, Carriers))
     end || {F, C, _, _, Versus} <- bp_bench_report:targets()].

text_shows_spread_ratio_and_targets_test() ->
    Text = unicode:characters_to_list(bp_bench_report:text(result())),
    [?assertNotEqual({Part, nomatch}, {Part, string:find(Text, Part)})
     || Part <- ["200 [100..300]", "2.00 [1.00..3.00]", "target NOT met round trip 64 B, p50",
                 "wanted <= 1.10x TCP", "FAILED: TLS, round 2: gone"]].

markdown_rows_have_equal_columns_test() ->
    Lines = string:split(unicode:characters_to_list(bp_bench_report:markdown(result())), "\n", all),
    Counts = [length(string:split(L, "|", all)) || "|" ++ _ = L <- Lines],
    ?assertMatch([_, _, _ | _], Counts),
    ?assertEqual(1, length(lists:usort(Counts))).

%% The same carrier with another setting has a column, and targets, but no column of ratios.
variant_has_a_column_and_targets_test() ->
    #{samples := Samples} = Result0 = result(),
    Variant = [{R, #{bulk_1 => 60, datagram_size => 1452}} || R <- [1, 2, 3]],
    Tcp = [{R, F#{bulk_1 => 100}} || {R, F} <- maps:get(tcp, Samples)],
    Result = Result0#{carriers := [tcp, quic, quic_1452],
                      samples := Samples#{tcp := Tcp, quic_1452 => Variant}},
    ?assertMatch([{_, {0.6, 0.6, 0.6}, met}],
                 [V || {{bulk_1, quic_1452, _, _, _}, _, _} = V <- bp_bench_report:verdicts(Result)]),
    [Head | _] = [L || "| median" ++ _ = L <- lines(bp_bench_report:markdown(Result))],
    ?assertEqual("| median [min..max] | TCP | QUIC | QUIC 1452 | QUIC/TCP |", Head),
    [Row] = [L || "| datagram size" ++ _ = L <- lines(bp_bench_report:markdown(Result))],
    ?assertEqual("| datagram size in use, bytes | - | - | 1452 | - |", Row).

%% Only this project's carrier tells how long authentication took: an absolute target.
authentication_has_an_absolute_target_test() ->
    Verdict = fun(Us) ->
                      #{samples := S} = Result = result(),
                      Samples = S#{quic := [{1, #{auth_p50 => Us}}]},
                      [V || {{auth_p50, quic, _, _, absolute}, _, V} <-
                                bp_bench_report:verdicts(Result#{samples := Samples})]
              end,
    ?assertEqual([met], Verdict(1000)),
    ?assertEqual([not_met], Verdict(1001)).

json_holds_samples_and_verdicts_test() ->
    Json = iolist_to_binary(bp_bench_report:json(result())),
    [?assertNotEqual({Part, nomatch}, {Part, binary:match(Json, Part)})
     || Part <- [<<"{\"round\":1,\"value\":100}">>, <<"\"met\":false">>,
                 <<"\"reason\":\"gone\"">>, <<"\"median\":2.0">>]].

encode_escapes_and_nests_test() ->
    ?assertEqual(<<"{\"a\":[1,2.5,true,null],\"b\":\"q\\\"\\\\\\u000a\"}">>,
                 iolist_to_binary(bp_bench_report:encode(#{a => [1, 2.5, true, null],
                                                           b => <<"q\"\\\n">>}))).

slope_ignores_the_constant_test() ->
    ?assertEqual(3.0, bp_bench_idle:slope([{X, 1000 + 3 * X} || X <- [4, 8, 12]])).

parse_reads_values_and_refuses_unknown_test() ->
    Table = [{"--n", n, fun(T) -> {ok, list_to_integer(T)} end}, {"--f", f, flag}],
    ?assertEqual({ok, #{n => 7, f => true}}, bp_bench:parse(["--n", "7", "--f"], #{n => 1}, Table)),
    ?assertMatch({error, _}, bp_bench:parse(["--x"], #{}, Table)),
    ?assertMatch({error, _}, bp_bench:parse(["--n"], #{}, Table)).

carriers_unknown_name_is_refused_test() ->
    ?assertEqual({ok, [tls, tcp]}, bp_bench:carriers("tls,tcp")),
    ?assertMatch({error, _}, bp_bench:carriers("tcp,carrier_pigeon")).

%% --- helpers ---------------------------------------------------------------

lines(Text) ->
    string:split(unicode:characters_to_list(Text), "\n", all).

verdicts(Targets, Tcp, Quics) ->
    Rounds = lists:zip(lists:seq(1, length(Quics)), Quics),
    Samples = #{quic => [{R, #{rtt_p50 => V}} || {R, V} <- Rounds],
                tcp => [{R, #{rtt_p50 => Tcp}} || {R, _} <- Rounds]},
    bp_bench_report:verdicts(Targets, (result())#{samples := Samples}).

result() ->
    #{machine => #{date => <<"d">>, cores => 2, cpu => <<"c">>, kernel => <<"k">>, otp => <<"o">>,
                   erts => <<"e">>, load => <<"l">>},
      options => #{rounds => 3, quick => false},
      carriers => [tcp, tls, quic],
      samples => #{tcp => [{R, #{rtt_p50 => 100}} || R <- [1, 2, 3]],
                   quic => [{R, #{rtt_p50 => R * 100}} || R <- [1, 2, 3]]},
      failures => [{tls, 2, "gone"}]}.
