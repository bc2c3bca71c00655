%% SPDX-License-Identifier: Apache-2.0
%% From samples to tables: median and spread of each figure, ratios between carriers of the same
%% round, targets; as text, Markdown and JSON.
-module(bp_bench_report).

-export([figures/0, targets/0, summary/1, ratio/4, verdicts/1, verdicts/2, text/1, markdown/1,
         json/1, encode/1]).

-export_type([result/0]).

-type figure() :: atom().
-type carrier() :: bp_bench_carrier:carrier().
%% One measured figure set, tagged by its round: what failed is absent.
-type samples() :: #{carrier() => [{Round :: pos_integer(), #{figure() => number()}}]}.
-type result() :: #{machine := #{atom() => term()}, options := #{atom() => term()},
                    carriers := [carrier()], samples := samples(),
                    failures := [{carrier(), pos_integer(), string()}]}.
-type target() :: {figure(), carrier(), at_most | at_least, number(), carrier() | absolute}.
-type spread() :: {Median :: float(), Min :: float(), Max :: float()}.

%% The rows of the table, in order: name, title, unit.
-spec figures() -> [{figure(), string(), string()}].
figures() ->
    [{rtt_p50, "round trip 64 B, p50", "us"},
     {rtt_p99, "round trip 64 B, p99", "us"},
     {messages_1, "100 B messages, 1 pair", "msg/s"},
     {messages_16, "100 B messages, 16 pairs", "msg/s"},
     {bulk_1, "1 MB binaries, 1 sender", "MB/s"},
     {bulk_8, "1 MB binaries, 8 senders", "MB/s"},
     {datagram_size, "datagram size in use", "bytes"},
     {cpu_1, "CPU both sides, 1 sender", "s/GB"},
     {cpu_8, "CPU both sides, 8 senders", "s/GB"},
     {bulk_ping_p50, "ping during bulk, p50", "us"},
     {bulk_ping_p99, "ping during bulk, p99", "us"},
     {bulk_ping_rate, "bulk rate during ping", "MB/s"},
     {user_stream, "user stream, 1 MB writes", "MB/s"},
     {user_stream_ratio, "user stream / 1 MB binaries", "x"},
     {user_stream_ping_p50, "ping beside a user stream, p50", "us"},
     {user_stream_ping_p99, "ping beside a user stream, p99", "us"},
     {user_stream_ping_rate, "user stream rate during ping", "MB/s"},
     {third_p50, "ping third node during bulk, p50", "us"},
     {third_p99, "ping third node during bulk, p99", "us"},
     {connect_p50, "connect incl. authentication, p50", "us"},
     {connect_max, "connect incl. authentication, max", "us"},
     {auth_p50, "time to authenticate (TLS excluded), p50", "us"}].

%% What is to be reached, on the median of the rounds: a factor of another carrier's figure of the
%% same round, or an absolute value.
-spec targets() -> [target()].
targets() ->
    [{rtt_p50, quic, at_most, 1.1, tcp},
     {rtt_p99, quic, at_most, 1.5, tcp},
     {messages_1, quic, at_least, 2, tcp},
     {messages_1, quic, at_least, 1.1, tcp_delay},
     {messages_16, quic, at_least, 2.5, tcp},
     {messages_16, quic, at_least, 1.1, tcp_delay},
     {bulk_1, quic, at_least, 0.75, tcp},
     {bulk_1, quic, at_least, 15, tls},
     {bulk_8, quic, at_least, 0.75, tcp},
     {bulk_8, quic, at_least, 15, tls},
     {bulk_1, quic_1452, at_least, 0.6, tcp},
     {bulk_8, quic_1452, at_least, 0.6, tcp},
     {bulk_ping_p50, quic, at_most, 1000, absolute},
     {user_stream_ratio, quic, at_least, 0.9, absolute},
     {user_stream_ping_p50, quic, at_most, 1000, absolute},
     {third_p50, quic, at_most, 2, tcp},
     {connect_p50, quic, at_most, 1.5, tcp},
     {auth_p50, quic, at_most, 1000, absolute}].

%% Median, minimum and maximum; `none` of nothing.
-spec summary([number()]) -> spread() | none.
summary([]) ->
    none;
summary(Values) ->
    Sorted = lists:sort(Values),
    N = length(Sorted),
    Low = lists:nth((N + 1) div 2, Sorted),
    High = lists:nth(N div 2 + 1, Sorted),
    {(Low + High) / 2, hd(Sorted) * 1.0, lists:last(Sorted) * 1.0}.

