%% SPDX-License-Identifier: Apache-2.0
%% Connections between real nodes move from path to path (docs/migration.md), on an emulated link.
-module(migrate_SUITE).

-include_lib("common_test/include/ct.hrl").
-include("bp_test.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([statistics/1, hundred_times_under_load/1, when_the_old_path_is_dead/1,
         peer_that_dialled_is_asked/1, peer_that_does_not_allow_it/1,
         watchdog/1, route_changes/1, no_answer_on_the_new_path/1,
         errors/1, recipes_of_the_documentation/1]).
%% In nodes.
-export([ticker/3, meter/2, clock/2]).

%% One way, in ms; so that what the machine does besides is little compared with it.
-define(DELAY, 30).
-define(RTT_US, 2000 * ?DELAY).
-define(MORE, bp_move:more()).
-define(OWN, bp_move:own()).

-import(bp_move, [pair/1, pair/3, migrate/3, summary/2, address/3, watch/2, watched/2, finish/1,
                  report/2, files/1]).

suite() -> [{timetrap, {seconds, 300}}].

all() ->
    [statistics, hundred_times_under_load, when_the_old_path_is_dead, peer_that_dialled_is_asked,
     peer_that_does_not_allow_it, no_answer_on_the_new_path, watchdog, route_changes, errors,
     recipes_of_the_documentation].

init_per_suite(Config) -> bp_cluster:only(quic, Config).

end_per_suite(_) ->
    ok.

init_per_testcase(Case, Config) ->
    bp_move:init_case(?MODULE, Case, ["--delay", integer_to_list(?DELAY) ++ "ms"], Config).

end_per_testcase(_, Config) ->
    bp_move:end_case(Config).

