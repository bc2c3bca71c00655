%% SPDX-License-Identifier: Apache-2.0
%% Compares distribution carriers: interleaved rounds over pairs of nodes on loopback. Started by
%% `bench/run`; prints a table, and writes JSON and Markdown on request.
-module(bp_bench).

-export([main/0, command/5, machine/0, carriers/1, output/1]).

-define(USAGE,
        "bench/run [options]: compare this carrier with TCP and TLS distribution\n"
        "  --rounds N        interleaved rounds (default 5)\n"
        "  --quick           one short round, to see that everything works\n"
        "  --carriers A,B    of tcp, tcp_delay, tls, quic, quic_1452 (default: all)\n"
        "  --parts A,B       of round_trips, messages, bulk, ping, user_stream, connect, third "
        "(default: all)\n"
        "  --json FILE       all samples, medians, ratios and targets (default "
        "build/bench/speed.json)\n"
        "  --svg FILE        a bar chart (default build/bench/speed.svg)\n"
        "  --md FILE         the table as Markdown\n"
        "  --strict          exit with 2 when a target is not met\n").

-define(DEFAULTS, #{rounds => 5, quick => false, carriers => [tcp, tcp_delay, tls, quic, quic_1452],
                    parts => all, json => output("speed.json"), svg => output("speed.svg"), md => none,
                    strict => false}).

-spec main() -> no_return().
main() ->
    command("bench", ?USAGE, ?DEFAULTS, options(), fun run/1).

%% The whole of a program: its options are read, Run's result is the status.
-spec command(string(), string(), map(), [tuple()], fun((map()) -> 0..2)) -> no_return().
command(Name, Usage, Defaults, Table, Run) ->
    halt(try
             case parse(init:get_plain_arguments(), Defaults, Table) of
                 help -> io:put_chars(Usage), 0;
                 {error, Why} -> say("~ts~n~ts", [Why, Usage]), 64;
                 {ok, Options} -> Run(Options)
             end
         catch
             Class:Reason:Stack ->
                 say("~ts failed: ~p:~0tp~n~p~n", [Name, Class, Reason, Stack]), 1
         end).

%% The machine and the moment, for whoever reads the figures later.
-spec machine() -> #{atom() => term()}.
machine() ->
    {{Y, Mo, D}, {H, Mi, _}} = calendar:universal_time(),
    Date = io_lib:format("~4..0b-~2..0b-~2..0b ~2..0b:~2..0b UTC", [Y, Mo, D, H, Mi]),
    #{date => iolist_to_binary(Date),
      cpu => cpu_model(),
      cores => erlang:system_info(logical_processors_available),
      kernel => list_to_binary(string:trim(os:cmd("uname -r"))),
      otp => list_to_binary(erlang:system_info(otp_release)),
      erts => list_to_binary(erlang:system_info(version)),
      load => iolist_to_binary(lists:join(" ", lists:sublist(
                string:lexemes(os:cmd("cat /proc/loadavg"), " "), 3)))}.

%% `Options` with what the command line says, by a table of
%% {Flag, Key, flag | fun((Text) -> {ok, Value} | {error, Why})}.
-spec parse([string()], map(), [tuple()]) -> help | {ok, map()} | {error, string()}.
parse([], Options, _) ->
    {ok, Options};
parse([Help | _], _, _) when Help =:= "--help"; Help =:= "-h" ->
    help;
