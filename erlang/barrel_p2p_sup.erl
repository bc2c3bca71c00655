%% SPDX-License-Identifier: Apache-2.0
%% The application's supervisor. The carrier itself lives with net_kernel, not here.
-module(barrel_p2p_sup).
-behaviour(supervisor).

-export([start_link/0, init/1]).

%% @private
-spec start_link() -> supervisor:startlink_ret().
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

%% @private
init([]) ->
    {ok, {#{strategy => one_for_one, intensity => 5, period => 10},
          [#{id => barrel_p2p_bridge, start => {barrel_p2p_bridge, start_link, []}},
           #{id => barrel_p2p_streams, start => {barrel_p2p_streams, start_link, []}},
           #{id => barrel_p2p_dist_gc, start => {barrel_p2p_dist_gc, start_link, []}},
           #{id => barrel_p2p_path_watch, start => {barrel_p2p_path_watch, start_link, []}}]}}.
