%% SPDX-License-Identifier: Apache-2.0
%% What small messages cost on the wire between two real nodes: acknowledgements ride on answers, and
%% go alone, soon, where there is none.
-module(dialogue_SUITE).

-include_lib("common_test/include/ct.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1]).
-export([a_message_is_a_datagram/1, what_has_no_answer_is_acknowledged/1,
         a_connect_goes_on_with_the_last_one/1]).
-export([echo/0]).

%% Few, so that one of many tries is left alone by whatever else the machine does.
-define(TRIPS, 200).
-define(PATIENCE_MS, 40000).

suite() -> [{timetrap, {seconds, 90}}].

all() ->
    [a_message_is_a_datagram, what_has_no_answer_is_acknowledged,
     a_connect_goes_on_with_the_last_one].

init_per_suite(Config0) ->
    Config = bp_cluster:init_dir("dialogue_SUITE", Config0),
    [A, B] = bp_cluster:start_many(Config, [#{name => N, args => ["-connect_all", "false"]}
                                            || N <- [a, b]]),
    true = bp_cluster:connect(A, B),
    [{a, A}, {b, B} | Config].

end_per_suite(Config) ->
    bp_cluster:end_suite(bp_cluster:dir(Config)).

%% Of several tries, because a machine that pauses a node for a millisecond between a message and its
%% answer makes it acknowledge alone.
a_message_is_a_datagram(Config) ->
    {A, B} = {?config(a, Config), ?config(b, Config)},
    Extra = tries(fun() -> extra_datagrams(A, B) end, fun(N) -> N =< ?TRIPS div 50 end),
    ct:log("datagrams besides one for each of ~b messages: ~b", [2 * ?TRIPS, Extra]).

extra_datagrams(A, B) ->
    NameB = bp_cluster:name(B),
    Echo = bp_cluster:run(A, fun() -> spawn(NameB, ?MODULE, echo, []) end, 10000),
    _ = trips(A, Echo, 50),
    Before = sent(A, B) + sent(B, A),
    _ = trips(A, Echo, ?TRIPS),
    After = sent(A, B) + sent(B, A),
    _ = bp_cluster:run(A, fun() -> exit(Echo, kill) end, 10000),
    After - Before - 2 * ?TRIPS.

trips(A, Echo, N) ->
    bp_cluster:run(A, fun() -> [begin Echo ! {self(), I}, receive I -> ok end end
                                || I <- lists:seq(1, N)], ok end, 60000).

echo() ->
    receive {From, What} -> From ! What end,
    echo().

%% ... by a clock that stops when nobody waits.
what_has_no_answer_is_acknowledged(Config) ->
    {A, B} = {?config(a, Config), ?config(b, Config)},
    NameB = bp_cluster:name(B),
    Before = ticks(B),
    _ = tries(fun() ->
                  _ = bp_cluster:run(A, fun() -> {nobody, NameB} ! hello end, 10000),
                  ticks(B) - Before
              end, fun(N) -> N > 0 end),
    0 = tries(fun() -> stat(A, B, <<"bytes_in_flight">>) end, fun(N) -> N =:= 0 end),
    0 = tries(fun() ->
                  T0 = ticks(B),
                  timer:sleep(50), % of a clock that would tick 50 times
                  ticks(B) - T0
              end, fun(N) -> N =:= 0 end).

%% Though that ended at once. And the dialler sends four datagrams until it is up, mostly with the
%% first message of OTP's own: its name goes with the proof of its identity.
a_connect_goes_on_with_the_last_one(Config) ->
    {A, B} = {?config(a, Config), ?config(b, Config)},
    NameB = bp_cluster:name(B),
    tries(fun() ->
              Connects = bp_cluster:run(A, fun() -> [connect(NameB) || _ <- lists:seq(1, 40)] end,
                                        60000),
              ct:log("tls_resumed, datagrams sent: ~p", [Connects]),
              {length([1 || {1, _} <- Connects]), length([N || {_, N} <- Connects, N =< 4])}
          end, fun({Resumed, Few}) -> Resumed >= 30 andalso Few >= 10 end).

connect(To) ->
    _ = erlang:disconnect_node(To),
    gone(To),
    timer:sleep(20),            % for the other side to see the end
    true = net_kernel:connect_node(To),
    {To, Port} = lists:keyfind(To, 1, erlang:system_info(dist_ctrl)),
    {ok, #{<<"tls_resumed">> := Resumed, <<"packets_sent">> := N}} = barrel_p2p_drv_conn:stats(Port),
    {Resumed, N}.

gone(Node) ->
    lists:member(Node, nodes(connected)) andalso begin timer:sleep(1), gone(Node) end.

%% --- local -----------------------------------------------------------------

%% The first result that will do.
tries(F, Good) ->
    tries(F, Good, erlang:monotonic_time(millisecond) + ?PATIENCE_MS).

tries(F, Good, Deadline) ->
    Result = F(),
    case {Good(Result), erlang:monotonic_time(millisecond) < Deadline} of
        {true, _} -> Result;
        {false, true} -> tries(F, Good, Deadline);
        {false, false} -> ct:fail({last_of_all_tries, Result})
    end.

sent(From, To) ->
    stat(From, To, <<"packets_sent">>).

stat(From, To, Counter) ->
    NameTo = bp_cluster:name(To),
    bp_cluster:run(From, fun() ->
                       {NameTo, Port} = lists:keyfind(NameTo, 1, erlang:system_info(dist_ctrl)),
                       {ok, #{Counter := N}} = barrel_p2p_drv_conn:stats(Port),
                       N
                   end, 10000).

ticks(Node) ->
    bp_cluster:run(Node, fun() ->
                       {ok, #{<<"ack_clock_ticks">> := N}} = barrel_p2p_drv:stats(),
                       N
                   end, 10000).
