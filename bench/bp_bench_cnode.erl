%% SPDX-License-Identifier: Apache-2.0
%% C nodes (bench/c_node.c) beside Erlang nodes of the same run: round trips, bulk to a C node, many
%% connections of one C process, and how long `barrel-p2p ping` takes. Part of `make bench`.
-module(bp_bench_cnode).

-export([main/0, echo/0]).

-define(USAGE,
        "BENCH_MAIN=bp_bench_cnode bench/run [options]: C nodes of this carrier\n"
        "  --rounds N        interleaved rounds (default 5)\n"
        "  --trips N         round trips of a round (default 5000)\n"
        "  --connections N   of one C process (default 1000; 0: none)\n"
        "  --json FILE       all samples (default build/bench/cnode.json)\n"
        "  --strict          exit with 2 when a target is not met\n").

-define(WARMUP, 1000).
-define(BULK_MS, 3000).
-define(PINGS, 20).
-define(UP_MS, 120000).

-spec main() -> no_return().
main() ->
    Defaults = #{rounds => 5, trips => 5000, connections => 1000, strict => false,
                 json => bp_bench:output("cnode.json")},
    bp_bench:command("bench of C nodes", ?USAGE, Defaults, options(), fun run/1).

%% The process `echo` of an Erlang node, as the C node's: {Pid, Payload} goes back to Pid.
-spec echo() -> no_return().
echo() ->
    receive {Pid, _} = Message -> Pid ! Message end,
    echo().

%% --- local -----------------------------------------------------------------

options() ->
    Number = fun(Min) ->
                     fun(Text) ->
                             case string:to_integer(Text) of
                                 {N, ""} when N >= Min -> {ok, N};
                                 _ -> {error, "not a number"}
                             end
                     end
             end,
    [{"--rounds", rounds, Number(1)}, {"--trips", trips, Number(1)},
     {"--connections", connections, Number(0)}, {"--json", json, fun(F) -> {ok, F} end},
     {"--strict", strict, flag}].

