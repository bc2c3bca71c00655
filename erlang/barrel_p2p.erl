%% SPDX-License-Identifier: Apache-2.0
%% What this node is and whom it is connected to.
-module(barrel_p2p).

-export([info/0, peers/0, config/0]).

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
    case barrel_p2p_drv:conn_stats(Port) of
        {ok, Stats} -> Stats;
        {error, _} -> #{}
    end.

%% Every configuration key with its value in force and where that came from: default, environment
%% (sys.config or the command line), or {flag, Name}. Place is `barrel_p2p', `quic', `dist' (in
%% `{quic, [{dist, _}]}') or `both' (barrel_p2p, else dist). docs/configuration.md says what they mean.
-spec config() -> [{Place :: atom(), Key :: atom(), Value :: term(),
                    Origin :: default | environment | {flag, string()}}].
config() ->
    barrel_p2p_config:effective().
