%% SPDX-License-Identifier: Apache-2.0
%% Random operations on real nodes, and what must hold whatever they are: `make monkey'.
%%
%% Nodes come and go, stop, rotate keys, move paths, use relays, have streams and membership, several
%% things at once. Every 40 or so operations everything must come to an end, every pair of nodes must
%% connect and be in order, and a node without connections must hold what it held after its boot.
-module(bp_monkey).

-export([main/0, run/2]).

-define(EPOCH, 40).             % operations between two checks of everything
-define(QUIET_MS, 120000).      % what may take until everything has ended: a stopped peer, ticks, 20 MB
-define(IDLE_MS, 60000).        % ... until a node without connections holds nothing any more
-define(MOST_ROTATIONS, 3).     % between two checks: a peer follows at most four

-record(node, {h :: map(), life = 1, state = up :: up | stopped, rotations = 0, base, until = 0}).

%% Environment: MONKEY_SECONDS, MONKEY_NODES, SEED; MONKEY_LASTING=1: nodes are not killed, and must
%% not grow.
-spec main() -> no_return().
main() ->
    Seed = list_to_integer(os:getenv("SEED", integer_to_list(rand:uniform(1000000)))),
    Opts = #{seconds => list_to_integer(os:getenv("MONKEY_SECONDS", "600")),
             nodes => list_to_integer(os:getenv("MONKEY_NODES", "5")),
             lasting => os:getenv("MONKEY_LASTING") =:= "1", seed => Seed},
    Config = bp_cluster:init_dir("monkey", []),
    Status = try run(Config, Opts) of
                 Summary -> io:format("~0p~nseed ~b: nothing wrong~n", [Summary, Seed]), 0
             catch
                 _:Reason:Stack ->
                     io:format("seed ~b: WRONG ~P~n~0P~nnodes' logs: ~ts~n",
                               [Seed, Reason, 3000, Stack, 60, bp_cluster:dir(Config)]),
                     1
             end,
    bp_cluster:end_suite(bp_cluster:dir(Config)),   % with DRIVER=asan they end cleanly, so that leaks are found
    halt(Status).

%% Opts: seconds, nodes, seed, lasting. Fails at the first thing that is wrong; else what was done.
-spec run(list(), map()) -> map().
run(Config, #{seconds := Seconds, nodes := N, seed := Seed} = Opts) ->
    _ = rand:seed(exsss, Seed),
    say("seed ~b, ~b nodes, ~b s", [Seed, N, Seconds]),
    Handles = bp_cluster:start_many(Config, [opts(I) || I <- lists:seq(1, N)]),
    Names = [bp_cluster:name(H) || H <- Handles],
    Nodes = maps:from_list([{I, begin_life(#node{h = H}, Names)}
                            || {I, H} <- lists:zip(lists:seq(1, N), Handles)]),
    End = erlang:monotonic_time(millisecond) + Seconds * 1000,
    epochs(#{config => Config, names => Names, nodes => Nodes, jobs => #{}, relays => [],
             done => #{}, epochs => 0, sums => #{}, lasting => maps:get(lasting, Opts, false)}, End).

say(Format, Args) ->
    {_, {H, M, S}} = calendar:local_time(),
    io:format(standard_error, "          ~2..0b:~2..0b:~2..0b " ++ Format ++ "~n", [H, M, S | Args]).

opts(I) ->
    Name = "m" ++ integer_to_list(I),
    #{name => list_to_atom(Name), cwd => Name,
      config => [{barrel_p2p, [{dist_gc_min_age_ms, 1500}, {dist_gc_sweep_period_ms, 400}]}],
      args => ["-connect_all", "false", "-kernel", "prevent_overlapping_partitions", "false",
               "net_ticktime", "8"]}.

begin_life(#node{h = H} = Node, Names) ->
    {ok, _} = bp_cluster:call(H, application, ensure_all_started, [barrel_p2p]),
    {ok, _} = bp_cluster:call(H, application, ensure_all_started, [crypto]),
    ok = bp_cluster:call(H, bp_monkey_node, start, [Names -- [bp_cluster:name(H)]]),
    Self = self(),
    Life = Node#node.life,
    %% not linked: it fails when the node is put away
    spawn(fun() ->
        try Self ! {ended, bp_cluster:name(H), Life, bp_cluster:await_exit(H, infinity)}
        catch exit:_ -> ok
        end
    end),
    Node#node{base = bp_cluster:call(H, bp_monkey_node, base, [])}.

epochs(St, End) ->
    case erlang:monotonic_time(millisecond) >= End of
        true ->
            maps:with([done, epochs, sums], St);
        false ->
            St1 = lists:foldl(fun(_, S) -> step(S) end, St, lists:seq(1, ?EPOCH)),
            St2 = everything_ends(St1),
            #{epochs := E} = St2,
            epochs(St2#{epochs => E + 1}, End)
    end.

%% --- one operation ---------------------------------------------------------------------

step(St0) ->
    St = collect(continue(St0)),
    Op = pick(operations(St)),
    St1 = try operation(Op, St)
          catch Class:Reason:Stack -> error({Op, Class, Reason, Stack})
          end,
    #{done := Done} = St1,
    timer:sleep(rand:uniform(300)),
    check_nodes(St1#{done => maps:update_with(Op, fun(X) -> X + 1 end, 1, Done)}).

operations(#{lasting := true}) ->
    operations() -- [kill, stop, rotate_and_kill];
operations(_) ->
    operations().

operations() ->
    [connect, connect, connect, connect, disconnect, disconnect, kill, stop, pause, pause, migrate, migrate,
     migrate, rotate_identity, rotate_cert, rotate_and_kill, delete_key, delete_key_disconnect,
     streams, streams, streams, lives, lives, lives, flood, kill_controller, restart_app, join, join, leave, relay, relay_end, sweep, erpc,
     all_connect, dial_both].

operation(connect, St) ->
    {A, B} = pair(St),
    job(St, A, connect, fun(H) -> bp_cluster:call(H, net_kernel, connect_node, [B]) end);
operation(dial_both, #{nodes := Nodes} = St) ->
    case up(St) of
        [I, J | _] ->
            #{I := #node{h = A}, J := #node{h = B}} = Nodes,
            S1 = job(St, I, connect, fun(H) -> bp_cluster:call(H, net_kernel, connect_node, [bp_cluster:name(B)]) end),
            job(S1, J, connect, fun(H) -> bp_cluster:call(H, net_kernel, connect_node, [bp_cluster:name(A)]) end);
        _ ->
            St
    end;
operation(all_connect, #{names := Names} = St) ->
    lists:foldl(fun(I, S) ->
        job(S, I, connect, fun(H) ->
            [bp_cluster:call(H, net_kernel, connect_node, [B]) || B <- Names, B =/= bp_cluster:name(H)]
        end)
    end, St, up(St));
operation(disconnect, St) ->
    {A, B} = pair(St),
    job(St, A, disconnect, fun(H) -> bp_cluster:call(H, erlang, disconnect_node, [B]) end);
operation(kill, St) ->
    kill(pick(live(St)), St);
operation(stop, St) ->
    case up(St) of
        [I | _] ->
            #{nodes := #{I := #node{h = H}}} = St,
            ok = bp_cluster:call(H, init, stop, []),
            {exit, 0} = bp_cluster:await_exit(H, 60000),
            restart(I, St);
        [] ->
            St
    end;
operation(pause, St) ->
    case up(St) of
        [I, _, _ | _] ->        % at least two stay
            #{nodes := #{I := #node{h = H} = Node} = Nodes} = St,
            ok = bp_cluster:signal(H, "STOP"),
            Until = erlang:monotonic_time(millisecond) + pick([50, 500, 1500, 4000, 12000]),
            St#{nodes => Nodes#{I => Node#node{state = stopped, until = Until}}};
        _ ->
            St
    end;
operation(migrate, St) ->
    {A, B} = pair(St),
    job(St, A, migrate, fun(H) ->
        case bp_cluster:call(H, barrel_p2p, migrate_peer, [B]) of
            ok -> ok;
            {error, _} -> ok
        end
    end);
operation(rotate_identity, St) ->
    rotate(pick(live(St)), St);
operation(rotate_and_kill, St) ->
    I = pick(live(St)),
    St1 = rotate(I, St),
    timer:sleep(rand:uniform(30)),
    kill(I, St1);
operation(rotate_cert, St) ->
    job(St, pick(live(St)), rotate_cert, fun(H) ->
        {ok, _} = bp_cluster:call(H, barrel_p2p_rotate, rotate_cert, [])
    end);
operation(delete_key, St) ->
    {A, B} = pair(St),
    job(St, A, delete_key, fun(H) -> ok = bp_cluster:call(H, barrel_p2p_dist_keys, delete_key, [B]) end);
operation(delete_key_disconnect, St) ->
    {A, B} = pair(St),
    job(St, A, delete_key, fun(H) ->
        ok = bp_cluster:call(H, barrel_p2p_dist_keys, delete_key, [B, [disconnect]])
    end);
operation(streams, St) ->
    {A, B} = pair(St),
    Args = [B, rand:uniform(12), rand:uniform(1 bsl 40)],
    job(St, A, streams, fun(H) -> ok = bp_cluster:call(H, bp_monkey_node, streams, Args) end);
operation(lives, St) ->
    {A, B} = pair(St),
    Args = [B, rand:uniform(40)],
    job(St, A, lives, fun(H) -> ok = bp_cluster:call(H, bp_monkey_node, lives, Args) end);
operation(flood, St) ->
    {A, B} = pair(St),
    job(St, A, flood, fun(H) -> ok = bp_cluster:call(H, bp_monkey_node, flood, [B]) end);
operation(kill_controller, St) ->
    {A, B} = pair(St),
    job(St, A, kill_controller, fun(H) ->
        case bp_cluster:call(H, quic_dist, get_controller, [B]) of
            {ok, Pid} -> bp_cluster:call(H, erlang, exit, [Pid, kill]);
            {error, _} -> ok
        end
    end);
operation(restart_app, St) ->
    job(St, pick(live(St)), restart_app, fun(H) -> ok = bp_cluster:call(H, bp_monkey_node, restart_app, []) end);
operation(join, St) ->
    {A, B} = pair(St),
    job(St, A, join, fun(H) -> ok = bp_cluster:call(H, barrel_p2p, join, [B]) end);
operation(leave, St) ->
    job(St, pick(live(St)), leave, fun(H) -> _ = bp_cluster:call(H, barrel_p2p, leave, []) end);
operation(sweep, St) ->
    job(St, pick(live(St)), sweep, fun(H) -> ok = bp_cluster:call(H, barrel_p2p_dist_gc, sweep_now, []) end);
operation(erpc, St) ->
    {A, B} = pair(St),
    job(St, A, erpc, fun(H) ->
        Answer = bp_cluster:run(H, fun() ->
            try erpc:call(B, erlang, node, [], 5000)
            catch error:{erpc, R} when R =:= noconnection; R =:= timeout -> B
            end
        end),
        B = Answer
    end);
operation(relay, St) ->
    relay(up(St), St);
operation(relay_end, #{relays := Relays} = St) ->
    [bp_relay:stop(R) || R <- Relays],
    St#{relays => []}.

rotate(I, #{nodes := Nodes} = St) ->
    #{I := #node{rotations = R} = Node} = Nodes,
    case R < ?MOST_ROTATIONS of
        true ->
            job(St#{nodes => Nodes#{I => Node#node{rotations = R + 1}}}, I, rotate, fun(H) ->
                {ok, _} = bp_cluster:call(H, barrel_p2p_rotate, rotate_identity, [])
            end);
        false ->
            St
    end.

%% The next dial of I to J goes through a forwarder, which ends some time.
relay([I, J | _], #{nodes := Nodes, relays := Relays} = St) ->
    #{I := #node{h = A}, J := #node{h = B}} = Nodes,
    #{port := Port} = bp_cluster:call(B, barrel_p2p, info, []),
    {Relay, To} = bp_relay:forwarder(Port),
    Name = bp_cluster:name(B),
    Options = #{socket_backend => adapter, socket_adapter => {udp_relay, "127.0.0.1", To}},
    job(St#{relays => [Relay | Relays]}, I, relay, fun(H) ->
        ok = bp_cluster:call(H, quic_dist, set_connect_options, [Name, Options]),
        bp_cluster:call(A, erlang, disconnect_node, [Name]),
        bp_cluster:call(A, net_kernel, connect_node, [Name])
    end);
relay(_, St) ->
    St.

kill(I, #{nodes := Nodes} = St) ->
    #{I := #node{h = H}} = Nodes,
    bp_cluster:kill9(H),
    timer:sleep(pick([0, 0, 0, 300, 2500])),
    restart(I, St).

restart(I, #{nodes := Nodes, config := Config, names := Names} = St) ->
    #{I := #node{h = #{opts := Opts} = H, life = Life} = Node} = Nodes,
    bp_cluster:kill(H),
    New = bp_cluster:start(Config, Opts#{node => bp_cluster:name(H)}),
    Node1 = begin_life(Node#node{h = New, life = Life + 1, state = up}, Names),
    St#{nodes => Nodes#{I => Node1}}.

%% --- jobs: what runs beside the next operations ------------------------------------------

job(#{nodes := Nodes, jobs := Jobs} = St, I, What, Fun) ->
    #{I := #node{h = H, life = Life}} = Nodes,
    {_, Mon} = spawn_monitor(fun() ->
        try Fun(H) of _ -> ok
        catch Class:Reason:Stack -> exit({Class, Reason, Stack})        % no report in the log
        end
    end),
    St#{jobs => Jobs#{Mon => {What, I, Life}}}.

%% A job fails only if its node was ended meanwhile.
collect(#{jobs := Jobs} = St) ->
    receive
        {'DOWN', Mon, process, _, Reason} when is_map_key(Mon, Jobs) ->
            {{What, I, Life}, Rest} = maps:take(Mon, Jobs),
            #{nodes := #{I := #node{life = Now}}} = St,
            case Reason of
                normal -> ok;
                _ when Now > Life -> ok;
                _ -> error({job, What, I, Reason})
            end,
            collect(St#{jobs => Rest})
    after 0 -> St
    end.

%% Stopped nodes whose time has come go on.
continue(#{nodes := Nodes} = St) ->
    Now = erlang:monotonic_time(millisecond),
    St#{nodes => maps:map(fun(_, #node{state = stopped, until = U} = N) when U =< Now -> go_on(N);
                             (_, N) -> N
                          end, Nodes)}.

go_on(#node{h = H} = Node) ->
    ok = bp_cluster:signal(H, "CONT"),
    Node#node{state = up}.

%% Nodes that live: none has ended by itself, none has seen anything wrong.
check_nodes(#{nodes := Nodes} = St) ->
    receive
        {ended, Name, Life, Status} ->
            case [N || #node{h = H} = N <- maps:values(Nodes), bp_cluster:name(H) =:= Name] of
                [#node{life = Life, h = H}] -> error({node_ended, Name, Status, tail(H)});
                _ -> check_nodes(St)
            end
    after 0 ->
        [case bp_cluster:call(H, bp_monkey_node, errors, []) of
             [] -> ok;
             Errors -> error({seen, bp_cluster:name(H), Errors})
         end || #node{state = up, h = H} <- maps:values(Nodes)],
        St
    end.

tail(H) ->
    Log = bp_cluster:log(H),
    binary:part(Log, max(0, byte_size(Log) - 2000), min(2000, byte_size(Log))).

%% --- everything comes to an end --------------------------------------------------------------

everything_ends(#{nodes := Nodes0} = St0) ->
    Start = erlang:monotonic_time(millisecond),
    Nodes1 = maps:map(fun(_, #node{state = stopped} = N) -> go_on(N); (_, N) -> N end, Nodes0),
    Hs = [H || #node{h = H} <- maps:values(Nodes1)],
    [bp_cluster:call(H, bp_monkey_node, pause, [true]) || H <- Hs],
    #{relays := Relays} = St0,
    [bp_relay:stop(R) || R <- Relays],
    St1 = until_no_jobs(St0#{nodes => Nodes1, relays => []}),
    [until({busy, bp_cluster:name(H)}, fun() ->
        case bp_cluster:call(H, bp_monkey_node, busy, []) of [] -> true; Busy -> Busy end
    end) || H <- Hs],
    T1 = erlang:monotonic_time(millisecond),
    [pair_works(A, B) || A <- Hs, B <- Hs, A =/= B],
    [nodes_agree(H) || H <- Hs],
    check_nodes(St1),
    T2 = erlang:monotonic_time(millisecond),
    [bp_cluster:call(H, barrel_p2p, leave, []) || H <- Hs],
    let_go(Hs),
    Figures = [holds_what_it_held(N) || N <- maps:values(Nodes1)],
    Done = [bp_cluster:call(H, bp_monkey_node, done, []) || H <- Hs],
    [log_is_clean(H) || H <- Hs],
    T3 = erlang:monotonic_time(millisecond),
    say("all ended after ~b ms, pairs in order after ~b, idle after ~b; MB, atoms: ~0p; ~0p",
        [T1 - Start, T2 - T1, T3 - T2, Figures, sum(Done)]),
    grows_not(Figures, St1),
    [bp_cluster:call(H, bp_monkey_node, pause, [false]) || H <- Hs],
    #{epochs := E} = St1,
    St2 = case E of 3 -> St1#{first => Figures}; _ -> St1 end,
    St2#{nodes => maps:map(fun(_, N) -> N#node{rotations = 0} end, Nodes1),
         sums => sum([maps:get(sums, St2) | Done])}.

until_no_jobs(St) ->
    Deadline = erlang:monotonic_time(millisecond) + ?QUIET_MS,
    until_no_jobs(St, Deadline).

until_no_jobs(St0, Deadline) ->
    case collect(St0) of
        #{jobs := Jobs} = St when map_size(Jobs) =:= 0 ->
            St;
        #{jobs := Jobs} = St ->
            erlang:monotonic_time(millisecond) < Deadline orelse error({jobs_hang, maps:values(Jobs)}),
            timer:sleep(20),
            until_no_jobs(St, Deadline)
    end.

until(What, Fun) ->
    try bp_cluster:until(Fun, ?QUIET_MS)
    catch error:{until_timeout, Last} -> error({What, Last})
    end.

pair_works(A, B) ->
    Name = bp_cluster:name(B),
    until({cannot_connect, bp_cluster:name(A), Name}, fun() ->
        bp_cluster:connect(A, B) andalso bp_cluster:call(A, bp_monkey_node, flush, [Name], 200000) =:= ok
    end).

nodes_agree(H) ->
    until({monitor_nodes, bp_cluster:name(H)}, fun() ->
        Seen = bp_cluster:call(H, bp_monkey_node, nodes_seen, []),
        Is = lists:sort(bp_cluster:call(H, erlang, nodes, [])),
        Seen =:= Is orelse {Seen, Is}
    end).

%% Until nobody is connected: membership may have had something under way.
let_go(Hs) ->
    until(still_connected, fun() ->
        [bp_cluster:call(H, erlang, disconnect_node, [N]) || H <- Hs, N <- bp_cluster:call(H, erlang, nodes, [connected])],
        [] =:= lists:append([bp_cluster:call(H, erlang, nodes, [connected]) || H <- Hs])
    end).

holds_what_it_held(#node{h = H, base = Base}) ->
    try
        bp_cluster:until(fun() -> is_idle(bp_cluster:call(H, bp_monkey_node, base, []), Base) end, ?IDLE_MS)
    catch
        error:{until_timeout, Now} ->
            error({leak, bp_cluster:name(H), {was, Base}, {is, Now},
                   bp_cluster:call(H, bp_monkey_node, details, [])})
    end,
    #{atoms := Atoms} = bp_cluster:call(H, bp_monkey_node, base, []),
    {rss(bp_cluster:os_pid(H)), Atoms}.

is_idle(#{counters := C} = Now, Base) ->
    [] =:= [V || V <- maps:values(C), V =/= 0]
        andalso lists:all(fun(K) -> maps:get(K, Now) =< maps:get(K, Base) end, [ports, fds, processes])
        orelse Now.

sum(Maps) ->
    lists:foldl(fun(M, Acc) -> maps:merge_with(fun(_, X, Y) -> X + Y end, M, Acc) end, #{}, Maps).

%% With nodes that live through it: after the first epochs they need no more memory.
grows_not(Figures, #{lasting := true, epochs := E, first := First}) when E > 5 ->
    case [{Mb, Mb0} || {{Mb, _}, {Mb0, _}} <- lists:zip(Figures, First), Mb > 1.5 * Mb0 + 64] of
        [] -> ok;
        Grown -> error({memory_grows, Grown})
    end;
grows_not(_, _) ->
    ok.

rss(Pid) ->
    {ok, Bin} = file:read_file("/proc/" ++ integer_to_list(Pid) ++ "/statm"),
    [_, Pages | _] = string:lexemes(binary_to_list(Bin), " "),
    list_to_integer(Pages) * 4 div 1024.

log_is_clean(H) ->
    case re:run(bp_cluster:log(H), "CRASH REPORT|SUPERVISOR REPORT|Error in process|terminating|badmatch|ERROR: AddressSan",
                [{capture, first, index}]) of
        nomatch -> ok;
        {match, [{At, _}]} ->
            Log = bp_cluster:log(H),
            error({log, bp_cluster:name(H), binary:part(Log, At, min(3000, byte_size(Log) - At))})
    end.

%% --- choice ------------------------------------------------------------------------------

pick(L) -> lists:nth(rand:uniform(length(L)), L).

shuffle(L) -> [X || {_, X} <- lists:sort([{rand:uniform(), X} || X <- L])].

live(#{nodes := Nodes}) -> lists:sort(maps:keys(Nodes)).

%% Not stopped, in random order.
up(#{nodes := Nodes}) ->
    shuffle(lists:sort([I || {I, #node{state = up}} <- maps:to_list(Nodes)])).

%% {Index, Name of another one}; either may be stopped.
pair(#{nodes := Nodes} = St) ->
    [I, J | _] = shuffle(live(St)),
    #{J := #node{h = B}} = Nodes,
    {I, bp_cluster:name(B)}.