run(#{rounds := Rounds, json := Json, strict := Strict} = Options) ->
    ok = bp_bench_carrier:setup(),
    [A, B] = Nodes = bp_bench_carrier:start(quic, [a, b]),
    try
        _ = bp_bench_carrier:call(B, ?MODULE, module_info, []),
        _ = bp_bench_carrier:call(B, erlang, apply, [fun() -> register(echo, spawn(?MODULE, echo, [])) end, []]),
        Echo = open("echo", [c_name(echo), bp_bench_carrier:cookie()]),
        Sink = open("sink", [c_name(sink), bp_bench_carrier:cookie()]),
        Samples = [round(A, B, Options) || _ <- lists:seq(1, Rounds)],
        close(Echo),
        close(Sink),
        Hold = hold(Options),
        Table = table(Samples),
        _ = [say("~-38ts ~ts", [Title, figure(Values, Unit)]) || {_, Title, Unit, Values} <- Table],
        report_hold(Hold),
        Verdicts = verdicts(Samples),
        _ = [say("target ~-7s ~ts: ~.2f, wanted ~ts",
                 [case Met of true -> "met"; false -> "NOT met" end, What, Reached, Wanted])
             || {What, Reached, Wanted, Met} <- Verdicts],
        ok = filelib:ensure_dir(Json),
        ok = file:write_file(Json, bp_bench_report:encode(
            #{machine => bp_bench:machine(), samples => Samples,
              connections => [#{connections => N, resident_kb => Kb} || {N, Kb} <- Hold]})),
        case Strict andalso lists:keymember(false, 4, Verdicts) of true -> 2; false -> 0 end
    after
        bp_bench_carrier:stop_all(Nodes)
    end.

round(A, B, #{trips := Trips}) ->
    NameB = bp_bench_carrier:name(B),
    {OtpP50, OtpP99} = bp_bench_carrier:call(A, bp_bench_node, round_trips,
                           [NameB, #{bytes => 64, count => Trips, warmup => ?WARMUP}]),
    {CcP50, CcP99} = ask(c_name(ask), c_name(echo), Trips),
    {CoP50, CoP99} = ask(c_name(ask), atom_to_list(NameB), Trips),
    {OcP50, OcP99} = bp_bench_carrier:call(A, erlang, apply, [fun() -> otp_asks(Trips) end, []]),
    Bulk = bp_bench_carrier:call(A, erlang, apply, [fun bulk/0, []]),
    #{otp_otp_p50 => OtpP50, otp_otp_p99 => OtpP99, c_c_p50 => CcP50, c_c_p99 => CcP99,
      c_otp_p50 => CoP50, c_otp_p99 => CoP99, otp_c_p50 => OcP50, otp_c_p99 => OcP99,
      bulk => Bulk, ping_ms => ping(atom_to_list(NameB))}.

c_name(Role) -> lists:concat(["bench_", Role, "@localhost"]).

ask(Name, Peer, Trips) ->
    Port = open("ask", [Name, bp_bench_carrier:cookie(), Peer, "64", integer_to_list(Trips),
                        integer_to_list(?WARMUP)], none),
    "trips " ++ Figures = line(Port),
    [P50, P99] = [list_to_float(F) || F <- string:lexemes(Figures, " ")],
    exited = line(Port),
    {P50, P99}.

%% In an Erlang node: the same message to the C node's echo.
otp_asks(Trips) ->
    To = {echo, list_to_atom(c_name(echo))},
    Message = {self(), <<0:512>>},
    Trip = fun() ->
               T0 = erlang:monotonic_time(nanosecond),
               To ! Message,
               receive Message -> erlang:monotonic_time(nanosecond) - T0
               after 30000 -> error(no_answer)
               end
           end,
    _ = [Trip() || _ <- lists:seq(1, ?WARMUP)],
    Sorted = lists:sort([Trip() || _ <- lists:seq(1, Trips)]),
    {lists:nth(Trips div 2 + 1, Sorted) / 1000, lists:nth(Trips - Trips div 100, Sorted) / 1000}.

%% In an Erlang node: 1 MB binaries to the C node's sink, which tells how many came; MB/s.
bulk() ->
    To = {sink, list_to_atom(c_name(sink))},
    Bin = rand:bytes(1000000),
    0 = finish(To),
    T0 = erlang:monotonic_time(millisecond),
    N = fill(To, Bin, T0 + ?BULK_MS, 0),
    N = finish(To),
    N * 1000 / (erlang:monotonic_time(millisecond) - T0).

fill(To, Bin, End, N) ->
    To ! Bin,
    case erlang:monotonic_time(millisecond) < End of
        true -> fill(To, Bin, End, N + 1);
        false -> N + 1
    end.

finish(To) ->
    To ! {self(), finish},
    receive N when is_integer(N) -> N after 30000 -> error(no_answer) end.

%% Milliseconds of the fastest of some runs of the command, process start included.
ping(Peer) ->
    Exe = filename:join([os:getenv("BENCH_ROOT"), "bin", "barrel-p2p"]),
    lists:min([begin
                   T0 = erlang:monotonic_time(microsecond),
                   Port = erlang:open_port({spawn_executable, Exe},
                            [{args, ["ping", Peer, "--cookie", bp_bench_carrier:cookie(),
                                     "--dir", "cli"]},
                             {cd, os:getenv("BENCH_DIR")}, exit_status, stderr_to_stdout, {line, 200}]),
                   exited = drain(Port),
                   (erlang:monotonic_time(microsecond) - T0) / 1000
               end || _ <- lists:seq(1, ?PINGS)]).

drain(Port) ->
    case line(Port) of
        exited -> exited;
        _ -> drain(Port)
    end.

%% [{Connections, KB}] of one C process that is dialled by as many nodes in another one.
hold(#{connections := 0}) ->
    [];
hold(#{connections := N}) ->
    Hold = {Port, _} = open("hold", [c_name(hold), bp_bench_carrier:cookie()]),
    {_, UdpPort} = Hold,
    Swarm = open("swarm", [integer_to_list(N), bp_bench_carrier:cookie(), c_name(hold),
                           integer_to_list(UdpPort)], none),
    Up = "up " ++ integer_to_list(N),
    Up = line(Swarm),
    Points = points(Port, N, []),
    close(Hold),
    close({Swarm, 0}),
    Points.

points(Port, N, Points) ->
    "holds " ++ Figures = line(Port),
    [Count, Kb] = [list_to_integer(F) || F <- string:lexemes(Figures, " ")],
    All = [{Count, Kb} | Points],
    case Count >= N - N rem 100 of
        true -> lists:reverse(All);
        false -> points(Port, N, All)
    end.

report_hold([]) -> ok;
report_hold(Points) ->
    {N, Kb} = lists:last(Points),
    say("~b connections of one C process: ~.1f KB each (resident ~.1f MB)",
        [N, bp_bench_idle:slope(Points), Kb / 1024]).

%% {Figure, Title, Unit, Values}
table(Samples) ->
    [{Key, Title, Unit, [maps:get(Key, S) || S <- Samples]}
     || {Key, Title, Unit} <-
            [{otp_otp_p50, "round trip 64 B, OTP to OTP, p50", "us"},
             {c_c_p50, "round trip 64 B, C to C, p50", "us"},
             {c_otp_p50, "round trip 64 B, C to OTP, p50", "us"},
             {otp_c_p50, "round trip 64 B, OTP to C, p50", "us"},
             {otp_otp_p99, "round trip 64 B, OTP to OTP, p99", "us"},
             {c_c_p99, "round trip 64 B, C to C, p99", "us"},
             {c_otp_p99, "round trip 64 B, C to OTP, p99", "us"},
             {bulk, "1 MB binaries, OTP to a C node", "MB/s"},
             {ping_ms, "barrel-p2p ping, best of 20", "ms"}]].

figure(Values, Unit) ->
    {Median, Min, Max} = bp_bench_report:summary(Values),
    io_lib:format("~8.1f ~ts [~.1f..~.1f]", [Median, Unit, Min, Max]).

verdicts(Samples) ->
    Median = fun(Values) -> element(1, bp_bench_report:summary(Values)) end,
    Ratio = fun(Key) -> Median([maps:get(Key, S) / maps:get(otp_otp_p50, S) || S <- Samples]) end,
    [{What, Reached, Wanted, Met(Reached)}
     || {What, Reached, Wanted, Met} <-
            [{"C to C / OTP to OTP, p50", Ratio(c_c_p50), "at most 1", fun(V) -> V =< 1 end},
             {"C to OTP / OTP to OTP, p50", Ratio(c_otp_p50), "at most 1", fun(V) -> V =< 1 end},
             {"MB/s from OTP to a C node", Median([maps:get(bulk, S) || S <- Samples]), "at least 500",
              fun(V) -> V >= 500 end},
             {"ms of barrel-p2p ping", Median([maps:get(ping_ms, S) || S <- Samples]), "at most 50",
              fun(V) -> V =< 50 end}]].

%% --- programs --------------------------------------------------------------

%% A C node that listens: {Port, its UDP port}.
open(Mode, Args) ->
    Port = open(Mode, Args, none),
    "port " ++ UdpPort = line(Port),
    {Port, list_to_integer(UdpPort)}.

open(Mode, Args, none) ->
    Exe = filename:join([os:getenv("BENCH_ROOT"), "build", "release", "bench", "c_node"]),
    erlang:open_port({spawn_executable, Exe},
                     [{args, [Mode | Args]}, {cd, os:getenv("BENCH_DIR")}, exit_status,
                      stderr_to_stdout, {line, 1000}]).

close({Port, _}) ->
    {os_pid, Pid} = erlang:port_info(Port, os_pid),
    _ = os:cmd("kill " ++ integer_to_list(Pid)),
    exited = drain(Port).

line(Port) ->
    receive
        {Port, {data, {_, "error " ++ Why}}} -> error({c_node, Why});
        {Port, {data, {_, Line}}} -> Line;
        {Port, {exit_status, S}} when S =:= 0; S =:= 143 -> exited;
        {Port, {exit_status, S}} -> error({exit_status, S})
    after ?UP_MS ->
        error(no_line)
    end.

say(Format, Args) ->
    io:format(Format ++ "~n", Args).
