%% SPDX-License-Identifier: Apache-2.0
%% What rides on a connection while it moves from path to path: user streams, links and monitors.
-module(move_load_SUITE).

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([streams_ride_through_moves/1, streams_off_a_dead_path/1,
         links_and_monitors_ride_through_moves/1]).

-include_lib("common_test/include/ct.hrl").
-include("bp_test.hrl").

-import(bp_move, [pair/1, migrate/3, summary/2, address/3, watch/2, watched/2, finish/1, report/2]).

-define(DELAY, 10). % one way, ms
-define(MOVES, 100).

suite() -> [{timetrap, {seconds, 180}}].

all() -> [streams_ride_through_moves, streams_off_a_dead_path,
          links_and_monitors_ride_through_moves].

init_per_suite(Config) -> bp_cluster:only(quic, Config).

end_per_suite(_) -> ok.

init_per_testcase(Case, Config) ->
    bp_move:init_case(?MODULE, Case, ["--delay", integer_to_list(?DELAY) ++ "ms", "--rate", "80mbit",
                                      "--queue", "512k"], Config).

end_per_testcase(_, Config) ->
    bp_move:end_case(Config).

%% Between addresses and ports; Each(I) at the same time.
moves(A, B, Each) ->
    Ips = [bp_move:own() | bp_move:more()],
    Took = lists:map(fun(I) ->
        Opts = case I rem 4 of
                   0 -> #{};
                   N -> #{local => {lists:nth(N, Ips), 20000 + I}}
               end,
        Each(I),
        Start = erlang:monotonic_time(millisecond),
        ?EQ({I, ok}, {I, migrate(A, B, Opts)}),
        End = erlang:monotonic_time(millisecond),
        timer:sleep(4 * ?DELAY),
        End - Start
    end, lists:seq(1, ?MOVES)),
    report("~b moves: took p50, p99, max ~w ms", [?MOVES, bp_wan:percentiles(Took)]),
    ?EQ(?MOVES, maps:get(migrations, summary(A, B))),
    true = maps:get(migrations, summary(B, A)) >= ?MOVES div 2.

%% {Node, Writer} of a stream from X to Y.
stream({X, Y}, Opts) ->
    Name = bp_cluster:name(Y),
    {X, bp_cluster:run(X, fun() -> bp_stream_load:start(Name, Opts) end)}.

ended({X, Writer}) ->
    bp_cluster:run(X, fun() -> bp_stream_load:finish(Writer) end, 100000).

serve(Nodes) ->
    [{N, bp_cluster:call(N, bp_stream_load, serve, [])} || N <- Nodes].

no_stream_left(Nodes) ->
    [begin
        bp_cluster:until(fun() -> bp_streams:streams(N) =:= 0 end),
        ?EQ({0, 0}, {bp_streams:counter(N, <<"user_streams_reset_by_peer">>),
                     bp_streams:counter(N, <<"user_streams_refused">>)})
     end || N <- Nodes].