%% A's figure divided by B's, round by round: what else the machine does changes between rounds.
-spec ratio(figure(), carrier(), carrier(), samples()) -> spread() | none.
ratio(Figure, A, B, Samples) ->
    Divisors = maps:from_list(values(Figure, B, Samples)),
    summary([V / D || {Round, V} <- values(Figure, A, Samples),
                      D <- [maps:get(Round, Divisors, 0)], D > 0]).

%% Each target whose figures were measured, with what was reached and whether that is enough.
-spec verdicts(result()) -> [{target(), spread(), met | not_met}].
verdicts(Result) ->
    verdicts(targets(), Result).

-spec verdicts([target()], result()) -> [{target(), spread(), met | not_met}].
verdicts(Targets, #{samples := Samples}) ->
    [{T, Reached, verdict(T, Reached)}
     || T <- Targets, Reached <- [reached(T, Samples)], Reached =/= none].

%% The table for people: one line of figures per row, then targets and failures.
-spec text(result()) -> iodata().
text(Result) ->
    {Head, Rows} = table(Result),
    Widths = [lists:max([length(Cell) || Cell <- Column]) || Column <- transpose([Head | Rows])],
    Line = fun(Cells) -> [lists:join("  ", pad(Cells, Widths)), $\n] end,
    [machine_lines(Result), $\n, Line(Head), Line([lists:duplicate(W, $-) || W <- Widths]),
     [Line(R) || R <- Rows], $\n, [[L, $\n] || L <- target_lines(Result) ++ failure_lines(Result)]].

-spec markdown(result()) -> iodata().
markdown(Result) ->
    {Head, Rows} = table(Result),
    Line = fun(Cells) -> ["| ", lists:join(" | ", Cells), " |\n"] end,
    [machine_lines(Result), $\n, Line(Head),
     ["| --- |", lists:duplicate(length(Head) - 1, " ---: |"), $\n], [Line(R) || R <- Rows], $\n,
     [["- ", L, $\n] || L <- target_lines(Result) ++ failure_lines(Result)]].

%% Everything, the samples of each round included.
-spec json(result()) -> iodata().
json(#{machine := Machine, options := Options, carriers := Carriers, samples := Samples,
       failures := Failures} = Result) ->
    Subject = subject(Carriers),
    Figures = [#{name => Id, title => list_to_binary(Title), unit => list_to_binary(Unit),
                 carriers => maps:from_list([{C, figure_json(Id, C, Samples)} || C <- Carriers]),
                 ratios => [R || C <- Carriers, C =/= Subject,
                                 R <- [ratio_json(Id, Subject, C, Samples)], R =/= none]}
               || {Id, Title, Unit} <- measured(Result)],
    Targets = [#{figure => F, carrier => C, kind => Kind, value => Value, versus => Versus,
                 reached => spread_json(Reached), met => Verdict =:= met}
               || {{F, C, Kind, Value, Versus}, Reached, Verdict} <- verdicts(Result)],
    [encode(#{machine => Machine, options => Options, figures => Figures, targets => Targets,
              failures => [#{carrier => C, round => R, reason => unicode:characters_to_binary(Why)}
                           || {C, R, Why} <- Failures]}), $\n].

%% JSON of maps, lists, atoms, numbers and binaries (OTP before 27 has no encoder).
-spec encode(term()) -> iodata().
encode(M) when is_map(M) ->
    Pairs = [[encode(K), $:, encode(V)] || {K, V} <- lists:sort(maps:to_list(M))],
    [${, lists:join($,, Pairs), $}];
encode(L) when is_list(L) ->
    [$[, lists:join($,, [encode(E) || E <- L]), $]];
encode(A) when A =:= true; A =:= false; A =:= null ->
    atom_to_binary(A);
encode(A) when is_atom(A) ->
    encode(atom_to_binary(A));
encode(I) when is_integer(I) ->
    integer_to_binary(I);
encode(F) when is_float(F) ->
    float_to_binary(F, [{decimals, 6}, compact]);
encode(B) when is_binary(B) ->
    [$", [escape(C) || C <- unicode:characters_to_list(B)], $"].

%% --- table -----------------------------------------------------------------

