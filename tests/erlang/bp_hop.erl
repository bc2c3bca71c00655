%% SPDX-License-Identifier: Apache-2.0
%% One hop of UDP between a node that dials and one that is dialled. It never tells either that nobody
%% listens, as a network that drops ICMP, and notes what passes.
-module(bp_hop).

-export([start/1, start/2, port/1, clear/1, passed/1, stop/1]).

%% Relays between a port of its own on 127.0.0.1 and Port there.
start(Port) ->
    start(Port, 0).

%% Each datagram takes Delay ms.
start(Port, Delay) ->
    Me = self(),
    {Pid, Ref} = spawn_monitor(fun() -> init(Me, Port, Delay) end),
    receive
        {Pid, Front} -> demonitor(Ref, [flush]), {Pid, Front};
        {'DOWN', Ref, _, _, Reason} -> error(Reason)
    end.

port({_, Front}) -> Front.

%% Forgets what has passed, and what a node that has ended had still sent.
clear(Relay) -> ask(Relay, clear).

%% [{to | back, Microseconds of os:system_time, Bytes}] since then, oldest first. "back" is towards
%% the node that dialled.
passed(Relay) -> ask(Relay, passed).

stop({Pid, _}) ->
    Ref = monitor(process, Pid),
    Pid ! stop,
    receive {'DOWN', Ref, _, _, _} -> ok end.

ask({Pid, _}, What) ->
    Ref = monitor(process, Pid),
    Pid ! {What, self(), Ref},
    receive
        {Ref, Answer} -> demonitor(Ref, [flush]), Answer;
        {'DOWN', Ref, _, _, Reason} -> error(Reason)
    end.

init(Owner, Port, Delay) ->
    _ = monitor(process, Owner),
    Opts = [binary, {ip, {127, 0, 0, 1}}, {active, true}, {buffer, 65536}, {recbuf, 4000000}],
    {ok, Front} = gen_udp:open(0, Opts),
    {ok, Back} = gen_udp:open(0, Opts),
    {ok, Own} = inet:port(Front),
    Owner ! {self(), Own},
    loop(#{front => Front, back => Back, port => Port, delay => Delay, client => none,
           passed => []}).

loop(#{front := Front, back := Back, passed := Passed} = S) ->
    receive
        {udp, Front, Addr, Port, Bin} ->
            Now = os:system_time(microsecond),
            pass(S, Back, {127, 0, 0, 1}, maps:get(port, S), Bin),
            loop(S#{client := {Addr, Port}, passed := [{to, Now, byte_size(Bin)} | Passed]});
        {udp, Back, _, _, Bin} ->
            Now = os:system_time(microsecond),
            {Addr, Port} = maps:get(client, S),
            pass(S, Front, Addr, Port, Bin),
            loop(S#{passed := [{back, Now, byte_size(Bin)} | Passed]});
        {late, Socket, Addr, Port, Bin} ->
            _ = gen_udp:send(Socket, Addr, Port, Bin),
            loop(S);
        {clear, From, Ref} ->
            _ = inet:setopts(Back, [{active, false}]),
            ok = last_ones(S),
            _ = inet:setopts(Back, [{active, true}]),
            From ! {Ref, ok},
            loop(S#{passed := []});
        {passed, From, Ref} ->
            From ! {Ref, lists:reverse(Passed)},
            loop(S);
        {'DOWN', _, _, _, _} ->
            ok;
        stop ->
            ok
    end.

%% Passes all that the node which is dialled has sent until now.
last_ones(#{back := Back, front := Front, client := Client} = S) ->
    Next = receive {udp, Back, _, _, Bin} -> {ok, Bin}
           after 0 ->
               case gen_udp:recv(Back, 0, 0) of
                   {ok, {_, _, Bin}} -> {ok, Bin};
                   {error, timeout} -> none
               end
           end,
    case {Next, Client} of
        {none, _} -> ok;
        {{ok, Data}, {Addr, Port}} -> pass(S, Front, Addr, Port, Data), last_ones(S)
    end.

pass(#{delay := 0}, Socket, Addr, Port, Bin) ->
    _ = gen_udp:send(Socket, Addr, Port, Bin),
    ok;
pass(#{delay := Delay}, Socket, Addr, Port, Bin) ->
    _ = erlang:send_after(Delay, self(), {late, Socket, Addr, Port, Bin}),
    ok.
