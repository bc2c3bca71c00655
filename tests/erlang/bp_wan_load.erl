%% SPDX-License-Identifier: Apache-2.0
%% Traffic that two nodes have over a bad network, and a watchdog over it. All of it runs in the
%% nodes; a case starts it with bp_cluster:run/3. Everything that does not end within its bound, or
%% ends differently than it must, ends the whole run with an error that says what it was.
-module(bp_wan_load).

-include("bp_test.hrl").

-export([mixed/3, numbered/2, finish/1, wait_drained/2, conn/1, settled_memory/0]).
-export([watch/1, watched/1]).
-export([call_times/3, bulk_count/0]).
%% Spawned.
-export([numbered_sinks/1, send_numbered/4, dies/1, bulk_sender/2, count_bulk/0]).

-define(SAMPLE, 500).

%% ---- mixed traffic ----

%% Small calls, 1 MB terms, links, monitors, spawns and checks of signal order, side by side with
%% Node for Ms; every operation ends within Bound ms. Returns #{ops => #{Kind => Number},
%% slowest => #{Kind => Ms}, samples => [sample()]}.
-spec mixed(node(), pos_integer(), pos_integer()) -> map().
mixed(Node, Ms, Bound) ->
    Until = now_ms() + Ms,
    Self = self(),
    Watch = watch(Node),
    Workers = maps:from_list([begin
        {Pid, M} = spawn_monitor(fun() -> exit({done, Kind, worker(Kind, Node, Until, Bound)}) end),
        {M, Pid}
     end || Kind <- [call, call, term, link_exit, monitor_down, spawn_call, order]]),
    {Sampler, SM} = spawn_monitor(fun() -> sample(Self, Node, Bound, []) end),
    Results = try collect(Workers, SM, Ms + bound(order, Bound), [])
              after [exit(P, kill) || P <- maps:values(Workers)]
              end,
    Sampler ! {stop, self()},
    Samples = receive
        {Sampler, S} -> S;
        {'DOWN', SM, process, Sampler, Reason} -> error(Reason)
    end,
    demonitor(SM, [flush]),
    ?EQ([], watched(Watch)),
    #{ops => lists:foldl(fun({K, N, _}, Acc) -> maps:update_with(K, fun(X) -> X + N end, N, Acc) end,
                         #{}, Results),
      slowest => lists:foldl(fun({K, _, T}, Acc) ->
                                 maps:update_with(K, fun(X) -> max(X, T) end, T, Acc)
                             end, #{}, Results),
      samples => Samples}.

collect(Workers, _, _, Results) when map_size(Workers) =:= 0 ->
    Results;
collect(Workers, SM, Ms, Results) ->
    receive
        {'DOWN', M, process, _, {done, Kind, {N, Slowest}}} when is_map_key(M, Workers) ->
            collect(maps:remove(M, Workers), SM, Ms, [{Kind, N, Slowest} | Results]);
        {'DOWN', M, process, _, Reason} when is_map_key(M, Workers); M =:= SM ->
            error(Reason)
    after Ms ->
        error({workers_do_not_end, [process_info(P, current_stacktrace) || P <- maps:values(Workers)]})
    end.

%% {Operations, ms of the slowest}
worker(Kind, Node, Until, Bound) ->
    process_flag(trap_exit, true),
    State = prepare(Kind, Node),
    worker(Kind, Node, State, Until, Bound, 0, 0).

worker(Kind, Node, State, Until, Bound, N, Slowest) ->
    Start = now_ms(),
    case Start < Until of
        true ->
            ok = operation(Kind, Node, State, N, Bound),
            Took = now_ms() - Start,
            Took =< bound(Kind, Bound) orelse exit({too_slow, Kind, N, Took}),
            pause(Kind),
            worker(Kind, Node, State, Until, Bound, N + 1, max(Took, Slowest));
        false ->
            {N, Slowest}
    end.

prepare(Kind, Node) when Kind =:= call; Kind =:= term ->
    spawn_link(Node, bp_procs, echo, []);
prepare(_, _) ->
    none.

%% Steady use, not a benchmark: the processors are there for the emulator, too.
pause(call) -> receive after 5 -> ok end;
pause(term) -> receive after 50 -> ok end;
pause(_) -> receive after 10 -> ok end.

operation(call, _, Echo, N, Bound) ->
    echo(Echo, {N, small}, Bound);
operation(term, _, Echo, N, Bound) ->
    echo(Echo, megabyte(N), Bound);
operation(link_exit, Node, _, N, Bound) ->
    P = spawn_link(Node, ?MODULE, dies, [{reason, N}]),
    P ! go,
    await({'EXIT', P, {reason, N}}, {link_exit, N}, Bound);
operation(monitor_down, Node, _, N, Bound) ->
    P = spawn(Node, ?MODULE, dies, [{reason, N}]),
    M = monitor(process, P),
    P ! go,
    await({'DOWN', M, process, P, {reason, N}}, {monitor_down, N}, Bound);
