%% SPDX-License-Identifier: Apache-2.0
%% One node of this carrier with many idle peers: what they cost it in CPU, memory and descriptors.
%% The peers are C endpoints of the core in one process (idle_peers.c). Part of `bench/idle_memory`.
-module(bp_bench_peers).

-export([program/0, measure/1, lines/1, verdicts/1, json/1]).

-export_type([result/0]).

-type result() :: #{peers := pos_integer(), seconds := pos_integer(),
                    points := [map()],                   % memory, see bp_bench_node:memory/0
                    cpu := [{Title :: string(), Alone :: float(), WithPeers :: float()}]}.

-define(UP_MS, 30000).
-define(SETTLE_MS, 3000).
-define(POINTS, 5).
-define(TARGET_CPU, 1.0).       % percent of one core, all peers together
-define(TARGET_BYTES, 65536).

%% The VM as users run it, and without schedulers that spin before they sleep.
-define(VMS, [{"VM's defaults", []},
              {"no busy waiting",
               ["+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none"]}]).

%% The program that plays the peers, if it is built.
-spec program() -> {ok, file:filename()} | {error, string()}.
program() ->
    File = filename:join([os:getenv("BENCH_ROOT"), "build", "release", "bench", "idle_peers"]),
    case filelib:is_regular(File) of
        true -> {ok, File};
        false -> {error, "build/release/bench/idle_peers is not there; run `make idle-peers`"}
    end.

-spec measure(#{program := file:filename(), peers := pos_integer(), seconds := pos_integer(),
                memory_args := [string()], memory_env := [{string(), string()}]}) -> result().
measure(#{peers := Peers, seconds := Seconds} = Options) ->
    #{peers => Peers, seconds => Seconds, points => points(Options),
      cpu => [cpu(Title, Args, Options) || {Title, Args} <- ?VMS]}.

%% For people.
-spec lines(result()) -> iodata().
lines(#{peers := Peers, seconds := Seconds, points := Points, cpu := Cpu}) ->
    [io_lib:format("~b idle peers of one node (C endpoints), ~b s:~n~n", [Peers, Seconds]),
     [io_lib:format("  node's CPU, ~-16s ~6.2f % of a core; without peers ~.2f %~n",
                    [Title ++ ":", With, Alone]) || {Title, Alone, With} <- Cpu],
     io_lib:format("  memory per connection:       ~6.1f KB (VM ~.1f, of it drivers ~.1f; C libraries "
                   "~.1f)~n", [slope(K, Points) / 1024 || K <- [total, vm, driver, libraries]]),
     io_lib:format("  descriptors per connection:  ~6.1f~n", [slope(descriptors, Points)])].

%% {What, Reached, Wanted, Unit, Met}: the VM's defaults count.
-spec verdicts(result()) -> [{string(), float(), number(), string(), boolean()}].
verdicts(#{peers := Peers, points := Points, cpu := [{_, _, Cpu} | _]}) ->
    Kb = slope(total, Points) / 1024,
    [{"CPU of a node with " ++ integer_to_list(Peers) ++ " idle peers", Cpu, ?TARGET_CPU,
      "% of a core", Cpu < ?TARGET_CPU},
     {"memory per idle peer", Kb, ?TARGET_BYTES div 1024, "KB", Kb < ?TARGET_BYTES / 1024}].

-spec json(result()) -> map().
json(#{points := Points, cpu := Cpu} = Result) ->
    Slopes = [{K, slope(K, Points)} || K <- [total, vm, driver, libraries, descriptors]],
    Result#{slopes => maps:from_list(Slopes),
            cpu := [#{vm => list_to_binary(Title), alone_percent => Alone, percent => With}
                    || {Title, Alone, With} <- Cpu],
            targets => [#{what => list_to_binary(What), reached => Reached, wanted => Wanted,
                          unit => list_to_binary(Unit), met => Met}
                        || {What, Reached, Wanted, Unit, Met} <- verdicts(Result)]}.

%% --- local -----------------------------------------------------------------

slope(Key, Points) ->
    bp_bench_idle:slope([{maps:get(connections, P), maps:get(Key, P)} || P <- Points]).

%% The first batch pays for code loading and tables: there is no point before it.
points(#{peers := Peers, memory_args := Args, memory_env := Env} = Options) ->
    with_hub(#{args => Args, env => Env}, Options,
             fun(Hub, Dial) ->
                     [begin
                          Dial(I * Peers div ?POINTS),
                          timer:sleep(?SETTLE_MS),
                          Memory = call(Hub, bp_bench_node, memory, []),
                          Memory#{connections => connected(Hub)}
                      end || I <- lists:seq(1, ?POINTS)]
             end).

%% In percent of one core, of the node alone, then with all peers.
cpu(Title, Args, #{peers := Peers, seconds := Seconds} = Options) ->
    with_hub(#{args => Args}, Options,
             fun(Hub, Dial) ->
                     timer:sleep(?SETTLE_MS),
                     Alone = percent(Hub, Seconds),
                     Dial(Peers),
                     timer:sleep(?SETTLE_MS),
                     With = percent(Hub, Seconds),
                     Peers = connected(Hub),
                     {Title, Alone, With}
             end).

percent(Hub, Seconds) ->
    T0 = erlang:monotonic_time(millisecond),
    Cpu0 = bp_bench_carrier:cpu_seconds(Hub),
    timer:sleep(Seconds * 1000),
    Used = bp_bench_carrier:cpu_seconds(Hub) - Cpu0,
    Used * 100000 / (erlang:monotonic_time(millisecond) - T0).

%% Runs Fun(Hub, Dial) with a node and the peers' program; Dial(N) returns when N peers are up.
with_hub(Extra, #{program := Program}, Fun) ->
    Hub = bp_bench_carrier:start_node(quic, hub, Extra),
    try
        #{port := Port} = call(Hub, barrel_p2p, info, []),
        Args = [atom_to_list(bp_bench_carrier:name(Hub)), "127.0.0.1", integer_to_list(Port),
                bp_bench_carrier:cookie()],
        Peers = open_port({spawn_executable, Program},
                          [{args, Args}, {line, 200}, exit_status, use_stdio, stderr_to_stdout]),
        try
            Fun(Hub, fun(Total) -> dial(Peers, Hub, Total) end)
        after
            try port_close(Peers)
            catch error:badarg -> ok
            end
        end
    after
        bp_bench_carrier:stop(Hub)
    end.

dial(Peers, Hub, Total) ->
    true = port_command(Peers, io_lib:format("dial ~b~n", [Total - connected(Hub)])),
    Up = "up " ++ integer_to_list(Total),
    receive
        {Peers, {data, {eol, Up}}} -> ok;
        {Peers, {data, {_, Line}}} -> error({idle_peers, Line});
        {Peers, {exit_status, Status}} -> error({idle_peers, {status, Status}})
    after ?UP_MS ->
        error({idle_peers, {not_up_in_ms, ?UP_MS}})
    end,
    await(Hub, Total, 100).

%% The peers are up when the node has answered; it counts them a moment later.
await(Hub, Total, Tries) ->
    case connected(Hub) of
        Total -> ok;
        Other when Tries =:= 0 -> error({connected, Other, wanted, Total});
        _ -> timer:sleep(50), await(Hub, Total, Tries - 1)
    end.

connected(Hub) ->
    length(call(Hub, erlang, nodes, [connected])).

call(Node, M, F, Args) ->
    bp_bench_carrier:call(Node, M, F, Args).
