%% SPDX-License-Identifier: Apache-2.0
%% Tells the driver when the owner of a stream with {active, auto} has consumed what it was given.
%%
%% An owner consumes by receiving, which nobody is told of; what can be seen is its message queue. It
%% has consumed when the queue is short, or when few of the messages in it are of this stream. To look
%% may take long (an owner that is suspended answers when it goes on), so each look is a process.
-module(barrel_p2p_stream_watch).

-export([start_link/0]).

-define(SHORT, 16).             % messages: half of what the driver gives ahead
-define(FIRST_MS, 1).
-define(LAST_MS, 40).
-define(COUNT_MS, 500).         % counting makes the owner copy its queue

%% Started by barrel_p2p_node; it ends with the carrier.
-spec start_link() -> pid().
start_link() ->
    spawn_link(fun() ->
        process_flag(priority, high),
        case barrel_p2p_drv_streams:watcher() of
            ok -> loop();
            {error, Reason} -> exit(Reason)
        end
    end).

loop() ->
    receive
        {'$barrel_p2p_watch', Port, Id, Owner} ->
            _ = spawn(fun() -> look(Port, Id, Owner, ?FIRST_MS, now_ms()) end),
            loop();
        _ ->
            loop()
    end.

look(Port, Id, Owner, Wait, Counted) ->
    case process_info(Owner, message_queue_len) of
        undefined ->
            ok;
        {_, N} when N =< ?SHORT ->
            barrel_p2p_drv_streams:resume(Port, Id);
        {_, _} ->
            case now_ms() - Counted >= ?COUNT_MS of
                true -> count(Port, Id, Owner);
                false -> again(Port, Id, Owner, Wait, Counted)
            end
    end.

%% An owner may keep other messages for later, as many as it likes.
count(Port, Id, Owner) ->
    case process_info(Owner, messages) of
        undefined ->
            ok;
        {_, Messages} ->
            case length([x || {quic_dist_stream, {_, _, I}, {data, _, _}} <- Messages, I =:= Id]) of
                N when N =< ?SHORT -> barrel_p2p_drv_streams:resume(Port, Id);
                _ -> again(Port, Id, Owner, ?LAST_MS, now_ms())
            end
    end.

again(Port, Id, Owner, Wait, Counted) ->
    receive after Wait -> ok end,
    look(Port, Id, Owner, min(2 * Wait, ?LAST_MS), Counted).

now_ms() ->
    erlang:monotonic_time(millisecond).
