%% SPDX-License-Identifier: Apache-2.0
%% What the Erlang distribution does between nodes that are up: signals, spawn, services, large
%% terms, connecting and disconnecting. Runs over any carrier (CARRIER=tcp sanity-checks it).
-module(dist_SUITE).

-include_lib("common_test/include/ct.hrl").
-include("bp_test.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([send_to_pid_name_alias/1, link_exit_reaches_peer/1, monitor_pid_and_name/1,
         exit_reason_10mb/1, remote_spawn/1, spawn_request_forms/1, erpc_forms/1, rpc_forms/1,
         gen_server_forms/1, global_names/1, pg_groups/1, group_leader_is_remote/1,
         getopts_setopts/1, nodes_info_counts/1, connect_disconnect_nodedown_reason/1,
         simultaneous_connect/1, reconnect_at_once/1, autoconnect_send_delivers/1,
         autoconnect_call_and_link/1, fragments_1mb_to_100mb/1, structured_terms/1, concurrent_large/1, many_small/1,
         echo_1gb/1, file_io_server/1]).
-export([echo_1gb/0, tail_call/1]).

suite() -> [{timetrap, {seconds, 90}}].

all() ->
    [send_to_pid_name_alias, link_exit_reaches_peer, monitor_pid_and_name, exit_reason_10mb,
     remote_spawn, spawn_request_forms, erpc_forms, rpc_forms, gen_server_forms, global_names,
     pg_groups, group_leader_is_remote, file_io_server, getopts_setopts, nodes_info_counts,
     connect_disconnect_nodedown_reason, simultaneous_connect, reconnect_at_once,
     autoconnect_send_delivers, autoconnect_call_and_link, structured_terms, many_small,
     concurrent_large, fragments_1mb_to_100mb, echo_1gb].