operation(spawn_call, Node, _, N, Bound) ->
    ?EQ({Node, N}, try erpc:call(Node, fun() -> {node(), N} end, Bound)
                   catch error:{erpc, Reason} -> exit({stall, spawn_call, N, Reason})
                   end),
    ok;
operation(order, Node, _, N, Bound) ->
    Cases = bp_order:cases(),
    {Case, _} = lists:nth(N rem length(Cases) + 1, Cases),
    {P, M} = spawn_monitor(fun() -> bp_order:run(Case, Node, 2, 1) end),
    await({'DOWN', M, process, P, normal}, {order, Case, N}, bound(order, Bound)).

%% A check of order is up to a dozen messages to and fro, one after the other.
bound(order, Bound) -> 12 * Bound;
bound(_, Bound) -> Bound.

echo(Echo, Term, Bound) ->
    Ref = make_ref(),
    Echo ! {self(), Ref, Term},
    await({Ref, Term}, {echo, Term}, Bound).

%% Exactly this message comes next: a process here does one thing at a time.
await(Wanted, What, Bound) ->
    receive
        Wanted -> ok;
        Other -> exit({wrong_message, [{wanted, short(Wanted)}, {got, short(Other)}]})
    after Bound ->
        exit({stall, short(What), Bound})
    end.

short(Term) ->
    lists:flatten(io_lib:format("~0P", [Term, 15])).

%% By turns one binary, and a term of many parts.
megabyte(N) when N rem 2 =:= 0 ->
    binary:copy(<<N:64>>, 128 * 1024);
megabyte(N) ->
    [{I, N, <<I:64, 0:(900 * 8)>>} || I <- lists:seq(1, 1000)].

dies(Reason) ->
    receive go -> exit(Reason) end.

%% ---- the watchdog ----

%% Every half second: does what waits in the driver move? A sample is {Pending, Memory, Rss}.
sample(Report, Node, Bound, Samples) ->
    sample(Report, Node, Bound, Samples, none, now_ms()).

sample(Report, Node, Bound, Samples, Last, Moved0) ->
    #{<<"pending">> := Pending, <<"frames_out">> := Frames, <<"bytes_sent">> := Sent} = conn(Node),
    Now = now_ms(),
    State = {Pending, Frames, Sent},
    Moved = case Pending =:= 0 orelse State =/= Last of true -> Now; false -> Moved0 end,
    Now - Moved =< Bound orelse exit({stall, pending, Pending, Now - Moved}),
    New = [{Pending, erlang:memory(total), rss()} | Samples],
    receive
        {stop, Report} -> Report ! {self(), lists:reverse(New)}
    after ?SAMPLE ->
        sample(Report, Node, Bound, New, State, Moved)
    end.

%% The connection's counters, from its port.
conn(Node) ->
    {Node, Port} = lists:keyfind(Node, 1, erlang:system_info(dist_ctrl)),
    {ok, Counters} = barrel_p2p_drv_conn:stats(Port),
    Counters.

%% Nothing waits in the driver and nothing is unacknowledged.
wait_drained(Node, Ms) ->
    bp_cluster:until(fun() ->
        case conn(Node) of
            #{<<"pending">> := 0, <<"bytes_in_flight">> := F} when F < 2000 -> true; % a tick
            C -> maps:with([<<"pending">>, <<"bytes_in_flight">>, <<"cwnd">>], C)
        end
    end, Ms).

%% Resident memory in KB, and what the VM counts, once all garbage is gone.
settled_memory() ->
    [garbage_collect(P) || P <- processes()],
    #{rss => rss(), total => erlang:memory(total) div 1024}.

rss() ->
    {ok, Text} = file:read_file("/proc/self/status"),
    {match, [Kb]} = re:run(Text, "VmRSS:\\s*([0-9]+)", [{capture, [1], list}]),
    list_to_integer(Kb).

%% Notes what happens to the connection with Node.
watch(Node) ->
    Self = self(),
    Pid = spawn(fun() ->
        ok = net_kernel:monitor_nodes(true, [nodedown_reason]),
        Self ! {self(), watching},
        watch_loop(Node, [])
    end),
    receive {Pid, watching} -> Pid end.

watch_loop(Node, Seen) ->
    receive
        {What, Node, Info} ->
            watch_loop(Node, [{What, proplists:get_value(nodedown_reason, Info), now_ms()} | Seen]);
        {get, From} ->
            From ! {self(), lists:reverse(Seen)},
            watch_loop(Node, Seen)
    end.

%% [{nodedown | nodeup, Reason, monotonic ms}]
watched(Watch) ->
    Watch ! {get, self()},
    receive {Watch, Seen} -> Seen after ?LONG -> error(watcher_silent) end.

now_ms() ->
    erlang:monotonic_time(millisecond).

%% ---- numbered messages ----

