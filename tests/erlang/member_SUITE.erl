%% SPDX-License-Identifier: Apache-2.0
%% Membership on real nodes: joining, events, leaving, failures, messages that are none.
-module(member_SUITE).

-include("bp_test.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([join_and_leave_are_told/1, contact_nodes_are_joined/1, contact_that_comes_late_is_joined/1,
         channels_are_no_links/1, subscribers_come_and_go/1, killed_peer_is_told/1,
         failed_join_is_told/1, nonsense_is_counted/1, bad_configuration_is_refused/1,
         upstream_records_are_understood/1, thirty_nodes_lose_a_third/1]).

suite() -> [{timetrap, {seconds, 400}}].

all() ->
    [join_and_leave_are_told, contact_nodes_are_joined, contact_that_comes_late_is_joined,
     channels_are_no_links, subscribers_come_and_go, killed_peer_is_told, failed_join_is_told,
     nonsense_is_counted, bad_configuration_is_refused, upstream_records_are_understood,
     thirty_nodes_lose_a_third].

init_per_suite(Config) -> bp_cluster:only(quic, Config).

end_per_suite(_) -> ok.

init_per_testcase(Case, Config) -> bp_cluster:init_case(?MODULE, Case, Config).

end_per_testcase(_, Config) ->
    bp_cluster:end_case(Config).

