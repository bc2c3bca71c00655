%% SPDX-License-Identifier: Apache-2.0
%% Closes channels that nobody uses, with the other node's consent (core/dist/link_idle.c), so that a
%% node keeps few: those of its active view, and those in use. What is in use is judged in C; here is
%% when to ask, and what membership needs. docs/membership.md says what it means for programs.
-module(barrel_p2p_dist_gc).
-behaviour(gen_server).

-export([start_link/0, sweep_now/0, get_age_ms/1, stats/0, release/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-define(NEVER_MS, 16#ffffffff).
-define(RELEASE_MS, 50).            % between two tries to give a temporary channel back
-define(RELEASE_TRIES, 40).
-define(CLOSE_TRIES, 50).

-define(COUNTERS, [sweeps, asked, closed, called_off, agreed, disagreed, kept_needed, kept_not_up,
                   kept_not_ours, kept_doubtful, kept_live, kept_used, kept_young, kept_streams,
                   kept_unsent, temporary, temporary_closed, temporary_kept]).

-record(state, {
    %% Channels that are being given back; `new': not seen yet.
    released = #{} :: #{node() => {port() | new, Tries :: non_neg_integer()}},
    counters = maps:from_list([{C, 0} || C <- ?COUNTERS]) :: #{atom() => non_neg_integer()}
}).

%% --- interface ------------------------------------------------------------------

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% Looks at all channels now. Those that may be closed are, a round trip later, if the other node
%% agrees.
-spec sweep_now() -> ok.
sweep_now() ->
    gen_server:call(?MODULE, sweep, infinity).

%% How long the channel to Node has been up.
-spec get_age_ms(node()) -> non_neg_integer() | not_tracked.
get_age_ms(Node) ->
    case [Age || {N, Port, _} <- barrel_p2p_node:peers(), N =:= Node,
                 {ok, #{<<"age_ms">> := Age}} <- [barrel_p2p_drv_conn:stats(Port)]] of
        [Age | _] -> Age;
        [] -> not_tracked
    end.

%% sweeps; asked: other nodes, about a channel; closed: when they agreed; called_off: a message came
%% meanwhile; agreed, disagreed: when they asked us; kept_Why: channels that a sweep left alone;
%% temporary, temporary_closed: channels that membership had made and gave back. barrel_p2p:info/0
%% counts what was closed (down_idle_channel) and what that cost (idle_lost_messages).
-spec stats() -> #{atom() => non_neg_integer()}.
stats() ->
    gen_server:call(?MODULE, stats, infinity).

%% Membership has no use any more for the channel that it has made to Node.
-spec release(node()) -> ok.
release(Node) ->
    gen_server:cast(?MODULE, {release, Node}).

%% --- gen_server -------------------------------------------------------------------

%% @private
init([]) ->
    process_flag(priority, high),       % between consent and close messages can be lost
    arm(),
    {ok, #state{}}.

%% @private
handle_call(sweep, _From, S) ->
    {reply, ok, sweep(S)};
handle_call(stats, _From, #state{counters = C} = S) ->
    {reply, C, S}.

%% @private
handle_cast({release, Node}, #state{released = R} = S) when not is_map_key(Node, R) ->
    {noreply, give_back(Node, new, ?RELEASE_TRIES, count(temporary, S))};
handle_cast(_, S) ->
    {noreply, S}.

%% @private
handle_info({barrel_p2p_node, idle_asked, Port}, S) ->
    Allowed = case [Node || {Node, P, _} <- barrel_p2p_node:peers(), P =:= Port] of
                  [Node] -> not needed(Node);
                  [] -> false
              end,
    case barrel_p2p_drv_conn:idle_answer(Port, Allowed, min_age()) of
        {ok, idle} -> {noreply, count(agreed, S)};
        {ok, _} -> {noreply, count(disagreed, S)};
        {error, _} -> {noreply, S}
    end;
handle_info({barrel_p2p_node, idle_due, Port}, S) ->
    {noreply, close(Port, ?CLOSE_TRIES, S)};
handle_info(sweep, S) ->
    arm(),
    {noreply, sweep(S)};
handle_info({give_back, Node}, #state{released = R} = S) ->
    {{Port, Tries}, Rest} = maps:take(Node, R),
    {noreply, give_back(Node, Port, Tries, S#state{released = Rest})};
handle_info(_, S) ->
    {noreply, S}.

arm() ->
    erlang:send_after(number(dist_gc_sweep_period_ms), self(), sweep).

number(Key) ->
    {ok, #{default := Default}} = barrel_p2p_config_keys:find(Key),
    application:get_env(barrel_p2p, Key, Default).

min_age() ->
    case number(dist_gc_min_age_ms) of
        infinity -> ?NEVER_MS;
        Ms -> Ms
    end.

%% --- sweeping -----------------------------------------------------------------------

sweep(S0) ->
    S = count(sweeps, S0),
    barrel_p2p_global:check(),
    case min_age() of
        ?NEVER_MS -> S;
        Ms -> lists:foldl(fun(Peer, Acc) -> look_at(Peer, Ms, Acc) end, S, barrel_p2p_node:peers())
    end.

look_at({Node, Port, _}, MinAge, S) ->
    case needed(Node) of
        true ->
            count(kept_needed, S);
        false ->
            case barrel_p2p_drv_conn:idle_ask(Port, false, MinAge) of
                {ok, idle} -> count(asked, S);
                {ok, Why} -> count(kept(Why), S);
                {error, _} -> S
            end
    end.

kept(not_up) -> kept_not_up;
kept(not_ours) -> kept_not_ours;
kept(doubtful) -> kept_doubtful;
kept(live) -> kept_live;
kept(used) -> kept_used;
kept(young) -> kept_young;
kept(streams) -> kept_streams;
kept(unsent) -> kept_unsent.

%% A link, an attempt to link, or a reply goes over it; also when membership cannot say.
needed(Node) ->
    barrel_p2p_global:full_mesh() orelse
        barrel_p2p_drv_member:needs(atom_to_binary(Node, utf8)) =/= {ok, false}.

port_of(Node) ->
    case [Port || {N, Port, _} <- barrel_p2p_node:peers(), N =:= Node] of
        [Port | _] -> {ok, Port};
        [] -> not_connected
    end.

%% Right after a yield the VM has less waiting for the port than at any other time.
close(_Port, 0, S) ->
    count(called_off, S);
close(Port, Tries, S) ->
    case barrel_p2p_drv_conn:idle_close(Port) of
        {ok, again} ->
            erlang:yield(),
            close(Port, Tries - 1, S);
        {ok, closed} -> count(closed, S);
        {ok, called_off} -> count(called_off, S);
        {error, _} -> S
    end.

%% --- temporary channels ----------------------------------------------------------------

%% The last message must have arrived, and the other node must agree. If a process uses the channel
%% by now it is one like any other. A new one may be up before its port is known here.
give_back(Node, Old, Tries, S) ->
    case port_of(Node) of
        {ok, Port} when Old =:= new; Old =:= Port ->
            ask_back(Node, Port, Tries, S);
        not_connected when Old =:= new ->
            later(Node, new, Tries, S);
        _ ->
            count(temporary_closed, S)
    end.

ask_back(Node, Port, Tries, S) ->
    case needed(Node) orelse barrel_p2p_drv_conn:idle_ask(Port, true, 0) of
        {ok, Why} when Why =:= idle; Why =:= unsent; Why =:= not_up -> later(Node, Port, Tries, S);
        {ok, Why} -> count(kept(Why), count(temporary_kept, S));
        true -> count(kept_needed, count(temporary_kept, S));
        {error, _} -> later(Node, Port, Tries, S)
    end.

later(_Node, _Port, 0, S) ->
    count(temporary_kept, S);
later(Node, Port, Tries, #state{released = R} = S) ->
    _ = erlang:send_after(?RELEASE_MS, self(), {give_back, Node}),
    S#state{released = R#{Node => {Port, Tries - 1}}}.

count(Key, #state{counters = C} = S) ->
    S#state{counters = maps:update_with(Key, fun(N) -> N + 1 end, C)}.
