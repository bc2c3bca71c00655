%% SPDX-License-Identifier: Apache-2.0
%% Nodes that come, go, hang and are of special kinds: ticks, SIGSTOP, SIGKILL, restart, busy
%% ports, cookies, hidden and nameless nodes, a mesh. Every case has nodes of its own.
-module(lifecycle_SUITE).

-include("bp_test.hrl").

-export([suite/0, all/0, groups/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([idle_connection_outlives_ticktime/1, hung_peer_is_net_tick_timeout/1,
         killed_peer_is_nodedown/1, stopped_peer_is_nodedown/1, restart_has_new_creation/1,
         busy_dist_port_is_reported/1, nosuspend_is_refused/1, zdbbl_sets_the_limit/1,
         cookie_mismatch_is_refused/1, cookie_per_node/1, mesh_of_five/1, hidden_node/1,
         node_without_listener/1, node_with_dynamic_name/1, remsh_from_nameless_shell/1,
         distribution_started_later/1, auto_connect_never/1,
         preferred_connection_never_comes/1, unreachable_node_fails_in_time/1]).

suite() -> [{timetrap, {seconds, 90}}].

all() ->
    [killed_peer_is_nodedown, stopped_peer_is_nodedown, hung_peer_is_net_tick_timeout,
     idle_connection_outlives_ticktime, restart_has_new_creation, busy_dist_port_is_reported,
     nosuspend_is_refused, zdbbl_sets_the_limit, cookie_mismatch_is_refused, cookie_per_node,
     mesh_of_five, hidden_node, node_without_listener, node_with_dynamic_name,
     remsh_from_nameless_shell, distribution_started_later, auto_connect_never,
     preferred_connection_never_comes, unreachable_node_fails_in_time].

groups() -> [].

init_per_suite(Config) -> Config.

end_per_suite(_) -> ok.

init_per_testcase(remsh_from_nameless_shell = Case, Config) ->
    case os:find_executable("script") of
        false -> {skip, "script(1), which makes a terminal, is not installed"};
        _ -> bp_cluster:init_case(?MODULE, Case, Config)
    end;
init_per_testcase(preferred_connection_never_comes = Case, Config) ->
    case bp_cluster:only(quic) of
        ok -> bp_cluster:init_case(?MODULE, Case, Config);
        Skip -> Skip
    end;
init_per_testcase(Case, Config) ->
    bp_cluster:init_case(?MODULE, Case, Config).

end_per_testcase(_, Config) ->
    bp_cluster:end_case(Config).

pair(Config) ->
    pair(Config, [], []).

pair(Config, ArgsA, ArgsB) ->
    [A, B] = bp_cluster:start_many(Config, [#{name => a, args => ArgsA},
                                            #{name => b, args => ArgsB}]),
    true = bp_cluster:connect(A, B),
    {A, B}.

%% Starts a process in node N that notes nodedown and nodeup with their time; ask with seen/2.
watch_nodes(N) ->
    Watcher = bp_cluster:run(N, fun() ->
        Self = self(),
        Pid = spawn(fun() ->
            ok = net_kernel:monitor_nodes(true, [nodedown_reason, {node_type, all}]),
            Self ! {self(), ready},
            watch_loop([])
        end),
        receive {Pid, ready} -> Pid end
    end),
    {N, Watcher}.

watch_loop(Seen) ->
    receive
        {What, Node, Info} when What =:= nodedown; What =:= nodeup ->
            Reason = proplists:get_value(nodedown_reason, Info),
            watch_loop([{What, Node, Reason, erlang:system_time(millisecond)} | Seen]);
        {get, From} ->
            From ! {self(), lists:reverse(Seen)},
            watch_loop(Seen)
    end.

seen({N, Watcher}) ->
    bp_cluster:run(N, fun() ->
        Watcher ! {get, self()},
        receive {Watcher, Seen} -> Seen after ?LONG -> error(watcher_silent) end
    end).

%% {Reason, SystemTimeMs} of the nodedown for Node.
wait_down({_, _} = Watch, Node, Timeout) ->
    bp_cluster:until(fun() ->
        case [{R, T} || {nodedown, N, R, T} <- seen(Watch), N =:= Node] of
            [First | _] -> {true, First};
            [] -> false
        end
    end, Timeout).

echo_works(A, B) ->
    NB = bp_cluster:name(B),
    ?EQ(NB, bp_cluster:run(A, fun() -> erpc:call(NB, erlang, node, [], 20000) end)).

%% ---- ends ----

killed_peer_is_nodedown(Config) ->
    {A, B} = pair(Config),
    W = watch_nodes(A),
    NB = bp_cluster:name(B),
    M = bp_cluster:async(A, fun() ->
        {P, M} = spawn_monitor(NB, bp_procs, echo, []),
        register(waits, self()),
        receive {'DOWN', M, process, P, Reason} -> Reason after ?LONG -> no_down end
    end),
    bp_cluster:until(fun() -> bp_cluster:call(A, erlang, whereis, [waits]) =/= undefined end),
    At = erlang:system_time(millisecond),
    bp_cluster:kill9(B),
    %% ticks would take 45 s and more
    {Reason, T} = wait_down(W, NB, 15000),
    ct:pal("nodedown ~w ms after SIGKILL, reason ~p", [T - At, Reason]),
    ?EQ(noconnection, bp_cluster:await(M)),
    ?EQ(false, bp_cluster:connect(A, B)).

stopped_peer_is_nodedown(Config) ->
    {A, B} = pair(Config),
    W = watch_nodes(A),
    bp_cluster:stop(B),
    {connection_closed, _} = wait_down(W, bp_cluster:name(B), 10000).

hung_peer_is_net_tick_timeout(Config) ->
    Args = ["-kernel", "net_ticktime", "2"],
    {A, B} = pair(Config, Args, Args),
    {WA, WB} = {watch_nodes(A), watch_nodes(B)},
    {NA, NB} = {bp_cluster:name(A), bp_cluster:name(B)},
    At = erlang:system_time(millisecond),
    bp_cluster:signal(B, "STOP"),
    {Reason, T} = wait_down(WA, NB, 30000),
    ?EQ(net_tick_timeout, Reason),
    ct:pal("nodedown ~w ms after SIGSTOP", [T - At]),
    %% never before 3/4 of the tick time, never long after 5/4
    true = T - At >= 1400,
    true = T - At < 8000,
    bp_cluster:signal(B, "CONT"),
    {_, _} = wait_down(WB, NA, 20000),
    bp_cluster:until(fun() -> bp_cluster:connect(A, B) end),
    echo_works(A, B).

%% net_ticktime 2 s: ticks alone keep it up, in both directions, for four times as long. (With 1 s a
%% node that does not run for 0.8 s, on a busy machine, is rightly taken for dead.)
idle_connection_outlives_ticktime(Config) ->
    Args = ["-kernel", "net_ticktime", "2"],
    {A, B} = pair(Config, Args, Args),
    {WA, WB} = {watch_nodes(A), watch_nodes(B)},
    {In0, Out0} = in_out(A, B),
    timer:sleep(8000),
    ?EQ([], seen(WA)),
    ?EQ([], seen(WB)),
    {In1, Out1} = in_out(A, B),
    %% net_kernel sees the ticks: about two a second in each direction
    true = In1 - In0 >= 4,
    true = Out1 - Out0 >= 4,
    echo_works(A, B).

in_out(A, B) ->
    {ok, All} = bp_cluster:call(A, net_kernel, nodes_info, []),
    {_, Info} = lists:keyfind(bp_cluster:name(B), 1, All),
    {proplists:get_value(in, Info), proplists:get_value(out, Info)}.

restart_has_new_creation(Config) ->
    {A, B} = pair(Config),
    NB = bp_cluster:name(B),
    W = watch_nodes(A),
    {Old, Ref} = bp_cluster:run(A, fun() ->
        P = spawn(NB, bp_procs, echo, []),
        P ! {self(), r, x},
        ?RECV({r, x}),
        {P, erpc:call(NB, erlang, make_ref, [])}
    end),
    Creation = bp_cluster:call(B, erlang, system_info, [creation]),
    bp_cluster:kill9(B),
    {_, _} = wait_down(W, NB, 15000),
    B2 = bp_cluster:start(Config, #{node => NB}),
    Creation2 = bp_cluster:call(B2, erlang, system_info, [creation]),
    true = Creation =/= Creation2,
    bp_cluster:until(fun() -> bp_cluster:connect(A, B2) end),
    bp_cluster:run(A, fun() ->
        process_flag(trap_exit, true),
        New = spawn(NB, bp_procs, echo, []),
        M = monitor(process, Old),
        ?RECV({'DOWN', M, process, Old, noproc}),
        link(Old),
        ?RECV({'EXIT', Old, noproc}),
        Old ! {self(), r, to_the_dead},
        ?EQ(false, erpc:call(NB, fun() -> lists:member(Old, processes()) end)),
        New ! {self(), r2, x},
        ?RECV({r2, x}),
        ?NO_RECV({r, _}, 0),
        ?EQ(false, Ref =:= erpc:call(NB, erlang, make_ref, [])),
        New ! stop
    end).

%% ---- busy ----

busy_dist_port_is_reported(Config) ->
    {A, B} = pair(Config),
    NB = bp_cluster:name(B),
    Sink = bp_cluster:run(A, fun() -> spawn(NB, bp_procs, sink, []) end),
    Watch = bp_cluster:call(A, bp_procs, busy_watch, []),
    bp_cluster:signal(B, "STOP"),
    Count = 2000,
    Sender = bp_cluster:run(A, fun() ->
        spawn(fun() ->
            {Count, ok} = bp_procs:sender(Sink, <<0:(64 * 1024 * 8)>>, {Count, []}),
            receive {done, From} -> From ! {self(), done} end
        end)
    end),
    bp_cluster:until(fun() ->
        bp_cluster:run(A, fun() ->
            Watch ! {get, self()},
            receive {Watch, Seen} -> lists:member(Sender, Seen) end
        end)
    end),
    %% until nothing moves from the VM's queue to the carrier any more it runs again now and then
    bp_cluster:until(fun() ->
        {status, suspended} =:= bp_cluster:call(A, erlang, process_info, [Sender, status])
    end),
    bp_cluster:signal(B, "CONT"),
    bp_cluster:run(A, fun() ->
        Sender ! {done, self()},
        ?RECV({Sender, done}),
        ?EQ({Count, ok}, bp_procs:sink_count(Sink))
    end).

nosuspend_is_refused(Config) ->
    {A, B} = pair(Config),
    NB = bp_cluster:name(B),
    Sink = bp_cluster:run(A, fun() -> spawn(NB, bp_procs, sink, []) end),
    bp_cluster:signal(B, "STOP"),
    {Sent, nosuspend} = fill(A, Sink),
    ct:pal("~w messages of 32 KB accepted", [Sent]),
    bp_cluster:run(A, fun() ->
        ?EQ(nosuspend, erlang:send(Sink, x, [nosuspend])),
        ?EQ(nosuspend, erlang:send({some_name, NB}, x, [nosuspend, noconnect])),
        ?EQ(false, erlang:send_nosuspend(Sink, x)),
        ?EQ(false, erlang:send_nosuspend(Sink, x, [noconnect]))
    end),
    bp_cluster:signal(B, "CONT"),
    bp_cluster:run(A, fun() ->
        bp_cluster:until(fun() -> erlang:send_nosuspend(Sink, ignored) end),
        ?EQ({Sent, ok}, bp_procs:sink_count(Sink))
    end).

%% Sends 32 KB messages until nothing is taken any more: {Accepted, nosuspend}.
fill(A, Sink) ->
    bp_cluster:run(A, fun() -> bp_procs:fill(Sink, <<0:(32 * 1024 * 8)>>, 20000) end).

zdbbl_sets_the_limit(Config) ->
    [A, C, B] = bp_cluster:start_many(Config, [#{name => a, args => ["+zdbbl", "64"]},
                                               #{name => c, args => ["+zdbbl", "65536"]},
                                               #{name => b}]),
    NB = bp_cluster:name(B),
    ?EQ(64 * 1024, bp_cluster:call(A, erlang, system_info, [dist_buf_busy_limit])),
    [SA, SC] = [bp_cluster:run(N, fun() -> spawn(NB, bp_procs, sink, []) end) || N <- [A, C]],
    bp_cluster:signal(B, "STOP"),
    {Small, nosuspend} = fill(A, SA),
    {Large, nosuspend} = fill(C, SC),
    ct:pal("+zdbbl 64: ~w, +zdbbl 65536: ~w messages of 32 KB", [Small, Large]),
    %% the limits differ by 2046 messages; what sockets and the carrier hold varies
    true = Large - Small > 1500,
    bp_cluster:signal(B, "CONT"),
    [?EQ({Sent, ok}, bp_cluster:run(N, fun() -> bp_procs:sink_count(S) end))
     || {N, S, Sent} <- [{A, SA, Small}, {C, SC, Large}]].

%% ---- cookies ----

cookie_mismatch_is_refused(Config) ->
    [A, B] = bp_cluster:start_many(Config, [#{name => a, cookie => "one"},
                                            #{name => b, cookie => "two"}]),
    ?EQ(false, bp_cluster:connect(A, B)),
    ?EQ(false, bp_cluster:connect(B, A)),
    ?EQ([], bp_cluster:call(A, erlang, nodes, [connected])),
    ?EQ([], bp_cluster:call(B, erlang, nodes, [connected])),
    %% OTP's own line on the accepting side
    bp_cluster:wait_log(B, [atom_to_list(bp_cluster:name(A)), "Invalid challenge reply"]),
    bp_cluster:wait_log(A, [atom_to_list(bp_cluster:name(B)), "Invalid challenge reply"]),
    case bp_cluster:carrier() of
        quic ->
            [bp_cluster:wait_log(X, [atom_to_list(bp_cluster:name(Y)), "cookie"])
             || {X, Y} <- [{A, B}, {B, A}]];
        _ ->
            ok % the dialling side says nothing over TCP
    end,
    %% the right cookie cures it
    true = bp_cluster:call(A, erlang, set_cookie, [two]),
    ?EQ(true, bp_cluster:connect(A, B)),
    echo_works(A, B).

cookie_per_node(Config) ->
    [A, B] = bp_cluster:start_many(Config, [#{name => a, cookie => "one"},
                                            #{name => b, cookie => "two"}]),
    true = bp_cluster:call(A, erlang, set_cookie, [bp_cluster:name(B), two]),
    ?EQ(true, bp_cluster:connect(A, B)),
    echo_works(A, B).

%% ---- many, and special nodes ----

mesh_of_five(Config) ->
    Nodes = [First | Others] =
        bp_cluster:start_many(Config, [#{name => N} || N <- [m1, m2, m3, m4, m5]]),
    [true = bp_cluster:connect(N, First) || N <- Others],
    Names = lists:sort([bp_cluster:name(N) || N <- Nodes]),
    %% global makes the rest of the mesh
    [bp_cluster:until(fun() ->
        Names =:= lists:sort([bp_cluster:name(N) | bp_cluster:call(N, erlang, nodes, [])])
     end) || N <- Nodes],
    Jobs = [bp_cluster:async(N, fun() ->
        [{P, {ok, P}} = {P, erpc_echo(P, I)} || I <- lists:seq(1, 20), P <- Names],
        {Answers, []} = rpc:multicall(Names, erlang, node, []),
        lists:sort(Answers)
    end) || N <- Nodes],
    [?EQ(Names, bp_cluster:await(J)) || J <- Jobs],
    %% one dies: the four others see it and keep each other
    Last = lists:last(Nodes),
    bp_cluster:kill9(Last),
    Rest = lists:delete(Last, Nodes),
    RestNames = lists:sort([bp_cluster:name(N) || N <- Rest]),
    [bp_cluster:until(fun() ->
        RestNames =:= lists:sort([bp_cluster:name(N) | bp_cluster:call(N, erlang, nodes, [])])
     end) || N <- Rest].

erpc_echo(P, I) ->
    Big = binary:copy(<<I>>, I * 5000),
    {P, Big} = erpc:call(P, fun() -> {node(), Big} end),
    {ok, P}.

hidden_node(Config) ->
    [A, B, H] = bp_cluster:start_many(Config, [#{name => a}, #{name => b},
                                               #{name => h, args => ["-hidden"]}]),
    true = bp_cluster:connect(A, B),
    {NA, NB, NH} = {bp_cluster:name(A), bp_cluster:name(B), bp_cluster:name(H)},
    true = bp_cluster:connect(H, A),
    echo_works(H, A),           % who was dialled may know it a little later
    ?EQ([], bp_cluster:call(H, erlang, nodes, [])),
    ?EQ([NA], bp_cluster:call(H, erlang, nodes, [hidden])),
    ?EQ([NB], bp_cluster:call(A, erlang, nodes, [])),
    ?EQ([NH], bp_cluster:call(A, erlang, nodes, [hidden])),
    ?EQ([], bp_cluster:call(B, erlang, nodes, [hidden])),
    echo_works(A, H),
    %% dialled from outside too
    true = bp_cluster:connect(B, H),
    ?EQ([NH], bp_cluster:call(B, erlang, nodes, [hidden])).

node_without_listener(Config) ->
    [A, L] = bp_cluster:start_many(Config, [#{name => a},
                                            #{name => l, args => ["-dist_listen", "false"]}]),
    NL = bp_cluster:name(L),
    ?EQ(false, bp_cluster:connect(A, L)),
    true = bp_cluster:connect(L, A),
    echo_works(L, A),
    echo_works(A, L),
    ?EQ([NL], bp_cluster:call(A, erlang, nodes, [hidden])),
    bp_cluster:disconnect(A, L),
    ?EQ(false, bp_cluster:connect(A, L)),
    true = bp_cluster:connect(L, A).

node_with_dynamic_name(Config) ->
    [A, D, E] = bp_cluster:start_many(Config, [#{name => a, names => short},
                                               #{names => dynamic}, #{names => dynamic}]),
    NA = bp_cluster:name(A),
    ?EQ(nonode@nohost, bp_cluster:call(D, erlang, node, [])),
    Names = [begin
        true = bp_cluster:connect(N, A),
        Name = bp_cluster:call(N, erlang, node, []),
        ?EQ(true, Name =/= nonode@nohost),
        ?EQ(NA, bp_cluster:run(N, fun() -> erpc:call(NA, erlang, node, []) end)),
        ?EQ(Name, bp_cluster:run(A, fun() -> erpc:call(Name, erlang, node, []) end)),
        Name
    end || N <- [D, E]],
    ?EQ(lists:sort(Names), lists:sort(bp_cluster:call(A, erlang, nodes, [hidden]))),
    bp_cluster:kill9(D),
    bp_cluster:until(fun() ->
        tl(Names) =:= bp_cluster:call(A, erlang, nodes, [hidden])
    end),
    echo_back(A, E, lists:last(Names)).

echo_back(A, E, NameOfE) ->
    NA = bp_cluster:name(A),
    ?EQ(pong, bp_cluster:call(E, net_adm, ping, [NA])),
    ?EQ(pong, bp_cluster:call(A, net_adm, ping, [NameOfE])).

remsh_from_nameless_shell(Config) ->
    B = bp_cluster:start(Config, #{name => b, names => short}),
    NB = atom_to_list(bp_cluster:name(B)),
    Shell = bp_cluster:program(Config, ["-setcookie", "ct", "-remsh", NB], #{}),
    bp_cluster:until(fun() -> bp_cluster:call(B, erlang, nodes, [hidden]) =/= [] end),
    true = bp_cluster:input(Shell, "{at, node(), 6 * 7}.\n"),
    bp_cluster:until(fun() -> has(Shell, "{at," ++ NB ++ ",42}") end),
    true = bp_cluster:input(Shell, "{sum, lists:foldl(fun(X, S) -> X + S end, 0, lists:seq(1, 9))}.\n"),
    bp_cluster:until(fun() -> has(Shell, "{sum,45}") end),
    bp_cluster:kill9(Shell),
    bp_cluster:until(fun() -> bp_cluster:call(B, erlang, nodes, [hidden]) =:= [] end).

has(Node, Text) ->
    string:find(bp_cluster:log(Node), Text) =/= nomatch.

%% The three flags, but no name: distribution starts, stops and starts again at run time.
distribution_started_later(Config) ->
    [A, L] = bp_cluster:start_many(Config, [#{name => a}, #{names => none}]),
    NA = bp_cluster:name(A),
    W = watch_nodes(A),
    Name = list_to_atom(bp_cluster:unique(later) ++ "@127.0.0.1"),
    Start = fun(N) ->
        bp_cluster:run(L, fun() ->
            {ok, _} = net_kernel:start([N, longnames]),
            true = erlang:set_cookie(ct),
            N = node(),
            true = net_kernel:connect_node(NA),
            erpc:call(NA, erlang, nodes, [])
        end)
    end,
    ?EQ([Name], Start(Name)),
    ?EQ(pong, bp_cluster:call(A, net_adm, ping, [Name])),
    ok = bp_cluster:call(L, net_kernel, stop, []),
    %% the VM takes the name back when net_kernel's exit is through, which stop() does not wait for
    bp_cluster:until(fun() -> bp_cluster:call(L, erlang, node, []) =:= nonode@nohost end),
    {_, _} = wait_down(W, Name, 15000),
    ?EQ([Name], Start(Name)),
    %% and it can be dialled, not only dial; `global' of one may connect them again meanwhile
    bp_cluster:disconnect(A, L#{node := Name}),
    ?EQ(true, bp_cluster:call(A, net_kernel, connect_node, [Name])).

auto_connect_never(Config) ->
    [A, B] = bp_cluster:start_many(Config, [
        #{name => a, args => ["-kernel", "dist_auto_connect", "never"]}, #{name => b}]),
    NB = bp_cluster:name(B),
    bp_cluster:run(A, fun() ->
        {nobody, NB} ! hello,
        ?EQ(pang, net_adm:ping(NB)),
        ?EQ([], nodes()),
        ?EQ(true, net_kernel:connect_node(NB)),
        ?EQ(pong, net_adm:ping(NB))
    end).

%% B prefers its own connection to us, which can never come: it dials into the void. We are refused,
%% but not kept waiting for it: as soon as B has given up we are connected.
preferred_connection_never_comes(Config) ->
    {ok, Void} = gen_udp:open(0, [{ip, {127, 0, 0, 1}}]),
    {ok, VoidPort} = inet:port(Void),
    A = bp_cluster:start(Config, #{name => a, args => ["-kernel", "net_setuptime", "30"]}),
    {NA, Nodes} = {bp_cluster:name(A), fun(At) -> {dist, [{nodes, At}]} end},
    B = bp_cluster:start(Config, #{name => b, args => ["-kernel", "net_setuptime", "4"],
                                   config => [{quic, [Nodes([{NA, {"127.0.0.1", VoidPort}}])]}]}),
    Dial = bp_cluster:async(B, fun() -> net_kernel:connect_node(NA) end),
    bp_cluster:until(fun() ->
        bp_cluster:call(B, ets, member, [sys_dist, NA])
    end),
    {Us, true} = bp_cluster:run(A, fun() ->
        timer:tc(net_kernel, connect_node, [bp_cluster:name(B)])
    end),
    ct:pal("connected after ~w ms", [Us div 1000]),
    _ = bp_cluster:await(Dial),
    ok = gen_udp:close(Void).

%% A node that is not there: an answer, at once, not a hang; and nobody home at an address.
unreachable_node_fails_in_time(Config) ->
    A = bp_cluster:start(Config, #{name => a, args => ["-kernel", "net_setuptime", "3"]}),
    {Us, false} = bp_cluster:run(A, fun() ->
        timer:tc(net_kernel, connect_node, ['not_there@127.0.0.1'])
    end),
    true = Us < 5000000,
    echo_alone(A).

echo_alone(A) ->
    ?EQ(pong, bp_cluster:call(A, net_adm, ping, [bp_cluster:name(A)])).