table(#{carriers := Carriers, samples := Samples} = Result) ->
    Subject = subject(Carriers),
    Others = [C || C <- Carriers, C =/= Subject, not bp_bench_carrier:ours(C)],
    Title = fun bp_bench_carrier:title/1,
    Head = ["median [min..max]" | [Title(C) || C <- Carriers]] ++
        [Title(Subject) ++ "/" ++ Title(C) || C <- Others],
    Rows = [[T ++ ", " ++ Unit |
             [cell(summary(numbers(Id, C, Samples)), fun number/1) || C <- Carriers]] ++
                [cell(ratio(Id, Subject, C, Samples), fun factor/1) || C <- Others]
            || {Id, T, Unit} <- measured(Result)],
    {Head, Rows}.

%% The carrier that the ratio columns are about: ours, else the last one asked for.
subject(Carriers) ->
    case lists:member(quic, Carriers) of
        true -> quic;
        false -> lists:last(Carriers)
    end.

measured(#{carriers := Carriers, samples := Samples}) ->
    [F || {Id, _, _} = F <- figures(), C <- [[1 || C <- Carriers, _ <- values(Id, C, Samples)]],
          C =/= []].

cell(none, _) -> "-";
cell({Median, Median, Median}, Format) -> Format(Median);
cell({Median, Min, Max}, Format) ->
    lists:flatten([Format(Median), " [", Format(Min), "..", Format(Max), "]"]).

number(V) when abs(V) < 10 -> float_to_list(V * 1.0, [{decimals, 2}]);
number(V) when abs(V) < 100 -> float_to_list(V * 1.0, [{decimals, 1}]);
number(V) -> integer_to_list(round(V)).

factor(V) when V < 10 -> float_to_list(V * 1.0, [{decimals, 2}]);
factor(V) -> float_to_list(V * 1.0, [{decimals, 1}]).

pad([First | Rest], [W | Widths]) ->
    [string:pad(First, W, trailing) |
     [string:pad(C, N, leading) || {C, N} <- lists:zip(Rest, Widths)]].

transpose([[] | _]) -> [];
transpose(Rows) -> [[hd(R) || R <- Rows] | transpose([tl(R) || R <- Rows])].

machine_lines(#{machine := M, options := O}) ->
    [io_lib:format("~ts; ~b cores, ~ts; Linux ~ts; OTP ~ts, erts ~ts; load at start ~ts~n",
                   [maps:get(K, M) || K <- [date, cores, cpu, kernel, otp, erts, load]]),
     io_lib:format("~b interleaved round(s) on loopback~ts~n",
                   [maps:get(rounds, O),
                    case O of #{quick := true} -> ", quick: not for quoting"; _ -> "" end])].

target_lines(Result) ->
    [target_line(V) || V <- verdicts(Result)].

target_line({{Figure, Carrier, Kind, Value, Versus}, Reached, Verdict}) ->
    {Figure, Title, Unit} = lists:keyfind(Figure, 1, figures()),
    Sign = case Kind of at_most -> "<="; at_least -> ">=" end,
    {Of, Format} = case Versus of
                       absolute -> {" " ++ Unit, fun number/1};
                       _ -> {"x " ++ bp_bench_carrier:title(Versus), fun factor/1}
                   end,
    io_lib:format("target ~-7s ~ts: ~ts, wanted ~s ~ts~ts  (~ts)",
                  [case Verdict of met -> "met"; not_met -> "NOT met" end, Title,
                   cell(Reached, Format), Sign, Format(Value), Of,
                   bp_bench_carrier:title(Carrier)]).

failure_lines(#{failures := Failures}) ->
    [io_lib:format("FAILED: ~ts, round ~b: ~ts", [bp_bench_carrier:title(C), R, Why])
     || {C, R, Why} <- Failures].

%% --- numbers ---------------------------------------------------------------

values(Figure, Carrier, Samples) ->
    [{Round, V} || {Round, #{Figure := V}} <- maps:get(Carrier, Samples, [])].

numbers(Figure, Carrier, Samples) ->
    [V || {_, V} <- values(Figure, Carrier, Samples)].

reached({Figure, Carrier, _, _, absolute}, Samples) ->
    summary(numbers(Figure, Carrier, Samples));
reached({Figure, Carrier, _, _, Versus}, Samples) ->
    ratio(Figure, Carrier, Versus, Samples).

verdict({_, _, at_most, Value, _}, {Median, _, _}) when Median =< Value -> met;
verdict({_, _, at_least, Value, _}, {Median, _, _}) when Median >= Value -> met;
verdict(_, _) -> not_met.

figure_json(Figure, Carrier, Samples) ->
    Numbers = numbers(Figure, Carrier, Samples),
    maps:merge(spread_json(summary(Numbers)),
               #{samples => [#{round => R, value => V}
                             || {R, V} <- values(Figure, Carrier, Samples)]}).

ratio_json(Figure, A, B, Samples) ->
    case ratio(Figure, A, B, Samples) of
        none -> none;
        Spread -> maps:merge(spread_json(Spread), #{carrier => A, versus => B})
    end.

spread_json(none) -> #{median => null, min => null, max => null};
spread_json({Median, Min, Max}) -> #{median => Median, min => Min, max => Max}.

escape($") -> "\\\"";
escape($\\) -> "\\\\";
escape(C) when C < 32 -> io_lib:format("\\u~4.16.0b", [C]);
escape(C) -> <<C/utf8>>.
