%% SPDX-License-Identifier: Apache-2.0
%% OTP's signal order: all signals from one process to another arrive in the order sent, whatever
%% names they used, and a spawn reply comes before anything else from the new process.
%% ORDER_ROUNDS (default 200) scales every case.
-module(order_SUITE).

-include_lib("common_test/include/ct.hrl").
-include("bp_test.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([names_interleaved/1, reply_before_exit/1, spawn_reply_is_first/1, erpc_of_short_lived/1,
         name_monitor_after_messages/1, large_reason_all_watchers/1, group_leader_between/1,
         exit_after_messages/1, unlink_then_exit/1, dead_names_among_traffic/1,
         spawn_link_exit_at_once/1, demonitor_and_alias/1]).
-export([numbered/3, short_life/1, say_and_die/3, named_dier/3, leader_probe/1, unlinker/2]).

suite() -> [{timetrap, {seconds, 120}}].

all() ->
    [names_interleaved, reply_before_exit, spawn_reply_is_first, erpc_of_short_lived,
     name_monitor_after_messages, large_reason_all_watchers, group_leader_between,
     exit_after_messages, unlink_then_exit, dead_names_among_traffic, spawn_link_exit_at_once,
     demonitor_and_alias].

%% +zdbbl: OTP 25's VM (erts 13.1) hangs, also over TCP, when a process that ends has a second
%% large signal to send while the queue to that node is above it.
init_per_suite(Config0) ->
    Config = bp_cluster:init_dir("order_SUITE", Config0),
    Args = ["+zdbbl", "65536"],
    [A, B] = bp_cluster:start_many(Config, [#{name => a, args => Args},
                                            #{name => b, args => Args}]),
    true = bp_cluster:connect(A, B),
    [{a, A}, {b, B} | Config].

end_per_suite(Config) ->
    bp_cluster:end_suite(bp_cluster:dir(Config)).

%% A connection that was lost under way would hide what was on it: none may be.
init_per_testcase(_, Config) ->
    {A, B} = {?config(a, Config), ?config(b, Config)},
    true = bp_cluster:connect(A, B),
    Watch = bp_cluster:run(A, fun() ->
        spawn(fun() -> ok = net_kernel:monitor_nodes(true), receive {get, F} -> F ! {self(), no},
                                                            ok; M -> loop_down(M) end end)
    end),
    [{watch, Watch} | Config].

loop_down(_) ->
    receive {get, F} -> F ! {self(), went_down} end.

end_per_testcase(_, Config) ->
    Watch = ?config(watch, Config),
    Down = bp_cluster:run(?config(a, Config), fun() ->
        Watch ! {get, self()},
        receive {Watch, Answer} -> Answer after 5000 -> watcher_gone end
    end),
    case Down of
        no -> ok;
        _ -> {fail, {connection_lost_during_case, Down}}
    end.

rounds() ->
    list_to_integer(os:getenv("ORDER_ROUNDS", "200")).

%% Runs F(NameOfB, Rounds) in node a, in Procs processes at once, each fails on its own.
in_a(Config, Procs, F) ->
    B = bp_cluster:name(?config(b, Config)),
    N = rounds(),
    bp_cluster:run(?config(a, Config), fun() ->
        Ms = [spawn_monitor(fun() -> F(B, N) end) || _ <- lists:seq(1, Procs)],
        Ends = [receive {'DOWN', M, process, _, R} -> R end || {_, M} <- Ms],
        ?EQ([], [R || R <- Ends, R =/= normal])
    end, 110000).

payload(I) when I rem 3 =:= 0 -> <<I:64, 0:(60000 * 8)>>;
payload(I) -> <<I:64>>.

%% Sent and checked in both directions: the sender is in a, then in b.
names_interleaved(Config) ->
    A = bp_cluster:name(?config(a, Config)),
    in_a(Config, 4, fun(B, N) ->
        Name = list_to_atom("rcv" ++ integer_to_list(erlang:unique_integer([positive]))),
        Here = spawn_monitor(fun() -> receive_numbered(Name, N) end),
        There = spawn_monitor(B, fun() -> receive_numbered(Name, N) end),
        [begin
            {Pid, _} = P,
            Pid ! {ready, self()},
            Alias = receive {Pid, ready, Al} -> Al after ?LONG -> error(not_ready) end,
            {_, M} = spawn_monitor(From, ?MODULE, numbered, [N, Pid, [{Name, To}, Alias]]),
            ?RECV({'DOWN', M, process, _, normal}, 100000)
         end || {From, To, P} <- [{node(), B, There}, {B, A, Here}]],
        [?RECV({'DOWN', M, process, _, in_order}, 100000) || {_, M} <- [Here, There]]
    end).

receive_numbered(Name, N) ->
    register(Name, self()),
    receive {ready, From} -> From ! {self(), ready, alias()} end,
    [receive
         {num, I, P} -> P = payload(I);
         {num, Other, _} -> exit({wanted, I, got, Other})
     after 60000 -> exit({wanted, I, got, nothing})
     end || I <- lists:seq(1, 3 * N)],
    exit(in_order).

%% Message I goes by pid, by name or by alias, in turn.
numbered(N, Pid, [Named, Alias]) ->
    Ways = {Pid, Named, Alias, Named, Alias, Pid, Pid},
    [element(I rem 7 + 1, Ways) ! {num, I, payload(I)} || I <- lists:seq(1, 3 * N)].

%% {stop, normal, Reply, State}: the caller gets the reply, never the exit.
reply_before_exit(Config) ->
    in_a(Config, 8, fun(B, N) ->
        [begin
            {ok, Srv} = erpc:call(B, gen_server, start, [bp_stop_server, [], []]),
            Reply = payload(I),
            ?EQ(Reply, gen_server:call(Srv, {stop, Reply}))
         end || I <- lists:seq(1, N div 2)]
    end).

spawn_reply_is_first(Config) ->
    in_a(Config, 8, fun(B, N) ->
        Self = self(),
        [begin
            R = spawn_request(B, ?MODULE, short_life, [Self], [monitor]),
            Pid = receive
                {spawn_reply, R, ok, P} -> P;
                M1 -> error({before_spawn_reply, M1})
            end,
            receive {said, Pid} -> ok; M2 -> error({before_message, M2}) end,
            receive {'DOWN', R, process, Pid, end_of_it} -> ok; M3 -> error({not_down, M3}) end
         end || _ <- lists:seq(1, 2 * N)]
    end).

short_life(To) ->
    To ! {said, self()},
    exit(end_of_it).

%% The case of the VM's "Missing 'spawn_reply'": it would take the connection down.
erpc_of_short_lived(Config) ->
    in_a(Config, 8, fun(B, N) ->
        [begin
            ?EQ(I, erpc:call(B, bp_procs, identity, [I])),
            ?EQ({I, caught}, try erpc:call(B, erlang, exit, [I])
                             catch exit:{exception, I} -> {I, caught} end)
         end || I <- lists:seq(1, N)]
    end).

%% A monitor by name: its 'DOWN' is the last that comes from the process.
name_monitor_after_messages(Config) ->
    in_a(Config, 4, fun(B, N) ->
        [begin
            Name = list_to_atom("dier" ++ integer_to_list(erlang:unique_integer([positive]) rem 64)
                                ++ pid_to_list(self())),
            P = spawn(B, ?MODULE, named_dier, [Name, self(), 10]),
            ?RECV({P, registered}),
            M = monitor(process, {Name, B}),
            P ! go,
            [receive
                 {num, I, _} -> ok;
                 Other -> error({wanted, I, got, element(1, Other)})
             end || I <- lists:seq(1, 10)],
            ?RECV({'DOWN', M, process, {Name, B}, bye})
         end || _ <- lists:seq(1, N div 2)]
    end).

named_dier(Name, To, K) ->
    register(Name, self()),
    To ! {self(), registered},
    receive go -> ok end,
    [To ! {num, I, payload(I)} || I <- lists:seq(1, K)],
    exit(bye).

%% A 200 KB reason to three watchers (name, pid, link), each after small messages.
large_reason_all_watchers(Config) ->
    in_a(Config, 2, fun(B, N) ->
        Self = self(),
        [begin
            Name = list_to_atom("big" ++ integer_to_list(I rem 8) ++ pid_to_list(self())),
            Reason = {big, binary:copy(<<I:32>>, 50000)},
            P = spawn(B, fun() ->
                register(Name, self()),
                Self ! {self(), registered},
                receive {go, To} -> [T ! {num, K} || K <- [1, 2, 3], T <- To], exit(Reason) end
            end),
            ?RECV({P, registered}),
            Watchers = [spawn_monitor(fun() -> large_watcher(How, P, {Name, B}, Self, Reason) end)
                        || How <- [name, pid, link]],
            [?RECV({W, watching}) || {W, _} <- Watchers],
            P ! {go, [W || {W, _} <- Watchers]},
            [?RECV({'DOWN', M, process, _, all_right}) || {_, M} <- Watchers]
         end || I <- lists:seq(1, N div 4)]
    end).

large_watcher(How, P, Name, Report, Reason) ->
    process_flag(trap_exit, true),
    Want = case How of
        name -> {'DOWN', monitor(process, Name), process, Name, Reason};
        pid -> {'DOWN', monitor(process, P), process, P, Reason};
        link -> link(P), {'EXIT', P, Reason}
    end,
    %% a link and a monitor are signals too: this answer comes after they have arrived
    _ = erpc:call(node(P), erlang, is_process_alive, [P]),
    Report ! {self(), watching},
    [receive {num, K} -> ok; M -> exit({How, wanted, K, got, element(1, M)}) end || K <- [1, 2, 3]],
    receive Want -> exit(all_right); M2 -> exit({How, wanted_end, got, element(1, M2)}) end.

%% group_leader/2 between messages to the same process: when message I is read, leader I must have
%% arrived (later ones may have, too: such a signal takes effect before the messages are read).
group_leader_between(Config) ->
    in_a(Config, 4, fun(B, N) ->
        P = spawn(B, ?MODULE, leader_probe, [self()]),
        Leaders = [{I, spawn_link(bp_procs, echo, [])} || I <- lists:seq(1, N)],
        [begin
            group_leader(Leader, P),
            P ! {probe, I}
         end || {I, Leader} <- Leaders],
        [receive
            {leader, I, Pid} ->
                {At, Pid} = lists:keyfind(Pid, 2, [{0, none} | Leaders]),
                ?EQ({I, true}, {I, At >= I})
         after ?LONG -> error({no_answer, I})
         end || I <- lists:seq(1, N)],
        P ! stop,
        [L ! stop || {_, L} <- Leaders]
    end).

leader_probe(To) ->
    receive
        {probe, I} ->
            To ! {leader, I, group_leader()},
            leader_probe(To);
        stop -> ok
    end.

%% exit/2 and the end of a linked process come after the messages before them.
exit_after_messages(Config) ->
    in_a(Config, 4, fun(B, N) ->
        process_flag(trap_exit, true),
        [begin
            P = spawn_link(B, ?MODULE, say_and_die, [self(), 5, I rem 2]),
            [receive
                 {num, K, _} -> ok;
                 Other -> error({wanted, K, got, Other})
             end || K <- lists:seq(1, 5)],
            case I rem 2 of
                0 -> ?RECV({'EXIT', P, died});
                1 -> ?RECV({'EXIT', P, exit_signal}), ?RECV({'EXIT', P, died})
            end
         end || I <- lists:seq(1, N)]
    end).

say_and_die(To, K, ExitSignal) ->
    [To ! {num, I, payload(I)} || I <- lists:seq(1, K)],
    case ExitSignal of
        1 -> exit(To, exit_signal);
        0 -> ok
    end,
    exit(died).

%% Unlinked before it ends: no 'EXIT' may come.
unlink_then_exit(Config) ->
    in_a(Config, 4, fun(B, N) ->
        process_flag(trap_exit, true),
        [begin
            {P, M} = spawn_monitor(B, ?MODULE, unlinker, [self(), I]),
            ?RECV({'DOWN', M, process, P, unlinked_end}),
            ?NO_RECV({'EXIT', _, _}, 0)
         end || I <- lists:seq(1, N)]
    end).

unlinker(To, I) ->
    link(To),
    To ! payload(I),
    unlink(To),
    exit(unlinked_end).

%% Calls to names that nobody has (their 'DOWN' comes from no process) among numbered traffic.
dead_names_among_traffic(Config) ->
    in_a(Config, 4, fun(B, N) ->
        Self = self(),
        Talker = spawn_link(B, fun() ->
            [Self ! {num, I, payload(I)} || I <- lists:seq(1, N)],
            receive stop -> ok end
        end),
        [begin
            ?EQ(noproc, try gen_server:call({nobody_has_this, B}, x)
                        catch exit:{R, _} -> R end),
            M = monitor(process, {nobody_has_this, B}),
            ?RECV({'DOWN', M, process, {nobody_has_this, B}, noproc}),
            receive {num, Got, _} -> ?EQ(I, Got) after ?LONG -> error({no_number, I}) end
         end || I <- lists:seq(1, N)],
        unlink(Talker),
        Talker ! stop
    end).

%% The link of spawn_link and an end at once: 'EXIT' comes, with the reason, once.
spawn_link_exit_at_once(Config) ->
    in_a(Config, 8, fun(B, N) ->
        process_flag(trap_exit, true),
        [begin
            P = spawn_link(B, bp_procs, exit_with, [{reason, I}]),
            ?RECV({'EXIT', P, {reason, I}})
         end || I <- lists:seq(1, N)],
        ?NO_RECV({'EXIT', _, _}, 0)
    end).

%% A reply through an alias beats the 'DOWN' of the one that replied; after demonitor neither comes.
demonitor_and_alias(Config) ->
    in_a(Config, 4, fun(B, N) ->
        [begin
            P = spawn(B, fun() ->
                receive {ask, Alias, K} -> Alias ! {Alias, payload(K)}, exit(answered) end
            end),
            M = monitor(process, P, [{alias, reply_demonitor}]),
            P ! {ask, M, I},
            receive
                {M, Answer} -> ?EQ(payload(I), Answer);
                {'DOWN', M, _, _, R} -> error({down_before_reply, R})
            after ?LONG -> error(no_reply)
            end,
            ?NO_RECV({'DOWN', M, _, _, _}, 0)
         end || I <- lists:seq(1, N)]
    end).
