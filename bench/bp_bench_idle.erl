%% SPDX-License-Identifier: Apache-2.0
%% What idle connections cost. Memory, besides socket buffers: one node is connected to more and more
%% light nodes, and the growth of its memory per connection is read from the slope. Then one node
%% with very many peers (bp_bench_peers). Started by `bench/idle_memory`.
-module(bp_bench_idle).

-export([main/0, slope/1]).

-define(USAGE,
        "bench/idle_memory [options]: what idle connections cost, without socket buffers\n"
        "  --connections N   light nodes to connect to (default 20; 0: none)\n"
        "  --carriers A,B    of tcp, tcp_delay, tls, quic (default tcp,tls,quic)\n"
        "  --peers N         C endpoints that one node is connected to (default 200; 0: none)\n"
        "  --seconds N       of idleness in which its CPU is measured (default 30)\n"
        "  --json FILE       points, slopes and CPU (default build/bench/idle.json)\n"
        "  --strict          exit with 2 when a target is not met\n").

-define(TARGET_BYTES, 65536).
-define(POINTS, 5).
-define(SETTLE_MS, 1500).

-define(HUB_ARGS, ["+S", "1:1"]).
%% Light nodes shall not fill the machine.
-define(LIGHT_ARGS, ["+S", "1:1", "+A", "1", "+SDio", "1", "+SDcpu", "1:1", "+sbwt", "none"]).

-spec main() -> no_return().
main() ->
    Defaults = #{connections => 20, carriers => [tcp, tls, quic], peers => 200, seconds => 30,
                 json => bp_bench:output("idle.json"), strict => false},
    bp_bench:command("idle_memory", ?USAGE, Defaults, options(), fun run/1).

%% Slope of a least-squares line through {X, Y} points.
-spec slope([{number(), number()}]) -> float().
slope(Points) ->
    N = length(Points),
    MeanX = lists:sum([X || {X, _} <- Points]) / N,
    MeanY = lists:sum([Y || {_, Y} <- Points]) / N,
    lists:sum([(X - MeanX) * (Y - MeanY) || {X, Y} <- Points]) /
        lists:sum([(X - MeanX) * (X - MeanX) || {X, _} <- Points]).

%% --- local -----------------------------------------------------------------

options() ->
    [{"--connections", connections, zero_or(?POINTS * 2, 1000)},
     {"--peers", peers, zero_or(?POINTS * 2, 1000)},
     {"--seconds", seconds, zero_or(1, 3600)},
     {"--carriers", carriers, fun bp_bench:carriers/1},
     {"--json", json, fun(File) -> {ok, File} end},
     {"--strict", strict, flag}].

zero_or(Min, Max) ->
    fun(Text) ->
            case string:to_integer(Text) of
                {0, ""} -> {ok, 0};
                {N, ""} when N >= Min, N =< Max -> {ok, N};
                _ -> {error, lists:concat(["not 0 and not a number of ", Min, " to ", Max])}
            end
    end.

