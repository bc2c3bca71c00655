%% SPDX-License-Identifier: Apache-2.0
%% Processes that the suites start in the nodes.
-module(bp_procs).

-export([echo/0, sink/0, sink_count/1, sender/3, fill/3, exit_with/1, say/2, identity/1, big/1]).
-export([busy_watch/0, alias_sink/1, mailbox/0, gate/0, open_gate/0]).

%% Answers {From, Ref, Term} with {Ref, Term}.
echo() ->
    receive
        {From, Ref, Term} ->
            From ! {Ref, Term},
            echo();
        stop ->
            ok
    end.

%% Counts {seq, N, Payload}; notes the first message out of order.
sink() ->
    sink(1, ok).

sink(Next, State) ->
    receive
        {seq, Next, _} -> sink(Next + 1, State);
        {seq, Other, _} when State =:= ok -> sink(Other + 1, {wanted, Next, got, Other});
        {seq, Other, _} -> sink(Other + 1, State);
        {count, From, Ref} -> From ! {Ref, Next - 1, State}, sink(Next, State)
    end.

%% {Number, ok | {wanted, N, got, M}}
sink_count(Sink) ->
    Ref = make_ref(),
    Sink ! {count, self(), Ref},
    receive
        {Ref, N, State} -> {N, State}
    after 60000 ->
        error(sink_does_not_answer)
    end.

%% Sends N payloads in order with erlang:send/3; gives how many were accepted before the first
%% answer that is not ok, and that answer.
sender(To, Payload, {N, Opts}) ->
    sender_loop(To, Payload, 1, N, Opts).

sender_loop(_, _, I, N, _) when I > N ->
    {N, ok};
sender_loop(To, Payload, I, N, Opts) ->
    case erlang:send(To, {seq, I, Payload}, Opts) of
        ok -> sender_loop(To, Payload, I + 1, N, Opts);
        Other -> {I - 1, Other}
    end.

%% Sends payloads to a peer that does not read until nothing more is taken: {Accepted, nosuspend},
%% or {N, ok} when N were.
fill(To, Payload, N) ->
    fill(To, Payload, 1, N, 0).

fill(_, _, I, N, _) when I > N ->
    {N, ok};
fill(_, _, I, _, 10) ->
    {I - 1, nosuspend};
fill(To, Payload, I, N, Refused) ->
    case erlang:send(To, {seq, I, Payload}, [nosuspend]) of
        ok ->
            fill(To, Payload, I + 1, N, 0);
        nosuspend ->
            timer:sleep(30), % the carrier may still move a little from the queue to the network
            fill(To, Payload, I, N, Refused + 1)
    end.

exit_with(Reason) ->
    exit(Reason).

say(To, Msg) ->
    To ! Msg.

identity(X) ->
    X.

%% A call that lasts until open_gate/0 has found it.
gate() ->
    true = register(?MODULE, self()),
    receive open -> opened end.

%% True: there was one.
open_gate() ->
    case whereis(?MODULE) of
        undefined -> false;
        Pid -> Pid ! open, true
    end.

%% A term with maps, lists, tuples, bit strings, floats and big numbers, about N leaves.
big(N) ->
    #{list => [{I, integer_to_binary(I), I * 1.5} || I <- lists:seq(1, N)],
      map => maps:from_list([{{k, I}, [I | I]} || I <- lists:seq(1, N)]),
      bits => <<5:3>>, number => 1 bsl 3000, atoms => [an_atom, 'another atom', true, []],
      text => lists:duplicate(N, $x)}.

%% A process that collects busy_dist_port reports from now on; answers {get, From} with [Pid].
busy_watch() ->
    Self = self(),
    Pid = spawn(fun() ->
        erlang:system_monitor(self(), [busy_dist_port]),
        Self ! {self(), watching},
        busy_watch([])
    end),
    receive {Pid, watching} -> Pid end.

busy_watch(Seen) ->
    receive
        {monitor, Pid, busy_dist_port, _} -> busy_watch([Pid | Seen]);
        {get, From} -> From ! {self(), Seen}, busy_watch(Seen);
        stop -> ok
    end.

%% Makes an alias, hands it to Report, forwards what comes as {alias_got, Msg}. Unaliases on
%% `unalias` and says so.
alias_sink(Report) ->
    Alias = alias(),
    Report ! {self(), Alias},
    alias_loop(Alias, Report).

alias_loop(Alias, Report) ->
    receive
        unalias ->
            unalias(Alias),
            Report ! {self(), unaliased},
            alias_loop(Alias, Report);
        Msg ->
            Report ! {alias_got, Msg},
            alias_loop(Alias, Report)
    end.

%% What a failed test tells about the messages that are there.
mailbox() ->
    {messages, Ms} = process_info(self(), messages),
    First = [lists:flatten(io_lib:format("~0P", [M, 12])) || M <- lists:sublist(Ms, 5)],
    {length(Ms), messages, First}.
