%% SPDX-License-Identifier: Apache-2.0
%% Loads that break when signals of one process to another arrive out of order. Each runs in a
%% process of one node, against another node, and crashes at the first violation.
%%
%% order_SUITE runs them on networks of its own, tests/wan on bad ones, bp_torture for hours.
-module(bp_order).

-include("bp_test.hrl").

-export([cases/0, run/3, run/4]).
%% Spawned.
-export([numbered/3, short_life/1, say_and_die/3, named_dier/3, leader_probe/1, unlinker/2]).

%% {Case, Processes that run it side by side, Rounds of each for N}.
-spec cases() -> [{atom(), pos_integer()}].
cases() ->
    [{names_interleaved, 4},
     {reply_before_exit, 8},
     {spawn_reply_is_first, 8},
     {erpc_of_short_lived, 8},
     {name_monitor_after_messages, 4},
     {large_reason_all_watchers, 2},
     {group_leader_between, 4},
     {exit_after_messages, 4},
     {unlink_then_exit, 4},
     {dead_names_among_traffic, 4},
     {spawn_link_exit_at_once, 8},
     {demonitor_and_alias, 4}].

% Runs a case in this node against node B, N times scaled; returns the number of rounds done.
-spec run(atom(), node(), pos_integer()) -> pos_integer().
run(Case, B, N) ->
    {Case, Procs} = lists:keyfind(Case, 1, cases()),
    run(Case, B, N, Procs).

run(Case, B, N, Procs) ->
    Ps = [spawn_monitor(fun() -> load(Case, B, N) end) || _ <- lists:seq(1, Procs)],
    ok = all_normal(Case, maps:from_list([{M, P} || {P, M} <- Ps])),
    Procs * rounds(Case, N).

%% The first violation ends the case: what the others wait for may never come.
all_normal(_Case, Running) when map_size(Running) =:= 0 ->
    ok;
all_normal(Case, Running) ->
    receive
        {'DOWN', M, process, _, normal} when is_map_key(M, Running) ->
            all_normal(Case, maps:remove(M, Running));
        {'DOWN', M, process, _, Reason} when is_map_key(M, Running) ->
            [exit(P, kill) || P <- maps:values(Running)],
            error({violation, Case, Reason})
    end.

%% The end of a process that was started with spawn_monitor, for the right reason.
ended({_, M}, Reason) ->
    receive
        {'DOWN', M, process, _, R} -> ?EQ(Reason, R)
    after 100000 ->
        error({not_ended, bp_procs:mailbox()})
    end.

load(Case, B, N) ->
    case Case of
        names_interleaved -> names_interleaved(B, N);
        reply_before_exit -> reply_before_exit(B, N);
        spawn_reply_is_first -> spawn_reply_is_first(B, N);
        erpc_of_short_lived -> erpc_of_short_lived(B, N);
        name_monitor_after_messages -> name_monitor_after_messages(B, N);
        large_reason_all_watchers -> large_reason_all_watchers(B, N);
        group_leader_between -> group_leader_between(B, N);
        exit_after_messages -> exit_after_messages(B, N);
        unlink_then_exit -> unlink_then_exit(B, N);
        dead_names_among_traffic -> dead_names_among_traffic(B, N);
        spawn_link_exit_at_once -> spawn_link_exit_at_once(B, N);
        demonitor_and_alias -> demonitor_and_alias(B, N)
    end.

% What counts as a round is one pass of the innermost thing that is checked.
rounds(names_interleaved, N) -> 6 * N;
rounds(spawn_reply_is_first, N) -> 2 * N;
rounds(erpc_of_short_lived, N) -> 2 * N;
rounds(Case, N) when Case =:= reply_before_exit; Case =:= name_monitor_after_messages ->
    max(1, N div 2);
rounds(large_reason_all_watchers, N) -> max(1, N div 4);
rounds(_, N) -> N.

payload(I) when I rem 3 =:= 0 -> <<I:64, 0:(60000 * 8)>>;
payload(I) -> <<I:64>>.

%% Sent and checked in both directions: the sender is in this node, then in B.
names_interleaved(B, N) ->
    %% registered in both nodes, which may both run this
    Name = list_to_atom(lists:concat(["rcv", erlang:unique_integer([positive]), "_", node()])),
    Here = spawn_monitor(fun() -> receive_numbered(Name, N) end),
    There = spawn_monitor(B, fun() -> receive_numbered(Name, N) end),
    [begin
        {Pid, _} = P,
        Pid ! {ready, self()},
        Alias = receive {Pid, ready, Al} -> Al after ?LONG -> error(not_ready) end,
        ended(spawn_monitor(From, ?MODULE, numbered, [N, Pid, [{Name, To}, Alias]]), normal)
     end || {From, To, P} <- [{node(), B, There}, {B, node(), Here}]],
    [ended(P, in_order) || P <- [Here, There]].

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
reply_before_exit(B, N) ->
    [begin
        {ok, Srv} = erpc:call(B, gen_server, start, [bp_stop_server, [], []]),
        Reply = payload(I),
        ?EQ(Reply, gen_server:call(Srv, {stop, Reply}, 100000))
     end || I <- lists:seq(1, max(1, N div 2))].

