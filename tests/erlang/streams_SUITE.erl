%% SPDX-License-Identifier: Apache-2.0
%% User streams between real nodes: each function, event and error of quic_dist.
-module(streams_SUITE).

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([echo/1, functions_and_lists/1, errors/1, half_close/1, closed_always_comes/1,
         resets/1, nobody_accepts/1, acceptors_take_turns/1, controlling_process/1,
         active_once_n_false/1, slow_owner_holds_sender_back/1, busy_mailbox_is_no_obstacle/1,
         large_writes/1, nonblock/1, slow_reader_is_alone/1, owner_death/1, owner_ends_after_close/1,
         priorities/1, stream_limit/1, ten_thousand_in_sequence/1, ninety_at_once/1,
         connection_ends/1, peer_is_killed/1, dynamic_name/1, other_carrier/1]).

-include_lib("common_test/include/ct.hrl").
-include("bp_test.hrl").

-import(bp_streams, [clean/1, streams/1, counter/2, proc/1, do/3, cast/3, name/1, mirror/3, accept/3,
                     opened/2, opened/3, next/3, send/4, close/3]).

suite() ->
    [{timetrap, {minutes, 3}}].

all() ->
    shared() ++ own().

%% On the two nodes of the suite: what a case leaves behind another one finds.
shared() ->
    [echo, functions_and_lists, errors, half_close, closed_always_comes, resets, nobody_accepts,
     acceptors_take_turns, controlling_process, active_once_n_false, slow_owner_holds_sender_back,
     busy_mailbox_is_no_obstacle, large_writes, nonblock, slow_reader_is_alone, owner_death,
     owner_ends_after_close, priorities, stream_limit, ten_thousand_in_sequence, ninety_at_once].

own() ->
    [connection_ends, peer_is_killed, dynamic_name, other_carrier].

