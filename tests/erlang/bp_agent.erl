%% SPDX-License-Identifier: Apache-2.0
%% Runs in a node under test and does what the test asks over a TCP socket of its own, so that
%% control needs no distribution. Ends the node when the test goes away.
-module(bp_agent).

-export([start/1]).

%% `-run bp_agent start Port Token`: connects to the test on 127.0.0.1.
start([Port, Token]) ->
    spawn(fun() -> connect(list_to_integer(Port), Token) end).

connect(Port, Token) ->
    group_leader(whereis(user), self()),
    process_flag(priority, high),
    Opts = [binary, {packet, 4}, {active, true}, {nodelay, true}],
    case gen_tcp:connect({127, 0, 0, 1}, Port, Opts, 10000) of
        {ok, Sock} ->
            send(Sock, {hello, Token}),
            loop(Sock);
        {error, _} ->
            erlang:halt(99)
    end.

loop(Sock) ->
    receive
        {tcp, Sock, Bin} ->
            {call, Ref, M, F, A} = binary_to_term(Bin),
            Agent = self(),
            spawn(fun() -> Agent ! {reply, Ref, do(M, F, A)} end),
            loop(Sock);
        {reply, _, _} = Reply ->
            send(Sock, Reply),
            loop(Sock);
        {tcp_closed, Sock} ->
            erlang:halt(0, [{flush, false}]);
        _ ->
            loop(Sock)
    end.

do(M, F, A) ->
    try
        {ok, apply(M, F, A)}
    catch
        Class:Reason:Stack -> {Class, Reason, Stack}
    end.

send(Sock, Term) ->
    _ = gen_tcp:send(Sock, term_to_binary(Term)).