init_per_suite(Config0) ->
    Config = bp_cluster:init_dir("dist_SUITE", Config0),
    [A, B] = bp_cluster:start_many(Config, [#{name => a}, #{name => b}]),
    true = bp_cluster:connect(A, B),
    [{a, A}, {b, B} | Config].

end_per_suite(Config) ->
    bp_cluster:end_suite(bp_cluster:dir(Config)).

init_per_testcase(_, Config) ->
    true = bp_cluster:connect(?config(a, Config), ?config(b, Config)),
    Config.

end_per_testcase(_, _) ->
    ok.

%% Nodes of a case that disconnects: what OTP has to say after a connect would connect them again.
pair_without_global(Config) ->
    bp_cluster:hush(bp_cluster:start_many(Config, [#{name => N, args => ["-connect_all", "false"]}
                                                   || N <- [a, b]])).

%% Runs F(NameOfB) in node a.
in_a(Config, F) ->
    in_a(Config, F, 60000).

in_a(Config, F, Timeout) ->
    B = bp_cluster:name(?config(b, Config)),
    bp_cluster:run(?config(a, Config), fun() -> F(B) end, Timeout).

%% ---- signals ----

send_to_pid_name_alias(Config) ->
    in_a(Config, fun(B) ->
        Self = self(),
        P = spawn(B, bp_procs, echo, []),
        true = erpc:call(B, erlang, register, [by_name, P]),
        P ! {Self, pid, {1, <<"x">>}},
        ?RECV({pid, {1, <<"x">>}}),
        {by_name, B} ! {Self, name, [1, 2.5, $c]},
        ?RECV({name, [1, 2.5, $c]}),
        Q = spawn(B, bp_procs, alias_sink, [Self]),
        Alias = receive {Q, Ref} -> Ref end,
        Alias ! first,
        ?RECV({alias_got, first}),
        Q ! unalias,
        ?RECV({Q, unaliased}),
        Alias ! second,
        Q ! third,
        ?RECV({alias_got, third}),
        ?NO_RECV({alias_got, second}, 0),
        Mine = alias([reply]),
        P ! {Mine, alias, answer},
        ?RECV({alias, answer}),
        P ! {Mine, alias, again},
        P ! {Self, pid, after_it},
        ?RECV({pid, after_it}),
        ?NO_RECV({alias, again}, 0),
        {no_such_name, B} ! lost,
        P ! stop
    end).

link_exit_reaches_peer(Config) ->
    in_a(Config, fun(B) ->
        process_flag(trap_exit, true),
        P = spawn(B, bp_procs, echo, []),
        link(P),
        exit(P, {because, [1]}),
        ?RECV({'EXIT', P, {because, [1]}}),
        %% the other direction: this side dies, the process over there must die with it
        Q = spawn(B, bp_procs, echo, []),
        MRef = monitor(process, Q),
        Middle = spawn(fun() -> link(Q), receive die -> exit(middle_died) end end),
        erlang:send_after(0, Middle, die),
        ?RECV({'DOWN', MRef, process, Q, middle_died}),
        %% unlink holds
        R = spawn(B, bp_procs, echo, []),
        link(R),
        unlink(R),
        MRef2 = monitor(process, R),
        exit(R, kill),
        ?RECV({'DOWN', MRef2, process, R, killed}),
        ?NO_RECV({'EXIT', R, _}, 100),
        %% a dead process
        link(R),
        ?RECV({'EXIT', R, noproc})
    end).

monitor_pid_and_name(Config) ->
    in_a(Config, fun(B) ->
        P = spawn(B, bp_procs, echo, []),
        true = erpc:call(B, erlang, register, [watched, P]),
        M1 = monitor(process, P),
        M2 = monitor(process, {watched, B}),
        M3 = monitor(process, {watched, B}),
        true = demonitor(M3, [flush, info]),
        M4 = monitor(process, P, [{alias, reply_demonitor}]),
        P ! {M4, x, y},
        ?RECV({x, y}),
        exit(P, bye),
        ?RECV({'DOWN', M1, process, P, bye}),
        ?RECV({'DOWN', M2, process, {watched, B}, bye}),
        ?NO_RECV({'DOWN', _, _, _, _}, 100),
        M5 = monitor(process, P),
        ?RECV({'DOWN', M5, process, P, noproc}),
        M6 = monitor(process, {watched, B}),
        ?RECV({'DOWN', M6, process, {watched, B}, noproc})
    end).

%% One watcher for each process: OTP 25's VM (erts 13.1) hangs, also over TCP, when a process
%% that ends has a second large signal to send while the queue to that node is above +zdbbl.
exit_reason_10mb(Config) ->
    in_a(Config, fun(B) ->
        process_flag(trap_exit, true),
        Reason = {big, random_bytes(10 * 1024 * 1024)},
        P = spawn_link(B, bp_procs, echo, []),
        exit(P, Reason),
        ?RECV({'EXIT', P, Reason}),
        {Q, MQ} = spawn_monitor(B, bp_procs, echo, []),
        exit(Q, Reason),
        ?RECV({'DOWN', MQ, process, Q, Reason}),
        R = spawn(B, bp_procs, echo, []),
        true = erpc:call(B, erlang, register, [big_reason, R]),
        MR = monitor(process, {big_reason, B}),
        exit(R, Reason),
        ?RECV({'DOWN', MR, process, {big_reason, B}, Reason}),
        %% a process of ours that ends with it takes along the one that is linked over there
        S = spawn(B, bp_procs, echo, []),
        MS = monitor(process, S),
        spawn(fun() -> link(S), exit(Reason) end),
        ?RECV({'DOWN', MS, process, S, Reason})
    end).

%% Reproducible bytes that do not compress to a pattern of 16 bits.
random_bytes(N) ->
    {Bin, _} = rand:bytes_s(N, rand:seed_s(exsss, 42)),
    Bin.

%% ---- spawn ----

remote_spawn(Config) ->
    in_a(Config, fun(B) ->
        process_flag(trap_exit, true),
        Self = self(),
        P1 = spawn(B, fun() -> Self ! {self(), node()} end),
        ?RECV({P1, B}),
        P2 = spawn_link(B, bp_procs, exit_with, [linked]),
        ?RECV({'EXIT', P2, linked}),
        {P3, M3} = spawn_monitor(B, bp_procs, exit_with, [monitored]),
        ?RECV({'DOWN', M3, process, P3, monitored}),
        {P4, M4} = spawn_opt(B, bp_procs, exit_with, [both], [link, monitor, {priority, high}]),
        ?RECV({'EXIT', P4, both}),
        ?RECV({'DOWN', M4, process, P4, both}),
        P5 = spawn_link(B, no_such_module, f, []),
        ?RECV({'EXIT', P5, {undef, _}})
    end).

spawn_request_forms(Config) ->
    in_a(Config, fun(B) ->
        R1 = spawn_request(B, bp_procs, exit_with, [x], [monitor]),
        P1 = receive {spawn_reply, R1, ok, Pid} -> Pid after ?LONG -> error(no_spawn_reply) end,
        ?RECV({'DOWN', R1, process, P1, x}),
        R2 = spawn_request(B, bp_procs, exit_with, [x], [{reply_tag, my_tag}]),
        ?RECV({my_tag, R2, ok, _}),
        R3 = spawn_request(B, bp_procs, exit_with, [x], [{reply, no}]),
        R4 = spawn_request(B, bp_procs, exit_with, [x], [{reply, error_only}]),
        R5 = spawn_request(B, bp_procs, exit_with, [x], [no_such_option]),
        ?RECV({spawn_reply, R5, error, badopt}),
        ?NO_RECV({spawn_reply, R3, _, _}, 0),
        ?NO_RECV({spawn_reply, R4, _, _}, 0),
        R6 = spawn_request(B, bp_procs, exit_with, [x], []),
        case spawn_request_abandon(R6) of
            true -> ok;
            false -> ?RECV({spawn_reply, R6, ok, _})
        end,
        R7 = spawn_request('nobody@127.0.0.1', bp_procs, exit_with, [x], []),
        ?RECV({spawn_reply, R7, error, noconnection})
    end).

%% ---- services ----

erpc_forms(Config) ->
    in_a(Config, fun(B) ->
        ?EQ(B, erpc:call(B, erlang, node, [])),
        ?EQ({throw, t}, try erpc:call(B, fun() -> throw(t) end) catch throw:T -> {throw, T} end),
        ?EQ({exit, {exception, e}},
            try erpc:call(B, fun() -> exit(e) end) catch exit:E -> {exit, E} end),
        ?EQ({error, {exception, oops}},
            try erpc:call(B, fun() -> error(oops) end)
            catch error:{exception, R, _} -> {error, {exception, R}} end),
        ?EQ({error, {erpc, timeout}},
            try erpc:call(B, timer, sleep, [60000], 50) catch error:X -> {error, X} end),
        ?EQ([{ok, B}, {error, {erpc, noconnection}}],
            erpc:multicall([B, 'nobody@127.0.0.1'], erlang, node, [])),
        Self = self(),
        ok = erpc:cast(B, bp_procs, say, [Self, cast_came]),
        ?RECV(cast_came),
        Req = erpc:send_request(B, bp_procs, identity, [[1, 2]]),
        ?EQ([1, 2], erpc:receive_response(Req, ?LONG)),
        Reqs = [erpc:send_request(B, bp_procs, identity, [I]) || I <- lists:seq(1, 200)],
        ?EQ(lists:seq(1, 200), [erpc:receive_response(Q, ?LONG) || Q <- Reqs])
    end).

rpc_forms(Config) ->
    in_a(Config, fun(B) ->
        ?EQ(B, rpc:call(B, erlang, node, [])),
        ?EQ({badrpc, timeout}, rpc:call(B, timer, sleep, [60000], 50)),
        {badrpc, {'EXIT', {undef, _}}} = rpc:call(B, no_such_module, f, []),
        ?EQ(3, rpc:block_call(B, erlang, '+', [1, 2])),
        Key = rpc:async_call(B, bp_procs, identity, [k]),
        ?EQ(k, rpc:yield(Key)),
        true = rpc:cast(B, bp_procs, say, [self(), rpc_cast]),
        ?RECV(rpc_cast),
        ?EQ({[node(), B], ['nobody@127.0.0.1']},
            rpc:multicall([node(), B, 'nobody@127.0.0.1'], erlang, node, [])),
        ?EQ({badrpc, nodedown}, rpc:call('nobody@127.0.0.1', erlang, node, []))
    end).

gen_server_forms(Config) ->
    in_a(Config, fun(B) ->
        {ok, Srv} = erpc:call(B, gen_server, start, [{local, a_server}, bp_stop_server, [], []]),
        ?EQ({ok, <<"x">>}, gen_server:call(Srv, {echo, <<"x">>})),
        ?EQ({ok, 1}, gen_server:call({a_server, B}, {echo, 1})),
        ok = gen_server:cast({a_server, B}, {tell, self(), cast_came}),
        ?RECV(cast_came),
        Big = random_bytes(3000000),
        ?EQ({ok, Big}, gen_server:call({a_server, B}, {echo, Big}, ?LONG)),
        {[{B, {ok, m}}], []} = gen_server:multi_call([B], a_server, {echo, m}),
        {_, {timeout, _}} = catch_exit(fun() -> gen_server:call(Srv, no_answer, 50) end),
        ?EQ(last, gen_server:call(Srv, {stop, last})),
        {exit, {noproc, _}} = catch_exit(fun() -> gen_server:call({a_server, B}, x) end)
    end).

catch_exit(F) ->
    try F() catch exit:R -> {exit, R} end.

global_names(Config) ->
    in_a(Config, fun(B) ->
        ok = global:sync(),
        Here = spawn(bp_procs, echo, []),
        yes = global:register_name(from_a, Here),
        ?EQ(Here, erpc:call(B, global, whereis_name, [from_a])),
        There = spawn(B, bp_procs, echo, []),
        yes = erpc:call(B, global, register_name, [from_b, There]),
        ?EQ(There, global:whereis_name(from_b)),
        global:send(from_b, {self(), r, hello}),
        ?RECV({r, hello}),
        no = global:register_name(from_b, Here),
        ?EQ(worked, global:trans({lock, self()}, fun() ->
            %% held here, so it cannot be had there
            false = erpc:call(B, global, set_lock, [{lock, other}, [node(), B], 0]),
            worked
        end)),
        exit(There, kill),
        bp_cluster:until(fun() -> global:whereis_name(from_b) =:= undefined end),
        _ = global:unregister_name(from_a),
        bp_cluster:until(fun() ->
            erpc:call(B, global, whereis_name, [from_a]) =:= undefined
        end)
    end).

pg_groups(Config) ->
    Releases = [list_to_integer(bp_cluster:call(?config(N, Config), erlang, system_info,
                                                [otp_release])) || N <- [a, b]],
    case lists:sort(Releases) of
        [Old, New] when New - Old > 2 ->
            {skip, lists:flatten(io_lib:format(
                "OTP ~w and ~w, more than two apart: pg of OTP 25 ends with badarg on a message of "
                "OTP 29's, over TCP as well", [Old, New]))};
        _ ->
            do_pg_groups(Config)
    end.

do_pg_groups(Config) ->
    A = bp_cluster:name(?config(a, Config)),
    in_a(Config, fun(B) ->
        {ok, _} = start_unlinked(fun() -> pg:start_link() end),
        {ok, _} = erpc:call(B, fun() -> start_unlinked(fun() -> pg:start_link() end) end),
        P = spawn(bp_procs, echo, []),
        Q = spawn(B, bp_procs, echo, []),
        ok = pg:join(group, P),
        ok = erpc:call(B, pg, join, [group, Q]),
        Both = lists:sort([P, Q]),
        bp_cluster:until(fun() -> lists:sort(pg:get_members(group)) =:= Both end),
        bp_cluster:until(fun() -> lists:sort(erpc:call(B, pg, get_members, [group])) =:= Both end),
        exit(Q, kill),
        bp_cluster:until(fun() -> pg:get_members(group) =:= [P] end),
        %% what a partition removes, a reconnect brings back
        true = erlang:disconnect_node(B),
        true = net_kernel:connect_node(B),
        bp_cluster:until(fun() -> erpc:call(B, pg, get_members, [group]) =:= [P] end),
        true = lists:member(A, erpc:call(B, erlang, nodes, []))
    end).

%% pg links to its starter; the starter here is a process of the test.
start_unlinked(F) ->
    Self = self(),
    spawn(fun() ->
        R = F(),
        Self ! {started, R},
        receive never -> ok end
    end),
    receive {started, R} -> R end.

group_leader_is_remote(Config) ->
    in_a(Config, fun(B) ->
        Old = group_leader(),
        group_leader(self(), self()),
        spawn(B, io, put_chars, ["said over there"]),
        receive
            {io_request, From, As, {put_chars, unicode, Chars}} ->
                ?EQ(<<"said over there">>, iolist_to_binary(Chars)),
                From ! {io_reply, As, ok}
        after ?LONG ->
            error({no_io_request, bp_procs:mailbox()})
        end,
        group_leader(Old, self()),
        %% set from here on a process over there
        P = spawn(B, ?MODULE, tail_call, [self()]),
        group_leader(self(), P),
        P ! leader,
        Self = self(),
        ?RECV({leader, P, Self})
    end).

tail_call(Report) ->
    receive leader -> Report ! {leader, self(), group_leader()} end.

%% The file server and a remote io device: long conversations of small messages.
file_io_server(Config) ->
    Path = filename:join(bp_cluster:dir(Config), "written_by_b"),
    in_a(Config, fun(B) ->
        {ok, Dev} = erpc:call(B, fun() -> open_unlinked(Path) end),
        [ok = io:format(Dev, "~w~n", [I]) || I <- lists:seq(1, 200)],
        ok = file:close(Dev),
        {ok, Bin} = erpc:call(B, file, read_file, [Path]),
        ?EQ(iolist_to_binary([[integer_to_list(I), $\n] || I <- lists:seq(1, 200)]), Bin)
    end).

open_unlinked(Path) ->
    start_unlinked(fun() -> file:open(Path, [write]) end).

%% ---- options, counters ----

getopts_setopts(Config) ->
    in_a(Config, fun(B) ->
        {ok, Opts} = net_kernel:getopts(B, [nodelay, sndbuf, recbuf]),
        [true = is_integer(proplists:get_value(K, Opts)) || K <- [sndbuf, recbuf]],
        ok = net_kernel:setopts(B, [{nodelay, true}]),
        ?EQ({ok, [{nodelay, true}]}, net_kernel:getopts(B, [nodelay])),
        ok = net_kernel:setopts(B, [{priority, 3}]),
        ?EQ({ok, [{priority, 3}]}, net_kernel:getopts(B, [priority])),
        {error, _} = net_kernel:getopts('nobody@127.0.0.1', [nodelay]),
        {error, _} = net_kernel:setopts('nobody@127.0.0.1', [{nodelay, true}]),
        ?EQ(pong, net_adm:ping(B))
    end).

nodes_info_counts(Config) ->
    in_a(Config, fun(B) ->
        {In0, Out0} = in_out(B),
        [pong = echo_ping(B) || _ <- lists:seq(1, 20)],
        {In1, Out1} = in_out(B),
        true = In1 - In0 >= 20,
        true = Out1 - Out0 >= 20
    end).

echo_ping(B) ->
    erpc:call(B, bp_procs, identity, [pong]).

in_out(B) ->
    {ok, All} = net_kernel:nodes_info(),
    {B, Info} = lists:keyfind(B, 1, All),
    ?EQ(up, proplists:get_value(state, Info)),
    {proplists:get_value(in, Info), proplists:get_value(out, Info)}.

%% ---- connecting ----

connect_disconnect_nodedown_reason(Config) ->
    [A, B] = pair_without_global(Config),
    true = bp_cluster:connect(A, B),
    {NA, NB} = {bp_cluster:name(A), bp_cluster:name(B)},
    %% who was dialled has its last message to read yet, as with TCP
    bp_cluster:until(fun() -> [NA] =:= bp_cluster:call(B, erlang, nodes, []) end),
    Watch = fun(Peer) ->
        ok = net_kernel:monitor_nodes(true, [nodedown_reason, {node_type, all}]),
        register(watcher, self()),
        receive {nodedown, Peer, Info} -> ok after ?LONG -> Info = error(no_nodedown) end,
        receive {nodeup, Peer, _} -> ok after ?LONG -> error(no_nodeup) end,
        receive {nodedown, Peer, Info2} -> ok after ?LONG -> Info2 = error(no_nodedown) end,
        [proplists:get_value(nodedown_reason, I) || I <- [Info, Info2]]
    end,
    WA = bp_cluster:async(A, fun() -> Watch(NB) end),
    WB = bp_cluster:async(B, fun() -> Watch(NA) end),
    [bp_cluster:until(fun() -> undefined =/= bp_cluster:call(N, erlang, whereis, [watcher]) end)
     || N <- [A, B]],
    bp_cluster:disconnect(A, B),
    true = bp_cluster:connect(A, B),
    true = bp_cluster:connect(A, B),
    ?EQ([NB], bp_cluster:call(A, erlang, nodes, [])),
    bp_cluster:until(fun() -> [NA] =:= bp_cluster:call(B, erlang, nodes, []) end),
    bp_cluster:disconnect(B, A),
    ?EQ([disconnect, connection_closed], bp_cluster:await(WA)),
    ?EQ([connection_closed, disconnect], bp_cluster:await(WB)),
    ?EQ(false, bp_cluster:call(A, net_kernel, connect_node, ['nobody@127.0.0.1'])),
    ?EQ(pang, bp_cluster:call(A, net_adm, ping, ['nobody@127.0.0.1'])).

%% Both dial at the same moment, many times: both must get the connection, and it must work.
simultaneous_connect(Config) ->
    {A, B} = {?config(a, Config), ?config(b, Config)},
    {NA, NB} = {bp_cluster:name(A), bp_cluster:name(B)},
    lists:foreach(fun(Round) ->
        bp_cluster:disconnect(A, B),
        At = erlang:system_time(millisecond) + 15,
        Dial = fun(Peer) ->
            fun() ->
                wait_clock(At),
                {net_kernel:connect_node(Peer), erpc:call(Peer, erlang, node, [])}
            end
        end,
        JA = bp_cluster:async(A, Dial(NB)),
        JB = bp_cluster:async(B, Dial(NA)),
        ?EQ({Round, {true, NB}}, {Round, bp_cluster:await(JA)}),
        ?EQ({Round, {true, NA}}, {Round, bp_cluster:await(JB)})
    end, lists:seq(1, 40)).

%% A connection that is ended while the peer is still in its handshake must not stand in the way of
%% the next one. (The peer's `global' dials back in between.)
reconnect_at_once(Config) ->
    Until = erlang:monotonic_time(millisecond) + 50000,
    Times = in_a(Config, fun(B) -> reconnects(B, 1000, Until - erlang:monotonic_time(millisecond)) end, 80000),
    ct:log("~b times, at most ~b us", [length(Times), lists:max(Times)]),
    true = length(Times) >= 100,
    %% 7 s if the old one is waited for
    ?EQ([], [Us || Us <- Times, Us > 5000000]).

%% So often, or until so many ms are over.
reconnects(_, 0, _) -> [];
reconnects(_, _, Ms) when Ms =< 0 -> [];
reconnects(B, N, Ms) ->
    {Us, {Us1, true}} = timer:tc(fun() ->
        Dial = timer:tc(net_kernel, connect_node, [B]),
        _ = erlang:disconnect_node(B),
        gone(B),
        timer:sleep(N rem 4),
        Dial
    end),
    [Us1 | reconnects(B, N - 1, Ms - Us / 1000)].

gone(B) ->
    case lists:member(B, nodes(connected)) of
        true -> timer:sleep(1), gone(B);
        false -> ok
    end.

wait_clock(At) ->
    case erlang:system_time(millisecond) >= At of
        true -> ok;
        false -> wait_clock(At)
    end.

autoconnect_send_delivers(Config) ->
    [A, B] = pair_without_global(Config),
    NB = bp_cluster:name(B),
    P = bp_cluster:run(B, fun() -> spawn(bp_procs, echo, []) end),
    true = bp_cluster:call(B, erlang, register, [auto_target, P]),
    Ways = [fun(M) -> P ! M end,
            fun(M) -> {auto_target, NB} ! M end,
            fun(M) -> erlang:send(P, M) end,
            fun(M) -> ok = erlang:send({auto_target, NB}, M, [nosuspend]) end,
            fun(M) -> P ! M, P ! {self(), second, 2}, ?RECV({second, 2}) end],
    lists:foreach(fun(Way) ->
        bp_cluster:disconnect(A, B),
        bp_cluster:run(A, fun() ->
            Payload = random_bytes(200000),
            ?EQ(noconnect, erlang:send(P, lost, [noconnect])),
            ?EQ(noconnect, erlang:send({auto_target, NB}, lost, [noconnect, nosuspend])),
            Way({self(), auto, Payload}),
            ?RECV({auto, Payload})
        end)
    end, Ways),
    bp_cluster:run(B, fun() -> P ! stop end).

%% A call, a link and a monitor each bring the connection up on their own.
autoconnect_call_and_link(Config) ->
    [A, B] = pair_without_global(Config),
    NB = bp_cluster:name(B),
    P = bp_cluster:run(B, fun() -> spawn(bp_procs, echo, []) end),
    Ways = [fun() -> ?EQ(NB, rpc:call(NB, erlang, node, [])) end,
            fun() -> ?EQ(NB, erpc:call(NB, erlang, node, [])) end,
            fun() -> link(P), unlink(P) end,
            fun() -> M = monitor(process, P), ?NO_RECV({'DOWN', M, _, _, _}, 50) end,
            fun() -> {_, M} = spawn_monitor(NB, bp_procs, exit_with, [y]),
                     ?RECV({'DOWN', M, _, _, y}) end],
    lists:foreach(fun(Way) ->
        bp_cluster:disconnect(A, B),
        bp_cluster:run(A, fun() ->
            Way(),
            bp_cluster:until(fun() -> nodes() =:= [NB] end)
        end)
    end, Ways),
    bp_cluster:run(B, fun() -> P ! stop end).

%% ---- amounts ----

echo_in(P, Term) ->
    echo_in(P, Term, ?LONG).

echo_in(P, Term, Timeout) ->
    Ref = make_ref(),
    P ! {self(), Ref, Term},
    receive
        {Ref, Term} -> ok;
        {Ref, _} -> error(echoed_term_differs)
    after Timeout -> error({no_echo, erts_debug:flat_size(Term)})
    end.

structured_terms(Config) ->
    in_a(Config, fun(B) ->
        P = spawn(B, bp_procs, echo, []),
        [echo_in(P, bp_procs:big(N)) || N <- [1, 100, 10000, 100000]],
        echo_in(P, lists:duplicate(2000, self())),
        echo_in(P, [make_ref(), fun bp_procs:big/1, fun() -> B end, P, node()]),
        echo_in(P, list_to_tuple(lists:seq(1, 300000))),
        P ! stop
    end).

many_small(Config) ->
    in_a(Config, fun(B) ->
        Sinks = [spawn(B, bp_procs, sink, []) || _ <- lists:seq(1, 8)],
        Ms = [spawn_monitor(fun() ->
                  {20000, ok} = bp_procs:sender(S, <<0:800>>, {20000, []}),
                  {20000, ok} = bp_procs:sink_count(S)
              end) || S <- Sinks],
        [?RECV({'DOWN', M, process, _, normal}) || {_, M} <- Ms]
    end).

concurrent_large(Config) ->
    in_a(Config, fun(B) ->
        Ms = [spawn_monitor(fun() ->
                  P = spawn_link(B, bp_procs, echo, []),
                  [echo_in(P, random_bytes(500000 * I)) || _ <- lists:seq(1, 3)]
              end) || I <- lists:seq(1, 8)],
        [?RECV({'DOWN', M, process, _, normal}) || {_, M} <- Ms]
    end).

fragments_1mb_to_100mb(Config) ->
    in_a(Config, fun(B) ->
        P = spawn(B, bp_procs, echo, []),
        Mb = random_bytes(1024 * 1024),
        %% sizes on both sides of the VM's fragment size
        [echo_in(P, binary:part(Mb, 0, N)) || N <- [65000, 65535, 65536, 65537, 131072, 131073]],
        [echo_in(P, binary:copy(Mb, N)) || N <- [1, 3, 10, 100]],
        %% the same amount in many separate binaries
        echo_in(P, [binary:copy(<<I:64>>, 100) || I <- lists:seq(1, 30000)]),
        P ! stop
    end).

echo_1gb() ->
    [{timetrap, {seconds, 180}}].

echo_1gb(Config) ->
    in_a(Config, fun(B) ->
        P = spawn(B, bp_procs, echo, []),
        Mb = random_bytes(1024 * 1024),
        Part = binary:copy(Mb, 256),
        Term = {first, Part, [Part, #{k => Part}], Part, last},
        echo_in(P, Term, 150000),
        P ! stop,
        garbage_collect()
    end, 170000).
