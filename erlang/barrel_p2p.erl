%% SPDX-License-Identifier: Apache-2.0
%% What this node is and whom it is connected to.
-module(barrel_p2p).

-export([info/0, peers/0, paths/0, config/0]).
-export([migrate_peer/1, migrate_peer/2]).
-export([join/1, leave/0, active_view/0, passive_view/0, subscribe/0, subscribe/1, unsubscribe/1]).

%% This node: name, UDP port and address that it listens on (absent without a listener), its key's
%% fingerprint, trust mode, authentication (built_in | none | {M, F}), directories, and the node's
%% counters. Empty fields mean that this carrier is not running.
-spec info() -> map().
info() ->
    Config = barrel_p2p_node:config_info(),
    Bound = case Config of
                #{bound := {Port, Address}} -> #{port => Port, address => Address};
                _ -> #{}
            end,
    Counters = case barrel_p2p_drv:stats() of
                   {ok, Stats} -> Stats;
                   {error, _} -> #{}
               end,
    maps:merge(Bound, #{node => node(),
                        fingerprint => maps:get(fingerprint, Config, <<>>),
                        trust_mode => barrel_p2p_dist_keys:get_trust_mode(),
                        auth => auth(barrel_p2p_config:auth_callback()),
                        counters => Counters}).

auth(undefined) -> none;
auth({barrel_p2p_dist_auth_callback, authenticate}) -> built_in;
auth(Other) -> Other.

%% One map for each connection over this carrier: node, address, fingerprint (<<>> without
%% built-in authentication), direction (dialled | accepted), and the connection's counters.
-spec peers() -> [map()].
peers() ->
    [Info#{node => Node, counters => counters(Port)}
     || {Node, Port, Info} <- lists:keysort(1, barrel_p2p_node:peers())].

counters(Port) ->
    case barrel_p2p_drv_conn:stats(Port) of
        {ok, Stats} -> Stats;
        {error, _} -> #{}
    end.

%% barrel_p2p_path_stats:summary/1 of each connection over this carrier.
-spec paths() -> [{node(), barrel_p2p_path_stats:summary()}].
paths() ->
    [{Node, Summary} || {Node, _, _} <- lists:keysort(1, barrel_p2p_node:peers()),
                        {ok, Summary} <- [barrel_p2p_path_stats:summary(Node)]].

%% Moves the connection to Node to another local address or port without losing anything; back when
%% the new path is validated. docs/migration.md.
-spec migrate_peer(node()) -> ok | {error, barrel_p2p_path:reason()}.
migrate_peer(Node) ->
    barrel_p2p_path:migrate(Node, #{}).

%% timeout: ms, 5000 by default; on an error the path stays as it was. local: the address, or
%% {Address, Port}, of the new path; the kernel chooses by default. Errors:
%%
%%   not_connected            there is no connection to Node, or it ended meanwhile
%%   no_conn                  the connection uses another carrier
%%   peer_disable_migration   the peer does not allow it
%%   no_spare_cid             the peer gave no connection id for another path in time
%%   not_dialler              Node dialled, and is no node that moves when it is asked; or `local' was
%%                            given, which only the node that dialled can choose
%%   timeout                  the peer did not answer on the new path in time
%%   busy                     the connection is being moved already
%%   path_failed              Node dialled, and it could not move: its log may say more
%%   eaddrinuse, {system_error, Text}, {bad_option, Option}
-spec migrate_peer(node(), barrel_p2p_path:options()) -> ok | {error, barrel_p2p_path:reason()}.
migrate_peer(Node, Options) ->
    barrel_p2p_path:migrate(Node, Options).

%% Every configuration key with its value in force and where that came from: default, environment
%% (sys.config or the command line), or {flag, Name}. Place is `barrel_p2p', `quic', `dist' (in
%% `{quic, [{dist, _}]}') or `both' (barrel_p2p, else dist). docs/configuration.md says what they mean.
-spec config() -> [{Place :: atom(), Key :: atom(), Value :: term(),
                    Origin :: default | environment | {flag, string()}}].
config() ->
    barrel_p2p_config:effective().

%% --- membership (the application must run) --------------------------------------

%% Joins the overlay that Contact is in; `joined' and `peer_up' tell subscribers when it is done.
-spec join(node()) -> ok | {error, cannot_join_self | not_alive | term()}.
join(Contact) ->
    barrel_p2p_bridge:join(Contact).

%% Leaves the overlay; channels stay open.
-spec leave() -> ok | {error, term()}.
leave() ->
    barrel_p2p_bridge:leave().

%% The few nodes that this one has links to; both ends have each other in their views.
-spec active_view() -> [node()].
active_view() ->
    barrel_p2p_bridge:active_view().

%% Nodes that this one falls back on when links fail.
-spec passive_view() -> [node()].
passive_view() ->
    barrel_p2p_bridge:passive_view().

%% {barrel_p2p_event, joined | left | {peer_up, Node} | {peer_down, Node, Reason}} to the caller, or
%% to Pid; Reason: dropped | graceful | nodedown | connect_failed.
-spec subscribe() -> ok.
subscribe() ->
    subscribe(self()).

-spec subscribe(pid()) -> ok.
subscribe(Pid) ->
    barrel_p2p_bridge:subscribe(Pid).

-spec unsubscribe(pid()) -> ok.
unsubscribe(Pid) ->
    barrel_p2p_bridge:unsubscribe(Pid).
