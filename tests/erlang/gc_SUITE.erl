%% SPDX-License-Identifier: Apache-2.0
%% Channels that nobody uses are closed, those in use never; `global' leaves the overlay alone.
-module(gc_SUITE).

-include("bp_test.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([idle_channel_closes_and_comes_back/1, channel_in_use_stays/1, ends_of_all_kinds_are_seen/1,
         other_node_may_refuse/1, closing_costs_a_round_trip/1, calls_while_it_closes/1, temporary_channels_are_given_back/1,
         global_is_let_go/1, global_that_does_not_listen_is_told/1, twelve_nodes_keep_few_channels/1]).
%% Run in the nodes.
-export([keeper/0, churn/3, caller/2]).

suite() -> [{timetrap, {seconds, 170}}].

all() ->
    [idle_channel_closes_and_comes_back, channel_in_use_stays, ends_of_all_kinds_are_seen,
     other_node_may_refuse, closing_costs_a_round_trip, calls_while_it_closes, temporary_channels_are_given_back,
     global_is_let_go, global_that_does_not_listen_is_told, twelve_nodes_keep_few_channels].

init_per_suite(Config) -> bp_cluster:only(quic, Config).

end_per_suite(_) -> ok.

init_per_testcase(Case, Config) -> bp_cluster:init_case(?MODULE, Case, Config).

end_per_testcase(_, Config) ->
    bp_cluster:end_case(Config).

%% ---- nodes ----

-define(FAST, [{dist_gc_min_age_ms, 600}, {dist_gc_sweep_period_ms, 150}]).

%% With the three flags and nothing else.
start(Config, Names, Env) ->
    Nodes = bp_cluster:start_many(Config, [node_options(N) || N <- Names]),
    [app(N, Env) || N <- Nodes],
    Nodes.

node_options(N) -> #{name => N, args => ["-kernel", "logger_level", "info"]}.

app(N, Env) ->
    _ = call(N, application, load, [barrel_p2p]),
    [ok = call(N, application, set_env, [barrel_p2p, K, V]) || {K, V} <- Env],
    {ok, _} = call(N, application, ensure_all_started, [barrel_p2p]),
    ok.

call(N, M, F, A) -> bp_cluster:call(N, M, F, A).

name(N) -> bp_cluster:name(N).

connected(N) -> call(N, erlang, nodes, [connected]).

gc(N, Key) -> maps:get(Key, call(N, barrel_p2p_dist_gc, stats, [])).

counter(N, Key) ->
    #{counters := C} = call(N, barrel_p2p, info, []),
    maps:get(Key, C, 0).

%% A counter of N's channel to Peer, or none.
channel(N, Peer, Key) ->
    case [C || #{node := P, counters := C} <- call(N, barrel_p2p, peers, []), P =:= name(Peer)] of
        [#{Key := V}] -> V;
        _ -> none
    end.

%% Each node has at most so many channels, at one time or another: some always come and go.
few(Nodes, Most) ->
    [until(fun() -> length(connected(N)) =< Most end) || N <- Nodes].

until(Fun) -> bp_cluster:until(Fun, 30000).

closed(A, B) ->
    until(fun() -> not lists:member(name(B), connected(A)) andalso
                       not lists:member(name(A), connected(B)) end).

%% It survives at least ten sweeps of which each could have closed it.
stays(A, B, Why) ->
    Before = gc(A, Why) + gc(B, Why),
    until(fun() -> gc(A, Why) + gc(B, Why) >= Before + 20 end),
    ?EQ(true, lists:member(name(B), connected(A))).

connect(A, B) ->
    ?EQ(true, call(A, net_kernel, connect_node, [name(B)])).

%% What a busy machine takes long to set up must not be closed before it is.
closing(Nodes, When) ->
    Ms = case When of
             never -> infinity;
             soon -> proplists:get_value(dist_gc_min_age_ms, ?FAST)
         end,
    [ok = call(N, application, set_env, [barrel_p2p, dist_gc_min_age_ms, Ms]) || N <- Nodes].

%% ---- cases ----

idle_channel_closes_and_comes_back(Config) ->
    [A, B] = start(Config, [a, b], ?FAST),
    ?EQ(not_tracked, call(A, barrel_p2p_dist_gc, get_age_ms, [name(B)])),
    Down = bp_cluster:run(A, fun() -> spawn(fun() ->
        ok = net_kernel:monitor_nodes(true, [nodedown_reason]),
        watcher([])
    end) end),
    closing([A, B], never),
    connect(A, B),
    bp_cluster:until(fun() -> is_integer(call(A, barrel_p2p_dist_gc, get_age_ms, [name(B)])) end),
    closing([A, B], soon),
    closed(A, B),
    [bp_cluster:wait_log(N, ["connection_down", "idle_channel", "nobody used it"]) || N <- [A, B]],
    [?EQ(1, counter(N, <<"down_idle_channel">>)) || N <- [A, B]],
    [{nodedown, _, [{nodedown_reason, idle_channel}]}] =
        [M || M <- watched(A, Down), element(1, M) =:= nodedown],
    ?EQ(1, counter(A, <<"idle_agreed">>) + counter(B, <<"idle_agreed">>)),
    ?EQ(0, counter(A, <<"idle_lost_messages">>) + counter(B, <<"idle_lost_messages">>)),
    %% Both ways it is dialled again, and closed again.
    ?EQ(name(B), call(A, erpc, call, [name(B), erlang, node, []])),
    closed(A, B),
    ?EQ(name(A), call(B, erpc, call, [name(A), erlang, node, []])),
    closed(A, B),
    [?EQ([], nodedown_reasons(N)) || N <- [A, B]].

%% Nothing in the log is a warning.
nodedown_reasons(N) ->
    [L || L <- string:split(bp_cluster:log(N), "\n", all), string:find(L, "warning") =/= nomatch].

channel_in_use_stays(Config) ->
    [A, B] = start(Config, [a, b], ?FAST),
    %% A link of membership's, over which nothing else ever went.
    ok = call(A, barrel_p2p, join, [name(B)]),
    until(fun() -> call(B, barrel_p2p, active_view, []) =:= [name(A)] end),
    stays(A, B, kept_needed),
    ok = call(A, barrel_p2p, leave, []),
    closed(A, B),
    connect(A, B),
    K = bp_cluster:run(B, fun() -> spawn(gc_SUITE, keeper, []) end),
    [begin
         User = bp_cluster:run(A, fun() ->
             Me = self(),
             Pid = spawn(fun() -> use(Kind, K), Me ! {self(), ready}, receive stop -> ok end end),
             receive {Pid, ready} -> Pid end
         end),
         stays(A, B, kept_live),
         bp_cluster:run(A, fun() -> User ! stop, ok end),
         closed(A, B),
         connect(A, B)
     end || Kind <- [monitor, link, spawn_monitor, pending_request]],
    %% A user stream, silent after its first byte.
    closing([A, B], never),
    connect(A, B),
    bp_cluster:until(fun() -> lists:member(name(A), connected(B)) end),
    Na = name(A),
    Reader = bp_cluster:run(B, fun() ->
        Me = self(),
        Pid = spawn(fun() ->
            ok = quic_dist:accept_streams(Na),
            Me ! {self(), ready},
            receive stop -> ok end
        end),
        receive {Pid, ready} -> Pid end
    end),
    Writer = bp_cluster:run(A, fun() ->
        Me = self(),
        Pid = spawn(fun() ->
            {ok, Ref} = quic_dist:open_stream(node(K)),
            ok = quic_dist:send(Ref, <<"x">>),
            Me ! {self(), ready},
            receive stop -> quic_dist:reset_stream(Ref) end
        end),
        receive {Pid, ready} -> Pid end
    end),
    closing([A, B], soon),
    stays(A, B, kept_streams),
    bp_cluster:run(A, fun() -> Writer ! stop, ok end),
    bp_cluster:run(B, fun() -> Reader ! stop, ok end),
    closed(A, B),
    connect(A, B),
    %% A message now and then, in one direction only.
    Talker = bp_cluster:run(A, fun() -> spawn(fun() -> talk(K) end) end),
    stays(A, B, kept_used),
    bp_cluster:run(A, fun() -> exit(Talker, kill), ok end),
    closed(A, B),
    %% infinity: never.
    closing([A, B], never),
    connect(A, B),
    Sweeps = gc(A, sweeps),
    until(fun() -> gc(A, sweeps) > Sweeps + 20 end),
    ok = call(A, barrel_p2p_dist_gc, sweep_now, []),
    ?EQ([name(B)], connected(A)).

use(monitor, Pid) -> monitor(process, Pid);
use(link, Pid) -> link(Pid);
use(spawn_monitor, Pid) -> spawn_monitor(node(Pid), gc_SUITE, keeper, []);
use(pending_request, Pid) -> erpc:send_request(node(Pid), gc_SUITE, keeper, []).

talk(Pid) ->
    Pid ! hello,
    receive after 200 -> talk(Pid) end.

%% @private
keeper() ->
    receive stop -> ok; _ -> keeper() end.

%% Processes of both nodes link, monitor, spawn, unlink, demonitor and die at random, across each
%% other's ways; when all are dead nothing is alive at either end.
ends_of_all_kinds_are_seen(Config) ->
    [A, B] = start(Config, [a, b], [{dist_gc_min_age_ms, 2000}, {dist_gc_sweep_period_ms, 500}]),
    connect(A, B),
    Seed = erlang:unique_integer([positive]),
    io:format(standard_error, "          # SEED=~b~n", [Seed]),
    Refs = [bp_cluster:async(N, fun() -> churn(Seed + I, name(P), 4000) end)
            || {I, N, P} <- [{1, A, B}, {2, B, A}]],
    Most = most_alive(A, B, 0, 25),
    [ok = bp_cluster:await(R) || R <- Refs],
    io:format(standard_error, "          alive at once: ~b~n", [Most]),
    true = Most > 20,
    true = channel(A, B, <<"age_ms">>) > 4000,          %% the same channel all the time
    until(fun() -> channel(A, B, <<"live">>) =:= 0 andalso channel(B, A, <<"live">>) =:= 0 end),
    [?EQ(0, channel(N, P, <<"live_doubtful">>)) || {N, P} <- [{A, B}, {B, A}]],
    closed(A, B).

most_alive(_, _, Most, 0) -> Most;
most_alive(A, B, Most, N) ->
    timer:sleep(100),
    case channel(A, B, <<"live">>) of
        Live when is_integer(Live) -> most_alive(A, B, max(Most, Live), N - 1);
        none -> most_alive(A, B, Most, N - 1)
    end.

%% @private
churn(Seed, Peer, Ms) ->
    Until = erlang:monotonic_time(millisecond) + Ms,
    Workers = [spawn_monitor(fun() ->
                   process_flag(trap_exit, true),
                   rand:seed(exsss, {Seed, I, 1}),
                   worker(Peer, Until, [], [])
               end) || I <- lists:seq(1, 30)],
    [receive {'DOWN', Ref, _, _, _} -> ok end || {_, Ref} <- Workers],
    ok.

worker(Peer, Until, Pids, Refs) ->
    case erlang:monotonic_time(millisecond) > Until of
        true ->
            [exit(P, kill) || P <- Pids];
        false ->
            Pick = case Pids of [] -> none; _ -> lists:nth(rand:uniform(length(Pids)), Pids) end,
            {P2, R2} = act(rand:uniform(14), Pick, Peer, Pids, Refs),
            receive {'EXIT', D, _} -> worker(Peer, Until, lists:delete(D, P2), R2);
                    {'DOWN', _, _, D, _} -> worker(Peer, Until, lists:delete(D, P2), R2)
            after rand:uniform(3) - 1 -> worker(Peer, Until, P2, lists:sublist(R2, 20))
            end
    end.

act(1, _, Peer, Ps, Rs) -> {[spawn(Peer, gc_SUITE, keeper, []) | Ps], Rs};
act(2, _, Peer, Ps, Rs) -> {[spawn_link(Peer, gc_SUITE, keeper, []) | Ps], Rs};
act(3, _, Peer, Ps, Rs) ->
    {P, R} = spawn_monitor(Peer, gc_SUITE, keeper, []),
    {[P | Ps], [R | Rs]};
act(4, _, Peer, Ps, Rs) ->
    {P, R} = spawn_opt(Peer, gc_SUITE, keeper, [], [link, {monitor, [{alias, demonitor}]}]),
    {[P | Ps], [R | Rs]};
act(5, _, Peer, Ps, Rs) ->
    %% No such function, no such name, no such process, no reply wanted.
    erpc:cast(Peer, erlang, node, []),
    rpc:cast(Peer, erlang, node, []),
    _ = (catch erpc:call(Peer, no_such, function, [], 5000)),
    _ = (catch gen_server:call({no_such_name, Peer}, x, 5000)),
    {Ps, Rs};
act(6, _, Peer, Ps, Rs) ->
    _ = monitor(process, {rex, Peer}),
    {Ps, [monitor(process, {no_such_name, Peer}) | Rs]};
act(7, _, Peer, Ps, Rs) ->
    _ = erlang:spawn_request(Peer, gc_SUITE, keeper, [x], [link, monitor, {reply, no}]),
    {Ps, Rs};
act(8, _, _, Ps, [R | Rs]) ->
    demonitor(R),
    {Ps, Rs};
act(9, P, _, Ps, Rs) when is_pid(P) ->
    link(P),
    {Ps, Rs};
act(10, P, _, Ps, Rs) when is_pid(P) ->
    unlink(P),
    rand:uniform(2) =:= 1 andalso link(P),
    {Ps, Rs};
act(11, P, _, Ps, Rs) when is_pid(P) ->
    P ! stop,                           % its end may pass our next signals
    {Ps, Rs};
act(12, P, _, Ps, Rs) when is_pid(P) ->
    exit(P, binary:copy(<<"x">>, rand:uniform(100000))),
    {Ps, Rs};
act(13, P, _, Ps, Rs) when is_pid(P) ->
    {Ps, [monitor(process, P) | Rs]};
act(14, P, _, Ps, Rs) when is_pid(P) ->
    R = monitor(process, P),
    P ! stop,
    demonitor(R),
    {Ps, Rs};
act(_, _, _, Ps, Rs) ->
    {Ps, Rs}.

other_node_may_refuse(Config) ->
    [A] = start(Config, [a], ?FAST),
    [B] = bp_cluster:start_many(Config, [#{name => b}]),       % the carrier alone
    connect(A, B),
    Asked = gc(A, asked),
    until(fun() -> gc(A, asked) > Asked + 3 andalso channel(A, B, <<"idle_refused">>) > 0 end),
    ?EQ([name(B)], connected(A)),
    app(B, [{full_mesh, true} | ?FAST]),
    Sweeps = gc(B, sweeps),
    Refused = channel(A, B, <<"idle_refused">>),
    until(fun() -> gc(B, sweeps) > Sweeps + 10 andalso
                       channel(A, B, <<"idle_refused">>) > Refused end),
    ?EQ([name(B)], connected(A)),
    true = gc(B, disagreed) > 0,
    ok = call(B, application, set_env, [barrel_p2p, full_mesh, false]),
    closed(A, B).

%% The window in which a signal is lost, as at any disconnect: printed.
closing_costs_a_round_trip(Config) ->
    [A, B] = bp_cluster:hush(start(Config, [a, b], [{dist_gc_min_age_ms, 50}, {dist_gc_sweep_period_ms, 100000}])),
    [begin
         connect(A, B),
         until(fun() ->
             ok = call(A, barrel_p2p_dist_gc, sweep_now, []),
             connected(A) =:= [] andalso connected(B) =:= []
         end)
     end || _ <- lists:seq(1, 30)],
    N = counter(B, <<"idle_agreed">>),
    ?EQ(30, N),
    io:format(standard_error, "          from consent to close: ~b us on average, at most ~b us, ~b closes~n",
              [counter(B, <<"idle_window_us">>) div N, counter(B, <<"idle_window_us_max">>), N]),
    ?EQ(0, counter(B, <<"idle_lost_messages">>)).

%% Calls that begin when the channel is about to be closed, again and again.
calls_while_it_closes(Config) ->
    [A, B] = start(Config, [a, b], [{dist_gc_min_age_ms, 40}, {dist_gc_sweep_period_ms, 10}]),
    Refs = [bp_cluster:async(N, fun() -> caller(name(P), 15000) end) || {N, P} <- [{A, B}, {B, A}]],
    Results = [bp_cluster:await(R) || R <- Refs],
    {Calls, Failed} = {lists:sum([C || {C, _} <- Results]), lists:append([F || {_, F} <- Results])},
    Closed = counter(A, <<"down_idle_channel">>),
    Lost = counter(A, <<"idle_lost_messages">>) + counter(B, <<"idle_lost_messages">>),
    io:format(standard_error,
              "          calls ~b, closes ~b, called off ~b, calls that failed ~b, messages lost ~b~n",
              [Calls, Closed, gc(A, called_off) + gc(B, called_off), length(Failed), Lost]),
    true = Closed > 20,
    %% None was lost but in the round trip, where each is counted.
    length(Failed) =< Lost orelse error({unexpected, Failed, Lost}),
    true = length(Failed) * 20 < Calls.

%% @private One call every 30 to 90 ms: the channel is closed 40 to 60 ms after each.
caller(Peer, Ms) ->
    caller(Peer, erlang:monotonic_time(millisecond) + Ms, 0, []).

caller(Peer, Until, Calls, Failed) ->
    receive after 30 + rand:uniform(60) -> ok end,
    case erlang:monotonic_time(millisecond) > Until of
        true ->
            {Calls, Failed};
        false ->
            case catch gen_server:call({rex, Peer}, {call, erlang, node, [], group_leader()}, 20000) of
                Peer -> caller(Peer, Until, Calls + 1, Failed);
                Other -> caller(Peer, Until, Calls + 1, [element(1, element(2, Other)) | Failed])
            end
    end.

%% Shuffle replies go to nodes without a channel; with the collector of idle channels off, only
%% giving them back keeps channels few.
temporary_channels_are_given_back(Config) ->
    Names = [list_to_atom("n" ++ integer_to_list(I)) || I <- lists:seq(1, 10)],
    Env = [{active_size, 3}, {passive_size, 12}, {shuffle_period, 300}, {swap_period_ms, 0} | ?FAST],
    [Contact | Rest] = Nodes = start(Config, Names, Env),
    [ok = call(N, barrel_p2p, join, [name(Contact)]) || N <- Rest],
    until(fun() -> lists:all(fun(N) -> call(N, barrel_p2p, active_view, []) =/= [] end, Nodes) end),
    few(Nodes, 4),
    [ok = call(N, application, set_env, [barrel_p2p, dist_gc_min_age_ms, infinity]) || N <- Nodes],
    Before = lists:sum([gc(N, temporary_closed) || N <- Nodes]),
    until(fun() -> lists:sum([gc(N, temporary_closed) || N <- Nodes]) > Before + 30 end),
    Made = lists:sum([maps:get(<<"temporary_channels">>, call(N, barrel_p2p_bridge, stats, []))
                      || N <- Nodes]),
    few(Nodes, 4),
    io:format(standard_error,
              "          shuffle replies over a channel of their own: ~b; channels given back: ~b; kept "
              "because they were used: ~b; channels of a node now: ~w~n",
              [Made, lists:sum([gc(N, temporary_closed) || N <- Nodes]),
               lists:sum([gc(N, temporary_kept) || N <- Nodes]),
               [length(connected(N)) || N <- Nodes]]),
    true = Made > 0.

%% ---- global ----

global_is_let_go(Config) ->
    [A, B] = bp_cluster:start_many(Config, [#{name => N} || N <- [a, b]]),
    connect(A, B),
    until(fun() -> call(A, gen_server, call, [global_name_server, get_synced]) =:= [name(B)] end),
    [app(N, ?FAST) || N <- [A, B]],
    [C] = start(Config, [c], ?FAST),
    bp_cluster:wait_log(A, ["global_let_go"]),
    %% c hears of b from nobody.
    connect(C, A),
    ?EQ(pong, call(C, net_adm, ping, [name(A)])),
    closed(A, B),                       % it was there before the application
    ?EQ([], [N || N <- [A, B, C], string:find(bp_cluster:log(N), "overlapping") =/= nomatch]),
    ?EQ(false, lists:member(name(B), connected(C))),
    %% A full mesh where it is wanted.
    Full = [D, E, F] = start(Config, [d, e, f], [{full_mesh, true} | ?FAST]),
    connect(D, E),
    connect(E, F),
    until(fun() -> [length(connected(N)) || N <- Full] =:= [2, 2, 2] end),
    Sweeps = [gc(N, sweeps) || N <- Full],
    until(fun() -> lists:all(fun({N, S}) -> gc(N, sweeps) > S + 10 end, lists:zip(Full, Sweeps)) end),
    ?EQ([2, 2, 2], [length(connected(N)) || N <- Full]),
    ?EQ(nomatch, string:find(bp_cluster:log(D), "global_let_go")).

%% One that answers and goes on as before: the effect is looked at, not the answer.
global_that_does_not_listen_is_told(Config) ->
    [A] = bp_cluster:start_many(Config, [#{name => a}]),
    ok = bp_cluster:run(A, fun() ->
        Real = whereis(global_name_server),
        unregister(global_name_server),
        register(global_name_server, spawn(fun() -> deaf(Real) end)),
        ok
    end),
    app(A, []),
    bp_cluster:wait_log(A, ["global_interferes", "-connect_all false",
                            "-kernel prevent_overlapping_partitions false", "full_mesh"]).

deaf(Real) ->
    receive
        {prepare_shutdown, From, Ref} -> From ! {Ref, ok};
        Msg -> Real ! Msg               % its state as it is
    end,
    deaf(Real).

%% ---- twelve nodes ----

-define(ACTIVE, 3).

%% Three flags, links of three; each calls each; everybody watches somebody; a minute.
twelve_nodes_keep_few_channels(Config) ->
    Names = [list_to_atom("n" ++ integer_to_list(I)) || I <- lists:seq(1, 12)],
    Env = [{active_size, ?ACTIVE}, {dist_gc_min_age_ms, 2000}, {dist_gc_sweep_period_ms, 500}],
    [Contact | Rest] = Nodes = start(Config, Names, Env),
    [ok = call(N, barrel_p2p, join, [name(Contact)]) || N <- Rest],
    Keepers = [bp_cluster:run(N, fun() -> spawn(gc_SUITE, keeper, []) end) || N <- Nodes],
    Watchers = [watch(N, K) || {N, K} <- lists:zip(Nodes, tl(Keepers) ++ [hd(Keepers)])],
    End = erlang:monotonic_time(millisecond) + 60000,
    Failed = rounds(Nodes, End, []),
    %% The links, the two watched channels, and what is under way: no more.
    Bounds = ?ACTIVE + 2 + 3,
    few(Nodes, Bounds),
    [?EQ([], watched(N, W)) || {N, W} <- lists:zip(Nodes, Watchers)],
    Lost = lists:sum([counter(N, <<"idle_lost_messages">>) || N <- Nodes]),
    io:format(standard_error,
              "          channels of a node: ~w; closed because idle: ~b; calls that failed: ~b; messages "
              "lost at a close: ~b; from consent to close at most ~b us~n",
              [[length(connected(N)) || N <- Nodes],
               lists:sum([counter(N, <<"down_idle_channel">>) || N <- Nodes]) div 2, length(Failed), Lost,
               lists:max([counter(N, <<"idle_window_us_max">>) || N <- Nodes])]),
    %% A call that failed hit the round trip that closing takes, which is counted; none for another
    %% reason.
    length(Failed) =< Lost orelse error({unexpected, Failed}),
    ?EQ([], [N || N <- Nodes, string:find(bp_cluster:log(N), "overlapping") =/= nomatch]).

rounds(Nodes, End, Failed) ->
    case erlang:monotonic_time(millisecond) > End of
        true ->
            Failed;
        false ->
            All = [name(N) || N <- Nodes],
            Refs = [bp_cluster:async(N, fun() -> call_all(All) end) || N <- Nodes],
            Bad = lists:append([bp_cluster:await(R) || R <- Refs]),
            timer:sleep(5000),
            rounds(Nodes, End, Bad ++ Failed)
    end.

call_all(All) ->
    [{node(), N, R} || N <- All, N =/= node(),
                       R <- [catch gen_server:call({rex, N}, {call, erlang, node, [], group_leader()},
                                                   20000)],
                       R =/= N].

%% Whatever comes to a process that monitors another node's.
watch(N, Pid) ->
    bp_cluster:run(N, fun() ->
        spawn(fun() ->
            _ = monitor(process, Pid),
            watcher([])
        end)
    end).

watcher(Seen) ->
    receive
        {get, From} ->
            From ! {self(), Seen},
            watcher(Seen);
        Msg ->
            watcher([Msg | Seen])
    end.

watched(N, Pid) ->
    bp_cluster:run(N, fun() ->
        Pid ! {get, self()},
        receive {Pid, Seen} -> Seen after ?LONG -> error(watcher_silent) end
    end).