%% Bulk in both directions, a reader that is slow, streams that begin and end meanwhile, messages.
streams_ride_through_moves(Config) ->
    {A, B} = pair(Config),
    [address(Config, "add", Ip) || Ip <- bp_move:more()],
    Servers = serve([A, B]),
    Watches = [{A, watch(A, B)}, {B, watch(B, A)}],
    Loads = bp_move:numbered({A, B}, #{senders => 3, size => 2000, pause => 20}),
    Ways = [{A, B}, {B, A}],
    Bulk = [stream(Way, #{}) || Way <- Ways, _ <- [1, 2, 3]],
    Slow = [stream(Way, #{pause => 300}) || Way <- Ways],
    put(short, []),
    moves(A, B, fun(I) when I rem 5 =:= 0 ->
                        put(short, [stream(lists:nth(I div 5 rem 2 + 1, Ways), #{bytes => 200000})
                                    | get(short)]);
                   (_) -> ok
                end),
    %% the slow ones wait for their readers, and nobody for them
    Unread = [bp_streams:counter(N, <<"user_unread_bytes">>) || N <- [A, B]],
    Sizes = [ended(S) || S <- Bulk],
    [ok = bp_cluster:call(N, bp_stream_load, hurry, [S]) || {N, S} <- Servers],
    SlowSizes = [ended(S) || S <- Slow],
    [?EQ(200000, ended(S)) || S <- get(short)],
    report("bulk ~w bytes; slow ~w, ~w not read at the end of the moves; ~b short ones; ~w messages",
           [Sizes, SlowSizes, Unread, length(get(short)), finish(Loads)]),
    [true = S > 1000000 || S <- Sizes],
    [true = U > 100000 || U <- Unread],
    ?EQ([[], []], [watched(N, W) || {N, W} <- Watches]),
    no_stream_left([A, B]).

%% Nothing but streams is there to tell that the path is dead.
streams_off_a_dead_path(Config) ->
    {A, B} = pair(Config),
    _ = serve([A, B]),
    Watches = [{A, watch(A, B)}, {B, watch(B, A)}],
    Bulk = [stream(Way, #{}) || Way <- [{A, B}, {B, A}]],
    [Lost | _] = bp_move:more(),
    Took = [begin
        address(Config, "add", Lost),
        ?EQ(ok, migrate(A, B, #{local => Lost})),
        timer:sleep(10 * ?DELAY),
        address(Config, "del", Lost),
        bp_cluster:until(fun() -> maps:get(in_recovery, summary(A, B)) end),
        Start = erlang:monotonic_time(millisecond),
        ?EQ({I, ok}, {I, migrate(A, B, #{local => bp_move:own(), timeout => 3000})}),
        erlang:monotonic_time(millisecond) - Start
     end || I <- lists:seq(1, 10)],
    Sizes = [ended(S) || S <- Bulk],
    report("10 moves off a dead path took ~w ms; ~w bytes", [Took, Sizes]),
    ?EQ([[], []], [watched(N, W) || {N, W} <- Watches]),
    no_stream_left([A, B]).

%% ---- links and monitors ----

-define(PROCS, 300).

%% Set before the moves and between them; none fires while the connection moves. Some end during the
%% last moves, the rest afterwards: each fires once, for its own reason.
links_and_monitors_ride_through_moves(Config) ->
    {A, B} = pair(Config),
    [address(Config, "add", Ip) || Ip <- bp_move:more()],
    Watches = [{A, watch(A, B)}, {B, watch(B, A)}],
    Loads = bp_move:numbered({A, B}, #{senders => 3, size => 2000, pause => 20}),
    Owners = [owner(X, Y, Kind) || {X, Y} <- [{A, B}, {B, A}], Kind <- [link, monitor]],
    moves(A, B, fun(I) when I > 20, I =< 80, I rem 10 =:= 0 ->
                        [ok = ask(O, {add, ?PROCS div 10}) || O <- Owners];
                   (85) ->
                        ?EQ([[], [], [], []], [ask(O, fired) || O <- Owners]),
                        [ok = ask(O, {finish, 3}) || O <- Owners];
                   (_) -> ok
                end),
    [ok = ask(O, {finish, 1}) || O <- Owners],
    Counts = [ask(O, result) || O <- Owners],
    report("~b moves: ~w links and monitors, each fired once for its own reason", [?MOVES, Counts]),
    [?EQ(?PROCS + 6 * (?PROCS div 10), N) || N <- Counts],
    _ = finish(Loads),
    ?EQ([[], []], [watched(N, W) || {N, W} <- Watches]).

owner(X, Y, Kind) ->
    Name = bp_cluster:name(Y),
    {X, bp_cluster:run(X, fun() -> bp_signals:start(Name, Kind, ?PROCS) end)}.

ask({X, Owner}, What) ->
    bp_cluster:run(X, fun() -> bp_signals:ask(Owner, What) end, 100000).
