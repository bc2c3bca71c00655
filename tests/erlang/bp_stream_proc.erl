%% SPDX-License-Identifier: Apache-2.0
%% Owners of streams in the nodes under test, and what they do.
-module(bp_stream_proc).

-export([start/0, do/2, do/3, cast/2, stop/1, stop_all/0, next/1, next/2, read/1, read/2, data/1, none/2]).
-export([echo_acceptor/1, sink_acceptor/1, loop/0]).

-define(LONG, 60000).

%% --- a process that runs funs, and otherwise leaves its mailbox alone ---------------

start() ->
    Parent = self(),
    Pid = spawn(fun() -> put(?MODULE, true), Parent ! {self(), started}, loop() end),
    receive {Pid, started} -> Pid end.

loop() ->
    receive
        {do, From, Ref, Fun} ->
            From ! {Ref, try {ok, Fun()} catch C:R:S -> {C, R, S} end},
            loop();
        {cast, Fun} ->
            Fun(),
            loop();
        stop ->
            ok
    end.

do(Pid, Fun) ->
    do(Pid, Fun, ?LONG).

do(Pid, Fun, Timeout) ->
    Ref = monitor(process, Pid),
    Pid ! {do, self(), Ref, Fun},
    receive
        {Ref, {ok, Value}} -> demonitor(Ref, [flush]), Value;
        {Ref, {Class, Reason, Stack}} -> erlang:raise(Class, Reason, Stack);
        {'DOWN', Ref, process, _, Reason} -> error({died, Reason})
    after Timeout ->
        error({no_answer, process_info(Pid, [current_stacktrace, messages])})
    end.

cast(Pid, Fun) ->
    Pid ! {cast, Fun},
    ok.

stop(Pid) ->
    Ref = monitor(process, Pid),
    exit(Pid, kill),
    receive {'DOWN', Ref, process, _, _} -> ok end.

%% All that were started here.
stop_all() ->
    lists:foreach(fun stop/1, [P || P <- processes(), {_, Dict} <- [process_info(P, dictionary)],
                                    lists:member({?MODULE, true}, Dict)]).

%% --- in the owner --------------------------------------------------------------------

%% The next event of a stream, or of any: {Ref, Event}.
next(Ref) ->
    next(Ref, ?LONG).

next(any, Timeout) ->
    receive
        {quic_dist_stream, Ref, Event} -> {Ref, Event}
    after Timeout -> error({no_event, process_info(self(), messages)})
    end;
next(Ref, Timeout) ->
    receive
        {quic_dist_stream, Ref, Event} -> Event
    after Timeout -> error({no_event, Ref, process_info(self(), messages)})
    end.

none(Ref, Ms) ->
    receive
        {quic_dist_stream, Ref, Event} -> error({unexpected, Event})
    after Ms -> ok
    end.

%% All bytes until the peer's end: {Size, Sha256, fin | {reset, Code}}.
read(Ref) ->
    read(Ref, 0).

%% The same, with a pause of so many ms after each event.
read(Ref, Pause) ->
    read(Ref, Pause, 0, crypto:hash_init(sha256)).

read(Ref, Pause, Size, Hash) ->
    case next(Ref) of
        {data, Bin, Fin} ->
            Pause > 0 andalso timer:sleep(Pause),
            Size1 = Size + byte_size(Bin),
            Hash1 = crypto:hash_update(Hash, Bin),
            case Fin of
                true -> {Size1, crypto:hash_final(Hash1), fin};
                false -> read(Ref, Pause, Size1, Hash1)
            end;
        {reset, Code} ->
            {Size, crypto:hash_final(Hash), {reset, Code}}
    end.

%% Bytes that are in the mailbox now.
data(Ref) ->
    receive
        {quic_dist_stream, Ref, {data, Bin, _}} -> [Bin | data(Ref)]
    after 0 -> []
    end.

%% --- acceptors that do something by themselves -----------------------------------------

%% Takes streams of Node and sends back what comes.
echo_acceptor(Node) ->
    acceptor(Node, fun echo/3).

%% Takes streams of Node and drops what comes; closes with the peer.
sink_acceptor(Node) ->
    acceptor(Node, fun(Ref, _, true) -> quic_dist:close_stream(Ref); (_, _, false) -> ok end).

acceptor(Node, Fun) ->
    Parent = self(),
    Pid = spawn(fun() ->
        put(?MODULE, true),
        Parent ! {self(), quic_dist:accept_streams(Node)},
        acceptor_loop(Fun)
    end),
    receive {Pid, ok} -> Pid end.

acceptor_loop(Fun) ->
    receive
        {quic_dist_stream, Ref, {data, Bin, Fin}} -> Fun(Ref, Bin, Fin), acceptor_loop(Fun);
        {quic_dist_stream, _, _} -> acceptor_loop(Fun);
        stop -> ok
    end.

echo(Ref, Bin, Fin) ->
    ok = quic_dist:send(Ref, Bin, Fin).
