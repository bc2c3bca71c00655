%% SPDX-License-Identifier: Apache-2.0
%% The application callback. Distribution does not need the application to run: it only applies what
%% was configured too late for the boot.
-module(barrel_p2p_app).
-behaviour(application).

-export([start/2, stop/1, config_change/3]).

%% @private
start(_Type, _Args) ->
    try barrel_p2p_config:validate_runtime() of
        ok ->
            apply_cookie(application:get_env(barrel_p2p, dist_cookie)),
            publish(),
            ok = barrel_p2p_bridge:validate(),
            _ = barrel_p2p_global:let_go(),
            barrel_p2p_sup:start_link()
    catch
        error:{Who, _} = Reason when Who =:= barrel_p2p; Who =:= barrel_p2p_dist ->
            {error, Reason}
    end.

%% @private
stop(_State) ->
    ok.

%% @private
config_change(_Changed, _New, _Removed) ->
    _ = barrel_p2p_node:reload(),
    ok.

%% The boot has done it already for a node with this carrier; this is for what was set since.
apply_cookie({ok, _}) -> barrel_p2p_config:apply_cookie();
apply_cookie(undefined) -> ok.

publish() ->
    case barrel_p2p_dist:listen_port() of
        {ok, Port} -> barrel_p2p_discovery:publish(barrel_p2p_node:node_name(), Port);
        undefined -> ok
    end.