init_per_suite(Config0) ->
    case bp_cluster:only(quic) of
        ok ->
            Config = bp_cluster:init_dir("streams_SUITE.pair", Config0),
            [A, B] = bp_cluster:start_many(Config, [#{name => a}, #{name => b}]),
            true = bp_cluster:connect(A, B),
            [{pair, {A, B}}, {pair_dir, bp_cluster:dir(Config)} | Config];
        Skip ->
            Skip
    end.

end_per_suite(Config) ->
    bp_cluster:end_suite(?config(pair_dir, Config)).

init_per_testcase(Case, Config) ->
    case lists:member(Case, own()) of
        true -> bp_cluster:init_case(?MODULE, Case, Config);
        false -> Config
    end.

end_per_testcase(Case, Config) ->
    case lists:member(Case, own()) of
        true ->
            bp_cluster:end_case(Config);
        false ->
            {A, B} = pair(Config),
            clean(A),
            clean(B)
    end.

pair(Config) -> ?config(pair, Config).

%% --- bytes -------------------------------------------------------------------------

echo(Config) ->
    {A, B} = pair(Config),
    From = name(A),
    To = name(B),
    _ = bp_cluster:call(B, bp_stream_proc, echo_acceptor, [From]),
    ?EQ([true || _ <- lists:seq(1, 6)],
        bp_cluster:run(A, fun() ->
            [begin
                 Data = crypto:strong_rand_bytes(Size),
                 {ok, Ref} = quic_dist:open_stream(To),
                 ok = quic_dist:send(Ref, Data, true),
                 Hash = crypto:hash(sha256, Data),
                 {Size, Hash, fin} = bp_stream_proc:read(Ref),
                 closed = bp_stream_proc:next(Ref),
                 bp_stream_proc:none(Ref, 0) =:= ok
             end || Size <- [0, 1, 100, 16384, 16385, 1000000]]
        end)).

functions_and_lists(Config) ->
    {A, B} = pair(Config),
    {P, Ref, Q, Peer} = opened(A, B, [{priority, 77}]),
    {BName, AName} = {name(B), name(A)},
    [#{stream_id := Id}] = bp_cluster:call(A, quic_dist, list_streams, [BName]),
    true = Id >= 68 andalso Id rem 4 =:= 0,     % the dialler's (WIRE 2)
    ?EQ([#{ref => Ref, node => BName, stream_id => Id, owner => P, priority => 77,
           recv_fin => false, send_fin => false}],
        bp_cluster:call(A, quic_dist, list_streams, [BName])),
    ?EQ([#{ref => Peer, node => AName, stream_id => Id, owner => Q, priority => 128,
           recv_fin => false, send_fin => false}],
        bp_cluster:call(B, quic_dist, list_streams, [])),
    ok = do(A, P, fun() -> quic_dist:send(Ref, [<<"i">>, "o", [<<"data">>]], true) end),
    ?EQ({data, <<"iodata">>, true}, next(B, Q, Peer)),
    ?EQ([{true, false}], [{S, R} || #{send_fin := S, recv_fin := R} <-
                                        bp_cluster:call(A, quic_dist, list_streams, [BName])]),
    ?EQ([{false, true}], [{S, R} || #{send_fin := S, recv_fin := R} <-
                                        bp_cluster:call(B, quic_dist, list_streams, [AName])]),
    ok = close(B, Q, Peer),
    ?EQ({data, <<>>, true}, next(A, P, Ref)),
    ?EQ(closed, next(A, P, Ref)),
    ?EQ([], bp_cluster:call(A, quic_dist, list_streams, [])),
    ?EQ([], bp_cluster:call(A, quic_dist, list_streams, ['nobody@nowhere'])),
    %% the process that runs the connection
    {ok, Controller} = bp_cluster:call(A, quic_dist, get_controller, [BName]),
    true = bp_cluster:call(A, erlang, is_process_alive, [Controller]),
    %% priorities are brought into 16..255, and may change
    {ok, R1} = do(A, P, fun() -> quic_dist:open_stream(BName, [{priority, 1}]) end),
    {ok, R2} = do(A, P, fun() -> quic_dist:open_stream(BName, [{priority, 1000}]) end),
    ok = do(A, P, fun() -> quic_dist:setopts(R1, [{priority, 99}]) end),
    ?EQ([{R1, 99}, {R2, 255}], [{R, Pr} || #{ref := R, priority := Pr} <-
                                      bp_cluster:call(A, quic_dist, list_streams, [BName])]).

errors(Config) ->
    {A, B} = pair(Config),
    {P, Ref, Q, Peer} = opened(A, B),
    BName = name(B),
    Nobody = 'nobody@127.0.0.1',
    {quic_dist_stream, _, Id} = Ref,
    Call = fun(F, Args) -> do(A, P, fun() -> apply(quic_dist, F, Args) end) end,
    ?EQ({error, not_connected}, Call(open_stream, [Nobody])),
    ?EQ({error, not_connected}, Call(accept_streams, [Nobody])),
    ?EQ({error, not_connected}, Call(stop_accepting, [Nobody])),
    ?EQ({error, not_connected}, Call(get_controller, [Nobody])),
    ?EQ({error, not_connected}, Call(send, [{quic_dist_stream, Nobody, Id}, <<"x">>])),
    ?EQ({error, not_connected}, Call(open_stream, [name(A)])),
    %% of another process
    Other = proc(A),
    [?EQ({error, not_owner}, do(A, Other, fun() -> apply(quic_dist, F, Args) end))
     || {F, Args} <- [{send, [Ref, <<"x">>]}, {send, [Ref, binary:copy(<<"x">>, 100000)]},
                      {close_stream, [Ref]}, {reset_stream, [Ref]}, {setopts, [Ref, []]},
                      {controlling_process, [Ref, Other]}]],
    %% that never was
    None = {quic_dist_stream, BName, 4000},
    [?EQ({error, unknown_stream}, Call(F, Args))
     || {F, Args} <- [{send, [None, <<"x">>]}, {send, [None, binary:copy(<<"x">>, 100000)]},
                      {close_stream, [None]}, {reset_stream, [None, 1]}, {setopts, [None, []]},
                      {controlling_process, [None, Other]}]],
    %% finished by us
    ok = Call(close_stream, [Ref]),
    ok = Call(close_stream, [Ref]),
    ?EQ({error, closed}, Call(send, [Ref, <<"more">>])),
    ?EQ({error, closed}, Call(send, [Ref, binary:copy(<<"x">>, 100000)])),
    %% over
    ?EQ({data, <<>>, true}, next(B, Q, Peer)),
    ok = close(B, Q, Peer),
    ?EQ({data, <<>>, true}, next(A, P, Ref)),
    ?EQ(closed, next(A, P, Ref)),
    ?EQ({error, unknown_stream}, Call(send, [Ref, <<"x">>])),
    %% a new owner that is dead, or elsewhere
    {ok, R2} = Call(open_stream, [BName]),
    Dead = bp_cluster:run(A, fun() -> spawn(fun() -> ok end) end),
    bp_cluster:until(fun() -> not bp_cluster:call(A, erlang, is_process_alive, [Dead]) end),
    ?EQ({error, badarg}, Call(controlling_process, [R2, Dead])),
    ?EQ({error, badarg}, Call(controlling_process, [R2, Q])),
    ok = Call(send, [R2, <<"still mine">>]),
    %% options
    [?EQ({bad_option, O}, do(A, P, fun() ->
                                       try quic_dist:open_stream(BName, [O])
                                       catch error:Reason -> Reason
                                       end
                                   end))
     || O <- [{priority, high}, {active, 40000}, {mode, maybe_}, nonblock]].

half_close(Config) ->
    {A, B} = pair(Config),
    {P, Ref, Q, Peer} = opened(A, B),
    ok = close(A, P, Ref),
    ?EQ({data, <<>>, true}, next(B, Q, Peer)),
    [begin
         ok = send(B, Q, Peer, <<I:32>>),
         ?EQ({data, <<I:32>>, false}, next(A, P, Ref))
     end || I <- lists:seq(1, 100)],
    ok = do(B, Q, fun() -> quic_dist:send(Peer, <<"last">>, true) end),
    ?EQ({data, <<"last">>, true}, next(A, P, Ref)),
    ?EQ(closed, next(A, P, Ref)),
    ?EQ(closed, next(B, Q, Peer)).

%% However the two ends come (upstream forgets it for some).
closed_always_comes(Config) ->
    {A, B} = pair(Config),
    Close = fun(N, P, R) -> close(N, P, R) end,
    Fin = fun(N, P, R) -> do(N, P, fun() -> quic_dist:send(R, <<>>, true) end) end,
    [begin
         {P, Ref, Q, Peer} = opened(A, B),
         case AFirst of
             true -> ok = First(A, P, Ref), ok = Second(B, Q, Peer);
             false -> ok = First(B, Q, Peer), ok = Second(A, P, Ref)
         end,
         ?EQ({data, <<>>, true}, next(A, P, Ref)),
         ?EQ({data, <<>>, true}, next(B, Q, Peer)),
         ?EQ(closed, next(A, P, Ref)),
         ?EQ(closed, next(B, Q, Peer))
     end || First <- [Close, Fin], Second <- [Close, Fin], AFirst <- [true, false]],
    {P1, Ref1, Q1, Peer1} = opened(A, B),
    ok = do(A, P1, fun() -> quic_dist:reset_stream(Ref1, 5) end),
    ?EQ([{reset, 5}, closed], [next(A, P1, Ref1) || _ <- "xx"]),
    ?EQ([{reset, 5}, closed], [next(B, Q1, Peer1) || _ <- "xx"]),
    ok = do(A, P1, fun() -> bp_stream_proc:none(Ref1, 100) end),
    ok = do(B, Q1, fun() -> bp_stream_proc:none(Peer1, 100) end).

resets(Config) ->
    {A, B} = pair(Config),
    [begin
         {P, Ref, Q, Peer} = opened(A, B),
         {N1, P1, R1, N2, P2, R2} = case ByA of
                                        true -> {A, P, Ref, B, Q, Peer};
                                        false -> {B, Q, Peer, A, P, Ref}
                                    end,
         %% also while bytes are under way in both directions
         Bulk andalso [cast(N, Pr, fun() -> quic_dist:send(R, binary:copy(<<"x">>, 20000000)) end)
                       || {N, Pr, R} <- [{N1, P1, R1}, {N2, P2, R2}]],
         ok = do(N1, P1, fun() -> case Code of
                                      0 -> quic_dist:reset_stream(R1);
                                      _ -> quic_dist:reset_stream(R1, Code)
                                  end
                         end),
         [{_, _, {reset, Code}} = do(N, Pr, fun() -> bp_stream_proc:read(R) end)
          || {N, Pr, R} <- [{N1, P1, R1}, {N2, P2, R2}]],
         [?EQ(closed, next(N, Pr, R)) || {N, Pr, R} <- [{N1, P1, R1}, {N2, P2, R2}]],
         ?EQ({error, unknown_stream}, send(N2, P2, R2, <<"x">>))
     end || ByA <- [true, false], Bulk <- [false, true], Code <- [0, 4711, (1 bsl 62) - 1]].

nobody_accepts(Config) ->
    {A, B} = pair(Config),
    P = proc(A),
    To = name(B),
    Before = counter(B, <<"user_streams_refused">>),
    {ok, Ref} = do(A, P, fun() -> quic_dist:open_stream(To) end),
    ok = send(A, P, Ref, binary:copy(<<"x">>, 3000000)),
    ?EQ({reset, 16#100}, next(A, P, Ref)),
    ?EQ(closed, next(A, P, Ref)),
    ?EQ(Before + 1, counter(B, <<"user_streams_refused">>)).

acceptors_take_turns(Config) ->
    {A, B} = pair(Config),
    {From, To} = {name(A), name(B)},
    P = proc(A),
    Qs = [proc(B) || _ <- lists:seq(1, 3)],
    Open = fun() ->
        {ok, R} = do(A, P, fun() -> {ok, R} = quic_dist:open_stream(To),
                                    ok = quic_dist:send(R, <<"x">>),
                                    {ok, R}
                           end),
        mirror(R, A, B)
    end,
    Owner = fun(R) ->
        bp_cluster:until(fun() ->
            case [O || #{ref := X, owner := O} <- bp_cluster:call(B, quic_dist, list_streams, []),
                       X =:= R] of
                [O] -> {true, O};
                [] -> false
            end
        end)
    end,
    [ok = do(B, Q, fun() -> quic_dist:accept_streams(From) end) || Q <- Qs, _ <- [1, 2]],
    Six = [Owner(Open()) || _ <- lists:seq(1, 6)],
    ?EQ(lists:sort(Qs ++ Qs), lists:sort(Six)),
    %% one leaves, one dies
    [Q1, Q2, Q3] = Qs,
    ok = do(B, Q1, fun() -> quic_dist:stop_accepting(From) end),
    ok = bp_cluster:call(B, bp_stream_proc, stop, [Q2]),
    ?EQ([Q3, Q3, Q3], [Owner(Open()) || _ <- [1, 2, 3]]),
    %% ... and whoever left keeps what it has
    ?EQ([Q1, Q1], [O || #{owner := O} <- bp_cluster:call(B, quic_dist, list_streams, []), O =:= Q1]),
    ok = do(B, Q3, fun() -> quic_dist:stop_accepting(From) end),
    {ok, Last} = do(A, P, fun() -> {ok, R} = quic_dist:open_stream(To),
                                   ok = quic_dist:send(R, <<"x">>),
                                   {ok, R}
                          end),
    ?EQ({reset, 16#100}, next(A, P, Last)).

controlling_process(Config) ->
    {A, B} = pair(Config),
    {P, Ref, Q, Peer} = opened(A, B),
    Q2 = proc(B),
    %% events that were not received yet move along, in order
    [ok = send(A, P, Ref, <<I:32>>) || I <- lists:seq(1, 20)],
    Bytes = << <<I:32>> || I <- lists:seq(1, 20) >>,
    bp_cluster:until(fun() -> counter(B, <<"user_bytes_in">>) > 0 end),
    ok = do(B, Q, fun() -> quic_dist:controlling_process(Peer, Q2) end),
    [ok = send(A, P, Ref, <<I:32>>) || I <- lists:seq(21, 40)],
    ok = close(A, P, Ref),
    All = iolist_to_binary([Bytes, << <<I:32>> || I <- lists:seq(21, 40) >>]),
    Hash = crypto:hash(sha256, All),
    ?EQ({160, Hash, fin}, do(B, Q2, fun() -> bp_stream_proc:read(Peer) end)),
    ok = do(B, Q, fun() -> bp_stream_proc:none(Peer, 50) end),
    ?EQ({error, not_owner}, send(B, Q, Peer, <<"x">>)),
    %% the old owner's end is nothing to it, the new one's is
    ok = bp_cluster:call(B, bp_stream_proc, stop, [Q]),
    ok = send(B, Q2, Peer, <<"from the new one">>),
    ?EQ({data, <<"from the new one">>, false}, next(A, P, Ref)),
    ok = bp_cluster:call(B, bp_stream_proc, stop, [Q2]),
    ?EQ({reset, 0}, next(A, P, Ref)),
    ?EQ(closed, next(A, P, Ref)).

%% --- how much an owner gets ------------------------------------------------------------

active_once_n_false(Config) ->
    {A, B} = pair(Config),
    {P, Ref, Q, Peer} = opened(A, B),
    Set = fun(O) -> do(B, Q, fun() -> quic_dist:setopts(Peer, O) end) end,
    None = fun() -> do(B, Q, fun() -> bp_stream_proc:none(Peer, 50) end) end,
    Send = fun(X) ->
        ok = send(A, P, Ref, X),
        bp_cluster:until(fun() ->
            maps:get(<<"user_pending">>, counters(A, B)) =:= 0
        end)
    end,
    ok = Set([{active, false}]),
    Send(<<"one">>),
    ok = None(),
    ok = Set([{active, once}]),
    ?EQ({data, <<"one">>, false}, next(B, Q, Peer)),
    Send(<<"two">>),
    ok = None(),
    %% N events, then `passive'; a number is added
    ok = Set([{active, 1}]),
    ?EQ([{data, <<"two">>, false}, passive], [next(B, Q, Peer) || _ <- "xx"]),
    ok = Set([{active, 1}]),
    ok = Set([{active, 2}]),
    [begin Send(<<I>>), ?EQ({data, <<I>>, false}, next(B, Q, Peer)) end || I <- [1, 2, 3]],
    ?EQ(passive, next(B, Q, Peer)),
    Send(<<"four">>),
    ok = None(),
    ok = Set([{active, 5}]),
    ?EQ({data, <<"four">>, false}, next(B, Q, Peer)),
    ok = Set([{active, -4}]),
    ?EQ(passive, next(B, Q, Peer)),
    ok = Set([{active, true}]),
    [begin Send(<<I>>), ?EQ({data, <<I>>, false}, next(B, Q, Peer)) end || I <- lists:seq(1, 100)],
    %% the end is an event, too
    ok = Set([{active, false}]),
    ok = close(A, P, Ref),
    ok = None(),
    ok = close(B, Q, Peer),
    ok = None(),
    ok = Set([{active, once}]),
    ?EQ({data, <<>>, true}, next(B, Q, Peer)),
    ?EQ(closed, next(B, Q, Peer)),
    %% an acceptor says it beforehand
    From = name(A),
    To = name(B),
    ok = do(B, Q, fun() -> quic_dist:accept_streams(From, [{active, false}, {priority, 20}]) end),
    {ok, R2} = do(A, P, fun() -> quic_dist:open_stream(To) end),
    ok = send(A, P, R2, <<"waits">>),
    Peer2 = mirror(R2, A, B),
    ?EQ([Peer2], [R || #{ref := R, priority := 20} <- bp_cluster:call(B, quic_dist, list_streams, [])]),
    ok = do(B, Q, fun() -> bp_stream_proc:none(Peer2, 50) end),
    ok = do(B, Q, fun() -> quic_dist:setopts(Peer2, [{active, true}]) end),
    ?EQ({data, <<"waits">>, false}, next(B, Q, Peer2)),
    ok = do(B, Q, fun() -> quic_dist:stop_accepting(From) end).

counters(N, Peer) ->
    Name = name(Peer),
    [C] = [C || #{node := P, counters := C} <- bp_cluster:call(N, barrel_p2p, peers, []),
                P =:= Name],
    C.

%% An owner that does not receive: what is ahead of it is bounded, the sender waits, and all of it
%% arrives when it does receive.
slow_owner_holds_sender_back(Config) ->
    {A, B} = pair(Config),
    {P, Ref, Q, Peer} = opened(A, B),
    N = 100,
    Data = crypto:strong_rand_bytes(1000000),
    Self = bp_cluster:run(A, fun() -> spawn(fun() -> receive after infinity -> ok end end) end),
    cast(A, P, fun() ->
        [ok = quic_dist:send(Ref, Data) || _ <- lists:seq(1, N)],
        ok = quic_dist:close_stream(Ref),
        exit(Self, kill)
    end),
    Out = fun() -> counter(A, <<"user_bytes_out">>) end,
    Settled = settled(Out, Out(), erlang:monotonic_time(millisecond) + 60000),
    {_, Messages} = bp_cluster:call(B, erlang, process_info, [Q, message_queue_len]),
    true = Messages =< 50,
    true = bp_cluster:call(A, erlang, is_process_alive, [Self]),
    ct:pal("~b bytes taken from the sender with a sleeping owner, ~b messages", [Settled, Messages]),
    true = counter(B, <<"user_unread_bytes">>) =< 70000000,
    Hash = hash(Data, N),
    Size = N * byte_size(Data),
    ?EQ({Size, Hash, fin}, do(B, Q, fun() -> bp_stream_proc:read(Peer) end)),
    bp_cluster:until(fun() -> not bp_cluster:call(A, erlang, is_process_alive, [Self]) end).

settled(Fun, Last, Deadline) -> settled(Fun, Last, Deadline, 4).

%% On a busy machine a value may stay for a while and then change.
settled(_, Last, _, 0) ->
    Last;
settled(Fun, Last, Deadline, Looks) ->
    timer:sleep(500),
    true = erlang:monotonic_time(millisecond) < Deadline,
    case Fun() of
        Last -> settled(Fun, Last, Deadline, Looks - 1);
        More -> settled(Fun, More, Deadline, 4)
    end.

hash(Data, N) ->
    crypto:hash_final(lists:foldl(fun(_, H) -> crypto:hash_update(H, Data) end,
                                  crypto:hash_init(sha256), lists:seq(1, N))).

%% An owner that keeps thousands of other messages still gets its streams' events.
busy_mailbox_is_no_obstacle(Config) ->
    {A, B} = pair(Config),
    {P, Ref, Q, Peer} = opened(A, B),
    _ = bp_cluster:run(B, fun() -> [Q ! {kept, I} || I <- lists:seq(1, 5000)], ok end),
    Data = crypto:strong_rand_bytes(100000),
    cast(A, P, fun() ->
        [ok = quic_dist:send(Ref, Data) || _ <- lists:seq(1, 300)],
        ok = quic_dist:close_stream(Ref)
    end),
    Hash = hash(Data, 300),
    ?EQ({30000000, Hash, fin}, do(B, Q, fun() -> bp_stream_proc:read(Peer) end)).

large_writes(Config) ->
    {A, B} = pair(Config),
    {From, To} = {name(A), name(B)},
    _ = bp_cluster:call(B, bp_stream_proc, echo_acceptor, [From]),
    Size = 100000000,
    ok = bp_cluster:run(A, fun() ->
        Data = crypto:strong_rand_bytes(Size),
        Owner = self(),
        {ok, Ref} = quic_dist:open_stream(To),
        ok = quic_dist:send(Ref, Data, true),       % one write: far above every window
        Hash = crypto:hash(sha256, Data),
        {Size, Hash, fin} = bp_stream_proc:read(Ref),
        closed = bp_stream_proc:next(Ref),
        true = Owner =:= self(),
        ok
    end, 120000).

nonblock(Config) ->
    {A, B} = pair(Config),
    {P, Ref, Q, Peer} = opened(A, B, [{mode, nonblock}]),
    ok = do(B, Q, fun() -> quic_dist:setopts(Peer, [{active, false}]) end),
    Data = crypto:strong_rand_bytes(200000),
    %% until the peer's window is full and nothing moves any more
    Taken = do(A, P, fun() -> fill(Ref, Data, 0) end),
    true = Taken > 20,
    ?EQ({error, would_block}, send(A, P, Ref, Data)),
    ?EQ({error, would_block}, send(A, P, Ref, <<"x">>)),
    ok = do(B, Q, fun() -> quic_dist:setopts(Peer, [{active, auto}]) end),
    cast(B, Q, fun() ->
        R = bp_stream_proc:read(Peer),
        receive {tell, From} -> From ! {result, R} end
    end),
    ?EQ(writable, next(A, P, Ref)),
    Waits = do(A, P, fun() ->
        N = pour(Ref, Data, 300),
        ok = quic_dist:close_stream(Ref),
        N
    end),
    true = Waits > 0,
    Size = (Taken + 300) * byte_size(Data),
    Hash = hash(Data, Taken + 300),
    ?EQ({Size, Hash, fin}, bp_cluster:run(B, fun() ->
        Q ! {tell, self()},
        receive {result, R} -> R end
    end)).

%% How many times Data was taken until nothing is for a second.
fill(Ref, Data, N) ->
    case quic_dist:send(Ref, Data) of
        ok ->
            fill(Ref, Data, N + 1);
        {error, would_block} ->
            receive {quic_dist_stream, Ref, writable} -> fill(Ref, Data, N)
            after 1000 -> N
            end
    end.

%% Sends Data N times; how often it had to wait.
pour(_, _, 0) -> 0;
pour(Ref, Data, N) ->
    case quic_dist:send(Ref, Data) of
        ok -> pour(Ref, Data, N - 1);
        {error, would_block} -> writable = bp_stream_proc:next(Ref), 1 + pour(Ref, Data, N)
    end.

%% Ten streams that nobody reads, more than the connection's window holds: another stream, and
%% distribution, do not notice.
slow_reader_is_alone(Config) ->
    {A, B} = pair(Config),
    {From, To} = {name(A), name(B)},
    Stuck = [opened(A, B) || _ <- lists:seq(1, 10)],
    [begin
         ok = do(B, Q, fun() -> quic_dist:setopts(Peer, [{active, false}]) end),
         cast(A, P, fun() -> quic_dist:send(Ref, binary:copy(<<"s">>, 20000000)) end)
     end || {P, Ref, Q, Peer} <- Stuck],
    Unread = fun() -> counter(B, <<"user_unread_bytes">>) end,
    %% each stream's window is full (4 MB), and what waits in a goes nowhere: nothing is under way
    bp_cluster:until(fun() -> Unread() > 40000000 end, 60000),
    Settled = settled(Unread, Unread(), erlang:monotonic_time(millisecond) + 60000),
    bp_cluster:until(fun() ->
        #{<<"bytes_in_flight">> := Flight, <<"user_pending">> := Pending} = counters(A, B),
        Flight < 2000 andalso Pending > 0
    end),
    ?EQ(Settled, Unread()),
    _ = bp_cluster:call(B, bp_stream_proc, echo_acceptor, [From]),
    ok = bp_cluster:run(A, fun() ->
        Data = crypto:strong_rand_bytes(30000000),
        {ok, Ref} = quic_dist:open_stream(To, [{priority, 255}]),
        ok = quic_dist:send(Ref, Data, true),
        Hash = crypto:hash(sha256, Data),
        {30000000, Hash, fin} = bp_stream_proc:read(Ref),
        [pong = net_adm:ping(To) || _ <- lists:seq(1, 100)],
        Big = binary:copy(<<"d">>, 20000000),
        Big = erpc:call(To, bp_procs, identity, [Big]),
        ok
    end),
    ?EQ(Settled, Unread()),
    %% they go on where they were
    [begin
         ok = close(A, P, Ref),
         ok = do(B, Q, fun() -> quic_dist:setopts(Peer, [{active, auto}]) end),
         {20000000, _, fin} = do(B, Q, fun() -> bp_stream_proc:read(Peer) end)
     end || {P, Ref, Q, Peer} <- Stuck].

%% --- ends of owners --------------------------------------------------------------------

owner_death(Config) ->
    {A, B} = pair(Config),
    {P1, Ref1, Q1, Peer1} = opened(A, B),
    {P2, Ref2, Q2, Peer2} = opened(A, B),
    {P3, Ref3, Q3, Peer3} = opened(A, B),
    %% with bytes under way, and a writer that waits
    cast(A, P1, fun() -> [quic_dist:send(Ref1, binary:copy(<<"x">>, 5000000))
                          || _ <- lists:seq(1, 100)] end),
    ok = bp_cluster:call(A, bp_stream_proc, stop, [P1]),
    {_, _, {reset, 0}} = do(B, Q1, fun() -> bp_stream_proc:read(Peer1) end),
    ?EQ(closed, next(B, Q1, Peer1)),
    %% on the side that accepted
    ok = bp_cluster:call(B, bp_stream_proc, stop, [Q2]),
    ?EQ([{reset, 0}, closed], [next(A, P2, Ref2) || _ <- "xx"]),
    %% nothing else was touched
    ok = send(A, P3, Ref3, <<"there">>),
    ?EQ({data, <<"there">>, false}, next(B, Q3, Peer3)),
    true = lists:member(name(B), bp_cluster:call(A, erlang, nodes, [])),
    ?EQ([], [x || #{ref := R} <- bp_cluster:call(B, quic_dist, list_streams, []),
                  R =:= Peer2]).

%% A process that has said all that it wanted may end: it arrives.
owner_ends_after_close(Config) ->
    {A, B} = pair(Config),
    {P, Ref, Q, Peer} = opened(A, B),
    Data = crypto:strong_rand_bytes(20000000),
    ok = do(A, P, fun() -> quic_dist:send(Ref, Data, true) end),
    ok = bp_cluster:call(A, bp_stream_proc, stop, [P]),
    Hash = crypto:hash(sha256, Data),
    ?EQ({20000000, Hash, fin}, do(B, Q, fun() -> bp_stream_proc:read(Peer) end)),
    %% nobody is there for an answer
    _ = send(B, Q, Peer, <<"answer">>),
    {reset, _} = next(B, Q, Peer),
    ?EQ(closed, next(B, Q, Peer)).

%% --- many, and who goes first ------------------------------------------------------------

%% Three streams to which all has been written: the one with the lowest number is through first.
priorities(Config) ->
    {A, B} = pair(Config),
    Streams = [opened(A, B, [{priority, P}]) || P <- [200, 100, 50]],
    Size = 40000000,
    Sink = proc(B),
    [ok = do(B, Q, fun() ->
                       ok = quic_dist:setopts(Peer, [{active, true}]),
                       quic_dist:controlling_process(Peer, Sink)
                   end) || {_, _, Q, Peer} <- Streams],
    %% all of it is queued before more than a window can go: the peer stands still
    Writer = proc(A),
    [ok = do(A, P, fun() -> quic_dist:controlling_process(Ref, Writer) end)
     || {P, Ref, _, _} <- Streams],
    Data = binary:copy(<<"p">>, Size),
    ok = bp_cluster:signal(B, "STOP"),
    ok = do(A, Writer, fun() ->
        [ok = quic_dist:send(Ref, Data, true) || {_, Ref, _, _} <- Streams],
        ok
    end),
    ok = bp_cluster:signal(B, "CONT"),
    Order = do(B, Sink, fun() -> ends(3) end),
    ?EQ([Peer || {_, _, _, Peer} <- lists:reverse(Streams)], Order).

ends(0) -> [];
ends(N) ->
    receive
        {quic_dist_stream, Ref, {data, _, true}} -> [Ref | ends(N - 1)];
        {quic_dist_stream, _, {data, _, false}} -> ends(N)
    after 60000 -> error(no_end)
    end.

stream_limit(Config) ->
    {A, B} = pair(Config),
    P = proc(A),
    To = name(B),
    %% those of the case before have ended on both sides; that they may be opened again the peer says
    %% when it next has something to send
    Open = fun(Most) ->
        do(A, P, fun() ->
            (fun Open(Left) when Left > 0 ->
                     case quic_dist:open_stream(To) of
                         {ok, R} -> [R | Open(Left - 1)];
                         {error, stream_limit} -> []
                     end;
                 Open(0) -> []
             end)(Most)
        end)
    end,
    Refs = all_of(Open, 239, erlang:monotonic_time(millisecond) + 20000),
    ?EQ({error, stream_limit}, do(A, P, fun() -> quic_dist:open_stream(To) end)),
    ok = do(A, P, fun() -> [ok = quic_dist:reset_stream(R) || R <- Refs], ok end),
    bp_cluster:until(fun() ->
        case do(A, P, fun() -> quic_dist:open_stream(To) end) of
            {ok, _} -> true;
            {error, stream_limit} -> false
        end
    end),
    pong = bp_cluster:call(A, net_adm, ping, [To]).

all_of(_, 0, _) ->
    [];
all_of(Open, N, Deadline) ->
    true = erlang:monotonic_time(millisecond) < Deadline,
    Refs = Open(N),
    Refs =:= [] andalso timer:sleep(20),
    Refs ++ all_of(Open, N - length(Refs), Deadline).

ten_thousand_in_sequence(Config) ->
    {A, B} = pair(Config),
    {From, To} = {name(A), name(B)},
    Acceptor = bp_cluster:call(B, bp_stream_proc, echo_acceptor, [From]),
    Run = fun(N) ->
        ok = bp_cluster:run(A, fun() ->
            lists:foreach(fun(I) ->
                {ok, Ref} = quic_dist:open_stream(To),
                ok = quic_dist:send(Ref, <<I:32>>, true),
                {4, _, fin} = bp_stream_proc:read(Ref),
                closed = bp_stream_proc:next(Ref)
            end, lists:seq(1, N))
        end, 170000)
    end,
    Run(500),
    Before = [usage(N) || N <- [A, B]],
    Run(10000),
    bp_cluster:until(fun() -> {streams(A), streams(B)} =:= {0, 0} end),
    %% what is still under way, or waits to be collected, goes; what has leaked stays
    bp_cluster:until(fun() ->
        After = [usage(N) || N <- [A, B]],
        lists:all(fun({{Procs0, Ports0, Mem0}, {Procs1, Ports1, Mem1}}) ->
            %% 10,000 streams that leaked a hundred bytes each would be a megabyte
            Ports0 =:= Ports1 andalso Procs1 =< Procs0 + 3 andalso Mem1 < Mem0 + 1500000
        end, lists:zip(Before, After)) orelse {Before, After}
    end),
    ok = bp_cluster:call(B, bp_stream_proc, stop, [Acceptor]).

%% Processes, ports, and memory of drivers and binaries.
usage(N) ->
    bp_cluster:run(N, fun() ->
        [erlang:garbage_collect(P) || P <- processes()],
        {erlang:system_info(process_count), erlang:system_info(port_count),
         try erlang:memory(system) - erlang:memory(code) - erlang:memory(atom)
         catch error:notsup -> 0         % with DRIVER=asan, which finds leaks itself
         end}
    end).

ninety_at_once(Config) ->
    {A, B} = pair(Config),
    {From, To} = {name(A), name(B)},
    _ = bp_cluster:call(B, bp_stream_proc, echo_acceptor, [From]),
    ok = bp_cluster:run(A, fun() ->
        Parent = self(),
        Data = crypto:strong_rand_bytes(500000),
        Hash = crypto:hash(sha256, Data),
        Pids = [spawn_link(fun() ->
                    {ok, Ref} = quic_dist:open_stream(To),
                    ok = quic_dist:send(Ref, <<>>),
                    Parent ! {self(), open},
                    receive go -> ok end,
                    ok = quic_dist:send(Ref, Data, true),
                    {500000, Hash, fin} = bp_stream_proc:read(Ref),
                    closed = bp_stream_proc:next(Ref),
                    Parent ! {self(), done}
                end) || _ <- lists:seq(1, 90)],
        [receive {Pid, open} -> ok end || Pid <- Pids],
        90 = length(quic_dist:list_streams(To)),
        [Pid ! go || Pid <- Pids],
        [receive {Pid, done} -> ok after 60000 -> error(stuck) end || Pid <- Pids],
        ok
    end, 120000).

%% --- ends of connections ------------------------------------------------------------------

connection_ends(Config) ->
    %% without `global', which may connect them again before all has been looked at
    Alone = ["-connect_all", "false"],
    [A, B] = bp_cluster:start_many(Config, [#{name => a, args => Alone}, #{name => b, args => Alone}]),
    true = bp_cluster:connect(A, B),
    {P, Ref, Q, Peer} = opened(A, B),
    %% a writer that waits for room
    {P2, Ref2, Q2, Peer2} = opened(A, B),
    ok = do(B, Q2, fun() -> quic_dist:setopts(Peer2, [{active, false}]) end),
    cast(A, P2, fun() ->
        R = fill_up(Ref2, binary:copy(<<"w">>, 1000000)),
        receive {tell, From} -> From ! {result, R} end
    end),
    bp_cluster:until(fun() -> counter(A, <<"user_pending">>) > 500000 andalso
                              counter(B, <<"user_unread_bytes">>) > 2000000 end),
    bp_cluster:disconnect(A, B),
    ?EQ([{reset, 16#101}, closed], [next(A, P, Ref) || _ <- "xx"]),
    ?EQ([{reset, 16#101}, closed], [next(B, Q, Peer) || _ <- "xx"]),
    ?EQ({error, not_connected}, bp_cluster:run(A, fun() ->
        P2 ! {tell, self()},
        receive {result, R} -> R after 30000 -> process_info(P2, messages) end
    end)),
    ?EQ({error, not_connected}, send(A, P, Ref, <<"x">>)),
    ?EQ([], bp_cluster:call(A, quic_dist, list_streams, [])),
    %% what had come is told, though nobody wanted it yet
    {Size, _, {reset, 16#101}} = do(B, Q2, fun() -> bp_stream_proc:read(Peer2) end),
    true = Size > 1000000,
    %% a new connection has streams of its own
    true = bp_cluster:connect(A, B),
    {P4, Ref4, Q4, Peer4} = opened(A, B),
    ok = send(B, Q4, Peer4, <<"again">>),
    ?EQ({data, <<"again">>, false}, next(A, P4, Ref4)),
    ?EQ({error, not_owner}, send(A, P, Ref4, <<"x">>)),
    %% ... and an old reference is never one of a new connection's
    ?EQ({error, unknown_stream}, send(A, P, Ref, <<"x">>)),
    {quic_dist_stream, _, Old} = Ref,
    {quic_dist_stream, _, New} = Ref4,
    ?EQ(68, New band (1 bsl 44 - 1)),           % the first stream of who dialled
    true = Old =/= New.

fill_up(Ref, Data) ->
    case quic_dist:send(Ref, Data) of
        ok -> fill_up(Ref, Data);
        Error -> Error
    end.

peer_is_killed(Config) ->
    [A, B] = bp_cluster:start_many(Config, [#{name => a}, #{name => b}]),
    true = bp_cluster:connect(A, B),
    {P, Ref, _, _} = opened(A, B),
    bp_cluster:kill9(B),
    ?EQ([{reset, 16#101}, closed], [next(A, P, Ref) || _ <- "xx"]).

%% A node that got its name from the one it dialled.
dynamic_name(Config) ->
    B = bp_cluster:start(Config, #{name => b, names => short}),
    D = bp_cluster:start(Config, #{name => d, names => dynamic}),
    To = name(B),
    true = bp_cluster:call(D, net_kernel, connect_node, [To]),
    Own = bp_cluster:call(D, erlang, node, []),
    Q = proc(B),
    accept(B, Q, Own),
    P = proc(D),
    {ok, Ref} = do(D, P, fun() ->
        {ok, R} = quic_dist:open_stream(To),
        ok = quic_dist:send(R, <<"x">>),
        {ok, R}
    end),
    {Peer, {data, <<"x">>, false}} = do(B, Q, fun() -> bp_stream_proc:next(any, 60000) end),
    {quic_dist_stream, Own, _} = Peer,
    ok = send(B, Q, Peer, <<"y">>),
    ?EQ({data, <<"y">>, false}, next(D, P, Ref)).

%% A peer over TCP has no streams.
other_carrier(Config) ->
    A = bp_cluster:start(Config, #{name => a}),
    ?EQ({error, not_connected},
        bp_cluster:call(A, quic_dist, open_stream, ['other@127.0.0.1'])),
    T = bp_cluster:start_many(Config, [#{name => t1, carrier => tcp}, #{name => t2, carrier => tcp}]),
    [T1, T2] = T,
    true = bp_cluster:connect(T1, T2),
    ?EQ({error, not_quic_connection}, bp_cluster:call(T1, quic_dist, open_stream, [name(T2)])),
    ?EQ({error, not_quic_connection}, bp_cluster:call(T1, quic_dist, accept_streams, [name(T2)])),
    ?EQ({error, not_quic_connection}, bp_cluster:call(T1, quic_dist, get_controller, [name(T2)])),
    ?EQ([], bp_cluster:call(T1, quic_dist, list_streams, [])),
    [?EQ({F, {error, no_conn}}, {F, bp_cluster:call(T1, M, F, [name(T2)])})
     || {M, F} <- [{barrel_p2p, migrate_peer}, {barrel_p2p_path_stats, summary},
                   {barrel_p2p_path_stats, srtt}, {barrel_p2p_path_stats, connection}]],
    ?EQ([], bp_cluster:call(T1, barrel_p2p, paths, [])).
