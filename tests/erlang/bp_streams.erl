%% SPDX-License-Identifier: Apache-2.0
%% What cases about user streams do on nodes of bp_cluster: processes, streams, counters.
-module(bp_streams).

-export([clean/1, streams/1, counter/2, proc/1, do/3, cast/3, name/1, mirror/3, accept/3, opened/2,
         opened/3, next/3, send/4, close/3]).

-include("bp_test.hrl").

%% Ends the case's processes; no stream is left then.
clean(N) ->
    ok = bp_cluster:call(N, bp_stream_proc, stop_all, []),
    bp_cluster:until(fun() -> streams(N) =:= 0 end).

%% Streams that are alive, in all connections.
streams(N) ->
    lists:sum([maps:get(<<"user_streams">>, C) || #{counters := C} <-
                                                      bp_cluster:call(N, barrel_p2p, peers, [])]).

counter(N, Key) ->
    lists:sum([maps:get(Key, C) || #{counters := C} <- bp_cluster:call(N, barrel_p2p, peers, [])]).

%% A process in the node.
proc(N) -> bp_cluster:call(N, bp_stream_proc, start, []).

do(N, Pid, Fun) -> bp_cluster:call(N, bp_stream_proc, do, [Pid, Fun]).

cast(N, Pid, Fun) -> bp_cluster:call(N, bp_stream_proc, cast, [Pid, Fun]).

name(N) -> bp_cluster:name(N).

%% The stream as its owner on the other side, B, names it.
mirror({quic_dist_stream, _, Number}, A, B) ->
    From = name(A),
    Id = Number band (1 bsl 44 - 1),
    bp_cluster:until(fun() ->
        case [R || #{ref := R, stream_id := I} <- bp_cluster:call(B, quic_dist, list_streams, [From]),
                   I =:= Id] of
            [R] -> {true, R};
            [] -> false
        end
    end).

%% Process Q of N takes plain streams of From. N may have been dialled just now: then it knows From a
%% little later than who dialled.
accept(N, Q, From) ->
    bp_cluster:until(fun() ->
        case do(N, Q, fun() -> quic_dist:accept_streams(From) end) of
            ok -> true;
            {error, not_connected} = Error -> Error
        end
    end).

%% A stream that was accepted: {OwnerInA, RefInA, OwnerInB, RefInB}, with `hello' sent and received.
opened(A, B) -> opened(A, B, []).

opened(A, B, Options) ->
    P = proc(A),
    Q = proc(B),
    To = name(B),
    From = name(A),
    accept(B, Q, From),
    {ok, Ref} = do(A, P, fun() ->
        {ok, R} = quic_dist:open_stream(To, Options),
        ok = quic_dist:send(R, <<"hello">>),
        {ok, R}
    end),
    {Peer, {data, <<"hello">>, false}} = do(B, Q, fun() -> bp_stream_proc:next(any, 60000) end),
    ?EQ(Peer, mirror(Ref, A, B)),
    ok = do(B, Q, fun() -> quic_dist:stop_accepting(From) end),
    {P, Ref, Q, Peer}.

next(N, P, Ref) -> do(N, P, fun() -> bp_stream_proc:next(Ref) end).

send(N, P, Ref, Data) -> do(N, P, fun() -> quic_dist:send(Ref, Data) end).

close(N, P, Ref) -> do(N, P, fun() -> quic_dist:close_stream(Ref) end).