spawn_reply_is_first(B, N) ->
    Self = self(),
    [begin
        R = spawn_request(B, ?MODULE, short_life, [Self], [monitor]),
        Pid = receive
            {spawn_reply, R, ok, P} -> P;
            M1 -> error({before_spawn_reply, M1})
        end,
        receive {said, Pid} -> ok; M2 -> error({before_message, M2}) end,
        receive {'DOWN', R, process, Pid, end_of_it} -> ok; M3 -> error({not_down, M3}) end
     end || _ <- lists:seq(1, 2 * N)].

short_life(To) ->
    To ! {said, self()},
    exit(end_of_it).

%% The case of the VM's "Missing 'spawn_reply'": it would take the connection down.
erpc_of_short_lived(B, N) ->
    [begin
        ?EQ(I, erpc:call(B, bp_procs, identity, [I])),
        ?EQ({I, caught}, try erpc:call(B, erlang, exit, [I])
                         catch exit:{exception, I} -> {I, caught} end)
     end || I <- lists:seq(1, N)].

%% A monitor by name: its 'DOWN' is the last that comes from the process.
name_monitor_after_messages(B, N) ->
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
     end || _ <- lists:seq(1, max(1, N div 2))].

named_dier(Name, To, K) ->
    register(Name, self()),
    To ! {self(), registered},
    receive go -> ok end,
    [To ! {num, I, payload(I)} || I <- lists:seq(1, K)],
    exit(bye).

%% A 200 KB reason to three watchers (name, pid, link), each after small messages.
large_reason_all_watchers(B, N) ->
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
        [ended(W, all_right) || W <- Watchers]
     end || I <- lists:seq(1, max(1, N div 4))].

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
group_leader_between(B, N) ->
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
    [L ! stop || {_, L} <- Leaders].

leader_probe(To) ->
    receive
        {probe, I} ->
            To ! {leader, I, group_leader()},
            leader_probe(To);
        stop -> ok
    end.

%% exit/2 and the end of a linked process come after the messages before them.
exit_after_messages(B, N) ->
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
     end || I <- lists:seq(1, N)].

say_and_die(To, K, ExitSignal) ->
    [To ! {num, I, payload(I)} || I <- lists:seq(1, K)],
    case ExitSignal of
        1 -> exit(To, exit_signal);
        0 -> ok
    end,
    exit(died).

%% Unlinked before it ends: no 'EXIT' may come.
unlink_then_exit(B, N) ->
    process_flag(trap_exit, true),
    [begin
        {P, M} = spawn_monitor(B, ?MODULE, unlinker, [self(), I]),
        ?RECV({'DOWN', M, process, P, unlinked_end}),
        ?NO_RECV({'EXIT', _, _}, 0)
     end || I <- lists:seq(1, N)].

unlinker(To, I) ->
    link(To),
    To ! payload(I),
    unlink(To),
    exit(unlinked_end).

%% Calls to names that nobody has (their 'DOWN' comes from no process) among numbered traffic.
dead_names_among_traffic(B, N) ->
    Self = self(),
    Talker = spawn_link(B, fun() ->
        [Self ! {num, I, payload(I)} || I <- lists:seq(1, N)],
        receive stop -> ok end
    end),
    [begin
        ?EQ(noproc, try gen_server:call({nobody_has_this, B}, x, 100000)
                    catch exit:{R, _} -> R end),
        M = monitor(process, {nobody_has_this, B}),
        ?RECV({'DOWN', M, process, {nobody_has_this, B}, noproc}),
        receive {num, Got, _} -> ?EQ(I, Got) after ?LONG -> error({no_number, I}) end
     end || I <- lists:seq(1, N)],
    unlink(Talker),
    Talker ! stop.

%% The link of spawn_link and an end at once: 'EXIT' comes, with the reason, once.
spawn_link_exit_at_once(B, N) ->
    process_flag(trap_exit, true),
    [begin
        P = spawn_link(B, bp_procs, exit_with, [{reason, I}]),
        ?RECV({'EXIT', P, {reason, I}})
     end || I <- lists:seq(1, N)],
    ?NO_RECV({'EXIT', _, _}, 0).

%% A reply through an alias beats the 'DOWN' of the one that replied; after demonitor neither comes.
demonitor_and_alias(B, N) ->
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
     end || I <- lists:seq(1, N)].
