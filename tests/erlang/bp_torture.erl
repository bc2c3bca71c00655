%% SPDX-License-Identifier: Apache-2.0
%% Signal order for as long as you like, on a network as bad as you like: `scripts/torture'.
-module(bp_torture).

-export([main/0]).

%% Rounds of one case at a time; all cases run side by side.
-define(PORTION, 40).

%% Environment: TORTURE_ROUNDS; WAN_A, WAN_B, WAN_EXEC_B from scripts/wan (without them: loopback).
-spec main() -> no_return().
main() ->
    Wanted = list_to_integer(os:getenv("TORTURE_ROUNDS", "100000")),
    Config = bp_cluster:init_dir("torture", []),
    [A, B] = bp_cluster:start_many(Config, [side(a), side(b)]),
    bp_cluster:until(fun() -> bp_cluster:connect(A, B) end),
    Start = erlang:monotonic_time(second),
    Self = self(),
    Watch = spawn(fun() -> watch(A, B, Self) end),
    Result = rounds(A, bp_cluster:name(B), Wanted, 0, Start),
    exit(Watch, kill),
    Seconds = erlang:monotonic_time(second) - Start,
    Status = case Result of
                 {ok, Done} ->
                     io:format("~b rounds in ~b s, no violation~n", [Done, Seconds]),
                     0;
                 {violation, Done, Reason} ->
                     io:format("VIOLATION after ~b rounds, ~b s:~n~0P~n~ts~n",
                               [Done, Seconds, Reason, 60, bp_cluster:dir(Config)]),
                     1
             end,
    bp_cluster:end_suite(bp_cluster:dir(Config)),
    halt(Status).

side(Side) ->
    Args = #{name => Side, args => ["+zdbbl", "65536"]},
    case {os:getenv("WAN_A"), Side} of
        {false, _} -> Args;
        {Ip, a} -> Args#{node => node_at(a, Ip)};
        {_, b} -> Args#{node => node_at(b, os:getenv("WAN_B")),
                        prefix => string:lexemes(os:getenv("WAN_EXEC_B"), " ")}
    end.

node_at(Side, Ip) ->
    list_to_atom(bp_cluster:unique(atom_to_list(Side)) ++ "@" ++ Ip).

%% A connection that was lost would hide what was on it.
watch(A, B, Report) ->
    timer:sleep(1000),
    case lists:member(bp_cluster:name(B), bp_cluster:call(A, erlang, nodes, [])) of
        true -> watch(A, B, Report);
        false -> Report ! connection_lost
    end.

rounds(_A, _B, Wanted, Done, _Start) when Done >= Wanted ->
    {ok, Done};
rounds(A, B, Wanted, Done, Start) ->
    Jobs = [{Case, bp_cluster:async(fun() ->
                bp_cluster:run(A, fun() -> bp_order:run(Case, B, ?PORTION) end, 600000)
            end, [])} || {Case, _} <- bp_order:cases()],
    Results = [{Case, try {ok, bp_cluster:await(Job)} catch _:R -> {failed, R} end}
               || {Case, Job} <- Jobs],
    Sum = Done + lists:sum([N || {_, {ok, N}} <- Results]),
    Lost = receive connection_lost -> [connection_lost] after 0 -> [] end,
    case [R || {_, {failed, _}} = R <- Results] ++ Lost of
        [] ->
            io:format("~b rounds, ~b s~n", [Sum, erlang:monotonic_time(second) - Start]),
            rounds(A, B, Wanted, Sum, Start);
        Bad ->
            {violation, Sum, Bad}
    end.