%% Starts processes that send numbered messages of Size bytes, each to a sink of its own in Node,
%% until finish/1, or `max' of them each. Opts: senders, size, pause (ms), max. Returns a handle;
%% the caller may end.
numbered(Node, #{senders := N, size := Size} = Opts) ->
    Max = maps:get(max, Opts, infinity),
    Pause = maps:get(pause, Opts, 0),
    Sinks = erpc:call(Node, ?MODULE, numbered_sinks, [N]),
    [{spawn(?MODULE, send_numbered, [Sink, binary:copy(<<(N rem 256)>>, Size), Pause, Max]), Sink}
     || Sink <- Sinks].

numbered_sinks(N) ->
    [spawn(bp_procs, sink, []) || _ <- lists:seq(1, N)].

send_numbered(Sink, Payload, Pause, Max) ->
    M = monitor(process, Sink),
    send_numbered(Sink, M, Payload, Pause, Max, 1).

send_numbered(Sink, M, Payload, Pause, Max, I) when I =< Max ->
    receive
        {finish, From, Ref} when Max =:= infinity -> last_one(Sink, From, Ref, I - 1);
        {'DOWN', M, process, _, Reason} -> exit({sink_gone, Reason})
    after Pause ->
        Sink ! {seq, I, Payload},
        send_numbered(Sink, M, Payload, Pause, Max, I + 1)
    end;
send_numbered(Sink, M, _, _, _, I) ->
    receive
        {finish, From, Ref} -> last_one(Sink, From, Ref, I - 1);
        {'DOWN', M, process, _, Reason} -> exit({sink_gone, Reason})
    end.

%% The sink is asked by the sender: only its own messages are sure to come before the question.
last_one(Sink, From, Ref, Sent) ->
    From ! {sent, Ref, Sent},
    Sink ! {count, From, Ref}.

%% Ends the senders: every message must have arrived, in order. Returns the number of messages.
finish(Handle) ->
    Asked = [begin
        M = monitor(process, Sender),
        Sender ! {finish, self(), M},
        {M, Sender, Sink}
     end || {Sender, Sink} <- Handle],
    lists:sum([begin
        Sent = receive
            {sent, M, N} -> N;
            {'DOWN', M, process, Sender, Reason} -> error({sender, Reason})
        after ?LONG -> error({sender_suspended, process_info(Sender, status)})
        end,
        receive {M, Got, State} -> ?EQ({Sent, ok}, {Got, State})
        after ?LONG -> error(sink_does_not_answer)
        end,
        demonitor(M, [flush]),
        exit(Sink, kill),
        Sent
     end || {M, Sender, Sink} <- Asked]).

%% ---- head of line ----

%% Small calls to Node, one after the other, while N processes send 1 MB messages there, for Ms.
%% Milliseconds of each; the last one may have been given up: it took that long at least.
call_times(Node, N, Ms) ->
    process_flag(trap_exit, true),
    Echo = spawn_link(Node, bp_procs, echo, []),
    Counter = spawn_link(Node, ?MODULE, count_bulk, []),
    Senders = [spawn_link(?MODULE, bulk_sender, [Counter, binary:copy(<<I>>, 1 bsl 20)])
               || I <- lists:seq(1, N)],
    receive after 3000 -> ok end, % until the queues are full and the path's rate is found
    Self = self(),
    %% of its own: sending may suspend it for longer than Ms
    Caller = spawn_link(fun() -> small_calls(Echo, Self) end),
    Times = call_times(Caller, erlang:monotonic_time(microsecond) + Ms * 1000, none, []),
    [begin unlink(P), exit(P, kill) end || P <- [Caller | Senders]],
    Times.

call_times(Caller, Until, Begun, Times) ->
    Now = erlang:monotonic_time(microsecond),
    receive
        {Caller, begun, At} -> call_times(Caller, Until, At, Times);
        {Caller, ended, At} -> call_times(Caller, Until, none, [(At - Begun) / 1000 | Times]);
        {'EXIT', P, Reason} -> error({ended, P, Reason})
    after max(0, Until - Now) div 1000 ->
        case Begun of
            none -> Times;
            _ -> [(erlang:monotonic_time(microsecond) - Begun) / 1000 | Times]
        end
    end.

small_calls(Echo, Report) ->
    Report ! {self(), begun, erlang:monotonic_time(microsecond)},
    Ref = make_ref(),
    Echo ! {self(), Ref, small},
    receive {Ref, small} -> ok end,
    Report ! {self(), ended, erlang:monotonic_time(microsecond)},
    receive after 10 -> ok end,
    small_calls(Echo, Report).

bulk_sender(Counter, Payload) ->
    Counter ! {bulk, Payload},
    bulk_sender(Counter, Payload).

count_bulk() ->
    register(bulk_counter, self()),
    count_bulk(0).

count_bulk(N) ->
    receive
        {bulk, _} -> count_bulk(N + 1);
        {count, From, Ref} -> From ! {Ref, N}, count_bulk(N)
    end.

%% In the node where the bulk arrives: the number of messages, so far.
bulk_count() ->
    Ref = make_ref(),
    bulk_counter ! {count, self(), Ref},
    receive {Ref, N} -> N after ?LONG -> error(no_counter) end.
