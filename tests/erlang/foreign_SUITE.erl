%% SPDX-License-Identifier: Apache-2.0
%% Peers of another implementation, played by tests/hostile with other transport parameters than ours.
-module(foreign_SUITE).

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([dialler_is_not_asked_to_move/1]).

-include_lib("common_test/include/ct.hrl").
-include("bp_test.hrl").

suite() -> [{timetrap, {seconds, 60}}].

all() -> [dialler_is_not_asked_to_move].

init_per_suite(Config) -> bp_cluster:only(quic, Config).

end_per_suite(_) -> ok.

init_per_testcase(Case, Config) -> bp_cluster:init_case(?MODULE, Case, Config).
end_per_testcase(_, Config) -> bp_cluster:end_case(Config).

%% Who accepted cannot move; a peer that does not know our words is not asked, and the connection
%% goes on. One of ours is asked (this one does not answer).
dialler_is_not_asked_to_move(Config) ->
    B = bp_cluster:start(Config, #{name => b}),
    ?EQ(#{no_ticks => 0}, asked_to_move(B, 'foreign@127.0.0.1', 1, {error, not_dialler})),
    ?EQ(#{no_ticks => 3}, asked_to_move(B, 'ours@127.0.0.1', 0, {error, timeout})).

%% What the peer read on stream 0 besides ticks.
asked_to_move(B, Name, Foreign, Result) ->
    {ok, Port} = bp_cluster:call(B, barrel_p2p_dist, listen_port, []),
    Peer = bp_hostile:start(member, [{port, Port}, {name, Name}, {foreign, Foreign}, {cookie, "ct"},
                                     {kind, nothing}, {secs, 8}]),
    {1, Peer1} = bp_hostile:next(Peer, up, 20000),
    %% visible a moment after the peer has its acknowledgement
    bp_cluster:until(fun() -> connected(B, Name) end),
    Migrate = fun(Opts) -> bp_cluster:run(B, fun() -> barrel_p2p:migrate_peer(Name, Opts) end) end,
    ?EQ(Result, Migrate(#{timeout => 500})),
    ?EQ({error, not_dialler}, Migrate(#{local => "127.0.0.1"})),
    ok = bp_cluster:run(B, fun() -> {nobody, Name} ! binary:copy(<<1>>, 100000), ok end),
    {ok, #{migrations := 0}} = bp_cluster:call(B, barrel_p2p_path_stats, summary, [Name]),
    true = connected(B, Name),
    %% until it goes
    #{ended := 0, got := Got, no_ticks := N} = bp_hostile:await(Peer1),
    true = Got > 100000,
    #{no_ticks => N}.

connected(B, Name) ->
    lists:member(Name, bp_cluster:call(B, erlang, nodes, [connected])).
