%% SPDX-License-Identifier: Apache-2.0
%% Moves connections by itself, where configured (docs/migration.md):
%%
%% * migration_watchdog: a peer whose round trip takes too long, or that is not heard of, several
%%   times in a row. A move that does not help is tried again ever more rarely.
%% * migrate_on_route_change: peers to which the kernel would use another local address by now.
%%
%% An address or a path that comes and goes makes no storm: a few moves of a peer at once, then one in
%% 15 s.
-module(barrel_p2p_path_watch).
-behaviour(gen_server).

-export([start_link/0, stats/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-define(SETTLE_MS, 300).        % several changes come together
-define(MAX_PATIENCE, 64).
-define(BURST, 4).
-define(REFILL_MS, 15000).

%% strikes: periods in a row; patience: how many it takes; moving: one move per peer at a time, and
%% whether the routes have changed meanwhile; budget: moves left, at a time in ms; waiting: those that
%% have none left, which the log has
-record(peer, {strikes = 0 :: non_neg_integer(), patience :: pos_integer()}).
-record(state, {watchdog :: map() | off,
                peers = #{} :: #{node() => #peer{}},
                moving = #{} :: #{reference() => node()},
                again = [] :: [node()],
                budget = #{} :: #{node() => {float(), integer()}},
                waiting = [] :: [node()],
                counters = #{moved => 0, failed => 0, put_off => 0} ::
                    #{moved | failed | put_off => non_neg_integer()}}).

-spec start_link() -> ignore | {ok, pid()} | {error, term()}.
start_link() ->
    case {watchdog(), routes()} of
        {off, false} -> ignore;
        _ -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], [])
    end.

%% Moves that it has made, that failed, and that had to wait because there were too many.
-spec stats() -> #{moved | failed | put_off => non_neg_integer()}.
stats() ->
    gen_server:call(?MODULE, stats).

routes() ->
    barrel_p2p_config:get(migrate_on_route_change).

watchdog() ->
    case barrel_p2p_config:get(migration_watchdog) of
        off -> off;
        List -> maps:merge(#{srtt_ms => 200, strikes => 2, period_ms => 5000}, maps:from_list(List))
    end.

%% @private
init([]) ->
    Watchdog = watchdog(),
    start_timer(Watchdog),
    routes() andalso watch_routes(),
    {ok, #state{watchdog = Watchdog}}.

start_timer(off) -> ok;
start_timer(#{period_ms := Ms}) -> erlang:send_after(Ms, self(), look).

watch_routes() ->
    case barrel_p2p_drv_path:watch_routes() of
        ok -> ok;
        {error, {Err, Text}} ->
            barrel_p2p_node:report(warning, route_watch_failed, <<"any">>, Err,
                                   ["addresses and routes are not watched: ", Text])
    end.

%% @private
handle_call(stats, _From, S) ->
    {reply, S#state.counters, S};
handle_call(_, _From, S) ->
    {reply, {error, unknown}, S}.

%% @private
handle_cast(_, S) ->
    {noreply, S}.

%% @private
handle_info(look, #state{watchdog = Watchdog} = S) ->
    start_timer(Watchdog),
    {noreply, look(barrel_p2p:paths(), S)};
handle_info({barrel_p2p_routes, changed}, S) ->
    erlang:send_after(?SETTLE_MS, self(), routes_settled),
    {noreply, S};
handle_info(routes_settled, S) ->
    Moved = lists:foldl(fun follow_route/2, S, barrel_p2p_node:peers()),
    watch_routes(),
    {noreply, Moved};
handle_info({again, Node}, #state{waiting = Waiting} = S) ->
    {noreply, again(Node, S#state{waiting = lists:delete(Node, Waiting)})};
handle_info({'DOWN', Ref, process, _, Result}, #state{moving = Moving, again = Again} = S0) ->
    {Node, Left} = maps:take(Ref, Moving),
    S = count(case Result of {shutdown, ok} -> moved; _ -> failed end, S0#state{moving = Left}),
    case lists:member(Node, Again) of
        true -> {noreply, again(Node, S#state{again = lists:delete(Node, Again)})};
        false -> {noreply, S}
    end;
handle_info(_, S) ->
    {noreply, S}.

%% --- watchdog ------------------------------------------------------------------

look(Paths, #state{watchdog = #{strikes := Strikes} = Watchdog, peers = Old} = S) ->
    lists:foldl(
      fun({Node, Path}, #state{peers = Peers} = Acc) ->
              Peer = #peer{patience = Patience} = maps:get(Node, Old, #peer{patience = Strikes}),
              case bad(Path, Watchdog) of
                  false ->
                      Acc#state{peers = Peers#{Node => #peer{patience = Strikes}}};
                  {true, _} when Peer#peer.strikes + 1 < Patience ->
                      Acc#state{peers = Peers#{Node => Peer#peer{strikes = Peer#peer.strikes + 1}}};
                  {true, Why} ->
                      Next = #peer{patience = min(2 * Patience, ?MAX_PATIENCE * Strikes)},
                      case move(Node, Why, Acc) of
                          {moving, Acc1} -> Acc1#state{peers = Peers#{Node => Next}};
                          {_, Acc1} -> Acc1#state{peers = Peers#{Node => Peer}}
                      end
              end
      end, S#state{peers = #{}}, Paths).

%% While nothing comes back the round-trip time stays what it was.
bad(#{srtt := Us}, #{srtt_ms := Ms}) when Us > Ms * 1000 ->
    {true, io_lib:format("the round trip takes ~b ms", [Us div 1000])};
bad(#{in_recovery := true, silent_ms := Silent}, #{period_ms := Period}) when Silent >= Period ->
    {true, io_lib:format("nothing was heard of it for ~b ms", [Silent])};
bad(_, _) ->
    false.

%% --- routes --------------------------------------------------------------------

%% Only who dialled can know: the socket of an accepted connection is bound to the node's address.
follow_route({Node, Port, #{direction := dialled}}, S) ->
    case barrel_p2p_drv_path:path(Port) of
        {ok, #{local := {Ip, _}, route := Route, relay := undefined}} when Route =/= undefined, Route =/= Ip ->
            case move(Node, ["the way to it begins at ", inet:ntoa(Route), " now, not at ",
                             inet:ntoa(Ip)], S) of
                {busy, S1} -> S1#state{again = [Node | lists:delete(Node, S1#state.again)]};
                {_, S1} -> S1
            end;
        _ ->
            S
    end;
follow_route(_, S) ->
    S.

%% The routes may have changed since it could not be moved.
again(Node, S) ->
    case routes() andalso lists:keyfind(Node, 1, barrel_p2p_node:peers()) of
        false -> S;
        Peer -> follow_route(Peer, S)
    end.

%% --- moving --------------------------------------------------------------------

%% Beside this process: it takes as long as it takes. `busy': it is being moved; `waiting': it was
%% moved too often.
move(Node, Why, #state{moving = Moving, budget = Budget} = S) ->
    Now = erlang:monotonic_time(millisecond),
    {Left, At} = maps:get(Node, Budget, {float(?BURST), Now}),
    Tokens = min(float(?BURST), Left + (Now - At) / ?REFILL_MS),
    case lists:member(Node, maps:values(Moving)) of
        true ->
            {busy, S};
        false when Tokens < 1.0 ->
            {waiting, put_off(Node, Why, ceil((1.0 - Tokens) * ?REFILL_MS), S)};
        false ->
            {_, Ref} = spawn_monitor(fun() -> mover(Node, Why) end),
            Kept = maps:filter(fun(_, {_, T}) -> Now - T < ?BURST * ?REFILL_MS end, Budget),
            {moving, S#state{moving = Moving#{Ref => Node},
                             budget = Kept#{Node => {Tokens - 1.0, Now}}}}
    end.

put_off(Node, Why, Ms, #state{waiting = Waiting} = S) ->
    case lists:member(Node, Waiting) of
        true ->
            S;
        false ->
            _ = erlang:send_after(Ms, self(), {again, Node}),
            barrel_p2p_node:report(warning, path_watch, atom_to_binary(Node, utf8), too_often,
                                   [Why, ": it was moved ", integer_to_list(?BURST),
                                    " times lately, and is not moved for ",
                                    integer_to_list((Ms + 999) div 1000), " s"]),
            count(put_off, S#state{waiting = [Node | Waiting]})
    end.

count(What, #state{counters = C} = S) ->
    S#state{counters = maps:update_with(What, fun(N) -> N + 1 end, C)}.

mover(Node, Why) ->
    Result = barrel_p2p_path:migrate(Node, #{}),
    {Level, Reason, Text} =
        case Result of
            ok -> {notice, moved, "it was moved to another path"};
            {error, Err} -> {warning, Err, "it could not be moved to another path"}
        end,
    barrel_p2p_node:report(Level, path_watch, atom_to_binary(Node, utf8), Reason,
                           [Why, ": ", Text]),
    exit({shutdown, Result}).
