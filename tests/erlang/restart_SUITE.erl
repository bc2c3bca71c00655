%% SPDX-License-Identifier: Apache-2.0
%% A node is killed and comes back: how soon its peers give up the connection that it had, where no
%% ICMP tells them.
-module(restart_SUITE).

-include("bp_test.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([acceptor_restarts_reset_ends_it/1, acceptor_restarts_reset_ends_busy_one/1,
         acceptor_rotated_and_restarts_reset_ends_it/1, stolen_key_makes_no_resets/1,
         dialler_restarts_new_dial_replaces/1]).

suite() -> [{timetrap, {seconds, 90}}].

all() ->
    [acceptor_restarts_reset_ends_it, acceptor_restarts_reset_ends_busy_one,
     acceptor_rotated_and_restarts_reset_ends_it, stolen_key_makes_no_resets,
     dialler_restarts_new_dial_replaces].

init_per_suite(Config) -> bp_cluster:only(quic, Config).

end_per_suite(_) -> ok.

init_per_testcase(Case, Config) -> bp_cluster:init_case(?MODULE, Case, Config).

end_per_testcase(_, Config) ->
    bp_cluster:end_case(Config).

opts(Name) ->
    #{name => Name, cwd => atom_to_list(Name), args => ["-connect_all", "false"]}.

fixed(Name, Port) ->
    #{args := Args} = Opts = opts(Name),
    Opts#{args := Args ++ ["-barrel_p2p_dist_port", integer_to_list(Port)]}.

report(Format, Args) ->
    io:format(standard_error, "          " ++ Format ++ "~n", Args).

%% a, which dialled b through a relay.
through_relay(Config) ->
    Port = bp_cluster:free_port(),
    Opts = fixed(b, Port),
    [A, B] = bp_cluster:start_many(Config, [opts(a), Opts]),
    NB = bp_cluster:name(B),
    Relay = bp_hop:start(Port),
    Nodes = [{NB, {"127.0.0.1", bp_hop:port(Relay)}}],
    ok = bp_cluster:call(A, application, set_env, [quic, dist, [{nodes, Nodes}]]),
    true = bp_cluster:connect(A, B),
    true = length(bp_hop:passed(Relay)) > 4,
    ok = watch(A, NB),
    #{a => A, b => B, relay => Relay, opts => Opts#{node => NB}}.

%% A process that notes when Node went down.
watch(On, Node) ->
    bp_cluster:run(On, fun() ->
        Self = self(),
        spawn(fun() ->
            register(watcher, self()),
            erlang:monitor_node(Node, true),
            Self ! watching,
            receive
                {nodedown, Node} ->
                    T = os:system_time(microsecond),
                    receive {From, when_down} -> From ! {down, T} end
            end
        end),
        receive watching -> ok end
    end).

when_down(On, Ms) ->
    bp_cluster:run(On, fun() ->
        watcher ! {self(), when_down},
        receive {down, T} -> T after Ms -> up end
    end).

