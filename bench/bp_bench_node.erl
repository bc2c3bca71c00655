%% SPDX-License-Identifier: Apache-2.0
%% What runs inside the measured nodes. Only distribution traffic of the figure itself crosses the
%% carrier: the functions are called over the nodes' standard input and output.
-module(bp_bench_node).

-export([round_trips/2, stream/2, ping_under_bulk/3, user_stream/2, ping_beside_user_stream/2,
         connect/1, disconnect/1, await/2, conn_stat/2, memory/0]).
-export([echo/0, sink/1, stream_sink/2]).

-define(WAIT_MS, 20000).

%% Round trips of one `bytes` long binary to a process on Node, one after the other. Returns
%% {P50, P99} in microseconds of `count` trips, after `warmup` that do not count.
-spec round_trips(node(), #{bytes := pos_integer(), count := pos_integer(),
                            warmup := non_neg_integer()}) -> {float(), float()}.
round_trips(Node, #{bytes := Bytes, count := Count, warmup := Warmup}) ->
    in_fresh_process(
      fun() ->
              Echo = start_echo(Node),
              Bin = rand:bytes(Bytes),
              _ = [trip(Echo, Bin) || _ <- lists:seq(1, Warmup)],
              percentiles([trip(Echo, Bin) || _ <- lists:seq(1, Count)])
      end).

%% `senders` processes send binaries of `bytes` to a receiver each on Node for `ms` milliseconds.
%% The clock stops when the last receiver has acknowledged the last message; every receiver's
%% count is checked. Returns {Messages, Seconds}.
-spec stream(node(), #{senders := pos_integer(), bytes := pos_integer(), ms := pos_integer()}) ->
          {non_neg_integer(), float()}.
stream(Node, #{senders := Senders, bytes := Bytes, ms := Ms}) ->
    in_fresh_process(
      fun() ->
              Parent = self(),
              Bin = rand:bytes(Bytes),
              Pids = [spawn_link(fun() -> sender(Parent, Node, Bin) end)
                      || _ <- lists:seq(1, Senders)],
              _ = [receive {P, ready} -> ok end || P <- Pids],
              T0 = now_ns(),
              _ = [P ! {go, T0 + Ms * 1000000} || P <- Pids],
              N = lists:sum([receive {P, sent, C} -> C end || P <- Pids]),
              {N, (now_ns() - T0) / 1.0e9}
      end).

%% Round trips of 64 bytes to PingNode for `ms` milliseconds while one process sends 1 MB binaries
%% to BulkNode. The trip under way when bulk ends counts with all the time that it takes, so a
%% carrier that lets no ping through shows the length of the bulk phase. Returns
%% {P50, P99, MBperSecond}: microseconds, and what the bulk sender moved.
-spec ping_under_bulk(node(), node(), #{ms := pos_integer()}) -> {float(), float(), float()}.
ping_under_bulk(BulkNode, PingNode, #{ms := Ms}) ->
    in_fresh_process(
      fun() ->
              Parent = self(),
              Bin = rand:bytes(1000000),
              Bulk = spawn_link(fun() -> sender(Parent, BulkNode, Bin) end),
              receive {Bulk, ready} -> ok end,
              Echo = start_echo(PingNode),
              Ping = rand:bytes(64),
              _ = [trip(Echo, Ping) || _ <- lists:seq(1, 100)],
              T0 = now_ns(),
              Settled = T0 + 200 * 1000000,
              End = Settled + Ms * 1000000,
              Bulk ! {go, End},
              {P50, P99} = percentiles(trips_between(Echo, Ping, Settled, End, [])),
              N = receive {Bulk, sent, C} -> C end,
              {P50, P99, N * 1.0e9 / (now_ns() - T0)}
      end).

%% Writes of 1 MB on one user stream of this carrier for `ms` milliseconds; the clock stops when the
%% reader on Node, whose count is checked, has said that it has all. Returns {Writes, Seconds}.
-spec user_stream(node(), #{ms := pos_integer()}) -> {pos_integer(), float()}.
user_stream(Node, #{ms := Ms}) ->
    in_fresh_process(
      fun() ->
              Bin = rand:bytes(1000000),
              Stream = open_user_stream(Node),
              T0 = now_ns(),
              N = write_until(Stream, Bin, T0 + Ms * 1000000, 0),
              {N, (now_ns() - T0) / 1.0e9}
      end).

%% As ping_under_bulk/3, with such a stream in place of the bulk sender.
-spec ping_beside_user_stream(node(), #{ms := pos_integer()}) -> {float(), float(), float()}.
ping_beside_user_stream(Node, #{ms := Ms}) ->
    in_fresh_process(
      fun() ->
              Parent = self(),
              Bin = rand:bytes(1000000),
              Writer = spawn_link(fun() ->
                  Stream = open_user_stream(Node),
                  Parent ! {self(), ready},
                  receive {go, End} -> ok end,
                  Parent ! {self(), sent, write_until(Stream, Bin, End, 0)}
              end),
              receive {Writer, ready} -> ok end,
              Echo = start_echo(Node),
              Ping = rand:bytes(64),
              _ = [trip(Echo, Ping) || _ <- lists:seq(1, 100)],
              T0 = now_ns(),
              Settled = T0 + 200 * 1000000,
              End = Settled + Ms * 1000000,
              Writer ! {go, End},
              {P50, P99} = percentiles(trips_between(Echo, Ping, Settled, End, [])),
              N = receive {Writer, sent, C} -> C end,
              {P50, P99, N * 1.0e9 / (now_ns() - T0)}
      end).

open_user_stream(Node) ->
    Sink = spawn_link(Node, ?MODULE, stream_sink, [node(), self()]),
    receive {Sink, ready} -> ok end,
    {ok, Ref} = quic_dist:open_stream(Node),
    {Ref, Sink}.

write_until({Ref, Sink} = Stream, Bin, End, N) ->
    ok = quic_dist:send(Ref, Bin),
    case now_ns() < End of
        true ->
            write_until(Stream, Bin, End, N + 1);
        false ->
            ok = quic_dist:close_stream(Ref),
            Bytes = (N + 1) * byte_size(Bin),
            receive {Sink, received, Bytes} -> ok;
                    {Sink, received, Other} -> error({lost, {sent, Bytes}, {received, Other}})
            end,
            unlink(Sink),
            exit(Sink, kill),
            N + 1
    end.

%% Time of one net_kernel:connect_node/1 in microseconds.
-spec connect(node()) -> float().
connect(Node) ->
    T0 = now_ns(),
    case net_kernel:connect_node(Node) of
        true -> (now_ns() - T0) / 1000;
        Other -> error({connect_node, Node, Other})
    end.

%% A counter of this project's connection to Node.
-spec conn_stat(node(), binary()) -> non_neg_integer().
conn_stat(Node, Counter) ->
    {Node, Port} = lists:keyfind(Node, 1, erlang:system_info(dist_ctrl)),
    {ok, #{Counter := Value}} = barrel_p2p_drv_conn:stats(Port),
    Value.

-spec disconnect(node()) -> ok.
disconnect(Node) ->
    _ = erlang:disconnect_node(Node),
    await(Node, down).

%% Returns when this node sees Node as up or down.
-spec await(node(), up | down) -> ok.
await(Node, State) ->
    await(Node, State =:= up, now_ns() + ?WAIT_MS * 1000000).

await(Node, Up, Deadline) ->
    case lists:member(Node, nodes(connected)) of
        Up ->
            ok;
        _ ->
            now_ns() < Deadline orelse error({timeout, {connected, Node, Up}}),
            receive after 1 -> ok end,
            await(Node, Up, Deadline)
    end.

%% Memory of this node in bytes after a collection of all processes, the kernel's socket buffers
%% not included: `vm` is what the VM's allocators hand out, `driver` the drivers' part of it,
%% `libraries` what C libraries hold from malloc. Resident pages would say little: growth first
%% fills what boot left free. Needs malloc_count.so (bench/idle_memory preloads it).
-spec memory() -> #{atom() => integer()}.
memory() ->
    _ = [garbage_collect(P) || P <- processes()],
    timer:sleep(300),
    Vm = erlang:memory(total),
    Libraries = malloc_bytes() - carriers_from_malloc(),
    #{total => Vm + Libraries, vm => Vm, driver => driver_bytes(), libraries => Libraries,
      descriptors => descriptors()}.

%% --- processes on the far side ---------------------------------------------

echo() ->
    receive
        {start, From} -> From ! {self(), started}, echo(From)
    end.

echo(From) ->
    receive
        Bin when is_binary(Bin) -> From ! Bin, echo(From)
    end.

sink(N) ->
    receive
        Bin when is_binary(Bin) -> sink(N + 1);
        {finish, From} -> From ! {self(), received, N}, sink(0)
    end.

%% Takes one user stream of Node, and says how many bytes it brought.
stream_sink(Node, From) ->
    ok = quic_dist:accept_streams(Node),
    From ! {self(), ready},
    stream_sink(Node, From, 0).

stream_sink(Node, From, N) ->
    receive
        {quic_dist_stream, Ref, {data, Bin, true}} ->
            ok = quic_dist:close_stream(Ref),
            From ! {self(), received, N + byte_size(Bin)};
        {quic_dist_stream, _, {data, Bin, false}} ->
            stream_sink(Node, From, N + byte_size(Bin))
    end.

%% --- local -----------------------------------------------------------------

%% A heap that needs no collection during the measurement, and none left over from the last one.
in_fresh_process(Fun) ->
    Options = [monitor, {min_heap_size, 1000000}],
    {Pid, Ref} = spawn_opt(fun() -> exit({result, Fun()}) end, Options),
    receive
        {'DOWN', Ref, process, Pid, {result, Result}} -> Result;
        {'DOWN', Ref, process, Pid, Reason} -> error(Reason)
    end.

start_echo(Node) ->
    Echo = spawn_link(Node, ?MODULE, echo, []),
    Echo ! {start, self()},
    receive {Echo, started} -> Echo end.

trip(Echo, Bin) ->
    T0 = now_ns(),
    Echo ! Bin,
    receive
        B when is_binary(B) -> now_ns() - T0
    end.

%% Trips until End, of which those that end after Settled count: at least the last one.
trips_between(Echo, Bin, Settled, End, Acc) ->
    Ns = trip(Echo, Bin),
    case now_ns() of
        Now when Now < Settled -> trips_between(Echo, Bin, Settled, End, Acc);
        Now when Now < End -> trips_between(Echo, Bin, Settled, End, [Ns | Acc]);
        _ -> [Ns | Acc]
    end.

sender(Parent, Node, Bin) ->
    Sink = spawn_link(Node, ?MODULE, sink, [0]),
    Sink ! {finish, self()},
    receive {Sink, received, 0} -> ok end,
    Parent ! {self(), ready},
    Batch = max(1, min(100, 1000000 div byte_size(Bin))),
    receive {go, End} -> ok end,
    N = send_until(Sink, Bin, Batch, End, 0),
    Sink ! {finish, self()},
    receive {Sink, received, N} -> ok;
            {Sink, received, Other} -> error({lost, {sent, N}, {received, Other}})
    end,
    Parent ! {self(), sent, N},
    unlink(Sink),
    exit(Sink, kill).

send_until(Sink, Bin, Batch, End, N) ->
    send(Sink, Bin, Batch),
    case now_ns() < End of
        true -> send_until(Sink, Bin, Batch, End, N + Batch);
        false -> N + Batch
    end.

send(_, _, 0) ->
    ok;
send(Sink, Bin, N) ->
    Sink ! Bin,
    send(Sink, Bin, N - 1).

percentiles([]) ->
    error(no_samples);
percentiles(Ns) ->
    Sorted = list_to_tuple(lists:sort(Ns)),
    {nearest_rank(Sorted, 50) / 1000, nearest_rank(Sorted, 99) / 1000}.

nearest_rank(Sorted, Percent) ->
    N = tuple_size(Sorted),
    element(max(1, (N * Percent + 99) div 100), Sorted).

now_ns() ->
    erlang:monotonic_time(nanosecond).

malloc_bytes() ->
    {ok, Text} = file:read_file(os:getenv("BENCH_MALLOC_FILE") ++ "." ++ os:getpid()),
    binary_to_integer(string:trim(Text)).

%% What the VM's allocators took from malloc and hand out themselves.
carriers_from_malloc() ->
    lists:sum([element(2, T) || Alloc <- erlang:system_info(alloc_util_allocators),
                                {instance, _, Info} <- instances(Alloc),
                                {Kind, Carriers} <- Info, Kind =:= mbcs orelse Kind =:= sbcs,
                                T <- Carriers, element(1, T) =:= sys_alloc_carriers_size]).

descriptors() ->
    {ok, Names} = file:list_dir("/proc/self/fd"),
    length(Names).

%% Bytes in blocks, not in carriers: what the drivers asked for.
driver_bytes() ->
    lists:sum([blocks(Info) || {instance, _, Info} <- instances(driver_alloc)]).

instances(Alloc) ->
    case erlang:system_info({allocator, Alloc}) of
        L when is_list(L) -> L;
        false -> []
    end.

blocks(Info) ->
    Carriers = [P || {Kind, P} <- Info, Kind =:= mbcs orelse Kind =:= sbcs],
    lists:sum([size_of(Block) || P <- Carriers, {blocks, Bs} <- P, {_, Block} <- Bs]).

size_of(Block) ->
    case lists:keyfind(size, 1, Block) of
        T when tuple_size(T) >= 2 -> element(2, T);
        false -> 0
    end.