%% `global' would connect everybody with everybody.
start(Config, Names) ->
    start(Config, Names, []).

start(Config, Names, Env) ->
    Args = ["-connect_all", "false", "-kernel", "prevent_overlapping_partitions", "false"],
    Nodes = some_at_a_time(Config, [#{name => N, args => Args} || N <- Names]),
    [app(N, Env) || N <- Nodes],
    Nodes.

%% Thirty that boot at once on a slow machine would all take too long.
some_at_a_time(_, []) ->
    [];
some_at_a_time(Config, Opts) ->
    {Now, Later} = lists:split(min(6, length(Opts)), Opts),
    bp_cluster:start_many(Config, Now) ++ some_at_a_time(Config, Later).

app(N, Env) ->
    _ = bp_cluster:call(N, application, load, [barrel_p2p]),
    [ok = bp_cluster:call(N, application, set_env, [barrel_p2p, K, V]) || {K, V} <- Env],
    {ok, _} = bp_cluster:call(N, application, ensure_all_started, [barrel_p2p]),
    ok.

api(N, Fun, Args) ->
    bp_cluster:call(N, barrel_p2p, Fun, Args).

%% A process in the node that keeps the events.
watch(N) ->
    bp_cluster:run(N, fun() ->
        Me = self(),
        Pid = spawn(fun() ->
            ok = barrel_p2p:subscribe(),
            Me ! {self(), ready},
            keep([])
        end),
        receive {Pid, ready} -> Pid end
    end).

keep(Seen) ->
    receive
        {barrel_p2p_event, E} -> keep([E | Seen]);
        {get, From} ->
            From ! {self(), lists:reverse(Seen)},
            keep(Seen)
    end.

events(N, Pid) ->
    bp_cluster:run(N, fun() ->
        Pid ! {get, self()},
        receive {Pid, Seen} -> Seen after ?LONG -> error(watcher_silent) end
    end).

saw(N, Pid, Event) ->
    bp_cluster:until(fun() -> lists:member(Event, events(N, Pid)) end).

%% ---- cases ----

join_and_leave_are_told(Config) ->
    [A, B] = start(Config, [a, b]),
    {Na, Nb} = {bp_cluster:name(A), bp_cluster:name(B)},
    {Wa, Wb} = {watch(A), watch(B)},
    ?EQ({error, cannot_join_self}, api(A, join, [Na])),
    ?EQ(ok, api(A, join, [Nb])),
    [saw(N, W, E) || {N, W, E} <- [{A, Wa, joined}, {A, Wa, {peer_up, Nb}},
                                  {B, Wb, joined}, {B, Wb, {peer_up, Na}}]],
    ?EQ([Nb], api(A, active_view, [])),
    ?EQ([Na], api(B, active_view, [])),
    ?EQ(ok, api(A, leave, [])),
    saw(A, Wa, left),
    saw(B, Wb, {peer_down, Na, graceful}),
    ?EQ([], api(A, active_view, [])),
    ?EQ([Na], api(B, nodes, [], erlang)),       % the channel stays
    ?EQ(ok, api(A, join, [Nb])),
    bp_cluster:until(fun() -> api(B, active_view, []) =:= [Na] end),
    %% b's answer to a may be on its way
    bp_cluster:until(fun() -> length([E || E <- events(A, Wa), E =:= joined]) =:= 2 end).

api(N, Fun, Args, Mod) ->
    bp_cluster:call(N, Mod, Fun, Args).

contact_nodes_are_joined(Config) ->
    [A] = start(Config, [a]),
    Na = bp_cluster:name(A),
    [B, C] = start(Config, [b, c], [{contact_nodes, [Na]}, {contact_retry_ms, 500}]),
    bp_cluster:until(fun() ->
        lists:sort(api(A, active_view, [])) =:= lists:sort([bp_cluster:name(B), bp_cluster:name(C)])
    end).

%% A contact that is not there, and one on which membership does not run yet.
contact_that_comes_late_is_joined(Config) ->
    [A] = bp_cluster:start_many(Config, [#{name => a, args => ["-connect_all", "false"]}]),
    Na = bp_cluster:name(A),
    [B] = start(Config, [b], [{contact_nodes, ['nobody@127.0.0.1', Na]}, {contact_retry_ms, 300}]),
    bp_cluster:until(fun() -> #{<<"attempts_failed">> := N} = stats(B), N > 3 end),
    W = watch(B),
    ok = api(B, join, [Na]),
    saw(B, W, {peer_down, Na, connect_failed}),
    ?EQ([], api(B, active_view, [])),
    app(A, []),
    bp_cluster:until(fun() -> api(A, active_view, []) =:= [bp_cluster:name(B)] end),
    bp_cluster:until(fun() -> api(B, active_view, []) =:= [Na] end),
    ?EQ([joined, {peer_up, Na}], lists:sort([E || E <- events(B, W), E =/= {peer_down, Na, connect_failed}])).

stats(N) -> bp_cluster:call(N, barrel_p2p_bridge, stats, []).

%% A node that comes up is no link; a link whose channel is closed is over, at both ends.
channels_are_no_links(Config) ->
    [A, B] = start(Config, [a, b]),
    {Na, Nb} = {bp_cluster:name(A), bp_cluster:name(B)},
    Ws = [{A, watch(A)}, {B, watch(B)}],
    true = bp_cluster:connect(A, B),
    ?EQ(Nb, bp_cluster:call(A, erpc, call, [Nb, erlang, node, []])),
    ?EQ([[], []], [api(N, active_view, []) || N <- [A, B]]),
    ?EQ([[], []], [api(N, passive_view, []) || N <- [A, B]]),
    ?EQ([[], []], [events(N, W) || {N, W} <- Ws]),
    ok = api(A, join, [Nb]),
    [saw(N, W, {peer_up, P}) || {{N, W}, P} <- lists:zip(Ws, [Nb, Na])],
    bp_cluster:disconnect(A, B),
    [saw(N, W, {peer_down, P, nodedown}) || {{N, W}, P} <- lists:zip(Ws, [Nb, Na])].

%% For others as well; each event once, however often one subscribes; none after unsubscribe/1.
subscribers_come_and_go(Config) ->
    [A, B] = start(Config, [a, b]),
    Nb = bp_cluster:name(B),
    Ws = [watch(A) || _ <- [1, 2, 3]],
    [_, Twice, Gone] = Ws,
    ok = api(A, subscribe, [Twice]),
    ok = api(A, subscribe, [Twice]),
    ok = api(A, unsubscribe, [Gone]),
    ok = api(A, unsubscribe, [Gone]),
    Dead = bp_cluster:run(A, fun() -> spawn(fun() -> barrel_p2p:subscribe() end) end),
    bp_cluster:until(fun() -> not bp_cluster:call(A, erlang, is_process_alive, [Dead]) end),
    ok = api(A, join, [Nb]),
    [saw(A, W, joined) || W <- [hd(Ws), Twice]],
    ok = api(A, unsubscribe, [Twice]),
    ok = api(A, leave, []),
    saw(A, hd(Ws), left),
    ?EQ([[joined, {peer_up, Nb}], []], [lists:sort(events(A, W)) || W <- [Twice, Gone]]),
    ?EQ(lists:sort([joined, left, {peer_down, Nb, graceful}, {peer_up, Nb}]),
        lists:sort(events(A, hd(Ws)))).

killed_peer_is_told(Config) ->
    [A, B] = start(Config, [a, b]),
    Wa = watch(A),
    Nb = bp_cluster:name(B),
    ok = api(A, join, [Nb]),
    saw(A, Wa, {peer_up, Nb}),
    bp_cluster:kill9(B),
    saw(A, Wa, {peer_down, Nb, nodedown}),
    ?EQ([], api(A, active_view, [])).

failed_join_is_told(Config) ->
    [A] = start(Config, [a]),
    Wa = watch(A),
    ok = api(A, join, ['nobody@127.0.0.1']),
    saw(A, Wa, {peer_down, 'nobody@127.0.0.1', connect_failed}).

%% Whatever an authenticated peer sends to the bridge: it lives and says what it did not take.
nonsense_is_counted(Config) ->
    [A, B] = start(Config, [a, b]),
    {Na, Nb} = {bp_cluster:name(A), bp_cluster:name(B)},
    ok = api(A, join, [Nb]),
    bp_cluster:until(fun() -> api(B, active_view, []) =:= [Na] end),
    Pid = bp_cluster:call(B, erlang, whereis, [barrel_p2p_bridge]),
    P = {peer, Na, undefined, 0, undefined, true, high, undefined, 0, undefined},
    Bad = [x, {join, x}, {join, {peer, Na}}, {forward_join, P, -1, P}, {forward_join, P, a, P},
           {forward_join, x, 1, P}, {neighbor, medium, P}, {neighbor_reply, 1, P},
           {shuffle, 1.0, [], P}, {shuffle, 1, [], x}, {disconnect, [P]}],
    Odd = [{shuffle, 1 bsl 70, [P, x | improper], P}, {shuffle_reply, lists:duplicate(5000, P), P},
           {shuffle_reply, not_a_list, P}, {forward_join, setelement(2, P, ''), 3, P},
           {forward_join, setelement(2, P, 'no host'), 3, P}],
    bp_cluster:run(A, fun() ->
        [{barrel_p2p_bridge, Nb} ! {'$barrel_p2p_hyparview', node(), M} || M <- Bad ++ Odd],
        {barrel_p2p_bridge, Nb} ! {'$barrel_p2p_hyparview', "a", hd(Bad)},
        {barrel_p2p_bridge, Nb} ! {'$barrel_p2p_hyparview', Nb, hd(Bad)},
        ok
    end),
    bp_cluster:until(fun() ->
        maps:get(bad_messages, bp_cluster:call(B, barrel_p2p_bridge, stats, []), 0)
            =:= length(Bad) + 2
    end),
    ?EQ(Pid, bp_cluster:call(B, erlang, whereis, [barrel_p2p_bridge])),
    ?EQ([Na], api(B, active_view, [])).

bad_configuration_is_refused(Config) ->
    [A] = bp_cluster:start_many(Config, [#{name => a}]),
    _ = bp_cluster:call(A, application, load, [barrel_p2p]),
    [begin
         ok = bp_cluster:call(A, application, set_env, [barrel_p2p, K, V]),
         {error, Reason} = bp_cluster:call(A, application, ensure_all_started, [barrel_p2p]),
         Text = lists:flatten(io_lib:format("~p", [Reason])),
         true = string:find(Text, atom_to_list(K)) =/= nomatch,
         ok = bp_cluster:call(A, application, unset_env, [barrel_p2p, K])
     end || {K, V} <- [{active_size, 0}, {passive_size, many}, {prwl, 7}, {contact_nodes, a},
                       {shuffle_period, -1}]],
    {ok, _} = bp_cluster:call(A, application, ensure_all_started, [barrel_p2p]).

%% The messages as upstream sends them (WIRE 8.1), from a node without our bridge.
upstream_records_are_understood(Config) ->
    [A, B] = start(Config, [a, b]),
    {Na, Nb} = {bp_cluster:name(A), bp_cluster:name(B)},
    ok = bp_cluster:call(A, application, stop, [barrel_p2p]),
    Got = bp_cluster:run(A, fun() ->
        register(barrel_p2p_bridge, self()),
        true = net_kernel:connect_node(Nb),
        P = {peer, node(), {127, 0, 0, 1}, 0, undefined, true, high, undefined, 0, undefined},
        X = {peer, 'x@127.0.0.1', undefined, 0, undefined, true, high, undefined, 0, undefined},
        Send = fun(M) -> {barrel_p2p_bridge, Nb} ! {'$barrel_p2p_hyparview', node(), M} end,
        Get = fun() -> receive {'$barrel_p2p_hyparview', F, M} -> {F, M} after 20000 -> none end end,
        Send({neighbor, high, P}),
        R1 = Get(),
        Send({shuffle, 1, [P, X], P}),
        [R1, Get()]
    end, 60000),
    [{Nb, {neighbor_reply, true, {peer, Nb, _, _, _, _, _, _, _, _}}}, Second] = Got,
    %% B's own shuffle, when its time has come: to its only link.
    {Nb, {shuffle, 6, [{peer, Nb, _, _, _, _, _, _, _, _} | _],
          {peer, Nb, _, _, _, _, _, _, _, _}}} = Second,
    ?EQ([Na], api(B, active_view, [])),
    bp_cluster:until(fun() -> lists:member('x@127.0.0.1', api(B, passive_view, [])) end).

thirty_nodes_lose_a_third(Config) ->
    Names = [list_to_atom("n" ++ integer_to_list(I)) || I <- lists:seq(1, 30)],
    [Contact | Rest] = Nodes = start(Config, Names, [{shuffle_period, 1000}]),
    [ok = api(N, join, [bp_cluster:name(Contact)]) || N <- Rest],
    Formed = within(Nodes, 60000),
    {Dead, Alive} = lists:split(10, Nodes),
    %% Whoever knows only nodes that die is alone for good (docs/membership.md).
    bp_cluster:until(fun() -> [] =:= [N || N <- Alive, length(known(N)) =< length(Dead)] end,
                     60000),
    [bp_cluster:kill9(N) || N <- Dead],
    %% 10 s is what an idle machine has to show (docs/membership.md has figures)
    Again = within(Alive, 20000),
    Memory = [bp_cluster:run(N, fun() ->
        try erlang:memory(total) catch error:notsup -> 0 end    % DRIVER=asan
    end) || N <- Alive],
    Stats = [bp_cluster:call(N, barrel_p2p_bridge, stats, []) || N <- Alive],
    Channels = [length(bp_cluster:call(N, erlang, nodes, [connected])) || N <- Alive],
    Cpu = [element(1, bp_cluster:call(N, erlang, statistics, [runtime])) || N <- Alive],
    io:format(standard_error,
              "          30 nodes: one overlay after ~b ms; after 10 of them were killed again after ~b ms; per node: VM memory ~b KB, CPU since boot ~b ms, channels ~b to ~b, membership "
              "messages ~b~n",
              [Formed, Again, mean(Memory) div 1024, mean(Cpu), lists:min(Channels),
               lists:max(Channels), mean([maps:get(<<"sent">>, S) || S <- Stats])]).

mean(L) -> lists:sum(L) div length(L).

known(N) -> lists:usort(api(N, active_view, []) ++ api(N, passive_view, [])).

%% ms until the views of the nodes are one symmetric overlay within its bounds; fails after Max.
within(Nodes, Max) ->
    within(Nodes, Max, erlang:monotonic_time(millisecond)).

within(Nodes, Max, Start) ->
    Views = [{bp_cluster:name(N), api(N, active_view, [])} || N <- Nodes],
    Passed = erlang:monotonic_time(millisecond) - Start,
    [] = [V || {N, A} = V <- Views, length(A) > 5 orelse lists:member(N, A)
                                        orelse lists:usort(A) =/= lists:sort(A)],
    OneSided = [{N, P} || {N, A} <- Views, P <- A,
                          not lists:member(N, proplists:get_value(P, Views, []))],
    Reached = reach([element(1, hd(Views))], [], Views),
    case OneSided =:= [] andalso length(Reached) =:= length(Views) of
        true -> Passed;
        false when Passed > Max ->
            error({not_one_overlay, Passed, {one_sided, OneSided}, {reached, length(Reached)},
                   Views});
        false ->
            timer:sleep(100),
            within(Nodes, Max, Start)
    end.

reach([], Seen, _) -> Seen;
reach([N | Rest], Seen, Views) ->
    case lists:member(N, Seen) of
        true -> reach(Rest, Seen, Views);
        false -> reach(proplists:get_value(N, Views, []) ++ Rest, [N | Seen], Views)
    end.
