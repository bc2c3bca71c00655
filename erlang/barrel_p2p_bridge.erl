%% SPDX-License-Identifier: Apache-2.0
%% Between HyParView (a state machine in C, core/membership) and the VM: connects nodes, carries the
%% messages (WIRE 8.1), tells subscribers. It decides nothing about views itself.
-module(barrel_p2p_bridge).
-behaviour(gen_server).

-export([start_link/0, join/1, leave/0, active_view/0, passive_view/0, stats/0, subscribe/1,
         unsubscribe/1, validate/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-define(TAG, '$barrel_p2p_hyparview').
-define(MAX_PEERS, 32).             % in one shuffle
-define(MAX_AGE_MS, 16#fffffffe).
-define(AGE_UNKNOWN, 16#ffffffff).
-define(ASK, '$barrel_p2p_bridge_ask').
-define(HERE, '$barrel_p2p_bridge_here').
-define(ASK_MS, 3000).

-define(COUNTERS, [bad_messages, refused_steps, not_running, sends_without_channel,
                   sends_to_busy_channel, released]).

-record(state, {
    self :: node() | undefined,     % the name under which the state machine runs
    timer :: reference() | undefined,
    subscribers = #{} :: #{pid() => reference()},
    connecting = #{} :: #{node() => pid()},
    joins = #{} :: #{node() => true},       % that join/1 named and that are not connected yet
    made = #{} :: #{node() => true},    % channels that are there because we asked for them
    counters = maps:from_list([{C, 0} || C <- ?COUNTERS]) :: #{atom() => non_neg_integer()}
}).

%% --- interface ------------------------------------------------------------------

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% Asks Contact to take this node into its overlay; what comes of it is told by events.
-spec join(node()) -> ok | {error, cannot_join_self | term()}.
join(Contact) when is_atom(Contact) ->
    gen_server:call(?MODULE, {join, Contact}).

%% Gives up all links and forgets everybody; channels stay open.
-spec leave() -> ok | {error, term()}.
leave() ->
    gen_server:call(?MODULE, leave).

-spec active_view() -> [node()].
active_view() ->
    element(1, gen_server:call(?MODULE, views)).

-spec passive_view() -> [node()].
passive_view() ->
    element(2, gen_server:call(?MODULE, views)).

%% Counters of the state machine (core/membership/hpv_stats.def) and of this process.
-spec stats() -> #{binary() | atom() => non_neg_integer()}.
stats() ->
    gen_server:call(?MODULE, stats).

%% Pid gets {barrel_p2p_event, joined | left | {peer_up, Node} | {peer_down, Node, Reason}} with
%% Reason dropped | graceful | nodedown | connect_failed, until it ends.
-spec subscribe(pid()) -> ok.
subscribe(Pid) when is_pid(Pid) ->
    gen_server:call(?MODULE, {subscribe, Pid}).

-spec unsubscribe(pid()) -> ok.
unsubscribe(Pid) when is_pid(Pid) ->
    gen_server:call(?MODULE, {unsubscribe, Pid}).

%% --- configuration (WIRE 10.2) ---------------------------------------------------

%% {Key, number of the argument}; barrel_p2p_config_keys has the defaults and the bounds.
keys() ->
    [{active_size, 3}, {passive_size, 4}, {arwl, 5}, {prwl, 6}, {shuffle_length, 7},
     {max_fail_count, 8}, {shuffle_period, 9}, {base_backoff_ms, 10}, {passive_max_age_ms, 11},
     {passive_cleanup_period, 12}, {churn_window_ms, 13}, {pending_timeout_ms, 14},
     {swap_period_ms, 15}, {contact_retry_ms, 16}].

%% What the table of keys cannot say. Fails with {barrel_p2p, {bad_config, Key, Value, Text}}.
-spec validate() -> ok.
validate() ->
    number(prwl) =< number(arwl) orelse bad(prwl, number(prwl), "at most arwl"),
    _ = contacts(),
    ok.

number(Key) ->
    {ok, #{default := Default}} = barrel_p2p_config_keys:find(Key),
    application:get_env(barrel_p2p, Key, Default).

contacts() ->
    Nodes = application:get_env(barrel_p2p, contact_nodes, []),
    length(Nodes) =< 16 orelse bad(contact_nodes, Nodes, "at most 16 node names"),
    [contact(N) || N <- Nodes].

contact(N) when is_atom(N) -> N;
contact(N) -> binary_to_atom(unicode:characters_to_binary(N), utf8).

-spec bad(atom(), term(), iodata()) -> no_return().
bad(Key, Value, Want) ->
    erlang:error({barrel_p2p, {bad_config, Key, Value,
                               lists:flatten(["must be ", Want])}}).

config(Self) ->
    <<Seed:64>> = seed(Self),
    [{1, name(Self)}, {2, <<Seed:64>>}]
        ++ [{Arg, <<(number(Key)):32>>} || {Key, Arg} <- keys()]
        ++ [{20, name(Node)} || Node <- contacts(), Node =/= Self].

seed(Self) ->
    A = erlang:phash2({Self, erlang:unique_integer(), erlang:system_time()}, 1 bsl 32),
    B = erlang:phash2({os:getpid(), erlang:monotonic_time(), make_ref()}, 1 bsl 32),
    <<A:32, B:32>>.

%% --- gen_server -------------------------------------------------------------------

%% @private
init([]) ->
    process_flag(trap_exit, true),
    ok = net_kernel:monitor_nodes(true, [{node_type, all}]),
    S = #state{},
    case contacts() =/= [] orelse whereis(barrel_p2p_node) =/= undefined of
        true ->
            case ensure(S) of
                {ok, S1} -> {ok, S1};
                {error, _} -> {ok, S}       % join/1 says why
            end;
        false ->
            {ok, S}
    end.

%% @private
handle_call({join, Contact}, _From, S) when Contact =:= node() ->
    {reply, {error, cannot_join_self}, S};
handle_call({join, _}, _From, S) when node() =:= nonode@nohost ->
    {reply, {error, not_alive}, S};
handle_call({join, Contact}, _From, #state{joins = Joins} = S) ->
    {reply, Result, S2} = with(S#state{joins = Joins#{Contact => true}},
                               fun(S1) -> step([{1, <<0>>}, {2, name(Contact)}], S1) end),
    {reply, Result, S2#state{joins = maps:with(maps:keys(S2#state.connecting), S2#state.joins)}};
handle_call(leave, _From, #state{self = undefined} = S) ->
    {reply, ok, S};
handle_call(leave, _From, S) ->
    with(S, fun(S1) -> step([{1, <<1>>}], S1) end);
handle_call(views, _From, S) ->
    case S#state.self =/= undefined andalso barrel_p2p_drv_member:views() of
        {ok, {Active, Passive}} -> {reply, {atoms(Active), atoms(Passive)}, S};
        _ -> {reply, {[], []}, S}
    end;
handle_call(stats, _From, #state{counters = Own} = S) ->
    case barrel_p2p_drv_member:stats() of
        {ok, Stats} -> {reply, maps:merge(Stats, Own), S};
        {error, _} -> {reply, Own, S}
    end;
handle_call({subscribe, Pid}, _From, #state{subscribers = Subs} = S) ->
    case Subs of
        #{Pid := _} -> {reply, ok, S};
        _ -> {reply, ok, S#state{subscribers = Subs#{Pid => monitor(process, Pid)}}}
    end;
handle_call({unsubscribe, Pid}, _From, S) ->
    {reply, ok, unsubscribed(Pid, S)}.

%% @private
handle_cast(_, S) ->
    {noreply, S}.

%% @private
handle_info({?TAG, From, Msg}, S) when is_atom(From), From =/= node() ->
    case decode(Msg) of
        {ok, Args} ->
            case ensure(S) of
                {ok, S1} -> {noreply, stepped([{1, <<2>>}, {2, name(From)} | Args], S1)};
                {error, _} -> {noreply, count(not_running, S)}
            end;
        error ->
            {noreply, count(bad_messages, S)}
    end;
handle_info({?ASK, From}, S) when is_atom(From) ->
    case ensure(S) of
        {ok, S1} ->
            _ = erlang:send({?MODULE, From}, {?HERE, node()}, [noconnect, nosuspend]),
            {noreply, S1};
        {error, _} ->
            {noreply, count(not_running, S)}
    end;
handle_info({?HERE, From} = Here, #state{connecting = C} = S) ->
    case C of
        #{From := Pid} when Pid =/= self() -> Pid ! Here;
        #{} -> ok
    end,
    {noreply, S};
handle_info({connected, Node, Ok}, #state{connecting = C} = S) ->
    Event = case Ok of true -> 3; false -> 4 end,
    {noreply, stepped([{1, <<Event>>}, {2, name(Node)}],
                      S#state{connecting = maps:remove(Node, C), joins = maps:remove(Node, S#state.joins)})};
handle_info({nodedown, Node, _Info}, #state{made = Made} = S) ->
    {noreply, stepped([{1, <<5>>}, {2, name(Node)}], S#state{made = maps:remove(Node, Made)})};
handle_info({nodeup, _, _}, S) ->
    {noreply, S};       % a channel is not a link
handle_info({timeout, Ref, tick}, #state{timer = Ref} = S) ->
    {noreply, stepped([{1, <<6>>}], S)};
handle_info({'DOWN', _, process, Pid, _}, S) ->
    {noreply, unsubscribed(Pid, S)};
handle_info({?TAG, _, _}, S) ->
    {noreply, count(bad_messages, S)};
handle_info(_, S) ->
    {noreply, S}.

%% @private
terminate(_Reason, #state{self = undefined}) ->
    ok;
terminate(_Reason, S) ->
    _ = stepped([{1, <<1>>}], S),
    barrel_p2p_drv_member:stop().

unsubscribed(Pid, #state{subscribers = Subs} = S) ->
    case maps:take(Pid, Subs) of
        {Ref, Rest} ->
            demonitor(Ref, [flush]),
            S#state{subscribers = Rest};
        error ->
            S
    end.

%% --- the state machine --------------------------------------------------------------

%% It runs under the name that this node has now; another name is another node.
ensure(#state{self = Self} = S) when Self =/= undefined, Self =:= node() ->
    {ok, S};
ensure(S) ->
    case barrel_p2p_node:ensure_started() of
        ok ->
            case barrel_p2p_drv_member:start(config(node())) of
                {ok, Ms} -> {ok, arm(Ms, S#state{self = node(), connecting = #{}})};
                {error, _} = Error -> Error
            end;
        {error, _} = Error ->
            Error
    end.

with(S, Fun) ->
    case ensure(S) of
        {ok, S1} ->
            case Fun(S1) of
                {ok, S2} -> {reply, ok, S2};
                {error, Reason, S2} -> {reply, {error, Reason}, S2}
            end;
        {error, Reason} ->
            {reply, {error, Reason}, S}
    end.

stepped(_Args, #state{self = undefined} = S) ->
    S;
stepped(Args, S) ->
    case step(Args, S) of
        {ok, S1} -> S1;
        {error, _, S1} -> S1
    end.

step(Args, S) ->
    case barrel_p2p_drv_member:step(Args) of
        {ok, {Ms, Effects}} ->
            {ok, lists:foldl(fun effect/2, arm(Ms, S), Effects)};
        {error, {Err, _} = Reason} when Err =:= bad_state; Err =:= closed ->
            %% The node port began anew: without links.
            {error, Reason, S#state{self = undefined}};
        {error, Reason} ->
            {error, Reason, count(refused_steps, S)}
    end.

arm(Ms, #state{timer = Old} = S) ->
    Old =:= undefined orelse erlang:cancel_timer(Old),
    S#state{timer = erlang:start_timer(Ms, self(), tick)}.

effect({connect, Name}, #state{connecting = C} = S) ->
    Node = atom(Name),
    case C of
        #{Node := _} -> S;
        _ ->
            Up = lists:member(Node, nodes(connected)),
            Made = case Up of true -> S#state.made; false -> (S#state.made)#{Node => true} end,
            Joins = is_map_key(Node, S#state.joins) orelse lists:member(Node, contacts()),
            S#state{connecting = C#{Node => connect(Node, Up, Joins)}, made = Made}
    end;
effect({send, Name, Msg}, #state{self = Self} = S) ->
    case erlang:send({?MODULE, atom(Name)}, {?TAG, Self, encode(Msg, Self)},
                     [noconnect, nosuspend]) of
        ok -> S;
        noconnect -> count(sends_without_channel, S);
        nosuspend -> count(sends_to_busy_channel, S)
    end;
effect({release, Name}, #state{made = Made} = S) ->
    Node = atom(Name),
    is_map_key(Node, Made) andalso barrel_p2p_dist_gc:release(Node),
    count(released, S#state{made = maps:remove(Node, Made)});
effect({peer_up, Name}, S) ->
    tell({peer_up, atom(Name)}, S);
effect({peer_down, Name, Reason}, S) ->
    tell({peer_down, atom(Name), Reason}, S);
effect(Event, S) when Event =:= joined; Event =:= left ->
    tell(Event, S).

%% The process that says {connected, Node, Ok}.
connect(Node, true, false) ->
    self() ! {connected, Node, true},
    self();
connect(Node, _, Joins) ->
    Bridge = self(),
    spawn(fun() ->
        Ok = net_kernel:connect_node(Node) =:= true andalso (not Joins orelse has_bridge(Node)),
        Bridge ! {connected, Node, Ok}
    end).

%% JOIN has no answer (WIRE 8.1): sent to a node on which membership does not run yet, it would make a
%% link that only we know of. Asked by name as all between bridges is, which is no use of the channel
%% (core/dist/idle.h); other implementations do not know the question.
has_bridge(Node) ->
    case is_ours(Node) of
        true ->
            _ = erlang:send({?MODULE, Node}, {?ASK, node()}, [noconnect, nosuspend]),
            receive {?HERE, Node} -> true after ?ASK_MS -> false end;
        false ->
            try is_pid(erpc:call(Node, erlang, whereis, [?MODULE], ?ASK_MS))
            catch _:_ -> false
            end
    end.

is_ours(Node) ->
    case barrel_p2p_path:port(Node) of
        {ok, Port} ->
            case barrel_p2p_drv_conn:stats(Port) of
                {ok, #{<<"peer_is_ours">> := 1}} -> true;
                _ -> false
            end;
        {error, _} ->
            false
    end.

tell(Event, #state{subscribers = Subs} = S) ->
    maps:foreach(fun(Pid, _) -> Pid ! {barrel_p2p_event, Event} end, Subs),
    S.

count(Key, #state{counters = C} = S) ->
    S#state{counters = maps:update_with(Key, fun(N) -> N + 1 end, C)}.

name(Node) -> atom_to_binary(Node, utf8).

%% All names in there came in as atoms.
atom(Name) -> binary_to_atom(Name, utf8).

atoms(Names) -> [atom(N) || N <- Names].

%% --- messages (WIRE 8.1) --------------------------------------------------------------

%% A step's arguments, or error. Whatever a peer sends: no crash, no work beyond ?MAX_PEERS.
decode({join, P}) -> from(P, [{3, <<0>>}]);
decode({forward_join, New, Ttl, P}) when is_integer(Ttl), Ttl >= 0 ->
    from(P, about(New, [{3, <<1>>}, ttl(Ttl)]));
decode({disconnect, P}) -> from(P, [{3, <<2>>}]);
decode({neighbor, high, P}) -> from(P, [{3, <<3>>}, {6, <<1>>}]);
decode({neighbor, low, P}) -> from(P, [{3, <<3>>}, {6, <<0>>}]);
decode({neighbor_reply, Yes, P}) when is_boolean(Yes) ->
    from(P, [{3, <<4>>}, {6, case Yes of true -> <<1>>; false -> <<0>> end}]);
decode({shuffle, Ttl, Peers, P}) when is_integer(Ttl), Ttl >= 0 ->
    from(P, about(P, [{3, <<5>>}, ttl(Ttl) | known(Peers, ?MAX_PEERS)]));
decode({shuffle_reply, Peers, P}) -> from(P, [{3, <<6>>} | known(Peers, ?MAX_PEERS)]);
decode(_) -> error.

from(_, error) -> error;
from(P, Args) ->
    case id(P) of
        error -> error;
        _ -> {ok, Args}
    end.

about(P, Args) ->
    case id(P) of
        error -> error;
        Id -> [{4, name(Id)} | Args]
    end.

ttl(Ttl) -> {5, <<(min(Ttl, 255))>>}.

id(P) when is_tuple(P), tuple_size(P) =:= 10, element(1, P) =:= peer, is_atom(element(2, P)) ->
    element(2, P);
id(_) ->
    error.

known([P | Rest], N) when N > 0 ->
    case id(P) of
        error -> known(Rest, N - 1);
        Id -> [{7, [<<(age(element(3, P))):32>>, name(Id)]} | known(Rest, N - 1)]
    end;
known(_, _) ->
    [].

%% Upstream's nodes do not look at a peer's address: ours say there how old their knowledge is.
age({age, Ms}) when is_integer(Ms), Ms >= 0, Ms =< ?MAX_AGE_MS -> Ms;
age(_) -> ?AGE_UNKNOWN.

encode({join, _, _, _, _}, Self) -> {join, own(Self)};
encode({forward_join, Ttl, _, New, _}, Self) -> {forward_join, other(atom(New), 0), Ttl, own(Self)};
encode({disconnect, _, _, _, _}, Self) -> {disconnect, own(Self)};
encode({neighbor, _, 1, _, _}, Self) -> {neighbor, high, own(Self)};
encode({neighbor, _, 0, _, _}, Self) -> {neighbor, low, own(Self)};
encode({neighbor_reply, _, Yes, _, _}, Self) -> {neighbor_reply, Yes =:= 1, own(Self)};
encode({shuffle, Ttl, _, Origin, Peers}, _) ->
    {shuffle, Ttl, others(Peers), other(atom(Origin), 0)};
encode({shuffle_reply, _, _, _, Peers}, Self) -> {shuffle_reply, others(Peers), own(Self)}.

others(Peers) -> [other(atom(Name), Age) || {Name, Age} <- Peers].

own(Self) ->
    {peer, Self, application:get_env(barrel_p2p, address, {127, 0, 0, 1}),
     application:get_env(barrel_p2p, listen_port, 0), undefined, true, high, undefined, 0,
     undefined}.

other(Node, ?AGE_UNKNOWN) -> other(Node, unknown);
other(Node, Age) ->
    {peer, Node, {age, Age}, 0, undefined, false, low, undefined, 0, undefined}.
