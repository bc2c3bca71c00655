%% SPDX-License-Identifier: Apache-2.0
%% Runs in a node under test and does what the test asks over a Unix socket of its own, so that
%% control needs no distribution and no network. Ends the node when the test goes away.
-module(bp_agent).

-export([start/1]).

%% `-run bp_agent start Path Token`: connects to the test's socket.
start([Path, Token]) ->
    spawn(fun() -> connect(Path, Token) end).

connect(Path, Token) ->
    group_leader(whereis(user), self()),
    process_flag(priority, high),
    case gen_tcp:connect({local, Path}, 0, [binary, {packet, 4}, {active, true}], 10000) of
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
