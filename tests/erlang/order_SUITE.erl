%% SPDX-License-Identifier: Apache-2.0
%% OTP's signal order: all signals from one process to another arrive in the order sent, whatever
%% names they used, and a spawn reply comes before anything else from the new process.
%%
%% The loads are bp_order's. They run over loopback, then with datagrams lost (a test build of the
%% driver loses 2 % of what it sends), and once more with a driver that routes wrongly: that one
%% must be caught, or these tests show nothing.
%% ORDER_ROUNDS (default 200) scales every case.
-module(order_SUITE).

-include_lib("common_test/include/ct.hrl").
-include("bp_test.hrl").

%% The other sorts may miss it at this number of rounds.
-define(MUST_BE_CAUGHT, [names_interleaved, reply_before_exit, spawn_reply_is_first,
                         name_monitor_after_messages, large_reason_all_watchers,
                         dead_names_among_traffic, demonitor_and_alias]).

-export([suite/0, all/0, groups/0, init_per_suite/1, end_per_suite/1, init_per_group/2,
         end_per_group/2, init_per_testcase/2, end_per_testcase/2]).
-export([names_interleaved/1, reply_before_exit/1, spawn_reply_is_first/1, erpc_of_short_lived/1,
         name_monitor_after_messages/1, large_reason_all_watchers/1, group_leader_between/1,
         exit_after_messages/1, unlink_then_exit/1, dead_names_among_traffic/1,
         spawn_link_exit_at_once/1, demonitor_and_alias/1, wrong_routing_is_caught/1]).

suite() -> [{timetrap, {seconds, 120}}].

all() ->
    [{group, clean}, {group, lossy}, wrong_routing_is_caught].

groups() ->
    Cases = [Case || {Case, _} <- bp_order:cases()],
    [{clean, Cases}, {lossy, Cases}].

init_per_suite(Config) ->
    Config.

end_per_suite(_) ->
    ok.

init_per_group(lossy, Config) ->
    case bp_cluster:only(quic) of
        ok -> pair("order_SUITE.lossy", #{app => "faulty/lossy"}, Config);
        Skip -> Skip
    end;
init_per_group(clean, Config) ->
    pair("order_SUITE.clean", #{}, Config).

end_per_group(_, Config) ->
    bp_cluster:end_suite(bp_cluster:dir(Config)).

%% +zdbbl: OTP 25's VM (erts 13.1) hangs, also over TCP, when a process that ends has a second
%% large signal to send while the queue to that node is above it.
pair(Dir, Opts, Config0) ->
    Config = bp_cluster:init_dir(Dir, Config0),
    Args = ["+zdbbl", "65536"],
    [A, B] = bp_cluster:start_many(Config, [Opts#{name => a, args => Args},
                                            Opts#{name => b, args => Args}]),
    true = bp_cluster:connect(A, B),
    [{a, A}, {b, B} | Config].

init_per_testcase(wrong_routing_is_caught = Case, Config) ->
    case bp_cluster:only(quic) of
        ok -> bp_cluster:init_case(?MODULE, Case, Config);
        Skip -> Skip
    end;
%% A connection that was lost under way would hide what was on it: none may be.
init_per_testcase(_, Config) ->
    {A, B} = {?config(a, Config), ?config(b, Config)},
    true = bp_cluster:connect(A, B),
    [{watch, bp_cluster:run(A, fun watch/0)} | Config].

watch() ->
    spawn(fun() ->
        ok = net_kernel:monitor_nodes(true),
        receive
            {get, From} -> From ! {self(), no};
            _Down -> receive {get, From} -> From ! {self(), went_down} end
        end
    end).

end_per_testcase(wrong_routing_is_caught, Config) ->
    bp_cluster:end_case(Config);
end_per_testcase(_, Config) ->
    Watch = ?config(watch, Config),
    Down = bp_cluster:run(?config(a, Config), fun() ->
        Watch ! {get, self()},
        receive {Watch, Answer} -> Answer after 5000 -> watcher_gone end
    end),
    case Down of
        no -> ok;
        _ -> {fail, {connection_lost_during_case, Down}}
    end.

rounds() ->
    list_to_integer(os:getenv("ORDER_ROUNDS", "200")).

in_order(Case, Config) ->
    B = bp_cluster:name(?config(b, Config)),
    N = rounds(),
    Rounds = bp_cluster:run(?config(a, Config), fun() -> bp_order:run(Case, B, N) end, 110000),
    ct:pal("~b rounds", [Rounds]).

names_interleaved(Config) -> in_order(names_interleaved, Config).
reply_before_exit(Config) -> in_order(reply_before_exit, Config).
spawn_reply_is_first(Config) -> in_order(spawn_reply_is_first, Config).
erpc_of_short_lived(Config) -> in_order(erpc_of_short_lived, Config).
name_monitor_after_messages(Config) -> in_order(name_monitor_after_messages, Config).
large_reason_all_watchers(Config) -> in_order(large_reason_all_watchers, Config).
group_leader_between(Config) -> in_order(group_leader_between, Config).
exit_after_messages(Config) -> in_order(exit_after_messages, Config).
unlink_then_exit(Config) -> in_order(unlink_then_exit, Config).
dead_names_among_traffic(Config) -> in_order(dead_names_among_traffic, Config).
spawn_link_exit_at_once(Config) -> in_order(spawn_link_exit_at_once, Config).
demonitor_and_alias(Config) -> in_order(demonitor_and_alias, Config).

%% A driver that sends messages over its streams in turn, whoever they are for, and loses
%% datagrams: loads must fail, the sort by sort or with the connection.
wrong_routing_is_caught(Config0) ->
    Config = pair(filename:basename(bp_cluster:dir(Config0)), #{app => "faulty/wrong_order"},
                  Config0),
    {A, B} = {?config(a, Config), ?config(b, Config)},
    NB = bp_cluster:name(B),
    Results = [{Case, caught(Case, A, NB)} || {Case, _} <- bp_order:cases()],
    ct:pal("~p", [Results]),
    ?EQ([], [Case || {Case, in_order} <- Results, lists:member(Case, ?MUST_BE_CAUGHT)]).

caught(Case, A, B) ->
    bp_cluster:until(fun() -> bp_cluster:call(A, net_kernel, connect_node, [B]) end),
    bp_cluster:run(A, fun() ->
        {P, M} = spawn_monitor(fun() -> bp_order:run(Case, B, 100) end),
        receive
            {'DOWN', M, process, P, normal} -> in_order;
            {'DOWN', M, process, P, Reason} -> {caught, first_words(Reason)}
        after 8000 ->
            exit(P, kill),
            {caught, stalled}   % waits for what was overtaken
        end
    end).

first_words(Reason) ->
    lists:flatten(io_lib:format("~0P", [Reason, 30])).
