%% SPDX-License-Identifier: Apache-2.0
%% Connections that are moved by themselves (docs/migration.md): what the log says, and that nothing
%% that comes and goes makes a storm of moves.
-module(path_watch_SUITE).

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([flapping_address/1, flapping_path/1, what_the_log_says/1]).

-include_lib("common_test/include/ct.hrl").
-include("bp_test.hrl").

-import(bp_move, [pair/3, summary/2, address/3, watch/2, watched/2, finish/1, report/2]).

-define(DELAY, 10). % one way, ms
%% Of barrel_p2p_path_watch.
-define(BURST, 4).
-define(REFILL_MS, 15000).

suite() -> [{timetrap, {seconds, 120}}].

all() -> [flapping_address, flapping_path, what_the_log_says].

init_per_suite(Config) -> bp_cluster:only(quic, Config).

end_per_suite(_) -> ok.

init_per_testcase(Case, Config) ->
    bp_move:init_case(?MODULE, Case, ["--delay", integer_to_list(?DELAY) ++ "ms"], Config).

end_per_testcase(_, Config) ->
    bp_move:end_case(Config).

%% ---- helpers ----

%% Two nodes with load and watches; a watches its paths.
watching(Config, Key, Value) ->
    {A, B} = pair(Config, ["-barrel_p2p", Key, Value], []),
    {ok, _} = bp_cluster:call(A, application, ensure_all_started, [barrel_p2p]),
    Loads = bp_move:numbered({A, B}, #{senders => 2, size => 1000, pause => 20}),
    {A, B, Loads, [{A, watch(A, B)}, {B, watch(B, A)}]}.

undisturbed(Loads, Watches) ->
    [true = N > 0 || N <- finish(Loads)],
    ?EQ([[], []], [watched(N, W) || {N, W} <- Watches]).

stats(A) ->
    bp_cluster:call(A, barrel_p2p_path_watch, stats, []).

route(Config, Source) ->
    [] = bp_wan:in_side(?config(link, Config), a,
                        ["ip", "route", "replace", "10.77.0.2/32", "dev", "wan0", "src", Source]),
    ok.

local_ip(A, B) ->
    element(1, maps:get(local, summary(A, B))).

now_ms() -> erlang:monotonic_time(millisecond).

%% Does Change(I) N times, Ms apart; how many moves there were, and how many there may be. Gives when
%% it began.
flap(A, N, Ms, Change) ->
    Start = now_ms(),
    [begin
        Change(I),
        timer:sleep(Ms)
     end || I <- lists:seq(1, N)],
    #{moved := Moved, failed := Failed, put_off := PutOff} = stats(A),
    Allowed = ?BURST + (now_ms() - Start) div ?REFILL_MS + 1,
    report("~b changes in ~b ms: ~b moves, ~b failed, ~b times put off", 
           [N, now_ms() - Start, Moved, Failed, PutOff]),
    true = Moved + Failed =< Allowed,
    %% all of what it may, and there was more to do
    true = Moved >= ?BURST,
    true = PutOff >= 1,
    Start.

%% ---- cases ----

%% The address that the kernel prefers changes twice a second. In the end the connection is where it
%% is to be, without another change that tells of it.
flapping_address(Config) ->
    {A, B, Loads, Watches} = watching(Config, "migrate_on_route_change", "true"),
    [New, _] = bp_move:more(),
    address(Config, "add", New),
    Start = flap(A, 24, 500, fun(I) ->
        route(Config, case I rem 2 of 0 -> bp_move:own(); 1 -> New end)
    end),
    bp_cluster:wait_log(A, ["path_watch", atom_to_list(bp_cluster:name(B)), "too_often",
                            "it was moved 4 times lately, and is not moved for"]),
    Wanted = case local_ip(A, B) of
                 {10, 77, 0, 1} -> route(Config, New), {10, 77, 0, 11};
                 _ -> route(Config, bp_move:own()), {10, 77, 0, 1}
             end,
    timer:sleep(1000),
    bp_cluster:until(fun() -> local_ip(A, B) =:= Wanted end, 2 * ?REFILL_MS),
    %% one at a time, for as long as it takes to have another move
    #{put_off := PutOff} = stats(A),
    true = PutOff =< 2 + (now_ms() - Start) div ?REFILL_MS,
    undisturbed(Loads, Watches).

%% The round trip is long and short by turns.
flapping_path(Config) ->
    {A, B, Loads, Watches} = watching(Config, "migration_watchdog",
                                      "[{srtt_ms,150},{strikes,1},{period_ms,100}]"),
    Link = ?config(link, Config),
    true = maps:get(srtt, summary(A, B)) < 150000,
    _ = flap(A, 16, 900, fun(I) ->
        bp_wan:set(Link, case I rem 2 of 0 -> "delay=10ms"; 1 -> "delay=120ms" end)
    end),
    bp_cluster:wait_log(A, ["path_watch", "too_often", "the round trip takes"]),
    undisturbed(Loads, Watches).

%% One line for each move: which peer, why, what came of it.
what_the_log_says(Config) ->
    {A, B, Loads, Watches} = watching(Config, "migrate_on_route_change", "true"),
    Name = atom_to_list(bp_cluster:name(B)),
    [New, _] = bp_move:more(),
    address(Config, "add", New),
    route(Config, New),
    bp_cluster:wait_log(A, ["path_watch peer=" ++ Name, "reason=moved",
                            "the way to it begins at 10.77.0.11 now, not at 10.77.0.1: "
                            "it was moved to another path"]),
    %% it is counted when whoever wrote the line has ended
    bp_cluster:until(fun() -> stats(A) =:= #{moved => 1, failed => 0, put_off => 0} orelse stats(A) end),
    ?EQ(1, length(binary:matches(bp_cluster:log(A), <<"path_watch peer=">>))),
    undisturbed(Loads, Watches).