run(#{json := Json, strict := Strict} = Options) ->
    ok = bp_bench_carrier:setup(),
    Machine = bp_bench:machine(),
    io:format("~n~ts; ~b cores, ~ts; OTP ~ts~n",
              [maps:get(K, Machine) || K <- [date, cores, cpu, otp]]),
    Results = slopes(Options),
    Peers = peers(Options),
    Verdicts = verdicts(Results, Peers),
    _ = [io:format("target ~-7s ~ts: ~.2f ~ts, wanted < ~w ~ts~n",
                   [case Met of true -> "met"; false -> "NOT met" end, What, Reached, Unit, Wanted,
                    Unit])
         || {What, Reached, Wanted, Unit, Met} <- Verdicts],
    write(Json, Machine, Results, Peers),
    case {[1 || {_, failed} <- Results] ++ [1 || failed <- [Peers]],
          lists:all(fun({_, _, _, _, Met}) -> Met end, Verdicts)} of
        {[_ | _], _} -> 1;
        {[], false} when Strict -> 2;
        _ -> 0
    end.

slopes(#{connections := 0}) ->
    [];
slopes(#{carriers := Wanted, connections := Count}) ->
    Results = [{C, carrier(C, Count)} || C <- Wanted, present(C)],
    io:format("~nper idle connection (slope over ~b connections, KB = 1024 bytes):~n~n", [Count]),
    io:format("~-14s ~11s ~11s ~17s ~16s ~12s~n",
              ["", "total, KB", "VM, KB", "drivers in it, KB", "C libraries, KB", "descriptors"]),
    _ = [line(C, R) || {C, R} <- Results],
    io:nl(),
    Results.

%% none, failed, or a bp_bench_peers:result().
peers(#{peers := 0}) ->
    none;
peers(#{peers := Count, seconds := Seconds}) ->
    say("~b idle peers ...", [Count]),
    try
        {ok, Program} = bp_bench_peers:program(),
        Result = bp_bench_peers:measure(#{program => Program, peers => Count, seconds => Seconds,
                                          memory_args => ?HUB_ARGS, memory_env => memory_env()}),
        say(" done~n", []),
        io:format("~n~ts~n", [bp_bench_peers:lines(Result)]),
        Result
    catch
        _:Reason -> say(" FAILED: ~0tp~n", [Reason]), failed
    end.

present(Carrier) ->
    case bp_bench_carrier:available(Carrier) of
        ok -> true;
        {error, Why} -> say("no ~ts row: ~ts~n", [bp_bench_carrier:title(Carrier), Why]), false
    end.

%% Points (bp_bench_node:memory/0 with `connections`), or failed.
carrier(Carrier, Count) ->
    say("~ts ...", [bp_bench_carrier:title(Carrier)]),
    Hub = bp_bench_carrier:start_node(Carrier, hub, #{args => ?HUB_ARGS, env => memory_env()}),
    try points(Carrier, Hub, Count) of
        Points -> say(" done~n", []), Points
    catch
        _:Reason -> say(" FAILED: ~0tp~n", [Reason]), failed
    after
        bp_bench_carrier:stop(Hub)
    end.

memory_env() ->
    [{"LD_PRELOAD", os:getenv("BENCH_MALLOC_COUNT")},
     {"BENCH_MALLOC_FILE", filename:join(os:getenv("BENCH_DIR"), "malloc")}].

%% The first batch pays for code loading and tables: there is no point before it.
points(Carrier, Hub, Count) ->
    Step = Count div ?POINTS,
    {Lights, Points} = lists:foldl(fun(I, Acc) -> batch(Carrier, Hub, Step, I, Acc) end,
                                   {[], []}, lists:seq(1, ?POINTS)),
    bp_bench_carrier:stop_all(Lights),
    lists:reverse(Points).

batch(Carrier, Hub, Step, I, {Lights, Points}) ->
    More = start_parallel(Carrier, Step),
    try
        _ = [connect(Hub, L, K rem 2) || {K, L} <- lists:zip(lists:seq(1, Step), More)],
        timer:sleep(?SETTLE_MS),
        Names = call(Hub, erlang, nodes, [connected]),
        length(Names) =:= I * Step orelse error({connected, length(Names), wanted, I * Step}),
        Memory = call(Hub, bp_bench_node, memory, []),
        {Lights ++ More, [Memory#{connections => I * Step} | Points]}
    catch
        Class:Reason:Stack ->
            bp_bench_carrier:stop_all(Lights ++ More),
            erlang:raise(Class, Reason, Stack)
    end.

start_parallel(Carrier, N) ->
    Parent = self(),
    Start = fun() ->
                    Args = #{args => ?LIGHT_ARGS},
                    Parent ! {self(), bp_bench_carrier:start_node(Carrier, light, Args)}
            end,
    Pids = [spawn_link(Start) || _ <- lists:seq(1, N)],
    [receive {P, Node} -> Node end || P <- Pids].

%% Half of the connections are dialled by the measured node, half are accepted by it.
connect(Hub, Light, 0) ->
    call(Hub, bp_bench_node, connect, [bp_bench_carrier:name(Light)]);
connect(Hub, Light, 1) ->
    call(Light, bp_bench_node, connect, [bp_bench_carrier:name(Hub)]),
    call(Hub, bp_bench_node, await, [bp_bench_carrier:name(Light), up]).

call(Node, M, F, Args) ->
    bp_bench_carrier:call(Node, M, F, Args).

slope_of(Key, Points) ->
    slope([{maps:get(connections, P), maps:get(Key, P)} || P <- Points]).

line(Carrier, failed) ->
    io:format("~-14s FAILED~n", [bp_bench_carrier:title(Carrier)]);
line(Carrier, Points) ->
    Kb = [slope_of(K, Points) / 1024 || K <- [total, vm, driver, libraries]],
    io:format("~-14s ~11.1f ~11.1f ~17.1f ~16.1f ~12.1f~n",
              [bp_bench_carrier:title(Carrier) | Kb] ++ [slope_of(descriptors, Points)]).

%% {What, Reached, Wanted, Unit, Met} of what was measured.
verdicts(Results, Peers) ->
    [{"memory per idle QUIC connection", Kb, ?TARGET_BYTES div 1024, "KB",
      Kb < ?TARGET_BYTES / 1024}
     || {quic, [_ | _] = Points} <- Results, Kb <- [slope_of(total, Points) / 1024]] ++
        case is_map(Peers) of
            true -> bp_bench_peers:verdicts(Peers);
            false -> []
        end.

write(File, Machine, Results, Peers) ->
    Json = #{machine => Machine, target_bytes => ?TARGET_BYTES,
             carriers => maps:from_list([{C, carrier_json(R)} || {C, R} <- Results]),
             idle_peers => case is_map(Peers) of
                               true -> bp_bench_peers:json(Peers);
                               false -> null
                           end},
    case file:write_file(File, [bp_bench_report:encode(Json), $\n]) of
        ok -> say("wrote ~ts~n", [File]);
        {error, Why} -> error({cannot_write, File, Why})
    end.

carrier_json(failed) ->
    null;
carrier_json(Points) ->
    #{points => Points,
      slopes => maps:from_list([{K, slope_of(K, Points)}
                                || K <- [total, vm, driver, libraries, descriptors]])}.

say(Format, Args) ->
    io:format(standard_error, Format, Args).
