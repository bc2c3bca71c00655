%% SPDX-License-Identifier: Apache-2.0
%% Steady traffic on user streams: who opens one sends bytes until it is told to stop, and the other
%% side answers with what it got: size and checksum. Runs in the nodes.
-module(bp_stream_load).

-export([serve/0, start/2, finish/1, hurry/1]).
-export([writer/3]).

-include("bp_test.hrl").

-define(TAG, <<"load">>).
-define(CHUNK, 65536).

%% Takes such streams in this node, from now on.
serve() ->
    {ok, _} = application:ensure_all_started(barrel_p2p),
    Self = self(),
    Pid = spawn(fun() ->
        Self ! {self(), barrel_p2p_streams:register_acceptor(?TAG, self())},
        acceptor([])
    end),
    receive {Pid, ok} -> Pid end.

%% Slow readers are as fast as others from now on.
hurry(Server) ->
    Server ! hurry,
    ok.

acceptor(Readers) ->
    receive
        {mstream, Ref, opened, _} ->
            Pid = spawn(fun() -> receive {reads, Ref} -> reader(Ref) end end),
            ok = quic_dist:controlling_process(Ref, Pid),
            Pid ! {reads, Ref},
            acceptor([Pid | Readers]);
        hurry ->
            [Pid ! hurry || Pid <- Readers],
            acceptor([])
    end.

%% The first two bytes say how many ms it takes for 16 KB.
reader(Ref) ->
    <<Pause:16, Rest/binary>> = head(Ref, <<>>),
    Pause > 0 andalso (ok = quic_dist:setopts(Ref, [{active, once}])),
    read(Ref, Pause, byte_size(Rest), crypto:hash_update(crypto:hash_init(sha256), Rest)).

head(_, In) when byte_size(In) >= 2 -> In;
head(Ref, In) ->
    {data, Bin, false} = event(Ref),
    head(Ref, <<In/binary, Bin/binary>>).

read(Ref, Pause, Size, Hash) ->
    case event(Ref) of
        {data, Bin, Fin} ->
            Pause1 = pause(Pause, Pause * byte_size(Bin) div 16384),
            Size1 = Size + byte_size(Bin),
            Hash1 = crypto:hash_update(Hash, Bin),
            case Fin of
                false ->
                    Pause > 0 andalso (ok = quic_dist:setopts(Ref, [{active, once}])),
                    read(Ref, Pause1, Size1, Hash1);
                true ->
                    Sum = crypto:hash_final(Hash1),
                    ok = quic_dist:send(Ref, <<Size1:64, Sum/binary>>, true),
                    closed = event(Ref)
            end;
        passive ->
            read(Ref, Pause, Size, Hash)
    end.

%% What it is from now on: 1 after hurry/1.
pause(Pause, Ms) when Pause =< 1 -> timer:sleep(Ms), Pause;
pause(Pause, Ms) -> receive hurry -> 1 after Ms -> Pause end.

event(Ref) ->
    receive {quic_dist_stream, Ref, Event} -> Event end.

%% A stream to Node. Opts: bytes (all of it; default: until finish/1), pause (of the reader, ms for 16 KB).
start(Node, Opts) ->
    Pid = spawn(?MODULE, writer, [self(), Node, Opts]),
    receive {Pid, writes} -> Pid end.

%% @private
writer(Parent, Node, Opts) ->
    {ok, Ref} = barrel_p2p_streams:open(?TAG, Node),
    Parent ! {self(), writes},
    ok = quic_dist:send(Ref, <<(maps:get(pause, Opts, 0)):16>>),
    Key = crypto:strong_rand_bytes(16),
    Cipher = crypto:crypto_init(aes_128_ctr, Key, <<0:128>>, true),
    write(Ref, Cipher, crypto:hash_init(sha256), 0, maps:get(bytes, Opts, infinity)).

write(Ref, Cipher, Hash, Size, Max) ->
    receive
        {finish, From, Tag} when Max =:= infinity -> ended(Ref, Hash, Size, {From, Tag});
        {quic_dist_stream, Ref, Event} -> exit({unexpected, Event, Size})
    after 0 ->
        case min(?CHUNK, left(Max, Size)) of
            0 ->
                ended(Ref, Hash, Size, none);
            N ->
                Bin = crypto:crypto_update(Cipher, <<0:(8 * N)>>),
                ok = quic_dist:send(Ref, Bin),
                write(Ref, Cipher, crypto:hash_update(Hash, Bin), Size + N, Max)
        end
    end.

left(infinity, _) -> infinity;
left(Max, Size) -> Max - Size.

%% The other side's answer, then `closed', and nothing else.
ended(Ref, Hash, Size, Asked) ->
    ok = quic_dist:close_stream(Ref),
    Sum = crypto:hash_final(Hash),
    ?EQ({<<Size:64, Sum/binary>>, closed}, answer(Ref, <<>>)),
    {From, Tag} = case Asked of
                      none -> receive {finish, F, T} -> {F, T} end;
                      _ -> Asked
                  end,
    From ! {Tag, finished, Size}.

answer(Ref, In) ->
    case event(Ref) of
        {data, Bin, true} -> {<<In/binary, Bin/binary>>, event(Ref)};
        {data, Bin, false} -> answer(Ref, <<In/binary, Bin/binary>>);
        Other -> {In, Other}
    end.

%% Ends it: all bytes have arrived, unchanged. Their number.
finish(Pid) ->
    M = monitor(process, Pid),
    Pid ! {finish, self(), M},
    receive
        {M, finished, Size} -> demonitor(M, [flush]), Size;
        {'DOWN', M, process, _, Reason} -> error({stream, Reason})
    after ?LONG ->
        error({stream_does_not_end, process_info(Pid, [current_stacktrace, messages])})
    end.