parse([Flag | Rest], Options, Table) ->
    case {lists:keyfind(Flag, 1, Table), Rest} of
        {false, _} ->
            {error, "unknown option " ++ Flag};
        {{_, Key, flag}, _} ->
            parse(Rest, Options#{Key => true}, Table);
        {{_, _, _}, []} ->
            {error, Flag ++ " needs a value"};
        {{_, Key, Value}, [Text | Rest1]} ->
            case Value(Text) of
                {ok, V} -> parse(Rest1, Options#{Key => V}, Table);
                {error, Why} -> {error, Flag ++ " " ++ Text ++ ": " ++ Why}
            end
    end.

%% --- options ---------------------------------------------------------------

options() ->
    [{"--rounds", rounds, fun positive/1},
     {"--quick", quick, flag},
     {"--carriers", carriers, fun carriers/1},
     {"--parts", parts, fun part_names/1},
     {"--json", json, fun(File) -> {ok, File} end},
     {"--svg", svg, fun(File) -> {ok, File} end},
     {"--md", md, fun(File) -> {ok, File} end},
     {"--strict", strict, flag}].

positive(Text) ->
    case string:to_integer(Text) of
        {N, ""} when N > 0 -> {ok, N};
        _ -> {error, "not a positive number"}
    end.

%% Carriers by their names, separated by commas.
-spec carriers(string()) -> {ok, [atom()]} | {error, string()}.
carriers(Text) ->
    Known = [{atom_to_list(C), C} || {C, _, _} <- bp_bench_carrier:carriers()],
    Names = string:lexemes(Text, ","),
    case [N || N <- Names, not lists:keymember(N, 1, Known)] of
        [] when Names =:= [] -> {error, "no carrier"};
        [] -> {ok, [C || N <- Names, {K, C} <- Known, K =:= N]};
        [N | _] -> {error, "no carrier " ++ N}
    end.

part_names(Text) ->
    Known = [{atom_to_list(P), P} || {P, _, _} <- parts(true)],
    Names = string:lexemes(Text, ","),
    case [N || N <- Names, not lists:keymember(N, 1, Known)] of
        [] when Names =:= [] -> {error, "no part"};
        [] -> {ok, [P || {N, P} <- Known, lists:member(N, Names)]};
        [N | _] -> {error, "no part " ++ N}
    end.

%% Durations and counts of one round.
sizes(#{quick := true}) ->
    #{trips => 1000, warmup => 200, warm_ms => 100, messages_ms => 300, bulk_ms => 400,
      ping_ms => 400, connects => 6};
sizes(_) ->
    #{trips => 10000, warmup => 1000, warm_ms => 300, messages_ms => 1500, bulk_ms => 1500,
      ping_ms => 2000, connects => 30}.

%% --- rounds ----------------------------------------------------------------

run(#{carriers := Wanted} = Options0) ->
    Options1 = case Options0 of
                   #{quick := true} -> Options0#{rounds => 1};
                   _ -> Options0
               end,
    Missing = [{C, Why} || C <- Wanted, {error, Why} <- [bp_bench_carrier:available(C)]],
    _ = [say("no ~ts column: ~ts~n", [bp_bench_carrier:title(C), Why]) || {C, Why} <- Missing],
    case [C || C <- Wanted, not lists:keymember(C, 1, Missing)] of
        [] ->
            1;
        Carriers ->
            ok = bp_bench_carrier:setup(),
            Machine = machine(),
            Options = Options1#{carriers := Carriers},
            Result = (rounds(Options))#{machine => Machine, options => json_options(Options),
                                        carriers => Carriers},
            publish(Result, Options),
            exit_code(Result, Options, Missing)
    end.

rounds(#{rounds := Rounds, carriers := Carriers} = Options) ->
    Plan = [{R, C} || R <- lists:seq(1, Rounds), C <- rotate(R - 1, Carriers)],
    lists:foldl(fun({Round, Carrier}, Acc) -> one(Round, Carrier, Options, Acc) end,
                #{samples => #{}, failures => []}, Plan).

%% No carrier always runs first.
rotate(By, List) ->
    {Front, Back} = lists:split(By rem length(List), List),
    Back ++ Front.

one(Round, Carrier, #{rounds := Rounds} = Options, #{samples := S, failures := F} = Acc) ->
    say("round ~b of ~b: ~ts ...", [Round, Rounds, bp_bench_carrier:title(Carrier)]),
    T0 = erlang:monotonic_time(millisecond),
    {Figures, Failed} = measure(Carrier, Options),
    say(" ~.1f s~n", [(erlang:monotonic_time(millisecond) - T0) / 1000]),
    _ = [say("FAILED: ~ts~n", [Why]) || Why <- Failed],
    Old = maps:get(Carrier, S, []),
    Acc#{samples := S#{Carrier => Old ++ [{Round, Figures}]},
         failures := F ++ [{Carrier, Round, Why} || Why <- Failed]}.

%% All figures of one carrier in one round, on fresh nodes. A part that fails costs its own figures
%% only: the next one gets fresh nodes.
measure(Carrier, #{parts := Wanted} = Options) ->
    All = parts(bp_bench_carrier:ours(Carrier)),
    {Roles, Names} = case bp_bench_carrier:measures(Carrier) of
                         bulk -> {[a, b], [bulk]};
                         all -> {[a, b, c], [P || {P, _, _} <- All]}
                     end,
    Parts = [{Title, Fun} || {P, Title, Fun} <- All, lists:member(P, Names),
                             Wanted =:= all orelse lists:member(P, Wanted)],
    measure(Carrier, Roles, Parts, sizes(Options), {#{}, []}).

%% {Name, Title, Fun}, in the order in which they run.
parts(Ours) ->
    [{round_trips, "round trips", fun round_trips/3},
     {messages, "messages", fun messages/3},
     {bulk, "bulk", fun(A, B, Sizes) -> bulk(Ours, A, B, Sizes) end},
     {ping, "ping during bulk", fun ping/3}]
        ++ [{user_stream, "user stream", fun user_stream/3} || Ours]
        ++ [{connect, "connect", fun(A, B, Sizes) -> connects(Ours, A, B, Sizes) end},
            {third, "third node", fun third/3}].

measure(_, _, [], _, Result) ->
    Result;
measure(Carrier, Roles, Parts, Sizes, {Figures, Failed}) ->
    case attempt("start", fun() -> start(Carrier, Roles) end) of
        {ok, Nodes} ->
            {Left, Figures1, Failed1} = parts(Parts, Nodes, Sizes, Figures, Failed),
            bp_bench_carrier:stop_all(Nodes),
            measure(Carrier, Roles, Left, Sizes, {Figures1, Failed1});
        {failed, Why} ->
            {Figures, Failed ++ [Why]}
    end.

start(Carrier, Roles) ->
    [A, B | _] = Nodes = bp_bench_carrier:start(Carrier, Roles),
    try
        _ = call(A, connect, [bp_bench_carrier:name(B)]),
        Nodes
    catch
        Class:Reason:Stack ->
            bp_bench_carrier:stop_all(Nodes),
            erlang:raise(Class, Reason, Stack)
    end.

%% Runs parts until one fails: {PartsLeft, Figures, Failures}.
parts([], _, _, Figures, Failed) ->
    {[], Figures, Failed};
parts([{Name, Part} | Rest], [A, B | More] = Nodes, Sizes, Figures, Failed) ->
    case attempt(Name, fun() -> Part(A, B, Sizes#{more => More}) end) of
        {ok, New} -> parts(Rest, Nodes, Sizes, maps:merge(Figures, New), Failed);
        {failed, Why} -> {Rest, Figures, Failed ++ [Why]}
    end.

attempt(Name, Fun) ->
    try
        {ok, Fun()}
    catch
        _:Reason -> {failed, lists:flatten(io_lib:format("~ts: ~0tp", [Name, Reason]))}
    end.

round_trips(A, B, #{trips := Count, warmup := Warmup}) ->
    {P50, P99} = call(A, round_trips, [bp_bench_carrier:name(B),
                                       #{bytes => 64, count => Count, warmup => Warmup}]),
    #{rtt_p50 => P50, rtt_p99 => P99}.

messages(A, B, #{messages_ms := Ms} = Sizes) ->
    Rate = fun(Pairs) ->
                   {N, S, _} = stream(A, B, Pairs, 100, Ms, Sizes),
                   N / S
           end,
    #{messages_1 => Rate(1), messages_16 => Rate(16)}.

bulk(Ours, A, B, #{bulk_ms := Ms} = Sizes) ->
    {N1, S1, Cpu1} = stream(A, B, 1, 1000000, Ms, Sizes),
    {N8, S8, Cpu8} = stream(A, B, 8, 1000000, Ms, Sizes),
    Figures = #{bulk_1 => N1 / S1, cpu_1 => Cpu1 * 1000 / N1,
                bulk_8 => N8 / S8, cpu_8 => Cpu8 * 1000 / N8},
    case Ours of
        true -> Figures#{datagram_size => conn_stat(A, B, <<"datagram_size">>)};
        false -> Figures
    end.

ping(A, B, #{ping_ms := Ms}) ->
    Name = bp_bench_carrier:name(B),
    {P50, P99, Rate} = call(A, ping_under_bulk, [Name, Name, #{ms => Ms}]),
    #{bulk_ping_p50 => P50, bulk_ping_p99 => P99, bulk_ping_rate => Rate}.

%% The ratio is of a bulk transfer right beside it.
user_stream(A, B, #{bulk_ms := Ms, ping_ms := PingMs} = Sizes) ->
    Name = bp_bench_carrier:name(B),
    {N, S, _} = stream(A, B, 1, 1000000, Ms, Sizes),
    {N1, S1} = call(A, user_stream, [Name, #{ms => Ms}]),
    {P50, P99, Rate} = call(A, ping_beside_user_stream, [Name, #{ms => PingMs}]),
    #{user_stream => N1 / S1, user_stream_ratio => N1 / S1 / (N / S), user_stream_ping_p50 => P50,
      user_stream_ping_p99 => P99, user_stream_ping_rate => Rate}.

third(A, B, #{ping_ms := Ms, more := [C | _]}) ->
    {P50, P99, _} = call(A, ping_under_bulk, [bp_bench_carrier:name(B), bp_bench_carrier:name(C),
                                              #{ms => Ms}]),
    #{third_p50 => P50, third_p99 => P99}.

%% Both sides must have seen the end of the old connection, or the next one competes with it.
connects(Ours, A, B, #{connects := Count}) ->
    %% Else a process of OTP's that has yet to greet the other node dials it when it has just gone.
    _ = [bp_bench_carrier:call(N, application, set_env, [kernel, dist_auto_connect, never])
         || N <- [A, B]],
    _ = reconnect(A, B),
    {Us, AuthUs} = lists:unzip([{reconnect(A, B), auth_us(Ours, A, B)}
                                || _ <- lists:seq(1, Count)]),
    _ = [bp_bench_carrier:call(N, application, unset_env, [kernel, dist_auto_connect])
         || N <- [A, B]],
    {Median, _, Max} = bp_bench_report:summary(Us),
    Figures = #{connect_p50 => Median, connect_max => Max},
    case Ours of
        true -> Figures#{auth_p50 => element(1, bp_bench_report:summary(AuthUs))};
        false -> Figures
    end.

%% From the end of the TLS handshake until the dialler has authenticated its peer.
auth_us(true, A, B) -> conn_stat(A, B, <<"auth_us">>);
auth_us(false, _, _) -> none.

conn_stat(A, B, Counter) ->
    call(A, conn_stat, [bp_bench_carrier:name(B), Counter]).

reconnect(A, B) ->
    ok = call(A, disconnect, [bp_bench_carrier:name(B)]),
    ok = call(B, await, [bp_bench_carrier:name(A), down]),
    Us = call(A, connect, [bp_bench_carrier:name(B)]),
    ok = call(B, await, [bp_bench_carrier:name(A), up]),
    Us.

%% {Messages, Seconds, CpuSecondsOfBoth} of a stream, after a short one that does not count.
stream(A, B, Senders, Bytes, Ms, #{warm_ms := WarmMs}) ->
    Spec = #{senders => Senders, bytes => Bytes, ms => Ms},
    Name = bp_bench_carrier:name(B),
    _ = call(A, stream, [Name, Spec#{ms := WarmMs}]),
    Cpu0 = cpu(A, B),
    {N, Seconds} = call(A, stream, [Name, Spec]),
    {N, Seconds, cpu(A, B) - Cpu0}.

cpu(A, B) ->
    bp_bench_carrier:cpu_seconds(A) + bp_bench_carrier:cpu_seconds(B).

call(Node, Function, Args) ->
    bp_bench_carrier:call(Node, bp_bench_node, Function, Args).

%% --- output ----------------------------------------------------------------

%% Beside the compiled modules, which are not part of the repository.
-spec output(string()) -> file:filename().
output(Name) ->
    filename:join(filename:dirname(code:which(?MODULE)), Name).

publish(Result, #{json := Json, svg := Svg, md := Md}) ->
    io:put_chars([$\n, bp_bench_report:text(Result)]),
    write(Json, bp_bench_report:json(Result)),
    write(Svg, [bp_bench_chart:svg(Result) || lists:member(tcp, maps:get(carriers, Result))]),
    write(Md, bp_bench_report:markdown(Result)).

write(none, _) ->
    ok;
write(File, Data) ->
    case file:write_file(File, Data) of
        ok -> say("wrote ~ts~n", [File]);
        {error, Why} -> error({cannot_write, File, Why})
    end.

exit_code(#{failures := [_ | _]}, _, _) ->
    1;
exit_code(Result, #{strict := true}, Missing) ->
    Verdicts = bp_bench_report:verdicts(Result),
    AllMet = lists:all(fun({_, _, V}) -> V =:= met end, Verdicts),
    case AllMet andalso Missing =:= [] of
        true -> 0;
        false -> 2
    end;
exit_code(_, _, _) ->
    0.

json_options(Options) ->
    maps:with([rounds, quick, carriers, parts], Options).

cpu_model() ->
    {ok, Fd} = file:open("/proc/cpuinfo", [read, raw, binary]),
    {ok, Text} = try file:read(Fd, 65536) after file:close(Fd) end,
    case re:run(Text, "^model name\\s*: (.*)$", [multiline, {capture, [1], binary}]) of
        {match, [Model]} -> Model;
        nomatch -> list_to_binary(erlang:system_info(system_architecture))
    end.

say(Format, Args) ->
    io:format(standard_error, Format, Args).