numbered(Pair) ->
    bp_move:numbered(Pair, #{senders => 4, size => 3000, pause => 10}).

%% ---- steady messages, and when they arrive ----

-define(TICK_MS, 2).

%% A process in From sends a message to one in To every few ms.
ticks(From, To) ->
    Name = bp_cluster:name(To),
    Meter = bp_cluster:call(To, erlang, spawn, [?MODULE, meter, [1, []]]),
    Ticker = bp_cluster:run(From, fun() -> spawn(?MODULE, ticker, [Meter, Name, 1]) end),
    {From, Ticker, To, Meter}.

%% @private
ticker(Meter, Node, N) ->
    receive
        stop -> ok
    after ?TICK_MS ->
        Meter ! {tick, N},
        ticker(Meter, Node, N + 1)
    end.

%% @private
meter(N, Seen) ->
    receive
        {tick, N} -> meter(N + 1, [now_us() | Seen]);
        {tick, Other} -> exit({out_of_order, N, Other});
        {get, From} -> From ! {self(), lists:reverse(Seen)}
    end.

%% Both nodes have the clock of this machine.
now_us() ->
    os:system_time(microsecond).

%% When each tick came.
arrivals({From, Ticker, To, Meter}) ->
    bp_cluster:run(From, fun() -> Ticker ! stop end),
    timer:sleep(4 * ?DELAY),
    bp_cluster:run(To, fun() ->
        Meter ! {get, self()},
        receive {Meter, Seen} -> Seen after ?LONG -> error({meter, process_info(Meter)}) end
    end).

%% ---- what the machine does to the nodes: that is no pause of the connection ----

-define(STALL_US, 10000).

clocks(Nodes) ->
    [{N, bp_cluster:call(N, erlang, spawn, [?MODULE, clock, [infinity, []]])} || N <- Nodes].

%% @private Wants to run every ms, and notes when it did not.
clock(Last, Stalls) ->
    receive
        {get, From} -> From ! {self(), Stalls}
    after 1 ->
        Now = now_us(),
        clock(Now, case Last =/= infinity andalso Now - Last > ?STALL_US of
                       true -> [{Last, Now} | Stalls];
                       false -> Stalls
                   end)
    end.

%% [{From, To}] during which the one or the other node did not run.
stalls(Clocks) ->
    lists:append([bp_cluster:run(N, fun() ->
        Pid ! {get, self()},
        receive {Pid, Stalls} -> Stalls after ?LONG -> error({clock, process_info(Pid)}) end
    end) || {N, Pid} <- Clocks]).

%% The time from X to Y in which both ran.
ran(X, Y, Stalls) ->
    max(0, Y - X - lists:sum([max(0, min(Y, To) - max(X, From)) || {From, To} <- Stalls])).

%% The longest time without an arrival that overlaps with From..To.
longest_gap(Arrivals, From, To, Stalls) ->
    {Before, Rest} = lists:splitwith(fun(T) -> T < From end, Arrivals),
    {In, After} = lists:splitwith(fun(T) -> T =< To end, Rest),
    Points = [lists:last(Before) | In] ++ [hd(After)],
    lists:max([ran(X, Y, Stalls) || {X, Y} <- lists:zip(lists:droplast(Points), tl(Points))]).

%% A time without moves: between them, for a machine is noisy for a while and then is not.
quiet() ->
    Start = now_us(),
    timer:sleep(14 * ?DELAY),
    {Start, now_us() - 12 * ?DELAY * 1000}.

noise(Arrivals, Quiet, Stalls) ->
    Gaps = [[longest_gap(Seen, Start, End + ?RTT_US, Stalls) || {Start, End} <- Quiet]
            || Seen <- Arrivals],
    {P50, P99, Max} = bp_wan:percentiles(lists:append(Gaps)),
    report("pauses without a move: p50 ~b us, p99 ~b, max ~b", [P50, P99, Max]),
    P99.

%% ---- cases ----

statistics(Config) ->
    {A, B} = pair(Config),
    Loads = numbered({A, B}),
    bp_cluster:until(fun() ->
        #{bytes_sent := Out, bytes_received := In, packets_sent := Packets} = summary(A, B),
        Out > 200000 andalso In > 200000 andalso Packets > 100
    end),
    #{srtt := Srtt, latest_rtt := Latest, min_rtt := Min, rtt_var := Var, cwnd := Cwnd,
      bytes_in_flight := Flight, in_recovery := Recovery, congested := Congested,
      bytes_sent := Sent, bytes_received := Received, packets_sent := PSent,
      packets_received := PReceived, packets_lost := Lost, datagram_size := Size, local := {LocalIp, LocalPort},
      remote := {RemoteIp, RemotePort}, migrations := 0} = S = summary(A, B),
    report("~0p", [S]),
    [true = is_integer(N) andalso N >= 0 || N <- [Var, Flight]],
    %% ngtcp2 before 1.16 does not tell
    true = Lost =:= undefined orelse (is_integer(Lost) andalso Lost >= 0),
    [true = is_boolean(X) || X <- [Recovery, Congested]],
    %% microseconds: the link's delay, and not rounded to milliseconds
    true = Min >= ?RTT_US andalso Min < 2 * ?RTT_US,
    true = Srtt >= Min andalso Latest >= Min,
    true = lists:any(fun(N) -> N rem 1000 =/= 0 end, [Srtt, Latest, Min, Var]),
    true = Cwnd > Size andalso Size >= 1200,
    true = Sent > 100000 andalso Received > 100000,
    true = PSent > 50 andalso PReceived > 50,
    ?EQ({{10, 77, 0, 1}, {10, 77, 0, 2}}, {LocalIp, RemoteIp}),
    #{local := {{10, 77, 0, 2}, RemotePort}, remote := {{10, 77, 0, 1}, LocalPort}} = summary(B, A),
    Name = bp_cluster:name(B),
    {ok, Us} = bp_cluster:call(A, barrel_p2p_path_stats, srtt, [Name]),
    true = Us >= ?RTT_US,
    {ok, Pid} = bp_cluster:call(A, barrel_p2p_path_stats, connection, [Name]),
    true = bp_cluster:call(A, erlang, is_process_alive, [Pid]),
    [{Name, #{srtt := _}}] = bp_cluster:call(A, barrel_p2p, paths, []),
    [?EQ({error, not_connected}, bp_cluster:call(A, barrel_p2p_path_stats, F, [nobody@nowhere]))
     || F <- [summary, srtt, connection]],
    finish(Loads).

%% Between addresses and ports of one family, with messages in both directions all the time.
hundred_times_under_load(Config) ->
    {A, B} = pair(Config),
    [address(Config, "add", Ip) || Ip <- ?MORE],
    Watches = [{A, watch(A, B)}, {B, watch(B, A)}],
    Files = files(A),
    Name = bp_cluster:name(B),
    Loads = numbered({A, B}),
    Ticks = [ticks(A, B), ticks(B, A)],
    Link = bp_cluster:run(A, fun() -> linked(Name) end),
    Clocks = clocks([A, B]),
    timer:sleep(500),
    {Quiet, Moves} = lists:unzip([begin
        Before = case I rem 3 of 0 -> [quiet()]; _ -> [] end,
        Opts = case I rem 4 of
                   0 -> #{};
                   N -> #{local => {lists:nth(N, [?OWN | ?MORE]), 20000 + I}}
               end,
        Start = now_us(),
        ?EQ({I, ok}, {I, migrate(A, B, Opts)}),
        End = now_us(),
        %% a new path is slow at first (RFC 9000, 9.4), and what waits meanwhile has to go out
        timer:sleep(12 * ?DELAY),
        {Before, {Start, End}}
     end || I <- lists:seq(1, 100)]),
    Arrivals = [arrivals(T) || T <- Ticks],
    Stalls = stalls(Clocks),
    Counts = finish(Loads),
    Gaps = [[longest_gap(Seen, Start, End + ?RTT_US, Stalls) || {Start, End} <- Moves]
            || Seen <- Arrivals],
    Noise = noise(Arrivals, lists:append(Quiet), Stalls),
    {P50, P99, Max} = bp_wan:percentiles(lists:append(Gaps)),
    {M50, M99, _} = bp_wan:percentiles([E - S || {S, E} <- Moves]),
    report("100 moves, round trip ~b ms: took p50 ~b us, p99 ~b; pauses p50 ~b us, p99 ~b, max ~b; "
           "~w messages", [?RTT_US div 1000, M50, M99, P50, P99, Max, Counts]),
    true = P99 < 3 * ?RTT_US + Noise,
    #{migrations := 100, local := {{10, 77, 0, 1}, _}} = summary(A, B),
    #{migrations := Followed} = summary(B, A),
    true = Followed >= 50,
    ?EQ([[], []], [watched(X, W) || {X, W} <- Watches]),
    true = bp_cluster:call(A, erlang, is_process_alive, [Link]),
    %% the sockets of former paths are given back
    bp_cluster:until(fun() -> files(A) =< Files end).

linked(Node) ->
    spawn(fun() ->
        _ = spawn_link(Node, timer, sleep, [infinity]),
        receive stop -> ok end
    end).

%% The address that the connection uses is taken away from the machine; after a while it moves.
%% BP_MOVES=100: for figures.
when_the_old_path_is_dead(Config) ->
    {A, B} = pair(Config),
    Name = bp_cluster:name(B),
    N = list_to_integer(os:getenv("BP_MOVES", "20")),
    Watches = [{A, watch(A, B)}, {B, watch(B, A)}],
    [Lost, _] = ?MORE,
    Loads = numbered({A, B}),
    Ticks = [ticks(A, B), ticks(B, A)],
    Clocks = clocks([A, B]),
    timer:sleep(500),
    {Quiet, Moves} = lists:unzip([begin
        Before = quiet(),
        address(Config, "add", Lost),
        ?EQ(ok, migrate(A, B, #{local => Lost})),
        timer:sleep(10 * ?DELAY),
        address(Config, "del", Lost),
        bp_cluster:until(fun() -> maps:get(in_recovery, summary(A, B)) end),
        {Start, ok, End} = bp_cluster:run(A, fun() -> timed(Name, #{local => ?OWN}) end),
        timer:sleep(12 * ?DELAY),
        {Before, {Start, End}}
     end || _ <- lists:seq(1, N)]),
    Arrivals = [arrivals(T) || T <- Ticks],
    Stalls = stalls(Clocks),
    Counts = finish(Loads),
    %% from the call until messages arrive again
    Pauses = [[ran(Start, hd([T || T <- Seen, T > Start]), Stalls) || {Start, _} <- Moves]
              || Seen <- Arrivals],
    {M50, M99, _} = bp_wan:percentiles([E - S || {S, E} <- Moves]),
    [begin
        {P50, P99, Max} = bp_wan:percentiles(P),
        report("~b moves off a dead path, ~s: took p50 ~b us, p99 ~b; pauses p50 ~b us, p99 ~b, "
               "max ~b; ~w messages", [N, Who, M50, M99, P50, P99, Max, Counts])
     end || {Who, P} <- lists:zip(["a to b", "b to a"], Pauses)],
    {_, P99, _} = bp_wan:percentiles(lists:append(Pauses)),
    true = P99 < 3 * ?RTT_US + noise(Arrivals, Quiet, Stalls),
    ?EQ([[], []], [watched(X, W) || {X, W} <- Watches]).

%% @private In the node, so that the way to it does not count.
timed(Peer, Opts) ->
    Start = now_us(),
    Result = barrel_p2p:migrate_peer(Peer, Opts),
    {Start, Result, now_us()}.

%% b did not dial: it asks a.
peer_that_dialled_is_asked(Config) ->
    {A, B} = pair(Config),
    Loads = numbered({A, B}),
    #{local := Before} = summary(A, B),
    [?EQ(ok, migrate(B, A, #{})) || _ <- lists:seq(1, 10)],
    #{local := After, migrations := 10} = summary(A, B),
    true = Before =/= After,
    bp_cluster:until(fun() -> maps:get(remote, summary(B, A)) =:= After end),
    ?EQ({error, not_dialler}, migrate(B, A, #{local => "10.77.0.2"})),
    finish(Loads).

peer_that_does_not_allow_it(Config) ->
    {A, B} = pair(Config, [], ["-barrel_p2p", "active_migration", "false"]),
    #{local := Before} = summary(A, B),
    ?EQ({error, peer_disable_migration}, migrate(A, B, #{})),
    ?EQ({error, peer_disable_migration}, migrate(B, A, #{})),
    #{local := Before, migrations := 0} = summary(A, B),
    pong = bp_cluster:call(A, net_adm, ping, [bp_cluster:name(B)]).

%% The connection stays where it was, also when the answer comes too late.
no_answer_on_the_new_path(Config) ->
    {A, B} = pair(Config),
    Loads = numbered({A, B}),
    #{local := Before} = summary(A, B),
    bp_wan:set(?config(link, Config), "delay=300ms"),
    ?EQ({error, timeout}, migrate(A, B, #{timeout => ?DELAY})),
    %% by now it has come
    pong = bp_cluster:call(A, net_adm, ping, [bp_cluster:name(B)]),
    #{local := Before} = summary(A, B),
    bp_wan:set(?config(link, Config), "delay=" ++ integer_to_list(?DELAY) ++ "ms"),
    bp_wan:set(?config(link, Config), "down=1"),
    Start = now_us(),
    ?EQ({error, timeout}, migrate(A, B, #{timeout => 700})),
    true = now_us() - Start >= 700000,
    bp_wan:set(?config(link, Config), "down=0"),
    pong = bp_cluster:call(A, net_adm, ping, [bp_cluster:name(B)]),
    #{local := Before} = summary(A, B),
    bp_wan:set(?config(link, Config), "down=1"),
    ?EQ({error, timeout}, migrate(B, A, #{timeout => 100})),
    bp_wan:set(?config(link, Config), "down=0"),
    bp_cluster:until(fun() -> migrate(A, B, #{}) =:= ok end),
    finish(Loads).

%% The round trip takes too long; and the path is dead, while data waits.
watchdog(Config) ->
    {A, B} = pair(Config, ["-barrel_p2p", "migration_watchdog",
                           "[{srtt_ms,300},{strikes,2},{period_ms,200}]"], []),
    {ok, _} = bp_cluster:call(A, application, ensure_all_started, [barrel_p2p]),
    Loads = numbered({A, B}),
    timer:sleep(1500),
    #{migrations := 0} = summary(A, B),
    bp_wan:set(?config(link, Config), "delay=200ms"),
    bp_cluster:until(fun() -> maps:get(migrations, summary(A, B)) >= 1 end),
    bp_wan:set(?config(link, Config), "delay=10ms"),
    bp_cluster:until(fun() -> maps:get(srtt, summary(A, B)) < 100000 end),
    [Lost, _] = ?MORE,
    address(Config, "add", Lost),
    bp_cluster:until(fun() -> migrate(A, B, #{local => Lost}) =:= ok end),
    address(Config, "del", Lost),
    bp_cluster:until(fun() ->
        #{local := {Ip, _}} = summary(A, B),
        Ip =:= {10, 77, 0, 1}
    end, 40000),                % after four moves it waits for up to 15 s
    finish(Loads).

%% The route to b gets another source address, then the address goes.
route_changes(Config) ->
    {A, B} = pair(Config, ["-barrel_p2p", "migrate_on_route_change", "true"], []),
    {ok, _} = bp_cluster:call(A, application, ensure_all_started, [barrel_p2p]),
    Watch = watch(A, B),
    Loads = numbered({A, B}),
    [New, _] = ?MORE,
    Uses = fun(Ip) -> bp_cluster:until(fun() -> element(1, maps:get(local, summary(A, B))) =:= Ip end)
           end,
    Uses({10, 77, 0, 1}),
    address(Config, "add", New),
    timer:sleep(1000),
    #{migrations := 0} = summary(A, B),      % another address alone is no reason
    [] = bp_wan:in_side(?config(link, Config), a,
                        ["ip", "route", "add", "10.77.0.2/32", "dev", "wan0", "src", New]),
    Uses({10, 77, 0, 11}),
    address(Config, "del", New),
    Uses({10, 77, 0, 1}),
    finish(Loads),
    ?EQ([], watched(A, Watch)).

recipes_of_the_documentation(Config) ->
    {A, B} = pair(Config),
    Name = bp_cluster:name(B),
    Recipes = bp_recipes:read("migration.md"),
    5 = length([ok || {erlang, Text} <- Recipes, bp_recipes:run(A, Text, [{'Node', Name}])]),
    3 = length([ok || {config, Text} <- Recipes, bp_recipes:config_ok(A, Text)]).

errors(Config) ->
    {A, B} = pair(Config),
    ?EQ({error, not_connected},
        bp_cluster:run(A, fun() -> barrel_p2p:migrate_peer(nobody@nowhere) end)),
    [?EQ({error, {bad_option, Option}}, migrate(A, B, maps:from_list([Option])))
     || Option <- [{timeout, 0}, {timeout, soon}, {local, "10.77.0"}, {local, {"10.77.0.1", 65536}},
                   {local, {1, 2, 3}}, {remote, any}]],
    {error, {bad_option, {local, _}}} = migrate(A, B, #{local => "::1"}),
    {error, {system_error, <<"Cannot assign requested address">>}} =
        migrate(A, B, #{local => "10.77.0.99"}),
    %% three at once: two of them are told so, and wait for nothing
    bp_wan:set(?config(link, Config), "delay=300ms"),
    Name = bp_cluster:name(B),
    Results = bp_cluster:run(A, fun() ->
        Self = self(),
        Pids = [spawn_link(fun() -> Self ! {self(), barrel_p2p:migrate_peer(Name)} end)
                || _ <- lists:seq(1, 3)],
        [receive {P, R} -> R end || P <- Pids]
    end),
    ?EQ([ok, {error, busy}, {error, busy}], lists:sort(Results)),
    %% the connection ends meanwhile
    bp_wan:set(?config(link, Config), "down=1"),
    ?EQ({error, not_connected},
        bp_cluster:run(A, fun() ->
            spawn(fun() -> timer:sleep(200), erlang:disconnect_node(Name) end),
            barrel_p2p:migrate_peer(Name, #{timeout => 60000})
        end)).