%% b is killed and comes back on its port. The new life, and when the packet passed that it answered
%% first.
kill_and_restart(Config, #{a := A, b := B, relay := Relay, opts := Opts}) ->
    bp_cluster:kill9(B),
    ok = bp_hop:clear(Relay),
    B2 = bp_cluster:start(Config, Opts),
    NB = bp_cluster:name(B),
    _ = bp_cluster:run(A, fun() -> erlang:send({nobody, NB}, hello, [noconnect]) end),
    bp_cluster:until(fun() -> bp_hostile:count(B2, stateless_resets) > 0 end),
    %% it has answered, and the relay is about to pass that
    Lost = bp_cluster:until(fun() ->
        case lists:splitwith(fun({Way, _, _}) -> Way =:= to end, bp_hop:passed(Relay)) of
            {To, [{back, _, _} | _]} -> {true, To};
            {_, []} -> false
        end
    end),
    {to, T, _} = lists:last(Lost),
    {B2, T, length(Lost)}.

%% The first packet that reaches the new life ends the connection.
reset_ends_it(Config, #{a := A} = S) ->
    {B2, Sent, N} = kill_and_restart(Config, S),
    Down = when_down(A, 10000),
    true = is_integer(Down),
    %% what this machine takes for an answer now
    {Calls, _} = timer:tc(fun() -> [bp_cluster:call(A, erlang, self, []) || _ <- [1, 2, 3]] end),
    Ms = (Down - Sent) / 1000,
    report("nodedown ~.1f ms after the first packet to the restarted node (the ~w. that passed)",
           [Ms, N]),
    ?EQ({1, 0}, {bp_hostile:count(A, down_stateless_reset),
                 bp_hostile:count(A, down_econnrefused)}),
    true = Ms > 0,
    true = Ms < 100 + 10 * Calls / 3000,
    Counts = {bp_hostile:count(B2, datagrams), bp_hostile:count(B2, stateless_resets)},
    true = bp_cluster:connect(A, B2),
    {B2, Counts}.

%% All that a silent one sends is answered.
reset_ends_silent_one(Config, S) ->
    {B2, {Datagrams, Resets}} = reset_ends_it(Config, S),
    ?EQ(Datagrams, Resets),
    B2.

acceptor_restarts_reset_ends_it(Config) ->
    S = through_relay(Config),
    timer:sleep(300),                   % both are silent by now
    reset_ends_silent_one(Config, S).

%% The same while the peer has data under way.
acceptor_restarts_reset_ends_busy_one(Config) ->
    #{a := A, b := B} = S = through_relay(Config),
    NB = bp_cluster:name(B),
    ok = bp_cluster:run(A, fun() ->
        Bin = binary:copy(<<7>>, 20000),
        _ = spawn(fun Send() ->
            case erlang:send({nobody, NB}, Bin, [noconnect]) of
                ok -> Send();
                noconnect -> ok
            end
        end),
        ok
    end),
    %% What came in one burst has as many answers as an address gets in that time, and more may come.
    {_, {_, Resets}} = reset_ends_it(Config, S),
    true = Resets > 0.

%% The identity is another one, the connection was made under the old one.
acceptor_rotated_and_restarts_reset_ends_it(Config) ->
    #{b := B} = S = through_relay(Config),
    {ok, #{backup_dir := _}} = bp_cluster:call(B, barrel_p2p_rotate, rotate_identity, []),
    B2 = reset_ends_silent_one(Config, S),
    %% the same again, now with a connection that was made under the new one
    ok = watch(maps:get(a, S), bp_cluster:name(B2)),
    {ok, _} = bp_cluster:call(B2, barrel_p2p_rotate, rotate_identity, []),
    bp_cluster:kill9(B2),
    B3 = bp_cluster:start(Config, maps:get(opts, S)),
    _ = bp_cluster:run(maps:get(a, S), fun() ->
        erlang:send({nobody, bp_cluster:name(B2)}, hello, [noconnect])
    end),
    true = is_integer(when_down(maps:get(a, S), 10000)),
    true = bp_hostile:count(B3, stateless_resets) > 0,
    ?EQ(2, bp_hostile:count(maps:get(a, S), down_stateless_reset)).

%% A key that may be stolen proves nothing: resets of the new life are not those of the old one.
stolen_key_makes_no_resets(Config) ->
    #{a := A, b := B} = S = through_relay(Config),
    {ok, _} = bp_cluster:call(B, barrel_p2p_rotate, rotate_identity, [#{announce => false}]),
    {_, _, _} = kill_and_restart(Config, S),
    ?EQ(up, when_down(A, 500)),
    ?EQ(0, bp_hostile:count(A, down_stateless_reset)).

%% A killed node comes back on another port and dials: its peer, which heard nothing from the old
%% port because somebody sits on it, gives the dead connection up for the new one.
dialler_restarts_new_dial_replaces(Config) ->
    Port = bp_cluster:free_port(),
    [A, B] = bp_cluster:start_many(Config, [fixed(a, Port), opts(b)]),
    true = bp_cluster:connect(A, B),
    {NA, NB} = {bp_cluster:name(A), bp_cluster:name(B)},
    Creation = fun() -> erlang:system_info(creation) end,
    Old = bp_cluster:run(A, Creation),
    ok = watch(B, NA),
    timer:sleep(300),
    bp_cluster:signal(B, "STOP"),
    bp_cluster:kill9(A),
    {1, Holder} = bp_hostile:next(bp_hostile:start(hold_port, [{port, Port}]), holding, 20000),
    A2 = bp_cluster:start(Config, (opts(a))#{node => NA}),
    bp_cluster:signal(B, "CONT"),
    T0 = os:system_time(microsecond),
    {Us, true} = timer:tc(fun() -> bp_cluster:connect(A2, B) end),
    New = bp_cluster:run(A2, Creation),
    %% b saw the old one go down, for no other reason, and talks to the new one
    Down = when_down(B, 20000),
    report("the new dial replaced the dead connection in ~w ms, nodedown after ~w ms",
           [Us div 1000, (Down - T0) div 1000]),
    true = Us < 3000000,        % long before anybody gives up by itself
    true = Old =/= New,
    ?EQ(0, bp_hostile:count(B, down_stateless_reset) + bp_hostile:count(B, down_econnrefused)),
    ?EQ(New, bp_cluster:run(B, fun() -> erpc:call(NA, erlang, system_info, [creation]) end)),
    ?EQ([NB], bp_cluster:call(A2, erlang, nodes, [connected])),
    bp_hostile:finish(Holder).
