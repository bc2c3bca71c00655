%% SPDX-License-Identifier: Apache-2.0
%% Many idle peers of one node: C endpoints of the core (bench/idle_peers.c), which are nodes to it.
-module(idle_SUITE).

-include("bp_test.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([idle_peers_cost_little_and_stay/1, idle_peers_with_another_cookie_are_refused/1]).

-define(PEERS, 20).
-define(IDLE_MS, 5000).
%% Generous: the machine does other things, and ASan makes the peers slow. Idle peers that wake the
%% node without need cost it more.
-define(MAX_CPU_PERCENT, 15).

suite() -> [{timetrap, {seconds, 90}}].

all() ->
    [idle_peers_cost_little_and_stay, idle_peers_with_another_cookie_are_refused].

init_per_suite(Config) ->
    case bp_cluster:only(quic) of
        ok -> [{program, program()} | Config];
        Skip -> Skip
    end.

end_per_suite(_) -> ok.

init_per_testcase(Case, Config) -> bp_cluster:init_case(?MODULE, Case, Config).
end_per_testcase(_, Config) -> bp_cluster:end_case(Config).

%% ---- cases ----

idle_peers_cost_little_and_stay(Config) ->
    A = bp_cluster:start(Config, #{name => a}),
    Program = peers(Config, A, "ct"),
    ?EQ("up 20", dial(Program, ?PEERS)),
    Names = lists:sort([list_to_atom(lists:concat(["idle", I, "@127.0.0.1"]))
                        || I <- lists:seq(1, ?PEERS)]),
    bp_cluster:until(fun() -> hidden(A) =:= Names andalso at_rest(A) end),
    Infos = bp_cluster:call(A, barrel_p2p, peers, []),
    ?EQ(?PEERS, length(lists:usort([F || #{fingerprint := F} <- Infos]))),
    ?EQ(?PEERS, length(lists:usort([Ip || #{address := Ip} <- Infos]))),
    T0 = erlang:monotonic_time(millisecond),
    {Packets0, Cpu0} = {packets(A), cpu_ms(A)},
    timer:sleep(?IDLE_MS),       % what is measured
    {Packets, Cpu} = {packets(A) - Packets0, cpu_ms(A) - Cpu0},
    Ms = erlang:monotonic_time(millisecond) - T0,
    ct:pal("~b idle peers: ~.2f % of a core, ~b packets in ~b ms", [?PEERS, Cpu * 100 / Ms, Packets, Ms]),
    true = Cpu * 100 / Ms < ?MAX_CPU_PERCENT,
    %% a packet of the node each 2 s and peer; as many again for what a busy machine delays
    true = Packets > 0,
    true = Packets =< ?PEERS * (Ms div 2000 + 1) * 2,
    ?EQ(Names, hidden(A)),
    %% the end of one is the end of the program, and so of all of them
    true = bp_cluster:call(A, erlang, disconnect_node, ['idle7@127.0.0.1']),
    {1, "idle_peers: idle7@127.0.0.1: the peer closed" ++ _} = ended(Program, []),
    bp_cluster:until(fun() -> hidden(A) =:= [] end, 30000).

idle_peers_with_another_cookie_are_refused(Config) ->
    A = bp_cluster:start(Config, #{name => a}),
    {1, Why} = dial(peers(Config, A, "other"), 1),
    true = string:find(Why, "idle1@127.0.0.1: ") =/= nomatch,
    ?EQ([], hidden(A)),
    bp_cluster:wait_log(A, ["Invalid challenge reply"]).

%% ---- helpers ----

%% Of the C tests' build, which has sanitizers, else the one of the benchmark.
program() ->
    Files = [filename:join([bp_cluster:root(), "build", B, "bench", "idle_peers"])
             || B <- ["asan", "release"]],
    case lists:filter(fun filelib:is_regular/1, Files) of
        [File | _] -> File;
        [] -> error("idle_peers is not built: make idle-peers")
    end.

peers(Config, A, Cookie) ->
    #{port := Udp} = bp_cluster:call(A, barrel_p2p, info, []),
    Lsan = "suppressions=" ++ filename:join([bp_cluster:root(), "tests", "lsan.supp"]) ++
        ":print_suppressions=0",
    Args = [atom_to_list(bp_cluster:name(A)), "127.0.0.1", integer_to_list(Udp), Cookie],
    open_port({spawn_executable, proplists:get_value(program, Config)},
              [{args, Args}, {env, [{"LSAN_OPTIONS", Lsan}]}, {line, 500}, stderr_to_stdout,
               exit_status]).

hidden(A) ->
    lists:sort(bp_cluster:call(A, erlang, nodes, [hidden])).

%% "up N", or {Status, LastLine} if the program ends.
dial(Port, N) ->
    true = port_command(Port, io_lib:format("dial ~b~n", [N])),
    receive
        {Port, {data, {eol, "up " ++ _ = Up}}} -> Up;
        {Port, {data, {eol, Line}}} -> ended(Port, Line)
    after ?LONG ->
        error(not_up)
    end.

ended(Port, Last) ->
    receive
        {Port, {data, {eol, Line}}} when Last =:= [] -> ended(Port, Line);
        {Port, {data, {_, _}}} -> ended(Port, Last);
        {Port, {exit_status, Status}} -> {Status, Last}
    after ?LONG ->
        error({not_ended, Last})
    end.

%% Ends of handshakes and path MTU probes are over: there are as few packets as idle peers need.
at_rest(A) ->
    Before = packets(A),
    timer:sleep(500),
    packets(A) - Before =< ?PEERS div 2.

packets(A) ->
    lists:sum([maps:get(<<"packets_sent">>, C)
               || #{counters := C} <- bp_cluster:call(A, barrel_p2p, peers, [])]).

%% User and system time of the node's OS process.
cpu_ms(A) ->
    File = lists:concat(["/proc/", bp_cluster:os_pid(A), "/stat"]),
    {ok, Fd} = file:open(File, [read, raw, binary]),
    {ok, Line} = try file:read(Fd, 4096) after file:close(Fd) end,
    [_, Rest] = re:split(Line, "\\) (?=[^)]*$)"),
    [User, System] = lists:sublist(binary:split(Rest, <<" ">>, [global]), 12, 2),
    Hz = list_to_integer(string:trim(os:cmd("getconf CLK_TCK"))),
    (binary_to_integer(User) + binary_to_integer(System)) * 1000 div Hz.
