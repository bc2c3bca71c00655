%% SPDX-License-Identifier: Apache-2.0
%% What a user's own authentication callback gets: a connection on which TLS is done and nothing
%% else, with a byte channel to the same callback on the other node.
%%
%% The callback `M:F(Conn, client | server, Timeout) -> {ok, Info} | {error, Reason}' (set as
%% `{quic, [{dist, [{auth_callback, {M, F}}]}]}') runs on both nodes, each in a process of its own
%% that is killed after Timeout milliseconds. `client' is the node that dialled. Info may be the
%% peer's node name (an atom or a binary) or a map with the key `node': the driver then insists that
%% the peer gives that name in the distribution handshake; on the client the dialled name counts
%% anyway. All functions here work in the callback's process only.
-module(barrel_p2p_conn).

-export([peer_address/1, peer_certificate/1, peer_name/1, role/1, send/2, send/3, recv/2]).
%% For barrel_p2p_dist.
-export([accept/5, dialled/4]).

-export_type([conn/0]).

-record(conn, {port :: port(), role :: client | server, peer :: map()}).
-opaque conn() :: #conn{}.

%% --- for callbacks -----------------------------------------------------------

%% Where the peer's datagrams come from.
-spec peer_address(conn()) -> {ok, {inet:ip_address(), inet:port_number()}} | {error, unknown}.
peer_address(#conn{peer = #{ip := undefined}}) -> {error, unknown};
peer_address(#conn{peer = #{ip := Ip, port := Port}}) -> {ok, {Ip, Port}}.

%% The peer's TLS certificate, DER. On the server `{error, no_certificate}': peers that dial
%% send none.
-spec peer_certificate(conn()) -> {ok, binary()} | {error, term()}.
peer_certificate(#conn{port = Port}) ->
    case barrel_p2p_drv_conn:peer_certificate(Port) of
        {ok, <<>>} -> {error, no_certificate};
        Result -> Result
    end.

%% The name of the node that was dialled (client); `undefined' on the server, which does not know
%% it yet.
-spec peer_name(conn()) -> binary() | undefined.
peer_name(#conn{role = client, peer = #{name := Name}}) -> Name;
peer_name(#conn{}) -> undefined.

-spec role(conn()) -> client | server.
role(#conn{role = Role}) -> Role.

%% Sends bytes to the callback on the other node: a byte stream, not messages.
-spec send(conn(), iodata()) -> ok | {error, term()}.
send(Conn, Data) ->
    send(Conn, Data, nofin).

%% With `fin' nothing more can be sent.
-spec send(conn(), iodata(), fin | nofin) -> ok | {error, term()}.
send(#conn{port = Port}, Data, Fin) ->
    barrel_p2p_drv_conn:auth_send(Port, Fin =:= fin, Data).

%% The next bytes, however many came; `fin': these (maybe none) were the last. Timeout in ms.
-spec recv(conn(), timeout()) -> {ok, binary(), fin | nofin} | {error, timeout | term()}.
recv(#conn{port = Port}, Timeout) ->
    case barrel_p2p_drv_conn:auth_recv(Port) of
        {ok, Data, Fin} -> {ok, Data, fin(Fin)};
        wait ->
            receive
                {Port, {auth_data, Data, Fin}} -> {ok, Data, fin(Fin)};
                {Port, {failed, Err, Text}} -> {error, {Err, Text}}
            after Timeout ->
                {error, timeout}
            end;
        {error, _} = Error -> Error
    end.

fin(true) -> fin;
fin(1) -> fin;
fin(_) -> nofin.

%% --- for barrel_p2p_dist -----------------------------------------------------

%% Runs the callback for an accepted connection, beside the caller (the acceptor), which owns Port
%% and gets `{barrel_p2p_conn, accepted, Port}' when the callback agrees. Otherwise the port is
%% closed and one line logged.
-spec accept(port(), map(), term(), pos_integer(), pid()) -> ok.
accept(Port, Peer, Callback, Timeout, Acceptor) ->
    Helper = spawn(fun() -> accept_helper(Port, Peer, Callback, Timeout, Acceptor) end),
    give(Port, Helper),
    Helper ! {go, Port},
    ok.

accept_helper(Port, Peer, Callback, Timeout, Acceptor) ->
    process_flag(trap_exit, true),
    receive
        {go, Port} -> ok
    end,
    case run(Port, server, Peer, Callback, Timeout) of
        ok ->
            give(Port, Acceptor),
            Acceptor ! {?MODULE, accepted, Port};
        {error, {Err, Text}} ->
            barrel_p2p_drv:close(Port),
            #{ip := Ip} = Peer,
            Who = case Ip of
                      undefined -> "unknown";
                      _ -> inet:ntoa(Ip)
                  end,
            barrel_p2p_node:report(warning, auth_failed, Who, Err, Text)
    end.

%% The same for a connection that the calling process dialled: it owns Port before and after.
-spec dialled(port(), map(), term(), pos_integer()) -> ok | barrel_p2p_drv:error().
dialled(Port, Peer, Callback, Timeout) ->
    case run(Port, client, Peer, Callback, Timeout) of
        ok ->
            ok;
        {error, _} = Error ->
            barrel_p2p_drv:close(Port),
            Error
    end.

%% The callback's process owns the port while it runs, because the port's messages go to the owner.
%% It may crash, trap exits or hang: it is only watched, and killed at the deadline.
run(_Port, _Role, _Peer, undefined, _Timeout) ->
    {error, {auth_callback_failed, <<"there is no auth_callback any more">>}};
run(Port, Role, Peer, Callback, Timeout) ->
    Self = self(),
    Conn = #conn{port = Port, role = Role, peer = Peer},
    {Pid, Ref} = spawn_monitor(fun() -> worker(Self, Conn, Callback, Timeout) end),
    _ = spawn(fun() -> watch(Self, Pid) end),
    give(Port, Pid),            % not linked to it: its end must not be ours
    Pid ! {go, self()},
    receive
        {Pid, Result} ->
            demonitor(Ref, [flush]),
            Result;
        {'DOWN', Ref, process, Pid, Reason} ->
            {error, {auth_callback_failed, text("the callback's process ended: ~tp", [Reason])}}
    after Timeout ->
        exit(Pid, kill),
        demonitor(Ref, [flush]),
        {error, {timeout, <<"the authentication callback took too long">>}}
    end.

%% The callback ends with the process that waits for it.
watch(Parent, Worker) ->
    P = monitor(process, Parent),
    W = monitor(process, Worker),
    receive
        {'DOWN', P, process, _, _} -> exit(Worker, kill);
        {'DOWN', W, process, _, _} -> ok
    end.

worker(Parent, #conn{port = Port, role = Role} = Conn, Callback, Timeout) ->
    receive
        {go, Parent} -> ok
    end,
    Result = verdict(call(Callback, Conn, Role, Timeout), Conn),
    give(Port, Parent),
    Parent ! {self(), Result}.

call(Callback, Conn, Role, Timeout) ->
    try apply_callback(Callback, [Conn, Role, Timeout])
    catch
        Class:Reason:Stack -> {crashed, {Class, Reason, Stack}}
    end.

apply_callback({M, F}, Args) -> apply(M, F, Args);
apply_callback(Fun, Args) -> apply(Fun, Args).

verdict({ok, Info}, #conn{port = Port, role = client, peer = #{name := Dialled}}) ->
    case info_name(Info) of
        <<>> -> barrel_p2p_drv_conn:auth_done(Port, true, Dialled);
        Dialled -> barrel_p2p_drv_conn:auth_done(Port, true, Dialled);
        Other ->
            refuse(Port, text("the callback says that ~ts answered instead", [Other]))
    end;
verdict({ok, Info}, #conn{port = Port}) ->
    barrel_p2p_drv_conn:auth_done(Port, true, info_name(Info));
verdict({crashed, What}, #conn{port = Port}) ->
    refuse(Port, text("the callback crashed: ~tp", [What]));
verdict({error, Reason}, #conn{port = Port}) ->
    refuse(Port, text("the callback refused it: ~tp", [Reason]));
verdict(Other, #conn{port = Port}) ->
    refuse(Port, text("the callback returned ~tp, neither {ok, _} nor {error, _}", [Other])).

refuse(Port, Text) ->
    _ = barrel_p2p_drv_conn:auth_done(Port, false, <<>>),
    {error, {auth_callback_failed, Text}}.

%% true, false, undefined and the like are no names.
info_name(#{node := Node}) -> info_name(Node);
info_name(Node) when is_atom(Node) ->
    case barrel_p2p_dist:is_node_name(Node) of
        true -> atom_to_binary(Node, utf8);
        false -> <<>>
    end;
info_name(Node) when is_binary(Node) ->
    case binary:split(Node, <<"@">>, [global]) of
        [<<_, _/binary>>, <<_, _/binary>>] -> Node;
        _ -> <<>>
    end;
info_name(_) -> <<>>.

%% Makes Pid the owner of Port and lets go of it.
give(Port, Pid) ->
    barrel_p2p_drv:hand_over(Port, Pid),
    forward(Port, Pid).

forward(Port, Pid) ->
    receive
        {Port, _} = Msg ->
            Pid ! Msg,
            forward(Port, Pid)
    after 0 ->
        ok
    end.

text(Fmt, Args) ->
    unicode:characters_to_binary(io_lib:format(Fmt, Args)).
