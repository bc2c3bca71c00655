%% SPDX-License-Identifier: Apache-2.0
%% Moves connections by itself, where configured (docs/migration.md):
%%
%% * migration_watchdog: a peer whose round trip takes too long, or that is not heard of, several
%%   times in a row. A move that does not help is tried again ever more rarely.
%% * migrate_on_route_change: peers to which the kernel would use another local address by now.
-module(barrel_p2p_path_watch).
-behaviour(gen_server).

-export([start_link/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-define(SETTLE_MS, 300).        % several changes come together
-define(MAX_PATIENCE, 64).

%% strikes: periods in a row; patience: how many it takes; moving: one move per peer at a time
-record(peer, {strikes = 0 :: non_neg_integer(), patience :: pos_integer()}).
-record(state, {watchdog :: map() | off,
                peers = #{} :: #{node() => #peer{}},
                moving = #{} :: #{reference() => node()}}).

-spec start_link() -> ignore | {ok, pid()} | {error, term()}.
start_link() ->
    case {watchdog(), routes()} of
        {off, false} -> ignore;
        _ -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], [])
    end.

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
handle_info({'DOWN', Ref, process, _, _}, #state{moving = Moving} = S) ->
    {noreply, S#state{moving = maps:remove(Ref, Moving)}};
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
                      move(Node, Why, Acc#state{peers = Peers#{Node => Next}})
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
            move(Node, ["the way to it begins at ", inet:ntoa(Route), " now, not at ",
                        inet:ntoa(Ip)], S);
        _ ->
            S
    end;
follow_route(_, S) ->
    S.

%% --- moving --------------------------------------------------------------------

%% Beside this process: it takes as long as it takes.
move(Node, Why, #state{moving = Moving} = S) ->
    case lists:member(Node, maps:values(Moving)) of
        true ->
            S;
        false ->
            {_, Ref} = spawn_monitor(fun() -> mover(Node, Why) end),
            S#state{moving = Moving#{Ref => Node}}
    end.

mover(Node, Why) ->
    {Level, Reason, Text} =
        case barrel_p2p_path:migrate(Node, #{}) of
            ok -> {notice, moved, "it was moved to another path"};
            {error, Err} -> {warning, Err, "it could not be moved to another path"}
        end,
    barrel_p2p_node:report(Level, path_watch, atom_to_binary(Node, utf8), Reason,
                           [Why, ": ", Text]).
