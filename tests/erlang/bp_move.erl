%% SPDX-License-Identifier: Apache-2.0
%% What the suites about moving connections share: two nodes on an emulated link, moves, and a watch.
-module(bp_move).

-export([init_case/4, end_case/1, pair/1, pair/3, migrate/3, summary/2, address/3, watch/2,
         watched/2, numbered/2, finish/1, report/2, files/1, more/0, own/0]).

-define(ARGS, ["-connect_all", "false"]).

%% An emulated link and its nodes' directory. LinkOptions as bp_wan:start/1.
init_case(Suite, Case, LinkOptions, Config) ->
    case bp_wan:start(LinkOptions) of
        {ok, Link} -> [{link, Link} | bp_cluster:init_case(Suite, Case, Config)];
        {skip, _} = Skip -> Skip
    end.

end_case(Config) ->
    bp_cluster:end_case(Config),
    bp_wan:stop(proplists:get_value(link, Config)).

%% Addresses that side a can be given besides its own.
more() -> ["10.77.0.11", "10.77.0.12"].
own() -> "10.77.0.1".

%% A node in each side; a dials.
pair(Config) ->
    pair(Config, [], []).

pair(Config, ArgsA, ArgsB) ->
    Link = proplists:get_value(link, Config),
    [A, B] = bp_cluster:start_many(Config, [bp_wan:side(Link, a, #{args => ?ARGS ++ ArgsA}),
                                            bp_wan:side(Link, b, #{args => ?ARGS ++ ArgsB})]),
    true = bp_cluster:connect(A, B),
    {A, B}.

migrate(Node, Peer, Opts) ->
    Name = bp_cluster:name(Peer),
    bp_cluster:run(Node, fun() -> barrel_p2p:migrate_peer(Name, Opts) end, 20000).

summary(Node, Peer) ->
    {ok, Summary} = bp_cluster:call(Node, barrel_p2p_path_stats, summary, [bp_cluster:name(Peer)]),
    Summary.

%% An address of side a comes or goes.
address(Config, What, Address) ->
    [] = bp_wan:in_side(proplists:get_value(link, Config), a,
                        ["ip", "addr", What, Address ++ "/24", "dev", "wan0"]),
    ok.

watch(From, To) ->
    Name = bp_cluster:name(To),
    bp_cluster:run(From, fun() -> bp_wan_load:watch(Name) end).

watched(Node, Watch) ->
    bp_cluster:run(Node, fun() -> bp_wan_load:watched(Watch) end).

%% Numbered messages in both directions until finish/1.
numbered({A, B}, Opts) ->
    [{X, begin
        Name = bp_cluster:name(Y),
        bp_cluster:run(X, fun() -> bp_wan_load:numbered(Name, Opts) end)
     end} || {X, Y} <- [{A, B}, {B, A}]].

%% Every message of every sender has arrived, in order: their numbers.
finish(Loads) ->
    [bp_cluster:run(X, fun() -> bp_wan_load:finish(H) end, 60000) || {X, H} <- Loads].

report(Format, Args) ->
    io:format(standard_error, "          " ++ Format ++ "~n", Args).

%% Open descriptors of a node.
files(Node) ->
    {ok, Names} = bp_cluster:call(Node, file, list_dir, ["/proc/self/fd"]),
    length(Names).
